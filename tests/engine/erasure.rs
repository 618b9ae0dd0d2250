//! What can be read after a person is erased: the log whole, their words nowhere.
use crate::stack::{Stack, meta};
use marvin::{
    dispatch::DispatchError,
    erasure::{Eraser, followed},
    log::subscription::Follower,
    security::subjects::SubjectsError,
};
use marvin_domain::{Directed, Event, user::Role, user::UserCommand};
use serde_json::json;
use std::sync::Arc;

pub async fn erase(stack: &Stack, user: uuid::Uuid) {
    stack.send(user, UserCommand::Erase).await;
    let events: Vec<_> = stack.events().await.into_iter().map(Arc::new).collect();
    let (mut eraser, mut scrubber) = Eraser::new(stack.stores.subjects.clone());
    eraser.take(&events).await.unwrap();
    scrubber.settle().await.unwrap();
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
    stack.stores.subjects.forget(&[ada]).await.unwrap();
    let rows = stack.stores.log.read(0, 100).await.unwrap();
    let read = stack.codec().open(rows).await;
    assert!(read.unwrap_err().to_string().contains("nobody erased them"));
    let submit = marvin_domain::task::TaskCommand::Submit(crate::stack::submission(agent, ada, json!("more")));
    let refused = stack.dispatcher.dispatch(&meta(), &[Directed::new(uuid::Uuid::now_v7(), submit)]).await;
    assert!(matches!(refused, Err(DispatchError::Keys(_))), "{refused:?}");
}

#[tokio::test]
async fn how_far_erasures_are_done_stands_beside_the_keys_so_a_restored_store_forgets_again() {
    let stack = Stack::new().await;
    let (ada, kept) =
        (stack.user("a@example.com", &[Role::Member]).await, stack.directory.path().join("data/subjects.db"));
    let backup = stack.directory.path().join("backup.db");
    rusqlite::Connection::open(&kept).unwrap().execute("VACUUM INTO ?1", [backup.to_str()]).unwrap();
    let agent = stack.agent("scribe").await;
    stack.task(agent, ada, json!("hers")).await;
    erase(&stack, ada).await;
    let done = followed(&*stack.stores.subjects).await.unwrap().unwrap().position;
    assert_eq!(done, stack.events().await.last().unwrap().position);
    let Stack { directory, stores, dispatcher, tail } = stack;
    drop((stores, dispatcher, tail));
    for side in ["-wal", "-shm"] {
        std::fs::remove_file(directory.path().join(format!("data/subjects.db{side}"))).ok();
    }
    std::fs::copy(directory.path().join("backup.db"), &kept).unwrap();
    let stack = Stack::over(directory).await;
    let (mut eraser, mut scrubber) = Eraser::new(stack.stores.subjects.clone());
    let after = eraser.resume().await.unwrap();
    assert!(after < done, "a restored store of subjects was taken for done");
    let events: Vec<_> = stack.events().await.into_iter().map(Arc::new).collect();
    eraser.take(&events).await.unwrap();
    scrubber.settle().await.unwrap();
    assert!(stack.events().await.iter().any(|event| event.event.is_erased()));
}

#[tokio::test]
async fn an_erasure_that_cannot_be_scrubbed_holds_up_no_later_one_and_is_finished_after_a_crash() {
    let stack = Stack::new().await;
    let subjects = stack.stores.subjects.clone();
    let (ada, bob) =
        (stack.user("a@example.com", &[Role::Member]).await, stack.user("b@example.com", &[Role::Member]).await);
    let reader = rusqlite::Connection::open(stack.directory.path().join("data/subjects.db")).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM subjects").unwrap();
    let (mut eraser, mut scrubber) = Eraser::new(subjects.clone());
    for user in [ada, bob] {
        let after = stack.events().await.last().unwrap().position;
        stack.send(user, UserCommand::Erase).await;
        let events: Vec<_> = stack.events().await.into_iter().filter(|event| event.position > after).collect();
        eraser.take(&events.into_iter().map(Arc::new).collect::<Vec<_>>()).await.unwrap();
        assert!(subjects.keys(&[user]).await.unwrap().is_empty(), "the key is in use");
        let answer = scrubber.settle().await;
        assert!(matches!(answer, Err(SubjectsError::Unavailable(_))), "{answer:?}");
    }
    assert_eq!(followed(&*subjects).await.unwrap(), None, "the checkpoint moved past what is not finished");
    drop((eraser, scrubber, subjects, reader));
    let stack = stack.restarted().await;
    let (mut eraser, mut scrubber) = Eraser::new(stack.stores.subjects.clone());
    assert_eq!(eraser.resume().await.unwrap(), 0);
    let events: Vec<_> = stack.events().await.into_iter().map(Arc::new).collect();
    eraser.take(&events).await.unwrap();
    scrubber.settle().await.unwrap();
    let done = followed(&*stack.stores.subjects).await.unwrap().unwrap().position;
    assert_eq!(done, events.last().unwrap().position);
}
