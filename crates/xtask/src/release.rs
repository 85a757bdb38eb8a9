//! The `freshet` binary as users get it: built with the release profile, for the demo and the bench.
//!
//! `FRESHET_BIN` names a binary that is used as it is.

use std::path::PathBuf;

use crate::shell;

/// Builds it and returns its path.
pub fn build() -> anyhow::Result<PathBuf> {
    if let Some(binary) = std::env::var_os("FRESHET_BIN") {
        return Ok(PathBuf::from(binary));
    }
    shell::run(&mut shell::cargo(&["build", "--release", "--package", "freshet"]))?;
    let metadata = cargo_metadata::MetadataCommand::new().current_dir(shell::root()).no_deps().exec()?;
    Ok(metadata.target_directory.join("release").join("freshet").into_std_path_buf())
}
