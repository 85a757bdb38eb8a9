//! Smaller forms of a round that fails: fewer tables, transactions, rows, columns and kills, by halves, as long as it still fails.
//!
//! When statements meet is chance, so each form is tried twice before it is said to pass.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::pair::Outcome;
use super::plan::{Op, Plan, is_of_a_key};
use super::sql::Sql;

/// After this long the smallest form so far will do.
const SHRINK_S_MAX: u64 = 900;
const TRIES: usize = 2;

/// A round that fails, and how.
pub(crate) struct Smallest {
    pub plan: Plan,
    pub why: String,
    pub tries: usize,
}

/// A way to leave something out; nothing when there is nothing left of that kind.
type Cut = fn(&Plan, usize, usize) -> Option<Plan>;
const CUTS: &[Cut] = &[without_kills, with_tables, with_transactions, with_ops, with_rows, with_columns];

/// Searches for the smallest form that fails.
pub(crate) fn shrink(plan: Plan, why: String, mut round: impl FnMut(&Plan) -> Outcome<()>) -> Smallest {
    let began = Instant::now();
    let mut smallest = Smallest { plan, why, tries: 0 };
    let limit = Duration::from_secs(
        std::env::var("FRESHET_SHRINK_SECONDS").map_or(SHRINK_S_MAX, |text| text.parse().unwrap()),
    );
    loop {
        let mut is_smaller = false;
        for cut in CUTS {
            let mut parts = 2;
            while parts <= 32 {
                let mut found = false;
                for part in 0..parts {
                    if began.elapsed() > limit {
                        return smallest;
                    }
                    let Some(candidate) = cut(&smallest.plan, part, parts) else { continue };
                    smallest.tries += 1;
                    let failed = (0..TRIES).find_map(|_| round(&candidate).err());
                    if let Some(why) = failed {
                        println!(
                            "Still fails: {} transactions, {} tables",
                            transactions(&candidate),
                            tables(&candidate)
                        );
                        smallest.plan = candidate;
                        smallest.why = why;
                        (found, is_smaller) = (true, true);
                        break;
                    }
                }
                parts = if found { 2 } else { parts * 2 };
            }
        }
        if !is_smaller {
            return smallest;
        }
    }
}

fn transactions(plan: &Plan) -> usize {
    plan.waves.iter().flatten().map(|script| script.transactions.len()).sum()
}

fn tables(plan: &Plan) -> usize {
    plan.tables.iter().filter(|table| table.keep).count()
}

/// Leaves out the part of `count` things that has this number; nothing if that is none.
fn part(count: usize, part: usize, parts: usize) -> Option<BTreeSet<usize>> {
    let range = count * part / parts..count * (part + 1) / parts;
    (!range.is_empty()).then(|| range.collect())
}

fn without_kills(plan: &Plan, part: usize, parts: usize) -> Option<Plan> {
    let mut plan = plan.clone();
    match (part, parts) {
        (0, 2) if !plan.kills.iter().all(Vec::is_empty) => plan.kills = [Vec::new(), Vec::new()],
        (1, 2) if plan.ends_by_kill => plan.ends_by_kill = false,
        (0, 4) if !plan.waits => plan.waits = true,
        _ => return None,
    }
    Some(plan)
}

fn with_tables(plan: &Plan, number: usize, parts: usize) -> Option<Plan> {
    let kept: Vec<usize> = (0..plan.tables.len()).filter(|table| plan.tables[*table].keep).collect();
    let out = part(kept.len(), number, parts)?;
    if kept.len() < 2 || out.len() == kept.len() {
        return None;
    }
    let mut plan = plan.clone();
    for i in out {
        plan.tables[kept[i]].keep = false;
    }
    for script in plan.waves.iter_mut().flatten() {
        for transaction in &mut script.transactions {
            transaction.ops.retain(|op| table_of(op).is_none_or(|table| plan.tables[table].keep));
        }
        script.transactions.retain(|transaction| !transaction.ops.is_empty());
    }
    Some(plan)
}

fn table_of(op: &Op) -> Option<usize> {
    match op {
        Op::Insert { table, .. }
        | Op::Update { table, .. }
        | Op::Same { table, .. }
        | Op::Delete { table, .. }
        | Op::Rewrite { table, .. }
        | Op::Shift { table, .. }
        | Op::Swap { table, .. }
        | Op::Again { table, .. }
        | Op::Upsert { table, .. }
        | Op::Truncate { table }
        | Op::Many { table, .. } => Some(*table),
        Op::Savepoint { .. } | Op::Pause { .. } => None,
    }
}

fn with_transactions(plan: &Plan, number: usize, parts: usize) -> Option<Plan> {
    let out = part(transactions(plan), number, parts)?;
    let mut plan = plan.clone();
    let mut at = 0;
    for script in plan.waves.iter_mut().flatten() {
        script.transactions.retain(|_| {
            at += 1;
            !out.contains(&(at - 1))
        });
    }
    Some(plan)
}

/// Statements of transactions, once these are few.
fn with_ops(plan: &Plan, number: usize, parts: usize) -> Option<Plan> {
    let mut plan = plan.clone();
    let all: usize = plan.waves.iter().flatten().flat_map(|s| &s.transactions).map(|t| t.ops.len()).sum();
    let out = part(all, number, parts)?;
    let mut at = 0;
    for transaction in plan.waves.iter_mut().flatten().flat_map(|script| &mut script.transactions) {
        transaction.ops.retain(|_| {
            at += 1;
            !out.contains(&(at - 1))
        });
    }
    Some(plan)
}

fn with_rows(plan: &Plan, number: usize, parts: usize) -> Option<Plan> {
    let all: usize = plan.tables.iter().map(|table| table.rows.len()).sum();
    let out = part(all, number, parts)?;
    let mut plan = plan.clone();
    let mut at = 0;
    for table in &mut plan.tables {
        table.rows.retain(|_| {
            at += 1;
            !out.contains(&(at - 1))
        });
    }
    Some(plan)
}

/// Columns of no key.
fn with_columns(plan: &Plan, number: usize, parts: usize) -> Option<Plan> {
    let mut plan = plan.clone();
    let mut free = Vec::new();
    for (t, table) in plan.tables.iter().enumerate().filter(|(_, table)| table.keep) {
        let of_table = (1..table.columns.len()).filter(|c| table.columns[*c].keep && !is_of_a_key(table, *c));
        free.extend(of_table.map(|column| (t, column)));
    }
    for i in part(free.len(), number, parts)? {
        let (table, column) = free[i];
        plan.tables[table].columns[column].keep = false;
    }
    Some(plan)
}

/// Everything about it.
pub(crate) fn report(smallest: &Smallest) -> String {
    let Smallest { plan, why, tries } = smallest;
    let sql = Sql::new(plan);
    let cut = |text: String| -> String {
        let lines = text.lines().map(|line| line.chars().take(400).collect::<String>());
        lines.take(60).collect::<Vec<_>>().join("\n")
    };
    let mut text = format!(
        "{} failed. Seed {} (FRESHET_SEED={}), {tries} smaller forms tried; the smallest that fails:\n\n-- definitions\n{}\n-- rows\n{}\n",
        plan.direction.words(),
        plan.seed,
        plan.seed,
        sql.definitions(),
        cut(sql.rows())
    );
    text += &format!(
        "-- kills after {:?} ms, waits for consistency: {}, ends by a kill: {}, readers: {}\n",
        plan.kills, plan.waits, plan.ends_by_kill, plan.readers
    );
    for (wave, scripts) in plan.waves.iter().enumerate() {
        for (writer, script) in
            scripts.iter().enumerate().filter(|(_, script)| !script.transactions.is_empty())
        {
            text += &format!("-- wave {wave}, writer {writer}\n{}\n", cut(sql.script(script)));
        }
    }
    text + "\n" + why
}
