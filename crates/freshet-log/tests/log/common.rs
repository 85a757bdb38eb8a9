//! What the log's tests share: logs of known transactions, and copies of their directories.

use freshet_core::log::{Log, LogStore, LogWriter, Record};
use freshet_core::{Error, Offset};
use freshet_log::{DirectoryStore, Options};
use freshet_testkit::conformance::log::{append, batch, durable, position, read_all};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Options under which nothing of a small test log is kept by age, and any disk has space.
pub fn options() -> Options {
    Options { log_retain_ms_min: 0, disk_free_bytes_min: 0, ..Options::default() }
}

/// The log in `dir`, created.
pub async fn created(dir: &Path, options: Options) -> Arc<dyn Log> {
    DirectoryStore::new(dir, options).create(&position(0), &[]).await.expect("creates")
}

/// What opening `dir` as another process would gives.
pub async fn open(dir: &Path, options: Options) -> Result<Arc<dyn Log>, Error> {
    let opened = DirectoryStore::new(dir, options).open().await;
    opened.map(|log| log.expect("a log is there"))
}

/// Appends the transactions `from` to `to` (included), each durable before the next.
pub async fn append_each(writer: &mut dyn LogWriter, from: u64, to: u64, bytes: usize) {
    for sequence in from..=to {
        append(writer, batch(sequence, 1, bytes), Some(sequence)).await;
        durable(writer, sequence).await;
    }
}

/// Asserts that the log holds exactly the transactions `from` to `to` of [`append_each`].
pub async fn assert_holds(log: &dyn Log, from: u64, to: u64, bytes: usize) {
    let records = read_all(log, log.bounds().trimmed.next).await;
    let sequences: Vec<_> = (from..=to).collect();
    assert_eq!(positions(&records), sequences.iter().map(|s| Some(position(*s))).collect::<Vec<_>>());
    for (record, sequence) in records.iter().zip(sequences) {
        assert_eq!(record.batch.bytes(), batch(sequence, 1, bytes).bytes());
    }
}

pub fn positions(records: &[Record]) -> Vec<Option<freshet_core::Position>> {
    records.iter().map(|record| record.position.clone()).collect()
}

/// The only file of the log in `dir` that is a segment and begins at `first`.
pub fn segment(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:020}.segment"))
}

/// First offsets of the segments in `dir`, in order.
pub fn segments(dir: &Path) -> Vec<Offset> {
    let names = fs::read_dir(dir).expect("lists").map(|entry| entry.expect("lists").file_name());
    let mut firsts: Vec<_> =
        names.filter_map(|name| name.to_str()?.strip_suffix(".segment")?.parse().ok().map(Offset)).collect();
    firsts.sort_unstable();
    firsts
}

/// Every file of the directory with its content, also while a writer is at work.
pub fn snapshot(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(dir).expect("lists").map(|entry| entry.expect("lists").path());
    // A new segment changes its name when it is whole.
    let mut files: Vec<_> = entries.filter_map(|path| Some((path.clone(), fs::read(&path).ok()?))).collect();
    files.sort();
    files
}

/// Puts the directory back to what it was.
pub fn restore(dir: &Path, files: &[(PathBuf, Vec<u8>)]) {
    for entry in fs::read_dir(dir).expect("lists") {
        fs::remove_file(entry.expect("lists").path()).expect("removes");
    }
    for (path, bytes) in files {
        fs::write(path, bytes).expect("writes");
    }
}

/// Changes one file of a log.
pub fn edit(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).expect("reads");
    change(&mut bytes);
    fs::write(path, bytes).expect("writes");
}
