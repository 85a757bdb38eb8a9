//! What stands in the selected databases and is not carried over, one line each: listed, never dropped silently.
//!
//! Only what the account may see can be listed: triggers, for one, are shown to accounts with TRIGGER.

use std::collections::HashMap;

use freshet_core::error::Result;
use freshet_core::schema::TableName;
use freshet_core::source::Selects;

use super::{selected_schemas, sql_string, text};
use crate::server::{Flavour, ServerFacts};
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
pub(crate) async fn read_extras(
    connection: &mut Connection,
    facts: &ServerFacts,
    selection: &dyn Selects,
) -> Result<Extras> {
    let mut extras = Extras::default();
    for schema in selected_schemas(connection, selection).await? {
        read_objects(connection, &schema, &mut extras).await?;
        read_of_tables(connection, facts.flavour, &schema, selection, &mut extras).await?;
    }
    Ok(extras)
}

async fn read_of_tables(
    connection: &mut Connection,
    flavour: Flavour,
    schema: &str,
    selection: &dyn Selects,
    extras: &mut Extras,
) -> Result<()> {
    let name = sql_string(schema);
    let checks = match flavour {
        // MariaDB makes a check for every column declared as JSON, which says what the type says.
        Flavour::Mariadb => format!(
            "SELECT TABLE_NAME, CONSTRAINT_NAME FROM information_schema.CHECK_CONSTRAINTS \
             WHERE CONSTRAINT_SCHEMA = {name} AND CHECK_CLAUSE <> CONCAT('json_valid(`', CONSTRAINT_NAME, '`)') \
             ORDER BY 1, 2"
        ),
        Flavour::Mysql => format!(
            "SELECT TABLE_NAME, CONSTRAINT_NAME FROM information_schema.TABLE_CONSTRAINTS \
             WHERE TABLE_SCHEMA = {name} AND CONSTRAINT_TYPE = 'CHECK' ORDER BY 1, 2"
        ),
    };
    extras.add_rows(schema, &connection.query(&checks).await?, "Check constraint", selection)?;
    let triggers = format!(
        "SELECT EVENT_OBJECT_TABLE, TRIGGER_NAME FROM information_schema.TRIGGERS \
         WHERE EVENT_OBJECT_SCHEMA = {name} ORDER BY 1, 2"
    );
    extras.add_rows(schema, &connection.query(&triggers).await?, "Trigger", selection)?;
    let partitions = format!(
        "SELECT TABLE_NAME, CONCAT('by ', LOWER(MAX(PARTITION_METHOD)), ' (', COUNT(*), ')') \
         FROM information_schema.PARTITIONS WHERE TABLE_SCHEMA = {name} AND PARTITION_NAME IS NOT NULL \
         GROUP BY TABLE_NAME ORDER BY 1"
    );
    extras.add_rows(schema, &connection.query(&partitions).await?, "Partitioning", selection)?;
    read_of_columns(connection, flavour, schema, selection, extras).await
}

/// What columns say beside type, collation and default.
async fn read_of_columns(
    connection: &mut Connection,
    flavour: Flavour,
    schema: &str,
    selection: &dyn Selects,
    extras: &mut Extras,
) -> Result<()> {
    let name = sql_string(schema);
    let reference = match flavour {
        Flavour::Mysql => "SRS_ID IS NOT NULL",
        // MariaDB keeps the number and checks nothing by it.
        Flavour::Mariadb => "FALSE",
    };
    for (what, has_it) in [
        ("ON UPDATE of column", "EXTRA LIKE '%on update%'"),
        ("INVISIBLE of column", "EXTRA LIKE '%INVISIBLE%'"),
        ("SRID of column", reference),
    ] {
        let columns = format!(
            "SELECT TABLE_NAME, COLUMN_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = {name} AND {has_it} \
             ORDER BY TABLE_NAME, ORDINAL_POSITION"
        );
        extras.add_rows(schema, &connection.query(&columns).await?, what, selection)?;
    }
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
