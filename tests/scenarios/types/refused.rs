//! Types and values that a target refuses: the pipeline stops, names table and column, and says the words of the data.
//!
//! Of values that become something else by a policy one of each type is enough: that all are told is seen with the
//! policy, in the tables of `mod.rs`. In the stream one of each kind of refusal is.

use super::print::session;
use super::table::{Cell, Column, Key, Value, columns};
use super::{Direction, KEY_PREFIX, catch_up};
use crate::ends::Kind;
use crate::kit::assert_failed;
use crate::pipeline::Pipeline;
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// Exit codes of what is not supported, and of what stops a table.
const UNSUPPORTED: i32 = 6;
const TABLE: i32 = 7;

/// A value that is refused, in a table of its own: its number.
struct Case<'c> {
    column: &'c Column,
    value: &'c Value,
    words: &'c str,
    /// Whether a policy makes something else of it.
    has_policy: bool,
}

impl Case<'_> {
    fn insert(&self, at: usize) -> String {
        format!("insert into r{at} values (1, {});\n", self.value.literal)
    }
}

fn cases(columns: &[Column], to: Kind) -> Vec<Case<'_>> {
    let mut cases = Vec::new();
    for column in columns {
        let mut has_one = false;
        for value in &column.values {
            if let Cell::Refused(words, other) = value.target(to) {
                let has_policy = other.is_some();
                if !(has_policy && has_one) {
                    cases.push(Case { column, value, words, has_policy });
                }
                has_one |= has_policy;
            }
        }
    }
    cases
}

pub(super) fn check(direction: &Direction) {
    let all = columns(direction.from);
    let (types, values): (Vec<Column>, Vec<Column>) =
        all.into_iter().partition(|column| matches!(column.target(direction.to), Cell::Refused(..)));
    let cases = cases(&values, direction.to);
    let is_prefix = |column: &&Column| column.key == Key::Prefix && direction.to.is_my();
    let keys: Vec<&Column> = values.iter().filter(is_prefix).collect();
    for column in &types {
        let Cell::Refused(words, _) = column.target(direction.to) else { continue };
        refused_table(direction, &format!("id int primary key, col_x {}", column.declaration), words);
    }
    for column in keys {
        let columns = format!("col_x {} not null, primary key (col_x({KEY_PREFIX}))", column.declaration);
        refused_table(direction, &columns, "it is part of the key and its type");
    }
    if !cases.is_empty() {
        let mut pipeline = direction.pipeline("refused");
        let policies = std::mem::take(&mut pipeline.sink_more);
        load(&pipeline, direction.from, &cases);
        stream(&mut pipeline, direction.from, &cases, &policies);
    }
}

/// A table that cannot be made.
fn refused_table(direction: &Direction, columns: &str, words: &str) {
    let pipeline = direction.pipeline("refused");
    pipeline.source.sql(&format!("create table t ({columns})"));
    let exit = pipeline.freshet(&["run", "--until", "caught-up"]);
    assert_failed(&exit, UNSUPPORTED, &["col_x", words]);
}

/// Each stops the load until it is gone. Which is first is the readers' to say.
fn load(pipeline: &Pipeline, from: Kind, cases: &[Case<'_>]) {
    let mut sql = session(from).to_owned();
    for (at, case) in cases.iter().enumerate() {
        let declaration = &case.column.declaration;
        write!(sql, "create table r{at} (id int primary key, col_x {declaration});\n{}", case.insert(at))
            .unwrap();
    }
    pipeline.source.sql(&sql);
    let mut rest: BTreeSet<usize> = (0..cases.len()).collect();
    while !rest.is_empty() {
        let exit = pipeline.freshet(&["run", "--until", "caught-up"]);
        let error =
            exit.stderr.lines().find(|line| line.starts_with("error: ")).unwrap_or_default().to_owned();
        let named = |at: &usize| error.split([' ', ',', ':']).any(|word| word.ends_with(&format!(".r{at}")));
        let Some(at) = rest.iter().copied().find(named) else {
            panic!("{}: {:?} are still to be refused: {}", pipeline.name, rest, exit.stderr)
        };
        assert_failed(&exit, TABLE, &["col_x", cases[at].words]);
        pipeline.source.sql(&format!("delete from r{at}"));
        rest.remove(&at);
    }
    catch_up(pipeline);
}

/// One of each kind of refusal; a policy lets the pipeline go on, so those without one are last.
fn stream(pipeline: &mut Pipeline, from: Kind, cases: &[Case<'_>], policies: &str) {
    let kinds: BTreeSet<(bool, &str)> = cases.iter().map(|case| (!case.has_policy, case.words)).collect();
    let is_of = |case: &&Case<'_>, kind: &(bool, &str)| (!case.has_policy, case.words) == *kind;
    for kind in kinds {
        let at = cases.iter().position(|case| is_of(&case, &kind)).unwrap();
        pipeline.source.sql(&format!("{}{}", session(from), cases[at].insert(at)));
        let exit = pipeline.freshet(&["run", "--until", "caught-up"]);
        assert_failed(&exit, TABLE, &[&format!(".r{at}"), "col_x", kind.1]);
        if kind.0 {
            return;
        }
        pipeline.sink_more = policies.to_owned();
        catch_up(pipeline);
        pipeline.sink_more = String::new();
    }
}
