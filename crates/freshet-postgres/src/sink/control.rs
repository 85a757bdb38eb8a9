//! The control tables in the target: what stands in them, and every statement that reads or writes them.
//!
//! `docs/control-schema.md` describes them for people. Values are literals in simple statements: they change once a
//! window or less, but for the checkpoint's own update, which is prepared. Ownership is (epoch, owner): an epoch
//! alone could repeat after the target was restored from a backup.

use crate::error::{Scope, statement_error};
use crate::options::SinkOptions;
use crate::quote::{ident, literal};
use freshet_core::gtid::Uuid;
use freshet_core::sink::{ChunkState, TablePhase, TableState};
use freshet_core::table::Chunk;
use freshet_core::{Checkpoint, Error, LogId, Mark, Offset, Position, Result, SinkEpoch, TableName};
use std::fmt::Display;
use std::str::FromStr;
use tokio_postgres::{Client, Row};

/// Version of the control schema. Another one in the target is refused by name.
pub(crate) const CONTROL_VERSION: i32 = 1;
/// How long an ended session of the previous owner may take to go away.
const TERMINATE_TIMEOUT_MS: u64 = 5_000;

/// Owner of a checkpoint row that nobody has taken over yet.
const NOBODY: Uuid = Uuid([0; 16]);

/// The names and keys that every control statement needs.
#[derive(Clone, Debug)]
pub(crate) struct Control {
    schema: String,
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

impl Control {
    pub(crate) fn new(options: &SinkOptions) -> Self {
        let (pipeline, sink) = (literal(&options.pipeline), literal(&options.sink));
        Self {
            schema: ident(&options.control_schema),
            me: format!("pipeline = {pipeline} and sink = {sink}"),
            me_values: format!("{pipeline}, {sink}"),
        }
    }

    fn mine(&self, owner: Owner) -> String {
        format!("{} and epoch = {} and owner = {}", self.me, owner.epoch, literal(&owner.id.to_string()))
    }

    fn table_is(&self, table: &TableName) -> String {
        let (schema, name) = (literal(&table.schema), literal(&table.table));
        format!("{} and source_schema = {schema} and source_table = {name}", self.me)
    }

    /// Makes the control tables if they are absent; refuses a version that this build does not know.
    pub(crate) async fn ensure(&self, client: &Client) -> Result<()> {
        let schema = &self.schema;
        if !self.exists(client).await? {
            run(client, &self.create_sql(), format!("Creating the control schema {schema}")).await?;
        }
        let version = format!("select version from {schema}.version");
        let version: i32 = one(client, &version, "Reading the control schema's version").await?.get(0);
        if version != CONTROL_VERSION {
            return Err(Error::unsupported(format!(
                "Control schema {schema} has version {version}, this build knows {CONTROL_VERSION}"
            ))
            .with_hint("Use the version of freshet that made it, or another control_schema"));
        }
        Ok(())
    }

    /// Whether the control tables are there.
    pub(crate) async fn exists(&self, client: &Client) -> Result<bool> {
        let sql = format!("select to_regclass({}) is not null", literal(&format!("{}.version", self.schema)));
        Ok(one(client, &sql, "Looking for the control schema").await?.get(0))
    }

    /// Locks the checkpoint row, whoever owns it; made if it is absent, or whoever starts meanwhile would not wait.
    pub(crate) async fn lock(&self, client: &Client) -> Result<()> {
        const DOING: &str = "Locking the checkpoint";
        run(client, &self.insert_sql(), DOING).await?;
        let sql = format!("select 1 from {}.checkpoint where {} for update", self.schema, self.me);
        query(client, &sql, DOING).await.map(drop)
    }

    /// Makes the checkpoint row, owned by nobody, if it is absent.
    fn insert_sql(&self) -> String {
        format!(
            "insert into {}.checkpoint (pipeline, sink, epoch, owner) values ({}, 0, {}) on conflict do nothing",
            self.schema,
            self.me_values,
            uuids(&[NOBODY])
        )
    }

    /// Deletes every row of this pipeline and sink.
    pub(crate) async fn forget(&self, client: &Client) -> Result<()> {
        for table in ["load_chunk", "load_table", "session", "checkpoint"] {
            let sql = format!("delete from {}.{table} where {}", self.schema, self.me);
            run(client, &sql, "Forgetting the pipeline").await?;
        }
        Ok(())
    }

    fn create_sql(&self) -> String {
        // The lock makes two processes that come first take turns.
        format!(
            "begin;
             select pg_advisory_xact_lock(7239101542037715);
             create schema if not exists {0};
             create table if not exists {0}.version (version int not null);
             insert into {0}.version select {CONTROL_VERSION} where not exists (select 1 from {0}.version);
             create table if not exists {0}.checkpoint (
               pipeline text not null, sink text not null,
               epoch bigint not null, owner uuid not null,
               log_id uuid, next_offset bigint, position text,
               config_digest text, consistent_since timestamptz,
               inserts bigint not null default 0, updates bigint not null default 0,
               deletes bigint not null default 0,
               source_commit_at timestamptz, updated_at timestamptz not null default now(),
               primary key (pipeline, sink)) with (fillfactor = 10);
             create table if not exists {0}.session (
               pipeline text not null, sink text not null, pid int not null,
               backend_start timestamptz not null, owner uuid not null,
               primary key (pipeline, sink, pid, backend_start));
             create table if not exists {0}.load_table (
               pipeline text not null, sink text not null,
               source_schema text not null, source_table text not null,
               target_schema text not null, target_table text not null,
               phase text not null check (phase in ('loading', 'catching up', 'consistent')),
               prepared_at timestamptz not null default now(), consistent_at timestamptz,
               primary key (pipeline, sink, source_schema, source_table));
             create table if not exists {0}.load_chunk (
               pipeline text not null, sink text not null,
               source_schema text not null, source_table text not null, number int not null,
               lower bytea, upper bytea, rows bigint, high text, loaded_at timestamptz,
               primary key (pipeline, sink, source_schema, source_table, number));
             commit",
            self.schema
        )
    }

    /// Ends the sessions that earlier owners left behind; a reused process id is told by its start. Where `ours` is
    /// not empty, only those of this process: one that owned before must not end whoever is taking over from it.
    /// What this role may not signal is left: it is fenced all the same.
    pub(crate) async fn end_sessions(&self, client: &Client, ours: &[Uuid]) -> Result<()> {
        let only = match ours.is_empty() {
            true => String::new(),
            false => format!("and s.owner in ({})", uuids(ours)),
        };
        let sql = format!(
            "select pg_terminate_backend(s.pid, {TERMINATE_TIMEOUT_MS}) from {}.session s \
             join pg_stat_activity a on a.pid = s.pid and a.backend_start = s.backend_start \
             join pg_roles r on r.oid = a.usesysid \
             where {} {only} and s.pid <> pg_backend_pid() and (pg_has_role(r.oid, 'usage') \
               or (not r.rolsuper and pg_has_role('pg_signal_backend', 'usage')))",
            self.schema, self.me
        );
        query(client, &sql, "Ending the previous owner's sessions").await?;
        Ok(())
    }

    /// Refuses to go on where another process took over since one of `ours`, the ids of this process, owned.
    pub(crate) async fn refuse_stolen(&self, client: &Client, ours: &[Uuid]) -> Result<()> {
        let sql = format!("select owner::text from {}.checkpoint where {}", self.schema, self.me);
        let rows = query(client, &sql, "Reading the checkpoint's owner").await?;
        let owner: Option<&str> = rows.first().map(|row| row.get(0));
        match owner {
            Some(owner) if !ours.iter().chain([&NOBODY]).any(|id| id.to_string() == owner) => Err(fenced()),
            Some(_) | None => Ok(()),
        }
    }

    /// The one locking statement of a take-over, and this session's registration, in one transaction. Where `ours`
    /// is not empty, this process owned before: then it takes over only from itself, or two processes would take
    /// the sink from each other for ever.
    pub(crate) async fn take_over(&self, client: &Client, id: Uuid, ours: &[Uuid]) -> Result<Taken> {
        const DOING: &str = "Taking the checkpoint over";
        let (schema, me) = (&self.schema, &self.me);
        run(client, &self.insert_sql(), DOING).await?;
        let only = match ours.is_empty() {
            true => String::new(),
            false => format!("and owner in ({}, {})", uuids(&[NOBODY]), uuids(ours)),
        };
        // Known before it locks, so that whoever comes next can end it and need not wait for a dead host's lock.
        run(client, &self.register_sql(id), DOING).await?;
        run(client, "begin", DOING).await?;
        let update = format!(
            "update {schema}.checkpoint set epoch = epoch + 1, owner = {}, updated_at = now() where {me} {only} \
             returning epoch, log_id::text, next_offset, position, config_digest",
            literal(&id.to_string())
        );
        let rows = query(client, &update, DOING).await?;
        let taken = taken(rows.first().ok_or_else(fenced)?, id)?;
        // What lives stays registered: another process may be about to take over, and die. The start of another
        // role's session may be hidden from this one: it counts as alive.
        let forget = format!(
            "delete from {schema}.session s where {me} and not exists (select from pg_stat_activity a \
             where a.pid = s.pid and (a.backend_start is null or a.backend_start = s.backend_start))"
        );
        run(client, &forget, DOING).await?;
        run(client, "commit", DOING).await?;
        Ok(taken)
    }

    /// Notes this session of `owner`, so that the next one can end it.
    pub(crate) fn register_sql(&self, owner: Uuid) -> String {
        format!(
            "insert into {}.session (pipeline, sink, pid, backend_start, owner) \
             select {}, pid, backend_start, {} from pg_stat_activity where pid = pg_backend_pid() \
             on conflict do nothing",
            self.schema,
            self.me_values,
            literal(&owner.to_string())
        )
    }

    /// The tables of the load and their chunks.
    pub(crate) async fn tables(&self, client: &Client) -> Result<Vec<TableState>> {
        const DOING: &str = "Reading the load's state";
        let (schema, me) = (&self.schema, &self.me);
        let sql = format!(
            "select source_schema, source_table, target_schema, target_table, phase from {schema}.load_table \
             where {me} order by 1, 2"
        );
        let mut tables = Vec::new();
        for row in query(client, &sql, DOING).await? {
            tables.push(TableState {
                table: TableName::new(row.get::<_, String>(0), row.get::<_, String>(1)),
                target: TableName::new(row.get::<_, String>(2), row.get::<_, String>(3)),
                phase: phase(row.get(4))?,
                chunks: Vec::new(),
            });
        }
        let sql = format!(
            "select source_schema, source_table, number, lower, upper, rows, high from {schema}.load_chunk \
             where {me} order by 1, 2, 3"
        );
        for row in query(client, &sql, DOING).await? {
            let state = chunk_state(&row)?;
            let of = tables.iter_mut().find(|t| t.table == state.chunk.table);
            let of = of.ok_or_else(|| damaged("a chunk of a table that is not there"))?;
            of.chunks.push(state);
        }
        Ok(tables)
    }

    /// Locks the checkpoint row and checks that it is still ours; the end of every transaction but a window's.
    pub(crate) async fn fence(&self, client: &Client, owner: Owner) -> Result<()> {
        let sql = format!("select 1 from {}.checkpoint where {} for share", self.schema, self.mine(owner));
        let rows = query(client, &sql, "Checking the checkpoint's owner").await?;
        if rows.len() == 1 { Ok(()) } else { Err(fenced()) }
    }

    /// Stores the first checkpoint.
    pub(crate) async fn begin(
        &self,
        client: &Client,
        owner: Owner,
        log_id: LogId,
        mark: &Mark,
        digest: &str,
    ) -> Result<()> {
        let sql = format!(
            "update {}.checkpoint set {}, config_digest = {}, updated_at = now() where {} and log_id is null",
            self.schema,
            mark_sql(log_id, mark)?,
            literal(digest),
            self.mine(owner)
        );
        if execute(client, &sql, "Storing the first checkpoint").await? == 1 {
            return Ok(());
        }
        self.fence(client, owner).await?;
        Err(Error::internal("The first checkpoint is there already"))
    }

    /// Moves the checkpoint to another log.
    pub(crate) async fn rebase(
        &self,
        client: &Client,
        owner: Owner,
        log_id: LogId,
        mark: &Mark,
    ) -> Result<()> {
        let sql = format!(
            "update {}.checkpoint set {}, updated_at = now() where {} and log_id is not null",
            self.schema,
            mark_sql(log_id, mark)?,
            self.mine(owner)
        );
        if execute(client, &sql, "Moving the checkpoint to another log").await? == 1 {
            return Ok(());
        }
        self.fence(client, owner).await?;
        Err(Error::internal("There is no checkpoint to move to another log"))
    }

    /// The compare-and-set of a window; parameters: next offset, position, inserts, updates, deletes, commit time in
    /// microseconds since 1970 (0 unknown), previous next offset.
    pub(crate) fn advance_sql(&self, owner: Owner) -> String {
        format!(
            "update {}.checkpoint set next_offset = $1, position = $2, inserts = inserts + $3, \
             updates = updates + $4, deletes = deletes + $5, \
             source_commit_at = case when $6::int8 = 0 then source_commit_at \
               else timestamptz 'epoch' + $6 * interval '1 microsecond' end, \
             updated_at = clock_timestamp() where {} and next_offset = $7",
            self.schema,
            self.mine(owner)
        )
    }

    /// Records a table.
    pub(crate) async fn add_table(
        &self,
        client: &Client,
        table: &TableName,
        target: &TableName,
        phase: TablePhase,
    ) -> Result<()> {
        let consistent = if phase == TablePhase::Consistent { "now()" } else { "null" };
        let sql = format!(
            "insert into {}.load_table (pipeline, sink, source_schema, source_table, target_schema, \
             target_table, phase, consistent_at) values ({}, {}, {}, {}, {}, {}, {consistent})",
            self.schema,
            self.me_values,
            literal(&table.schema),
            literal(&table.table),
            literal(&target.schema),
            literal(&target.table),
            literal(phase_text(phase))
        );
        run(client, &sql, format!("Recording table {table}")).await
    }

    /// Moves a table to another phase.
    pub(crate) async fn set_phase(
        &self,
        client: &Client,
        table: &TableName,
        phase: TablePhase,
    ) -> Result<()> {
        let consistent = if phase == TablePhase::Consistent { "now()" } else { "null" };
        let sql = format!(
            "update {}.load_table set phase = {}, consistent_at = {consistent} where {}",
            self.schema,
            literal(phase_text(phase)),
            self.table_is(table)
        );
        match execute(client, &sql, &format!("Recording the phase of {table}")).await? {
            1 => Ok(()),
            _ => Err(Error::internal(format!("Table {table} was not prepared"))),
        }
    }

    /// Whether that moment has come and was written.
    pub(crate) async fn is_consistent(&self, client: &Client) -> Result<bool> {
        let sql =
            format!("select consistent_since is not null from {}.checkpoint where {}", self.schema, self.me);
        Ok(one(client, &sql, "Reading whether the target is consistent").await?.get(0))
    }

    /// Writes the moment from which on the target shows only states that the source had.
    pub(crate) async fn set_consistent_since(&self, client: &Client) -> Result<()> {
        let sql = format!(
            "update {}.checkpoint set consistent_since = coalesce(consistent_since, clock_timestamp()) where {}",
            self.schema, self.me
        );
        run(client, &sql, "Recording that the target is consistent").await
    }

    /// Stores a chunk plan.
    pub(crate) async fn add_chunks(
        &self,
        client: &Client,
        table: &TableName,
        chunks: &[Chunk],
    ) -> Result<()> {
        let bound = |b: &Option<String>| b.as_ref().map_or("null".to_owned(), |b| hex(b.as_bytes()));
        for part in chunks.chunks(1_000) {
            let values: Vec<String> = part
                .iter()
                .map(|c| {
                    let (schema, name) = (literal(&table.schema), literal(&table.table));
                    let (lower, upper) = (bound(&c.lower), bound(&c.upper));
                    format!("({}, {schema}, {name}, {}, {lower}, {upper})", self.me_values, c.number)
                })
                .collect();
            let sql = format!(
                "insert into {}.load_chunk (pipeline, sink, source_schema, source_table, number, lower, upper) \
                 values {}",
                self.schema,
                values.join(", ")
            );
            run(client, &sql, format!("Storing the chunk plan of {table}")).await?;
        }
        Ok(())
    }

    /// Whether a table has a chunk plan.
    pub(crate) async fn has_chunks(&self, client: &Client, table: &TableName) -> Result<bool> {
        let sql = format!(
            "select exists (select 1 from {}.load_chunk where {})",
            self.schema,
            self.table_is(table)
        );
        Ok(one(client, &sql, "Reading the chunk plan").await?.get(0))
    }

    /// Forgets a table's chunks.
    pub(crate) async fn drop_chunks(&self, client: &Client, table: &TableName) -> Result<()> {
        let sql = format!("delete from {}.load_chunk where {}", self.schema, self.table_is(table));
        run(client, &sql, format!("Forgetting the chunks of {table}")).await
    }

    /// Records that a chunk is in. Refuses one that is in already, or that was never planned.
    pub(crate) async fn finish_chunk(
        &self,
        client: &Client,
        chunk: &Chunk,
        rows: u64,
        high: &Position,
    ) -> Result<()> {
        let sql = format!(
            "update {}.load_chunk set rows = {rows}, high = {}, loaded_at = now() \
             where {} and number = {} and rows is null",
            self.schema,
            literal(&high.to_string()),
            self.table_is(&chunk.table),
            chunk.number
        );
        match execute(client, &sql, &format!("Recording chunk {} of {}", chunk.number, chunk.table)).await? {
            1 => Ok(()),
            _ => Err(Error::internal(format!(
                "Chunk {} of {} is recorded already, or was never planned",
                chunk.number, chunk.table
            ))),
        }
    }
}

fn mark_sql(log_id: LogId, mark: &Mark) -> Result<String> {
    let (id, position) = (literal(&log_id.to_string()), literal(&mark.position.to_string()));
    Ok(format!("log_id = {id}, next_offset = {}, position = {position}", signed(mark.next)?))
}

/// An offset as PostgreSQL keeps it.
pub(crate) fn signed(offset: Offset) -> Result<i64> {
    i64::try_from(offset.0).map_err(|_| Error::internal("An offset is beyond 63 bits"))
}

pub(crate) fn fenced() -> Error {
    Error::fenced("Another process has taken this sink over")
        .with_hint("Run one freshet per pipeline; see who wrote the checkpoint row last")
}

fn hex(bytes: &[u8]) -> String {
    let digits: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    format!("'\\x{digits}'")
}

fn phase_text(phase: TablePhase) -> &'static str {
    match phase {
        TablePhase::Loading => "loading",
        TablePhase::CatchingUp => "catching up",
        TablePhase::Consistent => "consistent",
    }
}

fn phase(text: &str) -> Result<TablePhase> {
    match text {
        "loading" => Ok(TablePhase::Loading),
        "catching up" => Ok(TablePhase::CatchingUp),
        "consistent" => Ok(TablePhase::Consistent),
        _ => Err(damaged("a phase that is none")),
    }
}

fn chunk_state(row: &Row) -> Result<ChunkState> {
    let bound = |bytes: Option<Vec<u8>>| {
        bytes.map(|b| String::from_utf8(b).map_err(|_| damaged("a chunk's bound"))).transpose()
    };
    let chunk = Chunk {
        table: TableName::new(row.get::<_, String>(0), row.get::<_, String>(1)),
        number: u32::try_from(row.get::<_, i32>(2)).map_err(|_| damaged("a chunk's number"))?,
        lower: bound(row.get(3))?,
        upper: bound(row.get(4))?,
    };
    let rows: Option<i64> = row.get(5);
    let high: Option<&str> = row.get(6);
    let rows = rows.map(|n| u64::try_from(n).map_err(|_| damaged("a chunk's rows"))).transpose()?;
    Ok(ChunkState { chunk, rows, high: high.map(parse).transpose()? })
}

fn taken(row: &Row, id: Uuid) -> Result<Taken> {
    let epoch: i64 = row.get(0);
    let epoch = SinkEpoch(u64::try_from(epoch).map_err(|_| damaged("an epoch"))?);
    let log_id: Option<&str> = row.get(1);
    let checkpoint = match log_id {
        None => None,
        Some(log_id) => {
            let (next, position): (Option<i64>, Option<&str>) = (row.get(2), row.get(3));
            let next = next.and_then(|n| u64::try_from(n).ok()).ok_or_else(|| damaged("an offset"))?;
            let position = parse(position.ok_or_else(|| damaged("a position"))?)?;
            let mark = Mark { next: Offset(next), position };
            Some(Checkpoint { epoch, log_id: parse(log_id)?, mark })
        }
    };
    Ok(Taken { owner: Owner { epoch, id }, checkpoint, config_digest: row.get(4) })
}

fn parse<T: FromStr<Err: Display>>(text: &str) -> Result<T> {
    text.parse().map_err(|error: T::Err| Error::corrupt(format!("The control tables are damaged: {error}")))
}

/// `'..', '..'`
fn uuids(ids: &[Uuid]) -> String {
    ids.iter().map(|id| literal(&id.to_string())).collect::<Vec<_>>().join(", ")
}

fn damaged(what: &str) -> Error {
    Error::corrupt(format!("The control tables are damaged: {what} cannot be read"))
}

/// Runs statements that return nothing of interest. An open transaction that fails is left to its connection's end.
pub(crate) async fn run(client: &Client, sql: &str, doing: impl Display) -> Result<()> {
    client.batch_execute(sql).await.map_err(|e| statement_error(&Scope::Session, doing, &e))
}

/// Whether a schema is there.
pub(crate) async fn has_schema(client: &Client, name: &str) -> Result<bool> {
    let sql = format!("select exists (select 1 from pg_namespace where nspname = {})", literal(name));
    Ok(one(client, &sql, "Looking for the target schema").await?.get(0))
}

pub(crate) async fn query(client: &Client, sql: &str, doing: &str) -> Result<Vec<Row>> {
    client.query_typed(sql, &[]).await.map_err(|e| statement_error(&Scope::Session, doing, &e))
}

async fn execute(client: &Client, sql: &str, doing: &str) -> Result<u64> {
    client.execute_typed(sql, &[]).await.map_err(|e| statement_error(&Scope::Session, doing, &e))
}

pub(crate) async fn one(client: &Client, sql: &str, doing: &str) -> Result<Row> {
    let rows = query(client, sql, doing).await?;
    rows.into_iter().next().ok_or_else(|| Error::internal(format!("{doing}: no row came back")))
}
