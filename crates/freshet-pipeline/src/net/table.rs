//! The net change of one table's keys within a window.
//!
//! Not SQL. An update whose after image lacks a value (an unchanged TOAST value, R1) changes the other columns only. It
//! replaces an earlier one that lacks the same values, and goes on top of a whole row as a step of its own; where
//! neither is possible, and where the key moves (R2), it is applied by itself after what was netted before it.

use super::keys::{KeyState, Keys, key_bytes};
use freshet_core::codec::RowRef;
use freshet_core::window::{ImageRef, StepKind};
use freshet_core::{Error, Result};

/// Signals that a window cannot be netted and is to be applied in source order.
#[derive(Debug)]
pub enum Netted {
    /// Taken in.
    Yes,
    /// To be applied by itself, after what was taken in before: this net change is at its end.
    Apart,
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
    /// The row after the window, unless it is gone. Values are absent only from the update of a row that was there.
    live: Option<ImageRef>,
    /// What is changed of the whole row `live` after it: values are absent.
    partial: Option<ImageRef>,
}

/// What a net change comes to, in this order.
#[derive(Debug, Default)]
pub struct NetSteps {
    /// Deletes, updates, inserts.
    pub main: Vec<StepKind>,
    /// Updates of rows that `main` has changed or inserted.
    pub last: Vec<StepKind>,
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
                    return self.update(old, before, after, row);
                }
                if row(after)?.is_partial() {
                    return Ok(Netted::Apart);
                }
                match self.delete(old, before, row(before)?)? {
                    Netted::Yes => self.insert(new, after, row(after)?),
                    other => Ok(other),
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
            None => {
                let entry = Entry { key: after, present_before: false, live: Some(after), partial: None };
                self.entries.push(entry);
            }
            Some(entry) if entry.live.is_none() => entry.live = Some(after),
            Some(_) => return Ok(Netted::NeedsOrder),
        }
        self.touch(key, row)
    }

    fn delete(&mut self, key: usize, before: ImageRef, row: RowRef<'_>) -> Result<Netted> {
        match self.entries.get_mut(key) {
            None => {
                let entry = Entry { key: before, present_before: true, live: None, partial: None };
                self.entries.push(entry);
            }
            Some(entry) if entry.live.is_some() => (entry.live, entry.partial) = (None, None),
            Some(_) => return Ok(Netted::NeedsOrder),
        }
        self.touch(key, row)
    }

    fn update<'w>(
        &mut self,
        key: usize,
        before: ImageRef,
        after: ImageRef,
        row: impl Fn(ImageRef) -> Result<RowRef<'w>>,
    ) -> Result<Netted> {
        let new = row(after)?;
        match self.entries.get_mut(key) {
            None => {
                let entry = Entry { key: before, present_before: true, live: Some(after), partial: None };
                self.entries.push(entry);
            }
            Some(entry) => {
                let Some(live) = entry.live else { return Ok(Netted::NeedsOrder) };
                let latest = row(entry.partial.unwrap_or(live))?;
                match (new.is_partial(), entry.partial) {
                    (false, _) => (entry.live, entry.partial) = (Some(after), None),
                    (true, None) if !latest.is_partial() => entry.partial = Some(after),
                    (true, _) if !replaces(new, latest) => return Ok(Netted::Apart),
                    (true, None) => entry.live = Some(after),
                    (true, Some(_)) => entry.partial = Some(after),
                }
            }
        }
        match self.touch(key, row(before)?)? {
            Netted::Yes => self.touch(key, new),
            other => Ok(other),
        }
    }

    /// Notes the values of unique indexes that the row has; two keys with one value need order. A value that the image
    /// lacks is not noted: where two keys share it after all the target refuses the bulk statement, and the window is
    /// replayed in order.
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

    /// The steps of the net change. `idempotent` for changes between F_low and F_high. `row` resolves images.
    pub fn steps<'w>(
        &self,
        idempotent: bool,
        row: impl Fn(ImageRef) -> Result<RowRef<'w>>,
    ) -> Result<NetSteps> {
        let (mut deletes, mut updates, mut inserts) = (Vec::new(), Vec::new(), Vec::new());
        let (mut absent, mut patches) = (Vec::new(), Vec::new());
        let (mut last_updates, mut last_patches) = (Vec::new(), Vec::new());
        for entry in &self.entries {
            match (entry.present_before, entry.live) {
                (_, Some(after)) if idempotent && row(after)?.is_partial() => patches.push(after),
                (_, Some(after)) if idempotent => inserts.push(after),
                (_, None) if idempotent => deletes.push(entry.key),
                (true, Some(after)) => updates.push((entry.key, after)),
                (true, None) => deletes.push(entry.key),
                (false, Some(after)) => inserts.push(after),
                (false, None) => absent.push(entry.key),
            }
            match (entry.live, entry.partial) {
                (Some(_), Some(after)) if idempotent => last_patches.push(after),
                (Some(live), Some(after)) => last_updates.push((live, after)),
                (_, None) | (None, Some(_)) => {}
            }
        }
        let main = if idempotent {
            vec![StepKind::DeleteIfThere(deletes), StepKind::PatchIfThere(patches), StepKind::Upsert(inserts)]
        } else {
            let checks = StepKind::CheckAbsent(absent);
            vec![checks, StepKind::Delete(deletes), StepKind::Update(updates), StepKind::Insert(inserts)]
        };
        let last = vec![StepKind::Update(last_updates), StepKind::Patch(last_patches)];
        let with_rows = |kinds: Vec<StepKind>| kinds.into_iter().filter(has_rows).collect();
        Ok(NetSteps { main: with_rows(main), last: with_rows(last) })
    }
}

/// Whether a later partial image says all that an earlier one of the same key does.
fn replaces(later: RowRef<'_>, earlier: RowRef<'_>) -> bool {
    (0..later.schema().columns().len()).all(|column| !later.lacks(column) || earlier.lacks(column))
}

fn has_rows(kind: &StepKind) -> bool {
    match kind {
        StepKind::Insert(rows)
        | StepKind::Delete(rows)
        | StepKind::Upsert(rows)
        | StepKind::Patch(rows)
        | StepKind::PatchIfThere(rows)
        | StepKind::DeleteIfThere(rows)
        | StepKind::CheckAbsent(rows) => !rows.is_empty(),
        StepKind::Update(rows) => !rows.is_empty(),
        StepKind::Truncate => true,
    }
}
