//! Transactions and tables as a black box: keys that move, values that swap, rollbacks, truncation, names, DDL.

use freshet_testkit::servers::{Flavor, Hold, Proxy, wait_until};

use crate::kit::{DEADLINE, Scenario, numbers_sql};

const FLAVORS: [Flavor; 2] = [Flavor::MariaDb, Flavor::MySql];

/// R6: keys that move, swap and come back, in one transaction and across several, in one window.
#[test]
fn r6_keys_that_move_and_values_that_swap() {
    for flavor in FLAVORS {
        let scenario = Scenario::new(flavor, "keys");
        scenario.my("create table t (id int primary key, u int unique, v varchar(100)); \
             create table pair (a int, b varchar(20) collate utf8mb4_bin, v int, primary key (a, b)); \
             insert into pair values (1,'x',1),(1,'X',2),(2,'x ',3)");
        let rows: Vec<String> = (1..=200).map(|i| format!("({i},{i},'row {i}')")).collect();
        scenario.my(&format!("insert into t values {}", rows.join(",")));
        scenario.catch_up();
        scenario.compare(&["t", "pair"]);
        scenario.my(
            "update t set id=id+1000 where id<=50; update t set id=id-1000 where id>1025; \
             begin; update t set id=-1 where id=100; update t set id=100 where id=101; update t set id=101 where id=-1; commit; \
             begin; update t set u=-1 where id=110; update t set u=110 where id=111; update t set u=111 where id=110; commit; \
             begin; delete from t where id=120; insert into t values (120,120,'again'); commit; \
             begin; insert into t values (500,500,'short'); update t set id=501 where id=500; delete from t where id=501; commit; \
             begin; delete from t where id=130; insert into t values (131130,130,'took its unique value'); commit; \
             begin; update t set v='once' where id=140; update t set v='twice' where id=140; commit; \
             update pair set b='y' where b='X'; update pair set a=a+1 order by a desc; \
             update t set id=id+5000 order by id desc; update t set id=id-4999 order by id",
        );
        scenario.catch_up();
        scenario.compare(&["t", "pair"]);
    }
}

/// R7: equal rows of a table without a key are changed one by one.
#[test]
fn r7_a_table_without_a_key_keeps_its_number_of_equal_rows() {
    for flavor in FLAVORS {
        let scenario = Scenario::new(flavor, "keyless");
        scenario.my(
            "create table t (a int, b varchar(10), c double); \
             insert into t values (1,'x',0.1),(1,'x',0.1),(1,'x',0.1),(2,null,null),(2,null,null),(null,null,null),(3,'y',0.3)",
        );
        scenario.catch_up();
        scenario.compare(&["t"]);
        scenario.my(
            "delete from t where a=1 limit 1; update t set b='z' where a=2 limit 1; \
             insert into t values (1,'x',0.1),(9,'n',1e-7); delete from t where a is null; \
             begin; insert into t values (5,'five',5); insert into t values (5,'five',5); delete from t where a=5 limit 1; commit; \
             update t set a=4 where a=3",
        );
        scenario.catch_up();
        let counts =
            scenario.pg("select coalesce(a,-1), coalesce(b,'-'), count(*) from t group by 1,2 order by 1,2");
        assert_eq!(counts, "1\tx\t3\n2\t-\t1\n2\tz\t1\n4\ty\t1\n5\tfive\t1\n9\tn\t1");
    }
}

/// T1: what was rolled back, wholly or to a savepoint, never arrives.
#[test]
fn t1_rollbacks_and_savepoints() {
    for flavor in FLAVORS {
        let scenario = Scenario::new(flavor, "rollback");
        scenario.my("create table t (id int primary key, v varchar(10)); insert into t values (1,'a')");
        scenario.catch_up();
        scenario.my(
            "begin; insert into t values (2,'no'); rollback; \
             begin; insert into t values (3,'yes'); savepoint s; insert into t values (4,'no'); rollback to s; \
             insert into t values (5,'yes'); release savepoint s; commit; \
             begin; update t set v='no'; rollback; \
             begin; commit; begin; select 1; commit",
        );
        scenario.catch_up();
        scenario.compare(&["t"]);
        assert_eq!(scenario.pg("select string_agg(id::text, ',' order by id) from t"), "1,3,5");
    }
}

/// T5, T8: a transaction larger than a window is seen whole or not at all.
#[test]
fn t5_a_transaction_larger_than_a_window_is_seen_whole_or_not_at_all() {
    let scenario = Scenario::new(Flavor::MariaDb, "huge");
    scenario.my("create table t (id int primary key, v varchar(200)); insert into t values (0,'first')");
    let run = scenario.spawn();
    scenario.wait_consistent(&run);
    scenario.my("begin; insert into t select seq, repeat('x',150) from seq_1_to_120000; update t set v='y' where id % 3 = 0; commit");
    let mut seen = std::collections::BTreeSet::new();
    wait_until(DEADLINE, "the transaction", || {
        assert!(run.is_running(), "{}", run.stderr());
        let count = scenario.pg_number("select count(*) from t").unwrap();
        seen.insert(count);
        count == 120_001
    });
    assert!(seen.iter().all(|count| [1, 120_001].contains(count)), "Parts were seen: {seen:?}");
    scenario.my("begin; delete from t where id > 10; insert into t values (200000,'last'); commit");
    scenario.wait_for(&run, "the deletes", "select count(*) from t", 12);
    scenario.stop(&run);
    scenario.compare(&["t"]);
}

/// T6: transactions of tables that are not captured move the checkpoint all the same.
#[test]
fn t6_filtered_transactions_move_the_checkpoint() {
    let scenario = Scenario::new(Flavor::MariaDb, "filtered");
    scenario.my("create table t (id int primary key); insert into t values (1)");
    let run = scenario.spawn();
    scenario.wait_consistent(&run);
    let before = scenario.checkpoint("position");
    scenario.source.sql("create database if not exists elsewhere; create table if not exists elsewhere.x (id int); insert into elsewhere.x values (1)");
    wait_until(DEADLINE, "the checkpoint to move", || {
        assert!(run.is_running(), "{}", run.stderr());
        scenario.checkpoint("position") != before
    });
    scenario.stop(&run);
}

/// T9: a storm of single-row transactions.
#[test]
fn t9_a_storm_of_single_row_transactions() {
    let scenario = Scenario::new(Flavor::MariaDb, "storm");
    scenario.my("create table t (id int primary key, v int); insert into t values (0,0)");
    let run = scenario.spawn();
    scenario.wait_consistent(&run);
    let inserts: Vec<String> = (1..=4_000).map(|i| format!("insert into t values ({i},0);")).collect();
    let updates: Vec<String> =
        (1..=4_000).map(|i| format!("update t set v=v+{i} where id={};", i % 100)).collect();
    scenario.my(&inserts.concat());
    scenario.my(&updates.concat());
    scenario.my("insert into t values (9999,1)");
    scenario.wait_for(&run, "the last row", "select count(*) from t where id=9999", 1);
    scenario.stop(&run);
    scenario.compare(&["t"]);
}

/// R22: TRUNCATE is followed, alone and between changes of the same window.
#[test]
fn r22_truncate_is_followed() {
    for flavor in FLAVORS {
        let scenario = Scenario::new(flavor, "truncate");
        scenario.my("create table t (id int primary key, v varchar(20)); create table n (a int)");
        scenario.my(&numbers_sql("t", 1, 50));
        scenario.my("insert into n values (1),(1),(2)");
        scenario.catch_up();
        scenario.my("insert into t values (100,'gone'); truncate table t; insert into t values (1,'new'),(101,'new'); truncate n; insert into n values (3)");
        scenario.catch_up();
        scenario.compare(&["t", "n"]);
        scenario.my("truncate t");
        scenario.catch_up();
        assert_eq!(scenario.pg("select count(*) from t"), "0");
    }
}

/// Any other DDL on a captured table stops by name, again and again.
#[test]
fn d_ddl_on_a_captured_table_stops_by_name() {
    for (ddl, flavor) in [
        ("alter table t add column w int", Flavor::MariaDb),
        ("alter table t add column w int", Flavor::MySql),
        ("alter table t drop column v", Flavor::MariaDb),
        ("rename table t to t2", Flavor::MariaDb),
        ("drop table t", Flavor::MySql),
        ("/*!40000 alter */ table `t` modify v varchar(500)", Flavor::MariaDb),
    ] {
        let scenario = Scenario::new(flavor, "ddl");
        scenario.my("create table t (id int primary key, v varchar(20))");
        scenario.my(&numbers_sql("t", 1, 50));
        scenario.catch_up();
        scenario.my(&format!("insert into t values (100,'before'); {ddl}"));
        let exit = scenario.run();
        assert_ne!(exit.code, Some(0), "{ddl}: {}", exit.stderr);
        assert!(exit.stderr.contains(&format!("{}.t", scenario.name)), "{ddl}: {}", exit.stderr);
        assert!(exit.stderr.contains("hint:"), "{ddl}: {}", exit.stderr);
        let again = scenario.run();
        assert_eq!(again.code, exit.code, "{ddl}: {}", again.stderr);
        assert!(scenario.pg_number("select count(*) from t where id=100") <= Some(1), "{ddl}");
    }
}

/// D6: DDL on tables that are not captured is none of our business.
#[test]
fn d6_ddl_elsewhere_is_skipped() {
    let scenario = Scenario::new(Flavor::MariaDb, "ddl_elsewhere");
    scenario
        .my("create table t (id int primary key, v varchar(20)); create database if not exists other_schema");
    scenario.my(&numbers_sql("t", 1, 50));
    scenario.catch_up();
    scenario.my(
        "create table if not exists other_schema.x (id int); alter table other_schema.x add column y int; \
         drop table other_schema.x; create temporary table tmp (id int); drop temporary table tmp; \
         create user if not exists somebody@localhost; drop user somebody@localhost; \
         analyze table t; insert into t values (100,'after')",
    );
    scenario.catch_up();
    scenario.compare(&["t"]);
}

/// A table that is dropped between the catalogue and its chunk is told by name.
#[test]
fn a_table_dropped_in_mid_load_is_named() {
    for flavor in FLAVORS {
        let mut scenario = Scenario::new(flavor, "dropped");
        scenario.settings.load = "readers: 1".into();
        scenario.my("create table a (id int primary key, v varchar(20)); create table z (id int primary key, v varchar(20))");
        scenario.my(&numbers_sql("a", 1, 50));
        scenario.my(&numbers_sql("z", 1, 50));
        let proxy = Proxy::start(scenario.target.port());
        scenario.settings.sink_port = proxy.port();
        proxy.hold("copy ", Hold::Message);
        let run = scenario.spawn();
        wait_until(DEADLINE, "the load to be held", || proxy.is_holding() || !run.is_running());
        assert!(proxy.is_holding(), "{}", run.stderr());
        let drop_tables = ["a", "z"].map(|table| {
            scenario.source.spawn_sql(&format!(
                "set session lock_wait_timeout=600; drop table {}.{table}",
                scenario.name
            ))
        });
        // The view of the load holds both; it ends with the session that the load writes by.
        let waiting = "select count(*) from information_schema.processlist where state like 'Waiting for table metadata lock%'";
        let wait = || scenario.my(waiting).trim().parse::<u32>().is_ok_and(|waiting| waiting > 0);
        let dropped = || scenario.my("show tables").lines().count() < 2;
        wait_until(DEADLINE, "a DROP to wait for the load", || wait() || dropped() || !run.is_running());
        proxy.cut_held();
        let exit = run.wait(DEADLINE);
        for job in drop_tables {
            job.wait().unwrap();
        }
        assert_ne!(exit.code, Some(0), "{}", exit.stderr);
        let named =
            ["a", "z"].iter().any(|table| exit.stderr.contains(&format!("{}.{table}", scenario.name)));
        assert!(named, "{}", exit.stderr);
    }
}

/// D13: names of every sort arrive as they are.
#[test]
fn d13_names_arrive_as_they_are() {
    for flavor in FLAVORS {
        let scenario = Scenario::new(flavor, "names");
        scenario.my(
            "create table `order` (`select` int primary key, `from` varchar(10), `UPPER` int, `with space` int, \
             `quo\"te` int, `back``tick` int, `dot.ted` int, `semi;colon` int, `ümlaut中` int, `per%cent` int, `a'b` int, \
             key `user` (`from`), unique key `weird \"index` (`quo\"te`)); \
             create table `Table With \"Quotes\"` (id int primary key, v varchar(10)); \
             insert into `order` values (1,'a',2,3,4,5,6,7,8,9,10); \
             insert into `Table With \"Quotes\"` values (1,'x')",
        );
        scenario.catch_up();
        scenario.my(
            "insert into `order` values (2,'b',12,13,14,15,16,17,18,19,20); update `order` set `from`='c', `quo\"te`=99 where `select`=1; \
             insert into `Table With \"Quotes\"` values (2,'y'); delete from `Table With \"Quotes\"` where id=1",
        );
        scenario.catch_up();
        let rows = scenario.pg("select * from \"order\" order by \"select\"");
        assert_eq!(rows, "1\tc\t2\t3\t99\t5\t6\t7\t8\t9\t10\n2\tb\t12\t13\t14\t15\t16\t17\t18\t19\t20");
        assert_eq!(scenario.pg("select id, v from \"Table With \"\"Quotes\"\"\""), "2\ty");
        let columns = scenario.pg("select string_agg(attname, '|' order by attnum) from pg_attribute where attrelid='\"order\"'::regclass and attnum>0");
        assert_eq!(
            columns,
            "select|from|UPPER|with space|quo\"te|back`tick|dot.ted|semi;colon|ümlaut中|per%cent|a'b"
        );
    }
}

/// D13: names that PostgreSQL would cut off, and two tables that would become one, are refused before anything is made.
#[test]
fn d13_names_that_are_too_long_or_collide_are_refused() {
    let scenario = Scenario::new(Flavor::MariaDb, "long");
    let long = "ü".repeat(40);
    scenario.my(&format!("create table t (id int primary key, `{long}` int)"));
    let exit = scenario.run();
    assert!(exit.code != Some(0) && exit.stderr.contains(&long), "{}", exit.stderr);
    assert_eq!(scenario.pg("select count(*) from pg_tables where schemaname='public'"), "0");

    let mut scenario = Scenario::new(Flavor::MariaDb, "collide");
    let other = format!("{}_two", scenario.name);
    scenario.source.sql(&format!("create database {other}; create table {other}.t (id int primary key)"));
    scenario.my("create table t (id int primary key)");
    scenario.settings.include.push(format!("{other}.*"));
    scenario.settings.sink_schema = format!("public, {other}: public");
    let exit = scenario.run();
    assert_eq!(exit.code, Some(2), "{}", exit.stderr);
    assert!(exit.stderr.contains(&other) && exit.stderr.contains("public"), "{}", exit.stderr);
    assert_eq!(scenario.freshet(&["check"]).code, Some(9));
}

/// D12: a table that is there already is bound by name, in whatever order its columns stand.
#[test]
fn d12_existing_tables_are_bound_by_name() {
    let mut scenario = Scenario::new(Flavor::MariaDb, "by_name");
    scenario.my("create table t (id int primary key, a varchar(10), b int)");
    scenario.my("insert into t values (1,'x',10),(2,'y',20)");
    scenario.pg(
        "set role freshet; create table t (b bigint, extra text default 'ours', a text, id int primary key); \
         insert into t (id) values (77)",
    );
    scenario.refused(2, &["t", "empty"]);
    assert_eq!(scenario.pg("select count(*) from t"), "1");
    scenario.settings.sink_more = "prepare: truncate".into();
    scenario.catch_up();
    scenario.my("update t set a='z' where id=1; insert into t values (3,'w',30); delete from t where id=2");
    scenario.catch_up();
    assert_eq!(scenario.pg("select id, a, b, extra from t order by id"), "1\tz\t10\tours\n3\tw\t30\tours");
}

/// D12: a column that is missing or too narrow on the target is refused by name.
#[test]
fn d12_a_missing_or_narrow_column_is_refused() {
    for columns in [
        "id int primary key, a text",
        "id int primary key, a varchar(5), b int",
        "id int primary key, a text, b smallint",
    ] {
        let scenario = Scenario::new(Flavor::MariaDb, "narrow");
        scenario
            .my("create table t (id int primary key, a varchar(10), b int); insert into t values (1,'x',1)");
        scenario.pg(&format!("set role freshet; create table t ({columns})"));
        let exit = scenario.run();
        assert!([Some(2), Some(7)].contains(&exit.code), "{:?} {}", exit.code, exit.stderr);
        assert!(exit.stderr.contains("column"), "{}", exit.stderr);
        assert_eq!(scenario.pg("select count(*) from t"), "0");
    }
}

/// Indexes, NOT NULL and keys are there when the load is done; what is not carried over is listed.
#[test]
fn what_is_carried_over_and_what_is_listed() {
    let scenario = Scenario::new(Flavor::MariaDb, "carried");
    scenario.my(
        "create table t (id int primary key auto_increment, a varchar(10) not null comment 'it''s <a>', b int default 7, c text, \
         unique key ua (a), key kb (b desc), key kc (c(10)), fulltext key ft (c)); \
         create table parent (id int primary key); \
         create table child (id int primary key, p int, foreign key fk_p (p) references parent (id)); \
         create view v as select 1 as x; \
         insert into t values (1,'a',1,'x'),(2,'b',2,null); insert into parent values (1); insert into child values (1,1)",
    );
    let exit = scenario.run();
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    let indexes = scenario.pg(
        "select count(*) filter (where indisunique), count(*) from pg_index where indrelid='t'::regclass",
    );
    assert_eq!(indexes, "2\t3");
    let not_null = scenario.pg("select string_agg(attname, ',' order by attnum) from pg_attribute where attrelid='t'::regclass and attnum>0 and attnotnull");
    assert_eq!(not_null, "id,a");
    let comment = scenario.pg("select col_description('t'::regclass, 2)");
    assert_eq!(comment, "it's <a>");
    let status = scenario.freshet(&["status", "--json"]);
    let said = format!("{}{}", exit.stderr, status.stdout);
    for what in ["kc", "ft", "fk_p", "Default", "View"] {
        assert!(said.contains(what), "{what} is not listed: {said}");
    }
    scenario.compare(&["t", "parent", "child"]);
}

/// What is not carried over is told once, each thing by name, the target's reasons and the source's alike.
#[test]
fn what_is_not_carried_over_is_told_once() {
    let scenario = Scenario::new(Flavor::MariaDb, "extras");
    scenario.my("create table p (id int primary key, d int default 3, g int as (d + 1) stored, t text, fulltext f (t), \
           constraint positive check (d > 0)); \
         create table c (id int primary key, p int, constraint to_p foreign key (p) references p (id)); \
         create view v as select 1");
    let run = scenario.spawn();
    scenario.wait_consistent(&run);
    scenario.stop(&run);
    let database = &scenario.name;
    let mut told: Vec<String> = run
        .stderr()
        .lines()
        .filter(|line| line.contains("Not carried over"))
        .filter_map(|line| line.split("\"what\":\"").nth(1)?.split('"').next().map(str::to_owned))
        .collect();
    told.sort();
    let expect = [
        format!("Check constraint positive of {database}.p: CONSTRAINT `positive` CHECK (`d` > 0)"),
        format!("Default of column d of {database}.p"),
        format!("Expression of generated column g of {database}.p: its values are carried over"),
        format!(
            "Foreign key to_p of {database}.c: CONSTRAINT `to_p` FOREIGN KEY (`p`) REFERENCES `p` (`id`)"
        ),
        format!("Index f of {database}.p: fulltext indexes have no equal"),
        format!("View {database}.v"),
    ];
    assert_eq!(told, expect);
}
