//! `cargo xtask bench`: how fast freshet is, beside other tools, in the same run on the same machine.
//!
//! Rules: ours and the peer take turns, three rounds (one with `--quick`), medians with their range; the same rows,
//! the same servers, durability as by default; the target is counted and summed up after every round; a timed part
//! lasts three seconds or says that it did not. CPU seconds of every process and freshet's peak memory are part of the
//! result. A peer that is not installed is named and fails the run. Nothing else may run meanwhile: the load of the
//! machine is printed, and a second bench is refused.

mod capture;
mod drain;
mod ends;
mod latency;
mod load;
mod measure;
mod memory;
mod ours;
mod report;
mod work;
mod world;

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};

use crate::release;
use crate::setup::{self, Purpose};
use report::Row;

/// A timed part shorter than this says so.
const TIMED_S_MIN: f64 = 3.0;
/// Above this load something else is running.
const LOAD_MAX: f64 = 1.5;

/// What a bench is given.
struct Bench {
    binary: PathBuf,
    quick: bool,
    missing: Vec<&'static str>,
}

impl Bench {
    fn rounds(&self) -> usize {
        if self.quick { 1 } else { 3 }
    }

    fn scaled(&self, full: u64, quick: u64) -> u64 {
        if self.quick { quick } else { full }
    }

    /// Whether a peer is there; one that is not is remembered.
    fn has(&mut self, program: &'static str) -> bool {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found = std::env::split_paths(&path).any(|dir| dir.join(program).is_file());
        if !found && !self.missing.contains(&program) {
            println!("MISSING: {program} is not installed; what is measured beside it has no peer");
            self.missing.push(program);
        }
        found
    }
}

/// A group of rows that share servers.
struct Group {
    name: &'static str,
    run: fn(&mut Bench) -> anyhow::Result<Vec<Row>>,
}

const GROUPS: &[Group] = &[
    Group { name: "capture-by-100", run: capture::by_100 },
    Group { name: "capture-singles", run: capture::singles },
    Group { name: "wal-by-100", run: capture::wal_by_100 },
    Group { name: "wal-singles", run: capture::wal_singles },
    Group { name: "load", run: load::run },
    Group { name: "load-postgres", run: load::postgres },
    Group { name: "load-mariadb", run: load::mariadb },
    Group { name: "drain-by-100", run: drain::by_100 },
    Group { name: "drain-singles", run: drain::singles },
    Group { name: "drain-updates", run: drain::updates },
    Group { name: "drain-postgres", run: drain::postgres },
    Group { name: "drain-mariadb", run: drain::mariadb },
    Group { name: "latency", run: latency::run },
    Group { name: "latency-postgres", run: latency::postgres },
    Group { name: "latency-mariadb", run: latency::mariadb },
    Group { name: "memory-transaction", run: memory::transaction },
    Group { name: "memory-transaction-postgres", run: memory::transaction_postgres },
    Group { name: "memory-idle", run: memory::idle },
];

/// Runs the groups whose names start with one of `names`; all of them without names.
pub fn run(names: &[String], quick: bool) -> anyhow::Result<()> {
    let chosen = choose(names)?;
    let _turn = take_turn()?;
    if let Err(error) = setup::run(Purpose::Bench) {
        println!("Not all set up: {error:#}");
    }
    let mut bench = Bench { binary: release::build()?, quick, missing: Vec::new() };
    let conditions = conditions()?;
    println!("{conditions}");
    let mut rows: Vec<Row> = Vec::new();
    let mut failed = Vec::new();
    for group in chosen {
        println!("\n== {}", group.name);
        match (group.run)(&mut bench) {
            Ok(measured) => rows.extend(measured),
            Err(error) => {
                println!("FAILED {}: {error:#}", group.name);
                failed.push(group.name);
            }
        }
    }
    memory::of_peaks(&mut rows);
    report::print(&rows);
    println!("\n{conditions}");
    if !rows.is_empty() {
        println!("Written to {}", report::write(&rows, quick)?.display());
    }
    ensure!(failed.is_empty(), "Not measured: {}", failed.join(", "));
    ensure!(bench.missing.is_empty(), "Peers that are not installed: {}", bench.missing.join(", "));
    Ok(())
}

fn choose(names: &[String]) -> anyhow::Result<Vec<&'static Group>> {
    let all = || GROUPS.iter().map(|group| group.name).collect::<Vec<_>>().join(", ");
    for name in names {
        if !GROUPS.iter().any(|group| group.name.starts_with(name.as_str())) {
            bail!("No bench is named {name}; there are: {}", all());
        }
    }
    let is_chosen =
        |group: &&Group| names.is_empty() || names.iter().any(|name| group.name.starts_with(name));
    Ok(GROUPS.iter().filter(is_chosen).collect())
}

/// Holds off a second bench of this machine.
fn take_turn() -> anyhow::Result<File> {
    let path = std::env::temp_dir().join("freshet-bench.lock");
    let file = File::create(&path).with_context(|| format!("Cannot create {}", path.display()))?;
    file.try_lock().context("Another bench is running on this machine")?;
    Ok(file)
}

/// What the figures depend on besides the code.
fn conditions() -> anyhow::Result<String> {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: f64 = load.split_whitespace().next().and_then(|text| text.parse().ok()).unwrap_or(0.0);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let fsync_ms = measure::fsync_ms(&scratch())?;
    let busy = if load > LOAD_MAX { " (something else is running: the figures are provisional)" } else { "" };
    Ok(format!("{cores} cores, load {load:.1}{busy}, the disk makes 4 KiB durable in {fsync_ms:.2} ms"))
}

/// Where servers and logs of the bench are.
fn scratch() -> PathBuf {
    std::env::var_os("FRESHET_TEST_DIR").map_or_else(std::env::temp_dir, PathBuf::from)
}

/// Prints how a round went.
fn say(round: usize, who: &str, rows: u64, run: &measure::Run) {
    let rate = rows as f64 / run.seconds / 1e3;
    println!("  round {}: {who} {:.2} s, {rate:.1}k/s, CPU {:.1} s", round + 1, run.seconds, run.cpu_s());
}

/// Both sides hold the same.
fn ensure_equal(what: &str, source: &str, target: &str) -> anyhow::Result<()> {
    ensure!(
        source == target,
        "{what} differs (count and sum): {source} at the source, {target} at the target"
    );
    Ok(())
}

/// A path as text.
fn text(path: &Path) -> String {
    path.display().to_string()
}
