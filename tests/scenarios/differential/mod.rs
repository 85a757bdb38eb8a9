//! The differential test: random schemas, rows and transactions, and both ends compared row by row, in every direction.
//!
//! A round is drawn from one seed (`plan.rs`): tables of any types and keys with rows in them, clients that write during the load and after
//! it, kills of freshet. When all is still, `freshet run --until caught-up` has to leave the target equal to the source. A round that fails is
//! tried again in smaller forms (`shrink.rs`), and the smallest that fails is printed with its SQL.
//!
//! `cargo xtask differential` runs it for longer: `FRESHET_DIFFERENTIAL_SECONDS` for each direction. `FRESHET_SEED` is the first round's seed.
//! Two clients at once are not one order of statements: a seed repeats what is sent, not when.

mod compare;
mod pair;
mod plan;
mod shrink;
mod sql;
mod types;
mod values;

use std::fmt;
use std::time::{Duration, Instant};

use freshet_testkit::servers::{Freshet, poll_until, seed};

use crate::kit::DEADLINE;
use pair::{Outcome, Pair, Writer};
use plan::{Plan, Size};
use sql::Sql;
use types::{Direction, Server};

/// Rounds are of one of these sizes, as their seed says.
const SIZES: [Size; 3] = [
    Size { tables: 3, columns: 5, rows: 300, transactions: 40 },
    Size { tables: 4, columns: 9, rows: 1_200, transactions: 60 },
    Size { tables: 9, columns: 12, rows: 1_500, transactions: 150 },
];
const ROUNDS: u64 = 2;
const SEED: u64 = 1;

/// What stops a pipeline as documented, so that it has to load again: the sources, words of the message, what somebody must
/// have done, and why.
const STOPS: &[(&[Server], &str, &str, &str)] = &[
    (
        &[Server::Postgres],
        "REPLICA IDENTITY FULL for the table makes the source send such values",
        "update ",
        "between the two bounds of a load a row can lack a large value that no change brings (docs/types.md)",
    ),
    (
        &[Server::MariaDb, Server::MySql, Server::Postgres],
        "while it was being loaded",
        "truncate table ",
        "TRUNCATE makes a table anew, which no snapshot of before can read",
    ),
];

/// What was done.
#[derive(Clone, Copy, Debug, Default)]
struct Done {
    rounds: u64,
    transactions: u64,
    rows: u64,
    kills: u64,
    /// Rounds that stopped as documented and were loaded again.
    reloads: u64,
}

impl fmt::Display for Done {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rounds, transactions, rows, kills, reloads } = self;
        write!(
            formatter,
            "{rounds} rounds, {transactions} transactions, {rows} rows compared, {kills} kills, {reloads} loaded again"
        )
    }
}

fn differential(from: Server, to: Server) {
    let direction = Direction { from, to };
    let seconds = std::env::var("FRESHET_DIFFERENTIAL_SECONDS").ok().map(|text| text.parse().unwrap());
    if seconds.is_some() {
        pair::relax(&from.source());
        pair::relax(&to.target());
    }
    let began = Instant::now();
    // CI repeats the same rounds, so that a failure is of what was changed; new ones are drawn by the command.
    let first = if seconds.is_some() || std::env::var_os("FRESHET_SEED").is_some() { seed() } else { SEED };
    let mut done = Done::default();
    for number in 0.. {
        let goes_on = match seconds {
            Some(seconds) => began.elapsed() < Duration::from_secs(seconds),
            None => number < ROUNDS,
        };
        if !goes_on {
            break;
        }
        let seed = first.wrapping_add(number);
        let plan = plan::plan(seed, direction, SIZES[(seed % SIZES.len() as u64) as usize]);
        if let Err(why) = round(&plan, &mut done) {
            println!("{} seed {seed} failed: {why}", direction.words());
            let smallest = shrink::shrink(plan, why, |plan| round(plan, &mut Done::default()));
            panic!("{}", shrink::report(&smallest));
        }
        if seconds.is_some() && number % 10 == 9 {
            println!("{}: {done}, {} s", direction.words(), began.elapsed().as_secs());
        }
    }
    println!("{}: {done}, in {} s", direction.words(), began.elapsed().as_secs());
}

/// One round from beginning to end.
fn round(plan: &Plan, done: &mut Done) -> Outcome<()> {
    let mut pair = Pair::new(plan);
    let sql = Sql::new(plan);
    let made = pair.at_source(&sql.definitions());
    assert!(made.is_ok(), "The plan of seed {} is at fault: {made:?}", plan.seed);
    wait_for(vec![pair.writer("rows", &sql.rows())])?;
    let reloads = match work(&pair, plan, &sql, done) {
        Ok(()) => 0,
        Err(why) if is_documented(plan, &sql, &why) => {
            pair.must(&["reset", "--drop-tables", "--yes"])?;
            pair.must(&["run", "--until", "caught-up"])?;
            1
        }
        Err(why) => return Err(why),
    };
    done.rows += compare::compare(&pair, plan)?;
    pair.drop_pipeline()?;
    done.rounds += 1;
    done.reloads += reloads;
    done.transactions +=
        plan.waves.iter().flatten().map(|script| script.transactions.len() as u64).sum::<u64>();
    if std::env::var_os("FRESHET_DIFFERENTIAL_SECONDS").is_some() && done.rounds.is_multiple_of(20) {
        pair::forget(&pair.source);
        pair::forget(&pair.target);
    }
    Ok(())
}

fn is_documented(plan: &Plan, sql: &Sql<'_>, why: &str) -> bool {
    let done = |what: &str| plan.waves.iter().flatten().any(|script| sql.script(script).contains(what));
    let from = plan.direction.from;
    STOPS.iter().any(|(sources, words, what, _)| sources.contains(&from) && why.contains(words) && done(what))
}

/// Both waves of writers, freshet between kills, and its last run.
fn work(pair: &Pair, plan: &Plan, sql: &Sql<'_>, done: &mut Done) -> Outcome<()> {
    let mut run: Option<Freshet> = None;
    let mut failed = Ok(());
    for (number, wave) in plan.waves.iter().enumerate() {
        let scripts = wave.iter().enumerate();
        let writers = scripts.map(|(i, script)| pair.writer(&format!("{number}-{i}"), &sql.script(script)));
        let writers = writers.collect();
        if failed.is_ok() {
            failed = follow(pair, &plan.kills[number], number == 0 && plan.waits, &mut run, done);
        }
        // Also of a round that has failed: its rows are those of all its writers.
        wait_for(writers)?;
    }
    failed?;
    if let Some(run) = run {
        end(&run, plan.ends_by_kill)?;
    }
    pair.must(&["run", "--until", "caught-up"])
}

/// Kills freshet at these moments, starts it again, and waits for the target to be consistent if asked for.
fn follow(
    pair: &Pair,
    kills: &[u64],
    waits: bool,
    run: &mut Option<Freshet>,
    done: &mut Done,
) -> Outcome<()> {
    let mut now = run.take().unwrap_or_else(|| pair.spawn());
    for ms in kills {
        poll_until(Duration::from_millis(*ms), || !now.is_running());
        is_alive(&now)?;
        now.kill9();
        done.kills += 1;
        now = pair.spawn();
    }
    if waits && !poll_until(DEADLINE, || !now.is_running() || pair.is_consistent()) {
        return Err(format!("Not consistent after {DEADLINE:?}: {}", said(&now.stderr())));
    }
    is_alive(&now)?;
    *run = Some(now);
    Ok(())
}

/// What it said, but for its progress and what every round makes it say.
fn said(stderr: &str) -> String {
    const EXPECTED: [&str; 3] = ["\"INFO\"", "password stands in the file", "\"Not carried over\""];
    let is_expected = |line: &&str| EXPECTED.iter().any(|words| line.contains(words));
    stderr.lines().filter(|line| !is_expected(line)).collect::<Vec<_>>().join("\n")
}

fn is_alive(run: &Freshet) -> Outcome<()> {
    if run.is_running() {
        return Ok(());
    }
    let exit = run.wait(DEADLINE);
    Err(format!("freshet ended, code {:?}: {}", exit.code, said(&exit.stderr)))
}

fn end(run: &Freshet, by_kill: bool) -> Outcome<()> {
    is_alive(run)?;
    if by_kill {
        run.kill9();
        return Ok(());
    }
    run.terminate();
    if !poll_until(DEADLINE, || !run.is_running()) {
        return Err(format!("It has not ended {DEADLINE:?} after SIGTERM: {}", said(&run.stderr())));
    }
    let exit = run.wait(DEADLINE);
    match exit.code {
        // Before it knows what to do on SIGTERM, that just ends it.
        Some(0) | None => Ok(()),
        code => Err(format!("freshet ended after SIGTERM, code {code:?}: {}", said(&exit.stderr))),
    }
}

fn wait_for(mut writers: Vec<Writer>) -> Outcome<()> {
    match poll_until(DEADLINE, || writers.iter_mut().all(Writer::is_done)) {
        true => Ok(()),
        false => Err(format!("The writers have not ended after {DEADLINE:?}")),
    }
}

macro_rules! directions {
    ($($name:ident: $from:ident $to:ident;)*) => {$(
        #[test]
        fn $name() {
            differential(Server::$from, Server::$to);
        }
    )*};
}

directions! {
    differential_mariadb_to_postgres: MariaDb Postgres;
    differential_mysql_to_postgres: MySql Postgres;
    differential_postgres_to_postgres: Postgres Postgres;
    differential_mariadb_to_mariadb: MariaDb MariaDb;
    differential_mariadb_to_mysql: MariaDb MySql;
    differential_mysql_to_mariadb: MySql MariaDb;
    differential_mysql_to_mysql: MySql MySql;
    differential_postgres_to_mariadb: Postgres MariaDb;
    differential_postgres_to_mysql: Postgres MySql;
}
