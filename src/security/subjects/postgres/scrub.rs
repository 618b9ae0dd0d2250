//! Takes the bytes of deleted rows out of the tables' files, which deleting alone does not.
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::{Client, error::SqlState};

use super::{Tables, unavailable};
use crate::security::subjects::{Forgotten, SubjectsError};
use crate::store::StoreError;

/// How long the rewriting of one table may take: a million people take some seconds.
const REWRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long older transactions and readers are waited for, with pauses in which others get their turn. Ours end within
/// milliseconds; for a stranger's that take longer, whoever asked comes again.
const PATIENCE: Duration = Duration::from_secs(5);
/// Pause before another look, and before another rewriting, which costs more each time; doubles.
const PAUSE_INITIAL: Duration = Duration::from_millis(10);

impl Tables {
    /// Rewrites these tables without what the transaction `gone`, or one before it, deleted; those that another node has
    /// rewritten since are left alone. Safe to repeat.
    ///
    /// # Errors
    /// `Unavailable` when somebody reads a table all the while, or has a transaction open that is older than `gone`, or another
    /// node's rewriting takes long.
    pub(super) async fn scrub(&self, tables: &[&str], gone: Forgotten) -> Result<(), SubjectsError> {
        let gone = gone.0.to_string();
        let deadline = Instant::now() + PATIENCE;
        // Outside the pool: it may take long, and under a limit of its own.
        let (client, wire) = self.postgres.dedicated().await.map_err(unavailable)?;
        // Ends with the client.
        tokio::spawn(wire);
        self.postgres.set_up(&client).await.map_err(unavailable)?;
        let limit = format!("SET statement_timeout = {}", REWRITE_TIMEOUT.as_millis());
        within(client.batch_execute(&limit)).await?;
        let mut pause = PAUSE_INITIAL;
        // A rewriting is in vain while a transaction runs that began before; this asks for those at little cost.
        while !self.asks(&client, "SELECT pg_snapshot_xmin(pg_current_snapshot()) > ($1::text)::xid8", &[&gone]).await?
        {
            pause = wait(pause, deadline).await?;
        }
        // Each table in a transaction of its own: none is held while another is waited for.
        for table in tables {
            while !self.asks(&client, "SELECT $S.scrub($1, ($2::text)::xid8)", &[table, &gone]).await? {
                pause = wait(pause, deadline).await?;
            }
        }
        Ok(())
    }

    /// False also when a lock could not be had: then it is not time yet either.
    async fn asks(
        &self,
        client: &Client,
        sql: &str,
        parameters: &[crate::postgres::Parameter<'_>],
    ) -> Result<bool, SubjectsError> {
        let sql = self.sql(sql);
        let asking = async {
            match client.query_one(&sql, parameters).await {
                Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => Ok(false),
                answered => Ok(answered?.get(0)),
            }
        };
        within(asking).await
    }
}

async fn within<T>(asking: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T, SubjectsError> {
    match timeout(REWRITE_TIMEOUT, asking).await {
        Ok(answered) => answered.map_err(unavailable),
        Err(late) => Err(unavailable(StoreError::Unreachable(Arc::new(late)))),
    }
}

async fn wait(pause: Duration, deadline: Instant) -> Result<Duration, SubjectsError> {
    if Instant::now() + pause > deadline {
        return Err(SubjectsError::unavailable("another transaction holds on to what was deleted"));
    }
    sleep(pause).await;
    Ok(pause * 2)
}
