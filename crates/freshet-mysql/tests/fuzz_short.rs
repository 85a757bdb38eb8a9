//! A short run of the fuzz targets that read bytes of MySQL, MariaDB and the log.

#[path = "../../../fuzz/targets.rs"]
mod targets;

use freshet_testkit::fuzzing;
use std::path::PathBuf;

fn run(name: &str, target: fn(&[u8])) {
    fuzzing::run(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(name), target);
}

#[test]
fn events() {
    run("events", targets::events);
}

#[test]
fn json() {
    run("json", targets::json);
}

#[test]
fn cells() {
    run("cells", targets::cells);
}

#[test]
fn batch() {
    run("batch", targets::batch);
}
