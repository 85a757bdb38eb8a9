//! One open session: messages into batches, and the look-ups that relation messages need.
//!
//! Invariants: [`Stream::read`] is cancel-safe, since what waits has taken nothing yet: a message whose look-up is under
//! way is a task of its own, `looking_up`. A position is reported only where no transaction is open.

use super::feedback::Feedback;
use super::look_up::LookUp;
use super::{Kept, WalSourceOptions};
use crate::decode::{Captured, Decoder, Relation, Step};
use crate::wire::{Replicated, ReplicationReader};
use freshet_core::codec::{BatchBuilder, OpenEvents};
use freshet_core::position::{Lsn, WalPosition};
use freshet_core::source::ReadOutcome;
use freshet_core::{Error, Position, Result};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

/// Who did not ask for so long was not waiting for the server.
const NOT_WAITING: Duration = Duration::from_secs(5);

pub(super) struct Stream {
    reader: ReplicationReader,
    feedback: Feedback,
    decoder: Decoder,
    /// What is known of the tables by now.
    definitions: Kept,
    /// Away while it looks something up.
    look_up: Option<LookUp>,
    /// At most one: the relation that is being looked up.
    looking_up: JoinSet<(LookUp, u32, Result<Option<Captured>>)>,
    /// The open transaction's events, while a batch of whole ones was handed out before it.
    kept: Option<OpenEvents>,
    /// Parts of the open transaction were handed out.
    in_parts: bool,
    position: WalPosition,
    /// The position moved since it was reported.
    moved: bool,
    batch_bytes_target: usize,
    batch_bytes_max: usize,
    silence_max: Duration,
    heard: Instant,
    asked: Instant,
}

impl Stream {
    pub(super) fn new(
        reader: ReplicationReader,
        feedback: Feedback,
        look_up: LookUp,
        position: WalPosition,
        options: &WalSourceOptions,
    ) -> Self {
        Self {
            reader,
            feedback,
            decoder: Decoder::new(),
            definitions: look_up.definitions(),
            look_up: Some(look_up),
            looking_up: JoinSet::new(),
            kept: None,
            in_parts: false,
            position,
            moved: false,
            batch_bytes_target: options.batch_bytes_target,
            batch_bytes_max: options.batch_bytes_max,
            silence_max: Duration::from_millis(options.silence_ms_max),
            heard: Instant::now(),
            asked: Instant::now(),
        }
    }

    /// Everything up to here is durable in the log.
    pub(super) fn acknowledge(&self, lsn: Lsn) {
        self.feedback.durable(lsn);
    }

    pub(super) async fn read(&mut self, batch: &mut BatchBuilder) -> Result<ReadOutcome> {
        if let Some(kept) = self.kept.take() {
            batch.put_back(kept);
        }
        let now = Instant::now();
        if now - self.asked > NOT_WAITING {
            self.heard = now;
        }
        loop {
            self.asked = Instant::now();
            self.look_up().await?;
            match self.take_buffered(batch)? {
                Taken::Outcome(outcome) => return Ok(outcome),
                Taken::LookUp => continue,
                Taken::Nothing => {}
            }
            if let Some(outcome) = self.at_rest(batch) {
                return Ok(outcome);
            }
            self.wait().await?;
        }
    }

    /// Takes what was read already.
    fn take_buffered(&mut self, batch: &mut BatchBuilder) -> Result<Taken> {
        while let Some(message) = self.reader.buffered()? {
            match message {
                Replicated::Keepalive { end, reply } => {
                    if !self.decoder.in_transaction() {
                        self.reach(end);
                    }
                    if reply {
                        self.feedback.answer();
                    }
                }
                Replicated::Change(message) => match self.decoder.feed(&message, batch)? {
                    Step::Commit(end) => {
                        self.reach(end);
                        // The last part of a transaction is alone in its batch.
                        if self.in_parts || batch.len() >= self.batch_bytes_target {
                            return Ok(Taken::Outcome(self.commit()));
                        }
                    }
                    Step::Truncate(relations) => {
                        let known = self.definitions.found();
                        self.decoder.truncate(&relations, |root| known.leaves(root), batch)?;
                    }
                    Step::Relation(relation) => {
                        self.begin_look_up(relation)?;
                        return Ok(Taken::LookUp);
                    }
                    Step::InTransaction if batch.len() >= self.batch_bytes_max => {
                        return Ok(Taken::Outcome(self.in_transaction(batch)));
                    }
                    Step::InTransaction | Step::Outside => {}
                },
            }
        }
        Ok(Taken::Nothing)
    }

    /// What to hand out when nothing more is at hand.
    fn at_rest(&mut self, batch: &mut BatchBuilder) -> Option<ReadOutcome> {
        if self.in_parts {
            return None;
        }
        if batch.in_transaction() {
            // Whole transactions do not wait for the rest of another.
            self.kept = batch.take_open();
            return self.kept.is_some().then(|| self.commit());
        }
        (self.moved && !self.decoder.in_transaction() || !batch.is_empty()).then(|| self.commit())
    }

    /// A batch that is full inside of a transaction: up to the last commit in it, if there is one.
    fn in_transaction(&mut self, batch: &mut BatchBuilder) -> ReadOutcome {
        self.kept = batch.take_open();
        if self.kept.is_some() {
            return self.commit();
        }
        self.in_parts = true;
        ReadOutcome::Partial
    }

    fn reach(&mut self, lsn: Lsn) {
        if lsn > self.position.lsn {
            self.position.lsn = lsn;
            self.moved = true;
            self.feedback.received(lsn);
        }
    }

    fn commit(&mut self) -> ReadOutcome {
        (self.moved, self.in_parts) = (false, false);
        ReadOutcome::Commit { position: Position::Wal(self.position.clone()) }
    }

    async fn wait(&mut self) -> Result<()> {
        let read = timeout_at(self.heard + self.silence_max, self.reader.fill()).await;
        match read {
            Ok(read) => {
                read?;
                self.heard = Instant::now();
                Ok(())
            }
            Err(_) => Err(Error::unavailable(format!(
                "PostgreSQL has sent nothing for {} s, not even a keepalive",
                self.silence_max.as_secs()
            ))),
        }
    }

    /// Completes a relation by what the stream does not say of it. The task goes on while nobody waits for it.
    async fn look_up(&mut self) -> Result<()> {
        let Some(done) = self.looking_up.join_next().await else { return Ok(()) };
        let (look_up, oid, captured) =
            done.map_err(|error| Error::internal(format!("A look-up of a table failed: {error}")))?;
        self.look_up = Some(look_up);
        match captured? {
            Some(captured) => self.decoder.define(oid, captured),
            None => self.decoder.leave_out(oid),
        }
        Ok(())
    }

    fn begin_look_up(&mut self, relation: Relation) -> Result<()> {
        let mut look_up =
            self.look_up.take().ok_or_else(|| Error::internal("Two look-ups of tables at one time"))?;
        self.looking_up.spawn(async move {
            let captured = look_up.relation(&relation).await;
            (look_up, relation.oid, captured)
        });
        Ok(())
    }
}

enum Taken {
    Outcome(ReadOutcome),
    LookUp,
    Nothing,
}
