//! Whether a server still has everything after a position, and whether it is the same history at all.
//!
//! Decides between beginning by GTID and by file position, or `Resync`; never begins anywhere else (P12). The
//! rules, for a position with the GTID set *ours*:
//!
//! 1. Every transaction of ours was executed by the server, or it has lost what we already have (P22).
//! 2. Nothing that the server has purged is missing from ours.
//! 3. On the same server (by identity) the binlog does not end before our file position, and what stands there fits
//!    ours: a binlog that was reset gives the same GTIDs to other transactions (P16).
//! 4. MySQL with GTIDs begins by the set: membership is exact, whatever the order of the file.
//! 5. MariaDB begins by file position on the same server while the file is there, since a domain may run backwards
//!    in a file (P19); by GTID otherwise.
//! 6. MySQL without GTIDs has only file positions, on the same server.

use freshet_core::error::{Error, Result};
use freshet_core::gtid::MariadbGtidSet;
use freshet_core::position::{BinlogPosition, FilePos, GtidSet};

use crate::server::{Flavour, ServerFacts, gtids_at, quoted};
use crate::wire::Connection;

/// How the dump is to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Begin {
    /// After this set.
    Gtids(GtidSet),
    /// At this place.
    FilePos {
        /// File name.
        file: String,
        /// Position, as much as the request can hold.
        pos: u32,
    },
}

impl std::fmt::Display for Begin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Begin::Gtids(set) => write!(f, "after GTIDs {set}"),
            Begin::FilePos { file, pos } => write!(f, "{file}:{pos}"),
        }
    }
}

/// Checks the history and says how to begin after `start`.
pub(crate) async fn begin_after(
    start: &BinlogPosition,
    facts: &ServerFacts,
    connection: &mut Connection,
) -> Result<Begin> {
    let is_same_server = start.server == facts.identity;
    let files = facts.binlog_files(connection).await?;
    let place = Place::of(&start.file, &files);
    if is_same_server && place == Place::Beyond {
        return Err(lost(&format!(
            "its binlog ends before {}, which was read from this server already",
            start.file
        )));
    }
    match (&start.gtids, facts.flavour) {
        (GtidSet::Mysql(_), Flavour::Mysql) if facts.has_gtids() => {
            check_mysql_sets(start, connection).await?;
            if is_same_server && place == Place::Kept {
                check_mysql_place(start, connection).await?;
            }
            Ok(Begin::Gtids(start.gtids.clone()))
        }
        (GtidSet::Mysql(_), Flavour::Mysql) => by_place(start, is_same_server, place),
        (GtidSet::Mariadb(ours), Flavour::Mariadb) => {
            check_mariadb_executed(ours, connection).await?;
            if is_same_server && place == Place::Kept {
                check_mariadb_place(start, connection).await?;
                if start.file.pos <= u64::from(u32::MAX) {
                    return by_place(start, is_same_server, place);
                }
            }
            check_mariadb_purged(ours, &files, connection).await?;
            Ok(Begin::Gtids(start.gtids.clone()))
        }
        (GtidSet::Mysql(_), Flavour::Mariadb) | (GtidSet::Mariadb(_), Flavour::Mysql) => Err(Error::resync(
            format!("The position to go on from is of another kind of server than {}", facts.flavour),
        )
        .with_hint("Give the pipeline the source that it was begun with, or load again")),
    }
}

/// Where a file position lies, seen from the files that the server has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In a file that is there, at or before its end.
    Kept,
    /// Before the oldest file.
    Purged,
    /// After the end of the newest file, or of another history.
    Beyond,
    /// The position has no file.
    Unknown,
}

impl Place {
    fn of(place: &FilePos, files: &[FilePos]) -> Self {
        if place.file.is_empty() {
            return Place::Unknown;
        }
        match files.iter().find(|kept| kept.file == place.file) {
            Some(kept) if place.pos <= kept.pos => Place::Kept,
            Some(_) => Place::Beyond,
            None if files.first().is_some_and(|oldest| place < oldest) => Place::Purged,
            None => Place::Beyond,
        }
    }
}

fn by_place(start: &BinlogPosition, is_same_server: bool, place: Place) -> Result<Begin> {
    if !is_same_server {
        return Err(Error::resync(
            "The source is another server than before, and without GTIDs a position does not carry over",
        )
        .with_hint("Go back to the server that the pipeline was begun with, or load again"));
    }
    match place {
        Place::Kept => {}
        Place::Purged => return Err(purged(&format!("it begins after {}", start.file))),
        Place::Beyond | Place::Unknown => {
            return Err(Error::resync("The position to go on from names no binlog file"));
        }
    }
    match u32::try_from(start.file.pos) {
        Ok(pos) => Ok(Begin::FilePos { file: start.file.file.clone(), pos }),
        Err(_) => Err(Error::unsupported(format!(
            "A start at {} is beyond the 4 GiB that a dump without GTIDs can begin at",
            start.file
        ))),
    }
}

async fn check_mysql_sets(start: &BinlogPosition, connection: &mut Connection) -> Result<()> {
    let rows = connection.query("SELECT @@GLOBAL.gtid_executed, @@GLOBAL.gtid_purged").await?;
    let set = |column| Flavour::Mysql.parse_gtids(rows.first(column).unwrap_or(""));
    let (GtidSet::Mysql(executed), GtidSet::Mysql(purged_set), GtidSet::Mysql(ours)) =
        (set(0)?, set(1)?, &start.gtids)
    else {
        return Err(Error::internal("A MySQL set was read as another"));
    };
    let unknown = ours.subtract(&executed);
    if !unknown.is_empty() {
        return Err(lost(&format!("it does not have {unknown}, which was read already")));
    }
    let missing = purged_set.subtract(ours);
    if !missing.is_empty() {
        return Err(purged(&format!("it has purged {missing}, which was not read yet")));
    }
    Ok(())
}

async fn check_mariadb_executed(ours: &MariadbGtidSet, connection: &mut Connection) -> Result<()> {
    let rows = connection.query("SELECT @@GLOBAL.gtid_binlog_state").await?;
    let state = BinlogState::parse(rows.first(0).unwrap_or(""))?;
    match ours.iter().find(|&(domain, server, sequence)| !state.has(domain, server, sequence)) {
        None => Ok(()),
        Some((domain, server, sequence)) => {
            Err(lost(&format!("it does not have {domain}-{server}-{sequence}, which was read already")))
        }
    }
}

/// The set before the oldest file is what the server has purged.
async fn check_mariadb_purged(
    ours: &MariadbGtidSet,
    files: &[FilePos],
    connection: &mut Connection,
) -> Result<()> {
    let Some(oldest) = files.first() else {
        return Err(Error::invalid("The source server has no binlog file"));
    };
    let beginning = FilePos { file: oldest.file.clone(), pos: 4 };
    let Some(text) = gtids_at(connection, &beginning).await? else {
        return Err(Error::unavailable("The oldest binlog file was purged while its beginning was read"));
    };
    match Flavour::Mariadb.parse_gtids(&text)? {
        GtidSet::Mariadb(before) if before.is_subset(ours) => Ok(()),
        GtidSet::Mariadb(_) | GtidSet::Mysql(_) => {
            Err(purged(&format!("its binlog begins after {text}, which was not read yet")))
        }
    }
}

/// A binlog that was reset and has grown past the place may hold the same GTIDs for other transactions: the set that
/// the server works out for the place must be ours.
async fn check_mariadb_place(start: &BinlogPosition, connection: &mut Connection) -> Result<()> {
    let there = gtids_at(connection, &start.file).await?;
    let is_ours = match &there {
        Some(text) => Flavour::Mariadb.parse_gtids(text)? == start.gtids,
        None => false,
    };
    if is_ours {
        return Ok(());
    }
    let there = there.as_deref().unwrap_or("nothing that ends there");
    Err(lost(&format!("at {} it has {there}, where {} was read", start.file, start.gtids)))
}

/// The same for MySQL, which works out no such set: an event must begin at the place, and it must not be of a
/// transaction of ours.
async fn check_mysql_place(start: &BinlogPosition, connection: &mut Connection) -> Result<()> {
    /// `ER_ERROR_WHEN_EXECUTING_COMMAND`: the position is not between events.
    const WRONG_OFFSET: u16 = 1220;
    const INFO: &str = "Info";
    let FilePos { file, pos } = &start.file;
    let sql = format!("SHOW BINLOG EVENTS IN '{}' FROM {pos} LIMIT 1", quoted(file));
    let rows = match connection.query(&sql).await {
        Err(error) if error.server_code() == Some(WRONG_OFFSET) => {
            return Err(lost(&format!(
                "at {} no event begins, where one ended when it was read",
                start.file
            )));
        }
        other => other?,
    };
    let info = rows.column(INFO).and_then(|column| rows.first(column)).unwrap_or("");
    let Some(gtid) = next_gtid(info) else { return Ok(()) };
    let next = Flavour::Mysql.parse_gtids(gtid)?;
    if next.is_subset(&start.gtids) {
        return Err(lost(&format!("at {} it has {gtid}, which was read already", start.file)));
    }
    Ok(())
}

/// The GTID in the description of a GTID event, `SET @@SESSION.GTID_NEXT= 'GTID'`; `None` for other events and for
/// transactions without one.
fn next_gtid(info: &str) -> Option<&str> {
    let (_, quoted) = info.split_once("GTID_NEXT= '")?;
    let gtid = quoted.split('\'').next()?;
    (gtid != "ANONYMOUS").then_some(gtid)
}

/// MariaDB's `gtid_binlog_state`: the last sequence of every pair of domain and server, the newest pair last.
struct BinlogState(Vec<(u32, u32, u64)>);

impl BinlogState {
    fn parse(text: &str) -> Result<Self> {
        let one = |gtid: &str| -> Result<(u32, u32, u64)> {
            let GtidSet::Mariadb(set) = Flavour::Mariadb.parse_gtids(gtid)? else {
                return Err(Error::internal("A MariaDB set was read as another"));
            };
            set.iter().next().ok_or_else(|| Error::corrupt("The server's gtid_binlog_state holds no GTID"))
        };
        let gtids = text.split(',').map(str::trim).filter(|gtid| !gtid.is_empty());
        Ok(Self(gtids.map(one).collect::<Result<_>>()?))
    }

    fn has(&self, domain: u32, server: u32, sequence: u64) -> bool {
        self.0.iter().any(|(d, s, last)| (*d, *s) == (domain, server) && sequence <= *last)
    }
}

/// The server lost what we have (P22).
fn lost(what: &str) -> Error {
    Error::resync(format!("The source has lost transactions or has another history: {what}")).with_hint(
        "Find out what happened to the server (a fail-over, a restored backup, RESET); then load again",
    )
}

/// The server has deleted what we lack (P12).
fn purged(what: &str) -> Error {
    Error::resync(format!("The source no longer has the binlog that is needed: {what}"))
        .with_hint("Load again, and keep binlogs for longer (binlog_expire_logs_seconds)")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(file: &str, pos: u64) -> FilePos {
        FilePos { file: file.to_owned(), pos }
    }

    #[test]
    fn p16_places_are_told_by_number() {
        let files = [at("b.999999", 100), at("b.1000000", 50)];
        assert_eq!(Place::of(&at("b.999999", 100), &files), Place::Kept);
        assert_eq!(Place::of(&at("b.999999", 101), &files), Place::Beyond);
        assert_eq!(Place::of(&at("b.999998", 4), &files), Place::Purged);
        assert_eq!(Place::of(&at("b.1000001", 4), &files), Place::Beyond);
        assert_eq!(Place::of(&at("other.000001", 4), &files), Place::Beyond);
        assert_eq!(Place::of(&at("", 0), &files), Place::Unknown);
    }

    #[test]
    fn gtids_are_read_from_descriptions() {
        assert_eq!(next_gtid("SET @@SESSION.GTID_NEXT= 'uuid:tag:5'"), Some("uuid:tag:5"));
        assert_eq!(next_gtid("SET @@SESSION.GTID_NEXT= 'ANONYMOUS'"), None);
        assert_eq!(next_gtid("binlog.000002;pos=4"), None);
    }

    #[test]
    fn p19_binlog_state_knows_each_server_of_a_domain() {
        let state = BinlogState::parse("0-1-100,0-2-50,7-1-3").unwrap();
        assert!(state.has(0, 1, 100) && state.has(0, 2, 50) && state.has(0, 1, 7));
        assert!(!state.has(0, 2, 51) && !state.has(0, 3, 1) && !state.has(1, 1, 1));
        assert!(BinlogState::parse("0-1").is_err());
    }
}
