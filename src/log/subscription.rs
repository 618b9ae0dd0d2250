//! Follows the log from a checkpoint: catches up in pages, then waits for a wake-up. Knows nothing of what followers do.
use async_trait::async_trait;
use marvin_domain::{Envelope, Position};
use std::{sync::Arc, time::Duration};
use tokio::sync::{mpsc, watch};
use tracing::{error, warn};

use super::{
    ReadError, StoredEvent,
    checkpoint::Checkpoint,
    tail::{Page, Tail, Wanted},
};
use crate::{
    health::{Health, bounded},
    store::chain,
};

/// Events read per batch: large enough to amortise a transaction, small enough to replay cheaply after a crash.
pub const BATCH_EVENTS_MAX: u32 = 500;
/// Pause before a failed batch is tried again; doubles up to the maximum.
const RETRY_INITIAL: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// A place in the log that moves forward.
pub struct Subscription {
    tail: Arc<Tail>,
    wanted: Wanted,
    head: watch::Receiver<Position>,
    after: Position,
    reads_ahead: bool,
    ahead: Option<Ahead>,
}

/// The pages behind the last one, on their way while that one is opened and taken: one that is ready, and one being read. They stay
/// sealed until their turn, so that nothing is opened under a key that was destroyed meanwhile. Where nobody wants them any more
/// the last is read to its end all the same: giving a page up in its middle would cost its connection.
struct Ahead {
    /// Where the next of them begins.
    after: Position,
    pages: mpsc::Receiver<Result<Vec<StoredEvent>, ReadError>>,
}

impl Ahead {
    fn new(tail: Arc<Tail>, after: Position) -> Self {
        let (sender, pages) = mpsc::channel(1);
        tokio::spawn(async move {
            let mut after = after;
            loop {
                let page = tail.rows(after, BATCH_EVENTS_MAX).await;
                let last = page.as_ref().ok().and_then(|rows| rows.last()).map(|row| row.position);
                // Behind an error or the log's end somebody else tries again.
                if sender.send(page).await.is_err() {
                    break;
                }
                let Some(last) = last else { break };
                after = last;
            }
        });
        Self { after, pages }
    }
}

impl Subscription {
    /// Reads what comes after `after`.
    pub fn new(tail: Arc<Tail>, after: Position) -> Self {
        Self::of(tail, after, Wanted::All)
    }

    /// As [`new`](Self::new), but keeps no page that nobody has asked for: for one of many, whose reader may stop for long.
    pub fn page_by_page(tail: Arc<Tail>, after: Position) -> Self {
        Self { reads_ahead: false, ..Self::new(tail, after) }
    }

    fn of(tail: Arc<Tail>, after: Position, wanted: Wanted) -> Self {
        let head = tail.head();
        Self { tail, wanted, head, after, reads_ahead: true, ahead: None }
    }

    /// The position up to which events were answered.
    pub fn position(&self) -> Position {
        self.after
    }

    /// The next events, at least one, in order and without a skip. Waits until there are some; safe to cancel.
    ///
    /// # Errors
    /// As [`Tail::read`]; the subscription stays where it was, so calling again tries again.
    pub async fn next(&mut self) -> Result<Vec<Arc<Envelope>>, ReadError> {
        Ok(self.next_page().await?.0)
    }

    /// As [`next`](Self::next), those that are wanted, of which there may be none, and where the page ends.
    async fn next_page(&mut self) -> Result<(Vec<Arc<Envelope>>, Checkpoint), ReadError> {
        loop {
            self.head.borrow_and_update();
            let page = match self.tail.page_of_ring(self.after, BATCH_EVENTS_MAX as usize, self.wanted) {
                Some(page) => {
                    self.ahead = None;
                    page
                }
                None => self.read_store().await?,
            };
            if let Some(end) = page.end {
                self.after = end.position;
                return Ok((page.events, end));
            }
            // The sender lives in the tail that this subscription holds.
            self.head.changed().await.ok();
        }
    }

    /// A page from the store; the next ones may be read while this one is opened.
    async fn read_store(&mut self) -> Result<Page, ReadError> {
        let rows = match self.take_ahead().await {
            Some(rows) => rows,
            None => self.tail.rows(self.after, BATCH_EVENTS_MAX).await?,
        };
        if let Some(last) = rows.last().filter(|_| self.reads_ahead) {
            let ahead = self.ahead.get_or_insert_with(|| Ahead::new(self.tail.clone(), last.position));
            ahead.after = last.position;
        }
        let (events, end) = self.tail.open(rows, self.wanted).await?.unzip();
        Ok(Page { events: events.into_iter().flatten().map(Arc::new).collect(), end })
    }

    /// What was read ahead. Nothing found says nothing: it was read some time ago, and there may be events by now.
    async fn take_ahead(&mut self) -> Option<Vec<StoredEvent>> {
        self.ahead.take_if(|ahead| ahead.after != self.after);
        let ahead = self.ahead.as_mut()?;
        match ahead.pages.recv().await {
            Some(Ok(rows)) if !rows.is_empty() => Some(rows),
            // An error may be old by now, too.
            _ => {
                self.ahead = None;
                None
            }
        }
    }
}

/// Why a follower did not take a batch.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// Passing: the same batch is given again after a pause.
    #[error("{0}")]
    Again(String),
    /// An event that the follower cannot digest: it stops here, and is shown as stopped.
    #[error("stopped at position {position}: {reason}")]
    Stop { position: Position, reason: String },
}

/// Something that follows the log. It keeps its own checkpoint, so that a crash repeats a batch and never skips one.
#[async_trait]
pub trait Follower: Send {
    /// Stable and unique: it names the follower in logs and in `/readyz`.
    fn name(&self) -> String;
    /// Which events it is given.
    fn wanted(&self) -> Wanted {
        Wanted::All
    }
    /// The position behind which this follower wants events.
    ///
    /// # Errors
    /// When the checkpoint cannot be read.
    async fn resume(&mut self) -> Result<Position, FollowError>;
    /// Takes a batch and moves the checkpoint behind it. The same batch may come twice.
    ///
    /// # Errors
    /// See [`FollowError`].
    async fn take(&mut self, events: &[Arc<Envelope>]) -> Result<(), FollowError>;
    /// Finishes what it took and put off: what comes next cannot be read.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    async fn settle(&mut self) -> Result<(), FollowError> {
        Ok(())
    }
    /// The same for who does not want all events: there may be none in the batch, and `end` is behind those that were left out.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    async fn take_to(&mut self, events: &[Arc<Envelope>], _end: Checkpoint) -> Result<(), FollowError> {
        self.take(events).await
    }
}

/// Where a follower stopped, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Halted {
    pub position: Position,
    pub reason: String,
}

/// Runs a follower until the process ends, or until the follower stops at an event it cannot digest, which it answers.
pub async fn follow(tail: Arc<Tail>, mut follower: impl Follower, health: Health) -> Halted {
    let name = follower.name();
    let mut pause = RETRY_INITIAL;
    // Whether it is not even known from where it goes on.
    let mut is_lost = false;
    loop {
        let resumed = follower.resume().await;
        // There may be nothing to take for long, by which it would be known to be well again.
        if resumed.is_ok() && std::mem::take(&mut is_lost) {
            health.recover(&name);
            pause = RETRY_INITIAL;
        }
        let run = async {
            let after = resumed.inspect_err(|_| is_lost = true)?;
            run(&tail, &mut follower, after, &health, &mut pause).await
        };
        let error = match run.await {
            Ok(never) => match never {},
            Err(error) => error,
        };
        match error {
            FollowError::Stop { position, reason } => {
                let reason = bounded(reason);
                error!(follower = name, position, reason, "a follower of the log stopped");
                health.degrade(&name, format!("stopped at position {position}: {reason}"), Some(position));
                return Halted { position, reason };
            }
            FollowError::Again(reason) => {
                let reason = bounded(reason);
                warn!(follower = name, reason, "a follower of the log will try again");
                health.degrade(&name, reason, None);
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(RETRY_MAX);
            }
        }
    }
}

async fn run(
    tail: &Arc<Tail>,
    follower: &mut impl Follower,
    after: Position,
    health: &Health,
    pause: &mut Duration,
) -> Result<std::convert::Infallible, FollowError> {
    let mut subscription = Subscription::of(tail.clone(), after, follower.wanted());
    loop {
        let (events, end) = match subscription.next_page().await {
            Ok(page) => page,
            Err(ReadError::Corrupt { position, reason }) => {
                follower.settle().await?;
                return Err(FollowError::Stop { position, reason });
            }
            Err(error @ (ReadError::Unavailable(_) | ReadError::Keys(_))) => {
                return Err(FollowError::Again(chain(&error)));
            }
        };
        follower.take_to(&events, end).await?;
        if *pause != RETRY_INITIAL {
            health.recover(&follower.name());
            *pause = RETRY_INITIAL;
        }
    }
}
