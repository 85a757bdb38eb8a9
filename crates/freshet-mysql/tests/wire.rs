//! The protocol client against real MariaDB and MySQL servers: SQL, accounts, TLS, large values, prepared
//! statements, the binlog dump, and servers that refuse or fall silent.
//!
//! Expected bytes are written by hand from the protocol's manual pages. Framing, which needs no server, is
//! tested beside its code.

#![allow(clippy::unwrap_used)] // Also in the helpers of tests

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use freshet_core::{Error, ErrorKind};
use freshet_mysql::wire::{
    AtEnd, BinaryCell, ClientCertificate, ColumnType, ConnectOptions, Connection, Outcome, Packet, Param,
    Secret, TlsMode, WireError,
};
use freshet_testkit::servers::{Flavor, MyOptions, MyServer, TestDir, Tls};
use tokio::time::timeout;

/// The MariaDB that most tests share; its certificate is for localhost, not for 127.0.0.1.
fn mariadb() -> &'static MyServer {
    static SERVER: OnceLock<MyServer> = OnceLock::new();
    SERVER.get_or_init(|| MyServer::start(Flavor::MariaDb, MyOptions::default().tls_for("DNS:localhost")))
}

/// The MySQL that most tests share, with the certificate that it made itself.
fn mysql() -> &'static MyServer {
    static SERVER: OnceLock<MyServer> = OnceLock::new();
    SERVER.get_or_init(|| MyServer::start(Flavor::MySql, MyOptions::default()))
}

fn both() -> [&'static MyServer; 2] {
    [mariadb(), mysql()]
}

async fn root(server: &MyServer) -> Connection {
    Connection::connect(&options(server, "root", "")).await.unwrap()
}

fn options(server: &MyServer, user: &str, password: &str) -> ConnectOptions {
    ConnectOptions {
        port: server.port(),
        password: Some(Secret::new(password)),
        ..ConnectOptions::new("127.0.0.1", user)
    }
}

fn is_mariadb(server: &MyServer) -> bool {
    server.flavor() == Flavor::MariaDb
}

fn kind(error: WireError) -> ErrorKind {
    Error::from(error).kind().clone()
}

/// Several statements in one request: an outcome each, rows counted as found, nothing after the first that fails.
#[tokio::test]
async fn a_batch_stops_at_the_first_error_and_counts_what_it_found() {
    for server in both() {
        let mut connection = Connection::connect_to_write(&options(server, "root", "")).await.unwrap();
        let rows = |outcomes: &[Outcome]| outcomes.iter().map(|o| o.rows).collect::<Vec<_>>();
        let mut outcomes = Vec::new();
        let sql = b"create database batches; create table batches.t (a int primary key, b text); \
            insert into batches.t values (1, ';'), (2, 'x'); update batches.t set b = 'x'; select * from batches.t";
        connection.batch(sql, &mut outcomes).await.unwrap();
        assert_eq!(rows(&outcomes), [1, 0, 2, 2, 2]);
        outcomes.clear();
        let sql = b"insert into batches.t values (3, ''); insert into batches.t values (3, ''); delete from batches.t";
        let error = connection.batch(sql, &mut outcomes).await.unwrap_err();
        assert_eq!((error.server_code(), rows(&outcomes)), (Some(1062), vec![1]));
        assert_eq!(connection.query("select * from batches.t").await.unwrap().len(), 3);
        let mut reading = root(server).await;
        assert!(
            reading.batch(b"select 1; select 2", &mut outcomes).await.is_err(),
            "only where it was asked for"
        );
    }
}

#[tokio::test]
async fn text_protocol() {
    for server in both() {
        let mut connection = root(server).await;
        assert_eq!(connection.info().is_mariadb, is_mariadb(server));
        let rows = connection.query("SELECT NULL, '', 'wörds 🐘', 42 AS n, CONNECTION_ID()").await.unwrap();
        let id = connection.info().connection_id.to_string();
        let row = &rows.rows()[0];
        assert_eq!((row.get(0), row.get(1), row.text(2)), (None, Some(&b""[..]), Some("wörds 🐘")));
        assert_eq!((rows.column("N"), row.text(3), row.text(4)), (Some(3), Some("42"), Some(id.as_str())));
        let error = connection.query("SELECT nonsense").await.unwrap_err();
        assert_eq!(error.server_code(), Some(1054));
        connection.exec("CREATE DATABASE text_protocol").await.unwrap();
        connection.exec("CREATE TABLE text_protocol.t (a INT)").await.unwrap();
        assert_eq!(connection.exec("INSERT INTO text_protocol.t VALUES (1), (2), (3)").await.unwrap(), 3);
        assert_eq!(connection.exec("SELECT * FROM text_protocol.t").await.unwrap(), 0);
        assert_eq!(connection.query("SELECT a FROM text_protocol.t ORDER BY a").await.unwrap().len(), 3);
        connection.ping().await.unwrap();
        connection.close().await;
        let named = ConnectOptions { database: Some("text_protocol".into()), ..options(server, "root", "") };
        let mut connection = Connection::connect(&named).await.unwrap();
        assert_eq!(connection.query("SELECT DATABASE()").await.unwrap().first(0), Some("text_protocol"));
        let missing = ConnectOptions { database: Some("missing".into()), ..named };
        assert_eq!(kind(Connection::connect(&missing).await.err().unwrap()), ErrorKind::Invalid);
    }
}

#[tokio::test]
async fn a_wrong_password_is_refused() {
    for server in both() {
        root(server).await.exec("CREATE USER wrong IDENTIFIED BY 'right'").await.unwrap();
        Connection::connect(&options(server, "wrong", "right")).await.unwrap();
        for (user, password) in [("wrong", "Right"), ("wrong", ""), ("nobody", "right")] {
            for tls in [TlsMode::Disable, TlsMode::Require] {
                let options = ConnectOptions { tls, ..options(server, user, password) };
                let error = Connection::connect(&options).await.err().unwrap();
                // MySQL plays an unknown account with a plugin drawn by chance, maybe one that is refused by name.
                if user == "nobody" && matches!(error, WireError::AuthPlugin { .. }) {
                    continue;
                }
                assert_eq!(error.server_code(), Some(1045), "{user} {tls:?}: {error}");
                assert_eq!(kind(error), ErrorKind::Invalid);
            }
        }
    }
}

/// The full exchange (nothing cached) and the fast one, with TLS and without, up to the longest password that
/// the server's RSA key takes.
#[tokio::test]
async fn caching_sha2_passwords() {
    let server = mysql();
    let mut admin = root(server).await;
    for (user, password) in [("sha_short", "s"), ("sha_plain", "pässword"), ("sha_long", &"x".repeat(213))] {
        admin.exec(&format!("CREATE USER {user} IDENTIFIED BY '{password}'")).await.unwrap();
        for tls in [TlsMode::Disable, TlsMode::Require] {
            admin.exec("FLUSH PRIVILEGES").await.unwrap();
            let options = ConnectOptions { tls, ..options(server, user, password) };
            for login in ["full", "fast"] {
                let connection = Connection::connect(&options).await;
                assert!(connection.is_ok(), "{user} {tls:?} {login}: {:?}", connection.err());
            }
        }
    }
    admin.exec(&format!("CREATE USER sha_huge IDENTIFIED BY '{}'", "y".repeat(214))).await.unwrap();
    let huge = options(server, "sha_huge", &"y".repeat(214));
    assert!(matches!(Connection::connect(&huge).await, Err(WireError::Auth { .. })));
    Connection::connect(&ConnectOptions { tls: TlsMode::Require, ..huge }).await.unwrap();
}

#[tokio::test]
async fn native_passwords_and_unsupported_plugins() {
    let mut admin = root(mariadb()).await;
    admin.exec("CREATE USER native IDENTIFIED VIA mysql_native_password USING PASSWORD('n')").await.unwrap();
    Connection::connect(&options(mariadb(), "native", "n")).await.unwrap();
    admin.exec("INSTALL SONAME 'auth_ed25519'").await.unwrap();
    admin.exec("CREATE USER edward IDENTIFIED VIA ed25519 USING PASSWORD('e')").await.unwrap();
    let refused = Connection::connect(&options(mariadb(), "edward", "e")).await.err().unwrap();
    assert!(matches!(&refused, WireError::AuthPlugin { plugin } if plugin == "client_ed25519"), "{refused}");
    let mut admin = root(mysql()).await;
    admin.exec("CREATE USER sha256 IDENTIFIED WITH sha256_password BY 's'").await.unwrap();
    let refused = Connection::connect(&options(mysql(), "sha256", "s")).await.err().unwrap();
    assert!(matches!(&refused, WireError::AuthPlugin { plugin } if plugin == "sha256_password"), "{refused}");
}

#[tokio::test]
async fn tls_modes() {
    let server = mariadb();
    let other = TestDir::new("wire");
    let right = server.tls().map(|tls| tls.ca.clone());
    let wrong = Some(Tls::generate(other.path(), "DNS:localhost").ca);
    let connect = async |tls: TlsMode, host: &str, tls_ca_file: &Option<PathBuf>| {
        let tls_ca_file = tls_ca_file.clone();
        let options =
            ConnectOptions { host: host.to_owned(), tls, tls_ca_file, ..options(server, "root", "") };
        Connection::connect(&options).await.map(|connection| connection.is_tls())
    };
    assert!(!connect(TlsMode::Disable, "127.0.0.1", &None).await.unwrap());
    // `require` encrypts; with a CA file it verifies the chain, never the name.
    assert!(connect(TlsMode::Require, "127.0.0.1", &None).await.unwrap());
    assert!(connect(TlsMode::Require, "127.0.0.1", &right).await.unwrap());
    refused_certificate(connect(TlsMode::Require, "127.0.0.1", &wrong).await);
    // The certificate is for localhost only.
    assert!(connect(TlsMode::VerifyFull, "localhost", &right).await.unwrap());
    refused_certificate(connect(TlsMode::VerifyFull, "127.0.0.1", &right).await);
    refused_certificate(connect(TlsMode::VerifyFull, "localhost", &wrong).await);
    let missing = connect(TlsMode::VerifyFull, "localhost", &Some("missing.pem".into())).await;
    assert!(matches!(missing, Err(WireError::TlsRoots { .. })));
    // MySQL's own certificate names no host.
    let own = ConnectOptions { tls: TlsMode::Require, ..options(mysql(), "root", "") };
    assert!(Connection::connect(&own).await.unwrap().is_tls());
    let verified = ConnectOptions {
        tls: TlsMode::VerifyFull,
        tls_ca_file: Some(mysql().data_dir().join("ca.pem")),
        ..own
    };
    refused_certificate(Connection::connect(&verified).await);
}

/// An account that is told by a certificate.
#[tokio::test]
async fn a_client_shows_its_certificate() {
    let server = mariadb();
    let mut admin = root(server).await;
    admin.exec("CREATE USER certified REQUIRE SUBJECT '/CN=certified'").await.unwrap();
    let tls = server.tls().unwrap();
    let client = tls.client("certified");
    let verified = ConnectOptions {
        host: "localhost".to_owned(),
        tls: TlsMode::VerifyFull,
        tls_ca_file: Some(tls.ca.clone()),
        ..options(server, "certified", "")
    };
    assert!(matches!(Connection::connect(&verified).await, Err(WireError::Server(_))));
    let shown = |cert_file, key_file| ConnectOptions {
        tls_client: Some(ClientCertificate { cert_file, key_file }),
        ..verified.clone()
    };
    assert!(Connection::connect(&shown(client.cert.clone(), client.key.clone())).await.unwrap().is_tls());
    let missing = Connection::connect(&shown(client.cert, "missing.key".into())).await.err().unwrap();
    assert!(
        matches!(&missing, WireError::TlsRoots { .. }) && missing.to_string().contains("missing.key"),
        "{missing}"
    );
}

/// Nothing but a certificate may be the reason, and trying again does not help.
fn refused_certificate<T>(connected: Result<T, WireError>) {
    let error = connected.err().unwrap();
    assert!(matches!(error, WireError::TlsCertificate { .. }), "{error}");
    assert_eq!(kind(error), ErrorKind::Invalid);
}

#[tokio::test]
async fn tls_1_2_and_no_tls() {
    let old = MyServer::start(Flavor::MariaDb, MyOptions::default().tls().arg("--tls-version=TLSv1.2"));
    let required = ConnectOptions { tls: TlsMode::Require, ..options(&old, "root", "") };
    let mut connection = Connection::connect(&required).await.unwrap();
    let version = connection.query("SHOW STATUS LIKE 'Ssl_version'").await.unwrap();
    assert_eq!(version.first(1), Some("TLSv1.2"));
    let none = MyServer::start(Flavor::MariaDb, MyOptions::default().arg("--skip-ssl"));
    let required = ConnectOptions { port: none.port(), ..required };
    assert!(matches!(Connection::connect(&required).await, Err(WireError::TlsNotOffered)));
}

/// M17: values beyond 16 MiB, with lengths around the limit of a packet, in both directions and protocols.
#[tokio::test]
async fn m17_large_values() {
    for server in both() {
        let mut connection = root(server).await;
        connection.exec("SET GLOBAL max_allowed_packet = 1073741824").await.unwrap();
        let tls = if is_mariadb(server) { TlsMode::Require } else { TlsMode::Disable };
        let mut connection =
            Connection::connect(&ConnectOptions { tls, ..options(server, "root", "") }).await.unwrap();
        connection.exec("CREATE DATABASE large").await.unwrap();
        connection.exec("CREATE TABLE large.t (id INT PRIMARY KEY, v LONGBLOB)").await.unwrap();
        let lengths = [(1 << 24) - 20, (1 << 24) - 1, 1 << 24, 40_000_000];
        let value = |length: usize| (0..length).map(|n| (n % 251) as u8).collect::<Vec<_>>();
        let insert = connection.prepare("INSERT INTO large.t VALUES (?, ?)").await.unwrap();
        for (id, length) in lengths.into_iter().enumerate() {
            let params = [Param::I64(id as i64), Param::Bytes(&value(length))];
            assert!(connection.execute(&insert, &params).await.unwrap().next().await.unwrap().is_none());
        }
        let rows = connection.query("SELECT v FROM large.t ORDER BY id").await.unwrap();
        for (row, length) in rows.into_iter().zip(lengths) {
            assert!(row.get(0) == Some(&value(length)[..]), "text, {length} bytes");
        }
        let select = connection.prepare("SELECT v FROM large.t ORDER BY id").await.unwrap();
        let mut stream = connection.execute(&select, &[]).await.unwrap();
        for length in lengths {
            let row = stream.next().await.unwrap().unwrap();
            let cells: Vec<_> = row.cells().collect::<Result<_, _>>().unwrap();
            assert!(cells == [BinaryCell::Bytes(&value(length))], "binary, {length} bytes");
        }
        assert!(stream.next().await.unwrap().is_none());
        connection.exec("DROP DATABASE large").await.unwrap();
    }
}

/// A declaration, a literal, and the type and bytes that the binary protocol must give.
type TypeCase = (&'static str, &'static str, ColumnType, BinaryCell<'static>);

fn type_cases() -> Vec<TypeCase> {
    use BinaryCell::{Bytes, Date, DateTime, Double, Float, Int, Time, Timestamp};
    use ColumnType as T;
    vec![
        ("TINYINT", "-2", T::Tiny, Int(b"\xFE")),
        ("TINYINT UNSIGNED", "255", T::Tiny, Int(b"\xFF")),
        ("SMALLINT", "-2", T::Short, Int(b"\xFE\xFF")),
        ("MEDIUMINT", "-2", T::Int24, Int(b"\xFE\xFF\xFF\xFF")),
        ("MEDIUMINT UNSIGNED", "16777215", T::Int24, Int(b"\xFF\xFF\xFF\x00")),
        ("INT UNSIGNED", "4294967295", T::Long, Int(b"\xFF\xFF\xFF\xFF")),
        ("BIGINT", "-9223372036854775808", T::LongLong, Int(b"\0\0\0\0\0\0\0\x80")),
        ("BIGINT UNSIGNED", "18446744073709551615", T::LongLong, Int(&[0xFF; 8])),
        ("FLOAT", "0.1", T::Float, Float(0.1)),
        ("DOUBLE", "-0.1", T::Double, Double(-0.1)),
        (
            "DECIMAL(30,10)",
            "-12345678901234567890.0123456789",
            T::NewDecimal,
            Bytes(b"-12345678901234567890.0123456789"),
        ),
        ("BIT(10)", "b'1000000001'", T::Bit, Bytes(b"\x02\x01")),
        ("YEAR", "1901", T::Year, Int(b"\x6D\x07")),
        ("DATE", "'2024-02-29'", T::Date, Date(b"\xE8\x07\x02\x1D")),
        ("DATE", "'0000-00-00'", T::Date, Date(b"")),
        ("DATETIME", "'2024-02-29 00:00:00'", T::DateTime, DateTime(b"\xE8\x07\x02\x1D")),
        ("DATETIME", "'2024-02-29 23:59:58'", T::DateTime, DateTime(b"\xE8\x07\x02\x1D\x17\x3B\x3A")),
        (
            "DATETIME(6)",
            "'2024-02-29 23:59:58.000001'",
            T::DateTime,
            DateTime(b"\xE8\x07\x02\x1D\x17\x3B\x3A\x01\0\0\0"),
        ),
        (
            "TIMESTAMP(3) NULL",
            "'2024-02-29 23:59:58.001'",
            T::Timestamp,
            Timestamp(b"\xE8\x07\x02\x1D\x17\x3B\x3A\xE8\x03\0\0"),
        ),
        ("TIME", "'00:00:00'", T::Time, Time(b"")),
        ("TIME", "'-838:59:59'", T::Time, Time(b"\x01\x22\0\0\0\x16\x3B\x3B")),
        ("TIME(6)", "'-00:00:00.000001'", T::Time, Time(b"\x01\0\0\0\0\0\0\0\x01\0\0\0")),
        ("CHAR(3)", "'\u{e9}'", T::String, Bytes("\u{e9}".as_bytes())),
        ("VARCHAR(300) CHARACTER SET latin1", "'\u{e9}'", T::VarString, Bytes("\u{e9}".as_bytes())),
        ("BINARY(4)", "X'0100'", T::String, Bytes(b"\x01\0\0\0")),
        ("VARBINARY(9)", "X'0100'", T::VarString, Bytes(b"\x01\0")),
        ("TEXT", "''", T::Blob, Bytes(b"")),
        ("MEDIUMBLOB", "X'00FF'", T::Blob, Bytes(b"\0\xFF")),
        ("ENUM('a','b')", "2", T::String, Bytes(b"b")),
        ("SET('a','b','c')", "5", T::String, Bytes(b"a,c")),
        (
            "POINT",
            "ST_GeomFromText('POINT(1 0)')",
            T::Geometry,
            Bytes(b"\0\0\0\0\x01\x01\0\0\0\0\0\0\0\0\0\xF0\x3F\0\0\0\0\0\0\0\0"),
        ),
        ("INT", "NULL", T::Long, BinaryCell::Null),
        ("LONGTEXT", "NULL", T::Blob, BinaryCell::Null),
    ]
}

fn own_type_cases(is_mariadb: bool) -> Vec<TypeCase> {
    use BinaryCell::Bytes;
    use ColumnType as T;
    match is_mariadb {
        true => vec![
            ("JSON", "'{\"a\": 1}'", T::Blob, Bytes(b"{\"a\": 1}")),
            ("INET6", "'::1'", T::String, Bytes(b"::1")),
            (
                "UUID",
                "'123e4567-e89b-12d3-a456-426655440000'",
                T::String,
                Bytes(b"123e4567-e89b-12d3-a456-426655440000"),
            ),
        ],
        false => vec![
            ("JSON", "'{\"a\": 1}'", T::Json, Bytes(b"{\"a\": 1}")),
            ("VECTOR(2)", "TO_VECTOR('[1,0]')", T::Vector, Bytes(b"\0\0\x80\x3F\0\0\0\0")),
        ],
    }
}

#[tokio::test]
async fn prepared_statements_of_all_types() {
    for server in both() {
        let mut connection = root(server).await;
        connection.exec("SET sql_mode = '', time_zone = '+00:00'").await.unwrap();
        let cases = [type_cases(), own_type_cases(is_mariadb(server))].concat();
        let columns: Vec<_> =
            cases.iter().enumerate().map(|(at, case)| format!("c{at} {}", case.0)).collect();
        let values: Vec<_> = cases.iter().map(|case| case.1).collect();
        connection.exec("CREATE DATABASE types").await.unwrap();
        connection.exec(&format!("CREATE TABLE types.t ({})", columns.join(", "))).await.unwrap();
        connection.exec(&format!("INSERT INTO types.t VALUES ({})", values.join(", "))).await.unwrap();
        let select = connection.prepare("SELECT * FROM types.t WHERE ? = 1").await.unwrap();
        let mut stream = connection.execute(&select, &[Param::I64(1)]).await.unwrap();
        let row = stream.next().await.unwrap().unwrap();
        let cells: Vec<_> = row.cells().collect::<Result<_, _>>().unwrap();
        assert_eq!(cells.len(), cases.len());
        for ((cell, column), case) in cells.iter().zip(row.columns()).zip(&cases) {
            assert_eq!(*cell, case.3, "{} {}", case.0, case.1);
            assert_eq!(column.column_type, case.2, "{}", case.0);
            if case.0.contains("INT") {
                assert_eq!(column.is_unsigned(), case.0.contains("UNSIGNED"), "{}", case.0);
            }
            assert_eq!((column.schema.as_str(), column.table.as_str()), ("types", "t"));
        }
        assert!(stream.next().await.unwrap().is_none());
        assert!(stream.next().await.unwrap().is_none());
        connection.close_statement(select).await.unwrap();
        connection.ping().await.unwrap();
    }
}

#[tokio::test]
async fn parameters_of_all_kinds() {
    let checks = "SELECT ? = -9223372036854775807, ? = 18446744073709551615, ? = 0.5e0, ? = 'w\u{f6}rd', \
                  HEX(?) = '00FF', ? = 12345678901234567890123456789.5, ? IS NULL, ? = DATE '2024-02-29'";
    let params = [
        Param::I64(-i64::MAX),
        Param::U64(u64::MAX),
        Param::F64(0.5),
        Param::Text("w\u{f6}rd"),
        Param::Bytes(b"\0\xFF"),
        Param::Decimal("12345678901234567890123456789.5"),
        Param::Null,
        Param::Text("2024-02-29"),
    ];
    for server in both() {
        let mut connection = root(server).await;
        let select = connection.prepare(checks).await.unwrap();
        assert_eq!((select.params(), select.columns().len()), (params.len(), params.len()));
        // Twice: a statement can be run again, with the same or other types.
        for _ in 0..2 {
            let mut stream = connection.execute(&select, &params).await.unwrap();
            let row = stream.next().await.unwrap().unwrap();
            for (at, cell) in row.cells().enumerate() {
                let BinaryCell::Int([1, ..]) = cell.unwrap() else {
                    panic!("parameter {at} arrived changed")
                };
            }
            assert!(stream.next().await.unwrap().is_none());
        }
    }
}

#[tokio::test]
async fn a_stream_given_up_abandons_its_connection() {
    let rows = "SELECT 1 UNION SELECT 2 UNION SELECT 3";
    for server in both() {
        let (mut connection, mut other) = (root(server).await, root(server).await);
        let select = connection.prepare(rows).await.unwrap();
        assert!(matches!(other.execute(&select, &[]).await.err(), Some(WireError::Misused { .. })));
        let too_many = connection.execute(&select, &[Param::Null]).await.err();
        assert!(matches!(too_many, Some(WireError::Misused { .. })));
        let mut stream = connection.execute(&select, &[]).await.unwrap();
        stream.next().await.unwrap().unwrap();
        drop(stream);
        assert!(matches!(connection.query("SELECT 1").await, Err(WireError::Abandoned)));
        assert!(matches!(connection.ping().await, Err(WireError::Abandoned)));
    }
}

#[tokio::test]
async fn an_error_amid_rows_leaves_the_connection_usable() {
    for server in both() {
        let mut connection = root(server).await;
        // The second row fails while it is computed.
        let sql = "SELECT (SELECT t.n UNION SELECT t.m) FROM (SELECT 1 n, 1 m UNION ALL SELECT 1, 2) t";
        assert_eq!(connection.query(sql).await.unwrap_err().server_code(), Some(1242));
        let select = connection.prepare(sql).await.unwrap();
        let mut failed = None;
        match connection.execute(&select, &[]).await {
            Err(error) => failed = Some(error),
            Ok(mut stream) => {
                while failed.is_none() {
                    failed = stream.next().await.err();
                }
            }
        }
        assert_eq!(failed.unwrap().server_code(), Some(1242));
        assert_eq!(connection.query("SELECT 7").await.unwrap().first(0), Some("7"));
    }
}

/// Sets what a dump needs; `connection` then sends a heartbeat every second of silence.
async fn prepare_dump(connection: &mut Connection) {
    let name = if connection.info().is_mariadb { "master" } else { "source" };
    let sql = format!(
        "SET @{name}_binlog_checksum = @@global.binlog_checksum, @{name}_heartbeat_period = 1000000000, \
         @mariadb_slave_capability = 4"
    );
    connection.exec(&sql).await.unwrap();
}

async fn binlog_end(connection: &mut Connection) -> (String, u32) {
    let sql = if connection.info().is_mariadb { "SHOW MASTER STATUS" } else { "SHOW BINARY LOG STATUS" };
    let rows = connection.query(sql).await.unwrap();
    (rows.first(0).unwrap().to_owned(), rows.first(1).unwrap().parse().unwrap())
}

const TABLE_MAP: u8 = 19;
const XID: u8 = 16;
const HEARTBEATS: [u8; 2] = [27, 41];

#[tokio::test]
async fn dump_by_file_and_position() {
    for (server, server_id) in both().into_iter().zip(7001..) {
        let mut connection = root(server).await;
        connection.exec("CREATE DATABASE dump").await.unwrap();
        connection.exec("CREATE TABLE dump.t (id INT PRIMARY KEY)").await.unwrap();
        let (file, position) = binlog_end(&mut connection).await;
        connection.exec("INSERT INTO dump.t VALUES (1), (2)").await.unwrap();
        connection.exec("DELETE FROM dump.t").await.unwrap();
        prepare_dump(&mut connection).await;
        connection.register_replica(server_id, "wire-test").await.unwrap();
        let mut packets = connection.dump_file_pos(server_id, &file, position, AtEnd::Stop).await.unwrap();
        let mut types = Vec::new();
        while let Packet::Event(event) = packets.next().await.unwrap() {
            let announced = u32::from_le_bytes(*event[9..].first_chunk().unwrap());
            assert_eq!(announced as usize, event.len(), "the event's own length");
            types.push(event[4]);
        }
        let count = |wanted: u8| types.iter().filter(|event_type| **event_type == wanted).count();
        assert!(count(TABLE_MAP) >= 2 && count(XID) >= 2, "{types:?}");
    }
}

/// The dump waits at its end: heartbeats come, new transactions come, and cancelled calls lose nothing.
#[tokio::test]
async fn p23_dump_waits_with_heartbeats() {
    for (server, server_id) in both().into_iter().zip(7011..) {
        let (mut writer, mut connection) = (root(server).await, root(server).await);
        writer.exec("CREATE DATABASE dump_wait").await.unwrap();
        writer.exec("CREATE TABLE dump_wait.t (id INT PRIMARY KEY)").await.unwrap();
        let (file, position) = binlog_end(&mut writer).await;
        prepare_dump(&mut connection).await;
        let mut packets = match is_mariadb(server) {
            true => connection.dump_file_pos(server_id, &file, position, AtEnd::Wait).await.unwrap(),
            false => connection.dump_mysql_gtid(server_id, &0u64.to_le_bytes(), AtEnd::Wait).await.unwrap(),
        };
        let (mut heartbeats, mut changes, mut written) = (0, 0, 0);
        let deadline = Instant::now() + Duration::from_secs(300);
        while heartbeats < 2 || changes < written || written < 20 {
            assert!(Instant::now() < deadline, "{heartbeats} heartbeats, {changes} of {written} changes");
            // Cancels the call at any moment.
            let event_type = match timeout(Duration::from_micros(300), packets.next()).await {
                Err(_) => None,
                Ok(packet) => match packet.unwrap() {
                    Packet::Event(event) => {
                        Some((event[4], event.windows(9).any(|name| name == b"dump_wait")))
                    }
                    Packet::End => panic!("the dump ended"),
                },
            };
            heartbeats +=
                usize::from(event_type.is_some_and(|(event_type, _)| HEARTBEATS.contains(&event_type)));
            changes += usize::from(event_type == Some((TABLE_MAP, true)));
            if heartbeats >= 1 && written < 20 {
                writer.exec(&format!("INSERT INTO dump_wait.t VALUES ({written})")).await.unwrap();
                written += 1;
            }
        }
        assert_eq!(changes, 20);
    }
}

/// P8: a dump and a session that pause for longer than the server is configured to bear.
#[tokio::test]
async fn p8_pauses_do_not_get_us_cut_off() {
    for (flavor, server_id) in [(Flavor::MariaDb, 7018), (Flavor::MySql, 7019)] {
        let impatient = MyOptions::default().arg("--net-write-timeout=1").arg("--wait-timeout=3");
        let server = MyServer::start(flavor, impatient);
        let (mut idle, mut connection) = (root(&server).await, root(&server).await);
        connection.exec("CREATE DATABASE pause").await.unwrap();
        connection.exec("CREATE TABLE pause.t (v LONGBLOB)").await.unwrap();
        let (file, position) = binlog_end(&mut connection).await;
        // Far more than the sockets' buffers hold.
        for _ in 0..30 {
            connection.exec("INSERT INTO pause.t VALUES (REPEAT('x', 1000000))").await.unwrap();
        }
        prepare_dump(&mut connection).await;
        let mut packets = connection.dump_file_pos(server_id, &file, position, AtEnd::Stop).await.unwrap();
        packets.next().await.unwrap();
        timeout(Duration::from_secs(5), std::future::pending::<()>()).await.unwrap_err();
        let mut transactions = 0;
        while let Packet::Event(event) = packets.next().await.unwrap() {
            transactions += usize::from(event[4] == XID);
        }
        assert_eq!(transactions, 30);
        idle.ping().await.unwrap();
    }
}

#[tokio::test]
async fn a_dump_from_a_missing_file_is_an_error_of_the_server() {
    for server in both() {
        let mut connection = root(server).await;
        prepare_dump(&mut connection).await;
        let mut packets = connection.dump_file_pos(7021, "binlog.999999", 4, AtEnd::Stop).await.unwrap();
        let error = packets.next().await.unwrap_err();
        assert_eq!(error.server_code(), Some(1236), "{error}");
        assert_eq!(kind(error), ErrorKind::Resync);
    }
}

/// A connection of little patience, to a server that may be slow.
async fn patiently(options: &ConnectOptions) -> Connection {
    let deadline = Instant::now() + Duration::from_secs(300);
    loop {
        match Connection::connect(options).await {
            Ok(connection) => return connection,
            Err(error) => {
                let late = matches!(error, WireError::Timeout { .. });
                assert!(late && Instant::now() < deadline, "{error}");
            }
        }
    }
}

/// P23: a server that keeps its connections and answers nothing.
#[tokio::test]
async fn p23_a_silent_server_times_out() {
    let server = MyServer::start(Flavor::MariaDb, MyOptions::default());
    let brief =
        ConnectOptions { read_timeout_ms: 5000, connect_timeout_ms: 5000, ..options(&server, "root", "") };
    let (mut connection, mut dumping) = (patiently(&brief).await, patiently(&brief).await);
    let (file, position) = binlog_end(&mut dumping).await;
    prepare_dump(&mut dumping).await;
    let mut packets = dumping.dump_file_pos(7031, &file, position, AtEnd::Wait).await.unwrap();
    server.pause();
    let error = connection.query("SELECT 1").await.unwrap_err();
    assert!(matches!(error, WireError::Timeout { timeout_ms: 5000, .. }), "{error}");
    assert_eq!(kind(error), ErrorKind::Unavailable);
    assert!(matches!(connection.ping().await, Err(WireError::Abandoned)));
    assert!(matches!(Connection::connect(&brief).await, Err(WireError::Timeout { .. })));
    let silent = loop {
        match packets.next().await {
            Ok(Packet::Event(_)) => {}
            Ok(Packet::End) => panic!("the dump ended"),
            Err(error) => break error,
        }
    };
    assert!(matches!(silent, WireError::Timeout { .. }), "{silent}");
    server.resume();
    Connection::connect(&options(&server, "root", "")).await.unwrap();
}

#[tokio::test]
async fn lost_and_missing_servers() {
    for server in both() {
        let (mut killed, mut killer) = (root(server).await, root(server).await);
        killer.exec(&format!("KILL {}", killed.info().connection_id)).await.unwrap();
        let error = killed.query("SELECT SLEEP(5)").await.unwrap_err();
        assert_eq!(kind(error), ErrorKind::Unavailable);
    }
    // Bound, so that nobody else takes it, and not listened at.
    let unheard = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    unheard.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let port = unheard.local_addr().unwrap().as_socket().unwrap().port();
    let refused = ConnectOptions { port, ..ConnectOptions::new("127.0.0.1", "root") };
    let error = Connection::connect(&refused).await.err().unwrap();
    assert!(matches!(error, WireError::Connect { .. }), "{error}");
    assert_eq!(kind(error), ErrorKind::Unavailable);
    // A name that no resolver asks anybody for: without a network it would ask for longer than we wait.
    let unknown = Connection::connect(&ConnectOptions::new("no..such.host", "root")).await.err().unwrap();
    assert!(matches!(unknown, WireError::UnknownHost { .. }), "{unknown}");
}

#[tokio::test]
async fn too_many_connections_can_be_tried_again() {
    let server = MyServer::start(Flavor::MariaDb, MyOptions::default().arg("--max-connections=10"));
    let mut held = Vec::new();
    let error = loop {
        match Connection::connect(&options(&server, "root", "")).await {
            Ok(connection) => held.push(connection),
            Err(error) => break error,
        }
        assert!(held.len() < 50);
    };
    assert_eq!(error.server_code(), Some(1040));
    assert_eq!(kind(error), ErrorKind::Unavailable);
}

/// Connections and what is borrowed from them go into tasks.
#[test]
fn everything_can_be_sent_to_a_task() {
    fn is_send<T: Send>(_: &T) {}
    let options = ConnectOptions::new("127.0.0.1", "root");
    is_send(&Connection::connect(&options));
    is_send(&async {
        let mut connection = Connection::connect(&options).await.unwrap();
        let statement = connection.prepare("SELECT 1").await.unwrap();
        connection.execute(&statement, &[]).await.unwrap().next().await.unwrap();
        connection.dump_file_pos(1, "", 4, AtEnd::Wait).await.unwrap().next().await.unwrap();
    });
}
