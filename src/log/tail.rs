//! The decoded tail: the newest events, opened once per process however many follow them.
use marvin_domain::{
    AggregateKind, Envelope, Event, Position,
    user::{UserErased, UserEvent},
};
use std::{
    collections::{HashSet, VecDeque},
    sync::{Arc, RwLock},
    time::Duration,
};
use tokio::sync::watch;
use tracing::error;
use uuid::Uuid;

use super::{EventLog, ReadError, StoredEvent, checkpoint::Checkpoint, codec::Codec};
use crate::health::Health;

/// In `/readyz`.
const NAME: &str = "log";

/// Events kept opened: some seconds of a busy log. Whoever is further behind reads pages from the store.
const RING_EVENTS_MAX: usize = 4_096;
/// Sealed bytes of the events kept opened; decoded they take several times as much.
const RING_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Events per page of the feeder.
const PAGE_EVENTS: u32 = 500;
/// The slow poll behind the wake-up: finds what another process appended.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Which events a follower is given. The others are not even opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    All,
    /// Those of these aggregates, and erasures of people.
    Of(&'static [AggregateKind]),
}

impl Wanted {
    fn includes(self, kind: AggregateKind, event_type: &str) -> bool {
        match self {
            Self::All => true,
            Self::Of(kinds) => kinds.contains(&kind) || is_erasure(kind, event_type),
        }
    }
}

/// Whatever keeps people's words in clear has to hear of it.
fn is_erasure(kind: AggregateKind, event_type: &str) -> bool {
    const ERASED: Event = Event::User(UserEvent::Erased(UserErased {}));
    kind == AggregateKind::User && event_type == ERASED.event_type()
}

/// The next events that are wanted. There may be none, and others behind the last of them: `end` is behind all of these.
#[derive(Debug)]
pub(super) struct Page {
    pub events: Vec<Arc<Envelope>>,
    /// None when nothing has come yet.
    pub end: Option<Checkpoint>,
}

pub struct Tail {
    log: Arc<dyn EventLog>,
    codec: Codec,
    ring: RwLock<Ring>,
    /// The last position that followers may read.
    head: watch::Sender<Position>,
}

/// The newest events, each with its size, and who was erased since this process began.
#[derive(Default)]
struct Ring {
    events: VecDeque<(Arc<Envelope>, usize)>,
    bytes: usize,
    erased: HashSet<Uuid>,
}

impl Ring {
    /// Keeps an event, without the words of who is erased: also when it was sealed just before their key was destroyed.
    fn push(&mut self, mut event: Envelope, bytes: usize) {
        if let Event::User(UserEvent::Erased(_)) = event.event {
            self.forget(event.stream.id);
        }
        if event.metadata.subject.is_some_and(|subject| self.erased.contains(&subject)) {
            event.event.erase();
        }
        self.events.push_back((Arc::new(event), bytes));
        self.bytes += bytes;
        while self.events.len() > RING_EVENTS_MAX || (self.bytes > RING_BYTES_MAX && self.events.len() > 1) {
            self.bytes -= self.events.pop_front().map_or(0, |(_, bytes)| bytes);
        }
    }

    fn forget(&mut self, subject: Uuid) {
        self.erased.insert(subject);
        for (event, _) in self.events.iter_mut().filter(|(event, _)| event.metadata.subject == Some(subject)) {
            Arc::make_mut(event).event.erase();
        }
    }
}

impl Tail {
    /// A tail that begins at the log's present end.
    pub fn new(log: Arc<dyn EventLog>, codec: Codec) -> Arc<Self> {
        let head = watch::channel(*log.head().borrow()).0;
        Arc::new(Self { log, codec, ring: RwLock::default(), head })
    }

    /// Where the log ends, as far as this process has heard; also when it cannot open what stands there.
    pub fn log_end(&self) -> Position {
        (*self.log.head().borrow()).max(*self.head.borrow())
    }

    /// As [`log_end`](Self::log_end), with the event that stands there.
    ///
    /// # Errors
    /// As [`EventLog::read`].
    pub async fn end(&self) -> Result<Checkpoint, ReadError> {
        let Some(before) = self.log_end().checked_sub(1) else { return Ok(Checkpoint::START) };
        let last = self.rows(before, 1).await?.pop();
        Ok(last.map_or(Checkpoint::START, |row| Checkpoint { position: row.position, event_id: row.event_id }))
    }

    /// Where the log ends, as far as this process has opened it.
    pub fn head(&self) -> watch::Receiver<Position> {
        self.head.subscribe()
    }

    /// At most `limit` events after `after`, oldest first: from memory, or opened from the store for who is far behind.
    ///
    /// # Errors
    /// As [`EventLog::read`]; `Corrupt` only when the very next event cannot be read.
    pub async fn read(&self, after: Position, limit: u32) -> Result<Vec<Arc<Envelope>>, ReadError> {
        if let Some(events) = self.read_ring(after, limit as usize) {
            return Ok(events);
        }
        let opened = self.open(self.rows(after, limit).await?, Wanted::All).await?;
        Ok(opened.into_iter().flat_map(|(events, _)| events).map(Arc::new).collect())
    }

    /// A page from the store, still sealed. It ends before a row that cannot be read or is missing, so that those before it are
    /// not held up by it; the page behind them then fails.
    pub(super) async fn rows(&self, after: Position, limit: u32) -> Result<Vec<StoredEvent>, ReadError> {
        let mut page = match self.log.read(after, limit).await {
            Err(ReadError::Corrupt { position, .. }) if position > after + 1 => {
                self.log.read(after, readable(after, position, limit)).await?
            }
            page => page?,
        };
        // Positions are gapless and never late: one that is not there was taken out.
        let whole = (after + 1..).zip(&page).take_while(|(expected, row)| row.position == *expected).count();
        if whole == 0 && !page.is_empty() {
            return Err(ReadError::Corrupt { position: after + 1, reason: "it is missing".to_owned() });
        }
        page.truncate(whole);
        Ok(page)
    }

    /// Opens those of a page's events that are wanted, up to the first that cannot be opened; only where that is the very first of
    /// the page is it an error. Answers them with where they end; nothing for an empty page.
    pub(super) async fn open(
        &self,
        mut rows: Vec<StoredEvent>,
        wanted: Wanted,
    ) -> Result<Option<(Vec<Envelope>, Checkpoint)>, ReadError> {
        loop {
            let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return Ok(None) };
            let (first, end) = (first.position, Checkpoint { position: last.position, event_id: last.event_id });
            let limit = u32::try_from(rows.len()).unwrap_or(u32::MAX);
            rows.retain(|row| wanted.includes(row.stream.kind, &row.event_type));
            match self.codec.open(rows).await {
                // There may be another one before it: what is looked at later than keys is found later.
                Err(ReadError::Corrupt { position, .. }) if position > first => {
                    rows = self.log.read(first - 1, readable(first - 1, position, limit)).await?;
                }
                opened => return Ok(Some((opened?, end))),
            }
        }
    }

    /// Takes the words of who was erased out of events that were kept for a while behind their reading.
    pub fn forget_erased(&self, events: &mut [Arc<Envelope>]) {
        let ring = self.ring.read().expect("nothing panics while it holds the ring");
        let is_erased = |event: &&mut Arc<Envelope>| event.metadata.subject.is_some_and(|id| ring.erased.contains(&id));
        events.iter_mut().filter(is_erased).for_each(|event| Arc::make_mut(event).event.erase());
    }

    /// What is in memory; none when that begins too late.
    pub(super) fn read_ring(&self, after: Position, limit: usize) -> Option<Vec<Arc<Envelope>>> {
        if after >= *self.head.borrow() {
            return Some(Vec::new());
        }
        let ring = self.ring.read().expect("nothing panics while it holds the ring");
        let first = ring.events.front()?.0.position;
        let skip = usize::try_from((after + 1).checked_sub(first)?).ok()?;
        Some(ring.events.iter().skip(skip).take(limit).map(|(event, _)| event.clone()).collect())
    }

    /// As [`read_ring`](Self::read_ring), those that are wanted; an empty page without an end when there is nothing new.
    pub(super) fn page_of_ring(&self, after: Position, limit: usize, wanted: Wanted) -> Option<Page> {
        let mut events = self.read_ring(after, limit)?;
        let end = events.last().map(|last| Checkpoint::behind(last));
        events.retain(|event| wanted.includes(event.stream.kind, event.event.event_type()));
        Some(Page { events, end })
    }

    /// Feeds the tail until the process ends. Runs once per process.
    pub async fn feed(self: Arc<Self>, health: Health) {
        let mut appended = self.log.head();
        let mut failing = false;
        loop {
            let after = *self.head.borrow();
            let taken = self.take(after).await;
            if failing && taken.is_ok() {
                health.recover(NAME);
                failing = false;
            }
            health.database(!matches!(taken, Err(ReadError::Unavailable(_))));
            match taken {
                Ok(0) => {
                    tokio::time::timeout(POLL_INTERVAL, appended.changed()).await.ok();
                }
                Ok(_) => {}
                Err(error) => {
                    // Twice a second would say no more.
                    if !failing {
                        error!(error = %error, "the log's tail cannot be read");
                    }
                    health.degrade(NAME, error.to_string(), Some(after));
                    failing = true;
                    tokio::time::sleep(POLL_INTERVAL).await;
                }
            }
        }
    }

    async fn take(&self, after: Position) -> Result<usize, ReadError> {
        let rows = self.rows(after, PAGE_EVENTS).await?;
        let sizes: Vec<usize> = rows.iter().map(|row| row.payload.len()).collect();
        let Some((events, end)) = self.open(rows, Wanted::All).await? else { return Ok(0) };
        {
            let mut ring = self.ring.write().expect("nothing panics while it holds the ring");
            events.into_iter().zip(&sizes).for_each(|(event, bytes)| ring.push(event, *bytes));
        }
        self.head.send_replace(end.position);
        Ok(sizes.len())
    }
}

/// How many events stand behind `after` and before `unreadable`, at most `limit`.
fn readable(after: Position, unreadable: Position, limit: u32) -> u32 {
    u32::try_from(unreadable - after - 1).unwrap_or(limit).min(limit)
}
