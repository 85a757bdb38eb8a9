//! What the sink needs to know: address, account, TLS, time-outs, and the policies for values without a place.
//!
//! Not the pipeline's configuration file; the binary turns that into these. A password is held as a [`Secret`].

pub use freshet_core::connect::{ClientCertificate, Secret, TlsMode};
use std::path::PathBuf;

/// Where the server is and who we are there.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// Host name, address, or the directory of a Unix socket (begins with `/`).
    pub host: String,
    /// Port.
    pub port: u16,
    /// Database.
    pub database: String,
    /// Role.
    pub user: String,
    /// Its password, if it has one.
    pub password: Option<Secret>,
    /// How far the connection is protected.
    pub tls: TlsMode,
    /// PEM file with the certificates of the authorities to trust instead of the system's.
    pub tls_ca_file: Option<PathBuf>,
    /// What we show to the server. Of no meaning without TLS.
    pub tls_client: Option<ClientCertificate>,
    /// The longest that name look-up, TCP, TLS and authentication may take together.
    pub connect_timeout_ms: u64,
}

impl ConnectOptions {
    /// Options with the defaults: port 5432, no password, no TLS, 10 s to connect.
    pub fn new(host: impl Into<String>, user: impl Into<String>, database: impl Into<String>) -> Self {
        ConnectOptions {
            host: host.into(),
            port: 5432,
            database: database.into(),
            user: user.into(),
            password: None,
            tls: TlsMode::Disable,
            tls_ca_file: None,
            tls_client: None,
            connect_timeout_ms: 10_000,
        }
    }

    /// `host:port`, for messages.
    pub(crate) fn place(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

/// Dates and times that PostgreSQL has no place for: zero, partial, not in the calendar, out of range (M1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DatePolicy {
    /// Stop the table by name.
    #[default]
    Stop,
    /// Store NULL. Date columns that are not part of the key are then made without NOT NULL.
    Null,
}

/// The character U+0000 in text, which PostgreSQL has no place for (G7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NulPolicy {
    /// Stop the table by name.
    #[default]
    Stop,
    /// Leave the character out.
    Strip,
    /// Put U+2400 (the symbol for NUL) in its place.
    Replace,
}

/// Stored text that is not valid in its own character set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UndecodablePolicy {
    /// Stop the table by name.
    #[default]
    Stop,
    /// Put U+FFFD where the bytes are no UTF-8.
    Replace,
}

/// What happens to values without a place on the target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policies {
    /// Dates and times.
    pub dates: DatePolicy,
    /// U+0000 in text.
    pub nul_in_text: NulPolicy,
    /// Text that is none.
    pub undecodable: UndecodablePolicy,
}

/// Everything that [`crate::PostgresSink::new`] needs.
#[derive(Clone, Debug)]
pub struct SinkOptions {
    /// Name of the pipeline.
    pub pipeline: String,
    /// Name of the sink within the pipeline.
    pub sink: String,
    /// The server.
    pub connect: ConnectOptions,
    /// Schema of the control tables.
    pub control_schema: String,
    /// Values without a place.
    pub policies: Policies,
    /// The longest wait for somebody else's lock before the window is rolled back and tried again (T12).
    pub lock_timeout_ms: u64,
    /// The longest that a transaction of ours may sit idle before the server ends it: bounds how long a dead
    /// host's open transaction keeps its locks.
    pub idle_in_transaction_timeout_ms: u64,
    /// Rows of one bulk statement at most.
    pub statement_rows_max: usize,
    /// Bytes of one bulk statement's parameters at most, where that is more than one row.
    pub statement_bytes_max: usize,
    /// Memory for a sort of an index build, in PostgreSQL's units.
    pub maintenance_work_mem: String,
}

impl SinkOptions {
    /// Options with the defaults.
    pub fn new(pipeline: impl Into<String>, sink: impl Into<String>, connect: ConnectOptions) -> Self {
        SinkOptions {
            pipeline: pipeline.into(),
            sink: sink.into(),
            connect,
            control_schema: "freshet".to_owned(),
            policies: Policies::default(),
            lock_timeout_ms: 10_000,
            idle_in_transaction_timeout_ms: 60_000,
            statement_rows_max: 10_000,
            statement_bytes_max: 16 << 20,
            maintenance_work_mem: "256MB".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o10_debug_shows_no_password() {
        let options =
            ConnectOptions { password: Some(Secret::new("hunter2")), ..ConnectOptions::new("h", "u", "d") };
        assert!(!format!("{options:?}").contains("hunter2"));
    }
}
