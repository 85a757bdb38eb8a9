//! A plan's SQL, for the source's own client.
//!
//! Tables and columns that a smaller round leaves out are left out here.

use std::fmt::Write as _;

use super::plan::{Column, Identity, Op, Plan, Row, Script, Table, Transaction, Which};
use super::types::{Direction, Server};

/// A name, quoted.
pub(crate) fn name(server: Server, name: &str) -> String {
    match server {
        Server::Postgres => format!("\"{}\"", name.replace('"', "\"\"")),
        Server::MariaDb | Server::MySql => format!("`{}`", name.replace('`', "``")),
    }
}

/// What every session of a source begins with.
pub(crate) fn session(direction: Direction) -> String {
    let recursion = match direction.from {
        Server::Postgres => {
            return "reset role; set deadlock_timeout = '50ms'; set lock_timeout = '2s'; set role freshet; \
                    set timezone = 'UTC'; set client_min_messages = 'error';\n"
                .to_owned();
        }
        Server::MariaDb => "max_recursive_iterations",
        Server::MySql => "cte_max_recursion_depth",
    };
    // PostgreSQL has no zero dates, which a lenient session makes of what is no date.
    let mode = match direction.to {
        Server::Postgres => "STRICT_ALL_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE",
        Server::MariaDb | Server::MySql => "ALLOW_INVALID_DATES",
    };
    format!(
        "set sql_mode = '{mode},NO_AUTO_VALUE_ON_ZERO', time_zone = '+00:00', innodb_lock_wait_timeout = 1, \
         lock_wait_timeout = 2, {recursion} = 100000;\n"
    )
}

/// In PL/pgSQL: there is no such row, and that is all.
const NONE: &str = "if not found then return; end if;";

/// Writes SQL for one plan.
pub(crate) struct Sql<'a> {
    plan: &'a Plan,
    server: Server,
}

impl<'a> Sql<'a> {
    pub(crate) fn new(plan: &'a Plan) -> Self {
        Self { plan, server: plan.direction.from }
    }

    fn name(&self, text: &str) -> String {
        name(self.server, text)
    }

    fn columns(&self, table: &Table, of: &[usize]) -> String {
        of.iter().map(|column| self.name(&table.columns[*column].name)).collect::<Vec<_>>().join(", ")
    }

    /// The tables, empty.
    pub(crate) fn definitions(&self) -> String {
        self.plan.tables.iter().filter(|table| table.keep).map(|table| self.definition(table)).collect()
    }

    fn definition(&self, table: &Table) -> String {
        let mut parts: Vec<String> =
            table.columns.iter().filter(|column| column.keep).map(|column| self.column(column)).collect();
        if !table.key.is_empty() {
            parts.push(format!("primary key ({})", self.columns(table, &table.key)));
        }
        for unique in &table.uniques {
            let columns = self.columns(table, &unique.columns);
            match unique.constraint {
                Some(words) => parts.push(format!("unique ({columns}) {words}")),
                None if self.server.is_my() => parts.push(format!("unique key ({columns})")),
                None => {}
            }
        }
        if let Some((parent, words)) = table.reference
            && self.plan.tables[parent].keep
            && table.columns.last().is_some_and(|column| column.keep)
        {
            let parent = self.name(&self.plan.tables[parent].name);
            parts.push(format!("foreign key (ref) references {parent} (rid) {words}"));
        }
        if self.server.is_my() && table.key.first() != Some(&0) {
            parts.push("key (rid)".into());
        }
        let (name, end) =
            (self.name(&table.name), if self.server.is_my() { " character set utf8mb4" } else { "" });
        let mut sql = format!("create table {name} ({}){end};\n", parts.join(", "));
        if self.server == Server::Postgres {
            self.more(table, &name, &mut sql);
        }
        sql
    }

    fn column(&self, column: &Column) -> String {
        let null = if column.not_null && !column.ty.ddl.contains("not null") { " not null" } else { "" };
        let (before, after) = if column.is_generated { (column.more, "") } else { (null, column.more) };
        format!("{} {}{before}{after}", self.name(&column.name), column.ty.ddl)
    }

    /// Indexes, storage and the replica identity of PostgreSQL.
    fn more(&self, table: &Table, name: &str, sql: &mut String) {
        if table.key.first() != Some(&0) {
            writeln!(sql, "create index on {name} (rid);").unwrap();
        }
        let number = self.plan.tables.iter().position(|other| other.name == table.name).unwrap();
        for (i, unique) in table.uniques.iter().enumerate() {
            let columns = self.columns(table, &unique.columns);
            match unique.constraint {
                None => writeln!(sql, "create unique index u{number}_{i} on {name} ({columns});").unwrap(),
                Some(_) if table.identity == Identity::Unique(i) => {
                    writeln!(sql, "create unique index u{number}_{i} on {name} ({columns});").unwrap();
                }
                Some(_) => {}
            }
        }
        for column in table.columns.iter().filter(|column| column.keep && column.name.len() % 2 == 0) {
            if ["text", "bytea", "json"].contains(&column.ty.ddl) {
                writeln!(sql, "alter table {name} alter {} set storage external;", self.name(&column.name))
                    .unwrap();
            }
        }
        match table.identity {
            Identity::Default => {}
            Identity::Full => writeln!(sql, "alter table {name} replica identity full;").unwrap(),
            Identity::Unique(i) => {
                writeln!(sql, "alter table {name} replica identity using index u{number}_{i};").unwrap();
            }
        }
    }

    /// What stands in the tables before anybody looks.
    pub(crate) fn rows(&self) -> String {
        let mut sql = session(self.plan.direction);
        for (number, table) in self.plan.tables.iter().enumerate() {
            for rows in table.rows.chunks(500) {
                sql += "begin;\n";
                for row in rows {
                    self.insert(number, std::slice::from_ref(row), &mut sql);
                }
                sql += "commit;\n";
            }
        }
        sql
    }

    /// One writer's work.
    pub(crate) fn script(&self, script: &Script) -> String {
        let mut sql = session(self.plan.direction);
        match self.server {
            Server::Postgres => {
                writeln!(
                    sql,
                    "set session characteristics as transaction isolation level {};",
                    script.isolation
                )
                .unwrap();
                if script.savepoints {
                    sql += "\\set ON_ERROR_ROLLBACK on\n";
                }
            }
            Server::MariaDb | Server::MySql => {
                writeln!(sql, "set session transaction isolation level {};", script.isolation).unwrap();
            }
        }
        for transaction in &script.transactions {
            self.transaction(transaction, &mut sql);
        }
        sql
    }

    fn transaction(&self, transaction: &Transaction, sql: &mut String) {
        sql.push_str("begin;\n");
        for op in &transaction.ops {
            self.op(op, 0, sql);
        }
        sql.push_str(if transaction.rolls_back { "rollback;\n" } else { "commit;\n" });
        if transaction.pause_ms > 0 {
            self.pause(transaction.pause_ms, sql);
        }
    }

    fn pause(&self, ms: u32, sql: &mut String) {
        let seconds = f64::from(ms) / 1_000.0;
        match self.server {
            Server::Postgres => writeln!(sql, "select pg_sleep({seconds});").unwrap(),
            Server::MariaDb | Server::MySql => writeln!(sql, "do sleep({seconds});").unwrap(),
        }
    }

    /// The columns that are inserted, but `rid`.
    fn given(&self, table: &Table) -> Vec<usize> {
        (1..table.columns.len())
            .filter(|at| table.columns[*at].keep && !table.columns[*at].is_generated)
            .collect()
    }

    fn insert(&self, table: usize, rows: &[Row], sql: &mut String) {
        let table = &self.plan.tables[table];
        if !table.keep {
            return;
        }
        let given = self.given(table);
        let tuple = |row: &Row| {
            let values = given.iter().map(|at| row.values[at - 1].as_str());
            let values: Vec<&str> = values.collect();
            format!("({}{}{})", row.rid, if values.is_empty() { "" } else { ", " }, values.join(", "))
        };
        let rows: Vec<String> = rows.iter().map(tuple).collect();
        let mut all = vec![0];
        all.extend(&given);
        let (name, columns) = (self.name(&table.name), self.columns(table, &all));
        writeln!(sql, "insert into {name} ({columns}) values {};", rows.join(", ")).unwrap();
    }

    fn place(&self, table: &Table, which: &Which) -> String {
        match which {
            Which::Rids(rids) => {
                let rids: Vec<String> = rids.iter().map(i64::to_string).collect();
                format!("rid in ({})", rids.join(", "))
            }
            Which::One(rid) if self.server == Server::Postgres => {
                format!("ctid = (select ctid from {} where rid = {rid} limit 1)", self.name(&table.name))
            }
            Which::One(rid) => format!("rid = {rid} limit 1"),
            Which::Every(of, rest) => format!("rid % {of} = {rest}"),
            Which::Between(from, to) => format!("rid between {from} and {to}"),
        }
    }

    fn assignments(&self, table: &Table, sets: &[(usize, String)]) -> Vec<String> {
        let kept = sets.iter().filter(|(column, _)| table.columns[*column].keep);
        kept.map(|(column, literal)| format!("{} = {literal}", self.name(&table.columns[*column].name)))
            .collect()
    }

    fn update(&self, table: &Table, assignments: &[String], place: &str, sql: &mut String) {
        if !assignments.is_empty() {
            writeln!(sql, "update {} set {} where {place};", self.name(&table.name), assignments.join(", "))
                .unwrap();
        }
    }

    fn op(&self, op: &Op, depth: usize, sql: &mut String) {
        let tables = &self.plan.tables;
        match op {
            Op::Pause { ms } => self.pause(*ms, sql),
            Op::Savepoint { ops, rolls_back } => {
                writeln!(sql, "savepoint s{depth};").unwrap();
                for op in ops {
                    self.op(op, depth + 1, sql);
                }
                let end = if *rolls_back { "rollback to" } else { "release" };
                writeln!(sql, "{end} savepoint s{depth};").unwrap();
            }
            Op::Insert { table, rows } => self.insert(*table, rows, sql),
            Op::Update { table, which, sets } => {
                let table = &tables[*table];
                if table.keep {
                    self.update(table, &self.assignments(table, sets), &self.place(table, which), sql);
                }
            }
            Op::Same { table, which, columns, sets } => self.same(&tables[*table], which, columns, sets, sql),
            Op::Delete { table, which } if tables[*table].keep => {
                let table = &tables[*table];
                writeln!(sql, "delete from {} where {};", self.name(&table.name), self.place(table, which))
                    .unwrap();
            }
            Op::Truncate { table } if tables[*table].keep => {
                let end = if self.server.is_my() { "" } else { " cascade" };
                writeln!(sql, "truncate table {}{end};", self.name(&tables[*table].name)).unwrap();
            }
            Op::Swap { table, a, b, meanwhile } => self.swap(&tables[*table], *a, *b, meanwhile, sql),
            Op::Again { table, rid, sets } => self.again(&tables[*table], *rid, sets, sql),
            Op::Rewrite { table, which, column, how } => {
                self.rewrite(&tables[*table], which, *column, how, sql)
            }
            Op::Shift { table, from, to } if tables[*table].keep => {
                let name = self.name(&tables[*table].name);
                writeln!(
                    sql,
                    "update {name} set rid = -rid where rid between {from} and {to}; update {name} set rid = \
                     case when rid = -({to}) then {from} else 1 - rid end where rid between -({to}) and -({from});"
                )
                .unwrap();
            }
            Op::Upsert { table, row, sets, replaces } => self.upsert(*table, row, sets, *replaces, sql),
            Op::Many { table, rid, count, values } => self.many(&tables[*table], *rid, *count, values, sql),
            Op::Delete { .. } | Op::Truncate { .. } | Op::Shift { .. } => {}
        }
    }

    fn rewrite(&self, table: &Table, which: &Which, column: usize, how: &str, sql: &mut String) {
        let column = &table.columns[column];
        if table.keep && column.keep {
            let name = self.name(&column.name);
            let assignment = format!("{name} = {}", how.replace("{c}", &name));
            self.update(table, &[assignment], &self.place(table, which), sql);
        }
    }

    fn same(
        &self,
        table: &Table,
        which: &Which,
        columns: &[usize],
        sets: &[(usize, String)],
        sql: &mut String,
    ) {
        if !table.keep {
            return;
        }
        let mut assignments = self.assignments(table, sets);
        for column in columns.iter().filter(|column| sets.iter().all(|(set, _)| set != *column)) {
            if table.columns[*column].keep {
                let name = self.name(&table.columns[*column].name);
                assignments.push(format!("{name} = {name}"));
            }
        }
        self.update(table, &assignments, &self.place(table, which), sql);
    }

    fn swap(&self, table: &Table, a: i64, b: i64, meanwhile: &[(usize, String)], sql: &mut String) {
        if !table.keep || meanwhile.is_empty() || a == b {
            return;
        }
        let columns: Vec<String> =
            meanwhile.iter().map(|(at, _)| self.name(&table.columns[*at].name)).collect();
        let (name, list) = (self.name(&table.name), columns.join(", "));
        let aside = self.assignments(table, meanwhile).join(", ");
        let take = |row: &str| -> String {
            let parts = columns.iter().enumerate().map(|(i, column)| match self.server {
                Server::Postgres => format!("{column} = {row}.{column}"),
                Server::MariaDb | Server::MySql => format!("{column} = @{row}{i}"),
            });
            parts.collect::<Vec<_>>().join(", ")
        };
        let (from_a, from_b) = (take("a"), take("b"));
        let is_deferred = table.uniques.iter().any(|unique| {
            unique.constraint.is_some_and(|words| words.contains("deferred"))
                && unique.columns.iter().eq(meanwhile.iter().map(|(column, _)| column))
        });
        let aside =
            if is_deferred { String::new() } else { format!("update {name} set {aside} where rid = {a};") };
        let updates = format!(
            "{aside} update {name} set {from_a} where rid = {b}; update {name} set {from_b} where rid = {a};"
        );
        if self.server == Server::Postgres {
            let select =
                |row: &str, rid| format!("select * into {row} from {name} where rid = {rid} limit 1; {NONE}");
            let (a, b) = (select("a", a), select("b", b));
            writeln!(sql, "do $do$ declare a record; b record; begin {a} {b} {updates} end $do$;").unwrap();
        } else {
            for (row, rid) in [("a", a), ("b", b)] {
                let variables: Vec<String> = (0..columns.len()).map(|i| format!("@{row}{i}")).collect();
                let clear: Vec<String> =
                    variables.iter().map(|variable| format!("{variable} = null")).collect();
                writeln!(
                    sql,
                    "set {}; select {list} from {name} where rid = {rid} limit 1 into {};",
                    clear.join(", "),
                    variables.join(", ")
                )
                .unwrap();
            }
            writeln!(sql, "{updates}").unwrap();
        }
    }

    fn again(&self, table: &Table, rid: i64, sets: &[(usize, String)], sql: &mut String) {
        if !table.keep {
            return;
        }
        let (name, mut given) = (self.name(&table.name), vec![0]);
        given.extend(self.given(table));
        let columns = self.columns(table, &given);
        let set =
            |at: &usize| sets.iter().find(|(column, _)| column == at).map(|(_, literal)| literal.clone());
        let delete = format!("delete from {name} where {};", self.place(table, &Which::One(rid)));
        if self.server == Server::Postgres {
            let values: Vec<String> = given
                .iter()
                .map(|at| set(at).unwrap_or_else(|| format!("a.{}", self.name(&table.columns[*at].name))))
                .collect();
            let values = values.join(", ");
            writeln!(
                sql,
                "do $do$ declare a record; begin select * into a from {name} where rid = {rid} limit 1; {NONE} {delete} \
                 insert into {name} ({columns}) values ({values}); end $do$;"
            )
            .unwrap();
            return;
        }
        let variables: Vec<String> = (0..given.len()).map(|i| format!("@a{i}")).collect();
        let clear: Vec<String> = variables.iter().map(|variable| format!("{variable} = null")).collect();
        let values: Vec<String> =
            given.iter().zip(&variables).map(|(at, v)| set(at).unwrap_or_else(|| v.clone())).collect();
        writeln!(
            sql,
            "set {}; select {columns} from {name} where rid = {rid} limit 1 into {}; {delete} \
             insert into {name} ({columns}) values ({});",
            clear.join(", "),
            variables.join(", "),
            values.join(", ")
        )
        .unwrap();
    }

    fn upsert(&self, number: usize, row: &Row, sets: &[(usize, String)], replaces: bool, sql: &mut String) {
        let table = &self.plan.tables[number];
        let mut text = String::new();
        self.insert(number, std::slice::from_ref(row), &mut text);
        let insert = text.trim_end().trim_end_matches(';');
        let assignments = self.assignments(table, sets).join(", ");
        if insert.is_empty() {
            return;
        }
        let tail = match (self.server, assignments.is_empty()) {
            (Server::Postgres, _) if table.key.is_empty() => " on conflict do nothing".to_owned(),
            (Server::Postgres, true) => " on conflict do nothing".to_owned(),
            (Server::Postgres, false) => {
                format!(" on conflict ({}) do update set {assignments}", self.columns(table, &table.key))
            }
            (_, true) => String::new(),
            (_, false) => format!(" on duplicate key update {assignments}"),
        };
        match self.server.is_my() && replaces {
            true => writeln!(sql, "{};", insert.replacen("insert", "replace", 1)).unwrap(),
            false => writeln!(sql, "{insert}{tail};").unwrap(),
        }
    }

    fn many(&self, table: &Table, rid: i64, count: i64, values: &[String], sql: &mut String) {
        let is_unique = |column: usize| column > 0 && super::plan::is_of_a_key(table, column);
        if !table.keep || (1..table.columns.len()).any(|at| is_unique(at) && table.columns[at].not_null) {
            return;
        }
        let given = self.given(table);
        let values: String = given
            .iter()
            .map(|at| format!(", {}", if is_unique(*at) { "NULL" } else { &values[at - 1] }))
            .collect();
        let mut all = vec![0];
        all.extend(&given);
        let (name, columns) = (self.name(&table.name), self.columns(table, &all));
        let rows = match self.server {
            Server::Postgres => format!("select {rid} + g{values} from generate_series(1, {count}) g"),
            Server::MariaDb | Server::MySql => format!(
                "with recursive g (n) as (select 1 union all select n + 1 from g where n < {count}) select {rid} + n{values} from g"
            ),
        };
        writeln!(sql, "insert into {name} ({columns}) {rows};").unwrap();
    }
}
