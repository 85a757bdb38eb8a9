//! The vocabulary of freshet: types, values, schemas, positions, the flat codec, errors and the traits.
//!
//! Everybody imports this crate and it imports nobody: no database, no serialisation framework, no IO. What
//! stands here is the contract between a source that writes rows, the log that stores them and a sink that
//! reads them. The flat encoding of [`codec`] is both the in-memory and the on-disk format, so it carries a
//! version ([`codec::FORMAT_VERSION`]) and a change to it is a change to every log that exists.

#![forbid(unsafe_code)]

pub mod check;
pub mod codec;
pub mod connect;
pub mod error;
pub mod gtid;
pub mod position;
pub mod schema;
pub mod sink;
pub mod source;
pub mod table;
pub mod temporal;
pub mod types;
pub mod undecodable;
pub mod value;
pub mod window;

/// The traits and records of the durable log.
pub mod log;
pub mod own_ids;

pub use codec::{Batch, BatchBuilder, EventRef, RowRef};
pub use error::{Error, ErrorKind, Result};
pub use position::{Checkpoint, LogEpoch, LogId, Mark, Offset, Position, SinkEpoch};
pub use schema::{Column, SchemaId, SchemaMap, TableName, TableSchema};
pub use types::DataType;
pub use value::ValueRef;
