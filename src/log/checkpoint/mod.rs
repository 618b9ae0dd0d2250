//! How far each follower of the log came.
use async_trait::async_trait;
use marvin_domain::{Envelope, Position};
use std::sync::Arc;
use uuid::Uuid;

use super::subscription::FollowError;
use crate::store::StoreError;

pub mod sqlite;

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
