//! The catalogue of a PostgreSQL source: tables, columns, keys and types out of `pg_catalog`.
//!
//! Not the sink's catalogue, which looks at target tables. Nothing is read out of DDL. The SQL here runs in the
//! caller's transaction and sees its snapshot; what functions print (`format_type`, `pg_get_expr`) is of now.
//!
//! Invariant: a table's schema here has the same identity as the one that the stream makes of the same definition:
//! both take types from `types`, keys from `keys`, leave generated columns out, and say "nullable" of every column
//! that is not part of the key.

pub(crate) mod constraints;
pub(crate) mod indexes;
pub(crate) mod keys;
pub(crate) mod notes;
pub(crate) mod sequences;
pub(crate) mod tables;
pub(crate) mod types;
pub(crate) mod user_types;
