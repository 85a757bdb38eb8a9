//! A short run of the fuzz target that reads bytes of a PostgreSQL.

use freshet_testkit::fuzzing;
use std::path::PathBuf;

#[test]
fn pgoutput() {
    let corpus = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/pgoutput");
    fuzzing::run(&corpus, freshet_postgres::fuzzing::pgoutput);
}
