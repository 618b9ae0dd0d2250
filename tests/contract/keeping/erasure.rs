//! An erasure reaches every view: the live one, what is cached of it, and every rebuild, whenever it runs.
use super::{Adapter, Node, World, assert_same, view};
use crate::redis_server as redis;
use marvin::{
    cache::{Cache, memory::MemoryCache},
    views::{State, Table, TableRow, ViewStore},
};
use marvin_domain::{
    notification::{Link, Message, NotificationCommand, Severity},
    task::{CancelReason, TaskCommand},
    user::Role,
};
use marvin_projections::{Document, Projection, inbox::Inbox, tasks::Tasks, users::Users};
use rstest::rstest;
use serde_json::json;
use std::sync::{Arc, atomic::Ordering::SeqCst};
use uuid::Uuid;

const WORD: &str = "unmistakable";

struct Ada {
    id: Uuid,
    task: Uuid,
    notification: Uuid,
}

/// A person with a document in each view that keeps people's words.
async fn ada(world: &World) -> Ada {
    let id = world.stack.user(&format!("{WORD}@example.com"), &[Role::Member]).await;
    let agent = world.stack.agent("scribe").await;
    let task = world.stack.task(agent, id, json!({ "text": WORD })).await;
    let notification = Uuid::now_v7();
    let link = Link { kind: "task".into(), id: task };
    let message = Message { title: WORD.into(), body: WORD.into() };
    let raise = NotificationCommand::Raise { recipient: id, severity: Severity::Info, link, message };
    world.stack.send(notification, raise).await;
    Ada { id, task, notification }
}

/// Touches the documents once more, so that they are folded and stored anew.
async fn touch(world: &World, ada: &Ada) {
    world.stack.send(ada.task, TaskCommand::Cancel { reason: CancelReason::Requested }).await;
    world.stack.send(ada.notification, NotificationCommand::Read).await;
}

/// What a reader gets of a document; none where its personal part is erased.
async fn words<P: Projection>(node: &Node, id: Uuid, at_least: u64) -> Option<Vec<u8>> {
    node.views.wait::<P>(at_least).await.unwrap();
    node.views.get::<P>(id, at_least).await.unwrap().expect("it was created").personal()
}

async fn all_words(node: &Node, ada: &Ada, at_least: u64) -> [Option<Vec<u8>>; 3] {
    [
        words::<Users>(node, ada.id, at_least).await,
        words::<Tasks>(node, ada.task, at_least).await,
        words::<Inbox>(node, ada.notification, at_least).await,
    ]
}

async fn cache(is_redis: bool) -> Arc<dyn Cache> {
    if is_redis {
        Arc::new(redis::connect(&redis::shared(), &redis::instance()).await)
    } else {
        Arc::new(MemoryCache::default())
    }
}

/// Rebuilds every view, and answers the tables that serve then.
async fn begin_all(world: &World, node: &Node) {
    for fold in marvin_projections::all() {
        world.store.begin(marvin::views::ViewId::of(&*fold), world.head()).await.unwrap();
    }
    node.poke.notify_waiters();
}

async fn rebuilt<P: Projection>(world: &World, build: u32) -> Table {
    let head = world.head();
    let served = |rows: &[TableRow]| {
        rows.iter().any(|row| row.table.build == build && row.state == State::Live && row.checkpoint.position >= head)
    };
    let rows = world.until("it is rebuilt", view::<P>(), served).await;
    rows.into_iter().find(|row| row.table.build == build).unwrap().table
}

/// That neither the words nor anything that could hold them is left of the person in these tables.
async fn assert_nothing_left(world: &World, build: u32) {
    let tables = [
        rebuilt::<Users>(world, build).await,
        rebuilt::<Tasks>(world, build).await,
        rebuilt::<Inbox>(world, build).await,
    ];
    for table in &tables {
        for document in world.opened(table).await {
            assert_eq!(document.personal, None, "{table}");
            assert!(!String::from_utf8_lossy(&document.facts).contains(WORD), "{table}");
        }
    }
}

#[rstest]
#[case::sqlite(Adapter::Sqlite, false)]
#[case::postgres(Adapter::Postgres, true)]
#[tokio::test]
async fn a_person_is_erased_from_views_caches_and_rebuilds(#[case] adapter: Adapter, #[case] is_redis: bool) {
    let world = adapter.world().await;
    let (folds, cache) = (marvin_projections::all(), cache(is_redis).await);
    let node = Node::new(&world, &folds, &folds, cache);
    let ada = ada(&world).await;
    node.first_look().await;
    // Twice, so that they come out of the cache as well.
    for _ in 0..2 {
        let words = all_words(&node, &ada, world.head()).await;
        assert!(words.iter().all(|words| String::from_utf8_lossy(words.as_ref().unwrap()).contains(WORD)));
    }
    // A rebuild that has folded her words, and not yet her erasure.
    world.store.holds_switch.store(true, SeqCst);
    begin_all(&world, &node).await;
    for fold in &folds {
        let filled = |rows: &[TableRow]| rows.len() == 2 && rows[1].checkpoint.position == world.head();
        world.until("it is filled", marvin::views::ViewId::of(&**fold), filled).await;
    }
    world.erase(ada.id).await;
    assert_eq!(all_words(&node, &ada, world.head()).await, [None, None, None], "in the live views, or cached");
    touch(&world, &ada).await;
    assert_eq!(all_words(&node, &ada, world.head()).await, [None, None, None], "memory brought them back");
    assert_nothing_left(&world, 1).await;
    world.store.holds_switch.store(false, SeqCst);
    assert_nothing_left(&world, 2).await;
    begin_all(&world, &node).await;
    assert_nothing_left(&world, 3).await;
    assert_eq!(all_words(&node, &ada, world.head()).await, [None, None, None]);
    for fold in folds {
        world.assert_equal(fold).await;
    }
}

/// The key is destroyed while a rebuild holds what was opened before: what it stores from then on has no personal part at all.
#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn what_was_opened_before_an_erasure_is_not_stored_after_it(#[case] adapter: Adapter) {
    let world = adapter.world().await;
    let ada = ada(&world).await;
    let folds = [marvin_projections::fold_of::<Tasks>()];
    let mut projector = world.stack.projector(folds[0].clone(), world.store.clone()).await;
    let opened = world.events_behind(0).await;
    let (first, rest) = opened.split_at(opened.len() - 2);
    marvin::log::subscription::Follower::take(&mut projector, first).await.unwrap();
    world.erase(ada.id).await;
    marvin::log::subscription::Follower::take(&mut projector, rest).await.unwrap();
    touch(&world, &ada).await;
    let behind = world.events_behind(rest.last().unwrap().position).await;
    let touched: Vec<_> = behind.into_iter().filter(|event| event.stream.id == ada.task).collect();
    assert!(!touched.is_empty());
    marvin::log::subscription::Follower::take(&mut projector, &touched).await.unwrap();
    let sealed = world.store.load(projector.table(), &[ada.task]).await.unwrap().documents;
    let opened = world.stack.stores.sealer.open_facts(
        format!("view/tasks/{}", projector.table().version).as_bytes(),
        &[ada.task.as_bytes().as_slice(), &sealed[0].position.to_be_bytes()].concat(),
        &sealed[0].body,
    );
    let facts = opened.unwrap();
    // A frame's head, and what sealing adds to the facts: the key's id, a nonce and a tag.
    assert!(sealed[0].body.len() < facts.len() + 96, "there is something behind the facts");
    let documents = world.opened(projector.table()).await;
    assert_same(&documents, &world.replayed(&folds[0]).await);
}
