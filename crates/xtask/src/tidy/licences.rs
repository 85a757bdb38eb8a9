//! Every dependency's licence is one that deny.toml allows: the part of `cargo deny` that needs no other tool.
//!
//! Advisories and the texts of licences are cargo-deny's. The list of licences stands in deny.toml alone.

use cargo_metadata::Metadata;

use super::Finding;

/// A package and its licence expression.
#[derive(Debug)]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) licence: Option<String>,
}

pub(super) fn packages_of(metadata: &Metadata) -> Vec<Package> {
    let one = |package: &cargo_metadata::Package| Package {
        name: format!("{} {}", package.name, package.version),
        licence: package.license.clone(),
    };
    metadata.packages.iter().map(one).collect()
}

pub(super) fn check(packages: &[Package], deny: &str) -> Vec<Finding> {
    let allowed = allowed_in(deny);
    let mut findings = Vec::new();
    for package in packages {
        match &package.licence {
            None => findings.push(Finding::new(&package.name, "Names no licence")),
            Some(licence) if !satisfied(licence, &allowed) => {
                findings.push(Finding::new(
                    &package.name,
                    format!("Licence {licence} is not allowed in deny.toml"),
                ));
            }
            Some(_) => {}
        }
    }
    findings
}

/// The quoted names in the first `allow = [...]` of deny.toml.
fn allowed_in(deny: &str) -> Vec<&str> {
    let list = deny.split_once("\nallow = [").and_then(|(_, rest)| rest.split_once(']'));
    list.map_or_else(Vec::new, |(list, _)| list.split('"').skip(1).step_by(2).collect())
}

/// Whether an SPDX expression holds with these licences. An old-style `A/B` means `A OR B`.
fn satisfied(expression: &str, allowed: &[&str]) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut words = spaced.split_whitespace().peekable();
    any_of(&mut words, allowed)
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn any_of(words: &mut Words<'_>, allowed: &[&str]) -> bool {
    let mut holds = all_of(words, allowed);
    while words.next_if_eq(&"OR").is_some() {
        holds |= all_of(words, allowed);
    }
    holds
}

fn all_of(words: &mut Words<'_>, allowed: &[&str]) -> bool {
    let mut holds = single(words, allowed);
    while words.next_if_eq(&"AND").is_some() {
        holds &= single(words, allowed);
    }
    holds
}

fn single(words: &mut Words<'_>, allowed: &[&str]) -> bool {
    match words.next() {
        Some("(") => {
            let holds = any_of(words, allowed);
            words.next_if_eq(&")").is_some() && holds
        }
        Some(name) => {
            let exception = words.next_if_eq(&"WITH").and_then(|_| words.next());
            let whole =
                exception.map_or_else(|| name.to_owned(), |exception| format!("{name} WITH {exception}"));
            allowed.contains(&whole.as_str())
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DENY: &str = "[licenses]\nallow = [\n    \"MIT\",\n    \"Apache-2.0\",\n]\n";

    #[track_caller]
    fn check_licence(licence: Option<&str>, tidy: bool) {
        let package = Package { name: "some 1.0".to_owned(), licence: licence.map(str::to_owned) };
        assert_eq!(check(&[package], DENY).is_empty(), tidy, "{licence:?}");
    }

    #[test]
    fn expressions_are_weighed() {
        check_licence(Some("MIT"), true);
        check_licence(Some("MIT/Unlicense"), true);
        check_licence(Some("GPL-3.0 OR MIT"), true);
        check_licence(Some("(MIT OR GPL-3.0) AND Apache-2.0"), true);
        check_licence(Some("GPL-3.0"), false);
        check_licence(Some("MIT AND GPL-3.0"), false);
        check_licence(Some("(MIT OR Apache-2.0) AND GPL-3.0"), false);
        check_licence(Some("Apache-2.0 WITH LLVM-exception"), false);
        check_licence(None, false);
    }
}
