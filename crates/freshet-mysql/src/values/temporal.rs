//! Dates and times as the binlog stores them: formats since MySQL 5.6, before it, and MariaDB 5.3's with fractions.
//!
//! Zero and partial dates are kept (M1). Everything is big endian in the newer formats and little endian in the
//! oldest. A field beyond the format's own range (hour 31, month 13) is no value.

use freshet_core::temporal::{Date, DateTime, Time, Timestamp};

use super::reader::{Read, Reader, Short};

const MICROS_PER_SECOND: i64 = 1_000_000;
/// Largest fraction of a second in microseconds, plus one, for each number of digits.
const MICROS_PER_UNIT: [i64; 7] = [1_000_000, 100_000, 10_000, 1_000, 100, 10, 1];
/// Seconds of MariaDB 5.3's TIME that stand for zero: 838:59:59 and one more.
const HIRES_TIME_ZERO_SECONDS: i64 = 3_020_400;

/// Bytes of a fraction with `fsp` digits in the formats since 5.6.
pub fn fraction_bytes(fsp: u8) -> usize {
    usize::from(fsp.div_ceil(2))
}

/// Microseconds of a stored fraction: units of 10 ms, 100 us or 1 us.
#[inline]
fn fraction(r: &mut Reader<'_>, fsp: u8) -> Read<i64> {
    let unit = match fraction_bytes(fsp) {
        0 => return Ok(0),
        1 => 10_000,
        2 => 100,
        _ => 1,
    };
    let micros = r.uint_be(fraction_bytes(fsp))? as i64 * unit;
    if micros < MICROS_PER_SECOND { Ok(micros) } else { Err(Short) }
}

#[inline]
fn micros_of_day(hour: i64, minute: i64, second: i64, micros: i64) -> Read<i64> {
    if hour > 23 || minute > 59 || second > 59 {
        return Err(Short);
    }
    Ok((hour * 3600 + minute * 60 + second) * MICROS_PER_SECOND + micros)
}

#[inline]
fn datetime(year: i64, month: i64, day: i64, micros_of_day: i64) -> Read<DateTime> {
    let year = i32::try_from(year).ok().filter(|year| (0..=9999).contains(year)).ok_or(Short)?;
    let (month, day) = (u8::try_from(month).map_err(|_| Short)?, u8::try_from(day).map_err(|_| Short)?);
    DateTime::new(year, month, day, micros_of_day).ok_or(Short)
}

/// DATE: 15 bits year, 4 month, 5 day in three bytes.
#[inline]
pub fn date(r: &mut Reader<'_>) -> Read<Date> {
    let n = r.uint(3)? as u32;
    Date::new((n >> 9) as i32, (n >> 5 & 15) as u8, (n & 31) as u8).ok_or(Short)
}

/// DATETIME since 5.6: 40 bits (sign, year * 13 + month 17, day 5, hour 5, minute 6, second 6), then the fraction.
#[inline]
pub fn datetime2(r: &mut Reader<'_>, fsp: u8) -> Read<DateTime> {
    const SIGN: i64 = 1 << 39;
    let n = r.uint_be(5)? as i64 - SIGN;
    let micros = fraction(r, fsp)?;
    if n < 0 {
        return Err(Short);
    }
    let (year_month, day) = (n >> 22, n >> 17 & 31);
    let of_day = micros_of_day(n >> 12 & 31, n >> 6 & 63, n & 63, micros)?;
    datetime(year_month / 13, year_month % 13, day, of_day)
}

/// TIMESTAMP since 5.6: seconds in four bytes (unsigned: MariaDB 11.5 goes to 2106), then the fraction.
#[inline]
pub fn timestamp2(r: &mut Reader<'_>, fsp: u8) -> Read<Timestamp> {
    let seconds = r.uint_be(4)? as i64;
    Ok(timestamp(seconds, fraction(r, fsp)?))
}

/// 0 is how `0000-00-00 00:00:00` is stored.
#[inline]
fn timestamp(seconds: i64, micros: i64) -> Timestamp {
    match seconds * MICROS_PER_SECOND + micros {
        0 => Timestamp::ZERO_DATE,
        micros => Timestamp(micros),
    }
}

/// TIME since 5.6: 24 bits (sign, one unused, hour 10, minute 6, second 6) and the fraction, offset together, so that
/// a negative value with a fraction borrows from the seconds (M7).
#[inline]
pub fn time2(r: &mut Reader<'_>, fsp: u8) -> Read<Time> {
    let (bytes, bits) = (fraction_bytes(fsp), 8 * fraction_bytes(fsp));
    let whole = r.uint_be(3 + bytes)? as i64 - (1i64 << (23 + bits));
    let is_negative = whole < 0;
    let magnitude = whole.abs();
    let unit = match bytes {
        0 => 0,
        1 => 10_000,
        2 => 100,
        _ => 1,
    };
    let micros = (magnitude & ((1 << bits) - 1)) * unit;
    let n = magnitude >> bits;
    let (hour, minute, second) = (n >> 12 & 0x3FF, n >> 6 & 63, n & 63);
    time_of(is_negative, hour, minute, second, micros)
}

#[inline]
fn time_of(is_negative: bool, hour: i64, minute: i64, second: i64, micros: i64) -> Read<Time> {
    if hour > 838 || minute > 59 || second > 59 || micros >= MICROS_PER_SECOND {
        return Err(Short);
    }
    let micros = (hour * 3600 + minute * 60 + second) * MICROS_PER_SECOND + micros;
    Ok(Time(if is_negative { -micros } else { micros }))
}

/// TIME before 5.6: the decimal number hhmmss, signed, three bytes.
pub fn time_old(r: &mut Reader<'_>) -> Read<Time> {
    let n = ((r.uint(3)? as i64) << 40) >> 40;
    let (is_negative, n) = (n < 0, n.abs());
    time_of(is_negative, n / 10_000, n / 100 % 100, n % 100, 0)
}

/// DATETIME before 5.6: the decimal number yyyymmddhhmmss, eight bytes.
pub fn datetime_old(r: &mut Reader<'_>) -> Read<DateTime> {
    let n = i64::try_from(r.u64()?).map_err(|_| Short)?;
    let (day, time) = (n / 1_000_000, n % 1_000_000);
    let of_day = micros_of_day(time / 10_000, time / 100 % 100, time % 100, 0)?;
    datetime(day / 10_000, day / 100 % 100, day % 100, of_day)
}

/// TIMESTAMP before 5.6: seconds, four bytes.
pub fn timestamp_old(r: &mut Reader<'_>) -> Read<Timestamp> {
    Ok(timestamp(i64::from(r.u32()?), 0))
}

fn hires_unit(fsp: u8) -> Read<i64> {
    MICROS_PER_UNIT.get(usize::from(fsp)).copied().ok_or(Short)
}

/// MariaDB 5.3's TIME(1..6): units of the fraction since -838:59:59 and one second.
pub fn time_hires(r: &mut Reader<'_>, fsp: u8) -> Read<Time> {
    const BYTES: [usize; 7] = [3, 4, 4, 5, 5, 5, 6];
    let unit = hires_unit(fsp)?;
    let units = r.uint_be(BYTES[usize::from(fsp)])? as i64;
    let micros = units * unit - HIRES_TIME_ZERO_SECONDS * MICROS_PER_SECOND;
    let limit = HIRES_TIME_ZERO_SECONDS * MICROS_PER_SECOND;
    if micros > -limit && micros < limit { Ok(Time(micros)) } else { Err(Short) }
}

/// MariaDB 5.3's DATETIME(1..6): one mixed-radix number (month by 13, day by 32) of the fraction's units.
pub fn datetime_hires(r: &mut Reader<'_>, fsp: u8) -> Read<DateTime> {
    const BYTES: [usize; 7] = [5, 6, 6, 7, 7, 7, 8];
    let unit = hires_unit(fsp)?;
    let units = i64::try_from(r.uint_be(BYTES[usize::from(fsp)])?).map_err(|_| Short)?;
    let n = units.checked_mul(unit).ok_or(Short)?;
    let (micros, n) = (n % MICROS_PER_SECOND, n / MICROS_PER_SECOND);
    let of_day = micros_of_day(n / 3600 % 24, n / 60 % 60, n % 60, micros)?;
    let day = n / 86_400;
    datetime(day / 32 / 13, day / 32 % 13, day % 32, of_day)
}

/// MariaDB 5.3's TIMESTAMP(1..6): seconds, then the fraction's units.
pub fn timestamp_hires(r: &mut Reader<'_>, fsp: u8) -> Read<Timestamp> {
    const BYTES: [usize; 7] = [0, 1, 1, 2, 2, 3, 3];
    let unit = hires_unit(fsp)?;
    let seconds = r.uint_be(4)? as i64;
    let micros = r.uint_be(BYTES[usize::from(fsp)])? as i64 * unit;
    if micros < MICROS_PER_SECOND { Ok(timestamp(seconds, micros)) } else { Err(Short) }
}

/// DATE, DATETIME of the binary protocol: 0, 4, 7 or 11 bytes.
pub fn datetime_wire(bytes: &[u8]) -> Read<DateTime> {
    let mut r = Reader::new(bytes);
    if bytes.is_empty() {
        return datetime(0, 0, 0, 0);
    }
    let (year, month, day) = (i64::from(r.u16()?), i64::from(r.u8()?), i64::from(r.u8()?));
    let mut of_day = 0;
    if !r.is_empty() {
        let (hour, minute, second) = (i64::from(r.u8()?), i64::from(r.u8()?), i64::from(r.u8()?));
        let micros = if r.is_empty() { 0 } else { i64::from(r.u32()?) };
        of_day = micros_of_day(hour, minute, second, micros)?;
    }
    datetime(year, month, day, of_day)
}

/// TIME of the binary protocol: 0, 8 or 12 bytes.
pub fn time_wire(bytes: &[u8]) -> Read<Time> {
    let mut r = Reader::new(bytes);
    if bytes.is_empty() {
        return Ok(Time(0));
    }
    let (is_negative, days) = (r.u8()? != 0, i64::from(r.u32()?));
    let (hour, minute, second) = (i64::from(r.u8()?), i64::from(r.u8()?), i64::from(r.u8()?));
    let micros = if r.is_empty() { 0 } else { i64::from(r.u32()?) };
    time_of(is_negative, days * 24 + hour, minute, second, micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        text.as_bytes()
            .chunks(2)
            .map(|c| u8::from_str_radix(std::str::from_utf8(c).unwrap(), 16).unwrap())
            .collect()
    }

    fn check<T: std::fmt::Display>(
        read: impl Fn(&mut Reader<'_>, u8) -> Read<T>,
        bytes: &str,
        fsp: u8,
        expect: &str,
    ) {
        let bytes = hex(bytes);
        let mut r = Reader::new(&bytes);
        assert_eq!(read(&mut r, fsp).map(|v| v.to_string()), Ok(expect.to_owned()));
        assert!(r.is_empty());
    }

    // Rows that a MariaDB 10.11 with mysql56_temporal_format=OFF wrote.
    #[test]
    fn m9_old_formats() {
        check(|r, _| time_old(r), "c01dfe", 0, "-12:34:56");
        check(time_hires, "00b15478eb", 3, "-12:34:56.789000");
        check(time_hires, "000000000001", 6, "-838:59:59.999999");
        check(|r, _| datetime_old(r), "fa36ed395f120000", 0, "2020-02-03 04:05:06");
        check(datetime_hires, "00a90e9b0b75", 1, "2020-02-03 04:05:06.100000");
        check(datetime_hires, "069a920e7294", 2, "2020-02-03 04:05:06.120000");
        check(datetime_hires, "0101f5e9545bc2c0", 6, "2020-02-03 04:05:06.123456");
        check(|r, _| timestamp_old(r), "f29b375e", 0, "2020-02-03 04:05:06Z");
        check(timestamp_hires, "5e379bf201", 1, "2020-02-03 04:05:06.100000Z");
        check(timestamp_hires, "5e379bf201e240", 6, "2020-02-03 04:05:06.123456Z");
    }
}
