//! Throwaway PostgreSQL servers from the newest version that is installed (15 or later).
//!
//! PostgreSQL refuses to run as root: started by root, it runs as user `postgres`, who owns its directories.
//! The superuser is `postgres`; the socket and, unless told otherwise, TCP from 127.0.0.1 need no password.
//! `wal_level=logical`, small buffers, durability as by default. Later arguments win.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::port::Port;
use super::postgres_root;
use super::{
    During as _, Process, Result, ServerError, SmallDisk, SqlJob, TestDir, Tls, Usage, cache, copy_tree,
    is_root, poll_until, run, tls,
};

const READY_DEADLINE: Duration = Duration::from_secs(300);
const STOP_DEADLINE: Duration = Duration::from_secs(300);
const VERSIONS: &[u32] = &[18, 17, 16, 15];

/// How to start a server; the default is small and without TLS.
#[derive(Clone, Debug, Default)]
pub struct PostgresOptions {
    args: Vec<String>,
    version: Option<u32>,
    tls_names: Option<String>,
    data_bytes_max: Option<u64>,
    tablespace_bytes_max: Option<u64>,
    freshet_user: bool,
    passwords: bool,
    databases: Vec<String>,
}

impl PostgresOptions {
    /// One more setting (`-c name=value`); it overrides the kit's own.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.args.extend(["-c".to_owned(), format!("{name}={value}")]);
        self
    }

    /// Another major version than the system's: 17 or 18.
    #[must_use]
    pub fn version(mut self, major: u32) -> Self {
        self.version = Some(major);
        self
    }

    /// TLS by a certificate for localhost and 127.0.0.1; see [`Postgres::tls`].
    #[must_use]
    pub fn tls(self) -> Self {
        self.tls_for(tls::LOCAL_NAMES)
    }

    /// TLS by a certificate for other names (`DNS:elsewhere.example`).
    #[must_use]
    pub fn tls_for(mut self, names: &str) -> Self {
        self.tls_names = Some(names.to_owned());
        self
    }

    /// The data directory, its WAL included, on a disk of this size; see [`Postgres::disk`]. Root only. An empty one
    /// takes about 40 MB, and a server whose WAL cannot be written dies.
    #[must_use]
    pub fn data_bytes_max(mut self, bytes: u64) -> Self {
        self.data_bytes_max = Some(bytes);
        self
    }

    /// A tablespace `small` on a disk of this size; see [`Postgres::disk`]. Root only. Its being full is an error of
    /// the statement, and the server lives. Databases of [`PostgresOptions::database`] are put there.
    #[must_use]
    pub fn tablespace_bytes_max(mut self, bytes: u64) -> Self {
        self.tablespace_bytes_max = Some(bytes);
        self
    }

    /// Creates the user `freshet`, password `freshet`, with what a target needs; it owns the databases.
    #[must_use]
    pub fn with_freshet_user(mut self) -> Self {
        self.freshet_user = true;
        self
    }

    /// TCP needs a password (SCRAM), so that a wrong one is refused.
    #[must_use]
    pub fn with_passwords(mut self) -> Self {
        self.passwords = true;
        self
    }

    /// Creates this database.
    #[must_use]
    pub fn database(mut self, name: &str) -> Self {
        self.databases.push(name.to_owned());
        self
    }
}

/// A throwaway PostgreSQL. The fields drop in order: process, disk, directory, port.
#[derive(Debug)]
pub struct Postgres {
    process: Mutex<Option<Arc<Process>>>,
    disk: Option<SmallDisk>,
    dir: Arc<TestDir>,
    bin: PathBuf,
    data: PathBuf,
    tls: Option<Tls>,
    args: Vec<String>,
    port: Port,
}

impl Postgres {
    /// Starts one and waits until it answers.
    ///
    /// # Panics
    /// When it does not start; with its log.
    #[must_use]
    pub fn start(options: PostgresOptions) -> Self {
        Self::try_start(&options).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Like [`Postgres::start`], for tools that report instead of panicking.
    pub fn try_start(options: &PostgresOptions) -> Result<Self> {
        let bin = options.version.map_or_else(postgres_bin_dir, postgres_root::bin_dir)?;
        let template = template(&bin)?;
        let dir = Arc::new(TestDir::try_new("postgres")?);
        give_to_postgres(dir.path())?;
        let disk = match (options.data_bytes_max, options.tablespace_bytes_max) {
            (Some(bytes), _) => Some(SmallDisk::mount(&dir, "data", bytes)?),
            (None, Some(bytes)) => Some(SmallDisk::mount(&dir, "space", bytes)?),
            (None, None) => None,
        };
        let data_disk = disk.as_ref().filter(|_| options.data_bytes_max.is_some());
        let data = data_disk.map_or_else(|| dir.path(), SmallDisk::path).join("data");
        copy_tree(&template, &data)?;
        write_hba(&data, options.passwords)?;
        let make_tls = |names: &String| Tls::try_generate(&dir.join("tls"), names);
        let tls = options.tls_names.as_ref().map(make_tls).transpose()?;
        if let Some(tls) = &tls {
            give_to_postgres(&tls.key)?;
        }
        let (process, args, port) = (Mutex::new(None), options.args.clone(), Port::reserve()?);
        let server = Self { process, disk, dir, bin, data, tls, args, port };
        server.try_restart()?;
        server.prepare(options)?;
        Ok(server)
    }

    fn prepare(&self, options: &PostgresOptions) -> Result<()> {
        let mut tail = String::new();
        if options.freshet_user {
            self.try_sql("create role freshet login createdb password 'freshet'")?;
            tail += " owner freshet";
        }
        if let (Some(_), Some(disk)) = (options.tablespace_bytes_max, &self.disk) {
            let space = disk.path().join("space");
            std::fs::create_dir(&space).during("Cannot create the tablespace's directory")?;
            give_to_postgres(&space)?;
            self.try_sql(&format!("create tablespace small location '{}'", space.display()))?;
            self.try_sql("grant create on tablespace small to public")?;
            tail += " tablespace small";
        }
        for database in &options.databases {
            self.try_sql(&format!("create database \"{database}\"{tail}"))?;
        }
        Ok(())
    }

    /// The port on 127.0.0.1; the same after a restart.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The directory of the Unix socket, which is what PostgreSQL's clients take as a host.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir.path().to_path_buf()
    }

    /// The server's own directory, which holds its data, log and socket.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The data directory.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data
    }

    /// The certificate files, when TLS was asked for.
    #[must_use]
    pub fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    /// The disk of limited size, when one was asked for.
    #[must_use]
    pub fn disk(&self) -> Option<&SmallDisk> {
        self.disk.as_ref()
    }

    /// A connection string for the superuser by TCP.
    #[must_use]
    pub fn conn_string(&self, database: &str) -> String {
        format!("host=127.0.0.1 port={} user=postgres dbname={database}", self.port())
    }

    /// The postmaster's process id.
    ///
    /// # Panics
    /// When it was stopped.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process().pid()
    }

    /// Runs statements as superuser in database `postgres` and returns the rows as text: no headers, tabs between
    /// columns, `NULL` for null, nothing escaped.
    ///
    /// # Panics
    /// When one fails, with psql's stderr.
    #[track_caller]
    pub fn sql(&self, sql: &str) -> String {
        self.sql_in("postgres", sql)
    }

    /// Like [`Postgres::sql`] in another database.
    ///
    /// # Panics
    /// When one fails, with psql's stderr.
    #[track_caller]
    pub fn sql_in(&self, database: &str, sql: &str) -> String {
        self.try_sql_in(database, sql).unwrap_or_else(|error| panic!("{error}\nin: {sql:.2000}"))
    }

    /// Like [`Postgres::sql`], where a failure is an answer.
    pub fn try_sql(&self, sql: &str) -> Result<String> {
        self.try_sql_in("postgres", sql)
    }

    /// Like [`Postgres::sql_in`], where a failure is an answer.
    pub fn try_sql_in(&self, database: &str, sql: &str) -> Result<String> {
        SqlJob::spawn(&self.dir, self.client(database), sql)?.wait()
    }

    /// Runs the statements of a file as superuser.
    ///
    /// # Panics
    /// When one fails, with psql's stderr.
    #[track_caller]
    pub fn sql_file(&self, database: &str, path: &Path) -> String {
        let job = SqlJob::spawn_file(&self.dir, self.client(database), path);
        job.and_then(SqlJob::wait).unwrap_or_else(|error| panic!("{error}\nin: {}", path.display()))
    }

    /// Runs statements as superuser in the background.
    ///
    /// # Panics
    /// When psql does not start.
    #[must_use]
    pub fn spawn_sql(&self, database: &str, sql: &str) -> SqlJob {
        SqlJob::spawn(&self.dir, self.client(database), sql).unwrap_or_else(|error| panic!("{error}"))
    }

    /// psql as superuser, by the socket; a test can add arguments.
    #[must_use]
    pub fn client(&self, database: &str) -> Command {
        let mut command = Command::new("psql");
        command.args(["-X", "-q", "-A", "-t", "-F", "\t", "-P", "null=NULL", "-v", "ON_ERROR_STOP=1"]);
        command.arg("-h").arg(self.socket()).args(["-U", "postgres", "-d", database]);
        command.args(["-p", &self.port().to_string()]).env("PGCLIENTENCODING", "UTF8");
        command
    }

    /// SIGKILL to all its processes, and waits until they are gone.
    pub fn kill9(&self) {
        if let Some(process) = self.slot().take() {
            process.kill9();
        }
    }

    /// Stops it in good order (fast shutdown: sessions are ended).
    ///
    /// # Panics
    /// When it does not end.
    pub fn stop(&self) {
        let Some(process) = self.slot().take() else { return };
        process.interrupt();
        let ended = process.wait(STOP_DEADLINE);
        assert!(ended.is_some(), "PostgreSQL does not stop:\n{}", self.log_tail());
    }

    /// Starts it again on the same data and port and waits until it answers; stops it first when it runs.
    ///
    /// # Panics
    /// When it does not start; with its log.
    pub fn restart(&self) {
        self.try_restart().unwrap_or_else(|error| panic!("{error}"));
    }

    /// Like [`Postgres::restart`], where a failure is an answer.
    pub fn try_restart(&self) -> Result<()> {
        self.stop();
        let log = self.dir.join("server.log");
        let process = Process::spawn(&self.dir, &mut self.server_command(), Stdio::null(), &log, &log)?;
        let process = Arc::new(process);
        *self.slot() = Some(Arc::clone(&process));
        let socket = self.dir.join(format!(".s.PGSQL.{}", self.port()));
        let mut answer = None;
        poll_until(READY_DEADLINE, || {
            if socket.exists() {
                answer = Some(self.try_sql("select 1"));
            }
            matches!(answer, Some(Ok(_))) || !process.is_running()
        });
        match answer {
            Some(Ok(_)) => Ok(()),
            None | Some(Err(_)) => Err(ServerError::new(format!("No start:\n{}", self.log_tail()))),
        }
    }

    /// SIGSTOP to all its processes: connections stay open and nothing answers.
    pub fn pause(&self) {
        self.process().pause();
    }

    /// SIGCONT after [`Postgres::pause`].
    pub fn resume(&self) {
        self.process().resume();
    }

    /// The server's log so far.
    #[must_use]
    pub fn log_text(&self) -> String {
        let bytes = std::fs::read(self.dir.join("server.log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// CPU seconds and peak memory since its (re)start; shared buffers count once for each process that touched them.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.process().usage()
    }

    fn server_command(&self) -> Command {
        let mut command = as_postgres(&self.bin.join("postgres"));
        command.arg("-D").arg(&self.data).args(["-p", &self.port().to_string(), "-h", "127.0.0.1"]);
        command.arg("-k").arg(self.socket()).args(SETTINGS.iter().flat_map(|setting| ["-c", setting]));
        if let Some(tls) = &self.tls {
            let path = |name: &str, path: &Path| format!("{name}={}", path.display());
            command.args(["-c", "ssl=on", "-c", &path("ssl_cert_file", &tls.cert)]);
            command.args(["-c", &path("ssl_key_file", &tls.key), "-c", &path("ssl_ca_file", &tls.ca)]);
        }
        command.args(&self.args).current_dir(self.dir.path());
        command
    }

    fn log_tail(&self) -> String {
        let log = self.log_text();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    fn process(&self) -> Arc<Process> {
        let process = self.slot().clone();
        process.unwrap_or_else(|| panic!("The server was stopped"))
    }

    fn slot(&self) -> MutexGuard<'_, Option<Arc<Process>>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill9();
    }
}

const SETTINGS: &[&str] = &[
    "wal_level=logical",
    "max_replication_slots=40",
    "max_wal_senders=40",
    "max_connections=100",
    "shared_buffers=64MB",
];

/// The directory of PostgreSQL's own programs: `FRESHET_PGBIN`, or Debian's place of the newest version.
pub fn postgres_bin_dir() -> Result<PathBuf> {
    let named = std::env::var_os("FRESHET_PGBIN").map(PathBuf::from);
    let debian = VERSIONS.iter().map(|version| PathBuf::from(format!("/usr/lib/postgresql/{version}/bin")));
    let found = named.into_iter().chain(debian).find(|dir| dir.join("postgres").exists());
    found.ok_or_else(|| ServerError::new("No PostgreSQL 15 or later; install postgresql (cargo xtask setup)"))
}

/// An initialised data directory in the cache. It is made elsewhere: the cache may lie where `postgres` cannot go.
fn template(bin: &Path) -> Result<PathBuf> {
    let version = run(Command::new(bin.join("postgres")).arg("--version"))?;
    let owner = if is_root() { "root" } else { "user" };
    cache::entry(&format!("template-postgres-{}-{owner}", cache::key(&version)), |path| {
        let dir = TestDir::try_new("initdb")?;
        give_to_postgres(dir.path())?;
        let data = dir.join("data");
        run(as_postgres(&bin.join("initdb"))
            .arg("-D")
            .arg(&data)
            .args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-N"])
            .current_dir(dir.path()))?;
        copy_tree(&data, path)
    })
}

fn write_hba(data: &Path, passwords: bool) -> Result<()> {
    let method = if passwords { "scram-sha-256" } else { "trust" };
    let text = format!(
        "local all all trust\nlocal replication all trust\n\
         host all all 127.0.0.1/32 {method}\nhost replication all 127.0.0.1/32 {method}\n"
    );
    std::fs::write(data.join("pg_hba.conf"), text).during("Cannot write pg_hba.conf")
}

/// A command that runs as user `postgres` when we are root.
fn as_postgres(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
    command
}

fn give_to_postgres(path: &Path) -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    run(Command::new("chown").arg("postgres:postgres").arg(path)).map(drop)
}
