//! Packets of a dump into batches: what is at hand is decoded at once, and a batch is handed out at the right place.
//!
//! Select, then step: [`Stream::next`] is the only waiting, [`Stream::step`] the only deciding. Where a batch ends:
//!
//! - past `batch_bytes_target`, at the next commit; where whole transactions are followed by one that is still open,
//!   at the last commit, and the open one's events are carried over into the next batch;
//! - inside a transaction alone in its batch, past `batch_bytes_max`;
//! - at the last commit, as soon as nothing more is at hand, neither in our buffer nor in the socket's;
//! - after the rest of a transaction that was handed out in parts, so that parts share no batch with others;
//! - after [`SILENT_BYTES_MAX`] of events that left nothing in the batch, so that the position is told (T6).
//!
//! Cancelling a read loses nothing: what was decoded stands in the caller's batch, and the packet that is being
//! waited for stays in the buffer.

use freshet_core::codec::{BatchBuilder, OpenEvents};
use freshet_core::error::{Error, Result};
use freshet_core::position::{BinlogPosition, FilePos, Position};
use freshet_core::source::ReadOutcome;

use super::SourceOptions;
use super::failure::{dump_error, ended};
use super::replica::Replica;
use crate::decode::{Decoder, Step};
use crate::wire::{BinlogPackets, Packet, WireError};

/// Events without a captured change are read up to this size before the position that they reached is told.
const SILENT_BYTES_MAX: usize = 4 << 20;

/// One session's stream.
pub(crate) struct Stream {
    packets: BinlogPackets,
    decoder: Decoder,
    batch_bytes_target: usize,
    batch_bytes_max: usize,
    /// Events of an open transaction that did not belong into the last batch.
    carried: Option<OpenEvents>,
    /// An event that did not fit into the last batch, to be decoded on.
    unfinished: Option<Vec<u8>>,
    /// Parts of the open transaction were handed out.
    in_parts: bool,
    /// Where the last transaction or file of this session ended.
    passed: FilePos,
    /// Where the server is, if it is idle behind the last commit.
    idle_at: Option<FilePos>,
    /// The position moved since it was told last.
    moved: bool,
    /// Bytes of events since the last batch.
    silent_bytes: usize,
    /// Positions before this place are told without one: it would not be that of their GTID set.
    exact_from: Option<FilePos>,
}

/// What came.
enum Arrived {
    /// An event was decoded.
    Step(Step),
    /// Nothing more is at hand.
    Nothing,
}

impl Stream {
    pub(crate) fn new(
        packets: BinlogPackets,
        decoder: Decoder,
        options: &SourceOptions,
        exact_from: Option<FilePos>,
    ) -> Self {
        Self {
            packets,
            decoder,
            batch_bytes_target: options.batch_bytes_target,
            batch_bytes_max: options.batch_bytes_max,
            carried: None,
            unfinished: None,
            in_parts: false,
            passed: FilePos::default(),
            idle_at: None,
            moved: false,
            silent_bytes: 0,
            exact_from,
        }
    }

    /// Takes in the server's first packet, which is an error where it refuses the dump.
    pub(crate) async fn greet(&mut self, replica: &mut Replica) -> Result<()> {
        let mut nothing = BatchBuilder::new();
        self.next(&mut nothing, true, replica).await?;
        assert!(nothing.is_empty(), "a dump begins with an artificial event");
        Ok(())
    }

    pub(crate) async fn read(
        &mut self,
        batch: &mut BatchBuilder,
        replica: &mut Replica,
    ) -> Result<ReadOutcome> {
        if let Some(outcome) = self.go_on(batch)? {
            return Ok(outcome);
        }
        loop {
            let may_return = self.holds_a_commit(batch);
            let outcome = match self.next(batch, !may_return, replica).await? {
                Arrived::Step(step) => self.step(step, batch)?,
                Arrived::Nothing => Some(self.hand_out(batch)),
            };
            if let Some(outcome) = outcome {
                return Ok(outcome);
            }
        }
    }

    /// Goes on with what the last batch had no place for.
    fn go_on(&mut self, batch: &mut BatchBuilder) -> Result<Option<ReadOutcome>> {
        if let Some(open) = self.carried.take() {
            batch.put_back(open);
        }
        if batch.in_transaction() && batch.len() >= self.batch_bytes_max {
            return Ok(Some(self.hand_out(batch)));
        }
        let Some(event) = self.unfinished.take() else { return Ok(None) };
        let step = self.decoder.resume(&event, batch)?;
        if step == Step::More {
            self.unfinished = Some(event);
        }
        self.step(step, batch)
    }

    /// Decodes the next event; waits for it only if `must_wait`.
    async fn next(
        &mut self,
        batch: &mut BatchBuilder,
        must_wait: bool,
        replica: &mut Replica,
    ) -> Result<Arrived> {
        let packet = match next_packet(&mut self.packets, must_wait).await {
            Ok(Some(packet)) => packet,
            Ok(None) => return Ok(Arrived::Nothing),
            Err(error) => return Err(dump_error(error, replica)),
        };
        match packet {
            Packet::End => ended(),
            Packet::Event(event) => {
                let step = self.decoder.feed(event, batch)?;
                self.silent_bytes += event.len();
                if step == Step::More {
                    self.unfinished = Some(event.to_vec());
                }
                Ok(Arrived::Step(step))
            }
        }
    }

    /// Whether the batch has come to a place where it is to be handed out.
    fn step(&mut self, step: Step, batch: &mut BatchBuilder) -> Result<Option<ReadOutcome>> {
        Ok(match step {
            Step::Nothing => None,
            Step::InTransaction => {
                let is_full = batch.len() >= self.batch_bytes_max
                    || (batch.len() >= self.batch_bytes_target && batch.has_commit());
                is_full.then(|| self.hand_out(batch))
            }
            Step::More => Some(self.hand_out(batch)),
            Step::Commit { wrote: _ } => {
                self.advance()?;
                let is_full = batch.len() >= self.batch_bytes_target || self.silent_bytes >= SILENT_BYTES_MAX;
                (is_full || self.in_parts).then(|| self.hand_out(batch))
            }
            Step::Rotated => {
                self.advance()?;
                None
            }
            Step::Heartbeat { at } => {
                self.idle_until(at);
                None
            }
            Step::Discarded => {
                self.in_parts = false;
                self.silent_bytes = 0;
                Some(ReadOutcome::Discarded { position: self.position() })
            }
        })
    }

    /// The decoder's position moved. Within a session it only grows: a server whose binlog was reset goes on with its
    /// first file, and nobody knows what it deleted before sending it (P16).
    fn advance(&mut self) -> Result<()> {
        let reached = &self.decoder.binlog_position().file;
        if reached.file == self.passed.file && reached.pos > self.passed.pos {
            self.passed.pos = reached.pos;
        } else if self.passed.file.is_empty() || *reached > self.passed {
            self.passed.clone_from(reached);
        } else {
            let what = format!("The binlog went on at {reached} after {}: it was reset", self.passed);
            return Err(
                Error::resync(what).with_hint("Load again: what it held before may not have been read")
            );
        }
        (self.moved, self.idle_at) = (true, None);
        Ok(())
    }

    /// Whether there is something to tell: a whole transaction, or a position that moved outside one.
    fn holds_a_commit(&self, batch: &BatchBuilder) -> bool {
        batch.has_commit() || (self.moved && batch.is_empty() && !self.in_parts)
    }

    /// Ends the batch here, at its last commit if it has one.
    fn hand_out(&mut self, batch: &mut BatchBuilder) -> ReadOutcome {
        self.silent_bytes = 0;
        self.carried = batch.take_open();
        if batch.in_transaction() {
            self.in_parts = true;
            return ReadOutcome::Partial;
        }
        self.in_parts = false;
        self.moved = false;
        ReadOutcome::Commit { position: self.position() }
    }

    /// The server has sent everything before `at`: what lies between the last commit and there (events of its own
    /// housekeeping, or transactions that we had already) is no lag. It never moves backwards (P15: a heartbeat may
    /// hold no position at all).
    fn idle_until(&mut self, at: FilePos) {
        let known = self.idle_at.as_ref().unwrap_or(&self.decoder.binlog_position().file);
        let is_later = known.file.is_empty() || *known < at;
        if is_later && at.pos > 0 && !self.decoder.in_transaction() {
            (self.moved, self.idle_at) = (true, Some(at));
        }
    }

    /// The place that everything before has been handed out: without file and position as long as those are not the
    /// place of the GTID set. Every outcome's position is made here.
    fn position(&self) -> Position {
        let last_commit = self.decoder.binlog_position();
        let reached = self.idle_at.as_ref().unwrap_or(&last_commit.file);
        let is_exact = self.exact_from.as_ref().is_none_or(|exact_from| reached >= exact_from);
        let file = if is_exact { reached.clone() } else { FilePos::default() };
        Position::Binlog(BinlogPosition {
            server: last_commit.server.clone(),
            file,
            gtids: last_commit.gtids.clone(),
        })
    }
}

/// The next packet; `None` if nothing is at hand and it need not be waited for.
async fn next_packet(packets: &mut BinlogPackets, must_wait: bool) -> Result<Option<Packet<'_>>, WireError> {
    if must_wait {
        return packets.next().await.map(Some);
    }
    tokio::select! {
        biased;
        packet = packets.next() => packet.map(Some),
        () = std::future::ready(()) => Ok(None),
    }
}
