//! How transactions of rows begin and end: with the time that the server bears with a silent client inside of one.
//!
//! Neither server has a time-out for idle transactions that the other has too; `wait_timeout`, which both have, is
//! shortened for as long as one is open, so that the locks of a host that died are given back.

use crate::sink::options::SinkOptions;

/// COMMIT, and the patience outside of transactions.
pub(crate) const COMMIT: &str = "commit; set session wait_timeout = 31536000";
/// The same for what is abandoned.
pub(crate) const ROLLBACK: &str = "rollback; set session wait_timeout = 31536000";

/// The first of the two statements that begin a transaction, the other being [`START`].
pub(crate) fn patience(options: &SinkOptions) -> String {
    let seconds = options.idle_in_transaction_timeout_ms.div_ceil(1000).max(1);
    format!("set session wait_timeout = {seconds}")
}

/// The second.
pub(crate) const START: &str = "start transaction";

/// How long a source may need for the next rows of a chunk. A loader holds locks of its own rows only until then, and
/// whoever takes over ends it.
const LOADER_PATIENCE_S: u64 = 24 * 3600;

/// What begins a loader's transaction, in one request.
pub(crate) fn begin_chunk(is_mariadb: bool) -> String {
    let writes = match is_mariadb {
        true => format!(", idle_write_transaction_timeout = {LOADER_PATIENCE_S}"),
        false => String::new(),
    };
    format!("set session wait_timeout = {LOADER_PATIENCE_S}{writes}; {START}")
}
