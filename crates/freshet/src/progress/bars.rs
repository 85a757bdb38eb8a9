//! Progress on a terminal: a line for each sink, and bars for the tables that are being loaded.

use super::rate::Rate;
use crate::config::units::{show_about, show_bytes, show_count};
use crate::status_file::{PhaseWord, lag_text};
use freshet_core::TableName;
use freshet_pipeline::status::{Phase, SinkStatus, Snapshot, TableStatus};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Instant;
use tracing_subscriber::fmt::MakeWriter;

/// More tables than this are summed up in the sink's line alone.
const TABLES_SHOWN_MAX: usize = 12;

/// Bars on standard error.
pub struct Bars {
    pipeline: String,
    screen: Screen,
    sinks: BTreeMap<String, SinkBars>,
}

struct SinkBars {
    line: ProgressBar,
    tables: BTreeMap<TableName, TableBar>,
    done: BTreeMap<TableName, Phase>,
    rows: Rate,
    changes: Rate,
}

struct TableBar {
    bar: ProgressBar,
    rows: Rate,
}

impl Bars {
    /// Nothing drawn yet.
    pub fn new(pipeline: &str) -> Self {
        let bars = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10));
        Self { pipeline: pipeline.to_owned(), screen: Screen(bars), sinks: BTreeMap::new() }
    }

    /// Where log lines go meanwhile.
    pub fn screen(&self) -> Screen {
        self.screen.clone()
    }

    /// Draws a snapshot.
    pub fn show(&mut self, snapshot: &Snapshot, now: Instant) {
        for (name, sink) in &snapshot.sinks {
            let bars = self.sinks.entry(name.clone()).or_insert_with(|| SinkBars::new(&self.screen));
            bars.tables(&self.screen, sink, now);
            let rows: u64 = sink.tables.values().map(|t| t.rows_loaded).sum();
            let changes = sink.changes.inserts + sink.changes.updates + sink.changes.deletes;
            let (rows_per_s, changes_per_s) =
                (bars.rows.update(now, rows), bars.changes.update(now, changes));
            let text = match sink.phase {
                Phase::Loading => loading_text(sink, rows, rows_per_s, &bars.rows),
                Phase::CatchingUp | Phase::Streaming => {
                    streaming_text(sink, changes_per_s, snapshot.log_bytes)
                }
                Phase::Starting => String::new(),
                Phase::Stopped | Phase::Failed => ended_text(sink, rows),
            };
            let waits = sink.waiting_for.as_ref().or(snapshot.waiting_for.as_ref());
            let waits = waits.map_or_else(String::new, |what| format!("  waits: {what}"));
            let phase = PhaseWord::from(sink.phase).text();
            bars.line.set_message(format!("{} -> {name}  {phase}  {text}{waits}", self.pipeline));
            bars.line.tick();
        }
    }

    /// Takes the bars away and leaves each sink's last line.
    pub fn finish(&mut self) {
        for sink in self.sinks.values_mut() {
            sink.tables.values().for_each(|table| table.bar.finish_and_clear());
            sink.line.abandon();
        }
    }
}

fn loading_text(sink: &SinkStatus, rows: u64, rows_per_s: f64, rate: &Rate) -> String {
    let loaded = sink.tables.values().filter(|t| t.phase > Phase::Loading).count();
    let estimate: u64 = sink.tables.values().map(|t| t.rows_estimate.max(t.rows_loaded)).sum();
    let left = rate.remaining_ms(estimate.saturating_sub(rows));
    let left = left.map_or_else(String::new, |ms| format!("  {} left", show_about(ms)));
    format!(
        "{loaded} of {} tables  {} of ~{} rows  {} rows/s{left}",
        sink.tables.len(),
        show_count(rows),
        show_count(estimate),
        show_count(rows_per_s as u64),
    )
}

fn ended_text(sink: &SinkStatus, rows: u64) -> String {
    let c = &sink.changes;
    let counts = [rows, c.inserts, c.updates, c.deletes].map(show_count);
    let [rows, inserts, updates, deletes] = counts;
    format!("{rows} rows loaded  inserts {inserts}  updates {updates}  deletes {deletes}")
}

fn streaming_text(sink: &SinkStatus, changes_per_s: f64, log_bytes: u64) -> String {
    let c = &sink.changes;
    format!(
        "{} changes/s  lag {}  inserts {}  updates {}  deletes {}  log {}",
        show_count(changes_per_s as u64),
        lag_text(sink.lag_ms, sink.lag_bytes),
        show_count(c.inserts),
        show_count(c.updates),
        show_count(c.deletes),
        show_bytes(log_bytes),
    )
}

impl SinkBars {
    fn new(screen: &Screen) -> Self {
        let line = screen.0.add(ProgressBar::new_spinner());
        line.set_style(style("{spinner} {msg}"));
        Self {
            line,
            tables: BTreeMap::new(),
            done: BTreeMap::new(),
            rows: Rate::default(),
            changes: Rate::default(),
        }
    }

    fn tables(&mut self, screen: &Screen, sink: &SinkStatus, now: Instant) {
        for (name, table) in &sink.tables {
            let before = self.done.insert(name.clone(), table.phase).unwrap_or_default();
            if table.phase == Phase::Loading {
                self.table(screen, name, table, now);
            } else if let Some(gone) = self.tables.remove(name) {
                gone.bar.finish_and_clear();
                screen.0.remove(&gone.bar);
            }
            if before == Phase::Loading && table.phase != Phase::Loading {
                let text = format!("  {name}: {} rows loaded", show_count(table.rows_loaded));
                screen.0.println(text).ok();
            }
        }
    }

    fn table(&mut self, screen: &Screen, name: &TableName, table: &TableStatus, now: Instant) {
        if !self.tables.contains_key(name)
            && (self.tables.len() >= TABLES_SHOWN_MAX || table.rows_loaded == 0)
        {
            return;
        }
        let line = &self.line;
        let shown = self.tables.entry(name.clone()).or_insert_with(|| {
            let bar = screen.0.insert_after(line, ProgressBar::new(0));
            bar.set_style(style("    {prefix:30!} [{bar:24}] {percent:>3}%  {msg}"));
            bar.set_prefix(name.to_string());
            TableBar { bar, rows: Rate::default() }
        });
        let rows_per_s = shown.rows.update(now, table.rows_loaded);
        shown.bar.set_length(table.rows_estimate.max(table.rows_loaded));
        shown.bar.set_position(table.rows_loaded);
        let left = shown.rows.remaining_ms(table.rows_estimate.saturating_sub(table.rows_loaded));
        let left = left.map_or_else(String::new, |ms| format!("  {} left", show_about(ms)));
        let (rows, pace) = (show_count(table.rows_loaded), show_count(rows_per_s as u64));
        shown.bar.set_message(format!("{rows} rows  {pace} rows/s{left}"));
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// A terminal with bars at its bottom; what is written to it scrolls above them.
#[derive(Clone)]
pub struct Screen(MultiProgress);

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.suspend(|| io::stderr().write_all(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl<'w> MakeWriter<'w> for Screen {
    type Writer = Self;

    fn make_writer(&'w self) -> Self {
        self.clone()
    }
}
