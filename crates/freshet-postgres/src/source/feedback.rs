//! Tells the server how far we are, whether anybody reads or not (P8).
//!
//! A task of its own: a server that hears nothing for its time-out ends the stream, and a stream that is full because
//! the log has no room must not end. It tells only what [`Feedback::durable`] was given: what is durable in the log
//! (P3). A connection that is lost is noticed by whoever reads.

use crate::wire::ReplicationWriter;
use freshet_core::position::Lsn;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

/// What is told is at most so often of its own accord: every commit would be a message.
const TELL_EVERY: Duration = Duration::from_millis(500);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct State {
    received: Lsn,
    durable: Lsn,
    /// Counts the server's wishes for an answer.
    asked: u64,
}

/// The task, ended when dropped.
pub(super) struct Feedback {
    state: watch::Sender<State>,
    task: JoinHandle<()>,
}

/// Begins to tell, at least every `every`.
pub(super) fn start(writer: ReplicationWriter, from: Lsn, every: Duration) -> Feedback {
    let (state, told) = watch::channel(State { received: from, durable: from, asked: 0 });
    Feedback { state, task: tokio::spawn(run(writer, told, every)) }
}

impl Feedback {
    /// Everything up to here was received.
    pub(super) fn received(&self, lsn: Lsn) {
        self.state.send_modify(|state| state.received = state.received.max(lsn));
    }

    /// Everything up to here is durable: the server may forget it.
    pub(super) fn durable(&self, lsn: Lsn) {
        self.state.send_modify(|state| state.durable = state.durable.max(lsn));
    }

    /// The server wants to hear from us at once.
    pub(super) fn answer(&self) {
        self.state.send_modify(|state| state.asked += 1);
    }
}

impl Drop for Feedback {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Why the server is told.
#[derive(PartialEq, Eq)]
enum Why {
    Due,
    /// Only if there is something new.
    Soon,
}

async fn run(mut writer: ReplicationWriter, mut state: watch::Receiver<State>, every: Duration) {
    let mut soon = interval(TELL_EVERY.min(every));
    soon.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut late = interval(every);
    late.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = State::default();
    loop {
        let why = tokio::select! {
            _ = late.tick() => Why::Due,
            _ = soon.tick() => Why::Soon,
            asked = state.wait_for(|state| state.asked != told.asked) => match asked {
                Ok(_) => Why::Due,
                Err(_) => return,
            },
        };
        let now = *state.borrow();
        if why == Why::Soon && now.durable == told.durable {
            continue;
        }
        if writer.status(now.received, now.durable).await.is_err() {
            return;
        }
        told = now;
    }
}
