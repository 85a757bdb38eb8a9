//! freshet as it is measured: a pipeline's file, its runs, and its state saved and put back between rounds.
//!
//! The state of a pipeline is its log directory and its target database; a saved pair is a point from which the same
//! backlog can be drained again and again.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use freshet_testkit::servers::{Freshet, MyServer, Postgres, TestDir};

use super::measure::tied;
use super::world;

const END_DEADLINE: Duration = Duration::from_secs(600);
/// The target database, and the copy that a round starts from.
pub const DATABASE: &str = "warehouse";
const SAVED: &str = "warehouse_saved";

/// A pipeline of the bench.
pub struct Ours<'a> {
    dir: TestDir,
    binary: &'a Path,
    target: &'a Postgres,
}

impl<'a> Ours<'a> {
    /// Writes the pipeline's file and makes its target database. `tables` is the pattern of what is captured.
    pub fn new(
        binary: &'a Path,
        source: &MyServer,
        target: &'a Postgres,
        mode: &str,
        tables: &str,
    ) -> anyhow::Result<Self> {
        let dir = TestDir::new("bench");
        let yaml = format!(
            r#"name: bench
mode: {mode}
source: {{ type: mariadb, host: 127.0.0.1, port: {}, user: freshet, password: "${{BENCH_PASSWORD}}", tls: disable }}
tables: {{ include: ["{tables}"] }}
log: {{ dir: log, bytes_max: 20GiB }}
sinks:
  - {{ name: target, type: postgres, host: 127.0.0.1, port: {}, database: {DATABASE}, user: freshet,
      password: "${{BENCH_PASSWORD}}", schemas: {{ bench: public }} }}
"#,
            source.port(),
            target.port()
        );
        std::fs::write(dir.join("bench.yaml"), yaml).context("Cannot write the pipeline's file")?;
        world::database(target, DATABASE, None)?;
        Ok(Self { dir, binary, target })
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
        world::database(self.target, SAVED, Some(DATABASE))
    }

    /// Goes back to the state that was kept.
    pub fn restore(&self) -> anyhow::Result<()> {
        self.restore_log()?;
        world::database(self.target, DATABASE, Some(SAVED))
    }

    /// Goes back to the log that was kept.
    pub fn restore_log(&self) -> anyhow::Result<()> {
        remove_dir(&self.log_dir())?;
        copy_dir(&self.dir.join("log.saved"), &self.log_dir())
    }

    /// Keeps the log of now.
    pub fn save_log(&self) -> anyhow::Result<()> {
        copy_dir(&self.log_dir(), &self.dir.join("log.saved"))
    }

    /// Nothing has ever been run.
    pub fn forget(&self) -> anyhow::Result<()> {
        remove_dir(&self.log_dir())?;
        world::database(self.target, DATABASE, None)
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
