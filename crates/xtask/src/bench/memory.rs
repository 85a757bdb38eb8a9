//! freshet's peak memory: in the loads and backlogs that were timed, over one large transaction, and idle.

use std::time::Duration;

use freshet_testkit::servers::{Postgres, poll_until};

use super::ends::DATABASE;
use super::measure::Server;
use super::ours::Ours;
use super::report::{About, Better, GoalOf, Row, Spread};
use super::{Bench, ensure_equal, say, world};

const BYTES_MAX: u64 = 256 << 20;
const IDLE_BYTES_MAX: u64 = 30 << 20;
const DEADLINE_S: u64 = 1_200;
/// Bytes of a row of `big`, about.
const BIG_ROW_BYTES: u64 = 1_024;

fn row(name: &str, what: &str, peak_bytes: u64, bytes_max: u64, rows: u64, rounds: usize) -> Row {
    let about = About {
        name,
        what,
        unit: "bytes",
        beside: "",
        goal: bytes_max as f64,
        goal_of: GoalOf::Ours,
        better: Better::Less,
    };
    let peak = peak_bytes as f64;
    let mut row = Row::new(&about, Spread { min: peak, median: peak, max: peak }, None, rows, rounds);
    row.peak_bytes_ours = Some(peak_bytes);
    row
}

/// The largest peaks of the loads and the backlogs among `rows`, as rows of their own.
pub fn of_peaks(rows: &mut Vec<Row>) {
    let parts = [
        ("memory-load", "peak memory, full load", "load-"),
        ("memory-backlog", "peak memory, draining backlogs", "drain-"),
    ];
    for (name, what, prefix) in parts {
        let of_part = rows.iter().filter(|row| row.name.starts_with(prefix));
        let largest = of_part.max_by_key(|row| row.peak_bytes_ours.unwrap_or(0));
        let found = largest.and_then(|row| Some((row.peak_bytes_ours?, row.rows, row.rounds)));
        rows.extend(found.map(|(peak, count, rounds)| row(name, what, peak, BYTES_MAX, count, rounds)));
    }
}

/// One transaction of 2 GB (200 MB when quick) of rows of a kilobyte from a MariaDB, captured and applied as one.
pub fn transaction(bench: &mut Bench) -> anyhow::Result<Vec<Row>> {
    let rows = transaction_rows(bench);
    let (source, target) = (world::mariadb()?, world::postgres()?);
    let write = || {
        let filler = "repeat(char(97 + seq % 26), 1000)";
        source.try_sql(&format!("use bench; insert into big select seq, {filler} from seq_1_to_{rows}"))?;
        Ok(source.try_sql("insert into bench.mark values (1)").map(drop)?)
    };
    let sums = || Ok(source.try_sql(&format!("select {SUMS} from bench.big"))?);
    let parts = Transaction { name: "memory-transaction", from: "", rows, write: &write, sums: &sums };
    one_transaction(bench, Server::My(&source), &target, &parts)
}

/// The same from a PostgreSQL.
pub fn transaction_postgres(bench: &mut Bench) -> anyhow::Result<Vec<Row>> {
    let rows = transaction_rows(bench);
    let (source, target) = (world::postgres_source()?, world::postgres()?);
    source.try_sql_in("bench", "create table big (id bigint primary key, filler text not null)")?;
    let write = || {
        let filler = "repeat(chr(97 + n % 26), 1000)";
        let sql = format!("insert into big select n, {filler} from generate_series(1, {rows}) n");
        source.try_sql_in("bench", &sql)?;
        Ok(source.try_sql_in("bench", "insert into mark values (1)").map(drop)?)
    };
    let sums = || Ok(source.try_sql_in("bench", &format!("select {SUMS} from big"))?);
    let name = "memory-transaction-postgres";
    let parts = Transaction { name, from: " from a PostgreSQL", rows, write: &write, sums: &sums };
    one_transaction(bench, Server::Pg(&source), &target, &parts)
}

fn transaction_rows(bench: &Bench) -> u64 {
    bench.scaled(2_000_000_000, 200_000_000) / BIG_ROW_BYTES
}

/// What is true of `big`.
const SUMS: &str = "count(*), sum(id), sum(length(filler)), sum(ascii(filler))";

/// A large transaction and how it is written.
struct Transaction<'a> {
    name: &'a str,
    /// After what it is.
    from: &'a str,
    rows: u64,
    write: &'a dyn Fn() -> anyhow::Result<()>,
    sums: &'a dyn Fn() -> anyhow::Result<String>,
}

fn one_transaction(
    bench: &Bench,
    source: Server<'_>,
    target: &Postgres,
    parts: &Transaction<'_>,
) -> anyhow::Result<Vec<Row>> {
    let rows = parts.rows;
    let binary = bench.binary.clone();
    let pipeline = Ours::new(&binary, source, Server::Pg(target), "load-and-stream", "*")?;
    pipeline.catch_up()?;
    println!("  writing a transaction of {rows} rows at the source");
    (parts.write)()?;
    let run = pipeline.until_mark(1, DEADLINE_S)?;
    let usage = run.part("freshet");
    say(0, "freshet", rows, &run);
    let theirs = format!("select {SUMS} from big");
    ensure_equal("big", &(parts.sums)()?, &target.try_sql_in(DATABASE, &theirs)?)?;

    let gigabytes = rows as f64 * BIG_ROW_BYTES as f64 / 1e9;
    let what = format!("peak memory, one transaction of {gigabytes:.1} GB{}", parts.from);
    let mut row = row(parts.name, &what, usage.peak_bytes, BYTES_MAX, rows, 1);
    row.add_costs(&[run], &[]);
    Ok(vec![row])
}

/// A pipeline that streams and has nothing to do.
pub fn idle(bench: &mut Bench) -> anyhow::Result<Vec<Row>> {
    let (source, target) = (world::mariadb()?, world::postgres()?);
    let binary = bench.binary.clone();
    let pipeline = Ours::new(&binary, Server::My(&source), Server::Pg(&target), "load-and-stream", "*")?;
    pipeline.catch_up()?;
    let process = pipeline.start(&[]);
    source.try_sql("insert into bench.mark values (1)")?;
    world::wait_for_mark(&target, DATABASE, 1, DEADLINE_S)?;
    let before = process.usage();
    let seconds = bench.scaled(20, 5);
    poll_until(Duration::from_secs(seconds), || !process.is_running());
    let usage = process.usage();
    pipeline.stop(&process)?;
    let mut row = row("memory-idle", "peak memory, idle", usage.peak_bytes, IDLE_BYTES_MAX, 0, 1);
    let cpu_part = (usage.cpu_s - before.cpu_s) / seconds as f64;
    row.notes.push(format!("idle for {seconds} s at {:.1} % of one core", cpu_part * 100.0));
    Ok(vec![row])
}
