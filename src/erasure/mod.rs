//! What the log says of erasures: how far they are done, which of them a log that was set back has lost, and who is erased.
use async_trait::async_trait;
use marvin_domain::{
    Actor, AggregateKind, Directed, Event, Metadata, StreamId,
    instance::{self, InstanceCommand},
    user::UserErased,
};
use moka::sync::Cache;
use std::{collections::BTreeMap, sync::Arc};
use uuid::Uuid;

use crate::{
    dispatch::{CommandMeta, DispatchError, Dispatcher},
    log::{Append, EventLog, StreamAppend, checkpoint::Checkpoint, codec::Codec},
    security::{
        sealer::Erasures,
        subjects::{SubjectStore, SubjectsError},
    },
    store::StoreError,
};

mod eraser;
pub use eraser::{Eraser, Scrubber};

/// Names the checkpoint beside the keys.
pub const NAME: &str = "erasure";
/// Erased people remembered, so that each reading of their events does not ask the log again.
const ERASED_CACHED_MAX: u64 = 100_000;
/// People whose keys are asked for at once.
const PEOPLE_AT_ONCE: usize = 1_000;
/// Events of a user's stream read at once.
const STREAM_PAGE_EVENTS: u32 = 1_000;

/// How far the store of subjects has followed the log; none when it never did.
///
/// # Errors
/// When the store cannot be reached.
pub async fn followed(subjects: &dyn SubjectStore) -> Result<Option<Checkpoint>, SubjectsError> {
    subjects.checkpoint(NAME).await
}

/// Records erasures anew that a log which was set back no longer tells of: whoever is registered there, has lost their key, and is
/// not erased. Without this their words would stop every reader. Answers who they are; safe to repeat.
///
/// # Errors
/// When a store cannot be reached.
pub async fn record_lost(
    log: &Arc<dyn EventLog>,
    codec: &Codec,
    subjects: &dyn SubjectStore,
) -> Result<Vec<Uuid>, DispatchError> {
    let (mut standing, mut after) = (BTreeMap::new(), 0);
    loop {
        let rows = log.read(after, STREAM_PAGE_EVENTS).await?;
        let Some(last) = rows.last() else { break };
        after = last.position;
        for row in rows.iter().filter(|row| row.stream.kind == AggregateKind::User) {
            match row.event_type.as_str() {
                "erased" => standing.remove(&row.stream.id),
                _ => standing.insert(row.stream.id, row.sequence),
            };
        }
    }
    let people: Vec<Uuid> = standing.keys().copied().collect();
    let mut lost = Vec::new();
    // Few at a time: one statement for everybody would take too long.
    for people in people.chunks(PEOPLE_AT_ONCE) {
        let keys = subjects.keys(people).await.map_err(|error| DispatchError::Keys(error.to_string()))?;
        lost.extend(people.iter().filter(|user| !keys.contains_key(user)));
    }
    let dispatcher = Dispatcher::new(log.clone(), codec.clone());
    for user in &lost {
        let meta = CommandMeta::new(Actor::System);
        let (actor, correlation, command_id) = (meta.actor, meta.correlation, meta.command_id);
        let (stream, expected) = (StreamId { kind: AggregateKind::User, id: *user }, standing[user]);
        let metadata = Metadata { actor, subject: Some(*user), correlation, causation: None, digest: None };
        // Their stream cannot be opened, so no aggregate decides this; the missing key has decided it.
        let event = Event::User(UserErased {}.into());
        let event = codec.seal(stream, expected + 1, &event, &metadata).await;
        let events = vec![event.map_err(|error| DispatchError::Keys(error.to_string()))?];
        let streams = vec![StreamAppend { stream, expected, events }];
        let appended = log.append(Append { command_id, digest: None, streams }).await;
        appended.map_err(|error| DispatchError::Unavailable(StoreError::Commit(error.to_string())))?;
        let remove = Directed::new(instance::STREAM.id, InstanceCommand::RemoveAdministrator { user: *user });
        match dispatcher.dispatch(&CommandMeta::new(Actor::System), &[remove]).await {
            // The only administrator of that time stays one in name, so that there is always one.
            Ok(_) | Err(DispatchError::Refused(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(lost)
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
