//! Random histories: processes killed in mid-write, files cut and flipped, readers beside a writer that discards.

use crate::common::{created, open, options, restore, segment, segments, snapshot};
use freshet_core::log::{Append, Log, LogStore as _, LogWriter, Record};
use freshet_core::{Batch, ErrorKind, EventRef, Offset, Position};
use freshet_log::{DirectoryStore, Options, inspect};
use freshet_testkit::conformance::log::{append, batch, durable, parts, position, read_all};
use freshet_testkit::servers::{TestDir, seed};
use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

const DIR_VARIABLE: &str = "FRESHET_LOG_TEST_DIR";
const SEED_VARIABLE: &str = "FRESHET_LOG_TEST_SEED";
const KILLS: u64 = 15;

/// The batches of a transaction: its number decides its shape, so that any process can tell what must be there.
fn shape(sequence: u64) -> Vec<Batch> {
    match sequence % 10 {
        0 => parts(sequence, 3 + sequence % 5, 3_000),
        5 => vec![batch(sequence, 20, 2_000)],
        _ => vec![batch(sequence, 1 + sequence % 3, 40)],
    }
}

fn sequence_of(position: &Position) -> u64 {
    let text = position.to_string();
    text.rsplit('-').next().and_then(|n| n.parse().ok()).expect("a position of the suite")
}

async fn append_transaction(writer: &mut dyn LogWriter, sequence: u64) -> Result<(), freshet_core::Error> {
    for batch in shape(sequence) {
        let position = batch.ends_at_commit().then(|| position(sequence));
        writer.append(Append { batch, position }).await?;
    }
    Ok(())
}

/// Asserts that the records are whole transactions, in order, of which the first follows `before`; the last one.
fn assert_transactions(records: &[Record], before: u64) -> u64 {
    // A discard that took a schema with it announces that again, in a record of its own.
    let changes = |r: &&Record| !r.batch.events().all(|e| matches!(e, Ok(EventRef::Schema { .. })));
    let changes: Vec<_> = records.iter().filter(changes).collect();
    let (mut sequence, mut rest) = (before, &changes[..]);
    while !rest.is_empty() {
        sequence += 1;
        let expected = shape(sequence);
        assert!(rest.len() >= expected.len(), "transaction {sequence} is whole");
        for (record, batch) in rest.iter().zip(&expected) {
            assert_eq!(record.batch.bytes(), batch.bytes(), "transaction {sequence}");
        }
        rest = &rest[expected.len()..];
    }
    assert_eq!(
        records.last().map_or(before, |r| sequence_of(r.position.as_ref().expect("a commit"))),
        sequence
    );
    sequence
}

fn small() -> Options {
    Options { segment_bytes_max: 50_000, record_bytes_max: 10_000, ..options() }
}

/// The process that is killed: appends, discards and trims until then, and says what is durable.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_appends_until_it_is_killed() {
    let Some(dir) = std::env::var_os(DIR_VARIABLE) else { return };
    let seed = std::env::var(SEED_VARIABLE).expect("a seed").parse().expect("a number");
    let mut random = StdRng::seed_from_u64(seed);
    let log = open(Path::new(&dir), small()).await.expect("opens");
    let mut sequence = sequence_of(&log.bounds().durable.position);
    let mut writer = log.writer().await.expect("a writer");
    let mut marks = writer.durable();
    tokio::spawn(async move {
        while marks.changed().await.is_ok() {
            let mark = marks.borrow_and_update().clone();
            println!("durable {} {}", mark.next, sequence_of(&mark.position));
        }
    });
    loop {
        sequence += 1;
        if random.random_bool(0.05) {
            append(writer.as_mut(), parts(sequence, 2, 5_000).remove(0), None).await;
            writer.discard_open().await.expect("discards");
        }
        append_transaction(writer.as_mut(), sequence).await.expect("appends");
        if random.random_bool(0.02) {
            log.trim(log.bounds().durable.next).await.expect("trims");
        }
    }
}

/// Runs the child, kills it after `lines` reports; the last mark that it reported.
fn run_and_kill(dir: &Path, seed: u64, lines: usize) -> Option<(u64, u64)> {
    let me = std::env::current_exe().expect("a path");
    let mut child = Command::new(me)
        .args(["--exact", "crash::child_that_appends_until_it_is_killed", "--nocapture"])
        .env(DIR_VARIABLE, dir)
        .env(SEED_VARIABLE, seed.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut last = None;
    let mut output = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let report = |line: String| {
        let mut words = line.strip_prefix("durable ")?.split(' ').map(|word| word.parse::<u64>().ok());
        words.next().flatten().zip(words.next().flatten())
    };
    let mut reports = 0;
    while reports < lines {
        let line = output.next().expect("the child lives until it is killed").expect("reads");
        if let Some(mark) = report(line) {
            (last, reports) = (Some(mark), reports + 1);
        }
    }
    child.kill().expect("kills");
    child.wait().expect("waits");
    // A line may be cut short by the kill: then it was not reported.
    let rest: Vec<_> = output.map_while(Result::ok).collect();
    let whole = rest.iter().rev().skip(1).find_map(|line| report(line.clone()));
    whole.or(last)
}

#[tokio::test]
async fn o11_what_was_reported_durable_outlives_every_kill() {
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let dir = TestDir::new("log-kill");
    let dir = &dir.path().join("log");
    drop(created(dir, small()).await);
    for kill in 0..KILLS {
        let reported = run_and_kill(dir, seed.wrapping_add(kill), random.random_range(1..40));
        let log = open(dir, small()).await.unwrap_or_else(|e| panic!("after kill {kill}: {e}"));
        let bounds = log.bounds();
        if let Some((next, sequence)) = reported {
            assert!(bounds.durable.next >= Offset(next), "kill {kill}: {} < {next}", bounds.durable.next);
            assert!(sequence_of(&bounds.durable.position) >= sequence, "kill {kill}");
        }
        let records = read_all(log.as_ref(), bounds.trimmed.next).await;
        let last = assert_transactions(&records, sequence_of(&bounds.trimmed.position));
        assert_eq!(position(last), bounds.durable.position, "kill {kill}");
        let found = inspect::verify(dir).expect("verifies").expect("a log");
        assert!(found.damage.is_empty() && found.listing.tail == inspect::TailState::Whole, "kill {kill}");
    }
}

/// A log of `count` transactions, as a kill leaves it.
async fn history(dir: &Path, count: u64) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let log = created(dir, small()).await;
    let mut writer = log.writer().await.expect("a writer");
    for sequence in 1..=count {
        append_transaction(writer.as_mut(), sequence).await.expect("appends");
        if sequence % 4 == 0 {
            durable(writer.as_ref(), sequence).await;
        }
    }
    durable(writer.as_ref(), count).await;
    append(writer.as_mut(), parts(count + 1, 2, 5_000).remove(0), None).await;
    let files = snapshot(dir);
    drop((writer, log));
    files
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn o11_any_cut_and_any_flip_leaves_a_prefix_or_stops(count in 1u64..45, cut in 0usize..60_000, flip: Option<(usize, u8)>) {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async {
            let dir = TestDir::new("log-prop");
            let dir = &dir.path().join("log");
            let files = history(dir, count).await;
            restore(dir, &files);
            let last = *segments(dir).last().expect("segments");
            let path = segment(dir, last.0);
            let mut bytes = std::fs::read(&path).expect("reads");
            let (_, header) = bytes.split_at(12);
            let header = u32::from_le_bytes(header[..4].try_into().expect("four bytes")) as usize;
            bytes.truncate(header.max(bytes.len().saturating_sub(cut)));
            let flip = flip.filter(|(_, mask)| *mask != 0 && bytes.len() > header);
            if let Some((at, mask)) = flip {
                let at = header + at % (bytes.len() - header);
                bytes[at] ^= mask;
            }
            std::fs::write(&path, bytes).expect("writes");
            let judged = inspect::verify(dir).expect("verifies").expect("a log");
            match open(dir, small()).await {
                Ok(log) => {
                    assert!(judged.damage.is_empty(), "verify and recovery agree");
                    let records = read_all(log.as_ref(), Offset(0)).await;
                    let last = assert_transactions(&records, 0);
                    assert_eq!(log.bounds().durable.position, position(last));
                    assert_eq!(judged.listing.last_commit, Some(log.bounds().durable));
                }
                Err(e) => {
                    assert!(flip.is_some(), "a cut tail is never damage: {e}");
                    assert_eq!(e.kind(), &ErrorKind::Corrupt);
                    assert!(!judged.damage.is_empty(), "verify and recovery agree");
                }
            }
        });
    }
}

/// Reads to the end of transaction `last`, checking all of it.
async fn follow(log: Arc<dyn Log>, last: u64) {
    let mut reader = log.reader(Offset(0)).await.expect("a reader");
    let mut records = Vec::new();
    loop {
        let record = reader.next().await.expect("reads");
        assert!(record.next <= log.bounds().durable.next, "nothing beyond the durable mark");
        let done = record.position == Some(position(last));
        records.push(record);
        if done {
            assert_eq!(assert_transactions(&records, 0), last);
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn readers_beside_a_writer_see_exactly_what_was_committed() {
    const LAST: u64 = 1_000;
    let mut random = StdRng::seed_from_u64(seed());
    let dir = TestDir::new("log-readers");
    let log = created(dir.path(), small()).await;
    let readers: Vec<_> = (0..3).map(|_| tokio::spawn(follow(Arc::clone(&log), LAST))).collect();
    let mut writer = log.writer().await.expect("a writer");
    for sequence in 1..=LAST {
        if random.random_bool(0.2) {
            // Of the same offsets and lengths as what comes instead, but other bytes.
            for part in &parts(sequence + 1, 3, 3_000)[..random.random_range(1..4)] {
                append(writer.as_mut(), part.clone(), None).await;
            }
            writer.discard_open().await.expect("discards");
        }
        if random.random_bool(0.01) {
            durable(writer.as_ref(), sequence - 1).await;
            writer = log.writer().await.expect("another writer");
        }
        append_transaction(writer.as_mut(), sequence).await.expect("appends");
    }
    for reader in readers {
        tokio::time::timeout(std::time::Duration::from_secs(600), reader)
            .await
            .expect("in time")
            .expect("follows");
    }
    let found = inspect::verify(dir.path()).expect("verifies").expect("a log");
    assert!(found.damage.is_empty(), "a running log verifies: {:?}", found.damage);
    writer.close().await.expect("closes");
}

#[tokio::test]
async fn a_running_log_can_be_inspected() {
    let dir = TestDir::new("log-inspect");
    assert!(inspect::list(dir.path()).expect("looks").is_none(), "no log is there");
    let store = DirectoryStore::new(dir.path().join("log"), small());
    assert!(inspect::records(&dir.path().join("nowhere"), None).expect("looks").is_none());
    let log = store.create(&position(0), &[]).await.expect("creates");
    let mut writer = log.writer().await.expect("a writer");
    for sequence in 1..=100 {
        append_transaction(writer.as_mut(), sequence).await.expect("appends");
    }
    durable(writer.as_ref(), 100).await;
    let dir = dir.path().join("log");
    let listing = inspect::list(&dir).expect("lists").expect("a log");
    assert_eq!((listing.id, listing.last_commit), (log.bounds().id, Some(log.bounds().durable)));
    assert_eq!(listing.segments.iter().map(|s| s.commits).sum::<u64>(), 100);
    assert_eq!(listing.segments.iter().map(|s| s.bytes).sum::<u64>(), log.bounds().bytes);
    for pair in listing.segments.windows(2) {
        assert_eq!(pair[0].next, pair[1].first);
    }
    let all = inspect::records(&dir, None).expect("opens").expect("a log");
    let all: Vec<_> = all.map(|r| r.expect("reads").record).collect();
    assert_eq!(assert_transactions(&all, 0), 100);
    for from in [0, 1, 57, 90] {
        let some = inspect::records(&dir, Some(Offset(from))).expect("opens").expect("a log");
        let some: Vec<_> = some.map(|r| r.expect("reads").record.offset).collect();
        let expected: Vec<_> = all.iter().filter(|r| r.next > Offset(from)).map(|r| r.offset).collect();
        assert_eq!(some, expected);
    }
}
