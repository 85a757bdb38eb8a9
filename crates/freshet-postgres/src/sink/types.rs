//! The one table of types: how a source column is declared on the target, and which existing columns can hold it.
//!
//! Nothing is narrowed: every value that the source's type can have has a place, but for those that a policy is for
//! (dates that are none, U+0000, undecodable text). `docs/types.md` says the same for people, with the texts.
//!
//! A column of a PostgreSQL source has its own type on the target. Types without a binary form here travel as text and
//! are cast by the server ([`Wire::AsText`]).

use crate::sink::encode::Encoder;
use freshet_core::table::Dialect;
use freshet_core::{Column, DataType};
use std::sync::Arc;
use tokio_postgres::types::Type;

/// Characters of `varchar(n)` at most.
const VARCHAR_CHARS_MAX: u32 = 10_485_760;
/// Bits of a `bit(n)` of MySQL at most.
const BIT_LENGTH_MAX: u32 = 64;

/// The types that travel to the server, each with one binary form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Wire {
    Bool,
    Int2,
    Int4,
    Int8,
    Numeric,
    Float4,
    Float8,
    Date,
    Timestamp,
    Timestamptz,
    Interval,
    Timetz,
    Text,
    Bytea,
    Bit,
    Json,
    Jsonb,
    Uuid,
    Inet,
    Oid,
    Time,
    Bpchar,
    Varbit,
    Money,
    PgLsn,
    Xid,
    Xid8,
    /// Any other type: the text that its output function makes, which the server casts.
    AsText,
}

/// The type of a target column as rows are bound to it: of a domain, what it is over in the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TargetType {
    pub oid: u32,
    pub typmod: i32,
    /// `format_type` without a modifier, as a source's catalogue names it.
    pub name: String,
    /// Of an array: what its elements are.
    pub element: Option<Box<TargetType>>,
}

impl Wire {
    /// Whether a column of a PostgreSQL source, of that type, has the same binary form.
    pub(crate) fn is_native_of(self, source: &DataType) -> bool {
        use DataType as T;
        match self {
            Wire::Bool => matches!(source, T::Bool),
            Wire::Int2 => matches!(source, T::Int { bits: 16, unsigned: false }),
            Wire::Int4 => matches!(source, T::Int { bits: 32, unsigned: false }),
            Wire::Int8 => matches!(source, T::Int { bits: 64, unsigned: false }),
            Wire::Numeric => matches!(source, T::Decimal { .. }),
            Wire::Float4 => matches!(source, T::Float32),
            Wire::Float8 => matches!(source, T::Float64),
            Wire::Date => matches!(source, T::Date),
            Wire::Time => matches!(source, T::Time { .. }),
            Wire::Timetz => matches!(source, T::TimeTz { .. }),
            Wire::Timestamp => matches!(source, T::DateTime { .. }),
            Wire::Timestamptz => matches!(source, T::Timestamp { .. }),
            Wire::Text | Wire::Bpchar => matches!(source, T::Text { .. }),
            Wire::Json => matches!(source, T::Json { binary: false }),
            Wire::Jsonb => matches!(source, T::Json { binary: true }),
            Wire::Bytea => matches!(source, T::Bytes { .. }),
            Wire::Bit | Wire::Varbit => matches!(source, T::Bit { .. }),
            Wire::Uuid => matches!(source, T::Uuid),
            Wire::Money => matches!(source, T::Money),
            Wire::Oid | Wire::Xid => matches!(source, T::Oid),
            Wire::PgLsn | Wire::Xid8 => matches!(source, T::Lsn),
            // An infinite interval (PostgreSQL 17) is a finite one before that: decoding looks for it.
            Wire::Interval | Wire::Inet | Wire::AsText => false,
        }
    }

    /// The element's type and the array's.
    pub(crate) fn types(self) -> (Type, Type) {
        match self {
            Wire::Bool => (Type::BOOL, Type::BOOL_ARRAY),
            Wire::Int2 => (Type::INT2, Type::INT2_ARRAY),
            Wire::Int4 => (Type::INT4, Type::INT4_ARRAY),
            Wire::Int8 => (Type::INT8, Type::INT8_ARRAY),
            Wire::Numeric => (Type::NUMERIC, Type::NUMERIC_ARRAY),
            Wire::Float4 => (Type::FLOAT4, Type::FLOAT4_ARRAY),
            Wire::Float8 => (Type::FLOAT8, Type::FLOAT8_ARRAY),
            Wire::Date => (Type::DATE, Type::DATE_ARRAY),
            Wire::Timestamp => (Type::TIMESTAMP, Type::TIMESTAMP_ARRAY),
            Wire::Timestamptz => (Type::TIMESTAMPTZ, Type::TIMESTAMPTZ_ARRAY),
            Wire::Interval => (Type::INTERVAL, Type::INTERVAL_ARRAY),
            Wire::Timetz => (Type::TIMETZ, Type::TIMETZ_ARRAY),
            Wire::Text | Wire::AsText => (Type::TEXT, Type::TEXT_ARRAY),
            Wire::Bytea => (Type::BYTEA, Type::BYTEA_ARRAY),
            Wire::Bit => (Type::BIT, Type::BIT_ARRAY),
            Wire::Json => (Type::JSON, Type::JSON_ARRAY),
            Wire::Jsonb => (Type::JSONB, Type::JSONB_ARRAY),
            Wire::Uuid => (Type::UUID, Type::UUID_ARRAY),
            Wire::Inet => (Type::INET, Type::INET_ARRAY),
            Wire::Oid => (Type::OID, Type::OID_ARRAY),
            Wire::Time => (Type::TIME, Type::TIME_ARRAY),
            Wire::Bpchar => (Type::BPCHAR, Type::BPCHAR_ARRAY),
            Wire::Varbit => (Type::VARBIT, Type::VARBIT_ARRAY),
            Wire::Money => (Type::MONEY, Type::MONEY_ARRAY),
            Wire::PgLsn => (Type::PG_LSN, Type::PG_LSN_ARRAY),
            Wire::Xid => (Type::XID, Type::XID_ARRAY),
            Wire::Xid8 => (Type::XID8, Type::XID8_ARRAY),
        }
    }

    /// The wire type of a column of that type on the target, if it is one of ours.
    fn of_column(oid: u32) -> Option<Wire> {
        let all = [
            Wire::Bool,
            Wire::Int2,
            Wire::Int4,
            Wire::Int8,
            Wire::Numeric,
            Wire::Float4,
            Wire::Float8,
            Wire::Date,
            Wire::Timestamp,
            Wire::Timestamptz,
            Wire::Interval,
            Wire::Timetz,
            Wire::Text,
            Wire::Bytea,
            Wire::Bit,
            Wire::Json,
            Wire::Jsonb,
            Wire::Uuid,
            Wire::Inet,
            Wire::Oid,
            Wire::Time,
            Wire::Bpchar,
            Wire::Varbit,
            Wire::Money,
            Wire::PgLsn,
            Wire::Xid,
            Wire::Xid8,
        ];
        if oid == Type::VARCHAR.oid() {
            return Some(Wire::Text);
        }
        all.into_iter().find(|wire| wire.types().0.oid() == oid)
    }

    /// An expression that is equal exactly where the stored values are the same bytes, for matching whole rows
    /// (R7): `json` has no equality, floats have two zeros, equal numbers several scales.
    pub(crate) fn identity(self, expr: &str) -> String {
        match self {
            Wire::Json | Wire::Jsonb | Wire::Numeric => format!("{expr}::text"),
            // Every NaN is one: those that arithmetic makes have a sign, which COPY passes on and the stream does not tell.
            Wire::Float4 => format!("float4send(case when {expr} = 'NaN' then 'NaN' else {expr} end)"),
            Wire::Float8 => format!("float8send(case when {expr} = 'NaN' then 'NaN' else {expr} end)"),
            Wire::Interval => format!("interval_send({expr})"),
            Wire::Bpchar => format!("bpcharsend({expr})"),
            Wire::Text => format!("{expr}::text collate \"C\""),
            Wire::Bool
            | Wire::Int2
            | Wire::Int4
            | Wire::Int8
            | Wire::Date
            | Wire::Timestamp
            | Wire::Timestamptz
            | Wire::Timetz
            | Wire::Bytea
            | Wire::Bit
            | Wire::Uuid
            | Wire::Inet
            | Wire::Oid
            | Wire::Time
            | Wire::Varbit
            | Wire::Money
            | Wire::PgLsn
            | Wire::Xid
            | Wire::Xid8
            | Wire::AsText => expr.to_owned(),
        }
    }
}

/// The declaration of a column of MySQL on the target, or why there is none. `native` is the source's own.
pub(crate) fn declare(column: &Column, native: &str) -> Result<String, String> {
    Ok(match &column.data_type {
        DataType::Bool => "boolean".into(),
        DataType::Int { bits, unsigned } => int_wire(*bits, *unsigned).1.into(),
        DataType::Float32 => "real".into(),
        DataType::Float64 => "double precision".into(),
        DataType::Decimal { precision: Some(p), scale } => format!("numeric({p},{})", scale.unwrap_or(0)),
        DataType::Decimal { precision: None, .. } => "numeric".into(),
        DataType::Year => "smallint".into(),
        DataType::Date => "date".into(),
        DataType::Time { fsp } => format!("interval({fsp})"),
        DataType::TimeTz { fsp } => format!("timetz({fsp})"),
        DataType::DateTime { fsp } => format!("timestamp({fsp})"),
        DataType::Timestamp { fsp } => format!("timestamptz({fsp})"),
        DataType::Interval => "interval".into(),
        DataType::Text { length: Some(n @ 1..=VARCHAR_CHARS_MAX), .. } if !is_text(native) => {
            format!("varchar({n})")
        }
        DataType::Text { .. } | DataType::Enum { .. } | DataType::Set { .. } => "text".into(),
        DataType::Bytes { .. } | DataType::Geometry { .. } | DataType::Vector { .. } => "bytea".into(),
        DataType::Bit { length: Some(n @ 1..=BIT_LENGTH_MAX), varying: false } => format!("bit({n})"),
        DataType::Json { .. } => "json".into(),
        DataType::Uuid => "uuid".into(),
        DataType::Inet4 | DataType::Inet6 => "inet".into(),
        DataType::Oid => "oid".into(),
        DataType::Bit { .. }
        | DataType::Money
        | DataType::Lsn
        | DataType::Array { .. }
        | DataType::Named { .. } => {
            return Err(format!("type {native:?} has no place on a PostgreSQL target yet"));
        }
    })
}

/// `text`, `mediumtext`, ... : unbounded for people, whatever the number of bytes.
fn is_text(native: &str) -> bool {
    let word = native.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
    word.to_ascii_lowercase().ends_with("text")
}

fn int_wire(bits: u8, unsigned: bool) -> (Wire, &'static str) {
    match (bits, unsigned) {
        (0..=8, _) | (9..=16, false) => (Wire::Int2, "smallint"),
        (9..=16, true) | (17..=24, _) | (25..=32, false) => (Wire::Int4, "integer"),
        (25..=32, true) | (33.., false) => (Wire::Int8, "bigint"),
        (33.., true) => (Wire::Numeric, "numeric(20,0)"),
    }
}

const NARROW: &str = "is too narrow";
const OTHER: &str = "is of a type that does not hold the source's values";

fn fits(yes: bool) -> Result<(), &'static str> {
    if yes { Ok(()) } else { Err(NARROW) }
}

/// How cells of `source` are written into a target column of that type, or why that column cannot hold them.
pub(crate) fn bind(source: &DataType, target: &TargetType) -> Result<(Wire, Encoder), &'static str> {
    if is_as_text(source, target) {
        return Ok((Wire::AsText, Encoder::Text));
    }
    let typmod = target.typmod;
    let wire = Wire::of_column(target.oid).ok_or(OTHER)?;
    let encoder = match wire {
        Wire::Int2 | Wire::Int4 | Wire::Int8 | Wire::Numeric | Wire::Float4 | Wire::Float8 => {
            bind_number(source, wire, typmod)
        }
        Wire::Date | Wire::Time | Wire::Timestamp | Wire::Timestamptz | Wire::Interval | Wire::Timetz => {
            bind_time(source, wire, typmod)
        }
        Wire::Text | Wire::Bpchar | Wire::Json | Wire::Jsonb => bind_text(source, wire, typmod),
        Wire::Bool
        | Wire::Bytea
        | Wire::Bit
        | Wire::Varbit
        | Wire::Uuid
        | Wire::Inet
        | Wire::Oid
        | Wire::Money
        | Wire::PgLsn
        | Wire::Xid
        | Wire::Xid8 => bind_other(source, wire, typmod),
        Wire::AsText => Err(OTHER),
    }?;
    Ok((wire, encoder))
}

/// Whether a column takes the texts of the source's type as its own: it is of the type of that name, or an array of
/// what fits.
fn is_as_text(source: &DataType, target: &TargetType) -> bool {
    match (source, &target.element) {
        (DataType::Named { name }, _) => *name == target.name,
        (DataType::Array { element: of }, Some(element)) => match **of {
            // An array of a domain over an array: its elements have no name here.
            DataType::Array { .. } => true,
            _ => bind(of, element).is_ok(),
        },
        _ => false,
    }
}

fn bind_number(source: &DataType, wire: Wire, typmod: i32) -> Result<Encoder, &'static str> {
    Ok(match (source, wire) {
        (DataType::Int { bits, unsigned }, Wire::Int2 | Wire::Int4 | Wire::Int8) => {
            fits(int_rank(int_wire(*bits, *unsigned).0) <= int_rank(wire))?;
            int_encoder(wire)
        }
        (DataType::Int { bits, .. }, Wire::Numeric) => {
            let digits = [3, 5, 8, 10, 20][usize::from((*bits).div_ceil(8).clamp(1, 5)) - 1];
            fits(numeric_holds(typmod, digits, 0))?;
            Encoder::NumericInt
        }
        (DataType::Year, Wire::Int2 | Wire::Int4 | Wire::Int8) => int_encoder(wire),
        (DataType::Float32, Wire::Float4) => Encoder::Float4,
        (DataType::Float32 | DataType::Float64, Wire::Float8) => Encoder::Float8,
        (DataType::Decimal { precision, scale }, Wire::Numeric) => {
            let scale = i32::from(scale.unwrap_or(0));
            fits(precision.map_or(typmod < 0, |p| numeric_holds(typmod, i32::from(p) - scale, scale)))?;
            Encoder::Numeric
        }
        _ => return Err(OTHER),
    })
}

fn bind_time(source: &DataType, wire: Wire, typmod: i32) -> Result<Encoder, &'static str> {
    let keeps = |fsp: u8| fits(typmod < 0 || typmod >= i32::from(fsp));
    Ok(match (source, wire) {
        (DataType::Date, Wire::Date) => Encoder::Date,
        (DataType::DateTime { fsp }, Wire::Timestamp) => keeps(*fsp).map(|()| Encoder::Timestamp)?,
        (DataType::Timestamp { fsp }, Wire::Timestamptz) => keeps(*fsp).map(|()| Encoder::Timestamptz)?,
        (DataType::TimeTz { fsp }, Wire::Timetz) => keeps(*fsp).map(|()| Encoder::Timetz)?,
        (DataType::Time { fsp }, Wire::Interval) => {
            fits(interval_holds(typmod, *fsp))?;
            Encoder::TimeAsInterval
        }
        (DataType::Time { fsp }, Wire::Time) => keeps(*fsp).map(|()| Encoder::Time)?,
        // What of its fields is kept the type does not say: preparation compares the declarations.
        (DataType::Interval, Wire::Interval) => Encoder::Interval,
        _ => return Err(OTHER),
    })
}

fn bind_text(source: &DataType, wire: Wire, typmod: i32) -> Result<Encoder, &'static str> {
    let (chars, encoder) = match (source, wire) {
        (DataType::Text { length, .. }, Wire::Text | Wire::Bpchar) => (*length, Encoder::Text),
        (DataType::Named { .. } | DataType::Array { .. }, Wire::Text) => (None, Encoder::Text),
        (DataType::Enum { labels }, Wire::Text) => {
            let longest = labels.iter().map(|l| l.chars().count()).max().unwrap_or(0);
            (u32::try_from(longest).ok(), Encoder::Enum(Arc::from(labels.as_slice())))
        }
        (DataType::Set { labels }, Wire::Text) => {
            let longest: usize = labels.iter().map(|l| l.chars().count() + 1).sum();
            (u32::try_from(longest.saturating_sub(1)).ok(), Encoder::Set(Arc::from(labels.as_slice())))
        }
        (DataType::Json { .. }, Wire::Text) => (None, Encoder::Text),
        (DataType::Json { .. }, Wire::Json) => return Ok(Encoder::Text),
        (DataType::Json { .. }, Wire::Jsonb) => return Ok(Encoder::Jsonb),
        _ => return Err(OTHER),
    };
    fits(text_holds(typmod, chars))?;
    Ok(encoder)
}

fn bind_other(source: &DataType, wire: Wire, typmod: i32) -> Result<Encoder, &'static str> {
    Ok(match (source, wire) {
        (DataType::Bool, Wire::Bool) => Encoder::Bool,
        (DataType::Bytes { .. } | DataType::Geometry { .. } | DataType::Vector { .. }, Wire::Bytea) => {
            Encoder::Bytea
        }
        (DataType::Bit { length: Some(n @ 1..), varying: false }, Wire::Bit) => {
            fits(i32::try_from(*n).is_ok_and(|n| typmod == n))?;
            Encoder::Bit(*n)
        }
        (DataType::Bit { length: None, varying: true }, Wire::Bit) => {
            fits(typmod < 0)?;
            Encoder::Varbit
        }
        (DataType::Bit { length, varying: true }, Wire::Varbit) => {
            let holds = |n: u32| i32::try_from(n).is_ok_and(|n| typmod >= n);
            fits(typmod < 0 || length.is_some_and(holds))?;
            Encoder::Varbit
        }
        (DataType::Uuid, Wire::Uuid) => Encoder::Uuid,
        (DataType::Inet4, Wire::Inet) => Encoder::Inet4,
        (DataType::Inet6, Wire::Inet) => Encoder::Inet6,
        (DataType::Oid, Wire::Oid | Wire::Xid) => Encoder::Oid,
        (DataType::Lsn, Wire::PgLsn | Wire::Xid8) => Encoder::Lsn,
        (DataType::Money, Wire::Money) => Encoder::Int8,
        _ => return Err(OTHER),
    })
}

fn int_rank(wire: Wire) -> u8 {
    match wire {
        Wire::Int2 => 2,
        Wire::Int4 => 4,
        Wire::Int8 => 8,
        _ => u8::MAX,
    }
}

fn int_encoder(wire: Wire) -> Encoder {
    match wire {
        Wire::Int2 => Encoder::Int2,
        Wire::Int4 => Encoder::Int4,
        _ => Encoder::Int8,
    }
}

/// Whether `numeric` with that type modifier has room for so many digits before and after the point.
fn numeric_holds(typmod: i32, before: i32, after: i32) -> bool {
    if typmod < 4 {
        return true;
    }
    let (precision, scale) = ((typmod - 4) >> 16 & 0xffff, ((typmod - 4) & 0x7ff ^ 1024) - 1024);
    scale >= after && precision - scale >= before
}

/// What makes a column that a source of that dialect can be bound to unfit all the same. `native` is the source's own
/// declaration, `declared` the target's.
pub(crate) fn misfit(
    dialect: Dialect,
    wire: Wire,
    native: &str,
    declared: &str,
    typmod: i32,
) -> Option<&'static str> {
    match (dialect, wire) {
        // A span is no time of day, and blanks at the end count.
        (Dialect::Mysql, Wire::Time | Wire::Bpchar) => Some(OTHER),
        (Dialect::Postgres, Wire::Interval) if !interval_holds(typmod, 6) && native != declared => {
            Some(NARROW)
        }
        (Dialect::Mysql | Dialect::Postgres, _) => None,
    }
}

/// Whether `interval` with that type modifier keeps every field and so many digits of a second.
fn interval_holds(typmod: i32, fsp: u8) -> bool {
    typmod < 0 || (typmod >> 16 & 0x7fff == 0x7fff && typmod & 0xffff >= i32::from(fsp))
}

/// Whether `varchar` with that type modifier has room for so many characters; `None` is unbounded.
fn text_holds(typmod: i32, chars: Option<u32>) -> bool {
    typmod < 4 || chars.is_some_and(|n| i64::from(typmod - 4) >= i64::from(n))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numeric_modifiers() {
        let typmod = |p: i32, s: i32| (p << 16 | (s & 0x7ff)) + 4;
        assert!(numeric_holds(typmod(18, 4), 14, 4) && !numeric_holds(typmod(18, 4), 15, 4));
        assert!(!numeric_holds(typmod(18, 4), 10, 5) && numeric_holds(-1, 1000, 1000));
        assert!(!numeric_holds(typmod(5, -3), 8, 0));
    }

    #[test]
    fn m2_nothing_is_narrowed() {
        let int = |bits, unsigned| DataType::Int { bits, unsigned };
        let target = |oid| TargetType { oid, typmod: -1, ..TargetType::default() };
        let fits = |t: &DataType, oid: u32| bind(t, &target(oid)).is_ok();
        assert!(fits(&int(8, true), Type::INT2.oid()) && !fits(&int(16, true), Type::INT2.oid()));
        assert!(fits(&int(24, true), Type::INT4.oid()) && !fits(&int(32, true), Type::INT4.oid()));
        assert!(!fits(&int(64, true), Type::INT8.oid()) && fits(&int(64, true), Type::NUMERIC.oid()));
        assert!(fits(&int(8, false), Type::INT8.oid()) && !fits(&int(8, false), Type::TEXT.oid()));
    }

    #[test]
    fn text_kinds_are_unbounded() {
        let column = |length| Column {
            name: "c".into(),
            data_type: DataType::Text { length, fixed: false },
            nullable: true,
        };
        assert_eq!(declare(&column(Some(64)), "varchar(64)").as_deref(), Ok("varchar(64)"));
        assert_eq!(declare(&column(Some(255)), "tinytext").as_deref(), Ok("text"));
        assert_eq!(declare(&column(Some(u32::MAX)), "longtext").as_deref(), Ok("text"));
        assert_eq!(declare(&column(Some(0)), "varchar(0)").as_deref(), Ok("text"));
    }
}
