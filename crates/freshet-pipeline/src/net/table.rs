//! The net change of one table's keys within a window, or its changes in order where it has no key.

use super::keys::{KeyState, Keys, key_bytes};
use freshet_core::codec::RowRef;
use freshet_core::window::{ImageRef, StepKind};
use freshet_core::{Error, Result};

/// Signals that a window cannot be netted and is to be applied in source order.
#[derive(Debug)]
pub enum Netted {
    /// Taken in.
    Yes,
    /// Not nettable.
    NeedsOrder,
}

/// One change as it came, images still to be looked at.
#[derive(Clone, Copy, Debug)]
pub enum Change {
    /// Insert.
    Insert(ImageRef),
    /// Update: before and after.
    Update(ImageRef, ImageRef),
    /// Delete.
    Delete(ImageRef),
}

/// What became of a key.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Image that holds the key; of the row as it was before the window if `present_before`.
    key: ImageRef,
    /// Whether the first operation demands that the key is there.
    present_before: bool,
    /// The row after the window, unless it is gone.
    live: Option<ImageRef>,
}

/// Who has touched a value of a unique index in this window.
#[derive(Debug, Default)]
struct UniqueIndex {
    columns: Vec<u16>,
    values: Keys,
    /// Number of the key that touched the value.
    owners: Vec<usize>,
}

/// Net change of a table with a key.
#[derive(Debug)]
pub struct NetTable {
    key: Vec<u16>,
    keys: Keys,
    entries: Vec<Entry>,
    uniques: Vec<UniqueIndex>,
    scratch: Vec<u8>,
}

impl NetTable {
    /// An empty net change; `uniques` are the columns of the target's unique indexes other than the key.
    pub fn new(key: &[u16], uniques: &[Vec<u16>]) -> Self {
        let uniques = uniques
            .iter()
            .map(|columns| UniqueIndex { columns: columns.clone(), ..Default::default() })
            .collect();
        Self { key: key.to_vec(), keys: Keys::default(), entries: Vec::new(), uniques, scratch: Vec::new() }
    }

    /// Takes one change in. `row` resolves images.
    pub fn add<'w>(
        &mut self,
        change: Change,
        row: impl Fn(ImageRef) -> Result<RowRef<'w>>,
    ) -> Result<Netted> {
        match change {
            Change::Insert(after) => {
                let key = self.number(row(after)?)?;
                self.insert(key, after, row(after)?)
            }
            Change::Delete(before) => {
                let key = self.number(row(before)?)?;
                self.delete(key, before, row(before)?)
            }
            Change::Update(before, after) => {
                let (old, new) = (self.number(row(before)?)?, self.number(row(after)?)?);
                if old == new {
                    return self.update(old, before, after, row(before)?, row(after)?);
                }
                match self.delete(old, before, row(before)?)? {
                    Netted::Yes => self.insert(new, after, row(after)?),
                    Netted::NeedsOrder => Ok(Netted::NeedsOrder),
                }
            }
        }
    }

    fn number(&mut self, row: RowRef<'_>) -> Result<usize> {
        match key_bytes(row, &self.key, &mut self.scratch)? {
            KeyState::Whole => Ok(self.keys.number(&self.scratch).0),
            KeyState::HasNull | KeyState::Absent => Err(Error::corrupt(format!(
                "A row image of {} lacks a value of its key",
                row.schema().name()
            ))),
        }
    }

    fn insert(&mut self, key: usize, after: ImageRef, row: RowRef<'_>) -> Result<Netted> {
        match self.entries.get_mut(key) {
            None => self.entries.push(Entry { key: after, present_before: false, live: Some(after) }),
            Some(entry) if entry.live.is_none() => entry.live = Some(after),
            Some(_) => return Ok(Netted::NeedsOrder),
        }
        self.touch(key, row)
    }

    fn delete(&mut self, key: usize, before: ImageRef, row: RowRef<'_>) -> Result<Netted> {
        match self.entries.get_mut(key) {
            None => self.entries.push(Entry { key: before, present_before: true, live: None }),
            Some(entry) if entry.live.is_some() => entry.live = None,
            Some(_) => return Ok(Netted::NeedsOrder),
        }
        self.touch(key, row)
    }

    fn update(
        &mut self,
        key: usize,
        before: ImageRef,
        after: ImageRef,
        old: RowRef<'_>,
        new: RowRef<'_>,
    ) -> Result<Netted> {
        match self.entries.get_mut(key) {
            None => self.entries.push(Entry { key: before, present_before: true, live: Some(after) }),
            Some(entry) if entry.live.is_some() => entry.live = Some(after),
            Some(_) => return Ok(Netted::NeedsOrder),
        }
        match self.touch(key, old)? {
            Netted::Yes => self.touch(key, new),
            Netted::NeedsOrder => Ok(Netted::NeedsOrder),
        }
    }

    /// Notes the values of unique indexes that the row has; two keys with one value need order.
    fn touch(&mut self, key: usize, row: RowRef<'_>) -> Result<Netted> {
        debug_assert!(key < self.entries.len(), "entries are numbered as keys are");
        for unique in &mut self.uniques {
            if key_bytes(row, &unique.columns, &mut self.scratch)? != KeyState::Whole {
                continue;
            }
            let (value, new) = unique.values.number(&self.scratch);
            if new {
                unique.owners.push(key);
            } else if unique.owners[value] != key {
                return Ok(Netted::NeedsOrder);
            }
        }
        Ok(Netted::Yes)
    }

    /// The steps of the net change: deletes, updates, inserts. `idempotent` for changes between F_low and F_high.
    pub fn steps(&self, idempotent: bool) -> Vec<StepKind> {
        let (mut deletes, mut updates, mut inserts, mut absent) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for entry in &self.entries {
            match (entry.present_before, entry.live) {
                (_, Some(after)) if idempotent => inserts.push(after),
                (_, None) if idempotent => deletes.push(entry.key),
                (true, Some(after)) => updates.push((entry.key, after)),
                (true, None) => deletes.push(entry.key),
                (false, Some(after)) => inserts.push(after),
                (false, None) => absent.push(entry.key),
            }
        }
        let mut steps = Vec::new();
        let mut push = |kind: StepKind, empty: bool| {
            if !empty {
                steps.push(kind);
            }
        };
        push(StepKind::CheckAbsent(absent.clone()), absent.is_empty());
        if idempotent {
            push(StepKind::DeleteIfThere(deletes.clone()), deletes.is_empty());
            push(StepKind::Upsert(inserts.clone()), inserts.is_empty());
        } else {
            push(StepKind::Delete(deletes.clone()), deletes.is_empty());
            push(StepKind::Update(updates.clone()), updates.is_empty());
            push(StepKind::Insert(inserts.clone()), inserts.is_empty());
        }
        steps
    }
}
