//! The seed of a randomised test: drawn once, printed, and repeatable through `FRESHET_SEED`.

use rand::RngExt as _;

/// The seed to use: `FRESHET_SEED` when set, otherwise a fresh one. Printed either way, so that a failure repeats.
///
/// # Panics
/// When `FRESHET_SEED` is not a number.
#[must_use]
pub fn seed() -> u64 {
    let seed = match std::env::var("FRESHET_SEED") {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("FRESHET_SEED is not a number: {text}")),
        Err(_) => rand::rng().random(),
    };
    println!("Seed {seed} (repeat with FRESHET_SEED={seed})");
    seed
}
