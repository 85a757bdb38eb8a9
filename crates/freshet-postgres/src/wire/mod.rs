//! PostgreSQL's own protocol as far as replication needs it: connecting, simple queries, and CopyBoth.
//!
//! Not a client for SQL with parameters: that is tokio-postgres, which has no replication mode. Messages are framed and
//! written by `postgres-protocol`; what they mean is told in the manual, "Frontend/Backend Protocol" and "Streaming
//! Replication Protocol". Nothing announced by the server is allocated before it is there, and a message has a bound.

mod channel;
mod connection;
mod paced;
mod startup;
mod stream;

pub(crate) use connection::{Connection, Rows};
pub(crate) use stream::{Replicated, ReplicationReader, ReplicationWriter};
