//! Servers that tests share, and short ways to what they need.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use freshet_core::error::Error;
use freshet_core::schema::TableName;
use freshet_core::source::Selects;
use freshet_mysql::server::Flavour;
use freshet_mysql::table::{MysqlTableReader, ViewMethod};
use freshet_mysql::wire::{ConnectOptions, Connection, Secret};
use freshet_testkit::servers::{Flavor, MyOptions, MyServer};

pub fn mariadb() -> &'static MyServer {
    static SERVER: OnceLock<MyServer> = OnceLock::new();
    SERVER.get_or_init(|| MyServer::start(Flavor::MariaDb, MyOptions::default().with_freshet_user()))
}

pub fn mysql() -> &'static MyServer {
    static SERVER: OnceLock<MyServer> = OnceLock::new();
    SERVER.get_or_init(|| MyServer::start(Flavor::MySql, MyOptions::default().with_freshet_user()))
}

pub fn both() -> [&'static MyServer; 2] {
    [mariadb(), mysql()]
}

pub fn flavour(server: &MyServer) -> Flavour {
    match server.flavor() {
        Flavor::MariaDb => Flavour::Mariadb,
        Flavor::MySql => Flavour::Mysql,
    }
}

pub fn options_of(server: &MyServer, user: &str, password: &str) -> ConnectOptions {
    ConnectOptions {
        port: server.port(),
        password: Some(Secret::new(password)),
        ..ConnectOptions::new("127.0.0.1", user)
    }
}

pub fn options(server: &MyServer) -> ConnectOptions {
    options_of(server, "freshet", "freshet")
}

pub async fn root(server: &MyServer) -> Connection {
    Connection::connect(&options_of(server, "root", "")).await.unwrap()
}

pub fn reader(server: &MyServer, method: ViewMethod) -> MysqlTableReader {
    MysqlTableReader::new(options(server), flavour(server)).with_method(method)
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

/// These tables.
pub struct These(pub Vec<TableName>);

impl Selects for These {
    fn selects(&self, table: &TableName) -> bool {
        self.0.contains(table)
    }

    fn selects_schema(&self, schema: &str) -> bool {
        self.0.iter().any(|table| table.schema == schema)
    }
}

/// Message and hint of an error, for tests that look for words in it.
pub fn text(error: &Error) -> String {
    format!("{:?}: {error} / {}", error.kind(), error.hint().unwrap_or(""))
}

/// A thread that writes, one round after the other, until it is dropped.
pub struct Writer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Runs `round` with the round's number, over and over.
    pub fn start(mut round: impl FnMut(u64) + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut number = 0;
            while !seen.load(Ordering::Relaxed) {
                round(number);
                number += 1;
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || matches!(ended, Some(Ok(()))), "the writer failed");
    }
}
