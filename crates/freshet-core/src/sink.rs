//! The contract of a relational sink: take over, prepare, load chunks, apply windows, exactly once.
//!
//! The sink keeps, in the target and in the same transactions as the rows, everything a restart needs: the
//! checkpoint with its epoch and owner, and for a load the tables, their bounds and their chunks. The engine
//! decides; the sink persists and fences.

use crate::codec::Batch;
use crate::error::{Error, Result};
use crate::position::{Checkpoint, LogId, Mark, Position, SinkEpoch};
use crate::schema::TableName;
use crate::table::{Chunk, NativeRows, TableInfo};
use crate::window::Window;
use async_trait::async_trait;
use std::sync::Arc;

/// How a table comes to be on the target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PrepareMode {
    /// Make it if it is absent; one that is there must fit and be empty.
    #[default]
    CreateIfAbsent,
    /// Empty it if it is there; make it if not.
    Truncate,
    /// Drop it if it is there, and make it.
    DropAndCreate,
    /// It must be there and fit; its rows stay (mode `stream`).
    Keep,
}

/// One table of a pipeline, on both sides. Columns are bound by name (D12).
#[derive(Clone, Debug)]
pub struct TablePlan {
    /// The source's table.
    pub info: Arc<TableInfo>,
    /// Name on the target.
    pub target: TableName,
}

/// How far a table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TablePhase {
    /// Chunks are being loaded.
    Loading,
    /// Every chunk is in; the key is there; changes between F_low and F_high are being applied.
    CatchingUp,
    /// At or past F_high: equal to the source at some commit from here on.
    Consistent,
}

/// What the target remembers of a chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkState {
    /// The chunk.
    pub chunk: Chunk,
    /// Rows loaded, once it is in.
    pub rows: Option<u64>,
    /// F_high of the view that it was read under, once it is in.
    pub high: Option<Position>,
}

/// What the target remembers of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableState {
    /// Source table.
    pub table: TableName,
    /// Target table.
    pub target: TableName,
    /// Phase.
    pub phase: TablePhase,
    /// The chunk plan; empty until it was stored.
    pub chunks: Vec<ChunkState>,
}

/// What a take-over returned: only this is used afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ownership {
    /// The new, larger epoch.
    pub epoch: SinkEpoch,
    /// The checkpoint; `None` if this pipeline never began on this target.
    pub checkpoint: Option<Checkpoint>,
    /// Digest of the configuration that the load was begun with (tables, names, mode).
    pub config_digest: Option<String>,
    /// Tables of the load.
    pub tables: Vec<TableState>,
}

/// How far an applied window is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// Taken and sent; a later `apply` or `flush` will tell its outcome. The window accepted before it is durable.
    Accepted,
    /// Committed on the target, up to this mark.
    Durable(Mark),
}

/// A relational target.
///
/// Guarantees:
/// 1. `apply` of a window with an end, and everything sent since the last end, commits in ONE target transaction
///    together with a compare-and-set of the checkpoint (epoch, owner, previous next offset). Nothing else
///    becomes visible. After any error nothing since the last `Durable` is assumed: call `take_over` again.
/// 2. Every statement's row count is checked where the step is strict; a difference is an error of kind
///    `Table`, or `Reorder` if it came from a bulk statement and the engine is to replay in order.
/// 3. Chunk loads, preparation and index builds end with a lock on the checkpoint row and a check of epoch and
///    owner, in the same target transaction.
/// 4. `Fenced` as soon as somebody else has taken over.
#[async_trait]
pub trait Sink: Send {
    /// Ends the previous owner's connections, bumps the epoch in one locking statement and returns what stands
    /// in the target. Called at start and after every error or reconnect; also tells the outcome of a COMMIT
    /// whose answer was lost.
    async fn take_over(&mut self) -> Result<Ownership>;

    /// Stores the first checkpoint (F_low) and the configuration's digest. There must be none.
    async fn begin(&mut self, log_id: LogId, mark: &Mark, config_digest: &str) -> Result<()>;

    /// Moves the checkpoint to another log (a rebuild): the same position, or one that covers it.
    async fn rebase(&mut self, log_id: LogId, mark: &Mark) -> Result<()>;

    /// Makes or checks the target tables and records them as `Loading` (`Consistent` for [`PrepareMode::Keep`]).
    /// Tables recorded before are left as they are, so it can be called again after a crash. Returns what is not
    /// carried over, one line each.
    async fn prepare(&mut self, tables: &[TablePlan], mode: PrepareMode) -> Result<Vec<String>>;

    /// Stores a table's chunk plan, before its first chunk.
    async fn plan_chunks(&mut self, table: &TableName, chunks: &[Chunk]) -> Result<()>;

    /// Forgets the chunks of a table that has to be read whole again, and empties it.
    async fn restart_table(&mut self, table: &TableName) -> Result<()>;

    /// Another connection for loading, under the same epoch and owner.
    async fn loader(&mut self) -> Result<Box<dyn ChunkLoader>>;

    /// All chunks of all tables are in: makes primary keys (where they come after the load) and other indexes
    /// that are not unique, and moves every table to `CatchingUp`. Returns what the target did not take, one line each.
    async fn finish_load(&mut self, tables: &[TablePlan]) -> Result<Vec<String>>;

    /// The checkpoint has reached F_high: makes unique indexes, sets identities' next values, writes
    /// `consistent_since`, moves every table to `Consistent`. Returns what the target did not take, one line each.
    async fn make_consistent(&mut self, tables: &[TablePlan]) -> Result<Vec<String>>;

    /// Applies a window, see the first guarantee. May return before the commit (`Accepted`), with at most one
    /// window under way; an error of the window before is returned then. Not cancel-safe.
    async fn apply(&mut self, window: Window) -> Result<Applied>;

    /// Waits for the window under way. Not cancel-safe.
    async fn flush(&mut self) -> Result<Option<Mark>>;

    /// Abandons a transaction that was begun by a window without an end.
    async fn rollback(&mut self) -> Result<()>;
}

/// Loads chunks over a connection of its own.
#[async_trait]
pub trait ChunkLoader: Send {
    /// Begins a chunk.
    async fn open(&mut self, table: &TablePlan, chunk: &Chunk) -> Result<()>;

    /// Adds rows (inserts of one schema).
    async fn rows(&mut self, batch: Batch) -> Result<()>;

    /// Whether the open chunk's rows may come by [`ChunkLoader::native`]: the target is of the source's dialect, and every
    /// column of its type.
    fn takes_native(&self) -> bool {
        false
    }

    /// As [`ChunkLoader::rows`], in native form.
    async fn native(&mut self, _rows: NativeRows) -> Result<()> {
        Err(Error::internal("This sink takes no rows in native form"))
    }

    /// Commits the chunk's rows and its control row together, with F_high of the view it was read under; returns
    /// the number of rows. A chunk that is recorded already is an error and loads nothing.
    async fn finish(&mut self, high: &Position) -> Result<u64>;
}
