//! Copies existing rows: a view with two bounds, chunks, N readers beside N loaders (ALGORITHMS 2).
//!
//! Rows go from reader to loader directly, never through the log. A restart keeps the chunks that are in, reads
//! the others under a new view, and moves F_high up; F_low stays the checkpoint's.

use crate::bounds::LOAD_BATCH_BYTES_TARGET;
use crate::retry::{Backoff, pause_or_stop, stopped};
use crate::status::{Phase, Status};
use freshet_core::codec::BatchBuilder;
use freshet_core::sink::{ChunkLoader, ChunkState, PrepareMode, Sink, TablePhase, TablePlan, TableState};
use freshet_core::source::Selects;
use freshet_core::table::{Chunk, ChunkReader, NativeRows, TableReader, View};
use freshet_core::{Error, Position, Result, TableName};
use freshet_mapping::Mapping;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What a load works with.
pub struct Loader<'a> {
    /// Sink's name.
    pub name: &'a str,
    /// Names on the target.
    pub mapping: &'a Mapping,
    /// How tables come to be there.
    pub prepare: PrepareMode,
    /// Rows of a chunk.
    pub chunk_rows: u64,
    /// Whether every view has one bound.
    pub exact: bool,
    /// Status.
    pub status: &'a Arc<Status>,
    /// Counts the chunks that came in.
    pub finished: &'a Arc<AtomicU64>,
    /// Stop.
    pub stop: watch::Receiver<bool>,
}

/// A finished load.
pub struct Loaded {
    /// Tables.
    pub plans: Vec<TablePlan>,
    /// F_high.
    pub high: Position,
    /// What tables hold exactly: those without a key, and those that were read at one place.
    pub holds: HashMap<TableName, Position>,
}

type Queue = Arc<Mutex<VecDeque<(TablePlan, Chunk)>>>;

/// Opens a view whose F_low is at or after `at_least`: everything at or before that must be visible in it. A
/// source whose views lag behind its log (a stalled replica) is waited for.
pub async fn open_view(
    tables: &mut dyn TableReader,
    selection: &dyn Selects,
    readers: usize,
    at_least: Option<&Position>,
    stop: &mut watch::Receiver<bool>,
) -> Result<Option<View>> {
    let mut backoff = Backoff::default();
    loop {
        let view = tokio::select! {
            biased;
            () = stopped(stop) => return Ok(None),
            view = tables.view(selection, readers) => view?,
        };
        match at_least {
            Some(place) if !view.low.is_of_kind(place) => return Err(of_another_kind()),
            Some(place) if !view.low.covers(place) => {
                tracing::warn!("The view does not show all of F_low yet, opening another");
                drop(view);
                if pause_or_stop(backoff.pause(), stop).await {
                    return Ok(None);
                }
            }
            Some(_) | None if view.tables.is_empty() => {
                return Err(Error::invalid("No table of the source matches the selection")
                    .with_hint("Check tables.include and the user's SELECT privilege: tables it may not see are not listed"));
            }
            Some(_) | None => return Ok(Some(view)),
        }
    }
}

/// A pipeline goes on by place over GTIDs that were switched on, but a load that began without them has bounds that do not
/// compare with those of now.
fn of_another_kind() -> Error {
    Error::resync("GTIDs were switched on or off on the source since this load began")
        .with_hint("Put gtid_mode back as it was, or reset the pipeline and load again")
}

/// F_high of tables whose chunks are all in, and what tables hold exactly. `is_exact` says whether a chunk of the table
/// holds all of what was committed up to its F_high and nothing more; if all of its chunks have one, the table does.
pub fn bounds_of(
    tables: &[TableState],
    is_exact: impl Fn(&TableName) -> bool,
) -> Result<(Option<Position>, HashMap<TableName, Position>)> {
    let mut high: Option<Position> = None;
    let mut holds = HashMap::new();
    for table in tables {
        let highs: Vec<&Position> = table.chunks.iter().filter_map(|c| c.high.as_ref()).collect();
        for chunk_high in &highs {
            high = Some(match high {
                None => (*chunk_high).clone(),
                Some(high) => high.combine(chunk_high, true).ok_or_else(|| {
                    Error::resync(format!(
                        "Chunks of table {} were read from different source histories",
                        table.table
                    ))
                    .with_hint("Reset the pipeline and load again")
                })?,
            });
        }
        if let Some(first) = highs.first()
            && is_exact(&table.table)
            && highs.iter().all(|high| high == first)
        {
            holds.insert(table.table.clone(), (*first).clone());
        }
    }
    Ok((high, holds))
}

impl Loader<'_> {
    /// Loads every chunk that is not in yet; `None` on a stop.
    pub async fn run(
        &mut self,
        sink: &mut dyn Sink,
        known: &[TableState],
        mut view: View,
    ) -> Result<Option<Loaded>> {
        let plans = self.mapping.plan(&view.tables)?;
        same_tables(known, &plans)?;
        let mut not_carried = sink.prepare(&plans, self.prepare).await?;
        for plan in &plans {
            let name = plan.info.name();
            not_carried.extend(plan.info.not_carried.iter().map(|line| format!("{line} of {name}")));
        }
        not_carried.extend_from_slice(&view.not_carried);
        self.status.sink(self.name, |s| {
            s.phase = Phase::Loading;
            s.not_carried = not_carried;
        });
        let mut states = Vec::new();
        for plan in &plans {
            states.push(self.plan(sink, known, plan, &mut view).await?);
        }
        let high = view.high.clone();
        if !self.copy(sink, &plans, &states, view).await? {
            return Ok(None);
        }
        for chunk in states.iter_mut().flat_map(|s| s.chunks.iter_mut()) {
            chunk.high.get_or_insert_with(|| high.clone());
        }
        let refused = sink.finish_load(&plans).await?;
        self.status.sink(self.name, |s| s.not_carried.extend(refused));
        Ok(Some(Loaded::of(plans, &states, high, self.exact)?))
    }

    /// The chunks of one table, as stored before or planned now.
    async fn plan(
        &self,
        sink: &mut dyn Sink,
        known: &[TableState],
        plan: &TablePlan,
        view: &mut View,
    ) -> Result<TableState> {
        let name = plan.info.name();
        let stored = known.iter().find(|t| t.table == *name);
        let stored = match stored {
            // Chunks of a table without a key hold under one view, and its rows cannot be made right afterwards.
            Some(state) if plan.info.schema.key().is_empty() && is_begun(state) => {
                tracing::info!(sink = self.name, table = %name, "Loading a table without a key again");
                sink.restart_table(name).await?;
                None
            }
            stored => stored,
        };
        let mut state = match stored {
            Some(state) if !state.chunks.is_empty() || state.phase > TablePhase::Loading => state.clone(),
            Some(_) | None => {
                let reader =
                    view.readers.first_mut().ok_or_else(|| Error::internal("A view without readers"))?;
                let chunks = reader.plan(&plan.info, self.chunk_rows).await?;
                sink.plan_chunks(name, &chunks).await?;
                let chunks =
                    chunks.into_iter().map(|chunk| ChunkState { chunk, rows: None, high: None }).collect();
                TableState {
                    table: name.clone(),
                    target: plan.target.clone(),
                    phase: TablePhase::Loading,
                    chunks,
                }
            }
        };
        state.chunks.sort_by_key(|c| c.chunk.number);
        self.status.table(self.name, name, |t| {
            t.phase = Phase::Loading;
            t.rows_estimate = plan.info.rows_estimate;
            t.chunks = state.chunks.len() as u32;
            t.chunks_done = state.chunks.iter().filter(|c| c.rows.is_some()).count() as u32;
            t.rows_loaded = state.chunks.iter().filter_map(|c| c.rows).sum();
        });
        Ok(state)
    }

    /// Every reader of the view takes chunks off one queue; `false` on a stop.
    async fn copy(
        &self,
        sink: &mut dyn Sink,
        plans: &[TablePlan],
        states: &[TableState],
        view: View,
    ) -> Result<bool> {
        let missing = plans.iter().zip(states).flat_map(|(plan, state)| {
            state.chunks.iter().filter(|c| c.rows.is_none()).map(|c| (plan.clone(), c.chunk.clone()))
        });
        let queue: Queue = Arc::new(Mutex::new(missing.collect()));
        let mut tasks = JoinSet::new();
        for reader in view.readers {
            let worker = Worker {
                sink: self.name.to_owned(),
                reader,
                loader: sink.loader().await?,
                queue: queue.clone(),
                high: view.high.clone(),
                status: self.status.clone(),
                finished: self.finished.clone(),
            };
            tasks.spawn(worker.run());
        }
        let mut stop = self.stop.clone();
        loop {
            tokio::select! {
                biased;
                // Dropping the set ends the tasks; chunks that are not in are rolled back by the target.
                () = stopped(&mut stop) => return Ok(false),
                done = tasks.join_next() => match done {
                    None => return Ok(true),
                    Some(Ok(done)) => done?,
                    Some(Err(e)) => return Err(Error::internal(format!("A loading task failed: {e}"))),
                },
            }
        }
    }
}

/// One reader and one loader.
struct Worker {
    sink: String,
    reader: Box<dyn ChunkReader>,
    loader: Box<dyn ChunkLoader>,
    queue: Queue,
    high: Position,
    status: Arc<Status>,
    finished: Arc<AtomicU64>,
}

/// Some of its chunks are in, and some are not.
fn is_begun(state: &TableState) -> bool {
    state.chunks.iter().any(|c| c.rows.is_some()) && state.chunks.iter().any(|c| c.rows.is_none())
}

impl Worker {
    async fn run(mut self) -> Result<()> {
        loop {
            let next = self.queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            match next {
                Some((plan, chunk)) => self.chunk(&plan, &chunk).await?,
                None => return Ok(()),
            }
        }
    }

    async fn chunk(&mut self, plan: &TablePlan, chunk: &Chunk) -> Result<()> {
        self.reader.open(&plan.info, chunk).await?;
        self.loader.open(plan, chunk).await?;
        let read = match self.reader.is_native() && self.loader.takes_native() {
            true => self.pass_on(chunk).await?,
            false => self.convert(chunk).await?,
        };
        let loaded = self.loader.finish(&self.high).await?;
        if loaded != read {
            return Err(Error::internal(format!(
                "Of {read} rows of a chunk of {} the target took {loaded}",
                chunk.table
            )));
        }
        self.finished.fetch_add(1, Ordering::Relaxed);
        self.status.table(&self.sink, &chunk.table, |t| t.chunks_done += 1);
        Ok(())
    }
}

impl Worker {
    /// Rows by way of the row format; how many.
    async fn convert(&mut self, chunk: &Chunk) -> Result<u64> {
        let (mut batch, mut more, mut read) = (BatchBuilder::new(), true, 0);
        while more {
            more = self.reader.read(&mut batch, LOAD_BATCH_BYTES_TARGET).await?;
            let rows = batch.rows();
            if rows > 0 {
                self.loader.rows(batch.seal()).await?;
                read += self.count(chunk, rows);
            }
        }
        Ok(read)
    }

    /// Rows as they are, between servers of one dialect; how many.
    async fn pass_on(&mut self, chunk: &Chunk) -> Result<u64> {
        let (mut more, mut read) = (true, 0);
        while more {
            let mut native = NativeRows::default();
            more = self.reader.read_native(&mut native, LOAD_BATCH_BYTES_TARGET).await?;
            let rows = native.rows;
            if rows > 0 {
                self.loader.native(native).await?;
                read += self.count(chunk, rows);
            }
        }
        Ok(read)
    }

    fn count(&self, chunk: &Chunk, rows: u64) -> u64 {
        self.status.table(&self.sink, &chunk.table, |t| t.rows_loaded += rows);
        rows
    }
}

impl Loaded {
    /// What follows from the chunks of finished tables; `fallback` is F_high where there is no chunk at all. `exact`
    /// says whether the views that they were read under had one bound. A table without a key is only ever read so.
    pub fn of(plans: Vec<TablePlan>, states: &[TableState], fallback: Position, exact: bool) -> Result<Self> {
        let key_less =
            |name: &TableName| plans.iter().any(|p| p.info.name() == name && p.info.schema.key().is_empty());
        let (high, holds) = bounds_of(states, |name| exact || key_less(name))?;
        Ok(Self { high: high.unwrap_or(fallback), holds, plans })
    }
}

/// The tables of now must be those that the load began with. A process that ended while it recorded them leaves some
/// unrecorded: they are prepared now, as long as none is past its load.
fn same_tables(known: &[TableState], plans: &[TablePlan]) -> Result<()> {
    let (known_names, planned): (BTreeSet<_>, BTreeSet<_>) =
        (known.iter().map(|t| &t.table).collect(), plans.iter().map(|p| p.info.name()).collect());
    let being_recorded = known.iter().all(|t| t.phase == TablePhase::Loading);
    let gone = known_names.difference(&planned).next();
    let come = planned.difference(&known_names).next().filter(|_| !being_recorded);
    match gone.or(come) {
        Some(table) => Err(Error::invalid(format!("Table {table} came or went since the load began"))
            .with_hint("Reset the pipeline to begin again with the tables of now")),
        None => Ok(()),
    }
}
