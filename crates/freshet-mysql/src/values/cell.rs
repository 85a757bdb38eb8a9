//! Cells of binlog row images: one small instruction a column, run over every row.
//!
//! A [`CellReader`] is made once from what a TABLE_MAP says of a column; it then reads the stored value and writes
//! the cell. It knows nothing of images, bitmaps and NULL (`decode::rows`).

use freshet_core::codec::RowWriter;

use super::charset::{Charset, Decoded};
use super::compressed;
use super::decimal::{DecimalLayout, DecimalText};
use super::json;
use super::reader::{Read, Reader, Short};
use super::temporal;

/// How to read one column's values.
#[derive(Clone, Debug)]
pub enum CellReader {
    /// Integers whose stored bytes are the cell: 1, 2, 4 or 8 bytes, signed or not.
    Raw1,
    /// Two bytes as they are.
    Raw2,
    /// Four bytes as they are.
    Raw4,
    /// Eight bytes as they are.
    Raw8,
    /// MEDIUMINT, sign-extended.
    Int24,
    /// MEDIUMINT UNSIGNED.
    Uint24,
    /// DECIMAL.
    Decimal(DecimalLayout),
    /// YEAR: 0, or years since 1900.
    Year,
    /// DATE.
    Date,
    /// TIME since 5.6.
    Time2(u8),
    /// DATETIME since 5.6.
    DateTime2(u8),
    /// TIMESTAMP since 5.6.
    Timestamp2(u8),
    /// TIME before 5.6; with digits, MariaDB 5.3's.
    TimeOld(u8),
    /// DATETIME before 5.6.
    DateTimeOld(u8),
    /// TIMESTAMP before 5.6.
    TimestampOld(u8),
    /// Text behind a length of so many bytes.
    Text(u8, Charset),
    /// Bytes behind a length of so many bytes.
    Bytes(u8),
    /// BINARY(n): padded back to n with zeros (M12).
    Padded(u8, u16),
    /// UUID, INET4, INET6: padded back to the type's width, which the cell has without a length.
    Fixed(u8, u8),
    /// MariaDB's compressed text.
    CompressedText(u8, Charset),
    /// MariaDB's compressed bytes.
    CompressedBytes(u8),
    /// BIT: bytes and unused bits of the first.
    Bit(u8, u8),
    /// ENUM: an index of one or two bytes.
    Enum(u8),
    /// SET: a bitmap of one to eight bytes.
    Set(u8),
    /// MySQL's binary JSON behind a length.
    Json(u8),
}

/// Buffers that the cells of one session share.
#[derive(Debug, Default)]
pub struct Scratch {
    pub(crate) text: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) decimal: DecimalText,
}

impl CellReader {
    /// Reads one value and writes its cell.
    #[inline]
    pub fn read(&self, r: &mut Reader<'_>, row: &mut RowWriter<'_>, scratch: &mut Scratch) -> Read<()> {
        match self {
            CellReader::Raw1 => row.raw_cell(&r.array::<1>()?),
            CellReader::Raw2 => row.raw_cell(&r.array::<2>()?),
            CellReader::Raw4 => row.raw_cell(&r.array::<4>()?),
            CellReader::Raw8 => row.raw_cell(&r.array::<8>()?),
            CellReader::Int24 => {
                let wide = ((r.uint(3)? as i32) << 8) >> 8;
                row.raw_cell(&wide.to_le_bytes());
            }
            CellReader::Uint24 => row.raw_cell(&(r.uint(3)? as u32).to_le_bytes()),
            CellReader::Decimal(layout) => {
                let packed = r.take(layout.bytes())?;
                row.decimal(layout.text(packed, &mut scratch.decimal).ok_or(Short)?);
            }
            CellReader::Year => row.raw_cell(&year(r.u8()?).to_le_bytes()),
            CellReader::Date => row.date(temporal::date(r)?),
            CellReader::Time2(fsp) => row.time(temporal::time2(r, *fsp)?),
            CellReader::DateTime2(fsp) => row.datetime(temporal::datetime2(r, *fsp)?),
            CellReader::Timestamp2(fsp) => row.timestamp(temporal::timestamp2(r, *fsp)?),
            CellReader::Text(length, charset) => {
                write_text(row, r.prefixed(usize::from(*length))?, *charset, &mut scratch.text);
            }
            CellReader::Bytes(length) => row.bytes(r.prefixed(usize::from(*length))?),
            CellReader::Enum(bytes) => row.enumeration(r.uint(usize::from(*bytes))? as u16),
            CellReader::Set(bytes) => row.set(r.uint(usize::from(*bytes))?),
            CellReader::TimeOld(_)
            | CellReader::DateTimeOld(_)
            | CellReader::TimestampOld(_)
            | CellReader::Padded(..)
            | CellReader::Fixed(..)
            | CellReader::CompressedText(..)
            | CellReader::CompressedBytes(_)
            | CellReader::Bit(..)
            | CellReader::Json(_) => return self.read_rare(r, row, scratch),
        }
        Ok(())
    }

    fn read_rare(&self, r: &mut Reader<'_>, row: &mut RowWriter<'_>, scratch: &mut Scratch) -> Read<()> {
        match self {
            CellReader::TimeOld(0) => row.time(temporal::time_old(r)?),
            CellReader::TimeOld(fsp) => row.time(temporal::time_hires(r, *fsp)?),
            CellReader::DateTimeOld(0) => row.datetime(temporal::datetime_old(r)?),
            CellReader::DateTimeOld(fsp) => row.datetime(temporal::datetime_hires(r, *fsp)?),
            CellReader::TimestampOld(0) => row.timestamp(temporal::timestamp_old(r)?),
            CellReader::TimestampOld(fsp) => row.timestamp(temporal::timestamp_hires(r, *fsp)?),
            CellReader::Padded(length, width) => {
                write_padded(row, r.prefixed(usize::from(*length))?, usize::from(*width), scratch)?;
            }
            CellReader::Fixed(length, width) => {
                write_fixed(row, r.prefixed(usize::from(*length))?, usize::from(*width))?;
            }
            CellReader::CompressedText(length, charset) => {
                let packed = r.prefixed(usize::from(*length))?;
                let bytes = compressed::expand(packed, &mut scratch.bytes)?;
                write_text(row, bytes, *charset, &mut scratch.text);
            }
            CellReader::CompressedBytes(length) => {
                let packed = r.prefixed(usize::from(*length))?;
                row.bytes(compressed::expand(packed, &mut scratch.bytes)?);
            }
            CellReader::Bit(bytes, unused) => write_bit(row, r.take(usize::from(*bytes))?, *unused)?,
            CellReader::Json(length) => {
                let document = r.prefixed(usize::from(*length))?;
                write_json(row, document, scratch);
            }
            _ => return Err(Short),
        }
        Ok(())
    }
}

/// The year of a stored YEAR.
#[inline]
pub(crate) fn year(stored: u8) -> u16 {
    if stored == 0 { 0 } else { 1900 + u16::from(stored) }
}

/// Text in its column's set; what is none in it is marked among what is.
#[inline]
pub(crate) fn write_text(row: &mut RowWriter<'_>, bytes: &[u8], charset: Charset, scratch: &mut String) {
    match charset.decode(bytes, scratch) {
        Decoded::Text(text) => row.text(text),
        Decoded::Undecodable => row.undecodable(&charset.salvage(bytes)),
    }
}

/// Bytes of a fixed length that lost their trailing zeros.
pub(crate) fn write_padded(
    row: &mut RowWriter<'_>,
    bytes: &[u8],
    width: usize,
    scratch: &mut Scratch,
) -> Read<()> {
    if bytes.len() == width {
        row.bytes(bytes);
        return Ok(());
    }
    if bytes.len() > width {
        return Err(Short);
    }
    scratch.bytes.clear();
    scratch.bytes.extend_from_slice(bytes);
    scratch.bytes.resize(width, 0);
    row.bytes(&scratch.bytes);
    Ok(())
}

/// The cell of a type whose width is its own.
pub(crate) fn write_fixed(row: &mut RowWriter<'_>, bytes: &[u8], width: usize) -> Read<()> {
    let mut full = [0u8; 16];
    full.get_mut(..bytes.len()).ok_or(Short)?.copy_from_slice(bytes);
    let cell = full.get(..width).filter(|_| bytes.len() <= width).ok_or(Short)?;
    if row.fixed_bytes(cell) { Ok(()) } else { Err(Short) }
}

/// A bit string: big endian already; bits that the column does not have are 0.
pub(crate) fn write_bit(row: &mut RowWriter<'_>, bytes: &[u8], unused: u8) -> Read<()> {
    let first = bytes.first().ok_or(Short)?;
    if unused > 7 || first.leading_zeros() < u32::from(unused) {
        return Err(Short);
    }
    row.bytes(bytes);
    Ok(())
}

/// A document as the server prints it; one that follows no rule is kept raw.
pub(crate) fn write_json(row: &mut RowWriter<'_>, document: &[u8], scratch: &mut Scratch) {
    scratch.text.clear();
    match json::print(document, &mut scratch.text, &mut scratch.decimal) {
        Ok(()) => row.text(&scratch.text),
        Err(Short) => row.undecodable(document),
    }
}
