//! `cargo xtask test`: sets up, builds the binary once, runs every test of the workspace and sums the results up.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, ensure};

use crate::setup::{self, Purpose};
use crate::shell;

/// Runs the tests; `quick` leaves the scenarios out.
pub fn run(quick: bool) -> anyhow::Result<()> {
    setup::run(Purpose::Test)?;
    let binary = build_freshet()?;
    let mut command = shell::cargo(&["test", "--workspace", "--no-fail-fast"]);
    if quick {
        command.args(["--exclude", "freshet-tests"]);
    }
    command.env("FRESHET_BIN", binary);
    let began = Instant::now();
    let (success, summary) = run_and_sum_up(&mut command)?;
    println!();
    for name in &summary.failures {
        println!("FAILED {name}");
    }
    let Summary { passed, failed, .. } = summary;
    println!("{passed} tests passed, {failed} failed, in {} s", began.elapsed().as_secs());
    ensure!(success && failed == 0, "The tests failed; FRESHET_SEED repeats a run whose seed was printed");
    ensure!(passed > 0, "No test ran");
    Ok(())
}

/// Builds `freshet` and returns its path, so that no test builds it in its own way.
pub fn build_freshet() -> anyhow::Result<PathBuf> {
    shell::run(&mut shell::cargo(&["build", "--package", "freshet"]))?;
    let metadata = cargo_metadata::MetadataCommand::new().current_dir(shell::root()).no_deps().exec()?;
    Ok(metadata.target_directory.join("debug").join("freshet").into_std_path_buf())
}

/// What the test binaries reported.
#[derive(Debug, Default, PartialEq)]
struct Summary {
    passed: u64,
    failed: u64,
    failures: Vec<String>,
}

impl Summary {
    /// Takes in one line of a test binary's output.
    fn step(&mut self, line: &str) {
        if let Some(counts) = line.strip_prefix("test result: ") {
            let count = |word: &str| {
                let part = counts.split(&['.', ';'][..]).find_map(|part| part.trim().strip_suffix(word));
                part.and_then(|number| number.trim().parse::<u64>().ok()).unwrap_or(0)
            };
            self.passed += count("passed");
            self.failed += count("failed");
        } else if let Some(name) =
            line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED"))
        {
            self.failures.push(name.to_owned());
        }
    }
}

fn run_and_sum_up(command: &mut Command) -> anyhow::Result<(bool, Summary)> {
    println!("$ {}", shell::shown(command));
    let mut child = command.stdout(Stdio::piped()).spawn().context("Cannot run cargo")?;
    let output = child.stdout.take().context("No output of cargo")?;
    let mut summary = Summary::default();
    for line in BufReader::new(output).split(b'\n') {
        let line = line.context("Cannot read the tests' output")?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        summary.step(&line);
    }
    Ok((child.wait()?.success(), summary))
}

#[cfg(test)]
mod tests {
    use super::Summary;

    #[test]
    fn results_of_several_binaries_add_up() {
        let mut summary = Summary::default();
        let lines = "test a::b ... ok\ntest a::c ... FAILED\n\
            test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.04s\n\
            test result: ok. 14 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 11.29s";
        lines.lines().for_each(|line| summary.step(line));
        assert_eq!(summary, Summary { passed: 17, failed: 1, failures: vec!["a::c".to_owned()] });
    }
}
