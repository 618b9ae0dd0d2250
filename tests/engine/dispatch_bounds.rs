//! The dispatcher's bounds: how many races, how long, how much it remembers; and what stands when one is reached.
use crate::stack::{Stack, meta, submission};
use async_trait::async_trait;
use marvin::{
    dispatch::{Bounds, CommandMeta, DISPATCH_TIMEOUT, DispatchError, Dispatcher},
    http::problem::Problem,
    log::{Append, AppendError, EventLog, ReadError, Receipt, StoredEvent},
};
use marvin_domain::{
    AggregateKind, Directed, Name, Position, Sequence, StreamId, agent::AgentCommand, task::TaskCommand, user::Role,
};
use serde_json::json;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use tokio::sync::watch;
use uuid::Uuid;

/// A log on which rivals are faster, or which takes its time.
struct Trying {
    inner: Arc<dyn EventLog>,
    /// Appends a change of its own to the same stream before each of so many appends.
    rivals_left: AtomicU32,
    rival: Dispatcher,
    appends: AtomicU32,
    open: watch::Sender<bool>,
}

#[async_trait]
impl EventLog for Trying {
    async fn append(&self, append: Append) -> Result<Receipt, AppendError> {
        self.appends.fetch_add(1, Ordering::SeqCst);
        self.open.subscribe().wait_for(|open| *open).await.unwrap();
        let left = self.rivals_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if left.is_ok() {
            self.rival.dispatch(&meta(), &[rename(append.streams[0].stream.id)]).await.unwrap();
        }
        self.inner.append(append).await
    }
    async fn find_command(&self, command_id: Uuid) -> Result<Option<(Receipt, Option<String>)>, ReadError> {
        self.inner.find_command(command_id).await
    }
    async fn read(&self, after: Position, limit: u32) -> Result<Vec<StoredEvent>, ReadError> {
        self.inner.read(after, limit).await
    }
    async fn read_stream(&self, stream: StreamId, after: Sequence, limit: u32) -> Result<Vec<StoredEvent>, ReadError> {
        self.inner.read_stream(stream, after, limit).await
    }
    fn head(&self) -> watch::Receiver<Position> {
        self.inner.head()
    }
}

/// A change that is never satisfied already.
fn rename(agent: Uuid) -> Directed {
    let name = Some(Name::parse(&Uuid::now_v7().to_string()).unwrap());
    Directed::new(agent, AgentCommand::Change { name, description: None, config: None, limits: None })
}

fn trying(stack: &Stack, rivals: u32, timeout: Duration) -> (Arc<Trying>, Dispatcher) {
    let log = Arc::new(Trying {
        inner: stack.stores.log.clone(),
        rivals_left: AtomicU32::new(rivals),
        rival: Dispatcher::new(stack.stores.log.clone(), stack.codec().clone()),
        appends: AtomicU32::new(0),
        open: watch::channel(true).0,
    });
    let bounds = Bounds { timeout, ..Bounds::default() };
    (log.clone(), Dispatcher::bounded(log, stack.codec().clone(), bounds))
}

#[tokio::test]
async fn a_command_that_loses_three_races_is_decided_a_fourth_time_and_then_given_up() {
    let stack = Stack::new().await;
    let agent = stack.agent("scribe").await;
    let (log, dispatcher) = trying(&stack, 3, DISPATCH_TIMEOUT);
    let won = dispatcher.dispatch(&meta(), &[rename(agent)]).await.unwrap();
    assert_eq!((won.sequence, log.appends.load(Ordering::SeqCst)), (5, 4));

    let (log, dispatcher) = trying(&stack, 4, DISPATCH_TIMEOUT);
    let lost = dispatcher.dispatch(&meta(), &[rename(agent)]).await;
    assert!(matches!(lost, Err(DispatchError::Contended)), "{lost:?}");
    assert_eq!(log.appends.load(Ordering::SeqCst), 4);
    assert_eq!(stack.events().await.len(), 9, "only the rivals' changes stand");
    dispatcher.dispatch(&meta(), &[rename(agent)]).await.unwrap();
}

#[tokio::test]
async fn a_stale_guess_that_would_append_nothing_costs_no_race() {
    let stack = Stack::new().await;
    let agent = stack.agent("scribe").await;
    let (log, dispatcher) = trying(&stack, 3, DISPATCH_TIMEOUT);
    let stream = StreamId { kind: AggregateKind::Agent, id: agent };
    dispatcher.load(stream).await.unwrap();
    stack.send(agent, AgentCommand::Pause).await;
    // The cache takes the agent for active, for which there is nothing to do.
    let resumed = dispatcher.dispatch(&meta(), &[Directed::new(agent, AgentCommand::Resume)]).await.unwrap();
    assert_eq!((resumed.sequence, log.appends.load(Ordering::SeqCst)), (6, 4));
}

#[tokio::test]
async fn a_command_that_takes_too_long_is_given_up_by_its_caller_and_not_by_the_log() {
    let stack = Stack::new().await;
    let (user, agent) = (stack.user("a@example.com", &[Role::Member]).await, stack.agent("scribe").await);
    let (log, dispatcher) = trying(&stack, 0, Duration::from_millis(50));
    let held = Arc::strong_count(&log);
    log.open.send_replace(false);
    let keyed = CommandMeta { digest: Some("digest".into()), ..meta() };
    let submit = || Directed::new(Uuid::now_v7(), TaskCommand::Submit(submission(agent, user, json!({}))));
    let late = dispatcher.dispatch(&keyed, &[submit()]).await;
    assert!(matches!(late, Err(DispatchError::TimedOut)), "{late:?}");
    let problem = Problem::from(DispatchError::TimedOut);
    assert_eq!((problem.status().as_u16(), problem.headers()[0].0.as_str()), (503, "retry-after"));
    let again = dispatcher.dispatch(&keyed, &[submit()]).await;
    assert!(matches!(again, Err(DispatchError::TimedOut)), "also while the first is in flight: {again:?}");
    assert_eq!(stack.events().await.len(), 2, "nothing was appended yet");

    log.open.send_replace(true);
    let first = dispatcher.dispatch(&keyed, &[submit()]).await.unwrap();
    assert_eq!((first.sequence, first.position, first.repeated), (1, 3, true), "the append went on by itself");
    let answers = [dispatcher.dispatch(&keyed, &[submit()]).await, dispatcher.dispatch(&keyed, &[submit()]).await];
    assert!(answers.into_iter().all(|answer| answer.unwrap() == first));
    assert_eq!(stack.events().await.len(), 3);
    let other = CommandMeta { digest: Some("another".into()), ..keyed };
    assert!(matches!(dispatcher.dispatch(&other, &[submit()]).await, Err(DispatchError::Reused)));
    // What was appended after its caller had gone is known to the cache, and its task holds nothing any more.
    let stream = first.stream;
    assert_eq!(dispatcher.load(stream).await.unwrap().sequence, 1);
    while Arc::strong_count(&log) > held {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_log_that_never_answers_lets_go_of_its_reader_in_time() {
    struct Silent(watch::Sender<Position>);
    #[async_trait]
    impl EventLog for Silent {
        async fn append(&self, _: Append) -> Result<Receipt, AppendError> {
            std::future::pending().await
        }
        async fn find_command(&self, _: Uuid) -> Result<Option<(Receipt, Option<String>)>, ReadError> {
            std::future::pending().await
        }
        async fn read(&self, _: Position, _: u32) -> Result<Vec<StoredEvent>, ReadError> {
            std::future::pending().await
        }
        async fn read_stream(&self, _: StreamId, _: Sequence, _: u32) -> Result<Vec<StoredEvent>, ReadError> {
            std::future::pending().await
        }
        fn head(&self) -> watch::Receiver<Position> {
            self.0.subscribe()
        }
    }
    let stack = Stack::new().await;
    let bounds = Bounds { timeout: Duration::from_millis(20), ..Bounds::default() };
    let silent = Arc::new(Silent(watch::channel(0).0));
    let dispatcher = Dispatcher::bounded(silent, stack.codec().clone(), bounds);
    let late = dispatcher.dispatch(&meta(), &[rename(Uuid::now_v7())]).await;
    assert!(matches!(late, Err(DispatchError::TimedOut)), "{late:?}");
}

#[tokio::test]
async fn the_cache_keeps_no_more_than_its_bound_and_what_it_lets_go_is_read_again() {
    const CACHED_MAX: u64 = 8;
    let stack = Stack::new().await;
    let bounds = Bounds { cached_aggregates_max: CACHED_MAX, ..Bounds::default() };
    let small = Dispatcher::bounded(stack.stores.log.clone(), stack.codec().clone(), bounds);
    let agents: Vec<Uuid> = futures_util::future::join_all((0..40).map(|_| stack.agent("scribe"))).await;
    for round in 0..2 {
        for agent in &agents {
            let loaded = small.load(StreamId { kind: AggregateKind::Agent, id: *agent }).await.unwrap();
            assert_eq!(loaded.sequence, 1 + round);
            let renamed = small.dispatch(&meta(), &[rename(*agent)]).await.unwrap();
            assert_eq!(renamed.sequence, 2 + round);
            assert!(small.cached_count() <= CACHED_MAX, "{} are cached", small.cached_count());
        }
    }
    assert!(small.cached_count() > 0);
}
