//! Builds one window out of records.
//!
//! Every change is kept in source order as it comes; netting happens when the window is finished, so that a
//! window that turns out not to be nettable can still be applied in order. A TRUNCATE and a change of a table's
//! schema are barriers: what stands before them is netted apart from what follows.

use super::held::Held;
use super::keys::{KeyState, key_bytes};
use super::table::{Change, NetTable, Netted};
use freshet_core::codec::{EventRef, RowRef};
use freshet_core::log::{Log, Record};
use freshet_core::schema::SchemaId;
use freshet_core::sink::TablePlan;
use freshet_core::window::{Counts, ImageRef, Step, StepKind, Window};
use freshet_core::{Error, Mark, Result, TableName, TableSchema};
use std::collections::HashMap;
use std::sync::Arc;

/// How changes are applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rigour {
    /// Between F_low and F_high: a row may already be as the change would make it.
    Idempotent,
    /// After F_high: every row is as the source had it.
    Strict,
}

/// One table as the builder needs it.
#[derive(Debug)]
struct Planned {
    schema: Arc<TableSchema>,
    uniques: Vec<Vec<u16>>,
    /// What was loaded is of one place exactly, or has no key to find it by: every change is strict.
    is_exact: bool,
}

/// The tables of one sink.
#[derive(Debug, Default)]
pub struct Tables {
    by_name: HashMap<TableName, Planned>,
}

impl Tables {
    /// The planned tables; `is_exact` says of which what was loaded is of one place exactly.
    pub fn new(plans: &[TablePlan], is_exact: impl Fn(&TableName) -> bool) -> Self {
        let by_name = plans.iter().map(|plan| {
            let info = &plan.info;
            let whole = |i: &&freshet_core::table::IndexInfo| {
                i.unique && i.parts.iter().all(|p| p.column.is_some() && p.prefix.is_none())
            };
            let uniques = info
                .indexes
                .iter()
                .filter(whole)
                .map(|i| i.parts.iter().filter_map(|p| p.column).collect())
                .collect();
            let is_exact = info.schema.key().is_empty() || is_exact(info.name());
            (info.name().clone(), Planned { schema: info.schema.clone(), uniques, is_exact })
        });
        Self { by_name: by_name.collect() }
    }

    fn get(&self, name: &TableName) -> Result<&Planned> {
        self.by_name.get(name).ok_or_else(|| {
            Error::table(
                name.clone(),
                format!("Changes of table {name} arrived, which was not there when the load began"),
            )
            .with_hint("Exclude the table, or reset the pipeline to load it")
        })
    }
}

/// One change with the table it belongs to, in source order.
#[derive(Clone, Copy, Debug)]
enum Item {
    Row(u32, Change),
    Truncate(u32),
}

/// Gathers records into a window.
#[derive(Debug)]
pub struct WindowBuilder<'t> {
    tables: &'t Tables,
    rigour: Rigour,
    /// What is left out.
    held: &'t mut Held,
    window: Window,
    items: Vec<Item>,
    /// Tables touched, and their row changes as they came.
    touched: Vec<(TableName, Counts)>,
    by_schema: HashMap<SchemaId, (u32, u32)>,
    bytes: usize,
}

impl<'t> WindowBuilder<'t> {
    /// An empty window, which leaves out what is held.
    pub fn new(tables: &'t Tables, rigour: Rigour, held: &'t mut Held) -> Self {
        let window = Window {
            records: Vec::new(),
            schemas: Vec::new(),
            steps: Vec::new(),
            end: None,
            ordered: false,
            changes: Counts::default(),
            commit_us: 0,
        };
        Self {
            tables,
            rigour,
            held,
            window,
            items: Vec::new(),
            touched: Vec::new(),
            by_schema: HashMap::new(),
            bytes: 0,
        }
    }

    /// Bytes of the records so far.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Row changes so far.
    pub fn rows(&self) -> u64 {
        let c = self.window.changes;
        c.inserts + c.updates + c.deletes
    }

    /// Whether no record was added.
    pub fn is_empty(&self) -> bool {
        self.window.records.is_empty()
    }

    /// Prepares for a record: what is held must be known before its events are looked at.
    pub async fn look_ahead(&mut self, record: &Record, log: &Arc<dyn Log>) -> Result<()> {
        self.held.look_ahead(record, log).await
    }

    /// Adds a record. Its end becomes the window's end.
    pub fn add(&mut self, record: Record) -> Result<()> {
        let index = self.window.records.len() as u32;
        self.bytes += record.batch.bytes().len();
        self.window.end = record.position.clone().map(|position| Mark { next: record.next, position });
        self.window.records.push(record);
        let batch = self.window.records[index as usize].batch.clone();
        let base = batch.bytes().as_ptr() as usize;
        for event in batch.events() {
            let place = |image: &[u8], schema: u32| ImageRef {
                record: index,
                start: (image.as_ptr() as usize - base) as u32,
                len: image.len() as u32,
                schema,
            };
            self.event(event?, index, &place)?;
        }
        Ok(())
    }

    fn event(
        &mut self,
        event: EventRef<'_>,
        record: u32,
        place: &dyn Fn(&[u8], u32) -> ImageRef,
    ) -> Result<()> {
        match event {
            EventRef::Begin { txn, .. } => self.held.begin(&txn)?,
            EventRef::Commit(commit) => {
                self.window.commit_us = commit.commit_us;
                self.held.commit();
            }
            EventRef::Schema { .. } => {}
            _ if self.held.skips() => {}
            EventRef::Insert { schema, after } => {
                if let Some((table, schema)) = self.table(schema, record)? {
                    self.window.changes.inserts += 1;
                    self.touched[table as usize].1.inserts += 1;
                    self.items.push(Item::Row(table, Change::Insert(place(after, schema))));
                }
            }
            EventRef::Update { schema, before, after } => {
                if let Some((table, schema)) = self.table(schema, record)? {
                    self.window.changes.updates += 1;
                    self.touched[table as usize].1.updates += 1;
                    self.items
                        .push(Item::Row(table, Change::Update(place(before, schema), place(after, schema))));
                }
            }
            EventRef::Delete { schema, before } => {
                if let Some((table, schema)) = self.table(schema, record)? {
                    self.window.changes.deletes += 1;
                    self.touched[table as usize].1.deletes += 1;
                    self.items.push(Item::Row(table, Change::Delete(place(before, schema))));
                }
            }
            EventRef::Truncate(table) => {
                self.tables.get(&table)?;
                if !self.held.holds(&table)? {
                    let table = self.touch(&table);
                    self.items.push(Item::Truncate(table));
                }
            }
            EventRef::Statement(statement) => {
                return Err(definition_changed(&statement.table, statement.text));
            }
        }
        Ok(())
    }

    /// Index of the table and of the schema in this window; `None` if the change is held already.
    fn table(&mut self, id: SchemaId, record: u32) -> Result<Option<(u32, u32)>> {
        if let Some(known) = self.by_schema.get(&id) {
            return Ok(Some(*known));
        }
        let of = self.window.records[record as usize].clone();
        let schema_index = self.window.schema_index(id, &of)?;
        let schema = self.window.schemas[schema_index as usize].clone();
        let planned = self.tables.get(schema.name())?;
        check_schema(&planned.schema, &schema)?;
        if self.held.concerns(schema.name()) {
            // Decided for each transaction: not remembered.
            let held = self.held.holds(schema.name())?;
            let table = self.touch(schema.name());
            return Ok((!held).then_some((table, schema_index)));
        }
        let table = self.touch(schema.name());
        self.by_schema.insert(id, (table, schema_index));
        Ok(Some((table, schema_index)))
    }

    fn touch(&mut self, name: &TableName) -> u32 {
        match self.touched.iter().position(|(n, _)| n == name) {
            Some(i) => i as u32,
            None => {
                self.touched.push((name.clone(), Counts::default()));
                self.touched.len() as u32 - 1
            }
        }
    }

    /// The window: netted, or in source order if `ordered` or if netting is not possible; and the row changes of
    /// each table as the source made them.
    pub fn finish(mut self, ordered: bool) -> Result<(Window, Vec<(TableName, Counts)>)> {
        let netted = if ordered { None } else { self.net()? };
        match netted {
            Some(steps) => self.window.steps = steps,
            None => {
                self.window.ordered = true;
                self.window.steps = self.in_order()?;
            }
        }
        Ok((self.window, self.touched))
    }

    fn net(&mut self) -> Result<Option<Vec<Step>>> {
        let mut steps = Vec::new();
        let mut nets: Vec<Option<NetTable>> = self.touched.iter().map(|_| None).collect();
        let mut last_schema: Vec<Option<u32>> = vec![None; self.touched.len()];
        let items = std::mem::take(&mut self.items);
        for item in &items {
            let (table, change) = match item {
                Item::Row(table, change) => (*table as usize, *change),
                Item::Truncate(table) => {
                    self.flush(&mut nets, &mut steps)?;
                    steps.push(self.step(*table as usize, StepKind::Truncate));
                    continue;
                }
            };
            let schema = change_schema(change);
            if last_schema[table].is_some_and(|s| s != schema) {
                self.flush(&mut nets, &mut steps)?;
            }
            last_schema[table] = Some(schema);
            let planned = self.tables.get(&self.touched[table].0)?;
            if planned.schema.key().is_empty() {
                let kinds = self.kinds(change, Rigour::Strict, &[])?;
                push_in_order(&mut steps, &self.touched[table].0, kinds);
                continue;
            }
            let key = self.window.schemas[schema as usize].key();
            let net = nets[table].get_or_insert_with(|| NetTable::new(key, &planned.uniques));
            match net.add(change, |image| self.window.row(image))? {
                Netted::Yes => {}
                Netted::Apart => {
                    self.flush(&mut nets, &mut steps)?;
                    let kinds = self.kinds(change, self.rigour_of(planned), key)?;
                    // Steps of their own: two updates of a key are never one statement.
                    steps.extend(kinds.into_iter().map(|kind| self.step(table, kind)));
                }
                Netted::NeedsOrder => {
                    self.items = items;
                    return Ok(None);
                }
            }
        }
        self.flush(&mut nets, &mut steps)?;
        Ok(Some(steps))
    }

    /// Moves the net changes so far into steps: every table's deletes, then updates, then inserts, then the updates of
    /// what was inserted.
    fn flush(&self, nets: &mut [Option<NetTable>], steps: &mut Vec<Step>) -> Result<()> {
        let (mut main, mut last) = (Vec::new(), Vec::new());
        for (table, net) in nets.iter_mut().enumerate() {
            let Some(net) = net.take() else { continue };
            let rigour = self.rigour_of(self.tables.get(&self.touched[table].0)?);
            let net = net.steps(rigour == Rigour::Idempotent, |image| self.window.row(image))?;
            main.extend(net.main.into_iter().map(|kind| self.step(table, kind)));
            last.extend(net.last.into_iter().map(|kind| self.step(table, kind)));
        }
        main.sort_by_key(|step| phase(&step.kind));
        steps.append(&mut main);
        steps.append(&mut last);
        Ok(())
    }

    /// Between the bounds of a load only tables that were read at more than one place are idempotent.
    fn rigour_of(&self, table: &Planned) -> Rigour {
        if table.is_exact { Rigour::Strict } else { self.rigour }
    }

    fn step(&self, table: usize, kind: StepKind) -> Step {
        Step { table: self.touched[table].0.clone(), kind }
    }

    fn in_order(&self) -> Result<Vec<Step>> {
        let mut steps: Vec<Step> = Vec::new();
        for item in &self.items {
            match item {
                Item::Truncate(table) => steps.push(self.step(*table as usize, StepKind::Truncate)),
                Item::Row(table, change) => {
                    let name = &self.touched[*table as usize].0;
                    let planned = self.tables.get(name)?;
                    let kinds = self.kinds(*change, self.rigour_of(planned), planned.schema.key())?;
                    push_in_order(&mut steps, name, kinds);
                }
            }
        }
        Ok(steps)
    }

    /// What one change is, applied by itself.
    fn kinds(&self, change: Change, rigour: Rigour, key: &[u16]) -> Result<Vec<StepKind>> {
        Ok(match (change, rigour) {
            (Change::Insert(after), Rigour::Strict) => vec![StepKind::Insert(vec![after])],
            (Change::Update(before, after), Rigour::Strict) => vec![StepKind::Update(vec![(before, after)])],
            (Change::Delete(before), Rigour::Strict) => vec![StepKind::Delete(vec![before])],
            (Change::Insert(after), Rigour::Idempotent) => vec![StepKind::Upsert(vec![after])],
            (Change::Update(before, after), Rigour::Idempotent) => {
                let (old, new) = (self.window.row(before)?, self.window.row(after)?);
                let removed = StepKind::DeleteIfThere(vec![before]);
                match new.is_partial() {
                    false => vec![removed, StepKind::Upsert(vec![after])],
                    true if same_key(old, new, key)? => vec![StepKind::PatchIfThere(vec![after])],
                    // A row with the new key that was read after it had moved there has the values. One that was read
                    // before is not there: the patch finds nothing, and the table is read again.
                    true => vec![removed, StepKind::Patch(vec![after])],
                }
            }
            (Change::Delete(before), Rigour::Idempotent) => vec![StepKind::DeleteIfThere(vec![before])],
        })
    }
}

/// Order of bulk steps within a window.
fn phase(kind: &StepKind) -> u8 {
    match kind {
        StepKind::CheckAbsent(_) => 0,
        StepKind::Delete(_) | StepKind::DeleteIfThere(_) => 1,
        StepKind::Update(_) | StepKind::Patch(_) | StepKind::PatchIfThere(_) => 2,
        StepKind::Insert(_) | StepKind::Upsert(_) => 3,
        StepKind::Truncate => 4,
    }
}

fn change_schema(change: Change) -> u32 {
    match change {
        Change::Insert(image) | Change::Delete(image) | Change::Update(_, image) => image.schema,
    }
}

/// Whether two images of a row have the same key.
fn same_key(one: RowRef<'_>, other: RowRef<'_>, key: &[u16]) -> Result<bool> {
    let (mut left, mut right) = (Vec::new(), Vec::new());
    let states = (key_bytes(one, key, &mut left)?, key_bytes(other, key, &mut right)?);
    Ok(states == (KeyState::Whole, KeyState::Whole) && left == right)
}

/// Adds what a change is to the last step if that is of the same table and operation, else as steps of its own.
fn push_in_order(steps: &mut Vec<Step>, table: &TableName, kinds: Vec<StepKind>) {
    for kind in kinds {
        let same_table = steps.last_mut().filter(|s| s.table == *table);
        match (same_table.map(|s| &mut s.kind), kind) {
            (Some(StepKind::Insert(rows)), StepKind::Insert(more)) => rows.extend(more),
            (Some(StepKind::Update(rows)), StepKind::Update(more)) => rows.extend(more),
            (Some(StepKind::Delete(rows)), StepKind::Delete(more)) => rows.extend(more),
            (_, kind) => steps.push(Step { table: table.clone(), kind }),
        }
    }
}

/// The stream's schema must be the one that the target was made from: anything else is a change of definition
/// that has not been followed (D1).
fn check_schema(planned: &TableSchema, streamed: &TableSchema) -> Result<()> {
    let same = planned.columns().len() == streamed.columns().len()
        && planned.key() == streamed.key()
        && planned
            .columns()
            .iter()
            .zip(streamed.columns())
            .all(|(a, b)| a.name == b.name && a.data_type == b.data_type);
    if same { Ok(()) } else { Err(definition_changed(streamed.name(), "")) }
}

fn definition_changed(table: &TableName, statement: &str) -> Error {
    let what = statement.split_whitespace().take(3).collect::<Vec<_>>().join(" ");
    let what =
        if what.is_empty() { String::new() } else { format!(" by a statement that begins \"{what}\"") };
    let subject =
        if table.table.is_empty() { "of a captured table".to_owned() } else { format!("of table {table}") };
    Error::table(
        table.clone(),
        format!("The definition {subject} was changed{what}; following it is not supported yet"),
    )
    .with_hint("Change the target the same way and reset the pipeline to load again, or exclude the table")
}
