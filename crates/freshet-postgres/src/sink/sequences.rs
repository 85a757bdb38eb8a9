//! Sequences of a PostgreSQL source on the target: made with their table, set when it becomes consistent.
//!
//! The stream does not carry them. So a value is set once: to what the source's sequence gave last, or to what its column
//! holds, whichever is further, and never back. Until a cut-over nobody takes values on the target.

use crate::error::refusal;
use crate::quote::{self, ident, literal};
use crate::sink::control;
use crate::sink::objects::{Names, attempt};
use freshet_core::sink::TablePlan;
use freshet_core::table::{Dialect, SequenceInfo, SequenceRole};
use freshet_core::{DataType, Result, TableName};
use tokio_postgres::Client;

/// What a run and a check say of every pipeline with sequences.
pub(crate) const NOT_FOLLOWED: &str = "Values of sequences after the load: they are set when the tables become consistent and not followed, so set them again at a cut-over (docs/operations.md)";

/// The sequences of a table that are in this sink's words.
pub(crate) fn of(plan: &TablePlan) -> impl Iterator<Item = &SequenceInfo> {
    let ours = plan.info.dialect == Dialect::Postgres;
    plan.info.native.sequences.iter().filter(move |_| ours)
}

/// The sequence whose next value is a column's default, or that is behind an identity.
pub(crate) fn of_column(plan: &TablePlan, column: usize) -> Option<&SequenceInfo> {
    let is_here = |s: &&SequenceInfo| s.column.map(usize::from) == Some(column);
    let numbers = |s: &&SequenceInfo| s.is_default || matches!(s.role, SequenceRole::Identity { .. });
    of(plan).filter(is_here).find(numbers)
}

/// What of the sequences is another way on the target, one line each.
pub(crate) fn not_carried(plan: &TablePlan) -> Vec<String> {
    let always = of(plan).filter(|s| s.role == SequenceRole::Identity { always: true });
    let line = |s: &SequenceInfo| {
        let column = column_name(plan, s)?;
        Some(format!(
            "GENERATED ALWAYS of column {column} of {}: it would refuse the source's values; to make it: \
             alter table {} alter column {} set generated always",
            plan.info.name(),
            quote::table(&plan.target),
            ident(column)
        ))
    };
    always.filter_map(line).collect()
}

fn column_name<'a>(plan: &'a TablePlan, sequence: &SequenceInfo) -> Option<&'a str> {
    let column = plan.info.schema.columns().get(usize::from(sequence.column?))?;
    Some(&column.name)
}

/// The sequences of a table that was just made, and the defaults that use them. Returns a line for each that the target
/// does not take.
pub(crate) async fn make(client: &Client, plan: &TablePlan, names: &Names<'_>) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for sequence in of(plan) {
        lines.extend(match sequence.role {
            SequenceRole::Identity { .. } => rename_identity(client, plan, sequence).await?,
            SequenceRole::Owned | SequenceRole::Free => make_one(client, plan, names, sequence).await?,
        });
    }
    Ok(lines)
}

async fn make_one(
    client: &Client,
    plan: &TablePlan,
    names: &Names<'_>,
    sequence: &SequenceInfo,
) -> Result<Vec<String>> {
    let target = names.beside(plan, &sequence.name);
    let there = quote::table(&target);
    let mut statements = Vec::new();
    match (find(client, &there).await?, sequence.role) {
        (None, _) => {
            if !control::has_schema(client, &target.schema).await? {
                statements.push(format!("create schema {}", ident(&target.schema)));
            }
            statements
                .push(format!("create sequence {there} as {} {}", sequence.data_type, sequence.options));
        }
        (Some(true), SequenceRole::Owned) => {
            return Ok(vec![format!("Sequence {}: {there} belongs to another column", sequence.name)]);
        }
        (Some(_), _) => {}
    }
    if let Some(column) = column_name(plan, sequence) {
        let (table, column) = (quote::table(&plan.target), ident(column));
        if sequence.is_default {
            let next = format!("nextval({}::regclass)", literal(&there));
            statements.push(format!("alter table {table} alter column {column} set default {next}"));
        }
        if sequence.role == SequenceRole::Owned {
            statements.push(format!("alter sequence {there} owned by {table}.{column}"));
        }
    }
    let mut lines = Vec::new();
    for sql in statements {
        if let Err(error) = attempt(client, plan, &sql).await? {
            let why = refusal(&error).unwrap_or_default();
            lines.push(format!(
                "Sequence {}: the target refuses it ({why}); to make it: {sql}",
                sequence.name
            ));
        }
    }
    Ok(lines)
}

/// Whether a sequence belongs to a column; `None` if it is not there.
async fn find(client: &Client, name: &str) -> Result<Option<bool>> {
    let sql = format!(
        "select exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = s.seqrelid \
           and d.refclassid = 'pg_class'::regclass and d.refobjsubid > 0 and d.deptype in ('a', 'i')) \
         from pg_sequence s where s.seqrelid = to_regclass({})",
        literal(name)
    );
    let rows = control::query(client, &sql, "Looking for a sequence of the target").await?;
    Ok(rows.first().map(|row| row.get(0)))
}

/// The server chose a name for what is behind an identity.
async fn rename_identity(client: &Client, plan: &TablePlan, sequence: &SequenceInfo) -> Result<Vec<String>> {
    let Some(column) = column_name(plan, sequence) else { return Ok(Vec::new()) };
    let sql = format!(
        "select n.nspname::text, c.relname::text from pg_class c join pg_namespace n on n.oid = c.relnamespace \
         where c.oid = to_regclass(pg_get_serial_sequence({}, {}))",
        literal(&quote::table(&plan.target)),
        literal(column)
    );
    let rows = control::query(client, &sql, "Looking for a sequence of the target").await?;
    let Some(row) = rows.first() else { return Ok(Vec::new()) };
    let (schema, name): (String, String) = (row.get(0), row.get(1));
    if name == sequence.name.table {
        return Ok(Vec::new());
    }
    let chosen = quote::table(&TableName::new(schema, name));
    let sql = format!("alter sequence {chosen} rename to {}", ident(&sequence.name.table));
    let refused = attempt(client, plan, &sql).await?.err();
    Ok(refused
        .map(|e| format!("Name of sequence {}: {}", sequence.name, refusal(&e).unwrap_or_default()))
        .into_iter()
        .collect())
}

/// Sets the values of a table's sequences that are there, inside a transaction. Returns a line for each that the target
/// does not take.
pub(crate) async fn set_values(client: &Client, plan: &TablePlan, names: &Names<'_>) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for sequence in of(plan) {
        let sql = set_value_sql(plan, names, sequence);
        if let Err(error) = attempt(client, plan, &sql).await? {
            let why = refusal(&error).unwrap_or_default();
            lines.push(format!("Value of sequence {}: the target refuses it ({why})", sequence.name));
        }
    }
    Ok(lines)
}

/// `setval` to the last value that the source's sequence gives up to the furthest one: of the source, of the column, and of
/// the target, where somebody may have taken some. One that goes round tells nothing by its column.
fn set_value_sql(plan: &TablePlan, names: &Names<'_>, sequence: &SequenceInfo) -> String {
    let by_name = format!("to_regclass({})", literal(&quote::table(&names.beside(plan, &sequence.name))));
    let table = quote::table(&plan.target);
    let (place, held) = match column_name(plan, sequence) {
        Some(column) => {
            let of_column =
                format!("to_regclass(pg_get_serial_sequence({}, {}))", literal(&table), literal(column));
            let place = match sequence.role {
                SequenceRole::Identity { .. } => of_column,
                SequenceRole::Owned => format!("coalesce({of_column}, {by_name})"),
                SequenceRole::Free => by_name,
            };
            let data_type = &plan.info.schema.columns()[sequence.column.map_or(0, usize::from)].data_type;
            let is_number = matches!(data_type, DataType::Int { .. } | DataType::Decimal { .. });
            let (column, is_numbered) = (ident(column), of_column_is(sequence));
            let held = format!(
                "select max({column})::numeric as most, min({column})::numeric as least from {table}"
            );
            (place, (is_number && is_numbered).then_some(held))
        }
        None => (by_name, None),
    };
    let held = held.unwrap_or_else(|| "select null::numeric as most, null::numeric as least".to_owned());
    let last = sequence.last.map_or("null".to_owned(), |last| format!("({last})"));
    format!(
        "select setval(q.id, least(greatest(v.value, q.seqmin), q.seqmax)::int8, true) from \
         (select seqrelid as id, seqmin, seqmax, seqcycle, seqincrement::numeric as step, seqstart::numeric as start, \
            {last}::numeric as there, pg_sequence_last_value(seqrelid)::numeric as here \
          from pg_sequence where seqrelid = {place}) q cross join ({held}) m \
         cross join lateral (select coalesce(q.there, q.start - q.step) as base, \
            case when q.seqcycle then coalesce(q.there, q.here) when q.step > 0 then greatest(q.there, q.here, m.most) \
              else least(q.there, q.here, m.least) end as far) f \
         cross join lateral (select f.base + q.step * case when (f.far - f.base) * sign(q.step) <= 0 then 0 \
            else div(f.far - f.base, q.step) end as value) v \
         where case when q.step > 0 then v.value >= q.seqmin else v.value <= q.seqmax end"
    )
}

/// Whether the values of the column are the sequence's.
fn of_column_is(sequence: &SequenceInfo) -> bool {
    sequence.is_default || matches!(sequence.role, SequenceRole::Identity { .. })
}
