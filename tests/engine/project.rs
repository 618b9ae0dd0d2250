//! Projectors: a crash anywhere repeats a batch with the same result.
use crate::{stack::Stack, weather::Weather, witness::Witness};
use marvin::{
    cache::{Cache, Slot, memory::MemoryCache, publisher::Publisher},
    log::{
        checkpoint::Checkpoint,
        subscription::{BATCH_EVENTS_MAX, FollowError, Follower},
    },
    views::{
        ListQuery, Order, Table, ViewError, ViewStore,
        documents::Documents,
        projector::{Projector, Told, key},
        sqlite::SqliteViews,
    },
};
use marvin_domain::{AggregateKind, Envelope, Position, StreamId, agent::AgentCommand, user::Role};
use marvin_projections::{Fold, RawDocument, agents::Agents, tasks::Tasks};
use serde_json::json;
use std::sync::{Arc, atomic::Ordering};
use tokio::sync::watch;
use uuid::Uuid;

struct Bench {
    stack: Stack,
    store: Arc<Weather>,
    documents: Documents,
}

async fn bench() -> Bench {
    let stack = Stack::new().await;
    let inner = SqliteViews::open(&stack.directory.path().join("views.db")).unwrap();
    let store = Arc::new(Weather::over(Arc::new(inner)));
    let documents = Documents::new(stack.stores.sealer.clone());
    Bench { stack, store, documents }
}

impl Bench {
    async fn projector(&self, fold: Arc<dyn Fold>) -> Projector {
        self.stack.projector(fold, self.store.clone()).await
    }

    async fn opened(&self, table: &Table) -> Vec<RawDocument> {
        let query = ListQuery { filters: Vec::new(), order: Order::Newest, before: None, limit: 1_000 };
        let page = self.store.list(table, query).await.unwrap();
        self.documents.open(table, page.documents).await.unwrap()
    }
}

async fn some_history(stack: &Stack) -> Vec<Arc<Envelope>> {
    let user = stack.user("a@example.com", &[Role::Member]).await;
    let agent = stack.agent("scribe").await;
    for number in 0..3 {
        stack.task(agent, user, json!({ "number": number })).await;
    }
    stack.send(agent, AgentCommand::Pause).await;
    stack.events().await.into_iter().map(Arc::new).collect()
}

#[tokio::test]
async fn a_crash_before_or_after_the_write_repeats_the_batch_with_the_same_result() {
    let crashed = bench().await;
    let events = some_history(&crashed.stack).await;
    for fold in marvin_projections::all() {
        let mut projector = crashed.projector(fold).await;
        let table = projector.table().clone();
        crashed.store.crash_before.store(true, Ordering::SeqCst);
        assert!(matches!(projector.take(&events[..3]).await, Err(FollowError::Again(_))));
        assert_eq!(projector.resume().await.unwrap(), 0, "a checkpoint without its documents");
        crashed.store.crash_after.store(true, Ordering::SeqCst);
        assert!(matches!(projector.take(&events[..3]).await, Err(FollowError::Again(_))));
        assert_eq!(projector.resume().await.unwrap(), 3, "documents without their checkpoint");
        let once = crashed.opened(&table).await;
        projector.take(&events[..3]).await.unwrap();
        assert_eq!(crashed.opened(&table).await, once, "a repeated batch changed {table}");
        projector.take(&events[3..]).await.unwrap();
        assert_eq!(projector.resume().await.unwrap(), events.last().unwrap().position);
    }
}

#[tokio::test]
async fn an_event_that_cannot_be_folded_stops_the_projection_exactly_there() {
    let bench = bench().await;
    let events = some_history(&bench.stack).await;
    let fold = marvin_projections::fold_of::<Agents>();
    let mut projector = bench.projector(fold).await;
    let (before, paused) = events.split_at(events.len() - 1);
    let paused_without_agent = [paused[0].clone()];
    let outcome = projector.take(&paused_without_agent).await;
    assert!(matches!(outcome, Err(FollowError::Stop { position, .. }) if position == paused[0].position));
    assert_eq!(projector.resume().await.unwrap(), 0, "there was nothing before it");
    assert!(bench.opened(projector.table()).await.is_empty());
    let stranger = Envelope { stream: StreamId { id: Uuid::now_v7(), ..paused[0].stream }, ..(*paused[0]).clone() };
    let batch: Vec<_> = before.iter().cloned().chain([Arc::new(stranger)]).collect();
    let outcome = projector.take(&batch).await;
    assert!(matches!(outcome, Err(FollowError::Stop { position, .. }) if position == paused[0].position));
    assert_eq!(projector.resume().await.unwrap(), paused[0].position - 1, "what is before it is not held up");
    assert_eq!(bench.opened(projector.table()).await.len(), 1);
}

#[tokio::test]
async fn a_document_copied_to_another_place_is_not_opened() {
    let bench = bench().await;
    let events = some_history(&bench.stack).await;
    let fold = marvin_projections::fold_of::<Tasks>();
    let mut projector = bench.projector(fold).await;
    projector.take(&events).await.unwrap();
    let table = projector.table();
    let query = ListQuery { filters: Vec::new(), order: Order::Newest, before: None, limit: 2 };
    let documents = bench.store.list(table, query).await.unwrap().documents;
    let mut moved = documents.clone();
    moved[0].body = moved[1].body.clone();
    assert!(matches!(bench.documents.open(table, moved).await, Err(ViewError::Corrupt { .. })));
    let mut newer = documents.clone();
    newer[0].position += 1;
    let outcome = bench.documents.open(table, newer).await;
    assert!(matches!(outcome, Err(ViewError::Corrupt { .. })), "an old document passes for a newer one");
    assert_eq!(bench.documents.open(table, documents).await.unwrap().len(), 2);
}

/// As the projector has it: how far behind the log's end a table is cached, and how far its checkpoint stays behind it.
const CATCH_UP_POSITIONS: Position = 16_000;

#[tokio::test]
async fn only_a_table_near_the_logs_end_is_cached() {
    let bench = bench().await;
    let events = some_history(&bench.stack).await;
    let end = events.last().unwrap().position;
    for (behind, is_cached) in [(0, true), (CATCH_UP_POSITIONS, true), (CATCH_UP_POSITIONS + 1, false)] {
        let (fold, cache) = (marvin_projections::fold_of::<Tasks>(), Arc::new(MemoryCache::default()));
        let (store, head) = (bench.store.clone(), end + behind);
        let mut projector = bench.stack.projector_at(fold, store, head, cache.clone()).await;
        projector.resume().await.unwrap();
        projector.take(&events).await.unwrap();
        let ids: Vec<_> = bench.opened(projector.table()).await.iter().map(|document| document.id).collect();
        assert_eq!(ids.len(), 3);
        let found = cache.get(&key(projector.table()), &ids).await.unwrap();
        let told = if is_cached { end } else { 0 };
        assert!(found.head.is_none_or(|head| head.position == told), "{behind} behind: {:?}", found.head);
        for slot in found.slots {
            assert_eq!(matches!(slot, Slot::Hit(_)), is_cached, "{behind} behind");
        }
    }
}

/// Not even that its writer lives: the head lapses, as it does not say what was written since.
#[tokio::test]
async fn a_table_far_behind_says_nothing_to_the_cache_until_it_is_near_and_then_begins_anew() {
    let bench = bench().await;
    let events = some_history(&bench.stack).await;
    let end = events.last().unwrap().position;
    let (fold, cache) = (marvin_projections::fold_of::<Agents>(), Witness::of(Arc::new(MemoryCache::default())));
    let table = bench.stack.projector(fold.clone(), bench.store.clone()).await.table().clone();
    let told = Told::new(Publisher::new(cache.clone(), key(&table), 1));
    let (log, head) = watch::channel(end + CATCH_UP_POSITIONS + 1);
    let mut projector = bench.stack.projector_telling(table, fold, bench.store.clone(), head, told.clone());
    projector.resume().await.unwrap();
    told.lock().await.again().await;
    assert_eq!(cache.heard(), (1, 1), "it has written nothing yet");
    let (last, before) = events.split_last().unwrap();
    for event in before {
        projector.take(std::slice::from_ref(event)).await.unwrap();
        told.lock().await.again().await;
    }
    assert_eq!(cache.heard(), (1, 1));
    log.send_replace(end);
    let agent = bench.opened(projector.table()).await[0].id;
    projector.take(std::slice::from_ref(last)).await.unwrap();
    assert_eq!(cache.heard(), (2, 1), "nothing of what was told before");
    told.lock().await.again().await;
    let found = cache.get(&key(projector.table()), &[agent]).await.unwrap();
    assert_eq!((cache.heard(), found.head.map(|head| head.position)), ((2, 2), Some(end)));
}

/// The cache was not told of what was written, and must not say that it reflects it.
#[tokio::test]
async fn a_write_whose_answer_is_lost_leaves_nothing_old_in_the_cache() {
    let bench = bench().await;
    let events = some_history(&bench.stack).await;
    let (fold, cache) = (marvin_projections::fold_of::<Agents>(), Arc::new(MemoryCache::default()));
    let (end, paused) = (events.last().unwrap().position, &events[events.len() - 1..]);
    let mut projector = bench.stack.projector_at(fold, bench.store.clone(), end, cache.clone()).await;
    projector.resume().await.unwrap();
    projector.take(&events[..events.len() - 1]).await.unwrap();
    let agent = bench.opened(projector.table()).await[0].id;
    let cached = async || cache.get(&key(projector.table()), &[agent]).await.unwrap();
    assert!(matches!(cached().await.slots[..], [Slot::Hit(_)]), "it was cached before");
    bench.store.crash_after.store(true, Ordering::SeqCst);
    assert!(matches!(projector.take(paused).await, Err(FollowError::Again(_))));
    assert_eq!(projector.resume().await.unwrap(), end, "it was written");
    let found = cache.get(&key(projector.table()), &[agent]).await.unwrap();
    assert_eq!(found.head.unwrap().position, end);
    assert!(matches!(found.slots[..], [Slot::Miss(_)]), "{:?}", found.slots);
}

#[tokio::test]
async fn a_document_that_cannot_be_read_stops_the_table_at_the_event_that_touches_it() {
    let bench = bench().await;
    let events = some_history(&bench.stack).await;
    let (before, paused) = events.split_at(events.len() - 1);
    let mut projector = bench.projector(marvin_projections::fold_of::<Agents>()).await;
    projector.take(before).await.unwrap();
    let table = projector.table().clone();
    let query = ListQuery { filters: Vec::new(), order: Order::Newest, before: None, limit: 1 };
    let mut agent = bench.store.list(&table, query).await.unwrap().documents.remove(0);
    (agent.position, agent.body) = (agent.position + 1, b"damaged".to_vec());
    bench.store.store(&table, vec![agent], Checkpoint::behind(before.last().unwrap()), 1).await.unwrap();
    // As after a restart: nothing of it is in memory.
    let (fold, cache) = (marvin_projections::fold_of::<Agents>(), Arc::new(MemoryCache::default()));
    let mut again = bench.stack.projector_on(table, fold, bench.store.clone(), 0, cache);
    again.resume().await.unwrap();
    // Others behind it were passed over.
    let end = Checkpoint { position: paused[0].position + 500, event_id: Uuid::now_v7() };
    let mut outcome = again.take_to(paused, end).await;
    if outcome.is_ok() {
        outcome = again.settle().await;
    }
    let Err(FollowError::Stop { position, reason }) = outcome else { panic!("{outcome:?}") };
    assert_eq!(position, paused[0].position);
    assert!(reason.contains("cannot be read"), "{reason}");
}

/// As after a change of the fields without a higher version.
#[tokio::test]
async fn a_document_that_the_table_cannot_hold_stops_it_at_the_event_that_touches_it() {
    let bench = bench().await;
    let events = some_history(&bench.stack).await;
    let fold = marvin_projections::fold_of::<Tasks>();
    let mut table = bench.projector(fold.clone()).await.table().clone();
    table.fields = table.fields[1..].into();
    let cache = Arc::new(MemoryCache::default());
    let mut projector = bench.stack.projector_on(table, fold, bench.store.clone(), 0, cache);
    projector.resume().await.unwrap();
    let mut outcome = projector.take(&events).await;
    if outcome.is_ok() {
        outcome = projector.settle().await;
    }
    let Err(FollowError::Stop { position, reason }) = outcome else { panic!("{outcome:?}") };
    let first = events.iter().find(|event| event.stream.kind == AggregateKind::Task).unwrap();
    assert_eq!(position, first.position);
    assert!(reason.contains("needs a higher version"), "{reason}");
}

/// So that a restart need not look through all of them again.
#[tokio::test]
async fn the_checkpoint_moves_also_where_nothing_is_of_concern() {
    const PAGE: Position = BATCH_EVENTS_MAX as Position;
    let bench = bench().await;
    let (fold, cache) = (marvin_projections::fold_of::<Tasks>(), Arc::new(MemoryCache::default()));
    let mut projector = bench.stack.projector_at(fold, bench.store.clone(), Position::MAX, cache).await;
    projector.resume().await.unwrap();
    let stored = async || bench.store.tables().await.unwrap()[0].checkpoint.position;
    for page in 1..=100 {
        let end = Checkpoint { position: page * PAGE, event_id: Uuid::now_v7() };
        projector.take_to(&[], end).await.unwrap();
        let behind = end.position - stored().await;
        assert!(behind < CATCH_UP_POSITIONS, "{behind} behind {}", end.position);
    }
    projector.settle().await.unwrap();
    assert_eq!(stored().await, 100 * PAGE, "what was put off is done when nothing can come");
}
