//! PostgreSQL's binary field form turned into cells: what `COPY ... (FORMAT binary)` sends for a loaded row.
//!
//! Not the stream's form, which is text (`text`); both must leave the same bytes in the batch for the same value,
//! so what has several forms is brought into one here: a NaN is the one NaN, a decimal has the digits that the
//! server prints. Types without a decoder here ([`has_decoder`]) are sent as the text that their output function
//! makes. No IO; every read is checked, and an error says what is wrong with the value but never the value.

use freshet_core::codec::RowWriter;
use freshet_core::temporal::{Date, DateTime, Interval, MICROS_PER_DAY, Time, Timestamp};
use freshet_core::types::DataType;

/// Microseconds from 1970-01-01 to 2000-01-01, PostgreSQL's epoch.
const EPOCH_US: i128 = 946_684_800_000_000;
/// The same in days.
const EPOCH_DAYS: i64 = 10_957;

const SIGN_POSITIVE: u16 = 0x0000;
const SIGN_NEGATIVE: u16 = 0x4000;
const SIGN_NAN: u16 = 0xC000;
const SIGN_INFINITY: u16 = 0xD000;
const SIGN_NEG_INFINITY: u16 = 0xF000;

/// Why a field is no value of its column's type. Says nothing of the value itself (O10).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadValue {
    /// Another number of bytes than the type has.
    #[error("its value has another length than its type")]
    Length,
    /// Bytes that the type's form does not know.
    #[error("its value is not in the form of its type")]
    Form,
    /// A date, time or number that a cell has no place for.
    #[error("its value is out of the range that can be carried")]
    OutOfRange,
    /// PostgreSQL has no such type.
    #[error("its type is not one of PostgreSQL's")]
    NoType,
}

/// Whether the binary form of this type is read here; else the server is to send the text form.
pub(crate) fn has_decoder(data_type: &DataType) -> bool {
    !matches!(data_type, DataType::Array { .. } | DataType::Named { .. })
}

/// Writes fields as cells; keeps the room that a decimal or a bit string is put together in.
#[derive(Debug, Default)]
pub(crate) struct BinaryCells {
    scratch: Vec<u8>,
}

impl BinaryCells {
    /// Writes the next cell of `out`, which must be of this type. `None` is NULL.
    #[inline]
    pub(crate) fn write(
        &mut self,
        data_type: &DataType,
        field: Option<&[u8]>,
        out: &mut RowWriter<'_>,
    ) -> Result<(), BadValue> {
        let Some(field) = field else {
            out.null();
            return Ok(());
        };
        match data_type {
            DataType::Bool => out.bool(boolean(field)?),
            DataType::Int { bits: 16, .. } => fits(out.int(i16::from_be_bytes(exact(field)?).into()))?,
            DataType::Int { bits: 32, .. } => fits(out.int(i32::from_be_bytes(exact(field)?).into()))?,
            DataType::Int { bits: 64, .. } => fits(out.int(i64::from_be_bytes(exact(field)?)))?,
            DataType::Float32 => out.float32(one_nan32(f32::from_be_bytes(exact(field)?))),
            DataType::Float64 => out.float64(one_nan64(f64::from_be_bytes(exact(field)?))),
            DataType::Decimal { .. } => out.decimal(self.numeric(field)?),
            DataType::Date => out.date(date(i32::from_be_bytes(exact(field)?))?),
            DataType::Time { .. } => out.time(time(i64::from_be_bytes(exact(field)?))?),
            DataType::TimeTz { .. } => {
                let (us, west_s) = halves::<8, 4>(field)?;
                let zone_s = i32::from_be_bytes(west_s).checked_neg().ok_or(BadValue::OutOfRange)?;
                out.time_tz(time(i64::from_be_bytes(us))?, zone_s);
            }
            DataType::DateTime { .. } => out.datetime(datetime(i64::from_be_bytes(exact(field)?))?),
            DataType::Timestamp { .. } => out.timestamp(timestamp(i64::from_be_bytes(exact(field)?))?),
            DataType::Interval => out.interval(interval(field)?),
            DataType::Bit { varying, .. } => out.bytes(self.bits(field, *varying)?),
            DataType::Json { binary: true } => out.text(text(document(field)?)?),
            DataType::Text { .. }
            | DataType::Json { binary: false }
            | DataType::Array { .. }
            | DataType::Named { .. } => out.text(text(field)?),
            DataType::Bytes { .. } => out.bytes(field),
            DataType::Uuid => fits(out.fixed_bytes(field))?,
            DataType::Money => fits(out.int(i64::from_be_bytes(exact(field)?)))?,
            DataType::Oid => fits(out.uint(u32::from_be_bytes(exact(field)?).into()))?,
            DataType::Lsn => fits(out.uint(u64::from_be_bytes(exact(field)?)))?,
            DataType::Int { .. }
            | DataType::Year
            | DataType::Enum { .. }
            | DataType::Set { .. }
            | DataType::Inet4
            | DataType::Inet6
            | DataType::Geometry { .. }
            | DataType::Vector { .. } => return Err(BadValue::NoType),
        }
        Ok(())
    }

    /// The text that the server prints for a `numeric`: number of digits u16, weight of the first i16 (in groups of
    /// four), sign u16, digits after the point u16, then the groups, u16 each.
    fn numeric(&mut self, field: &[u8]) -> Result<&str, BadValue> {
        let (header, groups) = field.split_at_checked(8).ok_or(BadValue::Length)?;
        let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let (count, weight, sign, scale) = (word(0), word(2) as i16, word(4), word(6));
        if groups.len() != usize::from(count) * 2 {
            return Err(BadValue::Length);
        }
        match sign {
            SIGN_NAN => return Ok("NaN"),
            SIGN_INFINITY => return Ok("Infinity"),
            SIGN_NEG_INFINITY => return Ok("-Infinity"),
            SIGN_POSITIVE | SIGN_NEGATIVE => {}
            _ => return Err(BadValue::Form),
        }
        self.scratch.clear();
        if sign == SIGN_NEGATIVE {
            self.scratch.push(b'-');
        }
        self.push_digits(groups, i32::from(weight), usize::from(scale))?;
        std::str::from_utf8(&self.scratch).map_err(|_| BadValue::Form)
    }

    /// Groups at places beyond those that are there are zero, on both sides.
    fn push_digits(&mut self, groups: &[u8], weight: i32, scale: usize) -> Result<(), BadValue> {
        let group = |place: i32| -> Result<u16, BadValue> {
            let at = usize::try_from(place).ok().and_then(|place| place.checked_mul(2));
            let word =
                at.and_then(|at| groups.get(at..at + 2)).map_or(0, |b| u16::from_be_bytes([b[0], b[1]]));
            if word < 10_000 { Ok(word) } else { Err(BadValue::Form) }
        };
        let whole = self.scratch.len();
        for place in 0..=weight {
            push_group(group(place)?, &mut self.scratch);
        }
        let zeros = self.scratch[whole..].iter().take_while(|digit| **digit == b'0').count();
        self.scratch.drain(whole..whole + zeros);
        if self.scratch.len() == whole {
            self.scratch.push(b'0');
        }
        if scale > 0 {
            self.scratch.push(b'.');
            let end = self.scratch.len() + scale;
            for place in (weight + 1)..=(weight + scale.div_ceil(4) as i32) {
                push_group(group(place)?, &mut self.scratch);
            }
            self.scratch.truncate(end);
        }
        Ok(())
    }

    /// PostgreSQL fills the last byte up at its end. A `bit(n)` cell is filled up at its beginning, as MySQL's is;
    /// a `varbit` cell is text.
    fn bits(&mut self, field: &[u8], varying: bool) -> Result<&[u8], BadValue> {
        let (count, packed) = field.split_at_checked(4).ok_or(BadValue::Length)?;
        let count = usize::try_from(u32::from_be_bytes(exact(count)?)).map_err(|_| BadValue::Length)?;
        if packed.len() != count.div_ceil(8) {
            return Err(BadValue::Length);
        }
        self.scratch.clear();
        if varying {
            let digit = |at: usize| b'0' + (packed[at / 8] >> (7 - at % 8) & 1);
            self.scratch.extend((0..count).map(digit));
            return Ok(&self.scratch);
        }
        let shift = (8 - count % 8) % 8;
        let mut before = 0u16;
        for byte in packed {
            before = before << 8 | u16::from(*byte);
            self.scratch.push((before >> shift) as u8);
        }
        Ok(&self.scratch)
    }
}

#[inline]
fn push_group(group: u16, out: &mut Vec<u8>) {
    let digit = |by: u16| b'0' + (group / by % 10) as u8;
    out.extend_from_slice(&[digit(1000), digit(100), digit(10), digit(1)]);
}

#[inline]
fn exact<const N: usize>(field: &[u8]) -> Result<[u8; N], BadValue> {
    field.try_into().map_err(|_| BadValue::Length)
}

fn halves<const A: usize, const B: usize>(field: &[u8]) -> Result<([u8; A], [u8; B]), BadValue> {
    let (a, b) = field.split_at_checked(A).ok_or(BadValue::Length)?;
    Ok((exact(a)?, exact(b)?))
}

fn fits(yes: bool) -> Result<(), BadValue> {
    if yes { Ok(()) } else { Err(BadValue::OutOfRange) }
}

/// The server refuses to send what is no UTF-8, also out of a database in SQL_ASCII (G7).
#[inline]
fn text(field: &[u8]) -> Result<&str, BadValue> {
    std::str::from_utf8(field).map_err(|_| BadValue::Form)
}

fn boolean(field: &[u8]) -> Result<bool, BadValue> {
    match field {
        [0] => Ok(false),
        [1] => Ok(true),
        [_] => Err(BadValue::Form),
        _ => Err(BadValue::Length),
    }
}

/// The text form of a NaN has no payload and no sign, so the cell has none either.
fn one_nan32(v: f32) -> f32 {
    if v.is_nan() { f32::NAN } else { v }
}

fn one_nan64(v: f64) -> f64 {
    if v.is_nan() { f64::NAN } else { v }
}

fn date(days: i32) -> Result<Date, BadValue> {
    match days {
        i32::MIN => Ok(Date::NEG_INFINITY),
        i32::MAX => Ok(Date::INFINITY),
        days => Date::from_days_since_1970(i64::from(days) + EPOCH_DAYS).ok_or(BadValue::OutOfRange),
    }
}

/// 00:00 to 24:00, both included.
fn time(us: i64) -> Result<Time, BadValue> {
    if (0..=MICROS_PER_DAY).contains(&us) { Ok(Time(us)) } else { Err(BadValue::OutOfRange) }
}

fn datetime(us: i64) -> Result<DateTime, BadValue> {
    match us {
        i64::MIN => Ok(DateTime::NEG_INFINITY),
        i64::MAX => Ok(DateTime::INFINITY),
        us => {
            // By days: the last timestamps are beyond 64 bits of microseconds since 1970.
            let days = us.div_euclid(MICROS_PER_DAY) + EPOCH_DAYS;
            let (y, m, d) = Date::from_days_since_1970(days).ok_or(BadValue::OutOfRange)?.parts();
            DateTime::new(y, m, d, us.rem_euclid(MICROS_PER_DAY)).ok_or(BadValue::OutOfRange)
        }
    }
}

fn timestamp(us: i64) -> Result<Timestamp, BadValue> {
    match us {
        i64::MIN => Ok(Timestamp::NEG_INFINITY),
        i64::MAX => Ok(Timestamp::INFINITY),
        us => Timestamp::from_micros_since_1970(i128::from(us) + EPOCH_US).ok_or(BadValue::OutOfRange),
    }
}

fn interval(field: &[u8]) -> Result<Interval, BadValue> {
    let (micros, rest) = field.split_at_checked(8).ok_or(BadValue::Length)?;
    let (days, months) = halves::<4, 4>(rest)?;
    let parts = (i32::from_be_bytes(months), i32::from_be_bytes(days), i64::from_be_bytes(exact(micros)?));
    // From PostgreSQL 17 on these two are infinities, which a cell has no place for: elsewhere they would be finite.
    if parts == (i32::MAX, i32::MAX, i64::MAX) || parts == (i32::MIN, i32::MIN, i64::MIN) {
        return Err(BadValue::OutOfRange);
    }
    let (months, days, micros) = parts;
    Ok(Interval { months, days, micros })
}

/// The text of a `jsonb`, behind the number of its form.
fn document(field: &[u8]) -> Result<&[u8], BadValue> {
    match field.split_first() {
        Some((1, text)) => Ok(text),
        Some(_) => Err(BadValue::Form),
        None => Err(BadValue::Length),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g3_numeric_as_the_server_strips_it() {
        let numeric = |words: &[u16]| {
            let field: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
            BinaryCells::default().numeric(&field).map(str::to_owned)
        };
        assert_eq!(numeric(&[0, 0, 0, 3]).as_deref(), Ok("0.000"));
        assert_eq!(numeric(&[1, 2, 0, 0, 12]).as_deref(), Ok("1200000000"));
        assert_eq!(numeric(&[1, (-2i16) as u16, 0, 6, 7500]).as_deref(), Ok("0.000075"));
        assert_eq!(numeric(&[1, 0, 0, 2, 5]).as_deref(), Ok("5.00"));
        assert_eq!(numeric(&[4, 1, 0x4000, 6, 1, 2345, 6789, 10]).as_deref(), Ok("-12345.678900"));
        assert_eq!(numeric(&[2, 1, 0, 0, 0, 12]).as_deref(), Ok("12"));
        assert_eq!(numeric(&[0, 0, 0, 0]).as_deref(), Ok("0"));
        assert_eq!(numeric(&[0, 0, 0xC000, 0]).as_deref(), Ok("NaN"));
        assert_eq!(numeric(&[0, 0, 0xF000, 0x20]).as_deref(), Ok("-Infinity"));
        assert_eq!(numeric(&[1, 0, 0, 0, 10_000]), Err(BadValue::Form));
        assert_eq!(numeric(&[2, 0, 0, 0, 1]), Err(BadValue::Length));
        assert_eq!(numeric(&[0, 0, 1, 0]), Err(BadValue::Form));
    }

    #[test]
    fn g4_bits_are_filled_up_where_the_cell_wants_it() {
        let bits = |count: u32, packed: &[u8], varying| {
            let field = [&count.to_be_bytes()[..], packed].concat();
            BinaryCells::default().bits(&field, varying).map(<[u8]>::to_vec)
        };
        assert_eq!(bits(1, &[0x80], false), Ok(vec![1]));
        assert_eq!(bits(10, &[0x80, 0x40], false), Ok(vec![0x02, 0x01]));
        assert_eq!(bits(16, &[0xAB, 0xCD], false), Ok(vec![0xAB, 0xCD]));
        assert_eq!(bits(10, &[0x80, 0x40], true), Ok(b"1000000001".to_vec()));
        assert_eq!(bits(0, &[], true), Ok(vec![]));
        assert_eq!(bits(9, &[0x80], false), Err(BadValue::Length));
    }

    #[test]
    fn g2_ends_of_the_ranges() {
        assert_eq!(date(i32::MAX), Ok(Date::INFINITY));
        assert_eq!(date(-2_451_545).map(Date::parts), Ok((-4713, 11, 24)));
        assert_eq!(date(2_145_031_948).map(Date::parts), Ok((5_874_897, 12, 31)));
        let last = datetime(9_223_371_331_199_999_999).expect("the server's last timestamp");
        assert_eq!(last.to_string(), "294276-12-31 23:59:59.999999");
        let first = datetime(-211_813_488_000_000_000).expect("the server's first timestamp");
        assert_eq!(first.date_parts(), (-4713, 11, 24));
        let last = timestamp(9_223_371_331_199_999_999).expect("the server's last instant");
        assert_eq!(last.to_string(), "294276-12-31 23:59:59.999999Z");
        assert_eq!(timestamp(i64::MAX), Ok(Timestamp::INFINITY));
        let span = |micros: i64, days: i32, months: i32| {
            interval(&[&micros.to_be_bytes()[..], &days.to_be_bytes(), &months.to_be_bytes()].concat())
        };
        assert_eq!(span(i64::MAX, i32::MAX, i32::MAX), Err(BadValue::OutOfRange), "an infinity");
        assert_eq!(span(i64::MIN, i32::MIN, i32::MIN), Err(BadValue::OutOfRange), "an infinity");
        assert_eq!(span(i64::MAX, 0, 0), Ok(Interval { months: 0, days: 0, micros: i64::MAX }));
        assert_eq!(time(MICROS_PER_DAY), Ok(Time(MICROS_PER_DAY)));
        assert_eq!(time(MICROS_PER_DAY + 1), Err(BadValue::OutOfRange));
    }
}
