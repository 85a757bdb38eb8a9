//! The log's own, precise errors, and what they become at the crate's boundary.
//!
//! Nothing here holds bytes of a payload: a record is named by segment, offset and byte.

use crate::format::LOG_VERSION;
use freshet_core::codec::FORMAT_VERSION;
use freshet_core::{Error, Offset};
use std::io;
use std::path::{Path, PathBuf};

pub(crate) type Result<T, E = LogError> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    #[error("Cannot {doing} {}: {source}", path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    #[error("Log directory {} is held by {holder}", dir.display())]
    Held { dir: PathBuf, holder: String },
    #[error("Log directory {} was opened anew, or its log was taken over, in this process", dir.display())]
    Retired { dir: PathBuf },
    #[error("{} has log format version {found}, this build reads version {LOG_VERSION}", path.display())]
    Version { path: PathBuf, found: u16 },
    #[error("{} has row format version {found}, this build reads version {FORMAT_VERSION}", path.display())]
    RowVersion { path: PathBuf, found: u16 },
    #[error("Header of {} is damaged: {what}", path.display())]
    Header { path: PathBuf, what: String },
    #[error("Segment {} is damaged at offset {offset}, byte {byte}: {what}", path.display())]
    Damaged { path: PathBuf, offset: Offset, byte: u64, what: String },
    #[error("The log in {} lacks the segment that begins at offset {first}", dir.display())]
    Missing { dir: PathBuf, first: Offset },
    #[error("Disk of the log directory {} has {free} bytes free, of which {min} are not the log's to use", dir.display())]
    DiskLow { dir: PathBuf, free: u64, min: u64 },
    #[error("Offset {offset} is not a mark of the log in {} between {trimmed} and {durable}", dir.display())]
    NotAMark { dir: PathBuf, offset: Offset, trimmed: Offset, durable: Offset },
    #[error("A reader of the log in {} stands at offset {at}, which was trimmed", dir.display())]
    Trimmed { dir: PathBuf, at: Offset },
    #[error("{0}")]
    Broken(String),
    #[error("{0}")]
    Core(Error),
}

impl LogError {
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }

    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

impl From<Error> for LogError {
    fn from(error: Error) -> Self {
        Self::Core(error)
    }
}

impl From<LogError> for Error {
    fn from(error: LogError) -> Self {
        let text = error.to_string();
        match error {
            LogError::Io { path, source, .. } => from_io(text, &path, &source),
            LogError::Held { .. } => Error::fenced(text)
                .with_hint("Stop the other process, or give this pipeline a log directory of its own"),
            LogError::Retired { .. } => Error::fenced(text),
            LogError::Version { .. } | LogError::RowVersion { .. } => {
                Error::unsupported(text).with_hint("Run the freshet that wrote it, or a later one")
            }
            LogError::Header { .. } | LogError::Damaged { .. } | LogError::Missing { .. } => {
                Error::corrupt(text).with_hint(
                    "Look at it with `freshet log verify`; without the directory freshet rebuilds the log from the \
                     sinks' checkpoints, if the source still has their positions",
                )
            }
            LogError::DiskLow { .. } => Error::invalid(text).with_hint(SPACE),
            LogError::NotAMark { .. } | LogError::Trimmed { .. } | LogError::Broken(_) => Error::internal(text),
            LogError::Core(error) => error,
        }
    }
}

const SPACE: &str =
    "Free space on that disk, or lower log.bytes_max or split the transaction, and start freshet again";

fn from_io(text: String, path: &Path, source: &io::Error) -> Error {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::invalid(text).with_hint(SPACE),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            Error::invalid(text).with_hint(format!("Let this user read and write {}", path.display()))
        }
        _ => Error::internal(text).with_hint("Check the disk and the kernel's messages about it"),
    }
}
