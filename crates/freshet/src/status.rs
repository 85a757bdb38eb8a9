//! `freshet status`: what a pipeline is doing, read from the status file in its log directory.

use crate::args::StatusArgs;
use crate::config::units::{show_bytes, show_count, show_ms};
use crate::exit::Failure;
use crate::status_file::{self, INTERVAL_MS, SinkPart, State, StatusFile, TablePart, lag_text};
use crate::target;
use comfy_table::{CellAlignment, Table, presets};
use freshet_core::Error;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::thread;
use std::time::Duration;

/// A running process that has not written for this long is told of.
const SILENT_MS: u64 = 10 * INTERVAL_MS;
/// Clears the terminal and goes to its first line.
const CLEAR: &str = "\x1b[2J\x1b[H";

/// Runs the command.
pub fn run(args: &StatusArgs) -> Result<(), Failure> {
    let dir = target::log_dir(&args.target)?;
    let mut out = io::stdout().lock();
    let clear = args.watch && !args.json && out.is_terminal();
    loop {
        let text = render(&dir, args.json)?;
        if clear {
            write!(out, "{CLEAR}")?;
        }
        out.write_all(text.as_bytes())?;
        out.flush()?;
        if !args.watch {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(INTERVAL_MS));
    }
}

fn render(dir: &Path, json: bool) -> Result<String, Failure> {
    let running = status_file::is_running(dir);
    let Some(file) = status_file::read(dir)? else {
        let message = format!("No pipeline has run in {}", dir.display());
        return Err(Error::invalid(message).with_hint("Start it with freshet run").into());
    };
    if json { render_json(&file, running) } else { Ok(render_text(&file, running)) }
}

fn render_json(file: &StatusFile, running: bool) -> Result<String, Failure> {
    let mut value = serde_json::to_value(file)?;
    if let Some(object) = value.as_object_mut() {
        object.insert("running".to_owned(), running.into());
        object.insert("age_ms".to_owned(), file.updated_at.age_ms().into());
    }
    Ok(format!("{value}\n"))
}

fn render_text(file: &StatusFile, running: bool) -> String {
    let mut lines = vec![headline(file, running)];
    if let Some(failed) = &file.error {
        lines.push(format!("error: {}", failed.message));
        lines.extend(failed.hint.as_ref().map(|hint| format!("hint: {hint}")));
    }
    let source = &file.source;
    lines.push(format!("source {} {}:{}", source.kind, source.host, source.port));
    lines.extend(source.tip.as_ref().map(|tip| format!("  its end    {tip}")));
    lines.extend(source.captured.as_ref().map(|at| format!("  captured   {at}")));
    lines.extend(source.waiting_for.as_ref().map(|what| format!("  waits for  {what}")));
    let (bytes, bytes_max) = (show_bytes(file.log.bytes), show_bytes(file.log.bytes_max));
    lines.push(format!(
        "log    {bytes} of {bytes_max}, {} changes captured",
        show_count(source.rows_captured)
    ));
    for sink in &file.sinks {
        lines.extend(sink_lines(sink));
    }
    lines.join("\n") + "\n"
}

fn headline(file: &StatusFile, running: bool) -> String {
    let (name, pid) = (&file.pipeline, file.pid);
    let age_ms = file.updated_at.age_ms();
    let ago = format!("{} ago", show_ms(age_ms));
    match (running, file.state) {
        (true, State::Running) if age_ms > SILENT_MS => {
            format!("{name}: process {pid} is there and has not reported since {ago}")
        }
        (true, _) => {
            format!("{name}: {}, process {pid}, for {}", file.phase.text(), show_ms(file.started_at.age_ms()))
        }
        (false, State::Running) => {
            format!("{name}: not running; process {pid} ended without a word, last report {ago}")
        }
        (false, State::Stopped) => format!("{name}: not running; stopped in order {ago}"),
        (false, State::Failed) => format!("{name}: not running; failed {ago}"),
    }
}

fn sink_lines(sink: &SinkPart) -> Vec<String> {
    let lag = lag_text(sink.lag_ms, sink.lag_bytes);
    let mut lines = vec![String::new(), format!("sink {}: {}, lag {lag}", sink.name, sink.phase.text())];
    lines.extend(sink.position.as_ref().map(|at| format!("  applied    {at}")));
    lines.extend(sink.commit_time.map(|at| format!("  committed  {}", String::from(at))));
    lines.extend(sink.waiting_for.as_ref().map(|what| format!("  waits for  {what}")));
    if !sink.tables.is_empty() {
        lines.push(tables(&sink.tables).to_string());
    }
    lines.extend(sink.not_carried.iter().map(|what| format!("  not carried over: {what}")));
    lines
}

fn tables(parts: &[TablePart]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(["table", "phase", "rows loaded", "inserts", "updates", "deletes"]);
    for part in parts {
        let changes = part.changes;
        table.add_row([
            format!("{}.{}", part.schema, part.table),
            phase(part),
            show_count(part.rows_loaded),
            show_count(changes.inserts),
            show_count(changes.updates),
            show_count(changes.deletes),
        ]);
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn phase(part: &TablePart) -> String {
    if part.phase == status_file::PhaseWord::Loading && part.chunks > 0 {
        return format!("loading, {} of {} chunks", part.chunks_done, part.chunks);
    }
    part.phase.text().to_owned()
}
