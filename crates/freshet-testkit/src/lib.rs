//! What tests and tools of the workspace stand on: throwaway servers, waiting, seeds and the `freshet` binary under test.
//!
//! A dev-dependency only (`xtask`, itself a tool, is the one exception): nothing of it is in the program.
//! It decides nothing about what is right; the tests do.

pub mod conformance;
pub mod fuzzing;
pub mod memory;
pub mod servers;
