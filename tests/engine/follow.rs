//! Subscriptions: order without a skip, from memory and from the store, and followers that fail.
use crate::stack::Stack;
use async_trait::async_trait;
use marvin::{
    health::Health,
    log::{
        Append, AppendError, EventLog, ReadError, Receipt, StoredEvent, StreamAppend,
        checkpoint::Checkpoint,
        subscription::{BATCH_EVENTS_MAX, FollowError, Follower, Subscription, follow},
        tail::{Tail, Wanted},
    },
};
use marvin_domain::{
    Actor, AggregateKind, Envelope, Event, Metadata, Position, StreamId,
    agent::{AgentCommand, AgentEvent, AgentPaused},
    user::{Role, UserCommand},
};
use serde_json::json;
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::sync::watch;
use uuid::Uuid;

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

/// Does not find at first from where it goes on.
struct Lost {
    failures: u32,
    health: Health,
    found: watch::Sender<bool>,
}

#[async_trait]
impl Follower for Lost {
    fn name(&self) -> String {
        "lost".into()
    }

    async fn resume(&mut self) -> Result<Position, FollowError> {
        if self.failures > 0 {
            self.failures -= 1;
            return Err(FollowError::Again("no checkpoint can be read".into()));
        }
        assert_eq!(self.health.degraded()[0].name, "lost", "so far it was not well");
        self.found.send_replace(true);
        Ok(0)
    }

    async fn take(&mut self, _: &[Arc<Envelope>]) -> Result<(), FollowError> {
        unreachable!("the log is empty")
    }
}

#[tokio::test]
async fn a_follower_that_finds_its_place_is_well_again_though_nothing_comes() {
    let stack = Stack::new().await;
    let (health, (found, mut is_found)) = (Health::default(), watch::channel(false));
    let follower = Lost { failures: 2, health: health.clone(), found };
    tokio::spawn(follow(stack.tail.clone(), follower, health.clone()));
    // On one thread: whoever is told here is told once the follower waits.
    is_found.wait_for(|found| *found).await.unwrap();
    assert_eq!(health.degraded(), []);
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

/// Tells how many reads of the whole log were answered.
struct Counted {
    log: Arc<dyn EventLog>,
    reads: watch::Sender<usize>,
}

#[async_trait]
impl EventLog for Counted {
    async fn append(&self, append: Append) -> Result<Receipt, AppendError> {
        self.log.append(append).await
    }

    async fn find_command(&self, command_id: Uuid) -> Result<Option<(Receipt, Option<String>)>, ReadError> {
        self.log.find_command(command_id).await
    }

    async fn read(&self, after: Position, limit: u32) -> Result<Vec<StoredEvent>, ReadError> {
        let rows = self.log.read(after, limit).await;
        self.reads.send_modify(|reads| *reads += 1);
        rows
    }

    async fn read_stream(&self, stream: StreamId, after: u64, limit: u32) -> Result<Vec<StoredEvent>, ReadError> {
        self.log.read_stream(stream, after, limit).await
    }

    fn head(&self) -> watch::Receiver<Position> {
        self.log.head()
    }
}

/// One command with `count` events on a new stream.
async fn append_events(stack: &Stack, count: u64) {
    let stream = StreamId { kind: AggregateKind::Agent, id: Uuid::now_v7() };
    let (command_id, event) = (Uuid::now_v7(), Event::Agent(AgentEvent::from(AgentPaused {})));
    let metadata =
        Metadata { actor: Actor::System, subject: None, correlation: command_id, causation: None, digest: None };
    let mut events = Vec::new();
    for sequence in 1..=count {
        events.push(stack.codec().seal(stream, sequence, &event, &metadata).await.unwrap());
    }
    let streams = vec![StreamAppend { stream, expected: 0, events }];
    stack.stores.log.append(Append { command_id, digest: None, streams }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_appended_after_the_next_page_was_read_ahead_are_not_missed() {
    let stack = Stack::new().await;
    let page = u64::from(BATCH_EVENTS_MAX);
    append_events(&stack, page).await;
    let (reads, mut answered) = watch::channel(0);
    let log = Arc::new(Counted { log: stack.stores.log.clone(), reads });
    let tail = Tail::new(log, stack.codec().clone());
    let mut subscription = Subscription::new(tail.clone(), 0);
    assert_eq!(subscription.next().await.unwrap().len() as u64, page);
    // The page behind was read ahead, and nothing was there yet.
    answered.wait_for(|reads| *reads == 2).await.unwrap();

    // More than the tail keeps in memory, so that the subscription has to go on from the store.
    for _ in 0..5 {
        append_events(&stack, 1_000).await;
    }
    tokio::spawn(tail.clone().feed(Health::default()));
    tail.head().wait_for(|head| *head == page + 5_000).await.unwrap();
    let next = tokio::time::timeout(Duration::from_secs(10), subscription.next()).await;
    assert_eq!(next.expect("it waits for nothing").unwrap()[0].position, page + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_far_behind_sees_every_position_once() {
    let stack = Stack::new().await;
    for _ in 0..3 {
        append_events(&stack, 1_000).await;
    }
    let tail = Tail::new(stack.stores.log.clone(), stack.codec().clone());
    let mut subscription = Subscription::new(tail, 0);
    let mut seen = 0;
    while seen < 3_000 {
        for event in subscription.next().await.unwrap() {
            assert_eq!(event.position, seen + 1);
            seen = event.position;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_page_by_page_keeps_nothing_that_nobody_asked_for() {
    let stack = Stack::new().await;
    for _ in 0..3 {
        append_events(&stack, 1_000).await;
    }
    let tail = Tail::new(stack.stores.log.clone(), stack.codec().clone());
    let mut hasty = Subscription::new(tail.clone(), 0);
    hasty.next().await.unwrap();
    // Here, in the subscription, and with whoever reads ahead for it: more than fits ahead is left to read.
    assert_eq!(Arc::strong_count(&tail), 3);
    let tail = Tail::new(stack.stores.log.clone(), stack.codec().clone());
    let mut subscription = Subscription::page_by_page(tail.clone(), 0);
    let mut seen = 0;
    while seen < 3_000 {
        for event in subscription.next().await.unwrap() {
            assert_eq!(event.position, seen + 1);
            seen = event.position;
        }
        assert_eq!(Arc::strong_count(&tail), 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_that_is_given_up_again_and_again_sees_every_position_once() {
    let stack = Stack::new().await;
    const EVENTS: u64 = 5_000;
    for _ in 0..EVENTS / 1_000 {
        append_events(&stack, 1_000).await;
    }
    let tail = Tail::new(stack.stores.log.clone(), stack.codec().clone());
    let mut subscription = Subscription::new(tail, 0);
    let (mut seen, mut given_up, mut patience) = (0, 0, 0);
    while seen < EVENTS {
        let turns = async {
            for _ in 0..patience {
                tokio::task::yield_now().await;
            }
        };
        let page = tokio::select! {
            biased;
            page = subscription.next() => page.unwrap(),
            () = turns => {
                given_up += 1;
                patience += 1;
                continue;
            }
        };
        patience = 0;
        assert!(page.iter().map(|event| event.position).eq(seen + 1..=seen + page.len() as u64));
        seen += page.len() as u64;
    }
    assert!(given_up > 0, "it was given up");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_read_ahead_of_an_erasure_is_opened_behind_it() {
    let stack = Stack::new().await;
    let (ada, agent) = (stack.user("a@example.com", &[Role::Member]).await, stack.agent("scribe").await);
    append_events(&stack, u64::from(BATCH_EVENTS_MAX)).await;
    let task = stack.task(agent, ada, json!("words")).await;
    let (reads, mut answered) = watch::channel(0);
    let log = Arc::new(Counted { log: stack.stores.log.clone(), reads });
    let mut subscription = Subscription::new(Tail::new(log, stack.codec().clone()), 0);
    assert!(subscription.next().await.unwrap().iter().all(|event| !event.event.is_erased()));
    answered.wait_for(|reads| *reads == 3).await.unwrap();

    crate::erasure::erase(&stack, ada).await;
    let page = subscription.next().await.unwrap();
    let submitted = page.iter().find(|event| event.stream.id == task).expect("it stands in the second page");
    assert!(submitted.event.is_erased(), "words were read that nobody may read any more");
    assert_eq!(answered.borrow().to_owned(), 3, "the page is the one that was read ahead");
}

/// Wants agents; tells what it was given and where that ended.
struct OfAgents {
    given: Given,
    end: watch::Sender<Checkpoint>,
}

#[async_trait]
impl Follower for OfAgents {
    fn name(&self) -> String {
        "of agents".into()
    }

    fn wanted(&self) -> Wanted {
        Wanted::Of(&[AggregateKind::Agent])
    }

    async fn resume(&mut self) -> Result<Position, FollowError> {
        Ok(0)
    }

    async fn take(&mut self, _: &[Arc<Envelope>]) -> Result<(), FollowError> {
        unreachable!("what follows the log tells where a batch ends")
    }

    async fn take_to(&mut self, events: &[Arc<Envelope>], end: Checkpoint) -> Result<(), FollowError> {
        self.given.lock().unwrap().push(events.iter().map(|event| event.position).collect());
        self.end.send_replace(end);
        Ok(())
    }
}

#[tokio::test]
async fn who_wants_some_aggregates_hears_of_these_and_of_erasures_and_how_far_that_is() {
    let stack = Stack::new().await;
    let ada = stack.user("a@example.com", &[Role::Member]).await;
    let bob = stack.user("b@example.com", &[Role::Member]).await;
    let agent = stack.agent("scribe").await;
    stack.task(agent, ada, json!(1)).await;
    stack.send(ada, UserCommand::Erase).await;
    let task = stack.task(agent, bob, json!(2)).await;
    let events = stack.events().await;
    let last = events.last().unwrap();
    assert_eq!((last.stream.id, last.position), (task, 6));
    let (given, (end, mut ended)) = (Given::default(), watch::channel(Checkpoint::START));
    let tail = Tail::new(stack.stores.log.clone(), stack.codec().clone());
    tokio::spawn(follow(tail, OfAgents { given: given.clone(), end }, Health::default()));
    ended.wait_for(|end| *end == Checkpoint::behind(last)).await.unwrap();
    assert_eq!(given.lock().unwrap().concat(), [3, 5]);
}
