//! Cases of the load: first checkpoint, preparation, chunks, phases.

use super::{Case, LOG, Table, Target, keyed, keyless, mark, phases, position, text};
use freshet_core::ErrorKind;
use freshet_core::sink::{ChunkState, PrepareMode, Sink, TablePhase, TablePlan};

pub(super) fn cases() -> Vec<(&'static str, Case)> {
    vec![
        ("first checkpoint", |t| Box::pin(first_checkpoint(t))),
        ("rebase", |t| Box::pin(rebase(t))),
        ("a load from prepare to consistent", |t| Box::pin(whole_load(t))),
        ("preparing again changes nothing", |t| Box::pin(prepare_again(t))),
        ("a chunk is recorded once", |t| Box::pin(chunk_once(t))),
        ("an unfinished chunk leaves nothing", |t| Box::pin(chunk_unfinished(t))),
        ("a table is restarted whole", |t| Box::pin(restart(t))),
        ("a table with rows is refused", |t| Box::pin(not_empty(t))),
        ("truncate and drop empty a table", |t| Box::pin(prepare_modes(t))),
    ]
}

/// Loads each table in one chunk and makes all of them consistent.
pub(super) async fn load(sink: &mut dyn Sink, tables: &[(Table, &[(i64, &str)])]) {
    let plans: Vec<TablePlan> = tables.iter().map(|(t, _)| t.plan.clone()).collect();
    sink.prepare(&plans, PrepareMode::CreateIfAbsent).await.expect("preparation");
    for (table, rows) in tables {
        sink.plan_chunks(table.name(), &[table.chunk(0)]).await.expect("a chunk plan");
        assert_eq!(load_chunk(sink, table, 0, rows).await, rows.len() as u64);
    }
    sink.finish_load(&plans).await.expect("the end of the load");
    sink.make_consistent(&plans).await.expect("consistency");
}

async fn load_chunk(sink: &mut dyn Sink, table: &Table, number: u32, rows: &[(i64, &str)]) -> u64 {
    let mut loader = sink.loader().await.expect("a loader");
    loader.open(&table.plan, &table.chunk(number)).await.expect("an open chunk");
    for part in rows.chunks(2) {
        loader.rows(table.batch(part)).await.expect("rows");
    }
    loader.finish(&position(9)).await.expect("a finished chunk")
}

async fn first_checkpoint(target: &dyn Target) {
    let mut sink = target.sink();
    let first = sink.take_over().await.expect("a first take-over");
    assert_eq!((first.checkpoint, first.config_digest, first.tables), (None, None, vec![]));
    sink.begin(LOG, &mark(3), "the digest").await.expect("a first checkpoint");
    assert!(sink.begin(LOG, &mark(4), "another").await.is_err(), "a second first checkpoint");
    let again = sink.take_over().await.expect("a second take-over");
    assert!(again.epoch > first.epoch, "an epoch only grows");
    let checkpoint = again.checkpoint.expect("a checkpoint");
    assert_eq!((checkpoint.log_id, checkpoint.mark), (LOG, mark(3)));
    assert_eq!(again.config_digest.as_deref(), Some("the digest"));
}

async fn rebase(target: &dyn Target) {
    let other = freshet_core::LogId([8; 16]);
    let mut sink = target.sink();
    sink.take_over().await.expect("a take-over");
    sink.begin(LOG, &mark(3), "d").await.expect("a first checkpoint");
    sink.rebase(other, &mark(0)).await.expect("another log");
    let checkpoint = sink.take_over().await.expect("a take-over").checkpoint.expect("a checkpoint");
    assert_eq!((checkpoint.log_id, checkpoint.mark), (other, mark(0)));
}

async fn whole_load(target: &dyn Target) {
    let mut sink = begun(target).await;
    let (a, b) = (keyed(), keyless());
    let plans = [a.plan.clone(), b.plan.clone()];
    sink.prepare(&plans, PrepareMode::CreateIfAbsent).await.expect("preparation");
    assert_eq!(phases(&mut *sink).await, [TablePhase::Loading; 2]);
    sink.plan_chunks(a.name(), &[a.chunk(0), a.chunk(1)]).await.expect("a chunk plan");
    sink.plan_chunks(b.name(), &[b.chunk(0)]).await.expect("a chunk plan");
    load_chunk(&mut *sink, &a, 1, &[(3, "c"), (4, "d"), (5, "e")]).await;

    let owned = sink.take_over().await.expect("a take-over in mid-load");
    let state = owned.tables.iter().find(|t| t.table == *a.name()).expect("the table's state");
    assert_eq!(state.target, *a.target());
    assert_eq!(state.chunks[0], ChunkState { chunk: a.chunk(0), rows: None, high: None });
    assert_eq!(state.chunks[1], ChunkState { chunk: a.chunk(1), rows: Some(3), high: Some(position(9)) });

    load_chunk(&mut *sink, &a, 0, &[(1, "a"), (2, "b")]).await;
    load_chunk(&mut *sink, &b, 0, &[(1, "x"), (1, "x")]).await;
    sink.finish_load(&plans).await.expect("the end of the load");
    assert_eq!(phases(&mut *sink).await, [TablePhase::CatchingUp; 2]);
    sink.make_consistent(&plans).await.expect("consistency");
    assert_eq!(phases(&mut *sink).await, [TablePhase::Consistent; 2]);
    let names = ["a", "b", "c", "d", "e"];
    let expect: Vec<_> = names.iter().zip(1..).map(|(name, id)| text(id, name)).collect();
    assert_eq!(target.rows(a.target()).await, expect);
    assert_eq!(target.rows(b.target()).await, [text(1, "x"), text(1, "x")]);
}

async fn prepare_again(target: &dyn Target) {
    let mut sink = begun(target).await;
    let table = keyed();
    sink.prepare(std::slice::from_ref(&table.plan), PrepareMode::CreateIfAbsent).await.expect("preparation");
    sink.plan_chunks(table.name(), &[table.chunk(0)]).await.expect("a chunk plan");
    load_chunk(&mut *sink, &table, 0, &[(1, "a")]).await;
    sink.take_over().await.expect("a take-over");
    for mode in [PrepareMode::CreateIfAbsent, PrepareMode::Truncate, PrepareMode::DropAndCreate] {
        sink.prepare(std::slice::from_ref(&table.plan), mode).await.expect("a second preparation");
        assert_eq!(target.rows(table.target()).await, [text(1, "a")], "a recorded table is left as it is");
    }
}

async fn chunk_once(target: &dyn Target) {
    let mut sink = begun(target).await;
    let table = keyless();
    sink.prepare(std::slice::from_ref(&table.plan), PrepareMode::CreateIfAbsent).await.expect("preparation");
    sink.plan_chunks(table.name(), &[table.chunk(0)]).await.expect("a chunk plan");
    load_chunk(&mut *sink, &table, 0, &[(1, "a")]).await;
    let mut loader = sink.loader().await.expect("a loader");
    let mut outcome = loader.open(&table.plan, &table.chunk(0)).await;
    if outcome.is_ok() {
        outcome = loader.rows(table.batch(&[(1, "a")])).await;
    }
    if outcome.is_ok() {
        outcome = loader.finish(&position(9)).await.map(drop);
    }
    assert!(outcome.is_err(), "a chunk that is in is not loaded again");
    assert_eq!(target.rows(table.target()).await, [text(1, "a")]);
}

async fn chunk_unfinished(target: &dyn Target) {
    let mut sink = begun(target).await;
    let table = keyed();
    sink.prepare(std::slice::from_ref(&table.plan), PrepareMode::CreateIfAbsent).await.expect("preparation");
    sink.plan_chunks(table.name(), &[table.chunk(0)]).await.expect("a chunk plan");
    let mut loader = sink.loader().await.expect("a loader");
    loader.open(&table.plan, &table.chunk(0)).await.expect("an open chunk");
    loader.rows(table.batch(&[(1, "a")])).await.expect("rows");
    drop(loader);
    let owned = sink.take_over().await.expect("a take-over");
    assert_eq!(owned.tables[0].chunks[0].rows, None);
    assert_eq!(target.rows(table.target()).await, Vec::<super::TextRow>::new());
    load_chunk(&mut *sink, &table, 0, &[(1, "a")]).await;
    assert_eq!(target.rows(table.target()).await, [text(1, "a")]);
}

async fn restart(target: &dyn Target) {
    let mut sink = begun(target).await;
    let table = keyless();
    sink.prepare(std::slice::from_ref(&table.plan), PrepareMode::CreateIfAbsent).await.expect("preparation");
    sink.plan_chunks(table.name(), &[table.chunk(0)]).await.expect("a chunk plan");
    load_chunk(&mut *sink, &table, 0, &[(1, "a")]).await;
    assert!(sink.plan_chunks(table.name(), &[table.chunk(0)]).await.is_err(), "a second chunk plan");
    sink.take_over().await.expect("a take-over");
    sink.restart_table(table.name()).await.expect("a restart");
    assert_eq!(target.rows(table.target()).await, Vec::<super::TextRow>::new());
    assert!(sink.take_over().await.expect("a take-over").tables[0].chunks.is_empty());
    sink.plan_chunks(table.name(), &[table.chunk(0)]).await.expect("a new chunk plan");
    load_chunk(&mut *sink, &table, 0, &[(2, "b")]).await;
    assert_eq!(target.rows(table.target()).await, [text(2, "b")]);
}

/// Leaves rows in the table of [`keyed`] that belong to no pipeline any more: a table of the same target under
/// another source name.
async fn foreign_rows(sink: &mut dyn Sink) -> TablePlan {
    let plain = keyed();
    let mut other = Table::new("elsewhere", "keyed", true);
    other.plan.target = plain.plan.target.clone();
    load(sink, &[(other, &[(7, "old")])]).await;
    plain.plan
}

async fn not_empty(target: &dyn Target) {
    let mut sink = begun(target).await;
    let plan = foreign_rows(&mut *sink).await;
    let error = sink.prepare(std::slice::from_ref(&plan), PrepareMode::CreateIfAbsent).await;
    let error = error.expect_err("a table with rows");
    assert_eq!(*error.kind(), ErrorKind::Invalid);
    assert!(error.message().contains("keyed"), "the error names the table: {error}");
    assert_eq!(target.rows(&plan.target).await, [text(7, "old")], "its rows stay");
}

async fn prepare_modes(target: &dyn Target) {
    let mut sink = begun(target).await;
    let plan = foreign_rows(&mut *sink).await;
    sink.prepare(std::slice::from_ref(&plan), PrepareMode::Truncate).await.expect("truncation");
    assert_eq!(target.rows(&plan.target).await, Vec::<super::TextRow>::new());
}

async fn begun(target: &dyn Target) -> Box<dyn Sink> {
    let mut sink = target.sink();
    sink.take_over().await.expect("a take-over");
    sink.begin(LOG, &mark(0), "d").await.expect("a first checkpoint");
    sink
}
