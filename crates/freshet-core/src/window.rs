//! What a relational sink is given to apply: a window of whole transactions, as steps over borrowed row images.
//!
//! Made by the engine, read by sinks. It holds the records (and so their bytes) and refers into them: no row is
//! copied. It is not SQL: a sink turns a step into statements of its dialect.

use crate::codec::RowRef;
use crate::error::{Error, Result};
use crate::log::Record;
use crate::position::Mark;
use crate::schema::{SchemaId, TableName, TableSchema};
use std::sync::Arc;

/// A row image inside a window: bytes `start..start + len` of record `record`'s batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageRef {
    /// Index into [`Window::records`].
    pub record: u32,
    /// First byte.
    pub start: u32,
    /// Bytes.
    pub len: u32,
    /// Index into [`Window::schemas`].
    pub schema: u32,
}

/// What a step does to its rows. In every list of images a row is one image, or a (key, after) pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepKind {
    /// Insert the after images. Strict: a key that is there already is a divergence.
    Insert(Vec<ImageRef>),
    /// Change the row that has the first image's key to the second image; the keys may differ (R6). Tables
    /// without a key are matched by every column of the first image, one row each (R7). A column that is absent from
    /// the second image keeps its value (R1, R2). Strict: a row that is not there is a divergence.
    Update(Vec<(ImageRef, ImageRef)>),
    /// Delete by the image's key (by every column, one row each, for tables without a key). Strict: a row that
    /// is not there is a divergence.
    Delete(Vec<ImageRef>),
    /// Make the row be there as the image says, whether or not its key is (between F_low and F_high).
    Upsert(Vec<ImageRef>),
    /// Change the row that has the image's key to the image, in which some columns are absent: those keep their
    /// values. It moved to that key, and must be there with the values: if it is not, nobody but the source can put it
    /// together, and the sink says [`crate::ErrorKind::Reload`] (between F_low and F_high).
    Patch(Vec<ImageRef>),
    /// The same for rows that were changed in place. One that is not there was deleted, or moved away, before it was
    /// read: there is nothing to change (between F_low and F_high).
    PatchIfThere(Vec<ImageRef>),
    /// Delete by key whatever is there (between F_low and F_high).
    DeleteIfThere(Vec<ImageRef>),
    /// The keys must not be there (a row inserted and deleted again within the window): a divergence otherwise.
    CheckAbsent(Vec<ImageRef>),
    /// Empty the table.
    Truncate,
}

/// One step: rows of one table, one operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Source table.
    pub table: TableName,
    /// What to do.
    pub kind: StepKind,
}

/// Whole transactions to be applied as one, or a part of one transaction too large for one window.
#[derive(Clone, Debug)]
pub struct Window {
    /// The records that images refer to.
    pub records: Vec<Record>,
    /// The schemas that images refer to.
    pub schemas: Vec<Arc<TableSchema>>,
    /// In this order. Rows within a step have distinct keys unless the window is `ordered`.
    pub steps: Vec<Step>,
    /// The mark that the window ends at; `None` for a part that is to be followed by another of the same
    /// target transaction.
    pub end: Option<Mark>,
    /// Apply row by row, in order, so that an error names one row.
    pub ordered: bool,
    /// Row changes that the window stands for, before they were netted, for counting.
    pub changes: Counts,
    /// Commit time of the last transaction, microseconds since 1970; 0 if unknown.
    pub commit_us: i64,
}

/// Row changes by operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Inserts.
    pub inserts: u64,
    /// Updates.
    pub updates: u64,
    /// Deletes.
    pub deletes: u64,
}

impl Window {
    /// A view of an image.
    pub fn row(&self, image: ImageRef) -> Result<RowRef<'_>> {
        let schema = self.schemas.get(image.schema as usize).ok_or_else(outside)?;
        let record = self.records.get(image.record as usize).ok_or_else(outside)?;
        let start = image.start as usize;
        let bytes = record.batch.bytes().get(start..start + image.len as usize).ok_or_else(outside)?;
        Ok(RowRef::new(schema, bytes))
    }

    /// Index of a schema in `schemas`, added if it is new.
    pub fn schema_index(&mut self, id: SchemaId, of: &Record) -> Result<u32> {
        if let Some(i) = self.schemas.iter().position(|s| s.id() == id) {
            return Ok(i as u32);
        }
        let schema =
            of.schemas.get(id).ok_or_else(|| Error::corrupt("A row's schema was not announced before it"))?;
        self.schemas.push(schema.clone());
        Ok(self.schemas.len() as u32 - 1)
    }
}

fn outside() -> Error {
    Error::internal("An image of a window lies outside its records")
}
