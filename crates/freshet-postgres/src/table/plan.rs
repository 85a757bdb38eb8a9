//! Splitting a table into chunks. Bounds come from the server and are compared by the server.
//!
//! The server sorts the keys of a sample of the table's blocks, or of the whole of a small table, and tells every
//! so-manieth: one pass whatever the key is, gaps and clusters of values cost nothing. What the sample holds decides
//! only how large chunks are, never which rows lie in them: every chunk but the last ends where the next begins.
//!
//! A table without a key is split by place (`ctid`), which holds under one snapshot only: whoever loads it must read all of
//! its chunks under one view, or begin again.

use super::bounds::{Bound, KeyColumn};
use super::read::{Pinned, table_error};
use freshet_core::error::Result;
use freshet_core::table::{Chunk, TableInfo};
use tokio_postgres::Client;

/// Chunks of one table at most: each is a row of the target's control table.
const CHUNKS_MAX: u64 = 20_000;
/// A table of no more blocks is looked at whole.
const SAMPLE_BLOCKS_MIN: f64 = 2_000.0;
/// Blocks of the sample in a chunk of a larger table: enough for chunks that differ by a quarter.
const SAMPLE_BLOCKS_PER_CHUNK: f64 = 16.0;
/// Rows in a block of a table that nobody has analyzed yet.
const ROWS_PER_BLOCK: f64 = 50.0;

/// How large the server thinks that a table is.
#[derive(Clone, Copy, Debug)]
struct Size {
    blocks: f64,
    rows_per_block: f64,
    /// Rows have places that a range can be made of.
    is_heap: bool,
}

/// The last place of every chunk but the last one.
fn places(size: Size, rows: u64) -> Vec<String> {
    const OFFSET_MAX: u16 = u16::MAX;
    let blocks_least = (size.blocks / CHUNKS_MAX as f64).ceil().max(1.0);
    let blocks = (rows as f64 / size.rows_per_block).max(blocks_least) as u64;
    let ends = (1..).map(|chunk| chunk * blocks).take_while(|end| *end < size.blocks as u64);
    ends.map(|end| format!("({},{OFFSET_MAX})", end - 1)).collect()
}

/// The chunks of a table that is locked and was compared.
pub(super) async fn plan(
    client: &Client,
    table: &TableInfo,
    pinned: &Pinned,
    rows: u64,
) -> Result<Vec<Chunk>> {
    let columns = pinned.key_columns(table)?;
    if columns.is_empty() {
        return Ok(chunks(table, &[]));
    }
    let size = size(client, table, pinned).await?;
    if table.schema.key().is_empty() {
        let places =
            if size.is_heap && pinned.parts.len() == 1 { places(size, rows.max(1)) } else { Vec::new() };
        let bounds: Vec<Bound> =
            places.into_iter().filter_map(|place| Bound::new(&columns, vec![place])).collect();
        return Ok(chunks(table, &bounds));
    }
    let sql = sample(&columns, &pinned.from, size, rows.max(1));
    let found = client.query(&sql, &[]).await;
    let found = found.map_err(|error| table_error(table.name(), "Splitting", &error))?;
    let mut bounds: Vec<Bound> = Vec::with_capacity(found.len());
    for row in &found {
        bounds.extend(Bound::new(&columns, (0..columns.len()).map(|at| row.get(at)).collect()));
    }
    // Where bounds cover a part of the key only, neighbours can be the same.
    bounds.dedup();
    Ok(chunks(table, &bounds))
}

fn chunks(table: &TableInfo, bounds: &[Bound]) -> Vec<Chunk> {
    let texts = || bounds.iter().map(|bound| Some(bound.text()));
    let lower = std::iter::once(None).chain(texts());
    let upper = texts().chain(std::iter::once(None));
    let chunk = |((lower, upper), number)| Chunk { table: table.name().clone(), number, lower, upper };
    lower.zip(upper).zip(0..).map(chunk).collect()
}

async fn size(client: &Client, table: &TableInfo, pinned: &Pinned) -> Result<Size> {
    const SQL: &str = "select coalesce(sum(pg_catalog.pg_relation_size(c.oid)), 0)::float8 \
           / pg_catalog.current_setting('block_size')::float8, \
           coalesce(sum(c.reltuples) filter (where c.reltuples > 0), 0)::float8, \
           coalesce(sum(c.relpages) filter (where c.reltuples > 0), 0)::float8, \
           coalesce(pg_catalog.bool_and(a.amname = 'heap'), false) \
         from pg_catalog.pg_class c left join pg_catalog.pg_am a on a.oid = c.relam where c.oid = any($1)";
    let row = client.query_one(SQL, &[&pinned.parts]).await;
    let row = row.map_err(|error| table_error(table.name(), "Asking for the size of", &error))?;
    let (blocks, rows, pages): (f64, f64, f64) = (row.get(0), row.get(1), row.get(2));
    let rows_per_block = if rows >= 1.0 && pages >= 1.0 { rows / pages } else { ROWS_PER_BLOCK };
    Ok(Size { blocks, rows_per_block, is_heap: row.get(3) })
}

/// Which of the table's blocks are looked at, of 1; `rows` is what a chunk should hold.
fn sampled_part(size: Size, rows: u64) -> f64 {
    let blocks_per_chunk = rows as f64 / size.rows_per_block;
    let part = (SAMPLE_BLOCKS_PER_CHUNK / blocks_per_chunk).max(SAMPLE_BLOCKS_MIN / size.blocks.max(1.0));
    part.min(1.0)
}

fn sample(columns: &[KeyColumn], from: &str, size: Size, rows: u64) -> String {
    let rows = rows.max((size.blocks * size.rows_per_block) as u64 / CHUNKS_MAX);
    let part = sampled_part(size, rows);
    let clause =
        if part < 1.0 { format!(" tablesample system ({:.6})", part * 100.0) } else { String::new() };
    let step = ((rows as f64 * part).round() as u64).max(1);
    let list = |each: &dyn Fn(usize, &KeyColumn) -> String| {
        columns.iter().enumerate().map(|(at, column)| each(at, column)).collect::<Vec<_>>().join(", ")
    };
    // By the output function of the type: a cast to text may print something else.
    let printed = list(&|at, column| format!("pg_catalog.format('%s', {}) as k{at}", column.name));
    let names = list(&|at, _| format!("k{at}"));
    format!(
        "select {names} from (select {printed}, row_number() over (order by {}) as n, count(*) over () as c \
         from {from}{clause}) as s where n % greatest({step}, c / {CHUNKS_MAX} + 1) = 0 and n < c order by n",
        list(&|_, column| column.ordered())
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_tables_are_looked_at_whole_and_large_ones_in_part() {
        let size = |blocks| Size { blocks, rows_per_block: 100.0, is_heap: true };
        assert!((sampled_part(size(0.0), 1) - 1.0).abs() < 1e-9);
        assert!((sampled_part(size(2_000.0), 1_000_000) - 1.0).abs() < 1e-9);
        assert!((sampled_part(size(1e7), 100_000) - 0.016).abs() < 1e-9);
        assert!((sampled_part(size(1e7), 100) - 1.0).abs() < 1e-9);
        assert!((sampled_part(size(1e5), 100_000_000) - 0.02).abs() < 1e-9);
    }

    #[test]
    fn places_end_with_a_block() {
        let size = |blocks| Size { blocks, rows_per_block: 50.0, is_heap: true };
        assert_eq!(places(size(25.0), 500), ["(9,65535)", "(19,65535)"]);
        assert_eq!(places(size(20.0), 500), ["(9,65535)"]);
        assert!(places(size(0.0), 500).is_empty() && places(size(10.0), 500).is_empty());
        assert_eq!(places(size(3.0), 1), ["(0,65535)", "(1,65535)"]);
        assert!(places(size(1e6), 1).len() <= CHUNKS_MAX as usize);
    }

    #[test]
    fn a_sample_takes_every_so_manieth_key() {
        let size = Size { blocks: 1e6, rows_per_block: 100.0, is_heap: true };
        let key = [KeyColumn { name: "\"a\"".to_owned(), collation: Some("\"s\".\"c\"".to_owned()) }];
        let sql = sample(&key, "only \"s\".\"t\"", size, 100_000);
        assert!(sql.contains("from only \"s\".\"t\" tablesample system (1.600000)"), "{sql}");
        assert!(sql.contains("over (order by \"a\" collate \"s\".\"c\")"), "{sql}");
        assert!(sql.contains("greatest(1600, c / 20000 + 1)"), "{sql}");
    }
}
