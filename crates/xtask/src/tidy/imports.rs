//! Who may import whom among the workspace's crates, and which crate alone may import a heavy dependency.
//!
//! Development dependencies are free: a test may stand on anything. A crate that is not in the table fails, so that
//! a new one gets its place on purpose.

use cargo_metadata::{DependencyKind, Metadata};

use super::Finding;

/// A workspace crate and what it imports outside of tests.
#[derive(Debug)]
pub(super) struct Crate {
    pub(super) name: String,
    pub(super) imports: Vec<String>,
}

/// For each crate the workspace crates that it may import. Only `freshet` names backends.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("freshet-core", &[]),
    ("freshet-log", BACKEND),
    ("freshet-mysql", BACKEND),
    ("freshet-postgres", BACKEND),
    ("freshet-kafka", BACKEND),
    ("freshet-lake", BACKEND),
    ("freshet-mapping", &["freshet-core"]),
    ("freshet-pipeline", ENGINE),
    ("freshet-validate", ENGINE),
    ("freshet-console", ENGINE),
    ("freshet", PROGRAM),
    ("freshet-testkit", ENGINE),
    ("freshet-tests", &[]),
    ("xtask", &["freshet-core", "freshet-testkit"]),
];
const BACKEND: &[&str] = &["freshet-core"];
const ENGINE: &[&str] = &["freshet-core", "freshet-mapping"];
const PROGRAM: &[&str] = &[
    "freshet-core",
    "freshet-mapping",
    "freshet-pipeline",
    "freshet-validate",
    "freshet-console",
    "freshet-log",
    "freshet-mysql",
    "freshet-postgres",
    "freshet-kafka",
    "freshet-lake",
];

/// Heavy dependencies, by the start of their names, and the one crate that may have them.
const ONLY_UNDER: &[(&str, &str)] = &[
    ("arrow", "freshet-lake"),
    ("parquet", "freshet-lake"),
    ("object_store", "freshet-lake"),
    ("iceberg", "freshet-lake"),
    ("rdkafka", "freshet-kafka"),
    ("axum", "freshet-console"),
];

pub(super) fn crates_of(metadata: &Metadata) -> Vec<Crate> {
    let one = |package: &cargo_metadata::Package| {
        let outside_tests = package.dependencies.iter().filter(|dep| dep.kind != DependencyKind::Development);
        Crate { name: package.name.to_string(), imports: outside_tests.map(|dep| dep.name.clone()).collect() }
    };
    metadata.workspace_packages().into_iter().map(one).collect()
}

pub(super) fn check(crates: &[Crate]) -> Vec<Finding> {
    let names: Vec<&str> = crates.iter().map(|each| each.name.as_str()).collect();
    crates.iter().flat_map(|each| check_one(each, &names)).collect()
}

fn check_one(each: &Crate, workspace: &[&str]) -> Vec<Finding> {
    let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| *name == each.name) else {
        return vec![Finding::new(&each.name, "Not in the table of who may import whom (xtask tidy)")];
    };
    let mut findings = Vec::new();
    for import in &each.imports {
        if workspace.contains(&import.as_str()) && !allowed.contains(&import.as_str()) {
            findings.push(Finding::new(&each.name, format!("Must not import {import}")));
        }
        let heavy = ONLY_UNDER.iter().find(|(start, _)| import.starts_with(start));
        if let Some((_, owner)) = heavy.filter(|(_, owner)| *owner != each.name) {
            findings.push(Finding::new(&each.name, format!("Must not import {import}: only {owner} may")));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `crates` is lines of `name: import import`; every name in them is a workspace crate if it starts a line.
    fn check_text(crates: &str) -> Vec<String> {
        let parse = |line: &str| {
            let (name, imports) = line.split_once(':').unwrap();
            let imports = imports.split_whitespace().map(str::to_owned).collect();
            Crate { name: name.trim().to_owned(), imports }
        };
        let crates: Vec<Crate> = crates.lines().map(parse).collect();
        check(&crates).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_house_as_planned_is_tidy() {
        let findings = check_text(
            "freshet-core: bytes\nfreshet-log: freshet-core\nfreshet-lake: freshet-core arrow-array parquet\n\
             freshet-pipeline: freshet-core freshet-mapping\nfreshet-mapping: freshet-core\n\
             freshet: freshet-log freshet-lake freshet-pipeline",
        );
        assert_eq!(findings, Vec::<String>::new());
    }

    #[test]
    fn each_forbidden_import_is_named() {
        let backends = "freshet-mysql:\nfreshet-log:\nfreshet-testkit:\n";
        let refused = |line: &str, finding: &str| {
            assert_eq!(check_text(&format!("{backends}{line}")), [finding], "{line}");
        };
        refused("freshet-core: freshet-log", "freshet-core: Must not import freshet-log");
        refused("freshet-postgres: freshet-mysql", "freshet-postgres: Must not import freshet-mysql");
        refused("freshet-pipeline: freshet-log", "freshet-pipeline: Must not import freshet-log");
        refused("freshet: freshet-testkit", "freshet: Must not import freshet-testkit");
        refused(
            "freshet-console: rdkafka",
            "freshet-console: Must not import rdkafka: only freshet-kafka may",
        );
        refused("freshet-new: bytes", "freshet-new: Not in the table of who may import whom (xtask tidy)");
    }
}
