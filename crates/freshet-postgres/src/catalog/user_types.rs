//! Enums, domains and composites of which columns are made, as the statements that make them.
//!
//! Types of extensions, ranges and base types are not among them: they are made by hand, with their functions. So is a
//! domain with a condition that depends on more than the value, or that not all of its values satisfy.

use super::constraints::IS_MUTABLE;
use super::tables::query;
use freshet_core::error::Result;
use freshet_core::table::TypeInfo;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use tokio_postgres::Client;

/// The types of these tables.
#[derive(Debug, Default)]
pub(super) struct UserTypes {
    /// Numbers of types by the table's, each after those that it is made of.
    of_tables: HashMap<u32, Vec<u32>>,
    types: BTreeMap<u32, TypeInfo>,
}

impl UserTypes {
    /// Reads them for these tables.
    pub(super) async fn read(client: &Client, tables: &[u32]) -> Result<Self> {
        const SQL: &str = "with recursive needs(tab, oid, depth) as ( \
               select a.attrelid, a.atttypid, 0 from pg_catalog.pg_attribute a \
                 where a.attrelid = any($1) and a.attnum > 0 and not a.attisdropped and a.atttypid >= 16384 \
               union select needs.tab, part.oid, needs.depth + 1 from needs join pg_catalog.pg_type t on t.oid = needs.oid \
                 cross join lateral (select t.typbasetype union all select t.typelem union all \
                   select a.atttypid from pg_catalog.pg_attribute a \
                     where t.typtype = 'c' and a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped) part(oid) \
                 where part.oid >= 16384) \
             select tab, oid from needs group by tab, oid order by tab, max(depth) desc, oid";
        let mut read = UserTypes::default();
        let mut all = BTreeSet::new();
        for row in query(client, SQL, &[&tables]).await? {
            read.of_tables.entry(row.get(0)).or_default().push(row.get(1));
            all.insert(row.get::<_, u32>(1));
        }
        if !all.is_empty() {
            read.types = definitions(client, &all.into_iter().collect::<Vec<_>>()).await?;
        }
        Ok(read)
    }

    /// Those of one table.
    pub(super) fn of_table(&self, table: u32) -> Vec<TypeInfo> {
        let numbers = self.of_tables.get(&table).into_iter().flatten();
        numbers.filter_map(|number| self.types.get(number).cloned()).collect()
    }

    /// The numbers of all of them.
    pub(super) fn numbers(&self) -> Vec<u32> {
        self.types.keys().copied().collect()
    }
}

/// The statements that make these types, by number; those that are made otherwise are left out.
pub(crate) async fn definitions(client: &Client, types: &[u32]) -> Result<BTreeMap<u32, TypeInfo>> {
    const SQL: &str = "select t.oid, w.name, n.nspname::text, \
           case t.typtype when 'e' then pg_catalog.format('create type %s as enum (%s)', w.name, \
               (select pg_catalog.string_agg(pg_catalog.quote_literal(e.enumlabel), ', ' order by e.enumsortorder) \
                from pg_catalog.pg_enum e where e.enumtypid = t.oid)) \
             when 'c' then pg_catalog.format('create type %s as (%s)', w.name, (select pg_catalog.string_agg( \
                 pg_catalog.concat(pg_catalog.quote_ident(a.attname), ' ', pg_catalog.format_type(a.atttypid, a.atttypmod), \
                   collation(a.attcollation, a.atttypid)), ', ' order by a.attnum) from pg_catalog.pg_attribute a \
               where a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped)) \
             else pg_catalog.concat('create domain ', w.name, ' as ', pg_catalog.format_type(t.typbasetype, t.typtypmod), \
               collation(t.typcollation, t.typbasetype), ' default ' || pg_catalog.pg_get_expr(t.typdefaultbin, 0), \
               case when t.typnotnull then ' not null' end, (select pg_catalog.string_agg(pg_catalog.format(' constraint %I %s', \
                   k.conname, pg_catalog.pg_get_constraintdef(k.oid)), '' order by k.conname collate \"C\") \
                 from pg_catalog.pg_constraint k where k.contypid = t.oid and k.contype = 'c')) end, \
           case t.typtype when 'd' then array[pg_catalog.format_type(t.typbasetype, t.typtypmod)] \
             else array(select pg_catalog.format_type(a.atttypid, a.atttypmod) from pg_catalog.pg_attribute a \
               where t.typtype = 'c' and a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped) end \
         from pg_catalog.pg_type t join pg_catalog.pg_namespace n on n.oid = t.typnamespace \
         left join pg_catalog.pg_class c on c.oid = t.typrelid \
         cross join lateral (select pg_catalog.format_type(t.oid, null)) w(name) \
         where t.oid = any($1) and (t.typtype in ('e', 'd') or t.typtype = 'c' and c.relkind = 'c') \
           and n.nspname !~ '^pg_' and n.nspname <> 'information_schema' \
           and not exists (select from pg_catalog.pg_depend d where d.objid = t.oid and d.deptype = 'e' \
             and d.classid = 'pg_catalog.pg_type'::pg_catalog.regclass) \
           and not exists (select from pg_catalog.pg_constraint k where k.contypid = t.oid and k.contype = 'c' \
             and (not k.convalidated or is_mutable))";
    let mut sql = SQL.replace("is_mutable", IS_MUTABLE);
    for (own, of_type) in [("a.attcollation", "a.atttypid"), ("t.typcollation", "t.typbasetype")] {
        let clause = format!(
            "(select pg_catalog.concat(' collate ', {own}::pg_catalog.regcollation) from pg_catalog.pg_type b \
             where b.oid = {of_type} and b.typcollation <> {own} and {own} <> 0)"
        );
        sql = sql.replace(&format!("collation({own}, {of_type})"), &clause);
    }
    let rows = query(client, &sql, &[&types]).await?;
    let info = |row: &tokio_postgres::Row| TypeInfo {
        name: row.get(1),
        schema: row.get(2),
        statement: row.get(3),
        parts: row.get(4),
    };
    Ok(rows.iter().map(|row| (row.get(0), info(row))).collect())
}
