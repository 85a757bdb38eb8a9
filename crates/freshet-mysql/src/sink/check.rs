//! What a target must have before a pipeline is started, each finding with its remedy; the minimal grants; the reset.
//!
//! Reads only, but for [`reset`]. The tables are looked at as preparation would: what it would refuse is an error here.

use crate::catalog::{sql_name, sql_string};
use crate::check::{Held, account, grant_ident};
use crate::sink::catalog::{Fit, TargetTable};
use crate::sink::control::Control;
use crate::sink::ddl;
use crate::sink::options::SinkOptions;
use crate::sink::printed::Names;
use crate::sink::privileges::{HIDDEN_TRIGGERS, sees_triggers};
use crate::sink::session::{self, Session};
use freshet_core::check::{Finding, Findings, Severity};
use freshet_core::sink::TablePlan;
use freshet_core::{Error, ErrorKind, Result, TableName};
use std::collections::BTreeSet;

/// Checks the target: everything that can be told without changing it. A server that cannot be reached, or used at
/// all, is an error of its own.
pub async fn check(options: &SinkOptions, plans: &[TablePlan]) -> Result<Vec<Finding>> {
    let mut session = session::open(options).await?;
    let mut found = Findings::default();
    durability(&session, &mut found);
    server(options, &session, &mut found);
    privileges(options, &mut session, plans, &mut found).await?;
    let names = Names::new(plans);
    for plan in plans {
        one_table(&mut session, plan, &names, &mut found).await?;
    }
    Ok(found.0)
}

/// Settings under which a crash of the server loses what was committed: then its checkpoint and its rows go back
/// together, unless another server took over meanwhile.
fn durability(session: &Session, found: &mut Findings) {
    let server = &session.server;
    if server.variable("innodb_flush_log_at_trx_commit").is_some_and(|v| v != "1") {
        let message = "It is not 1: a crash of the server may lose what was committed";
        let remedy = "Set innodb_flush_log_at_trx_commit = 1";
        found.add(Severity::Warning, "target.durability", "innodb_flush_log_at_trx_commit", message, remedy);
    }
    if server.is_on("log_bin") && server.variable("sync_binlog").is_some_and(|v| v != "1") {
        let message = "It is not 1: a crash may leave the target's own replicas without what was committed";
        found.add(Severity::Warning, "target.durability", "sync_binlog", message, "Set sync_binlog = 1");
    }
    if server.variable("innodb_doublewrite").is_some_and(|v| v.eq_ignore_ascii_case("off") || v == "0") {
        let message = "It is off: a crash may damage pages";
        found.add(Severity::Warning, "target.durability", "innodb_doublewrite", message, "Set it to ON");
    }
}

fn server(options: &SinkOptions, session: &Session, found: &mut Findings) {
    let server = &session.server;
    let is_statement = server.variable("binlog_format").is_some_and(|v| v.eq_ignore_ascii_case("statement"));
    if server.is_on("log_bin") && is_statement {
        let message = "It is STATEMENT, with which READ COMMITTED cannot write";
        found.add(
            Severity::Error,
            "target.binlog-format",
            "binlog_format",
            message,
            "Set binlog_format = ROW",
        );
    }
    if server.is_on("wsrep_on") {
        let message = "The server is a member of a Galera cluster: the sink is fenced on this member only";
        let remedy = "Point the sink at this one member, not at a balancer";
        found.add(Severity::Warning, "target.galera", "wsrep_on", message, remedy);
    }
    if options.connect.tls_ca_file.is_none() && options.connect.tls == crate::wire::TlsMode::Require {
        let message = "The server's certificate is not verified without tls_ca_file";
        found.add(Severity::Info, "target.tls", "tls", message, "Set tls: verify-full");
    }
}

/// On tables of the control schema, and on those of the target.
const CONTROL_PRIVILEGES: [&str; 5] = ["SELECT", "INSERT", "UPDATE", "DELETE", "CREATE"];
const TABLE_PRIVILEGES: [&str; 10] =
    ["SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "DROP", "ALTER", "INDEX", "REFERENCES", "TRIGGER"];

async fn privileges(
    options: &SinkOptions,
    session: &mut Session,
    plans: &[TablePlan],
    found: &mut Findings,
) -> Result<()> {
    let flavour = session.server.flavour;
    let held = Held::read(&mut session.connection, flavour).await?;
    let user = session.query("select current_user()", "Reading the account's name").await?;
    let account = account(user.first(0).unwrap_or_default());
    let targets: BTreeSet<&str> = plans.iter().map(|plan| plan.target.schema.as_str()).collect();
    let needed = targets.into_iter().map(|schema| (schema, &TABLE_PRIVILEGES[..]));
    for (schema, needed) in needed.chain([(options.control_schema.as_str(), &CONTROL_PRIVILEGES[..])]) {
        let lacks = held.lacks_on(schema, needed).join(", ");
        if !lacks.is_empty() {
            let message = format!("The account lacks {lacks} on database {schema}");
            let remedy = format!("GRANT {lacks} ON {}.* TO {account};", grant_ident(schema));
            found.add(Severity::Error, "target.privilege", schema, message, remedy);
        }
    }
    Ok(())
}

async fn one_table(
    session: &mut Session,
    plan: &TablePlan,
    names: &Names<'_>,
    found: &mut Findings,
) -> Result<()> {
    let subject = plan.target.to_string();
    if let Err(error) = ddl::check_plan(plan, session.facts) {
        found.add_error("target.table", &subject, &error);
        return Ok(());
    }
    for line in ddl::not_carried(plan, session.facts, names) {
        found.add(Severity::Info, "target.not-carried", &subject, line, "");
    }
    if plan.info.schema.key().is_empty() {
        let message = "It has no key: updates and deletes search the whole table for each row";
        let remedy = "Give the source table a primary key";
        found.add(Severity::Warning, "target.no-key", &subject, message, remedy);
    }
    let target = match TargetTable::read(session, &plan.target).await {
        Ok(Some(target)) => target,
        Ok(None) => return Ok(()),
        Err(error) if *error.kind() == ErrorKind::Invalid => {
            found.add_error("target.table", &subject, &error);
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    if !sees_triggers(session, &plan.target).await? {
        let message = "It may have triggers that this account is not shown";
        found.add(Severity::Error, "target.triggers", &subject, message, HIDDEN_TRIGGERS);
    }
    for misfit in target.misfits(&plan.info, Fit::Given { keeps_rows: false }) {
        let remedy = "Change it, or let freshet make it (prepare: drop-and-create)";
        found.add(Severity::Error, "target.misfit", &subject, format!("It does not fit: {misfit}"), remedy);
    }
    for line in target.stricter(plan) {
        let remedy = "See that the source's rows satisfy it";
        found.add(Severity::Warning, "target.stricter", &subject, line, remedy);
    }
    Ok(())
}

/// Statements that make the sink's account and give it what it needs, and no more, to be run by an administrator of the
/// target. `databases` are those of the target tables; none stands for every database. The password is for whoever runs
/// them to fill in. TRIGGER shows triggers, which are refused.
pub fn grants(options: &SinkOptions, databases: &[String]) -> Vec<String> {
    let account = format!("{}@'%'", sql_string(&options.connect.user));
    let control = grant_ident(&options.control_schema);
    let mut statements = vec![
        format!("CREATE USER {account} IDENTIFIED BY 'PASSWORD';"),
        format!("GRANT {} ON {control}.* TO {account};", CONTROL_PRIVILEGES.join(", ")),
    ];
    let on_tables = TABLE_PRIVILEGES.join(", ");
    let mut grant = |place: &str| statements.push(format!("GRANT {on_tables} ON {place}.* TO {account};"));
    if databases.is_empty() {
        grant("*");
    }
    databases.iter().for_each(|database| grant(&grant_ident(database)));
    statements
}

/// Forgets the pipeline on this sink: ends its sessions, deletes its control rows, and on request drops its target
/// tables. Returns what was done, one line each.
pub async fn reset(options: &SinkOptions, drop_tables: bool) -> Result<Vec<String>> {
    let mut session = session::open(options).await?;
    let control = Control::new(options);
    if !control.exists(&mut session).await? {
        return Ok(vec!["nothing to forget: there is no control schema".to_owned()]);
    }
    control.ensure(&mut session).await?;
    control.end_sessions(&mut session, &[]).await?;
    session.run("start transaction", "Resetting the sink").await?;
    control.lock(&mut session).await?;
    let tables = control.tables(&mut session).await?;
    control.forget(&mut session).await?;
    // Whoever begins the pipeline again meanwhile ends this connection, and waits until no DROP can follow.
    control.register_reset(&mut session).await?;
    session.run("commit", "Resetting the sink").await?;
    let mut lines = vec![format!("checkpoint and the state of {} tables forgotten", tables.len())];
    // Dropping commits by itself, and so would have given the lock back. What a crash leaves is refused at the next
    // start, since it has rows.
    for recorded in tables.iter().filter(|_| drop_tables) {
        let target = &recorded.state.target;
        let sql = format!("drop table if exists {}", sql_name(target));
        let dropped = session.run(&sql, format!("Dropping {target}")).await;
        dropped.map_err(|error| with_table(error, target))?;
        lines.push(format!("table {target} dropped"));
    }
    control.unregister(&mut session).await?;
    Ok(lines)
}

fn with_table(error: Error, target: &TableName) -> Error {
    match error.kind() {
        ErrorKind::Invalid => error.with_hint(format!("Drop what depends on {target} first")),
        _ => error,
    }
}
