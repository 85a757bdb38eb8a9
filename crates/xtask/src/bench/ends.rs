//! Either end of freshet in a bench, whichever server it is: what a pipeline's file says of it, how its state is kept
//! and put back between rounds, how it is summed up and waited for.
//!
//! A source has the database `bench`. A target has the database `warehouse` and freshet's control schema, and nothing
//! else of freshet.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use freshet_testkit::servers::{MyServer, poll_until};

use super::measure::Server;
use super::work::{self, Backlog};
use super::world;

/// The target database, and the copy that a round starts from.
pub const DATABASE: &str = "warehouse";
const SAVED: &str = "warehouse_saved";
/// Slot and publication of the pipeline `bench`, and the slot that a round starts from.
const SLOT: &str = "freshet_bench";
const SLOT_SAVED: &str = "freshet_saved";

/// As a source.
impl Server<'_> {
    /// Keys of the pipeline's file.
    pub fn yaml_source(self) -> String {
        match self {
            Server::My(server) => format!("type: mariadb, host: 127.0.0.1, port: {}", server.port()),
            Server::Pg(server) => {
                format!("type: postgres, host: 127.0.0.1, port: {}, database: bench", server.port())
            }
        }
    }

    /// The schema of the captured tables.
    pub fn schema(self) -> &'static str {
        match self {
            Server::My(_) => "bench",
            Server::Pg(_) => "public",
        }
    }

    /// Writes `rows` rows of `t`: what is there before anything is measured.
    pub fn fill(self, rows: u64) -> anyhow::Result<()> {
        match self {
            Server::My(server) => world::fill_mariadb(server, rows),
            Server::Pg(server) => world::fill_postgres(server, rows),
        }
    }

    /// Writes a backlog and the mark.
    pub fn write(self, backlog: Backlog) -> anyhow::Result<()> {
        match self {
            Server::My(server) => world::write_mariadb(server, backlog),
            Server::Pg(server) => world::write_postgres(server, backlog),
        }
    }

    /// Writes a mark alone.
    pub fn write_mark(self, id: u64) -> anyhow::Result<()> {
        match self {
            Server::My(server) => server.try_sql(&format!("insert into bench.mark values ({id})"))?,
            Server::Pg(server) => server.try_sql_in("bench", &format!("insert into mark values ({id})"))?,
        };
        Ok(())
    }

    /// Count and checksum of `t`.
    pub fn source_sum(self) -> anyhow::Result<String> {
        Ok(match self {
            Server::My(server) => server.try_sql(&work::mariadb_sum("bench"))?,
            Server::Pg(server) => server.try_sql_in("bench", &work::postgres_sum("public"))?,
        })
    }

    /// Keeps how far the source has been read.
    pub fn save_position(self) -> anyhow::Result<()> {
        self.copy_slot(SLOT, SLOT_SAVED)
    }

    /// Goes back to where it was.
    pub fn restore_position(self) -> anyhow::Result<()> {
        self.copy_slot(SLOT_SAVED, SLOT)
    }

    fn copy_slot(self, from: &str, to: &str) -> anyhow::Result<()> {
        let Server::Pg(server) = self else { return Ok(()) };
        world::drop_slot(server, to)?;
        let sql = format!("select pg_copy_logical_replication_slot('{from}', '{to}')");
        server.try_sql_in("bench", &sql)?;
        Ok(())
    }

    /// Removes what freshet made on it.
    pub fn forget_source(self) -> anyhow::Result<()> {
        let Server::Pg(server) = self else { return Ok(()) };
        world::drop_slot(server, SLOT)?;
        server.try_sql_in("bench", &format!("drop publication if exists {SLOT}"))?;
        Ok(())
    }
}

/// As a target.
impl Server<'_> {
    /// Keys of the pipeline's file, for tables of this schema.
    pub fn yaml_target(self, schema: &str) -> String {
        match self {
            Server::My(server) => format!(
                "type: mariadb, host: 127.0.0.1, port: {}, schemas: {{ {schema}: {DATABASE} }}",
                server.port()
            ),
            Server::Pg(server) => format!(
                "type: postgres, host: 127.0.0.1, port: {}, database: {DATABASE}, schemas: {{ {schema}: public }}",
                server.port()
            ),
        }
    }

    /// Nothing has ever been written.
    pub fn forget_target(self) -> anyhow::Result<()> {
        match self {
            Server::My(server) => drop_databases(server),
            Server::Pg(server) => world::database(server, DATABASE, None),
        }
    }

    /// Keeps the state of now. A MariaDB's is kept as statements: it is meant to be small.
    pub fn save_target(self, dir: &Path) -> anyhow::Result<()> {
        match self {
            Server::My(server) => dump(server, &dir.join("target.sql")),
            Server::Pg(server) => world::database(server, SAVED, Some(DATABASE)),
        }
    }

    /// Goes back to the state that was kept.
    pub fn restore_target(self, dir: &Path) -> anyhow::Result<()> {
        match self {
            Server::My(server) => {
                drop_databases(server)?;
                let path = dir.join("target.sql");
                server.try_sql(&format!("source {}", path.display()))?;
                Ok(())
            }
            Server::Pg(server) => world::database(server, DATABASE, Some(SAVED)),
        }
    }

    /// Count and checksum of `t`.
    pub fn target_sum(self) -> anyhow::Result<String> {
        Ok(match self {
            Server::My(server) => server.try_sql(&work::mariadb_sum(DATABASE))?,
            Server::Pg(server) => server.try_sql_in(DATABASE, &work::postgres_sum("public"))?,
        })
    }

    /// Waits for a mark and returns when it was visible, in seconds since 1970.
    pub fn wait_for_mark(self, id: u64, deadline_s: u64) -> anyhow::Result<f64> {
        match self {
            Server::My(server) => world::wait_for_mark_mariadb(server, DATABASE, id, deadline_s),
            Server::Pg(server) => world::wait_for_mark(server, DATABASE, id, deadline_s),
        }
    }
}

fn drop_databases(server: &MyServer) -> anyhow::Result<()> {
    // A client that was just ended may hold a lock for a moment.
    let sql = format!(
        "set lock_wait_timeout = 20; drop database if exists {DATABASE}; drop database if exists freshet"
    );
    let mut dropped = Ok(String::new());
    poll_until(Duration::from_secs(60), || {
        dropped = server.try_sql(&sql);
        dropped.is_ok()
    });
    dropped.map(drop).context("Cannot drop the target's databases")
}

fn dump(server: &MyServer, file: &Path) -> anyhow::Result<()> {
    let mut command = std::process::Command::new("mariadb-dump");
    command.args(["--no-defaults", "--user=root", "--hex-blob", "--databases", DATABASE, "freshet"]);
    command.arg(format!("--socket={}", server.socket().display()));
    command.arg(format!("--result-file={}", file.display()));
    let output = command.output().context("Cannot run mariadb-dump")?;
    ensure!(output.status.success(), "mariadb-dump: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
