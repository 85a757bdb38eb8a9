//! Definitions of a PostgreSQL source on the target, as both catalogues print them: what is carried over is the same
//! there, what is not is told in a line.

use crate::common::copy::{copy_all, copy_as, copy_plans, plans, view};
use crate::common::rows::begin;
use crate::common::{Database, server};
use freshet_core::ErrorKind;
use freshet_core::sink::{PrepareMode, Sink};
use freshet_postgres::check;
use freshet_testkit::servers::{Postgres, PostgresOptions};
use std::sync::Arc;

/// What both servers are asked. Each row begins with the name of a table or of what is beside it.
const ASKED: &[&str] = &[
    // Indexes, those behind constraints included.
    "select indrelid::regclass, indexrelid::regclass, pg_get_indexdef(indexrelid) from pg_index i \
       join pg_class c on c.oid = indrelid where relnamespace = 'public'::regnamespace",
    "select conrelid::regclass, conname, pg_get_constraintdef(k.oid), convalidated from pg_constraint k \
       where connamespace = 'public'::regnamespace and conrelid <> 0 and contype <> 'n'",
    "select oid::regclass, obj_description(oid) from pg_class \
       where relnamespace = 'public'::regnamespace and relkind = 'r'",
    "select attrelid::regclass, attname, format_type(atttypid, atttypmod), attnotnull, \
       pg_get_expr(adbin, adrelid), attcollation::regcollation, col_description(attrelid, attnum) \
       from pg_attribute join pg_class c on c.oid = attrelid left join pg_attrdef on adrelid = attrelid and adnum = attnum \
       where relnamespace = 'public'::regnamespace and relkind = 'r' and attnum > 0 and not attisdropped order by attrelid::regclass::text, attnum",
];

/// Whether both print the same; lines that begin as these do are left out on both sides.
#[track_caller]
fn same(from: &Database, to: &Database, but: &[&str]) {
    for sql in ASKED {
        let lines = |database: &Database| -> Vec<String> {
            // The server prints a list of varchar otherwise once it has read what it printed.
            let but = [but, &["plain\tplain_w_check"]].concat();
            let differs = |line: &String| !but.iter().any(|start| line.starts_with(start));
            database.lines(sql).into_iter().filter(differs).collect()
        };
        pretty_assertions(&lines(from), &lines(to), sql);
    }
}

#[track_caller]
fn pretty_assertions(there: &[String], here: &[String], sql: &str) {
    for line in there {
        assert!(here.contains(line), "only on the source: {line}\n{sql}\n{here:#?}");
    }
    for line in here {
        assert!(there.contains(line), "only on the target: {line}\n{sql}\n{there:#?}");
    }
}

#[track_caller]
fn told(lines: &[String], expect: &[&str]) {
    for start in expect {
        assert!(lines.iter().any(|line| line.starts_with(start)), "{start} is not told: {lines:#?}");
    }
}

/// A target's role that may keep triggers from firing.
fn replica_role(server: &Postgres) {
    server.sql("grant set on parameter session_replication_role to freshet");
}

const INDEXES: &str = "create extension if not exists btree_gist; create extension if not exists pg_trgm; \
     create table i (id int constraint its_own_name primary key, a int, b text, c int, r int4range, j jsonb, d timestamptz, \
       unique (c), unique nulls not distinct (a, b), constraint later unique (a, c) deferrable initially deferred, \
       constraint wide unique (id, a) include (b), constraint apart exclude using gist (c with =, r with &&) where (c > 0)); \
     alter table i add constraint part check (a <> -1); create unique index part on i (b) where c > 0; create index expr on i (lower(b) desc nulls last, c); \
     create index hashed on i using hash (b); create unique index lone on i (b) include (c); \
     create index gin_j on i using gin (j jsonb_path_ops); create index brin_d on i using brin (d) with (pages_per_range = 8); \
     create index trgm on i using gin (b gin_trgm_ops); create index pattern on i (b text_pattern_ops, a desc); \
     create index coll on i (b collate \"C\"); create index \"Odd \"\"name USING (\" on i (a) where b <> ' USING x'; \
     create table \"T USING \"\"x\" (\"K ON \" int primary key, v text); create index on \"T USING \"\"x\" (v); \
     create table by_index (a int primary key, b int not null, c int not null); \
     create unique index by_index_cb on by_index (c, b) include (a); \
     alter table by_index replica identity using index by_index_cb; \
     create table late (a int primary key deferrable, b text); \
     insert into i select n, n, 'text ' || n, n, int4range(n, n + 1), '{}', now() from generate_series(1, 100) n; \
     insert into by_index values (1, 2, 3); insert into late values (1, 'x')";

/// Every kind of index, with its name, and constraints as constraints.
async fn indexes(from_server: &Arc<Postgres>, to_server: &Arc<Postgres>) {
    let (from, to) = (Database::new(from_server), Database::new(to_server));
    from.sql(INDEXES);
    to.sql("create extension btree_gist; create extension pg_trgm");
    let lines = copy_all(&from, &to).await;
    same(&from, &to, &[]);
    assert!(!lines.iter().any(|line| line.contains("ndex")), "{lines:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn g13_indexes_of_every_kind_are_the_source_s() {
    let server = server();
    replica_role(&server);
    indexes(&server, &server).await;
}

const CONSTRAINTS: &str = "create function positive(int) returns bool immutable language sql as 'select $1 > 0'; \
     create function recent(timestamptz) returns bool stable language sql as 'select $1 > now()'; \
     create table p (id int primary key, a int not null, b int not null, unique (a, b), \
       constraint \"its \"\"check\" check (a > 0 and b is not null), check (a < 100) no inherit, \
       constraint own check (positive(a))); \
     alter table p add constraint unproved check (b < 10) not valid; \
     create table c (id int primary key, p int references p on delete cascade on update set null, a int, b int, \
       self int references c deferrable initially deferred, n int, s text check (s ~ '^[a-z]' and length(s) < 10), \
       constraint \"Both \"\"ways\" foreign key (a, b) references p (a, b) match full on delete restrict, \
       constraint partly foreign key (n, b) references p (a, b) on delete set null (n)); \
     alter table c add constraint unproved foreign key (n) references p not valid; \
     alter table p add column back int references c on delete set default deferrable; \
     comment on table p is 'it''s a parent'; comment on column p.a is 'A \\ x'; comment on table c is E'two\\nlines'; \
     create table soft (t timestamptz check (t < now()), u timestamptz check (recent(u)), d text check (d < current_date::text)); \
     create table plain (id int primary key, v text check (v in ('a', 'b') or lower(v) = v), w varchar(9) check (w in ('a', 'b')), e text check (e like 'x%'), \
       d date check (d > '2000-01-01'), t timestamptz check (t > '2020-01-01 00:00+00'), n numeric check (n between 0 and 1.5), \
       a int[] check (3 = any (a) and cardinality(a) < 4), j jsonb check (j ? 'k'), check (num_nulls(d, t) <> 1))";

const ROWS: &str = "insert into p (id, a, b) select n, n, n % 9 from generate_series(1, 99) n; \
     insert into c select n, n, n, n % 9, 100 - n, null, 'abc' from generate_series(1, 99) n; update p set back = id";

/// Checks, foreign keys with all that can be said of them, and comments.
async fn constraints(from_server: &Arc<Postgres>, to_server: &Arc<Postgres>) {
    let (from, to) = (Database::new(from_server), Database::new(to_server));
    from.sql(CONSTRAINTS);
    from.sql(&format!(
        "alter table p drop constraint unproved; {ROWS}; \
        alter table p add constraint unproved check (b < 5) not valid"
    ));
    to.sql("create function positive(int) returns bool immutable language sql as 'select $1 > 0'");
    let lines = copy_all(&from, &to).await;
    same(&from, &to, &["soft\tsoft_"]);
    told(
        &lines,
        &[
            "Check constraint soft_t_check of public.soft: it depends on more than the row, so that a row of the source may \
         not satisfy it when it is applied; to make it: alter table \"public\".\"soft\" add constraint \"soft_t_check\" CHECK",
            "Check constraint soft_u_check of public.soft: it depends",
            "Check constraint soft_d_check of public.soft: it depends",
        ],
    );
    assert_eq!(
        lines.iter().filter(|l| l.contains("onstraint") || l.contains("oreign")).count(),
        3,
        "{lines:#?}"
    );
    assert_eq!(to.sql("select count(*) from c join p on p.id = c.p and p.back = c.id"), "99");
}

#[tokio::test(flavor = "multi_thread")]
async fn r15_r17_checks_and_foreign_keys_are_the_source_s() {
    let server = server();
    replica_role(&server);
    constraints(&server, &server).await;
}

/// Between versions as within one.
#[tokio::test(flavor = "multi_thread")]
async fn g13_r15_definitions_are_the_source_s_on_18() {
    let old = server();
    let new = Arc::new(Postgres::start(PostgresOptions::default().with_freshet_user().version(18)));
    for server in [&old, &new] {
        replica_role(server);
    }
    for (from, to) in [(&old, &new), (&new, &new), (&new, &old)] {
        indexes(from, to).await;
        constraints(from, to).await;
    }
}

/// R15: what would act on our rows is not made where the role cannot keep it from firing, and told with its statement;
/// the check tells the same. What the target refuses is told and stops nothing.
#[tokio::test(flavor = "multi_thread")]
async fn r15_g13_what_cannot_be_made_is_told_with_its_statement() {
    let server = server();
    let (from, to) = (Database::new(&server), Database::new(&server));
    from.sql(CONSTRAINTS);
    from.sql(&format!("alter table p drop constraint unproved; {ROWS}; create extension pg_trgm; \
        create index trgm on c using gin (s gin_trgm_ops); create unique index trgm_too on c (positive(id), id); \
        alter table c add constraint later unique (id, a) deferrable"));
    let before = check(&to.options(), &plans(&view(&from).await)).await.unwrap();
    let lines = copy_all(&from, &to).await;
    let statement = "foreign key (a, b) references \"public\".\"p\" (a, b) match full on update no action on delete restrict";
    let foreign = [
        "Foreign key Both \"ways of public.c: it would act on our rows",
        "Foreign key c_p_fkey of public.c: it would act",
        "Foreign key c_self_fkey of public.c: it would act",
        "Foreign key partly of public.c: it would act",
        "Foreign key unproved of public.c: it would act",
        "Foreign key p_back_fkey of public.p: it would act",
        "Unique index later of public.c: it would act",
    ];
    told(&lines, &foreign);
    told(
        &lines,
        &[
            "Check constraint own of public.p: the target refuses it (function public.positive(integer) does not exist); \
         to make it: alter table \"public\".\"p\" add constraint \"own\" CHECK (public.positive(a))",
            "Index trgm of public.c: the target refuses it (operator class \"public.gin_trgm_ops\" does not exist",
            "Unique index trgm_too of public.c: the target refuses it (function",
        ],
    );
    assert!(lines.iter().any(|line| line.contains(statement)), "{statement}: {lines:#?}");
    for start in foreign {
        assert!(before.iter().any(|finding| finding.message.starts_with(start)), "{start}: {before:#?}");
    }
    // Each statement works at a cut-over.
    to.sql("create function positive(int) returns bool immutable language sql as 'select $1 > 0'; create extension pg_trgm");
    for line in lines.iter().filter(|line| !line.contains("of public.soft")) {
        if let Some((_, statement)) = line.split_once("to make it: ") {
            to.sql(statement);
        }
    }
    same(&from, &to, &["soft\tsoft_"]);
}

/// R17: what the source itself broke is refused by the target, told, and stops nothing.
#[tokio::test(flavor = "multi_thread")]
async fn r15_r17_a_reference_that_the_source_broke_is_told() {
    let server = server();
    replica_role(&server);
    let (from, to) = (Database::new(&server), Database::new(&server));
    from.sql("create table p (id int primary key); create table c (id int primary key, p int references p, q int references p); \
        insert into p values (1); set session_replication_role = replica; insert into c values (1, 4711, 1)");
    let lines = copy_all(&from, &to).await;
    let expect = "Foreign key c_p_fkey of public.c: the target refuses it (insert or update on table \"c\" violates \
         foreign key constraint \"c_p_fkey\"); to make it: alter table";
    assert!(lines.len() == 1 && lines[0].starts_with(expect), "{lines:#?}");
    assert!(!lines[0].contains("4711"), "{lines:#?}");
    assert_eq!(to.sql("select conname from pg_constraint where contype = 'f'"), "c_q_fkey");
    assert_eq!(to.sql("select consistent_since is not null from freshet.checkpoint"), "t");
}

/// A second load finds the keys of the first in its way, and makes them again.
#[tokio::test(flavor = "multi_thread")]
async fn r15_foreign_keys_are_no_obstacle_to_another_load() {
    let server = server();
    replica_role(&server);
    let (from, to) = (Database::new(&server), Database::new(&server));
    from.sql(&format!("{CONSTRAINTS}; drop table soft"));
    to.sql("create function positive(int) returns bool immutable language sql as 'select $1 > 0'");
    copy_all(&from, &to).await;
    for mode in [PrepareMode::Truncate, PrepareMode::DropAndCreate] {
        freshet_postgres::reset(&to.options(), false).await.unwrap();
        copy_as(&from, to.options(), mode).await;
        same(&from, &to, &[]);
    }
    let dropped = freshet_postgres::reset(&to.options(), true).await.unwrap();
    assert_eq!(dropped.len(), 4, "{dropped:?}");
    assert_eq!(to.sql("select count(*) from pg_tables where schemaname = 'public'"), "0");
}

const SEQUENCES: &str = "create schema other; create sequence other.far start 7; create sequence loose as smallint increment 5 cache 3; \
     create sequence \"Odd \"\"s\\'\" start 3 increment -2 minvalue -100 maxvalue 10 cycle; create sequence never; \
     create table s (id serial primary key, small smallserial, ahead bigint generated always as identity (start 100 increment 10 maxvalue 100000), \
       named int generated by default as identity (sequence name other_name increment -3 minvalue -1000 maxvalue -1), \
       l int default nextval('loose'), o int default nextval('\"Odd \"\"s\\''\"'), f numeric default nextval('other.far'), \
       t text default 'x' || nextval('loose'), idle int); \
     create sequence owned_only owned by s.idle; create table u (id bigint primary key default nextval('s_id_seq'))";

/// What a sequence is: its type, options, and the column that owns it.
const OF_SEQUENCES: &str = "select seqrelid::regclass, format_type(seqtypid, null), seqstart, seqincrement, seqmax, seqmin, seqcache, \
       seqcycle, refobjid::regclass, refobjsubid, deptype from pg_sequence \
     join pg_class c on c.oid = seqrelid left join pg_depend d on d.objid = seqrelid and d.refobjsubid > 0 \
     where relnamespace::regnamespace::text !~ 'freshet' order by c.relname";

/// R21: sequences arrive as they are, and give after a cut-over what the source has not given.
#[tokio::test(flavor = "multi_thread")]
async fn r21_sequences_go_on_where_the_source_s_are() {
    let server = server();
    let (from, to) = (Database::new(&server), Database::new(&server));
    from.sql(SEQUENCES);
    from.sql("insert into s (idle) select 1 from generate_series(1, 20); insert into u values (default); \
        select nextval('owned_only'), nextval('other.far'); insert into s (id, small) values (1000, 77); \
        alter table s alter column ahead set generated by default; insert into s (id, ahead) values (2000, 1234); \
        alter table s alter column ahead set generated always; delete from s where id = 2000; \
        insert into s (id, ahead) overriding system value values (-3, 391)");
    let lines = copy_all(&from, &to).await;
    assert_eq!(to.lines(OF_SEQUENCES), from.lines(OF_SEQUENCES));
    same(&from, &to, &["s\tt\t"]);
    told(
        &lines,
        &[
            "Values of sequences after the load",
            "GENERATED ALWAYS of column ahead of public.s: it would refuse the source's values; to make it: alter table",
            "Default of column t of public.s",
        ],
    );
    // Past what the columns hold, and in step with the source.
    assert_eq!(
        to.sql("insert into s (idle) values (2) returning id, small, ahead, named, l, o, f"),
        "1001\t78\t400\t-70\t241\t-43\t31"
    );
    assert_eq!(
        from.sql("select nextval('loose'), nextval('\"Odd \"\"s\\''\"'), nextval('other.far')"),
        "241\t-43\t31"
    );
    assert_eq!(to.sql("select nextval('never'), nextval('owned_only')"), "1\t2");
    assert_eq!(to.sql("insert into u values (default) returning id"), "1002");
    for (what, sql) in lines.iter().filter_map(|line| line.split_once("to make it: ")) {
        if what.starts_with("GENERATED") {
            to.sql(sql);
        }
    }
    let identities = "select attname, attidentity from pg_attribute where attrelid = 's'::regclass and attidentity <> '' order by 1";
    assert_eq!(to.lines(identities), from.lines(identities));
}

/// R21: a second load does not take a value back.
#[tokio::test(flavor = "multi_thread")]
async fn r21_a_value_that_was_taken_is_not_given_again() {
    let server = server();
    let (from, to) = (Database::new(&server), Database::new(&server));
    from.sql(
        "create sequence loose; create table s (id serial primary key, n int default nextval('loose')); \
        insert into s select from generate_series(1, 5)",
    );
    copy_all(&from, &to).await;
    to.sql("insert into s select from generate_series(1, 10)");
    freshet_postgres::reset(&to.options(), false).await.unwrap();
    copy_as(&from, to.options(), PrepareMode::Truncate).await;
    assert_eq!(to.sql("insert into s values (default, default) returning id, n"), "16\t16");
    freshet_postgres::reset(&to.options(), false).await.unwrap();
    copy_as(&from, to.options(), PrepareMode::DropAndCreate).await;
    assert_eq!(to.sql("insert into s values (default, default) returning id, n"), "6\t17");
}

/// D13: what points to a table or a sequence points to where they went.
#[tokio::test(flavor = "multi_thread")]
async fn d13_definitions_follow_schemas_to_other_names() {
    let server = server();
    replica_role(&server);
    let (from, to) = (Database::new(&server), Database::new(&server));
    from.sql("create schema a; create schema b; create sequence b.loose; create sequence a.alone; \
        create table b.p (id serial primary key, n int default nextval('b.loose') check (n > 0)); \
        create table a.c (id int primary key references b.p, n int default nextval('b.loose')); \
        create index on a.c (n) where n > 0; comment on table a.c is 'c'; insert into b.p select from generate_series(1, 9); \
        insert into a.c values (3)");
    // A stranger in the way.
    to.sql("create schema b; create table b.p (id int); create schema here authorization freshet; create table here.c_n_idx (id int)");
    let mut view = view(&from).await;
    let mut plans = plans(&view);
    for plan in &mut plans {
        plan.target.schema = if plan.target.schema == "b" { "there" } else { "here" }.to_owned();
    }
    let lines = copy_plans(&mut view, plans, to.options(), PrepareMode::CreateIfAbsent).await;
    assert!(lines.iter().all(|line| line.starts_with("Values of sequences")), "{lines:#?}");
    for (sql, expect) in [
        (
            "select pg_get_constraintdef(oid) from pg_constraint where contype = 'f'",
            "FOREIGN KEY (id) REFERENCES there.p(id)",
        ),
        (
            "select pg_get_constraintdef(oid) from pg_constraint where contype = 'c' and conrelid = 'there.p'::regclass",
            "CHECK ((n > 0))",
        ),
        (
            "select indexrelid::regclass, pg_get_expr(indpred, indrelid) from pg_index where indrelid = 'here.c'::regclass and not indisprimary",
            "here.c_c_n_idx\t(n > 0)",
        ),
        (
            "select string_agg(pg_get_expr(adbin, adrelid), ' ' order by 1) from pg_attrdef where adrelid in ('here.c'::regclass, 'there.p'::regclass)",
            "nextval('there.loose'::regclass) nextval('there.loose'::regclass) nextval('there.p_id_seq'::regclass)",
        ),
        ("select nextval('there.loose'), nextval('here.alone')", "11\t1"),
        ("insert into there.p values (default, 1) returning id", "10"),
        ("select count(*) from pg_tables where schemaname = 'a' or schemaname = 'b'", "1"),
    ] {
        assert_eq!(to.sql(sql), expect, "{sql}");
    }
}

const GENERATED: &str = "create function twice(int) returns int immutable language sql as 'select $1 * 2'; \
     create table g (first int generated always as (id + 1) stored, id int primary key, \
       mid text collate \"C\" generated always as (lower(v)) stored not null, v text, last numeric(8,2) generated always as (id / 3.0) stored); \
     create index g_mid on g (mid); create unique index g_last on g (last, id); alter table g add check (first > 0); \
     comment on column g.mid is 'lower'; \
     create table part (id int generated by default as identity primary key, x int generated always as (twice(id)) stored, \
       y int generated always as (id) stored); create index part_x on part (x); \
     insert into g (id, v) values (1, 'ONE'), (2, 'Two'); insert into part values (5)";

/// R13: generated columns are computed on the target as well, at their places, and never written.
#[tokio::test(flavor = "multi_thread")]
async fn r13_generated_columns_are_generated_on_the_target() {
    let server = server();
    let (from, to) = (Database::new(&server), Database::new(&server));
    from.sql(GENERATED);
    let lines = copy_all(&from, &to).await;
    same(&from, &to, &["part"]);
    assert_eq!(to.lines("select * from g order by id"), from.lines("select * from g order by id"));
    told(
        &lines,
        &[
            "Generated column x of public.part: the target refuses it (function public.twice(integer) does not exist); to make it: \
         alter table \"public\".\"part\" add column \"x\" integer generated always as (public.twice(id)) stored",
            "Index part_x of public.part: the target refuses it (column \"x\" does not exist)",
        ],
    );
    assert_eq!(to.sql("select * from part"), "5\t5");
    to.sql(GENERATED.split_once("; create table").unwrap().0);
    for (_, sql) in lines.iter().filter_map(|line| line.split_once("to make it: ")) {
        to.sql(sql);
    }
    assert_eq!(to.sql("select id, x, y from part"), "5\t10\t5");
    // A table that is there with its generated columns is one that fits.
    freshet_postgres::reset(&to.options(), false).await.unwrap();
    let lines = copy_as(&from, to.options(), PrepareMode::Truncate).await;
    assert!(
        lines.iter().all(|line| line.starts_with("Values of sequences") || line.starts_with("Function")),
        "{lines:#?}"
    );
    assert_eq!(to.sql("select id, x, y from part"), "5\t10\t5");
}

const NOT_NULL: &str =
    "select conname, pg_get_constraintdef(oid) from pg_constraint where conrelid = 'n'::regclass order by 1";

/// R13, R17: what only 18 has arrives where the target knows it, and is told elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn r13_r17_virtual_columns_and_unproved_conditions_of_18() {
    let new = Arc::new(Postgres::start(PostgresOptions::default().with_freshet_user().version(18)));
    let (from, to, old) = (Database::new(&new), Database::new(&new), Database::new(&server()));
    from.sql("create table g (a int generated always as (id + 1) virtual, id int primary key, b int generated always as (id) stored); \
        insert into g values (default, 1)");
    assert!(copy_all(&from, &to).await.is_empty());
    same(&from, &to, &[]);
    from.sql("create table n (id int primary key, v int, w int not null); insert into n values (1, null, 2); \
        alter table n add constraint unproved not null v not valid, add constraint loose check (w > 5) not enforced");
    assert_eq!(
        to.sql(
            "select attname, attgenerated from pg_attribute where attrelid = 'g'::regclass and attnum = 1"
        ),
        "a\tv"
    );
    freshet_postgres::reset(&to.options(), true).await.unwrap();
    assert!(copy_all(&from, &to).await.is_empty());
    same(&from, &to, &[]);
    assert_eq!(to.lines(NOT_NULL), from.lines(NOT_NULL));
    let lines = copy_all(&from, &old).await;
    told(
        &lines,
        &[
            "Generated column a of public.g: the target refuses it (syntax error",
            "Check constraint loose of public.n: the target refuses it (syntax error",
            "Check constraint unproved of public.n: the target refuses it (syntax error",
        ],
    );
    assert_eq!(
        (old.sql("select * from g"), to.sql("select * from g")),
        ("1\t1".to_owned(), "2\t1\t1".to_owned())
    );
}

const TYPES: &str = "create schema kinds; create extension hstore; create extension citext; \
     create type kinds.\"Odd \"\"mood\" as enum ('it''s', 'b\\c', 'happy'); alter type kinds.\"Odd \"\"mood\" add value 'first' before 'it''s'; \
     create type inner_pair as (n numeric(8,2), m kinds.\"Odd \"\"mood\"[], t text collate \"C\"); \
     create type outer_pair as (\"A b\" inner_pair, d timestamptz(3)); \
     create domain positive as integer default 3 not null constraint \"is >\" check (value > 0) check (value < 1000); \
     create domain word as varchar(9) collate \"C\" check (value ~ '^[a-z]*$'); create domain words as word[]; \
     create domain deep as outer_pair; create type lonely as enum ('x'); \
     create table d (id int primary key, m kinds.\"Odd \"\"mood\", ms kinds.\"Odd \"\"mood\"[], p positive, w word, ws words, \
       o outer_pair, os inner_pair[], dd deep, h hstore, c citext, unique (m, id)); \
     insert into d values (1, 'first', '{happy,\"b\\\\c\"}', 7, 'abc', '{x,y}', row(row(1.5, '{first}', 't')::inner_pair, '2024-01-01')::outer_pair, '{\"(1,,)\"}', null, 'a=>1', 'Ab')";

/// What types are: labels, attributes, conditions.
const OF_TYPES: &[&str] = &[
    "select enumtypid::regtype, enumlabel from pg_enum order by enumtypid::regtype::text, enumsortorder",
    "select c.relname, attname, format_type(atttypid, atttypmod), attcollation::regcollation from pg_attribute \
       join pg_class c on c.oid = attrelid where relkind = 'c' and relnamespace = 'public'::regnamespace order by 1, attnum",
    "select typname, format_type(typbasetype, typtypmod), typnotnull, typdefault, typcollation::regcollation, conname, \
       pg_get_constraintdef(k.oid) from pg_type t left join pg_constraint k on contypid = t.oid and k.contype = 'c' \
       where typtype = 'd' and typnamespace = 'public'::regnamespace order by 1, conname",
];

/// G6, G13: enums, domains and composites are made with their tables, whatever they are made of.
#[tokio::test(flavor = "multi_thread")]
async fn g6_g13_types_are_made_with_the_tables() {
    let server = server();
    let (from, to) = (Database::new(&server), Database::new(&server));
    from.sql(TYPES);
    to.sql("create extension hstore; create extension citext; create type lonely as enum ('y')");
    let before = check(&to.options(), &plans(&view(&from).await)).await.unwrap();
    assert!(!before.iter().any(|finding| finding.code == "target.type"), "{before:#?}");
    let lines = copy_all(&from, &to).await;
    assert_eq!(lines, ["Enum public.lonely", "Extension citext", "Extension hstore"]);
    to.sql("drop type lonely; create type lonely as enum ('x')");
    for sql in OF_TYPES {
        assert_eq!(to.lines(sql), from.lines(sql), "{sql}");
    }
    same(&from, &to, &[]);
    assert_eq!(to.sql("select * from d"), from.sql("select * from d"));
    // They are there now: used as they are, and another one is told.
    freshet_postgres::reset(&to.options(), true).await.unwrap();
    to.sql("alter type kinds.\"Odd \"\"mood\" add value 'more'");
    let lines = copy_all(&from, &to).await;
    let other = "Type kinds.\"Odd \"\"mood\": the target has another one of this name: create type";
    told(&lines, &[other]);
    assert_eq!(lines.len(), 4, "{lines:#?}");
    let found = check(&to.options(), &plans(&view(&from).await)).await.unwrap();
    assert!(found.iter().any(|finding| finding.message.starts_with(other)), "{found:#?}");
    assert_eq!(to.sql("select * from d"), from.sql("select * from d"));
}

/// G13: what a type needs and the target lacks is refused before anything is made, and named by the check.
#[tokio::test(flavor = "multi_thread")]
async fn g13_a_type_that_cannot_be_made_is_refused_before_anything_is() {
    let server = server();
    for (types, column, expect) in [
        (
            "create extension hstore; create type p as (h hstore)",
            "p",
            "type public.p is made of public.hstore, which the target",
        ),
        (
            "create extension citext; create domain c as citext",
            "c[]",
            "type public.c is made of public.citext, which the target",
        ),
        ("create type r as range (subtype = int)", "r", "column v is of type public.r, which the target"),
        (
            "create domain late as timestamptz check (value > now())",
            "late",
            "column v is of type public.late, which the target",
        ),
        (
            "create function f(int) returns bool immutable language sql as 'select true'; create domain d as int check (f(value))",
            "d",
            "Type public.d of table public.t cannot be made on the target: function public.f(integer) does not exist",
        ),
    ] {
        let (from, to) = (Database::new(&server), Database::new(&server));
        from.sql(&format!(
            "create type good as enum ('a'); {types}; create table a (id int primary key, g good); \
            create table t (id int primary key, v {column})"
        ));
        let (view, mut sink) = (view(&from).await, to.postgres_sink());
        begin(&mut sink).await;
        let error = sink.prepare(&plans(&view), PrepareMode::CreateIfAbsent).await.unwrap_err();
        assert!(error.message().contains(expect), "{error}");
        assert!(*error.kind() == ErrorKind::Unsupported && error.hint().is_some(), "{error:?}");
        let made = "select (select count(*) from pg_type where typname in ('a', 'good', 't', 'p')) + \
             (select count(*) from pg_tables where schemaname = 'public')";
        assert_eq!(to.sql(made), "0", "{types}");
        let found = check(&to.options(), &plans(&view)).await.unwrap();
        assert_eq!(
            found.iter().any(|f| f.message.contains(expect)),
            !expect.starts_with("Type"),
            "{found:#?}"
        );
    }
}
