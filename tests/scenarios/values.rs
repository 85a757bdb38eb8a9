//! Values that PostgreSQL has no place for, and columns that fill themselves: policies, and what is never written.

use freshet_testkit::servers::{Exit, Flavor};

use crate::kit::Scenario;

const FLAVORS: [Flavor; 2] = [Flavor::MariaDb, Flavor::MySql];

/// A value without a place stops the table by name, says the column and the policy, and shows nothing of the value.
fn stops(scenario: &Scenario, column: &str, policy: &str, secret: &str) -> Exit {
    let exit = scenario.refused(7, &[".t", column, policy]);
    assert!(!exit.stderr.contains(secret), "{}", exit.stderr);
    exit
}

/// `secret` is a part of `bad` that no message may hold, and that nothing else in one is likely to be.
fn bad_value(
    flavor: Flavor,
    name: &str,
    declaration: &str,
    (bad, secret): (&str, &str),
    policy: &str,
    policies: &[(&str, &str)],
) {
    let strict = "set sql_mode='ALLOW_INVALID_DATES'";
    let mut scenario = Scenario::new(flavor, name);
    scenario.my(&format!(
        "{strict}; create table t (id int primary key, col_x {declaration}); insert into t values (1,NULL),(2,{bad})"
    ));
    stops(&scenario, "col_x", policy, secret);
    scenario.my("delete from t where id=2");
    let at_load = scenario.run();
    assert_eq!(at_load.code, Some(0), "{}", at_load.stderr);
    scenario.my(&format!("{strict}; insert into t values (3,{bad})"));
    stops(&scenario, "col_x", policy, secret);
    assert_eq!(scenario.pg("select count(*) from t where id=3"), "0");
    for (word, expected) in policies {
        scenario.settings.sink_more = format!("policies: {{ {policy}: {word} }}");
        scenario.catch_up();
        assert_eq!(scenario.pg("select col_x from t where id=3"), *expected, "{word}");
        scenario.my(&format!("{strict}; delete from t where id=3; insert into t values (3,{bad})"));
    }
}

#[test]
fn m1_zero_dates_follow_the_policy() {
    for flavor in FLAVORS {
        let policies = [("null", "NULL")];
        let zero = ("'0000-00-00'", "0000-00-00");
        bad_value(flavor, "zero_date", "date", zero, "invalid_dates", &policies);
        let no_date = ("'2020-02-31 10:00:00'", "2020-02-31");
        bad_value(flavor, "no_date", "datetime(3)", no_date, "invalid_dates", &policies);
    }
}

#[test]
fn g7_nul_in_text_follows_the_policy() {
    for flavor in FLAVORS {
        let policies = [("strip", "walruswalrus"), ("replace", "walrus\u{2400}walrus")];
        bad_value(flavor, "nul", "varchar(20)", ("'walrus\\0walrus'", "walrus"), "nul_in_text", &policies);
    }
}

/// A lone surrogate, which the servers store in ucs2 and no UTF-8 can hold, and a code of gbk without a character:
/// what decodes in the column's own set stays.
#[test]
fn m13_undecodable_text_follows_the_policy() {
    for (set, bad, secret, replaced) in
        [("ucs2", "x'00e4d83d0062'", "ä", "ä\u{fffd}b"), ("gbk", "x'c4e3fefe62c4e3'", "你", "你\u{fffd}b你")]
    {
        let declaration = format!("varchar(20) character set {set}");
        let policies = [("replace", replaced)];
        let bad = format!("_{set} {bad}");
        bad_value(Flavor::MariaDb, set, &declaration, (&bad, secret), "undecodable_text", &policies);
    }
}

#[test]
fn r13_generated_columns_are_carried_as_values() {
    for flavor in FLAVORS {
        let scenario = Scenario::new(flavor, "generated");
        scenario.my("create table t (id int primary key, a int, b int generated always as (a*2) stored, \
             c int generated always as (a+1) virtual, d varchar(10)); \
             insert into t (id,a,d) values (1,10,'x'),(2,20,'y'),(3,null,'z')");
        scenario.catch_up();
        scenario.compare(&["t"]);
        scenario.my("insert into t (id,a,d) values (4,40,'new'); update t set a=a+1 where id<3; delete from t where id=3");
        scenario.catch_up();
        scenario.compare(&["t"]);
    }
}

#[test]
fn r14_invisible_columns_are_carried() {
    for flavor in FLAVORS {
        let scenario = Scenario::new(flavor, "invisible");
        scenario.my("create table t (id int primary key, a int, hidden int invisible default 7); \
             insert into t (id,a,hidden) values (1,1,11); insert into t (id,a) values (2,2)");
        scenario.catch_up();
        scenario.my("insert into t (id,a,hidden) values (3,3,33); update t set hidden=12 where id=1");
        scenario.catch_up();
        scenario.compare(&["t"]);
        assert_eq!(scenario.pg("select string_agg(hidden::text, ',' order by id) from t"), "12,7,33");
    }
}

/// R7: MySQL makes a key of its own for a table without one; it is in the binlog and hidden from SELECT *.
#[test]
fn r7_a_generated_invisible_primary_key_is_used() {
    let scenario = Scenario::new(Flavor::MySql, "gipk");
    scenario.my("set sql_generate_invisible_primary_key=on; create table t (a int, b varchar(10)); \
         insert into t values (1,'x'),(1,'x'),(2,'y')");
    scenario.catch_up();
    scenario
        .my("update t set b='z' where a=1 limit 1; delete from t where a=2; insert into t values (3,'w')");
    scenario.catch_up();
    let rows = scenario.pg("select a, b from t order by 1, 2");
    assert_eq!(rows, "1\tx\n1\tz\n3\tw");
    scenario.compare(&["t"]);
}

/// R18, R19: every column is written as it was, whatever the target would fill in; id 0 stays 0.
#[test]
fn r19_zero_in_an_auto_increment_stays_and_the_next_value_is_carried() {
    for flavor in FLAVORS {
        let scenario = Scenario::new(flavor, "zero_id");
        scenario.my("set sql_mode='NO_AUTO_VALUE_ON_ZERO'; \
             create table t (id int primary key auto_increment, v varchar(10), \
             changed int default 5); \
             insert into t values (0,'zero',1),(5,'five',2)");
        scenario.catch_up();
        scenario.compare(&["t"]);
        scenario.my("set sql_mode='NO_AUTO_VALUE_ON_ZERO'; delete from t where id=0; insert into t values (0,'again',3)");
        scenario.my("update t set v='changed' where id=5");
        scenario.catch_up();
        scenario.compare(&["t"]);
        let next = scenario.pg("insert into t (v) values ('own') returning id");
        assert!(next.parse::<i64>().unwrap() > 5, "{next}");
    }
}

/// R18: a column that the source's server would fill by itself is carried as it was, load and stream.
#[test]
fn r18_on_update_columns_are_carried_as_they_are() {
    let scenario = Scenario::new(Flavor::MariaDb, "on_update");
    scenario.my("set time_zone='+00:00'; create table t (id int primary key, v int, \
         at timestamp not null default current_timestamp on update current_timestamp); \
         insert into t values (1,1,'2001-01-01 00:00:00'),(2,2,'2002-02-02 00:00:00')");
    scenario.catch_up();
    scenario.my("set time_zone='+00:00'; update t set v=10, at=at where id=1; update t set at='2003-03-03 03:03:03' where id=2");
    scenario.catch_up();
    let rows = scenario.pg("set timezone='UTC'; select id, v, at from t order by id");
    assert_eq!(rows, "1\t10\t2001-01-01 00:00:00+00\n2\t2\t2003-03-03 03:03:03+00");
}

/// M6: neither server's time zone nor the process's own moves a value.
#[test]
fn m6_time_zones_move_nothing() {
    let scenario = Scenario::new(Flavor::MariaDb, "zones");
    let sql = |id: u32| {
        format!(
            "set time_zone='+05:30'; insert into t values ({id},'2021-06-01 12:00:00','2021-06-01 12:00:00')"
        )
    };
    scenario.my(&format!("create table t (id int primary key, a timestamp null, b datetime); {}", sql(1)));
    let run = |words: &[&str]| {
        let mut command = scenario.command(words);
        freshet_testkit::servers::Freshet::spawn_command(command.env("TZ", "America/New_York"))
            .wait(crate::kit::DEADLINE)
    };
    assert_eq!(run(&["run", "--until", "caught-up"]).code, Some(0));
    scenario.my(&sql(2));
    assert_eq!(run(&["run", "--until", "caught-up"]).code, Some(0));
    let rows = scenario.pg("set timezone='UTC'; select * from t order by id");
    assert_eq!(
        rows,
        "1\t2021-06-01 06:30:00+00\t2021-06-01 12:00:00\n2\t2021-06-01 06:30:00+00\t2021-06-01 12:00:00"
    );
}

/// M17: values over the 16 MiB of one packet, by load and by stream.
#[test]
fn m17_values_larger_than_a_packet() {
    for flavor in FLAVORS {
        let scenario = Scenario::new(flavor, "large");
        scenario.my("create table t (id int primary key, v longblob, w longtext); \
             insert into t values (1, repeat(x'00ff',9000000), repeat('é',100)),(2,'','')");
        scenario.catch_up();
        scenario.my("insert into t values (3, repeat(x'01fe',9000000), 'x'); update t set w=repeat('中',6000000) where id=2");
        scenario.catch_up();
        let source =
            scenario.my("select id, sha2(v,256), length(v), sha2(w,256), char_length(w) from t order by id");
        let target = scenario.pg("select id, encode(sha256(v),'hex'), length(v), encode(sha256(convert_to(w,'UTF8')),'hex'), length(w) from t order by id");
        assert_eq!(source, target);
    }
}

/// M10: labels outside the first plane, which the catalogue prints as question marks, by load and by stream.
#[test]
fn m10_labels_with_four_byte_characters_arrive() {
    for flavor in FLAVORS {
        let scenario = Scenario::new(flavor, "labels");
        scenario.my(
            "set names utf8mb4; create table t (id int primary key, e enum('?','🦀','a😀b') character set utf8mb4, \
             s set('🐘','?') character set utf8mb4); insert into t values (1,'🦀','🐘'),(2,'?','🐘,?')",
        );
        scenario.catch_up();
        scenario.my("set names utf8mb4; insert into t values (3,'a😀b','?'); update t set e='🦀' where id=2");
        scenario.catch_up();
        let rows = "select id, e, s from t order by id";
        assert_eq!(scenario.pg(rows), "1\t🦀\t🐘\n2\t🦀\t🐘,?\n3\ta😀b\t?", "{flavor:?}");
    }
}
