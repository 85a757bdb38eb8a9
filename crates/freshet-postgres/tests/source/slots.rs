//! Publication and slot: made, checked, told how far we are, and what happens when others lay hands on them.

use crate::harness::{DEADLINE, Database, Public, Reading, start, start_with};
use freshet_core::ErrorKind;
use freshet_core::source::Source;
use freshet_postgres::{ClientCertificate, TlsMode, WalSource, forget};
use freshet_testkit::servers::{PostgresOptions, poll_until};
use std::sync::Arc;

fn confirmed(database: &Database<'_>) -> String {
    database.sql(&format!(
        "select confirmed_flush_lsn from pg_replication_slots where slot_name = 'freshet_{}'",
        database.name
    ))
}

/// P9: what is committed after `begin` is read, though the session is opened later; and both are removed when asked.
#[tokio::test(flavor = "multi_thread")]
async fn p9_a_slot_keeps_what_comes_after_begin() {
    let database = Database::new("create table t (id int primary key); create table other (id int)");
    let mut source = database.source();
    let start = source.begin().await.unwrap();
    database.sql("insert into t values (1)");
    assert_eq!(database.sql("select string_agg(tablename, ',') from pg_publication_tables"), "t");
    let again = source.begin().await.unwrap();
    assert!(again.covers(&start), "begun twice");
    let mut reading = Reading::open(source, &start).await.unwrap();
    reading.until(1).await;
    assert_eq!(reading.taken(), ["+t 1", ";"]);
    drop(reading);
    let options = database.options();
    let mut forgotten = forget(&options).await;
    assert!(poll_until(DEADLINE, || {
        forgotten.is_ok()
            || database.sql(
                "select count(*) from pg_replication_slots where active and database = current_database()",
            ) == "0"
    }));
    if forgotten.is_err() {
        forgotten = forget(&options).await;
    }
    forgotten.unwrap();
    forget(&options).await.unwrap();
    assert_eq!(database.sql("select count(*) from pg_publication"), "0");
    assert_eq!(confirmed(&database), "");
}

/// P3: the server may forget only what is durable; it hears of that, also on an idle source.
#[tokio::test(flavor = "multi_thread")]
async fn p3_only_what_is_durable_is_confirmed() {
    let database = Database::new("create table t (id int primary key)");
    let mut options = database.options();
    options.status_interval_ms = 100;
    let mut source = WalSource::new(options, Arc::new(Public));
    let start = source.begin().await.unwrap();
    let mut reading = Reading::open(source, &start).await.unwrap();
    database.sql("insert into t values (1)");
    reading.until(1).await;
    let place = reading.place.clone();
    database.sql("insert into t values (2)");
    reading.until(2).await;
    reading.source.acknowledge(&place).await.unwrap();
    let freshet_core::Position::Wal(place) = place else { panic!("a place in the WAL") };
    let expect = format!("{:X}/{:X}", place.lsn.0 >> 32, place.lsn.0 & 0xffff_ffff);
    // The server hears of the start first.
    let reached = format!(
        "select confirmed_flush_lsn >= '{expect}' from pg_replication_slots where slot_name = 'freshet_{}'",
        database.name
    );
    assert!(poll_until(DEADLINE, || database.sql(&reached) == "t"));
    assert_eq!(confirmed(&database), expect, "and no more than that");
}

/// P5, P6: a slot that is gone, was advanced by others, is in use, or lost what is needed.
#[tokio::test(flavor = "multi_thread")]
async fn p6_a_slot_that_others_moved_is_a_resync() {
    let database = Database::new("create table t (id int primary key)");
    let mut source = database.source();
    let start = source.begin().await.unwrap();
    let slot = format!("freshet_{}", database.name);
    let mut reading = Reading::open(source, &start).await.unwrap();
    let in_use = Reading::open(database.source(), &start).await.err().unwrap();
    assert_eq!(in_use.kind(), &ErrorKind::Unavailable, "{in_use}");
    database.sql("insert into t values (1)");
    reading.until(1).await;
    drop(reading);
    let idle = format!("select count(*) from pg_replication_slots where slot_name = '{slot}' and not active");
    assert!(poll_until(DEADLINE, || database.sql(&idle) == "1"));
    database.sql(&format!("select pg_replication_slot_advance('{slot}', pg_current_wal_flush_lsn())"));
    let error = Reading::open(database.source(), &start).await.err().unwrap();
    assert_eq!(error.kind(), &ErrorKind::Resync, "{error}");
    assert!(error.message().contains("was advanced"), "{error}");
    database.sql(&format!("select pg_drop_replication_slot('{slot}')"));
    let error = Reading::open(database.source(), &start).await.err().unwrap();
    assert_eq!(error.kind(), &ErrorKind::Resync, "{error}");
    assert!(error.message().contains("is gone"), "{error}");
}

/// P5: a slot that held more WAL than the server was willing to keep.
#[tokio::test(flavor = "multi_thread")]
async fn p5_a_slot_that_lost_wal_is_a_resync() {
    let server = start();
    let database = Database::on(&server, "create table t (id int primary key); create table other (v text)");
    let mut source = database.source();
    let start = source.begin().await.unwrap();
    server.sql("alter system set max_slot_wal_keep_size = '1MB'");
    server.sql("select pg_reload_conf()");
    let lost = "select count(*) from pg_replication_slots where wal_status = 'lost'";
    assert!(poll_until(DEADLINE, || {
        database
            .sql("insert into other select repeat('x', 1000) from generate_series(1, 20000); truncate other");
        server.sql("select pg_switch_wal()");
        server.sql("checkpoint");
        server.sql(lost) == "1"
    }));
    let error = source.open(&start, &[]).await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Resync, "{error}");
    assert!(error.message().contains("lost WAL"), "{error}");
}

/// R3: a table whose updates would fail once it is published is refused before it is.
#[tokio::test(flavor = "multi_thread")]
async fn r3_a_table_without_replica_identity_is_refused() {
    let database = Database::new("create table t (id int)");
    let error = database.source().begin().await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Unsupported, "{error}");
    assert!(error.message().contains("public.t") && error.hint().unwrap().contains("REPLICA IDENTITY FULL"));
    database.sql("insert into t values (1); update t set id = 2");
    assert_eq!(database.sql("select count(*) from pg_publication"), "0");
}

/// P9: a table that came later, or was taken out of the publication, is not missing without a word.
#[tokio::test(flavor = "multi_thread")]
async fn p9_a_table_that_is_not_published_stops_by_name() {
    let database = Database::new("create table t (id int primary key); create table u (id int primary key)");
    let mut source = database.source();
    let start = source.begin().await.unwrap();
    database.sql(&format!("alter publication freshet_{} drop table u", database.name));
    let error = source.open(&start, &[]).await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Table(freshet_core::TableName::new("public", "u")), "{error}");
    assert!(error.message().contains("Table public.u was taken out of the publication"), "{error}");
    database.sql(&format!("drop publication freshet_{}", database.name));
    let error = source.open(&start, &[]).await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Resync, "{error}");
}

/// A role that is told by its certificate: the replication session and those beside it show one.
#[tokio::test(flavor = "multi_thread")]
async fn a_role_may_be_told_by_its_certificate() {
    let server = start_with(PostgresOptions::default().tls());
    let database = Database::on(&server, "create table t (id int primary key)");
    let mut options = database.options();
    let rules = "local all all trust\nhostssl all all 127.0.0.1/32 cert\nhostssl all all ::1/128 cert\n";
    std::fs::write(server.data_dir().join("pg_hba.conf"), rules).unwrap();
    server.sql("select pg_reload_conf()");
    options.connect.host = "localhost".into();
    options.connect.tls = TlsMode::VerifyFull;
    options.connect.tls_ca_file = server.tls().map(|tls| tls.ca.clone());
    let error = WalSource::new(options.clone(), Arc::new(Public)).begin().await.unwrap_err();
    assert!(error.message().contains("certificate"), "{error}");
    let client = server.tls().unwrap().client("postgres");
    options.connect.tls_client = Some(ClientCertificate { cert_file: client.cert, key_file: client.key });
    let mut source = WalSource::new(options, Arc::new(Public));
    let start = source.begin().await.unwrap();
    let mut reading = Reading::open(source, &start).await.unwrap();
    database.sql("insert into t values (1)");
    reading.until(1).await;
    assert_eq!(reading.taken(), ["+t 1", ";"]);
}

/// P7, P22: another cluster, and a position or something held beyond the end.
#[tokio::test(flavor = "multi_thread")]
async fn p7_p22_another_history_is_a_resync() {
    let server = start();
    let here = Database::on(&server, "create table t (id int primary key)");
    let mut source = here.source();
    let start = source.begin().await.unwrap();
    let freshet_core::Position::Wal(wal) = &start else { panic!("a place in the WAL") };
    let other = |change: &dyn Fn(&mut freshet_core::position::WalPosition)| {
        let mut wal = wal.clone();
        change(&mut wal);
        freshet_core::Position::Wal(wal)
    };
    let beyond = other(&|wal| wal.lsn.0 += 1 << 30);
    for (place, word) in [
        (other(&|wal| wal.system += 1), "system"),
        (beyond.clone(), "its WAL ends"),
        (other(&|wal| wal.timeline += 1), "timeline"),
    ] {
        let error = source.open(&place, &[]).await.unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Resync, "{error}");
        assert!(error.message().contains(word), "{error}");
    }
    let error = source.open(&start, &[beyond]).await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Resync, "{error}");
    assert!(error.message().contains("A target holds"), "{error}");
    source.open(&start, std::slice::from_ref(&start)).await.unwrap();
}

/// P8: nobody reads for longer than the server's patience, and the stream goes on.
#[tokio::test(flavor = "multi_thread")]
async fn p8_a_source_that_is_not_read_stays_connected() {
    let server = start();
    let database = Database::on(&server, "create table t (id int primary key, v text)");
    let mut options = database.options();
    options.status_interval_ms = 200;
    let mut source = WalSource::new(options, Arc::new(Public));
    let start = source.begin().await.unwrap();
    let mut reading = Reading::open(source, &start).await.unwrap();
    // More than the sockets hold, so that the walsender waits for us.
    database.sql("insert into t select n, repeat('x', 1000) from generate_series(1, 20000) n");
    let waits = "select count(*) from pg_stat_activity where backend_type = 'walsender' and wait_event = 'WalSenderWriteData'";
    assert!(poll_until(DEADLINE, || server.sql(waits) == "1"));
    let blocked = server.sql("select clock_timestamp()");
    let told = format!("select count(*) from pg_stat_replication where reply_time > '{blocked}'");
    assert!(poll_until(DEADLINE, || server.sql(&told) == "1"), "the server hears from us while nobody reads");
    reading.until(1).await;
    assert_eq!(reading.taken().len(), 20_001);
}
