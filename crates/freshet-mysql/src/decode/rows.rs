//! Row events: from the bitmap of columns to rows in a batch, resumable after any row.
//!
//! Formats: MySQL source documentation, "Rows_event" (versions 1 and 2). Only images with every column are read (R9);
//! unknown flags are accepted (R15).

use freshet_core::codec::{BatchBuilder, RowWriter};

use super::codes::Change;
use super::plan::Plan;
use crate::values::cell::Scratch;
use crate::values::reader::{Read, Reader, Short, bit};

/// The part of a row event before its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RowsHead<'a> {
    pub(super) table: u64,
    pub(super) flags: u16,
    rest: &'a [u8],
}

/// The last row event of a statement; its tables are mapped again before the next.
pub(super) const FLAG_STATEMENT_END: u16 = 0x1;
/// The table id of an event without rows that only ends a statement.
pub(super) const DUMMY_TABLE: u64 = 0xFF_FFFF;

impl<'a> RowsHead<'a> {
    /// From behind the header on.
    pub(super) fn parse(body: &'a [u8], version: u8) -> Read<Self> {
        let mut r = Reader::new(body);
        let (table, flags) = (r.uint(6)?, r.u16()?);
        if version == 2 {
            let extra = usize::from(r.u16()?).checked_sub(2).ok_or(Short)?;
            r.take(extra)?;
        }
        Ok(RowsHead { table, flags, rest: r.rest() })
    }

    /// Where the rows begin, counted from the body's beginning.
    pub(super) fn rows(&self, body: &[u8], columns: usize, change: Change) -> Read<Images> {
        let mut r = Reader::new(self.rest);
        if r.packed_len()? != columns {
            return Ok(Images::OtherColumns);
        }
        let bitmaps = if change == Change::Update { 2 } else { 1 };
        for _ in 0..bitmaps {
            let present = r.take(columns.div_ceil(8))?;
            if !(0..columns).all(|column| bit(present, column)) {
                return Ok(Images::Partial);
            }
        }
        Ok(Images::Full { from: body.len() - r.len() })
    }
}

/// What a row event's images hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Images {
    /// Every column; the rows begin at byte `from` of the body.
    Full { from: usize },
    /// Not every column.
    Partial,
    /// Another number of columns than the TABLE_MAP has.
    OtherColumns,
}

/// Writes rows until the end or until the batch has `bytes_max`; gives the bytes of `rows` that were used.
pub(super) fn write(
    plan: &Plan,
    change: Change,
    rows: &[u8],
    batch: &mut BatchBuilder,
    bytes_max: usize,
    scratch: &mut Scratch,
) -> Read<usize> {
    let mut r = Reader::new(rows);
    while !r.is_empty() {
        let mark = batch.mark();
        if let Err(short) = write_row(plan, change, &mut r, batch, scratch) {
            batch.rewind(mark);
            return Err(short);
        }
        if batch.len() >= bytes_max {
            break;
        }
    }
    Ok(rows.len() - r.len())
}

#[inline]
fn write_row(
    plan: &Plan,
    change: Change,
    r: &mut Reader<'_>,
    batch: &mut BatchBuilder,
    scratch: &mut Scratch,
) -> Read<()> {
    let mut row = match change {
        Change::Insert => batch.insert(&plan.schema),
        Change::Update => batch.update(&plan.schema),
        Change::Delete => batch.delete(&plan.schema),
    };
    write_image(plan, r, &mut row, scratch)?;
    if change == Change::Update {
        row.after();
        write_image(plan, r, &mut row, scratch)?;
    }
    row.finish();
    Ok(())
}

#[inline]
fn write_image(plan: &Plan, r: &mut Reader<'_>, row: &mut RowWriter<'_>, scratch: &mut Scratch) -> Read<()> {
    let nulls = r.take(plan.cells.len().div_ceil(8))?;
    for (at, cell) in plan.cells.iter().enumerate() {
        if bit(nulls, at) {
            row.null();
        } else {
            cell.read(r, row, scratch)?;
        }
    }
    Ok(())
}
