//! From a row of `information_schema.COLUMNS` to a column of the schema.
//!
//! Lengths of text are characters for `char` and `varchar` and bytes for the `text` types, as the stream derives
//! them from the binlog. What the server prints is parsed strictly: a type that is not listed is refused.

use freshet_core::schema::Column;
use freshet_core::table::ColumnInfo;
use freshet_core::types::DataType;

use super::{Refusal, sql_string};
use crate::server::Flavour;
use crate::wire::Row;

/// The columns of the query, in the order of [`parse`]'s indexes.
const COLUMNS: &str = "SELECT TABLE_NAME, COLUMN_NAME, DATA_TYPE, COLUMN_TYPE, CHARACTER_MAXIMUM_LENGTH, \
     NUMERIC_PRECISION, NUMERIC_SCALE, DATETIME_PRECISION, COLLATION_NAME, COLUMN_DEFAULT, EXTRA, IS_NULLABLE, \
     COLUMN_COMMENT, GENERATION_EXPRESSION";

/// The query, whose last column only MySQL has: MariaDB keeps the number and checks nothing by it.
pub(super) fn select(flavour: Flavour) -> String {
    let reference = match flavour {
        Flavour::Mysql => "SRS_ID",
        Flavour::Mariadb => "NULL",
    };
    format!("{COLUMNS}, {reference} FROM information_schema.COLUMNS")
}

/// A column, or why it cannot be captured.
pub(super) struct Parsed {
    pub(super) name: String,
    pub(super) column: Result<Column, Refusal>,
    pub(super) info: ColumnInfo,
}

/// Reads one row of [`select`].
pub(super) fn parse(row: &Row, flavour: Flavour) -> Parsed {
    let cell = |at| row.text(at).unwrap_or("");
    let (name, native, extra) = (cell(1).to_owned(), cell(3).to_owned(), cell(10).to_ascii_lowercase());
    let declared = Declared {
        data_type: cell(2).to_ascii_lowercase(),
        column_type: &native,
        length: row.text(4).and_then(|text| text.parse().ok()),
        precision: row.text(5).and_then(|text| text.parse().ok()),
        scale: row.text(6).and_then(|text| text.parse().ok()),
        fsp: row.text(7).and_then(|text| text.parse().ok()).unwrap_or(0),
    };
    let nullable = cell(11) == "YES";
    let column = match declared.data_type(flavour) {
        Some(data_type) => Ok(Column { name: name.clone(), data_type, nullable }),
        None => Err(Refusal::Type { column: name.clone(), native: native.clone() }),
    };
    let info = ColumnInfo {
        not_null: !nullable,
        default: row.text(9).map(|text| default(text, &declared.data_type, &extra, flavour)),
        auto_increment: extra.contains("auto_increment"),
        generated: !cell(13).is_empty(),
        expression: cell(13).to_owned(),
        on_update: on_update(&extra),
        invisible: extra.contains("invisible"),
        srid: row.text(14).and_then(|text| text.parse().ok()),
        collation: row.text(8).map(str::to_owned),
        comment: cell(12).to_owned(),
        native_type: native,
    };
    Parsed { name, column, info }
}

/// The time of now, which is all that an update can set.
fn on_update(extra: &str) -> Option<String> {
    let (_, now) = extra.split_once("on update ")?;
    Some(now.split([' ', ',']).next().unwrap_or(now).to_owned())
}

/// A default in one form: text quoted, and what has to be computed in parentheses, but for the time of now. MySQL prints
/// text bare and says beside it what is an expression; MariaDB prints text quoted and NULL where there is none.
fn default(text: &str, data_type: &str, extra: &str, flavour: Flavour) -> String {
    let is_text = matches!(data_type, "char" | "varchar" | "enum" | "set") || data_type.ends_with("text");
    let is_now = text.to_ascii_lowercase().starts_with("current_timestamp");
    let is_computed = match flavour {
        Flavour::Mysql => extra.contains("default_generated") && !is_now,
        Flavour::Mariadb => is_text && !text.starts_with('\'') && text != "NULL",
    };
    match flavour {
        _ if is_computed => format!("({text})"),
        Flavour::Mysql if is_text => sql_string(text),
        Flavour::Mysql | Flavour::Mariadb => text.to_owned(),
    }
}

/// A declaration as the catalogue prints it.
struct Declared<'a> {
    data_type: String,
    column_type: &'a str,
    length: Option<u32>,
    precision: Option<u16>,
    scale: Option<i16>,
    fsp: u8,
}

impl Declared<'_> {
    fn data_type(&self, flavour: Flavour) -> Option<DataType> {
        let int = |bits| DataType::Int { bits, unsigned: self.is_unsigned() };
        let text = |fixed| DataType::Text { length: self.length, fixed };
        let bytes = |fixed| DataType::Bytes { length: self.length, fixed };
        let is_mariadb = flavour == Flavour::Mariadb;
        Some(match self.data_type.as_str() {
            "tinyint" => int(8),
            "smallint" => int(16),
            "mediumint" => int(24),
            "int" => int(32),
            "bigint" => int(64),
            "float" => DataType::Float32,
            "double" => DataType::Float64,
            "decimal" => DataType::Decimal { precision: Some(self.precision?), scale: Some(self.scale?) },
            "year" => DataType::Year,
            "date" => DataType::Date,
            "time" => DataType::Time { fsp: self.fsp },
            "datetime" => DataType::DateTime { fsp: self.fsp },
            "timestamp" => DataType::Timestamp { fsp: self.fsp },
            "char" => text(true),
            "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" => text(false),
            "binary" => bytes(true),
            "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" => bytes(false),
            "bit" => DataType::Bit { length: self.precision.map(u32::from), varying: false },
            "enum" => DataType::Enum { labels: labels(self.column_type)? },
            "set" => DataType::Set { labels: labels(self.column_type)? },
            "json" => DataType::Json { binary: true },
            "uuid" if is_mariadb => DataType::Uuid,
            "inet4" if is_mariadb => DataType::Inet4,
            "inet6" if is_mariadb => DataType::Inet6,
            "vector" => DataType::Vector { dimensions: self.length.map(|bytes| bytes / 4) },
            other => DataType::Geometry { kind: geometry(other)?.to_owned() },
        })
    }

    fn is_unsigned(&self) -> bool {
        self.column_type.split([' ', ')']).any(|word| word == "unsigned")
    }
}

fn geometry(name: &str) -> Option<&str> {
    const KINDS: [&str; 7] =
        ["geometry", "point", "linestring", "polygon", "multipoint", "multilinestring", "multipolygon"];
    match name {
        "geomcollection" | "geometrycollection" => Some("geometrycollection"),
        kind => KINDS.contains(&kind).then_some(kind),
    }
}

/// The labels of `enum('a','b''c')`. Quotes are doubled; backslash, newline, carriage return and NUL are escaped.
fn labels(declaration: &str) -> Option<Vec<String>> {
    let inner = declaration.split_once('(')?.1.strip_suffix(')')?;
    let (mut labels, mut chars) = (Vec::new(), inner.chars().peekable());
    while chars.next()? == '\'' {
        let mut label = String::new();
        loop {
            match chars.next()? {
                '\'' if chars.peek() == Some(&'\'') => label.push(chars.next()?),
                '\'' => break,
                '\\' => label.push(unescape(chars.next()?)),
                other => label.push(other),
            }
        }
        labels.push(label);
        match chars.next() {
            None => return Some(labels),
            Some(',') => {}
            Some(_) => return None,
        }
    }
    None
}

fn unescape(c: char) -> char {
    match c {
        'n' => '\n',
        'r' => '\r',
        '0' => '\0',
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_with_quotes_commas_and_escapes() {
        let check = |declaration: &str, expect: &[&str]| {
            assert_eq!(labels(declaration).expect("labels"), expect, "{declaration}");
        };
        check("enum('a')", &["a"]);
        check(r"enum('x','q''s','b\\c','n\nl','é','')", &["x", "q's", "b\\c", "n\nl", "é", ""]);
        check("set('a,b','(c)',')')", &["a,b", "(c)", ")"]);
        for broken in ["enum", "enum()", "enum('a'", "enum('a',)", "enum('a' 'b')", "enum('a)"] {
            assert_eq!(labels(broken), None, "{broken}");
        }
    }

    #[test]
    fn m2_unsigned_is_a_word_of_the_declaration() {
        let declared = |column_type| Declared {
            data_type: "int".into(),
            column_type,
            length: None,
            precision: None,
            scale: None,
            fsp: 0,
        };
        assert!(declared("int(10) unsigned zerofill").is_unsigned());
        assert!(declared("int unsigned").is_unsigned());
        assert!(!declared("int(11)").is_unsigned());
    }
}
