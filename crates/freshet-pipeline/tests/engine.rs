//! The engine over in-memory twins: whatever fails and in whatever order, the target ends equal to the source, and
//! from `consistent_since` on it only ever shows states that the source had at some commit.

use freshet_core::sink::PrepareMode;
use freshet_core::{ErrorKind, Result, TableName};
use freshet_mapping::{Mapping, Selection};
use freshet_pipeline::{Parts, Settings, SinkPart, Status, run};
use freshet_testkit::memory::database::{MemoryChange, MemoryDatabase, MemoryRow, MemoryTransaction};
use freshet_testkit::memory::log::MemoryLogStore;
use freshet_testkit::memory::sink::{Backup, Fault, MemorySink, MemoryTarget, Row};
use freshet_testkit::servers::seed;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

const DEADLINE: Duration = Duration::from_secs(300);

fn accounts() -> TableName {
    TableName::new("bank", "accounts")
}

fn entries() -> TableName {
    TableName::new("bank", "entries")
}

fn key_less() -> TableName {
    TableName::new("bank", "notes")
}

/// One source, one log, one target or two.
struct House {
    db: Arc<MemoryDatabase>,
    store: MemoryLogStore,
    target: Arc<MemoryTarget>,
    second: Option<Arc<MemoryTarget>>,
    settings: Settings,
}

struct Running {
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<()>>,
    status: Arc<Status>,
}

impl House {
    fn new() -> Self {
        let db = MemoryDatabase::new();
        db.create(&accounts(), &["id", "owner", "amount"], true, &[1]);
        db.create(&entries(), &["id", "amount"], true, &[]);
        db.create(&key_less(), &["a", "b"], false, &[]);
        let settings = Settings {
            readers: 3,
            chunk_rows: 4,
            config_digest: "mode=load; include=a".into(),
            ..Settings::default()
        };
        Self { db, store: MemoryLogStore::new(), target: MemoryTarget::new(), second: None, settings }
    }

    fn start(&self, until_caught_up: bool) -> Running {
        let sink = |(n, target): (usize, Arc<MemoryTarget>)| SinkPart {
            name: format!("target {n}"),
            sink: Box::new(MemorySink::new(target)),
            mapping: Mapping::default(),
            prepare: PrepareMode::default(),
        };
        let parts = Parts {
            source: Box::new(self.db.source()),
            tables: Box::new(self.db.table_reader()),
            store: Box::new(self.store.clone()),
            sinks: self.targets().into_iter().enumerate().map(sink).collect(),
            selection: Arc::new(Selection::new(&["bank.*"], &[]).expect("valid")),
        };
        let (stop, stopped) = watch::channel(false);
        let status = Arc::new(Status::default());
        let settings = Settings { until_caught_up, ..self.settings.clone() };
        let task = tokio::spawn(run(parts, settings, status.clone(), stopped));
        Running { stop, task, status }
    }

    fn targets(&self) -> Vec<Arc<MemoryTarget>> {
        [self.target.clone()].into_iter().chain(self.second.clone()).collect()
    }

    /// A house in which every table has a key, whose views are of different moments for different readers.
    fn with_keys() -> Self {
        let house = Self::new();
        house.db.drop_table(&key_less());
        house
    }

    async fn catch_up(&self) -> Result<()> {
        let running = self.start(true);
        let ended = tokio::time::timeout(DEADLINE, running.task).await;
        ended
            .unwrap_or_else(|_| panic!("not caught up in {DEADLINE:?}: {:?}", running.status.snapshot()))
            .expect("no panic")
    }

    fn assert_equal(&self) {
        for table in [accounts(), entries(), key_less()] {
            let names: Vec<&str> = columns(&table);
            let mut expect: Vec<Row> =
                self.db.rows_at(&table, self.db.len()).iter().map(|r| printed(&names, r)).collect();
            expect.sort();
            for (n, target) in self.targets().iter().enumerate() {
                assert_eq!(target.rows(&table), expect, "{table} of target {n}");
            }
        }
    }

    /// Every committed state of the target is one that the source had, in the source's order.
    fn assert_history(&self) {
        let mut at = 0;
        for (n, state) in self.target.history().iter().enumerate() {
            let found = (at..=self.db.len()).find(|s| self.same(*s, state));
            at = found.unwrap_or_else(|| {
                panic!("state {n} of the target is none that the source had after commit {at}")
            });
        }
    }

    fn same(&self, sequence: usize, state: &BTreeMap<TableName, Vec<Row>>) -> bool {
        [accounts(), entries(), key_less()].iter().all(|table| {
            let names = columns(table);
            let mut rows: Vec<Row> =
                self.db.rows_at(table, sequence).iter().map(|r| printed(&names, r)).collect();
            let mut have = state.get(table).cloned().unwrap_or_default();
            rows.sort();
            have.sort();
            rows == have
        })
    }
}

fn columns(table: &TableName) -> Vec<&'static str> {
    match table.table.as_str() {
        "accounts" => vec!["id", "owner", "amount"],
        "entries" => vec!["id", "amount"],
        _ => vec!["a", "b"],
    }
}

fn printed(names: &[&str], row: &MemoryRow) -> Row {
    let cell = |v: &Option<i64>| v.map_or("Null".to_owned(), |v| format!("Int({v})"));
    names.iter().map(|n| (*n).to_owned()).zip(row.iter().map(cell)).collect()
}

/// Makes transactions that the database could have had.
struct Writer {
    rng: StdRng,
    next_id: i64,
    /// Whether it writes to the table without a key.
    notes: bool,
}

impl Writer {
    fn new(seed: u64) -> Self {
        Self { rng: StdRng::seed_from_u64(seed), next_id: 1, notes: true }
    }

    fn transaction(&mut self, db: &MemoryDatabase) -> MemoryTransaction {
        let mut out = Vec::new();
        let mut rows = db.rows_at(&accounts(), db.len());
        let mut notes = db.rows_at(&key_less(), db.len());
        for _ in 0..self.rng.random_range(1..8) {
            out.push(self.change(&mut rows));
            if self.notes && self.rng.random_range(0..4) == 0 {
                out.push(note(&mut self.rng, &mut notes));
            }
            if self.rng.random_range(0..60) == 0 {
                rows.clear();
                out.push((accounts(), MemoryChange::Truncate));
            }
        }
        let id = self.next_id;
        self.next_id += 1;
        out.push((entries(), MemoryChange::Insert(vec![Some(id), Some(out.len() as i64)])));
        out
    }

    fn change(&mut self, rows: &mut Vec<MemoryRow>) -> (TableName, MemoryChange) {
        let pick = if rows.is_empty() { None } else { Some(self.rng.random_range(0..rows.len())) };
        let id = self.rng.random_range(0..30);
        let free = !rows.iter().any(|r| r[0] == Some(id));
        let new = vec![Some(id), Some(1000 + id), Some(self.rng.random_range(0..100))];
        let change = match (self.rng.random_range(0..4), pick) {
            (0, Some(at)) => MemoryChange::Delete(rows.swap_remove(at)),
            (1, Some(at)) if free => {
                let old = rows.swap_remove(at);
                rows.push(new.clone());
                MemoryChange::Update(old, new)
            }
            (_, None) | (2, _) if free => {
                rows.push(new.clone());
                MemoryChange::Insert(new)
            }
            (_, Some(at)) => {
                let old = rows[at].clone();
                rows[at][2] = Some(self.rng.random_range(0..100));
                MemoryChange::Update(old, rows[at].clone())
            }
            (_, None) => unreachable!("an empty table has every id free"),
        };
        (accounts(), change)
    }

    fn commit(&mut self, db: &MemoryDatabase) {
        let transaction = self.transaction(db);
        if self.rng.random_range(0..3) == 0 { db.commit_stalled(transaction) } else { db.commit(transaction) }
    }
}

fn note(rng: &mut StdRng, notes: &mut Vec<MemoryRow>) -> (TableName, MemoryChange) {
    let row = vec![Some(rng.random_range(0..3)), Some(rng.random_range(0..2))];
    let change = if !notes.is_empty() && rng.random_range(0..3) == 0 {
        MemoryChange::Delete(notes.swap_remove(rng.random_range(0..notes.len())))
    } else {
        notes.push(row.clone());
        MemoryChange::Insert(row)
    };
    (key_less(), change)
}

fn fill(house: &House, writer: &mut Writer, transactions: usize) {
    for _ in 0..transactions {
        writer.commit(&house.db);
    }
}

#[tokio::test]
async fn load_and_stream_end_equal() {
    let (house, mut writer) = (House::new(), Writer::new(seed()));
    // A table without a key needs F_low = F_high.
    house.db.exact_views(true);
    fill(&house, &mut writer, 40);
    house.db.show_all();
    house.catch_up().await.expect("catches up");
    house.assert_equal();
    fill(&house, &mut writer, 40);
    house.catch_up().await.expect("catches up again");
    house.assert_equal();
    house.assert_history();
}

#[tokio::test]
async fn a_configuration_that_changed_is_refused() {
    let mut house = House::new();
    house.catch_up().await.expect("begins");
    house.settings.config_digest = "mode=load; include=b".into();
    let error = house.catch_up().await.expect_err("refused");
    assert_eq!(*error.kind(), ErrorKind::Invalid);
    assert!(error.message().ends_with("from \"include=a\" to \"include=b\""), "{error}");
}

#[tokio::test]
async fn a_divergence_stops_by_name_and_is_not_swallowed() {
    let (house, mut writer) = (House::new(), Writer::new(seed()));
    house.db.exact_views(true);
    let row = |amount| vec![Some(100), Some(7), Some(amount)];
    house.db.commit(vec![(accounts(), MemoryChange::Insert(row(1)))]);
    fill(&house, &mut writer, 3);
    house.db.show_all();
    house.catch_up().await.expect("catches up");
    while !house.target.rows(&accounts()).is_empty() {
        house.target.lose_a_row(&accounts());
    }
    house.db.commit(vec![(accounts(), MemoryChange::Update(row(1), row(2)))]);
    let error = house.catch_up().await.expect_err("stops");
    assert_eq!(*error.kind(), ErrorKind::Table(accounts()), "{error}");
}

/// One part after another of a large transaction fails in bulk: each is a step further, and no reason to give up.
#[tokio::test(start_paused = true)]
async fn t5_many_parts_of_a_transaction_that_need_order_are_applied() {
    let mut house = House::new();
    house.db.exact_views(true);
    house.catch_up().await.expect("begins");
    (house.settings.window_rows, house.settings.readers) = (1, 1);
    house.db.part_rows(1);
    let insert = |id| (entries(), MemoryChange::Insert(vec![Some(id), Some(id)]));
    house.db.commit((0..40).map(insert).collect());
    for _ in 0..30 {
        house.target.inject(Fault::Bulk);
    }
    house.catch_up().await.expect("catches up");
    house.assert_equal();
}

#[tokio::test]
async fn ddl_on_a_captured_table_stops_by_name() {
    let house = House::new();
    house.db.exact_views(true);
    house.catch_up().await.expect("begins");
    let ddl = MemoryChange::Statement("ALTER TABLE entries ADD c INT".into());
    house.db.commit(vec![(entries(), ddl)]);
    let error = house.catch_up().await.expect_err("stops");
    assert_eq!(*error.kind(), ErrorKind::Table(entries()));
    assert!(error.hint().is_some());
}

#[tokio::test]
async fn p22_a_source_that_lost_what_we_have_is_a_resync() {
    let (house, mut writer) = (House::new(), Writer::new(seed()));
    house.db.exact_views(true);
    fill(&house, &mut writer, 5);
    house.db.show_all();
    house.catch_up().await.expect("catches up");
    house.db.lose(2);
    let error = house.catch_up().await.expect_err("stops");
    assert_eq!(*error.kind(), ErrorKind::Resync, "{error}");
    // Also when the log is gone and only the target knows.
    house.store.delete();
    let error = house.catch_up().await.expect_err("stops");
    assert_eq!(*error.kind(), ErrorKind::Resync, "{error}");
}

#[tokio::test]
async fn p12_purged_history_is_a_resync() {
    let (house, mut writer) = (House::new(), Writer::new(seed()));
    house.db.exact_views(true);
    fill(&house, &mut writer, 5);
    house.db.show_all();
    house.catch_up().await.expect("catches up");
    fill(&house, &mut writer, 5);
    house.db.purge(8);
    let error = house.catch_up().await.expect_err("stops");
    assert_eq!(*error.kind(), ErrorKind::Resync, "{error}");
}

/// The whole house under random faults: readers and targets that lose their connection at every point, processes
/// that die, logs that are lost or rolled back, targets that are restored.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_fails_the_target_ends_equal() {
    let base = seed();
    // They wait much (pauses between retries), so they go side by side.
    let mut histories = JoinSet::new();
    for round in 0..80 {
        let history = chaos(base.wrapping_add(round), round % 2 == 0, round % 4 >= 2);
        histories.spawn(async move { (round, tokio::time::timeout(DEADLINE, history).await) });
    }
    while let Some(ended) = histories.join_next().await {
        let (round, ended) = ended.expect("no panic");
        ended.unwrap_or_else(|_| panic!("seed {base} round {round} hangs"));
    }
}

/// One history of faults. Exact views with a table without a key, or inexact ones with keys only.
async fn chaos(seed: u64, exact: bool, two: bool) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut house = if exact { House::new() } else { House::with_keys() };
    house.second = two.then(MemoryTarget::new);
    let mut writer = Writer { notes: exact, ..Writer::new(seed) };
    house.db.exact_views(exact);
    house.db.part_rows(rng.random_range(1..6));
    fill(&house, &mut writer, rng.random_range(0..30));
    if exact {
        house.db.show_all();
    }
    let mut log_copy = house.store.copy();
    let mut copies: Vec<Backup> = house.targets().iter().map(|t| t.backup()).collect();
    for _ in 0..rng.random_range(3..9) {
        for target in house.targets() {
            inject(&target, &mut rng);
        }
        house.db.flaky_reads(if rng.random_range(0..2) == 0 { 4 } else { 0 });
        let running = house.start(false);
        for _ in 0..rng.random_range(0..12) {
            writer.commit(&house.db);
            if rng.random_range(0..6) == 0 {
                house.db.fail_reads(rng.random_range(1..3));
            }
            for _ in 0..rng.random_range(0..20) {
                tokio::task::yield_now().await;
            }
        }
        house.db.show_all();
        house.db.flaky_reads(0);
        end(running, rng.random_range(0..2) == 0).await;
        // A target that never began cannot join a rebuild, and says so: that is another test.
        let targets = house.targets();
        let begun = targets.iter().all(|t| t.checkpoint().is_some());
        let one = rng.random_range(0..targets.len());
        match rng.random_range(0..8) {
            0 if begun => house.store.delete(),
            1 if begun => house.store.restore(&log_copy),
            2 if !two || copies[one].checkpoint().is_some() => targets[one].restore(&copies[one]),
            3 => log_copy = house.store.copy(),
            4 => copies[one] = targets[one].backup(),
            _ => {}
        }
    }
    // The last run has losses in the middle of transactions to mend by itself.
    fill(&house, &mut writer, 10);
    house.db.show_all();
    house.db.flaky_reads(12);
    house.catch_up().await.unwrap_or_else(|e| panic!("seed {seed}: {e}"));
    house.assert_equal();
}

fn inject(target: &MemoryTarget, rng: &mut StdRng) {
    let faults = [
        Fault::BeforeApply,
        Fault::CommitLost,
        Fault::CommitAnswerLost,
        Fault::Bulk,
        Fault::ChunkLost,
        Fault::ControlLost,
        Fault::ControlAnswerLost,
    ];
    target.withdraw_faults();
    for _ in 0..rng.random_range(0..3) {
        target.inject(faults[rng.random_range(0..faults.len())]);
    }
}

/// Ends a run in order or by killing its tasks.
async fn end(running: Running, kill: bool) {
    let Running { stop, task, status } = running;
    if kill {
        task.abort();
        let _ = task.await;
    } else {
        stop.send_replace(true);
        if let Ok(ended) = task.await {
            ended.unwrap_or_else(|e| panic!("a run ended with {e} ({:?})", e.kind()));
        }
    }
    drop(stop);
    // A process that has ended is gone; its tasks are only told to end, and one in the middle of a step goes on for as
    // long as its thread is kept waiting: it would be a process beside the next one by then.
    while Arc::strong_count(&status) > 1 {
        tokio::task::yield_now().await;
    }
}
