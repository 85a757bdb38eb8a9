//! MySQL's `gtid_mode`: positions of a server without GTIDs, and changes of the mode under and between sessions.

use std::sync::Arc;

use freshet_core::position::{BinlogPosition, FilePos, GtidSet};
use freshet_core::source::Source as _;
use freshet_core::table::TableReader as _;
use freshet_core::{ErrorKind, Position};
use freshet_mysql::server::Flavour;
use freshet_mysql::source::BinlogSource;
use freshet_mysql::table::{MysqlTableReader, ViewMethod};
use freshet_testkit::servers::{Flavor, MyOptions, MyServer, wait_until};

use crate::harness::{
    Capture, DEADLINE, Database, SET_UP, assert_error, binlog, connect_options, now, open_error, options,
    rest_follows_every_place, start,
};

fn without_gtids() -> MyServer {
    let off = MyOptions::default().arg("--gtid-mode=OFF").arg("--enforce-gtid-consistency=ON");
    start(Flavor::MySql, off)
}

/// Changes the mode, which goes by single steps.
fn set_modes(server: &MyServer, modes: &[&str]) {
    for mode in modes {
        server.sql(&format!("set global gtid_mode = {mode}"));
    }
}

const SWITCH_ON: [&str; 3] = ["OFF_PERMISSIVE", "ON_PERMISSIVE", "ON"];
const SWITCH_OFF: [&str; 3] = ["ON_PERMISSIVE", "OFF_PERMISSIVE", "OFF"];

fn is_place(position: &Position) -> bool {
    binlog(position).gtids == GtidSet::Places
}

fn insert(server: &MyServer, id: u32) {
    server.sql(&format!("insert into h.t values ({id})"));
}

/// P13: a set from the time when GTIDs were on says nothing of what is written since they are off.
#[tokio::test]
async fn p13_positions_of_a_server_without_gtids_are_places() {
    let server = without_gtids();
    set_modes(&server, &SWITCH_ON);
    server.sql(SET_UP);
    insert(&server, 1);
    let mut source = BinlogSource::new(options(&server), Arc::new(Database("h")));
    assert!(!is_place(&source.tip().await.unwrap()));
    // The question of the tip keeps its connection, over a change of the mode.
    set_modes(&server, &SWITCH_OFF);
    assert!(is_place(&source.tip().await.unwrap()));
    server.restart();
    assert!(server.sql("select @@global.gtid_executed").contains(":1-"));
    let first = now(&server).await;
    let mut reader =
        MysqlTableReader::new(connect_options(&server), Flavour::Mysql).with_method(ViewMethod::Lock);
    let view = reader.view(&Database("h"), 1).await.unwrap();
    assert!(
        is_place(&first) && view.low == first && view.high == first,
        "{first} {} {}",
        view.low,
        view.high
    );
    let mut all = Capture::opened(options(&server), "h", &first).await;
    server.sql("insert into h.t values (2); flush binary logs; insert into h.t values (3); insert into h.t values (4)");
    all.until(3).await;
    assert_eq!(all.changes(), [["t+2"], ["t+3"], ["t+4"]]);
    assert!(all.places.iter().all(|(_, place)| is_place(place)), "{:?}", all.places);
    rest_follows_every_place(&server, &all).await;
    // The same session goes on by place, read or not.
    all.open().await.unwrap();
    insert(&server, 5);
    all.until(4).await;
    insert(&server, 6);
    all.open().await.unwrap();
    all.until(5).await;
    assert_eq!(all.changes()[3..], [["t+5"], ["t+6"]]);
}

/// P13: what has no GTID is never added to a set.
#[tokio::test]
async fn p13_gtids_switched_off_under_a_session_stop_it_by_name() {
    let server = start(Flavor::MySql, MyOptions::default());
    server.sql(SET_UP);
    let mut capture = Capture::opened(options(&server), "h", &now(&server).await).await;
    insert(&server, 1);
    capture.until(1).await;
    set_modes(&server, &SWITCH_OFF[..1]);
    insert(&server, 2);
    capture.until(2).await;
    set_modes(&server, &SWITCH_OFF[1..2]);
    insert(&server, 3);
    let error = capture.until_error().await;
    assert_error(&error, &ErrorKind::Resync, &["GTIDs were switched off", "Load again"]);
    assert_eq!(capture.changes(), [["t+1"], ["t+2"]]);
    let error = capture.open().await.unwrap_err();
    assert_error(&error, &ErrorKind::Resync, &["GTIDs were switched off", "OFF_PERMISSIVE"]);
    set_modes(&server, &SWITCH_OFF[2..]);
    let error = capture.open().await.unwrap_err();
    assert_error(&error, &ErrorKind::Resync, &["GTIDs were switched off", "gtid_mode is OFF", "load again"]);
}

/// P13: switched off and on again between two sessions. The server itself says nothing: it begins to send in the
/// newest file whose Previous_gtids are ours.
#[tokio::test]
async fn p13_gtids_switched_off_between_sessions_stop_by_name() {
    let server = start(Flavor::MySql, MyOptions::default());
    server.sql(SET_UP);
    insert(&server, 1);
    let ours = now(&server).await;
    // What the bounds of a view without the lock have: the set of now, and the beginning of the file.
    let begin = FilePos { pos: 4, ..binlog(&ours).file.clone() };
    let early = Position::Binlog(BinlogPosition { file: begin, ..binlog(&ours).clone() });
    set_modes(&server, &SWITCH_OFF);
    for place in [&ours, &early] {
        let error = open_error(&server, place).await;
        assert_error(
            &error,
            &ErrorKind::Resync,
            &["GTIDs were switched off", "gtid_mode is OFF", "gtid_mode = ON"],
        );
    }
    // Nothing was written meanwhile: with GTIDs on again it goes on.
    set_modes(&server, &SWITCH_ON);
    insert(&server, 2);
    for place in [&ours, &early] {
        let mut rest = Capture::opened(options(&server), "h", place).await;
        rest.until(1).await;
        assert_eq!(rest.changes(), [["t+2"]]);
    }
    let later = now(&server).await;
    set_modes(&server, &SWITCH_OFF);
    insert(&server, 3);
    set_modes(&server, &SWITCH_ON);
    for id in 4..6 {
        insert(&server, id);
        let error = open_error(&server, &later).await;
        assert_error(
            &error,
            &ErrorKind::Resync,
            &["GTIDs were switched off", "without one comes after", "Load again"],
        );
        server.sql("flush binary logs");
    }
    let error = open_error(&server, &ours).await;
    assert_error(&error, &ErrorKind::Resync, &["GTIDs were switched off", "Load again"]);
    // Also when the file of our place is gone, as long as that of the transaction is there.
    wait_until(DEADLINE, "the file to be purged", || {
        server.sql(&format!("purge binary logs to '{}'", file_after(&binlog(&later).file.file)));
        !server.sql("show binary logs").contains(&binlog(&later).file.file)
    });
    let error = open_error(&server, &later).await;
    assert_error(&error, &ErrorKind::Resync, &["GTIDs were switched off", "without one comes after"]);
}

fn file_after(file: &str) -> String {
    let (base, number) = file.rsplit_once('.').unwrap();
    format!("{base}.{:06}", number.parse::<u64>().unwrap() + 1)
}

/// P11, P13: switched on step by step, a place goes on exactly, and stays a place.
#[tokio::test]
async fn p13_gtids_switched_on_under_a_place_go_on_exactly() {
    let server = without_gtids();
    server.sql(SET_UP);
    let mut all = Capture::opened(options(&server), "h", &now(&server).await).await;
    insert(&server, 1);
    all.until(1).await;
    set_modes(&server, &SWITCH_ON[..1]);
    insert(&server, 2);
    all.until(2).await;
    set_modes(&server, &SWITCH_ON[1..2]);
    insert(&server, 3);
    server.sql("set gtid_next = 'ANONYMOUS'; insert into h.t values (4)");
    insert(&server, 5);
    all.until(5).await;
    rest_follows_every_place(&server, &all).await;
    set_modes(&server, &SWITCH_ON[2..]);
    insert(&server, 6);
    all.until(6).await;
    all.open().await.unwrap();
    insert(&server, 7);
    all.until(7).await;
    let read = all.changes().concat();
    assert_eq!(read, ["t+1", "t+2", "t+3", "t+4", "t+5", "t+6", "t+7"]);
    assert!(all.places.iter().all(|(_, place)| is_place(place)), "{:?}", all.places);
    // The server does not send what has no GTID any more; nothing is skipped for it.
    let error = open_error(&server, &all.places[0].1).await;
    assert_error(&error, &ErrorKind::Invalid, &["gtid_mode", "ON_PERMISSIVE"]);
    set_modes(&server, &SWITCH_OFF[..1]);
    rest_follows_every_place(&server, &all).await;
    set_modes(&server, &SWITCH_OFF[1..]);
    let error = open_error(&server, &all.places[0].1).await;
    assert_error(&error, &ErrorKind::Invalid, &["gtid_mode", "OFF_PERMISSIVE"]);
}

/// P11, P16: a place between two events, after the end, of a file that is gone, or of another server.
#[tokio::test]
async fn p16_places_that_are_not_in_the_history_are_a_resync() {
    let server = without_gtids();
    server.sql(SET_UP);
    insert(&server, 1);
    let end = now(&server).await;
    let at = |file: &str, pos| {
        let file = FilePos { file: file.to_owned(), pos };
        Position::Binlog(BinlogPosition { file, ..binlog(&end).clone() })
    };
    let FilePos { file, pos } = &binlog(&end).file;
    for (place, words) in [
        (at(file, pos - 5), "no event begins"),
        (at(file, pos + 5), "ends before"),
        (at(&file_after(file), 4), "ends before"),
        (at("", 0), "names no binlog file"),
    ] {
        assert_error(&open_error(&server, &place).await, &ErrorKind::Resync, &[words]);
    }
    server.sql("flush binary logs");
    wait_until(DEADLINE, "the file to be purged", || {
        server.sql(&format!("purge binary logs to '{}'", file_after(file)));
        server.sql("show binary logs").lines().count() == 1
    });
    assert_error(&open_error(&server, &end).await, &ErrorKind::Resync, &["no longer has"]);
    let mariadb = crate::harness::shared(Flavor::MariaDb);
    assert_error(&open_error(mariadb, &end).await, &ErrorKind::Resync, &["another kind of server"]);
}
