//! Consistent views and their two bounds (ALGORITHMS 2), by a short lock or without one.
//!
//! *With the lock*: FLUSH TABLES WITH READ LOCK stops commits and DDL, so every snapshot, the catalogue and the
//! position are of one moment: F_low = F_high.
//!
//! *MariaDB without*: each connection's `Binlog_snapshot_*` is exactly what its snapshot shows; the bounds are the
//! smallest and the largest of them. Of such a place the server says the last GTID of each domain; what other servers
//! wrote into a domain is known from the state read before the snapshots, and not if they wrote in between.
//!
//! *MySQL without*: a commit stands in the binlog before it can be seen, and can be seen before `gtid_executed` has
//! it. So F_low is `gtid_executed`, read before the first snapshot, and its file position is the beginning of the
//! file that was current before that: a file is only begun when all of the one before is executed. F_high is the
//! end of the binlog, read after the last snapshot; the set beside it was read before it and is within it.
//!
//! Without the lock the catalogue is read before and after the snapshots and must be the same.

use std::sync::Arc;
use std::time::{Duration, Instant};

use freshet_core::error::{Error, ErrorKind, Result};
use freshet_core::position::{BinlogPosition, FilePos, GtidSet, Position};
use freshet_core::source::Selects;
use freshet_core::table::{ChunkReader, TableInfo, View};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::read::MysqlChunkReader;
use super::{MysqlTableReader, ViewMethod, session};
use crate::catalog::{self, Catalogue, Extras, same_definition};
use crate::server::{Flavour, ServerFacts, binlog_state};
use crate::wire::{Connection, WireError};

/// One try for the lock, in seconds: whoever writes waits behind it that long at most.
const LOCK_TRY_S: u64 = 2;
const LOCK_RETRY_MS_MIN: u64 = 250;
const LOCK_RETRY_MS_MAX: u64 = 5_000;
/// The longest that the lock is held; then the connection, and with it the lock, is given up.
const LOCK_HELD_MS_MAX: u64 = 15_000;
/// How often snapshots are taken anew because a definition changed meanwhile.
const CATALOGUE_TRIES_MAX: usize = 5;
/// Where the events of a binlog file begin.
const FILE_BEGIN: u64 = 4;

struct Opened {
    low: BinlogPosition,
    high: BinlogPosition,
    catalogue: Catalogue,
}

/// One control connection, and those of the readers.
struct Sessions {
    control: Connection,
    readers: Vec<Connection>,
    facts: Arc<ServerFacts>,
}

/// Opens a view.
pub(super) async fn open(reader: &MysqlTableReader, selection: &dyn Selects, readers: usize) -> Result<View> {
    let mut sessions = Sessions::open(reader, readers).await?;
    let facts = sessions.facts.clone();
    // What is only listed need not be of the view's moment, and warms the server's caches for what must be.
    let extras = catalog::read_extras(&mut sessions.control, selection).await?;
    let opened = match reader.method {
        ViewMethod::Lock => with_lock(&mut sessions, selection, &extras, reader.lock_total_ms_max).await,
        ViewMethod::NoLock => without_lock(&mut sessions, selection, &extras).await,
        ViewMethod::Auto => {
            match with_lock(&mut sessions, selection, &extras, reader.lock_total_ms_max).await {
                Err(LockError::NotToBeHad(why)) if has_other_way(&facts) => {
                    info!(%why, "No lock for the view: taking two bounds instead");
                    without_lock(&mut sessions, selection, &extras).await
                }
                other => other,
            }
        }
    };
    let Opened { low, high, catalogue } = opened.map_err(LockError::into_error)?;
    let (tables, not_carried) = catalogue.accept()?;
    if low != high {
        refuse_without_key(&tables)?;
    }
    sessions.control.close().await;
    let readers = sessions.readers.into_iter().map(|connection| {
        Box::new(MysqlChunkReader::new(connection, reader.options.clone(), facts.clone()))
            as Box<dyn ChunkReader>
    });
    Ok(View {
        low: Position::Binlog(low),
        high: Position::Binlog(high),
        tables,
        not_carried,
        readers: readers.collect(),
    })
}

/// Why no view came about by the lock.
enum LockError {
    /// The account may not take it, or did not get it in time: another way may do.
    NotToBeHad(Error),
    Other(Error),
}

impl LockError {
    fn into_error(self) -> Error {
        match self {
            LockError::NotToBeHad(error) | LockError::Other(error) => error,
        }
    }
}

impl From<Error> for LockError {
    fn from(error: Error) -> Self {
        LockError::Other(error)
    }
}

impl From<WireError> for LockError {
    fn from(error: WireError) -> Self {
        LockError::Other(error.into())
    }
}

fn has_other_way(facts: &ServerFacts) -> bool {
    match facts.flavour {
        Flavour::Mariadb => true,
        Flavour::Mysql => facts.has_gtids(),
    }
}

impl Sessions {
    async fn open(reader: &MysqlTableReader, count: usize) -> Result<Self> {
        let mut control = session::open(&reader.options, reader.flavour).await?;
        let facts = Arc::new(ServerFacts::read(&mut control).await?);
        let mut readers = Vec::with_capacity(count);
        for _ in 0..count {
            let mut connection = session::open(&reader.options, reader.flavour).await?;
            // Under READ COMMITTED, which a server may have as its default, the snapshot clause does nothing.
            connection.exec("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ").await?;
            readers.push(connection);
        }
        Ok(Self { control, readers, facts })
    }

    async fn take_snapshots(&mut self) -> Result<()> {
        for connection in &mut self.readers {
            connection.exec("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY").await?;
        }
        Ok(())
    }

    async fn drop_snapshots(&mut self) -> Result<()> {
        for connection in &mut self.readers {
            connection.exec("ROLLBACK").await?;
        }
        Ok(())
    }

    async fn catalogue(&mut self, selection: &dyn Selects, extras: &Extras) -> Result<Catalogue> {
        let definition = catalog::read_definition(&mut self.control, &self.facts, selection).await?;
        Ok(Catalogue::join(definition, extras))
    }

    /// A transaction that is prepared and not decided is in no snapshot and comes later as a mere XA COMMIT (T3).
    async fn refuse_prepared(&mut self) -> Result<()> {
        const MAY_NOT: u16 = 1401;
        let prepared = self.control.query("XA RECOVER").await.map_err(|error| match error.server_code() {
            Some(MAY_NOT) => Error::invalid(
                "The account may not look for prepared XA transactions, which a load must not miss",
            )
            .with_hint("GRANT XA_RECOVER_ADMIN ON *.* to the account"),
            _ => error.into(),
        })?;
        match prepared.len() {
            0 => Ok(()),
            count => Err(Error::unsupported(format!(
                "The server holds {count} prepared XA transactions, which are not supported yet"
            ))
            .with_hint(
                "Decide them with XA COMMIT or XA ROLLBACK (XA RECOVER lists them), then start again",
            )),
        }
    }
}

async fn with_lock(
    sessions: &mut Sessions,
    selection: &dyn Selects,
    extras: &Extras,
    total_ms_max: u64,
) -> Result<Opened, LockError> {
    acquire(&mut sessions.control, Duration::from_millis(total_ms_max)).await?;
    let since = Instant::now();
    let work =
        timeout(Duration::from_millis(LOCK_HELD_MS_MAX), under_lock(sessions, selection, extras)).await;
    let Ok(opened) = work else {
        // The answer that is outstanding makes the connection useless, and closing it frees the lock.
        return Err(LockError::Other(Error::unavailable(format!(
            "The source needed more than {LOCK_HELD_MS_MAX} ms for the moment of a view, so its lock was given up"
        ))));
    };
    let unlocked = sessions.control.exec("UNLOCK TABLES").await;
    let held_ms = since.elapsed().as_millis() as u64;
    info!(held_ms, readers = sessions.readers.len(), "Held the global read lock for a view");
    let opened = opened?;
    unlocked?;
    Ok(opened)
}

/// Takes the global read lock. Each try is short, since everybody who writes waits behind it.
async fn acquire(control: &mut Connection, total_max: Duration) -> Result<(), LockError> {
    control.exec(&format!("SET SESSION lock_wait_timeout = {LOCK_TRY_S}")).await?;
    let since = Instant::now();
    let mut pause_ms = LOCK_RETRY_MS_MIN;
    loop {
        let Err(error) = control.exec("FLUSH TABLES WITH READ LOCK").await else { return Ok(()) };
        const WAITED_TOO_LONG: u16 = 1205;
        const DENIED: [u16; 4] = [1227, 1045, 1044, 1142];
        match error.server_code() {
            Some(WAITED_TOO_LONG) if since.elapsed() + Duration::from_millis(pause_ms) < total_max => {
                warn!(pause_ms, "The global read lock was not to be had within {LOCK_TRY_S} s: trying again");
                sleep(Duration::from_millis(pause_ms)).await;
                pause_ms = (pause_ms * 2).min(LOCK_RETRY_MS_MAX);
            }
            Some(WAITED_TOO_LONG) => {
                return Err(LockError::NotToBeHad(
                    Error::unavailable(
                        "The global read lock was not to be had: a long statement is in its way",
                    )
                    .with_hint("SHOW PROCESSLIST on the source names it"),
                ));
            }
            Some(code) if DENIED.contains(&code) => {
                let denied = Error::new(ErrorKind::Invalid, error.to_string());
                return Err(LockError::NotToBeHad(
                    denied.with_hint("Give the account RELOAD, as freshet check --grants prints"),
                ));
            }
            _ => return Err(error.into()),
        }
    }
}

async fn under_lock(sessions: &mut Sessions, selection: &dyn Selects, extras: &Extras) -> Result<Opened> {
    sessions.take_snapshots().await?;
    sessions.refuse_prepared().await?;
    let facts = sessions.facts.clone();
    let position = facts.current_position(&mut sessions.control).await?;
    let catalogue = sessions.catalogue(selection, extras).await?;
    Ok(Opened { low: position.clone(), high: position, catalogue })
}

async fn without_lock(
    sessions: &mut Sessions,
    selection: &dyn Selects,
    extras: &Extras,
) -> Result<Opened, LockError> {
    if !has_other_way(&sessions.facts) {
        return Err(LockError::Other(
            Error::invalid("Without gtid_mode=ON a view needs the global read lock")
                .with_hint("Give the account RELOAD, or set gtid_mode=ON on the source"),
        ));
    }
    for _ in 0..CATALOGUE_TRIES_MAX {
        let before = sessions.catalogue(selection, extras).await?;
        let (low, high) = match sessions.facts.flavour {
            Flavour::Mariadb => mariadb_bounds(sessions).await?,
            Flavour::Mysql => mysql_bounds(sessions).await?,
        };
        sessions.refuse_prepared().await?;
        let after = sessions.catalogue(selection, extras).await?;
        if same_definition(&before.tables, &after.tables) && before.refused == after.refused {
            return Ok(Opened { low, high, catalogue: after });
        }
        sessions.drop_snapshots().await?;
    }
    Err(LockError::Other(Error::unavailable(
        "The definitions of the tables keep changing while a view is opened",
    )))
}

async fn mysql_bounds(sessions: &mut Sessions) -> Result<(BinlogPosition, BinlogPosition)> {
    let facts = sessions.facts.clone();
    let file = facts.end_of_binlog(&mut sessions.control).await?.file;
    let gtids = facts.executed_gtids(&mut sessions.control).await?;
    let low =
        BinlogPosition { server: facts.identity.clone(), file: FilePos { file, pos: FILE_BEGIN }, gtids };
    sessions.take_snapshots().await?;
    let high = facts.current_position(&mut sessions.control).await?;
    // Without GTIDs only the lock gives bounds: the next try sees the new mode.
    if low.gtids == GtidSet::Places || high.gtids == GtidSet::Places {
        return Err(Error::unavailable("The source's gtid_mode was changed while a view was opened"));
    }
    Ok((low, high))
}

async fn mariadb_bounds(sessions: &mut Sessions) -> Result<(BinlogPosition, BinlogPosition)> {
    let state = binlog_state(&mut sessions.control).await?;
    sessions.take_snapshots().await?;
    let mut places = Vec::with_capacity(sessions.readers.len());
    for connection in &mut sessions.readers {
        places.push(snapshot_place(connection).await?);
    }
    let (mut least, mut largest) = (None::<&FilePos>, None::<&FilePos>);
    for place in &places {
        least = Some(least.filter(|least| *least <= place).unwrap_or(place));
        largest = Some(largest.filter(|largest| *largest >= place).unwrap_or(place));
    }
    let (Some(least), Some(largest)) = (least, largest) else {
        return Err(Error::internal("A view has no readers"));
    };
    let facts = sessions.facts.clone();
    let low = facts.mariadb_position_at(least.clone(), &state, &mut sessions.control).await?;
    let high = facts.mariadb_position_at(largest.clone(), &state, &mut sessions.control).await?;
    Ok((low, high))
}

/// The place in the binlog that is exactly what the connection's snapshot shows.
async fn snapshot_place(connection: &mut Connection) -> Result<FilePos> {
    let rows = connection.query("SHOW STATUS LIKE 'binlog_snapshot_%'").await?;
    let value = |name: &str| {
        let is_it = |row: &&crate::wire::Row| row.text(0).is_some_and(|text| text.eq_ignore_ascii_case(name));
        rows.rows().iter().find(is_it).and_then(|row| row.text(1)).filter(|text| !text.is_empty())
    };
    let place = value("binlog_snapshot_file").zip(value("binlog_snapshot_position"));
    let place = place.and_then(|(file, pos)| Some(FilePos { file: file.to_owned(), pos: pos.parse().ok()? }));
    place.ok_or_else(|| {
        Error::unsupported("The server does not say which binlog position a snapshot belongs to")
            .with_hint("Give the account RELOAD, so that the view can take the global read lock")
    })
}

/// Between two bounds changes are applied by key, so there must be one (ALGORITHMS 2.4).
fn refuse_without_key(tables: &[TableInfo]) -> Result<()> {
    match tables.iter().find(|table| table.schema.key().is_empty()) {
        None => Ok(()),
        Some(table) => Err(Error::unsupported(format!(
            "Table {} has no primary key, and without the global read lock a load needs one",
            table.name()
        ))
        .with_hint("Give the account RELOAD, add a primary key, or exclude the table")),
    }
}
