//! What stands between a server and a pipeline that runs: settings, privileges, tables; each with its remedy.
//!
//! It looks and changes nothing. It finds all it can rather than stop at the first, so a part that cannot be read
//! is a finding of its own. What is an error here also stops the pipeline when it runs, by the same name: a check
//! that was not asked for must not be the only guard.

mod grants;
mod privileges;
mod settings;
mod tables;

use freshet_core::error::Error;
use freshet_core::source::Selects;

use crate::server::{Flavour, ServerFacts};
use crate::wire::{ConnectOptions, Connection};
use freshet_core::check::Findings;

pub use freshet_core::check::{Finding, Severity};
pub(crate) use grants::grant_ident;
pub use grants::grants;
pub(crate) use privileges::{Held, account};

/// What the account is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Copy the rows that are there.
    Load,
    /// Copy them, and follow the changes.
    LoadAndStream,
    /// Follow the changes.
    Stream,
}

impl Role {
    /// Whether existing rows are read.
    pub fn loads(self) -> bool {
        match self {
            Role::Load | Role::LoadAndStream => true,
            Role::Stream => false,
        }
    }

    /// Whether the binlog is read.
    pub fn streams(self) -> bool {
        match self {
            Role::Stream | Role::LoadAndStream => true,
            Role::Load => false,
        }
    }
}

/// What is checked for.
#[derive(Clone, Copy, Debug)]
pub struct CheckOptions {
    /// What the account is to do.
    pub role: Role,
    /// The longest name that the target takes, in bytes: PostgreSQL cuts at 63 (D13).
    pub name_bytes_max: usize,
}

impl CheckOptions {
    /// A check for this role, with PostgreSQL's names.
    pub fn new(role: Role) -> Self {
        Self { role, name_bytes_max: 63 }
    }
}

/// Everything that is found about the server, the account and the selected tables; the worst first.
pub async fn check(
    options: &ConnectOptions,
    flavour: Flavour,
    selection: &dyn Selects,
    check: &CheckOptions,
) -> Vec<Finding> {
    let mut findings = Findings::default();
    if let Err(error) = look(options, flavour, selection, check, &mut findings).await {
        findings.add_error("connection", "connection", &error);
    }
    findings.0.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    findings.0
}

async fn look(
    options: &ConnectOptions,
    flavour: Flavour,
    selection: &dyn Selects,
    check: &CheckOptions,
    findings: &mut Findings,
) -> Result<(), Error> {
    let mut connection = Connection::connect(options).await?;
    let facts = ServerFacts::read(&mut connection).await?;
    if facts.flavour != flavour {
        let wanted = facts.flavour.to_string().to_lowercase();
        findings.add(
            Severity::Error,
            "flavour",
            "source.type",
            format!(
                "The source is configured as {flavour} and the server is {} {}",
                facts.flavour, facts.version_text
            ),
            format!("Set the source's type to {wanted}"),
        );
    }
    settings::check(&facts, check.role, findings);
    if check.role.streams() {
        settings::check_replica(&mut connection, &facts, findings).await;
    }
    let may_lock = privileges::check(&mut connection, &facts, check.role, findings).await?;
    tables::check(&mut connection, &facts, selection, check, may_lock, findings).await?;
    connection.close().await;
    Ok(())
}
