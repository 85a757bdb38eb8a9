//! What a MySQL has executed, purged, and holds at and behind a place of its binlog.
//!
//! A dump by set begins in the newest file whose Previous_gtids are within the set, and says nothing of the files
//! before it. If GTIDs were off for a while since our position, those files hold transactions without a GTID, which
//! would be skipped (seen on 9.7). [`check_all_named`] finds them, by two facts: a change of `gtid_mode` begins a new
//! file, and our position was told while the mode was ON, with every transaction of ours before the end of the file
//! of its place. So in a file that the dump leaves out and that is behind that place, whatever comes first has no
//! GTID. On the same server this finds every such file that is still there; in files that were purged since, and on
//! another server, it cannot be told. In the files that are sent the server and the decoder stop at such a transaction.

use freshet_core::error::{Error, Result};
use freshet_core::gtid::MysqlGtidSet;
use freshet_core::position::{BinlogPosition, FilePos, GtidSet};

use super::{HINT_UNNAMED, purged, switched_off};
use crate::server::{Flavour, quoted};
use crate::wire::{Connection, Rows, WireError};

/// Where the events of a file begin.
const FILE_BEGIN: u64 = 4;

/// Events of a file among which its first transaction begins: behind its format and its Previous_gtids.
const HEAD_EVENTS: usize = 8;

/// How long a transaction that was read may take until the server counts it as executed, in seconds. It stands in the
/// binlog before it does, for as long as a semi-synchronous replica does not answer.
const EXECUTED_WAIT_S: u64 = 10;

/// The GTIDs of a set that the server did not execute.
pub(super) async fn not_executed(ours: &MysqlGtidSet, connection: &mut Connection) -> Result<Option<String>> {
    let unknown = ours.subtract(&global_set("gtid_executed", connection).await?);
    if unknown.is_empty() {
        return Ok(None);
    }
    let wait = format!("SELECT WAIT_FOR_EXECUTED_GTID_SET('{unknown}', {EXECUTED_WAIT_S})");
    let is_executed = connection.query(&wait).await?.first(0) == Some("0");
    Ok((!is_executed).then(|| unknown.to_string()))
}

pub(super) async fn check_purged(ours: &MysqlGtidSet, connection: &mut Connection) -> Result<()> {
    let missing = global_set("gtid_purged", connection).await?.subtract(ours);
    if missing.is_empty() {
        return Ok(());
    }
    Err(purged(&format!("it has purged {missing}, which was not read yet")))
}

async fn global_set(variable: &str, connection: &mut Connection) -> Result<MysqlGtidSet> {
    let rows = connection.query(&format!("SELECT @@GLOBAL.{variable}")).await?;
    match Flavour::Mysql.parse_gtids(rows.first(0).unwrap_or(""))? {
        GtidSet::Mysql(set) => Ok(set),
        GtidSet::Mariadb(_) | GtidSet::Places => Err(Error::internal("A MySQL set was read as another")),
    }
}

/// A binlog that was reset and has grown past the place: an event must begin there, and it must not be of a
/// transaction of ours. What is there otherwise, in words.
pub(super) async fn misfit(position: &BinlogPosition, connection: &mut Connection) -> Result<Option<String>> {
    let Some(events) = events_at(&position.file, 1, connection).await? else {
        let what = format!("at {} no event begins, where one ended when it was read", position.file);
        return Ok(Some(what));
    };
    match first_transaction(&events)? {
        Some(Named::As(gtid)) if gtid.is_subset(&position.gtids) => {
            Ok(Some(format!("at {} the server has {gtid}, which was read before it", position.file)))
        }
        Some(Named::As(_) | Named::Not) | None => Ok(None),
    }
}

/// Stops at a transaction without a GTID behind the place of `start`, in the files that a dump by set may leave out;
/// see the head of this file. `start` is a place on this server; one query for each file without a new transaction.
pub(super) async fn check_all_named(
    start: &BinlogPosition,
    files: &[FilePos],
    connection: &mut Connection,
) -> Result<()> {
    let known = files.iter().position(|kept| kept.file == start.file.file);
    for (at, kept) in files.iter().enumerate().skip(known.unwrap_or(0)) {
        let pos = if known == Some(at) { start.file.pos } else { FILE_BEGIN };
        let from = FilePos { file: kept.file.clone(), pos };
        let Some(events) = events_at(&from, HEAD_EVENTS, connection).await? else {
            return Err(Error::unavailable(format!(
                "The server does not list the binlog events from {from} on"
            )));
        };
        match first_transaction(&events)? {
            Some(Named::Not) => {
                let what = format!("a transaction without one comes after {from}");
                return Err(switched_off(&what, HINT_UNNAMED));
            }
            // The dump begins in this file or before it.
            Some(Named::As(gtid)) if !gtid.is_subset(&start.gtids) => return Ok(()),
            Some(Named::As(_)) | None => {}
        }
    }
    Ok(())
}

/// Some events from a place on; `None` if none begins there.
async fn events_at(from: &FilePos, count: usize, connection: &mut Connection) -> Result<Option<Rows>> {
    /// `ER_ERROR_WHEN_EXECUTING_COMMAND`: there is no such file, or the position is not between events.
    const CANNOT_SHOW: u16 = 1220;
    const NO_FILE: &str = "Could not find target log";
    let sql = format!("SHOW BINLOG EVENTS IN '{}' FROM {} LIMIT {count}", quoted(&from.file), from.pos);
    match connection.query(&sql).await {
        Err(WireError::Server(error)) if error.code == CANNOT_SHOW => {
            if error.message.contains(NO_FILE) {
                let what = format!("The binlog file {} was purged while it was looked at", from.file);
                return Err(Error::unavailable(what));
            }
            Ok(None)
        }
        other => Ok(Some(other?)),
    }
}

/// The name of a transaction.
#[derive(Debug, PartialEq, Eq)]
enum Named {
    As(GtidSet),
    /// It has no GTID.
    Not,
}

/// The first transaction that begins among events.
fn first_transaction(events: &Rows) -> Result<Option<Named>> {
    let Some(info) = events.column("Info") else { return Ok(None) };
    let named = |row: &crate::wire::Row| row.text(info).and_then(next_gtid).map(str::to_owned);
    match events.rows().iter().find_map(named).as_deref() {
        None => Ok(None),
        Some("ANONYMOUS") => Ok(Some(Named::Not)),
        Some(gtid) => Ok(Some(Named::As(Flavour::Mysql.parse_gtids(gtid)?))),
    }
}

/// The name in the description of a GTID event, `SET @@SESSION.GTID_NEXT= 'NAME'`; `None` for other events.
fn next_gtid(info: &str) -> Option<&str> {
    info.strip_prefix("SET @@SESSION.GTID_NEXT= '")?.split('\'').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gtids_are_read_from_descriptions() {
        assert_eq!(next_gtid("SET @@SESSION.GTID_NEXT= 'uuid:tag:5'"), Some("uuid:tag:5"));
        assert_eq!(next_gtid("SET @@SESSION.GTID_NEXT= 'ANONYMOUS'"), Some("ANONYMOUS"));
        assert_eq!(next_gtid("binlog.000002;pos=4"), None);
    }
}
