//! What a server must be set to for its binlog to hold whole rows under their names.
//!
//! Only what reading right depends on, checked at every open; advice, grants and retention are `check`'s. Every
//! variable here can also be changed per session at the server, which is why the decoder judges each event again.

use freshet_core::error::{Error, Result};

use crate::server::{Flavour, ServerFacts};
use crate::wire::Connection;

/// A variable, what it must be, and how to make it so.
struct Needed {
    variable: &'static str,
    value: &'static str,
    remedy: &'static str,
}

const NEEDED: [Needed; 4] = [
    Needed {
        variable: "log_bin",
        value: "ON",
        remedy: "Set log_bin in the server's configuration file and restart it",
    },
    Needed {
        variable: "binlog_format",
        value: "ROW",
        remedy: "SET GLOBAL binlog_format = 'ROW' (and in the server's configuration file), then let sessions reconnect",
    },
    Needed {
        variable: "binlog_row_image",
        value: "FULL",
        remedy: "SET GLOBAL binlog_row_image = 'FULL' (and in the server's configuration file), then let sessions reconnect",
    },
    Needed {
        variable: "binlog_row_metadata",
        value: "FULL",
        remedy: "SET GLOBAL binlog_row_metadata = 'FULL' (and in the server's configuration file)",
    },
];

/// Refuses a server of the other flavour, and one whose settings lose what a row holds.
pub(crate) fn check_settings(configured: Flavour, facts: &ServerFacts) -> Result<()> {
    if facts.flavour != configured {
        return Err(Error::invalid(format!(
            "The source is configured as {configured} and the server is {} {}",
            facts.flavour, facts.version_text
        ))
        .with_hint("Set the source's type to what the server is"));
    }
    for needed in &NEEDED {
        // A server without the variable is older than the setting, unless it is one that lost the choice.
        let found = facts.variable(needed.variable);
        let is_gone =
            needed.variable == "binlog_format" && facts.flavour == Flavour::Mysql && found.is_none();
        let is_right = found.is_some_and(|value| value.eq_ignore_ascii_case(needed.value))
            || (needed.value == "ON" && found == Some("1"));
        if !is_right && !is_gone {
            return Err(wrong(needed.variable, found, needed.value, needed.remedy));
        }
    }
    let partial = facts.variable("binlog_row_value_options").unwrap_or("");
    if !partial.is_empty() {
        let remedy = "SET GLOBAL binlog_row_value_options = '' (and in the server's configuration file)";
        return Err(wrong("binlog_row_value_options", Some(partial), "empty", remedy));
    }
    Ok(())
}

/// Refuses a replica that does not log what it replicates (P25). An account that may not ask is refused too: the
/// answer decides whether changes are missing from the binlog.
pub(crate) async fn check_replica(facts: &ServerFacts, connection: &mut Connection) -> Result<()> {
    if facts.is_on("log_replica_updates") || facts.is_on("log_slave_updates") {
        return Ok(());
    }
    let is_replica = facts.is_replica(connection).await;
    if !is_replica.map_err(|error| error.context("Cannot tell whether the source is a replica"))? {
        return Ok(());
    }
    let variable = match facts.flavour {
        Flavour::Mysql => "log_replica_updates",
        Flavour::Mariadb => "log_slave_updates",
    };
    let remedy = format!("Set {variable} in the replica's configuration file and restart it");
    Err(wrong(variable, Some("OFF"), "ON on a replica", &remedy))
}

fn wrong(variable: &str, found: Option<&str>, wanted: &str, remedy: &str) -> Error {
    let found = found.unwrap_or("not there");
    Error::invalid(format!("The source server's {variable} is {found} and must be {wanted}"))
        .with_hint(remedy.to_owned())
}
