//! The key of a table, by its replica identity: what the stream's updates and deletes can be found by (R3).
//!
//! DEFAULT and FULL: the primary key. USING INDEX: that index. NOTHING: the primary key, though the server then
//! refuses updates and deletes of a published table. An index that is checked only at commit identifies no row, to
//! the server neither.

use crate::error::{Scope, statement_error};
use freshet_core::error::Result;
use std::collections::HashMap;
use tokio_postgres::Client;

/// Which old row image the server logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    /// The primary key.
    Default,
    /// The columns of a unique index.
    Index,
    /// Every column.
    Full,
    /// None.
    Nothing,
}

/// A table's replica identity and key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TableKey {
    pub(crate) identity: Identity,
    /// The index that the key's columns are taken from.
    pub(crate) index: Option<u32>,
    /// Names of the key's columns in the index's order; empty for none.
    pub(crate) columns: Vec<String>,
}

impl TableKey {
    /// Whether updates and deletes can be published: the server refuses them otherwise.
    pub(crate) fn is_updatable(&self) -> bool {
        match self.identity {
            Identity::Default | Identity::Index => !self.columns.is_empty(),
            Identity::Full => true,
            Identity::Nothing => false,
        }
    }

    /// Whether old rows that are told by it can be found by the key of `whole`, a table that it is part of.
    pub(crate) fn tells_key_of(&self, whole: &TableKey) -> bool {
        let holds = |of: &TableKey, name: &String| of.columns.contains(name);
        let is_same = self.columns.iter().all(|name| holds(whole, name))
            && whole.columns.iter().all(|name| holds(self, name));
        self.is_updatable() && (self.identity == Identity::Full || is_same)
    }
}

/// The keys of these tables, by number. A table that is not there is left out.
pub(crate) async fn relation_keys(client: &Client, tables: &[u32]) -> Result<HashMap<u32, TableKey>> {
    const SQL: &str = "select c.oid, c.relreplident, i.indexrelid, \
         coalesce(array_agg(a.attname order by k.place) filter (where a.attnum is not null), '{}')::text[] \
         from pg_catalog.pg_class c \
         left join pg_catalog.pg_index i on i.indrelid = c.oid and i.indisvalid and i.indimmediate \
           and case c.relreplident when 'i' then i.indisreplident else i.indisprimary end \
         left join lateral unnest(i.indkey::int2[]) with ordinality as k(attnum, place) on k.place <= i.indnkeyatts \
         left join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum = k.attnum \
         where c.oid = any($1) group by c.oid, c.relreplident, i.indexrelid";
    let rows = client.query(SQL, &[&tables]).await;
    let rows = rows.map_err(|error| {
        statement_error(&Scope::Session, "Reading the source's replica identities", &error)
    })?;
    let key = |row: &tokio_postgres::Row| TableKey {
        identity: match u8::try_from(row.get::<_, i8>(1)) {
            Ok(b'i') => Identity::Index,
            Ok(b'f') => Identity::Full,
            Ok(b'n') => Identity::Nothing,
            _ => Identity::Default,
        },
        index: row.get(2),
        columns: row.get(3),
    };
    Ok(rows.iter().map(|row| (row.get(0), key(row))).collect())
}
