//! Every column type: the catalogue's schema is the stream's, and a loaded row is the streamed row, byte for byte.
//!
//! What the bytes stand for is tested where the values are decoded; here the two ways are held together.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use freshet_core::codec::{BatchBuilder, EventRef};
use freshet_core::position::Position;
use freshet_core::schema::{SchemaMap, TableName, TableSchema};
use freshet_core::source::{ReadOutcome, Source};
use freshet_core::table::TableReader;
use freshet_mysql::server::ServerFacts;
use freshet_mysql::source::{BinlogSource, SourceOptions};
use freshet_mysql::table::ViewMethod;
use freshet_testkit::servers::{Flavor, MyServer};

use super::common::{Database, both, flavour, options, reader, root};

/// Declaration and values.
type Case = (&'static str, &'static [&'static str]);

const BOTH: &[Case] = &[
    ("tinyint", &["-128", "127"]),
    ("tinyint(1)", &["1", "5"]),
    ("tinyint unsigned", &["255"]),
    ("smallint", &["-32768"]),
    ("smallint unsigned", &["65535"]),
    ("mediumint", &["-8388608", "8388607"]),
    ("mediumint unsigned zerofill", &["16777215"]),
    ("int", &["-2147483648"]),
    ("integer unsigned", &["4294967295"]),
    ("bigint", &["-9223372036854775808"]),
    ("bigint unsigned", &["18446744073709551615"]),
    ("serial", &["7"]),
    ("bool", &["true"]),
    ("float", &["0.1", "-0e0"]),
    ("float(7,4)", &["999.00009"]),
    ("float(30)", &["0.1"]),
    ("double unsigned", &["0.1"]),
    ("real", &["1.5"]),
    ("decimal", &["5"]),
    ("decimal(65,30)", &["-0.000000000000000000000000000001"]),
    ("numeric(5,5) unsigned zerofill", &["0.12345"]),
    ("year", &["0", "2155"]),
    ("date", &["'0000-00-00'", "'2020-02-31'"]),
    ("time", &["'-838:59:59'"]),
    ("time(6)", &["'-00:00:00.000001'"]),
    ("datetime", &["'0000-00-00 00:00:00'"]),
    ("datetime(3)", &["'9999-12-31 23:59:59.999'"]),
    ("timestamp null", &["'0000-00-00 00:00:00'", "'2038-01-19 03:14:07'"]),
    ("timestamp(6) null", &["'1970-01-01 00:00:01.000001'"]),
    ("char", &["'x'"]),
    ("char(10) character set utf8mb4", &["'abc  '", "'😀é'", "''"]),
    ("char(255) character set utf8mb4", &["repeat('é', 255)"]),
    ("nchar(5)", &["'é'"]),
    ("char(5) character set ucs2", &["'é   '"]),
    ("char(5) character set utf32", &["'é   '"]),
    ("char(5) byte", &["'é'"]),
    ("varchar(20) character set utf8mb4", &["'a\\0b  '", "'日本語'"]),
    ("varchar(20) character set utf8mb3", &["'é'"]),
    ("varchar(1000) character set latin1", &["'ä€'", "_binary 0x8190"]),
    ("varchar(30) character set gbk", &["'你好'"]),
    ("varchar(30) character set ujis", &["'日本'"]),
    ("varchar(30) character set utf16", &["'a😀'"]),
    ("varchar(30) character set cp1251", &["'Я'"]),
    ("varchar(30) character set binary", &["0xFF00"]),
    ("national varchar(30)", &["'é'"]),
    ("tinytext", &["'t'", "NULL"]),
    ("text character set utf8mb4", &["repeat('日', 20000)"]),
    ("text character set ucs2", &["'ünï'"]),
    ("text(300) character set latin1", &["'x'"]),
    ("mediumtext", &["repeat('x', 70000)"]),
    ("longtext", &["'y'"]),
    ("binary", &["'x'"]),
    ("binary(8)", &["0x0102", "0x0000000000000000"]),
    ("binary(255)", &["0x01"]),
    ("varbinary(300)", &["'x  '"]),
    ("tinyblob", &["0x00"]),
    ("blob", &["repeat(0xFF, 60000)"]),
    ("blob(10)", &["0x01"]),
    ("mediumblob", &["''"]),
    ("longblob", &["0xDEAD"]),
    ("bit", &["b'1'"]),
    ("bit(20)", &["b'11111111111111111111'"]),
    ("bit(64)", &["18446744073709551615"]),
    ("enum('a','b','c,d','it''s','é','back\\\\slash','new\\nline')", &["'é'", "0", "7", "NULL"]),
    ("enum('ä','ö') character set latin1", &["'ö'"]),
    ("set('a','b','é','it''s')", &["''", "'a,é'", "15"]),
    ("geometry", &["ST_GeomFromText('POINT(3 4)', 3857)"]),
    ("point", &["ST_GeomFromText('POINT(1 2)')"]),
    ("linestring", &["ST_GeomFromText('LINESTRING(0 0, 1 1)')"]),
    ("polygon", &["ST_GeomFromText('POLYGON((0 0, 0 1, 1 1, 0 0))')"]),
    ("multipoint", &["ST_GeomFromText('MULTIPOINT(0 0, 1 1)')"]),
    ("multilinestring", &["ST_GeomFromText('MULTILINESTRING((0 0, 1 1))')"]),
    ("multipolygon", &["ST_GeomFromText('MULTIPOLYGON(((0 0, 0 1, 1 1, 0 0)))')"]),
    ("geometrycollection", &["ST_GeomFromText('GEOMETRYCOLLECTION(POINT(1 2))')"]),
    ("int as (id * 2) virtual", &["default"]),
    ("int as (id * 3) stored", &["default"]),
    ("varchar(10) not null default 'x' comment 'c'", &["default"]),
];

const MARIADB: &[Case] = &[
    ("json", &["'{\"b\": 1, \"a\":2}'"]),
    ("uuid", &["'123e4567-e89b-12d3-a456-426614174000'", "'00000000-0000-0000-0000-000000000000'"]),
    ("inet4", &["'10.0.0.0'"]),
    ("inet6", &["'2001:db8::'"]),
    ("varchar(300) compressed character set latin1", &["repeat('ä', 300)"]),
    ("varbinary(400) compressed", &["repeat(0x07, 400)"]),
    ("text compressed", &["repeat('b', 60000)"]),
    ("longblob compressed", &["repeat(0x00FF, 2000)"]),
    ("int invisible default 5", &["9"]),
    (
        "set('1','2','3','4','5','6','7','8','9','10','11','12','13','14','15','16','17','18','19','20','21','22','23','24','25','26','27','28','29','30','31','32','33','34','35','36','37','38','39','40','41','42','43','44','45','46','47','48','49','50','51','52','53','54','55','56','57','58','59','60','61','62','63','64')",
        &["18446744073709551615", "9223372036854775809", "9007199254740993"],
    ),
];

const MYSQL: &[Case] = &[
    (
        "json",
        &["'{\"b\": 1, \"a\": [1.5, null, 18446744073709551615]}'", "json_array(date'2020-01-01', b'101')"],
    ),
    ("vector(3)", &["STRING_TO_VECTOR('[1,-2.5,3e10]')"]),
    ("vector", &["STRING_TO_VECTOR('[1]')"]),
    ("varchar(30) character set gb18030", &["'你𠀀'"]),
    ("point srid 4326", &["ST_GeomFromText('POINT(1 2)', 4326)"]),
    ("int invisible default 5", &["9"]),
    (
        "set('1','2','3','4','5','6','7','8','9','10','11','12','13','14','15','16','17','18','19','20','21','22','23','24','25','26','27','28','29','30','31','32','33','34','35','36','37','38','39','40','41','42','43','44','45','46','47','48','49','50','51','52','53','54','55','56','57','58','59','60','61','62','63','64')",
        &["18446744073709551615", "9223372036854775809", "9007199254740993"],
    ),
];

fn cases(server: &MyServer) -> impl Iterator<Item = (String, &'static Case)> {
    let own = if server.flavor() == Flavor::MariaDb { MARIADB } else { MYSQL };
    BOTH.iter().chain(own).enumerate().map(|(at, case)| (format!("t{at}"), case))
}

fn fill(server: &MyServer) {
    let mut sql = String::from(
        "create database every_type character set utf8mb4; use every_type; set time_zone = '+00:00'; set names utf8mb4; \
         set sql_mode = 'ALLOW_INVALID_DATES'; ",
    );
    for (name, (column, values)) in cases(server) {
        sql.push_str(&format!("create table {name} (id int primary key, v {column});\n"));
        for (id, value) in values.iter().enumerate() {
            sql.push_str(&format!("insert into {name} (id, v) values ({id}, {value});\n"));
        }
    }
    // Keys in another order than the columns, and keys of several columns.
    sql.push_str("create table k1 (a int, b varchar(5) not null, c int, primary key (c, a)); insert into k1 values (1, 'x', 2);");
    sql.push_str(
        "create table k2 (a int not null unique, b text, unique key (b(5))); insert into k2 values (1, 'x');",
    );
    sql.push_str("create table k3 (a blob, b varchar(50), primary key (b(5), a(3))); insert into k3 values ('a', 'x');");
    // Without a primary key the servers take a unique index of columns that are never NULL (R8).
    sql.push_str("create table k4 (a int not null, b int not null, c int, unique z (c), unique y (b), unique x (a, b)); insert into k4 values (1, 2, 3);");
    sql.push_str("create table k5 (a int not null, b int not null, key (a), unique b_a (b, a)); alter table k5 add unique a_b (a, b); insert into k5 values (1, 2);");
    sql.push_str("create table k6 (a int, b varchar(50) not null, unique (a), unique (b(5))); insert into k6 values (1, 2);");
    server.sql(&sql);
}

type Images = BTreeMap<TableName, (Arc<TableSchema>, Vec<Vec<u8>>)>;

async fn streamed(server: &MyServer, start: &Position) -> Images {
    let source = SourceOptions { heartbeat_ms: 100, ..SourceOptions::new(options(server), flavour(server)) };
    let mut source = BinlogSource::new(source, Arc::new(Database("every_type")));
    let tip = source.tip().await.unwrap();
    source.open(start, &[]).await.unwrap();
    let (mut batch, mut schemas, mut images) = (BatchBuilder::new(), SchemaMap::default(), Images::new());
    let mut place = start.clone();
    while !reached(&place, &tip) {
        let read = tokio::time::timeout(Duration::from_secs(300), source.read(&mut batch)).await;
        if let ReadOutcome::Commit { position } = read.unwrap().unwrap() {
            place = position;
        }
        let sealed = batch.seal();
        sealed.collect_schemas(&mut schemas).unwrap();
        for event in sealed.events() {
            if let EventRef::Insert { schema, after } = event.unwrap() {
                let schema = schemas.get(schema).unwrap();
                let entry =
                    images.entry(schema.name().clone()).or_insert_with(|| (schema.clone(), Vec::new()));
                entry.1.push(after.to_vec());
            }
        }
    }
    images
}

fn reached(place: &Position, tip: &Position) -> bool {
    match (place, tip) {
        (Position::Binlog(place), Position::Binlog(tip)) => place.file >= tip.file,
        _ => false,
    }
}

/// M1 to M20, R13, R14: load and stream agree on every type.
#[tokio::test]
async fn m1_to_m20_a_loaded_row_is_the_streamed_row() {
    for server in both() {
        let mut connection = root(server).await;
        let facts = ServerFacts::read(&mut connection).await.unwrap();
        let start = Position::Binlog(facts.current_position(&mut connection).await.unwrap());
        fill(server);
        let stream = streamed(server, &start).await;
        let mut view = reader(server, ViewMethod::Lock).view(&Database("every_type"), 1).await.unwrap();
        let reader = view.readers[0].as_mut();
        let mut faults = Vec::new();
        for table in &view.tables {
            let name = table.name();
            let declared = &table.columns.last().unwrap().native_type;
            let Some((schema, images)) = stream.get(name) else {
                faults.push(format!("{name} {declared}: nothing streamed"));
                continue;
            };
            if schema.id() != table.schema.id() {
                faults.push(format!("{name} {declared}: stream {schema:?}\n   catalogue {:?}", table.schema));
                continue;
            }
            let chunks = reader.plan(table, 1_000).await.unwrap();
            assert_eq!(chunks.len(), 1);
            reader.open(table, &chunks[0]).await.unwrap();
            let (mut batch, mut loaded) = (BatchBuilder::new(), Vec::new());
            while reader.read(&mut batch, usize::MAX).await.unwrap() {}
            for event in batch.seal().events() {
                match event.unwrap() {
                    EventRef::Insert { after, .. } => loaded.push(after.to_vec()),
                    other => panic!("{other:?}"),
                }
            }
            if loaded != *images {
                faults.push(format!("{name} {declared}: stream {images:.200?}\n   load {loaded:.200?}"));
            }
        }
        assert_eq!(view.tables.len(), cases(server).count() + 6);
        assert!(faults.is_empty(), "{:?}\n{}", server.flavor(), faults.join("\n"));
    }
}
