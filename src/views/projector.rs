//! Keeps one table up to date: folds each batch of events into its documents and writes them with the checkpoint.
use async_trait::async_trait;
use marvin_domain::{Envelope, Position};
use marvin_projections::{Fold, Lane, Skips};
use std::sync::Arc;
use tokio::sync::watch;

use super::{State, Table, ViewError, ViewId, ViewStore, documents::Documents};
use crate::log::{
    checkpoint::Checkpoint,
    subscription::{FollowError, Follower},
};

/// What every projector writes under: none hands a table over to another.
const TOKEN: u64 = 1;

/// Documents kept in memory between batches: none, so that no words of an erased person stay there.
const LANE_BYTES_MAX: usize = 0;

pub struct Projector {
    fold: Arc<dyn Fold>,
    lane: Box<dyn Lane>,
    table: Table,
    store: Arc<dyn ViewStore>,
    documents: Documents,
    /// Tells readers how far the table is.
    reached: watch::Sender<Position>,
}

impl Projector {
    /// Takes the live table of the projection's version, or makes it, so that readers find one from the start. `head` is where the
    /// log ends.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn start(
        fold: Arc<dyn Fold>,
        store: Arc<dyn ViewStore>,
        documents: Documents,
        head: Position,
        reached: watch::Sender<Position>,
    ) -> Result<Self, ViewError> {
        let view = ViewId::of(&*fold);
        let table = match live(&*store, view).await? {
            Some(table) => table,
            None => {
                let table = store.begin(view, head).await?.table;
                store.take_over(&table, TOKEN).await?;
                store.make_live(&table, TOKEN).await?;
                table
            }
        };
        let projector = Self { lane: fold.lane(LANE_BYTES_MAX), fold, table, store, documents, reached };
        projector.stands().await?;
        Ok(projector)
    }

    /// What readers read.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// How far the table is, which its readers hear of too.
    async fn stands(&self) -> Result<Position, ViewError> {
        let position = self.store.take_over(&self.table, TOKEN).await?.position;
        self.reached.send_replace(position);
        Ok(position)
    }

    /// Folds `events` and writes what changed, up to the first that cannot be folded.
    async fn project(&mut self, events: &[Arc<Envelope>]) -> Result<(), FollowError> {
        let Some(last) = events.last().map(|event| event.position) else { return Ok(()) };
        let failed = |error: ViewError| follow_error(&error, last);
        let mut plan = self.fold.plan(events, &Skips::default(), 1);
        let changed = loop {
            let touches = &plan.lanes[0];
            let loaded = self.store.load(&self.table, &self.lane.missing(touches)).await.map_err(failed)?.documents;
            let loaded = self.documents.open(&self.table, loaded).await.map_err(failed)?;
            match self.lane.fold(loaded, touches) {
                Ok(changed) => break changed,
                Err(failure) => plan.stop_before(failure),
            }
        };
        let stopped = plan.failure;
        let end = stopped.as_ref().map_or(last, |failure| failure.position().saturating_sub(1));
        if let Some(end) = events.iter().rev().find(|event| event.position <= end) {
            let sealed = self.documents.seal(&self.table, changed).await.map_err(failed)?;
            self.store.store(&self.table, sealed, Checkpoint::behind(end), TOKEN).await.map_err(failed)?;
            self.lane.keep();
            self.reached.send_replace(end.position);
        }
        match stopped {
            None => Ok(()),
            Some(failure) => Err(FollowError::Stop { position: failure.position(), reason: failure.to_string() }),
        }
    }
}

/// The live table of the view's version.
///
/// # Errors
/// `Unavailable`.
async fn live(store: &dyn ViewStore, view: ViewId) -> Result<Option<Table>, ViewError> {
    let rows = store.tables().await?;
    Ok(rows.into_iter().find(|row| row.state == State::Live && row.table.is_of(view)).map(|row| row.table))
}

fn follow_error(error: &ViewError, position: Position) -> FollowError {
    match error {
        ViewError::Unavailable(_) => FollowError::Again(error.to_string()),
        ViewError::UnknownField(_)
        | ViewError::Corrupt { .. }
        | ViewError::Fenced
        | ViewError::Gone
        | ViewError::Building { .. } => FollowError::Stop { position, reason: error.to_string() },
    }
}

#[async_trait]
impl Follower for Projector {
    fn name(&self) -> String {
        format!("projection:{}", self.table.name)
    }

    async fn resume(&mut self) -> Result<Position, FollowError> {
        self.stands().await.map_err(|error| follow_error(&error, 0))
    }

    async fn take(&mut self, events: &[Arc<Envelope>]) -> Result<(), FollowError> {
        self.project(events).await
    }
}
