//! Catalogue, views and chunks against real MariaDB and MySQL servers.
//!
//! Expected values are written by hand or come from the servers' own clients, never from the code under test. Each
//! test has a database of its own; what concerns a whole server has a server of its own.

#![allow(clippy::unwrap_used)] // Also in the helpers of tests

#[path = "table/catalogue.rs"]
mod catalogue;
#[path = "table/common.rs"]
mod common;
#[path = "table/conformance.rs"]
mod conformance;
#[path = "table/keys.rs"]
mod keys;
#[path = "table/reading.rs"]
mod reading;
#[path = "table/types.rs"]
mod types;
#[path = "table/views.rs"]
mod views;
