//! Views: one exact bound, what is waited for, and what is refused before anything is read.

use super::common::{Database, Everything, find, read_table, server, until, words};
use freshet_core::ErrorKind;
use freshet_core::codec::BatchBuilder;
use freshet_core::position::Position;
use freshet_core::table::TableReader;
use freshet_postgres::PostgresTableReader;
use freshet_testkit::servers::{Postgres, PostgresOptions};
use std::time::{Duration, Instant};

#[tokio::test]
async fn a_view_has_one_bound_and_leaves_no_slot_behind() {
    let database = Database::new("create table t (id int primary key); insert into t values (1)");
    let before = database.sql("select pg_current_wal_insert_lsn() - '0/0'::pg_lsn");
    let mut view = database.view(3).await;
    assert_eq!(view.low, view.high);
    let Position::Wal(place) = view.low.clone() else { panic!("a place in the WAL") };
    let system = database.sql("select system_identifier from pg_control_system()");
    let timeline = database.sql("select timeline_id from pg_control_checkpoint()");
    assert_eq!(
        (place.system.to_string(), place.timeline.to_string()),
        (system.trim().into(), timeline.trim().into())
    );
    let after = database.sql("select pg_current_wal_insert_lsn() - '0/0'::pg_lsn");
    let number = |text: &str| text.trim().parse::<u64>().unwrap();
    assert!((number(&before)..=number(&after)).contains(&place.lsn.0), "{before} {place:?} {after}");
    let slots = "select count(*) from pg_replication_slots where slot_name like 'freshet_view_%' and database = current_database()";
    // The server ends a session when it notices that its connection is closed.
    until(|| database.sql(slots).trim() == "0").await;
    database.sql("insert into t values (2); delete from t where id = 1");
    let table = view.tables[0].clone();
    for reader in &mut view.readers {
        assert_eq!(
            read_table(reader.as_mut(), &table, 10).await.unwrap(),
            [["1".to_owned()]],
            "rows as of the view"
        );
    }
}

/// A commit that a synchronous standby holds up is in the WAL before any query shows it. A view waits for one that
/// began before it, and then has it.
#[tokio::test]
async fn a_commit_that_stalls_in_synchronous_replication_is_not_missed() {
    let server = Postgres::start(PostgresOptions::default());
    let database = Database::on(&server, "create table t (id int primary key); insert into t values (1)");
    database.sql("alter system set synchronous_standby_names = 'nobody'");
    database.sql("select pg_reload_conf()");
    until(|| database.sql("show synchronous_standby_names").trim() == "nobody").await;
    let stalled = server.spawn_sql(&database.name, "insert into t values (2)");
    let waits = "select pid from pg_stat_activity where wait_event = 'SyncRep'";
    until(|| !database.sql(waits).is_empty()).await;
    assert_eq!(database.sql("select count(*) from t").trim(), "1");
    let expect = format!("it waits for pid {}", database.sql(waits).trim());
    waits_in_vain(&database, &expect).await;
    let mut reader = database.reader();
    let view = tokio::spawn(async move { reader.view(&Everything, 1).await });
    database.sql("alter system reset synchronous_standby_names");
    database.sql("select pg_reload_conf()");
    stalled.wait().unwrap();
    let mut view = tokio::time::timeout(Duration::from_secs(300), view).await.unwrap().unwrap().unwrap();
    let table = view.tables[0].clone();
    let rows = read_table(view.readers[0].as_mut(), &table, 10).await.unwrap();
    assert_eq!(rows, [["1".to_owned()], ["2".to_owned()]]);
}

/// A view that waits for half a second, until the error says `expect`: what is waited for is known once the server has
/// written the slot, which takes a slow disk longer than that.
async fn waits_in_vain(database: &Database<'_>, expect: &str) {
    let mut options = database.options();
    options.snapshot_wait_ms_max = 500;
    let since = Instant::now();
    loop {
        let error = PostgresTableReader::new(options.clone()).view(&Everything, 1).await.err().unwrap();
        assert_eq!(error.kind(), &ErrorKind::Unavailable, "{}", words(&error));
        if words(&error).contains(expect) {
            return;
        }
        assert!(since.elapsed() < Duration::from_secs(300), "{}", words(&error));
    }
}

/// An open transaction, held until [`Holder::end`].
struct Holder<'a> {
    database: &'a Database<'a>,
    pid: String,
    job: freshet_testkit::servers::SqlJob,
}

impl<'a> Holder<'a> {
    async fn begin(database: &'a Database<'a>) -> Self {
        let sql = "begin; insert into t values (1); set application_name = 'holder'; select pg_sleep(600)";
        let job = database.server.spawn_sql(&database.name, sql);
        let find =
            "select pid from pg_stat_activity where application_name = 'holder' and wait_event = 'PgSleep'";
        let mut pid = String::new();
        until(|| {
            pid = database.sql(find).trim().to_owned();
            !pid.is_empty()
        })
        .await;
        Self { database, pid, job }
    }

    fn end(self) {
        self.database.sql(&format!("select pg_terminate_backend({})", self.pid));
        assert!(self.job.wait().is_err(), "its session was ended");
    }
}

#[tokio::test]
async fn a_view_that_waits_for_a_transaction_says_for_which() {
    let server = Postgres::start(PostgresOptions::default());
    let database = Database::on(&server, "create table t (id int primary key)");
    let holder = Holder::begin(&database).await;
    let pid = &holder.pid;
    let expect =
        format!("within 500 ms: it waits for pid {pid}, role postgres, application holder, active for");
    waits_in_vain(&database, &expect).await;
    let mut reader = database.reader();
    let view = tokio::spawn(async move { reader.view(&Everything, 1).await.map(|view| view.tables.len()) });
    holder.end();
    assert_eq!(tokio::time::timeout(Duration::from_secs(300), view).await.unwrap().unwrap().unwrap(), 1);
}

/// Tries that are given up must not leave sessions that wait, each with a slot, until there is none left.
#[tokio::test]
async fn o2_a_view_that_is_given_up_leaves_no_slot_that_waits() {
    let server = Postgres::start(PostgresOptions::default());
    let database = Database::on(&server, "create table t (id int primary key)");
    let holder = Holder::begin(&database).await;
    let slots = "select count(*) from pg_replication_slots";
    let mut reader = database.reader();
    tokio::select! {
        view = reader.view(&Everything, 1) => panic!("the view waits, and it came: {}", view.is_ok()),
        () = until(|| database.sql(slots).trim() == "1") => {}
    }
    until(|| database.sql(slots).trim() == "0").await;
    holder.end();
}

/// A prepared transaction belongs to no session and can last for days.
#[tokio::test]
async fn t4_a_view_that_waits_for_a_prepared_transaction_says_so() {
    let server = Postgres::start(PostgresOptions::default().set("max_prepared_transactions", "5"));
    let database = Database::on(&server, "create table t (id int primary key)");
    database.sql("begin; insert into t values (1); prepare transaction 'left over'");
    waits_in_vain(&database, "it waits for a prepared transaction (of 'left over')").await;
    database.sql("commit prepared 'left over'");
    let mut view = database.view(1).await;
    let table = view.tables[0].clone();
    assert_eq!(read_table(view.readers[0].as_mut(), &table, 10).await.unwrap(), [["1".to_owned()]]);
}

#[tokio::test]
async fn what_the_server_lacks_is_said_with_the_next_step() {
    let server = Postgres::start(PostgresOptions::default().set("max_replication_slots", "1"));
    let database = Database::on(&server, "create table t (id int primary key); create role plain login");
    let error =
        PostgresTableReader::new(database.options_of("plain")).view(&Everything, 1).await.err().unwrap();
    assert!(words(&error).contains("Invalid") && words(&error).contains("REPLICATION"), "{}", words(&error));
    database.sql("select pg_create_physical_replication_slot('taken')");
    let error = database.reader().view(&Everything, 1).await.err().unwrap();
    assert!(words(&error).contains("max_replication_slots"), "{}", words(&error));
    database.sql("select pg_drop_replication_slot('taken')");
    assert_eq!(database.view(1).await.tables.len(), 1);
    let server = Postgres::start(PostgresOptions::default().set("wal_level", "replica"));
    let database = Database::on(&server, "create table t (id int primary key)");
    let error = database.reader().view(&Everything, 1).await.err().unwrap();
    assert!(words(&error).starts_with("Invalid: The source's wal_level is replica"), "{}", words(&error));
    assert_eq!(database.catalogue().await.len(), 1, "the catalogue alone needs none of it");
}

/// Rows that a policy hides are missing rows: an error, never a filter.
#[tokio::test]
async fn row_security_never_hides_rows() {
    server().sql("create role secured login replication");
    let database = Database::new(
        "create table t (id int primary key); insert into t values (1), (2); alter table t enable row level security; \
         create policy own on t using (id = 1); grant select on t to secured; create table u (id int); \
         grant select on u to secured",
    );
    let mut view =
        PostgresTableReader::new(database.options_of("secured")).view(&Everything, 1).await.unwrap();
    let (table, other) = (find(&view.tables, "t"), find(&view.tables, "u"));
    let error = read_table(view.readers[0].as_mut(), &table, 10).await.unwrap_err();
    assert!(words(&error).contains("BYPASSRLS"), "{}", words(&error));
    assert_eq!(read_table(view.readers[0].as_mut(), &other, 10).await.unwrap().len(), 0);
}

/// A reader that is dropped in the middle of a large answer does not go on reading it.
#[tokio::test]
async fn a_dropped_reader_stops_its_query() {
    let database = Database::new(
        "create table t (id int, filler text); insert into t select n, repeat('x', 1000) from generate_series(1, 50000) n",
    );
    let mut view = database.view(1).await;
    let table = view.tables[0].clone();
    let reader = view.readers[0].as_mut();
    let chunks = reader.plan(&table, 10).await.unwrap();
    reader.open(&table, &chunks[0]).await.unwrap();
    assert!(reader.read(&mut BatchBuilder::new(), 1_000).await.unwrap());
    drop(view);
    let busy = format!(
        "select count(*) from pg_stat_activity where datname = '{}' and application_name like 'freshet%'",
        database.name
    );
    until(|| server().sql(&busy).trim() == "0").await;
}

/// A read that is given up between two pieces loses nothing.
#[tokio::test]
async fn reading_can_be_interrupted() {
    let database = Database::new(
        "create table t (id int primary key, v text); insert into t select n, repeat('x', 300) from generate_series(1, 3000) n",
    );
    let mut view = database.view(1).await;
    let table = view.tables[0].clone();
    let reader = view.readers[0].as_mut();
    let chunks = reader.plan(&table, 1_000_000).await.unwrap();
    reader.open(&table, &chunks[0]).await.unwrap();
    let (mut batch, mut rows, mut is_patient, mut given_up, mut more) =
        (BatchBuilder::new(), 0, false, 0, true);
    while more {
        let read = {
            let reading = reader.read(&mut batch, 2_000);
            tokio::select! { biased; read = reading => Some(read), () = std::future::ready(()), if !is_patient => None }
        };
        match read {
            Some(read) => {
                more = read.unwrap();
                rows += batch.seal().rows();
            }
            None => given_up += 1,
        }
        // Every other try is given up where it would wait.
        is_patient = !is_patient;
    }
    assert!(given_up > 3, "{given_up} tries");
    assert_eq!(rows, 3_000);
}
