//! `freshet log cat`: changes as JSON lines.
//!
//! A change's line tells the place and time of its transaction's commit, which stands behind it: within a record it
//! is looked up ahead, and for a transaction of several records a second reader looks for it, so that memory stays
//! at one record whatever the size of a transaction.

use super::json::Image;
use crate::exit::Failure;
use freshet_core::codec::{CommitEvent, EventRef};
use freshet_core::log::Record;
use freshet_core::position::{CommitPlace, TxnId};
use freshet_core::{Error, Offset, Result, RowRef, SchemaId, TableName, TableSchema};
use freshet_mapping::Pattern;
use serde::Serialize;
use std::io::Write;
use std::sync::Arc;

/// The durable records of a log, in order.
pub trait Records {
    /// The next one, or `None` at the durable end.
    fn next(&mut self) -> Result<Option<Record>>;

    /// Another walk, from the record of this offset.
    fn again(&self, from: Offset) -> Result<Box<dyn Records>>;
}

/// What is printed.
#[derive(Debug, Default)]
pub struct Wanted {
    /// Any of these tables; all if there is none.
    pub tables: Vec<Pattern>,
    /// This many lines at most.
    pub limit: Option<u64>,
}

impl Wanted {
    fn has(&self, table: &TableName) -> bool {
        self.tables.is_empty() || self.tables.iter().any(|pattern| pattern.matches(table))
    }
}

/// The end of a transaction, as its changes' lines tell it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Commit {
    position: String,
    time: Option<String>,
}

impl Commit {
    fn new(event: &CommitEvent<'_>) -> Self {
        let position = match &event.place {
            CommitPlace::Binlog(place) => place.to_string(),
            CommitPlace::Wal(lsn) => lsn.to_string(),
        };
        let time = jiff::Timestamp::from_microsecond(event.commit_us).ok().filter(|_| event.commit_us > 0);
        Self { position, time: time.map(|time| time.to_string()) }
    }
}

/// One line, its fields in this order.
#[derive(Serialize)]
struct Line<'l> {
    offset: u64,
    position: &'l str,
    transaction: &'l str,
    table: String,
    operation: &'static str,
    before: Option<Image<'l>>,
    after: Option<Image<'l>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    statement: Option<&'l str>,
    commit_time: Option<&'l str>,
}

/// What a change is, before it is a line.
struct Change<'c> {
    schema: Option<SchemaId>,
    table: Option<TableName>,
    operation: &'static str,
    before: Option<&'c [u8]>,
    after: Option<&'c [u8]>,
    statement: Option<&'c str>,
}

/// Prints what is wanted.
pub fn cat(records: &mut dyn Records, wanted: &Wanted, out: &mut impl Write) -> Result<(), Failure> {
    let mut cat = Cat { wanted, out, lines: 0, transaction: String::new(), commit: None };
    while let Some(record) = records.next()? {
        if !cat.record(&record, records)? {
            break;
        }
    }
    Ok(cat.out.flush()?)
}

struct Cat<'c, W> {
    wanted: &'c Wanted,
    out: &'c mut W,
    lines: u64,
    transaction: String,
    /// Commit of the open transaction, once it was looked for.
    commit: Option<Commit>,
}

impl<W: Write> Cat<'_, W> {
    /// Prints a record; `false` once there is nothing more to print.
    fn record(&mut self, record: &Record, records: &dyn Records) -> Result<bool, Failure> {
        let mut events = record.batch.events();
        while let Some(event) = events.next() {
            let change = match event? {
                EventRef::Begin { txn, .. } => {
                    self.begin(&txn);
                    continue;
                }
                EventRef::Commit(_) => {
                    self.commit = None;
                    continue;
                }
                EventRef::Schema { .. } => continue,
                EventRef::Insert { schema, after } => Change::row("insert", schema, None, Some(after)),
                EventRef::Update { schema, before, after } => {
                    Change::row("update", schema, Some(before), Some(after))
                }
                EventRef::Delete { schema, before } => Change::row("delete", schema, Some(before), None),
                EventRef::Truncate(table) => Change::table("truncate", table, None),
                EventRef::Statement(s) => Change::table("statement", s.table, Some(s.text)),
            };
            if self.wanted.limit.is_some_and(|limit| self.lines >= limit) {
                return Ok(false);
            }
            if self.commit.is_none() {
                self.commit = match commit_in(events.clone())? {
                    Some(commit) => Some(commit),
                    None => commit_after(record, records)?,
                };
            }
            // A transaction without an end is not one yet.
            let Some(commit) = self.commit.clone() else { return Ok(false) };
            self.change(record, &change, &commit)?;
        }
        Ok(true)
    }

    fn begin(&mut self, txn: &TxnId) {
        self.transaction = txn.to_string();
        self.commit = None;
    }

    fn change(&mut self, record: &Record, change: &Change<'_>, commit: &Commit) -> Result<(), Failure> {
        let schema = change.schema.map(|id| schema_of(record, id)).transpose()?;
        let table = match (schema, &change.table) {
            (Some(schema), _) => schema.name(),
            (None, Some(table)) => table,
            (None, None) => return Err(Error::internal("A change has neither schema nor table").into()),
        };
        if !self.wanted.has(table) {
            return Ok(());
        }
        let line = Line {
            offset: record.offset.0,
            position: &commit.position,
            transaction: &self.transaction,
            table: table.to_string(),
            operation: change.operation,
            before: image(schema, change.before)?,
            after: image(schema, change.after)?,
            statement: change.statement,
            commit_time: commit.time.as_deref(),
        };
        serde_json::to_writer(&mut *self.out, &line)?;
        self.out.write_all(b"\n")?;
        self.lines += 1;
        Ok(())
    }
}

impl<'c> Change<'c> {
    fn row(
        operation: &'static str,
        schema: SchemaId,
        before: Option<&'c [u8]>,
        after: Option<&'c [u8]>,
    ) -> Self {
        Self { schema: Some(schema), table: None, operation, before, after, statement: None }
    }

    fn table(operation: &'static str, table: TableName, statement: Option<&'c str>) -> Self {
        Self { schema: None, table: Some(table), operation, before: None, after: None, statement }
    }
}

fn schema_of(record: &Record, id: SchemaId) -> Result<&Arc<TableSchema>> {
    let offset = record.offset;
    record.schemas.get(id).ok_or_else(|| {
        Error::corrupt(format!("Record {offset} holds a row whose schema was not announced before it"))
    })
}

fn image<'i>(schema: Option<&'i Arc<TableSchema>>, bytes: Option<&'i [u8]>) -> Result<Option<Image<'i>>> {
    match (schema, bytes) {
        (Some(schema), Some(bytes)) => Image::new(RowRef::new(schema, bytes)).map(Some),
        (None, _) | (_, None) => Ok(None),
    }
}

/// The first commit among these events.
fn commit_in<'e>(events: impl Iterator<Item = Result<EventRef<'e>>>) -> Result<Option<Commit>> {
    for event in events {
        if let EventRef::Commit(commit) = event? {
            return Ok(Some(Commit::new(&commit)));
        }
    }
    Ok(None)
}

/// The first commit after a record.
fn commit_after(record: &Record, records: &dyn Records) -> Result<Option<Commit>> {
    let mut ahead = records.again(record.next)?;
    while let Some(record) = ahead.next()? {
        if let Some(commit) = commit_in(record.batch.events())? {
            return Ok(Some(commit));
        }
    }
    Ok(None)
}

#[cfg(test)]
#[path = "cat_tests.rs"]
mod tests;
