//! The two forms in which a cell goes to the server: a literal in the text of a statement, or a value of a bulk execution.
//!
//! Not which value a cell becomes: that is `encode.rs`, which both forms share, so that a row arrives alike whichever way
//! it takes. Sources: MySQL manual "String Literals" (quotes and backslashes, with NO_BACKSLASH_ESCAPES off), MariaDB manual
//! "COM_STMT_BULK_EXECUTE" (indicator and value of each cell) and "Binary Protocol Value".

use crate::sink::encode::Fault;
use crate::wire::{BulkType, put_length, put_string};
use std::fmt::Display;
use std::io::Write;

/// Where a cell is written.
pub(crate) trait Form {
    fn null(&mut self);
    /// The column's type is the source's, so a sign that it has no place for is a fault.
    fn int(&mut self, number: i64) -> Result<(), Fault>;
    fn uint(&mut self, number: u64) -> Result<(), Fault>;
    fn float(&mut self, number: f64);
    /// Digits, sign and point.
    fn decimal(&mut self, digits: &str);
    /// Text of the connection's character set.
    fn text(&mut self, text: &[u8]);
    /// What prints without quotes and backslashes: dates, times, addresses.
    fn plain(&mut self, text: impl Display);
    /// A binary string.
    fn binary(&mut self, bytes: &[u8]);
    /// The bytes of a type that is no string.
    fn raw(&mut self, bytes: &[u8]) -> Result<(), Fault>;
    /// An expression; only a statement's text can hold one.
    fn expression(&mut self, sql: &[u8]) -> Result<(), Fault>;
}

/// Literals, appended to a statement.
pub(crate) struct Literal<'a>(pub &'a mut Vec<u8>);

impl Form for Literal<'_> {
    fn null(&mut self) {
        self.0.extend_from_slice(b"NULL");
    }

    fn int(&mut self, number: i64) -> Result<(), Fault> {
        put(self.0, number);
        Ok(())
    }

    fn uint(&mut self, number: u64) -> Result<(), Fault> {
        put(self.0, number);
        Ok(())
    }

    /// `{:e}` gives the fewest digits that are read back as the same number, and always an exponent, which makes the
    /// literal a double. Minus zero goes as text, so that the minus is no operator; MariaDB has none and stores 0.
    fn float(&mut self, number: f64) {
        match number == 0.0 && number.is_sign_negative() {
            true => self.0.extend_from_slice(b"'-0e0'"),
            false => put(self.0, format_args!("{number:e}")),
        }
    }

    fn decimal(&mut self, digits: &str) {
        self.0.extend_from_slice(digits.as_bytes());
    }

    fn text(&mut self, text: &[u8]) {
        quote(text, self.0);
    }

    fn plain(&mut self, text: impl Display) {
        put(self.0, format_args!("'{text}'"));
    }

    fn binary(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(b"_binary");
        quote(bytes, self.0);
    }

    fn raw(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        self.0.extend_from_slice(b"x'");
        for byte in bytes {
            self.0.extend_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
        self.0.push(b'\'');
        Ok(())
    }

    fn expression(&mut self, sql: &[u8]) -> Result<(), Fault> {
        self.0.extend_from_slice(sql);
        Ok(())
    }
}

/// Values of a bulk execution, appended to its rows. The column's type says what may be written.
pub(crate) struct Bulk<'a> {
    pub out: &'a mut Vec<u8>,
    pub column: BulkType,
}

/// Indicators: the value follows, or the cell is NULL.
const VALUE: u8 = 0;
const NULL: u8 = 1;

impl Form for Bulk<'_> {
    fn null(&mut self) {
        self.out.push(NULL);
    }

    fn int(&mut self, number: i64) -> Result<(), Fault> {
        if self.column == BulkType::Unsigned && number < 0 {
            return Err(Fault::Kind);
        }
        self.eight_bytes(number.to_le_bytes());
        Ok(())
    }

    fn uint(&mut self, number: u64) -> Result<(), Fault> {
        if self.column == BulkType::Signed && number > i64::MAX as u64 {
            return Err(Fault::Kind);
        }
        self.eight_bytes(number.to_le_bytes());
        Ok(())
    }

    fn float(&mut self, number: f64) {
        self.eight_bytes(number.to_le_bytes());
    }

    fn decimal(&mut self, digits: &str) {
        self.text(digits.as_bytes());
    }

    fn text(&mut self, text: &[u8]) {
        self.out.push(VALUE);
        put_string(self.out, text);
    }

    fn plain(&mut self, text: impl Display) {
        const SHORT_BYTES_MAX: usize = 250;
        self.out.push(VALUE);
        let start = self.out.len();
        // A length below 251 is one byte: it is filled in when the text is there.
        self.out.push(0);
        put(self.out, text);
        let length = self.out.len() - start - 1;
        if length <= SHORT_BYTES_MAX {
            self.out[start] = length as u8;
            return;
        }
        let text = self.out.split_off(start + 1);
        self.out.truncate(start);
        put_length(self.out, text.len());
        self.out.extend_from_slice(&text);
    }

    fn binary(&mut self, bytes: &[u8]) {
        self.text(bytes);
    }

    fn raw(&mut self, _: &[u8]) -> Result<(), Fault> {
        Err(Fault::Kind)
    }

    fn expression(&mut self, _: &[u8]) -> Result<(), Fault> {
        Err(Fault::Kind)
    }
}

impl Bulk<'_> {
    fn eight_bytes(&mut self, bytes: [u8; 8]) {
        self.out.push(VALUE);
        self.out.extend_from_slice(&bytes);
    }
}

/// Appends what prints; writing to memory cannot fail.
fn put(out: &mut Vec<u8>, value: impl Display) {
    let _ = write!(out, "{value}");
}

/// A string between quotes. Bytes of characters of several bytes are never a quote or a backslash in UTF-8.
pub(crate) fn quote(bytes: &[u8], out: &mut Vec<u8>) {
    out.reserve(bytes.len() + 2);
    out.push(b'\'');
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|b| matches!(b, b'\'' | b'\\' | 0)) {
        out.extend_from_slice(&rest[..at]);
        out.push(b'\\');
        out.push(if rest[at] == 0 { b'0' } else { rest[at] });
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'\'');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_quoted() {
        let mut out = Vec::new();
        quote(b"'\xff\\\0", &mut out);
        assert_eq!(out, b"'\\'\xff\\\\\\0'");
    }

    #[test]
    fn a_bulk_value_has_an_indicator_and_a_length() {
        let long = "x".repeat(251);
        let mut out = Vec::new();
        let mut form = Bulk { out: &mut out, column: BulkType::Text };
        form.null();
        form.plain("ab");
        form.plain(&long);
        assert_eq!(out[..9], [NULL, VALUE, 2, b'a', b'b', VALUE, 0xFC, 251, 0]);
        assert_eq!(&out[9..], long.as_bytes());
    }

    #[test]
    fn a_sign_that_a_column_has_no_place_for_is_a_fault() {
        let mut out = Vec::new();
        assert_eq!(Bulk { out: &mut out, column: BulkType::Unsigned }.int(-1), Err(Fault::Kind));
        assert_eq!(Bulk { out: &mut out, column: BulkType::Signed }.uint(1 << 63), Err(Fault::Kind));
        assert!(out.is_empty());
    }
}
