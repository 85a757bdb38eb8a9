//! A socket, with TLS or without, and whole messages over it.
//!
//! Reading is cancel-safe: what was read stays in the buffer. A message is at most [`MESSAGE_BYTES_MAX`] long, which is
//! what one row of PostgreSQL can be.

use super::paced::Paced;
use crate::error::unreachable;
use crate::options::{ConnectOptions, TlsMode};
use crate::tls::Tls;
use bytes::{Buf, Bytes, BytesMut};
use freshet_core::{Error, Result};
use postgres_protocol::message::frontend;
use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::{TcpSocket, UnixStream, lookup_host};

/// The longest message: a row of 1 GB and what surrounds it.
const MESSAGE_BYTES_MAX: usize = (1 << 30) + (64 << 20);
/// What is asked of the socket at once.
const READ_BYTES: usize = 256 << 10;
/// Tag and length.
const HEADER_BYTES: usize = 5;
/// A server that answers within this is near. Over a longer way a small receive buffer would be the limit of what can be
/// under way, and the kernel chooses its size.
const NEAR: Duration = Duration::from_millis(2);
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);

/// Anything that bytes go over.
pub(super) trait Socketlike: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socketlike for T {}

pub(super) type Stream = Box<dyn Socketlike>;

/// Connects and protects the connection as asked; the hash for SCRAM's channel binding where there is one. With a receive
/// buffer of its own size the connection is for a stream, and its reads are paced.
pub(super) async fn connect(
    options: &ConnectOptions,
    receive_buffer_bytes: Option<u32>,
) -> Result<(Stream, Option<Vec<u8>>)> {
    let fail = |error: io::Error| unreachable(options, &error);
    if options.host.starts_with('/') {
        let path = format!("{}/.s.PGSQL.{}", options.host, options.port);
        return Ok((Box::new(UnixStream::connect(path).await.map_err(fail)?), None));
    }
    let socket = tcp(options, receive_buffer_bytes).await?;
    match receive_buffer_bytes {
        Some(_) => protect(options, Paced::new(socket)).await,
        None => protect(options, socket).await,
    }
}

/// Puts TLS over a connection, if it is asked for.
async fn protect<S: Socketlike + 'static>(
    options: &ConnectOptions,
    mut socket: S,
) -> Result<(Stream, Option<Vec<u8>>)> {
    let fail = |error: io::Error| unreachable(options, &error);
    match options.tls {
        TlsMode::Disable => Ok((Box::new(socket), None)),
        TlsMode::Require | TlsMode::VerifyFull => {
            let mut request = BytesMut::new();
            frontend::ssl_request(&mut request);
            socket.write_all(&request).await.map_err(fail)?;
            if socket.read_u8().await.map_err(fail)? != b'S' {
                let text =
                    format!("Connecting to PostgreSQL at {}: the server does not offer TLS", options.place());
                return Err(Error::invalid(text).with_hint("Turn ssl on at the server, or set tls: disable"));
            }
            let tls = Tls::new(options).map_err(Error::invalid)?;
            let (session, binding) = tls.session(&options.host, socket).await.map_err(fail)?;
            Ok((Box::new(session), binding))
        }
    }
}

async fn tcp(options: &ConnectOptions, receive_buffer_bytes: Option<u32>) -> Result<tokio::net::TcpStream> {
    let fail = |error: io::Error| unreachable(options, &error);
    let mut last = io::Error::other("the name has no address");
    for address in lookup_host((options.host.as_str(), options.port)).await.map_err(fail)? {
        match tcp_to(address, receive_buffer_bytes).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(fail(last))
}

async fn tcp_to(address: SocketAddr, receive_buffer_bytes: Option<u32>) -> io::Result<tokio::net::TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), None)?;
    let begun = Instant::now();
    let stream = TcpSocket::from_std_stream(socket.into()).connect(address).await?;
    if let Some(bytes) = receive_buffer_bytes.filter(|_| begun.elapsed() < NEAR) {
        SockRef::from(&stream).set_recv_buffer_size(bytes as usize)?;
    }
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL);
    SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
    Ok(stream)
}

/// The reading side: whole messages out of a bounded buffer.
pub(super) struct Reader {
    socket: ReadHalf<Stream>,
    buffer: BytesMut,
    place: String,
}

/// One message: its tag, and what follows its length.
pub(super) struct Message {
    pub tag: u8,
    pub body: Bytes,
}

impl Reader {
    /// A message that is there already; `None` where more must be read.
    pub(super) fn buffered(&mut self) -> Result<Option<Message>> {
        let Some(header) = self.buffer.get(..HEADER_BYTES) else { return Ok(None) };
        let tag = header[0];
        let announced = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
        if !(4..=MESSAGE_BYTES_MAX).contains(&announced) {
            return Err(Error::corrupt(format!(
                "PostgreSQL at {} announces a message of {announced} bytes",
                self.place
            ))
            .with_hint("Check that host and port are a PostgreSQL server's"));
        }
        if self.buffer.len() < announced + 1 {
            return Ok(None);
        }
        let mut message = self.buffer.split_to(announced + 1).freeze();
        message.advance(HEADER_BYTES);
        Ok(Some(Message { tag, body: message }))
    }

    /// Reads what the socket has; the number of bytes, never 0.
    pub(super) async fn fill(&mut self) -> Result<usize> {
        self.buffer.reserve(READ_BYTES);
        let lost = |error: &dyn std::fmt::Display| {
            Error::unavailable(format!("The connection to PostgreSQL at {} was lost: {error}", self.place))
        };
        match self.socket.read_buf(&mut self.buffer).await {
            Ok(0) => Err(lost(&"the server closed it")),
            Ok(n) => Ok(n),
            Err(error) => Err(lost(&error)),
        }
    }

    /// The next message.
    pub(super) async fn next(&mut self) -> Result<Message> {
        loop {
            match self.buffered()? {
                Some(message) => return Ok(message),
                None => self.fill().await?,
            };
        }
    }

    pub(super) fn place(&self) -> &str {
        &self.place
    }
}

/// The writing side.
pub(super) struct Writer {
    socket: WriteHalf<Stream>,
    place: String,
}

impl Writer {
    /// Sends whole messages.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        let sent = async {
            self.socket.write_all(bytes).await?;
            self.socket.flush().await
        };
        sent.await.map_err(|error: io::Error| {
            Error::unavailable(format!("The connection to PostgreSQL at {} was lost: {error}", self.place))
        })
    }
}

/// Both sides of a connection.
pub(super) fn split(stream: Stream, options: &ConnectOptions) -> (Reader, Writer) {
    let (read, write) = tokio::io::split(stream);
    let place = options.place();
    let reader = Reader { socket: read, buffer: BytesMut::new(), place: place.clone() };
    (reader, Writer { socket: write, place })
}
