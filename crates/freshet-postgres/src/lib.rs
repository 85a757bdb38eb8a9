//! PostgreSQL: the sink that loads tables by binary COPY and applies windows exactly once.
//!
//! Not the engine: what is applied when is decided by `freshet-pipeline`, which knows this crate only through
//! [`freshet_core::sink::Sink`]. Everything that knows PostgreSQL's types, quoting, TLS, sessions and errors stands
//! here. `docs/control-schema.md` describes the tables it keeps in the target, `docs/types.md` the types.

#![forbid(unsafe_code)]

mod error;
mod options;
mod quote;
mod session;
mod sink;
mod tls;

pub use freshet_core::check::{Finding, Severity};
pub use options::{
    ConnectOptions, DatePolicy, NulPolicy, Policies, Secret, SinkOptions, TlsMode, UndecodablePolicy,
};
pub use sink::check::{check, grants, reset};
pub use sink::{PRIMARY_KEY_AFTER_LOAD, PostgresSink};
