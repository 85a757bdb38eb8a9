//! The appending side of the log: bounds, order and answers; the writing is the thread's (`appender`).
//!
//! Waiting happens here, in the caller's task, and only between transactions for the log's size, so that the task
//! can be cancelled at any await with nothing appended.

use crate::appender::{Appender, append_bytes};
use crate::error::{LogError, Result as LogResult};
use crate::locate::locate;
use crate::queue::{Command, Queue, Queued};
use crate::schemas::{LiveSchemas, announced};
use crate::shared::Shared;
use async_trait::async_trait;
use freshet_core::log::{Append, LogWriter};
use freshet_core::{Error, LogEpoch, Mark, Result};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

/// The thread that writes, as the log holds on to it.
#[derive(Debug)]
pub(crate) struct WriterHandle {
    queue: Arc<Queue>,
    thread: JoinHandle<()>,
}

impl WriterHandle {
    /// Ends the thread, whatever it does, and waits for that.
    fn fence(self, why: Error) {
        self.queue.fence(why);
        if self.thread.join().is_err() {
            tracing::error!("The log's writing thread panicked");
        }
    }
}

/// Ends the writer that there is, if there is one, with `why`.
pub(crate) fn fence(shared: &Shared, why: Error) {
    let handle = shared.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(handle) = handle {
        handle.fence(why);
    }
}

/// Asks the writer that there is to leave its segment; the answer comes when it did.
pub(crate) fn request_roll(shared: &Shared) -> Option<oneshot::Receiver<()>> {
    let writer = shared.writer.lock().unwrap_or_else(PoisonError::into_inner);
    let (done, answer) = oneshot::channel();
    writer.as_ref()?.queue.push(Command::Roll(done)).ok()?;
    Some(answer)
}

/// Takes the log over: fences the writer there is, persists a larger epoch, cuts off what is not durable.
pub(crate) fn take_over(shared: &Arc<Shared>) -> LogResult<Writer> {
    let _one_at_a_time = shared.taking_over.lock().unwrap_or_else(PoisonError::into_inner);
    shared.check_not_retired()?;
    let epoch = LogEpoch(shared.state().meta.epoch.0 + 1);
    let dir = shared.dir.display();
    fence(shared, Error::fenced(format!("The log in {dir} was taken over with epoch {epoch}")));
    shared.update_meta(|meta| meta.epoch = epoch)?;
    let place = shared.durable();
    let file = shared.rewind(&place)?;
    let at_tail = locate(shared, place.mark.next)?.ok_or_else(|| {
        LogError::Broken(format!(
            "The durable mark {} of the log in {dir} is not found in it",
            place.mark.next
        ))
    })?;
    let live = LiveSchemas::of_older(&at_tail.announced)?;
    let (durable, watch) = watch::channel(place.mark.clone());
    let queue = Arc::new(Queue::new());
    let appender = Appender::new(Arc::clone(shared), Arc::clone(&queue), durable, file, live);
    let thread = std::thread::Builder::new().name("freshet-log".to_owned()).spawn(move || appender.run());
    let thread = thread.map_err(LogError::io("start a thread for", &shared.dir))?;
    let handle = WriterHandle { queue: Arc::clone(&queue), thread };
    *shared.writer.lock().unwrap_or_else(PoisonError::into_inner) = Some(handle);
    let permits = Arc::new(Semaphore::new(shared.options.append_queue_bytes_max));
    let shared = Arc::clone(shared);
    Ok(Writer { shared, queue, permits, epoch, durable: watch, in_transaction: false, has_parts: false })
}

/// The one writer of the log.
#[derive(Debug)]
pub(crate) struct Writer {
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    permits: Arc<Semaphore>,
    epoch: LogEpoch,
    durable: watch::Receiver<Mark>,
    /// The last batch ended inside a transaction.
    in_transaction: bool,
    /// Something was appended after the last commit.
    has_parts: bool,
}

impl Writer {
    /// Waits, between transactions, until the log is below its bound (O3, 1.9).
    async fn wait_for_space(&self) -> Result<()> {
        let max = self.shared.options.log_bytes_max;
        let mut space = self.shared.space.subscribe();
        if *space.borrow_and_update() < max {
            return Ok(());
        }
        let dir = self.shared.dir.display();
        tracing::warn!(%dir, log_bytes_max = max, "The log is full, ingest waits until a sink has applied more");
        self.or_failure(async { space.wait_for(|bytes| *bytes < max).await.is_ok() }).await?;
        tracing::info!(%dir, "The log has space again");
        Ok(())
    }

    async fn permit(&self, bytes: usize) -> Result<OwnedSemaphorePermit> {
        let wanted = bytes.min(self.shared.options.append_queue_bytes_max).max(1) as u32;
        let permits = Arc::clone(&self.permits);
        self.or_failure(async { permits.acquire_many_owned(wanted).await.ok() })
            .await?
            .ok_or_else(|| self.gone())
    }

    /// What `future` yields, unless the writer fails first.
    async fn or_failure<T>(&self, future: impl Future<Output = T>) -> Result<T> {
        let mut failure = self.queue.watch_failure();
        let failed = async { failure.wait_for(Option::is_some).await.is_ok() };
        tokio::select! {
            biased;
            _ = failed => Err(self.gone()),
            output = future => Ok(output),
        }
    }

    /// Why nobody answers.
    fn gone(&self) -> Error {
        let ended = || Error::internal("The log's writing thread has ended without saying why");
        self.queue.check().err().unwrap_or_else(ended)
    }

    /// Waits for the end of the thread, unless it was waited for already.
    fn join(&self) -> Result<()> {
        let handle = {
            let mut writer = self.shared.writer.lock().unwrap_or_else(PoisonError::into_inner);
            writer.take_if(|handle| Arc::ptr_eq(&handle.queue, &self.queue))
        };
        let joined = handle.is_none_or(|handle| handle.thread.join().is_ok());
        if joined { Ok(()) } else { Err(Error::internal("The log's writing thread panicked")) }
    }

    async fn ask(&self, command: impl FnOnce(oneshot::Sender<()>) -> Command) -> Result<()> {
        let (done, answer) = oneshot::channel();
        self.queue.push(command(done))?;
        answer.await.map_err(|_| self.gone())
    }
}

/// Whether the batch and the position agree on where they end.
fn check(append: &Append) -> Result<()> {
    match (&append.position, append.batch.ends_at_commit()) {
        (Some(_), true) | (None, false) => Ok(()),
        (Some(_), false) => {
            Err(Error::internal("A batch that ends inside a transaction was given a position"))
        }
        (None, true) => Err(Error::internal("A batch that ends at a commit was given no position")),
    }
}

#[async_trait]
impl LogWriter for Writer {
    fn epoch(&self) -> LogEpoch {
        self.epoch
    }

    async fn append(&mut self, append: Append) -> Result<()> {
        self.queue.check()?;
        check(&append)?;
        if append.position.is_none() && append.batch.bytes().is_empty() {
            return Ok(());
        }
        let schemas = announced(&append.batch)?;
        if !self.in_transaction {
            self.wait_for_space().await?;
        }
        let payload_bytes = append.batch.bytes().len();
        let permit = Some(self.permit(payload_bytes).await?);
        let in_transaction = append.position.is_none();
        let Append { batch, position } = append;
        let position = position.map(|position| (position.clone(), position.to_string()));
        let position_bytes = position.as_ref().map_or(0, |(_, text)| text.len());
        let bytes = append_bytes(payload_bytes, position_bytes, self.shared.options.record_bytes_max);
        self.shared.space.send_modify(|space| *space += bytes);
        self.queue.push(Command::Append(Queued { batch, position, schemas, permit }))?;
        (self.in_transaction, self.has_parts) = (in_transaction, in_transaction);
        Ok(())
    }

    async fn discard_open(&mut self) -> Result<()> {
        self.queue.check()?;
        self.in_transaction = false;
        if std::mem::take(&mut self.has_parts) {
            self.ask(Command::Discard).await?;
        }
        Ok(())
    }

    fn durable(&self) -> watch::Receiver<Mark> {
        self.durable.clone()
    }

    async fn close(self: Box<Self>) -> Result<()> {
        self.ask(Command::Close).await?;
        self.join()
    }
}

impl Drop for Writer {
    /// What is queued is still written, and the directory is let go of: at most one round of writing.
    fn drop(&mut self) {
        self.queue.abandon();
        if let Err(error) = self.join() {
            tracing::error!(error = %error, "The log's writer was dropped");
        }
    }
}
