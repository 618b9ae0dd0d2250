//! Slots as rows of the log's schema, for any number of nodes.
use async_trait::async_trait;
use std::{collections::HashSet, time::Duration};
use uuid::Uuid;

use super::{Slots, Taken};
use crate::{postgres::Postgres, store::StoreError};

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
            .query("SELECT take_slot($1, $2, $3, $4, $5)", &[&agent, &slots_max, &task, &holder, &millis(ttl)])
            .await?;
        Ok(match rows[0].get(0) {
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

    async fn release(&self, task: Uuid, holder: Uuid) -> Result<(), StoreError> {
        self.0.execute("DELETE FROM leases WHERE task_id = $1 AND holder = $2", &[&task, &holder]).await.map(drop)
    }

    async fn held(&self) -> Result<HashSet<Uuid>, StoreError> {
        let rows = self.0.query("SELECT task_id FROM leases WHERE expires_at > clock_timestamp()", &[]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }
}
