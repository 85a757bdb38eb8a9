//! What a pipeline is doing, for people and programs: a snapshot that the engine updates and anybody may read.
//!
//! Not metrics and not a log: numbers of now. It holds no value of a cell.

use freshet_core::window::Counts;
use freshet_core::{Offset, Position, TableName};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Where a pipeline or a table is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Connecting, recovering, deciding.
    #[default]
    Starting,
    /// Existing rows are being copied.
    Loading,
    /// Changes between F_low and F_high are being applied.
    CatchingUp,
    /// Consistent: the target is the source at some commit.
    Streaming,
    /// Stopped in order.
    Stopped,
    /// Stopped by an error.
    Failed,
}

/// One table on one sink.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableStatus {
    /// Phase.
    pub phase: Phase,
    /// Rows loaded.
    pub rows_loaded: u64,
    /// Rows at the source, an estimate.
    pub rows_estimate: u64,
    /// Chunks in.
    pub chunks_done: u32,
    /// Chunks in all.
    pub chunks: u32,
    /// Changes applied by this process.
    pub changes: Counts,
}

/// One sink.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SinkStatus {
    /// Phase.
    pub phase: Phase,
    /// Tables by source name.
    pub tables: BTreeMap<TableName, TableStatus>,
    /// First offset not yet applied.
    pub applied: Option<Offset>,
    /// Place in the source's log that is applied.
    pub position: Option<Position>,
    /// Commit time of the last applied transaction, microseconds since 1970.
    pub commit_us: i64,
    /// Transactions' time between commit at the source and now, where something is outstanding; 0 when not.
    pub lag_ms: u64,
    /// Bytes of source log outstanding, where that can be told.
    pub lag_bytes: Option<u64>,
    /// Row changes applied by this process.
    pub changes: Counts,
    /// What is not carried over to this target, one line each.
    pub not_carried: Vec<String>,
    /// What it waits for, if it retries.
    pub waiting_for: Option<String>,
}

/// The whole pipeline.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Phase: the least of the sinks'.
    pub phase: Phase,
    /// Sinks by name.
    pub sinks: BTreeMap<String, SinkStatus>,
    /// End of the source's log, when last asked.
    pub source_tip: Option<Position>,
    /// Place in the source's log that is durable in ours.
    pub captured: Option<Position>,
    /// Row changes captured by this process.
    pub rows_captured: u64,
    /// Bytes of our log on disk.
    pub log_bytes: u64,
    /// What the source's reader waits for, if it retries.
    pub waiting_for: Option<String>,
}

/// The snapshot, shared.
#[derive(Debug, Default)]
pub struct Status {
    inner: Mutex<Snapshot>,
}

impl Status {
    /// A copy of the snapshot.
    pub fn snapshot(&self) -> Snapshot {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes the snapshot.
    pub fn update(&self, change: impl FnOnce(&mut Snapshot)) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut inner);
        inner.phase = inner.sinks.values().map(|s| s.phase).min().unwrap_or(inner.phase);
    }

    /// Changes one sink's part.
    pub fn sink(&self, name: &str, change: impl FnOnce(&mut SinkStatus)) {
        self.update(|s| change(s.sinks.entry(name.to_owned()).or_default()));
    }

    /// Changes one table's part.
    pub fn table(&self, sink: &str, table: &TableName, change: impl FnOnce(&mut TableStatus)) {
        self.sink(sink, |s| change(s.tables.entry(table.clone()).or_default()));
    }
}
