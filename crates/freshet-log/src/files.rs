//! The files of a log directory: names, whole headers in and out, the lock.
//!
//! Everything that must appear whole (`LOG`, a new segment with its header) is written under another name, synced,
//! renamed, and the directory synced: a segment that has its name has a whole header.

use crate::error::{LogError, Result};
use crate::format::{Meta, SEALED_HEAD_BYTES, SegmentHeader, sealed_bytes};
use freshet_core::Offset;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};

const META: &str = "LOG";
const LOCK: &str = "lock";
const SEGMENT: &str = ".segment";
const UNFINISHED: &str = ".new";

pub(crate) fn segment_path(dir: &Path, first: Offset) -> PathBuf {
    dir.join(format!("{:020}{SEGMENT}", first.0))
}

pub(crate) fn meta_path(dir: &Path) -> PathBuf {
    dir.join(META)
}

/// First offsets of the segments that are there, in order.
pub(crate) fn list_segments(dir: &Path) -> Result<Vec<Offset>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(LogError::io("list", dir))? {
        let name = entry.map_err(LogError::io("list", dir))?.file_name();
        let first = name.to_str().and_then(|name| name.strip_suffix(SEGMENT)).and_then(|n| n.parse().ok());
        found.extend(first.map(Offset));
    }
    found.sort_unstable();
    Ok(found)
}

/// The file `LOG`, or `None` if it is not there.
pub(crate) fn read_meta(dir: &Path) -> Result<Option<Meta>> {
    let path = meta_path(dir);
    match fs::read(&path) {
        Ok(bytes) => Meta::decode(&path, &bytes).map(Some),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(LogError::io("read", &path)(e)),
    }
}

pub(crate) fn write_meta(dir: &Path, meta: &Meta) -> Result<()> {
    write_whole(dir, &meta_path(dir), &meta.encode()).map(drop)
}

/// Header of the segment `file`, and its length.
pub(crate) fn read_segment_header(path: &Path, file: &mut File) -> Result<(SegmentHeader, u64)> {
    let read = LogError::io;
    let mut bytes = Vec::with_capacity(4096);
    file.take(SEALED_HEAD_BYTES as u64).read_to_end(&mut bytes).map_err(read("read", path))?;
    let length = sealed_bytes(path, &bytes)?;
    let rest = length.saturating_sub(SEALED_HEAD_BYTES) as u64;
    file.take(rest).read_to_end(&mut bytes).map_err(read("read", path))?;
    Ok((SegmentHeader::decode(path, &bytes)?, length as u64))
}

/// Makes a segment that holds its header only; the file stands at its end.
pub(crate) fn create_segment(dir: &Path, header: &SegmentHeader) -> Result<(File, u64)> {
    let bytes = header.encode();
    let file = write_whole(dir, &segment_path(dir, header.first), &bytes)?;
    Ok((file, bytes.len() as u64))
}

fn write_whole(dir: &Path, path: &Path, bytes: &[u8]) -> Result<File> {
    let mut name = path.as_os_str().to_owned();
    name.push(UNFINISHED);
    let unfinished = PathBuf::from(name);
    let mut file = File::create(&unfinished).map_err(LogError::io("create", &unfinished))?;
    file.write_all(bytes).map_err(LogError::io("write", &unfinished))?;
    file.sync_all().map_err(LogError::io("sync", &unfinished))?;
    fs::rename(&unfinished, path).map_err(LogError::io("rename to", path))?;
    sync_dir(dir)?;
    Ok(file)
}

pub(crate) fn sync_dir(dir: &Path) -> Result<()> {
    let file = File::open(dir).map_err(LogError::io("open", dir))?;
    file.sync_all().map_err(LogError::io("sync", dir))
}

/// Removes a file; one that is not there is fine.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(LogError::io("remove", path)(e)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Removes what a crash left half written.
pub(crate) fn remove_unfinished(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir).map_err(LogError::io("list", dir))? {
        let entry = entry.map_err(LogError::io("list", dir))?;
        if entry.file_name().to_str().is_some_and(|name| name.ends_with(UNFINISHED)) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Removes the log that is there: first the file that makes it one, then the segments.
pub(crate) fn remove_log(dir: &Path) -> Result<()> {
    remove(&meta_path(dir))?;
    sync_dir(dir)?;
    for first in list_segments(dir)? {
        remove(&segment_path(dir, first))?;
    }
    remove_unfinished(dir)?;
    sync_dir(dir)
}

/// The right to write in a directory, held as long as this lives and released by the kernel with the process.
#[derive(Debug)]
pub(crate) struct DirLock {
    file: File,
}

impl DirLock {
    pub(crate) fn take(dir: &Path) -> Result<Self> {
        let path = dir.join(LOCK);
        let open = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path);
        let mut file = open.map_err(LogError::io("open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let pid = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse::<u32>().ok());
                let holder = pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
                return Err(LogError::Held { dir: dir.to_owned(), holder });
            }
            Err(TryLockError::Error(e)) => return Err(LogError::io("lock", &path)(e)),
        }
        // The name is for people only: a full disk must not keep anybody from the lock.
        let named = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        if let Err(e) = named {
            tracing::debug!(error = %e, "Cannot write the holder's id into the lock file");
        }
        Ok(Self { file })
    }
}

impl Drop for DirLock {
    /// By name and not by closing: a child that is being started holds a copy of the handle for a moment.
    fn drop(&mut self) {
        if let Err(error) = self.file.unlock() {
            tracing::warn!(error = %error, "Cannot let go of a log directory's lock");
        }
    }
}
