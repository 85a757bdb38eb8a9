//! What a relation message does not say of its table, asked of the catalogue.
//!
//! Invariant: a table is compared with what it was when the pipeline began before any row after the message is read.

use super::definition::{Definitions, Moment};
use super::slot::query;
use super::{Kept, WalSourceOptions, lock};
use crate::catalog::keys::{Identity, TableKey, relation_keys};
use crate::catalog::types::TypeCatalog;
use crate::decode::{Captured, Relation};
use freshet_core::source::Selects;
use freshet_core::{Column, Error, Result, TableName, TableSchema};
use std::sync::Arc;
use tokio_postgres::Client;

/// Looks up the relations of one session.
pub(super) struct LookUp {
    client: Client,
    options: WalSourceOptions,
    selects: Arc<dyn Selects>,
    definitions: Kept,
    types: TypeCatalog,
}

impl LookUp {
    pub(super) fn new(
        client: Client,
        options: WalSourceOptions,
        selects: Arc<dyn Selects>,
        definitions: Kept,
    ) -> Self {
        Self { client, options, selects, definitions, types: TypeCatalog::default() }
    }

    /// Completes a relation; `None` for one that is not captured, or whose changes come as another's: a partition is
    /// described beside its root.
    pub(super) async fn relation(&mut self, relation: &Relation) -> Result<Option<Captured>> {
        let before = Arc::clone(&*lock(&self.definitions));
        let name = TableName::new(relation.schema.as_str(), relation.name.as_str());
        if !before.holds(relation.oid) {
            return self.unknown(relation.oid, name).await;
        }
        let now = Definitions::read(&self.client, &self.options, &[relation.oid], false).await?;
        before.check(&now, Moment::InStream, &self.options)?;
        before.check_name(relation.oid, &name)?;
        before.check_new_leaves(&now, &self.client).await?;
        let oids: Vec<u32> = relation.columns.iter().map(|column| column.type_oid).collect();
        self.types.resolve(&self.client, &oids).await?;
        let keys = relation_keys(&self.client, &[relation.oid]).await?;
        captured(relation, keys.get(&relation.oid), &self.types).map(Some)
    }

    /// A relation that was not there when the pipeline began: somebody else's publication may hold more than is captured.
    async fn unknown(&self, oid: u32, name: TableName) -> Result<Option<Captured>> {
        const SQL: &str = "select relispartition from pg_catalog.pg_class where oid = $1";
        let rows = query(&self.client, SQL, &[&oid]).await?;
        let is_partition = rows.first().is_some_and(|row| row.get(0));
        let is_gone = rows.is_empty();
        let is_wanted = self.selects.selects(&name) || (is_gone && self.options.partitioned);
        if is_partition || !is_wanted {
            return Ok(None);
        }
        let what = if is_gone { "was made and dropped" } else { "was made" };
        let message = format!("Table {name} {what} since the pipeline began, and the stream has rows of it");
        Err(Error::table(name, message).with_hint("Exclude the table, or reset the pipeline and load again"))
    }
}

/// The schema of a relation: columns and replica identity as the stream tells them, types by their numbers; the order of
/// a key, and the key of a table that logs whole rows, as the catalogue tells them now.
fn captured(relation: &Relation, key: Option<&TableKey>, types: &TypeCatalog) -> Result<Captured> {
    let name = TableName::new(relation.schema.as_str(), relation.name.as_str());
    let is_key: Vec<bool> = relation.columns.iter().map(|column| column.is_key).collect();
    let key = key_columns(relation, key);
    let columns = relation.columns.iter().enumerate().map(|(index, column)| {
        let data_type = types.data_type(column.type_oid, column.type_modifier).ok_or_else(|| {
            Error::table(
                name.clone(),
                format!("The type of column {} of {name} is not in the catalogue any more", column.name),
            )
            .with_hint("The table was changed since: reset the pipeline and load again")
        })?;
        let nullable = !key.contains(&(index as u16));
        Ok(Column { name: column.name.clone(), data_type, nullable })
    });
    let columns = columns.collect::<Result<Vec<_>>>()?;
    let schema = Arc::new(TableSchema::new(name.clone(), columns, key)?);
    Ok(Captured { schema, is_key })
}

fn key_columns(relation: &Relation, key: Option<&TableKey>) -> Vec<u16> {
    let index_of = |name: &String| relation.columns.iter().position(|column| column.name == *name);
    let named = key.and_then(|key| key.columns.iter().map(|name| index_of(name).map(|i| i as u16)).collect());
    let named: Vec<u16> = named.unwrap_or_default();
    let told = |index: &u16| relation.columns[usize::from(*index)].is_key;
    let flagged: Vec<u16> = (0..relation.columns.len() as u16).filter(told).collect();
    let is_whole_row = relation.is_whole_row();
    let is_same = named.len() == flagged.len() && named.iter().all(told);
    match key {
        // Whole rows are logged, which says nothing of the key.
        Some(TableKey { identity: Identity::Full | Identity::Nothing, .. }) if is_whole_row => named,
        _ if is_whole_row => Vec::new(),
        _ if is_same => named,
        _ if flagged.is_empty() => named,
        // The key is another by now: as it was at this place, in the table's order.
        _ => flagged,
    }
}
