//! Reads views: one document, a page of a list, and how far a view is.
use bytes::Bytes;
use marvin_domain::Position;
use marvin_projections::{Projection, RawDocument};
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, sleep_until, timeout_at};
use uuid::Uuid;

use super::{
    Found, ListQuery, SealedDocument, Table, ViewError, ViewStore,
    board::{Board, Seen, Serving},
    documents::Documents,
    projector::key,
};
use crate::cache::{
    Cache, Entry,
    reader::{Loaded, Reader},
};

/// How long a reader waits for a view to reach the position it asks for.
pub const WAIT_MAX: Duration = Duration::from_secs(5);
/// Between two looks into the registry for somebody who waits for a projector of another process; doubles up to the maximum.
const LOOK_PAUSE_MIN: Duration = Duration::from_millis(10);
const LOOK_PAUSE_MAX: Duration = Duration::from_millis(50);

/// The view has not reached the position in time. Ask again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the view is at position {reached}, behind {asked}")]
pub struct Behind {
    pub asked: Position,
    pub reached: Position,
}

/// Documents of one table.
#[derive(Debug)]
pub struct Listed<D> {
    pub documents: Vec<D>,
    /// The version of the table: while this program's is being built, an older one's.
    pub version: u32,
    /// More was asked for and is there, but left off for its bytes: ask on behind the last one.
    pub is_cut: bool,
}

#[derive(Clone)]
pub struct Views {
    store: Arc<dyn ViewStore>,
    documents: Documents,
    board: Arc<Board>,
    cache: Reader,
}

impl Views {
    pub fn new(store: Arc<dyn ViewStore>, documents: Documents, board: Arc<Board>, cache: Arc<dyn Cache>) -> Self {
        Self { store, documents, board, cache: Reader::new(cache) }
    }

    /// How far the view is at least.
    pub fn reached<P: Projection>(&self) -> Position {
        reached(&self.board.watch(P::NAME).borrow())
    }

    /// How far each view is.
    pub fn all_reached(&self) -> Vec<(&'static str, Position)> {
        self.board.positions()
    }

    /// Waits, at most five seconds, until the view reflects `position`.
    ///
    /// # Errors
    /// `Behind` when it does not get there in time.
    pub async fn wait<P: Projection>(&self, position: Position) -> Result<(), Behind> {
        let mut seen = self.board.watch(P::NAME);
        let deadline = Instant::now() + WAIT_MAX;
        let mut pause = LOOK_PAUSE_MIN;
        loop {
            let is_local = {
                let seen = seen.borrow_and_update();
                if reached(&seen) >= position {
                    return Ok(());
                }
                seen.is_followed_here(P::VERSION)
            };
            if Instant::now() >= deadline {
                let reached = reached(&seen.borrow());
                return Err(Behind { asked: position, reached });
            }
            tokio::select! {
                _ = seen.changed() => {}
                () = sleep_until(deadline.min(Instant::now() + pause)) => {
                    if !is_local {
                        // Out of reach, it is as far as it was.
                        timeout_at(deadline, self.board.look_within(pause / 2)).await.ok();
                    }
                    pause = (pause * 2).min(LOOK_PAUSE_MAX);
                }
            }
        }
    }

    /// A document that reflects every event up to `at_least`, which the view was found to have reached.
    ///
    /// # Errors
    /// `Unavailable`, `Building` while no table can answer, or `Corrupt` for a document that cannot be read.
    pub async fn get<P: Projection>(&self, id: Uuid, at_least: Position) -> Result<Option<P::Document>, ViewError> {
        Ok(self.get_all::<P>(&[id], at_least).await?.pop())
    }

    /// Those of the documents that exist, in no order, as [`get`](Self::get) answers each.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn get_all<P: Projection>(
        &self,
        ids: &[Uuid],
        at_least: Position,
    ) -> Result<Vec<P::Document>, ViewError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let serving = self.serving::<P>().await?;
        let table = &*serving.table;
        let load = |ids: Vec<Uuid>| async move {
            let page = self.store.load(table, &ids).await?;
            stands(page.position, at_least)?;
            let entry = |document: SealedDocument| Entry {
                id: document.id,
                position: document.position,
                body: Bytes::from(document.body),
            };
            Ok::<_, ViewError>(Loaded {
                position: page.position,
                entries: page.documents.into_iter().map(entry).collect(),
            })
        };
        let loaded = self.cache.read(&key(table), ids, at_least, load).await?;
        self.open::<P>(table, sealed(loaded.entries)).await
    }

    /// Those of the documents that can be had from the cache alone: for a guess at what will be wanted, while something else is
    /// waited for. What cannot be read is not among them; [`get_all`](Self::get_all) says why.
    pub async fn at_hand<P: Projection>(&self, ids: &[Uuid], at_least: Position) -> Vec<P::Document> {
        let Some(serving) = self.board.watch(P::NAME).borrow().serving.clone() else { return Vec::new() };
        let entries = self.cache.at_hand(&key(&serving.table), ids, at_least).await;
        if entries.is_empty() {
            return Vec::new();
        }
        self.open::<P>(&serving.table, sealed(entries)).await.unwrap_or_default()
    }

    /// # Errors
    /// As [`get`](Self::get), and `UnknownField`.
    pub async fn list<P: Projection>(&self, query: ListQuery) -> Result<Listed<P::Document>, ViewError> {
        let serving = self.serving::<P>().await?;
        let listed = self.store.list(&serving.table, query).await;
        let page = listed.map_err(|error| self.building_instead::<P>(&serving.table, error))?;
        stands(page.position, serving.position)?;
        let documents = self.open::<P>(&serving.table, page.documents).await?;
        Ok(Listed { documents, version: serving.table.version, is_cut: page.is_cut })
    }

    /// Which documents [`list`](Self::list) would answer, were it not for their bytes.
    ///
    /// # Errors
    /// As [`list`](Self::list).
    pub async fn find<P: Projection>(&self, query: ListQuery) -> Result<Vec<Found>, ViewError> {
        let serving = self.serving::<P>().await?;
        let found = self.store.find(&serving.table, query).await;
        found.map_err(|error| self.building_instead::<P>(&serving.table, error))
    }

    /// The table that answers. While there is none the registry is asked, since another process may have built one.
    async fn serving<P: Projection>(&self) -> Result<Serving, ViewError> {
        let seen = self.board.watch(P::NAME);
        if let Some(serving) = seen.borrow().serving.clone() {
            return Ok(serving);
        }
        self.board.look_within(LOOK_PAUSE_MAX).await?;
        let serving = seen.borrow().serving.clone();
        serving.ok_or_else(|| self.building::<P>())
    }

    fn building<P: Projection>(&self) -> ViewError {
        let (position, target) = self.board.watch(P::NAME).borrow().building.unwrap_or_default();
        ViewError::Building { view: P::NAME.to_owned(), position, target }
    }

    /// What an older program's table cannot answer is there once this program's is built.
    fn building_instead<P: Projection>(&self, table: &Table, error: ViewError) -> ViewError {
        match error {
            ViewError::UnknownField(_) if table.version != P::VERSION => self.building::<P>(),
            error => error,
        }
    }

    async fn open<P: Projection>(
        &self,
        table: &Table,
        sealed: Vec<SealedDocument>,
    ) -> Result<Vec<P::Document>, ViewError> {
        let raw = self.documents.open(table, sealed).await?;
        let open = |raw: &RawDocument| match raw.open::<P::Document>() {
            Ok(document) => Ok(document),
            Err(_) if table.version != P::VERSION => Err(self.building::<P>()),
            Err(error) => Err(ViewError::Corrupt { view: table.name.clone(), id: raw.id, reason: error.to_string() }),
        };
        raw.iter().map(open).collect()
    }
}

fn sealed(entries: Vec<Entry>) -> Vec<SealedDocument> {
    let sealed = |Entry { id, position, body }| SealedDocument { id, position, body: body.into(), keys: Vec::new() };
    entries.into_iter().map(sealed).collect()
}

/// A table is where it was said to be, or farther: else a crash of its database took something back.
fn stands(position: Position, expected: Position) -> Result<(), ViewError> {
    if position < expected { Err(ViewError::SetBack { stands: position, expected }) } else { Ok(()) }
}

fn reached(seen: &Seen) -> Position {
    seen.serving.as_ref().map_or(0, |serving| serving.position)
}
