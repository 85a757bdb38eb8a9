//! The table reader's conformance suite. A slot has one reader at a time, so every source of the suite has a copy of
//! one slot that nobody reads.

use super::common::Database;
use async_trait::async_trait;
use freshet_core::schema::TableName;
use freshet_core::source::{Selects, Source};
use freshet_core::table::TableReader;
use freshet_postgres::{WalSource, WalSourceOptions};
use freshet_testkit::conformance::table::{TableRig, TwoColumns, table_reader_conforms};
use freshet_testkit::servers::{Postgres, PostgresOptions};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls};

const WRITERS: usize = 6;

/// The tables of the suite; `stranger` is there too.
struct Selected;

impl Selects for Selected {
    fn selects(&self, table: &TableName) -> bool {
        table.schema == "public" && table.table.starts_with("key")
    }

    fn selects_schema(&self, schema: &str) -> bool {
        schema == "public"
    }
}

struct Writing {
    stop: Arc<AtomicBool>,
    next: Arc<AtomicI64>,
    writers: Vec<JoinHandle<()>>,
}

struct Rig {
    database: Database<'static>,
    client: Client,
    slots: AtomicU32,
    writing: Option<Writing>,
}

async fn client(database: &Database<'_>) -> Client {
    let text = database.server.conn_string(&database.name);
    let (client, connection) = tokio_postgres::connect(&text, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

impl Rig {
    async fn new(server: &'static Postgres) -> Self {
        let database = Database::on(
            server,
            "create table keyed (id bigint primary key, v bigint not null); create table keyless (id bigint, v bigint); \
             alter table keyless replica identity full; create table stranger (id bigint primary key)",
        );
        let client = client(&database).await;
        let rig = Self { database, client, slots: AtomicU32::new(0), writing: None };
        WalSource::new(rig.source_options("base"), Arc::new(Selected)).begin().await.unwrap();
        rig
    }

    fn slot(&self, name: &str) -> String {
        format!("{}_{name}", self.database.name)
    }

    fn source_options(&self, slot: &str) -> WalSourceOptions {
        let reader = self.database.options();
        WalSourceOptions { slot: self.slot(slot), ..WalSourceOptions::new(reader.connect, "shop") }
    }
}

#[async_trait]
impl TableRig for Rig {
    fn reader(&self, _exact: bool) -> Box<dyn TableReader> {
        Box::new(self.database.reader()) // Views of PostgreSQL have one bound
    }

    fn views_under_writes(&self) -> usize {
        40
    }

    fn source(&self) -> Box<dyn Source> {
        let name = format!("copy{}", self.slots.fetch_add(1, Ordering::Relaxed));
        let (base, copy) = (self.slot("base"), self.slot(&name));
        self.database.sql(&format!("select pg_copy_logical_replication_slot('{base}', '{copy}')"));
        Box::new(WalSource::new(self.source_options(&name), Arc::new(Selected)))
    }

    fn tables(&self) -> (TableName, TableName) {
        (TableName::new("public", "keyed"), TableName::new("public", "keyless"))
    }

    fn selection(&self) -> Box<dyn Selects> {
        Box::new(Selected)
    }

    async fn insert(&mut self, table: &TableName, rows: &[TwoColumns]) {
        let rows: Vec<String> = rows.iter().map(|(key, value)| format!("({key}, {value})")).collect();
        self.client.batch_execute(&format!("insert into {table} values {}", rows.join(", "))).await.unwrap();
    }

    async fn delete(&mut self, keys: &[i64]) {
        self.client.execute("delete from keyed where id = any($1)", &[&keys]).await.unwrap();
    }

    async fn start_writing(&mut self, first: i64) {
        let (stop, next) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI64::new(first)));
        let mut writers = Vec::new();
        for _ in 0..WRITERS {
            let (stop, next, client) = (stop.clone(), next.clone(), client(&self.database).await);
            writers.push(tokio::spawn(async move {
                let insert = client.prepare("insert into keyed values ($1, $1)").await.unwrap();
                while !stop.load(Ordering::Relaxed) {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    client.execute(&insert, &[&n]).await.unwrap();
                }
            }));
        }
        self.writing = Some(Writing { stop, next, writers });
    }

    async fn stop_writing(&mut self) -> i64 {
        let writing = self.writing.take().unwrap();
        writing.stop.store(true, Ordering::Relaxed);
        for writer in writing.writers {
            writer.await.unwrap();
        }
        writing.next.load(Ordering::Relaxed)
    }

    async fn drop_keyed(&mut self) {
        self.client.batch_execute("drop table keyed").await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_reader_conforms() {
    let options =
        PostgresOptions::default().set("max_replication_slots", "200").set("max_wal_senders", "200");
    let server: &'static Postgres = Box::leak(Box::new(Postgres::start(options)));
    table_reader_conforms(async || Rig::new(server).await).await;
    server.stop();
}
