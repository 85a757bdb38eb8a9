//! One loading connection: a chunk's rows by binary COPY and its control row, in one transaction, epoch checked.
//!
//! Rows go from the flat row format into COPY's, 256 KiB at a time, while the server is busy with the part before. Where
//! the source is a PostgreSQL and every column has its type here, they are passed on as its COPY gave them.
//! Where a column's type has no binary form here, they go into a temporary table first, from which one statement of the
//! same transaction casts them into the target.
//! After an error the connection is of no use any more: the caller takes over and asks for another.

use crate::error::{Scope, statement_error};
use crate::options::SinkOptions;
use crate::session::Session;
use crate::sink::bound::{Bound, Op, Stage};
use crate::sink::catalog::TargetTable;
use crate::sink::control::{self, Control, Owner};
use crate::sink::plan::{COPY_HEADER, COPY_TRAILER, copy_row};
use async_trait::async_trait;
use bytes::Bytes;
use freshet_core::sink::{ChunkLoader, TablePlan};
use freshet_core::table::{Chunk, Dialect, NativeRows};
use freshet_core::{Batch, Error, EventRef, Position, Result, RowRef, TableName};
use futures_util::SinkExt;
use std::pin::Pin;
use std::sync::Arc;
use tokio_postgres::CopyInSink;

/// Bytes gathered before they are sent.
const COPY_BUFFER_BYTES: usize = 256 * 1024;
/// Room for the row that makes the buffer full.
const COPY_BUFFER_SLACK_BYTES: usize = 16 * 1024;

/// Loads chunks over a connection of its own.
pub(crate) struct Loader {
    session: Session,
    control: Control,
    owner: Owner,
    options: Arc<SinkOptions>,
    bound: Option<Arc<Bound>>,
    open: Option<Open>,
    /// An error left this connection in an unknown state.
    broken: bool,
}

struct Open {
    chunk: Chunk,
    bound: Arc<Bound>,
    copy: Pin<Box<CopyInSink<Bytes>>>,
    buffer: Vec<u8>,
    rows: u64,
    stage: Option<Stage>,
    /// Whether rows of the source's COPY may be passed on as they are.
    is_native: bool,
}

impl Loader {
    /// Registers the connection under the owner, who must still own.
    pub(crate) async fn new(
        session: Session,
        control: Control,
        owner: Owner,
        options: Arc<SinkOptions>,
    ) -> Result<Self> {
        let client = &session.client;
        // Known to the next owner before it takes any lock: a host that dies here blocks nobody.
        control::run(client, &control.register_sql(owner.id), "Registering a loader").await?;
        control.fence(client, owner).await?;
        Ok(Self { session, control, owner, options, bound: None, open: None, broken: false })
    }

    async fn bind(&mut self, plan: &TablePlan) -> Result<Arc<Bound>> {
        let schema = &plan.info.schema;
        if let Some(bound) = self.bound.as_ref().filter(|b| b.schema.id() == schema.id()) {
            return Ok(bound.clone());
        }
        let target = TargetTable::read(&self.session.client, &plan.target).await?;
        let target = target.ok_or_else(|| gone(plan.info.name(), &plan.target))?;
        let bound = Arc::new(Bound::new(plan.info.name(), &target, schema)?);
        self.bound = Some(bound.clone());
        Ok(bound)
    }

    async fn begin(&mut self, plan: &TablePlan, chunk: &Chunk) -> Result<Open> {
        let bound = self.bind(plan).await?;
        let client = &self.session.client;
        control::run(client, "begin", "Beginning a chunk").await?;
        let stage = bound.stage();
        let sql = match &stage {
            None => bound.statement(Op::Copy).0,
            Some(stage) => {
                client.batch_execute(&stage.create).await.map_err(|e| loading(&bound.source, &e))?;
                stage.copy.clone()
            }
        };
        let copy = client.copy_in::<_, Bytes>(sql.as_str()).await;
        let copy = copy.map_err(|e| loading(&bound.source, &e))?;
        let mut buffer = new_buffer();
        buffer.extend_from_slice(COPY_HEADER);
        let is_native = plan.info.dialect == Dialect::Postgres && bound.is_native();
        Ok(Open { chunk: chunk.clone(), bound, copy: Box::pin(copy), buffer, rows: 0, stage, is_native })
    }

    async fn end(&mut self, mut open: Open, high: &Position) -> Result<u64> {
        open.buffer.extend_from_slice(&COPY_TRAILER);
        open.send().await?;
        let rows = open.copy.as_mut().finish().await.map_err(|e| loading(&open.bound.source, &e))?;
        open.check_count(rows)?;
        let client = &self.session.client;
        if let Some(stage) = &open.stage {
            let moved = client.execute(stage.insert.as_str(), &[]).await;
            open.check_count(moved.map_err(|e| loading(&open.bound.source, &e))?)?;
        }
        self.control.finish_chunk(client, &open.chunk, rows, high).await?;
        self.control.fence(client, self.owner).await?;
        control::run(client, "commit", "Committing a chunk").await?;
        Ok(rows)
    }

    /// Takes the outcome of a step; an error ends the connection's use and gives its locks back.
    async fn settle<T>(&mut self, outcome: Result<T>) -> Result<T> {
        if outcome.is_err() {
            self.broken = true;
            self.open = None;
            if !self.session.client.is_closed() {
                let _ = self.session.client.batch_execute("rollback").await;
            }
        }
        outcome
    }

    fn check_usable(&self) -> Result<()> {
        if self.broken { Err(Error::internal("A loader is not used again after an error")) } else { Ok(()) }
    }
}

impl Open {
    fn check_count(&self, stored: u64) -> Result<()> {
        if stored == self.rows {
            return Ok(());
        }
        let (table, rows) = (&self.bound.source, self.rows);
        Err(Error::internal(format!("COPY into {table} stored {stored} rows of {rows}")))
    }

    async fn add(&mut self, batch: &Batch, options: &SinkOptions) -> Result<()> {
        for event in batch.events() {
            let (schema, after) = match event? {
                EventRef::Insert { schema, after } => (schema, after),
                EventRef::Schema { .. } => continue,
                EventRef::Begin { .. }
                | EventRef::Update { .. }
                | EventRef::Delete { .. }
                | EventRef::Truncate(_)
                | EventRef::Statement(_)
                | EventRef::Commit(_) => {
                    return Err(Error::internal("A batch of a chunk holds something else than inserts"));
                }
            };
            if schema != self.bound.schema.id() {
                let table = self.bound.source.clone();
                let text = format!("The definition of {table} changed while it was loaded");
                return Err(Error::table(table, text).with_hint("Load the table again"));
            }
            let row = RowRef::new(&self.bound.schema, after);
            self.rows += 1;
            if let Err(refused) = copy_row(&self.bound, row, &options.policies, &mut self.buffer) {
                let place = format!("chunk {} row {}", self.chunk.number, self.rows);
                return Err(refused.error(&self.bound.source, &place));
            }
            if self.buffer.len() >= COPY_BUFFER_BYTES {
                self.send().await?;
            }
        }
        Ok(())
    }

    /// Rows of the source's COPY, which are rows of this one.
    async fn pass_on(&mut self, rows: NativeRows) -> Result<()> {
        if !self.is_native {
            return Err(Error::internal("Rows in native form came for a table that does not take them"));
        }
        self.rows += rows.rows;
        // The header, the first time.
        if !self.buffer.is_empty() {
            self.send().await?;
        }
        self.buffer = rows.bytes;
        self.send().await
    }

    async fn send(&mut self) -> Result<()> {
        let full = std::mem::replace(&mut self.buffer, new_buffer());
        let sent = self.copy.send(Bytes::from(full)).await;
        match sent {
            Ok(()) => Ok(()),
            // The reason is in the answer.
            Err(error) => match self.copy.as_mut().finish().await {
                Err(reason) => Err(loading(&self.bound.source, &reason)),
                Ok(_) => Err(loading(&self.bound.source, &error)),
            },
        }
    }
}

fn new_buffer() -> Vec<u8> {
    Vec::with_capacity(COPY_BUFFER_BYTES + COPY_BUFFER_SLACK_BYTES)
}

fn loading(table: &TableName, error: &tokio_postgres::Error) -> Error {
    statement_error(&Scope::Table(table.clone()), format!("Loading {table}"), error)
}

/// The error of a target table that is not there.
pub(crate) fn gone(table: &TableName, target: &TableName) -> Error {
    Error::table(table.clone(), format!("Target table {target} of {table} is not there"))
        .with_hint("Restore it, or load the table again")
}

#[async_trait]
impl ChunkLoader for Loader {
    async fn open(&mut self, table: &TablePlan, chunk: &Chunk) -> Result<()> {
        self.check_usable()?;
        if self.open.is_some() {
            return Err(Error::internal("A chunk is being loaded already"));
        }
        let opened = self.begin(table, chunk).await;
        self.open = Some(self.settle(opened).await?);
        Ok(())
    }

    async fn rows(&mut self, batch: Batch) -> Result<()> {
        self.check_usable()?;
        let open = self.open.as_mut().ok_or_else(|| Error::internal("No chunk is being loaded"))?;
        let added = open.add(&batch, &self.options).await;
        self.settle(added).await
    }

    fn takes_native(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.is_native)
    }

    async fn native(&mut self, rows: NativeRows) -> Result<()> {
        self.check_usable()?;
        let open = self.open.as_mut().ok_or_else(|| Error::internal("No chunk is being loaded"))?;
        let added = open.pass_on(rows).await;
        self.settle(added).await
    }

    async fn finish(&mut self, high: &Position) -> Result<u64> {
        self.check_usable()?;
        let open = self.open.take().ok_or_else(|| Error::internal("No chunk is being loaded"))?;
        let ended = self.end(open, high).await;
        self.settle(ended).await
    }
}
