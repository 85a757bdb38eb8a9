//! A pipeline between two ends of any kind: its file, its runs, what its target says of it.
//!
//! The older `kit::Scenario` is between MariaDB or MySQL and PostgreSQL only, with more that can be set.

use crate::ends::{End, Server};
use crate::kit::DEADLINE;
use freshet_testkit::servers::{Exit, Freshet, TestDir, poll_until};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Places of one name on two servers, and the file between them.
pub(crate) struct Pipeline {
    pub source: End,
    pub target: End,
    pub dir: TestDir,
    pub name: String,
    pub mode: &'static str,
    /// The target's port, or a proxy's before it.
    pub sink_port: u16,
    /// Keys of the source besides its address, with a comma before each.
    pub source_more: String,
    /// Keys of the sink besides its address, with a comma before each.
    pub sink_more: String,
    /// Keys of the load.
    pub load: String,
}

impl Pipeline {
    /// Makes both places. The name is `prefix` and a number.
    pub(crate) fn between(source: Server, target: Server, prefix: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("{prefix}_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let (source, target) = (End::make(source, &name), End::make(target, &name));
        Self {
            dir: TestDir::new("pipeline"),
            mode: "load-and-stream",
            sink_port: target.server.port(),
            source_more: String::new(),
            sink_more: String::new(),
            load: String::new(),
            source,
            target,
            name,
        }
    }

    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let (name, mode, log) = (&self.name, self.mode, self.dir.join("log"));
        let (from, to) = (self.source.schema(), self.target.schema());
        let yaml = format!(
            "name: {name}\nmode: {mode}\nsource: {{ {}{} }}\ntables: {{ include: [\"{from}.*\"] }}\n\
             log: {{ dir: {}, bytes_max: 1GiB }}\nload: {{ {} }}\n\
             sinks:\n  - {{ name: copy, {}, schemas: {{ {from}: {to} }}{} }}\n",
            self.source.yaml(self.source.server.port()),
            self.source_more,
            log.display(),
            self.load,
            self.target.yaml(self.sink_port),
            self.sink_more,
        );
        let file = self.dir.join("pipeline.yaml");
        std::fs::write(&file, yaml).unwrap();
        let mut command = Freshet::command();
        command.args(words).arg(file);
        command
    }

    /// A command to its end.
    pub(crate) fn freshet(&self, words: &[&str]) -> Exit {
        Freshet::spawn_command(&mut self.command(words)).wait(DEADLINE)
    }

    /// `freshet run` in the background.
    pub(crate) fn spawn(&self) -> Freshet {
        Freshet::spawn_command(&mut self.command(&["run"]))
    }

    #[track_caller]
    pub(crate) fn succeeds(&self, words: &[&str]) -> Exit {
        let exit = self.freshet(words);
        let (name, code) = (&self.name, exit.code);
        assert_eq!(code, Some(0), "{name}, {words:?}: stdout: {}\nstderr: {}", exit.stdout, exit.stderr);
        exit
    }

    #[track_caller]
    pub(crate) fn catch_up(&self) {
        self.succeeds(&["run", "--until", "caught-up"]);
    }

    /// SIGTERM, which must end it with 0.
    #[track_caller]
    pub(crate) fn stop(&self, run: &Freshet) {
        run.terminate();
        let exit = run.wait(DEADLINE);
        assert_eq!(exit.code, Some(0), "{}: {}", self.name, exit.stderr);
    }

    /// Waits until a statement on the target prints this; fails early when `freshet` has ended.
    #[track_caller]
    pub(crate) fn wait_for(&self, run: &Freshet, sql: &str, expected: &str) {
        let mut last = None;
        let done = poll_until(DEADLINE, || {
            last = self.target.try_sql(sql).ok();
            last.as_deref().map(str::trim) == Some(expected) || !run.is_running()
        });
        let is_there = last.as_deref().map(str::trim) == Some(expected);
        assert!(done && is_there, "{}, {sql}: {last:?}\n{}", self.name, run.stderr());
    }

    #[track_caller]
    pub(crate) fn wait_consistent(&self, run: &Freshet) {
        let sql = "select count(consistent_since) from freshet.checkpoint where pipeline = ";
        self.wait_for(run, &format!("{sql}'{}'", self.name), "1");
    }

    /// freshet must not have ended.
    #[track_caller]
    pub(crate) fn must_run(&self, run: &Freshet, when: &str) {
        if !run.is_running() {
            let exit = run.wait(Duration::from_secs(1));
            panic!("{}: freshet ended before {when}, code {:?}:\n{}", self.name, exit.code, exit.stderr);
        }
    }

    /// The same rows on both sides, as the clients print these columns.
    #[track_caller]
    pub(crate) fn compare(&self, table: &str, columns: &str) {
        let rows = |end: &End| {
            let text = end.sql(&format!("select {columns} from {table}"));
            let mut rows: Vec<String> = text.lines().map(|line| line.replace('\t', "|")).collect();
            rows.sort_unstable();
            rows
        };
        let (source, target) = (rows(&self.source), rows(&self.target));
        let first = source.iter().zip(&target).find(|(a, b)| a != b);
        let (name, counts) = (&self.name, (source.len(), target.len()));
        assert!(source == target, "{name}, {table}: {counts:?} rows, first difference {first:?}");
    }

    /// Removes what the pipeline was, at both ends.
    #[track_caller]
    pub(crate) fn drop_all(&self) {
        self.succeeds(&["drop", "--yes"]);
        self.source.remove();
        self.target.remove();
    }
}
