//! A writer, readers, and one who was the writer, in any order and with any of their calls late or lost: what is answered under a
//! head is never older than the head.
use marvin::cache::{Cache, CacheError, Entry, Head, Lease, Tenure};
use marvin_domain::Position;
use proptest::prelude::*;
use rstest::rstest;
use std::{collections::HashMap, sync::Arc};

use super::{Adapter, entry, fill, id, lease, look, table};

/// Few, so that they meet.
const DOCUMENTS: u128 = 3;
const READERS: usize = 3;
const CASES: u32 = 96;

#[derive(Debug, Clone)]
enum Step {
    /// Events change a document, and are committed.
    Commit(u128),
    Publish,
    /// The put or begin is done, and its answer lost.
    PublishUnanswered,
    /// The put is sent, arrives when it may, and nobody waits for it.
    PublishLate,
    LateArrives,
    /// The writer's process ends, and another takes over.
    TakeOver,
    /// The one that was taken over does not know it yet.
    FormerBegins,
    FormerPuts(u128),
    ReaderMisses(usize, u128),
    ReaderLoads(usize),
    ReaderFills(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..DOCUMENTS).prop_map(Step::Commit),
        4 => Just(Step::Publish),
        1 => Just(Step::PublishUnanswered),
        1 => Just(Step::PublishLate),
        2 => Just(Step::LateArrives),
        1 => Just(Step::TakeOver),
        1 => Just(Step::FormerBegins),
        1 => (0..DOCUMENTS).prop_map(Step::FormerPuts),
        4 => (0..READERS, 0..DOCUMENTS).prop_map(|(reader, number)| Step::ReaderMisses(reader, number)),
        4 => (0..READERS).prop_map(Step::ReaderLoads),
        4 => (0..READERS).prop_map(Step::ReaderFills),
    ]
}

/// A reader between its miss and its fill.
struct Pending {
    number: u128,
    head: Head,
    lease: Lease,
    loaded: Option<Entry>,
}

struct Story {
    cache: Arc<dyn Cache>,
    /// The store: every commit of each document, which counts positions from 1.
    commits: Vec<u128>,
    published: usize,
    token: u64,
    tenure: Option<Tenure>,
    late: Option<(Tenure, Vec<Entry>, Position)>,
    former: Option<(Tenure, Position)>,
    readers: HashMap<usize, Pending>,
}

impl Story {
    fn head(&self) -> Position {
        self.commits.len() as Position
    }

    /// The last change of a document at or before a position.
    fn changed(&self, number: u128, until: Position) -> Option<Position> {
        let until = usize::try_from(until).unwrap();
        self.commits[..until].iter().rposition(|commit| *commit == number).map(|index| index as Position + 1)
    }

    /// What was committed since the last publication.
    fn batch(&self) -> Vec<Entry> {
        let changed = (0..DOCUMENTS).filter(|number| self.commits[self.published..].contains(number));
        changed.filter_map(|number| Some(entry(number, self.changed(number, self.head())?))).collect()
    }

    async fn publish(&mut self) -> Option<Tenure> {
        let outcome = match self.tenure.take() {
            Some(tenure) => self.cache.put(&table(), &tenure, &self.batch(), self.head()).await,
            None => self.cache.begin(&table(), self.token, self.head()).await,
        };
        self.published = self.commits.len();
        outcome.ok()
    }

    async fn take(&mut self, step: Step) {
        match step {
            Step::Commit(number) => self.commits.push(number),
            Step::Publish => self.tenure = self.publish().await,
            Step::PublishUnanswered => _ = self.publish().await,
            Step::PublishLate => {
                if let Some(tenure) = self.tenure.take() {
                    self.late = Some((tenure, self.batch(), self.head()));
                    self.published = self.commits.len();
                }
            }
            Step::LateArrives => {
                if let Some((tenure, entries, position)) = self.late.take() {
                    self.cache.put(&table(), &tenure, &entries, position).await.ok();
                }
            }
            Step::TakeOver => {
                self.former = self.tenure.take().map(|tenure| (tenure, self.head()));
                self.token += 1;
                // Who takes over begins before it commits.
                self.tenure = self.publish().await;
            }
            Step::FormerBegins => {
                if let Some((tenure, position)) = &mut self.former {
                    match self.cache.begin(&table(), self.token - 1, *position).await {
                        Ok(begun) => *tenure = begun,
                        Err(error) => assert!(matches!(error, CacheError::Fenced(_)), "{error}"),
                    }
                }
            }
            Step::FormerPuts(number) => {
                if let Some((tenure, position)) = self.former.take() {
                    // What it committed last, which may have changed since.
                    let entries: Vec<_> =
                        self.changed(number, position).map(|at| entry(number, at)).into_iter().collect();
                    self.cache.put(&table(), &tenure, &entries, position).await.ok();
                }
            }
            Step::ReaderMisses(reader, number) => self.miss(reader, number).await,
            Step::ReaderLoads(reader) => {
                let head = self.head();
                let number = self.readers.get(&reader).map(|pending| pending.number);
                let loaded = number.and_then(|number| Some(entry(number, self.changed(number, head)?)));
                if let Some(pending) = self.readers.get_mut(&reader) {
                    pending.loaded = loaded;
                }
            }
            Step::ReaderFills(reader) => {
                if let Some(Pending { head, lease, loaded, .. }) = self.readers.remove(&reader) {
                    fill(&*self.cache, head, lease, loaded).await;
                }
            }
        }
    }

    async fn miss(&mut self, reader: usize, number: u128) {
        if let (Some(_), slots) = look(&*self.cache, &[number]).await
            && slots == [None]
            && let (head, Some(lease)) = lease(&*self.cache, number).await
        {
            self.readers.insert(reader, Pending { number, head, lease, loaded: None });
        }
    }

    /// Answers how many documents were cached.
    async fn check(&self) -> usize {
        let numbers: Vec<u128> = (0..DOCUMENTS).collect();
        let (head, slots) = look(&*self.cache, &numbers).await;
        let Some(head) = head else { return 0 };
        for (number, found) in numbers.iter().zip(&slots) {
            let Some(found) = found else { continue };
            let least = self.changed(*number, head);
            assert!(Some(*found) >= least, "under the head {head}, {} is at {found}, not {least:?}", id(*number));
        }
        slots.iter().flatten().count()
    }
}

#[rstest]
#[case::memory(Adapter::Memory)]
#[case::redis(Adapter::Redis)]
fn whatever_is_late_or_lost_nothing_is_older_than_its_head(#[case] adapter: Adapter) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let cached = std::cell::Cell::new(0);
    let strategy = proptest::collection::vec(step(), 10..80);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: CASES,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let outcome = runner.run(&strategy, |steps| {
        runtime.block_on(async {
            let mut story = Story {
                cache: adapter.cache().await,
                commits: vec![0],
                published: 0,
                token: 1,
                tenure: None,
                late: None,
                former: None,
                readers: HashMap::new(),
            };
            for step in steps {
                story.take(step).await;
                cached.set(cached.get() + story.check().await);
            }
        });
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
    assert!(cached.get() > 1_000, "only {} documents were cached: too few to prove anything", cached.get());
}
