//! Checks, foreign keys and comments of the selected tables, as statements that make them elsewhere.
//!
//! Not the constraints behind an index, which are read with it, and not NOT NULL, which is the column's.

use super::tables::query;
use crate::quote::literal;
use freshet_core::error::Result;
use freshet_core::schema::TableName;
use freshet_core::table::{Object, ObjectKind, Piece};
use std::collections::HashMap;
use tokio_postgres::{Client, Row};

/// What may be another value when a row is applied than it was when the row was written.
const MUTABLE: &str =
    "it depends on more than the row, so that a row of the source may not satisfy it when it is applied";

/// Whether the expression of constraint `k` depends on more than its columns: by what its functions are declared, and by
/// the kinds of nodes that are no functions.
pub(super) const IS_MUTABLE: &str = "(k.conbin::text ~ '[{](SQLVALUEFUNCTION|COERCEVIAIO|XMLEXPR|NEXTVALUEEXPR|JSON[A-Z]*EXPR) ' \
     or exists (select from pg_catalog.regexp_matches(k.conbin::text, ':(funcid|opfuncid|opno) ([0-9]+)', 'g') m \
       left join pg_catalog.pg_operator o on m[1] = 'opno' and o.oid = m[2]::pg_catalog.oid \
       join pg_catalog.pg_proc p on p.oid = coalesce(o.oprcode::pg_catalog.oid, m[2]::pg_catalog.oid) \
       where p.provolatile <> 'i' and (m[1] <> 'opno' or o.oid is not null)))";

/// Objects by the table's number.
type Objects = HashMap<u32, Vec<Object>>;

/// Everything of these tables, by the table's number: comments first, foreign keys last.
pub(super) async fn read(client: &Client, tables: &[u32]) -> Result<Objects> {
    let mut objects = Objects::new();
    comments(client, tables, &mut objects).await?;
    checks(client, tables, &mut objects).await?;
    foreign_keys(client, tables, &mut objects).await?;
    Ok(objects)
}

async fn comments(client: &Client, tables: &[u32], objects: &mut Objects) -> Result<()> {
    const SQL: &str = "select d.objoid, n.nspname::text, c.relname::text, d.description from pg_catalog.pg_description d \
         join pg_catalog.pg_class c on c.oid = d.objoid join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
         where d.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass and d.objsubid = 0 and d.objoid = any($1)";
    for row in query(client, SQL, &[&tables]).await? {
        let text = literal(row.get(3));
        let statement = vec![words("comment on table "), own(&row), words(format!(" is {text}"))];
        add(objects, &row, ObjectKind::Comment, String::new(), text, statement);
    }
    Ok(())
}

/// Checks, and NOT NULL that not all of the rows satisfy.
async fn checks(client: &Client, tables: &[u32], objects: &mut Objects) -> Result<()> {
    const SQL: &str = "select k.conrelid, n.nspname::text, c.relname::text, k.conname::text, \
           pg_catalog.pg_get_constraintdef(k.oid), \
           k.contype = 'c' and is_mutable from pg_catalog.pg_constraint k \
         join pg_catalog.pg_class c on c.oid = k.conrelid join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
         where (k.contype = 'c' or k.contype = 'n' and not k.convalidated) and k.conrelid = any($1) order by k.conrelid, k.conname collate \"C\"";
    let sql = SQL.replace("is_mutable", IS_MUTABLE);
    for row in query(client, &sql, &[&tables]).await? {
        let definition: String = row.get(4);
        let rest = words(format!(" {definition}"));
        let statement = vec![words("alter table "), own(&row), words(" add constraint "), Piece::Name, rest];
        let object = add(objects, &row, ObjectKind::Check, row.get(3), definition, statement);
        object.obstacle = row.get::<_, bool>(5).then(|| MUTABLE.to_owned());
    }
    Ok(())
}

async fn foreign_keys(client: &Client, tables: &[u32], objects: &mut Objects) -> Result<()> {
    // Written anew from its parts: the name of the table that it points to is another one on the target.
    const SQL: &str = "select k.conrelid, n.nspname::text, c.relname::text, k.conname::text, \
           pg_catalog.pg_get_constraintdef(k.oid), rn.nspname::text, rc.relname::text, \
           columns(k.conrelid, k.conkey), columns(k.confrelid, k.confkey), \
           pg_catalog.concat(case k.confmatchtype when 'f' then ' match full' end, ' on update ', action(k.confupdtype), \
             ' on delete ', action(k.confdeltype), ' (' || columns(k.conrelid, k.confdelsetcols) || ')', \
             case when k.condeferrable then ' deferrable' end, case when k.condeferred then ' initially deferred' end, \
             case when not enforced then ' not enforced' when not k.convalidated then ' not valid' end), k.condeferrable, period \
         from pg_catalog.pg_constraint k \
         cross join lateral (select coalesce((pg_catalog.to_jsonb(k) ->> 'conenforced')::bool, true), \
           coalesce((pg_catalog.to_jsonb(k) ->> 'conperiod')::bool, false)) newer(enforced, period) \
         join pg_catalog.pg_class c on c.oid = k.conrelid join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
         join pg_catalog.pg_class rc on rc.oid = k.confrelid join pg_catalog.pg_namespace rn on rn.oid = rc.relnamespace \
         where k.contype = 'f' and k.conparentid = 0 and k.conrelid = any($1) order by k.conrelid, k.conname collate \"C\"";
    for row in query(client, &expand(SQL), &[&tables]).await? {
        let (columns, referenced, options): (&str, &str, &str) = (row.get(7), row.get(8), row.get(9));
        let statement = vec![
            words("alter table "),
            own(&row),
            words(" add constraint "),
            Piece::Name,
            words(format!(" foreign key ({columns}) references ")),
            Piece::Table(TableName::new(row.get::<_, &str>(5), row.get::<_, &str>(6))),
            words(format!(" ({referenced}){options}")),
        ];
        let object = add(objects, &row, ObjectKind::ForeignKey, row.get(3), row.get(4), statement);
        object.deferrable = row.get(10);
        object.obstacle = row.get::<_, bool>(11).then(|| "it is over a period".to_owned());
    }
    Ok(())
}

/// `columns(table, numbers)` and `action(letter)` of the statement above in SQL: there is no function for them.
fn expand(sql: &str) -> String {
    let mut sql = sql.to_owned();
    for (table, numbers) in
        [("k.conrelid", "k.conkey"), ("k.confrelid", "k.confkey"), ("k.conrelid", "k.confdelsetcols")]
    {
        let list = format!(
            "(select pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ', ' order by place) \
             from unnest({numbers}) with ordinality as numbers(number, place) \
             join pg_catalog.pg_attribute a on a.attrelid = {table} and a.attnum = number)"
        );
        sql = sql.replace(&format!("columns({table}, {numbers})"), &list);
    }
    for letter in ["k.confupdtype", "k.confdeltype"] {
        let words = format!(
            "case {letter} when 'r' then 'restrict' when 'c' then 'cascade' when 'n' then 'set null' \
             when 'd' then 'set default' else 'no action' end"
        );
        sql = sql.replace(&format!("action({letter})"), &words);
    }
    sql
}

fn words(text: impl Into<String>) -> Piece {
    Piece::Words(text.into())
}

/// The table of a row whose second and third cell name it.
fn own(row: &Row) -> Piece {
    Piece::Table(TableName::new(row.get::<_, &str>(1), row.get::<_, &str>(2)))
}

fn add<'a>(
    objects: &'a mut Objects,
    row: &Row,
    kind: ObjectKind,
    name: String,
    definition: String,
    statement: Vec<Piece>,
) -> &'a mut Object {
    let object = Object { kind, name, deferrable: false, obstacle: None, definition, statement };
    let of_table = objects.entry(row.get(0)).or_default();
    let at = of_table.len();
    of_table.push(object);
    &mut of_table[at]
}
