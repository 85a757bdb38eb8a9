//! Which value of the target a cell becomes: exact, whatever the value, for sessions as `session.rs` makes them.
//!
//! Not how a value is spelled, in a statement or in a bulk execution: that is `form.rs`. Enums and sets go by number, so
//! that no label is looked up. What has no place on the target is a [`Fault`]; no message holds a value.

use crate::sink::form::{Form, Literal};
use crate::sink::json;
use crate::sink::options::{DatePolicy, Policies, UndecodablePolicy};
use crate::wire::BulkType;
use freshet_core::temporal::{Date, DateTime, Interval, Time, Timestamp};
use freshet_core::{DataType, ValueRef, undecodable};
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
            Fault::Undecodable => {
                Some("Set policies.undecodable_text: replace, or mend the value on the source")
            }
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
    /// Writes a cell; whether as NULL.
    pub(crate) fn write(
        &self,
        cell: ValueRef<'_>,
        policies: &Policies,
        leniency: &mut Leniency,
        form: &mut impl Form,
    ) -> Result<bool, Fault> {
        match cell {
            ValueRef::Null => {
                form.null();
                return Ok(true);
            }
            ValueRef::Absent => return Err(Fault::Absent),
            ValueRef::Undecodable(bytes) => self.undecodable(bytes, policies, form)?,
            ValueRef::Enum(0) if *self == Encoder::Enum => {
                leniency.zero_enums += 1;
                form.uint(0)?;
            }
            cell => match self.value(cell, form) {
                Err(Fault::Date) if policies.dates == DatePolicy::Null => {
                    form.null();
                    return Ok(true);
                }
                other => other?,
            },
        }
        Ok(false)
    }

    /// How values of a column of this type of the source go in a bulk execution; `None` if they need an expression, or
    /// are of a type that is no string.
    pub(crate) fn bulk_type(&self, source: &DataType) -> Option<BulkType> {
        use Encoder as E;
        Some(match self {
            E::Number => match source {
                DataType::Int { unsigned: false, .. } | DataType::Money => BulkType::Signed,
                _ => BulkType::Unsigned,
            },
            E::Bit | E::Enum | E::Set => BulkType::Unsigned,
            E::Float => BulkType::Double,
            E::Decimal => BulkType::Decimal,
            E::Bytes => BulkType::Bytes,
            E::Json | E::Hex => return None,
            E::DecimalText
            | E::Date
            | E::Time
            | E::DateTime
            | E::Timestamp
            | E::Interval
            | E::TimeTz
            | E::Text
            | E::BitText(_)
            | E::EnumText(_)
            | E::SetText(_)
            | E::Uuid
            | E::Inet => BulkType::Text,
        })
    }

    fn undecodable(&self, bytes: &[u8], policies: &Policies, form: &mut impl Form) -> Result<(), Fault> {
        let text = undecodable::replace(bytes).filter(|_| *self == Encoder::Text);
        match (policies.undecodable, text) {
            (UndecodablePolicy::Replace, Some(text)) => form.text(text.as_bytes()),
            _ => return Err(Fault::Undecodable),
        }
        Ok(())
    }

    fn value(&self, cell: ValueRef<'_>, form: &mut impl Form) -> Result<(), Fault> {
        use Encoder as E;
        use ValueRef as V;
        match (self, cell) {
            (E::Number, V::Bool(b)) => return form.uint(u64::from(b)),
            (E::Number, V::Int(n)) => return form.int(n),
            (E::Number, V::UInt(n)) => return form.uint(n),
            (E::Float, V::Float32(f)) => return float(f64::from(f), form),
            (E::Float, V::Float64(f)) => return float(f, form),
            (E::Decimal, V::Decimal(text)) if is_number(text) => form.decimal(text),
            (E::Decimal, V::Decimal(_)) => return Err(Fault::NotANumber),
            (E::DecimalText, V::Decimal(text)) | (E::Text, V::Text(text)) => form.text(text.as_bytes()),
            (E::Json, V::Text(text)) => return form.expression(&json::literal(text)?),
            (E::Date, V::Date(date)) => return day(date, form),
            (E::Time, V::Time(time)) => return span(time, form),
            (E::DateTime, V::DateTime(moment)) => return self::moment(moment, form),
            (E::Timestamp, V::Timestamp(instant)) => return self::instant(instant, form),
            (E::Interval, V::Interval(span)) => form.plain(interval(span)),
            (E::TimeTz, V::TimeTz(time, zone)) => form.plain(time_tz(time, zone)),
            (E::Bytes, V::Bytes(bytes)) => form.binary(bytes),
            (E::Hex, V::Bytes(bytes)) => return form.raw(bytes),
            (E::Bit, V::Bytes(bytes)) => return bits(bytes, form),
            (E::BitText(None), V::Bytes(digits)) => form.text(digits),
            (E::BitText(Some(length)), V::Bytes(bytes)) => return bit_digits(*length, bytes, form),
            (E::Enum, V::Enum(index)) => return form.uint(u64::from(index)),
            (E::EnumText(labels), V::Enum(index)) => return label(labels, index, form),
            (E::Set, V::Set(bits)) => return form.uint(bits),
            (E::SetText(labels), V::Set(bits)) => set_text(labels, bits, form),
            (E::Uuid, V::Bytes(bytes)) => return uuid(bytes, form),
            (E::Inet, V::Bytes(bytes)) => return inet(bytes, form),
            _ => return Err(Fault::Kind),
        }
        Ok(())
    }
}

/// The last bits of these bytes, first bit first.
fn bit_digits(length: u32, bytes: &[u8], form: &mut impl Form) -> Result<(), Fault> {
    let Some(padding) = (bytes.len() * 8).checked_sub(length as usize) else { return Err(Fault::Kind) };
    let bits = bytes.iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1));
    let digits: Vec<u8> = bits.skip(padding).map(|bit| b'0' + bit).collect();
    form.text(&digits);
    Ok(())
}

/// The literal that `hex()` gives for the bytes of an `x'..'`.
pub(crate) fn hex_upper(literal: &[u8]) -> Vec<u8> {
    literal.iter().filter(|b| **b != b'x').map(u8::to_ascii_uppercase).collect()
}

fn float(number: f64, form: &mut impl Form) -> Result<(), Fault> {
    if !number.is_finite() {
        return Err(Fault::NotANumber);
    }
    form.float(number);
    Ok(())
}

fn is_number(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'.'))
}

fn day(date: Date, form: &mut impl Form) -> Result<(), Fault> {
    if date == Date::INFINITY || date == Date::NEG_INFINITY || !(0..=9999).contains(&date.parts().0) {
        return Err(Fault::Date);
    }
    form.plain(date);
    Ok(())
}

fn moment(moment: DateTime, form: &mut impl Form) -> Result<(), Fault> {
    let is_infinite = moment == DateTime::INFINITY || moment == DateTime::NEG_INFINITY;
    if is_infinite || !(0..=9999).contains(&moment.date_parts().0) {
        return Err(Fault::Date);
    }
    form.plain(moment);
    Ok(())
}

fn instant(instant: Timestamp, form: &mut impl Form) -> Result<(), Fault> {
    if instant == Timestamp::ZERO_DATE {
        form.plain("0000-00-00 00:00:00");
        return Ok(());
    }
    moment(instant.datetime().ok_or(Fault::Date)?, form)
}

fn span(time: Time, form: &mut impl Form) -> Result<(), Fault> {
    if time.0.unsigned_abs() > TIME_MICROS_MAX as u64 {
        return Err(Fault::Date);
    }
    form.plain(time);
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

fn bits(bytes: &[u8], form: &mut impl Form) -> Result<(), Fault> {
    if bytes.len() > 8 {
        return Err(Fault::Kind);
    }
    form.uint(bytes.iter().fold(0u64, |bits, byte| bits << 8 | u64::from(*byte)))
}

fn label(labels: &[String], index: u16, form: &mut impl Form) -> Result<(), Fault> {
    let text = match index {
        0 => "",
        index => labels.get(usize::from(index) - 1).ok_or(Fault::Kind)?,
    };
    form.text(text.as_bytes());
    Ok(())
}

/// A set's number as the literal of its members.
pub(crate) fn members(labels: &[String], literal: &[u8]) -> Vec<u8> {
    let number = std::str::from_utf8(literal).ok().and_then(|text| text.parse().ok());
    let mut out = Vec::new();
    set_text(labels, number.unwrap_or_default(), &mut Literal(&mut out));
    out
}

fn set_text(labels: &[String], bits: u64, form: &mut impl Form) {
    let members = labels.iter().take(64).enumerate().filter(|(at, _)| bits >> at & 1 == 1);
    let text: Vec<&str> = members.map(|(_, label)| label.as_str()).collect();
    form.text(text.join(",").as_bytes());
}

fn uuid(bytes: &[u8], form: &mut impl Form) -> Result<(), Fault> {
    let bytes: [u8; 16] = bytes.try_into().map_err(|_| Fault::Kind)?;
    form.plain(freshet_core::gtid::Uuid(bytes));
    Ok(())
}

fn inet(bytes: &[u8], form: &mut impl Form) -> Result<(), Fault> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        form.plain(Ipv4Addr::from(v4));
    } else {
        let v6: [u8; 16] = bytes.try_into().map_err(|_| Fault::Kind)?;
        form.plain(inet6(Ipv6Addr::from(v6)));
    }
    Ok(())
}

/// As MariaDB prints its `inet6`: also a single zero becomes `::`, and the last four bytes are written as IPv4's behind
/// six words of zeros, or five and `ffff`.
fn inet6(address: Ipv6Addr) -> String {
    let words = address.segments();
    let zeros = |from: usize| words[from..].iter().take_while(|word| **word == 0).count();
    // Of several the first.
    let (gap, length) =
        (0..8).map(|at| (at, zeros(at))).rev().max_by_key(|(_, length)| *length).unwrap_or((0, 0));
    let hex = |words: &[u16]| words.iter().map(|word| format!("{word:x}")).collect::<Vec<_>>().join(":");
    let [.., a, b, c, d] = address.octets();
    let v4 = Ipv4Addr::new(a, b, c, d);
    match (gap, length) {
        (_, 0) => hex(&words),
        (0, 6) => format!("::{v4}"),
        (0, 5) if words[5] == 0xffff => format!("::ffff:{v4}"),
        (gap, length) => format!("{}::{}", hex(&words[..gap]), hex(&words[gap + length..])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inet6_is_written_as_mariadb_does() {
        for (given, expect) in [
            ("::", "::"),
            ("::1", "::1"),
            ("::1.2.3.4", "::1.2.3.4"),
            ("::1:2", "::0.1.0.2"),
            ("::ffff:1.2.3.4", "::ffff:1.2.3.4"),
            ("::fffe:1.2.3.4", "::fffe:102:304"),
            ("1::", "1::"),
            ("2001:db8:0:1:1:1:1:1", "2001:db8::1:1:1:1:1"),
            ("1:0:0:2:0:0:3:4", "1::2:0:0:3:4"),
            ("1:0:0:2:0:0:0:4", "1:0:0:2::4"),
            ("1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8"),
        ] {
            assert_eq!(inet6(given.parse().unwrap()), expect);
        }
    }

    fn check(encoder: &Encoder, cell: ValueRef<'_>, expect: &str) {
        let (mut out, mut leniency) = (Vec::new(), Leniency::default());
        encoder.write(cell, &Policies::default(), &mut leniency, &mut Literal(&mut out)).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), expect);
    }

    #[test]
    fn m5_floats_keep_every_bit_and_their_sign() {
        check(&Encoder::Float, ValueRef::Float64(-0.0), "'-0e0'");
        check(&Encoder::Float, ValueRef::Float32(0.1), "1.0000000149011612e-1");
        for f in [f64::MAX, f64::MIN_POSITIVE, 5e-324, 0.1, 1.0 / 3.0] {
            let mut out = Vec::new();
            float(f, &mut Literal(&mut out)).unwrap();
            let read: f64 = String::from_utf8(out).unwrap().parse().unwrap();
            assert_eq!(read.to_bits(), f.to_bits());
        }
        assert_eq!(float(f64::NAN, &mut Literal(&mut Vec::new())), Err(Fault::NotANumber));
    }

    #[test]
    fn strings_are_quoted() {
        check(&Encoder::Text, ValueRef::Text("it's a \\ and \0"), r"'it\'s a \\ and \0'");
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
        assert_eq!(day(Date::INFINITY, &mut Literal(&mut Vec::new())), Err(Fault::Date));
    }
}
