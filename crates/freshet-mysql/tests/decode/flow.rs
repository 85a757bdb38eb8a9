//! Transactions, statements, positions and refusals, as real servers log them.

use freshet_core::codec::{Batch, BatchBuilder, EventRef};
use freshet_core::error::Error;
use freshet_mysql::decode::{DecodeError, Step};
use freshet_testkit::servers::{Flavor, MyOptions, MyServer};

use super::common::{
    capture, changes, connect, decoder, end_of_binlog, events, feed, flavour, mariadb, mysql, special,
};

fn both() -> [&'static MyServer; 2] {
    [mariadb(), mysql()]
}

/// A word an event, `b` and `c` around transactions.
fn outline(batch: &Batch) -> String {
    let word = |event| match event {
        EventRef::Begin { .. } => "b".to_owned(),
        EventRef::Schema { .. } => "schema".to_owned(),
        EventRef::Insert { .. } => "i".to_owned(),
        EventRef::Update { .. } => "u".to_owned(),
        EventRef::Delete { .. } => "d".to_owned(),
        EventRef::Truncate(table) => format!("truncate({table})"),
        EventRef::Commit(_) => "c".to_owned(),
        EventRef::Statement(statement) => format!("ddl({})", statement.table),
    };
    batch.events().map(|event| word(event.unwrap())).collect::<Vec<_>>().join(" ")
}

/// Runs statements and gives what the binlog then holds of databases whose names begin with `prefix`.
async fn run(server: &MyServer, prefix: &'static str, sql: &str) -> Result<Batch, DecodeError> {
    let start = end_of_binlog(server).await;
    server.sql(sql);
    capture(server, &start, prefix, special(server).await).await
}

async fn check(server: &MyServer, prefix: &'static str, sql: &str, expect: &str) {
    let batch = run(server, prefix, sql).await.unwrap();
    assert_eq!(outline(&batch), expect, "{:?}: {sql}", server.flavor());
}

/// T1, T6, R6, R22: what is committed comes whole, what is rolled back or not captured does not come.
#[tokio::test]
async fn t1_t6_transactions() {
    let _turn = crate::common::turn().await;
    for server in both() {
        server.sql(
            "create database flow; create database other; use flow; \
            create table t (id int primary key, v varchar(20)) engine=innodb; create table other.t like t",
        );
        check(
            server,
            "flow",
            "use flow; begin; insert into t values (1,'a'),(2,'b'); update t set v='c' where id=1; \
            savepoint s; delete from t where id=2; rollback to s; update t set id=7 where id=2; commit",
            "b schema i i u u c",
        )
        .await;
        check(server, "flow", "use flow; begin; insert into t values (3,'a'); rollback", "").await;
        check(
            server,
            "flow",
            "insert into other.t values (1,'x'); create table other.u (a int); drop table other.u",
            "",
        )
        .await;
        check(
            server,
            "flow",
            "use other; begin; insert into t values (5,'y'); delete from flow.t where id=7; commit",
            "b schema d c",
        )
        .await;
        check(
            server,
            "flow",
            "use flow; insert into t values (9,null); truncate t; truncate table other.t",
            "b schema i c b truncate(flow.t) c",
        )
        .await;
    }
}

/// D5: every name that a statement gives or takes away is reported, and nothing else.
#[tokio::test]
async fn d5_ddl_of_captured_tables() {
    let _turn = crate::common::turn().await;
    for server in both() {
        server.sql("create database ddl; create database elsewhere");
        let check = async |sql, expect| check(server, "ddl", sql, expect).await;
        check("create table ddl.a (id int primary key, b text)", "b ddl(ddl.a) c").await;
        check(
            "use ddl; alter table a add c int; create index i on a (c); drop index i on a",
            "b ddl(ddl.a) c b ddl(ddl.a) c b ddl(ddl.a) c",
        )
        .await;
        check("rename table ddl.a to ddl.b, ddl.b to elsewhere.c", "b ddl(ddl.a) ddl(ddl.b) c").await;
        check("use elsewhere; alter table c rename to ddl.`od``d.x`", "b ddl(ddl.od`d.x) c").await;
        check("set sql_mode=ansi_quotes; drop table \"ddl\".\"od`d.x\"", "b ddl(ddl.od`d.x) c").await;
        check(
            "use ddl; create temporary table t (a int); insert into t values (1); drop temporary table t",
            "",
        )
        .await;
        check("use ddl; create view v as select 1 a; create procedure p() drop table if exists x; drop view v; drop procedure p", "").await;
        check("create user u1@localhost; grant select on ddl.* to u1@localhost; drop user u1@localhost; flush tables", "").await;
        check("drop database elsewhere", "").await;
        check("drop database ddl", "b ddl(ddl.) c").await;
    }
}

/// P11, P13, P19: the set is the server's, and the place is the end of its binlog.
#[tokio::test]
async fn p13_the_position_after_everything_is_the_servers() {
    let _turn = crate::common::turn().await;
    for server in both() {
        let start = end_of_binlog(server).await;
        server.sql("create database pos; use pos; create table t (a int); insert into t values (1); flush binary logs; \
            insert into t values (2); create table u (a int)");
        if server.flavor() == Flavor::MySql {
            server.sql("set gtid_next='automatic:tag_a'; use pos; insert into t values (3); insert into t values (4)");
        }
        let mut connection = connect(server).await;
        let sql = match server.flavor() {
            Flavor::MariaDb => "SELECT @@GLOBAL.gtid_binlog_state",
            Flavor::MySql => "SELECT @@GLOBAL.gtid_executed",
        };
        let mut decoder = decoder(server, &start, "pos", special(server).await);
        let mut batch = BatchBuilder::new();
        let events = events(server, &start).await;
        let steps = feed(&mut decoder, &events, &mut batch).unwrap();
        assert!(steps.contains(&Step::Rotated));
        let whole =
            flavour(server).parse_gtids(connection.query(sql).await.unwrap().first(0).unwrap()).unwrap();
        let ours = &decoder.binlog_position().gtids;
        assert!(ours.is_subset(&whole), "{ours} in {whole}");
        if server.flavor() == Flavor::MySql {
            assert!(ours.to_string().contains(":tag_a:"), "{ours}");
        } else {
            assert_eq!(*ours, whole);
        }
        let commits: Vec<String> = batch
            .seal()
            .events()
            .filter_map(|event| match event.unwrap() {
                EventRef::Commit(commit) => {
                    assert!(commit.commit_us > 1_600_000_000_000_000, "P24");
                    Some(format!("{:?}", commit.place))
                }
                _ => None,
            })
            .collect();
        assert!(commits.len() >= 4, "{commits:?}");
    }
}

/// A batch that fills within an event is handed out in parts, which hold the same rows.
#[tokio::test]
async fn t5_large_events_come_in_parts() {
    let _turn = crate::common::turn().await;
    for server in both() {
        server.sql(
            "create database parts; use parts; create table t (id int primary key auto_increment, v text)",
        );
        let start = end_of_binlog(server).await;
        let compress =
            if server.flavor() == Flavor::MySql { "set binlog_transaction_compression=on;" } else { "" };
        server.sql(&format!(
            "use parts; {compress} begin; insert into t (v) values (repeat('x', 1000)); \
            insert into t (v) select a.v from t a; insert into t (v) select a.v from t a, t b, t c; \
            insert into t (v) select a.v from t a, t b; delete from t where id > 5; commit"
        ));
        let events = events(server, &start).await;
        let mut whole = BatchBuilder::new();
        feed(&mut decoder(server, &start, "parts", special(server).await), &events, &mut whole).unwrap();
        let whole = whole.seal();
        let options = freshet_mysql::decode::DecodeOptions { batch_bytes_max: 3000, ..Default::default() };
        let mut small = freshet_mysql::decode::Decoder::new(
            flavour(server),
            std::sync::Arc::new(super::common::Prefix("parts")),
            options,
        );
        small.start(freshet_core::position::BinlogPosition {
            server: "s".into(),
            file: start.clone(),
            gtids: flavour(server).empty_gtids(),
        });
        let (mut joined, mut parts, mut batch) = (Vec::new(), 0, BatchBuilder::new());
        for event in &events {
            let mut step = small.feed(event, &mut batch).unwrap();
            while step == Step::More {
                parts += 1;
                assert!(batch.len() < 5000, "{}", batch.len());
                joined.extend_from_slice(batch.seal().bytes());
                step = small.resume(event, &mut batch).unwrap();
            }
        }
        joined.extend_from_slice(batch.seal().bytes());
        assert!(parts > 10, "{parts}");
        assert_eq!(joined, whole.bytes().to_vec());
        assert!(changes(&whole).len() > 20);
    }
}

fn refused(result: Result<Batch, DecodeError>, words: &str) {
    let error = match result {
        Ok(batch) => panic!("{words}: decoded into {}", outline(&batch)),
        Err(error) => Error::from(error),
    };
    assert!(error.message().contains(words), "{words}: {error}");
    assert!(error.hint().is_some(), "{words}");
}

/// R9, R11, T3, R12: what stops the pipeline, by name; and that it does not where nothing captured is concerned.
#[tokio::test]
async fn r9_r11_t3_refusals() {
    let _turn = crate::common::turn().await;
    for server in both() {
        server.sql("create database no; use no; create table t (id int primary key, v text, w int); \
            insert into t values (1,'a',1); create database fine; create table fine.t (id int primary key, v text)");
        refused(
            run(server, "no", "set binlog_row_image=minimal; update no.t set w=2").await,
            "binlog_row_image",
        );
        refused(run(server, "no", "set global binlog_row_metadata=minimal; update no.t set w=3; set global binlog_row_metadata=full").await, "binlog_row_metadata");
        refused(
            run(server, "no", "set binlog_format=statement; use no; update t set w=4").await,
            "logged as a statement",
        );
        refused(
            run(server, "no", "set binlog_format=statement; use fine; insert into t select id, v from no.t")
                .await,
            "logged as a statement",
        );
        refused(
            run(
                server,
                "no",
                "use no; xa start 'x'; insert into t values (2,'b',1); xa end 'x'; xa prepare 'x'; xa commit 'x'",
            )
            .await,
            "XA",
        );
        // T1: in ROW format what a rolled-back transaction did to such a table stands in the log as a transaction.
        let sql = "create table no.m (id int) engine=myisam; begin; insert into no.m values (1); \
            insert into no.t values (7,'x',1); rollback";
        assert_eq!(outline(&run(server, "no", sql).await.unwrap()), "b ddl(no.m) c b schema i c");
        assert_eq!(
            outline(
                &run(
                    server,
                    "no",
                    "set binlog_row_image=minimal; insert into fine.t values (2,'x'); \
            update fine.t set v='y'"
                )
                .await
                .unwrap()
            ),
            ""
        );
        // R11: a table that is not captured, and its trigger, which writes one that is.
        let as_statement = "set binlog_format=statement; use fine; insert into t values (3,'z')";
        refused(run(server, "no", as_statement).await, "in the default database fine");
        server.sql("create trigger fine.tr after insert on fine.t for each row update no.t set w=new.id");
        refused(
            run(server, "no", "set binlog_format=statement; use fine; insert into t values (4,'z')").await,
            "logged as a statement",
        );
        refused(
            run(server, "no", "set binlog_format=statement; insert into fine.t values (5,'z')").await,
            "in no default database",
        );
    }
}

/// R10 and MariaDB's compressed events: what only one of the two servers writes.
#[tokio::test]
async fn r10_refusals_of_one_server() {
    let _turn = crate::common::turn().await;
    mariadb().sql("create database one; create table one.t (id int primary key, v text, w int)");
    mysql().sql("create database one");
    refused(
        run(
            mariadb(),
            "one",
            "set global log_bin_compress=on; insert into one.t values (3, repeat('x', 1000), 1); \
        set global log_bin_compress=off",
        )
        .await,
        "compressed",
    );
    mysql().sql("create table one.j (id int primary key, j json); insert into one.j values (1, json_object('a', repeat('x', 100), 'b', 1))");
    refused(
        run(
            mysql(),
            "one",
            "set binlog_row_value_options=partial_json; update one.j set j=json_set(j, '$.b', 2)",
        )
        .await,
        "partial JSON",
    );
}

/// M9: MariaDB's formats before MySQL 5.6, whose events do not say their precision: read with the catalogue's word,
/// refused without it.
#[tokio::test]
async fn m9_mariadb_old_temporal_formats() {
    let _turn = crate::common::turn().await;
    let server = MyServer::start(Flavor::MariaDb, MyOptions::default().arg("--mysql56-temporal-format=OFF"));
    let start = end_of_binlog(&server).await;
    server.sql("create database old; use old; set time_zone='+00:00'; set sql_mode=''; create table t (id int primary key, \
        a time, b time(3), c time(6), d datetime, e datetime(1), f datetime(6), g timestamp null, h timestamp(2) null, \
        i timestamp(6) null, j date); \
        insert into t values (1,'-12:34:56','-12:34:56.789','-838:59:59.999999','2020-02-03 04:05:06','0000-00-00','9999-12-31 23:59:59.999999', \
        '2020-02-03 04:05:06','2020-02-03 04:05:06.12','2038-01-19 03:14:07.999999','0000-00-00'), \
        (2,0,0,0,0,0,0,0,0,0,0), (3,null,null,null,null,null,null,null,null,null,null)");
    let batch = capture(&server, &start, "old", special(&server).await).await.unwrap();
    let streamed = changes(&batch);
    let loaded = super::common::load(&server, &streamed[0].schema).await;
    assert_eq!(streamed.len(), 3);
    for (stream, load) in streamed.iter().zip(&loaded) {
        let cells =
            |change: &super::common::Change| format!("{:?}", change.after().cells().collect::<Vec<_>>());
        assert_eq!(cells(stream), cells(load));
    }
    refused(capture(&server, &start, "old", Default::default()).await, "format before MySQL 5.6");
}

/// 1.10: a server that dies in the middle of a transaction leaves nothing of it; P15: what follows is read on.
#[tokio::test]
async fn p15_restarts_and_checksums_off() {
    let _turn = crate::common::turn().await;
    for flavor in [Flavor::MariaDb, Flavor::MySql] {
        let server = MyServer::start(flavor, MyOptions::default().arg("--binlog-checksum=NONE"));
        let start = end_of_binlog(&server).await;
        // R11: after a restart the server empties tables in memory by a statement, which must be no DML.
        server.sql(
            "create database re; use re; create table t (a int primary key); insert into t values (1); \
            create database aside; create table aside.m (a int) engine=memory; insert into aside.m values (1)",
        );
        server.kill9();
        server.restart();
        server.sql("select * from aside.m; insert into re.t values (2)");
        server.stop();
        server.restart();
        server.sql("insert into re.t values (3)");
        let batch = capture(&server, &start, "re", special(&server).await).await.unwrap();
        assert_eq!(outline(&batch), "b ddl(re.t) c b schema i c b i c b i c");
    }
}
