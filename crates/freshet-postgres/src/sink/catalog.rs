//! A target table as PostgreSQL's catalogue has it, and whether a source table fits it.
//!
//! Reads only. What does not fit is refused before a row is written: a column that is missing or too narrow, a
//! trigger or rule that would fire (R16), a generated column that cannot be written (R13). What is merely stricter
//! than the source (R17) is listed.

use crate::quote::{self, literal};
use crate::sink::control::query;
use crate::sink::encode::Encoder;
use crate::sink::types::{self, TargetType, Wire};
use freshet_core::sink::TablePlan;
use freshet_core::table::{ObjectKind, TableInfo};
use freshet_core::{Error, Result, TableName, TableSchema};
use tokio_postgres::Client;

/// A table of the target.
#[derive(Clone, Debug)]
pub(crate) struct TargetTable {
    pub name: TableName,
    kind: String,
    columns: Vec<TargetColumn>,
    pub indexes: Vec<TargetIndex>,
    /// Name, and `tgenabled`.
    triggers: Vec<(String, String)>,
    rules: Vec<String>,
    /// CHECK and foreign key constraints: name, and `contype`.
    constraints: Vec<(String, String)>,
}

#[derive(Clone, Debug)]
struct TargetColumn {
    name: String,
    /// As rows are bound to it.
    binds: TargetType,
    forms: TypeForms,
    /// The declaration, by which errors name it.
    type_name: String,
    not_null: bool,
    generated: bool,
    identity: String,
    has_default: bool,
}

/// An index of the target.
#[derive(Clone, Debug)]
pub(crate) struct TargetIndex {
    pub name: String,
    pub primary: bool,
    /// Unique over plain columns, all rows, checked at once.
    pub unique: bool,
    pub columns: Vec<String>,
}

/// How a column's type is written in SQL; of a domain, what it is over in the end.
#[derive(Clone, Debug)]
pub(crate) struct TypeForms {
    /// Without a modifier: a cast to it never cuts a value.
    pub bare: String,
    /// With the column's modifier.
    pub full: String,
    /// Its output function.
    pub output: String,
    /// Its equality, with its schema: the search path is empty.
    pub equals: String,
}

/// A source column's place on the target.
#[derive(Clone, Debug)]
pub(crate) struct BoundColumn {
    /// Quoted.
    pub name: String,
    /// As it is, for errors.
    pub plain: String,
    pub wire: Wire,
    pub encoder: Encoder,
    pub forms: TypeForms,
}

impl BoundColumn {
    /// A parameter as a value of the column's type.
    pub(crate) fn value(&self, parameter: &str) -> String {
        if self.wire == Wire::AsText {
            format!("{parameter}::{}", self.forms.bare)
        } else {
            parameter.to_owned()
        }
    }

    /// Whether a stored value of a key is a parameter's.
    pub(crate) fn matches(&self, stored: &str, parameter: &str) -> String {
        format!("{stored} {} {}", self.forms.equals, self.value(parameter))
    }

    /// Whether a stored value is exactly a parameter's, NULL included (R7).
    pub(crate) fn is_same(&self, stored: &str, parameter: &str) -> String {
        let (cast, output) = (format!("{parameter}::{}", self.forms.full), &self.forms.output);
        let (stored, wanted) = match self.wire {
            // Not every type has an equality, and a cast to text need not be what the type prints.
            Wire::AsText => (
                format!("{output}({stored})::text collate \"C\""),
                format!("{output}({cast})::text collate \"C\""),
            ),
            // The column's modifier adds digits and blanks.
            Wire::Numeric | Wire::Bpchar => (self.wire.identity(stored), self.wire.identity(&cast)),
            wire => (wire.identity(stored), wire.identity(parameter)),
        };
        format!("{stored} is not distinct from {wanted}")
    }
}

impl TargetTable {
    /// Reads a table; `None` if it is not there.
    pub(crate) async fn read(client: &Client, name: &TableName) -> Result<Option<TargetTable>> {
        const DOING: &str = "Reading the target's catalogue";
        let sql = format!(
            "select c.oid::int8, c.relkind::text from pg_class c join pg_namespace n on n.oid = c.relnamespace \
             where n.nspname = {} and c.relname = {}",
            literal(&name.schema),
            literal(&name.table)
        );
        let rows = query(client, &sql, DOING).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let (oid, kind): (i64, String) = (row.get(0), row.get(1));
        let triggers = format!(
            "select tgname::text, tgenabled::text from pg_trigger where tgrelid = {oid} and not tgisinternal"
        );
        let rules = format!(
            "select rulename::text, ''::text from pg_rewrite where ev_class = {oid} and rulename <> '_RETURN'"
        );
        let constraints = format!(
            "select conname::text, contype::text from pg_constraint where conrelid = {oid} and contype in ('c', 'f')"
        );
        let mut pairs = Vec::new();
        for sql in [triggers, rules, constraints] {
            let rows = query(client, &sql, DOING).await?;
            pairs.push(rows.iter().map(|r| (r.get(0), r.get(1))).collect::<Vec<(String, String)>>());
        }
        let constraints = pairs.pop().unwrap_or_default();
        let rules = pairs.pop().unwrap_or_default().into_iter().map(|(name, _)| name).collect();
        let triggers = pairs.pop().unwrap_or_default();
        let (columns, indexes) = (columns(client, oid).await?, indexes(client, oid).await?);
        Ok(Some(TargetTable { name: name.clone(), kind, columns, indexes, triggers, rules, constraints }))
    }

    fn column(&self, name: &str) -> Option<&TargetColumn> {
        self.columns.iter().find(|c| c.name == name)
    }

    /// The unique index over exactly these columns, in any order.
    pub(crate) fn unique_over(&self, names: &[&str]) -> Option<&TargetIndex> {
        let same = |i: &&TargetIndex| {
            i.unique
                && i.columns.len() == names.len()
                && names.iter().all(|n| i.columns.iter().any(|c| c == n))
        };
        self.indexes.iter().find(same)
    }

    /// Places of every column of a schema, by name (D12).
    pub(crate) fn bind(&self, schema: &TableSchema) -> Result<Vec<BoundColumn>> {
        let bind = |column: &freshet_core::Column| {
            let refuse = |why: String| {
                Error::table(
                    schema.name().clone(),
                    format!(
                        "Column {} of {} {why} in target table {}",
                        column.name,
                        schema.name(),
                        self.name
                    ),
                )
                .with_hint("Change the target table to fit the source, and start again")
            };
            let target = self.column(&column.name).ok_or_else(|| refuse("is missing".to_owned()))?;
            let bound = types::bind(&column.data_type, &target.binds);
            let (wire, encoder) =
                bound.map_err(|why| refuse(format!("is declared {}, which {why},", target.type_name)))?;
            if target.generated {
                return Err(refuse("is generated, so it cannot be written,".to_owned()));
            }
            let (name, plain) = (quote::ident(&column.name), column.name.clone());
            Ok(BoundColumn { name, plain, wire, encoder, forms: target.forms.clone() })
        };
        schema.columns().iter().map(bind).collect()
    }

    /// Whether there is something of this kind and name: a check and an index may share one.
    pub(crate) fn has(&self, kind: ObjectKind, name: &str) -> bool {
        match kind {
            ObjectKind::Check | ObjectKind::ForeignKey => self.constraints.iter().any(|(of, _)| of == name),
            ObjectKind::Key | ObjectKind::Unique | ObjectKind::Index | ObjectKind::Exclusion => {
                self.indexes.iter().any(|index| index.name == name)
            }
            ObjectKind::Comment => false,
        }
    }

    /// Everything that keeps the source table from being written here.
    pub(crate) fn misfits(&self, info: &TableInfo, replica_role: bool, keeps_rows: bool) -> Vec<String> {
        let mut out = Vec::new();
        let mut add = |line: String| out.push(line);
        match self.kind.as_str() {
            "r" => {}
            "p" if !info.schema.key().is_empty() => {}
            "p" => add("it is partitioned, and the source table has no key".into()),
            _ => add("it is not a table".into()),
        }
        for (column, source) in info.schema.columns().iter().zip(&info.columns) {
            let Some(target) = self.column(&column.name) else {
                add(format!("column {} is missing", column.name));
                continue;
            };
            let declared = &target.type_name;
            let why = match types::bind(&column.data_type, &target.binds) {
                Ok((wire, _)) => {
                    types::misfit(info.dialect, wire, &source.native_type, declared, target.binds.typmod)
                }
                Err(why) => Some(why),
            };
            if let Some(why) = why {
                add(format!("column {} is declared {declared}, which {why}", column.name));
            }
            if target.generated {
                add(format!("column {} is generated and cannot be written", column.name));
            }
            if target.identity == "a" {
                add(format!("column {} is GENERATED ALWAYS: make it BY DEFAULT", column.name));
            }
        }
        for column in self.columns.iter().filter(|c| info.schema.column(&c.name).is_none()) {
            if column.not_null && !column.has_default && !column.generated && column.identity.is_empty() {
                add(format!(
                    "column {} is NOT NULL without a default, and the source has none of that name",
                    column.name
                ));
            }
        }
        let fires: &[&str] = if replica_role { &["A", "R"] } else { &["O", "A"] };
        for (name, enabled) in &self.triggers {
            if fires.contains(&enabled.as_str()) {
                add(format!("trigger {name} would fire"));
            }
        }
        out.extend(self.rules.iter().map(|name| format!("rule {name} would rewrite statements")));
        out.extend(self.key_misfit(info, keeps_rows));
        out
    }

    fn key_misfit(&self, info: &TableInfo, keeps_rows: bool) -> Option<String> {
        let schema = &info.schema;
        let names = key_names(schema);
        if names.is_empty() || self.unique_over(&names).is_some() {
            return None;
        }
        if keeps_rows {
            return Some(format!("no unique index is over the source's key ({})", names.join(", ")));
        }
        let primary = self.indexes.iter().find(|i| i.primary)?;
        Some(format!(
            "its primary key ({}) is not the source's ({})",
            primary.columns.join(", "),
            names.join(", ")
        ))
    }

    /// What is stricter here than on the source (R17), and what is only here.
    pub(crate) fn stricter(&self, plan: &TablePlan, replica_role: bool) -> Vec<String> {
        let info = &plan.info;
        let is_generated = |name: &String| info.native.generated.iter().any(|column| column.name == *name);
        let is_source_s = |name: &String| info.native.objects.iter().any(|object| object.name == *name);
        let mut out = Vec::new();
        for column in &self.columns {
            match info.schema.column(&column.name) {
                Some(i) if column.not_null && info.schema.columns()[i].nullable => {
                    out.push(format!("Column {} is NOT NULL on the target only", column.name));
                }
                Some(_) => {}
                None if column.generated && is_generated(&column.name) => {}
                None => out.push(format!("Column {} is on the target only and is left alone", column.name)),
            }
        }
        for (name, kind) in &self.constraints {
            match kind.as_str() {
                "c" if is_source_s(name) => {}
                "c" => out.push(format!("Constraint {name} is on the target only and is enforced")),
                _ if !replica_role => out.push(format!("Foreign key {name} is enforced on the target")),
                _ => out.push(format!("Foreign key {name} of the target is not enforced for our rows")),
            }
        }
        let key = key_names(&info.schema);
        let own = |i: &&TargetIndex| i.unique && self.unique_over(&key).is_none_or(|k| k.name != i.name);
        for index in self.indexes.iter().filter(own).filter(|index| !is_source_s(&index.name)) {
            out.push(format!("Unique index {} of the target is enforced", index.name));
        }
        out.into_iter().map(|line| format!("{}: {line}", plan.target)).collect()
    }
}

/// Names of the key's columns.
pub(crate) fn key_names(schema: &TableSchema) -> Vec<&str> {
    schema.key().iter().map(|k| schema.columns()[usize::from(*k)].name.as_str()).collect()
}

async fn columns(client: &Client, oid: i64) -> Result<Vec<TargetColumn>> {
    let base = |from: &str| {
        format!(
            "(with recursive d(oid, typmod, depth) as ({from}, 0 union all \
               select t.typbasetype, t.typtypmod, d.depth + 1 from d join pg_type t on t.oid = d.oid and t.typtype = 'd') \
             select d.oid, d.typmod from d order by d.depth desc limit 1)"
        )
    };
    let sql = format!(
        "select a.attname::text, b.oid::int8, b.typmod, format_type(a.atttypid, a.atttypmod), a.attnotnull, \
         a.attgenerated <> '', a.attidentity::text, a.atthasdef, \
         format_type(b.oid, null), format_type(b.oid, -1), format_type(b.oid, b.typmod), t.typoutput::regproc::text, \
         coalesce(q.equals, 'operator(pg_catalog.=)'), e.oid::int8, e.typmod, format_type(e.oid, null) \
         from pg_attribute a cross join lateral {} b join pg_type t on t.oid = b.oid \
         left join pg_type te on te.oid = t.typelem and te.typarray = t.oid left join lateral {} e on te.oid is not null \
         left join lateral (select format('operator(%I.%s)', n.nspname, o.oprname) as equals from pg_opclass c \
           join pg_am m on m.oid = c.opcmethod and m.amname = 'btree' \
           join pg_amop ao on ao.amopfamily = c.opcfamily and ao.amopstrategy = 3 \
             and ao.amoplefttype = c.opcintype and ao.amoprighttype = c.opcintype \
           join pg_operator o on o.oid = ao.amopopr join pg_namespace n on n.oid = o.oprnamespace \
           where c.opcdefault and c.opcintype = b.oid) q on true \
         where a.attrelid = {oid} and a.attnum > 0 and not a.attisdropped order by a.attnum",
        base("select a.atttypid, a.atttypmod"),
        base("select te.oid, b.typmod"),
    );
    let rows = query(client, &sql, "Reading the target's columns").await?;
    let element = |row: &tokio_postgres::Row| {
        let oid = row.get::<_, Option<i64>>(13)? as u32;
        Some(Box::new(TargetType { oid, typmod: row.get(14), name: row.get(15), element: None }))
    };
    let column = |row: &tokio_postgres::Row| TargetColumn {
        name: row.get(0),
        binds: TargetType {
            oid: row.get::<_, i64>(1) as u32,
            typmod: row.get(2),
            name: row.get(8),
            element: element(row),
        },
        forms: TypeForms { bare: row.get(9), full: row.get(10), output: row.get(11), equals: row.get(12) },
        type_name: row.get(3),
        not_null: row.get(4),
        generated: row.get(5),
        identity: row.get(6),
        has_default: row.get(7),
    };
    Ok(rows.iter().map(column).collect())
}

async fn indexes(client: &Client, oid: i64) -> Result<Vec<TargetIndex>> {
    let sql = format!(
        "select c.relname::text, i.indisprimary, \
         i.indisunique and i.indimmediate and i.indisvalid and i.indpred is null and i.indexprs is null, \
         array(select a.attname::text from unnest(i.indkey::int2[]) with ordinality k(n, o) \
           join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.n \
           where k.o <= i.indnkeyatts order by k.o) \
         from pg_index i join pg_class c on c.oid = i.indexrelid where i.indrelid = {oid}"
    );
    let rows = query(client, &sql, "Reading the target's indexes").await?;
    let index = |row: &tokio_postgres::Row| TargetIndex {
        name: row.get(0),
        primary: row.get(1),
        unique: row.get(2),
        columns: row.get(3),
    };
    Ok(rows.iter().map(index).collect())
}
