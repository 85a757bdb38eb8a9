//! Every column type of both servers and the values that are put into it.

use freshet_testkit::servers::{Flavor, MyServer};

/// Which servers have a type.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum On {
    Both,
    MariaDb,
    MySql,
}

/// One column and the values put into it, as SQL.
pub struct Case(pub On, pub &'static str, pub &'static str, pub &'static [&'static str]);

use On::{Both, MariaDb, MySql};

const CASES: &[Case] = &[
    Case(Both, "i8", "tinyint", &["0", "1", "-1", "127", "-128", "NULL"]),
    Case(Both, "u8", "tinyint unsigned", &["0", "255", "128"]),
    Case(Both, "i16", "smallint", &["0", "-1", "32767", "-32768"]),
    Case(Both, "u16", "smallint unsigned", &["65535", "32768"]),
    Case(Both, "i24", "mediumint", &["0", "-1", "8388607", "-8388608"]),
    Case(Both, "u24", "mediumint unsigned", &["16777215", "8388608"]),
    Case(Both, "i32", "int", &["0", "-1", "2147483647", "-2147483648"]),
    Case(Both, "u32", "int(5) unsigned zerofill", &["4294967295", "7"]),
    Case(Both, "i64", "bigint", &["0", "-1", "9223372036854775807", "-9223372036854775808"]),
    Case(Both, "u64", "bigint unsigned", &["18446744073709551615", "9223372036854775808"]),
    Case(Both, "f32", "float", &["0", "-0e0", "1.5", "3.40282e38", "-1.17549e-38", "0.1", "16777217"]),
    Case(Both, "f32d", "float(7,4)", &["999.00009", "-1.5"]),
    Case(Both, "f64", "double", &["0", "-0e0", "1.7976931348623157e308", "2.2250738585072014e-308", "0.1"]),
    Case(Both, "f64u", "double(10,3) unsigned", &["1234567.891"]),
    Case(Both, "dec", "decimal(10,2)", &["0", "-0.00", "12345678.90", "-99999999.99", "0.05", "-0.05"]),
    Case(
        Both,
        "dec0",
        "decimal(65,0)",
        &["99999999999999999999999999999999999999999999999999999999999999999", "-1"],
    ),
    Case(
        Both,
        "dec30",
        "decimal(65,30)",
        &[
            "12345678901234567890123456789012345.123456789012345678901234567890",
            "-0.000000000000000000000000000001",
            "1",
        ],
    ),
    Case(Both, "decs", "decimal(5,5)", &["0.12345", "-0.99999", "0"]),
    Case(Both, "decz", "decimal(8,2) zerofill", &["12.5", "0"]),
    Case(Both, "yr", "year", &["0", "1901", "2155", "1970", "'2000'"]),
    Case(
        Both,
        "dt",
        "date",
        &[
            "'0000-00-00'",
            "'1000-01-01'",
            "'9999-12-31'",
            "'2020-00-15'",
            "'2020-02-00'",
            "'2020-02-31'",
            "'0001-01-01'",
        ],
    ),
    Case(Both, "tm", "time", &["'00:00:00'", "'838:59:59'", "'-838:59:59'", "'-00:00:01'", "'23:59:59'"]),
    Case(Both, "tm1", "time(1)", &["'-00:00:00.1'", "'10:11:12.9'"]),
    Case(Both, "tm3", "time(3)", &["'-00:00:00.001'", "'-12:34:56.789'", "'838:59:59.000'"]),
    Case(Both, "tm4", "time(4)", &["'-12:34:56.0001'"]),
    Case(
        Both,
        "tm6",
        "time(6)",
        &["'-838:59:58.999999'", "'-00:00:00.000001'", "'00:00:00.000001'", "'12:34:56.789012'"],
    ),
    Case(
        Both,
        "dtm",
        "datetime",
        &["'0000-00-00 00:00:00'", "'1000-01-01 00:00:00'", "'9999-12-31 23:59:59'", "'2020-02-31 12:00:00'"],
    ),
    Case(Both, "dtm2", "datetime(2)", &["'2020-02-29 23:59:59.99'"]),
    Case(Both, "dtm5", "datetime(5)", &["'2020-02-29 23:59:59.00001'"]),
    Case(
        Both,
        "dtm6",
        "datetime(6)",
        &["'9999-12-31 23:59:59.999999'", "'0000-00-00 00:00:00.000000'", "'2026-03-01 10:11:12.123456'"],
    ),
    Case(
        Both,
        "ts",
        "timestamp null",
        &["'1970-01-01 00:00:01'", "'2038-01-19 03:14:07'", "'0000-00-00 00:00:00'", "NULL"],
    ),
    Case(
        Both,
        "ts6",
        "timestamp(6) null",
        &["'1970-01-01 00:00:01.000001'", "'2038-01-19 03:14:07.999999'", "'0000-00-00 00:00:00'"],
    ),
    Case(Both, "ts3", "timestamp(3) null", &["'2020-10-25 01:30:00.123'"]),
    Case(Both, "ch", "char(10) character set utf8mb4", &["''", "'abc  '", "'  x'", "'😀é'", "'0123456789'"]),
    Case(Both, "chl", "char(255) character set utf8mb4", &["'a'", "repeat('é', 255)"]),
    Case(Both, "chu", "char(5) character set ucs2", &["'a'", "'é   '", "''"]),
    Case(Both, "chw", "char(5) character set utf32", &["'a'", "'é   '", "''"]),
    Case(Both, "ch16", "char(5) character set utf16", &["'a'", "'😀'", "''"]),
    Case(Both, "vc", "varchar(20) character set utf8mb4", &["''", "'abc  '", "'a\\0b'", "'日本語'"]),
    Case(
        Both,
        "vcl",
        "varchar(1000) character set latin1",
        &["''", "'ä€'", "repeat('x', 1000)", "_binary 0x8190"],
    ),
    Case(Both, "vc3", "varchar(300) character set utf8mb3", &["'grün'"]),
    Case(Both, "vcg", "varchar(30) character set gbk", &["'你好'", "_gbk 0x815C"]),
    Case(Both, "vcs", "varchar(30) character set sjis", &["'日本'", "'ソ'"]),
    Case(Both, "vc16", "varchar(30) character set utf16le", &["'a😀'"]),
    Case(Both, "tt", "tinytext", &["''", "'tiny'", "NULL"]),
    Case(Both, "tx", "text character set utf8mb4", &["repeat('日', 20000)", "''"]),
    Case(Both, "txu", "text character set ucs2", &["'ünï'"]),
    Case(Both, "mtx", "mediumtext", &["repeat('x', 100000)"]),
    Case(Both, "ltx", "longtext", &["repeat('x', 1000000)", "'y'"]),
    Case(Both, "bi", "binary(8)", &["''", "0x0102", "0x0102030405060700", "0xFFFFFFFFFFFFFFFF", "'a  '"]),
    Case(Both, "bil", "binary(255)", &["0x01", "repeat(0xFF, 255)"]),
    Case(Both, "vb", "varbinary(300)", &["''", "0x0001FF00", "'x  '"]),
    Case(Both, "tb", "tinyblob", &["0x00", "''"]),
    Case(Both, "bl", "blob", &["repeat(0xFF, 60000)"]),
    Case(Both, "mb", "mediumblob", &["repeat(0x00, 70000)"]),
    Case(Both, "lb", "longblob", &["0xDEADBEEF"]),
    Case(Both, "b1", "bit(1)", &["b'0'", "b'1'"]),
    Case(Both, "b8", "bit(8)", &["b'10000001'"]),
    Case(Both, "b20", "bit(20)", &["b'1'", "b'11111111111111111111'", "0"]),
    Case(Both, "b64", "bit(64)", &["18446744073709551615", "1", "9223372036854775808"]),
    Case(Both, "en", "enum('a','b','c,d','it''s','é')", &["'a'", "'é'", "'c,d'", "0", "NULL", "3"]),
    Case(Both, "enl", "enum('ä','ö') character set latin1", &["'ö'"]),
    Case(Both, "st", "set('a','b','c','d','e','f','g','h','i')", &["''", "'a'", "'a,i'", "511", "NULL"]),
    Case(
        Both,
        "geo",
        "geometry",
        &[
            "ST_GeomFromText('POINT(1 2)')",
            "ST_GeomFromText('GEOMETRYCOLLECTION(POINT(1 2), LINESTRING(0 0, 1 1))')",
            "ST_GeomFromText('POINT(3 4)', 3857)",
        ],
    ),
    Case(Both, "pt", "point", &["ST_GeomFromText('POINT(-1.5 1e10)')"]),
    Case(Both, "ls", "linestring", &["ST_GeomFromText('LINESTRING(0 0, 1 1)')"]),
    Case(Both, "pg", "polygon", &["ST_GeomFromText('POLYGON((0 0, 0 1, 1 1, 0 0))')"]),
    Case(Both, "mp", "multipoint", &["ST_GeomFromText('MULTIPOINT(0 0, 1 1)')"]),
    Case(Both, "ml", "multilinestring", &["ST_GeomFromText('MULTILINESTRING((0 0, 1 1))')"]),
    Case(Both, "mg", "multipolygon", &["ST_GeomFromText('MULTIPOLYGON(((0 0, 0 1, 1 1, 0 0)))')"]),
    Case(Both, "gc", "geometrycollection", &["ST_GeomFromText('GEOMETRYCOLLECTION(POINT(1 2))')"]),
    Case(MariaDb, "js", "json", &["'{\"b\": 1, \"a\":2}'", "'null'", "NULL"]),
    Case(
        MariaDb,
        "uu",
        "uuid",
        &[
            "'123e4567-e89b-12d3-a456-426614174000'",
            "'00000000-0000-0000-0000-000000000000'",
            "'ffffffff-ffff-7fff-bfff-ffffffffff00'",
            "NULL",
        ],
    ),
    Case(MariaDb, "i4", "inet4", &["'0.0.0.0'", "'255.255.255.255'", "'10.0.0.0'"]),
    Case(MariaDb, "i6", "inet6", &["'::'", "'::1'", "'2001:db8::'", "'::ffff:1.2.3.4'"]),
    Case(MariaDb, "zc", "varchar(300) compressed character set latin1", &["''", "'x'", "repeat('ä', 300)"]),
    Case(MariaDb, "zt", "text compressed", &["repeat('b', 60000)", "NULL", "''"]),
    Case(MariaDb, "zb", "longblob compressed", &["repeat(0x00FF, 200000)", "''"]),
    Case(MariaDb, "zvb", "varbinary(400) compressed", &["repeat(0x07, 400)"]),
    Case(MySql, "js", "json", JSON),
    Case(MySql, "ve", "vector(3)", &["STRING_TO_VECTOR('[1,-2.5,3e10]')"]),
    Case(MySql, "vg", "varchar(30) character set gb18030", &["'你𠀀😀'"]),
];

const JSON: &[&str] = &[
    "'{}'",
    "'[]'",
    "'null'",
    "'true'",
    "'\"x\"'",
    "'1'",
    "'-1'",
    "'1.5'",
    "'18446744073709551615'",
    "'-9223372036854775808'",
    "'{\"b\": 1, \"a\": [1, 2, {\"ccc\": null}], \"bb\": {\"x\": []}}'",
    "'[32767, 32768, -32768, -32769, 65535, 65536, 2147483647, 2147483648, 4294967295, 4294967296]'",
    "'[1e15, 1e14, 123456789012345.67, 1e-5, 1e-15, 1e-16, 1e100, -0.0, 0.1, 1.0, 1e21, 5e-324, 12345678901234567890123]'",
    "'[\"a\\\\\"\\\\\\\\/\\\\b\\\\f\\\\n\\\\r\\\\t\\\\u0001\\\\u001f\\\\u007f é 😀\"]'",
    "json_array(cast(1.50 as decimal(10,2)), cast(-0.001 as decimal(10,3)), 12345678901234567890.123)",
    "json_array(date'2020-01-01', time'12:34:56.789', time'-838:59:59', timestamp'2020-01-02 03:04:05', timestamp'2020-01-02 03:04:05.000001')",
    "json_array(b'101', x'00ff', cast(repeat('x', 100) as binary), cast('' as binary))",
    "json_object('k', cast(repeat('z', 57) as binary), 'g', st_geomfromtext('point(1 2)'))",
    "json_object('big', repeat('x', 70000), 'n', 70000, 'm', -70000, 'a', json_array(repeat('y', 200)))",
    "json_array(cast(current_timestamp as datetime) = now(), cast(2020 as year))",
    "NULL",
];

pub fn cases(server: &MyServer) -> impl Iterator<Item = &'static Case> {
    let own = if server.flavor() == Flavor::MariaDb { MariaDb } else { MySql };
    CASES.iter().filter(move |case| case.0 == Both || case.0 == own)
}

/// Makes a table a case and fills it: `types_x.NAME (id, v)`.
pub fn fill(server: &MyServer, database: &str) {
    let mut sql =
        format!("create database {database} character set utf8mb4; use {database}; set time_zone='+00:00'; ");
    sql.push_str("set names utf8mb4; set sql_mode='ALLOW_INVALID_DATES'; ");
    for Case(_, name, column, values) in cases(server) {
        sql.push_str(&format!("create table `{name}` (id int primary key, v {column});\n"));
        for (id, value) in values.iter().enumerate() {
            sql.push_str(&format!("insert into `{name}` values ({id}, {value});\n"));
        }
    }
    server.sql(&sql);
}
