//! From the return of a commit at the source to the row being visible in the target, beside the servers' own replication.
//!
//! Writers at the source commit single rows at a steady rate and note the time after each commit; a poller on the
//! target looks without pause for what is new and notes the time. Both clocks are the machine's. The first second
//! of a round is left out. freshet's log and target are synced; the subscription's commits are not (its default).
//! A MariaDB's poller looks for the rows of one writer.

use std::collections::HashMap;

use anyhow::{Context as _, ensure};
use freshet_testkit::servers::{MyServer, Postgres, SqlJob};

use super::ends::DATABASE;
use super::measure::{Meter, Run, Server};
use super::ours::Ours;
use super::report::{About, Better, GoalOf, Row, Spread};
use super::{Bench, work, world};

const DEADLINE_S: u64 = 120;
const PEER_DATABASE: &str = "subscriber";
const P50_MS_MAX: f64 = 3.0;
const P99_MS_MAX: f64 = 10.0;
/// Rows a second of one writer: one connection cannot commit more, each commit being synced.
const WRITER_RATE_MAX: u64 = 250;
/// Ids of a writer, and of a round.
const WRITER_IDS: u64 = 10_000_000;
const ROUND_IDS: u64 = 1_000_000_000;

/// One round's writers.
#[derive(Clone, Copy)]
struct Pace {
    rate: u64,
    seconds: u64,
    base: u64,
}

impl Pace {
    fn writers(self) -> u64 {
        self.rate.div_ceil(WRITER_RATE_MAX)
    }

    fn rows_each(self) -> u64 {
        self.rate * self.seconds / self.writers()
    }

    fn interval_us(self) -> u64 {
        1_000_000 * self.writers() / self.rate
    }

    fn first_id(self, writer: u64) -> u64 {
        self.base + writer * WRITER_IDS
    }
}

/// One round.
struct Round {
    p50_ms: f64,
    p99_ms: f64,
    rows: u64,
    /// Rows a second that the writers reached, and were meant to.
    rate: f64,
    wanted: f64,
    run: Run,
}

/// From MariaDB into PostgreSQL, at 200 and at 1,000 rows a second.
pub fn run(bench: &mut Bench) -> anyhow::Result<Vec<Row>> {
    let (source, pg_source, target) = (world::mariadb()?, world::postgres_source()?, world::postgres()?);
    let binary = bench.binary.clone();
    let pipeline = Ours::new(&binary, Server::My(&source), Server::Pg(&target), "load-and-stream", "*")?;
    let peer = Subscription { source: &pg_source, target: &target };
    measure(bench, "latency", "commit to visible", &pipeline, &peer, &[200, 1_000])
}

/// From PostgreSQL into PostgreSQL, at 200 rows a second.
pub fn postgres(bench: &mut Bench) -> anyhow::Result<Vec<Row>> {
    let (source, target) = (world::postgres_source()?, world::postgres()?);
    let binary = bench.binary.clone();
    let pipeline = Ours::new(&binary, Server::Pg(&source), Server::Pg(&target), "load-and-stream", "*")?;
    let peer = Subscription { source: &source, target: &target };
    measure(
        bench,
        "latency-postgres",
        "PostgreSQL to PostgreSQL, commit to visible",
        &pipeline,
        &peer,
        &[200],
    )
}

/// From MariaDB into MariaDB, at 200 rows a second.
pub fn mariadb(bench: &mut Bench) -> anyhow::Result<Vec<Row>> {
    let (source, target, replica) = (world::mariadb()?, world::mariadb_target()?, world::mariadb_target()?);
    let binary = bench.binary.clone();
    let pipeline = Ours::new(&binary, Server::My(&source), Server::My(&target), "load-and-stream", "*")?;
    let peer = Replica { source: &source, replica: &replica };
    measure(bench, "latency-mariadb", "MariaDB to MariaDB, commit to visible", &pipeline, &peer, &[200])
}

/// The servers' own replication, off but while it is measured.
trait Peer {
    fn beside(&self) -> &'static str;
    /// Makes it, off.
    fn make(&self) -> anyhow::Result<()>;
    fn switch(&self, on: bool) -> anyhow::Result<()>;
    fn source(&self) -> Server<'_>;
    fn target(&self) -> Server<'_>;
    /// Database of its tables on the target.
    fn database(&self) -> &'static str;
}

fn measure(
    bench: &mut Bench,
    name: &str,
    what: &str,
    pipeline: &Ours<'_>,
    peer: &dyn Peer,
    rates: &[u64],
) -> anyhow::Result<Vec<Row>> {
    pipeline.catch_up()?;
    peer.make()?;
    let seconds = bench.scaled(20, 5);
    let mut rows = Vec::new();
    let mut number = 0;
    for &rate in rates {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..bench.rounds() {
            number += 1;
            // One source may serve both sides: no id is used twice.
            let pace = |turn: u64| Pace { rate, seconds, base: (2 * number + turn) * ROUND_IDS };
            ours.push(say("freshet", by_freshet(pipeline, pace(0), 2 * number)?));
            theirs.push(say(peer.beside(), by_peer(peer, pace(1), 2 * number + 1)?));
        }
        rows.extend(rows_of(
            &format!("{name}-{rate}"),
            &format!("{what}, {rate} rows/s"),
            peer.beside(),
            &ours,
            &theirs,
        )?);
    }
    Ok(rows)
}

fn say(who: &str, round: Round) -> Round {
    let Round { p50_ms, p99_ms, rate, run, .. } = &round;
    println!("  {rate:.0}/s {who}: p50 {p50_ms:.2} ms, p99 {p99_ms:.2} ms, CPU {:.1} s", run.cpu_s());
    round
}

fn rows_of(name: &str, what: &str, beside: &str, ours: &[Round], peer: &[Round]) -> anyhow::Result<[Row; 2]> {
    let row = |percentile: &str, goal: f64, get: fn(&Round) -> f64| {
        let (name, what) = (format!("{name}-{percentile}"), format!("{what}, {percentile}"));
        let about = About {
            name: &name,
            what: &what,
            unit: "ms",
            beside,
            goal,
            goal_of: GoalOf::Ours,
            better: Better::Less,
        };
        let spread = |rounds: &[Round]| Spread::of(&rounds.iter().map(get).collect::<Vec<_>>());
        let rows = ours.first().map_or(0, |round| round.rows);
        let mut row =
            Row::new(&about, spread(ours).context("No round of ours")?, spread(peer), rows, ours.len());
        let runs = |rounds: &[Round]| rounds.iter().map(|round| round.run.clone()).collect::<Vec<_>>();
        row.add_costs(&runs(ours), &runs(peer));
        let reached = ours.iter().chain(peer).map(|round| round.rate / round.wanted).fold(f64::MAX, f64::min);
        if reached < 0.95 {
            row.notes.push(format!("the writers reached only {:.0} % of their pace", reached * 100.0));
        }
        anyhow::Ok(row)
    };
    Ok([row("p50", P50_MS_MAX, |round| round.p50_ms)?, row("p99", P99_MS_MAX, |round| round.p99_ms)?])
}

fn by_freshet(pipeline: &Ours<'_>, pace: Pace, mark: u64) -> anyhow::Result<Round> {
    let process = pipeline.start(&[]);
    pipeline.source().write_mark(mark)?;
    let arrived = pipeline.target().wait_for_mark(mark, DEADLINE_S);
    arrived.with_context(|| format!("freshet said: {}", process.stderr()))?;
    let before = process.usage().cpu_s;
    let meter = pipeline.meter();
    let (committed, seen) = write_and_look(pipeline.source(), pipeline.target(), DATABASE, pace)?;
    let mut run = meter.stop();
    let mut usage = process.usage();
    usage.cpu_s -= before;
    run.parts.push(("freshet", usage));
    pipeline.stop(&process)?;
    round(pace, &committed, &seen, run)
}

fn by_peer(peer: &dyn Peer, pace: Pace, mark: u64) -> anyhow::Result<Round> {
    peer.switch(true)?;
    peer.source().write_mark(mark)?;
    match peer.target() {
        Server::My(server) => world::wait_for_mark_mariadb(server, peer.database(), mark, DEADLINE_S)?,
        Server::Pg(server) => world::wait_for_mark(server, peer.database(), mark, DEADLINE_S)?,
    };
    let meter = Meter::start(&[("source", peer.source()), ("target", peer.target())]);
    let (committed, seen) = write_and_look(peer.source(), peer.target(), peer.database(), pace)?;
    let run = meter.stop();
    peer.switch(false)?;
    round(pace, &committed, &seen, run)
}

/// When each row was committed, and when it was seen.
fn write_and_look(
    from: Server<'_>,
    to: Server<'_>,
    database: &str,
    pace: Pace,
) -> anyhow::Result<(Times, Times)> {
    let poller = match to {
        Server::My(server) => server.spawn_sql(&mariadb_poller(database, pace)),
        Server::Pg(server) => server.spawn_sql(database, &poller(pace)),
    };
    let writer = |writer| match from {
        Server::My(server) => server.spawn_sql(&mariadb_writer(pace, writer)),
        Server::Pg(server) => server.spawn_sql("bench", &postgres_writer(pace, writer)),
    };
    finish((0..pace.writers()).map(writer).collect(), poller)
}

struct Subscription<'a> {
    source: &'a Postgres,
    target: &'a Postgres,
}

impl Peer for Subscription<'_> {
    fn beside(&self) -> &'static str {
        "native subscription"
    }

    fn make(&self) -> anyhow::Result<()> {
        world::database(self.target, PEER_DATABASE, None)?;
        self.target.try_sql_in(PEER_DATABASE, work::POSTGRES_TABLES)?;
        let slot = "select pg_create_logical_replication_slot('latency', 'pgoutput')";
        self.source.try_sql_in("bench", slot)?;
        let connection = format!("host=127.0.0.1 port={} user=postgres dbname=bench", self.source.port());
        let sql = format!(
            "create subscription latency connection '{connection}' publication pub \
             with (slot_name = latency, create_slot = false, copy_data = false, enabled = false)"
        );
        self.target.try_sql_in(PEER_DATABASE, &sql)?;
        Ok(())
    }

    fn switch(&self, on: bool) -> anyhow::Result<()> {
        let word = if on { "enable" } else { "disable" };
        self.target.try_sql_in(PEER_DATABASE, &format!("alter subscription latency {word}"))?;
        Ok(())
    }

    fn source(&self) -> Server<'_> {
        Server::Pg(self.source)
    }

    fn target(&self) -> Server<'_> {
        Server::Pg(self.target)
    }

    fn database(&self) -> &'static str {
        PEER_DATABASE
    }
}

struct Replica<'a> {
    source: &'a MyServer,
    replica: &'a MyServer,
}

impl Peer for Replica<'_> {
    fn beside(&self) -> &'static str {
        "native replica"
    }

    fn make(&self) -> anyhow::Result<()> {
        self.replica.try_sql(work::MARIADB)?;
        let start = self.source.try_sql("select @@gtid_binlog_pos")?;
        self.replica.try_sql(&world::change_master(self.source, start.trim(), 0))?;
        Ok(())
    }

    fn switch(&self, on: bool) -> anyhow::Result<()> {
        self.replica.try_sql(if on { "start slave" } else { "stop slave" })?;
        Ok(())
    }

    fn source(&self) -> Server<'_> {
        Server::My(self.source)
    }

    fn target(&self) -> Server<'_> {
        Server::My(self.replica)
    }

    fn database(&self) -> &'static str {
        "bench"
    }
}

type Times = HashMap<u64, f64>;

fn finish(writers: Vec<SqlJob>, poller: SqlJob) -> anyhow::Result<(Times, Times)> {
    let mut committed = Times::new();
    for writer in writers {
        committed.extend(times(&writer.wait()?)?);
    }
    Ok((committed, times(&poller.wait()?)?))
}

/// Lines of an id, a tab and seconds since 1970.
fn times(printed: &str) -> anyhow::Result<Times> {
    let parse = |line: &str| {
        let (id, at) = line.split_once('\t').with_context(|| format!("No id and time but {line:?}"))?;
        Ok((id.parse()?, at.parse()?))
    };
    printed.lines().filter(|line| !line.is_empty()).map(parse).collect()
}

fn round(pace: Pace, committed: &Times, seen: &Times, run: Run) -> anyhow::Result<Round> {
    ensure!(
        committed.len() == seen.len(),
        "{} rows were committed and {} seen in the target",
        committed.len(),
        seen.len()
    );
    let warm_up = 1_000_000 / pace.interval_us();
    let mut latencies_ms: Vec<f64> = Vec::new();
    for (id, at) in committed {
        let visible = seen.get(id).with_context(|| format!("Row {id} was never seen"))?;
        if id % WRITER_IDS > warm_up {
            latencies_ms.push((visible - at) * 1e3);
        }
    }
    latencies_ms.sort_by(f64::total_cmp);
    let at = |part: f64| {
        let index = (latencies_ms.len() as f64 * part) as usize;
        latencies_ms.get(index.min(latencies_ms.len().saturating_sub(1))).copied().unwrap_or(f64::MAX)
    };
    let (first, last) =
        committed.values().fold((f64::MAX, 0.0_f64), |(low, high), &t| (low.min(t), high.max(t)));
    let rate = committed.len() as f64 / (last - first);
    Ok(Round {
        p50_ms: at(0.5),
        p99_ms: at(0.99),
        rows: committed.len() as u64,
        rate,
        wanted: pace.rate as f64,
        run,
    })
}

/// Looks for new rows of each writer and keeps when it first saw them.
fn poller(pace: Pace) -> String {
    let (writers, rows, base) = (pace.writers(), pace.rows_each(), pace.base);
    format!(
        "create temp table seen (id bigint, at timestamptz);
        do $$ declare
            seen_up_to bigint[] := array_fill(0::bigint, array[{writers}]);
            newest bigint; low bigint; moment timestamptz; arrived int := 0;
            ids bigint[]; moments timestamptz[];
            stop timestamptz := clock_timestamp() + interval '{} s';
        begin loop
            for w in 1 .. {writers} loop
                low := {base}::bigint + (w - 1) * {WRITER_IDS}::bigint;
                select max(id) - low into newest from lat where id > low and id < low + {WRITER_IDS};
                if newest > seen_up_to[w] then
                    moment := clock_timestamp();
                    for i in seen_up_to[w] + 1 .. newest loop
                        ids := ids || (low + i);
                        moments := moments || moment;
                        arrived := arrived + 1;
                    end loop;
                    seen_up_to[w] := newest;
                end if;
            end loop;
            exit when arrived >= {writers} * {rows} or clock_timestamp() > stop;
            perform pg_sleep(0.0001);
        end loop;
        insert into seen select * from unnest(ids, moments);
        end $$;
        select id, extract(epoch from at) from seen;",
        pace.seconds * 2 + 10
    )
}

/// The same on a MariaDB, for one writer.
fn mariadb_poller(database: &str, pace: Pace) -> String {
    let (first, rows) = (pace.first_id(0), pace.rows_each());
    format!(
        "use {database};
        set session transaction isolation level read committed;
        create temporary table seen (id bigint, at decimal(20, 6)) engine = memory;
        delimiter //
        begin not atomic
            declare last, newest bigint default {first};
            declare moment decimal(20, 6);
            declare stop decimal(20, 6) default unix_timestamp(sysdate(6)) + {};
            repeat
                select coalesce(max(id), 0) into newest from lat where id > {first};
                if newest > last then
                    set moment = unix_timestamp(sysdate(6));
                    while last < newest do
                        set last = last + 1;
                        insert into seen values (last, moment);
                    end while;
                end if;
                do sleep(0.0001);
            until last >= {first} + {rows} or unix_timestamp(sysdate(6)) > stop end repeat;
        end //
        delimiter ;
        select id, at from seen;",
        pace.seconds * 2 + 10
    )
}

fn mariadb_writer(pace: Pace, writer: u64) -> String {
    let (first, rows, interval_us) = (pace.first_id(writer), pace.rows_each(), pace.interval_us());
    let offset_us = interval_us * writer / pace.writers();
    format!(
        "use bench;
        create temporary table done (id bigint, at decimal(20, 6)) engine = memory;
        delimiter //
        begin not atomic
            declare i bigint default 0;
            declare began decimal(20, 6) default unix_timestamp(sysdate(6)) + 0.5 + {offset_us} / 1000000;
            declare pause decimal(20, 6);
            while i < {rows} do
                set i = i + 1;
                set pause = began + i * {interval_us} / 1000000 - unix_timestamp(sysdate(6));
                if pause > 0 then do sleep(pause); end if;
                insert into lat values ({first} + i, repeat('x', 100));
                insert into done values ({first} + i, unix_timestamp(sysdate(6)));
            end while;
        end //
        delimiter ;
        select id, at from done;"
    )
}

fn postgres_writer(pace: Pace, writer: u64) -> String {
    let (first, rows, interval_us) = (pace.first_id(writer), pace.rows_each(), pace.interval_us());
    let offset_us = interval_us * writer / pace.writers();
    format!(
        "create temp table done (id bigint, at timestamptz);
        do $$ declare
            began timestamptz := clock_timestamp() + interval '0.5 s' + {offset_us} * interval '1 us';
            pause double precision; ids bigint[]; moments timestamptz[];
        begin
            for i in 1 .. {rows} loop
                pause := extract(epoch from began + i * {interval_us} * interval '1 us' - clock_timestamp());
                if pause > 0 then perform pg_sleep(pause); end if;
                insert into lat values ({first} + i, repeat('x', 100));
                commit;
                ids := ids || ({first} + i)::bigint;
                moments := moments || clock_timestamp();
            end loop;
            insert into done select * from unnest(ids, moments);
        end $$;
        select id, extract(epoch from at) from done;"
    )
}
