//! Keeps one view up to date: folds each batch of events into its documents and writes them with the checkpoint.
use async_trait::async_trait;
use marvin_domain::{Envelope, Position};
use marvin_projections::{Fold, FoldError};
use std::{collections::BTreeSet, sync::Arc};
use tokio::sync::watch;

use super::{ViewError, ViewId, ViewStore, documents::Documents};
use crate::log::{
    checkpoint::Checkpoint,
    subscription::{FollowError, Follower},
};

pub struct Projector {
    fold: Arc<dyn Fold>,
    view: ViewId,
    store: Arc<dyn ViewStore>,
    documents: Documents,
    /// Tells readers how far the view is.
    reached: watch::Sender<Position>,
}

impl Projector {
    pub fn new(
        fold: Arc<dyn Fold>,
        store: Arc<dyn ViewStore>,
        documents: Documents,
        reached: watch::Sender<Position>,
    ) -> Self {
        Self { view: ViewId::of(&*fold), fold, store, documents, reached }
    }

    /// Makes the view's table unless it stands, so that readers find one from the start.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn prepare(&self) -> Result<(), ViewError> {
        self.store.ensure(self.view).await?;
        self.stands().await.map(drop)
    }

    /// How far the view is, which its readers hear of too.
    async fn stands(&self) -> Result<Position, ViewError> {
        let position = self.store.checkpoint(self.view).await?.map_or(0, |checkpoint| checkpoint.position);
        self.reached.send_replace(position);
        Ok(position)
    }

    async fn project(&self, events: &[Arc<Envelope>], end: Checkpoint) -> Result<(), FollowError> {
        let last = end.position;
        let ids: BTreeSet<_> = events.iter().flat_map(|event| self.fold.ids(event)).collect();
        let ids: Vec<_> = ids.into_iter().collect();
        let loaded = self.store.load(self.view, &ids).await.map_err(|error| follow_error(&error, last))?;
        let loaded = self.documents.open(self.view, loaded).await.map_err(|error| follow_error(&error, last))?;
        let changed = self.fold.fold(loaded, events).map_err(|error| FollowError::Stop {
            position: match error {
                FoldError::NothingToChange { position, .. } => position,
                FoldError::Malformed { .. } => last,
            },
            reason: error.to_string(),
        })?;
        let sealed = self.documents.seal(self.view, changed).await.map_err(|error| follow_error(&error, last))?;
        self.store.store(self.view, sealed, end).await.map_err(|error| follow_error(&error, last))
    }
}

fn follow_error(error: &ViewError, position: Position) -> FollowError {
    match error {
        ViewError::Unavailable(_) => FollowError::Again(error.to_string()),
        ViewError::UnknownField(_) | ViewError::Corrupt { .. } => {
            FollowError::Stop { position, reason: error.to_string() }
        }
    }
}

#[async_trait]
impl Follower for Projector {
    fn name(&self) -> String {
        format!("projection:{}", self.view.name)
    }

    async fn resume(&mut self) -> Result<Position, FollowError> {
        self.stands().await.map_err(|error| follow_error(&error, 0))
    }

    async fn take(&mut self, events: &[Arc<Envelope>]) -> Result<(), FollowError> {
        let Some(end) = events.last().map(|event| Checkpoint::behind(event)) else { return Ok(()) };
        self.project(events, end).await?;
        self.reached.send_replace(end.position);
        Ok(())
    }
}
