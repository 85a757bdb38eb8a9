//! Making target tables, and finishing them: each table in one transaction that ends with the epoch check.
//!
//! Every step can be repeated after a crash: tables that are recorded are left alone, indexes that are there are not
//! made again.

use crate::error::{Scope, refusal, statement_error};
use crate::options::SinkOptions;
use crate::quote::{self, ident, literal};
use crate::session::Session;
use crate::sink::catalog::TargetTable;
use crate::sink::control::{self, Control, Owner};
use crate::sink::ddl::{self, IndexPlan};
use crate::sink::load::gone;
use crate::sink::objects::{self, Names};
use crate::sink::{sequences, words};
use freshet_core::sink::{PrepareMode, TablePhase, TablePlan};
use freshet_core::table::ObjectKind;
use freshet_core::{Error, Result, TableName};
use std::collections::HashSet;

/// Gives the planner back, in a transaction, what `session.rs` takes from it for windows.
const WHOLE_TABLES: &str = "set local enable_seqscan = on; set local enable_bitmapscan = on; \
     set local enable_hashjoin = on; set local enable_mergejoin = on";

/// What preparing needs; borrowed from the sink for one call.
pub(crate) struct Preparer<'a> {
    pub session: &'a Session,
    pub control: &'a Control,
    pub owner: Owner,
    pub options: &'a SinkOptions,
}

impl Preparer<'_> {
    async fn run(&self, table: &TableName, sql: &str, doing: String) -> Result<()> {
        let scope = Scope::Table(table.clone());
        self.session.client.batch_execute(sql).await.map_err(|e| statement_error(&scope, doing, &e))
    }

    async fn begin(&self, table: &TableName) -> Result<()> {
        self.run(table, "begin", format!("Preparing {table}")).await
    }

    /// The epoch check and COMMIT.
    async fn end(&self, table: &TableName) -> Result<()> {
        self.control.fence(&self.session.client, self.owner).await?;
        self.run(table, "commit", format!("Committing the preparation of {table}")).await
    }

    async fn read(&self, plan: &TablePlan) -> Result<TargetTable> {
        let target = TargetTable::read(&self.session.client, &plan.target).await?;
        target.ok_or_else(|| gone(plan.info.name(), &plan.target))
    }

    /// Refuses a table that cannot be made, before anything is. Returns whether the table is to be made.
    pub(crate) async fn refuse_unknown_words(&self, plan: &TablePlan, mode: PrepareMode) -> Result<bool> {
        let is_made = match mode {
            PrepareMode::DropAndCreate => true,
            PrepareMode::CreateIfAbsent | PrepareMode::Truncate => !self.is_there(&plan.target).await?,
            PrepareMode::Keep => false,
        };
        if is_made {
            words::refuse_missing_types(&self.session.client, plan).await?;
        }
        Ok(is_made)
    }

    /// Makes the types of the tables that are to be `made`. Returns a line for each that is there and is another one.
    pub(crate) async fn types(&self, plans: &[TablePlan], made: &[TablePlan]) -> Result<Vec<String>> {
        const DOING: &str = "Making the types of the tables";
        let client = &self.session.client;
        if plans.iter().all(|plan| words::types(plan).next().is_none()) {
            return Ok(Vec::new());
        }
        control::run(client, "begin", DOING).await?;
        for plan in made {
            words::make_types(client, plan).await?;
        }
        let lines = words::other_types(client, plans).await?;
        self.control.fence(client, self.owner).await?;
        control::run(client, "commit", DOING).await?;
        Ok(lines)
    }

    async fn is_there(&self, target: &TableName) -> Result<bool> {
        let sql = format!("select to_regclass({}) is not null", literal(&quote::table(target)));
        let row = control::one(&self.session.client, &sql, "Looking for the target table").await?;
        Ok(row.get(0))
    }

    /// Makes or checks one table and records it. Returns what is stricter on the target.
    pub(crate) async fn table(
        &self,
        plan: &TablePlan,
        plans: &[TablePlan],
        mode: PrepareMode,
    ) -> Result<Vec<String>> {
        let (name, names) = (plan.info.name(), Names::new(plans));
        self.begin(name).await?;
        if matches!(mode, PrepareMode::Truncate | PrepareMode::DropAndCreate) {
            objects::drop_references(&self.session.client, plan, plans, &names).await?;
        }
        let found = TargetTable::read(&self.session.client, &plan.target).await?;
        let lines = match (found, mode) {
            (None, PrepareMode::Keep) => {
                let text = format!("Target table {} is not there, and the mode keeps what is", plan.target);
                return Err(Error::invalid(text).with_hint("Make it, or load the table"));
            }
            (None, _) => self.create(plan, &names).await?,
            (Some(_), PrepareMode::DropAndCreate) => {
                let drop = format!("drop table {}", quote::table(&plan.target));
                self.run(name, &drop, format!("Dropping target table {}", plan.target)).await?;
                self.create(plan, &names).await?
            }
            (Some(target), PrepareMode::Truncate) => {
                self.refuse_misfit(plan, &target, false)?;
                self.empty(plan).await?;
                target.stricter(plan, self.session.replica_role)
            }
            (Some(target), PrepareMode::CreateIfAbsent) => {
                self.refuse_misfit(plan, &target, false)?;
                self.refuse_rows(plan).await?;
                target.stricter(plan, self.session.replica_role)
            }
            (Some(target), PrepareMode::Keep) => {
                self.refuse_misfit(plan, &target, true)?;
                target.stricter(plan, self.session.replica_role)
            }
        };
        let phase = if mode == PrepareMode::Keep { TablePhase::Consistent } else { TablePhase::Loading };
        self.control.add_table(&self.session.client, name, &plan.target, phase).await?;
        self.end(name).await?;
        Ok(lines)
    }

    async fn create(&self, plan: &TablePlan, names: &Names<'_>) -> Result<Vec<String>> {
        let name = plan.info.name();
        if !control::has_schema(&self.session.client, &plan.target.schema).await? {
            let sql = format!("create schema if not exists {}", ident(&plan.target.schema));
            self.run(name, &sql, format!("Creating target schema {}", plan.target.schema)).await?;
        }
        let client = &self.session.client;
        let missing = words::missing_collations(client, plan).await?;
        let mut lines = self.create_columns(plan, &missing).await?;
        lines.extend(words::add_defaults_and_comments(client, plan).await?);
        lines.extend(sequences::make(client, plan, names).await?);
        for (column, info) in plan.info.schema.columns().iter().zip(&plan.info.columns) {
            if let Some(collation) = info.collation.as_ref().filter(|name| missing.contains(*name)) {
                lines.push(format!(
                    "Collation {collation} of column {} of {name}: the target does not have it",
                    column.name
                ));
            }
        }
        if objects::of(plan).any(|object| object.kind == ObjectKind::Comment) {
            lines.extend(self.make(plan, &self.read(plan).await?, names, &[ObjectKind::Comment]).await?);
        }
        Ok(lines)
    }

    /// The table with its columns. The generated ones are made at their places, or where the target refuses one of
    /// them, those that it takes at the end.
    async fn create_columns(
        &self,
        plan: &TablePlan,
        missing_collations: &HashSet<String>,
    ) -> Result<Vec<String>> {
        let (name, client) = (plan.info.name(), &self.session.client);
        let (generated, policies) = (ddl::generated(plan), &self.options.policies);
        if !generated.is_empty() {
            let sql = ddl::create_table(plan, policies, missing_collations, generated)?;
            if objects::attempt(client, plan, &sql).await?.is_ok() {
                return Ok(Vec::new());
            }
        }
        let sql = ddl::create_table(plan, policies, missing_collations, &[])?;
        // One command, whatever the source's words hold.
        let made = client.execute(sql.as_str(), &[]).await;
        let doing = format!("Creating target table {}", plan.target);
        made.map_err(|e| statement_error(&Scope::Table(name.clone()), doing, &e))?;
        let mut lines = Vec::new();
        for column in generated {
            let declared = ddl::declare_generated(plan, column, missing_collations);
            let sql = format!("alter table {} add column {declared}", quote::table(&plan.target));
            if let Err(error) = objects::attempt(client, plan, &sql).await? {
                let why = refusal(&error).unwrap_or_default();
                let what = format!("Generated column {} of {name}", column.name);
                lines.push(format!("{what}: the target refuses it ({why}); to make it: {sql}"));
            }
        }
        Ok(lines)
    }

    async fn make(
        &self,
        plan: &TablePlan,
        target: &TargetTable,
        names: &Names<'_>,
        kinds: &[ObjectKind],
    ) -> Result<Vec<String>> {
        let replica_role = self.session.replica_role;
        objects::make(&self.session.client, plan, target, names, kinds, replica_role).await
    }

    fn refuse_misfit(&self, plan: &TablePlan, target: &TargetTable, keeps_rows: bool) -> Result<()> {
        let misfits = target.misfits(&plan.info, self.session.replica_role, keeps_rows);
        if misfits.is_empty() {
            return Ok(());
        }
        let text =
            format!("Target table {} does not fit {}: {}", plan.target, plan.info.name(), misfits.join("; "));
        Err(Error::invalid(text).with_hint("Change it, or let freshet make it (prepare: drop-and-create)"))
    }

    async fn refuse_rows(&self, plan: &TablePlan) -> Result<()> {
        let sql = format!("select exists (select 1 from {})", quote::table(&plan.target));
        let row = control::one(&self.session.client, &sql, "Looking for rows in the target table").await?;
        if !row.get::<_, bool>(0) {
            return Ok(());
        }
        Err(Error::invalid(format!("Target table {} is not empty", plan.target))
            .with_hint("Empty it, or choose prepare: truncate or drop-and-create"))
    }

    async fn empty(&self, plan: &TablePlan) -> Result<()> {
        self.empty_target(plan.info.name(), &plan.target).await
    }

    async fn empty_target(&self, table: &TableName, target: &TableName) -> Result<()> {
        let sql = format!("truncate table only {}", quote::table(target));
        let sql = if self.is_partitioned(target).await? { sql.replace("only ", "") } else { sql };
        self.run(table, &sql, format!("Emptying target table {target}")).await
    }

    async fn is_partitioned(&self, target: &TableName) -> Result<bool> {
        let sql = format!(
            "select c.relkind = 'p' from pg_class c join pg_namespace n on n.oid = c.relnamespace \
             where n.nspname = {} and c.relname = {}",
            literal(&target.schema),
            literal(&target.table)
        );
        let rows = control::query(&self.session.client, &sql, "Reading the target's catalogue").await?;
        Ok(rows.first().is_some_and(|row| row.get(0)))
    }

    /// Stores a table's chunk plan.
    pub(crate) async fn plan_chunks(
        &self,
        table: &TableName,
        chunks: &[freshet_core::table::Chunk],
    ) -> Result<()> {
        let client = &self.session.client;
        self.begin(table).await?;
        if self.control.has_chunks(client, table).await? {
            return Err(Error::internal(format!("Table {table} has a chunk plan already")));
        }
        self.control.add_chunks(client, table, chunks).await?;
        self.end(table).await
    }

    /// Empties a table and forgets its chunks.
    pub(crate) async fn restart(&self, table: &TableName, target: &TableName) -> Result<()> {
        self.begin(table).await?;
        self.empty_target(table, target).await?;
        self.control.drop_chunks(&self.session.client, table).await?;
        self.control.set_phase(&self.session.client, table, TablePhase::Loading).await?;
        self.end(table).await
    }

    /// The primary key, and the indexes that are not unique.
    pub(crate) async fn finish(&self, plan: &TablePlan, names: &Names<'_>) -> Result<Vec<String>> {
        let name = plan.info.name();
        self.begin(name).await?;
        let target = self.read(plan).await?;
        let key = crate::sink::catalog::key_names(&plan.info.schema);
        let as_on_source = objects::key(&self.session.client, plan, names).await?;
        let add_key = as_on_source.or_else(|| ddl::add_primary_key(plan));
        if let Some(sql) = add_key.filter(|_| !key.is_empty() && target.unique_over(&key).is_none()) {
            self.run(name, &sql, format!("Making the primary key of {}", plan.target)).await?;
        }
        for index in ddl::indexes(plan).0.iter().filter(|i| !i.unique) {
            self.index(plan, &target, index).await?;
        }
        let lines = self.make(plan, &target, names, &[ObjectKind::Index]).await?;
        self.control.set_phase(&self.session.client, name, TablePhase::CatchingUp).await?;
        self.end(name).await?;
        Ok(lines)
    }

    /// Unique indexes, conditions on rows and identities' next values.
    pub(crate) async fn make_consistent(&self, plan: &TablePlan, names: &Names<'_>) -> Result<Vec<String>> {
        let name = plan.info.name();
        self.begin(name).await?;
        let target = self.read(plan).await?;
        for index in ddl::indexes(plan).0.iter().filter(|i| i.unique) {
            self.index(plan, &target, index).await?;
        }
        for (i, column) in plan.info.schema.columns().iter().enumerate() {
            if ddl::is_identity(plan, i) && sequences::of_column(plan, i).is_none() {
                self.set_next(plan, &column.name, ddl::next_value(plan, i)).await?;
            }
        }
        let kinds = [ObjectKind::Unique, ObjectKind::Exclusion, ObjectKind::Check];
        let mut lines = self.make(plan, &target, names, &kinds).await?;
        lines.extend(sequences::set_values(&self.session.client, plan, names).await?);
        self.control.set_phase(&self.session.client, name, TablePhase::Consistent).await?;
        self.end(name).await?;
        Ok(lines)
    }

    /// Foreign keys, and the moment from which on all tables are consistent.
    pub(crate) async fn all_consistent(&self, plans: &[TablePlan], names: &Names<'_>) -> Result<Vec<String>> {
        const DOING: &str = "Recording that the target is consistent";
        let (client, mut lines) = (&self.session.client, Vec::new());
        let is_known = self.control.is_consistent(client).await?;
        control::run(client, "begin", DOING).await?;
        // A foreign key is looked at by one join of two whole tables.
        control::run(client, WHOLE_TABLES, DOING).await?;
        let refers = |plan: &&TablePlan| objects::of(plan).any(|o| o.kind == ObjectKind::ForeignKey);
        for plan in plans.iter().filter(refers).filter(|_| !is_known) {
            let target = self.read(plan).await?;
            lines.extend(self.make(plan, &target, names, &[ObjectKind::ForeignKey]).await?);
        }
        self.control.set_consistent_since(client).await?;
        self.control.fence(client, self.owner).await?;
        control::run(client, "commit", DOING).await?;
        Ok(lines)
    }

    async fn index(&self, plan: &TablePlan, target: &TargetTable, index: &IndexPlan) -> Result<()> {
        if target.indexes.iter().any(|i| i.name == index.name) {
            return Ok(());
        }
        self.run(plan.info.name(), &index.sql, format!("Making index {} of {}", index.name, plan.target))
            .await
    }

    /// The next value of a column's sequence: what the source would give, or one past the largest; a table that was
    /// there before may have none.
    async fn set_next(&self, plan: &TablePlan, column: &str, next: u64) -> Result<()> {
        let table = quote::table(&plan.target);
        let (name, column_name) = (literal(&table), literal(column));
        let sql = format!(
            "select setval(s.oid, least(greatest({}, m.largest + 1, q.seqmin), q.seqmax)::int8, \
               greatest({}, m.largest + 1) > q.seqmax) \
             from (select to_regclass(pg_get_serial_sequence({name}, {column_name})) as oid) s \
             join pg_sequence q on q.seqrelid = s.oid, \
             (select coalesce(max({}), 0)::numeric as largest from {table}) m",
            next,
            next,
            ident(column)
        );
        self.run(plan.info.name(), &sql, format!("Setting the next value of {column} of {}", plan.target))
            .await
    }
}
