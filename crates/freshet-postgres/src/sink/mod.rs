//! The PostgreSQL sink: one connection that owns the checkpoint and applies windows, and loaders beside it.
//!
//! What the contract ([`freshet_core::sink`]) promises is kept by three things: every window's transaction ends with
//! a compare-and-set of the checkpoint row, every other transaction with a lock on that row and a check of epoch and
//! owner, and after any error nothing is done before the sink was taken over again over a new connection.
//!
//! `apply` encodes a window while the one before it is still on its way, then waits for that one, then sends: at most
//! one window is under way, and [`Sink::flush`] waits for it.

mod bound;
mod catalog;
pub(crate) mod check;
mod control;
mod ddl;
mod encode;
mod load;
mod numeric;
mod objects;
mod plan;
mod prepare;
mod run;
mod sequences;
mod types;
mod words;

use crate::error::{Scope, statement_error};
use crate::options::SinkOptions;
use crate::quote;
use crate::session::{self, Session};
use async_trait::async_trait;
use bound::{Bound, Op};
use catalog::TargetTable;
use control::{Control, Owner, signed};
use freshet_core::gtid::Uuid;
use freshet_core::own_ids::OwnIds;
use freshet_core::sink::{Applied, ChunkLoader, Ownership, PrepareMode, Sink, TablePhase, TablePlan};
use freshet_core::table::Chunk;
use freshet_core::window::{StepKind, Window};
use freshet_core::{Error, LogId, Mark, Offset, Result, SchemaId, TableName};
use objects::Names;
use plan::{Bindings, Expect, Input, Planned, RawParam};
use prepare::Preparer;
use run::{About, Call, CallInput, Work};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::task::JoinHandle;
use tokio_postgres::Statement;
use tokio_postgres::types::Type;

/// Whether primary keys are made after the rows are in: one sort instead of a descent for each row (BENCH saw 415k
/// rows/s against 349k).
pub const PRIMARY_KEY_AFTER_LOAD: bool = true;

/// A PostgreSQL target.
pub struct PostgresSink {
    options: Arc<SinkOptions>,
    control: Control,
    owned: Option<Owned>,
    ids: OwnIds,
}

/// What holds from a take-over to the next error.
struct Owned {
    session: Session,
    owner: Owner,
    /// Next offset that the checkpoint will hold once everything sent is committed; `None` before the first.
    next: Option<Offset>,
    /// Whether a part without an end left the transaction open.
    in_transaction: bool,
    under_way: Option<JoinHandle<Result<Option<Mark>>>>,
    /// Source table to target table, and how far it is.
    targets: HashMap<TableName, (TableName, TablePhase)>,
    bindings: BindingCache,
    statements: HashMap<(TableName, SchemaId, Op), Statement>,
    truncates: HashMap<TableName, Statement>,
    advance: Option<Statement>,
}

/// Bindings of the schemas met so far.
type BindingCache = HashMap<(TableName, SchemaId), Arc<Bound>>;

impl PostgresSink {
    /// A sink; connects at the first take-over.
    pub fn new(options: SinkOptions) -> Self {
        let control = Control::new(&options);
        Self { options: Arc::new(options), control, owned: None, ids: OwnIds::default() }
    }

    fn owned(&mut self) -> Result<&mut Owned> {
        self.owned.as_mut().ok_or_else(|| Error::internal("The sink is to be taken over before it is used"))
    }

    /// Passes an outcome on; after an error the sink has to be taken over again.
    async fn settle<T>(&mut self, outcome: Result<T>) -> Result<T> {
        if outcome.is_err() {
            self.let_go().await;
        }
        outcome
    }

    /// Gives the connection up. What was under way is ended with it.
    async fn let_go(&mut self) {
        if let Some(mut owned) = self.owned.take()
            && let Some(task) = owned.under_way.take()
        {
            task.abort();
            let _ = task.await;
        }
    }

    async fn connect_and_take_over(&mut self) -> Result<(Owned, Ownership)> {
        let session = session::open(&self.options).await?;
        session::refuse_pooler(&self.options, &session).await?;
        let client = &session.client;
        self.control.ensure(client).await?;
        let ours = self.ids.owners();
        if !ours.is_empty() {
            self.control.refuse_stolen(client, ours).await?;
        }
        self.control.end_sessions(client, ours).await?;
        let id = Uuid(rand::random());
        let taken = self.control.take_over(client, id, ours).await;
        // Also when the answer was lost: it may be ours by now.
        self.ids.tried(id);
        let taken = taken?;
        if self.ids.owners().is_empty() {
            // Loaders that passed the old owner's check are registered by now.
            self.control.end_sessions(client, &[]).await?;
        }
        self.ids.owns(id);
        let tables = self.control.tables(client).await?;
        let targets = tables.iter().map(|t| (t.table.clone(), (t.target.clone(), t.phase))).collect();
        let ownership = Ownership {
            epoch: taken.owner.epoch,
            checkpoint: taken.checkpoint,
            config_digest: taken.config_digest,
            tables,
        };
        let owned = Owned {
            session,
            owner: taken.owner,
            next: ownership.checkpoint.as_ref().map(|c| c.mark.next),
            in_transaction: false,
            under_way: None,
            targets,
            bindings: HashMap::new(),
            statements: HashMap::new(),
            truncates: HashMap::new(),
            advance: None,
        };
        Ok((owned, ownership))
    }

    async fn prepare_all(&mut self, tables: &[TablePlan], mode: PrepareMode) -> Result<Vec<String>> {
        let (control, options) = (self.control.clone(), self.options.clone());
        let owned = self.owned()?;
        owned.idle().await?;
        refuse_collisions(tables)?;
        tables.iter().try_for_each(ddl::check_plan)?;
        let names = Names::new(tables);
        let mut lines = Vec::new();
        if tables.iter().any(|plan| sequences::of(plan).next().is_some()) {
            lines.push(sequences::NOT_FOLLOWED.to_owned());
        }
        let mut made = Vec::new();
        for plan in tables.iter().filter(|plan| !owned.targets.contains_key(plan.info.name())) {
            if owned.preparer(&control, &options).refuse_unknown_words(plan, mode).await? {
                made.push(plan.clone());
            }
        }
        lines.extend(owned.preparer(&control, &options).types(tables, &made).await?);
        for plan in tables {
            lines.extend(ddl::not_carried(plan, &options.policies));
            lines.extend(objects::not_carried(plan, &names, owned.session.replica_role));
            let name = plan.info.name();
            if let Some((target, _)) = owned.targets.get(name) {
                if *target != plan.target {
                    return Err(Error::invalid(format!(
                        "Table {name} was begun as {target} and is now configured as {}",
                        plan.target
                    ))
                    .with_hint("Keep the name, or begin the pipeline again with freshet reset"));
                }
                continue;
            }
            let preparer = owned.preparer(&control, &options);
            lines.extend(preparer.table(plan, tables, mode).await?);
            let phase = if mode == PrepareMode::Keep { TablePhase::Consistent } else { TablePhase::Loading };
            owned.targets.insert(name.clone(), (plan.target.clone(), phase));
        }
        Ok(lines)
    }

    async fn move_tables(&mut self, tables: &[TablePlan], to: TablePhase) -> Result<Vec<String>> {
        let (control, options) = (self.control.clone(), self.options.clone());
        let owned = self.owned()?;
        owned.idle().await?;
        let (names, mut lines) = (Names::new(tables), Vec::new());
        for plan in tables {
            let name = plan.info.name();
            let at = owned.targets.get(name).map(|(_, phase)| *phase);
            if at.is_none_or(|at| at >= to) {
                continue;
            }
            let preparer = owned.preparer(&control, &options);
            lines.extend(match to {
                TablePhase::Consistent => preparer.make_consistent(plan, &names).await?,
                TablePhase::Loading | TablePhase::CatchingUp => preparer.finish(plan, &names).await?,
            });
            owned.targets.insert(name.clone(), (plan.target.clone(), to));
        }
        if to == TablePhase::Consistent {
            lines.extend(owned.preparer(&control, &options).all_consistent(tables, &names).await?);
        }
        Ok(lines)
    }

    async fn apply_window(&mut self, window: Window) -> Result<Applied> {
        let (control, options) = (self.control.clone(), self.options.clone());
        let owned = self.owned()?;
        if !owned.has_bindings(&window)? {
            owned.settle().await?;
            owned.bind(&window).await?;
        }
        let planned = match plan::plan(&window, &Lookup { window: &window, owned }, &options) {
            Ok(planned) => planned,
            Err(error) => {
                owned.settle().await?;
                return Err(error);
            }
        };
        owned.settle().await?;
        let work = owned.work(&control, planned, &window).await?;
        owned.in_transaction = window.end.is_none();
        if let Some(end) = &window.end {
            owned.next = Some(end.next);
        }
        owned.under_way = Some(tokio::spawn(run::run(work)));
        // A task spawned by a worker is the worker's own next one, which no other worker takes: without this the
        // window would leave only when the caller has prepared the one after it.
        tokio::task::yield_now().await;
        Ok(Applied::Accepted)
    }
}

impl Owned {
    fn preparer<'a>(&'a self, control: &'a Control, options: &'a SinkOptions) -> Preparer<'a> {
        Preparer { session: &self.session, control, owner: self.owner, options }
    }

    /// Waits for the window under way; its mark, if it had one.
    async fn settle(&mut self) -> Result<Option<Mark>> {
        let Some(task) = self.under_way.take() else { return Ok(None) };
        task.await.map_err(|_| Error::internal("Applying a window was cut off"))?
    }

    /// Between windows, outside a transaction.
    async fn idle(&mut self) -> Result<()> {
        self.settle().await?;
        if self.in_transaction {
            Err(Error::internal("A transaction of windows is still open"))
        } else {
            Ok(())
        }
    }

    fn has_bindings(&self, window: &Window) -> Result<bool> {
        Ok(used_schemas(window)?
            .into_iter()
            .all(|(table, id, _)| self.bindings.contains_key(&(table.clone(), id))))
    }

    /// Binds the schemas of a window that were not met before.
    async fn bind(&mut self, window: &Window) -> Result<()> {
        for (table, id, schema) in used_schemas(window)? {
            let key = (table.clone(), id);
            if self.bindings.contains_key(&key) {
                continue;
            }
            let target = self.target_name(table)?.clone();
            let found = TargetTable::read(&self.session.client, &target).await?;
            let found = found.ok_or_else(|| load::gone(table, &target))?;
            self.bindings.insert(key, Arc::new(Bound::new(table, &found, &window.schemas[schema])?));
        }
        Ok(())
    }

    fn target_name(&self, table: &TableName) -> Result<&TableName> {
        let target = self.targets.get(table).map(|(target, _)| target);
        target.ok_or_else(|| {
            Error::table(table.clone(), format!("Table {table} was not prepared on the target"))
        })
    }

    /// Statements for what was planned, prepared where they are new.
    async fn work(&mut self, control: &Control, planned: Vec<Planned>, window: &Window) -> Result<Work> {
        let mut calls = Vec::with_capacity(planned.len());
        for planned in planned {
            calls.push(match planned {
                Planned::Job(job) => self.call(job).await?,
                Planned::Truncate { source, target } => self.truncate(source, &target).await?,
            });
        }
        let end = match &window.end {
            None => None,
            Some(mark) => Some((self.advance(control, window, mark).await?, mark.clone())),
        };
        Ok(Work { client: self.session.client.clone(), begin: !self.in_transaction, calls, end })
    }

    async fn call(&mut self, job: plan::Job) -> Result<Call> {
        let bound = &job.bound;
        let key = (bound.source.clone(), bound.schema.id(), job.op);
        let statement = match self.statements.get(&key) {
            Some(statement) => statement.clone(),
            None => {
                let (sql, types) = bound.statement(job.op);
                let scope = Scope::Table(bound.source.clone());
                let statement = self.prepare(&sql, &types, &scope, &bound.source.to_string()).await?;
                self.statements.insert(key, statement.clone());
                statement
            }
        };
        let whole_row = matches!(job.op, Op::UpdateRow | Op::DeleteRow);
        let about = About::Rows {
            table: bound.source.clone(),
            op: job.op,
            key: if whole_row { String::new() } else { bound.key_text.clone() },
            place: job.place,
        };
        let input = match job.input {
            Input::Params(params) => CallInput::Params(params),
            Input::Copy(data) => CallInput::Copy(data),
        };
        Ok(Call { statement, input, expect: job.expect, about })
    }

    /// TRUNCATE would show an empty table to older snapshots: it is a DELETE (ALGORITHMS 3.7, R22).
    async fn truncate(&mut self, source: TableName, target: &str) -> Result<Call> {
        let statement = match self.truncates.get(&source) {
            Some(statement) => statement.clone(),
            None => {
                let scope = Scope::Table(source.clone());
                let sql = format!("delete from {target}");
                let statement = self.prepare(&sql, &[], &scope, &source.to_string()).await?;
                self.truncates.insert(source.clone(), statement.clone());
                statement
            }
        };
        let input = CallInput::Params(Vec::new());
        Ok(Call { statement, input, expect: Expect::Any, about: About::Truncate(source) })
    }

    async fn advance(&mut self, control: &Control, window: &Window, mark: &Mark) -> Result<Call> {
        let previous =
            self.next.ok_or_else(|| Error::internal("A window came before the first checkpoint"))?;
        if mark.next < previous {
            return Err(Error::internal(format!(
                "A window would move the checkpoint back: {} to {}",
                previous, mark.next
            )));
        }
        let statement = match &self.advance {
            Some(statement) => statement.clone(),
            None => {
                let types =
                    [Type::INT8, Type::TEXT, Type::INT8, Type::INT8, Type::INT8, Type::INT8, Type::INT8];
                let sql = control.advance_sql(self.owner);
                let statement = self.prepare(&sql, &types, &Scope::Session, "the checkpoint").await?;
                self.advance = Some(statement.clone());
                statement
            }
        };
        let number = |n: i64| RawParam(Some(n.to_be_bytes().to_vec()));
        let counts = window.changes;
        let params = vec![
            number(signed(mark.next)?),
            RawParam(Some(mark.position.to_string().into_bytes())),
            number(counts.inserts as i64),
            number(counts.updates as i64),
            number(counts.deletes as i64),
            number(window.commit_us),
            number(signed(previous)?),
        ];
        let input = CallInput::Params(params);
        Ok(Call { statement, input, expect: Expect::Rows(1), about: About::Checkpoint })
    }

    async fn prepare(&self, sql: &str, types: &[Type], scope: &Scope, what: &str) -> Result<Statement> {
        let prepared = self.session.client.prepare_typed(sql, types).await;
        prepared.map_err(|e| statement_error(scope, format!("Preparing a statement for {what}"), &e))
    }
}

/// Table, identity and index of every schema that the window's steps use.
fn used_schemas(window: &Window) -> Result<Vec<(&TableName, SchemaId, usize)>> {
    let mut out = Vec::new();
    for step in &window.steps {
        let mut last = None;
        let mut add = |schema: u32| {
            if last == Some(schema) {
                return Ok(());
            }
            last = Some(schema);
            let index = schema as usize;
            let found = window.schemas.get(index);
            let found = found.ok_or_else(|| Error::internal("A window lacks a schema that its rows name"))?;
            out.push((&step.table, found.id(), index));
            Ok(())
        };
        match &step.kind {
            StepKind::Update(rows) => rows.iter().try_for_each(|(before, _)| add(before.schema))?,
            StepKind::Insert(rows)
            | StepKind::Delete(rows)
            | StepKind::Upsert(rows)
            | StepKind::Patch(rows)
            | StepKind::PatchIfThere(rows)
            | StepKind::DeleteIfThere(rows)
            | StepKind::CheckAbsent(rows) => rows.iter().try_for_each(|row| add(row.schema))?,
            StepKind::Truncate => {}
        }
    }
    Ok(out)
}

fn refuse_collisions(tables: &[TablePlan]) -> Result<()> {
    let mut seen: HashMap<&TableName, &TableName> = HashMap::new();
    for plan in tables {
        if let Some(other) = seen.insert(&plan.target, plan.info.name()) {
            return Err(Error::invalid(format!(
                "Tables {other} and {} would both become {}",
                plan.info.name(),
                plan.target
            ))
            .with_hint("Map them to different names"));
        }
    }
    Ok(())
}

struct Lookup<'a> {
    window: &'a Window,
    owned: &'a Owned,
}

impl Bindings for Lookup<'_> {
    fn bound(&self, table: &TableName, schema: u32) -> Result<Arc<Bound>> {
        let schema = self.window.schemas.get(schema as usize);
        let bound = schema.and_then(|s| self.owned.bindings.get(&(table.clone(), s.id())));
        bound.cloned().ok_or_else(|| Error::internal(format!("A schema of {table} was not bound")))
    }

    fn target(&self, table: &TableName) -> Result<String> {
        self.owned.target_name(table).map(quote::table)
    }
}

#[async_trait]
impl Sink for PostgresSink {
    async fn take_over(&mut self) -> Result<Ownership> {
        self.let_go().await;
        let (owned, ownership) = self.connect_and_take_over().await?;
        self.owned = Some(owned);
        Ok(ownership)
    }

    async fn begin(&mut self, log_id: LogId, mark: &Mark, config_digest: &str) -> Result<()> {
        let control = self.control.clone();
        let owned = self.owned()?;
        let begun = control.begin(&owned.session.client, owned.owner, log_id, mark, config_digest).await;
        if begun.is_ok() {
            owned.next = Some(mark.next);
        }
        self.settle(begun).await
    }

    async fn rebase(&mut self, log_id: LogId, mark: &Mark) -> Result<()> {
        let control = self.control.clone();
        let owned = self.owned()?;
        let moved = match owned.idle().await {
            Ok(()) => control.rebase(&owned.session.client, owned.owner, log_id, mark).await,
            Err(error) => Err(error),
        };
        if moved.is_ok() {
            owned.next = Some(mark.next);
        }
        self.settle(moved).await
    }

    async fn prepare(&mut self, tables: &[TablePlan], mode: PrepareMode) -> Result<Vec<String>> {
        let prepared = self.prepare_all(tables, mode).await;
        self.settle(prepared).await
    }

    async fn plan_chunks(&mut self, table: &TableName, chunks: &[Chunk]) -> Result<()> {
        let (control, options) = (self.control.clone(), self.options.clone());
        let owned = self.owned()?;
        let stored = match owned.target_name(table) {
            Ok(_) => owned.preparer(&control, &options).plan_chunks(table, chunks).await,
            Err(error) => Err(error),
        };
        self.settle(stored).await
    }

    async fn restart_table(&mut self, table: &TableName) -> Result<()> {
        let (control, options) = (self.control.clone(), self.options.clone());
        let owned = self.owned()?;
        let restarted = match owned.target_name(table).cloned() {
            Ok(target) => {
                let done = owned.preparer(&control, &options).restart(table, &target).await;
                owned.targets.insert(table.clone(), (target, TablePhase::Loading));
                done
            }
            Err(error) => Err(error),
        };
        self.settle(restarted).await
    }

    async fn loader(&mut self) -> Result<Box<dyn ChunkLoader>> {
        let (control, options) = (self.control.clone(), self.options.clone());
        let owner = self.owned()?.owner;
        let session = session::open(&options).await?;
        Ok(Box::new(load::Loader::new(session, control, owner, options).await?))
    }

    async fn finish_load(&mut self, tables: &[TablePlan]) -> Result<Vec<String>> {
        let moved = self.move_tables(tables, TablePhase::CatchingUp).await;
        self.settle(moved).await
    }

    async fn make_consistent(&mut self, tables: &[TablePlan]) -> Result<Vec<String>> {
        let moved = self.move_tables(tables, TablePhase::Consistent).await;
        self.settle(moved).await
    }

    async fn apply(&mut self, window: Window) -> Result<Applied> {
        let applied = self.apply_window(window).await;
        self.settle(applied).await
    }

    async fn flush(&mut self) -> Result<Option<Mark>> {
        let settled = self.owned()?.settle().await;
        self.settle(settled).await
    }

    async fn rollback(&mut self) -> Result<()> {
        let owned = self.owned()?;
        let settled = match owned.settle().await {
            Ok(_) if owned.in_transaction => {
                owned.in_transaction = false;
                control::run(&owned.session.client, "rollback", "Abandoning a transaction").await
            }
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        self.settle(settled).await
    }
}
