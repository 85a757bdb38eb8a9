//! What a connection needs to know: address, account, TLS and time-outs.
//!
//! Not the pipeline's configuration file; the binary turns that into these. A password is held as a [`Secret`].

pub use freshet_core::connect::{ClientCertificate, Secret, TlsMode};
use std::path::PathBuf;

/// Everything that [`super::Connection::connect`] needs.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Account name.
    pub user: String,
    /// Its password; `None` is the empty password.
    pub password: Option<Secret>,
    /// How far the connection is protected.
    pub tls: TlsMode,
    /// PEM file with the certificates of the authorities to trust instead of the system's.
    pub tls_ca_file: Option<PathBuf>,
    /// What we show to the server. Of no meaning without TLS.
    pub tls_client: Option<ClientCertificate>,
    /// Default database, if any.
    pub database: Option<String>,
    /// The longest that name look-up, TCP, TLS and authentication may take together.
    pub connect_timeout_ms: u64,
    /// The longest silence of the server while an answer is awaited, and the longest that it may take to
    /// accept a request. For a binlog dump it must be larger than the heartbeat period (P23).
    pub read_timeout_ms: u64,
}

impl ConnectOptions {
    /// Options with the defaults: port 3306, no password, no TLS, 10 s to connect, 60 s to read.
    pub fn new(host: impl Into<String>, user: impl Into<String>) -> Self {
        ConnectOptions {
            host: host.into(),
            port: 3306,
            user: user.into(),
            password: None,
            tls: TlsMode::Disable,
            tls_ca_file: None,
            tls_client: None,
            database: None,
            connect_timeout_ms: 10_000,
            read_timeout_ms: 60_000,
        }
    }

    /// The password, empty if there is none.
    pub(crate) fn password_text(&self) -> &str {
        self.password.as_ref().map_or("", Secret::expose)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_password() {
        let options =
            ConnectOptions { password: Some(Secret::new("hunter2")), ..ConnectOptions::new("h", "u") };
        assert!(!format!("{options:?}").contains("hunter2"));
    }
}
