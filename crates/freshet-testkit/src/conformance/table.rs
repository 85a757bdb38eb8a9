//! What every table reader must do: [`table_reader_conforms`] runs all of it over databases that a [`TableRig`] makes.
//!
//! It says nothing of types, collations, settings or accounts: those are the implementation's own tests. Two tables
//! are selected, both of two 64-bit integers: `keyed`, whose first column is its key, and `keyless`. Others exist and
//! are not selected. What the readers of a view saw is judged by the change stream of the same database.

use async_trait::async_trait;
use freshet_core::codec::{BatchBuilder, EventRef, RowRef};
use freshet_core::position::{CommitPlace, TxnId};
use freshet_core::source::{ReadOutcome, Source};
use freshet_core::table::{Chunk, ChunkReader, TableInfo, TableReader, View};
use freshet_core::{ErrorKind, Position, SchemaMap, TableName, ValueRef};
use std::collections::BTreeSet;
use std::time::Duration;

/// Far longer than anything here takes.
const DEADLINE: Duration = Duration::from_secs(300);

/// A row of either table.
pub type TwoColumns = (i64, i64);

/// A database whose rows the suite makes, and what reads it.
#[async_trait]
pub trait TableRig: Send {
    /// A reader whose views have one bound (`exact`), or two.
    fn reader(&self, exact: bool) -> Box<dyn TableReader>;
    /// How many views are opened while somebody writes.
    fn views_under_writes(&self) -> usize;
    /// A source over the same database, not yet open.
    fn source(&self) -> Box<dyn Source>;
    /// The selected tables: with a key, and without.
    fn tables(&self) -> (TableName, TableName);
    /// Whether a table is selected, for the reader.
    fn selection(&self) -> Box<dyn freshet_core::source::Selects>;
    /// Inserts rows in one transaction.
    async fn insert(&mut self, table: &TableName, rows: &[TwoColumns]);
    /// Deletes the rows of these keys from the table with a key, in one transaction.
    async fn delete(&mut self, keys: &[i64]);
    /// Starts inserting rows `(n, n)`, n counted up from `first`, into the table with a key, one a transaction, as
    /// fast and on as many connections as may be.
    async fn start_writing(&mut self, first: i64);
    /// Ends it; all that was begun is committed and visible. The first n that was not used.
    async fn stop_writing(&mut self) -> i64;
    /// Drops the table with a key. What a reader holds open may keep it; then it returns without.
    async fn drop_keyed(&mut self);
}

/// Runs the whole suite; `fresh` makes a database with the two tables, empty, every time.
///
/// # Panics
/// Where the implementation does not conform.
pub async fn table_reader_conforms<R: TableRig>(fresh: impl AsyncFn() -> R) {
    the_catalogue_is_what_the_stream_announces(&mut fresh().await).await;
    empty_tables_are_read(&mut fresh().await).await;
    every_row_lies_in_exactly_one_chunk(&mut fresh().await).await;
    readers_share_the_chunks(&mut fresh().await).await;
    batches_end_near_the_target(&mut fresh().await).await;
    a_view_does_not_move(&mut fresh().await).await;
    a_plan_outlives_its_view(&mut fresh().await).await;
    a_chunk_may_be_given_up(&mut fresh().await).await;
    both_bounds_hold_under_writes(&mut fresh().await).await;
    a_dropped_table_is_its_own_trouble(&mut fresh().await).await;
}

async fn view(rig: &impl TableRig, exact: bool, readers: usize) -> View {
    let selection = rig.selection();
    let mut reader = rig.reader(exact);
    let opened = tokio::time::timeout(DEADLINE, reader.view(selection.as_ref(), readers)).await;
    let view = opened.expect("a view opens in time").expect("a view opens");
    assert_eq!(view.readers.len(), readers, "a view has the readers that were asked for");
    assert!(!exact || view.low == view.high, "an exact view has one bound");
    view
}

fn info(view: &View, name: &TableName) -> TableInfo {
    view.tables.iter().find(|info| info.name() == name).expect("a selected table is in the catalogue").clone()
}

/// Reads a chunk to its end, in small batches.
async fn read_chunk(reader: &mut dyn ChunkReader, table: &TableInfo, chunk: &Chunk) -> Vec<TwoColumns> {
    reader.open(table, chunk).await.expect("a chunk opens");
    let mut rows = Vec::new();
    let mut batch = BatchBuilder::new();
    let mut more = true;
    while more {
        more = reader.read(&mut batch, 500).await.expect("a chunk is read");
        assert!(more || batch.rows() == 0 || !batch.is_empty());
        rows.extend(rows_of(&mut batch, table));
    }
    rows
}

fn rows_of(batch: &mut BatchBuilder, table: &TableInfo) -> Vec<TwoColumns> {
    assert!(!batch.in_transaction(), "rows of a load come outside of transactions");
    let batch = batch.seal();
    let mut rows = Vec::new();
    for event in batch.events() {
        match event.expect("a batch can be read") {
            EventRef::Insert { schema, after } => {
                assert_eq!(schema, table.schema.id(), "rows have the schema of the catalogue");
                rows.push(two_columns(RowRef::new(&table.schema, after)));
            }
            other => panic!("a load writes inserts alone, and this was {other:?}"),
        }
    }
    assert_eq!(rows.len() as u64, batch.rows());
    rows
}

fn two_columns(row: RowRef<'_>) -> TwoColumns {
    row.validate().expect("a whole row");
    let cell = |at| match row.get(at).expect("a cell") {
        ValueRef::Int(value) => value,
        other => panic!("a 64-bit integer, and this was {other:?}"),
    };
    (cell(0), cell(1))
}

async fn read_table(reader: &mut dyn ChunkReader, table: &TableInfo, chunk_rows: u64) -> Vec<TwoColumns> {
    let chunks = reader.plan(table, chunk_rows).await.expect("a table can be planned");
    let mut rows = Vec::new();
    for chunk in &chunks {
        rows.extend(read_chunk(reader, table, chunk).await);
    }
    rows.sort_unstable();
    rows
}

fn pairs(keys: impl IntoIterator<Item = i64>) -> Vec<TwoColumns> {
    keys.into_iter().map(|key| (key, key * 2)).collect()
}

async fn the_catalogue_is_what_the_stream_announces(rig: &mut impl TableRig) {
    let (keyed, keyless) = rig.tables();
    let selection = rig.selection();
    let tables = rig.reader(true).tables(selection.as_ref()).await.expect("the catalogue can be read");
    let names: BTreeSet<_> = tables.iter().map(|info| info.name().clone()).collect();
    assert_eq!(names, BTreeSet::from([keyed.clone(), keyless.clone()]), "selected tables, and no others");
    let start = rig.source().tip().await.expect("a tip");
    rig.insert(&keyed, &pairs([1])).await;
    rig.insert(&keyless, &pairs([2])).await;
    let stream = Stream::read(rig, &start).await;
    let view = view(rig, true, 1).await;
    for info in tables.iter().chain(&view.tables) {
        assert!(stream.schemas.get(info.schema.id()).is_some(), "{} has the stream's schema", info.name());
    }
    assert_eq!(info(&view, &keyed).schema.key(), [0]);
    assert!(info(&view, &keyless).schema.key().is_empty());
}

async fn empty_tables_are_read(rig: &mut impl TableRig) {
    let mut view = view(rig, true, 1).await;
    for table in view.tables.clone() {
        let rows = read_table(view.readers[0].as_mut(), &table, 10).await;
        assert_eq!(rows, [], "an empty table has chunks and no rows");
    }
}

async fn every_row_lies_in_exactly_one_chunk(rig: &mut impl TableRig) {
    let (keyed, keyless) = rig.tables();
    let mut expect = pairs([i64::MIN / 2, -5, -1, 0, 7, i64::MAX / 2 - 1, i64::MAX / 2]);
    expect.extend(pairs(1_000..1_700));
    expect.extend(pairs((0..300).map(|n| 1_000_000_000_000 + n * 1_000_003)));
    expect.sort_unstable();
    rig.insert(&keyed, &expect).await;
    rig.insert(&keyless, &[(1, 1), (1, 1), (2, 0)]).await;
    let mut view = view(rig, true, 1).await;
    let keyed = info(&view, &keyed);
    for chunk_rows in [1, 50, 333, 1_000_000] {
        let chunks = view.readers[0].plan(&keyed, chunk_rows).await.expect("a plan");
        let first_and_last = (chunks.first(), chunks.last());
        let (Some(first), Some(last)) = first_and_last else { panic!("a plan has a chunk at least") };
        assert!(first.lower.is_none() && last.upper.is_none(), "the ends are open");
        assert!(chunks.windows(2).all(|pair| pair[0].upper.is_some() && pair[0].upper == pair[1].lower));
        assert!(chunks.iter().zip(0..).all(|(chunk, number)| chunk.number == number));
        let rows = read_table(view.readers[0].as_mut(), &keyed, chunk_rows).await;
        assert_eq!(rows, expect, "chunks of {chunk_rows} rows");
    }
    let keyless = info(&view, &keyless);
    assert_eq!(view.readers[0].plan(&keyless, 1).await.expect("a plan").len(), 1, "no key, one chunk");
    assert_eq!(read_table(view.readers[0].as_mut(), &keyless, 1).await, [(1, 1), (1, 1), (2, 0)]);
}

async fn readers_share_the_chunks(rig: &mut impl TableRig) {
    let (keyed, _) = rig.tables();
    let expect = pairs(0..1_000);
    rig.insert(&keyed, &expect).await;
    let mut view = view(rig, true, 3).await;
    let table = info(&view, &keyed);
    let chunks = view.readers[0].plan(&table, 60).await.expect("a plan");
    assert!(chunks.len() > 3, "a thousand rows by sixty are several chunks");
    let mut rows = Vec::new();
    for (at, chunk) in chunks.iter().enumerate() {
        let reader = view.readers[at % 3].as_mut();
        rows.extend(read_chunk(reader, &table, chunk).await);
    }
    rows.sort_unstable();
    assert_eq!(rows, expect, "what one reader planned the others read");
}

async fn batches_end_near_the_target(rig: &mut impl TableRig) {
    let (keyed, _) = rig.tables();
    rig.insert(&keyed, &pairs(0..2_000)).await;
    let mut view = view(rig, true, 1).await;
    let table = info(&view, &keyed);
    let reader = view.readers[0].as_mut();
    let chunks = reader.plan(&table, 1_000_000).await.expect("a plan");
    reader.open(&table, &chunks[0]).await.expect("a chunk opens");
    let (mut batch, mut reads, mut rows) = (BatchBuilder::new(), 0, 0);
    while reader.read(&mut batch, 4_000).await.expect("a chunk is read") {
        assert!((4_000..4_200).contains(&batch.len()), "{} bytes", batch.len());
        reads += 1;
        rows += rows_of(&mut batch, &table).len();
    }
    rows += rows_of(&mut batch, &table).len();
    assert!(reads > 5 && rows == 2_000, "{reads} reads, {rows} rows");
}

async fn a_view_does_not_move(rig: &mut impl TableRig) {
    let (keyed, _) = rig.tables();
    rig.insert(&keyed, &pairs(0..100)).await;
    let mut view = view(rig, true, 2).await;
    rig.insert(&keyed, &pairs(200..300)).await;
    rig.delete(&[1, 2, 3]).await;
    let table = info(&view, &keyed);
    for reader in &mut view.readers {
        assert_eq!(read_table(reader.as_mut(), &table, 10).await, pairs(0..100), "rows as of the view");
    }
    let stream = Stream::read(rig, &view.high).await;
    assert_eq!(stream.inserts().len(), 100, "what came after the view is after its bound");
}

async fn a_plan_outlives_its_view(rig: &mut impl TableRig) {
    let (keyed, _) = rig.tables();
    rig.insert(&keyed, &pairs(0..500)).await;
    let mut first = view(rig, true, 1).await;
    let table = info(&first, &keyed);
    let chunks = first.readers[0].plan(&table, 40).await.expect("a plan");
    drop(first);
    rig.delete(&(100..200).collect::<Vec<_>>()).await;
    rig.insert(&keyed, &pairs(-50..0)).await;
    rig.insert(&keyed, &pairs(500..700)).await;
    let mut second = view(rig, true, 1).await;
    let mut rows = Vec::new();
    for chunk in &chunks {
        rows.extend(read_chunk(second.readers[0].as_mut(), &table, chunk).await);
    }
    rows.sort_unstable();
    assert_eq!(rows, pairs((-50..100).chain(200..700)), "the chunks of an older plan hold every row");
}

async fn a_chunk_may_be_given_up(rig: &mut impl TableRig) {
    let (keyed, _) = rig.tables();
    rig.insert(&keyed, &pairs(0..3_000)).await;
    let mut view = view(rig, true, 1).await;
    let table = info(&view, &keyed);
    let reader = view.readers[0].as_mut();
    let chunks = reader.plan(&table, 1_000_000).await.expect("a plan");
    reader.open(&table, &chunks[0]).await.expect("a chunk opens");
    let mut batch = BatchBuilder::new();
    assert!(reader.read(&mut batch, 100).await.expect("a chunk is read"));
    assert_eq!(read_chunk(reader, &table, &chunks[0]).await.len(), 3_000, "a chunk can be begun again");
}

/// ALGORITHMS 2.2: what is not after F_low is seen by every reader, and what any reader sees is covered by F_high.
async fn both_bounds_hold_under_writes(rig: &mut impl TableRig) {
    let (keyed, _) = rig.tables();
    let mut seen = Vec::new();
    // A later view may have an earlier bound: the stream is read from before all of them.
    let start = rig.source().tip().await.expect("a tip");
    rig.start_writing(0).await;
    for at in 0..rig.views_under_writes() {
        let exact = at % 4 == 0;
        let mut view = view(rig, exact, 3).await;
        let table = info(&view, &keyed);
        let mut sets = Vec::new();
        for reader in &mut view.readers {
            let rows = read_table(reader.as_mut(), &table, 1_000_000).await;
            sets.push(rows.into_iter().map(|(key, _)| key).collect::<BTreeSet<i64>>());
        }
        seen.push((view.low.clone(), view.high.clone(), sets));
    }
    let end = rig.stop_writing().await;
    let inserts = Stream::read(rig, &start).await.inserts();
    for (at, (low, high, sets)) in seen.iter().enumerate() {
        let keys = |of: &mut dyn Iterator<Item = &Inserted>| of.map(|i| i.key).collect::<BTreeSet<i64>>();
        let after_low = keys(&mut inserts.iter().filter(|insert| !insert.is_covered(low)));
        let covered = keys(&mut inserts.iter().filter(|insert| insert.is_covered(high)));
        if at % 10 == 9 {
            let streamed = keys(&mut Stream::read(rig, low).await.inserts().iter());
            assert_eq!(streamed, after_low, "the stream after F_low {low} has what F_low does not cover");
        }
        for set in sets {
            let missing = (0..end).find(|key| !after_low.contains(key) && !set.contains(key));
            assert_eq!(missing, None, "a row from before F_low {low} is not seen");
            let beyond = set.iter().find(|key| after_low.contains(key) && !covered.contains(key));
            assert_eq!(beyond, None, "a row that is seen is beyond F_high {high}");
        }
        let between = after_low.intersection(&covered).next();
        assert!(low != high || between.is_none(), "nothing lies between equal bounds");
    }
    assert!(seen.iter().any(|(_, _, sets)| !sets[0].is_empty()), "somebody wrote meanwhile");
}

async fn a_dropped_table_is_its_own_trouble(rig: &mut impl TableRig) {
    let (keyed, keyless) = rig.tables();
    rig.insert(&keyed, &pairs(0..10)).await;
    rig.insert(&keyless, &pairs(0..10)).await;
    let mut view = view(rig, true, 1).await;
    let (table, other) = (info(&view, &keyed), info(&view, &keyless));
    rig.drop_keyed().await;
    let reader = view.readers[0].as_mut();
    let outcome = match reader.plan(&table, 5).await {
        Ok(chunks) => match reader.open(&table, &chunks[0]).await {
            Ok(()) => reader.read(&mut BatchBuilder::new(), 100).await.map(|_| ()),
            Err(error) => Err(error),
        },
        Err(error) => Err(error),
    };
    let error = outcome.expect_err("a table that is gone cannot be read");
    assert_eq!(error.kind(), &ErrorKind::Table(keyed), "{error}");
    assert_eq!(read_table(reader, &other, 5).await.len(), 10, "the other table can be");
}

/// What the source has after a place, up to its tip.
struct Stream {
    schemas: SchemaMap,
    batches: Vec<freshet_core::Batch>,
}

impl Stream {
    async fn read(rig: &impl TableRig, start: &Position) -> Self {
        let mut source = rig.source();
        let tip = source.tip().await.expect("a tip");
        source.open(start, &[]).await.expect("a view's bound is a place in the stream");
        let (mut batch, mut stream) =
            (BatchBuilder::new(), Self { schemas: SchemaMap::default(), batches: Vec::new() });
        let mut place = start.clone();
        while !has_reached(&place, &tip) {
            let read = tokio::time::timeout(DEADLINE, source.read(&mut batch)).await;
            match read.expect("the stream goes on").expect("the stream can be read") {
                ReadOutcome::Commit { position } => place = position,
                ReadOutcome::Partial => {}
                ReadOutcome::Discarded { .. } => panic!("the server did not restart"),
            }
            let sealed = batch.seal();
            sealed.collect_schemas(&mut stream.schemas).expect("schemas");
            stream.batches.push(sealed);
        }
        stream
    }

    /// Inserted keys, each with its transaction's name and place.
    fn inserts(&self) -> Vec<Inserted> {
        let (mut open, mut txn, mut inserts) = (Vec::new(), None, Vec::new());
        for event in self.batches.iter().flat_map(|batch| batch.events()) {
            match event.expect("a batch can be read") {
                EventRef::Begin { txn: id, .. } => txn = Some(id),
                EventRef::Insert { schema, after } => {
                    let schema = self.schemas.get(schema).expect("an announced schema");
                    open.push(two_columns(RowRef::new(schema, after)).0);
                }
                EventRef::Commit(commit) => {
                    let txn = txn.take().expect("a transaction begins");
                    let (place, server) = (commit.place, commit.server.to_owned());
                    let insert = |key| Inserted {
                        key,
                        txn: txn.clone(),
                        place: place.clone(),
                        server: server.clone(),
                    };
                    inserts.extend(open.drain(..).map(insert));
                }
                EventRef::Schema { .. }
                | EventRef::Update { .. }
                | EventRef::Delete { .. }
                | EventRef::Truncate(_)
                | EventRef::Statement(_) => {}
            }
        }
        inserts
    }
}

/// A key and the transaction that inserted it.
struct Inserted {
    key: i64,
    txn: TxnId,
    place: CommitPlace,
    server: String,
}

impl Inserted {
    fn is_covered(&self, by: &Position) -> bool {
        by.bounds(&self.txn, &self.place, &self.server)
    }
}

fn has_reached(place: &Position, tip: &Position) -> bool {
    match (place, tip) {
        (Position::Binlog(place), Position::Binlog(tip)) => {
            tip.gtids.is_subset(&place.gtids) && (place.server != tip.server || place.file >= tip.file)
        }
        (Position::Wal(place), Position::Wal(tip)) => place.lsn >= tip.lsn,
        (Position::Binlog(_), Position::Wal(_)) | (Position::Wal(_), Position::Binlog(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::database::{MemoryChange, MemoryDatabase};
    use freshet_core::source::Selects;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use tokio::task::JoinHandle;

    struct Shop;

    impl Selects for Shop {
        fn selects(&self, table: &TableName) -> bool {
            table.schema == "shop"
        }

        fn selects_schema(&self, schema: &str) -> bool {
            schema == "shop"
        }
    }

    struct MemoryRig {
        db: Arc<MemoryDatabase>,
        writer: Option<(Arc<AtomicBool>, JoinHandle<i64>)>,
    }

    fn row((key, value): TwoColumns) -> Vec<Option<i64>> {
        vec![Some(key), Some(value)]
    }

    #[async_trait]
    impl TableRig for MemoryRig {
        fn reader(&self, exact: bool) -> Box<dyn TableReader> {
            self.db.exact_views(exact);
            Box::new(self.db.table_reader())
        }

        fn views_under_writes(&self) -> usize {
            200
        }

        fn source(&self) -> Box<dyn Source> {
            Box::new(self.db.source())
        }

        fn tables(&self) -> (TableName, TableName) {
            (TableName::new("shop", "keyed"), TableName::new("shop", "keyless"))
        }

        fn selection(&self) -> Box<dyn Selects> {
            Box::new(Shop)
        }

        async fn insert(&mut self, table: &TableName, rows: &[TwoColumns]) {
            self.db.commit(rows.iter().map(|r| (table.clone(), MemoryChange::Insert(row(*r)))).collect());
        }

        async fn delete(&mut self, keys: &[i64]) {
            let table = self.tables().0;
            let there = self.db.rows_at(&table, self.db.len());
            let gone = there.into_iter().filter(|r| r[0].is_some_and(|key| keys.contains(&key)));
            self.db.commit(gone.map(|r| (table.clone(), MemoryChange::Delete(r))).collect());
        }

        async fn start_writing(&mut self, first: i64) {
            let (db, stop) = (self.db.clone(), Arc::new(AtomicBool::new(false)));
            let (seen, table) = (stop.clone(), self.tables().0);
            let writer = tokio::spawn(async move {
                let mut next = first;
                while !seen.load(Ordering::Relaxed) {
                    let insert = vec![(table.clone(), MemoryChange::Insert(row((next, next))))];
                    if next % 3 == 0 {
                        db.commit(insert)
                    } else {
                        db.commit_stalled(insert)
                    }
                    next += 1;
                    tokio::task::yield_now().await;
                }
                db.show_all();
                next
            });
            self.writer = Some((stop, writer));
            // The views of the twin never wait, so the writer needs its first turn.
            while self.db.len() < 10 {
                tokio::task::yield_now().await;
            }
        }

        async fn stop_writing(&mut self) -> i64 {
            let (stop, writer) = self.writer.take().expect("a writer");
            stop.store(true, Ordering::Relaxed);
            writer.await.expect("the writer ends")
        }

        async fn drop_keyed(&mut self) {
            self.db.drop_table(&self.tables().0);
        }
    }

    #[tokio::test]
    async fn the_memory_reader_conforms() {
        table_reader_conforms(async || {
            let db = MemoryDatabase::new();
            db.create(&TableName::new("shop", "keyed"), &["id", "v"], true, &[]);
            db.create(&TableName::new("shop", "keyless"), &["id", "v"], false, &[]);
            db.create(&TableName::new("other", "t"), &["id"], true, &[]);
            MemoryRig { db, writer: None }
        })
        .await;
    }
}
