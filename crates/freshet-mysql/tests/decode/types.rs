//! Every column type of both servers with its edge values: the same cells from the binlog and from the binary
//! protocol, and the text that the server itself prints.

use std::collections::HashMap;

use freshet_core::codec::RowRef;
use freshet_core::types::DataType;
use freshet_core::value::ValueRef;
use freshet_testkit::servers::MyServer;

use super::cases::{Case, cases, fill};
use super::common::{Change, capture, changes, connect, end_of_binlog, load, mariadb, mysql, special};

async fn both_ways(server: &MyServer, database: &'static str) {
    let start = end_of_binlog(server).await;
    fill(server, database);
    let batch = capture(server, &start, database, special(server).await).await.unwrap();
    let mut tables: HashMap<String, Vec<Change>> = HashMap::new();
    for change in changes(&batch) {
        assert_eq!(change.op, "insert");
        tables.entry(change.schema.name().table.clone()).or_default().push(change);
    }
    let mut faults = Vec::new();
    for Case(_, name, column, values) in cases(server) {
        let streamed = &tables[*name];
        assert_eq!(streamed.len(), values.len());
        let loaded = load(server, &streamed[0].schema).await;
        let printed = text(server, database, name).await;
        for (at, (stream, load)) in streamed.iter().zip(&loaded).enumerate() {
            let (a, b) = (stream.after().get(1).unwrap(), load.after().get(1).unwrap());
            if stream.after != load.after {
                faults.push(format!("{name} {column} {}: stream {a:.200?}, load {b:.200?}", values[at]));
            }
            let ours = print(stream.after());
            if ours.is_some() && ours.as_deref() != Some(printed[at].as_deref().unwrap_or(b"NULL")) {
                let ours = String::from_utf8_lossy(ours.as_deref().unwrap()).into_owned();
                let theirs = String::from_utf8_lossy(printed[at].as_deref().unwrap_or(b"NULL")).into_owned();
                faults.push(format!(
                    "{name} {column} {}: {ours:.300}\n   server prints {theirs:.300}",
                    values[at]
                ));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// The server's own text of every value.
async fn text(server: &MyServer, database: &str, table: &str) -> Vec<Option<Vec<u8>>> {
    let mut connection = connect(server).await;
    connection.exec("SET time_zone = '+00:00', sql_mode = '', NAMES utf8mb4").await.unwrap();
    let rows = connection.query(&format!("SELECT v FROM {database}.`{table}` ORDER BY id")).await.unwrap();
    rows.rows().iter().map(|row| row.get(0).map(<[u8]>::to_vec)).collect()
}

/// What the text protocol would print; `None` where it cannot be compared: FLOAT loses digits there, ZEROFILL is no
/// part of the value, and what is no text of its set is replaced.
fn print(row: RowRef<'_>) -> Option<Vec<u8>> {
    let data_type = &row.schema().columns()[1].data_type;
    let table = row.schema().name().table.as_str();
    let cut = |text: String, fsp: u8| match (text.split_once('.'), fsp) {
        (Some((whole, _)), 0) => whole.to_owned(),
        (Some((whole, frac)), fsp) => format!("{whole}.{}", &frac[..usize::from(fsp)]),
        (None, 0) => text,
        (None, fsp) => format!("{text}.{}", "0".repeat(usize::from(fsp))),
    };
    Some(match (row.get(1).unwrap(), data_type) {
        (ValueRef::Null, _) => b"NULL".to_vec(),
        (ValueRef::UInt(v), DataType::Year) => format!("{v:04}").into_bytes(),
        (ValueRef::UInt(v), DataType::Int { .. }) if table == "u32" => format!("{v:05}").into_bytes(),
        (ValueRef::Int(v), _) => v.to_string().into_bytes(),
        (ValueRef::UInt(v), _) => v.to_string().into_bytes(),
        (ValueRef::Decimal(v), _) if table == "decz" => format!("{v:0>9}").into_bytes(),
        (ValueRef::Decimal(v), _) => v.as_bytes().to_vec(),
        (ValueRef::Date(v), _) => v.to_string().into_bytes(),
        (ValueRef::Time(v), DataType::Time { fsp }) => cut(v.to_string(), *fsp).into_bytes(),
        (ValueRef::DateTime(v), DataType::DateTime { fsp }) => cut(v.to_string(), *fsp).into_bytes(),
        (ValueRef::Timestamp(v), DataType::Timestamp { fsp }) => {
            cut(v.to_string().trim_end_matches('Z').to_owned(), *fsp).into_bytes()
        }
        (ValueRef::Text(v), _) => v.as_bytes().to_vec(),
        (ValueRef::Bytes(v), DataType::Uuid) => {
            freshet_core::gtid::Uuid(v.try_into().unwrap()).to_string().into_bytes()
        }
        (ValueRef::Bytes(v), DataType::Inet4) => {
            std::net::Ipv4Addr::from(<[u8; 4]>::try_from(v).unwrap()).to_string().into_bytes()
        }
        (ValueRef::Bytes(v), DataType::Inet6) => {
            std::net::Ipv6Addr::from(<[u8; 16]>::try_from(v).unwrap()).to_string().into_bytes()
        }
        (ValueRef::Bytes(v), _) => v.to_vec(),
        (ValueRef::Enum(v), DataType::Enum { labels }) => {
            usize::from(v).checked_sub(1).map_or("", |at| &labels[at]).as_bytes().to_vec()
        }
        (ValueRef::Set(v), DataType::Set { labels }) => {
            let on =
                labels.iter().enumerate().filter(|(at, _)| v >> at & 1 == 1).map(|(_, label)| label.as_str());
            on.collect::<Vec<_>>().join(",").into_bytes()
        }
        (ValueRef::Float32(_) | ValueRef::Float64(_) | ValueRef::Undecodable(_), _) => return None,
        other => panic!("{other:?}"),
    })
}

/// M1 to M16, R14: MariaDB.
#[tokio::test]
async fn m1_to_m16_every_type_of_mariadb() {
    let _turn = crate::common::turn().await;
    both_ways(mariadb(), "types_a").await;
}

/// M1 to M16: MySQL.
#[tokio::test]
async fn m1_to_m16_every_type_of_mysql() {
    let _turn = crate::common::turn().await;
    both_ways(mysql(), "types_a").await;
}

/// What the columns after a type under test hold, as [`follow`] prints them.
const FOLLOWERS: &str = "UInt(4294967295) Int(-1) UInt(4294967295) Text(\"é\") Text(\"é\") Enum(1) Set(1) \
    UInt(18446744073709551615) Bytes([255])";

/// Columns have the signs and character sets that they are declared with, whatever stands before them: the binlog lists
/// both without names.
async fn follow(server: &MyServer, database: &'static str) {
    let start = end_of_binlog(server).await;
    server.sql(&format!("create database {database} character set utf8mb4"));
    let of_this_server: Vec<&Case> = cases(server).collect();
    for Case(_, name, column, values) in of_this_server.iter().copied() {
        server.sql(&format!(
            "set sql_mode=''; use {database}; create table `{name}` (id int unsigned primary key, v {column}, n bigint, \
             u int unsigned, l varchar(9) character set latin1, t text, e enum('é') character set utf8mb3, \
             s set('é') character set latin1, f bigint unsigned, b blob); \
             insert into `{name}` values \
             (4294967295, {}, -1, 4294967295, 'é', 'é', 'é', 'é', 18446744073709551615, x'ff')",
            values[0]
        ));
    }
    let batch = capture(server, &start, database, special(server).await).await.unwrap();
    let changes = changes(&batch);
    assert_eq!(changes.len(), of_this_server.len());
    let mut faults = Vec::new();
    for change in changes {
        let cell = |at| format!("{:?}", change.after().get(at).unwrap());
        let told: Vec<String> = (0..10).filter(|at| *at != 1).map(cell).collect();
        if told.join(" ") != FOLLOWERS {
            faults.push(format!("{}: {}", change.schema.name(), told.join(" ")));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// M3, M13: MariaDB.
#[tokio::test]
async fn m3_m13_what_follows_every_type_of_mariadb() {
    let _turn = crate::common::turn().await;
    follow(mariadb(), "follow").await;
}

/// M3, M13: MySQL.
#[tokio::test]
async fn m3_m13_what_follows_every_type_of_mysql() {
    let _turn = crate::common::turn().await;
    follow(mysql(), "follow").await;
}
