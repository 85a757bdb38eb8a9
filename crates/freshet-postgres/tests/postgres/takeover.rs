//! Take-overs against sessions that come late, that belong to another role, and against a reset: what is left behind
//! must be ended sooner or later, and must never be mistaken for a state of our own (T10, T11, T12).

use crate::common::rows::{begin, durable, load};
use crate::common::{Database, server};
use freshet_core::sink::{PrepareMode, Sink};
use freshet_core::{ErrorKind, LogId};
use freshet_postgres::{PostgresSink, reset};
use freshet_testkit::conformance::sink::{Script, Table, mark};
use freshet_testkit::servers::{Hold, Proxy, wait_until};
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(300);

fn keyed() -> Table {
    Table::new("conf", "keyed", true)
}

async fn user(db: &Database) -> tokio_postgres::Client {
    let conn = db.server.conn_string(&db.name);
    let (client, connection) = tokio_postgres::connect(&conn, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

fn wait_for_a_lock(db: &Database) {
    let sql = "select count(*) from pg_stat_activity where usename = 'freshet' and wait_event_type = 'Lock'";
    wait_until(DEADLINE, "the take-over at the lock", || db.sql(sql) == "1");
}

/// T11, T12: a loader of the former owner that comes between the end of its sessions and the lock, and then sits in
/// its COPY without a word (a stopped process: its host still answers keep-alives). The next owner gets past it.
#[tokio::test(flavor = "multi_thread")]
async fn t11_t12_a_loader_that_came_late_does_not_block_the_next_owner_for_ever() {
    let server = server();
    let db = Database::new(&server);
    let table = keyed();
    let mut options = db.options();
    // Longer than all of what happens while it waits.
    options.lock_timeout_ms = 60_000;
    let (mut old, mut new) = (db.postgres_sink(), PostgresSink::new(options));
    begin(&mut old).await;
    old.prepare(std::slice::from_ref(&table.plan), PrepareMode::CreateIfAbsent).await.unwrap();
    old.plan_chunks(table.name(), &[table.chunk(0)]).await.unwrap();

    let client = user(&db).await;
    client.batch_execute("begin; select * from freshet.checkpoint for share").await.unwrap();
    let taking = tokio::spawn(async move { new.take_over().await.map(|_| new) });
    wait_for_a_lock(&db);
    let mut loader = old.loader().await.unwrap();
    loader.open(&table.plan, &table.chunk(0)).await.unwrap();
    loader.rows(table.batch(&[(0, "old")])).await.unwrap();
    client.batch_execute("commit").await.unwrap();

    let mut new = taking.await.unwrap().unwrap();
    for attempt in 0.. {
        match new.restart_table(table.name()).await {
            Ok(()) => break,
            Err(error) => assert!(attempt < 3 && *error.kind() == ErrorKind::Unavailable, "{error}"),
        }
        new.take_over().await.unwrap();
    }
}

async fn two_roles(more: &str) -> (Database, PostgresSink, Result<(), freshet_core::Error>) {
    let server = server();
    let db = Database::new(&server);
    let mut old = db.postgres_sink();
    begin(&mut old).await;
    db.sql(&format!(
        "create role second login; grant all on schema freshet to second; \
         grant all on all tables in schema freshet to second; {more}"
    ));
    let mut options = db.options();
    options.connect.user = "second".into();
    let taken = PostgresSink::new(options).take_over().await.map(drop);
    (db, old, taken)
}

/// T11: the role changed between two runs. Its session's start is hidden from the new one: it must not be taken for
/// dead and forgotten.
#[tokio::test(flavor = "multi_thread")]
async fn t11_a_living_session_of_another_role_is_not_forgotten() {
    let (db, _old, taken) = two_roles("").await;
    taken.unwrap();
    let alive = "select count(*) from pg_stat_activity where usename = 'freshet'";
    let known = "select count(*) from freshet.session s join pg_stat_activity a using (pid, backend_start) \
                 where a.usename = 'freshet'";
    // One that looked for a pooler is on its way out.
    wait_until(DEADLINE, "the sessions that live to be those of the former owner that are known", || {
        let known = db.sql(known);
        known != "0" && known == db.sql(alive)
    });
}

/// T11: the new role sees the former owner's session and may not end it: the fence is enough to go on.
#[tokio::test(flavor = "multi_thread")]
async fn t11_a_session_that_may_not_be_ended_does_not_stop_a_take_over() {
    let (_db, _old, taken) = two_roles("grant pg_read_all_stats to second").await;
    taken.unwrap();
}

/// T10: a reset of a sink that has no checkpoint yet, and that pauses while the pipeline starts and loads: what was
/// loaded must not stay behind without the checkpoint that it is of.
#[tokio::test(flavor = "multi_thread")]
async fn t10_a_reset_beside_a_first_start_forgets_all_or_nothing() {
    let server = server();
    let db = Database::new(&server);
    let mut other = db.options();
    other.pipeline = "other".into();
    PostgresSink::new(other).take_over().await.unwrap();
    let proxy = Proxy::start(server.port());
    let mut options = db.options();
    options.connect.port = proxy.port();
    proxy.hold(".session where", Hold::Message);
    let resetting = tokio::spawn(async move { reset(&options, false).await });
    wait_until(DEADLINE, "the reset to pause", || proxy.is_holding());

    let (mut sink, table) = (db.postgres_sink(), keyed());
    // A reset that holds the row makes the start wait, and fail, instead.
    let started = tokio::time::timeout(Duration::from_secs(5), sink.take_over()).await;
    if let Ok(Ok(_)) = started {
        sink.begin(LogId([1; 16]), &mark(0), "d").await.unwrap();
        load(&mut sink, std::slice::from_ref(&table.plan), table.batch(&[(0, "loaded")])).await.unwrap();
        durable(&mut sink, Script::new().insert(&table, &[(1, "a")]).end(1).window()).await.unwrap();
    }
    proxy.release();
    resetting.await.unwrap().unwrap();
    let owned = db.postgres_sink().take_over().await.unwrap();
    assert!(
        owned.checkpoint.is_some() || owned.tables.is_empty(),
        "no checkpoint, and yet tables that count as loaded: {:?}",
        owned.tables
    );
}

/// T11: processes that start for the first time at the same moment: one of them is left, whatever the order.
#[tokio::test(flavor = "multi_thread")]
async fn t11_of_first_starts_at_the_same_moment_one_is_left() {
    let server = server();
    for _ in 0..5 {
        let db = Database::new(&server);
        let start = |n: u8| {
            let mut sink = db.postgres_sink();
            tokio::spawn(async move {
                loop {
                    let taken = sink.take_over().await.map(|owned| owned.checkpoint.is_some());
                    let begun = match taken {
                        Ok(true) => return (n, false, sink),
                        Ok(false) => sink.begin(LogId([n; 16]), &mark(0), "d").await,
                        Err(error) => Err(error),
                    };
                    match begun.map_err(|error| error.kind().clone()) {
                        Ok(()) => return (n, true, sink),
                        Err(ErrorKind::Unavailable) => {}
                        Err(ErrorKind::Fenced) => return (n, false, sink),
                        Err(other) => panic!("{other:?}"),
                    }
                }
            })
        };
        let starts: Vec<_> = (1..=4).map(start).collect();
        let mut begun = Vec::new();
        for started in starts {
            let (n, first, _sink) = tokio::time::timeout(DEADLINE, started).await.unwrap().unwrap();
            begun.extend(first.then_some(n));
        }
        assert_eq!(begun.len(), 1, "the first checkpoint is stored once: {begun:?}");
        let stands = db.postgres_sink().take_over().await.unwrap().checkpoint.unwrap();
        assert_eq!(stands.log_id, LogId([begun[0]; 16]));
    }
}

/// T10: a checkpoint that was moved to another log, and its answer lost: the next take-over shows where it stands.
#[tokio::test(flavor = "multi_thread")]
async fn t10_a_rebase_with_its_answer_lost_is_learned_at_the_take_over() {
    let server = server();
    for (hold, expect) in [(Hold::Answer, LogId([2; 16])), (Hold::Message, LogId([1; 16]))] {
        let db = Database::new(&server);
        let proxy = Proxy::start(server.port());
        let mut options = db.options();
        options.connect.port = proxy.port();
        let mut sink = PostgresSink::new(options);
        begin(&mut sink).await;
        proxy.hold("and log_id is not null", hold);
        let moving = tokio::spawn(async move {
            let moved = sink.rebase(LogId([2; 16]), &mark(0)).await;
            (sink, moved)
        });
        wait_until(DEADLINE, "the move to be held", || proxy.is_holding());
        proxy.cut_held();
        let (mut sink, moved) = moving.await.unwrap();
        assert_eq!(*moved.unwrap_err().kind(), ErrorKind::Unavailable);
        assert_eq!(sink.take_over().await.unwrap().checkpoint.unwrap().log_id, expect);
    }
}
