//! pgoutput, protocol version 1, into the events of a batch: whole transactions in commit order.
//!
//! Not a reader, and it asks nobody: what a relation message does not say (the order of a key, types that are not built
//! in) the caller looks up and gives with [`Decoder::define`]. Streamed transactions and two-phase commits are not
//! asked for; if they come, that is an error. Invariants: nothing of a transaction is written before its first captured
//! change; a row that cannot be written leaves the batch as it was.
//!
//! A value that the stream leaves out because it is an unchanged TOAST value is taken from the old row where the server
//! sent that (REPLICA IDENTITY FULL), and absent otherwise: never NULL, never a placeholder (R1, R2).

use super::message::{Cell, Malformed, Message, Old, Relation, Tuple, parse};
use crate::values::text;
use freshet_core::codec::{BatchBuilder, RowWriter};
use freshet_core::position::{CommitPlace, Lsn, TxnId};
use freshet_core::{Error, Result, TableName, TableSchema};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// A captured relation as it is from here on.
#[derive(Clone, Debug)]
pub(crate) struct Captured {
    pub schema: Arc<TableSchema>,
    /// Columns of the replica identity, by index: what an old key has values of.
    pub is_key: Vec<bool>,
    /// For each column the place of its value in the stream's rows; empty if they are in order.
    pub order: Vec<u16>,
    /// What is told is a partition of the table.
    pub part: Option<Part>,
}

/// A partition whose changes are captured as its table's.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub root: u32,
    pub partition: TableName,
}

/// What a message was.
#[derive(Debug)]
pub(crate) enum Step {
    /// A transaction is open after it.
    InTransaction,
    /// None is.
    Outside,
    /// A transaction ended at this place.
    Commit(Lsn),
    /// A relation is told, to be given to [`Decoder::define`] or
    /// [`Decoder::leave_out`] before the next message.
    Relation(Relation),
    /// Relations were emptied, to be given to [`Decoder::truncate`] before the next message.
    Truncate(Vec<u32>),
}

/// A relation of the session.
enum Known {
    Captured { captured: Arc<Captured>, is_announced: bool },
    NotSelected,
}

/// Where the stream is in a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    No,
    /// Begun, and nothing written yet.
    Begun(u32),
    Written(u32),
}

/// Decodes one session.
pub(crate) struct Decoder {
    relations: HashMap<u32, Known>,
    open: Open,
}

impl Decoder {
    /// A decoder for a new session.
    pub(crate) fn new() -> Self {
        Self { relations: HashMap::new(), open: Open::No }
    }

    /// Whether a transaction is open.
    pub(crate) fn in_transaction(&self) -> bool {
        self.open != Open::No
    }

    /// Says what a relation is from here on.
    pub(crate) fn define(&mut self, relation: u32, captured: Captured) {
        let captured = Arc::new(captured);
        self.relations.insert(relation, Known::Captured { captured, is_announced: false });
    }

    /// Says that changes of a relation are not captured, or come as another's.
    pub(crate) fn leave_out(&mut self, relation: u32) {
        self.relations.insert(relation, Known::NotSelected);
    }

    /// Takes one message of the stream, and appends to `batch` what follows from it.
    pub(crate) fn feed(&mut self, message: &[u8], batch: &mut BatchBuilder) -> Result<Step> {
        match (parse(message, false).map_err(|e| malformed(&e))?, self.open) {
            (Message::Begin { xid }, Open::No) => self.open = Open::Begun(xid),
            (Message::Commit { end, commit_us }, Open::Begun(_) | Open::Written(_)) => {
                if matches!(self.open, Open::Written(_)) {
                    batch.commit("", &CommitPlace::Wal(end), commit_us);
                }
                self.open = Open::No;
                return Ok(Step::Commit(end));
            }
            (Message::Relation(relation), _) => {
                // Until it is defined a change of it is an error.
                self.relations.remove(&relation.oid);
                return Ok(Step::Relation(relation));
            }
            (Message::Insert { relation, new }, Open::Begun(_) | Open::Written(_)) => {
                self.change(relation, batch, |captured, batch| insert(captured, new, batch))?;
            }
            (Message::Update { relation, old, new }, Open::Begun(_) | Open::Written(_)) => {
                self.change(relation, batch, |captured, batch| update(captured, old, new, batch))?;
            }
            (Message::Delete { relation, old }, Open::Begun(_) | Open::Written(_)) => {
                self.change(relation, batch, |captured, batch| delete(captured, old, batch))?;
            }
            (Message::Truncate { relations }, Open::Begun(_) | Open::Written(_)) => {
                return Ok(Step::Truncate(relations));
            }
            (Message::Origin | Message::Type | Message::Emitted, _) => {}
            (Message::Later(name), _) => {
                return Err(Error::unsupported(format!(
                    "The WAL stream holds a {name} message, which was not asked for"
                )));
            }
            (message, open) => return Err(out_of_order(&message, open)),
        }
        Ok(if self.in_transaction() { Step::InTransaction } else { Step::Outside })
    }

    /// Empties relations: tables by their partitions, of which all have to be among them. `leaves` are those of a table
    /// whose rows a target may have.
    pub(crate) fn truncate(
        &mut self,
        relations: &[u32],
        leaves: impl Fn(u32) -> BTreeSet<u32>,
        batch: &mut BatchBuilder,
    ) -> Result<()> {
        for relation in self.whole_tables(relations, leaves)? {
            self.change(relation, batch, |captured, batch| {
                batch.truncate(captured.schema.name());
                Ok(())
            })?;
        }
        Ok(())
    }

    fn whole_tables(&self, relations: &[u32], leaves: impl Fn(u32) -> BTreeSet<u32>) -> Result<Vec<u32>> {
        let mut whole: Vec<u32> = Vec::with_capacity(relations.len());
        let mut roots = BTreeSet::new();
        for relation in relations {
            let Some((captured, part)) = self.part(*relation) else {
                whole.push(*relation);
                continue;
            };
            if !roots.insert(part.root) {
                continue;
            }
            let is_of_root = |oid: &&u32| self.part(**oid).is_some_and(|(_, other)| other.root == part.root);
            let mut required = leaves(part.root);
            required.extend(self.relations.keys().filter(is_of_root));
            if !required.iter().all(|leaf| relations.contains(leaf)) {
                return Err(emptied_in_part(captured, part));
            }
            whole.push(*relation);
        }
        Ok(whole)
    }

    fn part(&self, relation: u32) -> Option<(&Captured, &Part)> {
        match self.relations.get(&relation)? {
            Known::Captured { captured, .. } => Some((captured, captured.part.as_ref()?)),
            Known::NotSelected => None,
        }
    }

    /// Writes a change of a relation, after the transaction's beginning and the relation's schema if it is the first.
    fn change(
        &mut self,
        relation: u32,
        batch: &mut BatchBuilder,
        write: impl FnOnce(&Captured, &mut BatchBuilder) -> Result<()>,
    ) -> Result<()> {
        let known = self.relations.get_mut(&relation).ok_or_else(|| {
            Error::corrupt(format!("The WAL stream changes relation {relation}, which it did not describe"))
        })?;
        let Known::Captured { captured, is_announced } = known else { return Ok(()) };
        let before = batch.mark();
        if let Open::Begun(xid) = self.open {
            batch.begin(&TxnId::Postgres { xid }, 0);
        }
        if !*is_announced {
            batch.schema(&captured.schema);
        }
        write(captured, batch).inspect_err(|_| batch.rewind(before))?;
        *is_announced = true;
        if let Open::Begun(xid) = self.open {
            self.open = Open::Written(xid);
        }
        Ok(())
    }
}

fn insert(captured: &Captured, new: Tuple<'_>, batch: &mut BatchBuilder) -> Result<()> {
    check_width(captured, new)?;
    let mut row = batch.insert(&captured.schema);
    each(captured, new, |column, cell| put(captured, column, cell, &mut row))?;
    row.finish();
    Ok(())
}

fn update(captured: &Captured, old: Option<Old<'_>>, new: Tuple<'_>, batch: &mut BatchBuilder) -> Result<()> {
    check_width(captured, new)?;
    let mut row = batch.update(&captured.schema);
    match old {
        Some(old) => put_old(captured, old, &mut row)?,
        // The key did not change.
        None => each(captured, new, |column, cell| {
            put(captured, column, if captured.is_key[column] { cell } else { Cell::Unchanged }, &mut row)
        })?,
    }
    row.after();
    let mut known: Vec<Cell<'_>> = Vec::new();
    if let Some(Old::Key(tuple) | Old::Row(tuple)) = old {
        each(captured, tuple, |_, cell| {
            known.push(cell);
            Ok(())
        })?;
    }
    each(captured, new, |column, cell| {
        let cell = match (cell, known.get(column)) {
            (Cell::Unchanged, Some(known @ (Cell::Text(_) | Cell::Binary(_)))) => *known,
            (cell, _) => cell,
        };
        put(captured, column, cell, &mut row)
    })?;
    row.finish();
    Ok(())
}

fn delete(captured: &Captured, old: Old<'_>, batch: &mut BatchBuilder) -> Result<()> {
    let mut row = batch.delete(&captured.schema);
    put_old(captured, old, &mut row)?;
    row.finish();
    Ok(())
}

/// An old row: of a key only its own columns have values, the others are told as NULL and are none.
fn put_old(captured: &Captured, old: Old<'_>, row: &mut RowWriter<'_>) -> Result<()> {
    let (tuple, is_key) = match old {
        Old::Key(tuple) => (tuple, true),
        Old::Row(tuple) => (tuple, false),
    };
    check_width(captured, tuple)?;
    each(captured, tuple, |column, cell| {
        let is_told = !is_key || captured.is_key[column];
        put(captured, column, if is_told { cell } else { Cell::Unchanged }, row)
    })
}

/// The values of a row that has the table's width, by column.
fn each<'a>(
    captured: &Captured,
    tuple: Tuple<'a>,
    mut take: impl FnMut(usize, Cell<'a>) -> Result<()>,
) -> Result<()> {
    if captured.order.is_empty() {
        return tuple.cells().enumerate().try_for_each(|(column, cell)| take(column, cell));
    }
    let cells: Vec<Cell<'a>> = tuple.cells().collect();
    captured.order.iter().enumerate().try_for_each(|(column, at)| take(column, cells[usize::from(*at)]))
}

fn put(captured: &Captured, column: usize, cell: Cell<'_>, row: &mut RowWriter<'_>) -> Result<()> {
    match cell {
        Cell::Null => row.null(),
        Cell::Unchanged => row.absent(),
        Cell::Text(value) => {
            let definition = &captured.schema.columns()[column];
            text::put(value, &definition.data_type, row).map_err(|_| {
                let table = captured.schema.name();
                Error::table(
                    table.clone(),
                    format!(
                        "The WAL stream holds a value of column {} of {table} that is none of its type",
                        definition.name
                    ),
                )
                .with_hint("If the column's type was changed, reset the pipeline and load again")
            })?;
        }
        Cell::Binary(_) => {
            return Err(Error::unsupported(
                "The WAL stream holds a value in binary, which was not asked for",
            ));
        }
    }
    Ok(())
}

fn check_width(captured: &Captured, tuple: Tuple<'_>) -> Result<()> {
    let columns = captured.schema.columns().len();
    if tuple.len() == columns {
        return Ok(());
    }
    Err(Error::corrupt(format!(
        "The WAL stream holds a row of {} values for {}, which it described with {columns} columns",
        tuple.len(),
        captured.schema.name()
    )))
}

/// Which rows of a target were in a partition is not known there.
fn emptied_in_part(captured: &Captured, part: &Part) -> Error {
    let (table, partition) = (captured.schema.name(), &part.partition);
    Error::table(
        table.clone(),
        format!(
            "Partition {partition} of table {table} was emptied (TRUNCATE), and not all of the table was"
        ),
    )
    .with_hint("Reset the pipeline and load again; DELETE is followed, and so is TRUNCATE of the whole table")
}

fn malformed(error: &Malformed) -> Error {
    Error::corrupt(format!("The WAL stream holds a message that is not understood: {}", error.0))
}

fn out_of_order(message: &Message<'_>, open: Open) -> Error {
    let what = match message {
        Message::Begin { .. } => "a transaction begins",
        Message::Commit { .. } => "a transaction ends",
        _ => "a row changes",
    };
    let place = if open == Open::No { "outside of a transaction" } else { "inside of another transaction" };
    Error::corrupt(format!("In the WAL stream {what} {place}"))
}
