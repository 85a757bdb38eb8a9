//! Making target tables, and finishing them, by DDL that commits by itself.
//!
//! Every such statement is preceded by an intent that is committed, with the epoch check, in the control tables, and
//! followed by a look at what stands there; the phase and the end of the intent commit together. So at every moment of a
//! crash the next owner knows what was about to happen, and does it again: dropping, emptying and making indexes are the
//! same done twice, and a table that an intent to make finds is taken if it is as it would be made, and empty. Nobody else
//! runs DDL at the same time: only the session that took over does, and a take-over first ends it and waits until it is
//! gone (`control.rs`).

use crate::catalog::{charset_of, sql_ident, sql_name, sql_string};
use crate::sink::catalog::{Fit, TargetTable};
use crate::sink::control::{Control, Intent, Owner};
use crate::sink::ddl::{self, IndexPlan};
use crate::sink::error::{Scope, is_refusal, refusal, statement_error};
use crate::sink::load::gone;
use crate::sink::printed::{self, Names};
use crate::sink::privileges::{HIDDEN_TRIGGERS, sees_triggers};
use crate::sink::session::Session;
use freshet_core::sink::{PrepareMode, TablePhase, TablePlan};
use freshet_core::table::Chunk;
use freshet_core::{Error, Result, TableName};
use std::collections::HashSet;

/// What preparing needs; borrowed from the sink for one call.
pub(crate) struct Preparer<'a> {
    pub session: &'a mut Session,
    pub control: &'a Control,
    pub owner: Owner,
}

impl Preparer<'_> {
    async fn run(&mut self, table: &TableName, sql: &str, doing: String) -> Result<()> {
        let scope = Scope::Table(table.clone());
        let done = self.session.connection.exec(sql).await;
        done.map(drop).map_err(|e| statement_error(&scope, doing, e))
    }

    /// Runs a statement that the target may refuse; why it did.
    async fn attempt(&mut self, table: &TableName, sql: &str, doing: String) -> Result<Option<String>> {
        match self.session.connection.exec(sql).await {
            Ok(_) => Ok(None),
            Err(error) if is_refusal(&error) => Ok(Some(refusal(&error))),
            Err(error) => Err(statement_error(&Scope::Table(table.clone()), doing, error)),
        }
    }

    async fn begin(&mut self, table: &TableName) -> Result<()> {
        self.run(table, "start transaction", format!("Preparing {table}")).await
    }

    /// The epoch check and COMMIT.
    async fn end(&mut self, table: &TableName) -> Result<()> {
        self.control.fence(self.session, self.owner).await?;
        self.run(table, "commit", format!("Committing the preparation of {table}")).await
    }

    async fn read(&mut self, plan: &TablePlan) -> Result<TargetTable> {
        let target = TargetTable::read(self.session, &plan.target).await?;
        target.ok_or_else(|| gone(plan.info.name(), &plan.target))
    }

    /// Makes or checks one table and records it. Returns what is stricter on the target. `begun` is what an earlier
    /// preparation of the table was about to do.
    pub(crate) async fn table(
        &mut self,
        plan: &TablePlan,
        mode: PrepareMode,
        begun: Option<Intent>,
        names: &Names<'_>,
    ) -> Result<Vec<String>> {
        self.refuse_folded_name(plan)?;
        let (intent, mut lines) = match begun {
            Some(intent) => (Some(intent), Vec::new()),
            None => self.decide(plan, mode).await?,
        };
        if let Some(intent) = intent {
            lines.extend(self.carry_out(plan, intent, names).await?);
        }
        Ok(lines)
    }

    /// A server that folds names to lower case would make another table than the one that is asked for (D13).
    fn refuse_folded_name(&self, plan: &TablePlan) -> Result<()> {
        let folds = self.session.server.variable("lower_case_table_names").is_some_and(|v| v != "0");
        let TableName { schema, table } = &plan.target;
        if folds && [schema, table].into_iter().any(|name| name.to_lowercase() != *name) {
            let text = format!("Target table {}: the server folds names to lower case", plan.target);
            return Err(Error::invalid(text).with_hint("Map it to a name in lower case"));
        }
        Ok(())
    }

    /// Looks at what is there, and records what is to be done, or that nothing is.
    async fn decide(&mut self, plan: &TablePlan, mode: PrepareMode) -> Result<(Option<Intent>, Vec<String>)> {
        let is_there = TargetTable::is_there(self.session, &plan.target).await?;
        if is_there && mode != PrepareMode::DropAndCreate {
            self.refuse_hidden_triggers(plan).await?;
        }
        let (phase, intent, lines) = match (is_there, mode) {
            (false, PrepareMode::Keep) => {
                let text = format!("Target table {} is not there, and the mode keeps what is", plan.target);
                return Err(Error::invalid(text).with_hint("Make it, or load the table"));
            }
            (false, _) => (None, Some(Intent::Create), Vec::new()),
            (true, PrepareMode::DropAndCreate) => (None, Some(Intent::Drop), Vec::new()),
            (true, PrepareMode::Truncate) => {
                (None, Some(Intent::Empty), self.fitting(plan, Fit::Given { keeps_rows: false }).await?)
            }
            (true, PrepareMode::CreateIfAbsent) => {
                let lines = self.fitting(plan, Fit::Given { keeps_rows: false }).await?;
                self.refuse_rows(plan).await?;
                (Some(TablePhase::Loading), None, lines)
            }
            (true, PrepareMode::Keep) => (
                Some(TablePhase::Consistent),
                None,
                self.fitting(plan, Fit::Given { keeps_rows: true }).await?,
            ),
        };
        let name = plan.info.name();
        self.begin(name).await?;
        self.control.add_table(self.session, name, &plan.target, phase, intent).await?;
        self.end(name).await?;
        Ok((intent, lines))
    }

    async fn carry_out(
        &mut self,
        plan: &TablePlan,
        intent: Intent,
        names: &Names<'_>,
    ) -> Result<Vec<String>> {
        let (name, target) = (plan.info.name(), sql_name(&plan.target));
        let mut lines = Vec::new();
        match intent {
            Intent::Drop => {
                let sql = format!("drop table if exists {target}");
                self.run(name, &sql, format!("Dropping target table {}", plan.target)).await?;
                self.begin(name).await?;
                self.control.set_intent(self.session, name, Some(Intent::Create)).await?;
                self.end(name).await?;
                lines = self.create(plan, names).await?;
            }
            Intent::Create => lines = self.create(plan, names).await?,
            Intent::Empty => self.empty(name, &plan.target).await?,
            Intent::Index => return Err(Error::internal(format!("Table {name} is not there to be indexed"))),
        }
        self.begin(name).await?;
        self.control.set_phase(self.session, name, TablePhase::Loading, None).await?;
        self.end(name).await?;
        Ok(lines)
    }

    async fn empty(&mut self, table: &TableName, target: &TableName) -> Result<()> {
        let sql = format!("truncate table {}", sql_name(target));
        self.run(table, &sql, format!("Emptying target table {target}")).await
    }

    /// Makes the table, unless an earlier attempt got that far, and looks whether it is what it should be.
    async fn create(&mut self, plan: &TablePlan, names: &Names<'_>) -> Result<Vec<String>> {
        let mut lines = Vec::new();
        if TargetTable::is_there(self.session, &plan.target).await? {
            self.refuse_hidden_triggers(plan).await?;
        } else {
            self.create_database(plan).await?;
            lines = self.create_table(plan, names).await?;
        }
        self.fitting(plan, Fit::Made).await?;
        self.refuse_rows(plan).await?;
        Ok(lines)
    }

    async fn create_database(&mut self, plan: &TablePlan) -> Result<()> {
        let schema = &plan.target.schema;
        let there =
            format!("select 1 from information_schema.schemata where schema_name = {}", sql_string(schema));
        if !self.session.query(&there, "Looking for the target database").await?.is_empty() {
            return Ok(());
        }
        let sql = format!("create database if not exists {} character set utf8mb4", sql_ident(schema));
        self.run(plan.info.name(), &sql, format!("Creating target database {schema}")).await
    }

    /// In the source's own words as far as the target takes them, and else in words that both products have.
    async fn create_table(&mut self, plan: &TablePlan, names: &Names<'_>) -> Result<Vec<String>> {
        let (name, facts) = (plan.info.name(), self.session.facts);
        let missing = self.missing_collations(plan).await?;
        let mut lines: Vec<String> = missing.iter().map(|name| missing_collation(plan, name)).collect();
        let doing = || format!("Creating target table {}", plan.target);
        let mut refused = None;
        if let Some(own) = printed::of(plan, facts) {
            for way in printed::ways(plan, own) {
                let sql = printed::create_table(plan, own, facts, &missing, way)?;
                let why = self.attempt(name, &sql, doing()).await?;
                if why.is_none() {
                    lines.extend(printed::left_out(plan, way, refused.as_deref().unwrap_or_default(), names));
                    return Ok(lines);
                }
                refused = refused.or(why);
            }
            let why = refused.take().unwrap_or_default();
            lines.push(format!(
                "Definition of {name} in the source's words, with checks and expressions: {why}"
            ));
        }
        for (with_defaults, with_attributes) in [(true, true), (true, false)] {
            let sql = ddl::create_table(plan, facts, &missing, with_defaults, with_attributes)?;
            let Some(why) = self.attempt(name, &sql, doing()).await? else {
                lines.extend(refused.map(|why| format!("Attributes and options of {name}: {why}")));
                return Ok(lines);
            };
            refused = refused.or(Some(why));
        }
        let sql = ddl::create_table(plan, facts, &missing, false, false)?;
        self.run(name, &sql, doing()).await?;
        lines.push(format!("Defaults, attributes and options of {name}: {}", refused.unwrap_or_default()));
        Ok(lines)
    }

    /// The collations of the source that this server does not know.
    async fn missing_collations(&mut self, plan: &TablePlan) -> Result<HashSet<String>> {
        const UNKNOWN: [u16; 3] = [1115, 1273, 1253];
        let mut missing = HashSet::new();
        for name in ddl::collations(plan) {
            if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
                missing.insert(name.to_owned());
                continue;
            }
            let sql = format!("select convert('' using {}) collate {name}", charset_of(name));
            match self.session.connection.query(&sql).await {
                Ok(_) => {}
                Err(e) if e.server_code().is_some_and(|code| UNKNOWN.contains(&code)) => {
                    missing.insert(name.to_owned());
                }
                Err(e) => return Err(statement_error(&Scope::Session, "Looking for a collation", e)),
            }
        }
        Ok(missing)
    }

    /// What is stricter on the target; a table that does not fit is refused.
    async fn fitting(&mut self, plan: &TablePlan, fit: Fit) -> Result<Vec<String>> {
        let target = self.read(plan).await?;
        let misfits = target.misfits(&plan.info, fit);
        if misfits.is_empty() {
            return Ok(target.stricter(plan));
        }
        let text =
            format!("Target table {} does not fit {}: {}", plan.target, plan.info.name(), misfits.join("; "));
        Err(Error::invalid(text).with_hint("Change it, or let freshet make it (prepare: drop-and-create)"))
    }

    /// A table that may be somebody else's has triggers that we are shown, or none (R16).
    async fn refuse_hidden_triggers(&mut self, plan: &TablePlan) -> Result<()> {
        if sees_triggers(self.session, &plan.target).await? {
            return Ok(());
        }
        let text = format!("Target table {} may have triggers that this account is not shown", plan.target);
        Err(Error::invalid(text).with_hint(HIDDEN_TRIGGERS))
    }

    async fn refuse_rows(&mut self, plan: &TablePlan) -> Result<()> {
        if self.is_empty(&plan.target).await? {
            return Ok(());
        }
        let text = format!("Target table {} has rows already", plan.target);
        Err(Error::invalid(text)
            .with_hint("Empty it, or set prepare: truncate, prepare: drop-and-create or mode: stream"))
    }

    async fn is_empty(&mut self, target: &TableName) -> Result<bool> {
        let sql = format!("select 1 from {} limit 1", sql_name(target));
        Ok(self.session.query(&sql, "Looking for rows in the target table").await?.is_empty())
    }

    /// Stores a table's chunk plan.
    pub(crate) async fn plan_chunks(&mut self, table: &TableName, chunks: &[Chunk]) -> Result<()> {
        self.begin(table).await?;
        if self.control.has_chunks(self.session, table).await? {
            return Err(Error::internal(format!("Table {table} has a chunk plan already")));
        }
        self.control.add_chunks(self.session, table, chunks).await?;
        self.end(table).await
    }

    /// Forgets the chunks of a table, and then empties it: from the first commit on it counts as having none.
    pub(crate) async fn restart(&mut self, table: &TableName, target: &TableName) -> Result<()> {
        self.begin(table).await?;
        self.control.drop_chunks(self.session, table).await?;
        self.control.set_phase(self.session, table, TablePhase::Loading, Some(Intent::Empty)).await?;
        self.end(table).await?;
        self.finish_restart(table, target).await
    }

    /// The rest of a restart, also for one that a crash cut off.
    pub(crate) async fn finish_restart(&mut self, table: &TableName, target: &TableName) -> Result<()> {
        self.empty(table, target).await?;
        self.begin(table).await?;
        self.control.set_intent(self.session, table, None).await?;
        self.end(table).await
    }

    /// Unique indexes and the next value.
    pub(crate) async fn complete(&mut self, plan: &TablePlan) -> Result<Vec<String>> {
        let lines = self.index(plan, true).await?;
        let has_next = (0..plan.info.columns.len()).any(|at| ddl::is_auto_increment(plan, at));
        if let Some(next) = plan.info.next_value.filter(|_| has_next) {
            // The server takes the largest that is there instead, if that is larger.
            let sql = format!("alter table {} auto_increment = {next}", sql_name(&plan.target));
            self.run(plan.info.name(), &sql, format!("Setting the next value of {}", plan.target)).await?;
        }
        Ok(lines)
    }

    /// Records that a table is that far, and that nothing is about to be done to it.
    pub(crate) async fn move_to(&mut self, plan: &TablePlan, phase: TablePhase) -> Result<()> {
        let name = plan.info.name();
        self.begin(name).await?;
        self.control.set_phase(self.session, name, phase, None).await?;
        self.end(name).await
    }

    /// Records that the table's definition is about to be completed.
    async fn intend(&mut self, name: &TableName) -> Result<()> {
        self.begin(name).await?;
        self.control.set_intent(self.session, name, Some(Intent::Index)).await?;
        self.end(name).await
    }

    /// Makes the indexes that are not there yet, all in one pass over the table, and looks whether they are. What the
    /// target refuses is told, but for rows that a unique index of the source cannot have had.
    pub(crate) async fn index(&mut self, plan: &TablePlan, unique: bool) -> Result<Vec<String>> {
        let name = plan.info.name();
        let planned = ddl::indexes(plan, self.session.facts).0.into_iter();
        let mut planned: Vec<IndexPlan> = planned.filter(|index| index.unique == unique).collect();
        let missing: Vec<IndexPlan> =
            self.missing_indexes(plan, &planned).await?.into_iter().cloned().collect();
        if missing.is_empty() {
            return Ok(Vec::new());
        }
        self.intend(name).await?;
        // InnoDB makes one full-text index at a time.
        let is_full_text = |index: &IndexPlan| index.sql.to_ascii_lowercase().starts_with("fulltext");
        let (full_text, ordinary): (Vec<IndexPlan>, Vec<IndexPlan>) =
            missing.into_iter().partition(is_full_text);
        let mut lines = Vec::new();
        for group in [ordinary].into_iter().chain(full_text.into_iter().map(|index| vec![index])) {
            lines.extend(self.index_group(plan, group, &mut planned).await?);
        }
        match self.missing_indexes(plan, &planned).await?.first() {
            None => Ok(lines),
            Some(index) => {
                Err(Error::internal(format!("Index {} of {name} was made and is not there", index.name)))
            }
        }
    }

    /// Makes these in one statement, or one by one if the target refuses that; what it refuses is taken out of `planned`.
    async fn index_group(
        &mut self,
        plan: &TablePlan,
        group: Vec<IndexPlan>,
        planned: &mut Vec<IndexPlan>,
    ) -> Result<Vec<String>> {
        let name = plan.info.name();
        let mut lines = Vec::new();
        let mut tries = vec![group];
        while let Some(group) = tries.pop().filter(|group| !group.is_empty()) {
            let adds: Vec<String> = group.iter().map(|index| format!("add {}", index.sql)).collect();
            let sql = format!("alter table {} {}", sql_name(&plan.target), adds.join(", "));
            let names: Vec<&str> = group.iter().map(|index| index.name.as_str()).collect();
            let doing = format!("Making index {} of {}", names.join(", "), plan.target);
            match self.attempt(name, &sql, doing).await? {
                None => {}
                Some(_) if group.len() > 1 => tries.extend(group.into_iter().rev().map(|index| vec![index])),
                Some(why) => {
                    lines.extend(
                        names
                            .iter()
                            .map(|index| format!("Index {index} of {name}: {why}; to make it: {sql}")),
                    );
                    planned.retain(|index| !group.contains(index));
                }
            }
        }
        Ok(lines)
    }

    /// Makes the foreign keys that are not there yet, and looks whether they are. The session checks none of them: they
    /// hold on the source.
    pub(crate) async fn reference(&mut self, plan: &TablePlan, names: &Names<'_>) -> Result<Vec<String>> {
        let name = plan.info.name();
        let mut wanted: Vec<(&str, String)> = printed::references(plan)
            .filter_map(|object| Some((object.name.as_str(), printed::statement(object, names).ok()?)))
            .collect();
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let target = self.read(plan).await?;
        wanted.retain(|(key, _)| !target.has_reference(key));
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        self.intend(name).await?;
        let (mut lines, mut made) = (Vec::new(), Vec::new());
        for (key, sql) in wanted {
            let doing = format!("Making foreign key {key} of {}", plan.target);
            match self.attempt(name, &sql, doing).await? {
                None => made.push(key),
                Some(why) => lines.push(format!("Foreign key {key} of {name}: {why}; to make it: {sql}")),
            }
        }
        let target = self.read(plan).await?;
        match made.into_iter().find(|key| !target.has_reference(key)) {
            None => Ok(lines),
            Some(key) => {
                Err(Error::internal(format!("Foreign key {key} of {name} was made and is not there")))
            }
        }
    }

    async fn missing_indexes<'i>(
        &mut self,
        plan: &TablePlan,
        planned: &'i [IndexPlan],
    ) -> Result<Vec<&'i IndexPlan>> {
        if planned.is_empty() {
            return Ok(Vec::new());
        }
        let target = self.read(plan).await?;
        let has = |index: &&IndexPlan| {
            target
                .info
                .indexes
                .iter()
                .any(|i| i.unique == index.unique && ddl::is_same_name(&i.name, &index.name))
        };
        Ok(planned.iter().filter(|index| !has(index)).collect())
    }
}

fn missing_collation(plan: &TablePlan, name: &str) -> String {
    let columns = plan.info.schema.columns().iter().zip(&plan.info.columns);
    let of: Vec<&str> = columns
        .filter(|(_, info)| info.collation.as_deref() == Some(name))
        .map(|(column, _)| column.name.as_str())
        .collect();
    format!(
        "Collation {name} of {} ({}): the target does not have it, they are compared by bytes",
        plan.info.name(),
        of.join(", ")
    )
}
