//! One connection of a view: plans chunks, and streams their rows into batches.
//!
//! The first touch of a table takes its metadata lock, which the transaction keeps, and then compares the table's
//! definition with the view's catalogue: from there on nobody can change it under us, and what changed before is
//! found. That comparison is made on a second connection: MySQL's catalogue is tables too, and inside of the
//! transaction it would be that of the snapshot. InnoDB itself refuses a table that was made anew after the snapshot.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use freshet_core::codec::BatchBuilder;
use freshet_core::error::{Error, ErrorKind, Result};
use freshet_core::schema::{TableName, TableSchema};
use freshet_core::table::{Chunk, ChunkReader, TableInfo};
use freshet_core::types::DataType;

use super::bounds::Bound;
use super::{plan, session};
use crate::catalog::{self, sql_ident, sql_name};
use crate::server::ServerFacts;
use crate::values::binary::BinaryPlan;
use crate::wire::{ConnectOptions, Connection, DetachedRows, Statement, WireError};

/// Reads chunks under one snapshot.
pub(super) struct MysqlChunkReader {
    connection: Connection,
    /// Outside of the transaction, for the catalogue of now; opened when it is needed.
    outside: Option<Connection>,
    options: ConnectOptions,
    facts: Arc<ServerFacts>,
    /// Tables whose metadata lock is held and whose definition was compared.
    pinned: HashSet<TableName>,
    open: Option<OpenChunk>,
}

struct OpenChunk {
    schema: Arc<TableSchema>,
    statement: Statement,
    rows: DetachedRows,
    plan: BinaryPlan,
}

impl MysqlChunkReader {
    /// A reader over a connection whose transaction has its snapshot already.
    pub(super) fn new(connection: Connection, options: ConnectOptions, facts: Arc<ServerFacts>) -> Self {
        Self { connection, outside: None, options, facts, pinned: HashSet::new(), open: None }
    }

    async fn pin(&mut self, table: &TableInfo) -> Result<()> {
        let name = table.name();
        if self.pinned.contains(name) {
            return Ok(());
        }
        let touch = format!("SELECT 1 FROM {} LIMIT 1", sql_name(name));
        self.connection.query(&touch).await.map_err(|error| table_error(name, error))?;
        let mut outside = match self.outside.take() {
            Some(connection) => connection,
            None => session::open(&self.options, self.facts.flavour).await?,
        };
        let now = catalog::read_one(&mut outside, &self.facts, name).await?;
        self.outside = Some(outside);
        let is_same = now.is_some_and(|now| {
            now.schema == table.schema && now.columns == table.columns && now.indexes == table.indexes
        });
        if !is_same {
            return Err(changed(name));
        }
        self.pinned.insert(name.clone());
        Ok(())
    }

    /// Reads what is left of a chunk that nobody wants any more, so that the connection can be used again.
    async fn finish_open(&mut self) -> Result<()> {
        let Some(open) = self.open.take() else { return Ok(()) };
        let mut rows = self.connection.attach(open.rows)?;
        while rows.next().await?.is_some() {}
        Ok(self.connection.close_statement(open.statement).await?)
    }
}

#[async_trait]
impl ChunkReader for MysqlChunkReader {
    async fn plan(&mut self, table: &TableInfo, rows: u64) -> Result<Vec<Chunk>> {
        self.finish_open().await?;
        self.pin(table).await?;
        plan::plan(&mut self.connection, table, rows).await
    }

    async fn open(&mut self, table: &TableInfo, chunk: &Chunk) -> Result<()> {
        self.finish_open().await?;
        self.pin(table).await?;
        let name = table.name();
        let sql = select(&mut self.connection, table, chunk).await?;
        let statement = self.connection.prepare(&sql).await.map_err(|error| table_error(name, error))?;
        let rows =
            self.connection.execute(&statement, &[]).await.map_err(|error| table_error(name, error))?;
        let plan = BinaryPlan::new(&table.schema, rows.columns())
            .map_err(|error| Error::unsupported(format!("Table {name} cannot be read: {error}")));
        let rows = rows.detach();
        self.open = Some(OpenChunk { schema: table.schema.clone(), statement, rows, plan: plan? });
        Ok(())
    }

    async fn read(&mut self, batch: &mut BatchBuilder, bytes_target: usize) -> Result<bool> {
        let Some(OpenChunk { schema, statement, rows, mut plan }) = self.open.take() else {
            return Err(Error::internal("No chunk is open for reading"));
        };
        let mut rows = self.connection.attach(rows)?;
        loop {
            let Some(row) = rows.next().await.map_err(|error| table_error(schema.name(), error))? else {
                self.connection.close_statement(statement).await?;
                return Ok(false);
            };
            let before = batch.mark();
            let mut writer = batch.insert(&schema);
            if let Err(error) = plan.write_row(&row, &mut writer) {
                batch.rewind(before);
                let name = schema.name();
                return Err(Error::table(
                    name.clone(),
                    format!("A row of table {name} cannot be read: {error}"),
                ));
            }
            writer.finish();
            if batch.len() >= bytes_target {
                break;
            }
        }
        let rows = rows.detach();
        self.open = Some(OpenChunk { schema, statement, rows, plan });
        Ok(true)
    }
}

/// The SELECT of a chunk: columns in the schema's order, as [`BinaryPlan`] wants them.
async fn select(connection: &mut Connection, table: &TableInfo, chunk: &Chunk) -> Result<String> {
    let columns: Vec<String> =
        table.schema.columns().iter().map(|c| expression(&c.name, &c.data_type)).collect();
    let mut conditions = Vec::new();
    let mut sql = format!("SELECT {} FROM {}", columns.join(", "), sql_name(table.name()));
    if let Some(index) = plan::key_index(connection, table).await? {
        sql.push_str(&format!(" FORCE INDEX ({})", index.name));
        let parts = &index.parts;
        if let Some(lower) = &chunk.lower {
            conditions.push(Bound::parse(parts, lower)?.after(parts));
        }
        if let Some(upper) = &chunk.upper {
            conditions.push(Bound::parse(parts, upper)?.up_to(parts));
        }
    } else if chunk.lower.is_some() || chunk.upper.is_some() {
        return Err(Error::corrupt(format!(
            "A chunk of table {} has bounds, and the table no key",
            table.name()
        )));
    }
    if !conditions.is_empty() {
        sql.push_str(" WHERE ");
        sql.push_str(&conditions.join(" AND "));
    }
    Ok(sql)
}

/// Enums and sets as numbers: by `CAST` rather than `+ 0`, which is a double and loses a set's high bits.
fn expression(name: &str, data_type: &DataType) -> String {
    let column = sql_ident(name);
    match data_type {
        DataType::Enum { .. } | DataType::Set { .. } => format!("CAST({column} AS UNSIGNED)"),
        _ => column,
    }
}

/// An error while a table was being read: a table that is gone or was made anew is the table's own trouble.
pub(super) fn table_error(table: &TableName, error: WireError) -> Error {
    const NO_SUCH_TABLE: u16 = 1146;
    const UNKNOWN_COLUMN: u16 = 1054;
    const NO_SUCH_DATABASE: u16 = 1049;
    const DEFINITION_CHANGED: u16 = 1412;
    match error.server_code() {
        Some(NO_SUCH_TABLE | NO_SUCH_DATABASE) => Error::table(
            table.clone(),
            format!("Table {table} was dropped or renamed while it was being loaded"),
        )
        .with_hint("Start the load again, without the table if it is to stay away"),
        Some(DEFINITION_CHANGED | UNKNOWN_COLUMN) => changed(table),
        _ => Error::from(error).context(format!("Reading table {table}")),
    }
}

fn changed(table: &TableName) -> Error {
    Error::new(
        ErrorKind::Table(table.clone()),
        format!("The definition of table {table} changed while it was being loaded"),
    )
    .with_hint("Start the load again, and change no captured table before it is through")
}
