//! What can be read after a person is erased: the log whole, their words nowhere.
use crate::stack::{Stack, meta};
use marvin::{
    dispatch::DispatchError,
    erasure::Eraser,
    log::{EventLog, checkpoint::SqliteCheckpoints, subscription::Follower},
};
use marvin_domain::{Directed, Event, user::Role, user::UserCommand};
use serde_json::json;
use std::sync::Arc;

async fn erase(stack: &Stack, user: uuid::Uuid) {
    stack.send(user, UserCommand::Erase).await;
    let events: Vec<_> = stack.events().await.into_iter().map(Arc::new).collect();
    let checkpoints = Arc::new(SqliteCheckpoints(stack.stores.log.database().clone()));
    Eraser::new(stack.stores.subjects.clone(), checkpoints).take(&events).await.unwrap();
}

#[tokio::test]
async fn after_an_erasure_the_log_reads_on_and_only_that_persons_words_are_gone() {
    let stack = Stack::new().await;
    let (ada, bob) =
        (stack.user("a@example.com", &[Role::Member]).await, stack.user("b@example.com", &[Role::Member]).await);
    let agent = stack.agent("scribe").await;
    let (hers, his) = (stack.task(agent, ada, json!("hers")).await, stack.task(agent, bob, json!("his")).await);
    assert!(stack.events().await.iter().all(|event| !event.event.is_erased()));
    erase(&stack, ada).await;
    let stack = stack.restarted().await;
    let events = stack.events().await;
    assert!(events.iter().map(|event| event.position).eq(1..=events.len() as u64));
    let erased: Vec<_> = events.iter().filter(|event| event.event.is_erased()).map(|event| event.stream.id).collect();
    assert_eq!(erased, [ada, hers]);
    let kept = events.iter().find(|event| event.stream.id == his).unwrap();
    assert!(kept.event.personal().is_some());
}

#[tokio::test]
async fn an_event_about_an_erased_person_is_still_recorded_without_their_words() {
    let stack = Stack::new().await;
    let ada = stack.user("a@example.com", &[Role::Member]).await;
    let agent = stack.agent("scribe").await;
    erase(&stack, ada).await;
    let late = stack.task(agent, ada, json!("late")).await;
    let events = stack.events().await;
    let event = events.iter().find(|event| event.stream.id == late).unwrap();
    assert!(event.event.is_erased() && event.event.personal().is_none());
    assert!(matches!(event.event, Event::Task(_)));
}

#[tokio::test]
async fn a_key_that_is_missing_without_an_erasure_stops_reading_and_writing() {
    let stack = Stack::new().await;
    let ada = stack.user("a@example.com", &[Role::Member]).await;
    let agent = stack.agent("scribe").await;
    stack.task(agent, ada, json!("words")).await;
    stack.stores.subjects.forget(ada).await.unwrap();
    let rows = stack.stores.log.read(0, 100).await.unwrap();
    let read = stack.codec().open(rows).await;
    assert!(read.unwrap_err().to_string().contains("nobody erased them"));
    let submit = marvin_domain::task::TaskCommand::Submit(crate::stack::submission(agent, ada, json!("more")));
    let refused = stack.dispatcher.dispatch(&meta(), &[Directed::new(uuid::Uuid::now_v7(), submit)]).await;
    assert!(matches!(refused, Err(DispatchError::Unavailable(_))));
}
