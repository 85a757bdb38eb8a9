//! The binlog source against real MariaDB and MySQL servers: what is read, where it goes on, and what stops it.
//!
//! Expected rows are written by hand from the statements. Decoding of types is tested elsewhere.

#![allow(clippy::unwrap_used)]

mod conformance;
mod domains;
mod faults;
mod harness;
mod held;
mod history;
mod modes;
mod reading;
