//! Readers beside a writer: what a page is said to reflect it does, and pages that follow each other miss nothing.
use super::{Adapter, SealedDocument, VIEW, document, id, newest, numbers};
use futures_util::future::{join, join_all};
use marvin::views::{Filter, Table, ViewStore};
use rstest::rstest;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// Documents that every batch of the writer changes.
const CHANGED: u128 = 3;
/// Reads of each sort beside the writer.
const READS: u32 = 150;

/// Writes batch after batch, each of which moves every document to its position, until it is stopped.
async fn keep_writing(subject: &super::Subject, table: &Table, stop: &AtomicBool) -> u64 {
    let mut position = 1;
    while !stop.load(Ordering::Relaxed) {
        position += 1;
        let moved = (1..=CHANGED).map(|number| SealedDocument { position, ..document(number, "a", 1) });
        subject.put(table, moved.collect(), position).await;
    }
    position
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_event_up_to_a_pages_position_is_in_its_documents(#[case] adapter: Adapter) {
    let subject = adapter.subject().await;
    let table = subject.live(VIEW).await;
    let all = (1..=CHANGED).map(|number| document(number, "a", 1)).collect();
    subject.put(&table, all, 1).await;
    let (store, ids): (Arc<dyn ViewStore>, Vec<_>) = (subject.store.clone(), (1..=CHANGED).map(id).collect());
    let stop = AtomicBool::new(false);
    let reading = async {
        let mut last = 0;
        for _ in 0..READS {
            let loaded = store.load(&table, &ids).await.unwrap();
            let listed = store.list(&table, newest(vec![Filter::is("kind", "a")], None, 10)).await.unwrap();
            for page in [loaded, listed] {
                assert_eq!(page.documents.len() as u128, CHANGED);
                assert!(page.documents.iter().all(|document| document.position >= page.position), "{page:?}");
                assert!(page.position >= last, "what was shown is not taken back");
                last = page.position;
            }
        }
        stop.store(true, Ordering::Relaxed);
    };
    let (written, ()) = join(keep_writing(&subject, &table, &stop), reading).await;
    assert!(written > 10, "the writer wrote {written} batches beside it");
}

/// Documents that stand from the start and match all along.
const STANDING: u128 = 400;

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_that_follow_each_other_have_neither_gap_nor_repeat_beside_a_writer(#[case] adapter: Adapter) {
    let subject = adapter.subject().await;
    let table = subject.live(VIEW).await;
    let standing = (1..=STANDING).map(|number| document(10 * number, "a", 1)).collect();
    subject.put(&table, standing, 1).await;
    let stop = AtomicBool::new(false);
    // Changes documents that stand, adds others between and behind them, and takes those out of the list again.
    let writing = async {
        let mut position = 1;
        while !stop.load(Ordering::Relaxed) {
            position += 1;
            let turn = u128::from(position);
            let standing = document(10 * (1 + turn % STANDING), "a", 2);
            let kind = if turn.is_multiple_of(2) { "a" } else { "b" };
            let between = document(10 * (1 + turn / 2 % STANDING) + 1, kind, 1);
            let newer = document(10 * STANDING + turn, "a", 1);
            let moved = [standing, between, newer].map(|document| SealedDocument { position, ..document });
            subject.put(&table, moved.to_vec(), position).await;
        }
    };
    let reading = async {
        let walks = (0..4).map(|walk| {
            let (store, table) = (subject.store.clone(), table.clone());
            tokio::spawn(async move {
                let (mut seen, mut before) = (Vec::new(), None);
                loop {
                    let page = newest(vec![Filter::is("kind", "a")], before, 7 + walk);
                    let found = numbers(&store.list(&table, page).await.unwrap().documents);
                    let Some(last) = found.last() else { return seen };
                    before = Some(*last);
                    seen.extend(found);
                }
            })
        });
        let walks = join_all(walks).await;
        stop.store(true, Ordering::Relaxed);
        walks
    };
    let ((), walks) = join(writing, reading).await;
    for seen in walks.into_iter().map(Result::unwrap) {
        assert!(seen.is_sorted_by(|newer, older| newer > older), "each once, newest first");
        let stood = seen.iter().filter(|number| **number <= 10 * STANDING && number.is_multiple_of(10)).count();
        assert_eq!(stood as u128, STANDING);
    }
}
