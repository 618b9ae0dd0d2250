//! What every cache promises: what it answers is never older than the head that comes with it.
use bytes::Bytes;
use marvin::cache::{Cache, Entry, Fill, Found, Head, Lease, Slot, TableKey, memory::MemoryCache};
use marvin_domain::Position;
use std::sync::Arc;
use uuid::Uuid;

use super::redis_server as server;

mod bytes_at_rest;
mod connecting;
mod faults;
mod late;
mod model;
mod reading;
mod rules;
mod together;

pub enum Adapter {
    Memory,
    Redis,
}

impl Adapter {
    /// An empty cache, as two nodes see it. Memory is one node's, so there both are the same.
    async fn nodes(&self) -> [Arc<dyn Cache>; 2] {
        match self {
            Self::Memory => {
                let cache: Arc<dyn Cache> = Arc::new(MemoryCache::default());
                [cache.clone(), cache]
            }
            Self::Redis => {
                let (url, instance) = (server::shared(), server::instance());
                let (one, other) = tokio::join!(server::connect(&url, &instance), server::connect(&url, &instance));
                [Arc::new(one), Arc::new(other)]
            }
        }
    }

    async fn cache(&self) -> Arc<dyn Cache> {
        let [cache, _] = self.nodes().await;
        cache
    }
}

fn table() -> TableKey {
    TableKey { name: "tasks".into(), version: 1, build: 1 }
}

fn id(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

/// A document whose body says what it is.
fn entry(number: u128, position: Position) -> Entry {
    Entry { id: id(number), position, body: Bytes::from(format!("{number} at {position}")) }
}

/// The positions of what is cached of these documents, and the head's; none for a miss.
async fn look(cache: &dyn Cache, numbers: &[u128]) -> (Option<Position>, Vec<Option<Position>>) {
    let ids: Vec<_> = numbers.iter().map(|number| id(*number)).collect();
    let Found { head, slots } = cache.get(&table(), &ids).await.unwrap();
    let position = |slot: &Slot| match slot {
        Slot::Hit(found) => {
            assert_eq!(*found, entry(found.id.as_u128(), found.position), "a document is what was put");
            Some(found.position)
        }
        Slot::Miss(_) => None,
    };
    (head.map(|head| head.position), slots.iter().map(position).collect())
}

/// What a reader does on a miss, up to where it asks the store.
async fn lease(cache: &dyn Cache, number: u128) -> (Head, Option<Lease>) {
    let Found { head, mut slots } = cache.get(&table(), &[id(number)]).await.unwrap();
    let head = head.expect("there is a head");
    let Slot::Miss(missed) = slots.remove(0) else { panic!("{number} is cached") };
    (head, cache.lease(&table(), head.generation, &[missed]).await.unwrap().pop())
}

/// What it does then; answers whether the document was kept.
async fn fill(cache: &dyn Cache, head: Head, lease: Lease, entry: Option<Entry>) -> bool {
    cache.fill(&table(), head.generation, &[Fill { lease, entry }]).await.unwrap() == 1
}
