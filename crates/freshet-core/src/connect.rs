//! What every connection to a server is told alike: a password, and how far the connection is protected.
//!
//! Not a connection, and not the configuration's file. No formatting shows a password.

use std::fmt;
use std::path::PathBuf;

/// A password; `Debug` shows nothing of it, not even its length (O10).
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a password.
    pub fn new(text: impl Into<String>) -> Self {
        Secret(text.into())
    }

    /// The password itself, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Files of a certificate that a client shows to the server, for accounts that are told by one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// PEM file with the certificate, and those between it and its authority.
    pub cert_file: PathBuf,
    /// PEM file with its key, not encrypted.
    pub key_file: PathBuf,
}

/// How far a connection is protected, in the words of libpq's `sslmode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsMode {
    /// No TLS. How a password is sent then is the server's protocol: never in clear text, but protected against
    /// listeners at most, not against somebody who takes the server's place.
    #[default]
    Disable,
    /// TLS or no connection. The certificate's chain is verified only where a CA file is given, its name never:
    /// without a CA file it protects against listeners only.
    Require,
    /// TLS with the certificate's chain and host name verified, against the CA file or the system's roots.
    VerifyFull,
}
