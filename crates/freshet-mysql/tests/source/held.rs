//! What targets hold ahead of the start: it must be in the server's history, or nothing is begun (P22).

use freshet_core::position::{BinlogPosition, FilePos, GtidSet};
use freshet_core::{Error, ErrorKind, Position};
use freshet_testkit::servers::{Flavor, MyOptions, MyServer};

use crate::harness::{Capture, FLAVORS, SET_UP, assert_error, binlog, copy, now, options, settle, start};

const LOST: &str = "A target holds what the source does not have";
const OTHERWISE: &str = "of another server or kind";

async fn opened(server: &MyServer, start: &Position, held: &[&Position]) -> Result<Capture, Error> {
    let mut capture = Capture::new(options(server), "h", start);
    capture.held = held.iter().copied().cloned().collect();
    capture.open().await.map(|()| capture)
}

async fn refused(server: &MyServer, start: &Position, held: &Position, words: &[&str]) {
    let Err(error) = opened(server, start, &[held]).await else { panic!("{held} was taken") };
    assert_error(&error, &ErrorKind::Resync, words);
    assert_error(&error, &ErrorKind::Resync, &["compare", "load again"]);
}

fn with_file(position: &Position, file: &str, pos: u64) -> Position {
    let file = FilePos { file: file.to_owned(), pos };
    Position::Binlog(BinlogPosition { file, ..binlog(position).clone() })
}

fn with_server(position: &Position, server: &str) -> Position {
    Position::Binlog(BinlogPosition { server: server.to_owned(), ..binlog(position).clone() })
}

/// What a target has whose place is not known.
fn placeless(position: &Position) -> Position {
    with_server(&with_file(position, "", 0), "")
}

/// P22: held within the history, wherever the start is and whatever was purged before.
#[tokio::test]
async fn p22_what_is_held_within_the_history_is_gone_on_from() {
    for flavor in FLAVORS {
        let server = start(flavor, MyOptions::default());
        server.sql(SET_UP);
        let first = now(&server).await;
        server.sql("insert into h.t values (1)");
        let second = now(&server).await;
        server.sql("flush binary logs; insert into h.t values (2)");
        settle(&server);
        let third = now(&server).await;
        let elsewhere = with_server(&with_file(&third, "x.000077", 99), "elsewhere");
        let held = [&first, &second, &third, &placeless(&third), &elsewhere];
        let mut capture = opened(&server, &first, &held).await.unwrap();
        capture.until(2).await;
        assert_eq!(capture.changes(), [["t+1"], ["t+2"]]);
        // On this server alone the place counts.
        let beyond = with_file(&third, &binlog(&third).file.file, binlog(&third).file.pos + 1);
        refused(&server, &first, &beyond, &[LOST, "ends before", &binlog(&beyond).file.to_string()]).await;
        refused(&server, &first, &with_file(&third, "other.000001", 4), &[LOST, "ends before"]).await;
        // Another set than what stands there.
        let Position::Binlog(mut early) = third.clone() else { panic!("a binlog position") };
        early.file = binlog(&second).file.clone();
        if flavor == Flavor::MariaDb {
            refused(&server, &first, &Position::Binlog(early), &[LOST, "was read"]).await;
        }
    }
}

/// P22: the server came back from a backup, or was reset, under a target that is ahead.
#[tokio::test]
async fn p22_what_is_held_and_was_lost_is_a_resync() {
    for flavor in FLAVORS {
        let server = start(flavor, MyOptions::default());
        server.sql(SET_UP);
        let first = now(&server).await;
        server.sql("insert into h.t values (1)");
        let second = now(&server).await;
        server.stop();
        let backup = server.dir().join("backup");
        copy(server.data_dir(), &backup);
        server.restart();
        server.sql("insert into h.t values (2)");
        let third = now(&server).await;
        server.stop();
        std::fs::remove_dir_all(server.data_dir()).unwrap();
        copy(&backup, server.data_dir());
        server.restart();
        opened(&server, &first, &[&second, &placeless(&second)]).await.unwrap();
        // The last transaction by its name.
        let gtids = binlog(&third).gtids.to_string();
        let name = match flavor {
            Flavor::MySql => format!("{}:{}", &gtids[..36], gtids.rsplit_once('-').unwrap().1),
            Flavor::MariaDb => gtids,
        };
        for held in [&placeless(&third), &with_server(&third, "elsewhere")] {
            refused(&server, &first, held, &[LOST, &name]).await;
        }
        refused(&server, &first, &third, &[LOST]).await;
        let reset = if flavor == Flavor::MySql { "reset binary logs and gtids" } else { "reset master" };
        server.sql(reset);
        let begin = now(&server).await;
        for held in [&second, &placeless(&second), &with_server(&second, "elsewhere")] {
            refused(&server, &begin, held, &[LOST]).await;
        }
    }
}

/// P22: transactions of a server that this one never saw.
#[tokio::test]
async fn p22_what_is_held_from_another_history_is_a_resync() {
    for flavor in FLAVORS {
        let [one, other] = [(); 2].map(|()| start(flavor, MyOptions::default()));
        for server in [&one, &other] {
            server.sql(SET_UP);
        }
        let (first, held) = (now(&one).await, now(&other).await);
        let name = match flavor {
            Flavor::MySql => other.sql("select @@server_uuid"),
            Flavor::MariaDb => binlog(&held).gtids.to_string(),
        };
        for held in [&held, &placeless(&held)] {
            refused(&one, &first, held, &[LOST, &name]).await;
        }
    }
}

/// P22: a position of another kind says nothing of this server, or of this start.
#[tokio::test]
async fn p22_what_is_held_of_another_kind_is_a_resync() {
    let [mariadb, mysql] = crate::harness::both();
    let wal: Position = "wal;7000000000000000001;1;123456".parse().unwrap();
    let place = |server: &MyServer, position: &Position| {
        let gtids = GtidSet::Places;
        let same = BinlogPosition { gtids, ..binlog(position).clone() };
        (server.flavor() == Flavor::MySql).then_some(Position::Binlog(same))
    };
    for (server, other) in [(mariadb, mysql), (mysql, mariadb)] {
        let first = now(server).await;
        refused(server, &first, &now(other).await, &[OTHERWISE]).await;
        refused(server, &first, &wal, &[OTHERWISE]).await;
        if let Some(place) = place(server, &first) {
            refused(server, &first, &place, &[OTHERWISE]).await;
            refused(server, &place, &first, &[OTHERWISE]).await;
            opened(server, &place, &[&place]).await.unwrap();
        }
    }
}

/// P22: without GTIDs what is held is a place on this server, at or before its end.
#[tokio::test]
async fn p22_held_places_are_of_this_server() {
    let server = start(Flavor::MySql, MyOptions::default().arg("--gtid-mode=OFF"));
    server.sql(SET_UP);
    let first = now(&server).await;
    server.sql("insert into h.t values (1); flush binary logs; insert into h.t values (2)");
    let end = now(&server).await;
    assert_eq!(binlog(&end).gtids, GtidSet::Places);
    let mut capture = opened(&server, &first, &[&first, &end]).await.unwrap();
    capture.until(2).await;
    let FilePos { file, pos } = &binlog(&end).file;
    refused(&server, &first, &with_file(&end, file, pos + 1), &[LOST, "ends before"]).await;
    refused(&server, &first, &with_file(&end, file, pos - 1), &[LOST, "no event begins"]).await;
    refused(&server, &first, &with_server(&end, "elsewhere"), &[OTHERWISE, "elsewhere"]).await;
    refused(&server, &first, &placeless(&end), &[OTHERWISE]).await;
    server.sql("reset binary logs and gtids");
    refused(&server, &now(&server).await, &end, &[LOST, "ends before"]).await;
}
