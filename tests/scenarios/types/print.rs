//! What a server's own client prints of a table: each cell as its type's text, in hexadecimal on the way.
//!
//! Bytes are printed as PostgreSQL prints them. MariaDB and MySQL print a float of their own accord with six digits: it
//! is printed as the double that it is, and compared as a number.

use crate::ends::{End, Kind};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// A column's type as the catalogue has it: the type's word, and the whole declaration.
type Declared = (String, String);

/// What stands at an end.
pub(crate) struct Printed {
    kind: Kind,
    /// By table and column.
    types: BTreeMap<(String, String), Declared>,
    /// By table, number of the row and column.
    cells: BTreeMap<(String, u32), BTreeMap<String, Option<String>>>,
}

/// The catalogue's columns, `id` and `n` left out.
fn types(end: &End) -> BTreeMap<(String, String), Declared> {
    let sql = match end.server.kind() {
        Kind::Postgres => {
            "select relname, attname, typname, format_type(atttypid, atttypmod) from pg_attribute \
             join pg_class c on c.oid = attrelid join pg_type t on t.oid = atttypid \
             where relnamespace = 'public'::regnamespace and relkind = 'r' and attnum > 0 and attname not in ('id', 'n')"
        }
        Kind::MariaDb | Kind::MySql => {
            "select table_name, column_name, data_type, column_type from information_schema.columns \
             where table_schema = database() and column_name not in ('id', 'n') order by table_name, ordinal_position"
        }
    };
    let text = end.sql(sql);
    let rows = text.lines().map(|line| line.split('\t').map(str::to_owned).collect::<Vec<_>>());
    rows.map(|row| ((row[0].clone(), row[1].clone()), (row[2].clone(), row[3].replace("\\\\", "\\"))))
        .collect()
}

/// A column's cell in hexadecimal.
fn expression(kind: Kind, column: &str, (word, declared): &Declared) -> String {
    let c = column;
    let text = match (kind, word.as_str()) {
        // A composite of nulls is null and is not.
        (Kind::Postgres, _) => {
            return format!(
                "case when num_nulls({c}) = 0 then encode(convert_to(format('%s', {c}), 'UTF8'), 'hex') end"
            );
        }
        // Every digit, and the sign of zero: a cast or a sum loses one or the other, and a column with decimals
        // prints no more of them.
        (Kind::MySql, "double") => format!("if({c} is null, null, json_extract(json_array({c}), '$[0]'))"),
        (_, "float" | "double") => format!("{c} * 1e0"),
        (_, "bit") => {
            format!("lpad(bin({c} + 0), {}, '0')", declared.trim_matches(|c: char| !c.is_ascii_digit()))
        }
        (_, word) if is_bytes(word) => format!("concat('\\\\x', lower(hex({c})))"),
        _ => c.to_owned(),
    };
    format!("hex(convert(concat({text}) using utf8mb4))")
}

fn is_bytes(word: &str) -> bool {
    const GEOMETRIES: [&str; 9] = [
        "geometry",
        "point",
        "linestring",
        "polygon",
        "multipoint",
        "multilinestring",
        "multipolygon",
        "geomcollection",
        "geometrycollection",
    ];
    word.ends_with("binary") || word.ends_with("blob") || word == "vector" || GEOMETRIES.contains(&word)
}

/// The settings under which a client prints.
pub(crate) fn session(kind: Kind) -> &'static str {
    match kind {
        Kind::Postgres => {
            "set timezone = 'UTC'; set datestyle = 'ISO'; set intervalstyle = 'postgres'; \
             set extra_float_digits = 3; set bytea_output = 'hex';\n"
        }
        Kind::MariaDb | Kind::MySql => {
            "set time_zone = '+00:00', sql_mode = 'ALLOW_INVALID_DATES,NO_AUTO_VALUE_ON_ZERO';\n"
        }
    }
}

/// Reads tables, whose rows are numbered by `id` or `n`.
pub(crate) fn read(end: &End, tables: &[(String, &str)]) -> Printed {
    let (kind, types) = (end.server.kind(), types(end));
    let mut sql = session(kind).to_owned();
    let mut columns: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (table, number) in tables {
        let own: Vec<_> = types.iter().filter(|((name, _), _)| name == table).collect();
        let list: Vec<String> = own.iter().map(|((_, column), ty)| expression(kind, column, ty)).collect();
        writeln!(sql, "select '{table}', {number}, {} from {table};", list.join(", ")).unwrap();
        columns.insert(table, own.iter().map(|((_, column), _)| column.as_str()).collect());
    }
    let mut cells = BTreeMap::new();
    for line in end.sql(&sql).lines() {
        let mut parts = line.split('\t');
        let (table, number) = (parts.next().unwrap(), parts.next().unwrap());
        let place = (table.to_owned(), number.parse().unwrap());
        let own = columns[table].iter().map(|column| (*column).to_owned());
        let row = own.zip(parts.map(|hex| (hex != "NULL").then(|| from_hex(hex)))).collect();
        assert!(cells.insert(place, row).is_none(), "{table}: row {number} is there twice");
    }
    Printed { kind, types, cells }
}

/// Of text that is none in UTF-8, its bytes: no text that a target prints is the same.
fn from_hex(text: &str) -> String {
    let digit = |byte: u8| (byte as char).to_digit(16).unwrap() as u8;
    let bytes = text.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect();
    String::from_utf8(bytes).unwrap_or_else(|error| format!("{:?}", error.as_bytes()))
}

impl Printed {
    /// The numbers of a table's rows.
    pub(crate) fn rows(&self, table: &str) -> Vec<u32> {
        self.cells.keys().filter(|(name, _)| name == table).map(|(_, number)| *number).collect()
    }

    /// A cell; nothing where there is no such row.
    pub(crate) fn cell(&self, table: &str, row: u32, column: &str) -> Option<&Option<String>> {
        self.cells.get(&(table.to_owned(), row)).map(|cells| &cells[column])
    }

    /// A column's declaration, in the words that both of MariaDB and MySQL have.
    pub(crate) fn declared(&self, table: &str, column: &str) -> Option<String> {
        let (word, declared) = self.types.get(&(table.to_owned(), column.to_owned()))?;
        let is_int = word.ends_with("int") || word == "year";
        Some(match declared.split_once('(') {
            Some((_, rest)) if self.kind.is_my() && is_int => format!("{word}{}", rest.split_once(')')?.1),
            _ if word == "geomcollection" => "geometrycollection".to_owned(),
            _ => declared.clone(),
        })
    }

    /// Whether a cell of this column that prints `shown` is what `expected` says.
    pub(crate) fn is_same(
        &self,
        table: &str,
        column: &str,
        shown: &Option<String>,
        expected: &Option<String>,
    ) -> bool {
        let word = self.types.get(&(table.to_owned(), column.to_owned())).map(|(word, _)| word.as_str());
        let (Some(shown), Some(expected)) = (shown, expected) else { return shown == expected };
        match (self.kind, word) {
            (Kind::MariaDb | Kind::MySql, Some("float")) => {
                let bits = |text: &str| text.parse::<f64>().ok().map(|number| (number as f32).to_bits());
                bits(shown).is_some() && bits(shown) == bits(expected)
            }
            (Kind::MariaDb | Kind::MySql, Some("double")) => {
                let bits = |text: &str| text.parse::<f64>().ok().map(f64::to_bits);
                bits(shown).is_some() && bits(shown) == bits(expected)
            }
            _ => shown == expected,
        }
    }
}
