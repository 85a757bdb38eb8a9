//! `status.json` in the log directory: what a running pipeline is doing, for other processes.
//!
//! Written whole and renamed into place every second, so a reader never sees half of it. Not a state that anything
//! depends on: a pipeline never reads it back. Beside it lies `status.lock`, which the running process holds for
//! as long as it lives: that, and not a process id, tells whether a pipeline is running. The fields are documented
//! in docs/operations.md; [`VERSION`] changes when one changes its meaning or goes.

use crate::config::{Config, units};
use freshet_core::{Error, Result};
use freshet_pipeline::status::{Phase, SinkStatus, Snapshot, TableStatus};
use serde::{Deserialize, Serialize};
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Version of the file's fields.
pub const VERSION: u32 = 1;
/// How often it is written.
pub const INTERVAL_MS: u64 = 1_000;
/// How long a starting process waits for the lock: `freshet status` holds it for a moment, which is long on a machine
/// that is busy.
const LOCK_WAIT_MS_MAX: u64 = 5_000;
/// Pause between two tries of it.
const LOCK_RETRY_MS: u64 = 20;

const FILE_NAME: &str = "status.json";
const LOCK_NAME: &str = "status.lock";

/// The file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusFile {
    /// [`VERSION`].
    pub version: u32,
    /// Name of the pipeline.
    pub pipeline: String,
    /// Its mode.
    pub mode: String,
    /// Process that wrote it.
    pub pid: u32,
    /// `running`, `stopped` or `failed`.
    pub state: State,
    /// When that process began.
    pub started_at: Stamp,
    /// When it was written.
    pub updated_at: Stamp,
    /// The phase that the slowest sink is in.
    pub phase: PhaseWord,
    /// Why it failed.
    pub error: Option<Failed>,
    /// The source.
    pub source: SourcePart,
    /// The log.
    pub log: LogPart,
    /// The sinks, by name.
    pub sinks: Vec<SinkPart>,
}

/// Whether the process that wrote the file is still at work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// At work.
    Running,
    /// Ended in order.
    Stopped,
    /// Ended by an error.
    Failed,
}

/// Where a pipeline, a sink or a table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PhaseWord {
    /// Connecting, recovering, deciding.
    Starting,
    /// Existing rows are being copied.
    Loading,
    /// Changes that were made meanwhile are being applied.
    CatchingUp,
    /// The target is the source at some commit.
    Streaming,
    /// Ended in order.
    Stopped,
    /// Ended by an error.
    Failed,
}

impl PhaseWord {
    /// For people.
    pub fn text(self) -> &'static str {
        match self {
            PhaseWord::Starting => "starting",
            PhaseWord::Loading => "loading",
            PhaseWord::CatchingUp => "catching up",
            PhaseWord::Streaming => "streaming",
            PhaseWord::Stopped => "stopped",
            PhaseWord::Failed => "failed",
        }
    }
}

impl From<Phase> for PhaseWord {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Starting => PhaseWord::Starting,
            Phase::Loading => PhaseWord::Loading,
            Phase::CatchingUp => PhaseWord::CatchingUp,
            Phase::Streaming => PhaseWord::Streaming,
            Phase::Stopped => PhaseWord::Stopped,
            Phase::Failed => PhaseWord::Failed,
        }
    }
}

/// A moment, in RFC 3339 and UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Stamp(pub jiff::Timestamp);

impl Stamp {
    /// Milliseconds since this moment; 0 if it lies ahead.
    pub fn age_ms(self) -> u64 {
        u64::try_from(jiff::Timestamp::now().duration_since(self.0).as_millis()).unwrap_or(0)
    }
}

impl From<Stamp> for String {
    fn from(stamp: Stamp) -> Self {
        stamp.0.to_string()
    }
}

impl TryFrom<String> for Stamp {
    type Error = jiff::Error;

    fn try_from(text: String) -> std::result::Result<Self, jiff::Error> {
        text.parse().map(Stamp)
    }
}

/// An error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// Its kind: `unavailable`, `fenced`, ...
    pub kind: String,
    /// Exit code of the process.
    pub exit_code: u8,
    /// What happened.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

/// The source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourcePart {
    /// `mariadb` or `mysql`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Host.
    pub host: String,
    /// Port.
    pub port: u16,
    /// End of the source's log, when last asked.
    pub tip: Option<String>,
    /// Up to here everything is durable in our log.
    pub captured: Option<String>,
    /// Row changes captured by this process.
    pub rows_captured: u64,
    /// What its reader waits for, if it retries.
    pub waiting_for: Option<String>,
}

/// The log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPart {
    /// Bytes on disk.
    pub bytes: u64,
    /// Where capture pauses.
    pub bytes_max: u64,
}

/// Row changes applied by this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// Inserts.
    pub inserts: u64,
    /// Updates.
    pub updates: u64,
    /// Deletes.
    pub deletes: u64,
}

/// One sink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkPart {
    /// Name.
    pub name: String,
    /// Phase.
    pub phase: PhaseWord,
    /// First offset of our log that is not yet applied.
    pub applied: Option<u64>,
    /// Place in the source's log that is applied.
    pub position: Option<String>,
    /// Commit time at the source of the last applied transaction.
    pub commit_time: Option<Stamp>,
    /// How long the oldest change that is not applied has been waiting; 0 if there is none.
    pub lag_ms: u64,
    /// Bytes of the source's log that are not applied, where that can be told.
    pub lag_bytes: Option<u64>,
    /// Row changes applied by this process.
    pub changes: Changes,
    /// What it waits for, if it retries.
    pub waiting_for: Option<String>,
    /// What is not carried over to this target.
    pub not_carried: Vec<String>,
    /// Tables, by name.
    pub tables: Vec<TablePart>,
}

/// One table on one sink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TablePart {
    /// Source schema.
    pub schema: String,
    /// Source table.
    pub table: String,
    /// Phase.
    pub phase: PhaseWord,
    /// Rows loaded.
    pub rows_loaded: u64,
    /// Rows at the source when the load began, an estimate.
    pub rows_estimate: u64,
    /// Chunks that are in.
    pub chunks_done: u32,
    /// Chunks in all.
    pub chunks: u32,
    /// Row changes applied by this process.
    pub changes: Changes,
}

/// What does not change while a process runs.
#[derive(Clone, Debug)]
pub struct Header {
    pipeline: String,
    mode: String,
    kind: String,
    host: String,
    port: u16,
    bytes_max: u64,
    started_at: Stamp,
}

impl Header {
    /// Of a pipeline that starts now.
    pub fn new(config: &Config) -> Self {
        Self {
            pipeline: config.name.clone(),
            mode: config.mode.word().to_owned(),
            kind: config.source.kind.word().to_owned(),
            host: config.source.endpoint.host.clone(),
            port: config.source.endpoint.port,
            bytes_max: config.log.bytes_max,
            started_at: Stamp(jiff::Timestamp::now()),
        }
    }

    /// The file for a snapshot.
    pub fn file(&self, snapshot: &Snapshot, state: State, error: Option<Failed>) -> StatusFile {
        StatusFile {
            version: VERSION,
            pipeline: self.pipeline.clone(),
            mode: self.mode.clone(),
            pid: std::process::id(),
            state,
            started_at: self.started_at,
            updated_at: Stamp(jiff::Timestamp::now()),
            phase: snapshot.phase.into(),
            error,
            source: SourcePart {
                kind: self.kind.clone(),
                host: self.host.clone(),
                port: self.port,
                tip: snapshot.source_tip.as_ref().map(ToString::to_string),
                captured: snapshot.captured.as_ref().map(ToString::to_string),
                rows_captured: snapshot.rows_captured,
                waiting_for: snapshot.waiting_for.clone(),
            },
            log: LogPart { bytes: snapshot.log_bytes, bytes_max: self.bytes_max },
            sinks: snapshot.sinks.iter().map(|(name, sink)| sink_part(name, sink)).collect(),
        }
    }
}

fn sink_part(name: &str, sink: &SinkStatus) -> SinkPart {
    let commit_time = jiff::Timestamp::from_microsecond(sink.commit_us).ok().filter(|_| sink.commit_us > 0);
    SinkPart {
        name: name.to_owned(),
        phase: sink.phase.into(),
        applied: sink.applied.map(|offset| offset.0),
        position: sink.position.as_ref().map(ToString::to_string),
        commit_time: commit_time.map(Stamp),
        lag_ms: sink.lag_ms,
        lag_bytes: sink.lag_bytes,
        changes: changes(&sink.changes),
        waiting_for: sink.waiting_for.clone(),
        not_carried: sink.not_carried.clone(),
        tables: sink.tables.iter().map(|(name, table)| table_part(name, table)).collect(),
    }
}

fn table_part(name: &freshet_core::TableName, table: &TableStatus) -> TablePart {
    TablePart {
        schema: name.schema.clone(),
        table: name.table.clone(),
        phase: table.phase.into(),
        rows_loaded: table.rows_loaded,
        rows_estimate: table.rows_estimate,
        chunks_done: table.chunks_done,
        chunks: table.chunks,
        changes: changes(&table.changes),
    }
}

fn changes(counts: &freshet_core::window::Counts) -> Changes {
    Changes { inserts: counts.inserts, updates: counts.updates, deletes: counts.deletes }
}

/// The right to write a directory's status, held by the one process that runs its pipeline.
#[derive(Debug)]
pub struct Writer {
    dir: PathBuf,
    _lock: File,
}

impl Writer {
    /// Takes the lock, making the directory if it is not there; `Fenced` if another process holds it.
    pub fn claim(dir: &Path) -> Result<Self> {
        let cannot = |e: &io::Error| {
            let reason = crate::config::io_reason(e);
            Error::invalid(format!("Log directory {} cannot be used: {reason}", dir.display()))
                .with_hint("Check log.dir, its owner and its file system")
        };
        std::fs::create_dir_all(dir).map_err(|e| cannot(&e))?;
        let lock =
            File::options().create(true).append(true).open(dir.join(LOCK_NAME)).map_err(|e| cannot(&e))?;
        let deadline = Instant::now() + Duration::from_millis(LOCK_WAIT_MS_MAX);
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(Self { dir: dir.to_owned(), _lock: lock }),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(LOCK_RETRY_MS));
                }
                Err(TryLockError::WouldBlock) => return Err(already_running(dir)),
                Err(TryLockError::Error(e)) => return Err(cannot(&e)),
            }
        }
    }

    /// Replaces the file.
    pub fn write(&self, file: &StatusFile) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(file).map_err(io::Error::from)?;
        let new = self.dir.join(format!("{FILE_NAME}.new"));
        std::fs::write(&new, text)?;
        std::fs::rename(&new, self.dir.join(FILE_NAME))
    }
}

fn already_running(dir: &Path) -> Error {
    let who = match read(dir) {
        Ok(Some(file)) => format!("Process {}", file.pid),
        Ok(None) | Err(_) => "Another process".to_owned(),
    };
    Error::fenced(format!("{who} is running the pipeline of log directory {}", dir.display()))
        .with_hint("Stop it first, or give this pipeline a log.dir of its own")
}

/// Whether a process is running the pipeline of this directory.
pub fn is_running(dir: &Path) -> bool {
    match File::open(dir.join(LOCK_NAME)) {
        Ok(lock) => matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)),
        Err(_) => false,
    }
}

/// The file in `dir`, if there is one.
pub fn read(dir: &Path) -> Result<Option<StatusFile>> {
    let path = dir.join(FILE_NAME);
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => {
            let reason = crate::config::io_reason(&e);
            return Err(Error::unavailable(format!("{} cannot be read: {reason}", path.display())));
        }
    };
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let damaged = |_| Error::corrupt(format!("{} is not a status file of freshet", path.display()));
    let Versioned { version } = serde_json::from_slice(&text).map_err(damaged)?;
    if version != VERSION {
        let message = format!("{} has version {version}, this build reads {VERSION}", path.display());
        return Err(Error::unsupported(message).with_hint("Use the freshet that runs the pipeline"));
    }
    serde_json::from_slice(&text).map(Some).map_err(damaged)
}

/// The files of this module, for `freshet reset`.
pub fn remove(dir: &Path) -> io::Result<()> {
    for name in [FILE_NAME, LOCK_NAME] {
        match std::fs::remove_file(dir.join(name)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// Lag for people: `12 ms, 3.20 KiB`.
pub fn lag_text(lag_ms: u64, lag_bytes: Option<u64>) -> String {
    let ms = units::show_ms(lag_ms);
    match lag_bytes {
        Some(bytes) => format!("{ms}, {}", units::show_bytes(bytes)),
        None => ms,
    }
}

#[cfg(test)]
#[path = "status_file_tests.rs"]
mod tests;
