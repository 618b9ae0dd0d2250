//! Which history the log tells. A log that is set back and goes on tells another one from there, under a new name.
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::checkpoint::Checkpoint;
use crate::store::StoreError;

pub mod postgres;
pub mod sqlite;

/// A history of the log. The first is drawn when the log is made, the next ones when somebody accepts that it was set back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Incarnation {
    /// Random: no two histories share one.
    pub id: Uuid,
    /// The last event that it shares with the one before; [`Checkpoint::START`] for the first.
    pub behind: Checkpoint,
    pub drawn_at: DateTime<Utc>,
}

/// The histories of one log, kept beside its events.
#[async_trait]
pub trait Incarnations: Send + Sync {
    /// The present one.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn newest(&self) -> Result<Incarnation, StoreError>;

    /// Begins a new one behind this event. Each call begins another one.
    ///
    /// # Errors
    /// When the store cannot be reached; then the present one may stand or a new one.
    async fn draw(&self, behind: Checkpoint) -> Result<Incarnation, StoreError>;
}
