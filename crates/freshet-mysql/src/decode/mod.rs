//! Binlog events into batches: bytes in, rows out, without IO.
//!
//! It opens no connection and reads no catalogue: whoever reads packets hands each event to [`Decoder::feed`].
//! Reads are checked, nothing of an announced size is allocated, unknown things stop it by name.

mod codes;
mod decoder;
mod effect;
mod error;
mod gtid;
mod header;
pub(crate) mod lexer;
mod payload;
mod place;
mod plan;
mod query;
mod rows;
mod statement;
mod table_map;
mod tables;
mod transaction;

use std::collections::HashMap;
use std::sync::Arc;

use freshet_core::position::FilePos;
use freshet_core::schema::TableName;

pub use crate::server::Flavour;
pub use decoder::Decoder;
pub use error::DecodeError;

/// What a MariaDB TABLE_MAP does not tell of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SpecialType {
    /// `uuid`.
    Uuid,
    /// `inet4`.
    Inet4,
    /// `inet6`.
    Inet6,
    /// MariaDB's `vector`.
    Vector,
    /// `time`, `datetime` or `timestamp`: used where the column is in MariaDB 5.3's format, whose binlog events do
    /// not say how many digits of fractions there are (M9).
    Temporal {
        /// Digits of fractions.
        fsp: u8,
    },
}

/// The catalogue's word on columns whose type the binlog does not tell: fill it on MariaDB from `SELECT table_schema,
/// table_name, column_name, data_type, datetime_precision FROM information_schema.columns WHERE data_type IN ('uuid',
/// 'inet4', 'inet6', 'vector', 'time', 'datetime', 'timestamp')`. Empty on MySQL.
pub type SpecialColumns = HashMap<TableName, HashMap<String, SpecialType>>;

/// Settings of a decoder.
#[derive(Clone, Debug)]
pub struct DecodeOptions {
    /// [`Decoder::feed`] returns [`Step::More`] once the batch has this many bytes inside one event.
    pub batch_bytes_max: usize,
    /// The server's `lower_case_table_names`.
    pub lower_case_table_names: u8,
    /// MariaDB's columns of types that the binlog does not name.
    pub special_columns: Arc<SpecialColumns>,
}

impl Default for DecodeOptions {
    fn default() -> Self {
        Self { batch_bytes_max: 4 << 20, lower_case_table_names: 0, special_columns: Arc::default() }
    }
}

/// What an event did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing, and no transaction is open.
    Nothing,
    /// A transaction is open.
    InTransaction,
    /// The batch reached `batch_bytes_max` within this event: seal it, then call [`Decoder::resume`] with the same
    /// event's bytes.
    More,
    /// A transaction ended: [`Decoder::position`] moved.
    Commit {
        /// Whether anything of it stands in the batch (or in the parts sealed before): T6.
        wrote: bool,
    },
    /// A file ended outside a transaction: [`Decoder::position`] moved to the next one's beginning.
    Rotated,
    /// The server has nothing to send; it has sent everything before this place.
    Heartbeat {
        /// The server's place.
        at: FilePos,
    },
    /// The server restarted inside a transaction, which is gone: what of it stood in the batch was taken out, and
    /// the parts handed out before must be dropped too (ALGORITHMS 1.10).
    Discarded,
}
