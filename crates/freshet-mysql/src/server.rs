//! Facts about one server: flavour, version, identity, settings, and its place in the binlog right now.
//!
//! Read over any connection, at any time; nothing here judges a setting (`check` and `source` do). The identity is
//! what file positions are compared under: MySQL's `server_uuid`, MariaDB's `server_uid`, and before MariaDB
//! 10.11.9 (which has none) `id:SERVER_ID/BASENAME`. MariaDB computes its `server_uid` from the machine and the
//! port, so it survives a new data directory: equal identities do not prove equal histories, the GTIDs decide.
//!
//! A position of a MySQL whose `gtid_mode` is not ON is a place and no set, whatever `gtid_executed` holds from
//! before: the transactions without a GTID are in no set. The mode can change at any time, so it is read together
//! with the set (`ServerFacts::executed_gtids`, the one place where it is decided).

use std::collections::HashMap;
use std::fmt;

use freshet_core::error::{Error, Result};
use freshet_core::gtid::{MariadbGtidSet, MysqlGtidSet};
use freshet_core::position::{BinlogPosition, FilePos, GtidSet};

use crate::wire::{Connection, Rows};

/// How often [`ServerFacts::current_position`] looks again where commits move the position while it looks.
const POSITION_TRIES_MAX: usize = 10;

/// Which of the two servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// MySQL.
    Mysql,
    /// MariaDB.
    Mariadb,
}

impl fmt::Display for Flavour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Flavour::Mysql => "MySQL",
            Flavour::Mariadb => "MariaDB",
        })
    }
}

impl Flavour {
    /// The set without transactions.
    pub fn empty_gtids(self) -> GtidSet {
        match self {
            Flavour::Mysql => GtidSet::Mysql(MysqlGtidSet::default()),
            Flavour::Mariadb => GtidSet::Mariadb(MariadbGtidSet::default()),
        }
    }

    /// Reads a set as a server of this flavour words it.
    pub fn parse_gtids(self, text: &str) -> Result<GtidSet> {
        let parsed = match self {
            Flavour::Mysql => text.parse().map(GtidSet::Mysql),
            Flavour::Mariadb => text.parse().map(GtidSet::Mariadb),
        };
        parsed.map_err(|error| Error::corrupt(format!("The server's GTID set is not one: {error}")))
    }
}

/// Facts about one server, as of one moment.
#[derive(Clone, Debug)]
pub struct ServerFacts {
    /// Which server it is.
    pub flavour: Flavour,
    /// Major, minor and patch number.
    pub version: (u16, u16, u16),
    /// The version as the server words it.
    pub version_text: String,
    /// What file positions of this server are compared under.
    pub identity: String,
    /// The server id that its binlog events carry.
    pub server_id: u32,
    variables: HashMap<String, String>,
}

impl ServerFacts {
    /// Reads them.
    pub async fn read(connection: &mut Connection) -> Result<Self> {
        let rows = connection.query("SHOW GLOBAL VARIABLES").await?;
        let variables: HashMap<String, String> = rows
            .into_iter()
            .filter_map(|row| Some((row.text(0)?.to_ascii_lowercase(), row.text(1)?.to_owned())))
            .collect();
        let info = connection.info();
        let flavour = if info.is_mariadb { Flavour::Mariadb } else { Flavour::Mysql };
        let server_id = variables.get("server_id").and_then(|id| id.parse().ok()).unwrap_or(0);
        let identity = identity(flavour, server_id, &variables);
        Ok(Self {
            flavour,
            version: info.version,
            version_text: info.version_text.clone(),
            identity,
            server_id,
            variables,
        })
    }

    /// A global variable's text, by its lower-case name; `None` if this server does not have it.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// Whether a variable says ON.
    pub fn is_on(&self, name: &str) -> bool {
        self.variable(name).is_some_and(|value| value.eq_ignore_ascii_case("ON") || value == "1")
    }

    /// Whether every transaction has a GTID, so that a set alone names a place: when the facts were read.
    pub fn has_gtids(&self) -> bool {
        match self.flavour {
            Flavour::Mysql => self.variable("gtid_mode").is_some_and(gives_gtids),
            Flavour::Mariadb => true,
        }
    }

    /// MySQL only: what was executed by now, as positions hold it: the set, or [`GtidSet::Places`] if `gtid_mode` is
    /// not ON at this moment.
    pub(crate) async fn executed_gtids(&self, connection: &mut Connection) -> Result<GtidSet> {
        let rows = connection.query("SELECT @@GLOBAL.gtid_mode, @@GLOBAL.gtid_executed").await?;
        match rows.first(0) {
            Some(mode) if gives_gtids(mode) => self.flavour.parse_gtids(rows.first(1).unwrap_or("")),
            Some(_) | None => Ok(GtidSet::Places),
        }
    }

    /// Whether the server replicates from another one. Needs REPLICATION CLIENT (MariaDB: SLAVE MONITOR).
    pub async fn is_replica(&self, connection: &mut Connection) -> Result<bool> {
        let statement = match self.flavour {
            Flavour::Mariadb => "SHOW ALL SLAVES STATUS",
            Flavour::Mysql if self.version >= (8, 0, 22) => "SHOW REPLICA STATUS",
            Flavour::Mysql => "SHOW SLAVE STATUS",
        };
        Ok(!connection.query(statement).await?.is_empty())
    }

    /// The end of the binlog right now.
    ///
    /// Exact under a lock that stops commits. Without one, the GTID set never holds a transaction that ends after
    /// the file position; on MySQL it may lack some that end before it (a commit is logged before it counts as
    /// executed), so that a start by this set repeats transactions and never skips one.
    pub async fn current_position(&self, connection: &mut Connection) -> Result<BinlogPosition> {
        match self.flavour {
            Flavour::Mysql => self.mysql_position(connection).await,
            Flavour::Mariadb => self.mariadb_position(connection).await,
        }
    }

    async fn mysql_position(&self, connection: &mut Connection) -> Result<BinlogPosition> {
        let gtids = self.executed_gtids(connection).await?;
        let file = self.end_of_binlog(connection).await?;
        Ok(BinlogPosition { server: self.identity.clone(), file, gtids })
    }

    async fn mariadb_position(&self, connection: &mut Connection) -> Result<BinlogPosition> {
        let mut before = binlog_state(connection).await?;
        for _ in 0..POSITION_TRIES_MAX {
            let file = self.end_of_binlog(connection).await?;
            let after = binlog_state(connection).await?;
            if before == after {
                let gtids = GtidSet::Mariadb(mariadb_set(&after)?);
                return Ok(BinlogPosition { server: self.identity.clone(), file, gtids });
            }
            before = after;
        }
        // Commits come faster than one can look: the server works out the set that belongs to a place.
        let file = self.end_of_binlog(connection).await?;
        self.mariadb_position_at(file, &before, connection).await
    }

    /// MariaDB only: the position of a place of about the moment of a `gtid_binlog_state`. The server says the last GTID
    /// of each domain there, the state tells what other servers had written.
    pub(crate) async fn mariadb_position_at(
        &self,
        file: FilePos,
        state: &str,
        connection: &mut Connection,
    ) -> Result<BinlogPosition> {
        let lasts = gtids_at(connection, &file).await?.ok_or_else(|| {
            Error::unavailable(format!(
                "The server cannot tell the GTIDs at {file}: its binlog was purged or reset"
            ))
        })?;
        let set = mariadb_set(state)?.at_lasts(&mariadb_set(&lasts)?);
        Ok(BinlogPosition { server: self.identity.clone(), file, gtids: GtidSet::Mariadb(set) })
    }

    /// The end of the binlog as file and position alone.
    pub async fn end_of_binlog(&self, connection: &mut Connection) -> Result<FilePos> {
        let statement = match self.flavour {
            Flavour::Mysql if self.version >= (8, 2, 0) => "SHOW BINARY LOG STATUS",
            Flavour::Mysql | Flavour::Mariadb => "SHOW MASTER STATUS",
        };
        let rows = connection.query(statement).await?;
        let place = rows
            .rows()
            .first()
            .and_then(|row| Some(FilePos { file: row.text(0)?.to_owned(), pos: row.text(1)?.parse().ok()? }));
        place.ok_or_else(|| {
            Error::invalid("The server writes no binlog: log_bin is OFF")
                .with_hint("Start the server with log_bin and binlog_format=ROW")
        })
    }

    /// The binlog files that the server still has, oldest first, with their sizes.
    pub async fn binlog_files(&self, connection: &mut Connection) -> Result<Vec<FilePos>> {
        let rows = connection.query("SHOW BINARY LOGS").await?;
        Ok(files_of(&rows))
    }
}

/// Whether MySQL under this `gtid_mode` gives every new transaction a GTID and lets none without one in.
fn gives_gtids(mode: &str) -> bool {
    mode.eq_ignore_ascii_case("ON")
}

/// File names and sizes of a `SHOW BINARY LOGS`.
fn files_of(rows: &Rows) -> Vec<FilePos> {
    rows.into_iter()
        .filter_map(|row| Some(FilePos { file: row.text(0)?.to_owned(), pos: row.text(1)?.parse().ok()? }))
        .collect()
}

/// MariaDB only: the last GTID of every server of every domain in the binlog, the newest of a domain at its end.
pub(crate) async fn binlog_state(connection: &mut Connection) -> Result<String> {
    let rows = connection.query("SELECT @@GLOBAL.gtid_binlog_state").await?;
    Ok(rows.first(0).unwrap_or("").to_owned())
}

/// A MariaDB set as the server says it.
pub(crate) fn mariadb_set(text: &str) -> Result<MariadbGtidSet> {
    match Flavour::Mariadb.parse_gtids(text)? {
        GtidSet::Mariadb(set) => Ok(set),
        GtidSet::Mysql(_) | GtidSet::Places => Err(Error::internal("A MariaDB set was read as another")),
    }
}

/// MariaDB only: the last GTID of each domain at a place in the binlog; `None` if the server has no such place.
/// Positions up to 4 are the beginning of the file.
pub(crate) async fn gtids_at(connection: &mut Connection, place: &FilePos) -> Result<Option<String>> {
    let sql = format!("SELECT BINLOG_GTID_POS('{}', {})", quoted(&place.file), place.pos);
    let rows = connection.query(&sql).await?;
    Ok(rows.first(0).map(str::to_owned))
}

/// A file name between quotes.
pub(crate) fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\'', "''")
}

fn identity(flavour: Flavour, server_id: u32, variables: &HashMap<String, String>) -> String {
    let named = match flavour {
        Flavour::Mysql => variables.get("server_uuid"),
        Flavour::Mariadb => variables.get("server_uid"),
    };
    if let Some(named) = named.filter(|name| !name.is_empty()) {
        return named.clone();
    }
    let path = variables.get("log_bin_basename").map_or("", String::as_str);
    let base = path.rsplit(['/', '\\']).next().unwrap_or("");
    format!("id:{server_id}/{}", base.replace(';', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p11_identity_is_the_servers_own_name_or_its_id_and_basename() {
        let with = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<HashMap<_, _>>()
        };
        let old = with(&[("log_bin_basename", "/var/lib/mysql/mysql-bin")]);
        assert_eq!(identity(Flavour::Mariadb, 7, &old), "id:7/mysql-bin");
        let new = with(&[("server_uid", "Pxvci02EocCzMZCHye8uqVQbCAg=")]);
        assert_eq!(identity(Flavour::Mariadb, 7, &new), "Pxvci02EocCzMZCHye8uqVQbCAg=");
        let mysql = with(&[("server_uuid", "3e11fa47-71ca-11e1-9e33-c80aa9429562")]);
        assert_eq!(identity(Flavour::Mysql, 7, &mysql), "3e11fa47-71ca-11e1-9e33-c80aa9429562");
    }

    #[test]
    fn names_are_quoted() {
        assert_eq!(quoted("a'b\\c"), "a''b\\\\c");
    }
}
