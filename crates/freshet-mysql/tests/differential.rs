//! The decoder beside `mysql_cdc` 0.2.1, an independent reader of the same binlog files, cell by cell.
//!
//! A disagreement fails, and so does a type of which no cell was compared, unless [`EXCLUDED`] says why. That list is
//! exact: an entry that is not needed fails too. Why `mysql_cdc` is not the reader: docs/decisions/0002.

#![allow(clippy::unwrap_used)] // Also in the helpers of tests
#![allow(dead_code)] // Shared helpers are for other tests too

#[path = "decode/cases.rs"]
mod cases;
#[path = "decode/common.rs"]
mod common;

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};

use freshet_core::types::DataType;
use freshet_core::value::ValueRef;
use freshet_testkit::servers::{Flavor, MyServer};
use mysql_cdc::binlog_reader::BinlogReader;
use mysql_cdc::events::binlog_event::BinlogEvent;
use mysql_cdc::events::row_events::mysql_value::MySqlValue;

use cases::On;

/// Values that `mysql_cdc` gives differently or fails on: the server, the case, which of its values, and why.
const EXCLUDED: &[(On, &str, &[usize], &str)] = &[
    (On::Both, "yr", &[0], "0000 becomes 1900"),
    (On::Both, "tm", &[2, 3], NEGATIVE_TIME),
    (On::Both, "tm1", &[0], NEGATIVE_TIME),
    (On::Both, "tm3", &[0, 1], NEGATIVE_TIME),
    (On::Both, "tm4", &[0], NEGATIVE_TIME),
    (On::Both, "tm6", &[0, 1], NEGATIVE_TIME),
    (On::Both, "chu", &[0, 1], NOT_UTF8),
    (On::Both, "chw", &[0, 1], NOT_UTF8),
    (On::Both, "ch16", &[0, 1], NOT_UTF8),
    (On::Both, "vcl", &[1, 3], NOT_UTF8),
    (On::Both, "vcg", &[0, 1], NOT_UTF8),
    (On::Both, "vcs", &[0, 1], NOT_UTF8),
    (On::Both, "vc16", &[0], NOT_UTF8),
    (On::Both, "txu", &[0], "text is handed out undecoded"),
    (On::Both, "bi", &[3], NOT_UTF8),
    (On::Both, "bil", &[1], NOT_UTF8),
    (On::Both, "vb", &[1], NOT_UTF8),
    (On::Both, "enl", &[0], "the table's labels are not UTF-8, which fails its every event"),
    (On::MariaDb, "uu", &[0, 2], NOT_UTF8),
    (On::MariaDb, "i4", &[1], NOT_UTF8),
    (On::MariaDb, "i6", &[2, 3], NOT_UTF8),
    (On::MariaDb, "zc", &[0, 1, 2], COMPRESSED),
    (On::MariaDb, "zt", &[0, 1, 2], COMPRESSED),
    (On::MariaDb, "zb", &[0, 1], COMPRESSED),
    (On::MariaDb, "zvb", &[0], COMPRESSED),
    (
        On::MySql,
        "js",
        &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19],
        "JSON is handed out undecoded",
    ),
    (On::MySql, "ve", &[0], "the type is not known, which fails its every event"),
    (On::MySql, "vg", &[0], NOT_UTF8),
];
const NEGATIVE_TIME: &str = "a negative TIME fails its event";
const NOT_UTF8: &str =
    "strings and short binaries are taken for UTF-8; others fail their event or keep foreign bytes";
const COMPRESSED: &str = "compressed columns fail their event";

/// What `mysql_cdc` read: by table, by id, the text of `v`; `None` for an event that it could not read.
type Theirs = HashMap<(String, usize), String>;

fn theirs(server: &MyServer, database: &str) -> Theirs {
    let mut found = Theirs::new();
    let mut files: Vec<_> =
        std::fs::read_dir(server.data_dir()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        name.contains("bin")
            && file.extension().is_some_and(|e| e.to_string_lossy().bytes().all(|b| b.is_ascii_digit()))
    });
    files.sort();
    for file in files {
        let mut reader = BinlogReader::new(File::open(file).unwrap()).unwrap();
        let mut tables: HashMap<u64, (String, String)> = HashMap::new();
        loop {
            let event = match catch_unwind(AssertUnwindSafe(|| reader.read_event())) {
                Ok(Ok((_, event))) => event,
                Ok(Err(mysql_cdc::errors::Error::IoError(error)))
                    if error.kind() == std::io::ErrorKind::UnexpectedEof =>
                {
                    break;
                }
                Ok(Err(_)) | Err(_) => continue,
            };
            match event {
                BinlogEvent::TableMapEvent(map) => {
                    tables.insert(map.table_id, (map.database_name, map.table_name));
                }
                BinlogEvent::WriteRowsEvent(rows) => {
                    let Some((schema, table)) = tables.get(&rows.table_id) else { continue };
                    for row in rows.rows.iter().filter(|_| schema == database) {
                        let Some(MySqlValue::Int(id)) = row.cells[0] else { panic!("an id") };
                        found.insert((table.clone(), id as usize), print_theirs(row.cells[1].as_ref()));
                    }
                }
                _ => {}
            }
        }
    }
    found
}

fn print_theirs(value: Option<&MySqlValue>) -> String {
    match value {
        None => "NULL".to_owned(),
        Some(MySqlValue::TinyInt(v)) => v.to_string(),
        Some(MySqlValue::SmallInt(v)) => v.to_string(),
        Some(MySqlValue::MediumInt(v) | MySqlValue::Int(v) | MySqlValue::Enum(v)) => v.to_string(),
        Some(MySqlValue::BigInt(v) | MySqlValue::Set(v)) => v.to_string(),
        Some(MySqlValue::Float(v)) => format!("{:08x}", v.to_bits()),
        Some(MySqlValue::Double(v)) => format!("{:016x}", v.to_bits()),
        Some(MySqlValue::Decimal(v) | MySqlValue::String(v)) => v.clone(),
        Some(MySqlValue::Bit(bits)) => bits.iter().fold(0u64, |n, bit| n << 1 | u64::from(*bit)).to_string(),
        Some(MySqlValue::Blob(v)) => hex(v),
        Some(MySqlValue::Year(v)) => v.to_string(),
        Some(MySqlValue::Date(v)) => format!("{:04}-{:02}-{:02}", v.year, v.month, v.day),
        Some(MySqlValue::Time(v)) => format!("{:02}:{:02}:{:02}.{:03}", v.hour, v.minute, v.second, v.millis),
        Some(MySqlValue::DateTime(v)) => format!(
            "{:04}-{:02}-{:02} {:02}:{:02}:{:02}.{:03}",
            v.year, v.month, v.day, v.hour, v.minute, v.second, v.millis
        ),
        Some(MySqlValue::Timestamp(v)) => v.to_string(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Ours in the other's terms: integers without sign, times in milliseconds, strings of bytes as text where it has them so.
fn print_ours(value: ValueRef<'_>, data_type: &DataType) -> String {
    let millis = |text: String| match text.split_once('.') {
        Some((whole, frac)) => format!("{whole}.{}", &frac[..3]),
        None => format!("{text}.000"),
    };
    match (value, data_type) {
        (ValueRef::Null, _) => "NULL".to_owned(),
        (ValueRef::Int(v), DataType::Int { bits, .. }) => {
            (v as u64 & (u64::MAX >> (64 - u32::from(*bits)))).to_string()
        }
        (ValueRef::UInt(v) | ValueRef::Set(v), _) => v.to_string(),
        (ValueRef::Float32(v), _) => format!("{:08x}", v.to_bits()),
        (ValueRef::Float64(v), _) => format!("{:016x}", v.to_bits()),
        (ValueRef::Decimal(v) | ValueRef::Text(v), DataType::Decimal { .. }) => v.to_owned(),
        (ValueRef::Date(v), _) => v.to_string(),
        (ValueRef::Time(v), _) => millis(v.to_string()),
        (ValueRef::DateTime(v), _) => millis(v.to_string()),
        (ValueRef::Timestamp(v), _) => (if v.is_instant() { v.0 / 1000 } else { 0 }).to_string(),
        (ValueRef::Enum(v), _) => v.to_string(),
        (ValueRef::Text(v), DataType::Text { length: Some(length), .. })
            if *length >= 255 && v.len() != 255 =>
        {
            v.to_owned()
        }
        (ValueRef::Text(v), _) => v.to_owned(),
        (ValueRef::Bytes(v), DataType::Bit { .. }) => {
            v.iter().fold(0u64, |n, byte| n << 8 | u64::from(*byte)).to_string()
        }
        (ValueRef::Bytes(v), _) => hex(v),
        (ValueRef::Undecodable(v), _) => hex(v),
        other => panic!("{other:?}"),
    }
}

/// Whether both say the same. Its TEXT is a blob; its BINARY and VARBINARY are text, without the trailing zeros.
fn agree(ours: &str, theirs: &str, value: ValueRef<'_>) -> bool {
    match value {
        ValueRef::Text(text) => theirs == text || theirs == hex(text.as_bytes()),
        ValueRef::Bytes(bytes) => {
            let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
            ours == theirs || theirs.as_bytes() == bytes || theirs.as_bytes() == &bytes[..end]
        }
        _ => ours == theirs,
    }
}

async fn compare(server: &MyServer) {
    const DATABASE: &str = "types_d";
    let start = common::end_of_binlog(server).await;
    cases::fill(server, DATABASE);
    let batch = common::capture(server, &start, DATABASE, common::special(server).await).await.unwrap();
    let theirs = theirs(server, DATABASE);
    let mut compared: BTreeMap<&str, usize> = cases::cases(server).map(|case| (case.1, 0)).collect();
    let own = if server.flavor() == Flavor::MariaDb { On::MariaDb } else { On::MySql };
    let entry = |table: &str| EXCLUDED.iter().find(|e| e.1 == table && (e.0 == On::Both || e.0 == own));
    let mut faults = Vec::new();
    for change in common::changes(&batch) {
        let row = change.after();
        let ValueRef::Int(id) = row.get(0).unwrap() else { panic!("an id") };
        let (table, value) = (change.schema.name().table.as_str(), row.get(1).unwrap());
        let ours = print_ours(value, &change.schema.columns()[1].data_type);
        let their = theirs.get(&(table.to_owned(), id as usize));
        let is_equal = their.is_some_and(|their| agree(&ours, their, value));
        let excluded = entry(table).is_some_and(|entry| entry.2.contains(&(id as usize)));
        match (is_equal, excluded) {
            (true, false) => *compared.get_mut(table).unwrap() += 1,
            (false, true) => {}
            (true, true) => faults.push(format!("{table} {id} is excluded and agrees")),
            (false, false) => faults.push(format!(
                "{table} {id}: {ours:.100}, theirs {:.100}",
                their.map_or("nothing", String::as_str)
            )),
        }
    }
    for (table, cells) in &compared {
        let why =
            entry(table).map_or(String::new(), |entry| format!(", {} excluded: {}", entry.2.len(), entry.3));
        println!("{:?} {table}: {cells} cells{why}", server.flavor());
        if *cells == 0 && entry(table).is_none() {
            faults.push(format!("{table}: no cell was compared"));
        }
    }
    println!("{:?}: {} cells in all", server.flavor(), compared.values().sum::<usize>());
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[tokio::test]
async fn mariadb_cell_by_cell() {
    compare(common::mariadb()).await;
}

#[tokio::test]
async fn mysql_cell_by_cell() {
    compare(common::mysql()).await;
}
