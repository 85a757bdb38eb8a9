//! What a relation message does not say of its table, asked of the catalogue.
//!
//! A partition is described by itself, and captured as its table: under that one's name, with the columns in that one's
//! order and its key.
//!
//! Invariant: a table is compared with what it was when the pipeline began before any row after the message is read; a
//! partition is kept as known before any row of it is.

use super::definition::{Definitions, Moment, Whole};
use super::slot::query;
use super::{Kept, WalSourceOptions};
use crate::catalog::keys::{Identity, TableKey, relation_keys};
use crate::catalog::types::TypeCatalog;
use crate::decode::{Captured, Part, Relation};
use freshet_core::source::Selects;
use freshet_core::{Column, Error, Result, TableName, TableSchema};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tokio_postgres::Client;

/// How long a transaction that is in the stream may take until others see it, before the session is begun again.
const SEEN_MAX: Duration = Duration::from_secs(30);
/// How often it is asked for.
const SEEN_PAUSE: Duration = Duration::from_millis(50);

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

    pub(super) fn definitions(&self) -> Kept {
        self.definitions.clone()
    }

    /// Completes a relation; `None` for one that is not captured.
    pub(super) async fn relation(&mut self, relation: &Relation) -> Result<Option<Captured>> {
        let before = self.definitions.found();
        if before.holds(relation.oid) {
            return self.table(relation, &before).await.map(Some);
        }
        if let Some(root) = before.root_of(relation.oid) {
            return self.partition(relation, root, &before).await.map(Some);
        }
        if before.has_partitioned() {
            self.wait_until_seen(relation).await?;
            let found = self.definitions.look(&self.client, &self.options, self.selects.as_ref()).await?;
            if let Some(root) = found.root_of(relation.oid) {
                return self.partition(relation, root, &found).await.map(Some);
            }
        }
        self.unknown(relation, before.has_partitioned()).await
    }

    async fn table(&mut self, relation: &Relation, before: &Definitions) -> Result<Captured> {
        let name = TableName::new(relation.schema.as_str(), relation.name.as_str());
        let now = Definitions::read(&self.client, &self.options, &[relation.oid], false).await?;
        before.check(&now, Moment::InStream, &self.options)?;
        before.check_name(relation.oid, &name)?;
        self.resolve(relation).await?;
        let keys = relation_keys(&self.client, &[relation.oid]).await?;
        captured(relation, keys.get(&relation.oid), &self.types)
    }

    async fn partition(&mut self, relation: &Relation, root: u32, before: &Definitions) -> Result<Captured> {
        let now = Definitions::read_partition(&self.client, &self.options, root, relation.oid).await?;
        before.check(&now, Moment::InStream, &self.options)?;
        let whole = before.whole(&now, root, relation.oid, self.options.keeps_lost_partitions)?;
        self.resolve(relation).await?;
        let keys = relation_keys(&self.client, &[root]).await?;
        let key = keys.get(&root).map(|key| key.columns.as_slice()).unwrap_or_default();
        part_of(&whole, relation, key, &self.types)
    }

    /// A commit is in the stream before others see it, for as long as it waits for a standby. Until then the transaction
    /// that made or attached a partition has it locked.
    async fn wait_until_seen(&self, relation: &Relation) -> Result<()> {
        const SQL: &str = "select exists (select from pg_catalog.pg_locks l where l.locktype = 'relation' \
             and l.database = (select oid from pg_catalog.pg_database where datname = pg_catalog.current_database()) \
             and l.relation = $1 and l.mode = 'AccessExclusiveLock' and l.granted)";
        let until = Instant::now() + SEEN_MAX;
        while query(&self.client, SQL, &[&relation.oid]).await?[0].get(0) {
            if Instant::now() >= until {
                let Relation { schema, name, .. } = relation;
                let message = format!("The transaction that made or holds {schema}.{name} has not ended");
                return Err(Error::unavailable(message)
                    .with_hint("It may wait for a synchronous standby: it is looked at again until it has"));
            }
            sleep(SEEN_PAUSE).await;
        }
        Ok(())
    }

    async fn resolve(&mut self, relation: &Relation) -> Result<()> {
        let oids: Vec<u32> = relation.columns.iter().map(|column| column.type_oid).collect();
        self.types.resolve(&self.client, &oids).await
    }

    /// A relation that was not there when the pipeline began, and is no partition of a captured table now: somebody
    /// else's publication may hold more than is captured. What is in no publication's list was a partition, and whose is
    /// not known any more.
    async fn unknown(&self, relation: &Relation, may_be_partition: bool) -> Result<Option<Captured>> {
        const SQL: &str = "with recursive above(oid) as (select $1::oid union \
               select i.inhparent from above join pg_catalog.pg_inherits i on i.inhrelid = above.oid) \
             select exists (select from pg_catalog.pg_class where oid = $1), exists (select from above \
               join pg_catalog.pg_publication_rel r on r.prrelid = above.oid \
               join pg_catalog.pg_publication p on p.oid = r.prpubid where p.pubname = $2)";
        let rows = query(&self.client, SQL, &[&relation.oid, &self.options.publication]).await?;
        let (is_there, is_published): (bool, bool) = (rows[0].get(0), rows[0].get(1));
        let name = TableName::new(relation.schema.as_str(), relation.name.as_str());
        let is_lost = may_be_partition && !is_published;
        if !is_lost && !self.selects.selects(&name) {
            return Ok(None);
        }
        let what = match (is_lost, is_there) {
            (true, true) => "was a partition and is none any more",
            (_, true) => "was made",
            (_, false) => "was made and dropped",
        };
        let message = format!("Table {name} {what} since the pipeline began, and the stream has rows of it");
        Err(Error::table(name, message).with_hint("Exclude the table, or reset the pipeline and load again"))
    }
}

/// A partition as its table: columns in that one's order, found by that one's key.
fn part_of(whole: &Whole, relation: &Relation, key: &[String], types: &TypeCatalog) -> Result<Captured> {
    let mut order: Vec<u16> = (0..relation.columns.len() as u16).collect();
    order.sort_by_key(|index| whole.place(&relation.columns[usize::from(*index)].name));
    let columns = order.iter().map(|index| relation.columns[usize::from(*index)].clone()).collect();
    let partition = TableName::new(relation.schema.as_str(), relation.name.as_str());
    let own: Vec<&str> = relation.columns.iter().filter(|c| c.is_key).map(|c| c.name.as_str()).collect();
    let is_same = own.len() == key.len() && own.iter().all(|name| key.iter().any(|column| column == name));
    // Without any key the server takes no updates and deletes.
    if !relation.is_whole_row() && !own.is_empty() && !is_same {
        let table = &whole.name;
        return Err(Error::table(
            table.clone(),
            format!("Changes of partition {partition} are told by another key than table {table} has now"),
        )
        .with_hint("Keys or replica identities were changed: reset the pipeline and load again"));
    }
    let (schema, name) = (whole.name.schema.clone(), whole.name.table.clone());
    let told = Relation { oid: whole.oid, schema, name, identity: relation.identity, columns };
    let place = |name: &String| told.columns.iter().position(|column| column.name == *name);
    let places = key.iter().map(|name| place(name).map(|place| place as u16)).collect::<Option<Vec<u16>>>();
    let places = places.ok_or_else(|| {
        Error::table(whole.name.clone(), format!("Partition {partition} lacks a column of its table's key"))
            .with_hint("The table was changed since: reset the pipeline and load again")
    })?;
    let is_ordered = order.is_sorted();
    Ok(Captured {
        order: if is_ordered { Vec::new() } else { order },
        part: Some(Part { root: whole.oid, partition }),
        ..described(&told, places, types)?
    })
}

/// The schema of a relation: columns and replica identity as the stream tells them, types by their numbers; the order of
/// a key, and the key of a table that logs whole rows, as the catalogue tells them now.
fn captured(relation: &Relation, key: Option<&TableKey>, types: &TypeCatalog) -> Result<Captured> {
    described(relation, key_columns(relation, key), types)
}

fn described(relation: &Relation, key: Vec<u16>, types: &TypeCatalog) -> Result<Captured> {
    let name = TableName::new(relation.schema.as_str(), relation.name.as_str());
    let is_key: Vec<bool> = relation.columns.iter().map(|column| column.is_key).collect();
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
    Ok(Captured { schema, is_key, order: Vec::new(), part: None })
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
