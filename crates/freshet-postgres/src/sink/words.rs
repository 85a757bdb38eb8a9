//! A PostgreSQL source's own words (types, collations, defaults), and which of them the target knows.
//!
//! They come from the source's catalogue functions, names qualified, and are never made of rows. A type that the target
//! lacks is made, or refused by name before anything is made; a collation or default that it does not take is left out and
//! listed. Of a source of MySQL or MariaDB comments are all that is taken here.

use crate::catalog::user_types::definitions;
use crate::error::{Scope, refusal, statement_error};
use crate::quote::{ident, literal, table};
use crate::sink::control::{has_schema, query};
use crate::sink::{ddl, objects};
use freshet_core::sink::TablePlan;
use freshet_core::table::{ColumnInfo, Dialect, TypeInfo};
use freshet_core::{Column, Error, Result};
use std::collections::{BTreeMap, HashSet};
use tokio_postgres::Client;

/// What to do about a type that is not there.
pub(crate) const TYPE_HINT: &str = "Create it on the target first, with its extension or schema (pg_dump --section=pre-data of the source shows how), or exclude the table";

/// One line for each column whose type the target does not have, and which is not made there with the table.
pub(crate) async fn missing_types(client: &Client, plan: &TablePlan) -> Result<Vec<String>> {
    let parts = types(plan).flat_map(|made| &made.parts);
    let missing = missing(client, plan, "to_regtype", |info| Some(&info.native_type), parts).await?;
    let is_made = |word: &String| {
        let element = word.strip_suffix("[]").unwrap_or(word);
        types(plan).any(|made| made.name == element)
    };
    let lacks = |word: &String| missing.contains(word) && !is_made(word);
    let line = |(column, info): (&Column, &ColumnInfo)| {
        format!("column {} is of type {}, which the target does not have", column.name, info.native_type)
    };
    let lines = columns(plan).filter(|(_, info)| lacks(&info.native_type)).map(line);
    let part = |made: &TypeInfo| {
        let lacking = made.parts.iter().find(|part| lacks(part))?;
        Some(format!("type {} is made of {lacking}, which the target does not have", made.name))
    };
    Ok(lines.chain(types(plan).filter_map(part)).collect())
}

/// The types of a table that are in this sink's words.
pub(crate) fn types(plan: &TablePlan) -> impl Iterator<Item = &TypeInfo> {
    let ours = plan.info.dialect == Dialect::Postgres;
    plan.info.native.types.iter().filter(move |_| ours)
}

/// A line for each type that is there and is another one than the source's.
pub(crate) async fn other_types(client: &Client, plans: &[TablePlan]) -> Result<Vec<String>> {
    let wanted: BTreeMap<&String, &TypeInfo> =
        plans.iter().flat_map(types).map(|made| (&made.name, made)).collect();
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let names: Vec<String> = wanted.keys().map(|name| literal(name)).collect();
    let sql = format!(
        "select to_regtype(w)::oid::int8 from unnest(array[{}]) w where to_regtype(w) is not null",
        names.join(", ")
    );
    let rows = query(client, &sql, "Looking for the types of the source on the target").await?;
    let numbers: Vec<u32> = rows.iter().map(|row| row.get::<_, i64>(0) as u32).collect();
    let there = definitions(client, &numbers).await?;
    let differs = |info: &&TypeInfo| wanted.get(&info.name).is_some_and(|w| w.statement != info.statement);
    let line = |info: &TypeInfo| {
        format!("Type {}: the target has another one of this name: {}", info.name, info.statement)
    };
    Ok(there.values().filter(differs).map(line).collect())
}

/// Makes the types of a table that are not there, inside a transaction; what the target refuses is an error, since the
/// table needs it.
pub(crate) async fn make_types(client: &Client, plan: &TablePlan) -> Result<()> {
    let missing = missing(client, plan, "to_regtype", |_| None, types(plan).map(|made| &made.name)).await?;
    for made in types(plan).filter(|made| missing.contains(&made.name)) {
        let mut statements = vec![made.statement.clone()];
        if !has_schema(client, &made.schema).await? {
            statements.insert(0, format!("create schema {}", ident(&made.schema)));
        }
        for sql in statements {
            if let Err(error) = objects::attempt(client, plan, &sql).await? {
                let why = refusal(&error).unwrap_or_default();
                let text = format!(
                    "Type {} of table {} cannot be made on the target: {why}",
                    made.name, plan.target
                );
                return Err(Error::unsupported(text).with_hint(TYPE_HINT));
            }
        }
    }
    Ok(())
}

/// Refuses a table of which a type is missing.
pub(crate) async fn refuse_missing_types(client: &Client, plan: &TablePlan) -> Result<()> {
    let missing = missing_types(client, plan).await?;
    if missing.is_empty() {
        return Ok(());
    }
    let text = format!("Target table {} cannot be made: {}", plan.target, missing.join("; "));
    Err(Error::unsupported(text).with_hint(TYPE_HINT))
}

/// The collations of a table's columns that the target does not have.
pub(crate) async fn missing_collations(client: &Client, plan: &TablePlan) -> Result<HashSet<String>> {
    missing(client, plan, "to_regcollation", |info| info.collation.as_ref(), []).await
}

fn columns(plan: &TablePlan) -> impl Iterator<Item = (&Column, &ColumnInfo)> {
    plan.info.schema.columns().iter().zip(&plan.info.columns)
}

/// Words of the columns, and others, that a function of the target finds nothing for.
async fn missing<'a>(
    client: &Client,
    plan: &'a TablePlan,
    find: &str,
    word: impl Fn(&ColumnInfo) -> Option<&String>,
    others: impl IntoIterator<Item = &'a String>,
) -> Result<HashSet<String>> {
    if plan.info.dialect != Dialect::Postgres {
        return Ok(HashSet::new());
    }
    let words: HashSet<&String> = plan.info.columns.iter().filter_map(word).chain(others).collect();
    if words.is_empty() {
        return Ok(HashSet::new());
    }
    let words: Vec<String> = words.into_iter().map(|word| literal(word)).collect();
    let sql = format!("select w from unnest(array[{}]) w where {find}(w) is null", words.join(", "));
    let rows = query(client, &sql, "Looking for the types of the source on the target").await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Gives the new table of a plan its defaults and comments, inside a transaction. Returns a line for each default that
/// the target does not take.
pub(crate) async fn add_defaults_and_comments(client: &Client, plan: &TablePlan) -> Result<Vec<String>> {
    let (target, name) = (table(&plan.target), plan.info.name());
    let mut lines = Vec::new();
    for (column, info) in columns(plan).filter(|(_, info)| ddl::has_comment(info)) {
        let sql = comment(&target, &column.name, info);
        one(client, plan, &sql).await?;
    }
    for column in ddl::generated(plan).iter().filter(|column| !column.info.comment.is_empty()) {
        // The column may not be there, which was told.
        let _ = objects::attempt(client, plan, &comment(&target, &column.name, &column.info)).await?;
    }
    for (i, (column, _)) in columns(plan).enumerate() {
        let Some(default) = ddl::carried_default(plan, i) else { continue };
        let sql =
            format!("alter table {target} alter column {} set default ({default})", ident(&column.name));
        if let Err(error) = objects::attempt(client, plan, &sql).await? {
            let why = refusal(&error).unwrap_or_default();
            lines.push(format!("Default of column {} of {name}: {why}", column.name));
        }
    }
    Ok(lines)
}

fn comment(target: &str, column: &str, info: &ColumnInfo) -> String {
    format!("comment on column {target}.{} is {}", ident(column), literal(&info.comment))
}

/// One command: text with a second one is an error of the server.
async fn one(client: &Client, plan: &TablePlan, sql: &str) -> Result<()> {
    client.execute(sql, &[]).await.map(drop).map_err(|error| failed(plan, &error))
}

fn failed(plan: &TablePlan, error: &tokio_postgres::Error) -> Error {
    let scope = Scope::Table(plan.info.name().clone());
    statement_error(&scope, format!("Completing target table {}", plan.target), error)
}
