//! Whole databases through the reader and the sink of this crate.

use super::Database;
use super::rows::begin;
use freshet_core::TableName;
use freshet_core::codec::BatchBuilder;
use freshet_core::sink::{PrepareMode, Sink, TablePlan};
use freshet_core::source::Selects;
use freshet_core::table::{NativeRows, TableReader, View};
use freshet_postgres::{ConnectOptions, PostgresSink, PostgresTableReader, ReaderOptions, SinkOptions};
use freshet_testkit::conformance::sink::position;
use std::sync::Arc;

/// Every table.
pub struct Everything;

impl Selects for Everything {
    fn selects(&self, _: &TableName) -> bool {
        true
    }

    fn selects_schema(&self, _: &str) -> bool {
        true
    }
}

/// A view of every table.
pub async fn view(from: &Database) -> View {
    let mut connect = ConnectOptions::new("127.0.0.1", "postgres", &from.name);
    connect.port = from.server.port();
    PostgresTableReader::new(ReaderOptions::new(connect, "shop")).view(&Everything, 1).await.unwrap()
}

/// The tables of a view under their own names.
pub fn plans(view: &View) -> Vec<TablePlan> {
    let plan = |info: &freshet_core::table::TableInfo| TablePlan {
        target: info.name().clone(),
        info: Arc::new(info.clone()),
    };
    view.tables.iter().map(plan).collect()
}

/// Loads every table of `from` into `to` under the same names. Returns what is told not to be carried over.
pub async fn copy_all(from: &Database, to: &Database) -> Vec<String> {
    copy_as(from, to.options(), PrepareMode::CreateIfAbsent).await
}

/// The same; returns how many rows of which tables were passed on undecoded.
pub async fn copy_passing_on(from: &Database, to: &Database) -> Vec<String> {
    let mut view = view(from).await;
    let plans = plans(&view);
    copy(&mut view, plans, to.options(), PrepareMode::CreateIfAbsent).await.1
}

/// The same, by a sink of these options.
pub async fn copy_as(from: &Database, options: SinkOptions, mode: PrepareMode) -> Vec<String> {
    let mut view = view(from).await;
    let plans = plans(&view);
    copy_plans(&mut view, plans, options, mode).await
}

/// The same, of a view and under the names of these plans.
pub async fn copy_plans(
    view: &mut View,
    plans: Vec<TablePlan>,
    options: SinkOptions,
    mode: PrepareMode,
) -> Vec<String> {
    copy(view, plans, options, mode).await.0
}

/// What is told, and what was passed on.
async fn copy(
    view: &mut View,
    plans: Vec<TablePlan>,
    options: SinkOptions,
    mode: PrepareMode,
) -> (Vec<String>, Vec<String>) {
    let mut passed_on = Vec::new();
    let mut sink = PostgresSink::new(options);
    begin(&mut sink).await;
    let mut lines = sink.prepare(&plans, mode).await.unwrap();
    for plan in &plans {
        let reader = &mut view.readers[0];
        let chunks = reader.plan(&plan.info, 10_000).await.unwrap();
        sink.plan_chunks(plan.info.name(), &chunks).await.unwrap();
        let mut loader = sink.loader().await.unwrap();
        for chunk in &chunks {
            reader.open(&plan.info, chunk).await.unwrap();
            loader.open(plan, chunk).await.unwrap();
            if reader.is_native() && loader.takes_native() {
                let mut native = NativeRows::default();
                while reader.read_native(&mut native, 1 << 20).await.unwrap() {}
                passed_on.push(format!("{} rows of {}", native.rows, plan.info.name()));
                loader.native(native).await.unwrap();
            } else {
                let mut batch = BatchBuilder::new();
                while reader.read(&mut batch, 1 << 20).await.unwrap() {}
                loader.rows(batch.seal()).await.unwrap();
            }
            loader.finish(&position(0)).await.unwrap();
        }
        lines.extend(plan.info.not_carried.iter().cloned());
    }
    lines.extend(sink.finish_load(&plans).await.unwrap());
    lines.extend(sink.make_consistent(&plans).await.unwrap());
    lines.extend(view.not_carried.iter().cloned());
    (lines, passed_on)
}
