//! Tables, columns, indexes and foreign keys of one moment: what a view holds its lock for.
//!
//! The key is what the binlog calls the primary key: where there is none, both servers take the first unique index
//! of whole columns that are never NULL in its place (R8).
//!
//! A handful of queries a database, none of a table's rows. Names are compared by us, exactly: MariaDB compares
//! them in `information_schema` without case.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use freshet_core::error::Result;
use freshet_core::schema::{TableName, TableSchema};
use freshet_core::source::Selects;
use freshet_core::table::{ColumnInfo, Dialect, IndexInfo, IndexPart, Printed, TableInfo};

use super::columns::{self, Parsed};
use super::keys::{ForeignKey, are_cascades_logged};
use super::{Refusal, Refused, number, selected_schemas, sql_name, sql_string, text};
use super::{labels, printed};
use crate::server::{Flavour, ServerFacts};
use crate::wire::{Connection, Row};

const PRIMARY: &str = "PRIMARY";

/// The definition of the selected tables.
#[derive(Clone, Debug, Default)]
pub(crate) struct Definition {
    pub(crate) tables: Vec<TableInfo>,
    pub(crate) refused: Vec<Refused>,
    pub(crate) foreign_keys: Vec<ForeignKey>,
}

/// Reads it.
pub(crate) async fn read_definition(
    connection: &mut Connection,
    facts: &ServerFacts,
    selection: &dyn Selects,
) -> Result<Definition> {
    let mut definition = Definition::default();
    for schema in selected_schemas(connection, selection).await? {
        read_schema(connection, facts, &schema, selection, &mut definition).await?;
    }
    Ok(definition)
}

/// The definition of one table; `None` if there is none of that name.
pub(crate) async fn read_one(
    connection: &mut Connection,
    facts: &ServerFacts,
    table: &TableName,
) -> Result<Option<TableInfo>> {
    struct One<'a>(&'a TableName);
    impl Selects for One<'_> {
        fn selects(&self, table: &TableName) -> bool {
            table == self.0
        }

        fn selects_schema(&self, schema: &str) -> bool {
            schema == self.0.schema
        }
    }
    let mut definition = Definition::default();
    let found =
        Found::read(connection, facts.flavour, &table.schema, Some(&table.table), &One(table)).await?;
    for (name, found) in found {
        found.add_to(TableName::new(&table.schema, name), &mut definition)?;
    }
    Ok(definition.tables.pop())
}

async fn read_schema(
    connection: &mut Connection,
    facts: &ServerFacts,
    schema: &str,
    selection: &dyn Selects,
    definition: &mut Definition,
) -> Result<()> {
    let found = Found::read(connection, facts.flavour, schema, None, selection).await?;
    if found.is_empty() {
        return Ok(());
    }
    let first = definition.tables.len();
    let mut options = HashMap::new();
    for (name, found) in found {
        options.insert(name.clone(), (found.collation.clone(), found.options()));
        found.add_to(TableName::new(schema, name), definition)?;
    }
    for info in definition.tables.iter_mut().skip(first) {
        let (collation, options) = options.remove(&info.name().table).unwrap_or_default();
        let is_mariadb = facts.flavour == Flavour::Mariadb;
        let outer = Printed { is_mariadb, collation, options, ..Printed::default() };
        let keys = printed::read(connection, info, outer).await?;
        for key in &keys {
            if !key.actions.is_empty() && !are_cascades_logged(facts) {
                let why = Refusal::Cascade { constraint: key.name.clone(), rule: key.actions.clone() };
                definition.refused.push(Refused { table: key.table.clone(), why });
            }
        }
        definition.foreign_keys.extend(keys);
    }
    Ok(())
}

/// One selected table while its rows of the catalogue are gathered.
#[derive(Default)]
struct Found {
    table_type: String,
    engine: String,
    rows_estimate: u64,
    next_value: Option<u64>,
    collation: Option<String>,
    comment: String,
    create_options: String,
    columns: Vec<Parsed>,
    indexes: Vec<(IndexRow, Vec<PartRow>)>,
}

struct IndexRow {
    name: String,
    unique: bool,
    method: String,
}

struct PartRow {
    column: Option<String>,
    prefix: Option<u32>,
    descending: bool,
}

impl Found {
    async fn read(
        connection: &mut Connection,
        flavour: Flavour,
        schema: &str,
        only: Option<&str>,
        selection: &dyn Selects,
    ) -> Result<BTreeMap<String, Found>> {
        // A name spares the server a look into every table of the database.
        let only = only.map(|table| format!(" AND TABLE_NAME = {}", sql_string(table))).unwrap_or_default();
        let is_it = format!("TABLE_SCHEMA = {}{only}", sql_string(schema));
        let mut found = BTreeMap::new();
        let tables = format!(
            "SELECT TABLE_NAME, TABLE_TYPE, ENGINE, TABLE_ROWS, AUTO_INCREMENT, TABLE_COLLATION, TABLE_COMMENT, \
             CREATE_OPTIONS FROM information_schema.TABLES WHERE {is_it}"
        );
        for row in &connection.query(&tables).await? {
            let table = text(row, 0)?;
            let is_table = matches!(text(row, 1)?, "BASE TABLE" | "SYSTEM VERSIONED");
            if is_table && selection.selects(&TableName::new(schema, table)) {
                found.insert(table.to_owned(), Found::new(row));
            }
        }
        if found.is_empty() {
            return Ok(found);
        }
        let columns =
            format!("{} WHERE {is_it} ORDER BY TABLE_NAME, ORDINAL_POSITION", columns::select(flavour));
        for row in &connection.query(&columns).await? {
            if let Some(found) = found.get_mut(text(row, 0)?) {
                found.columns.push(columns::parse(row, flavour));
            }
        }
        let expression = match flavour {
            Flavour::Mysql => "EXPRESSION",
            Flavour::Mariadb => "NULL",
        };
        let indexes = format!(
            "SELECT TABLE_NAME, INDEX_NAME, NON_UNIQUE, COLUMN_NAME, SUB_PART, COLLATION, INDEX_TYPE, {expression} \
             FROM information_schema.STATISTICS WHERE {is_it} \
             ORDER BY TABLE_NAME, INDEX_NAME, SEQ_IN_INDEX"
        );
        for row in &connection.query(&indexes).await? {
            if let Some(found) = found.get_mut(text(row, 0)?) {
                found.add_index_part(row)?;
            }
        }
        for (table, found) in &mut found {
            labels::restore(connection, &TableName::new(schema, table), &mut found.columns).await?;
            if found.promoted().count() > 1 {
                found.sort_indexes(connection, &TableName::new(schema, table)).await?;
            }
        }
        Ok(found)
    }

    /// The unique indexes that can stand for a primary key, where there is none (R8): whole columns, never NULL.
    fn promoted(&self) -> impl Iterator<Item = &(IndexRow, Vec<PartRow>)> {
        let has_primary = self.indexes.iter().any(|(index, _)| index.name == PRIMARY);
        let never_null = |part: &PartRow| {
            let is_it = |parsed: &&Parsed| Some(&parsed.name) == part.column.as_ref();
            let column = self.columns.iter().find(is_it).and_then(|parsed| parsed.column.as_ref().ok());
            part.prefix.is_none() && column.is_some_and(|column| !column.nullable)
        };
        let stands = move |(index, parts): &&(IndexRow, Vec<PartRow>)| {
            !has_primary && index.unique && index.method == "btree" && parts.iter().all(never_null)
        };
        self.indexes.iter().filter(stands)
    }

    /// Puts the indexes into the server's own order, in which the first that can stands for the primary key.
    async fn sort_indexes(&mut self, connection: &mut Connection, table: &TableName) -> Result<()> {
        let rows = connection.query(&format!("SHOW INDEX FROM {}", sql_name(table))).await?;
        let names: Vec<&str> = rows.rows().iter().filter_map(|row| row.text(2)).collect();
        let place = |index: &IndexRow| names.iter().position(|name| *name == index.name);
        self.indexes.sort_by_key(|(index, _)| place(index).unwrap_or(usize::MAX));
        Ok(())
    }

    fn new(row: &Row) -> Self {
        Found {
            table_type: row.text(1).unwrap_or("").to_owned(),
            engine: row.text(2).unwrap_or("").to_owned(),
            rows_estimate: number(row, 3),
            next_value: row.text(4).and_then(|text| text.parse().ok()),
            collation: row.text(5).map(str::to_owned),
            comment: row.text(6).unwrap_or("").to_owned(),
            create_options: row.text(7).unwrap_or("").to_owned(),
            columns: Vec::new(),
            indexes: Vec::new(),
        }
    }

    /// What a table is declared with beside its collation: form of its rows, comment.
    fn options(&self) -> String {
        let mut options = vec!["engine = InnoDB".to_owned()];
        let kept = self.create_options.split(' ').filter_map(|option| option.split_once('='));
        let is_kept =
            |name: &str| matches!(name.to_ascii_lowercase().as_str(), "row_format" | "key_block_size");
        let is_word = |value: &str| !value.is_empty() && value.bytes().all(|b| b.is_ascii_alphanumeric());
        options.extend(
            kept.filter(|(name, value)| is_kept(name) && is_word(value))
                .map(|(name, value)| format!("{name} = {value}")),
        );
        if !self.comment.is_empty() {
            options.push(format!("comment = {}", sql_string(&self.comment)));
        }
        options.join(" ")
    }

    fn add_index_part(&mut self, row: &Row) -> Result<()> {
        let name = text(row, 1)?;
        if self.indexes.last().is_none_or(|(index, _)| index.name != name) {
            let index = IndexRow {
                name: name.to_owned(),
                unique: number(row, 2) == 0,
                method: text(row, 6)?.to_ascii_lowercase(),
            };
            self.indexes.push((index, Vec::new()));
        }
        let part = PartRow {
            column: row.text(3).map(str::to_owned),
            prefix: row.text(4).and_then(|text| text.parse().ok()),
            descending: row.text(5) == Some("D"),
        };
        if let Some((_, parts)) = self.indexes.last_mut() {
            parts.push(part);
        }
        Ok(())
    }

    /// Turns what was gathered into a table, and what cannot be captured into refusals.
    fn add_to(self, name: TableName, definition: &mut Definition) -> Result<()> {
        let mut refuse = |why| definition.refused.push(Refused { table: name.clone(), why });
        if self.table_type == "SYSTEM VERSIONED" {
            refuse(Refusal::SystemVersioned);
        }
        if !self.engine.eq_ignore_ascii_case("InnoDB") {
            let engine = if self.engine.is_empty() { "unknown" } else { &self.engine };
            refuse(Refusal::Engine(engine.to_owned()));
        }
        for (index, _) in self.indexes.iter().filter(|(index, _)| index.unique && index.method == "hash") {
            refuse(Refusal::HiddenColumn { index: index.name.clone() });
        }
        let promoted = self.promoted().next().map(|(_, parts)| names_of(parts)).unwrap_or_default();
        let (mut columns, mut infos): (Vec<_>, Vec<ColumnInfo>) = (Vec::new(), Vec::new());
        let mut unknown = false;
        for parsed in self.columns {
            infos.push(parsed.info);
            match parsed.column {
                Ok(column) => columns.push(column),
                Err(why) => {
                    unknown = true;
                    refuse(why);
                }
            }
        }
        if unknown {
            return Ok(());
        }
        let places: HashMap<String, u16> =
            columns.iter().zip(0..).map(|(column, at)| (column.name.clone(), at)).collect();
        let (primary, mut others): (Vec<_>, Vec<_>) =
            self.indexes.into_iter().partition(|(index, _)| index.name == PRIMARY);
        others.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
        let key = primary.first().map_or(promoted, |(_, parts)| names_of(parts));
        let key = key.iter().filter_map(|name| places.get(name)).copied().collect();
        let schema = TableSchema::new(name, columns, key)?;
        definition.tables.push(TableInfo {
            schema: Arc::new(schema),
            dialect: Dialect::Mysql,
            columns: infos,
            indexes: others.into_iter().map(|(index, parts)| index_info(index, &parts, &places)).collect(),
            next_value: self.next_value,
            rows_estimate: self.rows_estimate,
            native: Default::default(),
            not_carried: Vec::new(),
        });
        Ok(())
    }
}

fn names_of(parts: &[PartRow]) -> Vec<String> {
    parts.iter().filter_map(|part| part.column.clone()).collect()
}

fn place(places: &HashMap<String, u16>, part: &PartRow) -> Option<u16> {
    part.column.as_ref().and_then(|name| places.get(name)).copied()
}

fn index_info(index: IndexRow, parts: &[PartRow], places: &HashMap<String, u16>) -> IndexInfo {
    let parts = parts
        .iter()
        .map(|part| IndexPart {
            column: place(places, part),
            prefix: part.prefix,
            descending: part.descending,
        })
        .collect();
    IndexInfo { name: index.name, unique: index.unique, method: index.method, parts }
}
