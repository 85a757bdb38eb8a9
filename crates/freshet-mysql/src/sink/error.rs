//! The server's errors turned into the few kinds that the pipeline acts on.
//!
//! Which kind a number becomes also depends on what ran ([`Scope`]): a data error of a bulk statement names no row, so
//! it asks for the window to be replayed in order. Messages about data quote values: of those only what names a column
//! or an index is passed on. Numbers that are not about rows are judged where every connection's are (`wire::boundary`).

use crate::wire::{ServerError, WireError};
use freshet_core::{Error, ErrorKind, TableName};
use std::fmt::Display;

/// What ran when the error came.
#[derive(Clone, Debug)]
pub(crate) enum Scope {
    /// Something that is not about rows.
    Session,
    /// Preparation, loading or indexing of one table.
    Table(TableName),
    /// A bulk statement of a window.
    Bulk,
    /// One row of a window.
    Row(TableName),
}

/// What an error number is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// Trying again can help, though not every connection's errors of this number can.
    Again,
    /// The rows and the table do not agree.
    Data,
    /// A table or column is not what it was, or cannot be made as it should be.
    Definition,
    /// Anything else: as of any connection.
    Other,
}

fn class(code: u16) -> Class {
    match code {
        // Read-only (a standby, a fail-over), disk full, locks full, record or table changed meanwhile.
        1290 | 1836 | 1021 | 1114 | 1020 | 1206 | 1412 => Class::Again,
        // No room for another prepared statement (a new session looks again whether there is), or one to be prepared anew.
        1461 | 1615 => Class::Again,
        // A COMMIT that failed, or was refused by the others of a cluster, or of which nobody knows.
        1047 | 1180 | 3100 | 3101 => Class::Again,
        // What proxies say when the server behind them is gone.
        2003 | 2006 | 2013 | 9001 => Class::Again,
        // Duplicates; NULL, range, length, character, date and number of a value; checks; foreign keys; JSON;
        // geometry; no default; row too large.
        1022 | 1062 | 1169 | 1586 => Class::Data,
        1048 | 1263 | 1264 | 1265 | 1292 | 1366 | 1367 | 1406 | 1411 | 1441 | 1525 | 1690 | 3854 => {
            Class::Data
        }
        3819 | 4025 | 1216 | 1217 | 1451 | 1452 | 1364 | 1118 | 1153 | 1301 => Class::Data,
        3140..=3160 | 1416 | 3037 | 3616 | 3617 | 3643 | 3732 | 4078 | 1300 => Class::Data,
        1050 | 1051 | 1054 | 1146 | 1091 | 1061 | 1067 | 1068 | 1069 | 1070 | 1071 | 1072 | 1073 | 1075 => {
            Class::Definition
        }
        1074 | 1101 | 1103 | 1115 | 1163 | 1167 | 1170 | 1171 | 1253 | 1273 | 1286 | 1293 | 1294 | 1064 => {
            Class::Definition
        }
        1426 | 1427 | 1439 | 1478 | 1664 | 3719 | 3723 | 3750 | 4161 | 1059 | 1060 | 1063 | 1089 => {
            Class::Definition
        }
        _ => Class::Other,
    }
}

/// Whether the server does not take a definition: trying again does not help, and neither rows nor privileges are in the
/// way.
pub(crate) fn is_refusal(error: &WireError) -> bool {
    const ROW_TOO_LARGE: u16 = 1118;
    let WireError::Server(server) = error else { return false };
    match class(server.code) {
        Class::Definition => true,
        Class::Data => server.code == ROW_TOO_LARGE,
        Class::Again => false,
        Class::Other => *Error::from(WireError::Server(server.clone())).kind() == ErrorKind::Internal,
    }
}

/// The words of a refusal.
pub(crate) fn refusal(error: &WireError) -> String {
    match error {
        WireError::Server(server) => {
            format!("the target refuses it ({}, error {})", server.message, server.code)
        }
        _ => "the target refuses it".to_owned(),
    }
}

/// An error of a statement. `doing` is what was being done, in sentence case: "Creating table shop.orders".
pub(crate) fn statement_error(scope: &Scope, doing: impl Display, error: WireError) -> Error {
    let WireError::Server(server) = &error else { return Error::from(error).context(doing) };
    let class = class(server.code);
    if class == Class::Other {
        return other(scope, doing, error);
    }
    let text = format!("{doing}: {}", safe_message(class, server));
    match (class, scope) {
        (Class::Again, _) => Error::unavailable(text),
        (_, Scope::Bulk) => Error::reorder(text),
        (Class::Data, Scope::Table(table) | Scope::Row(table)) => Error::table(table.clone(), text)
            .with_hint(
                "Change the target table to take what the source has, or exclude the column or the table",
            ),
        (_, Scope::Table(table) | Scope::Row(table)) => Error::table(table.clone(), text)
            .with_hint("Make the target table what it was, or load the table again"),
        (_, Scope::Session) => Error::invalid(text),
    }
}

/// What no number of ours is about: as any connection's error, but that a table's own trouble is the table's.
fn other(scope: &Scope, doing: impl Display, error: WireError) -> Error {
    let code = error.server_code().unwrap_or_default();
    let converted = Error::from(error).context(doing);
    match (converted.kind(), scope) {
        (ErrorKind::Internal, Scope::Table(table) | Scope::Row(table)) => {
            Error::table(table.clone(), without_words(&converted, code))
        }
        (ErrorKind::Internal, Scope::Bulk) => Error::reorder(without_words(&converted, code)),
        _ => converted,
    }
}

/// The message up to the server's own words, which may quote a value.
fn without_words(error: &Error, code: u16) -> String {
    let message = error.message();
    let cut = message.find(": Server error").unwrap_or(message.len());
    format!("{}: server error {code}", &message[..cut])
}

/// The server's words, or of a message that quotes values what does not.
fn safe_message(class: Class, error: &ServerError) -> String {
    let ServerError { code, sqlstate, message } = error;
    const ROW_TOO_LARGE: u16 = 1118;
    if class != Class::Data || *code == ROW_TOO_LARGE {
        return format!("{message} (error {code}, {sqlstate})");
    }
    let what = match code {
        1022 | 1062 | 1169 | 1586 => "a key is there already",
        1048 | 1364 => "a value is missing",
        1264 | 1690 => "a value is out of range",
        1265 | 1292 | 1366 | 1367 | 1411 | 1525 | 3854 => "a value is not one of the column's type",
        1406 | 1301 => "a value is too long",
        1153 => "a row is larger than max_allowed_packet",
        3819 | 4025 => "a check of the target table refuses the row",
        1216 | 1217 | 1451 | 1452 => "a foreign key of the target refuses the row",
        _ => "the target refuses a value",
    };
    format!("{what}{} (error {code}, {sqlstate})", place_in(message))
}

/// ` for column ..` or ` for key ..` at the end of a message: nothing behind it is a value.
fn place_in(message: &str) -> String {
    for (word, text) in [(" for column ", "column"), (" for key ", "key"), ("Column ", "column")] {
        let Some(at) = message.rfind(word) else { continue };
        let name = message[at + word.len()..].split(" at row").next().unwrap_or_default();
        return format!(" for {text} {}", name.strip_suffix(" cannot be null").unwrap_or(name));
    }
    String::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: u16, message: &str) -> WireError {
        WireError::Server(ServerError { code, sqlstate: "23000".into(), message: message.into() })
    }

    #[test]
    fn o10_messages_that_quote_values_are_replaced() {
        let table = Scope::Row(TableName::new("shop", "orders"));
        let check = |code, message: &str, kept: &str| {
            let text = statement_error(&table, "Inserting", error(code, message)).message().to_owned();
            assert!(!text.contains("4711") && text.contains(kept), "{text}");
        };
        check(1062, "Duplicate entry '4711' for key 'orders.PRIMARY'", "for key 'orders.PRIMARY'");
        check(
            1366,
            "Incorrect integer value: '4711' for column `s`.`o`.`n` at row 1",
            "for column `s`.`o`.`n`",
        );
        check(1048, "Column 'n' cannot be null", "for column 'n'");
        check(9999, "Something about 4711", "server error 9999");
    }

    #[test]
    fn numbers_say_what_the_pipeline_does() {
        let table = TableName::new("shop", "orders");
        let kind = |scope: &Scope, code| statement_error(scope, "Doing", error(code, "m")).kind().clone();
        for code in [1205, 1213, 1290, 1927, 1317, 1180, 3101] {
            assert_eq!(kind(&Scope::Bulk, code), ErrorKind::Unavailable, "{code}");
        }
        assert_eq!(kind(&Scope::Bulk, 1062), ErrorKind::Reorder);
        assert_eq!(kind(&Scope::Bulk, 1146), ErrorKind::Reorder);
        assert_eq!(kind(&Scope::Row(table.clone()), 1062), ErrorKind::Table(table.clone()));
        assert_eq!(kind(&Scope::Table(table.clone()), 1067), ErrorKind::Table(table));
        assert_eq!(kind(&Scope::Session, 1142), ErrorKind::Invalid);
    }
}
