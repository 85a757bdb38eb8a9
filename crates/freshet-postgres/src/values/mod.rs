//! PostgreSQL's forms of values turned into cells: `binary` for loaded rows, `text` for the stream.
//!
//! Invariant: both write the same bytes for the same value, whichever form it came in.

pub(crate) mod binary;
pub(crate) mod text;
