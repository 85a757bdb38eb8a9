//! Process trees as /proc shows them: descendants, whether they live, CPU time and peak memory. Signals to all of them.

use std::collections::HashMap;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

/// What a process tree has used so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Seconds of CPU, user and system, of the live processes and of their children that have ended.
    pub cpu_s: f64,
    /// Peak resident memory, summed over the live processes. Memory they share counts once for each.
    pub peak_bytes: u64,
}

/// The process and all its descendants, the root first.
pub(super) fn tree(root: u32) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for pid in all_pids() {
        if let Some(stat) = Stat::read(pid) {
            children.entry(stat.parent).or_default().push(pid);
        }
    }
    let mut found = vec![root];
    let mut next = 0;
    while next < found.len() {
        if let Some(more) = children.remove(&found[next]) {
            found.extend(more);
        }
        next += 1;
    }
    found
}

/// Whether the process exists and has not ended (a zombie has).
pub(super) fn is_alive(pid: u32) -> bool {
    Stat::read(pid).is_some_and(|stat| !matches!(stat.state, 'Z' | 'X'))
}

/// Whether no thread of the process runs any more: all are stopped, or it has ended.
pub(super) fn is_still(pid: u32) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return true };
    threads.flatten().all(|thread| {
        Stat::read_file(&thread.path().join("stat")).is_none_or(|stat| "TtZX".contains(stat.state))
    })
}

/// Sends a signal; a process that is gone is no error.
pub(super) fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

pub(super) fn usage(root: u32) -> Usage {
    let ticks_per_s = rustix::param::clock_ticks_per_second();
    let mut total = Usage::default();
    for pid in tree(root) {
        if let Some(stat) = Stat::read(pid) {
            total.cpu_s += stat.cpu_ticks as f64 / ticks_per_s as f64;
            total.peak_bytes += peak_bytes(pid);
        }
    }
    total
}

struct Stat {
    state: char,
    parent: u32,
    cpu_ticks: u64,
}

impl Stat {
    /// The fields after the command name, which may itself hold spaces and parentheses (proc(5)).
    fn read(pid: u32) -> Option<Self> {
        Self::read_file(Path::new(&format!("/proc/{pid}/stat")))
    }

    fn read_file(path: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(path).ok()?;
        let fields: Vec<&str> = text[text.rfind(')')? + 1..].split_whitespace().collect();
        let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
        Some(Self {
            state: fields.first()?.chars().next()?,
            parent: fields.get(1)?.parse().ok()?,
            cpu_ticks: (11..=14).map(ticks).sum(),
        })
    }
}

fn all_pids() -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir(Path::new("/proc")) else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn peak_bytes(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0);
    kib * 1024
}
