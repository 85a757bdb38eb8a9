//! `cargo xtask demo`: freshet copies a small shop from MariaDB to PostgreSQL while the shop is open, and is killed once.
//!
//! Everything is thrown away afterwards: servers, data, freshet's log. What is shown is freshet's own status; what
//! is compared at the end is text that the two servers' own clients print, every row of every table. Not a test: the
//! kill loop and the scenarios are. But a demo whose sides differ fails.
//!
//! Order: servers, shop, writers, load, stream, SIGKILL, restart, writers stop, drain, compare.

mod compare;
mod pipeline;
mod screen;
mod shop;
mod words;
mod writers;

use std::io::Read as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use freshet_testkit::servers::{Flavor, MyOptions, MyServer, Postgres, PostgresOptions, poll_until};

use crate::release;
use crate::setup::{self, Purpose};
use pipeline::{Phase, Pipeline};
use screen::{Screen, count, seconds};
use writers::{Done, Writers};

/// How long freshet streams before and after it is killed, and how long it is dead.
const STREAM_S: u64 = 8;
const DEAD_S: u64 = 3;
const PATIENCE: Duration = Duration::from_secs(180);

/// Runs the demo; with `keep` it then waits, with everything running, until it is told to end.
pub fn run(keep: bool) -> anyhow::Result<()> {
    setup::run(Purpose::Demo)?;
    let binary = release::build()?;
    let mut screen = Screen::new();
    screen.title("MariaDB -> freshet -> PostgreSQL: a shop that stays open, and a kill -9 in the middle");

    let (source, target) = start_servers(&mut screen)?;
    fill(&mut screen, &source)?;
    let writers = Writers::start(&source)?;
    screen.step(
        "Open",
        "The shop is open: two clients order, pay, ship, cancel and change prices until the end",
    );
    let mut pipeline = Pipeline::new(&binary, &source, &target)?;

    let story = play(&mut screen, &mut pipeline, writers)?;
    let compared = compare_sides(&mut screen, &source, &target)?;
    tell(&screen, &story, &compared);
    suggest(&source, &target, &pipeline, keep);
    if keep {
        stay(&mut pipeline)?;
    }
    Ok(())
}

/// What happened, for the summary.
struct Story {
    loaded_rows: u64,
    load: Duration,
    waiting: u64,
    caught_up: Duration,
    drained: Duration,
    written: Done,
}

fn start_servers(screen: &mut Screen) -> anyhow::Result<(MyServer, Postgres)> {
    screen.begin("Servers", "Starting a throwaway MariaDB and a throwaway PostgreSQL");
    let options = MyOptions::default().with_freshet_user().arg("--innodb-buffer-pool-size=256M");
    let source = MyServer::try_start(Flavor::MariaDb, options.arg("--innodb-log-file-size=128M"))?;
    let options = PostgresOptions::default().with_freshet_user().with_passwords().database("warehouse");
    let target = Postgres::try_start(&options.set("shared_buffers", "256MB"))?;
    let mariadb = source.try_sql("select substring_index(version(), '-', 1)")?;
    let postgres = target.try_sql("select split_part(current_setting('server_version'), ' ', 1)")?;
    let (from, to) = (source.port(), target.port());
    screen.step(
        "Servers",
        &format!("MariaDB {mariadb} on 127.0.0.1:{from}, PostgreSQL {postgres} on 127.0.0.1:{to}"),
    );
    Ok((source, target))
}

fn fill(screen: &mut Screen, source: &MyServer) -> anyhow::Result<()> {
    screen.begin("Shop", "Filling the shop with customers, products, orders, order lines and payments");
    source.try_sql(&shop::schema())?;
    source.try_sql(&shop::rows())?;
    let mut parts = Vec::new();
    let mut total = 0;
    for table in shop::TABLES {
        let rows: u64 = source.try_sql(&format!("select count(*) from shop.{}", table.name))?.parse()?;
        total += rows;
        parts.push(format!("{} {}", count(rows), table.words));
    }
    screen.step("Shop", &format!("{} rows: {}", count(total), parts.join(", ")));
    Ok(())
}

/// From the first start of freshet to the end of the writers with everything drained.
fn play(screen: &mut Screen, pipeline: &mut Pipeline, writers: Writers) -> anyhow::Result<Story> {
    let began = Instant::now();
    pipeline.start(&[])?;
    screen.step("Load", &format!("$ freshet run {}", pipeline.file_name()));
    let (loaded_rows, load) = show_load(screen, pipeline, &writers, began)?;
    show_stream(screen, pipeline, &writers, STREAM_S)?;

    pipeline.kill9();
    screen.step("Kill", &format!("SIGKILL to freshet; the shop goes on for {DEAD_S} s without it"));
    let before = writers.done().transactions;
    let died = Instant::now();
    poll_until(Duration::from_secs(DEAD_S), || {
        let waiting = count(writers.done().transactions - before);
        screen.draw(&format!("freshet is dead   {waiting} transactions are waiting for it"));
        died.elapsed().as_secs() >= DEAD_S
    });
    let waiting = writers.done().transactions - before;
    screen.settle();

    let restarted = Instant::now();
    pipeline.start(&[])?;
    screen.step("Restart", &format!("$ freshet run {}   (the same command again)", pipeline.file_name()));
    let caught_up = show_catching_up(screen, pipeline, &writers, restarted)?;
    show_stream(screen, pipeline, &writers, STREAM_S)?;
    screen.step("Status", &format!("$ freshet status {}   (from another shell)", pipeline.file_name()));
    screen.quote(&pipeline.status_text()?);

    let written = writers.stop()?;
    screen.step("Close", &format!("The shop closes after {} transactions", count(written.transactions)));
    pipeline.terminate()?;
    let draining = Instant::now();
    pipeline.start(&["--until", "caught-up"])?;
    pipeline.finish()?;
    let drained = draining.elapsed();
    screen.step("Drain", &format!("$ freshet run {} --until caught-up   exited 0", pipeline.file_name()));
    Ok(Story { loaded_rows, load, waiting, caught_up, drained, written })
}

fn show_load(
    screen: &mut Screen,
    pipeline: &mut Pipeline,
    writers: &Writers,
    began: Instant,
) -> anyhow::Result<(u64, Duration)> {
    let mut rows = 0;
    let mut done = false;
    poll_until(PATIENCE, || {
        let Some(status) = pipeline.status_if_due() else { return !pipeline.is_running() };
        rows = rows.max(status.rows_loaded);
        let pace = rows as f64 / began.elapsed().as_secs_f64();
        let of = count(status.rows_estimate.max(rows));
        screen.draw(&format!(
            "loading   {} of about {of} rows   {} rows/s   shop: {} transactions",
            count(rows),
            count(pace as u64),
            count(writers.done().transactions)
        ));
        done = matches!(status.phase, Phase::CatchingUp | Phase::Streaming);
        done
    });
    ensure!(done, "freshet has not loaded the shop:\n{}", pipeline.errors());
    writers.check()?;
    let took = began.elapsed();
    screen.settle();
    screen.step("Loaded", &format!("{} rows in {}, secondary indexes included", count(rows), seconds(took)));
    Ok((rows, took))
}

fn show_stream(
    screen: &mut Screen,
    pipeline: &mut Pipeline,
    writers: &Writers,
    for_s: u64,
) -> anyhow::Result<()> {
    let began = Instant::now();
    let (mut first, mut last) = (None, None);
    poll_until(PATIENCE, || {
        if let Some(status) = pipeline.status_if_due() {
            let (at, changes) = *first.get_or_insert((Instant::now(), status.changes()));
            let pace = (status.changes() - changes) as f64 / at.elapsed().as_secs_f64().max(0.1);
            let line = stream_line(&status, writers);
            screen.draw(&format!("{line}   {} changes/s", count(pace as u64)));
            last = Some(status);
        }
        let streams = last.as_ref().is_some_and(|status| status.phase == Phase::Streaming);
        (streams && began.elapsed().as_secs() >= for_s) || !pipeline.is_running()
    });
    ensure!(pipeline.is_running(), "freshet has stopped:\n{}", pipeline.errors());
    writers.check()?;
    screen.settle();
    Ok(())
}

fn stream_line(status: &pipeline::Status, writers: &Writers) -> String {
    format!(
        "{}   {} inserts, {} updates, {} deletes   lag {} ms   shop: {} transactions",
        status.phase.text(),
        count(status.inserts),
        count(status.updates),
        count(status.deletes),
        count(status.lag_ms),
        count(writers.done().transactions)
    )
}

/// Until the place that the source had at the restart is applied, which the target's lag shows.
fn show_catching_up(
    screen: &mut Screen,
    pipeline: &mut Pipeline,
    writers: &Writers,
    restarted: Instant,
) -> anyhow::Result<Duration> {
    let mut done = None;
    poll_until(PATIENCE, || {
        if let Some(status) = pipeline.status_if_due() {
            screen.draw(&stream_line(&status, writers));
            let follows = status.phase == Phase::Streaming && status.changes() > 0;
            if follows && status.lag_ms < 1_000 {
                done = Some(restarted.elapsed());
            }
        }
        done.is_some() || !pipeline.is_running()
    });
    screen.settle();
    done.with_context(|| format!("freshet did not catch up after its restart:\n{}", pipeline.errors()))
}

fn compare_sides(
    screen: &mut Screen,
    source: &MyServer,
    target: &Postgres,
) -> anyhow::Result<Vec<compare::Compared>> {
    let mut all = Vec::new();
    let mut differences = Vec::new();
    for table in shop::TABLES {
        screen.begin("Compare", &format!("Comparing {}", table.name));
        let compared = compare::table(source, target, table)?;
        differences.extend(compared.differences.iter().map(|text| format!("{}: {text}", table.name)));
        all.push(compared);
    }
    let rows: u64 = all.iter().map(|compared| compared.rows).sum();
    ensure!(differences.is_empty(), "The two sides differ:\n{}", differences.join("\n"));
    screen.step("Compare", &format!("{} rows printed by both clients, line by line: equal", count(rows)));
    Ok(all)
}

fn tell(screen: &Screen, story: &Story, compared: &[compare::Compared]) {
    println!("\n  table          rows       MariaDB = PostgreSQL");
    for table in compared {
        println!("  {:<12} {:>9}   equal, {} of text", table.name, count(table.rows), size(table.bytes));
    }
    let written = &story.written;
    println!("\nWhat happened, in {}:", seconds(screen.elapsed()));
    println!(
        "  - freshet copied {} rows in {} while the shop was being written to.",
        count(story.loaded_rows),
        seconds(story.load)
    );
    println!(
        "  - It followed {} transactions (some {} row changes), each whole and in commit order.",
        count(written.transactions),
        count(written.rows / 1_000 * 1_000)
    );
    println!(
        "  - It was killed without warning; {} transactions piled up, and {} after its restart it was up to date.",
        count(story.waiting),
        seconds(story.caught_up)
    );
    println!(
        "  - When the shop had closed it drained the rest in {}. No row is lost, none is double.",
        seconds(story.drained)
    );
}

fn size(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

fn suggest(source: &MyServer, target: &Postgres, pipeline: &Pipeline, keep: bool) {
    println!("\nWhat to try next:");
    if !keep {
        println!("  cargo xtask demo --keep            the same, and everything stays up to play with");
        println!("  cargo xtask bench --quick          how fast it is, beside other tools");
        println!(
            "  freshet check FILE, freshet run FILE   your own servers; pipelines/mariadb-to-postgres.yaml is a start"
        );
        return;
    }
    let file = pipeline.file();
    let (file, binary) = (file.display(), pipeline.binary().display());
    println!("  mariadb --host=127.0.0.1 --port={} --user=root shop", source.port());
    println!("      update products set price = 1 where id = 1;");
    println!("  psql 'host=127.0.0.1 port={} dbname=warehouse user=freshet password=freshet'", target.port());
    println!("      select * from products where id = 1;");
    println!("  {binary} status {file}");
    println!("  {binary} log cat {file} --table 'shop.products' --limit 5");
}

/// Runs freshet on until the user ends it; servers and directories go when this process does.
fn stay(pipeline: &mut Pipeline) -> anyhow::Result<()> {
    pipeline.start(&[])?;
    println!("\nfreshet is running again. Press Enter to end it all, or Ctrl-C.");
    let read = std::io::stdin().read(&mut [0]).context("Cannot read the terminal")?;
    if read == 0 {
        // No terminal: until a signal ends us; the watchdogs clean up.
        loop {
            std::thread::park();
        }
    }
    pipeline.terminate()
}
