//! Progress as log lines: one when something enters another phase, and one every ten seconds.

use super::rate::Rate;
use crate::status_file::PhaseWord;
use freshet_core::TableName;
use freshet_pipeline::status::{Phase, SinkStatus, Snapshot};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A line at least this often.
const INTERVAL: Duration = Duration::from_secs(10);

/// What was told last.
#[derive(Default)]
pub struct Lines {
    sinks: BTreeMap<String, Told>,
}

#[derive(Default)]
struct Told {
    at: Option<Instant>,
    phase: Phase,
    tables: BTreeMap<TableName, Phase>,
    waiting_for: Option<String>,
    rows: Rate,
    changes: Rate,
}

impl Lines {
    /// Tells what is new in a snapshot.
    pub fn show(&mut self, snapshot: &Snapshot, now: Instant) {
        for (name, sink) in &snapshot.sinks {
            let told = self.sinks.entry(name.clone()).or_default();
            told.tables(name, sink);
            told.waiting(name, sink);
            told.sink(name, sink, snapshot, now);
        }
    }
}

impl Told {
    fn tables(&mut self, name: &str, sink: &SinkStatus) {
        for (table, status) in &sink.tables {
            let before = self.tables.insert(table.clone(), status.phase).unwrap_or_default();
            if before == Phase::Loading && status.phase != Phase::Loading {
                tracing::info!(sink = name, table = %table, rows = status.rows_loaded, "Table loaded");
            }
        }
    }

    fn waiting(&mut self, name: &str, sink: &SinkStatus) {
        if sink.waiting_for != self.waiting_for {
            if let Some(what) = &sink.waiting_for {
                tracing::warn!(sink = name, waiting_for = what, "Sink waits");
            }
            self.waiting_for.clone_from(&sink.waiting_for);
        }
    }

    fn sink(&mut self, name: &str, sink: &SinkStatus, all: &Snapshot, now: Instant) {
        let rows: u64 = sink.tables.values().map(|t| t.rows_loaded).sum();
        let changes = sink.changes.inserts + sink.changes.updates + sink.changes.deletes;
        let due = self.at.is_none_or(|at| now.saturating_duration_since(at) >= INTERVAL);
        if !due && sink.phase == self.phase {
            return;
        }
        let (rows_per_s, changes_per_s) = (self.rows.update(now, rows), self.changes.update(now, changes));
        (self.at, self.phase) = (Some(now), sink.phase);
        let phase = PhaseWord::from(sink.phase).text();
        match sink.phase {
            Phase::Starting => tracing::info!(sink = name, phase, "Progress"),
            Phase::Stopped | Phase::Failed => tracing::info!(
                sink = name,
                phase,
                rows,
                inserts = sink.changes.inserts,
                updates = sink.changes.updates,
                deletes = sink.changes.deletes,
                "Ended"
            ),
            Phase::Loading => {
                let estimate: u64 = sink.tables.values().map(|t| t.rows_estimate).sum();
                let rate = rows_per_s as u64;
                tracing::info!(
                    sink = name,
                    phase,
                    rows,
                    rows_estimate = estimate,
                    rows_per_s = rate,
                    "Progress"
                );
            }
            Phase::CatchingUp | Phase::Streaming => tracing::info!(
                sink = name,
                phase,
                changes,
                changes_per_s = changes_per_s as u64,
                lag_ms = sink.lag_ms,
                lag_bytes = sink.lag_bytes,
                log_bytes = all.log_bytes,
                "Progress"
            ),
        }
    }
}
