//! Views: where the documents of projections are kept and found.
//!
//! Owns the tables of documents and the registry that says of each what it is for and how far it came. A table is written
//! together with its checkpoint, so that a crash repeats a batch and never skips one, and only by whoever holds its newest token.
//! It may be dropped at any time: the log builds it again. Documents come sealed; what is in clear are index fields, and those
//! are ids, states, numbers and times only.
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use marvin_domain::Position;
use marvin_projections::{Field, Fold, Key};
use serde::{Deserialize, Serialize};
use std::{fmt, sync::Arc, time::Duration};
use uuid::Uuid;

pub mod admin;
pub mod board;
pub mod documents;
mod dropper;
mod due;
pub mod equality;
pub mod keeper;
mod load;
mod pace;
pub mod postgres;
pub mod projector;
pub mod query;
pub mod replay;
pub mod skips;
pub mod sql;
pub mod sqlite;

use crate::{log::checkpoint::Checkpoint, store::StoreError};

/// Documents a page of a list may hold.
pub const PAGE_DOCUMENTS_MAX: u32 = 1_000;

/// Sealed bytes of documents that a page of a list may hold: as much as the largest input of a task, so that a hundred who ask at
/// once fit in memory. A document that is larger is a page of its own.
pub const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Where nobody says for so long that they read any table, no process was there: each says so every minute, and some of that may be
/// lost.
const ABSENCE_MIN: Duration = Duration::from_secs(5 * 60);

/// A projection as this program knows it: what a table of it looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ViewId {
    pub name: &'static str,
    pub version: u32,
    pub fields: &'static [Field],
    /// Fields that lists are filtered by together, and sorted by last. A list is answered by the first one whose fields it has all
    /// conditions on, so those that leave fewest documents stand first.
    pub indexes: &'static [&'static [&'static str]],
}

impl ViewId {
    pub fn of(fold: &dyn Fold) -> Self {
        Self { name: fold.name(), version: fold.version(), fields: fold.fields(), indexes: fold.indexes() }
    }

    /// Whose holder writes to the tables of this name and version.
    pub fn duty(self) -> String {
        duty(self.name, self.version)
    }
}

/// One table of documents.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Table {
    /// The projection's.
    pub name: String,
    /// The projection's.
    pub version: u32,
    /// 1, 2, 3 … within name and version: the first, and one more for each rebuild. No number is ever used again.
    pub build: u32,
    /// As its maker knew them, which may have been an older or a newer program.
    pub fields: Arc<[Field]>,
    /// Names of fields, as its maker had them.
    pub indexes: Arc<[Vec<String>]>,
}

/// What the store calls the table.
impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "view_{}_{}_{}", self.name, self.version, self.build)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It is being filled; nobody reads it.
    Building,
    /// It is read, and kept up.
    Live,
    /// Another build took its place. Nobody should begin to read it, nobody writes to it, and it is dropped some time after its
    /// last reader.
    Retired,
    /// Somebody called the filling off. Nobody writes to it until [`ViewStore::begin`] takes it up again.
    Cancelled,
}

/// Where a projection stopped, and why: everything before the position is in the table. Where the event at the position is as well,
/// what stopped it is behind that, nobody knows where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopped {
    pub position: Position,
    pub reason: String,
}

/// A table's line in the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableRow {
    pub table: Table,
    pub state: State,
    /// The last event that the table reflects.
    pub checkpoint: Checkpoint,
    /// Of whoever writes to the table; 0 when nobody ever did.
    pub token: u64,
    pub stopped: Option<Stopped>,
    pub begun_at: DateTime<Utc>,
    /// Where the log ended when the table was begun.
    pub target: Position,
    /// Since somebody last said that they read it; and until they do, since something was written to it while it was built, or
    /// since it was called off or became live. By the store's clock, and without the time in which no process was there.
    pub unread_for: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedDocument {
    pub id: Uuid,
    /// The last event that was folded in.
    pub position: Position,
    pub body: Vec<u8>,
    /// In the order of the table's fields.
    pub keys: Vec<Key>,
}

/// Documents, and what they are known to reflect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    pub documents: Vec<SealedDocument>,
    /// Every event up to this one is in them; later ones may be.
    pub position: Position,
    /// More was asked for and is there, but left off for its bytes.
    pub is_cut: bool,
}

/// A document, as lists find it without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    pub id: Uuid,
    /// Its key in the field that the list is sorted by; none without either.
    pub sorted_by: Option<i64>,
}

/// A condition on one field of the view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// One of these. [`Key::Null`] is like no key, not even itself.
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
    /// By this field, lowest first, and then by id, newest first.
    LowestThenNewest(&'static str),
}

#[derive(Debug, Clone)]
pub struct ListQuery {
    pub filters: Vec<Filter>,
    pub order: Order,
    /// With `Newest`: only ids before this one.
    pub before: Option<Uuid>,
    /// 1..=1,000; what is beyond is taken for the nearer end.
    pub limit: u32,
}

#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// Retry with backoff.
    #[error("the view store is unavailable")]
    Unavailable(#[from] StoreError),
    /// A list asked for a field that the table does not have, or by a key that the field cannot have.
    #[error("{0} is no field of this view")]
    UnknownField(&'static str),
    /// A document that cannot be opened, or does not fit its table: rebuild the view.
    #[error("document {id} of the view {view} cannot be read: {reason}")]
    Corrupt { view: String, id: Uuid, reason: String },
    /// Somebody else writes to the table by now. Take nothing more from the log for it.
    #[error("another node has taken the table over")]
    Fenced,
    /// The table was dropped, retired or cancelled: read the registry again.
    #[error("the table is no longer in use")]
    Gone,
    /// The database lost commits that it had acknowledged, as one without a sync does when its server crashes: what it lost is folded
    /// again. Ask again.
    #[error("the table stands at position {stands}, not at {expected}")]
    SetBack { stands: Position, expected: Position },
    /// No table of this view can answer yet. Ask again.
    #[error("the view {view} is being built: position {position} of {target}")]
    Building { view: String, position: Position, target: Position },
}

impl ViewError {
    /// What a view needs of the log could not be had.
    fn of_log(error: impl std::fmt::Display) -> Self {
        Self::Unavailable(StoreError::Commit(error.to_string()))
    }
}

/// Keeps tables of documents for any number of readers, each table for one writer at a time. Every call may be repeated, and is one
/// transaction unless it says otherwise.
#[async_trait]
pub trait ViewStore: Send + Sync {
    /// The registry, by name, version and build. A table whose line says what only a newer program understands is left out.
    ///
    /// # Errors
    /// `Unavailable`.
    async fn tables(&self) -> Result<Vec<TableRow>, ViewError>;

    /// Answers the table that is being built for the view's name and version, or else takes up the one that was cancelled, or
    /// else makes one, empty. `target` is where the log ends.
    ///
    /// # Errors
    /// `Unavailable`.
    async fn begin(&self, view: ViewId, target: Position) -> Result<TableRow, ViewError>;

    /// Makes `token` the one that writes demand, and answers what the table reflects: nothing is written to it any more under an
    /// older one.
    ///
    /// # Errors
    /// `Unavailable`, `Gone` unless the table is building or live, `Fenced` when a newer token stands.
    async fn take_over(&self, table: &Table, token: u64) -> Result<Checkpoint, ViewError>;

    /// Those of the documents that exist, in no order. They may be of any state of the table.
    ///
    /// # Errors
    /// `Unavailable`, or `Gone` when there is no such table.
    async fn load(&self, table: &Table, ids: &[Uuid]) -> Result<Page, ViewError>;

    /// Writes documents, each id once, and the checkpoint, all or nothing. A document that stands at its position or above stays
    /// as it is. So does everything when the table's checkpoint is ahead of this one: an earlier attempt of the same writer came
    /// late.
    ///
    /// `behind` is where the writer left the table; none for one that knows nothing of it.
    ///
    /// # Errors
    /// `Unavailable`, and then the answer alone may have been lost; `Gone` unless the table is building or live; `Fenced` unless
    /// `token` is the one that stands; `SetBack` when the table does not stand where the writer left it; `Corrupt` for a document
    /// whose keys are not of the table's fields.
    async fn store_behind(
        &self,
        table: &Table,
        documents: Vec<SealedDocument>,
        behind: Option<Position>,
        checkpoint: Checkpoint,
        token: u64,
    ) -> Result<(), ViewError>;

    /// As [`store_behind`](Self::store_behind), wherever the table stands.
    ///
    /// # Errors
    /// As [`store_behind`](Self::store_behind).
    async fn store(
        &self,
        table: &Table,
        documents: Vec<SealedDocument>,
        checkpoint: Checkpoint,
        token: u64,
    ) -> Result<(), ViewError> {
        self.store_behind(table, documents, None, checkpoint, token).await
    }

    /// As many as fit into [`PAGE_BYTES_MAX`], and one at least where there are any.
    ///
    /// # Errors
    /// As [`load`](Self::load), and `UnknownField`.
    async fn list(&self, table: &Table, query: ListQuery) -> Result<Page, ViewError>;

    /// Which documents [`list`](Self::list) would answer, were it not for their bytes. It reads none of them.
    ///
    /// # Errors
    /// As [`list`](Self::list); `UnknownField` also for a list that is sorted by something else than a number or a time.
    async fn find(&self, table: &Table, query: ListQuery) -> Result<Vec<Found>, ViewError>;

    /// Lets readers have a table that was built, and retires the live one of the same name and version. Those of other versions
    /// stay, for the programs that they are for.
    ///
    /// # Errors
    /// As [`store`](Self::store).
    async fn make_live(&self, table: &Table, token: u64) -> Result<(), ViewError>;

    /// Remembers why its writer does not go on.
    ///
    /// # Errors
    /// As [`store`](Self::store).
    async fn stop(&self, table: &Table, token: u64, stopped: Stopped) -> Result<(), ViewError>;

    /// Forgets what stopped the table, so that its writer tries again.
    ///
    /// # Errors
    /// `Unavailable`, or `Gone` when there is no such table.
    async fn resume(&self, table: &Table) -> Result<(), ViewError>;

    /// Calls the filling of a table off.
    ///
    /// # Errors
    /// `Unavailable`, or `Gone` when the table is not building: it may be live by now.
    async fn cancel(&self, table: &Table) -> Result<(), ViewError>;

    /// Says of a table that is building or was called off that nobody goes on from it. It is dropped when nobody read it for a day.
    ///
    /// # Errors
    /// `Unavailable`, or `Gone` when the table is neither: it may be live by now.
    async fn retire(&self, table: &Table) -> Result<(), ViewError>;

    /// Drops a table in whatever state, with its line in the registry; also one that is not there. It is gone for everyone at
    /// once; to clear a large one away may take minutes, in which nobody else has to wait.
    ///
    /// # Errors
    /// `Unavailable`.
    async fn drop_table(&self, table: &Table) -> Result<(), ViewError>;

    /// How many of the indexes that the table was made with are not there: somebody dropped them. Its lists are right, and slow.
    ///
    /// # Errors
    /// `Unavailable`.
    async fn lost_indexes(&self, table: &Table) -> Result<u64, ViewError>;

    /// Says of tables that somebody reads them now; of none, that somebody is there. Where nobody was for longer than five minutes,
    /// that time counts for no table from then on.
    ///
    /// # Errors
    /// `Unavailable`.
    async fn read_by_now(&self, tables: &[Table]) -> Result<(), ViewError>;

    /// Leaves the store as a stopped process should: call it last.
    ///
    /// # Errors
    /// When what was written stays in more files than one.
    async fn close(&self) -> Result<(), StoreError>;
}

impl Table {
    /// Whether it is for this name and version.
    pub fn is_of(&self, view: ViewId) -> bool {
        self.name == view.name && self.version == view.version
    }

    /// Whose holder writes to the tables of this name and version.
    pub fn duty(&self) -> String {
        duty(&self.name, self.version)
    }

    /// The table of this view that is built as the `build`th.
    pub fn of(view: ViewId, build: u32) -> Self {
        let indexes = view.indexes.iter().map(|fields| fields.iter().map(|field| (*field).to_owned()).collect());
        Self {
            name: view.name.to_owned(),
            version: view.version,
            build,
            fields: view.fields.into(),
            indexes: indexes.collect(),
        }
    }

    /// Its fields and indexes as JSON.
    fn described(&self) -> (String, String) {
        let described = (serde_json::to_string(&self.fields[..]), serde_json::to_string(&self.indexes[..]));
        (described.0.expect("names and kinds are JSON"), described.1.expect("names are JSON"))
    }

    /// Whether every document has the keys that the table's fields take.
    fn check(&self, documents: &[SealedDocument]) -> Result<(), ViewError> {
        let fits = |document: &SealedDocument| {
            document.keys.len() == self.fields.len()
                && self.fields.iter().zip(&document.keys).all(|(field, key)| field.kind.takes(key))
        };
        documents.iter().find(|document| !fits(document)).map_or(Ok(()), |document| {
            let reason = "its keys are not those of the table's fields: a changed projection needs a higher version";
            Err(ViewError::Corrupt { view: self.name.clone(), id: document.id, reason: reason.to_owned() })
        })
    }
}

fn duty(name: &str, version: u32) -> String {
    format!("projector:{name}:{version}")
}

impl State {
    const ALL: [Self; 4] = [Self::Building, Self::Live, Self::Retired, Self::Cancelled];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Building => "building",
            Self::Live => "live",
            Self::Retired => "retired",
            Self::Cancelled => "cancelled",
        }
    }

    /// None for a state of a newer program.
    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }

    /// Whether somebody may write to the table.
    pub fn is_kept_up(self) -> bool {
        matches!(self, Self::Building | Self::Live)
    }
}
