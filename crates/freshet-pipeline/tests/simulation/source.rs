//! The twin of a change source: hands the history out in batches of every cut, loses its connection, forgets
//! transactions that it began to hand out, and is told what is durable.

use crate::history::{Change, Database, LARGE, Row};
use crate::world::{Actor, Process, World, lock};
use async_trait::async_trait;
use freshet_core::codec::{BatchBuilder, RowWriter};
use freshet_core::source::{ReadOutcome, Source};
use freshet_core::{Error, Position, Result, TableSchema};
use std::sync::Arc;

pub struct SimSource {
    db: Arc<Database>,
    actor: Actor,
    /// The server that the session was opened on.
    server: Option<u32>,
    at: usize,
    /// Changes of the open transaction that were handed out.
    row: usize,
    announced: Vec<usize>,
    /// Where it is was told since it was opened.
    told: bool,
    /// Changes and transactions that a batch takes at most.
    changes_max: usize,
    txns_max: usize,
}

impl SimSource {
    pub fn new(world: &Arc<World>, process: &Arc<Process>, db: &Arc<Database>) -> Self {
        let mut actor = world.actor(Some(process), "source");
        let (changes_max, txns_max) = (actor.dice.pick(&[1, 2, 3, 7, 1000]), actor.dice.pick(&[1, 2, 5]));
        let db = db.clone();
        Self { db, actor, server: None, at: 0, row: 0, announced: vec![], told: false, changes_max, txns_max }
    }

    fn lost(&self) -> Result<()> {
        if self.server == Some(lock(&self.db.history).server) {
            return Ok(());
        }
        Err(Error::unavailable("The server that the source was connected to is gone"))
    }

    /// What is at hand, as far as a batch takes it; `None` for nothing.
    fn step(&mut self, batch: &mut BatchBuilder) -> Option<ReadOutcome> {
        let db = self.db.clone();
        let mut history = lock(&db.history);
        let begun = self.at;
        let mut room = self.changes_max;
        while self.at < history.len() && self.at - begun < self.txns_max {
            let changes = history.txns[self.at].changes.clone();
            // A record is whole transactions, or a part of one.
            if self.row == 0 && self.at > begun && changes.len() > room {
                break;
            }
            if !changes.is_empty() && self.row == 0 {
                batch.begin(&history.id(self.at + 1), 0);
            }
            history.give(self.at + 1);
            let end = (self.row + room).min(changes.len());
            for (table, change) in &changes[self.row..end] {
                put(batch, &history.infos[*table].schema, *table, change, &mut self.announced);
            }
            room -= end - self.row;
            if end < changes.len() {
                self.row = end;
                return Some(ReadOutcome::Partial);
            }
            (self.at, self.row) = (self.at + 1, 0);
            if !changes.is_empty() {
                batch.commit(&history.server_name(), &history.place(self.at), self.at as i64);
            }
            if room == 0 {
                break;
            }
        }
        let tells = self.at > begun || !self.told;
        self.told = true;
        tells.then(|| ReadOutcome::Commit { position: history.position(self.at) })
    }
}

/// Writes a change, after its table's schema if that was not announced yet.
pub fn put(
    batch: &mut BatchBuilder,
    schema: &TableSchema,
    table: usize,
    change: &Change,
    announced: &mut Vec<usize>,
) {
    if !announced.contains(&table) {
        batch.schema(schema);
        announced.push(table);
    }
    match change {
        Change::Insert(new) => {
            let mut row = batch.insert(schema);
            write(&mut row, new, false);
            row.finish();
        }
        Change::Update { old, new, lacks } => {
            let mut row = batch.update(schema);
            write(&mut row, old, false);
            row.after();
            write(&mut row, new, *lacks);
            row.finish();
        }
        Change::Delete(old) => {
            let mut row = batch.delete(schema);
            write(&mut row, old, false);
            row.finish();
        }
        Change::Truncate => batch.truncate(schema.name()),
    }
}

/// Writes a row, without the large column if it `lacks` it.
pub fn write(to: &mut RowWriter<'_>, row: &Row, lacks: bool) {
    for (column, cell) in row.iter().enumerate() {
        match cell {
            _ if lacks && column == LARGE => to.absent(),
            Some(v) => assert!(to.int(*v), "a 64-bit column"),
            None => to.null(),
        }
    }
}

#[async_trait]
impl Source for SimSource {
    async fn begin(&mut self) -> Result<Position> {
        self.actor.ask().await?;
        let history = lock(&self.db.history);
        Ok(history.position(history.len()))
    }

    async fn open(&mut self, start: &Position, held: &[Position]) -> Result<()> {
        self.actor.ask().await?;
        let history = lock(&self.db.history);
        let at = history.locate(start)?;
        for position in held {
            history.reach(position)?;
        }
        if at < history.purged {
            return Err(Error::resync("The history after our position was purged"));
        }
        (self.server, self.at, self.row) = (Some(history.server), at, 0);
        (self.told, self.announced) = (false, Vec::new());
        self.actor.note(|| format!("opens after {at}, {} held", held.len()));
        Ok(())
    }

    async fn read(&mut self, batch: &mut BatchBuilder) -> Result<ReadOutcome> {
        let db = self.db.clone();
        loop {
            let changed = db.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            self.actor.ask().await?;
            self.lost()?;
            if self.row > 0 && self.actor.dice.one_in(12) {
                // As a server that restarts in the middle of a transaction, and runs it again.
                self.row = 0;
                batch.discard_open();
                self.actor.note(|| format!("discards the transaction after {}", self.at));
                return Ok(ReadOutcome::Discarded { position: lock(&self.db.history).position(self.at) });
            }
            if let Some(outcome) = self.step(batch) {
                self.actor.note(|| format!("read to {}, row {}", self.at, self.row));
                return Ok(outcome);
            }
            changed.await;
        }
    }

    async fn acknowledge(&mut self, position: &Position) -> Result<()> {
        self.actor.ask().await?;
        let mut history = lock(&self.db.history);
        if let Ok(n) = history.locate(position) {
            history.acknowledged = history.acknowledged.max(n);
        }
        Ok(())
    }

    async fn tip(&mut self) -> Result<Position> {
        self.actor.ask().await?;
        let history = lock(&self.db.history);
        Ok(history.position(history.len()))
    }

    fn distance_bytes(&self, _from: &Position, _to: &Position) -> Option<u64> {
        None
    }
}
