//! Slots as rows of `log.db`.
use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, params};
use std::{collections::HashSet, time::Duration};
use uuid::Uuid;

use super::{Slots, Taken, is_outside};
use crate::{
    sqlite::{Database, NOW_MS},
    store::StoreError,
};

#[derive(Debug)]
pub struct SqliteSlots(pub Database);

impl SqliteSlots {
    /// Frees the slots that are held inside a process, and leaves those of workers outside. Only for the one process that owns the
    /// data directory, at its start: it knows that no other lives.
    ///
    /// # Errors
    /// When the store cannot be reached.
    pub async fn release_inside(&self) -> Result<(), StoreError> {
        self.0
            .write(|connection| {
                let mut statement = connection.prepare("SELECT holder FROM leases")?;
                let holders = statement.query_map([], |row| row.get::<_, Vec<u8>>(0))?;
                for holder in holders.collect::<rusqlite::Result<Vec<_>>>()? {
                    if !Uuid::from_slice(&holder).is_ok_and(is_outside) {
                        connection.execute("DELETE FROM leases WHERE holder = ?1", [holder])?;
                    }
                }
                Ok(())
            })
            .await
    }
}

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
    // Who took a slot before the limit was lowered is still at work, and counts.
    let free = (1..=slots_max).find(|slot| !used.contains(slot)).filter(|_| used.len() < slots_max as usize);
    let Some(slot) = free else { return Ok(Taken::Full) };
    connection
        .prepare_cached(&format!(
            "INSERT INTO leases (agent_id, slot, task_id, holder, expires_at) VALUES (?1, ?2, ?3, ?4, {NOW_MS} + ?5)"
        ))?
        .execute(params![bytes(&agent), slot, bytes(&task), bytes(&holder), ttl])?;
    Ok(Taken::Yes)
}

fn release(connection: &Connection, task: Uuid, holder: Uuid) -> rusqlite::Result<u32> {
    let agent: Option<Vec<u8>> = connection
        .prepare_cached("DELETE FROM leases WHERE task_id = ?1 AND holder = ?2 RETURNING agent_id")?
        .query_row(params![bytes(&task), bytes(&holder)], |row| row.get(0))
        .optional()?;
    let Some(agent) = agent else { return Ok(0) };
    connection
        .prepare_cached("SELECT count(*) + 1 FROM leases WHERE agent_id = ?1")?
        .query_row([agent], |row| row.get(0))
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

    async fn release(&self, task: Uuid, holder: Uuid) -> Result<u32, StoreError> {
        self.0.write(move |connection| Ok(release(connection, task, holder)?)).await
    }

    async fn held(&self) -> Result<HashSet<Uuid>, StoreError> {
        let sql = format!("SELECT task_id FROM leases WHERE expires_at > {NOW_MS}");
        self.0.read(move |connection| tasks(connection, &sql, [])).await
    }
}
