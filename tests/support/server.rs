//! The real program in a process of its own: started on any port and a data directory, stopped, killed, started again.
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread::JoinHandle,
    time::Instant,
};
use tempfile::TempDir;

use super::{postgres::Database, wait::DEADLINE};

pub const ADMIN_EMAIL: &str = "admin@example.org";
pub const ADMIN_PASSWORD: &str = "a password for tests";

/// How a server is to be started: its data directory and its environment, which is otherwise clean of `MARVIN_*`.
#[derive(Debug, Clone)]
pub struct Launch {
    data: Arc<TempDir>,
    environment: BTreeMap<String, String>,
    script: Option<String>,
}

impl Launch {
    /// On an empty data directory, without an administrator.
    pub fn bare() -> Self {
        let data = Arc::new(tempfile::tempdir().expect("a temporary directory"));
        let environment = [("MARVIN_LISTEN", "127.0.0.1:0"), ("MARVIN_METRICS_LISTEN", "off")];
        let environment = environment.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        let launch = Self { data, environment: environment.collect(), script: None };
        match std::env::var("MARVIN_TEST_STORE").as_deref() {
            Ok("postgres") => launch.on(&Database::shared()),
            _ => launch,
        }
    }

    /// With its log and keys in PostgreSQL. Two servers on the same database are two nodes of one instance.
    #[must_use]
    pub fn on(self, database: &Database) -> Self {
        self.set("MARVIN_DATABASE_URL", &database.url).set("MARVIN_INSTANCE", &database.instance)
    }

    /// Where its log and keys are, unless in files.
    pub fn database(&self) -> Option<Database> {
        let of = |name: &str| self.environment.get(name).cloned();
        Some(Database { url: of("MARVIN_DATABASE_URL")?, instance: of("MARVIN_INSTANCE")? })
    }

    /// The read models are derived: the next start builds them anew.
    pub async fn drop_views(&self) {
        if let Some(database) = self.database() {
            return database.drop_views().await;
        }
        for name in ["views.db", "views.db-wal", "views.db-shm"] {
            std::fs::remove_file(self.data_dir().join(name)).ok();
        }
    }

    /// With the administrator that [`super::Client::admin`] signs in as.
    pub fn with_admin() -> Self {
        Self::bare().set("MARVIN_ADMIN_EMAIL", ADMIN_EMAIL).set("MARVIN_ADMIN_PASSWORD", ADMIN_PASSWORD)
    }

    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    /// With calls to this machine let out.
    #[must_use]
    pub fn reaching_loopback(self) -> Self {
        self.set("MARVIN_EGRESS_ALLOW", "127.0.0.0/8")
    }

    /// Known to browsers under another name. The port has to be known beforehand then.
    #[must_use]
    pub fn public_url(self, url: &str) -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let free = free.expect("a free port").to_string();
        self.set("MARVIN_LISTEN", &free).set("MARVIN_PUBLIC_URL", url)
    }

    #[must_use]
    pub fn unset(mut self, name: &str) -> Self {
        self.environment.remove(name);
        self
    }

    /// Runs the program by way of a shell script that ends in `exec "$@"`, such as one that traps signals.
    #[must_use]
    pub fn by(mut self, script: &str) -> Self {
        self.script = Some(script.to_owned());
        self
    }

    pub fn data_dir(&self) -> &Path {
        self.data.path()
    }

    /// A command of the program on this data directory and environment, such as `doctor`.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let program = env!("CARGO_BIN_EXE_marvin");
        let mut command = Command::new(if self.script.is_some() { "sh" } else { program });
        if let Some(script) = &self.script {
            command.args(["-c", script, "sh", program]);
        }
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("MARVIN_")) {
            command.env_remove(name);
        }
        command.args(arguments).env("MARVIN_DATA_DIR", self.data.path()).envs(&self.environment);
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the program can be run")
    }

    /// Starts the server and waits until it says that it is ready.
    ///
    /// # Panics
    /// With its log when it does not get ready.
    pub fn start(self) -> Server {
        let (mut server, named) = self.start_as("serve", "Marvin is ready at ");
        // Behind a public name, the server is still reached where it listens.
        server.url = match server.launch.environment.contains_key("MARVIN_PUBLIC_URL") {
            true => format!("http://{}", server.launch.environment["MARVIN_LISTEN"]),
            false => named,
        };
        server
    }

    /// Starts agents in a process of their own; answers it and the id by which the log names it.
    ///
    /// # Panics
    /// With its log when it does not get ready.
    pub fn start_worker(self) -> (Server, String) {
        let (server, named) = self.start_as("worker", "Marvin's worker ");
        (server, named.trim_end_matches(" is ready").to_owned())
    }

    /// Starts a command and waits for the line that says that it is ready; answers the rest of that.
    fn start_as(self, command: &str, ready: &str) -> (Server, String) {
        let server = self.spawn(command);
        let named = server.await_line(ready);
        (server, named)
    }

    /// Starts a command as whoever supervises it would, who tries again when it ends at once or is not ready in time: answers its
    /// log then.
    ///
    /// # Errors
    /// What it logged.
    pub fn try_start(&self, command: &str) -> Result<Server, String> {
        let mut server = self.clone().spawn(command);
        match server.line("Marvin") {
            Some(said) => {
                server.url = said.strip_prefix(" is ready at ").unwrap_or_default().to_owned();
                Ok(server)
            }
            None => Err(server.kill9().log),
        }
    }

    fn spawn(self, command: &str) -> Server {
        let mut command = self.command(&[command]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program can be run");
        let (lines, said) = mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let speaker = std::thread::spawn(move || {
            stdout.lines().map_while(Result::ok).for_each(|line| drop(lines.send(line)));
        });
        let log = Arc::new(Mutex::new(Vec::new()));
        let logger = collect(child.stderr.take().expect("stderr is piped"), log.clone());
        Server { child, launch: self, url: String::new(), said, log, readers: vec![speaker, logger] }
    }
}

fn collect(mut from: impl Read + Send + 'static, log: Arc<Mutex<Vec<u8>>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut buffer = [0; 8192];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            log.lock().expect("nobody panics with the log in hand").extend_from_slice(&buffer[..count]);
        }
    })
}

/// A running server. Dropping it kills and reaps it.
#[derive(Debug)]
pub struct Server {
    child: Child,
    launch: Launch,
    url: String,
    said: mpsc::Receiver<String>,
    log: Arc<Mutex<Vec<u8>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Server {
    /// A server with an administrator.
    pub fn start() -> Self {
        Launch::with_admin().start()
    }

    /// `http://127.0.0.1:PORT`
    pub fn url(&self) -> &str {
        &self.url
    }

    /// `127.0.0.1:PORT`, for connections below HTTP.
    pub fn address(&self) -> &str {
        self.url.trim_start_matches("http://")
    }

    pub fn data_dir(&self) -> &Path {
        self.launch.data_dir()
    }

    pub fn launch(&self) -> &Launch {
        &self.launch
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The token of the setup link, which a server without users prints.
    pub fn setup_token(&self) -> String {
        let link = self.await_line("Set it up within 15 minutes at ");
        let start = format!("{}/setup?token=", self.url);
        link.strip_prefix(&start).unwrap_or_else(|| panic!("{link} does not begin with {start}")).to_owned()
    }

    /// What the server has logged by now.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&self.log.lock().expect("nobody panics with the log in hand")).into_owned()
    }

    /// The rest of the first line on standard output that begins with `start`.
    fn await_line(&self, start: &str) -> String {
        self.line(start).unwrap_or_else(|| panic!("the server did not say {start:?}; its log:\n{}", self.log()))
    }

    /// As [`await_line`](Self::await_line); none when it ends before, or takes too long.
    fn line(&self, start: &str) -> Option<String> {
        let begun = Instant::now();
        loop {
            let left = DEADLINE.saturating_sub(begun.elapsed());
            let line = self.said.recv_timeout(left).ok()?;
            if let Some(rest) = line.strip_prefix(start) {
                return Some(rest.to_owned());
            }
        }
    }

    /// Asks it to end and waits for that.
    ///
    /// # Panics
    /// Unless it ends by itself with exit code 0.
    pub fn stop(mut self) -> Stopped {
        let kill = Command::new("kill").arg("-TERM").arg(self.pid().to_string()).status();
        assert!(kill.expect("kill can be run").success());
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("the child can be waited for") {
                break status;
            }
            assert!(begun.elapsed() < DEADLINE, "the server does not end; its log:\n{}", self.log());
            std::thread::sleep(std::time::Duration::from_millis(10));
        };
        assert!(status.success(), "the server ended with {status}; its log:\n{}", self.log());
        self.ended()
    }

    /// Kills it as a crash would (SIGKILL): nothing in it runs any more.
    pub fn kill9(mut self) -> Stopped {
        self.end();
        self.ended()
    }

    fn end(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }

    fn ended(mut self) -> Stopped {
        for reader in self.readers.drain(..) {
            reader.join().ok();
        }
        Stopped { launch: self.launch.clone(), log: self.log() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// A server that has ended: its data directory, what it logged, and how to start it again.
#[derive(Debug)]
pub struct Stopped {
    launch: Launch,
    log: String,
}

impl Stopped {
    /// All that it logged.
    pub fn log(&self) -> &str {
        &self.log
    }

    pub fn launch(&self) -> &Launch {
        &self.launch
    }

    pub fn data_dir(&self) -> &Path {
        self.launch.data_dir()
    }

    /// Starts a server on the same data directory and environment.
    pub fn start(self) -> Server {
        self.launch.start()
    }
}
