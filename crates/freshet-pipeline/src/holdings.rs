//! What the targets hold, so that the source can be asked for it: at each open it must have everything that any target
//! has, or the pipeline stops (P22).
//!
//! Two things are held: what a checkpoint says, and what a load read, which may be ahead of every checkpoint until the log
//! has come to F_high. A load's bound is noted as soon as its view is there, before a row of it is on a target. Nothing
//! is taken back: a view of which no row came to a target stops a pipeline only if the source lost transactions.

use crate::retry::surely_past;
use freshet_core::Position;
use freshet_core::sink::{Ownership, TablePhase};
use std::sync::{Arc, Mutex, PoisonError};

/// Shared by ingest, which asks the source, and by the sinks' tasks.
#[derive(Clone, Debug, Default)]
pub struct Holdings(Arc<Mutex<Vec<Position>>>);

impl Holdings {
    /// Notes a position.
    pub fn add(&self, position: &Position) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !held.contains(position) {
            held.push(position.clone());
        }
    }

    /// Notes what a target says of itself.
    pub fn add_target(&self, target: &Ownership) {
        if let Some(checkpoint) = &target.checkpoint {
            self.add(&checkpoint.mark.position);
        }
        // The checkpoint of consistent tables is past what they were loaded with.
        let tables = target.tables.iter().filter(|table| table.phase < TablePhase::Consistent);
        for high in tables.flat_map(|table| &table.chunks).filter_map(|chunk| chunk.high.as_ref()) {
            self.add(high);
        }
    }

    /// Forgets what a log that has come to `place` has passed.
    pub fn forget_up_to(&self, place: &Position) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|position| !surely_past(place, position));
    }

    /// What a log that has come to `place` has not passed.
    pub fn ahead_of(&self, place: &Position) -> Vec<Position> {
        self.forget_up_to(place);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
