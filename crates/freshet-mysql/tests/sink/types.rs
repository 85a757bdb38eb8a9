//! Every type from a real source to a real target, by the load and by every way of applying: the client prints the same
//! on both sides (M1 to M20, R13).

use crate::common::{FLAVORS, Place, shared};
use crate::rows::{begin, chunk, durable};
use every_type::{BOTH, Case, MARIADB, MYSQL};
use freshet_core::codec::BatchBuilder;
use freshet_core::log::Record;
use freshet_core::sink::{PrepareMode, Sink, TablePlan};
use freshet_core::source::Selects;
use freshet_core::table::{Native, TableInfo, TableReader};
use freshet_core::window::{Counts, ImageRef, Step, StepKind, Window};
use freshet_core::{Batch, EventRef, Offset, RowRef, SchemaMap, TableName, TableSchema, ValueRef};
use freshet_mysql::server::Flavour;
use freshet_mysql::sink::MySqlSink;
use freshet_mysql::table::{MysqlTableReader, ViewMethod};
use freshet_mysql::wire::ConnectOptions;
use freshet_testkit::conformance::sink::{mark, position};
use freshet_testkit::servers::{Flavor, MyServer};
use std::sync::Arc;

#[path = "../shared/every_type.rs"]
mod every_type;

/// Rows from this id on hold the value of the row before them in the list.
const MOVED: usize = 100;

struct Database(String);

impl Selects for Database {
    fn selects(&self, table: &TableName) -> bool {
        table.schema == self.0
    }

    fn selects_schema(&self, schema: &str) -> bool {
        schema == self.0
    }
}

/// A source's tables as its reader has them: definition and rows.
pub async fn read(server: &MyServer, database: &str) -> Vec<(TableInfo, Batch)> {
    let options = ConnectOptions { port: server.port(), ..ConnectOptions::new("127.0.0.1", "root") };
    let flavour = match server.flavor() {
        Flavor::MariaDb => Flavour::Mariadb,
        Flavor::MySql => Flavour::Mysql,
    };
    let mut tables = MysqlTableReader::new(options, flavour).with_method(ViewMethod::Lock);
    let mut view = tables.view(&Database(database.to_owned()), 1).await.unwrap();
    let reader = view.readers[0].as_mut();
    let mut out = Vec::new();
    for table in &view.tables {
        let mut batch = BatchBuilder::new();
        for chunk in reader.plan(table, 1_000).await.unwrap() {
            reader.open(table, &chunk).await.unwrap();
            while reader.read(&mut batch, usize::MAX).await.unwrap() {}
        }
        out.push((table.clone(), batch.seal()));
    }
    out
}

fn fill(server: &MyServer, database: &str, cases: &[&Case]) {
    let mut sql = format!(
        "drop database if exists {database}; create database {database} character set utf8mb4; use {database}; \
         set time_zone = '+00:00'; set names utf8mb4; set sql_mode = 'ALLOW_INVALID_DATES'; "
    );
    for (number, (column, values)) in cases.iter().enumerate() {
        let table = format!("t{number}");
        sql.push_str(&format!("create table {table} (id int primary key, v {column});\n"));
        for at in 0..values.len() {
            let next = values[(at + 1) % values.len()];
            sql.push_str(&format!("insert into {table} (id, v) values ({at}, {});\n", values[at]));
            sql.push_str(&format!("insert into {table} (id, v) values ({}, {next});\n", MOVED + at));
        }
    }
    server.sql(&sql);
}

/// The same table under another name on both sides, and with that key.
fn renamed(info: &TableInfo, way: &str, key: &[u16]) -> TablePlan {
    let name = format!("{}_{way}", info.name().table);
    let source = TableName::new(info.name().schema.clone(), name.clone());
    let mut columns = info.schema.columns().to_vec();
    key.iter().for_each(|at| columns[usize::from(*at)].nullable = false);
    let schema = TableSchema::new(source, columns, key.to_vec()).unwrap();
    // The source's own words have the source's own key.
    let is_own = key == info.schema.key();
    let native = if is_own { info.native.clone() } else { Native::default() };
    let info = TableInfo { schema: Arc::new(schema), native, ..info.clone() };
    TablePlan { info: Arc::new(info), target: TableName::new("target", name) }
}

pub fn images(batch: &Batch) -> Vec<ImageRef> {
    let base = batch.bytes().as_ptr() as usize;
    let mut images = Vec::new();
    for event in batch.events() {
        if let EventRef::Insert { after, .. } = event.unwrap() {
            let start = (after.as_ptr() as usize - base) as u32;
            images.push(ImageRef { record: 0, start, len: after.len() as u32, schema: 0 });
        }
    }
    images
}

pub fn window(plan: &TablePlan, batch: &Batch, end: u64, ordered: bool, kind: StepKind) -> Window {
    let mut schemas = SchemaMap::default();
    schemas.insert(plan.info.schema.clone()).unwrap();
    let (offset, next) = (Offset(end - 1), Offset(end));
    let record = Record { offset, next, batch: batch.clone(), position: Some(position(end)), schemas };
    Window {
        records: vec![record],
        schemas: vec![plan.info.schema.clone()],
        steps: vec![Step { table: plan.info.name().clone(), kind }],
        end: Some(mark(end)),
        ordered,
        changes: Counts::default(),
        commit_us: 1,
    }
}

/// A select of what the client prints of a table: values, and their bytes where a value's text does not tell them.
fn select(name: &str, table: &str, declared: &str, rows: &str) -> String {
    let is_float = ["float", "double", "real"].iter().any(|word| declared.starts_with(word));
    let value = if is_float { "v + 0e0" } else { "hex(v)" };
    format!("select '{name}' as name, id, v, {value} from {table} where {rows} order by id;\n")
}

/// One table in one way.
struct Way<'t> {
    name: &'static str,
    plan: TablePlan,
    info: &'t TableInfo,
    batch: &'t Batch,
}

impl Way<'_> {
    fn declared(&self) -> &str {
        &self.info.columns.last().unwrap().native_type
    }

    fn title(&self) -> String {
        format!("{} by {}", self.declared().replace(['\'', '\\'], ""), self.name)
    }

    async fn load(&self, sink: &mut MySqlSink) -> Result<(), freshet_core::Error> {
        sink.plan_chunks(self.plan.info.name(), &[chunk(&self.plan)]).await?;
        let mut loader = sink.loader().await?;
        loader.open(&self.plan, &chunk(&self.plan)).await?;
        loader.rows(self.batch.clone()).await?;
        loader.finish(&position(0)).await.map(drop)
    }

    fn step(&self, step: &str) -> StepKind {
        let all = images(self.batch);
        let (rows, moved) = all.split_at(all.len() / 2);
        match (step, self.name) {
            ("insert", "upsert") => StepKind::Upsert(rows.to_vec()),
            ("insert", _) => StepKind::Insert(rows.to_vec()),
            // The value, which is the key here, stays; what changes is the id.
            ("update", "by value") => {
                let same = moved.iter().cycle().skip(moved.len() - 1);
                StepKind::Update(rows.iter().copied().zip(same.copied()).collect())
            }
            ("update", _) => StepKind::Update(rows.iter().copied().zip(moved.iter().copied()).collect()),
            (_, _) => StepKind::Delete(moved.to_vec()),
        }
    }
}

/// Takes every table through the load, or an insert, an update of key and value, and a delete; the differences.
async fn run(place: &Place, source: &MyServer, ways: &[Way<'_>]) -> Vec<String> {
    let (mut sink, mut end, mut faults) = (place.mysql_sink(), 0, Vec::new());
    begin(&mut sink).await;
    let plans: Vec<TablePlan> = ways.iter().map(|way| way.plan.clone()).collect();
    sink.prepare(&plans, PrepareMode::CreateIfAbsent).await.unwrap();
    let is_load = |way: &&Way<'_>| way.name == "load";
    for way in ways.iter().filter(is_load) {
        if let Err(error) = way.load(&mut sink).await {
            faults.push(format!("{}: {error}", way.title()));
            sink.take_over().await.unwrap();
        }
    }
    for step in ["load", "insert", "update", "delete"] {
        let (mut expect, mut found) = (String::new(), String::new());
        for way in ways.iter().filter(|way| is_load(way) == (step == "load")) {
            let declared = way.declared();
            if step != "load" {
                let window = window(&way.plan, way.batch, end + 1, way.name == "row", way.step(step));
                match durable(&mut sink, window).await {
                    Ok(_) => end += 1,
                    Err(error) => {
                        faults.push(format!("{} {step}: {error}", way.title()));
                        sink.take_over().await.unwrap();
                    }
                }
            }
            let rows = match step {
                "load" => "1".to_owned(),
                "insert" => format!("id < {MOVED}"),
                "update" => format!("id >= {MOVED}"),
                _ => "0".to_owned(),
            };
            expect.push_str(&select(&way.title(), &way.info.name().to_string(), declared, &rows));
            found.push_str(&select(&way.title(), &way.plan.target.to_string(), declared, "1"));
        }
        let session = "set time_zone = '+00:00'; set names utf8mb4; ";
        let (expect, found) =
            (source.sql(&format!("{session}{expect}")), place.server.sql(&format!("{session}{found}")));
        // MariaDB has no minus zero, whatever it is told.
        let expect = match place.server.flavor() {
            Flavor::MariaDb => expect.replace("\t-0\t", "\t0\t"),
            Flavor::MySql => expect,
        };
        let (expect, found): (Vec<&str>, Vec<&str>) = (expect.lines().collect(), found.lines().collect());
        faults.extend(
            expect.iter().filter(|line| !found.contains(line)).map(|l| format!("{step} lost {l:.300}")),
        );
        faults.extend(
            found.iter().filter(|line| !expect.contains(line)).map(|l| format!("{step} made {l:.300}")),
        );
    }
    faults
}

/// Whether the column can be a key here: of a type with an index of whole values, written by us, never NULL.
fn can_be_key(info: &TableInfo, batch: &Batch) -> bool {
    let declared = info.columns[1].native_type.as_str();
    let has = |word: &&str| declared.contains(*word);
    let is_whole =
        !["text", "blob", "json", "point", "geom", "line", "polygon", "vector", "COMPRESSED"].iter().any(has);
    let is_null = |event: EventRef<'_>| match event {
        EventRef::Insert { after, .. } => RowRef::new(&info.schema, after).get(1).unwrap() == ValueRef::Null,
        _ => false,
    };
    is_whole && !info.columns[1].generated && !batch.events().any(|event| is_null(event.unwrap()))
}

async fn every_type(source: Flavor, target: Flavor) {
    let own = match (source, source == target) {
        (_, false) => &[],
        (Flavor::MariaDb, true) => MARIADB,
        (Flavor::MySql, true) => MYSQL,
    };
    // `serial` is unique, and every value stands in two rows here.
    let cases: Vec<&Case> = BOTH.iter().chain(own).filter(|(column, _)| *column != "serial").collect();
    let database = format!("types_{source:?}_{target:?}").to_lowercase();
    let from = shared(source);
    fill(from, &database, &cases);
    let tables = read(from, &database).await;
    assert_eq!(tables.len(), cases.len());
    let place = Place::new(target).await;
    let mut ways = Vec::new();
    for (info, batch) in &tables {
        // A batch names its schema.
        let loaded = TableName::new("target", format!("{}_load", info.name().table));
        let plan = TablePlan { info: Arc::new(info.clone()), target: loaded };
        ways.push(Way { name: "load", plan, info, batch });
        for (name, key) in [("bulk", &[0][..]), ("row", &[0]), ("upsert", &[0]), ("keyless", &[])] {
            // Rows are written alike, and found by every column where there is no key: enough for the other flavour.
            if source != target && name != "keyless" {
                continue;
            }
            ways.push(Way { name, plan: renamed(info, name, key), info, batch });
        }
        if can_be_key(info, batch) {
            ways.push(Way { name: "by value", plan: renamed(info, "value", &[1]), info, batch });
        }
    }
    let faults = run(&place, from, &ways).await;
    assert!(faults.is_empty(), "{source:?} to {target:?}:\n{}", faults.join("\n"));
}

/// M1 to M20, R13: the same flavour on both sides.
#[tokio::test(flavor = "multi_thread")]
async fn m1_to_m20_every_type_arrives_as_it_was() {
    for flavor in FLAVORS {
        every_type(flavor, flavor).await;
    }
}

/// M1 to M20: the other flavour, in the types that both have.
#[tokio::test(flavor = "multi_thread")]
async fn m1_to_m20_every_common_type_arrives_at_the_other_flavour() {
    every_type(Flavor::MariaDb, Flavor::MySql).await;
    every_type(Flavor::MySql, Flavor::MariaDb).await;
}

/// D12: a default that is text is the same text, whatever it looks like, and an expression is the same expression.
#[tokio::test(flavor = "multi_thread")]
async fn d12_defaults_are_the_same() {
    for flavor in FLAVORS {
        let place = Place::new(flavor).await;
        place.server.sql(
            "drop database if exists defined; create database defined character set utf8mb4; use defined; \
             create table texts (id int primary key, a varchar(20) default 'NULL', b varchar(20) default '\\'quoted\\'', \
               c varchar(20) default 'now()', d varchar(20) default 'back\\\\slash', e varchar(20) default '', \
               f enum('null', 'b') default 'null', g varchar(20), h datetime default current_timestamp); \
             create table computed (id int primary key, a varchar(20) default (_latin1'x'), b int default (1 + 1), \
               c date default (curdate()), d varchar(40) default (uuid()), e int default 5)",
        );
        let tables = read(place.server, "defined").await;
        let mut sink = place.mysql_sink();
        begin(&mut sink).await;
        let plans: Vec<TablePlan> = tables
            .iter()
            .map(|(info, _)| {
                let target = TableName::new("target", info.name().table.clone());
                TablePlan { info: Arc::new(info.clone()), target }
            })
            .collect();
        let lines = sink.prepare(&plans, PrepareMode::CreateIfAbsent).await.unwrap();
        assert_eq!(lines, Vec::<String>::new(), "{flavor:?}");
        let shown = |database: &str| place.server.sql(&format!("show create table {database}.computed"));
        assert_eq!(shown("target"), shown("defined"), "{flavor:?}");
        let row = |database: &str| {
            let columns = "a, b, c, d, e, f, g, h is null";
            place.lines(&format!(
                "insert into {database}.texts (id) values (1); select {columns} from {database}.texts"
            ))
        };
        assert_eq!(row("target"), row("defined"), "{flavor:?}");
    }
}

/// D12, M18: definitions are kept: declarations, collations, defaults, comments, keys and indexes, the next value.
#[tokio::test(flavor = "multi_thread")]
async fn d12_m18_a_table_keeps_its_definition() {
    for flavor in FLAVORS {
        let place = Place::new(flavor).await;
        place.server.sql(
            "drop database if exists defined; create database defined character set utf8mb4; use defined; \
             create table d (b int unsigned zerofill not null default 7, a bigint not null auto_increment comment 'it''s', \
               c varchar(20) character set latin1 collate latin1_german1_ci default 'x\\'y', \
               d decimal(10,2) default 1.50, e datetime(3) default current_timestamp(3), f enum('ä','b,c') not null default 'ä', \
               g text collate utf8mb4_unicode_ci, h timestamp null default null, i bit(3) default b'101', \
               j date default '2020-01-01', k double, primary key (a, b), unique key u (c, d), key p (g(7), e), \
               fulltext key ft (g)) auto_increment = 4711; \
             create table later (x int not null, n int not null auto_increment, primary key (x, n), key n (n)); \
             create table promoted (x int not null, y int, unique key ux (x))",
        );
        let tables = read(place.server, "defined").await;
        let mut sink = place.mysql_sink();
        begin(&mut sink).await;
        let plan = |info: &TableInfo| TablePlan {
            info: Arc::new(info.clone()),
            target: TableName::new("target", info.name().table.clone()),
        };
        let plans: Vec<TablePlan> = tables.iter().map(|(info, _)| plan(info)).collect();
        let lines = sink.prepare(&plans, PrepareMode::CreateIfAbsent).await.unwrap();
        assert_eq!(lines, Vec::<String>::new());
        sink.finish_load(&plans).await.unwrap();
        sink.make_consistent(&plans).await.unwrap();
        let shown = |database: &str, table: &str| {
            place.server.sql(&format!("show create table {database}.{table}")).replace("\\n", "\n")
        };
        for table in ["d", "later", "promoted"] {
            let sorted = |text: String| {
                let mut lines: Vec<String> =
                    text.lines().map(|l| l.trim_end_matches(',').to_owned()).collect();
                lines.sort();
                lines
            };
            let (source, target) = (sorted(shown("defined", table)), sorted(shown("target", table)));
            assert_eq!(source, target, "{flavor:?}");
        }
    }
}
