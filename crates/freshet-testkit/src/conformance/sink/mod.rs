//! What every relational sink promises ([`freshet_core::sink`]), as cases over two small tables.
//!
//! A [`Target`] gives sinks over one empty target and reads its rows by other means than the sink. The cases begin
//! with one each: `for (name, case) in cases() { case(&fresh_target()).await }`. Values are integers and short texts;
//! how types are kept is each implementation's own test.

mod apply;
mod fence;
mod load;
mod script;

pub use script::{Script, Table, mark, position};

use async_trait::async_trait;
use freshet_core::sink::{Applied, Sink, TablePhase};
use freshet_core::{ErrorKind, LogId, Mark, Result, TableName};
use std::future::Future;
use std::pin::Pin;

/// A row as its cells' texts.
pub type TextRow = Vec<Option<String>>;

/// An empty target of a test's own.
#[async_trait]
pub trait Target: Send + Sync {
    /// A new sink of the same pipeline on this target, not taken over yet.
    fn sink(&self) -> Box<dyn Sink>;

    /// Rows of a target table, sorted, columns in the order of [`Table::new`], read behind the sink's back.
    async fn rows(&self, table: &TableName) -> Vec<TextRow>;
}

/// A case on an empty target.
pub type Case = for<'a> fn(&'a dyn Target) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Every case with its name.
pub fn cases() -> Vec<(&'static str, Case)> {
    let mut all = Vec::new();
    all.extend(load::cases());
    all.extend(apply::cases());
    all.extend(fence::cases());
    all
}

/// A log's identity.
pub(crate) const LOG: LogId = LogId([7; 16]);

/// The ordinary tables: one with a key, one without.
pub(crate) fn keyed() -> Table {
    Table::new("conf", "keyed", true)
}

pub(crate) fn keyless() -> Table {
    Table::new("conf", "keyless", false)
}

/// A row of [`Table`]: number and name.
pub(crate) fn text(id: i64, name: &str) -> TextRow {
    vec![Some(id.to_string()), Some(name.to_owned())]
}

/// A sink taken over with its first checkpoint at mark 0 and both tables kept consistent, as after a load of nothing.
pub(crate) async fn streaming(target: &dyn Target) -> Box<dyn Sink> {
    let mut sink = target.sink();
    let owned = sink.take_over().await.expect("a first take-over");
    assert_eq!(owned.checkpoint, None, "an empty target has no checkpoint");
    sink.begin(LOG, &mark(0), "digest").await.expect("the first checkpoint");
    load::load(&mut *sink, &[(keyed(), &[]), (keyless(), &[])]).await;
    sink
}

/// Applies and waits until it is durable; the mark.
pub(crate) async fn durable(sink: &mut dyn Sink, script: Script, end: u64) -> Result<Mark> {
    let applied = sink.apply(script.end(end).window()).await?;
    match (applied, sink.flush().await?) {
        (_, Some(mark)) | (Applied::Durable(mark), None) => {
            assert_eq!(mark, self::mark(end), "the mark that became durable is the window's end");
            Ok(mark)
        }
        (Applied::Accepted, None) => panic!("a window was accepted and then not known to flush"),
    }
}

/// The error of a window that must fail, wherever it comes.
pub(crate) async fn refused(sink: &mut dyn Sink, script: Script, end: u64) -> ErrorKind {
    let error = durable(sink, script, end).await.expect_err("a window that must be refused");
    error.kind().clone()
}

/// Whether a take-over shows this mark.
pub(crate) async fn assert_checkpoint(sink: &mut dyn Sink, end: u64) {
    let owned = sink.take_over().await.expect("a take-over");
    let checkpoint = owned.checkpoint.expect("a checkpoint");
    assert_eq!(
        (checkpoint.log_id, checkpoint.mark),
        (LOG, mark(end)),
        "the checkpoint that the target holds"
    );
}

/// Phases as a take-over shows them.
pub(crate) async fn phases(sink: &mut dyn Sink) -> Vec<TablePhase> {
    sink.take_over().await.expect("a take-over").tables.iter().map(|t| t.phase).collect()
}
