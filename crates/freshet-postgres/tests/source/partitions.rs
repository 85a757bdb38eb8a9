//! Partitioned tables: their partitions' changes are the table's own, and what the stream does not have of them stops.

use crate::definitions::Case;
use crate::harness::{DEADLINE, Database, Public, Reading, shared, start, start_with};
use freshet_core::ErrorKind;
use freshet_core::source::Source;
use freshet_core::table::TableReader;
use freshet_postgres::{PostgresTableReader, ReaderOptions, WalSource, WalSourceOptions};
use freshet_testkit::servers::{PostgresOptions, poll_until};
use std::sync::Arc;
use std::time::Duration;

const PARTED: &str = "create table t (id int primary key, v text) partition by range (id); \
    create table t1 partition of t for values from (0) to (100); create table t2 partition of t for values from (100) to (200); \
    insert into t values (1, 'a'), (150, 'b'); create table other (id int primary key, v text)";

const CAME: Option<&str> = Some("public.t got partition public.t3, which may have had rows before,");
const LOST: Option<&str> = Some("public.t lost partition public.t2");
const EMPTIED: Option<&str> = Some("Partition public.t2 of table public.t was emptied (TRUNCATE)");

/// What is followed.
const FOLLOWED: &[Case] = &[
    Case("one is created", &["create table t3 partition of t for values from (200) to (300)"], None, None),
    Case(
        "one is created and filled at once",
        &[
            "begin; create table t3 partition of t for values from (200) to (300); insert into t values (250); commit",
            "insert into t values (251); delete from t where id = 250",
        ],
        None,
        None,
    ),
    Case(
        "one is created in a savepoint, filled, and rows move into it",
        &[
            "begin; insert into t values (2); savepoint s; create table t3 partition of t for values from (200) to (300); \
           update t set id = 250 where id = 150; release s; savepoint r; insert into t3 values (260); rollback to r; commit",
        ],
        None,
        None,
    ),
    Case(
        "one for everything else is created",
        &["create table t3 partition of t default; insert into t values (900)"],
        None,
        None,
    ),
    Case(
        "an empty table becomes one",
        &[
            "create table t3 (like t including all)",
            "alter table t attach partition t3 for values from (200) to (300)",
        ],
        None,
        None,
    ),
    Case(
        "one with partitions of its own is created",
        &[
            "create table t3 partition of t for values from (200) to (400) partition by range (id)",
            "create table t31 partition of t3 for values from (200) to (300)",
            "insert into t values (250)",
        ],
        None,
        None,
    ),
    Case(
        "one with partitions of its own and no rows becomes one",
        &[
            "create table t3 (like t including all) partition by range (id); \
             create table t31 partition of t3 for values from (200) to (300)",
            "alter table t attach partition t3 for values from (200) to (400)",
        ],
        None,
        None,
    ),
    Case("all are emptied", &["truncate t"], None, None),
    Case("all are emptied by their names", &["truncate t2, t1"], None, None),
    Case(
        "one is created and all are emptied",
        &[
            "begin; create table t3 partition of t for values from (200) to (300); insert into t values (250); truncate t; commit",
        ],
        None,
        None,
    ),
    Case("they are rewritten as they are", &["vacuum full t2; vacuum full t1"], None, None),
    Case("one is renamed", &["alter table t2 rename to other_name; insert into t values (151)"], None, None),
    Case(
        "names are swapped",
        &[
            "begin; alter table t1 rename to x; alter table t2 rename to t1; alter table x rename to t2; commit",
            "insert into t values (151)",
        ],
        None,
        None,
    ),
    Case("one is nearly detached", &["begin; alter table t detach partition t2; rollback"], None, None),
    Case(
        "one logs whole rows",
        &["alter table t2 replica identity full; update t set v = 'x' where id = 150"],
        None,
        None,
    ),
    Case("a column is added", &["alter table t add x int default 5"], None, None),
];

/// What is not.
const STOPPED: &[Case] = &[
    Case(
        "a table of the same transaction becomes one, and has rows when it is seen",
        &[
            "begin; create table t3 (like t including all); alter table t attach partition t3 for values from (200) to (300); \
           insert into t values (250); commit",
        ],
        None,
        CAME,
    ),
    Case(
        "a table with rows becomes one",
        &[
            "create table t3 (like t including all); insert into t3 values (250)",
            "alter table t attach partition t3 for values from (200) to (300)",
        ],
        None,
        CAME,
    ),
    Case(
        "a table with rows becomes one under the name of one that was there",
        &[
            "create table t3 (like t including all); insert into t3 values (150), (151)",
            "begin; drop table t2; alter table t3 rename to t2; alter table t attach partition t2 for values from (100) to (200); commit",
        ],
        None,
        LOST,
    ),
    Case(
        "a table with rows of the same transaction becomes one",
        &["begin; create table t3 (like t including all); insert into t3 values (250); \
           alter table t attach partition t3 for values from (200) to (300); commit"],
        None,
        CAME,
    ),
    Case(
        "a table with rows of a savepoint becomes one",
        &[
            "begin; create table t3 (like t including all); savepoint s; insert into t3 values (250); release s; \
           alter table t attach partition t3 for values from (200) to (300); commit",
        ],
        None,
        CAME,
    ),
    Case(
        "one that was created so comes back in the same transaction",
        &[
            "begin; create table t3 partition of t for values from (200) to (300); alter table t detach partition t3; \
           insert into t3 values (250); alter table t attach partition t3 for values from (200) to (300); commit",
        ],
        None,
        CAME,
    ),
    Case(
        "a partitioned table with rows becomes one",
        &["begin; create table t30 (like t including all) partition by range (id); \
           create table t3 partition of t30 for values from (200) to (300); insert into t30 values (250); \
           alter table t attach partition t30 for values from (200) to (300); commit"],
        None,
        CAME,
    ),
    Case(
        "one comes with rows and is dropped",
        &[
            "create table t3 partition of t for values from (200) to (300)",
            "insert into t values (250)",
            "drop table t3",
        ],
        Some("t3 was made and dropped"),
        None,
    ),
    Case(
        "one comes with rows and is detached",
        &[
            "create table other_t3 partition of t for values from (200) to (300); insert into t values (250)",
            "alter table t detach partition other_t3",
        ],
        Some("public.other_t3 was a partition and is none any more"),
        None,
    ),
    Case("one is detached", &["alter table t detach partition t2"], None, LOST),
    Case("one is detached beside readers", &["alter table t detach partition t2 concurrently"], None, LOST),
    Case("one is dropped", &["drop table t2"], None, LOST),
    Case(
        "one is dropped and made again",
        &["drop table t2; create table t2 partition of t for values from (100) to (200)"],
        None,
        LOST,
    ),
    Case(
        "one is away for a while",
        &[
            "alter table t detach partition t2",
            "insert into t2 values (151)",
            "alter table t attach partition t2 for values from (100) to (200)",
        ],
        None,
        Some("public.t had partition public.t2 detached and attached again"),
    ),
    Case(
        "one is away inside of a transaction",
        &["begin; alter table t detach partition t2; insert into t2 values (151); \
           alter table t attach partition t2 for values from (100) to (200); commit"],
        None,
        Some("public.t had partition public.t2 detached and attached again"),
    ),
    Case("one is emptied by itself", &["truncate t2"], EMPTIED, None),
    Case("one is emptied with another table", &["truncate t2, other"], EMPTIED, None),
    Case(
        "one is created, filled and emptied",
        &[
            "begin; create table t3 partition of t for values from (200) to (300); insert into t values (250); truncate t3; commit",
        ],
        Some("Partition public.t3 of table public.t was emptied (TRUNCATE)"),
        None,
    ),
    Case(
        "all are rewritten",
        &["alter table t alter v type text using upper(v)"],
        Some("public.t was altered and its rows were written anew"),
        Some("public.t was altered and its rows were written anew"),
    ),
    Case(
        "one is unlogged",
        &["alter table t2 set unlogged"],
        None,
        Some("has partition public.t2, which became unlogged"),
    ),
    Case(
        "one is unlogged for a while",
        &["alter table t2 set unlogged", "insert into t values (151)", "alter table t2 set logged"],
        None,
        Some("public.t had partition public.t2 written anew where the stream does not tell"),
    ),
    Case(
        "a new one is unlogged for a while",
        &[
            "create table t3 partition of t for values from (200) to (300); alter table t3 set unlogged",
            "insert into t values (251)",
            "alter table t3 set logged",
        ],
        None,
        CAME,
    ),
    Case(
        "a new one is emptied while it is unlogged",
        &[
            "create table t3 partition of t for values from (200) to (300); insert into t values (251)",
            "alter table t3 set unlogged",
            "delete from t3",
            "alter table t3 set logged",
        ],
        None,
        CAME,
    ),
    Case(
        "an unlogged one is created",
        &["create unlogged table t3 partition of t for values from (200) to (300)"],
        None,
        Some("has partition public.t3, which became unlogged or came so"),
    ),
    Case(
        "one logs nothing of its old rows",
        &["alter table t2 replica identity nothing"],
        None,
        Some("Partition public.t2 has a replica identity that does not tell the key"),
    ),
    Case(
        "one logs another key",
        &[
            "update t set v = 'b' where v is null; alter table t2 alter v set not null; create unique index t2v on t2 (v); \
           alter table t2 replica identity using index t2v",
        ],
        None,
        Some("Partition public.t2 has a replica identity that does not tell the key"),
    ),
    Case(
        "the table becomes a partition itself",
        &[
            "create table other_p (like t) partition by range (id)",
            "alter table other_p attach partition t for values from (0) to (1000)",
        ],
        None,
        Some("public.t became a partition"),
    ),
];

async fn notice(version: u32) {
    let own = (version != 15).then(|| start_with(PostgresOptions::default().version(version)));
    for case in FOLLOWED.iter().chain(STOPPED) {
        case.notice(own.as_ref().unwrap_or_else(|| shared()), PARTED).await;
    }
}

/// R23, R24: partitions come and go.
#[tokio::test(flavor = "multi_thread")]
async fn r23_r24_partitions_that_come_with_rows_or_go_with_them_are_noticed() {
    notice(15).await;
}

/// R23, R24: the same on 17, whose catalogue is another one and whose stream is not.
#[tokio::test(flavor = "multi_thread")]
async fn r23_r24_partitions_are_noticed_on_17() {
    let server = start_with(PostgresOptions::default().version(17));
    for case in FOLLOWED.iter().chain(STOPPED) {
        case.while_stopped(&Database::on(&server, PARTED)).await;
    }
}

/// R23, R24: the same on the newest server.
#[tokio::test(flavor = "multi_thread")]
async fn r23_r24_partitions_are_noticed_on_18() {
    notice(18).await;
}

/// The lines of these statements' changes.
async fn lines(tables: &str, statements: &str, transactions: usize) -> Vec<String> {
    let database = Database::new(tables);
    let mut reading = database.reading().await;
    database.sql(statements);
    reading.until(transactions).await;
    reading.taken().into_iter().filter(|line| line != ";").collect()
}

/// R24: several levels, columns in another order, generated and dropped ones among them, rows that move.
#[tokio::test(flavor = "multi_thread")]
async fn r24_changes_of_partitions_are_the_tables_own() {
    let found = lines(
        "create table t (gone int, id int, day int, v text, g int generated always as (id + 1) stored, n int, primary key (id, day)) \
           partition by range (day); alter table t drop gone; \
         create table t1 partition of t for values from (2020) to (2021); \
         create table t2 (n int, x int, v text, day int not null, g int generated always as (id + 1) stored, id int not null) \
           partition by hash (id); alter table t2 drop x; \
         create table t2a partition of t2 for values with (modulus 2, remainder 0); \
         create table t2b (n int, v text, day int not null, id int not null, g int generated always as (id + 1) stored); \
         alter table t2 attach partition t2b for values with (modulus 2, remainder 1); \
         alter table t attach partition t2 for values from (2021) to (2022)",
        "insert into t values (1, 2020, 'a', default, 7); \
         insert into t (id, day, v, n) select n, 2021, 'b', n * 10 from generate_series(2, 5) n; \
         update t set v = 'c', n = null where id in (1, 2, 3); \
         update t set day = 2021 where id = 1; update t set day = 2020 where id = 4; \
         delete from t where id = 5",
        6,
    )
    .await;
    let mut sorted = found.clone();
    sorted.sort();
    let mut expect = [
        "+t 1,2020,a,7",
        "+t 2,2021,b,20",
        "+t 3,2021,b,30",
        "+t 4,2021,b,40",
        "+t 5,2021,b,50",
        "*t 1,2020,~,~ > 1,2020,c,null",
        "*t 2,2021,~,~ > 2,2021,c,null",
        "*t 3,2021,~,~ > 3,2021,c,null",
        "-t 1,2020,~,~",
        "+t 1,2021,c,null",
        "-t 4,2021,~,~",
        "+t 4,2020,b,40",
        "-t 5,2021,~,~",
    ];
    expect.sort_unstable();
    assert_eq!(sorted, expect, "{found:#?}");
}

/// R3, R24: partitions of a table without a key log whole rows, each by itself.
#[tokio::test(flavor = "multi_thread")]
async fn r3_r24_partitions_that_log_whole_rows() {
    const FULL: &str = "create table t (id int, v text) partition by list (id); alter table t replica identity full; \
        create table t1 partition of t for values in (1); create table t2 (v text, id int); \
        alter table t attach partition t2 for values in (2); alter table t1 replica identity full; ";
    let database = Database::new(FULL);
    let error = database.source().begin().await.unwrap_err();
    assert!(error.message().contains("public.t has no replica identity"), "{error}");
    let tables = format!("{FULL} alter table t2 replica identity full");
    let statements = "insert into t values (1, 'a'), (2, 'b'); update t set v = 'c'; update t set id = 3 - id; delete from t";
    let found = lines(&tables, statements, 4).await;
    let expect = [
        "+t 1,a",
        "+t 2,b",
        "*t 1,a > 1,c",
        "*t 2,b > 2,c",
        "-t 1,c",
        "+t 2,c",
        "-t 2,c",
        "+t 1,c",
        "-t 1,c",
        "-t 2,c",
    ];
    assert_eq!(found, expect);
}

/// R24: what came while nobody looked is told apart at the next start.
#[tokio::test(flavor = "multi_thread")]
async fn r24_a_partition_that_came_meanwhile_is_read_from_its_first_row() {
    let database = Database::new(PARTED);
    let start = database.source().begin().await.unwrap();
    database.sql(
        "create table t3 partition of t for values from (200) to (300); insert into t values (250, 'c')",
    );
    let mut reading = Reading::open(database.source(), &start).await.unwrap();
    database.sql(
        "create table t4 partition of t for values from (300) to (400); insert into t values (350, 'd')",
    );
    reading.until(2).await;
    assert_eq!(reading.taken(), ["+t 250,c", ";", "+t 350,d", ";"]);
    // Before any look but that of the stream: it is known that its rows are on the target.
    database.sql("drop table t4");
    let error = reading.source.leave().await.unwrap_err();
    assert!(error.message().contains("public.t lost partition public.t4"), "{error}");
}

/// R24: one that is attached empty and looked at is like any other.
#[tokio::test(flavor = "multi_thread")]
async fn r24_a_partition_that_was_seen_empty_is_followed() {
    let database = Database::new(PARTED);
    let mut reading = database.reading().await;
    database.sql("begin; create table t3 (v text, id int primary key); alter table t attach partition t3 for values from (200) to (300); commit");
    reading.source.leave().await.unwrap();
    database.sql("insert into t values (250, 'c')");
    reading.until(1).await;
    assert_eq!(reading.taken(), ["+t 250,c", ";"]);
    reading.source.leave().await.unwrap();
    database.sql("alter table t detach partition t3");
    let error = reading.source.leave().await.unwrap_err();
    assert!(error.message().contains("lost partition public.t3") && error.hint().is_some(), "{error}");
    assert!(matches!(error.kind(), ErrorKind::Table(_)), "{error}");
}

/// R24: where rows of lost partitions stay, the rest is followed, and what comes back stops.
#[tokio::test(flavor = "multi_thread")]
async fn r24_rows_of_lost_partitions_stay_where_that_is_asked_for() {
    let database = Database::new(PARTED);
    let keeping = || WalSourceOptions { keeps_lost_partitions: true, ..database.options() };
    let keeping = || WalSource::new(keeping(), Arc::new(Public));
    let mut source = keeping();
    let start = source.begin().await.unwrap();
    database.sql("insert into t values (151, 'late'); alter table t detach partition t2; insert into t2 values (152, 'apart')");
    let mut reading = Reading::open(source, &start).await.unwrap();
    database.sql(
        "create table t22 partition of t for values from (100) to (200); insert into t values (152, 'c')",
    );
    reading.until(2).await;
    assert_eq!(reading.taken(), ["+t 151,late", ";", "+t 152,c", ";"]);
    database.sql("drop table t2; insert into t values (2, 'd')");
    reading.until(1).await;
    reading.source.leave().await.unwrap();
    database.sql("truncate t");
    let error = reading.read().await.unwrap_err();
    assert!(error.message().contains("was emptied (TRUNCATE), and not all"), "rows that stay: {error}");
    let error = Reading::open(database.source(), &start).await.err();
    assert!(error.is_none(), "what is known to be gone is no news: {error:?}");
    database.sql("alter table t detach partition t22");
    Reading::open(keeping(), &start).await.unwrap();
    database.sql("alter table t attach partition t22 for values from (100) to (200)");
    let error = Reading::open(keeping(), &start).await.err().unwrap();
    assert!(error.message().contains("got partition public.t22 back"), "{error}");
}

/// R23, R24: what cannot be followed from the beginning.
#[tokio::test(flavor = "multi_thread")]
async fn r23_r24_partitions_that_are_not_in_the_wal_are_refused() {
    for (sql, words) in [
        (
            "create unlogged table t3 partition of t for values from (200) to (300)",
            "Partition public.t3 is unlogged",
        ),
        (
            "alter table t drop constraint t_pkey; alter table t1 replica identity full; alter table t2 replica identity full; \
             create foreign data wrapper w; create server s foreign data wrapper w; \
             create foreign table t3 partition of t for values from (200) to (300) server s",
            "Partition public.t3 is a foreign table",
        ),
        ("alter table t2 replica identity nothing", "public.t has no replica identity"),
        (
            "create publication freshet_NAME for table t, other with (publish_via_partition_root = true)",
            "publishes partitions by their root",
        ),
    ] {
        let database = Database::new(PARTED);
        database.sql(&sql.replace("NAME", &database.name));
        let error = database.source().begin().await.unwrap_err();
        assert!(error.message().contains(words) && error.hint().is_some(), "{sql}: {error}");
    }
}

/// R22, R24: without a table of large values nobody can tell what wrote a file anew.
#[tokio::test(flavor = "multi_thread")]
async fn r22_a_partition_without_large_values_that_was_written_anew_stops() {
    const SMALL: &str = "create table t (id int primary key) partition by range (id); \
        create table t1 partition of t for values from (0) to (100); insert into t values (1)";
    for sql in [
        "truncate t",
        "vacuum full t1",
        "alter table t1 set unlogged; insert into t values (2); alter table t1 set logged",
    ] {
        let database = Database::new(SMALL);
        let start = database.source().begin().await.unwrap();
        sql.split("; ").for_each(|statement| drop(database.sql(statement)));
        let error = Reading::open(database.source(), &start).await.err().unwrap();
        assert!(error.message().contains("had partition public.t1 written anew"), "{sql}: {error}");
    }
}

/// R24: a load takes only partitions that a look has seen: those that go are missed then.
#[tokio::test(flavor = "multi_thread")]
async fn r24_a_partition_is_loaded_once_it_was_looked_at() {
    let database = Database::new(PARTED);
    let mut reading = database.reading().await;
    let options = database.options();
    let mut reader = ReaderOptions::new(options.connect.clone(), "shop");
    reader.publication = Some(options.publication.clone());
    let mut reader = PostgresTableReader::new(reader);
    reader.view(&Public, 1).await.unwrap();
    database.sql(
        "create table t3 partition of t for values from (200) to (300); insert into t values (250, 'c')",
    );
    let error = reader.view(&Public, 1).await.err().unwrap();
    assert!(error.is_retryable() && error.message().contains("Partition public.t3 came just now"), "{error}");
    reading.source.leave().await.unwrap();
    reader.view(&Public, 1).await.unwrap();
}

/// R24: a commit that waits for a standby is in the stream before anybody sees the partition that it made.
#[tokio::test(flavor = "multi_thread")]
async fn r24_a_partition_of_a_commit_that_waits_for_a_standby_is_followed() {
    let server = start();
    let database = Database::on(&server, PARTED);
    let mut reading = database.reading().await;
    database.sql("insert into t values (50, 'c')");
    reading.until(1).await;
    server.sql("alter system set synchronous_standby_names = 'nobody'");
    server.sql("select pg_reload_conf()");
    let is_waiting =
        || server.sql("select count(*) from pg_stat_activity where wait_event = 'SyncRep'").trim() == "1";
    let sql = "begin; create table t3 partition of t for values from (200) to (300); insert into t values (250, 'd'); commit";
    let (server, name) = (&server, &database.name);
    std::thread::scope(|scope| {
        scope.spawn(|| server.sql_in(name, sql));
        assert!(poll_until(DEADLINE, is_waiting), "the commit waits");
        let early = tokio::time::timeout(Duration::from_secs(2), reading.read());
        let handle = tokio::runtime::Handle::current();
        let read = tokio::task::block_in_place(|| handle.block_on(early));
        assert!(read.is_err(), "nobody can know yet whose it is");
        server.sql("alter system reset synchronous_standby_names");
        server.sql("select pg_reload_conf()");
    });
    reading.until(2).await;
    assert_eq!(reading.taken(), ["+t 50,c", ";", "+t 250,d", ";"]);
}

/// R22, R24: a partition that was loaded, and of which the stream has said nothing, is part of the table as well.
#[tokio::test(flavor = "multi_thread")]
async fn r22_r24_partitions_that_only_a_load_has_seen_count() {
    let database = Database::new(PARTED);
    let mut reading = database.reading().await;
    database.sql("update t set v = 'x'");
    reading.until(1).await;
    database.sql("create table t3 (like t including all); alter table t attach partition t3 for values from (200) to (300)");
    reading.source.leave().await.unwrap();
    database.sql("truncate t1, t2");
    let error = reading.read().await.unwrap_err();
    assert!(error.message().contains("was emptied (TRUNCATE), and not all"), "{error}");
}

/// R24: so many partitions that what is kept of them is large.
#[tokio::test(flavor = "multi_thread")]
async fn r24_hundreds_of_partitions() {
    let database = Database::new(
        "create table t (id int primary key, v text) partition by range (id); \
         do $$ begin for n in 0..299 loop execute format('create table part_of_a_table_%s partition of t for values from (%s) to (%s)', \
           n, n * 10, n * 10 + 10); end loop; end $$",
    );
    let mut reading = database.reading().await;
    database.sql("insert into t select n * 10, 'x' from generate_series(0, 299) n");
    reading.until(1).await;
    reading.source.leave().await.unwrap();
    assert_eq!(reading.taken().len(), 301);
    database.sql("truncate t");
    reading.until(1).await;
    assert_eq!(reading.taken(), ["0t", ";"]);
}
