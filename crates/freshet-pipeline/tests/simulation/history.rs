//! The source database: tables, a commit history, and every state that it had.
//!
//! Not the twins that read it (`source`, `tables`). A commit stands in the history before readers of rows see it. A
//! fail-over gives every place another number, and may lose the last commits. Positions are those of PostgreSQL,
//! MariaDB or MySQL.

use crate::world::Dice;
use freshet_core::gtid::{MariadbGtidSet, MysqlGtidSet, MysqlSource, Uuid};
use freshet_core::position::{BinlogPosition, CommitPlace, FilePos, GtidSet, Lsn, TxnId, WalPosition};
use freshet_core::table::{ColumnInfo, Dialect, IndexInfo, IndexPart, TableInfo};
use freshet_core::{Column, DataType, Error, Position, Result, TableName, TableSchema};
use std::sync::Arc;
use tokio::sync::Notify;

pub type Row = Vec<Option<i64>>;

pub const ACCOUNTS: usize = 0;
pub const ENTRIES: usize = 1;
pub const NOTES: usize = 2;
/// The column that an update may leave out where it did not change it (PostgreSQL's large values).
pub const LARGE: usize = 3;
/// The column with a unique index.
pub const CODE: usize = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    Postgres,
    Mariadb,
    Mysql,
}

#[derive(Clone, Debug)]
pub enum Change {
    Insert(Row),
    Update { old: Row, new: Row, lacks: bool },
    Delete(Row),
    Truncate,
}

#[derive(Clone, Debug, Default)]
pub struct Txn {
    pub changes: Vec<(usize, Change)>,
    /// The server that wrote it.
    pub server: u32,
}

/// Rows of all tables, and a number that is another one for other rows.
#[derive(Clone, Debug)]
pub struct State {
    pub tables: Vec<Arc<Vec<Row>>>,
    pub sum: u64,
}

pub struct History {
    pub flavour: Flavour,
    pub infos: Vec<TableInfo>,
    pub txns: Vec<Txn>,
    /// Before the first transaction, after it, and so on.
    pub states: Vec<State>,
    sets: Vec<GtidSet>,
    /// Transactions that readers of rows see.
    pub visible: usize,
    /// Transactions that nobody can read any more.
    pub purged: usize,
    /// Transactions that a reader told to be durable on its side.
    pub acknowledged: usize,
    /// The server that answers, counted by fail-overs.
    pub server: u32,
    /// How many of each former server's transactions the next one had.
    forks: Vec<usize>,
    /// The most that anybody was ever given, in whatever form.
    pub given: usize,
    /// Whether a fail-over lost something of that.
    pub lost_what_was_given: bool,
    pub lost_any: bool,
    /// Nobody writes any more.
    pub is_over: bool,
}

fn info(name: &str, columns: &[&str], has_key: bool, unique: Option<usize>) -> TableInfo {
    let column = |(i, name): (usize, &&str)| Column {
        name: (*name).to_owned(),
        data_type: DataType::Int { bits: 64, unsigned: false },
        nullable: i > 0 || !has_key,
    };
    let key = if has_key { vec![0] } else { vec![] };
    let columns: Vec<Column> = columns.iter().enumerate().map(column).collect();
    let index = |column: usize| IndexInfo {
        name: format!("u{column}"),
        unique: true,
        method: "btree".into(),
        parts: vec![IndexPart { column: Some(column as u16), prefix: None, descending: false }],
    };
    TableInfo {
        columns: vec![ColumnInfo::default(); columns.len()],
        schema: TableSchema::new(TableName::new("bank", name), columns, key).expect("a schema").into(),
        dialect: Dialect::Mysql,
        indexes: unique.into_iter().map(index).collect(),
        next_value: None,
        rows_estimate: 0,
        native: Default::default(),
        not_carried: vec![],
    }
}

/// A number for a row of a table; the sum of all is that of a state.
pub fn number(table: usize, row: &Row) -> u64 {
    let step = |h: u64, v: u64| (h ^ v).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    let cell = |h, c: &Option<i64>| step(h, c.map_or(u64::MAX, |v| v as u64));
    step(row.iter().fold(table as u64 + 1, cell), 7)
}

impl History {
    pub fn new(flavour: Flavour, with_notes: bool) -> Self {
        let mut infos = vec![
            info("accounts", &["id", "code", "amount", "large"], true, Some(CODE)),
            info("entries", &["id", "amount"], true, None),
        ];
        if with_notes {
            infos.push(info("notes", &["a", "b"], false, None));
        }
        let set = match flavour {
            Flavour::Postgres => GtidSet::Places,
            Flavour::Mariadb => GtidSet::Mariadb(MariadbGtidSet::default()),
            Flavour::Mysql => GtidSet::Mysql(MysqlGtidSet::default()),
        };
        let tables = infos.iter().map(|_| Arc::default()).collect();
        Self {
            flavour,
            infos,
            txns: Vec::new(),
            states: vec![State { tables, sum: 0 }],
            sets: vec![set],
            visible: 0,
            purged: 0,
            acknowledged: 0,
            server: 0,
            forks: Vec::new(),
            given: 0,
            lost_what_was_given: false,
            lost_any: false,
            is_over: false,
        }
    }

    pub fn len(&self) -> usize {
        self.txns.len()
    }

    pub fn latest(&self) -> &State {
        &self.states[self.txns.len()]
    }

    pub fn commit(&mut self, changes: Vec<(usize, Change)>) {
        let mut state = self.latest().clone();
        for (table, change) in &changes {
            apply(&mut state, *table, change);
        }
        self.txns.push(Txn { changes, server: self.server });
        self.states.push(state);
        let mut set = self.sets[self.txns.len() - 1].clone();
        set.add(&self.id(self.txns.len()));
        self.sets.push(set);
    }

    /// The name of the `n`th transaction, counted from 1.
    pub fn id(&self, n: usize) -> TxnId {
        let server = self.txns[n - 1].server;
        match self.flavour {
            Flavour::Postgres => TxnId::Postgres { xid: n as u32 },
            Flavour::Mariadb => TxnId::Mariadb { domain: 0, server: server + 1, sequence: n as u64 },
            Flavour::Mysql => {
                let source = MysqlSource { uuid: Uuid([server as u8 + 1; 16]), tag: String::new() };
                TxnId::Mysql { source, gno: n as u64 }
            }
        }
    }

    pub fn server_name(&self) -> String {
        match self.flavour {
            Flavour::Postgres => String::new(),
            Flavour::Mariadb | Flavour::Mysql => format!("s{}", self.server),
        }
    }

    fn step(&self) -> u64 {
        50 + 13 * u64::from(self.server)
    }

    fn file(&self, n: usize) -> FilePos {
        FilePos { file: format!("binlog{}.000001", self.server), pos: 4 + self.step() * n as u64 }
    }

    fn lsn(n: usize) -> Lsn {
        Lsn(1000 + 10 * n as u64)
    }

    /// Where the `n`th transaction ends.
    pub fn place(&self, n: usize) -> CommitPlace {
        match self.flavour {
            Flavour::Postgres => CommitPlace::Wal(Self::lsn(n)),
            Flavour::Mariadb | Flavour::Mysql => CommitPlace::Binlog(self.file(n)),
        }
    }

    /// The position after the first `n` transactions.
    pub fn position(&self, n: usize) -> Position {
        self.bound(n, n)
    }

    /// A bound of a load without a lock on MySQL: the place after `n` transactions, and a set of fewer.
    pub fn bound(&self, n: usize, in_set: usize) -> Position {
        match self.flavour {
            Flavour::Postgres => {
                Position::Wal(WalPosition { system: 1, timeline: self.server + 1, lsn: Self::lsn(n) })
            }
            Flavour::Mariadb | Flavour::Mysql => Position::Binlog(BinlogPosition {
                server: self.server_name(),
                file: self.file(n),
                gtids: self.sets[in_set].clone(),
            }),
        }
    }

    /// How many transactions a position has; `Resync` if it is not one of this history.
    pub fn locate(&self, position: &Position) -> Result<usize> {
        let n = match position {
            Position::Wal(p) => {
                let n = (p.lsn.0.saturating_sub(1000) / 10) as usize;
                let since = (p.timeline - 1) as usize;
                self.forks.iter().skip(since).all(|kept| n <= *kept).then_some(n)
            }
            Position::Binlog(p) => {
                let known = p.gtids.is_subset(&self.sets[self.txns.len()]);
                let has = |n: &usize| p.gtids.contains(&self.id(*n)) == Some(true);
                known.then(|| (1..=self.txns.len()).rev().find(has).unwrap_or(0))
            }
        };
        n.filter(|n| *n <= self.txns.len())
            .ok_or_else(|| Error::resync(format!("The source does not have all of {position}")))
    }

    /// How far a position reaches on this server by its place alone.
    pub fn reach(&self, position: &Position) -> Result<usize> {
        let n = self.locate(position)?;
        match position {
            Position::Binlog(p) if p.server == self.server_name() && !p.file.file.is_empty() => {
                let by_place = (p.file.pos.saturating_sub(4) / self.step()) as usize;
                if by_place > self.txns.len() {
                    return Err(Error::resync(format!("The source does not have the place of {position}")));
                }
                Ok(n.max(by_place))
            }
            Position::Binlog(_) | Position::Wal(_) => Ok(n),
        }
    }

    /// Another server answers, which lacks the last `lost` transactions.
    pub fn fail_over(&mut self, lost: usize) {
        let keep = self.txns.len() - lost.min(self.txns.len() - self.purged.min(self.txns.len()));
        self.lost_any |= keep < self.txns.len();
        self.lost_what_was_given |= keep < self.given;
        self.txns.truncate(keep);
        self.states.truncate(keep + 1);
        self.sets.truncate(keep + 1);
        self.forks.push(keep);
        self.server += 1;
        self.visible = self.visible.min(keep);
        self.acknowledged = self.acknowledged.min(keep);
        self.given = self.given.min(keep);
    }

    pub fn give(&mut self, n: usize) {
        self.given = self.given.max(n);
    }
}

fn apply(state: &mut State, table: usize, change: &Change) {
    let rows = Arc::make_mut(&mut state.tables[table]);
    let sum = &mut state.sum;
    let mut remove = |rows: &mut Vec<Row>, old: &Row| {
        let at = rows.iter().position(|row| row == old).expect("a history changes rows that are there");
        rows.swap_remove(at);
        *sum = sum.wrapping_sub(number(table, old));
    };
    let new = match change {
        Change::Insert(row) => Some(row),
        Change::Update { old, new, .. } => {
            remove(rows, old);
            Some(new)
        }
        Change::Delete(row) => {
            remove(rows, row);
            None
        }
        Change::Truncate => {
            rows.clone().iter().for_each(|row| remove(rows, row));
            None
        }
    };
    if let Some(row) = new {
        rows.push(row.clone());
        state.sum = state.sum.wrapping_add(number(table, row));
    }
}

/// Draws transactions that the database could have had.
pub struct Writer {
    pub dice: Dice,
    /// Whether updates may leave out a large value that they did not change.
    pub lacks: bool,
    /// Whether keys move often, and leave the large value out.
    pub moves: bool,
    next: i64,
}

impl Writer {
    pub fn new(dice: Dice, lacks: bool) -> Self {
        Self { dice, lacks, moves: false, next: 1 }
    }

    pub fn transaction(&mut self, history: &History) -> Vec<(usize, Change)> {
        let mut state = history.latest().clone();
        let mut out = Vec::new();
        let kind = self.dice.below(20);
        let changes = match kind {
            // One without a change of a captured table.
            0 => return out,
            // Larger than a window.
            1 => 12 + self.dice.below(20),
            _ => 1 + self.dice.below(4),
        };
        if kind == 2 {
            self.swap_codes(&mut state, &mut out);
        }
        if kind == 3 {
            self.swap_keys(&mut state, &mut out);
        }
        for _ in 0..changes {
            let (table, change) = self.change(&state);
            self.put(&mut state, &mut out, table, change);
        }
        out
    }

    fn put(&self, state: &mut State, out: &mut Vec<(usize, Change)>, table: usize, change: Change) {
        apply(state, table, &change);
        out.push((table, change));
    }

    fn update(&mut self, old: &Row, new: Row) -> Change {
        let lacks = self.lacks && old[LARGE] == new[LARGE] && self.dice.one_in(2);
        Change::Update { old: old.clone(), new, lacks }
    }

    fn fresh(&mut self) -> i64 {
        self.next += 1;
        self.next
    }

    fn change(&mut self, state: &State) -> (usize, Change) {
        let has_notes = state.tables.len() > NOTES;
        match self.dice.below(40) {
            0..=24 => (ACCOUNTS, self.change_account(&state.tables[ACCOUNTS])),
            25..=31 if has_notes => (NOTES, self.change_note(&state.tables[NOTES])),
            32 => (ENTRIES, Change::Truncate),
            33 if !state.tables[ENTRIES].is_empty() => {
                (ENTRIES, Change::Delete(self.dice.pick(&state.tables[ENTRIES])))
            }
            _ => {
                let id = self.fresh();
                (ENTRIES, Change::Insert(vec![Some(id), Some(id % 7)]))
            }
        }
    }

    fn change_account(&mut self, rows: &[Row]) -> Change {
        let id = Some(self.dice.below(14) as i64);
        let is_free = !rows.iter().any(|row| row[0] == id);
        // Never one that was used before: swaps of codes are a transaction of their own.
        let code = if self.dice.one_in(6) { None } else { Some(1000 + self.fresh()) };
        let new = vec![id, code, Some(self.dice.below(50) as i64), Some(self.dice.below(1000) as i64)];
        if rows.is_empty() || (is_free && self.dice.one_in(3)) {
            return if is_free { Change::Insert(new) } else { Change::Truncate };
        }
        let old = self.dice.pick(rows);
        if self.moves && is_free && self.dice.one_in(2) {
            let new = vec![id, old[CODE], new[2], old[LARGE]];
            return Change::Update { old, new, lacks: true };
        }
        match self.dice.below(8) {
            0 | 1 => Change::Delete(old),
            2 if is_free => {
                // The key moves, and with it all or some of the rest.
                let large = if self.dice.one_in(2) { old[LARGE] } else { new[LARGE] };
                let moved = vec![id, old[CODE], new[2], large];
                self.update(&old, moved)
            }
            3 => {
                let changed = vec![old[0], code, old[2], old[LARGE]];
                self.update(&old, changed)
            }
            4 => {
                let changed = vec![old[0], old[CODE], new[2], new[LARGE]];
                self.update(&old, changed)
            }
            _ => {
                let changed = vec![old[0], old[CODE], new[2], old[LARGE]];
                self.update(&old, changed)
            }
        }
    }

    fn change_note(&mut self, rows: &[Row]) -> Change {
        let new = vec![Some(self.dice.below(3) as i64), Some(self.dice.below(2) as i64)];
        if rows.is_empty() || self.dice.one_in(2) {
            return Change::Insert(new);
        }
        let old = self.dice.pick(rows);
        if self.dice.one_in(2) { Change::Delete(old) } else { Change::Update { old, new, lacks: false } }
    }

    /// Two rows exchange a value of a unique index, by way of NULL.
    fn swap_codes(&mut self, state: &mut State, out: &mut Vec<(usize, Change)>) {
        let rows = state.tables[ACCOUNTS].clone();
        let (Some(a), Some(b)) = (rows.first(), rows.last()) else { return };
        if rows.len() < 2 {
            return;
        }
        let with = |row: &Row, code| vec![row[0], code, row[2], row[LARGE]];
        for (old, new) in
            [(a.clone(), with(a, None)), (b.clone(), with(b, a[CODE])), (with(a, None), with(a, b[CODE]))]
        {
            let change = self.update(&old, new);
            self.put(state, out, ACCOUNTS, change);
        }
    }

    /// Two rows exchange their keys, by way of a third.
    fn swap_keys(&mut self, state: &mut State, out: &mut Vec<(usize, Change)>) {
        let rows = state.tables[ACCOUNTS].clone();
        let (Some(a), Some(b)) = (rows.first(), rows.last()) else { return };
        if rows.len() < 2 {
            return;
        }
        let third = Some(100 + self.fresh());
        let with = |row: &Row, key| vec![key, row[CODE], row[2], row[LARGE]];
        for (old, new) in
            [(a.clone(), with(a, third)), (b.clone(), with(b, a[0])), (with(a, third), with(a, b[0]))]
        {
            let change = self.update(&old, new);
            self.put(state, out, ACCOUNTS, change);
        }
    }
}

/// The database, shared by those who read and write it.
pub struct Database {
    pub history: std::sync::Mutex<History>,
    pub changed: Notify,
}
