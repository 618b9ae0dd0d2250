//! The rules of heads, generations, puts and leases, one at a time.
use bytes::Bytes;
use marvin::cache::{BODY_BYTES_MAX, CacheError, Entry, HEAD_TTL, Slot, TableKey};
use rstest::rstest;
use std::time::Instant;

use super::{Adapter, entry, fill, id, lease, look, table};
use crate::wait::eventually;

#[rstest]
#[case::memory(Adapter::Memory)]
#[case::redis(Adapter::Redis)]
#[tokio::test]
async fn without_a_head_nothing_is_trusted(#[case] adapter: Adapter) {
    let cache = adapter.cache().await;
    assert_eq!(look(&*cache, &[1]).await, (None, vec![]));
    let tenure = cache.begin(&table(), 1, 4).await.unwrap();
    cache.put(&table(), &tenure, &[entry(1, 5)], 5).await.unwrap();
    assert_eq!(look(&*cache, &[1]).await, (Some(5), vec![Some(5)]));
    eventually("the head expires", async || look(&*cache, &[1]).await.0.is_none().then_some(())).await;
    assert_eq!(look(&*cache, &[1]).await, (None, vec![]));
}

#[rstest]
#[case::memory(Adapter::Memory)]
#[case::redis(Adapter::Redis)]
#[tokio::test]
async fn what_one_node_puts_another_reads(#[case] adapter: Adapter) {
    let [writer, reader] = adapter.nodes().await;
    let tenure = writer.begin(&table(), 1, 4).await.unwrap();
    assert_eq!(look(&*reader, &[1, 2]).await, (Some(4), vec![None, None]));
    let tenure = writer.put(&table(), &tenure, &[entry(1, 5), entry(2, 6)], 7).await.unwrap();
    assert_eq!(look(&*reader, &[2, 9, 1]).await, (Some(7), vec![Some(6), None, Some(5)]));
    writer.put(&table(), &tenure, &[entry(1, 8)], 8).await.unwrap();
    assert_eq!(look(&*reader, &[2, 9, 1]).await, (Some(8), vec![Some(6), None, Some(8)]));
    assert_eq!(look(&*reader, &[]).await, (Some(8), vec![]));
}

#[rstest]
#[case::memory(Adapter::Memory)]
#[case::redis(Adapter::Redis)]
#[tokio::test]
async fn a_head_lives_for_as_long_as_its_writer_puts(#[case] adapter: Adapter) {
    let cache = adapter.cache().await;
    let mut tenure = cache.begin(&table(), 1, 4).await.unwrap();
    let begun = Instant::now();
    eventually("twice the time of a head goes by", async || {
        tenure = cache.put(&table(), &tenure, &[], 4).await.unwrap();
        (begun.elapsed() > HEAD_TTL * 2).then_some(())
    })
    .await;
    assert_eq!(look(&*cache, &[1]).await, (Some(4), vec![None]));
}

#[rstest]
#[case::memory(Adapter::Memory)]
#[case::redis(Adapter::Redis)]
#[tokio::test]
async fn a_new_generation_holds_nothing_of_the_one_before(#[case] adapter: Adapter) {
    let cache = adapter.cache().await;
    let tenure = cache.begin(&table(), 1, 4).await.unwrap();
    let old = cache.put(&table(), &tenure, &[entry(1, 5)], 5).await.unwrap();
    let new = cache.begin(&table(), 1, 5).await.unwrap();
    assert_ne!(old.head().generation, new.head().generation);
    assert_eq!(look(&*cache, &[1]).await, (Some(5), vec![None]));
}

#[rstest]
#[case::memory(Adapter::Memory)]
#[case::redis(Adapter::Redis)]
#[tokio::test]
async fn a_put_that_does_not_follow_the_head_does_nothing(#[case] adapter: Adapter) {
    let [writer, other] = adapter.nodes().await;
    let first = writer.begin(&table(), 1, 4).await.unwrap();
    let second = writer.put(&table(), &first, &[entry(1, 5)], 5).await.unwrap();
    let late = other.put(&table(), &first, &[entry(1, 9), entry(2, 9)], 9).await;
    assert!(matches!(late, Err(CacheError::Lost)), "{late:?}");
    assert_eq!(look(&*writer, &[1, 2]).await, (Some(5), vec![Some(5), None]));

    writer.begin(&table(), 2, 5).await.unwrap();
    let late = other.put(&table(), &second, &[entry(2, 6)], 6).await;
    assert!(matches!(late, Err(CacheError::Lost)), "{late:?}");
    assert_eq!(look(&*writer, &[1, 2]).await, (Some(5), vec![None, None]));
}

#[rstest]
#[case::memory(Adapter::Memory)]
#[case::redis(Adapter::Redis)]
#[tokio::test]
async fn a_put_whose_head_has_expired_does_nothing(#[case] adapter: Adapter) {
    let cache = adapter.cache().await;
    let tenure = cache.begin(&table(), 1, 4).await.unwrap();
    eventually("the head expires", async || look(&*cache, &[]).await.0.is_none().then_some(())).await;
    let late = cache.put(&table(), &tenure, &[entry(1, 5)], 5).await;
    assert!(matches!(late, Err(CacheError::Lost)), "{late:?}");
    assert_eq!(look(&*cache, &[1]).await, (None, vec![]));
}

#[rstest]
#[case::memory(Adapter::Memory)]
#[case::redis(Adapter::Redis)]
#[tokio::test]
async fn a_writer_that_was_taken_over_may_not_begin(#[case] adapter: Adapter) {
    let [old, new] = adapter.nodes().await;
    old.begin(&table(), 7, 4).await.unwrap();
    let tenure = new.begin(&table(), 8, 4).await.unwrap();
    let again = old.begin(&table(), 7, 4).await;
    assert!(matches!(again, Err(CacheError::Fenced(8))), "{again:?}");
    new.put(&table(), &tenure, &[entry(1, 5)], 5).await.unwrap();
    assert_eq!(look(&*old, &[1]).await, (Some(5), vec![Some(5)]));
    new.begin(&table(), 8, 5).await.unwrap();
}

#[rstest]
#[case::memory(Adapter::Memory)]
#[case::redis(Adapter::Redis)]
#[tokio::test]
async fn one_reader_fills_what_all_missed(#[case] adapter: Adapter) {
    let [one, other] = adapter.nodes().await;
    one.begin(&table(), 1, 4).await.unwrap();
    let (head, leased) = lease(&*one, 1).await;
    assert!(lease(&*other, 1).await.1.is_none(), "somebody is about to fill it");
    assert!(fill(&*one, head, leased.clone().unwrap(), Some(entry(1, 3))).await);
    assert_eq!(look(&*other, &[1]).await, (Some(4), vec![Some(3)]));
    assert!(!fill(&*one, head, leased.unwrap(), Some(entry(1, 2))).await, "a lease is good for one fill");
    assert_eq!(look(&*other, &[1]).await.1, [Some(3)]);
}

#[rstest]
#[case::memory(Adapter::Memory)]
#[case::redis(Adapter::Redis)]
#[tokio::test]
async fn of_readers_that_missed_at_once_one_gets_the_lease(#[case] adapter: Adapter) {
    let nodes = adapter.nodes().await;
    nodes[0].begin(&table(), 1, 4).await.unwrap();
    let found = nodes[0].get(&table(), &[id(1)]).await.unwrap();
    let Slot::Miss(missed) = &found.slots[0] else { panic!("it is cached") };
    let missed = [missed.clone()];
    let generation = found.head.unwrap().generation;
    let table = table();
    let claims = (0..8).map(|n| nodes[n % 2].lease(&table, generation, &missed));
    let got = futures_util::future::join_all(claims).await;
    assert_eq!(got.into_iter().map(|leases| leases.unwrap().len()).sum::<usize>(), 1);
}

#[rstest]
#[case::memory(Adapter::Memory)]
#[case::redis(Adapter::Redis)]
#[tokio::test]
async fn a_lease_that_is_given_back_can_be_taken_again(#[case] adapter: Adapter) {
    let cache = adapter.cache().await;
    cache.begin(&table(), 1, 4).await.unwrap();
    let (head, leased) = lease(&*cache, 1).await;
    assert!(!fill(&*cache, head, leased.unwrap(), None).await);
    assert_eq!(look(&*cache, &[1]).await.1, [None]);
    assert!(lease(&*cache, 1).await.1.is_some());
}

#[rstest]
#[case::memory(Adapter::Memory)]
#[case::redis(Adapter::Redis)]
#[tokio::test]
async fn a_lease_lapses(#[case] adapter: Adapter) {
    let cache = adapter.cache().await;
    let mut tenure = cache.begin(&table(), 1, 4).await.unwrap();
    let (head, leased) = lease(&*cache, 1).await;
    let again = async || {
        tenure = cache.put(&table(), &tenure, &[], 4).await.unwrap();
        lease(&*cache, 1).await.1
    };
    let again = eventually("the lease lapses", again).await;
    assert!(!fill(&*cache, head, leased.unwrap(), Some(entry(1, 2))).await, "somebody else has it");
    assert!(fill(&*cache, head, again, Some(entry(1, 3))).await);
}

#[rstest]
#[case::memory(Adapter::Memory)]
#[case::redis(Adapter::Redis)]
#[tokio::test]
async fn a_fill_that_began_before_a_put_does_nothing(#[case] adapter: Adapter) {
    let [writer, reader] = adapter.nodes().await;
    let tenure = writer.begin(&table(), 1, 4).await.unwrap();
    let (head, leased) = lease(&*reader, 1).await;
    writer.put(&table(), &tenure, &[entry(1, 5)], 5).await.unwrap();
    assert!(!fill(&*reader, head, leased.unwrap(), Some(entry(1, 3))).await);
    assert_eq!(look(&*reader, &[1]).await, (Some(5), vec![Some(5)]));
}

#[rstest]
#[case::memory(Adapter::Memory)]
#[case::redis(Adapter::Redis)]
#[tokio::test]
async fn a_put_takes_nothing_newer_back(#[case] adapter: Adapter) {
    let [writer, reader] = adapter.nodes().await;
    let tenure = writer.begin(&table(), 1, 4).await.unwrap();
    // The reader found in the store what is committed, and not put yet.
    let (head, leased) = lease(&*reader, 1).await;
    assert!(fill(&*reader, head, leased.unwrap(), Some(entry(1, 12))).await);
    let tenure = writer.put(&table(), &tenure, &[entry(1, 9)], 9).await.unwrap();
    assert_eq!(look(&*reader, &[1]).await, (Some(9), vec![Some(12)]));
    writer.put(&table(), &tenure, &[entry(1, 100)], 100).await.unwrap();
    assert_eq!(look(&*reader, &[1]).await, (Some(100), vec![Some(100)]), "positions are compared as numbers");
}

#[rstest]
#[case::memory(Adapter::Memory)]
#[case::redis(Adapter::Redis)]
#[tokio::test]
async fn a_document_that_has_grown_too_large_is_not_cached_and_neither_is_what_it_was(#[case] adapter: Adapter) {
    let cache = adapter.cache().await;
    let large = Entry { body: Bytes::from(vec![0; BODY_BYTES_MAX + 1]), ..entry(1, 6) };
    let tenure = cache.begin(&table(), 1, 4).await.unwrap();
    let tenure = cache.put(&table(), &tenure, &[entry(1, 5)], 5).await.unwrap();
    cache.put(&table(), &tenure, std::slice::from_ref(&large), 6).await.unwrap();
    assert_eq!(look(&*cache, &[1]).await, (Some(6), vec![None]));
    let (head, leased) = lease(&*cache, 1).await;
    assert!(!fill(&*cache, head, leased.unwrap(), Some(large)).await);
    assert_eq!(look(&*cache, &[1]).await.1, [None]);
    let most = Entry { body: Bytes::from(vec![0; BODY_BYTES_MAX]), ..entry(2, 6) };
    let (head, leased) = lease(&*cache, 2).await;
    assert!(fill(&*cache, head, leased.unwrap(), Some(most)).await);
}

#[rstest]
#[case::memory(Adapter::Memory)]
#[case::redis(Adapter::Redis)]
#[tokio::test]
async fn names_versions_and_builds_are_apart(#[case] adapter: Adapter) {
    let cache = adapter.cache().await;
    let tenure = cache.begin(&table(), 1, 4).await.unwrap();
    cache.put(&table(), &tenure, &[entry(1, 5)], 5).await.unwrap();
    for other in [
        TableKey { name: "users".into(), ..table() },
        TableKey { version: 2, ..table() },
        TableKey { build: 2, ..table() },
    ] {
        assert!(cache.get(&other, &[id(1)]).await.unwrap().head.is_none());
        assert_eq!(cache.begin(&other, 1, 9).await.unwrap().head().position, 9);
    }
    assert_eq!(look(&*cache, &[1]).await, (Some(5), vec![Some(5)]));
}
