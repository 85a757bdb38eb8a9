//! Draining a backlog of changes, beside the servers' own replication draining the same changes.
//!
//! Each round starts from the same saved state; the clock runs from the start of the process (ours) or of the
//! replication (peer) until the last row is visible in the target. The subscription's commits are not synced (its
//! default); freshet's and the replica's are.

use anyhow::Context as _;
use freshet_testkit::servers::{MyServer, Postgres};

use super::measure::{Meter, Run, Server};
use super::ours::Ours;
use super::report::{About, Better, GoalOf, Row};
use super::work::Backlog;
use super::{Bench, ensure_equal, say, work, world};

const DEADLINE_S: u64 = 600;
const PEER_DATABASE: &str = "subscriber";
const PEER_SAVED: &str = "subscriber_saved";
const SUBSCRIPTION: &str = "native subscription";
const REPLICA: &str = "native replica, 4 threads";

/// MariaDB to PostgreSQL, inserts in transactions of 100 rows.
pub fn by_100(bench: &mut Bench) -> anyhow::Result<Vec<Row>> {
    let rows = bench.scaled(2_000_000, 100_000);
    let about = about("drain-by-100", "backlog of inserts, 100 a transaction", SUBSCRIPTION, 1.5);
    from_mariadb(bench, &about, Backlog::By100(rows))
}

/// MariaDB to PostgreSQL, single-row inserts.
pub fn singles(bench: &mut Bench) -> anyhow::Result<Vec<Row>> {
    let rows = bench.scaled(1_000_000, 50_000);
    let about = about("drain-singles", "backlog of single-row inserts", SUBSCRIPTION, 2.5);
    from_mariadb(bench, &about, Backlog::Singles(rows))
}

/// MariaDB to PostgreSQL, single-row updates by key.
pub fn updates(bench: &mut Bench) -> anyhow::Result<Vec<Row>> {
    let about = about("drain-updates", "backlog of single-row updates", SUBSCRIPTION, 2.5);
    let backlog = updates_of(bench);
    from_mariadb(bench, &about, backlog)
}

/// PostgreSQL to PostgreSQL: the three backlogs.
pub fn postgres(bench: &mut Bench) -> anyhow::Result<Vec<Row>> {
    let by_100 = Backlog::By100(bench.scaled(2_000_000, 100_000));
    let singles = Backlog::Singles(bench.scaled(1_000_000, 50_000));
    let updates = updates_of(bench);
    let parts = [
        ("drain-postgres-by-100", "inserts, 100 a transaction", 1.5, by_100),
        ("drain-postgres-singles", "single-row inserts", 2.5, singles),
        ("drain-postgres-updates", "single-row updates", 2.5, updates),
    ];
    let mut rows = Vec::new();
    for (name, what, goal, backlog) in parts {
        let what = format!("PostgreSQL to PostgreSQL, backlog of {what}");
        rows.extend(from_postgres(bench, &about(name, &what, SUBSCRIPTION, goal), backlog)?);
    }
    Ok(rows)
}

/// MariaDB to MariaDB: inserts by 100, and single rows, of which the replica takes far longer.
pub fn mariadb(bench: &mut Bench) -> anyhow::Result<Vec<Row>> {
    let by_100 = Backlog::By100(bench.scaled(1_000_000, 100_000));
    let singles = Backlog::Singles(bench.scaled(200_000, 20_000));
    let parts = [
        ("drain-mariadb-by-100", "inserts, 100 a transaction", 0.8, by_100),
        ("drain-mariadb-singles", "single-row inserts", 10.0, singles),
    ];
    let mut rows = Vec::new();
    for (name, what, goal, backlog) in parts {
        let what = format!("MariaDB to MariaDB, backlog of {what}");
        rows.extend(into_mariadb(bench, &about(name, &what, REPLICA, goal), backlog)?);
    }
    Ok(rows)
}

fn updates_of(bench: &Bench) -> Backlog {
    Backlog::Updates { rows: bench.scaled(600_000, 30_000), over: bench.scaled(1_000_000, 100_000) }
}

fn about<'a>(name: &'a str, what: &'a str, beside: &'a str, goal: f64) -> About<'a> {
    About { name, what, unit: "rows/s", beside, goal, goal_of: GoalOf::Ratio, better: Better::More }
}

fn from_mariadb(bench: &mut Bench, about: &About<'_>, backlog: Backlog) -> anyhow::Result<Vec<Row>> {
    let (source, pg_source, target) = (world::mariadb()?, world::postgres_source()?, world::postgres()?);
    let binary = bench.binary.clone();
    let pipeline = Ours::new(&binary, Server::My(&source), Server::Pg(&target), "load-and-stream", "*")?;
    let sum = write(&pipeline, Server::My(&source), backlog)?;
    let before = || Server::Pg(&pg_source).fill(backlog.rows_before());
    let peer_sum = write_for_subscription(&pg_source, &target, backlog, before)?;
    let peer = || subscription(&pg_source, &target);
    let peer_found = || Ok(target.try_sql_in(PEER_DATABASE, &work::postgres_sum("public"))?);
    rounds(bench, about, backlog, &pipeline, &sum, Peer { run: &peer, sum: &peer_sum, found: &peer_found })
}

fn from_postgres(bench: &mut Bench, about: &About<'_>, backlog: Backlog) -> anyhow::Result<Vec<Row>> {
    let (source, target) = (world::postgres_source()?, world::postgres()?);
    let binary = bench.binary.clone();
    let pipeline = Ours::new(&binary, Server::Pg(&source), Server::Pg(&target), "load-and-stream", "*")?;
    // One backlog for both: the pipeline is at the state before it, and so is the subscriber.
    let before = || {
        Server::Pg(&source).fill(backlog.rows_before())?;
        pipeline.catch_up()?;
        pipeline.save()
    };
    let sum = write_for_subscription(&source, &target, backlog, before)?;
    let peer = || subscription(&source, &target);
    let peer_found = || Ok(target.try_sql_in(PEER_DATABASE, &work::postgres_sum("public"))?);
    rounds(bench, about, backlog, &pipeline, &sum, Peer { run: &peer, sum: &sum, found: &peer_found })
}

fn into_mariadb(bench: &mut Bench, about: &About<'_>, backlog: Backlog) -> anyhow::Result<Vec<Row>> {
    let (source, target, replica) = (world::mariadb()?, world::mariadb_target()?, world::mariadb_target()?);
    let binary = bench.binary.clone();
    let pipeline = Ours::new(&binary, Server::My(&source), Server::My(&target), "load-and-stream", "*")?;
    replica.try_sql(work::MARIADB)?;
    let start = source.try_sql("select @@gtid_binlog_pos")?;
    let sum = write(&pipeline, Server::My(&source), backlog)?;
    let peer = || replicate(&source, &replica, start.trim());
    let found = || Ok(replica.try_sql(&work::mariadb_sum("bench"))?);
    rounds(bench, about, backlog, &pipeline, &sum, Peer { run: &peer, sum: &sum, found: &found })
}

/// The other side of a comparison.
struct Peer<'a> {
    run: &'a dyn Fn() -> anyhow::Result<Run>,
    sum: &'a str,
    found: &'a dyn Fn() -> anyhow::Result<String>,
}

fn rounds(
    bench: &Bench,
    about: &About<'_>,
    backlog: Backlog,
    pipeline: &Ours<'_>,
    sum: &str,
    peer: Peer<'_>,
) -> anyhow::Result<Vec<Row>> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..bench.rounds() {
        pipeline.restore()?;
        let run = pipeline.until_mark(1, DEADLINE_S)?;
        ensure_equal("t", sum, &pipeline.target().target_sum()?)?;
        say(round, "freshet", backlog.rows(), &run);
        ours.push(run);

        let run = (peer.run)()?;
        ensure_equal("t", peer.sum, &(peer.found)()?)?;
        say(round, about.beside, backlog.rows(), &run);
        theirs.push(run);
    }
    Ok(vec![Row::of_runs(about, backlog.rows(), &ours, &theirs)?])
}

/// Our target at the state before the backlog, then the backlog; the sum at its end.
fn write(pipeline: &Ours<'_>, source: Server<'_>, backlog: Backlog) -> anyhow::Result<String> {
    println!("  writing {} rows and {} changes at the source", backlog.rows_before(), backlog.rows());
    source.fill(backlog.rows_before())?;
    pipeline.catch_up()?;
    pipeline.save()?;
    source.write(backlog)?;
    source.source_sum()
}

/// The subscriber at the state that `before` makes at the source, then the backlog; the sum at its end.
fn write_for_subscription(
    source: &Postgres,
    target: &Postgres,
    backlog: Backlog,
    before: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<String> {
    println!("  writing {} rows and {} changes at a PostgreSQL", backlog.rows_before(), backlog.rows());
    before()?;
    world::database(target, PEER_SAVED, None)?;
    target.try_sql_in(PEER_SAVED, work::POSTGRES_TABLES)?;
    if backlog.rows_before() > 0 {
        let dump = source.dir().join("before.copy");
        source.try_sql_in("bench", &format!("copy t to '{}' (format binary)", dump.display()))?;
        let from = format!("copy t from '{}' (format binary);\nvacuum analyze t", dump.display());
        target.try_sql_in(PEER_SAVED, &from)?;
        std::fs::remove_file(&dump)?;
    }
    source.try_sql_in("bench", "select pg_create_logical_replication_slot('before', 'pgoutput')")?;
    world::write_postgres(source, backlog)?;
    Server::Pg(source).source_sum()
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

/// From empty tables at a position: fetched and applied at once, as ours is.
fn replicate(source: &MyServer, replica: &MyServer, start: &str) -> anyhow::Result<Run> {
    replica.try_sql(&world::change_master(source, start, 4))?;
    let meter = Meter::start(&[("source", Server::My(source)), ("target", Server::My(replica))]);
    replica.try_sql("start slave")?;
    let visible = world::wait_for_mark_mariadb(replica, "bench", 1, DEADLINE_S).with_context(|| {
        format!("The replica said: {}", replica.try_sql("show slave status").unwrap_or_default())
    })?;
    let run = meter.stop_at(visible);
    replica.try_sql("stop slave")?;
    Ok(run)
}
