//! Walks the records of one segment file up to a limit, in large reads, and hands out slices of what it read.
//!
//! It judges only what it sees (lengths, checksums): what a bad record means is decided by recovery, the reader and
//! the inspection, each for itself. Bytes beyond the limit are never read, since they may still change.

use crate::bounds::RECORD_BYTES_MAX;
use crate::error::{LogError, Result};
use crate::files::{read_segment_header, segment_path};
use crate::format::{RECORD_HEADER_BYTES, RecordHeader, Seed, SegmentHeader};
use bytes::Bytes;
use freshet_core::codec::FORMAT_VERSION;
use freshet_core::{Offset, Position};
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// A record whose header and position are intact.
#[derive(Clone, Debug)]
pub(crate) struct Framed {
    pub(crate) header: RecordHeader,
    /// Byte at which the record begins.
    pub(crate) at: u64,
    /// Byte after it.
    pub(crate) end: u64,
    position: Bytes,
}

impl Framed {
    pub(crate) fn next(&self) -> Offset {
        self.header.offset.next()
    }

    /// The position after its last commit, if it ends at one.
    pub(crate) fn position(&self) -> Result<Option<Position>, &'static str> {
        if !self.header.is(crate::format::FLAG_COMMIT) {
            return Ok(None);
        }
        let text = std::str::from_utf8(&self.position).map_err(|_| "its position is not UTF-8")?;
        text.parse().map(Some).map_err(|_| "its position cannot be read")
    }
}

/// What stands where the cursor is.
#[derive(Debug)]
pub(crate) enum Step {
    Record(Framed),
    End,
    Bad(&'static str),
}

#[derive(Debug)]
pub(crate) struct Cursor {
    file: File,
    path: PathBuf,
    pub(crate) header: SegmentHeader,
    seed: Seed,
    /// Byte at which the next record begins.
    pub(crate) at: u64,
    limit: u64,
    /// Offset that the next record must have.
    pub(crate) next: Offset,
    read_bytes: usize,
    buffer: Bytes,
    buffer_at: u64,
}

impl Cursor {
    /// A cursor at the first record of the segment that begins at `first`, reading `read_bytes` at a time.
    pub(crate) fn open(dir: &Path, first: Offset, read_bytes: usize) -> Result<Self> {
        let path = segment_path(dir, first);
        let mut file = File::open(&path).map_err(LogError::io("open", &path))?;
        let (header, at) = read_segment_header(&path, &mut file)?;
        if header.first != first {
            let what = format!("it says that it begins at offset {}", header.first);
            return Err(LogError::Header { path, what });
        }
        let limit = file.metadata().map_err(LogError::io("look at", &path))?.len();
        let (seed, next) = (Seed::of(header.id), header.first);
        Ok(Self { file, path, header, seed, at, limit, next, read_bytes, buffer: Bytes::new(), buffer_at: 0 })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// Sets the byte beyond which nothing is read.
    pub(crate) fn set_limit(&mut self, limit: u64) {
        assert!(self.at <= limit, "a limit is never before what was read");
        self.limit = limit;
    }

    /// Lets it read to the end of a file that grows no more.
    pub(crate) fn set_limit_to_file(&mut self) -> Result<()> {
        let length = self.file.metadata().map_err(LogError::io("look at", &self.path))?.len();
        self.set_limit(length);
        Ok(())
    }

    pub(crate) fn set_read_bytes(&mut self, read_bytes: usize) {
        self.read_bytes = read_bytes;
    }

    /// Looks at the record here, without moving and without looking at its payload.
    pub(crate) fn step(&mut self) -> Result<Step> {
        if self.at == self.limit {
            return Ok(Step::End);
        }
        match self.frame_at(self.at)? {
            Ok(framed) if framed.header.offset != self.next => Ok(Step::Bad("it is not the next offset")),
            Ok(framed) => Ok(Step::Record(framed)),
            Err(what) => Ok(Step::Bad(what)),
        }
    }

    /// The record whose header begins at byte `at`, whatever its offset.
    pub(crate) fn frame_at(&mut self, at: u64) -> Result<Result<Framed, &'static str>> {
        let Some(fixed) = self.view(at, RECORD_HEADER_BYTES)? else { return Ok(Err("it is cut short")) };
        let header = match RecordHeader::decode(&fixed) {
            Ok(header) => header,
            Err(what) => return Ok(Err(what)),
        };
        let head_bytes = RECORD_HEADER_BYTES + header.position_bytes as usize;
        let Some(head) = self.view(at, head_bytes)? else { return Ok(Err("it is cut short")) };
        if !RecordHeader::is_intact(self.seed, &head) {
            return Ok(Err("its header's checksum does not match"));
        }
        if header.row_version != FORMAT_VERSION {
            return Err(LogError::RowVersion { path: self.path.clone(), found: header.row_version });
        }
        let end = at + header.record_bytes();
        if end > self.limit || header.payload_bytes as usize > RECORD_BYTES_MAX {
            return Ok(Err("it is cut short"));
        }
        Ok(Ok(Framed { header, at, end, position: head.slice(RECORD_HEADER_BYTES..) }))
    }

    /// Payload of the record, or `None` if its checksum does not match.
    pub(crate) fn payload(&mut self, framed: &Framed) -> Result<Option<Bytes>> {
        let bytes = framed.header.payload_bytes as usize;
        let payload = self.view(framed.end - bytes as u64, bytes)?;
        Ok(payload.filter(|payload| crc32c::crc32c(payload) == framed.header.payload_crc))
    }

    /// Moves past the record.
    pub(crate) fn advance(&mut self, framed: &Framed) {
        assert!(framed.at == self.at && framed.header.offset == self.next, "records are passed in order");
        self.at = framed.end;
        self.next = framed.next();
    }

    /// The next place at or after `at` where the bytes of a record's magic stand.
    pub(crate) fn find_magic(&mut self, mut at: u64) -> Result<Option<u64>> {
        let magic = crate::format::RECORD_MAGIC;
        while at + RECORD_HEADER_BYTES as u64 <= self.limit {
            let bytes = (self.limit - at).min(self.read_bytes as u64) as usize;
            let Some(view) = self.view(at, bytes)? else { return Ok(None) };
            if let Some(found) = view.windows(magic.len()).position(|window| window == magic) {
                return Ok(Some(at + found as u64));
            }
            at += (bytes - magic.len() + 1) as u64;
        }
        Ok(None)
    }

    /// The error for something wrong at the record here.
    pub(crate) fn damaged(&self, what: impl Into<String>) -> LogError {
        LogError::Damaged { path: self.path.clone(), offset: self.next, byte: self.at, what: what.into() }
    }

    /// `bytes` bytes from byte `at`, or `None` if the file or the limit ends before.
    fn view(&mut self, at: u64, bytes: usize) -> Result<Option<Bytes>> {
        if at + bytes as u64 > self.limit {
            return Ok(None);
        }
        let from = at.checked_sub(self.buffer_at).map(|from| from as usize);
        if let Some(from) = from.filter(|from| from + bytes <= self.buffer.len()) {
            return Ok(Some(self.buffer.slice(from..from + bytes)));
        }
        let wanted = (self.limit - at).min(bytes.max(self.read_bytes) as u64) as usize;
        let mut buffer = vec![0; wanted];
        let mut filled = 0;
        while filled < wanted {
            let read = self.file.read_at(&mut buffer[filled..], at + filled as u64);
            match read {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(LogError::io("read", &self.path)(e)),
            }
        }
        buffer.truncate(filled);
        (self.buffer, self.buffer_at) = (Bytes::from(buffer), at);
        Ok((bytes <= filled).then(|| self.buffer.slice(..bytes)))
    }
}
