//! One loading connection: a chunk's rows by inserts of many rows (in bulk on MariaDB), and its control row, in one transaction, epoch
//! checked.
//!
//! A request is encoded while the server works on the one before. Not LOAD DATA LOCAL: it is off by default on MySQL, it
//! turns refusals into warnings, and bulk inserts are faster. After an error the connection is of no use any more: the caller takes over and asks
//! for another.

use crate::sink::bound::Bound;
use crate::sink::catalog::TargetTable;
use crate::sink::control::{Control, Owner};
use crate::sink::options::SinkOptions;
use crate::sink::plan::{About, Insert, Op, Request, Requests, Values};
use crate::sink::run::run_request;
use crate::sink::session::Session;
use crate::sink::transaction;
use async_trait::async_trait;
use freshet_core::sink::{ChunkLoader, TablePlan};
use freshet_core::table::Chunk;
use freshet_core::{Batch, Error, ErrorKind, EventRef, Position, Result, RowRef, TableName};
use std::sync::Arc;
use tokio::task::JoinHandle;

/// Loads chunks over a connection of its own.
pub(crate) struct Loader {
    /// `None` while a request is under way, and after an error.
    session: Option<Session>,
    sending: Option<JoinHandle<(Session, Result<()>)>>,
    control: Control,
    owner: Owner,
    options: Arc<SinkOptions>,
    bound: Option<Arc<Bound>>,
    open: Option<Open>,
}

struct Open {
    chunk: Chunk,
    bound: Arc<Bound>,
    values: Values,
    rows: u64,
}

impl Loader {
    /// Registers the connection under the owner, who must still own.
    pub(crate) async fn new(
        mut session: Session,
        control: Control,
        owner: Owner,
        options: Arc<SinkOptions>,
    ) -> Result<Self> {
        // Known to the next owner before it takes any lock: a host that dies here blocks nobody.
        control.register(&mut session, owner.id).await?;
        control.fence(&mut session, owner).await?;
        let session = Some(session);
        Ok(Self { session, sending: None, control, owner, options, bound: None, open: None })
    }

    /// The connection, once what is under way has been answered.
    async fn session(&mut self) -> Result<&mut Session> {
        if let Some(task) = self.sending.take() {
            let (session, outcome) =
                task.await.map_err(|_| Error::internal("Loading a chunk was cut off"))?;
            self.session = Some(session);
            outcome?;
        }
        self.session.as_mut().ok_or_else(|| Error::internal("A loader is not used again after an error"))
    }

    async fn bind(&mut self, plan: &TablePlan) -> Result<Arc<Bound>> {
        let schema = &plan.info.schema;
        if let Some(bound) = self.bound.as_ref().filter(|b| b.schema.id() == schema.id()) {
            return Ok(bound.clone());
        }
        let target = TargetTable::read(self.session().await?, &plan.target).await?;
        let target = target.ok_or_else(|| gone(plan.info.name(), &plan.target))?;
        let bound = Arc::new(Bound::new(plan.info.name(), &target, schema)?);
        self.bound = Some(bound.clone());
        Ok(bound)
    }

    async fn begin(&mut self, plan: &TablePlan, chunk: &Chunk) -> Result<Open> {
        let bound = self.bind(plan).await?;
        let session = self.session().await?;
        let begin = transaction::begin_chunk(session.facts.is_mariadb);
        session.run(&begin, "Beginning a chunk").await?;
        let values = Values::new(&bound, session.facts, true);
        Ok(Open { chunk: chunk.clone(), bound, values, rows: 0 })
    }

    async fn add(&mut self, batch: &Batch) -> Result<()> {
        let mut open = self.open.take().ok_or_else(|| Error::internal("No chunk is being loaded"))?;
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
            if schema != open.bound.schema.id() {
                let table = open.bound.source.clone();
                let text = format!("The definition of {table} changed while it was loaded");
                return Err(Error::table(table, text).with_hint("Load the table again"));
            }
            open.rows += 1;
            let full = open.values.add(RowRef::new(&open.bound.schema, after), &self.options.policies);
            let full = full.map_err(|refused| {
                let place = format!("chunk {} row {}", open.chunk.number, open.rows);
                refused.error(&open.bound.source, &place)
            })?;
            if let Some(insert) = full {
                self.send(&open.bound, insert).await?;
            }
        }
        self.open = Some(open);
        Ok(())
    }

    /// Sends rows, after those before them were answered.
    async fn send(&mut self, bound: &Arc<Bound>, insert: Insert) -> Result<()> {
        self.session().await?;
        let Some(mut session) = self.session.take() else { return Ok(()) };
        let requests = requests(bound, insert, &session);
        let table = bound.source.clone();
        self.sending = Some(tokio::spawn(async move {
            let outcome = send_all(&mut session, &requests, &table).await;
            (session, outcome)
        }));
        Ok(())
    }

    async fn end(&mut self, high: &Position) -> Result<u64> {
        let mut open = self.open.take().ok_or_else(|| Error::internal("No chunk is being loaded"))?;
        if let Some(insert) = open.values.take() {
            self.send(&open.bound, insert).await?;
        }
        let (control, owner) = (self.control.clone(), self.owner);
        let session = self.session().await?;
        control.finish_chunk(session, &open.chunk, open.rows, high).await?;
        control.fence(session, owner).await?;
        session.run(transaction::COMMIT, "Committing a chunk").await?;
        Ok(open.rows)
    }

    /// Takes the outcome of a step; an error ends the connection, which gives its locks back.
    fn settle<T>(&mut self, outcome: Result<T>) -> Result<T> {
        if outcome.is_err() {
            (self.open, self.session) = (None, None);
            if let Some(task) = self.sending.take() {
                task.abort();
            }
        }
        outcome
    }
}

fn requests(bound: &Arc<Bound>, insert: Insert, session: &Session) -> Vec<Request> {
    let about = About::Rows { bound: bound.clone(), op: Op::Insert, place: None };
    let mut requests = Requests::new(session.facts);
    requests.insert(insert, about);
    requests.finish()
}

/// An error of a bulk insert names the table here: there is no order to replay a chunk in.
async fn send_all(session: &mut Session, requests: &[Request], table: &TableName) -> Result<()> {
    let mut outcomes = Vec::new();
    for request in requests {
        outcomes.clear();
        let sent = run_request(session, request, &mut outcomes).await;
        sent.map_err(|error| match error.kind() {
            ErrorKind::Reorder => {
                Error::table(table.clone(), format!("Loading {table}: {}", error.message()))
            }
            _ => error,
        })?;
    }
    Ok(())
}

/// The error of a target table that is not there.
pub(crate) fn gone(table: &TableName, target: &TableName) -> Error {
    Error::table(table.clone(), format!("Target table {target} of {table} is not there"))
        .with_hint("Restore it, or load the table again")
}

#[async_trait]
impl ChunkLoader for Loader {
    async fn open(&mut self, table: &TablePlan, chunk: &Chunk) -> Result<()> {
        if self.open.is_some() {
            return Err(Error::internal("A chunk is being loaded already"));
        }
        let opened = self.begin(table, chunk).await;
        self.open = Some(self.settle(opened)?);
        Ok(())
    }

    async fn rows(&mut self, batch: Batch) -> Result<()> {
        let added = self.add(&batch).await;
        self.settle(added)
    }

    async fn finish(&mut self, high: &Position) -> Result<u64> {
        let ended = self.end(high).await;
        self.settle(ended)
    }
}
