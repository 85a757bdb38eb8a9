//! Servers that are set up wrongly, refuse, fall silent, die and come back.

use std::time::{Duration, Instant};

use freshet_core::source::Source as _;
use freshet_core::{Error, ErrorKind};
use freshet_mysql::server::Flavour;
use freshet_mysql::source::SourceOptions;
use freshet_mysql::wire::{ConnectOptions, Secret};
use freshet_testkit::servers::{Flavor, MyOptions, MyServer, wait_until, wait_until_async};

use crate::harness::{
    Capture, DEADLINE, FLAVORS, assert_error, both, connect_options, now, options, reopen, start,
};

async fn refused(server: &MyServer, options: SourceOptions) -> Error {
    let place = now(server).await;
    Capture::new(options, "f", &place).open().await.unwrap_err()
}

/// Each wrong setting is refused by its name, with what it is and what to do.
#[tokio::test]
async fn r9_r11_r12_wrong_settings_are_refused_by_name() {
    for flavor in FLAVORS {
        let server = start(flavor, MyOptions::default());
        for (variable, wrong, right) in [
            ("binlog_format", "STATEMENT", "ROW"),
            ("binlog_row_image", "MINIMAL", "FULL"),
            ("binlog_row_metadata", "MINIMAL", "FULL"),
        ] {
            server.sql(&format!("set global {variable} = '{wrong}'"));
            let error = refused(&server, options(&server)).await;
            assert_error(&error, &ErrorKind::Invalid, &[variable, wrong, "SET GLOBAL", right]);
            server.sql(&format!("set global {variable} = '{right}'"));
        }
        if flavor == Flavor::MySql {
            server.sql("set global binlog_row_value_options = 'PARTIAL_JSON'");
            let error = refused(&server, options(&server)).await;
            assert_error(&error, &ErrorKind::Invalid, &["binlog_row_value_options", "PARTIAL_JSON"]);
            server.sql("set global binlog_row_value_options = ''");
        }
        let other = match flavor {
            Flavor::MariaDb => Flavour::Mysql,
            Flavor::MySql => Flavour::Mariadb,
        };
        let error = refused(&server, SourceOptions { flavour: other, ..options(&server) }).await;
        assert_error(&error, &ErrorKind::Invalid, &["configured as", "MariaDB", "MySQL"]);
        let place = now(&server).await;
        let off = start(flavor, MyOptions::default().arg("--skip-log-bin"));
        let error = Capture::new(options(&off), "f", &place).open().await.unwrap_err();
        assert_error(&error, &ErrorKind::Invalid, &["log_bin", "OFF"]);
    }
}

#[tokio::test]
async fn wrong_accounts_are_refused_with_the_remedy() {
    for server in both() {
        let with = |user: &str, password: &str| SourceOptions {
            connect: ConnectOptions {
                user: user.into(),
                password: Some(Secret::new(password)),
                ..connect_options(server)
            },
            ..options(server)
        };
        let error = refused(server, with("freshet", "wrong")).await;
        assert_error(&error, &ErrorKind::Invalid, &["Access denied", "password"]);
        server.sql("create user weak identified by 'weak'; grant select on *.* to weak");
        let error = refused(server, with("weak", "weak")).await;
        assert_error(&error, &ErrorKind::Invalid, &["--grants"]);
        let more = if server.flavor() == Flavor::MariaDb {
            ", binlog monitor, slave monitor"
        } else {
            ", replication client"
        };
        server.sql(&format!("grant select{more} on *.* to weak"));
        let error = refused(server, with("weak", "weak")).await;
        assert_error(&error, &ErrorKind::Invalid, &["REPLICATION SLAVE", "--grants"]);
    }
}

/// P21: a configured server id that is taken is refused; taken later, the reader is told; random ones never clash.
#[tokio::test]
async fn p21_a_server_id_that_is_taken_is_refused_and_explained() {
    for server in both() {
        let place = now(server).await;
        let own = server.sql("select @@server_id").parse().unwrap();
        let error = refused(server, SourceOptions { server_id: Some(own), ..options(server) }).await;
        assert_error(&error, &ErrorKind::Invalid, &[&own.to_string(), "source server's own", "server_id"]);
        let configured = SourceOptions { server_id: Some(4_242_424), ..options(server) };
        let mut first = Capture::opened(configured.clone(), "f", &place).await;
        let error = refused(server, configured.clone()).await;
        assert_error(&error, &ErrorKind::Invalid, &["4242424", "registered", "leave it out"]);
        // The same source connecting again takes its own name over.
        first.open().await.unwrap();
        drop(first);
        // Random ids live side by side.
        let mut readers = Vec::new();
        for _ in 0..4 {
            readers.push(Capture::opened(options(server), "f", &place).await);
        }
        let listed =
            server.sql(if server.flavor() == Flavor::MariaDb { "show slave hosts" } else { "show replicas" });
        assert!(listed.lines().filter(|line| line.contains("freshet")).count() >= 4, "{listed}");
    }
}

/// P21: somebody who does not look takes our id.
#[tokio::test]
async fn p21_a_reader_whose_id_is_taken_over_is_told() {
    for flavor in FLAVORS {
        let server = &start(flavor, MyOptions::default());
        let place = now(server).await;
        for configured in [Some(4_343_434), None] {
            let options = SourceOptions { server_id: configured, ..options(server) };
            let mut reader = Capture::opened(options, "f", &place).await;
            let id: u32 = match configured {
                Some(id) => id,
                None => only_id(server),
            };
            let mut thief = freshet_mysql::wire::Connection::connect(&connect_options(server)).await.unwrap();
            thief.exec(&format!("set @slave_uuid = '{}', @replica_uuid = '{}', @master_binlog_checksum = @@global.binlog_checksum, @source_binlog_checksum = @@global.binlog_checksum", uuid_of(server, id), uuid_of(server, id))).await.unwrap();
            let file = server.sql(if server.flavor() == Flavor::MariaDb {
                "show master status"
            } else {
                "show binary log status"
            });
            let file = file.split('\t').next().unwrap().to_owned();
            let _dump = thief.dump_file_pos(id, &file, 4, freshet_mysql::wire::AtEnd::Wait).await.unwrap();
            let error = reader.until_error().await;
            match configured {
                Some(_) => assert_error(&error, &ErrorKind::Invalid, &["4343434", "leave it out"]),
                None => {
                    assert_error(&error, &ErrorKind::Unavailable, &["drawing another"]);
                    reader.open().await.unwrap();
                    assert_ne!(only_id(server), id);
                }
            }
        }
    }
}

fn hosts(server: &MyServer) -> Vec<Vec<String>> {
    let listed =
        server.sql(if server.flavor() == Flavor::MariaDb { "show slave hosts" } else { "show replicas" });
    listed.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect()
}

/// The id of the only reader: one that was ended may be listed for a while.
fn only_id(server: &MyServer) -> u32 {
    wait_until(DEADLINE, "one reader to be left", || hosts(server).len() == 1);
    hosts(server)[0][0].parse().unwrap()
}

fn uuid_of(server: &MyServer, id: u32) -> String {
    let hosts = hosts(server);
    let host = hosts.iter().find(|host| host[0] == id.to_string());
    host.and_then(|host| host.get(4)).cloned().unwrap_or_default()
}

/// P23: a server that keeps the connection and says nothing is noticed, and read on when it is back.
#[tokio::test]
async fn p23_a_silent_server_is_unavailable() {
    for flavor in FLAVORS {
        let server = start(flavor, MyOptions::default());
        server.sql("create database f; create table f.t (id int primary key)");
        let place = now(&server).await;
        let connect =
            ConnectOptions { read_timeout_ms: 2_000, connect_timeout_ms: 2_000, ..connect_options(&server) };
        let quick = SourceOptions { connect, ..options(&server) };
        let mut capture = Capture::new(quick, "f", &place);
        server.sql("insert into f.t values (1)");
        // Heartbeats keep an idle server from being taken for a silent one. A machine that stands still for two seconds
        // makes it a silent one.
        wait_until_async(DEADLINE, "an idle server that is not taken for a silent one", async || {
            reopen(&mut capture).await;
            let idle = async { while capture.read().await.is_ok() {} };
            tokio::time::timeout(Duration::from_millis(5_000), idle).await.is_err()
        })
        .await;
        assert_eq!(capture.changes(), [["t+1"]]);
        server.pause();
        let error = capture.until_error().await;
        assert_error(&error, &ErrorKind::Unavailable, &["2000 ms"]);
        assert_eq!(capture.open().await.unwrap_err().kind(), &ErrorKind::Unavailable);
        server.resume();
        reopen(&mut capture).await;
        server.sql("insert into f.t values (2)");
        wait_until_async(DEADLINE, "the second row", async || {
            if capture.read().await.is_err() {
                reopen(&mut capture).await;
            }
            capture.txns.len() > 1
        })
        .await;
        assert_eq!(capture.changes(), [["t+1"], ["t+2"]]);
    }
}

/// The server is killed under load and comes back: every committed transaction is read once, in order.
#[tokio::test]
async fn p13_a_killed_server_is_read_on() {
    const ROUNDS: usize = 3;
    for flavor in FLAVORS {
        let server = start(
            flavor,
            MyOptions::default().arg("--sync-binlog=1").arg("--innodb-flush-log-at-trx-commit=1"),
        );
        server
            .sql("create database f; create table f.t (id int primary key auto_increment, v varchar(2000))");
        let mut capture = Capture::opened(options(&server), "f", &now(&server).await).await;
        for _ in 0..ROUNDS {
            let load = "insert into f.t (v) values (repeat('x', 1900)), (repeat('y', 1900)); ".repeat(20_000);
            let writer = server.spawn_sql(&load);
            let seen = capture.txns.len();
            while capture.txns.len() < seen + 50 {
                capture.read().await.unwrap();
            }
            server.kill9();
            let error = capture.until_error().await;
            assert_eq!(error.kind(), &ErrorKind::Unavailable, "{error}");
            assert!(writer.wait().is_err());
            assert_eq!(capture.open().await.unwrap_err().kind(), &ErrorKind::Unavailable);
            server.restart();
            reopen(&mut capture).await;
            let rows: usize = server.sql("select count(*) from f.t").parse().unwrap();
            capture.until(rows / 2).await;
        }
        let read: Vec<String> =
            capture.changes().concat().iter().map(|change| change[2..].to_owned()).collect();
        let there = server.sql("select concat(id, ',', left(v, 1), 'x1900') from f.t order by id");
        assert!(read == there.lines().collect::<Vec<_>>(), "{flavor:?}: what was read is what is there");
    }
}

/// P8, O3: a reader that does not read for longer than the server's write time-out is not cut off.
#[tokio::test]
async fn p8_o3_a_pause_of_the_reader_does_not_end_the_dump() {
    const ROWS: usize = 24_000;
    for flavor in FLAVORS {
        let durability = ["--sync-binlog=0", "--innodb-flush-log-at-trx-commit=0"];
        let options_of_server = durability.into_iter().fold(MyOptions::default(), MyOptions::arg);
        let server = start(flavor, options_of_server.arg("--net-write-timeout=1"));
        server
            .sql("create database f; create table f.t (id int primary key auto_increment, v varchar(2000))");
        let place = now(&server).await;
        server.sql(&"insert into f.t (v) values (repeat('x', 2000)), (repeat('y', 2000)); ".repeat(ROWS / 2));
        let mut capture = Capture::opened(options(&server), "f", &place).await;
        capture.read().await.unwrap();
        // The server is stuck in a write for longer than it would wait.
        let stuck = Instant::now();
        wait_until(DEADLINE, "the time-out to pass", || stuck.elapsed() > Duration::from_secs(4));
        capture.until(ROWS / 2).await;
    }
}

/// The account's own connection being killed is a lost connection, not an end.
#[tokio::test]
async fn a_killed_dump_is_unavailable() {
    for flavor in FLAVORS {
        let server = &start(flavor, MyOptions::default());
        let place = now(server).await;
        let mut capture = Capture::opened(options(server), "f", &place).await;
        let dumps = "select id from information_schema.processlist where command like 'Binlog Dump%'";
        let mut ids = String::new();
        wait_until(DEADLINE, "the dump", || {
            ids = server.sql(dumps);
            !ids.is_empty()
        });
        for id in ids.lines() {
            let _ = server.try_sql(&format!("kill {id}"));
        }
        let error = capture.until_error().await;
        assert_eq!(error.kind(), &ErrorKind::Unavailable, "{error}");
        capture.open().await.unwrap();
        capture.source.acknowledge(&place).await.unwrap();
    }
}
