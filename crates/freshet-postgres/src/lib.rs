//! PostgreSQL on either side: changes out of its WAL (`source`, `decode`, `wire`), existing rows out of its tables (`table`,
//! `catalog`, `values`), and the sink that loads tables by binary COPY and applies windows exactly once.
//!
//! Not the engine: what is read and applied when is decided by `freshet-pipeline`, which knows this crate only through
//! core's traits. Everything that knows PostgreSQL's types, quoting, TLS, sessions and errors stands
//! here. `docs/control-schema.md` describes the tables it keeps in the target, `docs/types.md` the types.

#![forbid(unsafe_code)]

mod catalog;
mod decode;
mod error;
#[doc(hidden)]
pub mod fuzzing;
mod lsn;
mod options;
mod quote;
mod session;
mod sink;
mod source;
mod table;
mod tls;
mod values;
mod wire;

pub use freshet_core::check::{Finding, Severity};
pub use options::{
    ClientCertificate, ConnectOptions, DatePolicy, NulPolicy, Policies, Secret, SinkOptions, TlsMode,
    UndecodablePolicy,
};
pub use sink::check::{check, grants, reset};
pub use sink::{PRIMARY_KEY_AFTER_LOAD, PostgresSink};
pub use source::check::{check as check_source, grants as source_grants};
pub use source::{WalSource, WalSourceOptions, forget};
pub use table::{PostgresTableReader, ReaderOptions};
