//! Row images as JSON, for `freshet log cat`: exact, and readable where that is possible.
//!
//! Numbers are JSON numbers where JSON's grammar holds them exactly: every integer, and floats in their shortest
//! form. What has no exact JSON is a string (decimals, dates, times, infinities) or an object that names its form:
//! `{"hex": ...}` for bytes, `{"undecodable": ...}` for a cell of text that does not all decode (its bytes, with those
//! that do not marked). A column that the image leaves out is left out. docs/operations.md has the table.

use freshet_core::temporal::{Interval, Time};
use freshet_core::{DataType, Error, Result, RowRef, ValueRef};
use serde::ser::{Serialize, SerializeMap, Serializer};
use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

/// An image whose every cell has been read.
pub struct Image<'r> {
    cells: Vec<(&'r str, Cell<'r>)>,
}

struct Cell<'r> {
    data_type: &'r DataType,
    value: ValueRef<'r>,
}

impl<'r> Image<'r> {
    /// Reads an image; one that does not fit its schema is `Corrupt`.
    pub fn new(row: RowRef<'r>) -> Result<Self> {
        let columns = row.schema().columns();
        let mut cells = Vec::with_capacity(columns.len());
        for (column, value) in columns.iter().zip(row.cells()) {
            cells.push((column.name.as_str(), Cell { data_type: &column.data_type, value: value? }));
        }
        if cells.len() != columns.len() {
            return Err(Error::corrupt(format!("A row image of {} is too short", row.schema().name())));
        }
        Ok(Self { cells })
    }
}

impl Serialize for Image<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, cell) in self.cells.iter().filter(|(_, cell)| cell.value != ValueRef::Absent) {
            map.serialize_entry(name, cell)?;
        }
        map.end()
    }
}

impl Serialize for Cell<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self.value {
            ValueRef::Null | ValueRef::Absent => s.serialize_unit(),
            ValueRef::Undecodable(bytes) => named(s, "undecodable", &hex(bytes)),
            ValueRef::Bool(v) => s.serialize_bool(v),
            ValueRef::Int(v) => s.serialize_i64(v),
            ValueRef::UInt(v) => s.serialize_u64(v),
            ValueRef::Float32(v) if v.is_finite() => s.serialize_f32(v),
            ValueRef::Float32(v) => s.serialize_str(not_finite(f64::from(v))),
            ValueRef::Float64(v) if v.is_finite() => s.serialize_f64(v),
            ValueRef::Float64(v) => s.serialize_str(not_finite(v)),
            ValueRef::Decimal(text) | ValueRef::Text(text) => s.serialize_str(text),
            ValueRef::Date(v) => s.collect_str(&v),
            ValueRef::Time(v) => s.collect_str(&v),
            ValueRef::TimeTz(v, zone_s) => s.serialize_str(&time_tz(v, zone_s)),
            ValueRef::DateTime(v) => s.collect_str(&v),
            ValueRef::Timestamp(v) => s.collect_str(&v),
            ValueRef::Interval(v) => interval(s, &v),
            ValueRef::Bytes(bytes) => self.bytes(s, bytes),
            ValueRef::Enum(index) => self.enumeration(s, index),
            ValueRef::Set(bits) => self.set(s, bits),
        }
    }
}

impl Cell<'_> {
    fn bytes<S: Serializer>(&self, s: S, bytes: &[u8]) -> Result<S::Ok, S::Error> {
        let fixed = <[u8; 16]>::try_from(bytes);
        match (self.data_type, fixed) {
            (DataType::Uuid, Ok(uuid)) => s.collect_str(&freshet_core::gtid::Uuid(uuid)),
            (DataType::Inet6, Ok(address)) => s.collect_str(&Ipv6Addr::from(address)),
            (DataType::Inet4, _) => match <[u8; 4]>::try_from(bytes) {
                Ok(address) => s.collect_str(&Ipv4Addr::from(address)),
                Err(_) => named(s, "hex", &hex(bytes)),
            },
            (DataType::Bit { length: Some(length), varying: false }, _) => {
                s.serialize_str(&bits(bytes, *length as usize))
            }
            _ => named(s, "hex", &hex(bytes)),
        }
    }

    fn enumeration<S: Serializer>(&self, s: S, index: u16) -> Result<S::Ok, S::Error> {
        let label = match self.data_type {
            DataType::Enum { labels } => usize::from(index).checked_sub(1).and_then(|i| labels.get(i)),
            _ => None,
        };
        match label {
            Some(label) => s.serialize_str(label),
            // MySQL's error value, which is not the label ''.
            None => named(s, "index", &index),
        }
    }

    fn set<S: Serializer>(&self, s: S, bits: u64) -> Result<S::Ok, S::Error> {
        let labels: &[String] = match self.data_type {
            DataType::Set { labels } => labels,
            _ => &[],
        };
        let known = if labels.len() >= 64 { u64::MAX } else { (1 << labels.len()) - 1 };
        if bits & !known != 0 {
            return named(s, "bits", &bits);
        }
        s.collect_seq(labels.iter().enumerate().filter(|(i, _)| bits >> i & 1 == 1).map(|(_, label)| label))
    }
}

fn named<S: Serializer>(s: S, name: &'static str, value: &impl Serialize) -> Result<S::Ok, S::Error> {
    let mut map = s.serialize_map(Some(1))?;
    map.serialize_entry(name, value)?;
    map.end()
}

/// The databases' words for what no JSON number is.
fn not_finite(v: f64) -> &'static str {
    match v {
        f64::INFINITY => "Infinity",
        f64::NEG_INFINITY => "-Infinity",
        _ => "NaN",
    }
}

fn interval<S: Serializer>(s: S, v: &Interval) -> Result<S::Ok, S::Error> {
    let mut map = s.serialize_map(Some(3))?;
    map.serialize_entry("months", &v.months)?;
    map.serialize_entry("days", &v.days)?;
    map.serialize_entry("microseconds", &v.micros)?;
    map.end()
}

fn time_tz(time: Time, zone_s: i32) -> String {
    let (sign, east_s) = if zone_s < 0 { ('-', zone_s.unsigned_abs()) } else { ('+', zone_s.unsigned_abs()) };
    let mut text = format!("{time}{sign}{:02}:{:02}", east_s / 3600, east_s / 60 % 60);
    if east_s % 60 != 0 {
        let _ = write!(text, ":{:02}", east_s % 60);
    }
    text
}

/// The last `length` bits, most significant first.
fn bits(bytes: &[u8], length: usize) -> String {
    let all: String = bytes.iter().fold(String::with_capacity(bytes.len() * 8), |mut out, byte| {
        let _ = write!(out, "{byte:08b}");
        out
    });
    all[all.len().saturating_sub(length)..].to_owned()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
