//! What every log must do: [`log_conforms`] runs all of it over stores that `fresh` makes.
//!
//! It says nothing of files, segments, space or time: those are the implementation's own tests.

use freshet_core::codec::{Batch, BatchBuilder};
use freshet_core::log::{Append, Inherited, Log, LogReader, LogStore, LogWriter, Record};
use freshet_core::position::{CommitPlace, FilePos, TxnId};
use freshet_core::{
    Checkpoint, Column, DataType, ErrorKind, LogEpoch, LogId, Mark, Offset, Position, SinkEpoch, TableName,
    TableSchema,
};
use std::sync::Arc;
use std::time::Duration;

/// Far longer than anything here takes.
const DEADLINE: Duration = Duration::from_secs(300);

/// A log that was opened or begun, or a refusal that the suite did not expect.
type Opened = Arc<dyn Log>;

/// Runs the whole suite; `fresh` makes an empty store every time.
///
/// # Panics
/// Where the implementation does not conform.
pub async fn log_conforms<S: LogStore>(fresh: impl Fn() -> S) {
    a_new_log_is_empty_and_itself(&fresh()).await;
    what_is_appended_comes_back(&fresh()).await;
    an_open_transaction_is_not_seen(&fresh()).await;
    a_discarded_transaction_is_never_seen(&fresh()).await;
    only_marks_are_marks(&fresh()).await;
    a_restart_keeps_what_was_committed(&fresh()).await;
    a_restart_drops_an_open_transaction(&fresh()).await;
    a_second_writer_fences_the_first(&fresh()).await;
    a_log_begun_anew_replaces_the_old(&fresh()).await;
    a_trim_goes_no_further_than_told(&fresh()).await;
    a_large_batch_is_one_record(&fresh()).await;
    a_waiting_reader_wakes_and_can_be_cancelled(&fresh()).await;
    ends_and_positions_agree(&fresh()).await;
}

/// Position after the transaction with that sequence number.
///
/// # Panics
/// Never: the text is a position.
#[must_use]
pub fn position(sequence: u64) -> Position {
    let text = format!("binlog;s1;binlog.000001;{};mariadb;0-1-{sequence}", 4 + sequence * 100);
    text.parse().expect("a position")
}

/// The schema of every row of the suite.
///
/// # Panics
/// Never: the schema is valid.
#[must_use]
pub fn schema(table: &str) -> TableSchema {
    let column = |name: &str, data_type| Column { name: name.into(), data_type, nullable: false };
    let id = column("id", DataType::Int { bits: 64, unsigned: false });
    let body = column("body", DataType::Bytes { length: None, fixed: false });
    TableSchema::new(TableName::new("shop", table), vec![id, body], vec![0]).expect("a schema")
}

/// Writes the transaction with that number: `rows` inserts of `bytes` bytes each.
pub fn transaction(builder: &mut BatchBuilder, sequence: u64, rows: u64, bytes: usize) {
    begin(builder, sequence, rows, bytes);
    let place = FilePos { file: "binlog.000001".into(), pos: 4 + sequence * 100 };
    builder.commit("s1", &CommitPlace::Binlog(place), 0);
}

fn begin(builder: &mut BatchBuilder, sequence: u64, rows: u64, bytes: usize) {
    builder.begin(&TxnId::Mariadb { domain: 0, server: 1, sequence }, 0);
    builder.schema(&schema("orders"));
    insert(builder, sequence, rows, bytes);
}

fn insert(builder: &mut BatchBuilder, sequence: u64, rows: u64, bytes: usize) {
    let (schema, body) = (schema("orders"), vec![sequence as u8; bytes]);
    for row in 0..rows {
        let mut writer = builder.insert(&schema);
        assert!(writer.int(row as i64), "a 64-bit column takes it");
        writer.bytes(&body);
        writer.finish();
    }
}

/// A batch of one whole transaction.
#[must_use]
pub fn batch(sequence: u64, rows: u64, bytes: usize) -> Batch {
    let mut builder = BatchBuilder::new();
    transaction(&mut builder, sequence, rows, bytes);
    builder.seal()
}

/// A transaction in `parts` batches, of which the last ends it.
#[must_use]
pub fn parts(sequence: u64, parts: u64, bytes: usize) -> Vec<Batch> {
    let mut builder = BatchBuilder::new();
    begin(&mut builder, sequence, 1, bytes);
    let mut sealed = vec![builder.seal()];
    for _ in 1..parts {
        insert(&mut builder, sequence, 1, bytes);
        sealed.push(builder.seal());
    }
    let place = FilePos { file: "binlog.000001".into(), pos: 4 + sequence * 100 };
    builder.commit("s1", &CommitPlace::Binlog(place), 0);
    sealed.push(builder.seal());
    sealed
}

/// Appends a batch; `sequence` is set if it ends at a commit.
pub async fn append(writer: &mut dyn LogWriter, batch: Batch, sequence: Option<u64>) {
    let append = Append { batch, position: sequence.map(position) };
    within(writer.append(append)).await.expect("appends");
}

/// Waits until the transaction with that number is durable.
pub async fn durable(writer: &dyn LogWriter, sequence: u64) -> Mark {
    let mut watch = writer.durable();
    let mark = within(watch.wait_for(|mark| mark.position == position(sequence))).await;
    mark.expect("the writer lives").clone()
}

/// Reads everything that can be read from `from` on.
pub async fn read_all(log: &dyn Log, from: Offset) -> Vec<Record> {
    let mut reader = within(log.reader(from)).await.expect("a reader");
    drain(reader.as_mut()).await
}

async fn drain(reader: &mut dyn LogReader) -> Vec<Record> {
    let mut records = Vec::new();
    while let Some(record) = reader.try_next().await.expect("reads") {
        records.push(record);
    }
    records
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.expect("in time")
}

async fn begun(store: &dyn LogStore) -> Opened {
    within(store.create(&position(0), &[])).await.expect("creates")
}

async fn reopened(store: &dyn LogStore) -> Opened {
    within(store.open()).await.expect("opens").expect("a log is there")
}

async fn a_new_log_is_empty_and_itself(store: &dyn LogStore) {
    assert!(within(store.open()).await.expect("opens").is_none(), "nothing is there");
    let mark = Mark { next: Offset(9), position: position(3) };
    let checkpoint = Checkpoint { epoch: SinkEpoch(4), log_id: LogId([7; 16]), mark };
    let inherited = vec![Inherited { sink: "warehouse".into(), checkpoint }];
    let log = within(store.create(&position(2), &inherited)).await.expect("creates");
    let bounds = log.bounds();
    assert_eq!(bounds.trimmed, bounds.durable);
    assert_eq!(bounds.durable.position, position(2));
    assert_eq!(bounds.inherited, inherited);
    let first = bounds.durable.next;
    assert_eq!(log.mark_at(first).await.expect("looks"), Some(position(2)));
    assert_eq!(log.mark_at(first.next()).await.expect("looks"), None);
    assert!(read_all(log.as_ref(), first).await.is_empty());
    drop(log);
    let bounds_again = reopened(store).await.bounds();
    assert_eq!((bounds_again.id, &bounds_again.inherited), (bounds.id, &inherited));
    assert_eq!(bounds_again.durable, bounds.durable);
}

/// A few transactions of several sizes and shapes; what was appended.
async fn fill(log: &dyn Log) -> Vec<(Batch, Option<Position>)> {
    let mut writer = within(log.writer()).await.expect("a writer");
    let mut all = vec![(batch(1, 1, 10), Some(1)), (batch(2, 300, 1000), Some(2))];
    let split = parts(3, 4, 50_000);
    let last = split.len() - 1;
    all.extend(split.into_iter().enumerate().map(|(at, batch)| (batch, (at == last).then_some(3))));
    all.push((BatchBuilder::new().seal(), Some(4)));
    let mut several = BatchBuilder::new();
    (5..8).for_each(|sequence| transaction(&mut several, sequence, 2, 20));
    all.push((several.seal(), Some(7)));
    for (batch, sequence) in &all {
        append(writer.as_mut(), batch.clone(), *sequence).await;
    }
    durable(writer.as_ref(), 7).await;
    within(writer.close()).await.expect("closes");
    all.into_iter().map(|(batch, sequence)| (batch, sequence.map(position))).collect()
}

fn assert_same(records: &[Record], appended: &[(Batch, Option<Position>)]) {
    assert_eq!(records.len(), appended.len());
    for (record, (batch, position)) in records.iter().zip(appended) {
        assert_eq!(record.batch.bytes(), batch.bytes());
        assert_eq!(record.batch.rows(), batch.rows());
        assert_eq!(record.batch.ends_at_commit(), batch.ends_at_commit());
        assert_eq!(&record.position, position);
        assert!(record.offset < record.next);
        if batch.rows() > 0 {
            assert!(record.schemas.get(schema("orders").id()).is_some(), "every schema in use is known");
        }
    }
    for pair in records.windows(2) {
        assert_eq!(pair[0].next, pair[1].offset, "offsets have no gaps");
    }
}

async fn what_is_appended_comes_back(store: &dyn LogStore) {
    let log = begun(store).await;
    let first = log.bounds().durable.next;
    let appended = fill(log.as_ref()).await;
    let records = read_all(log.as_ref(), first).await;
    assert_same(&records, &appended);
    let bounds = log.bounds();
    assert_eq!(bounds.durable.next, records.last().expect("some").next);
    assert_eq!(bounds.durable.position, position(7));
    assert!(bounds.bytes > 300_000, "it tells how large it is");
}

async fn an_open_transaction_is_not_seen(store: &dyn LogStore) {
    let log = begun(store).await;
    let first = log.bounds().durable.next;
    let mut writer = within(log.writer()).await.expect("a writer");
    let mut reader = within(log.reader(first)).await.expect("a reader");
    append(writer.as_mut(), batch(1, 1, 10), Some(1)).await;
    let mark = durable(writer.as_ref(), 1).await;
    let mut open = parts(2, 3, 10);
    let end = open.pop().expect("a last part");
    for part in open {
        append(writer.as_mut(), part, None).await;
    }
    assert_eq!(drain(reader.as_mut()).await.len(), 1, "parts are not seen");
    assert_eq!(log.bounds().durable, mark, "the mark stays on the commit");
    append(writer.as_mut(), end, Some(2)).await;
    durable(writer.as_ref(), 2).await;
    assert_eq!(drain(reader.as_mut()).await.len(), 4);
    within(writer.close()).await.expect("closes");
}

async fn a_discarded_transaction_is_never_seen(store: &dyn LogStore) {
    let log = begun(store).await;
    let first = log.bounds().durable.next;
    let mut writer = within(log.writer()).await.expect("a writer");
    let mut reader = within(log.reader(first)).await.expect("a reader");
    within(writer.discard_open()).await.expect("nothing to discard");
    append(writer.as_mut(), batch(1, 1, 10), Some(1)).await;
    for part in &parts(2, 3, 100)[..3] {
        append(writer.as_mut(), part.clone(), None).await;
    }
    within(writer.discard_open()).await.expect("discards");
    append(writer.as_mut(), batch(3, 2, 10), Some(3)).await;
    durable(writer.as_ref(), 3).await;
    let expected = [(batch(1, 1, 10), Some(position(1))), (batch(3, 2, 10), Some(position(3)))];
    assert_same(&drain(reader.as_mut()).await, &expected);
    for part in &parts(4, 2, 100)[..2] {
        append(writer.as_mut(), part.clone(), None).await;
    }
    within(writer.close()).await.expect("closes, and drops what is open");
    assert_same(&read_all(log.as_ref(), first).await, &expected);
}

async fn only_marks_are_marks(store: &dyn LogStore) {
    let log = begun(store).await;
    let first = log.bounds().durable.next;
    let appended = fill(log.as_ref()).await;
    let records = read_all(log.as_ref(), first).await;
    for (record, at) in records.iter().zip(1..) {
        assert_eq!(log.mark_at(record.next).await.expect("looks"), record.position, "mark {}", record.next);
        if record.position.is_some() {
            assert_same(&read_all(log.as_ref(), record.next).await, &appended[at..]);
        } else {
            assert!(log.reader(record.next).await.is_err(), "no reader begins inside a transaction");
        }
    }
    let beyond = log.bounds().durable.next.next();
    assert_eq!(log.mark_at(beyond).await.expect("looks"), None);
    assert!(log.reader(beyond).await.is_err(), "no reader begins beyond the durable mark");
}

async fn a_restart_keeps_what_was_committed(store: &dyn LogStore) {
    let log = begun(store).await;
    let first = log.bounds().durable.next;
    let appended = fill(log.as_ref()).await;
    let before = log.bounds();
    drop(log);
    let log = reopened(store).await;
    assert_eq!(log.bounds(), before);
    assert_same(&read_all(log.as_ref(), first).await, &appended);
    let mut writer = within(log.writer()).await.expect("a writer");
    assert!(writer.epoch() > LogEpoch(1), "every writer has a larger epoch");
    append(writer.as_mut(), batch(8, 1, 10), Some(8)).await;
    durable(writer.as_ref(), 8).await;
    let records = read_all(log.as_ref(), before.durable.next).await;
    assert_same(&records, &[(batch(8, 1, 10), Some(position(8)))]);
}

async fn a_restart_drops_an_open_transaction(store: &dyn LogStore) {
    let log = begun(store).await;
    let first = log.bounds().durable.next;
    let mut writer = within(log.writer()).await.expect("a writer");
    append(writer.as_mut(), batch(1, 1, 10), Some(1)).await;
    durable(writer.as_ref(), 1).await;
    append(writer.as_mut(), parts(2, 2, 10).remove(0), None).await;
    drop((writer, log));
    let log = reopened(store).await;
    assert_eq!(log.bounds().durable.position, position(1));
    assert_eq!(read_all(log.as_ref(), first).await.len(), 1);
}

async fn a_second_writer_fences_the_first(store: &dyn LogStore) {
    let log = begun(store).await;
    let first = log.bounds().durable.next;
    let mut old = within(log.writer()).await.expect("a writer");
    append(old.as_mut(), batch(1, 1, 10), Some(1)).await;
    durable(old.as_ref(), 1).await;
    append(old.as_mut(), parts(2, 2, 10).remove(0), None).await;
    let mut new = within(log.writer()).await.expect("a second writer");
    assert!(new.epoch() > old.epoch());
    let late = Append { batch: batch(2, 1, 10), position: Some(position(2)) };
    let refused = within(old.append(late)).await.expect_err("the first writer is fenced");
    assert_eq!(refused.kind(), &ErrorKind::Fenced);
    append(new.as_mut(), batch(3, 1, 10), Some(3)).await;
    durable(new.as_ref(), 3).await;
    let expected = [(batch(1, 1, 10), Some(position(1))), (batch(3, 1, 10), Some(position(3)))];
    assert_same(&read_all(log.as_ref(), first).await, &expected);
}

async fn a_log_begun_anew_replaces_the_old(store: &dyn LogStore) {
    let old = begun(store).await;
    fill(old.as_ref()).await;
    let mut writer = within(old.writer()).await.expect("a writer");
    let new = within(store.create(&position(5), &[])).await.expect("begins anew while the old one is held");
    assert_ne!(new.bounds().id, old.bounds().id);
    assert_eq!(new.bounds().durable.position, position(5));
    let late = Append { batch: batch(9, 1, 10), position: Some(position(9)) };
    let refused = within(writer.append(late)).await.expect_err("the old log's writer is fenced");
    assert_eq!(refused.kind(), &ErrorKind::Fenced);
    drop((old, writer));
    let id = new.bounds().id;
    drop(new);
    assert_eq!(reopened(store).await.bounds().id, id);
}

async fn a_trim_goes_no_further_than_told(store: &dyn LogStore) {
    let log = begun(store).await;
    fill(log.as_ref()).await;
    let all = read_all(log.as_ref(), log.bounds().trimmed.next).await;
    for record in &all {
        within(log.trim(record.next)).await.expect("trims");
        let bounds = log.bounds();
        assert!(bounds.trimmed.next <= record.next, "not beyond what was told");
        assert!(bounds.trimmed.next <= bounds.durable.next);
        let position = log.mark_at(bounds.trimmed.next).await.expect("looks");
        assert_eq!(position.as_ref(), Some(&bounds.trimmed.position), "the trim point is a mark");
        let left = read_all(log.as_ref(), bounds.trimmed.next).await;
        assert_eq!(left.len(), all.iter().filter(|r| r.offset >= bounds.trimmed.next).count());
    }
    let (before, trimmed) = (log.bounds().durable, log.bounds().trimmed);
    drop(log);
    let log = reopened(store).await;
    assert_eq!((log.bounds().durable, log.bounds().trimmed), (before, trimmed));
}

async fn a_large_batch_is_one_record(store: &dyn LogStore) {
    let log = begun(store).await;
    let first = log.bounds().durable.next;
    let mut writer = within(log.writer()).await.expect("a writer");
    let large = [batch(1, 1, 9_500_000), batch(2, 1, 10)];
    for (batch, sequence) in large.iter().zip(1..) {
        append(writer.as_mut(), batch.clone(), Some(sequence)).await;
    }
    let mark = durable(writer.as_ref(), 2).await;
    let expected: Vec<_> = large.into_iter().zip([1, 2].map(position).map(Some)).collect();
    let records = read_all(log.as_ref(), first).await;
    assert_same(&records, &expected);
    assert_eq!(records[1].next, mark.next);
    assert_eq!(log.mark_at(records[0].next).await.expect("looks"), Some(position(1)));
}

async fn a_waiting_reader_wakes_and_can_be_cancelled(store: &dyn LogStore) {
    let log = begun(store).await;
    let mut writer = within(log.writer()).await.expect("a writer");
    let mut reader = within(log.reader(log.bounds().durable.next)).await.expect("a reader");
    for sequence in 1..20 {
        // Polled once while there is nothing, then dropped.
        let waited = futures_poll_once(reader.next()).await;
        assert!(waited.is_none(), "nothing is there to read");
        append(writer.as_mut(), batch(sequence, 1, 10), Some(sequence)).await;
        let record = within(reader.next()).await.expect("reads");
        assert_eq!(record.position, Some(position(sequence)));
    }
}

/// The future's output if it is ready at once; it is dropped otherwise.
async fn futures_poll_once<T>(future: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        output = future => Some(output),
        () = std::future::ready(()) => None,
    }
}

async fn ends_and_positions_agree(store: &dyn LogStore) {
    let log = begun(store).await;
    let mut writer = within(log.writer()).await.expect("a writer");
    let without = Append { batch: batch(1, 1, 10), position: None };
    let with = Append { batch: parts(1, 1, 10).remove(0), position: Some(position(1)) };
    for append in [without, with] {
        let refused =
            within(writer.append(append)).await.expect_err("an end without a position, or the reverse");
        assert_eq!(refused.kind(), &ErrorKind::Internal);
    }
    append(writer.as_mut(), batch(1, 1, 10), Some(1)).await;
    durable(writer.as_ref(), 1).await;
}

#[cfg(test)]
mod tests {
    use crate::memory::log::MemoryLogStore;

    #[tokio::test]
    async fn the_twin_conforms() {
        super::log_conforms(MemoryLogStore::new).await;
    }
}
