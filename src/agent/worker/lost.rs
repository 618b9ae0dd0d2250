//! Running tasks that nobody holds: the sweep says what became of their attempts.
use chrono::{DateTime, Utc};
use marvin_domain::{
    Actor, AggregateKind, Directed, Sequence, StreamId,
    agent::Limits,
    ids,
    task::{Phase, Task, TaskCommand},
};
use marvin_projections::tasks::{TaskStatus, Tasks};
use tracing::warn;
use uuid::Uuid;

use super::Worker;
use crate::{
    agent::{
        attempt,
        lease::time::{Begun, Ended, Time},
    },
    dispatch::{CommandMeta, DispatchError},
    views::{Filter, ListQuery, Order, PAGE_DOCUMENTS_MAX, ViewError},
};

#[derive(Clone, Copy)]
struct Running {
    attempt: u32,
    agent: Uuid,
    deadline: Option<DateTime<Utc>>,
    /// Of the last event of the task's stream.
    sequence: Sequence,
}

impl Worker {
    /// Records how attempts ended that nobody holds any more. The log refuses it for an attempt that has ended otherwise.
    pub(super) async fn find_lost(&self) -> Result<(), ViewError> {
        let mut before = None;
        loop {
            let filters = vec![Filter::is("status", TaskStatus::Running.as_str())];
            let query = ListQuery { filters, order: Order::Newest, before, limit: PAGE_DOCUMENTS_MAX };
            let running = self.views.find::<Tasks>(query).await?;
            let Some(last) = running.last() else { return Ok(()) };
            before = Some(last.id);
            self.find_lost_of(running.into_iter().map(|task| task.id).collect()).await?;
        }
    }

    async fn find_lost_of(&self, mut running: Vec<Uuid>) -> Result<(), ViewError> {
        let held = self.slots.held().await?;
        running.retain(|task| !held.contains(task));
        let mut attempts = Vec::with_capacity(running.len());
        for task in running {
            attempts.extend(self.running(task).await.map(|running| (task, running)));
        }
        if attempts.is_empty() {
            return Ok(());
        }
        // Once more: an attempt that began meanwhile had its slot before it was in the log.
        let held = self.slots.held().await?;
        for (task, running) in attempts.into_iter().filter(|(task, _)| !held.contains(task)) {
            self.lose(task, running).await;
        }
        Ok(())
    }

    async fn lose(&self, task: Uuid, running: Running) {
        let attempt = running.attempt;
        let mut meta = CommandMeta::new(Actor::System);
        meta.command_id = ids::derived(task, &format!("heartbeat lost {attempt}"));
        meta.correlation = self.correlation_of(task).await.unwrap_or(meta.command_id);
        let end = match self.time_over(task, running).await {
            None => TaskCommand::LoseHeartbeat { attempt },
            Some((ended, limits)) => {
                let retry_at = ended.is_passing().then(|| Utc::now() + attempt::backoff(attempt, &limits));
                TaskCommand::Fail { attempt, failure: ended.failure(), retry_at }
            }
        };
        let is_lost = matches!(end, TaskCommand::LoseHeartbeat { .. });
        match self.attempts.dispatcher.dispatch(&meta, &[Directed::new(task, end)]).await {
            Ok(_) if is_lost => warn!(task.id = %task, attempt, "a worker vanished while it ran a task"),
            Ok(_) => warn!(task.id = %task, attempt, "a worker outside took longer than it may"),
            Err(DispatchError::Refused(_)) => {}
            Err(error) => warn!(task.id = %task, error = %error, "a lost heartbeat could not be recorded"),
        }
    }

    /// How the attempt ended and under which limits, when its time is over. None while it is not, and for what runs in our
    /// processes, which look to the time themselves.
    async fn time_over(&self, task: Uuid, running: Running) -> Option<(Ended, Limits)> {
        let profile = self.profile(running.agent).await?;
        self.attempts.kinds.get(&profile.kind).filter(|handler| handler.is_leased())?;
        let begun = Begun::read(&*self.attempts.log, task, running.sequence).await.ok()?;
        let ended = Time::of(begun.at, running.deadline, &profile.limits).over(Utc::now())?;
        Some((ended, profile.limits))
    }

    /// The attempt that runs; none when there is none, or when it cannot be read now.
    async fn running(&self, id: Uuid) -> Option<Running> {
        let stream = StreamId { kind: AggregateKind::Task, id };
        let loaded = self.attempts.dispatcher.load(stream).await.ok()?;
        let task = <&Task>::try_from(&loaded.state).ok().filter(|task| task.phase == Phase::Running)?;
        let Task { attempt, agent_id: agent, deadline, .. } = *task;
        Some(Running { attempt, agent, deadline, sequence: loaded.sequence })
    }
}
