//! Binlog to durable log, beside `mariadb-binlog --raw`, which copies the bytes undecoded and syncs nothing.
//!
//! Both read the same binlog files from the same server. Ours is `freshet capture`: decode, encode, write, fdatasync,
//! without a target.

use anyhow::Context as _;
use freshet_testkit::servers::MyServer;

use super::measure::{Meter, Run, Server, run_to_end, tied};
use super::ours::Ours;
use super::report::{About, Better, GoalOf, Row};
use super::work::Backlog;
use super::{Bench, say, text, world};

const PEER: &str = "mariadb-binlog";

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
    let pipeline = Ours::new(&binary, &source, &target, "stream", "bench.*")?;
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
        let run = capture(&pipeline, &source)?;
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

fn capture(pipeline: &Ours<'_>, source: &MyServer) -> anyhow::Result<Run> {
    pipeline.restore_log()?;
    let meter = Meter::start(&[("source", Server::My(source))]);
    let mut command = pipeline.command("capture", &["--until", "caught-up"]);
    let (usage, _) = run_to_end("freshet capture", &mut command)?;
    let mut run = meter.stop();
    run.parts.push(("freshet", usage));
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
