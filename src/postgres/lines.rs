//! Connections whose bytes are moved by whoever asks, in the same task: waking another task for that, and being woken by it, takes as
//! long as the server takes for a small statement.
use deadpool::{
    Runtime,
    managed::{Manager, Metrics, Object, Pool, PoolError, QueueMode, RecycleError, RecycleResult},
};
use futures_util::FutureExt;
use std::{collections::HashMap, future::poll_fn, io, sync::Arc};
use tokio_postgres::{Client, Error, Statement};

use super::{Postgres, STATEMENT_TIMEOUT, Wire};
use crate::store::StoreError;

/// As many ask at once; others wait for one of these, in the order in which they came.
const LINES_MAX: usize = 4;

/// One connection, set up.
pub struct Line {
    pub client: Client,
    pub wire: Wire,
    pub statements: Statements,
    /// Something was asked and not answered to its end. Nobody else is to wait behind that.
    pub is_asked: bool,
}

/// What was prepared on a connection, by its text.
#[derive(Default)]
pub struct Statements(HashMap<String, Statement>);

impl Statements {
    /// # Errors
    /// As the server has them.
    pub async fn prepare(&mut self, client: &Client, sql: &str) -> Result<Statement, Error> {
        if let Some(prepared) = self.0.get(sql) {
            return Ok(prepared.clone());
        }
        let prepared = client.prepare(sql).await?;
        self.0.insert(sql.to_owned(), prepared.clone());
        Ok(prepared)
    }
}

impl Line {
    /// # Errors
    /// `Unreachable`.
    pub async fn connect(postgres: &Postgres) -> Result<Self, StoreError> {
        let (client, mut wire) = postgres.dedicated().await?;
        over(&mut wire, postgres.set_up(&client)).await?;
        Ok(Self { client, wire, statements: Statements::default(), is_asked: false })
    }

    /// Whether the server ended it while nobody asked.
    fn is_over(&mut self) -> bool {
        let message = poll_fn(|context| self.wire.poll_message(context));
        // A notice is no end; nothing has come from a server that is well.
        matches!(message.now_or_never(), Some(None | Some(Err(_))))
    }
}

/// Waits for an answer while moving the bytes of its connection.
///
/// # Errors
/// `Unreachable` when it is late or the connection ended, or what was answered.
pub async fn over<T, E: Into<StoreError>>(
    wire: &mut Wire,
    asking: impl Future<Output = Result<T, E>>,
) -> Result<T, StoreError> {
    let moving = async {
        tokio::select! {
            biased;
            answer = asking => answer.map_err(Into::into),
            // However it ended, nothing more comes this way.
            ended = &mut *wire => Err(StoreError::Unreachable(match ended {
                Err(error) => Arc::new(error),
                Ok(()) => Arc::new(io::Error::from(io::ErrorKind::ConnectionReset)),
            })),
        }
    };
    match tokio::time::timeout(STATEMENT_TIMEOUT, moving).await {
        Ok(answer) => answer,
        Err(late) => Err(StoreError::Unreachable(Arc::new(late))),
    }
}

/// A few lines, which go back when they are dropped.
#[derive(Clone)]
pub struct Lines(Pool<Lender>);

struct Lender(Postgres);

impl Manager for Lender {
    type Type = Line;
    type Error = StoreError;

    async fn create(&self) -> Result<Line, StoreError> {
        Line::connect(&self.0).await
    }

    async fn recycle(&self, line: &mut Line, _: &Metrics) -> RecycleResult<StoreError> {
        if line.is_asked || line.is_over() {
            return Err(RecycleError::message("its answer was not taken to the end, or it ended"));
        }
        Ok(())
    }
}

impl Lines {
    /// None is connected yet.
    pub fn new(postgres: &Postgres) -> Self {
        let timeout = Some(postgres.own.connect_timeout);
        let pool = Pool::builder(Lender(postgres.clone()))
            .max_size(LINES_MAX)
            .queue_mode(QueueMode::Lifo)
            .runtime(Runtime::Tokio1)
            .wait_timeout(timeout)
            .create_timeout(timeout)
            .build();
        Self(pool.expect("a runtime is given for the timeouts"))
    }

    /// # Errors
    /// `Unreachable` when none can be had in time, or that of [`Line::connect`].
    pub async fn get(&self) -> Result<Object<impl Manager<Type = Line>>, StoreError> {
        self.0.get().await.map_err(|error| match error {
            PoolError::Backend(error) => error,
            other => StoreError::Unreachable(Arc::new(other)),
        })
    }
}
