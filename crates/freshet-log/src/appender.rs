//! The writing thread: takes all that is queued, writes it with few system calls, syncs once, moves the durable mark.
//!
//! Group commit without a linger: while one sync runs the queue fills, and the next round takes all of it. The thread
//! owns the active segment. It never retries a failed write or sync: it cuts the log back to the durable mark, as far
//! as the disk lets it, and ends; recovery decides on the rest.

use crate::bounds::{RECORD_BYTES_MAX, UNSYNCED_BYTES_MAX};
use crate::error::{LogError, Result};
use crate::files::{create_segment, segment_path};
use crate::format::{
    FLAG_COMMIT, FLAG_CONTINUES, FLAG_SCHEMAS, RECORD_HEADER_BYTES, RecordHeader, Seed, SegmentHeader,
};
use crate::queue::{Command, Queue, Queued, Work};
use crate::schemas::{Announced, LiveSchemas};
use crate::shared::{Segment, Shared};
use crate::tail::Place;
use bytes::Bytes;
use freshet_core::codec::{BatchBuilder, FORMAT_VERSION};
use freshet_core::{Error, LogEpoch, LogId, Mark, Offset, TableSchema};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{IoSlice, Write as _};
use std::ops::Range;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, watch};

pub(crate) struct Appender {
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    durable: watch::Sender<Mark>,
    id: LogId,
    seed: Seed,
    epoch: LogEpoch,
    file: File,
    /// First offset and bytes of the active segment, counting what waits in `pending`.
    segment: (Offset, u64),
    next: Offset,
    /// The last commit that was written.
    commit: Place,
    live: LiveSchemas,
    /// Schemas that only the open transaction has announced.
    open_schemas: Vec<Announced>,
    pending: Pending,
    unsynced_bytes: u64,
}

/// Records that are not written yet: headers in one buffer, payloads as they came.
#[derive(Default)]
struct Pending {
    heads: Vec<u8>,
    records: Vec<(Range<usize>, Bytes)>,
    /// Given back once the records are written: until then they count as queued.
    permits: Vec<OwnedSemaphorePermit>,
}

impl Appender {
    /// An appender that goes on right after the durable place, at which `file` stands.
    pub(crate) fn new(
        shared: Arc<Shared>,
        queue: Arc<Queue>,
        durable: watch::Sender<Mark>,
        file: File,
        live: LiveSchemas,
    ) -> Self {
        let commit = Place::clone(&shared.durable());
        let (id, epoch) = {
            let state = shared.state();
            (state.meta.id, state.meta.epoch)
        };
        Self {
            queue,
            durable,
            id,
            seed: Seed::of(id),
            epoch,
            file,
            segment: (commit.segment, commit.bytes),
            next: commit.mark.next,
            commit,
            live,
            open_schemas: Vec::new(),
            pending: Pending::default(),
            unsynced_bytes: 0,
            shared,
        }
    }

    /// Runs until closed, abandoned, fenced or failed.
    pub(crate) fn run(mut self) {
        loop {
            let work = self.queue.take();
            match self.step(work) {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => return self.fail(error.into()),
            }
        }
    }

    /// `false` ends the thread in order.
    fn step(&mut self, work: Work) -> Result<bool> {
        match work {
            Work::Commands(commands) => self.carry_out(commands),
            Work::Abandoned | Work::Fenced => Ok(false),
        }
    }

    fn carry_out(&mut self, commands: VecDeque<Command>) -> Result<bool> {
        if commands.iter().any(|command| matches!(command, Command::Append(_))) {
            self.check_disk()?;
        }
        for command in commands {
            match command {
                Command::Append(queued) => self.append(queued)?,
                Command::Discard(done) => {
                    self.discard()?;
                    let _ = done.send(());
                }
                Command::Roll(done) => {
                    self.roll_now()?;
                    let _ = done.send(());
                }
                Command::Close(done) => {
                    self.close()?;
                    let _ = done.send(());
                    return Ok(false);
                }
            }
        }
        self.flush()?;
        let commits = self.commit.mark.next > self.shared.durable().mark.next;
        if commits || self.unsynced_bytes >= UNSYNCED_BYTES_MAX {
            self.sync()?;
        }
        Ok(true)
    }

    fn fail(&self, error: Error) {
        tracing::error!(error = %error, "The log cannot be written any more");
        self.queue.fail(error);
        // Pages of a failed sync may look clean in the cache: nothing that was not durable may be found again.
        let durable = self.shared.durable();
        if let Err(error) = self.shared.rewind(&durable) {
            tracing::warn!(error = %error, "Cannot cut the log back to its durable mark, recovery will");
        }
    }

    /// Leaves the rest of the disk to others (1.9).
    fn check_disk(&self) -> Result<()> {
        let (dir, min) = (&self.shared.dir, self.shared.options.disk_free_bytes_min);
        let stat =
            rustix::fs::statvfs(dir).map_err(|e| LogError::io("look at the disk of", dir)(e.into()))?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        if free < min { Err(LogError::DiskLow { dir: dir.clone(), free, min }) } else { Ok(()) }
    }

    /// Turns a batch into records.
    fn append(&mut self, queued: Queued) -> Result<()> {
        let part_bytes_max = self.shared.options.record_bytes_max;
        let payload = queued.batch.bytes();
        let parts = payload.len().div_ceil(part_bytes_max).max(1);
        for schema in &queued.schemas {
            if self.live.announce(schema)? {
                self.open_schemas.push(schema.clone());
            }
        }
        for part in 0..parts {
            let last = part + 1 == parts;
            let range = part * part_bytes_max..payload.len().min((part + 1) * part_bytes_max);
            let mut flags = 0;
            flags |= if last { 0 } else { FLAG_CONTINUES };
            flags |= if last && queued.position.is_some() { FLAG_COMMIT } else { 0 };
            flags |= if queued.schemas.is_empty() { 0 } else { FLAG_SCHEMAS };
            let position = queued.position.as_ref().filter(|_| last).map_or("", |(_, text)| text);
            let rows = queued.batch.rows();
            self.record(payload.slice(range), flags, rows, part as u32, position)?;
        }
        self.pending.permits.extend(queued.permit);
        if let Some((position, _)) = queued.position {
            let mark = Mark { next: self.next, position };
            self.commit = Place { mark, segment: self.segment.0, bytes: self.segment.1 };
            self.open_schemas.clear();
        }
        Ok(())
    }

    fn record(&mut self, payload: Bytes, flags: u16, rows: u64, part: u32, position: &str) -> Result<()> {
        let has_records = self.next > self.segment.0;
        if has_records && self.segment.1 >= self.shared.options.roll_at_bytes() {
            self.roll()?;
        }
        let header = RecordHeader {
            payload_crc: crc32c::crc32c(&payload),
            payload_bytes: payload.len() as u32,
            offset: self.next,
            epoch: self.epoch,
            durable: self.shared.durable().mark.next,
            rows,
            position_bytes: position.len() as u32,
            flags,
            row_version: FORMAT_VERSION,
            part,
        };
        let from = self.pending.heads.len();
        header.encode(self.seed, position, &mut self.pending.heads);
        self.pending.records.push((from..self.pending.heads.len(), payload));
        self.segment.1 += header.record_bytes();
        self.next = self.next.next();
        Ok(())
    }

    /// Writes what is pending.
    fn flush(&mut self) -> Result<()> {
        if self.pending.records.is_empty() {
            return Ok(());
        }
        let Pending { heads, records, permits: _ } = &self.pending;
        let pieces = records.iter().flat_map(|(head, payload)| [&heads[head.clone()], &payload[..]]);
        let mut slices: Vec<IoSlice<'_>> = pieces.map(IoSlice::new).collect();
        let mut rest = &mut slices[..];
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            match self.file.write_vectored(rest) {
                Ok(written) => {
                    self.unsynced_bytes += written as u64;
                    IoSlice::advance_slices(&mut rest, written);
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(LogError::io("write", &self.path())(e)),
            }
        }
        self.pending.heads.clear();
        self.pending.records.clear();
        self.pending.permits.clear();
        if let Some(active) = self.shared.state().segments.back_mut() {
            active.bytes = self.segment.1;
        }
        Ok(())
    }

    /// Everything written is on disk after this; moves the mark to the last commit of it.
    fn sync(&mut self) -> Result<()> {
        self.file.sync_data().map_err(|e| LogError::io("sync", &self.path())(e))?;
        self.unsynced_bytes = 0;
        self.publish();
        Ok(())
    }

    fn publish(&self) {
        if *self.shared.durable() == self.commit {
            return;
        }
        self.shared.publish(self.commit.clone(), self.next);
        self.durable.send_if_modified(|mark| {
            let moved = *mark != self.commit.mark;
            mark.clone_from(&self.commit.mark);
            moved
        });
    }

    /// Leaves the active segment, whole and synced, for a new one.
    fn roll(&mut self) -> Result<()> {
        self.flush()?;
        self.sync()?;
        let inside = self.commit.mark.next != self.next;
        let header = SegmentHeader {
            id: self.id,
            epoch: self.epoch,
            first: self.next,
            durable: self.shared.durable().mark.next,
            previous: self.segment,
            inside,
            start: self.commit.mark.position.clone(),
            schemas: self.live.encoded(),
        };
        let (file, bytes) = create_segment(&self.shared.dir, &header)?;
        let segment = Segment { first: header.first, start: header.start, inside, bytes };
        self.shared.state().segments.push_back(segment);
        self.shared.space.send_modify(|space| *space += bytes);
        (self.file, self.segment) = (file, (self.next, bytes));
        if !inside {
            // The mark is the same, its place is the new segment: the old one may go when it is applied.
            (self.commit.segment, self.commit.bytes) = self.segment;
            self.publish();
        }
        Ok(())
    }

    /// A new segment so that the full one can be trimmed, unless it has nothing or a transaction is open.
    fn roll_now(&mut self) -> Result<()> {
        if self.next > self.segment.0 && self.commit.mark.next == self.next { self.roll() } else { Ok(()) }
    }

    /// Cuts off the open transaction.
    fn discard(&mut self) -> Result<()> {
        self.flush()?;
        if self.commit.mark.next == self.next {
            return Ok(());
        }
        self.file = self.shared.rewind(&self.commit)?;
        (self.segment, self.next) = ((self.commit.segment, self.commit.bytes), self.commit.mark.next);
        self.unsynced_bytes = 0;
        self.publish();
        self.announce_again()
    }

    /// A schema announced in what was cut off may be used without being announced again (the source's session goes
    /// on): a record of its own, at the commit that stands, brings it back.
    fn announce_again(&mut self) -> Result<()> {
        let schemas = std::mem::take(&mut self.open_schemas);
        if schemas.is_empty() {
            return Ok(());
        }
        let mut builder = BatchBuilder::new();
        for schema in &schemas {
            builder.schema(&TableSchema::decode(&schema.encoded)?);
        }
        let (batch, position) = (builder.seal(), self.commit.mark.position.clone());
        let text = position.to_string();
        let bytes = append_bytes(batch.bytes().len(), text.len(), RECORD_BYTES_MAX);
        self.shared.space.send_modify(|space| *space += bytes);
        self.append(Queued { batch, position: Some((position, text)), schemas, permit: None })
    }

    fn close(&mut self) -> Result<()> {
        self.discard()?;
        self.flush()?;
        self.sync()?;
        self.shared.update_meta(|_| {})
    }

    fn path(&self) -> std::path::PathBuf {
        segment_path(&self.shared.dir, self.segment.0)
    }
}

impl Drop for Appender {
    /// Whoever waits is answered, also after a panic; an earlier reason stays.
    fn drop(&mut self) {
        self.queue.fail(Error::internal("The log's writing thread has ended"));
    }
}

/// Bytes that a batch takes in the log.
pub(crate) fn append_bytes(payload_bytes: usize, position_bytes: usize, record_bytes_max: usize) -> u64 {
    let records = payload_bytes.div_ceil(record_bytes_max).max(1);
    (records * RECORD_HEADER_BYTES + payload_bytes + position_bytes) as u64
}
