//! Every kind of cell, with the JSON that is expected, written by hand.

use super::*;
use freshet_core::codec::{EventRef, RowWriter};
use freshet_core::temporal::{Date, DateTime, Timestamp};
use freshet_core::{BatchBuilder, Column, TableName, TableSchema};

/// The JSON of one cell.
fn check(data_type: DataType, fill: impl FnOnce(&mut RowWriter<'_>), expect: &str) {
    let columns = vec![Column { name: "c".into(), data_type: data_type.clone(), nullable: true }];
    let schema = TableSchema::new(TableName::new("s", "t"), columns, vec![]).expect("valid");
    let mut batch = BatchBuilder::new();
    batch.begin(&freshet_core::position::TxnId::Anonymous, 0);
    batch.schema(&schema);
    let mut row = batch.insert(&schema);
    fill(&mut row);
    row.finish();
    let batch = batch.seal();
    let after = batch.events().find_map(|event| match event.expect("valid") {
        EventRef::Insert { after, .. } => Some(after),
        _ => None,
    });
    let image = Image::new(RowRef::new(&schema, after.expect("one row"))).expect("fits");
    let json = serde_json::to_string(&image).expect("json");
    assert_eq!(json, expect, "{data_type:?}");
}

fn int(bits: u8, unsigned: bool) -> DataType {
    DataType::Int { bits, unsigned }
}

#[test]
fn numbers_are_exact() {
    check(int(64, false), |r| assert!(r.int(i64::MIN)), r#"{"c":-9223372036854775808}"#);
    check(int(64, true), |r| assert!(r.uint(u64::MAX)), r#"{"c":18446744073709551615}"#);
    check(DataType::Year, |r| assert!(r.uint(0)), r#"{"c":0}"#);
    check(DataType::Bool, |r| r.bool(true), r#"{"c":true}"#);
    check(DataType::Float32, |r| r.float32(0.1), r#"{"c":0.1}"#);
    check(DataType::Float64, |r| r.float64(0.1), r#"{"c":0.1}"#);
    check(DataType::Float64, |r| r.float64(-0.0), r#"{"c":-0.0}"#);
    check(DataType::Float64, |r| r.float64(f64::NAN), r#"{"c":"NaN"}"#);
    check(DataType::Float32, |r| r.float32(f32::NEG_INFINITY), r#"{"c":"-Infinity"}"#);
    let decimal = DataType::Decimal { precision: Some(65), scale: Some(2) };
    check(
        decimal,
        |r| r.decimal("123456789012345678901234567890.10"),
        r#"{"c":"123456789012345678901234567890.10"}"#,
    );
}

#[test]
fn m1_times_are_as_the_server_prints_them() {
    check(DataType::Date, |r| r.date(Date::new(0, 0, 0).expect("valid")), r#"{"c":"0000-00-00"}"#);
    let moment = DateTime::new(2026, 3, 1, 1_500_000).expect("valid");
    check(DataType::DateTime { fsp: 6 }, |r| r.datetime(moment), r#"{"c":"2026-03-01 00:00:01.500000"}"#);
    check(DataType::Timestamp { fsp: 0 }, |r| r.timestamp(Timestamp(0)), r#"{"c":"1970-01-01 00:00:00Z"}"#);
    check(DataType::Time { fsp: 0 }, |r| r.time(Time(-3_020_399_000_000)), r#"{"c":"-838:59:59"}"#);
    check(DataType::TimeTz { fsp: 0 }, |r| r.time_tz(Time(0), -5400), r#"{"c":"00:00:00-01:30"}"#);
    let span = Interval { months: 1, days: -2, micros: 3 };
    check(DataType::Interval, |r| r.interval(span), r#"{"c":{"months":1,"days":-2,"microseconds":3}}"#);
}

#[test]
fn text_and_bytes() {
    let text = || DataType::Text { length: None, fixed: false };
    let bytes = || DataType::Bytes { length: None, fixed: false };
    check(text(), |r| r.text("grün \"x\"\n\u{0}"), r#"{"c":"grün \"x\"\n\u0000"}"#);
    check(text(), |r| r.undecodable(&[0xff, 0x41]), r#"{"c":{"undecodable":"ff41"}}"#);
    check(bytes(), |r| r.bytes(&[0, 255]), r#"{"c":{"hex":"00ff"}}"#);
    check(text(), |r| r.null(), r#"{"c":null}"#);
    check(text(), |r| r.absent(), "{}");
    check(DataType::Json { binary: true }, |r| r.text("{\"a\": 1.10}"), r#"{"c":"{\"a\": 1.10}"}"#);
    check(DataType::Bit { length: Some(10), varying: false }, |r| r.bytes(&[2, 5]), r#"{"c":"1000000101"}"#);
    let uuid: Vec<u8> = (0..16).collect();
    check(
        DataType::Uuid,
        |r| assert!(r.fixed_bytes(&uuid)),
        r#"{"c":"00010203-0405-0607-0809-0a0b0c0d0e0f"}"#,
    );
    check(DataType::Inet4, |r| assert!(r.fixed_bytes(&[127, 0, 0, 1])), r#"{"c":"127.0.0.1"}"#);
    let mut address = [0; 16];
    address[15] = 1;
    check(DataType::Inet6, |r| assert!(r.fixed_bytes(&address)), r#"{"c":"::1"}"#);
}

#[test]
fn enums_and_sets() {
    let labels = || vec!["a".to_owned(), String::new()];
    check(DataType::Enum { labels: labels() }, |r| r.enumeration(1), r#"{"c":"a"}"#);
    check(DataType::Enum { labels: labels() }, |r| r.enumeration(2), r#"{"c":""}"#);
    check(DataType::Enum { labels: labels() }, |r| r.enumeration(0), r#"{"c":{"index":0}}"#);
    check(DataType::Enum { labels: labels() }, |r| r.enumeration(9), r#"{"c":{"index":9}}"#);
    check(DataType::Set { labels: labels() }, |r| r.set(3), r#"{"c":["a",""]}"#);
    check(DataType::Set { labels: labels() }, |r| r.set(0), r#"{"c":[]}"#);
    check(DataType::Set { labels: labels() }, |r| r.set(8), r#"{"c":{"bits":8}}"#);
}
