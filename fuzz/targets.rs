//! What is fuzzed: bytes from a server or from a disk, through the decoders that read them.
//!
//! Each function takes any bytes and must return: no panic, no hang, no memory in proportion to a number that the bytes
//! announce. Used by the libFuzzer targets here and, with mutations of the corpus, by a test of `freshet-mysql`.

use std::sync::Arc;

use freshet_core::codec::{Batch, BatchBuilder, EventRef, RowRef};
use freshet_core::position::{BinlogPosition, FilePos, GtidSet};
use freshet_core::schema::{Column, SchemaMap, TableName, TableSchema};
use freshet_core::source::Selects;
use freshet_core::types::DataType;
use freshet_mysql::decode::{DecodeOptions, Decoder, Flavour, Step};
use freshet_mysql::values::cell::{CellReader, Scratch};
use freshet_mysql::values::charset::Charset;
use freshet_mysql::values::decimal::{DecimalLayout, DecimalText};
use freshet_mysql::values::json;
use freshet_mysql::values::reader::Reader;

/// Bytes of an event's header, and where its length and its checksum algorithm's owner stand in it.
const HEADER_BYTES: usize = 19;

struct All;

impl Selects for All {
    fn selects(&self, table: &TableName) -> bool {
        table.schema != "mysql"
    }

    fn selects_schema(&self, schema: &str) -> bool {
        schema != "mysql"
    }
}

/// A stream of events one behind the other, as in a file without its magic; the first byte's lowest bit is the server,
/// and the next whether a MySQL has GTIDs.
/// Their lengths are corrected, so that mutations reach what is behind the header.
pub fn events(data: &[u8]) {
    let Some((first, mut rest)) = data.split_first() else { return };
    let flavour = if first & 1 == 0 { Flavour::Mysql } else { Flavour::Mariadb };
    let options = DecodeOptions { batch_bytes_max: 512, ..DecodeOptions::default() };
    let mut decoder = Decoder::new(flavour, Arc::new(All), options);
    let file = FilePos { file: "b.000001".into(), pos: 4 };
    let gtids = if first & 3 == 2 { GtidSet::Places } else { flavour.empty_gtids() };
    decoder.start(BinlogPosition { server: "s".into(), file, gtids });
    let (mut batch, mut schemas) = (BatchBuilder::new(), SchemaMap::default());
    while let Some(length) = rest.get(9..13) {
        let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]) as usize;
        let (event, tail) =
            rest.split_at(length.clamp(HEADER_BYTES, rest.len().max(HEADER_BYTES)).min(rest.len()));
        rest = tail;
        let mut event = event.to_vec();
        let length = (event.len() as u32).to_le_bytes();
        if let Some(slot) = event.get_mut(9..13) {
            slot.copy_from_slice(&length);
        }
        let mut step = decoder.feed(&event, &mut batch);
        let mut parts = 0;
        while let Ok(Step::More) = step {
            parts += 1;
            // Every part holds at least a row or an inner event, which have a byte and more.
            assert!(parts <= 8 * 1024 * 1024, "an event without end");
            read(&batch.seal(), &mut schemas);
            step = decoder.resume(&event, &mut batch);
        }
        if step.is_err() {
            return;
        }
    }
    read(&batch.seal(), &mut schemas);
}

/// A binary JSON document.
pub fn json(data: &[u8]) {
    let mut out = String::new();
    let _ = json::print(data, &mut out, &mut DecimalText::default());
    // An entry of two bytes and more prints as at most 330 characters (a double), a byte of a string as six.
    assert!(out.len() <= 400 * (data.len() + 8), "{} bytes of {}", out.len(), data.len());
}

/// Cells of one column: the first two bytes choose the type, the rest are row after row.
pub fn cells(data: &[u8]) {
    let [choice, meta, rest @ ..] = data else { return };
    let (data_type, reader) = column(*choice, *meta);
    let column = Column { name: "c".into(), data_type, nullable: true };
    let Ok(schema) = TableSchema::new(TableName::new("s", "t"), vec![column], vec![]) else { return };
    let (mut batch, mut scratch, mut r) = (BatchBuilder::new(), Scratch::default(), Reader::new(rest));
    batch.schema(&schema);
    while !r.is_empty() {
        let mark = batch.mark();
        let mut row = batch.insert(&schema);
        if reader.read(&mut r, &mut row, &mut scratch).is_err() {
            batch.rewind(mark);
            break;
        }
        row.finish();
    }
    let mut schemas = SchemaMap::default();
    assert!(read(&batch.seal(), &mut schemas), "what was written can be read");
}

fn column(choice: u8, meta: u8) -> (DataType, CellReader) {
    let fsp = meta % 7;
    let text = DataType::Text { length: None, fixed: false };
    let bytes = DataType::Bytes { length: None, fixed: false };
    let sets =
        ["utf8mb4", "latin1", "sjis", "ujis", "gbk", "gb18030", "utf16", "utf32", "ucs2", "swe7", "big5"];
    let charset = sets.get(usize::from(meta) % sets.len()).and_then(|set| Charset::named(set));
    let charset = charset.unwrap_or(Charset::UTF8MB4);
    let decimal = DecimalLayout::new(meta % 65 + 1, choice.wrapping_mul(7) % (meta % 65 + 2))
        .or(DecimalLayout::new(10, 2));
    match choice % 20 {
        0 => (DataType::Int { bits: 24, unsigned: false }, CellReader::Int24),
        1 => (DataType::Time { fsp }, CellReader::Time2(fsp)),
        2 => (DataType::DateTime { fsp }, CellReader::DateTime2(fsp)),
        3 => (DataType::Timestamp { fsp }, CellReader::Timestamp2(fsp)),
        4 => (DataType::Time { fsp }, CellReader::TimeOld(fsp)),
        5 => (DataType::DateTime { fsp }, CellReader::DateTimeOld(fsp)),
        6 => (DataType::Timestamp { fsp }, CellReader::TimestampOld(fsp)),
        7 => (DataType::Date, CellReader::Date),
        8 => (DataType::Year, CellReader::Year),
        9 | 10 => (text, CellReader::Text(meta % 4 + 1, charset)),
        11 => (bytes, CellReader::Padded(1, u16::from(meta))),
        12 => (DataType::Uuid, CellReader::Fixed(1, 16)),
        13 => (text, CellReader::CompressedText(meta % 4 + 1, charset)),
        14 => (bytes, CellReader::CompressedBytes(meta % 4 + 1)),
        15 => (DataType::Bit { length: Some(64), varying: false }, CellReader::Bit(meta % 8 + 1, meta % 8)),
        16 => (DataType::Set { labels: vec!["a".into()] }, CellReader::Set(meta % 8 + 1)),
        17 => (DataType::Enum { labels: vec!["a".into()] }, CellReader::Enum(meta % 2 + 1)),
        18 => (DataType::Json { binary: true }, CellReader::Json(meta % 4 + 1)),
        _ => match decimal {
            Some(layout) => (DataType::Decimal { precision: None, scale: None }, CellReader::Decimal(layout)),
            None => (DataType::Date, CellReader::Date),
        },
    }
}

/// A stored batch.
pub fn batch(data: &[u8]) {
    let batch = Batch::from_stored(data.to_vec().into(), 0, true);
    read(&batch, &mut SchemaMap::default());
}

/// Reads everything in a batch; whether all of it could be read.
fn read(batch: &Batch, schemas: &mut SchemaMap) -> bool {
    let mut is_whole = batch.collect_schemas(schemas).is_ok();
    for event in batch.events() {
        let Ok(event) = event else { return false };
        let (id, images) = match event {
            EventRef::Insert { schema, after } => (schema, [Some(after), None]),
            EventRef::Update { schema, before, after } => (schema, [Some(before), Some(after)]),
            EventRef::Delete { schema, before } => (schema, [Some(before), None]),
            EventRef::Begin { .. }
            | EventRef::Schema { .. }
            | EventRef::Truncate(_)
            | EventRef::Statement(_)
            | EventRef::Commit(_) => continue,
        };
        for image in images.into_iter().flatten() {
            is_whole &= schemas.get(id).is_some_and(|schema| RowRef::new(schema, image).validate().is_ok());
        }
    }
    is_whole
}
