//! The twin of a relational sink, over a [`Target`]: connections that are lost before and after whatever they do, a
//! server that carries a COMMIT out long after whoever sent it died, windows that are under way, and no mercy for an
//! engine that goes on after an error or after it was fenced.

use crate::target::{Contents, Rows, Target, apply_step, image};
use crate::world::{Actor, Process, World, lock};
use async_trait::async_trait;
use freshet_core::sink::{
    Applied, ChunkLoader, ChunkState, Ownership, PrepareMode, Sink, TablePhase, TablePlan, TableState,
};
use freshet_core::table::Chunk;
use freshet_core::window::{Step, StepKind, Window};
use freshet_core::{
    Batch, Checkpoint, Error, ErrorKind, EventRef, LogId, Mark, Position, Result, RowRef, SchemaMap,
    SinkEpoch, TableName,
};
use std::sync::Arc;
use tokio::sync::oneshot;

/// Who holds a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Owner {
    epoch: u64,
    id: u64,
}

impl Owner {
    fn check(self, contents: &Contents) -> Result<()> {
        if (contents.epoch, contents.owner) == (self.epoch, self.id) {
            Ok(())
        } else {
            Err(Error::fenced("Another freshet has taken this sink over"))
        }
    }
}

pub struct SimSink {
    world: Arc<World>,
    process: Arc<Process>,
    target: Arc<Target>,
    actor: Actor,
    owner: Owner,
    owned_once: bool,
    fenced: bool,
    /// From a take-over to the next error.
    live: bool,
    /// Whether a window may be under way while the next one is made.
    overlaps: bool,
    /// The open transaction.
    open: Option<Contents>,
    /// The checkpoint that this session left.
    mark: Option<Mark>,
    /// The outcome of the window under way.
    under_way: Option<oneshot::Receiver<Result<Mark>>>,
    /// One bulk statement in so many fails.
    bad_bulks: u32,
    /// Rows that a window may have before its last record.
    window_rows: u64,
}

impl SimSink {
    pub fn new(
        world: &Arc<World>,
        process: &Arc<Process>,
        target: &Arc<Target>,
        overlaps: bool,
        window_rows: u64,
    ) -> Self {
        let mut actor = world.actor(Some(process), "sink");
        let bad_bulks = actor.dice.pick(&[0, 0, 10, 40]);
        Self {
            world: world.clone(),
            process: process.clone(),
            target: target.clone(),
            owner: Owner { epoch: 0, id: process.id },
            actor,
            owned_once: false,
            fenced: false,
            live: false,
            overlaps,
            open: None,
            mark: None,
            under_way: None,
            bad_bulks,
            window_rows,
        }
    }

    /// Passes an outcome on; after an error the sink has to be taken over.
    fn settle<T>(&mut self, outcome: Result<T>) -> Result<T> {
        if let Err(e) = &outcome {
            (self.live, self.open, self.under_way) = (false, None, None);
            self.fenced |= *e.kind() == ErrorKind::Fenced;
            self.actor.note(|| format!("fails: {e}"));
        }
        outcome
    }

    fn check_live(&self) -> Result<()> {
        if self.fenced {
            self.world.violation(format!("{}: a fenced owner goes on", self.target.name));
        }
        if self.live {
            Ok(())
        } else {
            self.world.violation(format!("{}: it is used without a take-over", self.target.name));
            Err(Error::internal("The sink is to be taken over before it is used"))
        }
    }

    /// A change of the control tables in a transaction of its own.
    async fn control<T>(&mut self, what: &str, change: impl FnOnce(&mut Contents) -> Result<T>) -> Result<T> {
        self.check_live()?;
        let asked = self.actor.ask().await;
        let done = asked.and_then(|()| {
            let mut contents = lock(&self.target.contents);
            self.owner.check(&contents)?;
            let mut changed = contents.clone();
            let done = change(&mut changed)?;
            *contents = changed;
            self.target.committed(&contents, what);
            Ok(done)
        });
        let done = self.actor.answer(done).await;
        self.settle(done)
    }

    async fn apply_window(&mut self, mut window: Window) -> Result<Applied> {
        // The one before is done by now, or this one is never begun.
        self.outcome().await?;
        self.actor.ask().await?;
        let contents = {
            let contents = lock(&self.target.contents);
            self.owner.check(&contents)?;
            contents.clone()
        };
        let mut staged = self.open.take().unwrap_or(contents);
        if !window.ordered && self.actor.dice.one_in(self.bad_bulks) {
            return Err(Error::reorder("A bulk statement failed"));
        }
        for step in std::mem::take(&mut window.steps) {
            let table = self.target.number_of(&step.table)?;
            let step = self.shuffled(step, window.ordered);
            apply_step(&mut staged, table, &window, &step)?;
        }
        let Some(mark) = window.end.clone() else {
            self.open = Some(staged);
            return Ok(Applied::Accepted);
        };
        self.send_commit(staged, mark);
        if self.overlaps {
            return Ok(Applied::Accepted);
        }
        let done = self.outcome().await?;
        done.map(Applied::Durable).ok_or_else(|| Error::internal("A window without an outcome"))
    }

    /// A bulk statement touches its rows in any order.
    fn shuffled(&mut self, mut step: Step, ordered: bool) -> Step {
        let is_notes = step.table.table == "notes";
        if let (false, false, StepKind::Update(pairs)) = (ordered, is_notes, &mut step.kind) {
            let n = pairs.len();
            pairs.rotate_left(self.actor.dice.below(n));
        }
        step
    }

    /// The server commits by itself, whatever becomes of us.
    fn send_commit(&mut self, mut staged: Contents, mark: Mark) {
        let (sender, receiver) = oneshot::channel();
        self.under_way = Some(receiver);
        let mut server = self.world.actor(None, "server");
        let (target, owner, before) = (self.target.clone(), self.owner, self.mark.replace(mark.clone()));
        tokio::spawn(async move {
            server.turn().await;
            let done = server.lose("at COMMIT").and_then(|()| {
                let mut contents = lock(&target.contents);
                owner.check(&contents)?;
                let checkpoint = contents.checkpoint.clone();
                let checkpoint = checkpoint.ok_or_else(|| Error::internal("No checkpoint"))?;
                if before.as_ref() != Some(&checkpoint.mark) {
                    return Err(Error::fenced("The checkpoint was moved by somebody else"));
                }
                let epoch = SinkEpoch(owner.epoch);
                staged.checkpoint = Some(Checkpoint { mark: mark.clone(), epoch, ..checkpoint });
                *contents = staged;
                target.committed(&contents, "a window");
                Ok(mark)
            });
            let answer = server.answer(done).await;
            let _ = sender.send(answer);
        });
    }

    /// The outcome of the window under way.
    async fn outcome(&mut self) -> Result<Option<Mark>> {
        let Some(under_way) = self.under_way.take() else { return Ok(None) };
        let answer = under_way.await.map_err(|_| Error::internal("A server that does not answer"))?;
        self.actor.turn().await;
        answer.map(Some)
    }
}

#[async_trait]
impl Sink for SimSink {
    async fn take_over(&mut self) -> Result<Ownership> {
        if self.fenced {
            self.world.violation(format!("{}: a fenced owner takes over again", self.target.name));
        }
        (self.open, self.under_way) = (None, None);
        let asked = self.actor.ask().await;
        let taken = asked.and_then(|()| {
            let mut contents = lock(&self.target.contents);
            if self.owned_once && contents.owner != self.owner.id {
                return Err(Error::fenced("Another freshet has taken this sink over"));
            }
            self.owned_once = true;
            (contents.epoch, contents.owner) = (contents.epoch + 1, self.owner.id);
            self.owner.epoch = contents.epoch;
            self.mark = contents.checkpoint.as_ref().map(|c| c.mark.clone());
            self.target.committed(&contents, &format!("epoch {} of {}", contents.epoch, self.process.id));
            Ok(Ownership {
                epoch: SinkEpoch(contents.epoch),
                checkpoint: contents.checkpoint.clone(),
                config_digest: contents.digest.clone(),
                tables: contents.load.clone(),
            })
        });
        let taken = self.actor.answer(taken).await;
        self.live = true;
        self.settle(taken)
    }

    async fn begin(&mut self, log_id: LogId, mark: &Mark, config_digest: &str) -> Result<()> {
        let epoch = SinkEpoch(self.owner.epoch);
        self.control("its first checkpoint", |contents| {
            if contents.checkpoint.is_some() {
                return Err(Error::internal("A checkpoint is there already"));
            }
            contents.checkpoint = Some(Checkpoint { epoch, log_id, mark: mark.clone() });
            contents.digest = Some(config_digest.to_owned());
            Ok(())
        })
        .await?;
        self.mark = Some(mark.clone());
        Ok(())
    }

    async fn rebase(&mut self, log_id: LogId, mark: &Mark) -> Result<()> {
        let epoch = SinkEpoch(self.owner.epoch);
        self.control("another log", |contents| {
            if contents.checkpoint.is_none() {
                return Err(Error::internal("There is no checkpoint to move"));
            }
            contents.checkpoint = Some(Checkpoint { epoch, log_id, mark: mark.clone() });
            Ok(())
        })
        .await?;
        self.mark = Some(mark.clone());
        Ok(())
    }

    async fn prepare(&mut self, tables: &[TablePlan], _mode: PrepareMode) -> Result<Vec<String>> {
        self.control("its tables", |contents| {
            for plan in tables {
                let name = plan.info.name();
                if contents.load.iter().all(|t| t.table != *name) {
                    let (table, target) = (name.clone(), plan.target.clone());
                    let phase = TablePhase::Loading;
                    contents.load.push(TableState { table, target, phase, chunks: vec![] });
                }
            }
            Ok(vec![])
        })
        .await
    }

    async fn plan_chunks(&mut self, table: &TableName, chunks: &[Chunk]) -> Result<()> {
        self.control("a chunk plan", |contents| {
            let state = loaded(contents, table)?;
            if !state.chunks.is_empty() {
                return Err(Error::internal("Chunks are planned already"));
            }
            let planned = |chunk: &Chunk| ChunkState { chunk: chunk.clone(), rows: None, high: None };
            state.chunks = chunks.iter().map(planned).collect();
            Ok(())
        })
        .await
    }

    async fn restart_table(&mut self, table: &TableName) -> Result<()> {
        let number = self.target.number_of(table)?;
        self.control("a table anew", |contents| {
            let state = loaded(contents, table)?;
            state.chunks.clear();
            state.phase = TablePhase::Loading;
            contents.tables[number] = Arc::default();
            Ok(())
        })
        .await
    }

    async fn loader(&mut self) -> Result<Box<dyn ChunkLoader>> {
        self.check_live()?;
        let asked = self.actor.ask().await;
        self.settle(asked)?;
        let actor = self.world.actor(Some(&self.process), "loader");
        let (target, owner) = (self.target.clone(), self.owner);
        Ok(Box::new(SimLoader { target, actor, owner, open: None }))
    }

    async fn finish_load(&mut self, _tables: &[TablePlan]) -> Result<Vec<String>> {
        self.control("its load", |contents| {
            if contents.load.iter().any(|t| t.chunks.iter().any(|c| c.rows.is_none())) {
                return Err(Error::internal("A chunk is not in yet"));
            }
            contents.load.iter_mut().for_each(|t| t.phase = TablePhase::CatchingUp);
            Ok(vec![])
        })
        .await
    }

    async fn make_consistent(&mut self, _tables: &[TablePlan]) -> Result<Vec<String>> {
        self.control("its consistency", |contents| {
            contents.load.iter_mut().for_each(|t| t.phase = TablePhase::Consistent);
            contents.consistent = true;
            Ok(vec![])
        })
        .await
    }

    async fn apply(&mut self, window: Window) -> Result<Applied> {
        self.check_live()?;
        let rows = window.changes.inserts + window.changes.updates + window.changes.deletes;
        let last = window.records.last().map_or(0, |record| record.batch.rows());
        if rows >= self.window_rows + last.max(1) {
            self.world.violation(format!("{}: a window of {rows} rows", self.target.name));
        }
        let applied = self.apply_window(window).await;
        self.settle(applied)
    }

    async fn flush(&mut self) -> Result<Option<Mark>> {
        self.check_live()?;
        let done = self.outcome().await;
        self.settle(done)
    }

    async fn rollback(&mut self) -> Result<()> {
        self.open = None;
        self.actor.turn().await;
        Ok(())
    }
}

fn loaded<'a>(contents: &'a mut Contents, table: &TableName) -> Result<&'a mut TableState> {
    let found = contents.load.iter_mut().find(|t| t.table == *table);
    found.ok_or_else(|| Error::internal(format!("Table {table} was not prepared")))
}

struct OpenChunk {
    plan: TablePlan,
    chunk: Chunk,
    rows: Vec<Vec<Option<i64>>>,
    schemas: SchemaMap,
}

struct SimLoader {
    target: Arc<Target>,
    actor: Actor,
    owner: Owner,
    open: Option<OpenChunk>,
}

#[async_trait]
impl ChunkLoader for SimLoader {
    async fn open(&mut self, table: &TablePlan, chunk: &Chunk) -> Result<()> {
        self.actor.ask().await?;
        let mut schemas = SchemaMap::default();
        schemas.insert(table.info.schema.clone())?;
        self.open = Some(OpenChunk { plan: table.clone(), chunk: chunk.clone(), rows: vec![], schemas });
        Ok(())
    }

    async fn rows(&mut self, batch: Batch) -> Result<()> {
        self.actor.ask().await?;
        let open = self.open.as_mut().ok_or_else(|| Error::internal("No chunk is open"))?;
        for event in batch.events() {
            if let EventRef::Insert { schema, after } = event? {
                let schema = open.schemas.get(schema).ok_or_else(|| Error::internal("Of another schema"))?;
                let cells = image(RowRef::new(schema, after))?;
                open.rows.push(cells.into_iter().map(Option::flatten).collect());
            }
        }
        Ok(())
    }

    async fn finish(&mut self, high: &Position) -> Result<u64> {
        let open = self.open.take().ok_or_else(|| Error::internal("No chunk is open"))?;
        self.actor.ask().await?;
        let loaded = self.commit(open, high);
        self.actor.answer(loaded).await
    }
}

impl SimLoader {
    fn commit(&self, open: OpenChunk, high: &Position) -> Result<u64> {
        let name = open.plan.info.name();
        let number = self.target.number_of(name)?;
        let mut contents = lock(&self.target.contents);
        self.owner.check(&contents)?;
        let mut changed = contents.clone();
        let state = loaded(&mut changed, name)?;
        let chunk = state.chunks.iter_mut().find(|c| c.chunk == open.chunk);
        let chunk = chunk.ok_or_else(|| Error::internal("A chunk that was not planned"))?;
        if chunk.rows.is_some() {
            return Err(Error::internal("A chunk is in already"));
        }
        let loaded = open.rows.len() as u64;
        (chunk.rows, chunk.high) = (Some(loaded), Some(high.clone()));
        let table = Arc::make_mut(&mut changed.tables[number]);
        let mut rows = Rows { table: number, consistent: false, rows: table };
        for row in open.rows {
            rows.insert(row).map_err(|e| Error::table(name.clone(), e))?;
        }
        *contents = changed;
        self.target.committed(&contents, "a chunk");
        Ok(loaded)
    }
}
