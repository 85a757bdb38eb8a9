//! The example pipelines parse: the program itself reads each one, without connecting anywhere.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use super::Finding;
use crate::test;

pub(super) fn check(root: &Path) -> anyhow::Result<Vec<Finding>> {
    let examples = examples(&root.join("pipelines"))?;
    if examples.is_empty() {
        return Ok(Vec::new());
    }
    let freshet = test::build_freshet()?;
    examples.iter().filter_map(|example| check_one(&freshet, root, example).transpose()).collect()
}

fn examples(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// `freshet check --syntax FILE` exits 0 for a file that it would run.
fn check_one(freshet: &Path, root: &Path, example: &Path) -> anyhow::Result<Option<Finding>> {
    let output = Command::new(freshet).args(["check", "--syntax"]).arg(example).current_dir(root).output();
    let output = output.context("Cannot run freshet")?;
    if output.status.success() {
        return Ok(None);
    }
    let place = example.strip_prefix(root).unwrap_or(example).display().to_string();
    let stderr = String::from_utf8_lossy(&output.stderr);
    Ok(Some(Finding::new(place, format!("Does not parse ({}): {}", output.status, stderr.trim()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stands in for the program: exits as told, so that the rule itself is tested without a build.
    #[test]
    fn an_example_that_the_program_refuses_is_named() {
        let root = Path::new("/example");
        let example = root.join("pipelines/shop.yaml");
        assert_eq!(check_in(Path::new("true"), &example), None);
        let finding = check_in(Path::new("false"), &example).unwrap();
        assert_eq!(finding.place, "/example/pipelines/shop.yaml");
        assert!(finding.text.contains("Does not parse"), "{finding}");
    }

    fn check_in(program: &Path, example: &Path) -> Option<Finding> {
        check_one(program, Path::new("."), example).unwrap()
    }
}
