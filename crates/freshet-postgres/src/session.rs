//! Connections: every setting explicit, a pooler in transaction mode refused (O6).
//!
//! Nothing of the server's or the role's defaults decides what a statement of ours means: time zone, formats,
//! search path, time-outs, isolation and durability are set on every connection before its first use.

use crate::error::{Scope, connect_error, statement_error};
use crate::options::{ConnectOptions, SinkOptions, TlsMode};
use crate::quote::{NAME_BYTES_MAX, literal};
use crate::tls::Tls;
use freshet_core::{Error, Result};
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, Config, NoTls};

/// The oldest server version that is supported.
pub(crate) const SERVER_VERSION_MIN: i32 = 150_000;
const KEEPALIVE_IDLE_S: u64 = 10;
const KEEPALIVE_INTERVAL_S: u64 = 5;
const KEEPALIVE_RETRIES: u32 = 3;
const TCP_USER_TIMEOUT_MS: u64 = 30_000;

/// A connection with its settings made.
#[derive(Clone)]
pub(crate) struct Session {
    pub client: Arc<Client>,
    pub pid: i32,
    /// Whether ordinary triggers and foreign keys are off on this connection (R16).
    pub replica_role: bool,
}

/// Connects and sets everything.
pub(crate) async fn open(options: &SinkOptions) -> Result<Session> {
    let client =
        Arc::new(connect(&options.connect, &application_name(&options.pipeline, &options.sink)).await?);
    let fail = |doing: &str, error: &tokio_postgres::Error| statement_error(&Scope::Session, doing, error);
    let version = "select current_setting('server_version_num')::int, pg_backend_pid(), \
                   has_parameter_privilege('session_replication_role', 'set')";
    client.batch_execute(&settings(options)).await.map_err(|e| fail("Preparing a session", &e))?;
    let number = client.query_one("select current_setting('server_version_num')::int", &[]).await;
    let number: i32 = number.map_err(|e| fail("Asking for the server's version", &e))?.get(0);
    if number < SERVER_VERSION_MIN {
        return Err(Error::unsupported(format!(
            "PostgreSQL at {} is version {}, 15 is the oldest supported",
            options.connect.place(),
            number / 10_000
        )));
    }
    let row = client.query_one(version, &[]).await.map_err(|e| fail("Asking for the server's state", &e))?;
    let (pid, replica_role): (i32, bool) = (row.get(1), row.get(2));
    if replica_role {
        let set = "set session_replication_role = replica";
        client.batch_execute(set).await.map_err(|e| fail("Turning triggers off", &e))?;
    }
    Ok(Session { client, pid, replica_role })
}

/// A connection without settings, but for one: a `statement_timeout` of the role or the database is lifted by a
/// statement of its own, since a longer one that sets everything might not end within it.
pub(crate) async fn connect(options: &ConnectOptions, application_name: &str) -> Result<Client> {
    let client = reach(options, application_name).await?;
    let lifted = client.batch_execute("set statement_timeout = 0").await;
    lifted.map_err(|error| statement_error(&Scope::Session, "Lifting statement_timeout", &error))?;
    Ok(client)
}

async fn reach(options: &ConnectOptions, application_name: &str) -> Result<Client> {
    let mut config = Config::new();
    config.user(&options.user).dbname(&options.database).application_name(application_name);
    config.host(&options.host).port(options.port);
    if let Some(password) = &options.password {
        config.password(password.expose());
    }
    config.keepalives_idle(Duration::from_secs(KEEPALIVE_IDLE_S));
    config
        .keepalives_interval(Duration::from_secs(KEEPALIVE_INTERVAL_S))
        .keepalives_retries(KEEPALIVE_RETRIES);
    config.tcp_user_timeout(Duration::from_millis(TCP_USER_TIMEOUT_MS));
    let deadline = Duration::from_millis(options.connect_timeout_ms);
    let late = |_| {
        Error::unavailable(format!(
            "Connecting to PostgreSQL at {}: no answer within {} ms",
            options.place(),
            options.connect_timeout_ms
        ))
    };
    match options.tls {
        TlsMode::Disable => {
            config.ssl_mode(SslMode::Disable);
            let answer = tokio::time::timeout(deadline, config.connect(NoTls)).await.map_err(late)?;
            let (client, connection) = answer.map_err(|e| connect_error(options, &e))?;
            tokio::spawn(drive(connection));
            Ok(client)
        }
        TlsMode::Require | TlsMode::VerifyFull => {
            config.ssl_mode(SslMode::Require);
            let tls = Tls::new(options).map_err(Error::invalid)?;
            let answer = tokio::time::timeout(deadline, config.connect(tls)).await.map_err(late)?;
            let (client, connection) = answer.map_err(|e| connect_error(options, &e))?;
            tokio::spawn(drive(connection));
            Ok(client)
        }
    }
}

/// Reads and writes a connection until it ends; whoever waits for an answer is told of an error.
async fn drive<F: Future<Output = Result<(), tokio_postgres::Error>>>(connection: F) {
    if let Err(error) = connection.await {
        tracing::debug!(%error, "A connection to PostgreSQL ended");
    }
}

/// `freshet:pipeline:purpose`; a pipeline's name gives way where the server would cut.
pub(crate) fn application_name(pipeline: &str, purpose: &str) -> String {
    let mut name = format!("freshet:{pipeline}:{purpose}");
    while name.len() > NAME_BYTES_MAX && name.len() > "freshet::".len() + purpose.len() {
        name.remove("freshet:".len());
    }
    // A purpose that is too long by itself.
    while name.len() > NAME_BYTES_MAX {
        name.pop();
    }
    name
}

fn settings(options: &SinkOptions) -> String {
    let ms = |n: u64| format!("{n}ms");
    let pairs: &[(&str, String)] = &[
        ("synchronous_commit", "on".into()),
        ("timezone", "UTC".into()),
        ("datestyle", "ISO, YMD".into()),
        ("intervalstyle", "postgres".into()),
        ("extra_float_digits", "3".into()),
        ("client_encoding", "UTF8".into()),
        ("bytea_output", "hex".into()),
        // Values that travel as text are read as a PostgreSQL source prints them.
        ("lc_monetary", "C".into()),
        ("xmloption", "content".into()),
        ("standard_conforming_strings", "on".into()),
        ("default_transaction_isolation", "read committed".into()),
        ("default_transaction_read_only", "off".into()),
        ("default_transaction_deferrable", "off".into()),
        ("row_security", "off".into()),
        ("check_function_bodies", "off".into()),
        ("lock_timeout", ms(options.lock_timeout_ms)),
        ("idle_in_transaction_session_timeout", ms(options.idle_in_transaction_timeout_ms)),
        ("idle_session_timeout", "0".into()),
        ("tcp_keepalives_idle", KEEPALIVE_IDLE_S.to_string()),
        ("tcp_keepalives_interval", KEEPALIVE_INTERVAL_S.to_string()),
        ("tcp_keepalives_count", KEEPALIVE_RETRIES.to_string()),
        ("tcp_user_timeout", ms(TCP_USER_TIMEOUT_MS)),
        ("maintenance_work_mem", options.maintenance_work_mem.clone()),
        // Windows are joined to their table by key: one plan, by index, whatever the statistics say of a table
        // that was empty a moment ago. Keys of a window differ, so nothing is gained by remembering them.
        ("plan_cache_mode", "force_generic_plan".into()),
        ("enable_memoize", "off".into()),
        ("enable_seqscan", "off".into()),
        ("enable_bitmapscan", "off".into()),
        ("enable_hashjoin", "off".into()),
        ("enable_mergejoin", "off".into()),
        ("jit", "off".into()),
    ];
    let mut sql: String =
        pairs.iter().map(|(name, value)| format!("set {name} = {};", literal(value))).collect();
    sql.push_str("set search_path = '';");
    sql
}

/// Refuses a pooler that gives one server connection to several clients: a session of ours that stays open and one
/// inside a transaction must be served by two backends.
pub(crate) async fn refuse_pooler(options: &SinkOptions, session: &Session) -> Result<()> {
    let fail =
        |error: &tokio_postgres::Error| statement_error(&Scope::Session, "Looking for a pooler", error);
    let probe = connect(&options.connect, &application_name(&options.pipeline, &options.sink)).await?;
    let rows = probe.simple_query("begin; select pg_backend_pid()").await.map_err(|e| fail(&e))?;
    let other = rows.iter().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    let row = session.client.query_one("select pg_backend_pid()", &[]).await.map_err(|e| fail(&e))?;
    let mine: i32 = row.get(0);
    if mine != session.pid || other.is_none_or(|pid| pid == session.pid.to_string()) {
        let text = format!("{} is a connection pooler in transaction mode", options.connect.place());
        return Err(Error::invalid(text)
            .with_hint("Connect to the server itself, or to a pool with pool_mode = session"));
    }
    Ok(())
}
