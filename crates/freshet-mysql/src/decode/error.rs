//! What stops the decoder: bytes that break the format, and things that freshet does not support, each by name.
//!
//! No error carries a cell or the text of a statement. Outside this crate only [`freshet_core::Error`] is seen.

use freshet_core::schema::TableName;
use freshet_core::{Error, ErrorKind};

const HINT_WITHOUT_GTID: &str =
    "Load again: the set does not tell which transactions without a GTID were read";

/// An event that cannot be decoded, or must not be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Bytes that break the format.
    #[error("The binlog event at {place} is damaged: {what}")]
    Damaged {
        /// File and position of the event's end, as far as known.
        place: String,
        /// Which rule they break.
        what: &'static str,
    },
    /// Something that freshet does not support, by name, with the next step.
    #[error("The binlog holds {what} (at {place}), which freshet does not support")]
    Unsupported {
        /// File and position of the event's end, as far as known.
        place: String,
        /// The thing.
        what: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// Row events of a captured table that lack something freshet needs.
    #[error("Table {table} is logged with {what} (at {place}), which freshet does not support")]
    Table {
        /// File and position of the event's end, as far as known.
        place: String,
        /// The table.
        table: TableName,
        /// The thing.
        what: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// A row of a captured table that does not follow its column types.
    #[error("A row of table {table} cannot be decoded (at {place})")]
    Rows {
        /// File and position of the event's end, as far as known.
        place: String,
        /// The table.
        table: TableName,
    },
    /// The server says that it lost events.
    #[error("The server lost changes before it could log them ({what}, at {place})")]
    LostEvents {
        /// File and position of the event's end, as far as known.
        place: String,
        /// The kind of incident.
        what: String,
    },
    /// A transaction without a GTID, in a session whose position is a set of GTIDs.
    #[error(
        "GTIDs were switched off on the source, and the position to go on from is a set of GTIDs: a transaction without one is at {place}"
    )]
    WithoutGtid {
        /// File and position of an event of it.
        place: String,
    },
    /// The order of events or files cannot be.
    #[error("The binlog does not continue at {place}: {what}")]
    Broken {
        /// File and position of the event's end, as far as known.
        place: String,
        /// What does not fit.
        what: String,
    },
}

impl DecodeError {
    fn kind(&self) -> ErrorKind {
        match self {
            DecodeError::Damaged { .. } | DecodeError::Rows { .. } => ErrorKind::Corrupt,
            DecodeError::Unsupported { .. } | DecodeError::Table { .. } => ErrorKind::Unsupported,
            DecodeError::LostEvents { .. } | DecodeError::WithoutGtid { .. } | DecodeError::Broken { .. } => {
                ErrorKind::Resync
            }
        }
    }

    fn hint(&self) -> &'static str {
        match self {
            DecodeError::Damaged { .. } | DecodeError::Rows { .. } => {
                "Check the source's disk and its binlog with mysqlbinlog"
            }
            DecodeError::Unsupported { hint, .. } | DecodeError::Table { hint, .. } => hint,
            DecodeError::WithoutGtid { .. } => HINT_WITHOUT_GTID,
            DecodeError::LostEvents { .. } | DecodeError::Broken { .. } => "Load the tables again",
        }
    }
}

impl From<DecodeError> for Error {
    fn from(error: DecodeError) -> Self {
        let hinted = Error::new(error.kind(), error.to_string());
        match error.hint() {
            "" => hinted,
            hint => hinted.with_hint(hint),
        }
    }
}
