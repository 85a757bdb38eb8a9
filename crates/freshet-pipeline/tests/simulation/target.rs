//! A target's durable state, and what must hold of it after every commit, whoever made it.

use crate::history::{CODE, Database, LARGE, NOTES, Row, number};
use crate::world::{World, lock};
use freshet_core::sink::TableState;
use freshet_core::window::{ImageRef, Step, StepKind, Window};
use freshet_core::{Checkpoint, Error, Result, RowRef, TableName, ValueRef};
use std::sync::{Arc, Mutex};

/// A row image: columns may be absent.
pub type Image = Vec<Option<Option<i64>>>;

#[derive(Clone, Debug, Default)]
pub struct Contents {
    pub tables: Vec<Arc<Vec<Row>>>,
    pub epoch: u64,
    pub owner: u64,
    pub checkpoint: Option<Checkpoint>,
    pub digest: Option<String>,
    pub load: Vec<TableState>,
    /// `consistent_since` is written.
    pub consistent: bool,
}

/// The target; connections come and go.
pub struct Target {
    pub name: String,
    pub contents: Mutex<Contents>,
    world: Arc<World>,
    db: Arc<Database>,
    seen: Mutex<Seen>,
}

/// The furthest that the target ever was.
#[derive(Default)]
struct Seen {
    checkpoint: Option<Checkpoint>,
    transactions: usize,
    consistent: bool,
    epoch: u64,
}

impl Target {
    pub fn new(world: &Arc<World>, db: &Arc<Database>, name: String) -> Arc<Self> {
        let tables = lock(&db.history).infos.iter().map(|_| Arc::default()).collect();
        Arc::new(Self {
            name,
            contents: Mutex::new(Contents { tables, ..Contents::default() }),
            world: world.clone(),
            db: db.clone(),
            seen: Mutex::default(),
        })
    }

    pub fn checkpoint(&self) -> Option<Checkpoint> {
        lock(&self.contents).checkpoint.clone()
    }

    /// How many transactions of the source the checkpoint says to be there.
    pub fn transactions(&self) -> Option<usize> {
        let checkpoint = self.checkpoint()?;
        lock(&self.db.history).locate(&checkpoint.mark.position).ok()
    }

    /// Something was committed: looks at all of it.
    pub fn committed(&self, contents: &Contents, what: &str) {
        if let Err(broken) = self.check(contents) {
            self.world.violation(format!("{}: after {what} {broken}", self.name));
        }
        let next = contents.checkpoint.as_ref().map(|c| c.mark.next);
        self.world.note(|| format!("{} commits {what}, at {next:?}", self.name));
    }

    fn check(&self, contents: &Contents) -> Result<(), String> {
        let mut seen = lock(&self.seen);
        if contents.epoch < seen.epoch {
            return Err(format!("epoch {} came after {}", contents.epoch, seen.epoch));
        }
        seen.epoch = contents.epoch;
        if seen.consistent && !contents.consistent {
            return Err("the tables are not consistent any more".into());
        }
        seen.consistent = contents.consistent;
        let Some(checkpoint) = &contents.checkpoint else {
            return if seen.checkpoint.is_some() { Err("the checkpoint is gone".into()) } else { Ok(()) };
        };
        let before = seen.checkpoint.replace(checkpoint.clone());
        if before.is_some_and(|b| b.log_id == checkpoint.log_id && b.mark.next > checkpoint.mark.next) {
            return Err("the checkpoint went back in the log".into());
        }
        let history = lock(&self.db.history);
        let Ok(n) = history.locate(&checkpoint.mark.position) else {
            // Read before the source lost it: whoever reads next has to notice.
            return if history.lost_any { Ok(()) } else { Err("no such position is in the source".into()) };
        };
        if n < seen.transactions && !history.lost_any {
            return Err(format!("the checkpoint went back from {} to {n}", seen.transactions));
        }
        seen.transactions = n;
        if contents.consistent && sum(contents) != history.states[n].sum {
            return Err(format!(
                "the rows are not those of the source {}",
                self.differs(contents, n, &history)
            ));
        }
        Ok(())
    }

    fn differs(&self, contents: &Contents, n: usize, history: &crate::history::History) -> String {
        let other = history.states.iter().position(|state| state.sum == sum(contents));
        let sorted = |rows: &[Row]| {
            let mut rows = rows.to_vec();
            rows.sort();
            rows
        };
        let tables = contents.tables.iter().zip(&history.states[n].tables).enumerate();
        let lines = tables.filter(|(_, (ours, theirs))| sorted(ours) != sorted(theirs));
        let lines = lines.map(|(t, (ours, theirs))| {
            let (ours, theirs) = (sorted(ours), sorted(theirs));
            let more: Vec<_> = ours.iter().filter(|r| !theirs.contains(r)).collect();
            let less: Vec<_> = theirs.iter().filter(|r| !ours.contains(r)).collect();
            format!("table {t}: {} rows of {}, too many {more:?}, missing {less:?}", ours.len(), theirs.len())
        });
        format!("after {n} (those after {other:?}): {}", lines.collect::<Vec<_>>().join("; "))
    }

    pub fn number_of(&self, table: &TableName) -> Result<usize> {
        let history = lock(&self.db.history);
        let found = history.infos.iter().position(|info| info.name().table == table.table);
        found.ok_or_else(|| Error::internal(format!("Table {table} was not prepared")))
    }
}

pub fn sum(contents: &Contents) -> u64 {
    let tables = contents.tables.iter().enumerate();
    let numbers = tables.flat_map(|(t, rows)| rows.iter().map(move |row| number(t, row)));
    numbers.fold(0, u64::wrapping_add)
}

pub fn image(row: RowRef<'_>) -> Result<Image> {
    let cell = |cell: Result<ValueRef<'_>>| match cell? {
        ValueRef::Int(v) => Ok(Some(Some(v))),
        ValueRef::Null => Ok(Some(None)),
        ValueRef::Absent => Ok(None),
        other => Err(Error::internal(format!("A cell of another kind: {other:?}"))),
    };
    row.cells().map(cell).collect()
}

/// Applies one step, as a relational target would: strict counts, a key and a unique index that hold after every row.
pub fn apply_step(contents: &mut Contents, table: usize, window: &Window, step: &Step) -> Result<()> {
    let mut rows =
        Rows { table, consistent: contents.consistent, rows: Arc::make_mut(&mut contents.tables[table]) };
    let read = |i: &ImageRef| image(window.row(*i)?);
    let failed = |what: String| {
        let message = format!("Table {}: {what}", step.table);
        if window.ordered { Error::table(step.table.clone(), message) } else { Error::reorder(message) }
    };
    match &step.kind {
        StepKind::Insert(images) => {
            images.iter().try_for_each(|i| rows.insert(whole(read(i)?)?).map_err(failed))
        }
        StepKind::Upsert(images) => images.iter().try_for_each(|i| {
            let new = whole(read(i)?)?;
            rows.find(&new).map(|at| rows.rows.swap_remove(at));
            rows.insert(new).map_err(failed)
        }),
        StepKind::Update(pairs) => pairs
            .iter()
            .try_for_each(|(old, new)| rows.change(&whole(read(old)?)?, read(new)?).map_err(failed)),
        StepKind::Patch(images) => images.iter().try_for_each(|i| {
            let new = read(i)?;
            let key = new.iter().map(|cell| cell.unwrap_or(None)).collect();
            match rows.find(&key) {
                None if window.ordered && !rows.consistent => {
                    Err(Error::reload(step.table.clone(), "A row that moved lacks a value"))
                }
                None => Err(failed("a row to change in part is not there".into())),
                Some(_) => rows.change(&key, new).map_err(failed),
            }
        }),
        StepKind::PatchIfThere(images) => images.iter().try_for_each(|i| {
            let new = read(i)?;
            let key = new.iter().map(|cell| cell.unwrap_or(None)).collect();
            match rows.find(&key) {
                None if rows.consistent => Err(failed("a row to change is not there after F_high".into())),
                None => Ok(()),
                Some(_) => rows.change(&key, new).map_err(failed),
            }
        }),
        StepKind::Delete(images) => images.iter().try_for_each(|i| {
            let at = rows.find(&whole(read(i)?)?);
            let at = at.ok_or_else(|| failed("a row to delete is not there".into()))?;
            rows.rows.swap_remove(at);
            Ok(())
        }),
        StepKind::DeleteIfThere(images) => images.iter().try_for_each(|i| {
            rows.find(&whole(read(i)?)?).map(|at| rows.rows.swap_remove(at));
            Ok(())
        }),
        StepKind::CheckAbsent(images) => images.iter().try_for_each(|i| match rows.find(&whole(read(i)?)?) {
            Some(_) => Err(failed("a row is there that the source did not have".into())),
            None => Ok(()),
        }),
        StepKind::Truncate => {
            rows.rows.clear();
            Ok(())
        }
    }
}

fn whole(image: Image) -> Result<Row> {
    image.into_iter().collect::<Option<Row>>().ok_or_else(|| Error::internal("A row that lacks a value"))
}

/// The rows of one table.
pub struct Rows<'a> {
    pub table: usize,
    /// From then on the unique index is there.
    pub consistent: bool,
    pub rows: &'a mut Vec<Row>,
}

impl Rows<'_> {
    /// By key; without one by every column.
    pub fn find(&self, row: &Row) -> Option<usize> {
        let is_it = |other: &Row| if self.table == NOTES { other == row } else { other[0] == row[0] };
        self.rows.iter().position(is_it)
    }

    pub fn insert(&mut self, row: Row) -> Result<(), String> {
        if self.table != NOTES && self.find(&row).is_some() {
            return Err("a key is there already".into());
        }
        let is_unique = self.consistent && row.len() > LARGE && row[CODE].is_some();
        if is_unique && self.rows.iter().any(|other| other[CODE] == row[CODE]) {
            return Err("a unique value is there already".into());
        }
        self.rows.push(row);
        Ok(())
    }

    fn change(&mut self, old: &Row, new: Image) -> Result<(), String> {
        let at = self.find(old).ok_or("a row to change is not there")?;
        let there = self.rows.swap_remove(at);
        let filled = new.into_iter().zip(there).map(|(new, there)| new.unwrap_or(there)).collect();
        self.insert(filled)
    }
}
