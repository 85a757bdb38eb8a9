//! Events made by hand: every code there is, what must always stop us, and where the position stands afterwards.

#![allow(clippy::unwrap_used)] // Also in the helpers of tests

use std::sync::Arc;

use freshet_core::codec::{BatchBuilder, EventRef};
use freshet_core::error::{Error, ErrorKind};
use freshet_core::position::{BinlogPosition, FilePos, GtidSet};
use freshet_core::schema::TableName;
use freshet_core::source::Selects;
use freshet_mysql::decode::{DecodeError, DecodeOptions, Decoder, Flavour, Step};

struct Shop;

impl Selects for Shop {
    fn selects(&self, table: &TableName) -> bool {
        table.schema == "shop"
    }

    fn selects_schema(&self, schema: &str) -> bool {
        schema == "shop"
    }
}

/// An event without checksum.
fn event(code: u8, next_pos: u32, flags: u16, body: &[u8]) -> Vec<u8> {
    let mut out = 1_700_000_000u32.to_le_bytes().to_vec();
    out.push(code);
    out.extend_from_slice(&7u32.to_le_bytes());
    out.extend_from_slice(&(19 + body.len() as u32).to_le_bytes());
    out.extend_from_slice(&next_pos.to_le_bytes());
    out.extend_from_slice(&flags.to_le_bytes());
    out.extend_from_slice(body);
    out
}

/// A FORMAT_DESCRIPTION; checksums on or off.
fn format(flavour: Flavour, created_s: u32, checksum: u8) -> Vec<u8> {
    let mut body = 4u16.to_le_bytes().to_vec();
    let mut name = match flavour {
        Flavour::Mysql => b"9.7.4".to_vec(),
        Flavour::Mariadb => b"10.11.19-MariaDB-log".to_vec(),
    };
    name.resize(50, 0);
    body.extend_from_slice(&name);
    body.extend_from_slice(&created_s.to_le_bytes());
    body.push(19);
    let mut lengths = [0u8; 42];
    for (code, length) in [(2, 13), (4, 8), (19, 8), (23, 8), (24, 8), (25, 8), (30, 10), (31, 10), (32, 10)]
    {
        lengths[code - 1] = length;
    }
    body.extend_from_slice(&lengths);
    body.push(checksum);
    body.extend_from_slice(&[0; 4]);
    let mut event = event(15, 0, 0, &body);
    sign(&mut event);
    event
}

/// Sets the last four bytes to the checksum.
fn sign(event: &mut [u8]) {
    let (covered, stored) = event.split_last_chunk_mut::<4>().unwrap();
    *stored = crc32fast::hash(covered).to_le_bytes();
}

fn rotate(file: &str, pos: u64, next_pos: u32) -> Vec<u8> {
    let mut body = pos.to_le_bytes().to_vec();
    body.extend_from_slice(file.as_bytes());
    event(4, next_pos, if next_pos == 0 { 0x20 } else { 0 }, &body)
}

fn query(next_pos: u32, database: &str, sql: &str) -> Vec<u8> {
    let mut body = vec![0; 8];
    body.push(database.len() as u8);
    body.extend_from_slice(&[0; 4]);
    body.extend_from_slice(database.as_bytes());
    body.push(0);
    body.extend_from_slice(sql.as_bytes());
    event(2, next_pos, 0, &body)
}

fn mariadb_gtid(next_pos: u32, sequence: u64, flags: u8) -> Vec<u8> {
    let mut body = sequence.to_le_bytes().to_vec();
    body.extend_from_slice(&0u32.to_le_bytes());
    body.push(flags);
    body.extend_from_slice(&[0; 6]);
    event(162, next_pos, 0, &body)
}

fn table_map(next_pos: u32, database: &str) -> Vec<u8> {
    let mut body = vec![9, 0, 0, 0, 0, 0, 1, 0, database.len() as u8];
    body.extend_from_slice(database.as_bytes());
    // Table `t` of one INT column `a`, signed, named.
    body.extend_from_slice(&[0, 1, b't', 0, 1, 3, 0, 0, 1, 1, 0, 4, 2, 1, b'a']);
    event(19, next_pos, 0, &body)
}

fn write_rows(next_pos: u32, value: u32) -> Vec<u8> {
    let mut body = vec![9, 0, 0, 0, 0, 0, 1, 0, 1, 1, 0];
    body.extend_from_slice(&value.to_le_bytes());
    event(23, next_pos, 0, &body)
}

fn xid(next_pos: u32) -> Vec<u8> {
    event(16, next_pos, 0, &[0; 8])
}

struct Session {
    decoder: Decoder,
    batch: BatchBuilder,
}

impl Session {
    /// A MySQL without GTIDs.
    fn new(flavour: Flavour) -> Self {
        let gtids = match flavour {
            Flavour::Mysql => GtidSet::Places,
            Flavour::Mariadb => flavour.empty_gtids(),
        };
        Self::after(flavour, gtids)
    }

    fn after(flavour: Flavour, gtids: GtidSet) -> Self {
        let mut decoder = Decoder::new(flavour, Arc::new(Shop), DecodeOptions::default());
        let file = FilePos { file: "b.000001".into(), pos: 4 };
        decoder.start(BinlogPosition { server: "s".into(), file, gtids });
        let mut session = Self { decoder, batch: BatchBuilder::new() };
        session.feed(&rotate("b.000001", 4, 0)).unwrap();
        session.feed(&format(flavour, 0, 0)).unwrap();
        session
    }

    fn feed(&mut self, event: &[u8]) -> Result<Step, DecodeError> {
        self.decoder.feed(event, &mut self.batch)
    }

    fn position(&self) -> String {
        self.decoder.position().to_string()
    }

    fn outline(&mut self) -> String {
        let batch = self.batch.seal();
        let words = batch.events().map(|event| match event.unwrap() {
            EventRef::Begin { txn, .. } => format!("begin {txn}"),
            EventRef::Schema { .. } => "schema".to_owned(),
            EventRef::Insert { .. } => "insert".to_owned(),
            EventRef::Update { .. } => "update".to_owned(),
            EventRef::Delete { .. } => "delete".to_owned(),
            EventRef::Truncate(_) => "truncate".to_owned(),
            EventRef::Commit(commit) => format!("commit {:?}", commit.place),
            EventRef::Statement(statement) => format!("ddl {}", statement.table),
        });
        words.collect::<Vec<_>>().join("; ")
    }
}

/// P17: every one of the 256 codes is decoded, skipped on purpose, or stops by name; unknown ones stop unless the
/// server marked them as ignorable.
#[test]
fn p17_every_code_is_decided() {
    const SKIPPED: [&[u8]; 2] =
        [&[3, 5, 9, 11, 13, 14, 17, 28, 29, 35, 36, 37], &[3, 5, 9, 11, 13, 14, 17, 28, 29, 160, 161, 163]];
    const READ: [&[u8]; 2] = [
        &[2, 4, 15, 16, 18, 19, 23, 24, 25, 26, 27, 30, 31, 32, 33, 34, 40, 41, 42],
        &[2, 4, 15, 16, 18, 19, 23, 24, 25, 26, 27, 30, 31, 32, 162],
    ];
    const NAMED: [&[u8]; 2] = [
        &[1, 6, 7, 8, 10, 12, 20, 21, 22, 38, 39],
        &[1, 6, 7, 8, 10, 12, 20, 21, 22, 38, 164, 165, 166, 167, 168, 169, 170, 171, 172],
    ];
    for (at, flavour) in [Flavour::Mysql, Flavour::Mariadb].into_iter().enumerate() {
        for code in 0..=255u8 {
            let feed = |flags| Session::new(flavour).feed(&event(code, 100, flags, &[0; 40]));
            let outcome = feed(0);
            if SKIPPED[at].contains(&code) {
                assert_eq!(outcome, Ok(Step::Nothing), "{flavour} {code}");
            } else if READ[at].contains(&code) {
                // A body of zeros is damaged, harmless or fatal, but never called unknown.
                if let Err(error) = outcome {
                    assert!(!error.to_string().contains("unknown"), "{flavour} {code}: {error}");
                }
            } else {
                let error = Error::from(outcome.unwrap_err());
                assert_eq!(*error.kind(), ErrorKind::Unsupported, "{flavour} {code}");
                assert!(error.hint().is_some_and(|hint| !hint.is_empty()), "{flavour} {code}");
                let is_unknown = error.message().contains(&format!("unknown type {code}"));
                assert_eq!(is_unknown, !NAMED[at].contains(&code), "{flavour} {code}: {error}");
                assert_eq!(feed(0x80).is_ok(), is_unknown, "{flavour} {code} marked as ignorable");
            }
        }
    }
}

/// P17: INCIDENT stops, whatever its flags and whether or not anything of it is captured.
#[test]
fn p17_incident_stops() {
    for flags in [0, 0x80] {
        let error = Session::new(Flavour::Mysql).feed(&event(26, 100, flags, &[1, 0, 0])).unwrap_err();
        assert_eq!(*Error::from(error.clone()).kind(), ErrorKind::Resync);
        assert!(error.to_string().contains("LOST_EVENTS"), "{error}");
    }
}

/// P13, P15: the position rests on commits; artificial events and skipped transactions' rows do not move it.
#[test]
fn p13_p15_position() {
    let mut s = Session::new(Flavour::Mariadb);
    assert_eq!(s.feed(&mariadb_gtid(200, 5, 0)), Ok(Step::InTransaction));
    s.feed(&table_map(240, "shop")).unwrap();
    s.feed(&write_rows(280, 1)).unwrap();
    assert_eq!(s.position(), "binlog;s;b.000001;4;mariadb;");
    assert_eq!(s.feed(&xid(300)), Ok(Step::Commit { wrote: true }));
    assert_eq!(s.position(), "binlog;s;b.000001;300;mariadb;0-7-5");
    assert!(s.outline().starts_with("begin 0-7-5; schema; insert; commit"));
    s.feed(&rotate("b.000001", 300, 0)).unwrap();
    s.feed(&format(Flavour::Mariadb, 0, 0)).unwrap();
    s.feed(&event(163, 0, 0x20, &[0; 8])).unwrap();
    assert!(matches!(s.feed(&event(27, 999, 0, b"b.000001")), Ok(Step::Heartbeat { .. })));
    assert_eq!(s.position(), "binlog;s;b.000001;300;mariadb;0-7-5");
    s.feed(&mariadb_gtid(400, 6, 0)).unwrap();
    s.feed(&table_map(440, "other")).unwrap();
    s.feed(&write_rows(480, 1)).unwrap();
    assert_eq!(s.feed(&xid(500)), Ok(Step::Commit { wrote: false }));
    assert_eq!(s.position(), "binlog;s;b.000001;500;mariadb;0-7-6");
    assert_eq!(s.feed(&rotate("b.000002", 4, 520)), Ok(Step::Rotated));
    assert_eq!(s.position(), "binlog;s;b.000002;4;mariadb;0-7-6");
    assert_eq!(s.outline(), "");
    assert!(matches!(s.feed(&rotate("b.000001", 4, 0)), Err(DecodeError::Broken { .. })), "P16");
}

/// P13: a transaction without a GTID is never added to a set, whichever event begins it, and moves a place.
#[test]
fn p13_a_transaction_without_a_gtid_stops_a_session_of_a_set() {
    let anonymous = event(34, 200, 0, &[0; 42]);
    for begin in [&anonymous, &query(200, "", "BEGIN"), &query(200, "shop", "CREATE TABLE t (a INT)")] {
        let mut s = Session::after(Flavour::Mysql, Flavour::Mysql.empty_gtids());
        let before = s.position();
        let error = s.feed(begin).unwrap_err();
        assert!(matches!(&error, DecodeError::WithoutGtid { place } if place == "b.000001:200"), "{error}");
        let error = Error::from(error);
        assert!(error.kind() == &ErrorKind::Resync && error.hint().is_some(), "{error}");
        assert!(error.message().contains("GTIDs were switched off"), "{error}");
        assert_eq!((s.outline(), s.position()), (String::new(), before));
    }
    let mut s = Session::new(Flavour::Mysql);
    s.feed(&anonymous).unwrap();
    s.feed(&query(300, "shop", "CREATE TABLE t (a INT)")).unwrap();
    assert_eq!(s.position(), "binlog;s;b.000001;300;places;");
    // With a GTID: by place all the same.
    s.feed(&event(33, 400, 0, &[&[0; 17][..], &7u64.to_le_bytes()].concat())).unwrap();
    s.feed(&query(500, "shop", "CREATE TABLE u (a INT)")).unwrap();
    assert_eq!(s.position(), "binlog;s;b.000001;500;places;");
}

/// P16: a stream that goes back within its file, by whatever ROTATE, is out of order and stops.
#[test]
fn p16_a_rotate_back_in_the_same_file_stops() {
    for next_pos in [0, 320] {
        let mut s = Session::new(Flavour::Mysql);
        s.feed(&query(300, "shop", "CREATE TABLE t (a INT)")).unwrap();
        s.feed(&rotate("b.000001", 300, 0)).unwrap();
        let error = s.feed(&rotate("b.000001", 299, next_pos)).unwrap_err();
        assert!(matches!(&error, DecodeError::Broken { what, .. } if what.contains("299")), "{error}");
    }
}

/// R11: rows changed by a statement may have changed a captured table that it does not name. Only what the server
/// does to databases of its own passes.
#[test]
fn r11_dml_as_a_statement_stops_wherever_it_comes_from() {
    for (database, sql, is_refused) in [
        ("shop", "UPDATE t SET a = 1", true),
        ("other", "INSERT INTO log VALUES (1)", true),
        ("other", "UPDATE a JOIN b ON a.id = b.id SET a.x = 1", true),
        ("", "DELETE FROM other.t", true),
        ("mysql", "UPDATE user SET a = 1", false),
        ("sys", "REPLACE INTO `sys_config` VALUES (1)", false),
        ("mysql", "INSERT INTO shop.t VALUES (1)", true),
        ("mysql", "INSERT INTO x SELECT a FROM `shop` . `t`", true),
    ] {
        let mut s = Session::new(Flavour::Mysql);
        s.feed(&query(200, "", "BEGIN")).unwrap();
        match s.feed(&query(300, database, sql)) {
            Ok(step) => assert!(!is_refused && step == Step::InTransaction, "{database}: {sql}"),
            Err(error) => {
                let error = Error::from(error);
                assert!(is_refused && error.message().contains("logged as a statement"), "{sql}: {error}");
                assert!(error.message().contains(&format!("database {database}")) || database.is_empty());
                assert!(error.hint().is_some_and(|hint| hint.contains("binlog_format=ROW")), "{sql}");
            }
        }
    }
}

/// ALGORITHMS 1.10: a server that started anew in the middle of a transaction takes back what of it was written.
#[test]
fn a_restart_in_mid_transaction_discards_it() {
    let mut s = Session::new(Flavour::Mariadb);
    let open = |s: &mut Session, sequence: u64| {
        let at = sequence as u32 * 1000;
        s.feed(&mariadb_gtid(at + 200, sequence, 0)).unwrap();
        s.feed(&table_map(at + 240, "shop")).unwrap();
        s.feed(&write_rows(at + 280, 1)).unwrap();
    };
    open(&mut s, 5);
    s.feed(&rotate("b.000002", 4, 0)).unwrap();
    assert_eq!(s.feed(&format(Flavour::Mariadb, 1_700_000_000, 0)), Ok(Step::Discarded));
    assert!(!s.decoder.in_transaction() && s.batch.is_empty());
    assert_eq!(s.position(), "binlog;s;b.000001;4;mariadb;");
    open(&mut s, 6);
    s.feed(&xid(6300)).unwrap();
    assert!(s.outline().starts_with("begin 0-7-6; schema; insert; commit"), "the schema is announced again");
    open(&mut s, 7);
    assert!(matches!(s.feed(&format(Flavour::Mariadb, 0, 0)), Err(DecodeError::Broken { .. })));
}

/// T1: rows that a ROLLBACK follows were changed all the same, in tables without transactions: refused.
#[test]
fn t1_rollback_after_captured_rows_stops() {
    for (database, end, is_refused) in
        [("shop", "ROLLBACK", true), ("shop", "ROLLBACK TO `s`", true), ("other", "ROLLBACK", false)]
    {
        let mut s = Session::new(Flavour::Mariadb);
        s.feed(&mariadb_gtid(200, 5, 0)).unwrap();
        s.feed(&table_map(240, database)).unwrap();
        s.feed(&write_rows(280, 1)).unwrap();
        assert_eq!(s.feed(&query(300, "", end)).is_err(), is_refused, "{database} {end}");
    }
}

/// R11 and the unknown: a statement that cannot be read is reported as concerning any table.
#[test]
fn unknown_statements_are_reported() {
    let mut s = Session::new(Flavour::Mariadb);
    s.feed(&mariadb_gtid(200, 5, 1)).unwrap();
    assert_eq!(s.feed(&query(300, "other", "IMPORT TABLE FROM 'x.sdi'")), Ok(Step::Commit { wrote: true }));
    assert!(s.outline().contains("ddl ."));
    s.feed(&mariadb_gtid(400, 6, 1)).unwrap();
    assert!(s.feed(&query(500, "other", "# Dummy event replacing event type 165")).is_err());
}

/// A wrong checksum, length or order is damage, never a row.
#[test]
fn damage_is_an_error() {
    let mut s = Session::new(Flavour::Mysql);
    s.feed(&format(Flavour::Mysql, 0, 1)).unwrap();
    let mut signed = query(300, "shop", "BEGINxxxx");
    let length = signed.len() - 4;
    let (covered, stored) = signed.split_at_mut(length);
    stored.copy_from_slice(&crc32fast::hash(covered).to_le_bytes());
    assert_eq!(s.feed(&signed), Ok(Step::InTransaction));
    signed[20] ^= 1;
    assert!(matches!(s.feed(&signed), Err(DecodeError::Damaged { .. })));
    assert!(s.feed(&[]).is_err() && s.feed(&[0; 19]).is_err());
    let mut s = Session::new(Flavour::Mysql);
    assert!(matches!(s.feed(&xid(300)), Err(DecodeError::Broken { .. })));
    assert!(matches!(s.feed(&write_rows(300, 1)), Err(DecodeError::Damaged { .. })));
    let mut s = Session::new(Flavour::Mariadb);
    assert!(s.feed(&format(Flavour::Mysql, 0, 0)).is_err(), "another kind of server");
}

/// The committed sessions of the fuzz corpus decode to their end.
#[test]
fn corpus_sessions_decode() {
    for (name, flavour) in [("mysql-session", Flavour::Mysql), ("mariadb-session", Flavour::Mariadb)] {
        let path = format!("{}/../../fuzz/corpus/events/{name}", env!("CARGO_MANIFEST_DIR"));
        let bytes = std::fs::read(path).unwrap();
        struct All;
        impl Selects for All {
            fn selects(&self, _: &TableName) -> bool {
                true
            }

            fn selects_schema(&self, _: &str) -> bool {
                true
            }
        }
        let mut decoder = Decoder::new(flavour, Arc::new(All), DecodeOptions::default());
        decoder.start(BinlogPosition {
            server: "s".into(),
            file: FilePos::default(),
            gtids: flavour.empty_gtids(),
        });
        let (mut batch, mut rest, mut commits) = (BatchBuilder::new(), &bytes[1..], 0);
        while !rest.is_empty() {
            let length = u32::from_le_bytes(rest[9..13].try_into().unwrap()) as usize;
            let (event, tail) = rest.split_at(length);
            commits +=
                usize::from(matches!(decoder.feed(event, &mut batch).unwrap(), Step::Commit { wrote: true }));
            rest = tail;
        }
        assert!(commits >= 8, "{name}: {commits}");
    }
}
