//! Definitions that change under a view: never wrong rows, always the table's own trouble, and the reader goes on.

use super::common::{Database, find, read_chunk, read_table, words};
use freshet_core::ErrorKind;
use freshet_core::codec::BatchBuilder;
use freshet_core::table::View;

const TABLES: &str = "create table t (id int primary key, v varchar(20)); \
    insert into t select n, 'v' || n from generate_series(1, 200) n; create table other (id int primary key); \
    insert into other select generate_series(1, 20); \
    create table p (id int primary key, v text) partition by range (id); \
    create table p1 partition of p for values from (0) to (100); create table p2 partition of p for values from (100) to (200); \
    create table loose (id int not null, v text); insert into loose values (500, 'not in the view'); \
    insert into p select n, 'x' from generate_series(0, 199) n";

async fn opened(name: &str) -> (Database<'static>, View) {
    let database = Database::new(TABLES);
    let mut view = database.view(1).await;
    let table = find(&view.tables, name);
    assert_eq!(read_table(view.readers[0].as_mut(), &table, 50).await.unwrap().len(), 200);
    (database, view)
}

async fn check(name: &str, change: &str, expect: &str) {
    let (database, mut view) = opened(name).await;
    let table = find(&view.tables, name);
    let chunks = view.readers[0].plan(&table, 50).await.unwrap();
    database.sql(change);
    let error = view.readers[0].open(&table, &chunks[0]).await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Table(table.name().clone()), "{change}: {error}");
    assert!(words(&error).contains(expect), "{change}: {}", words(&error));
    let error = view.readers[0].plan(&table, 50).await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Table(table.name().clone()), "{change}: {error}");
    let other = find(&view.tables, "other");
    assert_eq!(
        read_table(view.readers[0].as_mut(), &other, 5).await.unwrap().len(),
        20,
        "the other table can be read"
    );
}

#[tokio::test]
async fn r22_a_truncated_table_is_not_an_empty_one() {
    check("t", "truncate t", "was truncated or rewritten").await;
    check("p", "truncate p1", "was truncated or rewritten").await;
}

#[tokio::test]
async fn tables_that_go_away_or_come_again() {
    check("t", "drop table t", "was dropped or renamed").await;
    check("t", "alter table t rename to u", "was dropped or renamed").await;
    check("t", "drop table t; create table t (id int primary key, v varchar(20))", "was dropped or renamed")
        .await;
    check("t", "alter table t rename to u; alter table loose rename to t", "dropped").await;
}

#[tokio::test]
async fn columns_that_are_not_what_they_were() {
    check("t", "alter table t drop column v", "definition").await;
    check("t", "alter table t drop column v, add column v varchar(20)", "definition").await;
    check("t", "alter table t rename column v to w", "definition").await;
    check("t", "alter table t alter v type varchar(30)", "definition").await;
    check("t", "alter table t alter v type text", "definition").await;
    check("t", "alter table t alter id type bigint", "rewritten").await;
}

#[tokio::test]
async fn r24_partitions_that_come_and_go() {
    check("p", "alter table p detach partition p2", "partition of table public.p was attached or detached")
        .await;
    check("p", "alter table loose add primary key (id); alter table p attach partition loose for values from (400) to (600)", "attached").await;
    check("p", "drop table p2", "").await;
}

/// R24: a partition that was made after the view has none of its rows, and is no reason to stop.
#[tokio::test]
async fn r24_a_partition_that_is_made_during_a_load_does_not_disturb_it() {
    let (database, mut view) = opened("p").await;
    let table = find(&view.tables, "p");
    let chunks = view.readers[0].plan(&table, 50).await.unwrap();
    database.sql(
        "create table p3 partition of p for values from (200) to (300); insert into p values (250, 'new'); \
         create table p4 partition of p for values from (300) to (500) partition by range (id); \
         create table p5 partition of p4 for values from (300) to (400); insert into p values (350, 'new')",
    );
    for chunk in &chunks {
        read_chunk(view.readers[0].as_mut(), &table, chunk).await.unwrap();
    }
    assert_eq!(read_table(view.readers[0].as_mut(), &table, 50).await.unwrap().len(), 200);
}

/// A column that came after the view is not in the view's rows, and nothing else is wrong.
#[tokio::test]
async fn a_new_column_does_not_disturb_the_older_view() {
    let (database, mut view) = opened("t").await;
    database.sql("alter table t add column w int default 5; create index on t (v); vacuum t; analyze t");
    let table = find(&view.tables, "t");
    let rows = read_table(view.readers[0].as_mut(), &table, 50).await.unwrap();
    assert_eq!((rows.len(), rows[0].len()), (200, 2));
}

/// A reader keeps a table's lock for a chunk, not for the view: a definition can change between two chunks.
#[tokio::test]
async fn no_lock_is_kept_between_chunks() {
    let (database, mut view) = opened("t").await;
    let table = find(&view.tables, "t");
    let chunks = view.readers[0].plan(&table, 50).await.unwrap();
    read_chunk(view.readers[0].as_mut(), &table, &chunks[0]).await.unwrap();
    // Ours: the server itself vacuums and analyzes once a minute.
    let locks = "select count(*) from pg_locks l join pg_stat_activity a using (pid) \
         where l.relation = 't'::regclass and a.datname = current_database() and a.application_name like 'freshet%'";
    assert_eq!(database.sql(locks).trim(), "0");
    view.readers[0].open(&table, &chunks[0]).await.unwrap();
    assert_eq!(database.sql(locks).trim(), "1", "while a chunk is read nobody changes the table");
    assert!(view.readers[0].read(&mut BatchBuilder::new(), 100).await.unwrap());
    read_chunk(view.readers[0].as_mut(), &table, &chunks[1]).await.unwrap();
    assert_eq!(database.sql(locks).trim(), "0");
}
