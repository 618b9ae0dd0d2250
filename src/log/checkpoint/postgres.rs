//! Checkpoints as rows of the log's schema. With several nodes the last writer wins: one that comes late may set a checkpoint
//! back, and then a batch is done again, which every follower bears.
use async_trait::async_trait;

use super::{Checkpoint, Checkpoints};
use crate::{postgres::Postgres, store::StoreError};

#[derive(Debug)]
pub struct PostgresCheckpoints(pub Postgres);

#[async_trait]
impl Checkpoints for PostgresCheckpoints {
    async fn load(&self, name: &str) -> Result<Option<Checkpoint>, StoreError> {
        let rows = self.0.query("SELECT position, event_id FROM checkpoints WHERE name = $1", &[&name]).await?;
        Ok(rows.first().map(|row| Checkpoint { position: row.get::<_, i64>(0).cast_unsigned(), event_id: row.get(1) }))
    }

    async fn store(&self, name: &str, checkpoint: Checkpoint) -> Result<(), StoreError> {
        let Checkpoint { position, event_id } = checkpoint;
        let sql = "INSERT INTO checkpoints (name, position, event_id) VALUES ($1, $2, $3) \
                   ON CONFLICT (name) DO UPDATE SET position = excluded.position, event_id = excluded.event_id";
        self.0.execute(sql, &[&name, &position.cast_signed(), &event_id]).await.map(drop)
    }
}
