//! Keeps one table up to date: folds each batch of events into its documents and writes them with the checkpoint.
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::join_all;
use marvin_domain::{Envelope, Event, Position, user::UserEvent};
use marvin_projections::{Fold, FoldError, Lane, Plan, Skips, Touch};
use std::{mem, sync::Arc};
use tokio::sync::{Mutex, watch};

use super::{SealedDocument, Table, ViewError, ViewStore, board::Board, documents::Documents, load::load_within};
use crate::{
    cache::{Entry, TableKey, publisher::Publisher},
    log::{
        checkpoint::Checkpoint,
        subscription::{BATCH_EVENTS_MAX, FollowError, Follower},
        tail::Wanted,
    },
    store::chain,
};

/// Lanes that fold side by side: as many cores as are worth it beside the reader of the log and the store.
const LANES_MAX: usize = 4;
/// Events folded at once while the table catches up: a task's whole life lies within, so that its document is written once.
pub const CATCH_UP_EVENTS: usize = 4_000;
/// Where few events are of concern, the checkpoint moves after so many of the log all the same: a restart looks through these again.
/// A table that is farther behind the log's end is not cached: it is being built, or nobody can read it in time.
const CATCH_UP_POSITIONS: u64 = 16_000;
/// Touches from which on the lanes work side by side; below it handing them over costs more than they do.
const PARALLEL_TOUCHES_MIN: usize = 256;
/// JSON bytes of documents that a table's lanes keep between batches: some thousand, which take several times as much in memory.
const KEPT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Sealed bytes of documents that a batch may load. A batch that touches more is folded in halves.
const LOADED_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Documents loaded by one query.
const LOAD_DOCUMENTS: usize = 256;

/// What projectors of all tables share.
#[derive(Clone)]
pub struct Ground {
    pub store: Arc<dyn ViewStore>,
    pub documents: Documents,
    pub board: Arc<Board>,
    /// Where the log ends.
    pub head: watch::Receiver<Position>,
}

/// What a table's cache was told last. Shared with whoever keeps its head alive between commits.
pub struct Told {
    publisher: Publisher,
    position: Position,
    /// The table is far behind, so that its cache is told of nothing, and its head lapses.
    is_silent: bool,
}

impl Told {
    pub fn new(publisher: Publisher) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self { publisher, position: 0, is_silent: false }))
    }

    /// Says that the writer still has its duty.
    pub async fn again(&mut self) {
        if !self.is_silent {
            self.publisher.publish(&[], self.position).await;
        }
    }

    /// Has nothing old in the cache from here on.
    async fn begin(&mut self, position: Position) {
        self.publisher.begin(position).await;
        (self.position, self.is_silent) = (position, false);
    }

    /// Nobody reads what is far behind, and a generation a batch would cost more than it is worth.
    fn fall_silent(&mut self) {
        self.is_silent = true;
    }

    async fn tell(&mut self, entries: &[Entry], position: Position) {
        if self.is_silent {
            // What was changed meanwhile, nobody told.
            return self.begin(position).await;
        }
        self.publisher.publish(entries, position).await;
        self.position = position;
    }
}

pub struct Projector {
    fold: Arc<dyn Fold>,
    lanes: Vec<Box<dyn Lane>>,
    table: Table,
    /// Of the duty; every write demands it.
    token: u64,
    skips: Skips,
    ground: Ground,
    told: Arc<Mutex<Told>>,
    /// Taken from the log and not folded yet, while the table catches up.
    pending: Vec<Arc<Envelope>>,
    /// Behind the last event that was taken or passed over.
    seen: Checkpoint,
    /// Behind the last event that was folded or passed over.
    folded: Position,
    /// Where its last commit left the table.
    committed: Position,
}

fn lanes_of(fold: &dyn Fold) -> Vec<Box<dyn Lane>> {
    let count = std::thread::available_parallelism().map_or(1, usize::from).min(LANES_MAX);
    (0..count).map(|_| fold.lane(KEPT_BYTES_MAX / count)).collect()
}

/// What the table's projector is called in logs, and while it tries again.
pub fn name_of(table: &Table) -> String {
    format!("projector:{table}")
}

/// What one lane made of its part of a batch.
enum Folded {
    Sealed(Vec<SealedDocument>),
    Failed(FoldError),
    /// It touches more than is to be loaded at once.
    TooMuch,
}

impl Projector {
    pub fn new(
        fold: Arc<dyn Fold>,
        table: Table,
        token: u64,
        skips: Skips,
        ground: Ground,
        told: Arc<Mutex<Told>>,
    ) -> Self {
        let (lanes, pending, seen) = (lanes_of(&*fold), Vec::new(), Checkpoint::START);
        Self { fold, lanes, table, token, skips, ground, told, pending, seen, folded: 0, committed: 0 }
    }

    /// The table that it keeps up.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Folds `events` and writes what changed, up to the first that cannot be folded; else up to `end`, before which nothing else is
    /// of concern.
    async fn project(&mut self, events: &[Arc<Envelope>], end: Checkpoint) -> Result<(), FollowError> {
        // Where a batch is one event, others that are of no concern may stand between it and its end.
        let at = if let [event] = events { event.position } else { end.position };
        let failed = |error: ViewError| follow_error(&error, at);
        self.forget_erased(events);
        let mut plan = self.fold.plan(events, &self.skips, self.lanes.len());
        // What one event touches is loaded, however much that is.
        let bytes_max = if events.len() == 1 { usize::MAX } else { LOADED_BYTES_MAX / self.lanes.len() };
        let changed = loop {
            match self.fold_lanes(&plan, bytes_max).await {
                Ok(Folded::Sealed(changed)) => break changed,
                Ok(Folded::Failed(failure)) => plan.stop_before(failure),
                // A document that cannot be read stops the table at the first event that touches it.
                Err(error) if events.len() == 1 || !matches!(error, ViewError::Corrupt { .. }) => {
                    return Err(failed(error));
                }
                Ok(Folded::TooMuch) | Err(_) => return self.project_halves(events, end).await,
            }
        };
        let Some(failure) = plan.failure else {
            return match self.commit(changed, end).await {
                // Nor one that the table cannot hold.
                Err(ViewError::Corrupt { .. }) if events.len() > 1 => self.project_halves(events, end).await,
                committed => committed.map_err(failed),
            };
        };
        let whole = events.iter().take_while(|event| event.position < failure.position()).count();
        if let Some(last) = events[..whole].last() {
            match self.commit(changed, Checkpoint::behind(last)).await {
                Err(ViewError::Corrupt { .. }) => {
                    Box::pin(self.project(&events[..whole], Checkpoint::behind(last))).await?;
                }
                committed => committed.map_err(failed)?,
            }
        }
        Err(FollowError::Stop { position: failure.position(), reason: chain(&failure) })
    }

    async fn project_halves(&mut self, events: &[Arc<Envelope>], end: Checkpoint) -> Result<(), FollowError> {
        let (front, back) = events.split_at(events.len() / 2);
        let middle = front.last().map_or(Checkpoint::START, |last| Checkpoint::behind(last));
        Box::pin(self.project(front, middle)).await?;
        Box::pin(self.project(back, end)).await
    }

    /// A lane holds what people wrote in clear, so it must hear of their erasure.
    fn forget_erased(&mut self, events: &[Arc<Envelope>]) {
        for event in events.iter().filter(|event| matches!(event.event, Event::User(UserEvent::Erased(_)))) {
            self.lanes.iter_mut().for_each(|lane| lane.forget(event.stream.id));
        }
    }

    /// Folds what the plan deals to each lane, side by side where it is much.
    async fn fold_lanes(&mut self, plan: &Plan, bytes_max: usize) -> Result<Folded, ViewError> {
        let is_parallel = plan.lanes.iter().map(Vec::len).sum::<usize>() >= PARALLEL_TOUCHES_MIN;
        let folding = mem::take(&mut self.lanes).into_iter().zip(&plan.lanes).map(|(mut lane, touches)| {
            let (ground, table, touches) = (self.ground.clone(), self.table.clone(), touches.clone());
            async move {
                let folded = fold_lane(&mut *lane, &touches, &ground, &table, bytes_max).await;
                (lane, folded)
            }
        });
        let mut ended = Vec::new();
        if is_parallel {
            for lane in join_all(folding.map(tokio::spawn)).await {
                match lane {
                    Ok(lane) => ended.push(lane),
                    // What a fold panics at is caught where it is known; this is a bug of the machinery.
                    Err(panic) => std::panic::resume_unwind(panic.into_panic()),
                }
            }
        } else {
            for lane in folding {
                ended.push(lane.await);
            }
        }
        let (mut sealed, mut first, mut error, mut too_much) = (Vec::new(), None::<FoldError>, None, false);
        for (lane, folded) in ended {
            self.lanes.push(lane);
            match folded {
                Ok(Folded::Sealed(of_lane)) => sealed.extend(of_lane),
                Ok(Folded::Failed(failure)) => {
                    if first.as_ref().is_none_or(|first| failure.position() < first.position()) {
                        first = Some(failure);
                    }
                }
                Ok(Folded::TooMuch) => too_much = true,
                Err(failed) => error = Some(failed),
            }
        }
        match (error, too_much, first) {
            (Some(error), ..) => Err(error),
            (None, true, _) => Ok(Folded::TooMuch),
            (None, false, Some(failure)) => Ok(Folded::Failed(failure)),
            (None, false, None) => Ok(Folded::Sealed(sealed)),
        }
    }

    /// Writes documents and checkpoint, and only then lets the cache, the lanes and waiting readers know.
    async fn commit(&mut self, changed: Vec<SealedDocument>, end: Checkpoint) -> Result<(), ViewError> {
        let entry = |document: &SealedDocument| Entry {
            id: document.id,
            position: document.position,
            body: Bytes::copy_from_slice(&document.body),
        };
        let head = *self.ground.head.borrow();
        let is_near = head.saturating_sub(end.position) <= CATCH_UP_POSITIONS;
        let entries: Option<Vec<Entry>> = is_near.then(|| changed.iter().map(entry).collect());
        if entries.is_none() {
            // First, so that no head follows this commit without saying so.
            self.told.lock().await.fall_silent();
        }
        let behind = Some(self.committed);
        self.ground.store.store_behind(&self.table, changed, behind, end, self.token).await?;
        self.committed = end.position;
        self.lanes.iter_mut().for_each(|lane| lane.keep());
        // Who waits for this does not wait for the cache.
        self.ground.board.reached(&self.table, end.position);
        if let Some(entries) = entries {
            self.told.lock().await.tell(&entries, end.position).await;
        }
        Ok(())
    }

    /// Whether more events are sure to come at once behind a page of `count`, so that folding may wait for them. A page that is not
    /// full ended by its bytes, and those are in memory.
    fn may_gather(&self, count: u64) -> bool {
        count == u64::from(BATCH_EVENTS_MAX)
            && self.pending.len() < CATCH_UP_EVENTS
            && self.seen.position - self.folded < CATCH_UP_POSITIONS
            && self.seen.position < *self.ground.head.borrow()
    }
}

async fn fold_lane(
    lane: &mut dyn Lane,
    touches: &[Touch],
    ground: &Ground,
    table: &Table,
    bytes_max: usize,
) -> Result<Folded, ViewError> {
    let missing = lane.missing(touches);
    let Some(loaded) = load_within(&*ground.store, table, &missing, LOAD_DOCUMENTS, bytes_max).await? else {
        return Ok(Folded::TooMuch);
    };
    let loaded = ground.documents.open(table, loaded).await?;
    Ok(match lane.fold(loaded, touches) {
        Ok(changed) => Folded::Sealed(ground.documents.seal(table, changed).await?),
        Err(failure) => Folded::Failed(failure),
    })
}

fn follow_error(error: &ViewError, position: Position) -> FollowError {
    match error {
        // Whoever took the table over, or called it off, lets this projector know by other ways.
        // What a crash of the database took back is folded again.
        ViewError::Unavailable(_) | ViewError::Fenced | ViewError::Gone | ViewError::SetBack { .. } => {
            FollowError::Again(error.to_string())
        }
        ViewError::UnknownField(_) | ViewError::Corrupt { .. } | ViewError::Building { .. } => {
            FollowError::Stop { position, reason: error.to_string() }
        }
    }
}

/// The cached table's name.
pub fn key(table: &Table) -> TableKey {
    TableKey { name: table.name.as_str().into(), version: table.version, build: table.build }
}

#[async_trait]
impl Follower for Projector {
    fn name(&self) -> String {
        name_of(&self.table)
    }

    fn wanted(&self) -> Wanted {
        Wanted::Of(self.fold.kinds())
    }

    async fn resume(&mut self) -> Result<Position, FollowError> {
        self.pending.clear();
        // What they remember may be ahead of the table: a crash of its database takes commits back.
        self.lanes = lanes_of(&*self.fold);
        let taken = self.ground.store.take_over(&self.table, self.token).await;
        self.seen = taken.map_err(|error| follow_error(&error, 0))?;
        (self.folded, self.committed) = (self.seen.position, self.seen.position);
        // Before anything is committed under this token: see the rules of the cache. A generation of its own, since a write whose
        // answer was lost may have changed documents that the one before was not told of.
        self.told.lock().await.begin(self.folded).await;
        self.ground.board.reached(&self.table, self.folded);
        Ok(self.folded)
    }

    async fn take(&mut self, events: &[Arc<Envelope>]) -> Result<(), FollowError> {
        let Some(last) = events.last() else { return Ok(()) };
        self.take_to(events, Checkpoint::behind(last)).await
    }

    async fn take_to(&mut self, events: &[Arc<Envelope>], end: Checkpoint) -> Result<(), FollowError> {
        let count = end.position.saturating_sub(self.seen.position);
        self.pending.extend_from_slice(events);
        self.seen = end;
        if self.may_gather(count) {
            return Ok(());
        }
        self.settle().await
    }

    async fn settle(&mut self) -> Result<(), FollowError> {
        let (batch, end) = (mem::take(&mut self.pending), self.seen);
        if end.position <= self.folded {
            return Ok(());
        }
        self.project(&batch, end).await?;
        self.folded = end.position;
        Ok(())
    }
}
