//! Bytes of PostgreSQL's logical replication into events of a batch. No IO.
//!
//! `message` tells the messages of pgoutput apart (manual, "Logical Replication Message Formats"), `decoder` turns those
//! of protocol version 1 into transactions. What a relation's columns are is not all said by the stream: the decoder
//! asks for it ([`Step::Relation`]) and goes on with the answer.

mod decoder;
mod message;

pub(crate) use decoder::{Captured, Decoder, Part, Step};
pub(crate) use message::{Relation, RelationColumn};
