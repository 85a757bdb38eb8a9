//! The watcher of the kill loop: reads the target without pause and notes every state that no commit of the source
//! had, from `consistent_since` on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};

use freshet_testkit::servers::poll_until;
use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls, Row};

use crate::kill_writers::{ACCOUNTS, BALANCE, BIG_ROWS, MOVING};
use crate::kit::{DEADLINE, Scenario};

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
pub(crate) fn state(scenario: &Scenario) -> Option<State> {
    let client = connect(&scenario.target.conn_string(&scenario.name))?;
    let sql = "select epoch, coalesce(next_offset,0), consistent_since is not null,
        (select count(*) from freshet.load_chunk), (select count(rows) from freshet.load_chunk),
        (select count(*) from freshet.load_table),
        (select count(*) from freshet.load_table where phase = 'loading')
        from freshet.checkpoint";
    let row = runtime().block_on(client.query_opt(sql, &[])).ok()??;
    Some(State {
        epoch: row.get(0),
        next_offset: row.get(1),
        consistent: row.get(2),
        chunks: row.get(3),
        chunks_done: row.get(4),
        tables: row.get(5),
        tables_loading: row.get(6),
    })
}

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
    })
}

fn connect(to: &str) -> Option<Client> {
    let (client, connection) = runtime().block_on(tokio_postgres::connect(to, NoTls)).ok()?;
    runtime().spawn(connection);
    Some(client)
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
const LOOK: &str = "select
    (select sum(balance)::int8 from bank), (select count(*) from bank),
    (select count(*) from mark_a a full join mark_b b using (id) where a.n is distinct from b.n),
    (select sum(n)::int8 from mark_a),
    (select count(*) from moving), (select count(distinct u) from swap), (select sum(u)::int8 from swap),
    (select count(*) from big)";

impl Watcher {
    pub(crate) fn start(scenario: &Scenario) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopping, to) = (Arc::clone(&stop), scenario.target.conn_string(&scenario.name));
        let thread = thread::spawn(move || watch(&to, &stopping));
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

fn watch(to: &str, stop: &AtomicBool) -> Seen {
    let mut seen = Seen::default();
    while !stop.load(Ordering::Relaxed) {
        let mut client = None;
        poll_until(DEADLINE, || {
            client = connect(to);
            client.is_some() || stop.load(Ordering::Relaxed)
        });
        if let Some(client) = client {
            read(&client, &mut seen, stop);
        }
    }
    seen
}

/// Reads until the connection is lost.
fn read(client: &Client, seen: &mut Seen, stop: &AtomicBool) {
    let since = "select count(consistent_since) from freshet.checkpoint";
    let consistent = poll_until(DEADLINE, || {
        let row = runtime().block_on(client.query_opt(since, &[]));
        stop.load(Ordering::Relaxed)
            || client.is_closed()
            || row.is_ok_and(|row| row.is_some_and(|row| row.get::<_, i64>(0) == 1))
    });
    while consistent && !client.is_closed() && !stop.load(Ordering::Relaxed) {
        match runtime().block_on(client.query_one(LOOK, &[])) {
            Ok(row) => judge(&row, seen),
            Err(error) if error.code().is_some_and(|code| code.code() == "42P01") => {
                seen.wrong.push(format!("A table is missing: {error}"));
                return;
            }
            Err(_) => return,
        }
    }
}

fn judge(row: &Row, seen: &mut Seen) {
    let number = |at: usize| row.get::<_, Option<i64>>(at).unwrap_or(-1);
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
