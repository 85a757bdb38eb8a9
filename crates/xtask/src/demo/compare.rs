//! Compares a table of both sides: the lines that the two servers' own clients print, one by one.
//!
//! The only thing adjusted is how SQL formats a time; no value is touched on its way. Both sides sort by the key.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context as _, ensure};
use freshet_testkit::servers::{MyServer, Postgres};

use super::shop::Table;

/// More differences than this are not told.
const DIFFERENCES_MAX: usize = 5;

/// What a comparison found.
pub struct Compared {
    pub name: &'static str,
    pub rows: u64,
    pub bytes: u64,
    pub differences: Vec<String>,
}

/// Compares one table.
pub fn table(source: &MyServer, target: &Postgres, table: &Table) -> anyhow::Result<Compared> {
    let Table { name, key, source_columns, target_columns, .. } = table;
    let mut ours = source.client();
    ours.args(["--raw", "--quick", "--execute"]);
    ours.arg(format!("set time_zone = '+00:00'; select {source_columns} from shop.{name} order by {key}"));
    let mut theirs = target.client("warehouse");
    theirs.arg("-c").arg(format!("select {target_columns} from {name} order by {key}"));
    let (mut left, mut right) = (Lines::of(&mut ours)?, Lines::of(&mut theirs)?);
    let mut compared = Compared { name, rows: 0, bytes: 0, differences: Vec::new() };
    loop {
        let (from, to) = (left.next()?, right.next()?);
        if from.is_none() && to.is_none() {
            break;
        }
        compared.rows += 1;
        compared.bytes += from.as_ref().map_or(0, |line| line.len() as u64);
        if from != to {
            let shown = |side: Option<String>| side.unwrap_or_else(|| "no more rows".to_owned());
            compared.differences.push(format!("\n  MariaDB    {}\n  PostgreSQL {}", shown(from), shown(to)));
            if compared.differences.len() == DIFFERENCES_MAX {
                left.abandon();
                right.abandon();
                return Ok(compared);
            }
        }
    }
    left.end()?;
    right.end()?;
    Ok(compared)
}

/// The lines that a client prints.
struct Lines {
    shown: String,
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Lines {
    fn of(command: &mut Command) -> anyhow::Result<Self> {
        let shown = command.get_program().to_string_lossy().into_owned();
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut child = child.with_context(|| format!("Cannot run {shown}"))?;
        let output = BufReader::new(child.stdout.take().context("No output of a client")?);
        Ok(Self { shown, child, output })
    }

    fn next(&mut self) -> anyhow::Result<Option<String>> {
        let mut line = Vec::new();
        let read =
            self.output.read_until(b'\n', &mut line).with_context(|| format!("{} broke", self.shown))?;
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        Ok((read > 0).then(|| String::from_utf8_lossy(&line).into_owned()))
    }

    fn end(mut self) -> anyhow::Result<()> {
        let status = self.child.wait()?;
        ensure!(status.success(), "{} failed ({status})", self.shown);
        Ok(())
    }

    fn abandon(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
