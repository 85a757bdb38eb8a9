//! M13: every code of every character set, against what both servers convert it to.

use freshet_mysql::decode::Flavour;
use freshet_mysql::values::charset::Charset;
use freshet_testkit::servers::MyServer;

use super::common::{connect, flavour, mariadb, mysql};

/// Codes of one set: bytes before those that count up, and how many of these there are.
const SINGLE: [&str; 28] = [
    "armscii8", "ascii", "cp1250", "cp1251", "cp1256", "cp1257", "cp850", "cp852", "cp866", "dec8",
    "geostd8", "greek", "hebrew", "hp8", "keybcs2", "koi8r", "koi8u", "latin1", "latin2", "latin5", "latin7",
    "macce", "macroman", "swe7", "tis620", "utf8mb3", "utf8mb4", "binary",
];
const DOUBLE: [&str; 12] = [
    "big5", "cp932", "eucjpms", "euckr", "gb2312", "gbk", "sjis", "ujis", "ucs2", "utf16", "utf16le",
    "gb18030",
];

fn sets(server: &MyServer) -> impl Iterator<Item = &'static str> {
    let is_mysql = flavour(server) == Flavour::Mysql;
    SINGLE.into_iter().chain(DOUBLE).filter(move |set| is_mysql || *set != "gb18030")
}

/// Compares all codes of `width` counted bytes behind `prefix`; gives how many are characters.
async fn check(server: &MyServer, set: &str, prefix: &str, width: usize) -> usize {
    let code = format!("CONCAT('{prefix}', LPAD(HEX(n), {}, '0'))", 2 * width);
    let sql = format!(
        "SELECT {code}, HEX(CONVERT(CONVERT(UNHEX({code}) USING {set}) USING utf8mb4)) FROM charsets.n{width}"
    );
    let rows = connect(server).await.query(&sql).await.unwrap();
    let charset = Charset::named(set).unwrap();
    let mut characters = 0;
    for row in &rows {
        let stored = unhex(row.text(0).unwrap());
        let ours = charset.to_text(&stored);
        let theirs = row.text(1).map(unhex);
        let text = theirs.as_deref().and_then(|bytes| std::str::from_utf8(bytes).ok());
        // What is no character becomes NULL, question marks or U+FFFD there, and a cut-off one is left out.
        let is_cut = |text: &str| {
            stored.split_last().is_some_and(|(_, rest)| charset.to_text(rest).as_deref() == Some(text))
        };
        match (ours, text) {
            (Some(ours), Some(text)) if ours == text => characters += 1,
            (None, Some(text)) if text.contains(['\u{FFFD}', '?']) => {}
            (None, Some(text)) if is_cut(text) => {}
            (None, None) => {}
            (ours, _) => panic!("{set} {stored:02x?} is {ours:?} to us, {theirs:?} to {:?}", server.flavor()),
        }
    }
    characters
}

fn unhex(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

async fn every_code(server: &MyServer) {
    server.sql("create database charsets; use charsets; create table n1 (n int primary key); \
        insert into n1 with recursive s as (select 0 n union all select n + 1 from s where n < 255) select n from s; \
        create table n2 (n int primary key); insert into n2 select a.n * 256 + b.n from n1 a, n1 b");
    for set in sets(server) {
        if !matches!(set, "ucs2" | "utf16" | "utf16le" | "binary") {
            assert!(check(server, set, "", 1).await >= 95, "{set}");
        }
        if DOUBLE.contains(&set) {
            assert!(check(server, set, "", 2).await > 6000, "{set}");
        }
        if matches!(set, "ujis" | "eucjpms") {
            assert!(check(server, set, "8F", 2).await > 6000, "{set}");
        }
    }
}

#[tokio::test]
async fn m13_every_code_of_mariadb() {
    let _turn = crate::common::turn().await;
    every_code(mariadb()).await;
}

#[tokio::test]
async fn m13_every_code_of_mysql() {
    let _turn = crate::common::turn().await;
    every_code(mysql()).await;
    four_bytes(mysql()).await;
}

/// GB18030 beyond two bytes: all of the first plane, and a step of the others.
async fn four_bytes(server: &MyServer) {
    let sql = "WITH RECURSIVE s AS (SELECT 0 n UNION ALL SELECT n + 1 FROM s WHERE n < 65535) SELECT \
        HEX(CONVERT(CONVERT(UNHEX(LPAD(HEX(n), 8, '0')) USING utf32) USING gb18030)), n FROM s \
        WHERE n NOT BETWEEN 0xD800 AND 0xDFFF";
    let mut connection = connect(server).await;
    connection.exec("SET cte_max_recursion_depth = 100000").await.unwrap();
    for (step, name) in [(1, "first plane"), (16, "others")] {
        let sql =
            sql.replace("HEX(n)", &format!("HEX(n * {step})")).replace("n NOT", &format!("n * {step} NOT"));
        let charset = Charset::named("gb18030").unwrap();
        for row in &connection.query(&sql).await.unwrap() {
            let code: u32 = row.text(1).unwrap().parse::<u32>().unwrap() * step;
            let stored = unhex(row.text(0).unwrap());
            if stored != b"?" {
                let expect = char::from_u32(code).map(String::from);
                assert_eq!(charset.to_text(&stored), expect, "{stored:02x?} {name}");
            }
        }
    }
}
