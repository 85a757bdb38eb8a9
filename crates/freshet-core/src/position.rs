//! Places in the source's log and in freshet's log, and the tokens that fence their owners.
//!
//! A [`Position`] is a place in the source's own log; an [`Offset`] is the number of a record in freshet's log; a
//! [`Mark`] is the pair of both and only ever rests on a commit. Positions have a text form (one line, no
//! spaces), which checkpoints store: `binlog;SERVER;FILE;POS;FLAVOUR;GTIDS` and `wal;SYSTEM;TIMELINE;LSN`.

use crate::gtid::{GtidParseError, MariadbGtidSet, MysqlGtidSet, MysqlSource, Uuid};
use std::cmp::Ordering;
use std::fmt;
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
    /// MySQL.
    Mysql(MysqlGtidSet),
    /// MariaDB.
    Mariadb(MariadbGtidSet),
}

impl GtidSet {
    /// Whether the transaction is in the set; `None` for one without a GTID of this flavour.
    pub fn contains(&self, txn: &TxnId) -> Option<bool> {
        match (self, txn) {
            (GtidSet::Mysql(set), TxnId::Mysql { source, gno }) => Some(set.contains(source, *gno)),
            (GtidSet::Mariadb(set), TxnId::Mariadb { domain, sequence, .. }) => {
                Some(set.contains(*domain, *sequence))
            }
            (GtidSet::Mysql(_), TxnId::Mariadb { .. } | TxnId::Anonymous | TxnId::Postgres { .. })
            | (GtidSet::Mariadb(_), TxnId::Mysql { .. } | TxnId::Anonymous | TxnId::Postgres { .. }) => None,
        }
    }

    /// Adds a committed transaction; one without a GTID leaves the set as it is.
    pub fn add(&mut self, txn: &TxnId) {
        match (self, txn) {
            (GtidSet::Mysql(set), TxnId::Mysql { source, gno }) => set.add(source, *gno),
            (GtidSet::Mariadb(set), TxnId::Mariadb { domain, server, sequence }) => {
                set.set(*domain, *server, *sequence);
            }
            (GtidSet::Mysql(_), TxnId::Mariadb { .. } | TxnId::Anonymous | TxnId::Postgres { .. })
            | (GtidSet::Mariadb(_), TxnId::Mysql { .. } | TxnId::Anonymous | TxnId::Postgres { .. }) => {}
        }
    }

    /// Whether this set lies within `other`; sets of two flavours never do.
    pub fn is_subset(&self, other: &Self) -> bool {
        match (self, other) {
            (GtidSet::Mysql(a), GtidSet::Mysql(b)) => a.is_subset(b),
            (GtidSet::Mariadb(a), GtidSet::Mariadb(b)) => a.is_subset(b),
            (GtidSet::Mysql(_), GtidSet::Mariadb(_)) | (GtidSet::Mariadb(_), GtidSet::Mysql(_)) => false,
        }
    }

    /// The larger (`true`) or the smaller of two sets; `None` across flavours.
    pub fn combine(&self, other: &Self, larger: bool) -> Option<Self> {
        match (self, other, larger) {
            (GtidSet::Mysql(a), GtidSet::Mysql(b), true) => Some(GtidSet::Mysql(a.union(b))),
            (GtidSet::Mysql(a), GtidSet::Mysql(b), false) => Some(GtidSet::Mysql(a.intersect(b))),
            (GtidSet::Mariadb(a), GtidSet::Mariadb(b), true) => Some(GtidSet::Mariadb(a.union(b))),
            (GtidSet::Mariadb(a), GtidSet::Mariadb(b), false) => Some(GtidSet::Mariadb(a.intersect(b))),
            (GtidSet::Mysql(_), GtidSet::Mariadb(_), _) | (GtidSet::Mariadb(_), GtidSet::Mysql(_), _) => None,
        }
    }
}

impl fmt::Display for GtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GtidSet::Mysql(set) => set.fmt(f),
            GtidSet::Mariadb(set) => set.fmt(f),
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
    /// Whether the transaction `txn`, which ended at `place` on the server `server` (binlog identity), is at or
    /// before this position. By GTID, or by file position on the same server: exact for positions read under a
    /// lock, and an upper bound for those that were not (ALGORITHMS 2).
    pub fn covers(&self, txn: &TxnId, place: &CommitPlace, server: &str) -> bool {
        match (self, place) {
            (Position::Binlog(p), CommitPlace::Binlog(end)) => {
                p.gtids.contains(txn) == Some(true) || (p.server == server && *end <= p.file)
            }
            (Position::Wal(p), CommitPlace::Wal(end)) => *end <= p.lsn,
            (Position::Binlog(_), CommitPlace::Wal(_)) | (Position::Wal(_), CommitPlace::Binlog(_)) => false,
        }
    }

    /// The later of two bounds of one load (`larger`), or the earlier: per GTID set, and by file position where
    /// the server is the same. `None` if the two are not of one history.
    pub fn combine(&self, other: &Self, larger: bool) -> Option<Self> {
        match (self, other) {
            (Position::Binlog(a), Position::Binlog(b)) => {
                let gtids = a.gtids.combine(&b.gtids, larger)?;
                if a.server != b.server {
                    // A place on one server says nothing of the other's: only the set counts.
                    let (server, file) = (String::new(), FilePos::default());
                    return Some(Position::Binlog(BinlogPosition { server, file, gtids }));
                }
                let place = if (a.file <= b.file) == larger { b } else { a };
                Some(Position::Binlog(BinlogPosition {
                    server: place.server.clone(),
                    file: place.file.clone(),
                    gtids,
                }))
            }
            (Position::Wal(a), Position::Wal(b)) if a.system == b.system => {
                let first = if a.lsn <= b.lsn { (a, b) } else { (b, a) };
                Some(Position::Wal(if larger { first.1 } else { first.0 }.clone()))
            }
            (Position::Wal(_), Position::Wal(_))
            | (Position::Binlog(_), Position::Wal(_))
            | (Position::Wal(_), Position::Binlog(_)) => None,
        }
    }

    /// What a target holds that had `had` when it came to this place of a log: both sets together. The place in
    /// the server's log is the later one of the same server, else this one's, unless this is of no server.
    pub fn joined(&self, had: &Self) -> Option<Self> {
        let both = self.combine(had, true)?;
        match (self, had, both) {
            (Position::Binlog(at), Position::Binlog(had), Position::Binlog(both))
                if at.server != had.server =>
            {
                let place = if at.server.is_empty() { had } else { at };
                let (server, file) = (place.server.clone(), place.file.clone());
                Some(Position::Binlog(BinlogPosition { server, file, ..both }))
            }
            (_, _, both) => Some(both),
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
            "binlog;3e11fa47-71ca-11e1-9e33-c80aa9429562;b.000001;157;mysql;3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5",
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

    #[test]
    fn covers_by_gtid_or_by_place_on_the_same_server() {
        let high = position("binlog;s1;b.000002;500;mariadb;0-1-100");
        let txn = |sequence| TxnId::Mariadb { domain: 0, server: 1, sequence };
        let end = |pos| CommitPlace::Binlog(FilePos { file: "b.000002".into(), pos });
        assert!(high.covers(&txn(100), &end(9_000), "s2"));
        assert!(high.covers(&txn(101), &end(500), "s1"));
        assert!(!high.covers(&txn(101), &end(501), "s1") && !high.covers(&txn(101), &end(500), "s2"));
    }

    #[test]
    fn bounds_combine() {
        let (a, b) =
            (position("binlog;s;b.000001;4;mariadb;0-1-5"), position("binlog;s;b.000002;4;mariadb;0-1-9"));
        assert_eq!(a.combine(&b, true), Some(b.clone()));
        assert_eq!(b.combine(&a, false), Some(a.clone()));
        assert_eq!(a.combine(&position("wal;1;1;1"), true), None);
        let elsewhere = position("binlog;t;x.000009;4;mariadb;0-2-7");
        assert_eq!(b.combine(&elsewhere, false), Some(position("binlog;;;0;mariadb;0-2-7")));
    }
}
