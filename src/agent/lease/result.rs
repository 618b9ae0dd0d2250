//! What workers outside say of the tasks that they leased: that they are still at work, what came of it, or why nothing did.
use chrono::{DateTime, Utc};
use marvin_domain::{
    Directed, Sequence,
    agent::Limits,
    task::{Failure, TaskCommand, TaskError},
};
use serde::Serialize;
use serde_json::Value;
use std::time::Duration;
use uuid::Uuid;

use super::{
    LEASE_TTL, LeaseError, Leases, task_of, task_stream,
    time::{Begun, Time},
    token::Lease,
};
use crate::{
    agent::{attempt::backoff, run::check_size},
    dispatch::{CommandMeta, DispatchError},
    log::Receipt,
};

/// A slot outlives the attempt's time by this, so that the sweep finds the time over when it finds the slot free: clocks of nodes and
/// of the database may differ a little.
const CLOCK_SKEW: Duration = Duration::from_secs(1);

/// How an attempt ended, in the worker's words.
#[derive(Debug, Serialize)]
pub enum Outcome {
    Completed {
        output: Value,
    },
    /// `retry` says whether another attempt may help.
    Failed {
        code: String,
        message: String,
        retry: bool,
    },
}

/// The end of an attempt, as its worker sent it.
pub struct Ending {
    pub task: Uuid,
    pub lease: Lease,
    pub outcome: Outcome,
    pub meta: CommandMeta,
}

/// The attempt that a lease is about.
struct Held {
    attempt: u32,
    agent: Uuid,
    deadline: Option<DateTime<Utc>>,
    /// Of its start, which ends the stream: attempts outside record no steps.
    sequence: Sequence,
}

impl Leases {
    /// Prolongs a lease; answers how long it stands now without another heartbeat. Safe to repeat.
    ///
    /// # Errors
    /// `Late` when the attempt no longer counts, `TimeOver` when it may not go on, `Absent`, or why the stores could not be asked.
    pub async fn heartbeat(&self, task: Uuid, lease: &Lease) -> Result<Duration, LeaseError> {
        let worker = lease.worker();
        let held = match self.held(task, worker).await {
            Err(error @ LeaseError::Late(_)) => {
                // Whoever is told that nothing counts any more stops: now the agent may run another task.
                self.release(task, worker).await;
                return Err(error);
            }
            held => held?,
        };
        let limits = self.profile(held.agent).await?.limits;
        let begun = Begun::read(&*self.log, task, held.sequence).await?;
        let (time, now) = (Time::of(begun.at, held.deadline, &limits), Utc::now());
        if let Some(ended) = time.over(now) {
            return Err(LeaseError::TimeOver(ended.failure().message));
        }
        let left = time.left(now);
        if self.hold(worker, left).await? { Ok(lease_left(left)) } else { Err(LeaseError::Late(TaskError::LateResult)) }
    }

    /// Records how an attempt ended. Repeating it with the same outcome answers what it answered at first.
    ///
    /// # Errors
    /// `Late` when the attempt no longer counts or ended otherwise, `TooLarge`, `Absent`, or why the log did not take it.
    pub async fn end(&self, ending: Ending) -> Result<Receipt, LeaseError> {
        let Ending { task, lease, outcome, mut meta } = ending;
        if let Outcome::Completed { output } = &outcome {
            check_size(output).map_err(|failure| LeaseError::TooLarge(failure.message))?;
        }
        let is_keyed = meta.digest.is_some();
        if !is_keyed {
            (meta.command_id, meta.digest) =
                (lease.result(), Some(lease.digest(&marvin_domain::event::to_json(&outcome))));
        }
        let late = |error| match error {
            DispatchError::Reused if !is_keyed => LeaseError::Late(TaskError::LateResult),
            error => error.into(),
        };
        let worker = lease.worker();
        let held = match self.held(task, worker).await {
            Err(refused @ LeaseError::Late(_)) => {
                let first = self.dispatcher.first_result(&meta).await.map_err(late)?;
                self.release(task, worker).await;
                return first.ok_or(refused);
            }
            held => held?,
        };
        let begun = Begun::read(&*self.log, task, held.sequence).await?;
        (meta.correlation, meta.causation) = (begun.correlation, Some(begun.event));
        let limits = self.profile(held.agent).await?.limits;
        let ended =
            self.dispatcher.dispatch(&meta, &[Directed::new(task, command(held.attempt, outcome, &limits))]).await;
        if matches!(ended, Ok(_) | Err(DispatchError::Refused(_))) {
            self.release(task, worker).await;
        }
        match ended {
            // Somebody ended it meanwhile: who, the task tells.
            Err(DispatchError::Refused(_)) => Err(match self.held(task, worker).await {
                Err(error) => error,
                Ok(_) => LeaseError::Late(TaskError::LateResult),
            }),
            ended => ended.map_err(late),
        }
    }

    /// The attempt that runs under this lease. Where the cached task knows nothing of it, the log is asked.
    async fn held(&self, task: Uuid, worker: Uuid) -> Result<Held, LeaseError> {
        let stream = task_stream(task);
        let mut loaded = self.dispatcher.load(stream).await?;
        if task_of(&loaded.state).and_then(|task| task.check_worker(worker)).is_err() {
            loaded = self.dispatcher.refresh(stream).await?;
        }
        let state = task_of(&loaded.state);
        match state.and_then(|task| Ok((task, task.check_worker(worker)?))) {
            Ok((task, attempt)) => {
                Ok(Held { attempt, agent: task.agent_id, deadline: task.deadline, sequence: loaded.sequence })
            }
            Err(TaskError::Absent) => Err(LeaseError::Absent),
            Err(refused) => Err(LeaseError::Late(refused)),
        }
    }

    /// Keeps the slot for as long as a lease stands, and no longer than the attempt may take; answers whether it was kept.
    pub(super) async fn hold(&self, worker: Uuid, left: Duration) -> Result<bool, LeaseError> {
        let ttl = LEASE_TTL.min(left + CLOCK_SKEW);
        Ok(self.slots.renew(vec![worker], ttl).await?.contains(&worker))
    }
}

/// What is left of a lease when so much of the attempt's time is left.
pub(super) fn lease_left(left: Duration) -> Duration {
    LEASE_TTL.min(left)
}

fn command(attempt: u32, outcome: Outcome, limits: &Limits) -> TaskCommand {
    match outcome {
        Outcome::Completed { output } => TaskCommand::Complete { attempt, output },
        Outcome::Failed { code, message, retry } => {
            let retry_at = retry.then(|| Utc::now() + backoff(attempt, limits));
            TaskCommand::Fail { attempt, failure: Failure::new(&code, message), retry_at }
        }
    }
}
