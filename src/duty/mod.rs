//! Duties: what one process at a time does for all of them, leased on the database's time.
//!
//! A lease says who may begin, not who still works: a process that was stopped for longer than its lease may go on behind its
//! successor. What a duty writes to therefore demands the lease's token, a number that no other lease of the duty ever has.
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use std::time::Duration;
use uuid::Uuid;

use crate::store::StoreError;

pub mod holder;
pub mod postgres;
pub mod sqlite;

/// A lease that has not run out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    pub duty: String,
    pub holder: Uuid,
    pub token: u64,
    pub expires_at: DateTime<Utc>,
}

/// The leases of all duties. A duty is known from the first time that somebody takes it.
#[async_trait]
pub trait Duties: Send + Sync {
    /// Takes the duty for `holder`, an id that a process draws at its start, and answers the lease's token: one more than that of
    /// the lease before, whoever had that. A lease that the holder still has is prolonged, under its token. None while somebody
    /// else has it.
    ///
    /// # Errors
    /// When the store cannot be reached; the duty may be the holder's then, until the lease runs out.
    async fn take(&self, duty: &str, holder: Uuid, ttl: Duration) -> Result<Option<u64>, StoreError>;

    /// Prolongs all leases of a holder that have not run out, and answers them by duty, with their tokens. Whoever misses one of
    /// its duties there has lost it.
    ///
    /// # Errors
    /// When the store cannot be reached; whether they are prolonged is then unknown.
    async fn renew(&self, holder: Uuid, ttl: Duration) -> Result<Vec<(String, u64)>, StoreError>;

    /// Ends the lease if `holder` has it. Safe to repeat.
    ///
    /// # Errors
    /// When the store cannot be reached; the lease then runs out by itself.
    async fn release(&self, duty: &str, holder: Uuid) -> Result<(), StoreError>;

    /// The leases that have not run out, by duty.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn held(&self) -> Result<Vec<Held>, StoreError>;

    /// Lets every later lease of the duty have a token above this one. For a store that was restored apart from what its tokens
    /// were written to. Changes nothing where that is so already.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn pass(&self, duty: &str, token: u64) -> Result<(), StoreError>;
}

fn millis(ttl: Duration) -> i64 {
    i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX)
}
