//! What a MariaDB has executed, purged, and holds at a place of its binlog.
//!
//! Its executed set is `gtid_binlog_state`. Of a place the server says the last GTID of each domain only: those are
//! compared with the last ones of a position, never with all of it.

use freshet_core::error::{Error, Result};
use freshet_core::gtid::MariadbGtidSet;
use freshet_core::position::{BinlogPosition, FilePos, GtidSet};

use super::purged;
use crate::server::{binlog_state, gtids_at, mariadb_set};
use crate::wire::Connection;

/// A GTID of a set that the server never executed. A replica that was seeded does not name who wrote before that and
/// not since: it has them if it has what came after them.
pub(super) async fn not_executed(
    ours: &MariadbGtidSet,
    connection: &mut Connection,
) -> Result<Option<String>> {
    let state = mariadb_set(&binlog_state(connection).await?)?;
    let missing = ours.missing_from(&state);
    Ok(missing.map(|(domain, server, sequence)| format!("{domain}-{server}-{sequence}")))
}

/// The set before the oldest file is what the server has purged.
pub(super) async fn check_purged(
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
    if is_behind(ours, &mariadb_set(&text)?) {
        return Err(purged(&format!("its binlog begins after {text}, which was not read yet")));
    }
    Ok(())
}

/// Whether a position is certainly before one of a server's answers. Where the last of a domain is of a server that we
/// know nothing of, it may be from before our first position: the dump itself finds our last GTID or refuses.
fn is_behind(ours: &MariadbGtidSet, before: &MariadbGtidSet) -> bool {
    before.iter().any(|(domain, server, sequence)| match ours.sequence_of(domain, server) {
        Some(last) => last < sequence,
        None => ours.last(domain).is_none(),
    })
}

/// A binlog that was reset and has grown past the place may hold the same GTIDs for other transactions: the set that
/// the server works out for the place must be ours. What it is otherwise, in words.
pub(super) async fn misfit(position: &BinlogPosition, connection: &mut Connection) -> Result<Option<String>> {
    let there = gtids_at(connection, &position.file).await?;
    let is_ours = match (&there, &position.gtids) {
        (Some(text), GtidSet::Mariadb(ours)) => mariadb_set(text)? == ours.lasts(),
        (Some(_) | None, _) => false,
    };
    if is_ours {
        return Ok(None);
    }
    let there = there.as_deref().unwrap_or("nothing that ends there");
    Ok(Some(format!("at {} the server has {there}, where {} was read", position.file, position.gtids)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// P12, P19: where the server's binlog begins, and where we are.
    #[test]
    fn p12_what_was_purged_is_told_by_the_servers_that_we_know() {
        for (ours, before, expect) in [
            ("0-1-5", "0-1-5", false),
            ("0-1-5", "0-1-6", true),
            ("0-1-5", "7-1-1", true),
            ("0-1-5,0-2-20", "0-1-5", false),
            ("0-2-20,0-1-6", "0-2-21", true),
            ("0-1-30", "0-2-21", false),
        ] {
            assert_eq!(
                is_behind(&ours.parse().unwrap(), &before.parse().unwrap()),
                expect,
                "{ours}, {before}"
            );
        }
    }
}
