//! Definitions from a real source to a real target: of the same product SHOW CREATE TABLE is the same at both ends, of
//! the other one what both have is kept and the rest is told. What the target computes and checks itself, it is left to.

use crate::common::{FLAVORS, Place, shared};
use crate::rows::{begin, chunk, durable};
use crate::types::{images, read, window};
use freshet_core::sink::{PrepareMode, Sink, TablePlan};
use freshet_core::window::{StepKind, Window};
use freshet_core::{Batch, TableName};
use freshet_mysql::sink::MySqlSink;
use freshet_testkit::conformance::sink::position;
use freshet_testkit::servers::{Flavor, MyServer};
use std::sync::Arc;

/// Tables that both products can make, with names and comments that are hard to cut.
const RICH: &[&str] = &[
    "create table a_parent (id int primary key, u varchar(20) not null, unique key ku (u))",
    "create table `b ``,(` (`id` bigint unsigned not null auto_increment, \
       `we``ird, (name` varchar(20) character set latin1 collate latin1_german1_ci default 'a''b\\\\,(' \
         comment 'x'',\\ny -- /* `', \
       a int, s varchar(60) as (concat(`we``ird, (name`, '('')\\n', a)) stored comment 'PARTITION BY', \
       v bigint generated always as (a + 1) virtual, h int invisible default 3, \
       up timestamp(3) not null default current_timestamp(3) on update current_timestamp(3), \
       dd datetime null default null on update current_timestamp, e varchar(40) default (uuid()), n int default (1 + 2), \
       j json, pt point not null, g text collate utf8mb4_unicode_ci, st set('a;b', 'c''d') default 'c''d', \
       primary key (id), unique key uq (a, up), unique key uv (v), key pre (`we``ird, (name`(5)), key dsc (a desc, n), \
       key ga (s), fulltext key ft (g) comment ')', fulltext key ft2 (`we``ird, (name`), spatial key sp (pt), \
       key `odd``,)` using btree (n) comment 'it''s', \
       constraint `c``k,(` check (a > 3 or n <> 4), constraint `ch` check (`we``ird, (name` <> ')')) \
       comment = 'tab, ''c'' /* ) PARTITION BY' default charset = utf8mb4 row_format = dynamic auto_increment = 77",
    "create table c_child (id int primary key, p int not null, q varchar(20), k int, key kq (q), \
       constraint to_p foreign key (p) references a_parent (id) on update restrict, \
       constraint `to``(u` foreign key (q) references a_parent (u), \
       constraint itself foreign key (k) references c_child (id)) default charset = utf8mb4",
    "create table d_parts (id int not null, x int, key kx (x), primary key (id)) partition by range (id) \
       (partition p0 values less than (10) comment = 'x)*/', partition p1 values less than maxvalue)",
    "create table d_keys (id int not null, primary key (id)) partition by key (id) partitions 3",
    "create table e_latin (id int primary key, a varchar(10), b varchar(10) character set utf8mb4) default charset = latin1",
    "create table f_keyless (a int, b int as (a * 2) stored, c int not null)",
    "create table g_promoted (x int not null, y int, unique key ux (x))",
];

const RICH_MARIADB: &[&str] = &[
    "create table m_own (id uuid primary key, a int check (a <> 5), i inet6, key k (a) ignored, c longtext compressed, \
       s date not null, e date not null, period for p (s, e))",
];

const RICH_MYSQL: &[&str] = &[
    "create table m_own (id int primary key, a int, b varchar(20), g point not null srid 4326, n int, \
       key f ((a + 1)), unique key uf ((lower(b))), key iv (n) invisible, spatial key sg (g), \
       constraint loose check (a < 5) not enforced)",
    "set sql_generate_invisible_primary_key = on; create table m_gipk (a int)",
];

fn plans_of(tables: &[(freshet_core::table::TableInfo, Batch)], prefix: &str) -> Vec<TablePlan> {
    let plan = |info: &freshet_core::table::TableInfo| TablePlan {
        info: Arc::new(info.clone()),
        target: TableName::new("target", format!("{prefix}{}", info.name().table)),
    };
    tables.iter().map(|(info, _)| plan(info)).collect()
}

fn fill(server: &MyServer, database: &str, statements: &[&str]) {
    let made =
        format!("drop database if exists {database}; create database {database} character set utf8mb4;");
    server.sql(&format!("set foreign_key_checks = 0; {made}"));
    for statement in statements {
        server.sql(&format!("use {database}; {statement}"));
    }
}

/// Makes the tables, loads the rows and makes all of it consistent; what was told.
async fn live(sink: &mut MySqlSink, plans: &[TablePlan], rows: &[Batch]) -> Vec<String> {
    let mut lines = sink.prepare(plans, PrepareMode::CreateIfAbsent).await.unwrap();
    for (plan, rows) in plans.iter().zip(rows) {
        sink.plan_chunks(plan.info.name(), &[chunk(plan)]).await.unwrap();
        let mut loader = sink.loader().await.unwrap();
        loader.open(plan, &chunk(plan)).await.unwrap();
        loader.rows(rows.clone()).await.unwrap();
        loader.finish(&position(0)).await.unwrap();
    }
    lines.extend(sink.finish_load(plans).await.unwrap());
    lines.extend(sink.make_consistent(plans).await.unwrap());
    lines
}

fn shown(server: &MyServer, name: &TableName) -> String {
    let sql = format!(
        "use `{}`; {} show create table `{}`",
        name.schema,
        match server.flavor() {
            Flavor::MySql => "set show_gipk_in_create_table_and_information_schema = on;",
            Flavor::MariaDb => "",
        },
        name.table.replace('`', "``")
    );
    let out = server.sql(&sql);
    out.split_once("CREATE TABLE").map(|(_, text)| text.replace("\\n", "\n")).unwrap()
}

/// The same but for the table's name and what it is qualified by.
fn compare(server: &MyServer, plan: &TablePlan) {
    let source = shown(server, plan.info.name());
    let own = format!("`{}`", plan.info.name().table.replace('`', "``"));
    let theirs = format!("`{}`", plan.target.table.replace('`', "``"));
    let expect = source.replace(&own, &theirs).replace("REFERENCES `a_parent`", "REFERENCES `t_a_parent`");
    // MySQL prints the character set of a literal anew whenever a table is made, and not always the same.
    let bare = |text: String| text.replace("_utf8mb4'", "'").replace("_latin1'", "'");
    assert_eq!(bare(shown(server, &plan.target)), bare(expect));
}

#[tokio::test(flavor = "multi_thread")]
async fn d12_m18_r13_r14_of_the_same_product_every_definition_is_the_source_s() {
    for flavor in FLAVORS {
        let place = Place::new(flavor).await;
        let own = if flavor == Flavor::MariaDb { RICH_MARIADB } else { RICH_MYSQL };
        fill(place.server, "rich", &[RICH, own].concat());
        let tables = read(place.server, "rich").await;
        let plans = plans_of(&tables, "t_");
        let rows: Vec<Batch> = tables.iter().map(|(_, rows)| rows.clone()).collect();
        let mut sink = place.mysql_sink();
        begin(&mut sink).await;
        assert_eq!(live(&mut sink, &plans, &rows).await, Vec::<String>::new(), "{flavor:?}");
        for plan in &plans {
            compare(place.server, plan);
        }
    }
}

/// A name that is not valid UTF-8 text of one line, strings with every quote: names of tables, columns, keys and checks.
#[tokio::test(flavor = "multi_thread")]
async fn d13_names_and_comments_that_look_like_sql_are_kept() {
    for flavor in FLAVORS {
        let place = Place::new(flavor).await;
        fill(
            place.server,
            "rich",
            &[
                "create table `CONSTRAINT ``x`` CHECK (` (`PRIMARY KEY (``a``)` int primary key comment ') ENGINE=x', \
              `a\nb,` int default 5 comment '\\\\'', \\\"' , `--  c` varchar(20) default '/*!50100 ) */', `#` int, \
              key `KEY ``,\n)` (`a\nb,`), constraint `FOREIGN KEY (``x``)` check (`--  c` <> 'CHECK (''')) \
              comment = '/*!50100 PARTITION BY HASH (id) */'",
            ],
        );
        let tables = read(place.server, "rich").await;
        let plans = plans_of(&tables, "");
        let mut sink = place.mysql_sink();
        begin(&mut sink).await;
        assert_eq!(live(&mut sink, &plans, &[]).await, Vec::<String>::new(), "{flavor:?}");
        compare(place.server, &plans[0]);
    }
}

const GENERATED: &[&str] = &[
    "create table keyed (id int primary key, a int, s int as (a * 2) stored, v varchar(20) as (concat(a, 'é')) virtual, \
       b int, key (s))",
    "create table bare (a int, s int as (a * 2) stored, v varchar(20) as (concat(a, 'é')) virtual, b int)",
    "create table by_s (a int, b int, s int as (a + 100) stored, primary key (s))",
];

/// Every way of applying, over rows that a source computed: the images hold what the target is to compute itself.
async fn apply_all(place: &Place, sink: &mut MySqlSink, plans: &[TablePlan]) {
    let mut end = 0;
    for (plan, name) in plans.iter().zip(["bare", "by_s", "keyed"]) {
        for ordered in [false, true] {
            place.server.sql(&format!(
                "use made; truncate table {name}; insert into {name} (a, b{0}) values (1, 1{1}), (2, 2{2}), (2, 3{2}), (9, 9{3})",
                if name == "keyed" { ", id" } else { "" },
                if name == "keyed" { ", 1" } else { "" },
                if name == "keyed" { ", 2" } else { "" },
                if name == "keyed" { ", 9" } else { "" },
            ).replace(", (2, 3, 2)", "").replace(if name == "by_s" { ", (2, 3)" } else { "\0" }, ""));
            let found = read(place.server, "made").await;
            let (_, rows) = found.iter().find(|(info, _)| info.name().table == name).unwrap();
            let images = images(rows);
            let last = images.len() - 1;
            let mut steps: Vec<StepKind> = vec![
                StepKind::Insert(images[..last].to_vec()),
                StepKind::Update(vec![(images[0], images[last])]),
                StepKind::Delete(vec![images[1]]),
            ];
            if name != "bare" {
                steps.push(StepKind::Upsert(vec![images[1]]));
                steps.push(StepKind::Update(vec![(images[1], images[1])]));
            }
            for step in steps {
                end += 1;
                let window: Window = window(plan, rows, end, ordered, step);
                durable(sink, window).await.unwrap();
            }
            let rows = |database: &str, rows: &str| {
                place.lines(&format!("select * from {database}.{name} where {rows} order by a, b"))
            };
            let expect = if name == "bare" { "b not in (1, 2)" } else { "b <> 1" };
            assert_eq!(rows("target", "1"), rows("made", expect), "{name} {ordered}");
            place.server.sql(&format!("delete from target.{name}"));
        }
    }
}

/// R13: a column that the target computes itself is not written by any way of applying, nor looked for.
#[tokio::test(flavor = "multi_thread")]
async fn r13_columns_that_the_target_computes_are_not_written() {
    for flavor in FLAVORS {
        let place = Place::new(flavor).await;
        // A key that is computed is MySQL's.
        let statements = if flavor == Flavor::MySql { GENERATED } else { &GENERATED[..2] };
        fill(place.server, "made", statements);
        if flavor == Flavor::MariaDb {
            place.server.sql("create table made.by_s (a int primary key, b int, s int as (a + 100) stored)");
        }
        let plans = plans_of(&read(place.server, "made").await, "");
        let mut sink = place.mysql_sink();
        begin(&mut sink).await;
        assert_eq!(live(&mut sink, &plans, &[]).await, Vec::<String>::new(), "{flavor:?}");
        apply_all(&place, &mut sink, &plans).await;
        for plan in &plans {
            compare(place.server, plan);
        }
    }
}

/// R13: an expression that may have another value on the target is not carried: the column holds the source's values.
#[tokio::test(flavor = "multi_thread")]
async fn r13_expressions_in_doubt_are_told_and_their_values_carried() {
    for flavor in FLAVORS {
        let place = Place::new(flavor).await;
        fill(
            place.server,
            "made",
            &["create table doubt (id int primary key, ts timestamp null, c char(5), d decimal(10,2), \
              t varchar(40) as (concat(ts)) stored, w varchar(9) as (concat(c, '|')) virtual, \
              q decimal(20,8) as (d / 3) stored, n int as (id + 1) virtual, \
              constraint late check (ts > '2001-01-01'))"],
        );
        place.server.sql(
            "set time_zone = '+05:00'; set sql_mode = 'PAD_CHAR_TO_FULL_LENGTH'; set div_precision_increment = 8; \
             insert into made.doubt (id, ts, c, d) values (1, '2020-01-01 12:00:00', 'x', 1)",
        );
        let tables = read(place.server, "made").await;
        let plans = plans_of(&tables, "");
        let mut sink = place.mysql_sink();
        begin(&mut sink).await;
        let told = live(&mut sink, &plans, &[tables[0].1.clone()]).await;
        let starts = ["t", "w", "q"].map(|c| format!("Expression of generated column {c} of made.doubt: "));
        for start in &starts {
            let line = told.iter().find(|line| line.starts_with(start));
            assert!(line.is_some_and(|line| line.ends_with("its values are carried over")), "{told:?}");
        }
        let check =
            told.iter().find(|line| line.starts_with("Check constraint late of made.doubt: ")).unwrap();
        let (_, to_make) = check.split_once("; to make it: ").unwrap();
        assert_eq!(told.len(), 4, "{told:?}");
        let sql = |database: &str| format!("select id, t, trim(w), n from {database}.doubt");
        assert_eq!(place.lines(&sql("target")), place.lines(&sql("made")), "{flavor:?}");
        place.server.sql(to_make);
        let refused = place.server.try_sql("insert into target.doubt (id, ts) values (2, '2000-01-01')");
        assert!(refused.is_err(), "the check was made by its line");
    }
}

/// R18: a carried ON UPDATE never puts the target's time into a row, whichever way an update comes.
#[tokio::test(flavor = "multi_thread")]
async fn r18_on_update_of_the_target_changes_no_applied_value() {
    for flavor in FLAVORS {
        let place = Place::new(flavor).await;
        fill(
            place.server,
            "made",
            &["create table touched (id int primary key, v int, \
               up timestamp(6) not null default current_timestamp(6) on update current_timestamp(6), \
               dd datetime default null on update current_timestamp)"],
        );
        place.server.sql(
            "insert into made.touched values (1, 1, '2001-01-01', null), (2, 2, '2002-02-02', '2003-03-03')",
        );
        let tables = read(place.server, "made").await;
        let (plans, rows) = (plans_of(&tables, ""), &tables[0].1);
        let mut sink = place.mysql_sink();
        begin(&mut sink).await;
        assert_eq!(live(&mut sink, &plans, std::slice::from_ref(rows)).await, Vec::<String>::new());
        compare(place.server, &plans[0]);
        let kept = "select id, up, dd from target.touched order by id";
        let before = place.lines(kept);
        // Only v changes: its old and new image have the same times.
        place.server.sql("update made.touched set v = v + 10, up = up, dd = dd");
        let changed = read(place.server, "made").await.remove(0).1;
        for (n, ordered) in [(1, false), (2, true)] {
            let update = update_between(&plans[0], rows, &changed, n, ordered);
            durable(&mut sink, update).await.unwrap();
            assert_eq!(place.lines(kept), before, "{flavor:?}");
            assert_eq!(place.lines("select v from target.touched order by id"), ["11", "12"]);
            place.server.sql("update target.touched set v = id, up = up, dd = dd");
        }
    }
}

/// A window that updates each row of one batch to that of another.
fn update_between(plan: &TablePlan, from: &Batch, to: &Batch, end: u64, ordered: bool) -> Window {
    let mut one = window(plan, from, end, ordered, StepKind::Insert(vec![]));
    let mut record = one.records[0].clone();
    record.batch = to.clone();
    one.records.push(record);
    let moved = images(to).into_iter().map(|image| freshet_core::window::ImageRef { record: 1, ..image });
    one.steps[0].kind = StepKind::Update(images(from).into_iter().zip(moved).collect());
    one
}

/// R15: foreign keys are made last and by the target's names, act on no row of ours, and one to a table outside is told.
#[tokio::test(flavor = "multi_thread")]
async fn r15_foreign_keys_are_made_last_and_do_not_act() {
    for flavor in FLAVORS {
        let place = Place::new(flavor).await;
        let action = if flavor == Flavor::MySql {
            "on delete cascade on update set null"
        } else {
            "on delete restrict"
        };
        fill(
            place.server,
            "made",
            &[
                "create table parent (id int primary key)",
                "create table outer_one (id int primary key)",
                &format!(
                    "create table child (id int primary key, p int, o int, \
                   constraint to_p foreign key (p) references parent (id) {action}, \
                   constraint to_o foreign key (o) references outer_one (id))"
                ),
            ],
        );
        place.server.sql("insert into made.parent values (1), (2); insert into made.child values (1, 1, null), (2, 2, null)");
        let tables: Vec<_> = read(place.server, "made")
            .await
            .into_iter()
            .filter(|(i, _)| i.name().table != "outer_one")
            .collect();
        let plans = plans_of(&tables, "x_");
        let rows: Vec<Batch> = tables.iter().map(|(_, rows)| rows.clone()).collect();
        let mut sink = place.mysql_sink();
        begin(&mut sink).await;
        let told = live(&mut sink, &plans, &rows).await;
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0].starts_with("Foreign key to_o of made.child")
                && told[0].ends_with("made.outer_one is not carried over"),
            "{told:?}"
        );
        let text = shown(place.server, &plans[0].target);
        assert!(text.contains("CONSTRAINT `to_p` FOREIGN KEY (`p`) REFERENCES `x_parent` (`id`)"), "{text}");
        assert!(!text.contains("CONSTRAINT `to_o`"), "{text}");
        let parents = images(&rows[1]);
        let delete = window(&plans[1], &rows[1], 1, false, StepKind::Delete(parents));
        durable(&mut sink, delete).await.unwrap();
        assert_eq!(place.lines("select id, p from target.x_child order by id"), ["1\t1", "2\t2"]);
        let orphan = place.server.try_sql("insert into target.x_child values (3, 77, null)");
        assert!(orphan.is_err(), "others are checked");
        // A load that replaces the tables does not stumble over them.
        let mut again =
            MySqlSink::new(freshet_mysql::sink::SinkOptions { pipeline: "again".into(), ..place.options() });
        begin(&mut again).await;
        for mode in [PrepareMode::Truncate, PrepareMode::DropAndCreate] {
            again.prepare(&plans, mode).await.unwrap();
            again.finish_load(&plans).await.unwrap();
            again.make_consistent(&plans).await.unwrap();
            assert_eq!(shown(place.server, &plans[0].target), text, "{mode:?}");
            freshet_mysql::sink::reset(
                &freshet_mysql::sink::SinkOptions { pipeline: "again".into(), ..place.options() },
                false,
            )
            .await
            .unwrap();
            again = MySqlSink::new(freshet_mysql::sink::SinkOptions {
                pipeline: "again".into(),
                ..place.options()
            });
            begin(&mut again).await;
        }
    }
}

/// What the target does not take is left out and told, and the rest is made: here a name of a check that another table has.
#[tokio::test(flavor = "multi_thread")]
async fn d12_what_the_target_refuses_is_told_and_stops_nothing() {
    let place = Place::new(Flavor::MySql).await;
    fill(
        place.server,
        "made",
        &[
            "create table t (id int primary key, a int, b int as (a + 1) stored, fulltext key ft (c), c text, constraint taken check (a > 0), \
           constraint taken_too foreign key (a) references t (id))",
        ],
    );
    place.server.sql(
        "create database target; create table target.other (id int primary key, o int, constraint taken check (id > 0), \
         constraint taken_too foreign key (o) references other (id))",
    );
    let plans = plans_of(&read(place.server, "made").await, "");
    let mut sink = place.mysql_sink();
    begin(&mut sink).await;
    let told = live(&mut sink, &plans, &[]).await;
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].starts_with("Check constraint taken of made.t: the target refuses it"), "{told:?}");
    assert!(told[1].starts_with("Foreign key taken_too of made.t: the target refuses it"), "{told:?}");
    let text = shown(place.server, &plans[0].target);
    assert!(text.contains("GENERATED ALWAYS") && text.contains("FULLTEXT KEY `ft`"), "{text}");
}

/// Of the other product: what both have in the same words is kept, and everything else is told.
#[tokio::test(flavor = "multi_thread")]
async fn d12_of_the_other_product_the_common_is_kept_and_the_rest_told() {
    for (source, target) in [(Flavor::MySql, Flavor::MariaDb), (Flavor::MariaDb, Flavor::MySql)] {
        let from = shared(source);
        let name = format!("common_{source:?}").to_lowercase();
        let srid = if source == Flavor::MySql { "srid 4326" } else { "" };
        let hidden = if source == Flavor::MySql { "invisible" } else { "ignored" };
        fill(
            from,
            &name,
            &[
                "create table parent (id int primary key) comment = 'the ''parent''' default charset = latin1",
                &format!(
                    "create table t (id int primary key, p int, at datetime default current_timestamp on update current_timestamp, \
                     h int invisible default 3, e varchar(40) default (uuid()), g int as (id * 2) stored, pt point not null {srid}, \
                     x int, key kx (x) {hidden}, key kd (x desc), spatial key sp (pt), \
                     constraint ck check (x > 3), constraint to_p foreign key (p) references parent (id) on delete restrict)"
                ),
                "create table parts (id int primary key) partition by hash (id) partitions 2",
            ],
        );
        let reference = if source == Flavor::MySql { ", 4326" } else { "" };
        from.sql(&format!(
            "insert into {name}.t (id, pt) values (1, st_geomfromtext('point(1 2)'{reference}))"
        ));
        let tables = read(from, &name).await;
        let place = Place::new(target).await;
        let plans = plans_of(&tables, "");
        let rows: Vec<Batch> = tables.iter().map(|(_, rows)| rows.clone()).collect();
        let mut sink = place.mysql_sink();
        begin(&mut sink).await;
        let told = live(&mut sink, &plans, &rows).await;
        let mut starts = vec![
            format!("Partitioning of {name}.parts: PARTITION BY HASH"),
            format!("Index kx of {name}.t: it is not ignored here"),
            format!("Check constraint ck of {name}.t: "),
            format!("Default of column e of {name}.t"),
            format!("Expression of generated column g of {name}.t: its values are carried over"),
        ];
        if source == Flavor::MySql {
            starts.push(format!("SRID of column pt of {name}.t"));
        }
        let collations = told.iter().filter(|line| line.starts_with("Collation ")).count();
        for start in &starts {
            assert!(told.iter().any(|line| line.starts_with(start)), "{start}: {told:#?}");
        }
        assert_eq!(told.len(), starts.len() + collations, "{told:#?}");
        let text = shown(place.server, &plans.iter().find(|p| p.target.table == "t").unwrap().target);
        for word in ["INVISIBLE", "ON UPDATE", "FOREIGN KEY (`p`)", "SPATIAL KEY `sp`", "`x` DESC"] {
            assert!(text.to_uppercase().contains(&word.to_uppercase()), "{word}: {text}");
        }
        let parent = shown(place.server, &plans.iter().find(|p| p.target.table == "parent").unwrap().target);
        assert!(parent.contains("COMMENT='the ''parent'''") && parent.contains("CHARSET=latin1"), "{parent}");
        assert_eq!(place.lines("select id, g, e is null from target.t"), ["1\t2\t0"]);
    }
}
