//! A scenario: one schema on a source, one database on a target, one pipeline file, and `freshet` between them.
//!
//! Servers are shared by the tests of a process where nothing about them is changed; each scenario has names of its
//! own on them. A test that stops, fills or misconfigures a server starts one for itself.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use freshet_testkit::servers::{
    Exit, Flavor, Freshet, MyOptions, MyServer, Postgres, PostgresOptions, TestDir, poll_until, wait_until,
};

/// How long anything may take that is expected to happen.
pub(crate) const DEADLINE: Duration = Duration::from_secs(300);

/// What stands in every source password of the kit, so that a test can look for it where it must not be.
pub(crate) const PASSWORD: &str = "freshet";

static NEXT: AtomicU32 = AtomicU32::new(0);

/// The source that scenarios share.
pub(crate) fn shared_source(flavor: Flavor) -> Arc<MyServer> {
    static MARIADB: OnceLock<Arc<MyServer>> = OnceLock::new();
    static MYSQL: OnceLock<Arc<MyServer>> = OnceLock::new();
    let slot = match flavor {
        Flavor::MariaDb => &MARIADB,
        Flavor::MySql => &MYSQL,
    };
    Arc::clone(slot.get_or_init(|| own_source(flavor, MyOptions::default())))
}

/// A source of a test's own.
pub(crate) fn own_source(flavor: Flavor, options: MyOptions) -> Arc<MyServer> {
    let options = options.arg("--innodb-flush-log-at-trx-commit=2").with_freshet_user();
    Arc::new(MyServer::start(flavor, options))
}

/// The target that scenarios share.
pub(crate) fn shared_target() -> Arc<Postgres> {
    static TARGET: OnceLock<Arc<Postgres>> = OnceLock::new();
    Arc::clone(TARGET.get_or_init(|| own_target(PostgresOptions::default())))
}

/// A target of a test's own.
pub(crate) fn own_target(options: PostgresOptions) -> Arc<Postgres> {
    Arc::new(Postgres::start(options.with_freshet_user()))
}

/// What of a pipeline file differs from scenario to scenario.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub mode: &'static str,
    pub include: Vec<String>,
    pub source_port: u16,
    pub source_user: String,
    pub source_password: String,
    pub source_more: String,
    pub sink_port: u16,
    pub sink_host: String,
    pub sink_password: String,
    pub sink_schema: String,
    pub sink_more: String,
    pub log_dir: PathBuf,
    pub log_more: String,
    pub load: String,
}

/// One pipeline with its two ends.
pub(crate) struct Scenario {
    pub source: Arc<MyServer>,
    pub target: Arc<Postgres>,
    pub dir: TestDir,
    /// Pipeline, source schema and target database are called the same.
    pub name: String,
    pub settings: Settings,
}

impl Scenario {
    /// A pipeline between the shared servers; schema and database are made.
    pub(crate) fn new(flavor: Flavor, name: &str) -> Self {
        Self::between(shared_source(flavor), shared_target(), name)
    }

    /// A pipeline between these servers; schema and database are made.
    pub(crate) fn between(source: Arc<MyServer>, target: Arc<Postgres>, name: &str) -> Self {
        let name = format!("{name}_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        source.sql(&format!("create database {name} character set utf8mb4"));
        target.sql(&format!("create database {name} owner freshet"));
        Self::over(source, target, name)
    }

    /// A pipeline of that name between a schema and a database that are there.
    pub(crate) fn over(source: Arc<MyServer>, target: Arc<Postgres>, name: String) -> Self {
        let dir = TestDir::new("scenario");
        let settings = Settings {
            mode: "load-and-stream",
            include: vec![format!("{name}.*")],
            source_port: source.port(),
            source_user: "freshet".into(),
            source_password: PASSWORD.into(),
            source_more: "tls: disable".into(),
            sink_port: target.port(),
            sink_host: "127.0.0.1".into(),
            sink_password: PASSWORD.into(),
            sink_schema: "public".into(),
            sink_more: String::new(),
            log_dir: dir.join("log"),
            log_more: "bytes_max: 1GiB".into(),
            load: String::new(),
        };
        Self { source, target, dir, name, settings }
    }

    /// The pipeline file's text.
    pub(crate) fn yaml(&self) -> String {
        let s = &self.settings;
        let include: Vec<String> = s.include.iter().map(|i| format!("\"{i}\"")).collect();
        let kind = match self.source.flavor() {
            Flavor::MariaDb => "mariadb",
            Flavor::MySql => "mysql",
        };
        let (name, include) = (&self.name, include.join(", "));
        let mut lines = vec![
            format!("name: {name}"),
            format!("mode: {}", s.mode),
            "source:".into(),
            format!("  type: {kind}"),
            "  host: 127.0.0.1".into(),
            format!("  port: {}", s.source_port),
            format!("  user: {}", s.source_user),
            format!("  password: \"{}\"", s.source_password),
        ];
        lines.extend(s.source_more.lines().map(|line| format!("  {line}")));
        lines.push(format!("tables: {{ include: [{include}] }}"));
        lines.push("log:".into());
        lines.push(format!("  dir: {}", s.log_dir.display()));
        lines.extend(s.log_more.lines().map(|line| format!("  {line}")));
        lines.push("sinks:".into());
        lines.push("  - name: warehouse".into());
        lines.push("    type: postgres".into());
        lines.push(format!("    host: {}", s.sink_host));
        lines.push(format!("    port: {}", s.sink_port));
        lines.push(format!("    database: {name}"));
        lines.push("    user: freshet".into());
        lines.push(format!("    password: \"{}\"", s.sink_password));
        lines.push(format!("    schemas: {{ {name}: {} }}", s.sink_schema));
        // A line that begins a list item is another sink.
        let mut indent = "    ";
        for line in s.sink_more.lines() {
            indent = if line.starts_with("- ") { "  " } else { indent };
            lines.push(format!("{indent}{line}"));
        }
        if !s.load.is_empty() {
            lines.push(format!("load: {{ {} }}", s.load));
        }
        lines.join("\n") + "\n"
    }

    /// Writes the pipeline file and returns its path.
    pub(crate) fn file(&self) -> PathBuf {
        let path = self.dir.join("pipeline.yaml");
        std::fs::write(&path, self.yaml()).unwrap();
        path
    }

    /// `freshet` with these words and the pipeline file.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Freshet::command();
        command.args(words).arg(self.file());
        command
    }

    /// Starts `freshet run`.
    pub(crate) fn spawn(&self) -> Freshet {
        Freshet::spawn_command(&mut self.command(&["run"]))
    }

    /// `freshet run --until caught-up` to its end.
    #[track_caller]
    pub(crate) fn run(&self) -> Exit {
        Freshet::spawn_command(&mut self.command(&["run", "--until", "caught-up"])).wait(DEADLINE)
    }

    /// Runs until caught up, which must succeed.
    #[track_caller]
    pub(crate) fn catch_up(&self) {
        let exit = self.run();
        assert_eq!(exit.code, Some(0), "stdout: {}\nstderr: {}", exit.stdout, exit.stderr);
    }

    /// Runs until caught up, which must fail with this code and these words on standard error.
    #[track_caller]
    pub(crate) fn refused(&self, code: i32, words: &[&str]) -> Exit {
        let exit = self.run();
        assert_failed(&exit, code, words);
        exit
    }

    /// Another `freshet` command with the pipeline file, to its end.
    #[track_caller]
    pub(crate) fn freshet(&self, words: &[&str]) -> Exit {
        Freshet::spawn_command(&mut self.command(words)).wait(DEADLINE)
    }

    /// Statements in the source's schema.
    #[track_caller]
    pub(crate) fn my(&self, sql: &str) -> String {
        self.source.sql(&format!("use {}; {sql}", self.name))
    }

    /// Statements in the target's database.
    #[track_caller]
    pub(crate) fn pg(&self, sql: &str) -> String {
        self.target.sql_in(&self.name, sql)
    }

    /// A number that psql prints; nothing when the statement fails, as before a table is there.
    pub(crate) fn pg_number(&self, sql: &str) -> Option<i64> {
        self.target.try_sql_in(&self.name, sql).ok()?.trim().parse().ok()
    }

    /// Waits until the target shows all tables consistent.
    #[track_caller]
    pub(crate) fn wait_consistent(&self, run: &Freshet) {
        self.wait_for(run, "consistent_since", "select count(consistent_since) from freshet.checkpoint", 1);
    }

    /// Waits until a statement on the target yields this number; fails early when `freshet` has ended.
    #[track_caller]
    pub(crate) fn wait_for(&self, run: &Freshet, what: &str, sql: &str, expected: i64) {
        let mut last = None;
        let done = poll_until(DEADLINE, || {
            last = self.pg_number(sql);
            last == Some(expected) || !run.is_running()
        });
        last = self.pg_number(sql);
        assert!(
            done && last == Some(expected),
            "Waited for {what}: {last:?} is not {expected}; running: {}\n{}",
            run.is_running(),
            run.stderr()
        );
    }

    /// SIGTERM, which must end it with 0.
    #[track_caller]
    pub(crate) fn stop(&self, run: &Freshet) {
        run.terminate();
        let exit = run.wait(DEADLINE);
        assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    }

    /// Compares tables as text that both clients print: columns in the target's order, rows sorted. For columns of
    /// integer, character and decimal types, which both print alike.
    #[track_caller]
    pub(crate) fn compare(&self, tables: &[&str]) {
        for table in tables {
            if let Some(difference) = self.difference(table) {
                panic!("Table {table}: {difference}");
            }
        }
    }

    /// How a table differs, in a few rows of each side.
    pub(crate) fn difference(&self, table: &str) -> Option<String> {
        let columns = self.pg(&format!(
            "select string_agg(quote_ident(attname), ',' order by attnum) from pg_attribute \
             where attrelid = '\"{table}\"'::regclass and attnum > 0 and not attisdropped"
        ));
        let target = self.pg(&format!("select {columns} from \"{table}\""));
        let source = self.my(&format!("set sql_mode='ANSI_QUOTES'; select {columns} from \"{table}\""));
        let (source, target) = (sorted(&source), sorted(&target));
        if source == target {
            return None;
        }
        let count = |lines: &[&str]| lines.len();
        let (s, t): (BTreeSet<&str>, BTreeSet<&str>) =
            (source.iter().copied().collect(), target.iter().copied().collect());
        let missing: Vec<_> = s.difference(&t).take(5).collect();
        let extra: Vec<_> = t.difference(&s).take(5).collect();
        let (sources, targets) = (count(&source), count(&target));
        Some(format!(
            "{sources} rows at the source, {targets} on the target; missing {missing:?}, extra {extra:?}"
        ))
    }

    /// The segments of the log, oldest first.
    pub(crate) fn segments(&self) -> Vec<PathBuf> {
        let mut found: Vec<PathBuf> = std::fs::read_dir(&self.settings.log_dir)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|end| end == "segment"))
            .collect();
        found.sort();
        found
    }

    /// A field of the checkpoint row.
    #[track_caller]
    pub(crate) fn checkpoint(&self, field: &str) -> String {
        self.pg(&format!("select {field} from freshet.checkpoint where pipeline = '{}'", self.name))
    }
}

/// A table of 1..=n with a payload, the usual thing to copy.
pub(crate) fn numbers_sql(table: &str, from: u32, to: u32) -> String {
    let rows: Vec<String> = (from..=to).map(|i| format!("({i},'row {i}')")).collect();
    format!("insert into {table} values {};", rows.join(","))
}

/// Checks an exit code and that every one of these words stands on standard error.
#[track_caller]
pub(crate) fn assert_failed(exit: &Exit, code: i32, words: &[&str]) {
    assert_eq!(exit.code, Some(code), "stdout: {}\nstderr: {}", exit.stdout, exit.stderr);
    let text = exit.stderr.to_lowercase();
    for word in words {
        assert!(text.contains(&word.to_lowercase()), "\"{word}\" is not said: {}", exit.stderr);
    }
}

/// Waits until standard error holds a word, while it runs.
#[track_caller]
pub(crate) fn wait_said(run: &Freshet, word: &str) {
    wait_until(DEADLINE, word, || {
        let said = run.stderr().to_lowercase().contains(&word.to_lowercase());
        assert!(said || run.is_running(), "It ended without saying {word}: {}", run.stderr());
        said
    });
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}
