//! What a PostgreSQL source must have before a pipeline is started, each finding with its remedy; and the grants.
//!
//! Reads only. What making the publication and the slot would be refused with is an error here.

use super::slot::{query, without_identity};
use super::{WalSourceOptions, session};
use crate::catalog::tables::{read_catalogue, selected_tables};
use crate::quote::{self, ident};
use freshet_core::check::{Finding, Findings, Severity};
use freshet_core::source::Selects;
use freshet_core::{Result, TableName};
use std::collections::BTreeSet;
use tokio_postgres::Client;

/// Checks the source: everything that can be told without changing it.
pub async fn check(options: &WalSourceOptions, selects: &dyn Selects) -> Vec<Finding> {
    let mut found = Findings::default();
    if let Err(error) = look(options, selects, &mut found).await {
        found.add_error("source.connection", "connection", &error);
    }
    found.0
}

async fn look(options: &WalSourceOptions, selects: &dyn Selects, found: &mut Findings) -> Result<()> {
    let client = session(options, "check").await?;
    settings(&client, options, found).await?;
    role(&client, found).await?;
    let tables = match read_catalogue(&client, selects, &options.schemas_left_out).await {
        Ok(catalogue) => catalogue.tables.iter().map(|table| table.name().clone()).collect(),
        Err(error) => {
            found.add_error("source.tables", "tables", &error);
            return Ok(());
        }
    };
    let selected = selected_tables(&client, selects, &options.schemas_left_out).await?;
    for table in without_identity(&client, &selected).await? {
        found.add(
            Severity::Error,
            "source.replica-identity",
            table.to_string(),
            "It has no replica identity: publishing it would make its updates and deletes fail",
            format!(
                "ALTER TABLE {} REPLICA IDENTITY FULL, or add a primary key, or exclude the table",
                quote::table(&table)
            ),
        );
    }
    publication(&client, options, found).await?;
    ownership(&client, options, &tables, found).await
}

/// A publication that is there is used, and commented on.
async fn publication(client: &Client, options: &WalSourceOptions, found: &mut Findings) -> Result<()> {
    const SQL: &str =
        "select pg_catalog.pg_has_role(pubowner, 'usage') from pg_catalog.pg_publication where pubname = $1";
    let rows = query(client, SQL, &[&options.publication]).await?;
    if rows.first().is_some_and(|row| !row.get::<_, bool>(0)) {
        let name = ident(&options.publication);
        let message = "The publication is not the role's own, which keeps the tables' definitions with it";
        let remedy = format!("ALTER PUBLICATION {name} OWNER TO {}", ident(&options.connect.user));
        found.add(Severity::Error, "source.publication", options.publication.clone(), message, remedy);
    }
    Ok(())
}

async fn settings(client: &Client, options: &WalSourceOptions, found: &mut Findings) -> Result<()> {
    const SQL: &str = "select pg_catalog.current_setting('wal_level'), pg_catalog.pg_is_in_recovery(), \
         pg_catalog.current_setting('max_replication_slots')::int4 \
           - (select pg_catalog.count(*) from pg_catalog.pg_replication_slots)::int4, \
         exists (select 1 from pg_catalog.pg_replication_slots where slot_name = $1), \
         pg_catalog.current_setting('max_slot_wal_keep_size')";
    let rows = query(client, SQL, &[&options.slot]).await?;
    let row = &rows[0];
    if row.get::<_, String>(0) != "logical" {
        let (is, remedy) =
            (row.get::<_, String>(0), "ALTER SYSTEM SET wal_level = logical, then restart the server");
        found.add(
            Severity::Error,
            "source.wal-level",
            "wal_level",
            format!("It is {is}, and logical is needed"),
            remedy,
        );
    }
    if row.get(1) {
        let message = "It is a standby, which exports no snapshots";
        found.add(
            Severity::Error,
            "source.standby",
            "server",
            message,
            "Point the source at the primary server",
        );
    }
    // One for the stream, and one for the moment of each load.
    let wanted = if row.get(3) { 1 } else { 2 };
    if row.get::<_, i32>(2) < wanted {
        let message = format!("{} slots are free, {wanted} are needed", row.get::<_, i32>(2));
        let remedy = "Drop slots that nobody needs, or raise max_replication_slots and restart the server";
        found.add(Severity::Error, "source.slots", "max_replication_slots", message, remedy);
    }
    if row.get::<_, String>(4) == "-1" {
        let message = "The server keeps WAL for a pipeline that is stopped until its disk is full";
        let remedy = "Set a limit, and watch pg_replication_slots; past it the pipeline has to load again";
        found.add(Severity::Info, "source.wal-keep", "max_slot_wal_keep_size", message, remedy);
    }
    Ok(())
}

async fn role(client: &Client, found: &mut Findings) -> Result<()> {
    const SQL: &str = "select rolname::text, rolreplication or rolsuper or exists (select 1 from pg_catalog.pg_roles r \
         where r.rolname = 'rds_replication' and pg_catalog.pg_has_role(current_user, r.oid, 'member')) \
         from pg_catalog.pg_roles where rolname = current_user";
    let rows = query(client, SQL, &[]).await?;
    let (name, may): (String, bool) = (rows[0].get(0), rows[0].get(1));
    if !may {
        let remedy = format!("ALTER ROLE {} REPLICATION", ident(&name));
        found.add(Severity::Error, "source.replication", name, "The role may not replicate", remedy);
    }
    Ok(())
}

/// A publication is made by whoever owns its tables.
async fn ownership(
    client: &Client,
    options: &WalSourceOptions,
    tables: &BTreeSet<TableName>,
    found: &mut Findings,
) -> Result<()> {
    const SQL: &str = "select n.nspname::text, c.relname::text, pg_catalog.pg_has_role(c.relowner, 'usage'), \
         pg_catalog.has_table_privilege(c.oid, 'select'), \
         exists (select 1 from pg_catalog.pg_publication p join pg_catalog.pg_publication_rel r on r.prpubid = p.oid \
           where p.pubname = $1 and r.prrelid = c.oid) \
         from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace where c.relkind in ('r', 'p')";
    for row in query(client, SQL, &[&options.publication]).await? {
        let name = TableName::new(row.get::<_, String>(0), row.get::<_, String>(1));
        let (owns, reads, published): (bool, bool, bool) = (row.get(2), row.get(3), row.get(4));
        if !tables.contains(&name) {
            continue;
        }
        let table = quote::table(&name);
        if !owns && !published {
            let remedy = format!(
                "As its owner: CREATE PUBLICATION {name} FOR TABLE {table}, or ALTER PUBLICATION ... ADD TABLE; then ALTER PUBLICATION {name} OWNER TO {}",
                ident(&options.connect.user),
                name = ident(&options.publication),
            );
            let message = "The role does not own it, so it cannot publish it";
            found.add(Severity::Error, "source.publication", name.to_string(), message, remedy);
        }
        if !reads {
            let remedy = format!("GRANT SELECT ON {table} TO {}", ident(&options.connect.user));
            found.add(Severity::Error, "source.select", name.to_string(), "The role may not read it", remedy);
        }
    }
    Ok(())
}

/// The smallest grants for the source's role, to be run by a superuser in the source's database.
pub fn grants(options: &WalSourceOptions, schemas: &[String]) -> Vec<String> {
    let user = ident(&options.connect.user);
    let mut lines = vec![
        format!("ALTER ROLE {user} REPLICATION;"),
        "-- to make the publication; not needed where the tables' owner makes it".to_owned(),
        format!("GRANT CREATE ON DATABASE {} TO {user};", ident(&options.connect.database)),
        format!("-- and the ownership of the captured tables: GRANT their_owner TO {user};"),
    ];
    for schema in schemas {
        let schema = ident(schema);
        lines.push(format!("GRANT USAGE ON SCHEMA {schema} TO {user};"));
        lines.push(format!("GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {user};"));
    }
    lines
}
