//! Tables of a PostgreSQL source on the target: definitions as they were, what is missing refused by name, and whole
//! tables through the reader of this crate.

use crate::common::copy::{copy_all, copy_passing_on, plans, view};
use crate::common::rows::{begin, bigint, durable, of_dialect, plan, window};
use crate::common::{Database, server};
use freshet_core::sink::{PrepareMode, Sink, TablePlan};
use freshet_core::table::Dialect;
use freshet_core::window::StepKind;
use freshet_core::{DataType, ErrorKind};
use freshet_postgres::{PostgresSink, Severity, check};
use std::sync::Arc;

const TYPES: &str = "create type mood as enum ('sad', 'happy'); create type pair as (n integer, t text); \
     create domain positive as integer check (value > 0); create domain tags as text[]";

/// G6, G13: the catalogue's types are the ones that the sink binds, and the definition is the source's.
#[tokio::test(flavor = "multi_thread")]
async fn g6_g13_whole_tables_arrive_with_their_definitions() {
    let server = server();
    let (from, to) = (Database::new(&server), Database::new(&server));
    for db in [&from, &to] {
        db.sql(TYPES);
    }
    from.sql(
        "create sequence loose start 5; create collation odd (provider = libc, locale = 'C'); \
         create function f() returns int language sql as 'select 1'; \
         create table t (id serial primary key, other bigint generated always as identity, p positive not null default 3, \
           m mood default 'sad', ms mood[], c pair, tg tags default '{a}', r int4range, v varchar(10) collate \"C\", \
           o text collate odd, b bpchar, ch char(4), bi bit(3), vb bit varying, mo money, l pg_lsn, x xid8, \
           ti time(3), iv interval(3), ts timestamptz default now(), j jsonb default '{\"a\": 1}', js json, xm xml, \
           n numeric, nu int default nextval('loose'), fu int default f(), \"Odd \"\"name\" text default 'it''s'); \
         comment on column t.v is 'what ''s it'; create index t_hash on t using hash (v); \
         create index t_gin on t using gin (ms); create unique index t_m on t (m, j); \
         create table k (r int4range primary key, m mood); \
         create table keyless (xm xml, p pair)",
    );
    from.sql(
        "insert into t (ms, c, r, v, o, b, ch, bi, vb, mo, l, x, ti, iv, js, xm, n) values \
           ('{sad,NULL}', '(1,\"a,b\")', '[1,5)', 'v', 'o', 'b ', 'ch', '101', '1010', 1.5, '1/2', '99', '24:00', \
            '1 mon 1.5 s', '{\"a\" :1}', '<a/>', 'NaN'); \
         insert into t (id, m) values (7, 'happy'); insert into k values ('[1,2)', 'sad'), ('empty', null); \
         insert into keyless values ('<b/>', '(,)'), (null, null)",
    );
    let lines = copy_all(&from, &to).await;
    for (table, order) in [("t", "id"), ("k", "r"), ("keyless", "1::text")] {
        let sql = format!("select * from {table} order by {order}").replace("1::text", "xm::text");
        assert_eq!(to.lines(&sql), from.lines(&sql), "{table}");
    }
    let definition = "select attname, format_type(atttypid, atttypmod), attnotnull, attidentity, attcollation::regcollation, \
         pg_get_expr(adbin, adrelid), col_description(attrelid, attnum) from pg_attribute \
         left join pg_attrdef on adrelid = attrelid and adnum = attnum \
         where attrelid = 't'::regclass and attnum > 0 order by attnum";
    let (there, here) = (from.lines(definition), to.lines(definition));
    for (there, here) in there.iter().zip(&here) {
        let name = there.split('\t').next().unwrap();
        match name {
            "other" => assert_eq!(here, "other\tbigint\tt\td\t-\tNULL\tNULL"),
            "o" => assert_eq!(here, "o\ttext\tf\t\t\"default\"\tNULL\tNULL"),
            "fu" => assert_eq!(here, "fu\tinteger\tf\t\t-\tNULL\tNULL"),
            _ => assert_eq!(here, there),
        }
    }
    assert_eq!(here.len(), there.len());
    for line in [
        "Default of column fu of public.t: function public.f() does not exist",
        "GENERATED ALWAYS of column other of public.t: it would refuse",
        "Collation public.odd of column o of public.t",
    ] {
        assert!(lines.iter().any(|l| l.starts_with(line)), "{line}: {lines:?}");
    }
    assert_eq!(
        to.sql("insert into t (j) values ('{}') returning id, other, p, tg, \"Odd \"\"name\""),
        "8\t3\t3\t{a}\tit's"
    );
    let indexes = "select indexname, indexdef from pg_indexes where schemaname = 'public' order by 1";
    assert_eq!(to.lines(indexes), from.lines(indexes));
}

/// G1, G6: rows of types that both ends have in binary form go from COPY to COPY; others are decoded.
#[tokio::test(flavor = "multi_thread")]
async fn g1_g6_rows_are_passed_on_where_both_ends_have_their_types() {
    let server = server();
    let (from, to) = (Database::new(&server), Database::new(&server));
    for db in [&from, &to] {
        db.sql(TYPES);
    }
    from.sql(
        "create table plain (id bigint primary key, b bool, s smallint, p positive, n numeric(30,10), m numeric, r real, \
           f float8, d date, ti time(3), tz timetz, ts timestamp(3), tt timestamptz, v varchar(10), \
           ch char(4), t text, js json, jb jsonb, by bytea, bi bit(3), vb bit varying, u uuid, mo money, o oid, \
           l pg_lsn, x xid8, dropped int, g int generated always as (s + 1) stored, \"Odd \"\"one\" text); \
         alter table plain drop column dropped; \
         insert into plain values (1, true, -32768, 2147483647, 1.0000000001, 'NaN', '-0', '-infinity', '4713-01-01 BC', \
           '24:00', '12:00:00.123456-15:59', 'infinity', '0001-01-01 BC', '''' || chr(10) || '\t', \
           'ab', '', '{\"b\" :1,\"a\":1}', '{\"a\": 1.50}', '\\x00ff', '101', '', '00000000-0000-0000-0000-000000000001', \
           -1.05, 4294967295, 'FFFFFFFF/FFFFFFFF', '18446744073709551615', default, 'last'); \
         insert into plain (id) values (2); \
         insert into plain (id, t) select n, repeat(chr(8364), n) from generate_series(3, 500) n; \
         create table listed (id int primary key, a int[]); insert into listed values (1, '{1,NULL}'); \
         create table labelled (id int primary key, m mood); insert into labelled values (1, 'sad'); \
         create table spans (id int primary key, iv interval); insert into spans values (1, '178000000 years -3 days 1.5 s')",
    );
    let passed_on = copy_passing_on(&from, &to).await;
    for table in ["plain", "listed", "labelled", "spans"] {
        let sql = format!("select t::text from {table} t order by id");
        assert_eq!(to.lines(&sql), from.lines(&sql), "{table}");
    }
    assert_eq!(passed_on, ["500 rows of public.plain"]);
}

/// R7: a NaN that arithmetic made has a sign, which COPY passes on and the stream does not tell: it is found all the same.
#[tokio::test(flavor = "multi_thread")]
async fn r7_a_row_with_a_nan_that_was_passed_on_is_found() {
    let server = server();
    let (from, to) = (Database::new(&server), Database::new(&server));
    from.sql(
        "create table made (r real, f float8); alter table made replica identity full; \
         insert into made values ('infinity'::real - 'infinity', 'infinity'::float8 - 'infinity')",
    );
    assert_eq!(
        from.sql("select float8send(f) = float8send('NaN') from made"),
        "f",
        "the test is about nothing"
    );
    let plans = plans(&view(&from).await);
    assert_eq!(copy_passing_on(&from, &to).await, ["1 rows of public.made"]);
    let mut sink = PostgresSink::new(to.options());
    sink.take_over().await.unwrap();
    let nan = |r: &mut freshet_core::codec::RowWriter<'_>| {
        r.float32(f32::NAN);
        r.float64(f64::NAN);
    };
    durable(&mut sink, window(&plans[0], &[&nan], Some(1), |i| vec![StepKind::Delete(i.to_vec())]))
        .await
        .unwrap();
    assert_eq!(to.sql("select count(*) from made"), "0");
}

/// G1: in a database whose text is any bytes, every text is looked at.
#[tokio::test(flavor = "multi_thread")]
async fn g1_rows_of_a_database_without_a_character_set_are_not_passed_on() {
    let server = server();
    let (from, to) = (Database::with_encoding(&server, "SQL_ASCII"), Database::new(&server));
    from.sql("create table t (id int primary key, v text); insert into t values (1, 'x')");
    let passed_on = copy_passing_on(&from, &to).await;
    assert_eq!(to.lines("select * from t"), ["1\tx"]);
    assert!(passed_on.is_empty(), "{passed_on:?}");
}

/// G13: a type that the target lacks is refused by name before any table is made, and named by the check.
#[tokio::test(flavor = "multi_thread")]
async fn g13_missing_types_are_refused_before_anything_is_made() {
    let server = server();
    let db = Database::new(&server);
    let id = ("id", bigint(), "bigint", false);
    let table = |name: &str, data_type: DataType, native: &'static str| {
        of_dialect(plan(name, &[id.clone(), ("v", data_type, native, true)], &[0], vec![]), Dialect::Postgres)
    };
    let named = |name: &str| DataType::Named { name: name.into() };
    let fine = table("fine", DataType::Date, "date");
    let (mut sink, lacks) =
        (db.postgres_sink(), "column v is of type public.mood, which the target does not have");
    begin(&mut sink).await;
    for bad in [
        table("bad", named("public.mood"), "public.mood"),
        table("bad", DataType::Array { element: Box::new(named("public.mood")) }, "public.mood[]"),
        table("bad", named("public.geometry"), "public.geometry(Point,4326)"),
        table("bad", bigint(), "elsewhere.number"),
    ] {
        let native = bad.info.columns[1].native_type.clone();
        let error =
            sink.prepare(&[fine.clone(), bad.clone()], PrepareMode::CreateIfAbsent).await.unwrap_err();
        let lacks = lacks.replace("public.mood", &native);
        assert!(*error.kind() == ErrorKind::Unsupported && error.message().contains(&lacks), "{error}");
        assert!(error.hint().is_some_and(|hint| hint.contains("pre-data")), "{error:?}");
        assert_eq!(db.sql("select count(*) from pg_tables where schemaname = 'public'"), "0");
        let found = check(&db.options(), &[fine.clone(), bad]).await.unwrap();
        let seen = found.iter().any(|f| f.severity == Severity::Error && f.message.contains(&lacks));
        assert!(seen, "{found:?}");
        sink.take_over().await.unwrap();
    }
    // A table that is there already is judged by its own columns.
    db.sql("set role freshet; create type public.mood as enum ('a'); create table public.bad (id bigint primary key, v text)");
    let bad = table("bad", named("public.mood"), "public.mood");
    sink.prepare(std::slice::from_ref(&bad), PrepareMode::CreateIfAbsent).await.unwrap();
    for (name, declared, source) in [
        ("narrow", "varchar(3)", named("public.mood")),
        ("other", "int4range", named("public.mood")),
        ("span", "interval", DataType::Time { fsp: 6 }),
        ("part", "interval(0)", DataType::Interval),
        ("element", "smallint[]", DataType::Array { element: Box::new(bigint()) }),
    ] {
        db.sql(&format!(
            "set role freshet; create table public.{name} (id bigint primary key, v {declared})"
        ));
        let native = if name == "part" { "interval" } else { "public.mood" };
        let prepared = sink.prepare(&[table(name, source, native)], PrepareMode::CreateIfAbsent).await;
        if name == "span" {
            assert!(prepared.is_ok(), "a time of day is a span too");
            continue;
        }
        let error = prepared.unwrap_err();
        assert!(error.message().contains("column v is declared"), "{name}: {error}");
        sink.take_over().await.unwrap();
    }
}

/// Text that is no single expression is no default, whatever else it holds.
#[tokio::test(flavor = "multi_thread")]
async fn g13_a_default_is_one_expression_or_is_left_out() {
    let server = server();
    let db = Database::new(&server);
    let plan = of_dialect(plan("t", &[("id", bigint(), "bigint", false)], &[0], vec![]), Dialect::Postgres);
    let mut info = (*plan.info).clone();
    info.columns[0].default = Some("1); drop schema public cascade; select (1".into());
    let plan = TablePlan { info: Arc::new(info), target: plan.target };
    let mut sink = db.postgres_sink();
    begin(&mut sink).await;
    let lines = sink.prepare(&[plan], PrepareMode::CreateIfAbsent).await.unwrap();
    assert!(lines.iter().any(|line| line.starts_with("Default of column id of shop.t")), "{lines:?}");
    assert_eq!(db.sql("select count(*) from pg_tables where schemaname = 'public'"), "1");
}
