//! The command line, as typed. What a command does stands in the file of its name.

use crate::exit;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Streams the changes of MySQL and MariaDB into PostgreSQL, after copying what is already there.
#[derive(Debug, Parser)]
#[command(name = "freshet", version, after_help = exit::help(), propagate_version = true)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a pipeline until it is stopped (SIGTERM or Ctrl-C finish the window under way and exit 0)
    Run(RunArgs),
    /// Check configuration, servers and privileges before running, and say what to change
    Check(CheckArgs),
    /// Show what a pipeline is doing, from another shell
    Status(StatusArgs),
    /// Look into a pipeline's durable log
    #[command(subcommand)]
    Log(LogCommand),
    /// Forget everything a pipeline has done, to begin again: its log, and its rows in the control schema
    Reset(ResetArgs),
    /// End a pipeline for good: as reset, and remove what it made on its source (slot and publication)
    Drop(ResetArgs),
    /// Read the source into the log and nothing else, to measure it
    #[command(hide = true)]
    Capture(crate::capture::CaptureArgs),
}

/// `freshet run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The pipeline's YAML file
    pub file: PathBuf,
    /// Exit 0 once what was committed at the source when the load ended (without a load: at the start) is applied
    #[arg(long, value_name = "WHEN")]
    pub until: Option<Until>,
    /// Show warnings and errors only
    #[arg(long, short)]
    pub quiet: bool,
    /// How to show progress
    #[arg(long, value_enum, default_value_t = Progress::Auto, value_name = "HOW")]
    pub progress: Progress,
    /// How to print log lines: text, or JSON (the default where progress is shown as lines)
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
    /// How much freshet says about itself
    #[arg(long, value_enum, default_value_t = LogLevel::Info, value_name = "LEVEL")]
    pub log_level: LogLevel,
}

/// When `freshet run` ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Until {
    /// All that was committed at the source when the load ended is applied
    CaughtUp,
}

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Progress {
    /// Bars on a terminal, lines elsewhere
    Auto,
    /// Bars
    Bar,
    /// Log lines
    Lines,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people
    Text,
    /// One object a line
    Json,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// Errors
    Error,
    /// And warnings
    Warn,
    /// And what happens
    Info,
    /// And why
    Debug,
    /// Everything
    Trace,
}

/// `freshet check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The pipeline's YAML file
    pub file: PathBuf,
    /// Only read the file: no variables, no secrets, no servers
    #[arg(long, conflicts_with = "grants")]
    pub syntax: bool,
    /// Print the smallest set of GRANT statements for each role, and check nothing
    #[arg(long)]
    pub grants: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `freshet status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// The pipeline's YAML file, or its log directory
    #[arg(value_name = "FILE|DIR")]
    pub target: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Print it again every second, until interrupted
    #[arg(long, short)]
    pub watch: bool,
}

/// `freshet log`.
#[derive(Debug, Subcommand)]
pub enum LogCommand {
    /// List the segments
    Ls(LogLsArgs),
    /// Print changes as JSON lines, with the values of their cells
    Cat(LogCatArgs),
    /// Read everything and check every sum
    Verify(LogVerifyArgs),
}

/// `freshet log ls`.
#[derive(Debug, Args)]
pub struct LogLsArgs {
    /// The pipeline's YAML file, or its log directory
    #[arg(value_name = "FILE|DIR")]
    pub target: PathBuf,
    /// Print JSON lines
    #[arg(long)]
    pub json: bool,
}

/// `freshet log cat`.
#[derive(Debug, Args)]
pub struct LogCatArgs {
    /// The pipeline's YAML file, or its log directory
    #[arg(value_name = "FILE|DIR")]
    pub target: PathBuf,
    /// Begin at the record of this offset (default: the first that is there)
    #[arg(long, value_name = "OFFSET")]
    pub from: Option<u64>,
    /// Only tables that match this pattern, as in shop.order*; may be given several times
    #[arg(long, value_name = "PATTERN")]
    pub table: Vec<String>,
    /// Stop after this many lines
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
}

/// `freshet log verify`.
#[derive(Debug, Args)]
pub struct LogVerifyArgs {
    /// The pipeline's YAML file, or its log directory
    #[arg(value_name = "FILE|DIR")]
    pub target: PathBuf,
}

/// `freshet reset` and `freshet drop`.
#[derive(Debug, Args)]
pub struct ResetArgs {
    /// The pipeline's YAML file
    pub file: PathBuf,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
    /// Also drop the target tables that the pipeline loaded
    #[arg(long)]
    pub drop_tables: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
