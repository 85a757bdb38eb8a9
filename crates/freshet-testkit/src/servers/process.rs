//! One child process with its tree: started with its output in a file, signalled, measured, waited for with a deadline.
//!
//! Killed when dropped. Registered in a [`TestDir`], whose watchdog kills it when the test process dies.

use std::fs::OpenOptions;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::Signal;

use super::dir::PidFile;
use super::proctree::{self, Usage};
use super::{During as _, Result, TestDir, poll_until};

/// A process that waits for a slow disk goes only when the disk has answered.
const SIGNAL_DEADLINE: Duration = Duration::from_secs(300);

/// A running or ended child process.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    child: Child,
    pid_file: Option<PidFile>,
}

impl Process {
    /// Starts the command in a process group of its own, both outputs appended to files.
    pub(super) fn spawn(
        dir: &TestDir,
        command: &mut Command,
        stdin: Stdio,
        stdout: &Path,
        stderr: &Path,
    ) -> Result<Self> {
        let append = |path: &Path| {
            let file = OpenOptions::new().create(true).append(true).open(path);
            file.during(format!("Cannot open {}", path.display()))
        };
        let name = command.get_program().to_string_lossy().into_owned();
        command.stdin(stdin).stdout(append(stdout)?).stderr(append(stderr)?).process_group(0);
        let child = command.spawn().during(format!("Cannot start {name}"))?;
        let pid = child.id();
        let mut state = State { child, pid_file: None };
        match dir.register(pid) {
            Ok(pid_file) => state.pid_file = Some(pid_file),
            Err(error) => {
                let _ = state.child.kill();
                return Err(error);
            }
        }
        Ok(Self { pid, state: Mutex::new(state) })
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// How it ended, or nothing while it runs.
    #[must_use]
    pub fn exit_status(&self) -> Option<ExitStatus> {
        let mut state = self.state();
        let status = state.child.try_wait().ok().flatten();
        if status.is_some() {
            state.pid_file = None;
        }
        status
    }

    /// Whether it has not ended yet.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.exit_status().is_none()
    }

    /// Waits for the end; nothing when the deadline passes first.
    #[must_use]
    pub fn wait(&self, deadline: Duration) -> Option<ExitStatus> {
        poll_until(deadline, || !self.is_running());
        self.exit_status()
    }

    /// SIGKILL to the whole tree, and waits until all of it is gone.
    ///
    /// # Panics
    /// When a process does not go away.
    pub fn kill9(&self) {
        if !self.is_running() {
            return;
        }
        // So that it cannot fork between the look and the blow.
        self.stop_one(self.pid);
        let pids = proctree::tree(self.pid);
        for &pid in &pids {
            proctree::signal(pid, Signal::KILL);
        }
        let gone = poll_until(SIGNAL_DEADLINE, || {
            !self.is_running() && !pids.iter().any(|&pid| proctree::is_alive(pid))
        });
        assert!(gone, "Process {} or a child of it survived SIGKILL", self.pid);
    }

    /// SIGTERM to the process itself.
    pub fn terminate(&self) {
        self.signal_if_running(Signal::TERM);
    }

    /// SIGINT to the process itself.
    pub fn interrupt(&self) {
        self.signal_if_running(Signal::INT);
    }

    /// SIGSTOP to the whole tree, and waits until all of it has stopped: it keeps its connections and answers nothing.
    ///
    /// # Panics
    /// When a process goes on.
    pub fn pause(&self) {
        if !self.is_running() {
            return;
        }
        self.stop_one(self.pid);
        for pid in proctree::tree(self.pid) {
            self.stop_one(pid);
        }
    }

    /// SIGSTOP to one process of the tree. The signal is only sent when the call returns; on a machine that is busy the
    /// process goes on for a while.
    fn stop_one(&self, pid: u32) {
        if pid == self.pid {
            self.signal_if_running(Signal::STOP);
        } else {
            proctree::signal(pid, Signal::STOP);
        }
        let stopped = poll_until(SIGNAL_DEADLINE, || !self.is_running() || proctree::is_still(pid));
        assert!(stopped, "Process {pid} goes on after SIGSTOP");
    }

    /// SIGCONT to the whole tree.
    pub fn resume(&self) {
        for pid in proctree::tree(self.pid).into_iter().rev() {
            proctree::signal(pid, Signal::CONT);
        }
    }

    /// CPU seconds and peak memory of the tree so far; zero once it has ended.
    #[must_use]
    pub fn usage(&self) -> Usage {
        proctree::usage(self.pid)
    }

    fn signal_if_running(&self, signal: Signal) {
        let mut state = self.state();
        // Under the lock: a process that has not been waited for keeps its pid.
        if matches!(state.child.try_wait(), Ok(None)) {
            proctree::signal(self.pid, signal);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill9();
    }
}
