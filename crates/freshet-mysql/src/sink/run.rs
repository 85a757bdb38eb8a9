//! Sending a planned window: request by request, every count read and checked, and only then COMMIT.
//!
//! Several statements go in one request, so that a small window costs two round trips: one for everything up to the
//! checkpoint's compare-and-set, one for COMMIT. The server stops at the first statement that fails. COMMIT never leaves
//! before every count was read: a connection of ours that wakes up late has nothing in its socket that could commit
//! (T11). Whatever fails, the transaction is rolled back as a whole: the server may have undone only one statement of it
//! (a lock that was not had in time).

use crate::sink::control::fenced;
use crate::sink::error::{Scope, statement_error};
use crate::sink::plan::{About, Check, Expect, Op, Payload, Place, Request};
use crate::sink::session::Session;
use crate::wire::Outcome;
use freshet_core::{Error, Mark, Result, TableName};

/// One window, or a part of one, ready to be sent.
pub(crate) struct Work {
    pub requests: Vec<Request>,
    /// The mark that the last statement moves the checkpoint to; `None` leaves the transaction open.
    pub end: Option<Mark>,
    /// What ends the transaction.
    pub commit: String,
}

/// Runs a window to its end: the mark that became durable, or `None` for a part. Gives the session back.
pub(crate) async fn run(mut session: Session, work: Work) -> (Session, Result<Option<Mark>>) {
    let outcome = send(&mut session, work).await;
    if outcome.is_err() {
        // Gives locks back at once; whatever this says, the owner takes over again before anything else.
        let _ = session.connection.exec("rollback").await;
    }
    (session, outcome)
}

async fn send(session: &mut Session, work: Work) -> Result<Option<Mark>> {
    let mut outcomes = Vec::new();
    for request in work.requests {
        outcomes.clear();
        run_request(session, &request, &mut outcomes).await?;
    }
    let Some(mark) = work.end else { return Ok(None) };
    let committed = session.connection.batch(work.commit.as_bytes(), &mut outcomes).await;
    committed.map_err(|e| statement_error(&Scope::Session, "Committing a window", e))?;
    Ok(Some(mark))
}

pub(crate) async fn run_request(
    session: &mut Session,
    request: &Request,
    outcomes: &mut Vec<Outcome>,
) -> Result<()> {
    let sent = match &request.payload {
        Payload::Text(sql) => session.connection.batch(sql, outcomes).await,
        Payload::Bulk(bulk) => session.insert_bulk(bulk).await.map(|outcome| outcomes.push(outcome)),
    };
    for (outcome, check) in outcomes.iter().zip(&request.checks) {
        check.judge(*outcome)?;
    }
    match (sent, request.checks.get(outcomes.len())) {
        (Ok(()), None) => Ok(()),
        (Ok(()), Some(_)) => Err(Error::internal("The target answered fewer statements than it was sent")),
        (Err(error), Some(check)) => Err(statement_error(&check.about.scope(), check.about.doing(), error)),
        (Err(error), None) => Err(statement_error(&Scope::Session, "Applying a window", error)),
    }
}

impl Check {
    /// What a difference means depends on whether one row or many were meant.
    fn judge(&self, outcome: Outcome) -> Result<()> {
        match self.expect {
            Expect::Rows(rows) if rows != outcome.rows => {
                return Err(self.about.divergence(rows, outcome.rows));
            }
            Expect::Rows(_) | Expect::Any => {}
        }
        match self.warnings {
            Some(expected) if expected != u32::from(outcome.warnings) => Err(self.about.changed_value()),
            Some(_) | None => Ok(()),
        }
    }
}

impl About {
    pub(crate) fn scope(&self) -> Scope {
        match self {
            About::Rows { bound, place: Some(_), .. } => Scope::Row(bound.source.clone()),
            About::Rows { place: None, .. } => Scope::Bulk,
            About::Truncate(table) => Scope::Row(table.clone()),
            About::Session | About::Checkpoint => Scope::Session,
        }
    }

    pub(crate) fn doing(&self) -> String {
        match self {
            About::Rows { bound, op, place: Some(place) } => {
                format!("{} {}, the row at {place}", verb(*op), bound.source)
            }
            About::Rows { bound, op, place: None } => format!("{} {}", verb(*op), bound.source),
            About::Truncate(table) => format!("Emptying {table}"),
            About::Session => "Beginning a transaction".to_owned(),
            About::Checkpoint => "Moving the checkpoint".to_owned(),
        }
    }

    fn divergence(&self, expected: u64, found: u64) -> Error {
        match self {
            About::Checkpoint => fenced(),
            About::Session => Error::internal("A statement that touches no row touched some"),
            About::Truncate(table) => {
                Error::table(table.clone(), format!("Emptying {table} was not counted"))
            }
            About::Rows { bound, op, place } => {
                let by = match bound.key.is_empty() {
                    true => "every column".to_owned(),
                    false => format!("key ({})", bound.key_text),
                };
                let text = format!(
                    "Target and source differ: {}: {found} rows found by {by}, {expected} expected",
                    self.doing()
                );
                let hint = "Find out who else writes to the target table, and load it again";
                match (place, op) {
                    (None, _) => Error::reorder(text),
                    (Some(place), Op::Patch) => out_of_reach(&bound.source, place),
                    (Some(_), _) => Error::table(bound.source.clone(), text).with_hint(hint),
                }
            }
        }
    }

    /// The session is strict: a warning of a statement that writes means that a value was not stored as it was sent.
    fn changed_value(&self) -> Error {
        let text =
            format!("{}: the target warned that it stores a value otherwise than it was sent", self.doing());
        match self {
            About::Rows { bound, place: Some(_), .. } => Error::table(bound.source.clone(), text)
                .with_hint("Compare the target table's columns with the source's"),
            About::Rows { .. } => Error::reorder(text),
            About::Truncate(_) | About::Session | About::Checkpoint => Error::internal(text),
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
        Op::Insert => "Inserting into",
        Op::Upsert => "Upserting into",
        Op::Update | Op::Patch => "Updating",
        Op::Delete => "Deleting from",
        Op::CheckAbsent => "Looking for keys that must be absent in",
    }
}
