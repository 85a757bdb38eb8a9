//! Foreign keys of the selected tables, and whether the server logs what their actions change (R15).
//!
//! Out of `SHOW CREATE TABLE` (`printed`), which needs SELECT alone: MariaDB shows them in `information_schema` only to
//! accounts with more than that, and an empty answer cannot be told from a table without any.

use freshet_core::schema::TableName;

use crate::server::{Flavour, ServerFacts};

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

/// ``CONSTRAINT `n` FOREIGN KEY (`a`) REFERENCES `db`.`t` (`b`) ON DELETE CASCADE``: the key, its columns in parentheses,
/// and what stands behind the referenced table.
pub(super) fn parse<'a>(table: &TableName, text: &'a str) -> Option<(ForeignKey, &'a str, &'a str)> {
    let (name, rest) = identifier(text.strip_prefix("CONSTRAINT ")?)?;
    let own = rest.strip_prefix(" FOREIGN KEY ")?;
    let mut rest = columns(own)?;
    let own = own.get(..own.len() - rest.len())?;
    rest = rest.strip_prefix(" REFERENCES ")?;
    let mut parts = Vec::new();
    let behind = loop {
        let (part, after) = identifier(rest)?;
        parts.push(part);
        match after.strip_prefix('.') {
            Some(after) => rest = after,
            None => break after.trim_start(),
        }
    };
    let rules = columns(behind)?;
    let referenced = parts.pop()?;
    let references = TableName::new(parts.pop().unwrap_or_else(|| table.schema.clone()), referenced);
    let rule = |event: &str| {
        let tail = rules.split_once(event).map_or("NO ACTION", |(_, tail)| tail);
        tail.split_once(" ON ").map_or(tail, |(rule, _)| rule).to_owned()
    };
    let actions = actions(&rule(" ON DELETE "), &rule(" ON UPDATE "));
    Some((ForeignKey { table: table.clone(), name, references, actions }, own, behind))
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
            let (key, _, _) = parse(&table, line).expect("a foreign key");
            assert_eq!((key.name.as_str(), key.actions.as_str()), (name, actions), "{line}");
            assert_eq!(key.references, TableName::new(references.0, references.1), "{line}");
        };
        check("CONSTRAINT `fk1` FOREIGN KEY (`p`) REFERENCES `p` (`id`)", "fk1", ("shop", "p"), "");
        check(
            "CONSTRAINT `a``b` FOREIGN KEY (`p`, `q)`) REFERENCES `o.x`.`p` (`id`, `r`) ON DELETE CASCADE ON UPDATE SET NULL",
            "a`b",
            ("o.x", "p"),
            "ON DELETE CASCADE ON UPDATE SET NULL",
        );
        check(
            "CONSTRAINT `c` FOREIGN KEY (`p`) REFERENCES `p` (`id`) ON DELETE NO ACTION ON UPDATE SET DEFAULT",
            "c",
            ("shop", "p"),
            "ON UPDATE SET DEFAULT",
        );
        for other in [
            "CONSTRAINT `CONSTRAINT_1` CHECK (`id` > 0)",
            "`a` int(11) COMMENT 'CONSTRAINT `x` FOREIGN KEY'",
            "KEY `fk1` (`p`)",
        ] {
            assert_eq!(parse(&table, other), None, "{other}");
        }
        let text = "CONSTRAINT `a` FOREIGN KEY (`p`, `q)`) REFERENCES `o`.`p` (`id`, `r`) ON DELETE SET NULL";
        let (_, own, behind) = parse(&table, text).expect("a foreign key");
        assert_eq!((own, behind), ("(`p`, `q)`)", "(`id`, `r`) ON DELETE SET NULL"));
    }
}
