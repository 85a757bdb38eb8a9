//! An in-memory source database: tables, a commit history, and the two twins that read them.
//!
//! Every column is a 64-bit integer; the first column is the key unless the table has none. Commits enter the
//! history (the twin of a binlog) at once and become visible to readers of rows when the test says so, since real
//! servers do that too (ALGORITHMS 2). Views are of different moments for different readers, like MariaDB's without
//! the lock; a test may ask for exact ones. Reads can be made to fail between any two transactions.

use async_trait::async_trait;
use freshet_core::codec::{BatchBuilder, RowWriter};
use freshet_core::gtid::MariadbGtidSet;
use freshet_core::position::{BinlogPosition, CommitPlace, FilePos, GtidSet, TxnId};
use freshet_core::source::{ReadOutcome, Selects, Source};
use freshet_core::table::{
    Chunk, ChunkReader, ColumnInfo, Dialect, IndexInfo, IndexPart, TableInfo, TableReader, View,
};
use freshet_core::{Column, DataType, Error, Position, Result, TableName, TableSchema};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// A row: one integer or NULL for each column.
pub type MemoryRow = Vec<Option<i64>>;

/// A change of one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemoryChange {
    /// A new row.
    Insert(MemoryRow),
    /// A row as it was and as it became.
    Update(MemoryRow, MemoryRow),
    /// A row that went.
    Delete(MemoryRow),
    /// The table was emptied.
    Truncate,
    /// The table's definition was changed by this statement.
    Statement(String),
}

/// The changes of one transaction.
pub type MemoryTransaction = Vec<(TableName, MemoryChange)>;

/// Rows of one table.
pub type MemoryRows = Vec<MemoryRow>;

#[derive(Debug, Default)]
struct State {
    infos: BTreeMap<TableName, TableInfo>,
    history: Vec<MemoryTransaction>,
    /// Transactions that readers of rows see.
    visible: usize,
    /// Transactions whose history is gone.
    purged: usize,
    /// Reads that fail before the connection works again.
    failures: u32,
    /// One read in so many fails; 0 for none.
    flaky: u32,
    /// The most that every reader of some view saw: a view that is not stale shows it again.
    shown: usize,
    /// Counts fail-overs. A source's connection ends with the server that it was opened on.
    server: u32,
    exact_views: bool,
    /// Row changes after which a transaction is handed out in parts.
    part_rows: usize,
}

/// The database. Shared by the twins that read it.
#[derive(Debug, Default)]
pub struct MemoryDatabase {
    state: Mutex<State>,
    changed: Notify,
}

/// One view in so many is older than one before it, as on a replica that stalls. More often, and whoever waits for what
/// was once shown meets several in a row, with pauses that double.
const STALE_VIEWS: u32 = 8;

const SERVER: &str = "memory";

fn place(sequence: usize) -> FilePos {
    FilePos { file: "memory.000001".into(), pos: 100 + 100 * sequence as u64 }
}

/// The position after the first `sequence` transactions.
pub fn position(sequence: usize) -> Position {
    let mut gtids = MariadbGtidSet::default();
    if sequence > 0 {
        gtids.set(0, 1, sequence as u64);
    }
    Position::Binlog(BinlogPosition {
        server: SERVER.into(),
        file: place(sequence),
        gtids: GtidSet::Mariadb(gtids),
    })
}

fn sequence(position: &Position) -> Option<usize> {
    match position {
        Position::Binlog(p) if p.server == SERVER => usize::try_from(p.file.pos.checked_sub(100)? / 100).ok(),
        Position::Binlog(_) | Position::Wal(_) => None,
    }
}

impl MemoryDatabase {
    /// A database without tables.
    pub fn new() -> Arc<Self> {
        let db = Self::default();
        db.lock().part_rows = usize::MAX;
        Arc::new(db)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a table of integer columns; `key` says whether the first is its primary key, `unique` which columns
    /// have a unique index of their own.
    pub fn create(&self, table: &TableName, columns: &[&str], key: bool, unique: &[u16]) {
        let column = |(i, name): (usize, &&str)| Column {
            name: (*name).to_owned(),
            data_type: DataType::Int { bits: 64, unsigned: false },
            nullable: i > 0 || !key,
        };
        let schema = TableSchema::new(
            table.clone(),
            columns.iter().enumerate().map(column).collect(),
            if key { vec![0] } else { vec![] },
        )
        .expect("a schema of integer columns");
        let index = |column: &u16| IndexInfo {
            name: format!("u{column}"),
            unique: true,
            method: "btree".into(),
            parts: vec![IndexPart { column: Some(*column), prefix: None, descending: false }],
        };
        let info = TableInfo {
            schema: schema.into(),
            dialect: Dialect::Mysql,
            columns: vec![ColumnInfo::default(); columns.len()],
            indexes: unique.iter().map(index).collect(),
            next_value: None,
            rows_estimate: 0,
            native: Default::default(),
            not_carried: vec![],
        };
        self.lock().infos.insert(table.clone(), info);
    }

    /// Takes a table out of the catalogue again.
    pub fn drop_table(&self, table: &TableName) {
        self.lock().infos.remove(table);
    }

    /// Commits a transaction, visible at once.
    pub fn commit(&self, transaction: MemoryTransaction) {
        let mut state = self.lock();
        state.history.push(transaction);
        state.visible = state.history.len();
        drop(state);
        self.changed.notify_waiters();
    }

    /// Commits a transaction that is in the history but not visible to readers of rows until the next
    /// [`MemoryDatabase::commit`] or [`MemoryDatabase::show_all`].
    pub fn commit_stalled(&self, transaction: MemoryTransaction) {
        self.lock().history.push(transaction);
        self.changed.notify_waiters();
    }

    /// Makes every commit visible.
    pub fn show_all(&self) {
        let mut state = self.lock();
        state.visible = state.history.len();
    }

    /// Whether views are exact (F_low = F_high), as under a lock.
    pub fn exact_views(&self, exact: bool) {
        self.lock().exact_views = exact;
    }

    /// Hands transactions out in parts of this many row changes.
    pub fn part_rows(&self, rows: usize) {
        self.lock().part_rows = rows;
    }

    /// Lets the next `n` reads of the stream fail with a lost connection.
    pub fn fail_reads(&self, n: u32) {
        self.lock().failures = n;
        self.changed.notify_waiters();
    }

    /// Lets one read of the stream in `n` fail with a lost connection, also in the middle of a transaction; 0 ends it.
    pub fn flaky_reads(&self, n: u32) {
        self.lock().flaky = n;
    }

    /// Forgets the history of the first `n` transactions.
    pub fn purge(&self, n: usize) {
        self.lock().purged = n;
    }

    /// Loses the last `n` transactions, as a fail-over to a replica that never got them does: whoever reads loses its
    /// connection.
    pub fn lose(&self, n: usize) {
        let mut state = self.lock();
        let keep = state.history.len() - n;
        state.history.truncate(keep);
        state.visible = state.visible.min(keep);
        state.shown = state.shown.min(keep);
        state.server += 1;
        drop(state);
        self.changed.notify_waiters();
    }

    /// Number of transactions committed.
    pub fn len(&self) -> usize {
        self.lock().history.len()
    }

    /// Whether nothing was committed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Rows of a table after the first `sequence` transactions, sorted.
    pub fn rows_at(&self, table: &TableName, sequence: usize) -> MemoryRows {
        rows_at(&self.lock(), table, sequence)
    }

    /// A change source over this database.
    pub fn source(self: &Arc<Self>) -> MemorySource {
        MemorySource { db: self.clone(), server: 0, at: 0, row: 0, announced: BTreeMap::new() }
    }

    /// A reader of this database's rows.
    pub fn table_reader(self: &Arc<Self>) -> MemoryTableReader {
        MemoryTableReader { db: self.clone() }
    }
}

fn rows_at(state: &State, table: &TableName, sequence: usize) -> MemoryRows {
    let mut rows: MemoryRows = Vec::new();
    let drop_one = |rows: &mut MemoryRows, old: &MemoryRow| {
        let at = rows.iter().position(|r| r == old).expect("a history changes rows that are there");
        rows.swap_remove(at);
    };
    for (name, change) in state.history.iter().take(sequence).flatten() {
        if name != table {
            continue;
        }
        match change {
            MemoryChange::Insert(row) => rows.push(row.clone()),
            MemoryChange::Update(old, new) => {
                drop_one(&mut rows, old);
                rows.push(new.clone());
            }
            MemoryChange::Delete(old) => drop_one(&mut rows, old),
            MemoryChange::Truncate => rows.clear(),
            MemoryChange::Statement(_) => {}
        }
    }
    rows.sort();
    rows
}

fn write(row: &mut RowWriter<'_>, cells: &MemoryRow) {
    for cell in cells {
        match cell {
            Some(v) => assert!(row.int(*v), "a 64-bit column"),
            None => row.null(),
        }
    }
}

/// The stream's twin.
pub struct MemorySource {
    db: Arc<MemoryDatabase>,
    /// The server that it was opened on.
    server: u32,
    at: usize,
    /// Changes of the open transaction that were handed out.
    row: usize,
    announced: BTreeMap<TableName, Arc<TableSchema>>,
}

impl MemorySource {
    fn step(&mut self, batch: &mut BatchBuilder) -> Result<Option<ReadOutcome>> {
        let mut state = self.db.lock();
        let unlucky = state.flaky > 0 && rand::random_range(0..state.flaky) == 0;
        if state.failures > 0 || unlucky || state.server != self.server {
            state.failures = state.failures.saturating_sub(1);
            return Err(Error::unavailable("The memory source lost its connection"));
        }
        let Some(transaction) = state.history.get(self.at) else { return Ok(None) };
        if self.row == 0 {
            batch.begin(&TxnId::Mariadb { domain: 0, server: 1, sequence: self.at as u64 + 1 }, 0);
        }
        let end = self.row.saturating_add(state.part_rows).min(transaction.len());
        for (table, change) in &transaction[self.row..end] {
            let info = state.infos.get(table).ok_or_else(|| Error::internal("A table that is not there"))?;
            if self.announced.get(table) != Some(&info.schema) {
                batch.schema(&info.schema);
                self.announced.insert(table.clone(), info.schema.clone());
            }
            put(batch, info, change);
        }
        if end < transaction.len() {
            self.row = end;
            return Ok(Some(ReadOutcome::Partial));
        }
        self.at += 1;
        self.row = 0;
        batch.commit(SERVER, &CommitPlace::Binlog(place(self.at)), self.at as i64);
        Ok(Some(ReadOutcome::Commit { position: position(self.at) }))
    }
}

fn put(batch: &mut BatchBuilder, info: &TableInfo, change: &MemoryChange) {
    match change {
        MemoryChange::Insert(new) => {
            let mut row = batch.insert(&info.schema);
            write(&mut row, new);
            row.finish();
        }
        MemoryChange::Update(old, new) => {
            let mut row = batch.update(&info.schema);
            write(&mut row, old);
            row.after();
            write(&mut row, new);
            row.finish();
        }
        MemoryChange::Delete(old) => {
            let mut row = batch.delete(&info.schema);
            write(&mut row, old);
            row.finish();
        }
        MemoryChange::Truncate => batch.truncate(info.name()),
        MemoryChange::Statement(text) => batch.statement(&info.name().schema, info.name(), text),
    }
}

#[async_trait]
impl Source for MemorySource {
    async fn begin(&mut self) -> Result<Position> {
        self.tip().await
    }

    async fn open(&mut self, start: &Position, held: &[Position]) -> Result<()> {
        let state = self.db.lock();
        let place =
            |position| sequence(position).ok_or_else(|| Error::resync("A position of another source"));
        let at = place(start)?;
        let last = held.iter().try_fold(at, |last, position| place(position).map(|at| last.max(at)))?;
        if last > state.history.len() {
            return Err(Error::resync("The source lost transactions that we already have"));
        }
        if at < state.purged {
            return Err(Error::resync("The source's history was purged"));
        }
        self.server = state.server;
        drop(state);
        (self.at, self.row) = (at, 0);
        self.announced.clear();
        Ok(())
    }

    async fn read(&mut self, batch: &mut BatchBuilder) -> Result<ReadOutcome> {
        let db = self.db.clone();
        loop {
            let changed = db.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(outcome) = self.step(batch)? {
                return Ok(outcome);
            }
            changed.await;
        }
    }

    async fn acknowledge(&mut self, _position: &Position) -> Result<()> {
        Ok(())
    }

    async fn tip(&mut self) -> Result<Position> {
        Ok(position(self.db.len()))
    }

    fn distance_bytes(&self, from: &Position, to: &Position) -> Option<u64> {
        Some((sequence(to)?.saturating_sub(sequence(from)?) * 100) as u64)
    }
}

/// The table reader's twin.
pub struct MemoryTableReader {
    db: Arc<MemoryDatabase>,
}

impl MemoryTableReader {
    fn infos(&self, selection: &dyn Selects) -> Vec<TableInfo> {
        self.db.lock().infos.values().filter(|i| selection.selects(i.name())).cloned().collect()
    }
}

#[async_trait]
impl TableReader for MemoryTableReader {
    async fn tables(&mut self, selection: &dyn Selects) -> Result<Vec<TableInfo>> {
        Ok(self.infos(selection))
    }

    fn views_are_exact(&self) -> bool {
        self.db.lock().exact_views
    }

    async fn view(&mut self, selection: &dyn Selects, readers: usize) -> Result<View> {
        let tables = self.infos(selection);
        let mut state = self.db.lock();
        let (visible, tip, exact) = (state.visible, state.history.len(), state.exact_views);
        let stale = rand::random_range(0..STALE_VIEWS) == 0;
        let oldest = visible.saturating_sub(3).max(if stale { 0 } else { state.shown.min(visible) });
        let moment = |_| if exact { visible } else { rand::random_range(oldest..=visible) };
        let moments: Vec<usize> = (0..readers.max(1)).map(moment).collect();
        let low = moments.iter().copied().min().unwrap_or(visible);
        state.shown = state.shown.max(low);
        drop(state);
        let high = if exact { visible } else { tip };
        let readers = moments
            .iter()
            .map(|m| {
                Box::new(MemoryChunkReader { db: self.db.clone(), moment: *m, rows: vec![] })
                    as Box<dyn ChunkReader>
            })
            .collect();
        Ok(View { low: position(low), high: position(high), tables, not_carried: vec![], readers })
    }
}

struct MemoryChunkReader {
    db: Arc<MemoryDatabase>,
    moment: usize,
    rows: Vec<(Arc<TableSchema>, MemoryRow)>,
}

impl MemoryChunkReader {
    fn refuse_dropped(&self, table: &TableName) -> Result<()> {
        if self.db.lock().infos.contains_key(table) {
            return Ok(());
        }
        Err(Error::table(table.clone(), format!("Table {table} was dropped while it was being loaded")))
    }
}

#[async_trait]
impl ChunkReader for MemoryChunkReader {
    async fn plan(&mut self, table: &TableInfo, rows: u64) -> Result<Vec<Chunk>> {
        let chunk = |number: usize, lower: Option<i64>, upper: Option<i64>| Chunk {
            table: table.name().clone(),
            number: number as u32,
            lower: lower.map(|b| b.to_string()),
            upper: upper.map(|b| b.to_string()),
        };
        self.refuse_dropped(table.name())?;
        let all = self.db.rows_at(table.name(), self.moment);
        if table.schema.key().is_empty() {
            return Ok(vec![chunk(0, None, None)]);
        }
        let step = usize::try_from(rows.max(1)).unwrap_or(usize::MAX);
        let bounds: Vec<i64> = all.iter().skip(step - 1).step_by(step).filter_map(|r| r[0]).collect();
        let mut lower = None;
        let mut chunks = Vec::new();
        for (number, bound) in bounds.iter().enumerate() {
            chunks.push(chunk(number, lower, Some(*bound)));
            lower = Some(*bound);
        }
        chunks.push(chunk(bounds.len(), lower, None));
        Ok(chunks)
    }

    async fn open(&mut self, table: &TableInfo, chunk: &Chunk) -> Result<()> {
        self.refuse_dropped(table.name())?;
        let bound = |b: &Option<String>| b.as_ref().and_then(|b| b.parse::<i64>().ok());
        let (lower, upper) = (bound(&chunk.lower), bound(&chunk.upper));
        let inside =
            |r: &MemoryRow| lower.is_none_or(|l| r[0] > Some(l)) && upper.is_none_or(|u| r[0] <= Some(u));
        let rows = self.db.rows_at(table.name(), self.moment);
        self.rows = rows.into_iter().filter(inside).rev().map(|r| (table.schema.clone(), r)).collect();
        Ok(())
    }

    async fn read(&mut self, batch: &mut BatchBuilder, bytes_target: usize) -> Result<bool> {
        while batch.len() < bytes_target {
            let Some((schema, cells)) = self.rows.pop() else { return Ok(false) };
            let mut row = batch.insert(&schema);
            write(&mut row, &cells);
            row.finish();
        }
        Ok(true)
    }
}
