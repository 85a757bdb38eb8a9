//! Asks the servers of a pipeline what stands in its way, and says it in one shape.

use crate::assemble::{self, SinkOptions};
use crate::config::{Config, Mode, SinkConfig};
use crate::findings::{Finding, Severity};
use freshet_core::table::TableInfo;
use freshet_core::{Error, Result};
use freshet_mysql::check::{CheckOptions, Role};

/// Every finding of the source and the sinks.
pub async fn check(config: &Config) -> Vec<Finding> {
    let mut findings = source(config).await;
    let broken = findings.iter().any(|finding| finding.severity == Severity::Error);
    let tables = match assemble::table_reader(config).tables(&config.selection).await {
        Ok(tables) => tables,
        // The source's own check has said why, in more words.
        Err(_) if broken => Vec::new(),
        Err(error) => {
            findings.push(of_error("source", "catalogue", "tables", &error));
            Vec::new()
        }
    };
    for sink in &config.sinks {
        findings.extend(target(config, sink, &tables).await);
    }
    findings
}

/// A load follows the binlog too, for what is changed while it runs.
fn role(mode: Mode) -> Role {
    match mode {
        Mode::Load | Mode::LoadAndStream => Role::LoadAndStream,
        Mode::Stream => Role::Stream,
    }
}

async fn source(config: &Config) -> Vec<Finding> {
    let found = match assemble::flavour(config) {
        Some(flavour) => {
            let connect = assemble::binlog_options(config, flavour).connect;
            let options = CheckOptions::new(role(config.mode));
            freshet_mysql::check::check(&connect, flavour, &config.selection, &options).await
        }
        None => freshet_postgres::check_source(&assemble::wal_options(config), &config.selection).await,
    };
    found.into_iter().map(|found| Finding::at("source", found)).collect()
}

async fn target(config: &Config, sink: &SinkConfig, tables: &[TableInfo]) -> Vec<Finding> {
    let place = format!("sink {}", sink.name);
    let plans = match sink.mapping().plan(tables) {
        Ok(plans) => plans,
        Err(error) => return vec![of_error(&place, "names-collide", "schemas", &error)],
    };
    let checked = match assemble::sink_options(config, sink) {
        SinkOptions::Mysql(options) => freshet_mysql::sink::check(&options, &plans).await,
        SinkOptions::Postgres(options) => freshet_postgres::check(&options, &plans).await,
    };
    match checked {
        Ok(findings) => findings.into_iter().map(|found| Finding::at(&place, found)).collect(),
        Err(error) => vec![of_error(&place, "connection", "connection", &error)],
    }
}

/// A check that could not be made is a finding too.
fn of_error(place: &str, code: &'static str, subject: &str, error: &Error) -> Finding {
    Finding {
        severity: Severity::Error,
        place: place.to_owned(),
        code,
        subject: subject.to_owned(),
        message: error.message().to_owned(),
        remedy: error.hint().map(str::to_owned),
    }
}

/// The smallest grants of each role: where they are given, and the statements.
pub fn grants(config: &Config) -> Vec<(String, Vec<String>)> {
    let schemas: Vec<String> = config.selection.schemas().into_iter().map(str::to_owned).collect();
    let user = &config.source.endpoint.user;
    let (server, statements) = match assemble::flavour(config) {
        Some(flavour) => {
            let statements = freshet_mysql::check::grants(flavour, role(config.mode), user, &schemas);
            (flavour.to_string(), statements)
        }
        None => {
            let options = assemble::wal_options(config);
            let server = format!("PostgreSQL, database {}", options.connect.database);
            (server, freshet_postgres::source_grants(&options, &schemas))
        }
    };
    let mut parts = vec![(format!("source, on {server}"), statements)];
    for sink in &config.sinks {
        let (server, statements) = match assemble::sink_options(config, sink) {
            SinkOptions::Mysql(options) => {
                let server = options.flavour.map(|flavour| flavour.to_string()).unwrap_or_default();
                (server, freshet_mysql::sink::grants(&options, &sink.mapping().schemas(&schemas)))
            }
            SinkOptions::Postgres(options) => {
                let text = freshet_postgres::grants(&options);
                let statements = text.lines().map(str::to_owned).collect();
                (format!("PostgreSQL, database {}", sink.database), statements)
            }
        };
        let place = format!("sink {}, on {server}", sink.name);
        parts.push((place, statements));
    }
    parts
}

/// Forgets the pipeline on a sink; what was done, one line each.
pub async fn reset(config: &Config, sink: &SinkConfig, drop_tables: bool) -> Result<Vec<String>> {
    match assemble::sink_options(config, sink) {
        SinkOptions::Mysql(options) => freshet_mysql::sink::reset(&options, drop_tables).await,
        SinkOptions::Postgres(options) => freshet_postgres::reset(&options, drop_tables).await,
    }
}

/// Removes what the pipeline has made on its source; what was done.
pub async fn forget_source(config: &Config) -> Result<Option<String>> {
    match assemble::flavour(config) {
        Some(_) => Ok(None),
        None => {
            let options = assemble::wal_options(config);
            freshet_postgres::forget(&options).await.map(Some)
        }
    }
}
