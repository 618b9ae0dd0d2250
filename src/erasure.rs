//! Finishes erasures: when the log says that a person is erased, their key, credentials and sessions are destroyed.
//!
//! The event comes first and this may be repeated, so an erasure that a crash cut short is finished after the restart.
use async_trait::async_trait;
use marvin_domain::{AggregateKind, Envelope, Event, Position, StreamId, user::UserEvent};
use moka::sync::Cache;
use std::sync::Arc;
use uuid::Uuid;

use crate::{
    log::{
        EventLog,
        checkpoint::Checkpoints,
        subscription::{FollowError, Follower},
    },
    process::keep_checkpoint,
    security::{sealer::Erasures, subjects::SubjectStore},
};

const NAME: &str = "erasure";
/// Erased people remembered, so that each reading of their events does not ask the log again.
const ERASED_CACHED_MAX: u64 = 100_000;
/// Events of a user's stream read at once.
const STREAM_PAGE_EVENTS: u32 = 1_000;

pub struct Eraser {
    subjects: Arc<dyn SubjectStore>,
    checkpoints: Arc<dyn Checkpoints>,
    stored: Position,
}

impl Eraser {
    pub fn new(subjects: Arc<dyn SubjectStore>, checkpoints: Arc<dyn Checkpoints>) -> Self {
        Self { subjects, checkpoints, stored: 0 }
    }
}

#[async_trait]
impl Follower for Eraser {
    fn name(&self) -> String {
        NAME.to_owned()
    }

    async fn resume(&mut self) -> Result<Position, FollowError> {
        self.stored = self.checkpoints.load(NAME).await.map_err(|error| FollowError::Again(error.to_string()))?;
        Ok(self.stored)
    }

    async fn take(&mut self, events: &[Arc<Envelope>]) -> Result<(), FollowError> {
        let mut acted = false;
        for event in events.iter().filter(|event| matches!(event.event, Event::User(UserEvent::Erased(_)))) {
            let forgotten = self.subjects.forget(event.stream.id).await;
            forgotten.map_err(|error| FollowError::Again(error.to_string()))?;
            acted = true;
        }
        self.stored = keep_checkpoint(&*self.checkpoints, NAME, events, acted, self.stored).await?;
        Ok(())
    }
}

/// Asks the person's own stream whether they were erased.
pub struct ErasedInLog {
    log: Arc<dyn EventLog>,
    erased: Cache<Uuid, ()>,
}

impl ErasedInLog {
    pub fn new(log: Arc<dyn EventLog>) -> Self {
        Self { log, erased: Cache::new(ERASED_CACHED_MAX) }
    }
}

#[async_trait]
impl Erasures for ErasedInLog {
    async fn is_erased(&self, subject: Uuid) -> Result<bool, String> {
        if self.erased.contains_key(&subject) {
            return Ok(true);
        }
        let (stream, mut after) = (StreamId { kind: AggregateKind::User, id: subject }, 0);
        loop {
            let rows =
                self.log.read_stream(stream, after, STREAM_PAGE_EVENTS).await.map_err(|error| error.to_string())?;
            let Some(last) = rows.last() else { return Ok(false) };
            after = last.sequence;
            if rows.iter().any(|row| row.event_type == "erased") {
                self.erased.insert(subject, ());
                return Ok(true);
            }
        }
    }
}
