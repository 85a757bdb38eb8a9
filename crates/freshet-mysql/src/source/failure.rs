//! What an error of the dump means. Error 1236 has many causes and only its words tell them apart; they are the
//! same on both servers for more than ten years, and a text not known here stops the pipeline with those words.

use freshet_core::error::{Error, Result};

use super::history::{HINT_UNNAMED, switched_off};
use super::replica::Replica;
use crate::wire::{ServerError, WireError};

/// `ER_MASTER_FATAL_ERROR_READING_BINLOG`.
const DUMP_FAILED: u16 = 1236;

/// MariaDB's `ER_SLAVE_SAME_ID`; MySQL says it with 1236.
const SAME_ID: u16 = 4052;

/// The boundary error of whatever ended a dump.
pub(crate) fn dump_error(error: WireError, replica: &mut Replica) -> Error {
    match &error {
        WireError::Server(server) if server.code == SAME_ID => replica.taken(&server.message),
        WireError::Server(server) if server.code == DUMP_FAILED => dump_failed(server, replica, &error),
        _ => Error::from(error).context("Reading the binlog"),
    }
}

fn dump_failed(server: &ServerError, replica: &mut Replica, error: &WireError) -> Error {
    /// A start inside an event: the file was written anew since.
    const NO_EVENT_AT_START: &str = "bogus data in log event";
    if server.message.contains("same server_uuid/server_id") {
        return replica.taken(&server.message);
    }
    if let Some(error) = mode_changed(&server.message) {
        return error;
    }
    if server.is_history_gone() || server.message.contains(NO_EVENT_AT_START) {
        return Error::resync(format!("The source cannot go on after what was read: {}", server.message)).with_hint(
            "Its binlog was purged, or its history is another one (a fail-over, a restored backup, RESET): load again",
        );
    }
    Error::corrupt(format!("Reading the binlog: {error}"))
}

/// MySQL stops a dump at a transaction that its `gtid_mode` of this moment, or a dump by set, does not allow.
fn mode_changed(message: &str) -> Option<Error> {
    const AFTER_A_SET: [&str; 2] =
        ["anonymous transaction when AUTO_POSITION", "cannot start in AUTO_POSITION mode"];
    /// What the server says, and the mode in which it sends both kinds of transactions.
    const NOT_SENT: [(&str, &str); 2] = [
        ("anonymous transaction when @@GLOBAL.GTID_MODE = ON", "ON_PERMISSIVE"),
        ("GTID-transaction when @@GLOBAL.GTID_MODE = OFF", "OFF_PERMISSIVE"),
    ];
    if AFTER_A_SET.iter().any(|words| message.contains(words)) {
        return Some(switched_off(message, HINT_UNNAMED));
    }
    let (_, mode) = NOT_SENT.iter().find(|(words, _)| message.contains(words))?;
    Some(
        Error::invalid(format!("The source's gtid_mode was changed before everything was read: {message}"))
            .with_hint(format!(
                "SET GLOBAL gtid_mode = {mode} on the source until freshet has read what was written before"
            )),
    )
}

/// The server ended the dump without an error, as it does when it shuts down.
pub(crate) fn ended<T>() -> Result<T> {
    Err(Error::unavailable("The server ended the binlog dump"))
}
