//! Reads records in order, up to the durable mark and never beyond it, as slices of what it read from the file.
//!
//! Reads are made in place, not on a thread of their own: they are of bytes that were just written, or sequential
//! ones that the kernel reads ahead. A checksum is verified before anything is handed out. A reader has a file handle
//! of its own, so a segment that is trimmed while it is read stays readable.

use crate::assemble::Assembly;
use crate::bounds::READ_BYTES;
use crate::cursor::{Cursor, Framed, Step};
use crate::error::{LogError, Result as LogResult};
use crate::format::FLAG_SCHEMAS;
use crate::locate::Located;
use crate::schemas::add_all;
use crate::shared::Shared;
use crate::tail::Place;
use async_trait::async_trait;
use freshet_core::log::{LogReader, Record};
use freshet_core::{Error, Result, SchemaMap};
use std::sync::Arc;
use tokio::sync::watch;

#[derive(Debug)]
pub(crate) struct Reader {
    shared: Arc<Shared>,
    durable: watch::Receiver<Arc<Place>>,
    cursor: Cursor,
    schemas: SchemaMap,
}

impl Reader {
    pub(crate) fn new(shared: Arc<Shared>, at: Located) -> LogResult<Self> {
        let (durable, schemas) = (shared.watch_durable(), at.schemas()?);
        let mut cursor = at.cursor;
        cursor.set_read_bytes(READ_BYTES);
        Ok(Self { shared, durable, cursor, schemas })
    }

    /// The next record if it is durable. All of it is then: the durable mark is on a commit.
    fn read(&mut self) -> LogResult<Option<Record>> {
        let durable = self.durable.borrow_and_update().clone();
        if self.cursor.next >= durable.mark.next {
            return Ok(None);
        }
        self.shared.check_not_retired()?;
        let mut assembly = Assembly::default();
        loop {
            let framed = self.framed(&durable)?;
            let payload = self.cursor.payload(&framed)?;
            let payload =
                payload.ok_or_else(|| self.cursor.damaged("its payload's checksum does not match"))?;
            let position = framed.position().map_err(|what| self.cursor.damaged(what))?;
            let record =
                assembly.add(&framed, payload, position).map_err(|what| self.cursor.damaged(what))?;
            self.cursor.advance(&framed);
            if let Some(record) = record {
                return self.finish(record, &framed).map(Some);
            }
        }
    }

    fn finish(&mut self, mut record: Record, framed: &Framed) -> LogResult<Record> {
        if framed.header.is(FLAG_SCHEMAS) {
            record.batch.collect_schemas(&mut self.schemas)?;
        }
        record.schemas = self.schemas.clone();
        Ok(record)
    }

    /// The record here, in the next segment if this one is read.
    fn framed(&mut self, durable: &Place) -> LogResult<Framed> {
        loop {
            let here = self.cursor.header.first;
            if here == durable.segment {
                self.cursor.set_limit(durable.bytes);
            }
            match self.cursor.step()? {
                Step::Record(framed) => return Ok(framed),
                Step::Bad(what) => return Err(self.cursor.damaged(what)),
                // It may have been the active segment when the limit was set.
                Step::End if here < durable.segment && !self.at_file_end()? => {}
                Step::End if here < durable.segment => self.enter_next()?,
                Step::End => return Err(self.cursor.damaged("the segment ends before the durable mark")),
            }
        }
    }

    fn at_file_end(&mut self) -> LogResult<bool> {
        let before = self.cursor.limit();
        self.cursor.set_limit_to_file()?;
        Ok(self.cursor.limit() == before)
    }

    fn enter_next(&mut self) -> LogResult<()> {
        let (dir, at) = (&self.shared.dir, self.cursor.next);
        let (here, bytes) = (self.cursor.header.first, self.cursor.at);
        let cursor = Cursor::open(dir, at, READ_BYTES).map_err(|e| match e {
            e if e.is_not_found() => LogError::Trimmed { dir: dir.clone(), at },
            e => e,
        })?;
        if cursor.header.previous != (here, bytes) {
            return Err(LogError::Missing { dir: dir.clone(), first: cursor.header.previous.0 });
        }
        add_all(&mut self.schemas, &cursor.header.schemas)?;
        self.cursor = cursor;
        Ok(())
    }
}

#[async_trait]
impl LogReader for Reader {
    async fn next(&mut self) -> Result<Record> {
        loop {
            if let Some(record) = self.read()? {
                return Ok(record);
            }
            let changed = self.durable.changed().await;
            changed.map_err(|_| Error::internal("The log was dropped while a reader waited"))?;
        }
    }

    async fn try_next(&mut self) -> Result<Option<Record>> {
        Ok(self.read()?)
    }
}
