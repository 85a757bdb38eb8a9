//! What a target holds already of the transactions that the log brings next: told for each of them.
//!
//! A sink that was ahead when its log was begun anew skips whole transactions (ALGORITHMS 1.3); a table that was read at
//! one place later than F_low leaves out its own changes (ALGORITHMS 2.4). Neither is decided by order: a
//! transaction is told by its GTID or by the place where it ends ([`Position::holds`]), and where nobody can tell,
//! that is an error. The end of a transaction in parts is looked up in the log, which has all of it before any of it
//! is read.
//!
//! Not part of the usual way: as soon as the log has passed what is held, nothing here is asked any more.

use freshet_core::codec::EventRef;
use freshet_core::log::{Log, Record};
use freshet_core::position::{BinlogPosition, CommitPlace, TxnId};
use freshet_core::{Error, Mark, Offset, Position, Result, TableName};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Where a transaction ends in the source's log.
#[derive(Clone, Debug)]
struct End {
    server: String,
    place: CommitPlace,
}

/// What a target holds beyond its place on the log.
#[derive(Debug)]
pub struct Held {
    /// Everything at or before this.
    skip: Option<Position>,
    /// Tables that were read at one place, and that place.
    tables: HashMap<TableName, Position>,
    /// The source's log before the transaction at hand.
    before: Position,
    /// The last mark of the log at or before the record at hand.
    mark: Offset,
    /// Ends of the transactions that begin in the record at hand.
    ends: VecDeque<End>,
    /// The transaction at hand.
    open: Option<(TxnId, End)>,
    skips: bool,
}

impl Held {
    /// A target that stands at `mark` of the log and holds everything up to `had`.
    pub fn new(mark: Mark, had: Position) -> Self {
        let held = Self {
            skip: Some(had),
            tables: HashMap::new(),
            before: mark.position,
            mark: mark.next,
            ends: VecDeque::new(),
            open: None,
            skips: false,
        };
        held.without_passed()
    }

    /// With tables that were read at one place, and hold what was committed up to it.
    #[must_use]
    pub fn with_tables(self, tables: HashMap<TableName, Position>) -> Self {
        Self { tables, ..self }.without_passed()
    }

    /// Whether anything is held that the log has not passed.
    pub fn is_any(&self) -> bool {
        self.skip.is_some() || !self.tables.is_empty()
    }

    /// Whether the target as a whole holds what the log has not passed.
    pub fn is_ahead(&self) -> bool {
        self.skip.is_some()
    }

    /// Finds the ends of the transactions that begin in a record, before its events are looked at.
    pub async fn look_ahead(&mut self, record: &Record, log: &Arc<dyn Log>) -> Result<()> {
        if !self.is_any() {
            return Ok(());
        }
        let mut begun = false;
        for event in record.batch.events() {
            match event? {
                EventRef::Begin { .. } => begun = true,
                EventRef::Commit(commit) if std::mem::take(&mut begun) => {
                    self.ends.push_back(End { server: commit.server.to_owned(), place: commit.place });
                }
                _ => {}
            }
        }
        if begun {
            let end = self.end_after(record, log).await?;
            self.ends.push_back(end);
        }
        if record.position.is_some() {
            self.mark = record.next;
        }
        Ok(())
    }

    /// The first commit behind a record.
    async fn end_after(&self, record: &Record, log: &Arc<dyn Log>) -> Result<End> {
        let mut reader = log.reader(self.mark).await?;
        while let Some(later) = reader.try_next().await? {
            if later.offset <= record.offset {
                continue;
            }
            for event in later.batch.events() {
                if let EventRef::Commit(commit) = event? {
                    return Ok(End { server: commit.server.to_owned(), place: commit.place });
                }
            }
        }
        Err(Error::internal(format!(
            "The log shows a transaction at offset {} without its end",
            record.offset
        )))
    }

    /// A transaction begins.
    pub fn begin(&mut self, txn: &TxnId) -> Result<()> {
        if !self.is_any() {
            return Ok(());
        }
        let end = self.ends.pop_front();
        let end = end.ok_or_else(|| Error::internal("A transaction whose end was not looked up"))?;
        self.skips = match &self.skip {
            Some(had) => had.holds(txn, &end.place, &end.server, &self.before).ok_or_else(cannot_tell)?,
            None => false,
        };
        self.open = Some((txn.clone(), end));
        Ok(())
    }

    /// The transaction at hand is over.
    pub fn commit(&mut self) {
        self.skips = false;
        if let (Position::Binlog(BinlogPosition { gtids, .. }), Some((txn, _))) =
            (&mut self.before, self.open.take())
        {
            gtids.add(&txn);
        }
    }

    /// Whether the sink holds the transaction at hand.
    pub fn skips(&self) -> bool {
        self.skips
    }

    /// Whether a table may hold transactions of its own.
    pub fn concerns(&self, table: &TableName) -> bool {
        self.tables.contains_key(table)
    }

    /// Whether a table holds the transaction at hand.
    pub fn holds(&self, table: &TableName) -> Result<bool> {
        let (Some(held), Some((txn, end))) = (self.tables.get(table), &self.open) else { return Ok(false) };
        held.holds(txn, &end.place, &end.server, &self.before).ok_or_else(|| {
            Error::table(
                table.clone(),
                format!(
                    "Table {table} was read later than others, and the source does not tell which changes it holds"
                ),
            )
            .with_hint("Reset the pipeline and load again, or give the table a primary key")
        })
    }

    /// The log has come to a window's end: adds to it what the sink held before, and forgets what the log has passed.
    pub fn join(&mut self, end: Option<&mut Mark>) -> Result<()> {
        let Some(end) = end.filter(|_| self.is_any()) else { return Ok(()) };
        self.before = end.position.clone();
        self.drop_passed();
        if let Some(had) = &self.skip {
            let joined = end.position.joined(had);
            end.position = joined.ok_or_else(|| Error::resync("The log follows another source's history"))?;
        }
        Ok(())
    }

    fn without_passed(mut self) -> Self {
        self.drop_passed();
        self
    }

    fn drop_passed(&mut self) {
        let before = &self.before;
        self.skip.take_if(|had| before.covers(had));
        self.tables.retain(|_, held| !before.covers(held));
    }
}

fn cannot_tell() -> Error {
    Error::resync("The log was rebuilt for sinks at different places, and a transaction cannot be told from one that is applied already")
        .with_hint(
            "The source failed over and has no GTIDs, or the GTIDs of one server run backwards: reset the pipeline and load again",
        )
}
