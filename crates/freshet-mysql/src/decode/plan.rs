//! From a TABLE_MAP to what its rows need: the schema that is announced, and one cell reader a column.
//!
//! Made once for each definition, so that rows are read by a loop over small instructions. The catalogue makes the
//! same schema of the same definition (`catalog/columns.rs`); a test over every type holds them together.

use std::collections::HashMap;
use std::sync::Arc;

use freshet_core::schema::{Column, TableName, TableSchema};
use freshet_core::types::DataType;

use super::Flavour;
use super::SpecialType;
use super::table_map::{MappedColumn, TableMap, code};
use crate::values::cell::CellReader;
use crate::values::charset::Charset;
use crate::values::decimal::DecimalLayout;

/// What the rows of a table need.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) schema: Arc<TableSchema>,
    pub(super) cells: Vec<CellReader>,
}

/// Why a table's rows cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) what: String,
    pub(super) hint: &'static str,
}

const HINT_FULL: &str =
    "SET GLOBAL binlog_row_metadata = FULL on the source, FLUSH BINARY LOGS, and start after that";
const HINT_EXCLUDE: &str = "Exclude the table, or change the column's type";
const HINT_CATALOGUE: &str = "Restart, so that the catalogue is read again";

/// Columns of a MariaDB sequence, which is logged like a table of one row.
const SEQUENCE_COLUMNS: [&str; 8] = [
    "next_not_cached_value",
    "minimum_value",
    "maximum_value",
    "start_value",
    "increment",
    "cache_size",
    "cycle_option",
    "cycle_count",
];

/// Whether this is a MariaDB sequence rather than a table.
pub(super) fn is_sequence(map: &TableMap<'_>) -> bool {
    map.columns.len() == SEQUENCE_COLUMNS.len()
        && map.columns.iter().zip(SEQUENCE_COLUMNS).all(|(column, name)| column.name == name.as_bytes())
}

/// Makes the plan of a captured table.
pub(super) fn make(
    name: TableName,
    map: &TableMap<'_>,
    flavour: Flavour,
    special: Option<&HashMap<String, SpecialType>>,
) -> Result<Plan, Refusal> {
    if let Some(missing) = map.missing {
        let what = format!("binlog_row_metadata that is not FULL ({missing} missing)");
        return Err(Refusal { what, hint: HINT_FULL });
    }
    let (mut columns, mut cells) = (Vec::new(), Vec::new());
    for mapped in &map.columns {
        let Some(name) = Charset::UTF8MB4.to_text(mapped.name) else {
            return Err(Refusal { what: "a column name that is not UTF-8".into(), hint: HINT_EXCLUDE });
        };
        let special = special.and_then(|special| special.get(&name)).copied();
        let (data_type, cell) = read_column(mapped, flavour, special).map_err(|refusal| Refusal {
            what: format!("{} in column {name}", refusal.what),
            hint: refusal.hint,
        })?;
        cells.push(cell);
        columns.push(Column { name, data_type, nullable: mapped.nullable });
    }
    let schema = TableSchema::new(name, columns, map.key.clone())
        .map_err(|error| Refusal { what: error.message().to_owned(), hint: HINT_EXCLUDE })?;
    Ok(Plan { schema: Arc::new(schema), cells })
}

type Readable = Result<(DataType, CellReader), Refusal>;

fn refuse(what: impl Into<String>, hint: &'static str) -> Refusal {
    Refusal { what: what.into(), hint }
}

fn read_column(column: &MappedColumn<'_>, flavour: Flavour, special: Option<SpecialType>) -> Readable {
    let int = |bits| DataType::Int { bits, unsigned: column.unsigned };
    let low = column.meta[0] as u8;
    Ok(match column.code {
        code::TINY => (int(8), CellReader::Raw1),
        code::SHORT => (int(16), CellReader::Raw2),
        code::INT24 if column.unsigned => (int(24), CellReader::Uint24),
        code::INT24 => (int(24), CellReader::Int24),
        code::LONG => (int(32), CellReader::Raw4),
        code::LONGLONG => (int(64), CellReader::Raw8),
        code::FLOAT if low == 4 => (DataType::Float32, CellReader::Raw4),
        code::DOUBLE if low == 8 => (DataType::Float64, CellReader::Raw8),
        code::NEWDECIMAL => decimal(column)?,
        code::YEAR => (DataType::Year, CellReader::Year),
        code::DATE | code::NEWDATE => (DataType::Date, CellReader::Date),
        code::TIME2 if low <= 6 => (DataType::Time { fsp: low }, CellReader::Time2(low)),
        code::DATETIME2 if low <= 6 => (DataType::DateTime { fsp: low }, CellReader::DateTime2(low)),
        code::TIMESTAMP2 if low <= 6 => (DataType::Timestamp { fsp: low }, CellReader::Timestamp2(low)),
        code::TIME | code::DATETIME | code::TIMESTAMP => old_temporal(column.code, flavour, special)?,
        code::BIT => bit_string(column)?,
        code::ENUM | code::SET => labelled(column)?,
        code::VARCHAR
        | code::VAR_STRING
        | code::STRING
        | code::BLOB
        | code::VARCHAR_COMPRESSED
        | code::BLOB_COMPRESSED => character(column, special)?,
        code::JSON => (DataType::Json { binary: true }, CellReader::Json(length_bytes(low)?)),
        code::GEOMETRY => {
            let kind = geometry(column.detail)?.to_owned();
            (DataType::Geometry { kind }, CellReader::Bytes(length_bytes(low)?))
        }
        code::VECTOR => {
            let dimensions = u32::try_from(column.detail).ok().filter(|n| *n > 0);
            (DataType::Vector { dimensions }, CellReader::Bytes(length_bytes(low)?))
        }
        other => return Err(refuse(format!("type {other}"), HINT_EXCLUDE)),
    })
}

/// Bytes of the length before a value of the BLOB family.
fn length_bytes(bytes: u8) -> Result<u8, Refusal> {
    if (1..=4).contains(&bytes) { Ok(bytes) } else { Err(refuse("a length of unknown size", HINT_EXCLUDE)) }
}

fn decimal(column: &MappedColumn<'_>) -> Readable {
    let [precision, scale] = column.meta;
    let layout = DecimalLayout::new(precision as u8, scale as u8)
        .ok_or_else(|| refuse(format!("DECIMAL({precision},{scale})"), HINT_EXCLUDE))?;
    let data_type = DataType::Decimal { precision: Some(precision), scale: Some(scale as i16) };
    Ok((data_type, CellReader::Decimal(layout)))
}

/// The old formats do not say how many digits of fractions MariaDB 5.3 stored with them: the catalogue must.
fn old_temporal(type_code: u8, flavour: Flavour, special: Option<SpecialType>) -> Readable {
    let fsp = match (flavour, special) {
        (_, Some(SpecialType::Temporal { fsp })) if fsp <= 6 => fsp,
        (Flavour::Mysql, None) => 0,
        (Flavour::Mysql | Flavour::Mariadb, _) => {
            return Err(refuse("a date or time in the format before MySQL 5.6", HINT_CATALOGUE));
        }
    };
    Ok(match type_code {
        code::TIME => (DataType::Time { fsp }, CellReader::TimeOld(fsp)),
        code::DATETIME => (DataType::DateTime { fsp }, CellReader::DateTimeOld(fsp)),
        _ => (DataType::Timestamp { fsp }, CellReader::TimestampOld(fsp)),
    })
}

fn bit_string(column: &MappedColumn<'_>) -> Readable {
    let [odd_bits, bytes] = column.meta;
    let bits = bytes * 8 + odd_bits;
    if bits == 0 || bits > 64 || odd_bits > 7 {
        return Err(refuse(format!("BIT({bits})"), HINT_EXCLUDE));
    }
    let stored = bits.div_ceil(8);
    let data_type = DataType::Bit { length: Some(u32::from(bits)), varying: false };
    Ok((data_type, CellReader::Bit(stored as u8, (stored * 8 - bits) as u8)))
}

fn labelled(column: &MappedColumn<'_>) -> Readable {
    let charset = charset(column)?;
    let texts: Option<Vec<String>> = column.labels.iter().map(|label| charset.to_text(label)).collect();
    let labels =
        texts.ok_or_else(|| refuse("a label that is not valid in its character set", HINT_EXCLUDE))?;
    let bytes = column.meta[1] as u8;
    match column.code {
        code::ENUM if matches!(bytes, 1 | 2) => Ok((DataType::Enum { labels }, CellReader::Enum(bytes))),
        code::SET if (1..=8).contains(&bytes) => Ok((DataType::Set { labels }, CellReader::Set(bytes))),
        _ => Err(refuse(format!("ENUM or SET of {bytes} bytes"), HINT_EXCLUDE)),
    }
}

fn charset(column: &MappedColumn<'_>) -> Result<Charset, Refusal> {
    Charset::of_collation(column.collation)
        .ok_or_else(|| refuse(format!("collation {}", column.collation), HINT_EXCLUDE))
}

fn character(column: &MappedColumn<'_>, special: Option<SpecialType>) -> Readable {
    let charset = charset(column)?;
    let max = u32::from(column.meta[0]);
    let length = if max < 256 { 1 } else { 2 };
    match column.code {
        code::STRING => match special {
            Some(special) if charset.is_binary() => special_type(special, max, length),
            Some(_) | None => Ok(fixed(charset, max, length)),
        },
        code::VARCHAR | code::VAR_STRING => match special {
            Some(SpecialType::Vector) if charset.is_binary() => {
                Ok((DataType::Vector { dimensions: Some(max / 4) }, CellReader::Bytes(length)))
            }
            Some(_) | None => {
                Ok(sized(charset, max, CellReader::Text(length, charset), CellReader::Bytes(length)))
            }
        },
        // One byte more, for the header of what is compressed.
        code::VARCHAR_COMPRESSED => Ok(sized(
            charset,
            max.saturating_sub(1),
            CellReader::CompressedText(length, charset),
            CellReader::CompressedBytes(length),
        )),
        _ => {
            let length = length_bytes(column.meta[0] as u8)?;
            let (text, bytes) = match column.code {
                code::BLOB => (CellReader::Text(length, charset), CellReader::Bytes(length)),
                _ => (CellReader::CompressedText(length, charset), CellReader::CompressedBytes(length)),
            };
            Ok(large(charset, length, text, bytes))
        }
    }
}

fn characters(charset: Charset, bytes: u32) -> Option<u32> {
    Some(bytes / u32::from(charset.bytes_max()))
}

/// `char(n)` or `binary(n)`.
fn fixed(charset: Charset, max: u32, length: u8) -> (DataType, CellReader) {
    if charset.is_binary() {
        (DataType::Bytes { length: Some(max), fixed: true }, CellReader::Padded(length, max as u16))
    } else {
        let data_type = DataType::Text { length: characters(charset, max), fixed: true };
        (data_type, CellReader::Text(length, charset))
    }
}

/// `varchar(n)` or `varbinary(n)`.
fn sized(charset: Charset, max: u32, text: CellReader, bytes: CellReader) -> (DataType, CellReader) {
    if charset.is_binary() {
        (DataType::Bytes { length: Some(max), fixed: false }, bytes)
    } else {
        (DataType::Text { length: characters(charset, max), fixed: false }, text)
    }
}

/// The TEXT and BLOB families: as many bytes as the length before a value can count, characters as the catalogue
/// counts them, by the shortest.
fn large(charset: Charset, length: u8, text: CellReader, bytes: CellReader) -> (DataType, CellReader) {
    let max = u32::try_from((1u64 << (8 * u32::from(length))) - 1).unwrap_or(u32::MAX);
    if charset.is_binary() {
        (DataType::Bytes { length: Some(max), fixed: false }, bytes)
    } else {
        (DataType::Text { length: Some(max / u32::from(charset.bytes_min())), fixed: false }, text)
    }
}

fn special_type(special: SpecialType, max: u32, length: u8) -> Readable {
    let (data_type, width) = match special {
        SpecialType::Uuid => (DataType::Uuid, 16),
        SpecialType::Inet6 => (DataType::Inet6, 16),
        SpecialType::Inet4 => (DataType::Inet4, 4),
        SpecialType::Vector | SpecialType::Temporal { .. } => {
            return Err(refuse("another type than the catalogue says", HINT_CATALOGUE));
        }
    };
    if max != u32::from(width) {
        return Err(refuse("another type than the catalogue says", HINT_CATALOGUE));
    }
    Ok((data_type, CellReader::Fixed(length, width)))
}

fn geometry(kind: u64) -> Result<&'static str, Refusal> {
    const KINDS: [&str; 8] = [
        "geometry",
        "point",
        "linestring",
        "polygon",
        "multipoint",
        "multilinestring",
        "multipolygon",
        "geometrycollection",
    ];
    let at = usize::try_from(kind).unwrap_or(usize::MAX);
    KINDS.get(at).copied().ok_or_else(|| refuse(format!("geometry type {kind}"), HINT_EXCLUDE))
}
