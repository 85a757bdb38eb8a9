//! Reading existing rows: exact views by an exported snapshot, chunks by key range, rows by binary COPY.
//!
//! It decides nothing about what is loaded where; it guarantees what core's `TableReader` asks for. How the one bound
//! of a view comes about is in `export`, what a view is made of in `view`, how a table is split in `plan` and
//! `bounds`, how rows are read in `read` and `copy`. Every session has the settings of `session`, whatever the
//! server's and the role's defaults are.
//!
//! A chunk reader holds its snapshot as long as the view, and a table's weakest lock only while a chunk is being
//! planned or read: an ALTER waits for a chunk at most, and what it did is found before the next one.

mod bounds;
mod copy;
mod export;
mod plan;
mod read;
mod session;
mod view;

use crate::catalog::tables::read_catalogue;
use crate::options::ConnectOptions;
use async_trait::async_trait;
use freshet_core::error::Result;
use freshet_core::source::Selects;
use freshet_core::table::{TableInfo, TableReader, View};

/// What a [`PostgresTableReader`] needs to know.
#[derive(Clone, Debug)]
pub struct ReaderOptions {
    /// The server.
    pub connect: ConnectOptions,
    /// Name of the pipeline, for the name of the sessions.
    pub pipeline: String,
    /// The publication that changes are read by, if any are: partitions are loaded only once its looks have seen them.
    pub publication: Option<String>,
    /// Schemas that are never selected: where freshet keeps tables of its own.
    pub schemas_left_out: Vec<String>,
    /// The longest that a view waits for the transactions that are running on the server to end.
    pub snapshot_wait_ms_max: u64,
    /// The longest that a reader waits for a table's lock, which a change of its definition holds.
    pub lock_timeout_ms: u64,
}

impl ReaderOptions {
    /// Options with the defaults.
    pub fn new(connect: ConnectOptions, pipeline: impl Into<String>) -> Self {
        ReaderOptions {
            connect,
            pipeline: pipeline.into(),
            publication: None,
            schemas_left_out: vec!["freshet".to_owned()],
            snapshot_wait_ms_max: 600_000,
            lock_timeout_ms: 60_000,
        }
    }
}

/// Opens views of a PostgreSQL server. Each is on connections of its own.
#[derive(Clone, Debug)]
pub struct PostgresTableReader {
    options: ReaderOptions,
}

impl PostgresTableReader {
    /// A reader of the server that the options name.
    pub fn new(options: ReaderOptions) -> Self {
        Self { options }
    }
}

#[async_trait]
impl TableReader for PostgresTableReader {
    async fn tables(&mut self, selection: &dyn Selects) -> Result<Vec<TableInfo>> {
        let session = session::open(&self.options, "catalogue").await?;
        session
            .run("Beginning to read the catalogue", "begin isolation level repeatable read read only")
            .await?;
        let catalogue = read_catalogue(session.client(), selection, &self.options.schemas_left_out).await?;
        Ok(catalogue.tables)
    }

    fn views_are_exact(&self) -> bool {
        true
    }

    async fn view(&mut self, selection: &dyn Selects, readers: usize) -> Result<View> {
        view::open(&self.options, selection, readers.max(1)).await
    }
}
