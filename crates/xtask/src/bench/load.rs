//! Full load of `t`, its key included, beside pgloader, PostgreSQL's own binary COPY pipe, mydumper and myloader.
//!
//! freshet, pgloader and mydumper make the table; the COPY pipe reads the same rows from a PostgreSQL into an empty
//! table that has its key, and converts nothing.

use anyhow::Context as _;
use freshet_testkit::servers::{MyServer, Postgres};

use super::ends::DATABASE;
use super::measure::{Meter, Run, Server, run_to_end, tied};
use super::ours::Ours;
use super::report::{About, Better, GoalOf, Row};
use super::{Bench, ensure_equal, say, text, work, world};

const PIPE_DATABASE: &str = "pipe";
const LOADER_DATABASE: &str = "loader";
/// Connections of mydumper and of myloader; readers of ours beside them.
const THREADS: usize = 2;

/// From MariaDB into PostgreSQL: two comparisons, from the same runs of ours.
pub fn run(bench: &mut Bench) -> anyhow::Result<Vec<Row>> {
    let rows = bench.scaled(2_000_000, 200_000);
    let (source, pg_source, target) = (world::mariadb()?, world::postgres_source()?, world::postgres()?);
    println!("  writing {rows} rows at both sources");
    world::fill_mariadb(&source, rows)?;
    world::fill_postgres(&pg_source, rows)?;
    let sums = (Server::My(&source).source_sum()?, Server::Pg(&pg_source).source_sum()?);
    let binary = bench.binary.clone();
    let pipeline = Ours::new(&binary, Server::My(&source), Server::Pg(&target), "load", "t")?;
    let has_pgloader = bench.has("pgloader");
    let (mut ours, mut loader, mut pipe) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..bench.rounds() {
        ours.push(load(&pipeline, round, rows, &sums.0)?);

        let run = copy_pipe(&pg_source, &target)?;
        ensure_equal("t", &sums.1, &target.try_sql_in(PIPE_DATABASE, &work::postgres_sum("public"))?)?;
        say(round, "COPY pipe", rows, &run);
        pipe.push(run);

        if has_pgloader {
            let run = pgloader(&pipeline, &source, &target)?;
            ensure_equal("t", &sums.0, &target.try_sql_in(LOADER_DATABASE, &work::postgres_sum("bench"))?)?;
            say(round, "pgloader", rows, &run);
            loader.push(run);
        }
    }
    let what = format!("full load of {}k rows, key included", rows / 1000);
    let about = |name, beside, goal| about(name, &what, beside, goal);
    Ok(vec![
        Row::of_runs(&about("load-pgloader", "pgloader", 3.5), rows, &ours, &loader)?,
        Row::of_runs(&about("load-copy", "binary COPY pipe", 1.2), rows, &ours, &pipe)?,
    ])
}

fn about<'a>(name: &'a str, what: &'a str, beside: &'a str, goal: f64) -> About<'a> {
    About { name, what, unit: "rows/s", beside, goal, goal_of: GoalOf::Ratio, better: Better::More }
}

/// From PostgreSQL into PostgreSQL, with one reader and with two.
pub fn postgres(bench: &mut Bench) -> anyhow::Result<Vec<Row>> {
    let rows = bench.scaled(2_000_000, 200_000);
    let (source, target) = (world::postgres_source()?, world::postgres()?);
    println!("  writing {rows} rows at the source");
    world::fill_postgres(&source, rows)?;
    let sum = Server::Pg(&source).source_sum()?;
    let binary = bench.binary.clone();
    let pipeline =
        |readers| Ours::with_readers(&binary, Server::Pg(&source), Server::Pg(&target), "load", "t", readers);
    let (one, two) = (pipeline(1)?, pipeline(2)?);
    let (mut ours_one, mut ours_two, mut pipe) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..bench.rounds() {
        ours_one.push(load(&one, round, rows, &sum)?);
        ours_two.push(load(&two, round, rows, &sum)?);
        let run = copy_pipe(&source, &target)?;
        ensure_equal("t", &sum, &target.try_sql_in(PIPE_DATABASE, &work::postgres_sum("public"))?)?;
        say(round, "COPY pipe", rows, &run);
        pipe.push(run);
    }
    let row = |name, readers: &str, goal, ours: &[Run]| {
        let what = format!("PostgreSQL to PostgreSQL, load of {}k rows, {readers}", rows / 1000);
        Row::of_runs(&about(name, &what, "binary COPY pipe", goal), rows, ours, &pipe)
    };
    Ok(vec![
        row("load-postgres-1", "one reader", 0.9, &ours_one)?,
        row("load-postgres-2", "two readers", 1.0, &ours_two)?,
    ])
}

/// From MariaDB into MariaDB.
pub fn mariadb(bench: &mut Bench) -> anyhow::Result<Vec<Row>> {
    let rows = bench.scaled(2_000_000, 200_000);
    let (source, target) = (world::mariadb()?, world::mariadb_target()?);
    println!("  writing {rows} rows at the source");
    world::fill_mariadb(&source, rows)?;
    let sum = Server::My(&source).source_sum()?;
    let binary = bench.binary.clone();
    let (from, to) = (Server::My(&source), Server::My(&target));
    let pipeline = Ours::with_readers(&binary, from, to, "load", "t", THREADS)?;
    let has_peer = bench.has("mydumper") && bench.has("myloader");
    let (mut ours, mut peer) = (Vec::new(), Vec::new());
    for round in 0..bench.rounds() {
        ours.push(load(&pipeline, round, rows, &sum)?);
        if has_peer {
            let run = dump_and_load(&pipeline, &source, &target)?;
            ensure_equal("t", &sum, &target.try_sql(&work::mariadb_sum(LOADER_DATABASE))?)?;
            say(round, "mydumper and myloader", rows, &run);
            peer.push(run);
        }
    }
    let what = format!("MariaDB to MariaDB, load of {}k rows, {THREADS} readers", rows / 1000);
    Ok(vec![Row::of_runs(&about("load-mariadb", &what, "mydumper + myloader", 1.5), rows, &ours, &peer)?])
}

fn load(pipeline: &Ours<'_>, round: usize, rows: u64, sum: &str) -> anyhow::Result<Run> {
    pipeline.forget()?;
    let meter = pipeline.meter();
    let (usage, _) = run_to_end("freshet run", &mut pipeline.command("run", &[]))?;
    let mut run = meter.stop();
    run.parts.push(("freshet", usage));
    ensure_equal("t", sum, &pipeline.target().target_sum()?)?;
    say(round, "freshet", rows, &run);
    Ok(run)
}

/// Chunks of the size that ours has, so that both threads have work.
fn dump_and_load(pipeline: &Ours<'_>, source: &MyServer, target: &MyServer) -> anyhow::Result<Run> {
    target
        .try_sql(&format!("drop database if exists {LOADER_DATABASE}; drop database if exists {DATABASE}"))?;
    let dir = pipeline.dir().join("dump");
    let connect = |port: u16| {
        let threads = format!("--threads={THREADS}");
        ["--host=127.0.0.1", "--user=freshet", "--password=freshet"]
            .map(str::to_owned)
            .into_iter()
            .chain([format!("--port={port}"), threads])
    };
    let meter = Meter::start(&[("source", Server::My(source)), ("target", Server::My(target))]);
    let mut dump = tied("mydumper");
    dump.args(connect(source.port())).args(["--database=bench", "--tables-list=t", "--rows=250000"]);
    dump.arg(format!("--outputdir={}", text(&dir)));
    let (dump_usage, _) = run_to_end("mydumper", &mut dump)?;
    let mut load = tied("myloader");
    load.args(connect(target.port())).arg(format!("--database={LOADER_DATABASE}"));
    load.arg(format!("--directory={}", text(&dir)));
    let (load_usage, _) = run_to_end("myloader", &mut load)?;
    let mut run = meter.stop();
    run.parts.extend([("mydumper", dump_usage), ("myloader", load_usage)]);
    std::fs::remove_dir_all(&dir).context("Cannot remove the dump")?;
    Ok(run)
}

fn copy_pipe(source: &Postgres, target: &Postgres) -> anyhow::Result<Run> {
    world::database(target, PIPE_DATABASE, None)?;
    target.try_sql_in(PIPE_DATABASE, work::POSTGRES_TABLES)?;
    let psql = |port: u16, database: &str, sql: &str| {
        format!("psql -X -q -v ON_ERROR_STOP=1 -h 127.0.0.1 -p {port} -U postgres -d {database} -c '{sql}'")
    };
    let script = format!(
        "{} | {}",
        psql(source.port(), "bench", "copy t to stdout (format binary)"),
        psql(target.port(), PIPE_DATABASE, "copy t from stdin (format binary)")
    );
    let meter = Meter::start(&[("source", Server::Pg(source)), ("target", Server::Pg(target))]);
    let (usage, _) = run_to_end("the COPY pipe", tied("sh").args(["-c", &script]))?;
    let mut run = meter.stop();
    run.parts.push(("psql", usage));
    Ok(run)
}

/// pgloader cannot translate MariaDB's `default current_timestamp(3)`; a rule drops it. With its default of 100,000
/// prefetched rows its heap overflowed where the target was slow.
fn pgloader(pipeline: &Ours<'_>, source: &MyServer, target: &Postgres) -> anyhow::Result<Run> {
    world::database(target, LOADER_DATABASE, None)?;
    let file = pipeline.dir().join("bench.load");
    let script = format!(
        "load database from mysql://freshet:freshet@127.0.0.1:{}/bench\n\
         into postgresql://postgres@127.0.0.1:{}/{LOADER_DATABASE}\n\
         with include drop, create tables, create indexes, reset sequences, prefetch rows = 25000\n\
         cast column t.updated to timestamptz drop default\n\
         including only table names matching 't';\n",
        source.port(),
        target.port()
    );
    std::fs::write(&file, script).context("Cannot write pgloader's file")?;
    let meter = Meter::start(&[("source", Server::My(source)), ("target", Server::Pg(target))]);
    let root = format!("--root-dir={}", text(&pipeline.dir().join("pgloader")));
    let (usage, _) = run_to_end("pgloader", tied("pgloader").arg(root).arg(&file))?;
    let mut run = meter.stop();
    run.parts.push(("pgloader", usage));
    Ok(run)
}
