//! What a logged statement means for the captured tables: its names resolved, its verdict given.
//!
//! Unknown means stop: a statement that cannot be read and might concern a captured table is reported as one that
//! changed a table without a name. Changes of rows that are logged as a statement (R11) always stop: what a statement
//! writes beside the tables that it names (by triggers, functions, views) cannot be told from its text.

use freshet_core::schema::TableName;
use freshet_core::source::Selects;

use super::DecodeOptions;
use super::query::Query;
use super::statement::{Name, Statement, classify, mentioned};
use super::tables::Tables;

/// Databases of the server's own, which are never captured.
const SYSTEM_SCHEMAS: [&str; 4] = ["mysql", "sys", "performance_schema", "information_schema"];

/// What a statement does to what is captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Transaction control.
    Begin,
    Commit,
    Rollback,
    RollbackTo,
    /// Stops: by name.
    Refuse(String, &'static str),
    /// Nothing that is captured is touched.
    None,
    /// A captured table was emptied.
    Truncate(TableName),
    /// The definitions of captured tables changed; one without a name stands for any.
    Changed(Vec<TableName>),
}

const HINT_XA: &str = "Distributed transactions are not supported yet: end them, and start after that";
const HINT_ROW: &str = "Set binlog_format=ROW for every session of the source, and load the tables again";

/// Decides statements.
pub(super) struct Judge<'d> {
    pub(super) selects: &'d dyn Selects,
    pub(super) options: &'d DecodeOptions,
    pub(super) tables: &'d Tables,
}

impl Judge<'_> {
    /// What a statement does. `is_load` for LOAD DATA logged as a statement.
    pub(super) fn judge(&self, query: &Query<'_>, is_load: bool) -> Effect {
        match query.bytes() {
            b"BEGIN" => return Effect::Begin,
            b"COMMIT" => return Effect::Commit,
            _ => {}
        }
        let database = String::from_utf8_lossy(query.database);
        let Some(text) = query.text() else { return unknown() };
        let statement = if is_load { Statement::Dml } else { classify(&text, query.quoting) };
        match statement {
            Statement::Begin => Effect::Begin,
            Statement::Commit => Effect::Commit,
            Statement::Rollback => Effect::Rollback,
            Statement::RollbackTo => Effect::RollbackTo,
            Statement::Savepoint | Statement::Harmless => Effect::None,
            Statement::Xa => Effect::Refuse("a distributed transaction (XA)".to_owned(), HINT_XA),
            Statement::Truncate(name) => match self.captured(&name, &database) {
                Some(table) => Effect::Truncate(table),
                None => Effect::None,
            },
            Statement::Tables(names) => {
                changed(names.iter().filter_map(|name| self.captured(name, &database)))
            }
            Statement::DropDatabase(name) => {
                let is_captured = self.may_hold(&name);
                changed(is_captured.then(|| TableName::new(name, "")).into_iter())
            }
            Statement::Dml => self.dml(query, &text, &database),
            Statement::Unknown if mentioned(&text, query.quoting).next().is_none() && !text.is_empty() => {
                Effect::Refuse("an event that the server replaced by a comment".to_owned(), HINT_ROW)
            }
            Statement::Unknown => unknown(),
        }
    }

    /// The captured table that a name means.
    fn captured(&self, name: &Name, database: &str) -> Option<TableName> {
        let table = TableName::new(name.schema.as_deref().unwrap_or(database), &name.table);
        if self.selects.selects(&table) {
            return Some(table);
        }
        let lower = TableName::new(table.schema.to_lowercase(), table.table.to_lowercase());
        (self.options.lower_case_table_names != 0 && self.selects.selects(&lower)).then_some(lower)
    }

    /// Whether a database may hold captured tables.
    fn may_hold(&self, database: &str) -> bool {
        if database.is_empty() || self.is_system(database) {
            return false;
        }
        let holds = |schema: &str| {
            self.selects.selects_schema(schema)
                || self.tables.has_met(schema)
                || self.selects.selects(&TableName::new(schema, ""))
        };
        holds(database) || (self.options.lower_case_table_names != 0 && holds(&database.to_lowercase()))
    }

    /// Whether a database is one of the server's own.
    fn is_system(&self, database: &str) -> bool {
        SYSTEM_SCHEMAS.contains(&database)
            || (self.options.lower_case_table_names != 0
                && SYSTEM_SCHEMAS.contains(&database.to_lowercase().as_str()))
    }

    /// Changes of rows as a statement: only the server's own housekeeping may be passed over.
    fn dml(&self, query: &Query<'_>, text: &str, database: &str) -> Effect {
        let is_housekeeping = self.is_system(database)
            && !mentioned(text, query.quoting).any(|name| self.captured(&name, database).is_some());
        if is_housekeeping {
            return Effect::None;
        }
        let what = match database {
            "" => "changes of rows logged as a statement (in no default database)".to_owned(),
            name => format!("changes of rows logged as a statement (in the default database {name})"),
        };
        Effect::Refuse(what, HINT_ROW)
    }
}

/// A statement that might concern any table.
fn unknown() -> Effect {
    Effect::Changed(vec![TableName::new("", "")])
}

fn changed(tables: impl Iterator<Item = TableName>) -> Effect {
    let mut found: Vec<TableName> = Vec::new();
    for table in tables {
        if !found.contains(&table) {
            found.push(table);
        }
    }
    if found.is_empty() { Effect::None } else { Effect::Changed(found) }
}
