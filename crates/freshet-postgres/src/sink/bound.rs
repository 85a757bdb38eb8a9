//! A source schema bound to its target table: columns by name, and the SQL text of every bulk operation.
//!
//! Statements take arrays, one for each column, so that a run of rows is one statement whatever its length; only rows
//! of tables without a key are matched one at a time, by every column (R7). Every statement names every column
//! explicitly (R18).

use crate::quote;
use crate::sink::catalog::{BoundColumn, TargetTable};
use freshet_core::{Result, TableName, TableSchema};
use std::sync::{Arc, Mutex, PoisonError};
use tokio_postgres::types::Type;

/// Different sets of columns that updates of one schema are prepared for; what comes later takes a larger one.
const UPDATE_SETS_MAX: usize = 32;

/// What a prepared statement does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Op {
    /// Parameters: every column.
    Insert,
    /// Parameters: every column.
    Upsert,
    /// Parameters: the old key, then the columns of this one of [`Bound::update_set`].
    Update(u8),
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
    update_sets: Mutex<Vec<Arc<[usize]>>>,
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
            update_sets: Mutex::new(vec![(0..columns.len()).collect()]),
            columns,
            key_slots,
            key,
            schema: schema.clone(),
        })
    }

    /// A set that has every changed column: those alone if there are few enough different ones, and its number.
    pub(crate) fn update_set(&self, changed: &[bool]) -> (u8, Arc<[usize]>) {
        let wanted: Vec<usize> = (0..changed.len()).filter(|i| changed[*i]).collect();
        let mut sets = self.update_sets.lock().unwrap_or_else(PoisonError::into_inner);
        // Nothing changed: the row is still to be found, which takes a statement that sets something.
        let is_new = !wanted.is_empty() && !sets.iter().any(|set| **set == *wanted);
        if is_new && sets.len() < UPDATE_SETS_MAX {
            sets.push(wanted.as_slice().into());
        }
        let has_all = |set: &Arc<[usize]>| wanted.iter().all(|column| set.contains(column));
        let fitting = sets.iter().enumerate().filter(|(_, set)| !wanted.is_empty() && has_all(set));
        let best = fitting.min_by_key(|(_, set)| set.len()).map_or(0, |(number, _)| number);
        (best as u8, sets[best].clone())
    }

    fn columns_of_update(&self, number: u8) -> Arc<[usize]> {
        let sets = self.update_sets.lock().unwrap_or_else(PoisonError::into_inner);
        sets.get(usize::from(number)).unwrap_or(&sets[0]).clone()
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
            Op::Update(number) => {
                let columns = self.columns_of_update(number);
                let set = self.assign(&columns, |i| format!("u.c{i}"));
                let wanted = [self.key.as_slice(), &columns].concat();
                let from =
                    unnest(wanted.len(), self.key_aliases().chain(columns.iter().map(|i| format!("c{i}"))));
                let sql = format!("update {target} as t set {set} from {from} where {}", self.key_match());
                (sql, self.arrays(&wanted))
            }
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
                let set = self.assign(&all, |i| format!("${}", n + i + 1));
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
        let names = self.names(&all);
        format!("insert into {} ({names}) overriding system value select * from {from}", self.target)
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
        let each = self.key.iter().enumerate().map(|(i, c)| format!("t.{} = u.k{i}", self.columns[*c].name));
        each.collect::<Vec<_>>().join(" and ")
    }

    /// The place of one row that is equal in every column to the first parameters.
    fn one_row(&self) -> String {
        let each = self.columns.iter().enumerate().map(|(i, c)| {
            let (stored, wanted) = (c.wire.identity(&c.name), c.wire.identity(&format!("${}", i + 1)));
            format!("{stored} is not distinct from {wanted}")
        });
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
