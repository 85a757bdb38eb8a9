//! TRANSACTION_PAYLOAD: a whole transaction's events in one, compressed; unpacked one inner event at a time.
//!
//! Memory is the largest inner event and one step of decompressed bytes, whatever the payload announces (P18). Inner
//! events have no checksum and no position. Format: MySQL source documentation, "Transaction_payload_event".

use std::ops::Range;

use zstd::stream::raw::{Decoder, InBuffer, Operation, OutBuffer};

use super::header::{HEADER_BYTES, Header};
use crate::values::reader::{Read, Reader, Short};

/// Bytes that are decompressed at a time.
const STEP_BYTES: usize = 64 * 1024;
/// The same where a large inner event is on its way.
const STEP_BYTES_MAX: usize = 1024 * 1024;

/// The unpacking of one payload. The payload's own bytes are handed in at every call.
pub(super) struct Payload {
    /// Where the compressed bytes begin in the event's body.
    data: Range<usize>,
    /// How much of them has been read.
    read: usize,
    unpack: Unpack,
    /// Unpacked bytes; those before `from` are used up.
    buffer: Vec<u8>,
    from: usize,
}

enum Unpack {
    Zstd(Decoder<'static>),
    Plain,
}

impl Payload {
    /// The payload of an event's body.
    pub(super) fn new(body: &[u8]) -> Read<Self> {
        const ZSTD: u64 = 0;
        const NONE: u64 = 255;
        let mut r = Reader::new(body);
        let (mut size, mut compression) = (None, NONE);
        loop {
            let field = r.packed()?;
            if field == 0 {
                break;
            }
            let mut value = Reader::new(r.packed_bytes()?);
            match field {
                1 => size = Some(value.packed_len()?),
                2 => compression = value.packed()?,
                _ => {}
            }
        }
        let start = body.len() - r.len();
        let end = size.map_or(Some(body.len()), |size| start.checked_add(size)).ok_or(Short)?;
        if end > body.len() {
            return Err(Short);
        }
        let unpack = match compression {
            ZSTD => Unpack::Zstd(Decoder::new().map_err(|_| Short)?),
            NONE => Unpack::Plain,
            _ => return Err(Short),
        };
        Ok(Payload { data: start..end, read: 0, unpack, buffer: Vec::new(), from: 0 })
    }

    /// Where the next inner event stands in [`Payload::bytes`]; `None` behind the last.
    pub(super) fn next(&mut self, body: &[u8]) -> Read<Option<Range<usize>>> {
        self.buffer.drain(..self.from);
        self.from = 0;
        loop {
            let missing = match Header::parse(&self.buffer) {
                Ok(header) => {
                    let bytes = usize::try_from(header.event_bytes).map_err(|_| Short)?;
                    if bytes < HEADER_BYTES {
                        return Err(Short);
                    }
                    if bytes <= self.buffer.len() {
                        self.from = bytes;
                        return Ok(Some(0..bytes));
                    }
                    bytes - self.buffer.len()
                }
                Err(Short) => HEADER_BYTES,
            };
            if !self.fill(body, missing)? {
                return if self.buffer.is_empty() { Ok(None) } else { Err(Short) };
            }
        }
    }

    /// The inner event that [`Payload::next`] found.
    pub(super) fn bytes(&self) -> &[u8] {
        self.buffer.get(..self.from).unwrap_or(&[])
    }

    /// Unpacks some more; `false` at the end.
    fn fill(&mut self, body: &[u8], missing: usize) -> Read<bool> {
        let step = STEP_BYTES.max(missing.min(STEP_BYTES_MAX));
        loop {
            let data = body.get(self.data.clone()).and_then(|data| data.get(self.read..)).ok_or(Short)?;
            let before = self.buffer.len();
            let read = match &mut self.unpack {
                Unpack::Plain => {
                    let piece = data.get(..step.min(data.len())).unwrap_or(&[]);
                    self.buffer.extend_from_slice(piece);
                    piece.len()
                }
                Unpack::Zstd(decoder) => unpack(decoder, data, &mut self.buffer, step)?,
            };
            self.read += read;
            if self.buffer.len() > before {
                return Ok(true);
            }
            // Bytes that yield nothing are a frame's beginning or end.
            if read == 0 {
                return Ok(false);
            }
        }
    }
}

/// Appends at most `room` unpacked bytes; gives the number of packed ones used.
fn unpack(decoder: &mut Decoder<'static>, data: &[u8], buffer: &mut Vec<u8>, room: usize) -> Read<usize> {
    let before = buffer.len();
    buffer.resize(before + room, 0);
    let mut input = InBuffer::around(data);
    let mut output = OutBuffer::around(buffer.get_mut(before..).ok_or(Short)?);
    let done = decoder.run(&mut input, &mut output);
    let (read, wrote) = (input.pos, output.pos());
    buffer.truncate(before + wrote);
    done.map_err(|_| Short)?;
    Ok(read)
}
