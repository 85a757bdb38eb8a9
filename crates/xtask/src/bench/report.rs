//! What a bench says: a table for people, `bench/results/latest.json` for the README and for machines.
//!
//! A row compares medians. `ratio` is ours by the peer's; `goal` is of the ratio where there is one to reach beside a
//! peer, and of our own figure where the goal is absolute. Rows of a part that was not run keep their place in the
//! file, with their own commit and date.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::measure::{Run, median};
use crate::shell;

/// What more is: better or worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    More,
    Less,
}

/// What the goal is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GoalOf {
    Ratio,
    Ours,
}

/// CPU and memory of one process of a median run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Part {
    pub side: String,
    pub name: String,
    pub cpu_s: f64,
    pub peak_bytes: u64,
}

/// One line of the table.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    pub name: String,
    pub what: String,
    pub unit: String,
    pub ours: f64,
    pub ours_min: f64,
    pub ours_max: f64,
    pub beside: String,
    pub peer: Option<f64>,
    pub peer_min: Option<f64>,
    pub peer_max: Option<f64>,
    pub ratio: Option<f64>,
    pub goal: f64,
    pub goal_of: GoalOf,
    pub better: Better,
    pub met: bool,
    pub cpu_s_ours: Option<f64>,
    pub cpu_s_peer: Option<f64>,
    pub peak_bytes_ours: Option<u64>,
    pub parts: Vec<Part>,
    pub rows: u64,
    pub rounds: usize,
    pub seconds_ours: Option<f64>,
    pub notes: Vec<String>,
    pub commit: String,
    pub date: String,
}

/// The words of a row, before its figures.
pub struct About<'a> {
    pub name: &'a str,
    pub what: &'a str,
    pub unit: &'a str,
    pub beside: &'a str,
    pub goal: f64,
    pub goal_of: GoalOf,
    pub better: Better,
}

/// A median with its range.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    pub min: f64,
    pub median: f64,
    pub max: f64,
}

impl Spread {
    /// Of some values; none of nothing.
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        let median = median(&mut sorted);
        Some(Self { min: *sorted.first()?, median, max: *sorted.last()? })
    }
}

impl Row {
    /// A row of figures without runs.
    pub fn new(about: &About<'_>, ours: Spread, peer: Option<Spread>, rows: u64, rounds: usize) -> Self {
        let ratio = peer.map(|peer| ours.median / peer.median);
        let judged = match about.goal_of {
            GoalOf::Ratio => ratio,
            GoalOf::Ours => Some(ours.median),
        };
        let met = judged.is_some_and(|figure| match about.better {
            Better::More => figure >= about.goal,
            Better::Less => figure <= about.goal,
        });
        Self {
            name: about.name.to_owned(),
            what: about.what.to_owned(),
            unit: about.unit.to_owned(),
            ours: ours.median,
            ours_min: ours.min,
            ours_max: ours.max,
            beside: about.beside.to_owned(),
            peer: peer.map(|peer| peer.median),
            peer_min: peer.map(|peer| peer.min),
            peer_max: peer.map(|peer| peer.max),
            ratio,
            goal: about.goal,
            goal_of: about.goal_of,
            better: about.better,
            met,
            cpu_s_ours: None,
            cpu_s_peer: None,
            peak_bytes_ours: None,
            parts: Vec::new(),
            rows,
            rounds,
            seconds_ours: None,
            notes: Vec::new(),
            commit: commit(),
            date: date(),
        }
    }

    /// A row of rates from timed runs over `rows` rows.
    pub fn of_runs(about: &About<'_>, rows: u64, ours: &[Run], peer: &[Run]) -> anyhow::Result<Self> {
        let rates =
            |runs: &[Run]| Spread::of(&runs.iter().map(|run| rows as f64 / run.seconds).collect::<Vec<_>>());
        let spread = rates(ours).context("No run of ours")?;
        let mut row = Self::new(about, spread, rates(peer), rows, ours.len());
        row.add_costs(ours, peer);
        let shortest = ours.iter().chain(peer).map(|run| run.seconds).fold(f64::MAX, f64::min);
        if shortest < super::TIMED_S_MIN {
            row.notes.push(format!("a timed part lasted only {shortest:.1} s"));
        }
        Ok(row)
    }

    /// Adds what the runs cost: CPU seconds, peak memory, time, and the parts of the median run.
    pub fn add_costs(&mut self, ours: &[Run], peer: &[Run]) {
        let middle = |runs: &[Run], get: fn(&Run) -> f64| {
            Spread::of(&runs.iter().map(get).collect::<Vec<_>>()).map(|all| all.median)
        };
        (self.cpu_s_ours, self.cpu_s_peer) = (middle(ours, Run::cpu_s), middle(peer, Run::cpu_s));
        self.peak_bytes_ours = ours.iter().map(|run| run.part("freshet").peak_bytes).max();
        self.seconds_ours = middle(ours, |run| run.seconds);
        self.parts = parts("ours", ours).into_iter().chain(parts("peer", peer)).collect();
    }
}

/// The processes of the run whose time is the median.
fn parts(side: &str, runs: &[Run]) -> Vec<Part> {
    let mut sorted: Vec<&Run> = runs.iter().collect();
    sorted.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
    let Some(run) = sorted.get(sorted.len() / 2) else { return Vec::new() };
    let part = |(name, usage): &(&'static str, freshet_testkit::servers::Usage)| Part {
        side: side.to_owned(),
        name: (*name).to_owned(),
        cpu_s: (usage.cpu_s * 100.0).round() / 100.0,
        peak_bytes: usage.peak_bytes,
    };
    run.parts.iter().map(part).collect()
}

fn commit() -> String {
    let output =
        Command::new("git").args(["rev-parse", "--short", "HEAD"]).current_dir(shell::root()).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

fn date() -> String {
    let output = Command::new("date").args(["-u", "+%Y-%m-%d"]).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

/// Prints the table.
pub fn print(rows: &[Row]) {
    const HEAD: [&str; 10] =
        ["what", "ours", "min..max", "beside", "peer", "min..max", "ratio", "goal", "CPU s", "peak"];
    let cells: Vec<[String; 10]> = rows.iter().map(cells).collect();
    let mut widths = HEAD.map(str::len);
    for row in &cells {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &[String; 10]| {
        let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    println!("\n{}", line(&HEAD.map(str::to_owned)));
    println!("{}", line(&widths.map(|width| "-".repeat(width))));
    for (row, cells) in rows.iter().zip(&cells) {
        println!("{}", line(cells));
        for note in &row.notes {
            println!("    note: {note}");
        }
    }
    println!("\nCPU s: all processes of a side, servers and client, ours / peer. Of the median run:");
    for row in rows.iter().filter(|row| !row.parts.is_empty()) {
        let part = |part: &Part| format!("{} {} {:.1}", part.side, part.name, part.cpu_s);
        println!("  {}: {}", row.name, row.parts.iter().map(part).collect::<Vec<_>>().join(", "));
    }
}

fn cells(row: &Row) -> [String; 10] {
    let show = |value: f64| figure(value, &row.unit);
    let range = |low: f64, high: f64| match row.rounds {
        0 | 1 => String::new(),
        _ => format!("{}..{}", show(low), show(high)),
    };
    let sign = match row.better {
        Better::More => ">=",
        Better::Less => "<=",
    };
    let goal = match row.goal_of {
        GoalOf::Ratio => format!("{sign} {}x", row.goal),
        GoalOf::Ours => format!("{sign} {}", show(row.goal)),
    };
    let cpu = match (row.cpu_s_ours, row.cpu_s_peer) {
        (Some(ours), Some(peer)) => format!("{ours:.1} / {peer:.1}"),
        (Some(ours), None) => format!("{ours:.1}"),
        (None, _) => String::new(),
    };
    [
        row.what.clone(),
        show(row.ours),
        range(row.ours_min, row.ours_max),
        row.beside.clone(),
        row.peer.map_or_else(String::new, show),
        row.peer_min.zip(row.peer_max).map_or_else(String::new, |(low, high)| range(low, high)),
        row.ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}x")),
        format!("{goal} {}", if row.met { "met" } else { "MISSED" }),
        cpu,
        row.peak_bytes_ours.map_or_else(String::new, |bytes| figure(bytes as f64, "bytes")),
    ]
}

/// A figure with its unit, short.
fn figure(value: f64, unit: &str) -> String {
    match unit {
        "rows/s" if value >= 1e6 => format!("{:.2}M/s", value / 1e6),
        "rows/s" if value >= 1e5 => format!("{:.0}k/s", value / 1e3),
        "rows/s" => format!("{:.1}k/s", value / 1e3),
        "bytes" => format!("{:.0} MiB", value / f64::from(1 << 20)),
        "ms" => format!("{value:.1} ms"),
        other => format!("{value:.2} {other}"),
    }
}

/// Writes the rows into the file of results, in place of older ones of the same names.
pub fn write(rows: &[Row], quick: bool) -> anyhow::Result<PathBuf> {
    let dir = shell::root().join("bench").join("results");
    std::fs::create_dir_all(&dir).context("Cannot create the directory of results")?;
    let path = dir.join(if quick { "quick.json" } else { "latest.json" });
    let mut all: Vec<Row> = match std::fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_default(),
        Err(_) => Vec::new(),
    };
    for row in rows {
        match all.iter_mut().find(|old| old.name == row.name) {
            Some(old) => *old = row.clone(),
            None => all.push(row.clone()),
        }
    }
    let text = serde_json::to_string_pretty(&all)?;
    std::fs::write(&path, text + "\n").with_context(|| format!("Cannot write {}", path.display()))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(goal_of: GoalOf, better: Better, goal: f64) -> About<'static> {
        About { name: "n", what: "w", unit: "rows/s", beside: "peer", goal, goal_of, better }
    }

    fn spread(median: f64) -> Spread {
        Spread { min: median, median, max: median }
    }

    #[test]
    fn a_goal_is_of_the_ratio_or_of_our_own_figure() {
        let met = |about: &About<'_>, ours, peer: Option<f64>| {
            Row::new(about, spread(ours), peer.map(spread), 1, 1).met
        };
        let ratio = about(GoalOf::Ratio, Better::More, 1.5);
        assert!(met(&ratio, 30.0, Some(20.0)));
        assert!(!met(&ratio, 29.0, Some(20.0)));
        assert!(!met(&ratio, 29.0, None), "a missing peer is no success");
        let ours = about(GoalOf::Ours, Better::Less, 3.0);
        assert!(met(&ours, 3.0, Some(1.0)));
        assert!(!met(&ours, 3.1, None));
    }
}
