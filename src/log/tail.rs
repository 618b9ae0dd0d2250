//! The decoded tail: the newest events, opened once per process however many follow them.
use marvin_domain::{Envelope, Event, Position, user::UserEvent};
use std::{
    collections::VecDeque,
    sync::{Arc, RwLock},
    time::Duration,
};
use tokio::sync::watch;
use tracing::error;

use super::{EventLog, ReadError, codec::Codec};
use crate::health::Health;

/// In `/readyz`.
const NAME: &str = "log";

/// Events kept opened: some seconds of a busy log, a few MB. Whoever is further behind reads pages from the store.
const RING_EVENTS_MAX: usize = 4_096;
/// Events per page of the feeder.
const PAGE_EVENTS: u32 = 500;
/// The slow poll behind the wake-up: finds what another process appended.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

pub struct Tail {
    log: Arc<dyn EventLog>,
    codec: Codec,
    ring: RwLock<VecDeque<Arc<Envelope>>>,
    /// The last position that followers may read.
    head: watch::Sender<Position>,
}

impl Tail {
    /// A tail that begins at the log's present end.
    pub fn new(log: Arc<dyn EventLog>, codec: Codec) -> Arc<Self> {
        let head = watch::channel(*log.head().borrow()).0;
        Arc::new(Self { log, codec, ring: RwLock::default(), head })
    }

    /// Where the log ends, as far as this process has opened it.
    pub fn head(&self) -> watch::Receiver<Position> {
        self.head.subscribe()
    }

    /// At most `limit` events after `after`, oldest first: from memory, or opened from the store for who is far behind.
    ///
    /// # Errors
    /// As [`EventLog::read`].
    pub async fn read(&self, after: Position, limit: u32) -> Result<Vec<Arc<Envelope>>, ReadError> {
        if let Some(events) = self.read_ring(after, limit as usize) {
            return Ok(events);
        }
        let rows = self.log.read(after, limit).await?;
        Ok(self.codec.open(rows).await?.into_iter().map(Arc::new).collect())
    }

    fn read_ring(&self, after: Position, limit: usize) -> Option<Vec<Arc<Envelope>>> {
        if after >= *self.head.borrow() {
            return Some(Vec::new());
        }
        let ring = self.ring.read().expect("nothing panics while it holds the ring");
        let first = ring.front()?.position;
        let skip = usize::try_from((after + 1).checked_sub(first)?).ok()?;
        Some(ring.iter().skip(skip).take(limit).cloned().collect())
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
            match taken {
                Ok(0) => {
                    tokio::time::timeout(POLL_INTERVAL, appended.changed()).await.ok();
                }
                Ok(_) => {}
                Err(error) => {
                    error!(error = %error, "the log's tail cannot be read");
                    health.degrade(NAME, error.to_string(), Some(after));
                    failing = true;
                    tokio::time::sleep(POLL_INTERVAL).await;
                }
            }
        }
    }

    async fn take(&self, after: Position) -> Result<usize, ReadError> {
        let events = self.codec.open(self.log.read(after, PAGE_EVENTS).await?).await?;
        let Some(last) = events.last().map(|event| event.position) else { return Ok(0) };
        let count = events.len();
        {
            let mut ring = self.ring.write().expect("nothing panics while it holds the ring");
            for event in events {
                if let Event::User(UserEvent::Erased(_)) = event.event {
                    forget(&mut ring, event.stream.id);
                }
                ring.push_back(Arc::new(event));
            }
            let surplus = ring.len().saturating_sub(RING_EVENTS_MAX);
            ring.drain(..surplus);
        }
        self.head.send_replace(last);
        Ok(count)
    }
}

/// Takes an erased person's words out of the opened events.
fn forget(ring: &mut VecDeque<Arc<Envelope>>, subject: uuid::Uuid) {
    for event in ring.iter_mut().filter(|event| event.metadata.subject == Some(subject)) {
        Arc::make_mut(event).event.erase();
    }
}
