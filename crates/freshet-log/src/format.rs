//! Byte layout of the log's files: bytes in, structures out, no IO.
//!
//! Little endian throughout; `str` is a u32 length and UTF-8. CRC is CRC-32C. The payload of a record is a batch as
//! `freshet_core::codec` lays it out, untouched.
//!
//! ```text
//! sealed   = magic [8] | log version u16 | row version u16 | length of all of it u32 | body | CRC of all before u32
//! LOG      = sealed "FRSHLOG\0": log_id [16] | epoch u64 | first offset u64 | trimmed u64 | durable u64 |
//!            start str | count u32 | inherited*
//! inherited= sink str | sink epoch u64 | log_id [16] | next u64 | position str
//! segment  = sealed "FRSHSEG\0", then records up to the end of the file
//! its body = log_id [16] | epoch u64 | first offset u64 | durable u64 | previous first offset u64 (its own if none) |
//!            previous bytes u64 | inside u8 | start str | count u32 | (length u32 | schema encoding)*
//! record   = header [64] | position, as text | payload
//! header   = magic [4] | CRC of the rest of the header and the position u32 | CRC of the payload u32 |
//!            payload bytes u32 | offset u64 | epoch u64 | durable u64 | rows u64 | position bytes u32 | flags u16 |
//!            row version u16 | part u32 | zero u32
//! flags    = 1 commit (a position follows) | 2 continues in the next record | 4 announces schemas
//! ```
//!
//! The CRC of a record's header starts from the log's identity, so a record of another log is never taken for one
//! of this. `durable` is the next offset that was known to be on disk when the bytes were written: everything
//! before it was once seen whole, so damage there is damage and not a torn tail. `inside` says that the segment's
//! first record stands in a transaction that began before; `start` is the position of the last commit before it.

use crate::bounds::POSITION_BYTES_MAX;
use crate::error::{LogError, Result};
use bytes::Bytes;
use freshet_core::codec::FORMAT_VERSION;
use freshet_core::log::Inherited;
use freshet_core::{Checkpoint, LogEpoch, LogId, Mark, Offset, Position, SinkEpoch};
use std::path::Path;

/// Version of this layout.
pub(crate) const LOG_VERSION: u16 = 1;
pub(crate) const RECORD_HEADER_BYTES: usize = 64;
pub(crate) const RECORD_MAGIC: [u8; 4] = *b"\xf5REC";
const SEGMENT_MAGIC: [u8; 8] = *b"FRSHSEG\0";
const LOG_MAGIC: [u8; 8] = *b"FRSHLOG\0";
/// Bytes of a sealed structure before its body.
pub(crate) const SEALED_HEAD_BYTES: usize = 16;

pub(crate) const FLAG_COMMIT: u16 = 1;
pub(crate) const FLAG_CONTINUES: u16 = 2;
pub(crate) const FLAG_SCHEMAS: u16 = 4;

/// What the CRC of this log's record headers starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seed(u32);

impl Seed {
    pub(crate) fn of(id: LogId) -> Self {
        Self(crc32c::crc32c(&id.0))
    }
}

/// The fixed part of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    pub(crate) payload_crc: u32,
    pub(crate) payload_bytes: u32,
    pub(crate) offset: Offset,
    pub(crate) epoch: LogEpoch,
    pub(crate) durable: Offset,
    pub(crate) rows: u64,
    pub(crate) position_bytes: u32,
    pub(crate) flags: u16,
    pub(crate) row_version: u16,
    pub(crate) part: u32,
}

impl RecordHeader {
    pub(crate) fn is(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    /// Bytes of the whole record.
    pub(crate) fn record_bytes(&self) -> u64 {
        RECORD_HEADER_BYTES as u64 + u64::from(self.position_bytes) + u64::from(self.payload_bytes)
    }

    /// Appends header and position to `out`.
    pub(crate) fn encode(&self, seed: Seed, position: &str, out: &mut Vec<u8>) {
        debug_assert_eq!(self.position_bytes as usize, position.len());
        let at = out.len();
        out.extend_from_slice(&RECORD_MAGIC);
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.payload_crc.to_le_bytes());
        out.extend_from_slice(&self.payload_bytes.to_le_bytes());
        for number in [self.offset.0, self.epoch.0, self.durable.0, self.rows] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.position_bytes.to_le_bytes());
        out.extend_from_slice(&self.flags.to_le_bytes());
        out.extend_from_slice(&self.row_version.to_le_bytes());
        out.extend_from_slice(&self.part.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(position.as_bytes());
        let crc = crc32c::crc32c_append(seed.0, &out[at + 8..]);
        out[at + 4..at + 8].copy_from_slice(&crc.to_le_bytes());
    }

    /// Reads the fixed part; its CRC is checked by [`RecordHeader::is_intact`] once the position is there.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        let mut r = Fields { bytes };
        if r.array::<4>()? != RECORD_MAGIC {
            return Err("no record begins here");
        }
        r.u32()?;
        let header = Self {
            payload_crc: r.u32()?,
            payload_bytes: r.u32()?,
            offset: Offset(r.u64()?),
            epoch: LogEpoch(r.u64()?),
            durable: Offset(r.u64()?),
            rows: r.u64()?,
            position_bytes: r.u32()?,
            flags: r.u16()?,
            row_version: r.u16()?,
            part: r.u32()?,
        };
        if header.position_bytes as usize > POSITION_BYTES_MAX {
            return Err("its header's checksum does not match");
        }
        Ok(header)
    }

    /// Whether header and position (`bytes` holds exactly both) have the checksum that they name.
    pub(crate) fn is_intact(seed: Seed, bytes: &[u8]) -> bool {
        let (Some(named), Some(rest)) = (bytes.get(4..8), bytes.get(8..)) else { return false };
        crc32c::crc32c_append(seed.0, rest).to_le_bytes() == named
    }
}

/// What a segment says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) id: LogId,
    pub(crate) epoch: LogEpoch,
    pub(crate) first: Offset,
    pub(crate) durable: Offset,
    /// First offset and length of the segment before it; its own first offset and 0 in a log's first segment.
    pub(crate) previous: (Offset, u64),
    pub(crate) inside: bool,
    pub(crate) start: Position,
    pub(crate) schemas: Vec<Bytes>,
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut body = self.id.0.to_vec();
        for number in [self.epoch.0, self.first.0, self.durable.0, self.previous.0.0, self.previous.1] {
            body.extend_from_slice(&number.to_le_bytes());
        }
        body.push(u8::from(self.inside));
        put_str(&mut body, &self.start.to_string());
        put_u32(&mut body, self.schemas.len());
        for schema in &self.schemas {
            put_u32(&mut body, schema.len());
            body.extend_from_slice(schema);
        }
        seal(SEGMENT_MAGIC, &body)
    }

    pub(crate) fn decode(path: &Path, bytes: &[u8]) -> Result<Self> {
        let body = unseal(SEGMENT_MAGIC, path, bytes)?;
        Self::fields(body).map_err(|what| header_error(path, what))
    }

    fn fields(bytes: &[u8]) -> Result<Self, &'static str> {
        let mut r = Fields { bytes };
        let mut header = Self {
            id: LogId(r.array()?),
            epoch: LogEpoch(r.u64()?),
            first: Offset(r.u64()?),
            durable: Offset(r.u64()?),
            previous: (Offset(r.u64()?), r.u64()?),
            inside: r.array::<1>()?[0] != 0,
            start: r.position()?,
            schemas: Vec::new(),
        };
        for _ in 0..r.u32()? {
            let bytes = r.u32()? as usize;
            header.schemas.push(Bytes::copy_from_slice(r.take(bytes)?));
        }
        Ok(header)
    }
}

/// The file `LOG`: what is true of the whole log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) id: LogId,
    pub(crate) epoch: LogEpoch,
    /// The log's very first mark.
    pub(crate) start: Mark,
    /// Segments that begin before this are to be removed.
    pub(crate) trimmed: Offset,
    /// Everything before this is durable; it may be behind.
    pub(crate) durable: Offset,
    pub(crate) inherited: Vec<Inherited>,
}

impl Meta {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut body = self.id.0.to_vec();
        for number in [self.epoch.0, self.start.next.0, self.trimmed.0, self.durable.0] {
            body.extend_from_slice(&number.to_le_bytes());
        }
        put_str(&mut body, &self.start.position.to_string());
        put_u32(&mut body, self.inherited.len());
        for one in &self.inherited {
            put_str(&mut body, &one.sink);
            body.extend_from_slice(&one.checkpoint.epoch.0.to_le_bytes());
            body.extend_from_slice(&one.checkpoint.log_id.0);
            body.extend_from_slice(&one.checkpoint.mark.next.0.to_le_bytes());
            put_str(&mut body, &one.checkpoint.mark.position.to_string());
        }
        seal(LOG_MAGIC, &body)
    }

    pub(crate) fn decode(path: &Path, bytes: &[u8]) -> Result<Self> {
        let body = unseal(LOG_MAGIC, path, bytes)?;
        Self::fields(body).map_err(|what| header_error(path, what))
    }

    fn fields(bytes: &[u8]) -> Result<Self, &'static str> {
        let mut r = Fields { bytes };
        let (id, epoch, first) = (LogId(r.array()?), LogEpoch(r.u64()?), Offset(r.u64()?));
        let (trimmed, durable) = (Offset(r.u64()?), Offset(r.u64()?));
        let start = Mark { next: first, position: r.position()? };
        let mut inherited = Vec::new();
        for _ in 0..r.u32()? {
            let sink = r.str()?.to_owned();
            let (epoch, log_id, next) = (SinkEpoch(r.u64()?), LogId(r.array()?), Offset(r.u64()?));
            let mark = Mark { next, position: r.position()? };
            inherited.push(Inherited { sink, checkpoint: Checkpoint { epoch, log_id, mark } });
        }
        Ok(Self { id, epoch, start, trimmed, durable, inherited })
    }
}

fn seal(magic: [u8; 8], body: &[u8]) -> Vec<u8> {
    let mut out = magic.to_vec();
    out.extend_from_slice(&LOG_VERSION.to_le_bytes());
    out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    put_u32(&mut out, SEALED_HEAD_BYTES + body.len() + 4);
    out.extend_from_slice(body);
    let crc = crc32c::crc32c(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

/// Length of the sealed structure that begins with `head`; versions are checked first, for an unknown one may have
/// any layout.
pub(crate) fn sealed_bytes(path: &Path, head: &[u8]) -> Result<usize> {
    let mut r = Fields { bytes: head };
    let mut fields = || Ok::<_, &'static str>((r.array::<8>()?, r.u16()?, r.u16()?, r.u32()? as usize));
    let (magic, version, row_version, bytes) = fields().map_err(|what| header_error(path, what))?;
    if magic != SEGMENT_MAGIC && magic != LOG_MAGIC {
        return Err(header_error(path, "it is not a file of a log"));
    }
    check_versions(path, version, row_version)?;
    Ok(bytes)
}

fn check_versions(path: &Path, version: u16, row_version: u16) -> Result<()> {
    if version != LOG_VERSION {
        return Err(LogError::Version { path: path.to_owned(), found: version });
    }
    if row_version != FORMAT_VERSION {
        return Err(LogError::RowVersion { path: path.to_owned(), found: row_version });
    }
    Ok(())
}

fn unseal<'a>(magic: [u8; 8], path: &Path, bytes: &'a [u8]) -> Result<&'a [u8]> {
    let length = sealed_bytes(path, bytes)?;
    if !bytes.starts_with(&magic) {
        return Err(header_error(path, "it is another file of a log"));
    }
    let whole = bytes.get(..length).filter(|whole| whole.len() >= SEALED_HEAD_BYTES + 4);
    let whole = whole.ok_or_else(|| header_error(path, "it is cut short"))?;
    let (content, crc) = whole.split_at(length - 4);
    if crc32c::crc32c(content).to_le_bytes() != crc {
        return Err(header_error(path, "its checksum does not match"));
    }
    Ok(&content[SEALED_HEAD_BYTES..])
}

fn header_error(path: &Path, what: &str) -> LogError {
    LogError::Header { path: path.to_owned(), what: what.to_owned() }
}

fn put_u32(out: &mut Vec<u8>, length: usize) {
    let length = u32::try_from(length).expect("a header's parts are far below 4 GiB");
    out.extend_from_slice(&length.to_le_bytes());
}

fn put_str(out: &mut Vec<u8>, text: &str) {
    put_u32(out, text.len());
    out.extend_from_slice(text.as_bytes());
}

struct Fields<'a> {
    bytes: &'a [u8],
}

impl<'a> Fields<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], &'static str> {
        let (head, rest) = self.bytes.split_at_checked(n).ok_or("it is cut short")?;
        self.bytes = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], &'static str> {
        self.take(N)?.try_into().map_err(|_| "it is cut short")
    }

    fn u16(&mut self) -> Result<u16, &'static str> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, &'static str> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, &'static str> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn str(&mut self) -> Result<&'a str, &'static str> {
        let n = self.u32()? as usize;
        std::str::from_utf8(self.take(n)?).map_err(|_| "its text is not UTF-8")
    }

    fn position(&mut self) -> Result<Position, &'static str> {
        self.str()?.parse().map_err(|_| "its position cannot be read")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use freshet_core::ErrorKind;

    const ID: LogId = LogId([7; 16]);

    fn header() -> RecordHeader {
        RecordHeader {
            payload_crc: 0x0403_0201,
            payload_bytes: 5,
            offset: Offset(6),
            epoch: LogEpoch(2),
            durable: Offset(4),
            rows: 3,
            position_bytes: 2,
            flags: FLAG_COMMIT | FLAG_SCHEMAS,
            row_version: 1,
            part: 9,
        }
    }

    /// The layout of version 1 in bytes: whoever changes it has to change the version.
    #[test]
    fn o12_the_layout_of_a_record_is_fixed() {
        let mut bytes = Vec::new();
        header().encode(Seed::of(ID), "ab", &mut bytes);
        let numbers = |v: u64| v.to_le_bytes().to_vec();
        let expect = [
            b"\xf5REC".to_vec(),
            bytes[4..8].to_vec(),
            vec![1, 2, 3, 4, 5, 0, 0, 0],
            numbers(6),
            numbers(2),
            numbers(4),
            numbers(3),
            vec![2, 0, 0, 0, 5, 0, 1, 0, 9, 0, 0, 0, 0, 0, 0, 0],
            b"ab".to_vec(),
        ];
        assert_eq!(bytes, expect.concat());
        assert_eq!(RecordHeader::decode(&bytes), Ok(header()));
        assert!(RecordHeader::is_intact(Seed::of(ID), &bytes));
        assert!(!RecordHeader::is_intact(Seed::of(LogId([8; 16])), &bytes), "a record of another log");
        for at in 4..bytes.len() {
            bytes[at] ^= 1;
            // The payload's checksum is covered like everything else.
            assert!(!RecordHeader::is_intact(Seed::of(ID), &bytes), "byte {at}");
            bytes[at] ^= 1;
        }
    }

    fn position() -> Position {
        "binlog;s1;b.000001;4;mariadb;0-1-5".parse().expect("a position")
    }

    #[test]
    fn heads_round_trip_and_every_cut_and_flip_is_refused() {
        let mark = Mark { next: Offset(3), position: position() };
        let checkpoint = Checkpoint { epoch: SinkEpoch(4), log_id: ID, mark: mark.clone() };
        let inherited = vec![Inherited { sink: "a".into(), checkpoint }];
        let meta = Meta {
            id: ID,
            epoch: LogEpoch(1),
            start: mark,
            trimmed: Offset(3),
            durable: Offset(9),
            inherited,
        };
        let segment = SegmentHeader {
            id: ID,
            epoch: LogEpoch(1),
            first: Offset(3),
            durable: Offset(2),
            previous: (Offset(1), 99),
            inside: true,
            start: position(),
            schemas: vec![Bytes::from_static(b"x"), Bytes::new()],
        };
        let path = Path::new("f");
        assert_eq!(Meta::decode(path, &meta.encode()).expect("decodes"), meta);
        assert_eq!(SegmentHeader::decode(path, &segment.encode()).expect("decodes"), segment);
        assert!(Meta::decode(path, &segment.encode()).is_err(), "a segment is not LOG");
        let mut bytes = segment.encode();
        for at in 0..bytes.len() {
            assert!(SegmentHeader::decode(path, &bytes[..at]).is_err(), "cut at {at}");
            bytes[at] ^= 1;
            let refused = freshet_core::Error::from(SegmentHeader::decode(path, &bytes).expect_err("a flip"));
            let versions = 8..12;
            let kind = if versions.contains(&at) { ErrorKind::Unsupported } else { ErrorKind::Corrupt };
            assert_eq!(refused.kind(), &kind, "flip at {at}");
            bytes[at] ^= 1;
        }
    }
}
