//! What every Rust file must and must not hold.
//!
//! Works on blanked text (`lexer`), so words in comments and strings do not count. `unwrap` and the like are
//! clippy's; this is only what clippy cannot say.

use super::{Finding, SourceFile, lexer};

const FILE_LINES_MAX: usize = 800;
const FUNCTION_LINES_MAX: usize = 70;

/// Files that may pause, each with its reason. Tests never may: they wait for a condition.
const MAY_SLEEP: &[(&str, &str)] = &[
    ("crates/freshet-testkit/src/servers/wait.rs", "the poll that all waiting goes through"),
    ("crates/freshet-pipeline/src/retry.rs", "the back-off between attempts"),
    (
        "crates/freshet-pipeline/tests/rebuild/servers.rs",
        "virtual time: nobody waits while the clock is paused",
    ),
    ("crates/freshet-pipeline/tests/patience.rs", "virtual time: nobody waits while the clock is paused"),
    (
        "crates/freshet-pipeline/tests/simulation/world.rs",
        "virtual time: nobody waits while the clock is paused",
    ),
    ("crates/freshet-mysql/src/table/view.rs", "the pause between tries for the lock"),
    (
        "crates/freshet-postgres/src/source/look_up.rs",
        "the pace of asking whether a commit that the stream has is seen",
    ),
    ("crates/freshet-postgres/src/table/export.rs", "the pace of saying whom a snapshot waits for"),
    ("crates/freshet-postgres/src/wire/paced.rs", "lets the socket fill while the stream is busy"),
    ("crates/freshet/src/status.rs", "the pace of status --watch"),
    ("crates/freshet/src/status_file.rs", "the pace of the status file"),
    ("crates/freshet-mysql/src/source/replica.rs", "asks again until a dead replica is no longer listed"),
];

/// The one file that may ask which features are on.
const FEATURES_FILE: &str = "crates/freshet/src/assemble.rs";

/// Words that must not stand in code, and why.
const FORBIDDEN: &[(&str, &str)] = &[
    ("#[ignore", "No ignored tests: mend or delete it"),
    (", ignore)", "No ignored tests: mend or delete it"),
    ("todo!", "Nothing unfinished: refuse by name what is not supported"),
    ("unimplemented!", "Nothing unfinished: refuse by name what is not supported"),
    ("allow(unused", "No silenced lint: delete what nothing uses"),
];

pub(super) fn check(files: &[SourceFile]) -> Vec<Finding> {
    let mut findings: Vec<Finding> =
        files.iter().flat_map(|file| check_file(&file.path, &file.text)).collect();
    for (path, _) in MAY_SLEEP {
        let pauses = |file: &SourceFile| file.path == *path && has_sleep(&lexer::blank(&file.text));
        if !files.iter().any(pauses) {
            findings.push(Finding::new(*path, "Listed as a file that may sleep, but does not; take it off"));
        }
    }
    findings
}

fn check_file(path: &str, text: &str) -> Vec<Finding> {
    let code = lexer::blank(text);
    let mut findings = Vec::new();
    if !text.starts_with("//!") {
        findings.push(Finding::at(path, 1, "Must open with //! saying in one sentence what it is"));
    }
    for (number, line) in code.lines().enumerate() {
        findings.extend(check_line(path, number + 1, line));
    }
    findings.extend(check_length(path, &code));
    findings.extend(check_functions(path, &code));
    findings
}

fn check_line(path: &str, number: usize, line: &str) -> Vec<Finding> {
    let forbidden = FORBIDDEN.iter().filter(|(word, _)| line.contains(word));
    let mut findings: Vec<_> = forbidden.map(|(_, why)| Finding::at(path, number, *why)).collect();
    // Helpers that several test binaries share are used in parts by each.
    let shared_helpers = path.contains("/tests/") || path.starts_with("fuzz/");
    if line.contains("allow(dead_code") && !shared_helpers {
        findings.push(Finding::at(path, number, "No silenced lint: delete what nothing uses"));
    }
    let may_sleep = MAY_SLEEP.iter().any(|(allowed, _)| *allowed == path);
    if has_sleep(line) && !may_sleep {
        let text = "No sleep: wait for a condition; a pause with a reason goes into the table of xtask tidy";
        findings.push(Finding::at(path, number, text));
    }
    let asks_features = line.contains("cfg") && line.contains("feature =");
    if asks_features && path != FEATURES_FILE {
        findings.push(Finding::at(path, number, format!("cfg(feature) stands in {FEATURES_FILE} only")));
    }
    findings
}

fn has_sleep(code: &str) -> bool {
    ["sleep(", "sleep_until("].iter().any(|call| {
        code.match_indices(call)
            .any(|(at, _)| !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
    })
}

/// Lines before the unit tests count; files of tests only are free.
fn check_length(path: &str, code: &str) -> Option<Finding> {
    let is_test = path.starts_with("tests/") || path.contains("/tests/") || path.ends_with("tests.rs");
    let lines = code.split("#[cfg(test)]\nmod tests {").next().unwrap_or(code).lines().count();
    let text = format!("{lines} lines before the tests; at most {FILE_LINES_MAX}: a file is one room");
    (!is_test && lines > FILE_LINES_MAX).then(|| Finding::at(path, 1, text))
}

fn check_functions(path: &str, code: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        let ends_another_word = code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let Some(end) = function_end(&code[at..]).filter(|_| !ends_another_word) else { continue };
        let lines = code[at..at + end].lines().count();
        if lines > FUNCTION_LINES_MAX {
            let name = code[at + 3..].split(['(', '<']).next().unwrap_or_default();
            let number = code[..at].matches('\n').count() + 1;
            let text = format!("Function {name} has {lines} lines; at most {FUNCTION_LINES_MAX}");
            findings.push(Finding::at(path, number, text));
        }
    }
    findings
}

/// The end of the body of a function that starts here; nothing for one without a body.
fn function_end(code: &str) -> Option<usize> {
    let (mut parentheses, mut braces) = (0_usize, 0_usize);
    for (at, c) in code.char_indices() {
        match c {
            '(' | '[' => parentheses += 1,
            ')' | ']' => parentheses = parentheses.saturating_sub(1),
            ';' if braces == 0 && parentheses == 0 => return None,
            '{' => braces += 1,
            '}' if braces <= 1 => return Some(at + 1),
            '}' => braces -= 1,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "crates/freshet-log/src/writer.rs";

    #[track_caller]
    fn refused(text: &str, place: &str, part: &str) {
        let findings = check_file(PATH, &format!("//! Head.\n{text}"));
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert_eq!(findings[0].place, place);
        assert!(findings[0].text.contains(part), "{}", findings[0]);
    }

    #[track_caller]
    fn accepted(path: &str, text: &str) {
        assert_eq!(check_file(path, text), []);
    }

    #[test]
    fn a_file_without_a_head_is_refused() {
        let findings = check_file(PATH, "// Head.\nfn f() {}\n");
        assert!(findings[0].text.contains("Must open with //!"), "{findings:?}");
    }

    #[test]
    fn each_forbidden_word_is_refused_in_code_and_free_in_text() {
        let place = format!("{PATH}:2");
        refused("#[ignore = \"slow\"] fn f() {}", &place, "No ignored tests");
        refused("#[cfg_attr(miri, ignore)] fn f() {}", &place, "No ignored tests");
        refused("fn f() { todo!() }", &place, "Nothing unfinished");
        refused("fn f() { unimplemented!() }", &place, "Nothing unfinished");
        refused("#[allow(dead_code)] fn f() {}", &place, "No silenced lint");
        refused("#![allow(unused_variables)]", &place, "No silenced lint");
        refused("fn f() { std::thread::sleep(PAUSE) }", &place, "No sleep");
        refused("async fn f() { sleep_until(then).await }", &place, "No sleep");
        refused("#[cfg(feature = \"kafka\")] mod kafka;", &place, "cfg(feature)");
        refused("fn f() { if cfg!(feature = \"kafka\") {} }", &place, "cfg(feature)");
        accepted(PATH, "//! Head, no todo!() here.\nfn f() { g(\"sleep(1); #[ignore]\") } // sleep(1)\n");
        accepted(PATH, "//! Head.\nfn f() { fall_asleep(1); no_sleep(2) }\n");
        accepted(FEATURES_FILE, "//! Head.\n#[cfg(feature = \"kafka\")] mod kafka;\n");
    }

    #[test]
    fn a_listed_file_may_sleep_and_must() {
        let (path, _) = MAY_SLEEP[0];
        accepted(path, "//! Head.\nfn f() { std::thread::sleep(PAUSE) }\n");
        let idle = SourceFile { path: path.to_owned(), text: "//! Head.\n".to_owned() };
        let findings = check(&[idle]);
        assert_eq!(findings.len(), MAY_SLEEP.len(), "{findings:?}");
    }

    #[test]
    fn a_long_file_is_refused_unless_its_length_is_tests() {
        let long = "use a;\n".repeat(FILE_LINES_MAX);
        refused(&long, &format!("{PATH}:1"), "801 lines");
        accepted("crates/freshet-log/src/tests.rs", &format!("//! Head.\n{long}"));
        accepted(PATH, &format!("//! Head.\n#[cfg(test)]\nmod tests {{\n{long}}}\n"));
    }

    #[test]
    fn a_long_function_is_refused_wherever_it_stands() {
        let body = |lines: usize| "    x();\n".repeat(lines);
        let long = body(FUNCTION_LINES_MAX - 1);
        refused(&format!("fn f() {{\n{long}}}\n"), &format!("{PATH}:2"), "Function f has 71 lines");
        refused(
            &format!("impl A {{\nfn f<T: Fn(u8) -> u8>(t: T) -> [u8; 4] {{\n{long}}}\n}}\n"),
            &format!("{PATH}:3"),
            "f ",
        );
        refused(
            &format!("fn f(a: u8, b: fn(u8) -> u8) where T: I<Item = u8>, {{\n{long}}}\n"),
            &format!("{PATH}:2"),
            "f ",
        );
        accepted(PATH, &format!("//! Head.\nfn f() {{\n{}}}\n", body(FUNCTION_LINES_MAX - 2)));
        accepted(
            PATH,
            &format!("//! Head.\ntrait A {{\nfn f();\nfn g(&self, a: u8);\n}}\nmod b {{\n{long}}}\n"),
        );
        accepted(PATH, &format!("//! Head.\nstruct A {{ f: fn(u8) -> u8, g: u8 }}\nmod b {{\n{long}}}\n"));
        accepted(PATH, &format!("//! Head.\ntype F = fn(u8) -> u8;\nmod b {{\n{long}}}\n"));
        accepted(PATH, &format!("//! Head.\nfn f() {{ \"{{\" }}\nmod b {{\n{long}}}\n"));
    }
}
