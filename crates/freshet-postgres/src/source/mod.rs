//! Changes out of a PostgreSQL's WAL by logical replication (pgoutput), as a [`Source`].
//!
//! Not a decoder (`decode` turns messages into batches) and not a supervisor: a lost connection is `Unavailable`, and
//! the engine opens again at its last durable position. Transactions come whole, at their commit, in commit order.
//!
//! The life of a source: `slot` makes the publication and the slot, once; a session is `slot` and `history` (is all of it
//! there, is it the same history) -> `stream` (messages into batches) beside `feedback`, a task that tells the server how
//! far we are also while nobody reads (P8). `look_up` completes what the stream says of a table, `tip` asks over a
//! connection of its own, and both look whether everything is what it was when the pipeline began (`definition`).

pub(crate) mod check;
mod definition;
mod feedback;
mod history;
mod look_up;
mod parts;
mod slot;
mod stream;
mod tip;

use crate::error::{Scope, statement_error};
use crate::lsn;
use crate::options::ConnectOptions;
use crate::quote::{NAME_BYTES_MAX, ident, literal};
use crate::session::{SERVER_VERSION_MIN, application_name, connect};
use crate::wire::Connection;
use async_trait::async_trait;
use definition::Definitions;
pub(crate) use definition::unseen_partition;
use freshet_core::codec::BatchBuilder;
use freshet_core::position::WalPosition;
use freshet_core::source::{ReadOutcome, Selects, Source};
use freshet_core::{Error, Position, Result};
use look_up::LookUp;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use stream::Stream;
use tip::Tip;
use tokio_postgres::Client;

/// What a source is told.
#[derive(Clone, Debug)]
pub struct WalSourceOptions {
    /// The server. The database is the one whose tables are captured.
    pub connect: ConnectOptions,
    /// Name of the pipeline, for the names of the sessions.
    pub pipeline: String,
    /// The replication slot; made if it is not there.
    pub slot: String,
    /// The publication; made if it is not there.
    pub publication: String,
    /// Whether rows of a partition that was dropped or detached stay on the targets; the pipeline stops otherwise.
    pub keeps_lost_partitions: bool,
    /// Schemas that are never selected: where freshet keeps tables of its own.
    pub schemas_left_out: Vec<String>,
    /// How often the server is told how far we are, at least.
    pub status_interval_ms: u64,
    /// A server that is silent for so long is taken for lost. It says something every 30 s.
    pub silence_ms_max: u64,
    /// A batch is handed out at the first commit past this size.
    pub batch_bytes_target: usize,
    /// A batch inside one transaction is handed out past this size.
    pub batch_bytes_max: usize,
}

impl WalSourceOptions {
    /// Options with the defaults: slot and publication are named after the pipeline.
    pub fn new(connect: ConnectOptions, pipeline: impl Into<String>) -> Self {
        let pipeline = pipeline.into();
        let name = slot_name(&pipeline);
        Self {
            connect,
            slot: name.clone(),
            publication: name,
            pipeline,
            keeps_lost_partitions: false,
            schemas_left_out: vec!["freshet".to_owned()],
            status_interval_ms: 10_000,
            silence_ms_max: 90_000,
            batch_bytes_target: 256 << 10,
            batch_bytes_max: 4 << 20,
        }
    }
}

/// `freshet_` and the pipeline's name, in the letters that a slot's name may have; what had to be changed is told apart
/// by a number made of the whole name.
fn slot_name(pipeline: &str) -> String {
    let is_fit = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let plain = format!("freshet_{pipeline}");
    if pipeline.chars().all(is_fit) && plain.len() <= NAME_BYTES_MAX {
        return plain;
    }
    let hash = pipeline.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let fit: String =
        pipeline.to_ascii_lowercase().chars().map(|c| if is_fit(c) { c } else { '_' }).take(30).collect();
    format!("freshet_{fit}_{hash:016x}")
}

/// Reads one server's WAL.
pub struct WalSource {
    options: WalSourceOptions,
    selects: Arc<dyn Selects>,
    stream: Option<Stream>,
    tip: Tip,
    /// What the stream's tables are compared with: as of the last look.
    definitions: Kept,
}

/// What the last look at all tables found, shared by those who look.
type Kept = Arc<LastLook>;

#[derive(Default)]
struct LastLook {
    found: Mutex<Arc<Definitions>>,
    /// Held by who looks: what two find at one time would overwrite each other.
    looking: tokio::sync::Mutex<()>,
}

impl LastLook {
    fn found(&self) -> Arc<Definitions> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Arc<Definitions>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at all tables, and stops at what the stream does not tell.
    async fn look(
        &self,
        client: &Client,
        options: &WalSourceOptions,
        selects: &dyn Selects,
    ) -> Result<Arc<Definitions>> {
        let _alone = self.looking.lock().await;
        let found = |found: &Definitions| *self.lock() = Arc::new(found.clone());
        slot::check_published(client, options, selects, found).await?;
        Ok(self.found())
    }
}

impl WalSource {
    /// A source that captures what `selects` wants; [`Source::begin`] makes its publication and slot.
    pub fn new(options: WalSourceOptions, selects: Arc<dyn Selects>) -> Self {
        let definitions = Kept::default();
        let tip = Tip::new(&options, definitions.clone());
        Self { options, selects, stream: None, tip, definitions }
    }
}

/// An ordinary session for the catalogue, with every setting that a statement's meaning depends on.
async fn session(options: &WalSourceOptions, purpose: &str) -> Result<Client> {
    const SETTINGS: &str = "set search_path = ''; set idle_session_timeout = 0; \
         set lock_timeout = '60s'; set idle_in_transaction_session_timeout = '60s'; set synchronous_commit = on; \
         set standard_conforming_strings = on; set default_transaction_read_only = off; \
         set default_transaction_isolation = 'read committed'; set row_security = off";
    let client = connect(&options.connect, &application_name(&options.pipeline, purpose)).await?;
    let fail = |error: &tokio_postgres::Error| statement_error(&Scope::Session, "Preparing a session", error);
    client.batch_execute(SETTINGS).await.map_err(|error| fail(&error))?;
    let row = client.query_one("select pg_catalog.current_setting('server_version_num')::int4", &[]).await;
    let version: i32 = row.map_err(|error| fail(&error))?.get(0);
    if version < SERVER_VERSION_MIN {
        return Err(Error::unsupported(format!(
            "PostgreSQL at {} is version {}, 15 is the oldest supported",
            options.connect.place(),
            version / 10_000
        )));
    }
    Ok(client)
}

/// Removes what a source has made on its server: the slot, which keeps WAL for as long as it is there, and the
/// publication if it made it. What is not there is no error; a slot that is read from right now is. Returns what was done.
pub async fn forget(options: &WalSourceOptions) -> Result<String> {
    let client = session(options, "forget").await?;
    slot::forget(&client, options).await
}

#[async_trait]
impl Source for WalSource {
    async fn begin(&mut self) -> Result<Position> {
        let client = session(&self.options, "begin").await?;
        slot::make(&client, &self.options, self.selects.as_ref()).await?;
        self.tip().await
    }

    async fn open(&mut self, start: &Position, held: &[Position]) -> Result<()> {
        self.stream = None;
        let start = wal(start)?;
        let name = application_name(&self.options.pipeline, "wal");
        let mut connection = Connection::connect(&self.options.connect, &name).await?;
        let server = history::read(&mut connection).await?;
        history::check(&server, start, &mut connection).await?;
        for held in held {
            history::check_held(&server, wal(held)?, &mut connection).await?;
        }
        let client = session(&self.options, "catalogue").await?;
        slot::check(&client, &self.options, start.lsn).await?;
        self.definitions.look(&client, &self.options, self.selects.as_ref()).await?;
        let begin = format!(
            "START_REPLICATION SLOT {} LOGICAL {} (proto_version '1', publication_names {})",
            ident(&self.options.slot),
            lsn::text(start.lsn),
            literal(&ident(&self.options.publication)),
        );
        let (reader, writer) = connection.start_replication("Beginning to read the WAL", &begin).await?;
        tracing::info!(slot = self.options.slot, start = %lsn::text(start.lsn), "Reading the WAL");
        let look_up =
            LookUp::new(client, self.options.clone(), self.selects.clone(), self.definitions.clone());
        let position = WalPosition { system: server.system, timeline: server.timeline, lsn: start.lsn };
        let feedback =
            feedback::start(writer, start.lsn, Duration::from_millis(self.options.status_interval_ms));
        self.stream = Some(Stream::new(reader, feedback, look_up, position, &self.options));
        Ok(())
    }

    async fn read(&mut self, batch: &mut BatchBuilder) -> Result<ReadOutcome> {
        let Some(stream) = &mut self.stream else {
            return Err(Error::internal("A source is read before it is open"));
        };
        let outcome = stream.read(batch).await;
        if outcome.is_err() {
            self.stream = None;
        }
        outcome
    }

    async fn acknowledge(&mut self, position: &Position) -> Result<()> {
        if let Some(stream) = &self.stream {
            stream.acknowledge(wal(position)?.lsn);
        }
        Ok(())
    }

    async fn tip(&mut self) -> Result<Position> {
        // A server that is frozen answers nothing and closes nothing.
        let longest = Duration::from_millis(self.options.silence_ms_max);
        let position = tokio::time::timeout(longest, self.tip.position(self.selects.as_ref())).await;
        let silent = || Error::unavailable("PostgreSQL does not tell the end of its WAL");
        position.unwrap_or_else(|_| Err(silent())).map(Position::Wal)
    }

    async fn leave(&mut self) -> Result<()> {
        self.tip.look(self.selects.as_ref()).await
    }

    fn distance_bytes(&self, from: &Position, to: &Position) -> Option<u64> {
        match (from, to) {
            (Position::Wal(from), Position::Wal(to)) => Some(to.lsn.0.saturating_sub(from.lsn.0)),
            (Position::Binlog(_) | Position::Wal(_), Position::Binlog(_) | Position::Wal(_)) => None,
        }
    }
}

fn wal(position: &Position) -> Result<&WalPosition> {
    match position {
        Position::Wal(wal) => Ok(wal),
        Position::Binlog(_) => {
            Err(Error::resync("The position to go on from is a binlog's, and the source is PostgreSQL")
                .with_hint("Give the pipeline the source that it was begun with, or load again"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slot_names_hold_what_a_slot_may_be_called() {
        assert_eq!(slot_name("shop_1"), "freshet_shop_1");
        let odd = slot_name("Shop-ä");
        assert!(odd.starts_with("freshet_shop___") && odd != slot_name("shop-ö"), "{odd}");
        let long = slot_name(&"x".repeat(80));
        assert!(long.len() <= NAME_BYTES_MAX && long != slot_name(&"x".repeat(81)));
    }
}
