//! Throwaway MariaDB and MySQL servers. They share everything but their programs, defaults and catalogue set-up.
//!
//! MariaDB is the system's (`mariadbd` of package `mariadb-server`); MySQL is unpacked by [`MySqlRoot`].
//! The root account has no password and is reached by the socket, and by TCP from 127.0.0.1.
//! Row format binary log with full metadata and GTIDs are on; buffers are small; durability is the server's default.
//! Later arguments win, so [`MyOptions::arg`] can change every default.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::port::Port;
use super::{
    During as _, MySqlRoot, Process, Result, ServerError, SmallDisk, SqlJob, TestDir, Tls, Usage, cache,
    copy_tree, poll_until, run, tls,
};

const READY_DEADLINE: Duration = Duration::from_secs(300);
const STOP_DEADLINE: Duration = Duration::from_secs(300);

/// Which of the two servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavor {
    /// MariaDB 10.11.
    MariaDb,
    /// MySQL 9.7.
    MySql,
}

/// How to start a server; the default is small, without TLS of ours and without a user for freshet.
#[derive(Clone, Debug, Default)]
pub struct MyOptions {
    args: Vec<String>,
    tls_names: Option<String>,
    data_bytes_max: Option<u64>,
    freshet_user: bool,
}

/// Options of [`MariaDb`].
pub type MariaDbOptions = MyOptions;
/// Options of [`MySql`].
pub type MySqlOptions = MyOptions;

impl MyOptions {
    /// One more server argument, such as `--binlog-format=STATEMENT`; it overrides the kit's own.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// TLS by a certificate for localhost and 127.0.0.1; see [`MyServer::tls`].
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

    /// The data directory on a disk of this size; see [`MyServer::disk`]. Root only. An empty
    /// MariaDB takes 40 MB, an empty MySQL 130 MB.
    #[must_use]
    pub fn data_bytes_max(mut self, bytes: u64) -> Self {
        self.data_bytes_max = Some(bytes);
        self
    }

    /// Creates the user `freshet`, password `freshet`, with what a source needs.
    #[must_use]
    pub fn with_freshet_user(mut self) -> Self {
        self.freshet_user = true;
        self
    }
}

/// A throwaway MariaDB; see [`MyServer`] for what it can do.
#[derive(Debug)]
pub struct MariaDb(MyServer);

impl MariaDb {
    /// Starts one and waits until it answers.
    ///
    /// # Panics
    /// When it does not start; with its log.
    #[must_use]
    pub fn start(options: MariaDbOptions) -> Self {
        Self(MyServer::start(Flavor::MariaDb, options))
    }
}

impl Deref for MariaDb {
    type Target = MyServer;

    fn deref(&self) -> &MyServer {
        &self.0
    }
}

/// A throwaway MySQL; see [`MyServer`] for what it can do.
#[derive(Debug)]
pub struct MySql(MyServer);

impl MySql {
    /// Starts one and waits until it answers; unpacks MySQL first when the cache has none.
    ///
    /// # Panics
    /// When it does not start; with its log.
    #[must_use]
    pub fn start(options: MySqlOptions) -> Self {
        Self(MyServer::start(Flavor::MySql, options))
    }
}

impl Deref for MySql {
    type Target = MyServer;

    fn deref(&self) -> &MyServer {
        &self.0
    }
}

/// A throwaway MariaDB or MySQL. The fields drop in order: process, disk, directory, port.
#[derive(Debug)]
pub struct MyServer {
    process: Mutex<Option<Arc<Process>>>,
    disk: Option<SmallDisk>,
    dir: Arc<TestDir>,
    programs: Programs,
    data: PathBuf,
    tls: Option<Tls>,
    args: Vec<String>,
    port: Port,
}

impl MyServer {
    /// Starts a server of either flavor and waits until it answers.
    ///
    /// # Panics
    /// When it does not start; with its log.
    #[must_use]
    pub fn start(flavor: Flavor, options: MyOptions) -> Self {
        Self::try_start(flavor, options).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Like [`MyServer::start`], for tools that report instead of panicking.
    pub fn try_start(flavor: Flavor, options: MyOptions) -> Result<Self> {
        let programs = Programs::find(flavor)?;
        let template = programs.template()?;
        let dir = Arc::new(TestDir::try_new(programs.short_name())?);
        let mount = |bytes| SmallDisk::mount(&dir, "data", bytes);
        let disk = options.data_bytes_max.map(mount).transpose()?;
        let data = disk.as_ref().map_or_else(|| dir.path(), SmallDisk::path).join("data");
        copy_tree(&template, &data)?;
        let make_tls = |names: &String| Tls::try_generate(&dir.join("tls"), names);
        let tls = options.tls_names.as_ref().map(make_tls).transpose()?;
        let (process, args, port) = (Mutex::new(None), options.args, Port::reserve()?);
        let server = Self { process, disk, dir, programs, data, tls, args, port };
        server.try_restart()?;
        if options.freshet_user {
            server.try_sql(&server.programs.freshet_user())?;
        }
        Ok(server)
    }

    /// Which server it is.
    #[must_use]
    pub fn flavor(&self) -> Flavor {
        self.programs.flavor()
    }

    /// The port on 127.0.0.1; the same after a restart.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The Unix socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir.join("my.sock")
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

    /// The disk that holds the data, when its size was limited.
    #[must_use]
    pub fn disk(&self) -> Option<&SmallDisk> {
        self.disk.as_ref()
    }

    /// The server's process id.
    ///
    /// # Panics
    /// When it was stopped.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process().pid()
    }

    /// Runs statements as root and returns the rows as text: no headers, tabs between columns, `NULL` for null,
    /// backslash escapes as the client makes them in batch mode.
    ///
    /// # Panics
    /// When one fails, with the client's stderr.
    #[track_caller]
    pub fn sql(&self, sql: &str) -> String {
        self.try_sql(sql).unwrap_or_else(|error| panic!("{error}\nin: {sql:.2000}"))
    }

    /// Like [`MyServer::sql`], where a failure is an answer.
    pub fn try_sql(&self, sql: &str) -> Result<String> {
        SqlJob::spawn(&self.dir, self.client(), sql)?.wait()
    }

    /// Runs the statements of a file as root.
    ///
    /// # Panics
    /// When one fails, with the client's stderr.
    #[track_caller]
    pub fn sql_file(&self, path: &Path) -> String {
        let job = SqlJob::spawn_file(&self.dir, self.client(), path);
        job.and_then(SqlJob::wait).unwrap_or_else(|error| panic!("{error}\nin: {}", path.display()))
    }

    /// Runs statements as root in the background.
    ///
    /// # Panics
    /// When the client does not start.
    #[must_use]
    pub fn spawn_sql(&self, sql: &str) -> SqlJob {
        SqlJob::spawn(&self.dir, self.client(), sql).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The server's own client as root, in batch mode; a test can add arguments.
    #[must_use]
    pub fn client(&self) -> Command {
        let mut command = self.programs.client();
        command.args(["--no-defaults", "--user=root", "--batch", "--skip-column-names"]);
        command.arg("--default-character-set=utf8mb4").arg(format!("--socket={}", self.socket().display()));
        command
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill9(&self) {
        if let Some(process) = self.slot().take() {
            process.kill9();
        }
    }

    /// Stops it in good order.
    ///
    /// # Panics
    /// When it does not end.
    pub fn stop(&self) {
        let Some(process) = self.slot().take() else { return };
        process.terminate();
        let ended = process.wait(STOP_DEADLINE);
        assert!(ended.is_some(), "The server does not stop:\n{}", self.log_tail());
    }

    /// Starts it again on the same data and port and waits until it answers; stops it first when it runs.
    ///
    /// # Panics
    /// When it does not start; with its log.
    pub fn restart(&self) {
        self.try_restart().unwrap_or_else(|error| panic!("{error}"));
    }

    /// Like [`MyServer::restart`], where a failure is an answer.
    pub fn try_restart(&self) -> Result<()> {
        self.stop();
        let log = self.dir.join("server.log");
        std::fs::create_dir_all(self.dir.join("tmp")).during("Cannot create the server's tmpdir")?;
        let process = Process::spawn(&self.dir, &mut self.server_command(), Stdio::null(), &log, &log)?;
        let process = Arc::new(process);
        *self.slot() = Some(Arc::clone(&process));
        let mut answer = None;
        poll_until(READY_DEADLINE, || {
            if self.socket().exists() {
                answer = Some(self.try_sql("select 1"));
            }
            matches!(answer, Some(Ok(_))) || !process.is_running()
        });
        match answer {
            Some(Ok(_)) => Ok(()),
            None | Some(Err(_)) => Err(ServerError::new(format!("No start:\n{}", self.log_tail()))),
        }
    }

    /// SIGSTOP: connections stay open and nothing answers.
    pub fn pause(&self) {
        self.process().pause();
    }

    /// SIGCONT after [`MyServer::pause`].
    pub fn resume(&self) {
        self.process().resume();
    }

    /// The server's log so far.
    #[must_use]
    pub fn log_text(&self) -> String {
        let bytes = std::fs::read(self.dir.join("server.log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// CPU seconds and peak memory since its (re)start.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.process().usage()
    }

    fn server_command(&self) -> Command {
        let mut command = self.programs.server(&self.data);
        let path = |name: &str, path: &Path| format!("--{name}={}", path.display());
        command.args([
            path("socket", &self.socket()),
            path("pid-file", &self.dir.join("my.pid")),
            // A starting server removes what looks like a temporary table of any server from its tmpdir.
            path("tmpdir", &self.dir.join("tmp")),
            format!("--port={}", self.port()),
            format!("--server-id={}", self.port()),
        ]);
        command.args(COMMON_ARGS).args(self.programs.flavor_args());
        if let Some(tls) = &self.tls {
            command.args([path("ssl-ca", &tls.ca), path("ssl-cert", &tls.cert), path("ssl-key", &tls.key)]);
        }
        command.args(&self.args);
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

impl Drop for MyServer {
    fn drop(&mut self) {
        self.kill9();
    }
}

const COMMON_ARGS: &[&str] = &[
    "--bind-address=127.0.0.1",
    "--log-bin=binlog",
    "--binlog-format=ROW",
    "--binlog-row-image=FULL",
    "--binlog-row-metadata=FULL",
    "--innodb-buffer-pool-size=64M",
    "--max-allowed-packet=64M",
    "--secure-file-priv=",
];

/// Where the programs of a flavor are.
#[derive(Debug)]
enum Programs {
    MariaDb { version: String },
    MySql(MySqlRoot),
}

impl Programs {
    fn find(flavor: Flavor) -> Result<Self> {
        match flavor {
            Flavor::MySql => MySqlRoot::ensure().map(Self::MySql),
            Flavor::MariaDb => {
                let version = run(mariadbd().arg("--version"));
                let hint = "Install mariadb-server (cargo xtask setup)";
                Ok(Self::MariaDb { version: version.during(hint)? })
            }
        }
    }

    fn flavor(&self) -> Flavor {
        match self {
            Self::MariaDb { .. } => Flavor::MariaDb,
            Self::MySql(_) => Flavor::MySql,
        }
    }

    fn short_name(&self) -> &'static str {
        match self {
            Self::MariaDb { .. } => "mariadb",
            Self::MySql(_) => "mysql",
        }
    }

    fn version(&self) -> &str {
        match self {
            Self::MariaDb { version } => version,
            Self::MySql(root) => root.version(),
        }
    }

    fn client(&self) -> Command {
        match self {
            Self::MariaDb { .. } => Command::new("mariadb"),
            Self::MySql(root) => root.command("usr/bin/mysql"),
        }
    }

    fn server(&self, data: &Path) -> Command {
        let mut command = match self {
            Self::MariaDb { .. } => mariadbd(),
            Self::MySql(root) => root.command("usr/sbin/mysqld"),
        };
        command.arg("--no-defaults");
        if let Self::MySql(root) = self {
            let usr = root.path().join("usr");
            command.arg(format!("--basedir={}", usr.display()));
            command.arg(format!("--lc-messages-dir={}", usr.join("share/mysql").display()));
        }
        command.arg(format!("--user={}", user_name())).arg(format!("--datadir={}", data.display()));
        command
    }

    fn flavor_args(&self) -> &'static [&'static str] {
        match self {
            Self::MariaDb { .. } => &["--innodb-log-file-size=16M"],
            Self::MySql(_) => &[
                "--gtid-mode=ON",
                "--enforce-gtid-consistency=ON",
                "--innodb-redo-log-capacity=32M",
                "--mysqlx=OFF",
            ],
        }
    }

    /// An initialised data directory in the cache.
    fn template(&self) -> Result<PathBuf> {
        let version = cache::key(self.version());
        let name = format!("template-{}-{version}-{}", self.short_name(), user_name());
        cache::entry(&name, |path| match self {
            Self::MariaDb { .. } => run(Command::new("mariadb-install-db")
                .args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"])
                .args(["--innodb-log-file-size=16M", &format!("--user={}", user_name())])
                .arg(format!("--datadir={}", path.display())))
            .map(drop),
            Self::MySql(_) => {
                run(self.server(path).args(["--initialize-insecure", "--innodb-redo-log-capacity=32M"]))?;
                // Each copy makes a server identity of its own.
                std::fs::remove_file(path.join("auto.cnf")).during("Cannot remove auto.cnf")
            }
        })
    }

    fn freshet_user(&self) -> String {
        let more = match self {
            Self::MariaDb { .. } => ", SLAVE MONITOR, REPLICATION MASTER ADMIN",
            Self::MySql(_) => ", BACKUP_ADMIN, XA_RECOVER_ADMIN",
        };
        format!(
            "set session sql_log_bin=0; \
             create user freshet@'%' identified by 'freshet'; \
             grant SELECT, RELOAD, PROCESS, LOCK TABLES, SHOW VIEW, REPLICATION SLAVE, REPLICATION CLIENT{more} \
             on *.* to freshet@'%'"
        )
    }
}

/// Debian keeps the server in a directory that is not on every user's path.
fn mariadbd() -> Command {
    let debian = Path::new("/usr/sbin/mariadbd");
    Command::new(if debian.exists() { debian } else { Path::new("mariadbd") })
}

fn user_name() -> String {
    let name = run(Command::new("id").arg("-un"));
    name.map_or_else(|_| "root".to_owned(), |name| name.trim().to_owned())
}
