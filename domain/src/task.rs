//! A task: a durable run of an agent. Its stream is its journal, and the only judge of who runs it and what counts.
use chrono::{DateTime, Utc};
use cqrs_es::{Aggregate, event_sink::EventSink};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Personal, Rooted};

mod command;
mod debug;
mod events;
pub use command::*;
pub use events::*;

/// Steps a task may record: beyond that it is a loop, not a plan.
pub const STEPS_MAX: u32 = 1_000;
/// Why a task failed that was not done in time, whether or not it had begun.
pub const DEADLINE_PASSED: &str = "deadline_passed";
/// How deep tasks that agents start may chain: deeper is a cycle of agents feeding each other.
pub const CHAIN_DEPTH_MAX: u32 = 16;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    #[default]
    Unknown,
    Queued,
    Running,
    Retrying {
        at: DateTime<Utc>,
    },
    /// Failed or dead: may be retried.
    Failed,
    /// Completed: final.
    Final,
    /// Final too; apart from it, so that whoever still works on the task is told why their result does not count.
    Cancelled,
}

/// What decisions about a task need; inputs, results and outputs stay in the journal.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Task {
    pub phase: Phase,
    /// Attempts so far, the running one included.
    pub attempt: u32,
    /// The attempt after which the task is given up.
    pub attempt_max: u32,
    max_attempts: u32,
    /// Steps recorded so far.
    pub steps: u32,
    pub agent_id: Uuid,
    pub requested_by: Uuid,
    pub chain_depth: u32,
    pub deadline: Option<DateTime<Utc>>,
    /// Who runs the last attempt, as its start said: a process, or what follows from a lease that was given out.
    pub worker: Uuid,
}

impl Task {
    /// Whether the running attempt is this worker's. Else the refusal says why nothing of theirs counts any more.
    ///
    /// # Errors
    /// `Absent`, `Cancelled` when that ended their attempt, else `LateResult`.
    pub fn check_worker(&self, worker: Uuid) -> Result<u32, TaskError> {
        match self.phase {
            Phase::Unknown => Err(TaskError::Absent),
            Phase::Running if self.worker == worker => Ok(self.attempt),
            Phase::Cancelled if self.worker == worker => Err(TaskError::Cancelled),
            _ => Err(TaskError::LateResult),
        }
    }

    fn is_open(&self) -> bool {
        self.waits() || self.phase == Phase::Running
    }

    fn check_attempt(&self, attempt: u32) -> Result<(), TaskError> {
        if self.phase == Phase::Running && self.attempt == attempt { Ok(()) } else { Err(TaskError::LateResult) }
    }

    fn submit(submission: Submission) -> Result<TaskEvent, TaskError> {
        if submission.priority > 9 {
            return Err(TaskError::Priority);
        }
        if submission.chain_depth > CHAIN_DEPTH_MAX {
            return Err(TaskError::ChainTooDeep);
        }
        Ok(TaskSubmitted {
            agent_id: submission.agent_id,
            requested_by: submission.requested_by,
            conversation_id: submission.conversation_id,
            priority: submission.priority,
            deadline: submission.deadline,
            max_attempts: submission.max_attempts,
            parent: submission.parent,
            chain_depth: submission.chain_depth,
            personal: Personal::Known(Input { input: submission.input }),
        }
        .into())
    }

    fn waits(&self) -> bool {
        matches!(self.phase, Phase::Queued | Phase::Retrying { .. })
    }

    /// Whether it waits for an attempt that comes too late from this time on.
    pub fn waits_overdue(&self, at: DateTime<Utc>) -> bool {
        self.waits() && self.deadline.is_some_and(|deadline| deadline <= at)
    }

    fn start(&self, worker: Uuid, at: DateTime<Utc>) -> Result<TaskEvent, TaskError> {
        match self.phase {
            _ if self.waits_overdue(at) => return Err(TaskError::DeadlinePassed),
            Phase::Queued => {}
            Phase::Retrying { at: ready } if ready <= at => {}
            _ => return Err(TaskError::NotReady),
        }
        Ok(TaskStarted { attempt: self.attempt + 1, worker }.into())
    }

    fn complete_step(&self, command: TaskCommand) -> Result<Option<TaskEvent>, TaskError> {
        let TaskCommand::CompleteStep { attempt, step, kind, name, started_at, result } = command else {
            return Ok(None);
        };
        self.check_attempt(attempt)?;
        if (1..=self.steps).contains(&step) {
            return Ok(None);
        }
        self.check_next(step)?;
        let personal = Personal::Known(StepResult { result });
        Ok(Some(TaskStepCompleted { attempt, step, kind, name, started_at, personal }.into()))
    }

    fn check_next(&self, step: u32) -> Result<(), TaskError> {
        match step {
            step if step > STEPS_MAX => Err(TaskError::TooManySteps),
            step if step != self.steps + 1 => Err(TaskError::StepOutOfOrder { expected: self.steps + 1 }),
            _ => Ok(()),
        }
    }

    fn tell_step(&self, command: TaskCommand) -> Result<Option<TaskEvent>, TaskError> {
        let TaskCommand::TellStep { step, kind, name, at, result } = command else { return Ok(None) };
        if !self.is_open() {
            return Err(TaskError::Ended);
        }
        if (1..=self.steps).contains(&step) {
            return Err(TaskError::ToldTwice);
        }
        self.check_next(step)?;
        let personal = Personal::Known(StepResult { result });
        Ok(Some(TaskStepCompleted { attempt: self.attempt, step, kind, name, started_at: at, personal }.into()))
    }

    fn pass_deadline(&self, at: DateTime<Utc>) -> Result<TaskEvent, TaskError> {
        if !self.waits_overdue(at) {
            return Err(TaskError::NotOverdue);
        }
        let failure = Failure::new(DEADLINE_PASSED, "the deadline had passed before the task could start");
        Ok(self.fail(failure, None))
    }

    fn fail(&self, failure: Failure, retry_at: Option<DateTime<Utc>>) -> TaskEvent {
        let (attempt, code, agent_id, requested_by) = (self.attempt, failure.code, self.agent_id, self.requested_by);
        let personal = Personal::Known(FailureText { message: failure.message });
        match retry_at {
            Some(retry_at) if attempt < self.attempt_max => {
                TaskRetryScheduled { attempt, retry_at, code, personal }.into()
            }
            Some(_) => TaskDeadLettered { attempt, code, agent_id, requested_by, personal }.into(),
            None => TaskFailed { attempt, code, agent_id, requested_by, personal }.into(),
        }
    }
}

impl Rooted for Task {
    fn subject(&self, _id: Uuid) -> Option<Uuid> {
        (self.phase != Phase::Unknown).then_some(self.requested_by)
    }
}

impl Aggregate for Task {
    const TYPE: &'static str = "task";
    type Command = TaskCommand;
    type Event = TaskEvent;
    type Error = TaskError;
    type Services = ();

    async fn handle(&mut self, command: TaskCommand, (): &(), sink: &EventSink<Self>) -> Result<(), TaskError> {
        let (agent_id, requested_by) = (self.agent_id, self.requested_by);
        let event: TaskEvent = match command {
            TaskCommand::Submit(_) if self.phase != Phase::Unknown => return Err(TaskError::AlreadySubmitted),
            TaskCommand::Submit(submission) => Self::submit(submission)?,
            _ if self.phase == Phase::Unknown => return Err(TaskError::Absent),
            TaskCommand::Start { worker, at } => self.start(worker, at)?,
            step @ TaskCommand::CompleteStep { .. } => match self.complete_step(step)? {
                Some(event) => event,
                None => return Ok(()),
            },
            told @ TaskCommand::TellStep { .. } => match self.tell_step(told)? {
                Some(event) => event,
                None => return Ok(()),
            },
            TaskCommand::Complete { attempt, output } => {
                self.check_attempt(attempt)?;
                TaskCompleted { attempt, agent_id, requested_by, personal: Personal::Known(Output { output }) }.into()
            }
            TaskCommand::Fail { attempt, failure, retry_at } => {
                self.check_attempt(attempt)?;
                self.fail(failure, retry_at)
            }
            TaskCommand::LoseHeartbeat { attempt } => {
                self.check_attempt(attempt)?;
                sink.write(TaskHeartbeatLost { attempt }.into(), self).await;
                if attempt < self.attempt_max {
                    return Ok(());
                }
                let failure = Failure::new("heartbeat_lost", "the worker vanished during the last attempt");
                self.fail(failure, Some(DateTime::<Utc>::MIN_UTC))
            }
            TaskCommand::PassDeadline { at } => self.pass_deadline(at)?,
            TaskCommand::Cancel { .. } if !self.is_open() => return Err(TaskError::Ended),
            TaskCommand::Cancel { reason } => TaskCancelled { reason, agent_id, requested_by }.into(),
            TaskCommand::Retry if self.phase != Phase::Failed => return Err(TaskError::NotRetryable),
            TaskCommand::Retry => TaskRetried { attempts: Some(self.max_attempts) }.into(),
        };
        sink.write(event, self).await;
        Ok(())
    }

    fn apply(&mut self, event: TaskEvent) {
        match event {
            TaskEvent::Submitted(submitted) => {
                self.phase = Phase::Queued;
                (self.max_attempts, self.attempt_max) = (submitted.max_attempts, submitted.max_attempts);
                (self.agent_id, self.requested_by) = (submitted.agent_id, submitted.requested_by);
                (self.chain_depth, self.deadline) = (submitted.chain_depth, submitted.deadline);
            }
            TaskEvent::Started(started) => {
                (self.phase, self.attempt, self.worker) = (Phase::Running, started.attempt, started.worker);
            }
            TaskEvent::StepCompleted(completed) => self.steps = completed.step,
            TaskEvent::HeartbeatLost(_) => self.phase = Phase::Queued,
            TaskEvent::RetryScheduled(scheduled) => self.phase = Phase::Retrying { at: scheduled.retry_at },
            TaskEvent::Failed(_) | TaskEvent::DeadLettered(_) => self.phase = Phase::Failed,
            TaskEvent::Completed(_) => self.phase = Phase::Final,
            TaskEvent::Cancelled(_) => self.phase = Phase::Cancelled,
            TaskEvent::Retried(retried) => {
                self.phase = Phase::Queued;
                self.attempt_max = self.attempt.saturating_add(retried.attempts.unwrap_or(self.max_attempts));
            }
        }
    }
}
