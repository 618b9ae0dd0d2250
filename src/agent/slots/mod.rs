//! Slots: an agent's `max_concurrency` as so many rows, each leased to one task at a time on the database's time.
//!
//! A slot says that somebody works on a task now; the log says what was done. A lease that runs out changes nothing by itself:
//! the worker's sweep finds the task without one and records the lost heartbeat.
use async_trait::async_trait;
use std::{collections::HashSet, time::Duration};
use uuid::Uuid;

use crate::store::StoreError;

pub mod postgres;
pub mod sqlite;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// The slot is the holder's until its lease runs out.
    Yes,
    /// The agent runs as many tasks as it may.
    Full,
    /// Somebody works on this task already.
    Held,
}

/// Holders inside our processes are drawn, as UUIDv7; those outside follow from their lease, as UUIDv8.
const OUTSIDE_VERSION: usize = 8;

/// Whether this holder is a worker outside, who outlives the process that took the slot.
pub fn is_outside(holder: Uuid) -> bool {
    holder.get_version_num() == OUTSIDE_VERSION
}

#[async_trait]
pub trait Slots: Send + Sync {
    /// Takes one of the agent's `slots_max` slots for a task, for `holder`: an id drawn for this claim alone.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn take(
        &self,
        agent: Uuid,
        slots_max: u32,
        task: Uuid,
        holder: Uuid,
        ttl: Duration,
    ) -> Result<Taken, StoreError>;

    /// Prolongs the leases of these holders and answers those that still have theirs.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn renew(&self, holders: Vec<Uuid>, ttl: Duration) -> Result<HashSet<Uuid>, StoreError>;

    /// Frees the task's slot if `holder` has it. Safe to repeat. Answers how many slots of the agent were taken before, this one
    /// among them; 0 when the holder had none.
    ///
    /// # Errors
    /// When the store cannot be reached; the lease then runs out by itself.
    async fn release(&self, task: Uuid, holder: Uuid) -> Result<u32, StoreError>;

    /// The tasks whose lease has not run out.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn held(&self) -> Result<HashSet<Uuid>, StoreError>;
}
