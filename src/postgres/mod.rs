//! One PostgreSQL database: connections that are set up alike, a pool of them, and what goes wrong told in the ports' words.
//!
//! Knows nothing of tables. The log, the slots and the subjects each bring their own statements. An instance has a schema of its
//! own name, another for its subjects, so that the two can be backed up apart, and a third for what needs no backup: its views.
use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime};
use std::{sync::Arc, time::Duration};
use tokio::time::error::Elapsed;
use tokio_postgres::{Client, Config, Connection, Row, Socket, tls::MakeTlsConnect, types::ToSql};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::store::StoreError;

mod failure;
pub mod lines;
mod migrate;
mod tls;
pub use migrate::PrepareError;

/// Connections of the pool, for short statements. The log has others beside it: its writer and its listener one each, its readers
/// [`lines`] for pages and as many for streams. docs/postgresql.md has the sum.
const POOL_CONNECTIONS_MAX: usize = 8;
/// How long each host of the URL may take to accept a connection; a dead one must leave time for the next.
const HOST_TIMEOUT: Duration = Duration::from_secs(2);
/// How long login and set-up may take beyond that.
const SETUP_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a statement may take, sending and answer included. What a page of the log or a batch takes is far below.
pub const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a statement waits for a lock, and how long a transaction may idle: who holds one longer has gone.
const LOCK_TIMEOUT_MS: u64 = 3_000;
/// Unanswered bytes end a connection after this long.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

type TlsStream = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;
/// The half that moves the bytes of a connection of its own.
pub type Wire = Connection<Socket, TlsStream>;
pub type Parameter<'a> = &'a (dyn ToSql + Sync);

/// A handle that may be cloned.
#[derive(Clone)]
pub struct Postgres {
    pool: Pool,
    own: Arc<Own>,
}

struct Own {
    config: Config,
    tls: MakeRustlsConnect,
    instance: String,
    setup: String,
    connect_timeout: Duration,
}

impl std::fmt::Debug for Postgres {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Postgres({})", self.own.instance)
    }
}

impl Postgres {
    /// A handle on the tables of `instance`, which must be there: see [`prepare`](Self::prepare). Nothing is connected yet.
    ///
    /// # Errors
    /// In words, when TLS cannot be set up.
    fn new(mut config: Config, instance: &str) -> Result<Self, String> {
        let connect_timeout =
            HOST_TIMEOUT * u32::try_from(config.get_hosts().len().max(1)).unwrap_or(u32::MAX) + SETUP_TIMEOUT;
        config.connect_timeout(HOST_TIMEOUT).tcp_user_timeout(ANSWER_TIMEOUT).keepalives_idle(ANSWER_TIMEOUT);
        config.application_name(format!("marvin {instance}"));
        let tls = tls::connector()?;
        let setup = setup(instance);
        let on_create = setup.clone();
        let manager = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let pool = Pool::builder(Manager::from_config(config.clone(), tls.clone(), manager))
            .max_size(POOL_CONNECTIONS_MAX)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(connect_timeout))
            .create_timeout(Some(connect_timeout))
            .recycle_timeout(Some(connect_timeout))
            .post_create(Hook::async_fn(move |client, _| {
                let setup = on_create.clone();
                Box::pin(async move { client.batch_execute(&setup).await.map_err(HookError::Backend) })
            }))
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self { pool, own: Arc::new(Own { config, tls, instance: instance.to_owned(), setup, connect_timeout }) })
    }

    /// The instance, which is also the name of the log's schema.
    pub fn instance(&self) -> &str {
        &self.own.instance
    }

    /// Runs one statement of its own transaction and answers its rows once that is committed.
    ///
    /// # Errors
    /// See [`StoreError`]. After `Unreachable` the statement may have been done.
    pub async fn query(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<Vec<Row>, StoreError> {
        let client = self.client().await?;
        let asking = async {
            let statement = client.prepare_cached(sql).await?;
            client.query(&statement, parameters).await
        };
        let answered = tokio::time::timeout(STATEMENT_TIMEOUT, asking).await;
        settle(client, answered)
    }

    /// As [`query`](Self::query), for a statement that answers no rows. Answers how many it touched.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    pub async fn execute(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<u64, StoreError> {
        let client = self.client().await?;
        let asking = async {
            let statement = client.prepare_cached(sql).await?;
            client.execute(&statement, parameters).await
        };
        let answered = tokio::time::timeout(STATEMENT_TIMEOUT, asking).await;
        settle(client, answered)
    }

    /// A connection of the pool, set up; it goes back when it is dropped. For what needs more than one statement.
    ///
    /// # Errors
    /// `Unreachable` when none can be had in time.
    pub async fn client(&self) -> Result<Object, StoreError> {
        // The pool's own limits leave out the set-up, at which a server or a pooler may stall as well.
        let got = tokio::time::timeout(self.own.connect_timeout, self.pool.get()).await;
        got.map_err(|late| StoreError::Unreachable(Arc::new(late)))?.map_err(|error| match error {
            PoolError::Backend(error) => error.into(),
            PoolError::PostCreateHook(HookError::Backend(error)) => error.into(),
            other => StoreError::Unreachable(Arc::new(other)),
        })
    }

    /// Lets go of every statement that connections of the pool have prepared: of those that were written for a table that is gone,
    /// others would pile up. What is used again is prepared again.
    pub fn forget_statements(&self) {
        self.pool.manager().statement_caches.clear();
    }

    /// A connection outside the pool, set up once `wire` is polled: see [`set_up`](Self::set_up).
    ///
    /// # Errors
    /// `Unreachable` when none can be had in time.
    pub async fn dedicated(&self) -> Result<(Client, Wire), StoreError> {
        let connecting = self.own.config.connect(self.own.tls.clone());
        match tokio::time::timeout(self.own.connect_timeout, connecting).await {
            Ok(connected) => Ok(connected?),
            Err(late) => Err(StoreError::Unreachable(Arc::new(late))),
        }
    }

    /// Makes a dedicated connection one of the instance's: role, schema, limits.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn set_up(&self, client: &Client) -> Result<(), StoreError> {
        match tokio::time::timeout(STATEMENT_TIMEOUT, client.batch_execute(&self.own.setup)).await {
            Ok(done) => Ok(done?),
            Err(late) => Err(StoreError::Unreachable(Arc::new(late))),
        }
    }
}

/// Gives the connection back, unless it is lost, or its answer late: that may still come, and nobody else must wait behind it.
///
/// # Errors
/// `Unreachable` when it is late, or what was answered.
pub fn settle<T, E: Into<StoreError>>(
    client: Object,
    answered: Result<Result<T, E>, Elapsed>,
) -> Result<T, StoreError> {
    let answered = answered.map_err(|late| StoreError::Unreachable(Arc::new(late)));
    let answered = answered.and_then(|answered| answered.map_err(Into::into));
    if matches!(answered, Err(StoreError::Unreachable(_))) {
        drop(Object::take(client));
    }
    answered
}

/// The schema of the instance's subjects.
pub fn subjects_schema(instance: &str) -> String {
    format!("{instance}_subjects")
}

/// The schema of the instance's views.
pub fn views_schema(instance: &str) -> String {
    format!("{instance}_views")
}

fn app_role(instance: &str) -> String {
    format!("{instance}_app")
}

/// What every runtime connection runs first. An instance's name is checked by the settings: it needs no quoting, and has it.
fn setup(instance: &str) -> String {
    let (role, statement_ms) = (app_role(instance), STATEMENT_TIMEOUT.as_millis());
    format!(
        // The database may have other defaults; the log's promises do not depend on them.
        "SET default_transaction_isolation = 'read committed'; SET synchronous_commit = on; \
         SET search_path = \"{instance}\"; SET TimeZone = 'UTC'; SET jit = off; \
         SET lock_timeout = {LOCK_TIMEOUT_MS}; SET idle_in_transaction_session_timeout = {LOCK_TIMEOUT_MS}; \
         SET statement_timeout = {statement_ms}; SET ROLE \"{role}\""
    )
}
