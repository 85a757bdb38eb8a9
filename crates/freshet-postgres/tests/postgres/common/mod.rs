//! What the tests share: a server of their own, a database for each case, rows read by psql's own eye.

pub mod copy;
pub mod cutter;
pub mod rows;

use async_trait::async_trait;
use freshet_core::TableName;
use freshet_core::sink::Sink;
use freshet_postgres::{ConnectOptions, PostgresSink, SinkOptions};
use freshet_testkit::conformance::sink::{Target, TextRow};
use freshet_testkit::servers::{Postgres, PostgresOptions};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

static DATABASES: AtomicU32 = AtomicU32::new(0);

/// A server with the role `freshet`.
pub fn server() -> Arc<Postgres> {
    Arc::new(Postgres::start(PostgresOptions::default().with_freshet_user()))
}

/// An empty database, owned by `freshet`.
pub struct Database {
    pub server: Arc<Postgres>,
    pub name: String,
}

impl Database {
    pub fn new(server: &Arc<Postgres>) -> Self {
        let name = format!("db{}", DATABASES.fetch_add(1, Ordering::Relaxed));
        server.sql(&format!("create database {name} owner freshet"));
        Self { server: server.clone(), name }
    }

    /// The same, with a character set of its own.
    pub fn with_encoding(server: &Arc<Postgres>, encoding: &str) -> Self {
        let name = format!("db{}", DATABASES.fetch_add(1, Ordering::Relaxed));
        server.sql(&format!(
            "create database {name} owner freshet template template0 encoding '{encoding}' locale 'C'"
        ));
        Self { server: server.clone(), name }
    }

    /// Options of a sink that connects by TCP as `freshet`.
    pub fn options(&self) -> SinkOptions {
        let mut connect = ConnectOptions::new("127.0.0.1", "freshet", &self.name);
        connect.port = self.server.port();
        SinkOptions::new("shop", "warehouse", connect)
    }

    pub fn postgres_sink(&self) -> PostgresSink {
        PostgresSink::new(self.options())
    }

    pub fn sql(&self, sql: &str) -> String {
        self.server.sql_in(&self.name, sql)
    }

    pub fn lines(&self, sql: &str) -> Vec<String> {
        self.sql(sql).lines().map(str::to_owned).collect()
    }
}

#[async_trait]
impl Target for Database {
    fn sink(&self) -> Box<dyn Sink> {
        Box::new(self.postgres_sink())
    }

    async fn rows(&self, table: &TableName) -> Vec<TextRow> {
        let out = self.sql(&format!("select * from {}.{}", table.schema, table.table));
        let cell = |c: &str| (c != "NULL").then(|| c.to_owned());
        let mut rows: Vec<TextRow> = out.lines().map(|line| line.split('\t').map(cell).collect()).collect();
        rows.sort();
        rows
    }
}
