//! Claims ready tasks for a worker outside: a slot, then `started`, then the lease is told.
use chrono::{DateTime, Utc};
use futures_util::future::join_all;
use marvin_domain::{
    Actor, Directed, Envelope, Event, Personal,
    agent::Profile,
    task::{CancelReason, TaskCommand, TaskEvent, TaskSubmitted},
};
use marvin_projections::tasks::Tasks;
use serde_json::Value;
use std::{sync::Arc, time::Duration};
use tracing::debug;
use uuid::Uuid;

use super::{LEASE_TTL, LeaseError, Leases, result::lease_left, task_of, task_stream, time::Time, token::Lease};
use crate::{
    agent::{ready, slots::Taken},
    dispatch::{CommandMeta, DispatchError},
    log::ReadError,
    views::PAGE_DOCUMENTS_MAX,
};

/// Ready tasks beyond those asked for: the view may lag, so the first ones may be taken already.
const SPARE: u32 = 16;
/// Looks of one call where others were faster each time.
const ROUNDS_MAX: u32 = 3;
/// Claims of one call that are on their way at once: they share commits, and hold an input each.
const CLAIMS_AT_ONCE: usize = 8;
/// Sealed bytes of inputs in one answer, after which it gets no further tasks: as many as one input may have.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long a look waits for a view that lags. What it does not show yet, the next look finds.
const VIEW_PATIENCE: Duration = Duration::from_secs(1);

/// A task, as whoever leased it may know it.
#[derive(Debug)]
pub struct Leased {
    pub lease: Lease,
    /// Without a heartbeat.
    pub expires_in: Duration,
    pub task_id: Uuid,
    pub agent_id: Uuid,
    pub requested_by: Uuid,
    pub conversation_id: Option<Uuid>,
    pub input: Value,
    pub attempt: u32,
    pub priority: u8,
    pub deadline: Option<DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
    bytes: usize,
}

impl Leases {
    /// Claims what is ready now. In a task of its own: a claim is not broken off where its caller goes away.
    pub(super) async fn look(
        self: &Arc<Self>,
        agent: Uuid,
        profile: Profile,
        actor: Actor,
        max: u32,
    ) -> Result<Vec<Leased>, LeaseError> {
        let leases = self.clone();
        let looking = tokio::spawn(async move {
            let _turn = leases.looking.acquire().await;
            // What was submitted before this call is seen by it.
            let end = leases.tail.log_end();
            tokio::time::timeout(VIEW_PATIENCE, leases.views.wait::<Tasks>(end)).await.ok();
            for _ in 0..ROUNDS_MAX {
                let (leased, is_over) = leases.claim_ready(agent, &profile, actor, max as usize).await?;
                if is_over || !leased.is_empty() {
                    return Ok(leased);
                }
            }
            Ok(Vec::new())
        });
        looking.await.unwrap_or_else(|_| Ok(Vec::new()))
    }

    /// Claims from one list of what is ready; also answers whether another one would be of no use.
    async fn claim_ready(
        &self,
        agent: Uuid,
        profile: &Profile,
        actor: Actor,
        max: usize,
    ) -> Result<(Vec<Leased>, bool), LeaseError> {
        let limit = u32::try_from(max).unwrap_or(u32::MAX).saturating_add(SPARE).min(PAGE_DOCUMENTS_MAX);
        let ready = ready::find(&self.views, agent, limit).await?;
        let (mut is_over, mut leased) = (ready.is_empty(), Vec::new());
        let mut ready = ready.into_iter().map(|found| found.id);
        loop {
            let bytes: usize = leased.iter().map(|leased: &Leased| leased.bytes).sum();
            let wanted = if is_over || bytes >= ANSWER_BYTES_MAX { 0 } else { max - leased.len() };
            let batch: Vec<_> = ready.by_ref().take(wanted.min(CLAIMS_AT_ONCE)).collect();
            if batch.is_empty() {
                return Ok((leased, is_over));
            }
            let (held, end) = self.take_slots(agent, profile.limits.max_concurrency, batch).await;
            is_over = end.is_some();
            let mut trouble = end.flatten();
            for claimed in join_all(held.into_iter().map(|(task, lease)| self.claim(task, lease, profile, actor))).await
            {
                match claimed {
                    Ok(claimed) => leased.extend(claimed),
                    Err(error) => trouble = Some(error),
                }
            }
            match trouble {
                Some(error) if leased.is_empty() => return Err(error),
                // What was claimed is told; whoever asks again meets the trouble again.
                Some(error) => {
                    debug!(error = %error, "a task could not be claimed");
                    is_over = true;
                }
                None => {}
            }
        }
    }

    /// One behind the other, so that the last slot is the most urgent task's. What holds one may then start at once with the others.
    /// Also answers whether there was an end to it: no slot is free, or none can be asked for.
    async fn take_slots(
        &self,
        agent: Uuid,
        slots_max: u32,
        tasks: Vec<Uuid>,
    ) -> (Vec<(Uuid, Lease)>, Option<Option<LeaseError>>) {
        let mut held = Vec::with_capacity(tasks.len());
        for task in tasks {
            let lease = Lease::draw();
            match self.slots.take(agent, slots_max, task, lease.worker(), LEASE_TTL).await {
                Ok(Taken::Yes) => held.push((task, lease)),
                Ok(Taken::Held) => {}
                Ok(Taken::Full) => return (held, Some(None)),
                Err(error) => return (held, Some(Some(error.into()))),
            }
        }
        (held, None)
    }

    /// Claims the task whose slot was just taken; none where somebody has it, or where it was not ready after all.
    async fn claim(
        &self,
        task: Uuid,
        lease: Lease,
        profile: &Profile,
        actor: Actor,
    ) -> Result<Option<Leased>, LeaseError> {
        let worker = lease.worker();
        let begun = self.begin(task, lease, profile, actor).await;
        if !matches!(begun, Ok(Some(_))) {
            self.release(task, worker).await;
        }
        begun
    }

    async fn begin(
        &self,
        task: Uuid,
        lease: Lease,
        profile: &Profile,
        actor: Actor,
    ) -> Result<Option<Leased>, LeaseError> {
        let Some((first, bytes)) = self.first_event(task).await? else { return Ok(None) };
        let Event::Task(TaskEvent::Submitted(submitted)) = first.event else { return Ok(None) };
        let mut meta = CommandMeta::new(actor);
        meta.correlation = first.metadata.correlation;
        let TaskSubmitted { personal, agent_id, requested_by, conversation_id, priority, deadline, .. } = submitted;
        let Personal::Known(given) = personal else {
            let cancel = TaskCommand::Cancel { reason: CancelReason::RequesterErased };
            return self.turn_down(meta, agent_id, vec![Directed::new(task, cancel)]).await;
        };
        let start = Directed::new(task, TaskCommand::Start { worker: lease.worker(), at: meta.at });
        if deadline.is_some_and(|deadline| deadline <= meta.at) {
            let pass = Directed::new(task, TaskCommand::PassDeadline { at: meta.at });
            return self.turn_down(meta, agent_id, vec![pass]).await;
        }
        match self.dispatcher.dispatch(&meta, &[start]).await {
            Ok(_) => {}
            Err(DispatchError::Refused(_) | DispatchError::Contended) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        let loaded = self.dispatcher.load(task_stream(task)).await?;
        // Cancelled between the two, at the earliest.
        let Ok(attempt) = task_of(&loaded.state).and_then(|task| task.check_worker(lease.worker())) else {
            return Ok(None);
        };
        let left = Time::of(meta.at, deadline, &profile.limits).left(meta.at);
        let expires_in = lease_left(left);
        if expires_in < LEASE_TTL {
            self.hold(lease.worker(), left).await?;
        }
        Ok(Some(Leased {
            lease,
            expires_in,
            task_id: task,
            agent_id,
            requested_by,
            conversation_id,
            input: given.input,
            attempt,
            priority,
            deadline,
            created_at: first.recorded_at,
            bytes,
        }))
    }

    /// Ends a task that nobody is to do any more. That is no doing of whoever asked for one.
    async fn turn_down(
        &self,
        mut meta: CommandMeta,
        agent: Uuid,
        commands: Vec<Directed>,
    ) -> Result<Option<Leased>, LeaseError> {
        meta.actor = Actor::Agent(agent);
        match self.dispatcher.dispatch(&meta, &commands).await {
            Ok(_) | Err(DispatchError::Refused(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// What the task was given, and its sealed bytes.
    async fn first_event(&self, task: Uuid) -> Result<Option<(Envelope, usize)>, ReadError> {
        let rows = self.log.read_stream(task_stream(task), 0, 1).await?;
        let bytes = rows.iter().map(|row| row.payload.len()).sum();
        Ok(self.codec.open(rows).await?.pop().map(|first| (first, bytes)))
    }
}
