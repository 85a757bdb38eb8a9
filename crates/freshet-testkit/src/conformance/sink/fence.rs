//! Cases of ownership: a second sink takes over, and the first can do nothing any more (T11).

use super::{Case, LOG, Script, Target, TextRow, keyed, mark, position, streaming, text};
use freshet_core::sink::{PrepareMode, Sink};
use freshet_core::{Error, ErrorKind, Result};

pub(super) fn cases() -> Vec<(&'static str, Case)> {
    vec![
        ("an old owner cannot apply", |t| Box::pin(apply(t))),
        ("an old owner's open transaction is gone", |t| Box::pin(open_transaction(t))),
        ("an old owner's loader cannot finish", |t| Box::pin(loader(t))),
        ("an old owner cannot prepare or rebase", |t| Box::pin(others(t))),
        ("an old owner does not take the sink back", |t| Box::pin(no_stealing_back(t))),
    ]
}

/// Its connection may be gone before it learns why: then it is told when it takes over.
fn assert_shut_out(error: &Error) {
    let kind = error.kind();
    assert!(matches!(kind, ErrorKind::Fenced | ErrorKind::Unavailable), "{kind:?}: {error}");
}

async fn taken_from(target: &dyn Target) -> (Box<dyn Sink>, Box<dyn Sink>) {
    let old = streaming(target).await;
    let mut new = target.sink();
    new.take_over().await.expect("a second owner");
    (old, new)
}

async fn attempt(sink: &mut dyn Sink, script: Script, end: u64) -> Result<()> {
    sink.apply(script.end(end).window()).await?;
    sink.flush().await.map(drop)
}

async fn apply(target: &dyn Target) {
    let (mut old, mut new) = taken_from(target).await;
    let a = keyed();
    let error = attempt(&mut *old, Script::new().insert(&a, &[(1, "old")]), 1).await;
    assert_shut_out(&error.expect_err("a window of the old owner"));
    attempt(&mut *new, Script::new().insert(&a, &[(1, "new")]), 1).await.expect("the new owner's window");
    assert_eq!(target.rows(a.target()).await, [text(1, "new")]);
}

async fn open_transaction(target: &dyn Target) {
    let (mut old, a) = (streaming(target).await, keyed());
    old.apply(Script::new().insert(&a, &[(1, "old")]).window()).await.expect("a part");
    let mut new = target.sink();
    new.take_over().await.expect("a second owner");
    attempt(&mut *new, Script::new().insert(&a, &[(1, "new")]), 1).await.expect("the new owner's window");
    let error = attempt(&mut *old, Script::new().insert(&a, &[(2, "old")]), 1).await;
    assert_shut_out(&error.expect_err("the end of the old owner's transaction"));
    assert_eq!(target.rows(a.target()).await, [text(1, "new")]);
}

async fn loader(target: &dyn Target) {
    let mut old = target.sink();
    old.take_over().await.expect("a take-over");
    old.begin(LOG, &mark(0), "d").await.expect("a first checkpoint");
    let a = keyed();
    old.prepare(std::slice::from_ref(&a.plan), PrepareMode::CreateIfAbsent).await.expect("preparation");
    old.plan_chunks(a.name(), &[a.chunk(0)]).await.expect("a chunk plan");
    let mut loader = old.loader().await.expect("a loader");
    loader.open(&a.plan, &a.chunk(0)).await.expect("an open chunk");
    let mut new = target.sink();
    new.take_over().await.expect("a second owner");
    let mut outcome = loader.rows(a.batch(&[(1, "old")])).await;
    if outcome.is_ok() {
        outcome = loader.finish(&position(1)).await.map(drop);
    }
    assert_shut_out(&outcome.expect_err("a chunk of the old owner"));
    assert_eq!(target.rows(a.target()).await, Vec::<TextRow>::new());
}

async fn others(target: &dyn Target) {
    let (mut old, _new) = taken_from(target).await;
    let error = old.rebase(LOG, &mark(1)).await;
    assert_shut_out(&error.expect_err("a rebase by the old owner"));
    let (mut old, _new) = (target.sink(), target.sink());
    old.take_over().await.expect("a take-over");
    target.sink().take_over().await.expect("another owner");
    let plan = super::Table::new("conf", "late", true).plan;
    let error = old.prepare(&[plan], PrepareMode::CreateIfAbsent).await;
    assert_shut_out(&error.expect_err("a preparation by the old owner"));
}

/// Two processes of one pipeline must not take the sink from each other for ever: the one that lost it stops.
async fn no_stealing_back(target: &dyn Target) {
    let (mut old, mut new) = taken_from(target).await;
    let error = old.take_over().await.expect_err("taking back what another took");
    assert_eq!(*error.kind(), ErrorKind::Fenced);
    attempt(&mut *new, Script::new().insert(&keyed(), &[(1, "new")]), 1)
        .await
        .expect("the new owner goes on");
}
