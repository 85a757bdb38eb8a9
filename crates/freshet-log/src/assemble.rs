//! Puts a batch together from the records that it was split over; a batch in one record is not copied.

use crate::cursor::Framed;
use crate::format::FLAG_CONTINUES;
use bytes::Bytes;
use freshet_core::log::Record;
use freshet_core::{Batch, Offset, Position, SchemaMap};

#[derive(Debug, Default)]
pub(crate) struct Assembly {
    open: Option<(Offset, Vec<u8>)>,
    parts: u32,
}

impl Assembly {
    /// Adds a part; the whole record, without schemas, if it is the last.
    pub(crate) fn add(
        &mut self,
        framed: &Framed,
        payload: Bytes,
        position: Option<Position>,
    ) -> Result<Option<Record>, &'static str> {
        let header = &framed.header;
        if header.part != self.parts {
            return Err("it is not the part of a batch that comes next");
        }
        self.parts += 1;
        if header.is(FLAG_CONTINUES) {
            let (_, bytes) = self.open.get_or_insert_with(|| (header.offset, Vec::new()));
            bytes.extend_from_slice(&payload);
            return Ok(None);
        }
        let (offset, payload) = match self.open.take() {
            None => (header.offset, payload),
            Some((first, mut bytes)) => {
                bytes.extend_from_slice(&payload);
                (first, Bytes::from(bytes))
            }
        };
        self.parts = 0;
        let batch = Batch::from_stored(payload, header.rows, position.is_some());
        let next = framed.next();
        Ok(Some(Record { offset, next, batch, position, schemas: SchemaMap::default() }))
    }
}
