//! MariaDB begun by GTID: several domains in another order than on the server that was read before (P19).

use freshet_core::position::{BinlogPosition, FilePos};
use freshet_core::source::Source as _;
use freshet_core::{ErrorKind, Position};
use freshet_testkit::servers::{Flavor, MyOptions, MyServer};

use crate::harness::{
    Capture, SET_UP, binlog, now, open_error, options, purge, rest_follows_every_place, start,
};

/// Two servers with the same tables, which no GTID names.
fn two() -> [MyServer; 2] {
    [(); 2].map(|()| {
        let server = start(Flavor::MariaDb, MyOptions::default());
        server.sql(&format!("set sql_log_bin = 0; {SET_UP}"));
        server
    })
}

/// Writes transactions as a third server did: (domain, sequence) inserts `10 * domain + sequence`.
fn write(server: &MyServer, transactions: &[(u32, u32)]) {
    for (domain, sequence) in transactions {
        let id = 10 * domain + sequence;
        server.sql(&format!(
            "set gtid_domain_id = {domain}, server_id = 77, gtid_seq_no = {sequence}; insert into h.t values ({id})"
        ));
    }
}

/// Writes transactions of domain 0 as other servers did: (server, sequence) inserts `1000 * server + sequence`.
fn write_as(server: &MyServer, transactions: &[(u32, u32)]) {
    for (writer, sequence) in transactions {
        let id = 1000 * writer + sequence;
        server.sql(&format!(
            "set gtid_domain_id = 0, server_id = {writer}, gtid_seq_no = {sequence}; insert into h.t values ({id})"
        ));
    }
}

fn has_place(position: &Position) -> bool {
    !binlog(position).file.file.is_empty()
}

async fn read(server: &MyServer, start: &Position, count: usize) -> Capture {
    let mut capture = Capture::opened(options(server), "h", start).await;
    capture.until(count).await;
    capture
}

/// P19: parts of the set lie behind what was read until everything that the server had at the open is read.
#[tokio::test]
async fn p19_a_position_has_no_place_until_it_is_that_of_its_set() {
    let [old, new] = two();
    let first = now(&old).await;
    write(&old, &[(1, 1), (1, 2), (2, 1)]);
    let at = read(&old, &first, 3).await.places[2].1.clone();
    assert_eq!(binlog(&at).gtids.to_string(), "1-77-2");
    write(&new, &[(2, 1), (2, 2), (1, 1), (1, 2), (1, 3), (2, 3)]);
    let mut all = Capture::opened(options(&new), "h", &at).await;
    write(&new, &[(1, 4)]);
    all.until(5).await;
    assert_eq!(all.changes(), [["t+21"], ["t+22"], ["t+13"], ["t+23"], ["t+14"]]);
    let end = now(&new).await;
    for (read, place) in &all.places[1..] {
        // (2, 3) was the end when the session was opened.
        assert_eq!(has_place(place), *read >= 4, "after {read}: {place}");
        assert_eq!(binlog(place).server, binlog(&end).server);
    }
    assert!(end.covers(&all.position) && all.position.covers(&end));
    assert!(all.source.distance_bytes(&all.places[1].1, &end).is_none());
    all.places.remove(0);
    rest_follows_every_place(&new, &all).await;
    // A new session in the middle of what has no place yet, told by the engine as text.
    let middle: Position = all.places[0].1.to_string().parse().unwrap();
    let mut rest = read(&new, &middle, 4).await;
    assert_eq!(rest.txns, all.txns[1..]);
    rest.until_place("the exact place", |place| *place == all.position).await;
}

/// P19, O1: with nothing to read, heartbeats lead to a place.
#[tokio::test]
async fn p19_an_idle_session_comes_to_a_place() {
    let [old, new] = two();
    let first = now(&old).await;
    write(&old, &[(1, 1), (2, 1)]);
    let at = read(&old, &first, 2).await.position;
    write(&new, &[(2, 1), (1, 1)]);
    for flush in ["do 1", "flush binary logs"] {
        new.sql(flush);
        let end = now(&new).await;
        let mut capture = Capture::opened(options(&new), "h", &at).await;
        capture.until_place("the end", |place| place.covers(&end) && has_place(place)).await;
        assert_eq!((capture.txns.len(), &binlog(&capture.position).gtids), (0, &binlog(&at).gtids));
        rest_follows_every_place(&new, &capture).await;
    }
}

/// P12, P19: the same server, whose file of the place was purged, or of a place that nobody knew.
#[tokio::test]
async fn p19_begun_by_gtid_on_the_same_server_comes_to_a_place() {
    let [server, _] = two();
    write(&server, &[(1, 1), (2, 1)]);
    let old = now(&server).await;
    let unknown = BinlogPosition { server: String::new(), file: FilePos::default(), ..binlog(&old).clone() };
    purge(&server);
    for start in [old.clone(), Position::Binlog(unknown)] {
        let end = now(&server).await;
        let mut capture = Capture::opened(options(&server), "h", &start).await;
        capture.until_place("the end", |place| place.covers(&end) && has_place(place)).await;
        assert!(capture.places[1..].iter().all(|(_, place)| !has_place(place) || place.covers(&end)));
    }
}

/// P19, P22: two servers write one domain with sequences that say nothing of each other; another server answers.
#[tokio::test]
async fn p19_two_writers_of_a_domain_are_told_apart_after_a_fail_over() {
    let [old, new] = two();
    let first = now(&old).await;
    let before = [(1, 1), (1, 2), (2, 20), (1, 3)];
    write_as(&old, &before);
    let all = read(&old, &first, 4).await;
    assert_eq!(binlog(&all.position).gtids.to_string(), "0-2-20,0-1-3");
    assert_eq!(binlog(&now(&old).await).gtids, binlog(&all.position).gtids, "the server says as much");
    write_as(&new, &before);
    write_as(&new, &[(2, 21), (1, 4)]);
    let ids = ["t+1001", "t+1002", "t+2020", "t+1003", "t+2021", "t+1004"].map(|change| vec![change]);
    for (count, place) in all.places.iter().filter(|(count, _)| *count > 0) {
        let rest = read(&new, place, ids.len() - count).await;
        assert_eq!(rest.changes(), ids[*count..], "after {place}");
    }
    let end = now(&new).await;
    assert!(end.covers(&all.position) && !all.position.covers(&end));
    for (held, is_there) in
        [("0-2-21", true), ("0-2-20,0-1-4", true), ("0-2-22", false), ("0-2-22,0-1-3", false)]
    {
        let held: Position = format!("binlog;;;0;mariadb;{held}").parse().unwrap();
        let mut capture = Capture::new(options(&new), "h", &all.position);
        capture.held = vec![held.clone()];
        assert_eq!(capture.open().await.is_ok(), is_there, "{held}");
    }
}

/// P12, P19: the last transaction that was purged is of a server that a position does not know.
#[tokio::test]
async fn p12_p19_a_purge_behind_another_writer_is_told_by_the_server() {
    let [server, _] = two();
    write_as(&server, &[(1, 1), (1, 2), (2, 20)]);
    purge(&server);
    write_as(&server, &[(1, 3)]);
    let at = |gtids: &str| format!("binlog;;;0;mariadb;{gtids}").parse::<Position>().unwrap();
    for behind in ["0-1-1", "0-1-2", "0-2-19", "0-2-19,0-1-2"] {
        let error = open_error(&server, &at(behind)).await;
        assert_eq!(*error.kind(), ErrorKind::Resync, "{behind}: {error}");
    }
    write_as(&server, &[(1, 4)]);
    for there in ["0-1-3", "0-2-20,0-1-3"] {
        assert_eq!(read(&server, &at(there), 1).await.changes(), [["t+1004"]], "{there}");
    }
}
