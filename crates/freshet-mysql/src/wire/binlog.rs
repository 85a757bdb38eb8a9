//! The binlog dump: a connection turned into an endless stream of event packets, handed out undecoded.
//!
//! What the events mean is `decode`'s. Before a dump the caller sets what the server must know as session
//! variables: the checksum (`@source_binlog_checksum`, on MariaDB `@master_binlog_checksum`), the heartbeat
//! period in nanoseconds (`@source_heartbeat_period`, `@master_heartbeat_period`), and on MariaDB
//! `@mariadb_slave_capability`, `@slave_connect_state` and `@slave_gtid_strict_mode`. Semi-synchronous
//! replication is not asked for, so no event waits for us. Formats: manual pages "COM_REGISTER_SLAVE",
//! "COM_BINLOG_DUMP", "COM_BINLOG_DUMP_GTID", "Binlog Network Stream".

use std::ops::Range;

use super::channel::Channel;
use super::connection::{Connection, command};
use super::error::WireError;
use super::response::{is_eof, server_error};

/// Flags of a dump request.
mod flag {
    pub(super) const NON_BLOCK: u16 = 0x01;
    pub(super) const THROUGH_GTID: u16 = 0x04;
}

/// Where a file begins: behind its 4 magic bytes.
const FIRST_POSITION: u64 = 4;

/// What happens at the end of the binlog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtEnd {
    /// Wait for more; the server sends heartbeats meanwhile.
    Wait,
    /// End the stream with [`Packet::End`].
    Stop,
}

/// One packet of a dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packet<'a> {
    /// A whole event from its header on, borrowed until the next call.
    Event(&'a [u8]),
    /// The server ended the dump.
    End,
}

impl Connection {
    /// Shows this connection among the server's replicas, so that others can see which server id is taken.
    pub async fn register_replica(&mut self, server_id: u32, host: &str) -> Result<(), WireError> {
        let host = &host.as_bytes()[..host.len().min(60)];
        let put = |out: &mut Vec<u8>| {
            out.extend_from_slice(&server_id.to_le_bytes());
            out.push(host.len() as u8);
            out.extend_from_slice(host);
            // Empty user and password, no port, rank 0, and the source's id unknown.
            out.extend_from_slice(&[0; 2 + 2 + 4 + 4]);
        };
        self.command(command::REGISTER_SLAVE, put).await?;
        self.answer().await.map(|_| ())
    }

    /// Asks a MySQL server for everything that is not in a GTID set, given in the server's encoding.
    pub async fn dump_mysql_gtid(
        mut self,
        server_id: u32,
        gtid_set: &[u8],
        at_end: AtEnd,
    ) -> Result<BinlogPackets, WireError> {
        let set_bytes = u32::try_from(gtid_set.len())
            .map_err(|_| WireError::Misused { what: "the GTID set is longer than 4 GiB" })?;
        let put = |out: &mut Vec<u8>| {
            const NO_FILE_NAME: u32 = 0;
            out.extend_from_slice(&(at_end.flags() | flag::THROUGH_GTID).to_le_bytes());
            out.extend_from_slice(&server_id.to_le_bytes());
            out.extend_from_slice(&NO_FILE_NAME.to_le_bytes());
            out.extend_from_slice(&FIRST_POSITION.to_le_bytes());
            out.extend_from_slice(&set_bytes.to_le_bytes());
            out.extend_from_slice(gtid_set);
        };
        self.command(command::BINLOG_DUMP_GTID, put).await?;
        Ok(BinlogPackets { channel: self.into_channel() })
    }

    /// Asks for everything from a position in a file on. MariaDB starts after `@slave_connect_state` instead
    /// where that is set; then the file is empty and the position 4.
    pub async fn dump_file_pos(
        mut self,
        server_id: u32,
        file: &str,
        position: u32,
        at_end: AtEnd,
    ) -> Result<BinlogPackets, WireError> {
        let put = |out: &mut Vec<u8>| {
            out.extend_from_slice(&position.to_le_bytes());
            out.extend_from_slice(&at_end.flags().to_le_bytes());
            out.extend_from_slice(&server_id.to_le_bytes());
            out.extend_from_slice(file.as_bytes());
        };
        self.command(command::BINLOG_DUMP, put).await?;
        Ok(BinlogPackets { channel: self.into_channel() })
    }
}

impl AtEnd {
    fn flags(self) -> u16 {
        match self {
            AtEnd::Wait => 0,
            AtEnd::Stop => flag::NON_BLOCK,
        }
    }
}

/// The packets of a dump. Dropping it closes the connection.
pub struct BinlogPackets {
    channel: Channel,
}

impl BinlogPackets {
    /// The next packet. Safe to cancel; the read time-out counts the server's silence over cancelled calls.
    /// An error of the server (such as 1236) comes as [`WireError::Server`].
    pub async fn next(&mut self) -> Result<Packet<'_>, WireError> {
        let range = self.channel.receive("reading the binlog").await?;
        self.packet(range)
    }

    /// The next packet if it has arrived entirely; never waits.
    pub fn try_next_buffered(&mut self) -> Result<Option<Packet<'_>>, WireError> {
        match self.channel.receive_buffered()? {
            Some(range) => self.packet(range).map(Some),
            None => Ok(None),
        }
    }

    fn packet(&self, range: Range<usize>) -> Result<Packet<'_>, WireError> {
        match self.channel.payload(range) {
            [0x00, event @ ..] => Ok(Packet::Event(event)),
            packet if is_eof(packet) => Ok(Packet::End),
            packet @ [0xFF, ..] => Err(server_error(packet)),
            _ => Err(WireError::protocol("an unknown packet in a binlog dump")),
        }
    }
}
