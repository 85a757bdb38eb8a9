//! Cases of applying: every kind of step, strictness, parts of one transaction.

use super::{
    Case, Script, Target, TextRow, assert_checkpoint, durable, keyed, keyless, refused, streaming, text,
};
use freshet_core::ErrorKind;

pub(super) fn cases() -> Vec<(&'static str, Case)> {
    vec![
        ("every kind of step, in bulk", |t| Box::pin(steps(t, false))),
        ("every kind of step, in order", |t| Box::pin(steps(t, true))),
        ("many rows", |t| Box::pin(many_rows(t))),
        ("idempotent steps", |t| Box::pin(idempotent(t))),
        ("tables without a key", |t| Box::pin(without_key(t))),
        ("divergences in bulk ask for order", |t| Box::pin(divergences(t, false))),
        ("divergences in order name the table", |t| Box::pin(divergences(t, true))),
        ("keys that must be absent", |t| Box::pin(absent(t))),
        ("values that are not sent stay, in bulk", |t| Box::pin(lacking(t, false))),
        ("values that are not sent stay, in order", |t| Box::pin(lacking(t, true))),
        ("a swap of keys in order", |t| Box::pin(moves(t))),
        ("a transaction in parts", |t| Box::pin(parts(t))),
        ("parts that are rolled back", |t| Box::pin(rolled_back(t))),
        ("an empty window moves the checkpoint", |t| Box::pin(empty(t))),
        ("windows one after the other", |t| Box::pin(sequence(t))),
    ]
}

fn in_mode(script: Script, ordered: bool) -> Script {
    if ordered { script.ordered() } else { script }
}

async fn steps(target: &dyn Target, ordered: bool) {
    let (mut sink, a) = (streaming(target).await, keyed());
    let script = Script::new().insert(&a, &[(0, "zero"), (1, "a"), (2, "b"), (3, "c")]).insert_null(&a, &[4]);
    durable(&mut *sink, in_mode(script, ordered), 1).await.expect("inserts");
    let script = Script::new()
        .delete(&a, &[(1, "a")])
        .update(&a, &[((2, "b"), (2, "b2")), ((3, "c"), (30, "c2"))])
        .insert(&a, &[(5, "e")]);
    durable(&mut *sink, in_mode(script, ordered), 2).await.expect("all three");
    let null = vec![Some("4".to_owned()), None];
    let expect = [text(0, "zero"), text(2, "b2"), text(30, "c2"), null, text(5, "e")];
    assert_eq!(target.rows(a.target()).await, sorted(expect.to_vec()));
    let script = Script::new().truncate(&a).insert(&a, &[(1, "again")]);
    durable(&mut *sink, in_mode(script, ordered), 3).await.expect("truncate");
    assert_eq!(target.rows(a.target()).await, [text(1, "again")]);
    assert_checkpoint(&mut *sink, 3).await;
}

/// Rows in the order in which a target's reader gives them.
fn sorted(mut rows: Vec<TextRow>) -> Vec<TextRow> {
    rows.sort();
    rows
}

async fn many_rows(target: &dyn Target) {
    let (mut sink, a, b) = (streaming(target).await, keyed(), keyless());
    let names: Vec<String> = (0..25_000).map(|i| format!("name {i}")).collect();
    let rows: Vec<(i64, &str)> = names.iter().zip(0..).map(|(name, id)| (id, name.as_str())).collect();
    let script = Script::new().insert(&a, &rows).insert(&b, &rows);
    durable(&mut *sink, script, 1).await.expect("many inserts");
    assert_eq!(target.rows(a.target()).await.len(), rows.len());
    assert_eq!(target.rows(b.target()).await.len(), rows.len());
    let changes: Vec<_> = rows.iter().map(|row| (*row, (row.0, "new"))).collect();
    durable(&mut *sink, Script::new().update(&a, &changes), 2).await.expect("many updates");
    assert!(target.rows(a.target()).await.iter().all(|row| row[1].as_deref() == Some("new")));
    durable(&mut *sink, Script::new().delete(&a, &rows[1..]), 3).await.expect("many deletes");
    assert_eq!(target.rows(a.target()).await, [text(0, "new")]);
}

async fn idempotent(target: &dyn Target) {
    let (mut sink, a) = (streaming(target).await, keyed());
    for end in 1..3 {
        let script = Script::new()
            .delete_if_there(&a, &[(1, ""), (2, "")])
            .upsert(&a, &[(2, &format!("b{end}")), (3, &format!("c{end}"))]);
        durable(&mut *sink, script, end).await.expect("the same again");
    }
    assert_eq!(target.rows(a.target()).await, [text(2, "b2"), text(3, "c2")]);
    let script = Script::new().delete_if_there(&a, &[(2, ""), (9, "")]);
    durable(&mut *sink, script, 3).await.expect("a delete of what is there");
    assert_eq!(target.rows(a.target()).await, [text(3, "c2")]);
}

/// R7: one row each, also among equal ones.
async fn without_key(target: &dyn Target) {
    let (mut sink, b) = (streaming(target).await, keyless());
    let script = Script::new().insert(&b, &[(1, "x"), (1, "x"), (1, "x"), (2, "y")]).insert_null(&b, &[3, 3]);
    durable(&mut *sink, script, 1).await.expect("inserts");
    let script = Script::new().ordered().delete(&b, &[(1, "x")]).update(&b, &[((1, "x"), (1, "z"))]);
    durable(&mut *sink, script.delete_null(&b, &[3]), 2).await.expect("one row each");
    let null = vec![Some("3".to_owned()), None];
    let expect = sorted(vec![text(1, "x"), text(1, "z"), text(2, "y"), null]);
    assert_eq!(target.rows(b.target()).await, expect);
    let kind = refused(&mut *sink, Script::new().ordered().delete(&b, &[(1, "gone")]), 3).await;
    assert_eq!(kind, ErrorKind::Table(b.name().clone()));
    assert_checkpoint(&mut *sink, 2).await;
    assert_eq!(target.rows(b.target()).await, expect);
}

async fn divergences(target: &dyn Target, ordered: bool) {
    let (mut sink, a) = (streaming(target).await, keyed());
    durable(&mut *sink, Script::new().insert(&a, &[(1, "a"), (2, "b")]), 1).await.expect("inserts");
    let bad = [
        Script::new().insert(&a, &[(5, "e"), (1, "again")]),
        Script::new().update(&a, &[((1, "a"), (1, "a2")), ((9, "x"), (9, "y"))]),
        Script::new().delete(&a, &[(1, "a"), (9, "x")]),
        Script::new().update(&a, &[((1, "a"), (2, "b"))]),
    ];
    for script in bad {
        let script = in_mode(script.insert(&a, &[(7, "g")]), ordered);
        let kind = refused(&mut *sink, script, 2).await;
        let expect = if ordered { ErrorKind::Table(a.name().clone()) } else { ErrorKind::Reorder };
        assert_eq!(kind, expect);
        assert_checkpoint(&mut *sink, 1).await;
        assert_eq!(target.rows(a.target()).await, [text(1, "a"), text(2, "b")], "nothing of it is there");
    }
    durable(&mut *sink, Script::new().insert(&a, &[(3, "c")]), 2).await.expect("and it goes on");
}

async fn absent(target: &dyn Target) {
    let (mut sink, a) = (streaming(target).await, keyed());
    let script = Script::new().check_absent(&a, &[(1, ""), (2, "")]).insert(&a, &[(1, "a")]);
    durable(&mut *sink, script, 1).await.expect("keys that are absent");
    let kind = refused(&mut *sink, Script::new().check_absent(&a, &[(2, ""), (1, "")]), 2).await;
    assert_eq!(kind, ErrorKind::Reorder);
    assert_checkpoint(&mut *sink, 1).await;
}

/// R1, R2: a value that an image lacks stays as it is, also where the key moves; a row that is not there is none.
async fn lacking(target: &dyn Target, ordered: bool) {
    let (mut sink, a) = (streaming(target).await, keyed());
    durable(&mut *sink, Script::new().insert(&a, &[(1, "a"), (2, "b")]), 1).await.expect("inserts");
    let script = in_mode(Script::new().update_keys(&a, &[(1, 1), (2, 3)]).patch(&a, &[1, 3]), ordered);
    durable(&mut *sink, script, 2).await.expect("updates of rows that are there");
    assert_eq!(target.rows(a.target()).await, [text(1, "a"), text(3, "b")]);
    for (script, expect) in [
        (Script::new().update_keys(&a, &[(2, 2)]), ErrorKind::Table(a.name().clone())),
        (Script::new().patch(&a, &[1, 2]), ErrorKind::Reload(a.name().clone())),
    ] {
        let kind = refused(&mut *sink, in_mode(script, ordered), 3).await;
        assert_eq!(kind, if ordered { expect } else { ErrorKind::Reorder });
        assert_checkpoint(&mut *sink, 2).await;
    }
    let script = Script::new().patch_if_there(&a, &[1, 2]);
    durable(&mut *sink, in_mode(script, ordered), 3).await.expect("a row that is not there is left out");
    assert_eq!(target.rows(a.target()).await, [text(1, "a"), text(3, "b")]);
}

/// R6: keys move one row at a time, through a free one.
async fn moves(target: &dyn Target) {
    let (mut sink, a) = (streaming(target).await, keyed());
    durable(&mut *sink, Script::new().insert(&a, &[(1, "a"), (2, "b")]), 1).await.expect("inserts");
    let script = Script::new()
        .ordered()
        .update(&a, &[((1, "a"), (99, "a")), ((2, "b"), (1, "b")), ((99, "a"), (2, "a"))]);
    durable(&mut *sink, script, 2).await.expect("a swap");
    assert_eq!(target.rows(a.target()).await, [text(1, "b"), text(2, "a")]);
}

/// T5, T8: one transaction, several windows, one commit.
async fn parts(target: &dyn Target) {
    let (mut sink, a) = (streaming(target).await, keyed());
    for id in 1..4 {
        sink.apply(Script::new().insert(&a, &[(id, "part")]).window()).await.expect("a part");
        assert_eq!(target.rows(a.target()).await, Vec::<TextRow>::new(), "a part is not visible");
    }
    durable(&mut *sink, Script::new().insert(&a, &[(4, "end")]), 1).await.expect("the end");
    assert_eq!(target.rows(a.target()).await.len(), 4);
    assert_checkpoint(&mut *sink, 1).await;
}

async fn rolled_back(target: &dyn Target) {
    let (mut sink, a) = (streaming(target).await, keyed());
    durable(&mut *sink, Script::new().insert(&a, &[(1, "a")]), 1).await.expect("a window");
    sink.apply(Script::new().insert(&a, &[(2, "part")]).window()).await.expect("a part");
    sink.rollback().await.expect("a rollback");
    durable(&mut *sink, Script::new().insert(&a, &[(3, "c")]), 2).await.expect("another window");
    assert_eq!(target.rows(a.target()).await, [text(1, "a"), text(3, "c")]);
    assert_checkpoint(&mut *sink, 2).await;
}

/// T6.
async fn empty(target: &dyn Target) {
    let mut sink = streaming(target).await;
    durable(&mut *sink, Script::new(), 5).await.expect("an empty window");
    assert_checkpoint(&mut *sink, 5).await;
}

async fn sequence(target: &dyn Target) {
    let (mut sink, a) = (streaming(target).await, keyed());
    for end in 1..20 {
        let script = Script::new().insert(&a, &[(end as i64, "row")]).end(end);
        sink.apply(script.window()).await.expect("a window");
    }
    sink.flush().await.expect("the last window");
    assert_eq!(target.rows(a.target()).await.len(), 19);
    assert_checkpoint(&mut *sink, 19).await;
}
