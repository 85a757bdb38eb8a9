//! Every column type: the catalogue's schema is the stream's, and a loaded row is the streamed row, byte for byte.
//!
//! What the bytes stand for is tested where the values are decoded; here the two ways are held together.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use freshet_core::codec::{BatchBuilder, EventRef};
use freshet_core::position::Position;
use freshet_core::schema::{SchemaMap, TableName, TableSchema};
use freshet_core::source::{ReadOutcome, Source};
use freshet_core::table::TableReader;
use freshet_mysql::server::ServerFacts;
use freshet_mysql::source::{BinlogSource, SourceOptions};
use freshet_mysql::table::ViewMethod;
use freshet_testkit::servers::{Flavor, MyServer};

use super::common::{Database, both, flavour, options, reader, root};
use every_type::{BOTH, Case, MARIADB, MYSQL};

#[path = "../shared/every_type.rs"]
mod every_type;

fn cases(server: &MyServer) -> impl Iterator<Item = (String, &'static Case)> {
    let own = if server.flavor() == Flavor::MariaDb { MARIADB } else { MYSQL };
    BOTH.iter().chain(own).enumerate().map(|(at, case)| (format!("t{at}"), case))
}

fn fill(server: &MyServer) {
    let mut sql = String::from(
        "create database every_type character set utf8mb4; use every_type; set time_zone = '+00:00'; set names utf8mb4; \
         set sql_mode = 'ALLOW_INVALID_DATES'; ",
    );
    for (name, (column, values)) in cases(server) {
        sql.push_str(&format!("create table {name} (id int primary key, v {column});\n"));
        for (id, value) in values.iter().enumerate() {
            sql.push_str(&format!("insert into {name} (id, v) values ({id}, {value});\n"));
        }
    }
    // Keys in another order than the columns, and keys of several columns.
    sql.push_str("create table k1 (a int, b varchar(5) not null, c int, primary key (c, a)); insert into k1 values (1, 'x', 2);");
    sql.push_str(
        "create table k2 (a int not null unique, b text, unique key (b(5))); insert into k2 values (1, 'x');",
    );
    sql.push_str("create table k3 (a blob, b varchar(50), primary key (b(5), a(3))); insert into k3 values ('a', 'x');");
    // Without a primary key the servers take a unique index of columns that are never NULL (R8).
    sql.push_str("create table k4 (a int not null, b int not null, c int, unique z (c), unique y (b), unique x (a, b)); insert into k4 values (1, 2, 3);");
    sql.push_str("create table k5 (a int not null, b int not null, key (a), unique b_a (b, a)); alter table k5 add unique a_b (a, b); insert into k5 values (1, 2);");
    sql.push_str("create table k6 (a int, b varchar(50) not null, unique (a), unique (b(5))); insert into k6 values (1, 2);");
    server.sql(&sql);
}

type Images = BTreeMap<TableName, (Arc<TableSchema>, Vec<Vec<u8>>)>;

async fn streamed(server: &MyServer, start: &Position) -> Images {
    let source = SourceOptions { heartbeat_ms: 100, ..SourceOptions::new(options(server), flavour(server)) };
    let mut source = BinlogSource::new(source, Arc::new(Database("every_type")));
    let tip = source.tip().await.unwrap();
    source.open(start, &[]).await.unwrap();
    let (mut batch, mut schemas, mut images) = (BatchBuilder::new(), SchemaMap::default(), Images::new());
    let mut place = start.clone();
    while !reached(&place, &tip) {
        let read = tokio::time::timeout(Duration::from_secs(300), source.read(&mut batch)).await;
        if let ReadOutcome::Commit { position } = read.unwrap().unwrap() {
            place = position;
        }
        let sealed = batch.seal();
        sealed.collect_schemas(&mut schemas).unwrap();
        for event in sealed.events() {
            if let EventRef::Insert { schema, after } = event.unwrap() {
                let schema = schemas.get(schema).unwrap();
                let entry =
                    images.entry(schema.name().clone()).or_insert_with(|| (schema.clone(), Vec::new()));
                entry.1.push(after.to_vec());
            }
        }
    }
    images
}

fn reached(place: &Position, tip: &Position) -> bool {
    match (place, tip) {
        (Position::Binlog(place), Position::Binlog(tip)) => place.file >= tip.file,
        _ => false,
    }
}

/// M1 to M20, R13, R14: load and stream agree on every type.
#[tokio::test]
async fn m1_to_m20_a_loaded_row_is_the_streamed_row() {
    for server in both() {
        let mut connection = root(server).await;
        let facts = ServerFacts::read(&mut connection).await.unwrap();
        let start = Position::Binlog(facts.current_position(&mut connection).await.unwrap());
        fill(server);
        let stream = streamed(server, &start).await;
        let mut view = reader(server, ViewMethod::Lock).view(&Database("every_type"), 1).await.unwrap();
        let reader = view.readers[0].as_mut();
        let mut faults = Vec::new();
        for table in &view.tables {
            let name = table.name();
            let declared = &table.columns.last().unwrap().native_type;
            let Some((schema, images)) = stream.get(name) else {
                faults.push(format!("{name} {declared}: nothing streamed"));
                continue;
            };
            if schema.id() != table.schema.id() {
                faults.push(format!("{name} {declared}: stream {schema:?}\n   catalogue {:?}", table.schema));
                continue;
            }
            let chunks = reader.plan(table, 1_000).await.unwrap();
            assert_eq!(chunks.len(), 1);
            reader.open(table, &chunks[0]).await.unwrap();
            let (mut batch, mut loaded) = (BatchBuilder::new(), Vec::new());
            while reader.read(&mut batch, usize::MAX).await.unwrap() {}
            for event in batch.seal().events() {
                match event.unwrap() {
                    EventRef::Insert { after, .. } => loaded.push(after.to_vec()),
                    other => panic!("{other:?}"),
                }
            }
            if loaded != *images {
                faults.push(format!("{name} {declared}: stream {images:.200?}\n   load {loaded:.200?}"));
            }
        }
        assert_eq!(view.tables.len(), cases(server).count() + 6);
        assert!(faults.is_empty(), "{:?}\n{}", server.flavor(), faults.join("\n"));
    }
}
