//! A target table as PostgreSQL's catalogue has it, and whether a source table fits it.
//!
//! Reads only. What does not fit is refused before a row is written: a column that is missing or too narrow, a
//! trigger or rule that would fire (R16), a generated column that cannot be written (R13). What is merely stricter
//! than the source (R17) is listed.

use crate::quote::{self, literal};
use crate::sink::control::query;
use crate::sink::encode::Encoder;
use crate::sink::types::{self, Wire};
use freshet_core::sink::TablePlan;
use freshet_core::table::TableInfo;
use freshet_core::{Error, Result, TableName, TableSchema};
use tokio_postgres::Client;

/// A table of the target.
#[derive(Clone, Debug)]
pub(crate) struct TargetTable {
    pub name: TableName,
    kind: String,
    columns: Vec<TargetColumn>,
    pub indexes: Vec<TargetIndex>,
    /// Name, and `tgenabled`.
    triggers: Vec<(String, String)>,
    rules: Vec<String>,
    /// CHECK and foreign key constraints: name, and `contype`.
    constraints: Vec<(String, String)>,
}

#[derive(Clone, Debug)]
struct TargetColumn {
    name: String,
    type_oid: u32,
    typmod: i32,
    type_name: String,
    not_null: bool,
    generated: bool,
    identity: String,
    has_default: bool,
}

/// An index of the target.
#[derive(Clone, Debug)]
pub(crate) struct TargetIndex {
    pub name: String,
    pub primary: bool,
    /// Unique over plain columns, all rows, checked at once.
    pub unique: bool,
    pub columns: Vec<String>,
}

/// A source column's place on the target.
#[derive(Clone, Debug)]
pub(crate) struct BoundColumn {
    /// Quoted.
    pub name: String,
    /// As it is, for errors.
    pub plain: String,
    pub wire: Wire,
    pub encoder: Encoder,
}

impl TargetTable {
    /// Reads a table; `None` if it is not there.
    pub(crate) async fn read(client: &Client, name: &TableName) -> Result<Option<TargetTable>> {
        const DOING: &str = "Reading the target's catalogue";
        let sql = format!(
            "select c.oid::int8, c.relkind::text from pg_class c join pg_namespace n on n.oid = c.relnamespace \
             where n.nspname = {} and c.relname = {}",
            literal(&name.schema),
            literal(&name.table)
        );
        let rows = query(client, &sql, DOING).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let (oid, kind): (i64, String) = (row.get(0), row.get(1));
        let triggers = format!(
            "select tgname::text, tgenabled::text from pg_trigger where tgrelid = {oid} and not tgisinternal"
        );
        let rules = format!(
            "select rulename::text, ''::text from pg_rewrite where ev_class = {oid} and rulename <> '_RETURN'"
        );
        let constraints = format!(
            "select conname::text, contype::text from pg_constraint where conrelid = {oid} and contype in ('c', 'f')"
        );
        let mut pairs = Vec::new();
        for sql in [triggers, rules, constraints] {
            let rows = query(client, &sql, DOING).await?;
            pairs.push(rows.iter().map(|r| (r.get(0), r.get(1))).collect::<Vec<(String, String)>>());
        }
        let constraints = pairs.pop().unwrap_or_default();
        let rules = pairs.pop().unwrap_or_default().into_iter().map(|(name, _)| name).collect();
        let triggers = pairs.pop().unwrap_or_default();
        let (columns, indexes) = (columns(client, oid).await?, indexes(client, oid).await?);
        Ok(Some(TargetTable { name: name.clone(), kind, columns, indexes, triggers, rules, constraints }))
    }

    fn column(&self, name: &str) -> Option<&TargetColumn> {
        self.columns.iter().find(|c| c.name == name)
    }

    /// The unique index over exactly these columns, in any order.
    pub(crate) fn unique_over(&self, names: &[&str]) -> Option<&TargetIndex> {
        let same = |i: &&TargetIndex| {
            i.unique
                && i.columns.len() == names.len()
                && names.iter().all(|n| i.columns.iter().any(|c| c == n))
        };
        self.indexes.iter().find(same)
    }

    /// Places of every column of a schema, by name (D12).
    pub(crate) fn bind(&self, schema: &TableSchema) -> Result<Vec<BoundColumn>> {
        let bind = |column: &freshet_core::Column| {
            let refuse = |why: String| {
                Error::table(
                    schema.name().clone(),
                    format!(
                        "Column {} of {} {why} in target table {}",
                        column.name,
                        schema.name(),
                        self.name
                    ),
                )
                .with_hint("Change the target table to fit the source, and start again")
            };
            let target = self.column(&column.name).ok_or_else(|| refuse("is missing".to_owned()))?;
            let bound = types::bind(&column.data_type, target.type_oid, target.typmod);
            let (wire, encoder) =
                bound.map_err(|why| refuse(format!("is declared {}, which {why},", target.type_name)))?;
            if target.generated {
                return Err(refuse("is generated, so it cannot be written,".to_owned()));
            }
            let (name, plain) = (quote::ident(&column.name), column.name.clone());
            Ok(BoundColumn { name, plain, wire, encoder })
        };
        schema.columns().iter().map(bind).collect()
    }

    /// Everything that keeps the source table from being written here.
    pub(crate) fn misfits(&self, info: &TableInfo, replica_role: bool, keeps_rows: bool) -> Vec<String> {
        let mut out = Vec::new();
        let mut add = |line: String| out.push(line);
        match self.kind.as_str() {
            "r" => {}
            "p" if !info.schema.key().is_empty() => {}
            "p" => add("it is partitioned, and the source table has no key".into()),
            _ => add("it is not a table".into()),
        }
        for column in info.schema.columns() {
            let Some(target) = self.column(&column.name) else {
                add(format!("column {} is missing", column.name));
                continue;
            };
            if let Err(why) = types::bind(&column.data_type, target.type_oid, target.typmod) {
                add(format!("column {} is declared {}, which {why}", column.name, target.type_name));
            }
            if target.generated {
                add(format!("column {} is generated and cannot be written", column.name));
            }
            if target.identity == "a" {
                add(format!("column {} is GENERATED ALWAYS: make it BY DEFAULT", column.name));
            }
        }
        for column in self.columns.iter().filter(|c| info.schema.column(&c.name).is_none()) {
            if column.not_null && !column.has_default && !column.generated && column.identity.is_empty() {
                add(format!(
                    "column {} is NOT NULL without a default, and the source has none of that name",
                    column.name
                ));
            }
        }
        let fires: &[&str] = if replica_role { &["A", "R"] } else { &["O", "A"] };
        for (name, enabled) in &self.triggers {
            if fires.contains(&enabled.as_str()) {
                add(format!("trigger {name} would fire"));
            }
        }
        out.extend(self.rules.iter().map(|name| format!("rule {name} would rewrite statements")));
        out.extend(self.key_misfit(info, keeps_rows));
        out
    }

    fn key_misfit(&self, info: &TableInfo, keeps_rows: bool) -> Option<String> {
        let schema = &info.schema;
        let names = key_names(schema);
        if names.is_empty() || self.unique_over(&names).is_some() {
            return None;
        }
        if keeps_rows {
            return Some(format!("no unique index is over the source's key ({})", names.join(", ")));
        }
        let primary = self.indexes.iter().find(|i| i.primary)?;
        Some(format!(
            "its primary key ({}) is not the source's ({})",
            primary.columns.join(", "),
            names.join(", ")
        ))
    }

    /// What is stricter here than on the source (R17), and what is only here.
    pub(crate) fn stricter(&self, plan: &TablePlan, replica_role: bool) -> Vec<String> {
        let info = &plan.info;
        let mut out = Vec::new();
        for column in &self.columns {
            match info.schema.column(&column.name) {
                Some(i) if column.not_null && info.schema.columns()[i].nullable => {
                    out.push(format!("Column {} is NOT NULL on the target only", column.name));
                }
                Some(_) => {}
                None => out.push(format!("Column {} is on the target only and is left alone", column.name)),
            }
        }
        for (name, kind) in &self.constraints {
            match kind.as_str() {
                "c" => out.push(format!("Constraint {name} is on the target only and is enforced")),
                _ if !replica_role => out.push(format!("Foreign key {name} is enforced on the target")),
                _ => out.push(format!("Foreign key {name} of the target is not enforced for our rows")),
            }
        }
        let key = key_names(&info.schema);
        let own = |i: &&TargetIndex| i.unique && self.unique_over(&key).is_none_or(|k| k.name != i.name);
        for index in self.indexes.iter().filter(own) {
            out.push(format!("Unique index {} of the target is enforced", index.name));
        }
        out.into_iter().map(|line| format!("{}: {line}", plan.target)).collect()
    }
}

/// Names of the key's columns.
pub(crate) fn key_names(schema: &TableSchema) -> Vec<&str> {
    schema.key().iter().map(|k| schema.columns()[usize::from(*k)].name.as_str()).collect()
}

async fn columns(client: &Client, oid: i64) -> Result<Vec<TargetColumn>> {
    let sql = format!(
        "select attname::text, atttypid::int8, atttypmod, format_type(atttypid, atttypmod), attnotnull, \
         attgenerated <> '', attidentity::text, atthasdef \
         from pg_attribute where attrelid = {oid} and attnum > 0 and not attisdropped order by attnum"
    );
    let rows = query(client, &sql, "Reading the target's columns").await?;
    let column = |row: &tokio_postgres::Row| TargetColumn {
        name: row.get(0),
        type_oid: row.get::<_, i64>(1) as u32,
        typmod: row.get(2),
        type_name: row.get(3),
        not_null: row.get(4),
        generated: row.get(5),
        identity: row.get(6),
        has_default: row.get(7),
    };
    Ok(rows.iter().map(column).collect())
}

async fn indexes(client: &Client, oid: i64) -> Result<Vec<TargetIndex>> {
    let sql = format!(
        "select c.relname::text, i.indisprimary, \
         i.indisunique and i.indimmediate and i.indisvalid and i.indpred is null and i.indexprs is null, \
         array(select a.attname::text from unnest(i.indkey::int2[]) with ordinality k(n, o) \
           join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.n \
           where k.o <= i.indnkeyatts order by k.o) \
         from pg_index i join pg_class c on c.oid = i.indexrelid where i.indrelid = {oid}"
    );
    let rows = query(client, &sql, "Reading the target's indexes").await?;
    let index = |row: &tokio_postgres::Row| TargetIndex {
        name: row.get(0),
        primary: row.get(1),
        unique: row.get(2),
        columns: row.get(3),
    };
    Ok(rows.iter().map(index).collect())
}
