//! Process managers: what a crash repeats happens once.
use crate::stack::{Stack, meta};
use marvin::{
    cache::memory::MemoryCache,
    dispatch::CommandMeta,
    health::Health,
    log::{checkpoint::Checkpoint, subscription::Follower},
    process::Process,
    views::{ViewId, ViewStore, board::Board, documents::Documents, query::Views, sqlite::SqliteViews},
};
use marvin_domain::{
    Directed, Envelope, Event,
    notification::{NotificationCommand, NotificationEvent},
    process::{self, Answer, ProcessManager, Question},
    task::{CancelReason, TaskCommand, TaskEvent},
    user::{Role, UserCommand},
};
use serde_json::json;
use std::{sync::Arc, time::Duration};
use uuid::Uuid;

async fn views(stack: &Stack) -> Views {
    let store: Arc<dyn ViewStore> = Arc::new(SqliteViews::open(&stack.directory.path().join("views.db")).unwrap());
    let documents = Documents::new(stack.stores.sealer.clone());
    let events: Vec<_> = stack.events().await.into_iter().map(Arc::new).collect();
    let mut views = Vec::new();
    for fold in marvin_projections::all() {
        views.push(ViewId::of(&*fold));
        let mut projector = stack.projector(fold, store.clone()).await;
        projector.take(&events).await.unwrap();
    }
    // No projector runs behind it: the views stand still, as far as they are.
    let board = Board::new(store.clone(), views, Health::default());
    board.look_within(Duration::ZERO).await.unwrap();
    Views::new(store, documents, board, Arc::new(MemoryCache::default()))
}

async fn manager(stack: &Stack, name: &str, views: &Views) -> Process {
    let manager = process::all().into_iter().find(|manager| manager.name() == name).unwrap();
    let checkpoints = stack.stores.checkpoints.clone();
    Process::new(manager, stack.dispatcher.clone(), views.clone(), checkpoints)
}

async fn envelopes(stack: &Stack) -> Vec<Arc<Envelope>> {
    stack.events().await.into_iter().map(Arc::new).collect()
}

#[tokio::test]
async fn a_batch_that_a_crash_repeats_notifies_once() {
    let stack = Stack::new().await;
    let (user, agent) = (stack.user("a@example.com", &[Role::Member]).await, stack.agent("scribe").await);
    let task = stack.task(agent, user, json!({})).await;
    stack.send(task, TaskCommand::Cancel { reason: CancelReason::Requested }).await;
    let (events, views) = (envelopes(&stack).await, views(&stack).await);
    let mut first = manager(&stack, "notify_requester", &views).await;
    assert_eq!(first.resume().await.unwrap(), 0);
    first.take(&events).await.unwrap();
    // A crash before the checkpoint: another process takes the same batch.
    manager(&stack, "notify_requester", &views).await.take(&events).await.unwrap();
    let raised: Vec<_> = stack
        .events()
        .await
        .into_iter()
        .filter(|event| matches!(event.event, Event::Notification(NotificationEvent::Raised(_))))
        .collect();
    assert_eq!(raised.len(), 1);
    let cause = events.last().unwrap();
    assert_eq!(raised[0].metadata.causation, Some(cause.event_id));
    assert_eq!(raised[0].metadata.correlation, cause.metadata.correlation);
}

/// Reads each notification as soon as it is raised, which makes a chain of two process managers.
struct ReadAtOnce;

impl ProcessManager for ReadAtOnce {
    fn name(&self) -> &'static str {
        "read_at_once"
    }
    fn ask(&self, event: &Envelope) -> Option<Question> {
        let raised = matches!(event.event, Event::Notification(NotificationEvent::Raised(_)));
        raised.then_some(Question::AgentName(Uuid::nil()))
    }
    fn react(&self, event: &Envelope, _: Answer) -> Vec<Directed> {
        vec![Directed::new(event.stream.id, NotificationCommand::Read)]
    }
}

#[tokio::test]
async fn a_chain_of_reactions_keeps_the_first_commands_correlation_and_each_event_names_its_cause() {
    let stack = Stack::new().await;
    let (user, agent) = (stack.user("a@example.com", &[Role::Member]).await, stack.agent("scribe").await);
    let task = stack.task(agent, user, json!({})).await;
    let command = CommandMeta { correlation: Uuid::now_v7(), ..meta() };
    let cancel = TaskCommand::Cancel { reason: CancelReason::Requested };
    stack.dispatcher.dispatch(&command, &[Directed::new(task, cancel)]).await.unwrap();
    let views = views(&stack).await;
    let checkpoints = stack.stores.checkpoints.clone();
    let mut second = Process::new(Box::new(ReadAtOnce), stack.dispatcher.clone(), views.clone(), checkpoints);
    manager(&stack, "notify_requester", &views).await.take(&envelopes(&stack).await).await.unwrap();
    second.take(&envelopes(&stack).await).await.unwrap();
    let events = envelopes(&stack).await;
    let [cancelled, raised, read] = &events[events.len() - 3..] else { panic!("{events:?}") };
    let types: Vec<_> = [cancelled, raised, read].iter().map(|event| event.event.event_type()).collect();
    assert_eq!(types, ["cancelled", "raised", "read"]);
    assert!([cancelled, raised, read].iter().all(|event| event.metadata.correlation == command.correlation));
    assert_eq!(cancelled.metadata.causation, None);
    assert_eq!(raised.metadata.causation, Some(cancelled.event_id));
    assert_eq!(read.metadata.causation, Some(raised.event_id));
}

#[tokio::test]
async fn the_checkpoint_moves_behind_a_batch_that_mattered_and_survives_a_restart() {
    let stack = Stack::new().await;
    let (user, agent) = (stack.user("a@example.com", &[Role::Member]).await, stack.agent("scribe").await);
    let task = stack.task(agent, user, json!({})).await;
    let last = stack.send(task, TaskCommand::Cancel { reason: CancelReason::Requested }).await;
    let (events, views) = (envelopes(&stack).await, views(&stack).await);
    manager(&stack, "notify_requester", &views).await.take(&events).await.unwrap();
    drop(views);
    let stack = stack.restarted().await;
    let checkpoints = stack.stores.checkpoints.clone();
    let checkpoint = Checkpoint { position: last.position, event_id: events.last().unwrap().event_id };
    assert_eq!(checkpoints.load("notify_requester").await.unwrap(), Some(checkpoint));
}

#[tokio::test]
async fn erasing_a_person_cancels_their_open_tasks_and_no_others() {
    let stack = Stack::new().await;
    let (ada, bob) =
        (stack.user("a@example.com", &[Role::Member]).await, stack.user("b@example.com", &[Role::Member]).await);
    let agent = stack.agent("scribe").await;
    let (open, other, ended) = (
        stack.task(agent, ada, json!({})).await,
        stack.task(agent, bob, json!({})).await,
        stack.task(agent, ada, json!({})).await,
    );
    stack.send(ended, TaskCommand::Cancel { reason: CancelReason::Requested }).await;
    stack.send(ada, UserCommand::Erase).await;
    let (events, views) = (envelopes(&stack).await, views(&stack).await);
    manager(&stack, "cancel_tasks_of_erased", &views).await.take(&events).await.unwrap();
    let cancelled: Vec<_> = stack.events().await[events.len()..].to_vec();
    assert_eq!(cancelled.len(), 1);
    assert_eq!(cancelled[0].stream.id, open);
    assert_ne!(cancelled[0].stream.id, other);
    let Event::Task(TaskEvent::Cancelled(event)) = &cancelled[0].event else { panic!("not a cancellation") };
    assert_eq!(event.reason, CancelReason::RequesterErased);
}
