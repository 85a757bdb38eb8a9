//! A directory of a test's own, cleaned up with everything that runs or is mounted in it, even after a crash.
//!
//! Layout: `<dir>/.pids/<pid>` names each live process of the directory, `<dir>/mnt-*` are mounted small disks.
//! A watchdog shell waits on a pipe whose other end only the test process holds. When the test process is gone
//! without having dropped the directory, the watchdog kills those processes and their children, unmounts and
//! removes. It never looks outside of the directory that was made for it.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use super::{During as _, Result, ServerError, is_root, run};

const WATCHDOG: &str = r#"
cat >/dev/null
[ -d "$1/.pids" ] || exit 0
for pid in $(ls "$1/.pids"); do
    children=$(cat /proc/$pid/task/*/children 2>/dev/null)
    kill -KILL $pid $children 2>/dev/null
done
tries=0
while [ $tries -lt 300 ]; do
    tries=$((tries + 1))
    for disk in "$1"/mnt-*; do [ -d "$disk" ] && umount -l "$disk" 2>/dev/null; done
    rm -rf --one-file-system "$1" 2>/dev/null && exit 0
    sleep 0.2
done
"#;

/// A fresh directory, searchable by every user, removed on drop or when the test process dies.
#[derive(Debug)]
pub struct TestDir {
    path: PathBuf,
    watchdog: Option<Child>,
}

impl TestDir {
    /// Makes a fresh directory; `name` is only for people who look.
    ///
    /// # Panics
    /// When the directory cannot be made.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self::try_new(name).unwrap_or_else(|error| panic!("{error}"))
    }

    pub(super) fn try_new(name: &str) -> Result<Self> {
        let base = std::env::var_os("FRESHET_TEST_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        let unique = rand::random::<u32>();
        let path = base.join(format!("freshet-{name}-{}-{unique:08x}", std::process::id()));
        fs::create_dir_all(path.join(".pids")).during(format!("Cannot create {}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).during("Cannot open the directory")?;
        let watchdog = Command::new("sh")
            .args(["-c", WATCHDOG, "freshet-watchdog"])
            .arg(&path)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .during("Cannot start the watchdog of a test directory")?;
        Ok(Self { path, watchdog: Some(watchdog) })
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path inside of the directory.
    #[must_use]
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }

    pub(super) fn register(&self, pid: u32) -> Result<PidFile> {
        let path = self.path.join(".pids").join(pid.to_string());
        fs::File::create(&path).during(format!("Cannot create {}", path.display()))?;
        Ok(PidFile(path))
    }
}

impl Drop for TestDir {
    fn drop(&mut self) {
        // Unlinking can race with a process that is still on its way out, as PostgreSQL's orphans are.
        let removed = super::poll_until(std::time::Duration::from_secs(60), || {
            matches!(fs::remove_dir_all(&self.path), Ok(())) || !self.path.exists()
        });
        if !removed {
            eprintln!("Cannot remove {}", self.path.display());
        }
        if let Some(mut watchdog) = self.watchdog.take() {
            drop(watchdog.stdin.take());
            let _ = watchdog.wait();
        }
    }
}

/// The mark of a live process in its directory, taken away when the process has been waited for.
#[derive(Debug)]
pub(super) struct PidFile(PathBuf);

impl Drop for PidFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// A file system of a few megabytes in memory, to see what a full disk does. Needs root.
#[derive(Debug)]
pub struct SmallDisk {
    path: PathBuf,
    dir: Arc<TestDir>,
}

impl SmallDisk {
    /// Mounts a disk of that size in a directory of its own.
    ///
    /// # Panics
    /// When it cannot be mounted: only root may.
    #[must_use]
    pub fn new(name: &str, size_bytes: u64) -> Self {
        let mounted = TestDir::try_new("disk").and_then(|dir| Self::mount(&Arc::new(dir), name, size_bytes));
        mounted.unwrap_or_else(|error| panic!("{error}"))
    }

    pub(super) fn mount(dir: &Arc<TestDir>, name: &str, size_bytes: u64) -> Result<Self> {
        if !is_root() {
            return Err(ServerError::new("A small disk is mounted by root only; run this test as root"));
        }
        let path = dir.join(format!("mnt-{name}"));
        fs::create_dir(&path).during(format!("Cannot create {}", path.display()))?;
        let options = format!("size={size_bytes},mode=0755");
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&path))?;
        Ok(Self { path, dir: Arc::clone(dir) })
    }

    /// Where the disk is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a ballast file until nothing more fits, and returns its size.
    ///
    /// # Panics
    /// When the disk cannot be written for another reason than being full.
    pub fn fill(&self) -> u64 {
        let ballast = self.path.join("ballast");
        let open = fs::OpenOptions::new().append(true).create(true).open(&ballast);
        let mut file = open.unwrap_or_else(|error| panic!("Cannot open {}: {error}", ballast.display()));
        let mut block_bytes = 1 << 20;
        while block_bytes > 0 {
            match file.write(&vec![0_u8; block_bytes]) {
                Ok(written) if written > 0 => {}
                Err(error) if error.kind() != std::io::ErrorKind::StorageFull => {
                    panic!("Cannot fill {}: {error}", ballast.display())
                }
                Ok(_) | Err(_) => block_bytes /= 2,
            }
        }
        file.metadata().map(|meta| meta.len()).unwrap_or(0)
    }

    /// Removes the ballast of [`SmallDisk::fill`].
    pub fn release(&self) {
        let _ = fs::remove_file(self.path.join("ballast"));
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let umount = Command::new("umount").arg("-l").arg(&self.path).status();
        let unmounted = umount.is_ok_and(|status| status.success());
        if !unmounted {
            eprintln!("Cannot unmount {} in {}", self.path.display(), self.dir.path().display());
        }
        let _ = fs::remove_dir(&self.path);
    }
}
