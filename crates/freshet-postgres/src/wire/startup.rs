//! From an open socket to a session: start-up message and authentication (manual, "Message Flow").
//!
//! SCRAM-SHA-256 with channel binding over TLS, md5, and a clear-text password over TLS only. The password is sent
//! nowhere else.

use super::channel::{Message, Reader, Writer};
use super::connection::server_error;
use crate::options::{ConnectOptions, TlsMode};
use bytes::BytesMut;
use fallible_iterator::FallibleIterator;
use freshet_core::{Error, Result};
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{
    ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256,
};
use postgres_protocol::message::backend::Message as Parsed;
use postgres_protocol::message::frontend;
use std::io;

/// Says who we are, answers for it, and waits until the session is ready.
pub(super) async fn start(
    options: &ConnectOptions,
    parameters: &[(&str, &str)],
    binding: Option<Vec<u8>>,
    reader: &mut Reader,
    writer: &mut Writer,
) -> Result<()> {
    let own = [("user", options.user.as_str()), ("database", options.database.as_str())];
    let mut out = BytesMut::new();
    frontend::startup_message(own.into_iter().chain(parameters.iter().copied()), &mut out)
        .map_err(|error| Error::invalid(format!("A start-up parameter cannot be sent: {error}")))?;
    writer.send(&out).await?;
    let mut start = Start { options, binding, scram: None };
    loop {
        let message = reader.next().await?;
        match start.step(message)? {
            Step::Answer(bytes) => writer.send(&bytes).await?,
            Step::Wait => {}
            Step::Ready => return Ok(()),
        }
    }
}

enum Step {
    Answer(BytesMut),
    Wait,
    Ready,
}

struct Start<'a> {
    options: &'a ConnectOptions,
    binding: Option<Vec<u8>>,
    scram: Option<ScramSha256>,
}

impl Start<'_> {
    fn step(&mut self, message: Message) -> Result<Step> {
        match parsed(message)? {
            Parsed::AuthenticationOk | Parsed::ParameterStatus(_) | Parsed::BackendKeyData(_) => {
                Ok(Step::Wait)
            }
            Parsed::NoticeResponse(_) => Ok(Step::Wait),
            Parsed::ReadyForQuery(_) => Ok(Step::Ready),
            Parsed::AuthenticationCleartextPassword if self.options.tls != TlsMode::Disable => {
                let password = self.password()?.to_vec();
                answer(|out| frontend::password_message(&password, out))
            }
            Parsed::AuthenticationCleartextPassword => Err(Error::invalid(format!(
                "PostgreSQL at {} wants the password in clear text over a connection without TLS",
                self.options.place()
            ))
            .with_hint("Set tls: require or verify-full, or use scram-sha-256 in pg_hba.conf")),
            Parsed::AuthenticationMd5Password(body) => {
                let hash = md5_hash(self.options.user.as_bytes(), self.password()?, body.salt());
                answer(|out| frontend::password_message(hash.as_bytes(), out))
            }
            Parsed::AuthenticationSasl(body) => {
                let offered = body.mechanisms().map(|name| Ok(name.to_owned())).collect::<Vec<_>>();
                self.begin_scram(&offered.map_err(|error| strange(&error))?)
            }
            Parsed::AuthenticationSaslContinue(body) => {
                let scram = self.scram.as_mut().ok_or_else(|| strange(&"SCRAM goes on before it began"))?;
                scram.update(body.data()).map_err(|error| self.refused(&error))?;
                let data = self.scram.as_ref().map(|scram| scram.message().to_vec()).unwrap_or_default();
                answer(|out| frontend::sasl_response(&data, out))
            }
            Parsed::AuthenticationSaslFinal(body) => {
                let scram = self.scram.as_mut().ok_or_else(|| strange(&"SCRAM ends before it began"))?;
                scram.finish(body.data()).map_err(|error| {
                    Error::invalid(format!("The server does not know the password either: {error}"))
                        .with_hint("Somebody may answer in the server's place: check host, port and TLS")
                })?;
                Ok(Step::Wait)
            }
            Parsed::ErrorResponse(body) => {
                let doing =
                    format!("Connecting to PostgreSQL at {} as {}", self.options.place(), self.options.user);
                Err(server_error(&doing, &body))
            }
            _ => Err(Error::unsupported(format!(
                "PostgreSQL at {} asks for a way to authenticate that freshet does not have",
                self.options.place()
            ))
            .with_hint("Use scram-sha-256 for this role in pg_hba.conf")),
        }
    }

    fn begin_scram(&mut self, offered: &[String]) -> Result<Step> {
        let has = |name: &str| offered.iter().any(|mechanism| mechanism == name);
        let (mechanism, binding) = match self.binding.take() {
            Some(hash) if has(SCRAM_SHA_256_PLUS) => {
                (SCRAM_SHA_256_PLUS, ChannelBinding::tls_server_end_point(hash))
            }
            Some(_) if has(SCRAM_SHA_256) => (SCRAM_SHA_256, ChannelBinding::unrequested()),
            None if has(SCRAM_SHA_256) => (SCRAM_SHA_256, ChannelBinding::unsupported()),
            Some(_) | None => return Err(strange(&"the server offers no SCRAM-SHA-256")),
        };
        let scram = ScramSha256::new(self.password()?, binding);
        let first = scram.message().to_vec();
        self.scram = Some(scram);
        answer(|out| frontend::sasl_initial_response(mechanism, &first, out))
    }

    fn password(&self) -> Result<&[u8]> {
        let password = self.options.password.as_ref().map(|secret| secret.expose().as_bytes());
        password.ok_or_else(|| {
            Error::invalid(format!("PostgreSQL at {} wants a password", self.options.place()))
                .with_hint("Set password or password_file")
        })
    }

    fn refused(&self, error: &io::Error) -> Error {
        Error::invalid(format!("Connecting to PostgreSQL at {}: {error}", self.options.place()))
    }
}

fn answer(write: impl FnOnce(&mut BytesMut) -> io::Result<()>) -> Result<Step> {
    let mut out = BytesMut::new();
    write(&mut out).map_err(|error| strange(&error))?;
    Ok(Step::Answer(out))
}

fn strange(what: &dyn std::fmt::Display) -> Error {
    Error::corrupt(format!("PostgreSQL's answer to the log-in is not understood: {what}"))
}

/// A message by `postgres-protocol`, which wants it framed.
pub(super) fn parsed(message: Message) -> Result<Parsed> {
    let mut framed = BytesMut::with_capacity(message.body.len() + 5);
    framed.extend_from_slice(&[message.tag]);
    framed.extend_from_slice(&(message.body.len() as u32 + 4).to_be_bytes());
    framed.extend_from_slice(&message.body);
    let parsed = Parsed::parse(&mut framed).map_err(|error| strange(&error))?;
    parsed.ok_or_else(|| strange(&"a message is cut off"))
}
