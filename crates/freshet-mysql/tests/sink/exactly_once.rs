//! Connections that end at every command of a pipeline's life, around COMMIT and around every DDL: nothing is lost and
//! nothing doubled (T10, T11).

use crate::common::{FLAVORS, Place};
use crate::cutter::{Cut, Cutter};
use freshet_core::sink::{PrepareMode, Sink, TablePlan};
use freshet_core::{Error, ErrorKind, LogId};
use freshet_mysql::sink::MySqlSink;
use freshet_testkit::conformance::sink::{Script, Table, Target, mark, position};
use freshet_testkit::servers::seed;

const WINDOWS: u64 = 8;
const ATTEMPTS_MAX: usize = 6;

struct Life {
    counted: Table,
    keyed: Table,
}

impl Life {
    /// Tables of one run: names of their own in a shared database.
    fn new(run: i64, cut: Cut) -> Self {
        let word = match cut {
            Cut::Before => "before",
            Cut::After => "after",
        };
        let table = |kind: &str, key| Table::new("conf", &format!("{kind}_{word}_{run}"), key);
        Self { counted: table("counted", false), keyed: table("keyed", true) }
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
        assert_eq!(counted.len() as u64, WINDOWS + 1, "every window once, and the loaded row once");
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
    let life = Life::new(nth, cut);
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
