//! PostgreSQL as a source of existing rows: catalogue, views, chunks and types against real servers.
//!
//! Expected values are written by hand or come from psql, never from the code under test. Tests share a server and
//! have a database each; what concerns a whole server has a server of its own.

#![allow(clippy::unwrap_used)] // Also in the helpers of tests

mod both_ways;
mod catalogue;
mod changes;
mod chunks;
mod common;
mod conformance;
mod types;
mod views;
