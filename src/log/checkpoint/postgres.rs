//! Checkpoints as rows of the log's schema. With several nodes the last writer wins: one that comes late may set a checkpoint
//! back, and then a batch is done again, which every follower bears.
use async_trait::async_trait;
use tokio_postgres::Row;

use super::{Checkpoint, Checkpoints};
use crate::{postgres::Postgres, store::StoreError};

#[derive(Debug)]
pub struct PostgresCheckpoints(pub Postgres);

impl PostgresCheckpoints {
    /// Every checkpoint that is kept, by name.
    ///
    /// # Errors
    /// When the store cannot be reached.
    pub async fn all(&self) -> Result<Vec<(String, Checkpoint)>, StoreError> {
        let rows = self.0.query("SELECT position, event_id, name FROM checkpoints ORDER BY name", &[]).await?;
        Ok(rows.iter().map(|row| (row.get(2), checkpoint(row))).collect())
    }
}

fn checkpoint(row: &Row) -> Checkpoint {
    Checkpoint { position: row.get::<_, i64>(0).cast_unsigned(), event_id: row.get(1) }
}

#[async_trait]
impl Checkpoints for PostgresCheckpoints {
    async fn load(&self, name: &str) -> Result<Option<Checkpoint>, StoreError> {
        let rows = self.0.query("SELECT position, event_id FROM checkpoints WHERE name = $1", &[&name]).await?;
        Ok(rows.first().map(checkpoint))
    }

    async fn store(&self, name: &str, checkpoint: Checkpoint) -> Result<(), StoreError> {
        let Checkpoint { position, event_id } = checkpoint;
        let sql = "INSERT INTO checkpoints (name, position, event_id) VALUES ($1, $2, $3) \
                   ON CONFLICT (name) DO UPDATE SET position = excluded.position, event_id = excluded.event_id";
        self.0.execute(sql, &[&name, &position.cast_signed(), &event_id]).await.map(drop)
    }
}
