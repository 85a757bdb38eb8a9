//! PostgreSQL's text of a value into a cell, and whether it is one.
//!
//! The text is that of a session with ISO dates, UTC, intervals in the style `postgres` and money in the C locale. What
//! is text for us as well (arrays, and every type without a form of its own) is taken as it is. Never a panic; the
//! caller names the column, nobody names the value.

use freshet_core::DataType;
use freshet_core::codec::RowWriter;
use freshet_core::temporal::{Date, DateTime, Interval, MICROS_PER_DAY, Time, Timestamp};
use std::str::FromStr;

/// The text is no value of the column's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoValue;

/// Writes the cell of a value of that type. Nothing is written where it is none.
pub(crate) fn put(text: &[u8], data_type: &DataType, row: &mut RowWriter<'_>) -> Result<(), NoValue> {
    let str = std::str::from_utf8(text).map_err(|_| NoValue)?;
    match data_type {
        DataType::Bool => row.bool(boolean(str).ok_or(NoValue)?),
        DataType::Int { unsigned: false, .. } | DataType::Year => return fits(row.int(number(str)?)),
        DataType::Int { unsigned: true, .. } | DataType::Oid => return fits(row.uint(number(str)?)),
        DataType::Float32 => row.float32(number(str)?),
        DataType::Float64 => row.float64(number(str)?),
        DataType::Decimal { .. } => row.decimal(is_decimal(str).then_some(str).ok_or(NoValue)?),
        DataType::Date => row.date(date(str).ok_or(NoValue)?),
        DataType::Time { .. } => row.time(Time(time(str).ok_or(NoValue)?)),
        DataType::TimeTz { .. } => {
            let (micros, zone_s) = time_tz(str).ok_or(NoValue)?;
            row.time_tz(Time(micros), zone_s);
        }
        DataType::DateTime { .. } => row.datetime(datetime(str).ok_or(NoValue)?),
        DataType::Timestamp { .. } => row.timestamp(timestamp(str).ok_or(NoValue)?),
        DataType::Interval => row.interval(interval(str).ok_or(NoValue)?),
        DataType::Text { .. } | DataType::Json { .. } | DataType::Array { .. } | DataType::Named { .. } => {
            row.text(str)
        }
        DataType::Bytes { .. } => row.bytes(&hex(str).ok_or(NoValue)?),
        DataType::Bit { varying: true, .. } => row.bytes(is_bits(str).then_some(text).ok_or(NoValue)?),
        DataType::Bit { varying: false, .. } => row.bytes(&bits(str).ok_or(NoValue)?),
        DataType::Uuid => return fits(row.fixed_bytes(&uuid(str).ok_or(NoValue)?)),
        DataType::Money => return fits(row.int(money(str).ok_or(NoValue)?)),
        DataType::Lsn => return fits(row.uint(lsn(str).ok_or(NoValue)?)),
        DataType::Enum { .. }
        | DataType::Set { .. }
        | DataType::Inet4
        | DataType::Inet6
        | DataType::Geometry { .. }
        | DataType::Vector { .. } => return Err(NoValue),
    }
    Ok(())
}

fn fits(yes: bool) -> Result<(), NoValue> {
    if yes { Ok(()) } else { Err(NoValue) }
}

fn number<T: FromStr>(text: &str) -> Result<T, NoValue> {
    text.parse().map_err(|_| NoValue)
}

fn boolean(text: &str) -> Option<bool> {
    match text {
        "t" => Some(true),
        "f" => Some(false),
        _ => None,
    }
}

fn is_decimal(text: &str) -> bool {
    if matches!(text, "NaN" | "Infinity" | "-Infinity") {
        return true;
    }
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let all = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    all(whole) && all(fraction)
}

/// What stands before ` BC`, and whether it did.
fn era(text: &str) -> (&str, bool) {
    text.strip_suffix(" BC").map_or((text, false), |text| (text, true))
}

/// `Y-M-D` with four digits of a year or more. The year before 1 is 1 BC.
fn ymd(text: &str, is_bc: bool) -> Option<(i32, u8, u8)> {
    let mut parts = text.split('-');
    let (year, month, day) =
        (parts.next()?.parse::<i32>().ok()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let year = if is_bc { 1 - year } else { year };
    parts.next().is_none().then_some((year, month, day))
}

fn date(text: &str) -> Option<Date> {
    match text {
        "infinity" => Some(Date::INFINITY),
        "-infinity" => Some(Date::NEG_INFINITY),
        _ => {
            let (text, is_bc) = era(text);
            let (year, month, day) = ymd(text, is_bc)?;
            Date::new(year, month, day)
        }
    }
}

/// `H:M:S` with up to six digits of a second: microseconds.
fn time(text: &str) -> Option<i64> {
    let mut parts = text.split(':');
    let (hours, minutes, seconds) =
        (parts.next()?.parse::<i64>().ok()?, parts.next()?.parse::<i64>().ok()?, parts.next()?);
    let (whole, fraction) = seconds.split_once('.').unwrap_or((seconds, ""));
    let seconds = whole.parse::<i64>().ok()?;
    if parts.next().is_some() || hours < 0 || !(0..60).contains(&minutes) || !(0..=60).contains(&seconds) {
        return None;
    }
    let minutes = hours.checked_mul(60)?.checked_add(minutes)?;
    minutes.checked_mul(60)?.checked_add(seconds)?.checked_mul(1_000_000)?.checked_add(micros(fraction)?)
}

fn micros(fraction: &str) -> Option<i64> {
    if fraction.is_empty() {
        return Some(0);
    }
    if fraction.len() > 6 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(fraction.parse::<i64>().ok()? * 10_i64.pow(6 - fraction.len() as u32))
}

/// The time before a zone, and the zone in seconds east: `+02`, `-03:30`, `+00:00:01`.
fn time_tz(text: &str) -> Option<(i64, i32)> {
    let at = text.find(['+', '-'])?;
    let (clock, zone) = text.split_at(at);
    Some((time(clock)?, zone_s(zone)?))
}

fn zone_s(zone: &str) -> Option<i32> {
    let (sign, digits) = match zone.split_at_checked(1)? {
        ("+", digits) => (1, digits),
        ("-", digits) => (-1, digits),
        _ => return None,
    };
    let mut seconds = 0;
    let mut unit = 3600;
    for part in digits.split(':') {
        seconds += part.parse::<i32>().ok().filter(|n| (0..60).contains(n))? * unit;
        unit /= 60;
    }
    Some(sign * seconds)
}

fn datetime(text: &str) -> Option<DateTime> {
    match text {
        "infinity" => return Some(DateTime::INFINITY),
        "-infinity" => return Some(DateTime::NEG_INFINITY),
        _ => {}
    }
    let (text, is_bc) = era(text);
    let (day, clock) = text.split_once(' ')?;
    let ((year, month, day), micros) = (ymd(day, is_bc)?, time(clock)?);
    (micros < MICROS_PER_DAY).then(|| DateTime::new(year, month, day, micros)).flatten()
}

fn timestamp(text: &str) -> Option<Timestamp> {
    match text {
        "infinity" => return Some(Timestamp::INFINITY),
        "-infinity" => return Some(Timestamp::NEG_INFINITY),
        _ => {}
    }
    let (text, is_bc) = era(text);
    // The session's zone is UTC.
    let text = text.strip_suffix("+00")?;
    let (day, clock) = text.split_once(' ')?;
    let ((year, month, day), micros) = (ymd(day, is_bc)?, time(clock)?);
    // By days: the last instants are beyond 64 bits of microseconds since 1970.
    let days = Date::new(year, month, day)?.days_since_1970()?;
    Timestamp::from_micros_since_1970(i128::from(days) * i128::from(MICROS_PER_DAY) + i128::from(micros))
}

/// `1 year -2 mons +3 days -04:05:06.7`, each part with a sign of its own.
fn interval(text: &str) -> Option<Interval> {
    let mut interval = Interval { months: 0, days: 0, micros: 0 };
    let mut words = text.split(' ');
    while let Some(word) = words.next() {
        if word.contains(':') {
            let (negative, clock) = match word.split_at_checked(1)? {
                ("-", clock) => (true, clock),
                ("+", clock) => (false, clock),
                _ => (false, word),
            };
            let micros = time(clock)?;
            interval.micros = if negative { -micros } else { micros };
            continue;
        }
        let number = word.strip_prefix('+').unwrap_or(word).parse::<i32>().ok()?;
        match words.next()?.trim_end_matches('s') {
            "year" => interval.months = interval.months.checked_add(number.checked_mul(12)?)?,
            "mon" => interval.months = interval.months.checked_add(number)?,
            "day" => interval.days = number,
            _ => return None,
        }
    }
    Some(interval)
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix("\\x")?.as_bytes();
    let nibble = |b: u8| char::from(b).to_digit(16);
    let pair = |pair: &[u8]| Some((nibble(*pair.first()?)? << 4 | nibble(*pair.get(1)?)?) as u8);
    digits.chunks(2).map(pair).collect()
}

fn is_bits(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b'0' | b'1'))
}

/// Zeros and ones, packed from the right into whole bytes.
fn bits(text: &str) -> Option<Vec<u8>> {
    if !is_bits(text) {
        return None;
    }
    let byte = |chunk: &[u8]| chunk.iter().fold(0, |byte: u8, bit| byte << 1 | (bit - b'0'));
    let (head, rest) = text.as_bytes().split_at(text.len() % 8);
    let head = (!head.is_empty()).then(|| byte(head));
    Some(head.into_iter().chain(rest.chunks(8).map(byte)).collect())
}

fn uuid(text: &str) -> Option<[u8; 16]> {
    text.parse::<freshet_core::gtid::Uuid>().ok().map(|uuid| uuid.0)
}

/// `-$1,234.56` of the C locale: hundredths.
fn money(text: &str) -> Option<i64> {
    let (sign, rest) = text.strip_prefix('-').map_or(("", text), |rest| ("-", rest));
    let (whole, cents) = rest.strip_prefix('$')?.split_once('.')?;
    if cents.len() != 2 {
        return None;
    }
    format!("{sign}{}{cents}", whole.replace(',', "")).parse().ok()
}

/// A place in the WAL, or the digits of `xid8`.
fn lsn(text: &str) -> Option<u64> {
    crate::lsn::parse(text).map(|lsn| lsn.0).or_else(|| text.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g2_dates_of_every_kind() {
        assert_eq!(date("0044-03-15 BC"), Date::new(-43, 3, 15));
        assert_eq!(date("4713-01-01 BC"), Date::new(-4712, 1, 1));
        assert_eq!(date("5874897-12-31"), Date::new(5_874_897, 12, 31));
        assert_eq!(date("infinity"), Some(Date::INFINITY));
        for bad in ["", "2024", "2024-01", "2024-13-01", "2024-01-01-01", "x-01-01"] {
            assert_eq!(date(bad), None, "{bad}");
        }
        let noon = 12 * 3600 * 1_000_000;
        assert_eq!(datetime("2024-02-29 12:00:00.000001"), DateTime::new(2024, 2, 29, noon + 1));
        assert_eq!(datetime("0001-01-01 12:00:00 BC"), DateTime::new(0, 1, 1, noon));
        assert_eq!(timestamp("1970-01-01 00:00:01.5+00"), Some(Timestamp(1_500_000)));
        assert_eq!(timestamp("1970-01-01 00:00:01+01"), None, "the session is in UTC");
        assert_eq!(timestamp("-infinity"), Some(Timestamp::NEG_INFINITY));
        let last = timestamp("294276-12-31 23:59:59.999999+00").map(|at| at.to_string());
        assert_eq!(last.as_deref(), Some("294276-12-31 23:59:59.999999Z"));
    }

    #[test]
    fn times_and_zones() {
        assert_eq!(time("24:00:00"), Some(MICROS_PER_DAY));
        assert_eq!(time("00:00:00.12"), Some(120_000));
        assert_eq!(time_tz("12:00:00-03:30"), Some((43_200_000_000, -12_600)));
        assert_eq!(time_tz("00:00:00+15:59:59"), Some((0, 57_599)));
        for bad in ["", "1", "1:2", "01:60:00", "01:00:00.1234567", "-01:00:00", "01:00:00+x"] {
            assert!(time(bad).is_none() && time_tz(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn intervals_have_three_parts_with_signs_of_their_own() {
        for (text, months, days, micros) in [
            ("00:00:00", 0, 0, 0),
            ("1 year 2 mons 3 days 04:05:06.7", 14, 3, 14_706_700_000),
            ("-1 years -2 mons +3 days -04:05:06", -14, 3, -14_706_000_000),
            ("1 mon", 1, 0, 0),
            ("-178000000 years", -2_136_000_000, 0, 0),
            ("2562047788:00:54.775807", 0, 0, i64::MAX),
        ] {
            assert_eq!(interval(text), Some(Interval { months, days, micros }), "{text}");
        }
        assert!(interval("1 fortnight").is_none() && interval("1").is_none());
    }

    #[test]
    fn numbers_bytes_and_bits() {
        assert!(is_decimal("-0.10") && is_decimal("NaN") && is_decimal("-Infinity") && is_decimal("12"));
        assert!(!is_decimal("1e5") && !is_decimal("") && !is_decimal("-") && !is_decimal("1."));
        assert_eq!(hex("\\x00fF"), Some(vec![0, 255]));
        assert!(hex("\\x0").is_none() && hex("00").is_none() && hex("\\xgg").is_none());
        assert_eq!(bits("1000000001"), Some(vec![2, 1]));
        assert_eq!(bits(""), Some(vec![]));
        assert_eq!(money("-$92,233,720,368,547,758.08"), Some(i64::MIN));
        assert_eq!(lsn("16/B374D848"), Some(0x16_B374_D848));
        assert_eq!(lsn("18446744073709551615"), Some(u64::MAX));
    }
}
