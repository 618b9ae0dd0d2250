//! Subscriptions: order without a skip, from memory and from the store, and followers that fail.
use crate::stack::Stack;
use async_trait::async_trait;
use marvin::{
    health::Health,
    log::subscription::{FollowError, Follower, Subscription, follow},
};
use marvin_domain::{Envelope, Position, agent::AgentCommand, user::Role};
use serde_json::json;
use std::sync::{Arc, Mutex};
use tokio::sync::watch;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_subscription_sees_every_position_once_whenever_it_joins() {
    let stack = Stack::new().await;
    tokio::spawn(stack.tail.clone().feed(Health::default()));
    let agent = stack.agent("scribe").await;
    let read = |after: Position, upto: Position| {
        let mut subscription = Subscription::new(stack.tail.clone(), after);
        tokio::spawn(async move {
            let mut seen = after;
            while seen < upto {
                for event in subscription.next().await.unwrap() {
                    assert_eq!(event.position, seen + 1);
                    seen = event.position;
                }
            }
            seen
        })
    };
    const CHANGES: u64 = 60;
    let mut readers = vec![read(0, CHANGES + 1)];
    for change in 0..CHANGES {
        let command = if change % 2 == 0 { AgentCommand::Pause } else { AgentCommand::Resume };
        let receipt = stack.send(agent, command).await;
        if change % 10 == 0 {
            readers.push(read(receipt.position, CHANGES + 1));
            readers.push(read(0, CHANGES + 1));
        }
    }
    for reader in readers {
        assert_eq!(reader.await.unwrap(), CHANGES + 1);
    }
}

/// The positions of each batch.
type Given = Arc<Mutex<Vec<Vec<Position>>>>;

/// Refuses its batch a few times, then takes it; remembers what it was given.
struct Stubborn {
    refusals: u32,
    given: Given,
    taken: watch::Sender<Position>,
    stop_at: Option<Position>,
}

#[async_trait]
impl Follower for Stubborn {
    fn name(&self) -> String {
        "stubborn".into()
    }

    async fn resume(&mut self) -> Result<Position, FollowError> {
        Ok(*self.taken.borrow())
    }

    async fn take(&mut self, events: &[Arc<Envelope>]) -> Result<(), FollowError> {
        self.given.lock().unwrap().push(events.iter().map(|event| event.position).collect());
        if let Some(position) = self.stop_at.filter(|stop| events.iter().any(|event| event.position == *stop)) {
            return Err(FollowError::Stop { position, reason: "indigestible".into() });
        }
        if self.refusals > 0 {
            self.refusals -= 1;
            return Err(FollowError::Again("not yet".into()));
        }
        self.taken.send_replace(events.last().unwrap().position);
        Ok(())
    }
}

fn stubborn(refusals: u32, stop_at: Option<Position>) -> (Stubborn, Given, watch::Receiver<Position>) {
    let (given, (taken, reached)) = (Given::default(), watch::channel(0));
    (Stubborn { refusals, given: given.clone(), taken, stop_at }, given, reached)
}

#[tokio::test]
async fn a_follower_that_refuses_is_given_the_same_batch_again_and_skips_nothing() {
    let stack = Stack::new().await;
    stack.agent("one").await;
    stack.agent("two").await;
    let health = Health::default();
    let (follower, given, mut reached) = stubborn(3, None);
    tokio::spawn(stack.tail.clone().feed(health.clone()));
    tokio::spawn(follow(stack.tail.clone(), follower, health.clone()));
    reached.wait_for(|position| *position == 2).await.unwrap();
    let given = given.lock().unwrap().clone();
    assert_eq!(given.len(), 4);
    assert!(given.iter().all(|batch| batch[0] == 1));
}

#[tokio::test]
async fn a_follower_that_stops_is_shown_with_its_position_and_the_others_go_on() {
    let stack = Stack::new().await;
    let user = stack.user("a@example.com", &[Role::Member]).await;
    let agent = stack.agent("scribe").await;
    stack.task(agent, user, json!({})).await;
    let health = Health::default();
    let (broken, _, _) = stubborn(0, Some(2));
    let (sound, _, mut reached) = stubborn(0, None);
    tokio::spawn(stack.tail.clone().feed(health.clone()));
    follow(stack.tail.clone(), broken, health.clone()).await;
    tokio::spawn(follow(stack.tail.clone(), sound, health.clone()));
    reached.wait_for(|position| *position == 3).await.unwrap();
    let degraded = health.degraded();
    assert_eq!((degraded.len(), degraded[0].name.as_str(), degraded[0].position), (1, "stubborn", Some(2)));
}
