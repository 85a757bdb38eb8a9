//! What a target must have before a pipeline is started, each finding with its remedy; the minimal grants; the reset.
//!
//! Reads only, but for [`reset`]. The tables are looked at as preparation would: what it would refuse is an error here.

use crate::options::{DatePolicy, SinkOptions};
use crate::quote::{ident, literal, table};
use crate::session::{self, Session};
use crate::sink::catalog::TargetTable;
use crate::sink::control::{self, Control, one, query};
use crate::sink::objects::{self, Names};
use crate::sink::{ddl, sequences, words};
use freshet_core::check::{Finding, Findings, Severity};
use freshet_core::sink::TablePlan;
use freshet_core::{Error, ErrorKind, Result};
use std::collections::BTreeSet;
use tokio_postgres::Client;

/// Connections that a pipeline opens at most beside its loaders.
const CONNECTIONS_MIN: i64 = 4;

/// Checks the target: everything that can be told without changing it. A server that cannot be reached, or used at
/// all, is an error of its own.
pub async fn check(options: &SinkOptions, plans: &[TablePlan]) -> Result<Vec<Finding>> {
    let session = session::open(options).await?;
    let mut found = Findings::default();
    if let Err(error) = session::refuse_pooler(options, &session).await {
        found.add_error("target.pooler", "connection", &error);
    }
    server(options, &session, &mut found).await?;
    control_schema(options, &session.client, &mut found).await?;
    schemas(options, &session.client, plans, &mut found).await?;
    if plans.iter().any(|plan| sequences::of(plan).next().is_some()) {
        found.add(Severity::Info, "target.sequences", "sequences", sequences::NOT_FOLLOWED, "");
    }
    let names = Names::new(plans);
    for line in words::other_types(&session.client, plans).await? {
        found.add(
            Severity::Warning,
            "target.type",
            "types",
            line,
            "See that it has every value of the source's",
        );
    }
    for plan in plans {
        for line in objects::not_carried(plan, &names, session.replica_role) {
            found.add(Severity::Info, "target.not-carried", plan.target.to_string(), line, "");
        }
        one_table(options, &session, plan, &mut found).await?;
    }
    Ok(found.0)
}

async fn server(options: &SinkOptions, session: &Session, found: &mut Findings) -> Result<()> {
    let sql = "select current_setting('server_encoding'), pg_is_in_recovery(), \
               current_setting('max_connections')::int8, \
               (select count(*) from pg_stat_activity where backend_type = 'client backend'), \
               current_setting('fsync'), current_setting('full_page_writes')";
    let row = one(&session.client, sql, "Reading the server's settings").await?;
    let encoding: String = row.get(0);
    if encoding != "UTF8" {
        let message = format!("Its encoding is {encoding}, so some characters of the source have no place");
        let remedy = "Create the database with encoding UTF8";
        found.add(Severity::Error, "target.encoding", &options.connect.database, message, remedy);
    }
    if row.get::<_, bool>(1) {
        let remedy = "Point the sink at the primary server";
        found.add(
            Severity::Error,
            "target.standby",
            "server",
            "It is a standby and cannot be written",
            remedy,
        );
    }
    let (max, used): (i64, i64) = (row.get(2), row.get(3));
    if max - used < CONNECTIONS_MIN {
        let message = format!("{used} of {max} connections are in use");
        found.add(
            Severity::Warning,
            "target.connections",
            "max_connections",
            message,
            "Raise max_connections",
        );
    }
    for (name, value) in [("fsync", row.get::<_, String>(4)), ("full_page_writes", row.get(5))] {
        if value != "on" {
            let message = "It is off: a crash of the server may lose what was committed";
            found.add(Severity::Warning, "target.durability", name, message, format!("Set {name} = on"));
        }
    }
    if !session.replica_role {
        let message = "The role may not set it: foreign keys and triggers of the target act on our rows";
        let remedy = format!(
            "As a superuser: GRANT SET ON PARAMETER session_replication_role TO {}",
            ident(&options.connect.user)
        );
        found.add(Severity::Warning, "target.replica-role", "session_replication_role", message, remedy);
    }
    if options.connect.tls_ca_file.is_none() && options.connect.tls == crate::TlsMode::Require {
        let message = "The server's certificate is not verified without tls_ca_file";
        found.add(Severity::Info, "target.tls", "tls", message, "Set tls: verify-full");
    }
    Ok(())
}

async fn control_schema(options: &SinkOptions, client: &Client, found: &mut Findings) -> Result<()> {
    let schema = &options.control_schema;
    let (name, database) = (literal(schema), literal(&options.connect.database));
    let sql = format!(
        "select exists (select 1 from pg_namespace where nspname = {name}), \
         has_database_privilege({database}, 'create')"
    );
    let row = one(client, &sql, "Reading privileges").await?;
    let (there, may_create): (bool, bool) = (row.get(0), row.get(1));
    if !there && !may_create {
        let message = "The control schema is absent and the role may not create it";
        found.add(Severity::Error, "target.control-schema", schema, message, schema_grant(options, schema));
    }
    if there {
        let sql = format!("select has_schema_privilege({name}, 'create')");
        if !one(client, &sql, "Reading privileges").await?.get::<_, bool>(0) {
            let message = "The role may not create the control tables";
            found.add(
                Severity::Error,
                "target.control-schema",
                schema,
                message,
                schema_grant(options, schema),
            );
        }
    }
    Ok(())
}

fn schema_grant(options: &SinkOptions, schema: &str) -> String {
    let (schema, user) = (ident(schema), ident(&options.connect.user));
    format!(
        "CREATE SCHEMA IF NOT EXISTS {schema} AUTHORIZATION {user}; or GRANT USAGE, CREATE ON SCHEMA {schema} TO {user}"
    )
}

async fn schemas(
    options: &SinkOptions,
    client: &Client,
    plans: &[TablePlan],
    found: &mut Findings,
) -> Result<()> {
    let names: BTreeSet<&str> = plans.iter().map(|p| p.target.schema.as_str()).collect();
    for schema in names {
        let name = literal(schema);
        let sql = format!(
            "select has_schema_privilege(nspname, 'create') from pg_namespace where nspname = {name}"
        );
        let rows = query(client, &sql, "Reading privileges").await?;
        let may: bool = match rows.first() {
            Some(row) => row.get(0),
            None => {
                let sql = format!(
                    "select has_database_privilege({}, 'create')",
                    literal(&options.connect.database)
                );
                one(client, &sql, "Reading privileges").await?.get(0)
            }
        };
        if !may {
            let message = "The role may not create tables there";
            found.add(Severity::Error, "target.schema", schema, message, schema_grant(options, schema));
        }
    }
    Ok(())
}

async fn one_table(
    options: &SinkOptions,
    session: &Session,
    plan: &TablePlan,
    found: &mut Findings,
) -> Result<()> {
    let subject = plan.target.to_string();
    if let Err(error) = ddl::check_plan(plan) {
        found.add_error("target.table", &subject, &error);
        return Ok(());
    }
    let lines = ddl::not_carried(plan, &options.policies).into_iter();
    for line in lines.chain(plan.info.not_carried.iter().cloned()) {
        found.add(Severity::Info, "target.not-carried", &subject, line, "");
    }
    if plan.info.schema.key().is_empty() {
        let message = "It has no key: updates and deletes search the whole table for each row";
        found.add(
            Severity::Warning,
            "target.no-key",
            &subject,
            message,
            "Give the source table a primary key",
        );
    }
    let Some(target) = TargetTable::read(&session.client, &plan.target).await? else {
        return new_table(&session.client, plan, found).await;
    };
    for misfit in target.misfits(&plan.info, session.replica_role, false) {
        let remedy = "Change it, or let freshet make it (prepare: drop-and-create)";
        found.add(Severity::Error, "target.misfit", &subject, format!("It does not fit: {misfit}"), remedy);
    }
    for line in target.stricter(plan, session.replica_role) {
        let remedy = "See that the source's rows satisfy it";
        found.add(Severity::Warning, "target.stricter", &subject, line, remedy);
    }
    if options.policies.dates == DatePolicy::Null {
        let message = "policies.invalid_dates: null needs date columns without NOT NULL";
        found.add(Severity::Info, "target.dates", &subject, message, "");
    }
    let privileges = format!(
        "select string_agg(p, ', ') from unnest(array['select', 'insert', 'update', 'delete', 'truncate']) p \
         where not has_table_privilege({}, p)",
        literal(&table(&plan.target))
    );
    let missing: Option<String> = one(&session.client, &privileges, "Reading privileges").await?.get(0);
    if let Some(missing) = missing {
        let remedy =
            format!("GRANT {missing} ON {} TO {}", table(&plan.target), ident(&options.connect.user));
        found.add(
            Severity::Error,
            "target.privileges",
            &subject,
            format!("The role lacks {missing}"),
            remedy,
        );
    }
    Ok(())
}

/// What the target lacks that the table is to be made of.
async fn new_table(client: &Client, plan: &TablePlan, found: &mut Findings) -> Result<()> {
    let subject = plan.target.to_string();
    for line in words::missing_types(client, plan).await? {
        found.add(
            Severity::Error,
            "target.type",
            &subject,
            format!("It cannot be made: {line}"),
            words::TYPE_HINT,
        );
    }
    for collation in words::missing_collations(client, plan).await? {
        let message = format!("Collation {collation} is not there: its columns get the database's");
        found.add(Severity::Info, "target.not-carried", &subject, message, "");
    }
    Ok(())
}

/// The smallest grants for the sink's role, to be run by a superuser in the target database.
pub fn grants(options: &SinkOptions) -> String {
    let (user, database) = (ident(&options.connect.user), ident(&options.connect.database));
    let schema = ident(&options.control_schema);
    format!(
        "CREATE SCHEMA IF NOT EXISTS {schema} AUTHORIZATION {user};\n\
         -- for schemas that freshet makes; not needed where they exist\n\
         GRANT CREATE ON DATABASE {database} TO {user};\n\
         -- for every target schema that exists already\n\
         GRANT USAGE, CREATE ON SCHEMA public TO {user};\n\
         -- for chunks of tables with types that PostgreSQL sends as text only; everybody has it unless it was revoked\n\
         GRANT TEMPORARY ON DATABASE {database} TO {user};\n\
         -- keeps foreign keys and triggers of the target from acting on rows that come from the source\n\
         GRANT SET ON PARAMETER session_replication_role TO {user};\n"
    )
}

/// Forgets the pipeline on this sink: ends its sessions, deletes its control rows, and on request drops its target
/// tables. Returns what was done, one line each.
pub async fn reset(options: &SinkOptions, drop_tables: bool) -> Result<Vec<String>> {
    let session = session::open(options).await?;
    let client = &session.client;
    let control = Control::new(options);
    if !control.exists(client).await? {
        return Ok(vec!["nothing to forget: there is no control schema".to_owned()]);
    }
    control.ensure(client).await?;
    control.end_sessions(client, &[]).await?;
    control::run(client, "begin", "Resetting the sink").await?;
    control.lock(client).await?;
    let tables = control.tables(client).await?;
    let mut lines = Vec::new();
    if drop_tables && !tables.is_empty() {
        // At once: foreign keys between them keep each alone from being dropped.
        let names: Vec<String> = tables.iter().map(|state| table(&state.target)).collect();
        let sql = format!("drop table if exists {}", names.join(", "));
        control::run(client, &sql, "Dropping the tables").await.map_err(with_hint)?;
        lines.extend(tables.iter().map(|state| format!("table {} dropped", state.target)));
    }
    control.forget(client).await?;
    control::run(client, "commit", "Resetting the sink").await?;
    lines.push(format!("checkpoint and the state of {} tables forgotten", tables.len()));
    Ok(lines)
}

fn with_hint(error: Error) -> Error {
    match error.kind() {
        ErrorKind::Invalid => error.with_hint("Drop what depends on the tables first"),
        _ => error,
    }
}
