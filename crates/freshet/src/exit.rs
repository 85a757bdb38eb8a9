//! How a command ends: its exit code, and what it prints on standard error when it fails.
//!
//! One code for each kind of error, so that a supervisor can tell what a restart would help with. The table stands
//! in `--help` and in docs/operations.md; a test compares them.

use crate::config::Refused;
use freshet_core::{Error, ErrorKind};
use std::io;
use std::path::{Path, PathBuf};

/// Every exit code with what it means, in order.
pub const CODES: [(u8, &str); 12] = [
    (0, "done, or stopped in order"),
    (1, "an internal error: a bug"),
    (2, "wrong usage, configuration, privileges or server settings"),
    (3, "a server, a disk or the log is not available; trying again may help"),
    (4, "another process owns the pipeline now"),
    (5, "stored bytes or a protocol are damaged"),
    (6, "something that freshet does not support was met"),
    (7, "a table cannot go on: source and target differ, or a value has no place on the target"),
    (8, "the source's history is gone or is another one: reset and load again"),
    (9, "freshet check found errors"),
    (130, "a second SIGINT: stopped at once"),
    (143, "a second SIGTERM: stopped at once"),
];

/// `freshet check` found errors.
const CODE_FINDINGS: u8 = 9;

/// Why a command did not succeed.
#[derive(Debug)]
pub enum Failure {
    /// The configuration file cannot be used.
    Refused {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        refused: Refused,
    },
    /// An error from below.
    Error(Error),
    /// Findings of a check, printed already.
    Findings,
    /// Whoever read our output has gone: nothing to say and nobody to say it to.
    OutputClosed,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Error(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::OutputClosed,
            _ => Failure::Error(Error::unavailable(format!("Standard output cannot be written: {error}"))),
        }
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        if error.is_io() {
            return Failure::from(io::Error::from(error));
        }
        Failure::Error(Error::internal(format!("JSON cannot be written: {error}")))
    }
}

impl Failure {
    /// The exit code.
    pub fn code(&self) -> u8 {
        match self {
            Failure::Refused { .. } => 2,
            Failure::Error(error) => code_of(error.kind()),
            Failure::Findings => CODE_FINDINGS,
            Failure::OutputClosed => 0,
        }
    }

    /// The lines for standard error: what is wrong, and the next step on a line of its own.
    pub fn lines(&self) -> Vec<String> {
        match self {
            Failure::Refused { file, refused } => refused_lines(file, refused),
            Failure::Error(error) => {
                let hint = error.hint().map(|hint| format!("hint: {hint}"));
                std::iter::once(format!("error: {}", error.message())).chain(hint).collect()
            }
            Failure::Findings | Failure::OutputClosed => Vec::new(),
        }
    }
}

fn refused_lines(file: &Path, refused: &Refused) -> Vec<String> {
    let mut lines = Vec::new();
    for problem in &refused.problems {
        lines.push(format!("error: {}: {problem}", file.display()));
        lines.extend(problem.hint.as_ref().map(|hint| format!("hint: {hint}")));
    }
    lines
}

/// The exit code of an error's kind.
pub fn code_of(kind: &ErrorKind) -> u8 {
    match kind {
        ErrorKind::Internal | ErrorKind::Reorder | ErrorKind::Reload(_) => 1,
        ErrorKind::Invalid => 2,
        ErrorKind::Unavailable => 3,
        ErrorKind::Fenced => 4,
        ErrorKind::Corrupt => 5,
        ErrorKind::Unsupported => 6,
        ErrorKind::Table(_) => 7,
        ErrorKind::Resync => 8,
    }
}

/// An error kind's name, for programs.
pub fn kind_word(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Internal => "internal",
        ErrorKind::Reorder => "reorder",
        ErrorKind::Reload(_) => "reload",
        ErrorKind::Invalid => "invalid",
        ErrorKind::Unavailable => "unavailable",
        ErrorKind::Fenced => "fenced",
        ErrorKind::Corrupt => "corrupt",
        ErrorKind::Unsupported => "unsupported",
        ErrorKind::Table(_) => "table",
        ErrorKind::Resync => "resync",
    }
}

/// The table of exit codes for `--help`.
pub fn help() -> String {
    let rows = CODES.iter().map(|(code, meaning)| format!("  {code:>3}  {meaning}\n"));
    format!("Exit codes:\n{}", rows.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_has_the_same_table() {
        let manual = include_str!("../../../docs/operations.md");
        for (code, meaning) in CODES {
            assert!(manual.contains(&format!("| {code} | {meaning} |")), "{code} {meaning}");
        }
    }

    #[test]
    fn failures_are_told_with_their_hint() {
        let error = Error::resync("The binlog is gone").with_hint("Reset and load again");
        let failure = Failure::from(error);
        assert_eq!(failure.code(), 8);
        assert_eq!(failure.lines(), ["error: The binlog is gone", "hint: Reset and load again"]);
        assert_eq!(Failure::from(io::Error::from(io::ErrorKind::BrokenPipe)).code(), 0);
    }
}
