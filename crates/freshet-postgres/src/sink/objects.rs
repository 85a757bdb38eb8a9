//! Indexes, constraints and comments of a PostgreSQL source on the target: which can be made, under which name, and how.
//!
//! None of them is needed to apply rows, but for the key's index, which `prepare.rs` makes. So what the target does not
//! take is left out and told in a line that holds the statement: nothing here fails a load, but for two rows that a
//! unique index of the source cannot have had, and for what trying again can help.
//!
//! Foreign keys and what is deferrable are checked by triggers of the server. They are made only where the session's
//! role keeps these from firing for our rows (R15): a cascade is in the WAL already, and what is deferred on the source
//! holds at its commits only.

use crate::error::{Scope, refusal, statement_error};
use crate::quote::{self, ident, literal};
use crate::sink::catalog::TargetTable;
use crate::sink::control;
use crate::sink::ddl::index_name;
use freshet_core::sink::TablePlan;
use freshet_core::table::{Dialect, Object, ObjectKind, Piece};
use freshet_core::{Result, TableName};
use std::collections::HashMap;
use tokio_postgres::Client;

/// The names that the tables of a pipeline have on the target.
pub(crate) struct Names<'a> {
    tables: HashMap<&'a TableName, &'a TableName>,
    schemas: HashMap<&'a str, &'a str>,
}

impl<'a> Names<'a> {
    pub(crate) fn new(plans: &'a [TablePlan]) -> Self {
        let schema = |plan: &'a TablePlan| (plan.info.name().schema.as_str(), plan.target.schema.as_str());
        Self {
            tables: plans.iter().map(|plan| (plan.info.name(), &plan.target)).collect(),
            schemas: plans.iter().map(schema).collect(),
        }
    }

    /// The name of something that is no table, which goes where the tables of its schema go: first of all this one's.
    pub(crate) fn beside(&self, plan: &TablePlan, name: &TableName) -> TableName {
        let own = (plan.info.name().schema == name.schema).then_some(plan.target.schema.as_str());
        let schema = own.or_else(|| self.schemas.get(name.schema.as_str()).copied());
        TableName::new(schema.unwrap_or(&name.schema), &name.table)
    }
}

/// The objects of a table that are in this sink's words.
pub(crate) fn of(plan: &TablePlan) -> impl Iterator<Item = &Object> {
    let ours = plan.info.dialect == Dialect::Postgres;
    plan.info.native.objects.iter().filter(move |_| ours)
}

/// The objects of a table that are told and not made, whatever the target says.
pub(crate) fn not_carried(plan: &TablePlan, names: &Names<'_>, replica_role: bool) -> Vec<String> {
    let wanted = of(plan).filter(|object| object.kind != ObjectKind::Key);
    wanted.filter_map(|object| allowed(plan, object, names, replica_role).err()).collect()
}

/// The statement that makes an object, or the line that says why it is not made.
fn allowed(
    plan: &TablePlan,
    object: &Object,
    names: &Names<'_>,
    replica_role: bool,
) -> Result<String, String> {
    let by_trigger = object.kind == ObjectKind::ForeignKey || object.deferrable;
    match statement(object, &object.name, names) {
        Err(table) => Err(object.line(plan.info.name()) + &format!(": {table} is not carried over")),
        Ok(sql) => match &object.obstacle {
            Some(why) => Err(line(plan, object, why, &sql)),
            None if by_trigger && !replica_role => {
                let why = "it would act on our rows, since the role may not set session_replication_role";
                Err(line(plan, object, why, &sql))
            }
            None => Ok(sql),
        },
    }
}

/// With the names of the target; an error is a table that has none.
fn statement<'a>(object: &'a Object, name: &str, names: &Names<'_>) -> Result<String, &'a TableName> {
    let mut sql = String::new();
    for piece in &object.statement {
        match piece {
            Piece::Words(words) => sql.push_str(words),
            Piece::Name => sql.push_str(&ident(name)),
            Piece::Table(table) => sql.push_str(&quote::table(names.tables.get(table).ok_or(table)?)),
        }
    }
    Ok(sql)
}

fn line(plan: &TablePlan, object: &Object, why: &str, sql: &str) -> String {
    let (kind, name) = (object.kind, &object.name);
    let space = if name.is_empty() { "" } else { " " };
    format!("{kind}{space}{name} of {}: {why}; to make it: {sql}", plan.info.name())
}

/// Makes the objects of these kinds that are not there, inside a transaction. Returns a line for each that the target
/// does not take.
pub(crate) async fn make(
    client: &Client,
    plan: &TablePlan,
    target: &TargetTable,
    names: &Names<'_>,
    kinds: &[ObjectKind],
    replica_role: bool,
) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for object in
        of(plan).filter(|object| kinds.contains(&object.kind) && !target.has(object.kind, &object.name))
    {
        if allowed(plan, object, names, replica_role).is_ok() {
            lines.extend(one(client, plan, target, names, object).await?);
        }
    }
    Ok(lines)
}

async fn one(
    client: &Client,
    plan: &TablePlan,
    target: &TargetTable,
    names: &Names<'_>,
    object: &Object,
) -> Result<Option<String>> {
    const DUPLICATES: &str = "23505";
    let name = free_name(client, plan, object).await?;
    if target.has(object.kind, &name) {
        return Ok(None);
    }
    let Ok(sql) = statement(object, &name, names) else { return Ok(None) };
    let Err(error) = attempt(client, plan, &sql).await? else { return Ok(None) };
    if error.code().is_some_and(|code| code.code() == DUPLICATES) {
        let doing = format!("Making {} {} of {}", object.kind, object.name, plan.target);
        return Err(statement_error(&Scope::Table(plan.info.name().clone()), doing, &error));
    }
    let why = format!("the target refuses it ({})", refusal(&error).unwrap_or_default());
    Ok(Some(line(plan, object, &why, &sql)))
}

/// The statement of the index that the table's changes are found by, where the source says how it is made.
pub(crate) async fn key(client: &Client, plan: &TablePlan, names: &Names<'_>) -> Result<Option<String>> {
    let Some(object) = of(plan).find(|object| object.kind == ObjectKind::Key) else { return Ok(None) };
    let name = free_name(client, plan, object).await?;
    Ok(statement(object, &name, names).ok())
}

/// The object's own name where nothing else in the schema has it: indexes share theirs with tables.
async fn free_name(client: &Client, plan: &TablePlan, object: &Object) -> Result<String> {
    let own = &object.name;
    if matches!(object.kind, ObjectKind::Check | ObjectKind::ForeignKey | ObjectKind::Comment) {
        return Ok(own.clone());
    }
    let there = quote::table(&TableName::new(&plan.target.schema, own));
    let sql = format!("select to_regclass({}) is null", literal(&there));
    let is_free: bool = control::one(client, &sql, "Looking for a free name").await?.get(0);
    Ok(if is_free { own.clone() } else { index_name(&plan.target.table, own) })
}

/// Runs one command in a savepoint; what the server refuses leaves no trace and is given back. What trying again can
/// help is an error.
pub(crate) async fn attempt(
    client: &Client,
    plan: &TablePlan,
    sql: &str,
) -> Result<std::result::Result<(), tokio_postgres::Error>> {
    let scope = Scope::Table(plan.info.name().clone());
    let doing = || format!("Completing target table {}", plan.target);
    let plain = async |sql: &str| {
        client.batch_execute(sql).await.map_err(|error| statement_error(&scope, doing(), &error))
    };
    plain("savepoint freshet_object").await?;
    // One command: text with a second one is an error of the server.
    let made = match client.execute(sql, &[]).await {
        Ok(_) => Ok(()),
        Err(error) if refusal(&error).is_some() => {
            plain("rollback to savepoint freshet_object").await?;
            Err(error)
        }
        Err(error) => return Err(statement_error(&scope, doing(), &error)),
    };
    plain("release savepoint freshet_object").await?;
    Ok(made)
}

/// Takes away the foreign keys to a target table that this load makes again: they would keep it from being emptied or
/// dropped.
pub(crate) async fn drop_references(
    client: &Client,
    plan: &TablePlan,
    plans: &[TablePlan],
    names: &Names<'_>,
) -> Result<()> {
    for other in plans.iter().filter(|other| other.target != plan.target) {
        let points_here = |object: &&Object| {
            object.kind == ObjectKind::ForeignKey
                && object.statement.contains(&Piece::Table(plan.info.name().clone()))
        };
        for object in
            of(other).filter(points_here).filter(|object| statement(object, &object.name, names).is_ok())
        {
            let sql = format!(
                "alter table if exists {} drop constraint if exists {}",
                quote::table(&other.target),
                ident(&object.name)
            );
            let doing = format!("Taking foreign key {} of {} away", object.name, other.target);
            control::run(client, &sql, doing).await?;
        }
    }
    Ok(())
}
