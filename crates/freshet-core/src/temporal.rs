//! Dates and times as the databases have them: packed, ordered, with the values that no calendar knows.
//!
//! Not a calendar library: no zones, no arithmetic beyond days since an epoch. The packed forms sort like the
//! values they stand for, keep MySQL's zero and partial dates (`0000-00-00`, `2020-00-15`, `2020-02-31`: HAZARDS
//! M1) and PostgreSQL's range (4713 BC to 5874897 AD) and infinities (G2). They are part of the on-disk format.

use std::fmt;

/// Years are stored with this added, so that 4713 BC is positive.
const YEAR_BIAS: i64 = 4800;
/// Days from 0000-03-01 to 1970-01-01 in the proleptic Gregorian calendar.
const DAYS_0000_03_01_TO_1970: i64 = 719_468;
/// Instants that are stored as less are this much later.
const WRAP: i128 = 1 << 64;
/// Long before every database's first instant.
const WRAPPED_BELOW: i128 = -(1 << 62);
/// Microseconds of a day.
pub const MICROS_PER_DAY: i64 = 86_400_000_000;

/// A calendar date: `((year + 4800) * 13 + month) << 5 | day`, 0 and `u32::MAX` being the infinities.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date(pub u32);

impl Date {
    /// PostgreSQL's `-infinity`.
    pub const NEG_INFINITY: Date = Date(0);
    /// PostgreSQL's `infinity`.
    pub const INFINITY: Date = Date(u32::MAX);

    /// A date of these parts; month and day may be 0 and the day may not exist, as in MySQL. `None` where a
    /// part is out of the format's range.
    pub fn new(year: i32, month: u8, day: u8) -> Option<Date> {
        if month > 12 || day > 31 {
            return None;
        }
        let y = i64::from(year) + YEAR_BIAS;
        let packed = ((y * 13 + i64::from(month)) << 5) | i64::from(day);
        if y <= 0 || packed >= i64::from(u32::MAX) {
            return None;
        }
        u32::try_from(packed).ok().map(Date)
    }

    /// Year, month and day as stored. Meaningless for the infinities.
    pub fn parts(self) -> (i32, u8, u8) {
        let ym = self.0 >> 5;
        ((ym / 13) as i32 - YEAR_BIAS as i32, (ym % 13) as u8, (self.0 & 31) as u8)
    }

    /// Whether this is a day of the (proleptic Gregorian) calendar.
    pub fn is_calendar(self) -> bool {
        if self == Self::INFINITY || self == Self::NEG_INFINITY {
            return false;
        }
        let (y, m, d) = self.parts();
        m >= 1 && d >= 1 && d <= days_in_month(y, m)
    }

    /// Days since 1970-01-01, or `None` for what is no calendar day.
    pub fn days_since_1970(self) -> Option<i64> {
        if !self.is_calendar() {
            return None;
        }
        let (y, m, d) = self.parts();
        Some(days_from_civil(i64::from(y), m, d))
    }

    /// The date that lies `days` after 1970-01-01, or `None` out of range.
    pub fn from_days_since_1970(days: i64) -> Option<Date> {
        let (y, m, d) = civil_from_days(days)?;
        Date::new(y, m, d)
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Date::INFINITY => f.write_str("infinity"),
            Date::NEG_INFINITY => f.write_str("-infinity"),
            d => {
                let (y, m, d) = d.parts();
                write_ymd(f, y, m, d)
            }
        }
    }
}

impl fmt::Debug for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Date and time without zone: `(year + 4800) * 13 + month` in 22 bits, then day 5, hour 5, minute 6, second 6,
/// microsecond 20 bits; 0 and `u64::MAX` are the infinities.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DateTime(pub u64);

impl DateTime {
    /// PostgreSQL's `-infinity`.
    pub const NEG_INFINITY: DateTime = DateTime(0);
    /// PostgreSQL's `infinity`.
    pub const INFINITY: DateTime = DateTime(u64::MAX);

    /// A date and time of these parts, or `None` where one is out of the format's range.
    pub fn new(year: i32, month: u8, day: u8, micros_of_day: i64) -> Option<DateTime> {
        if month > 12 || day > 31 || !(0..MICROS_PER_DAY).contains(&micros_of_day) {
            return None;
        }
        let ym = (i64::from(year) + YEAR_BIAS) * 13 + i64::from(month);
        if !(13..1 << 22).contains(&ym) {
            return None;
        }
        let secs = micros_of_day / 1_000_000;
        let micro = (micros_of_day % 1_000_000) as u64;
        let (h, m, s) = ((secs / 3600) as u64, (secs / 60 % 60) as u64, (secs % 60) as u64);
        let packed = ((ym as u64) << 42) | (u64::from(day) << 37) | (h << 32) | (m << 26) | (s << 20) | micro;
        Some(DateTime(packed))
    }

    /// The date part. Meaningless for the infinities.
    pub fn date_parts(self) -> (i32, u8, u8) {
        let ym = self.0 >> 42;
        ((ym / 13) as i32 - YEAR_BIAS as i32, (ym % 13) as u8, ((self.0 >> 37) & 31) as u8)
    }

    /// Microseconds since midnight.
    pub fn micros_of_day(self) -> i64 {
        let (h, m, s) = ((self.0 >> 32) & 31, (self.0 >> 26) & 63, (self.0 >> 20) & 63);
        ((h * 3600 + m * 60 + s) * 1_000_000 + (self.0 & 0xF_FFFF)) as i64
    }

    /// Microseconds since 1970-01-01 00:00, or `None` for what lies on no calendar day.
    pub fn micros_since_1970(self) -> Option<i64> {
        if self == Self::INFINITY || self == Self::NEG_INFINITY {
            return None;
        }
        let (y, m, d) = self.date_parts();
        if m < 1 || d < 1 || d > days_in_month(y, m) {
            return None;
        }
        days_from_civil(i64::from(y), m, d).checked_mul(MICROS_PER_DAY)?.checked_add(self.micros_of_day())
    }

    /// The date and time `micros` after 1970-01-01 00:00, or `None` out of range.
    pub fn from_micros_since_1970(micros: i64) -> Option<DateTime> {
        let (y, m, d) = civil_from_days(micros.div_euclid(MICROS_PER_DAY))?;
        DateTime::new(y, m, d, micros.rem_euclid(MICROS_PER_DAY))
    }
}

impl fmt::Display for DateTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            DateTime::INFINITY => f.write_str("infinity"),
            DateTime::NEG_INFINITY => f.write_str("-infinity"),
            d => {
                let (y, m, day) = d.date_parts();
                write_ymd(f, y, m, day)?;
                f.write_str(" ")?;
                write_hms(f, d.micros_of_day())
            }
        }
    }
}

impl fmt::Debug for DateTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An instant: microseconds since 1970-01-01 00:00 UTC, with three values that are none.
///
/// PostgreSQL's last thirty years, from 294247-01-10 on, are more than 64 bits: they wrap round, to below every instant
/// before them, which the order does not tell. Three microseconds of that day are the three values and have no place.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// PostgreSQL's `-infinity`.
    pub const NEG_INFINITY: Timestamp = Timestamp(i64::MIN);
    /// MySQL's `0000-00-00 00:00:00`.
    pub const ZERO_DATE: Timestamp = Timestamp(i64::MIN + 1);
    /// PostgreSQL's `infinity`.
    pub const INFINITY: Timestamp = Timestamp(i64::MAX);

    /// The instant so many microseconds after 1970-01-01 00:00 UTC, or `None` where it has no place.
    pub fn from_micros_since_1970(micros: i128) -> Option<Timestamp> {
        let is_in_range = (WRAPPED_BELOW..WRAPPED_BELOW + WRAP).contains(&micros);
        Some(Timestamp(micros as i64)).filter(|at| is_in_range && at.is_instant())
    }

    /// Microseconds since 1970-01-01 00:00 UTC, or `None` for what is no instant.
    pub fn micros_since_1970(self) -> Option<i128> {
        let micros = i128::from(self.0);
        self.is_instant().then(|| if micros < WRAPPED_BELOW { micros + WRAP } else { micros })
    }

    /// Date and time in UTC, or `None` for what is no instant.
    pub fn datetime(self) -> Option<DateTime> {
        let (micros, day) = (self.micros_since_1970()?, i128::from(MICROS_PER_DAY));
        let (y, m, d) = civil_from_days(i64::try_from(micros.div_euclid(day)).ok()?)?;
        DateTime::new(y, m, d, micros.rem_euclid(day) as i64)
    }

    /// Whether this is an instant rather than an infinity or the zero date.
    pub fn is_instant(self) -> bool {
        self != Self::NEG_INFINITY && self != Self::ZERO_DATE && self != Self::INFINITY
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Timestamp::INFINITY => f.write_str("infinity"),
            Timestamp::NEG_INFINITY => f.write_str("-infinity"),
            Timestamp::ZERO_DATE => f.write_str("0000-00-00 00:00:00"),
            t => match t.datetime() {
                Some(d) => write!(f, "{d}Z"),
                None => write!(f, "{} us", t.0),
            },
        }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A signed span or a time of day, in microseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub i64);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 0 {
            f.write_str("-")?;
        }
        write_hms(f, self.0.saturating_abs())
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// PostgreSQL's interval: not a duration, since months and days have no fixed length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Interval {
    /// Months.
    pub months: i32,
    /// Days.
    pub days: i32,
    /// Microseconds.
    pub micros: i64,
}

fn write_ymd(f: &mut fmt::Formatter<'_>, y: i32, m: u8, d: u8) -> fmt::Result {
    if y < 0 { write!(f, "-{:04}-{m:02}-{d:02}", -y) } else { write!(f, "{y:04}-{m:02}-{d:02}") }
}

fn write_hms(f: &mut fmt::Formatter<'_>, micros: i64) -> fmt::Result {
    let (secs, frac) = (micros / 1_000_000, micros % 1_000_000);
    write!(f, "{:02}:{:02}:{:02}", secs / 3600, secs / 60 % 60, secs % 60)?;
    if frac == 0 { Ok(()) } else { write!(f, ".{frac:06}") }
}

/// Days of a month in the proleptic Gregorian calendar; 0 for month 0.
pub fn days_in_month(year: i32, month: u8) -> u8 {
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 0,
    }
}

// Both directions count from the first of March, which puts the leap day at a year's end.
fn days_from_civil(year: i64, month: u8, day: u8) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let year_of_era = y.rem_euclid(400);
    let month_from_march = (i64::from(month) + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + i64::from(day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - DAYS_0000_03_01_TO_1970
}

fn civil_from_days(days: i64) -> Option<(i32, u8, u8)> {
    let z = days.checked_add(DAYS_0000_03_01_TO_1970)?;
    let (era, day_of_era) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let mp = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * mp + 2) / 5 + 1) as u8;
    let month = if mp < 10 { mp + 3 } else { mp - 9 } as u8;
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    Some((i32::try_from(year).ok()?, month, day))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn m1_zero_and_partial_dates_are_kept() {
        for (y, m, d, text) in
            [(0, 0, 0, "0000-00-00"), (2020, 0, 15, "2020-00-15"), (2020, 2, 31, "2020-02-31")]
        {
            let date = Date::new(y, m, d).expect("in range");
            assert_eq!(date.parts(), (y, m, d));
            assert_eq!(date.to_string(), text);
            assert_eq!(date.days_since_1970(), None);
        }
        assert!(Date::new(0, 13, 0).is_none());
    }

    #[test]
    fn g2_ends_of_the_range() {
        let max = Date::new(5_874_897, 12, 31).expect("PostgreSQL's last day");
        assert_eq!(Date::from_days_since_1970(max.days_since_1970().expect("calendar")), Some(max));
        let min = Date::new(-4713, 11, 24).expect("PostgreSQL's first day");
        assert_eq!(Date::from_days_since_1970(min.days_since_1970().expect("calendar")), Some(min));
        let last = DateTime::new(294_276, 12, 31, MICROS_PER_DAY - 1).expect("PostgreSQL's last timestamp");
        assert_eq!(last.micros_of_day(), MICROS_PER_DAY - 1);
        assert_eq!(last.to_string(), "294276-12-31 23:59:59.999999");
    }

    #[test]
    fn g2_instants_beyond_64_bits_wrap() {
        for (micros, text) in [
            (9_224_318_015_999_999_999, "294276-12-31 23:59:59.999999Z"),
            (i128::from(i64::MAX) + 3, "294247-01-10 04:00:54.775810Z"),
            (i128::from(i64::MAX) - 1, "294247-01-10 04:00:54.775806Z"),
            (-210_866_803_200_000_000, "-4713-11-24 00:00:00Z"),
            (0, "1970-01-01 00:00:00Z"),
        ] {
            let at = Timestamp::from_micros_since_1970(micros).expect(text);
            assert_eq!(at.micros_since_1970(), Some(micros));
            assert_eq!(at.to_string(), text);
        }
        for micros in (0..3).map(|more| i128::from(i64::MAX) + more) {
            assert_eq!(Timestamp::from_micros_since_1970(micros), None, "stands for what is no instant");
        }
        assert_eq!(Timestamp::from_micros_since_1970(1 << 64), None);
        assert_eq!(Timestamp::ZERO_DATE.micros_since_1970(), None);
    }

    #[test]
    fn known_days() {
        let day = |y, m, d| Date::new(y, m, d).and_then(Date::days_since_1970);
        assert_eq!(day(1970, 1, 1), Some(0));
        assert_eq!(day(2000, 1, 1), Some(10_957));
        assert_eq!(day(2026, 3, 1), Some(20_513));
        assert_eq!(day(1969, 12, 31), Some(-1));
        assert_eq!(Time(-3_020_399_999_999).to_string(), "-838:59:59.999999");
    }

    proptest! {
        #[test]
        fn micros_round_trip(micros in -200_000_000_000_000_000i64..9_000_000_000_000_000_000) {
            let d = DateTime::from_micros_since_1970(micros).expect("in range");
            prop_assert_eq!(d.micros_since_1970(), Some(micros));
        }

        #[test]
        fn dates_sort_like_their_days(a in -2_000_000i64..2_000_000_000, b in -2_000_000i64..2_000_000_000) {
            let (x, y) = (Date::from_days_since_1970(a).expect("range"), Date::from_days_since_1970(b).expect("range"));
            prop_assert_eq!(a.cmp(&b), x.cmp(&y));
            prop_assert_eq!(x.days_since_1970(), Some(a));
        }
    }
}
