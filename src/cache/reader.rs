//! The reader's side: documents from the cache where they are fresh enough, else from the store, which then fills the cache.
use marvin_domain::Position;
use metrics::counter;
use std::{collections::HashMap, sync::Arc};
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::{Cache, Entry, Fill, Lease, Slot, TableKey};

/// Fills under way at once, which nobody waits for. One more is left out; its lease lapses.
const FILLS_MAX: usize = 64;

/// Leases of one read: few enough that nobody waits for the script that takes them. What is left out is filled by who asks next.
const LEASES_MAX: usize = 128;

const HITS: &str = "marvin_cache_hits_total";
const MISSES: &str = "marvin_cache_misses_total";

/// Documents and how far the view was at least when they were read. Those that do not exist are left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    pub position: Position,
    /// In no order.
    pub entries: Vec<Entry>,
}

#[derive(Clone)]
pub struct Reader {
    cache: Arc<dyn Cache>,
    fills: Arc<Semaphore>,
}

impl Reader {
    pub fn new(cache: Arc<dyn Cache>) -> Self {
        Self { cache, fills: Arc::new(Semaphore::new(FILLS_MAX)) }
    }

    /// Documents that reflect every event up to `at_least`. What the cache does not have, `load` is asked for: it reads the store,
    /// once the view has got to `at_least`, and answers the position that it read before the documents.
    ///
    /// # Errors
    /// Those of `load`: a cache that fails is passed over.
    pub async fn read<E, F>(
        &self,
        table: &TableKey,
        ids: &[Uuid],
        at_least: Position,
        load: impl FnOnce(Vec<Uuid>) -> F,
    ) -> Result<Loaded, E>
    where
        F: Future<Output = Result<Loaded, E>>,
    {
        let found = self.cache.get(table, ids).await.unwrap_or_default();
        let Some(head) = found.head.filter(|head| head.position >= at_least) else {
            counter!(MISSES).increment(ids.len() as u64);
            return load(ids.to_vec()).await;
        };
        let (mut entries, mut missed) = (Vec::with_capacity(ids.len()), Vec::new());
        for slot in found.slots {
            match slot {
                Slot::Hit(entry) => entries.push(entry),
                Slot::Miss(miss) => missed.push(miss),
            }
        }
        counter!(HITS).increment(entries.len() as u64);
        if missed.is_empty() {
            return Ok(Loaded { position: head.position, entries });
        }
        counter!(MISSES).increment(missed.len() as u64);
        // Before the store is read: what is put from here on ends the lease.
        let leases =
            self.cache.lease(table, head.generation, &missed[..missed.len().min(LEASES_MAX)]).await.unwrap_or_default();
        let loaded = load(missed.iter().map(|missed| missed.id).collect()).await?;
        self.fill(table, head.generation, leases, &loaded.entries);
        let position = if entries.is_empty() { loaded.position } else { loaded.position.min(head.position) };
        entries.extend(loaded.entries);
        Ok(Loaded { position, entries })
    }

    /// Those of the documents that the cache has, each reflecting every event up to `at_least`; for a guess at what will be wanted, so
    /// the others cost nothing more.
    pub async fn at_hand(&self, table: &TableKey, ids: &[Uuid], at_least: Position) -> Vec<Entry> {
        let found = self.cache.get(table, ids).await.unwrap_or_default();
        if found.head.is_none_or(|head| head.position < at_least) {
            return Vec::new();
        }
        let hit = |slot| match slot {
            Slot::Hit(entry) => Some(entry),
            Slot::Miss(_) => None,
        };
        let entries: Vec<Entry> = found.slots.into_iter().filter_map(hit).collect();
        counter!(HITS).increment(entries.len() as u64);
        entries
    }

    /// In the background: whoever asked has their answer.
    fn fill(&self, table: &TableKey, generation: Uuid, leases: Vec<Lease>, loaded: &[Entry]) {
        if leases.is_empty() {
            return;
        }
        let Ok(permit) = self.fills.clone().try_acquire_owned() else { return };
        let by_id: HashMap<Uuid, &Entry> = loaded.iter().map(|entry| (entry.id, entry)).collect();
        let fill = |lease: Lease| Fill { entry: by_id.get(&lease.id).map(|entry| (*entry).clone()), lease };
        let fills: Vec<Fill> = leases.into_iter().map(fill).collect();
        let (cache, table) = (self.cache.clone(), table.clone());
        tokio::spawn(async move {
            // One that fails leaves a lease, which lapses.
            cache.fill(&table, generation, &fills).await.ok();
            drop(permit);
        });
    }
}
