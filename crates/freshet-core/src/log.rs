//! The contract of the durable log (ALGORITHMS 1).
//!
//! Order that holds at all times and is asserted: `trimmed <= min(applied) <= durable <= written`. Each only grows
//! within an epoch. Offsets are never given to two records that anybody could have read.

use crate::codec::Batch;
use crate::error::Result;
use crate::position::{Checkpoint, LogEpoch, LogId, Mark, Offset, Position};
use crate::schema::SchemaMap;
use async_trait::async_trait;
use tokio::sync::watch;

/// A sink's checkpoint as it stood when a log was begun anew (1.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inherited {
    /// Sink.
    pub sink: String,
    /// Its checkpoint, in an older log.
    pub checkpoint: Checkpoint,
}

/// What the log holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogBounds {
    /// Identity.
    pub id: LogId,
    /// Mark before the first record that is still there.
    pub trimmed: Mark,
    /// Mark up to which everything is durable; on a commit.
    pub durable: Mark,
    /// Bytes on disk.
    pub bytes: u64,
    /// Checkpoints that this log was begun from, if it was begun in place of a lost one.
    pub inherited: Vec<Inherited>,
}

/// What is appended.
#[derive(Clone, Debug)]
pub struct Append {
    /// Events; may be empty (a position-only record).
    pub batch: Batch,
    /// Place after the last commit, where the batch ends at one; `None` inside a transaction.
    pub position: Option<Position>,
}

/// What is read back.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its number.
    pub offset: Offset,
    /// Number of the record after it.
    pub next: Offset,
    /// Events.
    pub batch: Batch,
    /// Place after the last commit, where the record ends at one.
    pub position: Option<Position>,
    /// Every schema announced at or before this record that is still of use.
    pub schemas: SchemaMap,
}

/// Where a pipeline's log lives: opens what is there, or begins a new log.
#[async_trait]
pub trait LogStore: Send + Sync {
    /// The log that is there, recovered (1.4), or `None` if there is none. An unknown format version, damage
    /// before the durable mark and another process holding it are errors.
    async fn open(&self) -> Result<Option<std::sync::Arc<dyn Log>>>;

    /// Begins an empty log with a new random identity at `start`, whose header lists `inherited`; a log that was
    /// there is discarded first. Its first durable mark is `(first offset, start)`.
    async fn create(&self, start: &Position, inherited: &[Inherited]) -> Result<std::sync::Arc<dyn Log>>;
}

/// A durable, ordered log with one writer and any number of readers.
#[async_trait]
pub trait Log: Send + Sync {
    /// What is there now.
    fn bounds(&self) -> LogBounds;

    /// The position of the mark whose next offset is `next`, if that is a mark of this log that is still known
    /// (at or after the trim point, at or before the durable mark, and on a commit).
    async fn mark_at(&self, next: Offset) -> Result<Option<Position>>;

    /// Takes the log over with a larger epoch. `Fenced` if another process holds it.
    async fn writer(&self) -> Result<Box<dyn LogWriter>>;

    /// A reader whose first record is `from`, which must be a mark (`trimmed <= from <= durable`).
    async fn reader(&self, from: Offset) -> Result<Box<dyn LogReader>>;

    /// Forgets records before `before`, as far as whole segments and the age rule allow. The caller vouches that
    /// every configured sink has applied them.
    async fn trim(&self, before: Offset) -> Result<()>;
}

/// The one writer of a log.
///
/// Guarantees: `append` returns once the batch is queued, in order; the durable mark moves to a commit only after
/// everything up to it is on disk; a failed write or sync is fatal (`durable` closes and every later call fails)
/// and is never retried.
#[async_trait]
pub trait LogWriter: Send {
    /// The fencing token.
    fn epoch(&self) -> LogEpoch;

    /// Queues a batch; waits while the queue holds `append_queue_bytes_max` or the log is at its size bound (at
    /// commits only, 1.9). Cancel-safe: a dropped future has appended nothing.
    async fn append(&mut self, append: Append) -> Result<()>;

    /// Forgets the parts of the open transaction that were appended. Later appends begin a new transaction.
    async fn discard_open(&mut self) -> Result<()>;

    /// The durable mark; closes when the writer has failed.
    fn durable(&self) -> watch::Receiver<Mark>;

    /// Waits until everything appended is durable up to its last commit, and ends.
    async fn close(self: Box<Self>) -> Result<()>;
}

/// A reader of a log.
#[async_trait]
pub trait LogReader: Send {
    /// The next record; waits for one to become durable. Records beyond the durable mark are never seen, so a
    /// transaction is only begun to be read once all of it is durable. Cancel-safe.
    async fn next(&mut self) -> Result<Record>;

    /// The next record if it is durable already.
    async fn try_next(&mut self) -> Result<Option<Record>>;
}
