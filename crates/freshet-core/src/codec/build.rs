//! Writing events: a source's decoder puts cells straight into the batch that the log will store.
//!
//! The builder knows the layout, not the meaning: that a transaction begins before it changes rows is asserted,
//! that a cell fits its column's kind is asserted in debug builds and by the differential tests. Images are
//! written column by column, in order; a row that cannot be finished is undone with [`BatchBuilder::rewind`].

use super::event::Batch;
use super::{
    KIND_BEGIN, KIND_COMMIT, KIND_DELETE, KIND_INSERT, KIND_SCHEMA, KIND_STATEMENT, KIND_TRUNCATE,
    KIND_UPDATE, STATE_ABSENT, STATE_NULL, STATE_UNDECODABLE, state_bytes,
};
use crate::position::{CommitPlace, TxnId};
use crate::schema::{TableName, TableSchema};
use crate::temporal::{Date, DateTime, Interval, Time, Timestamp};
use crate::types::CellKind;

/// A place to which a builder can be taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchMark {
    bytes: usize,
    rows: u64,
    in_transaction: bool,
}

/// The events of an open transaction, between two batches.
#[derive(Debug)]
pub struct OpenEvents {
    bytes: Vec<u8>,
    rows: u64,
}

/// Grows one batch. Reused: [`BatchBuilder::seal`] leaves it empty.
#[derive(Debug, Default)]
pub struct BatchBuilder {
    buf: Vec<u8>,
    rows: u64,
    /// Whether the events so far end inside a transaction; survives sealing.
    in_transaction: bool,
    commit_end: Option<BatchMark>,
}

impl BatchBuilder {
    /// An empty builder, outside a transaction.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.buf.len()
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.buf.is_empty()
    }

    /// Row changes so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Whether the last event stands inside a transaction (also one begun in an earlier batch).
    pub fn in_transaction(&self) -> bool {
        self.in_transaction
    }

    /// Whether a transaction ends in this batch.
    pub fn has_commit(&self) -> bool {
        self.commit_end.is_some()
    }

    /// The place right here.
    pub fn mark(&self) -> BatchMark {
        BatchMark { bytes: self.buf.len(), rows: self.rows, in_transaction: self.in_transaction }
    }

    /// Takes back everything written after `mark`.
    pub fn rewind(&mut self, mark: BatchMark) {
        assert!(mark.bytes <= self.buf.len(), "a mark of this batch");
        self.buf.truncate(mark.bytes);
        self.rows = mark.rows;
        self.in_transaction = mark.in_transaction;
        if self.commit_end.is_some_and(|m| m.bytes > mark.bytes) {
            self.commit_end = None;
        }
    }

    /// Drops the open transaction's events from this batch. The parts of it in earlier batches are the caller's.
    pub fn discard_open(&mut self) {
        if self.in_transaction {
            let back = self.commit_end.unwrap_or(BatchMark { bytes: 0, rows: 0, in_transaction: false });
            self.rewind(back);
            self.in_transaction = false;
        }
    }

    /// Takes the open transaction's events out where whole transactions stand before it, so that the batch ends at
    /// its last commit; [`BatchBuilder::put_back`] goes on with them. `None` where nothing stands before them.
    pub fn take_open(&mut self) -> Option<OpenEvents> {
        let back = self.commit_end.filter(|_| self.in_transaction)?;
        let open = OpenEvents { bytes: self.buf[back.bytes..].to_vec(), rows: self.rows - back.rows };
        self.rewind(back);
        Some(open)
    }

    /// Goes on with a transaction that [`BatchBuilder::take_open`] took out of an earlier batch.
    pub fn put_back(&mut self, open: OpenEvents) {
        assert!(!self.in_transaction, "a transaction goes on only after the one before it ended");
        self.buf.extend_from_slice(&open.bytes);
        self.rows += open.rows;
        self.in_transaction = true;
    }

    /// Hands the bytes out as a batch and starts an empty one, still inside the same transaction if one is open.
    pub fn seal(&mut self) -> Batch {
        let capacity = self.buf.len();
        let bytes = std::mem::replace(&mut self.buf, Vec::with_capacity(capacity.min(512 * 1024)));
        let batch = Batch::from_trusted(bytes.into(), self.rows, !self.in_transaction);
        self.rows = 0;
        self.commit_end = None;
        batch
    }

    /// Begins a transaction. `start_us` is microseconds since 1970, 0 if unknown.
    pub fn begin(&mut self, txn: &TxnId, start_us: i64) {
        assert!(!self.in_transaction, "a transaction begins only after the one before it ended");
        self.in_transaction = true;
        let at = self.open(KIND_BEGIN);
        self.i64(start_us);
        match txn {
            TxnId::Anonymous => self.buf.push(0),
            TxnId::Mysql { source, gno } => {
                self.buf.push(1);
                self.buf.extend_from_slice(&source.uuid.0);
                self.str(&source.tag);
                self.u64(*gno);
            }
            TxnId::Mariadb { domain, server, sequence } => {
                self.buf.push(2);
                self.u32(*domain);
                self.u32(*server);
                self.u64(*sequence);
            }
            TxnId::Postgres { xid } => {
                self.buf.push(3);
                self.u32(*xid);
            }
        }
        self.close(at);
    }

    /// Ends the transaction at `place` on the server `server` (empty for PostgreSQL).
    pub fn commit(&mut self, server: &str, place: &CommitPlace, commit_us: i64) {
        assert!(self.in_transaction, "a commit ends an open transaction");
        let at = self.open(KIND_COMMIT);
        self.i64(commit_us);
        self.str(server);
        match place {
            CommitPlace::Binlog(file) => {
                self.buf.push(0);
                self.str(&file.file);
                self.u64(file.pos);
            }
            CommitPlace::Wal(lsn) => {
                self.buf.push(1);
                self.u64(lsn.0);
            }
        }
        self.close(at);
        self.in_transaction = false;
        self.commit_end = Some(self.mark());
    }

    /// Announces a schema. Must precede the first row that uses it in a session.
    pub fn schema(&mut self, schema: &TableSchema) {
        let at = self.open(KIND_SCHEMA);
        self.u64(schema.id().0);
        let bytes = schema.encode();
        self.buf.extend_from_slice(&bytes);
        self.close(at);
    }

    /// A table was emptied.
    pub fn truncate(&mut self, table: &TableName) {
        assert!(self.in_transaction, "a truncate stands inside a transaction");
        let at = self.open(KIND_TRUNCATE);
        self.str(&table.schema);
        self.str(&table.table);
        self.close(at);
    }

    /// A statement other than TRUNCATE that changed a captured table's definition or name.
    pub fn statement(&mut self, database: &str, table: &TableName, text: &str) {
        assert!(self.in_transaction, "a statement stands inside a transaction");
        let at = self.open(KIND_STATEMENT);
        self.str(database);
        self.str(&table.schema);
        self.str(&table.table);
        self.str(text);
        self.close(at);
    }

    /// Starts an insert; the writer must be given every column's cell of the after image, then finished.
    pub fn insert<'b>(&'b mut self, schema: &'b TableSchema) -> RowWriter<'b> {
        self.row(KIND_INSERT, schema)
    }

    /// Starts an update: first the before image's cells, [`RowWriter::after`], then the after image's.
    pub fn update<'b>(&'b mut self, schema: &'b TableSchema) -> RowWriter<'b> {
        self.row(KIND_UPDATE, schema)
    }

    /// Starts a delete; the cells are the before image's.
    pub fn delete<'b>(&'b mut self, schema: &'b TableSchema) -> RowWriter<'b> {
        self.row(KIND_DELETE, schema)
    }

    fn row<'b>(&'b mut self, kind: u8, schema: &'b TableSchema) -> RowWriter<'b> {
        let event = self.open(kind);
        self.u64(schema.id().0);
        if kind == KIND_UPDATE {
            self.u32(0);
        }
        let image = self.buf.len();
        self.buf.resize(image + state_bytes(schema.cells().len()), 0);
        RowWriter {
            builder: self,
            cells: schema.cells(),
            event,
            image,
            column: 0,
            wants_after: kind == KIND_UPDATE,
        }
    }

    fn open(&mut self, kind: u8) -> usize {
        let at = self.buf.len();
        self.buf.extend_from_slice(&[0, 0, 0, 0, kind, 0, 0, 0]);
        at
    }

    fn close(&mut self, at: usize) {
        let len = (self.buf.len() - at) as u32;
        self.buf[at..at + 4].copy_from_slice(&len.to_le_bytes());
    }

    fn u32(&mut self, v: u32) {
        self.buf.extend_from_slice(&v.to_le_bytes());
    }

    fn u64(&mut self, v: u64) {
        self.buf.extend_from_slice(&v.to_le_bytes());
    }

    fn i64(&mut self, v: i64) {
        self.buf.extend_from_slice(&v.to_le_bytes());
    }

    fn str(&mut self, s: &str) {
        self.u32(s.len() as u32);
        self.buf.extend_from_slice(s.as_bytes());
    }
}

/// Writes the cells of one row, in column order. Dropping it unfinished leaves a torn event: rewind then.
#[derive(Debug)]
pub struct RowWriter<'b> {
    builder: &'b mut BatchBuilder,
    cells: &'b [CellKind],
    event: usize,
    image: usize,
    column: usize,
    wants_after: bool,
}

impl RowWriter<'_> {
    /// Layout of the column whose cell comes next; `None` after the last.
    pub fn next_kind(&self) -> Option<CellKind> {
        self.cells.get(self.column).copied()
    }

    #[inline]
    fn state(&mut self, state: u8) {
        assert!(self.column < self.cells.len(), "a cell beyond the row's last column");
        self.builder.buf[self.image + self.column / 4] |= state << (self.column % 4 * 2);
        self.column += 1;
    }

    #[inline]
    fn fixed(&mut self, bytes: &[u8]) {
        debug_assert_eq!(
            self.next_kind().and_then(CellKind::width),
            Some(bytes.len()),
            "cell of column {}",
            self.column
        );
        assert!(self.column < self.cells.len(), "a cell beyond the row's last column");
        self.column += 1;
        self.builder.buf.extend_from_slice(bytes);
    }

    #[inline]
    fn var(&mut self, bytes: &[u8]) {
        debug_assert_eq!(self.next_kind().and_then(CellKind::width), None, "cell of column {}", self.column);
        assert!(self.column < self.cells.len(), "a cell beyond the row's last column");
        self.column += 1;
        self.builder.u32(bytes.len() as u32);
        self.builder.buf.extend_from_slice(bytes);
    }

    /// SQL NULL.
    pub fn null(&mut self) {
        self.state(STATE_NULL);
    }

    /// Not in this image.
    pub fn absent(&mut self) {
        self.state(STATE_ABSENT);
    }

    /// Stored bytes that are no value of the column's type; text in the form of [`crate::undecodable`].
    pub fn undecodable(&mut self, bytes: &[u8]) {
        self.state(STATE_UNDECODABLE);
        self.builder.u32(bytes.len() as u32);
        self.builder.buf.extend_from_slice(bytes);
    }

    /// A boolean.
    pub fn bool(&mut self, v: bool) {
        self.fixed(&[u8::from(v)]);
    }

    /// A signed integer of the column's width; `false` (and nothing written) if it does not fit.
    #[must_use]
    pub fn int(&mut self, v: i64) -> bool {
        match self.next_kind() {
            Some(CellKind::I8) => i8::try_from(v).map(|v| self.fixed(&v.to_le_bytes())).is_ok(),
            Some(CellKind::I16) => i16::try_from(v).map(|v| self.fixed(&v.to_le_bytes())).is_ok(),
            Some(CellKind::I32) => i32::try_from(v).map(|v| self.fixed(&v.to_le_bytes())).is_ok(),
            Some(CellKind::I64) => {
                self.fixed(&v.to_le_bytes());
                true
            }
            _ => false,
        }
    }

    /// An unsigned integer of the column's width; `false` (and nothing written) if it does not fit.
    #[must_use]
    pub fn uint(&mut self, v: u64) -> bool {
        match self.next_kind() {
            Some(CellKind::U8) => u8::try_from(v).map(|v| self.fixed(&v.to_le_bytes())).is_ok(),
            Some(CellKind::U16) => u16::try_from(v).map(|v| self.fixed(&v.to_le_bytes())).is_ok(),
            Some(CellKind::U32) => u32::try_from(v).map(|v| self.fixed(&v.to_le_bytes())).is_ok(),
            Some(CellKind::U64) => {
                self.fixed(&v.to_le_bytes());
                true
            }
            _ => false,
        }
    }

    /// Single precision.
    pub fn float32(&mut self, v: f32) {
        self.fixed(&v.to_le_bytes());
    }

    /// Double precision.
    pub fn float64(&mut self, v: f64) {
        self.fixed(&v.to_le_bytes());
    }

    /// A date.
    pub fn date(&mut self, v: Date) {
        self.fixed(&v.0.to_le_bytes());
    }

    /// A span or a time of day.
    pub fn time(&mut self, v: Time) {
        self.fixed(&v.0.to_le_bytes());
    }

    /// A time of day with its zone in seconds east.
    pub fn time_tz(&mut self, v: Time, zone_s: i32) {
        let mut cell = [0; 12];
        cell[..8].copy_from_slice(&v.0.to_le_bytes());
        cell[8..].copy_from_slice(&zone_s.to_le_bytes());
        self.fixed(&cell);
    }

    /// Date and time without zone.
    pub fn datetime(&mut self, v: DateTime) {
        self.fixed(&v.0.to_le_bytes());
    }

    /// An instant.
    pub fn timestamp(&mut self, v: Timestamp) {
        self.fixed(&v.0.to_le_bytes());
    }

    /// PostgreSQL's interval.
    pub fn interval(&mut self, v: Interval) {
        let mut cell = [0; 16];
        cell[..4].copy_from_slice(&v.months.to_le_bytes());
        cell[4..8].copy_from_slice(&v.days.to_le_bytes());
        cell[8..].copy_from_slice(&v.micros.to_le_bytes());
        self.fixed(&cell);
    }

    /// Decimal text: `-`? digits (`.` digits)?, `NaN`, `Infinity` or `-Infinity`.
    pub fn decimal(&mut self, ascii: &str) {
        self.var(ascii.as_bytes());
    }

    /// UTF-8 text.
    pub fn text(&mut self, v: &str) {
        self.var(v.as_bytes());
    }

    /// Bytes of a column with a length before its cells.
    pub fn bytes(&mut self, v: &[u8]) {
        self.var(v);
    }

    /// Bytes of a column of fixed width: uuid, inet4, inet6. `false` if the width is another.
    #[must_use]
    pub fn fixed_bytes(&mut self, v: &[u8]) -> bool {
        let fits = self.next_kind().and_then(CellKind::width) == Some(v.len());
        if fits {
            self.fixed(v);
        }
        fits
    }

    /// An enum's index.
    pub fn enumeration(&mut self, index: u16) {
        self.fixed(&index.to_le_bytes());
    }

    /// A set's bitmap.
    pub fn set(&mut self, bits: u64) {
        self.fixed(&bits.to_le_bytes());
    }

    /// Appends a whole cell as it is encoded (state VALUE, length included where the kind has one), from another
    /// image of the same kind.
    pub fn raw_cell(&mut self, encoded: &[u8]) {
        assert!(self.column < self.cells.len(), "a cell beyond the row's last column");
        self.column += 1;
        self.builder.buf.extend_from_slice(encoded);
    }

    /// Between the images of an update.
    pub fn after(&mut self) {
        assert!(
            self.wants_after && self.column == self.cells.len(),
            "the before image of an update is complete"
        );
        self.wants_after = false;
        let len = (self.builder.buf.len() - self.image) as u32;
        self.builder.buf[self.image - 4..self.image].copy_from_slice(&len.to_le_bytes());
        self.image = self.builder.buf.len();
        self.builder.buf.resize(self.image + state_bytes(self.cells.len()), 0);
        self.column = 0;
    }

    /// Ends the row.
    pub fn finish(self) {
        assert!(!self.wants_after && self.column == self.cells.len(), "every column of the row was given");
        self.builder.close(self.event);
        self.builder.rows += 1;
    }
}
