//! A shared server, a database for each test, and a source that is read to a point.

use freshet_core::codec::{BatchBuilder, EventRef, RowRef};
use freshet_core::source::{ReadOutcome, Selects, Source};
use freshet_core::{Position, Result, SchemaMap, TableName, ValueRef};
use freshet_postgres::{ConnectOptions, WalSource, WalSourceOptions};
use freshet_testkit::servers::{Postgres, PostgresOptions};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

pub const DEADLINE: Duration = Duration::from_secs(300);

/// A server on which slots can be made.
pub fn start() -> Postgres {
    start_with(PostgresOptions::default())
}

/// The same, of another version for instance.
pub fn start_with(options: PostgresOptions) -> Postgres {
    let options = options.set("wal_level", "logical");
    let options = options.set("max_prepared_transactions", "10");
    Postgres::start(options.set("max_replication_slots", "200").set("max_wal_senders", "200"))
}

pub fn shared() -> &'static Postgres {
    static SERVER: OnceLock<Postgres> = OnceLock::new();
    SERVER.get_or_init(start)
}

/// A database of one test; its slot and publication have its name.
pub struct Database<'a> {
    pub server: &'a Postgres,
    pub name: String,
}

impl Database<'static> {
    pub fn new(sql: &str) -> Self {
        Database::on(shared(), sql)
    }
}

impl<'a> Database<'a> {
    pub fn on(server: &'a Postgres, sql: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("wal{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        server.sql(&format!("create database {name}"));
        let database = Self { server, name };
        database.sql(sql);
        database
    }

    #[track_caller]
    pub fn sql(&self, sql: &str) -> String {
        self.server.sql_in(&self.name, sql)
    }

    pub fn options(&self) -> WalSourceOptions {
        let mut connect = ConnectOptions::new("127.0.0.1", "postgres", &self.name);
        connect.port = self.server.port();
        WalSourceOptions::new(connect, &self.name)
    }

    pub fn source(&self) -> WalSource {
        WalSource::new(self.options(), Arc::new(Public))
    }

    /// A source that was begun and is open.
    pub async fn reading(&self) -> Reading {
        let mut source = self.source();
        let start = source.begin().await.unwrap();
        Reading::open(source, &start).await.unwrap()
    }
}

/// Every table of schema `public` but those that are called `other...`.
pub struct Public;

impl Selects for Public {
    fn selects(&self, table: &TableName) -> bool {
        table.schema == "public" && !table.table.starts_with("other")
    }

    fn selects_schema(&self, schema: &str) -> bool {
        schema == "public"
    }
}

/// What was read, one line for each change: `+t 1,a`, `*t 1,a > 1,b`, `-t 1`, `0t`; transactions end with `;`.
pub struct Reading {
    pub source: WalSource,
    pub batch: BatchBuilder,
    pub place: Position,
    pub lines: Vec<String>,
    schemas: SchemaMap,
}

impl Reading {
    pub async fn open(mut source: WalSource, start: &Position) -> Result<Self> {
        source.open(start, &[]).await?;
        Ok(Self {
            source,
            batch: BatchBuilder::new(),
            place: start.clone(),
            lines: Vec::new(),
            schemas: SchemaMap::default(),
        })
    }

    pub async fn read(&mut self) -> Result<ReadOutcome> {
        let read = tokio::time::timeout(DEADLINE, self.source.read(&mut self.batch)).await;
        let outcome = read.expect("something to read within the deadline")?;
        if let ReadOutcome::Commit { position } = &outcome {
            self.place = position.clone();
        }
        let batch = self.batch.seal();
        for event in batch.events() {
            let line = match event.unwrap() {
                EventRef::Schema { encoded, .. } => {
                    self.schemas.insert(freshet_core::TableSchema::decode(encoded).unwrap().into()).unwrap();
                    continue;
                }
                EventRef::Begin { .. } => continue,
                EventRef::Commit(_) => ";".to_owned(),
                EventRef::Insert { schema, after } => self.line("+", schema, &[after]),
                EventRef::Update { schema, before, after } => self.line("*", schema, &[before, after]),
                EventRef::Delete { schema, before } => self.line("-", schema, &[before]),
                EventRef::Truncate(table) => format!("0{}", table.table),
                EventRef::Statement(_) => panic!("nothing makes statements"),
            };
            self.lines.push(line);
        }
        Ok(outcome)
    }

    fn line(&self, kind: &str, schema: freshet_core::SchemaId, images: &[&[u8]]) -> String {
        let schema = self.schemas.get(schema).expect("announced");
        let image = |image: &&[u8]| {
            let cells: Vec<String> =
                RowRef::new(schema, image).cells().map(|cell| text(cell.unwrap())).collect();
            cells.join(",")
        };
        let images: Vec<String> = images.iter().map(image).collect();
        format!("{kind}{} {}", schema.name().table, images.join(" > "))
    }

    /// Reads until so many transactions with changes are whole.
    pub async fn until(&mut self, transactions: usize) {
        while self.transactions() < transactions {
            self.read().await.unwrap();
        }
        assert_eq!(self.transactions(), transactions, "{:?}", self.lines);
    }

    fn transactions(&self) -> usize {
        self.lines.iter().filter(|line| *line == ";").count()
    }

    pub fn taken(&mut self) -> Vec<String> {
        std::mem::take(&mut self.lines)
    }
}

/// A cell; `~` is one that is not in the image.
pub fn text(cell: ValueRef<'_>) -> String {
    match cell {
        ValueRef::Null => "null".to_owned(),
        ValueRef::Absent => "~".to_owned(),
        ValueRef::Int(v) => v.to_string(),
        ValueRef::UInt(v) => v.to_string(),
        ValueRef::Text(v) | ValueRef::Decimal(v) if v.len() > 100 => format!("{}..{}", &v[..3], v.len()),
        ValueRef::Text(v) | ValueRef::Decimal(v) => v.to_owned(),
        other => format!("{other:?}"),
    }
}
