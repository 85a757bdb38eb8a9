//! The cache directory: initialised data directories and unpacked servers, made once, outside of the clone.
//!
//! An entry is built beside its place and renamed into it, so an entry that exists is complete. Builders of the same
//! entry, in any process, take turns by a lock file.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::{During as _, Result};

/// The cache directory: `FRESHET_CACHE`, default `~/.cache/freshet`.
#[must_use]
pub fn cache_dir() -> PathBuf {
    if let Some(dir) = std::env::var_os("FRESHET_CACHE") {
        return PathBuf::from(dir);
    }
    let home = std::env::var_os("HOME").map_or_else(std::env::temp_dir, PathBuf::from);
    home.join(".cache").join("freshet")
}

/// The path of the entry `name`; built by `build`, which is given the path to fill, when it is not there.
pub(super) fn entry(name: &str, build: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let dir = cache_dir();
    let path = dir.join(name);
    if path.exists() {
        return Ok(path);
    }
    fs::create_dir_all(&dir).during(format!("Cannot create {}", dir.display()))?;
    let lock = File::create(dir.join(format!("{name}.lock"))).during("Cannot lock the cache directory")?;
    lock.lock().during("Cannot lock the cache directory")?;
    if path.exists() {
        return Ok(path);
    }
    let building = dir.join(format!("{name}.building"));
    if building.exists() {
        fs::remove_dir_all(&building).during(format!("Cannot remove {}", building.display()))?;
    }
    build(&building)?;
    fs::rename(&building, &path).during(format!("Cannot keep {}", path.display()))?;
    Ok(path)
}

/// The version out of what a program prints for `--version`, as part of a file name.
pub(super) fn key(printed: &str) -> String {
    let starts_with_digit = |word: &&str| word.starts_with(|c: char| c.is_ascii_digit());
    let version = printed.split_whitespace().find(starts_with_digit).unwrap_or("unknown");
    version.chars().map(|c| if c.is_ascii_alphanumeric() || ".+-".contains(c) { c } else { '-' }).collect()
}
