//! Keeps a cache that is slow or away from slowing anybody down: a deadline for each call, and a circuit breaker.
//!
//! The first call that fails or is late opens the breaker: from then on everybody passes the cache over at once, while a probe in
//! the background finds out when it is well again. A cache that is only just in time keeps a request longest: for the put of the
//! batch before its own, and for a look and a lease in each of two views, one after the other. That is 100 ms together.
use async_trait::async_trait;
use marvin_domain::Position;
use metrics::{counter, gauge};
use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::runtime::Handle;
use tracing::{info, warn};
use uuid::Uuid;

use super::{Cache, CacheError, Entry, Fill, Found, Lease, Missed, TableKey, Tenure};
use crate::{health::Health, store::chain};

/// How long a reader waits for what it looks for. The store would have answered by then.
const LOOK_PATIENCE: Duration = Duration::from_millis(24);
/// How long a reader waits before it asks the store, so that the next one finds the document.
const LEASE_PATIENCE: Duration = Duration::from_millis(10);
/// How long the writer waits; readers that wait for its next batch wait with it. A put has at most a megabyte.
const WRITE_PATIENCE: Duration = Duration::from_millis(16);
/// What a cache may cost a request at most: a sign of the writer's life and the put of the batch before its own, one after the other,
/// and then a look and a lease for itself and again for what belongs to it, as the page of a task has steps.
const REQUEST_MS_MAX: u128 = 100;
const _: () = assert!(
    2 * WRITE_PATIENCE.as_millis() + 2 * (LOOK_PATIENCE.as_millis() + LEASE_PATIENCE.as_millis()) <= REQUEST_MS_MAX
);
/// How soon a probe must be answered. What is asked takes more round trips than one: a look may wait for one command and take another,
/// twice in a new generation; a lease may have to send its script, and so may who begins, behind a look.
pub const PROBE_TIMEOUT: Duration = Duration::from_millis(5);
const _: () = assert!(
    4 * PROBE_TIMEOUT.as_millis() <= LOOK_PATIENCE.as_millis()
        && 2 * PROBE_TIMEOUT.as_millis() <= LEASE_PATIENCE.as_millis()
        && 3 * PROBE_TIMEOUT.as_millis() <= WRITE_PATIENCE.as_millis()
);

/// Between the first two probes; each later one takes twice as long to come.
const PROBE_INTERVAL_MIN: Duration = Duration::from_millis(100);
/// Between probes of a cache that stays away: it is found well within this.
const PROBE_INTERVAL_MAX: Duration = Duration::from_secs(1);

/// The part's name in `/readyz`.
const PART: &str = "cache";
const FAILURES: &str = "marvin_cache_failures_total";
const OPEN: &str = "marvin_cache_open";

/// May be cloned; all clones share one breaker.
#[derive(Clone)]
pub struct Guarded(Arc<Inner>);

struct Inner {
    cache: Arc<dyn Cache>,
    is_open: AtomicBool,
    health: Health,
    /// Where probes run, and with them the connections that they make: not on a thread of whoever found the cache away.
    runtime: Handle,
}

impl Guarded {
    /// Begins with an open breaker, and with a probe, so that nobody waits for a connection. Call it within the Tokio runtime that
    /// connections are to live on.
    pub fn new(cache: Arc<dyn Cache>, health: Health) -> Self {
        let inner = Inner { cache, is_open: AtomicBool::new(false), health, runtime: Handle::current() };
        let guarded = Self(Arc::new(inner));
        guarded.open();
        guarded
    }

    /// Whether the cache is passed over.
    pub fn is_open(&self) -> bool {
        self.0.is_open.load(Ordering::Acquire)
    }

    async fn within<T>(
        &self,
        call: &'static str,
        patience: Duration,
        asking: impl Future<Output = Result<T, CacheError>>,
    ) -> Result<T, CacheError> {
        if self.is_open() {
            return Err(CacheError::PassedOver);
        }
        let outcome = match tokio::time::timeout(patience, asking).await {
            Ok(outcome) => outcome,
            Err(late) => Err(CacheError::Unavailable(Arc::new(late))),
        };
        if matches!(outcome, Err(CacheError::Unavailable(_))) {
            counter!(FAILURES, "call" => call).increment(1);
            self.open();
        }
        outcome
    }

    fn open(&self) {
        if !self.0.is_open.swap(true, Ordering::AcqRel) {
            gauge!(OPEN).set(1.0);
            self.0.runtime.spawn(probe(Arc::downgrade(&self.0)));
        }
    }
}

/// Probes until the cache is well. A single hiccup is over with the first probe and worth no alarm.
async fn probe(guarded: Weak<Inner>) {
    let (mut interval, mut is_told) = (PROBE_INTERVAL_MIN, false);
    // It ends with the last who would use the cache.
    while let Some(inner) = guarded.upgrade() {
        match inner.cache.probe().await {
            Ok(()) => {
                inner.health.recover(PART);
                if is_told {
                    info!("the cache is well again");
                }
                gauge!(OPEN).set(0.0);
                inner.is_open.store(false, Ordering::Release);
                return;
            }
            Err(error) if !is_told => {
                warn!(error = chain(&error), "the cache is unreachable or slow: the view store answers in its place");
                inner.health.degrade(PART, "unreachable or slow", None);
                is_told = true;
            }
            Err(_) => {}
        }
        drop(inner);
        tokio::time::sleep(interval).await;
        interval = (interval * 2).min(PROBE_INTERVAL_MAX);
    }
}

#[async_trait]
impl Cache for Guarded {
    async fn get(&self, table: &TableKey, ids: &[Uuid]) -> Result<Found, CacheError> {
        self.within("get", LOOK_PATIENCE, self.0.cache.get(table, ids)).await
    }

    async fn lease(&self, table: &TableKey, generation: Uuid, missed: &[Missed]) -> Result<Vec<Lease>, CacheError> {
        self.within("lease", LEASE_PATIENCE, self.0.cache.lease(table, generation, missed)).await
    }

    async fn fill(&self, table: &TableKey, generation: Uuid, fills: &[Fill]) -> Result<usize, CacheError> {
        self.within("fill", LOOK_PATIENCE, self.0.cache.fill(table, generation, fills)).await
    }

    async fn begin(&self, table: &TableKey, token: u64, position: Position) -> Result<Tenure, CacheError> {
        self.within("begin", WRITE_PATIENCE, self.0.cache.begin(table, token, position)).await
    }

    async fn put(
        &self,
        table: &TableKey,
        tenure: &Tenure,
        entries: &[Entry],
        position: Position,
    ) -> Result<Tenure, CacheError> {
        self.within("put", WRITE_PATIENCE, self.0.cache.put(table, tenure, entries, position)).await
    }

    async fn probe(&self) -> Result<(), CacheError> {
        self.0.cache.probe().await
    }
}
