//! Fires one schedule: decides what comes of a planned instant, and records that together with the task.
use chrono::{DateTime, Utc};
use marvin_domain::{
    Actor, AggregateKind, Directed, Event, Position, StreamId, ids,
    schedule::{
        Outcome, Passed, RemoveReason, Schedule, ScheduleCommand, ScheduleEvent, ScheduleState, TaskEnd, due_at,
    },
    task::{Phase, Submission, Task, TaskCommand},
    user::{Standing, User},
};
use serde_json::Value;
use std::sync::Arc;
use tracing::{debug, warn};
use uuid::Uuid;

use super::check_submission;
use crate::{
    accounts::user_stream,
    agent::Kinds,
    dispatch::{CommandMeta, DispatchError, Dispatcher},
    log::{EventLog, Receipt, codec::Codec},
    time::Clock,
    views::query::Views,
};

/// The priority of a task that nobody chose one for.
const PRIORITY: u8 = 5;
/// Steps of one schedule that are done in a row: as many missed instants as are made up for, and the ends of their tasks.
const STEPS_MAX: usize = 2 * marvin_domain::schedule::MISSED_MAX;

/// What firing works with.
#[derive(Clone)]
pub struct Firing {
    pub dispatcher: Dispatcher,
    pub views: Views,
    pub kinds: Kinds,
    pub log: Arc<dyn EventLog>,
    pub codec: Codec,
    pub clock: Clock,
}

pub fn schedule_stream(id: Uuid) -> StreamId {
    StreamId { kind: AggregateKind::Schedule, id }
}

impl Firing {
    pub fn now(&self) -> DateTime<Utc> {
        (self.clock)()
    }

    /// Does what is due of a schedule by now; answers where its last event stands, if anything was appended. What fails is told
    /// in the process's log, and found again by the next look.
    pub async fn advance(&self, id: Uuid) -> Option<Position> {
        let mut reached = None;
        for _ in 0..STEPS_MAX {
            match self.step(id).await {
                Ok(Some(receipt)) => reached = reached.max(Some(receipt.position)),
                Ok(None) => break,
                // Somebody else was faster: what is to be done now is another question.
                Err(DispatchError::Refused(refusal)) => {
                    debug!(schedule.id = %id, %refusal, "a firing was decided anew");
                    if self.dispatcher.refresh(schedule_stream(id)).await.is_err() {
                        break;
                    }
                }
                Err(error) => {
                    warn!(schedule.id = %id, error = %error, "a schedule could not fire yet");
                    break;
                }
            }
        }
        reached
    }

    /// The schedule as the log has it; none when it is not there or removed.
    pub async fn load(&self, id: Uuid) -> Result<Option<Schedule>, DispatchError> {
        let loaded = self.dispatcher.load(schedule_stream(id)).await?;
        Ok(<&ScheduleState>::try_from(&loaded.state).ok().and_then(ScheduleState::present).cloned())
    }

    /// One step; none when nothing is due.
    async fn step(&self, id: Uuid) -> Result<Option<Receipt>, DispatchError> {
        let Some(schedule) = self.load(id).await? else { return Ok(None) };
        let now = self.now();
        let released = schedule.released();
        let is_due = |next: DateTime<Utc>| due_at(id, next, schedule.policies.jitter_s) <= now;
        let due = schedule.due(now).filter(|_| schedule.next_at.is_some_and(is_due));
        if released.is_none() && due.is_none() {
            return Ok(None);
        }
        if self.is_erased(schedule.owner).await? {
            return self.remove(id).await.map(Some);
        }
        if let Some(planned_at) = released {
            let (outcome, task) = self.outcome(id, &schedule, planned_at).await?;
            let release = ScheduleCommand::Release { planned_at, outcome };
            return self
                .record(id, &format!("release {}", planned_at.timestamp_millis()), release, task)
                .await
                .map(Some);
        }
        let Some(due) = due else { return Ok(None) };
        let planned_at = due.planned_at;
        if let Some(receipt) = self.end_tasks(id, &schedule).await? {
            return Ok(Some(receipt));
        }
        let (outcome, task) = match schedule.held_up() {
            _ if due.is_missed => (Outcome::PassedOver { reason: Passed::Missed }, None),
            Some(held_up) => (held_up, None),
            None => self.outcome(id, &schedule, planned_at).await?,
        };
        let fire = ScheduleCommand::Fire { planned_at, at: now, outcome };
        self.record(id, &format!("fire {}", planned_at.timestamp_millis()), fire, task).await.map(Some)
    }

    /// Appends a decision and its task as one, under an id that follows from the schedule and the instant.
    async fn record(
        &self,
        id: Uuid,
        label: &str,
        command: ScheduleCommand,
        task: Option<Directed>,
    ) -> Result<Receipt, DispatchError> {
        let mut meta = CommandMeta::new(Actor::System);
        meta.command_id = ids::derived(id, label);
        meta.correlation = meta.command_id;
        let commands: Vec<_> = [Directed::new(id, command)].into_iter().chain(task).collect();
        let receipt = self.dispatch(&meta, &commands).await?;
        if !receipt.repeated {
            metrics::counter!("marvin_schedule_firings_total").increment(1);
        }
        Ok(receipt)
    }

    async fn dispatch(&self, meta: &CommandMeta, commands: &[Directed]) -> Result<Receipt, DispatchError> {
        let receipt = self.dispatcher.dispatch(meta, commands).await?;
        if receipt.repeated {
            // Another process appended it, and this one has not heard of that yet.
            self.dispatcher.refresh(receipt.stream).await?;
        }
        Ok(receipt)
    }

    /// What comes of a firing that nothing holds up, and the task, if it comes to one. The task's id follows from the instant, too.
    async fn outcome(
        &self,
        id: Uuid,
        schedule: &Schedule,
        planned_at: DateTime<Utc>,
    ) -> Result<(Outcome, Option<Directed>), DispatchError> {
        let task_id = ids::derived(id, &format!("task {}", planned_at.timestamp_millis()));
        let (outcome, task) = self.submission(id, schedule, task_id).await?;
        let outcome = outcome.map_or(Outcome::Submitted { task_id }, |reason| Outcome::PassedOver { reason });
        Ok((outcome, task))
    }

    /// The task of a firing, or why there is none.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub async fn submission(
        &self,
        id: Uuid,
        schedule: &Schedule,
        task_id: Uuid,
    ) -> Result<(Option<Passed>, Option<Directed>), DispatchError> {
        let agent_id = schedule.agent_id;
        // Nobody can read an erased owner's input, and the schedule is about to be removed.
        let Some(input) = self.input(id, schedule).await? else { return Ok((Some(Passed::InputRefused), None)) };
        let max_attempts = match check_submission(&self.dispatcher, &self.kinds, agent_id, &input).await? {
            Ok(max_attempts) => max_attempts,
            Err(unfit) => return Ok((Some(unfit.into()), None)),
        };
        let submission = Submission {
            agent_id,
            requested_by: schedule.owner,
            input,
            conversation_id: None,
            priority: PRIORITY,
            deadline: None,
            max_attempts,
            parent: None,
            chain_depth: 0,
        };
        Ok((None, Some(Directed::new(task_id, TaskCommand::Submit(submission)))))
    }

    /// What the owner last wrote; none when they are erased.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub async fn input(&self, id: Uuid, schedule: &Schedule) -> Result<Option<Value>, DispatchError> {
        let rows = self.log.read_stream(schedule_stream(id), schedule.input_at - 1, 1).await?;
        let event = self.codec.open(rows).await?.pop().map(|envelope| envelope.event);
        Ok(match event {
            Some(Event::Schedule(ScheduleEvent::Created(e))) => e.personal.known().map(|words| words.input.clone()),
            Some(Event::Schedule(ScheduleEvent::Changed(e))) => e.personal.known().and_then(|new| new.input.clone()),
            _ => None,
        })
    }

    async fn is_erased(&self, owner: Uuid) -> Result<bool, DispatchError> {
        let loaded = self.dispatcher.load(user_stream(owner)).await?;
        Ok(<&User>::try_from(&loaded.state).is_ok_and(|user| user.standing == Standing::Erased))
    }

    async fn remove(&self, id: Uuid) -> Result<Receipt, DispatchError> {
        let remove = ScheduleCommand::Remove { reason: RemoveReason::OwnerErased };
        self.dispatch(&CommandMeta::new(Actor::System), &[Directed::new(id, remove)]).await
    }

    /// Records the ends of tasks that the schedule has not heard of, where it matters: an end is often a moment older than the
    /// word of it.
    async fn end_tasks(&self, id: Uuid, schedule: &Schedule) -> Result<Option<Receipt>, DispatchError> {
        if schedule.held_up().is_none() {
            return Ok(None);
        }
        let mut last = None;
        for task in &schedule.open {
            if let Some(end) = self.end_of(*task).await? {
                last = Some(self.end_task(id, *task, end).await?);
            }
        }
        Ok(last)
    }

    /// How a task has ended, as the log has it now.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub(super) async fn end_of(&self, task_id: Uuid) -> Result<Option<TaskEnd>, DispatchError> {
        let stream = StreamId { kind: AggregateKind::Task, id: task_id };
        // What is cached may be a moment old, and that moment may be the end.
        let loaded = self.dispatcher.refresh(stream).await?;
        let phase = <&Task>::try_from(&loaded.state).map_or(Phase::Unknown, |task| task.phase);
        Ok(match phase {
            Phase::Failed => Some(TaskEnd::Failed),
            Phase::Final => Some(TaskEnd::Completed),
            Phase::Cancelled => Some(TaskEnd::Cancelled),
            Phase::Unknown | Phase::Queued | Phase::Running | Phase::Retrying { .. } => None,
        })
    }

    /// Records that a task of this schedule has ended; repeating it changes nothing.
    ///
    /// # Errors
    /// As [`Dispatcher::dispatch`].
    pub(super) async fn end_task(&self, id: Uuid, task_id: Uuid, end: TaskEnd) -> Result<Receipt, DispatchError> {
        let mut meta = CommandMeta::new(Actor::System);
        meta.command_id = ids::derived(task_id, "ends for its schedule");
        meta.correlation = meta.command_id;
        self.dispatch(&meta, &[Directed::new(id, ScheduleCommand::EndTask { task_id, end })]).await
    }
}
