//! Events of a newer Marvin: whoever reads stops there, visibly, with everything before it done and nothing behind it.
use crate::stack::{Stack, meta};
use async_trait::async_trait;
use marvin::views::{ListQuery, Order};
use marvin::{
    dispatch::DispatchError,
    health::Health,
    http::problem::Problem,
    log::{
        Append, NewEvent, ReadError, StreamAppend,
        subscription::{FollowError, Follower, Subscription, follow},
        tail::Tail,
    },
    views::{
        Stopped, ViewId,
        admin::{AdminError, Projections},
    },
};
use marvin_domain::{AggregateKind, Directed, Envelope, Position, StreamId, agent::AgentCommand, user::Role};
use marvin_projections::Fold;
use std::sync::Arc;
use tokio::sync::watch;
use uuid::Uuid;

const REASON: &str = "unknown event agent.paused.v9: a newer Marvin wrote it, this one knows v1 only";

/// Three agents at positions 1, 2 and 4; at 3 an event of the first one that only a newer Marvin knows.
struct Ahead {
    stack: Stack,
    first: Uuid,
    second: Uuid,
}

async fn ahead() -> Ahead {
    let stack = Stack::new().await;
    let (first, second) = (stack.agent("one").await, stack.agent("two").await);
    append_paused(&stack, first, 9).await;
    stack.agent("three").await;
    // As in a process that was started anew: nothing is cached.
    Ahead { stack: stack.restarted().await, first, second }
}

async fn append_paused(stack: &Stack, agent: Uuid, event_version: u16) {
    let (stream, event_id) = (StreamId { kind: AggregateKind::Agent, id: agent }, Uuid::now_v7());
    let place = [&2_u64.to_be_bytes()[..], event_id.as_bytes(), &event_version.to_be_bytes(), b"paused"].concat();
    let sealed = stack.stores.sealer.seal(&[b"agent/", &agent.as_bytes()[..]].concat(), &place, b"{}", None).await;
    let metadata = format!(r#"{{"actor":"system","correlation":"{event_id}"}}"#);
    let event = NewEvent { event_id, event_type: "paused", event_version, payload: sealed.ok().unwrap(), metadata };
    let streams = vec![StreamAppend { stream, expected: 1, events: vec![event] }];
    stack.stores.log.append(Append { command_id: event_id, digest: None, streams }).await.unwrap();
}

struct Counting {
    taken: watch::Sender<Position>,
}

#[async_trait]
impl Follower for Counting {
    fn name(&self) -> String {
        "counting".into()
    }
    async fn resume(&mut self) -> Result<Position, FollowError> {
        Ok(*self.taken.borrow())
    }
    async fn take(&mut self, events: &[Arc<Envelope>]) -> Result<(), FollowError> {
        self.taken.send_replace(events.last().unwrap().position);
        Ok(())
    }
}

#[track_caller]
fn expect_stopped(health: &Health, name: &str) {
    let degraded = health.degraded();
    let stopped = degraded.iter().find(|part| part.name == name).unwrap_or_else(|| panic!("{name} is not shown"));
    assert_eq!(stopped.position, Some(3));
    assert!(stopped.reason.contains(REASON) && stopped.reason.contains("position 3"), "{}", stopped.reason);
}

#[tokio::test]
async fn a_follower_takes_what_is_before_the_unknown_event_and_stops_there_while_others_go_on() {
    let Ahead { stack, .. } = ahead().await;
    let health = Health::default();
    let (taken, mut reached) = watch::channel(3);
    tokio::spawn(follow(stack.tail.clone(), Counting { taken }, health.clone()));
    let (taken, stopped_at) = watch::channel(0);
    follow(stack.tail.clone(), Counting { taken }, health.clone()).await;
    assert_eq!(*stopped_at.borrow(), 2, "what can be read is not held up");
    expect_stopped(&health, "counting");
    reached.wait_for(|position| *position == 4).await.unwrap();
}

#[tokio::test]
async fn a_projection_does_not_pass_an_unknown_event_of_its_aggregates() {
    let Ahead { stack, .. } = ahead().await;
    let of_agents = |fold: &Arc<dyn Fold>| fold.kinds().contains(&AggregateKind::Agent);
    for fold in marvin_projections::all().into_iter().filter(of_agents) {
        let (health, store) = (Health::default(), stack.stores.views.clone());
        let projector = stack.projector(fold, store.clone()).await;
        let table = projector.table().clone();
        follow(stack.tail.clone(), projector, health.clone()).await;
        expect_stopped(&health, &format!("projector:{table}"));
        assert_eq!(store.load(&table, &[]).await.unwrap().position, 2);
        let query = ListQuery { filters: Vec::new(), order: Order::Newest, before: None, limit: 10 };
        let found = store.find(&table, query).await.unwrap();
        assert!(found.len() <= 2, "{} shows what lies behind", table.name);
    }
}

#[tokio::test]
async fn a_projection_of_other_aggregates_passes_an_unknown_event_unopened() {
    let Ahead { stack, .. } = ahead().await;
    let of_others = |fold: &Arc<dyn Fold>| !fold.kinds().contains(&AggregateKind::Agent);
    for fold in marvin_projections::all().into_iter().filter(of_others) {
        let (health, store) = (Health::default(), stack.stores.views.clone());
        let projector = stack.projector(fold, store.clone()).await;
        let table = projector.table().clone();
        let following = tokio::spawn(follow(stack.tail.clone(), projector, health.clone()));
        while store.load(&table, &[]).await.unwrap().position < 4 {
            assert!(!following.is_finished(), "{table} stopped");
        }
        assert!(health.degraded().is_empty(), "{table} is shown as stopped");
    }
}

#[tokio::test]
async fn the_live_tail_shows_what_is_before_an_unknown_event_and_says_where_it_stands() {
    let stack = Stack::new().await;
    let health = Health::default();
    let tail = Tail::new(stack.stores.log.clone(), stack.codec().clone());
    let agent = stack.agent("one").await;
    append_paused(&stack, agent, 9).await;
    stack.agent("two").await;
    tokio::spawn(tail.clone().feed(health.clone()));
    let mut subscription = Subscription::new(tail.clone(), 0);
    let seen: Vec<_> = subscription.next().await.unwrap().iter().map(|event| event.position).collect();
    assert_eq!(seen, [1]);
    while health.degraded().is_empty() {
        tokio::task::yield_now().await;
    }
    let degraded = health.degraded();
    assert_eq!((degraded.len(), degraded[0].name.as_str(), degraded[0].position), (1, "log", Some(1)));
    assert!(degraded[0].reason.contains("position 2") && degraded[0].reason.contains(REASON), "{}", degraded[0].reason);
    assert_eq!(*tail.head().borrow(), 1, "nothing behind it is shown");
}

#[tokio::test]
async fn commands_on_a_stream_with_an_unknown_event_are_not_decided_and_others_are() {
    let Ahead { stack, first, second } = ahead().await;
    for command in [AgentCommand::Pause, AgentCommand::Resume, AgentCommand::Retire] {
        let undecided = stack.dispatcher.dispatch(&meta(), &[Directed::new(first, command)]).await;
        let Err(DispatchError::Corrupt(reason)) = undecided else { panic!("{undecided:?}") };
        assert!(reason.contains("position 3") && reason.contains(REASON), "{reason}");
        let problem = Problem::from(DispatchError::Corrupt(reason));
        assert_eq!((problem.status().as_u16(), problem.detail()), (500, None));
    }
    assert_eq!(*stack.stores.log.head().borrow(), 4);
    stack.send(second, AgentCommand::Pause).await;
}

#[tokio::test]
async fn an_aggregate_of_a_newer_marvin_is_named_with_its_position() {
    let stack = Stack::new().await;
    stack.agent("one").await;
    let path = stack.directory.path().join("data/log.db");
    let copy = "INSERT INTO events SELECT 2, 'robot', aggregate_id, 1, event_type, 1, payload, metadata, zeroblob(16), \
                zeroblob(16), 0, recorded_at FROM events";
    rusqlite::Connection::open(path).unwrap().execute_batch(copy).unwrap();
    let tail = Tail::new(stack.stores.log.clone(), stack.codec().clone());
    assert!(matches!(stack.stores.log.read(0, 10).await, Err(ReadError::Corrupt { position: 2, .. })));
    let stack = Stack { tail, ..stack }.restarted().await;
    assert_eq!(stack.tail.read(0, 10).await.unwrap().len(), 1);
    let unknown = stack.tail.read(1, 10).await.unwrap_err();
    let said = "the event at position 2 cannot be read: robot is no kind of aggregate this Marvin knows";
    assert_eq!(unknown.to_string(), said);
}

#[tokio::test]
async fn an_administrator_cannot_pass_over_it_since_no_projection_is_at_fault() {
    let Ahead { stack, .. } = ahead().await;
    let (views, folds, poke) = (stack.stores.views.clone(), marvin_projections::all(), Arc::default());
    let table = views.begin(ViewId::of(&*folds[0]), 0).await.unwrap().table;
    views.take_over(&table, 1).await.unwrap();
    views.stop(&table, 1, Stopped { position: 3, reason: REASON.into() }).await.unwrap();
    let (duties, dispatcher, tail) = (stack.stores.duties.clone(), stack.dispatcher.clone(), stack.tail.clone());
    let projections = Projections::new(views, duties, dispatcher, &folds, tail, poke);
    let administrator = stack.user("a@example.com", &[Role::Admin]).await;
    let head = *stack.stores.log.head().borrow();
    let skipped = projections.skip(&meta(), administrator, &table.name, 3, "It is in the way".into()).await;
    let Err(AdminError::Conflict(reason)) = skipped else { panic!("{skipped:?}") };
    assert!(reason.starts_with("nobody can read this event"), "{reason}");
    assert_eq!(*stack.stores.log.head().borrow(), head, "nothing was recorded");
    assert!(projections.one(&table.name).await.unwrap().stopped.is_some());
}
