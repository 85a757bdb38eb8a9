//! Pauses between retries: exponential, jittered, bounded; and the two questions asked of positions.

use crate::bounds::{RETRY_MS_MAX, RETRY_MS_MIN};
use freshet_core::Position;
use std::time::Duration;
use tokio::sync::watch;

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
        Duration::from_millis(ms / 2 + rand::random_range(0..=ms / 2))
    }

    /// Something worked: begin at the shortest pause again.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

/// Waits for `pause`, or less if a stop is asked for; `true` if it is.
pub async fn pause_or_stop(pause: Duration, stop: &mut watch::Receiver<bool>) -> bool {
    tokio::select! {
        () = tokio::time::sleep(pause) => *stop.borrow(),
        () = stopped(stop) => true,
    }
}

/// Returns once a stop is asked for (or nobody is left who could ask).
pub async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, which is a stop as well.
    let _ = stop.wait_for(|s| *s).await;
}

/// Whether everything at or before `goal` is at or before `position`: by GTID set, or by place on the same server.
/// `goal` must be exact in at least what it holds (a commit's own position, a server's tip, F_low).
pub fn reached(position: &Position, goal: &Position) -> bool {
    match (position, goal) {
        (Position::Binlog(p), Position::Binlog(g)) => {
            let by_gtid = has_gtids(goal) && g.gtids.is_subset(&p.gtids);
            by_gtid || (p.server == g.server && p.file >= g.file)
        }
        (Position::Wal(p), Position::Wal(g)) => p.system == g.system && p.lsn >= g.lsn,
        (Position::Binlog(_), Position::Wal(_)) | (Position::Wal(_), Position::Binlog(_)) => false,
    }
}

/// Whether `position` is at or past F_high. On the server that F_high was read from its place decides alone: its
/// GTID set may lack commits that a reader saw (ALGORITHMS 2, MySQL without the lock).
pub fn passed_high(position: &Position, high: &Position) -> bool {
    match (position, high) {
        (Position::Binlog(p), Position::Binlog(h)) if p.server == h.server => p.file >= h.file,
        (Position::Binlog(_), _) | (Position::Wal(_), _) => reached(position, high),
    }
}

/// Whether a log that is at `position` brings nothing more of what a sink holds, `had`. Where there are GTIDs only they
/// decide: after a fail-over `had` is a place of the new server with a set of which parts are still to come from it.
pub fn covers(position: &Position, had: &Position) -> bool {
    match (position, had) {
        (Position::Binlog(p), Position::Binlog(h)) if has_gtids(had) => h.gtids.is_subset(&p.gtids),
        (Position::Binlog(_), _) | (Position::Wal(_), _) => reached(position, had),
    }
}

fn has_gtids(position: &Position) -> bool {
    match position {
        Position::Binlog(p) => match &p.gtids {
            freshet_core::position::GtidSet::Mysql(set) => !set.is_empty(),
            freshet_core::position::GtidSet::Mariadb(set) => !set.is_empty(),
        },
        Position::Wal(_) => false,
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
    }

    #[test]
    fn p19_what_a_sink_had_before_a_fail_over_is_told_by_gtid() {
        let uuid = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
        let log = at(&format!("binlog;new;b.000002;50;mysql;{uuid}:1-5"));
        let had = log.joined(&at(&format!("binlog;old;a.000009;900;mysql;{uuid}:1-9"))).expect("one history");
        assert_eq!(had, at(&format!("binlog;new;b.000002;50;mysql;{uuid}:1-9")));
        assert!(reached(&log, &had) && !covers(&log, &had), "its place is reached, its set is not");
        let later = at(&format!("binlog;new;b.000002;90;mysql;{uuid}:1-8"));
        assert!(
            !covers(&later, &had)
                && later.joined(&had) == Some(at(&format!("binlog;new;b.000002;90;mysql;{uuid}:1-9")))
        );
        assert!(covers(&at(&format!("binlog;new;b.000002;99;mysql;{uuid}:1-9")), &had));
        assert!(
            covers(&at("binlog;s;b.000002;9;mysql;"), &at("binlog;s;b.000001;99;mysql;")),
            "without GTIDs by place"
        );
    }

    #[test]
    fn reached_by_either() {
        let a = at("binlog;s;b.000002;4;mariadb;0-1-5");
        assert!(reached(&a, &at("binlog;s;b.000001;900;mariadb;0-1-9")));
        assert!(reached(&a, &at("binlog;t;x.000009;900;mariadb;0-1-5")));
        assert!(!reached(&a, &at("binlog;t;x.000001;4;mariadb;0-1-6")));
        assert!(!reached(&a, &at("binlog;t;x.000001;4;mariadb;")));
        assert!(!reached(&a, &at("wal;1;1;1")));
    }

    #[test]
    fn pauses_grow_to_the_bound() {
        let mut b = Backoff::default();
        let pauses: Vec<_> = (0..12).map(|_| b.pause().as_millis() as u64).collect();
        assert!(pauses.iter().all(|p| (RETRY_MS_MIN / 2..=RETRY_MS_MAX).contains(p)));
        assert!(pauses[11] >= RETRY_MS_MAX / 2);
    }
}
