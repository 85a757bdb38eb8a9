//! What the account may do, of what its role needs.
//!
//! Global privileges are read from `SHOW GRANTS`, those of active roles included. Reading rows is tried on every
//! table (`tables`), since it may be granted in many ways. The sink's check asks for those of its databases.

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
pub(crate) fn account(current: &str) -> String {
    let (user, host) = current.rsplit_once('@').unwrap_or((current, "%"));
    format!("{}@{}", crate::catalog::sql_string(user), crate::catalog::sql_string(host))
}

/// The privileges of an account, in upper case.
#[derive(Debug, Default)]
pub(crate) struct Held {
    global: Vec<String>,
    /// Of databases, by the pattern that they were granted on.
    of_databases: Vec<(String, Vec<String>)>,
}

impl Held {
    pub(crate) async fn read(connection: &mut Connection, flavour: Flavour) -> Result<Self> {
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

    /// `GRANT SELECT, REPLICATION SLAVE ON *.* TO ...`, ``GRANT SELECT ON `shop\_1`.* TO ...``. What is granted on one
    /// table counts for its database: in doubt nothing is said to be missing.
    fn add_line(&mut self, line: &str) {
        let Some((list, place)) = line.strip_prefix("GRANT ").and_then(|rest| rest.split_once(" ON ")) else {
            return;
        };
        let list = list.split(',').map(|privilege| privilege.trim().to_uppercase());
        if place.starts_with("*.* ") {
            self.global.extend(list);
        } else if let Some((pattern, _)) = quoted(place) {
            self.of_databases.push((pattern, list.collect()));
        }
    }

    /// Which of these privileges the account lacks on a database.
    pub(crate) fn lacks_on<'a>(&self, database: &str, needed: &[&'a str]) -> Vec<&'a str> {
        let matching = |(pattern, _): &&(String, Vec<String>)| like(pattern, database);
        let held: Vec<&String> =
            self.of_databases.iter().filter(matching).flat_map(|(_, list)| list).collect();
        let is_held = |name: &str| held.iter().any(|held| *held == name || *held == "ALL PRIVILEGES");
        needed.iter().copied().filter(|name| !self.has(name) && !is_held(name)).collect()
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
        self.global.iter().any(names)
    }
}

/// The name in backticks that a text begins with, and what is behind it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut rest = text.strip_prefix('`')?;
    loop {
        let (part, behind) = rest.split_once('`')?;
        name.push_str(part);
        match behind.strip_prefix('`') {
            Some(more) => {
                name.push('`');
                rest = more;
            }
            None => return Some((name, behind)),
        }
    }
}

/// Whether a name matches the pattern of a grant: `_` is any character, `%` any run of them, `\` takes the next as it is.
fn like(pattern: &str, name: &str) -> bool {
    let mut letters = pattern.chars();
    match letters.next() {
        None => name.is_empty(),
        Some('%') => {
            let rest = letters.as_str();
            (0..=name.len()).filter(|at| name.is_char_boundary(*at)).any(|at| like(rest, &name[at..]))
        }
        Some(letter) => {
            let is_any = letter == '_';
            let letter = if letter == '\\' { letters.next().unwrap_or('\\') } else { letter };
            let mut name = name.chars();
            name.next().is_some_and(|found| is_any || found == letter)
                && like(letters.as_str(), name.as_str())
        }
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
    fn grants_on_databases() {
        let mut held = Held::default();
        held.add_line("GRANT SELECT, INSERT ON `a\\_b`.* TO `x`@`%`");
        held.add_line("GRANT CREATE ON `a%`.* TO `x`@`%`");
        held.add_line("GRANT DROP ON `q``x`.`t` TO `x`@`%`");
        let needed = ["SELECT", "INSERT", "CREATE", "DROP"];
        assert_eq!(held.lacks_on("a_b", &needed), ["DROP"]);
        assert_eq!(held.lacks_on("axb", &needed), ["SELECT", "INSERT", "DROP"]);
        assert_eq!(held.lacks_on("q`x", &needed), ["SELECT", "INSERT", "CREATE"]);
        held.add_line("GRANT ALL PRIVILEGES ON `c_d`.* TO `x`@`%`");
        assert!(held.lacks_on("cxd", &needed).is_empty());
        held.add_line("GRANT SELECT, DROP ON *.* TO `x`@`%`");
        assert_eq!(held.lacks_on("other", &needed), ["INSERT", "CREATE"]);
    }

    #[test]
    fn accounts_are_quoted() {
        assert_eq!(account("o'neil@10.%"), "'o''neil'@'10.%'");
    }
}
