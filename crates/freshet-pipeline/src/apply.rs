//! From the log to one target: gathers records into windows and applies them, exactly once.
//!
//! The only state that counts is the checkpoint that a take-over returned; everything here can be thrown away and
//! made again from it. A window that fails in bulk is replayed in source order from the checkpoint, so that the
//! error names one row; a transaction larger than a window is applied in parts of one target transaction.

use crate::bounds::{REPLAYS_MAX, WINDOW_BYTES_MAX};
use crate::net::{Held, Rigour, Tables, WindowBuilder};
use crate::retry::{passed_high, reached, stopped};
use crate::status::{Phase, Status};
use freshet_core::log::{Log, LogReader, Record};
use freshet_core::sink::{Applied, Sink, TablePlan};
use freshet_core::window::Counts;
use freshet_core::{Error, ErrorKind, Mark, Offset, Position, Result, TableName};
use std::collections::HashSet;
use std::sync::Arc;
use tokio::sync::watch;

/// Why applying ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// A stop was asked for.
    Stopped,
    /// Everything up to the goal is durable on the target.
    CaughtUp,
}

/// What one sink applies with.
pub struct Applier<'a> {
    /// Sink's name.
    pub name: &'a str,
    /// Sink.
    pub sink: &'a mut dyn Sink,
    /// Log.
    pub log: &'a Arc<dyn Log>,
    /// Tables.
    pub plans: &'a [TablePlan],
    /// Row changes after which a window takes no more records.
    pub window_rows: u64,
    /// Tables that were read at one place, so that every change that they do not hold is strict.
    pub exact: HashSet<TableName>,
    /// F_high while the tables are not consistent yet.
    pub high: Option<Position>,
    /// What the target holds beyond its place on the log. It is left out, and until the log has passed what a sink
    /// skips the checkpoint goes on saying that it is there.
    pub held: Held,
    /// Where to stop; `None` inside while it is not known yet.
    pub goal: watch::Receiver<Option<Position>>,
    /// Told the first offset not applied.
    pub applied: &'a watch::Sender<Option<Offset>>,
    /// Status.
    pub status: &'a Status,
    /// Stop.
    pub stop: watch::Receiver<bool>,
    /// Windows that begin before this offset are applied in order.
    pub ordered_before: &'a mut Offset,
    /// Replays since the last progress.
    pub replays: &'a mut u32,
}

/// Where an applier is.
struct Progress {
    reader: Box<dyn LogReader>,
    /// A record read and not used yet.
    ahead: Option<Record>,
    /// First offset not handed to the sink.
    next: Offset,
    durable: Mark,
    /// A window is under way at the sink: the mark it ends at, `None` for a part.
    in_flight: Option<Option<Mark>>,
    /// Parts of a transaction were applied, uncommitted.
    in_parts: bool,
}

enum Event {
    Record(Record),
    Goal,
    Stop,
}

impl Applier<'_> {
    /// Applies from `from`, the checkpoint's mark, until the goal or a stop. On `Reorder` the caller takes the
    /// sink over and calls again; the windows up to the failed one then go in order.
    pub async fn run(&mut self, from: Mark) -> Result<Ended> {
        let tables = Tables::new(self.plans, |table| self.exact.contains(table));
        let reader = self.log.reader(from.next).await?;
        let mut at = Progress {
            reader,
            ahead: None,
            next: from.next,
            durable: from,
            in_flight: None,
            in_parts: false,
        };
        self.report(&at.durable);
        self.on_durable(&at.durable.clone()).await?;
        loop {
            if self.goal_reached(&at.durable) {
                self.settle(&mut at).await?;
                return Ok(Ended::CaughtUp);
            }
            match self.select(&mut at).await? {
                Event::Stop if at.in_parts => self.sink.rollback().await.map(|()| Ended::Stopped)?,
                Event::Stop => return Ok(Ended::Stopped),
                Event::Goal => continue,
                Event::Record(first) => match self.window(&tables, &mut at, first).await {
                    Ok(()) => continue,
                    Err(e) => return Err(self.on_error(e, &at)),
                },
            };
            return Ok(Ended::Stopped);
        }
    }

    /// The next record; while nothing more is durable, the window under way is waited for first.
    async fn select(&mut self, at: &mut Progress) -> Result<Event> {
        if *self.stop.borrow() {
            self.settle(at).await?;
            return Ok(Event::Stop);
        }
        if let Some(record) = at.ahead.take() {
            return Ok(Event::Record(record));
        }
        if let Some(record) = at.reader.try_next().await? {
            return Ok(Event::Record(record));
        }
        if at.in_flight.is_some() {
            self.settle(at).await?;
            return Ok(Event::Goal);
        }
        Ok(tokio::select! {
            biased;
            () = stopped(&mut self.stop) => Event::Stop,
            record = at.reader.next() => Event::Record(record?),
            Ok(()) = self.goal.changed() => Event::Goal,
        })
    }

    /// Gathers a window that starts with `first` and hands it to the sink.
    async fn window(&mut self, tables: &Tables, at: &mut Progress, first: Record) -> Result<()> {
        let rigour = self.rigour(&at.durable);
        let ordered = first.offset < *self.ordered_before;
        let mut whole = first.position.is_some();
        let mut next = first.next;
        let mut builder = WindowBuilder::new(tables, rigour, &mut self.held);
        builder.look_ahead(&first, self.log).await?;
        builder.add(first)?;
        gather(&mut builder, self.log, at, self.window_rows, &mut whole, &mut next).await?;
        let (mut window, by_table) = builder.finish(ordered)?;
        self.held.join(window.end.as_mut())?;
        let (counts, commit_us) = (window.changes, window.commit_us);
        at.next = next;
        at.in_parts = !whole;
        let end = window.end.clone();
        let applied = self.sink.apply(window).await?;
        self.count(counts, commit_us, by_table);
        // At most one window is under way: the one before this is durable now.
        let before = at.in_flight.take().flatten();
        let durable = match applied {
            Applied::Accepted => {
                at.in_flight = Some(end);
                before
            }
            Applied::Durable(mark) => Some(mark),
        };
        if let Some(mark) = durable {
            self.on_mark(at, mark).await?;
        }
        if rigour == Rigour::Idempotent && whole {
            self.settle(at).await?;
        }
        Ok(())
    }

    fn rigour(&self, durable: &Mark) -> Rigour {
        match &self.high {
            Some(high) if !passed_high(&durable.position, high) => Rigour::Idempotent,
            Some(_) | None => Rigour::Strict,
        }
    }

    /// Waits for the window under way.
    async fn settle(&mut self, at: &mut Progress) -> Result<()> {
        if at.in_flight.is_none() {
            return Ok(());
        }
        at.in_flight = None;
        match self.sink.flush().await {
            Ok(Some(mark)) => self.on_mark(at, mark).await,
            Ok(None) => Ok(()),
            Err(e) => Err(self.on_error(e, at)),
        }
    }

    async fn on_mark(&mut self, at: &mut Progress, mark: Mark) -> Result<()> {
        assert!(at.durable.next <= mark.next, "a checkpoint only grows within an epoch");
        assert!(
            mark.next <= self.log.bounds().durable.next,
            "nothing is applied that is not durable in the log"
        );
        at.durable = mark;
        *self.replays = 0;
        self.report(&at.durable);
        let durable = at.durable.clone();
        self.on_durable(&durable).await
    }

    /// What follows from the checkpoint's place: consistency at F_high.
    async fn on_durable(&mut self, durable: &Mark) -> Result<()> {
        if self.high.as_ref().is_some_and(|high| passed_high(&durable.position, high)) {
            let refused = self.sink.make_consistent(self.plans).await?;
            self.high = None;
            let plans = self.plans;
            self.status.sink(self.name, |s| {
                s.phase = Phase::Streaming;
                s.not_carried.extend(refused);
                for plan in plans {
                    s.tables.entry(plan.info.name().clone()).or_default().phase = Phase::Streaming;
                }
            });
        }
        Ok(())
    }

    /// A sink that skips goes on until its place on the log is there too: what it holds of the log is not trimmed, and
    /// others may wait for that room.
    fn goal_reached(&self, durable: &Mark) -> bool {
        self.high.is_none()
            && !self.held.is_ahead()
            && self.goal.borrow().as_ref().is_some_and(|goal| reached(&durable.position, goal))
    }

    /// A window that is to be replayed in order, but not for ever.
    fn on_error(&mut self, error: Error, at: &Progress) -> Error {
        if *error.kind() != ErrorKind::Reorder {
            return error;
        }
        // A later window than before is progress, also within one transaction, where no mark tells it.
        *self.replays = if at.next > *self.ordered_before { 0 } else { *self.replays + 1 };
        if *self.replays > REPLAYS_MAX {
            return Error::internal(format!(
                "A window before offset {} fails in bulk and in order alike: {}",
                at.next,
                error.message()
            ));
        }
        *self.ordered_before = at.next.max(*self.ordered_before);
        error
    }

    fn report(&self, mark: &Mark) {
        self.applied.send_replace(Some(mark.next));
        self.status.sink(self.name, |s| {
            s.applied = Some(mark.next);
            s.position = Some(mark.position.clone());
            s.waiting_for = None;
        });
    }

    fn count(&self, changes: Counts, commit_us: i64, tables: Vec<(TableName, Counts)>) {
        self.status.sink(self.name, |s| {
            add(&mut s.changes, changes);
            s.commit_us = s.commit_us.max(commit_us);
            for (table, counts) in tables {
                add(&mut s.tables.entry(table).or_default().changes, counts);
            }
        });
    }
}

/// Adds what is durable already, whole transactions only, up to the window's bounds.
async fn gather(
    builder: &mut WindowBuilder<'_>,
    log: &Arc<dyn Log>,
    at: &mut Progress,
    window_rows: u64,
    whole: &mut bool,
    next: &mut Offset,
) -> Result<()> {
    while builder.rows() < window_rows && builder.bytes() < WINDOW_BYTES_MAX {
        let Some(record) = at.reader.try_next().await? else { break };
        if *whole && record.position.is_none() {
            // A transaction in parts has a window, and more than one, of its own.
            at.ahead = Some(record);
            break;
        }
        let was_open = !*whole;
        *whole = record.position.is_some();
        *next = record.next;
        builder.look_ahead(&record, log).await?;
        builder.add(record)?;
        if was_open && *whole {
            break;
        }
    }
    Ok(())
}

fn add(to: &mut Counts, more: Counts) {
    to.inserts += more.inserts;
    to.updates += more.updates;
    to.deletes += more.deletes;
}
