//! Faults of the target and of its neighbours, on real servers: each is named or recovered from, nothing is lost.

use crate::common::rows::{batch, begin, bigint, durable, load, plan, varchar, window};
use crate::common::{Database, server};
use freshet_core::codec::RowWriter;
use freshet_core::sink::{PrepareMode, Sink, TablePlan};
use freshet_core::table::{ColumnInfo, IndexInfo, IndexPart, TableInfo};
use freshet_core::window::StepKind;
use freshet_core::{DataType, ErrorKind, LogId};
use freshet_postgres::{ClientCertificate, PostgresSink, Severity, TlsMode, check, grants, reset};
use freshet_testkit::conformance::sink::{Script, Table, Target, mark};
use freshet_testkit::servers::{Hold, Postgres, PostgresOptions, Proxy, wait_until};
use std::sync::Arc;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(300);

async fn streaming(sink: &mut dyn Sink, table: &Table) {
    begin(sink).await;
    load(sink, std::slice::from_ref(&table.plan), table.batch(&[(0, "loaded")])).await.unwrap();
}

fn keyed() -> Table {
    Table::new("conf", "keyed", true)
}

/// T11: an owner whose COMMIT is stuck in the network wakes up after another took over.
#[tokio::test(flavor = "multi_thread")]
async fn t11_a_commit_that_wakes_up_after_the_take_over_does_nothing() {
    let server = server();
    let db = Database::new(&server);
    let proxy = Proxy::start(server.port());
    let mut options = db.options();
    options.connect.port = proxy.port();
    let (mut old, mut new) = (PostgresSink::new(options), db.postgres_sink());
    let table = keyed();
    streaming(&mut old, &table).await;
    proxy.hold("commit\0", Hold::Message);
    old.apply(Script::new().insert(&table, &[(1, "old")]).end(1).window()).await.unwrap();
    wait_until(DEADLINE, "the COMMIT to be held", || proxy.is_holding());

    let owned = new.take_over().await.unwrap();
    assert_eq!(owned.checkpoint.unwrap().mark, mark(0), "what was not committed is not there");
    durable(&mut new, Script::new().insert(&table, &[(1, "new")]).end(1).window()).await.unwrap();
    proxy.release();
    let error = old.flush().await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Fenced), "{error}");
    assert_eq!(*old.take_over().await.unwrap_err().kind(), ErrorKind::Fenced);
    assert_eq!(db.lines("select id, name from target.keyed order by id"), ["0\tloaded", "1\tnew"]);
}

/// T10: the answer to COMMIT is lost; the next take-over tells what became of it.
#[tokio::test(flavor = "multi_thread")]
async fn t10_a_lost_answer_to_commit_is_learned_at_the_take_over() {
    let server = server();
    let db = Database::new(&server);
    let proxy = Proxy::start(server.port());
    let mut options = db.options();
    options.connect.port = proxy.port();
    let mut sink = PostgresSink::new(options);
    let table = keyed();
    streaming(&mut sink, &table).await;
    proxy.hold("commit\0", Hold::Answer);
    sink.apply(Script::new().insert(&table, &[(1, "a")]).end(1).window()).await.unwrap();
    let seen = || db.sql("select count(*) from target.keyed where id = 1") == "1";
    wait_until(DEADLINE, "the commit to be carried out", seen);
    proxy.cut_held();
    assert_eq!(*sink.flush().await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(sink.take_over().await.unwrap().checkpoint.unwrap().mark, mark(1));
}

/// T11: an owner that reconnects while another process is about to take over does not end that one's session.
#[tokio::test(flavor = "multi_thread")]
async fn t11_a_former_owner_that_reconnects_leaves_the_next_one_alone() {
    let server = server();
    let db = Database::new(&server);
    let mut options = db.options();
    // Longer than all of what happens while they wait.
    options.lock_timeout_ms = 600_000;
    let (mut old, mut new) = (PostgresSink::new(options.clone()), PostgresSink::new(options));
    old.take_over().await.unwrap();
    let (client, connection) =
        tokio_postgres::connect(&server.conn_string(&db.name), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute("begin; select * from freshet.checkpoint for update").await.unwrap();
    let waiting = |n: usize| {
        let sql =
            "select count(*) from pg_stat_activity where usename = 'freshet' and wait_event_type = 'Lock'";
        wait_until(DEADLINE, "take-overs at the lock", || db.sql(sql) == n.to_string());
    };
    let new = tokio::spawn(async move { new.take_over().await.map(|o| o.epoch) });
    waiting(1);
    let old = tokio::spawn(async move {
        let outcome = old.take_over().await.map(|o| o.epoch);
        (old, outcome)
    });
    waiting(2);
    client.batch_execute("commit").await.unwrap();
    assert!(new.await.unwrap().is_ok());
    let (mut old, mut outcome) = old.await.unwrap();
    if outcome.as_ref().is_err_and(|error| *error.kind() == ErrorKind::Unavailable) {
        // The next owner ended its session before it was told: it is told when it comes back.
        outcome = old.take_over().await.map(|o| o.epoch);
    }
    assert_eq!(*outcome.unwrap_err().kind(), ErrorKind::Fenced);
}

/// T12: somebody holds a lock on the row; the window is given up after the lock time-out and can be tried again.
#[tokio::test(flavor = "multi_thread")]
async fn t12_a_lock_of_a_user_is_waited_for_only_so_long() {
    let server = server();
    let db = Database::new(&server);
    let mut options = db.options();
    options.lock_timeout_ms = 1_000;
    let mut sink = PostgresSink::new(options);
    let table = keyed();
    streaming(&mut sink, &table).await;
    let (client, connection) =
        tokio_postgres::connect(&server.conn_string(&db.name), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute("begin; select * from target.keyed where id = 0 for update").await.unwrap();
    let script = || Script::new().update(&table, &[((0, ""), (0, "changed"))]).end(1).window();
    let error = durable(&mut sink, script()).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Unavailable, "{error}");
    client.batch_execute("rollback").await.unwrap();
    sink.take_over().await.unwrap();
    durable(&mut sink, script()).await.unwrap();
    assert_eq!(db.sql("select name from target.keyed"), "changed");
}

/// The target was restored to an older state: the checkpoint of that state comes back, also to a running process.
#[tokio::test(flavor = "multi_thread")]
async fn t10_a_restored_target_reports_its_older_checkpoint() {
    let server = server();
    let db = Database::new(&server);
    let table = keyed();
    {
        let mut sink = db.postgres_sink();
        streaming(&mut sink, &table).await;
        durable(&mut sink, Script::new().insert(&table, &[(1, "a")]).end(1).window()).await.unwrap();
    }
    let no_session = || db.sql("select count(*) from pg_stat_activity where usename = 'freshet'") == "0";
    wait_until(DEADLINE, "the sink's sessions to end", no_session);
    server.sql(&format!("create database backup template {}", db.name));
    let mut sink = db.postgres_sink();
    sink.take_over().await.unwrap();
    durable(&mut sink, Script::new().insert(&table, &[(2, "b")]).end(2).window()).await.unwrap();
    let mut options = db.options();
    options.connect.database = "backup".into();
    let mut restored = PostgresSink::new(options);
    assert_eq!(restored.take_over().await.unwrap().checkpoint.unwrap().mark, mark(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_of_the_target_is_named_and_outlived() {
    let options = PostgresOptions::default().with_freshet_user().tablespace_bytes_max(48 << 20);
    let server = Arc::new(Postgres::start(options.database("small")));
    let db = Database { server: server.clone(), name: "small".into() };
    let mut sink = db.postgres_sink();
    let table = keyed();
    streaming(&mut sink, &table).await;
    let disk = server.disk().expect("a small disk");
    disk.fill();
    let long = "x".repeat(64);
    let rows: Vec<(i64, &str)> = (1..50_000).map(|id| (id, long.as_str())).collect();
    let script = || Script::new().insert(&table, &rows).end(1).window();
    let error = durable(&mut sink, script()).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Unavailable);
    assert!(error.message().contains("disk is full") && error.hint().is_some(), "{error}");
    disk.release();
    sink.take_over().await.unwrap();
    durable(&mut sink, script()).await.unwrap();
    assert_eq!(db.sql("select count(*) from target.keyed"), "50000");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_passwords_and_untrusted_certificates_are_named() {
    let server = Postgres::start(PostgresOptions::default().with_freshet_user().with_passwords().tls());
    let mut connect = freshet_postgres::ConnectOptions::new("127.0.0.1", "freshet", "postgres");
    connect.port = server.port();
    let attempt = async |connect: &freshet_postgres::ConnectOptions| {
        let options = freshet_postgres::SinkOptions::new("p", "s", connect.clone());
        check(&options, &[]).await.map(drop).map_err(|e| (e.kind().clone(), e.message().to_owned()))
    };
    let missing = attempt(&connect).await.unwrap_err();
    assert!(missing.0 == ErrorKind::Invalid && missing.1.contains("password"), "{missing:?}");
    connect.password = Some(freshet_postgres::Secret::new("wrong"));
    let wrong = attempt(&connect).await.unwrap_err();
    assert!(wrong.0 == ErrorKind::Invalid && wrong.1.contains("28P01"), "{wrong:?}");
    connect.password = Some(freshet_postgres::Secret::new("freshet"));
    connect.tls = TlsMode::Require;
    attempt(&connect).await.unwrap();
    connect.tls = TlsMode::VerifyFull;
    let untrusted = attempt(&connect).await.unwrap_err();
    assert!(untrusted.0 == ErrorKind::Invalid && untrusted.1.contains("certificate"), "{untrusted:?}");
    connect.tls_ca_file = server.tls().map(|tls| tls.ca.clone());
    attempt(&connect).await.unwrap();
    connect.tls_client =
        Some(ClientCertificate { cert_file: "missing.pem".into(), key_file: "missing.key".into() });
    let missing = attempt(&connect).await.unwrap_err();
    assert!(missing.0 == ErrorKind::Invalid && missing.1.contains("missing.pem"), "{missing:?}");
    connect.tls_client = None;
    connect.database = "nowhere".into();
    assert_eq!(attempt(&connect).await.unwrap_err().0, ErrorKind::Invalid);
    connect.port = 1;
    assert_eq!(attempt(&connect).await.unwrap_err().0, ErrorKind::Unavailable);
}

fn index(name: &str, unique: bool, column: u16) -> IndexInfo {
    let parts = vec![IndexPart { column: Some(column), prefix: None, descending: false }];
    IndexInfo { name: name.into(), unique, method: "btree".into(), parts }
}

fn people() -> TablePlan {
    let columns = [
        ("id", DataType::Int { bits: 32, unsigned: false }, "int(11)", false),
        ("boss", bigint(), "bigint(20)", true),
        ("Mail \"x\"", varchar(40), "varchar(40)", false),
    ];
    let plan = plan("people", &columns, &[0], vec![index("u", true, 2), index("i", false, 1)]);
    let columns = vec![ColumnInfo { auto_increment: true, ..plan.info.columns[0].clone() }];
    let columns = columns.into_iter().chain(plan.info.columns[1..].iter().cloned()).collect();
    let info = TableInfo { columns, next_value: Some(100), ..(*plan.info).clone() };
    TablePlan { info: Arc::new(info), ..plan }
}

fn person(id: i64, boss: Option<i64>, mail: &'static str) -> impl Fn(&mut RowWriter<'_>) {
    move |r| {
        assert!(r.int(id));
        match boss {
            Some(boss) => assert!(r.int(boss)),
            None => r.null(),
        }
        r.text(mail);
    }
}

/// R19: id 0 stays 0. Unique values are swapped in order, rows refer to themselves, the identity goes on where the
/// source's would.
#[tokio::test(flavor = "multi_thread")]
async fn r19_d13_identity_unique_swaps_and_self_references() {
    let server = server();
    let db = Database::new(&server);
    let (mut sink, plan) = (db.postgres_sink(), people());
    begin(&mut sink).await;
    let (zero, one) = (person(0, Some(0), "zero"), person(1, Some(0), "one"));
    load(&mut sink, std::slice::from_ref(&plan), batch(&plan, &[&zero, &one])).await.unwrap();
    db.sql("insert into people (boss, \"Mail \"\"x\"\"\") values (1, 'by a user'); delete from people where id = 100");
    let (free, zero2, one2) =
        (person(0, None, "free"), person(0, Some(1), "one"), person(1, Some(1), "zero"));
    let rows: [&dyn Fn(&mut RowWriter<'_>); 5] = [&zero, &one, &free, &one2, &zero2];
    let swap = |i: &[freshet_core::window::ImageRef]| {
        vec![StepKind::Update(vec![(i[0], i[2]), (i[1], i[3]), (i[2], i[4])])]
    };
    let mut swapped = window(&plan, &rows, Some(1), swap);
    swapped.ordered = true;
    durable(&mut sink, swapped).await.unwrap();
    assert_eq!(db.lines("select * from people order by id"), ["0\t1\tone", "1\t1\tzero"]);
    let direct = |i: &[freshet_core::window::ImageRef]| vec![StepKind::Update(vec![(i[0], i[1])])];
    let clash = window(&plan, &[&zero2, &person(0, None, "zero")], Some(2), direct);
    let error = durable(&mut sink, clash).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Reorder);
    assert!(!error.message().contains("zero"), "no value in {error}");
    let defs = "select indexdef from pg_indexes where tablename = 'people' order by indexname";
    assert_eq!(
        db.lines(defs),
        [
            "CREATE INDEX people_i ON public.people USING btree (boss)",
            "CREATE UNIQUE INDEX people_pkey ON public.people USING btree (id)",
            "CREATE UNIQUE INDEX people_u ON public.people USING btree (\"Mail \"\"x\"\"\")",
        ]
    );
}

/// An update sets what changed and leaves the rest, whatever the columns are, more sets of them than are prepared
/// for; one that changes nothing still finds its row.
#[tokio::test(flavor = "multi_thread")]
async fn updates_set_what_changed_in_every_combination() {
    let server = server();
    let db = Database::new(&server);
    let columns = ["id", "a", "b", "c", "d", "e", "f"].map(|name| (name, bigint(), "bigint", name != "id"));
    let plan = plan("wide", &columns, &[0], vec![]);
    let mut sink = db.postgres_sink();
    begin(&mut sink).await;
    let first = |row: &mut RowWriter<'_>| (0..7).for_each(|i| assert!(row.int(i)));
    load(&mut sink, std::slice::from_ref(&plan), batch(&plan, &[&first])).await.unwrap();
    let mut now: Vec<Option<i64>> = (0..7).map(Some).collect();
    let write = |row: &mut RowWriter<'_>, cells: &[Option<i64>]| {
        for cell in cells {
            match cell {
                Some(cell) => assert!(row.int(*cell)),
                None => row.null(),
            }
        }
    };
    for round in 0..128_u64 {
        let before = now.clone();
        for (column, cell) in now.iter_mut().enumerate().filter(|(column, _)| round >> column & 1 == 1) {
            *cell =
                cell.filter(|_| column != 3).map(|n| n + 10).or((column == 3 && cell.is_none()).then_some(7));
        }
        let rows: [&dyn Fn(&mut RowWriter<'_>); 2] = [&|row| write(row, &before), &|row| write(row, &now)];
        let update = |i: &[freshet_core::window::ImageRef]| vec![StepKind::Update(vec![(i[0], i[1])])];
        durable(&mut sink, window(&plan, &rows, Some(round + 1), update)).await.unwrap();
        let expect: Vec<String> =
            now.iter().map(|cell| cell.map_or("NULL".to_owned(), |cell| cell.to_string())).collect();
        assert_eq!(db.sql("select * from wide"), expect.join("\t"), "{round:b}");
    }
    let absent: [&dyn Fn(&mut RowWriter<'_>); 2] = [&first, &first];
    let update = |i: &[freshet_core::window::ImageRef]| vec![StepKind::Update(vec![(i[0], i[1])])];
    let error = durable(&mut sink, window(&plan, &absent, Some(200), update)).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Reorder, "{error}");
}

/// R13, R16, R17, D12: tables that are there already.
#[tokio::test(flavor = "multi_thread")]
async fn r16_r17_d12_existing_tables_fit_or_are_refused_by_name() {
    let server = server();
    let db = Database::new(&server);
    let as_freshet = |sql: &str| db.sql(&format!("set role freshet; {sql}"));
    as_freshet(
        "create schema target; create table target.keyed (extra text default 'd', name varchar(64) not null \
         check (name <> ''), id bigint primary key)",
    );
    let (mut sink, table) = (db.postgres_sink(), keyed());
    begin(&mut sink).await;
    let lines = load(&mut sink, std::slice::from_ref(&table.plan), table.batch(&[(1, "a")])).await.unwrap();
    assert!(lines.iter().any(|l| l.contains("Column name is NOT NULL")), "{lines:?}");
    assert!(lines.iter().any(|l| l.contains("Column extra is on the target only")), "{lines:?}");
    durable(&mut sink, Script::new().insert(&table, &[(2, "b")]).end(1).window()).await.unwrap();
    assert_eq!(db.lines("select * from target.keyed order by id"), ["d\ta\t1", "d\tb\t2"]);

    let bad = [
        (
            "narrow (id int primary key, name varchar(64))",
            "column id is declared integer, which is too narrow",
        ),
        ("missing (id bigint primary key)", "column name is missing"),
        ("other (id bigint primary key, name jsonb)", "column name is declared jsonb"),
        ("computed (id bigint primary key, name text generated always as ('x') stored)", "is generated"),
        ("wrong_key (id bigint, name text primary key)", "its primary key (name) is not the source's (id)"),
        ("always (id bigint generated always as identity primary key, name text)", "GENERATED ALWAYS"),
        ("stricter (id bigint primary key, name text, z int not null)", "column z is NOT NULL"),
    ];
    for (definition, reason) in bad {
        as_freshet(&format!("create table target.{definition}"));
        let name = definition.split(' ').next().unwrap();
        let plan = Table::new("conf", name, true).plan;
        let found = check(&db.options(), std::slice::from_ref(&plan)).await.unwrap();
        let seen = found.iter().any(|f| f.severity == Severity::Error && f.message.contains(reason));
        assert!(seen, "{name}: {found:?}");
        let error = sink.prepare(&[plan], PrepareMode::CreateIfAbsent).await.unwrap_err();
        assert!(*error.kind() == ErrorKind::Invalid && error.message().contains(reason), "{error}");
        sink.take_over().await.unwrap();
    }
    as_freshet(
        "create table target.fires (id bigint primary key, name text);
         create function target.f() returns trigger language plpgsql as 'begin return null; end';
         create trigger loud before insert on target.fires for each row execute function target.f()",
    );
    let plan = Table::new("conf", "fires", true).plan;
    let error = sink.prepare(&[plan], PrepareMode::CreateIfAbsent).await.unwrap_err();
    assert!(error.message().contains("trigger loud would fire"), "{error}");
}

/// The grants that are printed are enough, and without them the check says which is missing.
#[tokio::test(flavor = "multi_thread")]
async fn grants_are_enough_and_their_lack_is_named() {
    let server = server();
    server.sql("create role little login; create database plain");
    let db = Database { server: server.clone(), name: "plain".into() };
    let mut options = db.options();
    options.connect.user = "little".into();
    let plan = people();
    let found = check(&options, std::slice::from_ref(&plan)).await.unwrap();
    let codes: Vec<&str> = found.iter().filter(|f| f.severity == Severity::Error).map(|f| f.code).collect();
    assert_eq!(codes, ["target.control-schema", "target.schema"], "{found:?}");
    let error = PostgresSink::new(options.clone()).take_over().await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Invalid, "{error}");

    db.sql(&grants(&options));
    let found = check(&options, std::slice::from_ref(&plan)).await.unwrap();
    assert!(found.iter().all(|f| f.severity == Severity::Info), "{found:?}");
    let mut sink = PostgresSink::new(options.clone());
    begin(&mut sink).await;
    load(&mut sink, std::slice::from_ref(&plan), batch(&plan, &[&person(1, None, "a")])).await.unwrap();
    drop(sink);
    let lines = reset(&options, true).await.unwrap();
    assert_eq!(lines, ["table public.people dropped", "checkpoint and the state of 1 tables forgotten"]);
    assert_eq!(PostgresSink::new(options).take_over().await.unwrap().checkpoint, None);
}

/// An unknown version of the control schema is refused by name.
#[tokio::test(flavor = "multi_thread")]
async fn another_control_version_is_refused() {
    let server = server();
    let db = Database::new(&server);
    let mut sink = db.postgres_sink();
    begin(&mut sink).await;
    assert!(sink.begin(LogId([2; 16]), &mark(0), "").await.is_err());
    db.sql("update freshet.version set version = 99");
    let error = db.sink().take_over().await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("version 99"), "{error}");
}
