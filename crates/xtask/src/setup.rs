//! `cargo xtask setup`: what tests, demo and bench need from the system, installed by apt-get where we may.
//!
//! Not a package manager: without apt-get or root it prints exactly what to install and fails. System services are
//! never started: the servers are throwaways of `freshet-testkit`. Nothing is fetched but Debian packages.

use std::path::Path;
use std::process::Command;

use anyhow::{bail, ensure};
use clap::ValueEnum;
use freshet_testkit::servers::{self, MySqlRoot};

use crate::shell;

/// What the set-up is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Purpose {
    /// MariaDB and PostgreSQL
    Demo,
    /// The demo's, openssl and an unpacked MySQL
    Test,
    /// The tests', and the programs that freshet is measured beside
    Bench,
}

/// A need: how to see that it is met, and the Debian package that meets it.
struct Need {
    package: &'static str,
    purposes: &'static [Purpose],
    is_met: fn() -> bool,
}

const EVERY: &[Purpose] = &[Purpose::Demo, Purpose::Test, Purpose::Bench];
const TEST: &[Purpose] = &[Purpose::Test, Purpose::Bench];
const BENCH: &[Purpose] = &[Purpose::Bench];

const NEEDS: &[Need] = &[
    Need {
        package: "mariadb-server",
        purposes: EVERY,
        is_met: || has("mariadbd") && has("mariadb-install-db"),
    },
    Need { package: "mariadb-client", purposes: EVERY, is_met: || has("mariadb") && has("mariadb-binlog") },
    Need { package: "postgresql", purposes: EVERY, is_met: || servers::postgres_bin_dir().is_ok() },
    Need { package: "postgresql-client", purposes: EVERY, is_met: || has("psql") },
    Need { package: "npm", purposes: TEST, is_met: || has("npm") || servers::postgres_roots_are_complete() },
    Need { package: "util-linux", purposes: EVERY, is_met: || has("setpriv") },
    Need { package: "openssl", purposes: TEST, is_met: || has("openssl") },
    Need { package: "debian-archive-keyring", purposes: TEST, is_met: has_keyring },
    Need { package: "mydumper", purposes: BENCH, is_met: || has("mydumper") && has("myloader") },
    Need { package: "pgloader", purposes: BENCH, is_met: || has("pgloader") },
];

/// Services of newly installed packages stay off while this stands; an administrator's own policy is left alone.
const INSTALL: &str = r#"
set -eu
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    trap 'rm -f $policy' EXIT
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod +x $policy
fi
export DEBIAN_FRONTEND=noninteractive
said=$(apt-get update -qq 2>&1 && apt-get install -y -qq --no-install-recommends "$@" 2>&1) || {
    echo "$said" >&2
    exit 1
}
"#;

/// Makes sure that everything for `purpose` is there.
pub fn run(purpose: Purpose) -> anyhow::Result<()> {
    let missing = missing(purpose);
    if !missing.is_empty() {
        install(&missing)?;
    }
    if purpose != Purpose::Demo {
        let mysql = MySqlRoot::ensure()?;
        println!("MySQL {}", mysql.version());
    }
    println!("Set up for {purpose:?}");
    Ok(())
}

fn missing(purpose: Purpose) -> Vec<&'static str> {
    let unmet = NEEDS.iter().filter(|need| need.purposes.contains(&purpose) && !(need.is_met)());
    unmet.map(|need| need.package).collect()
}

fn install(packages: &[&str]) -> anyhow::Result<()> {
    let list = packages.join(" ");
    if !has("apt-get") {
        bail!("Missing: {list} (Debian's names); install them with your system's package manager");
    }
    let mut command = if servers::is_root() {
        Command::new("sh")
    } else if shell::succeeds(Command::new("sudo").args(["-n", "true"])) {
        let mut command = Command::new("sudo");
        command.args(["-n", "sh"]);
        command
    } else {
        bail!("Missing packages; run: sudo apt-get install --no-install-recommends {list}");
    };
    println!("Installing {list}");
    let status = command.args(["-c", INSTALL, "setup"]).args(packages).status()?;
    ensure!(status.success(), "apt-get could not install {list} ({status})");
    let still: Vec<_> =
        NEEDS.iter().filter(|need| packages.contains(&need.package) && !(need.is_met)()).collect();
    let names: Vec<_> = still.iter().map(|need| need.package).collect();
    ensure!(names.is_empty(), "Installed, but not usable: {}", names.join(" "));
    Ok(())
}

/// Whether a program is on the path or where Debian keeps servers.
fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain([Path::new("/usr/sbin").to_path_buf()]);
    dirs.into_iter().any(|dir| dir.join(program).is_file())
}

/// The keyring is needed only while MySQL has still to be unpacked.
fn has_keyring() -> bool {
    servers::mysql_root_is_complete() || Path::new("/usr/share/keyrings/debian-archive-keyring.gpg").exists()
}
