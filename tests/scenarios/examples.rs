//! Every file in `pipelines/` runs as it is written, but for the servers' ports.

use crate::ends::{End, KINDS, Kind};
use crate::kit::{DEADLINE, PASSWORD};
use freshet_testkit::servers::{Freshet, TestDir};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The same file with these ports, the source's first.
fn at_ports(text: &str, ports: [u16; 2]) -> String {
    let mut ports = ports.iter();
    let line = |line: &str| match line.trim_start().strip_prefix("port: ") {
        Some(_) => {
            let indent = line.len() - line.trim_start().len();
            format!("{}port: {}\n", " ".repeat(indent), ports.next().unwrap())
        }
        None => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

/// A place of the name that the examples have.
fn place(end: Kind, is_source: bool) -> End {
    let server = if is_source { end.source() } else { end.target() };
    let name = match (end, is_source) {
        (Kind::Postgres, false) => "warehouse",
        _ => "shop",
    };
    End::make(server, name)
}

fn run(file: &Path, source: &End, target: &End) {
    let example = fs::read_to_string(file).unwrap();
    let dir = TestDir::new("example");
    let copy = dir.join("pipeline.yaml");
    fs::write(&copy, at_ports(&example, [source.server.port(), target.server.port()])).unwrap();
    let freshet = |words: &[&str]| {
        let mut command = Freshet::command();
        command.args(words).arg(&copy).env("SHOP_PASSWORD", PASSWORD).env("WAREHOUSE_PASSWORD", PASSWORD);
        let exit = Freshet::spawn_command(&mut command).wait(DEADLINE);
        let name = file.display();
        assert_eq!(exit.code, Some(0), "{name}, {words:?}: {}\n{}", exit.stdout, exit.stderr);
    };
    freshet(&["check"]);
    freshet(&["run", "--until", "caught-up"]);
    source.sql("insert into orders values (2, 'followed'); delete from orders where id = 1");
    freshet(&["run", "--until", "caught-up"]);
    assert_eq!(target.sql("select id, note from orders").trim().replace('\t', "|"), "2|followed");
    freshet(&["drop", "--yes", "--drop-tables"]);
    source.sql("truncate orders; insert into orders values (1, 'copied')");
}

#[test]
fn every_example_runs() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../pipelines");
    let sources = KINDS.map(|kind| place(kind, true));
    let targets = KINDS.map(|kind| place(kind, false));
    for source in &sources {
        source.sql("create table orders (id int primary key, note varchar(20)); insert into orders values (1, 'copied')");
    }
    let mut run_files = BTreeSet::new();
    for (from, source) in KINDS.iter().zip(&sources) {
        for (to, target) in KINDS.iter().zip(&targets) {
            let file = folder.join(format!("{}-to-{}.yaml", from.word(), to.word()));
            run(&file, source, target);
            run_files.insert(file);
        }
    }
    let all: BTreeSet<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(all, run_files, "every file was run");
}
