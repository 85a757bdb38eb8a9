//! The engine in a deterministic simulation: the real `run` with an in-memory source, log and sinks, in virtual time on
//! one thread, everything that happens drawn from one seed. Thousands of lives of a pipeline (`life`), in each of which
//! delays, lost connections, lost answers, crashes, rivals, purges, stalls and fail-overs meet, and in each of which the
//! promises of the protocol are looked at after every commit of every target (`target`).
//!
//! The same seed is the same life, which is asserted. `FRESHET_SEED` repeats one, `FRESHET_HISTORIES` asks for more.

mod handover;
mod history;
mod life;
mod log;
mod sink;
mod source;
mod tables;
mod target;
mod world;

use freshet_testkit::servers::seed;
use history::Flavour;
use life::{Ending, live};
use std::collections::BTreeMap;

/// Lives of each flavour, unless more are asked for.
const LIVES: u64 = 400;

/// Lives `count` lives; those that broke a promise are told, with the shortest one's trace.
fn lives(flavour: Flavour) {
    let asked = std::env::var("FRESHET_HISTORIES").ok().and_then(|text| text.parse().ok());
    let (base, count) = (seed(), asked.unwrap_or(LIVES));
    let mut endings: BTreeMap<Ending, u64> = BTreeMap::new();
    let mut failures = Vec::new();
    for seed in (0..count).map(|n| base.wrapping_add(n)) {
        match live(flavour, seed, false).ending {
            Ok(ending) => *endings.entry(ending).or_default() += 1,
            Err(what) => {
                println!("{flavour:?} seed {seed}: {what}");
                let lived = live(flavour, seed, true);
                let profile = format!("{:?}", lived.profile);
                failures
                    .push(format!("{flavour:?} seed {seed}: {what}\n{profile}\n{}", lived.trace.join("\n")));
            }
        }
    }
    println!("{flavour:?}: {count} lives, {} broke a promise, the others ended {endings:?}", failures.len());
    let shortest = failures.iter().min_by_key(|failure| failure.len());
    assert!(
        failures.is_empty(),
        "{} lives broke a promise, the shortest is {}",
        failures.len(),
        shortest.expect("one")
    );
}

#[test]
fn t10_t11_p22_lives_on_postgres() {
    lives(Flavour::Postgres);
}

#[test]
fn t10_t11_p22_lives_on_mariadb() {
    lives(Flavour::Mariadb);
}

#[test]
fn t10_t11_p22_lives_on_mysql() {
    lives(Flavour::Mysql);
}

/// What is printed for a failure is what happens again.
#[test]
fn the_same_seed_is_the_same_life() {
    let base = seed();
    for seed in (0..25).map(|n| base.wrapping_add(n)) {
        for flavour in [Flavour::Postgres, Flavour::Mariadb, Flavour::Mysql] {
            let (one, other) = (live(flavour, seed, true), live(flavour, seed, true));
            let differs = one.trace.iter().zip(&other.trace).position(|(a, b)| a != b);
            let at = differs.unwrap_or(one.trace.len().min(other.trace.len()));
            assert!(
                differs.is_none() && one.trace.len() == other.trace.len(),
                "{flavour:?} seed {seed} is not repeated from line {at} on: {:?} and {:?}",
                one.trace.get(at),
                other.trace.get(at)
            );
        }
    }
}
