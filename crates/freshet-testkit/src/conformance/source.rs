//! What every source must do: [`source_conforms`] runs all of it over histories that a [`SourceRig`] makes.
//!
//! It says nothing of types, flavours, settings or accounts: those are the implementation's own tests. The table that
//! is captured has one column, a 64-bit integer that is its key; nothing else is captured.

use async_trait::async_trait;
use freshet_core::codec::{BatchBuilder, EventRef};
use freshet_core::source::{ReadOutcome, Source};
use freshet_core::{ErrorKind, Position, SchemaMap, ValueRef};
use std::time::{Duration, Instant};

/// Far longer than anything here takes.
const DEADLINE: Duration = Duration::from_secs(300);

/// A transaction of this many changes is handed out in more than one part.
pub const LARGE_TRANSACTION_ROWS: i64 = 5_000;

/// A change of one row of the captured table, which is its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new row.
    Insert(i64),
    /// A row's key moved.
    Update(i64, i64),
    /// A row went.
    Delete(i64),
}

/// A database whose history the suite makes, and sources that read it.
#[async_trait]
pub trait SourceRig: Send {
    /// A new source, not yet open, that hands [`LARGE_TRANSACTION_ROWS`] out in more than one part.
    fn source(&self) -> Box<dyn Source>;
    /// The place after everything committed so far.
    async fn now(&mut self) -> Position;
    /// Commits a transaction in the captured table.
    async fn commit(&mut self, changes: &[Change]);
    /// Commits a transaction that changes nothing captured.
    async fn commit_elsewhere(&mut self);
    /// Cuts the connection of every source that is open.
    async fn cut(&mut self);
    /// Forgets the history before now, but not what follows.
    async fn purge(&mut self);
    /// Keeps what is needed to take the database back to this state.
    async fn before_the_commit_to_lose(&mut self);
    /// Takes the database back to that state, as a restored backup does.
    async fn lose_last_commit(&mut self);
}

/// Runs the whole suite; `fresh` makes a database with an empty captured table every time.
///
/// # Panics
/// Where the implementation does not conform.
pub async fn source_conforms<R: SourceRig>(fresh: impl AsyncFn() -> R) {
    commits_come_once_in_order_from_every_place(&mut fresh().await).await;
    cancelled_reads_lose_nothing(&mut fresh().await).await;
    a_large_transaction_comes_in_parts(&mut fresh().await).await;
    a_lost_connection_is_unavailable_and_reopens(&mut fresh().await).await;
    what_is_not_captured_moves_the_place(&mut fresh().await).await;
    a_waiting_read_wakes(&mut fresh().await).await;
    the_tip_is_the_end(&mut fresh().await).await;
    a_purged_history_is_a_resync(&mut fresh().await).await;
    a_lost_history_is_a_resync(&mut fresh().await).await;
}

/// A source and what it handed out.
struct Reading {
    source: Box<dyn Source>,
    batch: BatchBuilder,
    place: Position,
    /// Transactions read when a place was told, and the place.
    places: Vec<(usize, Position)>,
    transactions: Vec<Vec<Change>>,
    open: Option<Vec<Change>>,
    parts: usize,
    schemas: SchemaMap,
}

impl Reading {
    async fn open(rig: &impl SourceRig, start: &Position) -> Self {
        let mut reading = Self {
            source: rig.source(),
            batch: BatchBuilder::new(),
            place: start.clone(),
            places: vec![(0, start.clone())],
            transactions: Vec::new(),
            open: None,
            parts: 0,
            schemas: SchemaMap::default(),
        };
        reading.reopen().await;
        reading
    }

    /// Opens after the last place told; what was read of an open transaction is dropped, as the engine does.
    async fn reopen(&mut self) {
        self.batch = BatchBuilder::new();
        self.open = None;
        self.schemas = SchemaMap::default();
        let deadline = Instant::now() + DEADLINE;
        loop {
            match self.source.open(&self.place, &[]).await {
                Ok(()) => return,
                Err(error) => assert!(
                    error.is_retryable() && Instant::now() < deadline,
                    "a source opens after a place that it told: {error}"
                ),
            }
        }
    }

    async fn read(&mut self) -> freshet_core::Result<()> {
        let read = tokio::time::timeout(DEADLINE, self.source.read(&mut self.batch)).await;
        let outcome = read.expect("a read with something to read returns")?;
        self.take(outcome);
        Ok(())
    }

    fn take(&mut self, outcome: ReadOutcome) {
        let is_partial = outcome == ReadOutcome::Partial;
        assert_eq!(self.batch.in_transaction(), is_partial, "the outcome says how the batch ends");
        if matches!(outcome, ReadOutcome::Discarded { .. }) {
            self.open = None;
        }
        let (before, in_parts) = (self.transactions.len(), self.open.is_some());
        self.digest();
        let whole = self.transactions.len() - before;
        assert!(!is_partial || whole == 0, "a part of a transaction is alone in its batch");
        assert!(!in_parts || whole <= 1, "the last part of a transaction is alone in its batch");
        match outcome {
            ReadOutcome::Partial => self.parts += 1,
            ReadOutcome::Commit { position } | ReadOutcome::Discarded { position } => {
                self.place = position;
                self.places.push((self.transactions.len(), self.place.clone()));
            }
        }
    }

    fn digest(&mut self) {
        let batch = self.batch.seal();
        for event in batch.events() {
            let change = match event.expect("a source writes events that can be read") {
                EventRef::Schema { encoded, .. } => {
                    let schema = freshet_core::TableSchema::decode(encoded).expect("a schema");
                    self.schemas.insert(schema.into()).expect("schemas of one identity are equal");
                    continue;
                }
                EventRef::Begin { .. } => {
                    assert!(self.open.is_none(), "a transaction begins after the one before it ended");
                    self.open = Some(Vec::new());
                    continue;
                }
                EventRef::Commit(_) => {
                    self.transactions.push(self.open.take().expect("what ends had begun"));
                    continue;
                }
                EventRef::Insert { schema, after } => Change::Insert(self.key(schema, after)),
                EventRef::Update { schema, before, after } => {
                    Change::Update(self.key(schema, before), self.key(schema, after))
                }
                EventRef::Delete { schema, before } => Change::Delete(self.key(schema, before)),
                other @ (EventRef::Truncate(_) | EventRef::Statement(_)) => panic!("nobody made {other:?}"),
            };
            self.open.as_mut().expect("a change stands inside a transaction").push(change);
        }
    }

    fn key(&self, schema: freshet_core::SchemaId, image: &[u8]) -> i64 {
        let schema =
            self.schemas.get(schema).expect("a schema is announced before its rows, in each session");
        match EventRef::row(schema, image).get(0) {
            Ok(ValueRef::Int(key)) => key,
            other => panic!("the key is an integer: {other:?}"),
        }
    }

    /// The transactions that changed something captured.
    fn captured(&self) -> Vec<Vec<Change>> {
        self.transactions.iter().filter(|changes| !changes.is_empty()).cloned().collect()
    }

    async fn until(&mut self, count: usize) {
        while self.captured().len() < count {
            self.read().await.expect("a connected source reads");
        }
        assert_eq!(self.captured().len(), count, "a transaction comes once");
    }
}

fn history() -> Vec<Vec<Change>> {
    use Change::{Delete, Insert, Update};
    let mut history = vec![
        vec![Insert(1)],
        vec![Insert(2), Insert(3)],
        vec![Update(2, 20), Delete(1)],
        vec![Insert(1), Delete(3), Insert(3), Update(3, 30)],
    ];
    history.extend((100..120).map(|id| vec![Insert(id)]));
    history
}

async fn run(rig: &mut impl SourceRig) -> Vec<Vec<Change>> {
    let history = history();
    for changes in &history {
        rig.commit(changes).await;
    }
    history
}

async fn commits_come_once_in_order_from_every_place(rig: &mut impl SourceRig) {
    let start = rig.now().await;
    let history = run(rig).await;
    let mut all = Reading::open(rig, &start).await;
    all.until(history.len()).await;
    assert_eq!(all.captured(), history, "commits come in order");
    for (read, place) in &all.places {
        let mut rest = Reading::open(rig, place).await;
        rest.until(all.transactions[*read..].iter().filter(|changes| !changes.is_empty()).count()).await;
        assert_eq!(rest.transactions, all.transactions[*read..], "exactly the rest follows {place}");
    }
}

async fn cancelled_reads_lose_nothing(rig: &mut impl SourceRig) {
    let start = rig.now().await;
    let history = run(rig).await;
    let mut reading = Reading::open(rig, &start).await;
    let deadline = Instant::now() + DEADLINE;
    for tries in 0_u64.. {
        if reading.captured().len() >= history.len() {
            break;
        }
        assert!(Instant::now() < deadline, "reads that are cancelled get on");
        let limit = Duration::from_micros(tries % 200);
        if let Ok(outcome) = tokio::time::timeout(limit, reading.source.read(&mut reading.batch)).await {
            reading.take(outcome.expect("a connected source reads"));
        }
    }
    assert_eq!(reading.captured(), history, "what was cancelled is neither lost nor doubled");
}

async fn a_large_transaction_comes_in_parts(rig: &mut impl SourceRig) {
    let start = rig.now().await;
    let large: Vec<Change> = (0..LARGE_TRANSACTION_ROWS).map(|id| Change::Insert(1_000 + id)).collect();
    let history = vec![vec![Change::Insert(1)], large, vec![Change::Insert(2)]];
    for changes in &history {
        rig.commit(changes).await;
    }
    let mut reading = Reading::open(rig, &start).await;
    reading.until(history.len()).await;
    assert!(reading.captured() == history, "the parts make up the transaction");
    assert!(reading.parts > 0, "a large transaction comes in parts");
}

async fn a_lost_connection_is_unavailable_and_reopens(rig: &mut impl SourceRig) {
    let start = rig.now().await;
    rig.commit(&[Change::Insert(1)]).await;
    let mut reading = Reading::open(rig, &start).await;
    reading.until(1).await;
    rig.cut().await;
    rig.commit(&[Change::Insert(2)]).await;
    let error = loop {
        match reading.read().await {
            Ok(()) => assert!(reading.captured().len() <= 2),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), &ErrorKind::Unavailable, "a lost connection is worth another try: {error}");
    reading.reopen().await;
    reading.until(2).await;
    assert_eq!(reading.captured(), [[Change::Insert(1)], [Change::Insert(2)]]);
}

async fn what_is_not_captured_moves_the_place(rig: &mut impl SourceRig) {
    let start = rig.now().await;
    let mut reading = Reading::open(rig, &start).await;
    rig.commit_elsewhere().await;
    while reading.place == start {
        reading.read().await.expect("a connected source reads");
    }
    assert_eq!(reading.captured(), Vec::<Vec<Change>>::new(), "nothing was captured");
    let mut later = Reading::open(rig, &reading.place).await;
    rig.commit(&[Change::Insert(1)]).await;
    later.until(1).await;
    assert_eq!(later.captured(), [[Change::Insert(1)]]);
}

async fn a_waiting_read_wakes(rig: &mut impl SourceRig) {
    let start = rig.now().await;
    let mut reading = Reading::open(rig, &start).await;
    for id in 1..5 {
        rig.commit(&[Change::Insert(id)]).await;
        reading.until(id as usize).await;
    }
}

async fn the_tip_is_the_end(rig: &mut impl SourceRig) {
    let start = rig.now().await;
    run(rig).await;
    let mut reading = Reading::open(rig, &start).await;
    let tip = reading.source.tip().await.expect("a connected source knows its tip");
    let distance = reading.source.distance_bytes(&start, &tip);
    assert!(distance.is_none_or(|bytes| bytes > 0), "the tip is not behind");
    assert!(reading.source.distance_bytes(&tip, &tip).is_none_or(|bytes| bytes == 0));
    let mut later = Reading::open(rig, &tip).await;
    rig.commit(&[Change::Insert(1_000)]).await;
    later.until(1).await;
    assert_eq!(later.captured(), [[Change::Insert(1_000)]], "nothing before the tip follows it");
    let known = reading.place.clone();
    reading.source.acknowledge(&known).await.expect("what is durable may be acknowledged");
}

async fn a_purged_history_is_a_resync(rig: &mut impl SourceRig) {
    let start = rig.now().await;
    run(rig).await;
    rig.purge().await;
    let place = rig.now().await;
    expect_resync(rig, &start, "a history that was purged").await;
    rig.commit(&[Change::Insert(1_000)]).await;
    let mut rest = Reading::open(rig, &place).await;
    rest.until(1).await;
}

async fn a_lost_history_is_a_resync(rig: &mut impl SourceRig) {
    rig.commit(&[Change::Insert(1)]).await;
    let start = rig.now().await;
    rig.before_the_commit_to_lose().await;
    rig.commit(&[Change::Insert(2)]).await;
    let mut reading = Reading::open(rig, &start).await;
    reading.until(1).await;
    rig.lose_last_commit().await;
    expect_resync(rig, &reading.place, "a history that the server lost").await;
}

async fn expect_resync(rig: &impl SourceRig, start: &Position, what: &str) {
    let mut source = rig.source();
    let mut error = source.open(start, &[]).await.err();
    let mut batch = BatchBuilder::new();
    while error.is_none() {
        let read = tokio::time::timeout(DEADLINE, source.read(&mut batch)).await;
        error = read.expect("a read with something to read returns").err();
        assert!(batch.is_empty(), "{what} is not read");
    }
    let error = error.expect("the loop ends with one");
    assert_eq!(error.kind(), &ErrorKind::Resync, "{what}: {error}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::database::{MemoryChange, MemoryDatabase, position};
    use freshet_core::TableName;
    use std::sync::Arc;

    struct Memory(Arc<MemoryDatabase>);

    fn table() -> TableName {
        TableName::new("conform", "captured")
    }

    #[async_trait]
    impl SourceRig for Memory {
        fn source(&self) -> Box<dyn Source> {
            Box::new(self.0.source())
        }

        async fn now(&mut self) -> Position {
            position(self.0.len())
        }

        async fn commit(&mut self, changes: &[Change]) {
            let change = |change: &Change| match *change {
                Change::Insert(id) => MemoryChange::Insert(vec![Some(id)]),
                Change::Update(id, new) => MemoryChange::Update(vec![Some(id)], vec![Some(new)]),
                Change::Delete(id) => MemoryChange::Delete(vec![Some(id)]),
            };
            self.0.commit(changes.iter().map(|one| (table(), change(one))).collect());
        }

        async fn commit_elsewhere(&mut self) {
            self.0.commit(Vec::new());
        }

        async fn cut(&mut self) {
            self.0.fail_reads(1);
        }

        async fn purge(&mut self) {
            self.0.purge(self.0.len());
        }

        async fn before_the_commit_to_lose(&mut self) {}

        async fn lose_last_commit(&mut self) {
            self.0.lose(1);
        }
    }

    #[tokio::test]
    async fn the_memory_source_conforms() {
        source_conforms(async || {
            let database = MemoryDatabase::new();
            database.create(&table(), &["id"], true, &[]);
            database.part_rows(1_000);
            Memory(database)
        })
        .await;
    }
}
