//! Brings a pipeline up from whatever state it is in, and supervises its tasks.

use crate::apply::{Applier, Ended};
use crate::bounds::{
    CHUNK_ROWS, RETRY_MS_MAX, STARTUP_RETRY_MS_MAX, STARTUP_TRIES_MIN, TIP_INTERVAL_MS, TRIM_INTERVAL_MS,
    VIEW_WAIT_MS_MAX, WINDOW_ROWS_MAX,
};
use crate::holdings::Holdings;
use crate::identity::{self, Decision, LogView, SinkStart, SinkView, decide};
use crate::ingest::Ingest;
use crate::load::{Loaded, Loader, open_view};
use crate::net::Held;
use crate::retry::{Backoff, at_place, is_place_only, pause_or_stop, reached, stopped};
use crate::status::{Phase, Status};
use freshet_core::log::{Inherited, Log, LogStore};
use freshet_core::sink::{Ownership, PrepareMode, Sink, TablePhase};
use freshet_core::source::Source;
use freshet_core::table::{TableReader, View};
use freshet_core::{Checkpoint, Error, ErrorKind, Mark, Offset, Position, Result, TableName};
use freshet_mapping::{Mapping, Selection};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// What a pipeline does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Copy existing rows, apply what happened meanwhile, and end.
    Load,
    /// Copy existing rows and follow.
    #[default]
    LoadAndStream,
    /// Follow from now.
    Stream,
}

/// How a pipeline runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What it does.
    pub mode: Mode,
    /// Parallel readers of a load.
    pub readers: usize,
    /// Rows of a chunk.
    pub chunk_rows: u64,
    /// Row changes after which a window takes no more records.
    pub window_rows: u64,
    /// End once everything is applied that was committed when the load ended, or at start.
    pub until_caught_up: bool,
    /// What may not change between runs, as text that names it: parts joined by `; `.
    pub config_digest: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            readers: 2,
            chunk_rows: CHUNK_ROWS,
            window_rows: WINDOW_ROWS_MAX,
            until_caught_up: false,
            config_digest: String::new(),
        }
    }
}

/// One target.
pub struct SinkPart {
    /// Name in the configuration.
    pub name: String,
    /// The sink.
    pub sink: Box<dyn Sink>,
    /// Names on it.
    pub mapping: Mapping,
    /// How its tables come to be; of no meaning in mode `stream`, which keeps what is there.
    pub prepare: PrepareMode,
}

/// The parts of a pipeline.
pub struct Parts {
    /// Change source.
    pub source: Box<dyn Source>,
    /// Reader of existing rows.
    pub tables: Box<dyn TableReader>,
    /// Where the log lives.
    pub store: Box<dyn LogStore>,
    /// Targets.
    pub sinks: Vec<SinkPart>,
    /// What is captured.
    pub selection: Arc<Selection>,
}

/// What the tasks of one pipeline share.
struct Shared {
    log: Arc<dyn Log>,
    held: Holdings,
    /// A log is not trimmed while a sink takes its place on it.
    trimming: Mutex<()>,
    tables: Mutex<Box<dyn TableReader>>,
    /// Whether every view of `tables` has one bound.
    exact_views: bool,
    selection: Arc<Selection>,
    settings: Settings,
    status: Arc<Status>,
    tip: watch::Receiver<Option<Position>>,
}

/// Runs a pipeline until a stop is asked for, its work is done, or an error that retrying does not mend. Everything
/// that is durable stays; a later run goes on from there.
pub async fn run(
    parts: Parts,
    settings: Settings,
    status: Arc<Status>,
    stop: watch::Receiver<bool>,
) -> Result<()> {
    let result = run_inner(parts, settings, &status, stop).await;
    let phase = if result.is_ok() { Phase::Stopped } else { Phase::Failed };
    status.update(|s| s.sinks.values_mut().for_each(|sink| sink.phase = phase));
    result
}

async fn run_inner(
    parts: Parts,
    settings: Settings,
    status: &Arc<Status>,
    mut stop: watch::Receiver<bool>,
) -> Result<()> {
    let Parts { mut source, mut tables, store, mut sinks, selection } = parts;
    let mut patience = Patience::new();
    for part in &sinks {
        status.sink(&part.name, |s| s.phase = Phase::Starting);
    }
    let Established { log, held, first_view } = loop {
        let mut establish = Establish {
            store: store.as_ref(),
            source: source.as_mut(),
            tables: tables.as_mut(),
            selection: &selection,
            settings: &settings,
            stop: stop.clone(),
        };
        let tried = tokio::select! {
            biased;
            () = stopped(&mut stop) => return Ok(()),
            tried = establish.run(&mut sinks) => tried,
        };
        match tried {
            Ok(Some(established)) => break established,
            Ok(None) => return Ok(()),
            Err(e) => {
                if !patience.pause(e, &mut stop).await? {
                    return Ok(());
                }
            }
        }
    };
    let (tip_sender, tip) = watch::channel(None);
    let writer = log.writer().await?;
    let (done, ingest_stop) = watch::channel(false);
    let ingest = Ingest::new(source, held.clone(), writer, tip_sender, status.clone(), ingest_stop);
    let shared = Arc::new(Shared {
        log,
        held,
        trimming: Mutex::new(()),
        exact_views: tables.views_are_exact(),
        tables: Mutex::new(tables),
        selection,
        settings,
        status: status.clone(),
        tip,
    });
    supervise(shared, ingest, sinks, first_view, done, stop).await
}

/// How long a start waits for what is unavailable: not long, since a wrong address should be heard of soon.
struct Patience {
    begun: Instant,
    tries: u32,
    backoff: Backoff,
}

impl Patience {
    fn new() -> Self {
        Self { begun: Instant::now(), tries: 0, backoff: Backoff::default() }
    }

    /// Pauses after `error`; `false` on a stop, the error itself if trying again is of no use any more.
    async fn pause(&mut self, error: Error, stop: &mut watch::Receiver<bool>) -> Result<bool> {
        self.tries += 1;
        let is_late = self.begun.elapsed() >= Duration::from_millis(STARTUP_RETRY_MS_MAX);
        if !error.is_retryable() || (is_late && self.tries >= STARTUP_TRIES_MIN) {
            return Err(error);
        }
        tracing::warn!(error = %error, "Not available yet, trying again");
        Ok(!pause_or_stop(self.backoff.pause(), stop).await)
    }
}

fn check_digest(sink: &str, ownership: &Ownership, settings: &Settings) -> Result<()> {
    let now = settings.config_digest.as_str();
    let before = ownership.config_digest.as_deref().unwrap_or(now);
    let (gone, new) = (parts_missing_in(before, now), parts_missing_in(now, before));
    if gone.is_empty() && new.is_empty() {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "The configuration of sink {sink} changed since this pipeline began, from \"{gone}\" to \"{new}\""
    ))
    .with_hint(
        "Going on would lose or double rows: put it back, give the pipeline another name, or reset it",
    ))
}

/// A load belongs to a checkpoint: without one it was loaded from nobody knows where.
fn check_state(sink: &str, ownership: &Ownership) -> Result<()> {
    if ownership.checkpoint.is_some() || ownership.tables.is_empty() {
        return Ok(());
    }
    Err(Error::resync(format!("Sink {sink} has tables of a load but no checkpoint")).with_hint(
        "Its control rows were changed by hand or by an interrupted reset: reset the pipeline and load again",
    ))
}

/// The parts of one digest that are not in another: what a person has to look at.
fn parts_missing_in(digest: &str, other: &str) -> String {
    let has = |part: &&str| !other.split("; ").any(|theirs| theirs == *part);
    digest.split("; ").filter(has).collect::<Vec<_>>().join("; ")
}

/// What ties log and targets together (ALGORITHMS 1.3).
struct Establish<'a> {
    store: &'a dyn LogStore,
    source: &'a mut dyn Source,
    tables: &'a mut dyn TableReader,
    selection: &'a Selection,
    settings: &'a Settings,
    stop: watch::Receiver<bool>,
}

/// The log that every sink stands on.
struct Established {
    log: Arc<dyn Log>,
    /// What the sinks hold, which may be ahead of the log.
    held: Holdings,
    /// The view that fixed F_low, if the log was begun just now.
    first_view: Option<View>,
}

impl Establish<'_> {
    /// Takes every sink over and puts its checkpoint on a mark of the log; `None` on a stop. After an error it can
    /// be called again: nothing of the failed try is assumed, so the sinks are taken over anew.
    async fn run(&mut self, sinks: &mut [SinkPart]) -> Result<Option<Established>> {
        let mut owned = Vec::with_capacity(sinks.len());
        let held = Holdings::default();
        for part in sinks.iter_mut() {
            let ownership = part.sink.take_over().await?;
            check_digest(&part.name, &ownership, self.settings)?;
            check_state(&part.name, &ownership)?;
            held.add_target(&ownership);
            owned.push((part.name.clone(), ownership.checkpoint));
        }
        let log = self.store.open().await?;
        let (view, views) = look(log.as_deref(), owned).await?;
        match decide(view.as_ref(), &views)? {
            Decision::Fresh => {
                drop(log);
                self.fresh(sinks).await
            }
            Decision::Keep(starts) => {
                let log = log.ok_or_else(|| Error::internal("A log that is kept is there"))?;
                for (part, start) in sinks.iter_mut().zip(starts) {
                    match start {
                        SinkStart::GoOn => {}
                        SinkStart::Begin(mark) => begin(part, &log, &mark, self.settings).await?,
                        SinkStart::Rebase(mark) => part.sink.rebase(log.bounds().id, &mark).await?,
                    }
                }
                Ok(Some(Established { log, held, first_view: None }))
            }
            Decision::Rebuild { start, inherited } => {
                tracing::warn!(position = %start, "The log is not the one that the targets followed; beginning a new one where they stand");
                drop(log);
                let log = self.store.create(&start, &inherited).await?;
                for part in sinks.iter_mut() {
                    rebase(part, &log, &inherited).await?;
                }
                Ok(Some(Established { log, held, first_view: None }))
            }
        }
    }

    /// Fixes F_low, begins the log there, and every sink on it.
    async fn fresh(&mut self, sinks: &mut [SinkPart]) -> Result<Option<Established>> {
        let (held, mut first_view) = (Holdings::default(), None);
        let begun = self.source.begin().await?;
        let start = if self.settings.mode == Mode::Stream {
            begun
        } else {
            let readers = self.settings.readers;
            let Some(view) = open_view(self.tables, self.selection, readers, None, &mut self.stop).await?
            else {
                return Ok(None);
            };
            held.add(&view.high);
            let low = view.low.clone();
            first_view = Some(view);
            low
        };
        let log = self.store.create(&start, &[]).await?;
        let mark = log.bounds().durable;
        for part in sinks.iter_mut() {
            begin(part, &log, &mark, self.settings).await?;
        }
        Ok(Some(Established { log, held, first_view }))
    }
}

async fn look(
    log: Option<&dyn Log>,
    owned: Vec<(String, Option<Checkpoint>)>,
) -> Result<(Option<LogView>, Vec<SinkView>)> {
    let view = log.map(|log| {
        let b = log.bounds();
        LogView { id: b.id, trimmed: b.trimmed, durable: b.durable, inherited: b.inherited }
    });
    let mut views = Vec::with_capacity(owned.len());
    for (name, checkpoint) in owned {
        let mark = match (&log, &view, &checkpoint) {
            (Some(log), Some(view), Some(c)) if c.log_id == view.id => log.mark_at(c.mark.next).await?,
            _ => None,
        };
        views.push(SinkView { name, checkpoint, mark });
    }
    Ok((view, views))
}

async fn begin(part: &mut SinkPart, log: &Arc<dyn Log>, mark: &Mark, settings: &Settings) -> Result<()> {
    part.sink.begin(log.bounds().id, mark, &settings.config_digest).await
}

/// Moves a sink to the first mark of a log that was rebuilt, with what it had.
async fn rebase(part: &mut SinkPart, log: &Arc<dyn Log>, inherited: &[Inherited]) -> Result<()> {
    let mark = identity::inherited(inherited, &part.name)
        .and_then(|had| identity::rebased(&log.bounds().durable, &had.mark.position))
        .ok_or_else(|| Error::internal("A log was rebuilt without one of its sinks"))?;
    part.sink.rebase(log.bounds().id, &mark).await
}

/// Runs ingest and the sinks side by side. The first error ends all; when every sink is done, ingest is ended.
async fn supervise(
    shared: Arc<Shared>,
    ingest: Ingest,
    parts: Vec<SinkPart>,
    mut first_view: Option<View>,
    done: watch::Sender<bool>,
    mut stop: watch::Receiver<bool>,
) -> Result<()> {
    let mut ingest = tokio::spawn(ingest.run());
    let mut applied = Vec::new();
    let mut sinks = JoinSet::new();
    // Sinks end when the pipeline is stopped or when any task has failed.
    let (halt, halted) = watch::channel(false);
    for part in parts {
        let (sender, receiver) = watch::channel(None);
        applied.push(receiver);
        sinks.spawn(SinkTask::new(shared.clone(), part, first_view.take(), sender, halted.clone()).run());
    }
    let mut house = tokio::spawn(housekeeping(shared.clone(), applied, halted.clone()));
    let mut outcome = Ok(());
    let (mut ingest_over, mut house_over) = (false, false);
    loop {
        tokio::select! {
            biased;
            () = stopped(&mut stop), if !*halt.borrow() => { halt.send_replace(true); }
            ended = &mut ingest, if !ingest_over => {
                ingest_over = true;
                keep_first(&mut outcome, ended);
                halt.send_replace(true);
            }
            ended = &mut house, if !house_over => {
                house_over = true;
                keep_first(&mut outcome, ended);
                halt.send_replace(true);
            }
            ended = sinks.join_next() => match ended {
                Some(ended) => {
                    let failed = !matches!(ended, Ok(Ok(())));
                    keep_first(&mut outcome, ended);
                    if failed {
                        halt.send_replace(true);
                    }
                }
                None => break,
            },
        }
    }
    halt.send_replace(true);
    done.send_replace(true);
    if !ingest_over {
        keep_first(&mut outcome, ingest.await);
    }
    house.abort();
    refresh(&shared);
    outcome
}

fn keep_first(outcome: &mut Result<()>, ended: std::result::Result<Result<()>, tokio::task::JoinError>) {
    let ended = ended.unwrap_or_else(|e| match e.is_cancelled() {
        true => Ok(()),
        false => Err(Error::internal(format!("A task of the pipeline failed: {e}"))),
    });
    match (outcome.is_ok(), ended) {
        (true, Err(e)) => *outcome = Err(e),
        (false, Err(e)) => tracing::error!(error = %e, "Another error while stopping"),
        (_, Ok(())) => {}
    }
}

/// Trims the log by the slowest sink and keeps the numbers of the status fresh.
async fn housekeeping(
    shared: Arc<Shared>,
    applied: Vec<watch::Receiver<Option<Offset>>>,
    mut stop: watch::Receiver<bool>,
) -> Result<()> {
    let period = Duration::from_millis(TRIM_INTERVAL_MS.min(TIP_INTERVAL_MS));
    while !pause_or_stop(period, &mut stop).await {
        let _alone = shared.trimming.lock().await;
        // A sink that has reported nothing in this process holds everything (1.5).
        let slowest = applied.iter().map(|a| *a.borrow()).min().flatten();
        if let Some(before) = slowest {
            shared.log.trim(before).await?;
        }
        refresh(&shared);
    }
    Ok(())
}

/// Brings the numbers that depend on the time and on the source's tip up to date.
fn refresh(shared: &Shared) {
    let (bounds, tip) = (shared.log.bounds(), shared.tip.borrow().clone());
    let now_us = now_us();
    shared.status.update(|s| {
        s.log_bytes = bounds.bytes;
        for sink in s.sinks.values_mut() {
            let behind = match (&sink.position, &tip) {
                (Some(position), Some(tip)) => !reached(position, tip),
                (Some(_), None) | (None, _) => true,
            };
            let since_us = if sink.commit_us > 0 { now_us.saturating_sub(sink.commit_us) } else { 0 };
            sink.lag_ms = if behind { u64::try_from(since_us / 1000).unwrap_or(0) } else { 0 };
        }
    });
}

fn now_us() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// One target's task: loads what is missing, then applies; begins again with a take-over after what can be mended.
struct SinkTask {
    shared: Arc<Shared>,
    name: String,
    sink: Box<dyn Sink>,
    mapping: Mapping,
    prepare: PrepareMode,
    first_view: Option<View>,
    applied: watch::Sender<Option<Offset>>,
    goal: watch::Sender<Option<Position>>,
    /// Chunks that this process has loaded.
    chunks: Arc<AtomicU64>,
    ordered_before: Offset,
    replays: u32,
    /// A table that is to be emptied and read again.
    reload: Option<TableName>,
    stop: watch::Receiver<bool>,
}

impl SinkTask {
    fn new(
        shared: Arc<Shared>,
        part: SinkPart,
        first_view: Option<View>,
        applied: watch::Sender<Option<Offset>>,
        stop: watch::Receiver<bool>,
    ) -> Self {
        Self {
            shared,
            name: part.name,
            sink: part.sink,
            mapping: part.mapping,
            prepare: part.prepare,
            first_view,
            applied,
            goal: watch::channel(None).0,
            chunks: Arc::default(),
            ordered_before: Offset(0),
            replays: 0,
            reload: None,
            stop,
        }
    }

    async fn run(mut self) -> Result<()> {
        let mut backoff = Backoff::default();
        loop {
            let (applied, chunks) = self.progress();
            match self.session().await {
                Ok(()) => return Ok(()),
                Err(e) if *e.kind() == ErrorKind::Reorder => {
                    tracing::info!(sink = self.name, reason = %e, "Replaying a window in source order");
                }
                Err(e) if matches!(e.kind(), ErrorKind::Reload(_)) => {
                    tracing::info!(sink = self.name, reason = %e, "Loading a table again");
                    if let ErrorKind::Reload(table) = e.kind() {
                        self.reload = Some(table.clone());
                    }
                }
                Err(e) if e.is_retryable() => {
                    tracing::warn!(sink = self.name, error = %e, "Unavailable, trying again");
                    self.shared.status.sink(&self.name, |s| s.waiting_for = Some(e.message().to_owned()));
                    let now = self.progress();
                    if now.0 > applied || now.1 > chunks {
                        backoff.reset();
                    }
                    if pause_or_stop(backoff.pause(), &mut self.stop).await {
                        return Ok(());
                    }
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// What tells a session that worked for a while from one that did not work at all.
    fn progress(&self) -> (Option<Offset>, u64) {
        (*self.applied.borrow(), self.chunks.load(Ordering::Relaxed))
    }

    /// One session under one take-over.
    async fn session(&mut self) -> Result<()> {
        let ownership = self.take_over().await?;
        let checkpoint = ownership
            .checkpoint
            .clone()
            .ok_or_else(|| Error::internal("A sink without a checkpoint after it began"))?;
        self.shared.held.add_target(&ownership);
        self.shared.held.forget_up_to(&self.shared.log.bounds().durable.position);
        let held = self.stand(&checkpoint).await?;
        let Some(loaded) = self.load(&ownership, &checkpoint.mark.position).await? else { return Ok(()) };
        let ended = self.apply(&ownership, loaded, checkpoint.mark, held).await?;
        if ended == Ended::CaughtUp {
            tracing::info!(sink = self.name, "Caught up");
        }
        Ok(())
    }

    /// Takes the sink over, and empties the table that is to be read again: its chunks are planned and read under a new
    /// view of one place, which moves F_high up, so what made it necessary cannot come again for this table.
    async fn take_over(&mut self) -> Result<Ownership> {
        let ownership = self.sink.take_over().await?;
        let Some(name) = self.reload.clone() else { return Ok(ownership) };
        let table = ownership.tables.iter().find(|t| t.table == name);
        if table.is_none_or(|t| t.phase >= TablePhase::Consistent) {
            return Err(Error::internal(format!("Table {name} would be read again though it is consistent")));
        }
        self.sink.restart_table(&name).await?;
        self.reload = None;
        self.sink.take_over().await
    }

    /// Where the sink stands on the log, and what it holds beyond that. While the process runs a take-over may find
    /// a target that was restored to an older state: its checkpoint must still be on the log.
    async fn stand(&mut self, checkpoint: &Checkpoint) -> Result<Held> {
        let (log, mark) = (&self.shared.log, &checkpoint.mark);
        let _untrimmed = self.shared.trimming.lock().await;
        let bounds = log.bounds();
        let known = if checkpoint.log_id == bounds.id { log.mark_at(mark.next).await? } else { None };
        let had = identity::inherited(&bounds.inherited, &self.name);
        match known {
            Some(known) if identity::is_on(&mark.position, &known, had) => {
                // From here on nothing behind it may be trimmed, also where the target had more before.
                self.applied.send_replace(Some(mark.next));
                Ok(Held::new(Mark { next: mark.next, position: known }, mark.position.clone()))
            }
            Some(_) | None => Err(Error::resync(format!(
                "The checkpoint of sink {} is no mark of the log any more",
                self.name
            ))
            .with_hint("The target was restored to another state: start freshet again, it rebuilds its log from where the target stands")),
        }
    }

    /// Plans and bounds, after loading what is not in yet; `None` on a stop.
    async fn load(&mut self, ownership: &Ownership, low: &Position) -> Result<Option<Loaded>> {
        let stream = self.shared.settings.mode == Mode::Stream;
        let in_yet =
            !ownership.tables.is_empty() && ownership.tables.iter().all(|t| t.phase > TablePhase::Loading);
        if in_yet || stream {
            return self.plans_of_now(ownership, stream, low).await.map(Some);
        }
        let mut view = match self.first_view.take() {
            Some(view) => view,
            None => {
                let mut tables = self.shared.tables.lock().await;
                let (selection, readers) = (&self.shared.selection, self.shared.settings.readers);
                let view = open_view(tables.as_mut(), selection.as_ref(), readers, Some(low), &mut self.stop)
                    .await?;
                let Some(view) = view else { return Ok(None) };
                self.shared.held.add(&view.high);
                view
            }
        };
        if is_place_only(&view.low, &view.high) && !self.complete_high(&mut view).await? {
            return Ok(None);
        }
        let mut loader = Loader {
            name: &self.name,
            mapping: &self.mapping,
            prepare: self.prepare,
            chunk_rows: self.shared.settings.chunk_rows,
            exact: self.shared.exact_views,
            status: &self.shared.status,
            finished: &self.chunks,
            stop: self.stop.clone(),
        };
        let loaded = loader.run(self.sink.as_mut(), &ownership.tables, view).await?;
        if loaded.is_some() {
            self.set_phase(ownership, Phase::CatchingUp);
        }
        Ok(loaded)
    }

    /// Waits until the log has come to the place that is F_high, and takes its position there for it: that has the whole
    /// GTID set, which is told from others on every server (decision 0014). `false` on a stop.
    async fn complete_high(&mut self, view: &mut View) -> Result<bool> {
        let (begun, mut backoff) = (Instant::now(), Backoff::default());
        loop {
            let durable = self.shared.log.bounds().durable.position;
            if at_place(&durable, &view.high) {
                self.shared.held.add(&durable);
                view.high = durable;
                return Ok(true);
            }
            if begun.elapsed() >= Duration::from_millis(VIEW_WAIT_MS_MAX) {
                return Err(Error::unavailable("The log has not come to where the view of a load ends")
                    .with_hint("If the log is at its bound, raise log.bytes_max, or grant RELOAD on the source so that loads take the lock"));
            }
            if pause_or_stop(backoff.pause(), &mut self.stop).await {
                return Ok(false);
            }
        }
    }

    async fn plans_of_now(&mut self, ownership: &Ownership, stream: bool, low: &Position) -> Result<Loaded> {
        let tables = self.shared.tables.lock().await.tables(self.shared.selection.as_ref()).await?;
        let plans = self.mapping.plan(&tables)?;
        if stream && ownership.tables.is_empty() {
            self.sink.prepare(&plans, PrepareMode::Keep).await?;
        }
        Loaded::of(plans, &ownership.tables, low.clone(), self.shared.exact_views)
    }

    async fn apply(
        &mut self,
        ownership: &Ownership,
        loaded: Loaded,
        from: Mark,
        held: Held,
    ) -> Result<Ended> {
        let consistent = self.shared.settings.mode == Mode::Stream
            || (!ownership.tables.is_empty()
                && ownership.tables.iter().all(|t| t.phase == TablePhase::Consistent));
        self.set_phase(ownership, if consistent { Phase::Streaming } else { Phase::CatchingUp });
        self.show_tables(&loaded, consistent);
        if consistent && self.shared.settings.mode != Mode::Stream {
            // A process may have ended between the last table's phase and the record that all are consistent.
            let refused = self.sink.make_consistent(&loaded.plans).await?;
            self.shared.status.sink(&self.name, |s| s.not_carried.extend(refused));
        }
        let goal = self.goal(&loaded.high);
        let mut applier = Applier {
            name: &self.name,
            sink: self.sink.as_mut(),
            log: &self.shared.log,
            plans: &loaded.plans,
            window_rows: self.shared.settings.window_rows,
            exact: loaded.holds.keys().cloned().collect(),
            high: (!consistent).then_some(loaded.high),
            held: held.with_tables(loaded.holds),
            goal,
            applied: &self.applied,
            status: &self.shared.status,
            stop: self.stop.clone(),
            ordered_before: &mut self.ordered_before,
            replays: &mut self.replays,
        };
        applier.run(from).await
    }

    /// Where this run ends: F_high for a load, the source's tip of this moment for `--until caught-up`.
    fn goal(&self, high: &Position) -> watch::Receiver<Option<Position>> {
        if self.shared.settings.mode == Mode::Load {
            self.goal.send_replace(Some(high.clone()));
        } else if self.shared.settings.until_caught_up && self.goal.borrow().is_none() {
            tokio::spawn(first_tip(self.shared.tip.clone(), self.goal.clone()));
        }
        self.goal.subscribe()
    }

    fn set_phase(&self, ownership: &Ownership, phase: Phase) {
        self.shared.status.sink(&self.name, |s| {
            s.phase = phase;
            for table in &ownership.tables {
                s.tables.entry(table.table.clone()).or_default().phase = phase;
            }
        });
    }

    fn show_tables(&self, loaded: &Loaded, consistent: bool) {
        let phase = if consistent { Phase::Streaming } else { Phase::CatchingUp };
        for plan in &loaded.plans {
            self.shared.status.table(&self.name, plan.info.name(), |t| {
                t.phase = phase;
                t.rows_estimate = plan.info.rows_estimate;
            });
        }
    }
}

/// The first tip of the source that is read from now on becomes the goal.
async fn first_tip(mut tip: watch::Receiver<Option<Position>>, goal: watch::Sender<Option<Position>>) {
    tip.mark_unchanged();
    let patience = Duration::from_millis(RETRY_MS_MAX);
    loop {
        match tokio::time::timeout(patience, tip.changed()).await {
            Ok(Ok(())) => break,
            Ok(Err(_)) => return,
            Err(_) => continue,
        }
    }
    let position = tip.borrow().clone();
    if position.is_some() {
        goal.send_replace(position);
    }
}
