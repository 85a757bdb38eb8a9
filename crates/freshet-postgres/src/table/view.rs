//! Opening a view: sessions first, then one exported snapshot that all of them import.
//!
//! The sessions are connected before the snapshot is made, since it holds back the server's clean-up. The catalogue
//! is read under it as well, so that it is the one that holds at the view's place in the WAL.

use super::ReaderOptions;
use super::export::export_snapshot;
use super::read::PostgresChunkReader;
use super::session::{self, ReaderSession};
use crate::catalog::tables::read_catalogue;
use crate::quote::literal;
use crate::source::unseen_partition;
use freshet_core::error::{Error, Result};
use freshet_core::position::Position;
use freshet_core::source::Selects;
use freshet_core::table::{ChunkReader, View};

/// Opens a view.
pub(super) async fn open(options: &ReaderOptions, selection: &dyn Selects, readers: usize) -> Result<View> {
    let control = session::open(options, "catalogue").await?;
    let mut sessions = Vec::with_capacity(readers);
    for number in 0..readers {
        sessions.push(session::open(options, &format!("reader{number}")).await?);
    }
    let exported = export_snapshot(options, &control).await?;
    for session in sessions.iter().chain([&control]) {
        import(session, &exported.snapshot).await?;
    }
    let position = Position::Wal(exported.position.clone());
    drop(exported);
    let catalogue = read_catalogue(control.client(), selection, &options.schemas_left_out).await?;
    refuse_unseen(options, &control).await?;
    let mut chunk_readers: Vec<Box<dyn ChunkReader>> = Vec::with_capacity(readers);
    for session in sessions {
        chunk_readers.push(Box::new(PostgresChunkReader::new(session).await?));
    }
    Ok(View {
        low: position.clone(),
        high: position,
        tables: catalogue.tables,
        not_carried: catalogue.not_carried,
        readers: chunk_readers,
    })
}

/// A partition that came since the last look and went before the next one would leave its rows on the target.
async fn refuse_unseen(options: &ReaderOptions, control: &ReaderSession) -> Result<()> {
    let Some(publication) = &options.publication else { return Ok(()) };
    match unseen_partition(control.client(), publication).await? {
        None => Ok(()),
        Some(name) => Err(Error::unavailable(format!(
            "Partition {name} came just now: it is loaded once it was looked at"
        ))
        .with_hint("Nothing is to be done: it is looked at every 30 s")),
    }
}

/// A snapshot that cannot be taken has gone with the session that exported it: another view may do.
async fn import(session: &ReaderSession, snapshot: &str) -> Result<()> {
    let begin = "begin isolation level repeatable read read only";
    session.run("Beginning a view", begin).await?;
    let sql = format!("set transaction snapshot {}", literal(snapshot));
    let taken = session.run("Taking the source's snapshot", &sql).await;
    taken.map_err(|error| Error::unavailable(error.message()))
}
