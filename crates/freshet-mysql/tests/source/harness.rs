//! Servers, sources and what they read, as text that a person can compare with the statements that were run.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use freshet_core::codec::{BatchBuilder, EventRef};
use freshet_core::position::BinlogPosition;
use freshet_core::source::{ReadOutcome, Selects, Source};
use freshet_core::{Error, ErrorKind, Position, Result, SchemaMap, TableName, ValueRef};
use freshet_mysql::server::{Flavour, ServerFacts};
use freshet_mysql::source::{BinlogSource, SourceOptions};
use freshet_mysql::wire::{ConnectOptions, Connection, Secret};
use freshet_testkit::servers::{Flavor, MyOptions, MyServer, wait_until, wait_until_async};

/// What any test may wait for one thing to happen.
pub const DEADLINE: Duration = Duration::from_secs(300);

/// A MariaDB and a MySQL that every test shares; each uses a database of its own and changes no setting.
pub fn both() -> [&'static MyServer; 2] {
    [shared(Flavor::MariaDb), shared(Flavor::MySql)]
}

pub fn shared(flavor: Flavor) -> &'static MyServer {
    static MARIADB: OnceLock<MyServer> = OnceLock::new();
    static MYSQL: OnceLock<MyServer> = OnceLock::new();
    let cell = match flavor {
        Flavor::MariaDb => &MARIADB,
        Flavor::MySql => &MYSQL,
    };
    cell.get_or_init(|| start(flavor, MyOptions::default()))
}

pub const FLAVORS: [Flavor; 2] = [Flavor::MariaDb, Flavor::MySql];

pub fn start(flavor: Flavor, options: MyOptions) -> MyServer {
    MyServer::start(flavor, options.with_freshet_user())
}

pub fn flavour(server: &MyServer) -> Flavour {
    match server.flavor() {
        Flavor::MariaDb => Flavour::Mariadb,
        Flavor::MySql => Flavour::Mysql,
    }
}

pub fn connect_options(server: &MyServer) -> ConnectOptions {
    ConnectOptions {
        port: server.port(),
        password: Some(Secret::new("freshet")),
        read_timeout_ms: 30_000,
        ..ConnectOptions::new("127.0.0.1", "freshet")
    }
}

/// Options under which every commit ends a batch, so that the place after each transaction is told.
pub fn options(server: &MyServer) -> SourceOptions {
    SourceOptions {
        batch_bytes_target: 1,
        heartbeat_ms: 100,
        ..SourceOptions::new(connect_options(server), flavour(server))
    }
}

/// The end of the server's binlog right now.
pub async fn now(server: &MyServer) -> Position {
    let mut connection = Connection::connect(&connect_options(server)).await.unwrap();
    let facts = ServerFacts::read(&mut connection).await.unwrap();
    Position::Binlog(facts.current_position(&mut connection).await.unwrap())
}

/// Every table of one database.
pub struct Database(pub &'static str);

impl Selects for Database {
    fn selects(&self, table: &TableName) -> bool {
        table.schema == self.0
    }

    fn selects_schema(&self, schema: &str) -> bool {
        schema == self.0
    }
}

/// One transaction as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Txn {
    pub name: String,
    pub changes: Vec<String>,
}

/// A source and everything that it has handed out.
pub struct Capture {
    pub source: BinlogSource,
    pub batch: BatchBuilder,
    pub position: Position,
    /// What targets hold ahead of it.
    pub held: Vec<Position>,
    pub txns: Vec<Txn>,
    /// The place that was told when this many transactions had been read.
    pub places: Vec<(usize, Position)>,
    /// Batches that ended inside a transaction, in bytes.
    pub parts: Vec<usize>,
    pub discarded: usize,
    schemas: SchemaMap,
    open: Option<Txn>,
}

impl Capture {
    pub fn new(options: SourceOptions, database: &'static str, start: &Position) -> Self {
        Self {
            source: BinlogSource::new(options, Arc::new(Database(database))),
            batch: BatchBuilder::new(),
            position: start.clone(),
            held: Vec::new(),
            txns: Vec::new(),
            places: vec![(0, start.clone())],
            parts: Vec::new(),
            discarded: 0,
            schemas: SchemaMap::default(),
            open: None,
        }
    }

    pub async fn opened(options: SourceOptions, database: &'static str, start: &Position) -> Self {
        let mut capture = Self::new(options, database, start);
        capture.open().await.unwrap();
        capture
    }

    /// Opens (again) after the last place that was told, as the engine does.
    pub async fn open(&mut self) -> Result<()> {
        self.batch = BatchBuilder::new();
        self.open = None;
        self.source.open(&self.position, &self.held).await
    }

    /// One read.
    pub async fn read(&mut self) -> Result<ReadOutcome> {
        let read = tokio::time::timeout(DEADLINE, self.source.read(&mut self.batch)).await;
        let outcome = read.expect("a read that has nothing to wait for returns")?;
        self.take(&outcome);
        Ok(outcome)
    }

    /// Takes in what a read left in the batch.
    pub fn take(&mut self, outcome: &ReadOutcome) {
        match outcome {
            ReadOutcome::Partial => assert!(self.batch.in_transaction()),
            ReadOutcome::Commit { .. } => assert!(!self.batch.in_transaction()),
            ReadOutcome::Discarded { .. } => {
                assert!(!self.batch.in_transaction());
                self.open = None;
                self.discarded += 1;
            }
        }
        let before = self.txns.len();
        let starts_inside = self.open.is_some();
        self.digest();
        match outcome {
            ReadOutcome::Partial => assert_eq!(self.txns.len(), before, "a part shares its batch"),
            ReadOutcome::Commit { position } | ReadOutcome::Discarded { position } => {
                assert!(!starts_inside || self.txns.len() <= before + 1, "the last part shares its batch");
                self.position = position.clone();
                self.places.push((self.txns.len(), position.clone()));
            }
        }
    }

    fn digest(&mut self) {
        let batch = self.batch.seal();
        if !batch.ends_at_commit() {
            self.parts.push(batch.bytes().len());
        }
        batch.collect_schemas(&mut self.schemas).unwrap();
        let schemas = self.schemas.clone();
        let row = |id, image| {
            let schema = schemas.get(id).expect("announced before");
            let cells: Vec<String> =
                EventRef::row(schema, image).cells().map(|cell| text(&cell.unwrap())).collect();
            (schema.name().table.clone(), cells.join(","))
        };
        for event in batch.events() {
            let change = match event.unwrap() {
                EventRef::Schema { .. } => continue,
                EventRef::Begin { txn, .. } => {
                    assert!(self.open.is_none(), "a transaction begins inside another");
                    self.open = Some(Txn { name: txn.to_string(), changes: Vec::new() });
                    continue;
                }
                EventRef::Commit(commit) => {
                    assert!(!commit.server.is_empty());
                    self.txns.push(self.open.take().expect("a transaction ends that had begun"));
                    continue;
                }
                EventRef::Insert { schema, after } => {
                    let (table, cells) = row(schema, after);
                    format!("{table}+{cells}")
                }
                EventRef::Update { schema, before, after } => {
                    let ((table, old), (_, new)) = (row(schema, before), row(schema, after));
                    format!("{table}:{old}>{new}")
                }
                EventRef::Delete { schema, before } => {
                    let (table, cells) = row(schema, before);
                    format!("{table}-{cells}")
                }
                EventRef::Truncate(table) => format!("{} truncated", table.table),
                EventRef::Statement(statement) => format!("{} altered", statement.table.table),
            };
            self.open.as_mut().expect("a change stands inside a transaction").changes.push(change);
        }
    }

    /// Reads until `count` transactions are there.
    pub async fn until(&mut self, count: usize) -> &mut Self {
        let deadline = Instant::now() + DEADLINE;
        while self.txns.len() < count {
            assert!(Instant::now() < deadline, "{} of {count} transactions came", self.txns.len());
            self.read().await.unwrap();
        }
        assert_eq!(self.txns.len(), count, "more transactions than were made");
        self
    }

    /// Reads until the place is one that satisfies `reached`.
    pub async fn until_place(&mut self, what: &str, reached: impl Fn(&Position) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !reached(&self.position) {
            assert!(Instant::now() < deadline, "{what} was not told; the last place is {}", self.position);
            self.read().await.unwrap();
        }
    }

    /// Reads until the first error.
    pub async fn until_error(&mut self) -> Error {
        let deadline = Instant::now() + DEADLINE;
        loop {
            assert!(Instant::now() < deadline, "no error came");
            if let Err(error) = self.read().await {
                return error;
            }
        }
    }

    pub fn changes(&self) -> Vec<Vec<&str>> {
        self.txns.iter().map(|txn| txn.changes.iter().map(String::as_str).collect()).collect()
    }
}

/// What tests of histories write into.
pub const SET_UP: &str = "create database h; create table h.t (id int primary key);";

pub fn binlog(position: &Position) -> &BinlogPosition {
    match position {
        Position::Binlog(place) => place,
        Position::Wal(_) => panic!("a binlog position"),
    }
}

/// The error of a session of database `h` after `place`.
pub async fn open_error(server: &MyServer, place: &Position) -> Error {
    let mut capture = Capture::new(options(server), "h", place);
    match capture.open().await {
        Err(error) => error,
        Ok(()) => capture.until_error().await,
    }
}

/// From every place that a session of database `h` told, exactly the rest follows, once.
pub async fn rest_follows_every_place(server: &MyServer, all: &Capture) {
    for (read, place) in &all.places {
        let mut rest = Capture::opened(options(server), "h", place).await;
        rest.until(all.txns.len() - read).await;
        assert_eq!(rest.txns, all.txns[*read..], "after {place}");
    }
}

/// Begins a new binlog file and forgets those before it. A file that a dump still reads, or that MariaDB has not
/// checkpointed yet, is kept at first.
pub fn purge(server: &MyServer) {
    server.sql("flush binary logs");
    purge_before_the_last(server);
}

/// Forgets every file but the last, however long they are in use.
pub fn purge_before_the_last(server: &MyServer) {
    wait_until(DEADLINE, "the files to be purged", || {
        let files = server.sql("show binary logs");
        let newest = files.lines().last().and_then(|line| line.split('\t').next()).unwrap().to_owned();
        server.sql(&format!("purge binary logs to '{newest}'"));
        server.sql("show binary logs").lines().count() == 1
    });
}

/// Waits until the end of the binlog stays where it is: some time after a file was begun MariaDB writes into it that
/// the one before is checkpointed.
pub fn settle(server: &MyServer) {
    if server.flavor() == Flavor::MySql {
        return;
    }
    wait_until(DEADLINE, "the checkpoint of the binlog", || {
        let files = server.sql("show binary logs");
        let newest = files.lines().last().and_then(|line| line.split('\t').next()).unwrap().to_owned();
        let events = server.sql(&format!("show binlog events in '{newest}'"));
        let is_it = |event: &str| event.contains("\tBinlog_checkpoint\t") && event.ends_with(&newest);
        events.lines().any(is_it)
    });
}

/// A data directory's copy.
pub fn copy(from: &std::path::Path, to: &std::path::Path) {
    let status = std::process::Command::new("cp").arg("-aT").args([from, to]).status().unwrap();
    assert!(status.success());
}

/// Retries opening while the error is one that the engine retries.
pub async fn reopen(capture: &mut Capture) {
    wait_until_async(DEADLINE, "the source to open again", async || match capture.open().await {
        Ok(()) => true,
        Err(error) => {
            assert!(error.is_retryable(), "cannot open again: {error}");
            false
        }
    })
    .await;
}

/// The kind of an error whose message names every one of `words`.
#[track_caller]
pub fn assert_error(error: &Error, kind: &ErrorKind, words: &[&str]) {
    let shown = format!("{} ({})", error.message(), error.hint().unwrap_or("no hint"));
    assert_eq!(error.kind(), kind, "{shown}");
    for word in words {
        assert!(shown.contains(word), "\"{word}\" is missing in: {shown}");
    }
}

fn text(value: &ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => "NULL".into(),
        ValueRef::Int(v) => v.to_string(),
        ValueRef::UInt(v) => v.to_string(),
        ValueRef::Text(v) if v.len() > 40 => format!("{}x{}", &v[..1], v.len()),
        ValueRef::Text(v) => (*v).into(),
        other => format!("{other:?}"),
    }
}
