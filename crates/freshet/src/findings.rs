//! What a check finds: one shape for the findings of every backend and of the configuration itself, and how they
//! are printed.

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;
use std::io::{self, Write};

/// How much a finding weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// It will run, with the stated consequence.
    Warning,
    /// It will not run, or would lose something.
    Error,
}

impl Severity {
    fn text(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Error => "ERROR",
        }
    }
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Weight.
    pub severity: Severity,
    /// Where: `configuration`, `source`, or `sink NAME`.
    pub place: String,
    /// A stable word for programs, `binlog-format`.
    pub code: &'static str,
    /// What it is about: a setting, a table, a privilege.
    pub subject: String,
    /// What was found.
    pub message: String,
    /// What to do.
    pub remedy: Option<String>,
}

/// The findings as a table, the worst last, where a terminal ends.
pub fn print_table(out: &mut impl Write, findings: &[Finding]) -> io::Result<()> {
    let mut sorted: Vec<&Finding> = findings.iter().collect();
    sorted.sort_by_key(|finding| finding.severity);
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["", "where", "about", "found", "what to do"]);
    if let Some(columns) = terminal_columns() {
        table.set_width(columns);
    }
    for finding in sorted {
        let remedy = finding.remedy.as_deref().unwrap_or_default();
        table.add_row([finding.severity.text(), &finding.place, &finding.subject, &finding.message, remedy]);
    }
    writeln!(out, "{table}")?;
    let count = |severity| findings.iter().filter(|f| f.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    writeln!(out, "{errors} error{}, {warnings} warning{}", plural(errors), plural(warnings))
}

/// Width of standard output, if it is a terminal.
fn terminal_columns() -> Option<u16> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    (size.ws_col > 0).then_some(size.ws_col)
}

fn plural(n: usize) -> &'static str {
    if n == 1 { "" } else { "s" }
}
