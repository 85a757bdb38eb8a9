//! Looks at a log directory without its lock, whether a pipeline runs on it or not: `freshet log ls | cat | verify`.
//!
//! Read-only. What a running writer has under way looks like a torn tail here, which is normal: it is told apart from
//! damage by the same rule that recovery follows (`tail`).

use crate::assemble::Assembly;
use crate::bounds::READ_BYTES;
use crate::cursor::{Cursor, Step};
use crate::error::{LogError, Result as LogResult};
use crate::files::{list_segments, read_meta, segment_path};
use crate::format::{FLAG_SCHEMAS, Meta};
use crate::schemas::add_all;
use crate::tail::{self, Look, Place, Scan, SegmentFile, Torn};
use freshet_core::log::{Inherited, Record};
use freshet_core::{Error, LogEpoch, LogId, Mark, Offset, Position, Result, SchemaMap};
use std::path::{Path, PathBuf};

/// A running pipeline may trim between two looks: then look again, so often.
const LOOKS_MAX: u32 = 5;

/// What a log directory holds.
#[derive(Clone, Debug)]
pub struct Listing {
    /// Identity.
    pub id: LogId,
    /// Epoch of the last writer.
    pub epoch: LogEpoch,
    /// Mark with which the log was begun.
    pub start: Mark,
    /// Checkpoints that it was begun from.
    pub inherited: Vec<Inherited>,
    /// Its segments, in order.
    pub segments: Vec<SegmentListing>,
    /// The last commit: where a restart would go on, unless the tail is still being written.
    pub last_commit: Option<Mark>,
    /// What follows the last commit.
    pub tail: TailState,
}

/// One segment.
#[derive(Clone, Debug)]
pub struct SegmentListing {
    /// File.
    pub path: PathBuf,
    /// First offset.
    pub first: Offset,
    /// Offset after its last intact record.
    pub next: Offset,
    /// Records.
    pub records: u64,
    /// Row changes.
    pub rows: u64,
    /// Records that end at a commit.
    pub commits: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Position of the last commit before its first record.
    pub start: Position,
    /// Position of the last commit in it; `None` if it lies within one transaction.
    pub end: Option<Position>,
    /// Largest epoch of its records.
    pub epoch: LogEpoch,
}

/// What stands after the last commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TailState {
    /// Nothing.
    Whole,
    /// Parts of a transaction that is not complete; a restart cuts them off.
    Open {
        /// Records of it.
        records: u64,
    },
    /// Bytes that are no whole record: a write under way, or one that a crash cut short. A restart cuts them off.
    Torn {
        /// File.
        path: PathBuf,
        /// Offset that the record would have.
        offset: Offset,
        /// Byte at which it would begin.
        byte: u64,
        /// What is wrong with it.
        what: &'static str,
    },
}

/// What [`verify`] found.
#[derive(Clone, Debug)]
pub struct Verification {
    /// The log, as far as it can be read.
    pub listing: Listing,
    /// Everything that is wrong before the durable mark, and every broken link; empty for a log in order.
    pub damage: Vec<Error>,
}

/// A record with what its header says beyond [`Record`].
#[derive(Clone, Debug)]
pub struct Inspected {
    /// The record.
    pub record: Record,
    /// Epoch of the writer that wrote it.
    pub epoch: LogEpoch,
    /// First offset of the segment that its last part is in.
    pub segment: Offset,
}

/// Lists the segments, by their headers and the headers of their records; `None` if no log is there. Damage is not
/// looked for: a log that [`verify`] finds fault with is listed as far as it goes.
pub fn list(dir: &Path) -> Result<Option<Listing>> {
    look(|| survey(dir, Look::Headers)).map(|found| found.map(|verification| verification.listing))
}

/// Reads everything and checks every checksum, the order of offsets and epochs, and the chain of segments; `None` if
/// no log is there.
pub fn verify(dir: &Path) -> Result<Option<Verification>> {
    let found = look(|| survey(dir, Look::Whole))?;
    match found {
        // A running writer may have cut its tail off and written it anew in the middle of the look.
        Some(found) if !found.damage.is_empty() => look(|| survey(dir, Look::Whole)),
        found => Ok(found),
    }
}

/// The records from offset `from` on (from the first one there is, if `None`), up to the last commit. A record that is
/// not the first of its batch counts as the batch. `None` if no log is there.
pub fn records(dir: &Path, from: Option<Offset>) -> Result<Option<Records>> {
    look(|| Records::open(dir, from))
}

fn look<T>(what: impl Fn() -> LogResult<T>) -> Result<T> {
    let mut looks = 0;
    loop {
        looks += 1;
        match what() {
            Err(e) if looks < LOOKS_MAX && (e.is_not_found() || matches!(e, LogError::Missing { .. })) => {}
            result => return Ok(result?),
        }
    }
}

fn survey(dir: &Path, look: Look) -> LogResult<Option<Verification>> {
    let Some(meta) = read_meta(dir)? else { return Ok(None) };
    let firsts = list_segments(dir)?;
    let mut damage: Vec<Error> = Vec::new();
    let mut found: Vec<(SegmentFile, Scan)> = Vec::new();
    for first in firsts.into_iter().filter(|first| *first >= meta.trimmed) {
        match survey_segment(dir, &meta, first, look, found.last().map(|(file, _)| file)) {
            Ok((file, scan, broken)) => {
                damage.extend(broken.map(Error::from));
                found.push((file, scan));
            }
            Err(e @ LogError::Header { .. }) => damage.push(e.into()),
            Err(e) => return Err(e),
        }
    }
    if found.is_empty() && damage.is_empty() {
        return Err(LogError::Missing { dir: dir.to_owned(), first: meta.trimmed });
    }
    let last_commit = found.iter().rev().find_map(|(_, scan)| scan.last.clone());
    let claim = found.iter().map(|(_, scan)| scan.claim).max().unwrap_or_default().max(meta.durable);
    let torn: Vec<&Torn> = found.iter().filter_map(|(_, scan)| scan.torn.as_ref()).collect();
    damage.extend(torn.iter().filter(|torn| torn.offset < claim).map(|torn| tail::damage(torn).into()));
    let end = last_commit.as_ref().map_or(meta.trimmed, |place| place.mark.next);
    if end < claim && damage.is_empty() {
        damage.push(cut_off(dir, &meta, last_commit.as_ref(), claim).into());
    }
    let tail = tail_state(&found, end);
    let segments = found.iter().map(|(file, scan)| listing(dir, file, scan)).collect();
    let last_commit = last_commit.map(|place| place.mark);
    let Meta { id, epoch, start, inherited, .. } = meta;
    let listing = Listing { id, epoch, start, inherited, segments, last_commit, tail };
    Ok(Some(Verification { listing, damage }))
}

type Surveyed = (SegmentFile, Scan, Option<LogError>);

fn survey_segment(
    dir: &Path,
    meta: &Meta,
    first: Offset,
    look: Look,
    previous: Option<&SegmentFile>,
) -> LogResult<Surveyed> {
    let cursor = Cursor::open(dir, first, READ_BYTES)?;
    let file = SegmentFile { bytes: cursor.limit(), header: cursor.header.clone() };
    let broken = match tail::check_link(dir, meta, previous, &file) {
        // A segment was trimmed between two looks: look again.
        Err(e @ LogError::Missing { .. }) if previous.is_none() => return Err(e),
        link => link.err(),
    };
    let scan = tail::scan(dir, first, look)?;
    Ok((file, scan, broken))
}

/// The log ends before what was durable.
fn cut_off(dir: &Path, meta: &Meta, last: Option<&Place>, claim: Offset) -> LogError {
    let segment = last.map_or(meta.trimmed, |place| place.segment);
    let (offset, byte) = last.map_or((meta.trimmed, 0), |place| (place.mark.next, place.bytes));
    let what = format!("it ends here, and everything before offset {claim} was durable");
    LogError::Damaged { path: segment_path(dir, segment), offset, byte, what }
}

fn tail_state(found: &[(SegmentFile, Scan)], end: Offset) -> TailState {
    let last = found.last().map(|(_, scan)| scan);
    if let Some(torn) = last.and_then(|scan| scan.torn.as_ref()) {
        let Torn { path, offset, byte, what } = torn.clone();
        return TailState::Torn { path, offset, byte, what };
    }
    let next = last.map_or(end, |scan| scan.next);
    match next.0.saturating_sub(end.0) {
        0 => TailState::Whole,
        records => TailState::Open { records },
    }
}

fn listing(dir: &Path, file: &SegmentFile, scan: &Scan) -> SegmentListing {
    let first = file.header.first;
    let end = scan.last.as_ref().filter(|place| place.mark.next > first);
    SegmentListing {
        path: segment_path(dir, first),
        first,
        next: scan.next,
        records: scan.records,
        rows: scan.rows,
        commits: scan.commits,
        bytes: file.bytes,
        start: file.header.start.clone(),
        end: end.map(|place| place.mark.position.clone()),
        epoch: scan.epoch,
    }
}

/// Iterator over the records of a log directory. After an error it ends.
#[derive(Debug)]
pub struct Records {
    dir: PathBuf,
    /// First offset of every segment that was there.
    firsts: Vec<Offset>,
    cursor: Cursor,
    schemas: SchemaMap,
    from: Offset,
    /// First offset that is not shown: after the last commit. `None` if the log is damaged: then as far as it goes.
    end: Option<Offset>,
    done: bool,
}

impl Records {
    fn open(dir: &Path, from: Option<Offset>) -> LogResult<Option<Self>> {
        let Some(meta) = read_meta(dir)? else { return Ok(None) };
        let firsts: Vec<Offset> =
            list_segments(dir)?.into_iter().filter(|first| *first >= meta.trimmed).collect();
        let end = match tail::read_chain(dir, &meta, &firsts).and_then(|chain| tail::find(dir, &meta, &chain))
        {
            Ok(tail) => Some(tail.place.mark.next),
            Err(LogError::Damaged { .. }) => None,
            Err(e) => return Err(e),
        };
        let from = from.unwrap_or(meta.trimmed).max(meta.trimmed);
        let mut cursor = None;
        for first in firsts.iter().rev().filter(|first| **first <= from) {
            let opened = Cursor::open(dir, *first, READ_BYTES)?;
            // A batch may have begun in the segment before.
            let begins_whole = !opened.header.inside;
            cursor = Some(opened);
            if begins_whole {
                break;
            }
        }
        let cursor = cursor.ok_or_else(|| LogError::Missing { dir: dir.to_owned(), first: meta.trimmed })?;
        let mut schemas = SchemaMap::default();
        add_all(&mut schemas, &cursor.header.schemas)?;
        Ok(Some(Self { dir: dir.to_owned(), firsts, cursor, schemas, from, end, done: false }))
    }

    fn read(&mut self) -> LogResult<Option<Inspected>> {
        let mut assembly = Assembly::default();
        loop {
            if self.end.is_some_and(|end| self.cursor.next >= end) {
                return Ok(None);
            }
            let framed = match self.cursor.step()? {
                Step::Record(framed) => framed,
                Step::Bad(what) => return Err(self.cursor.damaged(what)),
                Step::End if self.enter_next()? => continue,
                Step::End => return Ok(None),
            };
            let payload = self.cursor.payload(&framed)?;
            let payload =
                payload.ok_or_else(|| self.cursor.damaged("its payload's checksum does not match"))?;
            let position = framed.position().map_err(|what| self.cursor.damaged(what))?;
            let whole = assembly.add(&framed, payload, position).map_err(|what| self.cursor.damaged(what))?;
            self.cursor.advance(&framed);
            let Some(mut record) = whole else { continue };
            if framed.header.is(FLAG_SCHEMAS) {
                record.batch.collect_schemas(&mut self.schemas)?;
            }
            if record.next <= self.from {
                continue;
            }
            record.schemas = self.schemas.clone();
            let segment = self.cursor.header.first;
            return Ok(Some(Inspected { record, epoch: framed.header.epoch, segment }));
        }
    }

    /// Goes on in the next segment, if there is one.
    fn enter_next(&mut self) -> LogResult<bool> {
        let here = self.cursor.header.first;
        let Some(next) = self.firsts.iter().find(|first| **first > here) else { return Ok(false) };
        self.cursor = Cursor::open(&self.dir, *next, READ_BYTES)?;
        add_all(&mut self.schemas, &self.cursor.header.schemas)?;
        Ok(true)
    }
}

impl Iterator for Records {
    type Item = Result<Inspected>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let read = self.read();
        self.done = !matches!(read, Ok(Some(_)));
        read.map_err(Error::from).transpose()
    }
}
