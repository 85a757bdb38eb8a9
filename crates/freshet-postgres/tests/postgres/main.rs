//! The PostgreSQL sink against a real server: conformance, exactly once, faults, types.

#![allow(clippy::unwrap_used)] // Also in the helpers of tests

mod common;
mod conformance;
mod exactly_once;
mod faults;
mod takeover;
mod types;
