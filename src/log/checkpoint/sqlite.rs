//! Checkpoints as rows of `log.db`.
use async_trait::async_trait;
use marvin_domain::Position;
use rusqlite::{OptionalExtension, params};
use uuid::Uuid;

use super::Checkpoints;
use crate::{sqlite::Database, store::StoreError};

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
