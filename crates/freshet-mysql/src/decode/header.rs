//! The header of every event, its checksum, and the FORMAT_DESCRIPTION that says how a file is to be read.
//!
//! Formats: MySQL manual, "Binlog Event Header" and "FORMAT_DESCRIPTION_EVENT".

use crate::values::reader::{Read, Reader, Short};

/// Bytes of a header.
pub(super) const HEADER_BYTES: usize = 19;
/// Bytes of a checksum.
const CHECKSUM_BYTES: usize = 4;

pub(super) const FLAG_IN_USE: u16 = 0x1;
pub(super) const FLAG_ARTIFICIAL: u16 = 0x20;
pub(super) const FLAG_IGNORABLE: u16 = 0x80;

/// Code of a FORMAT_DESCRIPTION, whose checksum leaves out one flag.
const FORMAT_DESCRIPTION: u8 = 15;
/// Where the flags stand in a header.
const FLAGS_AT: usize = 17;

/// An event's header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) timestamp_s: u32,
    pub(super) code: u8,
    pub(super) server: u32,
    pub(super) event_bytes: u32,
    /// Position of the event after this one, modulo 2^32; 0 for what is in no file.
    pub(super) next_pos: u32,
    pub(super) flags: u16,
}

impl Header {
    pub(super) fn parse(event: &[u8]) -> Read<Header> {
        let mut r = Reader::new(event);
        let (timestamp_s, code, server) = (r.u32()?, r.u8()?, r.u32()?);
        Ok(Header { timestamp_s, code, server, event_bytes: r.u32()?, next_pos: r.u32()?, flags: r.u16()? })
    }

    /// Whether the event stands in no file: it never moves a position (P15).
    pub(super) fn is_artificial(&self) -> bool {
        self.next_pos == 0 || self.flags & FLAG_ARTIFICIAL != 0
    }
}

/// The checksum algorithm of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Checksum {
    None,
    Crc32,
}

/// Whether the event's last four bytes are its checksum.
pub(super) fn has_valid_checksum(event: &[u8]) -> bool {
    let Some((covered, stored)) = event.split_last_chunk::<CHECKSUM_BYTES>() else { return false };
    let mut hasher = crc32fast::Hasher::new();
    match covered.split_at_checked(HEADER_BYTES) {
        Some((header, body)) if header.get(4) == Some(&FORMAT_DESCRIPTION) => {
            let mut header = <[u8; HEADER_BYTES]>::try_from(header).unwrap_or_default();
            header[FLAGS_AT] &= !(FLAG_IN_USE as u8);
            hasher.update(&header);
            hasher.update(body);
        }
        Some(_) | None => hasher.update(covered),
    }
    hasher.finalize() == u32::from_le_bytes(*stored)
}

/// The event without its checksum.
pub(super) fn without_checksum(event: &[u8]) -> &[u8] {
    event.get(..event.len().saturating_sub(CHECKSUM_BYTES)).unwrap_or(&[])
}

/// What a FORMAT_DESCRIPTION says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Format {
    pub(super) server_version: String,
    /// Not 0 if the server started with this file: a transaction left open in the one before is gone.
    pub(super) created_s: u32,
    pub(super) checksum: Checksum,
    /// Whether the events that are read here have the lengths that this build knows.
    pub(super) is_known: bool,
}

impl Format {
    /// Reads an event from its header on, checksum included (it always has one, or the room of one).
    pub(super) fn parse(event: &[u8]) -> Read<Format> {
        const BINLOG_VERSION: u16 = 4;
        let mut r = Reader::new(without_checksum(event));
        r.take(HEADER_BYTES)?;
        let version = r.u16()?;
        let name = r.take(50)?;
        let name = name.split(|b| *b == 0).next().unwrap_or(name);
        let (created_s, header_bytes) = (r.u32()?, r.u8()?);
        let (checksum, lengths) = r.rest().split_last().ok_or(Short)?;
        let checksum = match checksum {
            0 => Checksum::None,
            1 => Checksum::Crc32,
            _ => return Err(Short),
        };
        // QUERY, ROTATE, TABLE_MAP, rows of version 1 and 2; 0 where the server never writes the event.
        const LENGTHS: [(usize, u8); 9] =
            [(2, 13), (4, 8), (19, 8), (23, 8), (24, 8), (25, 8), (30, 10), (31, 10), (32, 10)];
        let fits = |(code, length): &(usize, u8)| {
            lengths.get(code - 1).is_none_or(|known| known == length || *known == 0)
        };
        Ok(Format {
            server_version: String::from_utf8_lossy(name).into_owned(),
            created_s,
            checksum,
            is_known: version == BINLOG_VERSION
                && usize::from(header_bytes) == HEADER_BYTES
                && lengths.len() >= 25
                && LENGTHS.iter().all(fits),
        })
    }
}
