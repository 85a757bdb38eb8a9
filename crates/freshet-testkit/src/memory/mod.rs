//! In-memory twins of what the engine talks to: they keep the same contracts and can be made to fail.

pub mod database;
pub mod log;
pub mod sink;
