//! The MySQL and MariaDB sink on real servers: its contract, its types, and what it does when connections end.
//!
//! One server of each flavour is shared by all tests; what they expect is read by the server's own client.

#![allow(clippy::unwrap_used)]

mod common;
mod conformance;
mod cutter;
mod definitions;
mod exactly_once;
mod faults;
mod fidelity;
mod postgres_types;
mod rows;
mod types;
