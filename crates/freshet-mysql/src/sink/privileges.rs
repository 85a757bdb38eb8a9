//! Whether the account would be shown the triggers of a table, which the servers hide from those without TRIGGER.
//!
//! By `SHOW GRANTS`, which on both servers lists what the account has by its roles too. Not a check of the other
//! privileges: the lack of those is an error when they are needed.

use crate::sink::session::Session;
use freshet_core::{Result, TableName};

/// What to do about triggers that may be hidden.
pub(crate) const HIDDEN_TRIGGERS: &str = "Give the account TRIGGER on the table or its database";

/// Whether no trigger of the table can be hidden.
pub(crate) async fn sees_triggers(session: &mut Session, table: &TableName) -> Result<bool> {
    let rows = session.query("show grants", "Reading the account's privileges").await?;
    let lines = || rows.rows().iter().filter_map(|row| row.text(0));
    let granted = lines().filter_map(|line| line.strip_prefix("GRANT ")).any(|line| covers(line, table));
    // MySQL's partial revokes.
    let revoked = lines().filter_map(|line| line.strip_prefix("REVOKE ")).any(|line| covers(line, table));
    Ok(granted && !revoked)
}

/// Whether ``SELECT, TRIGGER ON `db`.* TO ..`` names the privilege and the table.
fn covers(line: &str, table: &TableName) -> bool {
    let Some((privileges, rest)) = line.split_once(" ON ") else { return false };
    let has_it =
        privileges.split(',').map(str::trim).any(|p| p == "TRIGGER" || p.starts_with("ALL PRIVILEGES"));
    let Some((schema, rest)) = name(rest) else { return false };
    let object = rest.strip_prefix('.').and_then(name);
    has_it
        && match (schema, object) {
            (Name::Any, Some((Name::Any, _))) => true,
            (Name::Is(schema), Some((Name::Any, _))) => is_like(&table.schema, &schema),
            (Name::Is(schema), Some((Name::Is(object), _))) => {
                schema == table.schema && object == table.table
            }
            (_, _) => false,
        }
}

#[derive(Debug, PartialEq, Eq)]
enum Name {
    /// `*`
    Any,
    Is(String),
}

/// A name at the beginning, and the rest.
fn name(text: &str) -> Option<(Name, &str)> {
    if let Some(rest) = text.strip_prefix('*') {
        return Some((Name::Any, rest));
    }
    let (mut out, mut rest) = (String::new(), text.strip_prefix('`')?);
    loop {
        let (part, behind) = rest.split_once('`')?;
        out.push_str(part);
        match behind.strip_prefix('`') {
            Some(more) => (out, rest) = (out + "`", more),
            None => return Some((Name::Is(out), behind)),
        }
    }
}

/// `LIKE`: databases are granted by patterns.
fn is_like(text: &str, pattern: &str) -> bool {
    let mut pattern_chars = pattern.chars();
    let Some(first) = pattern_chars.next() else { return text.is_empty() };
    let rest = pattern_chars.as_str();
    let eat = |wanted: Option<char>, rest: &str| {
        let mut chars = text.chars();
        chars.next().is_some_and(|c| wanted.is_none_or(|w| w == c)) && is_like(chars.as_str(), rest)
    };
    match first {
        '%' => (0..=text.len()).any(|at| text.get(at..).is_some_and(|tail| is_like(tail, rest))),
        '_' => eat(None, rest),
        '\\' if !rest.is_empty() => {
            let mut escaped = rest.chars();
            eat(escaped.next(), escaped.as_str())
        }
        plain => eat(Some(plain), rest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r16_grants_that_show_triggers() {
        let table = TableName::new("my_shop", "or`ders");
        let check = |line: &str, expect: bool| assert_eq!(covers(line, &table), expect, "{line}");
        check("ALL PRIVILEGES ON *.* TO `u`@`%`", true);
        check("SELECT, TRIGGER, INSERT ON *.* TO `u`@`%`", true);
        check(r"SELECT, TRIGGER ON `my\_shop`.* TO `u`@`%`", true);
        check("TRIGGER ON `my%`.* TO `u`@`%`", true);
        check("TRIGGER ON `my_shop`.`or``ders` TO `u`@`%`", true);
        check("SELECT ON *.* TO `u`@`%`", false);
        check(r"TRIGGER ON `my\_sho`.* TO `u`@`%`", false);
        check("TRIGGER ON `my_shop`.`orders` TO `u`@`%`", false);
        check("TRIGGER_ADMIN ON *.* TO `u`@`%`", false);
        check("EXECUTE ON PROCEDURE `my_shop`.`p` TO `u`@`%`", false);
        check("`r1`@`%` TO `u`@`%`", false);
    }
}
