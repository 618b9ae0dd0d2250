//! A rebuild folds what happened, and makes nothing happen.
use super::{Adapter, Node, World};
use marvin::{
    agent::{Kinds, worker::Worker},
    health::Health,
    log::{subscription::follow, tail::Tail},
    process::Process,
    views::{State, TableRow, ViewId, ViewStore},
};
use marvin_domain::{
    Event, Position,
    agent::AgentCommand,
    notification::NotificationEvent,
    process,
    task::{CancelReason, TaskCommand, TaskEvent},
    user::Role,
};
use rstest::rstest;
use serde_json::json;
use std::time::Duration;

use crate::wait::eventually;

/// Whether anything is appended behind `end` within the time that the keepers, the worker and its sweep take for a look.
async fn moves(world: &World, end: Position) -> bool {
    let mut head = world.stack.stores.log.head();
    tokio::time::timeout(Duration::from_secs(2), head.wait_for(|head| *head != end)).await.is_ok()
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn a_rebuild_of_every_view_dispatches_notifies_and_claims_nothing(#[case] adapter: Adapter) {
    let world = adapter.world().await;
    let (folds, stores) = (marvin_projections::all(), &world.stack.stores);
    let node = Node::keeping(&world, &folds);
    let tail = Tail::new(stores.log.clone(), stores.codec.clone());
    tokio::spawn(tail.clone().feed(Health::default()));
    for manager in process::all() {
        let (dispatcher, checkpoints) = (world.stack.dispatcher.clone(), stores.checkpoints.clone());
        let process = Process::new(manager, dispatcher, node.views.clone(), checkpoints);
        tokio::spawn(follow(tail.clone(), process, Health::default()));
    }
    let kinds = Kinds::all(node.views.clone(), world.stack.outside());
    let (log, codec, slots) = (stores.log.clone(), stores.codec.clone(), stores.slots.clone());
    let worker = Worker::new(kinds, world.stack.dispatcher.clone(), node.views.clone(), log, codec, slots.clone());
    tokio::spawn(worker.clone().listen(tail.clone()));
    tokio::spawn(worker.clone().sweep());
    // Each kind of thing that somebody reacts to: a task that runs, one that is cancelled, and a person who is erased.
    let user = world.stack.user("a@example.com", &[Role::Member]).await;
    let erased = world.stack.user("b@example.com", &[Role::Member]).await;
    let agent = world.stack.agent("scribe").await;
    let ended = world.stack.task(agent, user, json!({})).await;
    let is_ended = |event: &Event| {
        matches!(event, Event::Task(TaskEvent::Completed(_) | TaskEvent::Failed(_) | TaskEvent::DeadLettered(_)))
    };
    eventually("the worker works", async || {
        world.events_behind(0).await.into_iter().find(|event| event.stream.id == ended && is_ended(&event.event))
    })
    .await;
    world.stack.send(agent, AgentCommand::Pause).await;
    let cancelled = world.stack.task(agent, user, json!({})).await;
    world.stack.task(agent, erased, json!({})).await;
    world.stack.send(cancelled, TaskCommand::Cancel { reason: CancelReason::Requested }).await;
    world.erase(erased).await;
    let raised = async || {
        let events = world.events_behind(0).await;
        events.iter().filter(|event| matches!(event.event, Event::Notification(NotificationEvent::Raised(_)))).count()
    };
    let has_cancelled = async || {
        let events = world.events_behind(0).await;
        events.iter().filter(|event| matches!(event.event, Event::Task(TaskEvent::Cancelled(_)))).count() == 2
    };
    eventually("managers react", async || (raised().await >= 1 && has_cancelled().await).then_some(())).await;
    while moves(&world, world.head()).await {}
    let (end, notified) = (world.head(), raised().await);
    for fold in &folds {
        world.store.begin(ViewId::of(&**fold), end).await.unwrap();
    }
    node.poke.notify_waiters();
    for fold in &folds {
        let rebuilt = |rows: &[TableRow]| rows.iter().any(|row| row.table.build == 2 && row.state == State::Live);
        world.until("it is rebuilt", ViewId::of(&**fold), rebuilt).await;
        assert!(world.opened(&world.live(ViewId::of(&**fold)).await).await.len() < 100);
    }
    assert!(!moves(&world, end).await, "{:?}", world.events_behind(end).await);
    assert_eq!(raised().await, notified);
    assert!(slots.held().await.unwrap().is_empty());
}
