//! Finds a mark of an open log by its next offset: segment, byte, position, and what was announced before it.

use crate::bounds::SCAN_BYTES;
use crate::cursor::{Cursor, Framed, Step};
use crate::error::Result;
use crate::format::{FLAG_CONTINUES, FLAG_SCHEMAS};
use crate::schemas::{add_all, announced};
use crate::shared::Shared;
use bytes::Bytes;
use freshet_core::{Batch, Offset, Position, SchemaMap};

/// A mark, found.
pub(crate) struct Located {
    /// Stands right at the mark.
    pub(crate) cursor: Cursor,
    pub(crate) position: Position,
    /// Every schema that the segment's header or an earlier record of the segment holds, in order, encoded.
    pub(crate) announced: Vec<Bytes>,
}

impl Located {
    pub(crate) fn schemas(&self) -> Result<SchemaMap> {
        let mut schemas = SchemaMap::default();
        add_all(&mut schemas, &self.announced)?;
        Ok(schemas)
    }
}

/// The mark with that next offset, or `None` if the log has no such mark (any more).
pub(crate) fn locate(shared: &Shared, next: Offset) -> Result<Option<Located>> {
    let durable = shared.durable();
    if next > durable.mark.next {
        return Ok(None);
    }
    let segment = shared.state().segment_of(next, durable.segment).cloned();
    let Some(segment) = segment else { return Ok(None) };
    let limit = if segment.first == durable.segment { durable.bytes } else { segment.bytes };
    let mut cursor = match Cursor::open(&shared.dir, segment.first, SCAN_BYTES) {
        Ok(cursor) => cursor,
        // Trimmed since.
        Err(e) if e.is_not_found() => return Ok(None),
        Err(e) => return Err(e),
    };
    cursor.set_limit(limit);
    let mut announced = cursor.header.schemas.clone();
    let mut position = (!segment.inside).then_some(segment.start);
    while cursor.next < next {
        position = pass_batch(&mut cursor, next, &mut announced)?;
    }
    Ok(position.map(|position| Located { cursor, position, announced }))
}

/// Moves past the records of one batch, not beyond `until`: the position after it if it ends at a commit. What it
/// announces goes into `found`. Of a batch whose first part is in an earlier segment, the header has that already.
fn pass_batch(cursor: &mut Cursor, until: Offset, found: &mut Vec<Bytes>) -> Result<Option<Position>> {
    let mut payload: Option<Vec<u8>> = None;
    loop {
        let framed = record(cursor)?;
        let header = framed.header;
        if header.is(FLAG_SCHEMAS) && (header.part == 0 || payload.is_some()) {
            let part = cursor.payload(&framed)?;
            let part = part.ok_or_else(|| cursor.damaged("its payload's checksum does not match"))?;
            payload.get_or_insert_default().extend_from_slice(&part);
        }
        let position = framed.position().map_err(|what| cursor.damaged(what))?;
        cursor.advance(&framed);
        if !header.is(FLAG_CONTINUES) {
            let batch = Batch::from_stored(payload.unwrap_or_default().into(), 0, true);
            found.extend(announced(&batch)?.into_iter().map(|schema| schema.encoded));
            return Ok(position);
        }
        if cursor.next >= until {
            return Ok(None);
        }
    }
}

fn record(cursor: &mut Cursor) -> Result<Framed> {
    match cursor.step()? {
        Step::Record(framed) => Ok(framed),
        Step::Bad(what) => Err(cursor.damaged(what)),
        Step::End => Err(cursor.damaged("the segment ends before it")),
    }
}
