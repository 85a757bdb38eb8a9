//! `freshet capture`: the first half of a pipeline alone, from the source into its durable log. A measuring tool.
//!
//! Not a way to run a pipeline: no target is connected, so no checkpoint is tied to the log, and nothing is ever
//! trimmed. `--begin` makes an empty log at the source's end; without it what is there is gone on with. It uses the
//! same source, the same ingest and the same log as `freshet run`.

use crate::args::Until;
use crate::assemble;
use crate::config::{self, Config, Variables};
use crate::exit::Failure;
use crate::signals;
use crate::target::environment;
use clap::Args;
use freshet_core::{Error, Mark, Position, Result};
use freshet_pipeline::holdings::Holdings;
use freshet_pipeline::ingest::Ingest;
use freshet_pipeline::retry::{reached, stopped};
use freshet_pipeline::{Parts, Status};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::watch;

/// `freshet capture`.
#[derive(Debug, Args)]
pub struct CaptureArgs {
    /// The pipeline's YAML file
    pub file: PathBuf,
    /// Make an empty log at the source's end of now, and do nothing else
    #[arg(long, conflicts_with = "until")]
    pub begin: bool,
    /// Exit 0 once what was committed at the source at the start is durable in the log
    #[arg(long, value_name = "WHEN")]
    pub until: Option<Until>,
}

/// Runs the command.
pub fn run(args: &CaptureArgs) -> Result<(), Failure> {
    let config = config::load(&args.file, Variables::From(&environment))
        .map_err(|refused| Failure::Refused { file: args.file.clone(), refused })?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::internal(format!("The runtime cannot be started: {e}")))?;
    let done = if args.begin {
        runtime.block_on(begin(&config))
    } else {
        runtime.block_on(go_on(&config, args.until.is_some()))
    };
    runtime.shutdown_background();
    Ok(done?)
}

async fn begin(config: &Config) -> Result<()> {
    let Parts { mut source, store, .. } = assemble::parts(config);
    if store.open().await?.is_some() {
        let dir = config.log.dir.display();
        return Err(Error::invalid(format!("Log directory {dir} holds a log already"))
            .with_hint("Measure with a pipeline file whose log.dir is of its own"));
    }
    let start = source.begin().await?;
    store.create(&start, &[]).await?;
    Ok(())
}

async fn go_on(config: &Config, until_caught_up: bool) -> Result<()> {
    let Parts { mut source, store, .. } = assemble::parts(config);
    let Some(log) = store.open().await? else {
        let dir = config.log.dir.display();
        return Err(Error::invalid(format!("Log directory {dir} holds no log"))
            .with_hint("Make one with freshet capture --begin"));
    };
    let goal = if until_caught_up { Some(source.tip().await?) } else { None };
    let mut asked = signals::stop_on_signal()?;
    let writer = log.writer().await?;
    let durable = writer.durable();
    let (end, stop) = watch::channel(false);
    let (tip, _) = watch::channel(None);
    let mut ingest = tokio::spawn(
        Ingest::new(source, Holdings::default(), writer, tip, Arc::new(Status::default()), stop).run(),
    );
    tokio::select! {
        () = stopped(&mut asked) => {}
        () = captured(durable, goal) => {}
        // It ends by itself only by an error.
        ended = &mut ingest => return joined(ended),
    }
    end.send_replace(true);
    joined(ingest.await)
}

/// Returns once the goal is durable; never without one, nor when the log's writer has failed.
async fn captured(mut durable: watch::Receiver<Mark>, goal: Option<Position>) {
    if let Some(goal) = goal
        && durable.wait_for(|mark| reached(&mark.position, &goal)).await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

fn joined(ended: std::result::Result<Result<()>, tokio::task::JoinError>) -> Result<()> {
    ended.map_err(|e| Error::internal(format!("Capture failed: {e}")))?
}
