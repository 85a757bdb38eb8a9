//! One open session: messages into batches, and the look-ups that relation messages need.
//!
//! Invariants: [`Stream::read`] is cancel-safe, since what waits has taken nothing yet: a message whose look-up is under
//! way stays in `looking_up`. A position is reported only where no transaction is open.

use super::WalSourceOptions;
use super::feedback::Feedback;
use crate::catalog::keys::{Identity, TableKey, relation_keys};
use crate::catalog::types::TypeCatalog;
use crate::decode::{Captured, Decoder, Relation, Step};
use crate::wire::{Replicated, ReplicationReader};
use freshet_core::codec::{BatchBuilder, OpenEvents};
use freshet_core::position::{Lsn, WalPosition};
use freshet_core::source::{ReadOutcome, Selects};
use freshet_core::{Column, Error, Position, Result, TableName, TableSchema};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use tokio_postgres::Client;

/// Who did not ask for so long was not waiting for the server.
const NOT_WAITING: Duration = Duration::from_secs(5);

pub(super) struct Stream {
    reader: ReplicationReader,
    feedback: Feedback,
    decoder: Decoder,
    client: Client,
    types: TypeCatalog,
    /// A relation that is being looked up.
    looking_up: Option<Relation>,
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
        client: Client,
        position: WalPosition,
        options: &WalSourceOptions,
        selects: Arc<dyn Selects>,
    ) -> Self {
        Self {
            reader,
            feedback,
            decoder: Decoder::new(selects),
            client,
            types: TypeCatalog::default(),
            looking_up: None,
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
                    Step::Relation(relation) => {
                        self.looking_up = Some(relation);
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

    /// Completes a relation by what the stream does not say of it.
    async fn look_up(&mut self) -> Result<()> {
        let Some(relation) = &self.looking_up else { return Ok(()) };
        let oids: Vec<u32> = relation.columns.iter().map(|column| column.type_oid).collect();
        self.types.resolve(&self.client, &oids).await?;
        let keys = relation_keys(&self.client, &[relation.oid]).await?;
        let captured = captured(relation, keys.get(&relation.oid), &self.types)?;
        self.decoder.define(relation.oid, captured);
        self.looking_up = None;
        Ok(())
    }
}

enum Taken {
    Outcome(ReadOutcome),
    LookUp,
    Nothing,
}

/// The schema of a relation: columns and replica identity as the stream tells them, types by their numbers; the order of
/// a key, and the key of a table that logs whole rows, as the catalogue tells them now.
fn captured(relation: &Relation, key: Option<&TableKey>, types: &TypeCatalog) -> Result<Captured> {
    let name = TableName::new(relation.schema.as_str(), relation.name.as_str());
    let is_key: Vec<bool> = relation.columns.iter().map(|column| column.is_key).collect();
    let key = key_columns(relation, key);
    let columns = relation.columns.iter().enumerate().map(|(index, column)| {
        let data_type = types.data_type(column.type_oid, column.type_modifier).ok_or_else(|| {
            Error::table(
                name.clone(),
                format!("The type of column {} of {name} is not in the catalogue any more", column.name),
            )
            .with_hint("The table was changed since: reset the pipeline and load again")
        })?;
        let nullable = !key.contains(&(index as u16));
        Ok(Column { name: column.name.clone(), data_type, nullable })
    });
    let columns = columns.collect::<Result<Vec<_>>>()?;
    let schema = Arc::new(TableSchema::new(name.clone(), columns, key)?);
    Ok(Captured { schema, is_key })
}

fn key_columns(relation: &Relation, key: Option<&TableKey>) -> Vec<u16> {
    let index_of = |name: &String| relation.columns.iter().position(|column| column.name == *name);
    let named = key.and_then(|key| key.columns.iter().map(|name| index_of(name).map(|i| i as u16)).collect());
    let named: Vec<u16> = named.unwrap_or_default();
    let told = |index: &u16| relation.columns[usize::from(*index)].is_key;
    let flagged: Vec<u16> = (0..relation.columns.len() as u16).filter(told).collect();
    let is_whole_row = relation.is_whole_row();
    let is_same = named.len() == flagged.len() && named.iter().all(told);
    match key {
        // Whole rows are logged, which says nothing of the key.
        Some(TableKey { identity: Identity::Full | Identity::Nothing, .. }) if is_whole_row => named,
        _ if is_whole_row => Vec::new(),
        _ if is_same => named,
        _ if flagged.is_empty() => named,
        // The key is another by now: as it was at this place, in the table's order.
        _ => flagged,
    }
}
