//! What changes look like: keys, whole rows, unchanged TOAST values, partitions, truncates, changed definitions.

use crate::harness::{DEADLINE, Database, Public, Reading};
use freshet_core::source::Source as _;
use freshet_postgres::WalSource;
use freshet_testkit::servers::{Hold, Proxy};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// R1, R2, R3: what each replica identity tells of old rows.
#[tokio::test(flavor = "multi_thread")]
async fn r3_old_rows_by_replica_identity() {
    let database = Database::new(
        "create table k (b int, a int, v text, primary key (a, b)); \
         create table f (a int, v text); alter table f replica identity full; \
         create table fk (a int primary key, v text); alter table fk replica identity full; \
         create table i (a int not null, b int primary key, v text); create unique index u on i (a); \
         alter table i replica identity using index u",
    );
    let mut reading = database.reading().await;
    database.sql("insert into k values (1, 2, 'x'); update k set v = 'y'; update k set a = 3; delete from k");
    database.sql("insert into f values (1, 'x'); update f set v = null; delete from f");
    database.sql("insert into fk values (1, 'x'); update fk set v = 'y'; delete from fk");
    database.sql("insert into i values (1, 2, 'x'); update i set v = 'y'; update i set a = 5; delete from i");
    reading.until(14).await;
    let lines: Vec<String> = reading.taken().into_iter().filter(|line| line != ";").collect();
    assert_eq!(
        lines,
        [
            "+k 1,2,x",
            "*k 1,2,~ > 1,2,y",
            "*k 1,2,~ > 1,3,y",
            "-k 1,3,~",
            "+f 1,x",
            "*f 1,x > 1,null",
            "-f 1,null",
            "+fk 1,x",
            "*fk 1,x > 1,y",
            "-fk 1,y",
            "+i 1,2,x",
            "*i 1,~,~ > 1,2,y",
            "*i 1,~,~ > 5,2,y",
            "-i 5,~,~",
        ]
    );
}

/// R1, R2: an unchanged TOAST value is absent, never NULL; where the whole old row is logged, it is taken from there.
#[tokio::test(flavor = "multi_thread")]
async fn r1_unchanged_toast_values_are_absent() {
    let database = Database::new(
        "create table t (id int primary key, v int, big text); alter table t alter big set storage external; \
         create table f (id int, v int, big text); alter table f alter big set storage external; \
         alter table f replica identity full",
    );
    let mut reading = database.reading().await;
    for table in ["t", "f"] {
        database.sql(&format!("insert into {table} values (1, 1, repeat('x', 5000))"));
        database.sql(&format!(
            "update {table} set v = 2; update {table} set id = 7; update {table} set big = null"
        ));
    }
    reading.until(8).await;
    let lines: Vec<String> = reading.taken().into_iter().filter(|line| line != ";").collect();
    assert_eq!(
        lines,
        [
            "+t 1,1,xxx..5000",
            "*t 1,~,~ > 1,2,~",
            "*t 1,~,~ > 7,2,~",
            "*t 7,~,~ > 7,2,null",
            "+f 1,1,xxx..5000",
            "*f 1,1,xxx..5000 > 1,2,xxx..5000",
            "*f 1,2,xxx..5000 > 7,2,xxx..5000",
            "*f 7,2,xxx..5000 > 7,2,null",
        ]
    );
}

/// R23: changes of partitions come as their root's, also after a partition of another column order was attached.
#[tokio::test(flavor = "multi_thread")]
async fn r23_partitions_are_their_root() {
    let database = Database::new(
        "create table p (id int, v text, primary key (id)) partition by range (id); \
         create table p1 partition of p for values from (0) to (100); \
         create table p2 (v text, id int primary key); alter table p attach partition p2 for values from (100) to (200)",
    );
    let mut reading = database.reading().await;
    database.sql("insert into p values (1, 'a'), (150, 'b'); update p set id = 160 where id = 1; delete from p where id = 150");
    database.sql("truncate p");
    reading.until(4).await;
    let lines: Vec<String> = reading.taken().into_iter().filter(|line| line != ";").collect();
    assert_eq!(lines, ["+p 1,a", "+p 150,b", "-p 1,~", "+p 160,a", "-p 150,~", "0p"]);
}

/// T2: what was rolled back, also to a savepoint, is not there; tables that are not selected are not either.
#[tokio::test(flavor = "multi_thread")]
async fn t2_rolled_back_changes_are_not_there() {
    let database = Database::new("create table t (id int primary key); create table other (id int)");
    let mut reading = database.reading().await;
    database.sql("begin; insert into t values (1); rollback");
    database.sql("begin; insert into t values (2); savepoint s; insert into t values (3); rollback to s; insert into other values (1); insert into t values (4); commit");
    database.sql("insert into other values (2)");
    database.sql("begin; insert into t values (5); prepare transaction 'x'");
    database.sql("insert into t values (6)");
    database.sql("commit prepared 'x'");
    reading.until(3).await;
    assert_eq!(reading.taken(), ["+t 2", "+t 4", ";", "+t 6", ";", "+t 5", ";"]);
}

/// D1: a change of a definition is a new schema at its own place in the stream.
#[tokio::test(flavor = "multi_thread")]
async fn d1_a_changed_definition_is_another_schema_at_its_place() {
    let database = Database::new("create table t (id int primary key, v text)");
    let mut reading = database.reading().await;
    database.sql(
        "insert into t values (1, 'a'); alter table t add w int default 7; insert into t values (2, 'b'); \
         alter table t drop v; insert into t values (3, 9)",
    );
    reading.until(3).await;
    assert_eq!(reading.taken(), ["+t 1,a", ";", "+t 2,b,7", ";", "+t 3,9", ";"]);
}

/// T7: the same inside of one transaction, in its order.
#[tokio::test(flavor = "multi_thread")]
async fn t7_a_definition_that_changes_inside_of_a_transaction() {
    let database = Database::new("create table t (id int primary key, v text)");
    let mut reading = database.reading().await;
    database.sql(
        "begin; insert into t values (1, 'a'); alter table t add w int default 7; insert into t values (2, 'b'); \
         update t set w = 8 where id = 1; alter table t drop v; insert into t values (3, 9); commit",
    );
    reading.until(1).await;
    assert_eq!(reading.taken(), ["+t 1,a", "+t 2,b,7", "*t 1,~,~ > 1,a,8", "+t 3,9", ";"]);
}

/// G4, G6: types that are not built in, made by the user.
#[tokio::test(flavor = "multi_thread")]
async fn g6_user_types_are_told_by_name() {
    let database = Database::new(
        "create type mood as enum ('sad', 'ok'); create domain positive as int check (value > 0); \
         create type pair as (a int, b text); \
         create table t (id positive primary key, m mood, ms mood[], p pair, r int4range, a int[])",
    );
    let mut reading = database.reading().await;
    database.sql("insert into t values (1, 'ok', '{sad,ok}', '(1,\"x y\")', '[1,5)', '{{1,2},{3,4}}')");
    reading.until(1).await;
    assert_eq!(reading.taken(), ["+t 1,ok,{sad,ok},(1,\"x y\"),[1,5),{{1,2},{3,4}}", ";"]);
}

/// G6: a look-up takes several questions, and reads are cancelled in between, as the engine does at every durable mark.
#[tokio::test(flavor = "multi_thread")]
async fn g6_a_look_up_goes_on_while_reads_are_cancelled() {
    let database = Database::new(
        "create domain small as int; create domain smaller as small; create table t (id int primary key, v smaller[])",
    );
    let proxy = Proxy::start(database.server.port());
    let mut options = database.options();
    options.connect.port = proxy.port();
    let mut source = WalSource::new(options, Arc::new(Public));
    let start = source.begin().await.unwrap();
    let mut reading = Reading::open(source, &start).await.unwrap();
    database.sql("insert into t values (1, '{2,3}')");
    proxy.hold("typtypmod", Hold::Answer);
    // The answer to the first question passes, and a read is cancelled while the second one waits for its own.
    let (mut held, begun) = (0, Instant::now());
    while held < 2 && reading.lines.is_empty() {
        let read = reading.read();
        tokio::pin!(read);
        while held < 2 {
            if let Ok(outcome) = tokio::time::timeout(Duration::from_millis(5), &mut read).await {
                outcome.unwrap();
                break;
            }
            if proxy.is_holding() {
                held += 1;
                if held < 2 {
                    proxy.release();
                    proxy.hold("typtypmod", Hold::Answer);
                }
            }
            assert!(begun.elapsed() < DEADLINE, "neither a question nor the row comes");
        }
    }
    proxy.release();
    reading.until(1).await;
    assert_eq!(reading.taken(), ["+t 1,{2,3}", ";"]);
}
