//! A source's schema on its target table: names, encoders, and the parts of SQL that every statement is made of.
//!
//! Statements are text: several go in one request and their counts come back one by one, in one round trip
//! (`run.rs`). Not which statements a window needs: that is `plan.rs`.

use crate::catalog::{sql_ident, sql_name};
use crate::sink::catalog::{TargetTable, key_names};
use crate::sink::encode::{Encoder, Fault, Leniency, hex_upper, members};
use crate::sink::form::{Bulk, Form, Literal};
use crate::sink::options::Policies;
use crate::sink::types;
use crate::wire::BulkType;
use freshet_core::{DataType, Error, Result, RowRef, TableName, TableSchema, ValueRef};
use std::sync::Arc;

/// A source column's place on the target.
#[derive(Clone, Debug)]
pub(crate) struct BoundColumn {
    /// Quoted.
    pub name: String,
    /// As it is, for errors.
    pub plain: String,
    pub encoder: Encoder,
    target: DataType,
    /// The target computes it, so that nothing may write it (R13).
    pub is_computed: bool,
    /// An update of the row would change it unless it is set (R18).
    pub updates_itself: bool,
    /// NULL would be stored as a value of the server's own: the next number, or the time of now.
    fills_null: bool,
}

/// A schema on its target table.
#[derive(Debug)]
pub(crate) struct Bound {
    /// The source table, for errors.
    pub source: TableName,
    /// Target table, quoted.
    pub target: String,
    pub schema: Arc<TableSchema>,
    /// In the schema's order.
    pub columns: Vec<BoundColumn>,
    /// Columns of the key, in key order.
    pub key: Vec<usize>,
    /// Names of the key's columns, for errors.
    pub key_text: String,
    /// `insert into t (a, b) values `
    pub insert: String,
    /// For inserts in bulk; `None` if a column's values need the text of a statement.
    pub bulk: Option<BulkInsert>,
}

/// An insert of one row that is executed for many (MariaDB).
#[derive(Debug)]
pub(crate) struct BulkInsert {
    /// `insert into t (a, b) values (?,?)`
    pub sql: String,
    /// In the order of the columns that are written.
    pub types: Vec<BulkType>,
}

/// A column that could not be encoded.
#[derive(Debug)]
pub(crate) struct Refused {
    pub fault: Fault,
    pub column: String,
}

impl Refused {
    /// The error, which names the row by its place.
    pub(crate) fn error(&self, table: &TableName, place: &dyn std::fmt::Display) -> Error {
        if self.fault == Fault::TooLong {
            return too_long(table, place);
        }
        let text =
            format!("Column {} of {table} holds {}, in the row at {place}", self.column, self.fault.text());
        let error = Error::table(table.clone(), text);
        match self.fault.hint() {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }
}

/// A row that the server does not take in one request.
pub(crate) fn too_long(table: &TableName, place: &dyn std::fmt::Display) -> Error {
    let text = format!("The row of {table} at {place} is longer than max_allowed_packet of the target");
    Error::table(table.clone(), text).with_hint("Raise max_allowed_packet on the target, up to 1 GiB")
}

type Written = std::result::Result<(), Refused>;

impl Bound {
    /// Binds by name (D12); an error names the column that does not fit.
    pub(crate) fn new(source: &TableName, target: &TargetTable, schema: &Arc<TableSchema>) -> Result<Self> {
        if let Some(danger) = target.dangers().first() {
            let text =
                format!("Target table {} of {source} cannot be written any more: {danger}", target.name);
            return Err(Error::table(source.clone(), text).with_hint("Make it what it was, and start again"));
        }
        let columns: Vec<BoundColumn> =
            schema.columns().iter().map(|column| bind(source, target, column)).collect::<Result<_>>()?;
        let written = || columns.iter().zip(schema.columns()).filter(|(column, _)| !column.is_computed);
        let names: Vec<&str> = written().map(|(column, _)| column.name.as_str()).collect();
        let name = sql_name(&target.name);
        let insert = format!("insert into {name} ({}) values ", names.join(", "));
        let places = vec!["?"; names.len()].join(",");
        let types = written().map(|(to, from)| to.encoder.bulk_type(&from.data_type));
        let types: Option<Vec<BulkType>> = types.collect();
        let types = types.filter(|types| !types.is_empty());
        Ok(Self {
            source: source.clone(),
            bulk: types.map(|types| BulkInsert { sql: format!("{insert}({places})"), types }),
            insert,
            target: name,
            key: schema.key().iter().map(|k| usize::from(*k)).collect(),
            key_text: key_names(schema).join(", "),
            schema: schema.clone(),
            columns,
        })
    }

    fn refuse(&self, column: usize, fault: Fault) -> Refused {
        Refused { fault, column: self.columns[column].plain.clone() }
    }

    /// Cells of the columns that are written, with their places.
    fn written<'r>(&self, row: RowRef<'r>) -> impl Iterator<Item = (usize, Result<ValueRef<'r>>)> {
        let cells = row.cells().enumerate();
        cells.filter(|(at, _)| !self.columns[*at].is_computed)
    }

    /// Appends `(1, 'a', ..)`.
    pub(crate) fn row(
        &self,
        row: RowRef<'_>,
        policies: &Policies,
        leniency: &mut Leniency,
        out: &mut Vec<u8>,
    ) -> Written {
        out.push(b'(');
        for (nth, (at, cell)) in self.written(row).enumerate() {
            if nth > 0 {
                out.push(b',');
            }
            self.literal(at, cell, policies, leniency, out)?;
        }
        out.push(b')');
        Ok(())
    }

    /// Appends a row of an insert in bulk.
    pub(crate) fn bulk_row(
        &self,
        bulk: &BulkInsert,
        row: RowRef<'_>,
        policies: &Policies,
        leniency: &mut Leniency,
        out: &mut Vec<u8>,
    ) -> Written {
        for ((at, cell), column) in self.written(row).zip(&bulk.types) {
            self.write(at, cell, policies, leniency, &mut Bulk { out, column: *column })?;
        }
        Ok(())
    }

    fn literal(
        &self,
        column: usize,
        cell: Result<ValueRef<'_>>,
        policies: &Policies,
        leniency: &mut Leniency,
        out: &mut Vec<u8>,
    ) -> Written {
        self.write(column, cell, policies, leniency, &mut Literal(out))
    }

    fn write(
        &self,
        column: usize,
        cell: Result<ValueRef<'_>>,
        policies: &Policies,
        leniency: &mut Leniency,
        form: &mut impl Form,
    ) -> Written {
        let cell = cell.map_err(|e| self.refuse(column, Fault::Image(e.message().to_owned())))?;
        let written = self.columns[column].encoder.write(cell, policies, leniency, form);
        let is_null = written.map_err(|fault| self.refuse(column, fault))?;
        match self.columns[column].fills_null && is_null {
            true => Err(self.refuse(column, Fault::Null)),
            false => Ok(()),
        }
    }

    /// Appends the value of a key of one column.
    pub(crate) fn key_value(&self, row: RowRef<'_>, policies: &Policies, out: &mut Vec<u8>) -> Written {
        self.key_literal(self.key[0], row, policies, out)
    }

    fn key_literal(&self, at: usize, row: RowRef<'_>, policies: &Policies, out: &mut Vec<u8>) -> Written {
        let (cell, leniency) = (row.get(at), &mut Leniency::default());
        let DataType::Set { labels } = &self.columns[at].target else {
            return self.literal(at, cell, policies, leniency, out);
        };
        // As a number the 64th member is a sign.
        let mut number = Vec::new();
        self.literal(at, cell, policies, leniency, &mut number)?;
        out.extend_from_slice(&members(labels, &number));
        Ok(())
    }

    /// Appends ``` `a` = 1 and `b` = 2 ```.
    pub(crate) fn key_match(&self, row: RowRef<'_>, policies: &Policies, out: &mut Vec<u8>) -> Written {
        for (at, column) in self.key.iter().enumerate() {
            if at > 0 {
                out.extend_from_slice(b" and ");
            }
            out.extend_from_slice(self.columns[*column].name.as_bytes());
            out.extend_from_slice(b" = ");
            self.key_literal(*column, row, policies, out)?;
        }
        Ok(())
    }

    /// Appends a condition that every column is exactly the row's, NULL included (R7).
    pub(crate) fn row_match(&self, row: RowRef<'_>, policies: &Policies, out: &mut Vec<u8>) -> Written {
        for (nth, (at, cell)) in self.written(row).enumerate() {
            if nth > 0 {
                out.extend_from_slice(b" and ");
            }
            let mut literal = Vec::new();
            self.literal(at, cell, policies, &mut Leniency::default(), &mut literal)?;
            self.columns[at].same(&literal, out);
        }
        Ok(())
    }

    /// Appends ``` `a` = 1, `b` = `b` ``` for the columns that `is_set` names. One that the image lacks stays as it
    /// is, and so does one that an update would change by itself.
    pub(crate) fn assign(
        &self,
        row: RowRef<'_>,
        is_set: &[bool],
        policies: &Policies,
        leniency: &mut Leniency,
        out: &mut Vec<u8>,
    ) -> Written {
        let start = out.len();
        for (at, cell) in self.written(row) {
            let column = &self.columns[at];
            let (is_set, is_kept) = (is_set[at] && !row.lacks(at), column.updates_itself);
            if !is_set && !is_kept {
                continue;
            }
            if out.len() > start {
                out.extend_from_slice(b", ");
            }
            out.extend_from_slice(column.name.as_bytes());
            out.extend_from_slice(b" = ");
            match is_set {
                true => self.literal(at, cell, policies, leniency, out)?,
                false => out.extend_from_slice(column.name.as_bytes()),
            }
        }
        if out.len() == start {
            // The row is still to be found, which takes a statement that sets something.
            let written = |at: &&usize| !self.columns[**at].is_computed;
            let own = self.key.iter().find(written).map(|at| &self.columns[*at]);
            let any = self.columns.iter().find(|column| !column.is_computed);
            let name = own.or(any).map_or("", |column| column.name.as_str());
            out.extend_from_slice(format!("{name} = {name}").as_bytes());
        }
        Ok(())
    }
}

impl BoundColumn {
    /// Appends a condition that the stored value is the literal's, byte for byte where that can differ.
    fn same(&self, literal: &[u8], out: &mut Vec<u8>) {
        let name = &self.name;
        if literal == b"NULL" {
            // Not `<=>`, which MySQL has not for its vectors.
            out.extend_from_slice(format!("{name} is null").as_bytes());
            return;
        }
        let (stored, wanted): (String, Vec<u8>) = match (&self.target, literal) {
            (DataType::Text { .. }, text) => (
                format!("cast(convert({name} using utf8mb4) as binary)"),
                [b"cast(", text, b" as binary)"].concat(),
            ),
            (DataType::Json { .. }, text) => (name.clone(), [b"cast(", text, b" as json)"].concat()),
            (DataType::Geometry { .. } | DataType::Vector { .. }, hex) => {
                (format!("hex({name})"), hex_upper(hex))
            }
            // As a number the 64th member is a sign.
            (DataType::Set { labels }, number) => {
                (format!("cast(convert({name} using utf8mb4) as binary)"), members(labels, number))
            }
            (DataType::Year, number) => (format!("({name} + 0)"), number.to_vec()),
            (_, other) => (name.clone(), other.to_vec()),
        };
        out.extend_from_slice(stored.as_bytes());
        out.extend_from_slice(b" <=> ");
        out.extend_from_slice(&wanted);
    }
}

fn bind(source: &TableName, target: &TargetTable, column: &freshet_core::Column) -> Result<BoundColumn> {
    let refuse = |why: String| {
        let text = format!("Column {} of {source} {why} in target table {}", column.name, target.name);
        Error::table(source.clone(), text)
            .with_hint("Change the target table to fit the source, and start again")
    };
    let (own, info) = target.column(&column.name).ok_or_else(|| refuse("is missing".to_owned()))?;
    let bound = types::bind(&column.data_type, &own.data_type);
    let encoder = bound.map_err(|why| refuse(format!("is declared {}, which {why},", info.native_type)))?;
    Ok(BoundColumn {
        name: sql_ident(&column.name),
        plain: column.name.clone(),
        encoder,
        target: own.data_type.clone(),
        // Preparation refused one that the source does not compute alike.
        is_computed: info.generated,
        updates_itself: target.self_updated.contains(&column.name),
        fills_null: info.auto_increment
            || (info.not_null && matches!(own.data_type, DataType::Timestamp { .. })),
    })
}
