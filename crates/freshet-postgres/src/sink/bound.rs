//! A source schema bound to its target table: columns by name, and the SQL text of every bulk operation.
//!
//! Statements take arrays, one for each column, so that a run of rows is one statement whatever its length; only rows
//! of tables without a key are matched one at a time, by every column (R7). Every statement names every column
//! explicitly (R18). What a row image lacks is left out of an update (R1): a column that no row has is not in the
//! statement, one that some rows have is set where a flag of the row says so.

use crate::quote;
use crate::sink::catalog::{BoundColumn, TargetTable};
use crate::sink::types::Wire;
use freshet_core::{Result, TableName, TableSchema};
use std::sync::{Arc, Mutex, PoisonError};
use tokio_postgres::types::Type;

/// Different sets of columns that updates of one schema are prepared for; what comes later takes a larger one.
const UPDATE_SETS_MAX: usize = 32;
/// The table that a chunk's rows wait in where their types are cast.
const STAGE: &str = "pg_temp.freshet_chunk";

/// What a prepared statement does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Op {
    /// Parameters: every column.
    Insert,
    /// Parameters: every column.
    Upsert,
    /// Parameters: the old key, then the columns and flags of this one of [`Bound::update_set`].
    Update(u8),
    /// The same for images that lack values, between F_low and F_high.
    Patch(u8),
    /// Parameters: the key.
    Delete,
    /// Parameters: the key. Counts the rows that are there, at most one.
    CheckAbsent,
    /// One row of a table without a key. Parameters, no arrays: every old column, every new column.
    UpdateRow,
    /// One row of a table without a key. Parameters, no arrays: every column.
    DeleteRow,
    /// `COPY ... FROM STDIN`. No parameters.
    Copy,
}

/// The columns that an update changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UpdateSet {
    pub columns: Arc<[usize]>,
    /// Those of them that not every row has a value of: a boolean array for each follows the columns' arrays.
    pub flagged: Arc<[usize]>,
}

impl UpdateSet {
    fn new(columns: Vec<usize>, flagged: Vec<usize>) -> Self {
        Self { columns: columns.into(), flagged: flagged.into() }
    }

    /// Whether it has every wanted column, and sets none where a row lacks it.
    fn fits(&self, wanted: &[usize], lacked: &[bool]) -> bool {
        wanted.iter().all(|column| self.columns.contains(column))
            && self.columns.iter().all(|column| !lacked[*column] || self.flagged.contains(column))
    }
}

/// The statements of a chunk whose rows are cast.
#[derive(Clone, Debug)]
pub(crate) struct Stage {
    /// Makes the table that they wait in, until the transaction ends.
    pub create: String,
    pub copy: String,
    /// Moves them to the target.
    pub insert: String,
}

/// A schema on its target table.
#[derive(Debug)]
pub(crate) struct Bound {
    /// The source table, for errors.
    pub source: TableName,
    /// Target table, quoted.
    pub target: String,
    /// In the schema's order.
    pub columns: Vec<BoundColumn>,
    /// For every column, its place in the key.
    pub key_slots: Vec<Option<usize>>,
    /// Columns of the key, in key order.
    pub key: Vec<usize>,
    /// Names of the key's columns, for errors.
    pub key_text: String,
    pub schema: Arc<TableSchema>,
    /// The sets of columns that updates change: the first is all of them. Only grows.
    update_sets: Mutex<Vec<UpdateSet>>,
}

impl Bound {
    /// Binds by name; an error names the column that does not fit.
    pub(crate) fn new(source: &TableName, target: &TargetTable, schema: &Arc<TableSchema>) -> Result<Self> {
        let columns = target.bind(schema)?;
        let key: Vec<usize> = schema.key().iter().map(|k| usize::from(*k)).collect();
        let mut key_slots = vec![None; columns.len()];
        for (slot, column) in key.iter().enumerate() {
            key_slots[*column] = Some(slot);
        }
        Ok(Self {
            source: source.clone(),
            target: quote::table(&target.name),
            key_text: crate::sink::catalog::key_names(schema).join(", "),
            update_sets: Mutex::new(vec![UpdateSet::new((0..columns.len()).collect(), Vec::new())]),
            columns,
            key_slots,
            key,
            schema: schema.clone(),
        })
    }

    /// A set for rows that have a value to be changed of `wanted`, and of which some lack a value of `lacked`: of the
    /// wanted columns alone if there are few enough different ones; and its number.
    pub(crate) fn update_set(&self, wanted: &[bool], lacked: &[bool]) -> (u8, UpdateSet) {
        let wanted: Vec<usize> = (0..wanted.len()).filter(|i| wanted[*i]).collect();
        let flagged: Vec<usize> = wanted.iter().copied().filter(|i| lacked[*i]).collect();
        let mut sets = self.update_sets.lock().unwrap_or_else(PoisonError::into_inner);
        let exact = UpdateSet::new(wanted, flagged);
        if !sets.contains(&exact) && sets.len() < UPDATE_SETS_MAX {
            sets.push(exact.clone());
        }
        let fits = |set: &&UpdateSet| set.fits(&exact.columns, lacked);
        if sets.iter().find(fits).is_none() {
            // One more than the most: it fits whatever comes.
            let all: Vec<usize> = (0..self.columns.len()).collect();
            sets.push(UpdateSet::new(all.clone(), all));
        }
        let fitting = sets.iter().enumerate().filter(|(_, set)| fits(set));
        let least = fitting.min_by_key(|(_, set)| (set.columns.len(), set.flagged.len()));
        let number = least.map_or(0, |(number, _)| number);
        (number as u8, sets[number].clone())
    }

    fn set_of_update(&self, number: u8) -> UpdateSet {
        let sets = self.update_sets.lock().unwrap_or_else(PoisonError::into_inner);
        sets.get(usize::from(number)).unwrap_or(&sets[0]).clone()
    }

    /// Whether rows are cast on the server: COPY cannot write them.
    pub(crate) fn is_cast(&self) -> bool {
        self.columns.iter().any(|column| column.wire == Wire::AsText)
    }

    /// Whether a COPY of a PostgreSQL source gives every column in the form that the target's takes.
    pub(crate) fn is_native(&self) -> bool {
        let pairs = self.schema.columns().iter().zip(&self.columns);
        pairs.into_iter().all(|(from, to)| to.wire.is_native_of(&from.data_type))
    }

    /// How a chunk is loaded whose rows are cast; `None` if COPY can write them.
    pub(crate) fn stage(&self) -> Option<Stage> {
        if !self.is_cast() {
            return None;
        }
        let all: Vec<usize> = (0..self.columns.len()).collect();
        let declare = |(i, column): (usize, &BoundColumn)| match column.wire {
            Wire::AsText => format!("c{i} text"),
            _ => format!("c{i} {}", column.forms.bare),
        };
        let declared: Vec<String> = self.columns.iter().enumerate().map(|(i, c)| declare((i, c))).collect();
        let (names, values) = (self.names(&all), self.values(&all));
        Some(Stage {
            create: format!("create temporary table {STAGE} ({}) on commit drop", declared.join(", ")),
            copy: format!("copy {STAGE} from stdin (format binary)"),
            insert: format!(
                "insert into {} ({names}) overriding system value select {values} from {STAGE} as u",
                self.target
            ),
        })
    }

    /// Text and parameter types of a statement.
    pub(crate) fn statement(&self, op: Op) -> (String, Vec<Type>) {
        let target = &self.target;
        let all: Vec<usize> = (0..self.columns.len()).collect();
        match op {
            Op::Insert => (self.insert(), self.arrays(&all)),
            Op::Upsert => {
                let set = self.assign(&all, |i| format!("excluded.{}", self.columns[i].name));
                let key = self.names(&self.key);
                (format!("{} on conflict ({key}) do update set {set}", self.insert()), self.arrays(&all))
            }
            Op::Update(number) | Op::Patch(number) => self.update(&self.set_of_update(number)),
            Op::Delete => {
                let from = unnest(self.key.len(), self.key_aliases());
                let sql = format!("delete from {target} as t using {from} where {}", self.key_match());
                (sql, self.arrays(&self.key))
            }
            Op::CheckAbsent => {
                let from = unnest(self.key.len(), self.key_aliases());
                let sql = format!("select 1 from {target} as t, {from} where {} limit 1", self.key_match());
                (sql, self.arrays(&self.key))
            }
            Op::UpdateRow => {
                let n = self.columns.len();
                let set = self.assign(&all, |i| self.columns[i].value(&format!("${}", n + i + 1)));
                let sql = format!("update {target} set {set} where ctid = ({})", self.one_row());
                (sql, self.scalars().chain(self.scalars()).collect())
            }
            Op::DeleteRow => {
                (format!("delete from {target} where ctid = ({})", self.one_row()), self.scalars().collect())
            }
            Op::Copy => {
                let names = self.names(&all);
                (format!("copy {target} ({names}) from stdin (format binary)"), Vec::new())
            }
        }
    }

    fn insert(&self) -> String {
        let all: Vec<usize> = (0..self.columns.len()).collect();
        let from = unnest(all.len(), all.iter().map(|i| format!("c{i}")));
        let (names, values) = (self.names(&all), self.values(&all));
        format!("insert into {} ({names}) overriding system value select {values} from {from}", self.target)
    }

    fn update(&self, set: &UpdateSet) -> (String, Vec<Type>) {
        let value = |i: usize| {
            let new = self.columns[i].value(&format!("u.c{i}"));
            match set.flagged.contains(&i) {
                true => format!("case when u.p{i} then {new} else t.{} end", self.columns[i].name),
                false => new,
            }
        };
        let assigned = self.assign(&set.columns, value);
        let wanted = [self.key.as_slice(), &set.columns].concat();
        let names = self.key_aliases().chain(set.columns.iter().map(|i| format!("c{i}")));
        let names = names.chain(set.flagged.iter().map(|i| format!("p{i}")));
        let from = unnest(wanted.len() + set.flagged.len(), names);
        let sql =
            format!("update {} as t set {assigned} from {from} where {}", self.target, self.key_match());
        let mut types = self.arrays(&wanted);
        types.extend(set.flagged.iter().map(|_| Type::BOOL_ARRAY));
        (sql, types)
    }

    /// Columns of `u` as values of the target's types.
    fn values(&self, of: &[usize]) -> String {
        of.iter().map(|i| self.columns[*i].value(&format!("u.c{i}"))).collect::<Vec<_>>().join(", ")
    }

    fn assign(&self, of: &[usize], value: impl Fn(usize) -> String) -> String {
        let set = of.iter().map(|i| format!("{} = {}", self.columns[*i].name, value(*i)));
        set.collect::<Vec<_>>().join(", ")
    }

    fn names(&self, of: &[usize]) -> String {
        of.iter().map(|i| self.columns[*i].name.as_str()).collect::<Vec<_>>().join(", ")
    }

    fn key_aliases(&self) -> impl Iterator<Item = String> {
        (0..self.key.len()).map(|i| format!("k{i}"))
    }

    fn key_match(&self) -> String {
        let each = self.key.iter().enumerate().map(|(i, column)| {
            let column = &self.columns[*column];
            column.matches(&format!("t.{}", column.name), &format!("u.k{i}"))
        });
        each.collect::<Vec<_>>().join(" and ")
    }

    /// The place of one row that is equal in every column to the first parameters.
    fn one_row(&self) -> String {
        let each = self.columns.iter().enumerate().map(|(i, c)| c.is_same(&c.name, &format!("${}", i + 1)));
        format!("select ctid from {} where {} limit 1", self.target, each.collect::<Vec<_>>().join(" and "))
    }

    fn arrays(&self, of: &[usize]) -> Vec<Type> {
        of.iter().map(|i| self.columns[*i].wire.types().1).collect()
    }

    fn scalars(&self) -> impl Iterator<Item = Type> {
        self.columns.iter().map(|c| c.wire.types().0)
    }
}

fn unnest(count: usize, aliases: impl Iterator<Item = String>) -> String {
    let params: Vec<String> = (1..=count).map(|i| format!("${i}")).collect();
    format!("unnest({}) as u({})", params.join(", "), aliases.collect::<Vec<_>>().join(", "))
}
