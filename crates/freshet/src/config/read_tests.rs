//! What a file gives and what is refused: `check(yaml, expected)`.

use super::*;
use crate::config::Secret;
use std::fs;

fn variables(name: &str) -> Option<String> {
    match name {
        "SHOP_PASSWORD" => Some("s3cret".to_owned()),
        "PORT" => Some("3307".to_owned()),
        _ => None,
    }
}

const SHOP: &str = r#"
name: shop
mode: load-and-stream
source: { type: mariadb, host: 127.0.0.1, port: 3306, user: freshet, password: "${SHOP_PASSWORD}", tls: disable }
tables: { include: ["shop.*"], exclude: ["shop.tmp_*"] }
log: { dir: data/shop, bytes_max: 10GiB }
sinks:
  - { name: warehouse, type: postgres, host: 127.0.0.1, port: 5432, database: warehouse, user: freshet, schemas: { shop: public } }
"#;

fn read(yaml: &str) -> Result<Config, Refused> {
    parse(yaml, Path::new("/etc/freshet"), Variables::From(&variables))
}

/// The problems of `yaml`, one line each: `place: message [hint]`.
fn check(yaml: &str, expected: &[&str]) {
    let problems = match read(yaml) {
        Ok(_) => Vec::new(),
        Err(refused) => refused.problems,
    };
    let got: Vec<String> = problems
        .iter()
        .map(|p| p.hint.as_ref().map_or_else(|| p.to_string(), |hint| format!("{p} [{hint}]")))
        .collect();
    assert_eq!(got, expected, "{yaml}");
}

/// The sample with one text replaced.
fn with(from: &str, to: &str) -> String {
    assert!(SHOP.contains(from), "{from}");
    SHOP.replace(from, to)
}

#[test]
fn the_sample_is_read() {
    let config = read(SHOP).expect("valid");
    assert_eq!((config.name.as_str(), config.mode), ("shop", Mode::LoadAndStream));
    let source = &config.source;
    assert_eq!((source.kind, source.endpoint.port), (ServerKind::Mariadb, 3306));
    assert_eq!(source.endpoint.password, Some(Secret::new("s3cret")));
    assert_eq!(config.log.dir, Path::new("/etc/freshet/data/shop"));
    assert_eq!((config.log.bytes_max, config.log.retain_ms), (10 << 30, 3_600_000));
    let sink = &config.sinks[0];
    assert_eq!(
        (sink.name.as_str(), sink.database.as_str(), sink.prepare),
        ("warehouse", "warehouse", Prepare::Create)
    );
    assert_eq!(sink.schemas["shop"], "public");
    assert_eq!(sink.control_schema, "freshet");
    assert!(config.load.readers >= 2 && config.load.chunk_rows > 0);
    assert_eq!(config.warnings, []);
}

#[test]
fn every_key_is_read() {
    let yaml =
        with("tls: disable }", "tls: verify-full, tls_ca_file: ca.pem, tls_cert_file: own.pem, tls_key_file: /own.key, server_id: 17, heartbeat_ms: 2000 }")
            .replace("port: 3306", "port: \"${PORT}\"")
            .replace("10GiB", "512MiB, retain: 5m, acknowledge: durable")
            .replace(
                "schemas: { shop: public }",
                "prepare: drop-and-create, control_schema: cdc, tls: require, tls_ca_file: /ca.pem, \
             policies: { invalid_dates: \"null\", nul_in_text: strip, undecodable_text: replace }",
            )
            + "load: { readers: 3, chunk_rows: 1000 }\n";
    assert!(read(&yaml.replace("\"null\"", "null")).is_ok());
    let config = read(&yaml).expect("valid");
    let source = &config.source;
    assert_eq!((source.server_id, source.heartbeat_ms, source.endpoint.port), (Some(17), Some(2000), 3307));
    assert_eq!(source.endpoint.tls, TlsMode::VerifyFull);
    assert_eq!(source.endpoint.tls_ca_file.as_deref(), Some(Path::new("/etc/freshet/ca.pem")));
    let own = source.endpoint.tls_client.as_ref().expect("given");
    assert_eq!(
        (own.cert_file.as_path(), own.key_file.as_path()),
        (Path::new("/etc/freshet/own.pem"), Path::new("/own.key"))
    );
    assert_eq!((config.log.bytes_max, config.log.retain_ms), (512 << 20, 300_000));
    let sink = &config.sinks[0];
    assert_eq!((sink.prepare, sink.control_schema.as_str()), (Prepare::DropAndCreate, "cdc"));
    assert_eq!(sink.endpoint.tls_ca_file.as_deref(), Some(Path::new("/ca.pem")));
    let expect = Policies {
        invalid_dates: InvalidDates::Null,
        nul_in_text: NulInText::Strip,
        undecodable_text: UndecodableText::Replace,
    };
    assert_eq!(sink.policies, expect);
    assert_eq!(config.load, LoadConfig { readers: 3, chunk_rows: 1000 });
}

#[test]
fn unknown_and_misspelt_keys_are_refused_with_their_line() {
    check(
        &with("mode:", "moed:"),
        &[
            "line 2, mode: Is missing [Write one of load, load-and-stream, stream]",
            "line 3, moed: Is not a key that freshet knows [Did you mean mode?]",
        ],
    );
    check(
        &with("host: 127.0.0.1, port: 5432", "hosts: 127.0.0.1, port: 5432"),
        &[
            "line 8, sinks[0].host: Is missing",
            "line 8, sinks[0].hosts: Is not a key that freshet knows [Did you mean host?]",
        ],
    );
    check(
        &with("bytes_max: 10GiB", "bytes_max: 10GiB, colour: red"),
        &[
            "line 6, log.colour: Is not a key that freshet knows [Known keys here: acknowledge, bytes_max, dir, retain]",
        ],
    );
    check(
        &with("schemas: { shop: public }", "policies: { invalid_date: stop }"),
        &[
            "line 8, sinks[0].policies.invalid_date: Is not a key that freshet knows [Did you mean invalid_dates?]",
        ],
    );
}

#[test]
fn every_problem_is_told_at_once() {
    let yaml = with("mariadb", "mariadbb")
        .replace("port: 3306", "port: 99999")
        .replace("10GiB", "10G")
        .replace("shop.tmp_*", "tmp")
        .replace("${SHOP_PASSWORD}", "${NOT_THERE}");
    check(
        &yaml,
        &[
            "line 4, source.type: \"mariadbb\" is not one of mariadb, mysql, postgres [Did you mean mariadb?]",
            "line 4, source.port: Must be a port from 1 to 65535",
            "line 4, source.password: Environment variable NOT_THERE is not set",
            "line 5, tables.exclude: Table pattern \"tmp\" names no table [Write schema.table, with * and ? as wildcards and backticks around a part with a dot]",
            "line 6, log.bytes_max: Must be a size such as 512MiB or 10GiB, 64MiB at least",
        ],
    );
}

#[test]
fn values_are_checked() {
    check("", &["line 1: Must be a map of keys"]);
    check(
        &with("name: shop", "name: my shop"),
        &["line 2, name: Must be letters, digits, - and _, 63 at most"],
    );
    check(
        &with("tls: disable", "tls:"),
        &["line 4, source.tls: \"\" is not one of disable, require, verify-full"],
    );
    check(&with("name: shop", "name:"), &["line 2, name: Is empty"]);
    check(
        &with("[\"shop.*\"]", "[]"),
        &[
            "line 5, tables.include: No table is included [List the tables to capture, as in include: [\"shop.*\"]]",
        ],
    );
    check(
        &with("[\"shop.*\"]", "shop.x"),
        &[
            "line 5, tables.include: Must be a list, as in [\"shop.*\"]",
            "line 5, tables.include: No table is included [List the tables to capture, as in include: [\"shop.*\"]]",
        ],
    );
    check(
        &with("tls: disable", "tls: verify_full"),
        &[
            "line 4, source.tls: \"verify_full\" is not one of disable, require, verify-full [Did you mean verify-full?]",
        ],
    );
    check(
        &with("tls: disable", "tls_ca_file: ca.pem"),
        &[
            "line 4, source.tls_ca_file: Has no effect with tls: disable [Write tls: verify-full, or remove tls_ca_file]",
        ],
    );
    let both = "Write tls: verify-full, or remove tls_cert_file and tls_key_file";
    check(
        &with("tls: disable", "tls_cert_file: a.pem, tls_key_file: a.key"),
        &[&format!("line 4, source.tls_cert_file: Has no effect with tls: disable [{both}]")],
    );
    check(
        &with("tls: disable", "tls: verify-full, tls_key_file: a.key"),
        &["line 4, source.tls_key_file: Needs both tls_cert_file and tls_key_file"],
    );
    check(
        &with("10GiB", "10GiB, acknowledge: applied"),
        &["line 6, log.acknowledge: \"applied\" is not one of durable"],
    );
    check(
        &with("schemas: { shop: public }", "schemas: { shop: freshet }"),
        &["line 8, sinks[0].control_schema: Is also the schema of captured tables"],
    );
    check(
        &with("mode: load-and-stream", "mode: stream")
            .replace("schemas: { shop: public }", "prepare: create"),
        &[
            "line 8, sinks[0].prepare: Has no effect in mode stream [Mode stream uses the tables that are there: remove prepare]",
        ],
    );
    check(
        &with("tls: disable", "server_id: 0"),
        &["line 4, source.server_id: Must be a whole number from 1 to 4294967295"],
    );
}

#[test]
fn several_sinks() {
    let second = "  - { name: lake, type: postgres, host: ::1, database: d, user: u }\n";
    assert_eq!(read(&format!("{SHOP}{second}")).expect("valid").sinks.len(), 2);
    check(
        &format!("{SHOP}{}", second.replace("lake", "warehouse")),
        &["line 7, sinks: Two sinks are named warehouse [A sink's name is the key of its checkpoint]"],
    );
    let sinks =
        read(&format!("{SHOP}{}", second.replace(" }", ", prepare: truncate }"))).expect("valid").sinks;
    assert_eq!((sinks[0].prepare, sinks[1].prepare), (Prepare::Create, Prepare::Truncate));
    check(
        &with("type: postgres", "type: kafka"),
        &["line 8, sinks[0].type: \"kafka\" is not one of mariadb, mysql, postgres"],
    );
}

#[test]
fn a_mysql_sink_has_no_database_and_takes_nul() {
    let sink = |kind: &str, more: &str| {
        with("type: postgres", &format!("type: {kind}")).replace(
            "port: 5432, database: warehouse",
            &if more.is_empty() { "port: 3307".to_owned() } else { format!("port: 3307, {more}") },
        )
    };
    for (word, kind) in [("mariadb", ServerKind::Mariadb), ("mysql", ServerKind::Mysql)] {
        let config = read(&sink(word, "")).expect("valid");
        assert_eq!((config.sinks[0].kind, config.sinks[0].endpoint.port), (kind, 3307));
        let config = read(&sink(word, "").replace("port: 3307, ", "")).expect("valid");
        assert_eq!(config.sinks[0].endpoint.port, 3306);
    }
    check(
        &sink("mysql", "database: warehouse"),
        &["line 8, sinks[0].database: Is not a key of this type of sink [Remove database]"],
    );
    check(
        &sink("mysql", "policies: { nul_in_text: strip, undecodable_text: replace }"),
        &["line 8, sinks[0].policies.nul_in_text: Is not a key of this type of sink [Remove nul_in_text]"],
    );
    check(&sink("postgres", ""), &["line 8, sinks[0].database: Is missing"]);
}

#[test]
fn o10_passwords() {
    let yaml = with("\"${SHOP_PASSWORD}\"", "0123");
    let config = read(&yaml).expect("valid");
    assert_eq!(config.source.endpoint.password, Some(Secret::new("0123")));
    assert_eq!(config.warnings.len(), 1, "{:?}", config.warnings);
    assert_eq!(config.warnings[0].to_string(), "line 4, source.password: The password stands in the file");
    assert!(!format!("{config:?}").contains("0123"));
    check(
        &with("tls: disable", "password_file: pw"),
        &["line 4, source.password_file: Is given together with password [Keep one of them]"],
    );
    check(
        &with("password: \"${SHOP_PASSWORD}\"", "password_file: pw"),
        &["line 4, source.password_file: File /etc/freshet/pw cannot be read: no such file or directory"],
    );
    check(&with("\"${SHOP_PASSWORD}\"", "[hunter2]"), &["line 4, source.password: Must be a single value"]);
}

#[test]
fn password_files_lose_one_line_feed() {
    let dir = std::env::temp_dir().join(format!("freshet-config-{}", std::process::id()));
    fs::create_dir_all(&dir).expect("directory");
    let yaml = with("password: \"${SHOP_PASSWORD}\"", "password_file: pw");
    for (content, expect) in [("a b\n", "a b"), ("x\r\n", "x"), ("x\n\n", "x\n"), (" x", " x"), ("", "")] {
        fs::write(dir.join("pw"), content).expect("written");
        let config = parse(&yaml, &dir, Variables::From(&variables)).expect("valid");
        assert_eq!(config.source.endpoint.password, Some(Secret::new(expect)), "{content:?}");
    }
    fs::remove_dir_all(&dir).expect("removed");
}

#[test]
fn unprotected_connections_are_warned_of() {
    let yaml = with("host: 127.0.0.1, port: 3306", "host: db.example").replace("port: 5432", "tls: require");
    let warnings: Vec<String> = read(&yaml).expect("valid").warnings.iter().map(|w| w.to_string()).collect();
    assert_eq!(
        warnings,
        [
            "line 4, source.tls: Passwords and rows cross the network unprotected",
            "line 8, sinks[0].tls: The server's certificate is not verified",
        ]
    );
}

#[test]
fn syntax_alone_needs_no_environment_and_no_files() {
    let yaml = with("password: \"${SHOP_PASSWORD}\"", "password_file: not-there")
        .replace("port: 3306", "port: \"${NOT_THERE}\"")
        .replace("name: shop", "name: \"${NAME}\"")
        .replace("[\"shop.*\"]", "[\"shop.*\", \"${T}\"]");
    assert!(parse(&yaml, Path::new(""), Variables::Unknown).is_ok());
    assert!(parse(&yaml.replace("mode:", "moed:"), Path::new(""), Variables::Unknown).is_err());
    assert!(parse(&yaml.replace("${NAME}", "${NA ME}"), Path::new(""), Variables::Unknown).is_err());
}

#[test]
fn the_digest_names_what_may_not_change() {
    let digest = read(SHOP).expect("valid").digest();
    assert_eq!(
        digest,
        "mode=load-and-stream; source=mariadb; include=shop.*; exclude=shop.tmp_*; \
         sink=warehouse schemas=shop:public"
    );
    let moved = with("3306", "3308").replace("10GiB", "1GiB");
    assert_eq!(read(&moved).expect("valid").digest(), digest);
}

#[test]
fn a_postgres_source_has_keys_of_its_own() {
    let postgres = |more: &str| {
        with(
            "type: mariadb, host: 127.0.0.1, port: 3306,",
            &format!("type: postgres, host: 127.0.0.1, {more}"),
        )
    };
    let config = read(&postgres("database: shop, slot: s_1, publication: P, dropped_partitions: keep,"))
        .expect("valid");
    let source = &config.source;
    assert_eq!((source.kind, source.endpoint.port), (ServerKind::Postgres, 5432));
    let own = PostgresSource {
        database: "shop".into(),
        slot: Some("s_1".into()),
        publication: Some("P".into()),
        keeps_dropped_partitions: true,
    };
    assert_eq!(source.postgres, own);
    let config = read(&postgres("database: shop,")).expect("valid");
    assert!(!config.source.postgres.keeps_dropped_partitions, "stops by itself");
    check(&postgres(""), &["line 4, source.database: Is missing"]);
    check(
        &postgres("database: shop, slot: No,"),
        &["line 4, source.slot: Must be lower-case letters, digits and _, 63 at most"],
    );
    check(
        &postgres("database: shop, server_id: 7,"),
        &["line 4, source.server_id: Is not a key of this type of source [Remove server_id]"],
    );
    check(
        &with("tls: disable }", "tls: disable, dropped_partitions: stop }"),
        &[
            "line 4, source.dropped_partitions: Is not a key of this type of source [Remove dropped_partitions]",
        ],
    );
    check(
        &with("tls: disable }", "tls: disable, slot: s }"),
        &["line 4, source.slot: Is not a key of this type of source [Remove slot]"],
    );
}
