//! Values and rows that a target could change without an error: what is refused, and what arrives all the same.

use crate::common::{FLAVORS, Place};
use crate::rows::{ColumnSpec, batch, begin, bigint, chunk, durable, load, of_dialect, plan, window};
use freshet_core::codec::RowWriter;
use freshet_core::sink::{PrepareMode, Sink, TablePhase, TablePlan};
use freshet_core::table::Dialect;
use freshet_core::temporal::Timestamp;
use freshet_core::window::StepKind;
use freshet_core::{DataType, ErrorKind, TableName};
use freshet_testkit::conformance::sink::{Script, Table, Target};
use freshet_testkit::servers::Flavor;

fn enums() -> DataType {
    DataType::Enum { labels: vec!["a".into(), "b".into()] }
}

/// M10: rows that follow each other and all hold the error value of an enum, by the load and by both ways of applying.
#[tokio::test(flavor = "multi_thread")]
async fn m10_error_values_of_enums_come_in_any_number() {
    for flavor in FLAVORS {
        let place = Place::new(flavor).await;
        let mut sink = place.mysql_sink();
        begin(&mut sink).await;
        let columns =
            [("id", bigint(), "bigint", false), ("e", enums(), "e", true), ("f", enums(), "f", true)];
        let plan = plan("enums", &columns, &[0], vec![]);
        let row = |id: i64, e: u16, f: u16| {
            move |r: &mut RowWriter<'_>| {
                assert!(r.int(id));
                r.enumeration(e);
                r.enumeration(f);
            }
        };
        let loaded = [row(0, 0, 0), row(1, 0, 0), row(2, 0, 1), row(3, 2, 2)];
        let loaded: Vec<&dyn Fn(&mut RowWriter<'_>)> = loaded.iter().map(|r| r as _).collect();
        load(&mut sink, std::slice::from_ref(&plan), batch(&plan, &loaded)).await.unwrap();
        let rows = [row(4, 0, 0), row(5, 0, 2), row(6, 1, 0), row(3, 2, 2), row(3, 0, 0)];
        let rows: Vec<&dyn Fn(&mut RowWriter<'_>)> = rows.iter().map(|r| r as _).collect();
        for (end, ordered) in [(1, false), (2, true)] {
            let changes = window(&plan, &rows, Some(end), |i| {
                vec![StepKind::Insert(i[..3].to_vec()), StepKind::Update(vec![(i[3], i[4])])]
            });
            durable(&mut sink, freshet_core::window::Window { ordered, ..changes }).await.unwrap();
            let found = place.lines("select id, e + 0, f + 0 from target.enums order by id");
            let expect = ["0\t0\t0", "1\t0\t0", "2\t0\t1", "3\t0\t0", "4\t0\t0", "5\t0\t2", "6\t1\t0"];
            assert_eq!(found, expect, "{flavor:?}");
            place.server.sql("delete from target.enums where id > 3; update target.enums set e = 'b', f = 'b' where id = 3");
        }
    }
}

/// R17, T12: what the target refuses, or would store otherwise, among many rows: nothing of them stays, and the row is found
/// when they come one by one.
#[tokio::test(flavor = "multi_thread")]
async fn r17_t12_a_bad_row_among_many_is_found() {
    for flavor in FLAVORS {
        let place = Place::new(flavor).await;
        // Shorter than the source's: a blank too many is cut off with no more than a note.
        place
            .server
            .sql("create database target; create table target.many (id bigint primary key, v varchar(3))");
        let mut sink = place.mysql_sink();
        begin(&mut sink).await;
        let columns = [("id", bigint(), "bigint", false), ("v", crate::rows::varchar(3), "varchar(3)", true)];
        let plan = plan("many", &columns, &[0], vec![]);
        load(&mut sink, std::slice::from_ref(&plan), batch(&plan, &[])).await.unwrap();
        for bad in [(7, "abc"), (99, "abc "), (99, "abcd")] {
            let rows: Vec<(i64, &str)> = (0..60).map(|i| if i == 50 { bad } else { (i, "ok") }).collect();
            let rows: Vec<_> = rows
                .into_iter()
                .map(|(id, v)| {
                    move |r: &mut RowWriter<'_>| {
                        assert!(r.int(id));
                        r.text(v);
                    }
                })
                .collect();
            let rows: Vec<&dyn Fn(&mut RowWriter<'_>)> = rows.iter().map(|r| r as _).collect();
            for ordered in [false, true] {
                let changes = window(&plan, &rows, Some(1), |i| vec![StepKind::Insert(i.to_vec())]);
                let changes = freshet_core::window::Window { ordered, ..changes };
                let error = durable(&mut sink, changes).await.unwrap_err();
                let expect =
                    if ordered { ErrorKind::Table(plan.info.name().clone()) } else { ErrorKind::Reorder };
                assert_eq!(*error.kind(), expect, "{flavor:?} {bad:?}: {error}");
                assert_eq!(place.lines("select count(*) from target.many"), ["0"]);
                sink.take_over().await.unwrap();
            }
        }
    }
}

/// R17: NULL is not turned into the next number, or into the time of now, as the servers do without a word.
#[tokio::test(flavor = "multi_thread")]
async fn r17_null_does_not_become_a_value_of_the_servers_own() {
    let cases: [(ColumnSpec, &str); 2] = [
        (("v", bigint(), "bigint", true), "v bigint not null auto_increment, key (v)"),
        (
            ("v", DataType::Timestamp { fsp: 0 }, "timestamp", true),
            "v timestamp not null default current_timestamp",
        ),
    ];
    for flavor in FLAVORS {
        for (column, declared) in &cases {
            let place = Place::new(flavor).await;
            place.server.sql(&format!(
                "create database target; create table target.nulls (id bigint primary key, {declared})"
            ));
            let columns = [("id", bigint(), "bigint", false), column.clone()];
            let plan = plan("nulls", &columns, &[0], vec![]);
            let row = |r: &mut RowWriter<'_>| {
                assert!(r.int(1));
                r.null();
            };
            let mut sink = place.mysql_sink();
            begin(&mut sink).await;
            let error =
                load(&mut sink, std::slice::from_ref(&plan), batch(&plan, &[&row])).await.unwrap_err();
            assert_eq!(*error.kind(), ErrorKind::Table(plan.info.name().clone()), "{error}");
            assert!(error.message().contains("Column v") && error.message().contains("NULL"), "{error}");
            sink.take_over().await.unwrap();
            let insert = window(&plan, &[&row], Some(1), |i| vec![StepKind::Insert(i.to_vec())]);
            durable(&mut sink, insert).await.unwrap_err();
            assert_eq!(place.lines("select count(*) from target.nulls"), ["0"]);
        }
    }
}

/// R17, M12, M20: columns of the target that would store another value than they are given, without a warning.
#[tokio::test(flavor = "multi_thread")]
async fn r17_m12_m20_columns_that_change_values_are_refused_by_name() {
    let text = DataType::Text { length: None, fixed: false };
    let bytes = DataType::Bytes { length: Some(8), fixed: false };
    let json = DataType::Json { binary: false };
    let cases: [(ColumnSpec, Dialect, &str, &str); 6] = [
        (("v", bytes, "varbinary(8)", true), Dialect::Mysql, "v binary(8)", "does not hold every value"),
        (("v", DataType::Float64, "double", true), Dialect::Mysql, "v double(10,2)", "rounds"),
        (("v", DataType::Float32, "float(7,4)", true), Dialect::Mysql, "v float(7,2)", "rounds"),
        (("v", DataType::Float32, "real", true), Dialect::Postgres, "v float(7,2)", "rounds"),
        (("v", json, "json", true), Dialect::Postgres, "v json", "neither the order nor the spelling"),
        (
            ("k", text, "text", false),
            Dialect::Postgres,
            "k varchar(64) character set ascii collate ascii_bin primary key",
            "compared by ascii_bin",
        ),
    ];
    for flavor in FLAVORS {
        for (column, dialect, declared, words) in &cases {
            if flavor == Flavor::MariaDb && declared.ends_with("json") {
                continue;
            }
            let place = Place::new(flavor).await;
            let id = if column.0 == "k" { "id bigint" } else { "id bigint primary key" };
            place.server.sql(&format!("create database target; create table target.odd ({id}, {declared})"));
            let key = u16::from(column.0 == "k");
            let columns = [("id", bigint(), "bigint", false), column.clone()];
            let plan = of_dialect(plan("odd", &columns, &[key], vec![]), *dialect);
            let mut sink = place.mysql_sink();
            begin(&mut sink).await;
            let prepared = sink.prepare(&[plan], PrepareMode::CreateIfAbsent).await;
            let error = prepared.expect_err(declared);
            assert!(error.message().contains(words), "{declared}: {error}");
        }
    }
}

/// R17: where the server keeps notes to itself, a text that is cut is still noticed.
#[tokio::test(flavor = "multi_thread")]
async fn r17_blanks_are_not_cut_off_silently() {
    for flavor in FLAVORS {
        let place = Place::new(flavor).await;
        place.server.sql(
            "create database target; create table target.short (id bigint primary key, v varchar(3)); \
             set global sql_notes = 0",
        );
        let text = DataType::Text { length: None, fixed: false };
        let columns = [("id", bigint(), "bigint", false), ("v", text, "text", true)];
        let plan = of_dialect(plan("short", &columns, &[0], vec![]), Dialect::Postgres);
        let row = |r: &mut RowWriter<'_>| {
            assert!(r.int(1));
            r.text("abc  ");
        };
        let mut sink = place.mysql_sink();
        begin(&mut sink).await;
        let loaded = load(&mut sink, std::slice::from_ref(&plan), batch(&plan, &[&row])).await;
        place.server.sql("set global sql_notes = 1");
        assert_eq!(*loaded.unwrap_err().kind(), ErrorKind::Table(plan.info.name().clone()));
        assert_eq!(place.lines("select count(*) from target.short"), ["0"]);
    }
}

/// R15: a target's own foreign keys neither refuse our rows nor carry a change on to other rows.
#[tokio::test(flavor = "multi_thread")]
async fn r15_cascades_of_the_target_do_not_run() {
    for flavor in FLAVORS {
        let place = Place::new(flavor).await;
        let (mut sink, parent) = (place.mysql_sink(), Table::new("conf", "parent", true));
        begin(&mut sink).await;
        load(&mut sink, std::slice::from_ref(&parent.plan), parent.batch(&[(1, "a"), (2, "b")]))
            .await
            .unwrap();
        place.server.sql(
            "create table target.child (id int primary key, p bigint, foreign key (p) references target.parent (id) \
             on delete cascade on update cascade); insert into target.child values (1, 1), (2, 2)",
        );
        let changes = Script::new().delete(&parent, &[(1, "a")]).update(&parent, &[((2, "b"), (3, "b"))]);
        durable(&mut sink, changes.end(1).window()).await.unwrap();
        assert_eq!(place.lines("select id, p from target.child order by id"), ["1\t1", "2\t2"], "{flavor:?}");
    }
}

/// T10: what would begin a transaction, or is DDL, is refused inside of an open one, which it would commit.
#[tokio::test(flavor = "multi_thread")]
async fn t10_an_open_part_is_not_committed_by_something_else() {
    for flavor in FLAVORS {
        let place = Place::new(flavor).await;
        let (mut sink, table) = (place.mysql_sink(), Table::new("conf", "keyed", true));
        begin(&mut sink).await;
        load(&mut sink, std::slice::from_ref(&table.plan), table.batch(&[(0, "loaded")])).await.unwrap();
        for what in ["restart", "plan", "prepare", "finish"] {
            sink.apply(Script::new().insert(&table, &[(1, "part")]).window()).await.unwrap();
            sink.flush().await.unwrap();
            let done = match what {
                "restart" => sink.restart_table(table.name()).await,
                "plan" => sink.plan_chunks(table.name(), &[chunk(&table.plan)]).await,
                "prepare" => {
                    sink.prepare(std::slice::from_ref(&table.plan), PrepareMode::Keep).await.map(drop)
                }
                _ => sink.finish_load(std::slice::from_ref(&table.plan)).await.map(drop),
            };
            assert_eq!(*done.unwrap_err().kind(), ErrorKind::Internal, "{what}");
            sink.take_over().await.unwrap();
            assert_eq!(place.rows(table.target()).await.len(), 1, "{what} on {flavor:?}");
        }
    }
}

/// M6: instants outside of a TIMESTAMP of the target stop the table; none becomes the zero date.
#[tokio::test(flavor = "multi_thread")]
async fn m6_instants_outside_of_a_timestamp_stop_the_table() {
    for flavor in FLAVORS {
        let place = Place::new(flavor).await;
        place.server.sql(
            "create database target; create table target.instants (id bigint primary key, at timestamp(6) null)",
        );
        let columns =
            [("id", bigint(), "bigint", false), ("at", DataType::Timestamp { fsp: 6 }, "timestamptz", true)];
        let plan = of_dialect(plan("instants", &columns, &[0], vec![]), Dialect::Postgres);
        let mut sink = place.mysql_sink();
        begin(&mut sink).await;
        sink.prepare(std::slice::from_ref(&plan), PrepareMode::CreateIfAbsent).await.unwrap();
        for micros in [0, -1, 99_999_999_999_999_999] {
            let row = |r: &mut RowWriter<'_>| {
                assert!(r.int(1));
                r.timestamp(Timestamp(micros));
            };
            let insert = window(&plan, &[&row], Some(1), |i| vec![StepKind::Insert(i.to_vec())]);
            let insert = freshet_core::window::Window { ordered: true, ..insert };
            let error = durable(&mut sink, insert).await.unwrap_err();
            assert_eq!(*error.kind(), ErrorKind::Table(plan.info.name().clone()), "{micros}: {error}");
            sink.take_over().await.unwrap();
        }
        assert_eq!(place.lines("select count(*) from target.instants"), ["0"]);
    }
}

/// R14: a type that the target lacks is refused before anything is made.
#[tokio::test(flavor = "multi_thread")]
async fn r14_a_type_that_the_target_lacks_is_refused_before_anything_is_made() {
    let place = Place::new(Flavor::MariaDb).await;
    let mut sink = place.mysql_sink();
    begin(&mut sink).await;
    let vector = DataType::Vector { dimensions: Some(3) };
    let columns = [("id", bigint(), "bigint", false), ("v", vector, "vector(3)", true)];
    let tables = [plan("fine", &columns[..1], &[0], vec![]), plan("vectors", &columns, &[0], vec![])];
    let error = sink.prepare(&tables, PrepareMode::CreateIfAbsent).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.message().contains("Column v of shop.vectors: the target has no type vector"), "{error}");
    assert_eq!(place.lines("show databases like 'target'"), Vec::<String>::new());
}

/// D13: source tables whose names differ by a blank at the end, as PostgreSQL allows, are two.
#[tokio::test(flavor = "multi_thread")]
async fn d13_source_names_that_differ_by_a_blank_are_two_tables() {
    for flavor in FLAVORS {
        let place = Place::new(flavor).await;
        let mut sink = place.mysql_sink();
        begin(&mut sink).await;
        let columns = [("id", bigint(), "bigint", false)];
        let named = |name: &str, target: &str| {
            let plan = of_dialect(plan(name, &columns, &[0], vec![]), Dialect::Postgres);
            TablePlan { target: TableName::new("target", target), ..plan }
        };
        let plans = [named("t", "one"), named("t ", "two")];
        sink.prepare(&plans, PrepareMode::CreateIfAbsent).await.unwrap();
        sink.finish_load(&plans[1..]).await.unwrap();
        let phases: Vec<TablePhase> =
            sink.take_over().await.unwrap().tables.iter().map(|table| table.phase).collect();
        assert_eq!(phases, [TablePhase::Loading, TablePhase::CatchingUp], "{flavor:?}");
    }
}
