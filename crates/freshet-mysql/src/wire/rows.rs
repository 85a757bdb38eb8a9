//! Rows: text results held in memory for control queries, and borrowed binary rows for reading tables.
//!
//! A [`BinaryRow`] is a view of the read buffer: iterating over its cells checks every length and allocates
//! nothing. What a cell means (charset, precision, padding) is decoded elsewhere. Formats: manual pages
//! "Text Resultset Row", "Binary Protocol Resultset Row" and "Binary Protocol Value".

use std::fmt;
use std::ops::Range;

use super::error::WireError;
use super::response::{ColumnDef, ColumnType};
use super::scan::{Scan, put_string};

/// A whole text result.
#[derive(Debug, Clone)]
pub struct Rows {
    columns: Vec<ColumnDef>,
    rows: Vec<Row>,
}

/// One row of a text result; `Debug` shows none of its values.
#[derive(Clone)]
pub struct Row {
    bytes: Vec<u8>,
    cells: Vec<Option<Range<usize>>>,
}

impl Rows {
    pub(crate) fn new(columns: Vec<ColumnDef>) -> Self {
        Rows { columns, rows: Vec::new() }
    }

    pub(crate) fn push(&mut self, packet: &[u8]) -> Result<(), WireError> {
        let (mut scan, mut cells) = (Scan::new(packet), Vec::with_capacity(self.columns.len()));
        for _ in &self.columns {
            let cell = scan.string_or_null()?;
            let end = packet.len() - scan.rest().len();
            cells.push(cell.map(|text| end - text.len()..end));
        }
        if !scan.is_empty() {
            return Err(WireError::protocol("a row is longer than its columns"));
        }
        self.rows.push(Row { bytes: packet.to_vec(), cells });
        Ok(())
    }

    /// The columns, in order.
    pub fn columns(&self) -> &[ColumnDef] {
        &self.columns
    }

    /// The place of the column called `name`, whatever the case of its letters.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name.eq_ignore_ascii_case(name))
    }

    /// The rows, in order.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The text in `column` of the first row; `None` if there is no row, no such column, NULL, or no UTF-8.
    pub fn first(&self, column: usize) -> Option<&str> {
        self.rows.first()?.text(column)
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl<'a> IntoIterator for &'a Rows {
    type Item = &'a Row;
    type IntoIter = std::slice::Iter<'a, Row>;

    fn into_iter(self) -> Self::IntoIter {
        self.rows.iter()
    }
}

impl Row {
    /// The bytes of a cell; `None` for NULL and for a column that is not there.
    pub fn get(&self, column: usize) -> Option<&[u8]> {
        self.cells.get(column)?.clone().map(|range| &self.bytes[range])
    }

    /// The text of a cell; `None` for NULL, for a column that is not there and for bytes that are no UTF-8.
    pub fn text(&self, column: usize) -> Option<&str> {
        std::str::from_utf8(self.get(column)?).ok()
    }
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Row of {} cells", self.cells.len())
    }
}

/// A value bound to a `?` of a prepared statement.
///
/// The kind decides how the server compares it with a column, so a bound of a key should be bound as what the
/// column is: text in the connection's character set takes the column's collation, bytes do not.
#[derive(Clone, Copy, PartialEq)]
pub enum Param<'a> {
    /// NULL.
    Null,
    /// A signed integer.
    I64(i64),
    /// An unsigned integer.
    U64(u64),
    /// A floating-point number.
    F64(f64),
    /// Text in the connection's character set; also dates and times as the server writes them.
    Text(&'a str),
    /// A binary string.
    Bytes(&'a [u8]),
    /// A DECIMAL in digits.
    Decimal(&'a str),
}

impl Param<'_> {
    /// Type and sign flag of manual page "COM_STMT_EXECUTE".
    pub(crate) fn type_code(&self) -> [u8; 2] {
        const UNSIGNED: u8 = 0x80;
        match self {
            Param::Null => [ColumnType::Null as u8, 0],
            Param::I64(_) => [ColumnType::LongLong as u8, 0],
            Param::U64(_) => [ColumnType::LongLong as u8, UNSIGNED],
            Param::F64(_) => [ColumnType::Double as u8, 0],
            Param::Text(_) => [ColumnType::VarString as u8, 0],
            Param::Bytes(_) => [ColumnType::Blob as u8, 0],
            Param::Decimal(_) => [ColumnType::NewDecimal as u8, 0],
        }
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        match self {
            Param::Null => {}
            Param::I64(value) => out.extend_from_slice(&value.to_le_bytes()),
            Param::U64(value) => out.extend_from_slice(&value.to_le_bytes()),
            Param::F64(value) => out.extend_from_slice(&value.to_le_bytes()),
            Param::Text(value) | Param::Decimal(value) => put_string(out, value.as_bytes()),
            Param::Bytes(value) => put_string(out, value),
        }
    }
}

/// How the values of one parameter go in a bulk execution: all of them alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BulkType {
    /// 8 bytes with a sign.
    Signed,
    /// 8 bytes without one.
    Unsigned,
    /// 8 bytes, IEEE.
    Double,
    /// Digits, with a length before them.
    Decimal,
    /// Text of the connection's character set, with a length before it.
    Text,
    /// A binary string, with a length before it.
    Bytes,
}

impl BulkType {
    pub(crate) fn type_code(self) -> [u8; 2] {
        match self {
            BulkType::Signed => Param::I64(0).type_code(),
            BulkType::Unsigned => Param::U64(0).type_code(),
            BulkType::Double => Param::F64(0.0).type_code(),
            BulkType::Decimal => Param::Decimal("").type_code(),
            BulkType::Text => Param::Text("").type_code(),
            BulkType::Bytes => Param::Bytes(b"").type_code(),
        }
    }
}

/// One cell of a binary row, as it came; little-endian.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum BinaryCell<'a> {
    /// NULL.
    Null,
    /// TINYINT (1 byte), SMALLINT and YEAR (2), MEDIUMINT and INT (4), BIGINT (8). The sign is the column's.
    Int(&'a [u8]),
    /// FLOAT.
    Float(f32),
    /// DOUBLE.
    Double(f64),
    /// Everything with a length: strings, DECIMAL in digits, BIT, ENUM and SET by name, JSON, geometry.
    Bytes(&'a [u8]),
    /// DATE: as [`BinaryCell::DateTime`].
    Date(&'a [u8]),
    /// DATETIME: 0 bytes (zero), 4 (year u16, month, day), 7 (and hour, minute, second) or 11 (and
    /// microseconds u32).
    DateTime(&'a [u8]),
    /// TIMESTAMP: as [`BinaryCell::DateTime`], in the session's time zone.
    Timestamp(&'a [u8]),
    /// TIME: 0 bytes (zero), 8 (1 if negative, days u32, hour, minute, second) or 12 (and microseconds u32).
    Time(&'a [u8]),
}

/// One row of a prepared statement's result, borrowed from the read buffer; `Debug` shows none of its values.
#[derive(Clone, Copy)]
pub struct BinaryRow<'a> {
    columns: &'a [ColumnDef],
    nulls: &'a [u8],
    values: &'a [u8],
}

impl<'a> BinaryRow<'a> {
    /// The null bitmap begins with two bits that mean nothing.
    const NULLS_OFFSET: usize = 2;

    pub(crate) fn parse(columns: &'a [ColumnDef], packet: &'a [u8]) -> Result<Self, WireError> {
        let mut scan = Scan::new(packet);
        if scan.u8()? != 0 {
            return Err(WireError::protocol("a binary row does not begin with 0"));
        }
        let nulls = scan.take((columns.len() + Self::NULLS_OFFSET).div_ceil(8))?;
        Ok(BinaryRow { columns, nulls, values: scan.rest() })
    }

    /// The columns, in the order of the cells.
    pub fn columns(&self) -> &'a [ColumnDef] {
        self.columns
    }

    /// The cells in order. The iterator ends after an error.
    pub fn cells(&self) -> BinaryCells<'a> {
        BinaryCells { row: *self, at: 0, scan: Scan::new(self.values) }
    }

    fn is_null(&self, column: usize) -> bool {
        let bit = column + Self::NULLS_OFFSET;
        self.nulls[bit / 8] >> (bit % 8) & 1 == 1
    }
}

impl fmt::Debug for BinaryRow<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BinaryRow of {} cells", self.columns.len())
    }
}

/// The cells of a [`BinaryRow`].
#[derive(Clone)]
pub struct BinaryCells<'a> {
    row: BinaryRow<'a>,
    at: usize,
    scan: Scan<'a>,
}

impl<'a> Iterator for BinaryCells<'a> {
    type Item = Result<BinaryCell<'a>, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        let columns = self.row.columns;
        let column = columns.get(self.at)?;
        let cell =
            if self.row.is_null(self.at) { Ok(BinaryCell::Null) } else { cell(column, &mut self.scan) };
        self.at += 1;
        let is_last = self.at == columns.len();
        if cell.is_err() || (is_last && !self.scan.is_empty()) {
            self.at = columns.len();
            return Some(cell.and(Err(WireError::protocol("a row is longer than its columns"))));
        }
        Some(cell)
    }
}

fn cell<'a>(column: &ColumnDef, scan: &mut Scan<'a>) -> Result<BinaryCell<'a>, WireError> {
    use ColumnType::*;
    Ok(match column.column_type {
        Tiny => BinaryCell::Int(scan.take(1)?),
        Short | Year => BinaryCell::Int(scan.take(2)?),
        Long | Int24 => BinaryCell::Int(scan.take(4)?),
        LongLong => BinaryCell::Int(scan.take(8)?),
        Float => BinaryCell::Float(f32::from_bits(scan.u32()?)),
        Double => BinaryCell::Double(f64::from_bits(scan.u64()?)),
        Date => BinaryCell::Date(temporal(scan, [0, 4, 7, 11])?),
        DateTime => BinaryCell::DateTime(temporal(scan, [0, 4, 7, 11])?),
        Timestamp => BinaryCell::Timestamp(temporal(scan, [0, 4, 7, 11])?),
        Time => BinaryCell::Time(temporal(scan, [0, 8, 12, 12])?),
        Null => return Err(WireError::protocol("a column of type NULL has a value")),
        Decimal | VarChar | Bit | Vector | Json | NewDecimal | Enum | Set | TinyBlob | MediumBlob
        | LongBlob | Blob | VarString | String | Geometry => BinaryCell::Bytes(scan.string()?),
    })
}

fn temporal<'a>(scan: &mut Scan<'a>, lengths: [u8; 4]) -> Result<&'a [u8], WireError> {
    let length = scan.u8()?;
    if !lengths.contains(&length) {
        return Err(WireError::protocol("a date or time has a wrong length"));
    }
    scan.take(usize::from(length))
}

#[cfg(test)]
#[path = "rows_tests.rs"]
mod tests;
