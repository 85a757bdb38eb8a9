//! The kill loop: SIGKILL of freshet at chosen and at random moments under write load, and of either server.
//!
//! A round is one pipeline: its load, its hand-over, its stream. A proxy before the target holds the statement or
//! the answer that a kill is aimed at, so that every phase is hit; the rest comes at random. A watcher reads the
//! target all the while and, from `consistent_since` on, must only see states that the source had. At the end of a
//! round every table is compared.
//!
//! `FRESHET_KILLS` sets the number (`cargo xtask kill`), `FRESHET_SEED` repeats the choices.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use freshet_testkit::servers::{Freshet, Hold, Proxy, poll_until, seed};
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use rand::{RngExt as _, SeedableRng as _};

use crate::ends::{Kind, Server, own_server};
use crate::kill_watch::{State, Watcher, state};
use crate::kill_writers::{TABLES, Writers, prepare};
use crate::kit::DEADLINE;
use crate::pipeline::Pipeline;

/// Kills of each phase at least.
const PHASE_KILLS_MIN: usize = 5;
/// Kills in one round.
const ROUND_KILLS: usize = 25;

/// What a kill hit, as the control schema and the proxy saw it at that moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    TakeOver,
    Load,
    HandOver,
    Stream,
    CommitInDoubt,
}

const PHASES: [Phase; 5] =
    [Phase::TakeOver, Phase::Load, Phase::HandOver, Phase::Stream, Phase::CommitInDoubt];

struct KillLoop {
    rng: StdRng,
    source: Server,
    target: Server,
    /// What of it can be held, in the words of its sink.
    words: &'static Words,
    proxy: Proxy,
    histogram: BTreeMap<Phase, usize>,
    began: Instant,
}

/// Parts of the statements that a sink sends, by what they belong to.
struct Words {
    take_over: &'static [&'static str],
    load: &'static [&'static str],
    hand_over: &'static [&'static str],
    commit: &'static [&'static str],
}

const POSTGRES_WORDS: Words = Words {
    take_over: &["epoch = epoch + 1", ".session ", "select version"],
    load: &["copy ", "load_chunk set rows", "load_chunk", "commit\0"],
    hand_over: &["create unique index", "create index", "phase = 'consistent'", "set consistent_since"],
    commit: &["commit\0"],
};

/// Its DDL commits by itself: before, while and after, of each kind of statement.
const MYSQL_WORDS: Words = Words {
    take_over: &["set epoch = ", ".session ", "select version", "is_used_lock"],
    load: &["create table `", "intent = ", "load_chunk set loaded_rows", "load_chunk", "insert into `"],
    hand_over: &["alter table `", "intent = 'index'", "phase = 'consistent'", "set consistent_since"],
    commit: &["commit; set session"],
};

/// One round's pipeline.
struct Round<'a> {
    all: &'a mut KillLoop,
    pipeline: Pipeline,
    /// A COMMIT of a killed process is still on its way.
    late_commit: bool,
}

fn kill_loop(from: Kind, to: Kind, kills_default: usize) {
    let kills = std::env::var("FRESHET_KILLS").map_or(kills_default, |text| text.parse().unwrap());
    let target = own_server(to);
    let mut all = KillLoop {
        rng: StdRng::seed_from_u64(seed()),
        source: own_server(from),
        proxy: Proxy::start(target.port()),
        words: if to == Kind::Postgres { &POSTGRES_WORDS } else { &MYSQL_WORDS },
        target,
        histogram: PHASES.into_iter().map(|phase| (phase, 0)).collect(),
        began: Instant::now(),
    };
    let mut left = kills;
    let mut number = 0;
    while left > 0 {
        number += 1;
        let round = left.min(ROUND_KILLS);
        all.round(number, round);
        left -= round;
    }
    // An aim can be missed: rounds that are short and mostly of the rare phases make up for it.
    while kills >= 2 * ROUND_KILLS && number < 2 * kills.div_ceil(ROUND_KILLS) && all.is_short_of_a_phase() {
        number += 1;
        all.round(number, ROUND_KILLS / 2);
    }
    println!(
        "{} kills from {from:?} to {to:?} in {} s:",
        all.histogram.values().sum::<usize>(),
        all.began.elapsed().as_secs()
    );
    for (phase, count) in &all.histogram {
        println!("{:>15} {count:>5} {}", format!("{phase:?}"), "#".repeat((*count).min(80)));
    }
    for (phase, count) in &all.histogram {
        assert!(kills < 2 * ROUND_KILLS || *count >= PHASE_KILLS_MIN, "{phase:?} was hit {count} times only");
    }
}

impl KillLoop {
    fn round(&mut self, number: usize, kills: usize) {
        let mut pipeline =
            Pipeline::between(self.source.clone(), self.target.clone(), &format!("kill{number}"));
        pipeline.sink_port = self.proxy.port();
        pipeline.load = "chunk_rows: 1000, readers: 2".into();
        if self.source.kind() != Kind::Postgres {
            pipeline.source_more = ", heartbeat_ms: 500".into();
        }
        pipeline.source.sql(&prepare(self.source.kind()));
        let writers = Writers::start(&pipeline.source, self.rng.random());
        let watcher = Watcher::start(&pipeline);
        let aims = self.aims(kills);
        let mut round = Round { all: self, pipeline, late_commit: false };
        for (i, aim) in aims.iter().enumerate() {
            round.kill(*aim);
            if i == aims.len() * 2 / 3 {
                round.kill_servers();
            }
        }
        round.finish(writers, watcher);
        println!("Round {number} done: {kills} kills, {} s", self.began.elapsed().as_secs());
    }

    fn is_short_of_a_phase(&self) -> bool {
        self.histogram.values().any(|count| *count < PHASE_KILLS_MIN)
    }

    /// The phases to aim at, in an order in which they come.
    fn aims(&mut self, kills: usize) -> Vec<Phase> {
        let mut early = vec![Phase::TakeOver];
        early.extend([Phase::Load; 3]);
        early.extend([Phase::HandOver; 3]);
        let mut late = vec![Phase::TakeOver; 3];
        late.extend([Phase::CommitInDoubt; 3]);
        while early.len() + late.len() < kills {
            late.push(*[Phase::Stream, Phase::Stream, Phase::CommitInDoubt].choose(&mut self.rng).unwrap());
        }
        late.shuffle(&mut self.rng);
        early.extend(late);
        early.truncate(kills);
        early
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    fn hold(&mut self, words: &[&str]) {
        let word = *words.choose(&mut self.rng).unwrap();
        let hold = if self.chance(50) { Hold::Answer } else { Hold::Message };
        self.proxy.hold(word, hold);
    }
}

impl Round<'_> {
    fn state(&self) -> Option<State> {
        state(&self.pipeline)
    }

    fn epoch(&self) -> i64 {
        self.state().map_or(0, |state| state.epoch)
    }

    /// Starts freshet and kills it in this phase, or where it is when the phase has passed.
    fn kill(&mut self, aim: Phase) {
        let epoch = self.epoch();
        if aim == Phase::TakeOver {
            self.let_go();
            self.all.hold(self.all.words.take_over);
        }
        let run = self.pipeline.spawn();
        if aim != Phase::TakeOver && self.late_commit {
            self.wait(&run, "the take-over", |round| round.epoch() > epoch);
            self.let_go();
        }
        match aim {
            Phase::TakeOver => self
                .wait(&run, "the take-over", |round| round.all.proxy.is_holding() || round.epoch() > epoch),
            Phase::Load => self.aim_at_load(&run),
            Phase::HandOver => self.aim_at_hand_over(&run),
            Phase::Stream => self.aim_at_stream(&run),
            Phase::CommitInDoubt => self.aim_at_commit(&run),
        }
        self.blow(&run, aim, epoch);
    }

    /// In the middle of a statement of a chunk, or at any moment.
    fn aim_at_load(&mut self, run: &Freshet) {
        if self.all.chance(70) {
            self.all.hold(self.all.words.load);
            self.wait(run, "a chunk", |round| {
                round.all.proxy.is_holding() || round.state().is_some_and(|state| state.loaded())
            });
        } else {
            self.any_moment(run, 400);
        }
    }

    /// In the middle of a statement that only the hand-over sends.
    fn aim_at_hand_over(&mut self, run: &Freshet) {
        self.all.hold(self.all.words.hand_over);
        self.wait(run, "the hand-over", |round| {
            round.all.proxy.is_holding() || round.state().is_some_and(|state| state.consistent)
        });
    }

    fn aim_at_stream(&mut self, run: &Freshet) {
        self.streams(run);
        self.any_moment(run, 700);
    }

    fn aim_at_commit(&mut self, run: &Freshet) {
        self.streams(run);
        self.all.hold(self.all.words.commit);
        self.wait(run, "COMMIT", |round| round.all.proxy.is_holding());
    }

    /// This process, not one before it, has applied something to a consistent target.
    fn streams(&mut self, run: &Freshet) {
        let before = self.state().map_or(0, |state| state.next_offset);
        self.wait(run, "the stream", |round| {
            round.state().is_some_and(|state| state.consistent && state.next_offset > before)
        });
    }

    /// Any moment of the next `ms_max` milliseconds.
    fn any_moment(&mut self, run: &Freshet, ms_max: u64) {
        let moment = Duration::from_millis(self.all.rng.random_range(0..ms_max));
        poll_until(moment, || !run.is_running());
    }

    /// SIGKILL, and what it hit.
    fn blow(&mut self, run: &Freshet, aim: Phase, epoch: i64) {
        self.pipeline.must_run(run, "the kill");
        let holding = self.all.proxy.is_holding();
        let phase = match self.state() {
            _ if holding && aim == Phase::CommitInDoubt => Phase::CommitInDoubt,
            Some(state) if state.epoch == epoch => Phase::TakeOver,
            Some(state) if state.consistent => Phase::Stream,
            Some(state) if state.loaded() => Phase::HandOver,
            Some(_) => Phase::Load,
            None => Phase::TakeOver,
        };
        run.kill9();
        *self.all.histogram.entry(phase).or_default() += 1;
        match self.all.rng.random_range(0..3) {
            0 => self.all.proxy.cut_held(),
            1 => self.all.proxy.release(),
            // A window's session is known to the next owner, who ends it.
            _ if holding && aim == Phase::CommitInDoubt => self.late_commit = true,
            _ => self.all.proxy.release(),
        }
    }

    /// What a killed process had sent arrives now.
    fn let_go(&mut self) {
        self.all.proxy.release();
        self.late_commit = false;
    }

    /// Either server dies under a running freshet, which goes on by itself.
    fn kill_servers(&mut self) {
        self.let_go();
        let run = self.pipeline.spawn();
        self.wait(&run, "consistent_since", |round| round.state().is_some_and(|state| state.consistent));
        self.all.source.kill_and_restart();
        self.moves_on(&run);
        self.all.target.kill_and_restart();
        self.moves_on(&run);
        run.kill9();
    }

    /// The checkpoint moves, and so the pipeline lives.
    fn moves_on(&mut self, run: &Freshet) {
        let mut before = None;
        self.wait(run, "the checkpoint to move", |round| {
            let Some(now) = round.state().map(|state| (state.epoch, state.next_offset)) else { return false };
            let before = before.get_or_insert(now);
            now.1 > before.1 + 3
        });
    }

    fn finish(mut self, writers: Writers, watcher: Watcher) {
        self.let_go();
        let run = self.pipeline.spawn();
        self.wait(&run, "consistent_since", |round| round.state().is_some_and(|state| state.consistent));
        self.moves_on(&run);
        writers.stop();
        self.pipeline.stop(&run);
        self.pipeline.catch_up();
        TABLES.iter().for_each(|(table, columns)| self.pipeline.compare(table, columns));
        watcher.finish();
        self.pipeline.drop_all();
    }

    /// Waits for a condition; freshet must not end meanwhile.
    fn wait(&mut self, run: &Freshet, what: &str, mut holds: impl FnMut(&mut Self) -> bool) {
        let done = poll_until(DEADLINE, || {
            self.pipeline.must_run(run, what);
            holds(self)
        });
        let state = self.state();
        assert!(done, "Waited in vain for {what}; {state:?}\n{}", run.stderr());
    }
}

#[test]
fn t10_t11_p13_killed_over_and_over_from_mariadb_to_postgres() {
    kill_loop(Kind::MariaDb, Kind::Postgres, 50);
}

#[test]
fn t10_t11_p13_killed_over_and_over_from_mysql_to_postgres() {
    kill_loop(Kind::MySql, Kind::Postgres, 25);
}

#[test]
fn t10_t11_p13_killed_over_and_over_from_postgres_to_postgres() {
    kill_loop(Kind::Postgres, Kind::Postgres, 25);
}

#[test]
fn t10_t11_p13_killed_over_and_over_from_mariadb_to_mariadb() {
    kill_loop(Kind::MariaDb, Kind::MariaDb, 50);
}

#[test]
fn t10_t11_p13_killed_over_and_over_from_mariadb_to_mysql() {
    kill_loop(Kind::MariaDb, Kind::MySql, 12);
}

#[test]
fn t10_t11_p13_killed_over_and_over_from_mysql_to_mariadb() {
    kill_loop(Kind::MySql, Kind::MariaDb, 12);
}

#[test]
fn t10_t11_p13_killed_over_and_over_from_mysql_to_mysql() {
    kill_loop(Kind::MySql, Kind::MySql, 25);
}

#[test]
fn t10_t11_p13_killed_over_and_over_from_postgres_to_mariadb() {
    kill_loop(Kind::Postgres, Kind::MariaDb, 25);
}

#[test]
fn t10_t11_p13_killed_over_and_over_from_postgres_to_mysql() {
    kill_loop(Kind::Postgres, Kind::MySql, 12);
}
