//! The queue between the task that appends and the thread that writes.
//!
//! It orders and wakes; it does not bound: the permits that every batch holds until it is written do
//! (`append_queue_bytes_max`). Once the writer has failed or was fenced, everything is answered with why.

use crate::schemas::Announced;
use freshet_core::{Batch, Error, Position, Result};
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};

/// A batch on its way to the disk.
#[derive(Debug)]
pub(crate) struct Queued {
    pub(crate) batch: Batch,
    /// Set where the batch ends at a commit; with its text.
    pub(crate) position: Option<(Position, String)>,
    pub(crate) schemas: Vec<Announced>,
    /// Given back when the bytes are written; the thread's own records have none.
    pub(crate) permit: Option<OwnedSemaphorePermit>,
}

/// What the thread is asked to do.
#[derive(Debug)]
pub(crate) enum Command {
    Append(Queued),
    /// Cut off what stands after the last commit.
    Discard(oneshot::Sender<()>),
    /// Go on in a new segment, if no transaction is open.
    Roll(oneshot::Sender<()>),
    /// Make everything durable up to the last commit, and end.
    Close(oneshot::Sender<()>),
}

/// What the thread is woken with.
#[derive(Debug)]
pub(crate) enum Work {
    Commands(VecDeque<Command>),
    /// The owner was dropped without closing: write what is queued, then end.
    Abandoned,
    /// Another writer took over: end at once.
    Fenced,
}

#[derive(Debug, Default)]
struct Inner {
    commands: VecDeque<Command>,
    abandoned: bool,
    fenced: bool,
}

#[derive(Debug)]
pub(crate) struct Queue {
    inner: Mutex<Inner>,
    wake: Condvar,
    /// Why nothing can be appended any more.
    failure: watch::Sender<Option<Error>>,
}

impl Queue {
    pub(crate) fn new() -> Self {
        Self { inner: Mutex::default(), wake: Condvar::new(), failure: watch::Sender::new(None) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn push(&self, command: Command) -> Result<()> {
        let mut inner = self.inner();
        // Under the lock: a command that comes after the failure has cleared the queue would never be answered.
        self.check()?;
        inner.commands.push_back(command);
        drop(inner);
        self.wake.notify_one();
        Ok(())
    }

    /// Waits for something to do.
    pub(crate) fn take(&self) -> Work {
        let mut inner = self.inner();
        loop {
            if inner.fenced {
                return Work::Fenced;
            }
            if !inner.commands.is_empty() {
                return Work::Commands(std::mem::take(&mut inner.commands));
            }
            if inner.abandoned {
                return Work::Abandoned;
            }
            inner = self.wake.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub(crate) fn abandon(&self) {
        self.inner().abandoned = true;
        self.wake.notify_one();
    }

    pub(crate) fn fence(&self, why: Error) {
        self.fail(why);
        self.inner().fenced = true;
        self.wake.notify_one();
    }

    /// Everything from now on is answered with `why`; the first reason stays. Commands that wait are dropped, and
    /// with them the answers that somebody waits for.
    pub(crate) fn fail(&self, why: Error) {
        self.failure.send_if_modified(|failure| {
            let first = failure.is_none();
            failure.get_or_insert(why);
            first
        });
        self.inner().commands.clear();
    }

    pub(crate) fn check(&self) -> Result<()> {
        self.failure.borrow().clone().map_or(Ok(()), Err)
    }

    pub(crate) fn watch_failure(&self) -> watch::Receiver<Option<Error>> {
        self.failure.subscribe()
    }
}
