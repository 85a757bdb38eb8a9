//! What the catalogue says of tables, and what it refuses.

use freshet_core::error::ErrorKind;
use freshet_core::schema::TableName;
use freshet_core::table::{IndexPart, TableInfo, TableReader};
use freshet_core::types::DataType;
use freshet_mysql::catalog::read_catalogue;
use freshet_mysql::server::{Flavour, ServerFacts};
use freshet_mysql::table::ViewMethod;
use freshet_testkit::servers::{Flavor, MyOptions, MyServer};

use super::common::{Database, both, flavour, mariadb, mysql, options_of, reader, root, text};

async fn tables(server: &MyServer, database: &'static str) -> Vec<TableInfo> {
    reader(server, ViewMethod::Auto).tables(&Database(database)).await.unwrap()
}

fn find<'a>(tables: &'a [TableInfo], name: &str) -> &'a TableInfo {
    tables.iter().find(|info| info.name().table == name).unwrap()
}

fn part(column: u16) -> IndexPart {
    IndexPart { column: Some(column), prefix: None, descending: false }
}

#[tokio::test]
async fn m20_columns_keys_and_indexes() {
    for server in both() {
        server.sql(
            "create database shop; use shop; \
             create table orders (id int unsigned zerofill auto_increment comment 'its ''id''', \
               at datetime(3) not null default current_timestamp(3), note varchar(50) character set latin1, \
               body mediumtext character set utf8mb4, total decimal(12,4), state enum('a','b,''c') not null default 'a', \
               twice int as (total * 2) virtual, code char(4) character set utf8mb4 collate utf8mb4_bin, \
               primary key (at, id), key (id), unique key u (code, note), key d (total desc), key p (body(7))) auto_increment=77; \
             create table keyless (a bigint, b binary(3)); insert into keyless values (1, 'x'), (2, 'y')",
        );
        let tables = tables(server, "shop").await;
        assert_eq!(tables.iter().map(|t| t.name().table.as_str()).collect::<Vec<_>>(), ["keyless", "orders"]);
        let orders = find(&tables, "orders");
        let types: Vec<_> =
            orders.schema.columns().iter().map(|c| (c.data_type.clone(), c.nullable)).collect();
        let text = |length, fixed| DataType::Text { length: Some(length), fixed };
        assert_eq!(
            types,
            [
                (DataType::Int { bits: 32, unsigned: true }, false),
                (DataType::DateTime { fsp: 3 }, false),
                (text(50, false), true),
                (text(16_777_215, false), true),
                (DataType::Decimal { precision: Some(12), scale: Some(4) }, true),
                (DataType::Enum { labels: vec!["a".into(), "b,'c".into()] }, false),
                (DataType::Int { bits: 32, unsigned: false }, true),
                (text(4, true), true),
            ]
        );
        assert_eq!(orders.schema.key(), [1, 0]);
        assert_eq!(orders.next_value, Some(77));
        let id = &orders.columns[0];
        assert_eq!((id.native_type.as_str(), id.comment.as_str()), ("int(10) unsigned zerofill", "its 'id'"));
        assert!(id.auto_increment && !id.generated && orders.columns[6].generated);
        assert_eq!(orders.columns[7].collation.as_deref(), Some("utf8mb4_bin"));
        let index = |name: &str| orders.indexes.iter().find(|index| index.name == name).unwrap();
        assert_eq!(orders.indexes.len(), 4);
        assert_eq!(index("u").parts, [part(7), part(2)]);
        assert!(index("u").unique && !index("id").unique && index("u").method == "btree");
        assert_eq!(index("d").parts, [IndexPart { descending: true, ..part(4) }]);
        assert_eq!(index("p").parts, [IndexPart { prefix: Some(7), ..part(3) }]);
        let keyless = find(&tables, "keyless");
        assert!(keyless.schema.key().is_empty() && keyless.next_value.is_none());
        server.sql("insert into shop.orders (note) values ('x')");
        assert_eq!(
            find(&self::tables(server, "shop").await, "orders").next_value,
            Some(78),
            "no stale counter"
        );
    }
}

/// M10: labels with characters of four bytes, which `information_schema` prints as `?`, beside honest question marks,
/// in a column of more labels than are asked for at once and in all bits of a SET; with SELECT alone.
#[tokio::test]
async fn m10_labels_that_the_catalogue_cannot_show() {
    for server in both() {
        let many: Vec<String> =
            (0..230).map(|n| format!("{n}?{}", if n % 7 == 0 { "💩" } else { "" })).collect();
        // MariaDB tells the first eight of a SET, as is said in `labels`.
        let told = if server.flavor() == Flavor::MySql { 64 } else { 8 };
        let bits: Vec<String> =
            (0..64).map(|n| format!("{n}{}", ["?", "😀", ""][if n < told { n % 3 } else { 2 }])).collect();
        let list = |labels: &[String]| format!("('{}')", labels.join("','"));
        server.sql(&format!(
            "create database labels; use labels; create table `o``d` (id int primary key, \
             `e``q` int, `a``?` enum('x','😀','?','a?😀ü') character set utf8mb4 not null, \
             b set('💩','?q') character set utf16, c enum('?','ä') character set latin1, \
             d enum{} character set utf8mb4, s set{} character set utf8mb4)",
            list(&many),
            list(&bits)
        ));
        server.sql("create user labels identified by 'labels'; grant select on labels.* to labels");
        let mut reader = freshet_mysql::table::MysqlTableReader::new(
            options_of(server, "labels", "labels"),
            flavour(server),
        );
        let tables = reader.tables(&Database("labels")).await.unwrap();
        let types: Vec<_> = tables[0].schema.columns().iter().skip(2).map(|c| c.data_type.clone()).collect();
        let owned = |labels: &[&str]| labels.iter().map(|label| (*label).to_owned()).collect::<Vec<_>>();
        assert_eq!(types[0], DataType::Enum { labels: owned(&["x", "😀", "?", "a?😀ü"]) });
        assert_eq!(types[1], DataType::Set { labels: owned(&["💩", "?q"]) });
        assert_eq!(types[2], DataType::Enum { labels: owned(&["?", "ä"]) });
        assert_eq!(types[3], DataType::Enum { labels: many });
        assert_eq!(types[4], DataType::Set { labels: bits });
    }
    mariadb().sql(
        "create database untold; create table untold.t (id int primary key, \
        s set('1','2','3','4','5','6','7','8','9😀') character set utf8mb4)",
    );
    let refusal = refusal(mariadb(), "untold").await;
    assert!(refusal.contains("Column s of table untold.t has a label with a character"), "{refusal}");
    assert!(refusal.contains("exclude untold.t"), "{refusal}");
}

/// Names are compared exactly, and quoted everywhere (D13).
#[tokio::test]
async fn d13_strange_names() {
    for server in both() {
        server.sql(
            "create database `od``d's \\\\.ü`; use `od``d's \\\\.ü`; \
             create table `T` (a int primary key); create table `t` (a int primary key, `b``c'\\\\ d` int); \
             create table `select` (`from` int primary key)",
        );
        let tables = tables(server, "od`d's \\\\.ü").await;
        let names: Vec<_> = tables.iter().map(|info| info.name().table.as_str()).collect();
        assert_eq!(names, ["T", "select", "t"]);
        assert_eq!(find(&tables, "T").schema.columns().len(), 1);
        assert_eq!(find(&tables, "t").schema.columns()[1].name, "b`c'\\\\ d");
    }
}

/// R14: columns that `SELECT *` leaves out stand in the binlog, and so in the catalogue.
#[tokio::test]
async fn r14_invisible_columns_and_generated_keys() {
    mysql().sql(
        "create database hidden; use hidden; set sql_generate_invisible_primary_key = on; \
         create table g (a int); create table i (a int primary key, b int invisible)",
    );
    mariadb()
        .sql("create database hidden; create table hidden.i (a int primary key, b int invisible default 5)");
    for server in both() {
        assert_eq!(find(&tables(server, "hidden").await, "i").schema.columns().len(), 2);
    }
    let tables = tables(mysql(), "hidden").await;
    let g = find(&tables, "g");
    assert_eq!((g.schema.columns()[0].name.as_str(), g.schema.key()), ("my_row_id", &[0][..]));
}

#[tokio::test]
async fn what_is_not_carried_is_listed() {
    for server in both() {
        server.sql(
            "create database extras; use extras; \
             create table p (id int primary key, d int default 3, g int as (d + 1) stored, t text, fulltext f (t), \
               constraint positive check (d > 0)) ; \
             create table c (id int primary key, p int, constraint to_p foreign key (p) references p (id)); \
             create table r (id int primary key) partition by hash (id) partitions 3; \
             create table o (id int primary key, at datetime on update current_timestamp, hidden int invisible default 1); \
             create trigger tr before insert on p for each row set new.d = 1; create view v as select 1; \
             create procedure pr() select 1; create function fu() returns int deterministic return 1; \
             create event ev on schedule every 1 year do select 1",
        );
        server.sql("grant all on extras.* to freshet");
        let mut connection = root(server).await;
        let facts = ServerFacts::read(&mut connection).await.unwrap();
        let catalogue = read_catalogue(&mut connection, &facts, &Database("extras")).await.unwrap();
        assert_eq!(find(&catalogue.tables, "p").not_carried, ["Trigger tr"]);
        let lines = |name: &str| find(&catalogue.tables, name).native_lines();
        let check = match server.flavor() {
            Flavor::MariaDb => "(`d` > 0)",
            Flavor::MySql => "((`d` > 0))",
        };
        let positive = "Check constraint positive of extras.p: CONSTRAINT `positive` CHECK";
        assert_eq!(lines("p"), [format!("{positive} {check}")]);
        let to_p = "CONSTRAINT `to_p` FOREIGN KEY (`p`) REFERENCES `p` (`id`)";
        assert_eq!(lines("c"), [format!("Foreign key to_p of extras.c: {to_p}")]);
        assert!(lines("r")[0].starts_with("Partitioning of extras.r: PARTITION BY HASH (`id`)"));
        assert_eq!(
            lines("o"),
            ["ON UPDATE of column at of extras.o", "INVISIBLE of column hidden of extras.o"]
        );
        if server.flavor() == Flavor::MySql {
            server.sql("create table extras.s (id int primary key, p point srid 4326, q point)");
            let catalogue = read_catalogue(&mut connection, &facts, &Database("extras")).await.unwrap();
            assert_eq!(find(&catalogue.tables, "s").native_lines(), ["SRID of column p of extras.s"]);
        }
        assert_eq!(
            catalogue.not_carried,
            ["View extras.v", "Function extras.fu", "Procedure extras.pr", "Event extras.ev"]
        );
        assert_eq!(catalogue.refused, []);
    }
}

/// D10: whatever quotes a server is set to print, and whatever its own modes leave out, a table is cut the same.
#[tokio::test]
async fn d10_a_table_s_own_words_do_not_depend_on_the_server_s_modes() {
    for flavor in [Flavor::MariaDb, Flavor::MySql] {
        let server = MyServer::start(flavor, MyOptions::default().with_freshet_user());
        server.sql("create database d; create table d.t (id int primary key, `a\"b` int default '5' comment 'x', key k (`a\"b`))");
        let words = async || tables(&server, "d").await.remove(0).native;
        let plain = words().await;
        let printed = plain.printed.clone().unwrap();
        assert!(printed.columns[1].as_ref().unwrap().ends_with("COMMENT 'x'"), "{printed:?}");
        assert_eq!(plain.objects.len(), 2);
        let modes = if flavor == Flavor::MariaDb { "ORACLE" } else { "ANSI_QUOTES" };
        server.sql(&format!(
            "set global sql_mode = '{modes},NO_BACKSLASH_ESCAPES'; set global sql_quote_show_create = 0"
        ));
        assert_eq!(words().await, plain);
        let mut connection = root(&server).await;
        let facts = ServerFacts::read(&mut connection).await.unwrap();
        let catalogue = read_catalogue(&mut connection, &facts, &Database("d")).await.unwrap();
        assert_eq!(catalogue.tables[0].native, plain);
    }
}

async fn refusal(server: &MyServer, database: &'static str) -> String {
    let error = reader(server, ViewMethod::Auto).tables(&Database(database)).await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Unsupported);
    let view = reader(server, ViewMethod::Auto).view(&Database(database), 1).await;
    assert_eq!(view.err().unwrap().message(), error.message(), "the view refuses the same");
    text(&error)
}

#[tokio::test]
async fn tables_outside_of_snapshots_are_refused() {
    for server in both() {
        server.sql("create database engines; create table engines.m (a int primary key) engine=MyISAM");
        let refusal = refusal(server, "engines").await;
        assert!(
            refusal.contains("Table engines.m is of engine MyISAM, which has no transactions"),
            "{refusal}"
        );
        assert!(refusal.contains("ALTER TABLE `engines`.`m` ENGINE=InnoDB"), "{refusal}");
    }
    mariadb().sql(
        "create database versioned; create table versioned.v (a int primary key) with system versioning",
    );
    assert!(refusal(mariadb(), "versioned").await.contains("versioned.v is system-versioned"));
    mariadb().sql(
        "create database hashed; create table hashed.h (a int primary key, b blob, unique key long_one (b))",
    );
    assert!(refusal(mariadb(), "hashed").await.contains("Unique index long_one"));
}

const CASCADES: &str = "create database cascades; use cascades; create table p (id int primary key); \
     create table c (id int primary key, p int, constraint act foreign key (p) references p (id) \
       on delete cascade on update set null)";

/// R15, with an account that has SELECT alone: MariaDB hides foreign keys from it in `information_schema`.
#[tokio::test]
async fn r15_unlogged_cascades_are_refused() {
    let servers = [
        MyServer::start(Flavor::MariaDb, MyOptions::default()),
        MyServer::start(Flavor::MySql, MyOptions::default().arg("--innodb-native-foreign-keys=ON")),
        MyServer::start(Flavor::MySql, MyOptions::default()),
    ];
    for (server, is_refused) in servers.iter().zip([true, true, false]) {
        server.sql(CASCADES);
        server.sql("create user lean identified by 'lean'; grant select on cascades.* to lean");
        let options = options_of(server, "lean", "lean");
        let mut reader = freshet_mysql::table::MysqlTableReader::new(options, flavour(server));
        let tables = reader.tables(&Database("cascades")).await;
        assert_eq!(tables.is_err(), is_refused);
        if let Err(error) = tables {
            let text = text(&error);
            assert!(
                text.contains("Foreign key act of table cascades.c has ON DELETE CASCADE ON UPDATE SET NULL"),
                "{text}"
            );
            assert!(text.contains("DROP FOREIGN KEY `act`"), "{text}");
        }
    }
}

#[tokio::test]
async fn the_configured_flavour_is_checked() {
    for (server, wrong) in both().into_iter().zip([Flavour::Mysql, Flavour::Mariadb]) {
        let options = options_of(server, "freshet", "freshet");
        let mut reader = freshet_mysql::table::MysqlTableReader::new(options, wrong);
        let error = reader.tables(&Database("none")).await.unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Invalid, "{error}");
    }
}

/// A table of another name in another case is another table, and a missing one is none.
#[tokio::test]
async fn only_what_is_selected_is_looked_at() {
    for server in both() {
        server.sql("create database few; create table few.a (a int primary key); create table few.b (a int) engine=MyISAM");
        let selection =
            super::common::These(vec![TableName::new("few", "a"), TableName::new("few", "missing")]);
        let tables = reader(server, ViewMethod::Auto).tables(&selection).await.unwrap();
        assert_eq!(tables.len(), 1);
    }
}
