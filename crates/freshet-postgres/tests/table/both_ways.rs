//! Load and stream held together: the catalogue's schema is the stream's, and a loaded row is the streamed row, byte
//! for byte, for every value of `types`. The two forms (binary and text) meet in one target table.

use super::common::{Database, Everything};
use super::types::{Case, DEFINITIONS, numbers, others, scalars, temporals, texts};
use freshet_core::SchemaId;
use freshet_core::codec::{BatchBuilder, EventRef};
use freshet_core::position::Position;
use freshet_core::source::{ReadOutcome, Source};
use freshet_core::table::View;
use freshet_postgres::{WalSource, WalSourceOptions};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Rows by schema, as bytes, sorted.
type Rows = BTreeMap<u64, Vec<Vec<u8>>>;

fn add(rows: &mut Rows, batch: &mut BatchBuilder) {
    let sealed = batch.seal();
    for event in sealed.events() {
        if let EventRef::Insert { schema: SchemaId(schema), after } = event.unwrap() {
            rows.entry(schema).or_default().push(after.to_vec());
        }
    }
}

async fn loaded(view: &mut View) -> Rows {
    let (mut rows, mut batch) = (Rows::new(), BatchBuilder::new());
    for table in view.tables.clone() {
        let reader = view.readers[0].as_mut();
        for chunk in reader.plan(&table, 2).await.unwrap() {
            reader.open(&table, &chunk).await.unwrap();
            while reader.read(&mut batch, 1_000).await.unwrap() {}
        }
        add(&mut rows, &mut batch);
    }
    rows
}

async fn streamed(source: &mut WalSource, start: &Position, end: &Position) -> Rows {
    let (mut rows, mut batch) = (Rows::new(), BatchBuilder::new());
    let Position::Wal(end) = end else { panic!("a place in the WAL") };
    source.open(start, &[]).await.unwrap();
    loop {
        let read = tokio::time::timeout(Duration::from_secs(300), source.read(&mut batch)).await;
        let outcome = read.unwrap().unwrap();
        add(&mut rows, &mut batch);
        if let ReadOutcome::Commit { position: Position::Wal(place) } = outcome
            && place.lsn >= end.lsn
        {
            return rows;
        }
    }
}

async fn check(cases: Vec<Case>) {
    let database = Database::new(DEFINITIONS);
    let tables = cases.iter().zip(0..);
    let create = |((declaration, ..), at): (&Case, i32)| {
        format!("create table t{at} (id int primary key, v {declaration}, w {declaration});")
    };
    database.sql(&tables.clone().map(create).collect::<String>());
    let options = WalSourceOptions {
        slot: format!("both_{}", database.name),
        ..WalSourceOptions::new(database.options().connect, "shop")
    };
    let mut source = WalSource::new(options, Arc::new(Everything));
    let start = source.begin().await.unwrap();
    for ((_, _, values), at) in tables {
        for ((literal, _), id) in values.iter().zip(0..) {
            // What `others` declares NOT NULL takes its value in the second column as well.
            database.sql(&format!("insert into t{at} values ({id}, {literal}, {literal})"));
        }
    }
    let mut view = database.view(1).await;
    let end = view.high.clone();
    let (mut loaded, mut streamed) = (loaded(&mut view).await, streamed(&mut source, &start, &end).await);
    let names: BTreeMap<u64, String> = view
        .tables
        .iter()
        .map(|table| (table.schema.id().0, format!("{} {}", table.name(), table.columns[1].native_type)))
        .collect();
    for (schema, rows) in &mut loaded {
        let mut other =
            streamed.remove(schema).unwrap_or_else(|| panic!("{}: another schema", names[schema]));
        rows.sort();
        other.sort();
        assert_eq!(*rows, other, "{}", names[schema]);
    }
    assert!(streamed.is_empty(), "schemas that no catalogue has");
    assert_eq!(loaded.len(), cases.iter().filter(|(_, _, values)| !values.is_empty()).count());
}

#[tokio::test]
async fn g1_scalars_and_numbers_are_the_same_bytes_both_ways() {
    check([scalars(), numbers()].concat()).await;
}

#[tokio::test]
async fn g2_dates_and_times_are_the_same_bytes_both_ways() {
    check(temporals()).await;
}

#[tokio::test]
async fn g6_text_and_everything_else_is_the_same_bytes_both_ways() {
    check([texts(), others()].concat()).await;
}
