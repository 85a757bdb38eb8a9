//! What happens to a reader whose table, connection or server changes under it.

use std::time::Duration;

use freshet_core::codec::BatchBuilder;
use freshet_core::error::{Error, ErrorKind};
use freshet_core::schema::TableName;
use freshet_core::table::{Chunk, ChunkReader, TableInfo, TableReader, View};
use freshet_mysql::table::ViewMethod;
use freshet_testkit::servers::{Flavor, MyOptions, MyServer, wait_until};

use super::common::{Database, both, reader, text};

/// Rows of one chunk.
pub async fn read(reader: &mut dyn ChunkReader, table: &TableInfo, chunk: &Chunk) -> Result<u64, Error> {
    reader.open(table, chunk).await?;
    let (mut batch, mut rows) = (BatchBuilder::new(), 0);
    loop {
        let more = reader.read(&mut batch, 64 << 10).await?;
        rows += batch.rows();
        batch.seal();
        if !more {
            return Ok(rows);
        }
    }
}

async fn whole(reader: &mut dyn ChunkReader, table: &TableInfo) -> Result<u64, Error> {
    let chunks = reader.plan(table, 100).await?;
    let mut rows = 0;
    for chunk in &chunks {
        rows += read(reader, table, chunk).await?;
    }
    Ok(rows)
}

async fn view(server: &MyServer, database: &'static str) -> View {
    reader(server, ViewMethod::Lock).view(&Database(database), 1).await.unwrap()
}

/// ALGORITHMS 2.7: what is not yet read may change, and is then refused by name; never read under another definition.
#[tokio::test]
async fn a_definition_that_changed_is_the_tables_trouble() {
    let changes = [
        "alter table T add c int",
        "alter table T drop b",
        "alter table T modify b varchar(60)",
        "alter table T add unique key (b)",
        "alter table T convert to character set latin1",
        "truncate table T",
        "drop table T",
        "drop table T; create table T (a int primary key, b varchar(50) character set utf8mb4)",
        "rename table T to U",
        "alter table T engine=innodb, force",
    ];
    for server in both() {
        for (n, change) in changes.iter().enumerate() {
            let name = format!("c{n}");
            server.sql(&format!(
                "create database if not exists changing; use changing; \
                 create table {name} (a int primary key, b varchar(50) character set utf8mb4); insert into {name} values (1, 'x'), (2, 'y')"
            ));
            let mut view = view(server, "changing").await;
            let table = view.tables.iter().find(|info| info.name().table == name).unwrap().clone();
            server.sql(&format!(
                "use changing; {}",
                change.replace('T', &name).replace('U', &format!("{name}_u"))
            ));
            let outcome = whole(view.readers[0].as_mut(), &table).await;
            let error = outcome.err().unwrap_or_else(|| panic!("{:?}: {change}", server.flavor()));
            assert_eq!(
                error.kind(),
                &ErrorKind::Table(TableName::new("changing", &name)),
                "{change}: {}",
                text(&error)
            );
            drop(view);
            server.sql("drop database changing");
        }
    }
}

/// Once a reader has touched a table nobody changes it under its rows.
#[tokio::test]
async fn a_table_that_is_being_read_waits() {
    // Servers of its own: behind an ALTER that waits the global read lock waits too.
    for flavor in [Flavor::MariaDb, Flavor::MySql] {
        let server = &MyServer::start(flavor, MyOptions::default().with_freshet_user());
        server.sql("create database pinned; create table pinned.t (a int primary key, b int); insert into pinned.t values (1, 1), (2, 2)");
        let mut view = view(server, "pinned").await;
        let table = view.tables[0].clone();
        assert_eq!(whole(view.readers[0].as_mut(), &table).await.unwrap(), 2);
        let alter = server.spawn_sql("alter table pinned.t add c int");
        wait_until(Duration::from_secs(300), "the ALTER waits for the reader", || {
            server
                .sql("select count(*) from information_schema.processlist where state like '%metadata lock%'")
                != "0"
        });
        assert_eq!(whole(view.readers[0].as_mut(), &table).await.unwrap(), 2);
        drop(view);
        alter.wait().unwrap();
    }
}

#[tokio::test]
async fn a_lost_connection_is_worth_another_try() {
    for server in both() {
        server.sql("create database lost; create table lost.t (a int primary key, b varchar(1000))");
        server.sql("insert into lost.t with recursive s(n) as (select 1 union all select n + 1 from s where n < 900) select n, repeat('x', 1000) from s");
        for _ in 0..5 {
            server.sql("insert into lost.t select a + (select max(a) from lost.t), b from lost.t");
        }
        let mut view = view(server, "lost").await;
        let table = view.tables[0].clone();
        let reader = view.readers[0].as_mut();
        let chunks = reader.plan(&table, 1_000_000).await.unwrap();
        reader.open(&table, &chunks[0]).await.unwrap();
        assert!(reader.read(&mut BatchBuilder::new(), 1000).await.unwrap());
        let ids = server.sql("select id from information_schema.processlist where user = 'freshet' and command in ('Execute', 'Query') and info like 'SELECT %lost%'");
        for id in ids.lines() {
            server.try_sql(&format!("kill {id}")).ok();
        }
        let mut batch = BatchBuilder::new();
        let error = loop {
            match reader.read(&mut batch, 1 << 20).await {
                Ok(more) => assert!(more, "the end of {ids} connections was not noticed"),
                Err(error) => break error,
            }
            batch.seal();
        };
        assert!(error.is_retryable(), "{}", text(&error));
    }
}

#[tokio::test]
async fn a_restart_of_the_server_is_worth_another_try() {
    for flavor in [Flavor::MariaDb, Flavor::MySql] {
        let server = MyServer::start(flavor, MyOptions::default().with_freshet_user());
        server.sql(
            "create database down; create table down.t (a int primary key); insert into down.t values (1)",
        );
        let mut first = view(&server, "down").await;
        let table = first.tables[0].clone();
        server.kill9();
        let error = whole(first.readers[0].as_mut(), &table).await.unwrap_err();
        assert!(error.is_retryable(), "{}", text(&error));
        let refused = reader(&server, ViewMethod::Auto).view(&Database("down"), 1).await.err().unwrap();
        assert!(refused.is_retryable(), "{}", text(&refused));
        server.restart();
        let mut second = view(&server, "down").await;
        assert_eq!(whole(second.readers[0].as_mut(), &table).await.unwrap(), 1);
    }
}

/// Server defaults that would cut results, change values or end long transactions do not reach a reader.
#[tokio::test]
async fn hostile_defaults_do_not_matter() {
    for flavor in [Flavor::MariaDb, Flavor::MySql] {
        let mut arguments = vec![
            "--transaction-isolation=READ-COMMITTED",
            "--sql-mode=ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PAD_CHAR_TO_FULL_LENGTH",
            "--default-time-zone=+05:30",
            "--character-set-server=latin1",
        ];
        if flavor == Flavor::MySql {
            // MySQL 9 has no PAD_CHAR_TO_FULL_LENGTH as a default any more than the rest has.
            arguments[1] = "--sql-mode=ANSI_QUOTES,NO_BACKSLASH_ESCAPES";
        }
        let options = arguments.into_iter().fold(MyOptions::default(), MyOptions::arg).with_freshet_user();
        let server = MyServer::start(flavor, options);
        server.sql("create database hostile; create table hostile.t (a int primary key, c char(9)); insert into hostile.t values (1, 'x'), (2, 'y'), (3, 'z')");
        server.sql(
            "set global sql_select_limit = 1; set global max_join_size = 1; set global wait_timeout = 5",
        );
        if flavor == Flavor::MariaDb {
            server.sql("set global idle_transaction_timeout = 1; set global max_statement_time = 0.5");
        } else {
            server.sql("set global max_execution_time = 1");
        }
        let mut view = reader(&server, ViewMethod::Lock).view(&Database("hostile"), 1).await.unwrap();
        // A disk that is slow is not what the limit is about.
        let limit = if flavor == Flavor::MariaDb { "set max_statement_time = 0; " } else { "" };
        server.sql(&format!("{limit}insert into hostile.t values (4, 'later')"));
        let table = view.tables[0].clone();
        assert_eq!(whole(view.readers[0].as_mut(), &table).await.unwrap(), 3, "a snapshot, whole");
    }
}
