//! Documents that together are more than is to be loaded at once.
use super::{Adapter, Names, World, assert_same, changed, named, view};
use marvin::{
    log::subscription::{FollowError, Follower},
    views::{ViewStore, projector::Projector},
};
use marvin_domain::{
    task::{CancelReason, TaskCommand},
    user::Role,
};
use marvin_projections::{fold_of, tasks::Tasks};
use rstest::rstest;
use serde_json::json;
use std::sync::atomic::Ordering::SeqCst;
use uuid::Uuid;

/// With the documents of this size a batch is far beyond what is loaded at once, whatever the number of lanes.
const DOCUMENTS: usize = 48;
pub(super) const DOCUMENT_BYTES: usize = 1024 * 1024;

/// Tasks whose documents are large, and the projector that has made them.
pub(super) async fn large_tasks(world: &World, count: usize) -> (Vec<Uuid>, Projector) {
    let user = world.stack.user("a@example.com", &[Role::Member]).await;
    let agent = world.stack.agent("scribe").await;
    let mut tasks = Vec::new();
    for _ in 0..count {
        tasks.push(world.stack.task(agent, user, json!("x".repeat(DOCUMENT_BYTES))).await);
    }
    let mut projector = world.stack.projector(fold_of::<Tasks>(), world.store.clone()).await;
    for event in world.events_behind(0).await {
        projector.take(&[event]).await.unwrap();
    }
    (tasks, projector)
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn a_batch_that_touches_too_much_is_folded_in_halves(#[case] adapter: Adapter) {
    let world = adapter.world().await;
    let (tasks, mut projector) = large_tasks(&world, DOCUMENTS).await;
    let begun = world.head();
    for task in &tasks {
        world.stack.send(*task, TaskCommand::Cancel { reason: CancelReason::Requested }).await;
    }
    let writes = world.store.writes.load(SeqCst);
    projector.take(&world.events_behind(begun).await).await.unwrap();
    assert!(world.store.writes.load(SeqCst) > writes + 1, "it was loaded at once");
    assert_eq!(projector.resume().await.unwrap(), world.head());
    let documents = world.opened(projector.table()).await;
    assert_eq!(documents.len(), DOCUMENTS);
    assert_same(&documents, &world.replayed(&fold_of::<Tasks>()).await);
}

/// A hundred lines earlier in the batch nothing is wrong with anything.
#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn a_document_that_cannot_be_read_stops_the_table_at_the_event_that_touches_it(#[case] adapter: Adapter) {
    let world = adapter.world().await;
    let id = named(&world, "damaged", "").await;
    let mut projector = world.stack.projector(fold_of::<Names<1>>(), world.store.clone()).await;
    projector.take(&world.events_behind(0).await).await.unwrap();
    let table = projector.table().clone();
    let mut document = world.store.load(&table, &[id]).await.unwrap().documents.remove(0);
    // Moved on by hand, and with it out of its place.
    world.store.drop_table(&table).await.unwrap();
    let mut projector = world.stack.projector(fold_of::<Names<1>>(), world.store.clone()).await;
    document.body[10] ^= 1;
    let end = marvin::log::checkpoint::Checkpoint { position: 1, event_id: Uuid::now_v7() };
    world.store.store(projector.table(), vec![document], end, 1).await.unwrap();
    projector.resume().await.unwrap();
    for number in 0..7 {
        named(&world, &format!("good {number}"), "").await;
    }
    let damaged = changed(&world, id, "a change").await;
    named(&world, "behind", "").await;
    let stopped = projector.take(&world.events_behind(1).await).await;
    assert!(matches!(stopped, Err(FollowError::Stop { position, .. }) if position == damaged), "{stopped:?}");
    assert_eq!(projector.resume().await.unwrap(), damaged - 1);
    assert_eq!(world.rows(view::<Names<1>>()).await.len(), 1);
}
