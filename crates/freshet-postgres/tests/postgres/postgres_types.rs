//! Every type of a PostgreSQL source by load and by every way of applying, against texts written by hand (G2 to G6).

use crate::common::rows::{batch, begin, load};
use crate::common::{Database, server};
use crate::types::{
    Case, Write, apply, check, day, db_options, dec, fixed, int, moment, raw, row, table, time, txt, uint,
    value,
};
use freshet_core::DataType;
use freshet_core::codec::RowWriter;
use freshet_core::sink::TablePlan;
use freshet_core::table::Dialect;
use freshet_core::temporal::{Date, DateTime, Interval, Time, Timestamp};
use freshet_core::window::StepKind;
use freshet_postgres::PostgresSink;

const OBJECTS: &str = "create extension hstore; create extension citext; \
     create type mood as enum ('sad', 'o''k', 'happy'); create type pair as (n integer, t text); \
     create domain positive as integer check (value > 0); create domain label as character varying(10); \
     create domain label_of_label as label not null default 'x'; create domain moods as mood[]; \
     create domain day_range as daterange; create type float_range as range (subtype = double precision); \
     create domain code as character(4)";

type Values = Vec<(Write, &'static str)>;

fn case(data_type: DataType, native: &'static str, values: Values) -> Case {
    Case { dialect: Dialect::Postgres, data_type, native, declared: native, values }
}

fn named(native: &'static str, texts: &[&'static str]) -> Case {
    named_as(native, native, texts)
}

/// A type without a form of its own: its values are the texts that it prints.
fn named_as(name: &'static str, native: &'static str, texts: &[&'static str]) -> Case {
    let values = texts.iter().map(|text| txt(text, text)).collect();
    case(DataType::Named { name: name.into() }, native, values)
}

fn array(element: DataType, native: &'static str, texts: &[&'static str]) -> Case {
    let values = texts.iter().map(|text| txt(text, text)).collect();
    case(DataType::Array { element: Box::new(element) }, native, values)
}

fn text(length: Option<u32>, fixed: bool) -> DataType {
    DataType::Text { length, fixed }
}

fn int_of(bits: u8) -> DataType {
    DataType::Int { bits, unsigned: false }
}

fn numbers() -> Vec<Case> {
    let decimal = |precision, scale| DataType::Decimal { precision, scale };
    vec![
        case(DataType::Bool, "boolean", vec![value(|r| r.bool(true), "t"), value(|r| r.bool(false), "f")]),
        case(int_of(16), "smallint", vec![int(-32768, "-32768"), int(32767, "32767")]),
        case(int_of(32), "integer", vec![int(i64::from(i32::MIN), "-2147483648"), int(0, "0")]),
        case(
            int_of(64),
            "bigint",
            vec![int(i64::MIN, "-9223372036854775808"), int(i64::MAX, "9223372036854775807")],
        ),
        case(int_of(32), "public.positive", vec![int(1, "1"), int(2147483647, "2147483647")]),
        case(
            decimal(None, None),
            "numeric",
            vec![
                dec("1.0", "1.0"),
                dec("1.00", "1.00"),
                dec("NaN", "NaN"),
                dec("Infinity", "Infinity"),
                dec("-Infinity", "-Infinity"),
                dec(
                    "-123456789012345678901234567890.000000000000000000001",
                    "-123456789012345678901234567890.000000000000000000001",
                ),
            ],
        ),
        case(
            decimal(Some(5), Some(-3)),
            "numeric(5,-3)",
            vec![dec("99999000", "99999000"), dec("-1000", "-1000")],
        ),
        case(decimal(Some(3), Some(5)), "numeric(3,5)", vec![dec("0.00999", "0.00999")]),
        case(
            DataType::Float32,
            "real",
            vec![
                value(|r| r.float32(f32::NAN), "NaN"),
                value(|r| r.float32(-0.0), "-0"),
                value(|r| r.float32(0.0), "0"),
            ],
        ),
        case(
            DataType::Float64,
            "double precision",
            vec![value(|r| r.float64(f64::NEG_INFINITY), "-Infinity"), value(|r| r.float64(0.1), "0.1")],
        ),
        case(
            DataType::Money,
            "money",
            vec![int(i64::MIN, "-$92,233,720,368,547,758.08"), int(105, "$1.05"), int(0, "$0.00")],
        ),
        case(DataType::Oid, "oid", vec![uint(4_294_967_295, "4294967295")]),
        case(DataType::Oid, "xid", vec![uint(4_294_967_295, "4294967295"), uint(3, "3")]),
        case(DataType::Lsn, "xid8", vec![uint(u64::MAX, "18446744073709551615"), uint(0, "0")]),
        case(
            DataType::Lsn,
            "pg_lsn",
            vec![uint(u64::MAX, "FFFFFFFF/FFFFFFFF"), uint(0x16_B374_D848, "16/B374D848")],
        ),
    ]
}

fn span(months: i32, days: i32, micros: i64, text: &'static str) -> (Write, &'static str) {
    value(move |r| r.interval(Interval { months, days, micros }), text)
}

fn times() -> Vec<Case> {
    let last = 86_399_999_999;
    vec![
        case(
            DataType::Date,
            "date",
            vec![
                value(|r| r.date(Date::INFINITY), "infinity"),
                day(-4713, 11, 24, "4714-11-24 BC"),
                day(5_874_897, 12, 31, "5874897-12-31"),
            ],
        ),
        case(
            DataType::Time { fsp: 6 },
            "time without time zone",
            vec![time(0, "00:00:00"), time(86_400_000_000, "24:00:00"), time(last, "23:59:59.999999")],
        ),
        case(DataType::Time { fsp: 3 }, "time(3) without time zone", vec![time(1_500_000, "00:00:01.5")]),
        case(
            DataType::TimeTz { fsp: 6 },
            "time with time zone",
            vec![
                value(|r| r.time_tz(Time(3_661_000_001), 3600), "01:01:01.000001+01"),
                value(|r| r.time_tz(Time(0), -(15 * 3600 + 59 * 60 + 59)), "00:00:00-15:59:59"),
            ],
        ),
        case(
            DataType::DateTime { fsp: 6 },
            "timestamp without time zone",
            vec![
                moment(294_276, 12, 31, last, "294276-12-31 23:59:59.999999"),
                value(|r| r.datetime(DateTime::NEG_INFINITY), "-infinity"),
            ],
        ),
        case(
            DataType::DateTime { fsp: 0 },
            "timestamp(0) without time zone",
            vec![moment(2026, 3, 1, 0, "2026-03-01 00:00:00")],
        ),
        case(
            DataType::Timestamp { fsp: 6 },
            "timestamp with time zone",
            vec![
                value(|r| r.timestamp(Timestamp(-1)), "1969-12-31 23:59:59.999999+00"),
                value(|r| r.timestamp(Timestamp::INFINITY), "infinity"),
            ],
        ),
        case(
            DataType::Interval,
            "interval",
            vec![
                span(0, 1, 0, "1 day"),
                span(0, 0, 86_400_000_000, "24:00:00"),
                span(1, 0, 0, "1 mon"),
                span(-13, 5, -1, "-1 years -1 mons +5 days -00:00:00.000001"),
            ],
        ),
        case(DataType::Interval, "interval(3)", vec![span(0, 0, 1_500_000, "00:00:01.5")]),
        case(DataType::Interval, "interval year to month", vec![span(14, 0, 0, "1 year 2 mons")]),
    ]
}

fn texts() -> Vec<Case> {
    vec![
        case(text(None, false), "text", vec![txt("", ""), txt("\\N '\"\\ ü😀", "\\N '\"\\ ü😀")]),
        case(
            text(Some(10), false),
            "character varying(10)",
            vec![txt("ten chars!", "ten chars!"), txt("a ", "a ")],
        ),
        case(text(Some(5), true), "character(5)", vec![txt("ab   ", "ab   "), txt("     ", "     ")]),
        case(text(None, false), "bpchar", vec![txt("a", "a"), txt("a  ", "a  ")]),
        case(text(Some(10), false), "public.label", vec![txt("label", "label")]),
        case(text(Some(4), true), "public.code", vec![txt("ab  ", "ab  ")]),
        named("name", &["a name", ""]),
        named("\"char\"", &["x", ""]),
        case(
            DataType::Json { binary: false },
            "json",
            vec![txt(r#"{"b":  1.0, "b": 2}"#, r#"{"b":  1.0, "b": 2}"#)],
        ),
        case(
            DataType::Json { binary: true },
            "jsonb",
            vec![
                txt(r#"{"a": [1.00, null], "bb": "\" ü"}"#, r#"{"a": [1.00, null], "bb": "\" ü"}"#),
                txt("1.0", "1.0"),
                txt("1.00", "1.00"),
            ],
        ),
        named("xml", &["<a b=\"c\">ü</a>", "no <b/> document"]),
        named("jsonpath", &["$.\"a\"[*]?(@ > 1)"]),
        case(
            DataType::Bytes { length: None, fixed: false },
            "bytea",
            vec![raw(&[0, 255, 92], "\\x00ff5c"), raw(&[], "\\x")],
        ),
        case(DataType::Uuid, "uuid", vec![fixed(&[0xab; 16], "abababab-abab-abab-abab-abababababab")]),
        case(
            DataType::Bit { length: Some(3), varying: false },
            "bit(3)",
            vec![raw(&[5], "101"), raw(&[0], "000")],
        ),
        case(
            DataType::Bit { length: Some(70), varying: false },
            "bit(70)",
            vec![raw(
                &[0x20, 0, 0, 0, 0, 0, 0, 0, 1],
                "1000000000000000000000000000000000000000000000000000000000000000000001",
            )],
        ),
        case(
            DataType::Bit { length: None, varying: true },
            "\"bit\"",
            vec![raw(b"1", "1"), raw(b"0110000011", "0110000011")],
        ),
        case(
            DataType::Bit { length: None, varying: true },
            "bit varying",
            vec![raw(b"", ""), raw(b"1010000011", "1010000011")],
        ),
        case(
            DataType::Bit { length: Some(5), varying: true },
            "bit varying(5)",
            vec![raw(b"10101", "10101"), raw(b"01", "01")],
        ),
    ]
}

fn by_text() -> Vec<Case> {
    vec![
        named("inet", &["192.168.0.1", "10.0.0.0/8", "::1"]),
        named("cidr", &["10.0.0.0/8", "2001:db8::/32"]),
        named("macaddr", &["08:00:2b:01:02:03"]),
        named("macaddr8", &["08:00:2b:01:02:03:04:05"]),
        named("point", &["(1.5,-2)", "(0,0)"]),
        named("box", &["(2,2),(0,0)"]),
        named("polygon", &["((0,0),(1,1),(2,0))"]),
        named("circle", &["<(0,0),2.5>"]),
        named("tsvector", &["'it''s':1A 'word':2,3B", ""]),
        named("tsquery", &["'a' & !'b'"]),
        named("int4range", &["[1,10)", "empty", "(,)"]),
        named("tstzrange", &["[\"2026-01-01 00:00:00+00\",infinity)"]),
        named("nummultirange", &["{[1.0,2.50),(3,)}", "{}"]),
        named("pg_snapshot", &["10:20:10,14"]),
        named("tid", &["(4294967295,65535)"]),
        named("public.mood", &["sad", "o'k"]),
        named("public.pair", &["(1,\"a, \"\"b\"\"\")", "(,)"]),
        named("public.float_range", &["[0.1,1e+300]"]),
        named("public.hstore", &["\"a\"=>NULL, \"b c\"=>\"d\"", ""]),
        named("public.citext", &["Mixed", "MIXED"]),
        named_as("daterange", "public.day_range", &["[2026-01-01,2026-02-01)"]),
        array(int_of(32), "integer[]", &["{1,NULL,-3}", "{}", "[0:1]={1,2}", "{{1,2},{3,4}}"]),
        array(text(None, false), "text[]", &["{\"a,b\",\"NULL\",NULL,\"\",\"\\\"\\\\\"}"]),
        array(text(Some(3), false), "character varying(3)[]", &["{abc,\"a \"}"]),
        array(text(Some(3), true), "character(3)[]", &["{\"a  \",abc}"]),
        array(text(None, false), "bpchar[]", &["{abcdef,\"a \"}"]),
        array(DataType::Bit { length: Some(3), varying: false }, "bit(3)[]", &["{101,000}"]),
        array(
            DataType::Decimal { precision: Some(10), scale: Some(2) },
            "numeric(10,2)[]",
            &["{1.00,-99999999.99}"],
        ),
        array(DataType::Float64, "double precision[]", &["{0.1,NaN,-0,Infinity}"]),
        array(
            DataType::Timestamp { fsp: 6 },
            "timestamp with time zone[]",
            &["{\"2026-01-01 00:00:00.000001+00\",-infinity}"],
        ),
        array(DataType::Interval, "interval[]", &["{\"1 mon -1 days\",24:00:00}"]),
        array(DataType::Bytes { length: None, fixed: false }, "bytea[]", &["{\"\\\\x00ff\"}"]),
        array(DataType::Money, "money[]", &["{\"$1,234.50\",-$0.01}"]),
        array(DataType::Json { binary: true }, "jsonb[]", &["{\"{\\\"a\\\": 1.0}\"}"]),
        array(DataType::Named { name: "public.mood".into() }, "public.mood[]", &["{sad,happy}"]),
        array(DataType::Named { name: "public.mood".into() }, "public.moods", &["{sad,o'k}"]),
        array(DataType::Named { name: "public.pair".into() }, "public.pair[]", &["{\"(1,x)\",\"(2,)\"}"]),
        array(int_of(32), "public.positive[]", &["{1,2}"]),
        array(text(Some(10), false), "public.label_of_label[]", &["{ab,\"c \"}"]),
        array(
            DataType::Array { element: Box::new(DataType::Named { name: "public.mood".into() }) },
            "public.moods[]",
            &["{\"{sad,happy}\",\"{o'k}\"}"],
        ),
    ]
}

/// Types that no key can be of: no order on the server.
const NO_KEY: [&str; 13] = [
    "xid",
    "json",
    "xml",
    "jsonpath",
    "point",
    "box",
    "polygon",
    "circle",
    "pg_snapshot",
    "public.pair",
    "public.hstore",
    "public.pair[]",
    "interval year to month",
];

fn database(server: &std::sync::Arc<freshet_testkit::servers::Postgres>) -> Database {
    let db = Database::new(server);
    db.sql(OBJECTS);
    db
}

#[tokio::test(flavor = "multi_thread")]
async fn g2_g4_g5_types_with_a_binary_form_arrive_as_they_were() {
    let server = server();
    let db = database(&server);
    for (number, case) in numbers().into_iter().chain(times()).chain(texts()).enumerate() {
        println!("type: {}", case.native);
        check(&db, number, case).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g6_types_that_travel_as_text_arrive_as_they_were() {
    let server = server();
    let db = database(&server);
    for (number, case) in by_text().into_iter().enumerate() {
        println!("type: {}", case.native);
        check(&db, number, case).await;
    }
}

/// G9: rows are found by keys of every type that can be one, by the type's own equality.
#[tokio::test(flavor = "multi_thread")]
async fn g6_g9_keys_of_every_type_find_their_rows() {
    let server = server();
    let db = database(&server);
    let cases = numbers().into_iter().chain(times()).chain(texts()).chain(by_text());
    for (number, case) in cases.enumerate().filter(|(_, case)| !NO_KEY.contains(&case.native)) {
        println!("key: {}", case.native);
        let plan = table(&format!("k{number}"), &case, &[1]);
        as_key(&db, &plan, &case, number).await;
    }
}

async fn as_key(db: &Database, plan: &TablePlan, case: &Case, number: usize) {
    let mut sink = PostgresSink::new(db_options(db, number));
    begin(&mut sink).await;
    // Two of them may be equal to the type and differ for psql.
    let distinct: Vec<_> = match case.native {
        "numeric" | "jsonb" | "real" | "interval" | "public.citext" | "bpchar" => vec![&case.values[0].0],
        _ => case.values.iter().map(|(write, _)| write).collect(),
    };
    let count = distinct.len();
    let at = |id: usize| format!("{}", id);
    let writers: Vec<_> = (0..3)
        .flat_map(|round| distinct.iter().zip(round * 10..).map(|(w, id)| row(id, w)).collect::<Vec<_>>())
        .collect();
    let rows: Vec<&dyn Fn(&mut RowWriter<'_>)> = writers.iter().map(|w| w as _).collect();
    load(&mut sink, std::slice::from_ref(plan), batch(plan, &rows[..count])).await.unwrap();
    let read = || db.lines(&format!("select id from {} order by id", plan.target));
    let expect = |round: usize| (0..count).map(|i| at(round * 10 + i)).collect::<Vec<_>>();
    assert_eq!(read(), expect(0), "{} loaded", case.native);
    let pairs = |i: &[freshet_core::window::ImageRef]| {
        StepKind::Update((0..count).map(|n| (i[n], i[count + n])).collect())
    };
    apply(&mut sink, plan, &rows[..2 * count], 1, false, pairs).await;
    assert_eq!(read(), expect(1), "{} updated by key", case.native);
    apply(&mut sink, plan, &rows[2 * count..], 2, false, |i| StepKind::Upsert(i.to_vec())).await;
    assert_eq!(read(), expect(2), "{} upserted by key", case.native);
    apply(&mut sink, plan, &rows[..count], 3, true, |i| StepKind::Delete(i.to_vec())).await;
    assert!(read().is_empty(), "{} deleted by key", case.native);
    apply(&mut sink, plan, &rows[..count], 4, false, |i| StepKind::CheckAbsent(i.to_vec())).await;
}

/// A window of more rows than go by single statements, where COPY cannot write the types.
#[tokio::test(flavor = "multi_thread")]
async fn g6_many_rows_that_travel_as_text() {
    let server = server();
    let db = database(&server);
    let case = named("public.mood", &["sad", "happy"]);
    let plan = table("many", &case, &[0]);
    let mut sink = PostgresSink::new(db.options());
    begin(&mut sink).await;
    let writers: Vec<_> = (0..2_000).map(|id| row(id, &case.values[(id % 2) as usize].0)).collect();
    let rows: Vec<&dyn Fn(&mut RowWriter<'_>)> = writers.iter().map(|w| w as _).collect();
    load(&mut sink, std::slice::from_ref(&plan), batch(&plan, &rows[..1_000])).await.unwrap();
    apply(&mut sink, &plan, &rows[1_000..], 1, false, |i| StepKind::Insert(i.to_vec())).await;
    assert_eq!(
        db.sql("select count(*), count(*) filter (where (v = 'sad') = (id % 2 = 0)) from many"),
        "2000\t2000"
    );
}
