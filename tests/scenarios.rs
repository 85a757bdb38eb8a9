//! Scenarios over real servers: the `freshet` binary between two of MariaDB, MySQL and PostgreSQL.
//!
//! Everything here is a black box: what goes in is SQL through the source's own client and a YAML file, what comes
//! out is read through psql and from the process's exit code, output and status. Expected values are written by hand
//! or read from the source's own client, never computed by freshet's code, which no module here imports.

#![allow(clippy::unwrap_used)] // Also in the helpers of tests

#[path = "scenarios/control.rs"]
mod control;
#[path = "scenarios/definitions.rs"]
mod definitions;
#[path = "scenarios/differential/mod.rs"]
mod differential;
#[path = "scenarios/ends.rs"]
mod ends;
#[path = "scenarios/examples.rs"]
mod examples;
#[path = "scenarios/faults_log.rs"]
mod faults_log;
#[path = "scenarios/faults_source.rs"]
mod faults_source;
#[path = "scenarios/faults_target.rs"]
mod faults_target;
#[path = "scenarios/from_postgres.rs"]
mod from_postgres;
#[path = "scenarios/kill.rs"]
mod kill;
#[path = "scenarios/kill_watch.rs"]
mod kill_watch;
#[path = "scenarios/kill_writers.rs"]
mod kill_writers;
#[path = "scenarios/kit.rs"]
mod kit;
#[path = "scenarios/partitions.rs"]
mod partitions;
#[path = "scenarios/pipeline.rs"]
mod pipeline;
#[path = "scenarios/stalled.rs"]
mod stalled;
#[path = "scenarios/tables.rs"]
mod tables;
#[path = "scenarios/types/mod.rs"]
mod types;
#[path = "scenarios/values.rs"]
mod values;
