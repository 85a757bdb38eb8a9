//! What a timed part cost: seconds, CPU seconds of every process tree, peak memory.
//!
//! CPU of servers is the difference of two looks at /proc. CPU of a client that runs to its end is what the kernel
//! adds to our own account of ended children, so nothing of its last moments is missed; its peak memory is the
//! kernel's high-water mark, sampled until it ends.

use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use freshet_testkit::servers::{MyServer, Postgres, Usage};

const SAMPLE_INTERVAL: Duration = Duration::from_millis(20);
const TICKS_PER_S: f64 = 100.0;

/// A server that takes part.
#[derive(Clone, Copy)]
pub enum Server<'a> {
    My(&'a MyServer),
    Pg(&'a Postgres),
}

impl Server<'_> {
    fn usage(self) -> Usage {
        match self {
            Server::My(server) => server.usage(),
            Server::Pg(server) => server.usage(),
        }
    }
}

/// The cost of one timed part.
#[derive(Clone, Debug, Default)]
pub struct Run {
    pub seconds: f64,
    /// Each process by its part: `source`, `target`, `freshet` or the peer's program.
    pub parts: Vec<(&'static str, Usage)>,
}

impl Run {
    /// CPU seconds of all.
    pub fn cpu_s(&self) -> f64 {
        self.parts.iter().map(|(_, usage)| usage.cpu_s).sum()
    }

    /// What one part used.
    pub fn part(&self, name: &str) -> Usage {
        self.parts.iter().find(|(part, _)| *part == name).map(|(_, usage)| *usage).unwrap_or_default()
    }
}

/// A clock that runs, with what the servers had used when it started.
pub struct Meter<'a> {
    servers: Vec<(&'static str, Server<'a>, Usage)>,
    began: Instant,
    began_epoch_s: f64,
}

impl<'a> Meter<'a> {
    /// Starts.
    pub fn start(servers: &[(&'static str, Server<'a>)]) -> Self {
        let servers = servers.iter().map(|&(name, server)| (name, server, server.usage())).collect();
        Self { servers, began: Instant::now(), began_epoch_s: epoch_s() }
    }

    /// Stops now.
    pub fn stop(&self) -> Run {
        self.stopped_after(self.began.elapsed().as_secs_f64())
    }

    /// Stops, where a server's clock (the same machine's) has told the end, in seconds since 1970.
    pub fn stop_at(&self, epoch_s: f64) -> Run {
        self.stopped_after(epoch_s - self.began_epoch_s)
    }

    fn stopped_after(&self, seconds: f64) -> Run {
        let used = |(name, server, before): &(&'static str, Server<'_>, Usage)| {
            let after = server.usage();
            (*name, Usage { cpu_s: after.cpu_s - before.cpu_s, peak_bytes: after.peak_bytes })
        };
        Run { seconds, parts: self.servers.iter().map(used).collect() }
    }
}

/// Seconds since 1970.
pub fn epoch_s() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// A program with its arguments that dies with us, whatever happens to us.
pub fn tied(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(program);
    command
}

/// Runs a client to its end, which must be a success.
pub fn run_to_end(name: &str, command: &mut Command) -> anyhow::Result<(Usage, Output)> {
    let before = children_cpu_s();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().with_context(|| format!("Cannot run {name}"))?;
    let pid = child.id();
    let (ended, end) = mpsc::channel::<()>();
    let sampler = std::thread::spawn(move || {
        let mut peak_bytes = 0;
        while let Err(mpsc::RecvTimeoutError::Timeout) = end.recv_timeout(SAMPLE_INTERVAL) {
            peak_bytes = peak_bytes.max(tree_peak_bytes(pid));
        }
        peak_bytes
    });
    let output = child.wait_with_output();
    drop(ended);
    let peak_bytes = sampler.join().unwrap_or(0);
    let output = output.with_context(|| format!("Cannot wait for {name}"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let tail: Vec<&str> = text.lines().rev().take(15).collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        bail!("{name} failed ({}):\n{}", output.status, tail.join("\n"));
    }
    Ok((Usage { cpu_s: children_cpu_s() - before, peak_bytes }, output))
}

/// CPU seconds of our own children that have ended and been waited for (proc(5), cutime and cstime).
fn children_cpu_s() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = text.rfind(')').map_or("", |at| &text[at + 1..]);
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(13) + ticks(14)) / TICKS_PER_S
}

/// High-water marks of a process and its children.
fn tree_peak_bytes(pid: u32) -> u64 {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let children = children.split_whitespace().filter_map(|child| child.parse().ok());
    std::iter::once(pid).chain(children).map(peak_bytes).sum()
}

fn peak_bytes(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// The median time in milliseconds that the disk under `dir` takes to make 4 KiB durable.
pub fn fsync_ms(dir: &std::path::Path) -> anyhow::Result<f64> {
    use std::io::Write as _;
    let path = dir.join("fsync");
    let mut file = std::fs::File::create(&path).context("Cannot create a file to sync")?;
    let mut times_ms = Vec::new();
    for _ in 0..100 {
        let began = Instant::now();
        file.write_all(&[0; 4096])?;
        file.sync_data()?;
        times_ms.push(began.elapsed().as_secs_f64() * 1e3);
    }
    std::fs::remove_file(&path)?;
    Ok(median(&mut times_ms))
}

/// The median; 0 of nothing.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        n if n.is_multiple_of(2) => (values[n / 2 - 1] + values[n / 2]) / 2.0,
        n => values[n / 2],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_few() {
        assert_eq!(median(&mut []), 0.0);
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&mut [4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn a_client_is_measured() {
        let script = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
        let (usage, _) = run_to_end("sh", tied("sh").args(["-c", script])).expect("sh runs");
        assert!(usage.cpu_s > 0.0 && usage.peak_bytes > 0, "{usage:?}");
        assert!(run_to_end("false", &mut tied("false")).is_err());
    }
}
