//! The decoder against real servers: every type both ways, transactions, statements, and what must stop it.
//!
//! Event bytes without a server are tested beside the code and in `decode_events.rs`.

#![allow(clippy::unwrap_used)] // Also in the helpers of tests

#[path = "decode/cases.rs"]
mod cases;
#[path = "decode/charsets.rs"]
mod charsets;
#[path = "decode/common.rs"]
mod common;
#[path = "decode/flow.rs"]
mod flow;
#[path = "decode/types.rs"]
mod types;
