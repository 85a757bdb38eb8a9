//! The publication and the replication slot: made once, checked at every session, removed when asked.
//!
//! Invariants: the publication is there before the slot, since a slot decodes with the catalogue of each place and a
//! publication that came later is not in it (P9); it lists its tables, so that a table of the same database that nobody
//! selected is never touched, and no table is published whose updates the server would then refuse (R3). A slot is used
//! only at or after what it was confirmed to: the server silently goes on from there otherwise (P6).

use super::WalSourceOptions;
use super::definition::{Definitions, Moment, gone};
use crate::catalog::keys::relation_keys;
use crate::catalog::tables::{Selected, selected_tables};
use crate::error::{Scope, statement_error};
use crate::lsn;
use crate::quote::{self, ident, literal};
use freshet_core::position::Lsn;
use freshet_core::source::Selects;
use freshet_core::{Error, Result, TableName};
use std::collections::BTreeSet;
use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

/// Where slots begin to survive a fail-over to a standby.
const FAILOVER_VERSION: i32 = 170_000;

/// Makes what is not there.
pub(super) async fn make(client: &Client, options: &WalSourceOptions, selects: &dyn Selects) -> Result<()> {
    let tables = selected_tables(client, selects, &options.schemas_left_out).await?;
    let oids: Vec<u32> = tables.iter().map(|table| table.oid).collect();
    let wanted: BTreeSet<TableName> = tables.iter().map(|table| table.name.clone()).collect();
    if wanted.is_empty() {
        return Err(Error::invalid("No table of the source matches the selection").with_hint(
            "Check tables.include, the database, and that the tables are not views or foreign tables",
        ));
    }
    refuse_without_identity(client, &tables).await?;
    refuse_other_identity(client, &oids).await?;
    if let Some(stored) = Definitions::stored(client, options).await? {
        stored.refuse_another_pipeline(options)?;
    }
    make_publication(client, options, &tables, &wanted).await?;
    // Before the slot: a table that changes from here on is noticed.
    let made = Definitions::stored(client, options).await?.is_some_and(|stored| stored.is_made());
    let now = Definitions::read(client, options, &oids, made).await?.at_the_beginning()?;
    now.store(client, options).await?;
    if read(client, options).await?.is_none() {
        make_slot(client, options).await?;
    }
    Ok(())
}

async fn make_publication(
    client: &Client,
    options: &WalSourceOptions,
    tables: &[Selected],
    wanted: &BTreeSet<TableName>,
) -> Result<()> {
    const OWNER: &str = "Let the tables' owner create the publication, or give the role their ownership and CREATE on \
         the database";
    let name = &options.publication;
    let has_partitioned = tables.iter().any(|table| table.is_partitioned);
    let sql = match published(client, options, has_partitioned).await? {
        None => {
            let tables: Vec<String> = wanted.iter().map(only).collect();
            // One statement list, so one transaction.
            format!(
                "create publication {} for table {} with (publish = 'insert, update, delete, truncate', \
                 publish_via_partition_root = false); {}",
                ident(name),
                tables.join(", "),
                Definitions::mark(options)?
            )
        }
        Some(published) => {
            let missing: Vec<String> = wanted.difference(&published).map(only).collect();
            if missing.is_empty() {
                return Ok(());
            }
            format!("alter publication {} add table {}", ident(name), missing.join(", "))
        }
    };
    client.batch_execute(&sql).await.map_err(|error| {
        statement_error(&Scope::Session, format!("Creating publication {name}"), &error).with_hint(OWNER)
    })
}

/// A table without those that inherit from it: they may not be selected, and publishing one without a replica identity
/// would make its updates fail. Partitions are part of their root all the same.
fn only(table: &TableName) -> String {
    format!("only {}", quote::table(table))
}

async fn make_slot(client: &Client, options: &WalSourceOptions) -> Result<()> {
    let row = query(client, "select pg_catalog.current_setting('server_version_num')::int4", &[]).await?;
    let failover = if row[0].get::<_, i32>(0) >= FAILOVER_VERSION { ", failover => true" } else { "" };
    let slot = literal(&options.slot);
    let sql = format!("select pg_catalog.pg_create_logical_replication_slot({slot}, 'pgoutput'{failover})");
    tracing::info!(
        slot = options.slot,
        "Creating a replication slot: it waits for the transactions that are running"
    );
    // For as long as the transactions take that are running.
    client.batch_execute(&format!("set lock_timeout = 0; {sql}; set lock_timeout = '60s'")).await.map_err(|error| {
        let doing = format!("Creating replication slot {}", options.slot);
        statement_error(&Scope::Session, doing, &error).with_hint(
            "The role needs REPLICATION, and the source wal_level = logical and a free slot (max_replication_slots)",
        )
    })
}

/// A slot as the server tells it.
struct Slot {
    plugin: String,
    database: String,
    confirmed: Option<Lsn>,
    active_pid: Option<i32>,
    wal_status: String,
}

async fn read(client: &Client, options: &WalSourceOptions) -> Result<Option<Slot>> {
    const SQL: &str = "select coalesce(plugin::text, ''), coalesce(database::text, ''), confirmed_flush_lsn::text, \
         active_pid, coalesce(wal_status, '') from pg_catalog.pg_replication_slots where slot_name = $1";
    let rows = query(client, SQL, &[&options.slot]).await?;
    Ok(rows.first().map(|row| Slot {
        plugin: row.get(0),
        database: row.get(1),
        confirmed: row.get::<_, Option<String>>(2).as_deref().and_then(lsn::parse),
        active_pid: row.get(3),
        wal_status: row.get(4),
    }))
}

/// Whether the stream can be read from the slot after `start`.
pub(super) async fn check(client: &Client, options: &WalSourceOptions, start: Lsn) -> Result<()> {
    let name = &options.slot;
    let again = "Drop the slot if it is still there, reset the pipeline and load again";
    let Some(slot) = read(client, options).await? else {
        return Err(Error::resync(format!(
            "Replication slot {name} is gone, and with it the source's WAL since the last position"
        ))
        .with_hint(
            "It was dropped, or the source failed over without it: reset the pipeline and load again",
        ));
    };
    if slot.plugin != "pgoutput" || slot.database != options.connect.database {
        return Err(Error::invalid(format!(
            "Replication slot {name} is of plug-in {} and database {}, not ours",
            slot.plugin, slot.database
        ))
        .with_hint("Drop that slot, or name another one"));
    }
    if slot.wal_status == "lost" {
        return Err(Error::resync(format!(
            "Replication slot {name} has lost WAL that is needed: it held more than the source's max_slot_wal_keep_size"
        ))
        .with_hint(again));
    }
    let confirmed = slot.confirmed.ok_or_else(|| {
        Error::unavailable(format!("Replication slot {name} is being created, or was not finished"))
            .with_hint("If it stays so, drop the slot, reset the pipeline and load again")
    })?;
    if confirmed > start {
        return Err(Error::resync(format!(
            "Replication slot {name} was advanced to {}, past {}, from where we have to go on",
            lsn::text(confirmed),
            lsn::text(start)
        ))
        .with_hint("Somebody else read from it, or the log was lost with what it held: reset the pipeline and load again"));
    }
    if let Some(pid) = slot.active_pid {
        return Err(Error::unavailable(format!(
            "Replication slot {name} is read by process {pid} of the source"
        )));
    }
    Ok(())
}

/// Whether the publication holds every table that is wanted, and everything is what it was when the pipeline began:
/// what is not in it, or stands for something else by now, would be missing or wrong without a word.
///
/// `found` has it before it is kept, since a load goes by what is kept.
pub(super) async fn check_published(
    client: &Client,
    options: &WalSourceOptions,
    selects: &dyn Selects,
    found: impl FnOnce(&Definitions),
) -> Result<()> {
    let Some(before) = Definitions::stored(client, options).await? else {
        published(client, options, false).await?.ok_or_else(|| gone(options))?;
        return Err(Error::resync(format!(
            "Publication {} does not have the comment that freshet left on it: it was made anew, or somebody changed it",
            options.publication
        ))
        .with_hint("Reset the pipeline and load again"));
    };
    let published =
        published(client, options, before.has_partitioned()).await?.ok_or_else(|| gone(options))?;
    before.refuse_another_pipeline(options)?;
    let now = Definitions::read(client, options, &before.tables(), before.is_made()).await?;
    before.check(&now, Moment::AtRest, options)?;
    before.check_new_parts(&now, client).await?;
    refuse_other_identity(client, &before.tables()).await?;
    let wanted = selected_tables(client, selects, &options.schemas_left_out).await?;
    let merged = before.merged(&now);
    let is_new = |table: &&Selected| {
        (!published.contains(&table.name) || !before.holds(table.oid)) && !merged.is_gone(table.oid)
    };
    if let Some(table) = wanted.iter().find(is_new) {
        return Err(came_later(options, &table.name));
    }
    before.tell_gone(&now);
    found(&merged);
    if merged != before {
        merged.store(client, options).await?;
    }
    Ok(())
}

fn came_later(options: &WalSourceOptions, table: &TableName) -> Error {
    Error::unsupported(format!(
        "Table {table} matches the selection and is not in publication {}: it was made after the pipeline began, or taken out",
        options.publication
    ))
    .with_hint("Exclude the table, or reset the pipeline and load again")
}

/// The tables of the publication; `None` if there is no such publication.
async fn published(
    client: &Client,
    options: &WalSourceOptions,
    has_partitioned: bool,
) -> Result<Option<BTreeSet<TableName>>> {
    const WHOLE: &str = "select pubviaroot from pg_catalog.pg_publication where pubname = $1 \
         and pubinsert and pubupdate and pubdelete and pubtruncate";
    // Not pg_publication_tables, which since PostgreSQL 16 takes a lock on each of its tables.
    const TABLES: &str = "select n.nspname::text, c.relname::text, r.prqual is not null or r.prattrs is not null \
         from pg_catalog.pg_publication p join pg_catalog.pg_publication_rel r on r.prpubid = p.oid \
         join pg_catalog.pg_class c on c.oid = r.prrelid join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
         where p.pubname = $1";
    // The server lets tables that are published so become unlogged for a while.
    const BY_NAME: &str = "select not p.puballtables and not exists ( \
           select from pg_catalog.pg_publication_namespace s where s.pnpubid = p.oid) \
         from pg_catalog.pg_publication p where p.pubname = $1";
    let there = "select 1 from pg_catalog.pg_publication where pubname = $1";
    if query(client, there, &[&options.publication]).await?.is_empty() {
        return Ok(None);
    }
    let whole = query(client, WHOLE, &[&options.publication]).await?;
    let Some(whole) = whole.first() else {
        return Err(Error::invalid(format!("Publication {} leaves out some operations", options.publication))
            .with_hint("ALTER PUBLICATION ... SET (publish = 'insert, update, delete, truncate'), then reset the pipeline and load again"));
    };
    if has_partitioned && whole.get(0) {
        return Err(Error::invalid(format!(
            "Publication {} publishes partitions by their root, which does not tell when one of them is truncated",
            options.publication
        ))
        .with_hint("ALTER PUBLICATION ... SET (publish_via_partition_root = false), then reset the pipeline and load again"));
    }
    let by_name = query(client, BY_NAME, &[&options.publication]).await?;
    if !by_name.first().is_some_and(|row| row.get(0)) {
        return Err(Error::invalid(format!(
            "Publication {} is of all tables, or of all tables of a schema",
            options.publication
        ))
        .with_hint("Publish the tables by name, or drop the publication or name another one: freshet makes what is not there"));
    }
    let rows = query(client, TABLES, &[&options.publication]).await?;
    let name = |row: &tokio_postgres::Row| TableName::new(row.get::<_, String>(0), row.get::<_, String>(1));
    if let Some(row) = rows.iter().find(|row| row.get(2)) {
        let message =
            format!("Publication {} leaves out rows or columns of table {}", options.publication, name(row));
        return Err(Error::invalid(message)
            .with_hint("ALTER PUBLICATION ... SET TABLE without WHERE and without columns, then reset the pipeline and load again"));
    }
    Ok(Some(rows.iter().map(name).collect()))
}

/// A published table without a replica identity would refuse its users' updates and deletes (R3).
async fn refuse_without_identity(client: &Client, tables: &[Selected]) -> Result<()> {
    match without_identity(client, tables).await?.first() {
        None => Ok(()),
        Some(table) => Err(Error::unsupported(format!(
            "Table {table} has no replica identity: publishing it would make its updates and deletes fail"
        ))
        .with_hint("Add a primary key, or ALTER TABLE ... REPLICA IDENTITY FULL, or exclude the table")),
    }
}

/// Those of the tables whose updates and deletes cannot be published.
pub(super) async fn without_identity(client: &Client, tables: &[Selected]) -> Result<Vec<TableName>> {
    // The server decides by the table that holds the row: of a partitioned table by each of its leaves.
    let roots: Vec<u32> = tables.iter().filter(|table| table.is_partitioned).map(|table| table.oid).collect();
    let mut holders: Vec<(u32, u32)> =
        tables.iter().filter(|table| !table.is_partitioned).map(|table| (table.oid, table.oid)).collect();
    holders.extend(leaves(client, &roots).await?.into_iter().map(|leaf| (leaf.root, leaf.oid)));
    let oids: Vec<u32> = holders.iter().map(|(_, oid)| *oid).collect();
    let keys = relation_keys(client, &oids).await?;
    let lacking: BTreeSet<u32> = holders
        .iter()
        .filter(|(_, oid)| keys.get(oid).is_some_and(|key| !key.is_updatable()))
        .map(|(table, _)| *table)
        .collect();
    Ok(tables.iter().filter(|table| lacking.contains(&table.oid)).map(|table| table.name.clone()).collect())
}

struct Leaf {
    root: u32,
    oid: u32,
    name: TableName,
}

/// The partitions that hold rows of these tables. Not by `pg_partition_tree`, which takes a lock on each.
async fn leaves(client: &Client, roots: &[u32]) -> Result<Vec<Leaf>> {
    const SQL: &str = "with recursive tree(root, oid) as ( \
           select i.inhparent, i.inhrelid from pg_catalog.pg_inherits i where i.inhparent = any($1) \
             and not i.inhdetachpending \
           union all select t.root, i.inhrelid from tree t join pg_catalog.pg_inherits i on i.inhparent = t.oid \
             and not i.inhdetachpending) \
         select t.root, t.oid, n.nspname::text, c.relname::text from tree t \
         join pg_catalog.pg_class c on c.oid = t.oid and c.relkind = 'r' and c.relispartition \
         join pg_catalog.pg_namespace n on n.oid = c.relnamespace order by 3, 4";
    let leaf = |row: &tokio_postgres::Row| Leaf {
        root: row.get(0),
        oid: row.get(1),
        name: TableName::new(row.get::<_, String>(2), row.get::<_, String>(3)),
    };
    if roots.is_empty() {
        return Ok(Vec::new());
    }
    Ok(query(client, SQL, &[&roots]).await?.iter().map(leaf).collect())
}

/// Changes of a partition are told by its own replica identity, and found on a target by the table's key.
async fn refuse_other_identity(client: &Client, roots: &[u32]) -> Result<()> {
    let leaves = leaves(client, roots).await?;
    let both: Vec<u32> = leaves.iter().flat_map(|leaf| [leaf.root, leaf.oid]).collect();
    let keys = relation_keys(client, &both).await?;
    let is_other = |leaf: &&Leaf| match (keys.get(&leaf.root), keys.get(&leaf.oid)) {
        (Some(root), Some(leaf)) => !leaf.tells_key_of(root),
        // Gone in between: the next look tells.
        _ => false,
    };
    match leaves.iter().find(is_other) {
        None => Ok(()),
        Some(leaf) => Err(Error::table(
            leaf.name.clone(),
            format!(
                "Partition {} has a replica identity that does not tell the key of the table that it is part of",
                leaf.name
            ),
        )
        .with_hint(
            "ALTER TABLE ... REPLICA IDENTITY of the partition (FULL will do), then start again; or exclude the table",
        )),
    }
}

/// Removes the slot, and the publication if freshet made it; what was done.
pub(super) async fn forget(client: &Client, options: &WalSourceOptions) -> Result<String> {
    if read(client, options).await?.is_some() {
        let sql = "select pg_catalog.pg_drop_replication_slot($1)";
        let doing = format!("Dropping replication slot {}", options.slot);
        let dropped = client.execute(sql, &[&options.slot]).await;
        dropped.map_err(|error| statement_error(&Scope::Session, doing, &error))?;
    }
    let (slot, name, publication) = (&options.slot, &options.publication, ident(&options.publication));
    let (sql, told) = match Definitions::stored(client, options).await? {
        Some(stored) if stored.refuse_another_pipeline(options).is_err() => {
            return Ok(format!(
                "slot {slot} removed; publication {name} belongs to another pipeline and stays"
            ));
        }
        Some(stored) if stored.is_made() => {
            (format!("drop publication {publication}"), format!("slot {slot} and publication {name} removed"))
        }
        // Somebody else's, which goes on as it was.
        Some(_) => (
            format!("comment on publication {publication} is null"),
            format!("slot {slot} removed; publication {name} was there before freshet and stays"),
        ),
        None => {
            return Ok(format!(
                "slot {slot} removed; a publication {name} would not have freshet's mark, and stays if it is there"
            ));
        }
    };
    let doing = format!("Leaving publication {name}");
    client.batch_execute(&sql).await.map_err(|error| statement_error(&Scope::Session, doing, &error))?;
    Ok(told)
}

pub(super) async fn query(
    client: &Client,
    sql: &str,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<Vec<tokio_postgres::Row>> {
    let rows = client.query(sql, parameters).await;
    rows.map_err(|error| statement_error(&Scope::Session, "Asking the source for its replication", &error))
}
