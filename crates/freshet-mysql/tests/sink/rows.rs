//! Rows of any schema for tests: written as a source would, and windows over them.

use freshet_core::codec::{BatchBuilder, RowWriter};
use freshet_core::log::Record;
use freshet_core::sink::{PrepareMode, Sink, TablePlan};
use freshet_core::table::{Chunk, ColumnInfo, Dialect, IndexInfo, TableInfo};
use freshet_core::window::{Counts, ImageRef, Step, StepKind, Window};
use freshet_core::{
    Batch, Column, DataType, Error, EventRef, LogId, Mark, Offset, SchemaMap, TableName, TableSchema,
};
use freshet_testkit::conformance::sink::{mark, position};
use std::sync::Arc;

/// A column for [`plan`]: name, type, the source's own declaration, whether NULL may occur.
pub type ColumnSpec = (&'static str, DataType, &'static str, bool);

pub fn bigint() -> DataType {
    DataType::Int { bits: 64, unsigned: false }
}

pub fn varchar(n: u32) -> DataType {
    DataType::Text { length: Some(n), fixed: false }
}

/// A table `shop.<name>` that becomes `target.<name>`; `key` columns first.
pub fn plan(name: &str, columns: &[ColumnSpec], key: &[u16], indexes: Vec<IndexInfo>) -> TablePlan {
    let specs = columns.iter().map(|(name, data_type, _, nullable)| Column {
        name: (*name).to_owned(),
        data_type: data_type.clone(),
        nullable: *nullable,
    });
    let schema = TableSchema::new(TableName::new("shop", name), specs.collect(), key.to_vec()).unwrap();
    let info = TableInfo {
        schema: Arc::new(schema),
        dialect: Dialect::Mysql,
        columns: columns
            .iter()
            .map(|(_, _, native, _)| ColumnInfo {
                native_type: (*native).to_owned(),
                ..ColumnInfo::default()
            })
            .collect(),
        indexes,
        next_value: None,
        rows_estimate: 0,
        native: Default::default(),
        not_carried: vec![],
    };
    TablePlan { info: Arc::new(info), target: TableName::new("target", name) }
}

/// The same table of a source of that dialect.
pub fn of_dialect(plan: TablePlan, dialect: Dialect) -> TablePlan {
    let info = TableInfo { dialect, ..(*plan.info).clone() };
    TablePlan { info: Arc::new(info), target: plan.target }
}

/// Inserts of these rows as one batch.
pub fn batch(plan: &TablePlan, rows: &[&dyn Fn(&mut RowWriter<'_>)]) -> Batch {
    let mut batch = BatchBuilder::new();
    for write in rows {
        let mut row = batch.insert(&plan.info.schema);
        write(&mut row);
        row.finish();
    }
    batch.seal()
}

/// A window over rows of one table: `steps` is given the images of `rows`, in order.
pub fn window(
    plan: &TablePlan,
    rows: &[&dyn Fn(&mut RowWriter<'_>)],
    end: Option<u64>,
    steps: impl FnOnce(&[ImageRef]) -> Vec<StepKind>,
) -> Window {
    let batch = batch(plan, rows);
    let base = batch.bytes().as_ptr() as usize;
    let mut images = Vec::new();
    for event in batch.events() {
        if let EventRef::Insert { after, .. } = event.unwrap() {
            let start = (after.as_ptr() as usize - base) as u32;
            images.push(ImageRef { record: 0, start, len: after.len() as u32, schema: 0 });
        }
    }
    let mut schemas = SchemaMap::default();
    schemas.insert(plan.info.schema.clone()).unwrap();
    let offset = Offset(end.map_or(0, |n| n.saturating_sub(1)));
    let record = Record { offset, next: offset.next(), batch, position: end.map(position), schemas };
    let table = plan.info.name().clone();
    let kinds = steps(&images);
    Window {
        records: vec![record],
        schemas: vec![plan.info.schema.clone()],
        steps: kinds.into_iter().map(|kind| Step { table: table.clone(), kind }).collect(),
        end: end.map(mark),
        ordered: false,
        changes: Counts::default(),
        commit_us: 0,
    }
}

/// Applies and waits until it is durable.
pub async fn durable(sink: &mut dyn Sink, window: Window) -> Result<Mark, Error> {
    sink.apply(window).await?;
    Ok(sink.flush().await?.expect("a mark"))
}

pub fn chunk(plan: &TablePlan) -> Chunk {
    Chunk { table: plan.info.name().clone(), number: 0, lower: None, upper: None }
}

/// Takes over and stores the first checkpoint.
pub async fn begin(sink: &mut dyn Sink) {
    sink.take_over().await.unwrap();
    sink.begin(LogId([1; 16]), &mark(0), "digest").await.unwrap();
}

/// Makes the tables and loads rows into the first, until consistent.
pub async fn load(sink: &mut dyn Sink, plans: &[TablePlan], rows: Batch) -> Result<Vec<String>, Error> {
    let lines = sink.prepare(plans, PrepareMode::CreateIfAbsent).await?;
    sink.plan_chunks(plans[0].info.name(), &[chunk(&plans[0])]).await?;
    let mut loader = sink.loader().await?;
    loader.open(&plans[0], &chunk(&plans[0])).await?;
    loader.rows(rows).await?;
    loader.finish(&position(0)).await?;
    sink.finish_load(plans).await?;
    sink.make_consistent(plans).await?;
    Ok(lines)
}
