//! Dispatches commands: loads the aggregates, lets them decide, appends what they decided, and decides again on a lost race.
//!
//! Reads streams only, never a view, and of events the facts, never a person's words. A cached aggregate is a guess that the append verifies.
use chrono::{DateTime, Utc};
use marvin_domain::{Actor, Command, Directed, Envelope, Event, Metadata, Refusal, Sequence, State, StreamId};
use std::{sync::Arc, time::Duration};
use tokio::sync::Semaphore;
use uuid::Uuid;

mod cache;
pub mod observer;

use cache::Aggregates;
pub use cache::Loaded;

use crate::{
    log::{Append, AppendError, EventLog, ReadError, Receipt, StreamAppend, codec::Codec, is_full},
    store::StoreError,
};

/// Aggregates kept between commands: some tens of MB of small states at most.
const CACHED_AGGREGATES_MAX: u64 = 20_000;
/// How often a command that lost a race decides again. Who loses four times in a row meets a crowd and should hear of it.
const RACES_MAX: u32 = 3;
/// How long a caller waits for a command. A store that takes longer is in trouble; the caller should hear of it and may ask again.
pub const DISPATCH_TIMEOUT: Duration = Duration::from_secs(10);
/// KiB of sealed events on their way to the log, whether or not somebody still waits for them: fifty of the largest tasks, or a
/// hundred thousand small commands. Beyond it callers wait their turn, so that memory stays bounded while the log is away.
const UNDER_WAY_KIB_MAX: u32 = 256 * 1024;
/// Events read at once while an aggregate is loaded.
const LOAD_PAGE_EVENTS: u32 = 1_000;

/// Who sent a command, why, and how a repetition is known.
#[derive(Debug, Clone)]
pub struct CommandMeta {
    pub actor: Actor,
    pub command_id: Uuid,
    /// An HMAC of the request, for commands that a client may repeat under a key.
    pub digest: Option<String>,
    pub correlation: Uuid,
    pub causation: Option<Uuid>,
    pub at: DateTime<Utc>,
}

impl CommandMeta {
    /// A command that stands for itself.
    pub fn new(actor: Actor) -> Self {
        let command_id = Uuid::now_v7();
        Self { actor, command_id, digest: None, correlation: command_id, causation: None, at: Utc::now() }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum DispatchError {
    /// The aggregate refuses; nothing was appended.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The stream is not where the caller's condition wants it; nothing was appended.
    #[error("the resource is at sequence {sequence} by now")]
    Stale { sequence: Sequence },
    /// Others were faster, several times. Try again.
    #[error("the resource was changed at the same time by others")]
    Contended,
    /// The command has not finished within [`DISPATCH_TIMEOUT`]. An append that was under way goes on, so the outcome is
    /// unknown: send the same command again under the same id.
    #[error("the command has not finished in time")]
    TimedOut,
    /// The command's id stands in the log under another request.
    #[error("this key was used for another request")]
    Reused,
    /// Nothing was appended. Ask for less.
    #[error("{0}")]
    TooLarge(String),
    /// The outcome is unknown, whatever the cause: an attempt whose answer was lost may have gone before. Send the same command again
    /// under the same id.
    #[error("the log is unavailable")]
    Unavailable(#[source] StoreError),
    /// The keys that events are sealed or opened under cannot be had.
    #[error("keys are unavailable: {0}")]
    Keys(String),
    /// The stream cannot be read; no command on it can be decided.
    #[error("a stream cannot be read: {0}")]
    Corrupt(String),
}

/// A stream, the state that a command led it to, and the sequence of its last event then.
type Led = (StreamId, State, Sequence);

impl From<ReadError> for DispatchError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Unavailable(error) => Self::Unavailable(error),
            ReadError::Keys(reason) => Self::Keys(reason),
            ReadError::Corrupt { .. } => Self::Corrupt(error.to_string()),
        }
    }
}

/// What a dispatcher may hold and how long it may take.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    pub cached_aggregates_max: u64,
    pub timeout: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { cached_aggregates_max: CACHED_AGGREGATES_MAX, timeout: DISPATCH_TIMEOUT }
    }
}

#[derive(Clone)]
pub struct Dispatcher {
    log: Arc<dyn EventLog>,
    codec: Codec,
    cache: Aggregates,
    timeout: Duration,
    under_way: Arc<Semaphore>,
}

/// A stream that a command touches, while it is being decided.
struct Working {
    stream: StreamId,
    base: Arc<Loaded>,
    state: State,
    events: Vec<Event>,
}

impl Dispatcher {
    pub fn new(log: Arc<dyn EventLog>, codec: Codec) -> Self {
        Self::bounded(log, codec, Bounds::default())
    }

    /// A dispatcher with bounds other than the usual ones.
    pub fn bounded(log: Arc<dyn EventLog>, codec: Codec, bounds: Bounds) -> Self {
        let Bounds { cached_aggregates_max, timeout } = bounds;
        let under_way = Arc::new(Semaphore::new(UNDER_WAY_KIB_MAX as usize));
        Self { log, codec, cache: Aggregates::new(cached_aggregates_max), timeout, under_way }
    }

    /// How many aggregates are cached.
    pub fn cached_count(&self) -> u64 {
        self.cache.count()
    }

    /// Keeps the cached aggregate of this event's stream fresh. Events may come late, twice, or with gaps between them.
    pub fn observe(&self, envelope: &Envelope) {
        self.cache.observe(envelope);
    }

    /// The aggregate as of its last event. A stream without events is at sequence 0.
    ///
    /// # Errors
    /// `Unavailable` or `Corrupt`.
    pub async fn load(&self, stream: StreamId) -> Result<Arc<Loaded>, DispatchError> {
        match self.cache.get(stream) {
            Some(loaded) => Ok(loaded),
            None => self.refresh(stream).await,
        }
    }

    /// Reads what the cached aggregate has not seen.
    pub async fn refresh(&self, stream: StreamId) -> Result<Arc<Loaded>, DispatchError> {
        let cached = self.cache.get(stream);
        let mut loaded = cached.as_deref().cloned().unwrap_or_else(|| Loaded::nothing(stream));
        loop {
            let rows = self.log.read_stream(stream, loaded.sequence, LOAD_PAGE_EVENTS).await?;
            let is_last = !is_full(&rows, LOAD_PAGE_EVENTS);
            for row in rows {
                let expected = loaded.sequence + 1;
                if row.sequence != expected {
                    return Err(DispatchError::Corrupt(format!("{stream} has no event at sequence {expected}")));
                }
                loaded.apply(self.codec.open_facts(&row)?, row.sequence, row.position);
            }
            if is_last {
                return Ok(self.cache.remember(stream, loaded));
            }
        }
    }

    /// Reads what the cached aggregates of these commands have not seen; answers whether there was anything.
    async fn refresh_all(&self, commands: &[Directed]) -> Result<bool, DispatchError> {
        let mut moved = false;
        for Directed { stream, .. } in commands {
            let before = self.load(*stream).await?.sequence;
            moved |= self.refresh(*stream).await?.sequence != before;
        }
        Ok(moved)
    }

    /// Decides and appends `commands` as one: all of their events, or none.
    ///
    /// The receipt is about the first command's stream. A command id that was appended before answers its first result. When
    /// the commands were satisfied already nothing is appended, and the receipt tells where the stream stands.
    ///
    /// # Errors
    /// See [`DispatchError`].
    pub async fn dispatch(&self, meta: &CommandMeta, commands: &[Directed]) -> Result<Receipt, DispatchError> {
        self.dispatch_when(meta, commands, &|_| true).await
    }

    /// As [`dispatch`](Self::dispatch), if the first command's stream stands at a sequence that `precondition` accepts. The
    /// append holds it there, so nothing can come between the check and the change.
    ///
    /// # Errors
    /// `Stale` when it stands elsewhere.
    pub async fn dispatch_when(
        &self,
        meta: &CommandMeta,
        commands: &[Directed],
        precondition: &(dyn Fn(Sequence) -> bool + Send + Sync),
    ) -> Result<Receipt, DispatchError> {
        let finished = tokio::time::timeout(self.timeout, self.race(meta, commands, precondition)).await;
        finished.unwrap_or(Err(DispatchError::TimedOut))
    }

    /// Decides and appends, again after each lost race.
    async fn race(
        &self,
        meta: &CommandMeta,
        commands: &[Directed],
        precondition: &(dyn Fn(Sequence) -> bool + Send + Sync),
    ) -> Result<Receipt, DispatchError> {
        let (mut races_lost, mut verified) = (0, false);
        while races_lost <= RACES_MAX {
            let decided = self.decide(commands, precondition).await;
            let appends_nothing = match &decided {
                Ok(decided) => decided.iter().all(|working| working.events.is_empty()),
                Err(error) => matches!(error, DispatchError::Refused(_) | DispatchError::Stale { .. }),
            };
            // No append will verify what the cache guessed: another process may have moved the streams.
            if appends_nothing && !verified && self.refresh_all(commands).await? {
                verified = true;
                continue;
            }
            let decided = match decided {
                Err(DispatchError::Refused(refusal)) => {
                    return self.first_result(meta).await?.ok_or(DispatchError::Refused(refusal));
                }
                decided => decided?,
            };
            if appends_nothing {
                let satisfied = decided.first().map(|working| standing(working.stream, &working.base));
                return Ok(match self.first_result(meta).await? {
                    Some(receipt) => receipt,
                    None => satisfied.expect("a dispatch has at least one command"),
                });
            }
            let (append, states) = self.seal(meta, decided).await?;
            match self.append(append, states).await {
                Err(AppendError::Conflict { stream, .. }) => {
                    races_lost += 1;
                    self.refresh(stream).await?;
                }
                Ok(receipt) => return Ok(receipt),
                Err(AppendError::Reused { .. }) => return Err(DispatchError::Reused),
                Err(error @ AppendError::TooLarge { .. }) => return Err(DispatchError::TooLarge(error.to_string())),
                Err(AppendError::Unavailable(error)) => return Err(DispatchError::Unavailable(error)),
            }
        }
        Err(DispatchError::Contended)
    }

    /// The result of an earlier append under this command id.
    ///
    /// # Errors
    /// `Reused` when it stands there for another request.
    pub async fn first_result(&self, meta: &CommandMeta) -> Result<Option<Receipt>, DispatchError> {
        match self.log.find_command(meta.command_id).await? {
            Some((_, digest)) if digest != meta.digest => Err(DispatchError::Reused),
            Some((receipt, _)) => Ok(Some(receipt)),
            None => Ok(None),
        }
    }

    async fn decide(
        &self,
        commands: &[Directed],
        precondition: &(dyn Fn(Sequence) -> bool + Send + Sync),
    ) -> Result<Vec<Working>, DispatchError> {
        let mut touched: Vec<Working> = Vec::with_capacity(commands.len());
        for Directed { stream, command } in commands {
            let index = match touched.iter().position(|working| working.stream == *stream) {
                Some(index) => index,
                None => {
                    let base = self.load(*stream).await?;
                    if touched.is_empty() && base.sequence > 0 && !precondition(base.sequence) {
                        return Err(DispatchError::Stale { sequence: base.sequence });
                    }
                    touched.push(Working { stream: *stream, state: base.state.clone(), base, events: Vec::new() });
                    touched.len() - 1
                }
            };
            let working = &mut touched[index];
            working.events.extend(decide_one(&mut working.state, command.clone()).await?);
        }
        Ok(touched)
    }

    /// What was decided as the log takes it, and the states that it leads to.
    async fn seal(&self, meta: &CommandMeta, decided: Vec<Working>) -> Result<(Append, Vec<Led>), DispatchError> {
        let mut streams = Vec::with_capacity(decided.len());
        let mut states = Vec::with_capacity(decided.len());
        for working in decided.into_iter().filter(|working| !working.events.is_empty()) {
            let metadata = Metadata {
                actor: meta.actor,
                subject: working.state.subject(working.stream.id),
                correlation: meta.correlation,
                causation: meta.causation,
                digest: meta.digest.clone(),
            };
            let expected = working.base.sequence;
            let mut events = Vec::with_capacity(working.events.len());
            for (event, sequence) in working.events.iter().zip(expected + 1..) {
                let sealed = self.codec.seal(working.stream, sequence, event, &metadata).await;
                events.push(sealed.map_err(|error| DispatchError::Keys(error.to_string()))?);
            }
            states.push((working.stream, working.state, expected + events.len() as u64));
            streams.push(StreamAppend { stream: working.stream, expected, events });
        }
        Ok((Append { command_id: meta.command_id, digest: meta.digest.clone(), streams }, states))
    }

    async fn append(&self, append: Append, states: Vec<Led>) -> Result<Receipt, AppendError> {
        // Whoever waits here can still go away. Behind it the command is on its way, for as long as the log takes.
        let kib = u32::try_from(append.bytes() / 1024 + 1).unwrap_or(u32::MAX).min(UNDER_WAY_KIB_MAX);
        let place = self.under_way.clone().acquire_many_owned(kib).await;
        let dispatcher = self.clone();
        // In a task of its own: a caller that goes away, or whose time is over, between the commit and the cache must not leave
        // the cache behind.
        let appending = tokio::spawn(async move {
            let _place = place;
            let receipt = dispatcher.log.append(append).await?;
            if !receipt.repeated {
                for (stream, state, sequence) in states {
                    dispatcher.cache.remember(stream, Loaded { state, sequence, position: receipt.position });
                }
            }
            Ok(receipt)
        });
        appending.await.map_err(|_| AppendError::Unavailable(StoreError::Closed))?
    }
}

async fn decide_one(state: &mut State, command: Command) -> Result<Vec<Event>, DispatchError> {
    Ok(state.handle(command).await?)
}

fn standing(stream: StreamId, loaded: &Loaded) -> Receipt {
    Receipt { stream, sequence: loaded.sequence, position: loaded.position, repeated: false }
}
