//! Redis for tests: a prefix of a test's own in the private server of the run, which `.ci/services` starts and throws away, or a
//! server of its own to be harmed.
#![allow(dead_code)]
use marvin::cache::{Cache, redis::RedisCache};
use marvin::security::cipher::DataKey;
use redis::aio::MultiplexedConnection;
use std::{
    env,
    net::TcpListener,
    process::{Child, Command, Stdio},
    sync::Arc,
};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::wait::eventually;

/// The server that all tests share.
pub fn shared() -> String {
    env::var("MARVIN_TEST_REDIS")
        .expect("tests on Redis need a server: '.ci/services run cargo nextest run …', or 'make test'")
}

/// A prefix that nobody else uses.
pub fn instance() -> String {
    format!("t{}", &Uuid::new_v4().simple().to_string()[..20])
}

/// The instance key, which all nodes of a test share.
pub fn key() -> Arc<DataKey> {
    Arc::new(DataKey::from_bytes(Uuid::from_u128(1), Zeroizing::new([7; 32])))
}

/// A node's cache, connected.
pub async fn connect(url: &str, instance: &str) -> RedisCache {
    let cache = RedisCache::new(url, instance, key()).unwrap();
    eventually("Redis takes a key", async || cache.probe().await.ok()).await;
    cache
}

/// A connection that knows nothing of Marvin.
pub async fn stranger(url: &str) -> MultiplexedConnection {
    let client = redis::Client::open(url).unwrap();
    eventually("Redis can be reached", async || client.get_multiplexed_async_connection().await.ok()).await
}

/// A server of a test's own. It ends with the test.
pub struct Server {
    port: u16,
    directory: tempfile::TempDir,
    arguments: Vec<String>,
    running: Option<Child>,
}

impl Server {
    pub async fn start() -> Self {
        Self::start_with(|port| vec!["--port".to_owned(), port.to_string()]).await
    }

    /// `arguments` say where it listens.
    pub async fn start_with(arguments: impl FnOnce(u16) -> Vec<String>) -> Self {
        // Below the ports from which connections go out.
        let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
        let drawn = || 20_000 + u16::try_from(Uuid::new_v4().as_u128() % 12_000).unwrap();
        let port = std::iter::repeat_with(drawn).find(is_free).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let mut server = Self { port, directory, arguments: arguments(port), running: None };
        server.restart();
        server
    }

    /// As it was started first, with nothing in it.
    pub fn restart(&mut self) {
        self.kill();
        let program = env::var("MARVIN_TEST_REDIS_BIN").expect("set together with MARVIN_TEST_REDIS");
        let mut command = Command::new(program);
        command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir"]).arg(self.directory.path());
        command.args(&self.arguments).stdout(Stdio::null()).stderr(Stdio::null());
        self.running = Some(command.spawn().unwrap());
    }

    pub fn kill(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.kill().unwrap();
            running.wait().unwrap();
        }
    }

    /// Its connections stay, and it does nothing until it may go on.
    pub fn pause(&self) {
        self.signal("-STOP");
    }

    pub fn go_on(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let id = self.running.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn url(&self) -> String {
        format!("redis://{}", self.address())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
