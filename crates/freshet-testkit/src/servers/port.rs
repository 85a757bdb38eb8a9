//! Reserved ports: below the range that the kernel gives to outgoing connections, locked for the server's lifetime.
//!
//! A port out of the outgoing range could be taken by any client while its server is down for a restart, even by a
//! client that retries to reach that very server and so connects to itself.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;

use rand::RngExt as _;

use super::{During as _, Result, ServerError};

const PORT_MIN: u16 = 22_000;
const PORT_MAX: u16 = 32_000;
const ATTEMPTS_MAX: usize = 200;

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
        for _ in 0..ATTEMPTS_MAX {
            let number = rand::rng().random_range(PORT_MIN..PORT_MAX);
            let lock_path = dir.join(number.to_string());
            let lock = File::create(&lock_path).during(format!("Cannot create {}", lock_path.display()))?;
            if lock.try_lock().is_ok() && TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
                return Ok(Self { number, lock_path, _lock: lock });
            }
        }
        Err(ServerError::new(format!("No free port between {PORT_MIN} and {PORT_MAX}")))
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
