//! Documents in the memory of this process, for embedded mode: the same rules as between nodes, so that nothing else differs.
use async_trait::async_trait;
use marvin_domain::Position;
use moka::{policy::EvictionPolicy, sync};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    BODY_BYTES_MAX, Cache, CacheError, ENTRY_TTL, Entry, Fill, Found, HEAD_TTL, Head, LEASE_TTL, Lease, Missed, Slot,
    TableKey, Tenure, millis,
};

/// Bytes of all documents together: some 60,000 tasks of the usual size.
const BYTES_MAX: u64 = 64 * 1024 * 1024;
/// What a document takes beside its body: keys, links and counters of the map.
const ENTRY_OVERHEAD_BYTES: usize = 256;

/// The clock that tenures are told: the time since this was made.
pub struct MemoryCache {
    made: Instant,
    /// Those that are written to or asked for, and no more than there are.
    tables: Mutex<HashMap<TableKey, Arc<Table>>>,
    /// By generation, which is no other table's, and id.
    slots: sync::Cache<(Uuid, Uuid), Held>,
}

/// Its lock orders everything that changes documents of the table. Readers hold it for no longer than it takes to copy the head.
#[derive(Default)]
struct Table(Mutex<Option<Standing>>);

#[derive(Clone, Copy)]
struct Standing {
    token: u64,
    head: Head,
    expires: Instant,
}

#[derive(Clone)]
enum Held {
    Leased {
        token: Uuid,
        expires: Instant,
    },
    /// A position, and the document unless it is too large to be kept.
    Kept {
        position: Position,
        entry: Option<Entry>,
    },
}

impl Default for MemoryCache {
    fn default() -> Self {
        Self::with_capacity(BYTES_MAX)
    }
}

impl MemoryCache {
    /// Holds at most this many bytes of documents, and drops those that were not read for longest.
    pub fn with_capacity(bytes_max: u64) -> Self {
        let weigh = |_: &(Uuid, Uuid), held: &Held| {
            let body = match held {
                Held::Kept { entry: Some(entry), .. } => entry.body.len(),
                _ => 0,
            };
            u32::try_from(body + ENTRY_OVERHEAD_BYTES).unwrap_or(u32::MAX)
        };
        let slots = sync::Cache::builder()
            .max_capacity(bytes_max)
            .weigher(weigh)
            .eviction_policy(EvictionPolicy::lru())
            .time_to_live(ENTRY_TTL)
            .build();
        Self { made: Instant::now(), tables: Mutex::default(), slots }
    }

    /// Bytes that are held.
    pub fn bytes(&self) -> u64 {
        self.slots.run_pending_tasks();
        self.slots.weighted_size()
    }

    fn table(&self, table: &TableKey) -> Arc<Table> {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = tables.get(table) {
            return known.clone();
        }
        // A table that nobody has in hand, and whose head has lapsed, is as one that was never heard of.
        tables.retain(|_, held| Arc::strong_count(held) > 1 || alive(*held.standing()).is_some());
        tables.entry(table.clone()).or_default().clone()
    }

    fn tenure(&self, standing: Standing) -> Tenure {
        let told = Instant::now();
        Tenure { token: standing.token, head: standing.head, told_ms: millis(told - self.made), told }
    }
}

impl Table {
    fn standing(&self) -> MutexGuard<'_, Option<Standing>> {
        // It is replaced whole, so a panic elsewhere takes nothing from it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn alive(standing: Option<Standing>) -> Option<Standing> {
    standing.filter(|standing| standing.expires > Instant::now())
}

#[async_trait]
impl Cache for MemoryCache {
    async fn get(&self, table: &TableKey, ids: &[Uuid]) -> Result<Found, CacheError> {
        // The head first: what is put meanwhile is newer than it says, never older.
        let standing = *self.table(table).standing();
        let Some(Standing { head, .. }) = alive(standing) else { return Ok(Found::default()) };
        let slot = |id: &Uuid| match self.slots.get(&(head.generation, *id)) {
            Some(Held::Kept { entry: Some(entry), .. }) => Slot::Hit(entry),
            _ => Slot::Miss(Missed { id: *id, mark: None }),
        };
        Ok(Found { head: Some(head), slots: ids.iter().map(slot).collect() })
    }

    async fn lease(&self, table: &TableKey, generation: Uuid, missed: &[Missed]) -> Result<Vec<Lease>, CacheError> {
        let table = self.table(table);
        let _ordered = table.standing();
        let now = Instant::now();
        let mut leases = Vec::with_capacity(missed.len());
        for id in missed.iter().map(|missed| missed.id) {
            let is_taken = match self.slots.get(&(generation, id)) {
                Some(Held::Leased { expires, .. }) => expires > now,
                Some(Held::Kept { entry, .. }) => entry.is_some(),
                None => false,
            };
            if !is_taken {
                let token = Uuid::new_v4();
                self.slots.insert((generation, id), Held::Leased { token, expires: now + LEASE_TTL });
                leases.push(Lease { id, token });
            }
        }
        Ok(leases)
    }

    async fn fill(&self, table: &TableKey, generation: Uuid, fills: &[Fill]) -> Result<usize, CacheError> {
        let table = self.table(table);
        let _ordered = table.standing();
        let mut filled = 0;
        for Fill { lease, entry } in fills {
            let key = (generation, lease.id);
            let stands = matches!(self.slots.get(&key), Some(Held::Leased { token, expires })
                if token == lease.token && expires > Instant::now());
            match entry {
                _ if !stands => {}
                Some(entry) if entry.body.len() <= BODY_BYTES_MAX => {
                    self.slots.insert(key, Held::Kept { position: entry.position, entry: Some(entry.clone()) });
                    filled += 1;
                }
                _ => self.slots.invalidate(&key),
            }
        }
        Ok(filled)
    }

    async fn begin(&self, table: &TableKey, token: u64, position: Position) -> Result<Tenure, CacheError> {
        let table = self.table(table);
        let mut standing = table.standing();
        match alive(*standing) {
            Some(other) if other.token > token => return Err(CacheError::Fenced(other.token)),
            _ => {}
        }
        let begun =
            Standing { token, head: Head { generation: Uuid::new_v4(), position }, expires: Instant::now() + HEAD_TTL };
        *standing = Some(begun);
        Ok(self.tenure(begun))
    }

    async fn put(
        &self,
        table: &TableKey,
        tenure: &Tenure,
        entries: &[Entry],
        position: Position,
    ) -> Result<Tenure, CacheError> {
        let table = self.table(table);
        let mut standing = table.standing();
        let is_own = |held: &Standing| (held.token, held.head) == (tenure.token, tenure.head);
        let own = alive(*standing).filter(is_own).ok_or(CacheError::Lost)?;
        let left_ms = tenure.trusted_until_ms().saturating_sub(millis(self.made.elapsed())).min(millis(HEAD_TTL));
        if left_ms == 0 {
            return Err(CacheError::Lost);
        }
        for entry in entries {
            let key = (own.head.generation, entry.id);
            let is_behind =
                !matches!(self.slots.get(&key), Some(Held::Kept { position, .. }) if position >= entry.position);
            if is_behind {
                let kept = (entry.body.len() <= BODY_BYTES_MAX).then(|| entry.clone());
                self.slots.insert(key, Held::Kept { position: entry.position, entry: kept });
            }
        }
        let moved = Standing {
            head: Head { position, ..own.head },
            expires: Instant::now() + std::time::Duration::from_millis(left_ms),
            ..own
        };
        *standing = Some(moved);
        Ok(self.tenure(moved))
    }

    async fn probe(&self) -> Result<(), CacheError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(build: u32) -> TableKey {
        TableKey { name: "tasks".into(), version: 1, build }
    }

    #[tokio::test]
    async fn a_table_is_forgotten_once_nobody_writes_to_it() {
        let cache = MemoryCache::default();
        for number in 1..=50 {
            cache.begin(&build(number), 1, 0).await.unwrap();
            // It lapses.
            cache.table(&build(number)).standing().as_mut().unwrap().expires = Instant::now();
        }
        let [older, newer] = [build(51), build(52)];
        for table in [&older, &newer] {
            cache.begin(table, 1, 7).await.unwrap();
        }
        assert_eq!(cache.tables.lock().unwrap().len(), 2);
        for table in [&older, &newer] {
            let head = cache.get(table, &[]).await.unwrap().head;
            assert_eq!(head.map(|head| head.position), Some(7), "what is written to stays");
        }
    }
}
