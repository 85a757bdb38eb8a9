//! The stream of changes: XLogData and keepalives in, status updates out (manual, "Streaming Replication Protocol").
//!
//! The two directions are apart, so that the server hears from us also while nobody reads. A reader does not hurry: see
//! `paced`.

use super::channel::{Reader, Writer};
use super::connection::error_in;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use freshet_core::position::Lsn;
use freshet_core::{Error, Result};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What the server sends.
#[derive(Debug)]
pub(crate) enum Replicated {
    /// A message of the output plug-in.
    Change(Bytes),
    /// Everything up to this place was sent, if nothing is open; the server may want an answer at once.
    Keepalive {
        /// The end of what was decoded.
        end: Lsn,
        /// Whether an answer is wanted.
        reply: bool,
    },
}

/// Reads the stream.
pub(crate) struct ReplicationReader {
    reader: Reader,
}

impl ReplicationReader {
    pub(super) fn new(reader: Reader) -> Self {
        Self { reader }
    }

    /// A message that was read already.
    pub(crate) fn buffered(&mut self) -> Result<Option<Replicated>> {
        const COPY_DATA: u8 = b'd';
        const COPY_DONE: u8 = b'c';
        while let Some(message) = self.reader.buffered()? {
            match message.tag {
                COPY_DATA => return replicated(message.body).map(Some),
                COPY_DONE => {
                    return Err(Error::unavailable(format!(
                        "PostgreSQL at {} ended the stream",
                        self.reader.place()
                    )));
                }
                _ => {
                    if let Some(error) = error_in("Reading the WAL", message)? {
                        return Err(error);
                    }
                }
            }
        }
        Ok(None)
    }

    /// Waits until something more was read. Cancel-safe.
    pub(crate) async fn fill(&mut self) -> Result<()> {
        self.reader.fill().await.map(drop)
    }
}

fn replicated(mut body: Bytes) -> Result<Replicated> {
    const XLOG_DATA: u8 = b'w';
    const KEEPALIVE: u8 = b'k';
    let short = || Error::corrupt("A message of the WAL stream is cut off");
    match body.try_get_u8().map_err(|_| short())? {
        // Start of the data, end of the WAL, the server's clock.
        XLOG_DATA if body.len() >= 24 => Ok(Replicated::Change(body.slice(24..))),
        KEEPALIVE => {
            let end = body.try_get_u64().map_err(|_| short())?;
            let _clock = body.try_get_u64().map_err(|_| short())?;
            let reply = body.try_get_u8().map_err(|_| short())? != 0;
            Ok(Replicated::Keepalive { end: Lsn(end), reply })
        }
        XLOG_DATA => Err(short()),
        other => Err(Error::unsupported(format!("The WAL stream holds a message of kind {other}"))),
    }
}

/// Tells the server how far we are.
pub(crate) struct ReplicationWriter {
    writer: Writer,
}

impl ReplicationWriter {
    pub(super) fn new(writer: Writer) -> Self {
        Self { writer }
    }

    /// A standby status update: what was received, and what the server may forget.
    pub(crate) async fn status(&mut self, received: Lsn, durable: Lsn) -> Result<()> {
        const COPY_DATA: u8 = b'd';
        const STATUS_UPDATE: u8 = b'r';
        const BODY_BYTES: u32 = 1 + 4 * 8 + 1;
        let mut out = BytesMut::with_capacity(5 + BODY_BYTES as usize);
        out.put_u8(COPY_DATA);
        out.put_u32(BODY_BYTES + 4);
        out.put_u8(STATUS_UPDATE);
        out.put_u64(received.0.max(durable.0));
        out.put_u64(durable.0);
        out.put_u64(durable.0);
        // No answer is wanted.
        out.put_i64(micros_since_2000());
        out.put_u8(0);
        self.writer.send(&out).await
    }
}

/// Our clock, which the server only shows.
fn micros_since_2000() -> i64 {
    const SECONDS_1970_TO_2000: u64 = 946_684_800;
    let since = SystemTime::now().duration_since(UNIX_EPOCH + Duration::from_secs(SECONDS_1970_TO_2000));
    i64::try_from(since.unwrap_or_default().as_micros()).unwrap_or(i64::MAX)
}
