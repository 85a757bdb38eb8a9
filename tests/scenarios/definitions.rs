//! MySQL into MySQL and MariaDB into MariaDB: after the cut-over the target is as the source, its definitions too.

use crate::ends::{End, Kind, Server};
use crate::pipeline::Pipeline;

/// What both products have.
const TABLES: &str = "create table parent (id int primary key auto_increment, code varchar(10) not null, unique key (code)) \
       comment = 'the ''parent'''; \
     create table t (id int primary key auto_increment, p int, a int not null check (a > 0), twice int as (a * 2) stored, \
       shown varchar(30) as (concat('<', name, '>')) virtual, name varchar(20) character set latin1 default 'it''s', \
       hidden int invisible default 7, e varchar(40) default (uuid()), \
       at timestamp(3) not null default current_timestamp(3) on update current_timestamp(3), \
       g point not null, body text, doc json, \
       key by_twice (twice desc, a), unique key by_shown (shown, id), key part (name(3)), fulltext key words (body), \
       spatial key place (g), constraint named check (a < 1000), \
       constraint to_parent foreign key (p) references parent (id)) default charset = utf8mb4 comment = 'rows'; \
     create table parts (id int not null, v int, primary key (id)) partition by range (id) \
       (partition small values less than (100), partition rest values less than maxvalue); \
     create table bare (a int, b int as (a + 1) stored)";

/// The definition, without the next value: ids that were given and taken back count at the source.
fn shown(end: &End, table: &str) -> String {
    let text = end.sql(&format!("show create table {table}"));
    let (before, after) = text.split_once(" AUTO_INCREMENT=").unwrap_or((&text, ""));
    let after = after.trim_start_matches(|c: char| c.is_ascii_digit());
    format!("{before}{after}").replace("\\n", "\n")
}

fn fill(pipeline: &Pipeline) {
    pipeline.source.sql(TABLES);
    pipeline.source.sql(
        "insert into parent (code) values ('a'), ('b'), ('c'); \
         insert into t (p, a, name, g, at, doc) values (1, 1, 'one', st_geomfromtext('point(1 1)'), '2001-01-01', '{}'), \
           (2, 2, 'two', st_geomfromtext('point(2 2)'), '2002-02-02', null), \
           (null, 3, 'three', st_geomfromtext('point(3 3)'), '2003-03-03', '[1]'); \
         insert into parts values (1, 1), (200, 2); insert into bare (a) values (1), (1), (2)",
    );
}

fn change(pipeline: &Pipeline) {
    pipeline.source.sql(
        "update t set a = a + 10, at = at; update t set name = 'changed' where p = 2; update t set hidden = 9, at = at where p = 1; \
         insert into t (p, a, name, g) values (3, 44, 'new', st_geomfromtext('point(4 4)')); delete from t where p is null; \
         update parts set id = id + 50; insert into parts values (7, 7); update bare set a = 5 where a = 1 limit 1; delete from bare where a = 2; \
         insert into parent (code) values ('d'); delete from parent where code = 'd'",
    );
}

const ROWS: [(&str, &str); 4] = [
    ("t", "id, p, a, twice, shown, name, hidden, e, at, st_astext(g), body, doc"),
    ("parent", "*"),
    ("parts", "*"),
    ("bare", "*"),
];

/// What the target does by itself once its own writers come.
fn use_target(pipeline: &Pipeline) {
    let target = &pipeline.target;
    target.sql("insert into t (p, a, name, g) values (1, 5, 'own', st_geomfromtext('point(5 5)'))");
    assert_eq!(
        target.sql("select twice, shown, hidden, e is null, id > 4 from t where name = 'own'").trim(),
        "10\t<own>\t7\t0\t1"
    );
    target.sql("update t set a = 6 where name = 'own'");
    assert_eq!(target.sql("select twice, at > '2020-01-01' from t where name = 'own'").trim(), "12\t1");
    for refused in [
        "insert into t (p, a, g) values (99, 5, st_geomfromtext('point(5 5)'))",
        "update t set a = 2000 where name = 'own'",
        "update t set a = -1 where name = 'own'",
        "insert into parent (code) values ('a')",
    ] {
        assert!(target.try_sql(refused).is_err(), "{refused}");
    }
    let parts = "select count(*) from parts partition (small)";
    assert_eq!(target.sql(parts), pipeline.source.sql(parts));
}

#[test]
fn d12_r13_r14_r15_r18_after_the_cut_over_the_target_is_as_the_source() {
    for kind in [Kind::MariaDb, Kind::MySql] {
        let pipeline = Pipeline::between(kind.source(), kind.target(), "definitions");
        fill(&pipeline);
        let run = pipeline.spawn();
        pipeline.wait_consistent(&run);
        change(&pipeline);
        pipeline.wait_for(&run, "select count(*) from t where a = 44", "1");
        pipeline.stop(&run);
        change(&pipeline);
        pipeline.catch_up();
        let status = pipeline.succeeds(&["status", "--json"]);
        assert!(status.stdout.contains("\"not_carried\":[]"), "{}", status.stdout);
        for (table, columns) in ROWS {
            pipeline.compare(table, columns);
            assert_eq!(shown(&pipeline.target, table), shown(&pipeline.source, table), "{kind:?}");
        }
        use_target(&pipeline);
    }
}

/// R15: cascades that a MySQL source logs arrive as changes, and the target's own do nothing beside them.
#[test]
fn r15_logged_cascades_of_mysql_are_applied_once() {
    let pipeline = Pipeline::between(Kind::MySql.source(), Kind::MySql.target(), "my_cascades");
    pipeline.source.sql(
        "create table p (id int primary key); create table c (id int primary key, p int, n int, \
           constraint act foreign key (p) references p (id) on delete cascade on update cascade, \
           constraint keep foreign key (n) references p (id) on delete set null on update cascade); \
         insert into p values (1), (2), (3), (4); insert into c values (1, 1, 2), (2, 2, 3), (3, 3, 4), (4, 4, 4)",
    );
    let run = pipeline.spawn();
    pipeline.wait_consistent(&run);
    pipeline.source.sql("delete from p where id = 2; update p set id = 30 where id = 3; insert into p values (2); insert into c values (9, 2, 30)");
    pipeline.wait_for(&run, "select count(*) from c where id = 9", "1");
    pipeline.stop(&run);
    for table in ["p", "c"] {
        pipeline.compare(table, "*");
        assert_eq!(shown(&pipeline.target, table), shown(&pipeline.source, table));
    }
    assert_eq!(
        pipeline.source.sql("select count(*) from c where n is null"),
        pipeline.target.sql("select count(*) from c where n is null")
    );
    match &pipeline.target.server {
        Server::My(server) => assert!(
            server.try_sql(&format!("insert into {}.c values (10, 77, null)", pipeline.target.name)).is_err()
        ),
        Server::Postgres(_) => unreachable!("a target of MySQL"),
    }
}
