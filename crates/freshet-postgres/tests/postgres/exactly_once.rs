//! Connections that end at every message of a pipeline's life: nothing is lost and nothing doubled (T10, T11).

use crate::common::cutter::{Cut, Cutter};
use crate::common::{Database, server};
use freshet_core::sink::{PrepareMode, Sink, TablePlan};
use freshet_core::table::{
    ColumnInfo, Dialect, Native, Object, ObjectKind, Piece, SequenceInfo, SequenceRole, TableInfo,
};
use freshet_core::{Error, ErrorKind, LogId, TableName};
use freshet_postgres::PostgresSink;
use freshet_testkit::conformance::sink::{Script, Table, Target, mark, position};
use freshet_testkit::servers::seed;
use std::sync::Arc;

const WINDOWS: u64 = 8;
const ATTEMPTS_MAX: usize = 6;

struct Life {
    counted: Table,
    keyed: Table,
}

/// The same table with what only a source of PostgreSQL has.
fn as_from_postgres(plan: &TablePlan) -> TablePlan {
    let words = |text: &str| Piece::Words(text.to_owned());
    let own = || Piece::Table(plan.info.name().clone());
    let object = |kind, name: &str, statement| Object {
        kind,
        name: name.to_owned(),
        deferrable: false,
        obstacle: None,
        definition: String::new(),
        statement,
    };
    let constraint = |kind, name: &str, rest: Vec<Piece>| {
        let head = vec![words("alter table "), own(), words(" add constraint "), Piece::Name];
        object(kind, name, [head, rest].concat())
    };
    let table = &plan.target.table;
    let index =
        vec![words("create index "), Piece::Name, words(" on "), own(), words(" using btree (name, id)")];
    let references = vec![words(" foreign key (id) references "), own(), words(" (id) on delete cascade")];
    let objects = vec![
        constraint(ObjectKind::Key, &format!("{table}_key"), vec![words(" primary key (id)")]),
        object(ObjectKind::Index, &format!("{table}_two"), index),
        constraint(ObjectKind::Check, "positive", vec![words(" check (id >= 0)")]),
        constraint(ObjectKind::ForeignKey, "to_itself", references),
    ];
    let sequence = SequenceInfo {
        name: TableName::new("conf", format!("{table}_seq")),
        column: None,
        role: SequenceRole::Free,
        is_default: false,
        data_type: "bigint".to_owned(),
        options: "increment by 4".to_owned(),
        last: Some(41),
    };
    let columns = ["bigint", "text"];
    let info = TableInfo {
        dialect: Dialect::Postgres,
        columns: columns.map(|n| ColumnInfo { native_type: n.into(), ..ColumnInfo::default() }).into(),
        native: Native { objects, sequences: vec![sequence], ..Native::default() },
        ..(*plan.info).clone()
    };
    TablePlan { info: Arc::new(info), target: plan.target.clone() }
}

impl Life {
    /// Tables of one run: names of their own in a shared database.
    fn new(run: i64, cut: Cut) -> Self {
        let word = match cut {
            Cut::Before => "before",
            Cut::After => "after",
        };
        let table = |kind: &str, key| Table::new("conf", &format!("{kind}_{word}_{run}"), key);
        let mut keyed = table("keyed", true);
        keyed.plan = as_from_postgres(&keyed.plan);
        Self { counted: table("counted", false), keyed }
    }

    /// Changes that fail or show when they are applied twice, or not at all.
    fn window(&self, n: u64) -> Script {
        let id = n as i64;
        let script =
            Script::new().insert(&self.counted, &[(1, "window")]).insert(&self.keyed, &[(id, "new")]);
        let script = match n {
            2 | 3 | 6 | 7 => script.update(&self.keyed, &[((id - 1, ""), (id - 1, "changed"))]),
            5 => script.delete(&self.keyed, &[(2, "changed")]),
            _ => script,
        };
        if n % 4 == 3 { script.ordered() } else { script }
    }

    /// One life from wherever the target stands to the last window; an error ends it.
    async fn live(&self, sink: &mut PostgresSink) -> Result<(), Error> {
        let plans: Vec<TablePlan> = vec![self.counted.plan.clone(), self.keyed.plan.clone()];
        let mut owned = sink.take_over().await?;
        if owned.checkpoint.is_none() {
            sink.begin(LogId([1; 16]), &mark(0), "d").await?;
        }
        sink.prepare(&plans, PrepareMode::CreateIfAbsent).await?;
        for (table, rows) in [(&self.counted, [(0, "loaded")]), (&self.keyed, [(0, "loaded")])] {
            let state = owned.tables.iter_mut().find(|t| t.table == *table.name());
            let chunks = state.map(|t| std::mem::take(&mut t.chunks)).unwrap_or_default();
            if chunks.is_empty() {
                sink.plan_chunks(table.name(), &[table.chunk(0)]).await?;
            }
            if chunks.first().is_none_or(|c| c.rows.is_none()) {
                let mut loader = sink.loader().await?;
                loader.open(&table.plan, &table.chunk(0)).await?;
                loader.rows(table.batch(&rows)).await?;
                loader.finish(&position(0)).await?;
            }
        }
        sink.finish_load(&plans).await?;
        sink.make_consistent(&plans).await?;
        let from = owned.checkpoint.map_or(0, |c| c.mark.next.0);
        for n in from + 1..=WINDOWS {
            if n == 4 {
                sink.apply(Script::new().insert(&self.keyed, &[(40, "part")]).window()).await?;
            }
            sink.apply(self.window(n).end(n).window()).await?;
            if n % 3 == 0 {
                sink.flush().await?;
            }
        }
        sink.flush().await.map(drop)
    }

    async fn check(&self, db: &Database) {
        let counted = db.rows(self.counted.target()).await;
        assert_eq!(counted.len() as u64, WINDOWS + 1, "every window once, and the loaded row once");
        let keyed: Vec<String> =
            db.lines(&format!("select id, name from {} order by id", self.keyed.target()));
        let expect = [
            "0\tloaded",
            "1\tchanged",
            "3\tnew",
            "4\tnew",
            "5\tchanged",
            "6\tchanged",
            "7\tnew",
            "8\tnew",
            "40\tpart",
        ];
        assert_eq!(keyed, expect);
        let made = "select contype::text, conname from pg_constraint where contype <> 'p' and conrelid = '{}'::regclass union all \
             select 'i', right(indexrelid::regclass::text, 4) from pg_index where indrelid = '{}'::regclass union all \
             select 's', last_value::text from pg_sequences where '{}_seq' like '%.' || sequencename order by 1, 2";
        let made = db.lines(&made.replace("{}", &self.keyed.target().to_string()));
        assert_eq!(made, ["c\tpositive", "f\tto_itself", "i\t_key", "i\t_two", "s\t41"], "each once");
    }
}

/// Lives until the end is reached; every error on the way must be one of a lost connection.
async fn survive(life: &Life, sink: &mut PostgresSink) {
    for _ in 0..ATTEMPTS_MAX {
        match life.live(sink).await {
            Ok(()) => return,
            Err(error) => assert_eq!(*error.kind(), ErrorKind::Unavailable, "{error}"),
        }
    }
    panic!("no end after {ATTEMPTS_MAX} lives");
}

async fn one_run(db: Arc<Database>, nth: i64, cut: Cut) -> bool {
    let life = Life::new(nth, cut);
    let cutter = Cutter::start(db.server.port(), nth, cut).await;
    let mut options = db.options();
    options.pipeline = format!("run {nth} {cut:?}");
    options.connect.port = cutter.port;
    survive(&life, &mut PostgresSink::new(options)).await;
    life.check(&db).await;
    cutter.has_cut()
}

/// A step over the messages, from a random first: every message is met over time. `FRESHET_EVERY_MESSAGE` meets all.
#[tokio::test(flavor = "multi_thread")]
async fn t10_a_connection_that_ends_at_any_message_loses_and_doubles_nothing() {
    let server = server();
    server.sql("grant set on parameter session_replication_role to freshet");
    let step = if std::env::var_os("FRESHET_EVERY_MESSAGE").is_some() { 1 } else { 29 };
    for cut in [Cut::Before, Cut::After] {
        let db = Arc::new(Database::new(&server));
        let mut nth = 1 + (seed() % step) as i64;
        let mut runs = 0;
        while one_run(db.clone(), nth, cut).await {
            nth += step as i64;
            runs += 1;
        }
        println!("{cut:?}: {runs} connections cut, the last before message {nth}");
        assert!(nth > 100, "a life has more than {nth} messages");
    }
}
