//! A PostgreSQL and a RabbitMQ of the test's own, to be killed and started again. They end with the test, however that ends.
use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Lines, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Arc, Condvar, Mutex},
};

use super::PATIENCE;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    Postgres,
    Rabbitmq,
}

impl Service {
    fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Rabbitmq => "rabbitmq",
        }
    }
}

/// What is up now.
type Up = Arc<(Mutex<BTreeSet<String>>, Condvar)>;

pub struct Services {
    pub postgres: String,
    pub rabbitmq: String,
    script: Child,
    /// The script ends when this does.
    orders: Option<Mutex<ChildStdin>>,
    up: Up,
}

impl Services {
    pub fn start() -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(".ci/services");
        let mut script = Command::new(script);
        let mut script = script.arg("harm").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(script.stdout.take().unwrap()).lines();
        let mut address = || lines.next().expect(".ci/services says why it cannot").unwrap();
        let (postgres, rabbitmq) = (address(), address());
        let up: Up = Arc::new((Mutex::new(["postgres", "rabbitmq"].map(str::to_owned).into()), Condvar::new()));
        let told = up.clone();
        std::thread::spawn(move || hear(lines, &told));
        let orders = script.stdin.take().map(Mutex::new);
        Self { postgres, rabbitmq, script, orders, up }
    }

    /// With SIGKILL. Comes back once that is done.
    pub fn kill(&self, service: Service) {
        self.order("kill", service);
        self.wait(service, false);
    }

    /// On its data and its port. Comes back once it is up.
    pub fn restart(&self, service: Service) {
        self.order("start", service);
        self.wait(service, true);
    }

    fn order(&self, verb: &str, service: Service) {
        let orders = self.orders.as_ref().unwrap();
        writeln!(orders.lock().unwrap(), "{verb} {}", service.name()).unwrap();
    }

    fn wait(&self, service: Service, is_up: bool) {
        let (up, changed) = &*self.up;
        let waiting = |up: &mut BTreeSet<String>| up.contains(service.name()) != is_up;
        let waited = changed.wait_timeout_while(up.lock().unwrap(), PATIENCE, waiting).unwrap();
        assert!(!waited.1.timed_out(), "{service:?} could not be killed or started");
    }
}

/// Keeps what the script says has become of the services.
fn hear(lines: Lines<BufReader<ChildStdout>>, (up, changed): &(Mutex<BTreeSet<String>>, Condvar)) {
    for line in lines.map_while(Result::ok) {
        let mut up = up.lock().unwrap();
        match line.split_once(' ') {
            Some(("started", service)) => drop(up.insert(service.to_owned())),
            Some(("killed", service)) => drop(up.remove(service)),
            _ => println!(".ci/services: {line}"),
        }
        changed.notify_all();
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        self.orders = None;
        self.script.wait().ok();
    }
}
