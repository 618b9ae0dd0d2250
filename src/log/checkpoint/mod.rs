//! How far each follower of the log came, and which event stood there.
use async_trait::async_trait;
use marvin_domain::{Envelope, Position};
use std::sync::Arc;

use crate::store::StoreError;

pub mod postgres;
pub mod sqlite;

pub use marvin_domain::Checkpoint;

/// Checkpoints of followers that have no store of their own to keep them in.
#[async_trait]
pub trait Checkpoints: Send + Sync {
    /// The last event that the follower finished; none when it never ran.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn load(&self, name: &str) -> Result<Option<Checkpoint>, StoreError>;

    /// Remembers that everything up to the checkpoint is done. Safe to repeat; it may also lie before the last one.
    ///
    /// # Errors
    /// When the store cannot be reached; the follower will then do the batch again.
    async fn store(&self, name: &str, checkpoint: Checkpoint) -> Result<(), StoreError>;
}

/// A checkpoint is written after this many events even when none was of concern, so that a restart re-reads at most these.
pub const IDLE_EVENTS_MAX: u64 = 2_000;

/// Writes the checkpoint behind a batch, unless nothing in it mattered and the last one is near. Answers what is stored.
///
/// # Errors
/// When the store cannot be reached.
pub async fn keep_checkpoint(
    checkpoints: &dyn Checkpoints,
    name: &str,
    events: &[Arc<Envelope>],
    acted: bool,
    stored: Position,
) -> Result<Position, StoreError> {
    match events.last() {
        Some(last) if acted || last.position - stored >= IDLE_EVENTS_MAX => {
            checkpoints.store(name, Checkpoint::behind(last)).await?;
            Ok(last.position)
        }
        _ => Ok(stored),
    }
}
