//! Folds the log into an empty store, as a rebuild would: what a view's documents have to equal.
use marvin_domain::Position;
use marvin_projections::{Fold, Skips};
use std::sync::Arc;
use tokio::sync::watch;

use super::{
    Table, ViewError, ViewId, ViewStore,
    board::Board,
    documents::Documents,
    projector::{Ground, Projector, Told, key},
};
use crate::{
    cache::{memory::MemoryCache, publisher::Publisher},
    log::{
        ReadError,
        subscription::{BATCH_EVENTS_MAX, FollowError, Follower},
        tail::Tail,
    },
};

/// Nobody else writes to the store.
const TOKEN: u64 = 1;

#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error(transparent)]
    View(#[from] ViewError),
    #[error(transparent)]
    Log(#[from] ReadError),
    #[error(transparent)]
    Fold(#[from] FollowError),
}

/// Folds the events up to `upto`, by the same projector that serves, and answers the table that it filled.
///
/// # Errors
/// See [`ReplayError`]; `Fold` with the position of an event that cannot be folded.
pub async fn replay(
    tail: &Tail,
    fold: Arc<dyn Fold>,
    skips: Skips,
    store: Arc<dyn ViewStore>,
    documents: Documents,
    upto: Position,
) -> Result<Table, ReplayError> {
    let view = ViewId::of(&*fold);
    let table = store.begin(view, upto).await?.table;
    let ground = Ground { board: Board::new(store.clone(), [view]), store, documents, head: watch::channel(upto).1 };
    let told = Told::new(Publisher::new(Arc::new(MemoryCache::with_capacity(0)), key(&table), TOKEN));
    let mut projector = Projector::new(fold, table.clone(), TOKEN, skips, ground, told);
    let mut after = projector.resume().await?;
    while after < upto {
        let mut events = tail.read(after, BATCH_EVENTS_MAX).await?;
        events.retain(|event| event.position <= upto);
        let Some(last) = events.last() else { break };
        after = last.position;
        projector.take(&events).await?;
    }
    Ok(table)
}
