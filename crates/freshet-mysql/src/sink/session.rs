//! Connections: every setting explicit, and a named lock by which the next owner finds and ends them.
//!
//! Nothing of the server's or the account's defaults decides what a statement of ours means. What is left alone:
//! `sql_log_bin` (the target's own replicas get our rows as anybody's). Foreign keys are off on these connections: rows
//! come in the source's order of commits, and cascades would repeat what the source sends (R15). Checks of uniqueness
//! stay on: without them InnoDB may take duplicates. Counts are of rows found (CLIENT_FOUND_ROWS).

use crate::catalog::{self, sql_string};
use crate::server::{Flavour, ServerFacts};
use crate::sink::error::{Scope, statement_error};
use crate::sink::options::SinkOptions;
use crate::sink::plan::Bulk;
use crate::wire::{Connection, Outcome, Rows, Statement, WireError};
use freshet_core::gtid::Uuid;
use freshet_core::{Error, Result};
use std::fmt::Display;

/// Strict, with the dates that a MySQL source may have (M1, M19), and with an id of 0 kept (R19).
const SQL_MODE: &str = "STRICT_ALL_TABLES,ALLOW_INVALID_DATES,NO_AUTO_VALUE_ON_ZERO,NO_ENGINE_SUBSTITUTION";
/// How long an answer may take: an index of a large table is built in one statement. A peer that is gone is told by
/// TCP's keep-alives.
const ANSWER_TIMEOUT_MS: u64 = 7 * 24 * 3_600_000;
/// The oldest servers that are supported.
const MYSQL_MIN: (u16, u16, u16) = (8, 0, 17);
const MARIADB_MIN: (u16, u16, u16) = (10, 5, 0);
/// Prepared statements of one connection at most.
const PREPARED_MAX: usize = 100;
/// Room in a request beside its text.
const PACKET_SLACK_BYTES: usize = 1024;

/// A connection with its settings made, and its named lock taken.
pub(crate) struct Session {
    pub connection: Connection,
    pub facts: Facts,
    /// The server's settings, for reading its catalogue.
    pub server: ServerFacts,
    /// The lock that this connection holds for its whole life.
    pub token: Uuid,
    /// Statements for bulk inserts by their text, the one used last at the end.
    prepared: Vec<(String, Statement)>,
}

/// What is known of the server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    pub is_mariadb: bool,
    pub version: (u16, u16, u16),
    /// Bytes of one request at most, where that is more than one row.
    pub request_bytes_max: usize,
    /// Bytes that the server takes in one request: a row that is longer has no place.
    pub packet_bytes_max: usize,
    /// Whether inserts may go in bulk.
    pub takes_bulk: bool,
}

impl Facts {
    /// The collation in which text of other engines is compared: two texts are equal if their bytes are.
    pub(crate) fn binary_collation(self) -> &'static str {
        match self.is_mariadb {
            true => "utf8mb4_nopad_bin",
            false => "utf8mb4_0900_bin",
        }
    }
}

impl Session {
    /// Runs statements one after the other that return nothing of interest.
    pub(crate) async fn run(&mut self, sql: &str, doing: impl Display) -> Result<()> {
        run(&mut self.connection, sql, doing).await
    }

    pub(crate) async fn query(&mut self, sql: &str, doing: impl Display) -> Result<Rows> {
        let rows = self.connection.query(sql).await;
        rows.map_err(|e| statement_error(&Scope::Session, doing, e))
    }

    /// Inserts rows in bulk.
    pub(crate) async fn insert_bulk(&mut self, bulk: &Bulk) -> std::result::Result<Outcome, WireError> {
        let insert = bulk.bound.bulk.as_ref();
        let insert =
            insert.ok_or(WireError::Misused { what: "a table has values that do not go in bulk" })?;
        let statement = match self.prepared.iter().position(|(sql, _)| *sql == insert.sql) {
            Some(at) => self.prepared.remove(at).1,
            None => {
                if self.prepared.len() >= PREPARED_MAX {
                    let (_, unused) = self.prepared.remove(0);
                    self.connection.close_statement(unused).await?;
                }
                self.connection.prepare(&insert.sql).await?
            }
        };
        let outcome = self.connection.execute_bulk(&statement, &insert.types, &bulk.rows).await;
        self.prepared.push((insert.sql.clone(), statement));
        outcome
    }

    /// Rows found.
    pub(crate) async fn count(&mut self, sql: &str, doing: impl Display) -> Result<u64> {
        let count = self.connection.exec(sql).await;
        count.map_err(|e| statement_error(&Scope::Session, doing, e))
    }
}

async fn run(connection: &mut Connection, sql: &str, doing: impl Display) -> Result<()> {
    let mut outcomes = Vec::new();
    let done = connection.batch(sql.as_bytes(), &mut outcomes).await;
    done.map_err(|e| statement_error(&Scope::Session, doing, e))
}

/// Connects, sets everything and takes the connection's own lock.
pub(crate) async fn open(options: &SinkOptions) -> Result<Session> {
    let mut connect = options.connect.clone();
    connect.read_timeout_ms = connect.read_timeout_ms.max(ANSWER_TIMEOUT_MS);
    let place = options.place();
    let connection = Connection::connect_to_write(&connect).await;
    let mut connection = connection.map_err(|e| Error::from(e).context(format!("Connecting to {place}")))?;
    let (is_mariadb, version) = (connection.info().is_mariadb, connection.info().version);
    let flavour = if is_mariadb { Flavour::Mariadb } else { Flavour::Mysql };
    refuse_other(options, flavour)?;
    refuse_old(&place, &connection)?;
    for sql in settings(options, is_mariadb) {
        run(&mut connection, &sql, "Preparing a session").await?;
    }
    let (packet_bytes_max, may_prepare) = look(options, &mut connection, is_mariadb).await?;
    let request_bytes_max = options.statement_bytes_max.min(packet_bytes_max);
    let takes_bulk = connection.info().takes_bulk && may_prepare;
    let token = Uuid(rand::random());
    let lock = format!("select get_lock({}, 0)", sql_string(&lock_name(token)));
    let locked = connection.query(&lock).await;
    let locked =
        locked.map_err(|e| statement_error(&Scope::Session, "Taking the connection's own lock", e))?;
    if locked.first(0) != Some("1") {
        return Err(Error::unavailable("The connection's own lock could not be taken"));
    }
    let server = ServerFacts::read(&mut connection).await?;
    catalog::prepare_session(&mut connection, flavour).await?;
    let facts = Facts { is_mariadb, version, request_bytes_max, packet_bytes_max, takes_bulk };
    Ok(Session { connection, facts, server, token, prepared: Vec::new() })
}

/// Name of the lock of a connection.
pub(crate) fn lock_name(token: Uuid) -> String {
    format!("freshet:{token}")
}

fn refuse_other(options: &SinkOptions, flavour: Flavour) -> Result<()> {
    match options.flavour {
        Some(configured) if configured != flavour => Err(Error::invalid(format!(
            "Sink {} is configured as {configured} and the server at {} is {flavour}",
            options.sink,
            options.place()
        ))
        .with_hint("Correct the sink's type, or its host and port")),
        Some(_) | None => Ok(()),
    }
}

fn refuse_old(place: &str, connection: &Connection) -> Result<()> {
    let info = connection.info();
    let (name, least) = if info.is_mariadb { ("MariaDB", MARIADB_MIN) } else { ("MySQL", MYSQL_MIN) };
    if info.version >= least {
        return Ok(());
    }
    Err(Error::unsupported(format!(
        "{name} at {place} is version {}, {}.{}.{} is the oldest supported",
        info.version_text, least.0, least.1, least.2
    )))
}

fn seconds(ms: u64) -> u64 {
    ms.div_ceil(1000).max(1)
}

/// One request each, so that an error names what it is about. Notes are on because they count as warnings, and a note
/// is all that the servers say where they cut blanks off a text or digits off a decimal. A list of keys is never made a
/// derived table, which MariaDB would look for in the whole index.
fn settings(options: &SinkOptions, is_mariadb: bool) -> Vec<String> {
    let lock_s = seconds(options.lock_timeout_ms);
    let idle_s = seconds(options.idle_in_transaction_timeout_ms);
    let own = match is_mariadb {
        true => format!(
            "max_statement_time = 0, idle_readonly_transaction_timeout = 0, idle_write_transaction_timeout = {idle_s}, \
             in_predicate_conversion_threshold = 0"
        ),
        false => "max_execution_time = 0, range_optimizer_max_mem_size = 0".to_owned(),
    };
    vec![
        "set names utf8mb4".to_owned(),
        format!(
            "set session sql_mode = '{SQL_MODE}', time_zone = '+00:00', autocommit = 1, foreign_key_checks = 0, \
             unique_checks = 1, sql_notes = 1, sql_safe_updates = 0, sql_auto_is_null = 0, completion_type = 0, \
             sql_big_selects = 1, sql_select_limit = 18446744073709551615, \
             innodb_lock_wait_timeout = {lock_s}, lock_wait_timeout = {lock_s}, {own}"
        ),
        "set session transaction isolation level read committed".to_owned(),
        "set session transaction read write".to_owned(),
    ]
}

/// Prepared statements of all connections of the server.
async fn prepared(connection: &mut Connection) -> Result<u64> {
    let rows = connection.query("show global status like 'Prepared_stmt_count'").await;
    let rows = rows.map_err(|e| statement_error(&Scope::Session, "Reading the server's status", e))?;
    Ok(rows.first(1).and_then(|count| count.parse().ok()).unwrap_or(0))
}

/// Looks at what cannot be set, and refuses what would break the sink by name. Returns the bytes that the server takes
/// in one request, and whether it lets statements be prepared.
async fn look(options: &SinkOptions, connection: &mut Connection, is_mariadb: bool) -> Result<(usize, bool)> {
    let more = if is_mariadb { "0" } else { "@@super_read_only" };
    let sql = format!(
        "select @@max_allowed_packet, @@read_only, {more}, @@innodb_strict_mode, connection_id(), @@autocommit, \
         @@max_prepared_stmt_count"
    );
    let rows = connection.query(&sql).await;
    let rows = rows.map_err(|e| statement_error(&Scope::Session, "Reading the server's settings", e))?;
    let cell = |at| rows.first(at).unwrap_or_default();
    let place = options.place();
    if [1, 2].into_iter().any(|at| !matches!(cell(at), "0" | "OFF")) {
        return Err(Error::unavailable(format!(
            "The server at {place} is read-only (read_only, super_read_only)"
        ))
        .with_hint("Point the sink at the primary server"));
    }
    if cell(5) != "1" {
        return Err(Error::invalid(format!(
            "The server at {place} does not keep autocommit = 1 (init_connect?)"
        )));
    }
    if cell(4) != connection.info().connection_id.to_string() {
        return Err(Error::invalid(format!(
            "{place} is a proxy that shares server connections between clients"
        ))
        .with_hint("Connect to the server itself"));
    }
    if cell(3) != "1" {
        run(connection, "set session innodb_strict_mode = 1", "Setting innodb_strict_mode").await?;
    }
    let packet: usize = cell(0).parse().unwrap_or(1 << 20);
    let prepared_max: u64 = cell(6).parse().unwrap_or(0);
    let may_prepare = is_mariadb && prepared(connection).await? + PREPARED_MAX as u64 * 2 < prepared_max;
    Ok((packet.saturating_sub(PACKET_SLACK_BYTES), may_prepare))
}
