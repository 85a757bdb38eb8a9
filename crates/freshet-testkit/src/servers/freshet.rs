//! The real `freshet` binary as a process of a test.
//!
//! The binary is `FRESHET_BIN` when set, otherwise the one beside the test's own build, brought up to date by
//! `cargo build` once in each test process.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use super::{Process, TestDir, Usage};

/// How a run ended and what it printed.
#[derive(Clone, Debug)]
pub struct Exit {
    /// The exit code, or nothing when a signal ended it.
    pub code: Option<i32>,
    /// What went to stdout.
    pub stdout: String,
    /// What went to stderr.
    pub stderr: String,
}

/// A running `freshet`.
#[derive(Debug)]
pub struct Freshet {
    process: Process,
    dir: TestDir,
}

impl Freshet {
    /// Starts `freshet` with these arguments and additional environment variables.
    ///
    /// # Panics
    /// When it cannot be built or started.
    #[must_use]
    pub fn spawn(args: &[&str], env: &[(&str, &str)]) -> Self {
        Self::spawn_command(Self::command().args(args).envs(env.iter().copied()))
    }

    /// Starts a command made from [`Freshet::command`], with a working directory or limits of its own.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn spawn_command(command: &mut Command) -> Self {
        let dir = TestDir::new("run");
        let (stdout, stderr) = (dir.join("stdout"), dir.join("stderr"));
        let process = Process::spawn(&dir, command, Stdio::null(), &stdout, &stderr);
        Self { process: process.unwrap_or_else(|error| panic!("{error}")), dir }
    }

    /// Runs `freshet` to its end.
    ///
    /// # Panics
    /// When it has not ended at the deadline; with what it printed.
    #[track_caller]
    pub fn run(args: &[&str], env: &[(&str, &str)], deadline: Duration) -> Exit {
        Self::spawn(args, env).wait(deadline)
    }

    /// The bare command, for tests that need more than arguments and environment.
    #[must_use]
    pub fn command() -> Command {
        static BINARY: OnceLock<PathBuf> = OnceLock::new();
        Command::new(BINARY.get_or_init(binary))
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Whether it has not ended yet.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.process.is_running()
    }

    /// Waits for the end.
    ///
    /// # Panics
    /// When it has not ended at the deadline; with what it printed.
    #[track_caller]
    pub fn wait(&self, deadline: Duration) -> Exit {
        let Some(status) = self.process.wait(deadline) else {
            let (stdout, stderr) = (self.stdout(), self.stderr());
            panic!("freshet has not ended after {deadline:?}\nstdout: {stdout}\nstderr: {stderr}");
        };
        self.exit(status)
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill9(&self) {
        self.process.kill9();
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        self.process.terminate();
    }

    /// SIGINT.
    pub fn interrupt(&self) {
        self.process.interrupt();
    }

    /// SIGSTOP: an owner that sleeps through a take-over.
    pub fn pause(&self) {
        self.process.pause();
    }

    /// SIGCONT after [`Freshet::pause`].
    pub fn resume(&self) {
        self.process.resume();
    }

    /// What went to stdout so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        read(&self.dir.join("stdout"))
    }

    /// What went to stderr so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        read(&self.dir.join("stderr"))
    }

    /// CPU seconds and peak memory so far; zero once it has ended.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.process.usage()
    }

    fn exit(&self, status: ExitStatus) -> Exit {
        Exit { code: status.code(), stdout: self.stdout(), stderr: self.stderr() }
    }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

/// Builds the binary of the profile that this very process was built with.
fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("FRESHET_BIN") {
        return PathBuf::from(path);
    }
    let exe =
        std::env::current_exe().unwrap_or_else(|error| panic!("Cannot find the test's own path: {error}"));
    let mut dir = exe.parent().unwrap_or(Path::new("."));
    if dir.ends_with("deps") {
        dir = dir.parent().unwrap_or(dir);
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--quiet", "--package", "freshet", "--target-dir"]);
    build.arg(dir.parent().unwrap_or(dir)).current_dir(env!("CARGO_MANIFEST_DIR"));
    if dir.ends_with("release") {
        build.arg("--release");
    }
    super::run(&mut build).unwrap_or_else(|error| panic!("{error}"));
    dir.join("freshet")
}
