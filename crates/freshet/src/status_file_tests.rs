//! The status file round trips, names its version, and its lock tells whether a pipeline runs.

use super::*;
use freshet_core::{Offset, TableName};
use freshet_pipeline::status::Status;
use std::sync::atomic::{AtomicU32, Ordering};

struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("freshet-status-{}-{number}", std::process::id()));
        // A process of that number may have been killed here once.
        std::fs::remove_dir_all(&dir).ok();
        Self(dir)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

fn header() -> Header {
    Header {
        pipeline: "shop".to_owned(),
        mode: "load".to_owned(),
        kind: "mysql".to_owned(),
        host: "db".to_owned(),
        port: 3306,
        bytes_max: 7,
        started_at: Stamp(jiff::Timestamp::UNIX_EPOCH),
    }
}

fn snapshot() -> Snapshot {
    let status = Status::default();
    status.sink("w", |sink| {
        sink.phase = Phase::CatchingUp;
        sink.applied = Some(Offset(9));
        sink.commit_us = 1_700_000_000_123_456;
        sink.lag_bytes = Some(5);
    });
    status.table("w", &TableName::new("shop", "t.x"), |table| table.rows_loaded = 3);
    status.snapshot()
}

#[test]
fn what_is_written_is_read_back() {
    let dir = Dir::new();
    assert_eq!(read(&dir.0).expect("no file is no error"), None);
    let writer = Writer::claim(&dir.0).expect("claimed");
    let failed = Failed { kind: "table".into(), exit_code: 7, message: "m".into(), hint: None };
    let file = header().file(&snapshot(), State::Failed, Some(failed));
    writer.write(&file).expect("written");
    assert_eq!(read(&dir.0).expect("readable"), Some(file.clone()));
    let json = serde_json::to_value(&file).expect("json");
    assert_eq!(json["sinks"][0]["phase"], "catching-up");
    assert_eq!(json["sinks"][0]["commit_time"], "2023-11-14T22:13:20.123456Z");
    assert_eq!(json["sinks"][0]["tables"][0]["table"], "t.x");
    assert_eq!(json["source"]["type"], "mysql");
}

#[test]
fn other_versions_and_other_files_are_refused_by_name() {
    let dir = Dir::new();
    std::fs::create_dir_all(&dir.0).expect("directory");
    std::fs::write(dir.0.join(FILE_NAME), "{\"version\": 99, \"x\": 1}").expect("written");
    let error = read(&dir.0).expect_err("refused");
    assert!(error.message().ends_with("has version 99, this build reads 1"), "{}", error.message());
    std::fs::write(dir.0.join(FILE_NAME), "{\"version\": 1}").expect("written");
    assert!(read(&dir.0).is_err());
}

#[test]
fn one_process_holds_the_lock() {
    let dir = Dir::new();
    assert!(!is_running(&dir.0));
    let writer = Writer::claim(&dir.0).expect("claimed");
    assert!(is_running(&dir.0));
    let second = Writer::claim(&dir.0).expect_err("held");
    assert_eq!(*second.kind(), freshet_core::ErrorKind::Fenced);
    drop(writer);
    assert!(!is_running(&dir.0));
    Writer::claim(&dir.0).expect("free again");
    remove(&dir.0).expect("removed");
    remove(&dir.0).expect("nothing to remove is no error");
}
