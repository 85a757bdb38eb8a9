//! What the stream does not tell of a table, and what is no reason to stop.
//!
//! A list: what is done to a source that was begun, and the words of the error, of none if it goes on. Done once before
//! the session is opened, and once while it is.

use crate::harness::{Database, Public, Reading, shared, start, start_with};
use freshet_core::Error;
use freshet_core::source::Source;
use freshet_postgres::WalSource;
use freshet_testkit::servers::{Postgres, PostgresOptions};
use std::sync::Arc;

const TABLES: &str = "create type mood as enum ('sad', 'ok'); create type pair as (a int, b text); \
    create table t (id int primary key, v text, w text, m mood, p pair); create table u (id int primary key, v text); \
    insert into t values (1, 'a', 'b', 'ok', '(1,x)'), (2, 'c', 'd', 'sad', '(2,y)'); insert into u values (1, 'u')";

/// What was done, and what is said of it: by the next change of table t, and by a look at everything. A server that lags
/// behind in the invalidations of its caches describes every table anew, which is when the stream may tell as much as a
/// look.
pub struct Case(
    pub &'static str,
    pub &'static [&'static str],
    pub Option<&'static str>,
    pub Option<&'static str>,
);

const CASES: &[Case] = &[
    Case(
        "a column is dropped and another of its name comes",
        &[
            "alter table t drop column p, drop column m, drop column w, drop column v, add column v text default 'new', \
           add column w text, add column m mood, add column p pair",
        ],
        Some("public.t was changed so that a column's name stands for another column"),
        Some("public.t was changed so that a column's name stands for another column"),
    ),
    Case(
        "rows are rewritten under the same type",
        &["alter table t alter column v type text using upper(v)"],
        Some("public.t was altered and its rows were written anew"),
        Some("public.t was altered and its rows were written anew"),
    ),
    Case(
        "names of columns are swapped",
        &["alter table t rename v to x; alter table t rename w to v; alter table t rename x to w"],
        Some("a column's name stands for another column"),
        Some("a column's name stands for another column"),
    ),
    Case(
        "names of tables are swapped",
        &["begin; alter table t rename to x; alter table u rename to t; alter table x rename to u; commit"],
        Some("was renamed to"),
        Some("was renamed to"),
    ),
    Case(
        "a table is away from the publication for a while",
        &[
            "alter publication PUBLICATION drop table t",
            "insert into t values (7)",
            "alter publication PUBLICATION add table t",
        ],
        Some("public.t was taken out of the publication"),
        Some("public.t was taken out of the publication"),
    ),
    Case(
        "the publication leaves out deletes for a while",
        &[
            "alter publication PUBLICATION set (publish = 'insert')",
            "delete from t where id = 1",
            "alter publication PUBLICATION set (publish = 'insert, update, delete, truncate')",
        ],
        Some("was altered"),
        Some("was altered"),
    ),
    Case(
        "a label is renamed",
        &["alter type mood rename value 'sad' to 'blue'"],
        None,
        Some("Labels of an enum"),
    ),
    Case(
        "a composite type gets another attribute",
        &["alter type pair drop attribute b"],
        None,
        Some("Attributes of a composite type"),
    ),
    Case("a column is renamed", &["alter table t rename w to x"], None, Some("a column was renamed")),
    Case(
        "a column has another type",
        &["alter table t alter v type varchar(90)"],
        None,
        Some("or has another type"),
    ),
    Case("another table is dropped", &["drop table u"], None, Some("public.u was dropped")),
    Case(
        "it is called something else for a while",
        &[
            "alter table t rename to other_name",
            "insert into other_name (id) values (70)",
            "alter table other_name rename to t",
        ],
        Some("public.t was called public.other_name"),
        None,
    ),
    Case(
        "it is in another schema for a while",
        &[
            "create schema hidden",
            "begin; alter table t set schema hidden; insert into hidden.t (id) values (70); \
             alter table hidden.t set schema public; commit",
        ],
        Some("public.t was called hidden.t"),
        None,
    ),
    Case(
        "it becomes a partition",
        &[
            "create table other_p (like t) partition by range (id)",
            "alter table other_p attach partition t for values from (0) to (1000)",
        ],
        Some("public.t became a partition"),
        Some("public.t became a partition"),
    ),
    Case(
        "a label is another one for a while",
        &["alter type mood rename value 'sad' to 'blue'", "alter type mood rename value 'blue' to 'sad'"],
        None,
        Some("Labels of an enum"),
    ),
    Case(
        "another table comes",
        &["create table late (id int primary key)"],
        None,
        Some("Table public.late matches the selection and is not in publication"),
    ),
    Case("a column is added", &["alter table t add x int default 5"], None, None),
    Case("a column is dropped", &["alter table t drop w"], None, None),
    Case("a label is added", &["alter type mood add value 'great'"], None, None),
    Case("the table is emptied", &["truncate t"], None, None),
    Case("the table is rewritten as it is", &["vacuum full t"], None, None),
    Case(
        "nothing that rows would show",
        &["alter table t alter v set default 'x'; alter table t alter id set not null; \
           alter table t alter v set storage external; create index on t (v); analyze t; comment on table t is 'x'; \
           grant select on t to public; alter table t add check (id > 0); alter table t set (fillfactor = 50)"],
        None,
        None,
    ),
];

const CHANGE: &str = "insert into t (id, v) values (60, 'after')";

impl Case {
    fn run(&self, database: &Database<'_>) {
        for statement in self.1 {
            database.sql(&statement.replace("PUBLICATION", &format!("freshet_{}", database.name)));
        }
        database.sql(CHANGE);
    }

    pub async fn notice(&self, server: &Postgres, tables: &str) {
        self.while_stopped(&Database::on(server, tables)).await;
        self.while_running(&Database::on(server, tables)).await;
    }

    pub async fn while_stopped(&self, database: &Database<'_>) {
        let start = database.source().begin().await.unwrap();
        self.run(database);
        let opened = Reading::open(database.source(), &start).await;
        self.judge("at the next start", self.3, opened.as_ref().err());
    }

    /// With the table's next change at the latest, before that is handed out.
    async fn while_running(&self, database: &Database<'_>) {
        let mut reading = database.reading().await;
        database.sql("insert into t (id) values (50)");
        reading.until(1).await;
        self.run(database);
        let error = read_to(&mut reading, "+t 60,").await.err();
        let by_stream = self.2.or(self.3.filter(|_| error.is_some()));
        self.judge("by the stream", by_stream, error.as_ref());
        let looked = database.source().tip().await;
        self.judge("by a look", self.3, looked.as_ref().err());
    }

    #[track_caller]
    fn judge(&self, what: &str, expected: Option<&str>, error: Option<&Error>) {
        let Case(name, ..) = self;
        match (expected, error) {
            (None, None) => {}
            (Some(words), Some(error)) => {
                assert!(error.message().contains(words), "{name}, {what}: {error}");
                assert!(error.hint().is_some(), "{name}, {what}: {error}");
            }
            (expected, error) => panic!("{name}, {what}: {error:?}, and {expected:?} was expected"),
        }
    }
}

/// D1, P9: each case, while the pipeline is stopped and while it runs.
#[tokio::test(flavor = "multi_thread")]
async fn d1_what_the_stream_does_not_tell_is_noticed() {
    for case in CASES {
        case.notice(shared(), TABLES).await;
    }
}

async fn read_to(reading: &mut Reading, line: &str) -> Result<(), Error> {
    while !reading.lines.iter().any(|l| l.starts_with(line)) {
        reading.read().await?;
    }
    Ok(())
}

/// P9: a publication that was away is not the one that was there; PostgreSQL 18 goes on without a word where it is not.
#[tokio::test(flavor = "multi_thread")]
async fn p9_a_publication_that_was_made_again_is_a_resync() {
    for version in [15, 17, 18] {
        let server = match version {
            15 => start(),
            other => start_with(PostgresOptions::default().version(other)),
        };
        let database = Database::on(&server, TABLES);
        let name = format!("freshet_{}", database.name);
        let start = database.source().begin().await.unwrap();
        let kept = format!(
            "select obj_description(oid, 'pg_publication') from pg_publication where pubname = '{name}'"
        );
        let comment = database.sql(&kept);
        database.sql(&format!("drop publication {name}; insert into t values (5)"));
        database.sql(&format!(
            "create publication {name} for table t, u with (publish_via_partition_root = true)"
        ));
        let error = Reading::open(database.source(), &start).await.err().unwrap();
        assert!(error.message().contains("does not have the comment"), "{error}");
        database.sql(&format!("comment on publication {name} is '{comment}'"));
        let error = Reading::open(database.source(), &start).await.err().unwrap();
        assert!(error.message().contains("dropped and made again"), "{error}");
    }
}

/// D1: what is no reason to stop is not one later either, together with something else of its kind.
#[tokio::test(flavor = "multi_thread")]
async fn d1_looks_in_between_tell_harmless_changes_apart() {
    let database = Database::new(TABLES);
    let start = database.source().begin().await.unwrap();
    for harmless in
        ["truncate t", "alter table t alter v set default 'x'", "vacuum full t", "alter table t drop w"]
    {
        database.sql(harmless);
        Reading::open(database.source(), &start).await.unwrap_or_else(|error| panic!("{harmless}: {error}"));
    }
    database.sql("alter table t add w text");
    let error = Reading::open(database.source(), &start).await.err().unwrap();
    assert!(error.message().contains("a column's name stands for another column"), "{error}");
}

/// P9, R5: publications that freshet does not follow: of whatever is there, of some rows or columns, of another pipeline.
#[tokio::test(flavor = "multi_thread")]
async fn p9_a_publication_that_is_not_of_whole_tables_by_name_is_refused() {
    const VIA_ROOT: &str = "with (publish_via_partition_root = true)";
    for (of, words) in [
        ("for all tables", "is of all tables"),
        ("for tables in schema public", "is of all tables, or of all tables of a schema"),
        ("for table t where (id > 5), u", "leaves out rows or columns of table public.t"),
        ("for table t, u (id)", "leaves out rows or columns of table public.u"),
    ] {
        let database = Database::new(TABLES);
        database.sql(&format!("create publication freshet_{} {of} {VIA_ROOT}", database.name));
        let error = database.source().begin().await.unwrap_err();
        assert!(error.message().contains(words) && error.hint().is_some(), "{of}: {error}");
    }
    let database = Database::new(TABLES);
    database.source().begin().await.unwrap();
    let mut other = database.options();
    other.pipeline = "other".into();
    let error = WalSource::new(other.clone(), Arc::new(Public)).begin().await.unwrap_err();
    assert!(error.message().contains("belongs to pipeline"), "{error}");
    other.slot = "no_such_slot".into();
    assert!(freshet_postgres::forget(&other).await.unwrap().contains("belongs to another pipeline"));
    assert_eq!(database.sql("select count(*) from pg_publication"), "1");
}

/// D1: whoever ends takes a last look.
#[tokio::test(flavor = "multi_thread")]
async fn d1_what_was_done_since_the_last_look_is_told_at_the_end() {
    let database = Database::new(TABLES);
    let mut reading = database.reading().await;
    reading.source.tip().await.unwrap();
    reading.source.leave().await.unwrap();
    database.sql("alter table t alter v type text using upper(v)");
    reading.source.tip().await.unwrap();
    let error = reading.source.leave().await.unwrap_err();
    assert!(error.message().contains("its rows were written anew"), "{error}");
}

/// O5: what freshet made it removes, what somebody else made it leaves.
#[tokio::test(flavor = "multi_thread")]
async fn o5_only_a_publication_of_our_own_is_removed() {
    for (made, left) in [(true, "0"), (false, "1")] {
        let database = Database::new(TABLES);
        if !made {
            let sql = format!("create publication freshet_{} for table t, u", database.name);
            database.sql(&format!("{sql} with (publish_via_partition_root = true)"));
        }
        database.source().begin().await.unwrap();
        database.source().begin().await.unwrap();
        freshet_postgres::forget(&database.options()).await.unwrap();
        freshet_postgres::forget(&database.options()).await.unwrap();
        assert_eq!(database.sql("select count(*) from pg_publication"), left, "made by us: {made}");
        assert_eq!(
            database.sql("select count(*) from pg_replication_slots where database = current_database()"),
            "0"
        );
        assert_eq!(
            database.sql("select count(*) from pg_description where classoid = 'pg_publication'::regclass"),
            "0"
        );
    }
}
