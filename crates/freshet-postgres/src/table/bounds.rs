//! Chunk bounds: which key columns can carry them, their text form, and the conditions that the server compares.
//!
//! Our side never compares two bounds: it copies what the server's own output function printed for one row of the
//! key and hands it back as a literal without a type, which takes the type, order and collation of the column that it
//! is compared with. Only columns of built-in types carry bounds: there the operators that are found with an empty
//! search path are the ones of the order that the server sorts by. A type of an extension may sort by operators that
//! are found only in the extension's schema (`citext` compares as `text` otherwise), and then a row could lie in two
//! chunks or in none.
//!
//! Text form of a bound: one part for each key column it covers, in single quotes (doubled inside), joined by commas.
//! A part of a text column is followed by `@` and the collation that the bounds were made in, which every comparison
//! names: an ALTER of the column's collation between a plan and its reading must not move rows between chunks.
//! Parsed strictly, since it comes back from the target's control table.

use crate::quote::{ident, literal};
use freshet_core::error::{Error, Result};
use freshet_core::table::TableInfo;
use freshet_core::types::DataType;

/// A column of the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeyColumn {
    /// Quoted.
    pub(super) name: String,
    /// With its schema, quoted; `None` for types that have none.
    pub(super) collation: Option<String>,
}

impl KeyColumn {
    /// What is sorted by.
    pub(super) fn ordered(&self) -> String {
        collated(&self.name, self.collation.as_deref())
    }
}

fn collated(column: &str, collation: Option<&str>) -> String {
    match collation {
        Some(collation) => format!("{column} collate {collation}"),
        None => column.to_owned(),
    }
}

/// How many of the key's first columns bounds can be made of; none makes the table one chunk.
pub(super) fn usable_columns(table: &TableInfo) -> usize {
    let columns =
        table.schema.key().iter().filter_map(|place| table.schema.columns().get(usize::from(*place)));
    columns.take_while(|column| is_ordered(&column.data_type)).count()
}

/// Built-in types with one order, whose text form gives the same value back.
fn is_ordered(data_type: &DataType) -> bool {
    match data_type {
        DataType::Bool
        | DataType::Int { .. }
        | DataType::Float32
        | DataType::Float64
        | DataType::Decimal { .. }
        | DataType::Date
        | DataType::Time { .. }
        | DataType::TimeTz { .. }
        | DataType::DateTime { .. }
        | DataType::Timestamp { .. }
        | DataType::Interval
        | DataType::Text { .. }
        | DataType::Bytes { .. }
        | DataType::Bit { .. }
        | DataType::Uuid
        | DataType::Money
        | DataType::Oid
        | DataType::Lsn => true,
        DataType::Json { .. }
        | DataType::Array { .. }
        | DataType::Named { .. }
        | DataType::Year
        | DataType::Enum { .. }
        | DataType::Set { .. }
        | DataType::Inet4
        | DataType::Inet6
        | DataType::Geometry { .. }
        | DataType::Vector { .. } => false,
    }
}

/// A bound: values of the key's first columns, as the server prints them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bound(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    value: String,
    /// Quoted.
    collation: Option<String>,
}

impl Bound {
    /// A bound of what the server printed for these columns; `None` if there is none.
    pub(super) fn new(columns: &[KeyColumn], values: Vec<String>) -> Option<Self> {
        let part =
            |(column, value): (&KeyColumn, String)| Part { value, collation: column.collation.clone() };
        let has_values = !values.is_empty() && values.len() == columns.len();
        has_values.then(|| Self(columns.iter().zip(values).map(part).collect()))
    }

    /// The text form.
    pub(super) fn text(&self) -> String {
        let part = |part: &Part| match &part.collation {
            Some(collation) => format!("{}@{collation}", literal(&part.value)),
            None => literal(&part.value),
        };
        self.0.iter().map(part).collect::<Vec<_>>().join(",")
    }

    /// Reads the text form back, for a key with so many usable columns.
    pub(super) fn parse(columns: usize, text: &str) -> Result<Self> {
        let parts = split(text).filter(|parts| parts.len() == columns);
        parts.map(Self).ok_or_else(misfit)
    }

    /// Reads the place of a row back.
    pub(super) fn parse_place(text: &str) -> Result<Self> {
        let bound = Self::parse(1, text)?;
        let inside = bound.0[0].value.strip_prefix('(').and_then(|value| value.strip_suffix(')'));
        let numbers = inside.and_then(|value| value.split_once(','));
        match numbers.map(|(block, row)| (block.parse::<u32>(), row.parse::<u16>())) {
            Some((Ok(_), Ok(_))) => Ok(bound),
            Some(_) | None => Err(misfit()),
        }
    }

    /// `key > bound`.
    pub(super) fn after(&self, columns: &[KeyColumn]) -> String {
        self.condition(columns, ">")
    }

    /// `key <= bound`.
    pub(super) fn up_to(&self, columns: &[KeyColumn]) -> String {
        self.condition(columns, "<=")
    }

    /// Rows of columns compare column by column, and the server can walk an index by it.
    fn condition(&self, columns: &[KeyColumn], operator: &str) -> String {
        let named = columns.iter().zip(&self.0);
        let left: Vec<String> = named.map(|(c, part)| collated(&c.name, part.collation.as_deref())).collect();
        let right: Vec<String> = self.0.iter().map(|part| literal(&part.value)).collect();
        match (left.as_slice(), right.as_slice()) {
            ([left], [right]) => format!("{left} {operator} {right}"),
            (left, right) => format!("({}) {operator} ({})", left.join(", "), right.join(", ")),
        }
    }
}

fn misfit() -> Error {
    Error::corrupt("A chunk's bound does not fit the table's key")
        .with_hint("The table's key changed since the load was planned: load the table again")
}

/// The parts of a bound's text form; `None` for anything else.
fn split(text: &str) -> Option<Vec<Part>> {
    let (mut parts, mut rest) = (Vec::new(), text);
    loop {
        let (value, after) = quoted(rest, '\'')?;
        let mut collation = None;
        rest = after;
        if let Some(name) = rest.strip_prefix('@') {
            let (schema, after) = quoted(name, '"')?;
            let (name, after) = quoted(after.strip_prefix('.')?, '"')?;
            collation = Some(format!("{}.{}", ident(&schema), ident(&name)));
            rest = after;
        }
        parts.push(Part { value, collation });
        match rest.strip_prefix(',') {
            Some(next) => rest = next,
            None => return rest.is_empty().then_some(parts),
        }
    }
}

/// Takes what stands between two of these marks off the front; inside they are doubled.
fn quoted(text: &str, mark: char) -> Option<(String, &str)> {
    let (mut value, mut inside) = (String::new(), text.strip_prefix(mark)?);
    loop {
        let (head, tail) = inside.split_once(mark)?;
        value.push_str(head);
        match tail.strip_prefix(mark) {
            Some(tail) => {
                value.push(mark);
                inside = tail;
            }
            None => return Some((value, tail)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, collation: Option<&str>) -> KeyColumn {
        KeyColumn {
            name: ident(name),
            collation: collation.map(|name| format!("\"pg_catalog\".{}", ident(name))),
        }
    }

    #[test]
    fn conditions_compare_rows_of_columns() {
        let key = [column("a", None), column("B\"", Some("de_DE"))];
        let bound = Bound::new(&key, vec!["-5".into(), "it's".into()]).expect("values");
        assert_eq!(bound.after(&key), r#"("a", "B""" collate "pg_catalog"."de_DE") > ('-5', 'it''s')"#);
        let key = [column("a", None)];
        let one = Bound::new(&key, vec!["7".into()]).expect("a value");
        assert_eq!(one.up_to(&key), r#""a" <= '7'"#);
    }

    #[test]
    fn g10_comparisons_keep_the_collation_that_the_bound_was_made_in() {
        let then = Bound::new(&[column("a", Some("C"))], vec!["x".into()]).expect("a value");
        let read = Bound::parse(1, &then.text()).expect("round trip");
        assert_eq!(read.after(&[column("a", Some("de_DE"))]), r#""a" collate "pg_catalog"."C" > 'x'"#);
    }

    #[test]
    fn places_are_read_back() {
        let place = |value: &str| Bound::parse_place(&literal(value));
        assert_eq!(place("(7,65535)").expect("a place").text(), "'(7,65535)'");
        for bad in ["1", "(1)", "(1,2", "(1,65536)", "(-1,2)", "(1,2,3)", "a"] {
            assert!(place(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn text_round_trips_and_nothing_else_is_accepted() {
        let key = [column("a", None), column("b", Some("o\"dd.@'")), column("c", None)];
        for values in [["", "'", "''"], ["a,b", "','", "\n"], ["1", "é@\"x\"", "\\"]] {
            let bound = Bound::new(&key, values.map(str::to_owned).to_vec()).expect("values");
            assert_eq!(Bound::parse(3, &bound.text()).expect("round trip"), bound);
        }
        for bad in [
            "",
            "1",
            "'1'",
            "'1','2'",
            "'1','2','3",
            "'1','2','3' ",
            "'1','2','3','4'",
            "'1''2','3'",
            "'1','2',",
            "'1','2','3'@",
            "'1','2','3'@\"C\"",
            "'1','2','3'@C",
            "'1','2','3'@\"s\".\"n\" or true",
        ] {
            assert!(Bound::parse(3, bad).is_err(), "{bad}");
        }
    }
}
