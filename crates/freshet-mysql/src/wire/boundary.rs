//! What the pipeline does about an error of a connection: [`WireError`] to the few kinds of `freshet_core`.
//!
//! The server's error numbers are of the manual page "Server Error Message Reference" and MariaDB's "Error
//! Codes". A number that is not listed is somebody's mistake that trying again does not mend: `Internal`.
//! Error 1236, which has many causes, should be judged by whoever asked for the dump; here it is told by the
//! words that both servers have used for purged logs.

use freshet_core::{Error, ErrorKind};

use super::error::{ServerError, WireError};

impl From<WireError> for Error {
    fn from(error: WireError) -> Self {
        let (kind, hint) = match &error {
            WireError::Server(error) => server_kind(error),
            WireError::Connect { .. }
            | WireError::Io { .. }
            | WireError::Closed { .. }
            | WireError::Timeout { .. } => (ErrorKind::Unavailable, None),
            WireError::UnknownHost { source, .. } if is_temporary(source) => (ErrorKind::Unavailable, None),
            WireError::UnknownHost { .. } => (ErrorKind::Invalid, Some("Check host in the configuration")),
            WireError::TlsNotOffered => (ErrorKind::Invalid, None),
            WireError::TlsRoots { .. } => (
                ErrorKind::Invalid,
                Some(
                    "Give PEM files: tls_ca_file of the authority to trust, tls_cert_file and tls_key_file of our own",
                ),
            ),
            WireError::TlsCertificate { .. } => (
                ErrorKind::Invalid,
                Some(
                    "Give the CA file of the server's certificate and a host name that the certificate is for, or set tls: require",
                ),
            ),
            WireError::TlsHandshake { .. } => (
                ErrorKind::Invalid,
                Some("The server must allow TLS 1.3, or TLS 1.2 with a cipher that uses ECDHE"),
            ),
            WireError::Auth { .. } => (ErrorKind::Invalid, None),
            WireError::AuthPlugin { .. } | WireError::Unsupported { .. } | WireError::ColumnType { .. } => {
                (ErrorKind::Unsupported, None)
            }
            WireError::Protocol { .. } | WireError::TooLarge { .. } => (ErrorKind::Corrupt, None),
            WireError::Abandoned | WireError::Misused { .. } => (ErrorKind::Internal, None),
        };
        let converted = Error::new(kind, error.to_string());
        match hint {
            Some(hint) => converted.with_hint(hint),
            None => converted,
        }
    }
}

/// Whether the resolver could not be asked, rather than not know the name; only its words tell.
fn is_temporary(source: &std::io::Error) -> bool {
    source.to_string().contains("Temporary failure")
}

fn server_kind(error: &ServerError) -> (ErrorKind, Option<&'static str>) {
    const GRANTS: Option<&str> = Some("Give the account the privileges that freshet check --grants prints");
    match error.code {
        1236 if error.is_history_gone() => (
            ErrorKind::Resync,
            Some(
                "The server's binlog does not go on from where freshet stands: load again, and keep binlogs for longer",
            ),
        ),
        // Too many connections of all, or of this account; out of memory; shutting down; connection or
        // statement killed; waits that ran out; deadlock; offline or read-only for now.
        1040
        | 1203
        | 1226
        | 1037
        | 1038
        | 1041
        | 1053
        | 1077
        | 1078
        | 1079
        | 1080
        | 1152
        | 1158..=1161
        | 1184
        | 1205
        | 1213
        | 1317
        | 1927
        | 1969
        | 3024
        | 3032
        | 3168
        | 3169
        | 4031 => (ErrorKind::Unavailable, None),
        1045 | 1698 => (ErrorKind::Invalid, Some("Check user and password in the configuration")),
        1044 | 1142 | 1143 | 1227 | 1370 => (ErrorKind::Invalid, GRANTS),
        1049 => (ErrorKind::Invalid, Some("Check the name of the database")),
        1129 => (
            ErrorKind::Invalid,
            Some("Run FLUSH HOSTS on the server, then look for what made connections fail"),
        ),
        1130 => (ErrorKind::Invalid, Some("Create the account for the host that freshet connects from")),
        1820 | 1862 | 3118 | 4151 | 3159 => (
            ErrorKind::Invalid,
            Some("Unlock the account, renew its password or use TLS, as the server demands"),
        ),
        _ => (ErrorKind::Internal, None),
    }
}

/// Words, in lower case, by which both servers say that a dump cannot begin where it should: what is needed was
/// deleted or lost in a crash, or the server's history is another one than ours (P12, P22).
const HISTORY_GONE: [&str; 9] = [
    "purged",
    "could not find first log file",
    "could not find next log",
    "could not find gtid state",
    "not in the master's binlog",
    "gtid state not found in binlog",
    "has more gtids than the",
    "impossible position",
    "position > file size",
];

impl ServerError {
    /// Whether a dump was refused because the server no longer has, or never had, what it would go on from.
    pub fn is_history_gone(&self) -> bool {
        let message = self.message.to_ascii_lowercase();
        self.code == 1236 && HISTORY_GONE.iter().any(|words| message.contains(words))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(code: u16, message: &str) -> ErrorKind {
        let error = ServerError { code, sqlstate: String::new(), message: message.to_owned() };
        Error::from(WireError::Server(error)).kind().clone()
    }

    #[test]
    fn server_errors_have_the_kind_that_the_pipeline_acts_on() {
        assert_eq!(kind(1040, "Too many connections"), ErrorKind::Unavailable);
        assert_eq!(kind(1045, "Access denied"), ErrorKind::Invalid);
        assert_eq!(
            kind(1236, "Could not find first log file name in binary log index file"),
            ErrorKind::Resync
        );
        assert_eq!(kind(1236, "A replica with the same server_uuid has connected"), ErrorKind::Internal);
        assert_eq!(kind(1064, "You have an error in your SQL syntax"), ErrorKind::Internal);
        let closed = Error::from(WireError::Closed { doing: "reading rows" });
        assert!(closed.is_retryable());
    }
}
