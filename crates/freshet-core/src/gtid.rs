//! GTIDs and GTID sets of MySQL (with tags) and MariaDB (domains).
//!
//! Text forms are the servers' own: `uuid:1-5:7,uuid:tag:1-3` (MySQL manual, "GTID Format and Storage") and
//! `domain-server-sequence,...` (MariaDB documentation, "Global Transaction ID"). A MySQL set knows membership
//! exactly. So does a MariaDB set, under a rule and with a beginning: see [`MariadbGtidSet`].

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// A server's UUID.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid(pub [u8; 16]);

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Uuid {
    type Err = GtidParseError;
    fn from_str(s: &str) -> Result<Self, GtidParseError> {
        let bad = || GtidParseError(format!("\"{s}\" is not a UUID"));
        let mut out = [0u8; 16];
        let mut nibbles = 0usize;
        for c in s.chars().filter(|c| *c != '-') {
            let digit = c.to_digit(16).ok_or_else(bad)? as u8;
            let byte = out.get_mut(nibbles / 2).ok_or_else(bad)?;
            *byte = (*byte << 4) | digit;
            nibbles += 1;
        }
        if nibbles == 32 { Ok(Uuid(out)) } else { Err(bad()) }
    }
}

/// Text that is no GTID or GTID set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GtidParseError(pub String);

impl fmt::Display for GtidParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for GtidParseError {}

/// Who wrote a MySQL transaction: server UUID and tag (empty for none).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MysqlSource {
    /// UUID of the originating server.
    pub uuid: Uuid,
    /// Tag of MySQL 8.3 and later, lower case; empty for none.
    pub tag: String,
}

/// A MySQL GTID set: per source, disjoint, ordered, non-touching half-open intervals.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MysqlGtidSet {
    sets: BTreeMap<MysqlSource, Vec<(u64, u64)>>,
}

impl MysqlGtidSet {
    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.sets.is_empty()
    }

    /// Sources with their half-open intervals, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&MysqlSource, &[(u64, u64)])> {
        self.sets.iter().map(|(source, intervals)| (source, intervals.as_slice()))
    }

    /// Adds one transaction.
    pub fn add(&mut self, source: &MysqlSource, gno: u64) {
        match self.sets.get_mut(source) {
            Some(intervals) => match intervals.last_mut() {
                Some(last) if last.1 == gno => last.1 = gno + 1,
                _ => insert_interval(intervals, gno, gno + 1),
            },
            None => {
                self.sets.insert(source.clone(), vec![(gno, gno + 1)]);
            }
        }
    }

    /// Adds `start..end` (half open).
    pub fn add_interval(&mut self, source: &MysqlSource, start: u64, end: u64) {
        if start < end {
            insert_interval(self.sets.entry(source.clone()).or_default(), start, end);
        }
    }

    /// Whether the transaction is in the set.
    pub fn contains(&self, source: &MysqlSource, gno: u64) -> bool {
        self.sets.get(source).is_some_and(|v| {
            let after = v.partition_point(|&(start, _)| start <= gno);
            after > 0 && gno < v[after - 1].1
        })
    }

    /// Whether every transaction of this set is in `other`.
    pub fn is_subset(&self, other: &Self) -> bool {
        self.subtract(other).is_empty()
    }

    /// What is in this set and not in `other`.
    #[must_use]
    pub fn subtract(&self, other: &Self) -> Self {
        let mut out = Self::default();
        for (source, intervals) in &self.sets {
            let holes = other.sets.get(source).map_or(&[][..], Vec::as_slice);
            for &(start, end) in intervals {
                let mut at = start;
                for &(hole_start, hole_end) in holes.iter().filter(|h| h.1 > start && h.0 < end) {
                    out.add_interval(source, at, hole_start.max(at));
                    at = at.max(hole_end);
                }
                out.add_interval(source, at, end.max(at));
            }
        }
        out
    }

    /// What is in either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut out = self.clone();
        for (source, intervals) in &other.sets {
            for &(start, end) in intervals {
                out.add_interval(source, start, end);
            }
        }
        out
    }

    /// What is in both.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Self {
        self.subtract(&self.subtract(other))
    }
}

fn insert_interval(intervals: &mut Vec<(u64, u64)>, mut start: u64, mut end: u64) {
    let from = intervals.partition_point(|i| i.1 < start);
    let to = intervals.partition_point(|i| i.0 <= end);
    if from < to {
        start = start.min(intervals[from].0);
        end = end.max(intervals[to - 1].1);
    }
    intervals.splice(from..to, [(start, end)]);
}

impl fmt::Display for MysqlGtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (source, intervals)) in self.sets.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            write!(f, "{}", source.uuid)?;
            if !source.tag.is_empty() {
                write!(f, ":{}", source.tag)?;
            }
            for &(start, end) in intervals {
                if end - start == 1 { write!(f, ":{start}")? } else { write!(f, ":{start}-{}", end - 1)? }
            }
        }
        Ok(())
    }
}

impl FromStr for MysqlGtidSet {
    type Err = GtidParseError;
    fn from_str(s: &str) -> Result<Self, GtidParseError> {
        let mut set = Self::default();
        for part in s.split(',').map(str::trim).filter(|p| !p.is_empty()) {
            let mut pieces = part.split(':').map(str::trim);
            let mut source = MysqlSource { uuid: pieces.next().unwrap_or("").parse()?, tag: String::new() };
            for piece in pieces {
                if piece.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
                    source.tag = piece.to_ascii_lowercase();
                } else {
                    let (start, last) = parse_interval(piece)?;
                    set.add_interval(&source, start, last + 1);
                }
            }
        }
        Ok(set)
    }
}

fn parse_interval(s: &str) -> Result<(u64, u64), GtidParseError> {
    let bad = || GtidParseError(format!("\"{s}\" is not an interval of a GTID set"));
    let (a, b) = s.split_once('-').unwrap_or((s, s));
    let (start, last): (u64, u64) =
        (a.trim().parse().map_err(|_| bad())?, b.trim().parse().map_err(|_| bad())?);
    if start == 0 || last < start || last == u64::MAX { Err(bad()) } else { Ok((start, last)) }
}

/// What a MariaDB has gone through: of each domain the last sequence of every server that wrote into it, as in the
/// server's `gtid_binlog_state`.
///
/// Exact as long as a server's own sequence within a domain only rises; between servers it may do anything
/// (`gtid_strict_mode=OFF`, P19). A domain has one order, the same on every server, as MariaDB itself demands.
///
/// A set may know less than it went through: one that began with a server's answer may lack servers that wrote before
/// and not since (`gtid_binlog_pos` names the last of each domain only, a replica that was seeded knows no more). So
/// "contained" is always true, and "not contained" is, of transactions after the place where the set began. Nobody
/// asks for others; and two sets are compared by the last transactions, which both sides know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MariadbGtidSet {
    domains: BTreeMap<u32, Domain>,
}

/// One domain.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Domain {
    /// Server id and sequence of the last transaction.
    last: (u32, u64),
    /// The last sequences of other servers.
    others: BTreeMap<u32, u64>,
}

impl Domain {
    fn sequence_of(&self, server: u32) -> Option<u64> {
        if self.last.0 == server { Some(self.last.1) } else { self.others.get(&server).copied() }
    }

    fn set(&mut self, server: u32, sequence: u64) {
        if self.last.0 != server {
            self.others.remove(&server);
            self.others.insert(self.last.0, self.last.1);
        }
        self.last = (server, sequence);
    }

    fn contains(&self, server: u32, sequence: u64) -> bool {
        self.sequence_of(server).is_some_and(|last| sequence <= last)
    }

    /// A pair that `other` is not past: the last one must be known to it, the others as far as it knows their server.
    fn missing_from(&self, other: &Self) -> Option<(u32, u64)> {
        if !other.contains(self.last.0, self.last.1) {
            return Some(self.last);
        }
        let is_past = |server, sequence| other.sequence_of(server).is_none_or(|last| sequence <= last);
        self.others.iter().map(|(server, sequence)| (*server, *sequence)).find(|(s, q)| !is_past(*s, *q))
    }

    /// The earlier and the later of two states of one domain; `None` if they are of different histories.
    fn in_order<'a>(&'a self, other: &'a Self) -> Option<(&'a Self, &'a Self)> {
        if self.missing_from(other).is_none() {
            Some((self, other))
        } else {
            other.missing_from(self).is_none().then_some((other, self))
        }
    }
}

impl MariadbGtidSet {
    /// Whether no domain is known.
    pub fn is_empty(&self) -> bool {
        self.domains.is_empty()
    }

    /// Domains with server id and sequence, in order of domains, the last transaction of each at its end.
    pub fn iter(&self) -> impl Iterator<Item = (u32, u32, u64)> + '_ {
        self.domains.iter().flat_map(|(domain, state)| {
            let others = state.others.iter().map(|(server, sequence)| (*server, *sequence));
            others.chain([state.last]).map(|(server, sequence)| (*domain, server, sequence))
        })
    }

    /// Only the last transaction of each domain: what a server is asked to begin after, and what it says of a place.
    #[must_use]
    pub fn lasts(&self) -> Self {
        let bare = |state: &Domain| Domain { last: state.last, others: BTreeMap::new() };
        Self { domains: self.domains.iter().map(|(domain, state)| (*domain, bare(state))).collect() }
    }

    /// Makes this GTID the last of its domain, and of its server in it.
    pub fn set(&mut self, domain: u32, server: u32, sequence: u64) {
        let last = (server, sequence);
        let state = self.domains.entry(domain).or_insert_with(|| Domain { last, others: BTreeMap::new() });
        state.set(server, sequence);
    }

    /// The set of a place of which a server says the last transactions only, known from its whole state of about that
    /// moment: what was there before the place was. Of a domain that was already further on it is the last alone.
    #[must_use]
    pub fn at_lasts(&self, lasts: &Self) -> Self {
        let mut out = lasts.lasts();
        for (domain, there) in &mut out.domains {
            let (server, sequence) = there.last;
            let Some(state) = self.domains.get(domain) else { continue };
            if state.last == there.last || !state.contains(server, sequence) {
                *there = state.clone();
                there.set(server, sequence);
            }
        }
        out
    }

    /// Last server id and sequence of a domain.
    pub fn last(&self, domain: u32) -> Option<(u32, u64)> {
        self.domains.get(&domain).map(|state| state.last)
    }

    /// Last sequence of a server in a domain.
    pub fn sequence_of(&self, domain: u32, server: u32) -> Option<u64> {
        self.domains.get(&domain)?.sequence_of(server)
    }

    /// Whether the transaction is in the set.
    pub fn contains(&self, domain: u32, server: u32, sequence: u64) -> bool {
        self.sequence_of(domain, server).is_some_and(|last| sequence <= last)
    }

    /// A GTID of this set that `other` has not come to.
    pub fn missing_from(&self, other: &Self) -> Option<(u32, u32, u64)> {
        self.domains.iter().find_map(|(domain, state)| {
            let missing = match other.domains.get(domain) {
                Some(other) => state.missing_from(other),
                None => Some(state.last),
            };
            missing.map(|(server, sequence)| (*domain, server, sequence))
        })
    }

    /// Whether `other` has come to everything here.
    pub fn is_subset(&self, other: &Self) -> bool {
        self.missing_from(other).is_none()
    }

    /// The later (`larger`) or the earlier of both in each domain; a domain that one does not know is earlier there.
    /// `None` if the two are of different histories: never parts of both.
    pub fn combine(&self, other: &Self, larger: bool) -> Option<Self> {
        let mut out = if larger { other.clone() } else { Self::default() };
        for (domain, ours) in &self.domains {
            let state = match other.domains.get(domain) {
                Some(theirs) => {
                    let (earlier, later) = ours.in_order(theirs)?;
                    if larger { later } else { earlier }
                }
                None if larger => ours,
                None => continue,
            };
            out.domains.insert(*domain, state.clone());
        }
        Some(out)
    }
}

impl fmt::Display for MariadbGtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (domain, server, seq)) in self.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            write!(f, "{comma}{domain}-{server}-{seq}")?;
        }
        Ok(())
    }
}

impl FromStr for MariadbGtidSet {
    type Err = GtidParseError;
    fn from_str(s: &str) -> Result<Self, GtidParseError> {
        let mut set = Self::default();
        for part in s.split(',').map(str::trim).filter(|p| !p.is_empty()) {
            let bad = || GtidParseError(format!("\"{part}\" is not a MariaDB GTID"));
            let mut numbers = part.split('-');
            let mut next = || numbers.next().and_then(|n| n.parse::<u64>().ok()).ok_or_else(bad);
            let (domain, server, seq) = (next()?, next()?, next()?);
            let domain = u32::try_from(domain).map_err(|_| bad())?;
            let server = u32::try_from(server).map_err(|_| bad())?;
            if numbers.next().is_some() || set.sequence_of(domain, server).is_some() {
                return Err(bad());
            }
            set.set(domain, server, seq);
        }
        Ok(set)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

    #[test]
    fn p19_tagged_sets_round_trip() {
        for text in ["", &format!("{A}:1-5:7"), &format!("{A}:1-5,{A}:tag_a:1:3-9")] {
            let set: MysqlGtidSet = text.parse().expect("valid");
            assert_eq!(set.to_string(), text);
        }
        let compact: MysqlGtidSet =
            format!("{A}:1-5:tag_a:1:3-9").parse().expect("the server's compact form");
        assert_eq!(compact.to_string(), format!("{A}:1-5,{A}:tag_a:1:3-9"));
        for bad in ["x", &format!("{A}:0"), &format!("{A}:5-3"), &format!("{A}:1-x")] {
            assert!(bad.parse::<MysqlGtidSet>().is_err(), "{bad}");
        }
    }

    fn mariadb(text: &str) -> MariadbGtidSet {
        text.parse().expect("a MariaDB set")
    }

    #[test]
    fn p19_mariadb_sets_know_every_server_of_a_domain() {
        let mut set = mariadb("0-1-100,3-7-9");
        set.set(0, 2, 40);
        assert_eq!(set.to_string(), "0-1-100,0-2-40,3-7-9");
        assert!(set.contains(0, 1, 100) && set.contains(0, 2, 40));
        assert!(!set.contains(0, 1, 101) && !set.contains(0, 2, 41) && !set.contains(0, 3, 1));
        set.set(0, 1, 101);
        assert_eq!((set.to_string(), set.last(0)), ("0-2-40,0-1-101,3-7-9".into(), Some((1, 101))));
        assert_eq!(mariadb(&set.to_string()), set);
        assert_eq!(set.lasts(), mariadb("0-1-101,3-7-9"));
        for bad in ["0-1", "0-1-2-3", "0-1-2,0-1-3", "0-1-2,0-2-3,0-1-4", "0-1-x"] {
            assert!(bad.parse::<MariadbGtidSet>().is_err(), "{bad}");
        }
    }

    /// P19: two sets, and whether the first lies within the second, the second within the first.
    #[test]
    fn p19_mariadb_sets_are_compared_by_what_both_know() {
        for (a, b, expect) in [
            ("0-1-5", "0-1-8", (true, false)),
            ("0-1-8", "0-1-8,1-1-1", (true, false)),
            // Sequences of two servers say nothing of each other.
            ("0-2-20", "0-2-20,0-1-8", (true, false)),
            ("0-1-8", "0-2-21", (false, false)),
            ("0-1-8", "0-2-5", (false, false)),
            // One that began later lacks who wrote before; of one moment.
            ("0-2-21,0-1-8", "0-1-8", (true, true)),
            ("0-2-21,0-1-8", "0-1-9", (true, false)),
            ("0-2-21,0-1-8", "0-2-25", (false, false)),
            // The second history never had 0-1-9 and 0-1-10.
            ("0-1-10,0-2-5", "0-1-8,0-2-9", (false, false)),
        ] {
            let (x, y) = (mariadb(a), mariadb(b));
            assert_eq!((x.is_subset(&y), y.is_subset(&x)), expect, "{a} and {b}");
        }
    }

    /// P19: the state of about the moment, what the server says of the place, and what is known of it.
    #[test]
    fn p19_a_place_is_known_from_the_state_before_it() {
        for (state, lasts, expect) in [
            ("0-2-20,0-1-8", "0-1-8", "0-2-20,0-1-8"),
            ("0-2-20,0-1-8", "0-1-9", "0-2-20,0-1-9"),
            ("0-2-20,0-1-8", "0-2-21", "0-1-8,0-2-21"),
            // The state is of after the place: 0-2-20 may be as well.
            ("0-2-20,0-1-8", "0-1-7", "0-1-7"),
            ("0-1-8,0-2-20", "0-1-8", "0-1-8"),
            ("0-1-8,1-1-1", "0-1-9,2-1-1", "0-1-9,2-1-1"),
        ] {
            assert_eq!(mariadb(state).at_lasts(&mariadb(lasts)), mariadb(expect), "{state}, {lasts}");
        }
    }

    #[test]
    fn p19_mariadb_sets_combine_by_whole_domains_of_one_history() {
        let (a, b) = (mariadb("0-1-10,2-1-4"), mariadb("0-1-10,0-2-5,2-1-3,3-1-1"));
        assert_eq!(a.combine(&b, false), Some(mariadb("0-1-10,2-1-3")));
        assert_eq!(a.combine(&b, true), Some(mariadb("0-1-10,0-2-5,2-1-4,3-1-1")));
        assert_eq!(mariadb("0-1-8").combine(&mariadb("0-2-5"), false), None);
        assert_eq!(mariadb("0-1-8").combine(&mariadb("0-2-5"), true), None);
    }

    proptest! {
        /// P19: prefixes of a history in which the sequences of three servers rise each by itself, under one that
        /// began at some moment with all that a server knows, or with the last transaction alone.
        #[test]
        fn p19_prefixes_of_a_history_are_told_apart(
            writes in prop::collection::vec((0u32..2, 1u32..4, 1u64..9), 1..40),
            places in prop::array::uniform3(0usize..41),
            all_known: bool,
        ) {
            let mut next = BTreeMap::new();
            let history: Vec<_> = writes
                .iter()
                .map(|(domain, server, step)| {
                    let last: &mut u64 = next.entry((*domain, *server)).or_default();
                    *last += step;
                    (*domain, *server, *last)
                })
                .collect();
            let mut places = places.map(|place| place.min(history.len()));
            places.sort_unstable();
            let [begin, early, late] = places;
            let upto = |end: usize| {
                let mut set = MariadbGtidSet::default();
                for (at, (domain, server, sequence)) in history[..end].iter().enumerate() {
                    if at == begin && !all_known { set = set.lasts() }
                    set.set(*domain, *server, *sequence);
                }
                if end == begin && !all_known { set.lasts() } else { set }
            };
            let (x, y) = (upto(early), upto(late));
            for (at, (domain, server, sequence)) in history.iter().enumerate().skip(begin) {
                prop_assert_eq!(x.contains(*domain, *server, *sequence), at < early);
            }
            prop_assert!(x.is_subset(&y));
            prop_assert_eq!(y.is_subset(&x), early == late);
            prop_assert_eq!(x.combine(&y, false), Some(x.clone()));
            prop_assert_eq!(x.combine(&y, true), Some(y.clone()));
            prop_assert_eq!(y.to_string().parse::<MariadbGtidSet>().expect("round trip"), y.clone());
        }

        #[test]
        fn interval_algebra_is_set_algebra(a in prop::collection::vec(1u64..40, 0..20), b in prop::collection::vec(1u64..40, 0..20)) {
            let source = MysqlSource { uuid: A.parse().expect("uuid"), tag: String::new() };
            let build = |v: &[u64]| { let mut s = MysqlGtidSet::default(); for g in v { s.add(&source, *g) } s };
            let (x, y) = (build(&a), build(&b));
            for g in 1..41 {
                let (in_a, in_b) = (a.contains(&g), b.contains(&g));
                prop_assert_eq!(x.contains(&source, g), in_a);
                prop_assert_eq!(x.union(&y).contains(&source, g), in_a || in_b);
                prop_assert_eq!(x.subtract(&y).contains(&source, g), in_a && !in_b);
                prop_assert_eq!(x.intersect(&y).contains(&source, g), in_a && in_b);
            }
            prop_assert_eq!(x.to_string().parse::<MysqlGtidSet>().expect("round trip"), x.clone());
            prop_assert_eq!(x.is_subset(&y), a.iter().all(|g| b.contains(g)));
        }
    }
}
