//! Sessions that read rows: ordinary connections with every setting that the text or the life of a value depends on.

use super::ReaderOptions;
use crate::error::{Scope, statement_error};
use crate::options::{ConnectOptions, TlsMode};
use crate::quote::literal;
use crate::session::{SERVER_VERSION_MIN, application_name, connect};
use crate::tls::Tls;
use freshet_core::error::{Error, Result};
use tokio_postgres::{Client, NoTls};

/// Where the setting `transaction_timeout` begins to be.
const TRANSACTION_TIMEOUT_VERSION: i32 = 170_000;

/// A connection with its settings made.
pub(super) struct ReaderSession {
    client: Client,
    options: ConnectOptions,
    /// Whether an answer may be under way that nobody will read to its end.
    pub(super) is_streaming: bool,
    /// Whether the database's text is in a character set: in an SQL_ASCII one it is any bytes.
    pub(super) has_encoding: bool,
}

/// Connects and sets everything. `purpose` is the end of the session's name.
pub(super) async fn open(options: &ReaderOptions, purpose: &str) -> Result<ReaderSession> {
    let client = connect(&options.connect, &application_name(&options.pipeline, purpose)).await?;
    let fail = |error: &tokio_postgres::Error| statement_error(&Scope::Session, "Preparing a session", error);
    const FACTS: &str = "select pg_catalog.current_setting('server_version_num')::int4, \
         pg_catalog.current_setting('server_encoding') <> 'SQL_ASCII'";
    let facts = client.query_one(FACTS, &[]).await.map_err(|error| fail(&error))?;
    let (version, has_encoding): (i32, bool) = (facts.get(0), facts.get(1));
    if version < SERVER_VERSION_MIN {
        return Err(Error::unsupported(format!(
            "PostgreSQL at {} is version {}, 15 is the oldest supported",
            options.connect.place(),
            version / 10_000
        )));
    }
    client.batch_execute(&settings(options, version)).await.map_err(|error| fail(&error))?;
    Ok(ReaderSession { client, options: options.connect.clone(), is_streaming: false, has_encoding })
}

fn settings(options: &ReaderOptions, version: i32) -> String {
    let lock_timeout = format!("{}ms", options.lock_timeout_ms);
    let mut pairs: Vec<(&str, &str)> = vec![
        ("search_path", ""),
        ("timezone", "UTC"),
        ("datestyle", "ISO, YMD"),
        ("intervalstyle", "postgres"),
        ("extra_float_digits", "3"),
        ("client_encoding", "UTF8"),
        ("bytea_output", "hex"),
        ("xmloption", "content"),
        ("lc_monetary", "C"),
        ("standard_conforming_strings", "on"),
        ("default_transaction_isolation", "read committed"),
        ("default_transaction_deferrable", "off"),
        // A policy that hides rows is an error then, rather than rows that are missing.
        ("row_security", "off"),
        ("lock_timeout", &lock_timeout),
        ("idle_in_transaction_session_timeout", "0"),
        ("idle_session_timeout", "0"),
        ("jit", "off"),
    ];
    if version >= TRANSACTION_TIMEOUT_VERSION {
        pairs.push(("transaction_timeout", "0"));
    }
    pairs.iter().map(|(name, value)| format!("set {name} = {};", literal(value))).collect()
}

impl ReaderSession {
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Runs statements that answer nothing. `doing` is what is being done, in sentence case.
    pub(super) async fn run(&self, doing: &str, sql: &str) -> Result<()> {
        self.client.batch_execute(sql).await.map_err(|error| statement_error(&Scope::Session, doing, &error))
    }

    /// One row of one statement.
    pub(super) async fn row(&self, doing: &str, sql: &str) -> Result<tokio_postgres::Row> {
        self.client.query_one(sql, &[]).await.map_err(|error| statement_error(&Scope::Session, doing, &error))
    }
}

impl Drop for ReaderSession {
    /// The connection lives on until its last answer is read; the server is told that nobody wants it.
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if !self.is_streaming || self.client.is_closed() {
            return;
        }
        let (token, options) = (self.client.cancel_token(), self.options.clone());
        runtime.spawn(async move {
            let outcome = match (options.tls, Tls::new(&options)) {
                (TlsMode::Disable, _) => token.cancel_query(NoTls).await.map_err(|error| error.to_string()),
                (_, Ok(tls)) => token.cancel_query(tls).await.map_err(|error| error.to_string()),
                (_, Err(error)) => Err(error),
            };
            if let Err(error) = outcome {
                tracing::debug!(%error, "A query that nobody waits for could not be cancelled");
            }
        });
    }
}
