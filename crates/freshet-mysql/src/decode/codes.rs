//! Every event code there is, 0 to 255, and what is done about it.
//!
//! Names and numbers: MySQL's and MariaDB's manuals, "Binlog Event Header". A code that is not listed is unknown; an
//! unknown event stops the pipeline unless the server marked it as ignorable (P17).

use super::Flavour;

/// What is done about an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    FormatDescription,
    Rotate,
    Query,
    /// LOAD DATA logged as a statement: a QUERY with more before it.
    ExecuteLoadQuery,
    Xid,
    TableMap,
    /// WRITE, UPDATE or DELETE rows, version 1 or 2.
    Rows {
        change: Change,
        version: u8,
    },
    MysqlGtid,
    MysqlTaggedGtid,
    AnonymousGtid,
    MariadbGtid,
    TransactionPayload,
    Heartbeat,
    HeartbeatV2,
    Incident,
    /// Passed over, for the reason given.
    Skip(&'static str),
    /// Stops the pipeline: its name and what to do.
    Refuse(&'static str, &'static str),
    /// Not known; stops unless ignorable.
    Unknown,
}

/// What rows of an event became.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Insert,
    Update,
    Delete,
}

const ANCIENT: &str = "Upgrade the source: no supported version writes this event";
const NO_COMPRESSION: &str =
    "SET GLOBAL log_bin_compress = OFF on the source, FLUSH BINARY LOGS, and start after that";
const NO_XA: &str = "Distributed transactions are not supported yet: end them, and start after that";
const NO_ENCRYPTION: &str =
    "The server did not decrypt its binlog for us: SET GLOBAL encrypt_binlog = OFF, restart it";
const NO_PARTIAL_JSON: &str =
    "SET GLOBAL binlog_row_value_options = '' on the source, reconnect its clients, and start after that";
const STATEMENT: &str = "precedes a statement, which decides";
const SINGLE: &str = "concerns group replication only";

/// What is done about the events of a code.
pub(super) fn kind(code: u8, flavour: Flavour) -> Kind {
    match (code, flavour) {
        (2, _) => Kind::Query,
        (3, _) => Kind::Skip("STOP: the server shut down; the next file says how"),
        (4, _) => Kind::Rotate,
        (5 | 13 | 14, _) => Kind::Skip(STATEMENT),
        (9 | 11 | 17, _) => Kind::Skip(STATEMENT),
        (15, _) => Kind::FormatDescription,
        (16, _) => Kind::Xid,
        (18, _) => Kind::ExecuteLoadQuery,
        (19, _) => Kind::TableMap,
        (23, _) => Kind::Rows { change: Change::Insert, version: 1 },
        (24, _) => Kind::Rows { change: Change::Update, version: 1 },
        (25, _) => Kind::Rows { change: Change::Delete, version: 1 },
        (26, _) => Kind::Incident,
        (27, _) => Kind::Heartbeat,
        (28, _) => Kind::Skip("IGNORABLE: marked as such"),
        (29, _) => Kind::Skip("ROWS_QUERY: a comment"),
        (30, _) => Kind::Rows { change: Change::Insert, version: 2 },
        (31, _) => Kind::Rows { change: Change::Update, version: 2 },
        (32, _) => Kind::Rows { change: Change::Delete, version: 2 },
        (38, _) => Kind::Refuse("a prepared XA transaction (XA_PREPARE)", NO_XA),
        _ => ancient(code).unwrap_or_else(|| match flavour {
            Flavour::Mysql => mysql(code),
            Flavour::Mariadb => mariadb(code),
        }),
    }
}

/// Codes that only servers older than MySQL 5.1 write.
fn ancient(code: u8) -> Option<Kind> {
    let name = match code {
        1 => "a START_V3 event",
        6 => "a LOAD event",
        7 => "a SLAVE event",
        8 => "a CREATE_FILE event",
        10 => "an EXEC_LOAD event",
        12 => "a NEW_LOAD event",
        20..=22 => "row events of a MySQL 5.1 test version",
        _ => return None,
    };
    Some(Kind::Refuse(name, ANCIENT))
}

fn mysql(code: u8) -> Kind {
    match code {
        33 => Kind::MysqlGtid,
        34 => Kind::AnonymousGtid,
        35 => Kind::Skip("PREVIOUS_GTIDS: where the file begins is known"),
        36 => Kind::Skip(SINGLE),
        37 => Kind::Skip(SINGLE),
        39 => Kind::Refuse("partial JSON updates (PARTIAL_UPDATE_ROWS)", NO_PARTIAL_JSON),
        40 => Kind::TransactionPayload,
        41 => Kind::HeartbeatV2,
        42 => Kind::MysqlTaggedGtid,
        _ => Kind::Unknown,
    }
}

fn mariadb(code: u8) -> Kind {
    match code {
        160 => Kind::Skip("ANNOTATE_ROWS: a comment"),
        161 => Kind::Skip("BINLOG_CHECKPOINT: for the server's own recovery"),
        162 => Kind::MariadbGtid,
        163 => Kind::Skip("GTID_LIST: where the file begins is known"),
        164 => Kind::Refuse("an encrypted binlog (START_ENCRYPTION)", NO_ENCRYPTION),
        165 => Kind::Refuse("compressed events (QUERY_COMPRESSED)", NO_COMPRESSION),
        166 => Kind::Refuse("compressed events (WRITE_ROWS_COMPRESSED_V1)", NO_COMPRESSION),
        167 => Kind::Refuse("compressed events (UPDATE_ROWS_COMPRESSED_V1)", NO_COMPRESSION),
        168 => Kind::Refuse("compressed events (DELETE_ROWS_COMPRESSED_V1)", NO_COMPRESSION),
        169 => Kind::Refuse("compressed events (WRITE_ROWS_COMPRESSED)", NO_COMPRESSION),
        170 => Kind::Refuse("compressed events (UPDATE_ROWS_COMPRESSED)", NO_COMPRESSION),
        171 => Kind::Refuse("compressed events (DELETE_ROWS_COMPRESSED)", NO_COMPRESSION),
        172 => Kind::Refuse(
            "rows in pieces (PARTIAL_ROW_DATA)",
            "Raise the source's max_allowed_packet for rows",
        ),
        _ => Kind::Unknown,
    }
}
