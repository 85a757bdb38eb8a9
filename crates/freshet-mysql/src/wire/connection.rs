//! A session with a server: SQL by the text protocol, and tables by prepared statements.
//!
//! One command at a time. An answer that is not read to its end (a dropped [`RowStream`], a cancelled call)
//! leaves the connection abandoned: every later command is refused, nothing is silently misread. Commands:
//! manual pages "COM_QUERY", "COM_STMT_PREPARE", "COM_STMT_EXECUTE", "COM_STMT_CLOSE", "COM_PING", "COM_QUIT",
//! and of MariaDB "COM_STMT_BULK_EXECUTE".

use std::ops::Range;
use std::time::Duration;

use tokio::time::timeout;

use super::channel::Channel;
use super::error::WireError;
use super::handshake::{Purpose, ServerInfo, log_in};
use super::options::ConnectOptions;
use super::response::{Answer, ColumnDef, eof_has_more, is_eof, server_error};
use super::rows::{BinaryRow, BulkType, Param, Rows};
use super::scan::Scan;

/// The largest text result that is held in memory; tables are read by [`RowStream`].
pub const RESULT_BYTES_MAX: usize = 256 << 20;

/// How long the server bears with a client that neither asks nor reads: a year, the most that it takes.
const SERVER_TIMEOUT_S: u32 = 31_536_000;

pub(crate) mod command {
    pub(crate) const QUIT: u8 = 0x01;
    pub(crate) const QUERY: u8 = 0x03;
    pub(crate) const PING: u8 = 0x0E;
    pub(crate) const BINLOG_DUMP: u8 = 0x12;
    pub(crate) const REGISTER_SLAVE: u8 = 0x15;
    pub(crate) const STMT_PREPARE: u8 = 0x16;
    pub(crate) const STMT_EXECUTE: u8 = 0x17;
    pub(crate) const STMT_CLOSE: u8 = 0x19;
    pub(crate) const BINLOG_DUMP_GTID: u8 = 0x1E;
    pub(crate) const STMT_BULK_EXECUTE: u8 = 0xFA;
}

/// Whether a command may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Session {
    Ready,
    /// An answer is outstanding; whoever gave up on it left the connection like this.
    Answering,
}

/// An authenticated connection.
pub struct Connection {
    channel: Channel,
    session: Session,
    info: ServerInfo,
}

/// What one statement of a batch came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Rows found (of an update, also those that did not change), inserted, deleted, or returned.
    pub rows: u64,
    /// Warnings.
    pub warnings: u16,
}

/// A prepared statement of one connection.
#[derive(Debug, Clone)]
pub struct Statement {
    id: u32,
    params: usize,
    columns: Vec<ColumnDef>,
    connection_id: u64,
}

impl Statement {
    /// How many values it takes.
    pub fn params(&self) -> usize {
        self.params
    }

    /// The columns of its result, as of when it was prepared.
    pub fn columns(&self) -> &[ColumnDef] {
        &self.columns
    }
}

impl Connection {
    /// Connects, authenticates and sets up the session, within the connect time-out: character set `utf8mb4`,
    /// and none of the server's limits on pauses and long reads. SQL mode and time zone stay the server's.
    pub async fn connect(options: &ConnectOptions) -> Result<Self, WireError> {
        Self::connect_for(options, Purpose::Read).await
    }

    /// The same for writing: [`Connection::batch`] may be used, and rows are counted as found, not as changed.
    pub async fn connect_to_write(options: &ConnectOptions) -> Result<Self, WireError> {
        Self::connect_for(options, Purpose::Write).await
    }

    async fn connect_for(options: &ConnectOptions, purpose: Purpose) -> Result<Self, WireError> {
        let timeout_ms = options.connect_timeout_ms;
        let connecting = Self::connect_untimed(options, purpose);
        let connected = timeout(Duration::from_millis(timeout_ms), connecting).await;
        connected.map_err(|_| WireError::Timeout { doing: "connecting", timeout_ms })?
    }

    async fn connect_untimed(options: &ConnectOptions, purpose: Purpose) -> Result<Self, WireError> {
        let channel = Channel::open(options).await?;
        let (channel, info) = log_in(channel, options, purpose).await?;
        let mut connection = Connection { channel, session: Session::Ready, info };
        let sql = connection.session_settings();
        connection.exec(&sql).await?;
        Ok(connection)
    }

    /// The character set, since a server may be configured to ignore the one of the handshake; and no limits of
    /// the server on how long we may pause, wait or read, since back-pressure must not get us cut off (P8).
    fn session_settings(&self) -> String {
        let statement_limits = match self.info.is_mariadb {
            true => "max_statement_time = 0, idle_transaction_timeout = 0",
            false => "max_execution_time = 0",
        };
        let pause = SERVER_TIMEOUT_S;
        format!("SET NAMES utf8mb4, wait_timeout = {pause}, net_write_timeout = {pause}, {statement_limits}")
    }

    /// What the server said about itself.
    pub fn info(&self) -> &ServerInfo {
        &self.info
    }

    /// Whether the connection is under TLS.
    pub fn is_tls(&self) -> bool {
        self.channel.is_tls()
    }

    /// Runs a query and holds its whole result in memory, at most [`RESULT_BYTES_MAX`].
    ///
    /// A statement without a result gives no columns and no rows.
    pub async fn query(&mut self, sql: &str) -> Result<Rows, WireError> {
        self.command(command::QUERY, |out| out.extend_from_slice(sql.as_bytes())).await?;
        let columns = match self.answer().await? {
            Answer::Ok(_) => return Ok(Rows::new(Vec::new())),
            Answer::Columns(count) => self.columns(count).await?,
        };
        let (mut rows, mut bytes) = (Rows::new(columns), 0);
        while let Some(packet) = self.row_packet().await? {
            bytes += packet.len();
            if bytes > RESULT_BYTES_MAX {
                return Err(WireError::TooLarge { what: "a result", bytes_max: RESULT_BYTES_MAX });
            }
            rows.push(self.channel.payload(packet))?;
        }
        Ok(rows)
    }

    /// Runs a statement and returns the number of rows it changed; a result, if there is one, is dropped.
    pub async fn exec(&mut self, sql: &str) -> Result<u64, WireError> {
        self.command(command::QUERY, |out| out.extend_from_slice(sql.as_bytes())).await?;
        match self.answer().await? {
            Answer::Ok(ok) => Ok(ok.affected_rows),
            Answer::Columns(count) => {
                self.columns(count).await?;
                while self.row_packet().await?.is_some() {}
                Ok(0)
            }
        }
    }

    /// Runs several statements in one round trip (manual page "Multi-statement"), and adds what each came to.
    /// The server stops at the first that fails: then `outcomes` holds those before it. For connections of
    /// [`Connection::connect_to_write`]; rows of results are counted and dropped.
    pub async fn batch(&mut self, sql: &[u8], outcomes: &mut Vec<Outcome>) -> Result<(), WireError> {
        self.command(command::QUERY, |out| out.extend_from_slice(sql)).await?;
        loop {
            let packet = self.channel.receive("waiting for an answer").await?;
            let answer = Answer::parse(self.channel.payload(packet));
            let (outcome, more) = match answer {
                Ok(Answer::Ok(ok)) => {
                    (Outcome { rows: ok.affected_rows, warnings: ok.warnings }, ok.more_results)
                }
                Ok(Answer::Columns(count)) => self.count_rows(count).await?,
                Err(error) => {
                    if matches!(error, WireError::Server(_)) {
                        self.session = Session::Ready;
                    }
                    return Err(error);
                }
            };
            outcomes.push(outcome);
            if !more {
                self.session = Session::Ready;
                return Ok(());
            }
        }
    }

    /// Reads a result to its end; whether another follows.
    async fn count_rows(&mut self, columns: usize) -> Result<(Outcome, bool), WireError> {
        self.columns(columns).await?;
        let mut outcome = Outcome { rows: 0, warnings: 0 };
        loop {
            let packet = self.channel.receive("reading rows").await?;
            let payload = self.channel.payload(packet);
            if payload.first() == Some(&0xFF) {
                let error = server_error(payload);
                self.session = Session::Ready;
                return Err(error);
            }
            if is_eof(payload) {
                return Ok((outcome, eof_has_more(payload)));
            }
            outcome.rows += 1;
        }
    }

    /// Asks the server whether it is there.
    pub async fn ping(&mut self) -> Result<(), WireError> {
        self.command(command::PING, |_| {}).await?;
        self.answer().await.map(|_| ())
    }

    /// Prepares a statement.
    pub async fn prepare(&mut self, sql: &str) -> Result<Statement, WireError> {
        self.command(command::STMT_PREPARE, |out| out.extend_from_slice(sql.as_bytes())).await?;
        let packet = self.channel.receive("waiting for a prepared statement").await?;
        let payload = self.channel.payload(packet);
        if payload.first() == Some(&0xFF) {
            let error = server_error(payload);
            self.session = Session::Ready;
            return Err(error);
        }
        let mut scan = Scan::new(payload);
        if scan.u8()? != 0 {
            return Err(WireError::protocol("an unknown answer to a prepare"));
        }
        let (id, columns, params) = (scan.u32()?, usize::from(scan.u16()?), usize::from(scan.u16()?));
        if params > 0 {
            self.columns(params).await?;
        }
        let columns = if columns > 0 { self.columns(columns).await? } else { Vec::new() };
        self.session = Session::Ready;
        Ok(Statement { id, params, columns, connection_id: self.info.connection_id })
    }

    /// Runs a prepared statement; its rows are read from the stream one after the other.
    pub async fn execute<'c>(
        &'c mut self,
        statement: &Statement,
        params: &[Param<'_>],
    ) -> Result<RowStream<'c>, WireError> {
        if statement.connection_id != self.info.connection_id {
            return Err(WireError::Misused { what: "it belongs to another connection" });
        }
        if statement.params != params.len() {
            return Err(WireError::Misused { what: "the number of values differs from its parameters" });
        }
        self.command(command::STMT_EXECUTE, |out| put_execute(out, statement.id, params)).await?;
        let columns = match self.answer().await? {
            Answer::Ok(_) => None,
            Answer::Columns(count) => Some(self.columns(count).await?),
        };
        let is_done = columns.is_none();
        Ok(RowStream { connection: self, columns: columns.unwrap_or_default(), is_done })
    }

    /// Runs a prepared statement without a result once for each of many rows, which hold an indicator and a value for
    /// each parameter, and adds the counts up. For connections whose [`ServerInfo`] says that they take it.
    pub(crate) async fn execute_bulk(
        &mut self,
        statement: &Statement,
        types: &[BulkType],
        rows: &[u8],
    ) -> Result<Outcome, WireError> {
        const SENDS_TYPES: u16 = 128;
        if statement.connection_id != self.info.connection_id {
            return Err(WireError::Misused { what: "it belongs to another connection" });
        }
        if statement.params != types.len() || !self.info.takes_bulk {
            return Err(WireError::Misused {
                what: "its parameters do not fit, or the server takes no bulk",
            });
        }
        let put = |out: &mut Vec<u8>| {
            out.extend_from_slice(&statement.id.to_le_bytes());
            out.extend_from_slice(&SENDS_TYPES.to_le_bytes());
            types.iter().for_each(|each| out.extend_from_slice(&each.type_code()));
            out.extend_from_slice(rows);
        };
        self.command(command::STMT_BULK_EXECUTE, put).await?;
        match self.answer().await? {
            Answer::Ok(ok) => Ok(Outcome { rows: ok.affected_rows, warnings: ok.warnings }),
            Answer::Columns(_) => Err(WireError::protocol("a bulk execution answers with columns")),
        }
    }

    /// Goes on with the rows of a stream that was detached from this connection.
    pub fn attach(&mut self, rows: DetachedRows) -> Result<RowStream<'_>, WireError> {
        if rows.connection_id != self.info.connection_id {
            return Err(WireError::Misused { what: "its rows belong to another connection" });
        }
        Ok(RowStream { connection: self, columns: rows.columns, is_done: rows.is_done })
    }

    /// Frees a prepared statement at the server.
    pub async fn close_statement(&mut self, statement: Statement) -> Result<(), WireError> {
        if statement.connection_id != self.info.connection_id {
            return Err(WireError::Misused { what: "it belongs to another connection" });
        }
        self.command(command::STMT_CLOSE, |out| out.extend_from_slice(&statement.id.to_le_bytes())).await?;
        self.session = Session::Ready;
        Ok(())
    }

    /// Says goodbye and closes the connection. Dropping it instead counts as an aborted client at the server.
    pub async fn close(mut self) {
        if self.command(command::QUIT, |_| {}).await.is_ok() {
            self.channel.shut_down().await;
        }
    }

    /// Sends a command; until its answer has been read to its end nothing else can be sent.
    pub(crate) async fn command(
        &mut self,
        command: u8,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), WireError> {
        if self.session != Session::Ready {
            return Err(WireError::Abandoned);
        }
        self.session = Session::Answering;
        self.channel.begin_exchange();
        let put = |out: &mut Vec<u8>| {
            out.push(command);
            write(out);
        };
        self.channel.send(put).await
    }

    /// The first packet of an answer; afterwards the session is ready unless columns follow.
    pub(crate) async fn answer(&mut self) -> Result<Answer, WireError> {
        let packet = self.channel.receive("waiting for an answer").await?;
        let answer = Answer::parse(self.channel.payload(packet));
        if matches!(answer, Ok(Answer::Ok(_)) | Err(WireError::Server(_))) {
            self.session = Session::Ready;
        }
        answer
    }

    /// Column definitions and the EOF packet behind them.
    async fn columns(&mut self, count: usize) -> Result<Vec<ColumnDef>, WireError> {
        let mut columns = Vec::new();
        for _ in 0..count {
            let packet = self.channel.receive("reading column definitions").await?;
            columns.push(ColumnDef::parse(self.channel.payload(packet))?);
        }
        let packet = self.channel.receive("reading column definitions").await?;
        if !is_eof(self.channel.payload(packet)) {
            return Err(WireError::protocol("column definitions do not end"));
        }
        Ok(columns)
    }

    /// The next packet that is a row; after the last one, or an error, the session is ready again.
    async fn row_packet(&mut self) -> Result<Option<Range<usize>>, WireError> {
        let packet = self.channel.receive("reading rows").await?;
        let payload = self.channel.payload(packet.clone());
        if payload.first() == Some(&0xFF) {
            let error = server_error(payload);
            self.session = Session::Ready;
            return Err(error);
        }
        if is_eof(payload) {
            self.session = Session::Ready;
            return Ok(None);
        }
        Ok(Some(packet))
    }

    /// Hands the packets over to a binlog dump, which nothing but closing the connection ends.
    pub(crate) fn into_channel(self) -> Channel {
        self.channel
    }
}

fn put_execute(out: &mut Vec<u8>, id: u32, params: &[Param<'_>]) {
    const NO_CURSOR: u8 = 0;
    const ITERATIONS: u32 = 1;
    const TYPES_FOLLOW: u8 = 1;
    out.extend_from_slice(&id.to_le_bytes());
    out.push(NO_CURSOR);
    out.extend_from_slice(&ITERATIONS.to_le_bytes());
    if params.is_empty() {
        return;
    }
    let nulls = out.len();
    out.resize(nulls + params.len().div_ceil(8), 0);
    for (at, _) in params.iter().enumerate().filter(|(_, param)| **param == Param::Null) {
        out[nulls + at / 8] |= 1 << (at % 8);
    }
    out.push(TYPES_FOLLOW);
    params.iter().for_each(|param| out.extend_from_slice(&param.type_code()));
    params.iter().for_each(|param| param.put(out));
}

/// The rows of a prepared statement, as they come. Dropping it before its end abandons the connection.
pub struct RowStream<'c> {
    connection: &'c mut Connection,
    columns: Vec<ColumnDef>,
    is_done: bool,
}

/// A row stream put aside, so that its connection can be moved or borrowed between two batches of rows. No
/// command may be sent meanwhile (it would be refused); dropping it abandons the connection.
pub struct DetachedRows {
    columns: Vec<ColumnDef>,
    is_done: bool,
    connection_id: u64,
}

impl RowStream<'_> {
    /// Puts the stream aside, to go on later with [`Connection::attach`].
    pub fn detach(self) -> DetachedRows {
        let connection_id = self.connection.info.connection_id;
        DetachedRows { columns: self.columns, is_done: self.is_done, connection_id }
    }

    /// The columns of this execution; they may differ from the statement's after a change of the table.
    pub fn columns(&self) -> &[ColumnDef] {
        &self.columns
    }

    /// The next row, borrowed until the next call, or `None` after the last. Safe to cancel.
    pub async fn next(&mut self) -> Result<Option<BinaryRow<'_>>, WireError> {
        if self.is_done {
            return Ok(None);
        }
        match self.connection.row_packet().await? {
            Some(packet) => {
                BinaryRow::parse(&self.columns, self.connection.channel.payload(packet)).map(Some)
            }
            None => {
                self.is_done = true;
                Ok(None)
            }
        }
    }
}
