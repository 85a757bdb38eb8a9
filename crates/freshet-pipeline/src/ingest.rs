//! From the source to the log: reads batches, appends them, acknowledges what is durable.
//!
//! One task. `select` is the only waiting, `step` the only deciding. The place to go on after a lost connection
//! is the position of the last append that ended at a commit; whatever lies past it is dropped from the batch and
//! from the log before the source is opened again, so a transaction is never in the log twice or in halves.

use crate::bounds::{LEAVE_MS_MAX, POSITION_RECORD_INTERVAL_MS, RETRY_MS_MIN, TIP_INTERVAL_MS};
use crate::holdings::Holdings;
use crate::retry::{Backoff, pause_or_stop, stopped};
use crate::status::Status;
use freshet_core::codec::BatchBuilder;
use freshet_core::log::{Append, LogWriter};
use freshet_core::source::{ReadOutcome, Source};
use freshet_core::{Error, Mark, Position, Result};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

/// What ingest waits for.
enum Event {
    Read(Result<ReadOutcome>),
    Durable(Mark),
    WriterFailed,
    Tick,
    Stop,
}

/// The ingest task.
pub struct Ingest {
    source: Box<dyn Source>,
    writer: Box<dyn LogWriter>,
    durable: watch::Receiver<Mark>,
    batch: BatchBuilder,
    /// Place after the last commit that was appended.
    appended: Position,
    /// What targets hold that are ahead of that: the source must have it, whichever server answers (P22).
    held: Holdings,
    /// Place that the source has reached without anything to append.
    idle: Option<Position>,
    last_append: Instant,
    /// Parts of the open transaction were appended.
    open_parts: bool,
    tick: Interval,
    tip: watch::Sender<Option<Position>>,
    status: Arc<Status>,
    stop: watch::Receiver<bool>,
    backoff: Backoff,
}

impl Ingest {
    /// An ingest that goes on after the log's durable position; `held` is what the targets hold.
    pub fn new(
        source: Box<dyn Source>,
        held: Holdings,
        writer: Box<dyn LogWriter>,
        tip: watch::Sender<Option<Position>>,
        status: Arc<Status>,
        stop: watch::Receiver<bool>,
    ) -> Self {
        let durable = writer.durable();
        let appended = durable.borrow().position.clone();
        let mut tick = interval(Duration::from_millis(TIP_INTERVAL_MS.min(POSITION_RECORD_INTERVAL_MS)));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            source,
            writer,
            durable,
            batch: BatchBuilder::new(),
            appended,
            held,
            idle: None,
            last_append: Instant::now(),
            open_parts: false,
            tick,
            tip,
            status,
            stop,
            backoff: Backoff::default(),
        }
    }

    /// Runs until a stop is asked for or an error that retrying does not mend.
    pub async fn run(mut self) -> Result<()> {
        if !self.open().await? {
            return self.writer.close().await;
        }
        loop {
            let event = match self.select().await {
                // Closing tells what it failed of.
                Event::WriterFailed => return self.writer.close().await.and(Err(writer_failed())),
                event => event,
            };
            match self.step(event).await {
                Ok(true) => {}
                Ok(false) => {
                    let left = self.leave().await;
                    return self.writer.close().await.and(left);
                }
                Err(e) if e.is_retryable() => {
                    if !self.reopen(e).await? {
                        return self.writer.close().await;
                    }
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// The source's last look. One that does not answer is left as it is: the next start looks.
    async fn leave(&mut self) -> Result<()> {
        let longest = Duration::from_millis(LEAVE_MS_MAX);
        match tokio::time::timeout(longest, self.source.leave()).await {
            Ok(Err(e)) if !e.is_retryable() => Err(e),
            Ok(Err(e)) => {
                tracing::warn!(error = %e, "The source could not be looked at while ending");
                Ok(())
            }
            Ok(Ok(())) | Err(_) => Ok(()),
        }
    }

    async fn select(&mut self) -> Event {
        tokio::select! {
            biased;
            () = stopped(&mut self.stop) => Event::Stop,
            changed = self.durable.changed() => match changed {
                Ok(()) => Event::Durable(self.durable.borrow_and_update().clone()),
                Err(_) => Event::WriterFailed,
            },
            _ = self.tick.tick() => Event::Tick,
            outcome = self.source.read(&mut self.batch) => Event::Read(outcome),
        }
    }

    /// `false` ends the task in order.
    async fn step(&mut self, event: Event) -> Result<bool> {
        match event {
            Event::Stop => return Ok(false),
            Event::Durable(mark) => {
                self.source.acknowledge(&mark.position).await?;
                self.status.update(|s| s.captured = Some(mark.position));
            }
            Event::WriterFailed => return Err(writer_failed()),
            Event::Tick => self.on_tick().await?,
            Event::Read(Err(e)) => return Err(e),
            Event::Read(Ok(outcome)) => return self.on_read(outcome).await,
        }
        Ok(true)
    }

    async fn on_read(&mut self, outcome: ReadOutcome) -> Result<bool> {
        self.backoff.reset();
        match outcome {
            ReadOutcome::Partial => {
                self.open_parts = true;
                self.append(None).await
            }
            ReadOutcome::Commit { position } => {
                if self.batch.is_empty() && !self.open_parts {
                    self.idle = (position != self.appended).then_some(position);
                    return Ok(true);
                }
                self.open_parts = false;
                self.append(Some(position)).await
            }
            ReadOutcome::Discarded { position } => {
                if self.open_parts {
                    self.writer.discard_open().await?;
                    self.open_parts = false;
                }
                if self.batch.is_empty() { Ok(true) } else { self.append(Some(position)).await }
            }
        }
    }

    /// Appends the batch; `false` if a stop was asked for while the log had no room.
    async fn append(&mut self, position: Option<Position>) -> Result<bool> {
        let rows = self.batch.rows();
        let append = Append { batch: self.batch.seal(), position: position.clone() };
        tokio::select! {
            biased;
            appended = self.writer.append(append) => appended?,
            () = stopped(&mut self.stop) => return Ok(false),
        }
        self.last_append = Instant::now();
        if let Some(position) = position {
            self.appended = position;
            self.idle = None;
        }
        self.status.update(|s| s.rows_captured += rows);
        Ok(true)
    }

    async fn on_tick(&mut self) -> Result<()> {
        let due = self.last_append.elapsed() >= Duration::from_millis(POSITION_RECORD_INTERVAL_MS);
        if due && !self.open_parts && self.batch.is_empty() && self.idle.is_some() {
            let position = self.idle.take();
            self.append(position).await?;
        }
        let tip = tokio::select! {
            biased;
            () = stopped(&mut self.stop) => return Ok(()),
            tip = self.source.tip() => tip,
        };
        // From the answer on: a server that takes longer for it than the interval is still read from in between.
        self.tick.reset();
        let tip = tip?;
        let source = &self.source;
        self.status.update(|s| {
            s.source_tip = Some(tip.clone());
            for sink in s.sinks.values_mut() {
                sink.lag_bytes = sink.position.as_ref().and_then(|p| source.distance_bytes(p, &tip));
            }
        });
        self.tip.send_replace(Some(tip));
        Ok(())
    }

    /// Drops what is not whole and opens the source after the last whole append; `false` on a stop.
    async fn reopen(&mut self, error: Error) -> Result<bool> {
        tracing::warn!(error = %error, "Source unavailable, connecting again");
        self.status.update(|s| s.waiting_for = Some(error.message().to_owned()));
        self.batch = BatchBuilder::new();
        if self.open_parts {
            self.writer.discard_open().await?;
            self.open_parts = false;
        }
        let pause = self.backoff.pause();
        if pause_or_stop(pause, &mut self.stop).await {
            return Ok(false);
        }
        self.open().await
    }

    async fn open(&mut self) -> Result<bool> {
        loop {
            let held = self.held.ahead_of(&self.appended);
            let opened = tokio::select! {
                biased;
                () = stopped(&mut self.stop) => return Ok(false),
                opened = self.source.open(&self.appended, &held) => opened,
            };
            match opened {
                Ok(()) => {
                    self.status.update(|s| s.waiting_for = None);
                    return Ok(true);
                }
                Err(e) if e.is_retryable() => {
                    tracing::warn!(error = %e, "Source unavailable, trying again");
                    self.status.update(|s| s.waiting_for = Some(e.message().to_owned()));
                    let pause = self.backoff.pause().max(Duration::from_millis(RETRY_MS_MIN));
                    if pause_or_stop(pause, &mut self.stop).await {
                        return Ok(false);
                    }
                }
                Err(e) => return Err(e),
            }
        }
    }
}

fn writer_failed() -> Error {
    Error::internal("The log's writer has failed; what was durable is kept")
        .with_hint("See the message of the log above, mend its cause (space, disk) and start freshet again")
}
