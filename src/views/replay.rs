//! Folds the log into an empty table of its own, apart from whatever keeps the tables up that people read.
use marvin_domain::{Envelope, Position};
use marvin_projections::{Fold, FoldError, Lane, Skips};
use std::sync::Arc;

use super::{Table, ViewError, ViewId, ViewStore, documents::Documents, load::load_within};
use crate::log::{ReadError, checkpoint::Checkpoint, subscription::BATCH_EVENTS_MAX, tail::Tail};

/// What it writes under: nobody else writes to its table.
const TOKEN: u64 = 1;
/// Documents kept in memory from batch to batch, as JSON: so much that few are read back, with every projection at it at once.
const LANE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Sealed bytes of documents that a batch may load: a server replays beside everything else that it does. A batch that touches more
/// is folded in halves.
const LOADED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Documents loaded by one query. Few, since each may be as large as a task's input and output; and it is the replay's own store,
/// which is asked for each by itself in any case.
const LOAD_DOCUMENTS: usize = 8;

#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// Everything before that event is in the table.
    #[error(transparent)]
    Fold(#[from] FoldError),
    #[error(transparent)]
    View(#[from] ViewError),
    #[error(transparent)]
    Log(#[from] ReadError),
}

pub struct Replay {
    fold: Arc<dyn Fold>,
    lane: Box<dyn Lane>,
    skips: Skips,
    store: Arc<dyn ViewStore>,
    documents: Documents,
    table: Table,
    position: Position,
}

impl Replay {
    /// Makes the table, in a store that has none of this projection.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn begin(
        fold: Arc<dyn Fold>,
        skips: Skips,
        store: Arc<dyn ViewStore>,
        documents: Documents,
    ) -> Result<Self, ViewError> {
        let table = store.begin(ViewId::of(&*fold), 0).await?.table;
        let position = store.take_over(&table, TOKEN).await?.position;
        Ok(Self { lane: fold.lane(LANE_BYTES_MAX), fold, skips, store, documents, table, position })
    }

    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The last event that is in the table.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Folds what follows, in the order of the log, up to the event at `upto`.
    ///
    /// # Errors
    /// See [`ReplayError`].
    pub async fn take(&mut self, events: &[Arc<Envelope>], upto: Position) -> Result<(), ReplayError> {
        let begin = events.partition_point(|event| event.position <= self.position);
        let end = events.partition_point(|event| event.position <= upto);
        match events.get(begin..end) {
            Some(events) => self.project(events).await,
            None => Ok(()),
        }
    }

    async fn project(&mut self, events: &[Arc<Envelope>]) -> Result<(), ReplayError> {
        let mut plan = self.fold.plan(events, &self.skips, 1);
        // What one event touches is loaded, however much that is.
        let bytes_max = if events.len() == 1 { usize::MAX } else { LOADED_BYTES_MAX };
        let changed = loop {
            let touches = &plan.lanes[0];
            let missing = self.lane.missing(touches);
            let loaded = load_within(&*self.store, &self.table, &missing, LOAD_DOCUMENTS, bytes_max).await?;
            let Some(loaded) = loaded else {
                let (front, back) = events.split_at(events.len() / 2);
                Box::pin(self.project(front)).await?;
                return Box::pin(self.project(back)).await;
            };
            let loaded = self.documents.open(&self.table, loaded).await?;
            match self.lane.fold(loaded, touches) {
                Ok(changed) => break changed,
                Err(failure) => plan.stop_before(failure),
            }
        };
        let failure = plan.failure;
        let is_folded = |event: &&Arc<Envelope>| failure.as_ref().is_none_or(|it| event.position < it.position());
        if let Some(last) = events.iter().rev().find(is_folded) {
            let sealed = self.documents.seal(&self.table, changed).await?;
            self.store.store(&self.table, sealed, Checkpoint::behind(last), TOKEN).await?;
            self.lane.keep();
            self.position = last.position;
        }
        failure.map_or(Ok(()), |failure| Err(failure.into()))
    }
}

/// Folds the events of the log up to `upto` into an empty store, and answers the table that it filled.
///
/// # Errors
/// See [`ReplayError`].
pub async fn replay(
    tail: &Tail,
    fold: Arc<dyn Fold>,
    skips: Skips,
    store: Arc<dyn ViewStore>,
    documents: Documents,
    upto: Position,
) -> Result<Table, ReplayError> {
    let mut replay = Replay::begin(fold, skips, store, documents).await?;
    while replay.position() < upto {
        let events = tail.read(replay.position(), BATCH_EVENTS_MAX).await?;
        if events.is_empty() {
            break;
        }
        replay.take(&events, upto).await?;
    }
    Ok(replay.table().clone())
}
