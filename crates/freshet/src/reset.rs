//! `freshet reset`: forgets a pipeline's log and its rows in the control schema, so that it begins again. `freshet
//! drop` also removes what it made on its source, which keeps WAL for a pipeline that never comes back.
//!
//! Never the target's tables unless asked for. The target is cleared first: a log without its checkpoints is
//! begun anew by the next run, checkpoints without their log would be rebuilt from.

use crate::args::ResetArgs;
use crate::config::{self, Config, Mode, Variables};
use crate::exit::Failure;
use crate::status_file::{self, Writer};
use crate::target::environment;
use crate::{assemble, backend_check};
use freshet_core::Error;
use std::io::{self, BufRead, IsTerminal, Write};

/// How much is forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// What has been done: the pipeline begins again.
    Reset,
    /// Everything: the pipeline ends.
    Drop,
}

/// Runs the command.
pub fn run(args: &ResetArgs, extent: Extent) -> Result<(), Failure> {
    let config = config::load(&args.file, Variables::From(&environment))
        .map_err(|refused| Failure::Refused { file: args.file.clone(), refused })?;
    if args.drop_tables && config.mode == Mode::Stream {
        let message = "Mode stream writes into tables that freshet did not make, and does not drop them";
        return Err(Error::invalid(message).with_hint("Reset without --drop-tables").into());
    }
    if !args.yes {
        confirm(&config, args.drop_tables)?;
    }
    // Held until the end, so that no run begins in between.
    let claim = if config.log.dir.is_dir() { Some(Writer::claim(&config.log.dir)?) } else { None };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::internal(format!("The runtime cannot be started: {e}")))?;
    let mut out = io::stdout().lock();
    for sink in &config.sinks {
        let told = runtime.block_on(backend_check::reset(&config, sink, args.drop_tables))?;
        told.iter().try_for_each(|line| writeln!(out, "sink {}: {line}", sink.name))?;
    }
    if claim.is_some() {
        remove_log(&config)?;
        writeln!(out, "log {} removed", config.log.dir.display())?;
    }
    if extent == Extent::Drop {
        if let Some(told) = runtime.block_on(backend_check::forget_source(&config))? {
            writeln!(out, "source: {told}")?;
        }
        return Ok(writeln!(out, "Pipeline {} is gone", config.name)?);
    }
    Ok(writeln!(out, "Pipeline {} begins anew with the next freshet run", config.name)?)
}

fn remove_log(config: &Config) -> Result<(), Failure> {
    let dir = &config.log.dir;
    assemble::remove_log(dir)?;
    status_file::remove(dir)
        .and_then(|()| match std::fs::remove_dir(dir) {
            // Somebody keeps files of their own there.
            Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
            other => other,
        })
        .map_err(|e| {
            let reason = config::io_reason(&e);
            Error::unavailable(format!("Log directory {} cannot be removed: {reason}", dir.display())).into()
        })
}

/// Asks on a terminal; without one, `--yes` is needed.
fn confirm(config: &Config, drop_tables: bool) -> Result<(), Failure> {
    let refused =
        |message: &str| Error::invalid(message).with_hint("Give --yes to reset without being asked");
    if !io::stdin().is_terminal() {
        return Err(refused("Nobody is there to confirm the reset").into());
    }
    let sinks: Vec<&str> = config.sinks.iter().map(|sink| sink.name.as_str()).collect();
    let mut err = io::stderr();
    writeln!(err, "This removes the log {} and", config.log.dir.display())?;
    writeln!(err, "the checkpoints of pipeline {} on {}.", config.name, sinks.join(", "))?;
    writeln!(
        err,
        "{}",
        if drop_tables { "It DROPS the target tables." } else { "Target tables stay as they are." }
    )?;
    write!(err, "Type the pipeline's name to go on: ")?;
    err.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    if answer.trim() == config.name {
        return Ok(());
    }
    Err(Error::invalid("Nothing was reset: the name was not confirmed").into())
}
