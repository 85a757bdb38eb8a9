//! The Markdown pages tell the truth about the tree: what they link to and the source files they name exist.
//!
//! A link is `](target)`; web addresses and anchors are not followed. A named file is a word in backticks that ends
//! in `.rs` and starts with a folder of the root.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::Finding;

const FOLDERS: &[&str] = &["crates/", "tests/", "fuzz/", "pipelines/", "docs/"];

pub(super) fn check(root: &Path) -> anyhow::Result<Vec<Finding>> {
    let mut pages = markdown_in(root)?;
    pages.extend(markdown_in(&root.join("docs"))?);
    pages.extend(markdown_in(&root.join("docs/decisions"))?);
    let mut findings = Vec::new();
    for page in pages {
        let text = fs::read_to_string(&page).with_context(|| format!("Cannot read {}", page.display()))?;
        let folder = page.parent().unwrap_or(root);
        let name = page.strip_prefix(root).unwrap_or(&page).display().to_string();
        findings.extend(check_page(&name, &text, |target| {
            let base = if target.starts_root { root } else { folder };
            base.join(target.path).exists()
        }));
    }
    Ok(findings)
}

/// What a page points at: from the page's own folder, or from the root.
struct Target<'a> {
    path: &'a str,
    starts_root: bool,
}

fn markdown_in(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn check_page(page: &str, text: &str, exists: impl Fn(Target<'_>) -> bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let missing_links = links(line).filter(|path| !exists(Target { path, starts_root: false }));
        let missing_files = named_files(line).filter(|path| !exists(Target { path, starts_root: true }));
        for path in missing_links.chain(missing_files) {
            findings.push(Finding::at(page, number + 1, format!("{path} does not exist")));
        }
    }
    findings
}

fn links(line: &str) -> impl Iterator<Item = &str> {
    let targets = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let local = targets.filter(|target| !target.contains("://") && !target.starts_with("mailto:"));
    local.filter_map(|target| target.split(['#', ' ']).next()).filter(|path| !path.is_empty())
}

fn named_files(line: &str) -> impl Iterator<Item = &str> {
    let in_backticks = line.split('`').skip(1).step_by(2);
    in_backticks.filter(|word| {
        let is_plain = !word.contains([' ', '*', '<', '{']);
        is_plain && word.ends_with(".rs") && FOLDERS.iter().any(|folder| word.starts_with(folder))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn missing(text: &str, expect: &[&str]) {
        let exists = |target: Target<'_>| target.path.contains("real");
        let found: Vec<_> = check_page("README.md", text, exists).iter().map(ToString::to_string).collect();
        assert_eq!(found, expect, "{text}");
    }

    #[test]
    fn links_and_files_that_do_not_exist_are_named() {
        missing("see [a](docs/gone.md) and [b](real.md#part)", &["README.md:1: docs/gone.md does not exist"]);
        missing(
            "x\n`crates/a/src/gone.rs` then `crates/a/src/real.rs`",
            &["README.md:2: crates/a/src/gone.rs does not exist"],
        );
    }

    #[test]
    fn web_addresses_anchors_and_patterns_are_free() {
        missing(
            "[a](https://example.org/gone) [b](#part) `crates/*/gone.rs` `sink.rs` `crates/<name>/gone.rs`",
            &[],
        );
    }
}
