//! Sending a planned window: pipelined, every count read and checked, and only then COMMIT.
//!
//! Statements are sent without waiting for each other's answers, so that a small window costs two round trips: one
//! for everything up to the checkpoint's compare-and-set, one for COMMIT. COMMIT never leaves before every count was
//! read: a connection of ours that wakes up late has nothing in its socket that could commit (T11).

use crate::error::{Scope, statement_error};
use crate::sink::bound::Op;
use crate::sink::control::fenced;
use crate::sink::plan::{Expect, Place, RawParam};
use bytes::Bytes;
use freshet_core::{Error, Mark, Result, TableName};
use futures_util::SinkExt;
use std::collections::VecDeque;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use tokio_postgres::{Client, Statement};

/// Statements on their way at most.
const PIPELINE_MAX: usize = 128;

/// A statement and what is known of it.
pub(crate) struct Call {
    pub statement: Statement,
    pub input: CallInput,
    pub expect: Expect,
    pub about: About,
}

pub(crate) enum CallInput {
    Params(Vec<RawParam>),
    Copy(Vec<u8>),
}

/// What a statement is about, for errors.
pub(crate) enum About {
    Rows { table: TableName, op: Op, key: String, place: Option<Place> },
    Truncate(TableName),
    Checkpoint,
}

/// One window, or a part of one, ready to be sent.
pub(crate) struct Work {
    pub client: Arc<Client>,
    /// Whether a transaction is to be begun first.
    pub begin: bool,
    pub calls: Vec<Call>,
    /// The checkpoint's compare-and-set and the mark it moves to; `None` leaves the transaction open.
    pub end: Option<(Call, Mark)>,
}

/// Runs a window to its end: the mark that became durable, or `None` for a part.
pub(crate) async fn run(work: Work) -> Result<Option<Mark>> {
    let client = work.client.clone();
    let outcome = send(work).await;
    if outcome.is_err() && !client.is_closed() {
        // Gives locks back at once; whatever this says, the owner takes over again before anything else.
        let _ = client.batch_execute("rollback").await;
    }
    outcome
}

async fn send(work: Work) -> Result<Option<Mark>> {
    let mut pipe = Pipe { client: work.client.clone(), sent: VecDeque::new() };
    if work.begin {
        pipe.begin();
    }
    for call in work.calls {
        pipe.call(call).await?;
    }
    let Some((advance, mark)) = work.end else {
        pipe.drain().await?;
        return Ok(None);
    };
    pipe.call(advance).await?;
    pipe.drain().await?;
    let commit = work.client.batch_execute("commit").await;
    commit.map_err(|e| statement_error(&Scope::Session, "Committing a window", &e))?;
    Ok(Some(mark))
}

type Answer = Result<u64, tokio_postgres::Error>;

/// An answer that may be there already.
enum Sent {
    Waiting(Pin<Box<dyn Future<Output = Answer> + Send>>),
    Here(Answer),
}

/// Statements sent and not yet answered, in order.
struct Pipe {
    client: Arc<Client>,
    sent: VecDeque<(Sent, Option<(Expect, About)>)>,
}

impl Pipe {
    fn begin(&mut self) {
        let client = self.client.clone();
        self.push(async move { client.batch_execute("begin").await.map(|()| 0) }, None);
    }

    async fn call(&mut self, call: Call) -> Result<()> {
        let client = self.client.clone();
        match call.input {
            CallInput::Params(params) => {
                if self.sent.len() >= PIPELINE_MAX {
                    self.next().await?;
                }
                let statement = call.statement;
                let answer = async move { client.execute_raw(&statement, params).await };
                self.push(answer, Some((call.expect, call.about)));
                Ok(())
            }
            CallInput::Copy(data) => {
                self.drain().await?;
                check(copy(&client, &call.statement, data).await, call.expect, &call.about)
            }
        }
    }

    /// A future of the client sends at its first poll: polled here, so that the order of pushes is the order on the
    /// wire. Its answer is waited for later.
    fn push(
        &mut self,
        answer: impl Future<Output = Answer> + Send + 'static,
        about: Option<(Expect, About)>,
    ) {
        let mut future: Pin<Box<dyn Future<Output = Answer> + Send>> = Box::pin(answer);
        let sent = match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answer) => Sent::Here(answer),
            Poll::Pending => Sent::Waiting(future),
        };
        self.sent.push_back((sent, about));
    }

    async fn next(&mut self) -> Result<()> {
        let Some((sent, about)) = self.sent.pop_front() else { return Ok(()) };
        let answer = match sent {
            Sent::Here(answer) => answer,
            Sent::Waiting(future) => future.await,
        };
        match about {
            Some((expect, about)) => check(answer, expect, &about),
            None => {
                answer.map_err(|e| statement_error(&Scope::Session, "Beginning a transaction", &e)).map(drop)
            }
        }
    }

    async fn drain(&mut self) -> Result<()> {
        while !self.sent.is_empty() {
            self.next().await?;
        }
        Ok(())
    }
}

async fn copy(client: &Client, statement: &Statement, data: Vec<u8>) -> Answer {
    let sink = client.copy_in::<_, Bytes>(statement).await?;
    let mut sink = pin!(sink);
    sink.send(Bytes::from(data)).await?;
    sink.finish().await
}

/// Every count is checked; what a difference means depends on whether one row or many were meant.
fn check(answer: Answer, expect: Expect, about: &About) -> Result<()> {
    let count = answer.map_err(|e| statement_error(&about.scope(), about.doing(), &e))?;
    match expect {
        Expect::Any => Ok(()),
        Expect::Rows(rows) if rows == count => Ok(()),
        Expect::Rows(rows) => Err(about.divergence(rows, count)),
    }
}

impl About {
    fn scope(&self) -> Scope {
        match self {
            About::Rows { table, place: Some(_), .. } => Scope::Row(table.clone()),
            About::Rows { place: None, .. } => Scope::Bulk,
            About::Truncate(table) => Scope::Row(table.clone()),
            About::Checkpoint => Scope::Session,
        }
    }

    fn doing(&self) -> String {
        match self {
            About::Rows { table, op, place: Some(place), .. } => {
                format!("{} {table}, the row at {place}", verb(*op))
            }
            About::Rows { table, op, place: None, .. } => format!("{} {table}", verb(*op)),
            About::Truncate(table) => format!("Emptying {table}"),
            About::Checkpoint => "Moving the checkpoint".to_owned(),
        }
    }

    fn divergence(&self, expected: u64, found: u64) -> Error {
        match self {
            About::Checkpoint => fenced(),
            About::Truncate(table) => {
                Error::table(table.clone(), format!("Emptying {table} was not counted"))
            }
            About::Rows { table, op, key, place } => {
                let by = if key.is_empty() { "every column".to_owned() } else { format!("key ({key})") };
                let text = format!(
                    "Target and source differ: {}: {found} rows found by {by}, {expected} expected",
                    self.doing()
                );
                if let (Some(place), Op::Patch(_)) = (place, op) {
                    return out_of_reach(table, place);
                }
                let hint = "Find out who else writes to the target table, and load it again";
                match (place, op) {
                    (None, _) => Error::reorder(text),
                    (Some(_), _) => Error::table(table.clone(), text).with_hint(hint),
                }
            }
        }
    }
}

/// Between F_low and F_high a row that lacks a value can be changed, but not made: only the source has the value.
fn out_of_reach(table: &TableName, place: &Place) -> Error {
    let text = format!(
        "The row of {table} at {place} lacks a large value that the source left out as unchanged, and the target does \
         not have it: the row was changed while the table was read"
    );
    Error::reload(table.clone(), text)
}

fn verb(op: Op) -> &'static str {
    match op {
        Op::Insert | Op::Copy => "Inserting into",
        Op::Upsert => "Upserting into",
        Op::Update(_) | Op::Patch(_) | Op::UpdateRow => "Updating",
        Op::Delete | Op::DeleteRow => "Deleting from",
        Op::CheckAbsent => "Looking for keys that must be absent in",
    }
}
