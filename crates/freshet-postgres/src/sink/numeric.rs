//! PostgreSQL's binary `numeric`: digits in base 10,000, written straight from decimal text or an integer.
//!
//! Layout, big endian: number of digits u16, weight of the first i16 (in groups), sign u16, digits after the point
//! u16, then the digits, u16 each. The server strips zeros at either end and has no negative zero (M4).

const SIGN_NEGATIVE: u16 = 0x4000;
const SIGN_NAN: u16 = 0xC000;
const SIGN_INFINITY: u16 = 0xD000;
const SIGN_NEG_INFINITY: u16 = 0xF000;
const HEADER_BYTES: usize = 8;

/// Appends a cell of decimal text: `-`? digits (`.` digits)?, `NaN`, `Infinity`, `-Infinity`. `None`, and `out` is
/// to be given up, if it is none of these or too long for the format.
pub(crate) fn push_text(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let special = match text {
        b"NaN" => Some(SIGN_NAN),
        b"Infinity" => Some(SIGN_INFINITY),
        b"-Infinity" => Some(SIGN_NEG_INFINITY),
        _ => None,
    };
    if let Some(sign) = special {
        out.extend_from_slice(&(HEADER_BYTES as i32).to_be_bytes());
        header(out, 0, 0, sign, 0);
        return Some(());
    }
    let (sign, text) = match text.split_first() {
        Some((b'-', rest)) => (SIGN_NEGATIVE, rest),
        _ => (0, text),
    };
    let point = text.iter().position(|b| *b == b'.');
    let (whole, part) = match point {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, &[][..]),
    };
    if whole.is_empty() && part.is_empty() || point.is_some() && part.is_empty() {
        return None;
    }
    let zeros = whole.iter().take_while(|b| **b == b'0').count();
    let whole = &whole[zeros..];
    let (head, groups) = (whole.len() % 4, whole.len().div_ceil(4));
    let count = groups + part.len().div_ceil(4);
    out.extend_from_slice(&((HEADER_BYTES + 2 * count) as i32).to_be_bytes());
    let weight = if groups == 0 { -1 } else { i16::try_from(groups - 1).ok()? };
    header(out, u16::try_from(count).ok()?, weight, sign, u16::try_from(part.len()).ok()?);
    let (first, rest) = whole.split_at(head);
    if !first.is_empty() {
        group(first, 0, out)?;
    }
    for digits in rest.chunks(4) {
        group(digits, 0, out)?;
    }
    for digits in part.chunks(4) {
        group(digits, 4 - digits.len(), out)?;
    }
    Some(())
}

/// Appends a cell of an integer.
pub(crate) fn push_int(negative: bool, magnitude: u64, out: &mut Vec<u8>) {
    let mut groups = [0u16; 5];
    let (mut rest, mut count) = (magnitude, 0);
    while rest > 0 {
        groups[count] = (rest % 10_000) as u16;
        rest /= 10_000;
        count += 1;
    }
    out.extend_from_slice(&((HEADER_BYTES + 2 * count) as i32).to_be_bytes());
    let weight = (count as i16 - 1).max(0);
    header(out, count as u16, weight, if negative { SIGN_NEGATIVE } else { 0 }, 0);
    for digits in groups[..count].iter().rev() {
        out.extend_from_slice(&digits.to_be_bytes());
    }
}

fn header(out: &mut Vec<u8>, count: u16, weight: i16, sign: u16, scale: u16) {
    out.extend_from_slice(&count.to_be_bytes());
    out.extend_from_slice(&weight.to_be_bytes());
    out.extend_from_slice(&sign.to_be_bytes());
    out.extend_from_slice(&scale.to_be_bytes());
}

/// Up to four digits, followed by so many zeros.
#[inline]
fn group(digits: &[u8], zeros: usize, out: &mut Vec<u8>) -> Option<()> {
    let mut value = 0u16;
    for digit in digits {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + u16::from(digit);
    }
    for _ in 0..zeros {
        value *= 10;
    }
    out.extend_from_slice(&value.to_be_bytes());
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Option<Vec<u16>> {
        let mut out = Vec::new();
        push_text(text.as_bytes(), &mut out)?;
        assert_eq!(out[..4], (out.len() as i32 - 4).to_be_bytes());
        Some(out[4..].chunks(2).map(|b| u16::from_be_bytes([b[0], b[1]])).collect())
    }

    #[test]
    fn m4_g3_decimal_text() {
        assert_eq!(words("0"), Some(vec![0, 65535, 0, 0]));
        assert_eq!(words("12345.678900"), Some(vec![4, 1, 0, 6, 1, 2345, 6789, 0]));
        assert_eq!(words("-0012.5"), Some(vec![2, 0, SIGN_NEGATIVE, 1, 12, 5000]));
        assert_eq!(words("0.00001"), Some(vec![2, 65535, 0, 5, 0, 1000]));
        assert_eq!(words("NaN"), Some(vec![0, 0, SIGN_NAN, 0]));
        let longest = words(&"9".repeat(131_072)).map(|words| words[..3].to_vec());
        assert_eq!(longest, Some(vec![32_768, 32_767, 0]));
        assert_eq!(words(&"9".repeat(131_073)), None);
        for bad in ["", "-", ".", "1.", "1e5", "1.2.3", "+1", " 1"] {
            assert_eq!(words(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn m2_integers() {
        let mut out = Vec::new();
        push_int(false, u64::MAX, &mut out);
        let words: Vec<u16> = out[4..].chunks(2).map(|b| u16::from_be_bytes([b[0], b[1]])).collect();
        assert_eq!(words, vec![5, 4, 0, 0, 1844, 6744, 737, 955, 1615]);
    }
}
