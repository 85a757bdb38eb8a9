//! A source schema bound to its target table: columns by name, and the SQL text of every bulk operation.
//!
//! Statements take arrays, one for each column, so that a run of rows is one statement whatever its length; only rows
//! of tables without a key are matched one at a time, by every column (R7). Every statement names every column
//! explicitly (R18).

use crate::quote;
use crate::sink::catalog::{BoundColumn, TargetTable};
use freshet_core::{Result, TableName, TableSchema};
use std::sync::Arc;
use tokio_postgres::types::Type;

/// What a prepared statement does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Op {
    /// Parameters: every column.
    Insert,
    /// Parameters: every column.
    Upsert,
    /// Parameters: the old key, then every column.
    Update,
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
            columns,
            key_slots,
            key,
            schema: schema.clone(),
        })
    }

    /// Text and parameter types of a statement.
    pub(crate) fn statement(&self, op: Op) -> (String, Vec<Type>) {
        let target = &self.target;
        let all: Vec<usize> = (0..self.columns.len()).collect();
        match op {
            Op::Insert => (self.insert(), self.arrays(&all)),
            Op::Upsert => {
                let set = self.assign(|i| format!("excluded.{}", self.columns[i].name));
                let key = self.names(&self.key);
                (format!("{} on conflict ({key}) do update set {set}", self.insert()), self.arrays(&all))
            }
            Op::Update => {
                let set = self.assign(|i| format!("u.c{i}"));
                let wanted = [self.key.as_slice(), all.as_slice()].concat();
                let from =
                    unnest(wanted.len(), self.key_aliases().chain(all.iter().map(|i| format!("c{i}"))));
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
                let set = self.assign(|i| format!("${}", n + i + 1));
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

    fn assign(&self, value: impl Fn(usize) -> String) -> String {
        let set = self.columns.iter().enumerate().map(|(i, c)| format!("{} = {}", c.name, value(i)));
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
