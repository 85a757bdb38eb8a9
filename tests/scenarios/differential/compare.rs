//! What both ends hold, row by row, in one form.
//!
//! Each column is read as hexadecimal digits of the text (or the bytes) that its own server makes of it, and brought to one form by the
//! hand-written rules of `form`. Rows are compared as a multiset.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::pair::{Outcome, Pair, query};
use super::plan::{Column, Plan, Table};
use super::sql::name;
use super::types::{Direction, Kind, Server};
use crate::ends::End;

/// Compares every table; the number of rows, or how the first one differs.
pub(crate) fn compare(pair: &Pair, plan: &Plan) -> Outcome<u64> {
    let mut rows = 0;
    for table in plan.tables.iter().filter(|table| table.keep) {
        let columns: Vec<&Column> =
            table.columns.iter().filter(|column| is_compared(column, plan.direction)).collect();
        let source = read(&pair.source, plan.direction, table, &columns)?;
        let target = read(&pair.target, plan.direction, table, &columns)?;
        rows += source.values().sum::<i64>() as u64;
        if source != target {
            return Err(difference(table, &columns, &source, &target));
        }
    }
    Ok(rows)
}

/// Generated columns of PostgreSQL are not published by it: only PostgreSQL makes them again.
fn is_compared(column: &Column, direction: Direction) -> bool {
    column.keep && !(column.is_generated && direction.from == Server::Postgres && direction.to.is_my())
}

type Cells = Vec<Option<String>>;
type Rows = BTreeMap<Cells, i64>;

fn read(end: &End, direction: Direction, table: &Table, columns: &[&Column]) -> Outcome<Rows> {
    let server = end.server.kind();
    let list: Vec<String> = columns.iter().map(|column| expression(server, column)).collect();
    let session = match server {
        Server::Postgres => {
            "set timezone = 'UTC'; set datestyle = 'ISO'; set intervalstyle = 'postgres'; \
             set extra_float_digits = 3; set bytea_output = 'hex';"
        }
        Server::MariaDb | Server::MySql => "set time_zone = '+00:00';",
    };
    let sql = format!("{session}\nselect {} from {};", list.join(", "), name(server, &table.name));
    let text = query(end, &sql)?;
    let mut rows = Rows::new();
    for line in text.lines() {
        let cells = line.split('\t').zip(columns);
        let cells: Cells = cells.map(|(cell, column)| cell_of(cell, column.ty.kind, direction)).collect();
        *rows.entry(cells).or_default() += 1;
    }
    Ok(rows)
}

/// A column as hexadecimal digits.
fn expression(server: Server, column: &Column) -> String {
    let c = name(server, &column.name);
    if server == Server::Postgres {
        return match column.ty.kind {
            Kind::Bytes => format!("encode({c}, 'hex')"),
            // A composite of nulls is null and is not.
            _ => format!(
                "case when num_nulls({c}) = 0 then encode(convert_to(format('%s', {c}), 'UTF8'), 'hex') end"
            ),
        };
    }
    match column.ty.kind {
        Kind::Text | Kind::Interval | Kind::Zoned => format!("hex(convert({c} using utf8mb4))"),
        Kind::Bytes => format!("hex({c})"),
        Kind::Whole | Kind::Money | Kind::Lsn => format!("hex(cast({c} + 0 as char))"),
        Kind::Decimal | Kind::Moment | Kind::Span => format!("hex(cast({c} as char))"),
        // Every digit, and the sign of zero: a cast or a sum loses one or the other, a column with decimals prints no more of them.
        Kind::Double if server == Server::MySql => {
            format!(
                "if({c} is null, null, hex(convert(json_extract(json_array({c}), '$[0]') using utf8mb4)))"
            )
        }
        Kind::Single | Kind::Double => format!("hex(concat({c} * 1e0))"),
        Kind::Bits(length) => format!("hex(lpad(bin({c} + 0), {length}, '0'))"),
    }
}

fn cell_of(hex: &str, kind: Kind, direction: Direction) -> Option<String> {
    if hex == "NULL" {
        return None;
    }
    if kind == Kind::Bytes {
        return Some(hex.to_lowercase());
    }
    let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(digit).collect();
    Some(form(&String::from_utf8(bytes).unwrap(), kind, direction))
}

/// The one form of what either server prints.
fn form(text: &str, kind: Kind, direction: Direction) -> String {
    let is_one_family = direction.from.is_my() == direction.to.is_my();
    match kind {
        Kind::Bytes | Kind::Text | Kind::Bits(_) => text.to_owned(),
        Kind::Whole => match text {
            "t" => "1".into(),
            "f" => "0".into(),
            _ => text.to_owned(),
        },
        Kind::Decimal if text.starts_with('-') && text.bytes().all(|byte| b"-0.".contains(&byte)) => {
            text[1..].to_owned()
        }
        Kind::Decimal => text.to_owned(),
        Kind::Single => {
            let number: f32 = text.parse().unwrap();
            format!("{:?}", if direction.to == Server::MariaDb { number + 0.0 } else { number })
        }
        Kind::Double => {
            let number: f64 = text.parse().unwrap();
            format!("{:?}", if direction.to == Server::MariaDb { number + 0.0 } else { number })
        }
        _ if is_one_family && direction.from == Server::Postgres => text.to_owned(),
        Kind::Moment => moment(text),
        Kind::Span => without_zeros(text).to_owned(),
        Kind::Interval => interval(text),
        Kind::Zoned => zoned(text),
        Kind::Money => cents(text),
        Kind::Lsn => match text.split_once('/') {
            Some((high, low)) => {
                let part = |hex| u64::from_str_radix(hex, 16).unwrap();
                (part(high) << 32 | part(low)).to_string()
            }
            None => text.to_owned(),
        },
    }
}

/// `-$1,234.50` in cents.
fn cents(text: &str) -> String {
    let digits: String = text.chars().filter(|c| c.is_ascii_digit()).collect();
    let digits = match text.contains('$') {
        true => digits.trim_start_matches('0').to_owned(),
        false => digits,
    };
    let digits = if digits.is_empty() { "0".into() } else { digits };
    if text.contains('-') { format!("-{digits}") } else { digits }
}

/// `1 year -2 mons 3 days -04:05:06.7` in months, days and microseconds: PostgreSQL leaves out what is 0 and tells years.
fn interval(text: &str) -> String {
    let (mut months, mut days, mut us) = (0_i64, 0_i64, 0_i64);
    let mut words = text.split(' ');
    while let Some(word) = words.next() {
        if word.contains(':') {
            us = clock_us(word);
            continue;
        }
        let number: i64 = word.parse().unwrap();
        match words.next().unwrap() {
            "year" | "years" => months += number * 12,
            "mon" | "mons" => months += number,
            "day" | "days" => days += number,
            unit => panic!("{unit} in {text}"),
        }
    }
    format!("{months} mons {days} days {us} us")
}

/// `01:02:03.5+02` with the minutes of its zone.
fn zoned(text: &str) -> String {
    let at = text.rfind(['+', '-']).unwrap();
    let (clock, zone) = (without_zeros(&text[..at]), &text[at..]);
    if zone.contains(':') { format!("{clock}{zone}") } else { format!("{clock}{zone}:00") }
}

fn clock_us(text: &str) -> i64 {
    let (clock, fraction) = text.split_once('.').unwrap_or((text, ""));
    let parts = clock.trim_start_matches(['-', '+']).split(':');
    let seconds = parts.fold(0, |sum, part| sum * 60 + part.parse::<i64>().unwrap());
    let us = seconds * 1_000_000 + format!("{fraction:0<6}").parse::<i64>().unwrap();
    if text.starts_with('-') { -us } else { us }
}

/// PostgreSQL's `0001-02-03 04:05:06.7+00 BC` is the year 0 of MySQL, which prints every digit of a second.
fn moment(text: &str) -> String {
    let (text, is_bc) = text.strip_suffix(" BC").map_or((text, false), |text| (text, true));
    let text = text.strip_suffix("+00").unwrap_or(text);
    let text = without_zeros(text);
    if is_bc { text.replacen("0001-", "0000-", 1) } else { text.to_owned() }
}

fn without_zeros(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

/// The first row that is not on both sides, with the columns that differ from what the other side has by its number.
fn difference(table: &Table, columns: &[&Column], source: &Rows, target: &Rows) -> String {
    let count = |rows: &Rows| rows.values().sum::<i64>();
    let mut text = format!(
        "table {:?}: {} rows at the source, {} on the target\n",
        table.name,
        count(source),
        count(target)
    );
    let missing: Vec<_> = source.iter().filter(|(row, n)| target.get(*row) != Some(n)).collect();
    let extra: Vec<_> = target.iter().filter(|(row, n)| source.get(*row) != Some(n)).collect();
    writeln!(
        text,
        "{} rows of the source are not on the target as they are, {} the other way round",
        missing.len(),
        extra.len()
    )
    .unwrap();
    if let Some((row, n)) = missing.first().or_else(|| extra.first()) {
        let same = |other: &&(&Cells, &i64)| other.0[0] == row[0];
        let other = if missing.is_empty() { None } else { extra.iter().find(same) };
        let side = if missing.is_empty() { "target" } else { "source" };
        let keys: Vec<&str> = table.key.iter().map(|column| table.columns[*column].name.as_str()).collect();
        writeln!(text, "{side}: rid {:?}, {n} times (key: {keys:?})", row[0].as_deref().unwrap_or("NULL"))
            .unwrap();
        for (at, column) in columns.iter().enumerate() {
            let there = other.map(|other| &other.0[at]);
            if there.is_none_or(|there| *there != row[at]) {
                writeln!(
                    text,
                    "  {:?} {}: {} <> {}",
                    column.name,
                    column.ty.ddl,
                    short(Some(&row[at])),
                    short(there)
                )
                .unwrap();
            }
        }
        if let Some(other) = other
            && other.0 == *row
        {
            writeln!(text, "  the other side has it {} times", other.1).unwrap();
        }
    }
    text
}

fn short(cell: Option<&Option<String>>) -> String {
    match cell {
        None => "no such row".into(),
        Some(None) => "NULL".into(),
        Some(Some(text)) => {
            let start: String = text.chars().take(200).collect();
            if start.len() < text.len() {
                format!("{start:?}... ({} bytes)", text.len())
            } else {
                format!("{start:?}")
            }
        }
    }
}

#[test]
fn both_families_have_one_form() {
    let direction = Direction { from: Server::Postgres, to: Server::MariaDb };
    let check = |kind, text: &str, expected: &str| assert_eq!(form(text, kind, direction), expected);
    check(Kind::Moment, "2024-01-02 03:04:05.600000", "2024-01-02 03:04:05.6");
    check(Kind::Moment, "0001-01-02 03:04:05+00 BC", "0000-01-02 03:04:05");
    check(Kind::Money, "-$92,233.08", "-9223308");
    check(Kind::Money, "-9223308", "-9223308");
    check(Kind::Money, "$0.05", "5");
    check(Kind::Interval, "1 year -2 mons +3 days -04:05:06.7", "10 mons 3 days -14706700000 us");
    check(Kind::Interval, "00:00:01", "0 mons 0 days 1000000 us");
    check(Kind::Zoned, "01:02:03.500+02", "01:02:03.5+02:00");
    check(Kind::Lsn, "1/A", "4294967306");
    check(Kind::Double, "-0", "0.0");
    check(Kind::Single, "0.10000000149011612", "0.1");
    check(Kind::Decimal, "-0.00", "0.00");
    check(Kind::Whole, "t", "1");
}
