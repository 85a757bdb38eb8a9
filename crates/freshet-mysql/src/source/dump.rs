//! From a logged-in connection to a dump: what the server must know about us, and where it begins.
//!
//! That a reader held back by a full log is not cut off (P8) is every connection's: `wire` sets the server's write
//! time-out to its largest value. What bounds a dead peer is TCP keepalive on either side, and our read time-out,
//! which is larger than the heartbeat period (P23).

use freshet_core::error::Result;

use super::encode::encode_mysql_gtids;
use super::history::Begin;
use crate::server::{Flavour, ServerFacts};
use crate::wire::{AtEnd, BinlogPackets, Connection};

/// Where a file begins, behind its magic bytes.
const FIRST_POSITION: u32 = 4;

/// How this reader presents itself.
pub(crate) struct Reader {
    pub(crate) server_id: u32,
}

/// Sets the session up; to be done before registering, since MySQL takes the UUID from it.
pub(crate) async fn prepare(
    facts: &ServerFacts,
    connection: &mut Connection,
    uuid: &str,
    heartbeat_ms: u64,
) -> Result<()> {
    let heartbeat_ns = heartbeat_ms * 1_000_000;
    let mut variables = vec![
        format!("@master_heartbeat_period = {heartbeat_ns}"),
        "@master_binlog_checksum = @@GLOBAL.binlog_checksum".to_owned(),
    ];
    match facts.flavour {
        Flavour::Mysql => variables.extend([
            format!("@source_heartbeat_period = {heartbeat_ns}"),
            "@source_binlog_checksum = @@GLOBAL.binlog_checksum".to_owned(),
            format!("@slave_uuid = '{uuid}'"),
            format!("@replica_uuid = '{uuid}'"),
        ]),
        Flavour::Mariadb => variables.push("@mariadb_slave_capability = 4".to_owned()),
    }
    connection.exec(&format!("SET {}", variables.join(", "))).await?;
    Ok(())
}

/// Asks for the dump.
pub(crate) async fn begin(
    mut connection: Connection,
    reader: &Reader,
    begin: &Begin,
) -> Result<BinlogPackets> {
    let id = reader.server_id;
    match begin {
        Begin::FilePos { file, pos } => Ok(connection.dump_file_pos(id, file, *pos, AtEnd::Wait).await?),
        Begin::MysqlGtids(set) => {
            Ok(connection.dump_mysql_gtid(id, &encode_mysql_gtids(set), AtEnd::Wait).await?)
        }
        Begin::MariadbGtids(set) => {
            let state = format!(
                "SET @slave_connect_state = '{set}', @slave_gtid_strict_mode = 1, @slave_gtid_ignore_duplicates = 0"
            );
            connection.exec(&state).await?;
            Ok(connection.dump_file_pos(id, "", FIRST_POSITION, AtEnd::Wait).await?)
        }
    }
}
