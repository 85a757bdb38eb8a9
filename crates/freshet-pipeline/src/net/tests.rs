//! Windows against a model: whatever is netted, a table ends as if every change had been applied in order.

use super::{Held, Rigour, Tables, WindowBuilder};
use freshet_core::codec::{BatchBuilder, RowRef};
use freshet_core::log::Record;
use freshet_core::position::{CommitPlace, FilePos, TxnId};
use freshet_core::sink::TablePlan;
use freshet_core::table::{ColumnInfo, Dialect, IndexInfo, IndexPart, TableInfo};
use freshet_core::window::{ImageRef, StepKind, Window};
use freshet_core::{Column, DataType, Mark, Offset, Position, SchemaMap, TableName, TableSchema, ValueRef};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// id, unique u, payload.
type Row = (i64, Option<i64>, i64);

#[derive(Clone, Copy, Debug)]
enum Op {
    Insert(Row),
    Update(Row, Row),
    /// As PostgreSQL sends it: of the old row its key, of the new one not the columns that are said to be lacked.
    Partial(Row, Row, Lacked),
    Delete(Row),
    /// The key alone.
    DeleteByKey(Row),
    Truncate,
}

/// Columns that the new row of an update lacks; they did not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Lacked {
    u: bool,
    v: bool,
}

/// A row image: `None` where it lacks the column.
type Image = (i64, Option<Option<i64>>, Option<i64>);

fn whole(row: Row) -> Image {
    (row.0, Some(row.1), Some(row.2))
}

fn key_of(row: Row) -> Image {
    (row.0, None, None)
}

fn without(row: Row, lacked: Lacked) -> Image {
    (row.0, (!lacked.u).then_some(row.1), (!lacked.v).then_some(row.2))
}

fn schema(key: bool) -> Arc<TableSchema> {
    let int = |name: &str, nullable| Column {
        name: name.into(),
        data_type: DataType::Int { bits: 64, unsigned: false },
        nullable,
    };
    let columns = vec![int("id", false), int("u", true), int("v", false)];
    TableSchema::new(TableName::new("s", "t"), columns, if key { vec![0] } else { vec![] })
        .expect("valid")
        .into()
}

fn plan(key: bool) -> TablePlan {
    let part = IndexPart { column: Some(1), prefix: None, descending: false };
    let index = IndexInfo { name: "u".into(), unique: true, method: "btree".into(), parts: vec![part] };
    let info = TableInfo {
        schema: schema(key),
        dialect: Dialect::Mysql,
        columns: vec![ColumnInfo::default(); 3],
        indexes: vec![index],
        next_value: None,
        rows_estimate: 0,
        native: Default::default(),
        not_carried: vec![],
    };
    TablePlan { target: info.name().clone(), info: Arc::new(info) }
}

fn record(schema: &TableSchema, ops: &[Op]) -> Record {
    let mut b = BatchBuilder::new();
    let put = |w: &mut freshet_core::codec::RowWriter<'_>, r: Image| {
        assert!(w.int(r.0));
        match r.1 {
            Some(Some(u)) => assert!(w.int(u)),
            Some(None) => w.null(),
            None => w.absent(),
        }
        match r.2 {
            Some(v) => assert!(w.int(v)),
            None => w.absent(),
        }
    };
    b.begin(&TxnId::Mariadb { domain: 0, server: 1, sequence: 1 }, 0);
    b.schema(schema);
    for op in ops {
        match *op {
            Op::Insert(r) => {
                let mut w = b.insert(schema);
                put(&mut w, whole(r));
                w.finish();
            }
            Op::Update(..) | Op::Partial(..) => {
                let (old, new) = match *op {
                    Op::Partial(old, new, lacked) => (key_of(old), without(new, lacked)),
                    Op::Update(old, new) => (whole(old), whole(new)),
                    _ => unreachable!(),
                };
                let mut w = b.update(schema);
                put(&mut w, old);
                w.after();
                put(&mut w, new);
                w.finish();
            }
            Op::Delete(..) | Op::DeleteByKey(..) => {
                let old = match *op {
                    Op::Delete(r) => whole(r),
                    Op::DeleteByKey(r) => key_of(r),
                    _ => unreachable!(),
                };
                let mut w = b.delete(schema);
                put(&mut w, old);
                w.finish();
            }
            Op::Truncate => b.truncate(schema.name()),
        }
    }
    b.commit("s", &CommitPlace::Binlog(FilePos { file: "b.000001".into(), pos: 99 }), 7);
    let batch = b.seal();
    let mut schemas = SchemaMap::default();
    batch.collect_schemas(&mut schemas).expect("collects");
    let position: Position = "binlog;s;b.000001;99;mariadb;0-1-1".parse().expect("position");
    Record { offset: Offset(0), next: Offset(1), batch, position: Some(position), schemas }
}

fn window(ops: &[Op], key: bool, rigour: Rigour, ordered: bool) -> Window {
    let tables = Tables::new(&[plan(key)], |_| false);
    let begin: Position = "binlog;s;b.000001;4;mariadb;".parse().expect("position");
    let mut nothing = Held::new(Mark { next: Offset(0), position: begin.clone() }, begin);
    let mut builder = WindowBuilder::new(&tables, rigour, &mut nothing);
    builder.add(record(&schema(key), ops)).expect("adds");
    builder.finish(ordered).expect("finishes").0
}

/// P19: a table without a key that was read later than F_low leaves out what ended before it was, whichever way the
/// sequence of its domain ran.
#[tokio::test]
async fn p19_a_table_without_a_key_holds_what_ended_before_it_was_read() {
    let at = |pos: u64, sequence: u64| -> Position {
        format!("binlog;s;b.000001;{pos};mariadb;0-1-{sequence}").parse().expect("position")
    };
    let store = freshet_testkit::memory::log::MemoryLogStore::new();
    let log = freshet_core::log::LogStore::create(&store, &at(4, 9), &[]).await.expect("a log");
    for (read_at, held) in [(at(99, 1), true), (at(98, 8), false), (at(120, 3), true)] {
        let low = Mark { next: Offset(0), position: at(4, 9) };
        let tables = [(TableName::new("s", "t"), read_at.clone())].into();
        let mut holds = Held::new(low.clone(), low.position).with_tables(tables);
        let tables = Tables::new(&[plan(false)], |_| false);
        let mut builder = WindowBuilder::new(&tables, Rigour::Strict, &mut holds);
        let record = record(&schema(false), &[Op::Insert((1, None, 1))]);
        builder.look_ahead(&record, &log).await.expect("looks ahead");
        builder.add(record).expect("adds");
        let (mut window, _) = builder.finish(false).expect("finishes");
        assert_eq!(window.steps.is_empty(), held, "read at {read_at}");
        holds.join(window.end.as_mut()).expect("joins");
        assert_eq!(holds.is_any(), read_at == at(120, 3), "forgotten when the log has passed it");
    }
}

fn image(window: &Window, image: ImageRef) -> Image {
    let row: RowRef<'_> = window.row(image).expect("inside");
    let cells: Vec<_> = row.cells().map(|c| c.expect("valid")).collect();
    let int = |cell: &ValueRef<'_>| match cell {
        ValueRef::Int(n) => Some(Some(*n)),
        ValueRef::Null => Some(None),
        ValueRef::Absent => None,
        other => panic!("unexpected {other:?}"),
    };
    let [id, u, v] = cells.as_slice() else { panic!("three columns") };
    assert_eq!(row.is_partial(), cells.contains(&ValueRef::Absent));
    assert!((0..3).all(|column| row.lacks(column) == (cells[column] == ValueRef::Absent)));
    (int(id).flatten().expect("a key"), int(u), int(v).map(|v| v.expect("not null")))
}

fn row(window: &Window, at: ImageRef) -> Row {
    let (id, u, v) = image(window, at);
    (id, u.expect("whole"), v.expect("whole"))
}

/// The row with what the image has.
fn patched(there: Row, image: Image) -> Row {
    (image.0, image.1.unwrap_or(there.1), image.2.unwrap_or(there.2))
}

/// Applies a window the way a strict target would: keys are checked, and the unique index where `unique` says so,
/// after every single row.
fn apply(window: &Window, table: &mut BTreeMap<i64, Row>, unique: bool) -> Result<(), String> {
    let check = |table: &BTreeMap<i64, Row>, r: Row| {
        let taken = unique && r.1.is_some() && table.values().any(|o| o.0 != r.0 && o.1 == r.1);
        if taken { Err(format!("unique value of {r:?}")) } else { Ok(()) }
    };
    for step in &window.steps {
        match &step.kind {
            StepKind::Insert(rows) => {
                for r in rows.iter().map(|i| row(window, *i)) {
                    check(table, r)?;
                    if table.insert(r.0, r).is_some() {
                        return Err(format!("key of {r:?} is there"));
                    }
                }
            }
            StepKind::Upsert(rows) => table.extend(rows.iter().map(|i| row(window, *i)).map(|r| (r.0, r))),
            StepKind::Patch(rows) => {
                for new in rows.iter().map(|i| image(window, *i)) {
                    let there = table.get(&new.0).ok_or(format!("nothing to patch for {new:?}"))?;
                    table.insert(new.0, patched(*there, new));
                }
            }
            StepKind::PatchIfThere(rows) => {
                for new in rows.iter().map(|i| image(window, *i)) {
                    if let Some(there) = table.get(&new.0).copied() {
                        table.insert(new.0, patched(there, new));
                    }
                }
            }
            StepKind::Update(rows) => {
                if !window.ordered {
                    let keys: BTreeSet<i64> = rows.iter().map(|(old, _)| image(window, *old).0).collect();
                    assert_eq!(keys.len(), rows.len(), "distinct keys in a bulk step");
                }
                for (old, new) in rows.iter().map(|(a, b)| (image(window, *a), image(window, *b))) {
                    let there = table.remove(&old.0).ok_or(format!("key of {old:?} is not there"))?;
                    let new = patched(there, new);
                    check(table, new)?;
                    if table.insert(new.0, new).is_some() {
                        return Err(format!("key of {new:?} is there"));
                    }
                }
            }
            StepKind::Delete(rows) => {
                for old in rows.iter().map(|i| image(window, *i)) {
                    table.remove(&old.0).ok_or(format!("key of {old:?} is not there"))?;
                }
            }
            StepKind::DeleteIfThere(rows) => {
                for r in rows.iter().map(|i| image(window, *i)) {
                    table.remove(&r.0);
                }
            }
            StepKind::CheckAbsent(rows) => {
                if let Some(r) = rows.iter().map(|i| image(window, *i)).find(|r| table.contains_key(&r.0)) {
                    return Err(format!("key of {r:?} is there"));
                }
            }
            StepKind::Truncate => table.clear(),
        }
    }
    Ok(())
}

/// A history that a source could have: statements whose every row respects key and unique index.
fn history(choices: &[(u8, i64, i64, i64)], table: &mut BTreeMap<i64, Row>) -> Vec<Op> {
    let mut ops = Vec::new();
    for &(kind, id, u, v) in choices {
        let new: Row = (id, (u > 0).then_some(u), v);
        let free = |table: &BTreeMap<i64, Row>, but: i64| {
            new.1.is_none() || !table.values().any(|o| o.0 != but && o.1 == new.1)
        };
        let victim = table.values().nth(v.unsigned_abs() as usize % table.len().max(1)).copied();
        match (kind, victim) {
            (0..=2, _) if !table.contains_key(&id) && free(table, id) => {
                table.insert(id, new);
                ops.push(Op::Insert(new));
            }
            (3..=5, Some(old)) if (old.0 == id || !table.contains_key(&id)) && free(table, old.0) => {
                table.remove(&old.0);
                table.insert(id, new);
                ops.push(Op::Update(old, new));
            }
            (6, Some(old)) => {
                table.remove(&old.0);
                ops.push(Op::Delete(old));
            }
            (7, _) if v == 0 => {
                table.clear();
                ops.push(Op::Truncate);
            }
            (8.., Some(old)) => {
                let (ops_of_kind, row) = partial(kind, old, new);
                if (row.0 == old.0 || !table.contains_key(&row.0)) && (row.1 == old.1 || free(table, old.0)) {
                    table.remove(&old.0);
                    table.insert(row.0, row);
                    ops.push(ops_of_kind);
                }
            }
            _ => {}
        }
    }
    ops
}

/// An update that lacks values, or by key alone, and the row after it.
fn partial(kind: u8, old: Row, new: Row) -> (Op, Row) {
    let (row, u, v) = match kind {
        8 => ((old.0, old.1, new.2), true, false),
        9 => ((old.0, new.1, old.2), false, true),
        10 => ((new.0, old.1, old.2), true, true),
        11 => ((new.0, new.1, old.2), false, true),
        12 => ((old.0, new.1, new.2), false, false),
        _ => ((old.0, old.1, old.2), true, true),
    };
    (Op::Partial(old, row, Lacked { u, v }), row)
}

fn kinds(window: &Window) -> Vec<(&'static str, usize)> {
    let name = |k: &StepKind| match k {
        StepKind::Insert(r) => ("insert", r.len()),
        StepKind::Upsert(r) => ("upsert", r.len()),
        StepKind::Patch(r) => ("patch", r.len()),
        StepKind::PatchIfThere(r) => ("patch if there", r.len()),
        StepKind::Update(r) => ("update", r.len()),
        StepKind::Delete(r) => ("delete", r.len()),
        StepKind::DeleteIfThere(r) => ("delete if there", r.len()),
        StepKind::CheckAbsent(r) => ("check absent", r.len()),
        StepKind::Truncate => ("truncate", 0),
    };
    window.steps.iter().map(|s| name(&s.kind)).collect()
}

const A: Row = (1, None, 10);
const B: Row = (2, None, 20);

#[test]
fn the_first_operation_says_what_must_be_there() {
    let changed = (1, None, 11);
    for (ops, expect) in [
        (vec![Op::Insert(A), Op::Update(A, changed)], vec![("insert", 1)]),
        (vec![Op::Insert(A), Op::Delete(A)], vec![("check absent", 1)]),
        (vec![Op::Update(A, changed), Op::Delete(changed)], vec![("delete", 1)]),
        (vec![Op::Delete(A), Op::Insert(changed)], vec![("update", 1)]),
        (vec![Op::Update(A, B)], vec![("delete", 1), ("insert", 1)]),
        (
            vec![Op::Insert(A), Op::Truncate, Op::Insert(B)],
            vec![("insert", 1), ("truncate", 0), ("insert", 1)],
        ),
    ] {
        assert_eq!(kinds(&window(&ops, true, Rigour::Strict, false)), expect, "{ops:?}");
    }
    let idempotent = window(&[Op::Update(A, B)], true, Rigour::Idempotent, false);
    assert_eq!(kinds(&idempotent), [("delete if there", 1), ("upsert", 1)]);
}

#[test]
fn a_history_that_makes_no_sense_is_left_to_the_target() {
    for ops in [
        vec![Op::Insert(A), Op::Insert(A)],
        vec![Op::Delete(A), Op::Delete(A)],
        vec![Op::Delete(A), Op::Update(A, A)],
    ] {
        let w = window(&ops, true, Rigour::Strict, false);
        assert!(w.ordered, "{ops:?}");
    }
}

#[test]
fn r7_a_table_without_a_key_keeps_its_order() {
    let w = window(
        &[Op::Insert(A), Op::Insert(A), Op::Delete(A), Op::Insert(B)],
        false,
        Rigour::Idempotent,
        false,
    );
    assert_eq!(kinds(&w), [("insert", 2), ("delete", 1), ("insert", 1)]);
}

#[test]
fn two_keys_with_one_unique_value_are_applied_in_order() {
    let swap = [
        Op::Update((1, Some(5), 0), (1, Some(9), 0)),
        Op::Update((2, Some(6), 0), (2, Some(5), 0)),
        Op::Update((1, Some(9), 0), (1, Some(6), 0)),
    ];
    let w = window(&swap, true, Rigour::Strict, false);
    assert!(w.ordered);
    let mut table = BTreeMap::from([(1, (1, Some(5), 0)), (2, (2, Some(6), 0))]);
    apply(&w, &mut table, true).expect("applies");
    assert_eq!(table[&1].1, Some(6));
}

fn choices() -> impl Strategy<Value = Vec<(u8, i64, i64, i64)>> {
    prop::collection::vec((0u8..8, 0i64..6, 0i64..5, 0i64..8), 0..40)
}

/// With updates that lack values.
fn choices_of_postgres() -> impl Strategy<Value = Vec<(u8, i64, i64, i64)>> {
    prop::collection::vec((0u8..14, 0i64..6, 0i64..5, 0i64..8), 0..40)
}

/// Deletes by key alone, as PostgreSQL sends them.
fn by_key(ops: Vec<Op>) -> Vec<Op> {
    let by_key = |op| match op {
        Op::Delete(old) => Op::DeleteByKey(old),
        op => op,
    };
    ops.into_iter().map(by_key).collect()
}

/// R1, R2: what is put together in one step, what follows as a second one, and what stands by itself.
#[test]
fn r1_r2_updates_that_lack_values_are_never_put_together_wrong() {
    let row = |u, v| (1, Some(u), v);
    let lack_v = |old, new| Op::Partial(old, new, Lacked { u: false, v: true });
    let lack_u = |old, new| Op::Partial(old, new, Lacked { u: true, v: false });
    for (ops, strict, idempotent) in [
        (
            vec![lack_v(row(1, 7), row(2, 7)), lack_v(row(2, 7), row(3, 7))],
            vec![("update", 1)],
            vec![("patch if there", 1)],
        ),
        (
            vec![Op::Insert(row(1, 7)), lack_v(row(1, 7), row(2, 7)), lack_v(row(2, 7), row(3, 7))],
            vec![("insert", 1), ("update", 1)],
            vec![("upsert", 1), ("patch", 1)],
        ),
        (
            vec![Op::Insert(row(1, 7)), lack_v(row(1, 7), row(2, 7)), lack_u(row(2, 7), row(2, 8))],
            vec![("insert", 1), ("update", 1), ("update", 1)],
            vec![("upsert", 1), ("patch", 1), ("patch if there", 1)],
        ),
        (
            vec![lack_v(row(1, 7), row(2, 7)), lack_u(row(2, 7), row(2, 8))],
            vec![("update", 1), ("update", 1)],
            vec![("patch if there", 1), ("patch if there", 1)],
        ),
        (
            vec![lack_v(row(1, 7), row(2, 7)), Op::Update(row(2, 7), row(3, 8))],
            vec![("update", 1)],
            vec![("upsert", 1)],
        ),
        (
            vec![lack_v(row(1, 7), row(2, 7)), Op::DeleteByKey(row(2, 7))],
            vec![("delete", 1)],
            vec![("delete if there", 1)],
        ),
        (
            vec![
                Op::Insert(B),
                Op::Partial(row(1, 7), (3, Some(1), 7), Lacked { u: false, v: true }),
                Op::Delete(B),
            ],
            vec![("insert", 1), ("update", 1), ("delete", 1)],
            vec![("upsert", 1), ("delete if there", 1), ("patch", 1), ("delete if there", 1)],
        ),
    ] {
        let netted = window(&ops, true, Rigour::Strict, false);
        assert!(!netted.ordered && kinds(&netted) == strict, "{ops:?}: {:?}", kinds(&netted));
        let netted = window(&ops, true, Rigour::Idempotent, false);
        assert!(!netted.ordered && kinds(&netted) == idempotent, "{ops:?}: {:?}", kinds(&netted));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_window_is_its_history(before in choices(), ops in choices(), ordered: bool) {
        let mut source = BTreeMap::new();
        history(&before, &mut source);
        let mut target = source.clone();
        let ops = history(&ops, &mut source);
        let w = window(&ops, true, Rigour::Strict, ordered);
        prop_assert_eq!(apply(&w, &mut target, true), Ok(()));
        prop_assert_eq!(target, source);
    }

    /// Whatever moment between the two bounds each row was read at, the interval's changes make the table exact.
    #[test]
    fn between_the_bounds_any_mixture_becomes_exact(before in choices(), ops in choices(), moments in prop::collection::vec(0usize..40, 6), ordered: bool) {
        let mut source = BTreeMap::new();
        history(&before, &mut source);
        let mut states = vec![source.clone()];
        let mut all = Vec::new();
        for choice in ops {
            all.extend(history(&[choice], &mut source));
            states.push(source.clone());
        }
        let mut target = BTreeMap::new();
        for (id, moment) in moments.iter().enumerate() {
            let seen = &states[moment % states.len()];
            if let Some(r) = seen.get(&(id as i64)) {
                target.insert(r.0, *r);
            }
        }
        let w = window(&all, true, Rigour::Idempotent, ordered);
        prop_assert_eq!(apply(&w, &mut target, false), Ok(()));
        prop_assert_eq!(target, source);
    }

    /// R1, R2: the same with updates that lack values. Values of the unique index that the source did not send may make
    /// the target refuse a bulk step; the window in order is then accepted.
    #[test]
    fn r1_r2_a_window_that_lacks_values_is_its_history(before in choices(), ops in choices_of_postgres(), ordered: bool) {
        let mut source = BTreeMap::new();
        history(&before, &mut source);
        let begin = source.clone();
        let ops = by_key(history(&ops, &mut source));
        let w = window(&ops, true, Rigour::Strict, ordered);
        let mut target = begin.clone();
        let mut applied = apply(&w, &mut target, true);
        if !w.ordered && applied.as_ref().is_err_and(|error| error.starts_with("unique")) {
            target = begin;
            applied = apply(&window(&ops, true, Rigour::Strict, true), &mut target, true);
        }
        prop_assert_eq!(applied, Ok(()));
        prop_assert_eq!(target, source);
    }

    /// R1, R2: between the bounds a row either becomes exact or, where nobody has its value, stops the table.
    #[test]
    fn r1_r2_between_the_bounds_a_lacked_value_is_kept_or_stops(
        before in choices(), ops in choices_of_postgres(), moments in prop::collection::vec(0usize..40, 6), ordered: bool
    ) {
        let mut source = BTreeMap::new();
        history(&before, &mut source);
        let mut states = vec![source.clone()];
        let mut all = Vec::new();
        for choice in ops {
            all.extend(by_key(history(&[choice], &mut source)));
            states.push(source.clone());
        }
        let seen = |(id, moment): (usize, &usize)| {
            let row = states[moment % states.len()].get(&(id as i64));
            row.map(|row| (id as i64, *row))
        };
        let mut target: BTreeMap<i64, Row> = moments.iter().enumerate().filter_map(seen).collect();
        match apply(&window(&all, true, Rigour::Idempotent, ordered), &mut target, false) {
            Ok(()) => prop_assert_eq!(target, source.clone()),
            Err(error) => prop_assert!(error.starts_with("nothing to patch"), "{}", error),
        }
        // Rows that were read before all of it are only lacking where a key moves: the value under the old key could
        // be a later row's.
        let moves = |op: &Op| matches!(op, Op::Partial(old, new, _) if old.0 != new.0);
        if !all.iter().any(moves) {
            let mut target = states[0].clone();
            prop_assert_eq!(apply(&window(&all, true, Rigour::Idempotent, ordered), &mut target, false), Ok(()));
            prop_assert_eq!(target, source);
        }
    }

    #[test]
    fn a_divergence_is_never_swallowed(before in choices(), ops in choices_of_postgres(), victim in 0usize..6) {
        let mut source = BTreeMap::new();
        history(&before, &mut source);
        let mut target = source.clone();
        let ops = history(&ops, &mut source);
        let Some(id) = target.keys().nth(victim).copied() else { return Ok(()) };
        // The first operation on that key finds it missing, unless the table is emptied before.
        let first = ops.iter().find_map(|op| match op {
            Op::Truncate => Some(false),
            Op::Insert(r) if r.0 == id => Some(false),
            Op::Update(old, _) | Op::Partial(old, ..) if old.0 == id => Some(true),
            Op::Delete(r) | Op::DeleteByKey(r) if r.0 == id => Some(true),
            Op::Insert(_) | Op::Update(..) | Op::Partial(..) | Op::Delete(_) | Op::DeleteByKey(_) => None,
        });
        target.remove(&id);
        let w = window(&ops, true, Rigour::Strict, false);
        if first == Some(true) {
            prop_assert!(apply(&w, &mut target, true).is_err());
        }
    }
}
