//! Leases: tasks of agents that are run by programs outside, given out over HTTP and answered for.
//!
//! A lease is a claim like any other: a slot, then `started` at the expected sequence, and one wins. Who took it is known to the log
//! by what follows one way from the lease, so the log alone judges whose result counts. A worker that vanishes loses its slot, and
//! the sweep finds its task; nothing here keeps time for others.
use marvin_domain::{
    Actor, AggregateKind, StreamId,
    agent::{Agent, AgentStatus, Profile},
    task::{Task, TaskError},
};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{Semaphore, watch},
    time::Instant,
};
use tracing::warn;
use uuid::Uuid;

use super::{Kinds, slots::Slots};
use crate::{
    dispatch::{DispatchError, Dispatcher},
    log::{EventLog, ReadError, codec::Codec, tail::Tail},
    store::StoreError,
    views::{ViewError, query::Views},
};

mod claim;
pub mod kind;
mod result;
pub mod time;
pub mod token;
mod wake;

pub use claim::Leased;
pub use result::{Ending, Outcome};

/// How long a lease stands without a heartbeat: a worker may pause, or its network fail, for some seconds.
pub const LEASE_TTL: Duration = Duration::from_secs(30);
/// What workers are told: two heartbeats may be missed before a lease runs out.
pub const HEARTBEAT_S: u64 = 10;
/// Tasks of one answer: enough for any worker that is one process.
pub const LEASES_MAX: u32 = 100;
/// Longest wait for a task: shorter than what proxies and clients let a silent request live.
pub const WAIT_S_MAX: u64 = 30;
/// Calls that wait at once in one process. Each looks once a second; more would be a load by themselves.
const WAITING_MAX: usize = 256;
/// Calls that look for tasks at once: each may hold some inputs of 4 MiB.
const LOOKING_MAX: usize = 4;

/// Why a lease was not given, or a result not taken.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    #[error("there is nothing of this id")]
    Absent,
    /// Ask for tasks of another agent.
    #[error("tasks of agents of the kind {0} are not leased: Marvin runs them")]
    NotLeased(String),
    /// Wait, and ask again.
    #[error("too many workers are waiting for tasks")]
    Crowded,
    /// The task is somebody else's or nobody's by now: stop, nothing that is done for it counts.
    #[error(transparent)]
    Late(TaskError),
    /// The attempt has taken all of its time: stop, the task moves on.
    #[error("{0}")]
    TimeOver(String),
    /// Nothing was recorded. Fail the task, or answer less.
    #[error("{0}")]
    TooLarge(String),
    #[error(transparent)]
    Dispatch(#[from] DispatchError),
    #[error(transparent)]
    Views(#[from] ViewError),
    #[error(transparent)]
    Log(#[from] ReadError),
    #[error("the slots cannot be reached")]
    Slots(#[from] StoreError),
}

/// What a worker asks for.
pub struct Ask<W> {
    pub agent: Uuid,
    /// Who asks, as the log will name who started the tasks.
    pub actor: Actor,
    pub max: u32,
    pub wait: Duration,
    /// Whether somebody is still there, and still has the right to be answered: nothing is leased to those who left.
    pub is_wanted: W,
}

/// Gives out leases and takes their results. Shared by all requests of this process.
pub struct Leases {
    kinds: Kinds,
    dispatcher: Dispatcher,
    views: Views,
    log: Arc<dyn EventLog>,
    codec: Codec,
    slots: Arc<dyn Slots>,
    tail: Arc<Tail>,
    looking: Semaphore,
    waiting: Semaphore,
    /// Told of each slot that was freed here. Those of other processes are found by the slow look.
    freed: watch::Sender<()>,
}

impl Leases {
    pub fn new(
        kinds: Kinds,
        dispatcher: Dispatcher,
        views: Views,
        codec: Codec,
        slots: Arc<dyn Slots>,
        (log, tail): (Arc<dyn EventLog>, Arc<Tail>),
    ) -> Arc<Self> {
        let (looking, waiting) = (Semaphore::new(LOOKING_MAX), Semaphore::new(WAITING_MAX));
        let freed = watch::channel(()).0;
        Arc::new(Self { kinds, dispatcher, views, log, codec, slots, tail, looking, waiting, freed })
    }

    /// Leases at most `max` of the agent's ready tasks, the most urgent first; fewer where its slots are taken, none while it is
    /// paused. Where there is none it waits for one, at most `wait`.
    ///
    /// Repeating it leases other tasks. Leases that nobody heard of run out by themselves.
    ///
    /// # Errors
    /// `Absent`, `NotLeased`, `Crowded`, or why the stores could not be asked.
    pub async fn lease(self: &Arc<Self>, ask: Ask<impl AsyncFn() -> bool>) -> Result<Vec<Leased>, LeaseError> {
        let until = Instant::now() + ask.wait;
        let mut wake = wake::Wake::of(self, ask.agent);
        let mut place = None;
        loop {
            let agent = self.agent(ask.agent).await?;
            if !(ask.is_wanted)().await {
                return Ok(Vec::new());
            }
            if agent.status != AgentStatus::Paused {
                let leased = self.look(ask.agent, agent, ask.actor, ask.max).await?;
                if !leased.is_empty() {
                    return Ok(leased);
                }
            }
            if Instant::now() >= until {
                return Ok(Vec::new());
            }
            if place.is_none() {
                place = Some((self.waiting.try_acquire().map_err(|_| LeaseError::Crowded)?, Counted::new()));
            }
            wake.next(until, &ask.is_wanted).await;
        }
    }

    /// An agent whose tasks are leased, whatever its status.
    ///
    /// # Errors
    /// `Absent`, or `NotLeased` for one whose tasks run in our processes.
    pub async fn agent(&self, id: Uuid) -> Result<Profile, LeaseError> {
        let profile = self.profile(id).await?;
        if self.kinds.is_leased(&profile.kind) { Ok(profile) } else { Err(LeaseError::NotLeased(profile.kind)) }
    }

    async fn profile(&self, id: Uuid) -> Result<Profile, LeaseError> {
        let loaded = self.dispatcher.load(StreamId { kind: AggregateKind::Agent, id }).await?;
        <&Agent>::try_from(&loaded.state).ok().and_then(Agent::profile).cloned().ok_or(LeaseError::Absent)
    }

    /// Frees a slot and tells those who wait for one.
    async fn release(&self, task: Uuid, worker: Uuid) {
        if let Err(error) = self.slots.release(task, worker).await {
            warn!(task.id = %task, error = %error, "a slot could not be freed; its lease will run out");
        }
        self.freed.send_replace(());
    }
}

/// One of those who wait, as operators see them.
struct Counted(metrics::Gauge);

impl Counted {
    fn new() -> Self {
        let gauge = metrics::gauge!("marvin_workers_waiting");
        gauge.increment(1.0);
        Self(gauge)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

fn task_stream(id: Uuid) -> StreamId {
    StreamId { kind: AggregateKind::Task, id }
}

/// The task's state; a stream without one is no task.
fn task_of(state: &marvin_domain::State) -> Result<&Task, TaskError> {
    <&Task>::try_from(state).map_err(|_| TaskError::Absent)
}
