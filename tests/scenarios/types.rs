//! M1 to M20, R14: every type of MariaDB and MySQL with its edge values, by load and by stream, with and without a
//! key, against the text that `data/types.txt` expects in PostgreSQL.
//!
//! Each column of the table becomes a source table of its own, so that a failure names one column. A row of every
//! value is loaded, inserted, updated from NULL, updated from another value, and deleted.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use freshet_testkit::servers::Flavor;

use crate::kit::Scenario;

const TABLE: &str = include_str!("../data/types.txt");

/// How the rows' ids tell what happened to them; a value's number is added.
const LOADED: usize = 0;
const INSERTED: usize = 1_000;
const UPDATED_FROM_NULL: usize = 2_000;
const DELETED: usize = 3_000;
const UPDATED: usize = 4_000;

/// One column declaration with its values.
struct Case {
    declaration: String,
    target_type: String,
    values: Vec<(String, Option<String>)>,
}

impl Case {
    fn nullable(&self) -> bool {
        !self.declaration.contains("not null")
    }
}

fn cases(flavor: Flavor) -> Vec<Case> {
    let mut cases: Vec<(bool, Case)> = Vec::new();
    let own = match flavor {
        Flavor::MariaDb => "mariadb",
        Flavor::MySql => "mysql",
    };
    for line in TABLE.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(head) = line.strip_prefix("column ") {
            let mut parts = head.split('`');
            let flavors = parts.next().unwrap().trim();
            assert!(["both", "mariadb", "mysql"].contains(&flavors), "{line}");
            let declaration = expand(parts.next().unwrap(), |name| format!("'{name}'"));
            let target_type = parts.nth(1).unwrap().to_owned();
            cases.push((
                flavors == "both" || flavors == own,
                Case { declaration, target_type, values: vec![] },
            ));
        } else {
            let (literal, expected) = line.split_once(" => ").or_else(|| line.split_once(" =>")).unwrap();
            let expected = (expected != "NULL").then(|| expand(expected, str::to_owned));
            cases.last_mut().unwrap().1.values.push((literal.trim().to_owned(), expected));
        }
    }
    let mut cases: Vec<Case> =
        cases.into_iter().filter_map(|(wanted, case)| wanted.then_some(case)).collect();
    for case in cases.iter_mut().filter(|case| case.nullable()) {
        case.values.push(("NULL".to_owned(), None));
    }
    cases
}

/// Expands the table's short forms: `~s`, `{X*N}`, `{members N}`.
fn expand(text: &str, member: impl Fn(&str) -> String) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '~' => rest = expand_tilde(rest, &mut out),
            '{' => match expand_braces(rest, &member) {
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

fn expand_braces<'a>(rest: &'a str, member: &impl Fn(&str) -> String) -> Option<(String, &'a str)> {
    let (inner, after) = rest.split_once('}')?;
    if let Some(count) = inner.strip_prefix("members ") {
        let members: Vec<String> = (1..=count.parse().ok()?).map(|i: u32| member(&format!("m{i}"))).collect();
        return Some((members.join(","), after));
    }
    let (text, count) = inner.rsplit_once('*')?;
    Some((expand(text, str::to_owned).repeat(count.parse().ok()?), after))
}

const SESSION: &str = "set sql_mode='ALLOW_INVALID_DATES,NO_AUTO_VALUE_ON_ZERO', time_zone='+00:00';\n";

/// What stands in the tables before the load.
fn before_sql(cases: &[Case], key: &str) -> String {
    let mut sql = SESSION.to_owned();
    for (number, case) in cases.iter().enumerate() {
        let declaration = &case.declaration;
        writeln!(sql, "create table c{number} (id int not null{key}, v {declaration});").unwrap();
        for (i, (literal, _)) in case.values.iter().enumerate() {
            let start = if case.nullable() { "NULL" } else { &case.values[0].0 };
            let other = &case.values[(i + 1) % case.values.len()].0;
            writeln!(
                sql,
                "insert into c{number} values ({},{literal}),({},{start}),({},{literal}),({},{other});",
                LOADED + i,
                UPDATED_FROM_NULL + i,
                DELETED + i,
                UPDATED + i,
            )
            .unwrap();
        }
    }
    sql
}

/// What happens to them afterwards.
fn stream_sql(cases: &[Case]) -> String {
    let mut sql = SESSION.to_owned();
    for (number, case) in cases.iter().enumerate() {
        for (i, (literal, _)) in case.values.iter().enumerate() {
            let (inserted, from_null) = (INSERTED + i, UPDATED_FROM_NULL + i);
            let (deleted, updated) = (DELETED + i, UPDATED + i);
            writeln!(
                sql,
                "insert into c{number} values ({inserted},{literal});\n\
                 update c{number} set v={literal} where id={from_null};\n\
                 delete from c{number} where id={deleted};\n\
                 update c{number} set v={literal} where id={updated};"
            )
            .unwrap();
        }
    }
    sql
}

type Cells = BTreeMap<(usize, usize), Option<String>>;

fn expected(cases: &[Case], offsets: &[usize]) -> Cells {
    let mut cells = Cells::new();
    for (number, case) in cases.iter().enumerate() {
        for (i, (_, text)) in case.values.iter().enumerate() {
            cells.extend(offsets.iter().map(|offset| ((number, offset + i), text.clone())));
        }
    }
    cells
}

/// What PostgreSQL shows, each value as its type's own output, in hexadecimal on the way.
fn shown(scenario: &Scenario, cases: &[Case]) -> Cells {
    let mut sql = "set timezone='UTC'; set intervalstyle='postgres'; set bytea_output='hex';\n".to_owned();
    for number in 0..cases.len() {
        let value = "case when v is not null then encode(convert_to(format('%s',v),'UTF8'),'hex') end";
        writeln!(sql, "select {number}, id, {value} from c{number};").unwrap();
    }
    let mut cells = Cells::new();
    for line in scenario.pg(&sql).lines() {
        let mut parts = line.split('\t');
        let mut number = || parts.next().unwrap().parse::<usize>().unwrap();
        let place = (number(), number());
        let text = parts.next().unwrap();
        let text = (text != "NULL").then(|| from_hex(text));
        assert!(cells.insert(place, text).is_none(), "Row {place:?} is there twice");
    }
    cells
}

fn from_hex(text: &str) -> String {
    let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    String::from_utf8((0..text.len()).step_by(2).map(digit).collect()).unwrap()
}

fn differences(cases: &[Case], shown: &Cells, expected: &Cells, what: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for place in shown.keys().chain(expected.keys().filter(|place| !shown.contains_key(place))) {
        let (shown, expected) = (shown.get(place), expected.get(place));
        if shown != expected {
            let case = &cases[place.0];
            let literal = &case.values[place.1 % 1_000].0;
            let short = |cell: Option<&Option<String>>| match cell {
                None => "no row".to_owned(),
                Some(None) => "NULL".to_owned(),
                Some(Some(text)) => format!("{text:?}").chars().take(300).collect(),
            };
            let declaration: String = case.declaration.chars().take(60).collect();
            let (expected, shown) = (short(expected), short(shown));
            let literal: String = literal.chars().take(80).collect();
            lines.push(format!(
                "{what}: {declaration} {literal} (row {}): expected {expected}, shown {shown}",
                place.1
            ));
        }
    }
    lines
}

fn wrong_types(scenario: &Scenario, cases: &[Case]) -> Vec<String> {
    let sql = "select substr(relname,2), format_type(atttypid, atttypmod) from pg_attribute \
               join pg_class c on c.oid = attrelid join pg_namespace n on n.oid = relnamespace \
               where nspname = 'public' and relkind = 'r' and attname = 'v'";
    let shown = scenario.pg(sql);
    let shown: BTreeMap<usize, &str> = shown
        .lines()
        .map(|line| line.split_once('\t').unwrap())
        .map(|(number, text)| (number.parse().unwrap(), text))
        .collect();
    let wrong = |(number, case): (usize, &Case)| {
        let found = shown.get(&number).copied();
        let text = format!("{}: expected {}, found {found:?}", case.declaration, case.target_type);
        (found != Some(&case.target_type)).then_some(text)
    };
    cases.iter().enumerate().filter_map(wrong).collect()
}

fn every_type(flavor: Flavor, name: &str, key: &str) {
    let mut scenario = Scenario::new(flavor, name);
    scenario.settings.sink_more = "policies: { invalid_dates: null }".into();
    let cases = cases(flavor);
    scenario.my(&before_sql(&cases, key));
    scenario.catch_up();
    let mut wrong = wrong_types(&scenario, &cases);
    let at_rest = [LOADED, DELETED];
    let mut loaded = shown(&scenario, &cases);
    loaded.retain(|place, _| at_rest.contains(&(place.1 / 1_000 * 1_000)));
    wrong.extend(differences(&cases, &loaded, &expected(&cases, &at_rest), "load"));
    scenario.my(&stream_sql(&cases));
    scenario.catch_up();
    let offsets = [LOADED, INSERTED, UPDATED_FROM_NULL, UPDATED];
    wrong.extend(differences(&cases, &shown(&scenario, &cases), &expected(&cases, &offsets), "stream"));
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn m1_to_m20_every_type_of_mariadb_by_load_and_stream() {
    every_type(Flavor::MariaDb, "types", " primary key");
}

#[test]
fn m1_to_m20_every_type_of_mysql_by_load_and_stream() {
    every_type(Flavor::MySql, "types", " primary key");
}

#[test]
fn r7_every_type_of_mariadb_without_a_key() {
    every_type(Flavor::MariaDb, "keyless", "");
}

#[test]
fn r7_every_type_of_mysql_without_a_key() {
    every_type(Flavor::MySql, "keyless", "");
}

#[test]
fn short_forms_of_the_table_expand() {
    assert_eq!(expand("{a~s*2}~~~81{\"x\": {members 2}", str::to_owned), "a a ~\u{81}{\"x\": m1,m2");
}
