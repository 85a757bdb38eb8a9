//! The flat encoding of events and rows: the log's record payload, and the program's in-memory form.
//!
//! A batch is a sequence of events. Numbers are little endian and unaligned. Nothing here checks sums (the log's
//! record header does), compresses or does IO. Reading is checked all the same: a batch that does not follow this
//! page is [`crate::ErrorKind::Corrupt`], never a panic.
//!
//! ```text
//! event   = length u32 (header included) | kind u8 | flags u8 | zero u16 | body
//! kind 1  begin     body = start time i64 (us since 1970, 0 unknown) | txn
//! kind 2  schema    body = schema id u64 | encoding (schema.rs)
//! kind 3  insert    body = schema id u64 | after image
//! kind 4  update    body = schema id u64 | length of the before image u32 | before image | after image
//! kind 5  delete    body = schema id u64 | before image
//! kind 6  truncate  body = schema str | table str
//! kind 7  commit    body = commit time i64 | server str | place
//! kind 8  statement body = database str | schema str | table str | text str    (DDL; text may be empty)
//! txn     = 0 | 1 uuid [16] tag str gno u64 | 2 domain u32 server u32 sequence u64 | 3 xid u32
//! place   = 0 file str pos u64 | 1 lsn u64
//! str     = length u32 | UTF-8
//! image   = state, 2 bits a column, lowest first, (2n + 7) / 8 bytes | cells of the columns in order
//! state   = 0 value | 1 NULL (no cell) | 2 absent (no cell) | 3 undecodable (length u32 | bytes: undecodable.rs)
//! ```
//!
//! A transaction is begin, any number of changes, commit. `schema` may stand anywhere and precedes the first use
//! of its id since the start of the session that wrote it. A batch with several transactions ends at a commit.

mod build;
mod event;
mod row;

pub use build::{BatchBuilder, BatchMark, OpenEvents, RowWriter};
pub use event::{Batch, CommitEvent, EventRef, Events, StatementEvent};
pub use row::{Cells, RowRef};

/// Version of this encoding; it stands in every record header of the log.
pub const FORMAT_VERSION: u16 = 1;

/// Bytes of an event's header.
pub const EVENT_HEADER_BYTES: usize = 8;

pub(crate) const KIND_BEGIN: u8 = 1;
pub(crate) const KIND_SCHEMA: u8 = 2;
pub(crate) const KIND_INSERT: u8 = 3;
pub(crate) const KIND_UPDATE: u8 = 4;
pub(crate) const KIND_DELETE: u8 = 5;
pub(crate) const KIND_TRUNCATE: u8 = 6;
pub(crate) const KIND_COMMIT: u8 = 7;
pub(crate) const KIND_STATEMENT: u8 = 8;

pub(crate) const STATE_NULL: u8 = 1;
pub(crate) const STATE_ABSENT: u8 = 2;
pub(crate) const STATE_UNDECODABLE: u8 = 3;

/// Bytes of the state bitmap of an image with `columns` columns.
pub(crate) const fn state_bytes(columns: usize) -> usize {
    (2 * columns).div_ceil(8)
}

#[cfg(test)]
mod tests;
