//! SIGTERM and SIGINT: the first lets the window under way finish, the second ends the process at once.

use freshet_core::{Error, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// Exit code of a process that a signal ended at once: 128 and the signal's number.
const CODE_BASE: i32 = 128;
const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;

/// Listens from now on. The receiver becomes true with the first signal.
pub fn stop_on_signal() -> Result<watch::Receiver<bool>> {
    let (sender, receiver) = watch::channel(false);
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    tokio::spawn(async move {
        let first = either(&mut interrupt, &mut terminate).await;
        let name = if first == SIGINT { "SIGINT" } else { "SIGTERM" };
        tracing::info!(signal = name, "Stopping after the window under way; a second signal stops at once");
        sender.send_replace(true);
        let second = either(&mut interrupt, &mut terminate).await;
        std::process::exit(CODE_BASE + second);
    });
    Ok(receiver)
}

fn listen(kind: SignalKind) -> Result<Signal> {
    signal(kind).map_err(|e| Error::internal(format!("Signals cannot be listened to: {e}")))
}

async fn either(interrupt: &mut Signal, terminate: &mut Signal) -> i32 {
    tokio::select! {
        _ = interrupt.recv() => SIGINT,
        _ = terminate.recv() => SIGTERM,
    }
}
