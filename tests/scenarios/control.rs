//! The command line as a black box: configuration, modes, check, status, reset, signals, and what is never shown.

use freshet_testkit::servers::{Flavor, Freshet, MyOptions, PostgresOptions, wait_until};

use crate::kit::{DEADLINE, Scenario, assert_failed, numbers_sql, own_source, own_target};

fn with_table(scenario: &Scenario) {
    scenario.my("create table t (id int primary key, v varchar(100))");
    scenario.my(&numbers_sql("t", 1, 100));
}

fn run_file(scenario: &Scenario, yaml: &str) -> freshet_testkit::servers::Exit {
    let file = scenario.dir.join("other.yaml");
    std::fs::write(&file, yaml).unwrap();
    let mut command = Freshet::command();
    command.args(["run", "--until", "caught-up"]).arg(&file);
    Freshet::spawn_command(&mut command).wait(DEADLINE)
}

#[test]
fn unknown_and_misspelt_configuration_is_refused_with_the_line() {
    let scenario = Scenario::new(Flavor::MariaDb, "config");
    with_table(&scenario);
    let yaml = scenario.yaml();
    let line_of = |text: &str, word: &str| text.lines().position(|line| line.contains(word)).unwrap() + 1;
    for (good, bad) in [
        ("mode: load-and-stream", "mode: load_and_stream"),
        ("mode: load-and-stream", "moed: load-and-stream"),
        ("  type: mariadb", "  type: mariadbb"),
        ("  host: 127.0.0.1", "  hots: 127.0.0.1"),
        ("    database: ", "    datbase: "),
        ("include: [", "includ: ["),
        ("bytes_max: 1GiB", "bytes_max: 1 gigabyte"),
        ("password: \"freshet\"", "password: \"${NO_SUCH_VARIABLE_HERE}\""),
    ] {
        let spoilt = yaml.replacen(good, bad, 1);
        assert_ne!(spoilt, yaml, "{good}");
        let exit = run_file(&scenario, &spoilt);
        let line = line_of(&spoilt, bad.trim()).to_string();
        assert_failed(&exit, 2, &["other.yaml", &line]);
    }
    assert_eq!(scenario.pg("select count(*) from pg_tables where schemaname='public'"), "0");
}

/// A changed configuration that would lose or double rows is refused; putting it back goes on.
#[test]
fn a_changed_configuration_is_refused_by_name() {
    let scenario = Scenario::new(Flavor::MariaDb, "changed");
    with_table(&scenario);
    scenario.my("create table t2 (id int primary key)");
    scenario.catch_up();
    let yaml = scenario.yaml();
    let name = &scenario.name;
    for (good, bad) in [
        ("mode: load-and-stream".to_owned(), "mode: stream".to_owned()),
        (format!("include: [\"{name}.*\"]"), format!("include: [\"{name}.t\"]")),
        (format!("include: [\"{name}.*\"]"), format!("include: [\"{name}.*\"], exclude: [\"{name}.t2\"]")),
        (format!("{name}: public"), format!("{name}: elsewhere")),
    ] {
        let changed = yaml.replacen(&good, &bad, 1);
        assert_ne!(changed, yaml, "{good}");
        assert_failed(&run_file(&scenario, &changed), 2, &["changed", "hint:"]);
    }
    scenario.my("insert into t values (1000,'x')");
    scenario.catch_up();
    scenario.compare(&["t"]);
}

/// A sink under another name is another sink: it would begin again over what is there.
#[test]
fn a_renamed_sink_does_not_double_rows() {
    let scenario = Scenario::new(Flavor::MariaDb, "renamed");
    with_table(&scenario);
    scenario.catch_up();
    let exit = run_file(&scenario, &scenario.yaml().replacen("name: warehouse", "name: depot", 1));
    assert_eq!(exit.code, Some(2), "{}", exit.stderr);
    scenario.compare(&["t"]);
    scenario.my("insert into t values (1000,'x')");
    scenario.catch_up();
    scenario.compare(&["t"]);
}

#[test]
fn mode_load_ends_by_itself_with_what_happened_meanwhile() {
    for flavor in [Flavor::MariaDb, Flavor::MySql] {
        let mut scenario = Scenario::new(flavor, "load_only");
        scenario.settings.mode = "load";
        with_table(&scenario);
        let exit = Freshet::spawn_command(&mut scenario.command(&["run"])).wait(DEADLINE);
        assert_eq!(exit.code, Some(0), "{}", exit.stderr);
        scenario.compare(&["t"]);
    }
}

#[test]
fn mode_stream_begins_from_now() {
    for flavor in [Flavor::MariaDb, Flavor::MySql] {
        let mut scenario = Scenario::new(flavor, "stream_only");
        scenario.settings.mode = "stream";
        with_table(&scenario);
        scenario.pg("set role freshet; create table t (id int primary key, v varchar(100))");
        let run = scenario.spawn();
        wait_until(DEADLINE, "the first checkpoint", || {
            assert!(run.is_running(), "{}", run.stderr());
            scenario.pg_number("select count(log_id) from freshet.checkpoint") == Some(1)
        });
        scenario.my("insert into t values (1000,'x'); update t set v='y' where id=1000; insert into t values (1001,'z')");
        scenario.wait_for(&run, "the rows", "select count(*) from t", 2);
        scenario.stop(&run);
        assert_eq!(scenario.pg("select * from t order by id"), "1000\ty\n1001\tz");
    }
}

#[test]
fn sigterm_ends_in_order_and_until_caught_up_holds_everything() {
    let scenario = Scenario::new(Flavor::MariaDb, "signals");
    with_table(&scenario);
    for round in 0..3 {
        let run = scenario.spawn();
        wait_until(DEADLINE, "a start", || {
            assert!(run.is_running(), "{}", run.stderr());
            run.stderr().contains("tarting")
        });
        scenario.my(&format!("insert into t values ({},'x')", 1_000 + round));
        scenario.stop(&run);
        scenario.my(&format!("insert into t values ({},'x')", 2_000 + round));
        scenario.catch_up();
        scenario.compare(&["t"]);
    }
}

#[test]
fn reset_begins_again() {
    let scenario = Scenario::new(Flavor::MariaDb, "reset");
    with_table(&scenario);
    scenario.catch_up();
    let exit = scenario.freshet(&["reset", "--yes", "--drop-tables"]);
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    assert_eq!(scenario.pg("select count(*) from pg_tables where schemaname='public'"), "0");
    scenario.my("delete from t where id > 50; alter table t add column w int default 3");
    scenario.catch_up();
    scenario.compare(&["t"]);
}

#[test]
fn status_tells_phases_counts_and_whether_it_runs() {
    let scenario = Scenario::new(Flavor::MariaDb, "status");
    with_table(&scenario);
    let run = scenario.spawn();
    scenario.wait_consistent(&run);
    scenario.my("insert into t values (1000,'x'); update t set v='y' where id=1; delete from t where id=2");
    scenario.wait_for(&run, "the rows", "select count(*) from t where id in (2,1000) or v='y'", 2);
    let status = || -> serde_json::Value {
        let exit = scenario.freshet(&["status", "--json"]);
        serde_json::from_str(&exit.stdout).unwrap_or_else(|e| panic!("{e}: {} {}", exit.stdout, exit.stderr))
    };
    wait_until(DEADLINE, "the status", || {
        let table = &status()["sinks"][0]["tables"][0];
        let changes = &table["changes"];
        table["rows_loaded"] == 100
            && changes["inserts"] == 1
            && changes["updates"] == 1
            && changes["deletes"] == 1
    });
    let running = status();
    assert_eq!((&running["running"], &running["phase"]), (&true.into(), &"streaming".into()));
    let text = scenario.freshet(&["status"]).stdout;
    assert!(text.contains("streaming") && text.contains("100"), "{text}");
    scenario.stop(&run);
    assert_eq!(status()["running"], false);
    let changes = scenario.checkpoint("inserts||','||updates||','||deletes");
    assert_eq!(changes, "1,1,1");
}

#[test]
fn check_names_every_fault_of_a_misconfigured_server() {
    let options = MyOptions::default()
        .arg("--binlog-format=STATEMENT")
        .arg("--binlog-row-image=MINIMAL")
        .arg("--binlog-row-metadata=NO_LOG");
    let source = own_source(Flavor::MariaDb, options);
    let target = own_target(PostgresOptions::default());
    let scenario = Scenario::between(source, target, "checked");
    scenario.my("create table plain (id int primary key) engine=MyISAM; create table t (id int)");
    let exit = scenario.freshet(&["check"]);
    assert_eq!(exit.code, Some(9), "{}\n{}", exit.stdout, exit.stderr);
    for word in ["binlog_format", "binlog_row_image", "binlog_row_metadata", "plain"] {
        assert!(exit.stdout.contains(word), "{word} is not named: {}", exit.stdout);
    }
    let grants = scenario.freshet(&["check", "--grants"]);
    assert_eq!(grants.code, Some(0), "{}", grants.stderr);
    assert!(grants.stdout.contains("GRANT"), "{}", grants.stdout);
}

#[test]
fn check_passes_where_a_run_passes() {
    for flavor in [Flavor::MariaDb, Flavor::MySql] {
        let scenario = Scenario::new(flavor, "check_passes");
        with_table(&scenario);
        let exit = scenario.freshet(&["check"]);
        assert_eq!(exit.code, Some(0), "{}\n{}", exit.stdout, exit.stderr);
        scenario.catch_up();
    }
}

/// O10: no cell value and no password in any output, file or control row, whatever happens to the row.
#[test]
fn o10_neither_values_nor_passwords_are_shown() {
    const MARKER: &str = "marker-0451-of-a-cell";
    let mut scenario = Scenario::new(Flavor::MariaDb, "marker");
    scenario.my(&format!(
        "create table t (id varchar(60) primary key, u varchar(60) unique, v varchar(60), d date); \
         insert into t values ('{MARKER}-1','{MARKER}-a','{MARKER}',null)"
    ));
    let mut said = String::new();
    let mut note = |what: &str, exit: &freshet_testkit::servers::Exit| {
        said += &format!("\n== {what}: {:?}\n{}{}", exit.code, exit.stdout, exit.stderr);
    };
    let verbose = |scenario: &Scenario| {
        let mut command = scenario.command(&["run", "--until", "caught-up", "--log-level", "trace"]);
        Freshet::spawn_command(&mut command).wait(DEADLINE)
    };
    note("load", &verbose(&scenario));
    scenario.my(&format!("insert into t values ('{MARKER}-2','{MARKER}-b','{MARKER}','2020-01-01')"));
    note("stream", &verbose(&scenario));
    // A divergence: the row is gone, there already, or its unique value is taken.
    scenario.pg(&format!("delete from t where id='{MARKER}-2'"));
    scenario.my(&format!("update t set v='{MARKER}-new' where id='{MARKER}-2'"));
    note("update of a missing row", &verbose(&scenario));
    scenario.pg(&format!("insert into t values ('{MARKER}-2','{MARKER}-b','x',null)"));
    note("mended", &verbose(&scenario));
    scenario.pg(&format!("insert into t values ('{MARKER}-3','{MARKER}-c','x',null)"));
    scenario.my(&format!("insert into t values ('{MARKER}-3','{MARKER}-d','{MARKER}',null)"));
    note("insert of an existing row", &verbose(&scenario));
    scenario.pg(&format!(
        "delete from t where id='{MARKER}-3'; insert into t values ('{MARKER}-9','{MARKER}-d','x',null)"
    ));
    note("a unique value that is taken", &verbose(&scenario));
    scenario.pg(&format!("delete from t where id='{MARKER}-9'"));
    scenario.pg("alter table t add constraint c check (length(v) < 50)");
    scenario.my(&format!("insert into t values ('{MARKER}-4','e',repeat('{MARKER}',2),'0000-00-00')")
        .replace("insert", "set sql_mode=''; insert"));
    note("a value without a place", &verbose(&scenario));
    scenario.settings.sink_more = "policies: { invalid_dates: null }".into();
    note("a check that fails", &verbose(&scenario));
    scenario.settings.sink_password = "password-0452".into();
    scenario.settings.source_password = "password-0452".into();
    note("wrong passwords", &verbose(&scenario));
    note("check", &scenario.freshet(&["check"]));
    note("status", &scenario.freshet(&["status", "--json"]));
    let errors = said.matches("error:").count();
    assert!(errors >= 4, "The faults did not fail: {said}");
    said += &std::fs::read_to_string(scenario.settings.log_dir.join("status.json")).unwrap();
    said +=
        &scenario.pg("select c::text from freshet.checkpoint c; select t::text from freshet.load_table t");
    for secret in [MARKER, "password-0452"] {
        let shown: Vec<&str> = said.lines().filter(|line| line.contains(secret)).collect();
        assert!(shown.is_empty(), "{secret} is shown: {shown:#?}");
    }
}
