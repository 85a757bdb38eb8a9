//! The conformance suite of sources. A slot has one reader and forgets what it was told is durable, so every source of
//! the suite has a copy of one slot that nobody reads. That every place is gone on from exactly is P1 and P2, that what is
//! not captured moves it is P4.

use crate::harness::{DEADLINE, Public, start_with};
use async_trait::async_trait;
use freshet_core::Position;
use freshet_core::source::Source;
use freshet_postgres::{ConnectOptions, WalSource, WalSourceOptions};
use freshet_testkit::conformance::source::{Change, SourceRig, source_conforms};
use freshet_testkit::servers::{Postgres, PostgresOptions, poll_until};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

struct Rig {
    server: Postgres,
    /// A copy of the data before the last commit.
    backup: PathBuf,
    slots: AtomicU32,
}

impl Rig {
    async fn new(options: PostgresOptions) -> Self {
        let server = start_with(options);
        server.sql("create table captured (id bigint primary key); create table other (id int)");
        let backup = server.dir().join("backup");
        let rig = Self { server, backup, slots: AtomicU32::new(0) };
        WalSource::new(rig.options("base"), Arc::new(Public)).begin().await.expect("begins");
        rig
    }

    fn options(&self, slot: &str) -> WalSourceOptions {
        let mut connect = ConnectOptions::new("127.0.0.1", "postgres", "postgres");
        connect.port = self.server.port();
        let mut options = WalSourceOptions::new(connect, "conform");
        options.slot = slot.to_owned();
        options.batch_bytes_max = 64 << 10;
        options
    }
}

#[async_trait]
impl SourceRig for Rig {
    fn source(&self) -> Box<dyn Source> {
        let slot = format!("copy{}", self.slots.fetch_add(1, Ordering::Relaxed));
        self.server.sql(&format!("select pg_copy_logical_replication_slot('base', '{slot}')"));
        Box::new(WalSource::new(self.options(&slot), Arc::new(Public)))
    }

    async fn now(&mut self) -> Position {
        WalSource::new(self.options("base"), Arc::new(Public)).tip().await.expect("a tip")
    }

    async fn commit(&mut self, changes: &[Change]) {
        let mut sql = String::from("begin;");
        for change in changes {
            sql.push_str(&match change {
                Change::Insert(id) => format!("insert into captured values ({id});"),
                Change::Update(id, new) => format!("update captured set id = {new} where id = {id};"),
                Change::Delete(id) => format!("delete from captured where id = {id};"),
            });
        }
        self.server.sql(&format!("{sql} commit"));
    }

    async fn commit_elsewhere(&mut self) {
        self.server.sql("insert into other values (1)");
    }

    async fn cut(&mut self) {
        let cut = "select pg_terminate_backend(pid) from pg_stat_replication";
        poll_until(DEADLINE, || self.server.sql(cut).is_empty());
    }

    async fn purge(&mut self) {
        self.server.sql("select pg_replication_slot_advance('base', pg_current_wal_flush_lsn())");
    }

    async fn before_the_commit_to_lose(&mut self) {
        self.cut().await;
        self.server.stop();
        copy(self.server.data_dir(), &self.backup);
        self.server.restart();
    }

    async fn lose_last_commit(&mut self) {
        // A server that is stopped waits until its readers have confirmed everything.
        self.cut().await;
        self.server.stop();
        std::fs::remove_dir_all(self.server.data_dir()).unwrap();
        copy(&self.backup, self.server.data_dir());
        self.server.restart();
    }
}

/// A copy with owners and modes.
fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn p1_p2_p4_the_wal_source_conforms() {
    source_conforms(async || Rig::new(PostgresOptions::default()).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p1_p2_p4_the_wal_source_conforms_on_17() {
    source_conforms(async || Rig::new(PostgresOptions::default().version(17)).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p1_p2_p4_the_wal_source_conforms_on_18() {
    source_conforms(async || Rig::new(PostgresOptions::default().version(18)).await).await;
}
