//! One encoder for cells: from the flat row format to PostgreSQL's binary form, for COPY and for parameters alike.
//!
//! A cell is written as COPY and arrays both want it: a length (big endian, -1 for NULL) and the value. No allocation
//! per cell. Values without a place on the target become a [`Fault`] or what their policy says; nothing is sent
//! before the whole window was encoded.

use crate::options::{DatePolicy, NulPolicy, Policies, UndecodablePolicy};
use crate::sink::numeric;
use freshet_core::ValueRef;
use freshet_core::temporal::{Date, DateTime, MICROS_PER_DAY, Time, Timestamp};
use freshet_core::undecodable;
use std::sync::Arc;

/// Microseconds from 1970-01-01 to 2000-01-01, PostgreSQL's epoch.
const EPOCH_US: i128 = 946_684_800_000_000;
/// The same in days.
const EPOCH_DAYS: i64 = 10_957;
/// First and last day of PostgreSQL's `date`, in days since 2000-01-01.
const DATE_DAYS: std::ops::RangeInclusive<i64> = -2_451_545..=2_145_031_948;
/// First and last microsecond of PostgreSQL's `timestamp`, since 2000-01-01.
const TIMESTAMP_US: std::ops::Range<i64> = -211_813_488_000_000_000..9_223_371_331_200_000_000;
/// Bytes of a value at most: PostgreSQL's 1 GiB, less a header (G8).
const VALUE_BYTES_MAX: usize = (1 << 30) - 64;

/// How the cells of one column are written.
#[derive(Clone, Debug)]
pub(crate) enum Encoder {
    Bool,
    Int2,
    Int4,
    Int8,
    /// An integer into `numeric`.
    NumericInt,
    Float4,
    /// Either precision into `double precision`.
    Float8,
    Numeric,
    Date,
    Timestamp,
    Timestamptz,
    /// MySQL's `time`, a span, into `interval`.
    TimeAsInterval,
    Interval,
    Timetz,
    /// Any text, `json` included.
    Text,
    Jsonb,
    Bytea,
    /// So many bits.
    Bit(u32),
    Enum(Arc<[String]>),
    Set(Arc<[String]>),
    Uuid,
    Inet4,
    Inet6,
    Oid,
    /// A time of day.
    Time,
    /// 64 bits unsigned.
    Lsn,
    /// A text of zeros and ones, as many as there are.
    Varbit,
}

/// Why a cell has no place on the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The image lacks the column.
    Absent,
    /// A zero, partial or impossible date, or one out of range.
    Date,
    /// U+0000 in text.
    Nul,
    /// Bytes that are no value of the column's type.
    Undecodable,
    /// Larger than PostgreSQL's limit for one value.
    TooLarge,
    /// Not a value of the column's type: the image and its schema disagree.
    Mismatch,
}

impl Fault {
    /// What is wrong, after "column x of row y", and what can be done.
    pub(crate) fn describe(self) -> (&'static str, &'static str) {
        match self {
            Fault::Absent => (
                "is not in the row image",
                "Set binlog_row_image = FULL on a MySQL or MariaDB source, REPLICA IDENTITY FULL for the table on a PostgreSQL source",
            ),
            Fault::Date => (
                "holds a date that PostgreSQL does not have (zero, partial or out of range)",
                "Correct it at the source, or set the sink's policies.invalid_dates: null",
            ),
            Fault::Nul => (
                "holds the character U+0000, which PostgreSQL text cannot",
                "Correct it at the source, or set the sink's policies.nul_in_text: strip or replace",
            ),
            Fault::Undecodable => (
                "holds bytes that are not valid for its type",
                "Correct it at the source, or set the sink's policies.undecodable_text: replace (text only)",
            ),
            Fault::TooLarge => ("holds a value over PostgreSQL's limit of 1 GB", "Exclude the table"),
            Fault::Mismatch => ("does not hold a value of its type", "Report this: the row image is damaged"),
        }
    }
}

impl Encoder {
    /// Appends a cell: length and value.
    #[inline]
    pub(crate) fn cell(
        &self,
        value: ValueRef<'_>,
        policies: &Policies,
        out: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        match (self, value) {
            (_, ValueRef::Null) => null(out),
            (_, ValueRef::Absent) => return Err(Fault::Absent),
            (_, ValueRef::Undecodable(bytes)) => return self.undecodable(bytes, policies, out),
            (Encoder::Bool, ValueRef::Bool(v)) => fixed(out, [u8::from(v)]),
            (Encoder::Int2, ValueRef::Int(v)) => fixed(out, fit::<i16, _>(v)?.to_be_bytes()),
            (Encoder::Int2, ValueRef::UInt(v)) => fixed(out, fit::<i16, _>(v)?.to_be_bytes()),
            (Encoder::Int4, ValueRef::Int(v)) => fixed(out, fit::<i32, _>(v)?.to_be_bytes()),
            (Encoder::Int4, ValueRef::UInt(v)) => fixed(out, fit::<i32, _>(v)?.to_be_bytes()),
            (Encoder::Int8, ValueRef::Int(v)) => fixed(out, v.to_be_bytes()),
            (Encoder::Int8, ValueRef::UInt(v)) => fixed(out, fit::<i64, _>(v)?.to_be_bytes()),
            (Encoder::Oid, ValueRef::UInt(v)) => fixed(out, fit::<u32, _>(v)?.to_be_bytes()),
            (Encoder::Lsn, ValueRef::UInt(v)) => fixed(out, v.to_be_bytes()),
            (Encoder::Time, ValueRef::Time(Time(us))) => {
                fixed(out, time_of_day(us).ok_or(Fault::Mismatch)?.to_be_bytes());
            }
            (Encoder::Varbit, ValueRef::Bytes(v)) => return varbit(v, out),
            (Encoder::NumericInt, ValueRef::Int(v)) => numeric::push_int(v < 0, v.unsigned_abs(), out),
            (Encoder::NumericInt, ValueRef::UInt(v)) => numeric::push_int(false, v, out),
            (Encoder::Numeric, ValueRef::Decimal(v)) => {
                return numeric::push_text(v.as_bytes(), out).ok_or(Fault::Mismatch);
            }
            (Encoder::Float4, ValueRef::Float32(v)) => fixed(out, v.to_be_bytes()),
            (Encoder::Float8, ValueRef::Float64(v)) => fixed(out, v.to_be_bytes()),
            (Encoder::Float8, ValueRef::Float32(v)) => fixed(out, f64::from(v).to_be_bytes()),
            (Encoder::Date, ValueRef::Date(v)) => return dated(date(v), i32::to_be_bytes, policies, out),
            (Encoder::Timestamp, ValueRef::DateTime(v)) => {
                return dated(datetime(v), i64::to_be_bytes, policies, out);
            }
            (Encoder::Timestamptz, ValueRef::Timestamp(v)) => {
                return dated(timestamp(v), i64::to_be_bytes, policies, out);
            }
            (Encoder::TimeAsInterval, ValueRef::Time(Time(us))) => interval(out, us, 0, 0),
            (Encoder::Interval, ValueRef::Interval(v)) => interval(out, v.micros, v.days, v.months),
            (Encoder::Timetz, ValueRef::TimeTz(Time(us), east_s)) => {
                length(out, 12);
                out.extend_from_slice(&us.to_be_bytes());
                out.extend_from_slice(&(-east_s).to_be_bytes());
            }
            (Encoder::Text, ValueRef::Text(v)) => return text(v, policies, out),
            (Encoder::Jsonb, ValueRef::Text(v)) => return jsonb(v, policies, out),
            (Encoder::Bytea, ValueRef::Bytes(v)) => return bytes(v, out),
            (Encoder::Bit(n), ValueRef::Bytes(v)) => return bit(*n, v, out),
            (Encoder::Enum(labels), ValueRef::Enum(index)) => {
                return text(label(labels, index)?, policies, out);
            }
            (Encoder::Set(labels), ValueRef::Set(bits)) => return set(labels, bits, policies, out),
            (Encoder::Uuid, ValueRef::Bytes(v)) if v.len() == 16 => return bytes(v, out),
            (Encoder::Inet4, ValueRef::Bytes(v)) if v.len() == 4 => inet(out, 2, 32, v),
            (Encoder::Inet6, ValueRef::Bytes(v)) if v.len() == 16 => inet(out, 3, 128, v),
            _ => return Err(Fault::Mismatch),
        }
        Ok(())
    }

    fn undecodable(&self, bytes: &[u8], policies: &Policies, out: &mut Vec<u8>) -> Result<(), Fault> {
        match (self, policies.undecodable) {
            // Only text has this form: a document that cannot be read stays a fault.
            (Encoder::Text, UndecodablePolicy::Replace) => {
                let replaced = undecodable::replace(bytes).ok_or(Fault::Undecodable)?;
                text(&replaced, policies, out)
            }
            _ => Err(Fault::Undecodable),
        }
    }
}

#[inline]
fn length(out: &mut Vec<u8>, n: usize) {
    out.extend_from_slice(&(n as i32).to_be_bytes());
}

#[inline]
fn null(out: &mut Vec<u8>) {
    out.extend_from_slice(&(-1i32).to_be_bytes());
}

#[inline]
fn fixed<const N: usize>(out: &mut Vec<u8>, value: [u8; N]) {
    length(out, N);
    out.extend_from_slice(&value);
}

#[inline]
fn fit<T: TryFrom<V>, V>(value: V) -> Result<T, Fault> {
    T::try_from(value).map_err(|_| Fault::Mismatch)
}

fn interval(out: &mut Vec<u8>, micros: i64, days: i32, months: i32) {
    length(out, 16);
    out.extend_from_slice(&micros.to_be_bytes());
    out.extend_from_slice(&days.to_be_bytes());
    out.extend_from_slice(&months.to_be_bytes());
}

/// A date or time, or what the policy says where there is none.
#[inline]
fn dated<T, const N: usize>(
    value: Option<T>,
    to_bytes: fn(T) -> [u8; N],
    policies: &Policies,
    out: &mut Vec<u8>,
) -> Result<(), Fault> {
    match (value, policies.dates) {
        (Some(value), _) => fixed(out, to_bytes(value)),
        (None, DatePolicy::Null) => null(out),
        (None, DatePolicy::Stop) => return Err(Fault::Date),
    }
    Ok(())
}

fn date(v: Date) -> Option<i32> {
    match v {
        Date::INFINITY => Some(i32::MAX),
        Date::NEG_INFINITY => Some(i32::MIN),
        v => {
            let days = v.days_since_1970()? - EPOCH_DAYS;
            i32::try_from(days).ok().filter(|_| DATE_DAYS.contains(&days))
        }
    }
}

fn datetime(v: DateTime) -> Option<i64> {
    match v {
        DateTime::INFINITY => Some(i64::MAX),
        DateTime::NEG_INFINITY => Some(i64::MIN),
        v => {
            // By days: the last timestamps are beyond 64 bits of microseconds since 1970.
            let (y, m, d) = v.date_parts();
            let days = Date::new(y, m, d)?.days_since_1970()? - EPOCH_DAYS;
            let us = days.checked_mul(MICROS_PER_DAY)?.checked_add(v.micros_of_day())?;
            Some(us).filter(|us| TIMESTAMP_US.contains(us))
        }
    }
}

fn timestamp(v: Timestamp) -> Option<i64> {
    match v {
        Timestamp::INFINITY => Some(i64::MAX),
        Timestamp::NEG_INFINITY => Some(i64::MIN),
        Timestamp::ZERO_DATE => None,
        v => i64::try_from(v.micros_since_1970()? - EPOCH_US).ok().filter(|us| TIMESTAMP_US.contains(us)),
    }
}

#[inline]
fn bytes(v: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
    if v.len() > VALUE_BYTES_MAX {
        return Err(Fault::TooLarge);
    }
    length(out, v.len());
    out.extend_from_slice(v);
    Ok(())
}

#[inline]
fn text(v: &str, policies: &Policies, out: &mut Vec<u8>) -> Result<(), Fault> {
    if v.as_bytes().contains(&0) {
        return text_with_nul(v, policies, out);
    }
    bytes(v.as_bytes(), out)
}

#[cold]
fn text_with_nul(v: &str, policies: &Policies, out: &mut Vec<u8>) -> Result<(), Fault> {
    match policies.nul_in_text {
        NulPolicy::Stop => Err(Fault::Nul),
        NulPolicy::Strip => bytes(v.replace('\0', "").as_bytes(), out),
        NulPolicy::Replace => bytes(v.replace('\0', "\u{2400}").as_bytes(), out),
    }
}

fn jsonb(v: &str, policies: &Policies, out: &mut Vec<u8>) -> Result<(), Fault> {
    let at = out.len();
    text(v, policies, out)?;
    // Version byte 1 before the text, counted in the length.
    let len = out.len() - at - 4 + 1;
    out.insert(at + 4, 1);
    out[at..at + 4].copy_from_slice(&(len as i32).to_be_bytes());
    Ok(())
}

/// 24:00 is the last.
fn time_of_day(us: i64) -> Option<i64> {
    Some(us).filter(|us| (0..=MICROS_PER_DAY).contains(us))
}

/// A cell is padded to whole bytes on the left, PostgreSQL's form on the right.
fn bit(bits: u32, v: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
    let (size, spare) = (bits.div_ceil(8) as usize, (8 - bits % 8) % 8);
    let first = v.first().copied().unwrap_or_default();
    if v.len() != size || u16::from(first) << spare > 0xff {
        return Err(Fault::Mismatch);
    }
    length(out, 4 + size);
    out.extend_from_slice(&bits.to_be_bytes());
    for (byte, after) in v.iter().zip(v.iter().skip(1).chain([&0])) {
        let pair = u16::from_be_bytes([*byte, *after]);
        out.push((pair << spare >> 8) as u8);
    }
    Ok(())
}

fn varbit(v: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
    let bits = fit::<i32, _>(v.len())?;
    length(out, 4 + v.len().div_ceil(8));
    out.extend_from_slice(&bits.to_be_bytes());
    for digits in v.chunks(8) {
        let mut byte = 0;
        for (place, digit) in digits.iter().enumerate() {
            match digit {
                b'0' => {}
                b'1' => byte |= 0x80 >> place,
                _ => return Err(Fault::Mismatch),
            }
        }
        out.push(byte);
    }
    Ok(())
}

/// Index 0 is MySQL's error value, the empty text (M10).
fn label(labels: &[String], index: u16) -> Result<&str, Fault> {
    match index.checked_sub(1) {
        None => Ok(""),
        Some(i) => labels.get(usize::from(i)).map(String::as_str).ok_or(Fault::Mismatch),
    }
}

fn set(labels: &[String], bits: u64, policies: &Policies, out: &mut Vec<u8>) -> Result<(), Fault> {
    if labels.len() < 64 && bits >> labels.len() != 0 {
        return Err(Fault::Mismatch);
    }
    let members: Vec<&str> =
        labels.iter().enumerate().filter(|(i, _)| bits >> i & 1 != 0).map(|(_, l)| l.as_str()).collect();
    text(&members.join(","), policies, out)
}

fn inet(out: &mut Vec<u8>, family: u8, bits: u8, v: &[u8]) {
    length(out, 4 + v.len());
    out.extend_from_slice(&[family, bits, 0, v.len() as u8]);
    out.extend_from_slice(v);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(encoder: &Encoder, value: ValueRef<'_>, policies: &Policies) -> Result<Vec<u8>, Fault> {
        let mut out = Vec::new();
        encoder.cell(value, policies, &mut out).map(|()| out)
    }

    #[test]
    fn m1_dates_without_a_place_follow_the_policy() {
        let stop = Policies::default();
        let null = Policies { dates: DatePolicy::Null, ..stop };
        for (y, m, d) in [(0, 0, 0), (2020, 0, 15), (2020, 2, 31)] {
            let value = ValueRef::Date(Date::new(y, m, d).unwrap());
            assert_eq!(encoded(&Encoder::Date, value, &stop), Err(Fault::Date));
            assert_eq!(encoded(&Encoder::Date, value, &null), Ok(vec![255; 4]));
        }
        let zero = ValueRef::Timestamp(Timestamp::ZERO_DATE);
        assert_eq!(encoded(&Encoder::Timestamptz, zero, &stop), Err(Fault::Date));
    }

    #[test]
    fn g7_nul_in_text_follows_the_policy() {
        let with = |nul_in_text| {
            let policies = Policies { nul_in_text, ..Policies::default() };
            encoded(&Encoder::Text, ValueRef::Text("a\0b"), &policies).map(|v| v[4..].to_vec())
        };
        assert_eq!(with(NulPolicy::Stop), Err(Fault::Nul));
        assert_eq!(with(NulPolicy::Strip).as_deref(), Ok("ab".as_bytes()));
        assert_eq!(with(NulPolicy::Replace).as_deref(), Ok("a␀b".as_bytes()));
    }

    #[test]
    fn m13_undecodable_text_follows_the_policy() {
        let mut cell = "你".as_bytes().to_vec();
        undecodable::mark(b"\xc4\xa4", &mut cell); // As UTF-8 it would be a letter
        cell.push(b'b');
        let replace = Policies { undecodable: UndecodablePolicy::Replace, ..Policies::default() };
        let encode = |encoder: &Encoder, bytes: &[u8], policies: &Policies| {
            encoded(encoder, ValueRef::Undecodable(bytes), policies).map(|v| v[4..].to_vec())
        };
        assert_eq!(encode(&Encoder::Text, &cell, &Policies::default()), Err(Fault::Undecodable));
        assert_eq!(encode(&Encoder::Text, &cell, &replace).as_deref(), Ok("你\u{fffd}b".as_bytes()));
        assert_eq!(encode(&Encoder::Jsonb, &cell, &replace), Err(Fault::Undecodable));
        assert_eq!(encode(&Encoder::Text, b"a\xffb", &replace), Err(Fault::Undecodable), "no text");
    }

    #[test]
    fn m11_bits_are_aligned_to_the_left() {
        let policies = Policies::default();
        let bits =
            |n, v: &[u8]| encoded(&Encoder::Bit(n), ValueRef::Bytes(v), &policies).map(|v| v[8..].to_vec());
        assert_eq!(bits(1, &[1]), Ok(vec![0x80]));
        assert_eq!(bits(10, &[0x02, 0x01]), Ok(vec![0x80, 0x40]));
        assert_eq!(bits(64, &[1, 2, 3, 4, 5, 6, 7, 8]), Ok(vec![1, 2, 3, 4, 5, 6, 7, 8]));
        assert_eq!(bits(10, &[0x04, 0x00]), Err(Fault::Mismatch));
        assert_eq!(bits(10, &[1]), Err(Fault::Mismatch));
        assert_eq!(bits(65, &[1, 0, 0, 0, 0, 0, 0, 0, 1]), Ok(vec![0x80, 0, 0, 0, 0, 0, 0, 0, 0x80]));
        assert_eq!(bits(8, &[0xa5]), Ok(vec![0xa5]));
    }

    #[test]
    fn g4_bits_that_vary_are_texts_of_zeros_and_ones() {
        let bits =
            |v: &'static str| encoded(&Encoder::Varbit, ValueRef::Bytes(v.as_bytes()), &Policies::default());
        assert_eq!(bits(""), Ok(vec![0, 0, 0, 4, 0, 0, 0, 0]));
        assert_eq!(bits("101000011"), Ok(vec![0, 0, 0, 6, 0, 0, 0, 9, 0b1010_0001, 0x80]));
        assert_eq!(bits("12"), Err(Fault::Mismatch));
    }

    #[test]
    fn g2_a_time_of_day_ends_at_midnight() {
        let time = |us| encoded(&Encoder::Time, ValueRef::Time(Time(us)), &Policies::default());
        assert!(time(0).is_ok() && time(MICROS_PER_DAY).is_ok());
        assert_eq!((time(-1), time(MICROS_PER_DAY + 1)), (Err(Fault::Mismatch), Err(Fault::Mismatch)));
    }

    #[test]
    fn m10_enum_and_set_members() {
        let labels: Arc<[String]> = Arc::from(["a".to_owned(), "b,'c".to_owned()]);
        let policies = Policies::default();
        let text = |encoder: &Encoder, value| encoded(encoder, value, &policies).map(|v| v[4..].to_vec());
        let (e, s) = (Encoder::Enum(labels.clone()), Encoder::Set(labels));
        assert_eq!(text(&e, ValueRef::Enum(0)).as_deref(), Ok("".as_bytes()));
        assert_eq!(text(&e, ValueRef::Enum(2)).as_deref(), Ok("b,'c".as_bytes()));
        assert_eq!(text(&e, ValueRef::Enum(3)), Err(Fault::Mismatch));
        assert_eq!(text(&s, ValueRef::Set(3)).as_deref(), Ok("a,b,'c".as_bytes()));
        assert_eq!(text(&s, ValueRef::Set(4)), Err(Fault::Mismatch));
    }
}
