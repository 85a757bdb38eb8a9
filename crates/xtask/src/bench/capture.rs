//! Binlog or WAL to durable log, beside `mariadb-binlog --raw`, which copies the bytes undecoded and syncs nothing, and
//! beside `pg_recvlogical`, which throws away what it reads.
//!
//! Both sides read the same changes from the same server, none over TLS. Ours is `freshet capture`: decode, encode, write,
//! fdatasync, without a target.

use anyhow::Context as _;
use freshet_testkit::servers::{MyServer, Postgres};

use super::measure::{Meter, Run, Server, run_to_end, tied};
use super::ours::Ours;
use super::report::{About, Better, GoalOf, Row, Spread};
use super::work::Backlog;
use super::{Bench, say, text, world};

const PEER: &str = "mariadb-binlog";
const WAL_PEER: &str = "pg_recvlogical";

/// Transactions of 100 rows.
pub fn by_100(bench: &mut Bench) -> anyhow::Result<Vec<Row>> {
    let about = About {
        name: "capture-by-100",
        what: "binlog to durable log, 100 rows a transaction",
        unit: "rows/s",
        beside: "mariadb-binlog --raw",
        goal: 0.4,
        goal_of: GoalOf::Ratio,
        better: Better::More,
    };
    let rows = bench.scaled(8_000_000, 500_000);
    run(bench, &about, Backlog::By100(rows))
}

/// Single-row transactions.
pub fn singles(bench: &mut Bench) -> anyhow::Result<Vec<Row>> {
    let about = About {
        name: "capture-singles",
        what: "binlog to durable log, single rows",
        unit: "rows/s",
        beside: "mariadb-binlog --raw",
        goal: 4.0,
        goal_of: GoalOf::Ratio,
        better: Better::More,
    };
    let rows = bench.scaled(1_500_000, 150_000);
    run(bench, &about, Backlog::Singles(rows))
}

fn run(bench: &mut Bench, about: &About<'_>, backlog: Backlog) -> anyhow::Result<Vec<Row>> {
    let (source, target) = (world::mariadb()?, world::postgres()?);
    source.try_sql("flush binary logs")?;
    let binary = bench.binary.clone();
    let pipeline = Ours::new(&binary, Server::My(&source), Server::Pg(&target), "stream", "*")?;
    run_to_end("freshet capture", &mut pipeline.command("capture", &["--begin"]))?;
    pipeline.save_log()?;
    let first = file_of_now(&source)?;
    println!("  writing {} rows at the source", backlog.rows());
    world::write_mariadb(&source, backlog)?;
    let last = file_of_now(&source)?;
    source.try_sql("flush binary logs")?;
    let files = files_between(&source, &first, &last)?;

    let has_peer = bench.has(PEER);
    let (mut ours, mut peer) = (Vec::new(), Vec::new());
    for round in 0..bench.rounds() {
        let run = capture(&pipeline, Server::My(&source))?;
        say(round, "freshet", backlog.rows(), &run);
        ours.push(run);
        if has_peer {
            let run = copy_raw(&pipeline, &source, &files)?;
            say(round, PEER, backlog.rows(), &run);
            peer.push(run);
        }
    }
    Ok(vec![Row::of_runs(about, backlog.rows(), &ours, &peer)?])
}

fn capture(pipeline: &Ours<'_>, source: Server<'_>) -> anyhow::Result<Run> {
    pipeline.restore_log()?;
    let meter = Meter::start(&[("source", source)]);
    let mut command = pipeline.command("capture", &["--until", "caught-up"]);
    let (usage, _) = run_to_end("freshet capture", &mut command)?;
    let mut run = meter.stop();
    run.parts.push(("freshet", usage));
    Ok(run)
}

/// WAL, transactions of 100 rows.
pub fn wal_by_100(bench: &mut Bench) -> anyhow::Result<Vec<Row>> {
    let rows = bench.scaled(2_000_000, 100_000);
    run_wal(bench, "wal-by-100", "100 rows a transaction", 1.8, Backlog::By100(rows))
}

/// WAL, single-row transactions.
pub fn wal_singles(bench: &mut Bench) -> anyhow::Result<Vec<Row>> {
    let rows = bench.scaled(1_000_000, 50_000);
    run_wal(bench, "wal-singles", "single rows", 2.5, Backlog::Singles(rows))
}

/// Two rows: changes a second, and the CPU seconds of the server that sends them.
fn run_wal(
    bench: &mut Bench,
    name: &str,
    what: &str,
    goal: f64,
    backlog: Backlog,
) -> anyhow::Result<Vec<Row>> {
    let (source, target) = (world::postgres_source()?, world::postgres()?);
    let binary = bench.binary.clone();
    let pipeline = Ours::new(&binary, Server::Pg(&source), Server::Pg(&target), "stream", "*")?;
    run_to_end("freshet capture", &mut pipeline.command("capture", &["--begin"]))?;
    pipeline.save_log()?;
    source.try_sql_in("bench", "select pg_create_logical_replication_slot('before', 'pgoutput')")?;
    println!("  writing {} rows at the source", backlog.rows());
    world::write_postgres(&source, backlog)?;
    let end = source.try_sql("select pg_current_wal_flush_lsn()")?;
    let has_peer = bench.has(WAL_PEER);
    let (mut ours, mut peer) = (Vec::new(), Vec::new());
    for round in 0..bench.rounds() {
        let run = capture(&pipeline, Server::Pg(&source))?;
        say(round, "freshet", backlog.rows(), &run);
        ours.push(run);
        if has_peer {
            let run = receive(&source, end.trim())?;
            say(round, WAL_PEER, backlog.rows(), &run);
            peer.push(run);
        }
    }
    let about = |name, what, unit, goal, better| About {
        name,
        what,
        unit,
        beside: WAL_PEER,
        goal,
        goal_of: GoalOf::Ratio,
        better,
    };
    let rates = format!("WAL to durable log, {what}");
    let rates = about(name, &rates, "rows/s", goal, Better::More);
    let (cpu_name, cpu) = (format!("{name}-cpu"), format!("CPU of the source meanwhile, {what}"));
    let cpu = about(&cpu_name, &cpu, "CPU s", 0.6, Better::Less);
    let spread =
        |runs: &[Run]| Spread::of(&runs.iter().map(|run| run.part("source").cpu_s).collect::<Vec<_>>());
    let ours_cpu = spread(&ours).context("No run of ours")?;
    Ok(vec![
        Row::of_runs(&rates, backlog.rows(), &ours, &peer)?,
        Row::new(&cpu, ours_cpu, spread(&peer), backlog.rows(), ours.len()),
    ])
}

fn receive(source: &Postgres, end: &str) -> anyhow::Result<Run> {
    world::drop_slot(source, "round")?;
    source.try_sql_in("bench", "select pg_copy_logical_replication_slot('before', 'round')")?;
    let meter = Meter::start(&[("source", Server::Pg(source))]);
    let mut command = tied(WAL_PEER);
    command.args(["--host=127.0.0.1", "--username=postgres", "--dbname=bench", "--slot=round", "--start"]);
    command.args(["--no-loop", "-o", "proto_version=1", "-o", "publication_names=pub", "--file=/dev/null"]);
    command.args([format!("--endpos={end}"), format!("--port={}", source.port())]);
    let (usage, _) = run_to_end(WAL_PEER, &mut command)?;
    let mut run = meter.stop();
    run.parts.push((WAL_PEER, usage));
    Ok(run)
}

fn copy_raw(pipeline: &Ours<'_>, source: &MyServer, files: &[String]) -> anyhow::Result<Run> {
    let dir = pipeline.dir().join("raw");
    std::fs::create_dir_all(&dir)?;
    let meter = Meter::start(&[("source", Server::My(source))]);
    let mut command = tied(PEER);
    command.args(["--no-defaults", "--read-from-remote-server", "--raw", "--host=127.0.0.1"]);
    command.args([
        format!("--port={}", source.port()),
        "--user=freshet".to_owned(),
        "--password=freshet".to_owned(),
    ]);
    command.arg(format!("--result-file={}/", text(&dir))).args(files);
    let (usage, _) = run_to_end(PEER, &mut command)?;
    let mut run = meter.stop();
    run.parts.push((PEER, usage));
    std::fs::remove_dir_all(&dir).context("Cannot remove the raw copy")?;
    Ok(run)
}

fn file_of_now(source: &MyServer) -> anyhow::Result<String> {
    let status = source.try_sql("show master status")?;
    let file = status.split('\t').next().filter(|file| !file.is_empty());
    Ok(file.context("The source has no binlog")?.to_owned())
}

fn files_between(source: &MyServer, first: &str, last: &str) -> anyhow::Result<Vec<String>> {
    let listed = source.try_sql("show binary logs")?;
    let names = listed.lines().filter_map(|line| line.split('\t').next());
    Ok(names.filter(|name| (first..=last).contains(name)).map(str::to_owned).collect())
}
