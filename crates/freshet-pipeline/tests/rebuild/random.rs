//! Random histories of two servers that replicate from each other, one to three targets, and whatever fails: processes
//! that die, connections that are lost, logs that are lost or come back from a copy, targets that come back from a
//! backup, fail-overs. No row is lost or doubled, and no pipeline stops, since no history needs it.
//!
//! In virtual time. `FRESHET_SEED` repeats one; `FRESHET_HISTORIES` asks for more of each kind.

use crate::House;
use crate::servers::{Kind, Servers, pass};
use freshet_core::ErrorKind;
use freshet_testkit::memory::log::MemoryLogCopy;
use freshet_testkit::memory::sink::{Backup, Fault};
use freshet_testkit::servers::seed;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::time::Duration;

/// Of each kind, unless more are asked for.
const HISTORIES: u64 = 12;

/// How a history went wrong, or the end of one that did not.
type Outcome = Result<(), String>;

const FAULTS: [Fault; 6] = [
    Fault::BeforeApply,
    Fault::CommitLost,
    Fault::CommitAnswerLost,
    Fault::Bulk,
    Fault::ControlLost,
    Fault::ControlAnswerLost,
];

struct History {
    rng: StdRng,
    house: House,
    servers: Servers,
    fails_over: bool,
    log_copy: MemoryLogCopy,
    backups: Vec<Backup>,
    /// What happened, for whoever reads a failure.
    trace: Vec<String>,
}

impl History {
    fn new(kind: Kind, fails_over: bool, seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let (house, servers) = (House::new(rng.random_range(1..4)), Servers::new(kind));
        let mut state = servers.lock();
        state.batch_rows = [i64::MAX, 1, 2, 3, 7][rng.random_range(0..5)];
        (state.slow, state.lasts_only) = (rng.random(), rng.random());
        // From before the pipeline's first position: nobody may need to know of them.
        for _ in 0..rng.random_range(0..12) {
            state.write_any(false, &mut rng);
        }
        drop(state);
        let log_copy = house.store.copy();
        Self { rng, house, servers, fails_over, log_copy, backups: vec![], trace: vec![] }
    }

    async fn run(&mut self) -> Outcome {
        self.catch_up().await?;
        self.backups = self.house.targets.iter().map(|target| target.backup()).collect();
        for _ in 0..self.rng.random_range(4..14) {
            self.follow().await?;
            self.lose();
        }
        self.servers.lock().fails = 0;
        for _ in 0..3 {
            self.servers.lock().write_any(true, &mut self.rng);
        }
        self.catch_up().await?;
        self.servers.check_rows(&self.house, true)
    }

    /// To the tip of now, whatever it takes.
    async fn catch_up(&mut self) -> Outcome {
        let (_stop, task) = self.house.stream(&self.servers, true);
        let ended = tokio::time::timeout(Duration::from_secs(900), task).await;
        let ended = ended.map_err(|_| "HANGS while it catches up")?.map_err(|e| format!("PANIC: {e}"))?;
        ended.map_err(|e| format!("STOPPED: {e}"))
    }

    /// One process, and what happens while it runs.
    async fn follow(&mut self) -> Outcome {
        for target in &self.house.targets {
            for _ in 0..self.rng.random_range(0..3) {
                target.inject(FAULTS[self.rng.random_range(0..FAULTS.len())]);
            }
        }
        let (stop, task) = self.house.stream(&self.servers, false);
        let mut restored = false;
        for _ in 0..self.rng.random_range(0..10) {
            restored |= self.happen();
            pass([0, 1, 10, 60, 300, 1500][self.rng.random_range(0..6)]).await;
        }
        self.servers.lock().blocked = false;
        let dies: bool = self.rng.random();
        self.trace.push(if dies { "dies" } else { "stops" }.into());
        if dies && !task.is_finished() {
            task.abort();
            let _ = task.await;
            return self.servers.check_rows(&self.house, false);
        }
        stop.send_replace(true);
        let ended = tokio::time::timeout(Duration::from_secs(900), task).await;
        match ended.map_err(|_| "HANGS at a stop")?.map_err(|e| format!("PANIC: {e}"))? {
            // A target that came back from another log is for the next process.
            Err(e) if restored && matches!(e.kind(), ErrorKind::Resync | ErrorKind::Fenced) => {}
            Err(e) => return Err(format!("STOPPED: {e}")),
            Ok(()) => {}
        }
        self.servers.check_rows(&self.house, false)
    }

    /// Something happens to the running process; whether a target was restored under it.
    fn happen(&mut self) -> bool {
        let (rng, mut state) = (&mut self.rng, self.servers.lock());
        match rng.random_range(0..12) {
            0 => state.fails = rng.random_range(1..4),
            1 if self.fails_over => {
                state.fail_over(rng);
                self.trace.push("fails over".into());
            }
            2 => state.blocked = rng.random(),
            3 if rng.random_range(0..3) == 0 => {
                let one = rng.random_range(0..self.backups.len());
                self.house.targets[one].restore(&self.backups[one]);
                self.trace.push(format!("restores {one} while it runs"));
                return true;
            }
            _ => {
                state.write_any(true, rng);
                self.trace.push(format!("writes {}", state.newest()));
            }
        }
        false
    }

    /// Something is lost, or kept for later, between two processes.
    fn lose(&mut self) {
        for target in &self.house.targets {
            let at = target.checkpoint().map(|c| format!("{} {}", c.mark.next, c.mark.position));
            self.trace.push(format!("  at {}", at.unwrap_or_default()));
        }
        let one = self.rng.random_range(0..self.house.targets.len());
        let what = match self.rng.random_range(0..8) {
            0 | 1 => {
                self.house.store.delete();
                "loses the log"
            }
            2 => {
                self.house.store.restore(&self.log_copy);
                "restores the log"
            }
            3 | 4 => {
                self.house.targets[one].restore(&self.backups[one]);
                "restores a target"
            }
            5 => {
                self.log_copy = self.house.store.copy();
                "copies the log"
            }
            6 => {
                self.backups[one] = self.house.targets[one].backup();
                "backs a target up"
            }
            _ => return,
        };
        self.trace.push(format!("{what} ({one})"));
    }
}

async fn histories(kind: Kind, fails_over: bool) {
    let asked = std::env::var("FRESHET_HISTORIES").ok().and_then(|text| text.parse().ok());
    let (base, count) = (seed(), asked.unwrap_or(HISTORIES));
    let mut failures = Vec::new();
    for seed in (0..count).map(|n| base.wrapping_add(n)) {
        let mut history = History::new(kind, fails_over, seed);
        if let Err(what) = history.run().await {
            let shown = if asked.is_some() { what.lines().next().unwrap_or_default() } else { "" };
            println!("{kind:?} seed {seed}: {shown}");
            failures.push(format!("{kind:?} seed {seed}: {what}\n{}", history.trace.join("\n")));
        }
    }
    println!("{kind:?}, fail-overs {fails_over}: {count} histories, {} failed", failures.len());
    let shortest = failures.iter().min_by_key(|failure| failure.len());
    assert!(failures.is_empty(), "{} failed, the shortest is {}", failures.len(), shortest.expect("one"));
}

#[tokio::test(start_paused = true)]
async fn p13_random_histories_of_mysql() {
    histories(Kind::Mysql, true).await;
}

#[tokio::test(start_paused = true)]
async fn p13_random_histories_without_gtids() {
    histories(Kind::Places, false).await;
}

#[tokio::test(start_paused = true)]
async fn p19_random_histories_of_mariadb() {
    histories(Kind::Mariadb, true).await;
}

#[tokio::test(start_paused = true)]
async fn p19_random_histories_of_two_writers_on_one_server() {
    histories(Kind::Zigzag, false).await;
}

#[tokio::test(start_paused = true)]
async fn p19_random_histories_of_two_writers_and_fail_overs() {
    histories(Kind::Zigzag, true).await;
}
