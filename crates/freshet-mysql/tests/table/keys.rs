//! Chunks by every kind of key: each row in exactly one, whatever the server's order of the values is.

use std::collections::BTreeMap;

use freshet_core::codec::{BatchBuilder, EventRef};
use freshet_core::table::{Chunk, ChunkReader, TableInfo, TableReader};
use freshet_mysql::table::ViewMethod;
use freshet_testkit::servers::{Flavor, MyServer};

use super::common::{Database, both, reader};

/// Name, columns, key, an expression for each column of row `n`, and whether more than one chunk is expected.
struct Key(&'static str, &'static str, &'static str, &'static str, bool);

const KEYS: &[Key] = &[
    Key("int", "k int", "k", "n * 7 - 1000", true),
    Key("tiny", "k smallint", "k", "n - 300", true),
    Key("huge", "k bigint unsigned", "k", "18446744073709551615 - n", true),
    Key("low", "k bigint", "k", "-9223372036854775808 + n", true),
    Key("sparse", "k bigint", "k", "if(n < 500, n, n * 10000000000)", true),
    Key("zero", "k int(9) unsigned zerofill", "k", "n", true),
    Key("dec", "k decimal(30,10)", "k", "(n - 400) / 7", true),
    Key("day", "k date", "k", "date_add('1999-12-01', interval n day)", true),
    Key(
        "zeros",
        "k date",
        "k",
        "if(n < 20, concat('2020-00-', lpad(n, 2, '0')), if(n < 50, concat('20', n, '-02-31'), date_add('2021-01-01', interval n day)))",
        true,
    ),
    Key("moment", "k datetime(6)", "k", "date_add('2020-01-01', interval n * 1000003 microsecond)", true),
    Key("stamp", "k timestamp(3)", "k", "date_add('2020-03-29 00:00:00.123', interval n minute)", true),
    Key("span", "k time(2)", "k", "sec_to_time(n * 997 - 400000)", true),
    Key("yr", "k year, l int", "k, l", "if(n % 9 = 0, 0, 1960 + n % 9), n", true),
    Key(
        "latin",
        "k varchar(20) character set latin1",
        "k",
        "concat(char(97 + n % 26, if(n % 2, 0xE9, 0x65), 0x20 + n % 90 using latin1), n)",
        true,
    ),
    Key(
        "general",
        "k varchar(20) character set utf8mb4 collate utf8mb4_general_ci",
        "k",
        "concat(elt(n % 6 + 1, 'É', 'e', 'ß', '😀', 'Z', ' '), n)",
        true,
    ),
    Key(
        "uni",
        "k varchar(20) character set utf8mb4 collate utf8mb4_unicode_520_ci",
        "k",
        "concat(elt(n % 6 + 1, 'É', 'e', 'ß', '😀', 'Z', ' '), n)",
        true,
    ),
    Key(
        "bin",
        "k varchar(20) character set utf8mb4 collate utf8mb4_bin",
        "k",
        "concat(elt(n % 6 + 1, 'É', 'e', 'ß', '😀', 'Z', ' '), n, repeat(' ', n % 3))",
        true,
    ),
    Key("fixed", "k char(8) character set utf8mb4", "k", "concat(if(n % 2, 'ä', 'a'), n)", true),
    Key(
        "control",
        "k varchar(9) character set latin1",
        "k",
        "concat('a', n, if(n % 3 = 0, char(9), ''))",
        true,
    ),
    Key("wide", "k varchar(9) character set ucs2", "k", "concat(elt(n % 3 + 1, 'é', 'z', '日'), n)", true),
    Key("gbk", "k varchar(9) character set gbk", "k", "concat(elt(n % 3 + 1, '你', 'z', '好'), n)", true),
    Key("bytes", "k varbinary(9)", "k", "unhex(lpad(hex(n * 65521), 8, '0'))", true),
    Key("fixed_bytes", "k binary(6)", "k", "unhex(lpad(hex(n * 256), 8, '0'))", true),
    Key("two", "a int, b varchar(9) character set latin1", "a, b", "n div 100, concat('k', n)", true),
    Key("skewed", "a int, b int", "a, b", "if(n < 990, 1, n), n", true),
    Key(
        "three",
        "a varchar(5) character set utf8mb4, b date, c bigint",
        "a, b, c",
        "elt(n % 3 + 1, 'a', 'É', ''), date_add('2020-01-01', interval n % 7 day), n",
        true,
    ),
    Key("turned", "b int, a int", "a, b", "n, n % 3", true),
    Key("after_enum", "a int, e enum('x','y','z'), c int", "a, e, c", "n div 10, n % 3 + 1, n", true),
    Key("enum_first", "e enum('x','y','z'), c int", "e, c", "n % 3 + 1, n", false),
    Key("bits", "k bit(20)", "k", "n", false),
    Key("dbl", "k double", "k", "n / 3", false),
    Key("prefix", "k blob", "k(9)", "concat('p', n)", false),
    Key("none", "k int", "", "n % 5", false),
    Key(
        "unique",
        "a int not null, b varchar(9) not null, unique key `the key` (b, a)",
        "",
        "n, concat('b', n)",
        true,
    ),
];

const MYSQL_KEYS: &[Key] = &[
    Key(
        "nopad",
        "k char(8) character set utf8mb4 collate utf8mb4_0900_ai_ci",
        "k",
        "concat(if(n % 2, 'ä', 'a'), n)",
        true,
    ),
    Key(
        "nopad_v",
        "k varchar(12) character set utf8mb4 collate utf8mb4_0900_ai_ci",
        "k",
        "concat('a', n, repeat(' ', n % 3))",
        true,
    ),
    Key("down", "k int", "k desc", "n", true),
    Key("mixed", "a int, b int", "a desc, b", "n div 4, n", true),
];

const MARIADB_KEYS: &[Key] = &[
    Key(
        "nopad",
        "k char(8) character set utf8mb4 collate utf8mb4_nopad_bin",
        "k",
        "concat(if(n % 2, 'ä', 'a'), n)",
        true,
    ),
    Key(
        "uca",
        "k varchar(12) character set utf8mb4 collate utf8mb4_uca1400_nopad_ai_ci",
        "k",
        "concat('a', n, repeat(' ', n % 3))",
        true,
    ),
    Key("uid", "k uuid", "k", "insert(insert(md5(n), 13, 1, '4'), 17, 1, '8')", true),
    Key("ip", "k inet6", "k", "concat('2001:db8::', hex(n))", true),
    Key("ip4", "k inet4", "k", "concat('10.', n % 7, '.', n div 250, '.', n % 250)", true),
];

const ROWS: usize = 1_000;

fn keys(server: &MyServer) -> impl Iterator<Item = &'static Key> {
    let own = if server.flavor() == Flavor::MySql { MYSQL_KEYS } else { MARIADB_KEYS };
    KEYS.iter().chain(own)
}

fn fill(server: &MyServer) {
    let mut sql = String::from(
        "create database chunked; use chunked; set sql_mode = 'ALLOW_INVALID_DATES'; set time_zone = '+00:00'; set names utf8mb4; ",
    );
    for Key(name, columns, key, row, _) in keys(server) {
        let key = if key.is_empty() { String::new() } else { format!(", primary key ({key})") };
        sql.push_str(&format!(
            "create table `{name}` ({columns}, tag int{key}); \
             insert into `{name}` with recursive s(n) as (select 0 union all select n + 1 from s where n < {}) \
             select {row}, n from s;\n",
            ROWS - 1
        ));
    }
    server.sql(&sql);
    server.sql("use chunked; analyze table `int`, `huge`, `low`, `sparse`, `skewed`, `zero`, `tiny`");
}

/// Images by how often they came.
async fn images(reader: &mut dyn ChunkReader, table: &TableInfo, chunks: &[Chunk]) -> BTreeMap<Vec<u8>, u32> {
    let mut seen = BTreeMap::new();
    for chunk in chunks {
        reader.open(table, chunk).await.unwrap();
        let mut batch = BatchBuilder::new();
        while reader.read(&mut batch, usize::MAX).await.unwrap() {}
        for event in batch.seal().events() {
            match event.unwrap() {
                EventRef::Insert { after, .. } => *seen.entry(after.to_vec()).or_default() += 1,
                other => panic!("{other:?}"),
            }
        }
    }
    seen
}

#[tokio::test]
async fn every_row_lies_in_exactly_one_chunk_by_any_key() {
    for server in both() {
        fill(server);
        let mut view = reader(server, ViewMethod::Lock).view(&Database("chunked"), 1).await.unwrap();
        let tables = view.tables.clone();
        let reader = view.readers[0].as_mut();
        let mut faults = Vec::new();
        for Key(name, _, _, _, is_split) in keys(server) {
            let table = tables.iter().find(|info| info.name().table == *name).unwrap();
            let whole = Chunk { table: table.name().clone(), number: 0, lower: None, upper: None };
            let expect = images(reader, table, &[whole]).await;
            assert_eq!(expect.values().sum::<u32>() as usize, ROWS, "{name}");
            for rows in [7, 100, 450] {
                let chunks = reader.plan(table, rows).await.unwrap();
                let count = chunks.len() as u64;
                let fair = ROWS as u64 / rows;
                let is_fair = if *is_split { count >= fair / 3 && count <= fair * 3 + 3 } else { count == 1 };
                if !is_fair {
                    faults.push(format!("{name}: {count} chunks of {rows} rows"));
                }
                if images(reader, table, &chunks).await != expect {
                    faults.push(format!(
                        "{name}: chunks of {rows} rows are not the table: {:?}",
                        &chunks[..3.min(chunks.len())]
                    ));
                }
            }
        }
        assert!(faults.is_empty(), "{:?}:\n{}", server.flavor(), faults.join("\n"));
    }
}
