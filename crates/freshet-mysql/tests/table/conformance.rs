//! The table reader's conformance suite on both servers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};

use async_trait::async_trait;
use freshet_core::schema::TableName;
use freshet_core::source::{Selects, Source};
use freshet_core::table::TableReader;
use freshet_mysql::source::{BinlogSource, SourceOptions};
use freshet_mysql::table::{MysqlTableReader, ViewMethod};
use freshet_mysql::wire::Connection;
use freshet_testkit::conformance::table::{TableRig, TwoColumns, table_reader_conforms};
use freshet_testkit::servers::MyServer;
use tokio::task::JoinHandle;

use super::common::{flavour, mariadb, mysql, options, root};

const WRITERS: usize = 6;

struct Named(String);

impl Selects for Named {
    fn selects(&self, table: &TableName) -> bool {
        table.schema == self.0
    }

    fn selects_schema(&self, schema: &str) -> bool {
        schema == self.0
    }
}

struct Writing {
    stop: Arc<AtomicBool>,
    next: Arc<AtomicI64>,
    writers: Vec<JoinHandle<()>>,
}

struct Rig {
    server: &'static MyServer,
    database: String,
    connection: Connection,
    writing: Option<Writing>,
}

impl Rig {
    async fn new(server: &'static MyServer) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let database = format!("rig_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        server.sql(&format!(
            "create database {database}; use {database}; create table keyed (id bigint primary key, v bigint not null); \
             create table keyless (id bigint, v bigint)"
        ));
        Self { server, database, connection: root(server).await, writing: None }
    }
}

#[async_trait]
impl TableRig for Rig {
    fn reader(&self, exact: bool) -> Box<dyn TableReader> {
        // Two bounds need keys: tables without one are read under the lock only.
        let method = if exact { ViewMethod::Lock } else { ViewMethod::NoLock };
        Box::new(MysqlTableReader::new(options(self.server), flavour(self.server)).with_method(method))
    }

    fn views_under_writes(&self) -> usize {
        40
    }

    fn source(&self) -> Box<dyn Source> {
        let options = SourceOptions {
            heartbeat_ms: 100,
            ..SourceOptions::new(options(self.server), flavour(self.server))
        };
        Box::new(BinlogSource::new(options, Arc::new(Named(self.database.clone()))))
    }

    fn tables(&self) -> (TableName, TableName) {
        (TableName::new(&self.database, "keyed"), TableName::new(&self.database, "keyless"))
    }

    fn selection(&self) -> Box<dyn Selects> {
        Box::new(Named(self.database.clone()))
    }

    async fn insert(&mut self, table: &TableName, rows: &[TwoColumns]) {
        let rows: Vec<String> = rows.iter().map(|(key, value)| format!("({key}, {value})")).collect();
        let sql = format!("INSERT INTO {table} VALUES {}", rows.join(", "));
        self.connection.exec(&sql).await.unwrap();
    }

    async fn delete(&mut self, keys: &[i64]) {
        let keys: Vec<String> = keys.iter().map(i64::to_string).collect();
        let sql = format!("DELETE FROM {}.keyed WHERE id IN ({})", self.database, keys.join(", "));
        self.connection.exec(&sql).await.unwrap();
    }

    async fn start_writing(&mut self, first: i64) {
        self.connection.exec(&format!("DROP TABLE {}.keyless", self.database)).await.unwrap();
        let (stop, next) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI64::new(first)));
        let mut writers = Vec::new();
        for _ in 0..WRITERS {
            let mut connection = root(self.server).await;
            let (stop, next, database) = (stop.clone(), next.clone(), self.database.clone());
            writers.push(tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    connection
                        .exec(&format!("INSERT INTO {database}.keyed VALUES ({n}, {n})"))
                        .await
                        .unwrap();
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
        self.connection.exec(&format!("DROP TABLE {}.keyed", self.database)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_reader_conforms_on_mariadb() {
    table_reader_conforms(async || Rig::new(mariadb()).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_reader_conforms_on_mysql() {
    table_reader_conforms(async || Rig::new(mysql()).await).await;
}
