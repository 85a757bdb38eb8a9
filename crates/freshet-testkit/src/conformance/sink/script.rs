//! Windows written by hand: rows of a table of two columns, encoded as a source would, and the steps over them.

use freshet_core::codec::{BatchBuilder, RowWriter};
use freshet_core::log::Record;
use freshet_core::position::CommitPlace;
use freshet_core::position::{FilePos, TxnId};
use freshet_core::sink::TablePlan;
use freshet_core::table::{Chunk, ColumnInfo, Dialect, TableInfo};
use freshet_core::window::{Counts, ImageRef, Step, StepKind, Window};
use freshet_core::{
    Batch, Column, DataType, EventRef, Mark, Offset, Position, SchemaMap, TableName, TableSchema,
};
use std::sync::Arc;

/// A table with columns `id` (a 64-bit integer, the key if there is one) and `name` (a text that may be NULL).
#[derive(Clone, Debug)]
pub struct Table {
    /// Both sides.
    pub plan: TablePlan,
}

impl Table {
    /// A table of that name on the source; on the target it is `target.<table>`.
    pub fn new(schema: &str, table: &str, key: bool) -> Self {
        let column = |name: &str, data_type, nullable| Column { name: name.into(), data_type, nullable };
        let columns = vec![
            column("id", DataType::Int { bits: 64, unsigned: false }, false),
            column("name", DataType::Text { length: Some(64), fixed: false }, true),
        ];
        let key = if key { vec![0] } else { vec![] };
        let schema = TableSchema::new(TableName::new(schema, table), columns, key).expect("a schema");
        let native = ["bigint(20)", "varchar(64)"];
        let info = TableInfo {
            schema: Arc::new(schema),
            dialect: Dialect::Mysql,
            columns: native
                .map(|n| ColumnInfo { native_type: n.into(), ..ColumnInfo::default() })
                .into_iter()
                .collect(),
            indexes: vec![],
            next_value: None,
            rows_estimate: 0,
            native: Default::default(),
            not_carried: vec![],
        };
        let target = TableName::new("target", table);
        Self { plan: TablePlan { info: Arc::new(info), target } }
    }

    /// Name on the source.
    pub fn name(&self) -> &TableName {
        self.plan.info.name()
    }

    /// Name on the target.
    pub fn target(&self) -> &TableName {
        &self.plan.target
    }

    /// The schema.
    pub fn schema(&self) -> &Arc<TableSchema> {
        &self.plan.info.schema
    }

    /// Rows as a table reader would hand them out.
    pub fn batch(&self, rows: &[(i64, &str)]) -> Batch {
        let mut batch = BatchBuilder::new();
        for (id, name) in rows {
            self.write(&mut batch, *id, Some(name));
        }
        batch.seal()
    }

    /// A chunk of this table.
    pub fn chunk(&self, number: u32) -> Chunk {
        let bound = |n: u32| Some(format!("bound {n}"));
        let lower = if number == 0 { None } else { bound(number) };
        Chunk { table: self.name().clone(), number, lower, upper: bound(number + 1) }
    }

    fn write(&self, batch: &mut BatchBuilder, id: i64, name: Option<&str>) {
        let mut row: RowWriter<'_> = batch.insert(self.schema());
        assert!(row.int(id), "an integer of 64 bits");
        match name {
            Some(name) => row.text(name),
            None => row.null(),
        }
        row.finish();
    }

    /// An image that has the key alone.
    fn write_key(&self, batch: &mut BatchBuilder, id: i64) {
        let mut row: RowWriter<'_> = batch.insert(self.schema());
        assert!(row.int(id), "an integer of 64 bits");
        row.absent();
        row.finish();
    }
}

/// The place after `n` transactions.
pub fn position(n: u64) -> Position {
    let gtids = if n == 0 { String::new() } else { format!("0-1-{n}") };
    format!("binlog;server;binlog.000001;{};mariadb;{gtids}", 4 + 100 * n).parse().expect("a position")
}

/// The mark after `n` transactions, one record each.
pub fn mark(n: u64) -> Mark {
    Mark { next: Offset(n), position: position(n) }
}

/// A row of a script: number, and name or NULL.
pub type Row<'a> = (i64, Option<&'a str>);

/// A row as it was and as it becomes.
pub type Change<'a> = ((i64, &'a str), (i64, &'a str));

/// A window in the making. Every image is a row of one record.
pub struct Script {
    batch: BatchBuilder,
    images: Vec<Arc<TableSchema>>,
    /// Steps over indexes of images.
    steps: Vec<(TableName, Draft)>,
    end: Option<u64>,
    ordered: bool,
    changes: Counts,
}

enum Draft {
    Insert(Vec<usize>),
    Update(Vec<(usize, usize)>),
    Delete(Vec<usize>),
    Upsert(Vec<usize>),
    Patch(Vec<usize>),
    PatchIfThere(Vec<usize>),
    DeleteIfThere(Vec<usize>),
    CheckAbsent(Vec<usize>),
    Truncate,
}

impl Default for Script {
    fn default() -> Self {
        Self::new()
    }
}

impl Script {
    /// An empty window without an end.
    pub fn new() -> Self {
        let mut batch = BatchBuilder::new();
        batch.begin(&TxnId::Anonymous, 0);
        let (images, steps) = (Vec::new(), Vec::new());
        Self { batch, images, steps, end: None, ordered: false, changes: Counts::default() }
    }

    fn image(&mut self, table: &Table, row: Row<'_>) -> usize {
        table.write(&mut self.batch, row.0, row.1);
        self.images.push(table.schema().clone());
        self.images.len() - 1
    }

    fn key(&mut self, table: &Table, id: i64) -> usize {
        table.write_key(&mut self.batch, id);
        self.images.push(table.schema().clone());
        self.images.len() - 1
    }

    fn rows(&mut self, table: &Table, rows: &[(i64, &str)]) -> Vec<usize> {
        rows.iter().map(|(id, name)| self.image(table, (*id, Some(name)))).collect()
    }

    fn step(mut self, table: &Table, draft: Draft) -> Self {
        self.steps.push((table.name().clone(), draft));
        self
    }

    /// Strict inserts.
    #[must_use]
    pub fn insert(mut self, table: &Table, rows: &[(i64, &str)]) -> Self {
        self.changes.inserts += rows.len() as u64;
        let images = self.rows(table, rows);
        self.step(table, Draft::Insert(images))
    }

    /// Strict updates: rows as they were and as they become.
    #[must_use]
    pub fn update(mut self, table: &Table, rows: &[Change<'_>]) -> Self {
        self.changes.updates += rows.len() as u64;
        let mut pairs = Vec::new();
        for (old, new) in rows {
            pairs.push((self.image(table, (old.0, Some(old.1))), self.image(table, (new.0, Some(new.1)))));
        }
        self.step(table, Draft::Update(pairs))
    }

    /// Strict updates that say nothing of the name: keys as they were and as they become.
    #[must_use]
    pub fn update_keys(mut self, table: &Table, keys: &[(i64, i64)]) -> Self {
        self.changes.updates += keys.len() as u64;
        let pairs = keys.iter().map(|(old, new)| (self.key(table, *old), self.key(table, *new))).collect();
        self.step(table, Draft::Update(pairs))
    }

    /// Changes of rows in place, if they are there, which say nothing of the name.
    #[must_use]
    pub fn patch_if_there(mut self, table: &Table, keys: &[i64]) -> Self {
        let images = keys.iter().map(|id| self.key(table, *id)).collect();
        self.step(table, Draft::PatchIfThere(images))
    }

    /// Changes of rows that must be there, which say nothing of the name.
    #[must_use]
    pub fn patch(mut self, table: &Table, keys: &[i64]) -> Self {
        let images = keys.iter().map(|id| self.key(table, *id)).collect();
        self.step(table, Draft::Patch(images))
    }

    /// Strict deletes.
    #[must_use]
    pub fn delete(mut self, table: &Table, rows: &[(i64, &str)]) -> Self {
        self.changes.deletes += rows.len() as u64;
        let images = self.rows(table, rows);
        self.step(table, Draft::Delete(images))
    }

    /// Upserts.
    #[must_use]
    pub fn upsert(mut self, table: &Table, rows: &[(i64, &str)]) -> Self {
        let images = self.rows(table, rows);
        self.step(table, Draft::Upsert(images))
    }

    /// Deletes of what is there.
    #[must_use]
    pub fn delete_if_there(mut self, table: &Table, rows: &[(i64, &str)]) -> Self {
        let images = self.rows(table, rows);
        self.step(table, Draft::DeleteIfThere(images))
    }

    /// Keys that must be absent.
    #[must_use]
    pub fn check_absent(mut self, table: &Table, rows: &[(i64, &str)]) -> Self {
        let images = self.rows(table, rows);
        self.step(table, Draft::CheckAbsent(images))
    }

    /// Rows whose name is NULL, inserted.
    #[must_use]
    pub fn insert_null(mut self, table: &Table, ids: &[i64]) -> Self {
        let images = ids.iter().map(|id| self.image(table, (*id, None))).collect();
        self.step(table, Draft::Insert(images))
    }

    /// Rows whose name is NULL, deleted.
    #[must_use]
    pub fn delete_null(mut self, table: &Table, ids: &[i64]) -> Self {
        let images = ids.iter().map(|id| self.image(table, (*id, None))).collect();
        self.step(table, Draft::Delete(images))
    }

    /// Empties a table.
    #[must_use]
    pub fn truncate(self, table: &Table) -> Self {
        self.step(table, Draft::Truncate)
    }

    /// Row by row, in order.
    #[must_use]
    pub fn ordered(mut self) -> Self {
        self.ordered = true;
        self
    }

    /// Ends at this mark.
    #[must_use]
    pub fn end(mut self, n: u64) -> Self {
        self.end = Some(n);
        self
    }

    /// The window.
    pub fn window(mut self) -> Window {
        let end = self.end;
        let place = FilePos { file: "binlog.000001".into(), pos: 4 + 100 * end.unwrap_or(0) };
        self.batch.commit("server", &CommitPlace::Binlog(place), 1_000_000);
        let batch = self.batch.seal();
        let mut schemas: Vec<Arc<TableSchema>> = Vec::new();
        let mut map = SchemaMap::default();
        let mut refs = Vec::new();
        for (schema, (start, len)) in self.images.iter().zip(extents(&batch)) {
            let known = schemas.iter().position(|s| s.id() == schema.id());
            let index = known.unwrap_or_else(|| {
                schemas.push(schema.clone());
                schemas.len() - 1
            });
            map.insert(schema.clone()).expect("equal schemas");
            refs.push(ImageRef { record: 0, start, len, schema: index as u32 });
        }
        let offset = end.map_or(0, |n| n.saturating_sub(1));
        let record = Record {
            offset: Offset(offset),
            next: Offset(offset + 1),
            batch,
            position: end.map(position),
            schemas: map,
        };
        let steps = self.steps.into_iter().map(|(table, draft)| Step { table, kind: kind(draft, &refs) });
        Window {
            records: vec![record],
            schemas,
            steps: steps.collect(),
            end: end.map(mark),
            ordered: self.ordered,
            changes: self.changes,
            commit_us: 1_000_000,
        }
    }
}

fn kind(draft: Draft, refs: &[ImageRef]) -> StepKind {
    let all = |images: Vec<usize>| images.into_iter().map(|i| refs[i]).collect();
    match draft {
        Draft::Insert(images) => StepKind::Insert(all(images)),
        Draft::Update(pairs) => {
            StepKind::Update(pairs.into_iter().map(|(old, new)| (refs[old], refs[new])).collect())
        }
        Draft::Delete(images) => StepKind::Delete(all(images)),
        Draft::Upsert(images) => StepKind::Upsert(all(images)),
        Draft::Patch(images) => StepKind::Patch(all(images)),
        Draft::PatchIfThere(images) => StepKind::PatchIfThere(all(images)),
        Draft::DeleteIfThere(images) => StepKind::DeleteIfThere(all(images)),
        Draft::CheckAbsent(images) => StepKind::CheckAbsent(all(images)),
        Draft::Truncate => StepKind::Truncate,
    }
}

/// Start and length of every inserted image of a batch.
fn extents(batch: &Batch) -> Vec<(u32, u32)> {
    let base = batch.bytes().as_ptr() as usize;
    let mut out = Vec::new();
    for event in batch.events() {
        if let EventRef::Insert { after, .. } = event.expect("a batch of our own") {
            out.push(((after.as_ptr() as usize - base) as u32, after.len() as u32));
        }
    }
    out
}
