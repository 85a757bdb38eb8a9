//! What a MariaDB has executed, purged, and holds at a place of its binlog.
//!
//! Its executed set is `gtid_binlog_state`, which has the last sequence of every server of a domain. The server works
//! out the set that belongs to a place, so that a place either is exactly the one of a position or is not.

use freshet_core::error::{Error, Result};
use freshet_core::gtid::MariadbGtidSet;
use freshet_core::position::{BinlogPosition, FilePos, GtidSet};

use super::purged;
use crate::server::{Flavour, gtids_at};
use crate::wire::Connection;

/// The first GTID of a set that the server never executed.
pub(super) async fn not_executed(
    ours: &MariadbGtidSet,
    connection: &mut Connection,
) -> Result<Option<String>> {
    let rows = connection.query("SELECT @@GLOBAL.gtid_binlog_state").await?;
    let state = BinlogState::parse(rows.first(0).unwrap_or(""))?;
    let unknown = ours.iter().find(|&(domain, server, sequence)| !state.has(domain, server, sequence));
    Ok(unknown.map(|(domain, server, sequence)| format!("{domain}-{server}-{sequence}")))
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
    match Flavour::Mariadb.parse_gtids(&text)? {
        GtidSet::Mariadb(before) if before.is_subset(ours) => Ok(()),
        GtidSet::Mariadb(_) | GtidSet::Mysql(_) | GtidSet::Places => {
            Err(purged(&format!("its binlog begins after {text}, which was not read yet")))
        }
    }
}

/// A binlog that was reset and has grown past the place may hold the same GTIDs for other transactions: the set that
/// the server works out for the place must be ours. What it is otherwise, in words.
pub(super) async fn misfit(position: &BinlogPosition, connection: &mut Connection) -> Result<Option<String>> {
    let there = gtids_at(connection, &position.file).await?;
    let is_ours = match &there {
        Some(text) => Flavour::Mariadb.parse_gtids(text)? == position.gtids,
        None => false,
    };
    if is_ours {
        return Ok(None);
    }
    let there = there.as_deref().unwrap_or("nothing that ends there");
    Ok(Some(format!("at {} the server has {there}, where {} was read", position.file, position.gtids)))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p19_binlog_state_knows_each_server_of_a_domain() {
        let state = BinlogState::parse("0-1-100,0-2-50,7-1-3").unwrap();
        assert!(state.has(0, 1, 100) && state.has(0, 2, 50) && state.has(0, 1, 7));
        assert!(!state.has(0, 2, 51) && !state.has(0, 3, 1) && !state.has(1, 1, 1));
        assert!(BinlogState::parse("0-1").is_err());
    }
}
