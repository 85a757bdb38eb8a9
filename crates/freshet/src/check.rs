//! `freshet check`: what stands between a configuration and a pipeline that runs.

use crate::args::CheckArgs;
use crate::config::{self, Config, Variables};
use crate::exit::Failure;
use crate::findings::{Finding, Severity, print_table};
use crate::target::environment;
use crate::{backend_check, log_dir_check};
use freshet_core::Error;
use std::io::{self, Write};

/// Runs the command.
pub fn run(args: &CheckArgs) -> Result<(), Failure> {
    let variables = if args.syntax { Variables::Unknown } else { Variables::From(&environment) };
    let config = config::load(&args.file, variables)
        .map_err(|refused| Failure::Refused { file: args.file.clone(), refused })?;
    let mut out = io::stdout().lock();
    if args.grants {
        return grants(&mut out, &config, args.json);
    }
    let mut findings = of_configuration(&config);
    if !args.syntax {
        findings.extend(log_dir_check::check(&config.log));
        findings.extend(of_servers(&config)?);
    }
    print(&mut out, &findings, args)?;
    if findings.iter().any(|finding| finding.severity == Severity::Error) {
        return Err(Failure::Findings);
    }
    Ok(())
}

fn print(out: &mut impl Write, findings: &[Finding], args: &CheckArgs) -> Result<(), Failure> {
    if args.json {
        serde_json::to_writer_pretty(&mut *out, findings)?;
        writeln!(out)?;
    } else if findings.is_empty() {
        let result = if args.syntax { "can be read" } else { "is ready to run" };
        writeln!(out, "{} {result}", args.file.display())?;
    } else {
        print_table(out, findings)?;
    }
    Ok(out.flush()?)
}

fn of_configuration(config: &Config) -> Vec<Finding> {
    let finding = |warning: &config::Problem| Finding {
        severity: Severity::Warning,
        place: "configuration".to_owned(),
        code: "configuration",
        subject: warning.key.clone(),
        message: warning.message.clone(),
        remedy: warning.hint.clone(),
    };
    config.warnings.iter().map(finding).collect()
}

fn of_servers(config: &Config) -> Result<Vec<Finding>, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::internal(format!("The runtime cannot be started: {e}")))?;
    Ok(runtime.block_on(backend_check::check(config)))
}

fn grants(out: &mut impl Write, config: &Config, json: bool) -> Result<(), Failure> {
    let parts = backend_check::grants(config);
    if json {
        let objects: Vec<serde_json::Value> = parts
            .iter()
            .map(|(place, statements)| serde_json::json!({ "place": place, "statements": statements }))
            .collect();
        serde_json::to_writer_pretty(&mut *out, &objects)?;
        writeln!(out)?;
    } else {
        for (place, statements) in parts {
            writeln!(out, "-- {place}")?;
            statements.iter().try_for_each(|statement| writeln!(out, "{statement}"))?;
            writeln!(out)?;
        }
    }
    Ok(out.flush()?)
}
