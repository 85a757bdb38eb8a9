//! An in-memory log: the twin that the engine's tests run over.
//!
//! It keeps the contract of [`freshet_core::log`] with plain vectors: what is appended is durable at once up to its
//! last commit. A store outlives the logs in it, and can lose its log, or get an older copy of it back.

use async_trait::async_trait;
use freshet_core::log::{Append, Inherited, Log, LogBounds, LogReader, LogStore, LogWriter, Record};
use freshet_core::{Error, LogEpoch, LogId, Mark, Offset, Position, Result, SchemaMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

#[derive(Clone, Debug)]
struct Contents {
    id: LogId,
    epoch: LogEpoch,
    inherited: Vec<Inherited>,
    trimmed: Mark,
    durable: Mark,
    /// Records from `trimmed` on, the open transaction's parts included.
    records: Vec<Record>,
    schemas: SchemaMap,
}

#[derive(Debug)]
struct Shared {
    contents: Mutex<Contents>,
    durable: watch::Sender<Mark>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where an in-memory log lives.
#[derive(Clone, Debug, Default)]
pub struct MemoryLogStore {
    current: Arc<Mutex<Option<Arc<Shared>>>>,
}

/// A copy of a log.
#[derive(Clone, Debug)]
pub struct MemoryLogCopy(Option<Contents>);

impl MemoryLogStore {
    /// An empty place.
    pub fn new() -> Self {
        Self::default()
    }

    /// Deletes the log.
    pub fn delete(&self) {
        *lock(&self.current) = None;
    }

    /// A copy of the log as it is.
    pub fn copy(&self) -> MemoryLogCopy {
        MemoryLogCopy(lock(&self.current).as_ref().map(|s| lock(&s.contents).clone()))
    }

    /// Puts a copy in the log's place.
    pub fn restore(&self, copy: &MemoryLogCopy) {
        *lock(&self.current) = copy.0.clone().map(shared);
    }

    /// Number of records that can be read.
    pub fn records(&self) -> usize {
        lock(&self.current).as_ref().map_or(0, |s| lock(&s.contents).records.len())
    }
}

fn shared(contents: Contents) -> Arc<Shared> {
    let durable = watch::channel(contents.durable.clone()).0;
    Arc::new(Shared { contents: Mutex::new(contents), durable })
}

#[async_trait]
impl LogStore for MemoryLogStore {
    async fn open(&self) -> Result<Option<Arc<dyn Log>>> {
        let current = lock(&self.current).clone();
        if let Some(shared) = &current {
            let mut contents = lock(&shared.contents);
            let durable = contents.durable.next;
            contents.records.retain(|r| r.offset < durable);
        }
        Ok(current.map(|shared| Arc::new(MemoryLog { shared }) as Arc<dyn Log>))
    }

    async fn create(&self, start: &Position, inherited: &[Inherited]) -> Result<Arc<dyn Log>> {
        let mark = Mark { next: Offset(0), position: start.clone() };
        let contents = Contents {
            id: LogId(rand::random()),
            epoch: LogEpoch(0),
            inherited: inherited.to_vec(),
            trimmed: mark.clone(),
            durable: mark,
            records: Vec::new(),
            schemas: SchemaMap::default(),
        };
        let shared = shared(contents);
        if let Some(old) = lock(&self.current).replace(shared.clone()) {
            // Whoever still writes there is fenced.
            let mut old = lock(&old.contents);
            old.epoch = old.epoch.next();
        }
        Ok(Arc::new(MemoryLog { shared }))
    }
}

/// The log.
#[derive(Debug)]
pub struct MemoryLog {
    shared: Arc<Shared>,
}

#[async_trait]
impl Log for MemoryLog {
    fn bounds(&self) -> LogBounds {
        let c = lock(&self.shared.contents);
        let bytes = c.records.iter().map(|r| r.batch.bytes().len() as u64).sum();
        LogBounds {
            id: c.id,
            trimmed: c.trimmed.clone(),
            durable: c.durable.clone(),
            bytes,
            inherited: c.inherited.clone(),
        }
    }

    async fn mark_at(&self, next: Offset) -> Result<Option<Position>> {
        let c = lock(&self.shared.contents);
        if next == c.trimmed.next {
            return Ok(Some(c.trimmed.position.clone()));
        }
        let before = c.records.iter().find(|r| r.next == next && next <= c.durable.next);
        Ok(before.and_then(|r| r.position.clone()))
    }

    async fn writer(&self) -> Result<Box<dyn LogWriter>> {
        let mut c = lock(&self.shared.contents);
        c.epoch = c.epoch.next();
        let (epoch, mark) = (c.epoch, c.durable.clone());
        c.records.retain(|r| r.offset < mark.next);
        let durable = watch::Sender::new(mark);
        Ok(Box::new(MemoryWriter { shared: self.shared.clone(), epoch, durable }))
    }

    async fn reader(&self, from: Offset) -> Result<Box<dyn LogReader>> {
        if self.mark_at(from).await?.is_none() {
            return Err(Error::internal(format!("Offset {from} is not a mark of the log in memory")));
        }
        let durable = self.shared.durable.subscribe();
        Ok(Box::new(MemoryReader { shared: self.shared.clone(), next: from, durable }))
    }

    async fn trim(&self, before: Offset) -> Result<()> {
        let mut c = lock(&self.shared.contents);
        let before = before.min(c.durable.next);
        // Trimming ends at a mark.
        let Some(last) = c.records.iter().rposition(|r| r.next <= before && r.position.is_some()) else {
            return Ok(());
        };
        let record = c.records[last].clone();
        if let Some(position) = record.position {
            c.trimmed = Mark { next: record.next, position };
        }
        c.records.drain(..=last);
        Ok(())
    }
}

struct MemoryWriter {
    shared: Arc<Shared>,
    epoch: LogEpoch,
    /// Closes with the writer; the readers' mark does not.
    durable: watch::Sender<Mark>,
}

impl MemoryWriter {
    fn contents(&self) -> Result<MutexGuard<'_, Contents>> {
        let contents = lock(&self.shared.contents);
        if contents.epoch == self.epoch {
            Ok(contents)
        } else {
            Err(Error::fenced("Another writer has the log"))
        }
    }
}

#[async_trait]
impl LogWriter for MemoryWriter {
    fn epoch(&self) -> LogEpoch {
        self.epoch
    }

    async fn append(&mut self, append: Append) -> Result<()> {
        if append.position.is_some() != append.batch.ends_at_commit() {
            return Err(Error::internal("A batch has a position exactly if it ends at a commit"));
        }
        let mut c = self.contents()?;
        let offset = c.records.last().map_or(c.trimmed.next, |r| r.next);
        append.batch.collect_schemas(&mut c.schemas)?;
        let schemas = c.schemas.clone();
        let record = Record {
            offset,
            next: offset.next(),
            batch: append.batch,
            position: append.position.clone(),
            schemas,
        };
        c.records.push(record);
        if let Some(position) = append.position {
            let mark = Mark { next: offset.next(), position };
            c.durable = mark.clone();
            self.shared.durable.send_replace(mark.clone());
            self.durable.send_replace(mark);
        }
        Ok(())
    }

    async fn discard_open(&mut self) -> Result<()> {
        let mut c = self.contents()?;
        let durable = c.durable.next;
        c.records.retain(|r| r.offset < durable);
        Ok(())
    }

    fn durable(&self) -> watch::Receiver<Mark> {
        self.durable.subscribe()
    }

    async fn close(mut self: Box<Self>) -> Result<()> {
        self.discard_open().await
    }
}

struct MemoryReader {
    shared: Arc<Shared>,
    next: Offset,
    durable: watch::Receiver<Mark>,
}

#[async_trait]
impl LogReader for MemoryReader {
    async fn next(&mut self) -> Result<Record> {
        loop {
            self.durable.mark_unchanged();
            if let Some(record) = self.try_next().await? {
                return Ok(record);
            }
            self.durable.changed().await.map_err(|_| Error::internal("The log's writer has failed"))?;
        }
    }

    async fn try_next(&mut self) -> Result<Option<Record>> {
        let c = lock(&self.shared.contents);
        let durable = c.durable.next;
        let record = c.records.iter().find(|r| r.offset == self.next && r.offset < durable).cloned();
        if let Some(record) = &record {
            self.next = record.next;
        }
        Ok(record)
    }
}
