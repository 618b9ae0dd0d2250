//! Finishes erasures: when the log says that a person is erased, their key, credentials and sessions are destroyed.
//!
//! The event comes first and this may be repeated, so an erasure that a crash cut short is finished after the restart. Rows are
//! deleted at once, whatever holds up the rewriting of files: that is done beside it, and the checkpoint waits for it.
use async_trait::async_trait;
use marvin_domain::{Envelope, Event, Position, user::UserEvent};
use std::{sync::Arc, time::Duration};
use tokio::{sync::watch, time::sleep};
use tracing::warn;
use uuid::Uuid;

use super::{NAME, followed};
use crate::{
    health::Health,
    log::{
        checkpoint::{Checkpoint, IDLE_EVENTS_MAX},
        subscription::{FollowError, Follower},
    },
    security::subjects::{Forgotten, SubjectStore, SubjectsError},
};

/// In `/readyz`, while bytes of the erased wait in the files.
const SCRUB_NAME: &str = "erasure-scrub";
/// Pause before a rewriting that failed is tried again; doubles up to the maximum.
const RETRY_INITIAL: Duration = Duration::from_millis(50);
/// Each try costs a connection for some seconds, and whoever holds it up does so for minutes.
const RETRY_MAX: Duration = Duration::from_secs(5);

/// How far events were taken, and what the erasures among them need before the checkpoint may stand there.
#[derive(Clone, Copy)]
struct Taken {
    up_to: Checkpoint,
    /// The last batch with erasures, counted since the start, and when those were forgotten.
    erasing: Option<(u64, Forgotten)>,
}

/// Deletes who is erased. It never moves the checkpoint: see [`Scrubber`].
pub struct Eraser {
    subjects: Arc<dyn SubjectStore>,
    erasing: Option<(u64, Forgotten)>,
    taken: watch::Sender<Option<Taken>>,
}

/// Takes the bytes of the deleted out of the files, and then moves the checkpoint.
///
/// That stands beside the keys: a restored store of subjects is behind again, and forgets again.
pub struct Scrubber {
    subjects: Arc<dyn SubjectStore>,
    taken: watch::Receiver<Option<Taken>>,
    /// What is being finished. Later erasures wait their turn: their moment would put off the end of these.
    current: Option<Taken>,
    /// The last batch with erasures whose bytes are gone.
    scrubbed: u64,
    stored: Option<Position>,
}

impl Eraser {
    /// Both halves; erasures are finished only where both are at work.
    pub fn new(subjects: Arc<dyn SubjectStore>) -> (Self, Scrubber) {
        let (taken, receiver) = watch::channel(None);
        let scrubber =
            Scrubber { subjects: subjects.clone(), taken: receiver, current: None, scrubbed: 0, stored: None };
        (Self { subjects, erasing: None, taken }, scrubber)
    }
}

fn again(error: SubjectsError) -> FollowError {
    FollowError::Again(error.to_string())
}

#[async_trait]
impl Follower for Eraser {
    fn name(&self) -> String {
        NAME.to_owned()
    }

    async fn resume(&mut self) -> Result<Position, FollowError> {
        let checkpoint = followed(&*self.subjects).await.map_err(again)?;
        Ok(checkpoint.map_or(0, |checkpoint| checkpoint.position))
    }

    async fn take(&mut self, events: &[Arc<Envelope>]) -> Result<(), FollowError> {
        let Some(last) = events.last() else { return Ok(()) };
        let is_erasure = |event: &&Arc<Envelope>| matches!(event.event, Event::User(UserEvent::Erased(_)));
        let erased: Vec<Uuid> = events.iter().filter(is_erasure).map(|event| event.stream.id).collect();
        if !erased.is_empty() {
            let forgotten = self.subjects.forget(&erased).await.map_err(again)?;
            self.erasing = Some((self.erasing.map_or(0, |(batch, _)| batch) + 1, forgotten));
        }
        self.taken.send_replace(Some(Taken { up_to: Checkpoint::behind(last), erasing: self.erasing }));
        Ok(())
    }
}

impl Scrubber {
    /// Finishes erasures until the process ends.
    pub async fn run(mut self, health: Health) {
        let mut pause = RETRY_INITIAL;
        loop {
            match self.settle().await {
                Ok(()) => {
                    if pause != RETRY_INITIAL {
                        health.recover(SCRUB_NAME);
                        pause = RETRY_INITIAL;
                    }
                    if self.taken.changed().await.is_err() {
                        return;
                    }
                    // Having waited for it counts as having seen it.
                    self.taken.mark_changed();
                }
                Err(error) => {
                    let reason = std::error::Error::source(&error).map_or(error.to_string(), ToString::to_string);
                    let position = self.stored;
                    warn!(reason, "bytes of erased people are still in the files; this will be tried again");
                    health.degrade(SCRUB_NAME, reason, position);
                    sleep(pause).await;
                    pause = (pause * 2).min(RETRY_MAX);
                }
            }
        }
    }

    /// Finishes everything that was forgotten. Cut short or failed, it may be called again, and goes on with the same erasures.
    ///
    /// # Errors
    /// As [`SubjectStore::scrub`]; the checkpoint did not move past what is not finished.
    pub async fn settle(&mut self) -> Result<(), SubjectsError> {
        loop {
            if self.current.is_none() {
                let taken = self.taken.borrow_and_update();
                if !taken.has_changed() {
                    return Ok(());
                }
                self.current = *taken;
            }
            if let Some(current) = self.current {
                self.finish(current).await?;
            }
            self.current = None;
        }
    }

    async fn finish(&mut self, taken: Taken) -> Result<(), SubjectsError> {
        let due = taken.erasing.filter(|(batch, _)| *batch > self.scrubbed);
        if let Some((_, forgotten)) = due {
            self.subjects.scrub(forgotten).await?;
        }
        let stored = match self.stored {
            Some(stored) => stored,
            None => followed(&*self.subjects).await?.map_or(0, |checkpoint| checkpoint.position),
        };
        self.stored = Some(stored);
        // The first batch is remembered too: from then on an empty log beside this store is known to be a lost one.
        if due.is_some() || stored == 0 || taken.up_to.position.saturating_sub(stored) >= IDLE_EVENTS_MAX {
            self.subjects.put_checkpoint(NAME, taken.up_to).await?;
            self.stored = Some(taken.up_to.position);
        }
        if let Some((batch, _)) = due {
            self.scrubbed = batch;
        }
        Ok(())
    }
}
