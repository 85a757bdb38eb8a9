//! The schema that a row was written with: table name, columns, key; and its byte encoding in the log.
//!
//! Not the catalogue: defaults, indexes and native declarations are in [`crate::table`] and are of the moment of the
//! load; this is the schema at an event's own place in the source's log (D1). A [`SchemaId`] is computed from the
//! encoded bytes, so equal schemas have equal ids in every process and every log, and announcing one twice is
//! harmless.
//!
//! Encoding (little endian; `str` is a u32 length and UTF-8): version u8 = 1; schema str; table str; column count
//! u16; per column: name str, flags u8 (1 nullable), type; key length u16; key column indexes u16 each. A type is a
//! tag u8 and its parameters, see `encode_type`.

use crate::error::{Error, Result};
use crate::types::{CellKind, DataType};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

const SCHEMA_VERSION: u8 = 1;
const TYPE_DEPTH_MAX: u8 = 8;

/// Name of a table: database (MySQL) or schema (PostgreSQL), and table.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableName {
    /// MySQL's database, PostgreSQL's schema.
    pub schema: String,
    /// Table.
    pub table: String,
}

impl TableName {
    /// A name of these two parts.
    pub fn new(schema: impl Into<String>, table: impl Into<String>) -> Self {
        Self { schema: schema.into(), table: table.into() }
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.table)
    }
}

/// A column as the stream knows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Column {
    /// Name.
    pub name: String,
    /// Type.
    pub data_type: DataType,
    /// Whether NULL may occur.
    pub nullable: bool,
}

/// Identity of a schema: a 64-bit FNV-1a hash of its encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SchemaId(pub u64);

/// The schema of one table's rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSchema {
    name: TableName,
    columns: Vec<Column>,
    key: Vec<u16>,
    cells: Vec<CellKind>,
    id: SchemaId,
}

impl TableSchema {
    /// A schema; `key` holds the indexes of the primary key's columns, in key order, empty for none.
    pub fn new(name: TableName, columns: Vec<Column>, key: Vec<u16>) -> Result<Self> {
        if columns.is_empty() || columns.len() > usize::from(u16::MAX) {
            return Err(Error::unsupported(format!("Table {name} has {} columns", columns.len())));
        }
        if key.iter().any(|k| usize::from(*k) >= columns.len()) {
            return Err(Error::internal(format!("Key of table {name} names a column that is not there")));
        }
        let cells = columns.iter().map(|c| c.data_type.cell_kind()).collect();
        let mut schema = Self { name, columns, key, cells, id: SchemaId(0) };
        schema.id = SchemaId(fnv1a(&schema.encode()));
        Ok(schema)
    }

    /// The table.
    pub fn name(&self) -> &TableName {
        &self.name
    }

    /// The columns, in order.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// Indexes of the primary key's columns; empty for a table without one.
    pub fn key(&self) -> &[u16] {
        &self.key
    }

    /// Layout of every column's cells.
    pub fn cells(&self) -> &[CellKind] {
        &self.cells
    }

    /// Identity.
    pub fn id(&self) -> SchemaId {
        self.id
    }

    /// Index of a column by name.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|c| c.name == name)
    }

    /// The byte encoding.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![SCHEMA_VERSION];
        put_str(&mut out, &self.name.schema);
        put_str(&mut out, &self.name.table);
        put_u16(&mut out, self.columns.len() as u16);
        for column in &self.columns {
            put_str(&mut out, &column.name);
            out.push(u8::from(column.nullable));
            encode_type(&mut out, &column.data_type);
        }
        put_u16(&mut out, self.key.len() as u16);
        for k in &self.key {
            put_u16(&mut out, *k);
        }
        out
    }

    /// Reads an encoding back; anything unexpected is [`crate::ErrorKind::Corrupt`].
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut r = Reader { bytes };
        let version = r.u8()?;
        if version != SCHEMA_VERSION {
            return Err(Error::unsupported(format!(
                "Schema version {version} is unknown, this build reads {SCHEMA_VERSION}"
            )));
        }
        let name = TableName { schema: r.str()?, table: r.str()? };
        let mut columns = Vec::new();
        for _ in 0..r.u16()? {
            let name = r.str()?;
            let nullable = r.u8()? & 1 != 0;
            columns.push(Column { name, nullable, data_type: decode_type(&mut r, TYPE_DEPTH_MAX)? });
        }
        let key = (0..r.u16()?).map(|_| r.u16()).collect::<Result<Vec<_>>>()?;
        if !r.bytes.is_empty() {
            return Err(truncated());
        }
        Self::new(name, columns, key)
    }
}

/// Schemas by identity, as a reader has met them; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct SchemaMap(Arc<HashMap<SchemaId, Arc<TableSchema>>>);

impl SchemaMap {
    /// The schema of that identity.
    pub fn get(&self, id: SchemaId) -> Option<&Arc<TableSchema>> {
        self.0.get(&id)
    }

    /// Adds a schema; a no-op if it is known. Two different schemas under one id are an error.
    pub fn insert(&mut self, schema: Arc<TableSchema>) -> Result<()> {
        match self.0.get(&schema.id()) {
            Some(known) if **known == *schema => Ok(()),
            Some(known) => Err(Error::internal(format!(
                "Schemas of {} and {} have the same identity",
                known.name(),
                schema.name()
            ))),
            None => {
                Arc::make_mut(&mut self.0).insert(schema.id(), schema);
                Ok(())
            }
        }
    }

    /// Every schema.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<TableSchema>> {
        self.0.values()
    }
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0000_0100_0000_01b3))
}

fn put_u16(out: &mut Vec<u8>, v: u16) {
    out.extend_from_slice(&v.to_le_bytes());
}

fn put_u32(out: &mut Vec<u8>, v: u32) {
    out.extend_from_slice(&v.to_le_bytes());
}

fn put_str(out: &mut Vec<u8>, s: &str) {
    put_u32(out, s.len() as u32);
    out.extend_from_slice(s.as_bytes());
}

fn put_opt(out: &mut Vec<u8>, v: Option<i64>) {
    out.push(u8::from(v.is_some()));
    out.extend_from_slice(&v.unwrap_or(0).to_le_bytes());
}

fn put_labels(out: &mut Vec<u8>, labels: &[String]) {
    put_u32(out, labels.len() as u32);
    labels.iter().for_each(|l| put_str(out, l));
}

/// Appends the encoding of a type. Tags: 1 bool; 2 int (bits u8, unsigned u8); 3 float32; 4 float64; 5 decimal
/// (precision opt, scale opt); 6 year; 7 date; 8 time (fsp u8); 9 timetz; 10 datetime; 11 timestamp; 12 interval;
/// 13 text (length opt, fixed u8); 14 bytes (likewise); 15 bit (length opt, varying u8); 16 enum (labels); 17 set;
/// 18 json (binary u8); 19 uuid; 20 inet4; 21 inet6; 22 geometry (kind str); 23 vector (dimensions opt); 24 money;
/// 25 oid; 26 lsn; 27 array (type); 28 named (str). `opt` is a presence byte and an i64.
fn encode_type(out: &mut Vec<u8>, t: &DataType) {
    let len = |n: &Option<u32>| n.map(i64::from);
    match t {
        DataType::Bool => out.push(1),
        DataType::Int { bits, unsigned } => out.extend_from_slice(&[2, *bits, u8::from(*unsigned)]),
        DataType::Float32 => out.push(3),
        DataType::Float64 => out.push(4),
        DataType::Decimal { precision, scale } => {
            out.push(5);
            put_opt(out, precision.map(i64::from));
            put_opt(out, scale.map(i64::from));
        }
        DataType::Year => out.push(6),
        DataType::Date => out.push(7),
        DataType::Time { fsp } => out.extend_from_slice(&[8, *fsp]),
        DataType::TimeTz { fsp } => out.extend_from_slice(&[9, *fsp]),
        DataType::DateTime { fsp } => out.extend_from_slice(&[10, *fsp]),
        DataType::Timestamp { fsp } => out.extend_from_slice(&[11, *fsp]),
        DataType::Interval => out.push(12),
        DataType::Text { length, fixed } => put_sized(out, 13, len(length), *fixed),
        DataType::Bytes { length, fixed } => put_sized(out, 14, len(length), *fixed),
        DataType::Bit { length, varying } => put_sized(out, 15, len(length), *varying),
        DataType::Enum { labels } => {
            out.push(16);
            put_labels(out, labels);
        }
        DataType::Set { labels } => {
            out.push(17);
            put_labels(out, labels);
        }
        DataType::Json { binary } => out.extend_from_slice(&[18, u8::from(*binary)]),
        DataType::Uuid => out.push(19),
        DataType::Inet4 => out.push(20),
        DataType::Inet6 => out.push(21),
        DataType::Geometry { kind } => {
            out.push(22);
            put_str(out, kind);
        }
        DataType::Vector { dimensions } => {
            out.push(23);
            put_opt(out, len(dimensions));
        }
        DataType::Money => out.push(24),
        DataType::Oid => out.push(25),
        DataType::Lsn => out.push(26),
        DataType::Array { element } => {
            out.push(27);
            encode_type(out, element);
        }
        DataType::Named { name } => {
            out.push(28);
            put_str(out, name);
        }
    }
}

fn put_sized(out: &mut Vec<u8>, tag: u8, length: Option<i64>, flag: bool) {
    out.push(tag);
    put_opt(out, length);
    out.push(u8::from(flag));
}

fn decode_type(r: &mut Reader<'_>, depth: u8) -> Result<DataType> {
    Ok(match r.u8()? {
        1 => DataType::Bool,
        2 => DataType::Int { bits: r.u8()?, unsigned: r.u8()? != 0 },
        3 => DataType::Float32,
        4 => DataType::Float64,
        5 => DataType::Decimal { precision: r.opt()?, scale: r.opt()? },
        6 => DataType::Year,
        7 => DataType::Date,
        8 => DataType::Time { fsp: r.u8()? },
        9 => DataType::TimeTz { fsp: r.u8()? },
        10 => DataType::DateTime { fsp: r.u8()? },
        11 => DataType::Timestamp { fsp: r.u8()? },
        12 => DataType::Interval,
        13 => DataType::Text { length: r.opt()?, fixed: r.u8()? != 0 },
        14 => DataType::Bytes { length: r.opt()?, fixed: r.u8()? != 0 },
        15 => DataType::Bit { length: r.opt()?, varying: r.u8()? != 0 },
        16 => DataType::Enum { labels: r.labels()? },
        17 => DataType::Set { labels: r.labels()? },
        18 => DataType::Json { binary: r.u8()? != 0 },
        19 => DataType::Uuid,
        20 => DataType::Inet4,
        21 => DataType::Inet6,
        22 => DataType::Geometry { kind: r.str()? },
        23 => DataType::Vector { dimensions: r.opt()? },
        24 => DataType::Money,
        25 => DataType::Oid,
        26 => DataType::Lsn,
        27 if depth > 0 => DataType::Array { element: Box::new(decode_type(r, depth - 1)?) },
        28 => DataType::Named { name: r.str()? },
        other => return Err(Error::corrupt(format!("Type tag {other} in a schema is unknown"))),
    })
}

fn truncated() -> Error {
    Error::corrupt("A schema's encoding ends in the wrong place")
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        let (head, rest) = self.bytes.split_at_checked(n).ok_or_else(truncated)?;
        self.bytes = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| truncated())
    }

    fn u8(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn str(&mut self) -> Result<String> {
        let n = self.u32()? as usize;
        String::from_utf8(self.take(n)?.to_vec())
            .map_err(|_| Error::corrupt("A name in a schema is not UTF-8"))
    }

    fn opt<T: TryFrom<i64>>(&mut self) -> Result<Option<T>> {
        let present = self.u8()? != 0;
        let v = i64::from_le_bytes(self.array()?);
        if present { T::try_from(v).map(Some).map_err(|_| truncated()) } else { Ok(None) }
    }

    fn labels(&mut self) -> Result<Vec<String>> {
        (0..self.u32()?).map(|_| self.str()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_type() -> Vec<DataType> {
        let l = || vec!["a".to_owned(), "b,'c".to_owned()];
        vec![
            DataType::Bool,
            DataType::Int { bits: 24, unsigned: true },
            DataType::Float32,
            DataType::Float64,
            DataType::Decimal { precision: Some(65), scale: Some(-3) },
            DataType::Decimal { precision: None, scale: None },
            DataType::Year,
            DataType::Date,
            DataType::Time { fsp: 6 },
            DataType::TimeTz { fsp: 3 },
            DataType::DateTime { fsp: 0 },
            DataType::Timestamp { fsp: 6 },
            DataType::Interval,
            DataType::Text { length: Some(4_294_967_295), fixed: false },
            DataType::Bytes { length: None, fixed: true },
            DataType::Bit { length: Some(64), varying: true },
            DataType::Enum { labels: l() },
            DataType::Set { labels: l() },
            DataType::Json { binary: true },
            DataType::Uuid,
            DataType::Inet4,
            DataType::Inet6,
            DataType::Geometry { kind: "point".into() },
            DataType::Vector { dimensions: Some(3) },
            DataType::Money,
            DataType::Oid,
            DataType::Lsn,
            DataType::Array { element: Box::new(DataType::Array { element: Box::new(DataType::Uuid) }) },
            DataType::Named { name: "tsvector".into() },
        ]
    }

    #[test]
    fn schemas_round_trip_and_every_cut_is_refused() {
        let columns = every_type()
            .into_iter()
            .enumerate()
            .map(|(i, data_type)| Column { name: format!("c{i}"), data_type, nullable: i % 2 == 0 })
            .collect();
        let schema = TableSchema::new(TableName::new("s", "täble"), columns, vec![3, 1]).expect("valid");
        let bytes = schema.encode();
        assert_eq!(TableSchema::decode(&bytes).expect("decodes"), schema);
        for cut in 0..bytes.len() {
            assert!(TableSchema::decode(&bytes[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn equal_schemas_have_equal_ids() {
        let make = |n: &str| {
            let c = Column { name: n.into(), data_type: DataType::Date, nullable: true };
            TableSchema::new(TableName::new("s", "t"), vec![c], vec![]).expect("valid")
        };
        assert_eq!(make("a").id(), make("a").id());
        assert_ne!(make("a").id(), make("b").id());
    }
}
