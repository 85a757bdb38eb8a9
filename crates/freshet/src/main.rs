//! The freshet binary: the command line, configuration, assembly of a pipeline from backends, and how it is shown.
//!
//! Not the engine (`freshet-pipeline`) and not a database (`freshet-mysql`, `freshet-postgres`): only
//! [`assemble`] names backends. Standard output holds what a command was asked for, standard error everything
//! else; neither holds a password, and only `log cat` prints values of cells.

#![forbid(unsafe_code)]

mod args;
mod assemble;
mod backend_check;
mod capture;
mod check;
mod config;
mod exit;
mod findings;
mod log;
mod log_dir_check;
mod logging;
mod progress;
mod reset;
mod run;
mod signals;
mod status;
mod status_file;
mod target;

use args::{Cli, Command};
use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let ended = match Cli::parse().command {
        Command::Run(args) => run::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Log(command) => log::run(&command),
        Command::Reset(args) => reset::run(&args, reset::Extent::Reset),
        Command::Drop(args) => reset::run(&args, reset::Extent::Drop),
        Command::Capture(args) => capture::run(&args),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.lines().iter().for_each(|line| eprintln!("{line}"));
            ExitCode::from(failure.code())
        }
    }
}
