//! The statements that make a target table and its indexes from a source's catalogue, and what they leave out.
//!
//! Of the same product (MySQL or MariaDB) a table is made in its own words (`printed.rs`). Of the other one declarations,
//! collations, literal defaults, attributes, comments and indexes are kept; of PostgreSQL
//! names, nullability, comments, keys and indexes over what can be indexed here. The primary key is made with the table,
//! since InnoDB stores rows in it; other indexes come after the rows. What has no equal is returned as one line each and
//! never left out silently. Nothing here talks to the server.

use crate::catalog::{charset_of, sql_ident, sql_name, sql_string};
use crate::sink::catalog::key_names;
use crate::sink::printed::{self, Names};
use crate::sink::session::Facts;
use crate::sink::types::{self, Declared};
use freshet_core::sink::TablePlan;
use freshet_core::table::{ColumnInfo, Dialect, IndexInfo, ObjectKind};
use freshet_core::{Column, DataType, Error, Result};
use std::collections::HashSet;

/// Characters of a name.
const NAME_CHARS_MAX: usize = 64;
/// Bytes of a row in an index, which InnoDB judges by the declarations.
const INDEX_BYTES_MAX: u32 = 3072;
/// Bytes of a row without what is kept beside it; the servers' bound is 65,535, by the declarations too.
const ROW_BYTES_MAX: u32 = 60_000;
/// Characters of a comment.
const COMMENT_CHARS_MAX: usize = 1024;
/// Names of indexes that InnoDB has for itself.
const RESERVED: [&str; 2] = ["primary", "gen_clust_index"];

/// An index to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IndexPlan {
    pub name: String,
    pub unique: bool,
    /// `unique index x (a, b desc)`
    pub sql: String,
    /// It is over the auto-increment column first, which the servers want from the beginning.
    pub with_table: bool,
}

/// Checks names and types of a table, before anything is made.
pub(crate) fn check_plan(plan: &TablePlan, facts: Facts) -> Result<()> {
    check_name("Database", &plan.target.schema)?;
    check_name("Table", &plan.target.table)?;
    for (at, column) in plan.info.schema.columns().iter().enumerate() {
        check_name(&format!("Table {}: column", plan.info.name()), &column.name)?;
        declared(plan, at, facts).map_err(|why| {
            Error::unsupported(format!("Column {} of {}: {why}", column.name, plan.info.name()))
                .with_hint("Exclude the column or the table")
        })?;
    }
    Ok(())
}

/// The servers compare names of indexes without case.
pub(crate) fn is_same_name(one: &str, other: &str) -> bool {
    one.to_lowercase() == other.to_lowercase()
}

fn is_name(name: &str) -> bool {
    let is_bmp = name.chars().all(|c| c != '\0' && u32::from(c) <= 0xFFFF);
    !name.is_empty() && name.chars().count() <= NAME_CHARS_MAX && !name.ends_with(' ') && is_bmp
}

fn check_name(what: &str, name: &str) -> Result<()> {
    if !is_name(name) {
        return Err(Error::unsupported(format!(
            "{what} {name:?} cannot have this name on MySQL or MariaDB: 1 to {NAME_CHARS_MAX} characters up to U+FFFF, \
             no blank at the end"
        ))
        .with_hint("Map it to another name, or exclude it"));
    }
    Ok(())
}

fn is_key(plan: &TablePlan, column: usize) -> bool {
    plan.info.schema.key().iter().any(|k| usize::from(*k) == column)
}

fn declared(plan: &TablePlan, column: usize, facts: Facts) -> Result<Declared, String> {
    let definition = &plan.info.schema.columns()[column];
    let native = &plan.info.columns[column].native_type;
    let mut declared = types::declare(plan.info.dialect, definition, native, is_key(plan, column), facts)?;
    if !is_key(plan, column) && declared.sql.starts_with("varchar") && is_wide(plan, facts) {
        declared.sql = "longtext".to_owned();
    }
    if is_key(plan, column) && is_unbounded(&declared.sql) {
        return Err(format!("it is part of the key and its type {} cannot be", declared.sql));
    }
    Ok(declared)
}

/// Whether the columns made for PostgreSQL's are more than a row has room for: then text is kept beside it.
fn is_wide(plan: &TablePlan, facts: Facts) -> bool {
    let columns = plan.info.schema.columns().iter().zip(&plan.info.columns).enumerate();
    let bytes = columns.map(|(at, (column, info))| {
        let declared = types::declare(plan.info.dialect, column, &info.native_type, is_key(plan, at), facts);
        declared.map_or(0, |declared| bytes_max(&declared.sql))
    });
    plan.info.dialect == Dialect::Postgres && bytes.sum::<u32>() > ROW_BYTES_MAX
}

/// Bytes of a value within its row; of what we declare, with room for the rest.
fn bytes_max(sql: &str) -> u32 {
    let length = sql.split_once('(').and_then(|(word, rest)| {
        let length: u32 = rest.split([')', ',']).next()?.parse().ok()?;
        Some(match word {
            "varchar" | "char" => length * 4,
            "varbinary" | "decimal" => length,
            _ => 8,
        })
    });
    length.unwrap_or(12)
}

/// Types of which a key or an index holds the beginning only.
fn is_unbounded(sql: &str) -> bool {
    let word =
        sql.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default().to_ascii_lowercase();
    word.ends_with("text") || word.ends_with("blob") || word == "json" || word == "vector"
}

/// The collations of a table and its columns that are to be kept.
pub(crate) fn collations(plan: &TablePlan) -> HashSet<&str> {
    let of_table = plan.info.native.printed.as_ref().and_then(|printed| printed.collation.as_deref());
    plan.info.columns.iter().filter_map(|info| carried_collation(plan, info)).chain(of_table).collect()
}

fn carried_collation<'a>(plan: &TablePlan, info: &'a ColumnInfo) -> Option<&'a str> {
    info.collation.as_deref().filter(|_| plan.info.dialect == Dialect::Mysql)
}

/// `CREATE TABLE` in words that both products have. The plan was checked; the target has all but these collations.
pub(crate) fn create_table(
    plan: &TablePlan,
    facts: Facts,
    missing_collations: &HashSet<String>,
    with_defaults: bool,
    with_attributes: bool,
) -> Result<String> {
    let columns = 0..plan.info.columns.len();
    let mut parts = columns
        .map(|at| column(plan, at, facts, missing_collations, with_defaults, with_attributes))
        .collect::<Result<Vec<String>>>()?;
    let key: Vec<String> = key_names(&plan.info.schema).into_iter().map(sql_ident).collect();
    if !key.is_empty() {
        parts.push(format!("primary key ({})", key.join(", ")));
    }
    parts.extend(indexes(plan, facts).0.into_iter().filter(|i| i.with_table).map(|i| i.sql));
    let options = match with_attributes {
        true => options(plan, missing_collations),
        false => "engine = InnoDB default character set utf8mb4".to_owned(),
    };
    Ok(format!("create table {} ({}) {options}", sql_name(&plan.target), parts.join(", ")))
}

/// What stands behind the columns: of a source of these products its own collation and options.
pub(crate) fn options(plan: &TablePlan, missing_collations: &HashSet<String>) -> String {
    let printed = plan.info.native.printed.as_ref();
    let options = printed.map_or("", |printed| printed.options.as_str());
    let collation = printed.and_then(|printed| printed.collation.as_deref());
    let set = match collation.filter(|name| !missing_collations.contains(*name)) {
        Some(name) => format!("default character set {} collate {name}", charset_of(name)),
        None => "default character set utf8mb4".to_owned(),
    };
    let engine = if options.is_empty() { "engine = InnoDB" } else { options };
    format!("{engine} {set}")
}

/// A column with its declaration.
pub(crate) fn column(
    plan: &TablePlan,
    at: usize,
    facts: Facts,
    missing_collations: &HashSet<String>,
    with_default: bool,
    with_attributes: bool,
) -> Result<String> {
    let (column, info) = (&plan.info.schema.columns()[at], &plan.info.columns[at]);
    let declared = declared(plan, at, facts).map_err(Error::unsupported)?;
    let mut sql = format!("{} {}", sql_ident(&column.name), declared.sql);
    sql.push_str(&collate(plan, column, info, &declared, facts, missing_collations));
    sql.push_str(if is_not_null(plan, at) { " not null" } else { " null" });
    if is_auto_increment(plan, at) {
        sql.push_str(" auto_increment");
    }
    if let Some(default) = carried_default(plan, at, facts).filter(|_| with_default) {
        sql.push_str(&format!(" default {default}"));
    }
    if plan.info.dialect == Dialect::Mysql && with_attributes {
        let now = info.on_update.as_deref().filter(|now| is_now(now));
        sql.push_str(&now.map(|now| format!(" on update {now}")).unwrap_or_default());
        sql.push_str(if info.invisible { " invisible" } else { "" });
    }
    if !info.comment.is_empty() && !is_long(&info.comment) {
        sql.push_str(&format!(" comment {}", sql_string(&info.comment)));
    }
    Ok(sql)
}

fn is_long(comment: &str) -> bool {
    comment.chars().count() > COMMENT_CHARS_MAX
}

/// The source's collation where there is one and the target has it; by bytes for any other text.
fn collate(
    plan: &TablePlan,
    column: &Column,
    info: &ColumnInfo,
    declared: &Declared,
    facts: Facts,
    missing: &HashSet<String>,
) -> String {
    let by_bytes = || format!(" character set utf8mb4 collate {}", facts.binary_collation());
    let is_text =
        matches!(column.data_type, DataType::Text { .. } | DataType::Enum { .. } | DataType::Set { .. });
    match carried_collation(plan, info) {
        _ if declared.is_byte_compared => by_bytes(),
        _ if plan.info.dialect == Dialect::Postgres || !is_text => String::new(),
        Some(name) if !missing.contains(name) => {
            format!(" character set {} collate {name}", charset_of(name))
        }
        Some(_) | None => by_bytes(),
    }
}

fn is_not_null(plan: &TablePlan, column: usize) -> bool {
    match plan.info.dialect {
        Dialect::Mysql => !plan.info.schema.columns()[column].nullable,
        Dialect::Postgres => is_key(plan, column) || plan.info.columns[column].not_null,
    }
}

/// Whether a column is filled by the target after a cut-over: an integer that is the first of the key or of an index.
pub(crate) fn is_auto_increment(plan: &TablePlan, column: usize) -> bool {
    let info = &plan.info;
    let is_int = matches!(info.schema.columns()[column].data_type, DataType::Int { .. });
    let first_of_key = info.schema.key().first().is_some_and(|k| usize::from(*k) == column);
    let is_first = |index: &IndexInfo| {
        index.parts.first().is_some_and(|part| part.column.map(usize::from) == Some(column))
            && index.method == "btree"
    };
    let is_only = info.columns.iter().filter(|c| c.auto_increment).count() == 1;
    let is_indexed = first_of_key || (info.dialect == Dialect::Mysql && info.indexes.iter().any(is_first));
    info.columns[column].auto_increment && is_int && is_only && is_indexed
}

/// The default of a column as the target takes it: a literal, or the time of now. Expressions are left out.
pub(crate) fn carried_default(plan: &TablePlan, column: usize, facts: Facts) -> Option<String> {
    let info = &plan.info.columns[column];
    if plan.info.dialect != Dialect::Mysql || info.generated || info.auto_increment {
        return None;
    }
    let text = info.default.as_deref()?;
    let data_type = &plan.info.schema.columns()[column].data_type;
    let literal = match data_type {
        _ if text.eq_ignore_ascii_case("null") => return None,
        DataType::Int { .. }
        | DataType::Float32
        | DataType::Float64
        | DataType::Decimal { .. }
        | DataType::Year => number(text)?,
        DataType::DateTime { .. } | DataType::Timestamp { .. } if is_now(text) => text.to_owned(),
        DataType::Date | DataType::Time { .. } | DataType::DateTime { .. } | DataType::Timestamp { .. } => {
            let is_plain = |c: char| c.is_ascii_digit() || "-: .".contains(c);
            let bare = unquoted(text);
            bare.chars().all(is_plain).then(|| sql_string(bare))?
        }
        DataType::Bit { .. } => text.starts_with("b'").then(|| text.to_owned())?,
        DataType::Text { .. } | DataType::Enum { .. } | DataType::Set { .. } => string(text)?,
        _ => return None,
    };
    let needs_parentheses = !facts.is_mariadb && is_unbounded(&info.native_type);
    Some(if needs_parentheses { format!("({literal})") } else { literal })
}

fn unquoted(text: &str) -> &str {
    text.strip_prefix('\'').and_then(|t| t.strip_suffix('\'')).unwrap_or(text)
}

fn number(text: &str) -> Option<String> {
    let bare = unquoted(text);
    let is_number = !bare.is_empty() && bare.chars().all(|c| c.is_ascii_digit() || "-.+eE".contains(c));
    is_number.then(|| bare.to_owned())
}

fn is_now(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    let rest = text.strip_prefix("current_timestamp");
    rest.is_some_and(|rest| rest.chars().all(|c| c.is_ascii_digit() || "()".contains(c)))
}

/// A quoted literal as it is.
fn string(text: &str) -> Option<String> {
    (text.len() >= 2 && text.starts_with('\'') && text.ends_with('\'')).then(|| text.to_owned())
}

/// The secondary indexes that are carried over, and a line for each that is not.
pub(crate) fn indexes(plan: &TablePlan, facts: Facts) -> (Vec<IndexPlan>, Vec<String>) {
    if printed::of(plan, facts).is_some() {
        return (printed::indexes(plan), Vec::new());
    }
    let (mut carried, mut lines): (Vec<IndexPlan>, Vec<String>) = (Vec::new(), Vec::new());
    for index in plan.info.indexes.iter().filter(|index| !is_the_key(plan, index)) {
        match index_sql(plan, index, facts) {
            Ok(sql) if carried.iter().all(|other| !is_same_name(&other.name, &sql.name)) => carried.push(sql),
            other => {
                let why = other.err().unwrap_or_else(|| "another index has its name here".to_owned());
                let kind = if index.unique { "Unique index" } else { "Index" };
                lines.push(format!("{kind} {} of {}: {why}", index.name, plan.info.name()));
            }
        }
    }
    (carried, lines)
}

/// A unique index that stands for the primary key on the source (R8) is the primary key here.
pub(crate) fn is_the_key(plan: &TablePlan, index: &IndexInfo) -> bool {
    let parts: Vec<Option<u16>> =
        index.parts.iter().map(|p| p.column.filter(|_| p.prefix.is_none())).collect();
    let key: Vec<Option<u16>> = plan.info.schema.key().iter().map(|k| Some(*k)).collect();
    index.unique && parts == key
}

/// Whether an index is over the auto-increment column first, which the servers want from the beginning.
pub(crate) fn is_wanted_with_table(plan: &TablePlan, name: &str) -> bool {
    let index = plan.info.indexes.iter().find(|index| index.name == name);
    let first = index.and_then(|index| index.parts.first()).and_then(|part| part.column).map(usize::from);
    let key_first = plan.info.schema.key().first().map(|k| usize::from(*k));
    first.is_some_and(|at| is_auto_increment(plan, at) && key_first != Some(at))
}

fn index_sql(plan: &TablePlan, index: &IndexInfo, facts: Facts) -> Result<IndexPlan, String> {
    let word = match (index.method.as_str(), index.unique) {
        ("btree" | "hash" | "", true) => "unique index",
        ("btree" | "hash" | "", false) => "index",
        ("fulltext", _) if plan.info.dialect == Dialect::Mysql => "fulltext index",
        ("spatial", _) if plan.info.dialect == Dialect::Mysql => "spatial index",
        (method, _) => return Err(format!("{method} indexes are to be made on the target by hand")),
    };
    let mut parts = Vec::new();
    for part in &index.parts {
        let at = part.column.map(usize::from);
        let Some(at) = at else { return Err("it is over an expression".to_owned()) };
        let column = &plan.info.schema.columns()[at];
        let type_name = declared(plan, at, facts)?.sql;
        let has_order = word.ends_with("e index") || word == "index";
        let prefix = part.prefix.filter(|_| has_order);
        if prefix.is_none() && has_order && is_unbounded(&type_name) {
            return Err(format!("column {} is {type_name} here, which has no order", column.name));
        }
        let prefix = prefix.map(|n| format!("({n})")).unwrap_or_default();
        parts.push(format!(
            "{}{prefix}{}",
            sql_ident(&column.name),
            if part.descending { " desc" } else { "" }
        ));
    }
    let columns = index.parts.iter().filter_map(|part| part.column);
    let bytes: u32 = columns
        .filter_map(|column| declared(plan, column.into(), facts).ok())
        .map(|declared| bytes_max(&declared.sql))
        .sum();
    // Of a MySQL source the index is as long as it was there.
    if plan.info.dialect == Dialect::Postgres && bytes > INDEX_BYTES_MAX {
        return Err(format!("its columns may hold {bytes} bytes and an index here {INDEX_BYTES_MAX}"));
    }
    if !is_name(&index.name) || RESERVED.iter().any(|name| index.name.eq_ignore_ascii_case(name)) {
        return Err("it cannot have its name here".to_owned());
    }
    Ok(IndexPlan {
        name: index.name.clone(),
        unique: index.unique,
        sql: format!("{word} {} ({})", sql_ident(&index.name), parts.join(", ")),
        with_table: is_wanted_with_table(plan, &index.name),
    })
}

/// What of the table's definition is not carried over, one line each.
pub(crate) fn not_carried(plan: &TablePlan, facts: Facts, names: &Names<'_>) -> Vec<String> {
    let mut lines = indexes(plan, facts).1;
    match (plan.info.dialect, printed::of(plan, facts)) {
        (Dialect::Postgres, _) => lines.extend(plan.info.native_lines()),
        (Dialect::Mysql, Some(own)) => lines.extend(printed::not_carried(plan, own, names)),
        (Dialect::Mysql, None) => lines.extend(of_the_other_product(plan)),
    }
    if plan.info.dialect == Dialect::Mysql {
        lines.extend(printed::references_not_carried(plan, names));
    }
    if printed::of(plan, facts).is_none() {
        lines.extend(columns_not_carried(plan, facts));
    }
    lines
}

/// What only one of MySQL and MariaDB has, or has in other words.
fn of_the_other_product(plan: &TablePlan) -> Vec<String> {
    let name = plan.info.name();
    let mut lines: Vec<String> = plan.info.partitioning_line().into_iter().collect();
    lines.extend(plan.info.attribute_lines(&["SRID"]));
    for object in &plan.info.native.objects {
        let behind = object.definition.rsplit_once(')').map_or("", |(_, behind)| behind);
        match object.kind {
            ObjectKind::Check => lines.push(object.line(name)),
            ObjectKind::Index | ObjectKind::Unique
                if behind.contains("INVISIBLE") || behind.contains("IGNORED") =>
            {
                lines.push(format!("Index {} of {name}: it is not ignored here", object.name));
            }
            ObjectKind::Key
            | ObjectKind::Unique
            | ObjectKind::Index
            | ObjectKind::Exclusion
            | ObjectKind::ForeignKey
            | ObjectKind::Comment => {}
        }
    }
    lines
}

fn columns_not_carried(plan: &TablePlan, facts: Facts) -> Vec<String> {
    let name = plan.info.name();
    let mut lines = Vec::new();
    for (at, (column, info)) in plan.info.schema.columns().iter().zip(&plan.info.columns).enumerate() {
        let what = format!("column {} of {name}", column.name);
        let has_default = info.default.as_deref().is_some_and(|d| !d.eq_ignore_ascii_case("null"));
        if has_default
            && !info.generated
            && !info.auto_increment
            && carried_default(plan, at, facts).is_none()
        {
            lines.push(format!("Default of {what}"));
        }
        if is_long(&info.comment) {
            lines.push(format!("Comment of {what}: it has more than {COMMENT_CHARS_MAX} characters"));
        }
        if info.generated {
            lines.push(format!("Expression of generated {what}: its values are carried over"));
        }
        if info.auto_increment && !is_auto_increment(plan, at) {
            lines.push(format!("AUTO_INCREMENT of {what}: it is no integer that is first in the key"));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_that_are_expressions_are_left_out() {
        for (text, expect) in [("'it''s'", Some("'it''s'")), ("(uuid())", None), ("NULL", None)] {
            assert_eq!(string(text).as_deref(), expect, "{text}");
        }
        assert_eq!(number("'7'").as_deref(), Some("7"));
        assert_eq!(number("nextval(`s`)"), None);
        assert!(is_now("CURRENT_TIMESTAMP(3)") && is_now("current_timestamp()") && !is_now("uuid()"));
    }

    #[test]
    fn types_without_a_bound_are_known_by_their_word() {
        assert!(is_unbounded("longtext") && is_unbounded("MEDIUMBLOB") && is_unbounded("json"));
        assert!(!is_unbounded("varchar(20)") && !is_unbounded("int(11) unsigned"));
    }
}
