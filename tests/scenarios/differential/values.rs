//! Random literals for a column, in the source's own SQL.
//!
//! A literal is ordinary, an extreme, empty, not ASCII or long. What a direction has no place for, and is documented to stop
//! at, is left out here (`docs/types.md`): NUL in text, dates of no calendar, NaN.

use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

use super::types::{Direction, Server, Type};

/// What stands in a column.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Values {
    Whole(i128, i128),
    /// Digits in all, and those after the point.
    Decimal(usize, usize),
    /// `numeric` of any scale.
    Numeric,
    Single,
    Double,
    Date,
    /// A date with a time, to so many digits of a second.
    DateTime(usize),
    /// The same, of what fits 32 bits of seconds.
    Epoch(usize),
    /// A time of MySQL.
    Span(usize),
    TimeOfDay(usize),
    Uuid,
    /// Characters at most, of any plane.
    Unicode(usize),
    /// Letters that collations take for one another, and blanks at the end.
    Alike(usize),
    Western(usize),
    Ascii(usize),
    /// Bytes at most.
    Bytes(usize),
    /// SQL, in which `{i}`, `{j}` are numbers up to 999, `{i2}`, `{j2}` of two digits from 10 to 23, `{j1}` of one, `{h}`, `{h4}` hexadecimal digits.
    Listed(&'static [&'static str]),
}

const ASCII: &[&str] = &[
    "a", "b", "Z", "0", "9", " ", "'", "\"", "\\", "%", "_", "`", "$", ":x", "--", "/*", "\n", "\t", "\\N",
    "NULL", ";", "{", "}", "(", ",",
];
const WESTERN: &[&str] = &["a", "e", "Z", "7", " ", "é", "É", "ä", "ß", "ss", "ÿ", "ñ", "'", "\\", "\n"];
const ALIKE: &[&str] =
    &["a", "A", "á", "Á", "ä", "ae", "e", "É", "s", "S", "ss", "ß", "ﬁ", "fi", " ", "i", "İ", "ı", "o", "0"];
const UNICODE: &[&str] = &[
    "a",
    "é",
    "ß",
    "中",
    "文",
    "😀",
    "👩‍👩‍👧",
    "e\u{301}",
    "ש",
    "\u{200f}",
    "\u{1}",
    "\u{7f}",
    "\u{80}",
    "\u{feff}",
    "\u{fffd}",
    "\u{10ffff}",
    "\u{2028}",
    "\r",
    "\n",
    "\t",
    "'",
    "\\",
    "\"",
    " ",
    "%",
    "x",
    "0",
    "\u{e000}",
    "ﷺ",
];

/// Draws literals for a direction.
pub(crate) struct Literals<'a> {
    pub rng: &'a mut StdRng,
    pub direction: Direction,
}

impl Literals<'_> {
    /// A literal that the direction takes; `apart` for a column whose values should differ from row to row.
    pub(crate) fn draw(&mut self, ty: &Type, apart: bool) -> String {
        self.literal(ty.values, apart)
    }

    fn literal(&mut self, values: Values, apart: bool) -> String {
        match values {
            Values::Whole(min, max) => self.whole(min, max, apart),
            Values::Decimal(digits, scale) => self.decimal(digits, scale),
            Values::Numeric => self.numeric(),
            Values::Single => self.single(),
            Values::Double => self.double(),
            Values::Date => self.date(),
            Values::DateTime(digits) => self.date_time(digits),
            Values::Epoch(digits) => self.epoch(digits),
            Values::Span(digits) => self.span(digits),
            Values::TimeOfDay(digits) => self.time_of_day(digits),
            Values::Uuid => self.uuid(),
            Values::Unicode(max) => self.text(UNICODE, max, apart),
            Values::Alike(max) => self.text(ALIKE, max, apart),
            Values::Western(max) => self.text(WESTERN, max, apart),
            Values::Ascii(max) => self.text(ASCII, max, apart),
            Values::Bytes(max) => self.bytes(max, apart),
            Values::Listed(list) => self.listed(list),
        }
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    fn one(&mut self, of: &[&str]) -> String {
        (*of.choose(self.rng).unwrap()).to_owned()
    }

    fn whole(&mut self, min: i128, max: i128, apart: bool) -> String {
        let number = if self.chance(if apart { 5 } else { 30 }) {
            let extremes = [min, max, min + 1, max - 1, 0.clamp(min, max), 1.clamp(min, max)];
            *extremes.choose(self.rng).unwrap()
        } else if self.chance(80) {
            self.rng.random_range(min.max(-100_000)..=max.min(100_000))
        } else {
            self.rng.random_range(min..=max)
        };
        number.to_string()
    }

    fn digits(&mut self, count: usize) -> String {
        (0..count).map(|_| char::from(b'0' + self.rng.random_range(0..10_u8))).collect()
    }

    fn decimal(&mut self, digits: usize, scale: usize) -> String {
        let whole = digits - scale;
        let (before, after) = match self.rng.random_range(0..10) {
            0 => ("9".repeat(whole), "9".repeat(scale)),
            1 => (String::new(), "0".repeat(scale)),
            2 => (String::new(), format!("{}1", "0".repeat(scale.saturating_sub(1)))),
            3 => (self.digits(whole), self.digits(scale)),
            _ => (self.digits(whole.min(4)), self.digits(scale.min(3))),
        };
        let sign = if self.chance(40) { "-" } else { "" };
        let point = if scale > 0 { "." } else { "" };
        format!("{sign}0{before}{point}{}", &after[..after.len().min(scale)])
    }

    fn numeric(&mut self) -> String {
        let of = [
            "0",
            "0.0",
            "1",
            "1.0",
            "1.00",
            "-1.50",
            "-1.5",
            "1e30",
            "-0.00000000000000000000001",
            "1e-100",
            "'NaN'",
            "'Infinity'",
        ];
        if self.chance(25) {
            return self.one(&of);
        }
        let (before, scale) = (self.rng.random_range(1..8), self.rng.random_range(0..6));
        let (before, after) = (self.digits(before), self.digits(scale));
        if scale == 0 { format!("1{before}") } else { format!("1{before}.{after}") }
    }

    /// Whether the direction takes what only PostgreSQL has.
    fn only_postgres(&self) -> bool {
        self.direction.from == Server::Postgres && self.direction.to == Server::Postgres
    }

    fn single(&mut self) -> String {
        let mut of = vec![
            "0",
            "3.4028234e38",
            "-3.4028234e38",
            "1.1754944e-38",
            "0.1",
            "16777217",
            "1e-40",
            "'-0'",
            "-1.5",
            "123456.789",
        ];
        if self.only_postgres() {
            of.extend(["'NaN'", "'Infinity'", "'-Infinity'"]);
        }
        match self.chance(40) {
            true => self.one(&of),
            false => format!("{}", f32::from_bits(self.rng.random_range(0x3000_0000..0x5000_0000))),
        }
    }

    fn double(&mut self) -> String {
        let mut of = vec![
            "0",
            "1.7976931348623157e308",
            "-1.7976931348623157e308",
            "2.2250738585072014e-308",
            "5e-324",
            "0.1",
            "9007199254740993",
            "0.30000000000000004",
            "1e15",
            "'-0'",
        ];
        if self.only_postgres() {
            of.extend(["'NaN'", "'Infinity'", "'-Infinity'"]);
        }
        match self.chance(40) {
            true => self.one(&of),
            false => format!(
                "{:e}",
                f64::from_bits(self.rng.random_range(0x3c00_0000_0000_0000..0x4400_0000_0000_0000))
            ),
        }
    }

    fn day(&mut self) -> String {
        let year = match self.rng.random_range(0..10) {
            0 => self.rng.random_range(1..=9_999),
            1 => *[1, 1000, 1582, 1900, 2000, 9_999].choose(self.rng).unwrap(),
            _ => self.rng.random_range(1990..2030),
        };
        format!("{year:04}-{:02}-{:02}", self.rng.random_range(1..=12), self.rng.random_range(1..=28))
    }

    fn clock(&mut self, digits: usize) -> String {
        let (hour, minute, second) = if self.chance(15) {
            *[(0, 0, 0), (23, 59, 59)].choose(self.rng).unwrap()
        } else {
            (self.rng.random_range(0..24), self.rng.random_range(0..60), self.rng.random_range(0..60))
        };
        format!("{hour:02}:{minute:02}:{second:02}{}", self.fraction(digits))
    }

    fn fraction(&mut self, digits: usize) -> String {
        match (digits, self.rng.random_range(0..4)) {
            (0, _) | (_, 0) => String::new(),
            (_, 1) => format!(".{}", "9".repeat(digits)),
            (_, 2) => format!(".{:01$}", 1, digits),
            _ => format!(".{}", self.digits(digits)),
        }
    }

    fn date(&mut self) -> String {
        let zero = ["'0000-00-00'", "'2020-00-15'", "'2020-12-00'", "'2020-02-31'", "'0000-03-01'"];
        match (self.chance(5), self.direction.from.is_my() && self.direction.to.is_my(), self.only_postgres())
        {
            (true, true, _) => self.one(&zero),
            (true, _, true) => self.one(&[
                "'infinity'",
                "'-infinity'",
                "'4713-01-01 BC'",
                "'5874897-12-31'",
                "'0001-02-03 BC'",
            ]),
            _ => format!("'{}'", self.day()),
        }
    }

    fn date_time(&mut self, digits: usize) -> String {
        let zero = ["'0000-00-00 00:00:00'", "'2020-00-15 10:00:00'", "'2020-02-31 10:00:00'"];
        let odd = [
            "'infinity'",
            "'-infinity'",
            "'4713-01-01 00:00:00 BC'",
            "'294276-12-31 23:59:59'",
            "'0001-12-31 23:59:59 BC'",
        ];
        match (self.chance(5), self.direction.from.is_my() && self.direction.to.is_my(), self.only_postgres())
        {
            (true, true, _) => self.one(&zero),
            (true, _, true) => self.one(&odd),
            _ => format!("'{} {}'", self.day(), self.clock(digits)),
        }
    }

    fn epoch(&mut self, digits: usize) -> String {
        match self.rng.random_range(0..10) {
            0 => "'1970-01-01 00:00:01'".into(),
            1 => "'2038-01-19 03:14:07'".into(),
            2 if self.direction.to.is_my() => "'0000-00-00 00:00:00'".into(),
            _ => format!(
                "'{}-{:02}-{:02} {}'",
                self.rng.random_range(1971..2037),
                self.rng.random_range(1..=12),
                self.rng.random_range(1..=28),
                self.clock(digits)
            ),
        }
    }

    fn span(&mut self, digits: usize) -> String {
        let sign = if self.chance(30) { "-" } else { "" };
        match self.rng.random_range(0..5) {
            0 => format!("'{sign}838:59:59'"),
            1 => format!("'{sign}{}:59:58{}'", self.rng.random_range(100..838), self.fraction(digits)),
            2 => format!("'{sign}00:00:00{}'", self.fraction(digits)),
            _ => format!("'{sign}{}'", self.clock(digits)),
        }
    }

    fn time_of_day(&mut self, digits: usize) -> String {
        match self.chance(5) {
            true => "'24:00:00'".into(),
            false => format!("'{}'", self.clock(digits)),
        }
    }

    fn uuid(&mut self) -> String {
        let bits = match self.rng.random_range(0..20) {
            0 => 0,
            1 => u128::MAX,
            _ => self.rng.random(),
        };
        let hex = format!("{bits:032x}");
        format!("'{}-{}-{}-{}-{}'", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
    }

    /// How long: mostly short, now and then empty, the longest, or some kilobytes of what may be that long.
    fn length(&mut self, max: usize, apart: bool) -> usize {
        let length = match self.rng.random_range(0..200) {
            0..4 if apart => 150,
            _ if apart => self.rng.random_range(1..=12),
            0..10 => 0,
            10..18 => max.min(400),
            18..24 => self.rng.random_range(1_000..12_000),
            24 => max,
            _ => self.rng.random_range(1..=20),
        };
        length.min(max)
    }

    fn text(&mut self, of: &[&str], max: usize, apart: bool) -> String {
        let length = self.length(max, apart);
        // What is long is an expression, which keeps the scripts short.
        if length > 400 {
            let hex: String = self.hex(8);
            return match (self.chance(50), self.direction.from) {
                (true, Server::Postgres) => format!(
                    "(select left(string_agg(md5(g || '{hex}'), ''), {length}) from generate_series(1, {}) g)",
                    length / 32 + 1
                ),
                _ => format!("left(repeat('{hex}', {}), {length})", length / 8 + 1),
            };
        }
        let mut text = String::new();
        let mut count = 0;
        while count < length {
            let piece = *of.choose(self.rng).unwrap();
            count += piece.chars().count();
            if count <= length {
                text += piece;
            }
        }
        self.quoted(&text)
    }

    fn quoted(&self, text: &str) -> String {
        let text = text.replace('\'', "''");
        match self.direction.from {
            Server::Postgres => format!("'{text}'"),
            Server::MariaDb | Server::MySql => format!("'{}'", text.replace('\\', "\\\\")),
        }
    }

    fn hex(&mut self, digits: usize) -> String {
        (0..digits).map(|_| char::from(b"0123456789abcdef"[self.rng.random_range(0..16)])).collect()
    }

    fn bytes(&mut self, max: usize, apart: bool) -> String {
        let length = self.length(max, apart);
        let is_postgres = self.direction.from == Server::Postgres;
        if length > 400 {
            let hex = self.hex(8);
            return match is_postgres {
                true => format!("decode(repeat('{hex}', {}), 'hex')", length / 4),
                false => format!("repeat(x'{hex}', {})", length / 4),
            };
        }
        let mut hex = String::new();
        for _ in 0..length {
            hex += &match self.rng.random_range(0..6) {
                0 => "00".to_owned(),
                1 => "20".to_owned(),
                _ => self.hex(2),
            };
        }
        if is_postgres { format!("'\\x{hex}'") } else { format!("x'{hex}'") }
    }

    fn listed(&mut self, list: &[&str]) -> String {
        let mut text = self.one(list);
        let (i, j) = (self.rng.random_range(0..1_000), self.rng.random_range(0..1_000));
        let (i2, j2, j1) =
            (self.rng.random_range(10..24), self.rng.random_range(10..24), self.rng.random_range(0..10));
        let (h, h4) = (self.hex(8), self.hex(4));
        for (name, value) in [("{i}", i), ("{j}", j), ("{i2}", i2), ("{j2}", j2), ("{j1}", j1)] {
            text = text.replace(name, &value.to_string());
        }
        text.replace("{h}", &h).replace("{h4}", &h4)
    }
}
