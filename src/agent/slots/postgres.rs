//! Slots as rows of the log's schema, for any number of nodes.
use async_trait::async_trait;
use std::{collections::HashSet, time::Duration};
use uuid::Uuid;

use super::{Slots, Taken};
use crate::{postgres::Postgres, store::StoreError};

/// Has this transaction commit without waiting for the disk, which others who claim for the agent would wait for as well. A slot that
/// was taken is on disk before anybody works: the claim's event is committed behind it, and takes it along. One that was freed and
/// comes back by a crash is free when its lease has run out. A lease that is prolonged must stand, and waits.
const ASYNCHRONOUS: &str = "set_config('synchronous_commit', 'off', true)";

#[derive(Debug)]
pub struct PostgresSlots(pub Postgres);

fn millis(ttl: Duration) -> i64 {
    i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX)
}

#[async_trait]
impl Slots for PostgresSlots {
    async fn take(
        &self,
        agent: Uuid,
        slots_max: u32,
        task: Uuid,
        holder: Uuid,
        ttl: Duration,
    ) -> Result<Taken, StoreError> {
        let slots_max = i32::try_from(slots_max).unwrap_or(i32::MAX);
        let rows = self
            .0
            .query(
                &format!("SELECT {ASYNCHRONOUS}, take_slot($1, $2, $3, $4, $5)"),
                &[&agent, &slots_max, &task, &holder, &millis(ttl)],
            )
            .await?;
        Ok(match rows[0].get(1) {
            "yes" => Taken::Yes,
            "full" => Taken::Full,
            _ => Taken::Held,
        })
    }

    async fn renew(&self, holders: Vec<Uuid>, ttl: Duration) -> Result<HashSet<Uuid>, StoreError> {
        let sql = "UPDATE leases SET expires_at = clock_timestamp() + $2::bigint * interval '1 millisecond' \
                   WHERE holder = ANY ($1) AND expires_at > clock_timestamp() RETURNING holder";
        let rows = self.0.query(sql, &[&holders, &millis(ttl)]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    async fn release(&self, task: Uuid, holder: Uuid) -> Result<u32, StoreError> {
        // What is counted is what was there before.
        let sql = format!(
            "WITH freed AS (DELETE FROM leases WHERE task_id = $1 AND holder = $2 RETURNING agent_id) \
             SELECT {ASYNCHRONOUS}, count(*) FROM leases WHERE agent_id IN (SELECT agent_id FROM freed)"
        );
        let rows = self.0.query(&sql, &[&task, &holder]).await?;
        Ok(u32::try_from(rows[0].get::<_, i64>(1)).unwrap_or(u32::MAX))
    }

    async fn held(&self) -> Result<HashSet<Uuid>, StoreError> {
        let rows = self.0.query("SELECT task_id FROM leases WHERE expires_at > clock_timestamp()", &[]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }
}
