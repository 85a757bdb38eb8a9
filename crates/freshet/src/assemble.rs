//! Turns a configuration into the parts of a pipeline. The one file that names backends.
//!
//! Translation only: what a word of the configuration means is decided by the backend, and whether the file is
//! right by `config`.

use crate::config::{
    Config, Endpoint, InvalidDates, LogConfig, Mode, NulInText, Prepare, ServerKind, SinkConfig,
    UndecodableText,
};
use freshet_core::sink::PrepareMode;
use freshet_core::source::Source;
use freshet_core::table::TableReader;
use freshet_core::{Error, Result};
use freshet_log::DirectoryStore;
use freshet_mysql::server::Flavour;
use freshet_mysql::sink::MySqlSink;
use freshet_mysql::source::{BinlogSource, SourceOptions};
use freshet_mysql::table::MysqlTableReader;
use freshet_mysql::wire;
use freshet_pipeline::{Parts, Settings, SinkPart, bounds};
use freshet_postgres::{PostgresSink, PostgresTableReader, ReaderOptions, WalSource, WalSourceOptions};
use std::path::Path;
use std::sync::Arc;

/// The parts of the pipeline. Nothing is connected or opened yet.
pub fn parts(config: &Config) -> Parts {
    let selection = Arc::new(config.selection.clone());
    let source: Box<dyn Source> = match flavour(config) {
        Some(flavour) => Box::new(BinlogSource::new(binlog_options(config, flavour), selection.clone())),
        None => Box::new(WalSource::new(wal_options(config), selection.clone())),
    };
    Parts {
        source,
        tables: table_reader(config),
        store: Box::new(DirectoryStore::new(&config.log.dir, log_options(&config.log))),
        sinks: config.sinks.iter().map(|sink| sink_part(config, sink)).collect(),
        selection,
    }
}

fn sink_part(config: &Config, sink: &SinkConfig) -> SinkPart {
    SinkPart {
        name: sink.name.clone(),
        sink: match sink_options(config, sink) {
            SinkOptions::Mysql(options) => Box::new(MySqlSink::new(options)),
            SinkOptions::Postgres(options) => Box::new(PostgresSink::new(options)),
        },
        mapping: sink.mapping(),
        prepare: match (config.mode, sink.prepare) {
            (Mode::Stream, _) => PrepareMode::Keep,
            (Mode::Load | Mode::LoadAndStream, Prepare::Create) => PrepareMode::CreateIfAbsent,
            (Mode::Load | Mode::LoadAndStream, Prepare::Truncate) => PrepareMode::Truncate,
            (Mode::Load | Mode::LoadAndStream, Prepare::DropAndCreate) => PrepareMode::DropAndCreate,
        },
    }
}

/// How the engine runs them.
pub fn settings(config: &Config, until_caught_up: bool) -> Settings {
    let mode = match config.mode {
        Mode::Load => freshet_pipeline::Mode::Load,
        Mode::LoadAndStream => freshet_pipeline::Mode::LoadAndStream,
        Mode::Stream => freshet_pipeline::Mode::Stream,
    };
    Settings {
        mode,
        readers: config.load.readers,
        chunk_rows: config.load.chunk_rows,
        until_caught_up,
        config_digest: config.digest(),
        ..Settings::default()
    }
}

/// Which of the servers with a binlog the source is; `None` for PostgreSQL.
pub fn flavour(config: &Config) -> Option<Flavour> {
    flavour_of(config.source.kind)
}

fn flavour_of(kind: ServerKind) -> Option<Flavour> {
    match kind {
        ServerKind::Mariadb => Some(Flavour::Mariadb),
        ServerKind::Mysql => Some(Flavour::Mysql),
        ServerKind::Postgres => None,
    }
}

/// How a binlog is read.
pub fn binlog_options(config: &Config, flavour: Flavour) -> SourceOptions {
    let defaults = SourceOptions::new(mysql_connect(&config.source.endpoint), flavour);
    SourceOptions {
        server_id: config.source.server_id,
        heartbeat_ms: config.source.heartbeat_ms.unwrap_or(defaults.heartbeat_ms),
        batch_bytes_target: bounds::BATCH_BYTES_TARGET,
        batch_bytes_max: bounds::BATCH_BYTES_MAX,
        ..defaults
    }
}

/// How a WAL is read.
pub fn wal_options(config: &Config) -> WalSourceOptions {
    let source = &config.source;
    let connect = postgres_connect(&source.endpoint, &source.postgres.database);
    let defaults = WalSourceOptions::new(connect, &config.name);
    WalSourceOptions {
        slot: source.postgres.slot.clone().unwrap_or(defaults.slot),
        publication: source.postgres.publication.clone().unwrap_or(defaults.publication),
        keeps_lost_partitions: source.postgres.keeps_dropped_partitions,
        schemas_left_out: control_schemas(config),
        batch_bytes_target: bounds::BATCH_BYTES_TARGET,
        batch_bytes_max: bounds::BATCH_BYTES_MAX,
        ..defaults
    }
}

/// Where freshet keeps tables of its own: never captured, also where a sink is the source's own server.
fn control_schemas(config: &Config) -> Vec<String> {
    let own = config.sinks.iter().map(|sink| sink.control_schema.clone());
    own.chain(["freshet".to_owned()]).collect()
}

fn mysql_connect(endpoint: &Endpoint) -> wire::ConnectOptions {
    wire::ConnectOptions {
        port: endpoint.port,
        password: endpoint.password.clone(),
        tls: endpoint.tls,
        tls_ca_file: endpoint.tls_ca_file.clone(),
        tls_client: endpoint.tls_client.clone(),
        ..wire::ConnectOptions::new(&endpoint.host, &endpoint.user)
    }
}

fn log_options(log: &LogConfig) -> freshet_log::Options {
    freshet_log::Options {
        log_bytes_max: log.bytes_max,
        log_retain_ms_min: log.retain_ms,
        record_bytes_max: bounds::BATCH_BYTES_MAX,
        ..freshet_log::Options::default()
    }
}

/// How a sink is written, by the backend that writes it.
pub enum SinkOptions {
    /// MariaDB and MySQL.
    Mysql(freshet_mysql::sink::SinkOptions),
    /// PostgreSQL.
    Postgres(freshet_postgres::SinkOptions),
}

/// How a sink is written.
pub fn sink_options(config: &Config, sink: &SinkConfig) -> SinkOptions {
    let (pipeline, name, control_schema) = (&config.name, &sink.name, sink.control_schema.clone());
    match flavour_of(sink.kind) {
        Some(flavour) => SinkOptions::Mysql(freshet_mysql::sink::SinkOptions {
            flavour: Some(flavour),
            control_schema,
            policies: mysql_policies(sink),
            ..freshet_mysql::sink::SinkOptions::new(pipeline, name, mysql_connect(&sink.endpoint))
        }),
        None => {
            let connect = postgres_connect(&sink.endpoint, &sink.database);
            SinkOptions::Postgres(freshet_postgres::SinkOptions {
                control_schema,
                policies: postgres_policies(sink),
                ..freshet_postgres::SinkOptions::new(pipeline, name, connect)
            })
        }
    }
}

fn postgres_connect(endpoint: &Endpoint, database: &str) -> freshet_postgres::ConnectOptions {
    freshet_postgres::ConnectOptions {
        port: endpoint.port,
        password: endpoint.password.clone(),
        tls: endpoint.tls,
        tls_ca_file: endpoint.tls_ca_file.clone(),
        tls_client: endpoint.tls_client.clone(),
        ..freshet_postgres::ConnectOptions::new(&endpoint.host, &endpoint.user, database)
    }
}

fn mysql_policies(sink: &SinkConfig) -> freshet_mysql::sink::Policies {
    use freshet_mysql::sink::{DatePolicy, UndecodablePolicy};
    freshet_mysql::sink::Policies {
        dates: match sink.policies.invalid_dates {
            InvalidDates::Stop => DatePolicy::Stop,
            InvalidDates::Null => DatePolicy::Null,
        },
        undecodable: match sink.policies.undecodable_text {
            UndecodableText::Stop => UndecodablePolicy::Stop,
            UndecodableText::Replace => UndecodablePolicy::Replace,
        },
    }
}

fn postgres_policies(sink: &SinkConfig) -> freshet_postgres::Policies {
    use freshet_postgres::{DatePolicy, NulPolicy, UndecodablePolicy};
    freshet_postgres::Policies {
        dates: match sink.policies.invalid_dates {
            InvalidDates::Stop => DatePolicy::Stop,
            InvalidDates::Null => DatePolicy::Null,
        },
        nul_in_text: match sink.policies.nul_in_text {
            NulInText::Stop => NulPolicy::Stop,
            NulInText::Strip => NulPolicy::Strip,
            NulInText::Replace => NulPolicy::Replace,
        },
        undecodable: match sink.policies.undecodable_text {
            UndecodableText::Stop => UndecodablePolicy::Stop,
            UndecodableText::Replace => UndecodablePolicy::Replace,
        },
    }
}

/// Reader of the source's catalogue and rows.
pub fn table_reader(config: &Config) -> Box<dyn TableReader> {
    match flavour(config) {
        Some(flavour) => Box::new(MysqlTableReader::new(mysql_connect(&config.source.endpoint), flavour)),
        None => {
            let connect = postgres_connect(&config.source.endpoint, &config.source.postgres.database);
            let options = ReaderOptions {
                publication: Some(wal_options(config).publication),
                schemas_left_out: control_schemas(config),
                ..ReaderOptions::new(connect, &config.name)
            };
            Box::new(PostgresTableReader::new(options))
        }
    }
}

/// Removes the files of a log, and nothing else that lies in its directory.
pub fn remove_log(dir: &Path) -> Result<()> {
    let failed = |e: std::io::Error| {
        let reason = crate::config::io_reason(&e);
        Error::unavailable(format!("Log directory {} cannot be emptied: {reason}", dir.display()))
    };
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name == "LOG" || name == "lock" || name.ends_with(".segment") || name.ends_with(".new") {
            std::fs::remove_file(&path).map_err(failed)?;
        }
    }
    Ok(())
}
