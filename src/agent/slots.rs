//! Slots: an agent's `max_concurrency` as so many rows, each leased to one task at a time on the database's time.
//!
//! A slot says that somebody works on a task now; the log says what was done. A lease that runs out changes nothing by itself:
//! the worker's sweep finds the task without one and records the lost heartbeat.
use async_trait::async_trait;
use rusqlite::{Connection, params};
use std::{collections::HashSet, time::Duration};
use uuid::Uuid;

use crate::sqlite::{Database, StoreError};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// The slot is the holder's until its lease runs out.
    Yes,
    /// The agent runs as many tasks as it may.
    Full,
    /// Somebody works on this task already.
    Held,
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

    /// Frees the task's slot if `holder` has it. Safe to repeat.
    ///
    /// # Errors
    /// When the store cannot be reached; the lease then runs out by itself.
    async fn release(&self, task: Uuid, holder: Uuid) -> Result<(), StoreError>;

    /// The tasks whose lease has not run out.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn held(&self) -> Result<HashSet<Uuid>, StoreError>;

    /// Frees all slots. Only for who knows that no holder lives, as the one process that owns the data directory does at start.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn release_all(&self) -> Result<(), StoreError>;
}

/// Milliseconds since 1970 by the database's clock.
const NOW_MS: &str = "CAST(unixepoch('subsec') * 1000 AS INTEGER)";

#[derive(Debug)]
pub struct SqliteSlots(pub Database);

fn bytes(id: &Uuid) -> &[u8] {
    id.as_bytes()
}

fn millis(ttl: Duration) -> i64 {
    i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX)
}

fn take(
    connection: &Connection,
    agent: Uuid,
    slots_max: u32,
    task: Uuid,
    holder: Uuid,
    ttl: i64,
) -> rusqlite::Result<Taken> {
    let held = connection
        .prepare_cached(&format!("SELECT 1 FROM leases WHERE task_id = ?1 AND expires_at > {NOW_MS}"))?
        .exists([bytes(&task)])?;
    if held {
        return Ok(Taken::Held);
    }
    connection
        .prepare_cached(&format!(
            "DELETE FROM leases WHERE task_id = ?1 OR (agent_id = ?2 AND expires_at <= {NOW_MS})"
        ))?
        .execute(params![bytes(&task), bytes(&agent)])?;
    let used: HashSet<u32> = connection
        .prepare_cached("SELECT slot FROM leases WHERE agent_id = ?1")?
        .query_map([bytes(&agent)], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let Some(slot) = (1..=slots_max).find(|slot| !used.contains(slot)) else { return Ok(Taken::Full) };
    connection
        .prepare_cached(&format!(
            "INSERT INTO leases (agent_id, slot, task_id, holder, expires_at) VALUES (?1, ?2, ?3, ?4, {NOW_MS} + ?5)"
        ))?
        .execute(params![bytes(&agent), slot, bytes(&task), bytes(&holder), ttl])?;
    Ok(Taken::Yes)
}

fn tasks(connection: &Connection, sql: &str, params: impl rusqlite::Params) -> Result<HashSet<Uuid>, StoreError> {
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(params, |row| row.get::<_, Vec<u8>>(0))?;
    let ids = rows.filter_map(|row| row.map(|id| Uuid::from_slice(&id).ok()).transpose());
    Ok(ids.collect::<rusqlite::Result<_>>()?)
}

#[async_trait]
impl Slots for SqliteSlots {
    async fn take(
        &self,
        agent: Uuid,
        slots_max: u32,
        task: Uuid,
        holder: Uuid,
        ttl: Duration,
    ) -> Result<Taken, StoreError> {
        self.0.write(move |connection| Ok(take(connection, agent, slots_max, task, holder, millis(ttl))?)).await
    }

    async fn renew(&self, holders: Vec<Uuid>, ttl: Duration) -> Result<HashSet<Uuid>, StoreError> {
        self.0
            .write(move |connection| {
                let mut statement = connection.prepare_cached(&format!(
                    "UPDATE leases SET expires_at = {NOW_MS} + ?2 WHERE holder = ?1 AND expires_at > {NOW_MS}"
                ))?;
                let mut renewed = HashSet::with_capacity(holders.len());
                for holder in holders {
                    if statement.execute(params![bytes(&holder), millis(ttl)])? > 0 {
                        renewed.insert(holder);
                    }
                }
                Ok(renewed)
            })
            .await
    }

    async fn release(&self, task: Uuid, holder: Uuid) -> Result<(), StoreError> {
        self.0
            .write(move |connection| {
                connection
                    .prepare_cached("DELETE FROM leases WHERE task_id = ?1 AND holder = ?2")?
                    .execute(params![bytes(&task), bytes(&holder)])?;
                Ok(())
            })
            .await
    }

    async fn held(&self) -> Result<HashSet<Uuid>, StoreError> {
        let sql = format!("SELECT task_id FROM leases WHERE expires_at > {NOW_MS}");
        self.0.read(move |connection| tasks(connection, &sql, [])).await
    }

    async fn release_all(&self) -> Result<(), StoreError> {
        self.0.write(|connection| Ok(connection.execute("DELETE FROM leases", []).map(drop)?)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(60);
    /// Runs out at once, so that no test has to wait.
    const LAPSED: Duration = Duration::ZERO;

    async fn slots() -> (tempfile::TempDir, SqliteSlots) {
        let directory = tempfile::tempdir().unwrap();
        let log = crate::log::sqlite::SqliteLog::open(&directory.path().join("log.db")).unwrap();
        (directory, SqliteSlots(log.database().clone()))
    }

    fn id() -> Uuid {
        Uuid::now_v7()
    }

    #[tokio::test]
    async fn an_agent_has_as_many_slots_as_its_limit() {
        let (_directory, slots) = slots().await;
        let (agent, holder) = (id(), id());
        let (first, second, third) = (id(), id(), id());
        assert_eq!(slots.take(agent, 2, first, holder, TTL).await.unwrap(), Taken::Yes);
        assert_eq!(slots.take(agent, 2, second, holder, TTL).await.unwrap(), Taken::Yes);
        assert_eq!(slots.take(agent, 2, third, holder, TTL).await.unwrap(), Taken::Full);
        slots.release(first, holder).await.unwrap();
        assert_eq!(slots.take(agent, 2, third, holder, TTL).await.unwrap(), Taken::Yes);
    }

    #[tokio::test]
    async fn a_task_is_held_by_one_at_a_time_and_freed_only_by_its_holder() {
        let (_directory, slots) = slots().await;
        let (agent, task, holder, other) = (id(), id(), id(), id());
        assert_eq!(slots.take(agent, 4, task, holder, TTL).await.unwrap(), Taken::Yes);
        assert_eq!(slots.take(agent, 4, task, other, TTL).await.unwrap(), Taken::Held);
        slots.release(task, other).await.unwrap();
        assert_eq!(slots.held().await.unwrap(), HashSet::from([task]));
    }

    #[tokio::test]
    async fn a_lapsed_lease_is_neither_held_nor_renewed_and_its_slot_is_free() {
        let (_directory, slots) = slots().await;
        let (agent, task, holder) = (id(), id(), id());
        assert_eq!(slots.take(agent, 1, task, holder, LAPSED).await.unwrap(), Taken::Yes);
        assert!(slots.held().await.unwrap().is_empty());
        assert!(slots.renew(vec![holder], TTL).await.unwrap().is_empty());
        assert_eq!(slots.take(agent, 1, id(), id(), TTL).await.unwrap(), Taken::Yes);
    }
}
