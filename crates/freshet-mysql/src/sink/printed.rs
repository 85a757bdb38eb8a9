//! What a table of MySQL or MariaDB is on a server of the same product: columns, options, indexes and checks in the
//! source's own words (decision 0013), and what is left of that where the target does not take it all.
//!
//! Not foreign keys alone, which both products have in the same words: they are made for either (`references`).

use crate::catalog::{sql_ident, sql_name};
use crate::sink::ddl::{self, IndexPlan};
use crate::sink::session::Facts;
use freshet_core::sink::TablePlan;
use freshet_core::table::{Dialect, Object, ObjectKind, Piece, Printed};
use freshet_core::{Result, TableName};
use std::collections::{HashMap, HashSet};

/// Parts that a table is made without, since the target refused a statement with them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Without {
    pub partitions: bool,
    pub checks: bool,
    pub generated: bool,
}

/// The table's own words, if this server is of the product that printed them.
pub(crate) fn of(plan: &TablePlan, facts: Facts) -> Option<&Printed> {
    let printed = plan.info.native.printed.as_ref()?;
    (plan.info.dialect == Dialect::Mysql && printed.is_mariadb == facts.is_mariadb).then_some(printed)
}

/// The ways to make a table, the whole one first.
pub(crate) fn ways(plan: &TablePlan, printed: &Printed) -> Vec<Without> {
    let has_checks = checks(plan).next().is_some();
    let has_generated = plan.info.columns.iter().any(|info| info.generated);
    let mut ways: Vec<Without> = (0..8)
        .map(|n| Without { partitions: n & 1 != 0, checks: n & 2 != 0, generated: n & 4 != 0 })
        .filter(|way| {
            (!way.partitions || !printed.partitions.is_empty())
                && (!way.checks || has_checks)
                && (!way.generated || has_generated)
        })
        .collect();
    ways.sort_by_key(|way| u8::from(way.partitions) + u8::from(way.checks) + u8::from(way.generated));
    ways
}

/// The checks that are made with the table. A row that the source took satisfies them at every moment: it is written
/// whole.
fn checks(plan: &TablePlan) -> impl Iterator<Item = &Object> {
    let objects = plan.info.native.objects.iter();
    objects.filter(|object| object.kind == ObjectKind::Check && object.obstacle.is_none())
}

/// `CREATE TABLE`. A column whose own words cannot be taken is declared as on another product.
pub(crate) fn create_table(
    plan: &TablePlan,
    printed: &Printed,
    facts: Facts,
    missing: &HashSet<String>,
    without: Without,
) -> Result<String> {
    let mut parts = Vec::new();
    for (at, column) in plan.info.schema.columns().iter().enumerate() {
        let info = &plan.info.columns[at];
        let is_plain = (info.generated && without.generated)
            || info.collation.as_ref().is_some_and(|collation| missing.contains(collation));
        parts.push(match printed.columns.get(at) {
            Some(Ok(words)) if !is_plain => format!("{} {words}", sql_ident(&column.name)),
            Some(_) | None => ddl::column(plan, at, facts, missing, true, true)?,
        });
    }
    let key = plan.info.native.objects.iter().find(|object| object.kind == ObjectKind::Key);
    let key = key.or_else(|| key_index(plan));
    parts.extend(key.map(|object| object.definition.clone()));
    parts.extend(indexes(plan).into_iter().filter(|index| index.with_table).map(|index| index.sql));
    if !without.checks {
        parts.extend(checks(plan).map(|object| object.definition.clone()));
    }
    let options = ddl::options(plan, missing);
    let partitions = if without.partitions { "" } else { &printed.partitions };
    Ok(format!("create table {} ({}) {options} {partitions}", sql_name(&plan.target), parts.join(", ")))
}

/// The unique index that stands for the primary key where there is none (R8).
fn key_index(plan: &TablePlan) -> Option<&Object> {
    let objects = &plan.info.native.objects;
    let is_it = |object: &&Object| {
        let index = plan.info.indexes.iter().find(|index| index.name == object.name);
        object.kind == ObjectKind::Unique && index.is_some_and(|index| ddl::is_the_key(plan, index))
    };
    let has_primary = objects.iter().any(|object| object.kind == ObjectKind::Key);
    objects.iter().find(is_it).filter(|_| !has_primary)
}

/// The indexes beside the key, in the order in which the source shows them.
pub(crate) fn indexes(plan: &TablePlan) -> Vec<IndexPlan> {
    let key = key_index(plan).map(|object| &object.name);
    let objects = plan.info.native.objects.iter().filter(|object| Some(&object.name) != key);
    objects
        .filter(|object| matches!(object.kind, ObjectKind::Unique | ObjectKind::Index))
        .map(|object| IndexPlan {
            name: object.name.clone(),
            unique: object.kind == ObjectKind::Unique,
            sql: object.definition.clone(),
            with_table: ddl::is_wanted_with_table(plan, &object.name),
        })
        .collect()
}

/// What is told and not made, whatever the target says, of a table in its own words.
pub(crate) fn not_carried(plan: &TablePlan, printed: &Printed, names: &Names<'_>) -> Vec<String> {
    let name = plan.info.name();
    let mut lines = Vec::new();
    let columns = plan.info.schema.columns().iter().zip(&plan.info.columns).zip(&printed.columns);
    for ((column, info), words) in columns {
        match words {
            Err(why) if info.generated => lines.push(generated_line(name, &column.name, why)),
            Err(why) if !why.is_empty() => {
                lines.push(format!("Check or default of column {} of {name}: {why}", column.name));
            }
            Ok(_) | Err(_) => {}
        }
    }
    let checks = plan.info.native.objects.iter().filter(|object| object.kind == ObjectKind::Check);
    let told = checks.filter_map(|check| Some(line(plan, check, check.obstacle.as_ref()?, names)));
    lines.extend(told);
    lines
}

/// What a table was made without.
pub(crate) fn left_out(plan: &TablePlan, without: Without, why: &str, names: &Names<'_>) -> Vec<String> {
    let name = plan.info.name();
    let mut lines = Vec::new();
    if without.partitions {
        lines.extend(plan.info.partitioning_line().map(|line| format!("{line}: {why}")));
    }
    if without.checks {
        lines.extend(checks(plan).map(|check| line(plan, check, why, names)));
    }
    if without.generated {
        let columns = plan.info.schema.columns().iter().zip(&plan.info.columns);
        let generated = columns.filter(|(_, info)| info.generated);
        lines.extend(generated.map(|(column, _)| generated_line(name, &column.name, why)));
    }
    lines
}

fn generated_line(table: &TableName, column: &str, why: &str) -> String {
    format!("Expression of generated column {column} of {table}: {why}; its values are carried over")
}

/// The names that the tables of a pipeline have on the target.
pub(crate) struct Names<'a>(HashMap<&'a TableName, &'a TableName>);

impl<'a> Names<'a> {
    pub(crate) fn new(plans: &'a [TablePlan]) -> Self {
        Self(plans.iter().map(|plan| (plan.info.name(), &plan.target)).collect())
    }
}

/// The foreign keys of a table, whichever of the two products it is of.
pub(crate) fn references(plan: &TablePlan) -> impl Iterator<Item = &Object> {
    let ours = plan.info.dialect == Dialect::Mysql;
    let objects = plan.info.native.objects.iter();
    objects.filter(move |object| ours && object.kind == ObjectKind::ForeignKey)
}

/// The statement with the names of the target; an error is a table that has none there.
pub(crate) fn statement<'a>(
    object: &'a Object,
    names: &Names<'_>,
) -> std::result::Result<String, &'a TableName> {
    let mut sql = String::new();
    for piece in &object.statement {
        match piece {
            Piece::Words(words) => sql.push_str(words),
            Piece::Name => sql.push_str(&sql_ident(&object.name)),
            Piece::Table(table) => sql.push_str(&sql_name(names.0.get(table).ok_or(table)?)),
        }
    }
    Ok(sql)
}

/// A foreign key to a table that is not captured is told.
pub(crate) fn references_not_carried(plan: &TablePlan, names: &Names<'_>) -> Vec<String> {
    let outside = references(plan).filter_map(|object| {
        let table = statement(object, names).err()?;
        Some(format!("{}: {table} is not carried over", object.line(plan.info.name())))
    });
    outside.collect()
}

/// An object that is not made, why, and the statement that makes it.
pub(crate) fn line(plan: &TablePlan, object: &Object, why: &str, names: &Names<'_>) -> String {
    let what = format!("{} {} of {}: {why}", object.kind, object.name, plan.info.name());
    match statement(object, names) {
        Ok(sql) => format!("{what}; to make it: {sql}"),
        Err(_) => what,
    }
}
