//! The contract of reading existing rows: catalogue, consistent views with two bounds, chunks.

use crate::codec::BatchBuilder;
use crate::error::{Error, Result};
use crate::position::Position;
use crate::schema::{TableName, TableSchema};
use crate::source::Selects;
use async_trait::async_trait;
use std::fmt;
use std::sync::Arc;

/// What the catalogue says of a column beyond [`crate::schema::Column`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ColumnInfo {
    /// The source's own declaration, `int(10) unsigned zerofill`.
    pub native_type: String,
    /// Declared NOT NULL, also where the schema says that NULL may occur because the stream does not tell.
    pub not_null: bool,
    /// Default expression as the source prints it.
    pub default: Option<String>,
    /// Filled by the server: `auto_increment`, identity.
    pub auto_increment: bool,
    /// Computed by the server from other columns.
    pub generated: bool,
    /// What it is computed by, as the source prints it; empty for nothing.
    pub expression: String,
    /// What an update of its row sets it to: MySQL's and MariaDB's `ON UPDATE`.
    pub on_update: Option<String>,
    /// Left out of `SELECT *`.
    pub invisible: bool,
    /// The reference system that its geometries have to be of.
    pub srid: Option<u32>,
    /// Collation of text.
    pub collation: Option<String>,
    /// Comment.
    pub comment: String,
}

/// One part of an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexPart {
    /// Index of the column in the table's schema; `None` for an expression.
    pub column: Option<u16>,
    /// Prefix length (characters for text, bytes for bytes), for MySQL's prefix indexes (M18).
    pub prefix: Option<u32>,
    /// Descending.
    pub descending: bool,
}

/// An index other than the primary key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexInfo {
    /// Name on the source.
    pub name: String,
    /// Unique.
    pub unique: bool,
    /// `btree`, `fulltext`, `spatial`, `vector`, ...: lower case, the source's word.
    pub method: String,
    /// Parts, in order.
    pub parts: Vec<IndexPart>,
}

/// Whose words a table's definition is in: declarations, defaults, collations, methods of indexes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// MySQL's and MariaDB's.
    #[default]
    Mysql,
    /// PostgreSQL's, names qualified as an empty search path has them.
    Postgres,
}

/// What an object of a table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ObjectKind {
    /// The index that changes are found by, or the constraint behind it.
    Key,
    /// An index or a constraint that forbids a second row of the same values.
    Unique,
    /// Any other index.
    Index,
    /// A condition on each row.
    Check,
    /// A condition on two rows.
    Exclusion,
    /// A reference to another table.
    ForeignKey,
    /// A comment on the table.
    Comment,
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ObjectKind::Key => "Key",
            ObjectKind::Unique => "Unique index",
            ObjectKind::Index => "Index",
            ObjectKind::Check => "Check constraint",
            ObjectKind::Exclusion => "Exclusion constraint",
            ObjectKind::ForeignKey => "Foreign key",
            ObjectKind::Comment => "Comment",
        })
    }
}

/// A part of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// In the words of the table's dialect.
    Words(String),
    /// A table of the source: whoever runs the statement puts the target's name here, in quotes.
    Table(TableName),
    /// The name of the object itself, to be quoted.
    Name,
}

/// An object of a table as a statement of the source's dialect that makes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// What it is.
    pub kind: ObjectKind,
    /// Name on the source; empty for a comment.
    pub name: String,
    /// Checked when a statement or transaction is over, and not with each row.
    pub deferrable: bool,
    /// Why it may not be made while a pipeline writes the table.
    pub obstacle: Option<String>,
    /// What it is, as the source prints it.
    pub definition: String,
    /// Makes it.
    pub statement: Vec<Piece>,
}

/// How a sequence stands to its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SequenceRole {
    /// Behind an identity column.
    Identity {
        /// Whether the column takes no other value (`GENERATED ALWAYS`).
        always: bool,
    },
    /// Owned by a column, and dropped with it.
    Owned,
    /// Nobody's.
    Free,
}

/// A sequence that numbers a column, or stands beside the tables of a schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SequenceInfo {
    /// Name on the source.
    pub name: TableName,
    /// The column that it numbers or belongs to; `None` for one of no captured table, which stands with the first table
    /// of its schema.
    pub column: Option<u16>,
    /// How it stands to that column.
    pub role: SequenceRole,
    /// Whether its next value is the column's default.
    pub is_default: bool,
    /// Type, in the words of the dialect.
    pub data_type: String,
    /// Start, step, bounds and the like, in the words of the dialect.
    pub options: String,
    /// The last value that it gave when the catalogue was read; `None` for none, or where that is not known.
    pub last: Option<i64>,
}

/// A column that the source computes and the stream does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GeneratedColumn {
    /// Name.
    pub name: String,
    /// Index of the schema's column that it stands before.
    pub before: u16,
    /// Computed with each read and not kept.
    pub is_virtual: bool,
    /// The rest; its default is the expression.
    pub info: ColumnInfo,
}

/// A type that somebody made on the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeInfo {
    /// Name, in the words of the dialect: as in [`ColumnInfo::native_type`].
    pub name: String,
    /// Schema.
    pub schema: String,
    /// The types that it is made of, in the same words.
    pub parts: Vec<String>,
    /// The statement that makes it, under the same name.
    pub statement: String,
}

/// A table of MySQL or MariaDB as its server prints it, for a target of the same product.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Printed {
    /// Printed by MariaDB, and else by MySQL.
    pub is_mariadb: bool,
    /// For each column of the schema what stands behind its name, or why that may not be made while a pipeline writes
    /// the table.
    pub columns: Vec<Result<String, String>>,
    /// Collation of text whose column names none.
    pub collation: Option<String>,
    /// What else the table itself is declared with, its comment among it.
    pub options: String,
    /// How it is partitioned; empty for not at all.
    pub partitions: String,
}

/// What only a sink of the table's own dialect can make. Another one lists it ([`TableInfo::native_lines`]).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Native {
    /// Columns and options, where the server prints a table whole.
    pub printed: Option<Printed>,
    /// Indexes and constraints, those of [`TableInfo::indexes`] and the key's again, and comments.
    pub objects: Vec<Object>,
    /// Sequences.
    pub sequences: Vec<SequenceInfo>,
    /// Columns that the schema lacks, in order.
    pub generated: Vec<GeneratedColumn>,
    /// Types of the columns, each after those that it is made of.
    pub types: Vec<TypeInfo>,
}

/// A table as the source's catalogue describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct TableInfo {
    /// Name, columns, types, key: equal to what the stream announces for the same definition.
    pub schema: Arc<TableSchema>,
    /// Whose words the rest is in.
    pub dialect: Dialect,
    /// One for each column of the schema.
    pub columns: Vec<ColumnInfo>,
    /// Secondary indexes.
    pub indexes: Vec<IndexInfo>,
    /// Next value of the auto-increment column.
    pub next_value: Option<u64>,
    /// Rows, an estimate for progress only.
    pub rows_estimate: u64,
    /// The rest of the definition, in the words of the dialect.
    pub native: Native,
    /// Things of this table that no field here holds, so that no sink can carry them over: one line each.
    pub not_carried: Vec<String>,
}

impl TableInfo {
    /// The table's name.
    pub fn name(&self) -> &TableName {
        self.schema.name()
    }

    /// A line for each part of [`TableInfo::native`] that no other field holds, for a sink of another dialect.
    pub fn native_lines(&self) -> Vec<String> {
        let is_known = |object: &&Object| match object.kind {
            ObjectKind::Key => true,
            ObjectKind::Unique | ObjectKind::Index => {
                self.indexes.iter().any(|index| index.name == object.name)
            }
            ObjectKind::Check | ObjectKind::Exclusion | ObjectKind::ForeignKey | ObjectKind::Comment => false,
        };
        let unknown = self.native.objects.iter().filter(|object| !is_known(object));
        let free = self.native.sequences.iter().filter(|sequence| sequence.role == SequenceRole::Free);
        let sequences = free.map(|sequence| format!("Sequence {}: {}", sequence.name, sequence.options));
        let generated = self.native.generated.iter().map(|column| {
            let expression = column.info.default.as_deref().unwrap_or_default();
            format!("Generated column {} of {}: {expression}", column.name, self.name())
        });
        let types = self.native.types.iter().map(|made| format!("Type {}: {}", made.name, made.statement));
        types
            .chain(generated)
            .chain(unknown.map(|object| object.line(self.name())))
            .chain(sequences)
            .chain(self.partitioning_line())
            .chain(self.attribute_lines(&["ON UPDATE", "INVISIBLE", "SRID"]))
            .collect()
    }

    /// A line that says how the table is partitioned.
    pub fn partitioning_line(&self) -> Option<String> {
        let partitions = self.native.printed.as_ref().map_or("", |printed| printed.partitions.as_str());
        let first = partitions.lines().next()?;
        Some(format!("Partitioning of {}: {first}", self.name()))
    }

    /// A line for each column that has one of these attributes.
    pub fn attribute_lines(&self, wanted: &[&str]) -> Vec<String> {
        let columns = self.schema.columns().iter().zip(&self.columns);
        let each = columns.flat_map(|(column, info)| {
            let attributes = [
                ("ON UPDATE", info.on_update.is_some()),
                ("INVISIBLE", info.invisible),
                ("SRID", info.srid.is_some()),
            ];
            let its = attributes.into_iter().filter(|(what, has_it)| *has_it && wanted.contains(what));
            its.map(|(what, _)| format!("{what} of column {} of {}", column.name, self.name()))
        });
        each.collect()
    }
}

impl Object {
    /// What is not carried over, for people.
    pub fn line(&self, of: &TableName) -> String {
        let Object { kind, name, definition, .. } = self;
        let space = if name.is_empty() { "" } else { " " };
        format!("{kind}{space}{name} of {of}: {definition}")
    }
}

/// A range of a table's rows by key: `lower < key <= upper` in the server's own order; a bound that is `None` is
/// open. The bounds are opaque text that only the reader that made them understands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Chunk {
    /// Table.
    pub table: TableName,
    /// Number within the table's plan, from 0.
    pub number: u32,
    /// Exclusive lower bound.
    pub lower: Option<String>,
    /// Inclusive upper bound.
    pub upper: Option<String>,
}

/// A consistent view of the source that several readers share, and its bounds (ALGORITHMS 2).
pub struct View {
    /// F_low: every commit at or before it is visible to every reader of this view.
    pub low: Position,
    /// F_high: every commit that any reader of this view can see is at or before it.
    pub high: Position,
    /// The catalogue as of this view.
    pub tables: Vec<TableInfo>,
    /// Things of the selected schemas that are not carried over (views, routines, ...), one line each.
    pub not_carried: Vec<String>,
    /// One reader for each connection asked for.
    pub readers: Vec<Box<dyn ChunkReader>>,
}

/// Opens views of a source's existing rows.
///
/// Guarantees: `View::low` and `View::high` are bounds in the sense above whatever the server is doing
/// (stalled replicas and group commit included); the catalogue is the one of the view; a table that cannot be
/// read under these bounds is refused by name ([`crate::ErrorKind::Unsupported`]).
#[async_trait]
pub trait TableReader: Send {
    /// The catalogue of the selected tables now, without a view: for checks and plans.
    async fn tables(&mut self, selection: &dyn Selects) -> Result<Vec<TableInfo>>;

    /// Whether the two bounds of every view are one place, so that a chunk holds exactly what was committed up to it.
    fn views_are_exact(&self) -> bool;

    /// Opens a view shared by `readers` connections.
    async fn view(&mut self, selection: &dyn Selects, readers: usize) -> Result<View>;
}

/// Whole rows in the bulk format of a dialect, without what stands around them there. For PostgreSQL: rows of a binary
/// COPY (manual, "COPY, File Formats, Binary Format"), columns in the schema's order.
#[derive(Default)]
pub struct NativeRows {
    /// The rows, one after the other.
    pub bytes: Vec<u8>,
    /// How many.
    pub rows: u64,
}

impl fmt::Debug for NativeRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NativeRows({})", self.rows)
    }
}

/// Reads chunks under one view. One at a time.
#[async_trait]
pub trait ChunkReader: Send {
    /// Splits a table into chunks of about `rows` rows, bounds computed by the server. A table without a usable
    /// key is one chunk, or has chunks that hold under this view only. Every row of the view lies in exactly one of them.
    async fn plan(&mut self, table: &TableInfo, rows: u64) -> Result<Vec<Chunk>>;

    /// Begins reading a chunk.
    async fn open(&mut self, table: &TableInfo, chunk: &Chunk) -> Result<()>;

    /// Appends rows of the open chunk to `batch` as inserts (no transaction events), until about `bytes_target`
    /// bytes; `false` once the chunk is at its end. The cells are the same bytes that the stream would write for
    /// the same values.
    async fn read(&mut self, batch: &mut BatchBuilder, bytes_target: usize) -> Result<bool>;

    /// Whether [`ChunkReader::read_native`] may be used instead of [`ChunkReader::read`] for the table whose chunk is
    /// open: its rows come in the bulk format of their dialect, and need nothing of what decoding them would do.
    fn is_native(&self) -> bool {
        false
    }

    /// As [`ChunkReader::read`], in native form. A chunk is read in one of the two forms only.
    async fn read_native(&mut self, _rows: &mut NativeRows, _bytes_target: usize) -> Result<bool> {
        Err(Error::internal("This reader has no native form of rows"))
    }
}
