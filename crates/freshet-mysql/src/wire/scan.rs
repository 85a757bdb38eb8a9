//! A checked cursor over the bytes of one packet: integers, strings and the length-encoded forms of the protocol.
//!
//! It reads only; nothing is allocated and nothing panics, whatever the bytes are. Formats: manual pages
//! "Integer Types" and "String Types" of the MySQL client/server protocol (little-endian throughout).

use super::error::WireError;

/// The unread rest of a packet.
#[derive(Clone, Copy)]
pub(crate) struct Scan<'a> {
    rest: &'a [u8],
}

impl<'a> Scan<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Scan { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Everything not read yet.
    pub(crate) fn rest(self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or_else(|| WireError::protocol("a packet ends too early"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (taken, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or_else(|| WireError::protocol("a packet ends too early"))?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, WireError> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, WireError> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u24(&mut self) -> Result<u32, WireError> {
        self.array::<3>().map(|[a, b, c]| u32::from_le_bytes([a, b, c, 0]))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, WireError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, WireError> {
        self.array().map(u64::from_le_bytes)
    }

    /// A string that ends at a zero byte; the zero is skipped.
    pub(crate) fn until_zero(&mut self) -> Result<&'a [u8], WireError> {
        let length = self.rest.iter().position(|byte| *byte == 0);
        let text = self.take(length.ok_or_else(|| WireError::protocol("a string has no end"))?)?;
        self.take(1)?;
        Ok(text)
    }

    /// A length-encoded integer; `None` is the NULL marker 0xFB of text rows.
    fn length_or_null(&mut self) -> Result<Option<u64>, WireError> {
        Ok(Some(match self.u8()? {
            0xFB => return Ok(None),
            0xFC => u64::from(self.u16()?),
            0xFD => u64::from(self.u24()?),
            0xFE => self.u64()?,
            0xFF => return Err(WireError::protocol("a length starts with 0xFF")),
            short => u64::from(short),
        }))
    }

    pub(crate) fn length(&mut self) -> Result<u64, WireError> {
        self.length_or_null()?.ok_or_else(|| WireError::protocol("a length is NULL"))
    }

    /// A length-encoded string, or `None` for NULL.
    pub(crate) fn string_or_null(&mut self) -> Result<Option<&'a [u8]>, WireError> {
        let Some(length) = self.length_or_null()? else { return Ok(None) };
        let length = usize::try_from(length).map_err(|_| WireError::protocol("a string is too long"))?;
        self.take(length).map(Some)
    }

    /// A length-encoded string.
    pub(crate) fn string(&mut self) -> Result<&'a [u8], WireError> {
        self.string_or_null()?.ok_or_else(|| WireError::protocol("a string is NULL"))
    }
}

/// Appends a length-encoded integer.
pub(crate) fn put_length(out: &mut Vec<u8>, length: usize) {
    let bytes = (length as u64).to_le_bytes();
    match length {
        0..=0xFA => out.push(bytes[0]),
        0xFB..=0xFFFF => {
            out.push(0xFC);
            out.extend_from_slice(&bytes[..2]);
        }
        0x1_0000..=0xFF_FFFF => {
            out.push(0xFD);
            out.extend_from_slice(&bytes[..3]);
        }
        _ => {
            out.push(0xFE);
            out.extend_from_slice(&bytes);
        }
    }
}

/// Appends a length-encoded string.
pub(crate) fn put_string(out: &mut Vec<u8>, text: &[u8]) {
    put_length(out, text.len());
    out.extend_from_slice(text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn lengths_come_back(length in prop_oneof![0usize..0x200, 0xFFF0usize..0x1_0010, any::<usize>()]) {
            let mut out = Vec::new();
            put_length(&mut out, length);
            let mut scan = Scan::new(&out);
            prop_assert_eq!(scan.length().unwrap(), length as u64);
            prop_assert!(scan.is_empty());
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let mut scan = Scan::new(&bytes);
            while scan.string_or_null().is_ok() && !scan.is_empty() {}
            let _ = Scan::new(&bytes).until_zero();
        }
    }
}
