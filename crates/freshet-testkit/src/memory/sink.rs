//! An in-memory relational target: the twin that the engine's tests apply to.
//!
//! It keeps every promise of [`freshet_core::sink::Sink`] (one transaction for rows and checkpoint, compare-and-set,
//! epochs and owners, strict counts) over plain maps, remembers every state that it committed, and can be told to
//! fail at the worst moments. It knows no SQL. Primary keys and unique indexes are enforced after every row.

use async_trait::async_trait;
use freshet_core::sink::{
    Applied, ChunkLoader, ChunkState, Ownership, PrepareMode, Sink, TablePhase, TablePlan, TableState,
};
use freshet_core::table::{Chunk, TableInfo};
use freshet_core::window::{ImageRef, Step, StepKind, Window};
use freshet_core::{
    Batch, Checkpoint, Error, EventRef, LogId, Mark, Position, Result, RowRef, SchemaMap, SinkEpoch,
    TableName, ValueRef,
};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A row as printable cells, by column name.
pub type Row = BTreeMap<String, String>;

/// Where a sink is made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection is lost before anything of the next window was done.
    BeforeApply,
    /// The connection is lost at COMMIT, and nothing was committed.
    CommitLost,
    /// The connection is lost after COMMIT was carried out: the answer never comes.
    CommitAnswerLost,
    /// A bulk statement fails once.
    Bulk,
    /// The connection is lost when a chunk is to be committed.
    ChunkLost,
    /// The connection is lost before a change of the control tables was committed.
    ControlLost,
    /// The connection is lost after a change of the control tables was committed: the answer never comes.
    ControlAnswerLost,
}

#[derive(Clone, Debug, Default)]
struct MemoryTable {
    info: Option<Arc<TableInfo>>,
    rows: Vec<Row>,
}

#[derive(Clone, Debug, Default)]
struct Contents {
    tables: BTreeMap<TableName, MemoryTable>,
    epoch: u64,
    owner: u64,
    checkpoint: Option<Checkpoint>,
    digest: Option<String>,
    load: Vec<TableState>,
    consistent: bool,
}

/// The target's durable state; sinks come and go, this stays.
#[derive(Debug, Default)]
pub struct MemoryTarget {
    contents: Mutex<Contents>,
    faults: Mutex<VecDeque<Fault>>,
    history: Mutex<Vec<BTreeMap<TableName, Vec<Row>>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MemoryTarget {
    /// An empty target.
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// Another fault, met at its first occasion.
    pub fn inject(&self, fault: Fault) {
        lock(&self.faults).push_back(fault);
    }

    /// Withdraws the faults that were not met yet. Left to pile up, they are met in a row one day, each after a pause
    /// twice as long as the last.
    pub fn withdraw_faults(&self) {
        lock(&self.faults).clear();
    }

    /// The rows of a table, sorted.
    pub fn rows(&self, table: &TableName) -> Vec<Row> {
        let mut rows = lock(&self.contents).tables.get(table).map(|t| t.rows.clone()).unwrap_or_default();
        rows.sort();
        rows
    }

    /// Every state that was committed since the tables became consistent, oldest first.
    pub fn history(&self) -> Vec<BTreeMap<TableName, Vec<Row>>> {
        lock(&self.history).clone()
    }

    /// Whether `consistent_since` was written.
    pub fn is_consistent(&self) -> bool {
        lock(&self.contents).consistent
    }

    /// The checkpoint.
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        lock(&self.contents).checkpoint.clone()
    }

    /// A copy of everything, for a later [`MemoryTarget::restore`].
    pub fn backup(&self) -> Backup {
        Backup(lock(&self.contents).clone())
    }

    /// Puts the target back to an older state.
    pub fn restore(&self, backup: &Backup) {
        *lock(&self.contents) = backup.0.clone();
    }

    /// Changes a row behind freshet's back: removes the first row of the table.
    pub fn lose_a_row(&self, table: &TableName) {
        if let Some(t) = lock(&self.contents).tables.get_mut(table) {
            t.rows.pop();
        }
    }

    fn meet(&self, fault: Fault) -> bool {
        let mut faults = lock(&self.faults);
        let found = faults.iter().position(|f| *f == fault);
        found.and_then(|at| faults.remove(at)).is_some()
    }
}

/// A copy of a target.
#[derive(Clone, Debug)]
pub struct Backup(Contents);

impl Backup {
    /// The checkpoint of that moment.
    pub fn checkpoint(&self) -> Option<&Checkpoint> {
        self.0.checkpoint.as_ref()
    }
}

/// A sink over a [`MemoryTarget`].
pub struct MemorySink {
    target: Arc<MemoryTarget>,
    epoch: u64,
    owner: u64,
    /// Whether this sink has owned the target before: then it takes over only from itself.
    owned_once: bool,
    /// From a take-over to the next error: in between nothing may be asked of it.
    live: bool,
    /// The open transaction: a copy that replaces the contents at commit.
    open: Option<Contents>,
    next: Option<Mark>,
}

impl MemorySink {
    /// A sink that has taken over nothing yet.
    pub fn new(target: Arc<MemoryTarget>) -> Self {
        Self {
            target,
            epoch: 0,
            owner: rand::random(),
            owned_once: false,
            live: false,
            open: None,
            next: None,
        }
    }

    fn owned(&self) -> Result<MutexGuard<'_, Contents>> {
        if !self.live {
            return Err(Error::internal("The sink is to be taken over before it is used"));
        }
        let contents = lock(&self.target.contents);
        check_owner(&contents, self.epoch, self.owner)?;
        Ok(contents)
    }

    /// A change of the control tables in a transaction of its own.
    fn control<T>(&mut self, change: impl FnOnce(&mut Contents) -> Result<T>) -> Result<T> {
        let done = if self.target.meet(Fault::ControlLost) {
            Err(Error::unavailable("The connection was lost"))
        } else {
            self.owned().and_then(|mut contents| change(&mut contents))
        };
        let done = match self.target.meet(Fault::ControlAnswerLost) {
            true => Err(Error::unavailable("The connection was lost after COMMIT")),
            false => done,
        };
        self.settle(done)
    }

    /// Passes an outcome on; after an error the sink has to be taken over again.
    fn settle<T>(&mut self, outcome: Result<T>) -> Result<T> {
        if outcome.is_err() {
            self.live = false;
            self.open = None;
        }
        outcome
    }

    fn apply_window(&mut self, window: &Window) -> Result<Applied> {
        if self.target.meet(Fault::BeforeApply) {
            return Err(Error::unavailable("The connection was lost"));
        }
        let contents = self.owned()?.clone();
        let mut staged = self.open.take().unwrap_or(contents);
        if !window.ordered && self.target.meet(Fault::Bulk) {
            return Err(Error::reorder("A bulk statement failed"));
        }
        for step in &window.steps {
            apply_step(&mut staged, window, step)?;
        }
        self.open = Some(staged);
        match window.end.clone() {
            Some(mark) => self.commit(mark),
            None => Ok(Applied::Accepted),
        }
    }

    fn commit(&mut self, mark: Mark) -> Result<Applied> {
        let mut staged = self.open.take().ok_or_else(|| Error::internal("No transaction is open"))?;
        if self.target.meet(Fault::CommitLost) {
            return Err(Error::unavailable("The connection was lost at COMMIT"));
        }
        let mut contents = lock(&self.target.contents);
        check_owner(&contents, self.epoch, self.owner)?;
        let checkpoint = contents.checkpoint.clone().ok_or_else(|| Error::internal("No checkpoint"))?;
        if self.next.as_ref() != Some(&checkpoint.mark) {
            return Err(Error::fenced("The checkpoint was moved by somebody else"));
        }
        assert!(checkpoint.mark.next <= mark.next, "a checkpoint only grows");
        staged.checkpoint =
            Some(Checkpoint { mark: mark.clone(), epoch: SinkEpoch(self.epoch), ..checkpoint });
        *contents = staged;
        if contents.consistent {
            let state = contents.tables.iter().map(|(name, t)| (name.clone(), t.rows.clone())).collect();
            lock(&self.target.history).push(state);
        }
        self.next = Some(mark.clone());
        drop(contents);
        if self.target.meet(Fault::CommitAnswerLost) {
            return Err(Error::unavailable("The connection was lost after COMMIT"));
        }
        Ok(Applied::Durable(mark))
    }
}

fn check_owner(contents: &Contents, epoch: u64, owner: u64) -> Result<()> {
    if contents.epoch == epoch && contents.owner == owner {
        Ok(())
    } else {
        Err(Error::fenced("Another freshet has taken this sink over"))
    }
}

#[async_trait]
impl Sink for MemorySink {
    async fn take_over(&mut self) -> Result<Ownership> {
        let mut contents = lock(&self.target.contents);
        // A target that was put back to an older state may name any owner of its past.
        if self.owned_once && contents.owner != self.owner && contents.epoch >= self.epoch {
            return Err(Error::fenced("Another freshet has taken this sink over"));
        }
        (self.owned_once, self.live) = (true, true);
        contents.epoch += 1;
        contents.owner = self.owner;
        self.epoch = contents.epoch;
        self.open = None;
        self.next = contents.checkpoint.as_ref().map(|c| c.mark.clone());
        Ok(Ownership {
            epoch: SinkEpoch(self.epoch),
            checkpoint: contents.checkpoint.clone(),
            config_digest: contents.digest.clone(),
            tables: contents.load.clone(),
        })
    }

    async fn begin(&mut self, log_id: LogId, mark: &Mark, config_digest: &str) -> Result<()> {
        let epoch = SinkEpoch(self.epoch);
        self.control(|contents| {
            if contents.checkpoint.is_some() {
                return Err(Error::internal("A checkpoint is there already"));
            }
            contents.checkpoint = Some(Checkpoint { epoch, log_id, mark: mark.clone() });
            contents.digest = Some(config_digest.to_owned());
            Ok(())
        })?;
        self.next = Some(mark.clone());
        Ok(())
    }

    async fn rebase(&mut self, log_id: LogId, mark: &Mark) -> Result<()> {
        let epoch = SinkEpoch(self.epoch);
        self.control(|contents| {
            if contents.checkpoint.is_none() {
                return Err(Error::internal("There is no checkpoint to move"));
            }
            contents.checkpoint = Some(Checkpoint { epoch, log_id, mark: mark.clone() });
            Ok(())
        })?;
        self.next = Some(mark.clone());
        Ok(())
    }

    async fn prepare(&mut self, tables: &[TablePlan], mode: PrepareMode) -> Result<Vec<String>> {
        self.control(|contents| {
            for plan in tables {
                prepare_table(contents, plan, mode)?;
            }
            contents.consistent = mode == PrepareMode::Keep;
            Ok(vec![])
        })
    }

    async fn plan_chunks(&mut self, table: &TableName, chunks: &[Chunk]) -> Result<()> {
        self.control(|contents| {
            let state = loaded_table(contents, table)?;
            if !state.chunks.is_empty() {
                return Err(Error::internal("Chunks are planned already"));
            }
            let planned = |chunk: &Chunk| ChunkState { chunk: chunk.clone(), rows: None, high: None };
            state.chunks = chunks.iter().map(planned).collect();
            Ok(())
        })
    }

    async fn restart_table(&mut self, table: &TableName) -> Result<()> {
        self.control(|contents| {
            let state = loaded_table(contents, table)?;
            state.chunks.clear();
            let target = state.target.clone();
            contents.tables.entry(target).or_default().rows.clear();
            Ok(())
        })
    }

    async fn loader(&mut self) -> Result<Box<dyn ChunkLoader>> {
        drop(self.owned()?);
        let (target, epoch, owner) = (self.target.clone(), self.epoch, self.owner);
        Ok(Box::new(MemoryLoader { target, epoch, owner, open: None }))
    }

    async fn finish_load(&mut self, _tables: &[TablePlan]) -> Result<Vec<String>> {
        self.control(|contents| {
            if contents.load.iter().any(|t| t.chunks.iter().any(|c| c.rows.is_none())) {
                return Err(Error::internal("A chunk is not in yet"));
            }
            contents.load.iter_mut().for_each(|t| t.phase = TablePhase::CatchingUp);
            Ok(Vec::new())
        })
    }

    async fn make_consistent(&mut self, _tables: &[TablePlan]) -> Result<Vec<String>> {
        let state = self.control(|contents| {
            contents.load.iter_mut().for_each(|t| t.phase = TablePhase::Consistent);
            contents.consistent = true;
            Ok(contents.tables.iter().map(|(name, t)| (name.clone(), t.rows.clone())).collect())
        })?;
        lock(&self.target.history).push(state);
        Ok(Vec::new())
    }

    async fn apply(&mut self, window: Window) -> Result<Applied> {
        let applied = self.apply_window(&window);
        self.settle(applied)
    }

    async fn flush(&mut self) -> Result<Option<Mark>> {
        Ok(None)
    }

    async fn rollback(&mut self) -> Result<()> {
        self.open = None;
        Ok(())
    }
}

/// Records a table and empties it as `mode` says; one that is recorded stays as it is.
fn prepare_table(contents: &mut Contents, plan: &TablePlan, mode: PrepareMode) -> Result<()> {
    let name = plan.info.name().clone();
    if contents.load.iter().any(|t| t.table == name) {
        return Ok(());
    }
    let table = contents.tables.entry(plan.target.clone()).or_default();
    if mode == PrepareMode::CreateIfAbsent && !table.rows.is_empty() {
        return Err(Error::invalid(format!("Table {} on the target is not empty", plan.target)));
    }
    if mode != PrepareMode::Keep {
        table.rows.clear();
    }
    table.info = Some(plan.info.clone());
    let phase = if mode == PrepareMode::Keep { TablePhase::Consistent } else { TablePhase::Loading };
    contents.load.push(TableState { table: name, target: plan.target.clone(), phase, chunks: vec![] });
    Ok(())
}

fn loaded_table<'a>(contents: &'a mut Contents, table: &TableName) -> Result<&'a mut TableState> {
    contents.load.iter_mut().find(|t| t.table == *table).ok_or_else(|| unknown(table))
}

fn unknown(table: &TableName) -> Error {
    Error::internal(format!("Table {table} was not prepared"))
}

/// Cells of a row by name, printed exactly.
pub fn printed(row: RowRef<'_>) -> Result<Row> {
    let names = row.schema().columns().iter().map(|c| c.name.clone());
    names.zip(row.cells()).map(|(name, cell)| Ok((name, format!("{:?}", cell?)))).collect()
}

/// An image with the absent columns as they are in the row.
fn completed(mut image: Row, there: Row) -> Row {
    let absent = format!("{:?}", ValueRef::Absent);
    for (name, cell) in there {
        image.entry(name).and_modify(|new| {
            if *new == absent {
                *new = cell;
            }
        });
    }
    image
}

fn apply_step(contents: &mut Contents, window: &Window, step: &Step) -> Result<()> {
    let target = contents.load.iter().find(|t| t.table == step.table).ok_or_else(|| unknown(&step.table))?;
    let target = target.target.clone();
    let table = contents.tables.get_mut(&target).ok_or_else(|| unknown(&target))?;
    let diverged = |what: &str| {
        let message = format!("Table {}: {what}", step.table);
        if window.ordered { Error::table(step.table.clone(), message) } else { Error::reorder(message) }
    };
    let image = |i: &ImageRef| printed(window.row(*i)?);
    match &step.kind {
        StepKind::Insert(rows) => {
            for r in rows {
                table.insert(image(r)?).map_err(|e| diverged(&e))?;
            }
        }
        StepKind::Upsert(rows) => {
            for r in rows {
                let new = image(r)?;
                if let Some(at) = table.find(&new) {
                    table.rows.swap_remove(at);
                }
                table.insert(new).map_err(|e| diverged(&e))?;
            }
        }
        StepKind::Update(rows) => {
            for (old, new) in rows {
                let at = table.find(&image(old)?).ok_or_else(|| diverged("a row to change is not there"))?;
                let there = table.rows.swap_remove(at);
                table.insert(completed(image(new)?, there)).map_err(|e| diverged(&e))?;
            }
        }
        StepKind::Patch(rows) | StepKind::PatchIfThere(rows) => {
            for r in rows {
                let new = image(r)?;
                match table.find(&new) {
                    Some(at) => {
                        let there = table.rows.swap_remove(at);
                        table.insert(completed(new, there)).map_err(|e| diverged(&e))?;
                    }
                    None if matches!(step.kind, StepKind::PatchIfThere(_)) => {}
                    None if window.ordered => {
                        return Err(Error::reload(step.table.clone(), "A row that moved lacks a value"));
                    }
                    None => return Err(diverged("a row to change in part is not there")),
                }
            }
        }
        StepKind::Delete(rows) => {
            for r in rows {
                let at = table.find(&image(r)?).ok_or_else(|| diverged("a row to delete is not there"))?;
                table.rows.swap_remove(at);
            }
        }
        StepKind::DeleteIfThere(rows) => {
            for r in rows {
                if let Some(at) = table.find(&image(r)?) {
                    table.rows.swap_remove(at);
                }
            }
        }
        StepKind::CheckAbsent(rows) => {
            for r in rows {
                let is_there = table.find(&image(r)?).is_some();
                (!is_there).then_some(()).ok_or_else(|| diverged("a row is there that should not be"))?;
            }
        }
        StepKind::Truncate => table.rows.clear(),
    }
    Ok(())
}

impl MemoryTable {
    fn key(&self) -> Vec<String> {
        let Some(info) = &self.info else { return vec![] };
        info.schema.key().iter().map(|k| info.schema.columns()[usize::from(*k)].name.clone()).collect()
    }

    /// The row with the same key; a table without one is searched for an equal row.
    fn find(&self, row: &Row) -> Option<usize> {
        let key = self.key();
        let same = |other: &Row| match key.is_empty() {
            true => other == row,
            false => key.iter().all(|k| other.get(k) == row.get(k)),
        };
        self.rows.iter().position(same)
    }

    fn insert(&mut self, row: Row) -> Result<(), String> {
        if !self.key().is_empty() && self.find(&row).is_some() {
            return Err("a key is there already".into());
        }
        self.rows.push(row);
        Ok(())
    }
}

struct OpenChunk {
    plan: TablePlan,
    chunk: Chunk,
    rows: Vec<Row>,
    schemas: SchemaMap,
}

struct MemoryLoader {
    target: Arc<MemoryTarget>,
    epoch: u64,
    owner: u64,
    open: Option<OpenChunk>,
}

#[async_trait]
impl ChunkLoader for MemoryLoader {
    async fn open(&mut self, table: &TablePlan, chunk: &Chunk) -> Result<()> {
        let mut schemas = SchemaMap::default();
        schemas.insert(table.info.schema.clone())?;
        self.open = Some(OpenChunk { plan: table.clone(), chunk: chunk.clone(), rows: vec![], schemas });
        Ok(())
    }

    async fn rows(&mut self, batch: Batch) -> Result<()> {
        let open = self.open.as_mut().ok_or_else(|| Error::internal("No chunk is open"))?;
        for event in batch.events() {
            if let EventRef::Insert { schema, after } = event? {
                let schema =
                    open.schemas.get(schema).ok_or_else(|| Error::internal("Rows of another schema"))?;
                open.rows.push(printed(RowRef::new(schema, after))?);
            }
        }
        Ok(())
    }

    async fn finish(&mut self, high: &Position) -> Result<u64> {
        let open = self.open.take().ok_or_else(|| Error::internal("No chunk is open"))?;
        if self.target.meet(Fault::ChunkLost) {
            return Err(Error::unavailable("The connection was lost at a chunk's COMMIT"));
        }
        let mut contents = lock(&self.target.contents);
        check_owner(&contents, self.epoch, self.owner)?;
        let name = open.plan.info.name();
        let state = contents.load.iter_mut().find(|t| t.table == *name).ok_or_else(|| unknown(name))?;
        let chunk = state.chunks.iter_mut().find(|c| c.chunk == open.chunk).ok_or_else(|| unknown(name))?;
        if chunk.rows.is_some() {
            return Err(Error::internal("A chunk is in already"));
        }
        chunk.rows = Some(open.rows.len() as u64);
        chunk.high = Some(high.clone());
        let loaded = open.rows.len() as u64;
        let table = contents.tables.get_mut(&open.plan.target).ok_or_else(|| unknown(name))?;
        for row in open.rows {
            table.insert(row).map_err(|e| Error::table(name.clone(), e))?;
        }
        Ok(loaded)
    }
}
