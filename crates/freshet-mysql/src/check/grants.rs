//! The least privileges of an account, as statements to run.

use super::Role;
use crate::catalog::{sql_ident, sql_string};
use crate::server::Flavour;

/// Global privileges: name, and whether a role needs it.
pub(super) fn global_privileges(flavour: Flavour, role: Role) -> Vec<&'static str> {
    let mut needed = Vec::new();
    if role.loads() {
        needed.push(match flavour {
            Flavour::Mysql => "FLUSH_TABLES",
            Flavour::Mariadb => "RELOAD",
        });
        if flavour == Flavour::Mysql {
            needed.push("XA_RECOVER_ADMIN");
        }
    }
    if role.streams() {
        needed.push("REPLICATION SLAVE");
        if flavour == Flavour::Mariadb {
            needed.push("SLAVE MONITOR");
        }
    }
    needed.push(match flavour {
        Flavour::Mysql => "REPLICATION CLIENT",
        Flavour::Mariadb => "BINLOG MONITOR",
    });
    needed
}

/// Statements that make the account `user` and give it what `role` needs, and no more. `databases` are those of
/// the selected tables; none stands for every database. The password is for whoever runs them to fill in.
pub fn grants(flavour: Flavour, role: Role, user: &str, databases: &[String]) -> Vec<String> {
    let account = format!("{}@'%'", sql_string(user));
    let global = global_privileges(flavour, role).join(", ");
    let mut statements = vec![
        format!("CREATE USER {account} IDENTIFIED BY 'PASSWORD';"),
        format!("GRANT {global} ON *.* TO {account};"),
    ];
    if databases.is_empty() {
        statements.push(format!("GRANT SELECT ON *.* TO {account};"));
    }
    for database in databases {
        statements.push(format!("GRANT SELECT ON {}.* TO {account};", grant_ident(database)));
    }
    statements
}

/// The name of a database in a GRANT, where `_` and `%` are patterns, even between backticks.
pub(crate) fn grant_ident(database: &str) -> String {
    sql_ident(&database.replace('\\', "\\\\").replace('_', "\\_").replace('%', "\\%"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_name_the_databases_exactly() {
        let statements = grants(Flavour::Mysql, Role::Stream, "cdc", &["a_b".into(), "c".into()]);
        assert_eq!(
            statements,
            [
                "CREATE USER 'cdc'@'%' IDENTIFIED BY 'PASSWORD';",
                "GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO 'cdc'@'%';",
                "GRANT SELECT ON `a\\_b`.* TO 'cdc'@'%';",
                "GRANT SELECT ON `c`.* TO 'cdc'@'%';",
            ]
        );
    }
}
