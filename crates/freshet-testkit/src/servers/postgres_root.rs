//! PostgreSQL versions that Debian does not have, unpacked once into the cache.
//!
//! Servers only (initdb, postgres): the clients are Debian's. The unpacking is `postgres_root.sh`. Where the cache may not
//! be entered by the user `postgres`, a copy stands in the system's temporary directory.

use super::{During as _, Result, ServerError, cache, is_root, run};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

const SCRIPT: &str = include_str!("postgres_root.sh");
/// What is known to start, by major version.
const PACKAGES: &[(u32, &str)] = &[(17, "17.10.0-beta.17"), (18, "18.4.0-beta.17")];

/// The directory of the programs of that major version, unpacked now (a few seconds, 24 MB fetched) if need be.
pub(super) fn bin_dir(version: u32) -> Result<PathBuf> {
    let package = PACKAGES.iter().find(|(major, _)| *major == version).map(|(_, package)| *package);
    let package = package.ok_or_else(|| ServerError::new(format!("No package of PostgreSQL {version}")))?;
    let root = cache::entry(&format!("postgres-{package}"), |path| {
        eprintln!("Unpacking PostgreSQL {version} into {} (once)", path.display());
        run(Command::new("sh").args(["-c", SCRIPT, "postgres_root.sh"]).arg(path).arg(package)).map(drop)
    })?;
    let root = if is_root() { outside_of_home(&root, package)? } else { root };
    Ok(root.join("bin"))
}

/// Whether every version is in the cache.
#[must_use]
pub fn postgres_roots_are_complete() -> bool {
    PACKAGES.iter().all(|(_, package)| cache::cache_dir().join(format!("postgres-{package}")).exists())
}

/// Unpacks every version.
pub fn ensure_postgres_roots() -> Result<()> {
    PACKAGES.iter().try_for_each(|(version, _)| bin_dir(*version).map(drop))
}

/// A copy that everybody may enter.
fn outside_of_home(root: &Path, package: &str) -> Result<PathBuf> {
    let copy = std::env::temp_dir().join(format!("freshet-postgres-{package}"));
    if copy.exists() {
        return Ok(copy);
    }
    // Tests beside each other copy beside each other: the first that is done counts.
    let building = copy.with_extension(format!("building-{:08x}", rand::random::<u32>()));
    run(Command::new("cp").arg("-a").arg(root).arg(&building))?;
    fs::set_permissions(&building, fs::Permissions::from_mode(0o755))
        .during("Cannot open the copy to all")?;
    match fs::rename(&building, &copy) {
        // Another one was faster.
        Err(_) if copy.exists() => fs::remove_dir_all(&building).during("Cannot remove a copy")?,
        renamed => renamed.during("Cannot keep the copy")?,
    }
    Ok(copy)
}
