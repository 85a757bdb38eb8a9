//! What can be wrong with a source, before and while a pipeline runs: settings, privileges, network, history.
//!
//! Every fault ends in an error that names it, or in a recovery after which both sides are equal.

use std::process::Command;

use freshet_testkit::servers::{Flavor, MyOptions, MyServer, Proxy, TestDir, Tls, wait_until};

use crate::kit::{DEADLINE, Scenario, numbers_sql, own_source, shared_target, wait_said};

const TABLE: &str = "create table t (id int primary key, v varchar(100));";

fn with_own_source(flavor: Flavor, name: &str) -> Scenario {
    Scenario::between(own_source(flavor, MyOptions::default()), shared_target(), name)
}

fn with_table(scenario: &Scenario) {
    scenario.my(TABLE);
    scenario.my(&numbers_sql("t", 1, 100));
}

fn purge_binlog(source: &MyServer) {
    source.sql("flush binary logs; flush binary logs");
    // A file in use, by a dump that is on its way out, is kept: asked again.
    wait_until(DEADLINE, "the purge", || {
        let files = source.sql("show binary logs");
        let last = files.lines().last().unwrap().split('\t').next().unwrap().to_owned();
        source.sql(&format!("purge binary logs to '{last}'"));
        files.lines().count() == 1
    });
}

/// P12: what the source no longer has is told, never skipped.
fn purged_binlog(flavor: Flavor) {
    let scenario = with_own_source(flavor, "purged");
    with_table(&scenario);
    scenario.catch_up();
    scenario.my(&numbers_sql("t", 101, 200));
    purge_binlog(&scenario.source);
    scenario.my(&numbers_sql("t", 201, 300));
    scenario.refused(8, &["hint:"]);
    assert_eq!(scenario.pg("select count(*) from t"), "100");
}

#[test]
fn p12_a_purged_binlog_is_a_resync_on_mariadb() {
    purged_binlog(Flavor::MariaDb);
}

#[test]
fn p12_a_purged_binlog_is_a_resync_on_mysql() {
    purged_binlog(Flavor::MySql);
}

/// P11, P12, P16: a source whose binlogs were begun again is another history.
fn reset_binlogs(flavor: Flavor) {
    let scenario = with_own_source(flavor, "begun_again");
    with_table(&scenario);
    scenario.catch_up();
    scenario.source.sql(match flavor {
        Flavor::MariaDb => "reset master",
        Flavor::MySql => "reset binary logs and gtids",
    });
    scenario.my(&numbers_sql("t", 101, 200));
    scenario.refused(8, &["hint:"]);
}

#[test]
fn p16_binlogs_begun_again_are_a_resync_on_mariadb() {
    reset_binlogs(Flavor::MariaDb);
}

#[test]
fn p16_binlogs_begun_again_are_a_resync_on_mysql() {
    reset_binlogs(Flavor::MySql);
}

/// P22: a source that lost transactions we already have.
fn source_went_back(flavor: Flavor, more: u32) {
    let scenario = with_own_source(flavor, "went_back");
    with_table(&scenario);
    scenario.catch_up();
    let copy = scenario.dir.join("copy");
    scenario.source.stop();
    copy_dir(scenario.source.data_dir(), &copy);
    scenario.source.restart();
    scenario.my(&numbers_sql("t", 101, 200));
    scenario.catch_up();
    assert_eq!(scenario.pg("select count(*) from t"), "200");
    scenario.source.stop();
    std::fs::remove_dir_all(scenario.source.data_dir()).unwrap();
    copy_dir(&copy, scenario.source.data_dir());
    scenario.source.restart();
    for id in 1..=more {
        scenario.my(&format!("insert into t values ({}, 'another history')", 1_000 + id));
    }
    scenario.refused(8, &["hint:"]);
    assert_eq!(scenario.pg("select count(*) from t"), "200");
}

fn copy_dir(from: &std::path::Path, to: &std::path::Path) {
    let done = Command::new("cp").args(["-a", "-T"]).arg(from).arg(to).status().unwrap();
    assert!(done.success());
}

#[test]
fn p22_a_mariadb_that_lost_what_we_have_is_a_divergence() {
    source_went_back(Flavor::MariaDb, 0);
}

#[test]
fn p22_a_mariadb_with_another_history_is_a_divergence() {
    source_went_back(Flavor::MariaDb, 3);
}

#[test]
fn p22_a_mysql_that_lost_what_we_have_is_a_divergence() {
    source_went_back(Flavor::MySql, 0);
}

#[test]
fn p21_a_server_id_that_is_taken_is_named_and_the_owner_stays() {
    let mut scenario = Scenario::new(Flavor::MariaDb, "server_id");
    scenario.settings.source_more = "server_id: 77001".into();
    with_table(&scenario);
    let first = scenario.spawn();
    scenario.wait_consistent(&first);
    let mut second = Scenario::new(Flavor::MariaDb, "server_id");
    with_table(&second);
    second.settings.source_more = "server_id: 77001".into();
    second.refused(2, &["77001"]);
    scenario.my(&numbers_sql("t", 101, 200));
    scenario.wait_for(&first, "the rows", "select count(*) from t", 200);
    scenario.stop(&first);
}

#[test]
fn r11_settings_that_would_lose_rows_are_refused_by_name() {
    let source = own_source(Flavor::MariaDb, MyOptions::default());
    let scenario = Scenario::between(source, shared_target(), "settings");
    with_table(&scenario);
    for (name, bad, good) in [
        ("binlog_format", "STATEMENT", "ROW"),
        ("binlog_format", "MIXED", "ROW"),
        ("binlog_row_image", "MINIMAL", "FULL"),
        ("binlog_row_metadata", "MINIMAL", "FULL"),
    ] {
        scenario.source.sql(&format!("set global {name}={bad}"));
        scenario.refused(2, &[name]);
        let check = scenario.freshet(&["check"]);
        assert_eq!(check.code, Some(9), "{}", check.stdout);
        assert!(check.stdout.contains(name), "{}", check.stdout);
        scenario.source.sql(&format!("set global {name}={good}"));
    }
    scenario.catch_up();
    scenario.compare(&["t"]);
}

/// R9, R11: settings can be changed in any session while we run; the rows themselves tell.
#[test]
fn r9_a_session_with_other_settings_stops_by_name() {
    let scenario = Scenario::new(Flavor::MariaDb, "session_settings");
    with_table(&scenario);
    scenario.catch_up();
    scenario.my("set session binlog_row_image=MINIMAL; update t set v='changed' where id=1");
    let exit = scenario.run();
    assert_ne!(exit.code, Some(0), "{}", exit.stderr);
    assert!(exit.stderr.to_lowercase().contains("image"), "{}", exit.stderr);

    // Rows logged as a statement stop whoever reads that server, other tests too.
    let scenario = with_own_source(Flavor::MariaDb, "session_settings");
    with_table(&scenario);
    scenario.catch_up();
    scenario.my("set session binlog_format=STATEMENT; update t set v='changed' where id=1");
    let exit = scenario.run();
    assert_eq!(exit.code, Some(6), "{}", exit.stderr);
    assert!(exit.stderr.to_lowercase().contains("statement"), "{}", exit.stderr);
}

#[test]
fn a_missing_grant_and_a_wrong_password_are_named() {
    let mut scenario = Scenario::new(Flavor::MariaDb, "grants");
    with_table(&scenario);
    let name = scenario.name.clone();
    scenario.source.sql(&format!(
        "set session sql_log_bin=0; create user u_{name}@'%' identified by 'freshet'; \
         grant select on {name}.* to u_{name}@'%'"
    ));
    scenario.settings.source_user = format!("u_{name}");
    scenario.refused(2, &["privilege", "hint:"]);
    let check = scenario.freshet(&["check"]);
    assert_eq!(check.code, Some(9), "{}\n{}", check.stdout, check.stderr);
    assert!(check.stdout.contains("REPLICATION SLAVE"), "{}", check.stdout);
    scenario.settings.source_password = "not-the-walrus-password".into();
    let exit = scenario.refused(2, &["password"]);
    assert!(!exit.stderr.contains("walrus"), "{}", exit.stderr);
}

#[test]
fn p23_untrusted_and_foreign_certificates_are_refused() {
    let source = own_source(Flavor::MariaDb, MyOptions::default().tls());
    let mut scenario = Scenario::between(source, shared_target(), "tls");
    with_table(&scenario);
    let other = TestDir::new("tls");
    let stranger = Tls::generate(other.path(), "DNS:localhost,IP:127.0.0.1");
    let verify = |ca: &std::path::Path| format!("tls: verify-full\ntls_ca_file: {}", ca.display());
    scenario.settings.source_more = verify(&stranger.ca);
    scenario.refused(2, &["certificate"]);
    scenario.settings.source_more = verify(&scenario.source.tls().unwrap().ca);
    scenario.catch_up();
    scenario.compare(&["t"]);
}

/// P23: a source that is away, cut off, or silent behind an open connection.
fn source_away(flavor: Flavor) {
    let mut scenario = Scenario::new(flavor, "away");
    with_table(&scenario);
    let proxy = Proxy::start(scenario.source.port());
    scenario.settings.source_port = proxy.port();
    scenario.settings.source_more = "heartbeat_ms: 200".into();
    let run = scenario.spawn();
    scenario.wait_consistent(&run);

    proxy.cut();
    scenario.my(&numbers_sql("t", 101, 200));
    scenario.wait_for(&run, "rows after a cut", "select count(*) from t", 200);

    proxy.refuse();
    scenario.my(&numbers_sql("t", 201, 300));
    wait_said(&run, "unavailable");
    proxy.accept();
    scenario.wait_for(&run, "rows after an outage", "select count(*) from t", 300);

    let before = run.stderr().matches("navailable").count();
    proxy.freeze();
    scenario.my(&numbers_sql("t", 301, 400));
    wait_until(DEADLINE, "the silence to be noticed", || run.stderr().matches("navailable").count() > before);
    proxy.cut();
    proxy.thaw();
    scenario.wait_for(&run, "rows after a silence", "select count(*) from t", 400);
    scenario.stop(&run);
    scenario.compare(&["t"]);
}

#[test]
fn p23_a_mariadb_that_was_away_or_silent_is_followed_again() {
    source_away(Flavor::MariaDb);
}

#[test]
fn p23_a_mysql_that_was_away_or_silent_is_followed_again() {
    source_away(Flavor::MySql);
}

/// P13, P15: a server killed in the middle of transactions; its next start writes a new format description.
#[test]
fn p13_a_source_killed_in_mid_transaction_loses_and_doubles_nothing() {
    for flavor in [Flavor::MariaDb, Flavor::MySql] {
        let scenario = with_own_source(flavor, "crashed");
        with_table(&scenario);
        let run = scenario.spawn();
        scenario.wait_consistent(&run);
        for round in 0..3_u32 {
            let base = 1_000 * (round + 1);
            let numbers = numbers_sql("t", base, base + 900);
            let job = scenario.source.spawn_sql(&format!(
                "use {}; begin; {numbers} update t set v=concat(v,'!') where id<50; commit; \
                 begin; update t set v='never' where id>=0; select sleep(30)",
                scenario.name
            ));
            wait_until(DEADLINE, "the open transaction", || {
                let sql = "select count(*) from information_schema.processlist where info like '%sleep(30)%' \
                           and info not like '%processlist%'";
                scenario.source.sql(sql) == "1"
            });
            scenario.source.kill9();
            assert!(job.wait().is_err());
            scenario.source.restart();
        }
        scenario.my("insert into t values (9999, 'last')");
        scenario.wait_for(&run, "the last row", "select count(*) from t where id = 9999", 1);
        scenario.stop(&run);
        scenario.compare(&["t"]);
    }
}

/// O1: the log is filled from before the first row is read, so the binlog may be purged during the load.
#[test]
fn o1_a_purge_during_the_load_loses_nothing() {
    use freshet_testkit::servers::Hold;
    let mut scenario = with_own_source(Flavor::MariaDb, "purge_in_load");
    with_table(&scenario);
    let proxy = Proxy::start(scenario.target.port());
    scenario.settings.sink_port = proxy.port();
    proxy.hold("copy ", Hold::Message);
    let run = scenario.spawn();
    wait_until(DEADLINE, "the load to be held", || proxy.is_holding());
    scenario.my("update t set v='changed meanwhile' where id<=50; delete from t where id>90");
    scenario.my(&numbers_sql("t", 201, 260));
    purge_binlog(&scenario.source);
    proxy.release();
    scenario.wait_consistent(&run);
    scenario.wait_for(&run, "all rows", "select count(*) from t", 150);
    scenario.stop(&run);
    scenario.compare(&["t"]);
}

/// T3: a prepared XA transaction is neither lost nor taken for a committed one: the load refuses by name.
#[test]
fn t3_prepared_transactions_at_the_load_are_named() {
    let scenario = with_own_source(Flavor::MariaDb, "xa");
    with_table(&scenario);
    let name = &scenario.name;
    let sql =
        format!("xa start 'x1'; insert into {name}.t values (777,'prepared'); xa end 'x1'; xa prepare 'x1'");
    scenario.source.sql(&sql);
    let exit = scenario.run();
    assert_ne!(exit.code, Some(0), "{}", exit.stderr);
    assert!(exit.stderr.contains("XA"), "{}", exit.stderr);
    scenario.source.sql("xa rollback 'x1'");
}

#[test]
fn tables_of_engines_without_transactions_and_silent_cascades_are_refused_by_name() {
    let scenario = Scenario::new(Flavor::MariaDb, "engines");
    scenario.my("create table plain (id int primary key) engine=MyISAM");
    scenario.refused(6, &["plain", "MyISAM"]);
    scenario.my(
        "drop table plain; create table parent (id int primary key); \
         create table child (id int primary key, p int, foreign key (p) references parent (id) on delete cascade)",
    );
    scenario.refused(6, &["child"]);
}
