//! A server or a worker under somebody who starts it again when it has ended, as a supervisor of services does.
use std::{
    fs,
    path::PathBuf,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use super::{
    super::support::{Client, Launch, Server},
    PATIENCE,
};

pub struct Program {
    command: &'static str,
    launch: Launch,
    running: Mutex<Option<Server>>,
    runs: AtomicUsize,
}

impl Program {
    /// Not started yet.
    pub fn new(command: &'static str, launch: &Launch) -> Self {
        Self { command, launch: launch.clone(), running: Mutex::new(None), runs: AtomicUsize::new(0) }
    }

    /// Starts it, again and again until it is ready: while a service is away it ends at once. Comes back then.
    pub fn start(&self) {
        let begun = Instant::now();
        let server = loop {
            match self.launch.try_start(self.command) {
                Ok(server) => break server,
                Err(log) => {
                    self.keep(&log);
                    assert!(begun.elapsed() < PATIENCE, "marvin {} cannot be started: {log}", self.command);
                }
            }
        };
        *self.running.lock().unwrap() = Some(server);
    }

    /// The administrator of the server that runs.
    pub async fn admin(&self) -> Client {
        let server = self.running.lock().unwrap().take().expect("it runs");
        let admin = Client::admin(&server).await;
        *self.running.lock().unwrap() = Some(server);
        admin
    }

    pub fn kill(&self) {
        let server = self.running.lock().unwrap().take().expect("it runs");
        self.keep(server.kill9().log());
    }

    /// # Panics
    /// Unless it ends by itself with exit code 0.
    pub fn stop(&self) -> Launch {
        let server = self.running.lock().unwrap().take().expect("it runs");
        let stopped = server.stop();
        self.keep(stopped.log());
        stopped.launch().clone()
    }

    /// Each run's log in a file of its own, for whoever looks for the cause of a failure.
    fn keep(&self, log: &str) {
        let run = self.runs.fetch_add(1, Ordering::SeqCst);
        fs::write(logs().join(format!("{}-{run:03}.log", self.command)), log).unwrap();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Some(server) = self.running.lock().ok().and_then(|mut running| running.take()) {
            self.keep(server.kill9().log());
        }
    }
}

/// Where the logs of the last run of the test are.
pub fn logs() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("outages")
}
