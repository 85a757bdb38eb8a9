//! `cargo xtask tidy`: the rules of the house that no compiler checks.
//!
//! - `imports`: who may import whom, from `cargo metadata`.
//! - `sources`: what every Rust file must and must not hold, its length and that of its functions.
//! - `licences`: every dependency's licence is one that deny.toml allows.
//! - `pipelines`: the example pipelines parse.
//! - `pages`: what the Markdown pages link to and the files they name exist.
//! - `hazards`: the page of hazards and the tests that carry their IDs agree.
//!
//! Each rule is a function from text to findings and has a test with a sample that it must refuse.

mod hazards;
mod imports;
mod lexer;
mod licences;
mod pages;
mod pipelines;
mod sources;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

use crate::shell;

/// One broken rule at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    place: String,
    text: String,
}

impl Finding {
    fn new(place: impl Into<String>, text: impl Into<String>) -> Self {
        Self { place: place.into(), text: text.into() }
    }

    fn at(path: &str, line: usize, text: impl Into<String>) -> Self {
        Self::new(format!("{path}:{line}"), text)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.place, self.text)
    }
}

/// Runs all rules and fails when one is broken anywhere.
pub fn run() -> anyhow::Result<()> {
    let root = shell::root();
    let files = rust_files(&root)?;
    let metadata = cargo_metadata::MetadataCommand::new().current_dir(&root).exec()?;
    let deny = fs::read_to_string(root.join("deny.toml")).context("Cannot read deny.toml")?;

    let mut findings = imports::check(&imports::crates_of(&metadata));
    findings.extend(sources::check(&files));
    findings.extend(licences::check(&licences::packages_of(&metadata), &deny));
    findings.extend(pages::check(&root)?);
    findings.extend(hazards::check(&root, &files)?);
    findings.extend(pipelines::check(&root)?);
    for finding in &findings {
        println!("{finding}");
    }
    ensure!(findings.is_empty(), "Not tidy: {} findings", findings.len());
    println!("Tidy: {} Rust files, {} packages", files.len(), metadata.packages.len());
    Ok(())
}

/// A file by its path from the root, with forward slashes, and its text.
struct SourceFile {
    path: String,
    text: String,
}

fn rust_files(root: &Path) -> anyhow::Result<Vec<SourceFile>> {
    let mut found = Vec::new();
    for folder in ["crates", "tests", "fuzz"] {
        collect(&root.join(folder), &mut found)?;
    }
    found.sort();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).with_context(|| format!("Cannot read {}", path.display()))?;
        let path = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
        Ok(SourceFile { path, text })
    };
    found.into_iter().map(read).collect()
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let is_build_output = path.ends_with("target");
        if path.is_dir() && !is_build_output {
            collect(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(())
}
