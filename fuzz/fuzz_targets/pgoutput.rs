//! libFuzzer's door to `freshet_postgres::fuzzing::pgoutput`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| freshet_postgres::fuzzing::pgoutput(data));
