//! Documents in Redis, shared by every node of an instance.
//!
//! Each rule of the port is one script, so that nothing comes in between its steps; a script that Redis has forgotten is sent again.
//! What is read is taken only if it is Marvin's own ([`frame`]); anything else is a miss, and counted.
use ::redis::{FromRedisValue, RedisError, cmd};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::try_join_all;
use marvin_domain::Position;
use metrics::counter;
use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    Cache, CacheError, ENTRY_TTL, Entry, Fill, Found, HEAD_TTL, Head, LEASE_TTL, Lease, Missed, Slot, TableKey, Tenure,
    millis,
};
use crate::security::cipher::DataKey;

mod frame;
mod link;
mod reads;
mod script;

use frame::{Frames, Place, is_lease, lease_of, mark_of};
use link::Link;
use reads::{GONE, KEYS_MAX, Read};
use script::{Call, Script};

/// Counts what stood in Redis and was not taken, by what it should have been.
const UNREADABLE: &str = "marvin_cache_unreadable_total";

/// Documents that are asked for at once, each with its mark; more go in several commands.
const IDS_MAX: usize = (KEYS_MAX - 1) / 2;
/// Tables whose generation is kept in mind: several times as many as are read at once. Each rebuild brings a new one.
const GENERATIONS_MAX: usize = 64;

pub struct RedisCache {
    link: Link,
    frames: Frames,
    scripts: Scripts,
    /// The generation that each table had last, which names the keys to ask for. Without it a read takes two steps.
    generations: RwLock<HashMap<TableKey, Uuid>>,
}

struct Scripts {
    begin: Script,
    put: Script,
    lease: Script,
    fill: Script,
}

/// A head as it stands, and what was asked for with it.
struct Look {
    head: Option<Head>,
    /// For each document itself and its mark.
    values: Vec<Option<Bytes>>,
}

impl RedisCache {
    /// A cache below the prefix `instance`, whose documents are recognised by `key`. Connects to nothing yet: see
    /// [`probe`](Cache::probe).
    ///
    /// # Errors
    /// When `url` is not one of Redis.
    pub fn new(url: &str, instance: &str, key: Arc<DataKey>) -> Result<Self, RedisError> {
        let scripts = Scripts {
            begin: Script::new(include_str!("begin.lua")),
            put: Script::new(include_str!("put.lua")),
            lease: Script::new(include_str!("lease.lua")),
            fill: Script::new(include_str!("fill.lua")),
        };
        let frames = Frames::new(instance, key);
        Ok(Self { link: Link::new(url)?, frames, scripts, generations: RwLock::default() })
    }

    /// What is cached of at most [`IDS_MAX`] documents.
    async fn find(&self, table: &TableKey, ids: &[Uuid]) -> Result<Found, CacheError> {
        let places = |generation| {
            let places = self.frames.places(table, generation);
            ids.iter().map(|id| places.of(*id)).collect::<Vec<_>>()
        };
        let guess = self.generation(table);
        let mut asked = guess.map(places).unwrap_or_default();
        let mut look = self.look(table, &asked).await?;
        let Some(mut head) = look.head else { return Ok(Found::default()) };
        if guess != Some(head.generation) {
            self.remember(table, head.generation);
            asked = places(head.generation);
            look = self.look(table, &asked).await?;
            match look.head {
                Some(again) if again.generation == head.generation => head = again,
                // A writer just began: nothing is there yet.
                _ => return Ok(Found::default()),
            }
        }
        let mut values = look.values.into_iter();
        let mut slot = |(id, at): (&Uuid, Place)| {
            let (document, mark) = (values.next().flatten(), values.next().flatten());
            self.slot(&at.document, *id, document, mark)
        };
        let slots = ids.iter().zip(asked).map(&mut slot).collect();
        Ok(Found { head: Some(head), slots })
    }

    /// Reads the head, and documents where they stand if this is its generation.
    async fn look(&self, table: &TableKey, places: &[Place]) -> Result<Look, CacheError> {
        let connected = self.link.connected()?;
        let at = self.frames.head_at(table);
        let keys = places.iter().flat_map(|place| [place.document.clone(), place.mark.clone()]).collect();
        let read = connected.reads.read(at.clone(), keys).await;
        let Read { head, left_ms, values } = read.map_err(|error| self.link.failed(&connected, error))?;
        Ok(Look { head: head.and_then(|framed| self.trusted(&at, &framed, left_ms)), values })
    }

    /// Only a head that Redis is about to let go of, and soon enough, is one that Marvin wrote.
    fn trusted(&self, at: &str, framed: &[u8], left_ms: i64) -> Option<Head> {
        // It has expired since it was read.
        if left_ms == GONE {
            return None;
        }
        let lives_as_meant = u64::try_from(left_ms).is_ok_and(|left_ms| left_ms <= millis(HEAD_TTL));
        let head = self.frames.open_head(at, framed).filter(|_| lives_as_meant);
        if head.is_none() {
            counter!(UNREADABLE, "what" => "head").increment(1);
        }
        head.map(|(_, head)| head)
    }

    fn slot(&self, at: &str, id: Uuid, document: Option<Bytes>, mark: Option<Bytes>) -> Slot {
        let entry = document.as_ref().and_then(|framed| self.frames.open_entry(at, id, framed));
        if document.is_some() && entry.is_none() {
            counter!(UNREADABLE, "what" => "document").increment(1);
        }
        match entry {
            Some(entry) if mark.as_deref() == Some(mark_of(entry.position).as_bytes()) => Slot::Hit(entry),
            _ => Slot::Miss(Missed { id, mark }),
        }
    }

    fn generation(&self, table: &TableKey) -> Option<Uuid> {
        self.generations.read().unwrap_or_else(PoisonError::into_inner).get(table).copied()
    }

    fn remember(&self, table: &TableKey, generation: Uuid) {
        let mut generations = self.generations.write().unwrap_or_else(PoisonError::into_inner);
        if generations.len() >= GENERATIONS_MAX && !generations.contains_key(table) {
            generations.clear();
        }
        generations.insert(table.clone(), generation);
    }

    async fn invoke<T: FromRedisValue>(&self, script: &Call<'_>) -> Result<T, CacheError> {
        let mut connected = self.link.connected()?;
        script.run(&mut connected.connection).await.map_err(|error| self.link.failed(&connected, error))
    }
}

/// Two parts of one answer, found under the same generation: under the older head, all of it is true. A generation that began in
/// between leaves nothing to be trusted.
fn together(mut one: Found, other: Found) -> Found {
    let (Some(head), Some(also)) = (one.head, other.head) else { return Found::default() };
    if head.generation != also.generation {
        return Found::default();
    }
    one.head = Some(Head { position: head.position.min(also.position), ..head });
    one.slots.extend(other.slots);
    one
}

#[async_trait]
impl Cache for RedisCache {
    async fn get(&self, table: &TableKey, ids: &[Uuid]) -> Result<Found, CacheError> {
        if ids.len() <= IDS_MAX {
            return self.find(table, ids).await;
        }
        let parts = try_join_all(ids.chunks(IDS_MAX).map(|ids| self.find(table, ids))).await?;
        let found = parts.into_iter().reduce(together);
        Ok(found.unwrap_or_default())
    }

    async fn lease(&self, table: &TableKey, generation: Uuid, missed: &[Missed]) -> Result<Vec<Lease>, CacheError> {
        let is_free = |missed: &&Missed| !missed.mark.as_deref().is_some_and(is_lease);
        let missed: Vec<&Missed> = missed.iter().filter(is_free).collect();
        if missed.is_empty() {
            return Ok(Vec::new());
        }
        let leases = missed.iter().map(|missed| Lease { id: missed.id, token: Uuid::new_v4() });
        let leases: Vec<Lease> = leases.collect();
        let mut script = self.scripts.lease.call();
        script.arg(millis(LEASE_TTL));
        for (missed, lease) in missed.iter().zip(&leases) {
            let place = self.frames.place(table, generation, lease.id);
            script.key(place.document).key(place.mark);
            script.arg(missed.mark.as_deref().unwrap_or_default()).arg(lease_of(lease.token));
        }
        let got: Vec<bool> = self.invoke(&script).await?;
        Ok(leases.into_iter().zip(got).filter(|(_, got)| *got).map(|(lease, _)| lease).collect())
    }

    async fn fill(&self, table: &TableKey, generation: Uuid, fills: &[Fill]) -> Result<usize, CacheError> {
        if fills.is_empty() {
            return Ok(0);
        }
        let mut script = self.scripts.fill.call();
        script.arg(millis(ENTRY_TTL));
        for Fill { lease, entry } in fills {
            let place = self.frames.place(table, generation, lease.id);
            let framed = entry.as_ref().map(|entry| self.frames.entry(&place.document, entry));
            script.arg(lease_of(lease.token)).arg(entry.as_ref().map_or(0, |entry| entry.position));
            script.arg(framed.unwrap_or_default()).key(place.document).key(place.mark);
        }
        self.invoke(&script).await
    }

    async fn begin(&self, table: &TableKey, token: u64, position: Position) -> Result<Tenure, CacheError> {
        let at = self.frames.head_at(table);
        let mut connected = self.link.connected()?;
        // Answers nothing for a key of another type, which the script writes over.
        let seen = cmd("MGET").arg(&at).query_async(&mut connected.connection).await;
        let seen: Vec<Option<Bytes>> = seen.map_err(|error| self.link.failed(&connected, error))?;
        let seen = seen.into_iter().next().flatten().unwrap_or_default();
        match self.frames.open_head(&at, &seen) {
            Some((other, _)) if other > token => return Err(CacheError::Fenced(other)),
            _ => {}
        }
        let head = Head { generation: Uuid::new_v4(), position };
        let mut script = self.scripts.begin.call();
        script.arg(&*seen).arg(self.frames.head(&at, token, head)).arg(millis(HEAD_TTL)).key(&at);
        let told_ms = self.invoke::<Option<u64>>(&script).await?.ok_or(CacheError::Lost)?;
        Ok(Tenure { token, head, told_ms, told: Instant::now() })
    }

    async fn put(
        &self,
        table: &TableKey,
        tenure: &Tenure,
        entries: &[Entry],
        position: Position,
    ) -> Result<Tenure, CacheError> {
        let at = self.frames.head_at(table);
        let head = Head { position, ..tenure.head };
        let mut script = self.scripts.put.call();
        script.key(&at).arg(self.frames.head(&at, tenure.token, tenure.head));
        script.arg(self.frames.head(&at, tenure.token, head));
        script.arg(tenure.trusted_until_ms()).arg(millis(HEAD_TTL)).arg(millis(ENTRY_TTL));
        for entry in entries {
            let place = self.frames.place(table, head.generation, entry.id);
            script.arg(entry.position).arg(self.frames.entry(&place.document, entry));
            script.key(place.document).key(place.mark);
        }
        let told_ms = self.invoke::<Option<u64>>(&script).await?.ok_or(CacheError::Lost)?;
        Ok(Tenure { head, told_ms, told: Instant::now(), ..tenure.clone() })
    }

    async fn probe(&self) -> Result<(), CacheError> {
        self.link.probe(&self.frames.probe()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generations_of_many_tables_do_not_pile_up() {
        let key = Arc::new(DataKey::from_bytes(Uuid::nil(), zeroize::Zeroizing::new([1; 32])));
        let cache = RedisCache::new("redis://localhost", "marvin", key).unwrap();
        for build in 1..=1_000 {
            let table = TableKey { name: "tasks".into(), version: 1, build };
            let generation = Uuid::from_u128(build.into());
            cache.remember(&table, generation);
            assert_eq!(cache.generation(&table), Some(generation));
            assert!(cache.generations.read().unwrap().len() <= GENERATIONS_MAX);
        }
    }
}
