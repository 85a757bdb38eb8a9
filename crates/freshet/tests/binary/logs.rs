//! `freshet log` over a log that the test writes through `freshet-log`, and still holds open.

use crate::support::{Dir, freshet};
use freshet_core::codec::BatchBuilder;
use freshet_core::gtid::MariadbGtidSet;
use freshet_core::log::{Append, Log, LogStore};
use freshet_core::position::{BinlogPosition, CommitPlace, FilePos, GtidSet, TxnId};
use freshet_core::{Column, DataType, Position, TableName, TableSchema};
use freshet_log::{DirectoryStore, Options};
use serde_json::Value;
use std::process::Stdio;
use std::sync::Arc;

fn position(pos: u64) -> Position {
    let mut gtids = MariadbGtidSet::default();
    gtids.set(0, 1, pos);
    Position::Binlog(BinlogPosition {
        server: "s".into(),
        file: FilePos { file: "b.000001".into(), pos },
        gtids: GtidSet::Mariadb(gtids),
    })
}

fn schema(table: &str) -> TableSchema {
    let column = |name: &str, data_type| Column { name: name.into(), data_type, nullable: true };
    let columns = vec![
        column("id", DataType::Int { bits: 64, unsigned: true }),
        column("note", DataType::Text { length: None, fixed: false }),
    ];
    TableSchema::new(TableName::new("shop", table), columns, vec![0]).expect("valid")
}

/// Writes transactions of one insert each, `parts` of them being appended without a commit in between.
async fn write(dir: &Dir, table: &str, transactions: u64, parts: u64) -> Arc<dyn Log> {
    let store = DirectoryStore::new(dir.0.join("log"), Options::default());
    let log = match store.open().await.expect("opens") {
        Some(log) => log,
        None => store.create(&position(0), &[]).await.expect("created"),
    };
    let mut writer = log.writer().await.expect("taken over");
    let schema = schema(table);
    let mut batch = BatchBuilder::new();
    for sequence in 1..=transactions {
        batch.begin(&TxnId::Mariadb { domain: 0, server: 1, sequence }, 0);
        for part in 0..parts {
            if part > 0 {
                writer.append(Append { batch: batch.seal(), position: None }).await.expect("appended");
            }
            batch.schema(&schema);
            let mut row = batch.insert(&schema);
            assert!(row.uint(u64::MAX - part));
            row.text("grün");
            row.finish();
        }
        let place = CommitPlace::Binlog(FilePos { file: "b.000001".into(), pos: sequence * 100 });
        batch.commit("s", &place, 1_700_000_000_000_000);
        let position = Some(position(sequence * 100));
        writer.append(Append { batch: batch.seal(), position }).await.expect("appended");
    }
    writer.close().await.expect("durable");
    log
}

fn lines(dir: &Dir, args: &[&str]) -> Vec<Value> {
    let ran = freshet(&["log", "cat"]).arg(&dir.0.join("log")).args(args).run();
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    ran.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[tokio::test]
async fn cat_prints_every_change_with_its_exact_values() {
    let dir = Dir::new();
    let _held = write(&dir, "orders", 2, 1).await;
    let printed = freshet(&["log", "cat"]).arg(&dir.0.join("log")).run().stdout;
    assert_eq!(
        printed.lines().next(),
        Some(
            r#"{"offset":0,"position":"b.000001:100","transaction":"0-1-1","table":"shop.orders","operation":"insert","before":null,"after":{"id":18446744073709551615,"note":"grün"},"commit_time":"2023-11-14T22:13:20Z"}"#
        )
    );
    assert_eq!(lines(&dir, &[]).len(), 2);
    assert_eq!(lines(&dir, &["--from", "1"]).len(), 1);
    assert_eq!(lines(&dir, &["--from", "2"]).len(), 0);
    assert_eq!(lines(&dir, &["--limit", "1"]).len(), 1);
    assert_eq!(lines(&dir, &["--table", "shop.o*", "--table", "x.y"]).len(), 2);
    assert_eq!(lines(&dir, &["--table", "shop.x"]).len(), 0);
    let ran = freshet(&["log", "cat", "--table", "orders"]).arg(&dir.0.join("log")).run();
    assert_eq!(ran.code, 2, "{}", ran.stderr);
}

#[tokio::test]
async fn t5_a_transaction_of_many_records_is_told_with_its_commit() {
    let dir = Dir::new();
    let _held = write(&dir, "orders", 2, 5).await;
    let lines = lines(&dir, &[]);
    let positions: Vec<&str> = lines.iter().filter_map(|line| line["position"].as_str()).collect();
    assert_eq!(positions, [["b.000001:100"; 5], ["b.000001:200"; 5]].concat());
}

#[tokio::test]
async fn ls_and_verify_tell_what_is_there() {
    let dir = Dir::new();
    let target = dir.0.join("log");
    drop(write(&dir, "orders", 3, 1).await);
    let ls = freshet(&["log", "ls"]).arg(&target).run();
    assert_eq!(ls.code, 0, "{}", ls.stderr);
    assert!(ls.stdout.contains("next offset 3"), "{}", ls.stdout);
    let json = freshet(&["log", "ls", "--json"]).arg(&target).run();
    let segment: Value = serde_json::from_str(json.stdout.trim()).expect("one segment");
    assert_eq!(
        (&segment["records"], &segment["changes"], &segment["next"]),
        (&3.into(), &3.into(), &3.into())
    );
    let verify = freshet(&["log", "verify"]).arg(&target).run();
    assert_eq!((verify.code, verify.stderr.as_str()), (0, ""));
    assert!(verify.stdout.ends_with("Every sum is right\n"), "{}", verify.stdout);
}

#[tokio::test]
async fn o11_a_flipped_byte_is_named() {
    let dir = Dir::new();
    let target = dir.0.join("log");
    drop(write(&dir, "orders", 3, 1).await);
    let json = freshet(&["log", "ls", "--json"]).arg(&target).run();
    let segment: Value = serde_json::from_str(json.stdout.trim()).expect("one segment");
    let file = target.join(segment["file"].as_str().expect("a name"));
    let mut bytes = std::fs::read(&file).expect("there");
    let at = bytes.windows(5).position(|w| w == "grün".as_bytes()).expect("the first row");
    bytes[at] ^= 1;
    std::fs::write(&file, bytes).expect("written");
    for command in ["verify", "cat"] {
        let ran = freshet(&["log", command]).arg(&target).run();
        assert_eq!(ran.code, 5, "{command}: {}{}", ran.stdout, ran.stderr);
        assert!(ran.stderr.starts_with("error: ") && ran.stderr.contains(".segment"), "{}", ran.stderr);
        assert!(!ran.stderr.contains("gr"), "no cell value: {}", ran.stderr);
    }
}

#[tokio::test]
async fn a_reader_that_goes_away_is_no_error() {
    let dir = Dir::new();
    drop(write(&dir, "orders", 2_000, 1).await);
    let mut command = freshet(&["log", "cat"]).arg(&dir.0.join("log")).0;
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("ends");
    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
}

#[test]
fn a_directory_without_a_log_is_named() {
    let dir = Dir::new();
    for command in ["ls", "cat", "verify"] {
        let ran = freshet(&["log", command]).arg(&dir.0).run();
        assert_eq!(ran.code, 2);
        assert!(
            ran.stderr.starts_with(&format!("error: No log is in {}", dir.0.display())),
            "{}",
            ran.stderr
        );
    }
}
