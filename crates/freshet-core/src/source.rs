//! The contract of a change source: ordered, whole, committed transactions, written into batches.

use crate::codec::BatchBuilder;
use crate::error::Result;
use crate::position::Position;
use crate::schema::TableName;
use async_trait::async_trait;

/// Which tables a pipeline captures. Implemented by the mapping; sources skip the rows of others undecoded.
pub trait Selects: Send + Sync {
    /// Whether changes of `table` are wanted.
    fn selects(&self, table: &TableName) -> bool;

    /// Whether a schema may hold captured tables, for statements that name a schema only. In doubt true: a
    /// statement that might concern a captured table stops the pipeline.
    fn selects_schema(&self, schema: &str) -> bool;
}

/// What one [`Source::read`] left in the batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadOutcome {
    /// The batch ends at a commit (or is empty) and everything up to `position` is in this batch or earlier ones.
    /// An empty batch with a moved position is an idle or filtered source (T6, O1).
    Commit {
        /// Place after the last commit.
        position: Position,
    },
    /// The batch ends inside a transaction and more of it follows.
    Partial,
    /// The open transaction was dropped by the source (its server restarted in the middle of it): nothing of it
    /// is in this batch any more, and the parts handed out before must be dropped too (ALGORITHMS 1.10).
    Discarded {
        /// Place after the last commit before the dropped transaction.
        position: Position,
    },
}

/// Reads changes out of one database's log, in commit order.
///
/// Guarantees of an implementation:
/// 1. Every committed change of a selected table after the start position comes exactly once per session, in
///    commit order, inside `begin ... commit`, under a schema announced before it in the same session.
/// 2. What it does not understand stops it by name ([`crate::ErrorKind::Unsupported`]); nothing is skipped silently.
/// 3. `read` is cancel-safe: dropping its future loses nothing and tears no event. It waits only while nothing is
///    buffered, returns at a commit as soon as nothing more is at hand or `batch_bytes_target` is reached, and
///    inside a transaction at `batch_bytes_max`.
/// 4. Reported positions only grow within a session. They never move because of artificial events (P15).
/// 5. While `read` is not called, the connection is kept alive by a task of the source's own (P8).
#[async_trait]
pub trait Source: Send {
    /// Makes on the server what reading from it needs, if it is not there yet, so that nothing committed after the
    /// returned place is lost until [`Source::open`] reads it. Called when a pipeline begins, before its first view;
    /// a pipeline that only streams begins at that place.
    async fn begin(&mut self) -> Result<Position>;

    /// Connects (again), checks that this is the same history as `start`'s, and begins right after it. Called
    /// before the first read and after every error of kind `Unavailable`. `Resync` if the history after `start`
    /// is gone, or if the server does not have all of `start` and of every one of `held`: what targets hold that are
    /// ahead of `start` (P22).
    async fn open(&mut self, start: &Position, held: &[Position]) -> Result<()>;

    /// Appends events to `batch`; see the trait's third guarantee.
    async fn read(&mut self, batch: &mut BatchBuilder) -> Result<ReadOutcome>;

    /// Everything at or before `position` is durable in the log: the source may forget it.
    async fn acknowledge(&mut self, position: &Position) -> Result<()>;

    /// The end of the source's log right now, over a connection of its own.
    async fn tip(&mut self) -> Result<Position>;

    /// The pipeline ends in order: what only a look at the source can tell is told now, as an error, instead of at the
    /// next start.
    async fn leave(&mut self) -> Result<()> {
        Ok(())
    }

    /// Bytes of source log between two places, where that can be told.
    fn distance_bytes(&self, from: &Position, to: &Position) -> Option<u64>;
}
