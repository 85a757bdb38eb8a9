//! Full load of `t`, its key included, beside pgloader and beside PostgreSQL's own binary COPY pipe.
//!
//! freshet and pgloader read the same MariaDB and make the table; the COPY pipe reads the same rows from a
//! PostgreSQL into an empty table that has its key, and converts nothing.

use anyhow::Context as _;
use freshet_testkit::servers::{MyServer, Postgres};

use super::measure::{Meter, Run, Server, run_to_end, tied};
use super::ours::{DATABASE, Ours};
use super::report::{About, Better, GoalOf, Row};
use super::{Bench, ensure_equal, say, text, work, world};

const PIPE_DATABASE: &str = "pipe";
const LOADER_DATABASE: &str = "loader";

/// Both comparisons, from the same runs of ours.
pub fn run(bench: &mut Bench) -> anyhow::Result<Vec<Row>> {
    let rows = bench.scaled(2_000_000, 200_000);
    let (source, pg_source, target) = (world::mariadb()?, world::postgres_source()?, world::postgres()?);
    println!("  writing {rows} rows at both sources");
    world::fill_mariadb(&source, rows)?;
    world::fill_postgres(&pg_source, rows)?;
    let sums =
        (source.try_sql(work::MARIADB_SUM)?, pg_source.try_sql_in("bench", &work::postgres_sum("public"))?);
    let binary = bench.binary.clone();
    let pipeline = Ours::new(&binary, &source, &target, "load", "bench.t")?;
    let has_pgloader = bench.has("pgloader");
    let (mut ours, mut loader, mut pipe) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..bench.rounds() {
        let run = load(&pipeline, &source, &target)?;
        ensure_equal("t", &sums.0, &target.try_sql_in(DATABASE, &work::postgres_sum("public"))?)?;
        say(round, "freshet", rows, &run);
        ours.push(run);

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
    let about = |name, beside, goal| About {
        name,
        what: &what,
        unit: "rows/s",
        beside,
        goal,
        goal_of: GoalOf::Ratio,
        better: Better::More,
    };
    Ok(vec![
        Row::of_runs(&about("load-pgloader", "pgloader", 3.5), rows, &ours, &loader)?,
        Row::of_runs(&about("load-copy", "binary COPY pipe", 1.2), rows, &ours, &pipe)?,
    ])
}

fn load(pipeline: &Ours<'_>, source: &MyServer, target: &Postgres) -> anyhow::Result<Run> {
    pipeline.forget()?;
    let meter = Meter::start(&[("source", Server::My(source)), ("target", Server::Pg(target))]);
    let (usage, _) = run_to_end("freshet run", &mut pipeline.command("run", &[]))?;
    let mut run = meter.stop();
    run.parts.push(("freshet", usage));
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
