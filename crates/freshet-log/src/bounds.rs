//! Every named bound of the log, in one place, with its unit last.

/// A segment is left for the next one at this size; also at a quarter of `log_bytes_max`, so that space can be freed.
pub(crate) const SEGMENT_BYTES_MAX: u64 = 256 << 20;
/// Payload of one record; a larger batch goes on in further records.
pub(crate) const RECORD_BYTES_MAX: usize = 4 << 20;
/// Batches that wait for the disk.
pub(crate) const APPEND_QUEUE_BYTES_MAX: usize = 16 << 20;
/// Written bytes are synced at this many, also in the middle of a transaction, so that no sync takes long.
pub(crate) const UNSYNCED_BYTES_MAX: u64 = 64 << 20;
/// `log_bytes_max` unless configured.
pub(crate) const LOG_BYTES_MAX: u64 = 10 << 30;
/// `log_retain_ms_min` unless configured: an hour.
pub(crate) const LOG_RETAIN_MS_MIN: u64 = 3_600_000;
/// The log leaves this much of its disk to others.
pub(crate) const DISK_FREE_BYTES_MIN: u64 = 64 << 20;
/// Text of one position. A GTID set is a few kilobytes; what is larger is damage.
pub(crate) const POSITION_BYTES_MAX: usize = 16 << 20;
/// What a reader reads at a time.
pub(crate) const READ_BYTES: usize = 1 << 20;
/// What a scan of record headers reads at a time.
pub(crate) const SCAN_BYTES: usize = 64 << 10;

/// The bounds that can be configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Ingest pauses at a commit while the log is this large.
    pub log_bytes_max: u64,
    /// Applied segments are kept at least this long, unless the log is over half of `log_bytes_max`.
    pub log_retain_ms_min: u64,
    /// Size of a segment.
    pub segment_bytes_max: u64,
    /// Payload of one record.
    pub record_bytes_max: usize,
    /// Bytes of batches that wait for the disk.
    pub append_queue_bytes_max: usize,
    /// The writer stops when its disk has less than this.
    pub disk_free_bytes_min: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            log_bytes_max: LOG_BYTES_MAX,
            log_retain_ms_min: LOG_RETAIN_MS_MIN,
            segment_bytes_max: SEGMENT_BYTES_MAX,
            record_bytes_max: RECORD_BYTES_MAX,
            append_queue_bytes_max: APPEND_QUEUE_BYTES_MAX,
            disk_free_bytes_min: DISK_FREE_BYTES_MIN,
        }
    }
}

impl Options {
    /// Size at which a segment is left: small enough that a full log has segments to give up.
    pub(crate) fn roll_at_bytes(&self) -> u64 {
        self.segment_bytes_max.min(self.log_bytes_max / 4)
    }
}
