//! Which type a source's column becomes, and whether a target's column takes it.
//!
//! Of MySQL and MariaDB the declaration is kept. What only one of the two has becomes text on the other: `uuid` and
//! `inet4`/`inet6` on MySQL; `json` of MySQL is `json` on MariaDB, which is a checked `longtext`. Decimals in documents of
//! MySQL stay decimals (`json.rs`).
//!
//! Of PostgreSQL, each type becomes what holds every value, or its text:
//!
//! | PostgreSQL | here |
//! |---|---|
//! | boolean, integers, real, double | `tinyint(1)`, `smallint`, `int`, `bigint`, `float`, `double`; NaN and infinities stop the table |
//! | numeric(p,s), p <= 65, 0 <= s <= 30 | `decimal(p,s)`; NaN stops the table |
//! | other numeric | its text |
//! | date, time, timestamp | `date`, `time(n)`, `datetime(n)`; infinities, years before 0 and after 9999 stop the table, or are NULL by policy |
//! | timestamptz | `datetime(n)` in UTC |
//! | timetz, interval | text, `01:02:03+01:30`, `14 mons -3 days 01:02:03` |
//! | varchar(n), char(n) up to 255 | `varchar(n)` |
//! | text, longer varchar | `longtext` |
//! | bytea | `longblob` |
//! | bit, varbit, json, jsonb, arrays, ranges, enums, every other type | PostgreSQL's own text |
//! | uuid | `char(36)`: MariaDB's `uuid` refuses some that PostgreSQL's takes |
//! | money, oid, pg_lsn | `bigint` (cents), `int unsigned`, `bigint unsigned` |
//!
//! Text of PostgreSQL is compared by its bytes, trailing blanks included (`utf8mb4_0900_bin`, `utf8mb4_nopad_bin`), so that
//! no two keys collapse (R18, R19). In a key, what has no bound becomes `varchar(255)` or `varbinary(255)`; a longer value
//! stops the table. The target never cuts one: sessions are strict.

use crate::catalog::sql_string;
use crate::sink::encode::Encoder;
use crate::sink::session::Facts;
use freshet_core::table::Dialect;
use freshet_core::{Column, DataType};

/// Characters of a `varchar` that is made for PostgreSQL's: rows have 65,535 bytes in all.
const VARCHAR_CHARS_MAX: u32 = 255;
/// The first MariaDB with vectors.
const VECTOR_MARIADB_MIN: (u16, u16, u16) = (11, 7, 0);
/// Every UUID, in the one spelling that we write.
const UUID_TEXT: &str = "char(36) character set ascii collate ascii_bin";
const DECIMAL_DIGITS_MAX: u16 = 65;
const DECIMAL_SCALE_MAX: i16 = 30;

/// What a column is declared as: type, and collation if it is text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Declared {
    pub sql: String,
    /// Its text has no collation of the source's: it is compared by bytes.
    pub is_byte_compared: bool,
}

fn plain(sql: impl Into<String>) -> Declared {
    Declared { sql: sql.into(), is_byte_compared: false }
}

fn by_bytes(sql: impl Into<String>) -> Declared {
    Declared { sql: sql.into(), is_byte_compared: true }
}

/// The declaration of a source's column. `native` is the source's own, `in_key` whether it is part of the key.
pub(crate) fn declare(
    dialect: Dialect,
    column: &Column,
    native: &str,
    in_key: bool,
    facts: Facts,
) -> Result<Declared, String> {
    match dialect {
        Dialect::Mysql => declare_mysql(column, native, facts),
        Dialect::Postgres => declare_postgres(column, native, in_key),
    }
}

fn labels_sql(word: &str, labels: &[String]) -> String {
    let labels: Vec<String> = labels.iter().map(|label| sql_string(label)).collect();
    format!("{word}({})", labels.join(","))
}

fn declare_mysql(column: &Column, native: &str, facts: Facts) -> Result<Declared, String> {
    Ok(match &column.data_type {
        DataType::Enum { labels } => plain(labels_sql("enum", labels)),
        DataType::Set { labels } => plain(labels_sql("set", labels)),
        DataType::Uuid => plain(uuid(facts)),
        DataType::Inet4 if !facts.is_mariadb => plain("varchar(15) character set ascii collate ascii_bin"),
        DataType::Inet6 if !facts.is_mariadb => plain("varchar(39) character set ascii collate ascii_bin"),
        DataType::Geometry { kind } => plain(kind.clone()),
        DataType::Json { .. } => plain("json"),
        DataType::Vector { .. } if facts.is_mariadb && facts.version < VECTOR_MARIADB_MIN => {
            return Err("the target has no type vector".to_owned());
        }
        DataType::Vector { dimensions: Some(n) } => plain(format!("vector({n})")),
        _ => plain(native),
    })
}

fn uuid(facts: Facts) -> &'static str {
    match facts.is_mariadb && facts.version >= (10, 7, 0) {
        true => "uuid",
        false => UUID_TEXT,
    }
}

fn declare_postgres(column: &Column, native: &str, in_key: bool) -> Result<Declared, String> {
    let text = || if in_key { format!("varchar({VARCHAR_CHARS_MAX})") } else { "longtext".to_owned() };
    Ok(match &column.data_type {
        DataType::Bool => plain("tinyint(1)"),
        DataType::Int { bits, unsigned } => plain(int(*bits, *unsigned)),
        DataType::Float32 => plain("float"),
        DataType::Float64 => plain("double"),
        DataType::Decimal { precision, scale } => match (precision, scale.unwrap_or(0)) {
            (Some(p @ 1..=DECIMAL_DIGITS_MAX), s @ 0..=DECIMAL_SCALE_MAX) if s.unsigned_abs() <= *p => {
                plain(format!("decimal({p},{s})"))
            }
            _ => by_bytes(text()),
        },
        DataType::Date => plain("date"),
        DataType::Time { fsp } => plain(format!("time({fsp})")),
        DataType::DateTime { fsp } | DataType::Timestamp { fsp } => plain(format!("datetime({fsp})")),
        DataType::TimeTz { .. } => by_bytes("varchar(32)"),
        DataType::Interval => by_bytes("varchar(80)"),
        DataType::Text { length: Some(n @ 1..=VARCHAR_CHARS_MAX), .. } => by_bytes(format!("varchar({n})")),
        DataType::Bytes { .. } if in_key => plain(format!("varbinary({VARCHAR_CHARS_MAX})")),
        DataType::Bytes { .. } => plain("longblob"),
        DataType::Text { .. }
        | DataType::Bit { .. }
        | DataType::Json { .. }
        | DataType::Array { .. }
        | DataType::Named { .. } => by_bytes(text()),
        DataType::Uuid => plain(UUID_TEXT),
        DataType::Money => plain("bigint"),
        DataType::Oid => plain("int unsigned"),
        DataType::Lsn => plain("bigint unsigned"),
        DataType::Year
        | DataType::Enum { .. }
        | DataType::Set { .. }
        | DataType::Inet4
        | DataType::Inet6
        | DataType::Geometry { .. }
        | DataType::Vector { .. } => return Err(format!("type {native:?} has no place on this target")),
    })
}

fn int(bits: u8, unsigned: bool) -> String {
    let word = match bits {
        0..=8 => "tinyint",
        9..=16 => "smallint",
        17..=24 => "mediumint",
        25..=32 => "int",
        33.. => "bigint",
    };
    if unsigned { format!("{word} unsigned") } else { word.to_owned() }
}

/// How a source's cells are written to a target's column, or why they cannot be: `is declared x, which ..`.
pub(crate) fn bind(source: &DataType, target: &DataType) -> Result<Encoder, String> {
    use DataType as T;
    let encoder = match (source, target) {
        (T::Bool, T::Int { .. }) => Some(Encoder::Number),
        (T::Int { bits, unsigned }, T::Int { bits: wide, unsigned: natural }) => {
            fits(*bits, *unsigned, *wide, *natural).then_some(Encoder::Number)
        }
        (T::Money, T::Int { bits: 64, unsigned: false }) => Some(Encoder::Number),
        (T::Oid, T::Int { bits, unsigned }) => fits(32, true, *bits, *unsigned).then_some(Encoder::Number),
        (T::Lsn, T::Int { bits: 64, unsigned: true }) | (T::Year, T::Year) => Some(Encoder::Number),
        (T::Float32, T::Float32 | T::Float64) | (T::Float64, T::Float64) => Some(Encoder::Float),
        (T::Decimal { precision: Some(p), scale }, T::Decimal { precision: Some(q), scale: room }) => {
            let (s, room) = (scale.unwrap_or(0), room.unwrap_or(0));
            (s <= room && *p as i32 - i32::from(s) <= *q as i32 - i32::from(room)).then_some(Encoder::Decimal)
        }
        (T::Decimal { .. }, T::Text { .. }) => Some(Encoder::DecimalText),
        (T::Date, T::Date) => Some(Encoder::Date),
        (T::Time { fsp }, T::Time { fsp: kept }) => (fsp <= kept).then_some(Encoder::Time),
        (T::DateTime { fsp }, T::DateTime { fsp: kept }) => (fsp <= kept).then_some(Encoder::DateTime),
        (T::Timestamp { fsp }, T::Timestamp { fsp: kept } | T::DateTime { fsp: kept }) => {
            (fsp <= kept).then_some(Encoder::Timestamp)
        }
        (source, T::Text { fixed, .. }) => text(source, *fixed),
        // A `binary` fills what is shorter with noughts.
        (T::Bytes { length, fixed }, T::Bytes { length: room, fixed: true }) => {
            (*fixed && length == room).then_some(Encoder::Bytes)
        }
        (T::Bytes { .. }, T::Bytes { .. }) => Some(Encoder::Bytes),
        (T::Bit { length, .. }, T::Bit { length: room, .. }) => (length <= room).then_some(Encoder::Bit),
        (T::Enum { labels }, T::Enum { labels: more }) => more.starts_with(labels).then_some(Encoder::Enum),
        (T::Set { labels }, T::Set { labels: more }) => more.starts_with(labels).then_some(Encoder::Set),
        (T::Json { .. }, T::Json { .. }) => Some(Encoder::Json),
        (T::Uuid, T::Uuid) => Some(Encoder::Uuid),
        (T::Inet4, T::Inet4) | (T::Inet6, T::Inet6) => Some(Encoder::Inet),
        (T::Geometry { kind }, T::Geometry { kind: any }) => {
            (kind == any || any == "geometry").then_some(Encoder::Hex)
        }
        (T::Vector { dimensions }, T::Vector { dimensions: room }) => {
            (dimensions == room).then_some(Encoder::Hex)
        }
        _ => None,
    };
    encoder.ok_or_else(|| "does not hold every value of the source's".to_owned())
}

/// What has a text form, in a column of text. A `char` would cut blanks off what is not one.
fn text(source: &DataType, is_char: bool) -> Option<Encoder> {
    match source {
        DataType::Text { fixed, .. } => (*fixed || !is_char).then_some(Encoder::Text),
        DataType::Uuid => Some(Encoder::Uuid),
        _ if is_char => None,
        DataType::Json { .. } | DataType::Array { .. } | DataType::Named { .. } => Some(Encoder::Text),
        DataType::Interval => Some(Encoder::Interval),
        DataType::TimeTz { .. } => Some(Encoder::TimeTz),
        DataType::Inet4 | DataType::Inet6 => Some(Encoder::Inet),
        DataType::Bit { varying: true, .. } => Some(Encoder::BitText(None)),
        DataType::Bit { length, varying: false } => length.map(|length| Encoder::BitText(Some(length))),
        DataType::Enum { labels } => Some(Encoder::EnumText(labels.clone())),
        DataType::Set { labels } => Some(Encoder::SetText(labels.clone())),
        _ => None,
    }
}

fn fits(bits: u8, unsigned: bool, wide: u8, natural: bool) -> bool {
    match (unsigned, natural) {
        (true, true) | (false, false) => bits <= wide,
        (true, false) => bits < wide,
        (false, true) => false,
    }
}

/// What [`bind`] cannot tell, since the same type means something else on PostgreSQL, or is only stored cut.
pub(crate) fn misfit(dialect: Dialect, source: &DataType, target: &DataType) -> Option<&'static str> {
    match (dialect, source, target) {
        (Dialect::Mysql, DataType::Bit { .. }, DataType::Text { .. })
        | (Dialect::Postgres, DataType::Bit { .. }, DataType::Bit { .. }) => {
            Some("does not hold every value of the source's")
        }
        (_, DataType::Text { length: Some(n), .. }, DataType::Text { length: Some(room), .. })
            if n > room =>
        {
            Some("is shorter than the source's")
        }
        (_, DataType::Bytes { length: Some(n), .. }, DataType::Bytes { length: Some(room), .. })
            if n > room =>
        {
            Some("is shorter than the source's")
        }
        (Dialect::Postgres, DataType::Json { binary: false }, DataType::Json { .. }) => {
            Some("keeps neither the order nor the spelling of the source's")
        }
        _ => None,
    }
}

/// Whether a column like `float(7,2)` would round what it is given, of which the servers say nothing: it takes the
/// values of one declared alike, and no others.
pub(crate) fn rounds(dialect: Dialect, source: &str, target: &str) -> bool {
    let digits = |declared: &str| -> Option<String> {
        let is_float = ["float", "double", "real"].iter().any(|word| declared.starts_with(word));
        let inside = declared.split_once('(').filter(|_| is_float)?.1.split_once(')')?.0;
        inside.contains(',').then(|| inside.to_owned())
    };
    digits(target).is_some_and(|own| dialect != Dialect::Mysql || digits(source) != Some(own))
}
