//! A server that tests share, databases of their own, and short ways to what they need.

use freshet_core::codec::{BatchBuilder, EventRef, RowRef};
use freshet_core::error::Error;
use freshet_core::schema::TableName;
use freshet_core::source::Selects;
use freshet_core::table::{Chunk, ChunkReader, TableInfo, TableReader, View};
use freshet_core::{Result, ValueRef};
use freshet_postgres::{ConnectOptions, PostgresTableReader, ReaderOptions};
use freshet_testkit::servers::{Postgres, PostgresOptions};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

pub fn server() -> &'static Postgres {
    static SERVER: OnceLock<Postgres> = OnceLock::new();
    SERVER.get_or_init(|| Postgres::start(PostgresOptions::default()))
}

/// A database of one test.
pub struct Database<'a> {
    pub server: &'a Postgres,
    pub name: String,
}

impl Database<'static> {
    /// On the shared server, after these statements.
    pub fn new(sql: &str) -> Self {
        Database::on(server(), sql)
    }
}

impl<'a> Database<'a> {
    pub fn on(server: &'a Postgres, sql: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("source{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        server.sql(&format!("create database {name}"));
        let database = Self { server, name };
        database.sql(sql);
        database
    }

    #[track_caller]
    pub fn sql(&self, sql: &str) -> String {
        self.server.sql_in(&self.name, sql)
    }

    pub fn options(&self) -> ReaderOptions {
        self.options_of("postgres")
    }

    pub fn options_of(&self, role: &str) -> ReaderOptions {
        let mut connect = ConnectOptions::new("127.0.0.1", role, &self.name);
        connect.port = self.server.port();
        ReaderOptions::new(connect, "shop")
    }

    pub fn reader(&self) -> PostgresTableReader {
        PostgresTableReader::new(self.options())
    }

    pub async fn view(&self, readers: usize) -> View {
        self.reader().view(&Everything, readers).await.unwrap()
    }

    pub async fn catalogue(&self) -> Vec<TableInfo> {
        self.reader().tables(&Everything).await.unwrap()
    }

    /// The only table, as the catalogue has it.
    pub async fn table(&self, name: &str) -> TableInfo {
        find(&self.catalogue().await, name)
    }
}

/// `name` in schema `public`, or `schema.name`.
pub fn find(tables: &[TableInfo], name: &str) -> TableInfo {
    let (schema, table) = name.split_once('.').unwrap_or(("public", name));
    let wanted = TableName::new(schema, table);
    tables.iter().find(|info| *info.name() == wanted).unwrap_or_else(|| panic!("no {wanted}")).clone()
}

/// Every table there is.
pub struct Everything;

impl Selects for Everything {
    fn selects(&self, _: &TableName) -> bool {
        true
    }

    fn selects_schema(&self, _: &str) -> bool {
        true
    }
}

/// Tables of these names.
pub struct Only(pub &'static [&'static str]);

impl Selects for Only {
    fn selects(&self, table: &TableName) -> bool {
        self.0.contains(&table.table.as_str())
    }

    fn selects_schema(&self, _: &str) -> bool {
        true
    }
}

/// A value as text: what it is, and nothing that psql would have printed for us.
pub fn text(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => "NULL".into(),
        ValueRef::Absent => "ABSENT".into(),
        ValueRef::Undecodable(bytes) => format!("undecodable {bytes:?}"),
        ValueRef::Bool(v) => v.to_string(),
        ValueRef::Int(v) => v.to_string(),
        ValueRef::UInt(v) => v.to_string(),
        ValueRef::Float32(v) => format!("{v:?}"),
        ValueRef::Float64(v) => format!("{v:?}"),
        ValueRef::Decimal(v) | ValueRef::Text(v) => v.to_owned(),
        ValueRef::Date(v) => v.to_string(),
        ValueRef::Time(v) => v.to_string(),
        ValueRef::TimeTz(v, zone_s) => format!("{v} {zone_s}"),
        ValueRef::DateTime(v) => v.to_string(),
        ValueRef::Timestamp(v) => v.to_string(),
        ValueRef::Interval(v) => format!("{} months {} days {} us", v.months, v.days, v.micros),
        ValueRef::Bytes(v) => v.iter().map(|byte| format!("{byte:02x}")).collect(),
        ValueRef::Enum(v) => v.to_string(),
        ValueRef::Set(v) => v.to_string(),
    }
}

/// The rows of a chunk, in small batches.
pub async fn read_chunk(
    reader: &mut dyn ChunkReader,
    table: &TableInfo,
    chunk: &Chunk,
) -> Result<Vec<Vec<String>>> {
    reader.open(table, chunk).await?;
    let (mut batch, mut rows, mut more) = (BatchBuilder::new(), Vec::new(), true);
    while more {
        more = reader.read(&mut batch, 1_000).await?;
        let sealed = batch.seal();
        for event in sealed.events() {
            let EventRef::Insert { schema, after } = event.unwrap() else { panic!("a load is inserts") };
            assert_eq!(schema, table.schema.id());
            let row = RowRef::new(&table.schema, after);
            row.validate().unwrap();
            let cells = 0..table.schema.columns().len();
            rows.push(cells.map(|at| text(row.get(at).unwrap())).collect());
        }
    }
    Ok(rows)
}

/// The rows of a table in chunks of about so many, sorted.
pub async fn read_table(
    reader: &mut dyn ChunkReader,
    table: &TableInfo,
    chunk_rows: u64,
) -> Result<Vec<Vec<String>>> {
    let mut rows = Vec::new();
    for chunk in &reader.plan(table, chunk_rows).await? {
        rows.extend(read_chunk(reader, table, chunk).await?);
    }
    rows.sort();
    Ok(rows)
}

/// Kind, message and hint of an error, for tests that look for words in it.
pub fn words(error: &Error) -> String {
    format!("{:?}: {error} / {}", error.kind(), error.hint().unwrap_or(""))
}

/// Asks until it is so; what takes five minutes never comes.
#[track_caller]
pub fn until(mut is_so: impl FnMut() -> bool) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    async move {
        let since = Instant::now();
        while !is_so() {
            assert!(since.elapsed() < Duration::from_secs(300), "it never came to be: {caller}");
            tokio::task::yield_now().await;
        }
    }
}
