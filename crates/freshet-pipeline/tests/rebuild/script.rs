//! A source that hands out a script of transactions, each under a name and at a place of its choice, and what sinks at
//! different places make of it when the log is begun anew (P13, P19, T10). It checks nothing of a history: that is
//! each real source's own.

use crate::{House, notes, wait_for};
use async_trait::async_trait;
use freshet_core::codec::BatchBuilder;
use freshet_core::gtid::MysqlSource;
use freshet_core::position::{CommitPlace, FilePos, Lsn, TxnId};
use freshet_core::source::{ReadOutcome, Source};
use freshet_core::table::TableReader;
use freshet_core::{ErrorKind, Position, Result};
use freshet_mapping::Selection;
use freshet_pipeline::{Mode, Settings, run};
use freshet_testkit::memory::database::MemoryDatabase;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::sync::watch;

/// A transaction of the script; its rows come one by one.
#[derive(Clone)]
struct Txn {
    id: TxnId,
    server: &'static str,
    place: CommitPlace,
    rows: i64,
}

/// The transaction that ends at the n-th place (from 1) of a server's binlog.
fn binlog(id: TxnId, server: &'static str, n: u64) -> Txn {
    let place = CommitPlace::Binlog(FilePos { file: format!("{server}.000001"), pos: 100 * n });
    Txn { id, server, place, rows: 1 }
}

struct Script {
    db: Arc<MemoryDatabase>,
    txns: Vec<Txn>,
    /// Where it begins.
    start: Position,
    /// Rows of a batch.
    batch_rows: i64,
    visible: AtomicUsize,
    blocked: AtomicBool,
    tips: AtomicUsize,
    changed: tokio::sync::Notify,
}

impl Script {
    fn new(house: &House, start: &str, txns: Vec<Txn>) -> Arc<Self> {
        Arc::new(Self {
            db: house.db.clone(),
            txns,
            start: start.parse().expect("a position"),
            batch_rows: i64::MAX,
            visible: AtomicUsize::new(0),
            blocked: AtomicBool::new(false),
            tips: AtomicUsize::new(0),
            changed: tokio::sync::Notify::new(),
        })
    }

    /// The position after the first `n` transactions.
    fn position(&self, n: usize) -> Position {
        let mut position = self.start.clone();
        for txn in &self.txns[..n] {
            match (&mut position, &txn.place) {
                (Position::Binlog(p), CommitPlace::Binlog(file)) => {
                    p.gtids.add(&txn.id);
                    (p.server, p.file) = (txn.server.into(), file.clone());
                }
                (Position::Wal(p), CommitPlace::Wal(lsn)) => p.lsn = *lsn,
                _ => panic!("a script of one kind"),
            }
        }
        position
    }

    fn show(&self, n: usize) {
        self.visible.store(n, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    fn block(&self, blocked: bool) {
        self.blocked.store(blocked, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    fn tip(&self) -> Position {
        self.position(self.visible.load(Ordering::SeqCst))
    }

    fn rows(&self) -> usize {
        self.txns[..self.visible.load(Ordering::SeqCst)].iter().map(|txn| txn.rows as usize).sum()
    }
}

struct ScriptSource {
    script: Arc<Script>,
    at: usize,
    row: i64,
    announced: bool,
}

#[async_trait]
impl Source for ScriptSource {
    async fn begin(&mut self) -> Result<Position> {
        Ok(self.script.tip())
    }

    /// After the transactions that `start` covers: all those before the first that it does not hold.
    async fn open(&mut self, start: &Position, _held: &[Position]) -> Result<()> {
        let script = &self.script;
        let is_read = |n: &usize| {
            let (txn, before) = (&script.txns[*n], script.position(*n));
            start.holds(&txn.id, &txn.place, txn.server, &before) == Some(true)
        };
        self.at = (0..script.txns.len()).take_while(is_read).count();
        (self.row, self.announced) = (0, false);
        Ok(())
    }

    async fn read(&mut self, batch: &mut BatchBuilder) -> Result<ReadOutcome> {
        let script = self.script.clone();
        loop {
            let changed = script.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.at < script.visible.load(Ordering::SeqCst) && !script.blocked.load(Ordering::SeqCst) {
                break;
            }
            changed.await;
        }
        let selection = Selection::new(&["bank.*"], &[]).expect("valid");
        let schema = script.db.table_reader().tables(&selection).await?[0].schema.clone();
        // Like a real source: a batch is handed out when it is full, inside of a transaction or not.
        let mut room = script.batch_rows;
        while self.at < script.visible.load(Ordering::SeqCst) {
            let txn = &script.txns[self.at];
            if self.row == 0 {
                batch.begin(&txn.id, 0);
            }
            if !std::mem::replace(&mut self.announced, true) {
                batch.schema(&schema);
            }
            let end = self.row.saturating_add(room).min(txn.rows);
            for row in self.row..end {
                let mut writer = batch.insert(&schema);
                assert!(writer.int(self.at as i64) && writer.int(row));
                writer.finish();
            }
            room -= end - self.row;
            self.row = end;
            if self.row < txn.rows {
                return Ok(ReadOutcome::Partial);
            }
            batch.commit(txn.server, &txn.place, self.at as i64);
            (self.at, self.row) = (self.at + 1, 0);
            if room == 0 {
                break;
            }
        }
        Ok(ReadOutcome::Commit { position: script.position(self.at) })
    }

    async fn acknowledge(&mut self, _position: &Position) -> Result<()> {
        Ok(())
    }

    async fn tip(&mut self) -> Result<Position> {
        self.script.tips.fetch_add(1, Ordering::SeqCst);
        Ok(self.script.tip())
    }

    fn distance_bytes(&self, _from: &Position, _to: &Position) -> Option<u64> {
        None
    }
}

type Running = (watch::Sender<bool>, tokio::task::JoinHandle<Result<()>>);

impl House {
    fn follow(&self, script: &Arc<Script>, until_caught_up: bool) -> Running {
        let source = ScriptSource { script: script.clone(), at: 0, row: 0, announced: false };
        let (stop, stopped) = watch::channel(false);
        let settings = Settings { mode: Mode::Stream, until_caught_up, ..Settings::default() };
        (stop, tokio::spawn(run(self.parts(Box::new(source)), settings, Arc::default(), stopped)))
    }

    /// Until both targets stand at the source's tip, or the pipeline has ended by itself.
    async fn follow_to_tip(&self, script: &Arc<Script>) -> Result<()> {
        let (stop, task) = self.follow(script, false);
        let at_tip = || {
            let is_there = |target: &Arc<freshet_testkit::memory::sink::MemoryTarget>| {
                target.checkpoint().is_some_and(|c| c.mark.position.covers(&script.tip()))
            };
            self.targets.iter().all(is_there) && self.one_mark()
        };
        wait_for("following", || task.is_finished() || at_tip()).await;
        stop.send_replace(true);
        task.await.expect("no panic")
    }

    fn one_mark(&self) -> bool {
        let nexts: Vec<_> = self.targets.iter().filter_map(|t| t.checkpoint()).map(|c| c.mark.next).collect();
        nexts.windows(2).all(|pair| pair[0] == pair[1])
    }

    /// The first target after `ahead` transactions, the others after `behind`, and no log.
    async fn apart(&self, script: &Arc<Script>, behind: usize, ahead: usize) {
        self.follow_to_tip(script).await.expect("begins");
        script.show(behind);
        self.follow_to_tip(script).await.expect("follows");
        let backups: Vec<_> = self.targets[1..].iter().map(|target| target.backup()).collect();
        script.show(ahead);
        self.follow_to_tip(script).await.expect("follows");
        for (target, backup) in self.targets[1..].iter().zip(&backups) {
            target.restore(backup);
        }
        self.store.delete();
    }

    fn assert_rows(&self, script: &Script) {
        for (n, target) in self.targets.iter().enumerate() {
            assert_eq!(target.rows(&notes()).len(), script.rows(), "rows of target {n}");
        }
    }
}

const UUID: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

fn anonymous(n: u64) -> Txn {
    binlog(TxnId::Anonymous, "s", n)
}

fn mariadb(server: u32, sequence: u64) -> TxnId {
    TxnId::Mariadb { domain: 0, server, sequence }
}

fn mysql(gno: u64) -> TxnId {
    TxnId::Mysql { source: MysqlSource { uuid: UUID.parse().expect("valid"), tag: String::new() }, gno }
}

fn wal(n: u64) -> Txn {
    Txn { id: TxnId::Postgres { xid: n as u32 }, server: "", place: CommitPlace::Wal(Lsn(100 * n)), rows: 1 }
}

const PLACES: &str = "binlog;s;s.000001;4;places;";

/// P13, P19: two sinks at different places and a log that is gone, for each way in which transactions are told; whole
/// and in parts.
#[tokio::test(flavor = "multi_thread")]
async fn p13_sinks_at_different_places_hold_every_transaction_once() {
    let backwards = |n: u64| mariadb(1, if n <= 10 { 100 + n } else { 30 + n });
    // What the first sink holds ran ahead and back: its set names a sequence below one that it has.
    let zigzag =
        |n: u64| mariadb(1, [100, 101, 102, 103, 200, 106, 107, 108, 109, 110, 111, 112][n as usize - 1]);
    for (what, start, txns) in [
        ("without GTIDs", PLACES, (1..13).map(anonymous).collect::<Vec<_>>()),
        ("MySQL", "binlog;s;s.000001;4;mysql;", (1..13).map(|n| binlog(mysql(n), "s", n)).collect()),
        ("MariaDB", "binlog;s;s.000001;4;mariadb;", (1..13).map(|n| binlog(mariadb(1, n), "s", n)).collect()),
        (
            "a domain that runs backwards",
            "binlog;s;s.000001;4;mariadb;",
            (1..13).map(|n| binlog(backwards(n), "s", n)).collect(),
        ),
        (
            "a domain that zigzags",
            "binlog;s;s.000001;4;mariadb;",
            (1..13).map(|n| binlog(zigzag(n), "s", n)).collect(),
        ),
        ("PostgreSQL", "wal;1;1;4", (1..13).map(wal).collect()),
    ] {
        for (batch_rows, rows) in [(i64::MAX, 1), (1, 4), (3, 4), (7, 4)] {
            let house = House::new(3);
            let txns = txns.iter().map(|txn| Txn { rows, ..txn.clone() }).collect();
            let mut script = Script::new(&house, start, txns);
            Arc::get_mut(&mut script).expect("one owner").batch_rows = batch_rows;
            house.apart(&script, 4, 9).await;
            script.show(12);
            house.follow_to_tip(&script).await.unwrap_or_else(|e| panic!("{what}: {e}"));
            house.assert_rows(&script);
        }
    }
}

/// P19: after a fail-over a MariaDB transaction is told by the sequence of its server, and where that runs backwards by
/// nothing.
#[tokio::test(flavor = "multi_thread")]
async fn p19_a_server_that_runs_backwards_on_another_one_is_a_resync() {
    let script_of = |house: &House, server, sequences: &[u64]| {
        let places = sequences.iter().zip(1..).map(|(sequence, n)| binlog(mariadb(1, *sequence), server, n));
        Script::new(house, &format!("binlog;{server};{server}.000001;4;mariadb;"), places.collect())
    };
    let before: Vec<u64> = (1..11).collect();
    for (after, can_tell) in [
        (&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12][..], true),
        (&[1, 2, 3, 4, 5, 6, 7, 3, 8, 9, 10, 11], false),
        (&[1, 2, 3, 4, 5, 6, 7, 6, 8, 9, 10, 11], false),
        // Behind what the sink holds nothing is told any more, so nothing needs to be.
        (&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 3], true),
    ] {
        let house = House::new(2);
        house.apart(&script_of(&house, "s", &before), 5, 10).await;
        let script = script_of(&house, "t", after);
        script.show(11);
        let ended = match house.follow_to_tip(&script).await {
            Ok(()) => {
                script.show(12);
                house.follow_to_tip(&script).await
            }
            failed => failed,
        };
        match can_tell {
            true => {
                ended.expect("follows");
                house.assert_rows(&script);
            }
            false => assert_eq!(*ended.expect_err("nobody can tell").kind(), ErrorKind::Resync),
        }
    }
}

/// P13: caught up without GTIDs is where the place is reached.
#[tokio::test(flavor = "multi_thread")]
async fn p13_until_caught_up_waits_for_transactions_without_gtids() {
    let house = House::new(1);
    let script = Script::new(&house, PLACES, (1..6).map(anonymous).collect());
    house.follow_to_tip(&script).await.expect("begins");
    script.show(5);
    script.block(true);
    let before = script.tips.load(Ordering::SeqCst);
    let (_stop, task) = house.follow(&script, true);
    wait_for("the goal", || task.is_finished() || script.tips.load(Ordering::SeqCst) > before + 1).await;
    script.block(false);
    task.await.expect("no panic").expect("runs");
    house.assert_rows(&script);
}

/// T10: a target restored to the checkpoint that the log's header inherited, after a trim: whether the log still has
/// what it lacks is told by place where there are no GTIDs, and where a domain runs backwards.
#[tokio::test(flavor = "multi_thread")]
async fn t10_a_target_restored_to_an_inherited_checkpoint_loses_nothing() {
    let backwards = |n: u64| binlog(mariadb(1, if n <= 5 { 100 + n } else { 40 + n }), "s", n);
    for (start, txns) in [
        (PLACES, (1..11).map(anonymous).collect::<Vec<_>>()),
        ("binlog;s;s.000001;4;mariadb;", (1..11).map(backwards).collect()),
    ] {
        let house = House::new(1);
        let script = Script::new(&house, start, txns);
        house.follow_to_tip(&script).await.expect("begins");
        script.show(5);
        house.follow_to_tip(&script).await.expect("follows");
        let (backup, before) = (house.targets[0].backup(), house.log_id(0));
        house.store.delete();
        let (stop, task) = house.follow(&script, false);
        wait_for("the rebuild", || house.log_id(0) != before).await;
        script.show(10);
        let all = || house.targets[0].rows(&notes()).len() == 10 && house.store.records() == 0;
        wait_for("applying and trimming", all).await;
        stop.send_replace(true);
        task.await.expect("no panic").expect("runs");
        house.targets[0].restore(&backup);
        house.follow_to_tip(&script).await.expect("rebuilds");
        house.assert_rows(&script);
    }
}
