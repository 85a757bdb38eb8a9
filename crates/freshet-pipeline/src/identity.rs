//! How log and targets are tied at start: go on, begin, or rebuild (ALGORITHMS 1.3).
//!
//! A pure decision over what the log and *all* configured sinks say, so that every case can be a line of a test. A
//! sink is on the log if its checkpoint (log_id, offset, position) equals a mark of it. Anything else, for any
//! sink, is a rebuild: a new log that begins at the intersection of the checkpoints, whose header remembers them,
//! so that a crash in the middle finds them again.

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
    /// A rebuild was interrupted before this sink followed: move its checkpoint to the log's first mark.
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
        None => rebuild(log, sinks),
    }
}

/// How `sink` goes on with `log`, or `None` if it cannot.
fn start_on(log: &LogView, sink: &SinkView) -> Option<SinkStart> {
    let Some(checkpoint) = &sink.checkpoint else {
        return Some(SinkStart::Begin(log.durable.clone()));
    };
    if checkpoint.log_id == log.id {
        return (sink.mark.as_ref() == Some(&checkpoint.mark.position)).then_some(SinkStart::GoOn);
    }
    let interrupted = log.inherited.iter().any(|i| {
        i.sink == sink.name
            && i.checkpoint.log_id == checkpoint.log_id
            && i.checkpoint.mark == checkpoint.mark
    });
    // The log's first mark is the intersection only as long as nothing was trimmed.
    interrupted.then(|| SinkStart::Rebase(log.trimmed.clone()))
}

fn rebuild(log: Option<&LogView>, sinks: &[SinkView]) -> Result<Decision> {
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
        let position = skip_position(log, sink).unwrap_or(&checkpoint.mark.position);
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
        let mark = Mark { position: position.clone(), ..checkpoint.mark.clone() };
        inherited.push(Inherited {
            sink: sink.name.clone(),
            checkpoint: Checkpoint { mark, ..checkpoint.clone() },
        });
    }
    let start = start.ok_or_else(|| Error::internal("A rebuild without a checkpoint"))?;
    Ok(Decision::Rebuild { start, inherited })
}

/// A sink that was rebased onto a log whose header says that it had applied more stands at the log's first mark,
/// which is behind what it has: the header's position is the one that counts until the sink has passed it.
fn skip_position<'a>(log: Option<&'a LogView>, sink: &'a SinkView) -> Option<&'a Position> {
    let (log, checkpoint) = (log?, sink.checkpoint.as_ref()?);
    let inherited = log.inherited.iter().find(|i| i.sink == sink.name)?;
    let had = &inherited.checkpoint.mark.position;
    let behind = checkpoint.log_id == log.id && !crate::retry::reached(&checkpoint.mark.position, had);
    behind.then_some(had)
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

    #[test]
    fn an_interrupted_rebuild_goes_on() {
        let inherited = vec![
            Inherited { sink: "a".into(), checkpoint: checkpoint(OLD, mark(7, 4)).expect("some") },
            Inherited { sink: "b".into(), checkpoint: checkpoint(OLD, mark(6, 3)).expect("some") },
        ];
        let l = log(NEW, mark(0, 3), mark(0, 3), inherited);
        let sinks = [
            sink("a", checkpoint(NEW, mark(0, 3)), Some(mark(0, 3))),
            sink("b", checkpoint(OLD, mark(6, 3)), None),
        ];
        let expect = Decision::Keep(vec![SinkStart::GoOn, SinkStart::Rebase(mark(0, 3))]);
        assert_eq!(decide(Some(&l), &sinks).expect("decides"), expect);
    }

    #[test]
    fn a_second_rebuild_remembers_what_a_rebased_sink_had() {
        let inherited =
            vec![Inherited { sink: "a".into(), checkpoint: checkpoint(OLD, mark(7, 4)).expect("some") }];
        let l = log(NEW, mark(0, 3), mark(0, 3), inherited);
        let sinks = [sink("a", checkpoint(NEW, mark(0, 3)), None)];
        match decide(Some(&l), &sinks).expect("decides") {
            Decision::Rebuild { start, .. } => assert_eq!(start, mark(0, 4).position),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_sink_that_never_began_cannot_join_a_rebuild() {
        let sinks = [sink("a", checkpoint(OLD, mark(7, 4)), None), sink("b", None, None)];
        assert!(decide(None, &sinks).is_err());
    }
}
