//! From a window to requests: every row is encoded, and every policy decided, before one is sent.
//!
//! Not execution: `run.rs` sends what is planned here. Inserts are statements of many rows, or go in bulk, which spares
//! the server half of its work (MariaDB); deletes by a key of one column are lists of keys; everything else is one statement for each row, many of which go in one request and answer with
//! a count each, so an update names its row and costs no round trip of its own. There is no REPLACE and no ON DUPLICATE
//! KEY UPDATE: either may change another row than the key's where a second unique index is hit. An upsert is a delete by
//! key and an insert, which such an index refuses.

use crate::sink::bound::{Bound, Refused, too_long};
use crate::sink::encode::{Fault, Leniency};
use crate::sink::options::{Policies, SinkOptions};
use crate::sink::session::Facts;
use freshet_core::window::{ImageRef, Step, StepKind, Window};
use freshet_core::{Error, ErrorKind, Result, TableName};
use std::fmt;
use std::sync::Arc;

/// Statements of one request at most: their answers come back in one piece.
const REQUEST_STATEMENTS_MAX: usize = 4_000;
/// Fewer rows than these go as text, which needs no round trip of its own.
const BULK_ROWS_MIN: usize = 32;
/// Error values of enums in one statement after which no more rows are added: the server counts warnings in 16 bits.
const ZERO_ENUMS_MAX: u32 = 1_000;
/// Before a row whose enum holds the error value, which strict mode refuses, and after it.
const LENIENT: &[u8] =
    b"set session sql_mode = 'ALLOW_INVALID_DATES,NO_AUTO_VALUE_ON_ZERO,NO_ENGINE_SUBSTITUTION'";
const STRICT: &[u8] = b"set session sql_mode = \
    'STRICT_ALL_TABLES,ALLOW_INVALID_DATES,NO_AUTO_VALUE_ON_ZERO,NO_ENGINE_SUBSTITUTION'";

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

/// What a statement does to rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Insert,
    Upsert,
    Update,
    Patch,
    Delete,
    CheckAbsent,
}

/// What a statement is about, for errors.
#[derive(Clone, Debug)]
pub(crate) enum About {
    Rows {
        bound: Arc<Bound>,
        op: Op,
        /// The row, where the statement is about one of an ordered window.
        place: Option<Place>,
    },
    Truncate(TableName),
    Session,
    Checkpoint,
}

/// What is known of one statement of a request.
#[derive(Clone, Debug)]
pub(crate) struct Check {
    pub expect: Expect,
    /// Warnings that it makes; any other number means that the target changed a value.
    pub warnings: Option<u32>,
    pub about: About,
}

/// What is sent together.
pub(crate) struct Request {
    pub payload: Payload,
    /// One for each statement; a bulk insert is one.
    pub checks: Vec<Check>,
}

/// The text of statements, or the rows of an insert in bulk.
pub(crate) enum Payload {
    Text(Vec<u8>),
    Bulk(Bulk),
}

/// Rows of an insert in bulk.
pub(crate) struct Bulk {
    pub bound: Arc<Bound>,
    pub rows: Vec<u8>,
}

/// Requests in the making.
pub(crate) struct Requests {
    facts: Facts,
    out: Vec<Request>,
}

impl Requests {
    pub(crate) fn new(facts: Facts) -> Self {
        Self { facts, out: Vec::new() }
    }

    /// Adds a statement to the last request, or to a new one if that is full.
    pub(crate) fn add(&mut self, sql: &[u8], check: Check) {
        let bytes_max = self.facts.request_bytes_max;
        if let Some(Request { payload: Payload::Text(text), checks }) = self.out.last_mut()
            && checks.len() < REQUEST_STATEMENTS_MAX
            && text.len() + sql.len() < bytes_max
        {
            text.push(b';');
            text.extend_from_slice(sql);
            checks.push(check);
            return;
        }
        self.out.push(Request { payload: Payload::Text(sql.to_vec()), checks: vec![check] });
    }

    /// Adds an insert of several rows.
    pub(crate) fn insert(&mut self, insert: Insert, about: About) {
        let warnings = Some(insert.leniency.zero_enums);
        let check = Check { expect: Expect::Rows(insert.rows), warnings, about };
        match insert.payload {
            Payload::Text(sql) => self.leniently(&sql, insert.leniency, check),
            bulk @ Payload::Bulk(_) => self.out.push(Request { payload: bulk, checks: vec![check] }),
        }
    }

    /// Adds a statement that is not about rows.
    pub(crate) fn session(&mut self, sql: &[u8]) {
        self.add(sql, Check { expect: Expect::Any, warnings: None, about: About::Session });
    }

    /// Adds a statement that writes values, in lenient mode if it must be.
    pub(crate) fn leniently(&mut self, sql: &[u8], leniency: Leniency, check: Check) {
        let is_lenient = leniency.is_lenient();
        if is_lenient {
            self.session(LENIENT);
        }
        self.add(sql, check);
        if is_lenient {
            self.session(STRICT);
        }
    }

    pub(crate) fn finish(self) -> Vec<Request> {
        self.out
    }
}

/// Gives the binding of a step's schema (an index of the window), or a target's name alone.
pub(crate) trait Bindings {
    fn bound(&self, table: &TableName, schema: u32) -> Result<Arc<Bound>>;
    fn target(&self, table: &TableName) -> Result<String>;
}

/// Adds a whole window.
pub(crate) fn plan(
    window: &Window,
    bindings: &dyn Bindings,
    options: &SinkOptions,
    requests: &mut Requests,
) -> Result<()> {
    let mut planner = Planner { window, bindings, options, requests };
    window.steps.iter().try_for_each(|step| planner.step(step))
}

struct Planner<'a> {
    window: &'a Window,
    bindings: &'a dyn Bindings,
    options: &'a SinkOptions,
    requests: &'a mut Requests,
}

impl Planner<'_> {
    fn step(&mut self, step: &Step) -> Result<()> {
        let table = &step.table;
        match &step.kind {
            StepKind::Insert(rows) => {
                self.runs(table, rows, |this, bound, run| this.inserts(bound, run, Op::Insert))
            }
            StepKind::Update(rows) => rows.iter().try_for_each(|(from, to)| self.update(table, *from, *to)),
            StepKind::Patch(rows) => {
                rows.iter().try_for_each(|image| self.patch(table, *image, Expect::Rows(1)))
            }
            StepKind::PatchIfThere(rows) => {
                rows.iter().try_for_each(|image| self.patch(table, *image, Expect::Any))
            }
            StepKind::Delete(rows) => self.runs(table, rows, |this, bound, run| match bound.key.is_empty() {
                true => run.iter().try_for_each(|image| this.delete_row(bound, *image)),
                false => this.deletes(bound, run, Op::Delete, Expect::Rows),
            }),
            StepKind::Upsert(rows) => self.runs(table, rows, |this, bound, run| this.upserts(bound, run)),
            StepKind::DeleteIfThere(rows) => self.runs(table, rows, |this, bound, run| {
                this.keyed(bound)?;
                this.deletes(bound, run, Op::Delete, |_| Expect::Any)
            }),
            StepKind::CheckAbsent(rows) => self.runs(table, rows, |this, bound, run| {
                this.keyed(bound)?;
                this.absent(bound, run)
            }),
            StepKind::Truncate => {
                // TRUNCATE commits by itself, and shows an empty table before it should (R22).
                let sql = format!("delete from {}", self.bindings.target(table)?);
                let about = About::Truncate(table.clone());
                self.requests.add(sql.as_bytes(), Check { expect: Expect::Any, warnings: None, about });
                Ok(())
            }
        }
    }

    /// Runs of rows of one schema, each row by itself in an ordered window.
    fn runs(
        &mut self,
        table: &TableName,
        rows: &[ImageRef],
        mut each: impl FnMut(&mut Self, &Arc<Bound>, &[ImageRef]) -> Result<()>,
    ) -> Result<()> {
        for run in rows.chunk_by(|a, b| a.schema == b.schema) {
            let bound = self.bindings.bound(table, run[0].schema)?;
            let rows_max = if self.window.ordered { 1 } else { self.options.statement_rows_max.max(1) };
            run.chunks(rows_max).try_for_each(|rows| each(self, &bound, rows))?;
        }
        Ok(())
    }

    fn keyed(&self, bound: &Bound) -> Result<()> {
        if !bound.key.is_empty() {
            return Ok(());
        }
        let table = &bound.source;
        Err(Error::internal(format!("Table {table} has no key, so it cannot be applied idempotently")))
    }

    fn upserts(&mut self, bound: &Arc<Bound>, rows: &[ImageRef]) -> Result<()> {
        self.keyed(bound)?;
        self.deletes(bound, rows, Op::Upsert, |_| Expect::Any)?;
        self.inserts(bound, rows, Op::Upsert)
    }

    fn inserts(&mut self, bound: &Arc<Bound>, rows: &[ImageRef], op: Op) -> Result<()> {
        let mut many = Values::new(bound, self.requests.facts, rows.len() >= BULK_ROWS_MIN);
        for image in rows {
            let row = self.window.row(*image)?;
            let full = many.add(row, &self.options.policies);
            let full = full.map_err(|refused| self.refuse(bound, &refused, *image))?;
            if let Some(statement) = full {
                self.insert(bound, statement, op, *image)?;
            }
        }
        match (many.take(), rows.last()) {
            (Some(statement), Some(last)) => self.insert(bound, statement, op, *last),
            _ => Ok(()),
        }
    }

    fn insert(&mut self, bound: &Arc<Bound>, statement: Insert, op: Op, image: ImageRef) -> Result<()> {
        let about = self.about(bound, op, image)?;
        self.requests.insert(statement, about);
        Ok(())
    }

    fn update(&mut self, table: &TableName, from: ImageRef, to: ImageRef) -> Result<()> {
        let bound = self.bindings.bound(table, from.schema)?;
        if from.schema != to.schema {
            return Err(Error::internal(format!("The two images of an update of {table} differ in schema")));
        }
        let (old, new) = (self.window.row(from)?, self.window.row(to)?);
        let mut changed = vec![bound.key.is_empty(); bound.columns.len()];
        new.mark_changed(old, &mut changed).map_err(|e| in_table(&bound.source, e))?;
        self.change(&bound, from, to, &changed, (Op::Update, Expect::Rows(1)))
    }

    /// Every column that the image has, but for the key, which it is found by.
    fn patch(&mut self, table: &TableName, image: ImageRef, expect: Expect) -> Result<()> {
        let bound = self.bindings.bound(table, image.schema)?;
        self.keyed(&bound)?;
        let wanted: Vec<bool> = (0..bound.columns.len()).map(|at| !bound.key.contains(&at)).collect();
        self.change(&bound, image, image, &wanted, (Op::Patch, expect))
    }

    fn change(
        &mut self,
        bound: &Arc<Bound>,
        from: ImageRef,
        to: ImageRef,
        is_set: &[bool],
        (op, expect): (Op, Expect),
    ) -> Result<()> {
        let policies = &self.options.policies;
        let (old, new) = (self.window.row(from)?, self.window.row(to)?);
        let (mut sql, mut leniency) = (Vec::with_capacity(128), Leniency::default());
        sql.extend_from_slice(b"update ");
        sql.extend_from_slice(bound.target.as_bytes());
        sql.extend_from_slice(b" set ");
        let written = bound.assign(new, is_set, policies, &mut leniency, &mut sql);
        sql.extend_from_slice(b" where ");
        let written = written.and_then(|()| match bound.key.is_empty() {
            true => bound.row_match(old, policies, &mut sql),
            false => bound.key_match(old, policies, &mut sql),
        });
        written.map_err(|refused| self.refuse(bound, &refused, to))?;
        if bound.key.is_empty() {
            sql.extend_from_slice(b" limit 1");
        }
        self.refuse_long(bound, &sql, to)?;
        let about = self.about(bound, op, to)?;
        let warnings = Some(leniency.zero_enums);
        self.requests.leniently(&sql, leniency, Check { expect, warnings, about });
        Ok(())
    }

    /// One of the rows that are equal to the image in every column.
    fn delete_row(&mut self, bound: &Arc<Bound>, image: ImageRef) -> Result<()> {
        let mut sql = format!("delete from {} where ", bound.target).into_bytes();
        let written = bound.row_match(self.window.row(image)?, &self.options.policies, &mut sql);
        written.map_err(|refused| self.refuse(bound, &refused, image))?;
        sql.extend_from_slice(b" limit 1");
        self.refuse_long(bound, &sql, image)?;
        let about = self.about(bound, Op::Delete, image)?;
        self.requests.add(&sql, Check { expect: Expect::Rows(1), warnings: None, about });
        Ok(())
    }

    fn deletes(
        &mut self,
        bound: &Arc<Bound>,
        rows: &[ImageRef],
        op: Op,
        expect: fn(u64) -> Expect,
    ) -> Result<()> {
        let head = format!("delete from {} where ", bound.target);
        self.by_key(bound, rows, &head, "", op, expect)
    }

    fn absent(&mut self, bound: &Arc<Bound>, rows: &[ImageRef]) -> Result<()> {
        let head = format!("select 1 from {} where ", bound.target);
        self.by_key(bound, rows, &head, " limit 1", Op::CheckAbsent, |_| Expect::Rows(0))
    }

    /// One statement for a list of keys of one column, or one for each row.
    fn by_key(
        &mut self,
        bound: &Arc<Bound>,
        rows: &[ImageRef],
        head: &str,
        tail: &str,
        op: Op,
        expect: fn(u64) -> Expect,
    ) -> Result<()> {
        let lists = if bound.key.len() == 1 { rows.len() } else { 1 };
        for list in rows.chunks(lists.max(1)) {
            let mut from = 0;
            while from < list.len() {
                let mut sql = head.as_bytes().to_vec();
                let taken = self.keys(bound, &list[from..], &mut sql)?;
                sql.extend_from_slice(tail.as_bytes());
                self.refuse_long(bound, &sql, list[from])?;
                let about = self.about(bound, op, list[from])?;
                let check = Check { expect: expect(taken as u64), warnings: None, about };
                self.requests.add(&sql, check);
                from += taken;
            }
        }
        Ok(())
    }

    /// Appends a condition for as many of the rows as one request holds; how many these are.
    fn keys(&self, bound: &Arc<Bound>, rows: &[ImageRef], sql: &mut Vec<u8>) -> Result<usize> {
        let policies = &self.options.policies;
        if rows.len() == 1 {
            let written = bound.key_match(self.window.row(rows[0])?, policies, sql);
            return written.map(|()| 1).map_err(|refused| self.refuse(bound, &refused, rows[0]));
        }
        sql.extend_from_slice(bound.columns[bound.key[0]].name.as_bytes());
        sql.extend_from_slice(b" in (");
        let mut taken = 0;
        for image in rows {
            if taken > 0 && sql.len() >= self.requests.facts.request_bytes_max / 2 {
                break;
            }
            if taken > 0 {
                sql.push(b',');
            }
            let written = bound.key_value(self.window.row(*image)?, policies, sql);
            written.map_err(|refused| self.refuse(bound, &refused, *image))?;
            taken += 1;
        }
        sql.push(b')');
        Ok(taken)
    }

    fn about(&self, bound: &Arc<Bound>, op: Op, image: ImageRef) -> Result<About> {
        let has_place = self.window.ordered || (bound.key.is_empty() && op != Op::Insert);
        let place = if has_place { Some(self.place(image)?) } else { None };
        Ok(About::Rows { bound: bound.clone(), op, place })
    }

    fn refuse_long(&self, bound: &Bound, sql: &[u8], image: ImageRef) -> Result<()> {
        if sql.len() <= self.requests.facts.packet_bytes_max {
            return Ok(());
        }
        Err(too_long(&bound.source, &self.place(image)?))
    }

    fn place(&self, image: ImageRef) -> Result<Place> {
        let record = self.window.records.get(image.record as usize);
        let record =
            record.ok_or_else(|| Error::internal("An image of a window lies outside its records"))?;
        Ok(Place { offset: record.offset.0, byte: image.start })
    }

    fn refuse(&self, bound: &Bound, refused: &Refused, image: ImageRef) -> Error {
        match self.place(image) {
            Ok(place) => refused.error(&bound.source, &place),
            Err(error) => error,
        }
    }
}

/// Adds the table to an error that the codec raised while a row of it was read.
fn in_table(table: &TableName, error: Error) -> Error {
    if *error.kind() == ErrorKind::Corrupt { error.context(format!("A row of {table}")) } else { error }
}

/// An insert of several rows.
pub(crate) struct Insert {
    pub payload: Payload,
    pub rows: u64,
    pub leniency: Leniency,
}

/// Rows gathered for inserts, cut where a request is full, and around rows that lenient mode is for.
pub(crate) struct Values {
    bound: Arc<Bound>,
    facts: Facts,
    /// Whether rows go in bulk, but for those that lenient mode is for.
    bulk: bool,
    /// The statement so far, or the rows in bulk.
    bytes: Vec<u8>,
    rows: u64,
    leniency: Leniency,
    row: Vec<u8>,
}

impl Values {
    pub(crate) fn new(bound: &Arc<Bound>, facts: Facts, is_many: bool) -> Self {
        let bulk = is_many && facts.takes_bulk && bound.bulk.is_some();
        let (bytes, row) = (Vec::new(), Vec::new());
        Self { bound: bound.clone(), facts, bulk, bytes, rows: 0, leniency: Leniency::default(), row }
    }

    /// Adds a row; the insert before it, if there is no room in that.
    pub(crate) fn add(
        &mut self,
        row: freshet_core::RowRef<'_>,
        policies: &Policies,
    ) -> std::result::Result<Option<Insert>, Refused> {
        let leniency = self.encode(row, policies)?;
        if self.head_bytes() + self.row.len() > self.facts.packet_bytes_max {
            return Err(Refused { fault: Fault::TooLong, column: String::new() });
        }
        // A bulk execution of many columns has a head of some kilobytes that is not among the bytes yet.
        let has_room = self.head_bytes() + self.bytes.len() + self.row.len() < self.facts.request_bytes_max;
        let is_alike =
            leniency.is_lenient() == self.leniency.is_lenient() && self.leniency.zero_enums < ZERO_ENUMS_MAX;
        let full = if has_room && is_alike { None } else { self.take() };
        self.leniency.zero_enums += leniency.zero_enums;
        if !self.is_bulk(self.leniency) {
            let between = if self.rows == 0 { self.bound.insert.as_bytes() } else { b"," };
            self.bytes.extend_from_slice(between);
        }
        self.bytes.extend_from_slice(&self.row);
        self.rows += 1;
        Ok(full)
    }

    /// Encodes a row by itself: as text if lenient mode is for it, since the text is where the mode is set.
    fn encode(
        &mut self,
        row: freshet_core::RowRef<'_>,
        policies: &Policies,
    ) -> std::result::Result<Leniency, Refused> {
        let mut leniency = Leniency::default();
        self.row.clear();
        if let Some(bulk) = self.bound.bulk.as_ref().filter(|_| self.bulk) {
            self.bound.bulk_row(bulk, row, policies, &mut leniency, &mut self.row)?;
            if !leniency.is_lenient() {
                return Ok(leniency);
            }
            leniency = Leniency::default();
            self.row.clear();
        }
        self.bound.row(row, policies, &mut leniency, &mut self.row)?;
        Ok(leniency)
    }

    fn is_bulk(&self, leniency: Leniency) -> bool {
        self.bulk && !leniency.is_lenient()
    }

    /// What a request has beside its rows: the statement, or its number and the types.
    fn head_bytes(&self) -> usize {
        self.bound.insert.len() + 2 * self.bound.columns.len()
    }

    /// The insert so far.
    pub(crate) fn take(&mut self) -> Option<Insert> {
        if self.rows == 0 {
            return None;
        }
        let (bytes, leniency) = (std::mem::take(&mut self.bytes), std::mem::take(&mut self.leniency));
        let payload = match self.is_bulk(leniency) {
            true => Payload::Bulk(Bulk { bound: self.bound.clone(), rows: bytes }),
            false => Payload::Text(bytes),
        };
        Some(Insert { payload, rows: std::mem::take(&mut self.rows), leniency })
    }
}
