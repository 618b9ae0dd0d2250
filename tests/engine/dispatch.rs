//! Commands under races, repeats and restarts.
use crate::stack::{Stack, meta, submission};
use futures_util::future::join_all;
use marvin::{dispatch::DispatchError, log::ReadError};
use marvin_domain::{
    Directed, RefusalKind,
    agent::AgentCommand,
    instance::{self, InstanceCommand},
    task::{CancelReason, TaskCommand},
    user::{Role, UserCommand},
};
use serde_json::json;
use uuid::Uuid;

#[tokio::test]
async fn a_task_is_claimed_by_exactly_one_of_many() {
    let stack = Stack::new().await;
    let (user, agent) = (stack.user("a@example.com", &[Role::Member]).await, stack.agent("scribe").await);
    let task = stack.task(agent, user, json!({})).await;
    let claims = (0..30).map(|_| {
        let dispatcher = stack.dispatcher.clone();
        async move {
            let start = TaskCommand::Start { worker: Uuid::now_v7(), at: chrono::Utc::now() };
            dispatcher.dispatch(&meta(), &[Directed::new(task, start)]).await
        }
    });
    let outcomes = join_all(claims).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    let refused =
        |outcome: &Result<_, _>| matches!(outcome, Err(DispatchError::Refused(r)) if r.kind == RefusalKind::Late);
    assert_eq!(outcomes.iter().filter(|outcome| refused(outcome)).count(), 29);
}

#[tokio::test]
async fn a_keyed_command_sent_twice_answers_its_first_result_also_when_it_would_be_refused_by_now() {
    let stack = Stack::new().await;
    let (user, agent) = (stack.user("a@example.com", &[Role::Member]).await, stack.agent("scribe").await);
    let task = stack.task(agent, user, json!({})).await;
    let mut keyed = meta();
    keyed.digest = Some("digest".into());
    let cancel = [Directed::new(task, TaskCommand::Cancel { reason: CancelReason::Requested })];
    let first = stack.dispatcher.dispatch(&keyed, &cancel).await.unwrap();
    let stack = stack.restarted().await;
    let again = stack.dispatcher.dispatch(&keyed, &cancel).await.unwrap();
    assert_eq!((again.sequence, again.position, again.repeated), (first.sequence, first.position, true));
    let unkeyed = stack.dispatcher.dispatch(&meta(), &cancel).await;
    assert!(matches!(unkeyed, Err(DispatchError::Refused(refusal)) if refusal.kind == RefusalKind::Late));
    keyed.digest = Some("another".into());
    assert!(matches!(stack.dispatcher.dispatch(&keyed, &cancel).await, Err(DispatchError::Reused)));
}

#[tokio::test]
async fn parallel_repeats_of_one_key_append_once_and_answer_alike() {
    let stack = Stack::new().await;
    let (user, agent) = (stack.user("a@example.com", &[Role::Member]).await, stack.agent("scribe").await);
    let before = stack.events().await.len();
    let mut keyed = meta();
    keyed.digest = Some("digest".into());
    let repeats = (0..50).map(|_| {
        let (dispatcher, keyed) = (stack.dispatcher.clone(), keyed.clone());
        let submit = TaskCommand::Submit(submission(agent, user, json!({})));
        async move { dispatcher.dispatch(&keyed, &[Directed::new(Uuid::now_v7(), submit)]).await.unwrap() }
    });
    let receipts = join_all(repeats).await;
    assert!(
        receipts.iter().all(|receipt| (receipt.stream, receipt.position) == (receipts[0].stream, receipts[0].position))
    );
    assert_eq!(stack.events().await.len(), before + 1);
}

#[tokio::test]
async fn two_set_ups_at_once_have_one_winner_and_the_last_administrator_stays() {
    let stack = Stack::new().await;
    let (ada, bob) =
        (stack.user("a@example.com", &[Role::Admin]).await, stack.user("b@example.com", &[Role::Admin]).await);
    let set_up = |administrator| {
        let dispatcher = stack.dispatcher.clone();
        async move {
            let command = InstanceCommand::SetUp { administrator };
            dispatcher.dispatch(&meta(), &[Directed::new(instance::STREAM.id, command)]).await
        }
    };
    let (first, second) = tokio::join!(set_up(ada), set_up(bob));
    assert_eq!([first.is_ok(), second.is_ok()].iter().filter(|won| **won).count(), 1);
    let other = if first.is_ok() { bob } else { ada };
    stack.send(instance::STREAM.id, InstanceCommand::AddAdministrator { user: other }).await;

    let erase = |user| {
        let dispatcher = stack.dispatcher.clone();
        let commands = [
            Directed::new(user, UserCommand::Erase),
            Directed::new(instance::STREAM.id, InstanceCommand::RemoveAdministrator { user }),
        ];
        async move { dispatcher.dispatch(&meta(), &commands).await }
    };
    let (first, second) = tokio::join!(erase(ada), erase(bob));
    assert_eq!(
        [first.is_ok(), second.is_ok()].iter().filter(|erased| **erased).count(),
        1,
        "both were erased, or neither"
    );
    let erased = stack.events().await.iter().filter(|event| event.event.event_type() == "erased").count();
    assert_eq!(erased, 1, "the refused erasure left its half behind");
}

#[tokio::test]
async fn a_condition_on_the_sequence_holds_at_the_append() {
    let stack = Stack::new().await;
    let agent = stack.agent("scribe").await;
    let rename = |name: &str| AgentCommand::Change {
        name: Some(marvin_domain::Name::parse(name).unwrap()),
        description: None,
        config: None,
        limits: None,
    };
    let rivals = (0..10).map(|number| {
        let (dispatcher, change) = (stack.dispatcher.clone(), [Directed::new(agent, rename(&format!("n{number}")))]);
        async move { dispatcher.dispatch_when(&meta(), &change, &|sequence| sequence == 1).await }
    });
    let outcomes = join_all(rivals).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Ok(_) | Err(DispatchError::Stale { .. }))));
}

#[tokio::test]
async fn a_satisfied_command_appends_nothing_and_tells_where_the_stream_stands() {
    let stack = Stack::new().await;
    let agent = stack.agent("scribe").await;
    let paused = stack.send(agent, AgentCommand::Pause).await;
    let again = stack.send(agent, AgentCommand::Pause).await;
    assert_eq!((again.sequence, again.position), (paused.sequence, paused.position));
}

#[tokio::test]
async fn a_lost_race_is_decided_again_with_fresh_state() {
    let stack = Stack::new().await;
    let agent = stack.agent("scribe").await;
    let other_node = marvin::dispatch::Dispatcher::new(stack.stores.log.clone(), stack.codec().clone());
    stack
        .dispatcher
        .load(marvin_domain::StreamId { kind: marvin_domain::AggregateKind::Agent, id: agent })
        .await
        .unwrap();
    other_node.dispatch(&meta(), &[Directed::new(agent, AgentCommand::Pause)]).await.unwrap();
    let resumed = stack.send(agent, AgentCommand::Retire).await;
    assert_eq!(resumed.sequence, 3);
    let refused = stack.dispatcher.dispatch(&meta(), &[Directed::new(agent, AgentCommand::Resume)]).await;
    assert!(matches!(refused, Err(DispatchError::Refused(_))));
}

#[tokio::test]
async fn a_command_that_would_append_nothing_is_decided_by_the_log_and_not_by_a_stale_cache() {
    let stack = Stack::new().await;
    let agent = stack.agent("scribe").await;
    // As after a caller that hung up, or on another node: the log moved, this cache did not see it.
    let other_node = marvin::dispatch::Dispatcher::new(stack.stores.log.clone(), stack.codec().clone());
    let paused = other_node.dispatch(&meta(), &[Directed::new(agent, AgentCommand::Pause)]).await.unwrap();
    let resumed = stack.send(agent, AgentCommand::Resume).await;
    assert_eq!(resumed.sequence, paused.sequence + 1, "the stale cache took the agent for active");
    other_node.dispatch(&meta(), &[Directed::new(agent, AgentCommand::Retire)]).await.unwrap();
    let refused = stack.dispatcher.dispatch(&meta(), &[Directed::new(agent, AgentCommand::Pause)]).await;
    assert!(matches!(refused, Err(DispatchError::Refused(_))));
}

#[tokio::test]
async fn a_decision_needs_no_persons_key() {
    let stack = Stack::new().await;
    let (user, agent) = (stack.user("a@example.com", &[Role::Member]).await, stack.agent("scribe").await);
    let task = stack.task(agent, user, json!({ "secret": "words" })).await;
    stack.stores.subjects.forget(&[user]).await.unwrap();
    let stack = stack.restarted().await;
    let rows = stack.stores.log.read(0, 10_000).await.unwrap();
    let unreadable = stack.codec().open(rows).await;
    assert!(matches!(unreadable, Err(ReadError::Corrupt { .. })), "the key is gone, and nobody erased the person");
    stack.send(task, TaskCommand::Cancel { reason: CancelReason::Requested }).await;
}
