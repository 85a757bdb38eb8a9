//! `cargo xtask mutants`: breaks the protocol in one listed way after another and demands that a test notices.
//!
//! A mutant is a file of `tests/mutants`: a first line that says what is broken, `test:` with the arguments of the
//! `cargo test` that must fail, and for each `file:` replacements between `<<<<`, `====` and `>>>>` that must each
//! be found exactly once. It is applied to a copy of the workspace in the target directory, never to the sources.
//! A mutant that does not apply, does not compile or is not noticed fails the command; so does a test that fails
//! without any mutant.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, bail, ensure};

use crate::shell;

/// A test that runs longer than this with a mutant hangs, and so has noticed it.
const TEST_S_MAX: u64 = 600;
/// What CI runs: one of each crate, the quickest to build.
const QUICK: &[&str] =
    &["rebuild-at-the-wrong-place", "strict-between-the-bounds", "mark-inside-a-transaction"];
/// What a build needs of the workspace.
const PARTS: &[&str] =
    &["Cargo.toml", "Cargo.lock", "clippy.toml", "README.md", "crates", "tests", "docs", "pipelines"];

/// One way to break the protocol.
#[derive(Debug, PartialEq)]
struct Mutant {
    name: String,
    about: String,
    test: Vec<String>,
    edits: Vec<Edit>,
}

#[derive(Debug, PartialEq)]
struct Edit {
    file: String,
    from: String,
    to: String,
}

/// How a test run ended.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Ended {
    Passed,
    Failed,
    Hung,
}

/// Runs these mutants, all when none is named, or the few of CI.
pub fn run(names: &[String], quick: bool) -> anyhow::Result<()> {
    let all = read_all()?;
    let copy = Copy::make()?;
    copy.touch(&all)?;
    let mutants = chosen(all, names, quick)?;
    let tests: BTreeSet<&[String]> = mutants.iter().map(|mutant| mutant.test.as_slice()).collect();
    for test in tests {
        println!("Without a mutant: cargo test {}", test.join(" "));
        copy.build(test)?;
        let ended = copy.test(test, Stdio::inherit)?;
        ensure!(ended == Ended::Passed, "The test fails without any mutant ({ended:?}): {}", test.join(" "));
    }
    let mut lines = Vec::new();
    let mut missed = Vec::new();
    for mutant in &mutants {
        let began = Instant::now();
        let ended = copy.with(mutant, || {
            copy.build(&mutant.test)?;
            copy.test(&mutant.test, Stdio::null)
        })?;
        let verdict = match ended {
            Ended::Passed => "NOT NOTICED",
            Ended::Failed => "caught",
            Ended::Hung => "caught (the test hangs)",
        };
        if ended == Ended::Passed {
            missed.push(mutant.name.as_str());
        }
        lines.push(format!(
            "{:<36} {verdict:<24} {:>4} s  {}",
            mutant.name,
            began.elapsed().as_secs(),
            mutant.about
        ));
        println!("{}", lines.last().map_or("", String::as_str));
    }
    println!("\n{}", lines.join("\n"));
    ensure!(missed.is_empty(), "Mutants that no test notices: {}", missed.join(", "));
    Ok(())
}

fn chosen(all: Vec<Mutant>, names: &[String], quick: bool) -> anyhow::Result<Vec<Mutant>> {
    let wanted: Vec<&str> = match (names, quick) {
        ([], true) => QUICK.to_vec(),
        (names, _) => names.iter().map(String::as_str).collect(),
    };
    for name in &wanted {
        ensure!(all.iter().any(|mutant| mutant.name == *name), "No mutant is called {name}");
    }
    Ok(all.into_iter().filter(|m| wanted.is_empty() || wanted.contains(&m.name.as_str())).collect())
}

fn read_all() -> anyhow::Result<Vec<Mutant>> {
    let dir = shell::root().join("tests").join("mutants");
    let mut mutants = Vec::new();
    for entry in std::fs::read_dir(&dir).with_context(|| format!("Cannot list {}", dir.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "mutant") {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let text = std::fs::read_to_string(&path)?;
            mutants.push(parse(&name, &text).with_context(|| format!("Cannot read {}", path.display()))?);
        }
    }
    mutants.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(mutants)
}

fn parse(name: &str, text: &str) -> anyhow::Result<Mutant> {
    let mut lines = text.lines();
    let about = lines.next().context("It is empty")?.to_owned();
    let mut mutant = Mutant { name: name.to_owned(), about, test: Vec::new(), edits: Vec::new() };
    let mut file = String::new();
    while let Some(line) = lines.next() {
        if let Some(test) = line.strip_prefix("test: ") {
            mutant.test = test.split_whitespace().map(str::to_owned).collect();
        } else if let Some(path) = line.strip_prefix("file: ") {
            file = path.to_owned();
        } else if line == "<<<<" {
            let mut until = |end: &str| -> String {
                let part: Vec<&str> = lines.by_ref().take_while(|line| *line != end).collect();
                part.join("\n")
            };
            mutant.edits.push(Edit { file: file.clone(), from: until("===="), to: until(">>>>") });
        } else if !line.is_empty() {
            bail!("Not understood: {line}");
        }
    }
    ensure!(!mutant.test.is_empty() && !mutant.edits.is_empty(), "A mutant needs a test and an edit");
    Ok(mutant)
}

/// A copy of the workspace with a target directory of its own.
struct Copy {
    root: PathBuf,
    target: PathBuf,
}

impl Copy {
    fn make() -> anyhow::Result<Self> {
        let metadata = cargo_metadata::MetadataCommand::new().current_dir(shell::root()).no_deps().exec()?;
        let base = metadata.target_directory.into_std_path_buf().join("mutants");
        let root = base.join("workspace");
        std::fs::create_dir_all(&root)?;
        for part in PARTS.iter().filter(|part| shell::root().join(part).exists()) {
            let (from, to) = (shell::root().join(part), root.join(part));
            // Times are kept, so that what did not change is not built again.
            let _ = std::fs::remove_dir_all(&to);
            let mut copy = Command::new("cp");
            let copied = copy.args(["-a", "-T"]).arg(&from).arg(&to).status().context("Cannot run cp")?;
            ensure!(copied.success(), "Cannot copy {}", from.display());
        }
        Ok(Self { root, target: base.join("target") })
    }

    /// Makes every file that a mutant changes newer than what was built of it: an earlier run may have ended with a
    /// mutant built, and the copy has the time of the original.
    fn touch(&self, mutants: &[Mutant]) -> anyhow::Result<()> {
        let files: BTreeSet<&str> =
            mutants.iter().flat_map(|mutant| &mutant.edits).map(|edit| edit.file.as_str()).collect();
        for file in files {
            let opened = File::options().append(true).open(self.root.join(file));
            let touched = opened.and_then(|opened| opened.set_modified(SystemTime::now()));
            touched.with_context(|| format!("Cannot touch {file}"))?;
        }
        Ok(())
    }

    /// Applies a mutant, runs `what`, and puts the files back.
    fn with<T>(&self, mutant: &Mutant, what: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        let mut before: Vec<(PathBuf, String)> = Vec::new();
        let applied = self.apply(mutant, &mut before);
        let result = applied.and_then(|()| what());
        for (path, text) in before.into_iter().rev() {
            std::fs::write(&path, text)?;
        }
        result.with_context(|| format!("Mutant {}", mutant.name))
    }

    fn apply(&self, mutant: &Mutant, before: &mut Vec<(PathBuf, String)>) -> anyhow::Result<()> {
        for edit in &mutant.edits {
            let path = self.root.join(&edit.file);
            let text =
                std::fs::read_to_string(&path).with_context(|| format!("Cannot read {}", edit.file))?;
            let changed = replaced(&text, edit)?;
            before.push((path.clone(), text));
            std::fs::write(&path, changed)?;
        }
        Ok(())
    }

    /// `cargo test` with a mutant's arguments; only built, with `run` false.
    fn cargo(&self, test: &[String], run: bool) -> Command {
        let of_cargo = test.iter().position(|arg| arg == "--").unwrap_or(test.len());
        let mut command = shell::cargo(&["test", "--quiet"]);
        command.args(&test[..of_cargo]).args((!run).then_some("--no-run")).args(&test[of_cargo..]);
        // The scenarios build the binary of the copy themselves.
        command.current_dir(&self.root).env("CARGO_TARGET_DIR", &self.target).env_remove("FRESHET_BIN");
        command
    }

    fn build(&self, test: &[String]) -> anyhow::Result<()> {
        shell::run(&mut self.cargo(test, false))
    }

    fn test(&self, test: &[String], output: fn() -> Stdio) -> anyhow::Result<Ended> {
        let mut command = self.cargo(test, true);
        command.stdout(output()).stderr(output());
        let mut child = command.spawn().context("Cannot run cargo")?;
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(TEST_S_MAX) {
            if let Some(status) = child.try_wait()? {
                return Ok(if status.success() { Ended::Passed } else { Ended::Failed });
            }
            std::thread::park_timeout(Duration::from_millis(100));
        }
        end_children(child.id());
        child.kill()?;
        child.wait()?;
        Ok(Ended::Hung)
    }
}

/// Ends the processes that `cargo` runs, which would go on without it, beside the next mutant.
fn end_children(cargo: u32) {
    let script = "kill -KILL $(cat /proc/$1/task/*/children)";
    let _ = Command::new("sh").args(["-c", script, "sh", &cargo.to_string()]).status();
}

fn replaced(text: &str, edit: &Edit) -> anyhow::Result<String> {
    let found = text.matches(&edit.from).count();
    let place = Path::new(&edit.file).display();
    ensure!(found == 1, "Its text is found {found} times in {place}, not once; bring the mutant up to date");
    Ok(text.replacen(&edit.from, &edit.to, 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "What it breaks.\ntest: -p a --test b name\nfile: x.rs\n<<<<\none\n  two\n====\nthree\n>>>>\n";

    #[test]
    fn a_mutant_is_read_and_applied_once() {
        let mutant = parse("m", TEXT).unwrap();
        assert_eq!(mutant.test, ["-p", "a", "--test", "b", "name"]);
        assert_eq!(replaced("zero\none\n  two\nfour", &mutant.edits[0]).unwrap(), "zero\nthree\nfour");
        assert!(replaced("nothing", &mutant.edits[0]).is_err());
        assert!(replaced("one\n  two\none\n  two", &mutant.edits[0]).is_err());
    }

    #[test]
    fn every_mutant_applies_to_the_sources_of_today() {
        for mutant in read_all().unwrap() {
            for edit in &mutant.edits {
                let text = std::fs::read_to_string(shell::root().join(&edit.file)).unwrap();
                replaced(&text, edit).unwrap_or_else(|error| panic!("{}: {error}", mutant.name));
            }
        }
    }

    #[test]
    fn the_mutants_of_ci_are_there() {
        assert_eq!(chosen(read_all().unwrap(), &[], true).unwrap().len(), QUICK.len());
    }
}
