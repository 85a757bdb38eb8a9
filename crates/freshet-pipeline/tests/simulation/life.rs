//! One life of a pipeline: processes that begin, are stopped, die, and run beside each other, while a user writes and
//! the source purges, stalls and fails over; and how it ended.

use crate::history::{Database, Flavour, History, Writer};
use crate::log::{Habits, SimLogStore, SimStore};
use crate::sink::SimSink;
use crate::source::SimSource;
use crate::tables::SimTables;
use crate::target::Target;
use crate::world::{Actor, Dice, Process, World, lock};
use freshet_core::sink::PrepareMode;
use freshet_core::{Error, ErrorKind, Result};
use freshet_mapping::{Mapping, Selection};
use freshet_pipeline::retry::repeat_pauses;
use freshet_pipeline::{Parts, Settings, SinkPart, run};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Virtual time that a process has to stop, and the last one to catch up.
const STOP_S_MAX: u64 = 900;
const CATCH_UP_S_MAX: u64 = 3600;

/// What may happen in a life.
#[derive(Clone, Debug)]
pub struct Profile {
    pub flavour: Flavour,
    /// Every view is of one moment.
    pub exact: bool,
    /// Updates leave out large values.
    pub lacks: bool,
    pub targets: usize,
    pub overlaps: bool,
    /// Processes with logs of their own run beside each other.
    pub rivals: bool,
    /// Logs are lost or come back from copies.
    pub loses_logs: bool,
    /// One transaction in so many is followed by a fail-over.
    pub fails_over: u32,
    /// Fail-overs lose transactions.
    pub loses_commits: bool,
    /// One call in so many loses its connection.
    pub lossy: u32,
    pub txns: usize,
    pub processes: usize,
    pub habits: Habits,
    pub settings: Settings,
    pub paces: Vec<u64>,
}

impl Profile {
    fn draw(flavour: Flavour, dice: &mut Dice) -> Self {
        let exact = flavour == Flavour::Postgres || dice.one_in(3);
        let rivals = dice.one_in(4);
        let fails_over =
            dice.pick(if flavour == Flavour::Mysql && !exact { &[0, 4, 8] } else { &[0, 0, 12] });
        let settings = Settings {
            readers: 1 + dice.below(3),
            chunk_rows: dice.pick(&[1, 2, 4, 100]),
            window_rows: dice.pick(&[1, 4, 10, 20_000]),
            ..Settings::default()
        };
        // Without the lock a load waits for the log to come to its view, and would for ever where that has no room.
        let bounds: &[usize] = if flavour == Flavour::Mysql && !exact { &[0] } else { &[0, 0, 3, 12] };
        let habits = Habits { records_max: dice.pick(bounds), bad_syncs: dice.pick(&[0, 0, 0, 30]) };
        Self {
            flavour,
            exact,
            lacks: flavour == Flavour::Postgres && dice.one_in(2),
            targets: dice.pick(&[1, 1, 2, 3]),
            overlaps: dice.one_in(2),
            rivals,
            loses_logs: dice.one_in(4),
            fails_over,
            loses_commits: fails_over > 0 && dice.one_in(2),
            lossy: dice.pick(&[0, 100, 40, 15]),
            txns: 5 + dice.below(50),
            processes: 1 + dice.below(5),
            habits,
            settings,
            paces: dice.pick(&[vec![0, 1], vec![0, 0, 1, 5, 60], vec![0, 0, 1, 20, 300, 1500]]),
        }
    }

    /// Whether what the source was told to be durable is all that it has to keep.
    fn purges_acknowledged(&self) -> bool {
        !self.rivals && !self.loses_logs
    }
}

/// How a life ended that broke no promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ending {
    /// Every target is the source.
    Equal,
    /// It stopped by name: the source lost what was read from it.
    Resync,
    /// It stopped by name: targets of which one never began, and the log that the others follow is elsewhere.
    NotBegun,
}

/// A life and what came of it.
pub struct Lived {
    pub ending: std::result::Result<Ending, String>,
    pub trace: Vec<String>,
    pub profile: Profile,
}

/// Lives one life from a seed, in virtual time and in a runtime of its own; `traced` tells what happened.
pub fn live(flavour: Flavour, seed: u64, traced: bool) -> Lived {
    repeat_pauses(seed);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime");
    runtime.block_on(async {
        let mut dice = Dice::new(seed, 0);
        let profile = Profile::draw(flavour, &mut dice);
        let mut life = Life::new(seed, dice, profile, traced);
        let lived = life.live().await;
        let ending = match life.world.first_violation() {
            Some(violation) => Err(violation),
            None => lived,
        };
        Lived { ending, trace: life.world.trace(), profile: life.profile }
    })
}

struct Life {
    world: Arc<World>,
    profile: Profile,
    db: Arc<Database>,
    targets: Vec<Arc<Target>>,
    stores: Vec<Arc<SimStore>>,
    fate: Actor,
    processes: u64,
}

struct Running {
    process: Arc<Process>,
    store: Arc<SimStore>,
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<()>>,
    /// Another process ran beside it.
    rivalled: bool,
}

type Outcome<T> = std::result::Result<T, String>;

impl Life {
    fn new(seed: u64, mut dice: Dice, profile: Profile, traced: bool) -> Self {
        let world = World::new(seed, profile.paces.clone(), traced);
        let db = Arc::new(Database {
            history: History::new(profile.flavour, profile.exact).into(),
            changed: Notify::new(),
        });
        let mut writer = Writer::new(dice.clone(), profile.lacks);
        writer.moves = profile.lacks;
        dice.next();
        // What was there before.
        for _ in 0..dice.below(20) {
            let mut history = lock(&db.history);
            let changes = writer.transaction(&history);
            history.commit(changes);
            history.visible = history.len();
        }
        let targets = (0..profile.targets).map(|n| Target::new(&world, &db, format!("target {n}"))).collect();
        let stores = (0..2).map(|n| SimStore::new(&world, profile.habits, n)).collect();
        let fate = world.actor(None, "fate");
        let user = User {
            db: db.clone(),
            actor: world.actor(None, "user"),
            writer,
            stalled: 0,
            profile: profile.clone(),
        };
        let life = Self { world, profile, db, targets, stores, fate, processes: 0 };
        tokio::spawn(user.write(life.targets.clone()));
        life
    }

    async fn live(&mut self) -> Outcome<Ending> {
        self.world.lose_one_in(self.profile.lossy);
        let mut copy = self.stores[0].copy();
        for _ in 0..self.profile.processes {
            if let Some(ending) = self.process().await? {
                return Ok(ending);
            }
            let begun = self.targets.iter().all(|t| t.checkpoint().is_some());
            match self.fate.dice.below(6) {
                0 if self.profile.loses_logs && begun => self.stores[0].delete(),
                1 if self.profile.loses_logs && begun => self.stores[0].restore(&copy),
                2 => copy = self.stores[0].copy(),
                _ => {}
            }
        }
        while !lock(&self.db.history).is_over {
            self.fate.pause(1000).await;
        }
        self.world.lose_one_in(0);
        self.stores.iter().for_each(|store| store.is_calm.store(true, Ordering::Relaxed));
        self.catch_up().await
    }

    fn start(&mut self, store: usize, until_caught_up: bool) -> Running {
        self.processes += 1;
        let process = Process::new(self.processes);
        let store = self.stores[store].clone();
        store.failed.store(false, Ordering::Relaxed);
        self.world.note(|| format!("process {} begins", process.id));
        let sink = |target: &Arc<Target>| SinkPart {
            name: target.name.clone(),
            sink: Box::new(SimSink::new(
                &self.world,
                &process,
                target,
                self.profile.overlaps,
                self.profile.settings.window_rows,
            )),
            mapping: Mapping::default(),
            prepare: PrepareMode::default(),
        };
        let parts = Parts {
            source: Box::new(SimSource::new(&self.world, &process, &self.db)),
            tables: Box::new(SimTables::new(&self.world, &process, &self.db, self.profile.exact)),
            store: Box::new(SimLogStore { store: store.clone(), process: process.clone() }),
            sinks: self.targets.iter().map(sink).collect(),
            selection: Arc::new(Selection::new(&["bank.*"], &[]).expect("valid")),
        };
        let (stop, stopped) = watch::channel(false);
        let settings = Settings { until_caught_up, ..self.profile.settings.clone() };
        let task = tokio::spawn(run(parts, settings, Arc::default(), stopped));
        Running { process, store, stop, task, rivalled: false }
    }

    /// One process, perhaps with another one beside it; an ending if it has to be one.
    async fn process(&mut self) -> Outcome<Option<Ending>> {
        let mut running = vec![self.start(0, false)];
        self.wait().await;
        if self.profile.rivals && self.fate.dice.one_in(2) {
            running.push(self.start(1, false));
            running.iter_mut().for_each(|one| one.rivalled = true);
            self.wait().await;
        }
        if self.fate.dice.one_in(2) {
            running.reverse();
        }
        let mut ending = None;
        for one in running {
            ending = self.end(one).await?.or(ending);
        }
        Ok(ending)
    }

    async fn wait(&mut self) {
        let ms = self.fate.dice.pick(&[30, 300, 1000, 3000, 10_000, 40_000]);
        self.fate.pause(ms).await;
    }

    async fn end(&mut self, running: Running) -> Outcome<Option<Ending>> {
        if !running.task.is_finished() && self.fate.dice.one_in(2) {
            self.world.kill(&running.process);
            running.task.abort();
            running.store.crash(&mut self.fate);
            return Ok(None);
        }
        running.stop.send_replace(true);
        let Running { process, store, task, rivalled, stop: _stop } = running;
        let ended = timeout(Duration::from_secs(STOP_S_MAX), task).await;
        let ended = ended.map_err(|_| format!("process {} hangs at a stop", process.id))?;
        self.world.note(|| format!("process {} ended: {ended:?}", process.id));
        // Whatever it left behind is over with it.
        self.world.kill(&process);
        match ended.map_err(|e| format!("process {} panicked: {e}", process.id))? {
            Ok(()) => Ok(None),
            Err(error) => self.judge(&error, &store, rivalled),
        }
    }

    /// Whether a process may end with this error, and whether that is the end.
    fn judge(&self, error: &Error, store: &SimStore, rivalled: bool) -> Outcome<Option<Ending>> {
        let history = lock(&self.db.history);
        let unbegun = error.message().contains("has not begun");
        match error.kind() {
            ErrorKind::Resync if history.lost_what_was_given => Ok(Some(Ending::Resync)),
            ErrorKind::Invalid if self.profile.rivals && unbegun => Ok(None),
            ErrorKind::Unavailable if self.profile.lossy > 0 || self.profile.fails_over > 0 => Ok(None),
            // What a rival has applied the source need not keep.
            ErrorKind::Fenced | ErrorKind::Resync if rivalled => Ok(None),
            ErrorKind::Internal if store.failed.load(Ordering::Relaxed) => Ok(None),
            kind => Err(format!("a process stopped: {error} ({kind:?})")),
        }
    }

    /// The last process, while nothing fails.
    async fn catch_up(&mut self) -> Outcome<Ending> {
        let checkpoints: Vec<_> = self.targets.iter().map(|t| t.checkpoint()).collect();
        let followed =
            |store: &Arc<SimStore>| checkpoints.iter().flatten().any(|c| Some(c.log_id) == store.id());
        let store = self.stores.iter().position(followed);
        let unbegun = checkpoints.iter().any(Option::is_none) && checkpoints.iter().any(Option::is_some);
        if unbegun && store.is_none() && self.profile.rivals {
            return Ok(Ending::NotBegun);
        }
        let running = self.start(store.unwrap_or(0), true);
        let ended = timeout(Duration::from_secs(CATCH_UP_S_MAX), running.task).await;
        let ended = ended.map_err(|_| "it never catches up".to_owned())?;
        if let Err(error) = ended.map_err(|e| format!("the last process panicked: {e}"))? {
            let ending = self.judge(&error, &running.store, false)?;
            return ending.ok_or_else(|| format!("the last process stopped: {error}"));
        }
        let history = lock(&self.db.history);
        for target in &self.targets {
            let contents = lock(&target.contents);
            let is_whole = crate::target::sum(&contents) == history.latest().sum;
            if !contents.consistent || !is_whole {
                return Err(format!("{} is not the source at the end", target.name));
            }
        }
        Ok(Ending::Equal)
    }
}

/// Who writes to the source, and what the source does meanwhile.
struct User {
    db: Arc<Database>,
    actor: Actor,
    writer: Writer,
    /// Commits that stay unseen from now on.
    stalled: usize,
    profile: Profile,
}

impl User {
    async fn write(mut self, targets: Vec<Arc<Target>>) {
        for _ in 0..self.profile.txns {
            let ms = self.actor.dice.pick(&[0, 0, 5, 100, 700, 3000]);
            self.actor.pause(ms).await;
            self.commit();
            if self.actor.dice.one_in(self.profile.fails_over) {
                self.fail_over();
            }
            if self.actor.dice.one_in(4) {
                self.purge(&targets);
            }
            self.db.changed.notify_waiters();
        }
        self.actor.pause(1000).await;
        let mut history = lock(&self.db.history);
        history.visible = history.len();
        history.is_over = true;
        self.actor.note(|| format!("is done after {}", history.len()));
    }

    fn commit(&mut self) {
        let mut history = lock(&self.db.history);
        let changes = self.writer.transaction(&history);
        self.actor.note(|| format!("commits {}: {changes:?}", history.len() + 1));
        history.commit(changes);
        if self.stalled > 0 {
            self.stalled -= 1;
        } else if self.actor.dice.one_in(6) {
            self.stalled = self.actor.dice.below(6);
        } else {
            history.visible = history.len();
        }
    }

    fn fail_over(&mut self) {
        let mut history = lock(&self.db.history);
        let lost = if self.profile.loses_commits { self.actor.dice.below(5) } else { 0 };
        history.fail_over(lost);
        self.stalled = 0;
        self.actor.note(|| format!("fails over to server {} with {}", history.server, history.len()));
    }

    fn purge(&mut self, targets: &[Arc<Target>]) {
        let applied = targets.iter().map(|t| t.transactions().unwrap_or(0)).min().unwrap_or(0);
        let mut history = lock(&self.db.history);
        let limit = if self.profile.purges_acknowledged() { history.acknowledged } else { applied };
        if limit > history.purged {
            history.purged = limit;
            self.actor.note(|| format!("purges {limit}"));
        }
    }
}
