//! Chunk bounds: which key columns can carry them, their text form, and the conditions that the server compares.
//!
//! Our side never compares two bounds: it copies what the server gave for one row of the key and hands it back as
//! a literal of the column's own type, character set and collation, so that the server's order is the only one.
//!
//! Text form of a bound: one part for each key column it covers, joined by commas. A part is a tag and a value:
//! `n` digits, `q` what the server prints for dates, times and addresses, `b` bytes in hex, `t` text in the
//! column's character set, in hex. Parsed strictly, since it comes back from the target's control table.

use std::fmt::Write as _;

use freshet_core::error::{Error, Result};
use freshet_core::table::TableInfo;
use freshet_core::types::DataType;

use crate::catalog::sql_ident;

/// How values of a key column are printed and compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PartKind {
    /// Integers and `year`.
    Integer,
    /// Decimals.
    Decimal,
    /// Dates, times, uuid, inet: what the server prints, in quotes.
    Printed,
    /// Byte strings.
    Bytes,
    /// Text of this character set and collation.
    Text { charset: String, collation: String },
}

/// A key column that can carry bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeyPart {
    /// The column's name, quoted.
    pub(super) column: String,
    pub(super) kind: PartKind,
}

/// A part of the primary key as the catalogue has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PrimaryPart {
    pub(super) has_prefix: bool,
    pub(super) is_descending: bool,
}

/// The longest run of the key's first columns that bounds can be made of: each is compared in the order that its
/// index has. Floats, enums, sets, bits and prefixes of long columns are not; a key that begins with one of them
/// makes the table one chunk.
pub(super) fn usable_parts(table: &TableInfo, primary: &[PrimaryPart]) -> Vec<KeyPart> {
    let mut parts = Vec::new();
    for (place, part) in table.schema.key().iter().zip(primary) {
        // A key with columns in both directions is no index to walk along; its first columns in one direction are.
        let turns = primary.first().is_some_and(|first| first.is_descending != part.is_descending);
        let place = usize::from(*place);
        let (Some(column), Some(info)) = (table.schema.columns().get(place), table.columns.get(place)) else {
            break;
        };
        let Some(kind) = part_kind(&column.data_type, info.collation.as_deref()) else { break };
        if part.has_prefix || turns {
            break;
        }
        parts.push(KeyPart { column: sql_ident(&column.name), kind });
    }
    parts
}

fn part_kind(data_type: &DataType, collation: Option<&str>) -> Option<PartKind> {
    match data_type {
        DataType::Int { .. } | DataType::Year => Some(PartKind::Integer),
        DataType::Decimal { .. } => Some(PartKind::Decimal),
        DataType::Date
        | DataType::Time { .. }
        | DataType::DateTime { .. }
        | DataType::Timestamp { .. }
        | DataType::Uuid
        | DataType::Inet4
        | DataType::Inet6 => Some(PartKind::Printed),
        DataType::Bytes { .. } => Some(PartKind::Bytes),
        DataType::Text { .. } => {
            let collation = collation.filter(|name| is_word(name))?;
            let charset = collation.split('_').next()?.to_owned();
            Some(PartKind::Text { charset, collation: collation.to_owned() })
        }
        DataType::Bool
        | DataType::Float32
        | DataType::Float64
        | DataType::TimeTz { .. }
        | DataType::Interval
        | DataType::Bit { .. }
        | DataType::Enum { .. }
        | DataType::Set { .. }
        | DataType::Json { .. }
        | DataType::Geometry { .. }
        | DataType::Vector { .. }
        | DataType::Money
        | DataType::Oid
        | DataType::Lsn
        | DataType::Array { .. }
        | DataType::Named { .. } => None,
    }
}

fn is_word(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

impl KeyPart {
    /// The expression whose text is a bound's value.
    pub(super) fn printed(&self) -> String {
        match &self.kind {
            PartKind::Integer | PartKind::Decimal | PartKind::Printed => self.column.clone(),
            PartKind::Bytes | PartKind::Text { .. } => format!("HEX({})", self.column),
        }
    }

    fn tag(&self) -> char {
        match &self.kind {
            PartKind::Integer | PartKind::Decimal => 'n',
            PartKind::Printed => 'q',
            PartKind::Bytes => 'b',
            PartKind::Text { .. } => 't',
        }
    }

    fn accepts(&self, value: &str) -> bool {
        let digits = |text: &str| text.chars().all(|c| c.is_ascii_digit());
        match &self.kind {
            PartKind::Integer => {
                let magnitude = value.strip_prefix('-').unwrap_or(value);
                !magnitude.is_empty() && digits(magnitude)
            }
            PartKind::Decimal => {
                let magnitude = value.strip_prefix('-').unwrap_or(value);
                let (whole, fraction) = magnitude.split_once('.').unwrap_or((magnitude, "0"));
                !whole.is_empty() && !fraction.is_empty() && digits(whole) && digits(fraction)
            }
            PartKind::Printed => {
                !value.is_empty() && value.chars().all(|c| c.is_ascii_hexdigit() || " :.-".contains(c))
            }
            PartKind::Bytes | PartKind::Text { .. } => {
                value.len().is_multiple_of(2) && value.chars().all(|c| c.is_ascii_hexdigit())
            }
        }
    }

    /// The value as a literal that is compared as the column is.
    fn literal(&self, value: &str) -> String {
        match &self.kind {
            PartKind::Integer | PartKind::Decimal => value.to_owned(),
            PartKind::Printed => format!("'{value}'"),
            PartKind::Bytes => format!("_binary X'{value}'"),
            PartKind::Text { charset, collation } => format!("_{charset} X'{value}' COLLATE {collation}"),
        }
    }
}

/// A bound: values of the key's first columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bound(Vec<String>);

impl Bound {
    /// A bound of what the server printed.
    pub(super) fn new(parts: &[KeyPart], values: Vec<String>) -> Result<Self> {
        let fits =
            values.len() <= parts.len() && parts.iter().zip(&values).all(|(part, value)| part.accepts(value));
        if values.is_empty() || !fits {
            return Err(Error::internal(
                "A key's value as the server prints it cannot be made a chunk's bound",
            ));
        }
        Ok(Self(values))
    }

    /// Reads the text form back.
    pub(super) fn parse(parts: &[KeyPart], text: &str) -> Result<Self> {
        let bad = || {
            Error::corrupt("A chunk's bound does not fit the table's key")
                .with_hint("The table's key changed since the load was planned: load the table again")
        };
        let mut values = Vec::new();
        for (at, part) in text.split(',').enumerate() {
            let tag = parts.get(at).ok_or_else(bad)?.tag();
            values.push(part.strip_prefix(tag).ok_or_else(bad)?.to_owned());
        }
        Self::new(parts, values).map_err(|_| bad())
    }

    /// The text form.
    pub(super) fn text(&self, parts: &[KeyPart]) -> String {
        let tagged: Vec<String> =
            parts.iter().zip(&self.0).map(|(part, value)| format!("{}{value}", part.tag())).collect();
        tagged.join(",")
    }

    /// `key > bound`.
    pub(super) fn after(&self, parts: &[KeyPart]) -> String {
        self.condition(parts, '>', ">")
    }

    /// `key <= bound`.
    pub(super) fn up_to(&self, parts: &[KeyPart]) -> String {
        self.condition(parts, '<', "<=")
    }

    /// `a > x OR (a = x AND (b > y OR (b = y AND c > z)))`; the last comparison is `last`.
    fn condition(&self, parts: &[KeyPart], strict: char, last: &str) -> String {
        let mut out = String::new();
        let count = self.0.len();
        for (at, (part, value)) in parts.iter().zip(&self.0).enumerate() {
            let (column, literal) = (&part.column, part.literal(value));
            if at + 1 == count {
                let _ = write!(out, "{column} {last} {literal}");
            } else {
                let _ = write!(out, "({column} {strict} {literal} OR ({column} = {literal} AND ");
            }
        }
        out.push_str(&"))".repeat(count.saturating_sub(1)));
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(name: &str, kind: PartKind) -> KeyPart {
        KeyPart { column: sql_ident(name), kind }
    }

    fn three() -> Vec<KeyPart> {
        let text = PartKind::Text { charset: "latin1".into(), collation: "latin1_swedish_ci".into() };
        vec![part("a", PartKind::Integer), part("b", text), part("c", PartKind::Printed)]
    }

    #[test]
    fn conditions_compare_column_by_column() {
        let parts = three();
        let bound = Bound::new(&parts, vec!["-5".into(), "E9".into(), "2020-01-01".into()]).expect("fits");
        assert_eq!(
            bound.after(&parts),
            "(`a` > -5 OR (`a` = -5 AND (`b` > _latin1 X'E9' COLLATE latin1_swedish_ci OR \
             (`b` = _latin1 X'E9' COLLATE latin1_swedish_ci AND `c` > '2020-01-01'))))"
        );
        let first = Bound::new(&parts, vec!["7".into()]).expect("fits");
        assert_eq!((first.after(&parts), first.up_to(&parts)), ("`a` > 7".into(), "`a` <= 7".into()));
    }

    #[test]
    fn text_round_trips_and_nothing_else_is_accepted() {
        let parts = three();
        let bound = Bound::new(&parts, vec!["1".into(), String::new(), "00:00:01.5".into()]).expect("fits");
        assert_eq!(bound.text(&parts), "n1,t,q00:00:01.5");
        assert_eq!(Bound::parse(&parts, &bound.text(&parts)).expect("round trip"), bound);
        for bad in ["", "n", "n1,t0", "n1,tZZ", "b00", "n1 OR 1=1", "n1,t00,q'", "n1,t00,q0,n1", "n--1"] {
            assert!(Bound::parse(&parts, bad).is_err(), "{bad}");
        }
    }
}
