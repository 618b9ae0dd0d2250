//! The one connection of a process to Redis: shared by all calls, and made anew by a probe once it is lost. A call never waits for
//! a connection.
use redis::{
    AsyncConnectionConfig, Client, IntoConnectionInfo, RedisError, aio::MultiplexedConnection, io::tcp::TcpSettings,
    pipe,
};
use std::{
    io::{self, ErrorKind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::reads::Reads;
use crate::cache::{CacheError, guarded::PROBE_TIMEOUT};

/// How long connecting may take, TLS and login included. Nobody waits for it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long any answer may take. Who waits for one has a shorter patience; this is for what nobody waits for any more.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the probe's key stays.
const PROBE_TTL_MS: u64 = 1_000;
/// What the cache's scripts use: a Redis that refuses it, as by its access rules, is of no use however well it writes.
const PROBE: &str = "redis.call('TIME') return redis.call('PTTL', KEYS[1])";

pub(super) struct Link {
    client: Client,
    connected: Mutex<Option<Connected>>,
}

/// A connection, and what reads through it.
#[derive(Clone)]
pub(super) struct Connected {
    pub connection: MultiplexedConnection,
    pub reads: Arc<Reads>,
}

impl Link {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// When `url` is not one of Redis.
    pub fn new(url: &str) -> Result<Self, RedisError> {
        let info = url.into_connection_info()?.set_tcp_settings(TcpSettings::default().set_nodelay(true));
        Ok(Self { client: Client::open(info)?, connected: Mutex::new(None) })
    }

    /// # Errors
    /// `Unavailable` while there is no connection.
    pub fn connected(&self) -> Result<Connected, CacheError> {
        let connected = self.standing().clone();
        connected.ok_or_else(|| CacheError::Unavailable(Arc::new(io::Error::from(ErrorKind::NotConnected))))
    }

    /// What a failed call means for its caller; a connection that is broken is given up, once by however many were on it.
    pub fn failed(&self, on: &Connected, error: RedisError) -> CacheError {
        if error.is_unrecoverable_error() {
            self.standing().take_if(|standing| Arc::ptr_eq(&standing.reads, &on.reads));
        }
        CacheError::Unavailable(Arc::new(error))
    }

    /// Connects where that is needed, and writes a key.
    ///
    /// # Errors
    /// `Unavailable`; the connection is given up then.
    pub async fn probe(&self, key: &str) -> Result<(), CacheError> {
        let standing = self.standing().clone();
        let mut connected = match standing {
            Some(connected) => connected,
            None => {
                let connection = self.connect().await?;
                Connected { reads: Reads::on(connection.clone()), connection }
            }
        };
        let write = async {
            let mut asking = pipe();
            asking.cmd("SET").arg(key).arg(1).arg("PX").arg(PROBE_TTL_MS);
            asking.cmd("EVAL").arg(PROBE).arg(1).arg(key);
            asking.cmd("MGET").arg(key).cmd("PTTL").arg(key);
            asking.exec_async(&mut connected.connection).await
        };
        let outcome = match tokio::time::timeout(PROBE_TIMEOUT, write).await {
            Ok(answered) => answered.map_err(|error| CacheError::Unavailable(Arc::new(error))),
            Err(late) => Err(CacheError::Unavailable(Arc::new(late))),
        };
        // A connection that was silently cut would never fail by itself.
        *self.standing() = outcome.is_ok().then_some(connected);
        outcome
    }

    async fn connect(&self) -> Result<MultiplexedConnection, CacheError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(ANSWER_TIMEOUT));
        let connecting = self.client.get_multiplexed_async_connection_with_config(&config);
        match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(connected) => connected.map_err(|error| CacheError::Unavailable(Arc::new(error))),
            Err(late) => Err(CacheError::Unavailable(Arc::new(late))),
        }
    }

    fn standing(&self) -> MutexGuard<'_, Option<Connected>> {
        // It is replaced whole, so a panic elsewhere takes nothing from it.
        self.connected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
