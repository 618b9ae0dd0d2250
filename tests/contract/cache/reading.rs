//! Readers and the writer as the program has them: what a store committed is read, and from the cache where that is as good.
use marvin::cache::{
    Cache, Entry, HEAD_TTL,
    publisher::Publisher,
    reader::{Loaded, Reader},
};
use marvin_domain::Position;
use rstest::rstest;
use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Instant,
};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::{Adapter, entry, id, lease, look, table};
use crate::{wait::eventually, witness::Witness};

/// A view store: its documents, how far it is, and how often it was asked.
#[derive(Default)]
pub struct Store(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    position: Position,
    documents: HashMap<Uuid, Entry>,
    asked: usize,
}

impl Store {
    pub fn commit(&self, entries: &[Entry], position: Position) {
        let mut kept = self.0.lock().unwrap();
        kept.documents.extend(entries.iter().map(|entry| (entry.id, entry.clone())));
        kept.position = position;
    }

    fn load(&self, ids: &[Uuid]) -> Loaded {
        let mut kept = self.0.lock().unwrap();
        kept.asked += 1;
        let entries = ids.iter().filter_map(|id| kept.documents.get(id).cloned()).collect();
        Loaded { position: kept.position, entries }
    }

    pub fn asked(&self) -> usize {
        self.0.lock().unwrap().asked
    }

    /// What a reader is answered: the position, and those of the documents.
    pub async fn read(
        self: &Arc<Self>,
        reader: &Reader,
        numbers: &[u128],
        at_least: Position,
    ) -> (Position, Vec<Position>) {
        let ids: Vec<_> = numbers.iter().map(|number| id(*number)).collect();
        let load = async |ids: Vec<Uuid>| Ok::<_, Infallible>(self.load(&ids));
        let Ok(Loaded { position, mut entries }) = reader.read(&table(), &ids, at_least, load).await;
        entries.sort_by_key(|entry| entry.id);
        (position, entries.iter().map(|entry| entry.position).collect())
    }
}

async fn story(adapter: &Adapter) -> (Arc<dyn Cache>, Arc<Store>, Reader, Publisher) {
    let [writer, reader] = adapter.nodes().await;
    let publisher = Publisher::new(writer, table(), 1);
    (reader.clone(), Arc::default(), Reader::new(reader), publisher)
}

#[rstest]
#[case::memory(Adapter::Memory)]
#[case::redis(Adapter::Redis)]
#[tokio::test]
async fn the_store_is_asked_once_for_what_is_read_often(#[case] adapter: Adapter) {
    let (cache, store, reader, mut publisher) = story(&adapter).await;
    store.commit(&[entry(1, 3)], 4);
    publisher.publish(&[], 4).await;
    assert_eq!(store.read(&reader, &[1], 0).await, (4, vec![3]));
    eventually("the document is cached", async || look(&*cache, &[1]).await.1.contains(&Some(3)).then_some(())).await;
    for _ in 0..5 {
        assert_eq!(store.read(&reader, &[1], 4).await, (4, vec![3]));
    }
    assert_eq!(store.asked(), 1);
    // What changes is there without anybody's asking; what is new too.
    store.commit(&[entry(1, 5), entry(2, 6)], 6);
    publisher.publish(&[entry(1, 5), entry(2, 6)], 6).await;
    assert_eq!(store.read(&reader, &[1, 2], 6).await, (6, vec![5, 6]));
    assert_eq!(store.asked(), 1);
}

#[rstest]
#[case::memory(Adapter::Memory)]
#[case::redis(Adapter::Redis)]
#[tokio::test]
async fn a_reader_that_asks_for_more_than_the_head_is_answered_by_the_store(#[case] adapter: Adapter) {
    let (_, store, reader, mut publisher) = story(&adapter).await;
    publisher.publish(&[], 1).await;
    store.commit(&[entry(1, 2), entry(2, 2)], 2);
    publisher.publish(&[entry(1, 2), entry(2, 2)], 2).await;
    store.commit(&[entry(1, 3)], 3);
    assert_eq!(store.read(&reader, &[1], 3).await, (3, vec![3]));
    assert_eq!(store.asked(), 1);
    // Of an answer out of both, the position is the lower one.
    store.commit(&[entry(9, 4)], 4);
    assert_eq!(store.read(&reader, &[2, 9], 2).await, (2, vec![2, 4]));
}

#[rstest]
#[case::memory(Adapter::Memory)]
#[case::redis(Adapter::Redis)]
#[tokio::test]
async fn what_does_not_exist_is_not_remembered_as_such(#[case] adapter: Adapter) {
    let (_, store, reader, mut publisher) = story(&adapter).await;
    publisher.publish(&[], 1).await;
    assert_eq!(store.read(&reader, &[1], 0).await, (0, vec![]));
    store.commit(&[entry(1, 2)], 2);
    assert_eq!(store.read(&reader, &[1], 0).await, (2, vec![2]));
}

#[rstest]
#[case::memory(Adapter::Memory)]
#[case::redis(Adapter::Redis)]
#[tokio::test]
async fn a_document_that_changes_while_the_store_is_asked_is_not_filled(#[case] adapter: Adapter) {
    let (cache, store, reader, mut publisher) = story(&adapter).await;
    store.commit(&[entry(1, 3)], 4);
    publisher.publish(&[], 4).await;
    let ((read, is_reading), (go_on, may_go_on)) = (oneshot::channel(), oneshot::channel());
    let slow = store.clone();
    let reading = tokio::spawn(async move {
        let load = async move |ids: Vec<Uuid>| {
            let loaded = slow.load(&ids);
            read.send(()).unwrap();
            may_go_on.await.map(|()| loaded)
        };
        reader.read(&table(), &[id(1)], 0, load).await.unwrap()
    });
    is_reading.await.unwrap();
    store.commit(&[entry(1, 5)], 5);
    publisher.publish(&[entry(1, 5)], 5).await;
    go_on.send(()).unwrap();
    assert_eq!(reading.await.unwrap(), Loaded { position: 4, entries: vec![entry(1, 3)] });
    let fresh = Reader::new(cache.clone());
    // The fill is under way in the background: whenever it comes, nobody sees it.
    for _ in 0..20 {
        assert_eq!(store.read(&fresh, &[1], 0).await, (5, vec![5]));
        publisher.publish(&[], 5).await;
    }
    assert_eq!(store.asked(), 1);
}

#[rstest]
#[case::memory(Adapter::Memory)]
#[case::redis(Adapter::Redis)]
#[tokio::test]
async fn what_is_at_hand_is_fresh_enough_and_leases_nothing(#[case] adapter: Adapter) {
    let (cache, _, reader, mut publisher) = story(&adapter).await;
    let at_hand = async |numbers: &[u128], at_least| {
        let ids: Vec<_> = numbers.iter().map(|number| id(*number)).collect();
        let mut entries = reader.at_hand(&table(), &ids, at_least).await;
        entries.sort_by_key(|entry| entry.id);
        entries
    };
    assert_eq!(at_hand(&[1], 0).await, [], "there is no head");
    publisher.publish(&[], 1).await;
    assert_eq!(at_hand(&[1], 0).await, [], "nothing is under it");
    publisher.publish(&[entry(1, 2), entry(2, 2)], 2).await;
    assert_eq!(at_hand(&[3, 2, 1], 2).await, [entry(1, 2), entry(2, 2)], "what is not there is left out");
    assert_eq!(at_hand(&[1], 3).await, [], "nobody knows what the third event changed");
    publisher.publish(&[entry(1, 3)], 3).await;
    assert_eq!(at_hand(&[1, 2], 3).await, [entry(1, 3), entry(2, 2)]);
    assert!(lease(&*cache, 3).await.1.is_some(), "whoever wants it next may fill it");
}

/// What the crashed writer committed is in no cache. Its head says so, and is gone within two seconds.
#[rstest]
#[case::memory(Adapter::Memory)]
#[case::redis(Adapter::Redis)]
#[tokio::test]
async fn after_a_crash_between_commit_and_cache_the_old_document_is_gone_in_two_seconds(#[case] adapter: Adapter) {
    let (cache, store, reader, mut publisher) = story(&adapter).await;
    publisher.publish(&[], 1).await;
    store.commit(&[entry(1, 2)], 2);
    publisher.publish(&[entry(1, 2)], 2).await;
    store.commit(&[entry(1, 3)], 3);
    drop(publisher);
    let crashed = Instant::now();
    let seen = async || {
        let (position, documents) = store.read(&reader, &[1], 0).await;
        assert!((position, documents.as_slice()) == (2, &[2]) || documents == [3], "{documents:?} at {position}");
        assert_eq!(store.read(&reader, &[1], 3).await, (3, vec![3]), "who knows of it sees it at once");
        (documents == [3]).then_some(())
    };
    eventually("the new document is seen", seen).await;
    assert!(crashed.elapsed() < HEAD_TTL + HEAD_TTL / 4, "it took {:?}", crashed.elapsed());
    // The next writer begins with nothing of it.
    let mut next = Publisher::new(cache, table(), 2);
    next.publish(&[], 3).await;
    for _ in 0..5 {
        assert_eq!(store.read(&reader, &[1], 0).await, (3, vec![3]));
    }
}

#[rstest]
#[case::memory(Adapter::Memory)]
#[case::redis(Adapter::Redis)]
#[tokio::test]
async fn a_writer_that_lost_its_head_begins_anew(#[case] adapter: Adapter) {
    let (cache, store, reader, mut publisher) = story(&adapter).await;
    publisher.publish(&[], 1).await;
    store.commit(&[entry(1, 2)], 2);
    publisher.publish(&[entry(1, 2)], 2).await;
    eventually("the head expires", async || look(&*cache, &[]).await.0.is_none().then_some(())).await;
    store.commit(&[entry(1, 3)], 3);
    publisher.publish(&[entry(1, 3)], 3).await;
    assert_eq!(look(&*cache, &[]).await.0, None, "it says nothing until its next sign of life");
    publisher.publish(&[], 3).await;
    assert_eq!(look(&*cache, &[1]).await, (Some(3), vec![None]), "what was in the cache may have been lost, too");
    assert_eq!(store.read(&reader, &[1], 0).await, (3, vec![3]));
}

/// The head is still the writer's own, so what it puts next would be taken: without what it failed to put.
#[rstest]
#[case::memory(Adapter::Memory)]
#[case::redis(Adapter::Redis)]
#[tokio::test]
async fn after_a_put_that_was_not_done_the_writer_begins_anew(#[case] adapter: Adapter) {
    let cache = adapter.cache().await;
    let witness = Witness::of(cache.clone());
    let mut publisher = Publisher::new(witness.clone(), table(), 1);
    publisher.publish(&[], 1).await;
    publisher.publish(&[entry(1, 2)], 2).await;
    witness.miss_a_put();
    publisher.publish(&[entry(1, 3)], 3).await;
    assert_eq!(look(&*cache, &[1]).await, (Some(2), vec![Some(2)]));
    publisher.publish(&[entry(2, 4)], 4).await;
    assert_eq!(look(&*cache, &[1, 2]).await, (Some(4), vec![None, None]));
    publisher.publish(&[entry(2, 5)], 5).await;
    assert_eq!(look(&*cache, &[1, 2]).await, (Some(5), vec![None, Some(5)]));
}

#[rstest]
#[case::memory(Adapter::Memory)]
#[case::redis(Adapter::Redis)]
#[tokio::test]
async fn a_batch_too_large_to_put_begins_anew(#[case] adapter: Adapter) {
    let (cache, _, _, mut publisher) = story(&adapter).await;
    publisher.publish(&[], 1).await;
    publisher.publish(&[entry(1, 2)], 2).await;
    let many: Vec<_> = (0..1_001).map(|number| entry(number, 3)).collect();
    publisher.publish(&many, 3).await;
    assert_eq!(look(&*cache, &[1, 2]).await, (Some(3), vec![None, None]));
    publisher.publish(&many[..1_000], 4).await;
    assert_eq!(look(&*cache, &[1, 2]).await, (Some(4), vec![Some(3), Some(3)]));
}

/// Of such a document only its id is sent.
#[rstest]
#[case::memory(Adapter::Memory)]
#[case::redis(Adapter::Redis)]
#[tokio::test]
async fn a_document_too_large_to_be_kept_takes_no_other_one_out(#[case] adapter: Adapter) {
    let (cache, _, _, mut publisher) = story(&adapter).await;
    publisher.publish(&[], 1).await;
    publisher.publish(&[entry(1, 2), entry(2, 2)], 2).await;
    let large = Entry { body: vec![0; 2 * 1024 * 1024].into(), ..entry(2, 3) };
    publisher.publish(&[large], 3).await;
    assert_eq!(look(&*cache, &[1, 2]).await, (Some(3), vec![Some(2), None]));
}

#[tokio::test]
async fn memory_holds_no_more_than_it_may() {
    const BYTES_MAX: u64 = 64 * 1024;
    let cache = marvin::cache::memory::MemoryCache::with_capacity(BYTES_MAX);
    let mut tenure = cache.begin(&table(), 1, 0).await.unwrap();
    for position in 1..=2_000 {
        let large = Entry { body: vec![0; 1_000].into(), ..entry(u128::from(position), position) };
        tenure = cache.put(&table(), &tenure, &[large], position).await.unwrap();
    }
    assert!(cache.bytes() <= BYTES_MAX, "{} bytes", cache.bytes());
    let ids: Vec<_> = (1..=2_000).map(id).collect();
    let found = cache.get(&table(), &ids).await.unwrap();
    let hits = found.slots.iter().filter(|slot| matches!(slot, marvin::cache::Slot::Hit(_))).count();
    assert!((20..=60).contains(&hits), "{hits} are held, of some 50 that there is room for");
}
