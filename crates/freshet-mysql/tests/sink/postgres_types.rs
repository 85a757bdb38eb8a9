//! Types of PostgreSQL in their stated form, and keys that stay apart (R18, R19, G2, G3).

use crate::common::{FLAVORS, Place};
use crate::rows::{batch, begin, bigint, durable, load, of_dialect, plan, varchar, window};
use freshet_core::codec::RowWriter;
use freshet_core::sink::{PrepareMode, Sink};
use freshet_core::table::{Dialect, IndexInfo, IndexPart};
use freshet_core::temporal::{Date, DateTime, Interval, Time, Timestamp};
use freshet_core::window::StepKind;
use freshet_core::{DataType, ErrorKind};
use std::sync::Arc;

type Write = Box<dyn Fn(&mut RowWriter<'_>)>;

fn value(write: impl Fn(&mut RowWriter<'_>) + 'static) -> Write {
    Box::new(write)
}

/// A type, PostgreSQL's word, a value and what the client prints of it.
fn cases() -> Vec<(DataType, &'static str, Write, &'static str)> {
    let text = |t: &'static str| value(move |r| r.text(t));
    let named = |name: &str| DataType::Named { name: name.to_owned() };
    let decimal = |precision, scale| DataType::Decimal { precision, scale };
    let moment = DateTime::new(2026, 3, 1, 36_671_123_456).unwrap();
    vec![
        (DataType::Bool, "boolean", value(|r| r.bool(true)), "1"),
        (decimal(Some(10), Some(2)), "numeric(10,2)", value(|r| r.decimal("-12.50")), "-12.50"),
        (decimal(None, None), "numeric", value(|r| r.decimal("NaN")), "NaN"),
        (decimal(Some(100), Some(50)), "numeric(100,50)", value(|r| r.decimal("1.5")), "1.5"),
        (DataType::Float64, "double precision", value(|r| r.float64(0.1)), "0.1"),
        (DataType::Date, "date", value(|r| r.date(Date::new(1, 1, 1).unwrap())), "0001-01-01"),
        (
            DataType::DateTime { fsp: 6 },
            "timestamp",
            value(move |r| r.datetime(moment)),
            "2026-03-01 10:11:11.123456",
        ),
        (
            DataType::Timestamp { fsp: 6 },
            "timestamptz",
            value(|r| r.timestamp(Timestamp(4_294_967_296_000_001))),
            "2106-02-07 06:28:16.000001",
        ),
        (DataType::Time { fsp: 6 }, "time", value(|r| r.time(Time(86_400_000_000))), "24:00:00.000000"),
        (DataType::TimeTz { fsp: 6 }, "timetz", value(|r| r.time_tz(Time(1), 3600)), "00:00:00.000001+01:00"),
        (
            DataType::Interval,
            "interval",
            value(|r| r.interval(Interval { months: 14, days: -3, micros: 3_723_000_000 })),
            "14 mons -3 days 01:02:03",
        ),
        (DataType::Text { length: None, fixed: false }, "text", text("ürüm 😀 "), "ürüm 😀 "),
        (DataType::Json { binary: true }, "jsonb", text("{\"a\": 1e400}"), "{\"a\": 1e400}"),
        (named("int4range"), "int4range", text("[1,5)"), "[1,5)"),
        (DataType::Array { element: Box::new(bigint()) }, "bigint[]", text("{1,NULL}"), "{1,NULL}"),
        (
            DataType::Bit { length: Some(10), varying: false },
            "bit(10)",
            value(|r| r.bytes(&[2, 1])),
            "1000000001",
        ),
        (DataType::Bit { length: Some(3), varying: true }, "varbit(3)", value(|r| r.bytes(b"101")), "101"),
        (
            DataType::Uuid,
            "uuid",
            value(|r| assert!(r.fixed_bytes(&[0x12; 16]))),
            "12121212-1212-1212-1212-121212121212",
        ),
        (DataType::Money, "money", value(|r| assert!(r.int(-150))), "-150"),
        (DataType::Oid, "oid", value(|r| assert!(r.uint(4_294_967_295))), "4294967295"),
        (DataType::Lsn, "pg_lsn", value(|r| assert!(r.uint(u64::MAX))), "18446744073709551615"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn g2_g3_types_of_postgresql_have_their_stated_form() {
    for flavor in FLAVORS {
        let place = Place::new(flavor).await;
        let mut sink = place.mysql_sink();
        begin(&mut sink).await;
        for (number, (data_type, native, write, text)) in cases().into_iter().enumerate() {
            let name: &'static str = Box::leak(format!("t{number}").into_boxed_str());
            let columns = [("id", bigint(), "bigint", false), ("v", data_type, native, true)];
            let plan = of_dialect(plan(name, &columns, &[0], vec![]), Dialect::Postgres);
            let row = |id: i64, null: bool| {
                let write = &write;
                move |r: &mut RowWriter<'_>| {
                    assert!(r.int(id));
                    if null { r.null() } else { write(r) }
                }
            };
            let (full, empty) = (row(0, false), row(1, true));
            load(&mut sink, std::slice::from_ref(&plan), batch(&plan, &[&full, &empty])).await.unwrap();
            let window = window(&plan, &[&full, &empty, &row(0, true)], Some(number as u64 + 1), |i| {
                vec![StepKind::Update(vec![(i[0], i[2])]), StepKind::Update(vec![(i[2], i[0])])]
            });
            durable(&mut sink, window).await.unwrap();
            let printed = place.lines(&format!("select v from target.{name} order by id"));
            assert_eq!(printed, [text, "NULL"], "{native} on {flavor:?}");
        }
    }
}

/// R18, R19: keys that a collation would take for equal are two rows, and are changed each by itself.
#[tokio::test(flavor = "multi_thread")]
async fn r18_r19_keys_that_differ_by_case_accent_or_blank_stay_apart() {
    const KEYS: [&str; 5] = ["a", "A", "a ", "ä", "a\u{0308}"];
    for flavor in FLAVORS {
        let place = Place::new(flavor).await;
        let mut sink = place.mysql_sink();
        begin(&mut sink).await;
        let columns = [
            ("k", DataType::Text { length: None, fixed: false }, "text", false),
            ("v", bigint(), "bigint", true),
        ];
        let plan = of_dialect(plan("keys", &columns, &[0], vec![]), Dialect::Postgres);
        let row = |key: &'static str, v: i64| {
            move |r: &mut RowWriter<'_>| {
                r.text(key);
                assert!(r.int(v));
            }
        };
        let rows: Vec<_> = KEYS.iter().zip(0..).map(|(key, v)| row(key, v)).collect();
        let rows: Vec<&dyn Fn(&mut RowWriter<'_>)> = rows.iter().map(|r| r as _).collect();
        load(&mut sink, std::slice::from_ref(&plan), batch(&plan, &rows)).await.unwrap();
        let (old, new) = (row("a", 0), row("a", 7));
        let window = window(&plan, &[&old, &new, rows[2]], Some(1), |i| {
            vec![StepKind::Update(vec![(i[0], i[1])]), StepKind::Delete(vec![i[2]])]
        });
        durable(&mut sink, window).await.unwrap();
        let printed = place.lines("select hex(k), v from target.`keys` order by 1");
        assert_eq!(printed, ["41\t1", "61\t7", "61CC88\t4", "C3A4\t3"], "{flavor:?}");
    }
}

/// What has no place stops the table by name, and the message holds no value.
#[tokio::test(flavor = "multi_thread")]
async fn g2_values_without_a_place_stop_the_table_by_name() {
    let place = Place::new(FLAVORS[0]).await;
    let mut sink = place.mysql_sink();
    begin(&mut sink).await;
    let cases: [(&'static str, DataType, Write); 3] = [
        ("nan", DataType::Float64, value(|r| r.float64(f64::NAN))),
        ("forever", DataType::Date, value(|r| r.date(Date::INFINITY))),
        ("long", varchar(3), value(|r| r.text("4711"))),
    ];
    for (name, data_type, write) in cases {
        let plan = of_dialect(plan(name, &[("v", data_type, "t", true)], &[], vec![]), Dialect::Postgres);
        sink.prepare(std::slice::from_ref(&plan), PrepareMode::CreateIfAbsent).await.unwrap();
        let rows = window(&plan, &[&write], Some(1), |i| vec![StepKind::Insert(i.to_vec())]);
        let error =
            durable(&mut sink, freshet_core::window::Window { ordered: true, ..rows }).await.unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::Table(plan.info.name().clone()), "{error}");
        assert!(error.message().contains('v') && !error.message().contains("4711"), "{error}");
        sink.take_over().await.unwrap();
    }
    let by_blob = plan("blob", &[("k", DataType::Interval, "point", false)], &[0], vec![]);
    let vector =
        plan("vector", &[("k", DataType::Vector { dimensions: None }, "vector", false)], &[0], vec![]);
    sink.prepare(&[of_dialect(by_blob, Dialect::Postgres)], PrepareMode::CreateIfAbsent).await.unwrap();
    let error = sink.prepare(&[of_dialect(vector, Dialect::Postgres)], PrepareMode::CreateIfAbsent).await;
    let error = error.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.message().contains("Column k"), "{error}");
}

/// D12, M18: an index or a comment that has no place here is listed, and does not stop the pipeline after the load; a row
/// that is too wide keeps its text beside it.
#[tokio::test(flavor = "multi_thread")]
async fn d12_m18_what_has_no_place_in_a_definition_is_listed() {
    for flavor in FLAVORS {
        let place = Place::new(flavor).await;
        let mut sink = place.mysql_sink();
        begin(&mut sink).await;
        let wide = |name: String| (&*name.leak(), varchar(255), "varchar(255)", true);
        let mut columns = vec![("id", bigint(), "bigint", false)];
        columns.extend((0..4).map(|at| wide(format!("c{at}"))));
        let part = |column| IndexPart { column: Some(column), prefix: None, descending: false };
        let index = |name: &str, unique, parts: &[u16]| IndexInfo {
            name: name.to_owned(),
            unique,
            method: "btree".to_owned(),
            parts: parts.iter().copied().map(part).collect(),
        };
        let indexes = vec![
            index("three", false, &[1, 2, 3]),
            index("Three", false, &[2]),
            index("four", false, &[1, 2, 3, 4]),
            index("primary", false, &[1]),
            index("blank ", true, &[0, 1]),
        ];
        let mut plan = of_dialect(plan("wide", &columns, &[0], indexes), Dialect::Postgres);
        Arc::get_mut(&mut plan.info).unwrap().columns[1].comment = "x".repeat(1025);
        let lines = load(&mut sink, std::slice::from_ref(&plan), batch(&plan, &[])).await.unwrap();
        for listed in [
            "Index Three of shop.wide: another index has its name here",
            "Index four of shop.wide: its columns may hold 4080 bytes and an index here 3072",
            "Index primary of shop.wide: it cannot have its name here",
            "Unique index blank  of shop.wide: it cannot have its name here",
            "Comment of column c0 of shop.wide: it has more than 1024 characters",
        ] {
            assert!(lines.iter().any(|line| line == listed), "{listed}: {lines:?}");
        }
        let indexes = "select distinct index_name from information_schema.statistics where table_schema = 'target' \
                       order by 1";
        assert_eq!(place.lines(indexes), ["PRIMARY", "three"]);
        columns.extend((4..100).map(|at| wide(format!("c{at}"))));
        let wider = of_dialect(crate::rows::plan("wider", &columns, &[0], vec![]), Dialect::Postgres);
        let long = "ü".repeat(255);
        let row = |r: &mut RowWriter<'_>| {
            assert!(r.int(1));
            (0..100).for_each(|_| r.text(&long));
        };
        load(&mut sink, std::slice::from_ref(&wider), batch(&wider, &[&row])).await.unwrap();
        assert_eq!(place.lines("select count(*) from target.wider where c99 = repeat('ü', 255)"), ["1"]);
    }
}
