//! What a restart makes of a log: torn tails are cut, damage stops by name, versions are refused, segments are whole.

use crate::common::{
    append_each, assert_holds, created, edit, open, options, positions, restore, segment, segments, snapshot,
};
use freshet_core::{ErrorKind, Offset};
use freshet_log::{Options, inspect};
use freshet_testkit::conformance::log::{append, batch, durable, parts, position, read_all};
use freshet_testkit::servers::TestDir;
use std::fs;
use std::path::Path;

const BYTES: usize = 20;

/// Five transactions, each synced by itself, as SIGKILL leaves them; where in the file each ends.
async fn five(dir: &Path, close: bool) -> Vec<usize> {
    let log = created(dir, options()).await;
    let mut writer = log.writer().await.expect("a writer");
    let length = || fs::metadata(segment(dir, 0)).expect("a segment").len() as usize;
    let mut ends = vec![length()];
    for sequence in 1..=5 {
        append_each(writer.as_mut(), sequence, sequence, BYTES).await;
        ends.push(length());
    }
    if close {
        writer.close().await.expect("closes");
    } else {
        // What was written stays; the mark that a close would leave does not.
        let files = snapshot(dir);
        drop((writer, log));
        restore(dir, &files);
    }
    ends
}

#[tokio::test]
async fn o11_a_tail_cut_at_any_byte_is_truncated_to_the_last_commit() {
    let dir = TestDir::new("log-cut");
    let dir = &dir.path().join("log");
    let ends = five(dir, false).await;
    let files = snapshot(dir);
    for cut in ends[0]..=ends[5] {
        restore(dir, &files);
        edit(&segment(dir, 0), |bytes| bytes.truncate(cut));
        let whole = ends.iter().rposition(|end| *end <= cut).expect("the header is whole");
        let log = open(dir, options()).await.unwrap_or_else(|e| panic!("cut at {cut}: {e}"));
        assert_eq!(log.bounds().durable.next, Offset(whole as u64), "cut at {cut}");
        let length = fs::metadata(segment(dir, 0)).expect("a segment").len() as usize;
        assert_eq!(length, ends[whole], "cut at {cut}");
    }
    let log = open(dir, options()).await.expect("opens");
    assert_holds(log.as_ref(), 1, 5, BYTES).await;
}

#[tokio::test]
async fn o11_a_log_that_was_closed_is_never_shorter() {
    let dir = TestDir::new("log-closed");
    let dir = &dir.path().join("log");
    let ends = five(dir, true).await;
    let files = snapshot(dir);
    for cut in [ends[0], ends[1], ends[4], ends[5] - 1] {
        restore(dir, &files);
        edit(&segment(dir, 0), |bytes| bytes.truncate(cut));
        let refused = open(dir, options()).await.map(drop).expect_err("what was durable is gone");
        assert_eq!(refused.kind(), &ErrorKind::Corrupt, "cut at {cut}: {refused}");
    }
}

#[tokio::test]
async fn o11_a_flipped_byte_before_the_durable_mark_stops_and_in_the_tail_is_cut_off() {
    let dir = TestDir::new("log-flip");
    let dir = &dir.path().join("log");
    let ends = five(dir, false).await;
    let files = snapshot(dir);
    for at in 0..ends[5] {
        restore(dir, &files);
        edit(&segment(dir, 0), |bytes| bytes[at] ^= 1 << (at % 8));
        let opened = open(dir, options()).await;
        // Record n says that the n records before it are durable: only of the last one nobody says so.
        let record = ends.iter().rposition(|end| *end <= at);
        match record {
            Some(4) => {
                let log = opened.unwrap_or_else(|e| panic!("flip at {at}: {e}"));
                assert_eq!(log.bounds().durable.next, Offset(4), "flip at {at}");
            }
            Some(offset) => {
                let refused = opened.map(drop).expect_err("damage stops");
                assert_eq!(refused.kind(), &ErrorKind::Corrupt, "flip at {at}");
                let text = refused.message();
                assert!(text.contains("00000000000000000000.segment"), "flip at {at}: {text}");
                assert!(text.contains(&format!("at offset {offset},")), "flip at {at}: {text}");
            }
            None => {
                let refused = opened.map(drop).expect_err("a damaged header stops");
                assert!(
                    matches!(refused.kind(), ErrorKind::Corrupt | ErrorKind::Unsupported),
                    "flip at {at}: {refused}"
                );
            }
        }
    }
}

#[tokio::test]
async fn o11_damage_in_a_sealed_segment_is_found_by_the_reader_and_by_verify() {
    let dir = TestDir::new("log-sealed");
    let dir = &dir.path().join("log");
    let small = Options { segment_bytes_max: 1000, ..options() };
    let log = created(dir, small.clone()).await;
    let mut writer = log.writer().await.expect("a writer");
    append_each(writer.as_mut(), 1, 20, 100).await;
    writer.close().await.expect("closes");
    let whole = inspect::verify(dir).expect("verifies").expect("a log");
    assert!(whole.damage.is_empty() && whole.listing.tail == inspect::TailState::Whole);
    assert!(whole.listing.segments.len() > 3, "several segments");
    let second = whole.listing.segments[1].clone();
    edit(&second.path, |bytes| {
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
    });
    drop(log);
    let log = open(dir, small).await.expect("sealed segments are not read at start");
    let mut reader = log.reader(Offset(0)).await.expect("a reader");
    let refused = loop {
        match reader.try_next().await {
            Ok(record) => assert!(record.expect("the damage comes first").next < second.next),
            Err(e) => break e,
        }
    };
    assert_eq!(refused.kind(), &ErrorKind::Corrupt);
    let found = inspect::verify(dir).expect("verifies").expect("a log");
    assert_eq!(found.damage.len(), 1);
    let text = found.damage[0].message();
    assert_eq!(text, refused.message());
    assert!(text.contains(&format!("at offset {},", second.next.0 - 1)), "{text}");
}

#[tokio::test]
async fn a_segment_that_is_gone_or_shorter_is_named() {
    let dir = TestDir::new("log-chain");
    let dir = &dir.path().join("log");
    let small = Options { segment_bytes_max: 1000, ..options() };
    let log = created(dir, small.clone()).await;
    let mut writer = log.writer().await.expect("a writer");
    append_each(writer.as_mut(), 1, 20, 100).await;
    writer.close().await.expect("closes");
    drop(log);
    let (files, firsts) = (snapshot(dir), segments(dir));
    for first in &firsts {
        restore(dir, &files);
        fs::remove_file(segment(dir, first.0)).expect("removes");
        let refused = open(dir, small.clone()).await.map(drop).expect_err("a segment is missing");
        assert_eq!(refused.kind(), &ErrorKind::Corrupt);
        let last = firsts.last() == Some(first);
        let named = refused.message().contains(&format!("begins at offset {first}"));
        assert!(last || named, "{refused}");
    }
    restore(dir, &files);
    edit(&segment(dir, firsts[1].0), |bytes| bytes.truncate(bytes.len() - 1));
    let refused = open(dir, small.clone()).await.map(drop).expect_err("a sealed segment is shorter");
    assert_eq!(refused.kind(), &ErrorKind::Corrupt);
    assert!(refused.message().contains(&format!("{:020}.segment", firsts[1].0)), "{refused}");
}

#[tokio::test]
async fn o12_an_unknown_version_is_refused_by_name_and_nothing_is_touched() {
    let dir = TestDir::new("log-version");
    let dir = &dir.path().join("log");
    five(dir, true).await;
    let files = snapshot(dir);
    // Log version and row version, in the file LOG and in a segment.
    for (path, at) in
        [("LOG", 8), ("LOG", 10), ("00000000000000000000.segment", 8), ("00000000000000000000.segment", 10)]
    {
        restore(dir, &files);
        edit(&dir.join(path), |bytes| bytes[at] = 99);
        let before = snapshot(dir);
        let refused = open(dir, options()).await.map(drop).expect_err("an unknown version");
        assert_eq!(refused.kind(), &ErrorKind::Unsupported);
        assert!(refused.message().contains("version 99"), "{refused}");
        let store = freshet_log::DirectoryStore::new(dir, options());
        if path == "LOG" {
            let refused = freshet_core::log::LogStore::create(&store, &position(0), &[]).await;
            assert_eq!(
                refused.map(drop).expect_err("not begun anew over it").kind(),
                &ErrorKind::Unsupported
            );
        }
        assert!(inspect::list(dir).is_err());
        let after: Vec<_> = snapshot(dir).into_iter().filter(|(path, _)| !path.ends_with("lock")).collect();
        assert_eq!(after, before.into_iter().filter(|(path, _)| !path.ends_with("lock")).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_second_process_is_fenced_by_the_lock_and_told_who_holds_it() {
    let dir = TestDir::new("log-lock");
    let log = created(dir.path(), options()).await;
    let refused = open(dir.path(), options()).await.map(drop).expect_err("the directory is held");
    assert_eq!(refused.kind(), &ErrorKind::Fenced);
    assert!(refused.message().contains(&format!("process {}", std::process::id())), "{refused}");
    drop(log);
    open(dir.path(), options()).await.expect("it is free again");
}

#[tokio::test]
async fn t5_a_transaction_larger_than_queue_and_segment_streams_through_or_goes_whole() {
    let dir = TestDir::new("log-large");
    let dir = &dir.path().join("log");
    let small = Options {
        segment_bytes_max: 100_000,
        append_queue_bytes_max: 50_000,
        record_bytes_max: 20_000,
        ..options()
    };
    let log = created(dir, small.clone()).await;
    let mut writer = log.writer().await.expect("a writer");
    append_each(writer.as_mut(), 1, 1, BYTES).await;
    let large = parts(2, 40, 30_000);
    let (last, open_parts) = large.split_last().expect("parts");
    for part in open_parts {
        append(writer.as_mut(), part.clone(), None).await;
    }
    // Crash in the middle of it: segments of nothing but its parts are removed.
    let files = snapshot(dir);
    append(writer.as_mut(), last.clone(), Some(2)).await;
    durable(writer.as_ref(), 2).await;
    let records = read_all(log.as_ref(), Offset(1)).await;
    assert_eq!(records.len(), large.len());
    for (record, part) in records.iter().zip(&large) {
        assert_eq!(record.batch.bytes(), part.bytes());
    }
    drop((writer, log));
    let log = open(dir, small.clone()).await.expect("opens");
    assert_eq!(read_all(log.as_ref(), Offset(1)).await.len(), large.len());
    drop(log);
    restore(dir, &files);
    assert!(segments(dir).len() > 5, "it went over several segments");
    let log = open(dir, small).await.expect("opens");
    assert_holds(log.as_ref(), 1, 1, BYTES).await;
    assert!(segments(dir).len() <= 2, "what was open is gone");
}

#[tokio::test]
async fn a_discard_goes_back_over_segments_and_offsets_nobody_read_are_used_again() {
    let dir = TestDir::new("log-discard");
    let dir = &dir.path().join("log");
    let small = Options { segment_bytes_max: 10_000, ..options() };
    let log = created(dir, small.clone()).await;
    let mut writer = log.writer().await.expect("a writer");
    append_each(writer.as_mut(), 1, 3, BYTES).await;
    let before = log.bounds();
    let mut reader = log.reader(Offset(0)).await.expect("a reader");
    for sequence in 4..8 {
        for part in &parts(sequence, 20, 3000)[..20] {
            append(writer.as_mut(), part.clone(), None).await;
        }
        writer.discard_open().await.expect("discards");
        let after = log.bounds();
        assert_eq!(after.durable, before.durable);
        assert!(after.bytes < before.bytes + 2000, "the space is free again");
        assert!(segments(dir).len() <= 2);
    }
    append_each(writer.as_mut(), 4, 9, BYTES).await;
    assert_holds(log.as_ref(), 1, 9, BYTES).await;
    let mut read = Vec::new();
    while let Some(record) = reader.try_next().await.expect("reads") {
        read.push(record);
    }
    assert_eq!(positions(&read), (1..=9).map(|s| Some(position(s))).collect::<Vec<_>>());
    assert_eq!(read.last().expect("some").next, Offset(9));
    assert!(inspect::verify(dir).expect("verifies").expect("a log").damage.is_empty());
    drop((writer, log, reader));
    let log = open(dir, small).await.expect("opens");
    assert_holds(log.as_ref(), 1, 9, BYTES).await;
}

#[tokio::test]
async fn d1_every_segment_can_be_read_alone() {
    let dir = TestDir::new("log-heads");
    let dir = &dir.path().join("log");
    let small = Options { segment_bytes_max: 2000, ..options() };
    let log = created(dir, small.clone()).await;
    let mut writer = log.writer().await.expect("a writer");
    append(writer.as_mut(), batch(1, 1, 100), Some(1)).await;
    // Later transactions do not announce the schema again.
    for sequence in 2..=40 {
        append(writer.as_mut(), without_schema(sequence), Some(sequence)).await;
        durable(writer.as_ref(), sequence).await;
    }
    writer.close().await.expect("closes");
    let wanted = freshet_testkit::conformance::log::schema("orders").id();
    for first in segments(dir) {
        let alone = inspect::records(dir, Some(first)).expect("opens").expect("a log");
        let record = alone.map(|r| r.expect("reads").record).next().expect("a record");
        assert_eq!(record.offset, first);
        assert!(record.schemas.get(wanted).is_some(), "segment {first} holds the schema");
        let mut reader = log.reader(first).await.expect("a segment begins at a mark here");
        let record = reader.try_next().await.expect("reads").expect("a record");
        assert!(record.schemas.get(wanted).is_some());
    }
    drop(log);
    // The next process goes on: its segments carry it too.
    let log = open(dir, small).await.expect("opens");
    let mut writer = log.writer().await.expect("a writer");
    for sequence in 41..=80 {
        append(writer.as_mut(), without_schema(sequence), Some(sequence)).await;
        durable(writer.as_ref(), sequence).await;
    }
    let last = *segments(dir).last().expect("segments");
    let mut reader = log.reader(last).await.expect("a reader");
    assert!(reader.try_next().await.expect("reads").expect("a record").schemas.get(wanted).is_some());
}

/// A transaction of rows whose schema was announced in an earlier one.
fn without_schema(sequence: u64) -> freshet_core::Batch {
    use freshet_core::codec::{BatchBuilder, EventRef};
    let with = batch(sequence, 1, 100);
    let announced = with.events().position(|e| matches!(e, Ok(EventRef::Schema { .. }))).expect("announced");
    let mut at = Vec::new();
    let mut events = with.events();
    loop {
        at.push(events.offset());
        if events.next().is_none() {
            break;
        }
    }
    let mut bytes = with.bytes().to_vec();
    bytes.drain(at[announced]..at[announced + 1]);
    assert!(BatchBuilder::new().is_empty());
    freshet_core::Batch::from_stored(bytes.into(), 1, true)
}

#[tokio::test]
async fn a_schema_of_a_discarded_transaction_is_not_lost() {
    let dir = TestDir::new("log-schema");
    let log = created(dir.path(), options()).await;
    let mut writer = log.writer().await.expect("a writer");
    append(writer.as_mut(), parts(1, 2, 100).remove(0), None).await;
    writer.discard_open().await.expect("discards");
    append(writer.as_mut(), without_schema(1), Some(1)).await;
    durable(writer.as_ref(), 1).await;
    let wanted = freshet_testkit::conformance::log::schema("orders").id();
    let records = read_all(log.as_ref(), Offset(0)).await;
    assert!(records.last().expect("a record").schemas.get(wanted).is_some());
    assert_eq!(records.iter().map(|r| r.batch.rows()).sum::<u64>(), 1, "nothing of it came back");
}
