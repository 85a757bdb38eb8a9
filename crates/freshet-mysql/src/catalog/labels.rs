//! Labels of ENUM and SET that `information_schema` cannot show: it prints in utf8mb3, where a character of four bytes
//! comes as `?`, on both servers and in SHOW CREATE TABLE too.
//!
//! A label with a `?` may be one of those, so the server is asked what it takes it for. The column of a recursive
//! common table expression has the type of its first part, which here is the column itself on a row of NULLs; the
//! second part puts the labels' numbers into it, and the server reads them as labels. That needs no row, no lock and
//! no privilege but SELECT.
//!
//! MariaDB keeps a SET there in as many bytes as an ENUM of so many labels, so that it does not know those behind the
//! eighth: one of them with a `?` is refused, whatever it is.
//!
//! Invariant: a label is taken from the answer only where it is what the catalogue prints of it; else the column is
//! refused by name. A label that differed from the stream's would load wrong text without anyone noticing.

use freshet_core::error::Result;
use freshet_core::schema::TableName;
use freshet_core::types::DataType;

use super::columns::Parsed;
use super::{Refusal, sql_ident, sql_name};
use crate::wire::Connection;

/// Stands in the first part, and makes its column as wide as numbers get: no label has this one.
const ANCHOR: u64 = u64::MAX;

/// Labels asked for in one statement.
const LABELS_MAX: usize = 100;

/// What the catalogue prints for a character that it cannot.
const LOST: char = '?';

/// Puts the labels of a table's columns right; a column whose labels the server does not tell is refused.
pub(super) async fn restore(
    connection: &mut Connection,
    table: &TableName,
    columns: &mut [Parsed],
) -> Result<()> {
    for parsed in columns {
        let Ok(column) = &mut parsed.column else { continue };
        let (labels, is_set) = match &mut column.data_type {
            DataType::Enum { labels } => (labels, false),
            DataType::Set { labels } => (labels, true),
            _ => continue,
        };
        if !restore_labels(connection, table, &parsed.name, labels, is_set).await? {
            parsed.column = Err(Refusal::Labels { column: parsed.name.clone() });
        }
    }
    Ok(())
}

/// Whether every label is known now.
async fn restore_labels(
    connection: &mut Connection,
    table: &TableName,
    column: &str,
    labels: &mut [String],
    is_set: bool,
) -> Result<bool> {
    let value = |at: usize| if is_set { 1u64 << (at % 64) } else { at as u64 + 1 };
    let mut doubtful: Vec<(u64, &mut String)> =
        labels.iter_mut().enumerate().map(|(at, label)| (value(at), label)).collect();
    doubtful.retain(|(_, label)| label.contains(LOST));
    for some in doubtful.chunks_mut(LABELS_MAX) {
        let values: Vec<u64> = some.iter().map(|(value, _)| *value).collect();
        let rows = match connection.query(&question(table, column, &values)).await {
            Ok(rows) => rows,
            Err(error) if error.server_code().is_some() => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        for (value, label) in some {
            let value = value.to_string();
            let row = rows.rows().iter().find(|row| row.text(0) == Some(&value));
            match row.and_then(|row| from_hex(row.text(1)?)).filter(|found| printed(found) == **label) {
                Some(found) => **label = found,
                None => return Ok(false),
            }
        }
    }
    Ok(true)
}

/// Asks for the labels of these values, in hexadecimal digits of their UTF-8.
fn question(table: &TableName, column: &str, values: &[u64]) -> String {
    let values: Vec<String> = values.iter().map(|v| format!("SELECT CAST({v} AS UNSIGNED) AS v")).collect();
    format!(
        "WITH RECURSIVE l (v, label) AS (SELECT CAST({ANCHOR} AS UNSIGNED), t.{} FROM (SELECT 1) AS one LEFT JOIN {} AS t \
         ON FALSE UNION ALL SELECT n.v, n.v FROM l JOIN ({}) AS n ON l.v = {ANCHOR}) \
         SELECT v, HEX(CONVERT(label USING utf8mb4)) FROM l WHERE v < {ANCHOR}",
        sql_ident(column),
        sql_name(table),
        values.join(" UNION ALL ")
    )
}

/// A label as the catalogue prints it.
fn printed(label: &str) -> String {
    label.chars().map(|c| if c.len_utf8() > 3 { LOST } else { c }).collect()
}

fn from_hex(digits: &str) -> Option<String> {
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Option<Vec<u8>> = digits.as_bytes().chunks(2).map(byte).collect();
    String::from_utf8(bytes?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m10_what_the_catalogue_prints_of_a_label() {
        assert_eq!(printed("a?😀ü你"), "a??ü你");
        assert_eq!(from_hex("61F09F9880").as_deref(), Some("a😀"));
        assert_eq!((from_hex("FF"), from_hex("6g"), from_hex("")), (None, None, Some(String::new())));
    }
}
