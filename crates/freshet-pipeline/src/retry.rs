//! Pauses between retries: exponential, jittered, bounded; and the questions asked of positions.

use crate::bounds::{RETRY_MS_MAX, RETRY_MS_MIN};
use freshet_core::Position;
use freshet_core::position::{BinlogPosition, GtidSet};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::cell::RefCell;
use std::cmp::Ordering;
use std::time::Duration;
use tokio::sync::watch;

thread_local! {
    static REPEATED: RefCell<Option<StdRng>> = const { RefCell::new(None) };
}

/// From now on the pauses that are begun on this thread are drawn from a seed: for simulations, which have one thread.
pub fn repeat_pauses(seed: u64) {
    REPEATED.set(Some(StdRng::seed_from_u64(seed)));
}

fn jitter_ms(ms_max: u64) -> u64 {
    REPEATED.with_borrow_mut(|repeated| match repeated {
        Some(rng) => rng.random_range(0..=ms_max),
        None => rand::random_range(0..=ms_max),
    })
}

/// Grows from [`RETRY_MS_MIN`] to [`RETRY_MS_MAX`]; each pause is drawn from the upper half of the current one.
#[derive(Debug)]
pub struct Backoff {
    next_ms: u64,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next_ms: RETRY_MS_MIN }
    }
}

impl Backoff {
    /// The next pause.
    pub fn pause(&mut self) -> Duration {
        let ms = self.next_ms;
        self.next_ms = (ms * 2).min(RETRY_MS_MAX);
        Duration::from_millis(ms / 2 + jitter_ms(ms / 2))
    }

    /// Something worked: begin at the shortest pause again.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

/// Waits for `pause`, or less if a stop is asked for; `true` if it is.
pub async fn pause_or_stop(pause: Duration, stop: &mut watch::Receiver<bool>) -> bool {
    tokio::select! {
        biased;
        () = stopped(stop) => true,
        () = tokio::time::sleep(pause) => false,
    }
}

/// Returns once a stop is asked for (or nobody is left who could ask).
pub async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, which is a stop as well.
    let _ = stop.wait_for(|s| *s).await;
}

/// Whether a target at `position` has come to `goal`, a source's tip: what ends a run and what is shown as lag. Beside
/// what is certain ([`Position::covers`]) the place on the same server will do, since a MySQL tip may name transactions
/// that were only declared executed and never come.
pub fn reached(position: &Position, goal: &Position) -> bool {
    position.covers(goal) || at_or_past(position, goal) == Some(true)
}

/// Whether `position` is at or past F_high. On the server that F_high was read from its place decides alone: its
/// GTID set may lack commits that a reader saw (ALGORITHMS 2, MySQL without the lock).
pub fn passed_high(position: &Position, high: &Position) -> bool {
    match (position, high) {
        (Position::Binlog(p), Position::Binlog(h)) if p.server == h.server => {
            at_or_past(position, high) == Some(true)
        }
        (Position::Binlog(_) | Position::Wal(_), _) => position.covers(high),
    }
}

/// Whether the GTID set of F_high may lack commits that a reader of the view saw: only its place is a bound then.
pub fn is_place_only(low: &Position, high: &Position) -> bool {
    let of_mysql = matches!(high, Position::Binlog(BinlogPosition { gtids: GtidSet::Mysql(_), .. }));
    of_mysql && low != high
}

/// Whether `position` is one of the server of `place`, at or past it.
pub fn at_place(position: &Position, place: &Position) -> bool {
    at_or_past(position, place) == Some(true)
}

/// Whether a log at `position` has all that a target holds: by what is certain, and on one server also by place, since
/// the GTID set of a bound that a load read may lack commits that it saw.
pub fn surely_past(position: &Position, held: &Position) -> bool {
    position.covers(held) && at_or_past(position, held) != Some(false)
}

fn at_or_past(position: &Position, goal: &Position) -> Option<bool> {
    match (position, goal) {
        (Position::Binlog(p), Position::Binlog(g)) => p.cmp_place(g).map(Ordering::is_ge),
        (Position::Binlog(_) | Position::Wal(_), _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Position {
        text.parse().expect("a position")
    }

    #[test]
    fn f_high_without_the_lock_is_a_place_not_a_gtid_set() {
        let high = at("binlog;s;b.000001;900;mysql;3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5");
        let before = at("binlog;s;b.000001;800;mysql;3e11fa47-71ca-11e1-9e33-c80aa9429562:1-6");
        assert!(reached(&before, &high) && !passed_high(&before, &high));
        let elsewhere = at("binlog;other;c.000009;4;mysql;3e11fa47-71ca-11e1-9e33-c80aa9429562:1-6");
        assert!(passed_high(&elsewhere, &high));
        assert!(is_place_only(&before, &high) && !is_place_only(&high, &high));
        assert!(before.covers(&high) && !surely_past(&before, &high) && surely_past(&elsewhere, &high));
    }

    /// P19: without a place, on the goal's own server and elsewhere.
    #[test]
    fn p19_caught_up_without_a_place_is_every_transaction() {
        for server in ["s", "t"] {
            let goal = at(&format!("binlog;{server};b.000001;900;mariadb;0-2-59,0-1-6"));
            assert!(!reached(&at("binlog;s;;0;mariadb;0-1-5,0-2-20"), &goal));
            assert!(!reached(&at("binlog;s;;0;mariadb;0-1-5,0-2-59"), &goal));
            assert!(reached(&at("binlog;s;;0;mariadb;0-2-59,0-1-6"), &goal));
            assert!(reached(&at("binlog;s;;0;mariadb;0-1-6,0-2-60"), &goal));
        }
    }

    #[test]
    fn p13_caught_up_without_gtids_is_a_place() {
        let goal = at("binlog;s;b.000002;500;places;");
        assert!(!reached(&at("binlog;s;b.000002;499;places;"), &goal));
        assert!(reached(&at("binlog;s;b.000002;500;places;"), &goal));
        let declared = at("binlog;s;b.000002;500;mysql;3e11fa47-71ca-11e1-9e33-c80aa9429562:1-9");
        assert!(reached(
            &at("binlog;s;b.000002;500;mysql;3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5"),
            &declared
        ));
    }

    #[test]
    fn pauses_grow_to_the_bound() {
        let mut b = Backoff::default();
        let pauses: Vec<_> = (0..12).map(|_| b.pause().as_millis() as u64).collect();
        assert!(pauses.iter().all(|p| (RETRY_MS_MIN / 2..=RETRY_MS_MAX).contains(p)));
        assert!(pauses[11] >= RETRY_MS_MAX / 2);
    }
}
