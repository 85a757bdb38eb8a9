//! Throwaway real servers on 127.0.0.1, and the `freshet` binary, as processes that never outlive the test.
//!
//! Each server has a fresh directory (under the system's temporary directory, or `FRESHET_TEST_DIR`), a reserved
//! port and a process of its own. `Drop` kills the process tree by pid and removes the directory; when the test
//! process itself is killed, a small watchdog that holds the other end of a pipe does the same ([`TestDir`]).
//! No system service and no container is used or touched.
//!
//! These are not mocks and decide nothing: a failing start, statement or wait is a panic that carries the server's
//! own words. What is slow (initialising a data directory, unpacking MySQL) is done once and kept in the cache
//! directory (`FRESHET_CACHE`, default `~/.cache/freshet`), outside the clone.
//!
//! All methods take `&self`: a server can be shared by threads that write while another kills it.

mod cache;
mod client;
mod dir;
mod freshet;
mod my;
mod mysql_root;
mod port;
mod postgres;
mod postgres_root;
mod process;
mod proctree;
mod proxy;
mod seed;
#[cfg(test)]
mod tests;
mod tls;
mod wait;

pub use cache::cache_dir;
pub use client::SqlJob;
pub use dir::{SmallDisk, TestDir};
pub use freshet::{Exit, Freshet};
pub use my::{Flavor, MariaDb, MariaDbOptions, MyOptions, MyServer, MySql, MySqlOptions};
pub use mysql_root::{MySqlRoot, mysql_root_is_complete};
pub use postgres::{Postgres, PostgresOptions, postgres_bin_dir};
pub use postgres_root::{ensure_postgres_roots, postgres_roots_are_complete};
pub use process::Process;
pub use proctree::Usage;
pub use proxy::{Hold, Proxy};
pub use seed::seed;
pub use tls::{Tls, TlsClient};
pub use wait::{poll_until, wait_until, wait_until_async};

use std::fmt::Display;
use std::path::Path;
use std::process::Command;

/// What went wrong while a server was set up; the text says which step, and what the program printed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ServerError(String);

impl ServerError {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// Short for results of this module.
pub type Result<T> = std::result::Result<T, ServerError>;

/// Adds what was being done to any error.
trait During<T> {
    fn during(self, what: impl Display) -> Result<T>;
}

impl<T, E: Display> During<T> for std::result::Result<T, E> {
    fn during(self, what: impl Display) -> Result<T> {
        self.map_err(|error| ServerError(format!("{what}: {error}")))
    }
}

/// Runs a command to its end; anything but success is an error with its stderr.
fn run(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().during(format!("Cannot run {name}"))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let args: Vec<_> = command.get_args().map(|arg| arg.to_string_lossy()).collect();
    Err(ServerError(format!("{name} {} failed ({}): {stderr}{stdout}", args.join(" "), output.status)))
}

/// Copies a directory tree with its owners and holes; shares blocks where the file system can.
fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    run(Command::new("cp").args(["-a", "--reflink=auto", "--sparse=auto", "-T"]).arg(from).arg(to)).map(drop)
}

/// Whether this process is root: then PostgreSQL runs as user `postgres`, and small disks can be mounted.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
