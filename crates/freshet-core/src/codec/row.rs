//! Reading a row image, cell by cell, without copying.

use super::{STATE_ABSENT, STATE_NULL, STATE_UNDECODABLE, state_bytes};
use crate::error::{Error, Result};
use crate::schema::TableSchema;
use crate::temporal::{Date, DateTime, Interval, Time, Timestamp};
use crate::types::CellKind;
use crate::value::ValueRef;

/// One row image under its schema.
#[derive(Clone, Copy, Debug)]
pub struct RowRef<'a> {
    schema: &'a TableSchema,
    image: &'a [u8],
}

impl<'a> RowRef<'a> {
    /// A view of `image`, which was written under `schema`.
    pub fn new(schema: &'a TableSchema, image: &'a [u8]) -> Self {
        Self { schema, image }
    }

    /// The schema.
    pub fn schema(&self) -> &'a TableSchema {
        self.schema
    }

    /// The encoded image.
    pub fn image(&self) -> &'a [u8] {
        self.image
    }

    /// The cells in column order.
    pub fn cells(&self) -> Cells<'a> {
        let kinds = self.schema.cells();
        let (state, rest) = self.image.split_at_checked(state_bytes(kinds.len())).unwrap_or((&[], &[]));
        Cells { kinds, state, rest, column: 0 }
    }

    /// The cell of one column. Walks the columns before it: visit in order where several are wanted.
    pub fn get(&self, column: usize) -> Result<ValueRef<'a>> {
        self.cells().nth(column).unwrap_or_else(|| Err(short("row image")))
    }

    /// Whether a column is absent from the image. Does not walk the cells before it.
    #[inline]
    pub fn lacks(&self, column: usize) -> bool {
        // The states stand first in the image, two bits each.
        let byte = self.image.get(column / 4).copied().unwrap_or_default();
        column < self.schema.cells().len() && (byte >> (column % 4 * 2)) & 3 == STATE_ABSENT
    }

    /// Whether any column is absent from the image.
    pub fn is_partial(&self) -> bool {
        const LOW: u8 = 0b0101_0101;
        const _: () = assert!(STATE_ABSENT == 0b10, "the high bit of a state, and not the low one");
        let states = self.image.get(..state_bytes(self.schema.cells().len())).unwrap_or_default();
        states.iter().any(|byte| (byte >> 1) & !byte & LOW != 0)
    }

    /// Sets `changed[column]` for every column whose cell is not byte for byte that of `other`, a row of the same
    /// schema; the others are left as they are.
    pub fn mark_changed(&self, other: RowRef<'_>, changed: &mut [bool]) -> Result<()> {
        let (mut ours, mut theirs) = (self.cells(), other.cells());
        for is_changed in changed {
            *is_changed |= ours.extent()? != theirs.extent()?;
        }
        Ok(())
    }

    /// Checks that the image has exactly the schema's cells.
    pub fn validate(&self) -> Result<()> {
        let mut cells = self.cells();
        for cell in cells.by_ref() {
            cell?;
        }
        if cells.rest.is_empty() { Ok(()) } else { Err(short("row image")) }
    }
}

/// Iterator over the cells of an image; as many items as the schema has columns, unless one is an error.
#[derive(Clone, Debug)]
pub struct Cells<'a> {
    kinds: &'a [CellKind],
    state: &'a [u8],
    rest: &'a [u8],
    column: usize,
}

impl<'a> Cells<'a> {
    /// The bytes of the images not yet read, so that a caller can tell a cell's extent.
    pub fn remaining(&self) -> &'a [u8] {
        self.rest
    }

    /// Passes over the next cell without looking into it.
    pub fn pass(&mut self) -> Result<()> {
        self.extent().map(drop)
    }

    /// State and bytes of the next cell.
    fn extent(&mut self) -> Result<(u8, &'a [u8])> {
        let kind = self.kinds.get(self.column).ok_or_else(|| short("row image"))?;
        let byte = self.state.get(self.column / 4).ok_or_else(|| short("row image"))?;
        let state = (byte >> (self.column % 4 * 2)) & 3;
        self.column += 1;
        let bytes = match (state, kind.width()) {
            (STATE_NULL | STATE_ABSENT, _) => &[],
            (STATE_UNDECODABLE, _) | (_, None) => get_bytes(&mut self.rest)?,
            (_, Some(width)) => take(&mut self.rest, width)?,
        };
        Ok((state, bytes))
    }
}

impl<'a> Iterator for Cells<'a> {
    type Item = Result<ValueRef<'a>>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let kind = *self.kinds.get(self.column)?;
        let Some(byte) = self.state.get(self.column / 4) else {
            self.column = self.kinds.len();
            return Some(Err(short("row image")));
        };
        let state = (byte >> (self.column % 4 * 2)) & 3;
        self.column += 1;
        let cell = match state {
            STATE_NULL => Ok(ValueRef::Null),
            STATE_ABSENT => Ok(ValueRef::Absent),
            STATE_UNDECODABLE => get_bytes(&mut self.rest).map(ValueRef::Undecodable),
            _ => value(kind, &mut self.rest),
        };
        if cell.is_err() {
            self.column = self.kinds.len();
        }
        Some(cell)
    }
}

#[inline]
fn value<'a>(kind: CellKind, r: &mut &'a [u8]) -> Result<ValueRef<'a>> {
    Ok(match kind {
        CellKind::Bool => ValueRef::Bool(array::<1>(r)?[0] != 0),
        CellKind::I8 => ValueRef::Int(i64::from(i8::from_le_bytes(array(r)?))),
        CellKind::I16 => ValueRef::Int(i64::from(i16::from_le_bytes(array(r)?))),
        CellKind::I32 => ValueRef::Int(i64::from(i32::from_le_bytes(array(r)?))),
        CellKind::I64 => ValueRef::Int(i64::from_le_bytes(array(r)?)),
        CellKind::U8 => ValueRef::UInt(u64::from(array::<1>(r)?[0])),
        CellKind::U16 => ValueRef::UInt(u64::from(u16::from_le_bytes(array(r)?))),
        CellKind::U32 => ValueRef::UInt(u64::from(u32::from_le_bytes(array(r)?))),
        CellKind::U64 => ValueRef::UInt(u64::from_le_bytes(array(r)?)),
        CellKind::F32 => ValueRef::Float32(f32::from_le_bytes(array(r)?)),
        CellKind::F64 => ValueRef::Float64(f64::from_le_bytes(array(r)?)),
        CellKind::Date => ValueRef::Date(Date(u32::from_le_bytes(array(r)?))),
        CellKind::Time => ValueRef::Time(Time(i64::from_le_bytes(array(r)?))),
        CellKind::TimeTz => {
            ValueRef::TimeTz(Time(i64::from_le_bytes(array(r)?)), i32::from_le_bytes(array(r)?))
        }
        CellKind::DateTime => ValueRef::DateTime(DateTime(u64::from_le_bytes(array(r)?))),
        CellKind::Timestamp => ValueRef::Timestamp(Timestamp(i64::from_le_bytes(array(r)?))),
        CellKind::Interval => ValueRef::Interval(Interval {
            months: i32::from_le_bytes(array(r)?),
            days: i32::from_le_bytes(array(r)?),
            micros: i64::from_le_bytes(array(r)?),
        }),
        CellKind::Decimal => ValueRef::Decimal(utf8(get_bytes(r)?)?),
        CellKind::Text => ValueRef::Text(utf8(get_bytes(r)?)?),
        CellKind::Bytes => ValueRef::Bytes(get_bytes(r)?),
        CellKind::Fixed16 => ValueRef::Bytes(take(r, 16)?),
        CellKind::Fixed4 => ValueRef::Bytes(take(r, 4)?),
        CellKind::Enum => ValueRef::Enum(u16::from_le_bytes(array(r)?)),
        CellKind::Set => ValueRef::Set(u64::from_le_bytes(array(r)?)),
    })
}

pub(super) fn short(what: &str) -> Error {
    Error::corrupt(format!("The encoding of a batch's {what} ends in the wrong place"))
}

fn utf8(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|_| Error::corrupt("Text in a batch is not UTF-8"))
}

#[inline]
pub(super) fn take<'a>(r: &mut &'a [u8], n: usize) -> Result<&'a [u8]> {
    let (head, rest) = r.split_at_checked(n).ok_or_else(|| short("bytes"))?;
    *r = rest;
    Ok(head)
}

#[inline]
fn array<const N: usize>(r: &mut &[u8]) -> Result<[u8; N]> {
    let (head, rest) = r.split_first_chunk::<N>().ok_or_else(|| short("number"))?;
    *r = rest;
    Ok(*head)
}

#[inline]
pub(super) fn get_u32(r: &mut &[u8]) -> Result<u32> {
    Ok(u32::from_le_bytes(array(r)?))
}

#[inline]
pub(super) fn get_u64(r: &mut &[u8]) -> Result<u64> {
    Ok(u64::from_le_bytes(array(r)?))
}

#[inline]
pub(super) fn get_bytes<'a>(r: &mut &'a [u8]) -> Result<&'a [u8]> {
    let n = get_u32(r)? as usize;
    take(r, n)
}

pub(super) fn get_str<'a>(r: &mut &'a [u8]) -> Result<&'a str> {
    utf8(get_bytes(r)?)
}
