//! The selected tables: what cannot be captured, what has no key, what cannot be read, what the target cannot name.

use std::collections::HashMap;

use freshet_core::error::Result;
use freshet_core::schema::TableName;
use freshet_core::source::Selects;
use freshet_core::table::TableInfo;

use super::{CheckOptions, Findings, Severity};
use crate::catalog::{self, Catalogue, Refusal, sql_name};
use crate::server::{Flavour, ServerFacts};
use crate::wire::Connection;

/// Checks them.
pub(super) async fn check(
    connection: &mut Connection,
    facts: &ServerFacts,
    selection: &dyn Selects,
    check: &CheckOptions,
    may_lock: bool,
    findings: &mut Findings,
) -> Result<()> {
    let catalogue = catalog::read_catalogue(connection, facts, selection).await?;
    if catalogue.tables.is_empty() && catalogue.refused.is_empty() {
        findings.add(
            Severity::Error,
            "no-tables",
            "tables",
            "No table that the account may see is selected",
            "Check the pipeline's tables, and grant SELECT on them",
        );
    }
    refusals(&catalogue, findings);
    keys(&catalogue.tables, check, may_lock, findings);
    names(&catalogue.tables, check.name_bytes_max, findings);
    readable(connection, &catalogue.tables, findings).await;
    if check.role.loads() {
        prepared(connection, findings).await?;
    }
    if check.role.streams() {
        filters(connection, facts, &catalogue.tables, findings).await;
    }
    Ok(())
}

fn refusals(catalogue: &Catalogue, findings: &mut Findings) {
    for refused in &catalogue.refused {
        let code = match &refused.why {
            Refusal::Engine(_) => "engine",
            Refusal::SystemVersioned => "system-versioned",
            Refusal::Cascade { .. } => "cascade",
            Refusal::HiddenColumn { .. } => "hidden-column",
            Refusal::Type { .. } => "type",
            Refusal::Labels { .. } => "labels",
        };
        findings.add(Severity::Error, code, refused.table.to_string(), refused.message(), refused.remedy());
    }
}

/// R7, and ALGORITHMS 2.4.
fn keys(tables: &[TableInfo], check: &CheckOptions, may_lock: bool, findings: &mut Findings) {
    for table in tables.iter().filter(|table| table.schema.key().is_empty()) {
        let needs_lock = check.role.loads() && !may_lock;
        let (severity, why) = if needs_lock {
            (Severity::Error, "cannot be loaded without the global read lock")
        } else {
            (Severity::Warning, "is loaded as one piece, and its changes are applied row by row")
        };
        let name = table.name();
        findings.add(
            severity,
            "no-key",
            name.to_string(),
            format!("Table {name} has no primary key: it {why}"),
            format!("Add a primary key: ALTER TABLE {} ADD PRIMARY KEY (...)", sql_name(name)),
        );
    }
}

/// D13: names that the target cuts, and names that differ only in case.
fn names(tables: &[TableInfo], bytes_max: usize, findings: &mut Findings) {
    let mut seen: HashMap<(String, String), &TableName> = HashMap::new();
    for table in tables {
        let name = table.name();
        let columns = table.schema.columns().iter().map(|column| ("column", column.name.as_str()));
        for (what, long) in
            columns.chain([("table", name.table.as_str()), ("database", name.schema.as_str())])
        {
            if long.len() > bytes_max {
                findings.add(
                    Severity::Error,
                    "long-name",
                    name.to_string(),
                    format!(
                        "The {what} name {long} has more than the {bytes_max} bytes that the target takes"
                    ),
                    format!("Rename the {what} on the source, or exclude the table"),
                );
            }
        }
        let folded = (name.schema.to_lowercase(), name.table.to_lowercase());
        if let Some(other) = seen.insert(folded, name) {
            findings.add(
                Severity::Warning,
                "names-differ-in-case",
                name.to_string(),
                format!("Tables {other} and {name} differ only in case: on the target they must be quoted to be told apart"),
                "",
            );
        }
    }
}

async fn readable(connection: &mut Connection, tables: &[TableInfo], findings: &mut Findings) {
    for table in tables {
        let name = table.name();
        let tried = connection.query(&format!("SELECT * FROM {} LIMIT 0", sql_name(name))).await;
        if let Err(error) = tried {
            findings.add(
                Severity::Error,
                "select",
                name.to_string(),
                format!("Table {name} cannot be read: {error}"),
                format!("GRANT SELECT ON {} TO the account", sql_name(name)),
            );
        }
    }
}

/// T3. An account that may not ask has a finding for that already.
async fn prepared(connection: &mut Connection, findings: &mut Findings) -> Result<()> {
    let count = connection.query("XA RECOVER").await.map_or(0, |rows| rows.len());
    if count > 0 {
        findings.add(
            Severity::Error,
            "xa",
            "XA",
            format!("The server holds {count} prepared XA transactions, which are not supported yet"),
            "XA RECOVER lists them; XA COMMIT or XA ROLLBACK each",
        );
    }
    Ok(())
}

/// R28: databases that the binlog leaves out.
async fn filters(
    connection: &mut Connection,
    facts: &ServerFacts,
    tables: &[TableInfo],
    findings: &mut Findings,
) {
    let statement = match facts.flavour {
        Flavour::Mysql if facts.version >= (8, 2, 0) => "SHOW BINARY LOG STATUS",
        Flavour::Mysql | Flavour::Mariadb => "SHOW MASTER STATUS",
    };
    let Ok(rows) = connection.query(statement).await else { return };
    let list = |name: &str| -> Vec<String> {
        let cell = rows.column(name).and_then(|at| rows.first(at)).unwrap_or("");
        cell.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
    };
    let (only, ignored) = (list("Binlog_Do_DB"), list("Binlog_Ignore_DB"));
    let mut databases: Vec<&str> = tables.iter().map(|table| table.name().schema.as_str()).collect();
    databases.dedup();
    for database in databases {
        let has = |list: &[String]| list.iter().any(|name| name == database);
        let option = match (only.is_empty(), has(&only), has(&ignored)) {
            (_, _, true) => "binlog_ignore_db",
            (false, false, false) => "binlog_do_db",
            (true, _, false) | (false, true, false) => continue,
        };
        findings.add(
            Severity::Error,
            "binlog-filter",
            database,
            format!("Changes of database {database} are left out of the binlog by {option}"),
            format!("Change {option} in the server's configuration file and restart it"),
        );
    }
}
