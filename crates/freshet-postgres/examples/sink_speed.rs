//! How fast the sink is by itself: rows from memory into a throwaway PostgreSQL, by COPY and by windows.
//!
//! The rows are those of BENCH's table `t`. It prints what chose the crate's constants: primary key before or after the
//! load, COPY or arrays for inserts of a window. `cargo run --release -p freshet-postgres --example sink_speed`.

use freshet_core::codec::{BatchBuilder, RowWriter};
use freshet_core::log::Record;
use freshet_core::sink::{PrepareMode, Sink, TablePlan};
use freshet_core::table::{Chunk, ColumnInfo, Dialect, TableInfo};
use freshet_core::temporal::{DateTime, Timestamp};
use freshet_core::window::{Counts, ImageRef, Step, StepKind, Window};
use freshet_core::{
    Batch, Column, DataType, Error, EventRef, LogId, Mark, Offset, Position, SchemaMap, TableName,
    TableSchema,
};
use freshet_postgres::{ConnectOptions, PostgresSink, SinkOptions};
use freshet_testkit::servers::{Postgres, PostgresOptions};
use std::sync::Arc;
use std::time::Instant;

const LOAD_ROWS: i64 = 1_000_000;
const BATCH_ROWS: i64 = 2_000;

fn bench_plan() -> TablePlan {
    let text = |n| DataType::Text { length: Some(n), fixed: false };
    let labels = ["new", "paid", "shipped", "cancelled"].map(str::to_owned).to_vec();
    let columns = [
        ("id", DataType::Int { bits: 64, unsigned: false }, "bigint(20)", false),
        ("tenant", DataType::Int { bits: 32, unsigned: true }, "int(10) unsigned", false),
        ("name", text(64), "varchar(64)", false),
        ("email", text(128), "varchar(128)", true),
        ("amount", DataType::Decimal { precision: Some(18), scale: Some(4) }, "decimal(18,4)", false),
        ("created", DataType::DateTime { fsp: 6 }, "datetime(6)", false),
        ("updated", DataType::Timestamp { fsp: 3 }, "timestamp(3)", false),
        ("status", DataType::Enum { labels }, "enum", false),
        ("flags", DataType::Int { bits: 8, unsigned: false }, "tinyint(4)", false),
        ("payload", text(65_535), "text", true),
    ];
    let specs = columns.iter().map(|(name, data_type, _, nullable)| Column {
        name: (*name).into(),
        data_type: data_type.clone(),
        nullable: *nullable,
    });
    let schema = TableSchema::new(TableName::new("bench", "t"), specs.collect(), vec![0]);
    let native = columns.iter().map(|c| ColumnInfo { native_type: c.2.into(), ..ColumnInfo::default() });
    let info = TableInfo {
        schema: Arc::new(schema.expect("a schema")),
        dialect: Dialect::Mysql,
        columns: native.collect(),
        indexes: vec![],
        next_value: None,
        rows_estimate: 0,
        native: Default::default(),
        not_carried: vec![],
    };
    TablePlan { info: Arc::new(info), target: TableName::new("public", "t") }
}

fn write(r: &mut RowWriter<'_>, id: i64, status: u16) {
    assert!(r.int(id) && r.uint(id as u64 % 1000));
    r.text(&format!("customer name {} {id}", id % 1000));
    match id % 7 {
        0 => r.null(),
        _ => r.text(&format!("user{id}@example.com")),
    }
    r.decimal(&format!("{}.{:04}", id * 12 / 10 - 5000, id % 10_000));
    r.datetime(DateTime::from_micros_since_1970(1_772_360_000_123_456 + id * 1_000_000).expect("in range"));
    r.timestamp(Timestamp(1_772_360_000_123_000 + id * 1000));
    r.enumeration(status);
    assert!(r.int(id % 128 - 64));
    r.text(&"abcdefghij".repeat(12)[..40 + (id % 80) as usize]);
}

fn batch(plan: &TablePlan, ids: std::ops::Range<i64>, status: u16) -> Batch {
    let mut batch = BatchBuilder::new();
    for id in ids {
        let mut row = batch.insert(&plan.info.schema);
        write(&mut row, id, status);
        row.finish();
    }
    batch.seal()
}

fn position(n: u64) -> Position {
    format!("binlog;s;b.000001;{};mariadb;0-1-{n}", n + 4).parse().expect("a position")
}

#[derive(Clone, Copy)]
enum What {
    Insert,
    Update,
}

fn window(plan: &TablePlan, ids: std::ops::Range<i64>, end: u64, what: What) -> Window {
    let batch = batch(plan, ids, 2);
    let base = batch.bytes().as_ptr() as usize;
    let mut images = Vec::new();
    for event in batch.events() {
        if let Ok(EventRef::Insert { after, .. }) = event {
            let start = (after.as_ptr() as usize - base) as u32;
            images.push(ImageRef { record: 0, start, len: after.len() as u32, schema: 0 });
        }
    }
    let record = Record {
        offset: Offset(end - 1),
        next: Offset(end),
        batch,
        position: Some(position(end)),
        schemas: SchemaMap::default(),
    };
    let kind = match what {
        What::Insert => StepKind::Insert(images),
        What::Update => StepKind::Update(images.iter().map(|i| (*i, *i)).collect()),
    };
    Window {
        records: vec![record],
        schemas: vec![plan.info.schema.clone()],
        steps: vec![Step { table: plan.info.name().clone(), kind }],
        end: Some(Mark { next: Offset(end), position: position(end) }),
        ordered: false,
        changes: Counts::default(),
        commit_us: 0,
    }
}

async fn load(sink: &mut PostgresSink, plan: &TablePlan) -> Result<(), Error> {
    let chunk = Chunk { table: plan.info.name().clone(), number: 0, lower: None, upper: None };
    let batches: Vec<Batch> =
        (0..LOAD_ROWS / BATCH_ROWS).map(|n| batch(plan, n * BATCH_ROWS..(n + 1) * BATCH_ROWS, 1)).collect();
    sink.prepare(std::slice::from_ref(plan), PrepareMode::DropAndCreate).await?;
    sink.plan_chunks(plan.info.name(), std::slice::from_ref(&chunk)).await?;
    let start = Instant::now();
    let mut loader = sink.loader().await?;
    loader.open(plan, &chunk).await?;
    for batch in batches {
        loader.rows(batch).await?;
    }
    loader.finish(&position(0)).await?;
    let copied = start.elapsed().as_secs_f64();
    sink.finish_load(std::slice::from_ref(plan)).await?;
    sink.make_consistent(std::slice::from_ref(plan)).await?;
    let whole = start.elapsed().as_secs_f64();
    let rate = LOAD_ROWS as f64 / whole / 1000.0;
    println!("load: {LOAD_ROWS} rows, COPY {copied:.2} s, with keys {whole:.2} s, {rate:.0}k rows/s");
    Ok(())
}

/// Applies windows of `rows` until about a second and a half has gone.
async fn windows(
    sink: &mut PostgresSink,
    server: &Postgres,
    plan: &TablePlan,
    rows: i64,
    what: What,
    next: &mut (i64, u64),
) -> Result<(), Error> {
    let total = (rows * 500).clamp(2_000, 60_000);
    let made: Vec<Window> = (0..total / rows)
        .map(|n| {
            let first = match what {
                What::Insert => next.0 + n * rows,
                What::Update => n * 7919 % (LOAD_ROWS - rows),
            };
            window(plan, first..first + rows, next.1 + 1 + n as u64, what)
        })
        .collect();
    let count = made.len();
    let (start, cpu_s) = (Instant::now(), server.usage().cpu_s);
    for window in made {
        sink.apply(window).await?;
    }
    sink.flush().await?;
    let spent = start.elapsed().as_secs_f64();
    let word = match what {
        What::Insert => "insert",
        What::Update => "update",
    };
    let (rate, each) = (count as f64 * rows as f64 / spent / 1000.0, spent * 1e6 / count as f64);
    let cpu_us = (server.usage().cpu_s - cpu_s) * 1e6 / total as f64;
    println!(
        "{word} by windows of {rows}: {rate:.1}k rows/s, {each:.0} us a window; server {cpu_us:.1} us CPU a row"
    );
    *next = (next.0 + total, next.1 + count as u64);
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let server = Postgres::start(PostgresOptions::default().with_freshet_user().database("bench"));
    let mut connect = ConnectOptions::new("127.0.0.1", "freshet", "bench");
    connect.port = server.port();
    let plan = bench_plan();
    let mut sink = PostgresSink::new(SinkOptions::new("bench", "pg", connect));
    sink.take_over().await?;
    sink.begin(LogId([1; 16]), &Mark { next: Offset(0), position: position(0) }, "").await?;
    let before = server.usage();
    load(&mut sink, &plan).await?;
    println!("server: {before:?} to {:?}", server.usage());
    let mut next = (LOAD_ROWS, 0);
    for rows in [1, 20, 50, 100, 200, 400, 1_000, 5_000, 10_000] {
        windows(&mut sink, &server, &plan, rows, What::Insert, &mut next).await?;
    }
    for rows in [1, 100, 1_000, 10_000] {
        windows(&mut sink, &server, &plan, rows, What::Update, &mut next).await?;
    }
    Ok(())
}
