//! A short run of a fuzz target over its committed corpus with random mutations, on any toolchain.
//!
//! Not the fuzzing itself: see `fuzz/README.md`. `FRESHET_SEED` repeats a run, `FRESHET_FUZZ_SECONDS` makes it longer.

#![allow(clippy::unwrap_used)] // A tool of tests

use crate::servers::seed;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

fn corpus(dir: &Path) -> Vec<Vec<u8>> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|file| std::fs::read(file).unwrap()).collect()
}

fn mutate(bytes: &mut Vec<u8>, rng: &mut StdRng) {
    const ODD: [u8; 8] = [0, 1, 0x7F, 0x80, 0xFB, 0xFC, 0xFE, 0xFF];
    for _ in 0..rng.random_range(1..6) {
        if bytes.is_empty() {
            return;
        }
        let at = rng.random_range(0..bytes.len());
        match rng.random_range(0..7) {
            0 => bytes[at] ^= 1 << rng.random_range(0..8),
            1 => bytes[at] = ODD[rng.random_range(0..ODD.len())],
            2 => bytes[at] = rng.random(),
            3 => bytes.truncate(at),
            4 => bytes.insert(at, rng.random()),
            5 => {
                let end = rng.random_range(at..bytes.len().min(at + 16) + 1).min(bytes.len());
                bytes.drain(at..end);
            }
            _ => {
                let end = bytes.len().min(at + rng.random_range(1..64));
                let piece = bytes[at..end].to_vec();
                let to = rng.random_range(0..bytes.len());
                bytes.splice(to..to, piece);
            }
        }
    }
}

/// Runs a target over the files of `corpus` and mutations of them, for three seconds.
///
/// # Panics
/// Where the target panics or takes long; the message has the bytes.
pub fn run(corpus_dir: &Path, target: fn(&[u8])) {
    let name = corpus_dir.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let seeds = corpus(corpus_dir);
    assert!(!seeds.is_empty());
    seeds.iter().for_each(|bytes| target(bytes));
    let seconds = std::env::var("FRESHET_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(3);
    let (mut rng, end) = (StdRng::seed_from_u64(seed()), Instant::now() + Duration::from_secs(seconds));
    let mut inputs = 0u64;
    while Instant::now() < end {
        let mut bytes = seeds[rng.random_range(0..seeds.len())].clone();
        mutate(&mut bytes, &mut rng);
        let begun = Instant::now();
        if catch_unwind(AssertUnwindSafe(|| target(&bytes))).is_err() {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            panic!("{name} fails on {hex}");
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{name} takes long on {} bytes", bytes.len());
        inputs += 1;
    }
    println!("{name}: {inputs} inputs");
}
