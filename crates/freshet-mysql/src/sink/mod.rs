//! The MySQL and MariaDB sink: one connection that owns the checkpoint and applies windows, and loaders beside it.
//!
//! What the contract ([`freshet_core::sink`]) promises is kept by three things: every window's transaction ends with
//! a compare-and-set of the checkpoint row, every other transaction with a lock on that row and a check of epoch and
//! owner, and after any error nothing is done before the sink was taken over again over a new connection. DDL, which the
//! servers commit by themselves, is preceded by an intent (`prepare.rs`), and a take-over waits until the connection that
//! could still run one is gone (`control.rs`).
//!
//! `apply` encodes a window while the one before it is still on its way, then waits for that one, then sends: at most
//! one window is under way, and [`Sink::flush`] waits for it.
//!
//! Types are in `types.rs`: of MySQL and MariaDB they are kept, of PostgreSQL each has a stated form. Not for several
//! writers: on Galera and group replication the named locks that connections are known by hold on one member, so the
//! sink has to be pointed at one member, and a fail-over to another is a new take-over.

mod bound;
mod catalog;
mod check;
mod control;
mod ddl;
mod encode;
mod error;
mod form;
mod json;
mod load;
mod options;
mod plan;
mod prepare;
mod printed;
mod privileges;
mod run;
mod session;
mod transaction;
mod types;

pub use check::{check, grants, reset};
pub use options::{DatePolicy, Policies, SinkOptions, UndecodablePolicy};

use async_trait::async_trait;
use bound::Bound;
use catalog::TargetTable;
use control::{Advance, Control, Intent, Owner, Recorded};
use freshet_core::gtid::Uuid;
use freshet_core::own_ids::OwnIds;
use freshet_core::sink::{Applied, ChunkLoader, Ownership, PrepareMode, Sink, TablePhase, TablePlan};
use freshet_core::table::Chunk;
use freshet_core::window::{StepKind, Window};
use freshet_core::{Error, LogId, Mark, Offset, Result, SchemaId, TableName};
use plan::{About, Bindings, Check, Expect, Requests};
use prepare::Preparer;
use printed::Names;
use run::Work;
use session::Session;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::task::JoinHandle;

/// A MySQL or MariaDB target.
pub struct MySqlSink {
    options: Arc<SinkOptions>,
    control: Control,
    owned: Option<Owned>,
    ids: OwnIds,
}

/// A window on its way, with the connection that it is on.
type UnderWay = JoinHandle<(Session, Result<Option<Mark>>)>;

/// What holds from a take-over to the next error.
struct Owned {
    /// `None` while a window is under way.
    session: Option<Session>,
    facts: session::Facts,
    owner: Owner,
    /// Next offset that the checkpoint will hold once everything sent is committed; `None` before the first.
    next: Option<Offset>,
    /// Whether a part without an end left the transaction open.
    in_transaction: bool,
    under_way: Option<UnderWay>,
    /// Source table to target table, and how far it is.
    targets: HashMap<TableName, (TableName, TablePhase)>,
    /// Tables whose preparation was begun: the target and what was about to be done.
    preparing: HashMap<TableName, (TableName, Option<Intent>)>,
    bindings: HashMap<(TableName, SchemaId), Arc<Bound>>,
}

impl MySqlSink {
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
        let mut session = session::open(&self.options).await?;
        self.control.ensure(&mut session).await?;
        let ours = self.ids.owners();
        if !ours.is_empty() {
            self.control.refuse_stolen(&mut session, ours).await?;
        }
        self.control.end_sessions(&mut session, ours).await?;
        let id = Uuid(rand::random());
        let taken = self.control.take_over(&mut session, id, ours).await;
        // Also when the answer was lost: it may be ours by now.
        self.ids.tried(id);
        let taken = taken?;
        // Whoever owned in between, and loaders that passed the old owner's check, are registered by now.
        self.control.end_sessions(&mut session, self.ids.owners()).await?;
        self.ids.owns(id);
        let recorded = self.finish_restarts(&mut session, taken.owner).await?;
        Ok(owned(session, taken, recorded))
    }

    /// Empties the tables whose restart a crash cut off, now that nobody else is left who could do it later.
    async fn finish_restarts(&self, session: &mut Session, owner: Owner) -> Result<Vec<Recorded>> {
        let recorded = self.control.tables(session).await?;
        let cut_off = |r: &&Recorded| !r.is_preparing && r.intent == Some(Intent::Empty);
        for table in recorded.iter().filter(cut_off) {
            let mut preparer = Preparer { session, control: &self.control, owner };
            preparer.finish_restart(&table.state.table, &table.state.target).await?;
        }
        Ok(recorded)
    }

    async fn prepare_all(&mut self, tables: &[TablePlan], mode: PrepareMode) -> Result<Vec<String>> {
        let control = self.control.clone();
        let owned = self.owned()?;
        owned.idle().await?;
        let facts = owned.facts;
        refuse_collisions(tables)?;
        tables.iter().try_for_each(|plan| ddl::check_plan(plan, facts))?;
        let (mut lines, names) = (Vec::new(), Names::new(tables));
        for plan in tables {
            lines.extend(ddl::not_carried(plan, facts, &names));
            let name = plan.info.name();
            let begun = owned.preparing.get(name).cloned();
            let known = owned.targets.get(name).map(|(target, _)| target);
            if let Some(target) = known.or(begun.as_ref().map(|(target, _)| target))
                && *target != plan.target
            {
                return Err(Error::invalid(format!(
                    "Table {name} was begun as {target} and is now configured as {}",
                    plan.target
                ))
                .with_hint("Keep the name, or begin the pipeline again with freshet reset"));
            }
            if known.is_some() {
                continue;
            }
            let intent = begun.and_then(|(_, intent)| intent);
            lines.extend(owned.preparer(&control)?.table(plan, mode, intent, &names).await?);
            let phase = if mode == PrepareMode::Keep { TablePhase::Consistent } else { TablePhase::Loading };
            owned.preparing.remove(name);
            owned.targets.insert(name.clone(), (plan.target.clone(), phase));
        }
        Ok(lines)
    }

    async fn move_tables(&mut self, tables: &[TablePlan], to: TablePhase) -> Result<Vec<String>> {
        let control = self.control.clone();
        let owned = self.owned()?;
        owned.idle().await?;
        let (mut lines, names) = (Vec::new(), Names::new(tables));
        let is_before =
            |plan: &&TablePlan| owned.targets.get(plan.info.name()).is_some_and(|(_, phase)| *phase < to);
        let moving: Vec<&TablePlan> = tables.iter().filter(is_before).collect();
        for plan in &moving {
            let mut preparer = owned.preparer(&control)?;
            lines.extend(match to {
                TablePhase::Consistent => preparer.complete(plan).await?,
                TablePhase::Loading | TablePhase::CatchingUp => preparer.index(plan, false).await?,
            });
        }
        // Once every table is complete, and before one of them counts as consistent: a crash between does it again.
        for plan in moving.iter().filter(|_| to == TablePhase::Consistent) {
            lines.extend(owned.preparer(&control)?.reference(plan, &names).await?);
        }
        for plan in moving {
            owned.preparer(&control)?.move_to(plan, to).await?;
            owned.targets.insert(plan.info.name().clone(), (plan.target.clone(), to));
        }
        if to == TablePhase::Consistent {
            const DOING: &str = "Recording that the target is consistent";
            let owner = owned.owner;
            let session = owned.session()?;
            session.run("start transaction", DOING).await?;
            control.set_consistent_since(session).await?;
            control.fence(session, owner).await?;
            session.run("commit", DOING).await?;
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
        let mut requests = Requests::new(owned.facts);
        if !owned.in_transaction {
            requests.session(transaction::patience(&options).as_bytes());
            requests.session(transaction::START.as_bytes());
        }
        let planned = plan::plan(&window, &Lookup { window: &window, owned }, &options, &mut requests);
        if let Err(error) = planned {
            owned.settle().await?;
            return Err(error);
        }
        owned.advance(&control, &window, &mut requests)?;
        owned.settle().await?;
        let commit = transaction::COMMIT.to_owned();
        let work = Work { requests: requests.finish(), end: window.end.clone(), commit };
        owned.in_transaction = window.end.is_none();
        if let Some(end) = &window.end {
            owned.next = Some(end.next);
        }
        let session = owned.session.take();
        let session = session.ok_or_else(|| Error::internal("The connection of the sink is gone"))?;
        owned.under_way = Some(tokio::spawn(run::run(session, work)));
        // A task spawned by a worker is the worker's own next one, which no other worker takes: without this the
        // window would leave only when the caller has prepared the one after it.
        tokio::task::yield_now().await;
        Ok(Applied::Accepted)
    }
}

fn owned(session: Session, taken: control::Taken, recorded: Vec<Recorded>) -> (Owned, Ownership) {
    let (preparing, recorded): (Vec<Recorded>, Vec<Recorded>) =
        recorded.into_iter().partition(|table| table.is_preparing);
    let tables: Vec<_> = recorded.into_iter().map(|table| table.state).collect();
    let ownership = Ownership {
        epoch: taken.owner.epoch,
        checkpoint: taken.checkpoint,
        config_digest: taken.config_digest,
        tables,
    };
    let states = ownership.tables.iter();
    let owned = Owned {
        facts: session.facts,
        session: Some(session),
        owner: taken.owner,
        next: ownership.checkpoint.as_ref().map(|c| c.mark.next),
        in_transaction: false,
        under_way: None,
        targets: states.map(|t| (t.table.clone(), (t.target.clone(), t.phase))).collect(),
        preparing: preparing.into_iter().map(|t| (t.state.table, (t.state.target, t.intent))).collect(),
        bindings: HashMap::new(),
    };
    (owned, ownership)
}

impl Owned {
    fn session(&mut self) -> Result<&mut Session> {
        self.session.as_mut().ok_or_else(|| Error::internal("A window is still under way"))
    }

    fn preparer<'a>(&'a mut self, control: &'a Control) -> Result<Preparer<'a>> {
        let owner = self.owner;
        Ok(Preparer { session: self.session()?, control, owner })
    }

    /// Waits for the window under way; its mark, if it had one.
    async fn settle(&mut self) -> Result<Option<Mark>> {
        let Some(task) = self.under_way.take() else { return Ok(None) };
        let (session, outcome) = task.await.map_err(|_| Error::internal("Applying a window was cut off"))?;
        self.session = Some(session);
        outcome
    }

    /// Between windows, outside a transaction, which whatever begins one or is DDL would commit.
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
            let found = TargetTable::read(self.session()?, &target).await?;
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

    /// Adds the compare-and-set of the checkpoint to a window that has an end.
    fn advance(&self, control: &Control, window: &Window, requests: &mut Requests) -> Result<()> {
        let Some(mark) = &window.end else { return Ok(()) };
        let previous =
            self.next.ok_or_else(|| Error::internal("A window came before the first checkpoint"))?;
        if mark.next < previous {
            return Err(Error::internal(format!(
                "A window would move the checkpoint back: {previous} to {}",
                mark.next
            )));
        }
        let to = Advance { mark, changes: window.changes, commit_us: window.commit_us };
        let sql = control.advance_sql(self.owner, previous, &to)?;
        let about = About::Checkpoint;
        requests.add(sql.as_bytes(), Check { expect: Expect::Rows(1), warnings: None, about });
        Ok(())
    }
}

/// Table, identity and index of every schema that the window's steps use.
fn used_schemas(window: &Window) -> Result<Vec<(&TableName, SchemaId, usize)>> {
    let mut out = Vec::new();
    for step in &window.steps {
        let mut last = None;
        let mut add = |schema: u32| -> Result<()> {
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
        self.owned.target_name(table).map(crate::catalog::sql_name)
    }
}

#[async_trait]
impl Sink for MySqlSink {
    async fn take_over(&mut self) -> Result<Ownership> {
        self.let_go().await;
        let (owned, ownership) = self.connect_and_take_over().await?;
        self.owned = Some(owned);
        Ok(ownership)
    }

    async fn begin(&mut self, log_id: LogId, mark: &Mark, config_digest: &str) -> Result<()> {
        let control = self.control.clone();
        let owned = self.owned()?;
        let owner = owned.owner;
        let begun = match owned.idle().await {
            Ok(()) => control.begin(owned.session()?, owner, log_id, mark, config_digest).await,
            Err(error) => Err(error),
        };
        if begun.is_ok() {
            owned.next = Some(mark.next);
        }
        self.settle(begun).await
    }

    async fn rebase(&mut self, log_id: LogId, mark: &Mark) -> Result<()> {
        let control = self.control.clone();
        let owned = self.owned()?;
        let owner = owned.owner;
        let moved = match owned.idle().await {
            Ok(()) => control.rebase(owned.session()?, owner, log_id, mark).await,
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
        let control = self.control.clone();
        let owned = self.owned()?;
        let stored = match owned.idle().await.and_then(|()| owned.target_name(table).map(drop)) {
            Ok(()) => owned.preparer(&control)?.plan_chunks(table, chunks).await,
            Err(error) => Err(error),
        };
        self.settle(stored).await
    }

    async fn restart_table(&mut self, table: &TableName) -> Result<()> {
        let control = self.control.clone();
        let owned = self.owned()?;
        let restarted = match owned.idle().await.and_then(|()| owned.target_name(table).cloned()) {
            Ok(target) => {
                let done = owned.preparer(&control)?.restart(table, &target).await;
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
                owned.session()?.run(transaction::ROLLBACK, "Abandoning a transaction").await
            }
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        self.settle(settled).await
    }
}
