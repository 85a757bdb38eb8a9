//! GTIDs and GTID sets of MySQL (with tags) and MariaDB (domains).
//!
//! Text forms are the servers' own: `uuid:1-5:7,uuid:tag:1-3` (MySQL manual, "GTID Format and Storage") and
//! `domain-server-sequence,...` (MariaDB documentation, "Global Transaction ID"). A MySQL set knows membership
//! exactly; a MariaDB set holds the last sequence of each domain and counts everything at or below as contained.

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

/// A MariaDB position: the last GTID of every domain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MariadbGtidSet {
    domains: BTreeMap<u32, (u32, u64)>,
}

impl MariadbGtidSet {
    /// Whether no domain is known.
    pub fn is_empty(&self) -> bool {
        self.domains.is_empty()
    }

    /// Domains with server id and sequence, in order.
    pub fn iter(&self) -> impl Iterator<Item = (u32, u32, u64)> + '_ {
        self.domains.iter().map(|(domain, (server, seq))| (*domain, *server, *seq))
    }

    /// Makes this GTID the last of its domain, whatever stood there.
    pub fn set(&mut self, domain: u32, server: u32, sequence: u64) {
        self.domains.insert(domain, (server, sequence));
    }

    /// Last server id and sequence of a domain.
    pub fn get(&self, domain: u32) -> Option<(u32, u64)> {
        self.domains.get(&domain).copied()
    }

    /// Whether the sequence is at or below the domain's last.
    pub fn contains(&self, domain: u32, sequence: u64) -> bool {
        self.domains.get(&domain).is_some_and(|(_, last)| sequence <= *last)
    }

    /// Whether each domain here is known to `other` at the same sequence or a later one.
    pub fn is_subset(&self, other: &Self) -> bool {
        self.domains.iter().all(|(domain, (_, seq))| other.contains(*domain, *seq))
    }

    /// The larger of both in each domain.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut out = self.clone();
        for (domain, server, seq) in other.iter() {
            if !out.contains(domain, seq) {
                out.set(domain, server, seq);
            }
        }
        out
    }

    /// The smaller of both in each domain; a domain that one does not know is left out.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Self {
        let mut out = Self::default();
        for (domain, server, seq) in self.iter() {
            if let Some((other_server, other_seq)) = other.get(domain) {
                if seq <= other_seq {
                    out.set(domain, server, seq)
                } else {
                    out.set(domain, other_server, other_seq)
                }
            }
        }
        out
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
            if numbers.next().is_some() || set.get(domain).is_some() {
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

    #[test]
    fn mariadb_sets() {
        let set: MariadbGtidSet = "0-1-100,3-7-9".parse().expect("valid");
        assert_eq!(set.to_string(), "0-1-100,3-7-9");
        assert!(set.contains(0, 100) && !set.contains(0, 101) && !set.contains(1, 1));
        let other: MariadbGtidSet = "0-2-90,5-1-1".parse().expect("valid");
        assert_eq!(set.union(&other).to_string(), "0-1-100,3-7-9,5-1-1");
        assert_eq!(set.intersect(&other).to_string(), "0-2-90");
        assert!("0-1".parse::<MariadbGtidSet>().is_err() && "0-1-2,0-1-3".parse::<MariadbGtidSet>().is_err());
    }

    proptest! {
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
