//! A socket, plain or with TLS, that sends and receives packets; knows time-outs, but no commands.
//!
//! Framing is `packet`'s. Reading more bytes is the only wait of a receive, and it is safe to cancel: what
//! arrived is in the buffer. The silence that counts against the read time-out goes on over cancelled waits,
//! so a receive inside `select!` times out as well.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::error::WireError;
use super::options::ConnectOptions;
use super::packet::{HEADER_BYTES, PART_BYTES_MAX, PacketBuffer, READ_BUFFER_BYTES};

/// Idle time before the system probes a connection, and the time between probes (P23).
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// How long a wait lasts at least that begins when the read time-out has already passed: the caller paused,
/// and what the server sent meanwhile may not have been noticed yet.
const GRACE: Duration = Duration::from_secs(1);

/// The most that the buffer for requests keeps between them.
const OUTBOX_BYTES_KEPT: usize = READ_BUFFER_BYTES;

enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// How long the server has been silent.
#[derive(Clone, Copy)]
struct Silence {
    /// When something was last sent or received.
    since: Instant,
    /// When the first wait began that found the time-out passed already.
    overdue_wait: Option<Instant>,
}

impl Silence {
    fn begin() -> Self {
        Silence { since: Instant::now(), overdue_wait: None }
    }

    fn deadline(&mut self, timeout: Duration, now: Instant) -> Instant {
        let deadline = self.since + timeout;
        if now < deadline {
            return deadline;
        }
        *self.overdue_wait.get_or_insert(now) + GRACE
    }
}

/// One connection's packets.
pub(crate) struct Channel {
    transport: Transport,
    inbox: PacketBuffer,
    outbox: Vec<u8>,
    silence: Silence,
    read_timeout: Duration,
}

impl Channel {
    /// Opens the TCP connection.
    pub(crate) async fn open(options: &ConnectOptions) -> Result<Self, WireError> {
        let host = || options.host.clone();
        let addresses = tokio::net::lookup_host((options.host.as_str(), options.port)).await;
        let addresses: Vec<_> =
            addresses.map_err(|source| WireError::UnknownHost { host: host(), source })?.collect();
        let fail = |source| WireError::Connect { host: host(), port: options.port, source };
        let socket = TcpStream::connect(&addresses[..]).await.map_err(fail)?;
        socket.set_nodelay(true).map_err(fail)?;
        let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL);
        SockRef::from(&socket).set_tcp_keepalive(&keepalive).map_err(fail)?;
        Ok(Channel {
            transport: Transport::Plain(socket),
            inbox: PacketBuffer::new(),
            outbox: Vec::new(),
            silence: Silence::begin(),
            read_timeout: Duration::from_millis(options.read_timeout_ms),
        })
    }

    /// Goes on under TLS. Bytes that came before its handshake are refused: nobody vouches for them.
    pub(crate) async fn upgrade(
        self,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
        host: &str,
    ) -> Result<Self, WireError> {
        if !self.inbox.is_drained() {
            return Err(WireError::protocol("bytes come before the TLS handshake"));
        }
        let Transport::Plain(socket) = self.transport else {
            return Err(WireError::protocol("TLS inside TLS"));
        };
        let stream = TlsConnector::from(config).connect(name, socket).await;
        let stream = stream.map_err(|error| tls_error(host, error))?;
        Ok(Channel { transport: Transport::Tls(Box::new(stream)), ..self })
    }

    /// Whether the connection is under TLS.
    pub(crate) fn is_tls(&self) -> bool {
        matches!(self.transport, Transport::Tls(_))
    }

    /// Begins a new exchange: sequence numbers start at 0.
    pub(crate) fn begin_exchange(&mut self) {
        self.inbox.expect_sequence(0);
    }

    /// Sends one payload, which `write` appends to the buffer that it is given.
    pub(crate) async fn send(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), WireError> {
        self.outbox.clear();
        self.outbox.extend_from_slice(&[0; HEADER_BYTES]);
        write(&mut self.outbox);
        let sequence = split_parts(&mut self.outbox, self.inbox.sequence());
        self.inbox.expect_sequence(sequence);
        self.silence = Silence::begin();
        let sent = timeout(self.read_timeout, self.transport.write(&self.outbox)).await;
        let doing = "sending a request";
        sent.map_err(|_| self.timed_out(doing))?.map_err(|source| WireError::Io { doing, source })?;
        if self.outbox.capacity() > OUTBOX_BYTES_KEPT {
            self.outbox = Vec::new();
        }
        self.silence = Silence::begin();
        Ok(())
    }

    /// The next packet's place in the buffer; see [`Channel::payload`].
    pub(crate) async fn receive(&mut self, doing: &'static str) -> Result<Range<usize>, WireError> {
        loop {
            if let Some(range) = self.inbox.next_packet()? {
                return Ok(range);
            }
            self.fill(doing).await?;
        }
    }

    /// The next packet's place, if it has arrived entirely; never waits.
    pub(crate) fn receive_buffered(&mut self) -> Result<Option<Range<usize>>, WireError> {
        self.inbox.next_packet()
    }

    /// The bytes of the packet received last.
    pub(crate) fn payload(&self, range: Range<usize>) -> &[u8] {
        self.inbox.payload(range)
    }

    async fn fill(&mut self, doing: &'static str) -> Result<(), WireError> {
        let deadline = self.silence.deadline(self.read_timeout, Instant::now());
        let space = self.inbox.space();
        match timeout_at(deadline, self.transport.read(space)).await {
            Err(_) => Err(self.timed_out(doing)),
            Ok(Err(source)) if source.kind() == io::ErrorKind::UnexpectedEof => {
                Err(WireError::Closed { doing })
            }
            Ok(Err(source)) => Err(WireError::Io { doing, source }),
            Ok(Ok(0)) => Err(WireError::Closed { doing }),
            Ok(Ok(_)) => {
                self.silence = Silence::begin();
                Ok(())
            }
        }
    }

    fn timed_out(&self, doing: &'static str) -> WireError {
        WireError::Timeout { doing, timeout_ms: self.read_timeout.as_millis() as u64 }
    }

    /// Ends the connection; the other side learns of it, errors no longer matter.
    pub(crate) async fn shut_down(mut self) {
        let _ = timeout(GRACE, self.transport.shut_down()).await;
    }
}

impl Transport {
    async fn read(&mut self, space: &mut Vec<u8>) -> io::Result<usize> {
        match self {
            Transport::Plain(socket) => socket.read_buf(space).await,
            Transport::Tls(stream) => stream.read_buf(space).await,
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Transport::Plain(socket) => socket.write_all(bytes).await,
            Transport::Tls(stream) => {
                stream.write_all(bytes).await?;
                stream.flush().await
            }
        }
    }

    async fn shut_down(&mut self) -> io::Result<()> {
        match self {
            Transport::Plain(socket) => socket.shutdown().await,
            Transport::Tls(stream) => stream.shutdown().await,
        }
    }
}

/// Fills in the headers of a request whose payload begins at [`HEADER_BYTES`], splitting it into parts where
/// it is too long for one; returns the sequence number after them.
fn split_parts(request: &mut Vec<u8>, sequence: u8) -> u8 {
    let payload_bytes = request.len() - HEADER_BYTES;
    let parts = payload_bytes / PART_BYTES_MAX + 1;
    if parts > 1 {
        let payload = request.split_off(HEADER_BYTES);
        request.clear();
        request.reserve_exact(payload_bytes + parts * HEADER_BYTES);
        for part in 0..parts {
            let from = part * PART_BYTES_MAX;
            let to = payload_bytes.min(from + PART_BYTES_MAX);
            request.extend_from_slice(&header(to - from, sequence.wrapping_add(part as u8)));
            request.extend_from_slice(&payload[from..to]);
        }
    } else {
        request[..HEADER_BYTES].copy_from_slice(&header(payload_bytes, sequence));
    }
    sequence.wrapping_add(parts as u8)
}

fn header(payload_bytes: usize, sequence: u8) -> [u8; HEADER_BYTES] {
    let [a, b, c, _] = (payload_bytes as u32).to_le_bytes();
    [a, b, c, sequence]
}

/// What an error of the TLS handshake means: a refused certificate, TLS itself, or a lost connection.
fn tls_error(host: &str, error: io::Error) -> WireError {
    let host = host.to_owned();
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(source @ rustls::Error::InvalidCertificate(_)) => {
            WireError::TlsCertificate { host, source: source.clone() }
        }
        Some(other) => WireError::TlsHandshake { host, reason: other.to_string() },
        None => WireError::Io { doing: "making the TLS connection", source: error },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// M17: requests of exactly the limit end with an empty part; what is split is joined again.
    #[test]
    fn m17_requests_split_and_join() {
        for length in [0, 5, PART_BYTES_MAX - 1, PART_BYTES_MAX, PART_BYTES_MAX + 1, 2 * PART_BYTES_MAX] {
            let payload: Vec<u8> = (0..length).map(|n| (n % 253) as u8).collect();
            let mut request = [&[0; HEADER_BYTES][..], &payload].concat();
            let next = split_parts(&mut request, 254);
            assert_eq!(next, 254u8.wrapping_add((length / PART_BYTES_MAX + 1) as u8));
            let mut inbox = PacketBuffer::new();
            inbox.expect_sequence(254);
            inbox.space().extend_from_slice(&request);
            let range = inbox.next_packet().unwrap().unwrap();
            assert!(inbox.payload(range) == payload && inbox.is_drained(), "length {length}");
        }
    }

    #[test]
    fn p23_silence_goes_on_over_cancelled_waits() {
        let mut silence = Silence::begin();
        let (begin, limit) = (silence.since, Duration::from_secs(10));
        let after = |ms| begin + Duration::from_millis(ms);
        assert_eq!(silence.deadline(limit, after(0)), begin + limit);
        assert_eq!(silence.deadline(limit, after(5_000)), begin + limit);
        // The caller paused: what came meanwhile gets a moment to be noticed, but only one.
        assert_eq!(silence.deadline(limit, after(60_000)), after(60_000) + GRACE);
        assert_eq!(silence.deadline(limit, after(60_500)), after(60_000) + GRACE);
    }
}
