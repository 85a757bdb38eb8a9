//! Views and their bounds.

use freshet_core::error::ErrorKind;
use freshet_core::table::TableReader;
use freshet_mysql::table::{MysqlTableReader, ViewMethod};
use freshet_testkit::servers::{Flavor, MyOptions, MyServer};

use super::common::{Database, Writer, both, flavour, options_of, reader, text};

#[tokio::test]
async fn the_lock_gives_one_bound_and_is_let_go() {
    for server in both() {
        server.sql("create database locked; create table locked.t (a int primary key); insert into locked.t values (1)");
        let view = reader(server, ViewMethod::Lock).view(&Database("locked"), 3).await.unwrap();
        assert_eq!(view.low, view.high);
        assert_eq!((view.readers.len(), view.tables.len()), (3, 1));
        server.sql("insert into locked.t values (2); alter table locked.t add b int");
    }
}

#[tokio::test]
async fn without_reload_the_other_way_is_taken() {
    for server in both() {
        server.sql(
            "create database lockless; create table lockless.t (a int primary key); \
             create user lockless identified by 'l'; grant select, replication client on *.* to lockless",
        );
        let xa = if server.flavor() == Flavor::MySql {
            "grant xa_recover_admin on *.* to lockless"
        } else {
            "grant slave monitor on *.* to lockless"
        };
        server.sql(xa);
        let new = || MysqlTableReader::new(options_of(server, "lockless", "l"), flavour(server));
        let refused = new().with_method(ViewMethod::Lock).view(&Database("lockless"), 1).await.err().unwrap();
        assert_eq!(refused.kind(), &ErrorKind::Invalid);
        assert!(text(&refused).contains("RELOAD"), "{}", text(&refused));
        let view = new().view(&Database("lockless"), 2).await.unwrap();
        assert_eq!(view.readers.len(), 2);
    }
}

/// ALGORITHMS 2.4: between two bounds changes are applied by key.
#[tokio::test]
async fn two_bounds_need_keys() {
    for server in both() {
        server.sql("create database keyless; create table keyless.t (a int); create table keyless.k (a int primary key)");
        assert!(reader(server, ViewMethod::Lock).view(&Database("keyless"), 2).await.is_ok());
        let writer = Writer::start(move |_| {
            drop(server.sql("replace into keyless.k values (1); delete from keyless.k"))
        });
        let mut refused = String::new();
        for _ in 0..200 {
            match reader(server, ViewMethod::NoLock).view(&Database("keyless"), 8).await {
                Ok(view) => assert_eq!(view.low, view.high),
                Err(error) => {
                    refused = text(&error);
                    break;
                }
            }
        }
        drop(writer);
        assert!(refused.contains("Table keyless.t has no primary key"), "{refused}");
    }
}

/// T3: what is prepared is in no snapshot.
#[tokio::test]
async fn t3_prepared_transactions_stop_a_view() {
    for flavor in [Flavor::MariaDb, Flavor::MySql] {
        let server = MyServer::start(flavor, MyOptions::default().with_freshet_user());
        server.sql(
            "create database xa; create table xa.t (a int primary key); \
             xa start 'x'; insert into xa.t values (1); xa end 'x'; xa prepare 'x'",
        );
        for method in [ViewMethod::Lock, ViewMethod::NoLock] {
            let refused = reader(&server, method).view(&Database("xa"), 1).await.err().unwrap();
            assert_eq!(refused.kind(), &ErrorKind::Unsupported);
            assert!(refused.message().contains("1 prepared XA transactions"), "{refused}");
        }
        server.sql("xa rollback 'x'");
        assert!(reader(&server, ViewMethod::Lock).view(&Database("xa"), 1).await.is_ok());
    }
}

/// A statement that holds its table open keeps the lock away; writers must not wait behind us for long.
#[tokio::test]
async fn a_long_statement_is_waited_for_within_a_bound() {
    for flavor in [Flavor::MariaDb, Flavor::MySql] {
        let server = MyServer::start(flavor, MyOptions::default().with_freshet_user());
        server.sql("create database long_one; create table long_one.t (a int primary key); insert into long_one.t values (1)");
        let long = server.spawn_sql("select sleep(600) from long_one.t for update");
        freshet_testkit::servers::wait_until(
            std::time::Duration::from_secs(300),
            "the statement that holds its table open",
            || {
                // Shown as running it may not have opened its table yet.
                server.sql("select count(*) from information_schema.processlist where state = 'User sleep'")
                    == "1"
            },
        );
        let locked = reader(&server, ViewMethod::Lock).with_lock_total_ms_max(3_000);
        let refused = locked.clone().view(&Database("long_one"), 1).await.err().unwrap();
        assert_eq!(refused.kind(), &ErrorKind::Unavailable, "{refused}");
        let auto = locked.with_method(ViewMethod::Auto).view(&Database("long_one"), 1).await;
        assert!(auto.is_ok(), "{:?}", auto.err());
        drop(long);
    }
}

/// With `gtid_mode=OFF` only the lock gives bounds.
#[tokio::test]
async fn mysql_without_gtids_needs_the_lock() {
    let server = MyServer::start(
        Flavor::MySql,
        MyOptions::default().arg("--gtid-mode=OFF").arg("--enforce-gtid-consistency=OFF").with_freshet_user(),
    );
    server.sql("create database plain; create table plain.t (a int primary key)");
    let refused = reader(&server, ViewMethod::NoLock).view(&Database("plain"), 1).await.err().unwrap();
    assert!(refused.message().contains("gtid_mode=ON"), "{refused}");
    let view = reader(&server, ViewMethod::Lock).view(&Database("plain"), 1).await.unwrap();
    assert_eq!(view.low, view.high);
}
