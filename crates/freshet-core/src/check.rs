//! What a check of a server finds before a pipeline is started, in one shape for every backend.
//!
//! Not how findings are printed, and not who found them: that is added where they are gathered.

use crate::error::Error;

/// How much a finding weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// It will run, with the stated consequence.
    Warning,
    /// It will not run, or would lose something.
    Error,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Weight.
    pub severity: Severity,
    /// A stable word for programs, `binlog-format`.
    pub code: &'static str,
    /// What it is about: a setting, a privilege, a table.
    pub subject: String,
    /// What was found.
    pub message: String,
    /// What to do: the exact statement where there is one.
    pub remedy: Option<String>,
}

/// The findings so far.
#[derive(Debug, Default)]
pub struct Findings(pub Vec<Finding>);

impl Findings {
    /// Adds one; an empty remedy is none.
    pub fn add(
        &mut self,
        severity: Severity,
        code: &'static str,
        subject: impl Into<String>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let remedy = Some(remedy.into()).filter(|remedy| !remedy.is_empty());
        self.0.push(Finding { severity, code, subject: subject.into(), message: message.into(), remedy });
    }

    /// Adds what could not be found out, or what a run would be refused with.
    pub fn add_error(&mut self, code: &'static str, subject: impl Into<String>, error: &Error) {
        self.add(Severity::Error, code, subject, error.message(), error.hint().unwrap_or_default());
    }
}
