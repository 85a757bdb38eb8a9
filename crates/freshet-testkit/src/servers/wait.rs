//! Waiting for a condition with a deadline: the one place where a pause is allowed.
//!
//! Not a timer: a test never waits for time to pass, it waits for something to become true.

use std::time::{Duration, Instant};

const PAUSE_MS_MIN: u64 = 1;
const PAUSE_MS_MAX: u64 = 50;

/// Pauses that grow from 1 ms to 50 ms.
struct Pauses(u64);

impl Pauses {
    fn next(&mut self) -> Duration {
        let pause_ms = self.0;
        self.0 = (pause_ms * 2).min(PAUSE_MS_MAX);
        Duration::from_millis(pause_ms)
    }
}

/// Polls until `cond` holds; false when `deadline` has passed without.
pub fn poll_until(deadline: Duration, mut cond: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    let mut pauses = Pauses(PAUSE_MS_MIN);
    loop {
        if cond() {
            return true;
        }
        if start.elapsed() >= deadline {
            return false;
        }
        std::thread::sleep(pauses.next());
    }
}

/// Polls until `cond` holds.
///
/// # Panics
/// When `deadline` has passed; says what was awaited.
#[track_caller]
pub fn wait_until(deadline: Duration, what: &str, cond: impl FnMut() -> bool) {
    assert!(poll_until(deadline, cond), "Waited {deadline:?} in vain for {what}");
}

/// Polls until the future made by `cond` yields true, without blocking the runtime.
///
/// # Panics
/// When `deadline` has passed; says what was awaited.
pub async fn wait_until_async(deadline: Duration, what: &str, mut cond: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    let mut pauses = Pauses(PAUSE_MS_MIN);
    while !cond().await {
        assert!(start.elapsed() < deadline, "Waited {deadline:?} in vain for {what}");
        tokio::time::sleep(pauses.next()).await;
    }
}
