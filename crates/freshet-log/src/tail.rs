//! Finds where a log ends: the last commit, and whether what follows it is a torn tail or damage.
//!
//! Read-only; recovery acts on the answer and the inspection prints it. Only the segments from the last commit on
//! are read whole; those before are trusted by the chain of their headers (each names the length and the first
//! offset of the one before it). The rule: every record header, segment header and `LOG` itself names an offset up
//! to which everything was durable when it was written. A bad record below the largest of these is damage; one at
//! or above it is a torn tail that nobody has read. Intact records behind a bad one count: they are looked for.

use crate::bounds::{READ_BYTES, SCAN_BYTES};
use crate::cursor::{Cursor, Framed, Step};
use crate::error::{LogError, Result};
use crate::files::segment_path;
use crate::format::{FLAG_COMMIT, FLAG_CONTINUES, Meta, SegmentHeader};
use freshet_core::{LogEpoch, Mark, Offset};
use std::path::{Path, PathBuf};

/// A segment, by its header.
#[derive(Clone, Debug)]
pub(crate) struct SegmentFile {
    pub(crate) header: SegmentHeader,
    pub(crate) bytes: u64,
}

/// A place on a commit in a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) mark: Mark,
    /// First offset of the segment.
    pub(crate) segment: Offset,
    /// Byte after the commit's record.
    pub(crate) bytes: u64,
}

/// What stands after the last commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Torn {
    pub(crate) path: PathBuf,
    pub(crate) offset: Offset,
    pub(crate) byte: u64,
    pub(crate) what: &'static str,
}

#[derive(Clone, Debug)]
pub(crate) struct Tail {
    /// The last commit.
    pub(crate) place: Place,
    /// The first bad record after it, if there is one.
    pub(crate) torn: Option<Torn>,
    /// Largest epoch seen.
    pub(crate) epoch: LogEpoch,
}

/// What one segment told.
#[derive(Clone, Debug)]
pub(crate) struct Scan {
    /// The last commit in it, or before its first record.
    pub(crate) last: Option<Place>,
    pub(crate) torn: Option<Torn>,
    /// Everything before this was durable once.
    pub(crate) claim: Offset,
    pub(crate) epoch: LogEpoch,
    pub(crate) next: Offset,
    pub(crate) records: u64,
    pub(crate) rows: u64,
    pub(crate) commits: u64,
}

/// How closely a scan looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// At everything.
    Whole,
    /// At headers only.
    Headers,
}

/// Headers of the segments in order, checked against each other and against `LOG`.
pub(crate) fn read_chain(dir: &Path, meta: &Meta, firsts: &[Offset]) -> Result<Vec<SegmentFile>> {
    let mut chain: Vec<SegmentFile> = Vec::with_capacity(firsts.len());
    for first in firsts.iter().filter(|first| **first >= meta.trimmed) {
        let cursor = Cursor::open(dir, *first, READ_BYTES)?;
        let file = SegmentFile { bytes: cursor.limit(), header: cursor.header.clone() };
        check_link(dir, meta, chain.last(), &file)?;
        chain.push(file);
    }
    if chain.is_empty() {
        return Err(LogError::Missing { dir: dir.to_owned(), first: meta.trimmed });
    }
    Ok(chain)
}

pub(crate) fn check_link(
    dir: &Path,
    meta: &Meta,
    previous: Option<&SegmentFile>,
    file: &SegmentFile,
) -> Result<()> {
    let header = &file.header;
    let path = || segment_path(dir, header.first);
    if header.id != meta.id {
        let what = format!("it is of log {}, not of {}", header.id, meta.id);
        return Err(LogError::Header { path: path(), what });
    }
    if header.epoch > meta.epoch {
        let what = format!("its epoch {} is larger than the log's, {}", header.epoch, meta.epoch);
        return Err(LogError::Header { path: path(), what });
    }
    match previous {
        None if header.first != meta.trimmed => {
            Err(LogError::Missing { dir: dir.to_owned(), first: meta.trimmed })
        }
        None => Ok(()),
        Some(previous) if header.previous.0 != previous.header.first => {
            Err(LogError::Missing { dir: dir.to_owned(), first: header.previous.0 })
        }
        Some(previous) if header.previous.1 != previous.bytes => Err(LogError::Damaged {
            path: segment_path(dir, previous.header.first),
            offset: previous.header.first,
            byte: previous.bytes.min(header.previous.1),
            what: format!("it has {} bytes, and was left with {}", previous.bytes, header.previous.1),
        }),
        Some(_) => Ok(()),
    }
}

/// Finds the tail of the log whose segments are `chain`.
pub(crate) fn find(dir: &Path, meta: &Meta, chain: &[SegmentFile]) -> Result<Tail> {
    let (mut claim, mut torn, mut epoch) = (meta.durable, None, LogEpoch(0));
    for file in chain.iter().rev() {
        let scan = scan(dir, file.header.first, Look::Whole)?;
        claim = claim.max(scan.claim).max(file.header.durable);
        epoch = epoch.max(scan.epoch);
        torn = scan.torn.or(torn);
        if let Some(bad) = torn.as_ref().filter(|bad| bad.offset < claim) {
            return Err(damage(bad));
        }
        if let Some(place) = scan.last {
            return whole(dir, Tail { place, torn, epoch }, claim, meta.epoch);
        }
    }
    Err(LogError::Missing { dir: dir.to_owned(), first: meta.trimmed })
}

pub(crate) fn damage(bad: &Torn) -> LogError {
    LogError::Damaged {
        path: bad.path.clone(),
        offset: bad.offset,
        byte: bad.byte,
        what: bad.what.to_owned(),
    }
}

/// The tail, unless something says that the log was once longer or that another writer was here.
fn whole(dir: &Path, tail: Tail, claim: Offset, epoch: LogEpoch) -> Result<Tail> {
    let wrong = |what: String| {
        let (path, mark) = (segment_path(dir, tail.place.segment), &tail.place.mark);
        Err(LogError::Damaged { path, offset: mark.next, byte: tail.place.bytes, what })
    };
    if tail.place.mark.next < claim {
        return wrong(format!("it ends here, and everything before offset {claim} was durable"));
    }
    if tail.epoch > epoch {
        return wrong(format!("a record has epoch {}, and the log's is {epoch}", tail.epoch));
    }
    Ok(tail)
}

/// Reads one segment.
pub(crate) fn scan(dir: &Path, first: Offset, look: Look) -> Result<Scan> {
    let read_bytes = if look == Look::Whole { READ_BYTES } else { SCAN_BYTES };
    let mut cursor = Cursor::open(dir, first, read_bytes)?;
    let mut scan = Scan::of(&cursor.header, cursor.at);
    let mut last_commit = None;
    let bad = loop {
        match scan.pass(&mut cursor, look)? {
            Passed::Record(framed) if framed.header.is(FLAG_COMMIT) => last_commit = Some(framed),
            Passed::Record(_) => {}
            Passed::End => break None,
            Passed::Bad(what) => break Some(what),
        }
    };
    scan.next = cursor.next;
    if let Some(framed) = last_commit {
        let position = framed.position().map_err(|what| cursor.damaged(what))?;
        let position = position.ok_or_else(|| cursor.damaged("a commit has no position"))?;
        let mark = Mark { next: framed.next(), position };
        scan.last = Some(Place { mark, segment: first, bytes: framed.end });
    }
    if let Some(what) = bad {
        scan.torn = Some(Torn { path: cursor.path().to_owned(), offset: cursor.next, byte: cursor.at, what });
        scan.claim = scan.claim.max(claims_behind(&mut cursor)?);
    }
    Ok(scan)
}

enum Passed {
    Record(Framed),
    End,
    Bad(&'static str),
}

impl Scan {
    fn of(header: &SegmentHeader, at: u64) -> Self {
        let mark = Mark { next: header.first, position: header.start.clone() };
        let place = Place { mark, segment: header.first, bytes: at };
        Self {
            last: (!header.inside).then_some(place),
            torn: None,
            claim: header.durable,
            epoch: header.epoch,
            next: header.first,
            records: 0,
            rows: 0,
            commits: 0,
        }
    }

    fn pass(&mut self, cursor: &mut Cursor, look: Look) -> Result<Passed> {
        let framed = match cursor.step()? {
            Step::End => return Ok(Passed::End),
            Step::Bad(what) => return Ok(Passed::Bad(what)),
            Step::Record(framed) => framed,
        };
        if look == Look::Whole && cursor.payload(&framed)?.is_none() {
            return Ok(Passed::Bad("its payload's checksum does not match"));
        }
        let header = framed.header;
        if header.epoch < self.epoch {
            return Ok(Passed::Bad("its epoch is smaller than the one before it"));
        }
        (self.claim, self.epoch) = (self.claim.max(header.durable), header.epoch);
        self.records += 1;
        self.commits += u64::from(header.is(FLAG_COMMIT));
        self.rows += if header.is(FLAG_CONTINUES) { 0 } else { header.rows };
        cursor.advance(&framed);
        Ok(Passed::Record(framed))
    }
}

/// The largest claim of the intact record headers that stand behind the bad record here.
fn claims_behind(cursor: &mut Cursor) -> Result<Offset> {
    let (mut claim, mut at) = (Offset(0), cursor.at + 1);
    while let Some(found) = cursor.find_magic(at)? {
        at = found + 1;
        if let Ok(framed) = cursor.frame_at(found)?
            && framed.header.offset > cursor.next
        {
            claim = claim.max(framed.header.durable);
            at = framed.end;
        }
    }
    Ok(claim)
}
