//! The event log: the port, and what every store behind it promises.
//!
//! Owns: the order of events, their places in their streams, the memory of command ids. An append is whole or not at all, and
//! acknowledged means durable. Positions are 1, 2, 3 … in commit order, so a reader that saw N never later finds a new event
//! at or below N. Refuses to change or delete an event. Rows are sealed before they come here and opened after they leave
//! (`codec`); a store never sees a clear one.
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use marvin_domain::{Position, Sequence, StreamId};
use tokio::sync::watch;
use uuid::Uuid;

mod awake;
pub mod checkpoint;
pub mod codec;
pub mod incarnation;
pub mod postgres;
pub mod sqlite;
pub mod subscription;
pub mod tail;

use crate::{health::bounded, store::StoreError};

/// Events of one command: the largest is a rule that tells a whole role, 1,000 people, and records its step.
pub const APPEND_EVENTS_MAX: usize = 1_024;
/// Sealed bytes of one event: a task's input (4 MiB) with room for its sealing.
pub const PAYLOAD_BYTES_MAX: usize = 5 * 1024 * 1024;
/// Bytes of all the events of one command: what one statement can carry to the store within its time.
pub const APPEND_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Events per page of a read.
pub const PAGE_EVENTS_MAX: u32 = 10_000;
/// Sealed bytes per page of a read: opened and decoded they take several times as much. A page holds one event at least.
pub const PAGE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A sealed event on its way into the log.
#[derive(Debug, Clone)]
pub struct NewEvent {
    pub event_id: Uuid,
    pub event_type: &'static str,
    pub event_version: u16,
    pub payload: Vec<u8>,
    /// JSON, kept as written.
    pub metadata: String,
}

/// Events for one stream, if it still stands at `expected` (0: it must not exist).
#[derive(Debug, Clone)]
pub struct StreamAppend {
    pub stream: StreamId,
    pub expected: Sequence,
    pub events: Vec<NewEvent>,
}

/// All the events of one command, on one or several streams. The first stream is the one that the command is about.
#[derive(Debug, Clone)]
pub struct Append {
    pub command_id: Uuid,
    /// Tells a repeated command from another one under the same id.
    pub digest: Option<String>,
    pub streams: Vec<StreamAppend>,
}

impl Append {
    /// Sealed bytes of all its events.
    pub fn bytes(&self) -> usize {
        let events = self.streams.iter().flat_map(|append| &append.events);
        events.map(|event| event.payload.len() + event.metadata.len()).sum()
    }
}

/// Where a command's events stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// The stream that the command is about.
    pub stream: StreamId,
    /// Of its last event in that stream.
    pub sequence: Sequence,
    /// Of its last event in the log.
    pub position: Position,
    /// The command had been appended before; this is its first result.
    pub repeated: bool,
}

/// A stored event as it stands in the log, sealed.
#[derive(Debug, Clone)]
pub struct StoredEvent {
    pub position: Position,
    pub stream: StreamId,
    pub sequence: Sequence,
    pub event_type: String,
    pub event_version: u16,
    pub payload: Vec<u8>,
    pub metadata: String,
    pub event_id: Uuid,
    pub command_id: Uuid,
    pub recorded_at: DateTime<Utc>,
}

#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// Someone appended first. Reload and decide again.
    #[error("{stream} has moved past sequence {expected}")]
    Conflict { stream: StreamId, expected: Sequence },
    /// The command id stands in the log under another request. Choose another id.
    #[error("command {command_id} was used for another request")]
    Reused { command_id: Uuid },
    /// Nothing was written, and nothing will be. Ask for less.
    #[error("the command is over the limit: {what} {size}, at most {max}")]
    TooLarge { what: &'static str, size: usize, max: usize },
    /// The store cannot be reached; the command is wholly there or not at all. Send it again under the same id.
    #[error("the event log is unavailable")]
    Unavailable(#[from] StoreError),
}

#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The store cannot be reached. Retry with backoff.
    #[error("the event log is unavailable")]
    Unavailable(#[from] StoreError),
    /// The keys that open events cannot be had. Retry with backoff.
    #[error("keys are unavailable: {0}")]
    Keys(String),
    /// An event that cannot be read. Whoever follows the log stops here; it is never skipped.
    #[error("the event at position {position} cannot be read: {reason}")]
    Corrupt { position: Position, reason: String },
}

impl ReadError {
    /// Of a row that says something about itself, which may have any length.
    fn corrupt(position: Position, reason: String) -> Self {
        Self::Corrupt { position, reason: bounded(reason) }
    }
}

/// Whether a page that was asked for with `limit` ended at a limit, so that more may stand behind it.
pub fn is_full(page: &[StoredEvent], limit: u32) -> bool {
    page.len() >= limit.min(PAGE_EVENTS_MAX) as usize
        || page.iter().map(|row| row.payload.len()).sum::<usize>() >= PAGE_BYTES_MAX
}

#[async_trait]
pub trait EventLog: Send + Sync {
    /// Appends all events of a command, each stream at its expected sequence, and answers once they are durable.
    ///
    /// Safe to repeat: a command id that stands in the log answers its first result, whatever has happened since.
    ///
    /// # Errors
    /// See [`AppendError`]; except for `Unavailable`, nothing was written.
    async fn append(&self, append: Append) -> Result<Receipt, AppendError>;

    /// The result of a command that was appended, if it was, and the digest of its request.
    ///
    /// # Errors
    /// `Unavailable`.
    async fn find_command(&self, command_id: Uuid) -> Result<Option<(Receipt, Option<String>)>, ReadError>;

    /// Reads events after `after` (exclusive), oldest first, at most `limit` (1..=10_000).
    ///
    /// Positions never arrive late, so the last one returned is a safe checkpoint. A page also ends at
    /// [`PAGE_BYTES_MAX`]; one that is not full in either way ([`is_full`]) reached the end.
    ///
    /// # Errors
    /// `Unavailable` when the store is down; `Corrupt` at the first unreadable row.
    async fn read(&self, after: Position, limit: u32) -> Result<Vec<StoredEvent>, ReadError>;

    /// Reads one stream after `after` (exclusive), oldest first, at most `limit` (1..=10_000).
    ///
    /// # Errors
    /// As [`read`](Self::read).
    async fn read_stream(&self, stream: StreamId, after: Sequence, limit: u32) -> Result<Vec<StoredEvent>, ReadError>;

    /// The position of the last event, and a wake-up whenever this process appended beyond it.
    fn head(&self) -> watch::Receiver<Position>;
}

/// What every adapter refuses before it asks its database.
fn check_limits(append: &Append) -> Result<(), AppendError> {
    let over = |what, size, max| if size > max { Err(AppendError::TooLarge { what, size, max }) } else { Ok(()) };
    let events = || append.streams.iter().flat_map(|stream| &stream.events);
    over("events", events().count(), APPEND_EVENTS_MAX)?;
    over("payload bytes", events().map(|event| event.payload.len()).max().unwrap_or(0), PAYLOAD_BYTES_MAX)?;
    over("bytes", append.bytes(), APPEND_BYTES_MAX)
}
