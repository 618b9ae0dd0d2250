//! A bounded cache in which nothing reappears once it was evicted, not even by a reader that was already under way.
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use moka::sync::Cache;

/// Fills and evictions are ordered by one short lock; hits take none.
pub struct FreshCache<K, V> {
    entries: Cache<K, V>,
    evictions: Mutex<u64>,
}

/// When a read of the source began. A fill is dropped if anything was evicted since.
#[derive(Debug, Clone, Copy)]
pub struct Reading(u64);

impl<K, V> FreshCache<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Holds `entries_max` entries, each for at most `age_max`.
    pub fn new(entries_max: u64, age_max: Duration) -> Self {
        let entries = Cache::builder().max_capacity(entries_max).time_to_live(age_max).build();
        Self { entries, evictions: Mutex::new(0) }
    }

    pub fn get(&self, key: &K) -> Option<V> {
        self.entries.get(key)
    }

    /// Must be called before the source is read.
    pub fn reading(&self) -> Reading {
        Reading(*self.evictions())
    }

    pub fn fill(&self, reading: Reading, key: K, value: V) {
        let evictions = self.evictions();
        if *evictions == reading.0 {
            self.entries.insert(key, value);
        }
    }

    /// Must be called after the source changed.
    pub fn evict(&self, key: &K) {
        let mut evictions = self.evictions();
        *evictions += 1;
        self.entries.invalidate(key);
    }

    fn evictions(&self) -> MutexGuard<'_, u64> {
        // A count cannot be left half changed, so a panic elsewhere takes nothing from it.
        self.evictions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Shows no entry: they are keys and sessions.
impl<K, V> std::fmt::Debug for FreshCache<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FreshCache").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache() -> FreshCache<u8, &'static str> {
        FreshCache::new(10, Duration::from_secs(60))
    }

    #[test]
    fn an_entry_is_found_until_it_is_evicted() {
        let cache = cache();
        cache.fill(cache.reading(), 1, "one");
        assert_eq!(cache.get(&1), Some("one"));
        cache.evict(&1);
        assert_eq!(cache.get(&1), None);
    }

    #[test]
    fn more_entries_than_fit_are_not_kept() {
        let cache = cache();
        for key in 0..=u8::MAX {
            cache.fill(cache.reading(), key, "");
        }
        cache.entries.run_pending_tasks();
        assert_eq!((0..=u8::MAX).filter(|key| cache.get(key).is_some()).count(), 10);
    }

    #[test]
    fn an_entry_that_is_too_old_is_not_found() {
        let cache = FreshCache::new(10, Duration::from_millis(1));
        let begun = std::time::Instant::now();
        cache.fill(cache.reading(), 1, "one");
        while cache.get(&1).is_some() {
            assert!(begun.elapsed() < Duration::from_secs(30), "an entry outlives its age");
        }
    }

    #[test]
    fn a_read_that_began_before_an_eviction_fills_nothing() {
        let cache = cache();
        let reading = cache.reading();
        cache.evict(&1);
        cache.fill(reading, 1, "stale");
        assert_eq!(cache.get(&1), None);
        cache.fill(cache.reading(), 1, "fresh");
        assert_eq!(cache.get(&1), Some("fresh"));
    }
}
