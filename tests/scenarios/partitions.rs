//! Partitioned tables of PostgreSQL arrive as one table: by load and by stream, while partitions come, whatever is
//! killed on the way; what cannot be followed stops by name.

use crate::ends::Kind;
use crate::kit::DEADLINE;
use crate::pipeline::Pipeline;
use freshet_testkit::servers::poll_until;
use std::time::Duration;

fn pipeline(target: Kind, name: &str) -> Pipeline {
    Pipeline::between(Kind::Postgres.source(), target.target(), &format!("parts_{name}"))
}

/// Two levels, one partition with its columns in another order, one table that logs whole rows.
const TABLES: &str = "create table t (id int, day int, v text, n int, primary key (id, day)) partition by range (day); \
    create table t0 partition of t for values from (0) to (10); create index on t (v); \
    create table t1 (n int, gone int, v text, day int not null, id int not null) partition by hash (id); \
    alter table t1 drop gone; alter table t attach partition t1 for values from (10) to (20); \
    create table t1a partition of t1 for values with (modulus 2, remainder 0); \
    create table t1b (v text, id int not null, day int not null, n int); \
    alter table t1 attach partition t1b for values with (modulus 2, remainder 1); \
    create table f (a int, b varchar(9)) partition by list (a); create table f1 partition of f for values in (1, 2); \
    create table f2 partition of f default; \
    alter table f replica identity full; alter table f1 replica identity full; alter table f2 replica identity full; \
    insert into t select n, n % 20, 'row ' || n, n from generate_series(1, 25000) n; insert into f values (1, 'x'), (7, 'y'), (7, 'y')";

#[track_caller]
fn compare(pipeline: &Pipeline) {
    pipeline.compare("t", "id, day, v, n");
    pipeline.compare("f", "a, b");
}

/// R24: loaded, streamed, moved, into a partition that came just now, also while nobody read.
fn arrives(target: Kind) {
    let pipeline = pipeline(target, "simple");
    pipeline.source.sql(TABLES);
    let run = pipeline.spawn();
    pipeline.wait_consistent(&run);
    pipeline.source.sql(
        "begin; create table t2 partition of t for values from (20) to (30); \
         insert into t select -n, 20 + n % 10, 'new', n from generate_series(1, 500) n; commit; \
         update t set day = (day + 5) % 30, v = 'moved' where id % 7 = 0; update t set n = -n where id % 11 = 0; \
         update t set id = id + 100000, day = 29 - day where id between 100 and 300; delete from t where id % 13 = 0; \
         update f set a = 8 - a; update f set b = 'z' where a = 1; delete from f where a = 7; insert into f values (5, null)",
    );
    pipeline.source.sql("insert into t values (-1000, 1, 'last', 0)");
    pipeline.wait_for(&run, "select count(*) from t where id = -1000", "1");
    pipeline.stop(&run);
    compare(&pipeline);
    pipeline.source.sql(
        "create table t3 partition of t for values from (30) to (40) partition by list (id); \
         create table t3a partition of t3 default; insert into t values (7, 35, 'while down', 1); update t set day = 36 where id = -3",
    );
    pipeline.catch_up();
    compare(&pipeline);
    pipeline.source.sql("truncate t; insert into t values (1, 1, 'after', 1), (2, 31, 'after', 2)");
    pipeline.catch_up();
    compare(&pipeline);
    assert_eq!(pipeline.target.sql("select count(*) from t").trim(), "2");
    pipeline.drop_all();
}

#[test]
fn r24_a_partitioned_table_arrives_as_one_in_postgres() {
    arrives(Kind::Postgres);
}

#[test]
fn r24_a_partitioned_table_arrives_as_one_in_mariadb() {
    arrives(Kind::MariaDb);
}

#[test]
fn r24_a_partitioned_table_arrives_as_one_in_mysql() {
    arrives(Kind::MySql);
}

/// R24: a partition that goes with its rows stops the pipeline by name; or its rows stay, where that is asked for.
#[test]
fn r24_a_dropped_partition_stops_by_name_or_its_rows_stay() {
    let mut pipeline = pipeline(Kind::Postgres, "dropped");
    pipeline.source.sql(TABLES);
    pipeline.succeeds(&["check"]);
    pipeline.catch_up();
    pipeline.source.sql("drop table t0");
    let ended = pipeline.freshet(&["run", "--until", "caught-up"]);
    assert_eq!(ended.code, Some(7), "{}", ended.stderr);
    assert!(ended.stderr.contains("public.t lost partition public.t0"), "{}", ended.stderr);
    assert!(ended.stderr.contains("dropped_partitions: keep"), "{}", ended.stderr);
    pipeline.source_more = ", dropped_partitions: keep".to_owned();
    pipeline.source.sql("insert into t values (3, 13, 'goes on', 0)");
    let ended = pipeline.succeeds(&["run", "--until", "caught-up"]);
    assert!(ended.stderr.contains("its rows stay on the targets"), "{}", ended.stderr);
    assert_eq!(pipeline.target.sql("select count(*) from t").trim(), "25001");
    pipeline.compare("t where day >= 10", "id, day, v, n");
    pipeline.drop_all();
}

/// R24: rows that came with a partition, and that were deleted before anybody looked at it, stop where they are deleted.
#[test]
fn r24_rows_that_came_with_a_partition_and_were_deleted_stop() {
    for (target, moved) in [(Kind::Postgres, false), (Kind::Postgres, true), (Kind::MariaDb, false)] {
        let pipeline = pipeline(target, "emptied");
        pipeline.source.sql(TABLES);
        pipeline.catch_up();
        pipeline.source.sql(
            "create table t2 (like t including all); insert into t2 values (1, 21, 'came along', 1); \
             alter table t attach partition t2 for values from (20) to (30)",
        );
        let away = if moved {
            "update t set day = 1, id = 0 where day = 21"
        } else {
            "delete from t where day = 21"
        };
        pipeline.source.sql(&format!("{away}; insert into t values (1, 25, 'new', 1)"));
        pipeline.source.sql("delete from t2");
        let is_empty = || {
            pipeline.source.sql("vacuum t2");
            pipeline.source.sql("select pg_relation_size('t2')").trim() == "0"
        };
        assert!(poll_until(DEADLINE, is_empty), "nobody sees its rows any more");
        let ended = pipeline.freshet(&["run", "--until", "caught-up"]);
        assert_eq!(ended.code, Some(7), "{}", ended.stderr);
        assert!(!ended.stderr.contains("may have had rows"), "it was seen empty: {}", ended.stderr);
        pipeline.drop_all();
    }
}

/// Random transactions of one to five operations over keys of a small range and days of so many partitions.
const WORK: &str = "create procedure work(transactions int, days int, seed float8) language plpgsql as $$ \
    declare k int; d int; r float8; begin \
      perform setseed(seed); \
      for i in 1..transactions loop \
        for op in 1..1 + floor(random() * 5)::int loop \
          k := 1 + floor(random() * 2000)::int; d := floor(random() * days)::int; r := random(); \
          begin \
            if r < 0.3 then insert into t values (k, d, 'new ' || i, k); \
            elsif r < 0.5 then update t set v = 'changed ' || i where id = k; \
            elsif r < 0.7 then update t set day = d where id = k and day = (select max(day) from t where id = k); \
            elsif r < 0.9 then delete from t where id = k and day <= d; \
            else update f set a = d where a = (select max(a) from f); insert into t values (-1, d, 'gone', 0); \
              raise exception 'undone'; end if; \
          exception when raise_exception or unique_violation then null; end; \
          insert into f values (d, op::text); \
        end loop; commit; end loop; end $$";

/// T10, R24: killed over and over during the load and the stream, while somebody writes and partitions come.
#[test]
fn t10_r24_a_pipeline_of_partitions_that_is_killed_ends_equal() {
    let seed: u64 = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
        u64::from(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().subsec_nanos())
    });
    let kills: u64 = std::env::var("KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(8);
    println!("seed {seed}, {kills} kills");
    let pipeline = pipeline(Kind::Postgres, "killed");
    pipeline.source.sql(TABLES);
    pipeline.source.sql(WORK);
    let mut random = seed | 1;
    for round in 0..kills {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let float = (random >> 11) as f64 / (1_u64 << 53) as f64;
        let (from, to) = (20 + round * 10, 30 + round * 10);
        let source = pipeline.source.clone();
        let work = std::thread::spawn(move || {
            source.sql(&format!("call work(150, {from}, {float})"));
            let of = "partition of t for values from";
            source.sql(&format!("create table more{round} {of} ({from}) to ({to})"));
            source.sql(&format!("call work(150, {to}, {float})"))
        });
        let run = pipeline.spawn();
        let moment = Duration::from_millis(random >> 33 & 0x7ff);
        poll_until(moment, || !run.is_running());
        assert!(run.is_running(), "round {round}: {}", run.stderr());
        run.kill9();
        work.join().unwrap();
    }
    pipeline.catch_up();
    compare(&pipeline);
    pipeline.source.sql("alter table t detach partition t0");
    let ended = pipeline.freshet(&["run", "--until", "caught-up"]);
    assert_eq!(ended.code, Some(7), "{}", ended.stderr);
    assert!(ended.stderr.contains("public.t lost partition public.t0"), "{}", ended.stderr);
}
