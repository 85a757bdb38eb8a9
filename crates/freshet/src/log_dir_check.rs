//! Checks the place of the log: that it can be written, and has the room that it was promised.

use crate::config::units::show_bytes;
use crate::config::{LogConfig, io_reason};
use crate::findings::{Finding, Severity};
use std::io;
use std::path::Path;

/// What is found about a log's directory. Nothing is left behind: one that is not there is not made.
pub fn check(log: &LogConfig) -> Vec<Finding> {
    let Some(there) = log.dir.ancestors().find(|dir| dir.exists()) else {
        return vec![error("log-dir", log, "It and every directory above it are not there".to_owned())];
    };
    if let Err(e) = try_write(there) {
        let message = format!("Directory {} cannot be written: {}", there.display(), io_reason(&e));
        return vec![error("log-dir", log, message)];
    }
    space(log, there).into_iter().collect()
}

fn try_write(dir: &Path) -> io::Result<()> {
    let probe = dir.join(format!(".freshet-check-{}", std::process::id()));
    std::fs::write(&probe, b"freshet")?;
    std::fs::remove_file(&probe)
}

/// Whether the log could grow to its bound.
fn space(log: &LogConfig, there: &Path) -> Option<Finding> {
    let disk = rustix::fs::statvfs(there).ok()?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let used = std::fs::read_dir(&log.dir).map_or(0, |entries| {
        entries.filter_map(|entry| entry.ok()?.metadata().ok()).map(|about| about.len()).sum()
    });
    let message = format!(
        "The disk has {} free and the log may take {} more",
        show_bytes(free),
        show_bytes(log.bytes_max.saturating_sub(used))
    );
    (free.saturating_add(used) < log.bytes_max).then(|| Finding {
        severity: Severity::Warning,
        place: "log".to_owned(),
        code: "log-space",
        subject: "log.bytes_max".to_owned(),
        message,
        remedy: Some("Put log.dir on a larger disk, or make log.bytes_max smaller".to_owned()),
    })
}

fn error(code: &'static str, log: &LogConfig, message: String) -> Finding {
    Finding {
        severity: Severity::Error,
        place: "log".to_owned(),
        code,
        subject: log.dir.display().to_string(),
        message,
        remedy: Some("Check log.dir, its owner and its file system".to_owned()),
    }
}
