//! The tables of `tests/data/types`: types of a source, values in its SQL, and what each target must print of them.
//!
//! Not the place of any expectation: those are in the data, by hand. How the files are written stands at their heads.

use crate::ends::Kind;

/// A type of a source.
pub(crate) struct Column {
    /// What `create table` says.
    pub declaration: String,
    /// What the target's catalogue says of it.
    target: [Cell; 3],
    pub key: Key,
    pub values: Vec<Value>,
}

/// Whether a type is tried as a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    Never,
    /// Together with others.
    Part,
    /// By its first characters.
    Prefix,
    Whole,
}

/// A value of it.
#[derive(Clone)]
pub(crate) struct Value {
    /// In the source's SQL.
    pub literal: String,
    target: [Cell; 3],
}

/// What is expected at a target.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell {
    /// What the source's client prints.
    AsSource,
    Null,
    Text(String),
    /// An error that says these words; with the policy for such values, perhaps something else.
    Refused(String, Option<Box<Cell>>),
}

impl Column {
    pub(crate) fn is_nullable(&self) -> bool {
        !self.declaration.contains("not null")
    }

    pub(crate) fn target(&self, to: Kind) -> &Cell {
        &self.target[place(to)]
    }
}

impl Value {
    pub(crate) fn target(&self, to: Kind) -> &Cell {
        &self.target[place(to)]
    }
}

fn place(kind: Kind) -> usize {
    match kind {
        Kind::Postgres => 0,
        Kind::MySql => 1,
        Kind::MariaDb => 2,
    }
}

/// The types of a source.
pub(crate) fn columns(from: Kind) -> Vec<Column> {
    let text = match from {
        Kind::MariaDb | Kind::MySql => include_str!("../../data/types/my.txt"),
        Kind::Postgres => include_str!("../../data/types/postgres.txt"),
    };
    let mut columns: Vec<(bool, Column)> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.strip_prefix("column ") {
            Some(head) => columns.push(column(head, from)),
            None => columns.last_mut().unwrap().1.values.push(value(line, from)),
        }
    }
    let own = columns.into_iter().filter(|(is_own, _)| *is_own);
    own.map(|(_, column)| column).collect()
}

fn column(head: &str, from: Kind) -> (bool, Column) {
    let parts: Vec<&str> = head.split('`').collect();
    let words: Vec<&str> = parts[0].split_whitespace().collect();
    let is_known =
        |word: &&str| ["both", "mariadb", "mysql", "postgres", "key", "part", "prefix"].contains(word);
    assert!(words.iter().all(is_known), "{head}");
    let is_own = words.contains(&from.word()) || from.is_my() && words.contains(&"both");
    let declaration = expand(parts[1], &|name| format!("'{name}'"));
    let target = targets(parts.iter().skip(3).step_by(2).copied(), from);
    let keys = [("key", Key::Whole), ("part", Key::Part), ("prefix", Key::Prefix)];
    let key = keys.iter().find(|(word, _)| words.contains(word)).map_or(Key::Never, |(_, key)| *key);
    (is_own, Column { declaration, target, key, values: vec![] })
}

fn value(line: &str, from: Kind) -> Value {
    let (literal, cells) = line.split_once(" =>").unwrap_or_else(|| panic!("No => in {line}"));
    Value { literal: literal.trim_matches(' ').to_owned(), target: targets(cells.split(" =>"), from) }
}

/// What is not written of a target is as at the one before; of the source's own family, as at the source.
fn targets<'a>(cells: impl Iterator<Item = &'a str>, from: Kind) -> [Cell; 3] {
    let mut cells = cells.map(cell);
    let first = cells.next().unwrap_or(Cell::AsSource);
    let second = cells.next().unwrap_or(if from.is_my() { Cell::AsSource } else { first.clone() });
    let third = cells.next().unwrap_or_else(|| second.clone());
    assert_eq!(cells.next(), None, "More than three targets");
    [first, second, third]
}

fn cell(text: &str) -> Cell {
    let text = text.trim_matches(' ');
    match (text, text.strip_prefix('!')) {
        ("=", _) => Cell::AsSource,
        ("NULL", _) => Cell::Null,
        (_, Some(words)) => match words.split_once(" ?") {
            Some((words, other)) => Cell::Refused(words.to_owned(), Some(Box::new(cell(other)))),
            None => Cell::Refused(words.to_owned(), None),
        },
        _ => Cell::Text(expand(text, &str::to_owned)),
    }
}

/// Expands the short forms: `~s`, `{X*N}`, `{members N}`.
fn expand(text: &str, member: &dyn Fn(&str) -> String) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '~' => rest = expand_tilde(rest, &mut out),
            '{' => match expand_braces(rest, member) {
                Some((text, after)) => {
                    out += &text;
                    rest = after;
                }
                None => out.push('{'),
            },
            c => out.push(c),
        }
    }
    out
}

fn expand_tilde<'a>(rest: &'a str, out: &mut String) -> &'a str {
    let (one, after) = rest.split_at(1);
    match one {
        "s" => out.push(' '),
        "n" => out.push('\n'),
        "t" => out.push('\t'),
        "e" => {}
        "~" => out.push('~'),
        _ => {
            let (code, after) = rest.split_at(2);
            out.push(char::from_u32(u32::from_str_radix(code, 16).unwrap()).unwrap());
            return after;
        }
    }
    after
}

fn expand_braces<'a>(rest: &'a str, member: &dyn Fn(&str) -> String) -> Option<(String, &'a str)> {
    let (inner, after) = rest.split_once('}')?;
    if let Some(count) = inner.strip_prefix("members ") {
        let members: Vec<String> = (1..=count.parse().ok()?).map(|i: u32| member(&format!("m{i}"))).collect();
        return Some((members.join(","), after));
    }
    let (text, count) = inner.rsplit_once('*')?;
    Some((expand(text, &str::to_owned).repeat(count.parse().ok()?), after))
}

#[test]
fn short_forms_of_the_table_expand() {
    assert_eq!(expand("{a~s*2}~~~81{\"x\": {members 2}", &str::to_owned), "a a ~\u{81}{\"x\": m1,m2");
}

#[test]
fn what_a_line_leaves_out_is_as_at_the_target_before() {
    let text = |text: &str| Cell::Text(text.to_owned());
    let value = value("1 => a => b", Kind::Postgres);
    assert_eq!(value.target, [text("a"), text("b"), text("b")]);
    let (is_own, column) = column("both key `int` -> `integer`", Kind::MySql);
    assert!(is_own && column.key == Key::Whole && column.is_nullable());
    assert_eq!(column.target, [text("integer"), Cell::AsSource, Cell::AsSource]);
    assert_eq!(cell("!words here ?NULL"), Cell::Refused("words here".into(), Some(Box::new(Cell::Null))));
}
