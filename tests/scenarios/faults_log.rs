//! What can happen to the log's directory: damage in the tail or before it, loss, an older copy, a full disk.

use std::fs::OpenOptions;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::process::Command;

use freshet_testkit::servers::{Flavor, Proxy, SmallDisk, is_root, wait_until};

use crate::kit::{DEADLINE, Scenario, numbers_sql};

fn with_table(scenario: &Scenario) {
    scenario.my("create table t (id int primary key, v varchar(2000))");
    scenario.my(&numbers_sql("t", 1, 100));
}

/// A pipeline that has loaded and streamed, and is stopped.
fn stopped(name: &str) -> Scenario {
    let scenario = Scenario::new(Flavor::MariaDb, name);
    with_table(&scenario);
    scenario.catch_up();
    scenario.my("update t set v=concat(v,'+')");
    scenario.catch_up();
    scenario
}

fn append(path: &Path, bytes: &[u8]) {
    OpenOptions::new().append(true).open(path).unwrap().write_all(bytes).unwrap();
}

#[test]
fn o11_a_torn_tail_is_cut_back_and_the_pipeline_goes_on() {
    let scenario = stopped("torn");
    let last = scenario.segments().pop().unwrap();
    let length = std::fs::metadata(&last).unwrap().len();
    for tail in [&b"torn"[..], &[0; 4096], &[0xff; 100]] {
        append(&last, tail);
        scenario.my("update t set v=concat(v,'-') where id < 10");
        scenario.catch_up();
        scenario.compare(&["t"]);
    }
    assert_eq!(scenario.freshet(&["log", "verify"]).code, Some(0));
    assert!(std::fs::metadata(&last).unwrap().len() > length);
}

/// A file that lost its end, which had been durable and applied: the sink is ahead of the log, so the log is rebuilt
/// from where the sink stands.
#[test]
fn o11_a_log_cut_short_is_rebuilt_from_the_sink() {
    let scenario = stopped("cut_short");
    let last = scenario.segments().pop().unwrap();
    let length = std::fs::metadata(&last).unwrap().len();
    OpenOptions::new().write(true).open(&last).unwrap().set_len(length - 30).unwrap();
    scenario.my("update t set v=concat(v,'-') where id < 10");
    let exit = scenario.run();
    // What was durable is damaged: either that is told with the place, or it is made good; never passed over.
    if exit.code != Some(0) {
        assert_eq!(exit.code, Some(5), "{}", exit.stderr);
        std::fs::remove_dir_all(&scenario.settings.log_dir).unwrap();
        scenario.catch_up();
    }
    scenario.compare(&["t"]);
}

#[test]
fn o11_a_flipped_byte_before_the_tail_stops_with_segment_and_offset() {
    let scenario = stopped("flipped");
    for _ in 0..3 {
        scenario.my("update t set v=concat(v,'-')");
        scenario.catch_up();
    }
    let first = scenario.segments().remove(0);
    let mut bytes = std::fs::read(&first).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x20;
    let mut file = OpenOptions::new().write(true).open(&first).unwrap();
    file.seek(SeekFrom::Start(middle as u64)).unwrap();
    file.write_all(&bytes[middle..=middle]).unwrap();
    let name = first.file_name().unwrap().to_str().unwrap();
    let verify = scenario.freshet(&["log", "verify"]);
    assert_eq!(verify.code, Some(5), "{}\n{}", verify.stdout, verify.stderr);
    let said = format!("{}{}", verify.stdout, verify.stderr);
    assert!(said.contains(name) && said.contains("offset"), "{said}");
    scenario.my("update t set v=concat(v,'*')");
    scenario.refused(5, &[name]);
    // The way out that the message names: give the log up; the targets know where to go on.
    std::fs::remove_dir_all(&scenario.settings.log_dir).unwrap();
    scenario.catch_up();
    scenario.compare(&["t"]);
}

#[test]
fn a_log_directory_that_was_deleted_is_rebuilt_from_the_sink() {
    let scenario = stopped("deleted");
    std::fs::remove_dir_all(&scenario.settings.log_dir).unwrap();
    scenario.my("update t set v=concat(v,'-'); delete from t where id=7; insert into t values (1000,'x')");
    scenario.catch_up();
    scenario.compare(&["t"]);
}

/// An older copy of the log, put back, ends before what the sink has; a newer one of another life does not match.
#[test]
fn a_log_directory_from_an_old_copy_is_rebuilt_from_the_sink() {
    for changed_meanwhile in [false, true] {
        let scenario = stopped("old_copy");
        let copy = scenario.dir.join("copy");
        copy_dir(&scenario.settings.log_dir, &copy);
        scenario
            .my("update t set v=concat(v,'-'); delete from t where id=7; insert into t values (1000,'x')");
        scenario.catch_up();
        if changed_meanwhile {
            std::fs::remove_dir_all(&scenario.settings.log_dir).unwrap();
            scenario.catch_up();
            scenario.my("update t set v=concat(v,'/')");
            scenario.catch_up();
        }
        std::fs::remove_dir_all(&scenario.settings.log_dir).unwrap();
        copy_dir(&copy, &scenario.settings.log_dir);
        scenario.my("update t set v=concat(v,'*') where id < 50; delete from t where id=8");
        scenario.catch_up();
        scenario.compare(&["t"]);
    }
}

fn copy_dir(from: &Path, to: &Path) {
    let done = Command::new("cp").args(["-a", "-T"]).arg(from).arg(to).status().unwrap();
    assert!(done.success());
}

/// The log is lost during the load, and while changes of before F_high wait in it.
#[test]
fn a_log_lost_during_the_load_is_rebuilt() {
    use freshet_testkit::servers::Hold;
    let mut scenario = Scenario::new(Flavor::MariaDb, "lost_in_load");
    with_table(&scenario);
    let proxy = Proxy::start(scenario.target.port());
    scenario.settings.sink_port = proxy.port();
    proxy.hold("copy ", Hold::Message);
    let run = scenario.spawn();
    wait_until(DEADLINE, "the load to be held", || proxy.is_holding());
    scenario.my("update t set v=concat(v,'-'); delete from t where id=7; insert into t values (1000,'x')");
    run.kill9();
    proxy.release();
    std::fs::remove_dir_all(&scenario.settings.log_dir).unwrap();
    scenario.my("update t set v=concat(v,'*') where id < 50; insert into t values (1001,'y')");
    scenario.catch_up();
    scenario.compare(&["t"]);
}

/// O11: the disk of the log is full; freed, the pipeline goes on with nothing lost.
#[test]
fn o11_a_full_log_disk_stops_nothing_for_good() {
    if !is_root() {
        eprintln!("Needs root to mount a small disk");
        return;
    }
    let mut scenario = Scenario::new(Flavor::MariaDb, "log_full");
    with_table(&scenario);
    let disk = SmallDisk::new("log", 96 << 20);
    scenario.settings.log_dir = disk.path().join("log");
    scenario.catch_up();
    disk.fill();
    let run = scenario.spawn();
    scenario.my("insert into t select seq, repeat('x',1500) from seq_1001_to_3000");
    let told = || {
        let said = run.stderr().to_lowercase();
        said.contains("space") || said.contains("disk") || said.contains("full")
    };
    wait_until(DEADLINE, "the full disk to be told", || told() || !run.is_running());
    assert!(told(), "{}", run.stderr());
    disk.release();
    wait_until(DEADLINE, "the rows or the end", || {
        !run.is_running() || scenario.pg_number("select count(*) from t") == Some(2_100)
    });
    if run.is_running() {
        scenario.stop(&run);
    }
    scenario.catch_up();
    scenario.compare(&["t"]);
}

/// O3: the log's bound pauses capture, which keeps its connection, and goes on when the target does.
#[test]
fn o3_a_log_at_its_bound_pauses_and_goes_on() {
    let mut scenario = Scenario::new(Flavor::MariaDb, "bound");
    with_table(&scenario);
    scenario.settings.log_more = "bytes_max: 64MiB".into();
    let proxy = Proxy::start(scenario.target.port());
    scenario.settings.sink_port = proxy.port();
    let run = scenario.spawn();
    scenario.wait_consistent(&run);
    proxy.freeze();
    for part in 0..15 {
        let (from, to) = (10_000 + part * 4_000, 13_999 + part * 4_000);
        scenario.my(&format!("insert into t select seq, repeat('x',1500) from seq_{from}_to_{to}"));
    }
    let bytes =
        || -> u64 { scenario.segments().iter().map(|path| path.metadata().map_or(0, |m| m.len())).sum() };
    wait_until(DEADLINE, "a full log", || bytes() > 48 << 20);
    let (mut last, mut same) = (0, 0);
    wait_until(DEADLINE, "capture to pause", || {
        same = if bytes() == last { same + 1 } else { 0 };
        last = bytes();
        same > 40
    });
    assert!(last < 80 << 20, "{last} bytes in the log");
    assert!(run.is_running(), "{}", run.stderr());
    proxy.cut();
    proxy.thaw();
    scenario.wait_for(&run, "all rows", "select count(*) from t", 60_100);
    scenario.stop(&run);
    scenario.compare(&["t"]);
}

/// O12: a log of another version is refused by name, never read as something else.
#[test]
fn o12_a_log_of_an_unknown_version_or_another_file_is_refused() {
    let scenario = stopped("version");
    for path in [scenario.segments().remove(0), scenario.settings.log_dir.join("LOG")] {
        let good = std::fs::read(&path).unwrap();
        std::fs::write(&path, b"#!/bin/sh\necho this is no log\n".repeat(40)).unwrap();
        scenario.refused(5, &[path.file_name().unwrap().to_str().unwrap()]);
        std::fs::write(&path, good).unwrap();
    }
    scenario.catch_up();
    scenario.compare(&["t"]);
}
