//! Foreign keys of the selected tables, and whether the server logs what their actions change (R15).
//!
//! MySQL shows them in `information_schema` to whoever may read the table. MariaDB shows them there only to
//! accounts with more than SELECT, and an empty answer cannot be told from a table without any; `SHOW CREATE TABLE`
//! needs SELECT alone. Its constraints stand on lines of their own that begin with `CONSTRAINT`, which no comment
//! or default can imitate, since line ends inside of strings are printed escaped.

use freshet_core::error::{Error, Result};
use freshet_core::schema::TableName;

use super::{sql_name, sql_string, text};
use crate::server::{Flavour, ServerFacts};
use crate::wire::Connection;

/// A foreign key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignKey {
    /// The referencing table.
    pub table: TableName,
    /// Name of the constraint.
    pub name: String,
    /// The referenced table.
    pub references: TableName,
    /// Actions that change rows of the referencing table, `ON DELETE CASCADE ON UPDATE SET NULL`; empty for none.
    pub actions: String,
}

/// Whether the binlog shows what the actions of foreign keys change.
pub(super) fn are_cascades_logged(facts: &ServerFacts) -> bool {
    match facts.flavour {
        Flavour::Mariadb => false,
        Flavour::Mysql => {
            facts.variable("innodb_native_foreign_keys").is_some()
                && !facts.is_on("innodb_native_foreign_keys")
        }
    }
}

/// The foreign keys of `tables`, all of the database `schema`.
pub(super) async fn read(
    connection: &mut Connection,
    flavour: Flavour,
    schema: &str,
    tables: &[TableName],
) -> Result<Vec<ForeignKey>> {
    match flavour {
        Flavour::Mysql => read_mysql(connection, schema, tables).await,
        Flavour::Mariadb => {
            let mut keys = Vec::new();
            for table in tables {
                let rows = connection.query(&format!("SHOW CREATE TABLE {}", sql_name(table))).await?;
                let ddl = rows.first(1).ok_or_else(|| {
                    Error::invalid(format!("The server does not show how table {table} is made"))
                })?;
                keys.extend(ddl.lines().filter_map(|line| parse_line(table, line)));
            }
            Ok(keys)
        }
    }
}

async fn read_mysql(
    connection: &mut Connection,
    schema: &str,
    tables: &[TableName],
) -> Result<Vec<ForeignKey>> {
    let sql = format!(
        "SELECT TABLE_NAME, CONSTRAINT_NAME, UNIQUE_CONSTRAINT_SCHEMA, REFERENCED_TABLE_NAME, DELETE_RULE, \
         UPDATE_RULE FROM information_schema.REFERENTIAL_CONSTRAINTS WHERE CONSTRAINT_SCHEMA = {} \
         ORDER BY TABLE_NAME, CONSTRAINT_NAME",
        sql_string(schema)
    );
    let mut keys = Vec::new();
    for row in &connection.query(&sql).await? {
        let table = TableName::new(schema, text(row, 0)?);
        if tables.contains(&table) {
            keys.push(ForeignKey {
                name: text(row, 1)?.to_owned(),
                references: TableName::new(text(row, 2)?, text(row, 3)?),
                actions: actions(text(row, 4)?, text(row, 5)?),
                table,
            });
        }
    }
    Ok(keys)
}

fn actions(delete: &str, update: &str) -> String {
    let changes = |rule: &str| !matches!(rule, "RESTRICT" | "NO ACTION");
    let mut parts = Vec::new();
    if changes(delete) {
        parts.push(format!("ON DELETE {delete}"));
    }
    if changes(update) {
        parts.push(format!("ON UPDATE {update}"));
    }
    parts.join(" ")
}

/// `  CONSTRAINT `n` FOREIGN KEY (`a`) REFERENCES `db`.`t` (`b`) ON DELETE CASCADE,`
fn parse_line(table: &TableName, line: &str) -> Option<ForeignKey> {
    let (name, rest) = identifier(line.strip_prefix("  CONSTRAINT ")?)?;
    let mut rest = columns(rest.strip_prefix(" FOREIGN KEY ")?)?.strip_prefix(" REFERENCES ")?;
    let mut parts = Vec::new();
    loop {
        let (part, after) = identifier(rest)?;
        parts.push(part);
        match after.strip_prefix('.') {
            Some(after) => rest = after,
            None => {
                rest = columns(after.trim_start())?;
                break;
            }
        }
    }
    let referenced = parts.pop()?;
    let references = TableName::new(parts.pop().unwrap_or_else(|| table.schema.clone()), referenced);
    let rule = |event: &str| {
        let tail = rest.split_once(event).map_or("NO ACTION", |(_, tail)| tail);
        let tail = tail.trim_end_matches(',');
        tail.split_once(" ON ").map_or(tail, |(rule, _)| rule).to_owned()
    };
    let actions = actions(&rule(" ON DELETE "), &rule(" ON UPDATE "));
    Some(ForeignKey { table: table.clone(), name, references, actions })
}

/// Takes a quoted name off the front.
fn identifier(text: &str) -> Option<(String, &str)> {
    let (mut name, mut rest) = (String::new(), text.strip_prefix('`')?);
    loop {
        let (part, after) = rest.split_once('`')?;
        name.push_str(part);
        match after.strip_prefix('`') {
            Some(after) => {
                name.push('`');
                rest = after;
            }
            None => return Some((name, after)),
        }
    }
}

/// Takes a list of quoted names in parentheses off the front.
fn columns(text: &str) -> Option<&str> {
    let mut rest = text.strip_prefix('(')?;
    loop {
        let (_, after) = identifier(rest)?;
        rest = match after.strip_prefix(", ").or_else(|| after.strip_prefix(',')) {
            Some(after) => after,
            None => return after.strip_prefix(')'),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r15_foreign_keys_out_of_show_create_table() {
        let table = TableName::new("shop", "lines");
        let check = |line: &str, name: &str, references: (&str, &str), actions: &str| {
            let key = parse_line(&table, line).expect("a foreign key");
            assert_eq!((key.name.as_str(), key.actions.as_str()), (name, actions), "{line}");
            assert_eq!(key.references, TableName::new(references.0, references.1), "{line}");
        };
        check("  CONSTRAINT `fk1` FOREIGN KEY (`p`) REFERENCES `p` (`id`),", "fk1", ("shop", "p"), "");
        check(
            "  CONSTRAINT `a``b` FOREIGN KEY (`p`, `q)`) REFERENCES `o.x`.`p` (`id`, `r`) ON DELETE CASCADE ON UPDATE SET NULL,",
            "a`b",
            ("o.x", "p"),
            "ON DELETE CASCADE ON UPDATE SET NULL",
        );
        check(
            "  CONSTRAINT `c` FOREIGN KEY (`p`) REFERENCES `p` (`id`) ON DELETE NO ACTION ON UPDATE SET DEFAULT",
            "c",
            ("shop", "p"),
            "ON UPDATE SET DEFAULT",
        );
        for other in [
            "  CONSTRAINT `CONSTRAINT_1` CHECK (`id` > 0)",
            "  `a` int(11) COMMENT 'CONSTRAINT `x` FOREIGN KEY'",
            "  KEY `fk1` (`p`),",
        ] {
            assert_eq!(parse_line(&table, other), None, "{other}");
        }
    }
}
