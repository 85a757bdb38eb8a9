//! The error that crosses crate boundaries: few kinds, each of which says what the pipeline does.
//!
//! Precise errors are private to each crate and are turned into this one at its edge. A message is in sentence
//! case without a full stop, names the thing and, where there is one, the next step. It never holds a value of
//! a cell nor a secret.

use crate::schema::TableName;
use std::fmt;

/// Result of everything that crosses a crate boundary.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the pipeline does about an error. A kind exists only where the caller acts differently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The other side cannot be reached or asks to try again: retry with back-off.
    Unavailable,
    /// Somebody else owns the log or the sink now: stop.
    Fenced,
    /// Configuration, privileges or server settings are wrong: stop and say which.
    Invalid,
    /// Stored bytes or a protocol are damaged: stop.
    Corrupt,
    /// Something freshet does not support was met: stop and name it.
    Unsupported,
    /// One table cannot go on (divergence, value without a place on the target): the table's policy decides.
    Table(TableName),
    /// The source's history between our position and now is gone, or is another history: stop, say so, and
    /// never start over silently.
    Resync,
    /// A bulk statement failed in a way that may name no row: the window is to be applied again in order.
    Reorder,
    /// Between the bounds of its load a row of the table lacks a value that only the source has: the table is to be
    /// emptied and read again (ALGORITHMS 2.2).
    Reload(TableName),
    /// A broken invariant of our own: stop.
    Internal,
}

/// The error of every boundary.
#[derive(Clone, Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
}

impl Error {
    /// An error of `kind` with a message in sentence case, without a full stop.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None }
    }

    /// Shorthand for [`ErrorKind::Unavailable`].
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unavailable, message)
    }

    /// Shorthand for [`ErrorKind::Fenced`].
    pub fn fenced(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Fenced, message)
    }

    /// Shorthand for [`ErrorKind::Invalid`].
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// Shorthand for [`ErrorKind::Corrupt`].
    pub fn corrupt(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, message)
    }

    /// Shorthand for [`ErrorKind::Unsupported`].
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }

    /// Shorthand for [`ErrorKind::Table`].
    pub fn table(table: TableName, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Table(table), message)
    }

    /// Shorthand for [`ErrorKind::Resync`].
    pub fn resync(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Resync, message)
    }

    /// Shorthand for [`ErrorKind::Reorder`].
    pub fn reorder(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Reorder, message)
    }

    /// Shorthand for [`ErrorKind::Reload`].
    pub fn reload(table: TableName, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Reload(table), message)
    }

    /// Shorthand for [`ErrorKind::Internal`].
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// The same error with the next step for the user, shown on a line of its own.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same error with `context: ` before its message.
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.message = format!("{context}: {}", self.message);
        self
    }

    /// What the caller is to do.
    pub fn kind(&self) -> &ErrorKind {
        &self.kind
    }

    /// The message alone.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The next step, if there is one.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Whether trying again later can help.
    pub fn is_retryable(&self) -> bool {
        self.kind == ErrorKind::Unavailable
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
