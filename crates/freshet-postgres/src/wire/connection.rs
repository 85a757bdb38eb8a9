//! A replication connection that answers simple queries, until it turns into a stream of changes.
//!
//! One query at a time, its rows kept whole: they are the few rows of replication commands and catalogue look-ups.

use super::channel::{self, Message, Reader, Writer};
use super::startup::{parsed, start};
use super::stream::{ReplicationReader, ReplicationWriter};
use crate::error::{Scope, coded_error};
use crate::options::ConnectOptions;
use bytes::BytesMut;
use fallible_iterator::FallibleIterator;
use freshet_core::{Error, Result};
use postgres_protocol::message::backend::{ErrorResponseBody, Message as Parsed};
use postgres_protocol::message::frontend;
use std::time::Duration;

/// The receive buffer of a replication connection: small, so that it is full soon, and the walsender's messages gather
/// in its own (`paced`, bench/notes.md).
const RECEIVE_BUFFER_BYTES: u32 = 128 << 10;

/// The rows of an answer, as text.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rows {
    columns: Vec<String>,
    rows: Vec<Vec<Option<String>>>,
}

impl Rows {
    /// The value in that column of the first row; `None` for NULL and where either is missing.
    pub(crate) fn first(&self, column: &str) -> Option<&str> {
        self.get(0, column)
    }

    /// A value by row and column name.
    pub(crate) fn get(&self, row: usize, column: &str) -> Option<&str> {
        let index = self.columns.iter().position(|name| name == column)?;
        self.rows.get(row)?.get(index)?.as_deref()
    }
}

/// A session with `replication=database`.
pub(crate) struct Connection {
    reader: Reader,
    writer: Writer,
}

impl Connection {
    /// Connects for logical replication, with every setting that a value's text or the session's life depends on.
    pub(crate) async fn connect(options: &ConnectOptions, application_name: &str) -> Result<Self> {
        let parameters = [
            ("replication", "database"),
            ("application_name", application_name),
            ("client_encoding", "UTF8"),
            ("DateStyle", "ISO, YMD"),
            ("IntervalStyle", "postgres"),
            ("TimeZone", "UTC"),
            ("extra_float_digits", "3"),
            ("bytea_output", "hex"),
            ("lc_monetary", "C"),
            ("search_path", ""),
            ("statement_timeout", "0"),
            ("idle_in_transaction_session_timeout", "0"),
            ("wal_sender_timeout", "60s"),
        ];
        let deadline = Duration::from_millis(options.connect_timeout_ms);
        let opening = async {
            let (stream, binding) = channel::connect(options, Some(RECEIVE_BUFFER_BYTES)).await?;
            let (mut reader, mut writer) = channel::split(stream, options);
            start(options, &parameters, binding, &mut reader, &mut writer).await?;
            Ok(Self { reader, writer })
        };
        tokio::time::timeout(deadline, opening).await.unwrap_or_else(|_| {
            Err(Error::unavailable(format!(
                "Connecting to PostgreSQL at {}: no answer within {} ms",
                options.place(),
                options.connect_timeout_ms
            )))
        })
    }

    /// Runs a command. `doing` is what is being done, in sentence case. Not cancel-safe: drop the connection then.
    pub(crate) async fn query(&mut self, doing: &str, sql: &str) -> Result<Rows> {
        self.send_query(sql).await?;
        let (mut rows, mut failed) = (Rows::default(), None);
        loop {
            match parsed(self.reader.next().await?)? {
                Parsed::RowDescription(body) => {
                    let names = body.fields().map(|field| Ok(field.name().to_owned())).collect();
                    rows.columns = names.map_err(|error| strange(&error))?;
                }
                Parsed::DataRow(body) => {
                    let text = |range: Option<std::ops::Range<usize>>| {
                        range.map(|range| String::from_utf8_lossy(&body.buffer()[range]).into_owned())
                    };
                    let cells = body.ranges().map(|range| Ok(text(range))).collect();
                    rows.rows.push(cells.map_err(|error| strange(&error))?);
                }
                Parsed::ErrorResponse(body) => failed = Some(server_error(doing, &body)),
                Parsed::ReadyForQuery(_) => return failed.map_or(Ok(rows), Err),
                Parsed::CommandComplete(_)
                | Parsed::EmptyQueryResponse
                | Parsed::NoticeResponse(_)
                | Parsed::ParameterStatus(_) => {}
                _ => return Err(strange(&"a message that is none of a simple query")),
            }
        }
    }

    /// Begins a stream with `START_REPLICATION`.
    pub(crate) async fn start_replication(
        mut self,
        doing: &str,
        sql: &str,
    ) -> Result<(ReplicationReader, ReplicationWriter)> {
        const COPY_BOTH_RESPONSE: u8 = b'W';
        self.send_query(sql).await?;
        loop {
            let message = self.reader.next().await?;
            if message.tag == COPY_BOTH_RESPONSE {
                return Ok((ReplicationReader::new(self.reader), ReplicationWriter::new(self.writer)));
            }
            if let Some(error) = error_in(doing, message)? {
                return Err(error);
            }
        }
    }

    async fn send_query(&mut self, sql: &str) -> Result<()> {
        let mut out = BytesMut::new();
        frontend::query(sql, &mut out).map_err(|error| strange(&error))?;
        self.writer.send(&out).await
    }
}

/// The server's error, if the message is one; notices and settings are nothing.
pub(super) fn error_in(doing: &str, message: Message) -> Result<Option<Error>> {
    match parsed(message)? {
        Parsed::ErrorResponse(body) => Ok(Some(server_error(doing, &body))),
        Parsed::NoticeResponse(_) | Parsed::ParameterStatus(_) => Ok(None),
        _ => Err(strange(&"a message that is none of replication")),
    }
}

/// An error as the server words it, where its words quote no value.
pub(super) fn server_error(doing: &str, body: &ErrorResponseBody) -> Error {
    let (mut code, mut message) = (String::new(), String::new());
    let mut fields = body.fields();
    while let Ok(Some(field)) = fields.next() {
        let text = || String::from_utf8_lossy(field.value_bytes()).into_owned();
        match field.type_() {
            b'C' => code = text(),
            b'M' => message = text(),
            _ => {}
        }
    }
    coded_error(&Scope::Session, doing, &code, &message)
}

fn strange(what: &dyn std::fmt::Display) -> Error {
    Error::corrupt(format!("PostgreSQL's answer is not understood: {what}"))
}
