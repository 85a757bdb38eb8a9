//! Every direction between MariaDB, MySQL and PostgreSQL: what is loaded and what is streamed ends equal, through kills.
//!
//! Types are compared elsewhere (`types`, `from_postgres`): here the values are such that every client prints them alike.

use crate::ends::{KINDS, Kind};
use crate::pipeline::Pipeline;
use freshet_testkit::servers::{poll_until, seed};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::time::Duration;

/// Tables, and their columns as every client prints them alike.
const TABLES: &[(&str, &str)] = &[
    ("t", "id, coalesce(v, 'none'), n, length(big)"),
    ("pair", "a, b, coalesce(v, 'none')"),
    ("k", "name, n"),
];

const MADE: &str = "create table t (id int primary key, v varchar(100), n decimal(12,2), big text); \
    create table pair (a int not null, b varchar(20) not null, v varchar(100), primary key (b, a)); \
    create table k (name varchar(40) primary key, n bigint not null); ";

fn filled() -> String {
    let rows = |count: u32, row: &dyn Fn(u32) -> String| (0..count).map(row).collect::<Vec<_>>().join(",");
    let big = "x".repeat(3000);
    let many = |i: u32| {
        format!(
            "({i},'row {i}',{i}.25,{})",
            if i.is_multiple_of(50) { format!("'{big}'") } else { "null".into() }
        )
    };
    format!(
        "{MADE} insert into t values {}; insert into pair values {}; insert into k values {};",
        rows(3000, &many),
        rows(500, &|i| format!("({},'b{}',null)", i / 5, i % 5)),
        rows(200, &|i| format!("('name {i} ü',{i})")),
    )
}

/// One transaction of one to five changes: inserts over deletes, updates, moved keys, deletes, sometimes undone.
fn transaction(random: &mut StdRng) -> String {
    let mut sql = "begin; ".to_owned();
    for _ in 0..random.random_range(1..=5) {
        let (k, n) = (random.random_range(0..3000), random.random_range(0..1_000_000));
        let (a, b) = (k % 100, n % 5);
        sql += &match random.random_range(0..9) {
            0 => format!(
                "delete from t where id = {k}; insert into t values ({k},'new {n}',{n}.5,repeat('y',{n}%9000)); "
            ),
            1 => format!("update t set v = 'changed {n}' where id = {k}; "),
            2 => format!("update t set n = n + 1, v = null where id between {k} and {}; ", k + 5),
            3 => format!(
                "delete from t where id = {}; update t set id = {} where id = {k}; ",
                k + 3000,
                k + 3000
            ),
            4 => format!("delete from t where id in ({k}, {}); ", k + 3000),
            5 => format!("update pair set v = 'é {n}' where a = {a}; "),
            6 => format!(
                "delete from pair where a = {a} and b = 'b{b}'; insert into pair values ({a},'b{b}','{n}'); "
            ),
            7 => format!("update k set n = {n} where name = 'name {} ü'; ", k % 200),
            _ => format!(
                "savepoint s; delete from t where id < {k}; rollback to savepoint s; insert into k values ('extra {k} {n}', 1); "
            ),
        };
    }
    sql + if random.random_range(0..10) == 0 { "rollback; " } else { "commit; " }
}

fn transactions(random: &mut StdRng, count: u32) -> String {
    (0..count).map(|_| transaction(random)).collect()
}

/// T10, T11: killed while it loads and while it streams, with writers in the source all the while.
fn direction(from: Kind, to: Kind) {
    let mut random = StdRng::seed_from_u64(seed());
    let mut pipeline =
        Pipeline::between(from.source(), to.target(), &format!("from_{}_to_{}", from.word(), to.word()));
    pipeline.load = "readers: 2, chunk_rows: 1000".into();
    pipeline.source.sql(&filled());
    pipeline.succeeds(&["check"]);
    for _ in 0..4 {
        let source = pipeline.source.clone();
        let sql = transactions(&mut random, 300);
        let writer = std::thread::spawn(move || source.sql(&sql));
        let run = pipeline.spawn();
        poll_until(Duration::from_millis(random.random_range(0..2500)), || !run.is_running());
        pipeline.must_run(&run, "the kill");
        run.kill9();
        writer.join().unwrap();
    }
    pipeline.catch_up();
    compare(&pipeline);
    pipeline.source.sql(&transactions(&mut random, 50));
    pipeline.catch_up();
    compare(&pipeline);
    pipeline.succeeds(&["drop", "--yes", "--drop-tables"]);
    assert!(pipeline.target.try_sql("select 1 from t").is_err(), "{}: dropped", pipeline.name);
}

fn compare(pipeline: &Pipeline) {
    for (table, columns) in TABLES {
        assert_ne!(
            pipeline.source.number(&format!("select count(*) from {table}")),
            Some(0),
            "{table} has rows"
        );
        pipeline.compare(table, columns);
    }
}

#[test]
fn t10_t11_every_direction_ends_equal_through_kills() {
    for from in KINDS {
        for to in KINDS {
            direction(from, to);
        }
    }
}
