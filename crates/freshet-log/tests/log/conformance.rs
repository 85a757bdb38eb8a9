//! The embedded log keeps the contract that its in-memory twin keeps, with large segments and with tiny ones.

use freshet_log::{DirectoryStore, Options};
use freshet_testkit::conformance::log::log_conforms;
use freshet_testkit::servers::TestDir;
use std::cell::Cell;

/// Runs the suite, every store in a directory of its own.
async fn check(options: Options) {
    let (dir, number) = (TestDir::new("log-conformance"), Cell::new(0));
    log_conforms(|| {
        number.set(number.get() + 1);
        DirectoryStore::new(dir.path().join(number.get().to_string()), options.clone())
    })
    .await;
}

#[tokio::test]
async fn the_log_conforms() {
    check(Options::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_conforms_with_a_segment_for_every_record() {
    check(Options { segment_bytes_max: 1, log_retain_ms_min: 0, ..Options::default() }).await;
}

#[tokio::test]
async fn the_log_conforms_with_small_records_and_a_small_queue() {
    check(Options {
        record_bytes_max: 1000,
        segment_bytes_max: 100_000,
        append_queue_bytes_max: 10_000,
        log_retain_ms_min: 0,
        ..Options::default()
    })
    .await;
}
