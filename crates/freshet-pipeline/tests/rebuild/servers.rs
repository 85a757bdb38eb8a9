//! Two servers of one replication as a source: both binlogs hold every transaction, each at a place of its own, and in
//! one order within a domain only. It keeps the real sources' contract about their history: begun by place on one
//! server and by GTID elsewhere, `Resync` where a server lacks what it is asked for. Of MariaDB's sets it says as much as
//! the real server does: all of `gtid_binlog_state`, or the last transactions alone. It knows nothing of the engine.

use crate::{House, notes};
use async_trait::async_trait;
use freshet_core::codec::BatchBuilder;
use freshet_core::gtid::{MariadbGtidSet, MysqlGtidSet, MysqlSource};
use freshet_core::position::{BinlogPosition, CommitPlace, FilePos, GtidSet, TxnId};
use freshet_core::source::{ReadOutcome, Source};
use freshet_core::table::TableReader;
use freshet_core::{Error, Position, Result, TableSchema};
use freshet_mapping::Selection;
use freshet_pipeline::{Mode, Parts, Settings, run};
use freshet_testkit::memory::database::MemoryDatabase;
use rand::RngExt;
use rand::rngs::StdRng;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Lets virtual time pass: every test here runs with the clock paused, so that nobody waits.
pub async fn pass(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

/// Lets virtual time pass until something is seen.
pub async fn pass_until(what: &str, seen: impl Fn() -> bool) {
    for _ in 0..100_000 {
        if seen() {
            return;
        }
        pass(1).await;
    }
    panic!("{what} took too long");
}

/// How transactions are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Mysql,
    /// Two domains, in which the sequence rises whoever writes.
    Mariadb,
    /// Two domains, in which each server's own sequence rises and those of two say nothing of each other.
    Zigzag,
    /// Not at all.
    Places,
}

const NAMES: [&str; 2] = ["s", "t"];
const UUID: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
const BEGIN: u64 = 4;

/// A transaction; without rows it is one that the selection leaves out.
#[derive(Clone)]
struct Txn {
    id: TxnId,
    rows: i64,
}

/// A transaction in one server's binlog.
#[derive(Clone, Copy)]
struct Logged {
    txn: usize,
    end: u64,
}

/// What the servers have and how they behave.
pub struct State {
    kind: Kind,
    txns: Vec<Txn>,
    binlogs: [Vec<Logged>; 2],
    /// Not replicated yet.
    pending: Vec<usize>,
    /// Who writes and answers.
    active: usize,
    /// Sessions of servers before the last fail-over are over.
    fail_overs: u32,
    /// Rows of a batch.
    pub batch_rows: i64,
    /// So many reads lose their connection.
    pub fails: u32,
    /// Nothing comes.
    pub blocked: bool,
    /// Pauses before each batch.
    pub slow: bool,
    /// MariaDB says the last transaction of each domain only.
    pub lasts_only: bool,
}

fn domain_of(id: &TxnId) -> Option<u32> {
    match id {
        TxnId::Mariadb { domain, .. } => Some(*domain),
        _ => None,
    }
}

fn place(server: usize, pos: u64) -> FilePos {
    FilePos { file: format!("{}.000001", NAMES[server]), pos }
}

impl State {
    /// A transaction of this name, and where it ends behind the one before.
    fn write(&mut self, id: TxnId, rows: i64, gap: u64) {
        self.txns.push(Txn { id, rows });
        let txn = self.txns.len() - 1;
        self.log(self.active, txn, gap);
        self.pending.push(txn);
    }

    fn log(&mut self, server: usize, txn: usize, gap: u64) {
        let end = self.end_of(server) + gap;
        self.binlogs[server].push(Logged { txn, end });
    }

    fn end_of(&self, server: usize) -> u64 {
        self.binlogs[server].last().map_or(BEGIN, |logged| logged.end)
    }

    /// The other server takes one over: the first of some domain, any one with MySQL's sets.
    fn replicate(&mut self, rng: &mut StdRng) {
        let any = if self.kind == Kind::Places { 0 } else { rng.random_range(0..self.pending.len()) };
        let domain = domain_of(&self.txns[self.pending[any]].id);
        let is_first = |txn: &usize| domain_of(&self.txns[*txn].id) == domain;
        let pick = domain.and_then(|_| self.pending.iter().position(is_first)).unwrap_or(any);
        let txn = self.pending.remove(pick);
        self.log(1 - self.active, txn, rng.random_range(10..300));
    }

    pub fn fail_over(&mut self, rng: &mut StdRng) {
        while !self.pending.is_empty() {
            self.replicate(rng);
        }
        self.active = 1 - self.active;
        self.fail_overs += 1;
    }

    /// Everything that a server had after `count` transactions of its binlog.
    fn set(&self, server: usize, count: usize) -> GtidSet {
        let mut set = match self.kind {
            Kind::Mysql => GtidSet::Mysql(MysqlGtidSet::default()),
            Kind::Places => GtidSet::Places,
            Kind::Mariadb | Kind::Zigzag => GtidSet::Mariadb(MariadbGtidSet::default()),
        };
        for logged in &self.binlogs[server][..count] {
            set.add(&self.txns[logged.txn].id);
        }
        set
    }

    fn executed(&self) -> GtidSet {
        self.set(self.active, self.binlogs[self.active].len())
    }

    fn tip(&self) -> Position {
        let gtids = match self.executed() {
            GtidSet::Mariadb(set) if self.lasts_only => GtidSet::Mariadb(set.lasts()),
            whole => whole,
        };
        let file = place(self.active, self.end_of(self.active));
        Position::Binlog(BinlogPosition { server: NAMES[self.active].into(), file, gtids })
    }

    /// How many transactions end at or before a place of the active server; `None` if none ends there.
    fn count_at(&self, file: &FilePos) -> Option<usize> {
        let ends = |logged: &Logged| logged.end == file.pos;
        if file.pos == BEGIN {
            Some(0)
        } else {
            self.binlogs[self.active].iter().position(ends).map(|at| at + 1)
        }
    }

    /// Whether this position is within the active server's history.
    fn check(&self, position: &Position) -> Result<()> {
        let Position::Binlog(p) = position else { return Err(Error::resync("Of another kind")) };
        let is_known = match (&p.gtids, &self.executed()) {
            (GtidSet::Places, GtidSet::Places) => p.server == NAMES[self.active],
            (ours, executed) => ours.is_subset(executed),
        };
        if !is_known {
            return Err(Error::resync(format!("The server lacks some of {position}")));
        }
        if p.server != NAMES[self.active] || p.file.file.is_empty() {
            return Ok(());
        }
        let fits =
            self.count_at(&p.file).is_some_and(|count| match (self.set(self.active, count), &p.gtids) {
                (GtidSet::Mariadb(there), GtidSet::Mariadb(ours)) => there.lasts() == ours.lasts(),
                _ => true,
            });
        if fits { Ok(()) } else { Err(Error::resync(format!("Another history at {position}"))) }
    }

    /// The next transaction of a random history; `captured` ones have rows, most of them.
    pub fn write_any(&mut self, captured: bool, rng: &mut StdRng) {
        let rows = if !captured || rng.random_range(0..5) == 0 { 0 } else { rng.random_range(1..5) };
        let id = match self.kind {
            Kind::Places => TxnId::Anonymous,
            Kind::Mysql => {
                let tag = if self.active == 1 { "b".into() } else { String::new() };
                let source = MysqlSource { uuid: UUID.parse().expect("valid"), tag };
                TxnId::Mysql { source, gno: self.txns.len() as u64 + 1 }
            }
            Kind::Mariadb => {
                let domain = rng.random_range(0..2);
                let sequence = self.last_of(domain, None) + 1;
                TxnId::Mariadb { domain, server: self.active as u32 + 1, sequence }
            }
            Kind::Zigzag => {
                let (domain, server) = (rng.random_range(0..2), rng.random_range(1..3));
                let own = if rng.random_range(0..2) == 0 { Some(server) } else { None };
                let sequence = self.last_of(domain, own) + rng.random_range(1..4);
                TxnId::Mariadb { domain, server, sequence }
            }
        };
        self.write(id, rows, rng.random_range(10..300));
        if self.pending.len() > 2 {
            self.replicate(rng);
        }
    }

    /// The newest transaction, in words.
    pub fn newest(&self) -> String {
        let rows = |txn: &Txn| format!("{} with {} rows on {}", txn.id, txn.rows, NAMES[self.active]);
        self.txns.last().map(rows).unwrap_or_default()
    }

    /// The largest sequence of a domain, or of one server in it.
    fn last_of(&self, of_domain: u32, of_server: Option<u32>) -> u64 {
        let sequence = |txn: &Txn| match txn.id {
            TxnId::Mariadb { domain, server, sequence }
                if domain == of_domain && of_server.is_none_or(|s| s == server) =>
            {
                Some(sequence)
            }
            _ => None,
        };
        self.txns.iter().filter_map(sequence).max().unwrap_or(0)
    }
}

/// The servers, shared by the sessions that read them.
#[derive(Clone)]
pub struct Servers(Arc<Mutex<State>>);

impl Servers {
    pub fn new(kind: Kind) -> Self {
        Self(Arc::new(Mutex::new(State {
            kind,
            txns: vec![],
            binlogs: [vec![], vec![]],
            pending: vec![],
            active: 0,
            fail_overs: 0,
            batch_rows: i64::MAX,
            fails: 0,
            blocked: false,
            slow: false,
            lasts_only: false,
        })))
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic")
    }

    /// Transactions of one row, written by `server` into domain 0.
    pub fn write(&self, server: u32, sequences: impl IntoIterator<Item = u64>) {
        for sequence in sequences {
            self.lock().write(TxnId::Mariadb { domain: 0, server, sequence }, 1, 100);
        }
    }

    /// Whether a target has a row twice, or (`all`) lacks one that was written.
    pub fn check_rows(&self, house: &House, all: bool) -> std::result::Result<(), String> {
        let written: usize = self.lock().txns.iter().map(|txn| txn.rows as usize).sum();
        for (n, target) in house.targets.iter().enumerate() {
            let rows = target.rows(&notes());
            let mut distinct = rows.clone();
            distinct.dedup();
            if distinct.len() < rows.len() {
                return Err(format!("DOUBLED: target {n} has {} rows of {}", rows.len(), distinct.len()));
            }
            if all && rows.len() < written {
                return Err(format!("LOST: target {n} has {} rows of {written}", rows.len()));
            }
        }
        Ok(())
    }
}

/// What a session leaves out of the server's binlog.
enum Begun {
    /// Nothing behind its place.
    ByPlace,
    /// What is in MySQL's set.
    BySet(GtidSet),
    /// Of each domain everything up to this index.
    AfterLasts(BTreeMap<u32, usize>),
}

impl Begun {
    fn leaves_out(&self, id: &TxnId, at: usize) -> bool {
        match self {
            Begun::ByPlace => false,
            Begun::BySet(set) => set.contains(id) == Some(true),
            Begun::AfterLasts(lasts) => {
                domain_of(id).and_then(|domain| lasts.get(&domain)).is_some_and(|last| at <= *last)
            }
        }
    }
}

/// A reader of whichever server is active.
pub struct ServersSource {
    servers: Servers,
    db: Arc<MemoryDatabase>,
    server: usize,
    session: u32,
    begun: Begun,
    /// From here on a place is that of its set.
    exact_from: u64,
    /// The transaction at hand in the binlog, and its row.
    at: usize,
    row: i64,
    gtids: GtidSet,
    announced: bool,
    told: bool,
}

impl ServersSource {
    pub fn new(house: &House, servers: &Servers) -> Self {
        Self {
            servers: servers.clone(),
            db: house.db.clone(),
            server: 0,
            session: 0,
            begun: Begun::ByPlace,
            exact_from: 0,
            at: 0,
            row: 0,
            gtids: GtidSet::Places,
            announced: false,
            told: true,
        }
    }

    fn position(&self, state: &State) -> Position {
        let pos = self.at.checked_sub(1).map_or(BEGIN, |last| state.binlogs[self.server][last].end);
        let file = if pos >= self.exact_from { place(self.server, pos) } else { FilePos::default() };
        let server = NAMES[self.server].into();
        Position::Binlog(BinlogPosition { server, file, gtids: self.gtids.clone() })
    }

    /// Hands out what is there; `None` if that is nothing.
    fn step(&mut self, batch: &mut BatchBuilder, schema: &Arc<TableSchema>) -> Result<Option<ReadOutcome>> {
        let servers = self.servers.clone();
        let mut state = servers.lock();
        if state.fails > 0 || self.session != state.fail_overs {
            state.fails = state.fails.saturating_sub(1);
            return Err(Error::unavailable("The connection was lost"));
        }
        let (mut room, mut moved) = (state.batch_rows, false);
        while room > 0 && !state.blocked && self.at < state.binlogs[self.server].len() {
            let Logged { txn: n, end } = state.binlogs[self.server][self.at];
            let txn = state.txns[n].clone();
            if !self.begun.leaves_out(&txn.id, self.at) {
                if txn.rows > 0 && !self.hand_out(batch, schema, n, &txn, &mut room) {
                    return Ok(Some(ReadOutcome::Partial));
                }
                if txn.rows > 0 {
                    let place = CommitPlace::Binlog(place(self.server, end));
                    batch.commit(NAMES[self.server], &place, n as i64);
                }
                self.gtids.add(&txn.id);
                moved = true;
            }
            (self.at, self.row) = (self.at + 1, 0);
        }
        let tells = moved || (!state.blocked && !std::mem::replace(&mut self.told, true));
        Ok(tells.then(|| ReadOutcome::Commit { position: self.position(&state) }))
    }

    /// As many rows of a transaction as there is room for; whether those were all.
    fn hand_out(
        &mut self,
        batch: &mut BatchBuilder,
        schema: &Arc<TableSchema>,
        n: usize,
        txn: &Txn,
        room: &mut i64,
    ) -> bool {
        if self.row == 0 {
            batch.begin(&txn.id, 0);
        }
        if !std::mem::replace(&mut self.announced, true) {
            batch.schema(schema);
        }
        let end = self.row.saturating_add(*room).min(txn.rows);
        for row in self.row..end {
            let mut writer = batch.insert(schema);
            assert!(writer.int(n as i64) && writer.int(row));
            writer.finish();
        }
        *room -= end - self.row;
        self.row = end;
        end == txn.rows
    }
}

#[async_trait]
impl Source for ServersSource {
    async fn begin(&mut self) -> Result<Position> {
        self.tip().await
    }

    async fn open(&mut self, start: &Position, held: &[Position]) -> Result<()> {
        let servers = self.servers.clone();
        let state = servers.lock();
        state.check(start)?;
        held.iter().try_for_each(|position| state.check(position))?;
        let Position::Binlog(p) = start else { return Err(Error::resync("Of another kind")) };
        (self.server, self.session, self.gtids) = (state.active, state.fail_overs, p.gtids.clone());
        (self.at, self.row, self.exact_from) = (0, 0, BEGIN);
        (self.announced, self.told) = (false, false);
        let here = (p.server == NAMES[state.active]).then(|| state.count_at(&p.file)).flatten();
        self.begun = match (&p.gtids, here) {
            (GtidSet::Mysql(_), here) => {
                self.exact_from = if here.is_some() { BEGIN } else { state.end_of(self.server) };
                Begun::BySet(p.gtids.clone())
            }
            (GtidSet::Mariadb(_) | GtidSet::Places, Some(count)) => {
                self.at = count;
                Begun::ByPlace
            }
            (GtidSet::Mariadb(set), None) => {
                self.exact_from = state.end_of(self.server);
                let index = |(domain, server, sequence)| {
                    let id = TxnId::Mariadb { domain, server, sequence };
                    let is_it = |logged: &Logged| state.txns[logged.txn].id == id;
                    let at = state.binlogs[self.server].iter().position(is_it);
                    at.map(|at| (domain, at)).ok_or_else(|| Error::resync("A GTID is not in the binlog"))
                };
                Begun::AfterLasts(set.lasts().iter().map(index).collect::<Result<_>>()?)
            }
            (GtidSet::Places, None) => return Err(Error::resync("Another server")),
        };
        Ok(())
    }

    async fn read(&mut self, batch: &mut BatchBuilder) -> Result<ReadOutcome> {
        let selection = Selection::new(&["bank.*"], &[]).expect("valid");
        let schema = self.db.table_reader().tables(&selection).await?[0].schema.clone();
        let slow = self.servers.lock().slow;
        if slow {
            pass(50).await;
        }
        loop {
            if let Some(outcome) = self.step(batch, &schema)? {
                return Ok(outcome);
            }
            pass(7).await;
        }
    }

    async fn acknowledge(&mut self, _position: &Position) -> Result<()> {
        Ok(())
    }

    async fn tip(&mut self) -> Result<Position> {
        Ok(self.servers.lock().tip())
    }

    fn distance_bytes(&self, _from: &Position, _to: &Position) -> Option<u64> {
        None
    }
}

pub type Running = (watch::Sender<bool>, JoinHandle<Result<()>>);

impl House {
    pub fn parts_of(&self, servers: &Servers) -> Parts {
        self.parts(Box::new(ServersSource::new(self, servers)))
    }

    /// A run in mode `stream` that reads the servers.
    pub fn stream(&self, servers: &Servers, until_caught_up: bool) -> Running {
        let (stop, stopped) = watch::channel(false);
        let settings = Settings { mode: Mode::Stream, until_caught_up, ..Settings::default() };
        (stop, tokio::spawn(run(self.parts_of(servers), settings, Arc::default(), stopped)))
    }
}
