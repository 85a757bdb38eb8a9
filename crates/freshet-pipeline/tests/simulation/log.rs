//! The twin of the durable log: what is appended is written at once and durable later, up to a commit; a crash loses
//! some of what was not; the disk may fail; old records go as the engine trims; it pauses at its bound.

use crate::world::{Actor, Process, World, lock};
use async_trait::async_trait;
use freshet_core::log::{Append, Inherited, Log, LogBounds, LogReader, LogStore, LogWriter, Record};
use freshet_core::{Error, LogEpoch, LogId, Mark, Offset, Position, Result, SchemaMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::{Notify, watch};

#[derive(Clone, Debug)]
struct Contents {
    id: LogId,
    epoch: LogEpoch,
    inherited: Vec<Inherited>,
    trimmed: Mark,
    durable: Mark,
    /// From `trimmed` on, the open transaction's parts included.
    records: Vec<Record>,
    schemas: SchemaMap,
}

impl Contents {
    fn written(&self) -> Option<Mark> {
        let record = self.records.iter().rev().find(|r| r.position.is_some())?;
        let position = record.position.clone()?;
        Some(Mark { next: record.next, position })
    }

    fn has_open_parts(&self) -> bool {
        self.records.last().is_some_and(|r| r.position.is_none())
    }

    /// Forgets what lies behind a mark.
    fn cut(&mut self, at: &Mark) {
        self.records.retain(|r| r.offset < at.next);
        self.durable = at.clone();
    }
}

/// One log of a store.
struct Shared {
    contents: Mutex<Contents>,
    durable: watch::Sender<Mark>,
    /// Something was written, or there is room again.
    moved: Notify,
}

/// How a store behaves.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    /// Records at which appending waits; 0 for never.
    pub records_max: usize,
    /// One sync in so many fails; 0 for none.
    pub bad_syncs: u32,
}

/// Where a log lives: outlives processes.
pub struct SimStore {
    world: Arc<World>,
    pub habits: Habits,
    current: Mutex<Option<Arc<Shared>>>,
    made: Mutex<u8>,
    name: u8,
    /// Whether a sync failed since somebody asked: a process stops for that.
    pub failed: AtomicBool,
    /// From now on none does.
    pub is_calm: AtomicBool,
}

/// A copy of a log, for whoever puts it back.
pub struct LogCopy(Option<Contents>);

impl SimStore {
    pub fn new(world: &Arc<World>, habits: Habits, name: u8) -> Arc<Self> {
        Arc::new(Self {
            world: world.clone(),
            habits,
            current: Mutex::default(),
            made: Mutex::new(0),
            name,
            failed: AtomicBool::new(false),
            is_calm: AtomicBool::new(false),
        })
    }

    pub fn id(&self) -> Option<LogId> {
        lock(&self.current).as_ref().map(|s| lock(&s.contents).id)
    }

    pub fn delete(&self) {
        *lock(&self.current) = None;
        self.world.note(|| format!("log {} is lost", self.name));
    }

    pub fn copy(&self) -> LogCopy {
        LogCopy(lock(&self.current).as_ref().map(|s| lock(&s.contents).clone()))
    }

    pub fn restore(&self, copy: &LogCopy) {
        *lock(&self.current) = copy.0.clone().map(shared);
        self.world.note(|| format!("log {} is put back", self.name));
    }

    /// What a crash leaves: all that is durable, and some of the rest.
    pub fn crash(&self, actor: &mut Actor) {
        let Some(shared) = lock(&self.current).take() else { return };
        let mut contents = lock(&shared.contents).clone();
        let marks = contents.records.iter().filter(|r| r.next > contents.durable.next);
        let mut marks: Vec<Mark> = marks
            .filter_map(|r| r.position.clone().map(|position| Mark { next: r.next, position }))
            .collect();
        marks.insert(0, contents.durable.clone());
        let kept = actor.dice.pick(&marks);
        contents.cut(&kept);
        self.world.note(|| format!("log {} comes back up to {}", self.name, kept.next));
        *lock(&self.current) = Some(self::shared(contents));
    }
}

fn shared(contents: Contents) -> Arc<Shared> {
    let durable = watch::channel(contents.durable.clone()).0;
    Arc::new(Shared { contents: Mutex::new(contents), durable, moved: Notify::new() })
}

/// A store as one process has it.
pub struct SimLogStore {
    pub store: Arc<SimStore>,
    pub process: Arc<Process>,
}

impl SimLogStore {
    async fn turn(&self) -> Actor {
        let mut actor = self.store.world.actor(Some(&self.process), "log");
        actor.turn().await;
        actor
    }

    fn log(&self, shared: Arc<Shared>) -> Arc<dyn Log> {
        Arc::new(SimLog { store: self.store.clone(), process: self.process.clone(), shared })
    }
}

#[async_trait]
impl LogStore for SimLogStore {
    async fn open(&self) -> Result<Option<Arc<dyn Log>>> {
        self.turn().await;
        Ok(lock(&self.store.current).clone().map(|shared| self.log(shared)))
    }

    async fn create(&self, start: &Position, inherited: &[Inherited]) -> Result<Arc<dyn Log>> {
        let actor = self.turn().await;
        let mut made = lock(&self.store.made);
        *made += 1;
        let mut id = [0; 16];
        (id[0], id[1]) = (self.store.name, *made);
        let mark = Mark { next: Offset(0), position: start.clone() };
        let contents = Contents {
            id: LogId(id),
            epoch: LogEpoch(0),
            inherited: inherited.to_vec(),
            trimmed: mark.clone(),
            durable: mark,
            records: Vec::new(),
            schemas: SchemaMap::default(),
        };
        actor.note(|| format!("{}.{made} begins at {start}", self.store.name));
        let shared = shared(contents);
        *lock(&self.store.current) = Some(shared.clone());
        Ok(self.log(shared))
    }
}

struct SimLog {
    store: Arc<SimStore>,
    process: Arc<Process>,
    shared: Arc<Shared>,
}

impl SimLog {
    fn actor(&self) -> Actor {
        self.store.world.actor(Some(&self.process), "log")
    }

    fn mark(&self, next: Offset) -> Option<Position> {
        let c = lock(&self.shared.contents);
        if next == c.trimmed.next {
            return Some(c.trimmed.position.clone());
        }
        let before = c.records.iter().find(|r| r.next == next && next <= c.durable.next);
        before.and_then(|r| r.position.clone())
    }
}

#[async_trait]
impl Log for SimLog {
    fn bounds(&self) -> LogBounds {
        let c = lock(&self.shared.contents);
        LogBounds {
            id: c.id,
            trimmed: c.trimmed.clone(),
            durable: c.durable.clone(),
            bytes: 0,
            inherited: c.inherited.clone(),
        }
    }

    async fn mark_at(&self, next: Offset) -> Result<Option<Position>> {
        self.actor().turn().await;
        Ok(self.mark(next))
    }

    async fn writer(&self) -> Result<Box<dyn LogWriter>> {
        self.actor().turn().await;
        let (epoch, mark) = {
            let mut c = lock(&self.shared.contents);
            c.epoch = c.epoch.next();
            let mark = c.durable.clone();
            c.cut(&mark);
            (c.epoch, mark)
        };
        let failed = Arc::new(Mutex::new(None));
        let durable = Arc::new(Mutex::new(Some(watch::Sender::new(mark))));
        let disk = Disk {
            actor: self.store.world.actor(Some(&self.process), "disk"),
            store: self.store.clone(),
            shared: self.shared.clone(),
            epoch,
            durable: durable.clone(),
            failed: failed.clone(),
        };
        tokio::spawn(disk.run());
        let actor = self.store.world.actor(Some(&self.process), "writer");
        let (store, shared) = (self.store.clone(), self.shared.clone());
        Ok(Box::new(SimWriter { store, shared, epoch, actor, durable, failed }))
    }

    async fn reader(&self, from: Offset) -> Result<Box<dyn LogReader>> {
        let mut actor = self.store.world.actor(Some(&self.process), "log reader");
        actor.turn().await;
        if self.mark(from).is_none() {
            return Err(Error::internal(format!("Offset {from} is no mark of the log")));
        }
        let durable = self.shared.durable.subscribe();
        Ok(Box::new(SimLogReader { shared: self.shared.clone(), next: from, durable, actor }))
    }

    async fn trim(&self, before: Offset) -> Result<()> {
        let mut actor = self.actor();
        actor.turn().await;
        let mut c = lock(&self.shared.contents);
        let durable = c.durable.next;
        let marks: Vec<usize> = (0..c.records.len())
            .filter(|i| c.records[*i].position.is_some() && c.records[*i].next <= before.min(durable))
            .collect();
        // By whole segments only.
        if marks.is_empty() || (self.store.habits.records_max == 0 && actor.dice.one_in(2)) {
            return Ok(());
        }
        let last =
            if self.store.habits.records_max > 0 { marks[marks.len() - 1] } else { actor.dice.pick(&marks) };
        let record = c.records[last].clone();
        if let Some(position) = record.position {
            c.trimmed = Mark { next: record.next, position };
        }
        c.records.drain(..=last);
        actor.note(|| format!("trims up to {}", c.trimmed.next));
        drop(c);
        self.shared.moved.notify_waiters();
        Ok(())
    }
}

type Durable = Arc<Mutex<Option<watch::Sender<Mark>>>>;

/// What makes appended records durable.
struct Disk {
    actor: Actor,
    store: Arc<SimStore>,
    shared: Arc<Shared>,
    epoch: LogEpoch,
    durable: Durable,
    failed: Arc<Mutex<Option<Error>>>,
}

impl Disk {
    async fn run(mut self) {
        let shared = self.shared.clone();
        loop {
            let moved = shared.moved.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            let written = {
                let c = lock(&shared.contents);
                let written = c.written().filter(|w| w.next > c.durable.next);
                (c.epoch == self.epoch).then_some(written)
            };
            match written {
                None => return,
                Some(None) => moved.await,
                Some(Some(mark)) => {
                    self.actor.turn().await;
                    if !self.sync(mark) {
                        return;
                    }
                }
            }
        }
    }

    fn sync(&mut self, mark: Mark) -> bool {
        let mut c = lock(&self.shared.contents);
        if c.epoch != self.epoch {
            return false;
        }
        let is_bad = self.actor.dice.one_in(self.store.habits.bad_syncs);
        if is_bad && !self.store.is_calm.load(Ordering::Relaxed) {
            self.actor.note(|| "cannot sync".into());
            self.store.failed.store(true, Ordering::Relaxed);
            *lock(&self.failed) = Some(Error::internal("The disk cannot sync"));
            drop(c);
            *lock(&self.durable) = None;
            self.shared.moved.notify_waiters();
            return false;
        }
        self.actor.note(|| format!("has all up to {}", mark.next));
        c.durable = mark.clone();
        drop(c);
        if let Some(sender) = lock(&self.durable).as_ref() {
            sender.send_replace(mark.clone());
        }
        self.shared.durable.send_replace(mark);
        self.shared.moved.notify_waiters();
        true
    }
}

struct SimWriter {
    store: Arc<SimStore>,
    shared: Arc<Shared>,
    epoch: LogEpoch,
    actor: Actor,
    durable: Durable,
    failed: Arc<Mutex<Option<Error>>>,
}

impl SimWriter {
    fn contents(&self) -> Result<MutexGuard<'_, Contents>> {
        if let Some(error) = lock(&self.failed).clone() {
            return Err(error);
        }
        let c = lock(&self.shared.contents);
        if c.epoch == self.epoch { Ok(c) } else { Err(Error::fenced("Another writer has the log")) }
    }

    fn has_room(&self) -> Result<bool> {
        let (max, c) = (self.store.habits.records_max, self.contents()?);
        Ok(max == 0 || c.has_open_parts() || c.records.len() < max)
    }
}

#[async_trait]
impl LogWriter for SimWriter {
    fn epoch(&self) -> LogEpoch {
        self.epoch
    }

    async fn append(&mut self, append: Append) -> Result<()> {
        if append.position.is_some() != append.batch.ends_at_commit() {
            return Err(Error::internal("A batch has a position exactly if it ends at a commit"));
        }
        let shared = self.shared.clone();
        loop {
            let moved = shared.moved.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            self.actor.turn().await;
            if self.has_room()? {
                break;
            }
            moved.await;
        }
        let mut c = self.contents()?;
        let offset = c.records.last().map_or(c.trimmed.next, |r| r.next);
        append.batch.collect_schemas(&mut c.schemas)?;
        let schemas = c.schemas.clone();
        let (batch, position) = (append.batch, append.position);
        self.actor.note(|| format!("appends {offset}{}", if position.is_some() { "" } else { ", a part" }));
        c.records.push(Record { offset, next: offset.next(), batch, position, schemas });
        drop(c);
        self.shared.moved.notify_waiters();
        Ok(())
    }

    async fn discard_open(&mut self) -> Result<()> {
        self.actor.turn().await;
        let mut c = self.contents()?;
        while c.has_open_parts() {
            c.records.pop();
        }
        Ok(())
    }

    fn durable(&self) -> watch::Receiver<Mark> {
        match lock(&self.durable).as_ref() {
            Some(sender) => sender.subscribe(),
            None => watch::channel(lock(&self.shared.contents).durable.clone()).1,
        }
    }

    async fn close(mut self: Box<Self>) -> Result<()> {
        self.discard_open().await?;
        let shared = self.shared.clone();
        loop {
            let moved = shared.moved.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            {
                let c = self.contents()?;
                if c.written().is_none_or(|w| w.next <= c.durable.next) {
                    return Ok(());
                }
            }
            moved.await;
        }
    }
}

impl Drop for SimWriter {
    fn drop(&mut self) {
        *lock(&self.durable) = None;
    }
}

struct SimLogReader {
    shared: Arc<Shared>,
    next: Offset,
    durable: watch::Receiver<Mark>,
    actor: Actor,
}

#[async_trait]
impl LogReader for SimLogReader {
    async fn next(&mut self) -> Result<Record> {
        loop {
            self.durable.mark_unchanged();
            self.actor.turn().await;
            if let Some(record) = self.at_hand()? {
                return Ok(record);
            }
            self.durable.changed().await.map_err(|_| Error::internal("The log's writer has failed"))?;
        }
    }

    async fn try_next(&mut self) -> Result<Option<Record>> {
        if self.actor.dice.one_in(4) {
            self.actor.turn().await;
        }
        self.at_hand()
    }
}

impl SimLogReader {
    fn at_hand(&mut self) -> Result<Option<Record>> {
        let c = lock(&self.shared.contents);
        if self.next < c.trimmed.next {
            return Err(Error::internal(format!("Record {} was trimmed before it was read", self.next)));
        }
        let is_it = |r: &&Record| r.offset == self.next && r.next <= c.durable.next;
        let record = c.records.iter().find(is_it).cloned();
        self.next = record.as_ref().map_or(self.next, |r| r.next);
        Ok(record)
    }
}
