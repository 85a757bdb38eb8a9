//! The project's chores as commands: `cargo xtask <command>`. This file only dispatches.
//!
//! Each command is what CI runs and what a person types; there is no other script with logic in it.

mod bench;
mod ci;
mod demo;
mod differential;
mod kill;
mod mutants;
mod release;
mod setup;
mod shell;
mod test;
mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The chores of freshet's developers")]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Install what is missing, or say exactly what to install
    Setup {
        /// What it is needed for
        #[arg(long = "for", value_enum, default_value = "test")]
        purpose: setup::Purpose,
    },
    /// Copy a small shop from MariaDB to PostgreSQL while it is written to, with a kill in the middle
    Demo {
        /// Leave everything running afterwards, until Enter or Ctrl-C
        #[arg(long)]
        keep: bool,
    },
    /// Measure freshet beside other tools and print how it compares
    Bench {
        /// Groups to run, by the beginning of their names (default: all)
        names: Vec<String>,
        /// One round over little data: whether it works, not how fast it is
        #[arg(long)]
        quick: bool,
    },
    /// Run every test of the workspace against throwaway servers
    Test {
        /// Leave the scenarios (package freshet-tests) out
        #[arg(long)]
        quick: bool,
    },
    /// Kill freshet and its servers over and over under write load, and compare
    Kill {
        /// How often freshet is killed
        #[arg(long, default_value_t = 5_000)]
        kills: u32,
        /// Repeats a run's choices
        #[arg(long)]
        seed: Option<u64>,
        /// The source
        #[arg(long, value_enum, default_value = "mariadb")]
        source: kill::Server,
        /// The target
        #[arg(long, value_enum, default_value = "postgres")]
        target: kill::Server,
    },
    /// Compare random schemas, rows and transactions on both ends, in every direction
    Differential {
        /// How long, all directions together
        #[arg(long, default_value_t = 60)]
        minutes: u64,
        /// One direction, such as postgres-to-mysql (default: all nine)
        #[arg(long)]
        direction: Option<String>,
        /// The first round's seed: repeats a round that failed
        #[arg(long)]
        seed: Option<u64>,
    },
    /// Break the protocol in one listed way after another; a test must notice each
    Mutants {
        /// Mutants to run, by name (default: all)
        names: Vec<String>,
        /// The few that CI runs
        #[arg(long, conflicts_with = "names")]
        quick: bool,
    },
    /// Check what the compiler does not: who imports whom, file headers, lengths, licences, example pipelines
    Tidy,
    /// Everything: fmt, clippy, doc, licences, tidy, test
    Ci,
}

fn main() -> ExitCode {
    let done = match Cli::parse().chore {
        Chore::Setup { purpose } => setup::run(purpose),
        Chore::Bench { names, quick } => bench::run(&names, quick),
        Chore::Demo { keep } => demo::run(keep),
        Chore::Test { quick } => test::run(quick),
        Chore::Kill { kills, seed, source, target } => kill::run(kills, seed, source, target),
        Chore::Differential { minutes, direction, seed } => {
            differential::run(minutes, direction.as_deref(), seed)
        }
        Chore::Mutants { names, quick } => mutants::run(&names, quick),
        Chore::Tidy => tidy::run(),
        Chore::Ci => ci::run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}
