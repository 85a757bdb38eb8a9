//! Connections that end at every command of a pipeline's life, around COMMIT and around every DDL: nothing is lost and
//! nothing doubled (T10, T11).

use crate::common::{FLAVORS, Place};
use crate::cutter::{Cut, Cutter};
use crate::rows::{begin, load};
use freshet_core::sink::{PrepareMode, Sink, TablePlan};
use freshet_core::table::{IndexInfo, IndexPart, Native, Object, ObjectKind, Piece, Printed, TableInfo};
use freshet_core::{Error, ErrorKind, LogId, TableName};
use freshet_mysql::sink::MySqlSink;
use freshet_testkit::conformance::sink::{Script, Table, Target, mark, position};
use freshet_testkit::servers::{Flavor, seed, wait_until};
use std::sync::Arc;
use std::time::Duration;

const WINDOWS: u64 = 8;
/// Rows of the last window beside those that every window has.
const MANY: i64 = 60;
const ATTEMPTS_MAX: usize = 6;
const DEADLINE: Duration = Duration::from_secs(60);

/// Kills of the server in a test, without and with `FRESHET_EVERY_MESSAGE`.
const KILLS: (u64, u64) = (3, 40);

/// Every kind of object that is made in its own statement, and with the table.
fn objects(of: &TableName, counted: &TableName) -> Vec<Object> {
    let own = of.table.clone();
    let object = |kind, name: &str, definition: &str| Object {
        kind,
        name: name.to_owned(),
        deferrable: false,
        obstacle: None,
        definition: definition.to_owned(),
        statement: vec![
            Piece::Words("alter table ".to_owned()),
            Piece::Table(of.clone()),
            Piece::Words(format!(" add {definition}")),
        ],
    };
    vec![
        object(ObjectKind::Key, "", "PRIMARY KEY (id)"),
        object(ObjectKind::Unique, "by_both", "UNIQUE KEY by_both (name, id)"),
        object(ObjectKind::Index, "by_name", "KEY by_name (name)"),
        object(ObjectKind::Index, "words", "FULLTEXT KEY words (name)"),
        object(ObjectKind::Check, &format!("chk_{own}"), &format!("CONSTRAINT chk_{own} CHECK (id >= 0)")),
        // Of a column that is not there: the target refuses it, in every life.
        reference("refused", of, "nothing", counted),
    ]
}

fn reference(name: &str, of: &TableName, column: &str, to: &TableName) -> Object {
    Object {
        kind: ObjectKind::ForeignKey,
        name: name.to_owned(),
        deferrable: false,
        obstacle: None,
        definition: String::new(),
        statement: vec![
            Piece::Words("alter table ".to_owned()),
            Piece::Table(of.clone()),
            Piece::Words(format!(" add constraint {name} foreign key ({column}) references ")),
            Piece::Table(to.clone()),
            Piece::Words(" (id)".to_owned()),
        ],
    }
}

struct Life {
    counted: Table,
    keyed: Table,
}

impl Life {
    /// Tables of one run: names of their own in a shared database. The second has words of its own for this server, with
    /// an index, a unique one, a check and a reference to the first.
    fn new(flavor: Flavor, run: i64, cut: Cut) -> Self {
        let word = match cut {
            Cut::Before => "before",
            Cut::After => "after",
        };
        let table = |kind: &str, key| Table::new("conf", &format!("{kind}_{word}_{run}"), key);
        let mut keyed = table("keyed", true);
        let part = |column| IndexPart { column: Some(column), prefix: None, descending: false };
        let index = |name: &str, unique, parts: Vec<IndexPart>| IndexInfo {
            name: name.to_owned(),
            unique,
            method: "btree".to_owned(),
            parts,
        };
        let indexes =
            vec![index("by_name", false, vec![part(1)]), index("by_both", true, vec![part(1), part(0)])];
        let mut counted = table("counted", false);
        let to_keyed = format!("to_{}", keyed.target().table);
        let objects_of_counted = vec![reference(&to_keyed, counted.name(), "id", keyed.name())];
        let native = Native {
            objects: objects(keyed.name(), counted.name()),
            printed: Some(Printed {
                is_mariadb: flavor == Flavor::MariaDb,
                columns: ["bigint NOT NULL", "varchar(64) DEFAULT NULL"].map(|c| Ok(c.to_owned())).to_vec(),
                ..Printed::default()
            }),
            ..Native::default()
        };
        let info = TableInfo { indexes, native, ..(*keyed.plan.info).clone() };
        keyed.plan.info = Arc::new(info);
        let native = Native { objects: objects_of_counted, ..Native::default() };
        counted.plan.info = Arc::new(TableInfo { native, ..(*counted.plan.info).clone() });
        Self { counted, keyed }
    }

    /// Changes that fail or show when they are applied twice, or not at all.
    fn window(&self, n: u64) -> Script {
        let id = n as i64;
        let script =
            Script::new().insert(&self.counted, &[(1, "window")]).insert(&self.keyed, &[(id, "new")]);
        let script = match n {
            2 | 3 | 6 | 7 => script.update(&self.keyed, &[((id - 1, ""), (id - 1, "changed"))]),
            5 => script.delete(&self.keyed, &[(2, "changed")]),
            // So many that MariaDB gets them in bulk.
            8 => script.insert(&self.counted, &(100..100 + MANY).map(|i| (i, "many")).collect::<Vec<_>>()),
            _ => script,
        };
        if n % 4 == 3 { script.ordered() } else { script }
    }

    /// One life from wherever the target stands to the last window; an error ends it.
    async fn live(&self, sink: &mut MySqlSink) -> Result<(), Error> {
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

    async fn check(&self, place: &Place) {
        let counted = place.rows(self.counted.target()).await;
        let expect = WINDOWS as i64 + MANY + 1;
        assert_eq!(counted.len() as i64, expect, "every window once, and the loaded row once");
        let keyed: Vec<String> =
            place.lines(&format!("select id, name from {} order by id", self.keyed.target()));
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
        let indexes = format!(
            "select distinct index_name from information_schema.statistics where table_schema = '{}' and \
             table_name = '{}' order by 1",
            self.keyed.target().schema,
            self.keyed.target().table
        );
        assert_eq!(place.lines(&indexes), ["by_both", "by_name", "PRIMARY", "words"]);
        let constraints = format!(
            "select constraint_name from information_schema.table_constraints where table_schema = 'target' and \
             table_name in ('{}', '{}') and constraint_type in ('CHECK', 'FOREIGN KEY') order by 1",
            self.keyed.target().table,
            self.counted.target().table
        );
        let own = &self.keyed.target().table;
        assert_eq!(place.lines(&constraints), [format!("chk_{own}"), format!("to_{own}")]);
        let intents =
            format!("select count(*) from {}.load_table where intent is not null", place.control_schema);
        assert_eq!(place.lines(&intents), ["0"], "nothing is left to be done");
    }
}

/// Lives until the end is reached; every error on the way must be one of a lost connection.
async fn survive(life: &Life, sink: &mut MySqlSink) {
    for _ in 0..ATTEMPTS_MAX {
        match life.live(sink).await {
            Ok(()) => return,
            Err(error) => assert_eq!(*error.kind(), ErrorKind::Unavailable, "{error}"),
        }
    }
    panic!("no end after {ATTEMPTS_MAX} lives");
}

async fn one_run(place: &Place, nth: i64, cut: Cut) -> bool {
    let life = Life::new(place.server.flavor(), nth, cut);
    let cutter = Cutter::start(place.server.port(), nth, cut).await;
    let mut options = place.options_at(cutter.port);
    options.pipeline = format!("run {nth} {cut:?}");
    survive(&life, &mut MySqlSink::new(options)).await;
    life.check(place).await;
    cutter.has_cut()
}

/// A step over the commands, from a random first: every one is met over time. `FRESHET_EVERY_MESSAGE` meets all.
#[tokio::test(flavor = "multi_thread")]
async fn t10_a_connection_that_ends_at_any_command_loses_and_doubles_nothing() {
    let step = if std::env::var_os("FRESHET_EVERY_MESSAGE").is_some() { 1 } else { 41 };
    for flavor in FLAVORS {
        let place = Place::new(flavor).await;
        for cut in [Cut::Before, Cut::After] {
            let mut nth = 1 + (seed() % step) as i64;
            let mut runs = 0;
            while one_run(&place, nth, cut).await {
                nth += step as i64;
                runs += 1;
            }
            println!("{flavor:?} {cut:?}: {runs} connections cut, the last before command {nth}");
            assert!(nth > 100, "a life has more than {nth} commands");
        }
    }
}

/// The server dies while it has a command, wherever in a life that is, DDL included, and comes back.
#[tokio::test(flavor = "multi_thread")]
async fn t10_a_server_that_dies_at_any_command_loses_and_doubles_nothing() {
    let kills = if std::env::var_os("FRESHET_EVERY_MESSAGE").is_some() { KILLS.1 } else { KILLS.0 };
    for flavor in FLAVORS {
        let place = Arc::new(Place::on_a_server_of_its_own(flavor));
        let first = seed() % 40;
        for kill in 0..kills {
            let nth = (1 + first + kill * 120 / kills) as i64;
            let life = Life::new(place.server.flavor(), nth, Cut::After);
            let cutter = Arc::new(Cutter::start(place.server.port(), nth, Cut::After).await);
            let mut options = place.options_at(cutter.port);
            options.pipeline = format!("kill {nth}");
            let (dying, watched) = (place.clone(), cutter.clone());
            let killer = tokio::task::spawn_blocking(move || {
                wait_until(DEADLINE, "the command", || watched.has_cut());
                dying.server.kill9();
                dying.server.restart();
            });
            let mut sink = MySqlSink::new(options);
            while let Err(error) = life.live(&mut sink).await {
                assert_eq!(*error.kind(), ErrorKind::Unavailable, "{error}");
            }
            killer.await.unwrap();
            life.check(&place).await;
        }
    }
}

/// Applies windows of one row each until somebody else has taken over; the error of that.
async fn apply_until_taken(mut sink: MySqlSink, table: Table, from: u64) -> Error {
    for n in from + 1.. {
        let script = Script::new().insert(&table, &[(n as i64, "window")]);
        if let Err(error) = sink.apply(script.end(n).window()).await {
            return error;
        }
    }
    unreachable!("windows do not end")
}

/// T11: owners that take over from each other while windows are under way.
#[tokio::test(flavor = "multi_thread")]
async fn t11_owners_that_take_over_in_the_midst_of_windows_lose_and_double_nothing() {
    let rounds = if std::env::var_os("FRESHET_EVERY_MESSAGE").is_some() { 300 } else { 20 };
    for flavor in FLAVORS {
        let place = Place::new(flavor).await;
        // Without a key nothing but the checkpoint keeps a row from being there twice.
        let table = Table::new("conf", "taken", false);
        let mut sink = place.mysql_sink();
        begin(&mut sink).await;
        load(&mut sink, std::slice::from_ref(&table.plan), table.batch(&[(0, "window")])).await.unwrap();
        let (mut from, mut seed) = (0, seed());
        for _ in 0..rounds {
            let applying = tokio::spawn(apply_until_taken(sink, table.clone(), from));
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let wanted = from + seed % 7;
            let reached = format!("select next_offset from {}.checkpoint", place.control_schema);
            wait_until(DEADLINE, "some windows", || {
                place.server.sql(&reached).parse::<u64>().unwrap() >= wanted
            });
            sink = place.mysql_sink();
            from = sink.take_over().await.unwrap().checkpoint.unwrap().mark.next.0;
            let error = applying.await.unwrap();
            assert!(matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Fenced), "{error}");
            let rows = place.lines("select id from target.taken order by id");
            let expect: Vec<String> = (0..=from).map(|id| id.to_string()).collect();
            assert_eq!(rows, expect, "{flavor:?}");
        }
    }
}
