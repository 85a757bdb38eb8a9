//! The kit's own tests: each server starts, answers, survives SIGKILL with its data, and leaves nothing behind.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::*;

const DEADLINE: Duration = Duration::from_secs(300);

fn assert_gone(pid: u32, dir: &Path) {
    wait_until(DEADLINE, "the process to be gone", || !proctree::is_alive(pid));
    assert!(!dir.exists(), "{} is left behind", dir.display());
}

fn my_server_lives(flavor: Flavor) {
    let began = Instant::now();
    let server = MyServer::start(flavor, MyOptions::default().with_freshet_user());
    println!("{flavor:?} ready after {:?}", began.elapsed());
    assert_eq!(
        server.sql("select @@port, @@binlog_row_metadata, null"),
        format!("{}\tFULL\tNULL", server.port())
    );
    server.sql(
        "create database shop; create table shop.t (a int primary key); insert into shop.t values (1),(2)",
    );
    assert!(server.try_sql("select * from shop.missing").unwrap_err().to_string().contains("missing"));

    let mut client = server.client();
    client.args(["--host=127.0.0.1", "--protocol=tcp", "--user=freshet", "--password=freshet"]);
    client.arg(format!("--port={}", server.port())).args(["-e", "select count(*) from shop.t"]);
    assert_eq!(run(&mut client).unwrap().trim(), "2");

    let before = server.pid();
    server.kill9();
    assert!(server.try_sql("select 1").is_err());
    server.restart();
    assert_ne!(server.pid(), before);
    assert_eq!(server.sql("select * from shop.t"), "1\n2");
    let usage = server.usage();
    assert!(usage.cpu_s > 0.0 && usage.peak_bytes > 10 << 20, "{usage:?}");

    let (pid, dir) = (server.pid(), server.dir().to_path_buf());
    drop(server);
    assert_gone(pid, &dir);
}

#[test]
fn mariadb_starts_survives_sigkill_and_leaves_nothing() {
    my_server_lives(Flavor::MariaDb);
}

#[test]
fn mysql_starts_survives_sigkill_and_leaves_nothing() {
    my_server_lives(Flavor::MySql);
}

#[test]
fn mysql_copies_have_identities_of_their_own() {
    let servers = [MySql::start(MySqlOptions::default()), MySql::start(MySqlOptions::default())];
    let [one, two] = servers.each_ref().map(|server| server.sql("select @@server_uuid"));
    assert_ne!(one, two);
}

#[test]
fn postgres_starts_survives_sigkill_and_leaves_nothing() {
    let began = Instant::now();
    let server = Postgres::start(PostgresOptions::default().with_freshet_user().database("shop"));
    println!("PostgreSQL ready after {:?}", began.elapsed());
    assert_eq!(server.sql("show wal_level; select null, 'a'"), "logical\nNULL\ta");
    server.sql_in("shop", "create table t (a int); insert into t values (1), (2)");
    assert!(server.try_sql("select * from missing").unwrap_err().to_string().contains("missing"));
    server.kill9();
    server.restart();
    assert_eq!(server.sql_in("shop", "select * from t order by a"), "1\n2");
    let (pid, dir) = (server.pid(), server.dir().to_path_buf());
    drop(server);
    assert_gone(pid, &dir);
}

fn my_tls_verifies(flavor: Flavor) {
    let server = MyServer::start(flavor, MyOptions::default().tls().with_freshet_user());
    let ca = server.tls().unwrap().ca.display().to_string();
    let mut client = server.client();
    client.args(["--host=127.0.0.1", "--protocol=tcp", "--user=freshet", "--password=freshet"]);
    client.arg(format!("--port={}", server.port())).arg(format!("--ssl-ca={ca}"));
    client.arg(match flavor {
        Flavor::MariaDb => "--ssl-verify-server-cert",
        Flavor::MySql => "--ssl-mode=VERIFY_IDENTITY",
    });
    let answer = run(client.args(["-e", "show status like 'Ssl_cipher'"])).unwrap();
    assert!(answer.contains("TLS"), "{answer}");
}

#[test]
fn mariadb_tls_verifies() {
    my_tls_verifies(Flavor::MariaDb);
}

#[test]
fn mysql_tls_verifies() {
    my_tls_verifies(Flavor::MySql);
}

#[test]
fn postgres_tls_and_passwords_are_checked() {
    let server = Postgres::start(PostgresOptions::default().tls().with_passwords().with_freshet_user());
    let connect = |password: &str, ca: &Path| {
        let target = format!(
            "host=localhost hostaddr=127.0.0.1 port={} dbname=postgres user=freshet password={password} \
             sslmode=verify-full sslrootcert={}",
            server.port(),
            ca.display()
        );
        run(Command::new("psql").args([
            "-X",
            "-A",
            "-t",
            &target,
            "-c",
            "select ssl from pg_stat_ssl where pid = pg_backend_pid()",
        ]))
    };
    let ca = server.tls().unwrap().ca.clone();
    assert_eq!(connect("freshet", &ca).unwrap().trim(), "t");
    assert!(connect("wrong", &ca).unwrap_err().to_string().contains("password"));
    let other = TestDir::new("tls");
    let stranger = Tls::generate(other.path(), "DNS:localhost");
    assert!(connect("freshet", &stranger.ca).unwrap_err().to_string().contains("certificate"));
}

#[test]
fn a_full_tablespace_fails_the_statement_and_can_be_released() {
    if !is_root() {
        eprintln!("Needs root to mount a small disk");
        return;
    }
    let options = PostgresOptions::default().tablespace_bytes_max(32 << 20).database("shop");
    let server = Postgres::start(options);
    server.sql_in("shop", "create table t (a int, b text)");
    let disk = server.disk().unwrap();
    assert!(disk.fill() > 1 << 20);
    let insert = "insert into t select i, repeat('x', 1000) from generate_series(1, 1000) i";
    assert!(server.try_sql_in("shop", insert).unwrap_err().to_string().contains("No space left"));
    disk.release();
    server.sql_in("shop", insert);
    let path = disk.path().to_path_buf();
    drop(server);
    assert!(!path.exists());
}

#[test]
fn a_small_data_directory_works_for_each_server() {
    if !is_root() {
        eprintln!("Needs root to mount a small disk");
        return;
    }
    let maria = MariaDb::start(MariaDbOptions::default().data_bytes_max(256 << 20));
    assert_eq!(maria.sql("select 1"), "1");
    let postgres = Postgres::start(PostgresOptions::default().data_bytes_max(128 << 20));
    assert_eq!(postgres.sql("select 1"), "1");
}

#[test]
fn a_paused_server_answers_after_it_is_resumed() {
    let server = Postgres::start(PostgresOptions::default());
    server.pause();
    assert!(proctree::tree(server.pid()).iter().all(|&pid| proctree::is_still(pid)));
    let job = server.spawn_sql("postgres", "select 7");
    assert!(job.process().wait(Duration::from_millis(300)).is_none());
    server.resume();
    assert_eq!(job.wait().unwrap(), "7");
}

#[test]
fn a_stopped_server_says_so_and_a_bad_argument_shows_the_log() {
    let server = MariaDb::start(MariaDbOptions::default());
    server.stop();
    assert!(server.log_text().contains("Shutdown complete"));
    let refused = MyServer::try_start(Flavor::MariaDb, MyOptions::default().arg("--no-such-option"));
    assert!(refused.unwrap_err().to_string().contains("no-such-option"));
}

#[test]
fn a_run_reports_its_exit_code_and_both_streams() {
    let run = Freshet::spawn_command(Command::new("sh").args(["-c", "echo out; echo err >&2; exit 3"]));
    let exit = run.wait(DEADLINE);
    assert_eq!((exit.code, exit.stdout.as_str(), exit.stderr.as_str()), (Some(3), "out\n", "err\n"));
    assert!(!run.is_running());
}

#[test]
fn a_killed_run_takes_its_children_along() {
    let script = "cat /dev/zero >/dev/null & echo $!; wait";
    let run = Freshet::spawn_command(Command::new("sh").args(["-c", script]));
    wait_until(DEADLINE, "the child's pid", || run.stdout().ends_with('\n'));
    let child = run.stdout().trim().parse().unwrap();
    assert!(proctree::is_alive(child));
    run.kill9();
    assert!(!proctree::is_alive(child));
    assert_eq!(run.wait(DEADLINE).code, None);
}

#[test]
fn two_servers_never_share_a_port() {
    let ports: Vec<_> = (0..50).map(|_| port::Port::reserve().unwrap()).collect();
    let numbers: std::collections::HashSet<_> = ports.iter().map(port::Port::number).collect();
    assert_eq!(numbers.len(), ports.len());
}

/// The test process starts itself again, that child starts a server and is killed: server and directory must go.
#[test]
fn a_crashed_test_leaves_nothing() {
    const ROLE: &str = "FRESHET_KIT_CRASH_REPORT";
    if let Some(report) = std::env::var_os(ROLE) {
        let server = Postgres::start(PostgresOptions::default());
        let text = format!("{}\n{}", server.pid(), server.dir().display());
        std::fs::write(PathBuf::from(&report).with_extension("new"), text).unwrap();
        std::fs::rename(PathBuf::from(&report).with_extension("new"), &report).unwrap();
        wait_until(Duration::from_secs(600), "the kill", || false);
    }
    let dir = TestDir::new("crash");
    let report = dir.join("report");
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["a_crashed_test_leaves_nothing"]).env(ROLE, &report);
    let log = dir.join("log");
    let child = Process::spawn(&dir, &mut child, std::process::Stdio::null(), &log, &log).unwrap();
    wait_until(DEADLINE, "the child's server", || report.exists());
    let text = std::fs::read_to_string(&report).unwrap();
    let (pid, path) = text.split_once('\n').unwrap();
    // Only the child itself is killed, as a crash would; its server is not.
    proctree::signal(child.pid(), rustix::process::Signal::KILL);
    let pid = pid.parse().unwrap();
    wait_until(DEADLINE, "server and directory to go", || {
        !proctree::is_alive(pid) && !Path::new(path).exists()
    });
}

#[test]
#[should_panic(expected = "in vain for the impossible")]
fn waiting_in_vain_names_what_was_awaited() {
    wait_until(Duration::from_millis(5), "the impossible", || false);
}

#[tokio::test]
async fn waiting_works_in_async_code() {
    let mut calls = 0;
    wait_until_async(DEADLINE, "the third call", async || {
        calls += 1;
        calls == 3
    })
    .await;
}
