//! What can happen to a target: away, full, put back to an older state, owned by somebody else, locked by a user.

use std::process::Command;
use std::sync::Arc;

use freshet_testkit::servers::{Flavor, Hold, PostgresOptions, Proxy, TestDir, Tls, is_root, wait_until};

use crate::kit::{DEADLINE, Scenario, assert_failed, numbers_sql, own_target, shared_source, wait_said};

const TABLE: &str = "create table t (id int primary key, v varchar(2000));";

fn with_table(scenario: &Scenario) {
    scenario.my(TABLE);
    scenario.my(&numbers_sql("t", 1, 100));
}

fn with_own_target(name: &str, options: PostgresOptions) -> Scenario {
    Scenario::between(shared_source(Flavor::MariaDb), own_target(options), name)
}

#[test]
fn a_wrong_password_and_a_stranger_s_certificate_are_named() {
    let mut scenario = with_own_target("target_tls", PostgresOptions::default().tls().with_passwords());
    with_table(&scenario);
    scenario.settings.sink_password = "not-the-walrus-password".into();
    let exit = scenario.refused(2, &["password"]);
    assert!(!exit.stderr.contains("walrus"), "{}", exit.stderr);
    scenario.settings.sink_password = crate::kit::PASSWORD.into();
    let other = TestDir::new("tls");
    let stranger = Tls::generate(other.path(), "DNS:localhost,IP:127.0.0.1");
    let verify = |ca: &std::path::Path| format!("tls: verify-full\ntls_ca_file: {}", ca.display());
    scenario.settings.sink_more = verify(&stranger.ca);
    scenario.refused(2, &["certificate"]);
    scenario.settings.sink_more = verify(&scenario.target.tls().unwrap().ca);
    scenario.catch_up();
    scenario.compare(&["t"]);
}

#[test]
fn t10_a_target_that_was_away_or_silent_is_followed_again() {
    let mut scenario = with_own_target("target_away", PostgresOptions::default());
    with_table(&scenario);
    let proxy = Proxy::start(scenario.target.port());
    scenario.settings.sink_port = proxy.port();
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

    scenario.target.kill9();
    scenario.my(&numbers_sql("t", 301, 400));
    scenario.target.restart();
    scenario.wait_for(&run, "rows after a crash", "select count(*) from t", 400);
    scenario.stop(&run);
    scenario.compare(&["t"]);
}

/// T10: the connection dies with COMMIT on its way; whichever way it went, the row is there once.
#[test]
fn t10_a_commit_without_an_answer_is_applied_once() {
    let mut scenario = Scenario::new(Flavor::MariaDb, "commit_in_doubt");
    with_table(&scenario);
    let proxy = Proxy::start(scenario.target.port());
    scenario.settings.sink_port = proxy.port();
    let run = scenario.spawn();
    scenario.wait_consistent(&run);
    for (id, hold) in (1_000..).zip([Hold::Answer, Hold::Message, Hold::Answer, Hold::Message]) {
        proxy.hold("commit\0", hold);
        scenario.my(&format!("insert into t values ({id},'x'); update t set v=concat(v,'+') where id={id}"));
        wait_until(DEADLINE, "COMMIT", || proxy.is_holding() || !run.is_running());
        proxy.cut_held();
        scenario.wait_for(&run, "the row", &format!("select count(*) from t where id={id} and v='x+'"), 1);
    }
    scenario.stop(&run);
    scenario.compare(&["t"]);
}

/// T11: an owner's COMMIT that arrives after another process has taken over commits nothing.
#[test]
fn t11_an_old_connection_that_wakes_after_the_take_over_commits_nothing() {
    for hold in ["commit\0", "insert into", "update"] {
        let mut scenario = Scenario::new(Flavor::MariaDb, "zombie");
        with_table(&scenario);
        let proxy = Proxy::start(scenario.target.port());
        scenario.settings.sink_port = proxy.port();
        let old = scenario.spawn();
        scenario.wait_consistent(&old);
        if hold == "commit\0" {
            proxy.hold(hold, Hold::Message);
        } else {
            proxy.freeze();
        }
        scenario.my("insert into t values (1000,'x'); update t set v='y' where id=1000");
        if hold == "commit\0" {
            wait_until(DEADLINE, "COMMIT", || proxy.is_holding() || !old.is_running());
            assert!(proxy.is_holding(), "{}", old.stderr());
        }
        // The new owner has a log of its own: it is on another machine.
        let mut settings = scenario.settings.clone();
        settings.sink_port = scenario.target.port();
        settings.log_dir = scenario.dir.join("log-two");
        let new = Scenario {
            source: Arc::clone(&scenario.source),
            target: Arc::clone(&scenario.target),
            dir: TestDir::new("scenario"),
            name: scenario.name.clone(),
            settings,
        };
        new.catch_up();
        new.compare(&["t"]);
        proxy.release();
        proxy.thaw();
        let exit = old.wait(DEADLINE);
        assert_ne!(exit.code, Some(0), "{}", exit.stderr);
        new.my("update t set v=concat(v,'!') where id=1000");
        new.catch_up();
        new.compare(&["t"]);
    }
}

#[test]
fn t11_a_second_process_on_the_same_log_is_refused() {
    let scenario = Scenario::new(Flavor::MariaDb, "second");
    with_table(&scenario);
    let first = scenario.spawn();
    scenario.wait_consistent(&first);
    scenario.refused(4, &["hint:"]);
    scenario.my("insert into t values (1000,'x')");
    scenario.wait_for(&first, "the row", "select count(*) from t where id=1000", 1);
    scenario.stop(&first);
}

/// T11: a second process with a log of its own takes over; the first learns it and ends, and nothing is doubled.
#[test]
fn t11_a_second_process_elsewhere_takes_over_and_the_first_ends() {
    let mut scenario = Scenario::new(Flavor::MariaDb, "elsewhere");
    with_table(&scenario);
    let first = scenario.spawn();
    scenario.wait_consistent(&first);
    scenario.settings.log_dir = scenario.dir.join("log-two");
    let second = scenario.spawn();
    scenario.my("insert into t values (1000,'x')");
    let exit = first.wait(DEADLINE);
    assert_failed(&exit, 4, &["hint:"]);
    scenario.wait_for(&second, "the row", "select count(*) from t where id=1000", 1);
    scenario.my("update t set v=concat(v,'+')");
    scenario.wait_for(&second, "the update", "select count(*) from t where v like '%+'", 101);
    scenario.stop(&second);
    scenario.compare(&["t"]);
}

/// T12: a user's lock on the target is waited for, told, and survived.
#[test]
fn t12_a_user_s_lock_is_waited_for() {
    let scenario = Scenario::new(Flavor::MariaDb, "locked");
    with_table(&scenario);
    let run = scenario.spawn();
    scenario.wait_consistent(&run);
    let user = scenario.target.spawn_sql(&scenario.name, "begin; lock table t; select pg_sleep(600)");
    let locks = "select count(*) from pg_locks where relation='t'::regclass and mode='AccessExclusiveLock' and granted";
    scenario.wait_for(&run, "the user's lock", locks, 1);
    scenario.my("update t set v='waited'");
    let waiting = "select least(count(*),1) from pg_locks where relation='t'::regclass and not granted";
    scenario.wait_for(&run, "the wait", waiting, 1);
    wait_said(&run, "lock");
    scenario.pg("select pg_terminate_backend(pid) from pg_stat_activity where query like '%pg_sleep(600)%' and pid <> pg_backend_pid()");
    assert!(user.wait().is_err());
    scenario.wait_for(&run, "the update", "select count(*) from t where v='waited'", 100);
    scenario.stop(&run);
    scenario.compare(&["t"]);
}

/// O11: a full disk on the target; freed, the pipeline goes on.
#[test]
fn o11_a_full_target_disk_stops_nothing_for_good() {
    if !is_root() {
        eprintln!("Needs root to mount a small disk");
        return;
    }
    let scenario = with_own_target("target_full", PostgresOptions::default().tablespace_bytes_max(48 << 20));
    scenario.target.sql(&format!("alter database {} set tablespace small", scenario.name));
    with_table(&scenario);
    scenario.catch_up();
    scenario.target.disk().unwrap().fill();
    let rows =
        |from: u32, to: u32| format!("insert into t select seq, repeat('x',1500) from seq_{from}_to_{to}");
    scenario.my(&rows(1_001, 3_000));
    let run = scenario.spawn();
    wait_until(DEADLINE, "the full disk to be told", || {
        run.stderr().contains("space") || run.stderr().contains("disk") || !run.is_running()
    });
    assert!(run.stderr().contains("space") || run.stderr().contains("disk"), "{}", run.stderr());
    let ended = !run.is_running();
    scenario.target.disk().unwrap().release();
    let run = if ended { scenario.spawn() } else { run };
    scenario.wait_for(&run, "the rows", "select count(*) from t", 2_100);
    scenario.stop(&run);
    scenario.compare(&["t"]);
}

/// A target put back to an older state: its checkpoint is older too, and what it lacks is applied again from the log.
fn target_went_back(purge_log: bool) {
    let scenario = with_own_target("restored", PostgresOptions::default());
    with_table(&scenario);
    scenario.catch_up();
    let copy = scenario.dir.join("copy");
    scenario.target.stop();
    copy_dir(scenario.target.data_dir(), &copy);
    scenario.target.restart();
    scenario.my("update t set v=concat(v,'+'); delete from t where id > 90; insert into t values (1000,'x')");
    scenario.catch_up();
    scenario.compare(&["t"]);
    scenario.target.stop();
    std::fs::remove_dir_all(scenario.target.data_dir()).unwrap();
    copy_dir(&copy, scenario.target.data_dir());
    scenario.target.restart();
    assert_eq!(scenario.pg("select count(*) from t where v like '%+'"), "0");
    if purge_log {
        std::fs::remove_dir_all(&scenario.settings.log_dir).unwrap();
    }
    scenario.my("insert into t values (1001,'y')");
    scenario.catch_up();
    scenario.compare(&["t"]);
}

fn copy_dir(from: &std::path::Path, to: &std::path::Path) {
    let done = Command::new("cp").args(["-a", "-T"]).arg(from).arg(to).status().unwrap();
    assert!(done.success());
}

#[test]
fn a_target_put_back_to_an_older_state_is_brought_up_again() {
    target_went_back(false);
}

#[test]
fn a_target_put_back_and_a_log_lost_is_brought_up_again() {
    target_went_back(true);
}

/// A target put back under a running process: it must not go on from where it believed the target to be.
#[test]
fn a_target_put_back_under_a_running_process_is_noticed() {
    let scenario = with_own_target("restored_live", PostgresOptions::default());
    with_table(&scenario);
    scenario.catch_up();
    let copy = scenario.dir.join("copy");
    scenario.target.stop();
    copy_dir(scenario.target.data_dir(), &copy);
    scenario.target.restart();
    let run = scenario.spawn();
    scenario.my("insert into t values (1000,'x')");
    scenario.wait_for(&run, "the row", "select count(*) from t where id=1000", 1);
    scenario.target.kill9();
    std::fs::remove_dir_all(scenario.target.data_dir()).unwrap();
    copy_dir(&copy, scenario.target.data_dir());
    scenario.target.restart();
    scenario.my("insert into t values (1001,'y')");
    wait_until(DEADLINE, "the rows or the end", || {
        !run.is_running() || scenario.pg_number("select count(*) from t where id >= 1000") == Some(2)
    });
    if run.is_running() {
        scenario.stop(&run);
    }
    scenario.catch_up();
    scenario.compare(&["t"]);
}

/// R17: a target that is stricter than its source stops by name, and the row is not skipped.
#[test]
fn r17_a_stricter_target_stops_with_the_table_s_name() {
    let scenario = Scenario::new(Flavor::MariaDb, "stricter");
    with_table(&scenario);
    scenario.catch_up();
    scenario.pg("alter table t add constraint short check (length(v) < 100)");
    scenario.my("insert into t values (1000, repeat('secret-walrus',20))");
    let exit = scenario.refused(7, &[".t"]);
    assert!(!exit.stderr.contains("walrus"), "{}", exit.stderr);
    scenario.pg("alter table t drop constraint short");
    scenario.catch_up();
    scenario.compare(&["t"]);
}

/// Strictness (3): what the target should have and has not, or has and should not, stops the table by name.
#[test]
fn a_target_changed_by_somebody_else_is_a_divergence() {
    for (spoil, change) in [
        ("delete from t where id=5", "update t set v='x' where id=5"),
        ("delete from t where id=5", "delete from t where id=5"),
        ("insert into t values (1000,'foreign')", "insert into t values (1000,'ours')"),
    ] {
        let scenario = Scenario::new(Flavor::MariaDb, "diverged");
        with_table(&scenario);
        scenario.catch_up();
        scenario.pg(spoil);
        scenario.my(change);
        scenario.refused(7, &[".t"]);
        assert_eq!(scenario.pg("select count(*) from t where v in ('x','ours')"), "0");
    }
}

/// The same pipeline from another machine: a copy of its log, its own way to the target.
fn elsewhere(scenario: &Scenario, sink_port: u16, log_dir: std::path::PathBuf) -> Scenario {
    let mut settings = scenario.settings.clone();
    (settings.sink_port, settings.log_dir) = (sink_port, log_dir);
    Scenario {
        source: Arc::clone(&scenario.source),
        target: Arc::clone(&scenario.target),
        dir: TestDir::new("scenario"),
        name: scenario.name.clone(),
        settings,
    }
}

/// T11: the epoch alone fences an old owner whose session could not be ended, although it stands at the very offset
/// that the new owner stands at.
#[test]
fn t11_an_old_owner_at_the_same_offset_is_fenced_by_its_epoch() {
    let mut scenario = Scenario::new(Flavor::MariaDb, "same_offset");
    with_table(&scenario);
    let (old_way, new_way) = (Proxy::start(scenario.target.port()), Proxy::start(scenario.target.port()));
    scenario.settings.sink_port = old_way.port();
    let old = scenario.spawn();
    scenario.wait_consistent(&old);
    old_way.hold("begin\0", Hold::Message);
    scenario.my("insert into t values (1000,'x')");
    wait_until(DEADLINE, "the window", || old_way.is_holding() || !old.is_running());
    assert!(old_way.is_holding(), "{}", old.stderr());
    let copy = scenario.dir.join("log-two");
    copy_dir(&scenario.settings.log_dir, &copy);
    scenario.pg("delete from freshet.session");
    let new = elsewhere(&scenario, new_way.port(), copy);
    new_way.hold("set next_offset", Hold::Message);
    let new_run = new.spawn();
    wait_until(DEADLINE, "the new owner's window", || new_way.is_holding() || !new_run.is_running());
    assert!(new_way.is_holding(), "{}", new_run.stderr());
    old_way.release();
    let exit = old.wait(DEADLINE);
    assert_failed(&exit, 4, &["hint:"]);
    new_way.release();
    new.wait_for(&new_run, "the row", "select count(*) from t where id=1000", 1);
    new.stop(&new_run);
    new.compare(&["t"]);
}

/// A checkpoint that somebody else moved under a running owner is noticed by the compare-and-set.
#[test]
fn t11_a_checkpoint_moved_by_another_hand_is_noticed() {
    let scenario = Scenario::new(Flavor::MariaDb, "moved");
    with_table(&scenario);
    scenario.catch_up();
    let run = scenario.spawn();
    scenario.my("insert into t values (1000,'x')");
    scenario.wait_for(&run, "the row", "select count(*) from t where id=1000", 1);
    // Progress of an idle source is a window too: asked until the hand was quicker.
    scenario.pg("update freshet.checkpoint set next_offset = next_offset + 1000000");
    scenario.my("insert into t values (1001,'y')");
    let exit = run.wait(DEADLINE);
    assert_failed(&exit, 4, &["hint:"]);
    assert_eq!(scenario.pg("select count(*) from t where id=1001"), "0");
    scenario.pg("update freshet.checkpoint set next_offset = next_offset - 1000000");
    scenario.catch_up();
    scenario.compare(&["t"]);
}

/// Two sinks at different places, and the log lost: it begins again where the last one stands, and the other skips
/// what it has.
#[test]
fn a_lost_log_is_rebuilt_for_two_sinks_at_different_places() {
    let mut scenario = Scenario::new(Flavor::MariaDb, "two_sinks");
    with_table(&scenario);
    let second = format!("{}_second", scenario.name);
    scenario.target.sql(&format!("create database {second} owner freshet"));
    let proxy = Proxy::start(scenario.target.port());
    scenario.settings.sink_more = format!(
        "control_schema: freshet\n- name: second\n  type: postgres\n  host: 127.0.0.1\n  port: {}\n  \
         database: {second}\n  user: freshet\n  password: \"freshet\"\n  schemas: {{ {}: public }}",
        proxy.port(),
        scenario.name
    );
    let run = scenario.spawn();
    scenario.wait_consistent(&run);
    let of_second = |sql: &str| scenario.target.try_sql_in(&second, sql).unwrap_or_default();
    wait_until(DEADLINE, "the second sink", || {
        of_second("select count(consistent_since) from freshet.checkpoint") == "1"
    });
    proxy.freeze();
    scenario.my("insert into t values (1000,'x'); update t set v=concat(v,'+') where id < 10; delete from t where id=50");
    scenario.wait_for(&run, "the row at the first sink", "select count(*) from t where id=1000", 1);
    run.kill9();
    proxy.cut();
    proxy.thaw();
    assert_eq!(of_second("select count(*) from t where id=1000"), "0");
    std::fs::remove_dir_all(&scenario.settings.log_dir).unwrap();
    scenario.my("insert into t values (1001,'y'); update t set v=concat(v,'-') where id < 5");
    scenario.catch_up();
    scenario.compare(&["t"]);
    let rows = "select id, v from t order by id";
    assert_eq!(of_second(rows), scenario.pg(rows));
}
