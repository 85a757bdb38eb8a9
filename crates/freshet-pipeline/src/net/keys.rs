//! A hash table from key bytes to entries, without an allocation per key.

use freshet_core::codec::RowRef;
use freshet_core::{Error, Result, ValueRef};
use hashbrown::HashTable;
use std::hash::{BuildHasher, RandomState};

/// Byte strings, numbered in order of their first appearance.
#[derive(Debug, Default)]
pub struct Keys {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    table: HashTable<u32>,
    hasher: RandomState,
}

impl Keys {
    /// Number of `key`, and whether it was new.
    pub fn number(&mut self, key: &[u8]) -> (usize, bool) {
        let hash = self.hasher.hash_one(key);
        let (bytes, ends) = (&self.bytes, &self.ends);
        if let Some(found) = self.table.find(hash, |i| slice(bytes, ends, *i) == key) {
            return (*found as usize, false);
        }
        let number = self.ends.len();
        self.bytes.extend_from_slice(key);
        self.ends.push(self.bytes.len());
        let (bytes, ends, hasher) = (&self.bytes, &self.ends, &self.hasher);
        self.table.insert_unique(hash, number as u32, |i| hasher.hash_one(slice(bytes, ends, *i)));
        (number, true)
    }
}

fn slice<'a>(bytes: &'a [u8], ends: &[usize], number: u32) -> &'a [u8] {
    let i = number as usize;
    let start = if i == 0 { 0 } else { ends[i - 1] };
    &bytes[start..ends[i]]
}

/// What the cells of some columns hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// Every cell has a value: `out` identifies it.
    Whole,
    /// One of them is NULL.
    HasNull,
    /// One of them is not in the image.
    Absent,
}

/// Writes an injective encoding of the cells of `columns` (of any order) to `out`.
pub fn key_bytes(row: RowRef<'_>, columns: &[u16], out: &mut Vec<u8>) -> Result<KeyState> {
    out.clear();
    let Some(last) = columns.iter().max() else {
        return Err(Error::internal("A key without columns"));
    };
    let mut cells = row.cells();
    let mut rest = cells.remaining();
    let mut state = KeyState::Whole;
    for column in 0..=*last {
        let cell =
            cells.next().unwrap_or_else(|| Err(Error::corrupt("A row image is too short for its key")))?;
        let encoded = &rest[..rest.len() - cells.remaining().len()];
        rest = cells.remaining();
        if columns.contains(&column) {
            match cell {
                ValueRef::Null => state = KeyState::HasNull,
                ValueRef::Absent => state = KeyState::Absent,
                // A zero float has two encodings and one value.
                ValueRef::Float64(v) => out.extend_from_slice(&(v + 0.0).to_le_bytes()),
                ValueRef::Float32(v) => out.extend_from_slice(&(v + 0.0).to_le_bytes()),
                _ => out.extend_from_slice(encoded),
            }
        }
    }
    Ok(state)
}
