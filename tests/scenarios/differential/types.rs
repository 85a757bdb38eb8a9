//! The types of each source, what stands in such columns, and what is left out of which direction, with its reason.
//!
//! Written by hand from the manuals of the servers and from docs/types.md. A type that no direction takes is not here.

use super::values::Values::{self, *};
pub(crate) use crate::ends::Kind as Server;

/// From where to where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Direction {
    pub from: Server,
    pub to: Server,
}

impl Direction {
    pub(crate) fn words(self) -> String {
        format!("{}-to-{}", self.from.word(), self.to.word())
    }
}

/// How a column is read on both sides; see `compare.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Bytes,
    Whole,
    Decimal,
    Single,
    Double,
    /// Dates and times of day of a date.
    Moment,
    /// Times, which are spans on MySQL.
    Span,
    Bits(u32),
    Interval,
    /// A time of day with a zone.
    Zoned,
    Money,
    Lsn,
}

/// Whether a type may be a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub(crate) enum Key {
    Never,
    /// With others: it has too few values.
    Part,
    Whole,
}

/// A type of a column.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Type {
    pub ddl: &'static str,
    pub kind: Kind,
    pub key: Key,
    pub values: Values,
}

const fn ty(ddl: &'static str, kind: Kind, key: Key, values: Values) -> Type {
    Type { ddl, kind, key, values }
}

/// A type that a direction does not take.
struct LeftOut {
    from: &'static [Server],
    to: &'static [Server],
    ddl: &'static str,
    /// Why; faults that are to be mended say so.
    _reason: &'static str,
}

/// The whole list of what is not compared although it could be drawn.
const LEFT_OUT: &[LeftOut] = &[LeftOut {
    from: &[Server::MySql],
    to: &[Server::MariaDb],
    ddl: "vector(3)",
    _reason: "MariaDB 10.11 has no vector: refused by name",
}];

/// Whether a type is left out.
fn is_left_out(direction: Direction, ddl: &str) -> bool {
    let is_of = |out: &LeftOut| out.from.contains(&direction.from) && out.to.contains(&direction.to);
    LEFT_OUT.iter().any(|out| is_of(out) && out.ddl == ddl)
}

/// The types of a direction.
pub(crate) fn types(direction: Direction) -> Vec<Type> {
    let own: &[&[Type]] = match direction.from {
        Server::MariaDb => &[MY, MARIADB],
        Server::MySql => &[MY, MYSQL],
        Server::Postgres => &[POSTGRES],
    };
    own.iter().flat_map(|types| types.iter()).filter(|ty| !is_left_out(direction, ty.ddl)).copied().collect()
}

/// What has to be on both ends before.
pub(crate) const POSTGRES_NEEDS: &str = "create extension citext; create extension hstore; \
    create collation nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false); \
    create collation noaccent (provider = icu, locale = 'und-u-ks-level1', deterministic = false);";

/// What a source has, and freshet makes on the target where it is not there.
pub(crate) const POSTGRES_TYPES: &str = "set role freshet; create type mood as enum ('sad', 'very ok', 'Ü'); \
    create domain positive as int check (value > 0); create domain word as text check (value <> 'never'); \
    create type pair as (a int, b text);";

const MY: &[Type] = &[
    ty("tinyint", Kind::Whole, Key::Part, Whole(-128, 127)),
    ty("tinyint unsigned", Kind::Whole, Key::Part, Whole(0, 255)),
    ty("bool", Kind::Whole, Key::Part, Whole(0, 1)),
    ty("smallint", Kind::Whole, Key::Whole, Whole(-32_768, 32_767)),
    ty("smallint unsigned", Kind::Whole, Key::Whole, Whole(0, 65_535)),
    ty("mediumint", Kind::Whole, Key::Whole, Whole(-8_388_608, 8_388_607)),
    ty("mediumint unsigned", Kind::Whole, Key::Whole, Whole(0, 16_777_215)),
    ty("int", Kind::Whole, Key::Whole, Whole(-2_147_483_648, 2_147_483_647)),
    ty("int unsigned", Kind::Whole, Key::Whole, Whole(0, 4_294_967_295)),
    ty("int(5) unsigned zerofill", Kind::Whole, Key::Whole, Whole(0, 4_294_967_295)),
    ty("bigint", Kind::Whole, Key::Whole, Whole(i64::MIN as i128, i64::MAX as i128)),
    ty("bigint unsigned", Kind::Whole, Key::Whole, Whole(0, u64::MAX as i128)),
    ty("decimal(10,2)", Kind::Decimal, Key::Whole, Decimal(10, 2)),
    ty("decimal(65,30)", Kind::Decimal, Key::Whole, Decimal(65, 30)),
    ty("decimal(18,9)", Kind::Decimal, Key::Whole, Decimal(18, 9)),
    ty("decimal(38,0)", Kind::Decimal, Key::Whole, Decimal(38, 0)),
    ty("decimal(4,4)", Kind::Decimal, Key::Part, Decimal(4, 4)),
    ty("float", Kind::Single, Key::Whole, Single),
    ty("float(7,4)", Kind::Single, Key::Never, Decimal(7, 4)),
    ty("double", Kind::Double, Key::Whole, Double),
    ty("double(10,3)", Kind::Double, Key::Never, Decimal(10, 3)),
    ty("bit(1)", Kind::Bits(1), Key::Part, Whole(0, 1)),
    ty("bit(10)", Kind::Bits(10), Key::Part, Whole(0, 1_023)),
    ty("bit(64)", Kind::Bits(64), Key::Whole, Whole(0, u64::MAX as i128)),
    ty("year", Kind::Whole, Key::Part, Listed(&["1901", "2155", "0", "2000", "20{i2}"])),
    ty("date", Kind::Moment, Key::Whole, Date),
    ty("datetime", Kind::Moment, Key::Whole, DateTime(0)),
    ty("datetime(3)", Kind::Moment, Key::Whole, DateTime(3)),
    ty("datetime(6)", Kind::Moment, Key::Whole, DateTime(6)),
    ty("timestamp null", Kind::Moment, Key::Never, Epoch(0)),
    ty("timestamp(6) null", Kind::Moment, Key::Never, Epoch(6)),
    ty(
        "timestamp(3) not null default current_timestamp(3) on update current_timestamp(3)",
        Kind::Moment,
        Key::Never,
        Epoch(3),
    ),
    ty(
        "datetime(2) default current_timestamp(2) on update current_timestamp(2)",
        Kind::Moment,
        Key::Never,
        DateTime(2),
    ),
    ty("time", Kind::Span, Key::Whole, Span(0)),
    ty("time(6)", Kind::Span, Key::Whole, Span(6)),
    ty("char(10)", Kind::Text, Key::Whole, Alike(10)),
    ty("char(12) character set latin1", Kind::Text, Key::Whole, Western(12)),
    ty("varchar(40)", Kind::Text, Key::Whole, Unicode(40)),
    ty("varchar(40) collate utf8mb4_general_ci", Kind::Text, Key::Whole, Alike(8)),
    ty("varchar(40) collate utf8mb4_unicode_ci", Kind::Text, Key::Whole, Alike(8)),
    ty("varchar(40) collate utf8mb4_unicode_520_ci", Kind::Text, Key::Whole, Alike(8)),
    ty("varchar(40) collate utf8mb4_bin", Kind::Text, Key::Whole, Alike(6)),
    ty("varchar(40) character set utf8mb3", Kind::Text, Key::Whole, Western(20)),
    ty("varchar(40) character set latin1 collate latin1_general_cs", Kind::Text, Key::Whole, Western(8)),
    ty("varchar(40) character set latin1 collate latin1_german2_ci", Kind::Text, Key::Whole, Western(8)),
    ty("varchar(40) character set ascii", Kind::Text, Key::Whole, Ascii(20)),
    ty("varchar(40) character set utf16", Kind::Text, Key::Whole, Unicode(20)),
    ty(
        "varchar(40) character set sjis",
        Kind::Text,
        Key::Never,
        Listed(&["'ソ表日本ｱ{i2}'", "''", "'a{h}'"]),
    ),
    ty("varchar(40) character set gbk", Kind::Text, Key::Never, Listed(&["'中文{i2}'", "''", "'a{h}'"])),
    ty("varchar(40) character set koi8r", Kind::Text, Key::Never, Listed(&["'Привет{i2}'", "' '", "'a{h}'"])),
    ty("varchar(2000)", Kind::Text, Key::Never, Unicode(2_000)),
    ty("tinytext", Kind::Text, Key::Never, Unicode(60)),
    ty("text", Kind::Text, Key::Never, Unicode(15_000)),
    ty("text character set latin1", Kind::Text, Key::Never, Western(30_000)),
    ty("mediumtext", Kind::Text, Key::Never, Unicode(100_000)),
    ty("longtext", Kind::Text, Key::Never, Unicode(120_000)),
    ty("binary(8)", Kind::Bytes, Key::Whole, Bytes(8)),
    ty("varbinary(40)", Kind::Bytes, Key::Whole, Bytes(40)),
    ty("tinyblob", Kind::Bytes, Key::Never, Bytes(255)),
    ty("blob", Kind::Bytes, Key::Never, Bytes(60_000)),
    ty("mediumblob", Kind::Bytes, Key::Never, Bytes(100_000)),
    ty("longblob", Kind::Bytes, Key::Never, Bytes(120_000)),
    ty(
        "enum('x','y,z','it''s','é','')",
        Kind::Text,
        Key::Part,
        Listed(&["'x'", "'y,z'", "'it''s'", "'é'", "''", "0"]),
    ),
    ty(
        "set('a','b c','d''e','é')",
        Kind::Text,
        Key::Part,
        Listed(&["''", "'a'", "'é,a'", "'a,b c,d''e,é'", "5"]),
    ),
    ty(
        "json",
        Kind::Text,
        Key::Never,
        Listed(&[
            "'null'",
            "'{\"a\": {i}, \"b\": [1, 2.50, true, null, \"é\"]}'",
            "'[{i}, 1e3, -0.0, 18446744073709551615]'",
            "'\"{h}\"'",
            "'{\"\": {}, \"k{i2}\": [[], {}], \"u\": \"\\\\u0001\\\\ud83d\\\\ude00\"}'",
            "concat('[\"', repeat('{h}', 2000), '\"]')",
        ]),
    ),
    ty(
        "geometry",
        Kind::Bytes,
        Key::Never,
        Listed(&[
            "st_geomfromtext('POINT({i} {j})')",
            "st_geomfromtext('LINESTRING(0 0,{i} {j},2 2)')",
            "st_geomfromtext('POLYGON((0 0,{j}.5 0,5 5,0 0))')",
            "st_geomfromtext('GEOMETRYCOLLECTION(POINT(1 1),LINESTRING(0 0,1 {i}))')",
        ]),
    ),
    ty(
        "point",
        Kind::Bytes,
        Key::Never,
        Listed(&["st_geomfromtext('POINT({i} {j})')", "st_geomfromtext('POINT(-1e10 0.1)')"]),
    ),
];

const MARIADB: &[Type] = &[
    ty("uuid", Kind::Text, Key::Whole, Uuid),
    ty(
        "inet6",
        Kind::Text,
        Key::Whole,
        Listed(&["'::1'", "'2001:db8::{h4}:{h4}'", "'::ffff:10.0.{i2}.1'", "'::'"]),
    ),
    ty("inet4", Kind::Text, Key::Whole, Listed(&["'192.168.{i2}.{j2}'", "'0.0.0.0'", "'255.255.255.255'"])),
    ty("varchar(40) collate utf8mb4_nopad_bin", Kind::Text, Key::Whole, Alike(6)),
    ty("varchar(40) collate utf8mb4_unicode_nopad_ci", Kind::Text, Key::Whole, Alike(8)),
    ty("varchar(40) collate utf8mb4_uca1400_ai_ci", Kind::Text, Key::Whole, Alike(8)),
];

const MYSQL: &[Type] = &[
    ty(
        "vector(3)",
        Kind::Bytes,
        Key::Never,
        Listed(&["to_vector('[{i}, -0.5, 1e10]')", "to_vector('[0,0,{j}]')"]),
    ),
    ty("varchar(40) collate utf8mb4_0900_ai_ci", Kind::Text, Key::Whole, Alike(8)),
    ty("varchar(40) collate utf8mb4_0900_as_cs", Kind::Text, Key::Whole, Alike(8)),
    ty("varchar(40) collate utf8mb4_0900_bin", Kind::Text, Key::Whole, Alike(6)),
    ty("varchar(40) character set gb18030", Kind::Text, Key::Never, Listed(&["'中文😀é{i2}'", "''"])),
];

const POSTGRES: &[Type] = &[
    ty("boolean", Kind::Whole, Key::Part, Listed(&["true", "false"])),
    ty("smallint", Kind::Whole, Key::Whole, Whole(-32_768, 32_767)),
    ty("integer", Kind::Whole, Key::Whole, Whole(-2_147_483_648, 2_147_483_647)),
    ty("bigint", Kind::Whole, Key::Whole, Whole(i64::MIN as i128, i64::MAX as i128)),
    ty("numeric", Kind::Text, Key::Whole, Numeric),
    ty("numeric(10,2)", Kind::Decimal, Key::Whole, Decimal(10, 2)),
    ty("numeric(60,25)", Kind::Decimal, Key::Whole, Decimal(60, 25)),
    ty("numeric(5,-2)", Kind::Text, Key::Part, Listed(&["1234500", "0", "{i}00"])),
    ty("numeric(3,5)", Kind::Text, Key::Part, Listed(&["0.00123", "0", "-0.00999"])),
    ty("real", Kind::Single, Key::Whole, Single),
    ty("double precision", Kind::Double, Key::Whole, Double),
    ty(
        "money",
        Kind::Money,
        Key::Whole,
        Listed(&["'-92233720368547758.08'", "'{i}.{i2}'", "'-{j}.05'", "'0'"]),
    ),
    ty("text", Kind::Text, Key::Whole, Unicode(120_000)),
    ty("text collate \"C\"", Kind::Text, Key::Whole, Alike(10)),
    ty("text collate nocase", Kind::Text, Key::Whole, Alike(10)),
    ty("text collate noaccent", Kind::Text, Key::Whole, Alike(10)),
    ty("varchar(20)", Kind::Text, Key::Whole, Alike(20)),
    ty("varchar(2000)", Kind::Text, Key::Never, Unicode(2_000)),
    ty("varchar", Kind::Text, Key::Never, Unicode(9_000)),
    ty("char(10)", Kind::Text, Key::Whole, Alike(10)),
    ty("bpchar", Kind::Text, Key::Whole, Alike(10)),
    ty("name", Kind::Text, Key::Whole, Ascii(30)),
    ty("\"char\"", Kind::Text, Key::Part, Listed(&["'x'", "'y'", "''"])),
    ty("citext", Kind::Text, Key::Whole, Alike(10)),
    ty("word", Kind::Text, Key::Whole, Unicode(5_000)),
    ty("bytea", Kind::Bytes, Key::Whole, Bytes(120_000)),
    ty("bit(10)", Kind::Text, Key::Part, Listed(&["B'1000000001'", "{i}::bit(10)"])),
    ty("bit varying", Kind::Text, Key::Whole, Listed(&["B''", "B'10110'", "{i}::bit(12)", "B'0'", "B'00'"])),
    ty("date", Kind::Moment, Key::Whole, Date),
    ty("time", Kind::Span, Key::Whole, TimeOfDay(6)),
    ty("time(2)", Kind::Span, Key::Whole, TimeOfDay(2)),
    ty(
        "timetz",
        Kind::Zoned,
        Key::Whole,
        Listed(&["'{i2}:00:00-15:59'", "'12:{i2}:00.5+05:30'", "'00:00:0{j1}+01'", "'01:00:0{j1}+02'"]),
    ),
    ty("timestamp", Kind::Moment, Key::Whole, DateTime(6)),
    ty("timestamp(3)", Kind::Moment, Key::Whole, DateTime(3)),
    ty("timestamptz", Kind::Moment, Key::Whole, DateTime(6)),
    ty("timestamptz(0)", Kind::Moment, Key::Whole, DateTime(0)),
    ty(
        "interval",
        Kind::Interval,
        Key::Whole,
        Listed(&[
            "'1 year -2 mons +{i} days -04:05:06.789'",
            "'{j2} day'",
            "'24:00:{i2}'",
            "'1 day {i2} sec'",
            "'1 mon'",
            "'30 days'",
            "'-178000000 years'",
        ]),
    ),
    ty(
        "interval day to second(3)",
        Kind::Interval,
        Key::Whole,
        Listed(&["'{j} days 04:05:{i2}.789'", "'0'"]),
    ),
    ty("uuid", Kind::Text, Key::Whole, Uuid),
    ty(
        "json",
        Kind::Text,
        Key::Never,
        Listed(&[
            "'{\"b\": {i},  \"a\":[1,2], \"a\":null}'",
            "'1.0'",
            "'\"\\u0041{h}\"'",
            "('[\"' || repeat('{h}', 3000) || '\"]')::json",
        ]),
    ),
    ty(
        "jsonb",
        Kind::Text,
        Key::Part,
        Listed(&["'{\"b\": 1.10, \"a\": [\"ü\", null, {i}]}'", "'1.0'", "'1.00'", "'{}'", "'[\"{h}\"]'"]),
    ),
    ty("xml", Kind::Text, Key::Never, Listed(&["'<a>{i}</a>'", "'<b c=\"{h}\"/>'"])),
    ty("inet", Kind::Text, Key::Whole, Listed(&["'10.0.{i2}.{j2}/8'", "'::{h4}'", "'10.0.{i2}.1'"])),
    ty("cidr", Kind::Text, Key::Whole, Listed(&["'10.{i2}.0.0/16'", "'2001:db8::/32'", "'10.{i2}.0.0/15'"])),
    ty("macaddr", Kind::Text, Key::Whole, Listed(&["'08:00:2b:01:{i2}:{j2}'"])),
    ty("macaddr8", Kind::Text, Key::Part, Listed(&["'08:00:2b:01:02:03:{i2}:05'"])),
    ty("point", Kind::Text, Key::Never, Listed(&["'({i}.5,-{j})'", "'(0,-0)'"])),
    ty("line", Kind::Text, Key::Never, Listed(&["'{1,2,{i}}'"])),
    ty("box", Kind::Text, Key::Never, Listed(&["'(({i},1),(0,0))'"])),
    ty("path", Kind::Text, Key::Never, Listed(&["'[(0,0),({i},1)]'", "'((0,0),(1,1))'"])),
    ty("polygon", Kind::Text, Key::Never, Listed(&["'((0,0),(1,{i}),(1,0))'"])),
    ty("circle", Kind::Text, Key::Never, Listed(&["'<(0,{i}),1.5>'"])),
    ty("int4range", Kind::Text, Key::Part, Listed(&["'[{i2},{i}000)'", "'empty'", "'(,{j})'"])),
    ty("numrange", Kind::Text, Key::Part, Listed(&["'[1.0,{i}00.50]'", "'[1.00,{i}00.5]'", "'empty'"])),
    ty("tstzrange", Kind::Text, Key::Part, Listed(&["'[2024-01-01 00:00:{i2}+00,)'", "'empty'"])),
    ty("int8multirange", Kind::Text, Key::Part, Listed(&["'{[1,3),[5,{i}0000)}'", "'{}'"])),
    ty("tsvector", Kind::Text, Key::Never, Listed(&["'a fat cat{i2}'::tsvector", "''"])),
    ty("tsquery", Kind::Text, Key::Never, Listed(&["'fat & cat{i2}'"])),
    ty("oid", Kind::Whole, Key::Whole, Whole(0, 4_294_967_295)),
    ty("xid", Kind::Text, Key::Never, Listed(&["'4294967295'", "'{i}'"])),
    ty("xid8", Kind::Text, Key::Never, Listed(&["'18446744073709551615'", "'{i}'"])),
    ty("pg_lsn", Kind::Lsn, Key::Whole, Listed(&["'FFFFFFFF/FFFFFFFF'", "'0/{h}'", "'{h4}/1'"])),
    ty("jsonpath", Kind::Text, Key::Never, Listed(&["'$.a[*]'", "'$.b{i2}'"])),
    ty(
        "int[]",
        Kind::Text,
        Key::Part,
        Listed(&["'{}'", "'{{1,2},{3,NULL}}'", "'[0:1]={7,{i}}'", "'{{i},{j}}'"]),
    ),
    ty(
        "text[]",
        Kind::Text,
        Key::Part,
        Listed(&["array['a b', 'c\"d', null, 'NULL', '', '{h}']", "'{}'", "'{a{i2}}'"]),
    ),
    ty("numeric[]", Kind::Text, Key::Never, Listed(&["'{1.0,2.50}'", "'{NaN,{i}}'"])),
    ty(
        "timestamptz[]",
        Kind::Text,
        Key::Never,
        Listed(&["array['2024-02-29 12:00:{i2}+02'::timestamptz, 'infinity']"]),
    ),
    ty(
        "bytea[]",
        Kind::Text,
        Key::Never,
        Listed(&["array['\\x00ff'::bytea, '', null]", "array['\\x{h}'::bytea]"]),
    ),
    ty("hstore", Kind::Text, Key::Never, Listed(&["'a=>{i}, \"b c\"=>NULL'", "''"])),
    ty("mood", Kind::Text, Key::Part, Listed(&["'sad'", "'very ok'", "'Ü'"])),
    ty("mood[]", Kind::Text, Key::Never, Listed(&["'{sad,\"very ok\"}'", "'{}'"])),
    ty("positive", Kind::Text, Key::Whole, Whole(1, 2_147_483_647)),
    ty(
        "pair",
        Kind::Text,
        Key::Part,
        Listed(&["'({i},\"x, y\")'", "row(null, null)::pair", "'(,)'", "'({j},)'"]),
    ),
];
