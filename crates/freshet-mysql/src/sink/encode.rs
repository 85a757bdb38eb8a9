//! A cell as a literal of SQL: exact, whatever the value, for sessions as `session.rs` makes them.
//!
//! Floats are written with the fewest digits that give the same bits (a minus zero
//! keeps its sign), bytes and text quoted with the connection's backslash escapes, enums and sets by number, so that no
//! label is looked up. What has no place on the target is a [`Fault`]; no message holds a value.

use crate::sink::json;
use crate::sink::options::{DatePolicy, Policies, UndecodablePolicy};
use freshet_core::temporal::{Date, DateTime, Interval, Time, Timestamp};
use freshet_core::{ValueRef, undecodable};
use std::fmt::Display;
use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The largest `time` of the servers, in microseconds: 838:59:59.
const TIME_MICROS_MAX: i64 = 3_020_399_999_999;

/// How cells of a column are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Encoder {
    /// Integers, booleans, years and what else is a number.
    Number,
    /// IEEE numbers; NaN and infinities have no place.
    Float,
    /// An exact decimal into a DECIMAL; NaN and infinities have no place.
    Decimal,
    /// A decimal's own text.
    DecimalText,
    Date,
    Time,
    DateTime,
    /// An instant, in UTC.
    Timestamp,
    /// PostgreSQL's interval as it reads it: `14 mons -3 days 01:02:03`.
    Interval,
    TimeTz,
    Text,
    /// JSON into a type of its own, whose numbers are doubles.
    Json,
    Bytes,
    /// As `x'..'`: types that are no strings take their bytes like this.
    Hex,
    /// Bits as a number.
    Bit,
    /// Bits as their digits: so many, or as many as there are where the digits are what came (`bit varying`).
    BitText(Option<u32>),
    Enum,
    EnumText(Vec<String>),
    Set,
    SetText(Vec<String>),
    Uuid,
    Inet,
}

/// Why a cell cannot be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A date or time outside of the type.
    Date,
    /// NaN or an infinity.
    NotANumber,
    /// Text that is none in its character set.
    Undecodable,
    /// NULL, where the target would store a value of its own instead.
    Null,
    /// A value that the image lacks where one is needed.
    Absent,
    /// A number in JSON that the target's numbers do not stand for.
    JsonNumber,
    /// A cell that is no value of its column's type.
    Kind,
    /// A row that the server does not take in one request; of no column.
    TooLong,
    /// An image that cannot be read.
    Image(String),
}

impl Fault {
    pub(crate) fn text(&self) -> String {
        match self {
            Fault::Date => "a date or time that the target's type has no place for".to_owned(),
            Fault::NotANumber => "NaN or an infinity, which the target has no place for".to_owned(),
            Fault::Undecodable => "text that is not valid in its own character set".to_owned(),
            Fault::Null => "NULL, for which the target column would take a value of its own".to_owned(),
            Fault::Absent => "no value, where one is needed".to_owned(),
            Fault::JsonNumber => "JSON with a number of more digits than the target keeps".to_owned(),
            Fault::Kind => "a value of another type than its column".to_owned(),
            Fault::TooLong => "more than max_allowed_packet of the target".to_owned(),
            Fault::Image(why) => why.clone(),
        }
    }

    /// The next step, if there is one.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Fault::Date => Some("Set policies.invalid_dates: null, or mend the value on the source"),
            Fault::NotANumber => Some("Mend the value on the source, or exclude the column"),
            Fault::JsonNumber => Some("Make the target column longtext, or exclude the column"),
            Fault::Undecodable => Some("Set policies.undecodable: replace, or mend the value on the source"),
            Fault::Null => Some("Let the target column be NULL, and not AUTO_INCREMENT"),
            Fault::Absent | Fault::Kind | Fault::TooLong | Fault::Image(_) => None,
        }
    }
}

/// What the target's session must do for a value beside storing it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Leniency {
    /// Enums' error value (index 0, `''`), which strict mode refuses and each of which makes one warning.
    pub zero_enums: u32,
}

impl Leniency {
    pub(crate) fn is_lenient(self) -> bool {
        self != Self::default()
    }
}

impl Encoder {
    /// Appends the literal of a cell.
    pub(crate) fn literal(
        &self,
        cell: ValueRef<'_>,
        policies: &Policies,
        leniency: &mut Leniency,
        out: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        match cell {
            ValueRef::Null => out.extend_from_slice(b"NULL"),
            ValueRef::Absent => return Err(Fault::Absent),
            ValueRef::Undecodable(bytes) => return self.undecodable(bytes, policies, out),
            ValueRef::Enum(0) if *self == Encoder::Enum => {
                leniency.zero_enums += 1;
                out.push(b'0');
            }
            cell => match self.value(cell, out) {
                Err(Fault::Date) if policies.dates == DatePolicy::Null => out.extend_from_slice(b"NULL"),
                other => return other,
            },
        }
        Ok(())
    }

    fn undecodable(&self, bytes: &[u8], policies: &Policies, out: &mut Vec<u8>) -> Result<(), Fault> {
        let text = undecodable::replace(bytes).filter(|_| *self == Encoder::Text);
        match (policies.undecodable, text) {
            (UndecodablePolicy::Replace, Some(text)) => quote(text.as_bytes(), out),
            _ => return Err(Fault::Undecodable),
        }
        Ok(())
    }

    fn value(&self, cell: ValueRef<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
        use Encoder as E;
        use ValueRef as V;
        match (self, cell) {
            (E::Number, V::Bool(b)) => put(out, u8::from(b)),
            (E::Number, V::Int(n)) => put(out, n),
            (E::Number, V::UInt(n)) => put(out, n),
            (E::Float, V::Float32(f)) => return float(f64::from(f), out),
            (E::Float, V::Float64(f)) => return float(f, out),
            (E::Decimal, V::Decimal(text)) if is_number(text) => out.extend_from_slice(text.as_bytes()),
            (E::Decimal, V::Decimal(_)) => return Err(Fault::NotANumber),
            (E::DecimalText, V::Decimal(text)) | (E::Text, V::Text(text)) => quote(text.as_bytes(), out),
            (E::Json, V::Text(text)) => return json::literal(text, out),
            (E::Date, V::Date(date)) => return day(date, out),
            (E::Time, V::Time(time)) => return span(time, out),
            (E::DateTime, V::DateTime(moment)) => return self::moment(moment, out),
            (E::Timestamp, V::Timestamp(instant)) => return self::instant(instant, out),
            (E::Interval, V::Interval(span)) => put_quoted(out, interval(span)),
            (E::TimeTz, V::TimeTz(time, zone)) => put_quoted(out, time_tz(time, zone)),
            (E::Bytes, V::Bytes(bytes)) => {
                out.extend_from_slice(b"_binary");
                quote(bytes, out);
            }
            (E::Hex, V::Bytes(bytes)) => hex(bytes, out),
            (E::Bit, V::Bytes(bytes)) => return bits(bytes, out),
            (E::BitText(None), V::Bytes(digits)) => quote(digits, out),
            (E::BitText(Some(length)), V::Bytes(bytes)) => return bit_digits(*length, bytes, out),
            (E::Enum, V::Enum(index)) => put(out, index),
            (E::EnumText(labels), V::Enum(index)) => return label(labels, index, out),
            (E::Set, V::Set(bits)) => put(out, bits),
            (E::SetText(labels), V::Set(bits)) => set_text(labels, bits, out),
            (E::Uuid, V::Bytes(bytes)) => return uuid(bytes, out),
            (E::Inet, V::Bytes(bytes)) => return inet(bytes, out),
            _ => return Err(Fault::Kind),
        }
        Ok(())
    }
}

/// Appends what prints; writing to memory cannot fail.
fn put(out: &mut Vec<u8>, value: impl Display) {
    let _ = write!(out, "{value}");
}

fn put_quoted(out: &mut Vec<u8>, value: impl Display) {
    let _ = write!(out, "'{value}'");
}

/// A string between quotes. Bytes of characters of several bytes are never a quote or a backslash in UTF-8.
pub(crate) fn quote(bytes: &[u8], out: &mut Vec<u8>) {
    out.reserve(bytes.len() + 2);
    out.push(b'\'');
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|b| matches!(b, b'\'' | b'\\' | 0)) {
        out.extend_from_slice(&rest[..at]);
        out.push(b'\\');
        out.push(if rest[at] == 0 { b'0' } else { rest[at] });
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'\'');
}

/// The last bits of these bytes, first bit first.
fn bit_digits(length: u32, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
    let Some(padding) = (bytes.len() * 8).checked_sub(length as usize) else { return Err(Fault::Kind) };
    out.push(b'\'');
    let bits = bytes.iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1));
    out.extend(bits.skip(padding).map(|bit| b'0' + bit));
    out.push(b'\'');
    Ok(())
}

fn hex(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend_from_slice(b"x'");
    for byte in bytes {
        out.extend_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
    out.push(b'\'');
}

/// The literal that `hex()` gives for the bytes of an `x'..'`.
pub(crate) fn hex_upper(literal: &[u8]) -> Vec<u8> {
    literal.iter().filter(|b| **b != b'x').map(u8::to_ascii_uppercase).collect()
}

/// `{:e}` gives the fewest digits that are read back as the same number, and always an exponent, which makes the
/// literal a double. Minus zero goes as text, so that the minus is no operator; MariaDB has none
/// and stores 0.
fn float(f: f64, out: &mut Vec<u8>) -> Result<(), Fault> {
    if !f.is_finite() {
        return Err(Fault::NotANumber);
    }
    match f == 0.0 && f.is_sign_negative() {
        true => out.extend_from_slice(b"'-0e0'"),
        false => put(out, format_args!("{f:e}")),
    }
    Ok(())
}

fn is_number(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'.'))
}

fn day(date: Date, out: &mut Vec<u8>) -> Result<(), Fault> {
    if date == Date::INFINITY || date == Date::NEG_INFINITY || !(0..=9999).contains(&date.parts().0) {
        return Err(Fault::Date);
    }
    put_quoted(out, date);
    Ok(())
}

fn moment(moment: DateTime, out: &mut Vec<u8>) -> Result<(), Fault> {
    let is_infinite = moment == DateTime::INFINITY || moment == DateTime::NEG_INFINITY;
    if is_infinite || !(0..=9999).contains(&moment.date_parts().0) {
        return Err(Fault::Date);
    }
    put_quoted(out, moment);
    Ok(())
}

fn instant(instant: Timestamp, out: &mut Vec<u8>) -> Result<(), Fault> {
    if instant == Timestamp::ZERO_DATE {
        put_quoted(out, "0000-00-00 00:00:00");
        return Ok(());
    }
    if !instant.is_instant() {
        return Err(Fault::Date);
    }
    moment(DateTime::from_micros_since_1970(instant.0).ok_or(Fault::Date)?, out)
}

fn span(time: Time, out: &mut Vec<u8>) -> Result<(), Fault> {
    if time.0.unsigned_abs() > TIME_MICROS_MAX as u64 {
        return Err(Fault::Date);
    }
    put_quoted(out, time);
    Ok(())
}

fn interval(span: Interval) -> String {
    format!("{} mons {} days {}", span.months, span.days, Time(span.micros))
}

fn time_tz(time: Time, zone_s: i32) -> String {
    let (sign, zone) = (if zone_s < 0 { '-' } else { '+' }, zone_s.unsigned_abs());
    let (h, m, s) = (zone / 3600, zone / 60 % 60, zone % 60);
    let seconds = if s == 0 { String::new() } else { format!(":{s:02}") };
    format!("{time}{sign}{h:02}:{m:02}{seconds}")
}

fn bits(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
    if bytes.len() > 8 {
        return Err(Fault::Kind);
    }
    put(out, bytes.iter().fold(0u64, |bits, byte| bits << 8 | u64::from(*byte)));
    Ok(())
}

fn label(labels: &[String], index: u16, out: &mut Vec<u8>) -> Result<(), Fault> {
    let text = match index {
        0 => "",
        index => labels.get(usize::from(index) - 1).ok_or(Fault::Kind)?,
    };
    quote(text.as_bytes(), out);
    Ok(())
}

/// A set's number as the literal of its members.
pub(crate) fn members(labels: &[String], literal: &[u8]) -> Vec<u8> {
    let number = std::str::from_utf8(literal).ok().and_then(|text| text.parse().ok());
    let mut out = Vec::new();
    set_text(labels, number.unwrap_or_default(), &mut out);
    out
}

fn set_text(labels: &[String], bits: u64, out: &mut Vec<u8>) {
    let members = labels.iter().take(64).enumerate().filter(|(at, _)| bits >> at & 1 == 1);
    let text: Vec<&str> = members.map(|(_, label)| label.as_str()).collect();
    quote(text.join(",").as_bytes(), out);
}

fn uuid(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
    let bytes: [u8; 16] = bytes.try_into().map_err(|_| Fault::Kind)?;
    put_quoted(out, freshet_core::gtid::Uuid(bytes));
    Ok(())
}

fn inet(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        put_quoted(out, Ipv4Addr::from(v4));
    } else {
        let v6: [u8; 16] = bytes.try_into().map_err(|_| Fault::Kind)?;
        put_quoted(out, Ipv6Addr::from(v6));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(encoder: &Encoder, cell: ValueRef<'_>, expect: &str) {
        let (mut out, mut leniency) = (Vec::new(), Leniency::default());
        encoder.literal(cell, &Policies::default(), &mut leniency, &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), expect);
    }

    #[test]
    fn m5_floats_keep_every_bit_and_their_sign() {
        check(&Encoder::Float, ValueRef::Float64(-0.0), "'-0e0'");
        check(&Encoder::Float, ValueRef::Float32(0.1), "1.0000000149011612e-1");
        for f in [f64::MAX, f64::MIN_POSITIVE, 5e-324, 0.1, 1.0 / 3.0] {
            let mut out = Vec::new();
            float(f, &mut out).unwrap();
            let read: f64 = String::from_utf8(out).unwrap().parse().unwrap();
            assert_eq!(read.to_bits(), f.to_bits());
        }
        assert_eq!(float(f64::NAN, &mut Vec::new()), Err(Fault::NotANumber));
    }

    #[test]
    fn strings_are_quoted() {
        check(&Encoder::Text, ValueRef::Text("it's a \\ and \0"), r"'it\'s a \\ and \0'");
        let mut out = Vec::new();
        quote(b"'\xff", &mut out);
        assert_eq!(out, b"'\\'\xff'");
    }

    #[test]
    fn types_of_postgresql_have_a_stated_form() {
        let span = Interval { months: -13, days: 2, micros: -3 };
        check(&Encoder::Interval, ValueRef::Interval(span), "'-13 mons 2 days -00:00:00.000003'");
        check(&Encoder::TimeTz, ValueRef::TimeTz(Time(3_661_000_000), -5400), "'01:01:01-01:30'");
        check(&Encoder::Bit, ValueRef::Bytes(&[2, 1]), "513");
        check(&Encoder::BitText(Some(10)), ValueRef::Bytes(&[2, 1]), "'1000000001'");
        check(&Encoder::BitText(Some(8)), ValueRef::Bytes(&[5]), "'00000101'");
        check(&Encoder::BitText(None), ValueRef::Bytes(b"101"), "'101'");
        assert_eq!(day(Date::INFINITY, &mut Vec::new()), Err(Fault::Date));
    }
}
