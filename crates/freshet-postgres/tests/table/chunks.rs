//! Chunks by key of every kind: each row in exactly one of them, whatever the order of the key's type is.

use super::common::{Database, find, read_chunk, read_table};
use freshet_core::table::Chunk;

/// Key types with an order of their own; `n` runs over the rows.
const KEYS: &[(&str, &str, &str)] = &[
    ("int", "k int primary key", "n * 7 - 900"),
    ("numeric", "k numeric primary key", "case n when 0 then 'NaN' when 1 then '-Infinity' else n / 7.0 end"),
    (
        "float",
        "k float8 primary key",
        "case n when 0 then 'NaN' when 1 then '-Infinity' else n / 7.0 - 9 end",
    ),
    ("text", "k text primary key", "chr(65 + n % 26) || n || '''\\\",'"),
    (
        "icu",
        "k text collate \"en-x-icu\" primary key",
        "chr(case n % 2 when 0 then 97 else 65 end + n % 26) || n",
    ),
    ("ci", "k text collate ci primary key", "chr(case n % 2 when 0 then 97 else 65 end + n % 26) || n"),
    ("bpchar", "k char(12) primary key", "chr(65 + n % 26) || n"),
    ("bytea", "k bytea primary key", "decode(md5(n::text), 'hex')"),
    ("uuid", "k uuid primary key", "md5(n::text)::uuid"),
    (
        "date",
        "k date primary key",
        "case n when 0 then 'infinity' when 1 then '-infinity' else '2020-01-01'::date + n end",
    ),
    ("timestamptz", "k timestamptz primary key", "'2020-01-01'::timestamptz + n * interval '1.000001 s'"),
    ("interval", "k interval primary key", "n * interval '7 hours'"),
    ("timetz", "k timetz primary key", "'00:00+02'::timetz + n * interval '1 s'"),
    ("money", "k money primary key", "n::money"),
    ("bit", "k bit(12) primary key", "n::bit(12)"),
    ("varbit", "k varbit primary key", "n::bit(12)::varbit"),
    ("bool", "k bool, l int, primary key (k, l)", "n % 2 = 0, n"),
    ("lsn", "k pg_lsn primary key", "'0/0'::pg_lsn + n"),
    ("oid", "k oid primary key", "4294960000 + n"),
    ("domain", "k price primary key", "n / 100.0"),
    ("pair", "k int, l text, primary key (l, k)", "n / 10, 'x' || n % 10"),
    ("many_of_one", "k int, l int, primary key (k, l)", "1, n"),
    (
        "prefix",
        "k int, l mood, m int, primary key (k, l, m)",
        "n / 50, (array['sad', 'ok'])[n % 2 + 1]::mood, n",
    ),
    ("enum_first", "l mood, m int, primary key (l, m)", "(array['sad', 'ok'])[n % 2 + 1]::mood, n"),
    ("citext", "k citext primary key", "chr(case n % 2 when 0 then 97 else 65 end + n % 26) || n"),
    ("descending", "k int not null, l int not null", "n % 10, n"),
];

const ROWS: usize = 400;

#[tokio::test]
async fn every_row_lies_in_exactly_one_chunk_whatever_the_key_is() {
    let database = Database::new(
        "create extension citext; create type mood as enum ('sad', 'ok'); create domain price as numeric(8,2); \
         create collation ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false)",
    );
    for (name, columns, values) in KEYS {
        let sql = format!(
            "create table t_{name} ({columns}); insert into t_{name} select {values} from generate_series(0, {}) n",
            ROWS - 1
        );
        database.sql(&sql);
    }
    database.sql(
        "create unique index descending on t_descending (k desc, l); \
         alter table t_descending replica identity using index descending",
    );
    let mut view = database.view(1).await;
    for (name, ..) in KEYS {
        let table = find(&view.tables, &format!("t_{name}"));
        let whole = read_table(view.readers[0].as_mut(), &table, 1_000_000).await.unwrap();
        assert_eq!(whole.len(), ROWS, "{name}");
        for chunk_rows in [3, 40, 133] {
            let chunks = view.readers[0].plan(&table, chunk_rows).await.unwrap();
            let is_one_chunk = matches!(*name, "enum_first" | "citext");
            assert_eq!(chunks.len() == 1, is_one_chunk, "{name} by {chunk_rows}: {} chunks", chunks.len());
            let rows = read_table(view.readers[0].as_mut(), &table, chunk_rows).await.unwrap();
            assert_eq!(rows, whole, "{name} by {chunk_rows}");
        }
    }
}

#[tokio::test]
async fn a_large_table_is_split_by_a_sample_of_it() {
    let database = Database::new(
        "create table t (k bigint primary key, filler text) with (fillfactor = 10); \
         insert into t select case when n % 3 = 0 then n else 1000000000000 + n * 1000 end, repeat('x', 60) \
         from generate_series(1, 30000) n; analyze t",
    );
    let mut view = database.view(2).await;
    let table = view.tables[0].clone();
    assert!(
        database.sql("select pg_relation_size('t') / 8192 > 2500").contains('t'),
        "larger than what is read whole"
    );
    let chunks = view.readers[0].plan(&table, 1_000).await.unwrap();
    assert!((15..60).contains(&chunks.len()), "{} chunks", chunks.len());
    let (mut count, mut largest) = (0, 0);
    for chunk in &chunks {
        let rows = read_chunk(view.readers[1].as_mut(), &table, chunk).await.unwrap().len();
        count += rows;
        largest = largest.max(rows);
    }
    assert_eq!(count, 30_000);
    assert!(largest < 5_000, "{largest} rows in one chunk");
}

/// R7: without a key chunks are ranges of places: every row of the view in one of them, whatever happens meanwhile.
#[tokio::test]
async fn r7_a_table_without_a_key_is_split_by_place() {
    let database = Database::new("");
    database.sql(
        "create table t (n int, filler text); insert into t select n, repeat('x', 500) from generate_series(1, 1000) n; \
         delete from t where n % 5 = 0; analyze t; create table empty (n int); create table one (n int); insert into one values (1)",
    );
    let mut view = database.view(2).await;
    let table = find(&view.tables, "t");
    let chunks = view.readers[0].plan(&table, 100).await.unwrap();
    assert!((5..15).contains(&chunks.len()), "{chunks:?}");
    database.sql("update t set n = n + 10000 where n < 300; delete from t where n between 600 and 700");
    database.sql("vacuum t; insert into t select n, 'new' from generate_series(5001, 6000) n");
    let mut rows = Vec::new();
    for (chunk, reader) in chunks.iter().zip([0, 1].into_iter().cycle()) {
        let part = read_chunk(view.readers[reader].as_mut(), &table, chunk).await;
        rows.extend(part.unwrap());
    }
    assert_eq!(rows.len(), 800, "every row of the view once");
    rows.sort();
    rows.dedup();
    assert_eq!(rows.len(), 800);
    for name in ["empty", "one"] {
        let table = find(&view.tables, name);
        assert_eq!(view.readers[0].plan(&table, 100).await.unwrap().len(), 1, "{name}");
    }
}

/// A plan keeps its order when the column's collation is altered, in the view it was made in and in a later one.
#[tokio::test]
async fn g10_a_plan_outlives_its_columns_collation() {
    let database = Database::new(
        "create table t (k text collate \"en-x-icu\" primary key); \
         insert into t select chr(case n % 2 when 0 then 97 else 65 end + n % 26) || n from generate_series(1, 300) n",
    );
    let mut view = database.view(1).await;
    let table = view.tables[0].clone();
    let chunks = view.readers[0].plan(&table, 10).await.unwrap();
    let whole = read_table(view.readers[0].as_mut(), &table, 1_000).await.unwrap();
    database.sql("alter table t alter k type text collate \"C\"");
    let mut later = database.view(1).await;
    for reader in [view.readers[0].as_mut(), later.readers[0].as_mut()] {
        let mut rows = Vec::new();
        for chunk in &chunks {
            rows.extend(read_chunk(reader, &table, chunk).await.unwrap());
        }
        rows.sort();
        assert_eq!(rows, whole);
    }
}

#[tokio::test]
async fn bounds_of_another_key_are_refused() {
    let database = Database::new("create table t (a int primary key, b int); create table u (a int)");
    let mut view = database.view(1).await;
    for (name, bound) in [("t", "1"), ("t", "'1','2'"), ("u", "'1'"), ("t", "'1' or true")] {
        let table = find(&view.tables, name);
        let chunk = Chunk { table: table.name().clone(), number: 0, lower: Some(bound.into()), upper: None };
        let error = view.readers[0].open(&table, &chunk).await.unwrap_err();
        assert_eq!(error.kind(), &freshet_core::ErrorKind::Corrupt, "{bound}: {error}");
    }
    let table = find(&view.tables, "t");
    let chunk =
        Chunk { table: table.name().clone(), number: 0, lower: Some("'0); drop'".into()), upper: None };
    let error = view.readers[0].open(&table, &chunk).await.unwrap_err();
    assert!(!super::common::words(&error).contains("drop"), "{}", super::common::words(&error));
    assert_eq!(
        read_table(view.readers[0].as_mut(), &table, 10).await.unwrap().len(),
        0,
        "the reader goes on"
    );
}

#[tokio::test]
async fn r26_children_by_inheritance_are_tables_of_their_own() {
    let database = Database::new(
        "create table parent (a int primary key); create table child (b int) inherits (parent); \
         insert into parent select generate_series(1, 100); insert into child select n, n from generate_series(101, 250) n",
    );
    let mut view = database.view(1).await;
    for chunk_rows in [10, 1_000] {
        for (name, count) in [("parent", 100), ("child", 150)] {
            let table = find(&view.tables, name);
            assert_eq!(
                read_table(view.readers[0].as_mut(), &table, chunk_rows).await.unwrap().len(),
                count,
                "{name}"
            );
        }
    }
}
