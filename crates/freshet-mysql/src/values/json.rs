//! MySQL's binary JSON as the text that the server prints (M15).
//!
//! Format: the comment in MySQL's `json_binary.h`. A document is a type byte and a value; objects and arrays hold
//! offsets from their own beginning. Offsets may point anywhere in a damaged document, also at each other, so the
//! walk has a depth and a budget: a document in which every byte is visited once is within it.
//! Keys stand in the stored order, which is the printed one; nothing is sorted or dropped here.

use std::fmt::Write;

use super::decimal::{DecimalLayout, DecimalText};
use super::reader::{Read, Reader, Short};

/// The server allows 100 levels.
const DEPTH_MAX: u8 = 101;

mod tag {
    pub(super) const SMALL_OBJECT: u8 = 0;
    pub(super) const LARGE_OBJECT: u8 = 1;
    pub(super) const SMALL_ARRAY: u8 = 2;
    pub(super) const LARGE_ARRAY: u8 = 3;
    pub(super) const LITERAL: u8 = 4;
    pub(super) const INT16: u8 = 5;
    pub(super) const UINT16: u8 = 6;
    pub(super) const INT32: u8 = 7;
    pub(super) const UINT32: u8 = 8;
    pub(super) const INT64: u8 = 9;
    pub(super) const UINT64: u8 = 10;
    pub(super) const DOUBLE: u8 = 11;
    pub(super) const STRING: u8 = 12;
    pub(super) const OPAQUE: u8 = 15;
}

/// Column types that an opaque value may have (manual: "Field Types").
mod field {
    pub(super) const TIMESTAMP: u8 = 7;
    pub(super) const DATE: u8 = 10;
    pub(super) const TIME: u8 = 11;
    pub(super) const DATETIME: u8 = 12;
    pub(super) const DECIMAL: u8 = 246;
}

/// Appends the text of a document. An empty one is `null`, as the server reads it.
pub fn print(document: &[u8], out: &mut String, decimal: &mut DecimalText) -> Read<()> {
    let Some((tag, value)) = document.split_first() else {
        out.push_str("null");
        return Ok(());
    };
    let mut printer = Printer { out, decimal, budget: document.len() + 1 };
    printer.value(*tag, value, DEPTH_MAX)
}

struct Printer<'o> {
    out: &'o mut String,
    decimal: &'o mut DecimalText,
    /// Bytes that may still be visited.
    budget: usize,
}

/// An object or array: its bytes from its count on, and the width of its numbers.
#[derive(Clone, Copy)]
struct Container<'a> {
    bytes: &'a [u8],
    is_large: bool,
}

impl<'a> Container<'a> {
    fn number(self, r: &mut Reader<'_>) -> Read<usize> {
        let n = if self.is_large { r.u32()? } else { u32::from(r.u16()?) };
        usize::try_from(n).map_err(|_| Short)
    }

    fn begin(bytes: &'a [u8], is_large: bool) -> Read<(Self, usize, Reader<'a>)> {
        let whole = Container { bytes, is_large };
        let mut r = Reader::new(bytes);
        let (count, size) = (whole.number(&mut r)?, whole.number(&mut r)?);
        let bytes = bytes.get(..size).ok_or(Short)?;
        let header = if is_large { 8 } else { 4 };
        let entries = Reader::new(bytes.get(header..).ok_or(Short)?);
        Ok((Container { bytes, is_large }, count, entries))
    }

    fn is_inline(self, tag: u8) -> bool {
        match tag {
            tag::LITERAL | tag::INT16 | tag::UINT16 => true,
            tag::INT32 | tag::UINT32 => self.is_large,
            _ => false,
        }
    }
}

impl Printer<'_> {
    fn spend(&mut self, bytes: usize) -> Read<()> {
        self.budget = self.budget.checked_sub(bytes).ok_or(Short)?;
        Ok(())
    }

    fn value(&mut self, tag: u8, bytes: &[u8], depth: u8) -> Read<()> {
        match tag {
            tag::SMALL_OBJECT => self.object(bytes, false, depth),
            tag::LARGE_OBJECT => self.object(bytes, true, depth),
            tag::SMALL_ARRAY => self.array(bytes, false, depth),
            tag::LARGE_ARRAY => self.array(bytes, true, depth),
            tag::STRING => {
                let text = std::str::from_utf8(variable(&mut Reader::new(bytes))?).map_err(|_| Short)?;
                self.string(text)
            }
            tag::OPAQUE => self.opaque(bytes),
            _ => self.scalar(tag, &mut Reader::new(bytes)),
        }
    }

    fn scalar(&mut self, tag: u8, r: &mut Reader<'_>) -> Read<()> {
        let done = match tag {
            tag::LITERAL => self.out.write_str(match r.u8()? {
                0 => "null",
                1 => "true",
                2 => "false",
                _ => return Err(Short),
            }),
            tag::INT16 => write!(self.out, "{}", r.u16()? as i16),
            tag::UINT16 => write!(self.out, "{}", r.u16()?),
            tag::INT32 => write!(self.out, "{}", r.u32()? as i32),
            tag::UINT32 => write!(self.out, "{}", r.u32()?),
            tag::INT64 => write!(self.out, "{}", r.u64()? as i64),
            tag::UINT64 => write!(self.out, "{}", r.u64()?),
            tag::DOUBLE => return double(f64::from_bits(r.u64()?), self.out),
            _ => return Err(Short),
        };
        done.map_err(|_| Short)
    }

    fn array(&mut self, bytes: &[u8], is_large: bool, depth: u8) -> Read<()> {
        let depth = depth.checked_sub(1).ok_or(Short)?;
        let (container, count, mut entries) = Container::begin(bytes, is_large)?;
        self.out.push('[');
        for at in 0..count {
            if at > 0 {
                self.out.push_str(", ");
            }
            self.entry(container, &mut entries, depth)?;
        }
        self.out.push(']');
        Ok(())
    }

    fn object(&mut self, bytes: &[u8], is_large: bool, depth: u8) -> Read<()> {
        let depth = depth.checked_sub(1).ok_or(Short)?;
        let (container, count, mut keys) = Container::begin(bytes, is_large)?;
        let key_bytes = count.checked_mul(if is_large { 6 } else { 4 }).ok_or(Short)?;
        let mut entries = Reader::new(keys.rest().get(key_bytes..).ok_or(Short)?);
        self.out.push('{');
        for at in 0..count {
            if at > 0 {
                self.out.push_str(", ");
            }
            let (offset, length) = (container.number(&mut keys)?, usize::from(keys.u16()?));
            let key = container.bytes.get(offset..).and_then(|rest| rest.get(..length)).ok_or(Short)?;
            self.string(std::str::from_utf8(key).map_err(|_| Short)?)?;
            self.out.push_str(": ");
            self.entry(container, &mut entries, depth)?;
        }
        self.out.push('}');
        Ok(())
    }

    fn entry(&mut self, container: Container<'_>, entries: &mut Reader<'_>, depth: u8) -> Read<()> {
        let width = if container.is_large { 4 } else { 2 };
        self.spend(1 + width)?;
        let tag = entries.u8()?;
        if container.is_inline(tag) {
            return self.scalar(tag, &mut Reader::new(entries.take(width)?));
        }
        let offset = container.number(entries)?;
        self.value(tag, container.bytes.get(offset..).ok_or(Short)?, depth)
    }

    fn string(&mut self, text: &str) -> Read<()> {
        self.spend(text.len())?;
        quote(text, self.out);
        Ok(())
    }

    fn opaque(&mut self, bytes: &[u8]) -> Read<()> {
        let mut r = Reader::new(bytes);
        let field = r.u8()?;
        let data = variable(&mut r)?;
        self.spend(data.len())?;
        match field {
            field::DECIMAL => self.opaque_decimal(data),
            field::DATE | field::DATETIME | field::TIMESTAMP | field::TIME => {
                let packed = Reader::new(data).u64()? as i64;
                self.out.push('"');
                temporal(field, packed, self.out).map_err(|_| Short)?;
                self.out.push('"');
                Ok(())
            }
            other => {
                write!(self.out, "\"base64:type{other}:").map_err(|_| Short)?;
                base64(data, self.out);
                self.out.push('"');
                Ok(())
            }
        }
    }

    fn opaque_decimal(&mut self, data: &[u8]) -> Read<()> {
        let mut r = Reader::new(data);
        let layout = DecimalLayout::new(r.u8()?, r.u8()?).ok_or(Short)?;
        let text = layout.text(r.rest(), self.decimal).ok_or(Short)?;
        self.out.push_str(text);
        Ok(())
    }
}

/// Bytes behind a length of 7 bits a byte, the lowest first.
fn variable<'a>(r: &mut Reader<'a>) -> Read<&'a [u8]> {
    let mut length = 0u64;
    for shift in [0, 7, 14, 21, 28] {
        let byte = r.u8()?;
        length |= u64::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return r.take(usize::try_from(length).map_err(|_| Short)?);
        }
    }
    Err(Short)
}

/// A packed date, datetime (17 bits year * 13 + month, 5 day, 5, 6, 6, 24 microsecond) or time (hour 10 bits).
fn temporal(field: u8, packed: i64, out: &mut String) -> std::fmt::Result {
    let sign = if packed < 0 { "-" } else { "" };
    let magnitude = packed.unsigned_abs();
    let (micros, n) = (magnitude & 0xFF_FFFF, magnitude >> 24);
    let (minute, second) = (n >> 6 & 63, n & 63);
    if field == field::TIME {
        return write!(out, "{sign}{:02}:{minute:02}:{second:02}.{micros:06}", n >> 12 & 0x3FF);
    }
    let (year_month, day) = (n >> 22, n >> 17 & 31);
    write!(out, "{sign}{:04}-{:02}-{day:02}", year_month / 13, year_month % 13)?;
    if field == field::DATE {
        return Ok(());
    }
    write!(out, " {:02}:{minute:02}:{second:02}.{micros:06}", n >> 12 & 31)
}

fn quote(text: &str, out: &mut String) {
    out.push('"');
    let mut rest = text;
    while let Some(at) = rest.bytes().position(|b| b < 0x20 || b == b'"' || b == b'\\') {
        let (plain, special) = rest.split_at(at);
        out.push_str(plain);
        let byte = special.as_bytes().first().copied().unwrap_or_default();
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            0x08 => out.push_str("\\b"),
            b'\t' => out.push_str("\\t"),
            b'\n' => out.push_str("\\n"),
            0x0C => out.push_str("\\f"),
            b'\r' => out.push_str("\\r"),
            other => {
                out.push_str("\\u00");
                for nibble in [other >> 4, other & 15] {
                    out.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
                }
            }
        }
        rest = special.get(1..).unwrap_or("");
    }
    out.push_str(rest);
    out.push('"');
}

/// In lines of 76 characters, whose ends the printed string shows as `\n`.
fn base64(data: &[u8], out: &mut String) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const LINE_BYTES: usize = 57;
    for (at, line) in data.chunks(LINE_BYTES).enumerate() {
        if at > 0 {
            out.push_str("\\n");
        }
        for group in line.chunks(3) {
            let n = group.iter().fold(0u32, |n, b| n << 8 | u32::from(*b)) << (8 * (3 - group.len()));
            for place in 0..4 {
                let digit = (n >> (18 - 6 * place) & 63) as usize;
                out.push(if place <= group.len() { char::from(DIGITS[digit]) } else { '=' });
            }
        }
    }
}

/// The shortest digits that read back as the same number; without exponent while the decimal point stands at most
/// 15 digits away from either end, as the server decides.
fn double(value: f64, out: &mut String) -> Read<()> {
    const POINT_MAX: i32 = 15;
    if !value.is_finite() {
        return Err(Short);
    }
    let mut text = Small::default();
    write!(text, "{:e}", value.abs()).map_err(|_| Short)?;
    let (mantissa, exponent) = text.as_str().split_once('e').ok_or(Short)?;
    let point = exponent.parse::<i32>().map_err(|_| Short)? + 1;
    if value.is_sign_negative() {
        out.push('-');
    }
    let digits = mantissa.bytes().filter(u8::is_ascii_digit).map(char::from);
    let count = digits.clone().count() as i32;
    if value == 0.0 {
        out.push_str("0.0");
    } else if !(1 - POINT_MAX..=POINT_MAX).contains(&point) {
        out.push_str(text.as_str());
    } else if point <= 0 {
        out.push_str("0.");
        out.extend(std::iter::repeat_n('0', point.unsigned_abs() as usize));
        out.extend(digits);
    } else {
        let zeros = std::iter::repeat_n('0', (point - count).max(0) as usize);
        for (at, digit) in digits.chain(zeros).enumerate() {
            if at as i32 == point {
                out.push('.');
            }
            out.push(digit);
        }
        if point >= count {
            out.push_str(".0");
        }
    }
    Ok(())
}

/// Room for a number's text.
#[derive(Default)]
struct Small {
    bytes: [u8; 32],
    len: usize,
}

impl Small {
    fn as_str(&self) -> &str {
        self.bytes.get(..self.len).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or("")
    }
}

impl Write for Small {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let room = self.bytes.get_mut(self.len..self.len + text.len()).ok_or(std::fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.len += text.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m15_doubles_as_the_server_prints_them() {
        let check = |value: f64, expect: &str| {
            let mut out = String::new();
            assert_eq!((double(value, &mut out), out.as_str()), (Ok(()), expect));
        };
        for (value, expect) in [
            (1e15, "1e15"),
            (1e14, "100000000000000.0"),
            (1e-5, "0.00001"),
            (1e-15, "0.000000000000001"),
            (1e-16, "1e-16"),
            (1e100, "1e100"),
            (1.0, "1.0"),
            (-0.0, "-0.0"),
            (0.1, "0.1"),
            (-1.5, "-1.5"),
            (123_456_789_012_345.67, "123456789012345.67"),
            (12.5e20, "1.25e21"),
            (f64::MAX, "1.7976931348623157e308"),
        ] {
            check(value, expect);
        }
    }

    #[test]
    fn m15_documents() {
        let check = |document: &[u8], expect: Option<&str>| {
            let mut out = String::new();
            let done = print(document, &mut out, &mut DecimalText::default());
            assert_eq!(done.ok().map(|()| out.as_str()), expect);
        };
        // {"a": [1, "x"]}
        let document =
            [0, 1, 0, 24, 0, 11, 0, 1, 0, 2, 12, 0, b'a', 2, 0, 12, 0, 5, 1, 0, 12, 10, 0, 1, b'x'];
        check(&document, Some("{\"a\": [1, \"x\"]}"));
        check(&[], Some("null"));
        check(&[4, 1], Some("true"));
        check(&[12, 3, b'"', 1, b'\n'], Some("\"\\\"\\u0001\\n\""));
        check(&[15, 252, 2, 1, 2], Some("\"base64:type252:AQI=\""));
        for cut in 0..document.len() {
            let mut out = String::new();
            let _ = print(&document[..cut], &mut out, &mut DecimalText::default());
        }
    }

    #[test]
    fn a_document_of_itself_ends() {
        // An array whose elements are that array.
        let mut document = vec![2, 100, 0];
        document.extend_from_slice(&304u16.to_le_bytes());
        for _ in 0..100 {
            document.extend_from_slice(&[2, 0, 0]);
        }
        let mut out = String::new();
        assert_eq!(print(&document, &mut out, &mut DecimalText::default()), Err(Short));
        assert!(out.len() < 1000);
    }
}
