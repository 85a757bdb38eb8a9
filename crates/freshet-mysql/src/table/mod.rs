//! Reading existing rows: views with two bounds, chunks by key range, rows by the binary protocol.
//!
//! It decides nothing about what is loaded where; it guarantees what core's `TableReader` asks for. How the bounds
//! come about is in `view`, how a table is split in `plan` and `bounds`, how rows are read in `read`. Every
//! session has the settings of `session`, whatever the server's defaults are.
//!
//! A chunk reader's transaction lasts as long as the view. From its first row of a table on it holds that table's
//! metadata lock, so no definition changes under a reader; an ALTER waits for the load.

mod bounds;
mod plan;
mod read;
mod session;
mod view;

use async_trait::async_trait;
use freshet_core::error::Result;
use freshet_core::source::Selects;
use freshet_core::table::{TableInfo, TableReader, View};

use crate::catalog;
use crate::server::{Flavour, ServerFacts};
use crate::wire::ConnectOptions;

/// How a view gets its two bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ViewMethod {
    /// The lock where the account may take it and gets it in time, and without it otherwise.
    #[default]
    Auto,
    /// `FLUSH TABLES WITH READ LOCK` for the moment of the snapshots: both bounds are one position.
    Lock,
    /// Without a lock: two bounds. MariaDB's per-connection positions, MySQL's executed set and binlog end.
    NoLock,
}

/// Opens views of a MySQL or MariaDB server. Each is on connections of its own.
#[derive(Clone, Debug)]
pub struct MysqlTableReader {
    options: ConnectOptions,
    flavour: Flavour,
    method: ViewMethod,
    lock_total_ms_max: u64,
}

/// How long the lock is tried for in all. One try waits two seconds, so that nobody waits behind it for longer.
const LOCK_TOTAL_MS_MAX: u64 = 60_000;

impl MysqlTableReader {
    /// A reader of the server at `options`, which must be of that flavour.
    pub fn new(options: ConnectOptions, flavour: Flavour) -> Self {
        Self { options, flavour, method: ViewMethod::Auto, lock_total_ms_max: LOCK_TOTAL_MS_MAX }
    }

    /// The same, with a fixed way to the bounds.
    #[must_use]
    pub fn with_method(mut self, method: ViewMethod) -> Self {
        self.method = method;
        self
    }

    /// The same, with another bound on how long the lock is tried for in all.
    #[must_use]
    pub fn with_lock_total_ms_max(mut self, total_ms_max: u64) -> Self {
        self.lock_total_ms_max = total_ms_max;
        self
    }
}

#[async_trait]
impl TableReader for MysqlTableReader {
    async fn tables(&mut self, selection: &dyn Selects) -> Result<Vec<TableInfo>> {
        let mut connection = session::open(&self.options, self.flavour).await?;
        let facts = ServerFacts::read(&mut connection).await?;
        let tables = catalog::read_tables(&mut connection, &facts, selection).await;
        connection.close().await;
        tables
    }

    fn views_are_exact(&self) -> bool {
        self.method == ViewMethod::Lock
    }

    async fn view(&mut self, selection: &dyn Selects, readers: usize) -> Result<View> {
        view::open(self, selection, readers.max(1)).await
    }
}
