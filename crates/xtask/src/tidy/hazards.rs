//! docs/hazards.md tells the truth about the tests: every test that it names is there, every ID that a test's name begins
//! with has its tests on the page, and no ID is left out or without a word.
//!
//! An ID is a letter and a number. A test carries IDs at the beginning of its name: `p1_p2_name`, `m1_to_m20_name`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Context as _;

use super::{Finding, SourceFile};

const PAGE: &str = "docs/hazards.md";
const LETTERS: &[char] = &['P', 'T', 'R', 'D', 'M', 'G', 'O'];

pub(super) fn check(root: &Path, files: &[SourceFile]) -> anyhow::Result<Vec<Finding>> {
    let page = std::fs::read_to_string(root.join(PAGE)).with_context(|| format!("Cannot read {PAGE}"))?;
    let functions = files.iter().flat_map(|file| functions_of(&file.text)).collect();
    Ok(check_page(&page, &functions))
}

fn functions_of(text: &str) -> impl Iterator<Item = String> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let names = text.lines().filter_map(|line| line.split_once("fn ").map(|(_, rest)| rest));
    names.map(move |rest| rest.chars().take_while(|c| is_word(*c)).collect())
}

fn check_page(page: &str, functions: &BTreeSet<String>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut rows: BTreeMap<(char, u32), bool> = BTreeMap::new();
    for (number, line) in page.lines().enumerate() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, id, _, tests, _] = cells[..] else { continue };
        let Some(id) = id_of(id) else { continue };
        if rows.insert(id, tests.starts_with('`')).is_some() {
            findings.push(Finding::at(PAGE, number + 1, format!("{}{} stands twice", id.0, id.1)));
        }
        if tests.is_empty() {
            findings.push(Finding::at(PAGE, number + 1, "Neither a test nor why there is none"));
        }
        for name in tests.split('`').skip(1).step_by(2).filter(|name| !ids_of(name).is_empty()) {
            if !functions.contains(name) {
                findings.push(Finding::at(PAGE, number + 1, format!("There is no test {name}")));
            }
        }
    }
    findings.extend(holes(&rows));
    findings.extend(untold(&rows, functions));
    findings
}

/// Numbers begin at 1 and leave none out.
fn holes(rows: &BTreeMap<(char, u32), bool>) -> Vec<Finding> {
    let last = |letter| rows.keys().filter(|id| id.0 == letter).map(|id| id.1).max().unwrap_or(0);
    let all = LETTERS.iter().flat_map(|letter| (1..=last(*letter)).map(|number| (*letter, number)));
    let missing = all.filter(|id| !rows.contains_key(id));
    missing.map(|id| Finding::new(PAGE, format!("{}{} is missing", id.0, id.1))).collect()
}

/// IDs of tests whose row names none.
fn untold(rows: &BTreeMap<(char, u32), bool>, functions: &BTreeSet<String>) -> Vec<Finding> {
    let carried = functions.iter().flat_map(|name| ids_of(name).into_iter().map(move |id| (id, name)));
    let untold = carried.filter(|(id, _)| rows.get(id) != Some(&true));
    untold
        .map(|(id, name)| {
            Finding::new(PAGE, format!("The row of {}{} names no test, as {name} is", id.0, id.1))
        })
        .collect()
}

fn id_of(text: &str) -> Option<(char, u32)> {
    let mut chars = text.chars();
    let letter = chars.next().map(|c| c.to_ascii_uppercase()).filter(|c| LETTERS.contains(c))?;
    let number = chars.as_str();
    let is_number = (1..=2).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit());
    Some((letter, is_number.then(|| number.parse().ok()).flatten()?))
}

/// The IDs at the beginning of a test's name.
fn ids_of(name: &str) -> Vec<(char, u32)> {
    let mut ids: Vec<(char, u32)> = Vec::new();
    let mut is_range = false;
    for part in name.split('_') {
        match (part, id_of(part), ids.last().copied()) {
            ("to", _, Some(_)) => is_range = true,
            (_, Some(id), Some(from)) if is_range => {
                ids.extend((from.1 + 1..=id.1).map(|number| (from.0, number)));
                is_range = false;
            }
            (_, Some(id), _) => ids.push(id),
            _ => break,
        }
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(page: &str) -> Vec<String> {
        let functions = ["p1_a_test", "p2_to_p3_others", "plain"].map(str::to_owned);
        check_page(page, &functions.into()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_page_that_tells_the_tests_is_tidy() {
        let page = "| P1 | x | `p1_a_test` |\n| P2 | x | `p2_to_p3_others` |\n| P3 | x | `p2_to_p3_others` |\n\
                    | P4 | x | not yet: see `p1_a_test` |\n";
        assert_eq!(found(page), Vec::<String>::new());
    }

    #[test]
    fn what_does_not_agree_is_named() {
        let page = "| P1 | x | `p1_gone` |\n| P1 | x |  |\n| P3 | x | not yet |\n";
        let found = found(page).join("\n");
        for words in [
            "There is no test p1_gone",
            "P1 stands twice",
            "Neither a test",
            "P2 is missing",
            "The row of P3",
        ] {
            assert!(found.contains(words), "{words}: {found}");
        }
    }

    #[test]
    fn names_carry_ids() {
        assert_eq!(ids_of("m1_to_m3_every_type"), [('M', 1), ('M', 2), ('M', 3)]);
        assert_eq!(ids_of("t10_t11_killed"), [('T', 10), ('T', 11)]);
        assert_eq!(ids_of("p_1"), []);
    }
}
