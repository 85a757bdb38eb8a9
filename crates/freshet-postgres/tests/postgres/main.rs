//! The PostgreSQL sink against a real server: conformance, exactly once, faults, types.

#![allow(clippy::unwrap_used)] // Also in the helpers of tests

mod absent;
mod common;
mod conformance;
mod definitions;
mod exactly_once;
mod faults;
mod postgres_source;
mod postgres_types;
mod takeover;
mod types;
