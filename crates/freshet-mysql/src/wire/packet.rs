//! Cuts packets out of a read buffer: bytes in, borrowed payloads out, no IO and no allocation per packet.
//!
//! Sockets are elsewhere (`channel`). Format (manual page "MySQL Packets"): 3 bytes of payload length, 1 byte
//! of sequence number, payload; a payload of 0xFFFFFF bytes goes on in the next packet, and a shorter one,
//! possibly empty, ends it. Parts are joined in place: the header between two parts is closed up as soon as
//! it is read, which moves only the bytes that arrived behind it.
//!
//! Invariants: memory grows with the bytes that arrived, never with an announced length; a payload is limited
//! by [`PAYLOAD_BYTES_MAX`]; a range handed out stays valid until the next call of [`PacketBuffer::space`].

use std::ops::Range;

use super::error::WireError;

/// How much is read from a socket at a time, and the size that the buffer returns to.
pub const READ_BUFFER_BYTES: usize = 256 * 1024;

/// The largest payload: the servers' limit of `max_allowed_packet` (1 GiB) and room for an event's headers.
pub const PAYLOAD_BYTES_MAX: usize = (1 << 30) + (1 << 20);

/// The length of a packet part that is followed by another.
pub(crate) const PART_BYTES_MAX: usize = 0xFF_FFFF;

/// The length and sequence number before each part.
pub(crate) const HEADER_BYTES: usize = 4;

/// The packet that is being collected; its first header lies at `head`.
#[derive(Clone, Copy)]
struct Open {
    /// Announced so far, over all parts whose header was seen.
    payload_bytes: usize,
    /// Whether another part follows those.
    more: bool,
    /// Whether the first sequence number was the one expected.
    in_order: bool,
}

/// Received bytes, and how far they are consumed.
pub(crate) struct PacketBuffer {
    bytes: Vec<u8>,
    head: usize,
    open: Option<Open>,
    sequence: u8,
    payload_bytes_max: usize,
}

impl PacketBuffer {
    pub(crate) fn new() -> Self {
        Self::with_payload_max(PAYLOAD_BYTES_MAX)
    }

    pub(crate) fn with_payload_max(payload_bytes_max: usize) -> Self {
        let bytes = Vec::with_capacity(READ_BUFFER_BYTES);
        PacketBuffer { bytes, head: 0, open: None, sequence: 0, payload_bytes_max }
    }

    /// Whether no unconsumed byte is left.
    pub(crate) fn is_drained(&self) -> bool {
        self.head == self.bytes.len()
    }

    /// The sequence number that the next part must carry.
    pub(crate) fn sequence(&self) -> u8 {
        self.sequence
    }

    pub(crate) fn expect_sequence(&mut self, sequence: u8) {
        self.sequence = sequence;
    }

    /// The bytes of a range that [`PacketBuffer::next_packet`] gave.
    pub(crate) fn payload(&self, range: Range<usize>) -> &[u8] {
        &self.bytes[range]
    }

    /// Where the payload of the next packet lies, or `None` while it has not arrived entirely.
    ///
    /// A packet out of order is refused, unless it is an error of the server: those are sent unasked.
    pub(crate) fn next_packet(&mut self) -> Result<Option<Range<usize>>, WireError> {
        loop {
            let open = match self.open {
                Some(open) => open,
                None => match self.first_part()? {
                    Some(open) => open,
                    None => return Ok(None),
                },
            };
            let start = self.head + HEADER_BYTES;
            let end = start + open.payload_bytes;
            if !open.more && self.bytes.len() >= end {
                self.open = None;
                self.head = end;
                let out_of_order = !open.in_order && self.bytes.get(start) != Some(&0xFF);
                return if out_of_order { Err(OUT_OF_ORDER) } else { Ok(Some(start..end)) };
            }
            if !open.more || !self.join_part(open, end)? {
                return Ok(None);
            }
        }
    }

    fn first_part(&mut self) -> Result<Option<Open>, WireError> {
        let Some((length, sequence)) = self.header_at(self.head) else { return Ok(None) };
        let in_order = sequence == self.sequence;
        self.sequence = sequence.wrapping_add(1);
        let open = Open { payload_bytes: length, more: length == PART_BYTES_MAX, in_order };
        self.announce(open).map(Some)
    }

    /// Takes in the header of the part that begins at `end`; false while it has not arrived.
    fn join_part(&mut self, open: Open, end: usize) -> Result<bool, WireError> {
        let Some((length, sequence)) = self.header_at(end) else { return Ok(false) };
        if sequence != self.sequence {
            return Err(OUT_OF_ORDER);
        }
        self.sequence = sequence.wrapping_add(1);
        let payload_bytes = open.payload_bytes + length;
        self.announce(Open { payload_bytes, more: length == PART_BYTES_MAX, ..open })?;
        self.bytes.copy_within(end + HEADER_BYTES.., end);
        self.bytes.truncate(self.bytes.len() - HEADER_BYTES);
        Ok(true)
    }

    fn announce(&mut self, open: Open) -> Result<Open, WireError> {
        if open.payload_bytes > self.payload_bytes_max {
            return Err(WireError::TooLarge { what: "a packet", bytes_max: self.payload_bytes_max });
        }
        self.open = Some(open);
        Ok(open)
    }

    fn header_at(&self, at: usize) -> Option<(usize, u8)> {
        let [a, b, c, sequence] = *self.bytes.get(at..)?.first_chunk::<HEADER_BYTES>()?;
        Some((usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16, sequence))
    }

    /// The buffer, made ready to append what the next read brings: at least half of
    /// [`READ_BUFFER_BYTES`] are free. Ranges given before are no longer valid.
    pub(crate) fn space(&mut self) -> &mut Vec<u8> {
        let kept = self.bytes.len() - self.head;
        if self.bytes.capacity() > 4 * READ_BUFFER_BYTES && kept <= READ_BUFFER_BYTES && !self.expects_much()
        {
            let mut small = Vec::with_capacity(2 * READ_BUFFER_BYTES);
            small.extend_from_slice(&self.bytes[self.head..]);
            self.bytes = small;
            self.head = 0;
        } else if self.head > 0 && (kept == 0 || self.free() < READ_BUFFER_BYTES / 2) {
            self.bytes.copy_within(self.head.., 0);
            self.bytes.truncate(kept);
            self.head = 0;
        }
        if self.free() < READ_BUFFER_BYTES / 2 {
            self.bytes.reserve(READ_BUFFER_BYTES);
        }
        &mut self.bytes
    }

    fn free(&self) -> usize {
        self.bytes.capacity() - self.bytes.len()
    }

    fn expects_much(&self) -> bool {
        self.open.is_some_and(|open| open.payload_bytes > READ_BUFFER_BYTES)
    }
}

const OUT_OF_ORDER: WireError = WireError::protocol("packets come out of order");

#[cfg(test)]
#[path = "packet_tests.rs"]
mod tests;
