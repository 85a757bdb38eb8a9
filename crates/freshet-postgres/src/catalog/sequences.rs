//! The sequences of the selected tables and of their schemas: behind identities, owned by columns, used by defaults, alone.
//!
//! A sequence is of no snapshot: its last value is of the moment in which the catalogue is read, at or after the view's.
//! Those of extensions and of tables that are not selected are left out, unless a default of a selected table uses them.

use super::tables::query;
use freshet_core::error::Result;
use freshet_core::schema::TableName;
use freshet_core::table::{SequenceInfo, SequenceRole, TableInfo};
use std::collections::HashMap;
use tokio_postgres::Client;

/// A default is one of ours if it is nothing but the next value of one sequence.
const SQL: &str = "with owned as (select d.refobjid as tab, d.refobjsubid::int2 as col, d.objid as seq, d.deptype \
       from pg_catalog.pg_depend d where d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass \
       and d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass and d.deptype in ('a', 'i') and d.refobjsubid > 0), \
     used as (select e.adrelid as tab, e.adnum as col, d.refobjid as seq from pg_catalog.pg_attrdef e \
       join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass and d.objid = e.oid \
         and d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass \
       join pg_catalog.pg_class s on s.oid = d.refobjid and s.relkind = 'S' where e.adrelid = any($1) \
       and pg_catalog.pg_get_expr(e.adbin, e.adrelid) = pg_catalog.concat('nextval(''', \
         pg_catalog.replace(d.refobjid::pg_catalog.regclass::text, '''', ''''''), '''::regclass)')), \
     pairs as (select tab, col, seq, owned.deptype, used.seq is not null as is_default \
         from (select * from owned where tab = any($1)) owned full join used using (tab, col, seq) \
       union all select null, 0::int2, s.oid, null, false from pg_catalog.pg_class s where s.relkind = 'S' \
         and s.relnamespace in (select t.relnamespace from pg_catalog.pg_class t where t.oid = any($1)) \
         and s.relpersistence <> 't' and s.oid not in (select seq from owned) and s.oid not in (select seq from used) \
         and not exists (select from pg_catalog.pg_depend d where d.deptype = 'e' and d.objid = s.oid \
           and d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass)) \
   select p.tab, p.col, n.nspname::text, c.relname::text, \
     case p.deptype when 'i' then coalesce(a.attidentity = 'a', false)::text when 'a' then 'owned' else 'free' end, \
     p.is_default, pg_catalog.format_type(s.seqtypid, null), \
     pg_catalog.format('start with %s increment by %s minvalue %s maxvalue %s cache %s %s', s.seqstart, \
       s.seqincrement, s.seqmin, s.seqmax, s.seqcache, case when s.seqcycle then 'cycle' else 'no cycle' end), \
     last.value, coalesce(last.value::numeric + s.seqincrement, s.seqstart)::text, known.is_so \
   from pairs p join pg_catalog.pg_sequence s on s.seqrelid = p.seq join pg_catalog.pg_class c on c.oid = p.seq \
   join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
   left join pg_catalog.pg_attribute a on a.attrelid = p.tab and a.attnum = p.col \
   cross join lateral (select pg_catalog.has_sequence_privilege(p.seq, 'usage') \
     or pg_catalog.has_sequence_privilege(p.seq, 'select')) known(is_so) \
   cross join lateral (select case when known.is_so then pg_catalog.pg_sequence_last_value(p.seq) end) last(value) \
   order by n.nspname collate \"C\", c.relname collate \"C\", p.tab, p.col";

/// A sequence of a table.
#[derive(Clone, Debug)]
pub(super) struct SequenceRow {
    /// Number of the column; 0 for none.
    pub(super) column: i16,
    pub(super) info: SequenceInfo,
    /// The value that it gives next.
    pub(super) next: Option<u64>,
    /// Whether the role may know its value.
    is_known: bool,
}

/// Those of the selected tables, and the rest of their schemas.
#[derive(Debug, Default)]
pub(super) struct Sequences {
    of_tables: HashMap<u32, Vec<SequenceRow>>,
    rest: Vec<SequenceRow>,
}

impl Sequences {
    /// Reads them for these tables.
    pub(super) async fn read(client: &Client, tables: &[u32]) -> Result<Self> {
        let mut sequences = Sequences::default();
        for row in query(client, SQL, &[&tables]).await? {
            let role = match row.get::<_, &str>(4) {
                "owned" => SequenceRole::Owned,
                "free" => SequenceRole::Free,
                always => SequenceRole::Identity { always: always == "true" },
            };
            let info = SequenceInfo {
                name: TableName::new(row.get::<_, &str>(2), row.get::<_, &str>(3)),
                column: None,
                role,
                is_default: row.get(5),
                data_type: row.get(6),
                options: row.get(7),
                last: row.get(8),
            };
            let next = row.get::<_, &str>(9).parse().ok();
            let sequence = SequenceRow { column: row.get(1), info, next, is_known: row.get(10) };
            match row.get::<_, Option<u32>>(0) {
                Some(table) => sequences.of_tables.entry(table).or_default().push(sequence),
                None => sequences.rest.push(sequence),
            }
        }
        Ok(sequences)
    }

    /// Those of one table.
    pub(super) fn of_table(&mut self, table: u32) -> Vec<SequenceRow> {
        self.of_tables.remove(&table).unwrap_or_default()
    }

    /// Gives those of no table to the first table of their schema.
    pub(super) fn add_rest(&mut self, tables: &mut [TableInfo]) {
        for sequence in self.rest.drain(..) {
            let schema = &sequence.info.name.schema;
            let Some(table) = tables.iter_mut().find(|table| table.name().schema == *schema) else {
                continue;
            };
            table.not_carried.extend(sequence.unknown());
            table.native.sequences.push(sequence.info);
        }
    }
}

impl SequenceRow {
    /// The line about a value that the role may not read.
    pub(super) fn unknown(&self) -> Option<String> {
        let line = || format!("Value of sequence {} (the role may not read it)", self.info.name);
        (!self.is_known).then(line)
    }

    /// At the place that its column's number has in the schema.
    pub(super) fn at(self, place: impl Fn(i16) -> Option<usize>) -> SequenceInfo {
        let column = place(self.column).and_then(|at| u16::try_from(at).ok());
        SequenceInfo { column, ..self.info }
    }
}
