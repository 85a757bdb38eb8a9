//! What the tests share: a server of each flavour, a place on it that is a test's own, rows read by the client's eye.

use async_trait::async_trait;
use freshet_core::TableName;
use freshet_core::sink::Sink;
use freshet_mysql::sink::{MySqlSink, SinkOptions};
use freshet_mysql::wire::{ConnectOptions, Secret};
use freshet_testkit::conformance::sink::{Target, TextRow};
use freshet_testkit::servers::{Flavor, MyOptions, MyServer};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::sync::{Mutex, MutexGuard};

pub const FLAVORS: [Flavor; 2] = [Flavor::MariaDb, Flavor::MySql];

static PLACES: AtomicU32 = AtomicU32::new(0);

/// The server of a flavour, which need not outlive a loss of power, with the account `sink`, which has what [`freshet_mysql::sink::grants`] gives.
pub fn shared(flavor: Flavor) -> &'static MyServer {
    static MARIADB: OnceLock<MyServer> = OnceLock::new();
    static MYSQL: OnceLock<MyServer> = OnceLock::new();
    let cell = match flavor {
        Flavor::MariaDb => &MARIADB,
        Flavor::MySql => &MYSQL,
    };
    cell.get_or_init(|| {
        let server = MyServer::start(
            flavor,
            MyOptions::default().arg("--innodb-flush-log-at-trx-commit=0").arg("--sync-binlog=0"),
        );
        server.sql(ACCOUNT);
        server
    })
}

/// A place of a test's own on a shared server: a control schema, and the database `target` while it is held.
pub struct Place {
    pub server: &'static MyServer,
    pub control_schema: String,
    _target: Option<MutexGuard<'static, ()>>,
}

/// The account that [`Place::options`] connects as.
const ACCOUNT: &str = "create user sink identified by 'sink'; grant select, insert, update, delete, create, drop, alter, \
     index, references, trigger on *.* to sink";

impl Place {
    /// A place on a server of the test's own, which outlives it.
    pub fn on_a_server_of_its_own(flavor: Flavor) -> Self {
        let server = Box::leak(Box::new(MyServer::start(flavor, MyOptions::default())));
        server.sql(ACCOUNT);
        Self { server, control_schema: "freshet".to_owned(), _target: None }
    }

    pub async fn new(flavor: Flavor) -> Self {
        static MARIADB: Mutex<()> = Mutex::const_new(());
        static MYSQL: Mutex<()> = Mutex::const_new(());
        let lock = match flavor {
            Flavor::MariaDb => MARIADB.lock(),
            Flavor::MySql => MYSQL.lock(),
        };
        let target = lock.await;
        let server = shared(flavor);
        server.sql("drop database if exists target");
        let control_schema = format!("freshet{}", PLACES.fetch_add(1, Ordering::Relaxed));
        Self { server, control_schema, _target: Some(target) }
    }

    pub fn options(&self) -> SinkOptions {
        self.options_at(self.server.port())
    }

    /// Options of a sink that connects to this port instead.
    pub fn options_at(&self, port: u16) -> SinkOptions {
        let password = Some(Secret::new("sink"));
        let connect = ConnectOptions { port, password, ..ConnectOptions::new("127.0.0.1", "sink") };
        SinkOptions {
            control_schema: self.control_schema.clone(),
            ..SinkOptions::new("shop", "warehouse", connect)
        }
    }

    pub fn mysql_sink(&self) -> MySqlSink {
        MySqlSink::new(self.options())
    }

    pub fn lines(&self, sql: &str) -> Vec<String> {
        self.server.sql(sql).lines().map(str::to_owned).collect()
    }
}

#[async_trait]
impl Target for Place {
    fn sink(&self) -> Box<dyn Sink> {
        Box::new(self.mysql_sink())
    }

    async fn rows(&self, table: &TableName) -> Vec<TextRow> {
        let out = self.server.sql(&format!("select * from {}.{}", table.schema, table.table));
        let cell = |c: &str| (c != "NULL").then(|| c.to_owned());
        let mut rows: Vec<TextRow> = out.lines().map(|line| line.split('\t').map(cell).collect()).collect();
        rows.sort();
        rows
    }
}
