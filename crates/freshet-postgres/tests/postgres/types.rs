//! Every type by COPY and by every way of applying, against texts written by hand (M1 to M20, G2, G3, G7).

use crate::common::rows::{batch, begin, bigint, durable, load, of_dialect, plan, window};
use crate::common::{Database, server};
use freshet_core::codec::RowWriter;
use freshet_core::sink::{Sink, TablePlan};
use freshet_core::table::Dialect;
use freshet_core::temporal::{Date, DateTime, Interval, Time, Timestamp};
use freshet_core::window::StepKind;
use freshet_core::{DataType, ErrorKind};
use freshet_postgres::{DatePolicy, NulPolicy, Policies, PostgresSink, UndecodablePolicy};

pub type Write = Box<dyn Fn(&mut RowWriter<'_>)>;

/// A type, its declaration on both sides, and values with the text that psql prints.
pub struct Case {
    pub dialect: Dialect,
    pub data_type: DataType,
    pub native: &'static str,
    pub declared: &'static str,
    pub values: Vec<(Write, &'static str)>,
}

pub fn value(write: impl Fn(&mut RowWriter<'_>) + 'static, text: &'static str) -> (Write, &'static str) {
    (Box::new(write), text)
}

pub fn int(v: i64, text: &'static str) -> (Write, &'static str) {
    value(move |r| assert!(r.int(v)), text)
}

pub fn uint(v: u64, text: &'static str) -> (Write, &'static str) {
    value(move |r| assert!(r.uint(v)), text)
}

pub fn dec(v: &'static str, text: &'static str) -> (Write, &'static str) {
    value(move |r| r.decimal(v), text)
}

pub fn txt(v: &'static str, text: &'static str) -> (Write, &'static str) {
    value(move |r| r.text(v), text)
}

pub fn raw(v: &'static [u8], text: &'static str) -> (Write, &'static str) {
    value(move |r| r.bytes(v), text)
}

pub fn fixed(v: &'static [u8], text: &'static str) -> (Write, &'static str) {
    value(move |r| assert!(r.fixed_bytes(v)), text)
}

fn case(
    data_type: DataType,
    native: &'static str,
    declared: &'static str,
    values: Vec<(Write, &'static str)>,
) -> Case {
    Case { dialect: Dialect::Mysql, data_type, native, declared, values }
}

fn ints() -> Vec<Case> {
    let int_type = |bits, unsigned| DataType::Int { bits, unsigned };
    vec![
        case(int_type(8, false), "tinyint(4)", "smallint", vec![int(-128, "-128"), int(127, "127")]),
        case(int_type(8, true), "tinyint(3) unsigned", "smallint", vec![uint(0, "0"), uint(255, "255")]),
        case(
            int_type(16, false),
            "smallint(6)",
            "smallint",
            vec![int(-32768, "-32768"), int(32767, "32767")],
        ),
        case(int_type(16, true), "smallint(5) unsigned zerofill", "integer", vec![uint(65535, "65535")]),
        case(int_type(24, false), "mediumint(9)", "integer", vec![int(-8388608, "-8388608")]),
        case(int_type(24, true), "mediumint unsigned", "integer", vec![uint(16777215, "16777215")]),
        case(int_type(32, false), "int(11)", "integer", vec![int(i64::from(i32::MIN), "-2147483648")]),
        case(int_type(32, true), "int(10) unsigned", "bigint", vec![uint(4294967295, "4294967295")]),
        case(
            int_type(64, false),
            "bigint(20)",
            "bigint",
            vec![int(i64::MIN, "-9223372036854775808"), int(i64::MAX, "9223372036854775807")],
        ),
        case(
            int_type(64, true),
            "bigint(20) unsigned",
            "numeric(20,0)",
            vec![uint(0, "0"), uint(10_000, "10000"), uint(u64::MAX, "18446744073709551615")],
        ),
        case(
            DataType::Year,
            "year(4)",
            "smallint",
            vec![uint(0, "0"), uint(1901, "1901"), uint(2155, "2155")],
        ),
        case(
            DataType::Bit { length: Some(1), varying: false },
            "bit(1)",
            "bit(1)",
            vec![raw(&[0], "0"), raw(&[1], "1")],
        ),
        case(
            DataType::Bit { length: Some(10), varying: false },
            "bit(10)",
            "bit(10)",
            vec![raw(&[2, 1], "1000000001"), raw(&[0, 5], "0000000101")],
        ),
        case(
            DataType::Bit { length: Some(64), varying: false },
            "bit(64)",
            "bit(64)",
            vec![raw(
                &[0x80, 0, 0, 0, 0, 0, 0, 1],
                "1000000000000000000000000000000000000000000000000000000000000001",
            )],
        ),
    ]
}

fn numbers() -> Vec<Case> {
    let decimal = |p, s| DataType::Decimal { precision: Some(p), scale: Some(s) };
    vec![
        case(
            decimal(18, 4),
            "decimal(18,4)",
            "numeric(18,4)",
            vec![
                dec("0.0000", "0.0000"),
                dec("-0.0000", "0.0000"),
                dec("12345678901234.5678", "12345678901234.5678"),
                dec("-99999999999999.9999", "-99999999999999.9999"),
                dec("0.0001", "0.0001"),
                dec("1000.0000", "1000.0000"),
            ],
        ),
        case(
            decimal(65, 30),
            "decimal(65,30)",
            "numeric(65,30)",
            vec![dec(
                "-99999999999999999999999999999999999.999999999999999999999999999999",
                "-99999999999999999999999999999999999.999999999999999999999999999999",
            )],
        ),
        case(
            decimal(65, 0),
            "decimal(65,0)",
            "numeric(65,0)",
            vec![dec(
                "12345678901234567890123456789012345678901234567890123456789012345",
                "12345678901234567890123456789012345678901234567890123456789012345",
            )],
        ),
        case(
            DataType::Float32,
            "float",
            "real",
            vec![
                value(|r| r.float32(0.1), "0.1"),
                value(|r| r.float32(-0.0), "-0"),
                value(|r| r.float32(16_777_217.0), "1.6777216e+07"),
                value(|r| r.float32(f32::MAX), "3.4028235e+38"),
                value(|r| r.float32(1e-45), "1e-45"),
            ],
        ),
        case(
            DataType::Float64,
            "double",
            "double precision",
            vec![
                value(|r| r.float64(0.1), "0.1"),
                value(|r| r.float64(f64::MAX), "1.7976931348623157e+308"),
                value(|r| r.float64(-0.0), "-0"),
                value(|r| r.float64(f64::MIN_POSITIVE), "2.2250738585072014e-308"),
            ],
        ),
    ]
}

pub fn day(y: i32, m: u8, d: u8, text: &'static str) -> (Write, &'static str) {
    let date = Date::new(y, m, d).unwrap();
    value(move |r| r.date(date), text)
}

pub fn moment(y: i32, m: u8, d: u8, micros: i64, text: &'static str) -> (Write, &'static str) {
    let moment = DateTime::new(y, m, d, micros).unwrap();
    value(move |r| r.datetime(moment), text)
}

pub fn time(micros: i64, text: &'static str) -> (Write, &'static str) {
    value(move |r| r.time(Time(micros)), text)
}

fn dates() -> Vec<Case> {
    let last = 86_399_999_999;
    vec![
        case(
            DataType::Date,
            "date",
            "date",
            vec![
                day(2026, 3, 1, "2026-03-01"),
                day(1000, 1, 1, "1000-01-01"),
                day(9999, 12, 31, "9999-12-31"),
                day(1582, 10, 10, "1582-10-10"),
                day(1, 1, 1, "0001-01-01"),
                day(0, 1, 1, "0001-01-01 BC"),
                value(|r| r.date(Date::INFINITY), "infinity"),
                value(|r| r.date(Date::NEG_INFINITY), "-infinity"),
                day(5_874_897, 12, 31, "5874897-12-31"),
                day(-4713, 11, 24, "4714-11-24 BC"),
            ],
        ),
        case(
            DataType::DateTime { fsp: 6 },
            "datetime(6)",
            "timestamp(6) without time zone",
            vec![
                moment(2026, 3, 1, 36_671_123_456, "2026-03-01 10:11:11.123456"),
                moment(9999, 12, 31, last, "9999-12-31 23:59:59.999999"),
                moment(1000, 1, 1, 0, "1000-01-01 00:00:00"),
                moment(294_276, 12, 31, last, "294276-12-31 23:59:59.999999"),
                value(|r| r.datetime(DateTime::INFINITY), "infinity"),
            ],
        ),
        case(
            DataType::DateTime { fsp: 0 },
            "datetime",
            "timestamp(0) without time zone",
            vec![moment(2026, 3, 29, 9_000_000_000, "2026-03-29 02:30:00")],
        ),
    ]
}

fn times() -> Vec<Case> {
    vec![
        case(
            DataType::Timestamp { fsp: 3 },
            "timestamp(3)",
            "timestamp(3) with time zone",
            vec![
                value(|r| r.timestamp(Timestamp(1_000)), "1970-01-01 00:00:00.001+00"),
                value(|r| r.timestamp(Timestamp(2_147_483_647_999_000)), "2038-01-19 03:14:07.999+00"),
                value(|r| r.timestamp(Timestamp(4_294_967_295_000_000)), "2106-02-07 06:28:15+00"),
                value(|r| r.timestamp(Timestamp::NEG_INFINITY), "-infinity"),
            ],
        ),
        case(
            DataType::Time { fsp: 6 },
            "time(6)",
            "interval(6)",
            vec![
                time(0, "00:00:00"),
                time(-3_020_399_000_000, "-838:59:59"),
                time(3_020_399_999_999, "838:59:59.999999"),
                time(-1, "-00:00:00.000001"),
                time(86_400_000_000, "24:00:00"),
            ],
        ),
        case(
            DataType::Interval,
            "interval",
            "interval",
            vec![value(
                |r| r.interval(Interval { months: -13, days: 2, micros: -3 }),
                "-1 years -1 mons +2 days -00:00:00.000003",
            )],
        ),
        case(
            DataType::TimeTz { fsp: 6 },
            "timetz",
            "time(6) with time zone",
            vec![value(|r| r.time_tz(Time(3_661_000_001), 3600), "01:01:01.000001+01")],
        ),
    ]
}

fn texts() -> Vec<Case> {
    let labels = || vec!["new".to_owned(), "it's, \"quoted\"".to_owned(), "ü".to_owned()];
    let text = |length, fixed| DataType::Text { length, fixed };
    vec![
        case(
            text(Some(10), false),
            "varchar(10)",
            "character varying(10)",
            vec![txt("", ""), txt("ten chars!", "ten chars!"), txt("ürüm 😀", "ürüm 😀"), txt("a ", "a ")],
        ),
        case(text(Some(3), true), "char(3)", "character varying(3)", vec![txt("a", "a"), txt("", "")]),
        case(text(Some(65_535), false), "text", "text", vec![txt("\\N", "\\N"), txt("'\"\\", "'\"\\")]),
        case(text(None, false), "longtext", "text", vec![txt("x", "x")]),
        case(
            DataType::Enum { labels: labels() },
            "enum",
            "text",
            vec![
                value(|r| r.enumeration(0), ""),
                value(|r| r.enumeration(2), "it's, \"quoted\""),
                value(|r| r.enumeration(3), "ü"),
            ],
        ),
        case(
            DataType::Set { labels: labels() },
            "set",
            "text",
            vec![value(|r| r.set(0), ""), value(|r| r.set(5), "new,ü")],
        ),
        case(
            DataType::Json { binary: true },
            "json",
            "json",
            vec![
                txt(
                    r#"{"b": 1.0, "a": [1e400, "\u0000"], "a": 2}"#,
                    r#"{"b": 1.0, "a": [1e400, "\u0000"], "a": 2}"#,
                ),
                txt("null", "null"),
                txt(" 12345678901234567890.10 ", " 12345678901234567890.10 "),
            ],
        ),
    ]
}

fn bytes() -> Vec<Case> {
    vec![
        case(
            DataType::Bytes { length: Some(4), fixed: true },
            "binary(4)",
            "bytea",
            vec![raw(&[0, 1, 0, 0], "\\x00010000"), raw(&[], "\\x")],
        ),
        case(
            DataType::Geometry { kind: "point".into() },
            "point",
            "bytea",
            vec![raw(&[0xe6, 0x10, 0, 0, 1], "\\xe610000001")],
        ),
        case(
            DataType::Vector { dimensions: Some(2) },
            "vector(2)",
            "bytea",
            vec![raw(&[0, 0, 0x80, 0x3f, 0, 0, 0, 0x40], "\\x0000803f00000040")],
        ),
        case(
            DataType::Uuid,
            "uuid",
            "uuid",
            vec![fixed(
                &[
                    0x12, 0x3e, 0x45, 0x67, 0xe8, 0x9b, 0x12, 0xd3, 0xa4, 0x56, 0x42, 0x66, 0x14, 0x17, 0x40,
                    0,
                ],
                "123e4567-e89b-12d3-a456-426614174000",
            )],
        ),
        case(DataType::Inet4, "inet4", "inet", vec![fixed(&[192, 168, 0, 255], "192.168.0.255")]),
        case(
            DataType::Inet6,
            "inet6",
            "inet",
            vec![fixed(&[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], "2001:db8::1")],
        ),
        case(
            DataType::Bool,
            "boolean",
            "boolean",
            vec![value(|r| r.bool(true), "t"), value(|r| r.bool(false), "f")],
        ),
        case(DataType::Oid, "oid", "oid", vec![uint(4_294_967_295, "4294967295")]),
    ]
}

/// A writer of one row of a case's table.
pub fn row<'a>(id: i64, write: &'a Write) -> impl Fn(&mut RowWriter<'_>) + 'a {
    move |r: &mut RowWriter<'_>| {
        assert!(r.int(id));
        write(r);
    }
}

pub fn table(name: &str, case: &Case, key: &[u16]) -> TablePlan {
    let id = if case.dialect == Dialect::Mysql { "bigint(20)" } else { "bigint" };
    let columns =
        [("id", bigint(), id, false), ("v", case.data_type.clone(), case.native, !key.contains(&1))];
    of_dialect(plan(name, &columns, key, vec![]), case.dialect)
}

/// The values of a case one after the other, and NULL last, as psql prints them.
fn expected(case: &Case, shift: usize) -> Vec<String> {
    let mut texts: Vec<&str> = case.values.iter().map(|(_, text)| *text).collect();
    texts.push("NULL");
    (0..texts.len()).map(|id| format!("{id}\t{}", texts[(id + shift) % texts.len()])).collect()
}

pub async fn check(db: &Database, number: usize, mut case: Case) {
    let expect = expected(&case, 0);
    let moved = expected(&case, 1);
    case.values.push(value(|r| r.null(), "NULL"));
    let name = |way: &str| format!("t{number}_{way}");
    let plans: Vec<TablePlan> =
        ["copy", "bulk", "row", "upsert"].map(|w| table(&name(w), &case, &[0])).into();
    let keyless = table(&name("keyless"), &case, &[]);
    let mut sink = PostgresSink::new(db_options(db, number));
    begin(&mut sink).await;
    let writers: Vec<_> = case.values.iter().zip(0..).map(|((write, _), id)| row(id, write)).collect();
    let rows: Vec<&dyn Fn(&mut RowWriter<'_>)> = writers.iter().map(|w| w as _).collect();
    let all: Vec<TablePlan> = plans.iter().cloned().chain([keyless.clone()]).collect();
    load(&mut sink, &all, batch(&plans[0], &rows)).await.unwrap();
    let read = |way: &str| db.lines(&format!("set timezone=utc; select * from {} order by id", name(way)));
    let declared = format!(
        "set search_path = ''; select format_type(atttypid, atttypmod) from pg_attribute \
         where attrelid = 'public.{}'::regclass and attname = 'v'",
        name("copy")
    );
    assert_eq!(db.sql(&declared), case.declared, "{}", case.native);
    assert_eq!(read("copy"), expect, "{} by COPY", case.native);

    apply(&mut sink, &plans[1], &rows, 1, false, |i| StepKind::Insert(i.to_vec())).await;
    assert_eq!(read("bulk"), expect, "{} by bulk insert", case.native);
    apply(&mut sink, &plans[2], &rows, 2, true, |i| StepKind::Insert(i.to_vec())).await;
    assert_eq!(read("row"), expect, "{} by single inserts", case.native);
    apply(&mut sink, &plans[3], &rows, 3, false, |i| StepKind::Upsert(i.to_vec())).await;
    assert_eq!(read("upsert"), expect, "{} by upsert", case.native);
    apply(&mut sink, &keyless, &rows, 4, false, |i| StepKind::Insert(i.to_vec())).await;

    // Every value becomes the next one; the rows of the table without a key are found by all their columns.
    let count = rows.len();
    let next: Vec<_> = (0..count).map(|id| row(id as i64, &case.values[(id + 1) % count].0)).collect();
    let both: Vec<&dyn Fn(&mut RowWriter<'_>)> =
        rows.iter().copied().chain(next.iter().map(|w| w as _)).collect();
    let pairs = |i: &[freshet_core::window::ImageRef]| {
        StepKind::Update((0..count).map(|n| (i[n], i[count + n])).collect())
    };
    apply(&mut sink, &plans[1], &both, 5, false, pairs).await;
    assert_eq!(read("bulk"), moved, "{} by bulk update", case.native);
    apply(&mut sink, &keyless, &both, 6, true, pairs).await;
    assert_eq!(read("keyless"), moved, "{} by update of every column", case.native);
    let gone: Vec<&dyn Fn(&mut RowWriter<'_>)> = next.iter().map(|w| w as _).collect();
    apply(&mut sink, &keyless, &gone, 7, true, |i| StepKind::Delete(i.to_vec())).await;
    assert!(read("keyless").is_empty(), "{} by delete of every column", case.native);
}

pub async fn apply(
    sink: &mut dyn Sink,
    plan: &TablePlan,
    rows: &[&dyn Fn(&mut RowWriter<'_>)],
    end: u64,
    ordered: bool,
    step: impl FnOnce(&[freshet_core::window::ImageRef]) -> StepKind,
) {
    let mut window = window(plan, rows, Some(end), |i| vec![step(i)]);
    window.ordered = ordered;
    durable(sink, window).await.unwrap_or_else(|e| panic!("{}: {e}", plan.info.name()));
}

pub fn db_options(db: &Database, number: usize) -> freshet_postgres::SinkOptions {
    let mut options = db.options();
    options.pipeline = format!("types{number}");
    options
}

#[tokio::test(flavor = "multi_thread")]
async fn m1_to_m20_every_type_by_copy_and_by_apply() {
    let server = server();
    let db = Database::new(&server);
    for (number, case) in ints()
        .into_iter()
        .chain(numbers())
        .chain(dates())
        .chain(times())
        .chain(texts())
        .chain(bytes())
        .enumerate()
    {
        check(&db, number, case).await;
    }
}

/// What happens to one value under a policy, by COPY and by apply: the text, or the error's kind and message.
async fn one_value(
    db: &Database,
    policies: Policies,
    data_type: DataType,
    write: Write,
) -> Result<String, String> {
    static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(1000);
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let mut options = db_options(db, number);
    options.policies = policies;
    let case = Case { dialect: Dialect::Mysql, data_type, native: "native", declared: "", values: vec![] };
    let not_null = |name: &str| {
        let columns = [("id", bigint(), "bigint(20)", false), ("v", case.data_type.clone(), "native", false)];
        plan(name, &columns, &[0], vec![])
    };
    let (copy, bulk) = (not_null(&format!("p{number}_copy")), not_null(&format!("p{number}_bulk")));
    let mut sink = PostgresSink::new(options);
    begin(&mut sink).await;
    let write = row(1, &write);
    let loaded = load(&mut sink, &[copy.clone(), bulk.clone()], batch(&copy, &[&write])).await;
    let applied = match &loaded {
        Ok(_) => {
            let window = window(&bulk, &[&write], Some(1), |i| vec![StepKind::Insert(i.to_vec())]);
            durable(&mut sink, window).await.map(drop)
        }
        Err(_) => {
            sink.take_over().await.unwrap();
            let window = window(&bulk, &[&write], Some(1), |i| vec![StepKind::Insert(i.to_vec())]);
            durable(&mut sink, window).await.map(drop)
        }
    };
    match (loaded, applied) {
        (Ok(_), Ok(())) => {
            let read = |t: &TablePlan| db.sql(&format!("select v from {}", t.target));
            assert_eq!(read(&copy), read(&bulk), "both ways end in the same");
            Ok(read(&copy))
        }
        (Err(a), Err(b)) => {
            assert_eq!(*a.kind(), ErrorKind::Table(copy.info.name().clone()));
            assert_eq!(*b.kind(), ErrorKind::Table(bulk.info.name().clone()));
            assert!(a.message().contains("Column v") || a.message().contains("Column \"v\""), "{a}");
            assert!(a.hint().is_some() && b.hint().is_some());
            Err(b.message().to_owned())
        }
        (a, b) => panic!("the two ways differ: {a:?} and {b:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn m1_g7_m13_values_without_a_place_follow_the_policies() {
    let server = server();
    let db = Database::new(&server);
    let (stop, null) = (Policies::default(), Policies { dates: DatePolicy::Null, ..Policies::default() });
    let zero = || -> Write { Box::new(|r| r.date(Date::new(0, 0, 0).unwrap())) };
    let error = one_value(&db, stop, DataType::Date, zero()).await.unwrap_err();
    assert!(error.contains("zero, partial or out of range") && error.contains("record 0"), "{error}");
    assert_eq!(one_value(&db, null, DataType::Date, zero()).await.as_deref(), Ok("NULL"));
    let partial: Write = Box::new(|r| r.datetime(DateTime::new(2020, 2, 31, 0).unwrap()));
    assert_eq!(one_value(&db, null, DataType::DateTime { fsp: 0 }, partial).await.as_deref(), Ok("NULL"));
    let stamp: Write = Box::new(|r| r.timestamp(Timestamp::ZERO_DATE));
    assert!(one_value(&db, stop, DataType::Timestamp { fsp: 0 }, stamp).await.is_err());

    let text = || DataType::Text { length: Some(20), fixed: false };
    let nul = || -> Write { Box::new(|r| r.text("a\0b")) };
    let with = |nul_in_text| Policies { nul_in_text, ..Policies::default() };
    assert!(one_value(&db, stop, text(), nul()).await.unwrap_err().contains("U+0000"));
    assert_eq!(one_value(&db, with(NulPolicy::Strip), text(), nul()).await.as_deref(), Ok("ab"));
    assert_eq!(one_value(&db, with(NulPolicy::Replace), text(), nul()).await.as_deref(), Ok("a␀b"));

    let broken = || -> Write { Box::new(|r| r.undecodable(b"a\xed\xb3\xbfb")) };
    let replace = Policies { undecodable: UndecodablePolicy::Replace, ..Policies::default() };
    assert!(one_value(&db, stop, text(), broken()).await.unwrap_err().contains("not valid"));
    assert_eq!(one_value(&db, replace, text(), broken()).await.as_deref(), Ok("a\u{fffd}b"));
    assert!(one_value(&db, replace, DataType::Date, broken()).await.is_err());
}
