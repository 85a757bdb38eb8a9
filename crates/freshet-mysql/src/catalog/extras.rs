//! What stands in the selected databases and is not carried over, one line each: listed, never dropped silently.
//!
//! Only what the account may see can be listed: triggers, for one, are shown to accounts with TRIGGER.

use std::collections::HashMap;

use freshet_core::error::Result;
use freshet_core::schema::TableName;
use freshet_core::source::Selects;

use super::{selected_schemas, sql_string, text};
use crate::wire::{Connection, Rows};

/// Lines about tables and about databases.
#[derive(Clone, Debug, Default)]
pub(crate) struct Extras {
    of_tables: HashMap<TableName, Vec<String>>,
    pub(crate) not_carried: Vec<String>,
}

impl Extras {
    pub(super) fn of_table(&self, table: &TableName) -> &[String] {
        self.of_tables.get(table).map_or(&[], Vec::as_slice)
    }

    fn add_rows(&mut self, schema: &str, rows: &Rows, what: &str, selection: &dyn Selects) -> Result<()> {
        for row in rows {
            let table = TableName::new(schema, text(row, 0)?);
            if selection.selects(&table) {
                let name = row.text(1).unwrap_or("");
                self.of_tables.entry(table).or_default().push(format!("{what} {name}"));
            }
        }
        Ok(())
    }
}

/// Reads them.
pub(crate) async fn read_extras(connection: &mut Connection, selection: &dyn Selects) -> Result<Extras> {
    let mut extras = Extras::default();
    for schema in selected_schemas(connection, selection).await? {
        read_objects(connection, &schema, &mut extras).await?;
        read_of_tables(connection, &schema, selection, &mut extras).await?;
    }
    Ok(extras)
}

async fn read_of_tables(
    connection: &mut Connection,
    schema: &str,
    selection: &dyn Selects,
    extras: &mut Extras,
) -> Result<()> {
    let name = sql_string(schema);
    let triggers = format!(
        "SELECT EVENT_OBJECT_TABLE, TRIGGER_NAME FROM information_schema.TRIGGERS \
         WHERE EVENT_OBJECT_SCHEMA = {name} ORDER BY 1, 2"
    );
    extras.add_rows(schema, &connection.query(&triggers).await?, "Trigger", selection)?;
    Ok(())
}

/// Views, sequences, routines and events of a database.
async fn read_objects(connection: &mut Connection, schema: &str, extras: &mut Extras) -> Result<()> {
    let name = sql_string(schema);
    let lines = &mut extras.not_carried;
    let tables = format!(
        "SELECT TABLE_NAME, TABLE_TYPE FROM information_schema.TABLES \
         WHERE TABLE_SCHEMA = {name} AND TABLE_TYPE IN ('VIEW', 'SEQUENCE') ORDER BY 1"
    );
    for row in &connection.query(&tables).await? {
        let kind = if text(row, 1)? == "VIEW" { "View" } else { "Sequence" };
        lines.push(format!("{kind} {schema}.{}", text(row, 0)?));
    }
    let routines = format!(
        "SELECT ROUTINE_NAME, ROUTINE_TYPE FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = {name} ORDER BY 1, 2"
    );
    for row in &connection.query(&routines).await? {
        let kind = if text(row, 1)? == "FUNCTION" { "Function" } else { "Procedure" };
        lines.push(format!("{kind} {schema}.{}", text(row, 0)?));
    }
    let events =
        format!("SELECT EVENT_NAME FROM information_schema.EVENTS WHERE EVENT_SCHEMA = {name} ORDER BY 1");
    for row in &connection.query(&events).await? {
        lines.push(format!("Event {schema}.{}", text(row, 0)?));
    }
    Ok(())
}
