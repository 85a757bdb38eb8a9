//! Shows a running pipeline to whoever started it: bars on a terminal, log lines elsewhere.
//!
//! It reads snapshots and prints numbers and names, never the value of a cell (O10).

mod bars;
mod lines;
mod rate;

use crate::args::Progress;
use bars::Bars;
use freshet_pipeline::status::Snapshot;
use lines::Lines;
use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Shows snapshots, one of two ways.
pub struct Display {
    way: Way,
    /// What is not carried over, by sink, as far as it was told.
    told: BTreeSet<(String, String)>,
}

enum Way {
    Bars(Box<Bars>),
    Lines(Lines),
}

impl Display {
    /// The way that was asked for, or that fits where standard error goes.
    pub fn new(how: Progress, pipeline: &str) -> Self {
        let bars = match how {
            Progress::Bar => true,
            Progress::Lines => false,
            Progress::Auto => std::io::stderr().is_terminal(),
        };
        let way = if bars { Way::Bars(Box::new(Bars::new(pipeline))) } else { Way::Lines(Lines::default()) };
        Self { way, told: BTreeSet::new() }
    }

    /// Where log lines go, if standard error is drawn upon.
    pub fn screen(&self) -> Option<bars::Screen> {
        match &self.way {
            Way::Bars(bars) => Some(bars.screen()),
            Way::Lines(_) => None,
        }
    }

    /// How often it wants a snapshot.
    pub fn interval(&self) -> Duration {
        match self.way {
            Way::Bars(_) => Duration::from_millis(200),
            Way::Lines(_) => Duration::from_millis(1_000),
        }
    }

    /// Shows a snapshot.
    pub fn show(&mut self, snapshot: &Snapshot) {
        self.tell_not_carried(snapshot);
        match &mut self.way {
            Way::Bars(bars) => bars.show(snapshot, Instant::now()),
            Way::Lines(lines) => lines.show(snapshot, Instant::now()),
        }
    }

    /// Leaves the terminal as it was found.
    pub fn finish(&mut self) {
        match &mut self.way {
            Way::Bars(bars) => bars.finish(),
            Way::Lines(_) => {}
        }
    }
    /// What a target will lack is told once, not only to those who ask for the status.
    fn tell_not_carried(&mut self, snapshot: &Snapshot) {
        for (name, sink) in snapshot.sinks.iter().filter(|(_, sink)| !sink.not_carried.is_empty()) {
            for what in &sink.not_carried {
                if self.told.insert((name.clone(), what.clone())) {
                    tracing::warn!(sink = name, what, "Not carried over");
                }
            }
        }
    }
}
