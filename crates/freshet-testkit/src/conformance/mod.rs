//! Public conformance suites: what a trait of `freshet-core` promises, as cases that every implementation runs.
//!
//! The real implementation and its in-memory twin run the same cases. A case panics where a promise is broken, and
//! says which.

pub mod log;
pub mod sink;
pub mod source;
pub mod table;
