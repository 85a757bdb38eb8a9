//! PostgreSQL into PostgreSQL: what is loaded and what is streamed ends equal, whatever is killed on the way.

use crate::ends::{Kind, Server};
use crate::kit::{DEADLINE, own_target};
use crate::pipeline::Pipeline;
use freshet_testkit::servers::{PostgresOptions, poll_until};

/// From one PostgreSQL into another.
fn pipeline(name: &str) -> Pipeline {
    Pipeline::between(Kind::Postgres.source(), Kind::Postgres.target(), &format!("from_pg_{name}"))
}

/// Both clients print the same rows.
#[track_caller]
fn compare(pipeline: &Pipeline, tables: &[&str]) {
    tables.iter().for_each(|table| pipeline.compare(&format!("{table} t"), "t::text"));
}

#[test]
fn rows_arrive_by_load_and_by_stream() {
    let pipeline = pipeline("simple");
    pipeline.source.sql(
        "create table t (id int primary key, v text, n numeric(12,2)); create table f (a int, b text); \
         alter table f replica identity full; \
         insert into t select n, 'row ' || n, n / 3.0 from generate_series(1, 25000) n; insert into f values (1, 'x'), (1, 'x'), (null, null)",
    );
    let run = pipeline.spawn();
    pipeline.wait_consistent(&run);
    pipeline.source.sql(
        "insert into t values (-1, 'new', 1); update t set v = 'changed' where id % 100 = 0; update t set id = -id where id between 10 and 20; \
         delete from t where id between 30 and 50; insert into f values (2, 'y'); update f set b = 'z' where a is null",
    );
    pipeline.source.sql("begin; insert into t values (-100, 'kept', 0); savepoint s; insert into t values (-101, 'gone', 0); rollback to s; commit");
    pipeline.wait_for(&run, "select count(*) from t where id = -100", "1");
    pipeline.stop(&run);
    compare(&pipeline, &["t", "f"]);
    pipeline.source.sql("truncate f; insert into f values (9, 'after')");
    pipeline.catch_up();
    compare(&pipeline, &["t", "f"]);
    let dropped = pipeline.freshet(&["drop", "--yes"]);
    assert_eq!(dropped.code, Some(0), "{}", dropped.stderr);
    assert_eq!(
        pipeline.source.sql("select count(*) from pg_replication_slots where database = current_database()"),
        "0"
    );
    assert_eq!(pipeline.source.sql("select count(*) from pg_publication"), "0");
}

/// R15: the target has the source's foreign keys, which do nothing of their own: what they did is in the WAL.
#[test]
fn r15_cascades_of_the_source_are_applied_once() {
    let target = own_target(PostgresOptions::default());
    target.sql("grant set on parameter session_replication_role to freshet");
    let pipeline = Pipeline::between(Kind::Postgres.source(), Server::Postgres(target), "cascades");
    pipeline.source.sql(
        "create table p (id int primary key, up int references p on delete cascade deferrable initially deferred); \
         create table c (id serial primary key, p int default -1 references p on delete cascade on update cascade); \
         create table n (id serial primary key, p int references p on delete set null on update cascade); \
         create table d (id serial primary key, p int default -1 references p on delete set default on update cascade); \
         insert into p values (-1, null); insert into p select n, nullif(n / 3, 0) from generate_series(1, 300) n; \
         insert into c (p) select id from p, generate_series(1, 3); insert into n (p) select p from c; insert into d (p) select p from c",
    );
    let run = pipeline.spawn();
    pipeline.wait_consistent(&run);
    assert_eq!(pipeline.target.sql("select count(*) from pg_constraint where contype = 'f'"), "4");
    let step = |n: i32| {
        format!(
            "begin; insert into c (p) values ({0}), ({1}); update p set id = 1000 + {0} where id = {0}; delete from p where id = {1}; \
             insert into p values ({1}, {0} + 1000); insert into c (p) values ({1}); commit; delete from p where id = {2};",
            200 + n,
            290 - n,
            100 + n
        )
    };
    pipeline.source.sql(&(0..40).map(step).collect::<String>());
    pipeline.source.sql("insert into n values (-7, null)");
    pipeline.wait_for(&run, "select count(*) from n where id = -7", "1");
    pipeline.stop(&run);
    compare(&pipeline, &["p", "c", "n", "d"]);
    let rows = pipeline.target.sql("select count(*) from n where p is null");
    assert_ne!(rows, "1", "something was set to null");
}

/// D14: what only PostgreSQL can make is told by a target of another kind.
#[test]
fn d14_g13_what_another_target_cannot_make_is_told() {
    let pipeline = Pipeline::between(Kind::Postgres.source(), Kind::MariaDb.target(), "told");
    pipeline.source.sql(
        "create type mood as enum ('sad'); create sequence loose; create table p (id serial primary key, m mood, \
           n int default nextval('loose') check (n > 0), g int generated always as (n + 1) stored); \
         create table c (id int primary key references p); create index part on p (n) where n > 3; comment on table p is 'x'; \
         insert into p values (1, 'sad', 7)",
    );
    let exit = pipeline.succeeds(&["run", "--until", "caught-up"]);
    for what in [
        "Check constraint p_n_check of public.p: CHECK ((n > 0))",
        "Comment of public.p: 'x'",
        "Foreign key c_id_fkey of public.c: FOREIGN KEY (id) REFERENCES public.p(id)",
        "Generated column g of public.p: (n + 1)",
        "Index part of public.p: CREATE INDEX part",
        "Sequence public.loose: start with 1",
        "Type public.mood: create type public.mood as enum ('sad')",
    ] {
        assert_eq!(exit.stderr.matches(what).count(), 1, "{what}: {}", exit.stderr);
    }
    assert!(!exit.stderr.contains("p_pkey"), "{}", exit.stderr);
    assert_eq!(pipeline.target.sql("select * from p").trim(), "1\tsad\t7");
}

/// Random transactions of one to five operations over keys of a small range: key moves, large values that stay as they
/// are, rollbacks to savepoints.
const WORK: &str = "create procedure work(transactions int, seed float8) language plpgsql as $$ \
    declare k int; r float8; begin \
      perform setseed(seed); \
      for n in 1..transactions loop \
        for op in 1..1 + floor(random() * 5)::int loop \
          k := 1 + floor(random() * 3000)::int; r := random(); \
          begin \
            if r < 0.3 then insert into t values (k, 'new ' || n, repeat(md5(n::text), 200)) on conflict do nothing; \
            elsif r < 0.6 then update t set v = 'changed ' || n where id = k; \
            elsif r < 0.7 then update t set big = repeat(md5(k::text), 300) where id = k; \
            elsif r < 0.8 then update t set id = k + 3000 where id = k and not exists (select 1 from t where id = k + 3000); \
            elsif r < 0.95 then delete from t where id in (k, k + 3000); \
            else insert into t values (-1, 'gone', ''); raise exception 'undone'; end if; \
          exception when raise_exception then null; end; \
          insert into log values (n, op, k); \
        end loop; commit; end loop; end $$";

/// T10, T11, P13: killed over and over during the load and the stream, while somebody writes.
#[test]
fn t10_t11_p13_a_pipeline_from_postgres_that_is_killed_ends_equal() {
    let seed: u64 = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
        u64::from(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().subsec_nanos())
    });
    let kills: u64 = std::env::var("KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(15);
    println!("seed {seed}, {kills} kills");
    let pipeline = pipeline("killed");
    pipeline.source.sql(
        "create table t (id int primary key, v text, big text); alter table t alter big set storage external; \
         create table log (n int, op int, k int); alter table log replica identity full; \
         insert into t select n, 'row', repeat('x', 3000) from generate_series(1, 3000) n",
    );
    pipeline.source.sql(WORK);
    let mut random = seed | 1;
    for round in 0..kills {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let float = (random >> 11) as f64 / (1_u64 << 53) as f64;
        let source = pipeline.source.clone();
        let work = std::thread::spawn(move || source.sql(&format!("call work(300, {float})")));
        let run = pipeline.spawn();
        let moment = std::time::Duration::from_millis(random >> 33 & 0x7ff);
        poll_until(moment, || !run.is_running());
        assert!(run.is_running(), "round {round}: {}", run.stderr());
        run.kill9();
        work.join().unwrap();
    }
    pipeline.catch_up();
    compare(&pipeline, &["t", "log"]);
    assert_eq!(pipeline.target.sql("select count(consistent_since) from freshet.checkpoint"), "1");
}

/// Kills a run after the first chunk of its only table came in, and before the last one can.
fn cut_off_in_the_load(pipeline: &Pipeline) {
    // The last chunk's row is locked as soon as it is there: the load cannot get past it.
    let holder = "do $$ begin while to_regclass('freshet.load_chunk') is null loop perform pg_sleep(0.005); end loop; \
         loop perform 1 from freshet.load_chunk where lower is not null and upper is null for update; \
           exit when found; perform pg_sleep(0.005); end loop; perform pg_sleep(600); end $$";
    let Server::Postgres(server) = &pipeline.target.server else { panic!("the target is no PostgreSQL") };
    let holder = server.spawn_sql(&pipeline.target.name, holder);
    let holders = |what: &str| {
        let sql = format!(
            "select count({what}) from pg_stat_activity where query like '%pg_sleep(600)%' and \
             datname = current_database() and pid <> pg_backend_pid()"
        );
        server.sql_in(&pipeline.target.name, &sql).trim().to_owned()
    };
    assert!(poll_until(DEADLINE, || holders("*") == "1"), "nobody holds the last chunk");
    let run = pipeline.spawn();
    let first = "select count(*) from freshet.load_chunk where rows is not null and lower is null";
    let has_first = || pipeline.target.try_sql(first).is_ok_and(|count| count.trim() == "1");
    assert!(poll_until(DEADLINE, has_first), "no chunk came in: {}", run.stderr());
    run.kill9();
    assert!(poll_until(DEADLINE, || holders("pg_terminate_backend(pid)") == "0"), "the holder stays");
    drop(holder);
}

/// R7: a table without a key is read by place, and as a whole again when its view is lost, since rows have other places then.
#[test]
fn r7_a_table_without_a_key_is_read_in_parts_and_again_as_a_whole() {
    let mut pipeline = pipeline("places");
    pipeline.load = "readers: 2, chunk_rows: 1000".to_owned();
    pipeline.source.sql(
        "create table t (n int, big text); alter table t replica identity full; alter table t alter big set storage external; \
         insert into t select n, repeat('x', 1500) from generate_series(1, 20000) n; analyze t",
    );
    cut_off_in_the_load(&pipeline);
    // Rows of the first chunk get places in the last one, and the other way round.
    pipeline.source.sql("update t set n = -n where n % 3 = 0; delete from t where n % 3 = 1");
    pipeline.source.sql("vacuum t");
    pipeline.source.sql("update t set n = n + 100000 where n > 19000; insert into t select n, 'new' from generate_series(1, 500) n");
    let exit = pipeline.succeeds(&["run", "--until", "caught-up"]);
    compare(&pipeline, &["t"]);
    assert_eq!(exit.stderr.matches("Loading a table without a key again").count(), 1, "{}", exit.stderr);
    let chunks = "select count(*) > 10 and count(distinct high) = 1 from freshet.load_chunk where rows > 0";
    assert_eq!(pipeline.target.sql(chunks).trim(), "t");
}

/// R1: rows move, and others go, between two halves of a load, without the large value that they have. A row that changed
/// in place and is gone needs nothing; for one that moved the table is read again.
#[test]
fn r1_a_row_that_moves_between_two_halves_of_a_load_is_read_again() {
    let mut pipeline = pipeline("moved");
    pipeline.load = "readers: 1, chunk_rows: 1000".to_owned();
    pipeline.source.sql(
        "create table t (id int primary key, v text, big text); alter table t alter big set storage external; \
         insert into t select n, 'row', repeat('x', 3000) from generate_series(1, 12000) n",
    );
    cut_off_in_the_load(&pipeline);
    // Rows of chunks that are not in become rows of the first, which is.
    pipeline.source.sql(
        "update t set id = -id where id > 11990; update t set v = 'gone' where id in (2, 11900); \
         delete from t where id in (2, 11900); update t set v = 'moved' where id = -11995; update t set v = 'here' where id = 3",
    );
    let exit = pipeline.succeeds(&["run", "--until", "caught-up"]);
    compare(&pipeline, &["t"]);
    assert_eq!(exit.stderr.matches("Loading a table again").count(), 1, "{}", exit.stderr);
    assert_eq!(pipeline.target.sql("select count(consistent_since) from freshet.checkpoint").trim(), "1");
}

/// G8: large values by load and by stream, and one that an update leaves alone.
#[test]
fn g8_values_of_megabytes_arrive() {
    let pipeline = pipeline("large");
    let bytes = "decode(repeat('00ff5c27', 1500000), 'hex')";
    pipeline.source.sql(&format!(
        "create table t (id int primary key, v bytea, w text); alter table t alter v set storage external; \
         insert into t values (1, {bytes}, 'é'), (2, '', repeat('中', 1500000))"
    ));
    pipeline.catch_up();
    let columns = "id, md5(v), length(v), md5(w), length(w)";
    pipeline.compare("t", columns);
    pipeline.source.sql(&format!(
        "update t set w = repeat('🏠', 1000000) where id = 1; update t set v = {bytes} where id = 2; \
         insert into t select id + 10, v, w from t where id = 1"
    ));
    pipeline.catch_up();
    pipeline.compare("t", columns);
}

/// What stands in the way is named before anything is made, by `check` and by `run`.
#[test]
fn r3_what_a_source_lacks_is_named() {
    let source = own_target(PostgresOptions::default().set("wal_level", "replica"));
    let pipeline =
        Pipeline::between(Server::Postgres(source.clone()), Kind::Postgres.target(), "from_pg_lacks");
    source.sql("alter role freshet noreplication");
    pipeline.source.sql("create table plain (id int); create table t (id int primary key)");
    let check = pipeline.freshet(&["check"]);
    assert_eq!(check.code, Some(9), "{}{}", check.stdout, check.stderr);
    for word in ["wal_level", "ALTER SYSTEM", "may not replicate", "public.plain", "REPLICA IDENTITY FULL"] {
        assert!(check.stdout.contains(word), "{word}: {}", check.stdout);
    }
    let grants = pipeline.freshet(&["check", "--grants"]);
    assert!(grants.stdout.contains("ALTER ROLE \"freshet\" REPLICATION"), "{}", grants.stdout);
    let run = pipeline.freshet(&["run", "--until", "caught-up"]);
    assert_eq!(run.code, Some(6), "{}", run.stderr);
    assert!(run.stderr.contains("public.plain"), "{}", run.stderr);
    assert_eq!(pipeline.source.sql("select count(*) from pg_publication"), "0", "nothing was made");
}

/// P6: a log that was lost with what a target lacks is told, and not gone on from as if nothing were missing.
#[test]
fn p6_a_lost_log_that_the_slot_has_passed_is_a_resync() {
    let pipeline = pipeline("lost");
    pipeline.source.sql("create table t (id int primary key, v text)");
    pipeline.catch_up();
    pipeline.source.sql("insert into t values (1, 'a')");
    pipeline.catch_up();
    std::fs::remove_dir_all(pipeline.dir.join("log")).unwrap();
    // The target has all of it: the log is begun anew where it stands.
    pipeline.source.sql("insert into t values (2, 'b')");
    pipeline.catch_up();
    compare(&pipeline, &["t"]);
    let slot = format!("freshet_{}", pipeline.name);
    pipeline.source.sql("insert into t values (3, 'c')");
    pipeline.source.sql(&format!(
        "reset role; select pg_replication_slot_advance('{slot}', pg_current_wal_flush_lsn())"
    ));
    let run = pipeline.freshet(&["run", "--until", "caught-up"]);
    assert_eq!(run.code, Some(8), "{}", run.stderr);
    assert!(run.stderr.contains("was advanced"), "{}", run.stderr);
}

/// D1: a changed definition stops its table by name, at its place, and nothing is applied wrongly.
#[test]
fn d1_a_changed_definition_stops_by_name() {
    let pipeline = pipeline("changed");
    pipeline.source.sql("create table t (id int primary key, v text); insert into t values (1, 'a')");
    pipeline.catch_up();
    pipeline
        .source
        .sql("insert into t values (2, 'b'); alter table t add w int; insert into t values (3, 'c', 7)");
    let run = pipeline.freshet(&["run", "--until", "caught-up"]);
    assert_ne!(run.code, Some(0), "{}", run.stderr);
    assert!(run.stderr.contains("public.t") && run.stderr.contains("definition"), "{}", run.stderr);
}

/// D1: what was done to a table while the pipeline ran, and what no row has told yet, is told when it ends.
#[test]
fn d1_a_table_that_was_altered_is_named_at_the_end() {
    let pipeline = pipeline("altered");
    pipeline.source.sql("create table t (id int primary key, v text); insert into t values (1, 'a')");
    let run = pipeline.spawn();
    pipeline.wait_consistent(&run);
    pipeline.source.sql("alter table t alter v type text using upper(v)");
    run.terminate();
    let ended = run.wait(DEADLINE);
    assert_ne!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("public.t was altered and its rows were written anew"), "{}", ended.stderr);
}

/// T6, P4: what is not captured moves the slot on, so that the server need not keep its WAL.
#[test]
fn p4_an_idle_pipeline_lets_the_slot_go_on() {
    let pipeline = pipeline("idle");
    pipeline.source.sql("create table t (id int primary key)");
    let run = pipeline.spawn();
    pipeline.wait_consistent(&run);
    let lsn = pipeline.source.sql("create schema elsewhere; create table elsewhere.t as select generate_series(1, 1000); select pg_current_wal_flush_lsn()");
    let lsn = lsn.lines().last().unwrap_or_default().to_owned();
    let slot = format!(
        "select confirmed_flush_lsn >= '{lsn}' from pg_replication_slots where slot_name = 'freshet_{}'",
        pipeline.name
    );
    assert!(poll_until(DEADLINE, || pipeline.source.sql(&slot) == "t"), "{}", run.stderr());
    pipeline.stop(&run);
}
