//! Real servers, and both ways of reading a table from them: binlog events and binary rows, as batches.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use freshet_core::codec::{Batch, BatchBuilder, EventRef, RowRef};
use freshet_core::position::{BinlogPosition, FilePos};
use freshet_core::schema::{SchemaMap, TableName, TableSchema};
use freshet_core::source::Selects;
use freshet_mysql::decode::{
    DecodeError, DecodeOptions, Decoder, Flavour, SpecialColumns, SpecialType, Step,
};
use freshet_mysql::values::binary::BinaryPlan;
use freshet_mysql::wire::{AtEnd, ConnectOptions, Connection, Packet, Secret};
use freshet_testkit::servers::{Flavor, MyOptions, MyServer};

/// Selects every table of the databases whose names begin so.
pub struct Prefix(pub &'static str);

impl Selects for Prefix {
    fn selects(&self, table: &TableName) -> bool {
        table.schema.starts_with(self.0)
    }

    fn selects_schema(&self, schema: &str) -> bool {
        schema.starts_with(self.0)
    }
}

pub fn mariadb() -> &'static MyServer {
    static SERVER: OnceLock<MyServer> = OnceLock::new();
    SERVER.get_or_init(|| MyServer::start(Flavor::MariaDb, MyOptions::default()))
}

pub fn mysql() -> &'static MyServer {
    static SERVER: OnceLock<MyServer> = OnceLock::new();
    SERVER.get_or_init(|| MyServer::start(Flavor::MySql, MyOptions::default()))
}

/// One test at a time where the end of a shared server's binlog, or a setting of all its sessions, matters.
pub async fn turn() -> tokio::sync::MutexGuard<'static, ()> {
    static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    TURN.lock().await
}

pub fn flavour(server: &MyServer) -> Flavour {
    match server.flavor() {
        Flavor::MariaDb => Flavour::Mariadb,
        Flavor::MySql => Flavour::Mysql,
    }
}

pub async fn connect(server: &MyServer) -> Connection {
    let options = ConnectOptions {
        port: server.port(),
        password: Some(Secret::new("")),
        ..ConnectOptions::new("127.0.0.1", "root")
    };
    Connection::connect(&options).await.unwrap()
}

/// The end of the binlog.
pub async fn end_of_binlog(server: &MyServer) -> FilePos {
    let sql = match server.flavor() {
        Flavor::MariaDb => "SHOW MASTER STATUS",
        Flavor::MySql => "SHOW BINARY LOG STATUS",
    };
    let rows = connect(server).await.query(sql).await.unwrap();
    FilePos { file: rows.first(0).unwrap().to_owned(), pos: rows.first(1).unwrap().parse().unwrap() }
}

/// Every event from `start` to the end of the binlog, as the server sends them.
pub async fn events(server: &MyServer, start: &FilePos) -> Vec<Vec<u8>> {
    let mut connection = connect(server).await;
    let session = "SET @master_binlog_checksum = @@GLOBAL.binlog_checksum, \
        @source_binlog_checksum = @@GLOBAL.binlog_checksum, @mariadb_slave_capability = 4";
    connection.exec(session).await.unwrap();
    let pos = u32::try_from(start.pos).unwrap();
    let mut packets = connection.dump_file_pos(90_001, &start.file, pos, AtEnd::Stop).await.unwrap();
    let mut events = Vec::new();
    loop {
        match tokio::time::timeout(Duration::from_secs(300), packets.next()).await.unwrap().unwrap() {
            Packet::Event(event) => events.push(event.to_vec()),
            Packet::End => return events,
        }
    }
}

pub fn decoder(server: &MyServer, start: &FilePos, prefix: &'static str, special: SpecialColumns) -> Decoder {
    let options = DecodeOptions { special_columns: Arc::new(special), ..DecodeOptions::default() };
    let mut decoder = Decoder::new(flavour(server), Arc::new(Prefix(prefix)), options);
    decoder.start(BinlogPosition {
        server: "s".into(),
        file: start.clone(),
        gtids: flavour(server).empty_gtids(),
    });
    decoder
}

/// Feeds events until the end or the first error.
pub fn feed(
    decoder: &mut Decoder,
    events: &[Vec<u8>],
    batch: &mut BatchBuilder,
) -> Result<Vec<Step>, DecodeError> {
    let mut steps = Vec::new();
    for event in events {
        let mut step = decoder.feed(event, batch)?;
        while step == Step::More {
            steps.push(step);
            step = decoder.resume(event, batch)?;
        }
        steps.push(step);
    }
    Ok(steps)
}

/// What the binlog holds from `start` on, of databases whose names begin with `prefix`.
pub async fn capture(
    server: &MyServer,
    start: &FilePos,
    prefix: &'static str,
    special: SpecialColumns,
) -> Result<Batch, DecodeError> {
    // Some time after a file was begun MariaDB writes into it that the one before is checkpointed.
    let (events, end) = loop {
        let before = end_of_binlog(server).await;
        let events = events(server, start).await;
        let end = end_of_binlog(server).await;
        if before == end {
            break (events, end);
        }
    };
    let mut decoder = decoder(server, start, prefix, special);
    let mut batch = BatchBuilder::new();
    feed(&mut decoder, &events, &mut batch)?;
    assert!(!decoder.in_transaction());
    assert_eq!(decoder.binlog_position().file, end);
    Ok(batch.seal())
}

/// What the catalogue says of MariaDB's columns.
pub async fn special(server: &MyServer) -> SpecialColumns {
    let mut special = SpecialColumns::new();
    if server.flavor() == Flavor::MySql {
        return special;
    }
    let sql = "SELECT table_schema, table_name, column_name, data_type, datetime_precision \
        FROM information_schema.columns WHERE data_type IN ('uuid', 'inet4', 'inet6', 'time', 'datetime', 'timestamp')";
    // A server that starts beside this one clears the temporary files that both keep in one directory.
    let mut connection = connect(server).await;
    let rows = match connection.query(sql).await {
        Ok(rows) => rows,
        Err(_) => connection.query(sql).await.unwrap(),
    };
    for row in &rows {
        let table = TableName::new(row.text(0).unwrap(), row.text(1).unwrap());
        let what = match row.text(3).unwrap() {
            "uuid" => SpecialType::Uuid,
            "inet4" => SpecialType::Inet4,
            "inet6" => SpecialType::Inet6,
            _ => SpecialType::Temporal { fsp: row.text(4).unwrap().parse().unwrap() },
        };
        special.entry(table).or_default().insert(row.text(2).unwrap().to_owned(), what);
    }
    special
}

/// One change of a batch, with its images.
pub struct Change {
    pub op: &'static str,
    pub schema: Arc<TableSchema>,
    pub after: Option<Vec<u8>>,
}

impl Change {
    pub fn after(&self) -> RowRef<'_> {
        RowRef::new(&self.schema, self.after.as_deref().unwrap())
    }
}

/// The row changes of a batch, each image checked.
pub fn changes(batch: &Batch) -> Vec<Change> {
    let mut schemas = SchemaMap::default();
    batch.collect_schemas(&mut schemas).unwrap();
    let mut changes = Vec::new();
    for event in batch.events() {
        let (op, id, before, after) = match event.unwrap() {
            EventRef::Insert { schema, after } => ("insert", schema, None, Some(after)),
            EventRef::Update { schema, before, after } => ("update", schema, Some(before), Some(after)),
            EventRef::Delete { schema, before } => ("delete", schema, Some(before), None),
            EventRef::Begin { .. }
            | EventRef::Schema { .. }
            | EventRef::Truncate(_)
            | EventRef::Statement(_)
            | EventRef::Commit(_) => continue,
        };
        let schema = Arc::clone(schemas.get(id).unwrap());
        for image in [before, after].into_iter().flatten() {
            RowRef::new(&schema, image).validate().unwrap();
        }
        let own = |image: Option<&[u8]>| image.map(<[u8]>::to_vec);
        changes.push(Change { op, schema, after: own(after) });
    }
    changes
}

/// A table's rows by the binary protocol, in the order of `id`, written under the stream's own schema.
pub async fn load(server: &MyServer, schema: &TableSchema) -> Vec<Change> {
    let mut connection = connect(server).await;
    connection.exec("SET time_zone = '+00:00', sql_mode = '', character_set_results = NULL").await.unwrap();
    let columns: Vec<String> = schema
        .columns()
        .iter()
        .map(|column| match column.data_type {
            freshet_core::DataType::Enum { .. } | freshet_core::DataType::Set { .. } => {
                format!("CAST(`{}` AS UNSIGNED)", column.name)
            }
            _ => format!("`{}`", column.name),
        })
        .collect();
    let name = schema.name();
    let sql = format!("SELECT {} FROM `{}`.`{}` ORDER BY 1", columns.join(", "), name.schema, name.table);
    let statement = connection.prepare(&sql).await.unwrap();
    let mut rows = connection.execute(&statement, &[]).await.unwrap();
    let mut plan = BinaryPlan::new(schema, rows.columns()).unwrap();
    let mut batch = BatchBuilder::new();
    batch.schema(schema);
    while let Some(row) = rows.next().await.unwrap() {
        let mut writer = batch.insert(schema);
        plan.write_row(&row, &mut writer).unwrap_or_else(|error| panic!("{name}: {error}"));
        writer.finish();
    }
    changes(&batch.seal())
}
