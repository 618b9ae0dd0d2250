//! Reads views: one document, a page of a list, and how far a view is.
use marvin_domain::Position;
use marvin_projections::{Document, Projection, RawDocument};
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::sync::watch;
use uuid::Uuid;

use super::{Filter, ListQuery, SealedDocument, Table, ViewError, ViewStore, documents::Documents};

/// How long a reader waits for a view to reach the position it asks for.
pub const WAIT_MAX: Duration = Duration::from_secs(5);

/// The view has not reached the position in time. Ask again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the view is at position {reached}, behind {asked}")]
pub struct Behind {
    pub asked: Position,
    pub reached: Position,
}

#[derive(Clone)]
pub struct Views {
    store: Arc<dyn ViewStore>,
    documents: Documents,
    views: Arc<HashMap<String, (Table, watch::Receiver<Position>)>>,
}

impl Views {
    /// `reached` comes from each view's projector, with the table that it keeps up.
    pub fn new(
        store: Arc<dyn ViewStore>,
        documents: Documents,
        reached: Vec<(Table, watch::Receiver<Position>)>,
    ) -> Self {
        let views = reached.into_iter().map(|(table, reached)| (table.name.clone(), (table, reached)));
        Self { store, documents, views: Arc::new(views.collect()) }
    }

    fn view<P: Projection>(&self) -> &(Table, watch::Receiver<Position>) {
        self.views.get(P::NAME).expect("every registered projection has a view")
    }

    /// How far the view is.
    pub fn reached<P: Projection>(&self) -> Position {
        *self.view::<P>().1.borrow()
    }

    /// How far each view is.
    pub fn all_reached(&self) -> Vec<(String, Position)> {
        let mut all: Vec<_> = self.views.iter().map(|(name, (_, reached))| (name.clone(), *reached.borrow())).collect();
        all.sort_unstable();
        all
    }

    /// Waits, at most five seconds, until the view reflects `position`.
    ///
    /// # Errors
    /// `Behind` when it does not get there in time.
    pub async fn wait<P: Projection>(&self, position: Position) -> Result<(), Behind> {
        let mut reached = self.view::<P>().1.clone();
        let there = tokio::time::timeout(WAIT_MAX, reached.wait_for(|reached| *reached >= position)).await;
        match there {
            Ok(Ok(_)) => Ok(()),
            _ => Err(Behind { asked: position, reached: *self.view::<P>().1.borrow() }),
        }
    }

    /// # Errors
    /// `Unavailable`, or `Corrupt` for a document that cannot be read.
    pub async fn get<P: Projection>(&self, id: Uuid) -> Result<Option<P::Document>, ViewError> {
        let table = &self.view::<P>().0;
        let sealed = self.store.load(table, &[id]).await?.documents;
        Ok(self.open::<P::Document>(table, sealed).await?.pop())
    }

    /// # Errors
    /// As [`get`](Self::get), and `UnknownField`.
    pub async fn list<P: Projection>(&self, query: ListQuery) -> Result<Vec<P::Document>, ViewError> {
        let table = &self.view::<P>().0;
        let sealed = self.store.list(table, query).await?.documents;
        self.open(table, sealed).await
    }

    /// # Errors
    /// `Unavailable` or `UnknownField`.
    pub async fn count<P: Projection>(&self, filters: Vec<Filter>) -> Result<u64, ViewError> {
        self.store.count(&self.view::<P>().0, filters).await
    }

    async fn open<D: Document>(&self, table: &Table, sealed: Vec<SealedDocument>) -> Result<Vec<D>, ViewError> {
        let raw = self.documents.open(table, sealed).await?;
        raw.iter()
            .map(|raw: &RawDocument| {
                raw.open().map_err(|error| ViewError::Corrupt {
                    view: table.name.clone(),
                    id: raw.id,
                    reason: error.to_string(),
                })
            })
            .collect()
    }
}
