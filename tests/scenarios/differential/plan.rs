//! A round as data: tables, what stands in them, and the transactions of each writer, all drawn from one seed.
//!
//! Every table has a column `rid`, which says which rows a statement means; it is the key of some tables only. The plan keeps no
//! exact model of what is where: a statement that fails or finds nothing is as good as one that does not.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use super::types::{Direction, Key, Kind, Server, Type, types};
use super::values::{Literals, Values};

/// How much of everything there is at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub tables: usize,
    pub columns: usize,
    pub rows: usize,
    /// Of each writer in each of the two waves.
    pub transactions: usize,
}

#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub seed: u64,
    pub direction: Direction,
    pub tables: Vec<Table>,
    /// What the writers do during the load, and after it.
    pub waves: [Vec<Script>; 2],
    /// After how many milliseconds freshet is killed, in each wave.
    pub kills: [Vec<u64>; 2],
    /// The second wave begins when the target is consistent.
    pub waits: bool,
    /// SIGKILL at the end as well.
    pub ends_by_kill: bool,
    pub readers: u32,
    /// The target has the source's own types already.
    pub has_types: bool,
    /// freshet may keep a target's triggers still.
    pub has_roles: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub name: String,
    /// The first is `rid`.
    pub columns: Vec<Column>,
    pub key: Vec<usize>,
    pub uniques: Vec<Unique>,
    pub identity: Identity,
    /// A foreign key of the last column to the key of another table, with these words.
    pub reference: Option<(usize, &'static str)>,
    pub rows: Vec<Row>,
    pub keep: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub name: String,
    pub ty: Type,
    pub not_null: bool,
    /// What follows the type.
    pub more: &'static str,
    pub is_generated: bool,
    pub keep: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Unique {
    pub columns: Vec<usize>,
    /// As a constraint with these words, or as an index.
    pub constraint: Option<&'static str>,
}

/// REPLICA IDENTITY of PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    Default,
    Full,
    Unique(usize),
}

#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub rid: i64,
    /// A literal for each column but the first.
    pub values: Vec<String>,
}

/// What one client does.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub transactions: Vec<Transaction>,
    /// psql sets a savepoint before each statement.
    pub savepoints: bool,
    pub isolation: &'static str,
}

#[derive(Clone, Debug)]
pub(crate) struct Transaction {
    pub ops: Vec<Op>,
    pub rolls_back: bool,
    pub pause_ms: u32,
}

type Sets = Vec<(usize, String)>;

/// Which rows.
#[derive(Clone, Debug)]
pub(crate) enum Which {
    Rids(Vec<i64>),
    /// One, also where several have that number.
    One(i64),
    /// `rid % .0 = .1`.
    Every(i64, i64),
    Between(i64, i64),
}

#[derive(Clone, Debug)]
pub(crate) enum Op {
    Insert {
        table: usize,
        rows: Vec<Row>,
    },
    Update {
        table: usize,
        which: Which,
        sets: Sets,
    },
    /// Columns to their own values, and one other.
    Same {
        table: usize,
        which: Which,
        columns: Vec<usize>,
        sets: Sets,
    },
    Delete {
        table: usize,
        which: Which,
    },
    /// A column to an expression of itself, in which `{c}` is its name: mostly to what its collation or type takes for the same.
    Rewrite {
        table: usize,
        which: Which,
        column: usize,
        how: &'static str,
    },
    /// Rows of this range change places: each gets the number of its successor.
    Shift {
        table: usize,
        from: i64,
        to: i64,
    },
    /// Two rows exchange these columns; the literals stand in the first row meanwhile.
    Swap {
        table: usize,
        a: i64,
        b: i64,
        meanwhile: Sets,
    },
    /// A row is deleted and inserted again, with other values in some columns.
    Again {
        table: usize,
        rid: i64,
        sets: Sets,
    },
    /// Inserted, or updated where the key is there.
    Upsert {
        table: usize,
        row: Row,
        sets: Sets,
        replaces: bool,
    },
    Savepoint {
        ops: Vec<Op>,
        rolls_back: bool,
    },
    Truncate {
        table: usize,
    },
    /// Rows from `rid` on, all alike, of a table whose key is `rid` or none.
    Many {
        table: usize,
        rid: i64,
        count: i64,
        values: Vec<String>,
    },
    Pause {
        ms: u32,
    },
}

const ODD_TABLES: &[&str] =
    &["Tab le", "Ünï", "quo\"te", "it's", "per%cent", "dot.ted", "back\\slash", "sel`ect"];
const ODD_COLUMNS: &[&str] =
    &["Or der", "ß", "quo\"te", "it's", "%s", "a.b", "back\\slash", "tick`", "SELECT", "{x}"];

/// Draws a round.
pub(crate) fn plan(seed: u64, direction: Direction, size: Size) -> Plan {
    let mut maker = Maker {
        rng: StdRng::seed_from_u64(seed),
        direction,
        types: types(direction),
        tables: Vec::new(),
        live: Vec::new(),
        next_rid: 1,
        writers: 1,
    };
    for number in 0..maker.rng.random_range(1..=size.tables) {
        let rows = maker.rng.random_range(0..=size.rows);
        maker.table(number, size.columns, rows);
    }
    maker.writers = maker.rng.random_range(2..=4);
    let waves = [maker.wave(size.transactions, 0), maker.wave(size.transactions, 1)];
    let mut kills = [Vec::new(), Vec::new()];
    if maker.chance(50) {
        for kills in &mut kills {
            *kills = (0..maker.rng.random_range(0..4)).map(|_| maker.rng.random_range(20..1_500)).collect();
        }
    }
    let (waits, ends_by_kill, readers) = (maker.chance(70), maker.chance(30), maker.rng.random_range(1..4));
    let (has_types, has_roles) = (maker.chance(50), maker.chance(70));
    let tables = maker.tables;
    Plan { seed, direction, tables, waves, kills, waits, ends_by_kill, readers, has_types, has_roles }
}

struct Maker {
    rng: StdRng,
    direction: Direction,
    types: Vec<Type>,
    tables: Vec<Table>,
    live: Vec<Vec<i64>>,
    next_rid: i64,
    writers: i64,
}

impl Maker {
    fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    fn table(&mut self, number: usize, columns_max: usize, rows: usize) {
        let name = self.name("t", ODD_TABLES, number);
        let mut table = Table {
            name,
            columns: vec![rid()],
            key: Vec::new(),
            uniques: Vec::new(),
            identity: Identity::Default,
            reference: None,
            rows: Vec::new(),
            keep: true,
        };
        for number in 1..=self.rng.random_range(1..=columns_max) {
            let column = self.column(number);
            table.columns.push(column);
        }
        self.reference(&mut table);
        self.key(&mut table);
        self.uniques(&mut table);
        self.identity(&mut table);
        for column in 1..table.columns.len() {
            let is_key = is_of_a_key(&table, column) || table.columns[column].name == "ref";
            self.column_details(&mut table.columns[column], is_key);
        }
        // MariaDB refuses both in one table.
        if table.columns.iter().any(|column| column.is_generated) {
            table.columns[0].more = "";
        }
        self.tables.push(table);
        self.live.push(Vec::new());
        let rows: Vec<Row> = (0..rows).map(|_| self.row(number)).collect();
        self.tables[number].rows = rows;
    }

    fn name(&mut self, prefix: &str, odd: &[&str], number: usize) -> String {
        match self.chance(15) {
            true => format!("{}{number}", odd.choose(&mut self.rng).unwrap()),
            false => format!("{prefix}{number}"),
        }
    }

    fn column(&mut self, number: usize) -> Column {
        let name = self.name("c", ODD_COLUMNS, number);
        let ty = *self.types.choose(&mut self.rng).unwrap();
        Column { name, ty, not_null: false, more: "", is_generated: false, keep: true }
    }

    /// A column for the key of an earlier table. Cascades of MySQL are not in its binlog and are refused.
    fn reference(&mut self, table: &mut Table) {
        let parents: Vec<usize> =
            (0..self.tables.len()).filter(|parent| self.tables[*parent].key == [0]).collect();
        let Some(parent) = parents.choose(&mut self.rng).copied() else { return };
        if !self.chance(35) {
            return;
        }
        let words: &[&str] = match self.direction.from {
            Server::Postgres => &[
                "",
                "on delete cascade",
                "on delete set null on update cascade",
                "on delete cascade on update cascade deferrable initially deferred",
                "deferrable initially deferred",
            ],
            Server::MariaDb | Server::MySql => &["", "on delete restrict"],
        };
        table.reference = Some((parent, words.choose(&mut self.rng).unwrap()));
        let ty = Type { ddl: "bigint", kind: Kind::Whole, key: Key::Never, values: Values::Whole(0, 0) };
        table.columns.push(Column {
            name: "ref".into(),
            ty,
            not_null: false,
            more: "",
            is_generated: false,
            keep: true,
        });
    }

    fn column_details(&mut self, column: &mut Column, is_key: bool) {
        if !is_key && self.chance(6) {
            column.is_generated = true;
            column.ty =
                Type { ddl: "bigint", kind: Kind::Whole, key: Key::Never, values: Values::Whole(0, 0) };
            column.more = match self.direction.from.is_my() && self.chance(50) {
                true => " generated always as (rid * 2) virtual",
                false => " generated always as (rid * 2) stored",
            };
            return;
        }
        column.not_null |=
            column.ty.ddl.contains("not null") || (!column.ty.ddl.contains(" null") && self.chance(25));
    }

    fn whole_columns(&self, table: &Table, least: Key) -> Vec<usize> {
        (1..table.columns.len()).filter(|column| table.columns[*column].ty.key >= least).collect()
    }

    fn key(&mut self, table: &mut Table) {
        let (whole, part) = (self.whole_columns(table, Key::Whole), self.whole_columns(table, Key::Part));
        let some = |maker: &mut Self, of: &[usize]| of.choose(&mut maker.rng).copied();
        table.key = match self.rng.random_range(0..100) {
            0..25 => vec![0],
            25..45 => match some(self, &part) {
                Some(column) if self.chance(50) => vec![column, 0],
                Some(column) => vec![0, column],
                None => vec![0],
            },
            45..65 => some(self, &whole).map_or(vec![0], |column| vec![column]),
            65..80 => match (some(self, &whole), some(self, &part)) {
                (Some(a), Some(b)) if a != b => vec![b, a],
                (Some(a), _) => vec![a],
                (None, _) => vec![0],
            },
            _ => Vec::new(),
        };
        for column in table.key.clone() {
            table.columns[column].not_null = true;
        }
        if table.key == [0] && self.chance(40) {
            table.columns[0].more = match self.direction.from {
                Server::Postgres => " generated by default as identity",
                Server::MariaDb | Server::MySql => " auto_increment",
            };
        }
    }

    fn uniques(&mut self, table: &mut Table) {
        for _ in 0..self.rng.random_range(0..3) {
            let (whole, part) = (self.whole_columns(table, Key::Whole), self.whole_columns(table, Key::Part));
            let columns = match (whole.choose(&mut self.rng), part.choose(&mut self.rng)) {
                (Some(a), Some(b)) if a != b && self.chance(40) => vec![*a, *b],
                (Some(a), _) => vec![*a],
                (None, Some(b)) => vec![*b, 0],
                (None, None) => return,
            };
            let constraint = match self.direction.from {
                Server::Postgres => {
                    let kinds = [None, Some("deferrable initially deferred"), Some("deferrable"), Some("")];
                    *kinds.choose(&mut self.rng).unwrap()
                }
                Server::MariaDb | Server::MySql => None,
            };
            table.uniques.push(Unique { columns, constraint });
        }
    }

    fn identity(&mut self, table: &mut Table) {
        if self.direction.from != Server::Postgres {
            return;
        }
        let possible = |unique: &Unique| unique.constraint.is_none_or(|words| !words.contains("deferrable"));
        let possible: Vec<usize> =
            (0..table.uniques.len()).filter(|i| possible(&table.uniques[*i])).collect();
        table.identity = match (possible.choose(&mut self.rng), self.rng.random_range(0..100)) {
            (Some(unique), 0..35) => Identity::Unique(*unique),
            (_, 35..50) => Identity::Full,
            _ if table.key.is_empty() => Identity::Full,
            _ => Identity::Default,
        };
        if let Identity::Unique(unique) = table.identity {
            for column in table.uniques[unique].columns.clone() {
                table.columns[column].not_null = true;
            }
        }
    }

    fn literal(&mut self, table: usize, column: usize) -> String {
        let of_table = &self.tables[table];
        let is_last = column + 1 == of_table.columns.len();
        let parent = of_table.reference.filter(|_| is_last).map(|(parent, _)| parent);
        let of = &of_table.columns[column];
        let (ty, may_be_null, apart) = (of.ty, !of.not_null, is_of_a_key(&self.tables[table], column));
        if may_be_null && self.chance(12) {
            return "NULL".into();
        }
        if let Some(parent) = parent {
            return self.live[parent].choose(&mut self.rng).map_or("NULL".into(), i64::to_string);
        }
        Literals { rng: &mut self.rng, direction: self.direction }.draw(&ty, apart)
    }

    fn values(&mut self, table: usize) -> Vec<String> {
        (1..self.tables[table].columns.len()).map(|column| self.literal(table, column)).collect()
    }

    fn row(&mut self, table: usize) -> Row {
        let rid = self.next_rid;
        self.next_rid += 1;
        self.live[table].push(rid);
        Row { rid, values: self.values(table) }
    }

    fn wave(&mut self, transactions: usize, wave: usize) -> Vec<Script> {
        let mut scripts = Vec::new();
        for writer in 0..self.writers {
            let count = self.rng.random_range(1..=transactions);
            let transactions = (0..count).map(|_| self.transaction(writer, wave)).collect();
            let isolations: &[&str] = &["read committed", "repeatable read", "read committed"];
            let isolation = isolations.choose(&mut self.rng).unwrap();
            scripts.push(Script { transactions, savepoints: self.chance(40), isolation });
        }
        scripts
    }

    fn transaction(&mut self, writer: i64, wave: usize) -> Transaction {
        let count = match self.rng.random_range(0..100) {
            0..2 => self.rng.random_range(50..250),
            2..40 => 1,
            _ => self.rng.random_range(2..7),
        };
        let mut ops: Vec<Op> = (0..count).map(|_| self.op(writer, wave, 0)).collect();
        if self.chance(10) {
            let ms = self.rng.random_range(5..80);
            let at = self.rng.random_range(0..=ops.len());
            ops.insert(at, Op::Pause { ms });
        }
        let pause_ms = if self.chance(40) { self.rng.random_range(1..15) } else { 0 };
        Transaction { ops, rolls_back: self.chance(8), pause_ms }
    }

    /// A row's number, mostly of the writer's own.
    fn rid(&mut self, table: usize, writer: i64) -> i64 {
        let anyone = self.chance(10);
        for _ in 0..6 {
            if let Some(rid) = self.live[table].choose(&mut self.rng)
                && (anyone || rid % self.writers == writer)
            {
                return *rid;
            }
        }
        self.rng.random_range(1..=self.next_rid)
    }

    fn which(&mut self, table: usize, writer: i64, wave: usize) -> Which {
        match self.rng.random_range(0..100) {
            0..4 if wave == 1 => Which::Every(self.rng.random_range(5..60), self.rng.random_range(0..5)),
            0..20 => Which::Rids((0..self.rng.random_range(2..8)).map(|_| self.rid(table, writer)).collect()),
            20..30 => Which::One(self.rid(table, writer)),
            _ => Which::Rids(vec![self.rid(table, writer)]),
        }
    }

    fn settable(&self, table: usize) -> Vec<usize> {
        let columns = &self.tables[table].columns;
        (1..columns.len()).filter(|column| !columns[*column].is_generated).collect()
    }

    fn sets(&mut self, table: usize) -> Sets {
        let with_key = self.chance(25);
        let of: Vec<usize> = self.settable(table);
        let of: Vec<usize> =
            of.into_iter().filter(|column| with_key || !is_of_a_key(&self.tables[table], *column)).collect();
        let mut sets = Sets::new();
        for _ in 0..self.rng.random_range(1..=3) {
            if let Some(column) = of.choose(&mut self.rng).copied()
                && sets.iter().all(|(other, _)| *other != column)
            {
                sets.push((column, self.literal(table, column)));
            }
        }
        if self.chance(8) {
            self.next_rid += 1;
            self.live[table].push(self.next_rid - 1);
            sets.push((0, (self.next_rid - 1).to_string()));
        }
        sets
    }

    fn op(&mut self, writer: i64, wave: usize, depth: usize) -> Op {
        let table = self.rng.random_range(0..self.tables.len());
        match self.rng.random_range(0..1_000) {
            0..220 => {
                let count = if self.chance(75) { 1 } else { self.rng.random_range(2..10) };
                Op::Insert { table, rows: (0..count).map(|_| self.row(table)).collect() }
            }
            220..520 => Op::Update { table, which: self.which(table, writer, wave), sets: self.sets(table) },
            520..580 => {
                let columns: Vec<usize> = self.settable(table);
                let columns = columns.into_iter().filter(|_| self.rng.random_range(0..2) == 0).collect();
                let sets = if self.chance(60) { self.sets(table) } else { Sets::new() };
                Op::Same { table, which: self.which(table, writer, wave), columns, sets }
            }
            580..620 => self.rewrite(table, writer, wave),
            620..630 => {
                let from = self.rid(table, writer);
                Op::Shift { table, from, to: from + self.rng.random_range(1..20) }
            }
            630..700 => Op::Delete { table, which: self.which(table, writer, wave) },
            700..780 => self.swap(table, writer),
            780..860 => Op::Again { table, rid: self.rid(table, writer), sets: self.sets(table) },
            860..910 => {
                let row = self.row(table);
                let rid = if self.chance(50) { self.rid(table, writer) } else { row.rid };
                Op::Upsert {
                    table,
                    row: Row { rid, ..row },
                    sets: self.sets(table),
                    replaces: self.chance(40),
                }
            }
            910..985 if depth < 3 => {
                let ops =
                    (0..self.rng.random_range(1..5)).map(|_| self.op(writer, wave, depth + 1)).collect();
                Op::Savepoint { ops, rolls_back: self.chance(60) }
            }
            985..988 if wave == 1 || self.chance(10) => Op::Truncate { table },
            988..994 => self.many(table),
            994..998 => {
                let from = self.rng.random_range(1..=self.next_rid);
                Op::Delete { table, which: Which::Between(from, from + 300) }
            }
            _ => Op::Pause { ms: self.rng.random_range(1..20) },
        }
    }

    fn rewrite(&mut self, table: usize, writer: i64, wave: usize) -> Op {
        let which = self.which(table, writer, wave);
        let of = self.settable(table);
        let keys: Vec<usize> =
            of.iter().copied().filter(|at| is_of_a_key(&self.tables[table], *at)).collect();
        let of = if keys.is_empty() || self.chance(20) { of } else { keys };
        let Some(column) = of.choose(&mut self.rng).copied() else {
            return Op::Delete { table, which };
        };
        let hows = same(self.tables[table].columns[column].ty, self.direction.from);
        Op::Rewrite { table, which, column, how: hows.choose(&mut self.rng).unwrap() }
    }

    fn swap(&mut self, table: usize, writer: i64) -> Op {
        let (a, b) = (self.rid(table, writer), self.rid(table, writer));
        let mut of = vec![self.tables[table].key.clone()];
        of.extend(self.tables[table].uniques.iter().map(|unique| unique.columns.clone()));
        let columns: Vec<usize> =
            of.choose(&mut self.rng).unwrap().iter().copied().filter(|c| *c > 0).collect();
        let meanwhile = columns.into_iter().map(|column| (column, self.literal(table, column))).collect();
        Op::Swap { table, a, b, meanwhile }
    }

    fn many(&mut self, table: usize) -> Op {
        let count = self.rng.random_range(200..4_000);
        let rid = self.next_rid;
        self.next_rid += count;
        let values = (1..self.tables[table].columns.len()).map(|column| {
            let literal = self.literal(table, column);
            let is_long = literal.contains('(') && !literal.starts_with('\'');
            match is_long && !self.tables[table].columns[column].not_null {
                true => "NULL".into(),
                false => literal,
            }
        });
        Op::Many { table, rid, count, values: values.collect() }
    }
}

fn rid() -> Column {
    let ty = Type { ddl: "bigint", kind: Kind::Whole, key: Key::Whole, values: Values::Whole(0, 0) };
    Column { name: "rid".into(), ty, not_null: true, more: "", is_generated: false, keep: true }
}

/// Expressions of a column that give what is the same for its type, or nearly.
fn same(ty: Type, server: Server) -> &'static [&'static str] {
    match (ty.kind, server) {
        (Kind::Text, Server::MariaDb | Server::MySql) if ty.ddl.contains("char") => {
            &["upper({c})", "lower({c})", "concat({c}, ' ')", "rtrim({c})", "replace({c}, 'a', 'á')"]
        }
        (Kind::Text, Server::Postgres) if ["numeric", "numeric(5,-2)"].contains(&ty.ddl) => {
            &["{c} + 0.00", "trim_scale({c})", "{c} * 1.0"]
        }
        (Kind::Text, Server::Postgres)
            if ["text", "char", "citext", "word"].iter().any(|word| ty.ddl.contains(word))
                && !ty.ddl.contains("[]") =>
        {
            &["upper({c})", "lower({c})", "{c} || ' '", "rtrim({c})", "replace({c}, 'a', 'á')"]
        }
        (Kind::Interval, _) => &["justify_hours({c})", "justify_interval({c})", "{c} + '1 day' - '24:00:00'"],
        (Kind::Whole | Kind::Decimal, _) => &["-({c})", "{c} + 1", "{c} - 1"],
        (Kind::Single | Kind::Double, _) => &["-({c})", "{c} * 1"],
        _ => &["{c}"],
    }
}

/// Of the key, a unique index or the replica identity.
pub(crate) fn is_of_a_key(table: &Table, column: usize) -> bool {
    table.key.contains(&column) || table.uniques.iter().any(|unique| unique.columns.contains(&column))
}
