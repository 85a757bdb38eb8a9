//! The selected tables as `pg_catalog` describes them: columns, keys, indexes, and what is not carried over.
//!
//! Ordinary and partitioned tables. A partition is part of its root, as `publish_via_partition_root` has it (R24);
//! a table that inherits otherwise is one of its own (R26). What the WAL does not have is refused by name (R23).
//! System schemas, temporary tables and the schemas that the caller names are never selected.

use super::constraints;
use super::indexes::{self, IndexRow, Indexes};
use super::keys::{TableKey, relation_keys};
use super::notes::{self, Notes};
use super::sequences::{SequenceRow, Sequences};
use super::types::TypeCatalog;
use super::user_types::UserTypes;
use crate::error::{Scope, statement_error};
use freshet_core::error::{Error, Result};
use freshet_core::schema::{Column, TableName, TableSchema};
use freshet_core::source::Selects;
use freshet_core::table::{
    ColumnInfo, Dialect, GeneratedColumn, Native, Object, SequenceInfo, SequenceRole, TableInfo,
};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};

/// The selected tables, and what stands beside them in their schemas.
#[derive(Debug, Default)]
pub(crate) struct Catalogue {
    /// Ordered by name.
    pub(crate) tables: Vec<TableInfo>,
    /// One line each.
    pub(crate) not_carried: Vec<String>,
}

/// Reads it in the client's transaction; a table that cannot be captured is an error that names it.
pub(crate) async fn read_catalogue(
    client: &Client,
    selection: &dyn Selects,
    schemas_left_out: &[String],
) -> Result<Catalogue> {
    let relations = relations(client, selection, schemas_left_out).await?;
    let oids: Vec<u32> = relations.iter().map(|relation| relation.oid).collect();
    let mut parts = Parts {
        columns: columns(client, &oids).await?,
        indexes: indexes::read(client, &oids).await?,
        constraints: constraints::read(client, &oids).await?,
        keys: relation_keys(client, &oids).await?,
        sequences: Sequences::read(client, &oids).await?,
        partitions: partitions(client, &oids).await?,
        notes: notes::of_tables(client, &oids).await?,
        user_types: UserTypes::read(client, &oids).await?,
        types: TypeCatalog::default(),
    };
    let types: Vec<u32> = parts.columns.values().flatten().map(|column| column.type_oid).collect();
    parts.types.resolve(client, &types).await?;
    let mut tables = relations.iter().map(|relation| parts.table(relation)).collect::<Result<Vec<_>>>()?;
    parts.sequences.add_rest(&mut tables);
    let mut schemas: Vec<String> = tables.iter().map(|table| table.name().schema.clone()).collect();
    schemas.dedup();
    let mut not_carried = notes::of_schemas(client, &schemas, &parts.user_types.numbers()).await?;
    not_carried.extend(notes::partitions_without_root(client, &oids, selection).await?);
    Ok(Catalogue { tables, not_carried })
}

/// The selected tables' numbers and names, and nothing of what they are: printing a default takes a lock on its table
/// since PostgreSQL 17, and is slow for wide ones.
pub(crate) async fn selected_tables(
    client: &Client,
    selection: &dyn Selects,
    schemas_left_out: &[String],
) -> Result<Vec<Selected>> {
    let selected = relations(client, selection, schemas_left_out).await?;
    let plain = |relation: Relation| Selected {
        oid: relation.oid,
        name: relation.name,
        is_partitioned: relation.is_partitioned,
    };
    Ok(selected.into_iter().map(plain).collect())
}

/// Rows of one statement.
pub(crate) async fn query(
    client: &Client,
    sql: &str,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<Vec<Row>> {
    let rows = client.query(sql, parameters).await;
    rows.map_err(|error| statement_error(&Scope::Session, "Reading the source's catalogue", &error))
}

/// A selected table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Selected {
    pub(crate) oid: u32,
    pub(crate) name: TableName,
    pub(crate) is_partitioned: bool,
}

struct Relation {
    oid: u32,
    name: TableName,
    is_partitioned: bool,
    rows: f32,
}

async fn relations(
    client: &Client,
    selection: &dyn Selects,
    schemas_left_out: &[String],
) -> Result<Vec<Relation>> {
    const SQL: &str = "select c.oid, n.nspname::text, c.relname::text, c.relkind = 'p', c.relpersistence = 'u', c.reltuples \
         from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
         where c.relkind in ('r', 'p') and not c.relispartition and c.relpersistence <> 't' \
           and n.nspname !~ '^pg_' and n.nspname <> 'information_schema' and n.nspname <> all($1) \
         order by n.nspname collate \"C\", c.relname collate \"C\"";
    let mut relations = Vec::new();
    for row in query(client, SQL, &[&schemas_left_out]).await? {
        let name = TableName::new(row.get::<_, &str>(1), row.get::<_, &str>(2));
        if !selection.selects(&name) {
            continue;
        }
        if row.get(4) {
            return Err(Error::unsupported(format!(
                "Table {name} is unlogged: its changes are not in the WAL"
            ))
            .with_hint("ALTER TABLE ... SET LOGGED, or exclude the table"));
        }
        relations.push(Relation { oid: row.get(0), name, is_partitioned: row.get(3), rows: row.get(5) });
    }
    Ok(relations)
}

struct ColumnRow {
    number: i16,
    name: String,
    type_oid: u32,
    modifier: i32,
    info: ColumnInfo,
    /// Whether the default takes a value of a sequence, or the column is an identity.
    is_numbered: bool,
    /// Generated, and not kept.
    is_virtual: bool,
}

impl ColumnRow {
    /// A generated column, at its place among those that the stream has.
    fn before(self, columns: &[ColumnRow]) -> GeneratedColumn {
        let before = columns.iter().filter(|column| column.number < self.number).count();
        GeneratedColumn {
            name: self.name,
            before: u16::try_from(before).unwrap_or(u16::MAX),
            is_virtual: self.is_virtual,
            info: self.info,
        }
    }
}

async fn columns(client: &Client, tables: &[u32]) -> Result<HashMap<u32, Vec<ColumnRow>>> {
    const SQL: &str = "select a.attrelid, a.attnum, a.attname::text, a.atttypid, a.atttypmod, \
           a.attnotnull and not exists (select from pg_catalog.pg_constraint nn where nn.conrelid = a.attrelid \
             and nn.contype = 'n' and not nn.convalidated and nn.conkey = array[a.attnum]), \
           a.attgenerated <> '', a.attidentity <> '', pg_catalog.format_type(a.atttypid, a.atttypmod), \
           pg_catalog.pg_get_expr(d.adbin, d.adrelid), \
           case when a.attcollation <> t.typcollation then \
             case when cn.nspname = 'pg_catalog' then '' else pg_catalog.quote_ident(cn.nspname) || '.' end \
             || pg_catalog.quote_ident(co.collname) end, \
           pg_catalog.col_description(a.attrelid, a.attnum), \
           d.adbin is not null and pg_catalog.pg_get_expr(d.adbin, d.adrelid) like 'nextval(%', \
           a.attgenerated = 'v' \
         from pg_catalog.pg_attribute a join pg_catalog.pg_type t on t.oid = a.atttypid \
         left join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum \
         left join pg_catalog.pg_collation co on co.oid = a.attcollation \
         left join pg_catalog.pg_namespace cn on cn.oid = co.collnamespace \
         where a.attrelid = any($1) and a.attnum > 0 and not a.attisdropped order by a.attrelid, a.attnum";
    let mut columns: HashMap<u32, Vec<ColumnRow>> = HashMap::new();
    for row in query(client, SQL, &[&tables]).await? {
        let info = ColumnInfo {
            native_type: row.get(8),
            not_null: row.get(5),
            default: row.get(9),
            auto_increment: false,
            generated: row.get(6),
            collation: row.get(10),
            comment: row.get::<_, Option<String>>(11).unwrap_or_default(),
            ..ColumnInfo::default()
        };
        let is_numbered = row.get::<_, bool>(7) || row.get::<_, bool>(12);
        let (number, name, type_oid, modifier) = (row.get(1), row.get(2), row.get(3), row.get(4));
        columns.entry(row.get(0)).or_default().push(ColumnRow {
            number,
            name,
            type_oid,
            modifier,
            info,
            is_numbered,
            is_virtual: row.get(13),
        });
    }
    Ok(columns)
}

struct Partition {
    name: TableName,
    kind: u8,
    is_unlogged: bool,
    rows: f32,
}

/// All partitions under the roots, inner ones included.
async fn partitions(client: &Client, roots: &[u32]) -> Result<HashMap<u32, Vec<Partition>>> {
    const SQL: &str = "with recursive tree(root, oid) as ( \
           select i.inhparent, i.inhrelid from pg_catalog.pg_inherits i \
             join pg_catalog.pg_class c on c.oid = i.inhrelid and c.relispartition where i.inhparent = any($1) \
           union all select tree.root, i.inhrelid from tree join pg_catalog.pg_inherits i on i.inhparent = tree.oid \
             join pg_catalog.pg_class c on c.oid = i.inhrelid and c.relispartition) \
         select tree.root, n.nspname::text, c.relname::text, c.relkind, c.relpersistence = 'u', \
           c.reltuples \
         from tree join pg_catalog.pg_class c on c.oid = tree.oid \
         join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
         order by 1, 2, 3";
    let mut partitions: HashMap<u32, Vec<Partition>> = HashMap::new();
    for row in query(client, SQL, &[&roots]).await? {
        partitions.entry(row.get(0)).or_default().push(Partition {
            name: TableName::new(row.get::<_, &str>(1), row.get::<_, &str>(2)),
            kind: row.get::<_, i8>(3) as u8,
            is_unlogged: row.get(4),
            rows: row.get(5),
        });
    }
    Ok(partitions)
}

/// What was read of all tables, by the table's number.
struct Parts {
    columns: HashMap<u32, Vec<ColumnRow>>,
    indexes: HashMap<u32, Vec<IndexRow>>,
    constraints: HashMap<u32, Vec<Object>>,
    keys: HashMap<u32, TableKey>,
    sequences: Sequences,
    partitions: HashMap<u32, Vec<Partition>>,
    notes: Notes,
    user_types: UserTypes,
    types: TypeCatalog,
}

impl Parts {
    fn table(&mut self, relation: &Relation) -> Result<TableInfo> {
        let (name, oid) = (&relation.name, relation.oid);
        let mut not_carried = Vec::new();
        let partitions = self.partitions.remove(&oid).unwrap_or_default();
        check_partitions(name, &partitions)?;
        let leaves =
            partitions.iter().filter(|partition| partition.kind == b'r').map(|partition| partition.rows);
        let own = (!relation.is_partitioned).then_some(relation.rows);
        let rows: f32 = leaves.chain(own).filter(|rows| *rows > 0.0).sum();
        let key = self.keys.remove(&oid).ok_or_else(|| gone(name))?;
        let (generated, mut columns): (Vec<_>, Vec<_>) = self
            .columns
            .remove(&oid)
            .unwrap_or_default()
            .into_iter()
            .partition(|column| column.info.generated);
        refuse_generated_key(name, &generated, &key)?;
        if !key.is_updatable() {
            not_carried.push(
                "Updates and deletes: the table has no replica identity, so the server refuses them once it is \
                 published"
                    .to_owned(),
            );
        }
        let (sequences, next_value) = self.number(oid, &mut columns, &mut not_carried);
        let generated = generated.into_iter().map(|column| column.before(&columns)).collect();
        let schema = self.schema(name, &columns, &key)?;
        let places: BTreeMap<i16, u16> = columns.iter().map(|column| column.number).zip(0..).collect();
        let of_table = Indexes::new(self.indexes.remove(&oid).unwrap_or_default(), name, &key, &places);
        let Indexes { indexes, mut objects, invalid } = of_table;
        not_carried.extend(invalid);
        objects.extend(self.constraints.remove(&oid).unwrap_or_default());
        not_carried.extend(self.notes.take(oid));
        if relation.is_partitioned {
            not_carried.push(format!("Partitioning ({})", partitions.len()));
        }
        Ok(TableInfo {
            schema: Arc::new(schema),
            dialect: Dialect::Postgres,
            columns: columns.into_iter().map(|column| column.info).collect(),
            indexes,
            next_value,
            rows_estimate: rows as u64,
            native: Native {
                printed: None,
                objects,
                sequences,
                generated,
                types: self.user_types.of_table(oid),
            },
            not_carried,
        })
    }

    /// The sequences of a table, and the next number of the first column that has one of its own. Marks such columns.
    fn number(
        &mut self,
        oid: u32,
        columns: &mut [ColumnRow],
        not_carried: &mut Vec<String>,
    ) -> (Vec<SequenceInfo>, Option<u64>) {
        let of_table = self.sequences.of_table(oid);
        not_carried.extend(of_table.iter().filter_map(|sequence| sequence.unknown()));
        let mut next = None;
        for column in columns.iter_mut().filter(|column| column.is_numbered) {
            let own = |s: &&SequenceRow| s.column == column.number && s.info.role != SequenceRole::Free;
            let Some(sequence) = of_table.iter().find(own) else { continue };
            column.info.auto_increment = true;
            next = next.or(sequence.next);
        }
        let place = |number: i16| columns.iter().position(|column| column.number == number);
        let placed = of_table.into_iter().map(|row| row.at(place)).collect();
        (placed, next)
    }

    fn schema(&self, name: &TableName, columns: &[ColumnRow], key: &TableKey) -> Result<TableSchema> {
        let column = |column: &ColumnRow| {
            let data_type = self.types.data_type(column.type_oid, column.modifier).ok_or_else(|| {
                Error::unsupported(format!(
                    "Column {} of table {name} has type {}, which the catalogue does not describe",
                    column.name, column.info.native_type
                ))
            })?;
            let nullable = !key.columns.contains(&column.name);
            Ok(Column { name: column.name.clone(), data_type, nullable })
        };
        let place = |name: &String| columns.iter().position(|c| c.name == *name).map(|at| at as u16);
        let places: Option<Vec<u16>> = key.columns.iter().map(place).collect();
        let places = places.ok_or_else(|| gone(name))?;
        TableSchema::new(name.clone(), columns.iter().map(column).collect::<Result<_>>()?, places)
    }
}

fn gone(name: &TableName) -> Error {
    Error::unavailable(format!("The definition of table {name} changed while the catalogue was read"))
}

/// Changes of a table are found by its key, and the stream would have it in part only.
fn refuse_generated_key(name: &TableName, generated: &[ColumnRow], key: &TableKey) -> Result<()> {
    match generated.iter().find(|column| key.columns.contains(&column.name)) {
        None => Ok(()),
        Some(column) => Err(Error::unsupported(format!(
            "The key of table {name} holds the generated column {}, which the server does not publish",
            column.name
        ))
        .with_hint("Set REPLICA IDENTITY USING INDEX with an index without it, or exclude the table")),
    }
}

fn check_partitions(root: &TableName, partitions: &[Partition]) -> Result<()> {
    for partition in partitions {
        let name = &partition.name;
        let why = match (partition.kind, partition.is_unlogged) {
            (b'f', _) => "a foreign table",
            (_, true) => "unlogged",
            _ => continue,
        };
        return Err(Error::unsupported(format!(
            "Partition {name} of table {root} is {why}: its changes are not in the WAL"
        ))
        .with_hint("Detach the partition, or exclude the table"));
    }
    Ok(())
}
