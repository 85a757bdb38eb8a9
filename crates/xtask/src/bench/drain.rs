//! Draining a backlog of changes, beside PostgreSQL's native subscription draining the same changes from a PostgreSQL.
//!
//! Each round starts from the same saved state; the clock runs from the start of the process (ours) or the enabling
//! of the subscription (peer) until the last row is visible in the target. The subscription's commits are not
//! synced (its default); freshet's are.

use freshet_testkit::servers::{MyServer, Postgres};

use super::measure::{Meter, Run, Server};
use super::ours::{DATABASE, Ours};
use super::report::{About, Better, GoalOf, Row};
use super::work::Backlog;
use super::{Bench, ensure_equal, say, work, world};

const DEADLINE_S: u64 = 600;
const PEER_DATABASE: &str = "subscriber";
const PEER_SAVED: &str = "subscriber_saved";

/// Inserts in transactions of 100 rows.
pub fn by_100(bench: &mut Bench) -> anyhow::Result<Vec<Row>> {
    let rows = bench.scaled(2_000_000, 100_000);
    run(bench, "drain-by-100", "backlog of inserts, 100 a transaction", 1.5, Backlog::By100(rows))
}

/// Single-row inserts.
pub fn singles(bench: &mut Bench) -> anyhow::Result<Vec<Row>> {
    let rows = bench.scaled(1_000_000, 50_000);
    run(bench, "drain-singles", "backlog of single-row inserts", 2.5, Backlog::Singles(rows))
}

/// Single-row updates by key.
pub fn updates(bench: &mut Bench) -> anyhow::Result<Vec<Row>> {
    let backlog =
        Backlog::Updates { rows: bench.scaled(600_000, 30_000), over: bench.scaled(1_000_000, 100_000) };
    run(bench, "drain-updates", "backlog of single-row updates", 2.5, backlog)
}

fn run(bench: &mut Bench, name: &str, what: &str, goal: f64, backlog: Backlog) -> anyhow::Result<Vec<Row>> {
    let (source, pg_source, target) = (world::mariadb()?, world::postgres_source()?, world::postgres()?);
    let binary = bench.binary.clone();
    let pipeline = Ours::new(&binary, &source, &target, "load-and-stream", "bench.*")?;
    let sums = write(&pipeline, &source, &pg_source, &target, backlog)?;
    let (mut ours, mut peer) = (Vec::new(), Vec::new());
    for round in 0..bench.rounds() {
        let run = freshet(&pipeline, &source, &target)?;
        ensure_equal("t", &sums.0, &target.try_sql_in(DATABASE, &work::postgres_sum("public"))?)?;
        say(round, "freshet", backlog.rows(), &run);
        ours.push(run);

        let run = subscription(&pg_source, &target)?;
        ensure_equal("t", &sums.1, &target.try_sql_in(PEER_DATABASE, &work::postgres_sum("public"))?)?;
        say(round, "subscription", backlog.rows(), &run);
        peer.push(run);
    }
    let about = About {
        name,
        what,
        unit: "rows/s",
        beside: "native subscription",
        goal,
        goal_of: GoalOf::Ratio,
        better: Better::More,
    };
    Ok(vec![Row::of_runs(&about, backlog.rows(), &ours, &peer)?])
}

/// Both targets at the state before the backlog, then the backlog at both sources; their sums at the end.
fn write(
    pipeline: &Ours<'_>,
    source: &MyServer,
    pg_source: &Postgres,
    target: &Postgres,
    backlog: Backlog,
) -> anyhow::Result<(String, String)> {
    println!("  writing {} rows and {} changes at both sources", backlog.rows_before(), backlog.rows());
    world::fill_mariadb(source, backlog.rows_before())?;
    pipeline.catch_up()?;
    pipeline.save()?;
    world::write_mariadb(source, backlog)?;

    world::fill_postgres(pg_source, backlog.rows_before())?;
    world::database(target, PEER_SAVED, None)?;
    target.try_sql_in(PEER_SAVED, work::POSTGRES_TABLES)?;
    if backlog.rows_before() > 0 {
        let dump = pg_source.dir().join("before.copy");
        pg_source.try_sql_in("bench", &format!("copy t to '{}' (format binary)", dump.display()))?;
        let from = format!("copy t from '{}' (format binary);\nvacuum analyze t", dump.display());
        target.try_sql_in(PEER_SAVED, &from)?;
        std::fs::remove_file(&dump)?;
    }
    pg_source.try_sql_in("bench", "select pg_create_logical_replication_slot('before', 'pgoutput')")?;
    world::write_postgres(pg_source, backlog)?;
    Ok((source.try_sql(work::MARIADB_SUM)?, pg_source.try_sql_in("bench", &work::postgres_sum("public"))?))
}

fn freshet(pipeline: &Ours<'_>, source: &MyServer, target: &Postgres) -> anyhow::Result<Run> {
    pipeline.restore()?;
    let meter = Meter::start(&[("source", Server::My(source)), ("target", Server::Pg(target))]);
    let process = pipeline.start(&[]);
    let visible = world::wait_for_mark(target, DATABASE, 1, DEADLINE_S);
    let usage = process.usage();
    let visible = match visible {
        Ok(visible) => visible,
        Err(error) => return Err(error.context(format!("freshet said: {}", process.stderr()))),
    };
    let mut run = meter.stop_at(visible);
    run.parts.push(("freshet", usage));
    pipeline.stop(&process)?;
    Ok(run)
}

fn subscription(source: &Postgres, target: &Postgres) -> anyhow::Result<Run> {
    world::database(target, PEER_DATABASE, Some(PEER_SAVED))?;
    source.try_sql_in("bench", "select pg_copy_logical_replication_slot('before', 'round')")?;
    let connection = format!("host=127.0.0.1 port={} user=postgres dbname=bench", source.port());
    target.try_sql_in(
        PEER_DATABASE,
        &format!(
            "create subscription round connection '{connection}' publication pub \
             with (slot_name = round, create_slot = false, copy_data = false, enabled = false)"
        ),
    )?;
    let meter = Meter::start(&[("source", Server::Pg(source)), ("target", Server::Pg(target))]);
    target.try_sql_in(PEER_DATABASE, "alter subscription round enable")?;
    let visible = world::wait_for_mark(target, PEER_DATABASE, 1, DEADLINE_S)?;
    let run = meter.stop_at(visible);
    world::drop_subscription(target, PEER_DATABASE, "round")?;
    world::drop_slot(source, "round")?;
    Ok(run)
}
