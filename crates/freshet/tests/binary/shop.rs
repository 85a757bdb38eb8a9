//! The whole binary between a real MariaDB and a real PostgreSQL: what each command tells of a pipeline's life.
//!
//! Not the proof that rows arrive right (that is the scenarios' part): a few rows, and every command once.

use crate::support::{Dir, Ran, freshet};
use freshet_testkit::servers::{Freshet, MariaDb, MariaDbOptions, Postgres, PostgresOptions, wait_until};
use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(300);

/// The two servers, and a pipeline between them.
struct Shop {
    source: MariaDb,
    target: Postgres,
    dir: Dir,
}

impl Shop {
    fn new() -> Self {
        let source = MariaDb::start(MariaDbOptions::default().with_freshet_user());
        let target = Postgres::start(PostgresOptions::default().with_freshet_user().database("warehouse"));
        source.sql(
            "create database shop; create table shop.orders (id int primary key, note varchar(20), paid decimal(9,2)); \
             insert into shop.orders values (1, 'one', 1.50), (2, null, 2), (3, 'drei', null)",
        );
        let shop = Self { source, target, dir: Dir::new() };
        shop.dir.file("pw", "freshet\n");
        shop.configure("");
        shop
    }

    /// Writes the pipeline's file, `more` being lines at its end.
    fn configure(&self, more: &str) {
        let (source, target) = (self.source.port(), self.target.port());
        let yaml = format!(
            "name: shop\nmode: load-and-stream\n\
             source: {{ type: mariadb, host: 127.0.0.1, port: {source}, user: freshet, password: \"${{PW}}\" }}\n\
             tables: {{ include: [\"shop.*\"] }}\nlog: {{ dir: data, bytes_max: 64MiB }}\n\
             sinks:\n  - {{ name: w, type: postgres, host: 127.0.0.1, port: {target}, database: warehouse, \
             user: freshet, password_file: pw, schemas: {{ shop: public }} }}\n{more}"
        );
        self.dir.file("shop.yaml", &yaml);
    }

    fn file(&self) -> PathBuf {
        self.dir.0.join("shop.yaml")
    }

    fn ran(&self, args: &[&str]) -> Ran {
        freshet(args).arg(&self.file()).env("PW", "freshet").run()
    }

    fn spawn(&self) -> Freshet {
        let mut command = Command::new(env!("CARGO_BIN_EXE_freshet"));
        Freshet::spawn_command(command.arg("run").arg(self.file()).env("PW", "freshet"))
    }

    fn rows(&self) -> String {
        self.target.sql_in("warehouse", "select id, note, paid from orders order by id").trim().to_owned()
    }

    fn status(&self) -> Option<Value> {
        let ran = self.ran(&["status", "--json"]);
        serde_json::from_str(&ran.stdout).ok()
    }
}

#[track_caller]
fn ok(ran: Ran) -> String {
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    ran.stdout
}

#[test]
fn a_pipeline_from_check_to_reset() {
    let shop = Shop::new();
    ok(shop.ran(&["check"]));
    ok(shop.ran(&["run", "--until", "caught-up"]));
    assert_eq!(shop.rows(), "1\tone\t1.50\n2\tNULL\t2.00\n3\tdrei\tNULL");
    let status = shop.status().expect("a status");
    assert_eq!((&status["running"], &status["state"]), (&false.into(), &"stopped".into()));
    streams(&shop);
    tells_of_its_log(&shop);
    refuses_another_configuration(&shop);
    begins_again(&shop);
}

fn streams(shop: &Shop) {
    let running = shop.spawn();
    shop.source.sql("insert into shop.orders values (4, 'four', 4); update shop.orders set paid = 9 where id = 2; delete from shop.orders where id = 1");
    wait_until(DEADLINE, "the changes", || shop.rows() == "2\tNULL\t9.00\n3\tdrei\tNULL\n4\tfour\t4.00");
    wait_until(DEADLINE, "the status to tell them", || {
        shop.status().is_some_and(|s| {
            s["sinks"][0]["changes"] == serde_json::json!({"inserts": 1, "updates": 1, "deletes": 1})
        })
    });
    let status = shop.status().expect("a status");
    assert_eq!((&status["running"], &status["phase"]), (&true.into(), &"streaming".into()));
    assert_eq!(status["sinks"][0]["tables"][0]["table"], "orders");
    let text = ok(shop.ran(&["status"]));
    assert!(text.contains("shop: streaming, process") && text.contains("shop.orders"), "{text}");
    // The log can be looked into while it is written.
    assert!(
        ok(shop.ran(&["log", "cat"])).contains("\"drei\"")
            || ok(shop.ran(&["log", "cat"])).contains("\"four\"")
    );
    running.terminate();
    let exit = running.wait(DEADLINE);
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
}

fn tells_of_its_log(shop: &Shop) {
    let lines: Vec<Value> = ok(shop.ran(&["log", "cat", "--table", "shop.ord*"]))
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let operations: Vec<&str> = lines.iter().filter_map(|line| line["operation"].as_str()).collect();
    assert_eq!(operations, ["insert", "update", "delete"]);
    assert_eq!(lines[0]["after"], serde_json::json!({"id": 4, "note": "four", "paid": "4.00"}));
    assert_eq!(lines[1]["before"], serde_json::json!({"id": 2, "note": null, "paid": "2.00"}));
    assert_eq!(ok(shop.ran(&["log", "cat", "--limit", "1"])).lines().count(), 1);
    assert!(ok(shop.ran(&["log", "ls"])).contains("segment"));
    ok(shop.ran(&["log", "verify"]));
}

fn refuses_another_configuration(shop: &Shop) {
    let file = shop.file();
    let text = std::fs::read_to_string(&file).expect("there");
    std::fs::write(&file, text.replace("\"shop.*\"", "\"shop.o*\"")).expect("written");
    let ran = shop.ran(&["run", "--until", "caught-up"]);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert!(ran.stderr.contains("include=shop.o*"), "{}", ran.stderr);
    std::fs::write(&file, text).expect("written");
}

fn begins_again(shop: &Shop) {
    ok(shop.ran(&["reset", "--yes"]));
    assert!(!shop.dir.0.join("data").exists());
    assert_eq!(shop.rows().lines().count(), 3, "reset leaves target tables alone");
    let ran = shop.ran(&["run", "--until", "caught-up"]);
    assert_eq!(ran.code, 2, "the table that is there is not empty: {}", ran.stderr);
    shop.target.sql_in("warehouse", "drop table orders");
    ok(shop.ran(&["run", "--until", "caught-up"]));
    assert_eq!(shop.rows().lines().count(), 3);
    ok(shop.ran(&["reset", "--yes", "--drop-tables"]));
    let left = "select count(*) from pg_tables where schemaname = 'public'";
    assert_eq!(shop.target.sql_in("warehouse", left).trim(), "0");
    ok(shop.ran(&["run", "--until", "caught-up"]));
    assert_eq!(shop.rows().lines().count(), 3);
}
