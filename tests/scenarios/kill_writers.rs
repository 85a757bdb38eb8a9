//! The write load of the kill loop: clients of the source that each send endless transactions, and what they keep
//! true at every commit.
//!
//! - `bank`: money moves and its sum stays.
//! - `mark_a`, `mark_b`: every transaction of a writer counts both up: equal numbers, which only grow.
//! - `moving`: rows change their key back and forth; their number stays.
//! - `swap`: two rows exchange a unique value; the sum stays.
//! - `churn`: inserts, updates and deletes by key; `keyless`: the same without a key.
//! - `big`: 2,000 rows come and go at a time.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use freshet_testkit::servers::{MyServer, poll_until};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::kit::{DEADLINE, Scenario};

pub(crate) const TABLES: &[&str] =
    &["bank", "mark_a", "mark_b", "moving", "swap", "churn", "keyless", "big", "hundred"];
pub(crate) const ACCOUNTS: u32 = 100;
pub(crate) const BALANCE: u32 = 1_000;
pub(crate) const MOVING: u32 = 40;
pub(crate) const BIG_ROWS: u32 = 2_000;
const WRITERS: u32 = 2;
const CHURN_ROWS: u32 = 6_000;

/// The tables, filled.
pub(crate) fn prepare() -> String {
    let mut sql = "create table bank (id int primary key, balance int not null);
        create table mark_a (id int primary key, n int not null);
        create table mark_b (id int primary key, n int not null);
        create table moving (id int primary key, writer int, note varchar(40));
        create table swap (id int primary key, writer int, u int not null, unique key (u));
        create table churn (id int primary key auto_increment, writer int, payload varchar(200), key (writer));
        create table keyless (a int, b varchar(40));
        create table big (batch int, n int, payload varchar(40), primary key (batch, n));
        create table hundred (id int primary key);\n"
        .to_owned();
    let rows = |count: u32, row: &dyn Fn(u32) -> String| (0..count).map(row).collect::<Vec<_>>().join(",");
    let mut insert = |table: &str, rows: String| writeln!(sql, "insert into {table} values {rows};").unwrap();
    insert("bank", rows(ACCOUNTS, &|i| format!("({i},{BALANCE})")));
    insert("mark_a", rows(WRITERS, &|i| format!("({i},0)")));
    insert("mark_b", rows(WRITERS, &|i| format!("({i},0)")));
    insert("moving", rows(MOVING, &|i| format!("({},{},'start')", moving_id(i), i % WRITERS)));
    insert("swap", rows(MOVING, &|i| format!("({i},{},{i})", i % WRITERS)));
    insert("hundred", rows(100, &|i| format!("({i})")));
    insert("churn", rows(CHURN_ROWS, &|i| format!("({},{},'row {i}')", i + 1, i % WRITERS)));
    insert("keyless", rows(1_500, &|i| format!("({},'row {}')", i % 300, i % 500)));
    sql
}

/// Writer `i % WRITERS` owns the row; it moves between its number and a million more.
fn moving_id(i: u32) -> u32 {
    i + 1
}

/// The clients.
pub(crate) struct Writers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Writers {
    pub(crate) fn start(scenario: &Scenario, seed: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..WRITERS).map(|number| {
            let mut writer = Writer {
                server: Arc::clone(&scenario.source),
                schema: scenario.name.clone(),
                number,
                rng: StdRng::seed_from_u64(seed + u64::from(number)),
                batch: 0,
                stop: Arc::clone(&stop),
            };
            thread::spawn(move || writer.run())
        });
        Self { threads: threads.collect(), stop }
    }

    /// Ends them at a commit.
    pub(crate) fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
    }
}

struct Writer {
    server: Arc<MyServer>,
    schema: String,
    number: u32,
    rng: StdRng,
    batch: u32,
    stop: Arc<AtomicBool>,
}

impl Writer {
    /// Sends transactions; a client that dies with its server or with a deadlock is followed by another.
    fn run(&mut self) {
        while !self.stopped() {
            let mut client = self.client();
            let mut pipe = client.stdin.take().unwrap();
            let mut text = format!("use {}; set session innodb_lock_wait_timeout=2;\n", self.schema);
            while !self.stopped() && pipe.write_all(text.as_bytes()).is_ok() {
                text = self.transaction();
            }
            drop(pipe);
            let ended = poll_until(DEADLINE, || client.try_wait().is_ok_and(|status| status.is_some()));
            if !ended {
                let _ = client.kill();
            }
            let _ = client.wait();
        }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn client(&self) -> Child {
        let mut command = self.server.client();
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    }

    /// One transaction, and a pause that leaves the machine to the others.
    fn transaction(&mut self) -> String {
        let number = self.number;
        let mut body = match self.rng.random_range(0..200) {
            0..80 => self.transfer(),
            80..104 => self.move_key(),
            104..124 => self.swap(),
            124..170 => self.churn(),
            170..198 if number == 0 => self.keyless(),
            198 if number == 0 => self.big(),
            _ => self.transfer(),
        };
        for mark in ["mark_a", "mark_b"] {
            write!(body, "update {mark} set n=n+1 where id={number}; ").unwrap();
        }
        let end = if self.rng.random_range(0..20) == 0 { "rollback" } else { "commit" };
        format!("begin; {body}{end}; do sleep(0.01);\n")
    }

    fn transfer(&mut self) -> String {
        let (from, to) = (self.rng.random_range(0..ACCOUNTS - 1), self.rng.random_range(1..ACCOUNTS));
        let amount = self.rng.random_range(-50..50);
        let (low, high) = (from.min(to), from.max(to));
        format!(
            "update bank set balance=balance-({amount}) where id={low}; \
             update bank set balance=balance+({amount}) where id={high}; "
        )
    }

    fn own_row(&mut self) -> u32 {
        self.rng.random_range(0..MOVING / WRITERS) * WRITERS + self.number
    }

    fn move_key(&mut self) -> String {
        let (id, note) = (moving_id(self.own_row()), self.rng.random_range(0..1_000));
        format!(
            "update moving set id=if(id>1000000,id-1000000,id+1000000), note='{note}' where id in ({id},{id}+1000000); "
        )
    }

    fn swap(&mut self) -> String {
        let (a, b) = (self.own_row(), self.own_row());
        if a == b {
            return String::new();
        }
        format!(
            "set @a=(select u from swap where id={a}), @b=(select u from swap where id={b}); \
             update swap set u=-1-{} where id={a}; update swap set u=@a where id={b}; update swap set u=@b where id={a}; ",
            self.number
        )
    }

    fn churn(&mut self) -> String {
        let (number, text) = (self.number, self.rng.random_range(0..1_000_000));
        match self.rng.random_range(0..4) {
            0 => {
                format!("insert into churn (writer, payload) values ({number},'{text}'),({number},'more'); ")
            }
            1 => format!("delete from churn where writer={number} order by id limit 3; "),
            2 => format!("update churn set payload='{text}' where writer={number} order by id limit 5; "),
            _ => format!(
                "insert into churn (writer, payload) values ({number},'{text}'); set @id=last_insert_id(); \
                 update churn set payload=concat(payload,'+') where id=@id; \
                 update churn set id=@id+500000000 where id=@id and @id<500000000; "
            ),
        }
    }

    fn keyless(&mut self) -> String {
        let a = self.rng.random_range(0..300);
        match self.rng.random_range(0..3) {
            0 => format!("insert into keyless values ({a},'new'),({a},'new'); "),
            1 => format!("update keyless set b='changed' where a={a} limit 2; "),
            _ => format!("delete from keyless where a={a} limit 1; "),
        }
    }

    fn big(&mut self) -> String {
        self.batch += 1;
        let (batch, old) = (self.batch, i64::from(self.batch) - 2);
        format!(
            "insert into big select {batch}, a.id*100+b.id, 'payload' from hundred a join hundred b where a.id < {}; \
             delete from big where batch={old}; ",
            BIG_ROWS / 100
        )
    }
}
