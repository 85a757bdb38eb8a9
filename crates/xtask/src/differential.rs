//! `cargo xtask differential`: the differential test of the scenarios, for as long as one likes.
//!
//! The test itself is `tests/scenarios/differential`, which CI runs for a round or two in each direction. The minutes are shared
//! out evenly, and the directions run one after another: each has the machine to itself, and a failure names one.

use anyhow::{Context as _, ensure};

use crate::setup::{self, Purpose};
use crate::{shell, test};

const SERVERS: [&str; 3] = ["mariadb", "mysql", "postgres"];
const SECONDS_PER_MINUTE: u64 = 60;

/// Runs it for so many minutes, in one direction or in all of them; without a seed one is drawn and printed.
pub fn run(minutes: u64, direction: Option<&str>, seed: Option<u64>) -> anyhow::Result<()> {
    let directions = chosen(direction)?;
    setup::run(Purpose::Test)?;
    let binary = test::build_freshet()?;
    let seconds = minutes * SECONDS_PER_MINUTE / directions.len() as u64;
    let mut command = shell::cargo(&["test", "--package", "freshet-tests", "--test", "scenarios", "--"]);
    command.args(&directions).args(["--exact", "--nocapture", "--test-threads=1"]);
    command.env("FRESHET_BIN", binary).env("FRESHET_DIFFERENTIAL_SECONDS", seconds.to_string());
    if let Some(seed) = seed {
        command.env("FRESHET_SEED", seed.to_string());
    }
    shell::run(&mut command)
}

/// The names of the tests.
fn chosen(direction: Option<&str>) -> anyhow::Result<Vec<String>> {
    let name = |from: &str, to: &str| format!("differential::differential_{from}_to_{to}");
    if let Some(direction) = direction {
        let (from, to) = direction.split_once("-to-").with_context(|| unknown(direction))?;
        ensure!(SERVERS.contains(&from) && SERVERS.contains(&to), unknown(direction));
        return Ok(vec![name(from, to)]);
    }
    Ok(SERVERS.iter().flat_map(|from| SERVERS.iter().map(move |to| name(from, to))).collect())
}

fn unknown(direction: &str) -> String {
    format!("No direction is called {direction}; one is mariadb-to-postgres, of {}", SERVERS.join(", "))
}

#[cfg(test)]
mod tests {
    use super::chosen;

    #[test]
    fn directions_are_tests() {
        assert_eq!(chosen(None).unwrap().len(), 9);
        assert_eq!(
            chosen(Some("mysql-to-mariadb")).unwrap(),
            ["differential::differential_mysql_to_mariadb"]
        );
        assert!(chosen(Some("mysql")).is_err());
        assert!(chosen(Some("mysql-to-oracle")).is_err());
    }
}
