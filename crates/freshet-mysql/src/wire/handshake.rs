//! From a TCP connection to an authenticated session: greeting, TLS, capabilities, authentication.
//!
//! Formats: manual pages "Connection Phase", "Protocol::HandshakeV10", "Protocol::SSLRequest",
//! "Protocol::HandshakeResponse41", "Protocol::AuthSwitchRequest", "Protocol::AuthMoreData". The server's
//! challenge plugins are answered by `auth`.

use super::auth::{AuthPlugin, CHALLENGE_BYTES, Challenge, encrypted_password};
use super::channel::Channel;
use super::error::WireError;
use super::options::{ConnectOptions, TlsMode};
use super::response::server_error;
use super::scan::{Scan, put_length, put_string};
use super::tls;

/// Capability flags (manual page "Capabilities Flags"). Without DEPRECATE_EOF both servers end result sets in
mod capability {
    pub(super) const LONG_PASSWORD: u32 = 1;
    /// Counts of rows found, whether or not they change.
    pub(super) const FOUND_ROWS: u32 = 1 << 1;
    pub(super) const LONG_FLAG: u32 = 1 << 2;
    pub(super) const CONNECT_WITH_DB: u32 = 1 << 3;
    pub(super) const PROTOCOL_41: u32 = 1 << 9;
    pub(super) const SSL: u32 = 1 << 11;
    pub(super) const TRANSACTIONS: u32 = 1 << 13;
    pub(super) const SECURE_CONNECTION: u32 = 1 << 15;
    /// Several statements in one query, and their results one after the other.
    pub(super) const MULTI_STATEMENTS: u32 = 1 << 16;
    pub(super) const MULTI_RESULTS: u32 = 1 << 17;
    pub(super) const PLUGIN_AUTH: u32 = 1 << 19;
    pub(super) const CONNECT_ATTRS: u32 = 1 << 20;
    pub(super) const PLUGIN_AUTH_LENENC: u32 = 1 << 21;
    /// MariaDB's own flags, in the last four bytes of what MySQL reserves; they count for those who leave out
    /// LONG_PASSWORD, which MariaDB calls CLIENT_MYSQL. Prepared statements may be executed in bulk.
    pub(super) const MARIADB_BULK: u32 = 1 << 2;
    /// A server that lacks one of these is older than any that freshet supports.
    pub(super) const NEEDED: u32 = PROTOCOL_41 | SECURE_CONNECTION | PLUGIN_AUTH | PLUGIN_AUTH_LENENC;
}

/// `utf8mb4_general_ci`, which both servers know.
const CHARACTER_SET: u8 = 45;

/// What is told to the server about the packets that it may send.
const PACKET_BYTES_MAX: u32 = 1 << 30;

/// The most packets that an authentication may take; more is a server gone wrong.
const AUTH_PACKETS_MAX: usize = 10;

/// What a server says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerInfo {
    /// MariaDB rather than MySQL.
    pub is_mariadb: bool,
    /// Major, minor and patch number.
    pub version: (u16, u16, u16),
    /// The version as the server words it, without MariaDB's `5.5.5-` prefix.
    pub version_text: String,
    /// The number of this connection, as in `SHOW PROCESSLIST` and `KILL`.
    pub connection_id: u64,
    /// Whether this connection may execute prepared statements in bulk: MariaDB, and a connection to write.
    pub takes_bulk: bool,
}

struct Greeting {
    info: ServerInfo,
    capabilities: u32,
    challenge: Challenge,
    plugin: Option<AuthPlugin>,
}

/// What a connection is for, which decides the capabilities that it asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Reading, one statement at a time.
    Read,
    /// Writing: statements in batches, rows counted as found.
    Write,
}

/// Leads a new channel to the point where commands can be sent.
pub(crate) async fn log_in(
    mut channel: Channel,
    options: &ConnectOptions,
    purpose: Purpose,
) -> Result<(Channel, ServerInfo), WireError> {
    let packet = channel.receive("waiting for the greeting").await?;
    let mut greeting = parse_greeting(channel.payload(packet))?;
    greeting.info.takes_bulk &= purpose == Purpose::Write;
    let mut flags = client_flags(&greeting, options, purpose)?;
    let own_flags = if greeting.info.takes_bulk { capability::MARIADB_BULK } else { 0 };
    if options.tls != TlsMode::Disable {
        flags |= capability::SSL;
        let name = tls::server_name(&options.host)?;
        let config = tls::client_config(options)?;
        channel.send(|out| put_client_head(out, flags, own_flags)).await?;
        channel = channel.upgrade(config, name, &options.host).await?;
    }
    // The server's default plugin need not be the account's: if it is one of ours it may be right.
    let plugin = greeting.plugin.unwrap_or(AuthPlugin::Native);
    let answer = plugin.answer(options.password_text(), &greeting.challenge);
    channel.send(|out| put_response(out, [flags, own_flags], options, plugin, &answer)).await?;
    authenticate(&mut channel, options.password_text(), plugin, greeting.challenge).await?;
    Ok((channel, greeting.info))
}

fn parse_greeting(packet: &[u8]) -> Result<Greeting, WireError> {
    let mut scan = Scan::new(packet);
    match scan.u8()? {
        10 => {}
        0xFF => return Err(server_error(packet)),
        _ => {
            return Err(WireError::protocol(
                "the greeting is not of version 10; is this a MySQL or MariaDB server?",
            ));
        }
    }
    let version = String::from_utf8_lossy(scan.until_zero()?).into_owned();
    let connection_id = u64::from(scan.u32()?);
    let challenge_start = scan.take(8)?;
    scan.take(1)?;
    let capabilities_low = u32::from(scan.u16()?);
    scan.take(3)?;
    let capabilities = capabilities_low | u32::from(scan.u16()?) << 16;
    if capabilities & capability::NEEDED != capability::NEEDED {
        return Err(WireError::Unsupported { what: "authentication by plugins (MySQL 5.6, MariaDB 10.0)" });
    }
    let challenge_bytes = usize::from(scan.u8()?);
    scan.take(6)?;
    let own_capabilities = scan.u32()?;
    let challenge_end = scan.take(challenge_bytes.saturating_sub(8).max(13))?;
    let mut challenge = [0; CHALLENGE_BYTES];
    challenge[..8].copy_from_slice(challenge_start);
    challenge[8..].copy_from_slice(&challenge_end[..CHALLENGE_BYTES - 8]);
    let plugin = AuthPlugin::from_name(scan.until_zero().unwrap_or_default());
    // MariaDB from 10.2 on leaves out the flag that only says that a server is MySQL.
    let is_mariadb = version.contains("MariaDB") || capabilities & capability::LONG_PASSWORD == 0;
    let version_text = version.strip_prefix("5.5.5-").filter(|_| is_mariadb).unwrap_or(&version).to_owned();
    let takes_bulk =
        capabilities & capability::LONG_PASSWORD == 0 && own_capabilities & capability::MARIADB_BULK != 0;
    let version = parse_version(&version_text);
    let info = ServerInfo { is_mariadb, version, version_text, connection_id, takes_bulk };
    Ok(Greeting { info, capabilities, challenge, plugin })
}

/// The first three numbers of a version text; what is missing is 0.
fn parse_version(text: &str) -> (u16, u16, u16) {
    let numbers = text.split(|c: char| c != '.' && !c.is_ascii_digit()).next().unwrap_or_default();
    let mut numbers = numbers.split('.').map(|number| number.parse().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    (next(), next(), next())
}

fn client_flags(greeting: &Greeting, options: &ConnectOptions, purpose: Purpose) -> Result<u32, WireError> {
    use capability::*;
    if options.tls != TlsMode::Disable && greeting.capabilities & SSL == 0 {
        return Err(WireError::TlsNotOffered);
    }
    let database = if options.database.is_some() { CONNECT_WITH_DB } else { 0 };
    let writing = match purpose {
        Purpose::Read => 0,
        Purpose::Write => FOUND_ROWS | MULTI_STATEMENTS | MULTI_RESULTS,
    };
    let attributes = greeting.capabilities & CONNECT_ATTRS;
    let is_mysql = if greeting.info.takes_bulk { 0 } else { LONG_PASSWORD };
    Ok(NEEDED | is_mysql | LONG_FLAG | TRANSACTIONS | database | writing | attributes)
}

/// The part that is sent before TLS begins, and again as the start of the response.
fn put_client_head(out: &mut Vec<u8>, flags: u32, own_flags: u32) {
    out.extend_from_slice(&flags.to_le_bytes());
    out.extend_from_slice(&PACKET_BYTES_MAX.to_le_bytes());
    out.push(CHARACTER_SET);
    out.extend_from_slice(&[0; 19]);
    out.extend_from_slice(&own_flags.to_le_bytes());
}

fn put_response(
    out: &mut Vec<u8>,
    [flags, own_flags]: [u32; 2],
    options: &ConnectOptions,
    plugin: AuthPlugin,
    answer: &[u8],
) {
    let put_zero_ended = |out: &mut Vec<u8>, text: &str| {
        out.extend_from_slice(text.as_bytes());
        out.push(0);
    };
    put_client_head(out, flags, own_flags);
    put_zero_ended(out, &options.user);
    put_string(out, answer);
    if let Some(database) = &options.database {
        put_zero_ended(out, database);
    }
    put_zero_ended(out, plugin.name());
    if flags & capability::CONNECT_ATTRS != 0 {
        let attributes = [
            ("program_name", "freshet"),
            ("_client_name", "freshet"),
            ("_client_version", env!("CARGO_PKG_VERSION")),
        ];
        let mut encoded = Vec::new();
        for text in attributes.iter().flat_map(|(name, value)| [name, value]) {
            put_string(&mut encoded, text.as_bytes());
        }
        put_length(out, encoded.len());
        out.extend_from_slice(&encoded);
    }
}

/// What the server wants next.
enum AuthStep {
    Done,
    Switch(AuthPlugin, Challenge),
    /// The server knows the password's hash; its OK follows.
    FastDone,
    /// The server wants the password itself.
    Full,
}

async fn authenticate(
    channel: &mut Channel,
    password: &str,
    mut plugin: AuthPlugin,
    mut challenge: Challenge,
) -> Result<(), WireError> {
    for _ in 0..AUTH_PACKETS_MAX {
        let packet = channel.receive("authenticating").await?;
        match parse_step(channel.payload(packet), plugin)? {
            AuthStep::Done => return Ok(()),
            AuthStep::FastDone => {}
            AuthStep::Switch(next, sent) => {
                (plugin, challenge) = (next, sent);
                let answer = plugin.answer(password, &challenge);
                channel.send(|out| out.extend_from_slice(&answer)).await?;
            }
            AuthStep::Full => send_password(channel, password, &challenge).await?,
        }
    }
    Err(WireError::protocol("authentication does not end"))
}

fn parse_step(packet: &[u8], plugin: AuthPlugin) -> Result<AuthStep, WireError> {
    match packet {
        [0x00, ..] => Ok(AuthStep::Done),
        [0xFF, ..] => Err(server_error(packet)),
        [0xFE] => Err(WireError::AuthPlugin { plugin: "mysql_old_password".to_owned() }),
        [0xFE, rest @ ..] => parse_switch(rest),
        [0x01, 3] if plugin == AuthPlugin::CachingSha2 => Ok(AuthStep::FastDone),
        [0x01, 4] if plugin == AuthPlugin::CachingSha2 => Ok(AuthStep::Full),
        _ => Err(WireError::protocol("an unknown packet in authentication")),
    }
}

fn parse_switch(rest: &[u8]) -> Result<AuthStep, WireError> {
    let mut scan = Scan::new(rest);
    let name = scan.until_zero()?;
    let unknown = || WireError::AuthPlugin { plugin: String::from_utf8_lossy(name).into_owned() };
    let plugin = AuthPlugin::from_name(name).ok_or_else(unknown)?;
    let challenge = scan.rest().first_chunk::<CHALLENGE_BYTES>();
    Ok(AuthStep::Switch(plugin, *challenge.ok_or_else(|| WireError::protocol("a challenge is too short"))?))
}

/// The full exchange of `caching_sha2_password`: under TLS the password as it is, else under the server's key.
async fn send_password(
    channel: &mut Channel,
    password: &str,
    challenge: &Challenge,
) -> Result<(), WireError> {
    if channel.is_tls() {
        let put = |out: &mut Vec<u8>| {
            out.extend_from_slice(password.as_bytes());
            out.push(0);
        };
        return channel.send(put).await;
    }
    const REQUEST_PUBLIC_KEY: u8 = 2;
    channel.send(|out| out.push(REQUEST_PUBLIC_KEY)).await?;
    let packet = channel.receive("waiting for the server's RSA key").await?;
    let encrypted = match channel.payload(packet) {
        [0x01, key @ ..] => encrypted_password(password, challenge, key)?,
        packet @ [0xFF, ..] => return Err(server_error(packet)),
        _ => return Err(WireError::Auth { what: "the server has no RSA key for passwords; use TLS" }),
    };
    channel.send(|out| out.extend_from_slice(&encrypted)).await
}

#[cfg(test)]
#[path = "handshake_tests.rs"]
mod tests;
