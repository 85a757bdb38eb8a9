//! `cargo xtask ci`: everything that must hold before a change goes in, in the order of how soon it fails.

use std::time::Instant;

use crate::{mutants, shell, test, tidy};

/// Runs all checks; the first failure ends it.
pub fn run() -> anyhow::Result<()> {
    let began = Instant::now();
    shell::run(&mut shell::cargo(&["fmt", "--all", "--check"]))?;
    tidy::run()?;
    let clippy = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
    shell::run(&mut shell::cargo(&clippy))?;
    let doc = ["doc", "--workspace", "--no-deps"];
    shell::run(shell::cargo(&doc).env("RUSTDOCFLAGS", "-D warnings"))?;
    deny()?;
    test::run(false)?;
    mutants::run(&[], true)?;
    println!("CI passed in {} s", began.elapsed().as_secs());
    Ok(())
}

/// Licences are checked by tidy everywhere; the rest needs the tool, advisories their database too.
fn deny() -> anyhow::Result<()> {
    if !shell::succeeds(&mut shell::cargo(&["deny", "--version"])) {
        println!("Not checked: sources, advisories (cargo-deny is not installed; cargo install cargo-deny)");
        return Ok(());
    }
    shell::run(&mut shell::cargo(&["deny", "check", "bans", "licenses", "sources"]))?;
    if shell::succeeds(&mut shell::cargo(&["deny", "fetch", "db"])) {
        return shell::run(&mut shell::cargo(&["deny", "check", "advisories"]));
    }
    println!("Not checked: advisories (their database cannot be fetched)");
    Ok(())
}
