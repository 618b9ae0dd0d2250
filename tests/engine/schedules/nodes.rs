//! Several processes that fire at once, and processes that die in between.
use super::*;
use async_trait::async_trait;
use marvin::{
    log::{Append, AppendError, ReadError, Receipt, StoredEvent},
    store::StoreError,
};
use marvin_domain::{Position, Sequence, StreamId};
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::watch;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_that_fire_at_once_fire_each_instant_once() {
    let house = House::build().await;
    let mut schedules = Vec::new();
    for _ in 0..20 {
        schedules.push(house.schedule(every_minute(), Overlap::Allow, Missed::All).await);
    }
    let nodes = [house.node(), house.node(), house.node()];
    for round in 1..=3 {
        house.set_clock(noon(60 * round));
        let firings: Vec<_> = nodes
            .iter()
            .flat_map(|node| schedules.iter().map(|id| (node.clone(), *id)))
            .map(|(node, id)| tokio::spawn(async move { node.advance(id).await }))
            .collect();
        for firing in firings {
            firing.await.unwrap();
        }
    }
    for id in schedules {
        assert_eq!(house.fired(id).await, [submitted(60), submitted(120), submitted(180)]);
    }
    assert_eq!(house.tasks().await.len(), 60);
}

/// A log that is cut off at the next append: before it is written, or before the answer arrives.
struct Cut {
    inner: Arc<dyn EventLog>,
    is_cut: AtomicBool,
    is_written: bool,
}

#[async_trait]
impl EventLog for Cut {
    async fn append(&self, append: Append) -> Result<Receipt, AppendError> {
        if !self.is_cut.swap(false, Ordering::SeqCst) {
            return self.inner.append(append).await;
        }
        if self.is_written {
            self.inner.append(append).await?;
        }
        Err(AppendError::Unavailable(StoreError::Closed))
    }
    async fn find_command(&self, command_id: Uuid) -> Result<Option<(Receipt, Option<String>)>, ReadError> {
        self.inner.find_command(command_id).await
    }
    async fn read(&self, after: Position, limit: u32) -> Result<Vec<StoredEvent>, ReadError> {
        self.inner.read(after, limit).await
    }
    async fn read_stream(&self, stream: StreamId, after: Sequence, limit: u32) -> Result<Vec<StoredEvent>, ReadError> {
        self.inner.read_stream(stream, after, limit).await
    }
    fn head(&self) -> watch::Receiver<Position> {
        self.inner.head()
    }
}

#[tokio::test]
async fn a_process_that_dies_around_the_append_leaves_the_firing_to_the_next_one_once() {
    for is_written in [false, true] {
        let house = House::build().await;
        let id = house.schedule(every_minute(), Overlap::Allow, Missed::One).await;
        house.set_clock(noon(60));
        let inner = house.stack.stores.log.clone();
        let dying = house.node_on(Arc::new(Cut { inner, is_cut: AtomicBool::new(true), is_written }));
        assert_eq!(dying.advance(id).await, None);
        assert_eq!(house.fired(id).await.len(), usize::from(is_written));
        // The same one a moment later, and another one.
        for node in [&dying, &house.node()] {
            node.advance(id).await;
        }
        assert_eq!(house.fired(id).await, [submitted(60)]);
        assert_eq!(house.tasks().await.len(), 1);
    }
}

#[tokio::test]
async fn a_process_that_has_not_heard_of_a_firing_goes_on_behind_it() {
    let house = House::build().await;
    let (first, second) = (house.node(), house.node());
    let id = house.schedule(every_minute(), Overlap::Allow, Missed::One).await;
    // The second one keeps the schedule as it is now.
    assert_eq!(second.load(id).await.unwrap().unwrap().next_at, Some(noon(60)));
    house.set_clock(noon(60));
    first.advance(id).await;
    house.set_clock(noon(75));
    second.advance(id).await;
    house.set_clock(noon(120));
    second.advance(id).await;
    first.advance(id).await;
    assert_eq!(house.fired(id).await, [submitted(60), submitted(120)]);
}
