//! Reading events back out of a batch, as borrowed views.

use super::row::{RowRef, get_str, get_u32, get_u64, short, take};
use super::{
    EVENT_HEADER_BYTES, KIND_BEGIN, KIND_COMMIT, KIND_DELETE, KIND_INSERT, KIND_SCHEMA, KIND_STATEMENT,
    KIND_TRUNCATE, KIND_UPDATE,
};
use crate::error::{Error, Result};
use crate::gtid::{MysqlSource, Uuid};
use crate::position::{CommitPlace, FilePos, Lsn, TxnId};
use crate::schema::{SchemaId, SchemaMap, TableName, TableSchema};
use bytes::Bytes;

/// A sealed batch: shared, immutable bytes.
#[derive(Clone, Debug)]
pub struct Batch {
    bytes: Bytes,
    rows: u64,
    ends_at_commit: bool,
}

impl Batch {
    /// A batch of bytes that a [`super::BatchBuilder`] wrote.
    pub(crate) fn from_trusted(bytes: Bytes, rows: u64, ends_at_commit: bool) -> Self {
        Self { bytes, rows, ends_at_commit }
    }

    /// A batch of bytes read back from a log, with the facts its record header holds.
    pub fn from_stored(bytes: Bytes, rows: u64, ends_at_commit: bool) -> Self {
        Self { bytes, rows, ends_at_commit }
    }

    /// The bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Number of row changes.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Whether no transaction is open after the last event.
    pub fn ends_at_commit(&self) -> bool {
        self.ends_at_commit
    }

    /// The events, in order.
    pub fn events(&self) -> Events<'_> {
        Events { bytes: &self.bytes, at: 0 }
    }

    /// The event that starts at byte `at`, as [`Events::offset`] told.
    pub fn event_at(&self, at: usize) -> Result<EventRef<'_>> {
        Events { bytes: &self.bytes, at }.next().unwrap_or_else(|| Err(short("event")))
    }

    /// Adds every schema that this batch announces to `schemas`.
    pub fn collect_schemas(&self, schemas: &mut SchemaMap) -> Result<()> {
        for event in self.events() {
            if let EventRef::Schema { id, encoded } = event?
                && schemas.get(id).is_none()
            {
                schemas.insert(TableSchema::decode(encoded)?.into())?;
            }
        }
        Ok(())
    }
}

/// The end of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitEvent<'a> {
    /// Microseconds since 1970, 0 if unknown.
    pub commit_us: i64,
    /// Identity of the binlog's server; empty for PostgreSQL.
    pub server: &'a str,
    /// Where it ends in the source's log.
    pub place: CommitPlace,
}

/// A statement that changed a captured table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatementEvent<'a> {
    /// Default database of the statement.
    pub database: &'a str,
    /// The table it concerns.
    pub table: TableName,
    /// The statement.
    pub text: &'a str,
}

/// One event.
#[derive(Clone, Debug)]
pub enum EventRef<'a> {
    /// A transaction begins.
    Begin {
        /// Its name.
        txn: TxnId,
        /// Microseconds since 1970, 0 if unknown.
        start_us: i64,
    },
    /// A schema is announced.
    Schema {
        /// Identity.
        id: SchemaId,
        /// Encoding, for [`TableSchema::decode`].
        encoded: &'a [u8],
    },
    /// A row was inserted.
    Insert {
        /// Its schema.
        schema: SchemaId,
        /// After image.
        after: &'a [u8],
    },
    /// A row was changed.
    Update {
        /// Its schema.
        schema: SchemaId,
        /// Before image.
        before: &'a [u8],
        /// After image.
        after: &'a [u8],
    },
    /// A row was deleted.
    Delete {
        /// Its schema.
        schema: SchemaId,
        /// Before image.
        before: &'a [u8],
    },
    /// A table was emptied.
    Truncate(TableName),
    /// A captured table's definition or name changed.
    Statement(StatementEvent<'a>),
    /// The transaction ends.
    Commit(CommitEvent<'a>),
}

impl<'a> EventRef<'a> {
    /// A view of an image under its schema.
    pub fn row(schema: &'a TableSchema, image: &'a [u8]) -> RowRef<'a> {
        RowRef::new(schema, image)
    }
}

/// Iterator over the events of a batch. After an error it ends.
#[derive(Clone, Debug)]
pub struct Events<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Events<'_> {
    /// Byte offset of the event that comes next.
    pub fn offset(&self) -> usize {
        self.at
    }
}

impl<'a> Iterator for Events<'a> {
    type Item = Result<EventRef<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.bytes.get(self.at..)?;
        if rest.is_empty() {
            return None;
        }
        let event = parse(rest);
        self.at = match &event {
            Ok((_, len)) => self.at + len,
            Err(_) => self.bytes.len(),
        };
        Some(event.map(|(event, _)| event))
    }
}

fn parse(rest: &[u8]) -> Result<(EventRef<'_>, usize)> {
    let mut r = rest;
    let len = get_u32(&mut r)? as usize;
    if len < EVENT_HEADER_BYTES || len > rest.len() {
        return Err(short("event"));
    }
    let kind = rest[4];
    let mut body = &rest[EVENT_HEADER_BYTES..len];
    let b = &mut body;
    let event = match kind {
        KIND_BEGIN => EventRef::Begin { start_us: get_u64(b)? as i64, txn: txn(b)? },
        KIND_SCHEMA => EventRef::Schema { id: SchemaId(get_u64(b)?), encoded: b },
        KIND_INSERT => EventRef::Insert { schema: SchemaId(get_u64(b)?), after: b },
        KIND_UPDATE => {
            let schema = SchemaId(get_u64(b)?);
            let n = get_u32(b)? as usize;
            EventRef::Update { schema, before: take(b, n)?, after: b }
        }
        KIND_DELETE => EventRef::Delete { schema: SchemaId(get_u64(b)?), before: b },
        KIND_TRUNCATE => EventRef::Truncate(TableName::new(get_str(b)?, get_str(b)?)),
        KIND_COMMIT => EventRef::Commit(CommitEvent {
            commit_us: get_u64(b)? as i64,
            server: get_str(b)?,
            place: place(b)?,
        }),
        KIND_STATEMENT => EventRef::Statement(StatementEvent {
            database: get_str(b)?,
            table: TableName::new(get_str(b)?, get_str(b)?),
            text: get_str(b)?,
        }),
        other => return Err(Error::corrupt(format!("Event kind {other} in a batch is unknown"))),
    };
    Ok((event, len))
}

fn txn(b: &mut &[u8]) -> Result<TxnId> {
    Ok(match take(b, 1)?[0] {
        0 => TxnId::Anonymous,
        1 => {
            let uuid = take(b, 16)?.try_into().map_err(|_| short("uuid"))?;
            let tag = get_str(b)?.to_owned();
            TxnId::Mysql { source: MysqlSource { uuid: Uuid(uuid), tag }, gno: get_u64(b)? }
        }
        2 => TxnId::Mariadb { domain: get_u32(b)?, server: get_u32(b)?, sequence: get_u64(b)? },
        3 => TxnId::Postgres { xid: get_u32(b)? },
        other => return Err(Error::corrupt(format!("Transaction kind {other} in a batch is unknown"))),
    })
}

fn place(b: &mut &[u8]) -> Result<CommitPlace> {
    Ok(match take(b, 1)?[0] {
        0 => CommitPlace::Binlog(FilePos { file: get_str(b)?.to_owned(), pos: get_u64(b)? }),
        1 => CommitPlace::Wal(Lsn(get_u64(b)?)),
        other => return Err(Error::corrupt(format!("Place kind {other} in a batch is unknown"))),
    })
}
