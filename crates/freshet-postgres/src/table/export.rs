//! The one bound of a view: a snapshot that the server exports, and the place in the WAL that it belongs to.
//!
//! `CREATE_REPLICATION_SLOT ... LOGICAL ... (SNAPSHOT 'export')` answers a consistent point and a snapshot "which
//! will show exactly the state of the database after which all changes will be included in the change stream"
//! (PostgreSQL documentation, Logical Decoding Concepts, Exported Snapshots). It is made of the commit records that
//! were decoded up to that point, not of what is running: a commit that stalls in synchronous replication is in it
//! though no ordinary snapshot shows it yet. So every commit whose record lies before the point is seen, and no
//! other: both bounds of a view are the point. The slot is temporary, ends with its connection, and is not the one
//! that the stream is read from: the stream has its own, made before (P9), and is read from any place after that.
//!
//! Invariant: the snapshot lives until the next command on the replication connection, so it is imported by every
//! session of the view before the connection is used or dropped. A session that has imported it keeps it by itself.

use super::ReaderOptions;
use super::session::ReaderSession;
use crate::catalog::tables::query;
use crate::quote::ident;
use crate::session::application_name;
use crate::wire::{Connection, Rows};
use freshet_core::error::{Error, ErrorKind, Result};
use freshet_core::position::WalPosition;
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

/// How often it is said who is waited for.
const REPORT_EVERY_MS: u64 = 5_000;

/// An exported snapshot, alive as long as this is.
pub(super) struct Exported {
    /// Name for `SET TRANSACTION SNAPSHOT`.
    pub(super) snapshot: String,
    /// Where it is exact.
    pub(super) position: WalPosition,
    /// Keeps the snapshot.
    _connection: Connection,
}

/// Exports a snapshot. `control` is a session of the same server that looks who is in the way.
pub(super) async fn export_snapshot(options: &ReaderOptions, control: &ReaderSession) -> Result<Exported> {
    check_server(control).await?;
    let slot = format!("freshet_view_{:016x}", rand::random::<u64>());
    let name = application_name(&options.pipeline, &slot);
    let mut connection = Connection::connect(&options.connect, &name).await.map_err(refused)?;
    let pid = prepare(&mut connection).await?;
    let system = connection.query("Asking for the source's identity", "IDENTIFY_SYSTEM").await?;
    let create =
        format!("CREATE_REPLICATION_SLOT {} TEMPORARY LOGICAL pgoutput (SNAPSHOT 'export')", ident(&slot));
    let longest = Duration::from_millis(options.snapshot_wait_ms_max);
    let created = {
        let doing = "Creating a temporary replication slot for a view";
        let creating = timeout(longest, connection.query(doing, &create));
        tokio::pin!(creating);
        tokio::select! {
            biased;
            created = &mut creating => created,
            never = report_waiting(control, pid) => match never {},
        }
    };
    let Ok(created) = created else { return Err(waited_too_long(options, control, pid).await) };
    let (snapshot, position) = read_answers(&system, &created.map_err(refused)?).ok_or_else(|| {
        Error::corrupt("PostgreSQL created a replication slot and told no snapshot and place of it")
    })?;
    info!(lsn = %position.lsn, "Exported a snapshot for a view");
    Ok(Exported { snapshot, position, _connection: connection })
}

/// Takes the time-outs of role and database off the session, and asks for its process. A session that waits for
/// others is to notice when its client is gone, or slots would pile up; the server begins to look at the first
/// query after it was told to, which is the second one here.
async fn prepare(connection: &mut Connection) -> Result<i32> {
    const SETTINGS: &str = "select pg_catalog.set_config(name, case name when 'client_connection_check_interval' then \
         '1s' else '0' end, false) from pg_catalog.pg_settings where name in ('lock_timeout', 'transaction_timeout', \
         'idle_session_timeout', 'client_connection_check_interval')";
    let doing = "Preparing a replication session";
    connection.query(doing, SETTINGS).await?;
    let pid = connection.query(doing, "select pg_catalog.pg_backend_pid() as pid").await?;
    let pid = pid.first("pid").and_then(|text| text.parse().ok());
    pid.ok_or_else(|| Error::corrupt("PostgreSQL did not tell the process of a session"))
}

/// Name of the snapshot and its place, of what IDENTIFY_SYSTEM and CREATE_REPLICATION_SLOT answered.
fn read_answers(system: &Rows, created: &Rows) -> Option<(String, WalPosition)> {
    let position = WalPosition {
        system: system.first("systemid")?.parse().ok()?,
        timeline: system.first("timeline")?.parse().ok()?,
        lsn: crate::lsn::parse(created.first("consistent_point")?)?,
    };
    Some((created.first("snapshot_name")?.to_owned(), position))
}

/// What would fail later with fewer words.
async fn check_server(control: &ReaderSession) -> Result<()> {
    const SQL: &str = "select pg_catalog.current_setting('wal_level'), pg_catalog.pg_is_in_recovery(), \
         pg_catalog.current_setting('max_replication_slots')::int4";
    let row = control.row("Asking for the source's settings", SQL).await?;
    let (wal_level, is_standby, slots): (String, bool, i32) = (row.get(0), row.get(1), row.get(2));
    if is_standby {
        return Err(Error::invalid("The source is a standby, which exports no snapshots")
            .with_hint("Point the source at the primary server"));
    }
    if wal_level != "logical" {
        return Err(Error::invalid(format!("The source's wal_level is {wal_level}, and logical is needed"))
            .with_hint("ALTER SYSTEM SET wal_level = logical on the source, then restart it"));
    }
    if slots == 0 {
        return Err(Error::invalid("The source's max_replication_slots is 0")
            .with_hint("ALTER SYSTEM SET max_replication_slots = 10 on the source, then restart it"));
    }
    Ok(())
}

/// The server's refusal with the next step.
fn refused(error: Error) -> Error {
    let has = |code: &str| error.message().contains(code);
    let hint = if has("53400") || has("replication slots") {
        "Drop a replication slot that nobody needs (select * from pg_replication_slots), or raise \
         max_replication_slots and restart the source"
    } else if has("53300") && has("standby connections") {
        "Raise max_wal_senders on the source, then restart it"
    } else if *error.kind() == ErrorKind::Invalid && has("42501") {
        "Give the role replication: ALTER ROLE ... REPLICATION (a managed server has a role of its own for it: \
         GRANT rds_replication TO ...)"
    } else if has("28000") && has("replication") {
        "Allow the role in the source's pg_hba.conf for this database"
    } else {
        return error;
    };
    error.with_hint(hint)
}

enum Never {}

/// Says again and again whom the slot's creation waits for: every transaction that ran when it began.
async fn report_waiting(control: &ReaderSession, pid: i32) -> Never {
    let since = Instant::now();
    loop {
        sleep(Duration::from_millis(REPORT_EVERY_MS)).await;
        let waited_s = since.elapsed().as_secs();
        match blockers(control, pid).await {
            Ok(blockers) if blockers.is_empty() => info!(waited_s, "Waiting for a snapshot of the source"),
            Ok(blockers) => {
                let transactions = blockers.join("; ");
                warn!(waited_s, %transactions, "A snapshot of the source waits for these transactions to end");
            }
            Err(error) => warn!(waited_s, %error, "Waiting for a snapshot of the source"),
        }
    }
}

/// The sessions that the replication session `pid` waits for, by what the server itself says of locks. Pid 0 stands
/// for a prepared transaction.
async fn blockers(control: &ReaderSession, pid: i32) -> Result<Vec<String>> {
    const SQL: &str = "select b.pid, a.usename::text, a.application_name, a.state, \
           pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - a.xact_start)::int8, \
           (select pg_catalog.string_agg(pg_catalog.quote_literal(p.gid), ', ') from pg_catalog.pg_prepared_xacts p) \
         from pg_catalog.unnest(pg_catalog.pg_blocking_pids($1)) as b(pid) \
         left join pg_catalog.pg_stat_activity a on a.pid = b.pid";
    let rows = query(control.client(), SQL, &[&pid]).await?;
    let line = |row: &tokio_postgres::Row| {
        let pid: i32 = row.get(0);
        let text = |at: usize| row.get::<_, Option<String>>(at).unwrap_or_else(|| "unknown".to_owned());
        if pid == 0 {
            return format!("a prepared transaction (of {}): COMMIT or ROLLBACK PREPARED", text(5));
        }
        let open_s = row.get::<_, Option<i64>>(4).unwrap_or_default();
        format!("pid {pid}, role {}, application {}, {} for {open_s} s", text(1), text(2), text(3))
    };
    Ok(rows.iter().map(line).collect())
}

async fn waited_too_long(options: &ReaderOptions, control: &ReaderSession, pid: i32) -> Error {
    let who = blockers(control, pid).await.unwrap_or_default().join("; ");
    let who = if who.is_empty() { "transactions of other sessions".to_owned() } else { who };
    Error::unavailable(format!(
        "No snapshot of the source within {} ms: it waits for {who}",
        options.snapshot_wait_ms_max
    ))
    .with_hint(
        "End these transactions (pg_terminate_backend on the source), or wait: the view is tried again",
    )
}
