//! Cached documents of views. Losing the cache loses nothing but time: truth is the view store, and the cache is asked only where
//! what it holds can be shown to be fresh enough.
//!
//! # The rules
//! One *writer* a table, the projector that holds the table's duty, begins a random *generation* and writes a *head*: the
//! generation, the position up to which everything committed is in it, and the writer's token. A head expires after [`HEAD_TTL`].
//! Readers take documents only under a living head and only of its generation.
//!
//! 1. `begin` puts a new generation's head in the place of the head that it saw there, or of none. Nothing is in a new generation.
//! 2. `put` does nothing unless the head is, to the byte, the one that this writer wrote last. It writes documents and then the
//!    head, in one step that nobody sees half of. The new head expires [`HEAD_TTL`] after the put was *sent*.
//! 3. Every document has a *mark* beside it: its position, or the lease of whoever fills it. A document without its own position
//!    for a mark is none. A put replaces a lower mark and never a higher one, so it also ends a lease.
//! 4. Who misses a document first leases its mark (a random token, [`LEASE_TTL`]), then reads the store, then fills; a fill does
//!    nothing unless its token still stands.
//! 5. After anything but a success the writer holds no head any more and has to begin again ([`publisher`]).
//! 6. A head follows a proof from the database, made after the head before it, that the writer holds its duty: a commit that
//!    demanded its token, or a renewal of the duty. Who takes a duty over begins before it commits anything.
//!
//! # Why no reader sees an old document
//! *Under a head at position p, a document reflects every event up to p.* By (2) everything committed after the generation began
//! is in it before a head says so. What a reader filled was read from the store after its lease, so after the generation began;
//! whatever was put in between has ended the lease. And *what a reader sees was true at most [`HEAD_TTL`] ago*: everything committed
//! before a head was sent is under it, and it lives no longer than that from then.
//!
//! - *A stale fill after an eviction*: the mark went with the document or was leased anew; the old token does not stand (4).
//! - *A crash between commit and cache*: the head stays where it was and expires. The next writer begins a generation (1), in which
//!   nothing from before the crash is.
//! - *A put that failed* may have been done or not. Done, it was in order (2). Not done, the head stays behind and expires; the
//!   writer begins a generation, and what it failed to put is in none.
//! - *A put that comes late* finds a head of another generation or none (2, 5). Where it still finds its own, it was the next in
//!   order, and the head it leaves expires as if it had come in time. A late `begin` finds another head than it saw (1); where it
//!   finds the same, its generation is as empty as any new one, nobody renews its head, and the true writer replaces it.
//! - *A takeover while the old writer still puts*: the new one's head is not the old one's, so from then on the old one's puts do
//!   nothing (2), and with its lower token it may not begin (`Fenced`); only then does the new one commit (6). Should the new one
//!   not reach the cache while the old one does, the old one lacks proof (6): its last put came within [`HEAD_TTL`] of the head
//!   before it, and the head that this left is gone at most 4 s after the last proof: nothing older is seen, even then.
//! - *All keys gone*, as by FLUSHALL: no head, so no documents, leases or puts; the writer begins anew. Some keys gone: a document
//!   without its mark is none. An older copy of all keys, as of a replica that became the primary: the writer does not find the
//!   head that it wrote.
//! - *Clocks that differ*: nothing compares the clocks of two machines. Everything expires by the cache's own clock, and how long
//!   ago a put was sent is told by that clock (with the answer before) and the time that has passed for the writer since. A head
//!   that would live longer than [`HEAD_TTL`], as after a clock was set back, is not trusted.
//!
//! What lies in Redis is bound to its key, position and generation by a code under the instance's key ([`redis`]), so what was
//! altered, moved or given another position there is a miss. What is beyond that: whoever may write to Redis and puts back an older
//! document *together with* its older mark is believed until that document changes again, for [`ENTRY_TTL`] at most if they
//! keep its expiry.
use async_trait::async_trait;
use bytes::Bytes;
use marvin_domain::Position;
use std::{error::Error, sync::Arc, time::Duration};
use tokio::time::Instant;
use uuid::Uuid;

pub mod guarded;
pub mod memory;
pub mod publisher;
pub mod reader;
pub mod redis;

/// How long a head is trusted: one of a writer's signs of life, which come once a second, may be lost before readers turn to the
/// store.
pub const HEAD_TTL: Duration = Duration::from_secs(2);
/// How long a reader may take to fill what it missed: as long as a statement of the view store may take.
pub const LEASE_TTL: Duration = Duration::from_secs(5);
/// How long a document stays since it was put or filled. Every change is put, read or not, so this bounds the memory: at 1,000
/// changed documents a second of 1 kB it is about 90 MB. What is read for longer costs one look into the store a minute. Old
/// generations go away by it too.
pub const ENTRY_TTL: Duration = Duration::from_secs(60);
/// A larger document is not cached: it would delay others on the way.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// The table of documents that is cached: one build of a projection's name and version.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TableKey {
    pub name: Arc<str>,
    pub version: u32,
    pub build: u32,
}

/// What readers trust: everything committed up to `position` is in `generation`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    pub generation: Uuid,
    pub position: Position,
}

/// A sealed document as the view store holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub id: Uuid,
    /// The last event that was folded in.
    pub position: Position,
    pub body: Bytes,
}

/// What a reader found. Without a head there is nothing to trust, and no slots.
#[derive(Debug, Clone, Default)]
pub struct Found {
    pub head: Option<Head>,
    /// One for each id, in their order.
    pub slots: Vec<Slot>,
}

#[derive(Debug, Clone)]
pub enum Slot {
    Hit(Entry),
    Miss(Missed),
}

/// A document that was not there, or not to be trusted, and what stood beside it.
#[derive(Debug, Clone)]
pub struct Missed {
    pub id: Uuid,
    mark: Option<Bytes>,
}

/// The right to fill one document, until it lapses or somebody else writes it.
#[derive(Debug, Clone)]
pub struct Lease {
    pub id: Uuid,
    token: Uuid,
}

/// What a reader found in the store for its lease; none gives the lease back.
#[derive(Debug, Clone)]
pub struct Fill {
    pub lease: Lease,
    pub entry: Option<Entry>,
}

/// What the writer holds from `begin` on: its generation and the head that it wrote last. It is of use for one put, which
/// answers the next.
#[derive(Debug, Clone)]
pub struct Tenure {
    token: u64,
    head: Head,
    /// The cache's clock at the last answer, in milliseconds since a time of its own.
    told_ms: u64,
    /// When that answer came.
    told: Instant,
}

impl Tenure {
    pub fn head(&self) -> Head {
        self.head
    }

    /// The cache's clock, [`HEAD_TTL`] from now: until when a head that is sent now may be trusted. Early rather than late, since
    /// the answer took its way.
    fn trusted_until_ms(&self) -> u64 {
        self.told_ms.saturating_add(millis(self.told.elapsed())).saturating_add(millis(HEAD_TTL))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum CacheError {
    /// No answer, or none in time: what was asked may have been done, or be done yet. Ask the store; a writer begins again.
    #[error("the cache cannot be reached")]
    Unavailable(#[source] Arc<dyn Error + Send + Sync>),
    /// It failed just now, and nobody is to wait for it again until it is known to be well.
    #[error("the cache is passed over while it is unreachable or slow")]
    PassedOver,
    /// The head is not the one that this writer wrote last. Begin again.
    #[error("the cache has another head, or none")]
    Lost,
    /// A writer with a higher token wrote the head. Only a higher token still may begin.
    #[error("the cache belongs to the writer with token {0}")]
    Fenced(u64),
}

#[async_trait]
pub trait Cache: Send + Sync {
    /// The head, unless there is none to be trusted, and what is cached under it. A miss says nothing of the store.
    ///
    /// # Errors
    /// `Unavailable`.
    async fn get(&self, table: &TableKey, ids: &[Uuid]) -> Result<Found, CacheError>;

    /// Leases what was missed under this generation, before the store is asked for it. Answers the leases got: what somebody else
    /// is about to fill, or has written meanwhile, is not among them.
    ///
    /// # Errors
    /// `Unavailable`.
    async fn lease(&self, table: &TableKey, generation: Uuid, missed: &[Missed]) -> Result<Vec<Lease>, CacheError>;

    /// Writes what was read from the store after it was leased, where the lease still stands. Answers in how many places.
    ///
    /// # Errors
    /// `Unavailable`.
    async fn fill(&self, table: &TableKey, generation: Uuid, fills: &[Fill]) -> Result<usize, CacheError>;

    /// Begins a new generation that reflects `position`. For whoever holds the table's duty, with the token it has there.
    ///
    /// # Errors
    /// `Unavailable`; `Lost` when somebody else was faster; `Fenced`.
    async fn begin(&self, table: &TableKey, token: u64, position: Position) -> Result<Tenure, CacheError>;

    /// Writes what was committed since the last put, at most once each, and then the head, at `position`. Without entries it keeps
    /// the head alive. After any error the tenure is void.
    ///
    /// # Errors
    /// `Unavailable`; `Lost`.
    async fn put(
        &self,
        table: &TableKey,
        tenure: &Tenure,
        entries: &[Entry],
        position: Position,
    ) -> Result<Tenure, CacheError>;

    /// Connects where that is needed, and finds out whether the cache can be written to.
    ///
    /// # Errors
    /// `Unavailable`.
    async fn probe(&self) -> Result<(), CacheError>;
}
