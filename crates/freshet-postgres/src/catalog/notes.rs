//! What stands in the selected schemas and is not carried over, one line each: listed, never dropped silently.
//!
//! Objects that belong to an extension are the extension's, which is one line where it is in a selected schema.

use super::tables::query;
use freshet_core::error::Result;
use freshet_core::schema::TableName;
use freshet_core::source::Selects;
use std::collections::HashMap;
use tokio_postgres::Client;

/// Lines about tables, by the table's number.
#[derive(Debug, Default)]
pub(crate) struct Notes(HashMap<u32, Vec<String>>);

impl Notes {
    /// The lines of one table.
    pub(super) fn take(&mut self, table: u32) -> Vec<String> {
        self.0.remove(&table).unwrap_or_default()
    }
}

/// Triggers, rules, policies and comments on what belongs to these tables.
pub(super) async fn of_tables(client: &Client, tables: &[u32]) -> Result<Notes> {
    const SQL: &str = "select tgrelid, 'Trigger ' || tgname as line from pg_catalog.pg_trigger \
           where tgrelid = any($1) and not tgisinternal \
         union all select ev_class, 'Rule ' || rulename from pg_catalog.pg_rewrite where ev_class = any($1) \
         union all select polrelid, 'Row security policy ' || polname from pg_catalog.pg_policy \
           where polrelid = any($1) \
         union all select k.conrelid, 'Comment on constraint ' || k.conname from pg_catalog.pg_description d \
           join pg_catalog.pg_constraint k on k.oid = d.objoid \
           where d.classoid = 'pg_catalog.pg_constraint'::pg_catalog.regclass and k.conrelid = any($1) \
         union all select i.indrelid, 'Comment on index ' || x.relname from pg_catalog.pg_description d \
           join pg_catalog.pg_index i on i.indexrelid = d.objoid join pg_catalog.pg_class x on x.oid = i.indexrelid \
           where d.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass and i.indrelid = any($1) \
         union all select i.inhrelid, 'Inheritance from ' || n.nspname || '.' || p.relname \
           from pg_catalog.pg_inherits i join pg_catalog.pg_class p on p.oid = i.inhparent \
           join pg_catalog.pg_namespace n on n.oid = p.relnamespace where i.inhrelid = any($1) \
         order by 1, 2";
    let mut notes = Notes::default();
    for row in query(client, SQL, &[&tables]).await? {
        notes.0.entry(row.get(0)).or_default().push(row.get(1));
    }
    Ok(notes)
}

/// Views, routines and types of these schemas, but for the types of these numbers.
pub(super) async fn of_schemas(client: &Client, schemas: &[String], types: &[u32]) -> Result<Vec<String>> {
    const SQL: &str = "with object(class, oid, schema, kind, name) as ( \
           select 'pg_class'::regclass::oid, c.oid, c.relnamespace, case c.relkind when 'v' then 'View' \
             when 'm' then 'Materialized view' when 'f' then 'Foreign table' end, c.relname::text \
           from pg_catalog.pg_class c where c.relkind in ('v', 'm', 'f') and not c.relispartition \
           union all select 'pg_proc'::regclass::oid, p.oid, p.pronamespace, case p.prokind when 'p' then 'Procedure' \
             when 'a' then 'Aggregate' else 'Function' end, p.proname::text from pg_catalog.pg_proc p \
           union all select 'pg_type'::regclass::oid, t.oid, t.typnamespace, case t.typtype when 'd' then 'Domain' \
             when 'e' then 'Enum' else 'Type' end, t.typname::text from pg_catalog.pg_type t \
           left join pg_catalog.pg_class tc on tc.oid = t.typrelid \
           where t.typtype in ('c', 'd', 'e', 'r', 'b') and t.oid <> all($2) and (tc.oid is null or tc.relkind = 'c') \
             and not exists (select from pg_catalog.pg_type e where e.oid = t.typelem and e.typarray = t.oid)) \
         select o.kind || ' ' || n.nspname || '.' || o.name from object o \
         join pg_catalog.pg_namespace n on n.oid = o.schema where n.nspname = any($1) \
           and not exists (select from pg_catalog.pg_depend d where d.classid = o.class and d.objid = o.oid \
             and d.deptype = 'e') \
         union all select 'Extension ' || e.extname from pg_catalog.pg_extension e \
         join pg_catalog.pg_namespace n on n.oid = e.extnamespace where n.nspname = any($1) order by 1";
    let sql = SQL.replace("::regclass", "::pg_catalog.regclass");
    let rows = query(client, &sql, &[&schemas, &types]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Partitions that are selected by name though their root is not: they are captured as part of their root only (R24).
pub(super) async fn partitions_without_root(
    client: &Client,
    tables: &[u32],
    selection: &dyn Selects,
) -> Result<Vec<String>> {
    const SQL: &str = "select n.nspname::text, c.relname::text, pg_catalog.pg_partition_root(c.oid)::oid \
         from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
         where c.relispartition and c.relkind in ('r', 'p') order by 1, 2";
    let mut lines = Vec::new();
    for row in query(client, SQL, &[]).await? {
        let name = TableName::new(row.get::<_, &str>(0), row.get::<_, &str>(1));
        let is_alone = row.get::<_, Option<u32>>(2).is_none_or(|root| !tables.contains(&root));
        if is_alone && selection.selects(&name) {
            lines.push(format!(
                "Partition {name}: it is captured as part of its root only, which is not selected"
            ));
        }
    }
    Ok(lines)
}
