//! Round trips of the flat encoding, and that damage is an error and never a panic.

use super::*;
use crate::gtid::{MysqlSource, Uuid};
use crate::position::{CommitPlace, FilePos, TxnId};
use crate::schema::{Column, SchemaMap, TableName, TableSchema};
use crate::temporal::{Date, DateTime, Interval, Time, Timestamp};
use crate::types::DataType;
use crate::value::ValueRef;
use proptest::prelude::*;

fn schema() -> TableSchema {
    let types = [
        DataType::Int { bits: 64, unsigned: false },
        DataType::Int { bits: 24, unsigned: true },
        DataType::Text { length: None, fixed: false },
        DataType::Decimal { precision: Some(65), scale: Some(30) },
        DataType::DateTime { fsp: 6 },
        DataType::Timestamp { fsp: 3 },
        DataType::Date,
        DataType::Time { fsp: 6 },
        DataType::TimeTz { fsp: 6 },
        DataType::Interval,
        DataType::Uuid,
        DataType::Enum { labels: vec!["a".into()] },
        DataType::Set { labels: vec!["a".into()] },
        DataType::Bytes { length: None, fixed: false },
        DataType::Bool,
        DataType::Float32,
        DataType::Float64,
    ];
    let columns = types
        .into_iter()
        .enumerate()
        .map(|(i, data_type)| Column { name: format!("c{i}"), data_type, nullable: true })
        .collect();
    TableSchema::new(TableName::new("shop", "orders"), columns, vec![0]).expect("valid")
}

fn fill(row: &mut RowWriter<'_>, id: i64) {
    assert!(row.int(id));
    assert!(row.uint(16_777_215));
    row.text("grün");
    row.decimal("-1.500");
    row.datetime(DateTime::new(2026, 3, 1, 5).expect("valid"));
    row.timestamp(Timestamp::ZERO_DATE);
    row.date(Date::new(0, 0, 0).expect("valid"));
    row.time(Time(-1));
    row.time_tz(Time(7), -3600);
    row.interval(Interval { months: -1, days: 2, micros: -3 });
    assert!(row.fixed_bytes(&[7; 16]) && !row.fixed_bytes(&[7; 15]));
    row.enumeration(0);
    row.set(1);
    row.bytes(&[0, 255]);
    row.bool(true);
    row.null();
    row.absent();
}

fn batch() -> Batch {
    let schema = schema();
    let mut b = BatchBuilder::new();
    let source = MysqlSource { uuid: Uuid([9; 16]), tag: "t".into() };
    b.begin(&TxnId::Mysql { source, gno: 7 }, 11);
    b.schema(&schema);
    let mut row = b.insert(&schema);
    fill(&mut row, 1);
    row.finish();
    let mut row = b.update(&schema);
    fill(&mut row, 1);
    row.after();
    fill(&mut row, 2);
    row.finish();
    let mut row = b.delete(&schema);
    for _ in 0..schema.columns().len() {
        row.undecodable(b"\xff");
    }
    row.finish();
    b.truncate(schema.name());
    b.statement("shop", schema.name(), "ALTER TABLE orders ADD x INT");
    b.commit("s1", &CommitPlace::Binlog(FilePos { file: "b.000001".into(), pos: 1 << 40 }), 12);
    b.seal()
}

#[test]
fn events_round_trip() {
    let (schema, batch) = (schema(), batch());
    assert!(batch.ends_at_commit() && batch.rows() == 3);
    let mut schemas = SchemaMap::default();
    batch.collect_schemas(&mut schemas).expect("collects");
    assert_eq!(**schemas.get(schema.id()).expect("announced"), schema);
    let mut names = Vec::new();
    for event in batch.events() {
        names.push(match event.expect("valid") {
            EventRef::Begin { start_us: 11, .. } => "begin",
            EventRef::Schema { .. } => "schema",
            EventRef::Insert { after, .. } => {
                let row = RowRef::new(&schema, after);
                row.validate().expect("valid");
                assert_eq!(row.get(2).expect("cell"), ValueRef::Text("grün"));
                assert_eq!(row.get(16).expect("cell"), ValueRef::Absent);
                "insert"
            }
            EventRef::Update { before, after, .. } => {
                assert_eq!(RowRef::new(&schema, before).get(0).expect("cell"), ValueRef::Int(1));
                assert_eq!(RowRef::new(&schema, after).get(0).expect("cell"), ValueRef::Int(2));
                "update"
            }
            EventRef::Delete { before, .. } => {
                assert_eq!(
                    RowRef::new(&schema, before).get(16).expect("cell"),
                    ValueRef::Undecodable(b"\xff")
                );
                "delete"
            }
            EventRef::Truncate(table) if table == *schema.name() => "truncate",
            EventRef::Statement(s) if s.database == "shop" => "statement",
            EventRef::Commit(c) if c.commit_us == 12 && c.server == "s1" => "commit",
            other => panic!("unexpected {other:?}"),
        });
    }
    assert_eq!(names, ["begin", "schema", "insert", "update", "delete", "truncate", "statement", "commit"]);
}

/// What is equal as a value and not as bytes is a change, and so is another state with the same bytes.
#[test]
fn changed_columns_are_told_byte_by_byte() {
    let schema = std::sync::Arc::new(schema());
    let columns = schema.columns().len();
    type Write<'a> = &'a dyn Fn(&mut RowWriter<'_>);
    let changed = |before: Write<'_>, after: Write<'_>| -> Vec<usize> {
        let mut builder = BatchBuilder::new();
        for write in [before, after] {
            let mut row = builder.insert(&schema);
            write(&mut row);
            row.finish();
        }
        let batch = builder.seal();
        let images: Vec<&[u8]> = batch
            .events()
            .filter_map(|event| match event.expect("decodes") {
                EventRef::Insert { after, .. } => Some(after),
                _ => None,
            })
            .collect();
        let mut changed = vec![false; columns];
        RowRef::new(&schema, images[1])
            .mark_changed(RowRef::new(&schema, images[0]), &mut changed)
            .expect("same schema");
        (0..columns).filter(|i| changed[*i]).collect()
    };
    let row = |text: &'static str, raw: bool, last: Option<f64>| {
        move |row: &mut RowWriter<'_>| {
            (0..2).for_each(|_| row.null());
            if raw {
                row.undecodable(text.as_bytes())
            } else {
                row.text(text)
            }
            (3..16).for_each(|_| row.null());
            match last {
                Some(last) => row.float64(last),
                None => row.absent(),
            }
        }
    };
    assert_eq!(changed(&|r| fill(r, 1), &|r| fill(r, 1)), Vec::<usize>::new());
    assert_eq!(changed(&|r| fill(r, 1), &|r| fill(r, 2)), [0]);
    assert_eq!(changed(&row("x", false, Some(0.0)), &row("x", false, Some(-0.0))), [16]);
    assert_eq!(changed(&row("x", false, None), &row("x", true, Some(0.0))), [2, 16]);
    assert_eq!(changed(&row("", false, None), &row("x", false, None)), [2]);
}

#[test]
fn an_open_transaction_can_be_discarded() {
    let schema = schema();
    let mut b = BatchBuilder::new();
    let commit = CommitPlace::Binlog(FilePos::default());
    b.begin(&TxnId::Anonymous, 0);
    b.commit("", &commit, 0);
    let kept = b.len();
    b.begin(&TxnId::Anonymous, 0);
    let mark = b.mark();
    let mut row = b.insert(&schema);
    row.null();
    let _ = row;
    b.rewind(mark);
    b.discard_open();
    assert_eq!((b.len(), b.in_transaction(), b.rows()), (kept, false, 0));
    b.begin(&TxnId::Anonymous, 0);
    assert!(!b.seal().ends_at_commit());
    b.discard_open();
    assert!(b.is_empty() && !b.in_transaction());
}

#[test]
fn an_open_transaction_moves_to_the_next_batch() {
    let commit = CommitPlace::Binlog(FilePos::default());
    let mut b = BatchBuilder::new();
    b.begin(&TxnId::Anonymous, 0);
    assert!(b.take_open().is_none(), "nothing stands before it");
    b.commit("", &commit, 0);
    assert!(b.take_open().is_none(), "nothing is open");
    let whole = b.len();
    b.begin(&TxnId::Anonymous, 7);
    let open = b.take_open().expect("a transaction is open behind a whole one");
    assert_eq!((b.len(), b.in_transaction()), (whole, false));
    assert!(b.seal().ends_at_commit());
    b.put_back(open);
    assert!(b.in_transaction() && b.take_open().is_none());
    b.commit("", &commit, 0);
    let batch = b.seal();
    let mut events = batch.events().flatten();
    assert!(matches!(events.next(), Some(EventRef::Begin { start_us: 7, .. })));
    assert!(matches!(events.next(), Some(EventRef::Commit(_))) && events.next().is_none());
}

fn walk(batch: &Batch, schema: &TableSchema) {
    for event in batch.events().flatten() {
        match event {
            EventRef::Insert { after: image, .. } | EventRef::Delete { before: image, .. } => {
                let _ = RowRef::new(schema, image).validate();
            }
            EventRef::Update { before, after, .. } => {
                let _ = (RowRef::new(schema, before).validate(), RowRef::new(schema, after).validate());
            }
            EventRef::Begin { .. }
            | EventRef::Schema { .. }
            | EventRef::Truncate(_)
            | EventRef::Statement(_)
            | EventRef::Commit(_) => {}
        }
    }
    let _ = batch.collect_schemas(&mut SchemaMap::default());
}

proptest! {
    #[test]
    fn damage_never_panics(at in 0usize..2000, byte: u8, cut in 0usize..2000) {
        let mut bytes = batch().bytes().to_vec();
        let at = at % bytes.len();
        bytes[at] ^= byte;
        bytes.truncate(bytes.len() - cut % bytes.len());
        walk(&Batch::from_stored(bytes.into(), 0, true), &schema());
    }
}
