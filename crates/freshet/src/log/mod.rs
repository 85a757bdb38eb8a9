//! `freshet log`: looks into a durable log, whether or not its pipeline is running. Never writes.

mod cat;
mod json;

use crate::args::{LogCatArgs, LogCommand, LogLsArgs, LogVerifyArgs};
use crate::config::units::{show_bytes, show_count};
use crate::exit::Failure;
use crate::target;
use cat::{Records, Wanted, cat};
use comfy_table::{CellAlignment, Table, presets};
use freshet_core::log::Record;
use freshet_core::{Error, Offset, Result};
use freshet_log::inspect::{self, Listing, SegmentListing, TailState};
use freshet_mapping::Pattern;
use serde_json::json;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Runs the command.
pub fn run(command: &LogCommand) -> Result<(), Failure> {
    match command {
        LogCommand::Ls(args) => ls(args),
        LogCommand::Cat(args) => run_cat(args),
        LogCommand::Verify(args) => verify(args),
    }
}

fn none(dir: &Path) -> Failure {
    let message = format!("No log is in {}", dir.display());
    Error::invalid(message).with_hint("Name the pipeline's file or its log.dir").into()
}

fn ls(args: &LogLsArgs) -> Result<(), Failure> {
    let dir = target::log_dir(&args.target)?;
    let listing = inspect::list(&dir)?.ok_or_else(|| none(&dir))?;
    let mut out = io::stdout().lock();
    if args.json {
        for segment in &listing.segments {
            serde_json::to_writer(&mut out, &segment_json(segment))?;
            writeln!(out)?;
        }
    } else {
        writeln!(out, "{}", segments(&listing.segments))?;
        summary(&mut out, &listing)?;
    }
    Ok(out.flush()?)
}

fn segment_json(segment: &SegmentListing) -> serde_json::Value {
    json!({
        "file": file_name(&segment.path),
        "first": segment.first.0,
        "next": segment.next.0,
        "records": segment.records,
        "changes": segment.rows,
        "commits": segment.commits,
        "bytes": segment.bytes,
        "epoch": segment.epoch.0,
        "start": segment.start.to_string(),
        "end": segment.end.as_ref().map(ToString::to_string),
    })
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn segments(segments: &[SegmentListing]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(["segment", "first", "next", "records", "changes", "commits", "bytes", "epoch"]);
    for segment in segments {
        table.add_row([
            file_name(&segment.path),
            segment.first.to_string(),
            segment.next.to_string(),
            show_count(segment.records),
            show_count(segment.rows),
            show_count(segment.commits),
            show_bytes(segment.bytes),
            segment.epoch.to_string(),
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn summary(out: &mut impl Write, listing: &Listing) -> io::Result<()> {
    writeln!(out, "log         {}, epoch {}", listing.id, listing.epoch)?;
    writeln!(out, "begun at    {}", listing.start.position)?;
    for inherited in &listing.inherited {
        let checkpoint = &inherited.checkpoint;
        let (sink, position) = (&inherited.sink, &checkpoint.mark.position);
        writeln!(out, "in place of {} for sink {sink} at {position}", checkpoint.log_id)?;
    }
    if let Some(mark) = &listing.last_commit {
        writeln!(out, "last commit {}, next offset {}", mark.position, mark.next)?;
    }
    match &listing.tail {
        TailState::Whole => Ok(()),
        TailState::Open { records } => {
            writeln!(out, "tail        {records} records of a transaction that is not complete")
        }
        TailState::Torn { path, offset, byte, what } => {
            let file = file_name(path);
            writeln!(out, "tail        no whole record at byte {byte} of {file}, offset {offset}: {what}")
        }
    }
}

fn verify(args: &LogVerifyArgs) -> Result<(), Failure> {
    let dir = target::log_dir(&args.target)?;
    let verification = inspect::verify(&dir)?.ok_or_else(|| none(&dir))?;
    let listing = &verification.listing;
    let mut out = io::stdout().lock();
    let sum = |of: fn(&SegmentListing) -> u64| listing.segments.iter().map(of).sum::<u64>();
    writeln!(
        out,
        "{} segments, {} records, {} changes, {}",
        listing.segments.len(),
        show_count(sum(|s| s.records)),
        show_count(sum(|s| s.rows)),
        show_bytes(sum(|s| s.bytes))
    )?;
    summary(&mut out, listing)?;
    let mut damage = verification.damage.into_iter();
    let Some(first) = damage.next() else {
        writeln!(out, "Every sum is right")?;
        return Ok(out.flush()?);
    };
    damage.try_for_each(|error| writeln!(out, "also        {error}"))?;
    out.flush()?;
    Err(first.into())
}

fn run_cat(args: &LogCatArgs) -> Result<(), Failure> {
    let tables = args.table.iter().map(|text| Pattern::parse(text)).collect::<Result<Vec<_>>>()?;
    let dir = target::log_dir(&args.target)?;
    let records = inspect::records(&dir, args.from.map(Offset))?.ok_or_else(|| none(&dir))?;
    let wanted = Wanted { tables, limit: args.limit };
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    cat(&mut Stored { dir, records }, &wanted, &mut out)
}

/// The records of a directory.
struct Stored {
    dir: PathBuf,
    records: inspect::Records,
}

impl Records for Stored {
    fn next(&mut self) -> Result<Option<Record>> {
        Ok(self.records.next().transpose()?.map(|inspected| inspected.record))
    }

    fn again(&self, from: Offset) -> Result<Box<dyn Records>> {
        let gone = || Error::unavailable(format!("The log in {} was removed meanwhile", self.dir.display()));
        let records = inspect::records(&self.dir, Some(from))?.ok_or_else(gone)?;
        Ok(Box::new(Stored { dir: self.dir.clone(), records }))
    }
}
