//! Every direction between MariaDB, MySQL and PostgreSQL: what is loaded and what is streamed ends equal, through kills.
//!
//! Types are compared elsewhere (`types`, `from_postgres`): here the values are such that every client prints them alike.

use crate::ends::{End, KINDS, Kind};
use crate::kit::DEADLINE;
use freshet_testkit::servers::{Exit, Freshet, TestDir, poll_until, seed};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// A pipeline from one place to another.
struct Pipeline {
    source: End,
    target: End,
    dir: TestDir,
    name: String,
}

impl Pipeline {
    fn new(from: Kind, to: Kind) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("from_{}_to_{}_{number}", from.word(), to.word());
        let source = End::make(from.source(), &name);
        let target = End::make(to.target(), &name);
        Self { source, target, dir: TestDir::new("direction"), name }
    }

    fn command(&self, words: &[&str]) -> Command {
        let (name, log) = (&self.name, self.dir.join("log"));
        let (from, to) = (self.source.schema(), self.target.schema());
        let yaml = format!(
            "name: {name}\nmode: load-and-stream\nsource: {{ {} }}\ntables: {{ include: [\"{from}.*\"] }}\n\
             log: {{ dir: {}, bytes_max: 1GiB }}\nload: {{ readers: 2, chunk_rows: 1000 }}\n\
             sinks:\n  - {{ name: copy, {}, schemas: {{ {from}: {to} }} }}\n",
            self.source.yaml(self.source.server.port()),
            log.display(),
            self.target.yaml(self.target.server.port()),
        );
        let file = self.dir.join("pipeline.yaml");
        std::fs::write(&file, yaml).unwrap();
        let mut command = Freshet::command();
        command.args(words).arg(file);
        command
    }

    fn freshet(&self, words: &[&str]) -> Exit {
        Freshet::spawn_command(&mut self.command(words)).wait(DEADLINE)
    }

    #[track_caller]
    fn succeeds(&self, words: &[&str]) -> Exit {
        let exit = self.freshet(words);
        let (name, code) = (&self.name, exit.code);
        assert_eq!(code, Some(0), "{name}, {words:?}: stdout: {}\nstderr: {}", exit.stdout, exit.stderr);
        exit
    }

    /// Every row of every table, as the clients print them.
    #[track_caller]
    fn compare(&self) {
        for (table, columns) in TABLES {
            let rows = |end: &End| {
                let text = end.sql(&format!("select {columns} from {table}"));
                let mut rows: Vec<String> = text.lines().map(str::to_owned).collect();
                rows.sort_unstable();
                rows
            };
            let (source, target) = (rows(&self.source), rows(&self.target));
            assert!(!source.is_empty(), "{}: {table} has no rows", self.name);
            let name = &self.name;
            let first = source.iter().zip(&target).find(|(a, b)| a != b);
            let counts = (source.len(), target.len());
            assert!(source == target, "{name}, {table}: {counts:?} rows, first difference {first:?}");
        }
    }
}

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
    let pipeline = Pipeline::new(from, to);
    pipeline.source.sql(&filled());
    pipeline.succeeds(&["check"]);
    for _ in 0..4 {
        let source = pipeline.source.clone();
        let sql = transactions(&mut random, 300);
        let writer = std::thread::spawn(move || source.sql(&sql));
        let run = Freshet::spawn_command(&mut pipeline.command(&["run"]));
        poll_until(Duration::from_millis(random.random_range(0..2500)), || !run.is_running());
        assert!(run.is_running(), "{}: {}", pipeline.name, run.stderr());
        run.kill9();
        writer.join().unwrap();
    }
    pipeline.succeeds(&["run", "--until", "caught-up"]);
    pipeline.compare();
    pipeline.source.sql(&transactions(&mut random, 50));
    pipeline.succeeds(&["run", "--until", "caught-up"]);
    pipeline.compare();
    let since = "select count(consistent_since) from freshet.checkpoint where pipeline = ";
    assert_eq!(pipeline.target.number(&format!("{since}'{}'", pipeline.name)), Some(1));
    pipeline.succeeds(&["drop", "--yes", "--drop-tables"]);
    assert!(pipeline.target.try_sql("select 1 from t").is_err(), "{}: dropped", pipeline.name);
}

#[test]
fn t10_t11_every_direction_ends_equal_through_kills() {
    for from in KINDS {
        for to in KINDS {
            direction(from, to);
        }
    }
}
