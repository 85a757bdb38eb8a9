//! What a check finds: one shape for the findings of every backend and of the configuration itself, and how they
//! are printed.

use comfy_table::{ContentArrangement, Table, presets};
use freshet_core::check;
pub use freshet_core::check::Severity;
use serde::{Serialize, Serializer};
use std::io::{self, Write};

fn text(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Error => "ERROR",
    }
}

fn word<S: Serializer>(severity: &Severity, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_str(match severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Error => "error",
    })
}

/// One finding and where it was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Weight.
    #[serde(serialize_with = "word")]
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

impl Finding {
    /// What a backend found, at its place.
    pub fn at(place: &str, found: check::Finding) -> Self {
        let check::Finding { severity, code, subject, message, remedy } = found;
        Self { severity, place: place.to_owned(), code, subject, message, remedy }
    }
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
        table.add_row([text(finding.severity), &finding.place, &finding.subject, &finding.message, remedy]);
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
