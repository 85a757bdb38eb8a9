//! From the text of a file to a [`Config`]: every key, its default and its check stand here, in the order of the
//! file. docs/configuration.md says the same for people.

use super::problem::Problem;
use super::section::{Context, Section, io_reason};
use super::tree;
use super::units::{size_bytes, time_ms};
use super::{
    ClientCertificate, Config, Endpoint, InvalidDates, LoadConfig, LogConfig, Mode, NulInText, Policies,
    PostgresSource, Prepare, ServerKind, SinkConfig, SourceConfig, TlsMode, UndecodableText, Variables,
};
use freshet_mapping::{Pattern, Selection};
use freshet_pipeline::bounds;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A configuration file is never larger.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// A name is part of keys, of application names and of files: bytes at most.
const NAME_BYTES_MAX: usize = 63;
/// `log.bytes_max` unless given.
const LOG_BYTES_MAX: u64 = 10 << 30;
/// A log smaller than this could not hold one segment and the next.
const LOG_BYTES_MIN: u64 = 64 << 20;
/// `log.retain` unless given.
const LOG_RETAIN_MS: u64 = 3_600_000;
/// Most parallel readers of a load.
const READERS_MAX: usize = 64;

/// A file that cannot be used, with everything that is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// At least one.
    pub problems: Vec<Problem>,
}

impl Refused {
    fn one(line: u64, message: impl Into<String>, hint: Option<&str>) -> Self {
        let hint = hint.map(str::to_owned);
        Self { problems: vec![Problem { line, key: String::new(), message: message.into(), hint }] }
    }
}

/// Reads a file.
pub fn load(file: &Path, variables: Variables<'_>) -> Result<Config, Refused> {
    let text = read(file)?;
    parse(&text, &directory(file), variables)
}

/// The log directory that a file names. The rest of the file is not looked at but for being YAML: no secret is
/// needed to look into a log.
pub fn log_dir(file: &Path, variables: Variables<'_>) -> Result<PathBuf, Refused> {
    let text = read(file)?;
    with_root(&text, &directory(file), variables, |root| {
        root.section("log").map(|section| section.path("dir"))
    })
    .map(|(dir, _)| dir)
}

/// Reads a file's text; relative paths are relative to `dir`.
pub fn parse(text: &str, dir: &Path, variables: Variables<'_>) -> Result<Config, Refused> {
    with_root(text, dir, variables, pipeline).map(|(config, warnings)| Config { warnings, ..config })
}

/// The directory of a file, whole, so that messages about what lies in it say where that is.
fn directory(file: &Path) -> PathBuf {
    let whole = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    whole.parent().map_or_else(|| PathBuf::from("."), Path::to_owned)
}

fn read(file: &Path) -> Result<String, Refused> {
    let unreadable =
        |e: &std::io::Error| Refused::one(0, format!("It cannot be read: {}", io_reason(e)), None);
    let about = std::fs::metadata(file).map_err(|e| unreadable(&e))?;
    if about.is_dir() {
        return Err(Refused::one(0, "It is a directory", Some("Name the pipeline's YAML file")));
    }
    if about.len() > FILE_BYTES_MAX {
        return Err(Refused::one(0, format!("It is larger than {FILE_BYTES_MAX} bytes"), None));
    }
    let bytes = std::fs::read(file).map_err(|e| unreadable(&e))?;
    String::from_utf8(bytes).map_err(|_| Refused::one(0, "It is not UTF-8", None))
}

/// What `read` makes of the document, and the warnings; or every problem that it noted.
fn with_root<T>(
    text: &str,
    dir: &Path,
    variables: Variables<'_>,
    read: impl FnOnce(Section<'_>) -> Option<T>,
) -> Result<(T, Vec<Problem>), Refused> {
    let hint = "Put a value with special characters, such as * or {, in double quotes";
    let root = tree::parse(text).map_err(|e| Refused::one(e.line, e.message, Some(hint)))?;
    let context = Context { variables, dir, problems: Default::default(), warnings: Default::default() };
    let value = read(Section::new(&context, String::new(), &root));
    let mut problems = context.problems.take();
    match value {
        Some(value) if problems.is_empty() => Ok((value, context.warnings.take())),
        Some(_) | None => {
            problems.sort_by_key(|p| p.line);
            problems.dedup();
            Err(Refused { problems })
        }
    }
}

fn pipeline(root: Section<'_>) -> Option<Config> {
    let name = name(&root, "name");
    let modes = [("load", Mode::Load), ("load-and-stream", Mode::LoadAndStream), ("stream", Mode::Stream)];
    let mode = root.choice("mode", &modes);
    let source = root.section("source").and_then(source);
    let selection = root.section("tables").and_then(tables);
    let log = root.section("log").map(log);
    let sinks: Vec<Option<SinkConfig>> =
        root.sections("sinks").into_iter().map(|section| sink(section, mode)).collect();
    let load = load_settings(root.optional_section("load"));
    let sinks: Option<Vec<SinkConfig>> = sinks.into_iter().collect();
    if let Some(sinks) = &sinks {
        check_sinks(&root, sinks);
    }
    root.finish();
    Some(Config {
        name,
        mode: mode?,
        source: source?,
        selection: selection?,
        log: log?,
        sinks: sinks?,
        load,
        warnings: Vec::new(),
    })
}

fn name(section: &Section<'_>, key: &'static str) -> String {
    let name = section.text(key);
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !name.is_empty() && (name.len() > NAME_BYTES_MAX || !name.chars().all(plain)) {
        let message = format!("Must be letters, digits, - and _, {NAME_BYTES_MAX} at most");
        section.invalid(key, &message, None);
    }
    name
}

/// The words for a server.
const KINDS: [(&str, ServerKind); 3] =
    [("mariadb", ServerKind::Mariadb), ("mysql", ServerKind::Mysql), ("postgres", ServerKind::Postgres)];

/// Keys that mean nothing for this server are refused rather than ignored.
fn refuse_keys(section: &Section<'_>, keys: &[&'static str], what: &str) {
    for key in keys.iter().filter(|key| section.has(key)) {
        section.invalid(key, &format!("Is not a key of this type of {what}"), Some(format!("Remove {key}")));
    }
}

fn source(section: Section<'_>) -> Option<SourceConfig> {
    let kind = section.choice("type", &KINDS);
    let is_postgres = kind == Some(ServerKind::Postgres);
    let endpoint = endpoint(&section, if is_postgres { 5432 } else { 3306 });
    let server_id = section.parsed("server_id", "a whole number from 1 to 4294967295", |t| {
        t.parse::<u32>().ok().filter(|id| *id > 0)
    });
    let heartbeat_ms = section.parsed("heartbeat_ms", "milliseconds from 100 to 30000", |t| {
        t.parse::<u64>().ok().filter(|ms| (100..=30_000).contains(ms))
    });
    let database = if is_postgres { section.text("database") } else { String::new() };
    let (slot, publication) = (section.optional_text("slot"), section.optional_text("publication"));
    if slot.as_deref().is_some_and(|slot| !is_slot_name(slot)) {
        section.invalid("slot", "Must be lower-case letters, digits and _, 63 at most", None);
    }
    let dropped = [("stop", false), ("keep", true)];
    let dropped = section.optional_choice("dropped_partitions", &dropped);
    match kind {
        Some(ServerKind::Postgres) => refuse_keys(&section, &["server_id", "heartbeat_ms"], "source"),
        Some(_) => {
            refuse_keys(&section, &["database", "slot", "publication", "dropped_partitions"], "source");
        }
        None => {}
    }
    section.finish();
    let keeps_dropped_partitions = dropped.unwrap_or_default();
    let postgres = PostgresSource { database, slot, publication, keeps_dropped_partitions };
    Some(SourceConfig { kind: kind?, endpoint, server_id, heartbeat_ms, postgres })
}

/// What PostgreSQL takes as a slot's name.
fn is_slot_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.chars().all(plain)
}

fn client_certificate(section: &Section<'_>, tls: TlsMode) -> Option<ClientCertificate> {
    let keys = ["tls_cert_file", "tls_key_file"];
    let [cert_file, key_file] = keys.map(|key| section.optional_path(key));
    let given = if cert_file.is_some() { keys[0] } else { keys[1] };
    match (cert_file, key_file) {
        (None, None) => None,
        (Some(_), Some(_)) if tls == TlsMode::Disable => {
            let hint = "Write tls: verify-full, or remove tls_cert_file and tls_key_file".to_owned();
            section.invalid(given, "Has no effect with tls: disable", Some(hint));
            None
        }
        (Some(cert_file), Some(key_file)) => Some(ClientCertificate { cert_file, key_file }),
        _ => {
            section.invalid(given, "Needs both tls_cert_file and tls_key_file", None);
            None
        }
    }
}

fn endpoint(section: &Section<'_>, port_default: u16) -> Endpoint {
    let host = section.text("host");
    let port = section.parsed("port", "a port from 1 to 65535", |t| t.parse::<u16>().ok().filter(|p| *p > 0));
    let user = section.text("user");
    let password = section.password();
    let tls_words =
        [("disable", TlsMode::Disable), ("require", TlsMode::Require), ("verify-full", TlsMode::VerifyFull)];
    let tls = section.optional_choice("tls", &tls_words).unwrap_or(TlsMode::Disable);
    let tls_ca_file = section.optional_path("tls_ca_file");
    match tls {
        TlsMode::Disable if tls_ca_file.is_some() => {
            let hint = "Write tls: verify-full, or remove tls_ca_file".to_owned();
            section.invalid("tls_ca_file", "Has no effect with tls: disable", Some(hint));
        }
        TlsMode::Disable if !is_local(&host) => {
            let message = "Passwords and rows cross the network unprotected";
            section.unwise("tls", message, "Write tls: verify-full");
        }
        TlsMode::Require if tls_ca_file.is_none() => {
            let message = "The server's certificate is not verified";
            section.unwise("tls", message, "Write tls: verify-full");
        }
        TlsMode::Disable | TlsMode::Require | TlsMode::VerifyFull => {}
    }
    let tls_client = client_certificate(section, tls);
    Endpoint { host, port: port.unwrap_or(port_default), user, password, tls, tls_ca_file, tls_client }
}

fn is_local(host: &str) -> bool {
    host.is_empty()
        || host.starts_with('/')
        || host == "localhost"
        || host == "::1"
        || host.starts_with("127.")
}

fn tables(section: Section<'_>) -> Option<Selection> {
    let include = patterns(&section, "include");
    let exclude = patterns(&section, "exclude").unwrap_or_default();
    if include.as_ref().is_none_or(Vec::is_empty) {
        let hint = "List the tables to capture, as in include: [\"shop.*\"]".to_owned();
        section.invalid("include", "No table is included", Some(hint));
    }
    section.finish();
    Selection::new(&include?, &exclude).ok()
}

/// A list of patterns, each of which is checked.
fn patterns(section: &Section<'_>, key: &'static str) -> Option<Vec<String>> {
    let texts = section.texts(key)?;
    for error in texts.iter().filter_map(|text| Pattern::parse(text).err()) {
        section.invalid(key, error.message(), error.hint().map(str::to_owned));
    }
    Some(texts)
}

fn log(section: Section<'_>) -> LogConfig {
    let dir = section.path("dir");
    let bytes_max = section.parsed("bytes_max", "a size such as 512MiB or 10GiB, 64MiB at least", |t| {
        size_bytes(t).filter(|bytes| *bytes >= LOG_BYTES_MIN)
    });
    let retain_ms = section.parsed("retain", "a time such as 30m or 1h", time_ms);
    // `durable` is the only one of ALGORITHMS 1.3 that is built.
    section.optional_choice("acknowledge", &[("durable", ())]);
    section.finish();
    LogConfig {
        dir,
        bytes_max: bytes_max.unwrap_or(LOG_BYTES_MAX),
        retain_ms: retain_ms.unwrap_or(LOG_RETAIN_MS),
    }
}

fn sink(section: Section<'_>, mode: Option<Mode>) -> Option<SinkConfig> {
    let name = name(&section, "name");
    let kind = section.choice("type", &KINDS);
    let has_database = matches!(kind, None | Some(ServerKind::Postgres));
    let endpoint = endpoint(&section, if has_database { 5432 } else { 3306 });
    let database = if has_database { section.text("database") } else { String::new() };
    if !has_database {
        refuse_keys(&section, &["database"], "sink");
    }
    let schemas: BTreeMap<String, String> = section.pairs("schemas").into_iter().collect();
    let prepares = [
        ("create", Prepare::Create),
        ("truncate", Prepare::Truncate),
        ("drop-and-create", Prepare::DropAndCreate),
    ];
    let prepare = section.optional_choice("prepare", &prepares);
    if mode == Some(Mode::Stream) && section.has("prepare") {
        let hint = "Mode stream uses the tables that are there: remove prepare".to_owned();
        section.invalid("prepare", "Has no effect in mode stream", Some(hint));
    }
    let control_schema = section.optional_text("control_schema").unwrap_or_else(|| "freshet".to_owned());
    if schemas.values().any(|schema| *schema == control_schema) {
        section.invalid("control_schema", "Is also the schema of captured tables", None);
    }
    let policies = policies(section.optional_section("policies"), kind);
    section.finish();
    let (kind, prepare) = (kind?, prepare.unwrap_or(Prepare::Create));
    Some(SinkConfig { name, kind, endpoint, database, schemas, prepare, control_schema, policies })
}

fn policies(section: Option<Section<'_>>, kind: Option<ServerKind>) -> Policies {
    let mut policies = Policies {
        invalid_dates: InvalidDates::Stop,
        nul_in_text: NulInText::Stop,
        undecodable_text: UndecodableText::Stop,
    };
    let Some(section) = section else { return policies };
    let dates = [("stop", InvalidDates::Stop), ("null", InvalidDates::Null)];
    let nul = [("stop", NulInText::Stop), ("strip", NulInText::Strip), ("replace", NulInText::Replace)];
    let text = [("stop", UndecodableText::Stop), ("replace", UndecodableText::Replace)];
    if matches!(kind, Some(ServerKind::Mariadb | ServerKind::Mysql)) {
        refuse_keys(&section, &["nul_in_text"], "sink");
    }
    policies.invalid_dates =
        section.optional_choice("invalid_dates", &dates).unwrap_or(policies.invalid_dates);
    policies.nul_in_text = section.optional_choice("nul_in_text", &nul).unwrap_or(policies.nul_in_text);
    policies.undecodable_text =
        section.optional_choice("undecodable_text", &text).unwrap_or(policies.undecodable_text);
    section.finish();
    policies
}

fn load_settings(section: Option<Section<'_>>) -> LoadConfig {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let mut load = LoadConfig { readers: cores.clamp(2, READERS_MAX), chunk_rows: bounds::CHUNK_ROWS };
    let Some(section) = section else { return load };
    let readers = section.parsed("readers", &format!("a whole number from 1 to {READERS_MAX}"), |t| {
        t.parse::<usize>().ok().filter(|n| (1..=READERS_MAX).contains(n))
    });
    let chunk_rows = section.parsed("chunk_rows", "a whole number from 1000 to 100000000", |t| {
        t.parse::<u64>().ok().filter(|n| (1_000..=100_000_000).contains(n))
    });
    load.readers = readers.unwrap_or(load.readers);
    load.chunk_rows = chunk_rows.unwrap_or(load.chunk_rows);
    section.finish();
    load
}

/// What concerns the sinks together.
fn check_sinks(root: &Section<'_>, sinks: &[SinkConfig]) {
    for (i, sink) in sinks.iter().enumerate() {
        if sinks[..i].iter().any(|other| other.name == sink.name) {
            let message = format!("Two sinks are named {}", sink.name);
            root.invalid("sinks", &message, Some("A sink's name is the key of its checkpoint".to_owned()));
        }
    }
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
