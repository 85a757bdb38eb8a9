//! The embedded durable log: segments of records in a directory, group commit, recovery, retention (ALGORITHMS 1).
//!
//! It stores batches as they are and gives the same bytes back. It does not know what is in them, beyond the
//! schemas that a segment needs to be read alone; it knows no source and no sink.
//!
//! The life of a byte, file by file: `writer` (bounds, order, waiting) hands it to `queue`, `appender` writes and
//! syncs it, `reader` reads it back through `cursor`, `trim` forgets it. After a crash `store` opens the directory
//! and `tail` decides what is kept. `format` is the layout of every file.
//!
//! ```text
//!    trimmed            applied by sinks           durable        written
//!       |--- readable ----------------------------- |--- may be --- |
//!       |                                           |   cut off     |
//!  first segment                              a commit, synced    tail
//! ```
//!
//! Invariants: `trimmed <= min(applied) <= durable <= written`; the durable mark only rests on commits; a reader sees
//! nothing beyond it; what is durable is never cut off; an offset is never given to two records that anybody could
//! have read; one writer, by the directory's lock and by epoch.

#![forbid(unsafe_code)]

mod appender;
mod assemble;
mod bounds;
mod cursor;
mod error;
mod files;
mod format;
pub mod inspect;
mod locate;
mod queue;
mod reader;
mod schemas;
mod shared;
mod store;
mod tail;
mod trim;
mod writer;

pub use bounds::Options;
pub use store::DirectoryStore;
