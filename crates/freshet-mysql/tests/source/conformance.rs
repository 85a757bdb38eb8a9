//! The conformance suite of sources, over both servers.

use std::sync::Arc;

use async_trait::async_trait;
use freshet_core::Position;
use freshet_core::source::Source;
use freshet_mysql::source::{BinlogSource, SourceOptions};
use freshet_testkit::conformance::source::{Change, SourceRig, source_conforms};
use freshet_testkit::servers::{Flavor, MyOptions, MyServer, poll_until};

use crate::harness::{DEADLINE, Database, copy, now, options, start};

struct Rig {
    server: MyServer,
    /// A copy of the data before the last commit.
    backup: std::path::PathBuf,
}

impl Rig {
    fn new(flavor: Flavor) -> Self {
        let server = start(flavor, MyOptions::default());
        server.sql("create database conform; create table conform.captured (id bigint primary key); create table conform.other (id int)");
        let backup = server.dir().join("backup");
        Self { server, backup }
    }
}

struct Captured;

impl freshet_core::source::Selects for Captured {
    fn selects(&self, table: &freshet_core::TableName) -> bool {
        Database("conform").selects(table) && table.table == "captured"
    }

    fn selects_schema(&self, schema: &str) -> bool {
        Database("conform").selects_schema(schema)
    }
}

#[async_trait]
impl SourceRig for Rig {
    fn source(&self) -> Box<dyn Source> {
        let parts = SourceOptions { batch_bytes_max: 64 << 10, ..options(&self.server) };
        Box::new(BinlogSource::new(parts, Arc::new(Captured)))
    }

    async fn now(&mut self) -> Position {
        now(&self.server).await
    }

    async fn commit(&mut self, changes: &[Change]) {
        let mut sql = String::from("use conform; start transaction; ");
        let mut inserts = Vec::new();
        for change in changes {
            match change {
                Change::Insert(id) => inserts.push(format!("({id})")),
                Change::Update(_, _) | Change::Delete(_) => {}
            }
        }
        if inserts.len() == changes.len() {
            sql.push_str(&format!("insert into captured values {}; ", inserts.join(",")));
        } else {
            for change in changes {
                sql.push_str(&match change {
                    Change::Insert(id) => format!("insert into captured values ({id}); "),
                    Change::Update(id, new) => format!("update captured set id = {new} where id = {id}; "),
                    Change::Delete(id) => format!("delete from captured where id = {id}; "),
                });
            }
        }
        sql.push_str("commit");
        self.server.sql(&sql);
    }

    async fn commit_elsewhere(&mut self) {
        self.server.sql("insert into conform.other values (1)");
    }

    async fn cut(&mut self) {
        let dumps = "select id from information_schema.processlist where command like 'Binlog Dump%'";
        poll_until(DEADLINE, || {
            let ids = self.server.sql(dumps);
            ids.lines().for_each(|id| drop(self.server.try_sql(&format!("kill {id}"))));
            ids.is_empty()
        });
    }

    async fn purge(&mut self) {
        self.server.sql("flush binary logs");
        // A file that a dump still reads, or that is not checkpointed yet, is kept at first.
        let purged = poll_until(DEADLINE, || {
            let files = self.server.sql("show binary logs");
            let newest = files.lines().last().and_then(|line| line.split('\t').next()).unwrap();
            self.server.sql(&format!("purge binary logs to '{newest}'"));
            files.lines().count() == 1
        });
        assert!(purged, "the binlog was not purged");
    }

    async fn before_the_commit_to_lose(&mut self) {
        self.server.stop();
        copy(self.server.data_dir(), &self.backup);
        self.server.restart();
    }

    async fn lose_last_commit(&mut self) {
        self.server.stop();
        std::fs::remove_dir_all(self.server.data_dir()).unwrap();
        copy(&self.backup, self.server.data_dir());
        self.server.restart();
    }
}

#[tokio::test]
async fn mariadb_conforms() {
    source_conforms(async || Rig::new(Flavor::MariaDb)).await;
}

#[tokio::test]
async fn mysql_conforms() {
    source_conforms(async || Rig::new(Flavor::MySql)).await;
}
