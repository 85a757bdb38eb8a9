//! How long the engine waits where a source is slow or loses its connection again and again. Over the in-memory twins,
//! in virtual time: every test runs with the clock paused, so that nobody waits.

use async_trait::async_trait;
use freshet_core::codec::BatchBuilder;
use freshet_core::sink::PrepareMode;
use freshet_core::source::{ReadOutcome, Selects, Source};
use freshet_core::table::{Chunk, ChunkReader, TableInfo, TableReader, View};
use freshet_core::{Error, Position, Result, TableName};
use freshet_mapping::{Mapping, Selection};
use freshet_pipeline::{Parts, Settings, SinkPart, Status, run};
use freshet_testkit::memory::database::{MemoryChange, MemoryDatabase, MemorySource, MemoryTableReader};
use freshet_testkit::memory::log::MemoryLogStore;
use freshet_testkit::memory::sink::{MemorySink, MemoryTarget};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Far longer than anything here takes, of virtual time.
const DEADLINE: Duration = Duration::from_secs(3_600);

fn entries() -> TableName {
    TableName::new("bank", "entries")
}

/// One source with one table, one log, one target.
struct House {
    db: Arc<MemoryDatabase>,
    store: MemoryLogStore,
    target: Arc<MemoryTarget>,
}

impl House {
    /// With so many rows, each of a transaction of its own.
    fn new(rows: i64) -> Self {
        let db = MemoryDatabase::new();
        db.create(&entries(), &["id", "amount"], true, &[]);
        db.exact_views(true);
        let house = Self { db, store: MemoryLogStore::new(), target: MemoryTarget::new() };
        house.insert(0..rows);
        house
    }

    fn insert(&self, ids: std::ops::Range<i64>) {
        for id in ids {
            self.db.commit(vec![(entries(), MemoryChange::Insert(vec![Some(id), Some(id)]))]);
        }
    }

    /// Follows until caught up, a chunk for each row, and says how long that took.
    async fn catch_up(&self, source: Box<dyn Source>, tables: Box<dyn TableReader>) -> Duration {
        let sink = SinkPart {
            name: "target".to_owned(),
            sink: Box::new(MemorySink::new(self.target.clone())),
            mapping: Mapping::default(),
            prepare: PrepareMode::default(),
        };
        let parts = Parts {
            source,
            tables,
            store: Box::new(self.store.clone()),
            sinks: vec![sink],
            selection: Arc::new(Selection::new(&["bank.*"], &[]).expect("valid")),
        };
        let settings = Settings { readers: 1, chunk_rows: 1, until_caught_up: true, ..Settings::default() };
        let (_stop, stopped) = watch::channel(false);
        let began = Instant::now();
        let running = run(parts, settings, Arc::new(Status::default()), stopped);
        tokio::time::timeout(DEADLINE, running).await.expect("in time").expect("catches up");
        assert_eq!(self.target.rows(&entries()).len(), self.db.rows_at(&entries(), self.db.len()).len());
        began.elapsed()
    }
}

/// Readers whose every other chunk is lost with the connection.
struct Limping {
    inner: MemoryTableReader,
    opened: Arc<AtomicUsize>,
}

struct LimpingReader {
    inner: Box<dyn ChunkReader>,
    opened: Arc<AtomicUsize>,
}

#[async_trait]
impl TableReader for Limping {
    async fn tables(&mut self, selection: &dyn Selects) -> Result<Vec<TableInfo>> {
        self.inner.tables(selection).await
    }

    fn views_are_exact(&self) -> bool {
        self.inner.views_are_exact()
    }

    async fn view(&mut self, selection: &dyn Selects, readers: usize) -> Result<View> {
        let mut view = self.inner.view(selection, readers).await?;
        let limp = |inner| Box::new(LimpingReader { inner, opened: self.opened.clone() }) as Box<_>;
        view.readers = view.readers.into_iter().map(limp).collect();
        Ok(view)
    }
}

#[async_trait]
impl ChunkReader for LimpingReader {
    async fn plan(&mut self, table: &TableInfo, rows: u64) -> Result<Vec<Chunk>> {
        self.inner.plan(table, rows).await
    }

    async fn open(&mut self, table: &TableInfo, chunk: &Chunk) -> Result<()> {
        match self.opened.fetch_add(1, Ordering::Relaxed) % 2 {
            0 => self.inner.open(table, chunk).await,
            _ => Err(Error::unavailable("The source lost its connection in mid-load")),
        }
    }

    async fn read(&mut self, batch: &mut BatchBuilder, bytes_target: usize) -> Result<bool> {
        self.inner.read(batch, bytes_target).await
    }
}

/// A load that gets on between losses pauses shortly after each: only one that does not get on at all waits longer.
#[tokio::test(start_paused = true)]
async fn a_load_that_gets_on_does_not_wait_longer_each_time() {
    let house = House::new(20);
    let tables = Limping { inner: house.db.table_reader(), opened: Arc::default() };
    let opened = tables.opened.clone();
    let took = house.catch_up(Box::new(house.db.source()), Box::new(tables)).await;
    assert!(opened.load(Ordering::Relaxed) > 40, "a chunk and a loss for each row");
    assert!(took < Duration::from_secs(10), "{took:?}");
}

/// A table reader of a slow source, whose first view is lost after half a minute.
struct SlowToBegin {
    inner: MemoryTableReader,
    lost: bool,
}

#[async_trait]
impl TableReader for SlowToBegin {
    async fn tables(&mut self, selection: &dyn Selects) -> Result<Vec<TableInfo>> {
        self.inner.tables(selection).await
    }

    fn views_are_exact(&self) -> bool {
        self.inner.views_are_exact()
    }

    async fn view(&mut self, selection: &dyn Selects, readers: usize) -> Result<View> {
        tokio::time::sleep(Duration::from_secs(30)).await;
        match std::mem::replace(&mut self.lost, true) {
            true => self.inner.view(selection, readers).await,
            false => Err(Error::unavailable("The source lost its connection")),
        }
    }
}

/// A start is tried again also where one try takes longer than a start waits for servers that are away.
#[tokio::test(start_paused = true)]
async fn a_start_that_takes_long_is_tried_again() {
    let house = House::new(3);
    let tables = SlowToBegin { inner: house.db.table_reader(), lost: false };
    let took = house.catch_up(Box::new(house.db.source()), Box::new(tables)).await;
    assert!(took > Duration::from_secs(60), "two views of half a minute: {took:?}");
}

/// A source that takes longer to tell its tip than the engine waits between two questions.
struct SlowToTell(MemorySource);

#[async_trait]
impl Source for SlowToTell {
    async fn begin(&mut self) -> Result<Position> {
        self.0.begin().await
    }

    async fn open(&mut self, start: &Position, held: &[Position]) -> Result<()> {
        self.0.open(start, held).await
    }

    async fn read(&mut self, batch: &mut BatchBuilder) -> Result<ReadOutcome> {
        self.0.read(batch).await
    }

    async fn acknowledge(&mut self, position: &Position) -> Result<()> {
        self.0.acknowledge(position).await
    }

    async fn tip(&mut self) -> Result<Position> {
        tokio::time::sleep(Duration::from_secs(3)).await;
        self.0.tip().await
    }

    fn distance_bytes(&self, from: &Position, to: &Position) -> Option<u64> {
        self.0.distance_bytes(from, to)
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_is_slow_to_tell_its_tip_is_read_all_the_same() {
    let house = House::new(3);
    house.catch_up(Box::new(house.db.source()), Box::new(house.db.table_reader())).await;
    house.insert(3..40);
    house.catch_up(Box::new(SlowToTell(house.db.source())), Box::new(house.db.table_reader())).await;
}
