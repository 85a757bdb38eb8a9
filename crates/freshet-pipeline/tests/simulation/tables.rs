//! The twin of a table reader: views whose readers are of different moments, older than what the history has and
//! sometimes older than a view before, and bounds as each server gives them (ALGORITHMS 2).

use crate::history::{Database, Flavour, Row};
use crate::source::write;
use crate::world::{Actor, Process, World, lock};
use async_trait::async_trait;
use freshet_core::codec::BatchBuilder;
use freshet_core::source::Selects;
use freshet_core::table::{Chunk, ChunkReader, TableInfo, TableReader, View};
use freshet_core::{Error, Result, TableSchema};
use std::sync::Arc;

pub struct SimTables {
    world: Arc<World>,
    process: Arc<Process>,
    db: Arc<Database>,
    actor: Actor,
    exact: bool,
}

impl SimTables {
    pub fn new(world: &Arc<World>, process: &Arc<Process>, db: &Arc<Database>, exact: bool) -> Self {
        let actor = world.actor(Some(process), "tables");
        Self { world: world.clone(), process: process.clone(), db: db.clone(), actor, exact }
    }

    /// What a new snapshot shows: on a replica it may be less than was shown before.
    fn moment(&mut self) -> usize {
        let visible = lock(&self.db.history).visible;
        let stale = if self.actor.dice.one_in(6) { self.actor.dice.below(5) } else { 0 };
        visible.saturating_sub(stale)
    }
}

#[async_trait]
impl TableReader for SimTables {
    async fn tables(&mut self, _selection: &dyn Selects) -> Result<Vec<TableInfo>> {
        self.actor.ask().await?;
        Ok(lock(&self.db.history).infos.clone())
    }

    fn views_are_exact(&self) -> bool {
        self.exact
    }

    async fn view(&mut self, _selection: &dyn Selects, readers: usize) -> Result<View> {
        self.actor.ask().await?;
        let server = lock(&self.db.history).server;
        // MySQL's `gtid_executed` may lack the newest of what readers see.
        let first = self.moment();
        let executed = first.saturating_sub(self.actor.dice.below(4));
        let mut moments = vec![first];
        for _ in 1..readers.max(1) {
            if !self.exact {
                self.actor.ask().await?;
            }
            let moment = if self.exact { first } else { self.moment().max(executed) };
            moments.push(moment);
        }
        if !self.exact {
            self.actor.ask().await?;
        }
        let mut history = lock(&self.db.history);
        if history.server != server || moments.iter().any(|m| *m > history.len()) {
            return Err(Error::unavailable("The server that was to show a view is gone"));
        }
        let (low, high) = (moments.iter().min().copied(), moments.iter().max().copied());
        let (low, high) = (low.unwrap_or(first), high.unwrap_or(first));
        let (low, high) = match (history.flavour, self.exact) {
            (Flavour::Mysql, false) => {
                let tip = history.len();
                history.give(tip);
                // The set that the server shows beside its place lacks what is not executed yet.
                (history.bound(0, executed), history.bound(tip, executed))
            }
            (Flavour::Postgres | Flavour::Mariadb | Flavour::Mysql, _) => {
                (history.position(low), history.position(high))
            }
        };
        history.give(moments.iter().max().copied().unwrap_or(0));
        self.actor.note(|| format!("views {moments:?}: {low} to {high}"));
        let tables = history.infos.clone();
        drop(history);
        let reader = |moment| {
            let actor = self.world.actor(Some(&self.process), "reader");
            Box::new(SimReader { db: self.db.clone(), actor, server, moment, schema: None, rows: vec![] })
                as Box<dyn ChunkReader>
        };
        let readers = moments.into_iter().map(reader).collect();
        Ok(View { low, high, tables, not_carried: vec![], readers })
    }
}

struct SimReader {
    db: Arc<Database>,
    actor: Actor,
    server: u32,
    moment: usize,
    schema: Option<Arc<TableSchema>>,
    rows: Vec<Row>,
}

impl SimReader {
    /// The rows of its moment, by key.
    async fn snapshot(&mut self, table: &TableInfo) -> Result<Vec<Row>> {
        self.actor.ask().await?;
        let history = lock(&self.db.history);
        if history.server != self.server {
            return Err(Error::unavailable("The server that showed a view is gone"));
        }
        let number = history.infos.iter().position(|info| info.name() == table.name());
        let number = number.ok_or_else(|| Error::internal("A table that is not there"))?;
        let mut rows = history.states[self.moment].tables[number].to_vec();
        rows.sort();
        Ok(rows)
    }
}

#[async_trait]
impl ChunkReader for SimReader {
    async fn plan(&mut self, table: &TableInfo, rows: u64) -> Result<Vec<Chunk>> {
        let all = self.snapshot(table).await?;
        let chunk = |number: usize, lower: Option<i64>, upper: Option<i64>| Chunk {
            table: table.name().clone(),
            number: number as u32,
            lower: lower.map(|b| b.to_string()),
            upper: upper.map(|b| b.to_string()),
        };
        if table.schema.key().is_empty() {
            return Ok(vec![chunk(0, None, None)]);
        }
        let step = rows.max(1) as usize;
        let bounds: Vec<i64> = all.iter().skip(step - 1).step_by(step).filter_map(|r| r[0]).collect();
        let lowers = [None].into_iter().chain(bounds.iter().copied().map(Some));
        let uppers = bounds.iter().copied().map(Some).chain([None]);
        Ok(lowers.zip(uppers).enumerate().map(|(n, (lower, upper))| chunk(n, lower, upper)).collect())
    }

    async fn open(&mut self, table: &TableInfo, chunk: &Chunk) -> Result<()> {
        let rows = self.snapshot(table).await?;
        let bound = |b: &Option<String>| b.as_ref().and_then(|b| b.parse::<i64>().ok());
        let (lower, upper) = (bound(&chunk.lower), bound(&chunk.upper));
        let inside = |r: &Row| lower.is_none_or(|l| r[0] > Some(l)) && upper.is_none_or(|u| r[0] <= Some(u));
        self.rows = rows.into_iter().filter(inside).rev().collect();
        self.actor
            .note(|| format!("reads {} rows of {} as of {}", self.rows.len(), chunk.table, self.moment));
        self.schema = Some(table.schema.clone());
        Ok(())
    }

    async fn read(&mut self, batch: &mut BatchBuilder, _bytes_target: usize) -> Result<bool> {
        self.actor.ask().await?;
        let schema = self.schema.clone().ok_or_else(|| Error::internal("No chunk is open"))?;
        for _ in 0..1 + self.actor.dice.below(4) {
            let Some(cells) = self.rows.pop() else { return Ok(false) };
            let mut row = batch.insert(&schema);
            write(&mut row, &cells, false);
            row.finish();
        }
        Ok(true)
    }
}
