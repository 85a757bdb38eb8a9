//! Statements through a server's own command line client: the independent hand and eye of a test.
//!
//! Not a driver: each call is a process of its own and the answer is text, without headers, columns separated by
//! tabs, NULL as `NULL`. Statements go in by a file, so their size has no bound and nothing can dead-lock.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{During as _, Process, Result, ServerError, TestDir};

const JOB_DEADLINE: Duration = Duration::from_secs(600);
static NEXT_JOB: AtomicU64 = AtomicU64::new(0);

/// A client process in the background.
#[derive(Debug)]
pub struct SqlJob {
    process: Process,
    files: JobFiles,
    _dir: Arc<TestDir>,
}

#[derive(Debug)]
struct JobFiles {
    output: PathBuf,
    errors: PathBuf,
}

impl Drop for JobFiles {
    fn drop(&mut self) {
        for path in [&self.output, &self.errors] {
            let _ = fs::remove_file(path);
        }
    }
}

impl SqlJob {
    /// Starts `client`, which reads these statements.
    pub(super) fn spawn(dir: &Arc<TestDir>, client: Command, sql: &str) -> Result<Self> {
        let path = dir.join(format!("sql-{}.sql", NEXT_JOB.fetch_add(1, Ordering::Relaxed)));
        fs::write(&path, sql).during("Cannot write the statements")?;
        let job = Self::spawn_file(dir, client, &path);
        let _ = fs::remove_file(&path);
        job
    }

    /// Starts `client`, which reads the statements of a file.
    pub(super) fn spawn_file(dir: &Arc<TestDir>, mut client: Command, path: &Path) -> Result<Self> {
        let number = NEXT_JOB.fetch_add(1, Ordering::Relaxed);
        let file = |end: &str| dir.join(format!("sql-{number}.{end}"));
        let files = JobFiles { output: file("out"), errors: file("err") };
        let input = fs::File::open(path).during(format!("Cannot open {}", path.display()))?;
        let process = Process::spawn(dir, &mut client, input.into(), &files.output, &files.errors)?;
        Ok(Self { process, files, _dir: Arc::clone(dir) })
    }

    /// The client's process.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Waits for the end and returns what was printed, without the last line end.
    pub fn wait(self) -> Result<String> {
        let status = self.process.wait(JOB_DEADLINE);
        let Some(status) = status else {
            return Err(ServerError::new(format!("The client did not end within {JOB_DEADLINE:?}")));
        };
        let read = |path: &PathBuf| fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let mut output = read(&self.files.output).during("Cannot read the client's output")?;
        if !status.success() {
            let errors = read(&self.files.errors).during("Cannot read the client's errors")?;
            return Err(ServerError::new(format!("The client failed ({status}): {}", errors.trim_end())));
        }
        if output.ends_with('\n') {
            output.pop();
        }
        Ok(output)
    }
}
