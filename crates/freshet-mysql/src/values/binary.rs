//! Rows of the binary protocol into the cells that the binlog would give for the same values.
//!
//! The session that reads has `time_zone = '+00:00'`, `character_set_results = NULL` (text comes in its column's own
//! character set, which the result names) and an `sql_mode` without PAD_CHAR_TO_FULL_LENGTH. The SELECT list, by the
//! column's type:
//!
//! | type | expression | arrives as |
//! |---|---|---|
//! | ENUM, SET | ``CAST(`c` AS UNSIGNED)`` | index or bitmap; a label could not be told from an error value |
//! | everything else | `` `c` `` | |
//! | integers, YEAR | | little-endian bytes of the type's width |
//! | FLOAT, DOUBLE | | binary, exact (M5) |
//! | DECIMAL | | digits; ZEROFILL's zeros are taken off |
//! | dates and times | | fields; no fields at all for zero |
//! | text, MariaDB's JSON | | bytes in the column's character set |
//! | MySQL's JSON | | the server's own printing, UTF-8 |
//! | BIT, BINARY, BLOB, geometry, vector | | bytes |
//! | MariaDB's UUID, INET4, INET6 | | text, parsed here |
//!
//! Bytes that are no text of their set are kept marked, as on the binlog's way.

use std::net::{Ipv4Addr, Ipv6Addr};

use freshet_core::codec::RowWriter;
use freshet_core::gtid::Uuid;
use freshet_core::schema::TableSchema;
use freshet_core::temporal::{Date, Timestamp};
use freshet_core::types::DataType;

use super::cell::{self, Scratch};
use super::charset::Charset;
use super::reader::{Read, Short};
use super::temporal;
use crate::wire::{BinaryCell, BinaryRow, ColumnDef, WireError};

/// How each cell of a statement's binary rows becomes a cell of a schema.
#[derive(Debug)]
pub struct BinaryPlan {
    columns: Vec<(BinaryReader, String)>,
    scratch: Scratch,
}

/// How one column's cells are read.
#[derive(Clone, Copy, Debug)]
enum BinaryReader {
    /// So many bytes that are the cell.
    Int(usize),
    Float,
    Double,
    Decimal,
    Date,
    Time,
    DateTime,
    Timestamp,
    Text(Charset),
    Bytes,
    /// BINARY(n).
    Padded(usize),
    /// BIT: bytes and unused bits of the first.
    Bit(usize, u8),
    Enum,
    Set,
    Uuid,
    Inet4,
    Inet6,
}

/// A row or a result that does not fit its schema. Never shows a value.
#[derive(Debug, thiserror::Error)]
pub enum BinaryError {
    /// Another number of columns.
    #[error("A result has {found} columns where its table has {wanted}")]
    Columns {
        /// The table's.
        wanted: usize,
        /// The result's.
        found: usize,
    },
    /// No MySQL or MariaDB column has the type, or its character set is not known.
    #[error("Column {column} of a result cannot be read: {what}")]
    Column {
        /// Its name.
        column: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A value that is none of its column's type.
    #[error("A value of column {column} does not have the column's type")]
    Value {
        /// Its name.
        column: String,
    },
    /// The row's own bytes.
    #[error(transparent)]
    Wire(#[from] WireError),
}

impl From<BinaryError> for freshet_core::Error {
    fn from(error: BinaryError) -> Self {
        match error {
            BinaryError::Wire(error) => error.into(),
            BinaryError::Columns { .. } | BinaryError::Value { .. } => {
                freshet_core::Error::corrupt(error.to_string())
            }
            BinaryError::Column { .. } => freshet_core::Error::unsupported(error.to_string()),
        }
    }
}

impl BinaryPlan {
    /// A plan for rows of a statement whose columns are `columns`, in the schema's order.
    pub fn new(schema: &TableSchema, columns: &[ColumnDef]) -> Result<Self, BinaryError> {
        let (wanted, found) = (schema.columns().len(), columns.len());
        if wanted != found {
            return Err(BinaryError::Columns { wanted, found });
        }
        let readers = schema.columns().iter().zip(columns).map(|(column, def)| {
            let error = |what| BinaryError::Column { column: column.name.clone(), what };
            reader(&column.data_type, def).map(|reader| (reader, column.name.clone())).map_err(error)
        });
        Ok(Self { columns: readers.collect::<Result<_, _>>()?, scratch: Scratch::default() })
    }

    /// Writes one row's cells. After an error the row is torn: rewind the batch.
    pub fn write_row(&mut self, row: &BinaryRow<'_>, out: &mut RowWriter<'_>) -> Result<(), BinaryError> {
        for (value, (reader, name)) in row.cells().zip(&self.columns) {
            match value? {
                BinaryCell::Null => out.null(),
                value => reader
                    .read(value, out, &mut self.scratch)
                    .map_err(|Short| BinaryError::Value { column: name.clone() })?,
            }
        }
        Ok(())
    }
}

fn reader(data_type: &DataType, def: &ColumnDef) -> Result<BinaryReader, &'static str> {
    Ok(match data_type {
        DataType::Int { bits, .. } => BinaryReader::Int(match bits {
            0..=8 => 1,
            9..=16 => 2,
            17..=32 => 4,
            33.. => 8,
        }),
        DataType::Year => BinaryReader::Int(2),
        DataType::Float32 => BinaryReader::Float,
        DataType::Float64 => BinaryReader::Double,
        DataType::Decimal { .. } => BinaryReader::Decimal,
        DataType::Date => BinaryReader::Date,
        DataType::Time { .. } => BinaryReader::Time,
        DataType::DateTime { .. } => BinaryReader::DateTime,
        DataType::Timestamp { .. } => BinaryReader::Timestamp,
        DataType::Text { .. } => BinaryReader::Text(
            Charset::of_collation(u64::from(def.charset)).ok_or("its collation is not known")?,
        ),
        DataType::Json { .. } => BinaryReader::Text(Charset::UTF8MB4),
        DataType::Bytes { length: Some(length), fixed: true } => {
            BinaryReader::Padded(usize::try_from(*length).map_err(|_| "its length is out of range")?)
        }
        DataType::Bytes { .. } | DataType::Geometry { .. } | DataType::Vector { .. } => BinaryReader::Bytes,
        DataType::Bit { length: Some(bits @ 1..=64), .. } => {
            let bytes = bits.div_ceil(8);
            BinaryReader::Bit(bytes as usize, (bytes * 8 - bits) as u8)
        }
        DataType::Enum { .. } => BinaryReader::Enum,
        DataType::Set { .. } => BinaryReader::Set,
        DataType::Uuid => BinaryReader::Uuid,
        DataType::Inet4 => BinaryReader::Inet4,
        DataType::Inet6 => BinaryReader::Inet6,
        DataType::Bool
        | DataType::TimeTz { .. }
        | DataType::Interval
        | DataType::Bit { .. }
        | DataType::Money
        | DataType::Oid
        | DataType::Lsn
        | DataType::Array { .. }
        | DataType::Named { .. } => return Err("neither server has its type"),
    })
}

impl BinaryReader {
    #[inline]
    fn read(self, value: BinaryCell<'_>, row: &mut RowWriter<'_>, scratch: &mut Scratch) -> Read<()> {
        match (self, value) {
            (BinaryReader::Int(width), BinaryCell::Int(bytes)) if bytes.len() == width => row.raw_cell(bytes),
            (BinaryReader::Float, BinaryCell::Float(value)) => row.float32(value),
            (BinaryReader::Double, BinaryCell::Double(value)) => row.float64(value),
            (BinaryReader::Decimal, BinaryCell::Bytes(text)) => {
                row.decimal(decimal(text, &mut scratch.text)?)
            }
            (BinaryReader::Date, BinaryCell::Date(bytes)) => row.date(date(bytes)?),
            (BinaryReader::Time, BinaryCell::Time(bytes)) => row.time(temporal::time_wire(bytes)?),
            (BinaryReader::DateTime, BinaryCell::DateTime(bytes)) => {
                row.datetime(temporal::datetime_wire(bytes)?)
            }
            (BinaryReader::Timestamp, BinaryCell::Timestamp(bytes)) => row.timestamp(timestamp(bytes)?),
            (BinaryReader::Text(charset), BinaryCell::Bytes(bytes)) => {
                cell::write_text(row, bytes, charset, &mut scratch.text);
            }
            (BinaryReader::Bytes, BinaryCell::Bytes(bytes)) => row.bytes(bytes),
            (BinaryReader::Padded(width), BinaryCell::Bytes(bytes)) => {
                return cell::write_padded(row, bytes, width, scratch);
            }
            (BinaryReader::Bit(width, unused), BinaryCell::Bytes(bytes)) => {
                return bit(bytes, width, unused, row);
            }
            (BinaryReader::Enum, BinaryCell::Int(bytes)) => {
                row.enumeration(u16::try_from(number(bytes)?).map_err(|_| Short)?);
            }
            (BinaryReader::Set, BinaryCell::Int(bytes)) => row.set(number(bytes)?),
            (BinaryReader::Uuid | BinaryReader::Inet4 | BinaryReader::Inet6, BinaryCell::Bytes(text)) => {
                return self.special(text, row);
            }
            _ => return Err(Short),
        }
        Ok(())
    }

    fn special(self, text: &[u8], row: &mut RowWriter<'_>) -> Read<()> {
        let text = std::str::from_utf8(text).map_err(|_| Short)?;
        let fits = match self {
            BinaryReader::Uuid => row.fixed_bytes(&text.parse::<Uuid>().map_err(|_| Short)?.0),
            BinaryReader::Inet4 => row.fixed_bytes(&text.parse::<Ipv4Addr>().map_err(|_| Short)?.octets()),
            _ => row.fixed_bytes(&text.parse::<Ipv6Addr>().map_err(|_| Short)?.octets()),
        };
        if fits { Ok(()) } else { Err(Short) }
    }
}

fn number(bytes: &[u8]) -> Read<u64> {
    super::reader::Reader::new(bytes).uint(bytes.len())
}

fn date(bytes: &[u8]) -> Read<Date> {
    let (year, month, day) = temporal::datetime_wire(bytes)?.date_parts();
    Date::new(year, month, day).ok_or(Short)
}

fn timestamp(bytes: &[u8]) -> Read<Timestamp> {
    let value = temporal::datetime_wire(bytes)?;
    if value.date_parts() == (0, 0, 0) {
        return Ok(Timestamp::ZERO_DATE);
    }
    value.micros_since_1970().map(Timestamp).ok_or(Short)
}

/// Digits without the zeros that ZEROFILL puts before them, and without a sign before a zero.
fn decimal<'a>(text: &'a [u8], scratch: &'a mut String) -> Read<&'a str> {
    let text = std::str::from_utf8(text).map_err(|_| Short)?;
    let (is_negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) {
        return Err(Short);
    }
    let is_zero = digits.bytes().all(|byte| matches!(byte, b'0' | b'.'));
    let zeros = whole.bytes().take(whole.len() - 1).take_while(|byte| *byte == b'0').count();
    if zeros == 0 && !(is_negative && is_zero) {
        return Ok(text);
    }
    scratch.clear();
    if is_negative && !is_zero {
        scratch.push('-');
    }
    scratch.push_str(digits.get(zeros..).ok_or(Short)?);
    Ok(scratch)
}

fn bit(bytes: &[u8], width: usize, unused: u8, row: &mut RowWriter<'_>) -> Read<()> {
    let mut full = [0u8; 8];
    let from = width.checked_sub(bytes.len()).ok_or(Short)?;
    full.get_mut(from..width).ok_or(Short)?.copy_from_slice(bytes);
    cell::write_bit(row, full.get(..width).ok_or(Short)?, unused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m20_zerofill_and_negative_zero() {
        let check = |text: &str, expect: Read<&str>| {
            assert_eq!(decimal(text.as_bytes(), &mut String::new()), expect, "{text}");
        };
        check("0012.50", Ok("12.50"));
        check("-0012.50", Ok("-12.50"));
        check("0000", Ok("0"));
        check("-0.00", Ok("0.00"));
        check("0.05", Ok("0.05"));
        check("7", Ok("7"));
        for bad in ["", "-", ".5", "1.", "1e5", "+1", "1.2.3"] {
            check(bad, Err(Short));
        }
    }
}
