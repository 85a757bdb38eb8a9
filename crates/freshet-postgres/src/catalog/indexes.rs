//! The indexes of the selected tables: described column by column where core has the words, and whole in the server's own.
//!
//! An index behind a constraint is made as that constraint. What stands between the name of the table and the end of the
//! server's text is taken as it is; nothing of it is parsed.

use super::keys::TableKey;
use super::tables::query;
use freshet_core::error::Result;
use freshet_core::schema::TableName;
use freshet_core::table::{IndexInfo, IndexPart, Object, ObjectKind, Piece};
use std::collections::{BTreeMap, HashMap};
use tokio_postgres::Client;

/// An index as the catalogue has it.
#[derive(Debug)]
pub(super) struct IndexRow {
    oid: u32,
    name: String,
    method: String,
    is_unique: bool,
    is_valid: bool,
    is_exclusion: bool,
    is_partial: bool,
    is_immediate: bool,
    definition: String,
    /// What follows `USING`, method first.
    method_and_rest: Option<String>,
    /// The constraint that it is behind.
    constraint: Option<String>,
    /// Column number (0 for an expression) and options of each part.
    parts: Vec<(i16, i16)>,
}

/// The indexes of these tables, by the table's number.
pub(super) async fn read(client: &Client, tables: &[u32]) -> Result<HashMap<u32, Vec<IndexRow>>> {
    const SQL: &str = "select i.indrelid, i.indexrelid, c.relname::text, m.amname::text, i.indisunique, i.indisvalid, \
           i.indisexclusion, i.indpred is not null, i.indimmediate, d.text, \
           case when pg_catalog.starts_with(d.text, d.head) then pg_catalog.substr(d.text, pg_catalog.length(d.head) + 1) end, \
           pg_catalog.pg_get_constraintdef(k.oid), \
           (i.indkey::int2[])[0:i.indnkeyatts - 1], (i.indoption::int2[])[0:i.indnkeyatts - 1] \
         from pg_catalog.pg_index i join pg_catalog.pg_class c on c.oid = i.indexrelid \
         join pg_catalog.pg_class t on t.oid = i.indrelid join pg_catalog.pg_am m on m.oid = c.relam \
         left join pg_catalog.pg_constraint k on k.conindid = i.indexrelid and k.conrelid = i.indrelid \
           and k.contype in ('p', 'u', 'x') \
         cross join lateral (select pg_catalog.pg_get_indexdef(i.indexrelid) as text, \
           pg_catalog.concat('CREATE ', case when i.indisunique then 'UNIQUE ' end, 'INDEX ', \
             pg_catalog.quote_ident(c.relname), ' ON ', case t.relkind when 'p' then 'ONLY ' end, \
             i.indrelid::pg_catalog.regclass, ' USING ') as head) d \
         where i.indrelid = any($1) order by i.indrelid, c.relname collate \"C\"";
    let mut indexes: HashMap<u32, Vec<IndexRow>> = HashMap::new();
    for row in query(client, SQL, &[&tables]).await? {
        let (numbers, options): (Vec<i16>, Vec<i16>) = (row.get(12), row.get(13));
        indexes.entry(row.get(0)).or_default().push(IndexRow {
            oid: row.get(1),
            name: row.get(2),
            method: row.get(3),
            is_unique: row.get(4),
            is_valid: row.get(5),
            is_exclusion: row.get(6),
            is_partial: row.get(7),
            is_immediate: row.get(8),
            definition: row.get(9),
            method_and_rest: row.get(10),
            constraint: row.get(11),
            parts: numbers.into_iter().zip(options).collect(),
        });
    }
    Ok(indexes)
}

/// What becomes of a table's indexes.
#[derive(Debug, Default)]
pub(super) struct Indexes {
    /// Those over columns that mean the same elsewhere, but for the key's.
    pub(super) indexes: Vec<IndexInfo>,
    /// All of them.
    pub(super) objects: Vec<Object>,
    /// A line for each that the source does not use itself.
    pub(super) invalid: Vec<String>,
}

impl Indexes {
    /// Sorts a table's indexes; `places` are the numbers of the columns that the stream has.
    pub(super) fn new(
        rows: Vec<IndexRow>,
        table: &TableName,
        key: &TableKey,
        places: &BTreeMap<i16, u16>,
    ) -> Self {
        let mut all = Indexes::default();
        for index in rows {
            if !index.is_valid {
                all.invalid.push(format!("Invalid index: {}", index.definition));
                continue;
            }
            let is_key = key.index == Some(index.oid);
            match index.object(table, is_key) {
                Some(object) => all.objects.push(object),
                None => all.invalid.push(format!("Index {}: {}", index.name, index.definition)),
            }
            if !is_key && index.means_the_same(places) {
                all.indexes.push(index.described(places));
            }
        }
        all
    }
}

impl IndexRow {
    /// Whether an index over the same columns, of this method and unique or not, is all there is to it.
    fn means_the_same(&self, places: &BTreeMap<i16, u16>) -> bool {
        let is_there = |(number, _): &(i16, i16)| *number == 0 || places.contains_key(number);
        !self.is_exclusion && !self.is_partial && self.is_immediate && self.parts.iter().all(is_there)
    }

    fn described(self, places: &BTreeMap<i16, u16>) -> IndexInfo {
        const DESCENDING: i16 = 1;
        let part = |(number, option): &(i16, i16)| IndexPart {
            column: places.get(number).copied(),
            prefix: None,
            descending: option & DESCENDING != 0,
        };
        IndexInfo {
            parts: self.parts.iter().map(part).collect(),
            name: self.name,
            unique: self.is_unique,
            method: self.method,
        }
    }

    fn object(&self, table: &TableName, is_key: bool) -> Option<Object> {
        let words = |text: String| Piece::Words(text);
        let (name, own) = (Piece::Name, Piece::Table(table.clone()));
        let unique = if self.is_unique { "unique " } else { "" };
        let statement = match (&self.constraint, &self.method_and_rest) {
            (Some(constraint), _) => {
                let add = words(" add constraint ".to_owned());
                vec![words("alter table ".to_owned()), own, add, name, words(format!(" {constraint}"))]
            }
            (None, Some(rest)) => {
                let (create, on) = (format!("create {unique}index "), " on ".to_owned());
                vec![words(create), name, words(on), own, words(format!(" using {rest}"))]
            }
            (None, None) => return None,
        };
        let kind = match () {
            // A key that forbids overlaps cannot be what a conflict is looked for in.
            () if is_key && self.method == "btree" => ObjectKind::Key,
            () if self.is_exclusion => ObjectKind::Exclusion,
            () if self.is_unique => ObjectKind::Unique,
            () => ObjectKind::Index,
        };
        Some(Object {
            kind,
            name: self.name.clone(),
            deferrable: self.constraint.is_some() && !self.is_immediate,
            obstacle: None,
            definition: self.constraint.clone().unwrap_or_else(|| self.definition.clone()),
            statement,
        })
    }
}
