//! Reserved ports: outside of the range that the kernel gives to outgoing connections, locked for the server's lifetime.
//!
//! A port out of the outgoing range could be taken by any client while its server is down for a restart, even by a
//! client that retries to reach that very server and so connects to itself.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::path::PathBuf;

use rand::RngExt as _;

use super::{During as _, Result, ServerError};

/// Where to look, the first that the outgoing range leaves free.
const RANGES: [Range<u16>; 3] = [22_000..32_000, 61_000..65_500, 2_000..16_000];
const ATTEMPTS_MAX: usize = 200;
const OUTGOING: &str = "/proc/sys/net/ipv4/ip_local_port_range";

/// A port that no other server of this kit takes while the value lives.
#[derive(Debug)]
pub(super) struct Port {
    number: u16,
    lock_path: PathBuf,
    _lock: File,
}

impl Port {
    pub(super) fn reserve() -> Result<Self> {
        let user = rustix::process::geteuid().as_raw();
        let dir = std::env::temp_dir().join(format!("freshet-ports-{user}"));
        std::fs::create_dir_all(&dir).during(format!("Cannot create {}", dir.display()))?;
        let range = range(&std::fs::read_to_string(OUTGOING).unwrap_or_default());
        for _ in 0..ATTEMPTS_MAX {
            let number = rand::rng().random_range(range.clone());
            let lock_path = dir.join(number.to_string());
            let lock = File::create(&lock_path).during(format!("Cannot create {}", lock_path.display()))?;
            if lock.try_lock().is_ok() && TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
                return Ok(Self { number, lock_path, _lock: lock });
            }
        }
        Err(ServerError::new(format!("No free port between {} and {}", range.start, range.end)))
    }

    pub(super) fn number(&self) -> u16 {
        self.number
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.lock_path);
    }
}

/// Where to take ports from on a system that gives those of `outgoing` (`32768 60999`) to connections.
fn range(outgoing: &str) -> Range<u16> {
    let mut bounds = outgoing.split_whitespace().filter_map(|bound| bound.parse::<u16>().ok());
    let [first, ..] = RANGES;
    let (Some(least), Some(most)) = (bounds.next(), bounds.next()) else { return first };
    RANGES.into_iter().find(|range| range.end <= least || most < range.start).unwrap_or(first)
}

#[cfg(test)]
mod tests {
    use super::range;

    #[test]
    fn ports_are_taken_where_no_connection_comes_from() {
        assert_eq!(range("32768\t60999\n"), 22_000..32_000);
        assert_eq!(range("16000 60999"), 61_000..65_500);
        assert_eq!(range("16000 65535"), 2_000..16_000);
        assert_eq!(range("1024 65535"), 22_000..32_000);
        assert_eq!(range(""), 22_000..32_000);
    }
}
