//! How log and targets are tied at start: go on, begin, or rebuild (ALGORITHMS 1.3).
//!
//! A pure decision over what the log and *all* configured sinks say, so that every case can be a line of a test. A
//! sink is on the log if its checkpoint (log_id, offset, position) equals a mark of it. Anything else, for any
//! sink, is a rebuild: a new log that begins at the intersection of the checkpoints, whose header remembers them,
//! so that a crash in the middle finds them again.
//!
//! A checkpoint's position always says what the target holds, also after a rebuild that begins before it: such a
//! sink stands at the log's first offset with its own position, and skips what is in it (decision 0006).

use freshet_core::log::Inherited;
use freshet_core::{Checkpoint, Error, LogId, Mark, Position, Result};

/// What a sink and the log say about each other.
#[derive(Clone, Debug)]
pub struct SinkView {
    /// Sink.
    pub name: String,
    /// Its checkpoint.
    pub checkpoint: Option<Checkpoint>,
    /// The log's position at the checkpoint's next offset, if that is a mark of it.
    pub mark: Option<Position>,
}

/// What the log says of itself.
#[derive(Clone, Debug)]
pub struct LogView {
    /// Identity.
    pub id: LogId,
    /// First mark still there.
    pub trimmed: Mark,
    /// Durable mark.
    pub durable: Mark,
    /// Checkpoints it was begun from.
    pub inherited: Vec<Inherited>,
}

/// What to do with one sink on a log that stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SinkStart {
    /// Its checkpoint is a mark of the log.
    GoOn,
    /// It never began here: it begins at the log's durable mark.
    Begin(Mark),
    /// A rebuild was interrupted before this sink followed: move its checkpoint to this mark.
    Rebase(Mark),
}

/// What to do at start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing was ever begun: fix F_low, create a log there, begin every sink.
    Fresh,
    /// The log stays.
    Keep(Vec<SinkStart>),
    /// Create a log at `start` that inherits the checkpoints, then rebase every sink.
    Rebuild {
        /// Intersection of the checkpoints.
        start: Position,
        /// To be listed in the new log's header.
        inherited: Vec<Inherited>,
    },
}

/// Decides. `log` is `None` if there is none.
pub fn decide(log: Option<&LogView>, sinks: &[SinkView]) -> Result<Decision> {
    if sinks.iter().all(|s| s.checkpoint.is_none()) {
        return Ok(Decision::Fresh);
    }
    let starts: Option<Vec<SinkStart>> =
        log.and_then(|log| sinks.iter().map(|sink| start_on(log, sink)).collect());
    match starts {
        Some(starts) => Ok(Decision::Keep(starts)),
        None => rebuild(sinks),
    }
}

/// How `sink` goes on with `log`, or `None` if it cannot.
fn start_on(log: &LogView, sink: &SinkView) -> Option<SinkStart> {
    let Some(checkpoint) = &sink.checkpoint else {
        return Some(SinkStart::Begin(log.durable.clone()));
    };
    let (position, had) = (&checkpoint.mark.position, inherited(&log.inherited, &sink.name));
    if checkpoint.log_id == log.id {
        let on = sink.mark.as_ref().is_some_and(|mark| is_on(position, mark, had));
        return on.then_some(SinkStart::GoOn);
    }
    let interrupted = had.is_some_and(|had| {
        had.log_id == checkpoint.log_id
            && had.mark == checkpoint.mark
            && position.covers(&log.trimmed.position)
    });
    // What was trimmed since is not in the log: a target that came back from before it has to be rebuilt for.
    interrupted.then(|| rebased(&log.trimmed, position)).flatten().map(SinkStart::Rebase)
}

/// What a log's header says that a sink had.
pub fn inherited<'a>(inherited: &'a [Inherited], sink: &str) -> Option<&'a Checkpoint> {
    inherited.iter().find(|i| i.sink == sink).map(|i| &i.checkpoint)
}

/// Whether a checkpoint's position is that of the log's mark at its offset, or what a sink holds there that had
/// more than the log's first mark when the log was begun.
pub fn is_on(position: &Position, mark: &Position, had: Option<&Checkpoint>) -> bool {
    position == mark
        || had.and_then(|had| mark.joined(&had.mark.position)).is_some_and(|both| both.agrees(position))
}

/// Where a sink that holds `position` stands on a log that goes on from `mark`.
pub fn rebased(mark: &Mark, position: &Position) -> Option<Mark> {
    Some(Mark { next: mark.next, position: mark.position.joined(position)? })
}

fn rebuild(sinks: &[SinkView]) -> Result<Decision> {
    let mut start: Option<Position> = None;
    let mut inherited = Vec::new();
    for sink in sinks {
        let Some(checkpoint) = &sink.checkpoint else {
            return Err(Error::invalid(format!(
                "Sink {} has not begun, and the log that the other sinks follow is gone",
                sink.name
            ))
            .with_hint("Run once without the new sink so that the log is rebuilt, then add it"));
        };
        let position = &checkpoint.mark.position;
        start = Some(match start {
            None => position.clone(),
            Some(start) => start.combine(position, false).ok_or_else(|| {
                Error::resync(format!(
                    "The checkpoint of sink {} belongs to another source history",
                    sink.name
                ))
                .with_hint(
                    "Check that every sink of this pipeline has the same source, or reset the pipeline",
                )
            })?,
        });
        inherited.push(Inherited { sink: sink.name.clone(), checkpoint: checkpoint.clone() });
    }
    let start = start.ok_or_else(|| Error::internal("A rebuild without a checkpoint"))?;
    Ok(Decision::Rebuild { start, inherited })
}

#[cfg(test)]
mod tests {
    use super::*;
    use freshet_core::{Offset, SinkEpoch};

    const OLD: LogId = LogId([1; 16]);
    const NEW: LogId = LogId([2; 16]);

    fn mark(next: u64, sequence: u64) -> Mark {
        let position = format!("binlog;s;b.000001;{};mariadb;0-1-{sequence}", sequence * 10);
        Mark { next: Offset(next), position: position.parse().expect("a position") }
    }

    fn checkpoint(log_id: LogId, mark: Mark) -> Option<Checkpoint> {
        Some(Checkpoint { epoch: SinkEpoch(1), log_id, mark })
    }

    fn sink(name: &str, checkpoint: Option<Checkpoint>, at: Option<Mark>) -> SinkView {
        SinkView { name: name.into(), checkpoint, mark: at.map(|m| m.position) }
    }

    fn log(id: LogId, trimmed: Mark, durable: Mark, inherited: Vec<Inherited>) -> LogView {
        LogView { id, trimmed, durable, inherited }
    }

    #[test]
    fn without_any_checkpoint_everything_begins() {
        let l = log(OLD, mark(0, 1), mark(9, 5), vec![]);
        assert_eq!(decide(Some(&l), &[sink("a", None, None)]).expect("decides"), Decision::Fresh);
        assert_eq!(decide(None, &[sink("a", None, None)]).expect("decides"), Decision::Fresh);
    }

    #[test]
    fn a_checkpoint_on_a_mark_goes_on_and_a_new_sink_begins_at_the_tail() {
        let l = log(OLD, mark(0, 1), mark(9, 5), vec![]);
        let sinks = [sink("a", checkpoint(OLD, mark(5, 3)), Some(mark(5, 3))), sink("b", None, None)];
        let expect = Decision::Keep(vec![SinkStart::GoOn, SinkStart::Begin(mark(9, 5))]);
        assert_eq!(decide(Some(&l), &sinks).expect("decides"), expect);
    }

    #[test]
    fn lost_foreign_older_newer_and_trimmed_logs_are_rebuilt_at_the_intersection() {
        let tail = log(OLD, mark(4, 2), mark(9, 5), vec![]);
        let foreign = log(NEW, mark(0, 1), mark(9, 5), vec![]);
        let other_position = Some(mark(7, 9));
        for (log, at) in
            [(None, None), (Some(&foreign), None), (Some(&tail), None), (Some(&tail), other_position)]
        {
            let sinks = [
                sink("a", checkpoint(OLD, mark(7, 4)), at),
                sink("b", checkpoint(OLD, mark(6, 3)), Some(mark(6, 3))),
            ];
            match decide(log, &sinks).expect("decides") {
                Decision::Rebuild { start, inherited } => {
                    assert_eq!(start, mark(0, 3).position);
                    assert_eq!(inherited.len(), 2);
                    assert_eq!(inherited[0].checkpoint.mark, mark(7, 4));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn had(sink: &str, next: u64, sequence: u64) -> Inherited {
        Inherited { sink: sink.into(), checkpoint: checkpoint(OLD, mark(next, sequence)).expect("some") }
    }

    #[test]
    fn an_interrupted_rebuild_goes_on() {
        let l = log(NEW, mark(0, 3), mark(0, 3), vec![had("a", 7, 4), had("b", 6, 3)]);
        let ahead = Mark { next: Offset(0), ..mark(7, 4) };
        let sinks = [
            sink("a", checkpoint(NEW, ahead), Some(mark(0, 3))),
            sink("b", checkpoint(OLD, mark(6, 3)), None),
        ];
        let expect = Decision::Keep(vec![SinkStart::GoOn, SinkStart::Rebase(mark(0, 3))]);
        assert_eq!(decide(Some(&l), &sinks).expect("decides"), expect);
    }

    #[test]
    fn t10_an_inherited_checkpoint_from_before_the_trim_is_not_rebased() {
        let l = log(NEW, mark(5, 9), mark(8, 12), vec![had("a", 7, 4)]);
        let decided = decide(Some(&l), &[sink("a", checkpoint(OLD, mark(7, 4)), None)]).expect("decides");
        assert_eq!(
            decided,
            Decision::Rebuild { start: mark(0, 4).position, inherited: vec![had("a", 7, 4)] }
        );
    }

    #[test]
    fn p13_a_sink_that_was_ahead_stands_on_the_log_with_what_it_had() {
        let l = log(NEW, mark(0, 3), mark(9, 9), vec![had("a", 7, 5)]);
        for (at, position, on) in
            [(3, 5, true), (4, 5, true), (6, 6, true), (6, 5, false), (4, 4, true), (4, 6, false)]
        {
            let checkpoint = checkpoint(NEW, mark(2, position));
            let decided = decide(Some(&l), &[sink("a", checkpoint, Some(mark(2, at)))]).expect("decides");
            assert_eq!(
                decided == Decision::Keep(vec![SinkStart::GoOn]),
                on,
                "mark {at}, position {position}"
            );
        }
    }

    fn at(text: &str) -> Position {
        text.parse().expect("a position")
    }

    /// P19: also when the source failed over and back while the sink skipped.
    #[test]
    fn p19_a_skipping_sink_is_on_its_log_after_a_fail_over_and_back() {
        let had = Checkpoint {
            epoch: SinkEpoch(1),
            log_id: OLD,
            mark: Mark { next: Offset(7), position: at("binlog;s1;a.000009;900;mariadb;0-1-10") },
        };
        let second = at("binlog;s2;b.000001;300;mariadb;0-1-6");
        let held = second.joined(&had.mark.position).expect("one history");
        assert!(is_on(&held, &second, Some(&had)));
        // A session that was begun there, and a window of the first server again.
        let back = at("binlog;s1;a.000009;700;mariadb;0-1-7");
        let held = back.joined(&held).expect("one history");
        assert!(is_on(&held, &back, Some(&had)), "{held} at {back}");
        assert!(!is_on(&at("binlog;;;0;mariadb;0-1-9"), &back, Some(&had)));
        assert!(!is_on(&at("binlog;s1;a.000009;800;mariadb;0-1-10"), &back, Some(&had)));
    }

    /// P19: the place of a sink that skipped on another server is not the place of its set, so a rebuild begins at none.
    #[test]
    fn p19_a_rebuild_after_a_fail_over_begins_at_no_place_of_another_set() {
        let ahead = at("binlog;s2;b.000001;600;mariadb;0-1-6")
            .joined(&at("binlog;s1;a.000009;900;mariadb;0-1-10"))
            .expect("one history");
        let view = |position: &Position| {
            sink("a", checkpoint(OLD, Mark { next: Offset(7), position: position.clone() }), None)
        };
        let behind = at("binlog;s2;b.000001;700;mariadb;0-1-7");
        for (sinks, expect) in [
            (vec![view(&ahead), view(&behind)], "binlog;;;0;mariadb;0-1-7"),
            (vec![view(&ahead)], "binlog;;;0;mariadb;0-1-10"),
        ] {
            match decide(None, &sinks).expect("decides") {
                Decision::Rebuild { start, .. } => assert_eq!(start, at(expect)),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_sink_that_never_began_cannot_join_a_rebuild() {
        let sinks = [sink("a", checkpoint(OLD, mark(7, 4)), None), sink("b", None, None)];
        assert!(decide(None, &sinks).is_err());
    }
}
