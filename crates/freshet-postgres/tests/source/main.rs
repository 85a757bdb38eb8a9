//! PostgreSQL as a source of changes: sessions, slots, histories and values against real servers.
//!
//! Expected changes are written by hand. Tests share a server and have a database each; what concerns a whole server
//! has a server of its own.

#![allow(clippy::unwrap_used)] // Also in the helpers of tests

mod conformance;
mod definitions;
mod harness;
mod partitions;
mod reading;
mod slots;
