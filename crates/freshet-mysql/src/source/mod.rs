//! Changes out of a MySQL or MariaDB binlog, as a [`Source`].
//!
//! Not a decoder (`decode` turns events into batches) and not a supervisor: a lost connection is `Unavailable`, and
//! the engine opens again at its last durable position. A change of what a server is set to, or of what it is,
//! between two opens is noticed at the next one; every event is judged again by the decoder.
//!
//! The life of a session: `settings` (is it logged right) -> `history` (is it the same, and all there, also what
//! targets hold) -> `dump` (set up, `replica`'s name, begin) -> `stream` (packets into batches). `tip` asks over a
//! connection of its own.
//!
//! A place that is told is exact: a MariaDB position has one only where it is the place of its GTID set
//! (`exact_from`), and a MySQL position is a place alone where `gtid_mode` is not ON. A session keeps the kind of
//! position that it began with.
//!
//! While nobody reads, the kernel keeps the connection: nothing in this protocol awaits an answer of ours, the
//! server's write time-out is set to its largest value, and TCP keepalive answers for the process (P8, P23).

mod dump;
mod encode;
mod failure;
mod history;
mod replica;
mod settings;
mod special;
mod stream;
mod tip;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freshet_core::codec::BatchBuilder;
use freshet_core::error::{Error, Result};
use freshet_core::position::{BinlogPosition, FilePos, Position};
use freshet_core::source::{ReadOutcome, Selects, Source};

use crate::decode::{DecodeOptions, Decoder, SpecialColumns};
use crate::server::{Flavour, ServerFacts};
use crate::wire::{BinlogPackets, ConnectOptions, Connection};
use dump::Reader;
use history::{Begin, History};
use replica::Replica;
use stream::Stream;
use tip::Tip;

/// What a source is told.
#[derive(Clone, Debug)]
pub struct SourceOptions {
    /// Address, account and time-outs. The read time-out is also what makes a silent server `Unavailable`.
    pub connect: ConnectOptions,
    /// What the server is configured to be.
    pub flavour: Flavour,
    /// The server id to read under; a random one if none is given.
    pub server_id: Option<u32>,
    /// How often a server without changes lets us know that it is there; less than half the read time-out.
    pub heartbeat_ms: u64,
    /// A batch is handed out at the first commit past this size.
    pub batch_bytes_target: usize,
    /// A batch inside one transaction is handed out past this size.
    pub batch_bytes_max: usize,
}

impl SourceOptions {
    /// Options with the defaults.
    pub fn new(connect: ConnectOptions, flavour: Flavour) -> Self {
        Self {
            connect,
            flavour,
            server_id: None,
            heartbeat_ms: 1_000,
            batch_bytes_target: 256 << 10,
            batch_bytes_max: 4 << 20,
        }
    }

    fn check(&self) -> Result<()> {
        if self.heartbeat_ms == 0 || self.heartbeat_ms > self.connect.read_timeout_ms / 2 {
            return Err(Error::invalid(format!(
                "The heartbeat of {} ms must be at least 1 ms and at most half of the read time-out of {} ms",
                self.heartbeat_ms, self.connect.read_timeout_ms
            )));
        }
        if self.batch_bytes_target > self.batch_bytes_max {
            return Err(Error::invalid("batch_bytes_target must not be larger than batch_bytes_max"));
        }
        Ok(())
    }
}

/// Reads one server's binlog.
pub struct BinlogSource {
    options: SourceOptions,
    selects: Arc<dyn Selects>,
    replica: Replica,
    stream: Option<Stream>,
    tip: Tip,
    acknowledged: Option<Position>,
}

impl BinlogSource {
    /// A source that captures what `selects` wants; [`Source::open`] connects it.
    pub fn new(options: SourceOptions, selects: Arc<dyn Selects>) -> Self {
        let replica = Replica::new(options.server_id);
        Self { options, selects, replica, stream: None, tip: Tip::default(), acknowledged: None }
    }

    /// What was acknowledged last.
    pub fn acknowledged(&self) -> Option<&Position> {
        self.acknowledged.as_ref()
    }

    async fn connect(&self) -> Result<(Connection, ServerFacts)> {
        let mut connection = Connection::connect(&self.options.connect).await?;
        let facts = ServerFacts::read(&mut connection).await?;
        settings::check_settings(self.options.flavour, &facts)?;
        settings::check_replica(&facts, &mut connection).await?;
        Ok((connection, facts))
    }

    async fn dump(
        &mut self,
        mut connection: Connection,
        facts: &ServerFacts,
        begin: &Begin,
    ) -> Result<BinlogPackets> {
        let uuid = self.replica.uuid().to_string();
        let heartbeat_ms = self.options.heartbeat_ms;
        dump::prepare(facts, &mut connection, &uuid, heartbeat_ms).await?;
        let heartbeat = Duration::from_millis(heartbeat_ms);
        let server_id = self.replica.register(facts, &mut connection, heartbeat).await?;
        tracing::info!(
            server_id,
            server = facts.identity,
            version = facts.version_text,
            %begin,
            "Reading the binlog"
        );
        dump::begin(connection, &Reader { server_id }, begin).await
    }

    fn decoder(&self, facts: &ServerFacts, special_columns: SpecialColumns) -> Decoder {
        let lower_case_table_names =
            facts.variable("lower_case_table_names").and_then(|value| value.parse().ok()).unwrap_or(0);
        let options = DecodeOptions {
            batch_bytes_max: self.options.batch_bytes_max,
            lower_case_table_names,
            special_columns: Arc::new(special_columns),
        };
        Decoder::new(facts.flavour, Arc::clone(&self.selects), options)
    }
}

#[async_trait]
impl Source for BinlogSource {
    /// A binlog is kept by the server's own rules.
    async fn begin(&mut self) -> Result<Position> {
        self.tip().await
    }

    async fn open(&mut self, start: &Position, held: &[Position]) -> Result<()> {
        self.stream = None;
        self.options.check()?;
        let Position::Binlog(start) = start else {
            return Err(Error::resync("The position to go on from is PostgreSQL's, and the source is not")
                .with_hint("Give the pipeline the source that it was begun with, or load again"));
        };
        let (mut connection, facts) = self.connect().await?;
        let mut history = History::read(&facts, &mut connection).await?;
        let begin = history.begin_after(start).await?;
        history.check_held(start, held).await?;
        let exact_from = exact_from(start, &begin, &facts, &mut connection).await?;
        let special = special::special_columns(&facts, self.selects.as_ref(), &mut connection).await?;
        let mut decoder = self.decoder(&facts, special);
        decoder.start(session_start(start, &facts));
        let packets = self.dump(connection, &facts, &begin).await?;
        let mut stream = Stream::new(packets, decoder, &self.options, exact_from);
        stream.greet(&mut self.replica).await?;
        self.stream = Some(stream);
        Ok(())
    }

    async fn read(&mut self, batch: &mut BatchBuilder) -> Result<ReadOutcome> {
        let Some(stream) = &mut self.stream else {
            return Err(Error::internal("A source is read before it is open"));
        };
        let outcome = stream.read(batch, &mut self.replica).await;
        if outcome.is_err() {
            self.stream = None;
        }
        outcome
    }

    async fn acknowledge(&mut self, position: &Position) -> Result<()> {
        self.acknowledged = Some(position.clone());
        Ok(())
    }

    async fn tip(&mut self) -> Result<Position> {
        self.tip.position(&self.options.connect).await.map(Position::Binlog)
    }

    fn distance_bytes(&self, from: &Position, to: &Position) -> Option<u64> {
        match (from, to) {
            (Position::Binlog(from), Position::Binlog(to)) => self.tip.distance_bytes(from, to),
            (Position::Binlog(_) | Position::Wal(_), Position::Binlog(_) | Position::Wal(_)) => None,
        }
    }
}

/// From where on a place of this session is the place of its GTID set. A dump that begins by GTID gives what is missing,
/// in the order of the server's files: parts of our set may lie behind what was read, but all of it, being executed by
/// now, before the end of the binlog. A place before that end would be too early for the set, and be taken for another
/// history at the next open; MariaDB's positions are moreover compared by place on one server (P19). A MySQL that goes on
/// on the server of its place has all of its set before it.
async fn exact_from(
    start: &BinlogPosition,
    begin: &Begin,
    facts: &ServerFacts,
    connection: &mut Connection,
) -> Result<Option<FilePos>> {
    let has_place = start.server == facts.identity && !start.file.file.is_empty();
    match begin {
        Begin::MysqlGtids(_) if has_place => Ok(None),
        Begin::MysqlGtids(_) | Begin::MariadbGtids(_) => facts.end_of_binlog(connection).await.map(Some),
        Begin::FilePos { .. } => Ok(None),
    }
}

/// The start as seen from the server that is read now: a file position of another server says nothing (P11).
fn session_start(start: &BinlogPosition, facts: &ServerFacts) -> BinlogPosition {
    let file = if start.server == facts.identity { start.file.clone() } else { FilePos::default() };
    BinlogPosition { server: facts.identity.clone(), file, gtids: start.gtids.clone() }
}
