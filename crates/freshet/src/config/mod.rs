//! The configuration of one pipeline, as meant: read from YAML, expanded, checked, with every path made whole.
//!
//! It knows no backend: [`crate::assemble`] turns it into connections. A file either gives a whole [`Config`] or a
//! list of every problem in it ([`read::Refused`]); nothing is guessed, and a key that is not known is a problem.

mod expand;
mod problem;
mod read;
mod section;
mod tree;
pub mod units;

pub use expand::Variables;
pub use freshet_core::connect::{ClientCertificate, Secret, TlsMode};
pub use problem::Problem;
pub use read::{Refused, load, log_dir};
pub use section::io_reason;

use freshet_mapping::{Mapping, Selection};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// One pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Its name: the key of its rows in every control schema.
    pub name: String,
    /// What it does.
    pub mode: Mode,
    /// Where changes come from.
    pub source: SourceConfig,
    /// Which tables.
    pub selection: Selection,
    /// The durable log.
    pub log: LogConfig,
    /// Where changes go, at least one, names distinct.
    pub sinks: Vec<SinkConfig>,
    /// How existing rows are read.
    pub load: LoadConfig,
    /// What is allowed and unwise, for `freshet check`.
    pub warnings: Vec<Problem>,
}

/// What a pipeline does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Existing rows, and the changes committed meanwhile; then it ends.
    Load,
    /// Existing rows, then changes.
    LoadAndStream,
    /// Changes from now on.
    Stream,
}

impl Mode {
    /// The word of the file.
    pub fn word(self) -> &'static str {
        match self {
            Mode::Load => "load",
            Mode::LoadAndStream => "load-and-stream",
            Mode::Stream => "stream",
        }
    }
}

/// Which server a source or a sink is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerKind {
    /// MariaDB.
    Mariadb,
    /// MySQL.
    Mysql,
    /// PostgreSQL.
    Postgres,
}

impl ServerKind {
    /// The word of the file.
    pub fn word(self) -> &'static str {
        match self {
            ServerKind::Mariadb => "mariadb",
            ServerKind::Mysql => "mysql",
            ServerKind::Postgres => "postgres",
        }
    }
}

/// A server and an account on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Account.
    pub user: String,
    /// Its password.
    pub password: Option<Secret>,
    /// TLS.
    pub tls: TlsMode,
    /// Authorities to trust instead of the system's.
    pub tls_ca_file: Option<PathBuf>,
    /// What we show to the server.
    pub tls_client: Option<ClientCertificate>,
}

/// A source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceConfig {
    /// Which server.
    pub kind: ServerKind,
    /// Where.
    pub endpoint: Endpoint,
    /// Our id among its replicas; random if not given.
    pub server_id: Option<u32>,
    /// How often an idle server is to speak.
    pub heartbeat_ms: Option<u64>,
    /// What only a PostgreSQL has; of any other it is empty.
    pub postgres: PostgresSource,
}

/// What a PostgreSQL source is asked for by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PostgresSource {
    /// Database.
    pub database: String,
    /// Replication slot; named after the pipeline if not given.
    pub slot: Option<String>,
    /// Publication; named after the pipeline if not given.
    pub publication: Option<String>,
    /// Whether rows of a partition that was dropped or detached stay on the targets; the pipeline stops otherwise.
    pub keeps_dropped_partitions: bool,
}

/// The log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// Its directory.
    pub dir: PathBuf,
    /// Where capture pauses.
    pub bytes_max: u64,
    /// Records younger than this are kept although every sink has them.
    pub retain_ms: u64,
}

/// A sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkConfig {
    /// Its name: part of the key of its checkpoint.
    pub name: String,
    /// Which server.
    pub kind: ServerKind,
    /// Where.
    pub endpoint: Endpoint,
    /// Database of a PostgreSQL; of any other it is empty.
    pub database: String,
    /// New names of schemas.
    pub schemas: BTreeMap<String, String>,
    /// How a table comes to be there.
    pub prepare: Prepare,
    /// Schema of freshet's own tables.
    pub control_schema: String,
    /// What happens to values that the target lacks.
    pub policies: Policies,
}

impl SinkConfig {
    /// The names it gives.
    pub fn mapping(&self) -> Mapping {
        Mapping::new(self.schemas.clone()).reserving(&self.control_schema)
    }
}

/// How a table comes to be on a sink before a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prepare {
    /// Made if absent, refused if not empty.
    Create,
    /// Emptied, or made.
    Truncate,
    /// Dropped and made.
    DropAndCreate,
}

/// What happens to values that the target lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policies {
    /// Dates that the target has no place for.
    pub invalid_dates: InvalidDates,
    /// The character U+0000 in text, which only PostgreSQL lacks.
    pub nul_in_text: NulInText,
    /// Text that is not valid in its character set.
    pub undecodable_text: UndecodableText,
}

/// For `0000-00-00` and other dates of no calendar on PostgreSQL, and for infinities and years past 9999 elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidDates {
    /// The table stops.
    Stop,
    /// NULL is written.
    Null,
}

/// For U+0000 in text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NulInText {
    /// The table stops.
    Stop,
    /// It is left out.
    Strip,
    /// U+2400, the symbol for NUL, is written.
    Replace,
}

/// For text that is not valid in its character set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UndecodableText {
    /// The table stops.
    Stop,
    /// U+FFFD is written for each bad sequence.
    Replace,
}

/// How existing rows are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadConfig {
    /// Parallel readers.
    pub readers: usize,
    /// Rows of a chunk.
    pub chunk_rows: u64,
}

impl Config {
    /// What may not change between runs without losing or doubling rows, as text that a person can compare.
    pub fn digest(&self) -> String {
        let sinks: Vec<String> =
            self.sinks.iter().map(|s| format!("sink={} {}", s.name, s.mapping().digest())).collect();
        format!(
            "mode={}; source={}; {}; {}",
            self.mode.word(),
            self.source.kind.word(),
            self.selection.digest(),
            sinks.join("; ")
        )
    }
}
