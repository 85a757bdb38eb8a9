//! A target table as the server's catalogue has it, and whether a source table fits it.
//!
//! Reads only. What does not fit is refused before a row is written: an engine without transactions, a column that is
//! missing or too narrow, a generated column that cannot be written (R13), a trigger, which nothing can turn off here
//! (R16), a key that is compared more coarsely than on the source. What is merely stricter (R17) is listed.

use crate::catalog::{read_one, sql_string};
use crate::sink::error::{Scope, statement_error};
use crate::sink::session::Session;
use crate::sink::types;
use freshet_core::sink::TablePlan;
use freshet_core::table::{ColumnInfo, Dialect, TableInfo};
use freshet_core::{Column, DataType, Error, Result, TableName, TableSchema};

/// How a target table came to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    /// We made it out of the source's own words.
    Made,
    /// It was there.
    Given {
        /// And its rows stay.
        keeps_rows: bool,
    },
}

/// A table of the target.
#[derive(Clone, Debug)]
pub(crate) struct TargetTable {
    pub name: TableName,
    /// Columns, key and indexes; the dialect is the server's own.
    pub info: TableInfo,
    is_mariadb: bool,
    engine: String,
    /// Columns that an update sets by itself (R18).
    pub self_updated: Vec<String>,
    triggers: Vec<String>,
    /// Name, and `CHECK` or `FOREIGN KEY`.
    constraints: Vec<(String, String)>,
}

impl TargetTable {
    /// Whether there is something of that name.
    pub(crate) async fn is_there(session: &mut Session, name: &TableName) -> Result<bool> {
        Ok(kind_and_engine(session, name).await?.is_some())
    }

    /// Reads a table; `None` if it is not there.
    pub(crate) async fn read(session: &mut Session, name: &TableName) -> Result<Option<TargetTable>> {
        const DOING: &str = "Reading the target's catalogue";
        let Some((kind, engine)) = kind_and_engine(session, name).await? else { return Ok(None) };
        if kind != "BASE TABLE" {
            let text = format!("Target table {name} is no ordinary table ({})", kind.to_ascii_lowercase());
            return Err(Error::invalid(text).with_hint("Map the source table to another name"));
        }
        let info = read_one(&mut session.connection, &session.server, name).await?;
        let info = info.ok_or_else(|| {
            Error::invalid(format!("Target table {name} has a column of a type that is not known here"))
        })?;
        let (schema, table) = (sql_string(&name.schema), sql_string(&name.table));
        let is_it = format!("table_schema = {schema} and table_name = {table}");
        let mut pairs = Vec::new();
        for sql in [
            format!("select column_name, extra from information_schema.columns where {is_it}"),
            format!(
                "select trigger_name, '' from information_schema.triggers where event_object_schema = {schema} \
                 and event_object_table = {table}"
            ),
            format!(
                "select constraint_name, constraint_type from information_schema.table_constraints where {is_it} \
                 and constraint_type in ('CHECK', 'FOREIGN KEY')"
            ),
        ] {
            let rows = session.query(&sql, DOING).await?;
            let pair = |row: &crate::wire::Row| {
                (row.text(0).unwrap_or("").to_owned(), row.text(1).unwrap_or("").to_owned())
            };
            pairs.push(rows.rows().iter().map(pair).collect::<Vec<_>>());
        }
        let constraints = pairs.pop().unwrap_or_default();
        let triggers = pairs.pop().unwrap_or_default().into_iter().map(|(name, _)| name).collect();
        let extras = pairs.pop().unwrap_or_default();
        let self_updated =
            extras.into_iter().filter(|(_, extra)| updates_itself(extra)).map(|(name, _)| name);
        let self_updated = self_updated.collect();
        let (name, is_mariadb) = (name.clone(), session.facts.is_mariadb);
        Ok(Some(TargetTable { name, info, is_mariadb, engine, self_updated, triggers, constraints }))
    }

    /// A column's definition, by name (D12).
    pub(crate) fn column(&self, name: &str) -> Option<(&Column, &ColumnInfo)> {
        let at = self.info.schema.column(name)?;
        Some((&self.info.schema.columns()[at], &self.info.columns[at]))
    }

    /// Whether a unique index is over exactly these columns, in any order.
    pub(crate) fn has_unique_over(&self, names: &[&str]) -> bool {
        let same = |own: &[&str]| own.len() == names.len() && names.iter().all(|name| own.contains(name));
        if same(&key_names(&self.info.schema)) {
            return true;
        }
        let columns = self.info.schema.columns();
        self.info.indexes.iter().filter(|index| index.unique).any(|index| {
            let parts: Option<Vec<&str>> = index
                .parts
                .iter()
                .map(|part| {
                    part.column
                        .filter(|_| part.prefix.is_none())
                        .map(|c| columns[usize::from(c)].name.as_str())
                })
                .collect();
            parts.is_some_and(|parts| same(&parts))
        })
    }

    /// Whether a foreign key of that name is there.
    pub(crate) fn has_reference(&self, name: &str) -> bool {
        let mut keys = self.constraints.iter().filter(|(_, kind)| kind == "FOREIGN KEY");
        keys.any(|(own, _)| own.to_lowercase() == name.to_lowercase())
    }

    /// What would double or change rows, whatever the source; looked at again each time that we begin to write.
    pub(crate) fn dangers(&self) -> Vec<String> {
        let mut out = Vec::new();
        if !self.engine.eq_ignore_ascii_case("InnoDB") {
            let engine = &self.engine;
            out.push(format!("its engine {engine} has no transactions: ALTER TABLE .. ENGINE = InnoDB"));
        }
        out.extend(self.triggers.iter().map(|name| format!("trigger {name} would fire")));
        out
    }

    /// Everything that keeps the source table from being written here.
    pub(crate) fn misfits(&self, info: &TableInfo, fit: Fit) -> Vec<String> {
        let mut out = self.dangers();
        for at in 0..info.columns.len() {
            out.extend(self.column_misfits(info, at, fit));
        }
        for (column, own) in self.info.schema.columns().iter().zip(&self.info.columns) {
            let is_filled = own.default.is_some() || own.generated || own.auto_increment || !own.not_null;
            if info.schema.column(&column.name).is_none() && !is_filled {
                out.push(format!(
                    "column {} is NOT NULL without a default, and the source has none of that name",
                    column.name
                ));
            }
        }
        out.extend(self.key_misfit(info, fit == Fit::Given { keeps_rows: true }));
        out
    }

    fn column_misfits(&self, info: &TableInfo, at: usize, fit: Fit) -> Vec<String> {
        let (column, source) = (&info.schema.columns()[at], &info.columns[at]);
        let Some((target, own)) = self.column(&column.name) else {
            return vec![format!("column {} is missing", column.name)];
        };
        let mut out = Vec::new();
        let refused = types::bind(&column.data_type, &target.data_type).err();
        let misfit = types::misfit(info.dialect, &column.data_type, &target.data_type).map(str::to_owned);
        let rounds = types::rounds(info.dialect, &source.native_type, &own.native_type);
        let misfit = misfit.or_else(|| rounds.then(|| "rounds the source's values".to_owned()));
        if let Some(why) = refused.or(misfit) {
            out.push(format!("column {} is declared {}, which {why}", column.name, own.native_type));
        }
        if own.generated && !self.computes_alike(info, at, own, fit) {
            out.push(format!("column {} is generated and cannot be written", column.name));
        }
        let is_key =
            info.schema.key().iter().any(|k| info.schema.columns()[usize::from(*k)].name == column.name);
        if let Some(ours) = own.collation.as_deref().filter(|_| is_key && is_text(&target.data_type)) {
            let theirs = source.collation.as_deref().filter(|_| info.dialect == Dialect::Mysql);
            if theirs != Some(ours) && !compares_bytes(ours) && !has_one_spelling(&column.data_type) {
                out.push(format!(
                    "column {} of the key is compared by {ours}, by which keys of the source may be equal",
                    column.name
                ));
            }
        }
        out
    }

    /// Whether the target computes a column as the source does, so that nobody needs to write it (R13).
    fn computes_alike(&self, info: &TableInfo, at: usize, own: &ColumnInfo, fit: Fit) -> bool {
        let source = &info.columns[at];
        let printed = info.native.printed.as_ref().filter(|printed| printed.is_mariadb == self.is_mariadb);
        let is_sure = printed.and_then(|printed| printed.columns.get(at)).is_some_and(|words| words.is_ok());
        source.generated && is_sure && (fit == Fit::Made || own.expression == source.expression)
    }

    fn key_misfit(&self, info: &TableInfo, keeps_rows: bool) -> Option<String> {
        let names = key_names(&info.schema);
        if names.is_empty() || self.has_unique_over(&names) {
            return None;
        }
        let own = key_names(&self.info.schema);
        if own.is_empty() && !keeps_rows {
            return Some(format!("it has no primary key over the source's ({})", names.join(", ")));
        }
        Some(format!("no unique index is over the source's key ({})", names.join(", ")))
    }

    /// What is stricter here than on the source (R17), and what is only here.
    pub(crate) fn stricter(&self, plan: &TablePlan) -> Vec<String> {
        let info = &plan.info;
        let mut out = Vec::new();
        for (column, own) in self.info.schema.columns().iter().zip(&self.info.columns) {
            match info.schema.column(&column.name) {
                Some(at)
                    if own.not_null && info.schema.columns()[at].nullable && !info.columns[at].not_null =>
                {
                    out.push(format!("Column {} is NOT NULL on the target only", column.name));
                }
                Some(_) => {}
                None => out.push(format!("Column {} is on the target only and is left alone", column.name)),
            }
        }
        let is_own = |name: &str| info.native.objects.iter().any(|object| object.name == name);
        for (name, kind) in self.constraints.iter().filter(|(name, _)| !is_own(name)) {
            out.push(match kind.as_str() {
                "CHECK" => format!("Constraint {name} of the target is enforced"),
                _ => format!("Foreign key {name} of the target is not enforced for our rows"),
            });
        }
        for index in self.info.indexes.iter().filter(|index| index.unique) {
            if !info.indexes.iter().any(|i| i.unique && i.name == index.name) {
                out.push(format!("Unique index {} of the target is enforced", index.name));
            }
        }
        out.into_iter().map(|line| format!("{}: {line}", plan.target)).collect()
    }
}

async fn kind_and_engine(session: &mut Session, name: &TableName) -> Result<Option<(String, String)>> {
    let sql = format!(
        "select table_type, engine, table_name from information_schema.tables \
         where table_schema = {} and table_name = {}",
        sql_string(&name.schema),
        sql_string(&name.table)
    );
    let rows = session.connection.query(&sql).await;
    let rows = rows.map_err(|e| statement_error(&Scope::Session, "Looking for the target table", e))?;
    // MariaDB compares these names without case.
    let row = rows.rows().iter().find(|row| row.text(2) == Some(name.table.as_str()));
    Ok(row.map(|row| (row.text(0).unwrap_or("").to_owned(), row.text(1).unwrap_or("none").to_owned())))
}

fn updates_itself(extra: &str) -> bool {
    extra.to_ascii_lowercase().contains("on update")
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Text { .. })
}

/// Whether a collation tells every two texts apart, trailing blanks included. The other `_bin` do not tell blanks.
fn compares_bytes(collation: &str) -> bool {
    collation.ends_with("0900_bin") || collation.ends_with("nopad_bin")
}

/// Types whose text every collation tells apart: written by us, in lower case and without blanks.
fn has_one_spelling(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Uuid | DataType::Inet4 | DataType::Inet6)
}

/// Names of the key's columns.
pub(crate) fn key_names(schema: &TableSchema) -> Vec<&str> {
    schema.key().iter().map(|k| schema.columns()[usize::from(*k)].name.as_str()).collect()
}
