//! Server settings that a stream or a load depends on, and those that make a crash or a pause cost rows.

use super::{Findings, Role, Severity};
use crate::server::{Flavour, ServerFacts};
use crate::wire::Connection;

/// Below this a weekend's stop of the pipeline may find its place in the binlog gone.
const RETENTION_S_MIN: u64 = 86_400;

/// Checks the settings.
pub(super) fn check(facts: &ServerFacts, role: Role, findings: &mut Findings) {
    check_version(facts, findings);
    if role.streams() {
        check_binlog(facts, findings);
        check_gtids(facts, findings);
        check_retention(facts, findings);
        check_durability(facts, findings);
    } else {
        need(facts, findings, "log_bin", "ON", "binlog-off", BINLOG_OFF);
    }
}

const BINLOG_OFF: &str = "Set log_bin in the server's configuration file and restart it";

fn check_version(facts: &ServerFacts, findings: &mut Findings) {
    let (major, minor, _) = facts.version;
    let is_tried = match facts.flavour {
        Flavour::Mariadb => (10, 11) <= (major, minor),
        Flavour::Mysql => (8, 4) <= (major, minor),
    };
    if !is_tried {
        let oldest = match facts.flavour {
            Flavour::Mariadb => "10.11",
            Flavour::Mysql => "8.4",
        };
        findings.add(
            Severity::Warning,
            "version",
            "version",
            format!("{} {} is older than what freshet is tested with", facts.flavour, facts.version_text),
            format!("Upgrade to {} {oldest} or later", facts.flavour),
        );
    }
    if facts.variable("binlog_storage_engine").is_some_and(|engine| !engine.is_empty()) {
        findings.add(
            Severity::Error,
            "binlog-engine",
            "binlog_storage_engine",
            "The binlog is kept in a storage engine, which is not supported yet",
            "Unset binlog_storage_engine in the server's configuration file and restart it",
        );
    }
}

fn need(
    facts: &ServerFacts,
    findings: &mut Findings,
    name: &str,
    wanted: &str,
    code: &'static str,
    remedy: &str,
) {
    let found = facts.variable(name);
    let is_right = found.is_some_and(|value| value.eq_ignore_ascii_case(wanted))
        || (wanted == "ON" && facts.is_on(name));
    if !is_right {
        let found = found.unwrap_or("not there");
        findings.add(Severity::Error, code, name, format!("{name} is {found} and must be {wanted}"), remedy);
    }
}

fn check_binlog(facts: &ServerFacts, findings: &mut Findings) {
    need(facts, findings, "log_bin", "ON", "binlog-off", BINLOG_OFF);
    let set = |name: &str, value: &str| {
        format!("SET GLOBAL {name} = '{value}'; and the same in the server's configuration file")
    };
    // MySQL is giving the choice of a format up: where the variable is gone, rows are all there is.
    if facts.flavour == Flavour::Mariadb || facts.variable("binlog_format").is_some() {
        need(facts, findings, "binlog_format", "ROW", "binlog-format", &set("binlog_format", "ROW"));
    }
    need(facts, findings, "binlog_row_image", "FULL", "binlog-row-image", &set("binlog_row_image", "FULL"));
    need(
        facts,
        findings,
        "binlog_row_metadata",
        "FULL",
        "binlog-row-metadata",
        &set("binlog_row_metadata", "FULL"),
    );
    if facts.variable("binlog_row_value_options").is_some_and(|value| !value.is_empty()) {
        findings.add(
            Severity::Error,
            "partial-json",
            "binlog_row_value_options",
            "Changes of JSON are logged in part, which is not supported yet",
            set("binlog_row_value_options", ""),
        );
    }
    if facts.is_on("log_bin_compress") {
        findings.add(
            Severity::Error,
            "binlog-compress",
            "log_bin_compress",
            "MariaDB's compressed events are not supported yet",
            "SET GLOBAL log_bin_compress = 0; and the same in the server's configuration file",
        );
    }
    if facts.server_id == 0 {
        findings.add(
            Severity::Error,
            "server-id",
            "server_id",
            "server_id is 0, with which no reader of the binlog is served",
            "SET GLOBAL server_id = 1; and the same in the server's configuration file",
        );
    }
    if facts.variable("binlog_checksum").is_some_and(|value| value.eq_ignore_ascii_case("NONE")) {
        findings.add(
            Severity::Warning,
            "checksum",
            "binlog_checksum",
            "Events carry no checksum, so that damage of the binlog may go unnoticed",
            "SET GLOBAL binlog_checksum = 'CRC32'; and the same in the server's configuration file",
        );
    }
}

fn check_gtids(facts: &ServerFacts, findings: &mut Findings) {
    match facts.flavour {
        Flavour::Mysql if !facts.has_gtids() => findings.add(
            Severity::Warning,
            "gtid-mode",
            "gtid_mode",
            "Transactions have no GTIDs: positions hold on this server only, and a load needs the global read lock",
            "SET PERSIST gtid_mode step by step to ON, after enforce_gtid_consistency = ON",
        ),
        Flavour::Mariadb if !facts.is_on("gtid_strict_mode") => findings.add(
            Severity::Warning,
            "gtid-strict-mode",
            "gtid_strict_mode",
            "Sequences of a GTID domain may run backwards, and the pipeline stops where one does",
            "SET GLOBAL gtid_strict_mode = 1; and the same in the server's configuration file",
        ),
        Flavour::Mysql | Flavour::Mariadb => {}
    }
}

/// O1: a binlog that is purged too early ends in a new load.
fn check_retention(facts: &ServerFacts, findings: &mut Findings) {
    let seconds = facts.variable("binlog_expire_logs_seconds").and_then(|text| text.parse::<u64>().ok());
    let days = facts.variable("expire_logs_days").and_then(|text| text.parse::<f64>().ok());
    let kept_s = seconds.filter(|s| *s > 0).or(days.filter(|d| *d > 0.0).map(|d| (d * 86_400.0) as u64));
    let is_purging = facts.variable("binlog_expire_logs_auto_purge").is_none_or(|value| value != "OFF");
    if let Some(kept_s) = kept_s.filter(|kept_s| *kept_s < RETENTION_S_MIN && is_purging) {
        findings.add(
            Severity::Warning,
            "retention",
            "binlog_expire_logs_seconds",
            format!("Binlogs are deleted after {kept_s} s: a pipeline that is stopped for longer has to load again"),
            "SET GLOBAL binlog_expire_logs_seconds = 604800; and the same in the server's configuration file",
        );
    }
}

/// A source that loses commits in a crash has sent them already: the target is then ahead of it.
fn check_durability(facts: &ServerFacts, findings: &mut Findings) {
    for (name, why) in [
        ("sync_binlog", "commits that were streamed can be gone from the source after its crash"),
        (
            "innodb_flush_log_at_trx_commit",
            "commits that were streamed can be gone from the source after its crash",
        ),
    ] {
        if facts.variable(name).is_some_and(|value| value != "1") {
            let found = facts.variable(name).unwrap_or("");
            findings.add(
                Severity::Warning,
                "durability",
                name,
                format!("{name} is {found}: {why}"),
                format!("SET GLOBAL {name} = 1; and the same in the server's configuration file"),
            );
        }
    }
}

/// P25: a replica must log what it replicates.
pub(super) async fn check_replica(connection: &mut Connection, facts: &ServerFacts, findings: &mut Findings) {
    if facts.is_on("log_replica_updates") || facts.is_on("log_slave_updates") {
        return;
    }
    // An account that may not ask has a finding for that already.
    if facts.is_replica(connection).await.unwrap_or(false) {
        let name = match facts.flavour {
            Flavour::Mysql => "log_replica_updates",
            Flavour::Mariadb => "log_slave_updates",
        };
        findings.add(
            Severity::Error,
            "replica",
            name,
            "The server is a replica and does not log what it replicates",
            format!("Set {name} in its configuration file and restart it, or read from its source"),
        );
    }
}
