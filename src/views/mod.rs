//! Views: where the documents of projections are kept and found.
//!
//! Owns one table per projection NAME and VERSION, written together with the checkpoint that it reflects, so that a crash
//! repeats a batch and never skips one. A view may be dropped at any time: the log builds it again. Documents come sealed; what
//! is in clear are index fields, and those are ids, states, numbers and times only.
use async_trait::async_trait;
use marvin_domain::Position;
use marvin_projections::{Fold, Key};
use uuid::Uuid;

pub mod documents;
pub mod projector;
pub mod query;
pub mod sqlite;

use crate::{log::checkpoint::Checkpoint, store::StoreError};

/// Documents a page of a list may hold.
pub const PAGE_DOCUMENTS_MAX: u32 = 1_000;

/// Which table: a projection's name and version, and the fields that it may be filtered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ViewId {
    pub name: &'static str,
    pub version: u32,
    pub fields: &'static [&'static str],
    /// Fields that lists are filtered by together.
    pub indexes: &'static [&'static [&'static str]],
}

impl ViewId {
    pub fn of(fold: &dyn Fold) -> Self {
        Self { name: fold.name(), version: fold.version(), fields: fold.fields(), indexes: fold.indexes() }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedDocument {
    pub id: Uuid,
    /// The last event that was folded in.
    pub position: Position,
    pub body: Vec<u8>,
    /// In the order of the view's fields.
    pub keys: Vec<Key>,
}

/// A condition on one field of the view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    In(&'static str, Vec<Key>),
    /// Present and at most this number or time.
    AtMost(&'static str, i64),
}

impl Filter {
    pub fn is(field: &'static str, key: impl Into<Key>) -> Self {
        Self::In(field, vec![key.into()])
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// By id, newest first.
    Newest,
    /// By this field, highest first, and then by id, oldest first.
    HighestThenOldest(&'static str),
}

#[derive(Debug, Clone)]
pub struct ListQuery {
    pub filters: Vec<Filter>,
    pub order: Order,
    /// With `Newest`: only ids before this one.
    pub before: Option<Uuid>,
    /// 1..=1,000.
    pub limit: u32,
}

#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// Retry with backoff.
    #[error("the view store is unavailable")]
    Unavailable(#[from] StoreError),
    /// A list asked for a field that the view does not have.
    #[error("{0} is no field of this view")]
    UnknownField(&'static str),
    /// A document that cannot be opened: rebuild the view.
    #[error("document {id} of the view {view} cannot be read: {reason}")]
    Corrupt { view: &'static str, id: Uuid, reason: String },
}

#[async_trait]
pub trait ViewStore: Send + Sync {
    /// Makes the view's table unless it stands.
    ///
    /// # Errors
    /// `Unavailable`.
    async fn ensure(&self, view: ViewId) -> Result<(), ViewError>;

    /// The last event that the view reflects; none for one that was never written.
    ///
    /// # Errors
    /// `Unavailable`.
    async fn checkpoint(&self, view: ViewId) -> Result<Option<Checkpoint>, ViewError>;

    /// Those of the documents that exist, in no order.
    ///
    /// # Errors
    /// `Unavailable`.
    async fn load(&self, view: ViewId, ids: &[Uuid]) -> Result<Vec<SealedDocument>, ViewError>;

    /// Writes documents and checkpoint in one transaction.
    ///
    /// # Errors
    /// `Unavailable`; then neither was written.
    async fn store(
        &self,
        view: ViewId,
        documents: Vec<SealedDocument>,
        checkpoint: Checkpoint,
    ) -> Result<(), ViewError>;

    /// # Errors
    /// `Unavailable` or `UnknownField`.
    async fn list(&self, view: ViewId, query: ListQuery) -> Result<Vec<SealedDocument>, ViewError>;

    /// How many documents pass the filters.
    ///
    /// # Errors
    /// `Unavailable` or `UnknownField`.
    async fn count(&self, view: ViewId, filters: Vec<Filter>) -> Result<u64, ViewError>;
}
