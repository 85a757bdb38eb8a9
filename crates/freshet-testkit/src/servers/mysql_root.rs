//! MySQL 9.7 in a private root: unpacked once from a newer Debian into the cache, run through its own loader.
//!
//! The unpacking is `mysql_root.sh`. A root counts as complete by its stamp, `freshet-version`, which is written
//! last and holds what the unpacked server says of its version.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{During as _, Result, ServerError, cache, cache_dir, run};

const SCRIPT: &str = include_str!("mysql_root.sh");
const ENTRY: &str = "mysql-9";
const STAMP: &str = "freshet-version";

/// An unpacked MySQL.
#[derive(Clone, Debug)]
pub struct MySqlRoot {
    path: PathBuf,
    version: String,
}

/// Whether MySQL has been unpacked into the cache.
#[must_use]
pub fn mysql_root_is_complete() -> bool {
    cache_dir().join(ENTRY).join(STAMP).exists()
}

impl MySqlRoot {
    /// The root in the cache, unpacked now (half a minute, 66 MB fetched) when it is not there.
    pub fn ensure() -> Result<Self> {
        let path = cache::entry(ENTRY, |path| {
            eprintln!("Unpacking MySQL into {} (once)", path.display());
            run(Command::new("sh").args(["-c", SCRIPT, "mysql_root.sh"]).arg(path))?;
            let unpacked = Self { path: path.to_path_buf(), version: String::new() };
            run(unpacked.command("usr/bin/mysql").arg("--version"))?;
            let version = run(unpacked.command("usr/sbin/mysqld").arg("--version"))?;
            fs::write(path.join(STAMP), version).during("Cannot write the stamp")
        })?;
        let stamp = path.join(STAMP);
        let Ok(version) = fs::read_to_string(&stamp) else {
            let path = path.display();
            return Err(ServerError::new(format!("Incomplete MySQL in {path}; remove that directory")));
        };
        let version = version.split("Ver ").nth(1).unwrap_or(&version).trim().to_owned();
        Ok(Self { path, version })
    }

    /// What the server says of its version.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Where it was unpacked.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A program of the root, run through the root's own loader and libraries.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let loader = if cfg!(target_arch = "aarch64") {
            "usr/lib/ld-linux-aarch64.so.1"
        } else {
            "lib64/ld-linux-x86-64.so.2"
        };
        let arch = if cfg!(target_arch = "aarch64") { "aarch64-linux-gnu" } else { "x86_64-linux-gnu" };
        let dir = |name: String| self.path.join(name).display().to_string();
        let libraries = [dir(format!("usr/lib/{arch}")), dir("usr/lib/mysql/private".to_owned())].join(":");
        let mut command = Command::new(self.path.join(loader));
        command.arg("--library-path").arg(libraries).arg(self.path.join(program));
        command
    }
}
