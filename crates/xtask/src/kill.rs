//! `cargo xtask kill`: the kill loop of the scenarios, as long as one likes.
//!
//! The loop itself is a test (`tests/scenarios/kill.rs`), which CI runs with its default number.

use clap::ValueEnum;

use crate::setup::{self, Purpose};
use crate::{shell, test};

/// Which source is written to and killed.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Source {
    /// MariaDB
    Mariadb,
    /// MySQL
    Mysql,
}

/// Runs it; without a seed one is drawn and printed.
pub fn run(kills: u32, seed: Option<u64>, source: Source) -> anyhow::Result<()> {
    setup::run(Purpose::Test)?;
    let binary = test::build_freshet()?;
    let name = match source {
        Source::Mariadb => "killed_over_and_over_on_mariadb",
        Source::Mysql => "killed_over_and_over_on_mysql",
    };
    let mut command =
        shell::cargo(&["test", "--package", "freshet-tests", "--test", "scenarios", "--", name]);
    command.arg("--nocapture").env("FRESHET_BIN", binary).env("FRESHET_KILLS", kills.to_string());
    if let Some(seed) = seed {
        command.env("FRESHET_SEED", seed.to_string());
    }
    shell::run(&mut command)
}
