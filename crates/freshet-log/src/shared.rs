//! What the writer, the readers and the log itself share about one open log directory.
//!
//! Order that holds at all times: `trimmed <= durable <= written`. `trimmed` is the first segment's first offset,
//! `durable` only moves through [`Shared::publish`], `written` is the writer's own. Readers read up to the durable
//! place and never beyond, so what lies after it may be cut off at any time ([`Shared::rewind`]).

use crate::bounds::Options;
use crate::error::{LogError, Result};
use crate::files::{self, DirLock, segment_path};
use crate::format::Meta;
use crate::tail::{Place, SegmentFile};
use crate::writer::WriterHandle;
use freshet_core::{Mark, Offset, Position};
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{Seek as _, SeekFrom};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;
use tokio::sync::watch;

/// One segment as the open log knows it.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) first: Offset,
    /// Position of the last commit before its first record.
    pub(crate) start: Position,
    /// Its first record stands inside a transaction that began before.
    pub(crate) inside: bool,
    pub(crate) bytes: u64,
}

impl Segment {
    pub(crate) fn of(file: &SegmentFile) -> Self {
        let header = &file.header;
        Self { first: header.first, start: header.start.clone(), inside: header.inside, bytes: file.bytes }
    }
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) meta: Meta,
    pub(crate) segments: VecDeque<Segment>,
    /// The directory was opened anew: this object may touch nothing any more.
    pub(crate) retired: bool,
}

impl State {
    pub(crate) fn segments_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// The last segment that begins at or before `offset`, not after the segment `last`.
    pub(crate) fn segment_of(&self, offset: Offset, last: Offset) -> Option<&Segment> {
        self.segments.iter().rev().find(|segment| segment.first <= offset && segment.first <= last)
    }
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) dir: PathBuf,
    pub(crate) options: Options,
    state: Mutex<State>,
    durable: watch::Sender<Arc<Place>>,
    /// Bytes of the log: on disk and queued.
    pub(crate) space: watch::Sender<u64>,
    /// The writer that owns the log now.
    pub(crate) writer: Mutex<Option<WriterHandle>>,
    /// Held while the log changes hands, and while it is trimmed: one at a time.
    pub(crate) taking_over: Mutex<()>,
    pub(crate) trimming: Mutex<()>,
    _lock: Arc<DirLock>,
}

impl Shared {
    pub(crate) fn new(
        dir: PathBuf,
        options: Options,
        lock: Arc<DirLock>,
        state: State,
        place: Place,
    ) -> Self {
        let space = watch::Sender::new(state.segments_bytes());
        let durable = watch::Sender::new(Arc::new(place));
        let state = Mutex::new(state);
        let (taking_over, trimming) = (Mutex::new(()), Mutex::new(()));
        Self {
            dir,
            options,
            state,
            durable,
            space,
            writer: Mutex::new(None),
            taking_over,
            trimming,
            _lock: lock,
        }
    }

    /// The state; a panic elsewhere does not make it unusable, since every change of it is one assignment.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn check_not_retired(&self) -> Result<()> {
        if self.state().retired { Err(LogError::Retired { dir: self.dir.clone() }) } else { Ok(()) }
    }

    pub(crate) fn durable(&self) -> Arc<Place> {
        self.durable.borrow().clone()
    }

    pub(crate) fn watch_durable(&self) -> watch::Receiver<Arc<Place>> {
        self.durable.subscribe()
    }

    pub(crate) fn trimmed(&self) -> Mark {
        let state = self.state();
        let first = state.segments.front().expect("a log has at least its active segment");
        assert!(!first.inside, "a log begins at a commit");
        Mark { next: first.first, position: first.start.clone() }
    }

    /// Everything up to `place` is on disk.
    pub(crate) fn publish(&self, place: Place, written: Offset) {
        let before = self.durable();
        assert!(before.mark.next <= place.mark.next, "the durable mark only grows");
        assert!(place.mark.next <= written, "nothing is durable that was not written");
        self.durable.send_replace(Arc::new(place));
    }

    /// Cuts off everything after `place`, on disk; the file returned stands at the end of the active segment.
    pub(crate) fn rewind(&self, place: &Place) -> Result<File> {
        assert!(self.durable().mark.next <= place.mark.next, "what is durable is never cut off");
        let mut state = self.state();
        if state.retired {
            return Err(LogError::Retired { dir: self.dir.clone() });
        }
        let file = rewind_files(&self.dir, &mut state.segments, place)?;
        self.space.send_replace(state.segments_bytes());
        Ok(file)
    }

    /// Replaces `LOG` by what `change` makes of it.
    pub(crate) fn update_meta(&self, change: impl FnOnce(&mut Meta)) -> Result<()> {
        let durable = self.durable().mark.next;
        let mut state = self.state();
        if state.retired {
            return Err(LogError::Retired { dir: self.dir.clone() });
        }
        let mut meta = state.meta.clone();
        change(&mut meta);
        meta.durable = meta.durable.max(durable);
        assert!(
            meta.trimmed <= meta.durable && state.meta.epoch <= meta.epoch,
            "trimmed <= durable, epochs grow"
        );
        files::write_meta(&self.dir, &meta)?;
        state.meta = meta;
        Ok(())
    }
}

/// Removes the segments after `place` and cuts its own, the newest first, so that the chain holds at every moment.
pub(crate) fn rewind_files(
    dir: &std::path::Path,
    segments: &mut VecDeque<Segment>,
    place: &Place,
) -> Result<File> {
    let mut removed = false;
    while let Some(last) = segments.back().filter(|last| last.first > place.segment) {
        files::remove(&segment_path(dir, last.first))?;
        segments.pop_back();
        removed = true;
    }
    if removed {
        files::sync_dir(dir)?;
    }
    let active = segments.back_mut().expect("the segment of the place is there");
    assert_eq!(active.first, place.segment, "the place is in a segment of the log");
    let path = segment_path(dir, active.first);
    let mut file = OpenOptions::new().write(true).open(&path).map_err(LogError::io("open", &path))?;
    file.set_len(place.bytes).map_err(LogError::io("cut", &path))?;
    file.sync_all().map_err(LogError::io("sync", &path))?;
    file.seek(SeekFrom::End(0)).map_err(LogError::io("seek in", &path))?;
    active.bytes = place.bytes;
    Ok(file)
}

/// When the segment was last written to.
pub(crate) fn modified(dir: &std::path::Path, first: Offset) -> Result<SystemTime> {
    let path = segment_path(dir, first);
    let metadata = std::fs::metadata(&path).map_err(LogError::io("look at", &path))?;
    metadata.modified().map_err(LogError::io("look at", &path))
}
