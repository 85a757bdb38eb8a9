//! The real binary, as a user meets it: usage, exit codes, what goes to which stream. No servers.

use crate::support::{Dir, Ran, freshet};
use std::path::{Path, PathBuf};

fn pipelines() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../pipelines");
    let files = std::fs::read_dir(dir).expect("pipelines/").map(|entry| entry.expect("entry").path());
    let mut files: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|ext| ext == "yaml")).collect();
    files.sort();
    assert!(files.len() >= 2, "{files:?}");
    files
}

/// A pipeline whose servers are not there: nobody listens on port 1.
const UNREACHABLE: &str = "name: shop\nmode: load-and-stream\n\
    source: { type: mariadb, host: 127.0.0.1, port: 1, user: u, password: \"${PW}\" }\n\
    tables: { include: [\"shop.*\"] }\nlog: { dir: data }\n\
    sinks: [{ name: w, type: postgres, host: 127.0.0.1, port: 1, database: d, user: u }]\n";

#[test]
fn help_names_every_command_and_every_exit_code() {
    let ran = freshet(&["--help"]).run();
    assert_eq!(ran.code, 0);
    for word in ["run", "check", "status", "log", "reset", "Exit codes:", "143"] {
        assert!(ran.stdout.contains(word), "{word}: {}", ran.stdout);
    }
}

#[test]
fn usage_errors_exit_with_2() {
    for args in [
        &[][..],
        &["rnu"],
        &["run"],
        &["run", "x.yaml", "--until", "noon"],
        &["run", "x.yaml", "--progress", "loud"],
        &["check", "x.yaml", "--syntax", "--grants"],
        &["log"],
        &["log", "cat", "x", "--limit", "many"],
    ] {
        let ran = freshet(args).run();
        assert_eq!(ran.code, 2, "{args:?}: {}{}", ran.stdout, ran.stderr);
        assert_eq!(ran.stdout, "", "{args:?}");
    }
}

#[test]
fn files_that_are_not_there_exit_with_2_and_are_named() {
    for args in [
        &["run", "none.yaml"][..],
        &["check", "none.yaml"],
        &["status", "none.yaml"],
        &["log", "ls", "none.yaml"],
    ] {
        let ran = freshet(args).run();
        assert_eq!(ran.code, 2, "{args:?}");
        assert_eq!(
            ran.stderr, "error: none.yaml: It cannot be read: no such file or directory\n",
            "{args:?}"
        );
    }
}

#[test]
fn examples_can_be_read_without_their_environment() {
    for file in pipelines() {
        let ran = freshet(&["check", "--syntax"]).arg(&file).run();
        assert_eq!(ran.code, 0, "{}: {}", file.display(), ran.stderr);
        let ran = freshet(&["check"]).arg(&file).env_remove("SHOP_PASSWORD").run();
        assert_eq!(ran.code, 2, "{}", file.display());
        assert!(ran.stderr.contains("Environment variable SHOP_PASSWORD is not set"), "{}", ran.stderr);
    }
}

#[test]
fn problems_are_told_at_once_with_line_and_hint() {
    let dir = Dir::new();
    let file = dir.file(
        "shop.yaml",
        &UNREACHABLE.replace("name: shop", "nmae: shop").replace("port: 1, u", "port: 0, u"),
    );
    let Ran { code, stderr, .. } = freshet(&["check", "--syntax"]).arg(&file).run();
    let file = file.display();
    assert_eq!(code, 2);
    assert_eq!(
        stderr,
        format!(
            "error: {file}: line 1, name: Is missing\n\
             error: {file}: line 1, nmae: Is not a key that freshet knows\n\
             hint: Did you mean name?\n\
             error: {file}: line 3, source.port: Must be a port from 1 to 65535\n"
        )
    );
}

#[test]
fn status_without_a_pipeline_says_so() {
    let dir = Dir::new();
    let ran = freshet(&["status"]).arg(&dir.0).run();
    assert_eq!(ran.code, 2);
    assert_eq!(
        ran.stderr,
        format!("error: No pipeline has run in {}\nhint: Start it with freshet run\n", dir.0.display())
    );
    let file = dir.file("shop.yaml", UNREACHABLE);
    let ran = freshet(&["status"]).arg(&file).run();
    assert_eq!(ran.code, 2, "the secrets of the file are not needed: {}", ran.stderr);
    assert!(ran.stderr.contains("is not there"), "{}", ran.stderr);
}

#[test]
fn status_tells_a_process_that_died_from_one_that_stopped() {
    let dir = Dir::new();
    let status = |state: &str, error: &str| {
        format!(
            r#"{{"version":1,"pipeline":"shop","mode":"load","pid":7,"state":"{state}",
            "started_at":"2026-01-01T00:00:00Z","updated_at":"2026-01-01T00:00:00Z","phase":"streaming","error":{error},
            "source":{{"type":"mysql","host":"db","port":3306,"tip":null,"captured":null,"rows_captured":0,"waiting_for":null}},
            "log":{{"bytes":1048576,"bytes_max":10737418240}},
            "sinks":[{{"name":"w","phase":"streaming","applied":3,"position":null,"commit_time":null,"lag_ms":12,"lag_bytes":null,
              "changes":{{"inserts":1,"updates":2,"deletes":3}},"waiting_for":null,"not_carried":["view shop.v"],
              "tables":[{{"schema":"shop","table":"orders","phase":"streaming","rows_loaded":1234567,"rows_estimate":9,
                "chunks_done":1,"chunks":1,"changes":{{"inserts":1,"updates":2,"deletes":3}}}}]}}]}}"#
        )
    };
    dir.file("status.json", &status("running", "null"));
    let ran = freshet(&["status"]).arg(&dir.0).run();
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stdout.starts_with("shop: not running; process 7 ended without a word"), "{}", ran.stdout);
    for text in [
        "sink w: streaming, lag 12 ms",
        "shop.orders",
        "1,234,567",
        "1.00 MiB of 10.0 GiB",
        "not carried over: view shop.v",
    ] {
        assert!(ran.stdout.contains(text), "{text}: {}", ran.stdout);
    }
    let error = r#"{"kind":"table","exit_code":7,"message":"Table shop.orders differs","hint":"Look"}"#;
    dir.file("status.json", &status("failed", error));
    let ran = freshet(&["status"]).arg(&dir.0).run();
    assert!(
        ran.stdout.contains("failed") && ran.stdout.contains("error: Table shop.orders differs\nhint: Look")
    );
    let json: serde_json::Value =
        serde_json::from_str(&freshet(&["status", "--json"]).arg(&dir.0).run().stdout).expect("json");
    assert_eq!((&json["running"], &json["error"]["exit_code"]), (&false.into(), &7.into()));
    assert!(json["age_ms"].as_u64().is_some_and(|ms| ms > 0));
}

#[test]
fn reset_asks_and_without_a_terminal_refuses() {
    let dir = Dir::new();
    let file = dir.file("shop.yaml", UNREACHABLE);
    let ran = freshet(&["reset"]).arg(&file).env("PW", "x").run();
    assert_eq!(ran.code, 2);
    assert_eq!(
        ran.stderr,
        "error: Nobody is there to confirm the reset\nhint: Give --yes to reset without being asked\n"
    );
    let stream = dir.file("stream.yaml", &UNREACHABLE.replace("load-and-stream", "stream"));
    let ran = freshet(&["reset", "--yes", "--drop-tables"]).arg(&stream).env("PW", "x").run();
    assert_eq!(ran.code, 2, "tables that freshet did not make: {}", ran.stderr);
    assert!(ran.stderr.contains("hint: Reset without --drop-tables"), "{}", ran.stderr);
}
