//! What the sink needs to know: address, account, time-outs, bounds, and the policies for values without a place.
//!
//! Not the pipeline's configuration file; the binary turns that into these. A password is held as a `Secret`.

use crate::server::Flavour;
use crate::wire::ConnectOptions;

/// Dates and times that the target has no place for: infinities, years before 0 and after 9999, instants outside a
/// `timestamp`. Zero and partial dates of a MySQL source have one and are kept (M1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DatePolicy {
    /// Stop the table by name.
    #[default]
    Stop,
    /// Store NULL. A column that is NOT NULL refuses it.
    Null,
}

/// Stored text that is not valid in its own character set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UndecodablePolicy {
    /// Stop the table by name.
    #[default]
    Stop,
    /// Put U+FFFD where the bytes are no character.
    Replace,
}

/// What happens to values without a place on the target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policies {
    /// Dates and times.
    pub dates: DatePolicy,
    /// Text that is none.
    pub undecodable: UndecodablePolicy,
}

/// Everything that [`super::MySqlSink::new`] needs.
#[derive(Clone, Debug)]
pub struct SinkOptions {
    /// Name of the pipeline.
    pub pipeline: String,
    /// Name of the sink within the pipeline.
    pub sink: String,
    /// The server.
    pub connect: ConnectOptions,
    /// Which of the two it has to be; either if not told.
    pub flavour: Option<Flavour>,
    /// Database of the control tables.
    pub control_schema: String,
    /// Values without a place.
    pub policies: Policies,
    /// The longest wait for somebody else's lock before the window is rolled back and tried again (T12). Rounded up
    /// to whole seconds, which is what the servers know.
    pub lock_timeout_ms: u64,
    /// The longest that a transaction of ours may sit idle before the server ends it: bounds how long a dead
    /// host's open transaction keeps its locks.
    pub idle_in_transaction_timeout_ms: u64,
    /// Rows of one statement at most.
    pub statement_rows_max: usize,
    /// Bytes of one request at most, where that is more than one row; never more than the server's
    /// `max_allowed_packet`.
    pub statement_bytes_max: usize,
}

impl SinkOptions {
    /// Options with the defaults.
    pub fn new(pipeline: impl Into<String>, sink: impl Into<String>, connect: ConnectOptions) -> Self {
        SinkOptions {
            pipeline: pipeline.into(),
            sink: sink.into(),
            connect,
            flavour: None,
            control_schema: "freshet".to_owned(),
            policies: Policies::default(),
            lock_timeout_ms: 10_000,
            idle_in_transaction_timeout_ms: 60_000,
            statement_rows_max: 2_000,
            statement_bytes_max: 1 << 20,
        }
    }

    /// `host:port`, for messages.
    pub(crate) fn place(&self) -> String {
        format!("{}:{}", self.connect.host, self.connect.port)
    }
}
