//! Every type: its place in the closed set, and the cells of its values, extremes included.

use super::common::{Database, find, read_table, server, until, words};
use freshet_core::types::DataType;

/// Declaration, type, and literals with the cell that each must become.
pub type Case = (&'static str, DataType, &'static [(&'static str, &'static str)]);

const fn int(bits: u8) -> DataType {
    DataType::Int { bits, unsigned: false }
}

fn named(name: &str) -> DataType {
    DataType::Named { name: name.to_owned() }
}

fn array(element: DataType) -> DataType {
    DataType::Array { element: Box::new(element) }
}

const fn text(length: Option<u32>, fixed: bool) -> DataType {
    DataType::Text { length, fixed }
}

const fn decimal(precision: u16, scale: i16) -> DataType {
    DataType::Decimal { precision: Some(precision), scale: Some(scale) }
}

pub fn scalars() -> Vec<Case> {
    vec![
        ("boolean", DataType::Bool, &[("true", "true"), ("'f'", "false"), ("null", "NULL")]),
        ("smallint", int(16), &[("-32768", "-32768"), ("32767", "32767")]),
        ("integer", int(32), &[("-2147483648", "-2147483648")]),
        (
            "bigint",
            int(64),
            &[
                ("-9223372036854775808", "-9223372036854775808"),
                ("9223372036854775807", "9223372036854775807"),
            ],
        ),
        ("oid", DataType::Oid, &[("4294967295", "4294967295"), ("0", "0")]),
        ("xid", DataType::Oid, &[("'4294967295'", "4294967295")]),
        ("xid8", DataType::Lsn, &[("'18446744073709551615'", "18446744073709551615")]),
        (
            "pg_lsn",
            DataType::Lsn,
            &[("'16/B374D848'", "97500059720"), ("'FFFFFFFF/FFFFFFFF'", "18446744073709551615")],
        ),
        ("money", DataType::Money, &[("-92233720368547758.08", "-9223372036854775808"), ("12.34", "1234")]),
        (
            "uuid",
            DataType::Uuid,
            &[("'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'", "a0eebc999c0b4ef8bb6d6bb9bd380a11")],
        ),
        (
            "bytea",
            DataType::Bytes { length: None, fixed: false },
            &[("''", ""), (r"'\x00ff5c'", "00ff5c"), ("decode(repeat('ab', 5), 'hex')", "ababababab")],
        ),
    ]
}

pub fn numbers() -> Vec<Case> {
    vec![
        (
            "real",
            DataType::Float32,
            &[
                ("'NaN'", "NaN"),
                ("'-Infinity'", "-inf"),
                ("-0.0::real", "-0.0"),
                ("0.1", "0.1"),
                ("3.4028235e38", "3.4028235e38"),
                ("1e-45", "1e-45"),
            ],
        ),
        (
            "double precision",
            DataType::Float64,
            &[
                ("'NaN'", "NaN"),
                ("'Infinity'", "inf"),
                ("'-0'", "-0.0"),
                ("0.1", "0.1"),
                ("5e-324", "5e-324"),
            ],
        ),
        (
            "numeric",
            DataType::Decimal { precision: None, scale: None },
            &[
                ("'NaN'", "NaN"),
                ("'Infinity'", "Infinity"),
                ("'-Infinity'", "-Infinity"),
                ("0", "0"),
                ("0.000", "0.000"),
                ("-0.0", "0.0"),
                ("10000", "10000"),
                ("100000000.00000001", "100000000.00000001"),
                ("-12345.678900", "-12345.678900"),
                ("1e20", "100000000000000000000"),
                ("1e-20", "0.00000000000000000001"),
                ("0.00010000", "0.00010000"),
            ],
        ),
        (
            "numeric(10,2)",
            decimal(10, 2),
            &[("1.5", "1.50"), ("-99999999.99", "-99999999.99"), ("'NaN'", "NaN")],
        ),
        ("numeric(5)", decimal(5, 0), &[("12345", "12345")]),
        ("numeric(3,-3)", decimal(3, -3), &[("123456", "123000")]),
        ("numeric(3,5)", decimal(3, 5), &[("0.00123", "0.00123")]),
        ("numeric(1000,1000)", decimal(1000, 1000), &[]),
    ]
}

pub fn temporals() -> Vec<Case> {
    vec![
        (
            "date",
            DataType::Date,
            &[
                ("'infinity'", "infinity"),
                ("'-infinity'", "-infinity"),
                ("'4714-11-24 BC'", "-4713-11-24"),
                ("'0001-12-31 BC'", "0000-12-31"),
                ("'5874897-12-31'", "5874897-12-31"),
                ("'2000-02-29'", "2000-02-29"),
                ("'1999-12-31'", "1999-12-31"),
            ],
        ),
        (
            "time",
            DataType::Time { fsp: 6 },
            &[("'24:00'", "24:00:00"), ("'00:00:00.000001'", "00:00:00.000001")],
        ),
        ("time(0)", DataType::Time { fsp: 0 }, &[("'23:59:59.5'", "24:00:00")]),
        (
            "time with time zone",
            DataType::TimeTz { fsp: 6 },
            &[("'12:00+02'", "12:00:00 7200"), ("'00:00:00-15:59:59'", "00:00:00 -57599")],
        ),
        (
            "timestamp",
            DataType::DateTime { fsp: 6 },
            &[
                ("'infinity'", "infinity"),
                ("'-infinity'", "-infinity"),
                ("'4714-11-24 00:00:00 BC'", "-4713-11-24 00:00:00"),
                ("'294276-12-31 23:59:59.999999'", "294276-12-31 23:59:59.999999"),
                ("'1999-12-31 23:59:59.999999'", "1999-12-31 23:59:59.999999"),
            ],
        ),
        (
            "timestamp(3)",
            DataType::DateTime { fsp: 3 },
            &[("'2020-01-02 03:04:05.6789'", "2020-01-02 03:04:05.679000")],
        ),
        (
            "timestamptz",
            DataType::Timestamp { fsp: 6 },
            &[
                ("'infinity'", "infinity"),
                ("'-infinity'", "-infinity"),
                ("'2020-06-01 00:00:00+02'", "2020-05-31 22:00:00Z"),
                ("'4714-11-24 00:00:00+00 BC'", "-4713-11-24 00:00:00Z"),
                ("'294247-01-10 04:00:54.775806+00'", "294247-01-10 04:00:54.775806Z"),
                ("'294247-01-10 04:00:54.775810+00'", "294247-01-10 04:00:54.775810Z"),
                ("'294276-12-31 23:59:59.999999+00'", "294276-12-31 23:59:59.999999Z"),
            ],
        ),
        (
            "interval",
            DataType::Interval,
            &[
                ("'1 year 2 mons -3 days 04:05:06.7'", "14 months -3 days 14706700000 us"),
                ("'-178000000 years'", "-2136000000 months 0 days 0 us"),
            ],
        ),
        ("interval year to month", DataType::Interval, &[("'1-2'", "14 months 0 days 0 us")]),
    ]
}

pub fn texts() -> Vec<Case> {
    vec![
        ("text", text(None, false), &[("''", ""), (r"E'a\tb\n\\é\U0001F600'", "a\tb\n\\é😀")]),
        ("varchar", text(None, false), &[("'x'", "x")]),
        ("varchar(10)", text(Some(10), false), &[("'äöüäöüäöüä'", "äöüäöüäöüä"), ("'a  '", "a  ")]),
        ("char(5)", text(Some(5), true), &[("'ab'", "ab   "), ("'é'", "é    ")]),
        ("char", text(Some(1), true), &[("'x'", "x")]),
        ("bpchar", text(None, false), &[("'ab  '", "ab  ")]),
        ("bit(1)", DataType::Bit { length: Some(1), varying: false }, &[("B'1'", "01")]),
        ("bit(10)", DataType::Bit { length: Some(10), varying: false }, &[("B'1000000001'", "0201")]),
        (
            "bit(70)",
            DataType::Bit { length: Some(70), varying: false },
            &[("lpad('1', 70, '1')::bit(70)", "3fffffffffffffffff")],
        ),
        // The text of zeros and ones, here in hex.
        ("varbit", DataType::Bit { length: None, varying: true }, &[("B'101'", "313031"), ("B''", "")]),
        ("varbit(5)", DataType::Bit { length: Some(5), varying: true }, &[("B'00001'", "3030303031")]),
        (
            "json",
            DataType::Json { binary: false },
            &[(r#"'{"b" : 1,"a":1, "a": 2}'"#, r#"{"b" : 1,"a":1, "a": 2}"#)],
        ),
        (
            "jsonb",
            DataType::Json { binary: true },
            // A number beyond any float stays exact.
            &[
                (r#"'{"b" : 1,"a":1e30}'"#, r#"{"a": 1000000000000000000000000000000, "b": 1}"#),
                ("'null'", "null"),
            ],
        ),
    ]
}

pub fn others() -> Vec<Case> {
    vec![
        (
            "integer[]",
            array(int(32)),
            &[("'{1,NULL,3}'", "{1,NULL,3}"), ("'[0:1]={7,8}'", "[0:1]={7,8}"), ("'{}'", "{}")],
        ),
        (
            "varchar(7)[]",
            array(text(Some(7), false)),
            &[(r#"array['a"b', 'c,d', '', 'NULL']"#, r#"{"a\"b","c,d","","NULL"}"#)],
        ),
        ("numeric(6,2)[]", array(decimal(6, 2)), &[("'{{1,2},{3,NaN}}'", "{{1.00,2.00},{3.00,NaN}}")]),
        (
            "timestamptz[]",
            array(DataType::Timestamp { fsp: 6 }),
            &[("array['2020-01-01 12:00+02'::timestamptz]", "{\"2020-01-01 10:00:00+00\"}")],
        ),
        (
            "bytea[]",
            array(DataType::Bytes { length: None, fixed: false }),
            &[(r"array['\x00ff'::bytea]", r#"{"\\x00ff"}"#)],
        ),
        ("money[]", array(DataType::Money), &[("array[1234.5::money]", "{\"$1,234.50\"}")]),
        ("double precision[]", array(DataType::Float64), &[("array[0.1, 1e300, 'NaN']", "{0.1,1e+300,NaN}")]),
        // The cast to text would add the netmask.
        (
            "inet",
            named("inet"),
            &[("'10.0.0.1'", "10.0.0.1"), ("'10.0.0.1/8'", "10.0.0.1/8"), ("null", "NULL")],
        ),
        ("cidr", named("cidr"), &[("'10.0.0.0/8'", "10.0.0.0/8")]),
        ("macaddr8", named("macaddr8"), &[("'08:00:2b:01:02:03:04:05'", "08:00:2b:01:02:03:04:05")]),
        ("point", named("point"), &[("'(0.1,2)'", "(0.1,2)")]),
        ("path", named("path"), &[("'[(0,0),(1,1)]'", "[(0,0),(1,1)]")]),
        ("int4range", named("int4range"), &[("'[1,5]'", "[1,6)"), ("'empty'", "empty"), ("'(,)'", "(,)")]),
        (
            "tstzrange",
            named("tstzrange"),
            &[("'[2020-01-01 00:00+01,infinity]'", "[\"2019-12-31 23:00:00+00\",infinity]")],
        ),
        ("int8multirange", named("int8multirange"), &[("'{[1,2),[5,9)}'", "{[1,2),[5,9)}")]),
        ("tsvector", named("tsvector"), &[("'a:1 ''b c'':2A'", "'a':1 'b c':2A")]),
        ("tsquery", named("tsquery"), &[("'a & !b'", "'a' & !'b'")]),
        ("xml", named("xml"), &[("'<a>é</a>'", "<a>é</a>")]),
        ("name", named("name"), &[("'n'", "n")]),
        ("\"char\"", named("\"char\""), &[("'x'", "x")]),
        ("tid", named("tid"), &[("'(1,2)'", "(1,2)")]),
        ("int2vector", named("int2vector"), &[("'1 2'", "1 2")]),
        ("regclass", named("regclass"), &[("'pg_class'", "pg_class")]),
        ("mood", named("public.mood"), &[("'it''s'", "it's")]),
        ("public.\"Odd Mood\"", named("public.\"Odd Mood\""), &[("'A,b'", "A,b")]),
        ("mood[]", array(named("public.mood")), &[("array['sad','it''s']::mood[]", "{sad,it's}")]),
        (
            "pair",
            named("public.pair"),
            &[("row(1, 'x,\"y')", "(1,\"x,\"\"y\")"), ("row(null, null)", "(,)"), ("null", "NULL")],
        ),
        ("price", decimal(8, 2), &[("7", "7.00")]),
        ("low_price", decimal(8, 2), &[("7.125", "7.13")]),
        ("short[]", array(text(Some(4), false)), &[("array['ab','cd']::short[]", "{ab,cd}")]),
        ("shorts", array(text(Some(4), false)), &[("array['ab']::shorts", "{ab}")]),
    ]
}

pub const DEFINITIONS: &str = "create type mood as enum ('sad', 'it''s'); create type \"Odd Mood\" as enum ('A,b'); \
    create type pair as (a int, b text); create domain price as numeric(8,2) check (value > 0); \
    create domain low_price as price not null default 1; create domain short as varchar(4); \
    create domain shorts as varchar(4)[];";

/// Reads every value of every case out of one table, one row a literal.
async fn check(cases: Vec<Case>) {
    let database = Database::new(DEFINITIONS);
    for (at, (declaration, _, values)) in cases.iter().enumerate() {
        let table = format!("t{at}");
        database.sql(&format!("create table {table} (id int primary key, v {declaration})"));
        for (id, (literal, _)) in values.iter().enumerate() {
            database.sql(&format!("insert into {table} values ({id}, {literal})"));
        }
    }
    let mut view = database.view(1).await;
    for (at, (declaration, data_type, values)) in cases.iter().enumerate() {
        let table = find(&view.tables, &format!("t{at}"));
        assert_eq!(table.schema.columns()[1].data_type, *data_type, "{declaration}");
        let mut rows = read_table(view.readers[0].as_mut(), &table, 1_000).await.unwrap();
        rows.sort_by_key(|row| row[0].parse::<i32>().unwrap());
        let cells: Vec<&str> = rows.iter().map(|row| row[1].as_str()).collect();
        let expect: Vec<&str> = values.iter().map(|(_, cell)| *cell).collect();
        assert_eq!(cells, expect, "{declaration}");
    }
}

#[tokio::test]
async fn g12_scalars() {
    check(scalars()).await;
}

#[tokio::test]
async fn g3_numbers() {
    check(numbers()).await;
}

#[tokio::test]
async fn g2_dates_and_times() {
    check(temporals()).await;
}

#[tokio::test]
async fn g5_g9_text_bits_and_documents() {
    check(texts()).await;
}

#[tokio::test]
async fn g4_g6_everything_else_is_the_output_functions_text() {
    check(others()).await;
}

/// What the role, the database or the server set must not show in a cell (G1).
#[tokio::test]
async fn g1_defaults_of_role_and_database_do_not_change_a_cell() {
    let database = Database::new(
        "create table t (id int primary key, d timestamptz, i interval[], f float8[], b bytea[], m money, n date[], \
         l money[]); insert into t values (1, '2020-01-02 03:04:05+00', array['1 year 2 days'::interval], \
         array[0.1::float8], array['\\xff'::bytea], 12.5, array['2020-01-02'::date], array[1.5::money])",
    );
    let name = &database.name;
    database.sql(&format!(
        "alter database {name} set timezone = 'Asia/Tokyo'; alter database {name} set datestyle = 'German, DMY'; \
         alter database {name} set intervalstyle = 'iso_8601'; alter database {name} set extra_float_digits = -5; \
         alter database {name} set bytea_output = 'escape'; alter database {name} set search_path = 'public'; \
         alter database {name} set default_transaction_isolation = 'serializable'; \
         alter database {name} set statement_timeout = '500ms'; alter database {name} set lc_monetary = 'C.UTF-8'; \
         alter database {name} set idle_in_transaction_session_timeout = '1ms'"
    ));
    let mut view = database.view(1).await;
    let table = view.tables[0].clone();
    // Somebody holds the table: a statement takes longer than the database allows.
    let holder =
        server().spawn_sql(name, "set statement_timeout = 0; set idle_in_transaction_session_timeout = 0; begin; lock table public.t; select pg_sleep(2)");
    let held = format!(
        "select count(*) from pg_locks l join pg_database d on d.oid = l.database \
         where d.datname = '{name}' and mode = 'AccessExclusiveLock' and granted"
    );
    until(|| server().sql(&held).trim() == "1").await;
    let rows = read_table(view.readers[0].as_mut(), &table, 10).await.unwrap();
    holder.wait().unwrap();
    let expect = [
        "1",
        "2020-01-02 03:04:05Z",
        "{\"1 year 2 days\"}",
        "{0.1}",
        "{\"\\\\xff\"}",
        "1250",
        "{2020-01-02}",
        "{$1.50}",
    ];
    assert_eq!(rows, [expect.map(str::to_owned).to_vec()]);
}

/// Three microseconds of timestamptz have no place in a cell: the table stops by name, nothing is made of them.
#[tokio::test]
async fn g2_an_instant_without_a_place_stops_its_table_and_is_not_told() {
    let database = Database::new(
        "create table t (id int primary key, at timestamptz); insert into t values (1, '294247-01-10 04:00:54.775807+00'); \
         create table u (id int); insert into u values (5)",
    );
    let mut view = database.view(1).await;
    let (table, other) = (find(&view.tables, "t"), find(&view.tables, "u"));
    let error = read_table(view.readers[0].as_mut(), &table, 10).await.unwrap_err();
    let words = words(&error);
    assert!(words.starts_with("Table(") && words.contains("Column at of a row of table public.t"), "{words}");
    assert!(!words.contains("294247"), "{words}");
    assert_eq!(read_table(view.readers[0].as_mut(), &other, 10).await.unwrap(), [["5".to_owned()]]);
}

/// A database without an encoding: what is UTF-8 is text, what is not stops its table by name (G7).
#[tokio::test]
async fn g7_bytes_without_an_encoding_are_never_guessed() {
    let server = server();
    server.sql("create database ascii encoding 'SQL_ASCII' locale 'C' template template0");
    let database = Database { server, name: "ascii".into() };
    database.sql(
        "create table good (v text); insert into good values ('é'); create table bad (v text); \
         insert into bad values (convert_from('\\xe9', 'SQL_ASCII'))",
    );
    let mut view = database.view(1).await;
    let (good, bad) = (find(&view.tables, "good"), find(&view.tables, "bad"));
    let error = read_table(view.readers[0].as_mut(), &bad, 10).await.unwrap_err();
    assert!(words(&error).starts_with("Table("), "{}", words(&error));
    assert_eq!(read_table(view.readers[0].as_mut(), &good, 10).await.unwrap(), [["é".to_owned()]]);
}
