//! MariaDB begun by GTID: several domains in another order than on the server that was read before (P19).

use freshet_core::Position;
use freshet_core::position::{BinlogPosition, FilePos};
use freshet_core::source::Source as _;
use freshet_testkit::servers::{Flavor, MyOptions, MyServer, wait_until};

use crate::harness::{Capture, DEADLINE, SET_UP, binlog, now, options, rest_follows_every_place, start};

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
    server.sql("flush binary logs");
    wait_until(DEADLINE, "the file to be purged", || {
        let files = server.sql("show binary logs");
        let newest = files.lines().last().and_then(|line| line.split('\t').next()).unwrap().to_owned();
        server.sql(&format!("purge binary logs to '{newest}'"));
        server.sql("show binary logs").lines().count() == 1
    });
    for start in [old.clone(), Position::Binlog(unknown)] {
        let end = now(&server).await;
        let mut capture = Capture::opened(options(&server), "h", &start).await;
        capture.until_place("the end", |place| place.covers(&end) && has_place(place)).await;
        assert!(capture.places[1..].iter().all(|(_, place)| !has_place(place) || place.covers(&end)));
    }
}
