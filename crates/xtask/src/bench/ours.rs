//! freshet as it is measured: a pipeline's file, its runs, and its state saved and put back between rounds.
//!
//! The state of a pipeline is its log directory and its target database; a saved pair is a point from which the same
//! backlog can be drained again and again.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use freshet_testkit::servers::{Freshet, TestDir};

use super::measure::{Meter, Run, Server, tied};

const END_DEADLINE: Duration = Duration::from_secs(600);

/// A pipeline of the bench.
pub struct Ours<'a> {
    dir: TestDir,
    binary: &'a Path,
    source: Server<'a>,
    target: Server<'a>,
}

impl<'a> Ours<'a> {
    /// Writes the pipeline's file and makes its target database. `tables` is the pattern of what is captured.
    pub fn new(
        binary: &'a Path,
        source: Server<'a>,
        target: Server<'a>,
        mode: &str,
        tables: &str,
    ) -> anyhow::Result<Self> {
        Self::with_readers(binary, source, target, mode, tables, 2)
    }

    /// The same with a number of readers for the load.
    pub fn with_readers(
        binary: &'a Path,
        source: Server<'a>,
        target: Server<'a>,
        mode: &str,
        tables: &str,
        readers: usize,
    ) -> anyhow::Result<Self> {
        let dir = TestDir::new("bench");
        let yaml = format!(
            r#"name: bench
mode: {mode}
source: {{ {}, user: freshet, password: "${{BENCH_PASSWORD}}", tls: disable }}
tables: {{ include: ["{}.{tables}"] }}
log: {{ dir: log, bytes_max: 20GiB }}
load: {{ readers: {readers} }}
sinks:
  - {{ name: target, {}, user: freshet, password: "${{BENCH_PASSWORD}}" }}
"#,
            source.yaml_source(),
            source.schema(),
            target.yaml_target(source.schema())
        );
        std::fs::write(dir.join("bench.yaml"), yaml).context("Cannot write the pipeline's file")?;
        target.forget_target()?;
        Ok(Self { dir, binary, source, target })
    }

    /// `freshet COMMAND FILE ARGS`, to be run to its end.
    pub fn command(&self, name: &str, args: &[&str]) -> Command {
        let mut command = tied(self.binary);
        command.arg(name).arg(self.dir.join("bench.yaml")).args(args).env("BENCH_PASSWORD", "freshet");
        command
    }

    /// `freshet run` in the background.
    pub fn start(&self, args: &[&str]) -> Freshet {
        let mut command = Command::new(self.binary);
        command.arg("run").arg(self.dir.join("bench.yaml")).args(args).env("BENCH_PASSWORD", "freshet");
        Freshet::spawn_command(&mut command)
    }

    /// `freshet run --until caught-up`, which must end well.
    pub fn catch_up(&self) -> anyhow::Result<()> {
        ended_well(&self.start(&["--until", "caught-up"]))
    }

    /// From the start of the process until a mark is visible; then it is ended.
    pub fn until_mark(&self, id: u64, deadline_s: u64) -> anyhow::Result<Run> {
        let meter = self.meter();
        let process = self.start(&[]);
        let visible = self.target.wait_for_mark(id, deadline_s);
        let usage = process.usage();
        let visible = visible.with_context(|| format!("freshet said: {}", process.stderr()))?;
        let mut run = meter.stop_at(visible);
        run.parts.push(("freshet", usage));
        self.stop(&process)?;
        Ok(run)
    }

    /// SIGTERM, which must end it well.
    pub fn stop(&self, process: &Freshet) -> anyhow::Result<()> {
        process.terminate();
        ended_well(process)
    }

    /// Keeps the state of now.
    pub fn save(&self) -> anyhow::Result<()> {
        let saved = self.dir.join("log.saved");
        remove_dir(&saved)?;
        copy_dir(&self.log_dir(), &saved)?;
        self.source.save_position()?;
        self.target.save_target(self.dir.path())
    }

    /// Goes back to the state that was kept.
    pub fn restore(&self) -> anyhow::Result<()> {
        self.restore_log()?;
        self.target.restore_target(self.dir.path())
    }

    /// Goes back to the log that was kept.
    pub fn restore_log(&self) -> anyhow::Result<()> {
        remove_dir(&self.log_dir())?;
        self.source.restore_position()?;
        copy_dir(&self.dir.join("log.saved"), &self.log_dir())
    }

    /// Keeps the log of now.
    pub fn save_log(&self) -> anyhow::Result<()> {
        self.source.save_position()?;
        copy_dir(&self.log_dir(), &self.dir.join("log.saved"))
    }

    /// Nothing has ever been run.
    pub fn forget(&self) -> anyhow::Result<()> {
        remove_dir(&self.log_dir())?;
        self.source.forget_source()?;
        self.target.forget_target()
    }

    /// A clock over both servers.
    pub fn meter(&self) -> Meter<'a> {
        Meter::start(&[("source", self.source), ("target", self.target)])
    }

    /// Where it reads.
    pub fn source(&self) -> Server<'a> {
        self.source
    }

    /// Where it writes.
    pub fn target(&self) -> Server<'a> {
        self.target
    }

    /// A directory on the same disk as the log.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn log_dir(&self) -> PathBuf {
        self.dir.join("log")
    }
}

fn ended_well(process: &Freshet) -> anyhow::Result<()> {
    let exit = process.wait(END_DEADLINE);
    let tail: Vec<&str> = exit.stderr.lines().rev().take(12).collect();
    let tail: Vec<&str> = tail.into_iter().rev().collect();
    ensure!(exit.code == Some(0), "freshet ended with {:?}:\n{}", exit.code, tail.join("\n"));
    Ok(())
}

fn remove_dir(path: &Path) -> anyhow::Result<()> {
    if path.exists() {
        std::fs::remove_dir_all(path).with_context(|| format!("Cannot remove {}", path.display()))?;
    }
    Ok(())
}

fn copy_dir(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from).with_context(|| format!("Cannot list {}", from.display()))? {
        let path = entry?.path();
        let name = path.file_name().context("A file without a name")?;
        std::fs::copy(&path, to.join(name)).with_context(|| format!("Cannot copy {}", path.display()))?;
    }
    Ok(())
}
