//! How far each follower of the log came.
use async_trait::async_trait;
use marvin_domain::Position;
use rusqlite::{OptionalExtension, params};
use uuid::Uuid;

use crate::sqlite::{Database, StoreError};

/// Checkpoints of followers that have no store of their own to keep them in.
#[async_trait]
pub trait Checkpoints: Send + Sync {
    /// The last position that the follower finished; 0 when it never ran.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn load(&self, name: &'static str) -> Result<Position, StoreError>;

    /// Remembers that everything up to `position`, where `event_id` stands, is done.
    ///
    /// # Errors
    /// When the store cannot be reached; the follower will then do the batch again.
    async fn store(&self, name: &'static str, position: Position, event_id: Uuid) -> Result<(), StoreError>;
}

#[derive(Debug)]
pub struct SqliteCheckpoints(pub Database);

#[async_trait]
impl Checkpoints for SqliteCheckpoints {
    async fn load(&self, name: &'static str) -> Result<Position, StoreError> {
        self.0
            .read(move |connection| {
                let position: Option<i64> = connection
                    .prepare_cached("SELECT position FROM checkpoints WHERE name = ?1")?
                    .query_row([name], |row| row.get(0))
                    .optional()?;
                Ok(position.map_or(0, i64::cast_unsigned))
            })
            .await
    }

    async fn store(&self, name: &'static str, position: Position, event_id: Uuid) -> Result<(), StoreError> {
        self.0
            .write(move |connection| {
                connection
                    .prepare_cached(
                        "INSERT OR REPLACE INTO checkpoints (name, position, event_id) VALUES (?1, ?2, ?3)",
                    )?
                    .execute(params![name, position.cast_signed(), event_id.as_bytes().as_slice()])?;
                Ok(())
            })
            .await
    }
}
