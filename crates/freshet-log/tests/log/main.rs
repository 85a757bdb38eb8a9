//! Tests of the embedded log on real files: contract, recovery, bounds, crashes.

mod common;
mod conformance;
mod crash;
mod limits;
mod recovery;
