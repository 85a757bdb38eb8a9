//! freshet under demonstration: its pipeline file, its process, and what `freshet status` says.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use freshet_testkit::servers::{Freshet, MyServer, Postgres, TestDir};
use serde::Deserialize;

const STATUS_INTERVAL: Duration = Duration::from_millis(300);
const END_DEADLINE: Duration = Duration::from_secs(120);

/// A pipeline of its own directory.
pub struct Pipeline {
    dir: TestDir,
    binary: PathBuf,
    process: Option<Freshet>,
    asked: Option<Instant>,
}

impl Pipeline {
    /// Writes the pipeline's file.
    pub fn new(binary: &Path, source: &MyServer, target: &Postgres) -> anyhow::Result<Self> {
        let dir = TestDir::new("demo");
        let yaml = format!(
            r#"# MariaDB's database shop into PostgreSQL's database warehouse.
name: shop
mode: load-and-stream
source: {{ type: mariadb, host: 127.0.0.1, port: {}, user: freshet, password_file: password, tls: disable }}
tables: {{ include: ["shop.*"] }}
log: {{ dir: log, bytes_max: 2GiB }}
load: {{ chunk_rows: 20000 }}
sinks:
  - {{ name: warehouse, type: postgres, host: 127.0.0.1, port: {}, database: warehouse, user: freshet,
      password_file: password, schemas: {{ shop: public }} }}
"#,
            source.port(),
            target.port()
        );
        std::fs::write(dir.join("shop.yaml"), yaml).context("Cannot write the pipeline's file")?;
        std::fs::write(dir.join("password"), "freshet\n").context("Cannot write the password's file")?;
        let own = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(dir.join("password"), own)?;
        Ok(Self { dir, binary: binary.to_owned(), process: None, asked: None })
    }

    /// Its file.
    pub fn file(&self) -> PathBuf {
        self.dir.join("shop.yaml")
    }

    /// Its file's name alone.
    pub fn file_name(&self) -> &'static str {
        "shop.yaml"
    }

    /// The program.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// `freshet run` with more arguments.
    pub fn start(&mut self, args: &[&str]) -> anyhow::Result<()> {
        ensure!(!self.is_running(), "freshet runs already");
        let mut command = Command::new(&self.binary);
        command.arg("run").arg(self.file()).args(["--log-format", "text"]).args(args);
        self.process = Some(Freshet::spawn_command(&mut command));
        self.asked = None;
        Ok(())
    }

    /// Whether it has not ended.
    pub fn is_running(&self) -> bool {
        self.process.as_ref().is_some_and(Freshet::is_running)
    }

    /// What it said last.
    pub fn errors(&self) -> String {
        let text = self.process.as_ref().map(Freshet::stderr).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// SIGKILL.
    pub fn kill9(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill9();
        }
    }

    /// SIGTERM, and it must exit 0.
    pub fn terminate(&mut self) -> anyhow::Result<()> {
        if let Some(process) = &self.process {
            process.terminate();
        }
        self.finish()
    }

    /// Waits for its end, which must be 0.
    pub fn finish(&mut self) -> anyhow::Result<()> {
        let Some(process) = self.process.take() else { return Ok(()) };
        let exit = process.wait(END_DEADLINE);
        ensure!(exit.code == Some(0), "freshet ended with {:?}:\n{}", exit.code, exit.stderr);
        Ok(())
    }

    /// What `freshet status --json` says; nothing before it is due again, or while this process has not spoken.
    pub fn status_if_due(&mut self) -> Option<Status> {
        if self.asked.is_some_and(|asked| asked.elapsed() < STATUS_INTERVAL) {
            return None;
        }
        self.asked = Some(Instant::now());
        let file = self.status().ok()?;
        let is_ours = self.process.as_ref().is_some_and(|process| process.pid() == file.pid);
        is_ours.then(|| Status::of(&file)).flatten()
    }

    /// What `freshet status` prints for people.
    pub fn status_text(&self) -> anyhow::Result<String> {
        let printed = self.print_status(&[])?;
        Ok(String::from_utf8_lossy(&printed).into_owned())
    }

    fn status(&self) -> anyhow::Result<StatusFile> {
        let printed = self.print_status(&["--json"])?;
        serde_json::from_slice(&printed).context("freshet status printed no JSON")
    }

    fn print_status(&self, args: &[&str]) -> anyhow::Result<Vec<u8>> {
        let output = Command::new(&self.binary).arg("status").arg(self.file()).args(args).output()?;
        if !output.status.success() {
            bail!("freshet status failed: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(output.stdout)
    }
}

/// Where the pipeline is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    Starting,
    Loading,
    CatchingUp,
    Streaming,
    Stopped,
    Failed,
}

impl Phase {
    /// For people.
    pub fn text(self) -> &'static str {
        match self {
            Phase::Starting => "starting",
            Phase::Loading => "loading",
            Phase::CatchingUp => "catching up",
            Phase::Streaming => "streaming",
            Phase::Stopped => "stopped",
            Phase::Failed => "failed",
        }
    }
}

/// The part of the status that is shown.
#[derive(Clone, Debug)]
pub struct Status {
    pub phase: Phase,
    pub rows_loaded: u64,
    pub rows_estimate: u64,
    pub inserts: u64,
    pub updates: u64,
    pub deletes: u64,
    pub lag_ms: u64,
}

impl Status {
    fn of(file: &StatusFile) -> Option<Self> {
        let sink = file.sinks.first()?;
        Some(Self {
            phase: file.phase,
            rows_loaded: sink.tables.iter().map(|table| table.rows_loaded).sum(),
            rows_estimate: sink.tables.iter().map(|table| table.rows_estimate).sum(),
            inserts: sink.changes.inserts,
            updates: sink.changes.updates,
            deletes: sink.changes.deletes,
            lag_ms: sink.lag_ms,
        })
    }

    /// Row changes applied by the process.
    pub fn changes(&self) -> u64 {
        self.inserts + self.updates + self.deletes
    }
}

/// The fields of `freshet status --json` that are used here; docs/operations.md has all.
#[derive(Deserialize)]
struct StatusFile {
    pid: u32,
    phase: Phase,
    sinks: Vec<SinkPart>,
}

#[derive(Deserialize)]
struct SinkPart {
    lag_ms: u64,
    changes: Changes,
    tables: Vec<TablePart>,
}

#[derive(Deserialize)]
struct Changes {
    inserts: u64,
    updates: u64,
    deletes: u64,
}

#[derive(Deserialize)]
struct TablePart {
    rows_loaded: u64,
    rows_estimate: u64,
}
