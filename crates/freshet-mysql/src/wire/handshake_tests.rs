//! Tests of the connection phase that need no server.

use proptest::prelude::*;

use super::*;

fn greeting(version: &str, capabilities: u32, plugin: &str) -> Vec<u8> {
    let mut out = vec![10];
    out.extend_from_slice(version.as_bytes());
    out.push(0);
    out.extend_from_slice(&77u32.to_le_bytes());
    out.extend_from_slice(b"abcdefgh\0");
    out.extend_from_slice(&capabilities.to_le_bytes()[..2]);
    out.extend_from_slice(&[45, 2, 0]);
    out.extend_from_slice(&capabilities.to_le_bytes()[2..]);
    out.push(21);
    out.extend_from_slice(&[0; 10]);
    out.extend_from_slice(b"ijklmnopqrst\0");
    out.extend_from_slice(plugin.as_bytes());
    out.push(0);
    out
}

#[test]
fn greetings_of_both_servers() {
    let mysql = capability::NEEDED | capability::LONG_PASSWORD;
    let parsed = parse_greeting(&greeting("9.7.4-2", mysql, "caching_sha2_password")).unwrap();
    assert_eq!(&parsed.challenge, b"abcdefghijklmnopqrst");
    assert_eq!(parsed.plugin, Some(AuthPlugin::CachingSha2));
    assert!(!parsed.info.is_mariadb);
    assert_eq!((parsed.info.version, parsed.info.connection_id), ((9, 7, 4), 77));
    let text = "5.5.5-10.11.6-MariaDB-0+deb12u1-log";
    let parsed = parse_greeting(&greeting(text, capability::NEEDED, "mysql_native_password")).unwrap();
    assert!(parsed.info.is_mariadb);
    assert_eq!(parsed.info.version, (10, 11, 6));
    assert_eq!(parsed.info.version_text, "10.11.6-MariaDB-0+deb12u1-log");
}

/// MariaDB's own flags stand where MySQL has zeros, and mean something only without the flag of MySQL.
#[test]
fn mariadb_says_whether_it_takes_bulk() {
    let takes_bulk = |capabilities: u32, own: u32| {
        let mut packet = greeting("10.11.6-MariaDB", capabilities, "mysql_native_password");
        let at = packet.windows(14).position(|bytes| bytes == b"ijklmnopqrst\0m").unwrap() - 4;
        packet[at..at + 4].copy_from_slice(&own.to_le_bytes());
        parse_greeting(&packet).unwrap().info.takes_bulk
    };
    assert!(takes_bulk(capability::NEEDED, capability::MARIADB_BULK));
    assert!(!takes_bulk(capability::NEEDED, 0));
    assert!(!takes_bulk(capability::NEEDED | capability::LONG_PASSWORD, capability::MARIADB_BULK));
}

#[test]
fn versions() {
    assert_eq!(parse_version("8.0.15"), (8, 0, 15));
    assert_eq!(parse_version("11.8.2-MariaDB-log"), (11, 8, 2));
    assert_eq!(parse_version("10"), (10, 0, 0));
    assert_eq!(parse_version("nonsense"), (0, 0, 0));
}

#[test]
fn an_old_server_is_refused() {
    let old = parse_greeting(&greeting("5.1.73", capability::PROTOCOL_41, ""));
    assert!(matches!(old, Err(WireError::Unsupported { .. })));
}

#[test]
fn an_error_instead_of_a_greeting_is_reported() {
    let refused = parse_greeting(b"\xFF\x10\x04Too many connections");
    assert_eq!(refused.err().and_then(|error| error.server_code()), Some(1040));
}

#[test]
fn unsupported_plugins_are_named() {
    for name in ["client_ed25519", "parsec", "auth_gssapi_client", "mysql_clear_password", "dialog"] {
        let packet = [b"\xFE", name.as_bytes(), b"\0", &[1; 21]].concat();
        match parse_step(&packet, AuthPlugin::Native) {
            Err(WireError::AuthPlugin { plugin }) => assert_eq!(plugin, name),
            _ => panic!("{name} must be refused"),
        }
    }
}

#[test]
fn a_native_exchange_never_gives_the_password_away() {
    assert!(parse_step(&[1, 4], AuthPlugin::Native).is_err());
}

proptest! {
    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        let _ = parse_greeting(&bytes);
        let _ = parse_step(&bytes, AuthPlugin::CachingSha2);
        let with_version = [&[10], &bytes[..]].concat();
        let _ = parse_greeting(&with_version);
    }
}

/// Plays a server that sends each packet of `script` in turn and takes one packet after each but the last;
/// returns what was taken and how the log-in went.
async fn play(script: Vec<Vec<u8>>, options: ConnectOptions) -> (Vec<Vec<u8>>, Result<(), WireError>) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let options = ConnectOptions { port: listener.local_addr().unwrap().port(), ..options };
    let server = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let (mut taken, mut sequence) = (Vec::new(), 0u8);
        for packet in script {
            let header = [packet.len() as u8, (packet.len() >> 8) as u8, 0, sequence];
            socket.write_all(&[&header[..], &packet].concat()).await.unwrap();
            let mut header = [0; 4];
            if socket.read_exact(&mut header).await.is_err() {
                break;
            }
            let mut payload = vec![0; usize::from(header[0]) | usize::from(header[1]) << 8];
            socket.read_exact(&mut payload).await.unwrap();
            assert_eq!(header[3], sequence + 1);
            sequence += 2;
            taken.push(payload);
        }
        taken
    });
    let channel = Channel::open(&options).await.unwrap();
    let result = log_in(channel, &options, Purpose::Read).await.map(|_| ());
    (server.await.unwrap(), result)
}

fn as_user() -> ConnectOptions {
    let password = Some(super::super::options::Secret::new("secret"));
    ConnectOptions { password, ..ConnectOptions::new("127.0.0.1", "user") }
}

const MYSQL: u32 = capability::NEEDED | capability::LONG_PASSWORD;
const OTHER_CHALLENGE: &Challenge = b"ABCDEFGHIJKLMNOPQRST";

fn switch_to(plugin: &str) -> Vec<u8> {
    [b"\xFE", plugin.as_bytes(), b"\0", OTHER_CHALLENGE, b"\0"].concat()
}

#[tokio::test]
async fn a_switch_of_plugins_is_answered_with_the_new_challenge() {
    for (default, plugin) in [
        ("caching_sha2_password", AuthPlugin::Native),
        ("mysql_native_password", AuthPlugin::CachingSha2),
        ("client_ed25519", AuthPlugin::Native),
    ] {
        let script =
            vec![greeting("9.7.4", MYSQL, default), switch_to(plugin.name()), b"\0\0\0\x02\0\0\0".to_vec()];
        let (taken, result) = play(script, as_user()).await;
        result.unwrap();
        assert_eq!(taken[1], plugin.answer("secret", OTHER_CHALLENGE), "{default}");
    }
}

#[tokio::test]
async fn a_demand_for_the_clear_password_gets_nothing() {
    let script = vec![greeting("9.7.4", MYSQL, "mysql_native_password"), switch_to("mysql_clear_password")];
    let (taken, result) = play(script, as_user()).await;
    assert!(matches!(result, Err(WireError::AuthPlugin { .. })));
    assert_eq!(taken.len(), 1);
    assert!(!taken[0].windows(6).any(|bytes| bytes == b"secret"));
}

#[tokio::test]
async fn a_server_without_rsa_key_gets_no_password() {
    let script = vec![greeting("9.7.4", MYSQL, "caching_sha2_password"), vec![1, 4], b"\x01no key".to_vec()];
    let (taken, result) = play(script, as_user()).await;
    assert!(result.is_err());
    assert_eq!(taken[1..], [vec![2]]);
}

#[tokio::test]
async fn what_comes_before_tls_is_refused() {
    let mut packet = greeting("9.7.4", MYSQL | capability::SSL, "caching_sha2_password");
    let header = [packet.len() as u8, 0, 0, 0];
    packet = [&header[..], &packet, b"\x07\0\0\x02injected"].concat();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let options = ConnectOptions { port, tls: TlsMode::Require, ..as_user() };
    let server = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        let (mut socket, _) = listener.accept().await.unwrap();
        socket.write_all(&packet).await.unwrap();
        socket
    });
    let channel = Channel::open(&options).await.unwrap();
    let refused = log_in(channel, &options, Purpose::Read).await.err();
    assert!(matches!(refused, Some(WireError::Protocol { .. })), "{refused:?}");
    drop(server.await.unwrap());
}
