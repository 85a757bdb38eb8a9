//! The one place that puts names and text into SQL.
//!
//! Names are kept exactly as the source has them, whatever they hold (D13); PostgreSQL would cut one longer than 63
//! bytes off, so such a name is refused instead.

use freshet_core::{Error, Result, TableName};

/// Bytes of a name at most (`NAMEDATALEN - 1`).
pub(crate) const NAME_BYTES_MAX: usize = 63;

/// A name in double quotes. Does not check its length: see [`check_name`].
pub(crate) fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `"schema"."table"`.
pub(crate) fn table(name: &TableName) -> String {
    format!("{}.{}", ident(&name.schema), ident(&name.table))
}

/// A string literal; session setting `standard_conforming_strings = on`.
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Refuses a name that PostgreSQL could not hold as it is. `what` is "Table" or "Column" and so on.
pub(crate) fn check_name(what: &str, name: &str) -> Result<()> {
    let problem = if name.is_empty() {
        "is empty".to_owned()
    } else if name.len() > NAME_BYTES_MAX {
        format!("has {} bytes and PostgreSQL keeps {NAME_BYTES_MAX}", name.len())
    } else if name.contains('\0') {
        "holds the character U+0000".to_owned()
    } else {
        return Ok(());
    };
    Err(Error::invalid(format!("{what} name {name:?} {problem}")).with_hint("Map it to another name"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d13_names_are_quoted_whatever_they_hold() {
        assert_eq!(ident("Sel\"ect .`'\n ü "), "\"Sel\"\"ect .`'\n ü \"");
        assert_eq!(literal("it's"), "'it''s'");
        assert!(check_name("Table", &"é".repeat(31)).is_ok());
        assert!(check_name("Table", &"é".repeat(32)).is_err());
        assert!(check_name("Table", "a\0b").is_err());
    }
}
