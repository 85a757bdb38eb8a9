//! From a column's type (its number and modifier) to core's [`DataType`]: one function for catalogue and stream.
//!
//! Built-in types are known without asking. For the others `pg_type` is asked once each: a domain is its base type
//! with the domain's own modifier, an array has its element's type, everything else is [`DataType::Named`] under the
//! name that `format_type` prints with an empty search path. A type's number is never used again for another type
//! while its rows can be read, so what is cached stays true; a name can change, and then the next session sees it.

use crate::error::{Scope, statement_error};
use freshet_core::error::{Error, Result};
use freshet_core::types::DataType;
use std::collections::{BTreeSet, HashMap};
use tokio_postgres::Client;

/// Domains of domains and arrays of domains, so deep at most: also what a schema's encoding can hold.
const DEPTH_MAX: u8 = 8;
/// Bytes that `numeric`, `varchar` and `bpchar` add to what their modifier says.
const MODIFIER_HEADER: i32 = 4;
/// Fractional digits of a second where the declaration says nothing.
const FSP_DEFAULT: u8 = 6;

/// What `pg_type` says of a type that is not built in.
#[derive(Clone, Debug, PartialEq, Eq)]
enum TypeFact {
    /// A domain over this type, with this modifier.
    Domain { base: u32, modifier: i32 },
    /// An array of this type. The column's modifier is the elements'.
    Array { element: u32 },
    /// Anything else, by name.
    Named(String),
}

/// The types that were met so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct TypeCatalog {
    facts: HashMap<u32, TypeFact>,
}

impl TypeCatalog {
    /// Looks up those of these types, and of the types that they are made of, that are not known yet.
    pub(crate) async fn resolve(&mut self, client: &Client, oids: &[u32]) -> Result<()> {
        let mut wanted: BTreeSet<u32> = oids.iter().copied().collect();
        for _ in 0..=DEPTH_MAX {
            wanted.retain(|oid| built_in(*oid, -1).is_none() && !self.facts.contains_key(oid));
            if wanted.is_empty() {
                return Ok(());
            }
            let oids: Vec<u32> = std::mem::take(&mut wanted).into_iter().collect();
            for (oid, fact) in facts(client, &oids).await? {
                match &fact {
                    TypeFact::Domain { base: of, .. } | TypeFact::Array { element: of } => wanted.insert(*of),
                    TypeFact::Named(_) => false,
                };
                self.facts.insert(oid, fact);
            }
        }
        Err(Error::unsupported(format!("A column's type is made of more than {DEPTH_MAX} others")))
    }

    /// What the values of a column of this type are; `None` for a type that was not resolved.
    pub(crate) fn data_type(&self, oid: u32, modifier: i32) -> Option<DataType> {
        self.nested(oid, modifier, DEPTH_MAX)
    }

    /// What a domain is over in the end, and the modifier of that; any other type is itself. As the server describes
    /// the columns of an answer.
    pub(crate) fn base(&self, oid: u32, modifier: i32) -> (u32, i32) {
        let mut at = (oid, modifier);
        for _ in 0..DEPTH_MAX {
            match self.facts.get(&at.0) {
                Some(TypeFact::Domain { base, modifier }) => at = (*base, *modifier),
                Some(TypeFact::Array { .. } | TypeFact::Named(_)) | None => break,
            }
        }
        at
    }

    fn nested(&self, oid: u32, modifier: i32, depth: u8) -> Option<DataType> {
        if let Some(known) = built_in(oid, modifier) {
            return Some(known);
        }
        let depth = depth.checked_sub(1)?;
        match self.facts.get(&oid)? {
            TypeFact::Domain { base, modifier } => self.nested(*base, *modifier, depth),
            TypeFact::Array { element } => {
                Some(DataType::Array { element: Box::new(self.nested(*element, modifier, depth)?) })
            }
            TypeFact::Named(name) => Some(DataType::Named { name: name.clone() }),
        }
    }
}

/// A true array has an element type that names it as its array; `int2vector` and `point` have elements and are none.
async fn facts(client: &Client, oids: &[u32]) -> Result<Vec<(u32, TypeFact)>> {
    const SQL: &str = "select t.oid, t.typtype = 'd', t.typbasetype, t.typtypmod, e.oid, \
         pg_catalog.format_type(t.oid, null) \
         from pg_catalog.pg_type t \
         left join pg_catalog.pg_type e on e.oid = t.typelem and e.typarray = t.oid \
         where t.oid = any($1)";
    let rows = client.query(SQL, &[&oids]).await;
    let rows =
        rows.map_err(|error| statement_error(&Scope::Session, "Reading the source's types", &error))?;
    let fact = |row: &tokio_postgres::Row| match (row.get(1), row.get::<_, Option<u32>>(4)) {
        (true, _) => TypeFact::Domain { base: row.get(2), modifier: row.get(3) },
        (false, Some(element)) => TypeFact::Array { element },
        (false, None) => TypeFact::Named(row.get(5)),
    };
    Ok(rows.iter().map(|row| (row.get(0), fact(row))).collect())
}

/// The types that have a form of their own. Their numbers are PostgreSQL's for good (`pg_type.dat`).
fn built_in(oid: u32, modifier: i32) -> Option<DataType> {
    let fsp = u8::try_from(modifier).ok().filter(|fsp| *fsp <= FSP_DEFAULT).unwrap_or(FSP_DEFAULT);
    let int = |bits| DataType::Int { bits, unsigned: false };
    let length = |header| u32::try_from(modifier.saturating_sub(header)).ok().filter(|n| *n > 0);
    let chars = length(MODIFIER_HEADER);
    Some(match oid {
        16 => DataType::Bool,
        17 => DataType::Bytes { length: None, fixed: false },
        20 => int(64),
        21 => int(16),
        23 => int(32),
        25 => DataType::Text { length: None, fixed: false },
        26 | 28 => DataType::Oid,
        114 => DataType::Json { binary: false },
        700 => DataType::Float32,
        701 => DataType::Float64,
        790 => DataType::Money,
        // `bpchar` without a length is text that compares without its trailing blanks.
        1042 => DataType::Text { length: chars, fixed: chars.is_some() },
        1043 => DataType::Text { length: chars, fixed: false },
        1082 => DataType::Date,
        1083 => DataType::Time { fsp },
        1114 => DataType::DateTime { fsp },
        1184 => DataType::Timestamp { fsp },
        1186 => DataType::Interval,
        1266 => DataType::TimeTz { fsp },
        // `bit` without a length, which only CREATE TABLE AS makes, holds any number of bits.
        1560 => DataType::Bit { length: length(0), varying: length(0).is_none() },
        1562 => DataType::Bit { length: length(0), varying: true },
        1700 => numeric(modifier),
        2950 => DataType::Uuid,
        3220 | 5069 => DataType::Lsn,
        3802 => DataType::Json { binary: true },
        _ => return None,
    })
}

/// Precision in the upper half, scale in eleven bits with a sign (PostgreSQL 15).
fn numeric(modifier: i32) -> DataType {
    match modifier.checked_sub(MODIFIER_HEADER).filter(|packed| *packed >= 0) {
        None => DataType::Decimal { precision: None, scale: None },
        Some(packed) => DataType::Decimal {
            precision: Some((packed >> 16) as u16),
            scale: Some((((packed & 0x7ff) ^ 0x400) - 0x400) as i16),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g3_numeric_modifiers_have_a_scale_with_a_sign() {
        let decimal = |p, s| DataType::Decimal { precision: Some(p), scale: Some(s) };
        let modifier = |p: i32, s: i32| ((p << 16) | (s & 0x7ff)) + 4;
        for (p, s) in [(10, 2), (1000, 1000), (5, -3), (1, 0), (1000, -1000)] {
            assert_eq!(built_in(1700, modifier(p, s)), Some(decimal(p as u16, s as i16)), "({p}, {s})");
        }
        assert_eq!(built_in(1700, -1), Some(DataType::Decimal { precision: None, scale: None }));
    }

    #[test]
    fn g6_domains_and_arrays_are_followed() {
        let mut types = TypeCatalog::default();
        types.facts.insert(100_001, TypeFact::Domain { base: 1043, modifier: 14 });
        types.facts.insert(100_002, TypeFact::Domain { base: 100_001, modifier: -1 });
        types.facts.insert(100_003, TypeFact::Array { element: 100_002 });
        types.facts.insert(100_004, TypeFact::Array { element: 1043 });
        types.facts.insert(100_005, TypeFact::Domain { base: 100_005, modifier: -1 });
        let text = DataType::Text { length: Some(10), fixed: false };
        let array = DataType::Array { element: Box::new(text.clone()) };
        assert_eq!(types.data_type(100_002, -1), Some(text));
        assert_eq!(types.data_type(100_003, -1), Some(array.clone()));
        assert_eq!(types.data_type(100_004, 14), Some(array));
        assert_eq!(types.data_type(100_005, -1), None, "no end");
        assert_eq!((types.base(100_002, -1), types.base(1043, 9)), ((1043, 14), (1043, 9)));
        assert_eq!(types.data_type(100_006, -1), None, "never resolved");
    }

    #[test]
    fn g11_fractions_of_a_second_are_six_unless_declared() {
        assert_eq!(built_in(1114, -1), Some(DataType::DateTime { fsp: 6 }));
        assert_eq!(built_in(1184, 0), Some(DataType::Timestamp { fsp: 0 }));
        assert_eq!(built_in(1266, 3), Some(DataType::TimeTz { fsp: 3 }));
    }
}
