//! The worker: claims ready tasks, runs their handlers within limits, records how each ended.
//!
//! The log decides: a claim is a `started` event at the expected sequence, and one wins. The broker only says that there may be
//! work; the sweep finds what a lost message hid, and tasks whose worker vanished.
use marvin_domain::{
    Actor, AggregateKind, Directed, Envelope, Event, StreamId,
    agent::{Agent, AgentStatus, Profile},
    task::{TaskCommand, TaskEvent},
};
use marvin_projections::agents::Agents;
use moka::sync::Cache;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::Instant,
};
use tracing::{debug, warn};
use uuid::Uuid;

use super::{
    Kinds,
    attempt::{self, Attempts},
    ready,
    slots::{Slots, Taken},
};
use crate::{
    dispatch::{CommandMeta, Dispatcher},
    log::{EventLog, codec::Codec, subscription::Subscription, tail::Tail},
    views::{Filter, ListQuery, Order, PAGE_DOCUMENTS_MAX, ViewError, query::Views},
};

mod lost;

/// Tasks that one process runs at once, over all agents: handlers that compute share two to a few cores.
pub const RUNNING_MAX: usize = 64;
/// How long a claim stands without a heartbeat. Twice a long pause of a busy machine.
pub const LEASE_TTL: Duration = Duration::from_secs(10);
/// Three heartbeats may be missed before a lease runs out.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(3);
/// Between two looks whether a lease here has run out; what would within this is stopped.
const LEASE_LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// Agents that are remembered for a moment, some 40 bytes each; the sweep looks after any others.
const AGENTS_TURNED_AWAY_MAX: u64 = 10_000;
/// How soon a task is found whose message was lost, and how late a retry may start.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// Tasks tried when a slot is freed: the view may lag, so the first ones may be taken already.
const CLAIMS_AFTER_ONE: u32 = 8;

/// A slot that was taken for a task, and a place in this process.
struct Reserved {
    task: Uuid,
    agent: Uuid,
    claim: Uuid,
    leased_until: Instant,
    profile: Profile,
    room: OwnedSemaphorePermit,
}

/// Neither this task of the agent nor one behind it can be run here now.
struct NoRoom;

/// Everything a worker works with; shared by its loops.
pub struct Worker {
    /// Names this process in the log as who started a task; this program started again is another.
    pub id: Uuid,
    attempts: Attempts,
    views: Views,
    slots: Arc<dyn Slots>,
    room: Arc<Semaphore>,
    /// Agents of which a task was turned away here until a moment ago: the view may not have it yet when a slot is freed.
    turned_away: Cache<Uuid, ()>,
}

impl Worker {
    pub fn new(
        kinds: Kinds,
        dispatcher: Dispatcher,
        views: Views,
        log: Arc<dyn EventLog>,
        codec: Codec,
        slots: Arc<dyn Slots>,
    ) -> Arc<Self> {
        let (room, attempts) = (Arc::new(Semaphore::new(RUNNING_MAX)), Attempts::new(kinds, dispatcher, log, codec));
        let turned_away = Cache::builder().max_capacity(AGENTS_TURNED_AWAY_MAX).time_to_live(SWEEP_INTERVAL).build();
        Arc::new(Self { id: Uuid::now_v7(), attempts, views, slots, room, turned_away })
    }

    /// Stops tasks that are cancelled.
    pub async fn listen(self: Arc<Self>, tail: Arc<Tail>) {
        let after = *tail.head().borrow();
        let mut subscription = Subscription::new(tail, after);
        loop {
            match subscription.next().await {
                Ok(events) => {
                    let is_cancelled = |event: &Envelope| matches!(event.event, Event::Task(TaskEvent::Cancelled(_)));
                    let cancelled = events.iter().filter(|event| is_cancelled(event));
                    cancelled.for_each(|event| self.attempts.stop(event.stream.id));
                }
                Err(error) => {
                    warn!(error = %error, "the worker cannot read the log");
                    tokio::time::sleep(SWEEP_INTERVAL).await;
                }
            }
        }
    }

    /// Waits until this process may run one more task.
    pub(super) async fn has_room(&self) {
        self.room.acquire().await.map(drop).ok();
    }

    /// Keeps the leases of what runs here, and lets nothing outlive its own: where the database cannot be reached for long, nobody
    /// tells that a lease has run out, and somebody else may have the task.
    pub async fn heartbeat(self: Arc<Self>) {
        let stopping = async {
            let mut tick = tokio::time::interval(LEASE_LOOK_INTERVAL);
            loop {
                tick.tick().await;
                self.attempts.stop_outlived(Instant::now() + LEASE_LOOK_INTERVAL);
            }
        };
        tokio::join!(self.renew_again_and_again(), stopping);
    }

    async fn renew_again_and_again(&self) {
        let mut tick = tokio::time::interval(HEARTBEAT_INTERVAL);
        loop {
            tick.tick().await;
            // Only what runs now is asked for: a claim that is made meanwhile is not missed for lost.
            let claims = self.attempts.claims();
            if claims.is_empty() {
                continue;
            }
            let leased_until = Instant::now() + LEASE_TTL;
            match self.slots.renew(claims.iter().map(|(_, claim)| *claim).collect(), LEASE_TTL).await {
                // Who lost a lease was given up already: its results would be refused, so it may stop.
                Ok(held) => {
                    self.attempts.prolong(&held, leased_until);
                    let lost = claims.into_iter().filter(|(_, claim)| !held.contains(claim));
                    lost.for_each(|(_, claim)| self.attempts.stop_claimed(claim));
                }
                Err(error) => warn!(error = %error, "leases could not be renewed"),
            }
        }
    }

    /// Looks over all ready tasks and all running ones, again and again.
    pub async fn sweep(self: Arc<Self>) {
        let mut tick = tokio::time::interval(SWEEP_INTERVAL);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            if let Err(error) = self.sweep_once().await {
                warn!(error = %error, "the sweep could not be finished");
            }
        }
    }

    async fn sweep_once(self: &Arc<Self>) -> Result<(), ViewError> {
        self.find_lost().await?;
        let mut before = None;
        loop {
            let page = ListQuery {
                filters: vec![Filter::In("status", vec!["active".into(), "retired".into()])],
                order: Order::Newest,
                before,
                limit: PAGE_DOCUMENTS_MAX,
            };
            let agents = self.views.list::<Agents>(page).await?.documents;
            let Some(last) = agents.last() else { return Ok(()) };
            before = Some(last.id);
            for agent in agents.iter().filter(|agent| self.attempts.kinds.run_here(&agent.kind)) {
                self.sweep_agent(agent.id, agent.limits.max_concurrency).await?;
            }
        }
    }

    /// Claims the agent's most urgent ready tasks: by priority, then age.
    async fn sweep_agent(self: &Arc<Self>, agent: Uuid, slots_max: u32) -> Result<(), ViewError> {
        let ready = ready::find(&self.views, agent, slots_max.min(PAGE_DOCUMENTS_MAX)).await?;
        let mut starting = JoinSet::new();
        // The view may be behind what was claimed here.
        for task in ready.into_iter().filter(|task| !self.attempts.has(task.id)) {
            // One after the other, so that the last free slot is the most urgent task's; what follows shares commits.
            match self.reserve(task.id, agent).await {
                Ok(Some(reserved)) => drop(starting.spawn(self.clone().start(reserved))),
                Ok(None) => {}
                Err(NoRoom) => break,
            }
        }
        starting.join_all().await;
        Ok(())
    }

    /// Takes a slot, then the task; runs it when both were free.
    pub(super) async fn claim(self: &Arc<Self>, task: Uuid, agent: Uuid) {
        if let Ok(Some(reserved)) = self.reserve(task, agent).await {
            self.clone().start(reserved).await;
        }
    }

    /// Takes a slot for the task; none when it cannot be run here or somebody works on it.
    async fn reserve(&self, task: Uuid, agent: Uuid) -> Result<Option<Reserved>, NoRoom> {
        let room = self.room.clone().try_acquire_owned().map_err(|_| NoRoom)?;
        let profile = self.profile(agent).await.filter(|profile| profile.status != AgentStatus::Paused);
        let Some(profile) = profile.filter(|profile| self.attempts.kinds.run_here(&profile.kind)) else {
            return Ok(None);
        };
        let claim = Uuid::now_v7();
        let leased_until = Instant::now() + LEASE_TTL;
        match self.slots.take(agent, profile.limits.max_concurrency, task, claim, LEASE_TTL).await {
            Ok(Taken::Yes) => Ok(Some(Reserved { task, agent, claim, leased_until, profile, room })),
            Ok(Taken::Held) => Ok(None),
            Ok(Taken::Full) => {
                self.turned_away.insert(agent, ());
                Err(NoRoom)
            }
            Err(error) => {
                warn!(task.id = %task, error = %error, "no slot could be asked for");
                Err(NoRoom)
            }
        }
    }

    /// Takes the task whose slot was just taken, and runs it if it was ready.
    async fn start(self: Arc<Self>, reserved: Reserved) {
        let Reserved { task, agent, claim, leased_until, profile, room } = reserved;
        // From before it is in the log, so that no cancellation misses it.
        let claimed = self.attempts.begin(task, claim, leased_until);
        let mut meta = CommandMeta::new(Actor::Agent(agent));
        let start = Directed::new(task, TaskCommand::Start { worker: self.id, at: meta.at });
        meta.correlation = self.correlation_of(task).await.unwrap_or(meta.command_id);
        if let Err(error) = self.attempts.dispatcher.dispatch(&meta, &[start]).await {
            debug!(task.id = %task, error = %error, "a task was not there to be claimed");
            self.release(task, claim).await;
            return;
        }
        let worker = self.clone();
        // In a task of its own, so that whoever claimed may be stopped without stopping what was claimed.
        tokio::spawn(async move {
            attempt::perform(&worker.attempts, task, claim, &profile).await;
            drop(claimed);
            let has_room = worker.room.available_permits() > 0;
            let taken = worker.release(task, claim).await;
            drop(room);
            let slots_max = profile.limits.max_concurrency;
            // Otherwise nobody was turned away who was not told since that there is room.
            if taken.is_none_or(|taken| taken >= slots_max) || !has_room || worker.turned_away.contains_key(&agent) {
                worker.claim_next(agent, slots_max).await;
            }
        });
    }

    /// Whoever frees a slot fills it again.
    fn claim_next(self: Arc<Self>, agent: Uuid, slots_max: u32) -> futures_util::future::BoxFuture<'static, ()> {
        Box::pin(async move {
            if let Err(error) = self.sweep_agent(agent, slots_max.min(CLAIMS_AFTER_ONE)).await {
                warn!(error = %error, "the next task could not be looked for");
            }
        })
    }

    /// Answers how many of the agent's slots were taken before; none when it cannot be told.
    async fn release(&self, task: Uuid, claim: Uuid) -> Option<u32> {
        let released = self.slots.release(task, claim).await;
        if let Err(error) = &released {
            warn!(task.id = %task, error = %error, "a slot could not be freed; its lease will run out");
        }
        released.ok()
    }

    async fn correlation_of(&self, task: Uuid) -> Option<Uuid> {
        correlation_of(&*self.attempts.log, task).await
    }

    pub(super) async fn profile(&self, agent: Uuid) -> Option<Profile> {
        let loaded = self.attempts.dispatcher.load(StreamId { kind: AggregateKind::Agent, id: agent }).await.ok()?;
        <&Agent>::try_from(&loaded.state).ok()?.profile().cloned()
    }

    /// Waits until nothing runs here and takes nothing new from now on.
    pub async fn drain(&self) {
        // All of the room is only free when every run has given its part back.
        let all = u32::try_from(RUNNING_MAX).expect("a small constant");
        self.room.acquire_many(all).await.map(tokio::sync::SemaphorePermit::forget).ok();
    }

    pub fn running_count(&self) -> usize {
        self.attempts.count()
    }
}

/// The chain that the task belongs to, as its first event has it.
pub(super) async fn correlation_of(log: &dyn EventLog, task: Uuid) -> Option<Uuid> {
    let stream = StreamId { kind: AggregateKind::Task, id: task };
    let first = log.read_stream(stream, 0, 1).await.ok()?.pop()?;
    serde_json::from_str::<marvin_domain::Metadata>(&first.metadata).ok().map(|metadata| metadata.correlation)
}
