//! Which log directory a `FILE|DIR` argument means.

use crate::config::{self, Variables};
use crate::exit::Failure;
use freshet_core::Error;
use std::path::{Path, PathBuf};

/// The environment.
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The log directory itself, or the one that a pipeline's file names. Its secrets are not looked up.
pub fn log_dir(target: &Path) -> Result<PathBuf, Failure> {
    if target.is_dir() {
        return Ok(target.to_owned());
    }
    let dir = config::log_dir(target, Variables::From(&environment))
        .map_err(|refused| Failure::Refused { file: target.to_owned(), refused })?;
    if !dir.is_dir() {
        let message = format!("Log directory {} is not there", dir.display());
        return Err(Error::invalid(message)
            .with_hint("The pipeline has not run yet, or log.dir has changed")
            .into());
    }
    Ok(dir)
}
