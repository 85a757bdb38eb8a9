//! Every named bound of the engine, in one place, with its unit last.

/// A batch is sealed at the first commit past this size.
pub const BATCH_BYTES_TARGET: usize = 256 * 1024;
/// A batch inside one transaction is sealed at this size.
pub const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Row changes in one window.
pub const WINDOW_ROWS_MAX: u64 = 20_000;
/// Bytes of records in one window.
pub const WINDOW_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes of rows handed from a chunk reader to its loader at a time.
pub const LOAD_BATCH_BYTES_TARGET: usize = 256 * 1024;
/// Rows of a chunk.
pub const CHUNK_ROWS: u64 = 250_000;
/// First pause before a retry.
pub const RETRY_MS_MIN: u64 = 100;
/// Longest pause before a retry.
pub const RETRY_MS_MAX: u64 = 30_000;
/// How long a source or target may be away when a pipeline starts.
pub const STARTUP_RETRY_MS_MAX: u64 = 20_000;
/// How often a start is tried at least, however long one try takes.
pub const STARTUP_TRIES_MIN: u32 = 3;
/// How long the log may take to come to where a view ends.
pub const VIEW_WAIT_MS_MAX: u64 = 30_000;
/// How long a last look at the source may take when a pipeline ends.
pub const LEAVE_MS_MAX: u64 = 5_000;
/// A position-only record is written this often at most (T6).
pub const POSITION_RECORD_INTERVAL_MS: u64 = 1_000;
/// The source's tip is asked for this often.
pub const TIP_INTERVAL_MS: u64 = 1_000;
/// The log is trimmed this often at most.
pub const TRIM_INTERVAL_MS: u64 = 1_000;
/// Replays of one window before the pipeline gives up on it (3.9).
pub const REPLAYS_MAX: u32 = 8;
