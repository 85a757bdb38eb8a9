//! MariaDB's columns whose type the binlog does not tell from bytes, asked of the catalogue when a session begins.
//!
//! Of now, not of the event's own place (D1): a column that was dropped since, or made anew as another type, is read
//! as the bytes that the binlog calls it, and the schema announced for it says so.

use freshet_core::error::Result;
use freshet_core::schema::TableName;
use freshet_core::source::Selects;

use crate::decode::{SpecialColumns, SpecialType};
use crate::server::{Flavour, ServerFacts};
use crate::wire::Connection;

const QUERY: &str = "SELECT table_schema, table_name, column_name, data_type FROM information_schema.columns \
     WHERE data_type IN ('uuid', 'inet4', 'inet6', 'vector')";

/// The special columns of the captured tables.
pub(crate) async fn special_columns(
    facts: &ServerFacts,
    selects: &dyn Selects,
    connection: &mut Connection,
) -> Result<SpecialColumns> {
    let mut columns = SpecialColumns::new();
    match facts.flavour {
        Flavour::Mysql => return Ok(columns),
        Flavour::Mariadb => {}
    }
    for row in &connection.query(QUERY).await? {
        let texts = (row.text(0), row.text(1), row.text(2), row.text(3).and_then(special_type));
        if let (Some(schema), Some(table), Some(column), Some(special)) = texts {
            let table = TableName::new(schema, table);
            if selects.selects(&table) {
                columns.entry(table).or_default().insert(column.to_owned(), special);
            }
        }
    }
    Ok(columns)
}

fn special_type(name: &str) -> Option<SpecialType> {
    match name.to_ascii_lowercase().as_str() {
        "uuid" => Some(SpecialType::Uuid),
        "inet4" => Some(SpecialType::Inet4),
        "inet6" => Some(SpecialType::Inet6),
        "vector" => Some(SpecialType::Vector),
        _ => None,
    }
}
