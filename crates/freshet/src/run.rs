//! `freshet run`: brings a pipeline up, shows it, writes its status, and ends in order.

use crate::args::RunArgs;
use crate::config::{self, Config, Mode, Variables};
use crate::exit::{Failure, code_of, kind_word};
use crate::progress::Display;
use crate::status_file::{Failed, Header, INTERVAL_MS, State, Writer};
use crate::target::environment;
use crate::{assemble, logging, signals};
use freshet_core::{Error, Result};
use freshet_pipeline::{Phase, Status};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

/// Runs the command.
pub fn run(args: &RunArgs) -> Result<(), Failure> {
    let config = config::load(&args.file, Variables::From(&environment))
        .map_err(|refused| Failure::Refused { file: args.file.clone(), refused })?;
    let display = Display::new(args.progress, &config.name);
    logging::init(args, &display);
    for warning in &config.warnings {
        tracing::warn!(file = %args.file.display(), hint = warning.hint, "{warning}");
    }
    let writer = Writer::claim(&config.log.dir)?;
    let threads = std::thread::available_parallelism().map_or(2, usize::from).max(2);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .map_err(|e| Error::internal(format!("The runtime cannot be started: {e}")))?;
    let ended = runtime.block_on(supervise(args, &config, display, &writer));
    // Whatever still hangs on a server that does not answer is abandoned: nothing that counts is under way.
    runtime.shutdown_background();
    Ok(ended?)
}

/// Runs the engine beside its watchers and reports how it ended.
async fn supervise(args: &RunArgs, config: &Config, display: Display, writer: &Writer) -> Result<()> {
    let status = Arc::new(Status::default());
    let header = Header::new(config);
    let stop = signals::stop_on_signal()?;
    tracing::info!(pipeline = %config.name, mode = config.mode.word(), version = env!("CARGO_PKG_VERSION"), "Starting");
    let engine = async {
        let parts = assemble::parts(config);
        let settings = assemble::settings(config, args.until.is_some());
        freshet_pipeline::run(parts, settings, Arc::clone(&status), stop).await
    };
    let mut display = display;
    let ended = tokio::select! {
        ended = engine => ended,
        never = watch(&status, &header, &mut display, writer) => match never {},
    };
    let (state, phase) =
        if ended.is_ok() { (State::Stopped, Phase::Stopped) } else { (State::Failed, Phase::Failed) };
    status.update(|snapshot| snapshot.sinks.values_mut().for_each(|sink| sink.phase = phase));
    display.show(&status.snapshot());
    display.finish();
    let failed = ended.as_ref().err().map(failed);
    write(writer, &header, &status, state, failed);
    if ended.is_ok() {
        tracing::info!(pipeline = %config.name, "Stopped in order");
        let slot = assemble::flavour(config).is_none().then(|| assemble::wal_options(config).slot);
        if let (Mode::Load, Some(slot)) = (config.mode, slot) {
            let hint = "It keeps the source's WAL: run freshet drop unless the pipeline is run again";
            tracing::warn!(slot, hint, "The replication slot stays");
        }
    }
    ended
}

/// Shows and writes the status until it is dropped.
async fn watch(
    status: &Status,
    header: &Header,
    display: &mut Display,
    writer: &Writer,
) -> std::convert::Infallible {
    let mut show = interval(display.interval());
    let mut save = interval(Duration::from_millis(INTERVAL_MS));
    show.set_missed_tick_behavior(MissedTickBehavior::Delay);
    save.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = show.tick() => display.show(&status.snapshot()),
            _ = save.tick() => write(writer, header, status, State::Running, None),
        }
    }
}

/// The status is for looking at: that it cannot be written stops nothing.
fn write(writer: &Writer, header: &Header, status: &Status, state: State, failed: Option<Failed>) {
    if let Err(e) = writer.write(&header.file(&status.snapshot(), state, failed)) {
        tracing::debug!("The status file cannot be written: {e}");
    }
}

fn failed(error: &Error) -> Failed {
    Failed {
        kind: kind_word(error.kind()).to_owned(),
        exit_code: code_of(error.kind()),
        message: error.message().to_owned(),
        hint: error.hint().map(str::to_owned),
    }
}
