//! Bounds of the log: its size pauses ingest at commits only, a full disk stops it by name, trimming keeps its rules.

use crate::common::{append_each, assert_holds, created, open, options, segment, segments};
use freshet_core::log::{Append, LogStore as _, LogWriter};
use freshet_core::{Error, ErrorKind, Offset};
use freshet_log::{DirectoryStore, Options};
use freshet_testkit::conformance::log::{append, batch, durable, parts, position, read_all};
use freshet_testkit::servers::{SmallDisk, TestDir};
use std::fs::File;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Appends if that is possible at once; nothing is queued, so `false` means that the log is full. The runtime's own wish
/// to let others have a turn does not count.
async fn append_at_once(writer: &mut dyn LogWriter, sequence: u64, bytes: usize) -> bool {
    let append = Append { batch: batch(sequence, 1, bytes), position: Some(position(sequence)) };
    let appended = tokio::task::unconstrained(async {
        tokio::select! {
            biased;
            appended = writer.append(append) => Some(appended),
            () = std::future::ready(()) => None,
        }
    })
    .await;
    let Some(appended) = appended else { return false };
    appended.expect("appends");
    durable(writer, sequence).await;
    true
}

/// Appends until the log is full; the last transaction in it.
async fn fill(writer: &mut dyn LogWriter, mut sequence: u64) -> u64 {
    while append_at_once(writer, sequence + 1, 1000).await {
        sequence += 1;
    }
    sequence
}

#[tokio::test]
async fn o3_a_full_log_pauses_at_a_commit_and_goes_on_when_trimmed() {
    let dir = TestDir::new("log-full");
    let small = Options { log_bytes_max: 100_000, log_retain_ms_min: 3_600_000, ..options() };
    let log = created(dir.path(), small).await;
    let mut writer = log.writer().await.expect("a writer");
    let mut last = fill(writer.as_mut(), 0).await;
    assert!(last > 50 && log.bounds().bytes >= 100_000 && log.bounds().bytes < 110_000);
    for _ in 0..3 {
        // What a sink has not applied stays.
        log.trim(log.bounds().trimmed.next).await.expect("trims nothing");
        assert!(!append_at_once(writer.as_mut(), last + 1, 1000).await, "still full");
        log.trim(log.bounds().durable.next).await.expect("trims");
        assert!(log.bounds().bytes < 60_000, "space goes before age");
        assert!(append_at_once(writer.as_mut(), last + 1, 1000).await, "there is space again");
        last = fill(writer.as_mut(), last + 1).await;
    }
    let records = read_all(log.as_ref(), log.bounds().trimmed.next).await;
    assert_eq!(records.last().and_then(|r| r.position.clone()), Some(position(last)));
}

#[tokio::test]
async fn t5_an_open_transaction_exceeds_the_bound_and_is_trimmed_whole() {
    let dir = TestDir::new("log-exceed");
    let small = Options { log_bytes_max: 100_000, segment_bytes_max: 10_000, ..options() };
    let log = created(dir.path(), small).await;
    let mut writer = log.writer().await.expect("a writer");
    append_each(writer.as_mut(), 1, 1, 10).await;
    let large = parts(2, 50, 5_000);
    for (at, part) in large.iter().enumerate() {
        append(writer.as_mut(), part.clone(), (at + 1 == large.len()).then_some(2)).await;
    }
    durable(writer.as_ref(), 2).await;
    assert!(log.bounds().bytes > 250_000, "no pause in the middle");
    assert!(!append_at_once(writer.as_mut(), 3, 10).await, "but after it");
    for record in read_all(log.as_ref(), Offset(1)).await.iter().rev().skip(1) {
        log.trim(record.next).await.expect("trims");
        assert!(log.bounds().trimmed.next <= Offset(1), "a log never begins inside a transaction");
    }
    log.trim(log.bounds().durable.next).await.expect("trims");
    assert_eq!(log.bounds().trimmed, log.bounds().durable, "even the active segment goes");
    assert!(append_at_once(writer.as_mut(), 3, 10).await);
    assert_eq!(segments(dir.path()).len(), 1);
    drop((writer, log));
}

fn set_age(path: &Path, age: Duration) {
    let file = File::options().write(true).open(path).expect("opens");
    file.set_modified(SystemTime::now() - age).expect("sets the time");
}

#[tokio::test]
async fn trimming_keeps_what_is_young_unless_space_is_short() {
    let dir = TestDir::new("log-age");
    let young = Options { segment_bytes_max: 1000, log_retain_ms_min: 3_600_000, ..options() };
    let log = created(dir.path(), young).await;
    let mut writer = log.writer().await.expect("a writer");
    append_each(writer.as_mut(), 1, 40, 100).await;
    let firsts = segments(dir.path());
    assert!(firsts.len() > 6);
    log.trim(log.bounds().durable.next).await.expect("trims");
    assert_eq!(segments(dir.path()), firsts, "nothing is old enough");
    // The third is old, but a younger one comes before it.
    for first in [firsts[0], firsts[2], firsts[3]] {
        set_age(&segment(dir.path(), first.0), Duration::from_secs(3_700));
    }
    log.trim(log.bounds().durable.next).await.expect("trims");
    assert_eq!(segments(dir.path()), firsts[1..]);
    set_age(&segment(dir.path(), firsts[1].0), Duration::from_secs(3_700));
    log.trim(firsts[3]).await.expect("trims");
    assert_eq!(segments(dir.path()), firsts[3..], "not what a sink has not applied");
    assert_eq!(log.bounds().trimmed.next, firsts[3]);
    assert_eq!(log.mark_at(firsts[2]).await.expect("looks"), None);
    assert!(log.reader(firsts[2]).await.is_err(), "a trimmed record is not read");
    let beyond = log.trim(log.bounds().durable.next.next()).await.expect_err("beyond the durable mark");
    assert_eq!(beyond.kind(), &ErrorKind::Internal);
    drop((writer, log));
    // Over half of the bound age does not count.
    let short =
        Options { segment_bytes_max: 1000, log_retain_ms_min: 3_600_000, log_bytes_max: 10_000, ..options() };
    let log = open(dir.path(), short).await.expect("opens");
    log.trim(log.bounds().durable.next).await.expect("trims");
    assert!(log.bounds().bytes <= 5_000 && log.bounds().bytes > 3_000, "{} bytes", log.bounds().bytes);
}

#[tokio::test]
async fn a_trim_that_a_crash_interrupted_is_finished() {
    let dir = TestDir::new("log-trim-crash");
    let small = Options { segment_bytes_max: 1000, ..options() };
    let log = created(dir.path(), small.clone()).await;
    let mut writer = log.writer().await.expect("a writer");
    append_each(writer.as_mut(), 1, 20, 100).await;
    writer.close().await.expect("closes");
    let firsts = segments(dir.path());
    let kept = std::fs::read(segment(dir.path(), firsts[1].0)).expect("reads");
    log.trim(log.bounds().durable.next).await.expect("trims");
    let bounds = log.bounds();
    drop(log);
    std::fs::write(segment(dir.path(), firsts[1].0), kept).expect("writes");
    let log = open(dir.path(), small).await.expect("opens");
    assert_eq!(log.bounds(), bounds);
    assert!(!segments(dir.path()).contains(&firsts[1]), "the left-over is removed");
}

/// Appends parts of transaction 4 until the writer refuses.
async fn append_until_refused(writer: &mut dyn LogWriter) -> Error {
    for part in parts(4, 200, 100_000) {
        let append = Append { position: part.ends_at_commit().then(|| position(4)), batch: part };
        if let Err(e) = writer.append(append).await {
            return e;
        }
    }
    let mut watch = writer.durable();
    assert!(watch.wait_for(|mark| mark.position == position(4)).await.is_err(), "20 MB do not fit");
    writer.discard_open().await.expect_err("the writer has failed")
}

async fn full_disk(limits: Options) {
    let disk = SmallDisk::new("log", 10 << 20);
    let dir = disk.path().join("log");
    let store = DirectoryStore::new(&dir, limits);
    let log = store.create(&position(0), &[]).await.expect("creates");
    let mut writer = log.writer().await.expect("a writer");
    append_each(writer.as_mut(), 1, 3, 1000).await;
    let refused = append_until_refused(writer.as_mut()).await;
    assert_eq!(refused.kind(), &ErrorKind::Invalid, "{refused}");
    assert!(refused.message().contains(&dir.display().to_string()), "{refused}");
    assert!(refused.hint().is_some_and(|hint| hint.contains("Free space")));
    let mut watch = writer.durable();
    while watch.changed().await.is_ok() {}
    let late = Append { batch: batch(4, 1, 10), position: Some(position(4)) };
    let again = writer.append(late).await.expect_err("every later call fails");
    assert_eq!(again.message(), refused.message());
    assert_holds(log.as_ref(), 1, 3, 1000).await;
    drop((writer, log));
    // The disk is full of something else: nothing is lost, nothing is claimed.
    disk.fill();
    let log = store.open().await.expect("opens on a full disk").expect("a log");
    assert_holds(log.as_ref(), 1, 3, 1000).await;
    assert!(log.writer().await.is_err(), "no room for a new epoch");
    disk.release();
    let mut writer = log.writer().await.expect("a writer");
    append_each(writer.as_mut(), 4, 6, 1000).await;
    writer.close().await.expect("closes");
    assert_holds(log.as_ref(), 1, 6, 1000).await;
}

#[tokio::test]
async fn o11_a_disk_that_is_full_in_mid_write_stops_by_name_and_recovers() {
    full_disk(options()).await;
}

#[tokio::test]
async fn t5_a_transaction_stops_by_name_before_the_disk_is_full() {
    full_disk(Options { disk_free_bytes_min: 3 << 20, ..options() }).await;
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_is_named() {
    let dir = TestDir::new("log-denied");
    let file = dir.path().join("file");
    std::fs::write(&file, b"").expect("writes");
    let store = DirectoryStore::new(file.join("log"), options());
    assert!(store.open().await.expect("nothing there").is_none());
    let refused = store.create(&position(0), &[]).await.map(drop).expect_err("not a directory");
    assert!(refused.message().contains(&file.display().to_string()), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn trims_and_take_overs_at_once_go_one_after_the_other() {
    let dir = TestDir::new("log-at-once");
    let small = Options { segment_bytes_max: 1000, ..options() };
    let log = created(dir.path(), small.clone()).await;
    let mut writer = log.writer().await.expect("a writer");
    append_each(writer.as_mut(), 1, 30, 100).await;
    let trims: Vec<_> = (1..=30)
        .rev()
        .map(|before| {
            let log = std::sync::Arc::clone(&log);
            tokio::spawn(async move { log.trim(Offset(before)).await })
        })
        .collect();
    let writers: Vec<_> = (0..8)
        .map(|_| {
            let log = std::sync::Arc::clone(&log);
            tokio::spawn(async move { log.writer().await })
        })
        .collect();
    for trim in trims {
        trim.await.expect("runs").expect("trims");
    }
    let mut left = Vec::new();
    for writer in writers {
        left.push(writer.await.expect("runs").expect("takes over"));
    }
    left.sort_by_key(|writer| writer.epoch());
    left.dedup_by_key(|writer| writer.epoch());
    assert_eq!(left.len(), 8, "every writer has an epoch of its own");
    for (at, writer) in left.iter_mut().enumerate() {
        let append = Append { batch: batch(31, 1, 100), position: Some(position(31)) };
        assert_eq!(writer.append(append).await.is_ok(), at == 7, "only the last one owns the log");
    }
    durable(left[7].as_ref(), 31).await;
    let bounds = log.bounds();
    drop((writer, left, log));
    let log = open(dir.path(), small).await.expect("opens");
    assert_eq!((log.bounds().trimmed, log.bounds().durable), (bounds.trimmed, bounds.durable));
}
