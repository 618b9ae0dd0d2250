//! How far each follower of the log came.
use async_trait::async_trait;
use marvin_domain::{Envelope, Position};
use rusqlite::{OptionalExtension, params};
use std::sync::Arc;
use uuid::Uuid;

use super::subscription::FollowError;
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

/// A checkpoint is written after this many events even when none was of concern, so that a restart re-reads at most these.
pub const IDLE_EVENTS_MAX: u64 = 2_000;

/// Writes the checkpoint behind a batch, unless nothing in it mattered and the last one is near. Answers what is stored.
///
/// # Errors
/// `Again` when the store cannot be reached.
pub async fn keep_checkpoint(
    checkpoints: &dyn Checkpoints,
    name: &'static str,
    events: &[Arc<Envelope>],
    acted: bool,
    stored: Position,
) -> Result<Position, FollowError> {
    match events.last() {
        Some(last) if acted || last.position - stored >= IDLE_EVENTS_MAX => {
            let kept = checkpoints.store(name, last.position, last.event_id).await;
            kept.map_err(|error| FollowError::Again(error.to_string()))?;
            Ok(last.position)
        }
        _ => Ok(stored),
    }
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
