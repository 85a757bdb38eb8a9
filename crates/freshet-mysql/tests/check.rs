//! The check of a source against real servers: one that is right, ones where everything is wrong, and accounts with
//! the least privileges and with one less.

#![allow(clippy::unwrap_used)] // Also in the helpers of tests

#[path = "table/common.rs"]
#[allow(dead_code)]
mod common;

use std::sync::Arc;

use freshet_core::source::Source;
use freshet_core::table::TableReader;
use freshet_mysql::check::{CheckOptions, Finding, Role, Severity, check, grants};
use freshet_mysql::source::{BinlogSource, SourceOptions};
use freshet_mysql::table::{MysqlTableReader, ViewMethod};
use freshet_testkit::servers::{Flavor, MyOptions, MyServer};

use common::{Database, both, flavour, options, options_of};

async fn found(server: &MyServer, database: &'static str, role: Role) -> Vec<Finding> {
    check(&options(server), flavour(server), &Database(database), &CheckOptions::new(role)).await
}

fn codes(findings: &[Finding], severity: Severity) -> Vec<&'static str> {
    let mut codes: Vec<_> =
        findings.iter().filter(|finding| finding.severity == severity).map(|finding| finding.code).collect();
    codes.sort_unstable();
    codes.dedup();
    codes
}

#[tokio::test]
async fn a_server_that_is_right_has_no_errors() {
    for server in both() {
        server.sql("create database fine; create table fine.t (a int primary key)");
        for role in [Role::Load, Role::LoadAndStream, Role::Stream] {
            let findings = found(server, "fine", role).await;
            assert_eq!(codes(&findings, Severity::Error), [""; 0], "{findings:#?}");
        }
        let none = found(server, "no such database", Role::Load).await;
        assert_eq!(codes(&none, Severity::Error), ["no-tables"]);
    }
}

const TABLES: &str = "create database wrong; use wrong; create table keyless (a int); \
     create table m (a int primary key) engine=MyISAM; create table p (id int primary key); \
     create table c (id int primary key, p int, foreign key (p) references p (id) on delete cascade); \
     create table Upper (a int primary key); create table upper (a int primary key); \
     create table l (a int primary key, `ééééééééééééééééééééééééééééééééé` int); \
     create table x (a int primary key); xa start 'x'; insert into x values (1); xa end 'x'; xa prepare 'x'";

#[tokio::test]
async fn a_mariadb_where_all_is_wrong_has_every_fault_named() {
    let wrong = [
        "--binlog-format=STATEMENT",
        "--binlog-row-image=MINIMAL",
        "--binlog-row-metadata=NO_LOG",
        "--log-bin-compress=ON",
        "--binlog-checksum=NONE",
        "--binlog-expire-logs-seconds=60",
        "--sync-binlog=0",
        "--innodb-flush-log-at-trx-commit=2",
        "--binlog-ignore-db=wrong",
    ];
    let options = wrong.into_iter().fold(MyOptions::default(), MyOptions::arg).with_freshet_user();
    let server = MyServer::start(Flavor::MariaDb, options);
    server.sql(TABLES);
    server.sql("create table wrong.v (a int primary key) with system versioning; create table wrong.h (a int primary key, b blob unique)");
    let findings = found(&server, "wrong", Role::LoadAndStream).await;
    assert_eq!(
        codes(&findings, Severity::Error),
        [
            "binlog-compress",
            "binlog-filter",
            "binlog-format",
            "binlog-row-image",
            "binlog-row-metadata",
            "cascade",
            "engine",
            "hidden-column",
            "long-name",
            "system-versioned",
            "xa",
        ],
        "{findings:#?}"
    );
    assert_eq!(
        codes(&findings, Severity::Warning),
        ["checksum", "durability", "gtid-strict-mode", "names-differ-in-case", "no-key", "retention"]
    );
    assert!(
        findings.iter().all(|finding| finding.remedy.is_some() || finding.code == "names-differ-in-case")
    );
    let first_errors = findings.iter().take_while(|finding| finding.severity == Severity::Error).count();
    assert_eq!(first_errors, findings.iter().filter(|finding| finding.severity == Severity::Error).count());
}

#[tokio::test]
async fn a_mysql_where_all_is_wrong_has_every_fault_named() {
    let wrong = [
        "--binlog-format=MIXED",
        "--binlog-row-image=NOBLOB",
        "--binlog-row-metadata=MINIMAL",
        "--binlog-row-value-options=PARTIAL_JSON",
        "--binlog-expire-logs-seconds=3600",
        "--gtid-mode=OFF",
        "--enforce-gtid-consistency=OFF",
        "--binlog-do-db=other",
        "--innodb-native-foreign-keys=ON",
        "--sync-binlog=100",
    ];
    let options = wrong.into_iter().fold(MyOptions::default(), MyOptions::arg).with_freshet_user();
    let server = MyServer::start(Flavor::MySql, options);
    server.sql(TABLES);
    let findings = found(&server, "wrong", Role::LoadAndStream).await;
    assert_eq!(
        codes(&findings, Severity::Error),
        [
            "binlog-filter",
            "binlog-format",
            "binlog-row-image",
            "binlog-row-metadata",
            "cascade",
            "engine",
            "long-name",
            "partial-json",
            "xa",
        ],
        "{findings:#?}"
    );
    assert_eq!(
        codes(&findings, Severity::Warning),
        ["durability", "gtid-mode", "names-differ-in-case", "no-key", "retention"]
    );
}

#[tokio::test]
async fn no_binlog_and_no_connection_are_findings() {
    for flavor in [Flavor::MariaDb, Flavor::MySql] {
        let server = MyServer::start(flavor, MyOptions::default().arg("--skip-log-bin").with_freshet_user());
        server.sql("create database plain; create table plain.t (a int primary key)");
        let findings = found(&server, "plain", Role::Load).await;
        assert_eq!(codes(&findings, Severity::Error), ["binlog-off"], "{findings:#?}");
        let wrong = options_of(&server, "freshet", "wrong");
        let options = CheckOptions::new(Role::Load);
        let findings = check(&wrong, flavour(&server), &Database("plain"), &options).await;
        assert_eq!(codes(&findings, Severity::Error), ["connection"]);
    }
}

/// An account with exactly what `grants` prints does all its role asks for.
#[tokio::test]
async fn least_grants_are_enough_and_none_is_too_many() {
    for server in both() {
        server.sql(
            "create database least; create table least.t (a int primary key); insert into least.t values (1)",
        );
        for (user, role) in [("ld", Role::Load), ("st", Role::Stream), ("ls", Role::LoadAndStream)] {
            let statements = grants(flavour(server), role, user, &["least".to_owned()]);
            server.sql(&statements.join("\n"));
            let options = options_of(server, user, "PASSWORD");
            let selection = Database("least");
            let findings = check(&options, flavour(server), &selection, &CheckOptions::new(role)).await;
            assert_eq!(codes(&findings, Severity::Error), [""; 0], "{user}: {findings:#?}");
            assert!(findings.iter().all(|finding| finding.code != "privilege"), "{user}: {findings:#?}");
            if role.loads() {
                for method in [ViewMethod::Lock, ViewMethod::NoLock] {
                    let mut reader =
                        MysqlTableReader::new(options.clone(), flavour(server)).with_method(method);
                    assert_eq!(reader.view(&selection, 2).await.map(|view| view.tables.len()).unwrap(), 1);
                }
            }
            if role.streams() {
                let source = SourceOptions::new(options.clone(), flavour(server));
                let mut source = BinlogSource::new(source, Arc::new(Database("least")));
                let tip = source.tip().await.unwrap();
                source.open(&tip, &[]).await.unwrap();
            }
            each_grant_is_missed(server, user, role, &statements[1]).await;
        }
    }
}

/// Takes the global privileges away one by one: each is missed by its name.
async fn each_grant_is_missed(server: &MyServer, user: &str, role: Role, statement: &str) {
    let list = statement.strip_prefix("GRANT ").unwrap().split(" ON ").next().unwrap();
    for privilege in list.split(", ") {
        server.sql(&format!("revoke {privilege} on *.* from {user}"));
        let options = options_of(server, user, "PASSWORD");
        let findings = check(&options, flavour(server), &Database("least"), &CheckOptions::new(role)).await;
        let missed: Vec<_> = findings.iter().filter(|finding| finding.code == "privilege").collect();
        assert_eq!(missed.len(), 1, "{privilege}: {findings:#?}");
        let remedy = missed[0].remedy.clone().unwrap();
        assert_eq!(remedy, format!("GRANT {privilege} ON *.* TO '{user}'@'%';"));
        server.sql(&remedy);
    }
    server.sql(&format!("revoke select on least.* from {user}; grant insert on least.* to {user}"));
    let options = options_of(server, user, "PASSWORD");
    let findings = check(&options, flavour(server), &Database("least"), &CheckOptions::new(role)).await;
    assert!(!codes(&findings, Severity::Error).is_empty(), "{findings:#?}");
    server.sql(&format!("drop user {user}"));
}
