//! The engine: ingest, full load, apply, supervision. It sees traits and knows no database.
//!
//! [`run()`] brings a pipeline from whatever state its log and targets are in to streaming, and keeps it there. It
//! owns no durable state of its own: where to go on is asked of the log (source side) and of the targets (sink
//! side), and the two are tied by [`identity`]. One task reads the source ([`ingest`]), one task for each sink
//! loads ([`load`]) and applies ([`apply`]); each retries what is `Unavailable` by itself with back-off, and any
//! other error stops the pipeline.

pub mod apply;
pub mod bounds;
pub mod holdings;
pub mod identity;
pub mod ingest;
pub mod load;
pub mod net;
pub mod retry;
pub mod run;
pub mod status;

pub use run::{Mode, Parts, Settings, SinkPart, run};
pub use status::{Phase, SinkStatus, Snapshot, Status, TableStatus};
