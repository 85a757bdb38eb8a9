//! What the account may do, of what its role needs.
//!
//! Global privileges are read from `SHOW GRANTS`, those of active roles included. Reading rows is tried on every
//! table (`tables`), since it may be granted in many ways.

use freshet_core::error::Result;

use super::grants::global_privileges;
use super::{Findings, Role, Severity};
use crate::server::{Flavour, ServerFacts};
use crate::wire::Connection;

/// Reports what is missing; returns whether the account may take the global read lock.
pub(super) async fn check(
    connection: &mut Connection,
    facts: &ServerFacts,
    role: Role,
    findings: &mut Findings,
) -> Result<bool> {
    let held = Held::read(connection, facts.flavour).await?;
    let user = connection.query("SELECT CURRENT_USER()").await?;
    let account = account(user.first(0).unwrap_or(""));
    for privilege in global_privileges(facts.flavour, role) {
        if !held.has(privilege) {
            let (severity, why) = weight(privilege, facts);
            findings.add(
                severity,
                "privilege",
                privilege,
                format!("The account lacks {privilege}: {why}"),
                format!("GRANT {privilege} ON *.* TO {account};"),
            );
        }
    }
    Ok(held.has("FLUSH_TABLES"))
}

/// How much the lack of a privilege weighs, and what it means.
fn weight(privilege: &str, facts: &ServerFacts) -> (Severity, &'static str) {
    match (privilege, facts.flavour) {
        ("FLUSH_TABLES" | "RELOAD", Flavour::Mysql) if !facts.has_gtids() => {
            (Severity::Error, "with gtid_mode other than ON a load needs the global read lock")
        }
        ("FLUSH_TABLES" | "RELOAD", _) => (
            Severity::Warning,
            "a load goes without the global read lock, and tables without a key are refused",
        ),
        ("SLAVE MONITOR", _) if facts.is_on("log_slave_updates") => (
            Severity::Info,
            "whether the server is a replica cannot be told, and need not be as it is set now",
        ),
        ("SLAVE MONITOR", _) => (Severity::Error, "whether the server is a replica cannot be told"),
        ("XA_RECOVER_ADMIN", _) => (Severity::Error, "a load must not miss prepared XA transactions"),
        ("REPLICATION SLAVE", _) => (Severity::Error, "the binlog cannot be read"),
        _ => (Severity::Error, "the end of the binlog cannot be asked for"),
    }
}

/// `user@host`, quoted.
fn account(current: &str) -> String {
    let (user, host) = current.rsplit_once('@').unwrap_or((current, "%"));
    format!("{}@{}", crate::catalog::sql_string(user), crate::catalog::sql_string(host))
}

/// The global privileges of an account, in upper case.
#[derive(Debug, Default)]
struct Held(Vec<String>);

impl Held {
    async fn read(connection: &mut Connection, flavour: Flavour) -> Result<Self> {
        let mut held = Held::default();
        let sql = match flavour {
            // MariaDB lists the grants of the active role by itself.
            Flavour::Mariadb => "SHOW GRANTS".to_owned(),
            Flavour::Mysql => {
                let roles = connection.query("SELECT CURRENT_ROLE()").await?;
                match roles.first(0).filter(|roles| !roles.is_empty() && *roles != "NONE") {
                    Some(roles) => format!("SHOW GRANTS FOR CURRENT_USER() USING {roles}"),
                    None => "SHOW GRANTS".to_owned(),
                }
            }
        };
        for row in &connection.query(&sql).await? {
            held.add_line(row.text(0).unwrap_or(""));
        }
        Ok(held)
    }

    /// `GRANT SELECT, REPLICATION SLAVE ON *.* TO ...`; grants on less than everything are not global.
    fn add_line(&mut self, line: &str) {
        let list = line.strip_prefix("GRANT ").and_then(|rest| rest.split_once(" ON *.* TO "));
        if let Some((list, _)) = list {
            self.0.extend(list.split(',').map(|privilege| privilege.trim().to_uppercase()));
        }
    }

    fn has(&self, privilege: &str) -> bool {
        let same: &[&str] = match privilege {
            "FLUSH_TABLES" | "RELOAD" => &["FLUSH_TABLES", "RELOAD"],
            "REPLICATION CLIENT" | "BINLOG MONITOR" => &["REPLICATION CLIENT", "BINLOG MONITOR"],
            "REPLICATION SLAVE" => &["REPLICATION SLAVE", "REPLICATION REPLICA"],
            "SLAVE MONITOR" => &["SLAVE MONITOR", "REPLICA MONITOR"],
            _ => &[],
        };
        let names =
            |held: &String| held == "ALL PRIVILEGES" || held == privilege || same.contains(&held.as_str());
        self.0.iter().any(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_of_both_servers() {
        let mut held = Held::default();
        held.add_line("GRANT USAGE ON *.* TO `x`@`%`");
        held.add_line("GRANT SELECT, RELOAD ON `shop`.* TO `x`@`%`");
        assert!(!held.has("RELOAD") && !held.has("SELECT"));
        held.add_line("GRANT BACKUP_ADMIN,XA_RECOVER_ADMIN ON *.* TO `x`@`%`");
        assert!(held.has("XA_RECOVER_ADMIN"));
        held.add_line("GRANT RELOAD, BINLOG MONITOR ON *.* TO `x`@`%` IDENTIFIED BY PASSWORD '*1'");
        assert!(held.has("FLUSH_TABLES") && held.has("REPLICATION CLIENT") && !held.has("REPLICATION SLAVE"));
        held.add_line("GRANT ALL PRIVILEGES ON *.* TO `x`@`%` WITH GRANT OPTION");
        assert!(held.has("REPLICATION SLAVE"));
    }

    #[test]
    fn accounts_are_quoted() {
        assert_eq!(account("o'neil@10.%"), "'o''neil'@'10.%'");
    }
}
