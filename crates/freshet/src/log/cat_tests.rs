//! Lines of `log cat` over records in memory: one transaction in several records, several in one, filters, ends.

use super::*;
use freshet_core::gtid::MariadbGtidSet;
use freshet_core::position::{BinlogPosition, FilePos, GtidSet};
use freshet_core::{BatchBuilder, Column, DataType, Position, SchemaMap};

/// Records in a list.
struct Listed {
    all: Arc<Vec<Record>>,
    at: usize,
}

impl Records for Listed {
    fn next(&mut self) -> Result<Option<Record>> {
        self.at += 1;
        Ok(self.all.get(self.at - 1).cloned())
    }

    fn again(&self, from: Offset) -> Result<Box<dyn Records>> {
        let at = self.all.iter().position(|r| r.offset == from).unwrap_or(self.all.len());
        Ok(Box::new(Listed { all: Arc::clone(&self.all), at }))
    }
}

/// Builds records, sealing where it is told to.
struct Log {
    schema: TableSchema,
    batch: BatchBuilder,
    records: Vec<Record>,
    schemas: SchemaMap,
}

impl Log {
    fn new() -> Self {
        let column = |name: &str, data_type| Column { name: name.into(), data_type, nullable: true };
        let columns = vec![
            column("id", DataType::Int { bits: 32, unsigned: false }),
            column("a \"b\"", DataType::Text { length: None, fixed: false }),
        ];
        let schema = TableSchema::new(TableName::new("shop", "t"), columns, vec![0]).expect("valid");
        Self { schema, batch: BatchBuilder::new(), records: Vec::new(), schemas: SchemaMap::default() }
    }

    fn begin(&mut self, sequence: u64) {
        self.batch.begin(&TxnId::Mariadb { domain: 0, server: 1, sequence }, 0);
        self.batch.schema(&self.schema);
    }

    fn insert(&mut self, id: i64) {
        let mut row = self.batch.insert(&self.schema);
        assert!(row.int(id));
        row.text("x");
        row.finish();
    }

    fn update(&mut self, id: i64) {
        let mut row = self.batch.update(&self.schema);
        assert!(row.int(id));
        row.null();
        row.after();
        assert!(row.int(id + 1));
        row.text("y");
        row.finish();
    }

    fn commit(&mut self, pos: u64, commit_us: i64) {
        self.batch.commit("s", &CommitPlace::Binlog(FilePos { file: "b.000001".into(), pos }), commit_us);
    }

    fn seal(&mut self) {
        let batch = self.batch.seal();
        batch.collect_schemas(&mut self.schemas).expect("schemas");
        let offset = Offset(self.records.len() as u64 + 10);
        let position = batch.ends_at_commit().then(|| {
            Position::Binlog(BinlogPosition {
                server: "s".into(),
                file: FilePos::default(),
                gtids: GtidSet::Mariadb(MariadbGtidSet::default()),
            })
        });
        let schemas = self.schemas.clone();
        self.records.push(Record { offset, next: offset.next(), batch, position, schemas });
    }

    fn check(&self, wanted: &Wanted, expected: &[&str]) {
        let mut out = Vec::new();
        cat(&mut Listed { all: Arc::new(self.records.clone()), at: 0 }, wanted, &mut out).expect("prints");
        let out = String::from_utf8(out).expect("UTF-8");
        assert_eq!(out.lines().collect::<Vec<_>>(), expected);
    }
}

fn all() -> Wanted {
    Wanted::default()
}

#[test]
fn several_transactions_in_a_record_have_their_own_commits() {
    let mut log = Log::new();
    log.begin(1);
    log.insert(1);
    log.commit(100, 1_700_000_000_000_000);
    log.begin(2);
    log.update(1);
    let table = log.schema.name().clone();
    log.batch.truncate(&table);
    log.batch.statement("shop", &table, "ALTER TABLE t ADD x INT");
    log.commit(200, 0);
    log.seal();
    let insert = r#"{"offset":10,"position":"b.000001:100","transaction":"0-1-1","table":"shop.t","operation":"insert","before":null,"after":{"id":1,"a \"b\"":"x"},"commit_time":"2023-11-14T22:13:20Z"}"#;
    let update = r#"{"offset":10,"position":"b.000001:200","transaction":"0-1-2","table":"shop.t","operation":"update","before":{"id":1,"a \"b\"":null},"after":{"id":2,"a \"b\"":"y"},"commit_time":null}"#;
    let truncate = r#"{"offset":10,"position":"b.000001:200","transaction":"0-1-2","table":"shop.t","operation":"truncate","before":null,"after":null,"commit_time":null}"#;
    let statement = r#"{"offset":10,"position":"b.000001:200","transaction":"0-1-2","table":"shop.t","operation":"statement","before":null,"after":null,"statement":"ALTER TABLE t ADD x INT","commit_time":null}"#;
    log.check(&all(), &[insert, update, truncate, statement]);
    log.check(&Wanted { limit: Some(1), ..all() }, &[insert]);
    log.check(&Wanted { limit: Some(0), ..all() }, &[]);
    let tables = |text: &str| vec![Pattern::parse(text).expect("valid")];
    log.check(&Wanted { tables: tables("shop.x*"), ..all() }, &[]);
    log.check(&Wanted { tables: tables("shop.*"), limit: Some(2) }, &[insert, update]);
}

#[test]
fn t5_a_transaction_of_several_records_is_told_with_its_commit() {
    let mut log = Log::new();
    log.begin(1);
    log.insert(1);
    log.seal();
    log.insert(2);
    log.seal();
    log.insert(3);
    log.commit(300, 0);
    log.seal();
    let line = |offset: u64, id: u64| {
        format!(
            r#"{{"offset":{offset},"position":"b.000001:300","transaction":"0-1-1","table":"shop.t","operation":"insert","before":null,"after":{{"id":{id},"a \"b\"":"x"}},"commit_time":null}}"#
        )
    };
    let lines = [line(10, 1), line(11, 2), line(12, 3)];
    log.check(&all(), &lines.each_ref().map(String::as_str));
}

#[test]
fn a_transaction_without_its_commit_is_not_printed() {
    let mut log = Log::new();
    log.begin(1);
    log.insert(1);
    log.seal();
    log.insert(2);
    log.seal();
    log.check(&all(), &[]);
}
