//! What the sink refuses, what it rolls back, and DDL that a crash or another owner cuts off.

use crate::common::{FLAVORS, Place};
use crate::cutter::{Cut, Cutter};
use crate::rows::{begin, bigint, durable, load, plan, varchar};
use freshet_core::ErrorKind;
use freshet_core::sink::{PrepareMode, Sink};
use freshet_mysql::sink::{MySqlSink, SinkOptions, check, grants, reset};
use freshet_testkit::conformance::sink::{Script, Table, Target, mark, position};
use freshet_testkit::servers::wait_until;
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(60);

fn keyed() -> Table {
    Table::new("conf", "keyed", true)
}

async fn streaming(place: &Place) -> MySqlSink {
    let (mut sink, table) = (place.mysql_sink(), keyed());
    begin(&mut sink).await;
    let rows = table.batch(&[(0, "loaded")]);
    load(&mut sink, std::slice::from_ref(&table.plan), rows).await.unwrap();
    sink
}

/// T12: a lock that is not had in time undoes the whole window, and asks to try again.
#[tokio::test(flavor = "multi_thread")]
async fn t12_a_lock_wait_undoes_the_whole_window() {
    for flavor in FLAVORS {
        let place = Place::new(flavor).await;
        streaming(&place).await;
        let mut options = place.options();
        options.lock_timeout_ms = 1_000;
        let (mut sink, table) = (MySqlSink::new(options), keyed());
        sink.take_over().await.unwrap();
        let user = place
            .server
            .spawn_sql("begin; update target.keyed set name = name where id = 0; select sleep(30); rollback");
        let waits = "select count(*) from information_schema.processlist where info like 'select sleep(30)%'";
        wait_until(DEADLINE, "the user's lock", || place.server.sql(waits) == "1");
        let script = || Script::new().insert(&table, &[(1, "a")]).update(&table, &[((0, ""), (0, "new"))]);
        let error = durable(&mut sink, script().end(1).window()).await.unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::Unavailable, "{error}");
        assert_eq!(place.rows(table.target()).await.len(), 1, "nothing of it is there");
        drop(user);
        sink.take_over().await.unwrap();
        wait_until(DEADLINE, "the user to be gone", || place.server.sql(waits) == "0");
        durable(&mut sink, script().end(1).window()).await.unwrap();
        assert_eq!(place.lines("select name from target.keyed order by id"), ["new", "a"]);
    }
}

/// T12: a deadlock of which our transaction is the victim undoes the whole window, and asks to try again.
#[tokio::test(flavor = "multi_thread")]
async fn t12_a_deadlock_undoes_the_whole_window() {
    for flavor in FLAVORS {
        let place = Place::new(flavor).await;
        let (mut sink, table) = (streaming(&place).await, keyed());
        durable(&mut sink, Script::new().insert(&table, &[(1, "a"), (2, "b")]).end(1).window())
            .await
            .unwrap();
        // Whoever changed less is the victim.
        let many: Vec<String> = (100..2100).map(|n| format!("({n})")).collect();
        let user = place.server.spawn_sql(&format!(
            "create table target.more (n int primary key); begin; insert into target.more values {}; \
             update target.keyed set name = name where id = 2; select sleep(3); \
             update target.keyed set name = name where id = 1; select sleep(1); commit",
            many.join(",")
        ));
        let waits = "select count(*) from information_schema.processlist where info like 'select sleep(3)%'";
        wait_until(DEADLINE, "the user's lock", || place.server.sql(waits) == "1");
        let script = || {
            Script::new()
                .insert(&table, &[(3, "c")])
                .update(&table, &[((1, ""), (1, "x"))])
                .update(&table, &[((2, ""), (2, "y"))])
        };
        let error = durable(&mut sink, script().ordered().end(2).window()).await.unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.message().to_lowercase().contains("deadlock"), "{error}");
        user.wait().unwrap();
        assert_eq!(
            place.lines("select id, name from target.keyed where id > 0 order by id"),
            ["1\ta", "2\tb"]
        );
        sink.take_over().await.unwrap();
        durable(&mut sink, script().end(2).window()).await.unwrap();
        assert_eq!(place.lines("select name from target.keyed where id > 0 order by id"), ["x", "y", "c"]);
    }
}

/// T10: a target that becomes read-only in the midst of a transaction, as in a fail-over, is tried again.
#[tokio::test(flavor = "multi_thread")]
async fn t10_a_target_that_becomes_read_only_is_tried_again() {
    for flavor in FLAVORS {
        let place = Place::new(flavor).await;
        let (mut sink, table) = (streaming(&place).await, keyed());
        let insert = |n: i64| Script::new().insert(&table, &[(n, "a")]);
        for part_first in [false, true] {
            if part_first {
                sink.apply(insert(10).window()).await.unwrap();
                sink.flush().await.unwrap();
            }
            place.server.sql("set global read_only = 1");
            let refused = durable(&mut sink, insert(11).end(1).window()).await;
            let closed = sink.take_over().await;
            place.server.sql("set global read_only = 0");
            let error = refused.unwrap_err();
            assert_eq!(*error.kind(), ErrorKind::Unavailable, "{error}");
            assert_eq!(*closed.unwrap_err().kind(), ErrorKind::Unavailable);
            let owned = sink.take_over().await.unwrap();
            assert_eq!(owned.checkpoint.unwrap().mark.next.0, 0, "{flavor:?}");
            assert_eq!(place.rows(table.target()).await.len(), 1);
        }
        durable(&mut sink, insert(11).end(1).window()).await.unwrap();
    }
}

/// T12: a source that takes its time over a chunk does not cost the loader its connection.
#[tokio::test(flavor = "multi_thread")]
async fn t12_a_loader_waits_for_its_source() {
    for flavor in FLAVORS {
        let place = Place::new(flavor).await;
        let options = SinkOptions { idle_in_transaction_timeout_ms: 1_000, ..place.options() };
        let (mut sink, table) = (MySqlSink::new(options), keyed());
        begin(&mut sink).await;
        sink.prepare(std::slice::from_ref(&table.plan), PrepareMode::CreateIfAbsent).await.unwrap();
        sink.plan_chunks(table.name(), &[table.chunk(0)]).await.unwrap();
        let mut loader = sink.loader().await.unwrap();
        loader.open(&table.plan, &table.chunk(0)).await.unwrap();
        for id in 0..2 {
            let since = Instant::now();
            wait_until(DEADLINE, "more than the idle time", || since.elapsed() > Duration::from_secs(3));
            loader.rows(table.batch(&[(id, "late")])).await.unwrap();
        }
        assert_eq!(loader.finish(&position(0)).await.unwrap(), 2, "{flavor:?}");
    }
}

/// M17: rows beyond 16 MiB arrive, and one that the server does not take stops the table by name.
#[tokio::test(flavor = "multi_thread")]
async fn m17_large_rows_arrive_or_stop_the_table() {
    const BYTES: usize = 1 << 24;
    for flavor in FLAVORS {
        let place = Place::new(flavor).await;
        let text = freshet_core::DataType::Text { length: None, fixed: false };
        let columns = [("id", bigint(), "bigint", false), ("v", text, "longtext", true)];
        let plan = plan("large", &columns, &[0], vec![]);
        let row = |id: i64, bytes: usize| {
            move |r: &mut freshet_core::codec::RowWriter<'_>| {
                assert!(r.int(id));
                r.text(&"x'".repeat(bytes / 2));
            }
        };
        let mut sink = place.mysql_sink();
        begin(&mut sink).await;
        let loaded = [row(1, BYTES), row(2, 2)];
        let loaded: Vec<&dyn Fn(&mut freshet_core::codec::RowWriter<'_>)> =
            loaded.iter().map(|r| r as _).collect();
        load(&mut sink, std::slice::from_ref(&plan), crate::rows::batch(&plan, &loaded)).await.unwrap();
        let changes = [row(2, 2), row(2, BYTES + 10), row(3, BYTES - 100)];
        let changes: Vec<&dyn Fn(&mut freshet_core::codec::RowWriter<'_>)> =
            changes.iter().map(|r| r as _).collect();
        let window = crate::rows::window(&plan, &changes, Some(1), |images| {
            use freshet_core::window::StepKind;
            vec![StepKind::Update(vec![(images[0], images[1])]), StepKind::Insert(vec![images[2]])]
        });
        durable(&mut sink, window).await.unwrap();
        let sizes = place
            .lines("select id, length(v), v = repeat('x\\'', length(v) / 2) from target.large order by id");
        let expect = [(1, BYTES), (2, BYTES + 10), (3, BYTES - 100)].map(|(id, n)| format!("{id}\t{n}\t1"));
        assert_eq!(sizes, expect, "{flavor:?}");
        let window = crate::rows::window(&plan, &[&row(4, 4 * BYTES)], Some(2), |images| {
            vec![freshet_core::window::StepKind::Insert(images.to_vec())]
        });
        let error = durable(&mut sink, window).await.unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::Table(plan.info.name().clone()), "{error}");
        assert!(error.message().contains("max_allowed_packet"), "{error}");
    }
}

/// T11: a statement that commits by itself is waiting when somebody else takes over: it never runs afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn t11_an_old_owners_ddl_does_not_outlive_it() {
    for flavor in FLAVORS {
        let place = Place::new(flavor).await;
        let (mut old, table) = (streaming(&place).await, keyed());
        let user = place.server.spawn_sql("begin; select * from target.keyed; select sleep(4); rollback");
        let waits = |what: &str| {
            format!("select count(*) from information_schema.processlist where info like '{what}%'")
        };
        let (sleeps, truncates) = (waits("select sleep(4)"), waits("truncate"));
        wait_until(DEADLINE, "the user's lock", || place.server.sql(&sleeps) == "1");
        let name = table.name().clone();
        let restarting = tokio::spawn(async move { old.restart_table(&name).await });
        wait_until(DEADLINE, "the restart to wait", || place.server.sql(&truncates) == "1");
        let mut new = place.mysql_sink();
        let taken = loop {
            match new.take_over().await {
                Ok(taken) => break taken,
                // It finishes the restart itself, and waits for the user too.
                Err(error) => assert_eq!(*error.kind(), ErrorKind::Unavailable, "{error}"),
            }
        };
        let error = restarting.await.unwrap().unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Fenced), "{error}");
        assert!(taken.tables[0].chunks.is_empty());
        new.plan_chunks(table.name(), &[table.chunk(0)]).await.unwrap();
        let mut loader = new.loader().await.unwrap();
        loader.open(&table.plan, &table.chunk(0)).await.unwrap();
        loader.rows(table.batch(&[(7, "of the new owner")])).await.unwrap();
        loader.finish(&position(0)).await.unwrap();
        user.wait().unwrap();
        assert_eq!(place.lines("select id from target.keyed"), ["7"]);
    }
}

/// T11: a reset that still drops tables is ended by whoever begins the pipeline again, and drops none of the new ones.
#[tokio::test(flavor = "multi_thread")]
async fn t11_a_reset_does_not_drop_what_is_made_after_it() {
    for flavor in FLAVORS {
        for is_new in [true, false] {
            let place = Place::new(flavor).await;
            let mut sink = streaming(&place).await;
            let user = place.server.spawn_sql("begin; select * from target.keyed; select sleep(4); rollback");
            let runs = |what: &str| {
                format!("select count(*) from information_schema.processlist where info like '{what}%'")
            };
            let (sleeps, drops) = (runs("select sleep(4)"), runs("drop table"));
            wait_until(DEADLINE, "the user's lock", || place.server.sql(&sleeps) == "1");
            let options = place.options();
            let resetting = tokio::spawn(async move { reset(&options, true).await });
            wait_until(DEADLINE, "the reset to wait", || place.server.sql(&drops) == "1");
            if is_new {
                sink = place.mysql_sink();
            }
            assert_eq!(sink.take_over().await.unwrap().checkpoint, None);
            assert_eq!(*resetting.await.unwrap().unwrap_err().kind(), ErrorKind::Unavailable);
            user.wait().unwrap();
            assert_eq!(place.rows(keyed().target()).await.len(), 1, "{flavor:?}");
        }
    }
}

/// T10: a restart cut off at any command leaves the rows with their chunks, or neither.
#[tokio::test(flavor = "multi_thread")]
async fn t10_a_restart_that_is_cut_off_leaves_rows_and_chunks_or_neither() {
    for flavor in FLAVORS {
        for cut in [Cut::Before, Cut::After] {
            for nth in 1.. {
                let place = Place::new(flavor).await;
                drop(streaming(&place).await);
                // A place's first take-over ends what is left of the load's session.
                let cutter = Cutter::start(place.server.port(), 25 + 3 * nth, cut).await;
                let mut sink = MySqlSink::new(place.options_at(cutter.port));
                if sink.take_over().await.is_ok() {
                    let _ = sink.restart_table(keyed().name()).await;
                }
                let owned = loop {
                    if let Ok(owned) = sink.take_over().await {
                        break owned;
                    }
                };
                let (chunks, rows) = (owned.tables[0].chunks.len(), place.rows(keyed().target()).await.len());
                assert_eq!(chunks, rows, "chunks and rows after a cut at {cut:?} {nth}");
                if !cutter.has_cut() {
                    break;
                }
            }
        }
    }
}

/// R16, R17, R18: what would break the sink, or double or lose changes, is refused by name.
#[tokio::test(flavor = "multi_thread")]
async fn r16_r17_r18_tables_that_do_not_fit_are_refused_by_name() {
    let create =
        "create database target; create table target.keyed (id bigint primary key, name varchar(64))";
    let cases = [
        (format!("{create} engine = MyISAM"), "engine MyISAM has no transactions"),
        (
            format!("{create}; create trigger target.t before insert on target.keyed for each row set @a = 1"),
            "trigger t would fire",
        ),
        ("create database target; create table target.keyed (id int primary key, name varchar(64))".into(), "column id"),
        ("create database target; create table target.keyed (id bigint primary key)".into(), "column name is missing"),
        (format!("{create}; create view target.v as select 1; drop table target.keyed; create view target.keyed as select 1 as id, 'x' as name"), "no ordinary table"),
        ("create database target; create table target.keyed (id bigint, name varchar(64))".into(), "no primary key"),
        ("create database target; create table target.keyed (id bigint primary key, name varchar(64), more int not null)".into(), "column more is NOT NULL"),
    ];
    for flavor in FLAVORS {
        let place = Place::new(flavor).await;
        let (mut sink, table) = (place.mysql_sink(), keyed());
        begin(&mut sink).await;
        for (sql, words) in &cases {
            place.server.sql(&format!("drop database if exists target; {sql}"));
            let error = sink.prepare(std::slice::from_ref(&table.plan), PrepareMode::CreateIfAbsent).await;
            let error = error.unwrap_err();
            assert_eq!(*error.kind(), ErrorKind::Invalid, "{error}");
            assert!(error.message().contains(words), "{words}: {error}");
            let found = check(&place.options(), std::slice::from_ref(&table.plan)).await.unwrap();
            assert!(found.iter().any(|f| f.message.contains(words)), "{words}: {found:?}");
            sink.take_over().await.unwrap();
        }
        let by_text = plan("keyed", &[("k", varchar(64), "varchar(64)", false)], &[0], vec![]);
        place.server.sql(
            "drop database target; create database target; create table target.keyed \
             (k varchar(64) character set utf8mb4 collate utf8mb4_general_ci primary key)",
        );
        let error = sink.prepare(&[by_text], PrepareMode::CreateIfAbsent).await.unwrap_err();
        assert!(error.message().contains("compared by utf8mb4_general_ci"), "{error}");
        place.server.sql("set global read_only = 1");
        let error = sink.take_over().await;
        place.server.sql("set global read_only = 0");
        assert!(error.unwrap_err().message().contains("read-only"));
    }
}

/// R16: a trigger that the account is not shown would fire unseen, so a table that is there is refused until it is.
#[tokio::test(flavor = "multi_thread")]
async fn r16_hidden_triggers_are_refused() {
    for flavor in FLAVORS {
        let place = Place::new(flavor).await;
        place.server.sql(
            "create database target; create table target.keyed (id bigint primary key, name varchar(64)); \
             create trigger target.t before insert on target.keyed for each row set new.name = 'changed'; \
             drop user if exists blind; create user blind identified by 'sink'; \
             grant select, insert, update, delete, create, drop, alter, index, references on *.* to blind",
        );
        let (mut options, table) = (place.options(), keyed());
        options.connect.user = "blind".into();
        let mut sink = MySqlSink::new(options.clone());
        begin(&mut sink).await;
        for (grant, words) in [
            ("select 1", "triggers that this account is not shown"),
            ("grant trigger on `tar%`.* to blind", "trigger t would fire"),
        ] {
            place.server.sql(grant);
            for mode in [PrepareMode::CreateIfAbsent, PrepareMode::Keep, PrepareMode::Truncate] {
                sink.take_over().await.unwrap();
                let error = sink.prepare(std::slice::from_ref(&table.plan), mode).await.unwrap_err();
                assert!(error.message().contains(words), "{words}: {error}");
            }
            let found = check(&options, std::slice::from_ref(&table.plan)).await.unwrap();
            let words = words.trim_start_matches("trigger");
            assert!(found.iter().any(|f| f.message.contains(words)), "{words}: {found:?}");
        }
        place
            .server
            .sql("drop trigger target.t; revoke trigger on `tar%`.* from blind; drop table target.keyed");
        sink.take_over().await.unwrap();
        load(&mut sink, std::slice::from_ref(&table.plan), table.batch(&[(1, "a")])).await.unwrap();
    }
}

/// R16: what was made since that would change or double rows stops the table at the next start.
#[tokio::test(flavor = "multi_thread")]
async fn r16_a_trigger_or_an_engine_that_came_later_stops_the_table() {
    for flavor in FLAVORS {
        for (sql, words) in [
            (
                "create trigger target.late before insert on target.keyed for each row set new.name = 'x'",
                "trigger late",
            ),
            ("alter table target.keyed engine = MyISAM", "engine MyISAM"),
        ] {
            let place = Place::new(flavor).await;
            let (mut sink, table) = (streaming(&place).await, keyed());
            place.server.sql(sql);
            sink.take_over().await.unwrap();
            let script = Script::new().insert(&table, &[(1, "a")]).end(1);
            let error = durable(&mut sink, script.window()).await.unwrap_err();
            assert_eq!(*error.kind(), ErrorKind::Table(table.name().clone()), "{error}");
            assert!(error.message().contains(words), "{error}");
            assert_eq!(place.rows(table.target()).await.len(), 1);
        }
    }
}

/// R18, R19: an id of 0 stays 0, and a column that an update would set by itself keeps what the source has.
#[tokio::test(flavor = "multi_thread")]
async fn r18_r19_the_target_fills_nothing_by_itself() {
    for flavor in FLAVORS {
        let place = Place::new(flavor).await;
        place.server.sql(
            "create database target; create table target.keyed (id bigint auto_increment primary key, \
             name varchar(64), at timestamp null default current_timestamp on update current_timestamp)",
        );
        let at = ("at", freshet_core::DataType::Timestamp { fsp: 0 }, "timestamp", true);
        let columns = [("id", bigint(), "bigint(20)", false), ("name", varchar(64), "varchar(64)", true), at];
        let plan = plan("keyed", &columns, &[0], vec![]);
        let mut sink = place.mysql_sink();
        begin(&mut sink).await;
        let row = |name: &'static str| {
            move |r: &mut freshet_core::codec::RowWriter<'_>| {
                assert!(r.int(0));
                r.text(name);
                r.timestamp(freshet_core::temporal::Timestamp(1_000_000));
            }
        };
        let (old, new) = (row("old"), row("new"));
        load(&mut sink, std::slice::from_ref(&plan), crate::rows::batch(&plan, &[&old])).await.unwrap();
        let window = crate::rows::window(&plan, &[&old, &new], Some(1), |images| {
            vec![freshet_core::window::StepKind::Update(vec![(images[0], images[1])])]
        });
        durable(&mut sink, window).await.unwrap();
        let rows = place.lines("set time_zone = '+00:00'; select id, name, at from target.keyed");
        assert_eq!(rows, ["0\tnew\t1970-01-01 00:00:01"]);
    }
}

/// The grants that are printed are enough, and a reset forgets everything.
#[tokio::test(flavor = "multi_thread")]
async fn o3_the_grants_are_enough_and_a_reset_forgets() {
    for flavor in FLAVORS {
        let place = Place::new(flavor).await;
        place.server.sql("drop user if exists least");
        let mut options = place.options();
        options.connect.user = "least".into();
        let (mut sink, table) = (MySqlSink::new(options.clone()), keyed());
        let statements = grants(&options, &["target".to_owned()]);
        let mut lacking = Vec::new();
        for statement in statements {
            place.server.sql(&statement.replace("PASSWORD", "sink"));
            let found = check(&options, std::slice::from_ref(&table.plan)).await.unwrap();
            lacking.push(found.iter().filter(|finding| finding.code == "target.privilege").count());
        }
        assert_eq!(lacking, [2, 1, 0], "on two databases, one of them, none");
        begin(&mut sink).await;
        let rows = table.batch(&[(0, "loaded")]);
        load(&mut sink, std::slice::from_ref(&table.plan), rows).await.unwrap();
        durable(&mut sink, Script::new().insert(&table, &[(1, "a")]).end(1).window()).await.unwrap();
        reset(&options, true).await.unwrap();
        let error = durable(&mut sink, Script::new().insert(&table, &[(2, "b")]).end(2).window()).await;
        assert_eq!(*error.unwrap_err().kind(), ErrorKind::Unavailable);
        assert_eq!(MySqlSink::new(options).take_over().await.unwrap().checkpoint, None);
        assert_eq!(
            place.lines("select count(*) from information_schema.tables where table_schema = 'target'"),
            ["0"]
        );
        assert_eq!(mark(1).next.0, 1);
    }
}
