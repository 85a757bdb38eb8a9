//! Logs that are begun anew, and what the targets know when that happens more than once, or when a target comes back
//! from a backup afterwards. Over the in-memory twins; no faults in the middle of statements (those are in `engine`).
//! `script` has sources whose transactions are told in every way; `servers` has two that fail over, for the histories of
//! `fail_over` and `random`.

mod fail_over;
mod random;
mod script;
mod servers;

use freshet_core::sink::PrepareMode;
use freshet_core::source::Source;
use freshet_core::{ErrorKind, LogId, TableName};
use freshet_mapping::{Mapping, Selection};
use freshet_pipeline::{Parts, Settings, SinkPart, Status, run};
use freshet_testkit::memory::database::{MemoryChange, MemoryDatabase};
use freshet_testkit::memory::log::MemoryLogStore;
use freshet_testkit::memory::sink::{MemorySink, MemoryTarget};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

const DEADLINE: Duration = Duration::from_secs(300);

fn notes() -> TableName {
    TableName::new("bank", "notes")
}

/// One source with a table without a key, one log, any number of targets.
struct House {
    db: Arc<MemoryDatabase>,
    store: MemoryLogStore,
    targets: Vec<Arc<MemoryTarget>>,
}

impl House {
    fn new(targets: usize) -> Self {
        let db = MemoryDatabase::new();
        db.create(&notes(), &["a", "b"], false, &[]);
        db.exact_views(true);
        let targets = (0..targets).map(|_| MemoryTarget::new()).collect();
        Self { db, store: MemoryLogStore::new(), targets }
    }

    /// Two targets, of which the first holds ten rows and the second five.
    async fn with_one_behind() -> Self {
        let house = Self::new(2);
        house.insert(0..5);
        house.catch_up().await;
        let behind = house.targets[1].backup();
        house.insert(5..10);
        house.catch_up().await;
        house.targets[1].restore(&behind);
        house
    }

    /// The log is gone; a process begins another one, moves both targets to it, reads nothing and dies.
    async fn lose_the_log_and_die_after_the_rebuild(&self) {
        self.store.delete();
        let before = self.log_id(1);
        self.db.fail_reads(u32::MAX);
        let (_stop, task) = self.start(false);
        wait_for("the rebuild", || self.log_id(0) != before && self.log_id(1) == self.log_id(0)).await;
        task.abort();
        let _ = task.await;
    }

    fn insert(&self, rows: std::ops::Range<i64>) {
        for n in rows {
            self.db.commit(vec![(notes(), MemoryChange::Insert(vec![Some(n), Some(n)]))]);
        }
    }

    fn parts(&self, source: Box<dyn Source>) -> Parts {
        let sink = |(n, target): (usize, &Arc<MemoryTarget>)| SinkPart {
            name: format!("target {n}"),
            sink: Box::new(MemorySink::new(target.clone())),
            mapping: Mapping::default(),
            prepare: PrepareMode::default(),
        };
        Parts {
            source,
            tables: Box::new(self.db.table_reader()),
            store: Box::new(self.store.clone()),
            sinks: self.targets.iter().enumerate().map(sink).collect(),
            selection: Arc::new(Selection::new(&["bank.*"], &[]).expect("valid")),
        }
    }

    fn start(&self, until_caught_up: bool) -> (watch::Sender<bool>, tokio::task::JoinHandle<()>) {
        let parts = self.parts(Box::new(self.db.source()));
        let (stop, stopped) = watch::channel(false);
        let settings = Settings { until_caught_up, ..Settings::default() };
        let task = tokio::spawn(async move {
            run(parts, settings, Arc::new(Status::default()), stopped).await.expect("runs");
        });
        (stop, task)
    }

    async fn catch_up(&self) {
        let (_stop, task) = self.start(true);
        tokio::time::timeout(DEADLINE, task).await.expect("in time").expect("no panic");
    }

    fn log_id(&self, target: usize) -> LogId {
        self.targets[target].checkpoint().expect("a checkpoint").log_id
    }

    fn assert_equal(&self) {
        for (n, target) in self.targets.iter().enumerate() {
            let (have, expect) =
                (target.rows(&notes()).len(), self.db.rows_at(&notes(), self.db.len()).len());
            assert_eq!(have, expect, "rows of target {n}");
        }
    }
}

async fn wait_for(what: &str, seen: impl Fn() -> bool) {
    let waited = tokio::time::timeout(DEADLINE, async {
        while !seen() {
            tokio::task::yield_now().await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("{what} took too long"));
}

/// T10: a target comes back from a backup that was made at the very checkpoint that the log's header inherited, after
/// the log was trimmed past it.
#[tokio::test(flavor = "multi_thread")]
async fn t10_a_target_restored_to_an_inherited_checkpoint_after_a_trim_loses_nothing() {
    let house = House::new(1);
    house.insert(0..5);
    house.catch_up().await;
    let backup = house.targets[0].backup();
    let before = house.log_id(0);
    house.store.delete();
    let (stop, task) = house.start(false);
    wait_for("the rebuild", || house.log_id(0) != before).await;
    house.insert(5..15);
    let all = || house.targets[0].rows(&notes()).len() == 15 && house.store.records() == 0;
    wait_for("applying and trimming", all).await;
    stop.send_replace(true);
    task.await.expect("ends");
    house.targets[0].restore(&backup);
    house.catch_up().await;
    house.assert_equal();
}

/// P13: two targets at different places, a rebuild, and the log is lost again before the one that was ahead is past
/// what it had.
#[tokio::test(flavor = "multi_thread")]
async fn p13_a_log_lost_twice_doubles_nothing_on_a_target_that_was_ahead() {
    let house = House::with_one_behind().await;
    for _ in 0..2 {
        house.lose_the_log_and_die_after_the_rebuild().await;
    }
    house.db.fail_reads(0);
    house.catch_up().await;
    house.assert_equal();
}

/// A target that was ahead is caught up when its place on the new log is there as well: until then it holds the log, and
/// at the log's bound the others would wait for it for ever.
#[tokio::test(start_paused = true)]
async fn o3_a_target_that_was_ahead_does_not_hold_the_log_when_it_is_caught_up() {
    let house = House::with_one_behind().await;
    house.store.delete();
    // The source's tip is known before anything is read.
    house.db.fail_reads(6);
    house.catch_up().await;
    let places: Vec<_> =
        house.targets.iter().map(|t| t.checkpoint().expect("a checkpoint").mark.next).collect();
    assert_eq!(places[0], places[1]);
    house.assert_equal();
}

/// P13: the same, without a second loss of the log: the first process dies after both targets followed the new log.
#[tokio::test(flavor = "multi_thread")]
async fn p13_a_process_that_dies_after_a_rebuild_doubles_nothing() {
    let house = House::with_one_behind().await;
    house.lose_the_log_and_die_after_the_rebuild().await;
    house.db.fail_reads(0);
    house.catch_up().await;
    house.assert_equal();
}

/// P22: the source fails over to a server that lacks what one target has, while that target is to skip it in a rebuilt
/// log. The log itself is still within the source's history.
#[tokio::test(flavor = "multi_thread")]
async fn p22_a_source_that_loses_what_a_skipping_target_holds_stops_by_name() {
    let house = House::with_one_behind().await;
    house.lose_the_log_and_die_after_the_rebuild().await;
    house.db.lose(3);
    house.db.fail_reads(0);
    let (_stop, stopped) = watch::channel(false);
    let settings = Settings { until_caught_up: true, ..Settings::default() };
    let parts = house.parts(Box::new(house.db.source()));
    let ended = tokio::time::timeout(DEADLINE, run(parts, settings, Arc::default(), stopped)).await;
    let error = ended.expect("in time").expect_err("a target holds what the source does not");
    assert_eq!(*error.kind(), ErrorKind::Resync, "{error}");
}

/// P22: the same without a process dying in between: the connection is lost and another server answers.
#[tokio::test(flavor = "multi_thread")]
async fn p22_a_fail_over_while_a_target_skips_stops_by_name() {
    let house = House::with_one_behind().await;
    house.store.delete();
    let before = house.log_id(1);
    house.db.fail_reads(u32::MAX);
    let (_stop, stopped) = watch::channel(false);
    let parts = house.parts(Box::new(house.db.source()));
    let task = tokio::spawn(run(parts, Settings::default(), Arc::default(), stopped));
    wait_for("the rebuild", || house.log_id(0) != before && house.log_id(1) == house.log_id(0)).await;
    house.db.lose(3);
    house.db.fail_reads(0);
    let error = tokio::time::timeout(DEADLINE, task).await.expect("in time").expect("no panic");
    assert_eq!(*error.expect_err("a target holds what the source does not").kind(), ErrorKind::Resync);
}
