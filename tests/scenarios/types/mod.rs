//! M1 to M20, G1 to G9, G11, G12: every type of each source with its edge values, by load and by stream, at each target, against
//! the text that `tests/data/types` expects there.
//!
//! Types stand side by side in wide tables, once with a key (`k`) and once without (`w`), and those that may be a key
//! as that (`p`). A value is loaded, inserted, updated from NULL and from another value, set to NULL,
//! moved to another key and deleted. Values that a target refuses stop the pipeline by name (`refused.rs`).
//! Databases of PostgreSQL print in another way and zone by default, and freshet lives in one: nothing may come of it.

use crate::ends::Kind;
use crate::kit::DEADLINE;
use crate::pipeline::Pipeline;
use freshet_testkit::servers::Freshet;
use print::{Printed, session};
use std::fmt::Write as _;
use table::{Cell, Column, Key, Value, columns};

mod print;
mod refused;
mod table;

/// Types side by side in one table.
const WIDTH: usize = 16;
/// Types side by side in one key, for those that are no key by themselves.
const KEY_WIDTH: usize = 3;
/// Characters, or bytes, of a key of MariaDB or MySQL that is a prefix.
const KEY_PREFIX: usize = 4;
/// Characters of a text that may be a key everywhere.
const KEY_CHARS_MAX: usize = 250;

/// How the rows' numbers tell what happens to them; a value's number is added.
const LOADED: usize = 0;
const INSERTED: usize = 1_000;
const FROM_NULL: usize = 2_000;
const DELETED: usize = 3_000;
const FROM_OTHER: usize = 4_000;
const MOVED: usize = 5_000;
const MOVED_TO: usize = 6_000;
const TO_NULL: usize = 7_000;
/// What an update adds to the number in a table whose key is the value.
const COUNTED: usize = 100;

/// A source, a target and what goes between them.
struct Direction {
    from: Kind,
    to: Kind,
    columns: Vec<Column>,
}

/// What a column has in a row.
#[derive(Clone, Copy)]
enum Content<'c> {
    Null,
    Value(&'c Value),
}

impl Content<'_> {
    fn literal(&self) -> &str {
        match self {
            Content::Null => "null",
            Content::Value(value) => &value.literal,
        }
    }

    fn expected(&self, to: Kind, at_source: Option<&Option<String>>) -> Option<String> {
        let Content::Value(value) = self else { return None };
        expected(value.target(to), at_source)
    }
}

fn expected(cell: &Cell, at_source: Option<&Option<String>>) -> Option<String> {
    match cell {
        Cell::AsSource => at_source.expect("no such row at the source").clone(),
        Cell::Null => None,
        Cell::Text(text) => Some(text.clone()),
        Cell::Refused(_, Some(other)) => expected(other, at_source),
        Cell::Refused(words, None) => panic!("what is refused ({words}) stands in no table of these"),
    }
}

impl Column {
    /// What the column has in the row of a number.
    fn content(&self, row: usize) -> Content<'_> {
        let at = |number: usize| Content::Value(&self.values[number % self.values.len()]);
        let (way, number) = (row / 1_000 * 1_000, row % 1_000);
        let is_null = self.is_nullable() && number == self.values.len();
        match (way, self.is_nullable()) {
            (TO_NULL, true) => Content::Null,
            (TO_NULL, false) => at(0),
            _ if is_null => Content::Null,
            _ => at(number),
        }
    }

    /// What it has before the row is changed.
    fn content_before(&self, row: usize) -> Content<'_> {
        match (row / 1_000 * 1_000, self.is_nullable()) {
            (FROM_NULL, true) => Content::Null,
            (FROM_NULL, false) => self.content(0),
            (FROM_OTHER, _) => self.content(row % 1_000 + 1),
            (TO_NULL, _) => self.content(row % 1_000),
            _ => self.content(row),
        }
    }
}

/// A wide table.
struct Wide<'c> {
    name: String,
    columns: Vec<&'c Column>,
}

impl Wide<'_> {
    /// How many rows of each way there are: every value of each column, and NULL.
    fn rows(&self) -> usize {
        self.columns.iter().map(|column| column.values.len() + 1).max().unwrap_or(0)
    }

    fn insert(&self, row: usize, content: impl Fn(&Column) -> String) -> String {
        let list: Vec<String> = self.columns.iter().map(|column| content(column)).collect();
        format!("insert into {} values ({row}, {});\n", self.name, list.join(", "))
    }

    fn create(&self, from: Kind) -> String {
        let key = if self.name.starts_with('k') { "not null primary key" } else { "not null" };
        let own = self.columns.iter().enumerate();
        let list: Vec<String> = own.map(|(at, column)| format!("c{at} {}", column.declaration)).collect();
        let mut sql = format!("create table {} (id int {key}, {});\n", self.name, list.join(", "));
        if from == Kind::Postgres && self.name.starts_with('w') {
            writeln!(sql, "alter table {} replica identity full;", self.name).unwrap();
        }
        sql
    }

    fn before(&self) -> String {
        let mut sql = String::new();
        for way in [LOADED, FROM_NULL, DELETED, FROM_OTHER, MOVED, TO_NULL] {
            for row in way..way + self.rows() {
                sql += &self.insert(row, |column| column.content_before(row).literal().to_owned());
            }
        }
        sql
    }

    fn changes(&self) -> String {
        let name = &self.name;
        let mut sql = String::new();
        for row in INSERTED..INSERTED + self.rows() {
            sql += &self.insert(row, |column| column.content(row).literal().to_owned());
        }
        for way in [FROM_NULL, FROM_OTHER, TO_NULL] {
            for row in way..way + self.rows() {
                let own = self.columns.iter().enumerate();
                let set = own.map(|(at, column)| format!("c{at} = {}", column.content(row).literal()));
                let set: Vec<String> = set.collect();
                writeln!(sql, "update {name} set {} where id = {row};", set.join(", ")).unwrap();
            }
        }
        let moved = MOVED_TO - MOVED;
        writeln!(sql, "update {name} set id = id + {moved} where id between {MOVED} and {};", MOVED + 999)
            .unwrap();
        writeln!(sql, "delete from {name} where id between {DELETED} and {};", DELETED + 999).unwrap();
        sql
    }

    /// How the target differs.
    fn differences(&self, direction: &Direction, ends: &[Printed; 2], is_load: bool) -> Vec<String> {
        let ways: &[usize] = match is_load {
            true => &[LOADED, FROM_NULL, DELETED, FROM_OTHER, MOVED, TO_NULL],
            false => &[LOADED, INSERTED, FROM_NULL, FROM_OTHER, MOVED_TO, TO_NULL],
        };
        let rows: Vec<u32> =
            ways.iter().flat_map(|way| *way..way + self.rows()).map(|row| row as u32).collect();
        let mut lines = Vec::new();
        if ends[1].rows(&self.name) != rows {
            lines.push(format!("{}: rows {:?}, expected {rows:?}", self.name, ends[1].rows(&self.name)));
        }
        for (at, column) in self.columns.iter().enumerate() {
            for row in &rows {
                let number = *row as usize;
                let content = if is_load { column.content_before(number) } else { column.content(number) };
                lines.extend(difference(
                    direction,
                    ends,
                    (&self.name, &format!("c{at}"), *row),
                    column,
                    content,
                ));
            }
        }
        lines
    }
}

/// How a cell of the target differs from what is expected.
fn difference(
    direction: &Direction,
    [source, target]: &[Printed; 2],
    (table, name, row): (&str, &str, u32),
    column: &Column,
    content: Content<'_>,
) -> Option<String> {
    let shown = target.cell(table, row, name)?;
    let expected = content.expected(direction.to, source.cell(table, row, name));
    if target.is_same(table, name, shown, &expected) {
        return None;
    }
    let short = |text: &str| text.chars().take(300).collect::<String>();
    let cell =
        |cell: &Option<String>| cell.as_deref().map_or("NULL".to_owned(), |text| short(&format!("{text:?}")));
    let (declaration, literal) = (short(&column.declaration), short(content.literal()));
    Some(format!(
        "{table} {row}: {declaration} {literal}: expected {}, shown {}",
        cell(&expected),
        cell(shown)
    ))
}

/// A table whose key is a value of each of its columns.
struct Keyed<'c> {
    name: String,
    columns: Vec<(&'c Column, Vec<&'c Value>)>,
}

impl Keyed<'_> {
    fn rows(&self) -> usize {
        self.columns.iter().map(|(_, values)| values.len()).max().unwrap_or(0)
    }

    /// What each column has in a row, in SQL.
    fn literals(&self, row: usize) -> Vec<&str> {
        self.columns.iter().map(|(_, values)| values[row % values.len()].literal.as_str()).collect()
    }

    fn insert(&self, from: Kind, row: usize) -> String {
        let (name, list) = (&self.name, self.literals(row).join(", "));
        // Whether two of them are one key is the source's to say.
        match from {
            Kind::Postgres => format!("insert into {name} values ({row}, {list}) on conflict do nothing;\n"),
            Kind::MariaDb | Kind::MySql => format!("insert ignore into {name} values ({row}, {list});\n"),
        }
    }

    fn create(&self) -> String {
        let declared = |(at, (column, _)): (usize, &(&Column, Vec<&Value>))| match column.is_nullable() {
            true => format!("c{at} {} not null", column.declaration.trim_end_matches(" null")),
            false => format!("c{at} {}", column.declaration),
        };
        let list: Vec<String> = self.columns.iter().enumerate().map(declared).collect();
        let part = |(at, (column, _)): (usize, &(&Column, Vec<&Value>))| match column.key {
            Key::Prefix => format!("c{at}({KEY_PREFIX})"),
            Key::Never | Key::Part | Key::Whole => format!("c{at}"),
        };
        let key: Vec<String> = self.columns.iter().enumerate().map(part).collect();
        let (list, key) = (list.join(", "), key.join(", "));
        format!("create table {} (n int not null, {list}, primary key ({key}));\n", self.name)
    }

    /// The last row is not loaded, unless it is the only one.
    fn loaded(&self) -> usize {
        (self.rows() - 1).max(1)
    }

    fn before(&self, from: Kind) -> String {
        (0..self.loaded()).map(|row| self.insert(from, row)).collect()
    }

    /// The last is inserted, all are updated, the first is deleted and the last moved to its place.
    fn changes(&self, from: Kind) -> String {
        let name = &self.name;
        let mut sql: String = (self.loaded()..self.rows()).map(|row| self.insert(from, row)).collect();
        writeln!(sql, "update {name} set n = n + {COUNTED};").unwrap();
        if self.rows() > 1 {
            writeln!(sql, "delete from {name} where n = {COUNTED};").unwrap();
            let set =
                self.literals(0).into_iter().enumerate().map(|(at, literal)| format!("c{at} = {literal}"));
            let (last, set) = (COUNTED + self.rows() - 1, set.collect::<Vec<_>>().join(", "));
            writeln!(sql, "update {name} set {set} where n = {last};").unwrap();
        }
        sql
    }

    fn differences(&self, direction: &Direction, ends: &[Printed; 2]) -> Vec<String> {
        let rows = [&ends[0], &ends[1]].map(|end| end.rows(&self.name));
        let mut lines = Vec::new();
        if rows[0] != rows[1] {
            let declared: Vec<&str> =
                self.columns.iter().map(|(column, _)| column.declaration.as_str()).collect();
            lines.push(format!(
                "{} with the key {declared:?}: rows {:?}, shown {:?}",
                self.name, rows[0], rows[1]
            ));
        }
        for row in &rows[1] {
            let is_moved = self.rows() > 1 && *row as usize == COUNTED + self.rows() - 1;
            let number = if is_moved { 0 } else { *row as usize % COUNTED };
            for (at, (column, values)) in self.columns.iter().enumerate() {
                let content = Content::Value(values[number % values.len()]);
                lines.extend(difference(
                    direction,
                    ends,
                    (&self.name, &format!("c{at}"), *row),
                    column,
                    content,
                ));
            }
        }
        lines
    }
}

impl Direction {
    /// With what the target takes.
    fn new(from: Kind, to: Kind) -> Self {
        let mut columns = columns(from);
        columns.retain(|column| !matches!(column.target(to), Cell::Refused(..)));
        columns.iter_mut().for_each(|column| {
            column.values.retain(|value| !matches!(value.target(to), Cell::Refused(_, None)));
        });
        columns.retain(|column| !column.values.is_empty());
        columns.sort_by_key(|column| column.values.len());
        Self { from, to, columns }
    }

    fn wide(&self) -> Vec<Wide<'_>> {
        let groups = self.columns.chunks(WIDTH).enumerate();
        let both = groups.flat_map(|(at, group)| ["k", "w"].map(|kind| (format!("{kind}{at}"), group)));
        both.map(|(name, group)| Wide { name, columns: group.iter().collect() }).collect()
    }

    fn keyed(&self) -> Vec<Keyed<'_>> {
        let is_short = |value: &&Value| match value.target(self.to) {
            Cell::AsSource => value.literal.len() <= KEY_CHARS_MAX,
            Cell::Text(text) => text.len() <= KEY_CHARS_MAX,
            Cell::Null | Cell::Refused(..) => false,
        };
        let of = |key: Key| {
            let columns = self.columns.iter().filter(move |column| column.key == key);
            let columns =
                columns.map(|column| (column, column.values.iter().filter(is_short).collect::<Vec<_>>()));
            columns.filter(|(_, values)| !values.is_empty()).collect::<Vec<_>>()
        };
        let (whole, mut prefix, part) = (of(Key::Whole), of(Key::Prefix), of(Key::Part));
        // MariaDB and MySQL refuse it (`refused.rs`).
        prefix.retain(|_| self.to == Kind::Postgres);
        let groups = whole.chunks(1).chain(prefix.chunks(1)).chain(part.chunks(KEY_WIDTH)).enumerate();
        groups.map(|(at, group)| Keyed { name: format!("p{at}"), columns: group.to_vec() }).collect()
    }

    fn pipeline(&self, prefix: &str) -> Pipeline {
        let mut pipeline = Pipeline::between(self.from.source(), self.to.target(), prefix);
        pipeline.sink_more = match self.to {
            Kind::Postgres => {
                ", policies: { invalid_dates: 'null', nul_in_text: replace, undecodable_text: replace }"
            }
            Kind::MariaDb | Kind::MySql => ", policies: { invalid_dates: 'null', undecodable_text: replace }",
        }
        .into();
        for end in [&pipeline.source, &pipeline.target] {
            if end.server.kind() == Kind::Postgres {
                end.sql(&postgres_settings(&end.name));
                if self.from == Kind::Postgres {
                    end.sql(POSTGRES_TYPES);
                }
            }
        }
        pipeline
    }
}

/// What types of PostgreSQL need, at both ends.
const POSTGRES_TYPES: &str = "reset role; create extension citext; create extension hstore; create extension ltree; \
    set role freshet; create type mood as enum ('sad', 'very ok', 'Ü', ''); \
    create domain positive as int check (value > 0); create domain word as varchar(20) check (value <> 'never'); \
    create type pair as (a int, b text); create type span as range (subtype = float8);";

/// Large values stand beside their rows as they are: an update that leaves one alone does not tell it.
const EXTERNAL: &str = "do $$ declare c record; begin \
    for c in select attrelid::regclass t, attname from pg_attribute join pg_class k on k.oid = attrelid \
      where relnamespace = 'public'::regnamespace and relkind = 'r' and attnum > 0 and attstorage in ('x', 'm') \
    loop execute format('alter table %s alter %I set storage external', c.t, c.attname); end loop; end $$;\n";

/// Defaults of a database that change what is printed in it (G1).
fn postgres_settings(name: &str) -> String {
    let settings = [
        "timezone = 'America/New_York'",
        "datestyle = 'SQL, DMY'",
        "intervalstyle = 'sql_standard'",
        "bytea_output = 'escape'",
        "extra_float_digits = 0",
    ];
    settings.map(|setting| format!("alter database {name} set {setting}; ")).concat()
}

/// Runs until caught up, in another time zone than any server's.
fn catch_up(pipeline: &Pipeline) {
    let mut command = pipeline.command(&["run", "--until", "caught-up"]);
    let exit = Freshet::spawn_command(command.env("TZ", "America/New_York")).wait(DEADLINE);
    assert_eq!(exit.code, Some(0), "{}: {}", pipeline.name, exit.stderr);
}

fn every_type(from: Kind, to: Kind) {
    let direction = Direction::new(from, to);
    let (wide, keyed) = (direction.wide(), direction.keyed());
    let pipeline = direction.pipeline("types");
    let all = wide.iter().map(|table| (table.name.clone(), "id"));
    let all: Vec<(String, &str)> = all.chain(keyed.iter().map(|table| (table.name.clone(), "n"))).collect();
    let ends = || [&pipeline.source, &pipeline.target].map(|end| print::read(end, &all));
    let create: String = wide.iter().map(|table| table.create(from)).collect();
    let create = create + &keyed.iter().map(Keyed::create).collect::<String>();
    let create = create + if from == Kind::Postgres { EXTERNAL } else { "" };
    let before: String = wide.iter().map(Wide::before).collect();
    let before = before + &keyed.iter().map(|table| table.before(from)).collect::<String>();
    pipeline.source.sql(&format!("{}{create}begin;\n{before}commit;\n", session(from)));
    catch_up(&pipeline);
    let loaded = ends();
    let mut wrong = wrong_types(&direction, &wide, &loaded);
    let mut compare = |ends: &[Printed; 2], is_load: bool| {
        let what = if is_load { "load" } else { "stream" };
        let lines = wide.iter().flat_map(|table| table.differences(&direction, ends, is_load));
        let lines = lines.chain(keyed.iter().flat_map(|table| table.differences(&direction, ends)));
        wrong.extend(lines.map(|line| format!("{what}: {line}")));
    };
    compare(&loaded, true);
    let changes: String = wide.iter().map(Wide::changes).collect();
    let changes = changes + &keyed.iter().map(|table| table.changes(from)).collect::<String>();
    pipeline.source.sql(&format!("{}begin;\n{changes}commit;\n", session(from)));
    catch_up(&pipeline);
    compare(&ends(), false);
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
    refused::check(&direction);
}

fn wrong_types(direction: &Direction, wide: &[Wide<'_>], [source, target]: &[Printed; 2]) -> Vec<String> {
    let columns =
        wide.iter().flat_map(|table| (0..).zip(&table.columns).map(|(at, column)| (&table.name, at, column)));
    let wrong = columns.filter_map(|(table, at, column)| {
        let declared = |end: &Printed| end.declared(table, &format!("c{at}"));
        let (expected, found) =
            (expected(column.target(direction.to), Some(&declared(source))), declared(target));
        (expected != found)
            .then(|| format!("{} is declared {found:?}, expected {expected:?}", column.declaration))
    });
    wrong.collect()
}

#[test]
fn m1_to_m20_r7_types_of_mariadb_on_postgres() {
    every_type(Kind::MariaDb, Kind::Postgres);
}

#[test]
fn m1_to_m20_r7_types_of_mariadb_on_mariadb() {
    every_type(Kind::MariaDb, Kind::MariaDb);
}

#[test]
fn m1_to_m20_r7_types_of_mariadb_on_mysql() {
    every_type(Kind::MariaDb, Kind::MySql);
}

#[test]
fn m1_to_m20_r7_types_of_mysql_on_postgres() {
    every_type(Kind::MySql, Kind::Postgres);
}

#[test]
fn m1_to_m20_r7_types_of_mysql_on_mysql() {
    every_type(Kind::MySql, Kind::MySql);
}

#[test]
fn m1_to_m20_r7_types_of_mysql_on_mariadb() {
    every_type(Kind::MySql, Kind::MariaDb);
}

#[test]
fn g1_to_g9_g11_g12_types_of_postgres_on_postgres() {
    every_type(Kind::Postgres, Kind::Postgres);
}

#[test]
fn g1_to_g9_g11_g12_types_of_postgres_on_mysql() {
    every_type(Kind::Postgres, Kind::MySql);
}

#[test]
fn g1_to_g9_g11_g12_types_of_postgres_on_mariadb() {
    every_type(Kind::Postgres, Kind::MariaDb);
}
