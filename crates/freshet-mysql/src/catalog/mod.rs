//! The catalogue of a MySQL or MariaDB server: tables as `information_schema` describes them.
//!
//! Names, types and keys are never taken from DDL text (M20); what a target of the same product makes a table of is cut
//! out of `SHOW CREATE TABLE` (`printed`), and so are foreign keys, which MariaDB hides elsewhere from accounts that have
//! SELECT alone (`keys`). Nothing is judged here but what is sure to be computed alike by a target (`sure`), and what
//! freshet cannot read at all, which is listed as [`Refused`] and stops whoever asked for the
//! tables; `check` shows all of it at once.
//!
//! Invariant: a table's schema here has the same identity as the one that the stream makes of the binlog's
//! TABLE_MAP under `binlog_row_metadata=FULL` for the same definition. The cells of load and stream meet in one
//! target table, so a column type that the two understood differently would be a silent divergence.
//!
//! Two readings make one catalogue: the *definition* (tables, columns, indexes, foreign keys) must be of the moment
//! of the view and is read under its lock; what is only listed as not carried over is read before.

mod columns;
mod definition;
mod extras;
mod keys;
mod labels;
mod printed;
mod sure;

use std::collections::BTreeSet;
use std::sync::Arc;

use freshet_core::error::{Error, ErrorKind, Result};
use freshet_core::schema::TableName;
use freshet_core::source::Selects;
use freshet_core::table::TableInfo;

use crate::server::{Flavour, ServerFacts, quoted};
use crate::wire::{Connection, Row};

pub(crate) use definition::{Definition, read_definition, read_one};
pub(crate) use extras::{Extras, read_extras};
pub use keys::ForeignKey;

/// Databases that belong to the server.
const SYSTEM_SCHEMAS: [&str; 4] = ["information_schema", "mysql", "performance_schema", "sys"];

/// Why a table cannot be captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// An engine without transactions is outside every snapshot.
    Engine(String),
    /// A MariaDB table with system versioning: its history rows appear as inserts (R14).
    SystemVersioned,
    /// A foreign key that changes rows of this table without the binlog showing it (R15).
    Cascade {
        /// Name of the constraint.
        constraint: String,
        /// The rule, `ON DELETE CASCADE`.
        rule: String,
    },
    /// A unique index over a long column, which MariaDB implements by a hidden column in every row.
    HiddenColumn {
        /// Name of the index.
        index: String,
    },
    /// A column of a type that freshet does not know.
    Type {
        /// Name of the column.
        column: String,
        /// The type as the server prints it.
        native: String,
    },
    /// An ENUM or SET with a label that the server does not tell: its catalogue prints `?` for some characters.
    Labels {
        /// Name of the column.
        column: String,
    },
}

/// A selected table that cannot be captured, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The table.
    pub table: TableName,
    /// Why.
    pub why: Refusal,
}

impl Refused {
    /// What stands in the error or the finding.
    pub fn message(&self) -> String {
        let table = &self.table;
        match &self.why {
            Refusal::Engine(engine) => {
                format!("Table {table} is of engine {engine}, which has no transactions")
            }
            Refusal::SystemVersioned => {
                format!("Table {table} is system-versioned, which is not supported yet")
            }
            Refusal::Cascade { constraint, rule } => format!(
                "Foreign key {constraint} of table {table} has {rule}, and the server does not log what that changes"
            ),
            Refusal::HiddenColumn { index } => format!(
                "Unique index {index} of table {table} covers a long column by a hidden hash, which is not supported yet"
            ),
            Refusal::Type { column, native } => {
                format!("Column {column} of table {table} has the unsupported type {native}")
            }
            Refusal::Labels { column } => format!(
                "Column {column} of table {table} has a label with a character that the server's catalogue cannot \
                 show, and the server did not tell it otherwise"
            ),
        }
    }

    /// What to do about it.
    pub fn remedy(&self) -> String {
        let exclude = format!("exclude {} from the pipeline's tables", self.table);
        match &self.why {
            Refusal::Engine(_) => {
                format!("ALTER TABLE {} ENGINE=InnoDB, or {exclude}", sql_name(&self.table))
            }
            Refusal::SystemVersioned => {
                format!("ALTER TABLE {} DROP SYSTEM VERSIONING, or {exclude}", sql_name(&self.table))
            }
            Refusal::Cascade { constraint, .. } => format!(
                "Replace the foreign key by one without actions (ALTER TABLE {} DROP FOREIGN KEY {}), use MySQL 9.6 \
                 or later with innodb_native_foreign_keys=OFF, or {exclude}",
                sql_name(&self.table),
                sql_ident(constraint)
            ),
            Refusal::HiddenColumn { index } => {
                format!("ALTER TABLE {} DROP INDEX {}, or {exclude}", sql_name(&self.table), sql_ident(index))
            }
            Refusal::Type { .. } => format!("Change the column's type, or {exclude}"),
            Refusal::Labels { .. } => {
                format!(
                    "Let the account SELECT the whole table, give the column labels without ?, or {exclude}"
                )
            }
        }
    }

    fn into_error(self) -> Error {
        let hint = self.remedy();
        Error::new(ErrorKind::Unsupported, self.message()).with_hint(hint)
    }
}

/// The selected tables, and what stands in the way of capturing them.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    /// The tables, ordered by name. Those in `refused` are among them where a schema could be made.
    pub tables: Vec<TableInfo>,
    /// Selected tables that cannot be captured.
    pub refused: Vec<Refused>,
    /// Foreign keys of the selected tables.
    pub foreign_keys: Vec<ForeignKey>,
    /// Things of the selected databases that are not carried over, one line each.
    pub not_carried: Vec<String>,
}

impl Catalogue {
    /// The tables, if nothing stands in the way of capturing each of them.
    pub fn accept(self) -> Result<(Vec<TableInfo>, Vec<String>)> {
        match self.refused.into_iter().next() {
            Some(refused) => Err(refused.into_error()),
            None => Ok((self.tables, self.not_carried)),
        }
    }

    /// A definition, with what is listed beside it.
    pub(crate) fn join(definition: Definition, extras: &Extras) -> Self {
        let Definition { mut tables, refused, foreign_keys } = definition;
        for info in &mut tables {
            let lines = extras.of_table(info.schema.name());
            info.not_carried.extend_from_slice(lines);
        }
        Self { tables, refused, foreign_keys, not_carried: extras.not_carried.clone() }
    }
}

/// Reads the catalogue of the selected tables as of now; not of one moment, unless the caller holds a lock.
pub async fn read_catalogue(
    connection: &mut Connection,
    facts: &ServerFacts,
    selection: &dyn Selects,
) -> Result<Catalogue> {
    prepare_session(connection, facts.flavour).await?;
    // Some modes print other quotes, or leave out what only this product has.
    connection.exec("SET SESSION sql_mode = 'ALLOW_INVALID_DATES'").await?;
    let extras = read_extras(connection, selection).await?;
    let definition = read_definition(connection, facts, selection).await?;
    Ok(Catalogue::join(definition, &extras))
}

/// The selected tables; the first that cannot be captured is an error that names it.
pub async fn read_tables(
    connection: &mut Connection,
    facts: &ServerFacts,
    selection: &dyn Selects,
) -> Result<Vec<TableInfo>> {
    let (tables, _) = read_catalogue(connection, facts, selection).await?.accept()?;
    Ok(tables)
}

/// Makes the server tell the truth: names in quotes, exact counters, and keys that MySQL generated itself (R14).
pub(crate) async fn prepare_session(connection: &mut Connection, flavour: Flavour) -> Result<()> {
    connection.exec("SET SESSION sql_quote_show_create = 1").await?;
    match flavour {
        Flavour::Mariadb => {}
        Flavour::Mysql => {
            connection.exec("SET SESSION information_schema_stats_expiry = 0").await?;
            let known =
                connection.exec("SET SESSION show_gipk_in_create_table_and_information_schema = ON").await;
            const UNKNOWN_VARIABLE: Option<u16> = Some(1193);
            match known {
                Err(error) if error.server_code() != UNKNOWN_VARIABLE => return Err(error.into()),
                Ok(_) | Err(_) => {}
            }
        }
    }
    Ok(())
}

/// The databases with a table (or view) of a selected name, in order.
///
/// Asks for names alone, which costs the server no look into any table.
pub(crate) async fn selected_schemas(
    connection: &mut Connection,
    selection: &dyn Selects,
) -> Result<Vec<String>> {
    let system = SYSTEM_SCHEMAS.map(sql_string).join(", ");
    let sql = format!(
        "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA NOT IN ({system})"
    );
    let mut names = BTreeSet::new();
    for row in &connection.query(&sql).await? {
        let table = TableName::new(text(row, 0)?, text(row, 1)?);
        if selection.selects(&table) {
            names.insert(table.schema);
        }
    }
    Ok(names.into_iter().collect())
}

/// A name between backticks.
pub(crate) fn sql_ident(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// A table's name as a statement takes it.
pub(crate) fn sql_name(name: &TableName) -> String {
    format!("{}.{}", sql_ident(&name.schema), sql_ident(&name.table))
}

/// A string between quotes, for sessions without `NO_BACKSLASH_ESCAPES`.
pub(crate) fn sql_string(text: &str) -> String {
    format!("'{}'", quoted(text))
}

/// A collation's name begins with its character set's.
pub(crate) fn charset_of(collation: &str) -> &str {
    collation.split('_').next().unwrap_or(collation)
}

/// A cell that is never NULL.
fn text(row: &Row, column: usize) -> Result<&str> {
    row.text(column).ok_or_else(|| Error::corrupt("The server's catalogue has NULL where a name belongs"))
}

/// A number, 0 where there is none.
fn number(row: &Row, column: usize) -> u64 {
    row.text(column).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Whether two readings of the catalogue describe the same tables; counters may differ.
pub(crate) fn same_definition(a: &[TableInfo], b: &[TableInfo]) -> bool {
    let same = |(a, b): (&TableInfo, &TableInfo)| {
        Arc::as_ref(&a.schema) == Arc::as_ref(&b.schema)
            && a.columns == b.columns
            && a.indexes == b.indexes
            && a.native == b.native
    };
    a.len() == b.len() && a.iter().zip(b).all(same)
}
