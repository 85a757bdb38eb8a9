//! The schemas that records need: found in batches as they are appended, carried into segment headers.
//!
//! A source announces a schema before its first use in a session, once. So a header carries every schema announced
//! since the writer began (a later record may use any of them), and of older sessions the latest one per table.

use crate::error::Result;
use bytes::Bytes;
use freshet_core::codec::{Batch, EVENT_HEADER_BYTES, EventRef};
use freshet_core::{SchemaId, SchemaMap, TableName, TableSchema};
use std::collections::{BTreeMap, HashMap};

/// Kind byte of a schema announcement (`freshet_core::codec`).
const KIND_SCHEMA: u8 = 2;

/// A schema as it is announced.
#[derive(Clone, Debug)]
pub(crate) struct Announced {
    pub(crate) id: SchemaId,
    pub(crate) encoded: Bytes,
}

/// Every announcement in a batch. Hops over the other events by their length alone, since this runs for every
/// batch that is appended.
pub(crate) fn announced(batch: &Batch) -> Result<Vec<Announced>> {
    let (bytes, mut found, mut at) = (batch.bytes(), Vec::new(), 0);
    while let Some(&[a, b, c, d, kind]) = bytes.get(at..).and_then(|rest| rest.first_chunk::<5>()) {
        if kind == KIND_SCHEMA
            && let EventRef::Schema { id, encoded } = batch.event_at(at)?
        {
            found.push(Announced { id, encoded: Bytes::copy_from_slice(encoded) });
        }
        at += (u32::from_le_bytes([a, b, c, d]) as usize).max(EVENT_HEADER_BYTES);
    }
    Ok(found)
}

/// Adds encoded schemas of a segment's header to `schemas`.
pub(crate) fn add_all(schemas: &mut SchemaMap, encoded: &[Bytes]) -> Result<()> {
    for bytes in encoded {
        schemas.insert(TableSchema::decode(bytes)?.into())?;
    }
    Ok(())
}

/// What the next segment's header will carry.
#[derive(Debug, Default)]
pub(crate) struct LiveSchemas {
    session: BTreeMap<SchemaId, Bytes>,
    older: HashMap<TableName, Bytes>,
}

impl LiveSchemas {
    /// The latest schema per table of those that an older session announced, in order.
    pub(crate) fn of_older(announced: &[Bytes]) -> Result<Self> {
        let mut older = HashMap::new();
        for encoded in announced {
            older.insert(TableSchema::decode(encoded)?.name().clone(), encoded.clone());
        }
        Ok(Self { session: BTreeMap::new(), older })
    }

    /// Whether this session had not announced it before.
    pub(crate) fn announce(&mut self, one: &Announced) -> Result<bool> {
        if self.session.contains_key(&one.id) {
            return Ok(false);
        }
        self.older.remove(TableSchema::decode(&one.encoded)?.name());
        Ok(self.session.insert(one.id, one.encoded.clone()).is_none())
    }

    pub(crate) fn encoded(&self) -> Vec<Bytes> {
        self.older.values().chain(self.session.values()).cloned().collect()
    }
}
