//! Commits that are in the source's log and that nobody sees yet: replicas that do not answer hold them back. The stream
//! has them, the load does not: nothing may fall between the two.

use crate::ends::{End, Kind, Server, own_server};
use crate::kit::DEADLINE;
use crate::pipeline::Pipeline;
use freshet_testkit::servers::{Flavor, MyOptions, MyServer, poll_until, wait_until};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

const FILLED: &str = "create table t (id int primary key, v varchar(40)); create table u (id int primary key, v varchar(40)); ";

/// A source whose commits can be made to stall once they are in its log, with the statements that do so.
struct Source {
    server: Server,
    stall: &'static str,
    go_on: &'static str,
    /// The number of clients that stall.
    stalled: &'static str,
}

fn semi_sync(flavor: Flavor) -> Source {
    let options = match flavor {
        Flavor::MariaDb => MyOptions::default()
            .arg("--rpl-semi-sync-master-wait-point=AFTER_SYNC")
            .arg("--rpl-semi-sync-master-timeout=3600000"),
        Flavor::MySql => MyOptions::default()
            .arg("--plugin-load-add=semisync_source.so")
            .arg("--rpl-semi-sync-source-wait-point=AFTER_SYNC")
            .arg("--rpl-semi-sync-source-timeout=3600000"),
    };
    let (stall, go_on) = match flavor {
        Flavor::MariaDb => {
            ("set global rpl_semi_sync_master_enabled = on", "set global rpl_semi_sync_master_enabled = off")
        }
        Flavor::MySql => {
            ("set global rpl_semi_sync_source_enabled = on", "set global rpl_semi_sync_source_enabled = off")
        }
    };
    let options = options.arg("--sync-binlog=1").with_freshet_user();
    Source {
        server: Server::My(Arc::new(MyServer::start(flavor, options))),
        stall,
        go_on,
        stalled: "select count(*) from information_schema.processlist where state like 'Waiting for semi-sync%'",
    }
}

fn standby() -> Source {
    Source {
        server: own_server(Kind::Postgres),
        stall: "reset role; alter system set synchronous_standby_names = 'nobody'; select pg_reload_conf()",
        go_on: "reset role; alter system reset synchronous_standby_names; select pg_reload_conf()",
        stalled: "reset role; select count(*) from pg_stat_activity where wait_event = 'SyncRep'",
    }
}

/// A client that waits for its commit.
fn commit(source: &End, sql: &'static str) -> JoinHandle<String> {
    let source = source.clone();
    thread::spawn(move || source.sql(sql))
}

/// The commits stall while the pipeline begins, loads and is killed; each change is on the target in the end, once.
fn hand_over(source: &Source) {
    let kind = source.server.kind();
    let name = format!("stalled_{}", kind.word());
    let mut pipeline = Pipeline::between(source.server.clone(), Kind::Postgres.target(), &name);
    pipeline.load = "readers: 2, chunk_rows: 1000".into();
    let rows: Vec<String> = (1..=4000).map(|i| format!("({i},'row {i}')")).collect();
    let rows = rows.join(",");
    pipeline.source.sql(&format!("{FILLED} insert into t values {rows}; insert into u values {rows}"));
    // What it makes at the source is a commit too.
    let run = pipeline.spawn();
    let begun = format!("select count(*) from freshet.load_table where pipeline = '{}'", pipeline.name);
    wait_until(DEADLINE, "the load", || {
        pipeline.must_run(&run, "the load");
        pipeline.target.number(&begun) == Some(2)
    });
    run.kill9();

    pipeline.source.sql(source.stall);
    let waiting = [
        "insert into t values (10001,'stalled')",
        "update u set v = 'stalled' where id <= 10",
        "delete from t where id between 20 and 30",
    ];
    let stalled: Vec<JoinHandle<String>> =
        waiting.into_iter().map(|sql| commit(&pipeline.source, sql)).collect();
    wait_until(DEADLINE, "stalled commits", || pipeline.source.number(source.stalled) >= Some(1));

    // Killed once more while it reads what it can see, or waits for what it cannot.
    let run = pipeline.spawn();
    let loaded = format!("select count(rows) from freshet.load_chunk where pipeline = '{}'", pipeline.name);
    let before = pipeline.target.number(&loaded);
    poll_until(std::time::Duration::from_secs(5), || pipeline.target.number(&loaded) > before);
    pipeline.must_run(&run, "the kill");
    run.kill9();
    let run = pipeline.spawn();
    poll_until(std::time::Duration::from_secs(5), || pipeline.target.number(&loaded) > before);
    pipeline.must_run(&run, "the commits go on");

    pipeline.source.sql(source.go_on);
    stalled.into_iter().for_each(|client| drop(client.join().unwrap()));
    pipeline.wait_consistent(&run);
    pipeline.stop(&run);
    pipeline.catch_up();
    pipeline.compare("t", "id, v");
    pipeline.compare("u", "id, v");
    pipeline.source.sql("update t set v = 'after' where id = 10001; delete from u where id = 1");
    pipeline.catch_up();
    pipeline.compare("t", "id, v");
    pipeline.compare("u", "id, v");
}

#[test]
fn a_load_while_a_standby_of_postgresql_does_not_answer_misses_nothing() {
    hand_over(&standby());
}

#[test]
fn a_load_while_a_replica_of_mysql_does_not_answer_misses_nothing() {
    hand_over(&semi_sync(Flavor::MySql));
}

#[test]
fn a_load_while_a_replica_of_mariadb_does_not_answer_misses_nothing() {
    hand_over(&semi_sync(Flavor::MariaDb));
}
