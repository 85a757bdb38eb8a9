//! The control tables in the target: what stands in them, and every statement that reads or writes them.
//!
//! The same tables as on PostgreSQL (`docs/control-schema.md`), with two differences. A session is known by the named
//! lock that it holds, not by its number, which a restarted server gives again. And a table has an intent: the servers
//! commit DDL by themselves, so what is about to be done is written and committed before, and whoever comes after a
//! crash finishes it (`prepare.rs`). Ownership is (epoch, owner): an epoch alone could repeat after the target was
//! restored from a backup.

use crate::catalog::{sql_ident, sql_string};
use crate::sink::options::SinkOptions;
use crate::sink::session::{Session, lock_name};
use crate::wire::Row;
use freshet_core::gtid::Uuid;
use freshet_core::sink::{ChunkState, TablePhase, TableState};
use freshet_core::table::Chunk;
use freshet_core::{Checkpoint, Error, LogId, Mark, Offset, Position, Result, SinkEpoch, TableName};
use std::fmt::Display;
use std::str::FromStr;

/// Version of the control schema. Another one in the target is refused by name.
pub(crate) const CONTROL_VERSION: i32 = 1;
/// How long an ended session of the previous owner may take to go away.
const END_TIMEOUT_S: u32 = 20;
/// Owner of a checkpoint row that nobody has taken over yet.
const NOBODY: Uuid = Uuid([0; 16]);

/// The names and keys that every control statement needs.
#[derive(Clone, Debug)]
pub(crate) struct Control {
    schema: String,
    schema_text: String,
    /// `pipeline = '..' and sink = '..'`
    me: String,
    /// `'..', '..'`
    me_values: String,
}

/// Who owns the checkpoint row now: what a take-over wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub epoch: SinkEpoch,
    pub id: Uuid,
}

/// What the checkpoint row held when it was taken over.
pub(crate) struct Taken {
    pub owner: Owner,
    pub checkpoint: Option<Checkpoint>,
    pub config_digest: Option<String>,
}

/// A change of a target table that commits by itself, recorded before it runs. Each can be run again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Intent {
    /// Drop the table that is there, and make it.
    Drop,
    /// Make the table, which was not there when this was written.
    Create,
    /// Empty the table.
    Empty,
    /// Make its indexes and foreign keys.
    Index,
}

impl Intent {
    fn text(self) -> &'static str {
        match self {
            Intent::Drop => "drop",
            Intent::Create => "create",
            Intent::Empty => "empty",
            Intent::Index => "index",
        }
    }

    fn parse(text: &str) -> Result<Intent> {
        let all = [Intent::Drop, Intent::Create, Intent::Empty, Intent::Index];
        all.into_iter().find(|i| i.text() == text).ok_or_else(|| damaged("an intent that is none"))
    }
}

/// A table as the target remembers it.
#[derive(Clone, Debug)]
pub(crate) struct Recorded {
    pub state: TableState,
    pub intent: Option<Intent>,
    /// It was begun to be made, and does not count as recorded for the engine.
    pub is_preparing: bool,
}

impl Control {
    pub(crate) fn new(options: &SinkOptions) -> Self {
        let (pipeline, sink) = (sql_string(&options.pipeline), sql_string(&options.sink));
        Self {
            schema: sql_ident(&options.control_schema),
            schema_text: sql_string(&options.control_schema),
            me: format!("pipeline = {pipeline} and sink = {sink}"),
            me_values: format!("{pipeline}, {sink}"),
        }
    }

    fn mine(&self, owner: Owner) -> String {
        format!("{} and epoch = {} and owner = {}", self.me, owner.epoch, uuids(&[owner.id]))
    }

    fn table_is(&self, table: &TableName) -> String {
        let (schema, name) = (sql_string(&table.schema), sql_string(&table.table));
        format!("{} and source_schema = {schema} and source_table = {name}", self.me)
    }

    /// Makes the control tables if they are absent; refuses a version that this build does not know.
    pub(crate) async fn ensure(&self, session: &mut Session) -> Result<()> {
        let schema = &self.schema;
        if !self.exists(session).await? {
            let collation = session.facts.binary_collation();
            session.run(&self.create_sql(collation), format!("Creating the control schema {schema}")).await?;
        }
        let version = format!("select version from {schema}.version");
        let rows = session.query(&version, "Reading the control schema's version").await?;
        let version = rows.first(0).unwrap_or("none");
        if version != CONTROL_VERSION.to_string() {
            return Err(Error::unsupported(format!(
                "Control schema {schema} has version {version}, this build knows {CONTROL_VERSION}"
            ))
            .with_hint("Use the version of freshet that made it, or another control_schema"));
        }
        Ok(())
    }

    /// Whether the control tables are there, all of them: they are made one by one, the version's row last.
    pub(crate) async fn exists(&self, session: &mut Session) -> Result<bool> {
        const DOING: &str = "Looking for the control schema";
        let sql = format!(
            "select 1 from information_schema.tables where table_schema = {} and table_name = 'version'",
            self.schema_text
        );
        if session.query(&sql, DOING).await?.is_empty() {
            return Ok(false);
        }
        let sql = format!("select 1 from {}.version", self.schema);
        Ok(!session.query(&sql, DOING).await?.is_empty())
    }

    /// Names are compared by their bytes, blanks at the end included, as PostgreSQL does.
    fn create_sql(&self, collation: &str) -> String {
        let me = "pipeline varchar(128) not null, sink varchar(128) not null";
        let source = "source_schema varchar(64) not null, source_table varchar(64) not null";
        let made = format!("engine = InnoDB character set utf8mb4 collate {collation}");
        format!(
            "create database if not exists {0};
             create table if not exists {0}.checkpoint ({me},
               epoch bigint not null, owner char(36) not null,
               log_id char(36), next_offset bigint, position longtext,
               config_digest varchar(255), consistent_since datetime(6),
               inserts bigint not null default 0, updates bigint not null default 0,
               deletes bigint not null default 0,
               source_commit_at datetime(6), updated_at datetime(6) not null,
               primary key (pipeline, sink)) {made};
             create table if not exists {0}.session ({me},
               token char(36) not null, owner char(36) not null,
               primary key (pipeline, sink, token)) {made};
             create table if not exists {0}.load_table ({me}, {source},
               target_schema varchar(64) not null, target_table varchar(64) not null,
               phase varchar(16) not null, intent varchar(16),
               prepared_at datetime(6) not null, consistent_at datetime(6),
               primary key (pipeline, sink, source_schema, source_table)) {made};
             create table if not exists {0}.load_chunk ({me}, {source}, number int not null,
               lower_bound longblob, upper_bound longblob, loaded_rows bigint, high longtext,
               loaded_at datetime(6),
               primary key (pipeline, sink, source_schema, source_table, number)) {made};
             create table if not exists {0}.version (id int not null primary key, version int not null) {made};
             insert into {0}.version values (1, {CONTROL_VERSION}) on duplicate key update id = id",
            self.schema
        )
    }

    /// Makes the checkpoint row, owned by nobody, if it is absent.
    async fn insert(&self, session: &mut Session, doing: &str) -> Result<()> {
        let sql = format!(
            "insert into {}.checkpoint (pipeline, sink, epoch, owner, updated_at) \
             values ({}, 0, {}, utc_timestamp(6)) on duplicate key update epoch = epoch",
            self.schema,
            self.me_values,
            uuids(&[NOBODY])
        );
        session.run(&sql, doing).await
    }

    /// Locks the checkpoint row, whoever owns it, inside a transaction; made before if it is absent, or whoever starts
    /// meanwhile would not wait.
    pub(crate) async fn lock(&self, session: &mut Session) -> Result<()> {
        const DOING: &str = "Locking the checkpoint";
        self.insert(session, DOING).await?;
        let sql = format!("select 1 from {}.checkpoint where {} for update", self.schema, self.me);
        session.query(&sql, DOING).await.map(drop)
    }

    /// Deletes every row of this pipeline and sink.
    pub(crate) async fn forget(&self, session: &mut Session) -> Result<()> {
        for table in ["load_chunk", "load_table", "session", "checkpoint"] {
            let sql = format!("delete from {}.{table} where {}", self.schema, self.me);
            session.run(&sql, "Forgetting the pipeline").await?;
        }
        Ok(())
    }

    /// Ends the sessions that earlier owners left behind, and waits until each is gone: what they had sent is done or
    /// undone then, DDL included, which no fence can hold back. Where `ours` is not empty, only those of this process, and
    /// of a reset: one that owned before must not end whoever is taking over from it.
    pub(crate) async fn end_sessions(&self, session: &mut Session, ours: &[Uuid]) -> Result<()> {
        const DOING: &str = "Ending the previous owner's sessions";
        let only = match ours.is_empty() {
            true => String::new(),
            false => format!("and owner in ({}, {})", uuids(ours), uuids(&[NOBODY])),
        };
        let sql = format!(
            "select token from {}.session where {} {only} and token <> {}",
            self.schema,
            self.me,
            uuids(&[session.token])
        );
        let rows = session.query(&sql, DOING).await?;
        for row in &rows {
            let token: Uuid = parse(row.text(0).ok_or_else(|| damaged("a session"))?)?;
            self.end_session(session, token, DOING).await?;
        }
        Ok(())
    }

    async fn end_session(&self, session: &mut Session, token: Uuid, doing: &str) -> Result<()> {
        const NO_SUCH_THREAD: Option<u16> = Some(1094);
        const NOT_OWNER: Option<u16> = Some(1095);
        let name = sql_string(&lock_name(token));
        let rows = session.query(&format!("select is_used_lock({name})"), doing).await?;
        if let Some(id) = rows.first(0) {
            let hint = match session.connection.exec(&format!("kill {id}")).await {
                Err(error) if error.server_code() == NOT_OWNER => {
                    format!("Run KILL {id} on the target, or give this account CONNECTION_ADMIN")
                }
                Err(error) if error.server_code() != NO_SUCH_THREAD => {
                    return Err(Error::from(error).context(doing));
                }
                Ok(_) | Err(_) => "It undoes what it had not committed; that is waited for".to_owned(),
            };
            let wait = format!("select get_lock({name}, {END_TIMEOUT_S})");
            if session.query(&wait, doing).await?.first(0) != Some("1") {
                let text = format!("{doing}: connection {id} does not end within {END_TIMEOUT_S} s");
                return Err(Error::unavailable(text).with_hint(hint));
            }
            session.query(&format!("select release_lock({name})"), doing).await?;
        }
        self.forget_session(session, token, doing).await
    }

    /// Refuses to go on where another process took over since one of `ours`, the ids of this process, owned.
    pub(crate) async fn refuse_stolen(&self, session: &mut Session, ours: &[Uuid]) -> Result<()> {
        let sql = format!("select owner from {}.checkpoint where {}", self.schema, self.me);
        let rows = session.query(&sql, "Reading the checkpoint's owner").await?;
        match rows.first(0) {
            Some(owner) if !is_one_of(owner, ours) => Err(fenced()),
            Some(_) | None => Ok(()),
        }
    }

    /// Notes this session of `owner`, so that the next one can end it.
    pub(crate) async fn register(&self, session: &mut Session, owner: Uuid) -> Result<()> {
        let sql = format!(
            "insert into {}.session (pipeline, sink, token, owner) values ({}, {}, {})",
            self.schema,
            self.me_values,
            uuids(&[session.token]),
            uuids(&[owner])
        );
        session.run(&sql, "Registering a session").await
    }

    /// Notes a session that resets, and owns nothing.
    pub(crate) async fn register_reset(&self, session: &mut Session) -> Result<()> {
        self.register(session, NOBODY).await
    }

    /// The end of that.
    pub(crate) async fn unregister(&self, session: &mut Session) -> Result<()> {
        self.forget_session(session, session.token, "Ending a session").await
    }

    async fn forget_session(&self, session: &mut Session, token: Uuid, doing: &str) -> Result<()> {
        let (schema, me) = (&self.schema, &self.me);
        let sql = format!("delete from {schema}.session where {me} and token = {}", uuids(&[token]));
        session.run(&sql, doing).await
    }

    /// The locking statement of a take-over, after this session's registration. Where `ours` is not empty, this
    /// process owned before: then it takes over only from itself, or two processes would take the sink from each
    /// other for ever.
    pub(crate) async fn take_over(&self, session: &mut Session, id: Uuid, ours: &[Uuid]) -> Result<Taken> {
        const DOING: &str = "Taking the checkpoint over";
        let (schema, me) = (&self.schema, &self.me);
        self.insert(session, DOING).await?;
        // Known before it locks, so that whoever comes next can end it and need not wait for a dead host's lock.
        self.register(session, id).await?;
        session.run("start transaction", DOING).await?;
        let sql = format!(
            "select epoch + 1, log_id, next_offset, position, config_digest, owner from {schema}.checkpoint \
             where {me} for update"
        );
        let rows = session.query(&sql, DOING).await?;
        let row = rows.rows().first().ok_or_else(fenced)?;
        if !ours.is_empty() && !is_one_of(row.text(5).unwrap_or_default(), ours) {
            return Err(fenced());
        }
        let taken = taken(row, id)?;
        let update = format!(
            "update {schema}.checkpoint set epoch = {}, owner = {}, updated_at = utc_timestamp(6) where {me}",
            taken.owner.epoch,
            uuids(&[id])
        );
        if session.count(&update, DOING).await? != 1 {
            return Err(fenced());
        }
        session.run("commit", DOING).await?;
        Ok(taken)
    }

    /// The tables of the load and their chunks.
    pub(crate) async fn tables(&self, session: &mut Session) -> Result<Vec<Recorded>> {
        const DOING: &str = "Reading the load's state";
        let (schema, me) = (&self.schema, &self.me);
        let sql = format!(
            "select source_schema, source_table, target_schema, target_table, phase, intent \
             from {schema}.load_table where {me} order by 1, 2"
        );
        let mut tables = Vec::new();
        for row in &session.query(&sql, DOING).await? {
            tables.push(recorded(row)?);
        }
        let sql = format!(
            "select source_schema, source_table, number, lower_bound, upper_bound, loaded_rows, high \
             from {schema}.load_chunk where {me} order by 1, 2, 3"
        );
        for row in &session.query(&sql, DOING).await? {
            let chunk = chunk_state(row)?;
            let of = tables.iter_mut().find(|t| t.state.table == chunk.chunk.table);
            let of = of.ok_or_else(|| damaged("a chunk of a table that is not there"))?;
            of.state.chunks.push(chunk);
        }
        Ok(tables)
    }

    /// Locks the checkpoint row and checks that it is still ours; the end of every transaction but a window's.
    pub(crate) async fn fence(&self, session: &mut Session, owner: Owner) -> Result<()> {
        let mine = self.mine(owner);
        let sql = format!("select 1 from {}.checkpoint where {mine} lock in share mode", self.schema);
        let rows = session.query(&sql, "Checking the checkpoint's owner").await?;
        if rows.len() == 1 { Ok(()) } else { Err(fenced()) }
    }

    /// Stores the first checkpoint.
    pub(crate) async fn begin(
        &self,
        session: &mut Session,
        owner: Owner,
        log_id: LogId,
        mark: &Mark,
        digest: &str,
    ) -> Result<()> {
        let sql = format!(
            "update {}.checkpoint set {}, config_digest = {}, updated_at = utc_timestamp(6) \
             where {} and log_id is null",
            self.schema,
            mark_sql(log_id, mark)?,
            sql_string(digest),
            self.mine(owner)
        );
        if session.count(&sql, "Storing the first checkpoint").await? == 1 {
            return Ok(());
        }
        self.fence(session, owner).await?;
        Err(Error::internal("The first checkpoint is there already"))
    }

    /// Moves the checkpoint to another log.
    pub(crate) async fn rebase(
        &self,
        session: &mut Session,
        owner: Owner,
        log_id: LogId,
        mark: &Mark,
    ) -> Result<()> {
        let sql = format!(
            "update {}.checkpoint set {}, updated_at = utc_timestamp(6) where {} and log_id is not null",
            self.schema,
            mark_sql(log_id, mark)?,
            self.mine(owner)
        );
        if session.count(&sql, "Moving the checkpoint to another log").await? == 1 {
            return Ok(());
        }
        self.fence(session, owner).await?;
        Err(Error::internal("There is no checkpoint to move to another log"))
    }

    /// The compare-and-set of a window, from the mark before.
    pub(crate) fn advance_sql(&self, owner: Owner, from: Offset, to: &Advance<'_>) -> Result<String> {
        let commit = match to.commit_us {
            0 => "source_commit_at".to_owned(),
            us => format!("timestamp '1970-01-01 00:00:00' + interval {us} microsecond"),
        };
        Ok(format!(
            "update {}.checkpoint set next_offset = {}, position = {}, inserts = inserts + {}, \
             updates = updates + {}, deletes = deletes + {}, source_commit_at = {commit}, \
             updated_at = utc_timestamp(6) where {} and next_offset = {}",
            self.schema,
            signed(to.mark.next)?,
            sql_string(&to.mark.position.to_string()),
            to.changes.inserts,
            to.changes.updates,
            to.changes.deletes,
            self.mine(owner),
            signed(from)?
        ))
    }

    /// Records a table, with what is about to be done to it.
    pub(crate) async fn add_table(
        &self,
        session: &mut Session,
        table: &TableName,
        target: &TableName,
        phase: Option<TablePhase>,
        intent: Option<Intent>,
    ) -> Result<()> {
        let now = "utc_timestamp(6)";
        let consistent = if phase == Some(TablePhase::Consistent) { now } else { "null" };
        let sql = format!(
            "insert into {}.load_table (pipeline, sink, source_schema, source_table, target_schema, \
             target_table, phase, intent, prepared_at, consistent_at) \
             values ({}, {}, {}, {}, {}, {}, {}, {now}, {consistent})",
            self.schema,
            self.me_values,
            sql_string(&table.schema),
            sql_string(&table.table),
            sql_string(&target.schema),
            sql_string(&target.table),
            sql_string(phase_text(phase)),
            intent_sql(intent)
        );
        session.run(&sql, format!("Recording table {table}")).await
    }

    /// Writes what is about to be done to a table, or that nothing is any more.
    pub(crate) async fn set_intent(
        &self,
        session: &mut Session,
        table: &TableName,
        intent: Option<Intent>,
    ) -> Result<()> {
        self.change_table(session, table, &format!("intent = {}", intent_sql(intent))).await
    }

    /// Moves a table to another phase; nothing is about to be done to it then.
    pub(crate) async fn set_phase(
        &self,
        session: &mut Session,
        table: &TableName,
        phase: TablePhase,
        intent: Option<Intent>,
    ) -> Result<()> {
        let consistent = if phase == TablePhase::Consistent { "utc_timestamp(6)" } else { "null" };
        let set = format!(
            "phase = {}, consistent_at = {consistent}, intent = {}",
            sql_string(phase_text(Some(phase))),
            intent_sql(intent)
        );
        self.change_table(session, table, &set).await
    }

    async fn change_table(&self, session: &mut Session, table: &TableName, set: &str) -> Result<()> {
        let sql = format!("update {}.load_table set {set} where {}", self.schema, self.table_is(table));
        match session.count(&sql, format!("Recording the state of {table}")).await? {
            1 => Ok(()),
            _ => Err(Error::internal(format!("Table {table} was not prepared"))),
        }
    }

    /// Writes the moment from which on the target shows only states that the source had.
    pub(crate) async fn set_consistent_since(&self, session: &mut Session) -> Result<()> {
        let sql = format!(
            "update {}.checkpoint set consistent_since = coalesce(consistent_since, utc_timestamp(6)) where {}",
            self.schema, self.me
        );
        session.run(&sql, "Recording that the target is consistent").await
    }

    /// Stores a chunk plan.
    pub(crate) async fn add_chunks(
        &self,
        session: &mut Session,
        table: &TableName,
        chunks: &[Chunk],
    ) -> Result<()> {
        let bound = |b: &Option<String>| b.as_ref().map_or("null".to_owned(), |b| hex(b.as_bytes()));
        for part in chunks.chunks(1_000) {
            let values: Vec<String> = part
                .iter()
                .map(|c| {
                    let (schema, name) = (sql_string(&table.schema), sql_string(&table.table));
                    let (lower, upper) = (bound(&c.lower), bound(&c.upper));
                    format!("({}, {schema}, {name}, {}, {lower}, {upper})", self.me_values, c.number)
                })
                .collect();
            let sql = format!(
                "insert into {}.load_chunk (pipeline, sink, source_schema, source_table, number, lower_bound, \
                 upper_bound) values {}",
                self.schema,
                values.join(", ")
            );
            session.run(&sql, format!("Storing the chunk plan of {table}")).await?;
        }
        Ok(())
    }

    /// Whether a table has a chunk plan.
    pub(crate) async fn has_chunks(&self, session: &mut Session, table: &TableName) -> Result<bool> {
        let sql = format!("select 1 from {}.load_chunk where {} limit 1", self.schema, self.table_is(table));
        Ok(!session.query(&sql, "Reading the chunk plan").await?.is_empty())
    }

    /// Forgets a table's chunks.
    pub(crate) async fn drop_chunks(&self, session: &mut Session, table: &TableName) -> Result<()> {
        let sql = format!("delete from {}.load_chunk where {}", self.schema, self.table_is(table));
        session.run(&sql, format!("Forgetting the chunks of {table}")).await
    }

    /// Records that a chunk is in. Refuses one that is in already, or that was never planned.
    pub(crate) async fn finish_chunk(
        &self,
        session: &mut Session,
        chunk: &Chunk,
        rows: u64,
        high: &Position,
    ) -> Result<()> {
        let sql = format!(
            "update {}.load_chunk set loaded_rows = {rows}, high = {}, loaded_at = utc_timestamp(6) \
             where {} and number = {} and loaded_rows is null",
            self.schema,
            sql_string(&high.to_string()),
            self.table_is(&chunk.table),
            chunk.number
        );
        match session.count(&sql, format!("Recording chunk {} of {}", chunk.number, chunk.table)).await? {
            1 => Ok(()),
            _ => Err(Error::internal(format!(
                "Chunk {} of {} is recorded already, or was never planned",
                chunk.number, chunk.table
            ))),
        }
    }
}

/// What a window moves the checkpoint to.
pub(crate) struct Advance<'a> {
    pub mark: &'a Mark,
    pub changes: freshet_core::window::Counts,
    /// Commit time in microseconds since 1970, 0 unknown.
    pub commit_us: i64,
}

fn intent_sql(intent: Option<Intent>) -> String {
    intent.map_or("null".to_owned(), |intent| sql_string(intent.text()))
}

fn is_one_of(owner: &str, ours: &[Uuid]) -> bool {
    ours.iter().chain([&NOBODY]).any(|id| id.to_string() == owner)
}

fn mark_sql(log_id: LogId, mark: &Mark) -> Result<String> {
    let (id, position) = (sql_string(&log_id.to_string()), sql_string(&mark.position.to_string()));
    Ok(format!("log_id = {id}, next_offset = {}, position = {position}", signed(mark.next)?))
}

/// An offset as the target keeps it.
fn signed(offset: Offset) -> Result<i64> {
    i64::try_from(offset.0).map_err(|_| Error::internal("An offset is beyond 63 bits"))
}

pub(crate) fn fenced() -> Error {
    Error::fenced("Another process has taken this sink over")
        .with_hint("Run one freshet per pipeline; see who wrote the checkpoint row last")
}

fn hex(bytes: &[u8]) -> String {
    let digits: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    format!("x'{digits}'")
}

/// A table that is being prepared has no phase yet.
fn phase_text(phase: Option<TablePhase>) -> &'static str {
    match phase {
        None => "preparing",
        Some(TablePhase::Loading) => "loading",
        Some(TablePhase::CatchingUp) => "catching up",
        Some(TablePhase::Consistent) => "consistent",
    }
}

fn phase(text: &str) -> Result<Option<TablePhase>> {
    let all = [None, Some(TablePhase::Loading), Some(TablePhase::CatchingUp), Some(TablePhase::Consistent)];
    all.into_iter().find(|p| phase_text(*p) == text).ok_or_else(|| damaged("a phase that is none"))
}

fn cell(row: &Row, at: usize) -> Result<&str> {
    row.text(at).ok_or_else(|| damaged("a name"))
}

fn recorded(row: &Row) -> Result<Recorded> {
    let phase = phase(cell(row, 4)?)?;
    let state = TableState {
        table: TableName::new(cell(row, 0)?, cell(row, 1)?),
        target: TableName::new(cell(row, 2)?, cell(row, 3)?),
        phase: phase.unwrap_or(TablePhase::Loading),
        chunks: Vec::new(),
    };
    let intent = row.text(5).map(Intent::parse).transpose()?;
    Ok(Recorded { state, intent, is_preparing: phase.is_none() })
}

fn chunk_state(row: &Row) -> Result<ChunkState> {
    let bound = |bytes: Option<&[u8]>| {
        let text = bytes.map(|b| String::from_utf8(b.to_vec()));
        text.transpose().map_err(|_| damaged("a chunk's bound"))
    };
    let chunk = Chunk {
        table: TableName::new(cell(row, 0)?, cell(row, 1)?),
        number: cell(row, 2)?.parse().map_err(|_| damaged("a chunk's number"))?,
        lower: bound(row.get(3))?,
        upper: bound(row.get(4))?,
    };
    let rows = row.text(5).map(|n| n.parse().map_err(|_| damaged("a chunk's rows"))).transpose()?;
    Ok(ChunkState { chunk, rows, high: row.text(6).map(parse).transpose()? })
}

fn taken(row: &Row, id: Uuid) -> Result<Taken> {
    let epoch = SinkEpoch(cell(row, 0)?.parse().map_err(|_| damaged("an epoch"))?);
    let checkpoint = match row.text(1) {
        None => None,
        Some(log_id) => {
            let next = row.text(2).and_then(|n| n.parse().ok()).ok_or_else(|| damaged("an offset"))?;
            let position = parse(row.text(3).ok_or_else(|| damaged("a position"))?)?;
            let mark = Mark { next: Offset(next), position };
            Some(Checkpoint { epoch, log_id: parse(log_id)?, mark })
        }
    };
    let config_digest = row.text(4).map(str::to_owned);
    Ok(Taken { owner: Owner { epoch, id }, checkpoint, config_digest })
}

fn parse<T: FromStr<Err: Display>>(text: &str) -> Result<T> {
    text.parse().map_err(|error: T::Err| Error::corrupt(format!("The control tables are damaged: {error}")))
}

/// `'..', '..'`
fn uuids(ids: &[Uuid]) -> String {
    ids.iter().map(|id| sql_string(&id.to_string())).collect::<Vec<_>>().join(", ")
}

fn damaged(what: &str) -> Error {
    Error::corrupt(format!("The control tables are damaged: {what} cannot be read"))
}
