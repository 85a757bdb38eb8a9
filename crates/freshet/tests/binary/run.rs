//! `freshet run` as a process: signals, the one owner of a log directory, errors. No servers: nobody listens on
//! port 1, and for a while the engine hopes that somebody will.

use crate::support::{Dir, freshet};
use freshet_testkit::servers::{Freshet, wait_until};
use std::fs::File;
use std::process::Command;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(300);

const UNREACHABLE: &str = "name: shop\nmode: load-and-stream\n\
    source: { type: mariadb, host: 127.0.0.1, port: 1, user: u, password: hunter2 }\n\
    tables: { include: [\"shop.*\"] }\nlog: { dir: data }\n\
    sinks: [{ name: w, type: postgres, host: 127.0.0.1, port: 1, database: d, user: u, password: hunter3 }]\n";

/// A run that waits for its servers.
fn waiting(dir: &Dir, more: &[&str]) -> Freshet {
    let file = dir.file("shop.yaml", UNREACHABLE);
    let mut command = Command::new(env!("CARGO_BIN_EXE_freshet"));
    let running = Freshet::spawn_command(command.arg("run").arg(&file).args(more));
    wait_until(DEADLINE, "a first attempt", || {
        running.stderr().contains("trying again") || !running.is_running()
    });
    running
}

fn status(dir: &Dir) -> serde_json::Value {
    let ran = freshet(&["status", "--json"]).arg(&dir.0.join("shop.yaml")).run();
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    serde_json::from_str(&ran.stdout).expect("json")
}

#[test]
fn a_signal_stops_in_order_and_status_tells() {
    for interrupt in [false, true] {
        let dir = Dir::new();
        let running = waiting(&dir, &[]);
        wait_until(DEADLINE, "status.json", || dir.0.join("data/status.json").exists());
        let json = status(&dir);
        assert_eq!((&json["running"], &json["state"]), (&true.into(), &"running".into()));
        if interrupt {
            running.interrupt()
        } else {
            running.terminate()
        }
        let exit = running.wait(DEADLINE);
        assert_eq!(exit.code, Some(0), "{}", exit.stderr);
        let json = status(&dir);
        assert_eq!((&json["running"], &json["state"]), (&false.into(), &"stopped".into()));
        assert_eq!(exit.stdout, "");
    }
}

#[test]
fn o10_log_lines_are_json_without_secrets() {
    let dir = Dir::new();
    let running = waiting(&dir, &["--log-level", "trace"]);
    running.terminate();
    let exit = running.wait(DEADLINE);
    assert_eq!(exit.code, Some(0));
    assert!(!exit.stderr.contains("hunter"), "{}", exit.stderr);
    for line in exit.stderr.lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    }
}

#[test]
fn a_second_process_on_the_same_directory_is_refused() {
    let dir = Dir::new();
    let running = waiting(&dir, &[]);
    wait_until(DEADLINE, "status.json", || dir.0.join("data/status.json").exists());
    // It waits for its servers only so long, and holds the directory as long as it is there.
    running.pause();
    let second = freshet(&["run"]).arg(&dir.0.join("shop.yaml")).run();
    assert_eq!(second.code, 4, "{}", second.stderr);
    assert!(second.stderr.contains("is running the pipeline of log directory"), "{}", second.stderr);
    assert!(second.stderr.contains("\nhint: Stop it first"), "{}", second.stderr);
    let reset = freshet(&["reset", "--yes"]).arg(&dir.0.join("shop.yaml")).run();
    assert_eq!(reset.code, 4, "{}", reset.stderr);
    running.kill9();
    assert_eq!(status(&dir)["running"], false);
}

#[test]
fn a_log_directory_that_cannot_be_is_named() {
    let dir = Dir::new();
    let file = dir.file("shop.yaml", &UNREACHABLE.replace("dir: data", "dir: shop.yaml/data"));
    let ran = freshet(&["run"]).arg(&file).run();
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert!(ran.stderr.contains("cannot be used: not a directory\nhint: Check log.dir"), "{}", ran.stderr);
}

#[test]
fn status_does_not_disturb_a_start() {
    let dir = Dir::new();
    dir.file("status.lock", "");
    let lock = File::open(dir.0.join("status.lock")).expect("there");
    lock.lock_shared().expect("nobody else");
    let file = dir.file("shop.yaml", &UNREACHABLE.replace("dir: data", "dir: ."));
    let mut command = Command::new(env!("CARGO_BIN_EXE_freshet"));
    let running = Freshet::spawn_command(command.arg("run").arg(&file));
    let holds =
        |fd: std::fs::DirEntry| std::fs::read_link(fd.path()).is_ok_and(|file| file.ends_with("status.lock"));
    let fds = format!("/proc/{}/fd", running.pid());
    wait_until(DEADLINE, "the start to come to the lock", || {
        std::fs::read_dir(&fds).is_ok_and(|fds| fds.flatten().any(holds)) || !running.is_running()
    });
    // The start waits for a while; a look at the status is shorter.
    drop(lock);
    wait_until(DEADLINE, "a first attempt", || {
        running.stderr().contains("trying again") || !running.is_running()
    });
    running.terminate();
    assert_eq!(running.wait(DEADLINE).code, Some(0));
}
