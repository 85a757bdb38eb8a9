//! What a source reads: whole transactions in commit order, once, over batches, cancellations and new sessions.

use std::time::{Duration, Instant};

use freshet_core::Position;
use freshet_core::source::Source as _;
use freshet_mysql::source::SourceOptions;
use freshet_testkit::servers::{Flavor, MyServer, seed};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::harness::{Capture, DEADLINE, both, now, options};

/// T1: what was rolled back is not there, savepoints do not disturb.
#[tokio::test]
async fn t1_transactions_are_read_exactly() {
    for server in both() {
        let start = now(server).await;
        server.sql(
            "create database exact; use exact;
             create table t (id int primary key, v varchar(20)); create table u (id int primary key);
             insert into t values (1, 'one'), (2, null);
             start transaction; insert into u values (7); update t set v = 'two' where id = 2;
               delete from t where id = 1; commit;
             start transaction; insert into t values (9, 'gone'); rollback;
             start transaction; insert into t values (3, 'a'); savepoint s; insert into t values (4, 'b');
               rollback to s; insert into t values (5, 'c'); commit;
             update t set id = 30 where id = 3;
             truncate table u;",
        );
        let mut capture = Capture::opened(options(server), "exact", &start).await;
        let wanted: &[&[&str]] = &[
            &["t+1,one", "t+2,NULL"],
            &["u+7", "t:2,NULL>2,two", "t-1,one"],
            &["t+3,a", "t+5,c"],
            &["t:3,a>30,a"],
            &["u truncated"],
        ];
        let changes = loop {
            capture.read().await.unwrap();
            let changes: Vec<_> = capture.changes().into_iter().filter(|c| !is_ddl(c)).collect();
            if changes.len() >= wanted.len() {
                break changes
                    .iter()
                    .map(|c| c.iter().map(ToString::to_string).collect())
                    .collect::<Vec<Vec<String>>>();
            }
        };
        assert_eq!(changes, wanted, "{:?}", server.flavor());
    }
}

fn is_ddl(changes: &[&str]) -> bool {
    changes.iter().all(|change| change.ends_with("altered"))
}

/// Random transactions in `database`.`t`, and what each must be read as.
struct Workload {
    random: StdRng,
    next_id: u32,
    live: Vec<u32>,
}

impl Workload {
    fn new(seed: u64) -> Self {
        Self { random: StdRng::seed_from_u64(seed), next_id: 1, live: Vec::new() }
    }

    /// The statements of one transaction and its changes.
    fn transaction(&mut self, flavor: Flavor) -> (String, Vec<String>) {
        let mut sql = match (flavor, self.random.random_range(0..4)) {
            // P19: another domain, another tag.
            (Flavor::MariaDb, 0) => "set gtid_domain_id = 7; ".to_owned(),
            (Flavor::MariaDb, _) => "set gtid_domain_id = 0; ".to_owned(),
            (Flavor::MySql, 0) => "set gtid_next = 'AUTOMATIC:tag'; ".to_owned(),
            (Flavor::MySql, _) => "set gtid_next = 'AUTOMATIC'; ".to_owned(),
        };
        sql.push_str("start transaction; ");
        let mut changes = Vec::new();
        for _ in 0..self.random.random_range(1..6) {
            let at = self.random.random_range(0..self.live.len() + 1);
            match self.live.get(at).copied() {
                Some(id) if self.random.random_bool(0.5) => {
                    self.live.swap_remove(at);
                    sql.push_str(&format!("delete from t where id = {id}; "));
                    changes.push(format!("t-{id},{}", value(id)));
                }
                Some(id) => {
                    let new = self.fresh();
                    self.live[at] = new;
                    sql.push_str(&format!("update t set id = {new}, v = '{}' where id = {id}; ", value(new)));
                    changes.push(format!("t:{id},{}>{new},{}", value(id), value(new)));
                }
                None => {
                    let id = self.fresh();
                    self.live.push(id);
                    sql.push_str(&format!("insert into t values ({id}, '{}'); ", value(id)));
                    changes.push(format!("t+{id},{}", value(id)));
                }
            }
        }
        sql.push_str("commit; ");
        if self.random.random_bool(0.1) {
            sql.push_str("flush binary logs; ");
        }
        (sql, changes)
    }

    fn fresh(&mut self) -> u32 {
        self.next_id += 1;
        self.next_id - 1
    }
}

fn value(id: u32) -> String {
    format!("v{}", id % 17)
}

/// Runs `count` transactions and returns the place before them and what they must be read as.
async fn run(server: &MyServer, database: &str, seed: u64, count: usize) -> (Position, Vec<Vec<String>>) {
    server.sql(&format!(
        "create database {database}; create table {database}.t (id int primary key, v varchar(20))"
    ));
    let start = now(server).await;
    let mut workload = Workload::new(seed);
    let (mut sql, mut wanted) = (format!("use {database}; "), Vec::new());
    for _ in 0..count {
        let (statements, changes) = workload.transaction(server.flavor());
        sql.push_str(&statements);
        wanted.push(changes);
    }
    server.sql(&sql);
    (start, wanted)
}

/// P11, P13, P19: from every place that was told, exactly the rest follows, also over file ends, domains and tags.
#[tokio::test]
async fn p11_p13_p19_every_place_is_followed_by_exactly_the_rest() {
    const COUNT: usize = 150;
    let seed = seed();
    for server in both() {
        let (start, wanted) = run(server, "rest", seed, COUNT).await;
        let mut all = Capture::opened(options(server), "rest", &start).await;
        all.until(COUNT).await;
        assert_eq!(all.changes(), wanted);
        let mut random = StdRng::seed_from_u64(seed);
        for _ in 0..12 {
            let (read, place) = &all.places[random.random_range(0..all.places.len())];
            // A place survives being stored as text.
            let place: Position = place.to_string().parse().unwrap();
            let mut rest = Capture::opened(options(server), "rest", &place).await;
            rest.until(COUNT - read).await;
            assert_eq!(rest.txns, all.txns[*read..], "after {place}");
            assert_eq!(rest.position, all.position, "after {place}");
        }
    }
}

/// The third guarantee: a read that is cancelled anywhere loses nothing and tears nothing.
#[tokio::test]
async fn p8_cancelled_reads_lose_nothing() {
    const COUNT: usize = 300;
    let seed = seed();
    for server in both() {
        let (start, wanted) = run(server, "cancelled", seed, COUNT).await;
        for batch_bytes_target in [1, 2_000, 256 << 10] {
            let options = SourceOptions { batch_bytes_target, ..options(server) };
            let mut capture = Capture::opened(options, "cancelled", &start).await;
            let mut random = StdRng::seed_from_u64(seed);
            let mut cancelled = 0;
            while capture.txns.len() < COUNT {
                let limit = Duration::from_micros(random.random_range(0..300));
                match tokio::time::timeout(limit, capture.source.read(&mut capture.batch)).await {
                    Ok(outcome) => capture.take(&outcome.unwrap()),
                    Err(_) => cancelled += 1,
                }
            }
            assert_eq!(
                capture.changes(),
                wanted,
                "with batches of {batch_bytes_target}, {cancelled} cancelled"
            );
        }
    }
}

/// M17: a row beyond the size of a packet, and T5: a transaction beyond the size of a batch comes in parts.
#[tokio::test]
async fn m17_t5_large_rows_and_transactions_come_in_parts() {
    for server in both() {
        server.sql(
            "create database large; create table large.t (id int primary key auto_increment, v longtext)",
        );
        let start = now(server).await;
        server.sql(
            "use large; insert into t values (1, 'small');
             insert into t values (2, repeat('L', 40000000));
             insert into t values (3, 'small');
             set sql_log_bin = 0; insert into t (v) values (repeat('s', 1000)); insert into t (v) select v from t where id > 3;
             insert into t (v) select v from t where id > 3; insert into t (v) select v from t where id > 3;
             insert into t (v) select v from t where id > 3; insert into t (v) select v from t where id > 3;
             insert into t (v) select v from t where id > 3; insert into t (v) select v from t where id > 3;
             set sql_log_bin = 1; start transaction; update t set v = 'x' where id = 1;
             delete from t where id > 3; update t set v = 'y' where id = 1; commit;
             insert into t values (1000, 'last');",
        );
        let options =
            SourceOptions { batch_bytes_max: 64 << 10, batch_bytes_target: 16 << 10, ..options(server) };
        let mut capture = Capture::opened(options, "large", &start).await;
        capture.until(5).await;
        let changes = capture.changes();
        assert_eq!(changes[0], ["t+1,small"]);
        assert_eq!(changes[1], ["t+2,Lx40000000"]);
        assert_eq!(changes[2], ["t+3,small"]);
        assert_eq!(changes[3].len(), 130);
        assert_eq!((changes[3][0], changes[3][129]), ("t:1,small>1,x", "t:1,x>1,y"));
        assert_eq!(changes[4], ["t+1000,last"]);
        let small: Vec<_> = capture.parts.iter().filter(|bytes| **bytes < 1 << 20).collect();
        assert!(!small.is_empty(), "the large transaction came in parts: {:?}", capture.parts);
        assert!(
            small.iter().all(|bytes| **bytes < 100_000),
            "parts stay near the bound: {:?}",
            capture.parts
        );
    }
}

/// T6, O1: changes of tables that are not captured, and an end of file, move the place without a batch.
#[tokio::test]
async fn t6_filtered_transactions_and_idle_servers_move_the_place() {
    for server in both() {
        let start = now(server).await;
        let mut capture = Capture::opened(options(server), "nothing_here", &start).await;
        for statements in [
            "create database other_tables; create table other_tables.t (id int)",
            "insert into other_tables.t values (1), (2)",
            "insert into other_tables.t values (3); flush binary logs",
        ] {
            server.sql(statements);
            let Position::Binlog(tip) = now(server).await else { panic!("a binlog position") };
            let reached = |place: &Position| match place {
                Position::Binlog(place) => {
                    tip.gtids.is_subset(&place.gtids) && place.file.split() >= tip.file.split()
                }
                Position::Wal(_) => false,
            };
            capture.until_place(statements, reached).await;
        }
        assert_eq!(capture.txns, []);
    }
}

/// A batch holds what is at hand and is not kept back for more.
#[tokio::test]
async fn batches_are_handed_out_when_nothing_more_is_at_hand() {
    for server in both() {
        server.sql("create database hand; create table hand.t (id int primary key)");
        let start = now(server).await;
        let options = SourceOptions { batch_bytes_target: 1 << 20, ..options(server) };
        let mut capture = Capture::opened(options, "hand", &start).await;
        for id in 1..20 {
            server.sql(&format!("insert into hand.t values ({id})"));
            capture.until(id).await;
        }
        assert!(matches!(capture.places.last(), Some((19, _))));
    }
}

/// `tip` and the distance to it, over file ends.
#[tokio::test]
async fn the_tip_is_told_with_its_distance() {
    for server in both() {
        server.sql("create database tip; create table tip.t (id int primary key)");
        let start = now(server).await;
        let mut capture = Capture::opened(options(server), "tip", &start).await;
        assert!(capture.source.distance_bytes(&start, &start) == Some(0));
        server.sql("flush binary logs; insert into tip.t values (1); flush binary logs; insert into tip.t values (2)");
        let tip = capture.source.tip().await.unwrap();
        let distance = capture.source.distance_bytes(&start, &tip).unwrap();
        assert!((500..100_000).contains(&distance), "{distance}");
        capture.until(2).await;
        // An idle server says by its heartbeats that nothing is left, whatever it wrote behind the last commit.
        let deadline = Instant::now() + DEADLINE;
        loop {
            let tip = capture.source.tip().await.unwrap();
            match capture.source.distance_bytes(&capture.position, &tip) {
                Some(0) => break,
                distance => assert!(Instant::now() < deadline, "{distance:?} bytes are left"),
            }
            capture.read().await.unwrap();
        }
        capture.source.acknowledge(&capture.position).await.unwrap();
        assert_eq!(capture.source.acknowledged(), Some(&capture.position));
    }
}
