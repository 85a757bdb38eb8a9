//! Places in the source's log and in freshet's log, and the tokens that fence their owners.
//!
//! A [`Position`] is a place in the source's own log; an [`Offset`] is the number of a record in freshet's log; a
//! [`Mark`] is the pair of both and only ever rests on a commit. Positions have a text form (one line, no
//! spaces), which checkpoints store: `binlog;SERVER;FILE;POS;FLAVOUR;GTIDS` and `wal;SYSTEM;TIMELINE;LSN`, where the
//! flavour is `mysql`, `mariadb`, or `places` for a server whose transactions have no GTIDs.
//!
//! What tells two positions apart: MySQL's GTID set; MariaDB's place on one server, which is exact whichever way a
//! domain runs, and elsewhere its set, which is exact as long as a server's own sequence only rises; the place alone
//! where there are no GTIDs; the LSN on PostgreSQL. [`Position::covers`] and [`Position::holds`] know that.

use crate::gtid::{GtidParseError, MariadbGtidSet, MysqlGtidSet, MysqlSource, Uuid};
use std::cmp::Ordering;
use std::fmt;
use std::mem::discriminant;
use std::str::FromStr;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl $name {
            /// The number after this one.
            #[must_use]
            pub fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

number!(
    /// Number of a record in freshet's log. The log's tail is the first one not yet written.
    Offset
);
number!(
    /// Fencing token of the log's writer: the larger one owns.
    LogEpoch
);
number!(
    /// Fencing token of a sink: the larger one owns.
    SinkEpoch
);
number!(
    /// A place in PostgreSQL's WAL.
    Lsn
);

/// The random identity of one log directory.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LogId(pub [u8; 16]);

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Uuid(self.0), f)
    }
}

impl fmt::Debug for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for LogId {
    type Err = GtidParseError;
    fn from_str(s: &str) -> Result<Self, GtidParseError> {
        s.parse::<Uuid>().map(|u| LogId(u.0))
    }
}

/// A binlog file and a byte position in it. 64 bits: the header's 32 wrap in files over 4 GiB (P14).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FilePos {
    /// File name, `binlog.000042`.
    pub file: String,
    /// Byte position of the next event.
    pub pos: u64,
}

impl FilePos {
    /// Base name and sequence number of the file (`binlog`, 42).
    pub fn split(&self) -> Option<(&str, u64)> {
        let (base, number) = self.file.rsplit_once('.')?;
        Some((base, number.parse().ok()?))
    }
}

impl PartialOrd for FilePos {
    /// Ordered by file number (999999 comes before 1000000: P16), then position; unrelated base names have no
    /// order.
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        let (a, b) = (self.split()?, other.split()?);
        (a.0 == b.0).then(|| (a.1, self.pos).cmp(&(b.1, other.pos)))
    }
}

impl fmt::Display for FilePos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.pos)
    }
}

/// A GTID set of either flavour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GtidSet {
    /// MySQL with `gtid_mode=ON`.
    Mysql(MysqlGtidSet),
    /// MariaDB.
    Mariadb(MariadbGtidSet),
    /// MySQL with any other `gtid_mode`: transactions have no GTID, or not all of them have, so that a set says
    /// nothing and the place on the server is all there is.
    Places,
}

impl GtidSet {
    /// Whether the transaction is in the set; `None` where the set cannot tell.
    pub fn contains(&self, txn: &TxnId) -> Option<bool> {
        match (self, txn) {
            (GtidSet::Mysql(set), TxnId::Mysql { source, gno }) => Some(set.contains(source, *gno)),
            (GtidSet::Mariadb(set), TxnId::Mariadb { domain, server, sequence }) => {
                Some(set.contains(*domain, *server, *sequence))
            }
            (GtidSet::Mysql(_), TxnId::Mariadb { .. } | TxnId::Anonymous | TxnId::Postgres { .. })
            | (GtidSet::Mariadb(_), TxnId::Mysql { .. } | TxnId::Anonymous | TxnId::Postgres { .. })
            | (GtidSet::Places, _) => None,
        }
    }

    /// Adds a committed transaction; one without a GTID of this flavour leaves the set as it is.
    pub fn add(&mut self, txn: &TxnId) {
        match (self, txn) {
            (GtidSet::Mysql(set), TxnId::Mysql { source, gno }) => set.add(source, *gno),
            (GtidSet::Mariadb(set), TxnId::Mariadb { domain, server, sequence }) => {
                set.set(*domain, *server, *sequence);
            }
            (GtidSet::Mysql(_), TxnId::Mariadb { .. } | TxnId::Anonymous | TxnId::Postgres { .. })
            | (GtidSet::Mariadb(_), TxnId::Mysql { .. } | TxnId::Anonymous | TxnId::Postgres { .. })
            | (GtidSet::Places, _) => {}
        }
    }

    /// Whether this set lies within `other`; never where one of them is of another flavour or no set.
    pub fn is_subset(&self, other: &Self) -> bool {
        match (self, other) {
            (GtidSet::Mysql(a), GtidSet::Mysql(b)) => a.is_subset(b),
            (GtidSet::Mariadb(a), GtidSet::Mariadb(b)) => a.is_subset(b),
            (GtidSet::Mysql(_) | GtidSet::Mariadb(_) | GtidSet::Places, _) => false,
        }
    }

    /// The larger (`true`) or the smaller of two sets; `None` across flavours and MariaDB histories.
    pub fn combine(&self, other: &Self, larger: bool) -> Option<Self> {
        match (self, other, larger) {
            (GtidSet::Mysql(a), GtidSet::Mysql(b), true) => Some(GtidSet::Mysql(a.union(b))),
            (GtidSet::Mysql(a), GtidSet::Mysql(b), false) => Some(GtidSet::Mysql(a.intersect(b))),
            (GtidSet::Mariadb(a), GtidSet::Mariadb(b), _) => a.combine(b, larger).map(GtidSet::Mariadb),
            (GtidSet::Places, GtidSet::Places, _) => Some(GtidSet::Places),
            (GtidSet::Mysql(_) | GtidSet::Mariadb(_) | GtidSet::Places, _, _) => None,
        }
    }
}

impl fmt::Display for GtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GtidSet::Mysql(set) => set.fmt(f),
            GtidSet::Mariadb(set) => set.fmt(f),
            GtidSet::Places => Ok(()),
        }
    }
}

/// The name that the source gave a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TxnId {
    /// A server without GTIDs: the commit's file position is all there is.
    Anonymous,
    /// MySQL's `uuid:gno` or `uuid:tag:gno`.
    Mysql {
        /// Originating server and tag.
        source: MysqlSource,
        /// Number within the source.
        gno: u64,
    },
    /// MariaDB's `domain-server-sequence`.
    Mariadb {
        /// Domain.
        domain: u32,
        /// Originating server id.
        server: u32,
        /// Sequence within the domain.
        sequence: u64,
    },
    /// PostgreSQL's transaction id.
    Postgres {
        /// The 32-bit xid.
        xid: u32,
    },
}

impl fmt::Display for TxnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TxnId::Anonymous => f.write_str("anonymous"),
            TxnId::Mysql { source, gno } if source.tag.is_empty() => write!(f, "{}:{gno}", source.uuid),
            TxnId::Mysql { source, gno } => write!(f, "{}:{}:{gno}", source.uuid, source.tag),
            TxnId::Mariadb { domain, server, sequence } => write!(f, "{domain}-{server}-{sequence}"),
            TxnId::Postgres { xid } => write!(f, "{xid}"),
        }
    }
}

/// Where a commit ends in the source's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommitPlace {
    /// The byte after the commit event.
    Binlog(FilePos),
    /// PostgreSQL's commit `end_lsn`.
    Wal(Lsn),
}

/// A place in a MySQL or MariaDB binlog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BinlogPosition {
    /// Identity of the server that `file` belongs to: `server_uuid`, or `id:N/basename` where MariaDB has none.
    /// File positions are compared only under the same identity.
    pub server: String,
    /// File and byte position after the last commit.
    pub file: FilePos,
    /// Every transaction at or before the position.
    pub gtids: GtidSet,
}

impl BinlogPosition {
    /// The order of two places of one server; `None` across servers and where one has no place.
    pub fn cmp_place(&self, other: &Self) -> Option<Ordering> {
        if self.server == other.server { self.file.partial_cmp(&other.file) } else { None }
    }

    fn combine(&self, other: &Self, larger: bool) -> Option<Self> {
        let place = self.cmp_place(other).map(|order| if order.is_le() == larger { other } else { self });
        match (&self.gtids, &other.gtids, place) {
            // The set that belongs to the place: a domain may have run backwards in between.
            (GtidSet::Mariadb(_), GtidSet::Mariadb(_), Some(place))
            | (GtidSet::Places, GtidSet::Places, Some(place)) => Some(place.clone()),
            (GtidSet::Places, GtidSet::Places, None) => None,
            (_, _, place) => {
                let gtids = self.gtids.combine(&other.gtids, larger)?;
                let (server, file) =
                    place.map_or_else(Default::default, |p| (p.server.clone(), p.file.clone()));
                Some(Self { server, file, gtids })
            }
        }
    }
}

/// A place in a PostgreSQL WAL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalPosition {
    /// The cluster's system identifier.
    pub system: u64,
    /// Timeline.
    pub timeline: u32,
    /// Commit end.
    pub lsn: Lsn,
}

/// A place in the source's own log, on a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Position {
    /// MySQL or MariaDB.
    Binlog(BinlogPosition),
    /// PostgreSQL.
    Wal(WalPosition),
}

impl Position {
    /// Whether a reader may have seen the transaction `txn`, which ended at `place` on the server `server` (binlog
    /// identity): by GTID, or by file position on the same server. Exact for positions read under a lock, and an
    /// upper bound for those that were not (ALGORITHMS 2).
    pub fn bounds(&self, txn: &TxnId, place: &CommitPlace, server: &str) -> bool {
        match (self, place) {
            (Position::Binlog(p), CommitPlace::Binlog(end)) => {
                p.gtids.contains(txn) == Some(true) || (p.server == server && *end <= p.file)
            }
            (Position::Wal(p), CommitPlace::Wal(end)) => *end <= p.lsn,
            (Position::Binlog(_), CommitPlace::Wal(_)) | (Position::Wal(_), CommitPlace::Binlog(_)) => false,
        }
    }

    /// Whether everything at or before `other` is at or before this position, as far as that is certain. For exact
    /// positions: a commit's own, a source's tip, F_low.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Position::Binlog(a), Position::Binlog(b)) => match (&a.gtids, &b.gtids) {
                (GtidSet::Mysql(ours), GtidSet::Mysql(theirs)) => theirs.is_subset(ours),
                // Also where GTIDs were switched on since one of the two.
                (GtidSet::Mysql(_) | GtidSet::Mariadb(_) | GtidSet::Places, _) => {
                    a.cmp_place(b).map_or_else(|| b.gtids.is_subset(&a.gtids), Ordering::is_ge)
                }
            },
            (Position::Wal(a), Position::Wal(b)) => a.system == b.system && a.lsn >= b.lsn,
            (Position::Binlog(_), Position::Wal(_)) | (Position::Wal(_), Position::Binlog(_)) => false,
        }
    }

    /// Whether the transaction `txn`, which ended at `place` on the server `server` and comes right after the
    /// transactions of `before`, is at or before this exact position. `None` where nobody can tell: no GTID, or a
    /// MariaDB server's own sequence that runs backwards, without a place to compare.
    pub fn holds(&self, txn: &TxnId, place: &CommitPlace, server: &str, before: &Self) -> Option<bool> {
        match (self, place) {
            (Position::Binlog(p), CommitPlace::Binlog(end)) => {
                let by_place = if p.server == server { end.partial_cmp(&p.file) } else { None };
                match (&p.gtids, by_place) {
                    (GtidSet::Mysql(_), _) => p.gtids.contains(txn),
                    (GtidSet::Mariadb(_) | GtidSet::Places, Some(order)) => Some(order.is_le()),
                    (GtidSet::Mariadb(_), None) if before.runs_backwards(txn) => None,
                    (GtidSet::Mariadb(_) | GtidSet::Places, None) => p.gtids.contains(txn),
                }
            }
            (Position::Wal(p), CommitPlace::Wal(end)) => Some(*end <= p.lsn),
            (Position::Binlog(_), CommitPlace::Wal(_)) | (Position::Wal(_), CommitPlace::Binlog(_)) => None,
        }
    }

    /// Whether a transaction that comes next has a sequence at or below the last of its own server (P19).
    fn runs_backwards(&self, txn: &TxnId) -> bool {
        match (self, txn) {
            (Position::Binlog(p), TxnId::Mariadb { .. }) => p.gtids.contains(txn) == Some(true),
            (Position::Binlog(_) | Position::Wal(_), _) => false,
        }
    }

    /// The later of two positions (`larger`), or the earlier: by the place of MariaDB where the server is the same, else
    /// by GTID set; across servers there is no place. `None` if the two are not of one history.
    pub fn combine(&self, other: &Self, larger: bool) -> Option<Self> {
        match (self, other) {
            (Position::Binlog(a), Position::Binlog(b)) => a.combine(b, larger).map(Position::Binlog),
            (Position::Wal(a), Position::Wal(b)) if a.system == b.system => {
                let first = if a.lsn <= b.lsn { (a, b) } else { (b, a) };
                Some(Position::Wal(if larger { first.1 } else { first.0 }.clone()))
            }
            (Position::Wal(_), Position::Wal(_))
            | (Position::Binlog(_), Position::Wal(_))
            | (Position::Wal(_), Position::Binlog(_)) => None,
        }
    }

    /// What a target holds that had `had` when it came to this place of a log: both together. There is a place only
    /// where it is known to be that of the whole: the later one of one server, or `had`'s where this has none.
    pub fn joined(&self, had: &Self) -> Option<Self> {
        let both = self.combine(had, true)?;
        match (self, had, both) {
            (Position::Binlog(at), Position::Binlog(had), Position::Binlog(both))
                if at.server.is_empty() && at.gtids.is_subset(&had.gtids) =>
            {
                let (server, file) = (had.server.clone(), had.file.clone());
                Some(Position::Binlog(BinlogPosition { server, file, ..both }))
            }
            (_, _, both) => Some(both),
        }
    }

    /// Whether two positions may be of one moment: equal, or of equal GTID sets where their places cannot be compared.
    pub fn agrees(&self, other: &Self) -> bool {
        match (self, other) {
            (Position::Binlog(a), Position::Binlog(b)) if a.cmp_place(b).is_none() => {
                a.gtids == b.gtids && a.gtids != GtidSet::Places
            }
            (Position::Binlog(_) | Position::Wal(_), _) => self == other,
        }
    }

    /// Whether two positions say in the same way what is before them: GTIDs may be switched on in between.
    pub fn is_of_kind(&self, other: &Self) -> bool {
        match (self, other) {
            (Position::Binlog(a), Position::Binlog(b)) => discriminant(&a.gtids) == discriminant(&b.gtids),
            (Position::Binlog(_) | Position::Wal(_), _) => discriminant(self) == discriminant(other),
        }
    }

    /// Identity of the binlog's server; empty for PostgreSQL.
    pub fn server(&self) -> &str {
        match self {
            Position::Binlog(p) => &p.server,
            Position::Wal(_) => "",
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Position::Binlog(p) => {
                let flavour = match p.gtids {
                    GtidSet::Mysql(_) => "mysql",
                    GtidSet::Mariadb(_) => "mariadb",
                    GtidSet::Places => "places",
                };
                write!(f, "binlog;{};{};{};{flavour};{}", p.server, p.file.file, p.file.pos, p.gtids)
            }
            Position::Wal(p) => write!(f, "wal;{};{};{}", p.system, p.timeline, p.lsn),
        }
    }
}

impl FromStr for Position {
    type Err = GtidParseError;
    fn from_str(s: &str) -> Result<Self, GtidParseError> {
        let bad = || GtidParseError(format!("\"{s}\" is not a position"));
        let parts: Vec<&str> = s.split(';').collect();
        match parts.as_slice() {
            ["binlog", server, file, pos, flavour, gtids] => {
                let gtids = match *flavour {
                    "mysql" => GtidSet::Mysql(gtids.parse()?),
                    "mariadb" => GtidSet::Mariadb(gtids.parse()?),
                    "places" if gtids.is_empty() => GtidSet::Places,
                    _ => return Err(bad()),
                };
                let file = FilePos { file: (*file).to_owned(), pos: pos.parse().map_err(|_| bad())? };
                Ok(Position::Binlog(BinlogPosition { server: (*server).to_owned(), file, gtids }))
            }
            ["wal", system, timeline, lsn] => Ok(Position::Wal(WalPosition {
                system: system.parse().map_err(|_| bad())?,
                timeline: timeline.parse().map_err(|_| bad())?,
                lsn: Lsn(lsn.parse().map_err(|_| bad())?),
            })),
            _ => Err(bad()),
        }
    }
}

/// A place in both logs, always on a commit: everything before `next` is at or before `position`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// First offset after the commit.
    pub next: Offset,
    /// Place in the source's log after the commit.
    pub position: Position,
}

/// The mark that a sink has durably applied, with the token of whoever applied it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Sink epoch that wrote it.
    pub epoch: SinkEpoch,
    /// Log that the offset counts in.
    pub log_id: LogId,
    /// The mark.
    pub mark: Mark,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(text: &str) -> Position {
        text.parse().expect("a position")
    }

    #[test]
    fn text_round_trips() {
        for text in [
            "binlog;id:1/binlog;binlog.000042;4;mariadb;0-1-100,3-7-9",
            "binlog;id:1/binlog;binlog.000042;4;mariadb;0-2-100,0-1-7,3-7-9",
            "binlog;3e11fa47-71ca-11e1-9e33-c80aa9429562;b.000001;157;mysql;3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5",
            "binlog;3e11fa47-71ca-11e1-9e33-c80aa9429562;b.000001;157;places;",
            "wal;7000000000000000001;1;123456",
        ] {
            assert_eq!(position(text).to_string(), text);
        }
        assert!("binlog;x".parse::<Position>().is_err());
    }

    #[test]
    fn p16_file_numbers_are_compared_as_numbers() {
        let at = |file: &str, pos| FilePos { file: file.to_owned(), pos };
        assert!(at("b.999999", 9) < at("b.1000000", 4));
        assert_eq!(at("a.000001", 4).partial_cmp(&at("b.000001", 4)), None);
    }

    const UUID: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

    fn end(pos: u64) -> CommitPlace {
        CommitPlace::Binlog(FilePos { file: "b.000002".into(), pos })
    }

    fn mariadb(server: u32, sequence: u64) -> TxnId {
        TxnId::Mariadb { domain: 0, server, sequence }
    }

    #[test]
    fn bounds_by_gtid_or_by_place_on_the_same_server() {
        let high = position("binlog;s1;b.000002;500;mariadb;0-1-100");
        assert!(high.bounds(&mariadb(1, 100), &end(9_000), "s2"));
        assert!(high.bounds(&mariadb(1, 101), &end(500), "s1"));
        assert!(!high.bounds(&mariadb(1, 101), &end(501), "s1"));
        assert!(!high.bounds(&mariadb(1, 101), &end(500), "s2"));
    }

    /// P19: what tells whether a position covers another, as data: covering, covered, whether.
    #[test]
    fn p19_covering_is_told_by_what_is_exact() {
        for (a, b, expect) in [
            // MariaDB: the place on one server, the set across servers or without a place.
            ("s;b.000002;4;mariadb;0-1-5", "s;b.000001;900;mariadb;0-1-9", true),
            ("s;b.000001;900;mariadb;0-1-9", "s;b.000002;4;mariadb;0-1-5", false),
            ("s;b.000002;4;mariadb;0-1-5", "t;x.000009;900;mariadb;0-1-5", true),
            ("s;b.000002;4;mariadb;0-1-5", "t;x.000001;4;mariadb;0-1-6", false),
            ("s;;0;mariadb;0-1-5", "s;b.000001;900;mariadb;0-1-9", false),
            ("s;;0;mariadb;0-1-9", "s;b.000001;900;mariadb;0-1-9", true),
            ("s;;0;mariadb;0-1-5,0-2-20", "s;b.000001;900;mariadb;0-2-20,0-1-6", false),
            ("s;;0;mariadb;0-1-5,0-2-20", "t;x.000001;900;mariadb;0-1-5", true),
            // A tip that names the last transaction alone.
            ("t;x.000001;900;mariadb;0-1-8", "s;;0;mariadb;0-2-21,0-1-8", true),
            ("s;;0;mariadb;0-2-21,0-1-8", "t;x.000001;900;mariadb;0-1-8", true),
            // MySQL: the set, whatever the place.
            ("s;b.000002;4;mysql;U:1-5", "s;b.000001;900;mysql;U:1-9", false),
            ("s;b.000001;4;mysql;U:1-9", "s;b.000002;900;mysql;U:1-9", true),
            ("s;b.000001;4;mysql;U:1-9", "t;c.000002;900;mysql;U:1-8", true),
            // No GTIDs: the place of one server, or nothing.
            ("s;b.000002;9;places;", "s;b.000001;99;places;", true),
            ("s;b.000002;9;places;", "s;b.000002;10;places;", false),
            ("s;b.000002;9;places;", "t;b.000001;4;places;", false),
            // GTIDs that were switched on since.
            ("s;b.000002;9;places;", "s;b.000002;9;mysql;U:1", true),
            ("s;b.000002;9;places;", "s;b.000003;4;mysql;U:1", false),
            ("s;b.000002;9;mysql;U:1", "s;b.000001;4;places;", true),
            ("t;b.000002;9;mysql;U:1", "s;b.000001;4;places;", false),
        ] {
            let at = |text: &str| position(&format!("binlog;{}", text.replace('U', UUID)));
            assert_eq!(at(a).covers(&at(b)), expect, "{a} covers {b}");
        }
        assert!(position("wal;1;1;9").covers(&position("wal;1;1;9")));
        assert!(!position("wal;1;1;9").covers(&position("wal;2;1;9")));
    }

    #[test]
    fn p19_what_is_held_is_told_by_what_is_exact() {
        let before = position("binlog;s;b.000002;300;mariadb;0-1-40");
        let had = position("binlog;s;b.000002;500;mariadb;0-1-60");
        let holds = |had: &Position, txn: &TxnId, pos, server| had.holds(txn, &end(pos), server, &before);
        // On one server the place decides, whichever way a domain runs.
        assert_eq!(holds(&had, &mariadb(2, 90), 500, "s"), Some(true));
        assert_eq!(holds(&had, &mariadb(2, 10), 501, "s"), Some(false));
        // On another one the sequence of the server that wrote it does, as long as that goes up.
        let set = position("binlog;s;b.000002;500;mariadb;0-2-70,0-1-60");
        for (server, sequence, expect) in [
            (1, 60, Some(true)),
            (1, 61, Some(false)),
            (1, 40, None),
            (2, 40, Some(true)),
            (2, 70, Some(true)),
            (2, 71, Some(false)),
            (3, 1, Some(false)),
        ] {
            assert_eq!(holds(&set, &mariadb(server, sequence), 400, "t"), expect, "{server}-{sequence}");
        }
        let places = position("binlog;s;b.000002;500;places;");
        assert_eq!(holds(&places, &TxnId::Anonymous, 500, "s"), Some(true));
        assert_eq!(holds(&places, &TxnId::Anonymous, 501, "s"), Some(false));
        assert_eq!(holds(&places, &TxnId::Anonymous, 500, "t"), None);
        let mysql = position(&format!("binlog;s;b.000002;500;mysql;{UUID}:1-5"));
        assert_eq!(holds(&mysql, &TxnId::Anonymous, 400, "s"), None);
        let source = MysqlSource { uuid: UUID.parse().expect("valid"), tag: String::new() };
        assert_eq!(holds(&mysql, &TxnId::Mysql { source, gno: 6 }, 400, "s"), Some(false));
        let wal = position("wal;1;1;100");
        let at = |lsn| wal.holds(&TxnId::Postgres { xid: 7 }, &CommitPlace::Wal(Lsn(lsn)), "", &wal);
        assert_eq!((at(100), at(101)), (Some(true), Some(false)));
    }

    /// P19: the place of a whole is known on one server only.
    #[test]
    fn p19_what_is_joined_across_servers_has_no_place() {
        let join =
            |at: &str, had: &str| position(at).joined(&position(had)).expect("one history").to_string();
        let had = "binlog;s1;a.000009;900;mariadb;0-1-10";
        assert_eq!(join("binlog;s1;a.000009;700;mariadb;0-1-8", had), had);
        assert_eq!(join("binlog;s2;b.000001;600;mariadb;0-1-6", had), "binlog;;;0;mariadb;0-1-10");
        assert_eq!(join("binlog;;;0;mariadb;0-1-6", had), had, "the first mark of a log that was rebuilt");
        assert_eq!(
            join("binlog;s1;a.000009;700;mariadb;0-1-8", "binlog;;;0;mariadb;0-1-10"),
            "binlog;;;0;mariadb;0-1-10"
        );
        assert_eq!(position("binlog;s;b.000001;4;places;").joined(&position(had)), None);
        assert!(position("binlog;;;0;mariadb;0-1-10").agrees(&position(had)));
        assert!(!position("binlog;s1;a.000009;800;mariadb;0-1-10").agrees(&position(had)));
        assert!(!position("binlog;;;0;mariadb;0-1-9").agrees(&position(had)));
    }

    #[test]
    fn bounds_combine() {
        let (a, b) =
            (position("binlog;s;b.000001;4;mariadb;0-1-5"), position("binlog;s;b.000002;4;mariadb;0-1-9"));
        assert_eq!(a.combine(&b, true), Some(b.clone()));
        assert_eq!(b.combine(&a, false), Some(a.clone()));
        assert_eq!(a.combine(&position("wal;1;1;1"), true), None);
        let elsewhere = position("binlog;t;x.000009;4;mariadb;0-1-9,0-2-7");
        assert_eq!(
            elsewhere.combine(&b, false),
            Some(position("binlog;;;0;mariadb;0-1-9")),
            "not the smaller 7"
        );
        assert_eq!(b.combine(&position("binlog;t;x.000009;4;mariadb;0-2-7"), false), None, "who knows");
        let backwards = position("binlog;s;b.000003;4;mariadb;0-2-3");
        assert_eq!(b.combine(&backwards, true), Some(backwards.clone()), "the set of the place, P19");
        let places = |text: &str| position(&format!("binlog;{text};places;"));
        let (first, second) = (places("s;b.000001;4"), places("s;b.000002;4"));
        assert_eq!(first.combine(&second, true), Some(second));
        assert_eq!(first.combine(&places("t;b.000002;4"), true), None);
    }
}
