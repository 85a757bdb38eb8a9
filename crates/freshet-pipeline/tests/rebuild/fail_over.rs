//! What the engine makes of a source that changes under it while logs and targets are lost: each test is a history in
//! which a sequence, a place or a bound says something else than it seems to. In virtual time.

use crate::servers::{Kind, Running, Servers, ServersSource, pass, pass_until};
use crate::{House, notes};
use freshet_core::source::Selects;
use freshet_core::table::{TableInfo, TableReader, View};
use freshet_core::{ErrorKind, Result};
use freshet_pipeline::{Mode, Settings, run};
use freshet_testkit::memory::database::MemoryTableReader;
use freshet_testkit::memory::sink::Fault;
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

fn fail_over(servers: &Servers) {
    servers.lock().fail_over(&mut StdRng::seed_from_u64(1));
}

/// One transaction after the other, so that a run ends where it may and no later.
fn one_by_one(servers: &Servers) {
    let mut state = servers.lock();
    (state.batch_rows, state.slow) = (1, true);
}

async fn ended(running: Running) -> Result<()> {
    let ended = tokio::time::timeout(Duration::from_secs(900), running.1).await;
    ended.expect("it hangs").expect("no panic")
}

async fn follow(house: &House, servers: &Servers) {
    ended(house.stream(servers, true)).await.expect("follows");
}

/// Two targets, of which the second comes back from `0-1-5`; the first went on over what server 2 wrote in between.
async fn one_behind_a_zigzag(house: &House, servers: &Servers) {
    servers.write(1, 1..=5);
    follow(house, servers).await;
    let behind = house.targets[1].backup();
    servers.write(2, [20, 21]);
    servers.write(1, 6..=8);
    follow(house, servers).await;
    house.targets[1].restore(&behind);
    house.store.delete();
}

/// P19: `0-2-20` is above what the first target had, and no sign that the log has passed it.
#[tokio::test(start_paused = true)]
async fn p19_two_writers_of_a_domain_and_a_fail_over_double_nothing() {
    for lasts_only in [false, true] {
        let (house, servers) = (House::new(2), Servers::new(Kind::Zigzag));
        servers.lock().lasts_only = lasts_only;
        follow(&house, &servers).await;
        one_behind_a_zigzag(&house, &servers).await;
        one_by_one(&servers);
        fail_over(&servers);
        follow(&house, &servers).await;
        servers.check_rows(&house, true).expect("every row once");
    }
}

/// P19: the same on one server, where the log begins at a place of the other and so has none.
#[tokio::test(start_paused = true)]
async fn p19_positions_without_a_place_on_one_server_double_nothing() {
    let (house, servers) = (House::new(2), Servers::new(Kind::Zigzag));
    fail_over(&servers);
    follow(&house, &servers).await;
    servers.write(1, 1..=5);
    follow(&house, &servers).await;
    let behind = house.targets[1].backup();
    fail_over(&servers);
    servers.write(2, [20, 21]);
    servers.write(1, 6..=8);
    follow(&house, &servers).await;
    house.targets[1].restore(&behind);
    house.store.delete();
    one_by_one(&servers);
    follow(&house, &servers).await;
    servers.check_rows(&house, true).expect("every row once");
}

/// P19: the smaller sequence is the later place.
#[tokio::test(start_paused = true)]
async fn p19_a_rebuild_after_a_fail_over_begins_at_the_earlier_place() {
    let (house, servers) = (House::new(2), Servers::new(Kind::Zigzag));
    follow(&house, &servers).await;
    servers.write(1, 1..=10);
    follow(&house, &servers).await;
    let behind = house.targets[1].backup();
    fail_over(&servers);
    servers.write(2, [5, 6]);
    follow(&house, &servers).await;
    house.targets[1].restore(&behind);
    house.store.delete();
    servers.write(2, [7, 8]);
    follow(&house, &servers).await;
    servers.check_rows(&house, true).expect("every row once");
}

/// P13: the log is lost again while the first target is in the middle of what it skips.
#[tokio::test(start_paused = true)]
async fn p13_a_log_lost_while_a_target_skips_doubles_nothing() {
    let (house, servers) = (House::new(2), Servers::new(Kind::Mariadb));
    follow(&house, &servers).await;
    let behind = house.targets[1].backup();
    servers.write(1, 1..=9);
    follow(&house, &servers).await;
    house.targets[1].restore(&behind);
    house.store.delete();
    one_by_one(&servers);
    let (_stop, task) = house.stream(&servers, false);
    let in_the_middle = || {
        let is_there = |n: usize| house.targets[n].checkpoint().is_some_and(|c| c.mark.next.0 == 4);
        is_there(0) && is_there(1)
    };
    pass_until("four records", in_the_middle).await;
    task.abort();
    let _ = task.await;
    house.store.delete();
    follow(&house, &servers).await;
    servers.check_rows(&house, true).expect("every row once");
}

/// T10: a target comes back from the checkpoint that the log inherited; the log was trimmed past it, to a smaller
/// sequence of the next server.
#[tokio::test(start_paused = true)]
async fn t10_a_trim_after_a_fail_over_is_told_from_what_a_target_has() {
    let (house, servers) = (House::new(1), Servers::new(Kind::Zigzag));
    follow(&house, &servers).await;
    servers.write(1, 1..=10);
    follow(&house, &servers).await;
    let (backup, before) = (house.targets[0].backup(), house.log_id(0));
    house.store.delete();
    fail_over(&servers);
    let (stop, task) = house.stream(&servers, false);
    pass_until("the rebuild", || house.log_id(0) != before).await;
    servers.write(2, 5..=7);
    let all = || house.targets[0].rows(&notes()).len() == 13 && house.store.records() == 0;
    pass_until("applying and trimming", all).await;
    stop.send_replace(true);
    ended((stop, task)).await.expect("stops");
    house.targets[0].restore(&backup);
    servers.write(2, [8]);
    follow(&house, &servers).await;
    servers.check_rows(&house, true).expect("every row once");
}

/// P19: a sequence above the goal's is not past it; nothing would be lost, but the run would end too early.
#[tokio::test(start_paused = true)]
async fn p19_until_caught_up_without_a_place_applies_everything() {
    for lasts_only in [false, true] {
        let (house, servers) = (House::new(1), Servers::new(Kind::Zigzag));
        servers.lock().lasts_only = lasts_only;
        fail_over(&servers);
        follow(&house, &servers).await;
        servers.write(1, 1..=5);
        follow(&house, &servers).await;
        fail_over(&servers);
        servers.write(2, 20..60);
        servers.write(1, [6]);
        one_by_one(&servers);
        follow(&house, &servers).await;
        servers.check_rows(&house, true).expect("every row once");
    }
}

fn load(house: &House) -> Running {
    let (stop, stopped) = watch::channel(false);
    let parts = house.parts(Box::new(house.db.source()));
    (stop, tokio::spawn(run(parts, Settings::default(), Arc::default(), stopped)))
}

/// P22: what a load read is held as well, whether the process goes on or another one does. The log stands still at 5
/// rows; the load loses a chunk, and takes it again with 10.
#[tokio::test(start_paused = true)]
async fn p22_a_source_that_loses_what_a_load_read_stops_by_name() {
    for dies in [false, true] {
        let house = House::new(1);
        house.insert(0..5);
        house.db.fail_reads(u32::MAX);
        house.targets[0].inject(Fault::ChunkLost);
        let (stop, task) = load(&house);
        pass_until("the beginning", || house.targets[0].checkpoint().is_some()).await;
        house.insert(5..10);
        pass_until("the load", || house.targets[0].rows(&notes()).len() == 10).await;
        if dies {
            task.abort();
        }
        house.db.lose(3);
        house.db.fail_reads(0);
        let running = if dies { load(&house) } else { (stop, task) };
        let error = ended(running).await.expect_err("the load read what the source does not have");
        assert_eq!(*error.kind(), ErrorKind::Resync, "{error}");
    }
}

/// A table reader that names other bounds than its own, and may be slow to say which tables there are.
struct Renamed {
    inner: MemoryTableReader,
    bound: &'static str,
    slow_ms: u64,
}

#[async_trait::async_trait]
impl TableReader for Renamed {
    async fn tables(&mut self, selection: &dyn Selects) -> Result<Vec<TableInfo>> {
        pass(self.slow_ms).await;
        self.inner.tables(selection).await
    }

    fn views_are_exact(&self) -> bool {
        self.inner.views_are_exact()
    }

    async fn view(&mut self, selection: &dyn Selects, readers: usize) -> Result<View> {
        let view = self.inner.view(selection, readers).await?;
        let bound: freshet_core::Position = self.bound.parse().expect("a position");
        Ok(View { low: bound.clone(), high: bound, ..view })
    }
}

/// P13: GTIDs are switched on between two tries of a load. Its bounds are places, those of now would be sets.
#[tokio::test(start_paused = true)]
async fn p13_gtids_switched_on_during_a_load_stop_it_by_name() {
    let (house, servers) = (House::new(1), Servers::new(Kind::Places));
    house.insert(0..5);
    let load = |bound| {
        let mut parts = house.parts(Box::new(ServersSource::new(&house, &servers)));
        parts.tables = Box::new(Renamed { inner: house.db.table_reader(), bound, slow_ms: 0 });
        let (stop, stopped) = watch::channel(false);
        (stop, tokio::spawn(run(parts, Settings::default(), Arc::default(), stopped)))
    };
    house.targets[0].inject(Fault::ChunkLost);
    let (_stop, first) = load("binlog;s;s.000001;4;places;");
    pass_until("the beginning", || house.targets[0].checkpoint().is_some()).await;
    first.abort();
    let _ = first.await;
    assert!(house.targets[0].rows(&notes()).is_empty(), "not loaded yet");
    let named = load("binlog;s;s.000001;4;mysql;3e11fa47-71ca-11e1-9e33-c80aa9429562:1-7");
    let error = ended(named).await.expect_err("bounds of two kinds");
    assert_eq!((error.kind(), error.hint().is_some()), (&ErrorKind::Resync, true), "{error}");
}

/// T10: a target restored while the process runs: between its take-over and its first report the log is not trimmed by
/// what it had before.
#[tokio::test(start_paused = true)]
async fn t10_nothing_is_trimmed_behind_a_sink_that_was_taken_over() {
    let (house, servers) = (House::new(1), Servers::new(Kind::Mariadb));
    let mut parts = house.parts(Box::new(ServersSource::new(&house, &servers)));
    parts.tables = Box::new(Renamed { inner: house.db.table_reader(), bound: "", slow_ms: 2500 });
    let (stop, stopped) = watch::channel(false);
    let settings = Settings { mode: Mode::Stream, ..Settings::default() };
    let task = tokio::spawn(run(parts, settings, Arc::default(), stopped));
    pass(5100).await;
    servers.write(1, [1]);
    pass_until("the first row", || house.targets[0].rows(&notes()).len() == 1).await;
    let backup = house.targets[0].backup();
    servers.write(1, [2, 3]);
    pass_until("three rows", || house.targets[0].rows(&notes()).len() == 3).await;
    house.targets[0].restore(&backup);
    house.targets[0].inject(Fault::BeforeApply);
    servers.write(1, [4]);
    pass(9000).await;
    stop.send_replace(true);
    ended((stop, task)).await.expect("goes on");
    servers.check_rows(&house, true).expect("every row once");
}
