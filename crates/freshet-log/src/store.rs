//! Opens, creates and recovers a log directory, and is the log that the rest of freshet sees.
//!
//! The lock of the directory belongs to the store and to whatever it opened: opening or creating again retires the
//! log that was opened before, so that a rebuild can begin while somebody still holds the old one.

use crate::bounds::{Options, RECORD_BYTES_MAX};
use crate::error::{LogError, Result as LogResult};
use crate::files::{self, DirLock};
use crate::format::{Meta, SegmentHeader};
use crate::locate::locate;
use crate::reader::Reader;
use crate::shared::{Segment, Shared, State, rewind_files};
use crate::tail::{self, Place};
use crate::trim::trim;
use crate::writer::{fence, request_roll, take_over};
use async_trait::async_trait;
use freshet_core::log::{Inherited, Log, LogBounds, LogReader, LogStore, LogWriter};
use freshet_core::{Error, LogEpoch, LogId, Mark, Offset, Position, Result};
use rand::RngExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// A log directory, whether there is a log in it or not.
#[derive(Clone, Debug)]
pub struct DirectoryStore {
    inner: Arc<Store>,
}

#[derive(Debug)]
struct Store {
    dir: PathBuf,
    options: Options,
    open: Mutex<Opened>,
}

/// What this store opened last; the lock lives as long as any log that was opened under it.
#[derive(Debug, Default)]
struct Opened {
    lock: Weak<DirLock>,
    log: Weak<Shared>,
}

impl DirectoryStore {
    /// The directory `dir`; nothing is touched before it is opened.
    pub fn new(dir: impl Into<PathBuf>, options: Options) -> Self {
        let record_bytes_max = options.record_bytes_max.clamp(1, RECORD_BYTES_MAX);
        let options = Options { record_bytes_max, ..options };
        Self { inner: Arc::new(Store { dir: dir.into(), options, open: Mutex::default() }) }
    }
}

#[async_trait]
impl LogStore for DirectoryStore {
    async fn open(&self) -> Result<Option<Arc<dyn Log>>> {
        let store = Arc::clone(&self.inner);
        let opened = blocking(move || store.open()).await?;
        Ok(opened.map(|shared| Arc::new(DirectoryLog { shared }) as Arc<dyn Log>))
    }

    async fn create(&self, start: &Position, inherited: &[Inherited]) -> Result<Arc<dyn Log>> {
        let (store, start, inherited) = (Arc::clone(&self.inner), start.clone(), inherited.to_vec());
        let shared = blocking(move || store.create(start, inherited)).await?;
        Ok(Arc::new(DirectoryLog { shared }))
    }
}

/// Runs file work where it holds up no task.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> LogResult<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(Error::from),
        Err(_) => Err(Error::internal("Work on the log's files panicked")),
    }
}

impl Store {
    /// Everything is looked at before anything is touched, so that what cannot be read stays as it is.
    fn open(&self) -> LogResult<Option<Arc<Shared>>> {
        let mut opened = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        retire(&opened, &self.dir);
        if !self.dir.is_dir() || files::read_meta(&self.dir)?.is_none() {
            return Ok(None);
        }
        let lock = self.lock(&opened)?;
        // Only now nobody writes: what was read before the lock may have moved.
        let Some(meta) = files::read_meta(&self.dir)? else { return Ok(None) };
        let recovered = recover(&self.dir, meta)?;
        let shared = self.shared(&mut opened, lock, recovered);
        Ok(Some(shared))
    }

    fn create(&self, start: Position, inherited: Vec<Inherited>) -> LogResult<Arc<Shared>> {
        let mut opened = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        retire(&opened, &self.dir);
        let dir = &self.dir;
        std::fs::create_dir_all(dir).map_err(LogError::io("create", dir))?;
        match files::read_meta(dir) {
            Ok(_) | Err(LogError::Header { .. }) => {}
            Err(e) => return Err(e),
        }
        let lock = self.lock(&opened)?;
        files::remove_log(dir)?;
        let id = LogId(rand::rng().random());
        let mark = Mark { next: Offset(0), position: start };
        let (epoch, first) = (LogEpoch(0), mark.next);
        let header = SegmentHeader {
            id,
            epoch,
            first,
            durable: first,
            previous: (first, 0),
            inside: false,
            start: mark.position.clone(),
            schemas: Vec::new(),
        };
        let (_, bytes) = files::create_segment(dir, &header)?;
        let meta = Meta { id, epoch, start: mark.clone(), trimmed: first, durable: first, inherited };
        files::write_meta(dir, &meta)?;
        let segment = Segment { first, start: mark.position.clone(), inside: false, bytes };
        let state = State { meta, segments: [segment].into(), retired: false };
        let shared = self.shared(&mut opened, lock, (state, Place { mark, segment: first, bytes }));
        Ok(shared)
    }

    fn lock(&self, opened: &Opened) -> LogResult<Arc<DirLock>> {
        match opened.lock.upgrade() {
            Some(lock) => Ok(lock),
            None => DirLock::take(&self.dir).map(Arc::new),
        }
    }

    fn shared(&self, opened: &mut Opened, lock: Arc<DirLock>, (state, place): (State, Place)) -> Arc<Shared> {
        opened.lock = Arc::downgrade(&lock);
        let shared = Arc::new(Shared::new(self.dir.clone(), self.options.clone(), lock, state, place));
        opened.log = Arc::downgrade(&shared);
        shared
    }
}

/// The log that was opened before, if somebody still holds it, writes and reads no more.
fn retire(opened: &Opened, dir: &Path) {
    if let Some(shared) = opened.log.upgrade() {
        let _no_new_writer = shared.taking_over.lock().unwrap_or_else(PoisonError::into_inner);
        fence(&shared, LogError::Retired { dir: dir.to_owned() }.into());
        shared.state().retired = true;
    }
}

/// Cuts the log back to its last commit and makes all of it durable (1.4).
fn recover(dir: &Path, meta: Meta) -> LogResult<(State, Place)> {
    let firsts = files::list_segments(dir)?;
    let chain = tail::read_chain(dir, &meta, &firsts)?;
    let tail = tail::find(dir, &meta, &chain)?;
    if let Some(torn) = &tail.torn {
        tracing::warn!(segment = %torn.path.display(), offset = torn.offset.0, byte = torn.byte, what = torn.what,
            "The log's tail is torn, it is cut back to the last commit");
    }
    files::remove_unfinished(dir)?;
    for first in firsts.iter().filter(|first| **first < meta.trimmed) {
        files::remove(&files::segment_path(dir, *first))?;
    }
    let mut state = State { meta, segments: chain.iter().map(Segment::of).collect(), retired: false };
    rewind_files(dir, &mut state.segments, &tail.place)?;
    files::sync_dir(dir)?;
    Ok((state, tail.place))
}

/// An open log directory.
#[derive(Debug)]
struct DirectoryLog {
    shared: Arc<Shared>,
}

#[async_trait]
impl Log for DirectoryLog {
    fn bounds(&self) -> LogBounds {
        let shared = &self.shared;
        let (trimmed, durable) = (shared.trimmed(), shared.durable().mark.clone());
        assert!(trimmed.next <= durable.next, "trimmed <= durable");
        let (id, inherited) = {
            let state = shared.state();
            (state.meta.id, state.meta.inherited.clone())
        };
        LogBounds { id, trimmed, durable, bytes: *shared.space.borrow(), inherited }
    }

    async fn mark_at(&self, next: Offset) -> Result<Option<Position>> {
        let shared = Arc::clone(&self.shared);
        blocking(move || {
            shared.check_not_retired()?;
            Ok(locate(&shared, next)?.map(|found| found.position))
        })
        .await
    }

    async fn writer(&self) -> Result<Box<dyn LogWriter>> {
        let shared = Arc::clone(&self.shared);
        let writer = blocking(move || take_over(&shared)).await?;
        Ok(Box::new(writer))
    }

    async fn reader(&self, from: Offset) -> Result<Box<dyn LogReader>> {
        let shared = Arc::clone(&self.shared);
        let reader = blocking(move || open_reader(shared, from)).await?;
        Ok(Box::new(reader))
    }

    async fn trim(&self, before: Offset) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        blocking(move || trim(&shared, before)).await?;
        let (durable, bytes) = (self.shared.durable().mark.next, *self.shared.space.borrow());
        if before < durable || bytes < self.shared.options.log_bytes_max {
            return Ok(());
        }
        // Full of what is applied: the active segment itself has to go.
        let Some(rolled) = request_roll(&self.shared) else { return Ok(()) };
        if rolled.await.is_ok() {
            let shared = Arc::clone(&self.shared);
            blocking(move || trim(&shared, before)).await?;
        }
        Ok(())
    }
}

fn open_reader(shared: Arc<Shared>, from: Offset) -> LogResult<Reader> {
    shared.check_not_retired()?;
    let (trimmed, durable) = (shared.trimmed().next, shared.durable().mark.next);
    match locate(&shared, from)? {
        Some(at) => Reader::new(shared, at),
        None => Err(LogError::NotAMark { dir: shared.dir.clone(), offset: from, trimmed, durable }),
    }
}
