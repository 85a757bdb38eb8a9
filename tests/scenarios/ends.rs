//! Either end of a pipeline, whichever server it is: a place of a scenario's own on it, and what a pipeline file says
//! of it.
//!
//! Tables of one scenario stand in a database (MariaDB, MySQL) or in the schema `public` of one (PostgreSQL). Servers
//! are shared by the tests of a process.

use crate::kit::{PASSWORD, own_source, own_target, shared_source, shared_target};
use freshet_testkit::servers::{Flavor, MyOptions, MyServer, Postgres, PostgresOptions, Result};
use std::process::Command;
use std::sync::{Arc, OnceLock};

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    MariaDb,
    MySql,
    Postgres,
}

pub(crate) const KINDS: [Kind; 3] = [Kind::MariaDb, Kind::MySql, Kind::Postgres];

impl Kind {
    /// Of the family of MySQL.
    pub(crate) fn is_my(self) -> bool {
        self != Kind::Postgres
    }

    /// The word of a pipeline file.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Kind::MariaDb => "mariadb",
            Kind::MySql => "mysql",
            Kind::Postgres => "postgres",
        }
    }

    /// The server that scenarios read from.
    pub(crate) fn source(self) -> Server {
        match self {
            Kind::MariaDb => Server::My(shared_source(Flavor::MariaDb)),
            Kind::MySql => Server::My(shared_source(Flavor::MySql)),
            Kind::Postgres => Server::Postgres(shared_postgres_source()),
        }
    }

    /// The server that scenarios write to: another one than they read from.
    pub(crate) fn target(self) -> Server {
        static MARIADB: OnceLock<Arc<MyServer>> = OnceLock::new();
        static MYSQL: OnceLock<Arc<MyServer>> = OnceLock::new();
        let start = |flavor| move || own_source(flavor, MyOptions::default());
        match self {
            Kind::MariaDb => Server::My(Arc::clone(MARIADB.get_or_init(start(Flavor::MariaDb)))),
            Kind::MySql => Server::My(Arc::clone(MYSQL.get_or_init(start(Flavor::MySql)))),
            Kind::Postgres => Server::Postgres(shared_target()),
        }
    }
}

/// A server of a test's own, that can be a source and a target; a binlog is small so that it has many files.
pub(crate) fn own_server(kind: Kind) -> Server {
    let my = |flavor| Server::My(own_source(flavor, MyOptions::default().arg("--max-binlog-size=4M")));
    match kind {
        Kind::MariaDb => my(Flavor::MariaDb),
        Kind::MySql => my(Flavor::MySql),
        Kind::Postgres => Server::Postgres(start_postgres_source()),
    }
}

/// A PostgreSQL on which slots can be made.
pub(crate) fn start_postgres_source() -> Arc<Postgres> {
    let options =
        PostgresOptions::default().set("wal_level", "logical").set("max_prepared_transactions", "10");
    own_target(options.set("max_replication_slots", "100").set("max_wal_senders", "100"))
}

pub(crate) fn shared_postgres_source() -> Arc<Postgres> {
    static SOURCE: OnceLock<Arc<Postgres>> = OnceLock::new();
    Arc::clone(SOURCE.get_or_init(start_postgres_source))
}

/// A running server.
#[derive(Clone)]
pub(crate) enum Server {
    My(Arc<MyServer>),
    Postgres(Arc<Postgres>),
}

impl Server {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Server::My(server) if server.flavor() == Flavor::MariaDb => Kind::MariaDb,
            Server::My(_) => Kind::MySql,
            Server::Postgres(_) => Kind::Postgres,
        }
    }

    pub(crate) fn kill_and_restart(&self) {
        match self {
            Server::My(server) => {
                server.kill9();
                server.restart();
            }
            Server::Postgres(server) => {
                server.kill9();
                server.restart();
            }
        }
    }

    pub(crate) fn port(&self) -> u16 {
        match self {
            Server::My(server) => server.port(),
            Server::Postgres(server) => server.port(),
        }
    }
}

/// A place on a server.
#[derive(Clone)]
pub(crate) struct End {
    pub server: Server,
    pub name: String,
}

impl End {
    /// Makes the place.
    pub(crate) fn make(server: Server, name: &str) -> Self {
        match &server {
            Server::My(server) => {
                server.sql(&format!(
                    "create database {name} character set utf8mb4; grant all on {name}.* to freshet"
                ));
                server.sql("grant select, insert, update, delete, create on freshet.* to freshet");
            }
            Server::Postgres(server) => {
                server.sql(&format!("create database {name} owner freshet"));
                // Two of these at one time fail.
                server.sql("select pg_advisory_lock(1); alter role freshet replication");
            }
        }
        Self { server, name: name.to_owned() }
    }

    /// The schema that its tables are in.
    pub(crate) fn schema(&self) -> &str {
        match self.server {
            Server::My(_) => &self.name,
            Server::Postgres(_) => "public",
        }
    }

    /// Keys of a pipeline file, reached at this port.
    pub(crate) fn yaml(&self, port: u16) -> String {
        let database = match self.server {
            Server::My(_) => String::new(),
            Server::Postgres(_) => format!("database: {}, ", self.name),
        };
        let kind = self.server.kind().word();
        format!(
            "type: {kind}, host: 127.0.0.1, port: {port}, {database}user: freshet, password: {PASSWORD}, tls: disable"
        )
    }

    /// Statements in the place, as its owner.
    pub(crate) fn try_sql(&self, sql: &str) -> Result<String> {
        match &self.server {
            Server::My(server) => server.try_sql(&format!("use {}; {sql}", self.name)),
            Server::Postgres(server) => server.try_sql_in(&self.name, &format!("set role freshet; {sql}")),
        }
    }

    #[track_caller]
    pub(crate) fn sql(&self, sql: &str) -> String {
        self.try_sql(sql).unwrap_or_else(|error| panic!("{sql:.2000}: {error}"))
    }

    /// The client, in the place.
    pub(crate) fn client(&self) -> Command {
        match &self.server {
            Server::My(server) => {
                let mut command = server.client();
                command.arg(&self.name);
                command
            }
            Server::Postgres(server) => server.client(&self.name),
        }
    }

    /// Removes the place.
    #[track_caller]
    pub(crate) fn remove(&self) {
        let name = &self.name;
        match &self.server {
            Server::My(server) => server.sql(&format!("drop database {name}")),
            Server::Postgres(server) => server.sql(&format!("drop database {name} with (force)")),
        };
    }

    /// A number that the client prints; nothing when the statement fails, as before a table is there.
    pub(crate) fn number(&self, sql: &str) -> Option<i64> {
        self.try_sql(sql).ok()?.trim().parse().ok()
    }
}
