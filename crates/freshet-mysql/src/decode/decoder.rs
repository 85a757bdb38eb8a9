//! The decoder: one event in, rows and commits out, every piece of state in one struct.
//!
//! Order of a session: ROTATE (made by the server), FORMAT_DESCRIPTION, then transactions. A transaction begins at its
//! GTID and ends at XID, COMMIT, ROLLBACK, or with the one statement that it consists of; only then does the position
//! move (P13), and never because of an artificial event (P15).

use std::sync::Arc;

use freshet_core::codec::BatchBuilder;
use freshet_core::position::{BinlogPosition, CommitPlace, FilePos, GtidSet, Position, TxnId};
use freshet_core::schema::TableName;
use freshet_core::source::Selects;

use super::codes::{Change, Kind, kind};
use super::effect::{Effect, Judge};
use super::gtid::{self, Begin};
use super::header::{self, Checksum, FLAG_IGNORABLE, Format, HEADER_BYTES, Header};
use super::payload::Payload;
use super::place::Place;
use super::plan::Plan;
use super::query::Query;
use super::rows::{self, DUMMY_TABLE, FLAG_STATEMENT_END, Images, RowsHead};
use super::table_map::Head;
use super::tables::{MapError, Mapped, Tables};
use super::transaction::Transaction;
use super::{DecodeError, DecodeOptions, Flavour, Step};
use crate::values::cell::Scratch;
use crate::values::reader::{Reader, Short};

/// Statements are kept for the operator's message only.
const STATEMENT_BYTES_MAX: usize = 1024;

const HINT_IMAGE: &str =
    "Set binlog_row_image=FULL for every session of the source, and load the table again";
const HINT_UPGRADE: &str =
    "Report the server's version; exclude nothing, since it is not known what the event does";
const HINT_ROLLBACK: &str =
    "Convert the non-transactional tables that the transaction changed to InnoDB, and load the tables again";

type Result<T, E = DecodeError> = std::result::Result<T, E>;

/// Decodes one session's events.
pub struct Decoder {
    flavour: Flavour,
    selects: Arc<dyn Selects>,
    options: DecodeOptions,
    position: BinlogPosition,
    /// Where the last commit ended; reused, so that a commit allocates nothing.
    commit_place: CommitPlace,
    place: Place,
    format: Option<Format>,
    tables: Tables,
    transaction: Option<Transaction>,
    pending: Option<Pending>,
    scratch: Scratch,
}

/// What is left of the event that gave [`Step::More`].
enum Pending {
    Rows(PendingRows),
    /// A payload, and the rows left of its inner event.
    Payload(Box<Payload>, Option<PendingRows>),
}

/// Rows left of a row event.
struct PendingRows {
    plan: Arc<Plan>,
    change: Change,
    flags: u16,
    /// Where they begin in the event's body.
    from: usize,
}

impl Decoder {
    /// A decoder for servers of one flavour. [`Decoder::start`] comes before the first event.
    pub fn new(flavour: Flavour, selects: Arc<dyn Selects>, options: DecodeOptions) -> Self {
        let file = FilePos::default();
        let position =
            BinlogPosition { server: String::new(), file: file.clone(), gtids: flavour.empty_gtids() };
        Self {
            flavour,
            selects,
            options,
            position,
            commit_place: CommitPlace::Binlog(file),
            place: Place::default(),
            format: None,
            tables: Tables::default(),
            transaction: None,
            pending: None,
            scratch: Scratch::default(),
        }
    }

    /// Begins a session after `start`: forgets tables, schemas announced and any open transaction. `start.server`
    /// is the identity of the server that is read now; where it is not the one that `start.file` belongs to, the
    /// caller leaves the file empty and only the GTIDs count (P11). After a MySQL set every transaction must have a
    /// GTID; after a place they may. The builder that [`Decoder::feed`] gets must be
    /// outside a transaction (`discard_open` it before).
    pub fn start(&mut self, start: BinlogPosition) {
        self.position = start;
        self.place = Place::default();
        self.format = None;
        self.tables.reset();
        self.transaction = None;
        self.pending = None;
    }

    /// The place after the last commit (or rotation outside a transaction).
    pub fn position(&self) -> Position {
        Position::Binlog(self.position.clone())
    }

    /// The same, borrowed.
    pub fn binlog_position(&self) -> &BinlogPosition {
        &self.position
    }

    /// Whether a transaction is open.
    pub fn in_transaction(&self) -> bool {
        self.transaction.is_some()
    }

    /// Decodes one event, from its header on, into `batch`. After an error the session is over: `start` again.
    pub fn feed(&mut self, event: &[u8], batch: &mut BatchBuilder) -> Result<Step> {
        if self.pending.is_some() {
            return Err(self.broken("an event came before the one before it was finished"));
        }
        let header = Header::parse(event).map_err(|short| self.damaged(short, "its header is cut off"))?;
        if usize::try_from(header.event_bytes) != Ok(event.len()) {
            return Err(self.damaged(Short, "its length is not the one in its header"));
        }
        let kind = kind(header.code, self.flavour);
        let body = self.body(&kind, event)?;
        if !matches!(kind, Kind::Heartbeat | Kind::HeartbeatV2 | Kind::Rotate | Kind::FormatDescription) {
            self.place.pass(&header).map_err(|what| self.broken(&what))?;
        }
        self.step(&kind, &header, event, body, batch)
    }

    /// Goes on within the event that returned [`Step::More`], whose bytes are handed in again.
    pub fn resume(&mut self, event: &[u8], batch: &mut BatchBuilder) -> Result<Step> {
        let header = Header::parse(event).map_err(|short| self.damaged(short, "its header is cut off"))?;
        let event = if self.has_checksums() { header::without_checksum(event) } else { event };
        let body = event.get(HEADER_BYTES..).unwrap_or(&[]);
        match self.pending.take() {
            Some(Pending::Rows(pending)) => self.write_rows(pending, body, batch),
            Some(Pending::Payload(payload, rows)) => self.payload(payload, rows, &header, body, batch),
            None => Err(self.broken("nothing is left of the event before")),
        }
    }

    fn has_checksums(&self) -> bool {
        self.format.as_ref().is_some_and(|format| format.checksum == Checksum::Crc32)
    }

    /// What stands between header and checksum, once the checksum was found right.
    fn body<'e>(&self, kind: &Kind, event: &'e [u8]) -> Result<&'e [u8]> {
        let inner = match (kind, &self.format) {
            (Kind::FormatDescription, _) => header::without_checksum(event),
            // Before the format is known the server may or may not have added one to its own ROTATE.
            (Kind::Rotate, None) if header::has_valid_checksum(event) => header::without_checksum(event),
            (Kind::Rotate, None) => event,
            (_, None) => return Err(self.broken("an event came before the format of its file")),
            (_, Some(format)) => match format.checksum {
                Checksum::None => event,
                Checksum::Crc32 if header::has_valid_checksum(event) => header::without_checksum(event),
                Checksum::Crc32 => return Err(self.damaged(Short, "its checksum is wrong")),
            },
        };
        Ok(inner.get(HEADER_BYTES..).unwrap_or(&[]))
    }

    fn step(
        &mut self,
        kind: &Kind,
        header: &Header,
        event: &[u8],
        body: &[u8],
        batch: &mut BatchBuilder,
    ) -> Result<Step> {
        match kind {
            Kind::FormatDescription => self.format_description(header, event, batch),
            Kind::Rotate => self.rotate(header, body),
            Kind::Heartbeat => self.heartbeat(u64::from(header.next_pos), body),
            Kind::HeartbeatV2 => self.heartbeat_v2(body),
            Kind::MysqlGtid => self.begin(header, gtid::mysql(body, false)),
            Kind::AnonymousGtid => self.begin(header, gtid::mysql(body, true)),
            Kind::MysqlTaggedGtid => self.begin(header, gtid::mysql_tagged(body)),
            Kind::MariadbGtid => self.begin(header, gtid::mariadb(body, header.server)),
            Kind::TransactionPayload => {
                let payload = Payload::new(body)
                    .map_err(|short| self.damaged(short, "the head of its payload cannot be read"))?;
                self.payload(Box::new(payload), None, header, body, batch)
            }
            Kind::Query
            | Kind::ExecuteLoadQuery
            | Kind::Xid
            | Kind::TableMap
            | Kind::Rows { .. }
            | Kind::Incident
            | Kind::Skip(_)
            | Kind::Refuse(..)
            | Kind::Unknown => self.inner_step(kind, header, body, batch),
        }
    }

    /// Events that may also stand inside a payload.
    fn inner_step(
        &mut self,
        kind: &Kind,
        header: &Header,
        body: &[u8],
        batch: &mut BatchBuilder,
    ) -> Result<Step> {
        match kind {
            Kind::Query => self.query(header, body, false, batch),
            Kind::ExecuteLoadQuery => self.query(header, body, true, batch),
            Kind::Xid => self.commit(header, batch),
            Kind::TableMap => self.table_map(body),
            Kind::Rows { change, version } => self.rows(*change, *version, body, batch),
            Kind::Incident => Err(self.incident(body)),
            Kind::Skip(_) => Ok(self.idle()),
            Kind::Refuse(what, hint) => Err(self.unsupported((*what).to_owned(), hint)),
            Kind::Unknown if header.flags & FLAG_IGNORABLE != 0 => Ok(self.idle()),
            Kind::Unknown => {
                Err(self.unsupported(format!("an event of unknown type {}", header.code), HINT_UPGRADE))
            }
            Kind::FormatDescription
            | Kind::Rotate
            | Kind::Heartbeat
            | Kind::HeartbeatV2
            | Kind::MysqlGtid
            | Kind::AnonymousGtid
            | Kind::MysqlTaggedGtid
            | Kind::MariadbGtid
            | Kind::TransactionPayload => {
                Err(self.damaged(Short, "its payload holds an event that cannot be in one"))
            }
        }
    }

    /// After an event that changed nothing.
    fn idle(&self) -> Step {
        if self.transaction.is_some() { Step::InTransaction } else { Step::Nothing }
    }

    fn format_description(
        &mut self,
        header: &Header,
        event: &[u8],
        batch: &mut BatchBuilder,
    ) -> Result<Step> {
        let format =
            Format::parse(event).map_err(|short| self.damaged(short, "it does not describe a format"))?;
        if format.checksum == Checksum::Crc32 && !header::has_valid_checksum(event) {
            return Err(self.damaged(Short, "its checksum is wrong"));
        }
        let is_mariadb = format.server_version.contains("MariaDB");
        if is_mariadb != (self.flavour == Flavour::Mariadb) || !format.is_known {
            let what = format!("the format of server version {}", format.server_version);
            return Err(self.unsupported(what, "Use a server of a supported version"));
        }
        self.place.pass(header).map_err(|what| self.broken(&what))?;
        let has_restarted = format.created_s != 0;
        self.format = Some(format);
        match self.transaction.take() {
            None => Ok(Step::Nothing),
            Some(open) if has_restarted => Ok(self.discard(&open, batch)),
            Some(_) => Err(self.broken("a file ends inside a transaction")),
        }
    }

    /// The server restarted in the middle of a transaction (ALGORITHMS 1.10).
    fn discard(&mut self, open: &Transaction, batch: &mut BatchBuilder) -> Step {
        self.tables.end_statement();
        if !open.wrote {
            return Step::Nothing;
        }
        batch.discard_open();
        self.tables.forget_announced();
        Step::Discarded
    }

    fn rotate(&mut self, header: &Header, body: &[u8]) -> Result<Step> {
        let mut r = Reader::new(body);
        let pos = r.u64().map_err(|short| self.damaged(short, "it names no position"))?;
        let file = std::str::from_utf8(r.rest()).ok().filter(|file| !file.is_empty());
        let file = file.ok_or_else(|| self.damaged(Short, "it names no file"))?;
        if !header.is_artificial() && self.transaction.is_some() {
            return Err(self.broken("a file ends inside a transaction"));
        }
        self.place.rotate(file, pos).map_err(|what| self.broken(&what))?;
        // A file that is read again for the sake of old transactions is no progress.
        let is_progress =
            self.position.file.partial_cmp(&self.place.file).is_none_or(std::cmp::Ordering::is_lt);
        if header.is_artificial() || !is_progress {
            return Ok(self.idle());
        }
        self.move_position();
        Ok(Step::Rotated)
    }

    fn move_position(&mut self) {
        let file = &mut self.position.file;
        if file.file != self.place.file.file {
            file.file.clone_from(&self.place.file.file);
            self.commit_place = CommitPlace::Binlog(self.place.file.clone());
        }
        file.pos = self.place.file.pos;
        match &mut self.commit_place {
            CommitPlace::Binlog(place) if place.file == file.file => place.pos = file.pos,
            CommitPlace::Binlog(_) | CommitPlace::Wal(_) => {
                self.commit_place = CommitPlace::Binlog(self.place.file.clone());
            }
        }
    }

    fn heartbeat(&mut self, pos: u64, file: &[u8]) -> Result<Step> {
        let Ok(file) = std::str::from_utf8(file) else {
            return Err(self.damaged(Short, "it names no file"));
        };
        let mut at = FilePos { file: file.to_owned(), pos };
        if file == self.place.file.file
            && let Ok(low) = u32::try_from(pos)
        {
            at.pos = self.place.widen(low).unwrap_or(pos);
        }
        Ok(Step::Heartbeat { at })
    }

    fn heartbeat_v2(&mut self, body: &[u8]) -> Result<Step> {
        let (mut r, mut file, mut pos) = (Reader::new(body), &[][..], 0);
        let mut read = || {
            while !r.is_empty() {
                match r.packed()? {
                    0 => break,
                    1 => file = r.packed_bytes()?,
                    2 => pos = Reader::new(r.packed_bytes()?).packed()?,
                    _ => drop(r.packed_bytes()?),
                }
            }
            Ok(())
        };
        read().map_err(|short| self.damaged(short, "a field of it is cut off"))?;
        self.heartbeat(pos, file)
    }

    fn begin(&mut self, header: &Header, begin: std::result::Result<Begin, Short>) -> Result<Step> {
        let begin = begin.map_err(|short| self.damaged(short, "its GTID cannot be read"))?;
        if let Some(open) = &self.transaction {
            let what = format!("transaction {} begins before {} ended", begin.txn, open.txn);
            return Err(self.broken(&what));
        }
        self.check_named(&begin.txn)?;
        if begin.is_xa {
            return Err(self.unsupported(
                "a distributed transaction (XA)".to_owned(),
                "Distributed transactions are not supported yet: end them, and start after that",
            ));
        }
        self.transaction = Some(Transaction::new(begin, header.timestamp_s));
        Ok(Step::InTransaction)
    }

    /// A MySQL set cannot tell that a transaction without a GTID was read: it would be read again, or never.
    fn check_named(&self, txn: &TxnId) -> Result<()> {
        match (&self.position.gtids, txn) {
            (GtidSet::Mysql(_), TxnId::Anonymous) => Err(DecodeError::WithoutGtid { place: self.here() }),
            (GtidSet::Mysql(_) | GtidSet::Mariadb(_) | GtidSet::Places, _) => Ok(()),
        }
    }

    fn query(
        &mut self,
        header: &Header,
        body: &[u8],
        is_load: bool,
        batch: &mut BatchBuilder,
    ) -> Result<Step> {
        // EXECUTE_LOAD_QUERY: file id, two offsets and a flag.
        let skip = if is_load { 13 } else { 0 };
        let query =
            Query::parse(body, skip).map_err(|short| self.damaged(short, "its statement is cut off"))?;
        let judge = Judge { selects: self.selects.as_ref(), options: &self.options, tables: &self.tables };
        let effect = judge.judge(&query, is_load);
        if self.transaction.is_none() {
            self.check_named(&TxnId::Anonymous)?;
        }
        let open = self.transaction.get_or_insert_with(|| Transaction::anonymous(header.timestamp_s));
        match effect {
            Effect::Begin => {
                open.has_begun = true;
                Ok(Step::InTransaction)
            }
            Effect::Commit => self.commit(header, batch),
            Effect::Rollback | Effect::RollbackTo if open.wrote => Err(self.unsupported(
                "a transaction that was rolled back although it changed non-transactional tables".to_owned(),
                HINT_ROLLBACK,
            )),
            Effect::Rollback => self.commit(header, batch),
            Effect::Refuse(what, hint) => Err(self.unsupported(what, hint)),
            Effect::RollbackTo | Effect::None => self.end_of_statement(header, batch),
            Effect::Truncate(table) => {
                open.write_begin(batch);
                batch.truncate(&table);
                self.end_of_statement(header, batch)
            }
            Effect::Changed(tables) => {
                open.write_begin(batch);
                write_statement(&query, &tables, batch);
                self.end_of_statement(header, batch)
            }
        }
    }

    /// A statement by itself is a transaction.
    fn end_of_statement(&mut self, header: &Header, batch: &mut BatchBuilder) -> Result<Step> {
        match &self.transaction {
            Some(open) if !open.has_begun => self.commit(header, batch),
            Some(_) | None => Ok(self.idle()),
        }
    }

    fn commit(&mut self, header: &Header, batch: &mut BatchBuilder) -> Result<Step> {
        let Some(open) = self.transaction.take() else {
            return Err(self.broken("a transaction ends that has not begun"));
        };
        self.tables.end_statement();
        self.move_position();
        self.position.gtids.add(&open.txn);
        if open.wrote {
            batch.commit(&self.position.server, &self.commit_place, open.commit_us(header.timestamp_s));
        }
        Ok(Step::Commit { wrote: open.wrote })
    }

    fn table_map(&mut self, body: &[u8]) -> Result<Step> {
        let head = Head::parse(body).map_err(|short| self.damaged(short, "its TABLE_MAP is cut off"))?;
        let mapped = self.tables.map(&head, self.flavour, self.selects.as_ref(), &self.options);
        match mapped {
            Ok(()) => Ok(self.idle()),
            Err(MapError::Damaged(what)) => Err(self.damaged(Short, what)),
            Err(MapError::Refused(table, refusal)) => {
                Err(DecodeError::Table { place: self.here(), table, what: refusal.what, hint: refusal.hint })
            }
        }
    }

    fn rows(&mut self, change: Change, version: u8, body: &[u8], batch: &mut BatchBuilder) -> Result<Step> {
        let head =
            RowsHead::parse(body, version).map_err(|short| self.damaged(short, "its rows are cut off"))?;
        let plan = match self.tables.get(head.table) {
            Some(Mapped::Captured(plan)) => Arc::clone(plan),
            Some(Mapped::Other) => return Ok(self.end_of_rows(head.flags)),
            None if head.table == DUMMY_TABLE => return Ok(self.end_of_rows(head.flags)),
            None => return Err(self.damaged(Short, "its rows are of a table that was not mapped")),
        };
        if self.transaction.is_none() {
            return Err(self.broken("rows outside a transaction"));
        }
        let images = head.rows(body, plan.cells.len(), change);
        let from = match images.map_err(|short| self.damaged(short, "its rows are cut off"))? {
            Images::Full { from } => from,
            Images::Partial => {
                return Err(self.refused(&plan, "binlog_row_image that is not FULL", HINT_IMAGE));
            }
            Images::OtherColumns => {
                return Err(self.damaged(Short, "its rows have other columns than were mapped"));
            }
        };
        if let Some(open) = &mut self.transaction {
            open.write_begin(batch);
        }
        if self.tables.announce(&plan.schema) {
            batch.schema(&plan.schema);
        }
        self.write_rows(PendingRows { plan, change, flags: head.flags, from }, body, batch)
    }

    fn write_rows(
        &mut self,
        mut pending: PendingRows,
        body: &[u8],
        batch: &mut BatchBuilder,
    ) -> Result<Step> {
        let rows = body.get(pending.from..).unwrap_or(&[]);
        let bytes_max = self.options.batch_bytes_max;
        let used = rows::write(&pending.plan, pending.change, rows, batch, bytes_max, &mut self.scratch);
        let used = used.map_err(|_| {
            let table = pending.plan.schema.name().clone();
            DecodeError::Rows { place: self.here(), table }
        })?;
        if used < rows.len() {
            pending.from += used;
            self.pending = Some(Pending::Rows(pending));
            return Ok(Step::More);
        }
        Ok(self.end_of_rows(pending.flags))
    }

    fn end_of_rows(&mut self, flags: u16) -> Step {
        if flags & FLAG_STATEMENT_END != 0 {
            self.tables.end_statement();
        }
        self.idle()
    }

    /// The inner events of a payload, from the rows left of the current one on.
    fn payload(
        &mut self,
        mut payload: Box<Payload>,
        rows: Option<PendingRows>,
        outer: &Header,
        body: &[u8],
        batch: &mut BatchBuilder,
    ) -> Result<Step> {
        let mut step = match rows {
            Some(rows) => self.write_rows(rows, payload.bytes().get(HEADER_BYTES..).unwrap_or(&[]), batch)?,
            None => self.idle(),
        };
        loop {
            let is_full = self.in_transaction() && batch.len() >= self.options.batch_bytes_max;
            if step == Step::More || is_full {
                let rows = match self.pending.take() {
                    Some(Pending::Rows(rows)) => Some(rows),
                    Some(Pending::Payload(..)) | None => None,
                };
                self.pending = Some(Pending::Payload(payload, rows));
                return Ok(Step::More);
            }
            let next =
                payload.next(body).map_err(|short| self.damaged(short, "its payload cannot be unpacked"))?;
            if next.is_none() {
                return Ok(step);
            }
            let event = payload.bytes();
            let header =
                Header::parse(event).map_err(|short| self.damaged(short, "its payload is cut off"))?;
            let header = Header { next_pos: outer.next_pos, ..header };
            let kind = kind(header.code, self.flavour);
            step = self.inner_step(&kind, &header, event.get(HEADER_BYTES..).unwrap_or(&[]), batch)?;
        }
    }

    fn incident(&self, body: &[u8]) -> DecodeError {
        let what = match Reader::new(body).u16() {
            Ok(1) => "LOST_EVENTS".to_owned(),
            Ok(other) => format!("incident {other}"),
            Err(Short) => "incident".to_owned(),
        };
        DecodeError::LostEvents { place: self.here(), what }
    }

    fn here(&self) -> String {
        self.place.file.to_string()
    }

    fn damaged(&self, _: Short, what: &'static str) -> DecodeError {
        DecodeError::Damaged { place: self.here(), what }
    }

    fn broken(&self, what: &str) -> DecodeError {
        DecodeError::Broken { place: self.here(), what: what.to_owned() }
    }

    fn unsupported(&self, what: String, hint: &'static str) -> DecodeError {
        DecodeError::Unsupported { place: self.here(), what, hint }
    }

    fn refused(&self, plan: &Plan, what: &str, hint: &'static str) -> DecodeError {
        let table = plan.schema.name().clone();
        DecodeError::Table { place: self.here(), table, what: what.to_owned(), hint }
    }
}

/// One event a table that a statement changed, with the beginning of its text.
fn write_statement(query: &Query<'_>, tables: &[TableName], batch: &mut BatchBuilder) {
    let database = String::from_utf8_lossy(query.database);
    let text = query.text().unwrap_or_default();
    let end =
        (0..=text.len().min(STATEMENT_BYTES_MAX)).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    for table in tables {
        batch.statement(&database, table, text.get(..end).unwrap_or(""));
    }
}
