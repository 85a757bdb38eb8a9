//! `cargo xtask kill`: the kill loop of the scenarios, as long as one likes.
//!
//! The loop itself is a test (`tests/scenarios/kill.rs`), which CI runs with its default number.

use clap::ValueEnum;

use crate::setup::{self, Purpose};
use crate::{shell, test};

/// Which servers a pipeline is between.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Server {
    /// MariaDB
    Mariadb,
    /// MySQL
    Mysql,
    /// PostgreSQL
    Postgres,
}

impl Server {
    fn word(self) -> &'static str {
        match self {
            Server::Mariadb => "mariadb",
            Server::Mysql => "mysql",
            Server::Postgres => "postgres",
        }
    }
}

/// Runs it; without a seed one is drawn and printed.
pub fn run(kills: u32, seed: Option<u64>, source: Server, target: Server) -> anyhow::Result<()> {
    setup::run(Purpose::Test)?;
    let binary = test::build_freshet()?;
    let name = format!("killed_over_and_over_from_{}_to_{}", source.word(), target.word());
    let mut command =
        shell::cargo(&["test", "--package", "freshet-tests", "--test", "scenarios", "--", &name]);
    command.arg("--nocapture").env("FRESHET_BIN", binary).env("FRESHET_KILLS", kills.to_string());
    if let Some(seed) = seed {
        command.env("FRESHET_SEED", seed.to_string());
    }
    shell::run(&mut command)
}
