//! A checked reader over borrowed bytes: every read says whether the bytes were there, none can panic.
//!
//! Little endian unless a name says otherwise. It allocates nothing and trusts no length that it reads.

/// The bytes ended before the value did, or a length is out of its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Short;

/// Result of a read.
pub type Read<T> = Result<T, Short>;

/// What is left to read.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident, $type:ty) => {
        $(#[$doc])*
        #[inline]
        pub fn $name(&mut self) -> Read<$type> {
            self.array().map(<$type>::from_le_bytes)
        }
    };
}

impl<'a> Reader<'a> {
    /// A reader at the beginning of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// Everything that is left.
    pub fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    /// Number of bytes left.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The next `n` bytes.
    #[inline]
    pub fn take(&mut self, n: usize) -> Read<&'a [u8]> {
        let (head, rest) = self.bytes.split_at_checked(n).ok_or(Short)?;
        self.bytes = rest;
        Ok(head)
    }

    /// The next `N` bytes.
    #[inline]
    pub fn array<const N: usize>(&mut self) -> Read<[u8; N]> {
        let (head, rest) = self.bytes.split_first_chunk::<N>().ok_or(Short)?;
        self.bytes = rest;
        Ok(*head)
    }

    number!(
        /// One byte.
        u8, u8
    );
    number!(
        /// Two bytes.
        u16, u16
    );
    number!(
        /// Four bytes.
        u32, u32
    );
    number!(
        /// Eight bytes.
        u64, u64
    );

    /// An unsigned number of 0 to 8 bytes.
    #[inline]
    pub fn uint(&mut self, bytes: usize) -> Read<u64> {
        let head = self.take(bytes)?;
        let mut full = [0u8; 8];
        full.get_mut(..bytes).ok_or(Short)?.copy_from_slice(head);
        Ok(u64::from_le_bytes(full))
    }

    /// An unsigned big-endian number of 0 to 8 bytes.
    #[inline]
    pub fn uint_be(&mut self, bytes: usize) -> Read<u64> {
        let head = self.take(bytes)?;
        let mut full = [0u8; 8];
        let from = 8usize.checked_sub(bytes).ok_or(Short)?;
        full.get_mut(from..).ok_or(Short)?.copy_from_slice(head);
        Ok(u64::from_be_bytes(full))
    }

    /// A length or number in the protocol's packed form; NULL (0xFB) and 0xFF are none.
    pub fn packed(&mut self) -> Read<u64> {
        match self.u8()? {
            0xFB | 0xFF => Err(Short),
            0xFC => self.uint(2),
            0xFD => self.uint(3),
            0xFE => self.u64(),
            small => Ok(u64::from(small)),
        }
    }

    /// A packed number that counts bytes or things in memory.
    pub fn packed_len(&mut self) -> Read<usize> {
        usize::try_from(self.packed()?).map_err(|_| Short)
    }

    /// Bytes after their packed length.
    pub fn packed_bytes(&mut self) -> Read<&'a [u8]> {
        let n = self.packed_len()?;
        self.take(n)
    }

    /// Bytes after a length of 0 to 8 bytes.
    #[inline]
    pub fn prefixed(&mut self, length_bytes: usize) -> Read<&'a [u8]> {
        let n = usize::try_from(self.uint(length_bytes)?).map_err(|_| Short)?;
        self.take(n)
    }

    /// Bytes up to and without the next 0, which is passed over.
    pub fn until_zero(&mut self) -> Read<&'a [u8]> {
        let n = self.bytes.iter().position(|b| *b == 0).ok_or(Short)?;
        let head = self.take(n)?;
        self.take(1)?;
        Ok(head)
    }
}

/// Whether bit `at` of a bitmap (lowest bit first) is set; a bit beyond its end is not.
#[inline]
pub fn bit(bitmap: &[u8], at: usize) -> bool {
    bitmap.get(at / 8).is_some_and(|byte| byte >> (at % 8) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_are_checked() {
        let mut r = Reader::new(&[1, 2, 3, 0xFC, 5, 0, b'a', 0, 9]);
        assert_eq!(r.u16(), Ok(0x0201));
        assert_eq!(r.uint_be(1), Ok(3));
        assert_eq!(r.packed(), Ok(5));
        assert_eq!(r.until_zero(), Ok(&b"a"[..]));
        assert_eq!(r.until_zero(), Err(Short));
        assert_eq!(r.u32(), Err(Short));
        assert_eq!((r.uint(9), r.uint_be(9)), (Err(Short), Err(Short)));
        assert_eq!((r.take(1), r.is_empty()), (Ok(&[9][..]), true));
        assert!(bit(&[0b100], 2) && !bit(&[0b100], 1) && !bit(&[], 0));
    }
}
