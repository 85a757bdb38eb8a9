//! freshet's peak memory: in the loads and backlogs that were timed, over one large transaction, and idle.

use std::time::Duration;

use freshet_testkit::servers::poll_until;

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

/// One transaction of 2 GB (200 MB when quick) of rows of a kilobyte, captured and applied as one.
pub fn transaction(bench: &mut Bench) -> anyhow::Result<Vec<Row>> {
    let rows = bench.scaled(2_000_000_000, 200_000_000) / BIG_ROW_BYTES;
    let (source, target) = (world::mariadb()?, world::postgres()?);
    let binary = bench.binary.clone();
    let pipeline = Ours::new(&binary, Server::My(&source), Server::Pg(&target), "load-and-stream", "*")?;
    pipeline.catch_up()?;
    println!("  writing a transaction of {rows} rows at the source");
    let filler = "repeat(char(97 + seq % 26), 1000)";
    source.try_sql(&format!("use bench; insert into big select seq, {filler} from seq_1_to_{rows}"))?;
    source.try_sql("insert into bench.mark values (1)")?;

    let run = pipeline.until_mark(1, DEADLINE_S)?;
    let usage = run.part("freshet");
    say(0, "freshet", rows, &run);
    let sums = "count(*), sum(id), sum(length(filler)), sum(ascii(filler))";
    let (ours, theirs) = (format!("select {sums} from bench.big"), format!("select {sums} from big"));
    ensure_equal("big", &source.try_sql(&ours)?, &target.try_sql_in(DATABASE, &theirs)?)?;

    let gigabytes = rows as f64 * BIG_ROW_BYTES as f64 / 1e9;
    let what = format!("peak memory, one transaction of {gigabytes:.1} GB");
    let mut row = row("memory-transaction", &what, usage.peak_bytes, BYTES_MAX, rows, 1);
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
