//! From a window to the statements' parameters: every row is encoded, and every policy decided, before one is sent.
//!
//! Not execution: `run.rs` sends what is planned here. A step becomes one job for each run of rows of one schema, within
//! the bounds of a statement; in an ordered window, and for tables without a key, one job for each row.

use crate::error::in_table;
use crate::options::{Policies, SinkOptions};
use crate::sink::bound::{Bound, Op};
use crate::sink::encode::Fault;
use bytes::{BufMut, BytesMut};
use freshet_core::window::{ImageRef, Step, StepKind, Window};
use freshet_core::{Error, Result, RowRef, TableName, ValueRef};
use std::fmt;
use std::sync::Arc;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

/// From this many rows on, inserts go by COPY.
pub(crate) const COPY_ROWS_MIN: usize = 200;
/// What binary COPY begins with: signature, flags, no extension.
pub(crate) const COPY_HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// What it ends with.
pub(crate) const COPY_TRAILER: [u8; 2] = (-1i16).to_be_bytes();
const ARRAY_HEADER_BYTES: usize = 20;

/// A parameter that is in PostgreSQL's binary form already.
pub(crate) struct RawParam(pub Option<Vec<u8>>);

impl fmt::Debug for RawParam {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RawParam")
    }
}

impl ToSql for RawParam {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match &self.0 {
            None => Ok(IsNull::Yes),
            Some(bytes) => {
                out.put_slice(bytes);
                Ok(IsNull::No)
            }
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// Where a row stands in the log; a row is named by this and never by its values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    offset: u64,
    byte: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "record {} byte {}", self.offset, self.byte)
    }
}

/// How many rows a statement must touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    /// Exactly these.
    Rows(u64),
    /// However many there are.
    Any,
}

/// One statement with what it is given.
pub(crate) struct Job {
    pub bound: Arc<Bound>,
    pub op: Op,
    pub input: Input,
    pub expect: Expect,
    /// The row, where the job is one row of an ordered window.
    pub place: Option<Place>,
}

pub(crate) enum Input {
    Params(Vec<RawParam>),
    /// A whole binary COPY stream.
    Copy(Vec<u8>),
}

/// What a window becomes.
pub(crate) enum Planned {
    Job(Job),
    Truncate { source: TableName, target: String },
}

/// Gives the binding of a step's schema (an index of the window), or a target's name alone.
pub(crate) trait Bindings {
    fn bound(&self, table: &TableName, schema: u32) -> Result<Arc<Bound>>;
    fn target(&self, table: &TableName) -> Result<String>;
}

/// Encodes a whole window.
pub(crate) fn plan(window: &Window, bindings: &dyn Bindings, options: &SinkOptions) -> Result<Vec<Planned>> {
    let mut planner = Planner { window, bindings, options, out: Vec::with_capacity(window.steps.len()) };
    for step in &window.steps {
        planner.step(step)?;
    }
    Ok(planner.out)
}

struct Planner<'a> {
    window: &'a Window,
    bindings: &'a dyn Bindings,
    options: &'a SinkOptions,
    out: Vec<Planned>,
}

impl Planner<'_> {
    fn step(&mut self, step: &Step) -> Result<()> {
        let table = &step.table;
        match &step.kind {
            StepKind::Insert(rows) => self.inserts(table, rows),
            StepKind::Update(rows) => {
                for run in rows.chunk_by(|a, b| a.0.schema == b.0.schema) {
                    self.updates(table, run)?;
                }
                Ok(())
            }
            StepKind::Patch(rows) => {
                for run in rows.chunk_by(|a, b| a.schema == b.schema) {
                    self.patches(table, run, Expect::Rows)?;
                }
                Ok(())
            }
            StepKind::PatchIfThere(rows) => {
                for run in rows.chunk_by(|a, b| a.schema == b.schema) {
                    self.patches(table, run, |_| Expect::Any)?;
                }
                Ok(())
            }
            StepKind::Delete(rows) => self.by_key(table, rows, Op::Delete),
            StepKind::Upsert(rows) => {
                for run in rows.chunk_by(|a, b| a.schema == b.schema) {
                    let bound = self.keyed(table, run[0].schema)?;
                    self.whole_rows(&bound, run, Op::Upsert)?;
                }
                Ok(())
            }
            StepKind::DeleteIfThere(rows) => self.keys(table, rows, Op::Delete, |_| Expect::Any),
            StepKind::CheckAbsent(rows) => self.keys(table, rows, Op::CheckAbsent, |_| Expect::Rows(0)),
            StepKind::Truncate => {
                let target = self.bindings.target(table)?;
                self.out.push(Planned::Truncate { source: table.clone(), target });
                Ok(())
            }
        }
    }

    fn inserts(&mut self, table: &TableName, rows: &[ImageRef]) -> Result<()> {
        for run in rows.chunk_by(|a, b| a.schema == b.schema) {
            let bound = self.bindings.bound(table, run[0].schema)?;
            if run.len() >= COPY_ROWS_MIN && !self.window.ordered && !bound.is_cast() {
                self.copy(&bound, run)?;
            } else {
                self.whole_rows(&bound, run, Op::Insert)?;
            }
        }
        Ok(())
    }

    fn copy(&mut self, bound: &Arc<Bound>, rows: &[ImageRef]) -> Result<()> {
        let mut data = COPY_HEADER.to_vec();
        for image in rows {
            let row = self.window.row(*image)?;
            copy_row(bound, row, &self.options.policies, &mut data)
                .map_err(|fault| self.refuse(bound, fault, *image))?;
        }
        data.extend_from_slice(&COPY_TRAILER);
        let expect = Expect::Rows(rows.len() as u64);
        self.push(bound, Op::Copy, Input::Copy(data), expect, None);
        Ok(())
    }

    /// Every column of every row, as arrays.
    fn whole_rows(&mut self, bound: &Arc<Bound>, rows: &[ImageRef], op: Op) -> Result<()> {
        let wires: Vec<usize> = (0..bound.columns.len()).collect();
        let places: Vec<Option<Slot>> = wires.iter().map(|i| Some(Slot { value: *i, flag: None })).collect();
        let mut bulk = Bulk::new(bound, op, &wires, 0);
        for image in rows {
            self.flush_full(&mut bulk, Expect::Rows)?;
            self.columns(bound, *image, &mut bulk.arrays, &places)?;
            bulk.added(self.place(*image)?);
        }
        self.flush(&mut bulk, Expect::Rows)
    }

    fn updates(&mut self, table: &TableName, rows: &[(ImageRef, ImageRef)]) -> Result<()> {
        let bound = self.bindings.bound(table, rows[0].0.schema)?;
        if bound.key.is_empty() {
            return rows
                .iter()
                .try_for_each(|(before, after)| self.row_by_row(&bound, *before, Some(*after)));
        }
        let wanted = self.changed(&bound, rows)?;
        self.change(&bound, rows, wanted, Op::Update, Expect::Rows)
    }

    /// Every column that the images have, but for the key, which they are found by.
    fn patches(&mut self, table: &TableName, rows: &[ImageRef], expect: fn(u64) -> Expect) -> Result<()> {
        let bound = self.keyed(table, rows[0].schema)?;
        let wanted = bound.key_slots.iter().map(Option::is_none).collect();
        let pairs: Vec<_> = rows.iter().map(|image| (*image, *image)).collect();
        self.change(&bound, &pairs, wanted, Op::Patch, expect)
    }

    /// Sets the wanted columns of rows that are found by the first image's key. What an image lacks stays as it is.
    fn change(
        &mut self,
        bound: &Arc<Bound>,
        rows: &[(ImageRef, ImageRef)],
        mut wanted: Vec<bool>,
        op: fn(u8) -> Op,
        expect: fn(u64) -> Expect,
    ) -> Result<()> {
        let (mut lacked, mut had) = (vec![false; wanted.len()], vec![false; wanted.len()]);
        for (_, after) in rows {
            let after = self.window.row(*after)?;
            if !after.is_partial() {
                had.fill(true);
                continue;
            }
            for column in 0..wanted.len() {
                let flags = if after.lacks(column) { &mut lacked } else { &mut had };
                flags[column] = true;
            }
        }
        wanted.iter_mut().zip(&had).for_each(|(wanted, had)| *wanted &= had);
        if !wanted.contains(&true) {
            // The row is still to be found, which takes a statement that sets something. A row that was deleted and
            // inserted as it was is written as the policies have it now, so that is all there is; the key always is.
            wanted = had;
        }
        let (number, set) = bound.update_set(&wanted, &lacked);
        let wires: Vec<usize> = bound.key.iter().chain(set.columns.iter()).copied().collect();
        let mut places = vec![None; bound.columns.len()];
        for (i, column) in set.columns.iter().enumerate() {
            let flag = set.flagged.iter().position(|c| c == column).map(|at| wires.len() + at);
            places[*column] = Some(Slot { value: bound.key.len() + i, flag });
        }
        let mut bulk = Bulk::new(bound, op(number), &wires, set.flagged.len());
        for (before, after) in rows {
            self.flush_full(&mut bulk, expect)?;
            self.key_cells(bound, *before, &mut bulk.arrays)?;
            self.columns(bound, *after, &mut bulk.arrays, &places)?;
            bulk.added(self.place(*after)?);
        }
        self.flush(&mut bulk, expect)
    }

    /// The columns that any of the rows changes. What stays as it is need not be sent and written again, which for
    /// large values is most of the work.
    fn changed(&self, bound: &Bound, rows: &[(ImageRef, ImageRef)]) -> Result<Vec<bool>> {
        let mut changed = vec![false; bound.columns.len()];
        for (before, after) in rows {
            if before.schema != after.schema {
                let table = &bound.source;
                return Err(Error::internal(format!(
                    "The two images of an update of {table} differ in schema"
                )));
            }
            let after = self.window.row(*after)?;
            after
                .mark_changed(self.window.row(*before)?, &mut changed)
                .map_err(|e| in_table(&bound.source, e))?;
        }
        Ok(changed)
    }

    /// Strict deletes; by every column where there is no key.
    fn by_key(&mut self, table: &TableName, rows: &[ImageRef], op: Op) -> Result<()> {
        for run in rows.chunk_by(|a, b| a.schema == b.schema) {
            let bound = self.bindings.bound(table, run[0].schema)?;
            if bound.key.is_empty() {
                run.iter().try_for_each(|image| self.row_by_row(&bound, *image, None))?;
            } else {
                self.keys(table, run, op, Expect::Rows)?;
            }
        }
        Ok(())
    }

    fn keys(
        &mut self,
        table: &TableName,
        rows: &[ImageRef],
        op: Op,
        expect: fn(u64) -> Expect,
    ) -> Result<()> {
        for run in rows.chunk_by(|a, b| a.schema == b.schema) {
            let bound = self.keyed(table, run[0].schema)?;
            let mut bulk = Bulk::new(&bound, op, &bound.key, 0);
            for image in run {
                self.flush_full(&mut bulk, expect)?;
                self.key_cells(&bound, *image, &mut bulk.arrays)?;
                bulk.added(self.place(*image)?);
            }
            self.flush(&mut bulk, expect)?;
        }
        Ok(())
    }

    fn keyed(&self, table: &TableName, schema: u32) -> Result<Arc<Bound>> {
        let bound = self.bindings.bound(table, schema)?;
        if bound.key.is_empty() {
            return Err(Error::internal(format!(
                "Table {table} has no key, so it cannot be applied idempotently"
            )));
        }
        Ok(bound)
    }

    /// One row of a table without a key: scalars instead of arrays.
    fn row_by_row(&mut self, bound: &Arc<Bound>, before: ImageRef, after: Option<ImageRef>) -> Result<()> {
        let mut params = Vec::with_capacity(bound.columns.len() * 2);
        for image in [Some(before), after].into_iter().flatten() {
            let mut cells = Vec::new();
            for (column, cell) in bound.columns.iter().zip(self.window.row(image)?.cells()) {
                cells.clear();
                let cell = cell.map_err(|e| in_table(&bound.source, e))?;
                let written = column.encoder.cell(cell, &self.options.policies, &mut cells);
                written.map_err(|fault| {
                    self.refuse(bound, Refused { fault, column: column.plain.clone() }, image)
                })?;
                let is_null = cells[..4] == (-1i32).to_be_bytes();
                params.push(RawParam((!is_null).then(|| cells[4..].to_vec())));
            }
        }
        let op = if after.is_some() { Op::UpdateRow } else { Op::DeleteRow };
        let place = self.place(before)?;
        self.push(bound, op, Input::Params(params), Expect::Rows(1), Some(place));
        Ok(())
    }

    /// Appends cells of a row, each column's to the array of its place.
    fn columns(
        &self,
        bound: &Bound,
        image: ImageRef,
        arrays: &mut [Array],
        places: &[Option<Slot>],
    ) -> Result<()> {
        let mut cells = self.window.row(image)?.cells();
        for (column, place) in bound.columns.iter().zip(places) {
            let Some(Slot { value, flag }) = *place else {
                cells.pass().map_err(|e| in_table(&bound.source, e))?;
                continue;
            };
            let Some(cell) = cells.next() else { break };
            let cell = cell.map_err(|e| in_table(&bound.source, e))?;
            let cell = match flag {
                // The flag says that the column stays as it is, so the NULL is never stored.
                Some(flag) => arrays[flag].push_flag(cell != ValueRef::Absent).then_some(cell),
                None => Some(cell),
            };
            let cell = cell.unwrap_or(ValueRef::Null);
            let written = column.encoder.cell(cell, &self.options.policies, &mut arrays[value].bytes);
            written.map_err(|fault| {
                self.refuse(bound, Refused { fault, column: column.plain.clone() }, image)
            })?;
        }
        Ok(())
    }

    /// Appends the cells of a row's key to the first arrays.
    fn key_cells(&self, bound: &Bound, image: ImageRef, arrays: &mut [Array]) -> Result<()> {
        let row = self.window.row(image)?;
        let mut wanted = bound.key.len();
        for ((column, slot), cell) in bound.columns.iter().zip(&bound.key_slots).zip(row.cells()) {
            let cell = cell.map_err(|e| in_table(&bound.source, e))?;
            let Some(slot) = slot else { continue };
            let written = column.encoder.cell(cell, &self.options.policies, &mut arrays[*slot].bytes);
            written.map_err(|fault| {
                self.refuse(bound, Refused { fault, column: column.plain.clone() }, image)
            })?;
            wanted -= 1;
            if wanted == 0 {
                break;
            }
        }
        Ok(())
    }

    fn flush_full(&mut self, bulk: &mut Bulk, expect: fn(u64) -> Expect) -> Result<()> {
        let full = bulk.rows >= self.options.statement_rows_max
            || bulk.bytes() >= self.options.statement_bytes_max
            || (self.window.ordered && bulk.rows == 1);
        if full { self.flush(bulk, expect) } else { Ok(()) }
    }

    fn flush(&mut self, bulk: &mut Bulk, expect: fn(u64) -> Expect) -> Result<()> {
        if bulk.rows == 0 {
            return Ok(());
        }
        let rows = bulk.rows as u64;
        let place = bulk.first.filter(|_| self.window.ordered);
        let params = bulk.take();
        let (bound, op) = (bulk.bound.clone(), bulk.op);
        self.push(&bound, op, Input::Params(params), expect(rows), place);
        Ok(())
    }

    fn push(&mut self, bound: &Arc<Bound>, op: Op, input: Input, expect: Expect, place: Option<Place>) {
        self.out.push(Planned::Job(Job { bound: bound.clone(), op, input, expect, place }));
    }

    fn place(&self, image: ImageRef) -> Result<Place> {
        let record = self.window.records.get(image.record as usize);
        let record =
            record.ok_or_else(|| Error::internal("An image of a window lies outside its records"))?;
        Ok(Place { offset: record.offset.0, byte: image.start })
    }

    fn refuse(&self, bound: &Bound, refused: Refused, image: ImageRef) -> Error {
        match self.place(image) {
            Ok(place) => refused.error(&bound.source, &place),
            Err(error) => error,
        }
    }
}

/// A column that could not be encoded.
#[derive(Debug)]
pub(crate) struct Refused {
    pub fault: Fault,
    pub column: String,
}

impl Refused {
    /// The error of a row at `place`.
    pub(crate) fn error(self, table: &TableName, place: &dyn fmt::Display) -> Error {
        let (what, remedy) = self.fault.describe();
        let text = format!("Column {} of {table} {what}, in the row at {place}", self.column);
        Error::table(table.clone(), text).with_hint(remedy)
    }
}

/// Appends one row of a binary COPY. On an error `out` is to be given up.
#[inline]
pub(crate) fn copy_row(
    bound: &Bound,
    row: RowRef<'_>,
    policies: &Policies,
    out: &mut Vec<u8>,
) -> Result<(), Refused> {
    out.extend_from_slice(&(bound.columns.len() as i16).to_be_bytes());
    for (column, cell) in bound.columns.iter().zip(row.cells()) {
        let written = match cell {
            Ok(cell) => column.encoder.cell(cell, policies, out),
            Err(_) => Err(Fault::Mismatch),
        };
        written.map_err(|fault| Refused { fault, column: column.plain.clone() })?;
    }
    Ok(())
}

/// Where the cells of a column go: the array of its values, and the one that says whether a row has one.
#[derive(Clone, Copy, Debug)]
struct Slot {
    value: usize,
    flag: Option<usize>,
}

/// Parameters of one statement, growing.
struct Bulk {
    bound: Arc<Bound>,
    op: Op,
    arrays: Vec<Array>,
    rows: usize,
    first: Option<Place>,
}

/// A one-dimensional array: elements as cells.
struct Array {
    element: u32,
    bytes: Vec<u8>,
}

impl Array {
    fn new(element: u32) -> Self {
        Self { element, bytes: vec![0; ARRAY_HEADER_BYTES] }
    }

    /// Appends a boolean, and gives it back.
    fn push_flag(&mut self, flag: bool) -> bool {
        self.bytes.extend_from_slice(&1i32.to_be_bytes());
        self.bytes.push(u8::from(flag));
        flag
    }

    /// Dimensions 1, the null flag (readers look at the elements), element type, length, lower bound 1.
    fn finish(&mut self, rows: usize) -> Vec<u8> {
        let mut bytes = std::mem::replace(&mut self.bytes, vec![0; ARRAY_HEADER_BYTES]);
        let header = [1, 1, self.element, rows as u32, 1];
        for (place, word) in bytes.chunks_mut(4).zip(header) {
            place.copy_from_slice(&word.to_be_bytes());
        }
        bytes
    }
}

impl Bulk {
    /// An array for each column, then one for each flag.
    fn new(bound: &Arc<Bound>, op: Op, columns: &[usize], flags: usize) -> Self {
        let array = |i: &usize| Array::new(bound.columns[*i].wire.types().0.oid());
        let flags = (0..flags).map(|_| Array::new(Type::BOOL.oid()));
        let arrays = columns.iter().map(array).chain(flags).collect();
        Self { bound: bound.clone(), op, arrays, rows: 0, first: None }
    }

    fn added(&mut self, place: Place) {
        self.rows += 1;
        self.first.get_or_insert(place);
    }

    fn bytes(&self) -> usize {
        self.arrays.iter().map(|a| a.bytes.len()).sum()
    }

    fn take(&mut self) -> Vec<RawParam> {
        let rows = std::mem::take(&mut self.rows);
        self.first = None;
        self.arrays.iter_mut().map(|array| RawParam(Some(array.finish(rows)))).collect()
    }
}
