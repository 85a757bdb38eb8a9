//! Splitting a table into chunks. Bounds come from the server and are compared by the server.
//!
//! A key that begins with an integer is split by arithmetic between its least and its largest value, in halves
//! until the server estimates no more rows than wanted in each part: an estimate is two looks into the index, and
//! gaps and clusters of values cost nothing. Any other key is walked along in steps of the wanted number of rows,
//! which reads the key once. Estimates decide only how large chunks are, never which rows lie in them.

use freshet_core::error::{Error, Result};
use freshet_core::table::{Chunk, IndexInfo, IndexPart, TableInfo};

use super::bounds::{Bound, KeyPart, PartKind, PrimaryPart, usable_parts};
use super::read::table_error;
use crate::catalog::{sql_ident, sql_name, sql_string};
use crate::wire::{Connection, Row};

/// Chunks of one table at most: each is a row of the target's control table.
const CHUNKS_MAX: usize = 20_000;
/// Looks into the index at most.
const ESTIMATES_MAX: usize = 40_000;

/// The chunks of a table.
pub(super) async fn plan(connection: &mut Connection, table: &TableInfo, rows: u64) -> Result<Vec<Chunk>> {
    let rows = rows.max(1);
    let Some(index) = key_index(connection, table).await? else { return Ok(chunks(table, &[], &[])) };
    let bounds = match index.parts.first().map(|part| &part.kind) {
        None => Vec::new(),
        Some(PartKind::Integer) => match split(connection, table, &index, rows).await? {
            Some(bounds) => bounds,
            None => walk(connection, table, &index, rows).await?,
        },
        Some(_) => walk(connection, table, &index, rows).await?,
    };
    Ok(chunks(table, &index.parts, &bounds))
}

/// The index that a table is read along, and its columns that bounds can be made of.
#[derive(Debug)]
pub(super) struct KeyIndex {
    /// The index's name, quoted.
    pub(super) name: String,
    pub(super) parts: Vec<KeyPart>,
}

/// The index of the table's key; `None` without a key.
pub(super) async fn key_index(connection: &mut Connection, table: &TableInfo) -> Result<Option<KeyIndex>> {
    if table.schema.key().is_empty() {
        return Ok(None);
    }
    let name = table.name();
    let sql = format!(
        "SELECT SUB_PART, COLLATION, TABLE_SCHEMA, TABLE_NAME FROM information_schema.STATISTICS \
         WHERE TABLE_SCHEMA = {} AND TABLE_NAME = {} AND INDEX_NAME = 'PRIMARY' ORDER BY SEQ_IN_INDEX",
        sql_string(&name.schema),
        sql_string(&name.table)
    );
    let rows = connection.query(&sql).await?;
    let is_ours = |row: &&Row| row.text(2) == Some(&name.schema) && row.text(3) == Some(&name.table);
    let part =
        |row: &Row| PrimaryPart { has_prefix: row.get(0).is_some(), is_descending: row.text(1) == Some("D") };
    let primary: Vec<PrimaryPart> = rows.into_iter().filter(is_ours).map(part).collect();
    if !primary.is_empty() {
        return Ok(Some(KeyIndex { name: "PRIMARY".to_owned(), parts: usable_parts(table, &primary) }));
    }
    // A unique index stands for the primary key.
    let is_key = |index: &&IndexInfo| {
        index.unique
            && index.parts.iter().map(|part| part.column).eq(table.schema.key().iter().copied().map(Some))
    };
    let index = table.indexes.iter().find(is_key).ok_or_else(|| {
        Error::table(name.clone(), format!("The key of table {name} changed while it was loaded"))
            .with_hint("Start the load again")
    })?;
    let part =
        |part: &IndexPart| PrimaryPart { has_prefix: part.prefix.is_some(), is_descending: part.descending };
    let parts: Vec<PrimaryPart> = index.parts.iter().map(part).collect();
    Ok(Some(KeyIndex { name: sql_ident(&index.name), parts: usable_parts(table, &parts) }))
}

fn chunks(table: &TableInfo, parts: &[KeyPart], bounds: &[Bound]) -> Vec<Chunk> {
    let texts: Vec<String> = bounds.iter().map(|bound| bound.text(parts)).collect();
    let lower = std::iter::once(None).chain(texts.iter().cloned().map(Some));
    let upper = texts.iter().cloned().map(Some).chain(std::iter::once(None));
    let chunk = |((lower, upper), number)| Chunk { table: table.name().clone(), number, lower, upper };
    lower.zip(upper).zip(0..).map(chunk).collect()
}

/// Bounds by arithmetic on the key's first column; `None` where one value of it stands for too many rows, or where
/// the server's estimates are of no use.
async fn split(
    connection: &mut Connection,
    table: &TableInfo,
    index: &KeyIndex,
    rows: u64,
) -> Result<Option<Vec<Bound>>> {
    let parts = &index.parts;
    let Some(part) = parts.first() else { return Ok(None) };
    let (name, column) = (sql_name(table.name()), &part.column);
    let ends = connection.query(&format!("SELECT MIN({column}), MAX({column}) FROM {name}")).await;
    let ends = ends.map_err(|error| table_error(table.name(), error))?;
    let end = |at| ends.first(at).and_then(|text| text.parse::<i128>().ok());
    let (Some(least), Some(largest)) = (end(0), end(1)) else { return Ok(Some(Vec::new())) };
    let (mut todo, mut leaves, mut looks) = (vec![(least, largest)], Vec::new(), 0);
    let mut rows = rows;
    while let Some((low, high)) = todo.pop() {
        looks += 1;
        let count = estimate(connection, table, &index.name, column, low, high).await?;
        rows = rows.max(count / CHUNKS_MAX as u64 * 2);
        let is_small = count <= rows + rows / 2;
        if is_small || looks >= ESTIMATES_MAX {
            leaves.push((high, count));
        } else if low == high && parts.len() > 1 && count > rows.saturating_mul(4) {
            return Ok(None);
        } else if low == high {
            leaves.push((high, count));
        } else {
            let middle = low + (high - low) / 2;
            todo.push((middle + 1, high));
            todo.push((low, middle));
        }
    }
    let cuts = merge(&leaves, rows);
    if is_underestimated(connection, table, &index.name, column, cuts.first(), rows).await? {
        return Ok(None);
    }
    cuts.into_iter().map(|high| Bound::new(parts, vec![high.to_string()])).collect::<Result<_>>().map(Some)
}

/// Joins neighbours that are small together; gives the upper ends, but for the last one.
fn merge(leaves: &[(i128, u64)], rows: u64) -> Vec<i128> {
    let (mut cuts, mut held) = (Vec::new(), 0);
    let mut before: Option<i128> = None;
    for (high, count) in leaves {
        if let Some(cut) = before
            && held + count > rows + rows / 4
        {
            cuts.push(cut);
            held = 0;
        }
        held += count;
        before = Some(*high);
    }
    cuts
}

/// Rows that the server expects between two values of the key's first column. USE and not FORCE INDEX: MySQL gives
/// no estimate for an index that it has no choice about.
async fn estimate(
    connection: &mut Connection,
    table: &TableInfo,
    index: &str,
    column: &str,
    low: i128,
    high: i128,
) -> Result<u64> {
    let sql = format!(
        "EXPLAIN FORMAT=TRADITIONAL SELECT {column} FROM {} USE INDEX ({index}) \
         WHERE {column} BETWEEN {low} AND {high} ORDER BY {column}",
        sql_name(table.name())
    );
    let answer = connection.query(&sql).await.map_err(|error| table_error(table.name(), error))?;
    let rows = answer.column("rows").and_then(|at| answer.first(at)).and_then(|text| text.parse().ok());
    Ok(rows.unwrap_or(0))
}

/// Whether the first chunk holds far more rows than the server expects: MySQL believes its statistics over what it
/// finds in the index, and those of a table that was just filled say that it is empty.
async fn is_underestimated(
    connection: &mut Connection,
    table: &TableInfo,
    index: &str,
    column: &str,
    first_cut: Option<&i128>,
    rows: u64,
) -> Result<bool> {
    let upper = first_cut.map_or(String::new(), |cut| format!("WHERE {column} <= {cut}"));
    let sql = format!(
        "SELECT 1 FROM {} FORCE INDEX ({index}) {upper} ORDER BY {column} LIMIT 1 OFFSET {}",
        sql_name(table.name()),
        rows.saturating_mul(3)
    );
    let probe = connection.query(&sql).await.map_err(|error| table_error(table.name(), error))?;
    Ok(!probe.is_empty())
}

/// Bounds by steps along the key.
async fn walk(
    connection: &mut Connection,
    table: &TableInfo,
    index: &KeyIndex,
    rows: u64,
) -> Result<Vec<Bound>> {
    let KeyIndex { name: index, parts } = index;
    let printed: Vec<String> = parts.iter().map(KeyPart::printed).collect();
    let order: Vec<&str> = parts.iter().map(|part| part.column.as_str()).collect();
    let (printed, order, name) = (printed.join(", "), order.join(", "), sql_name(table.name()));
    let mut bounds: Vec<Bound> = Vec::new();
    while bounds.len() + 1 < CHUNKS_MAX {
        let after = bounds.last().map_or(String::new(), |bound| format!("WHERE {}", bound.after(parts)));
        let sql = format!(
            "SELECT {printed} FROM {name} FORCE INDEX ({index}) {after} ORDER BY {order} LIMIT 1 OFFSET {}",
            rows - 1
        );
        let step = connection.query(&sql).await.map_err(|error| table_error(table.name(), error))?;
        let Some(row) = step.rows().first() else { break };
        let values = (0..parts.len()).filter_map(|at| row.text(at).map(str::to_owned)).collect::<Vec<_>>();
        bounds.push(Bound::new(parts, values)?);
    }
    Ok(bounds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_neighbours_are_joined_and_the_last_chunk_is_open() {
        let check =
            |leaves: &[(i128, u64)], expect: &[i128]| assert_eq!(merge(leaves, 100), expect, "{leaves:?}");
        check(&[], &[]);
        check(&[(10, 500)], &[]);
        check(&[(10, 100), (20, 100), (30, 100)], &[10, 20]);
        check(&[(10, 60), (20, 60), (30, 60), (40, 1)], &[20]);
        check(&[(10, 1), (20, 1), (30, 150), (40, 1)], &[20, 30]);
    }
}
