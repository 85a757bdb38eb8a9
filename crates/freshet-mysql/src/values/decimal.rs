//! DECIMAL: the server's packed digits as exact text.
//!
//! Format (MySQL internals, "Fixed-Point Types"): digits in groups of nine, four bytes big endian each, a shorter
//! group first (integer part) and last (fraction) in as many bytes as its digits need; the first bit is inverted,
//! and all bits of a negative value are. The text has the scale's trailing zeros, no leading ones but a single 0,
//! and no sign before a zero, as the server prints (M4).

/// Bytes that 0 to 9 digits take.
const DIGIT_BYTES: [usize; 10] = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4];
/// Bytes of the longest packed value, DECIMAL(65, s).
const PACKED_BYTES_MAX: usize = 34;
/// Sign, 65 digits, the point and a leading 0.
const TEXT_BYTES_MAX: usize = 68;
/// Most digits a DECIMAL has, and most of them behind the point (MariaDB: 38).
const PRECISION_MAX: u8 = 65;

/// The layout of one column's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecimalLayout {
    integer_digits: u8,
    fraction_digits: u8,
    bytes: u8,
}

impl DecimalLayout {
    /// DECIMAL(precision, scale); `None` if no server has such a column.
    pub fn new(precision: u8, scale: u8) -> Option<Self> {
        if precision == 0 || precision > PRECISION_MAX || scale > precision {
            return None;
        }
        let (integer_digits, fraction_digits) = (precision - scale, scale);
        let part = |digits: u8| usize::from(digits / 9) * 4 + DIGIT_BYTES[usize::from(digits % 9)];
        let bytes = part(integer_digits) + part(fraction_digits);
        Some(Self { integer_digits, fraction_digits, bytes: u8::try_from(bytes).ok()? })
    }

    /// Bytes that a value takes.
    #[inline]
    pub fn bytes(self) -> usize {
        usize::from(self.bytes)
    }

    /// The text of a packed value of exactly [`DecimalLayout::bytes`] bytes; `None` if it is none.
    pub fn text<'t>(self, packed: &[u8], out: &'t mut DecimalText) -> Option<&'t str> {
        let mut copy = [0u8; PACKED_BYTES_MAX];
        let value = copy.get_mut(..packed.len()).filter(|value| value.len() == self.bytes())?;
        value.copy_from_slice(packed);
        let first = value.first_mut()?;
        let is_negative = *first & 0x80 == 0;
        *first ^= 0x80;
        if is_negative {
            value.iter_mut().for_each(|byte| *byte = !*byte);
        }
        out.begin();
        let rest = self.integer_part(value, out)?;
        if self.fraction_digits > 0 {
            out.push(b'.');
            self.fraction(rest, out)?;
        }
        if out.is_damaged { None } else { Some(out.finish(is_negative)) }
    }

    fn integer_part<'v>(self, value: &'v [u8], out: &mut DecimalText) -> Option<&'v [u8]> {
        let short = usize::from(self.integer_digits % 9);
        let (head, mut rest) = value.split_at_checked(DIGIT_BYTES[short])?;
        out.digits(group(head), short);
        for _ in 0..self.integer_digits / 9 {
            let (head, tail) = rest.split_at_checked(4)?;
            out.digits(group(head), 9);
            rest = tail;
        }
        out.trim_zeros();
        Some(rest)
    }

    fn fraction(self, mut rest: &[u8], out: &mut DecimalText) -> Option<()> {
        for _ in 0..self.fraction_digits / 9 {
            let (head, tail) = rest.split_at_checked(4)?;
            out.digits(group(head), 9);
            rest = tail;
        }
        out.digits(group(rest), usize::from(self.fraction_digits % 9));
        Some(())
    }
}

#[inline]
fn group(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0u32, |n, byte| n << 8 | u32::from(*byte))
}

/// Room for the text of one value.
#[derive(Debug)]
pub struct DecimalText {
    bytes: [u8; TEXT_BYTES_MAX + 1],
    start: usize,
    len: usize,
    any: bool,
    is_damaged: bool,
}

impl Default for DecimalText {
    fn default() -> Self {
        Self { bytes: [0; TEXT_BYTES_MAX + 1], start: 1, len: 1, any: false, is_damaged: false }
    }
}

impl DecimalText {
    fn begin(&mut self) {
        // The first byte is kept for a sign.
        (self.start, self.len, self.any, self.is_damaged) = (1, 1, false, false);
    }

    #[inline]
    fn push(&mut self, byte: u8) {
        if let Some(slot) = self.bytes.get_mut(self.len) {
            *slot = byte;
            self.len += 1;
        }
    }

    #[inline]
    fn digits(&mut self, mut number: u32, count: usize) {
        self.any |= number != 0;
        let Some(slots) = self.bytes.get_mut(self.len..self.len + count) else { return };
        for slot in slots.iter_mut().rev() {
            *slot = b'0' + (number % 10) as u8;
            number /= 10;
        }
        self.is_damaged |= number != 0;
        self.len += count;
    }

    /// Takes leading zeros away and leaves one digit.
    fn trim_zeros(&mut self) {
        while self.start < self.len && self.bytes[self.start] == b'0' {
            self.start += 1;
        }
        if self.start == self.len {
            if self.start > 1 {
                self.start -= 1;
            } else {
                self.push(b'0');
            }
        }
    }

    fn finish(&mut self, is_negative: bool) -> &str {
        if is_negative && self.any {
            self.start -= 1;
            self.bytes[self.start] = b'-';
        }
        std::str::from_utf8(&self.bytes[self.start..self.len]).unwrap_or("0")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(precision: u8, scale: u8, packed: &[u8], expect: Option<&str>) {
        let layout = DecimalLayout::new(precision, scale).expect("a column");
        assert_eq!(layout.text(packed, &mut DecimalText::default()), expect);
    }

    #[test]
    fn m4_exact_text() {
        // The example of the internals manual: 1234567890.1234 as DECIMAL(14,4), and its negative.
        let positive = [0x81, 0x0D, 0xFB, 0x38, 0xD2, 0x04, 0xD2];
        check(14, 4, &positive, Some("1234567890.1234"));
        check(14, 4, &positive.map(|byte| !byte), Some("-1234567890.1234"));
        check(14, 4, &positive[..6], None);
        check(5, 0, &[0x80, 0, 0], Some("0"));
        check(5, 2, &[0x80, 0, 0], Some("0.00"));
        check(5, 2, &[0x7F, 0xFF, 0xFF], Some("0.00"));
        check(2, 2, &[0x80 | 5], Some("0.05"));
        check(2, 2, &[!(0x80 | 5)], Some("-0.05"));
        assert_eq!(DecimalLayout::new(0, 0), None);
        assert_eq!(DecimalLayout::new(66, 0), None);
        assert_eq!(DecimalLayout::new(5, 6), None);
    }

    #[test]
    fn m4_longest() {
        for precision in 1..=65 {
            for scale in 0..=precision {
                let layout = DecimalLayout::new(precision, scale).expect("a column");
                for fill in [0, 0x7F, 0x80, 0xFF] {
                    // Groups of more digits than they may have are no value; nothing leaves the text's room.
                    let text =
                        layout.text(&vec![fill; layout.bytes()], &mut DecimalText::default()).map(str::len);
                    assert!(text.is_none_or(|len| len <= TEXT_BYTES_MAX));
                }
            }
        }
    }
}
