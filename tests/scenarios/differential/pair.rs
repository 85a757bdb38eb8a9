//! Two servers and the pipeline between them, for one round, which leaves nothing behind.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use freshet_testkit::servers::{Exit, Freshet, TestDir, poll_until};

use super::plan::Plan;
use super::said;
use super::sql::session;
use super::types::{Direction, POSTGRES_NEEDS, POSTGRES_TYPES};
use crate::ends::{End, Server};
use crate::kit::DEADLINE;

/// Failures as text: a round that fails is tried again in smaller forms.
pub(crate) type Outcome<T> = Result<T, String>;

/// The server's own client, in a place.
fn client(end: &End) -> Command {
    match &end.server {
        Server::My(server) => {
            let mut client = server.client();
            client.arg(&end.name);
            client
        }
        Server::Postgres(server) => server.client(&end.name),
    }
}

/// Statements in a place; what they print.
pub(crate) fn query(end: &End, sql: &str) -> Outcome<String> {
    end.try_sql(sql).map_err(|error| format!("{error}\nin: {sql:.3000}"))
}

/// Nothing is synced from now on: for a run that has the servers to itself, and kills none of them.
pub(crate) fn relax(server: &Server) {
    match server {
        Server::My(server) => {
            drop(server.sql("set global innodb_flush_log_at_trx_commit = 0, sync_binlog = 0"))
        }
        Server::Postgres(server) => {
            server.sql("alter system set fsync = off");
            server.sql("select pg_reload_conf()");
        }
    }
}

/// Forgets binlogs that no round needs any more, where nobody else reads the server.
pub(crate) fn forget(end: &End) {
    if let Server::My(server) = &end.server {
        let _ = server.try_sql("flush binary logs; do sleep(1); purge binary logs before now()");
    }
}

fn remove(end: &End) {
    let name = &end.name;
    match &end.server {
        Server::My(server) => drop(server.sql(&format!("drop database if exists {name}"))),
        Server::Postgres(server) => drop(server.sql(&format!("drop database if exists {name} with (force)"))),
    }
}

/// A writer at work; ended with the round if that fails.
pub(crate) struct Writer(Child);

impl Writer {
    /// Whether it is done.
    pub(crate) fn is_done(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The pipeline of one round.
pub(crate) struct Pair {
    pub source: End,
    pub target: End,
    pub name: String,
    dir: TestDir,
    file: PathBuf,
    is_dropped: bool,
}

impl Pair {
    pub(crate) fn new(plan: &Plan) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let Direction { from, to } = plan.direction;
        let name = format!("differ_{}_{}_{}", from.word(), to.word(), NEXT.fetch_add(1, Ordering::Relaxed));
        let (source, target) = (End::make(from.source(), &name), End::make(to.target(), &name));
        if let Server::Postgres(server) = &source.server {
            server.sql_in(&name, POSTGRES_NEEDS);
            server.sql_in(&name, POSTGRES_TYPES);
        }
        if let (Server::Postgres(_), Server::Postgres(server)) = (&source.server, &target.server) {
            server.sql_in(&name, POSTGRES_NEEDS);
            if plan.has_types {
                server.sql_in(&name, POSTGRES_TYPES);
            }
            // With it come foreign keys and deferrable constraints.
            let change = if plan.has_roles { "grant" } else { "revoke" };
            let role = if plan.has_roles { "to" } else { "from" };
            server.sql(&format!("{change} set on parameter session_replication_role {role} freshet"));
        }
        let dir = TestDir::new("differential");
        let file = dir.join("pipeline.yaml");
        let pair = Self { source, target, name, dir, file, is_dropped: false };
        std::fs::write(&pair.file, pair.yaml(plan)).unwrap();
        pair
    }

    fn yaml(&self, plan: &Plan) -> String {
        let Self { name, source, target, .. } = self;
        let yaml = |end: &End| end.yaml(end.server.port());
        format!(
            "name: {name}\nmode: load-and-stream\nsource: {{ {} }}\ntables: {{ include: [\"{}.*\"] }}\n\
             log: {{ dir: {}, bytes_max: 4GiB }}\nload: {{ chunk_rows: 1000, readers: {} }}\n\
             sinks:\n  - {{ name: copy, {}, schemas: {{ {}: {} }} }}\n",
            yaml(source),
            source.schema(),
            self.dir.join("log").display(),
            plan.readers,
            yaml(target),
            source.schema(),
            target.schema(),
        )
    }

    /// Statements by the source's client, which goes on after an error.
    pub(crate) fn writer(&self, number: &str, sql: &str) -> Writer {
        let path = self.dir.join(format!("writer-{number}.sql"));
        std::fs::write(&path, sql).unwrap();
        let mut client = client(&self.source);
        match &self.source.server {
            Server::My(_) => client.arg("--force"),
            Server::Postgres(_) => client.args(["-v", "ON_ERROR_STOP=0"]),
        };
        let errors = File::create(path.with_extension("err")).unwrap();
        client.stdin(File::open(&path).unwrap()).stdout(Stdio::null()).stderr(errors);
        Writer(client.spawn().unwrap())
    }

    /// Statements on the source that must succeed.
    pub(crate) fn at_source(&self, sql: &str) -> Outcome<String> {
        let direction = Direction { from: self.source.server.kind(), to: self.target.server.kind() };
        query(&self.source, &format!("{}{sql}", session(direction)))
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Freshet::command();
        command.args(words).arg(&self.file);
        command
    }

    pub(crate) fn spawn(&self) -> Freshet {
        Freshet::spawn_command(&mut self.command(&["run"]))
    }

    /// `freshet` with these words, to its end.
    pub(crate) fn freshet(&self, words: &[&str]) -> Outcome<Exit> {
        let run = Freshet::spawn_command(&mut self.command(words));
        if poll_until(DEADLINE, || !run.is_running()) {
            return Ok(run.wait(DEADLINE));
        }
        run.kill9();
        Err(format!("freshet {} has not ended after {DEADLINE:?}: {}", words.join(" "), said(&run.stderr())))
    }

    /// Runs it, and it must end with 0.
    pub(crate) fn must(&self, words: &[&str]) -> Outcome<()> {
        let exit = self.freshet(words)?;
        if exit.code == Some(0) {
            return Ok(());
        }
        Err(format!("freshet {}: code {:?}: {}", words.join(" "), exit.code, said(&exit.stderr)))
    }

    /// Whether the target shows states of the source.
    pub(crate) fn is_consistent(&self) -> bool {
        let sql = format!(
            "select count(consistent_since) from freshet.checkpoint where pipeline = '{}'",
            self.name
        );
        query(&self.target, &sql).is_ok_and(|count| count.trim() == "1")
    }

    /// Removes the pipeline, which must succeed.
    pub(crate) fn drop_pipeline(&mut self) -> Outcome<()> {
        self.is_dropped = true;
        self.must(&["drop", "--yes"])
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        if !self.is_dropped {
            let _ = self.freshet(&["drop", "--yes"]);
        }
        if let (Server::Postgres(server), false) = (&self.source.server, self.is_dropped) {
            let slots = format!(
                "select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = '{}'",
                self.name
            );
            let _ = server.try_sql(&slots);
        }
        remove(&self.source);
        remove(&self.target);
    }
}
