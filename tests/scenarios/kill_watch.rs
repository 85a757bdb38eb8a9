//! The watcher of the kill loop: reads the target without pause and notes every state that no commit of the source
//! had, from `consistent_since` on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use freshet_testkit::servers::poll_until;

use crate::ends::{End, Kind};
use crate::kill_writers::{ACCOUNTS, BALANCE, BIG_ROWS, MOVING};
use crate::kit::DEADLINE;
use crate::pipeline::Pipeline;

/// What the control schema says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct State {
    pub epoch: i64,
    pub next_offset: i64,
    pub chunks: i64,
    pub chunks_done: i64,
    pub tables: i64,
    pub tables_loading: i64,
    pub consistent: bool,
}

impl State {
    /// Every chunk of every table is in.
    pub(crate) fn loaded(&self) -> bool {
        self.tables > 0
            && (self.tables_loading == 0 || (self.chunks >= self.tables && self.chunks == self.chunks_done))
    }
}

/// What the control schema says now; nothing while it or its server is not there.
pub(crate) fn state(pipeline: &Pipeline) -> Option<State> {
    let mine = format!("pipeline = '{}'", pipeline.name);
    let rows = if pipeline.target.server.kind() == Kind::Postgres { "rows" } else { "loaded_rows" };
    let sql = format!(
        "select epoch, coalesce(next_offset,0), case when consistent_since is null then 0 else 1 end,
        (select count(*) from freshet.load_chunk where {mine}),
        (select count({rows}) from freshet.load_chunk where {mine}),
        (select count(*) from freshet.load_table where {mine}),
        (select count(*) from freshet.load_table where {mine} and phase in ('loading', 'preparing'))
        from freshet.checkpoint where {mine}"
    );
    let found = numbers(&pipeline.target.try_sql(&sql).ok()?)?;
    let [epoch, next_offset, consistent, chunks, chunks_done, tables, tables_loading] = found[..] else {
        return None;
    };
    Some(State {
        epoch,
        next_offset,
        consistent: consistent == 1,
        chunks,
        chunks_done,
        tables,
        tables_loading,
    })
}

/// The numbers of the one row that a client printed.
fn numbers(printed: &str) -> Option<Vec<i64>> {
    let cells = printed.trim().split(['\t', '|']);
    cells.map(|cell| cell.parse().ok()).collect()
}

/// The reader, in a thread of its own.
pub(crate) struct Watcher {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    states: u64,
    marks: i64,
    wrong: Vec<String>,
}

/// One statement, so one snapshot.
fn look(kind: Kind) -> String {
    let marks = match kind {
        Kind::Postgres => {
            "select count(*) from mark_a a full join mark_b b using (id) where a.n is distinct from b.n"
        }
        // Neither has a full join; rows that only one of the two has show in the counts.
        Kind::MariaDb | Kind::MySql => {
            "select (select count(*) from mark_a) + (select count(*) from mark_b) \
             - 2 * (select count(*) from mark_a a join mark_b b on b.id = a.id and b.n = a.n)"
        }
    };
    format!(
        "select (select sum(balance) from bank), (select count(*) from bank), ({marks}),
        (select sum(n) from mark_a),
        (select count(*) from moving), (select count(distinct u) from swap), (select sum(u) from swap),
        (select count(*) from big)"
    )
}

impl Watcher {
    pub(crate) fn start(pipeline: &Pipeline) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopping, target, name) = (Arc::clone(&stop), pipeline.target.clone(), pipeline.name.clone());
        let thread = thread::spawn(move || watch(&target, &name, &stopping));
        Self { stop, thread }
    }

    /// Ends it; everything it saw must have been right, and it must have seen something.
    pub(crate) fn finish(self) {
        self.stop.store(true, Ordering::Relaxed);
        let seen = self.thread.join().unwrap();
        assert!(seen.wrong.is_empty(), "States that the source never had: {:#?}", seen.wrong);
        assert!(seen.states > 0, "The watcher saw no consistent state");
    }
}

fn watch(target: &End, name: &str, stop: &AtomicBool) -> Seen {
    let mut seen = Seen::default();
    let since = format!("select count(consistent_since) from freshet.checkpoint where pipeline = '{name}'");
    let stopped = || stop.load(Ordering::Relaxed);
    poll_until(3 * DEADLINE, || stopped() || target.number(&since) == Some(1));
    let look = look(target.server.kind());
    while !stopped() {
        match target.try_sql(&look) {
            Ok(printed) => judge(&numbers(&printed).unwrap_or_default(), &mut seen),
            // The server is not there for a while.
            Err(error) if is_missing_table(&error.to_string()) => {
                seen.wrong.push(format!("A table is missing: {error}"));
                break;
            }
            Err(_) => {}
        }
    }
    seen
}

fn is_missing_table(error: &str) -> bool {
    ["does not exist", "doesn't exist"].iter().any(|words| error.contains(words))
}

fn judge(row: &[i64], seen: &mut Seen) {
    let number = |at: usize| row.get(at).copied().unwrap_or(-1);
    let moving = i64::from(MOVING);
    let expected = [
        ("sum of the bank", number(0), i64::from(ACCOUNTS * BALANCE)),
        ("accounts", number(1), i64::from(ACCOUNTS)),
        ("marks that differ", number(2), 0),
        ("moving rows", number(4), moving),
        ("distinct unique values", number(5), moving),
        ("sum of the unique values", number(6), moving * (moving - 1) / 2),
        ("part of a large transaction", number(7) % i64::from(BIG_ROWS), 0),
    ];
    for (what, found, expected) in expected {
        if found != expected {
            seen.wrong.push(format!("{what}: {found}, not {expected}, after {} states", seen.states));
        }
    }
    if number(3) < seen.marks {
        seen.wrong.push(format!("The marks went back from {} to {}", seen.marks, number(3)));
    }
    seen.marks = number(3);
    seen.states += 1;
}
