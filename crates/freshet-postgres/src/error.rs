//! PostgreSQL's errors turned into the few kinds that the pipeline acts on.
//!
//! The server's DETAIL, HINT and CONTEXT hold values of rows and are never passed on; its primary message is, except
//! for classes in which it quotes a value (22, P0). Which kind an SQLSTATE becomes also depends on what ran
//! ([`Scope`]): a data error of a bulk statement names no row, so it asks for the window to be replayed in order.

use crate::options::ConnectOptions;
use freshet_core::{Error, ErrorKind, TableName};
use std::error::Error as _;
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

/// What an SQLSTATE is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// Trying again can help.
    Again,
    /// A role, a password, a database or a privilege is wrong.
    Invalid,
    /// The rows and the table do not agree.
    Data,
    /// A table or column is not what it was.
    Definition,
    /// Anything else.
    Other,
}

fn class(code: &str) -> Class {
    match code {
        // Serialization, deadlock, lock timeout, cancelled, read-only (a standby), and server states.
        "40001" | "40P01" | "55P03" | "57014" | "25006" | "57P01" | "57P02" | "57P03" | "57P05" => {
            Class::Again
        }
        "25P03" | "25P04" => Class::Again,
        "42501" | "3D000" | "26000" => Class::Invalid,
        "21000" => Class::Data,
        _ => match code.get(..2).unwrap_or_default() {
            "08" | "53" | "58" => Class::Again,
            "28" => Class::Invalid,
            "22" | "23" | "54" | "44" | "P0" => Class::Data,
            "42" | "3F" | "0A" | "55" | "2B" => Class::Definition,
            _ => Class::Other,
        },
    }
}

/// An error of a statement. `doing` is what was being done, in sentence case: "Creating table shop.orders".
pub(crate) fn statement_error(scope: &Scope, doing: impl Display, error: &tokio_postgres::Error) -> Error {
    let Some(db) = error.as_db_error() else {
        return transport_error(doing, error);
    };
    coded_error(scope, doing, db.code().code(), db.message())
}

/// The same, from the server's own words.
pub(crate) fn coded_error(scope: &Scope, doing: impl Display, code: &str, message: &str) -> Error {
    let text = format!("{doing}: {} (SQLSTATE {code})", safe_message(code, message));
    let error = match (class(code), scope) {
        (Class::Again, _) => Error::unavailable(text),
        (Class::Invalid, _) => Error::invalid(text),
        (Class::Data | Class::Definition, Scope::Bulk) => Error::reorder(text),
        (Class::Data | Class::Definition, Scope::Table(table) | Scope::Row(table)) => {
            Error::table(table.clone(), text)
        }
        (Class::Data | Class::Definition, Scope::Session) => Error::invalid(text),
        (Class::Other, _) => Error::internal(text),
    };
    match hint(code) {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

/// Why the server refused a statement, if saying it again cannot help.
pub(crate) fn refusal(error: &tokio_postgres::Error) -> Option<String> {
    const LIBRARY_MISSING: &str = "58P01";
    let db = error.as_db_error()?;
    let code = db.code().code();
    let is_final = class(code) != Class::Again || code == LIBRARY_MISSING;
    is_final.then(|| safe_message(code, db.message()))
}

/// The server's words, where they quote no value.
fn safe_message(code: &str, message: &str) -> String {
    let text = match code {
        "53100" => "the server's disk is full",
        "22001" => "a value is longer than the column",
        "22003" => "a number is out of the column's range",
        "22007" | "22008" => "a date or time is out of range",
        "22021" => "text is not valid in the database's encoding",
        "22P02" | "22P03" | "22032" | "2203G" => "a value is not valid for the column's type",
        _ if code.starts_with("22") => "a value is not valid for the column",
        _ if code.starts_with("P0") => "a function or trigger raised an error",
        _ => message,
    };
    text.trim_end_matches('.').to_owned()
}

fn hint(code: &str) -> Option<&'static str> {
    Some(match code {
        "53100" => "Free space on the server's disk; the pipeline goes on by itself",
        "53300" => "Raise max_connections, or end other sessions",
        "42501" => "Grant the privilege; freshet check --grants prints what the role needs",
        "26000" => {
            "Connect to the server itself: a pooler in transaction mode cannot be used (pool_mode = session works)"
        }
        "25006" => "Point the pipeline at the primary server",
        "28P01" | "28000" => "Check user and password, and the server's pg_hba.conf",
        "3D000" => "Create the database, or correct the name of the database",
        _ => return None,
    })
}

/// An error of a new connection.
pub(crate) fn connect_error(options: &ConnectOptions, error: &tokio_postgres::Error) -> Error {
    let doing = format!("Connecting to PostgreSQL at {} as {}", options.place(), options.user);
    if error.as_db_error().is_some() {
        return statement_error(&Scope::Session, doing, error);
    }
    let causes = causes(error);
    if tls_refused(error) {
        let hint = "Name the right tls_ca_file, or use a host name that the certificate is for";
        return Error::invalid(format!("{doing}: {causes}")).with_hint(hint);
    }
    if causes.contains("server does not support TLS") {
        let hint = "Turn ssl on at the server, or set tls: disable";
        return Error::invalid(format!("{doing}: the server does not offer TLS")).with_hint(hint);
    }
    if causes.contains("password missing") {
        return Error::invalid(format!("{doing}: the server wants a password"))
            .with_hint("Set password or password_file");
    }
    if causes.contains("authentication") {
        return Error::invalid(format!("{doing}: {causes}"));
    }
    transport_error(doing, error)
}

/// The server cannot be reached, or its certificate is not accepted.
pub(crate) fn unreachable(options: &ConnectOptions, error: &std::io::Error) -> Error {
    let text = format!("Connecting to PostgreSQL at {}: {error}", options.place());
    match certificate_error(error) {
        true => Error::invalid(text)
            .with_hint("Name the right tls_ca_file, or use a host name that the certificate is for"),
        false => Error::unavailable(text),
    }
}

fn certificate_error(error: &std::io::Error) -> bool {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    tls.is_some_and(|tls| {
        matches!(tls, rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented)
    })
}

fn transport_error(doing: impl Display, error: &tokio_postgres::Error) -> Error {
    let text = format!("{doing}: {}", causes(error));
    let local =
        causes(error).contains("serializing parameter") || causes(error).contains("unexpected message");
    if local { Error::internal(text) } else { Error::unavailable(text) }
}

/// The chain of causes, each once.
fn causes(error: &tokio_postgres::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let next = cause.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        source = cause.source();
    }
    text
}

/// Whether the handshake failed because of the certificate.
fn tls_refused(error: &tokio_postgres::Error) -> bool {
    let mut source = error.source();
    while let Some(cause) = source {
        if cause.downcast_ref::<std::io::Error>().is_some_and(certificate_error) {
            return true;
        }
        source = cause.source();
    }
    false
}

/// Adds the table to an error that the codec raised while a row of it was read.
pub(crate) fn in_table(table: &TableName, error: Error) -> Error {
    match error.kind() {
        ErrorKind::Corrupt => error.context(format!("A row of {table}")),
        ErrorKind::Unavailable
        | ErrorKind::Fenced
        | ErrorKind::Invalid
        | ErrorKind::Unsupported
        | ErrorKind::Table(_)
        | ErrorKind::Resync
        | ErrorKind::Reorder
        | ErrorKind::Reload(_)
        | ErrorKind::Internal => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o10_messages_that_quote_values_are_replaced() {
        let message = "invalid input syntax for type integer: \"4711\"";
        assert!(!safe_message("22P02", message).contains("4711"));
        assert!(!safe_message("22999", message).contains("4711"));
        assert!(!safe_message("P0001", message).contains("4711"));
        assert_eq!(safe_message("42P01", "relation \"t\" does not exist"), "relation \"t\" does not exist");
    }

    #[test]
    fn classes_say_what_the_pipeline_does() {
        for (code, expect) in [
            ("40P01", Class::Again),
            ("53100", Class::Again),
            ("08006", Class::Again),
            ("57P03", Class::Again),
            ("28P01", Class::Invalid),
            ("42501", Class::Invalid),
            ("23505", Class::Data),
            ("54000", Class::Data),
            ("42P01", Class::Definition),
            ("55P03", Class::Again),
            ("55006", Class::Definition),
            ("XX000", Class::Other),
        ] {
            assert_eq!(class(code), expect, "{code}");
        }
    }
}
