//! One session of a view: plans chunks, and streams their rows into batches.
//!
//! The snapshot is the transaction's, so an error must not end the transaction: every plan and every chunk begins by
//! going back to one savepoint, which also undoes an error and gives up the locks of the one before. A chunk that is
//! given up is read to its end by the connection first, row by row, and thrown away.
//!
//! Old rows under a newer definition would be wrong rows: what TRUNCATE or a rewriting ALTER left is *empty* to an
//! older snapshot, and a partition that was attached since shows its rows. So after the lock is taken, and before a
//! row is read, the table is compared as the snapshot has it with what it is now ([`PostgresChunkReader::pin`]): its
//! number, its files, its partitions, and the number and type of every column. Queries on the catalogue see the
//! snapshot; functions (`pg_relation_filenode`, `pg_partition_tree`, `to_regclass`) and a prepared statement see now.

use super::bounds::{Bound, KeyColumn, usable_columns};
use super::copy::{CopyFrames, Fields, Framed};
use super::plan;
use super::session::ReaderSession;
use crate::catalog::types::TypeCatalog;
use crate::error::{Scope, statement_error};
use crate::quote;
use crate::values::binary::{BinaryCells, has_decoder};
use async_trait::async_trait;
use bytes::Bytes;
use freshet_core::codec::BatchBuilder;
use freshet_core::error::{Error, Result};
use freshet_core::schema::{Column, TableName, TableSchema};
use freshet_core::table::{Chunk, ChunkReader, NativeRows, TableInfo};
use futures_util::StreamExt;
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use tokio_postgres::CopyOutStream;

/// A range of a key is walked by its index: the server takes the two ends of a range of rows of columns for
/// independent, expects a quarter of the table in each chunk, and would read the whole of it every time.
const PREPARE: &str = "set local enable_seqscan = off; savepoint chunk";
const BACK: &str = "rollback to savepoint chunk";

/// A table as the snapshot has it.
#[derive(Clone, Debug)]
pub(super) struct Pinned {
    oid: u32,
    /// Columns that are not generated, in order.
    columns: Vec<PinnedColumn>,
    /// What stands behind FROM: a partitioned table with its partitions, an ordinary one without its children (R26).
    pub(super) from: String,
    /// The table and its partitions.
    pub(super) parts: Vec<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct PinnedColumn {
    name: String,
    number: i16,
    type_oid: u32,
    modifier: i32,
    /// With its schema, quoted.
    collation: Option<String>,
}

impl Pinned {
    /// The key's columns that bounds can be made of, with the collations of the snapshot; without a key a row's place.
    pub(super) fn key_columns(&self, table: &TableInfo) -> Result<Vec<KeyColumn>> {
        if table.schema.key().is_empty() {
            return Ok(vec![KeyColumn { name: "ctid".to_owned(), collation: None }]);
        }
        let column = |place: &u16| {
            let column = self.columns.get(usize::from(*place)).ok_or_else(|| changed(table.name()))?;
            Ok(KeyColumn { name: quote::ident(&column.name), collation: column.collation.clone() })
        };
        table.schema.key().iter().take(usable_columns(table)).map(column).collect()
    }
}

/// Reads chunks under one snapshot.
pub(super) struct PostgresChunkReader {
    session: ReaderSession,
    /// As the snapshot has them, so for good.
    pinned: HashMap<TableName, Arc<Pinned>>,
    types: TypeCatalog,
    open: Option<OpenChunk>,
}

struct OpenChunk {
    schema: Arc<TableSchema>,
    stream: Pin<Box<CopyOutStream>>,
    frames: CopyFrames,
    cells: BinaryCells,
    is_done: bool,
}

impl PostgresChunkReader {
    /// A reader over a session whose transaction has its snapshot already.
    pub(super) async fn new(session: ReaderSession) -> Result<Self> {
        session.run("Preparing a reader", PREPARE).await?;
        Ok(Self { session, pinned: HashMap::new(), types: TypeCatalog::default(), open: None })
    }

    fn opened(&mut self) -> Result<&mut OpenChunk> {
        self.open.as_mut().ok_or_else(|| Error::internal("No chunk is open for reading"))
    }

    /// Passes on whether there is more to read; the chunk is closed at its end and after an error.
    async fn settle(&mut self, more: Result<bool>) -> Result<bool> {
        match more {
            Ok(true) => {}
            Ok(false) => self.go_back().await?,
            Err(_) => self.open = None,
        }
        more
    }

    /// Gives up what was under way, with its locks and its errors.
    async fn go_back(&mut self) -> Result<()> {
        // A stream that is dropped unread is read to its end by the connection; one at its end stays until the answer
        // is here, so that whoever drops this future and calls again is told of the end again.
        self.open = self.open.take().filter(|open| open.is_done);
        self.session.run("Going on with a reader", BACK).await?;
        self.session.is_streaming = false;
        self.open = None;
        Ok(())
    }

    /// Takes the table's weakest lock, and makes sure that it is what it is in the snapshot and in `table`.
    async fn pin(&mut self, table: &TableInfo) -> Result<Arc<Pinned>> {
        let name = table.name();
        let pinned = match self.pinned.get(name) {
            Some(pinned) => pinned.clone(),
            None => {
                let pinned = Arc::new(self.under_the_snapshot(name).await?);
                self.pinned.insert(name.clone(), pinned.clone());
                pinned
            }
        };
        self.compare_schema(table, &pinned).await?;
        let client = self.session.client();
        let lock = format!("lock table {} in access share mode", pinned.from);
        client.batch_execute(&lock).await.map_err(|error| table_error(name, "Locking", &error))?;
        self.compare_files(name, &pinned).await?;
        let names: Vec<String> = pinned.columns.iter().map(|column| quote::ident(&column.name)).collect();
        let select = format!("select {} from {}", names.join(", "), pinned.from);
        let now = client.prepare(&select).await.map_err(|error| table_error(name, "Reading", &error))?;
        let is_same = |(was, now): (&PinnedColumn, &tokio_postgres::Column)| {
            now.table_oid() == Some(pinned.oid)
                && now.column_id() == Some(was.number)
                && (now.type_().oid(), now.type_modifier()) == self.types.base(was.type_oid, was.modifier)
        };
        if now.columns().len() != pinned.columns.len()
            || !pinned.columns.iter().zip(now.columns()).all(is_same)
        {
            return Err(changed(name));
        }
        Ok(pinned)
    }

    /// Whether the caller's description of the table is the snapshot's.
    async fn compare_schema(&mut self, table: &TableInfo, pinned: &Pinned) -> Result<()> {
        let types: Vec<u32> = pinned.columns.iter().map(|column| column.type_oid).collect();
        self.types.resolve(self.session.client(), &types).await?;
        let is_same = |(column, pinned): (&Column, &PinnedColumn)| {
            column.name == pinned.name
                && self.types.data_type(pinned.type_oid, pinned.modifier).as_ref() == Some(&column.data_type)
        };
        let columns = table.schema.columns();
        if columns.len() == pinned.columns.len() && columns.iter().zip(&pinned.columns).all(is_same) {
            Ok(())
        } else {
            Err(changed(table.name()))
        }
    }

    async fn under_the_snapshot(&self, name: &TableName) -> Result<Pinned> {
        const TABLE: &str = "select c.oid, c.relkind = 'p' from pg_catalog.pg_class c \
             join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
             where n.nspname = $1 and c.relname = $2 and c.relkind in ('r', 'p') and not c.relispartition";
        const PARTS: &str = "with recursive tree(oid) as (select $1::oid union all \
             select i.inhrelid from tree join pg_catalog.pg_inherits i on i.inhparent = tree.oid \
             join pg_catalog.pg_class c on c.oid = i.inhrelid and c.relispartition) select oid from tree";
        const COLUMNS: &str = "select a.attname::text, a.attnum, a.atttypid, a.atttypmod, n.nspname::text, \
               c.collname::text from pg_catalog.pg_attribute a \
             left join pg_catalog.pg_collation c on c.oid = a.attcollation \
             left join pg_catalog.pg_namespace n on n.oid = c.collnamespace \
             where a.attrelid = $1 and a.attnum > 0 and not a.attisdropped and a.attgenerated = '' order by a.attnum";
        let fail = |error: &tokio_postgres::Error| table_error(name, "Looking at", error);
        let client = self.session.client();
        let row = client.query_opt(TABLE, &[&name.schema, &name.table]).await.map_err(|e| fail(&e))?;
        let (oid, is_partitioned) = row.map(|row| (row.get(0), row.get(1))).ok_or_else(|| gone(name))?;
        let parts = client.query(PARTS, &[&oid]).await.map_err(|e| fail(&e))?;
        let columns = client.query(COLUMNS, &[&oid]).await.map_err(|e| fail(&e))?;
        let column = |row: &tokio_postgres::Row| {
            let collation = row.get::<_, Option<String>>(4).zip(row.get::<_, Option<String>>(5));
            PinnedColumn {
                name: row.get(0),
                number: row.get(1),
                type_oid: row.get(2),
                modifier: row.get(3),
                collation: collation.map(|(schema, name)| quote::table(&TableName::new(schema, name))),
            }
        };
        let only = if is_partitioned { "" } else { "only " };
        Ok(Pinned {
            oid,
            columns: columns.iter().map(column).collect(),
            from: format!("{only}{}", quote::table(name)),
            parts: parts.iter().map(|row| row.get(0)).collect(),
        })
    }

    /// Whether the name, the files and the partitions of now are those of the snapshot. The table is locked. A partition
    /// that the snapshot does not see at all was made after it, and so was every row in it.
    async fn compare_files(&self, name: &TableName, pinned: &Pinned) -> Result<()> {
        const SQL: &str = "select coalesce(pg_catalog.to_regclass($2)::oid = $1, false), not exists ( \
               select from pg_catalog.pg_class c where c.oid = any($3) \
                 and c.relfilenode is distinct from coalesce(pg_catalog.pg_relation_filenode(c.oid), 0)), \
             coalesce((select pg_catalog.array_agg(t.relid::oid) from pg_catalog.pg_partition_tree($1) t \
               join pg_catalog.pg_class c on c.oid = t.relid), array[$1])";
        let row =
            self.session.client().query_one(SQL, &[&pinned.oid, &quote::table(name), &pinned.parts]).await;
        let row = row.map_err(|error| table_error(name, "Looking at", &error))?;
        let (is_named_so, has_same_files, mut parts): (bool, bool, Vec<u32>) =
            (row.get(0), row.get(1), row.get(2));
        let mut parts_then = pinned.parts.clone();
        parts.sort_unstable();
        parts_then.sort_unstable();
        match (is_named_so, has_same_files, parts == parts_then) {
            (true, true, true) => Ok(()),
            (false, _, _) => Err(gone(name)),
            (true, false, _) => Err(Error::table(
                name.clone(),
                format!("Table {name} was truncated or rewritten (ALTER TABLE, VACUUM FULL, CLUSTER) while it was being loaded"),
            )
            .with_hint(AGAIN)),
            (true, true, false) => Err(Error::table(
                name.clone(),
                format!("A partition of table {name} was attached or detached while it was being loaded"),
            )
            .with_hint(AGAIN)),
        }
    }
}

#[async_trait]
impl ChunkReader for PostgresChunkReader {
    async fn plan(&mut self, table: &TableInfo, rows: u64) -> Result<Vec<Chunk>> {
        self.go_back().await?;
        let pinned = self.pin(table).await?;
        let chunks = plan::plan(self.session.client(), table, &pinned, rows).await?;
        self.go_back().await?;
        Ok(chunks)
    }

    async fn open(&mut self, table: &TableInfo, chunk: &Chunk) -> Result<()> {
        self.go_back().await?;
        let pinned = self.pin(table).await?;
        let copy = copy_statement(table, chunk, &pinned)?;
        let name = table.name();
        let too_many = || Error::unsupported(format!("Table {name} has more columns than COPY can send"));
        let frames = CopyFrames::new(table.schema.columns().len()).ok_or_else(too_many)?;
        self.session.is_streaming = true;
        let stream = self.session.client().copy_out(&copy).await;
        let stream = Box::pin(stream.map_err(|error| table_error(name, "Reading", &error))?);
        let (schema, cells) = (table.schema.clone(), BinaryCells::default());
        self.open = Some(OpenChunk { schema, stream, frames, cells, is_done: false });
        Ok(())
    }

    async fn read(&mut self, batch: &mut BatchBuilder, bytes_target: usize) -> Result<bool> {
        let more = self.opened()?.read(batch, bytes_target).await;
        self.settle(more).await
    }

    /// Where text is known to be in its character set, which decoding it would find out.
    fn is_native(&self) -> bool {
        let has_decoders = |open: &OpenChunk| open.schema.columns().iter().all(|c| has_decoder(&c.data_type));
        self.session.has_encoding && self.open.as_ref().is_some_and(has_decoders)
    }

    async fn read_native(&mut self, rows: &mut NativeRows, bytes_target: usize) -> Result<bool> {
        let more = self.opened()?.read_native(rows, bytes_target).await;
        self.settle(more).await
    }
}

impl OpenChunk {
    /// Rows until the target or the end. Dropping the future loses nothing: whole rows are written between waits.
    async fn read(&mut self, batch: &mut BatchBuilder, bytes_target: usize) -> Result<bool> {
        while let Some(row) = self.next().await? {
            write_row(&self.schema, &row, &mut self.cells, batch)?;
            if batch.len() >= bytes_target {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// As [`OpenChunk::read`].
    async fn read_native(&mut self, rows: &mut NativeRows, bytes_target: usize) -> Result<bool> {
        let fields = (self.schema.columns().len() as i16).to_be_bytes();
        while let Some(row) = self.next().await? {
            rows.bytes.extend_from_slice(&fields);
            rows.bytes.extend_from_slice(&row);
            rows.rows += 1;
            if rows.bytes.len() >= bytes_target {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The fields of the next row; `None` at the end.
    async fn next(&mut self) -> Result<Option<Bytes>> {
        let name = self.schema.name();
        let strange = |what: &dyn std::fmt::Display| Error::corrupt(format!("Reading table {name}: {what}"));
        while !self.is_done {
            let framed = self.frames.next().map_err(|error| strange(&error))?;
            if let Framed::Row(row) = framed {
                return Ok(Some(row));
            }
            let piece = self.stream.next().await.transpose();
            match (framed, piece.map_err(|error| table_error(name, "Reading", &error))?) {
                (_, Some(piece)) => self.frames.feed(piece),
                (Framed::End, None) => self.is_done = true,
                (_, None) => return Err(strange(&"the server's answer ends in the middle")),
            }
        }
        Ok(None)
    }
}

fn write_row(
    schema: &TableSchema,
    row: &[u8],
    cells: &mut BinaryCells,
    batch: &mut BatchBuilder,
) -> Result<()> {
    let before = batch.mark();
    let mut fields = Fields(row);
    let mut writer = batch.insert(schema);
    for column in schema.columns() {
        let outcome = match fields.next() {
            Some(field) => {
                cells.write(&column.data_type, field, &mut writer).map_err(|error| error.to_string())
            }
            None => Err("it is cut off".to_owned()),
        };
        if let Err(why) = outcome {
            batch.rewind(before);
            let name = schema.name();
            let text = format!("Column {} of a row of table {name} cannot be read: {why}", column.name);
            return Err(Error::table(name.clone(), text)
                .with_hint("Correct the value at the source, or exclude the table"));
        }
    }
    writer.finish();
    Ok(())
}

/// The COPY of a chunk: columns in the schema's order, in the form that `values::binary` wants.
fn copy_statement(table: &TableInfo, chunk: &Chunk, pinned: &Pinned) -> Result<String> {
    let columns: Vec<String> = table.schema.columns().iter().map(expression).collect();
    let (key, from) = (pinned.key_columns(table)?, &pinned.from);
    let parse = |text: &str| match table.schema.key().is_empty() {
        true => Bound::parse_place(text),
        false => Bound::parse(key.len(), text),
    };
    let bound = |text: &Option<String>| text.as_deref().map(parse).transpose();
    let lower = bound(&chunk.lower)?.map(|bound| bound.after(&key));
    let upper = bound(&chunk.upper)?.map(|bound| bound.up_to(&key));
    let conditions: Vec<String> = lower.into_iter().chain(upper).collect();
    let filter =
        if conditions.is_empty() { String::new() } else { format!(" where {}", conditions.join(" and ")) };
    Ok(format!("copy (select {} from {from}{filter}) to stdout (format binary)", columns.join(", ")))
}

/// Types without a decoder as text, by their output function: a cast to text prints some of them otherwise (`inet`),
/// and a row whose fields are all NULL is not NULL.
fn expression(column: &Column) -> String {
    let name = quote::ident(&column.name);
    if has_decoder(&column.data_type) {
        return name;
    }
    format!("case when pg_catalog.num_nulls({name}) = 0 then pg_catalog.format('%s', {name}) end")
}

const AGAIN: &str = "Start the load of the table again, and change no captured table before it is through";

fn gone(table: &TableName) -> Error {
    Error::table(table.clone(), format!("Table {table} was dropped or renamed while it was being loaded"))
        .with_hint("Start the load again, without the table if it is to stay away")
}

fn changed(table: &TableName) -> Error {
    Error::table(table.clone(), format!("The definition of table {table} changed while it was being loaded"))
        .with_hint(AGAIN)
}

/// An error of a statement on a table: one that is gone or was changed is the table's own trouble.
pub(super) fn table_error(table: &TableName, doing: &str, error: &tokio_postgres::Error) -> Error {
    const UNDEFINED_TABLE: &str = "42P01";
    const UNDEFINED_SCHEMA: &str = "3F000";
    const UNDEFINED_COLUMN: &str = "42703";
    const SNAPSHOT_TOO_OLD: &str = "72000";
    const DENIED: &str = "42501";
    let what = format!("{doing} table {table}");
    match error.code().map(tokio_postgres::error::SqlState::code) {
        Some(UNDEFINED_TABLE | UNDEFINED_SCHEMA) => gone(table),
        Some(UNDEFINED_COLUMN) => changed(table),
        Some(SNAPSHOT_TOO_OLD) => Error::unavailable(format!("{what}: the snapshot is too old"))
            .with_hint("Set old_snapshot_threshold = -1 on the source"),
        Some(DENIED) if error.as_db_error().is_some_and(|e| e.message().contains("row-level security")) => {
            Error::invalid(format!("{what}: row security hides rows of it from this role"))
                .with_hint("ALTER ROLE ... BYPASSRLS, or exclude the table")
        }
        _ => statement_error(&Scope::Table(table.clone()), what, error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use freshet_core::types::DataType;

    #[test]
    fn g1_types_without_a_decoder_are_printed_by_their_output_function() {
        let column = |data_type| Column { name: "a\"b".into(), data_type, nullable: true };
        assert_eq!(expression(&column(DataType::Money)), r#""a""b""#);
        assert_eq!(
            expression(&column(DataType::Named { name: "inet".into() })),
            r#"case when pg_catalog.num_nulls("a""b") = 0 then pg_catalog.format('%s', "a""b") end"#
        );
    }
}
