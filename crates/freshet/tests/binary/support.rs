//! Runs the real binary and keeps what it printed.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// A directory that goes when the test does.
pub struct Dir(pub PathBuf);

impl Dir {
    /// An empty one.
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("freshet-cli-{}-{number}", std::process::id()));
        // A process of that number may have been killed here once.
        std::fs::remove_dir_all(&dir).ok();
        std::fs::create_dir_all(&dir).expect("directory");
        Self(dir)
    }

    /// Writes a file into it.
    pub fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, content).expect("written");
        path
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// How a process ended.
#[derive(Debug)]
pub struct Ran {
    /// Exit code.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// A command line in the making.
pub struct Freshet(pub Command);

/// `freshet` with these arguments, its input empty.
pub fn freshet(args: &[&str]) -> Freshet {
    let mut command = Command::new(env!("CARGO_BIN_EXE_freshet"));
    command.args(args).stdin(Stdio::null()).env_remove("PW");
    Freshet(command)
}

impl Freshet {
    /// Adds an argument.
    pub fn arg(mut self, arg: &Path) -> Self {
        self.0.arg(arg);
        self
    }

    /// Adds arguments.
    pub fn args(mut self, args: &[&str]) -> Self {
        self.0.args(args);
        self
    }

    /// Sets a variable.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.0.env(name, value);
        self
    }

    /// Removes a variable.
    pub fn env_remove(mut self, name: &str) -> Self {
        self.0.env_remove(name);
        self
    }

    /// Runs it to its end.
    pub fn run(mut self) -> Ran {
        let output = self.0.output().expect("freshet starts");
        Ran {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).expect("UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    }
}
