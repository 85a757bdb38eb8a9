//! What can go wrong on a connection, precisely; `freshet_core::Error` is made of it at the crate's boundary.
//!
//! No variant holds a password or a cell value. The text of a server's error is kept, since nobody can act
//! without it.

use std::io;
use std::path::PathBuf;

/// An error that the server reported (manual page "ERR_Packet").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerError {
    /// The server's error number, such as 1045.
    pub code: u16,
    /// Five characters, or empty where the server sent none.
    pub sqlstate: String,
    /// The server's own words.
    pub message: String,
}

/// Everything that a connection can fail with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// The name of the server could not be resolved.
    #[error("Host {host} is unknown")]
    UnknownHost {
        /// As configured.
        host: String,
        /// What the resolver said.
        #[source]
        source: io::Error,
    },
    /// No TCP connection came about.
    #[error("Cannot connect to {host}:{port}: {source}")]
    Connect {
        /// As configured.
        host: String,
        /// As configured.
        port: u16,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Reading or writing failed: the connection is lost.
    #[error("Connection to the server lost while {doing}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The server closed the connection.
    #[error("The server closed the connection while {doing}")]
    Closed {
        /// What was being done.
        doing: &'static str,
    },
    /// The server kept silent for longer than allowed.
    #[error("No answer from the server for {timeout_ms} ms while {doing}")]
    Timeout {
        /// What was being done.
        doing: &'static str,
        /// The limit.
        timeout_ms: u64,
    },
    /// TLS is demanded and the server has none.
    #[error("The server offers no TLS; switch it on there or set tls: disable")]
    TlsNotOffered,
    /// The CA file or the system's roots cannot be used.
    #[error("Cannot use the certificates of {}: {reason}", path.as_ref().map_or("the system".into(), |path| path.display().to_string()))]
    TlsRoots {
        /// The CA file; `None` for the system's roots.
        path: Option<PathBuf>,
        /// What is wrong with them.
        reason: String,
    },
    /// The server's certificate was refused.
    #[error("The certificate of {host} is refused: {source}")]
    TlsCertificate {
        /// As configured.
        host: String,
        /// Which rule it breaks.
        #[source]
        source: rustls::Error,
    },
    /// The TLS handshake failed for another reason.
    #[error("No TLS connection to {host}: {reason}")]
    TlsHandshake {
        /// As configured.
        host: String,
        /// What TLS said.
        reason: String,
    },
    /// The server reported an error.
    #[error("Server error {} ({}): {}", .0.code, .0.sqlstate, .0.message)]
    Server(ServerError),
    /// The server sent something that the protocol does not allow.
    #[error("The server breaks the protocol: {what}")]
    Protocol {
        /// What it broke.
        what: &'static str,
    },
    /// The server, or something between, lacks what freshet needs.
    #[error("The server lacks {what}, which freshet needs")]
    Unsupported {
        /// What is lacking.
        what: &'static str,
    },
    /// A column of a type number that is not known.
    #[error("Column {column} has the unknown type {code}")]
    ColumnType {
        /// Name of the column.
        column: String,
        /// The type's number.
        code: u8,
    },
    /// An account that authenticates by a plugin freshet does not have.
    #[error(
        "The account authenticates by {plugin}, which freshet does not support; give it caching_sha2_password or mysql_native_password"
    )]
    AuthPlugin {
        /// Name of the plugin.
        plugin: String,
    },
    /// Authentication went wrong before the server judged the password.
    #[error("Authentication failed: {what}")]
    Auth {
        /// What went wrong.
        what: &'static str,
    },
    /// More than a bound allows.
    #[error("The server sent {what} of more than {bytes_max} bytes")]
    TooLarge {
        /// What it was.
        what: &'static str,
        /// The bound.
        bytes_max: usize,
    },
    /// An earlier answer was not read to its end, so what comes next is unknown.
    #[error("The connection cannot be used again: an earlier answer was not read to its end")]
    Abandoned,
    /// A statement of another connection, or with another number of parameters.
    #[error("A prepared statement is used wrongly: {what}")]
    Misused {
        /// How.
        what: &'static str,
    },
}

impl WireError {
    pub(crate) const fn protocol(what: &'static str) -> Self {
        WireError::Protocol { what }
    }

    /// The server's error number, where the server reported one.
    pub fn server_code(&self) -> Option<u16> {
        match self {
            WireError::Server(error) => Some(error.code),
            _ => None,
        }
    }
}
