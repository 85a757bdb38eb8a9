//! The hand-over by two bounds (ALGORITHMS 2) as a random model: histories whose commits become visible late, keys that
//! move, values that updates lack, chunks by key of different moments, chunks that are read again. Windows, steps and the
//! question whether F_high is passed are the engine's own; what is modelled is when things are read.
//!
//! With the rules as they are no history diverges. With one of them bent many do, which is asserted too: else the model
//! would show nothing.

use crate::history::{ACCOUNTS, Flavour, History, Row, Writer};
use crate::source::put;
use crate::target::{Contents, Rows, apply_step, image, sum};
use crate::world::Dice;
use freshet_core::codec::BatchBuilder;
use freshet_core::log::Record;
use freshet_core::sink::TablePlan;
use freshet_core::window::{Step, StepKind, Window};
use freshet_core::{Error, ErrorKind, Mark, Offset, Result, SchemaMap};
use freshet_pipeline::net::{Held, Rigour, Tables, WindowBuilder};
use freshet_pipeline::retry::passed_high;
use freshet_testkit::servers::seed;
use std::sync::Arc;

const HISTORIES: u64 = 1000;

/// The rules of a hand-over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rules {
    /// As they are meant: a value that cannot be put together is read again as a chunk of its own.
    Whole,
    /// As the engine has them today: there it stops by name.
    Stopping,
    /// F_low is the last commit, seen or not.
    LowUnseen,
    /// A chunk is read again in a view that does not show all of F_low.
    OldView,
    /// F_high is taken before the last few reads.
    HighEarly,
    /// Every change is strict.
    Strict,
    /// A moved row's value is that which is under its old key.
    OldKey,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Equal,
    Stopped,
    Diverged,
}

struct Model {
    rules: Rules,
    dice: Dice,
    history: History,
    tables: Tables,
    target: Contents,
    /// Commits so far, and those of them that a reader sees.
    tip: usize,
    visible: usize,
    /// Steps of time for which no more of them become visible: a synchronous replica that does not answer.
    stalled: usize,
    low: usize,
    high: usize,
    stopped: bool,
    /// The row that the step before took away.
    removed: Option<Row>,
}

impl Model {
    fn new(rules: Rules, seed: u64) -> Self {
        let mut dice = Dice::new(seed, 7);
        let mut history = History::new(Flavour::Postgres, false);
        let mut writer = Writer::new(dice.clone(), true);
        writer.moves = true;
        for _ in 0..20 + dice.below(24) {
            let changes = writer.transaction(&history);
            history.commit(changes);
        }
        let plans: Vec<TablePlan> = history
            .infos
            .iter()
            .map(|info| TablePlan { info: Arc::new(info.clone()), target: info.name().clone() })
            .collect();
        let (tip, target) = (dice.below(10), history.infos.iter().map(|_| Arc::default()).collect());
        Self {
            rules,
            dice,
            tables: Tables::new(&plans, |_| false),
            history,
            target: Contents { tables: target, ..Contents::default() },
            tip,
            visible: tip,
            stalled: 0,
            low: 0,
            high: 0,
            stopped: false,
            removed: None,
        }
    }

    /// Time passes: commits, and perhaps some of them become visible.
    fn pass(&mut self) {
        self.tip = (self.tip + self.dice.below(3)).min(self.history.len());
        if self.stalled > 0 {
            self.stalled -= 1;
        } else if self.dice.one_in(4) {
            self.stalled = self.dice.below(16);
        } else {
            self.visible += self.dice.below(self.tip - self.visible + 1);
        }
    }

    fn run(mut self) -> Verdict {
        (0..3).for_each(|_| self.pass());
        self.low = if self.rules == Rules::LowUnseen { self.tip } else { self.visible };
        self.load();
        let outcome = self.follow();
        match outcome {
            _ if self.stopped => Verdict::Stopped,
            Ok(true) => Verdict::Equal,
            Ok(false) | Err(_) => Verdict::Diverged,
        }
    }

    /// Reads chunks by key, each as of a moment of its own.
    fn load(&mut self) {
        let mut bounds = vec![i64::MIN, 3, 6, 10, i64::MAX];
        bounds.remove(1 + self.dice.below(3));
        let ranges = bounds.windows(2).flat_map(|r| (0..2).map(|table| (table, r[0], r[1])));
        let mut chunks: Vec<(usize, i64, i64)> = ranges.collect();
        let mut most = self.low;
        while !chunks.is_empty() {
            let (table, lower, upper) = chunks.swap_remove(self.dice.below(chunks.len()));
            if chunks.len() > 2 {
                self.high = self.tip;
            }
            // Some are read, lost, and read again later.
            (0..1 + self.dice.below(4)).for_each(|_| self.pass());
            let stale = if self.rules == Rules::OldView { self.dice.below(4) } else { 0 };
            let moment = self.visible.saturating_sub(stale);
            let rows = self.history.states[moment].tables[table].clone();
            let inside = |row: &&Row| row[0] > Some(lower) && row[0] <= Some(upper);
            Arc::make_mut(&mut self.target.tables[table]).extend(rows.iter().filter(inside).cloned());
            most = most.max(moment);
        }
        if self.rules != Rules::HighEarly {
            // Both are at or past what any chunk saw.
            self.high = if self.dice.one_in(2) { most } else { self.tip };
        }
        self.high = self.high.max(self.low);
    }

    /// Applies the stream from F_low; whether the target is the source at F_high and everywhere after it.
    fn follow(&mut self) -> Result<bool> {
        let mut at = self.low;
        let mut is_equal = at < self.high || self.is_at(at);
        while at < self.history.len() {
            let (from, to) = (at, (at + 1 + self.dice.below(3)).min(self.history.len()));
            (self.tip, self.visible) = (self.tip.max(to), self.visible.max(to));
            self.window(from, to)?;
            at = to;
            is_equal &= at < self.high || self.is_at(at);
        }
        Ok(is_equal)
    }

    fn is_at(&self, n: usize) -> bool {
        sum(&self.target) == self.history.states[n].sum
    }

    fn window(&mut self, from: usize, to: usize) -> Result<()> {
        let high = self.history.position(self.high);
        let passed = passed_high(&self.history.position(from), &high);
        let rigour = if passed || self.rules == Rules::Strict { Rigour::Strict } else { Rigour::Idempotent };
        let before = self.target.clone();
        match self.apply(from, to, rigour, false) {
            Err(e) if *e.kind() == ErrorKind::Reorder && !self.stopped => {
                self.target = before;
                self.apply(from, to, rigour, true)
            }
            other => other,
        }
    }

    fn apply(&mut self, from: usize, to: usize, rigour: Rigour, ordered: bool) -> Result<()> {
        let position = self.history.position(from);
        let mut held = Held::new(Mark { next: Offset(from as u64), position: position.clone() }, position);
        let mut builder = WindowBuilder::new(&self.tables, rigour, &mut held);
        for n in from..to {
            builder.add(record(&self.history, n)?)?;
        }
        let window = builder.finish(ordered)?.0;
        self.target.consistent = rigour == Rigour::Strict;
        for step in &window.steps {
            self.step(&window, step, to)?;
        }
        Ok(())
    }

    fn step(&mut self, window: &Window, step: &Step, to: usize) -> Result<()> {
        let number = self.history.infos.iter().position(|info| *info.name() == step.table);
        let number = number.ok_or_else(|| Error::internal("A table that is not there"))?;
        let removed = self.removed.take();
        if let StepKind::DeleteIfThere(images) = &step.kind
            && let [one] = images[..]
        {
            let row: Row = image(window.row(one)?)?.into_iter().map(Option::flatten).collect();
            self.removed = self.find(number, &row);
        }
        let StepKind::Patch(images) = &step.kind else {
            return apply_step(&mut self.target, number, window, step);
        };
        for one in images {
            let cells = image(window.row(*one)?)?;
            let key: Row = cells.iter().map(|cell| cell.flatten()).collect();
            if self.find(number, &key).is_some() {
                let kind = StepKind::Patch(vec![*one]);
                let step = Step { table: step.table.clone(), kind };
                apply_step(&mut self.target, number, window, &step)?;
                continue;
            }
            let row = match (self.rules, &removed) {
                (Rules::Stopping, _) => {
                    self.stopped = true;
                    return Err(Error::internal("A row to change in part is not there"));
                }
                (Rules::OldKey, Some(old)) if number == ACCOUNTS => {
                    Some(cells.iter().zip(old).map(|(cell, old)| cell.unwrap_or(*old)).collect())
                }
                _ => self.read_again(number, &key, to),
            };
            Arc::make_mut(&mut self.target.tables[number]).extend(row);
        }
        Ok(())
    }

    fn find(&mut self, table: usize, row: &Row) -> Option<Row> {
        let rows = Arc::make_mut(&mut self.target.tables[table]);
        let rows = Rows { table, consistent: false, rows };
        rows.find(row).map(|at| rows.rows[at].clone())
    }

    /// One key as a chunk of its own, in a view that shows what is being applied; F_high moves up.
    fn read_again(&mut self, table: usize, key: &Row, to: usize) -> Option<Row> {
        self.pass();
        let moment = self.visible.max(to);
        self.high = self.high.max(self.tip);
        self.history.states[moment].tables[table].iter().find(|row| row[0] == key[0]).cloned()
    }
}

/// The record of the transaction after the first `n`.
fn record(history: &History, n: usize) -> Result<Record> {
    let mut batch = BatchBuilder::new();
    batch.begin(&history.id(n + 1), 0);
    let mut announced = Vec::new();
    for (table, change) in &history.txns[n].changes {
        put(&mut batch, &history.infos[*table].schema, *table, change, &mut announced);
    }
    batch.commit("", &history.place(n + 1), 0);
    let mut schemas = SchemaMap::default();
    let batch = batch.seal();
    batch.collect_schemas(&mut schemas)?;
    let (offset, next) = (Offset(n as u64), Offset(n as u64 + 1));
    Ok(Record { offset, next, batch, position: Some(history.position(n + 1)), schemas })
}

/// How many histories end in a verdict; the first of them is told.
fn count(rules: Rules, histories: u64, verdict: Verdict) -> usize {
    let base = seed();
    let seeds = (0..histories).map(|n| base.wrapping_add(n));
    let found: Vec<u64> = seeds.filter(|seed| Model::new(rules, *seed).run() == verdict).collect();
    println!("{rules:?}: {} of {histories} histories {verdict:?}, first {:?}", found.len(), found.first());
    found.len()
}

fn histories() -> u64 {
    let asked = std::env::var("FRESHET_HISTORIES").ok().and_then(|text| text.parse().ok());
    asked.unwrap_or(HISTORIES)
}

#[test]
fn r1_r2_no_history_diverges_between_the_two_bounds() {
    assert_eq!(count(Rules::Whole, histories(), Verdict::Diverged), 0);
    assert_eq!(count(Rules::Stopping, histories(), Verdict::Diverged), 0);
}

/// Each in at least so many of so many.
#[test]
fn r1_r2_every_bent_rule_of_the_hand_over_diverges() {
    for (rules, of, at_least) in [
        (Rules::LowUnseen, 300, 20),
        (Rules::OldView, 300, 15),
        (Rules::HighEarly, 500, 8),
        (Rules::Strict, 100, 40),
        (Rules::OldKey, 1200, 2),
    ] {
        let diverged = count(rules, of, Verdict::Diverged);
        assert!(diverged >= at_least, "{rules:?}: only {diverged} of {of} diverged");
    }
}
