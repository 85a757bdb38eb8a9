//! Updates that lack unchanged values (R1, R2): such a column keeps its value, in bulk, in order, and between the bounds.

use crate::common::rows::{batch, begin, bigint, durable, load, of_dialect, plan, window};
use crate::common::{Database, server};
use freshet_core::codec::RowWriter;
use freshet_core::sink::{Sink, TablePlan};
use freshet_core::table::Dialect;
use freshet_core::window::{ImageRef, StepKind};
use freshet_core::{DataType, ErrorKind};
use freshet_postgres::PostgresSink;
use freshet_testkit::servers::seed;
use std::collections::BTreeMap;

/// Columns beside the key.
const COLUMNS: usize = 5;

/// NULL, or the number that the column's text is made of.
type Values = [Option<i64>; COLUMNS];

/// id, text, text, int4range (travels as text), a domain of varchar(20), bigint.
fn wide() -> TablePlan {
    let text = |length| DataType::Text { length, fixed: false };
    let columns = [
        ("id", bigint(), "bigint", false),
        ("a", text(None), "text", true),
        ("b", text(None), "text", true),
        ("r", DataType::Named { name: "int4range".into() }, "int4range", true),
        ("d", text(Some(20)), "public.short", true),
        ("n", bigint(), "bigint", true),
    ];
    of_dialect(plan("wide", &columns, &[0], vec![]), Dialect::Postgres)
}

fn cell(column: usize, n: i64) -> String {
    match column {
        2 => format!("[{n},{})", n + 5),
        4 => n.to_string(),
        _ => format!("{column} {n}"),
    }
}

/// A row image: key, and for each column whether it is there and what it is.
#[derive(Clone, Copy, Debug)]
struct Image {
    id: i64,
    has: [bool; COLUMNS],
    values: Values,
}

impl Image {
    fn whole(id: i64, values: Values) -> Self {
        Self { id, has: [true; COLUMNS], values }
    }

    fn key(id: i64) -> Self {
        Self { id, has: [false; COLUMNS], values: [None; COLUMNS] }
    }

    fn write(&self, row: &mut RowWriter<'_>) {
        assert!(row.int(self.id));
        for (column, value) in self.values.iter().enumerate() {
            match value {
                _ if !self.has[column] => row.absent(),
                None => row.null(),
                Some(n) if column == 4 => assert!(row.int(*n)),
                Some(n) => row.text(&cell(column, *n)),
            }
        }
    }
}

struct Target {
    db: Database,
    sink: PostgresSink,
    plan: TablePlan,
    rows: BTreeMap<i64, Values>,
    windows: u64,
}

impl Target {
    async fn with(rows: &[(i64, Values)]) -> Self {
        let server = server();
        let db = Database::new(&server);
        db.sql("create domain short as character varying(20)");
        let (mut sink, plan) = (db.postgres_sink(), wide());
        begin(&mut sink).await;
        let images: Vec<_> = rows.iter().map(|(id, values)| Image::whole(*id, *values)).collect();
        let writers: Vec<_> = images.iter().map(|image| |row: &mut RowWriter<'_>| image.write(row)).collect();
        let writers: Vec<&dyn Fn(&mut RowWriter<'_>)> = writers.iter().map(|w| w as _).collect();
        load(&mut sink, std::slice::from_ref(&plan), batch(&plan, &writers)).await.unwrap();
        let target = Self { db, sink, plan, rows: rows.iter().copied().collect(), windows: 0 };
        target.check("loaded");
        target
    }

    /// Applies one window of these images, and waits for it.
    async fn apply(
        &mut self,
        images: &[Image],
        ordered: bool,
        step: impl FnOnce(&[ImageRef]) -> StepKind,
    ) -> Result<(), freshet_core::Error> {
        let writers: Vec<_> = images.iter().map(|image| |row: &mut RowWriter<'_>| image.write(row)).collect();
        let writers: Vec<&dyn Fn(&mut RowWriter<'_>)> = writers.iter().map(|w| w as _).collect();
        let mut window = window(&self.plan, &writers, Some(self.windows + 1), |i| vec![step(i)]);
        window.ordered = ordered;
        durable(&mut self.sink, window).await?;
        self.windows += 1;
        Ok(())
    }

    /// Updates by key of these images: (old id, new image).
    async fn update(&mut self, updates: &[(i64, Image)], ordered: bool) -> Result<(), freshet_core::Error> {
        let images: Vec<_> = updates.iter().flat_map(|(old, new)| [Image::key(*old), *new]).collect();
        let pairs = |i: &[ImageRef]| StepKind::Update(i.chunks(2).map(|pair| (pair[0], pair[1])).collect());
        self.apply(&images, ordered, pairs).await?;
        for (old, new) in updates {
            let mut values = self.rows.remove(old).unwrap();
            (0..COLUMNS).filter(|c| new.has[*c]).for_each(|c| values[c] = new.values[c]);
            self.rows.insert(new.id, values);
        }
        Ok(())
    }

    #[track_caller]
    fn check(&self, what: &str) {
        let text = |(id, values): (&i64, &Values)| {
            let cells = values.iter().enumerate().map(|(c, n)| n.map_or("NULL".to_owned(), |n| cell(c, n)));
            [id.to_string()].into_iter().chain(cells).collect::<Vec<_>>().join("\t")
        };
        let expect: Vec<String> = self.rows.iter().map(text).collect();
        assert_eq!(self.db.lines("select * from wide order by id"), expect, "{what}");
    }
}

fn first(id: i64) -> (i64, Values) {
    (id, [Some(id), Some(id + 1), Some(id + 2), None, Some(id)])
}

/// R1: every pattern of what is lacked, in one bulk statement and row by row. NULL is a value and no lack.
#[tokio::test(flavor = "multi_thread")]
async fn r1_a_lacked_value_stays_in_every_pattern() {
    let rows: Vec<_> = (0..64).map(first).collect();
    let mut target = Target::with(&rows).await;
    for (ordered, new) in [(false, Some(1_000)), (true, None), (false, None), (true, Some(7))] {
        let image = |id: i64| {
            let has = std::array::from_fn(|column| id >> column & 1 == 0);
            (id, Image { id, has, values: [new.map(|n| n + id); COLUMNS] })
        };
        let updates: Vec<_> = (0..32).map(image).collect();
        target.update(&updates, ordered).await.unwrap();
        target.check(&format!("ordered {ordered}, {new:?}"));
    }
}

/// R1: more different sets of columns than statements are prepared for, against a model.
#[tokio::test(flavor = "multi_thread")]
async fn r1_random_patterns_are_their_history() {
    let mut target = Target::with(&(0..8).map(first).collect::<Vec<_>>()).await;
    let mut random = seed() | 1;
    let mut next = move |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    for round in 0..300 {
        let mut updates = Vec::new();
        for id in 0..8 {
            let has = std::array::from_fn(|_| next(3) > 0);
            let values = std::array::from_fn(|_| (next(4) > 0).then_some(next(1_000) as i64));
            if next(3) > 0 {
                updates.push((id, Image { id, has, values }));
            }
        }
        if !updates.is_empty() {
            target.update(&updates, next(4) == 0).await.unwrap();
            target.check(&format!("round {round}: {updates:?}"));
        }
    }
}

/// R1: a row of which nothing is to be set is found and counted all the same.
#[tokio::test(flavor = "multi_thread")]
async fn r1_an_update_that_lacks_everything_still_finds_its_row() {
    let mut target = Target::with(&[first(1), first(2)]).await;
    target.update(&[(1, Image::key(1)), (2, Image::key(2))], false).await.unwrap();
    target.check("nothing set");
    let error = target.update(&[(1, Image::key(1)), (3, Image::key(3))], false).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Reorder, "{error}");
    target.sink.take_over().await.unwrap();
    let error = target.update(&[(3, Image::key(3))], true).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Table(target.plan.info.name().clone()), "{error}");
}

/// R2: a key that moves takes the values along that the source did not send.
#[tokio::test(flavor = "multi_thread")]
async fn r2_a_moved_key_keeps_what_was_not_sent() {
    let mut target = Target::with(&[first(1), first(2), first(3)]).await;
    let sent = |id, column: usize| Image {
        id,
        has: std::array::from_fn(|c| c == column),
        values: [Some(77); COLUMNS],
    };
    target.update(&[(1, sent(11, 0))], false).await.unwrap();
    target.check("in bulk");
    target.update(&[(2, sent(1, 2)), (3, sent(2, 3)), (1, Image::key(3))], true).await.unwrap();
    target.check("in order, through each other's keys");
}

/// R1, between F_low and F_high: what is lacked is kept where the row is there; where it is not, a row that changed in
/// place is left out, and for one that moved the table is to be read again.
#[tokio::test(flavor = "multi_thread")]
async fn r1_between_the_bounds_a_lacked_value_is_found_or_read_again() {
    let mut target = Target::with(&(0..40).map(first).collect::<Vec<_>>()).await;
    let image = |id: i64| Image {
        id,
        has: std::array::from_fn(|column| id >> column & 1 == 0),
        values: [Some(500 + id), None, Some(500), Some(500), None],
    };
    for (from, ordered) in [(0, false), (32, true)] {
        let images: Vec<_> = (from..from + 8).map(image).collect();
        target.apply(&images, ordered, |i| StepKind::Patch(i.to_vec())).await.unwrap();
        for new in images {
            let values = target.rows.get_mut(&new.id).unwrap();
            (0..COLUMNS).filter(|c| new.has[*c]).for_each(|c| values[c] = new.values[c]);
        }
        target.check(&format!("ordered {ordered}"));
    }
    let images = [image(8), image(1_000)];
    let patch = |i: &[ImageRef]| StepKind::Patch(i.to_vec());
    let error = target.apply(&images, false, patch).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Reorder, "{error}");
    target.sink.take_over().await.unwrap();
    let error = target.apply(&images, true, patch).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Reload(target.plan.info.name().clone()), "{error}");
    assert!(
        error.message().contains("lacks a large value") && error.message().contains("shop.wide"),
        "{error}"
    );
    target.sink.take_over().await.unwrap();
    target.check("nothing of either window");
    for ordered in [false, true] {
        target.apply(&images, ordered, |i| StepKind::PatchIfThere(i.to_vec())).await.unwrap();
        let values = target.rows.get_mut(&8).unwrap();
        (0..COLUMNS).filter(|c| images[0].has[*c]).for_each(|c| values[c] = images[0].values[c]);
        target.check("the row that is there, and no other");
    }
}

/// R1: an image that must be whole and is not is an error that names the column, for either kind of source.
#[tokio::test(flavor = "multi_thread")]
async fn r1_a_row_that_must_be_whole_is_refused_by_column() {
    let mut target = Target::with(&[first(1)]).await;
    let part = Image { id: 9, has: [true, false, true, true, true], values: [Some(1); COLUMNS] };
    for step in [StepKind::Insert as fn(Vec<ImageRef>) -> StepKind, StepKind::Upsert] {
        let error = target.apply(&[part], false, |i| step(i.to_vec())).await.unwrap_err();
        assert!(error.message().contains("Column b of shop.wide is not in the row image"), "{error}");
        assert!(
            error
                .hint()
                .is_some_and(|h| h.contains("binlog_row_image") && h.contains("REPLICA IDENTITY FULL"))
        );
        target.sink.take_over().await.unwrap();
    }
    target.check("nothing stored");
}
