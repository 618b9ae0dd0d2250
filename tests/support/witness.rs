//! A cache that tells what its writer said to it, and can miss something.
#![allow(dead_code, reason = "each program uses its part")]
use async_trait::async_trait;
use marvin::cache::{Cache, CacheError, Entry, Fill, Found, Lease, Missed, TableKey, Tenure};
use marvin_domain::Position;
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};
use uuid::Uuid;

pub struct Witness {
    inner: Arc<dyn Cache>,
    begun: AtomicUsize,
    put: AtomicUsize,
    misses_a_put: AtomicBool,
}

impl Witness {
    pub fn of(inner: Arc<dyn Cache>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            begun: AtomicUsize::new(0),
            put: AtomicUsize::new(0),
            misses_a_put: AtomicBool::new(false),
        })
    }

    /// Generations, and heads that followed in one.
    pub fn heard(&self) -> (usize, usize) {
        (self.begun.load(Ordering::SeqCst), self.put.load(Ordering::SeqCst))
    }

    /// The next put is not done.
    pub fn miss_a_put(&self) {
        self.misses_a_put.store(true, Ordering::SeqCst);
    }
}

#[async_trait]
impl Cache for Witness {
    async fn get(&self, table: &TableKey, ids: &[Uuid]) -> Result<Found, CacheError> {
        self.inner.get(table, ids).await
    }

    async fn lease(&self, table: &TableKey, generation: Uuid, missed: &[Missed]) -> Result<Vec<Lease>, CacheError> {
        self.inner.lease(table, generation, missed).await
    }

    async fn fill(&self, table: &TableKey, generation: Uuid, fills: &[Fill]) -> Result<usize, CacheError> {
        self.inner.fill(table, generation, fills).await
    }

    async fn begin(&self, table: &TableKey, token: u64, position: Position) -> Result<Tenure, CacheError> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        self.inner.begin(table, token, position).await
    }

    async fn put(
        &self,
        table: &TableKey,
        tenure: &Tenure,
        entries: &[Entry],
        position: Position,
    ) -> Result<Tenure, CacheError> {
        self.put.fetch_add(1, Ordering::SeqCst);
        if self.misses_a_put.swap(false, Ordering::SeqCst) {
            return Err(CacheError::PassedOver);
        }
        self.inner.put(table, tenure, entries, position).await
    }

    async fn probe(&self) -> Result<(), CacheError> {
        self.inner.probe().await
    }
}
