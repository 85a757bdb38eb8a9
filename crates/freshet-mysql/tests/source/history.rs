//! Histories that are gone, are another's, or go on elsewhere: what may be begun after a place and what may not.

use freshet_core::position::{BinlogPosition, FilePos};
use freshet_core::{ErrorKind, Position};
use freshet_testkit::servers::{Flavor, MyOptions, MyServer, wait_until};

use crate::harness::{
    Capture, DEADLINE, FLAVORS, SET_UP, assert_error, binlog, copy, now, open_error, options,
    purge_before_the_last, rest_follows_every_place, start,
};

/// P12, O1: what was purged is never skipped; a place before which nothing that it lacks was purged still works.
#[tokio::test]
async fn p12_o1_a_purged_binlog_is_a_resync() {
    for flavor in FLAVORS {
        let server = start(flavor, MyOptions::default());
        server.sql(SET_UP);
        let early = now(&server).await;
        server.sql(
            "insert into h.t values (1); flush binary logs; insert into h.t values (2); flush binary logs",
        );
        let mut capture = Capture::opened(options(&server), "h", &early).await;
        capture.until(2).await;
        let late = capture.position.clone();
        purge_before_the_last(&server);
        let elsewhere =
            Position::Binlog(BinlogPosition { server: "elsewhere".into(), ..binlog(&early).clone() });
        for place in [&early, &elsewhere] {
            assert_error(
                &open_error(&server, place).await,
                &ErrorKind::Resync,
                &["no longer has", "Load again"],
            );
        }
        // The file of this place is gone, but nothing after it.
        server.sql("insert into h.t values (3)");
        let mut rest = Capture::opened(options(&server), "h", &late).await;
        rest.until(1).await;
        assert_eq!(rest.changes(), [["t+3"]]);
        // P12: an empty position is not "from the oldest".
        let empty = binlog(&early);
        let gtids = empty.gtids.combine(&options(&server).flavour.empty_gtids(), false).unwrap();
        let empty = BinlogPosition { server: "elsewhere".into(), file: FilePos::default(), gtids };
        let error = open_error(&server, &Position::Binlog(empty)).await;
        assert_error(&error, &ErrorKind::Resync, &["no longer has"]);
    }
}

/// P16, P22: RESET, also when the new history has grown past the old place.
#[tokio::test]
async fn p16_p22_a_reset_history_is_a_resync() {
    for flavor in FLAVORS {
        let server = start(flavor, MyOptions::default());
        server.sql(SET_UP);
        let first = now(&server).await;
        server.sql("insert into h.t values (1), (2), (3); insert into h.t values (4)");
        let mut capture = Capture::opened(options(&server), "h", &first).await;
        capture.until(2).await;
        let reset = match flavor {
            Flavor::MySql => "reset binary logs and gtids",
            Flavor::MariaDb => "reset master",
        };
        server.sql(reset);
        let error = open_error(&server, &capture.position).await;
        assert_error(&error, &ErrorKind::Resync, &["lost transactions or has another history"]);
        // Other transactions under the same names.
        for id in 100..130 {
            server.sql(&format!("insert into h.t values ({id})"));
        }
        let error = open_error(&server, &capture.position).await;
        assert_eq!(error.kind(), &ErrorKind::Resync, "{flavor:?}: {error}");
        // The open stream notices as well: MariaDB's goes on with the new files or is ended, MySQL's fails to read.
        let error = capture.until_error().await;
        let stops = [ErrorKind::Resync, ErrorKind::Corrupt, ErrorKind::Unavailable];
        assert!(stops.contains(error.kind()), "{flavor:?}: {error}");
    }
}

/// P22: a server that came back from a backup lacks what was read from it.
#[tokio::test]
async fn p22_a_server_restored_from_a_backup_is_a_resync() {
    for flavor in FLAVORS {
        let server = start(flavor, MyOptions::default());
        server.sql(SET_UP);
        let first = now(&server).await;
        server.stop();
        let backup = server.dir().join("backup");
        copy(server.data_dir(), &backup);
        server.restart();
        server.sql("insert into h.t values (1)");
        let mut capture = Capture::opened(options(&server), "h", &first).await;
        capture.until(1).await;
        server.stop();
        std::fs::remove_dir_all(server.data_dir()).unwrap();
        copy(&backup, server.data_dir());
        server.restart();
        let error = open_error(&server, &capture.position).await;
        assert_error(&error, &ErrorKind::Resync, &["lost transactions or has another history", "load again"]);
        // What it does have is still good.
        server.sql("insert into h.t values (2)");
        let mut rest = Capture::opened(options(&server), "h", &first).await;
        rest.until(1).await;
        assert_eq!(rest.changes(), [["t+2"]]);
    }
}

/// P11, P22: after a fail-over to a replica the GTIDs decide, whatever the file position says.
#[tokio::test]
async fn p11_p22_a_replica_goes_on_by_gtid() {
    for flavor in FLAVORS {
        let source = start(flavor, MyOptions::default());
        let replica = start(flavor, replica_options(flavor));
        source.sql(SET_UP);
        let first = now(&source).await;
        source.sql("insert into h.t values (1); insert into h.t values (2)");
        let mut capture = Capture::opened(options(&source), "h", &first).await;
        capture.until(2).await;
        replicate(&source, &replica);
        let seen = "select count(*) from h.t";
        wait_until(DEADLINE, "the replica", || replica.try_sql(seen).is_ok_and(|count| count == "2"));
        // What the replica does not have yet is not to be read twice nor lost.
        replica.sql("stop replica");
        source.sql("insert into h.t values (3)");
        capture.until(3).await;
        let error = open_error(&replica, &capture.position).await;
        assert_error(&error, &ErrorKind::Resync, &["lost transactions or has another history"]);
        replica.sql("start replica");
        wait_until(DEADLINE, "the replica", || replica.sql(seen) == "3");
        replica.sql("stop replica; set global read_only = 0; insert into h.t values (4)");
        let mut rest = Capture::opened(options(&replica), "h", &capture.position).await;
        rest.until(1).await;
        assert_eq!(rest.changes(), [["t+4"]]);
        assert_ne!(binlog(&rest.position).server, binlog(&capture.position).server);
        // From the first place on, everything, from the replica's own binlog.
        let mut all = Capture::opened(options(&replica), "h", &first).await;
        all.until(4).await;
        assert_eq!(all.changes(), [["t+1"], ["t+2"], ["t+3"], ["t+4"]]);
    }
}

fn replica_options(flavor: Flavor) -> MyOptions {
    match flavor {
        Flavor::MariaDb => MyOptions::default().arg("--log-slave-updates"),
        Flavor::MySql => MyOptions::default(),
    }
}

fn replicate(source: &MyServer, replica: &MyServer) {
    let port = source.port();
    replica.sql(&match source.flavor() {
        Flavor::MariaDb => format!(
            "change master to master_host = '127.0.0.1', master_port = {port}, master_user = 'freshet',
             master_password = 'freshet', master_use_gtid = slave_pos, master_connect_retry = 1; start replica"
        ),
        Flavor::MySql => format!(
            "change replication source to source_host = '127.0.0.1', source_port = {port}, source_user = 'freshet',
             source_password = 'freshet', source_auto_position = 1, get_source_public_key = 1,
             source_connect_retry = 1; start replica"
        ),
    });
}

/// P25: a replica that does not log what it replicates has no binlog to read.
#[tokio::test]
async fn p25_a_replica_that_does_not_log_is_refused() {
    for flavor in FLAVORS {
        let source = start(flavor, MyOptions::default());
        let options_of_replica = match flavor {
            Flavor::MariaDb => MyOptions::default(),
            Flavor::MySql => MyOptions::default().arg("--log-replica-updates=OFF"),
        };
        let replica = start(flavor, options_of_replica);
        let place = now(&replica).await;
        Capture::opened(options(&replica), "h", &place).await;
        replicate(&source, &replica);
        let name = if flavor == Flavor::MySql { "log_replica_updates" } else { "log_slave_updates" };
        let error = open_error(&replica, &place).await;
        assert_error(&error, &ErrorKind::Invalid, &[name, "configuration file"]);
    }
}

/// P11: without GTIDs there are file positions only, good on the same server alone.
#[tokio::test]
async fn p11_mysql_without_gtids_goes_by_file_position() {
    let off = MyOptions::default().arg("--gtid-mode=OFF").arg("--enforce-gtid-consistency=OFF");
    let server = start(Flavor::MySql, off);
    server.sql(SET_UP);
    let first = now(&server).await;
    server.sql("insert into h.t values (1); flush binary logs; insert into h.t values (2); insert into h.t values (3)");
    let mut all = Capture::opened(options(&server), "h", &first).await;
    all.until(3).await;
    rest_follows_every_place(&server, &all).await;
    let elsewhere = Position::Binlog(BinlogPosition { server: "elsewhere".into(), ..binlog(&first).clone() });
    assert_error(&open_error(&server, &elsewhere).await, &ErrorKind::Resync, &["another server"]);
    let inside = &binlog(&all.position).file;
    let inside = FilePos { file: inside.file.clone(), pos: inside.pos - 5 };
    let inside = Position::Binlog(BinlogPosition { file: inside, ..binlog(&all.position).clone() });
    let error = open_error(&server, &inside).await;
    assert!(matches!(error.kind(), ErrorKind::Resync | ErrorKind::Corrupt), "{error}");
}

/// A pipeline is not carried from one kind of server to the other.
#[tokio::test]
async fn positions_of_another_kind_are_refused() {
    let [mariadb, mysql] = crate::harness::both();
    let error = open_error(mysql, &now(mariadb).await).await;
    assert_error(&error, &ErrorKind::Resync, &["another kind of server"]);
    let wal: Position = "wal;7000000000000000001;1;123456".parse().unwrap();
    assert_error(&open_error(mysql, &wal).await, &ErrorKind::Resync, &["PostgreSQL"]);
}
