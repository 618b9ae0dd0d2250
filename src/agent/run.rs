//! One attempt at a task, as its handler sees it: what is asked, and a journal that records each effect once.
use chrono::{DateTime, Utc};
use marvin_domain::{
    Actor, AggregateKind, Directed, RefusalKind, Refuse, StreamId,
    agent::{Agent, AgentStatus},
    ids,
    notification::{Link, Message, NotificationCommand, Severity},
    task::{Submission, TaskCommand, TaskError},
    user::{Standing, User},
};
use serde_json::Value;
use std::{borrow::Cow, collections::BTreeMap, time::Duration};
use tracing::warn;
use uuid::Uuid;

use super::Kinds;
use crate::{
    accounts::user_stream,
    dispatch::{CommandMeta, DispatchError, Dispatcher},
};

/// Bytes of one step's result and of an output, as JSON. Larger ones fail the task with `result_too_large`.
pub const RESULT_BYTES_MAX: usize = 1024 * 1024;
/// Pause before an unavailable log is asked again; the lease, not this, ends an attempt that hangs.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// Why a task could not be done: a stable code for programs, a message for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskFailure {
    pub code: Cow<'static, str>,
    pub message: String,
    /// Whether another attempt may help.
    pub retry: bool,
    /// How long the next attempt waits at least, when somebody asked for that.
    pub retry_after: Option<Duration>,
}

impl TaskFailure {
    /// A failure that every attempt would meet again.
    pub fn lasting(code: &'static str, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), retry: false, retry_after: None }
    }

    /// A failure that another attempt may not meet.
    pub fn passing(code: &'static str, message: impl Into<String>) -> Self {
        Self { retry: true, ..Self::lasting(code, message) }
    }

    /// The same, with the next attempt not before this.
    #[must_use]
    pub fn after(self, retry_after: Option<Duration>) -> Self {
        Self { retry_after, ..self }
    }
}

#[derive(Debug)]
pub enum RunError {
    Failed(TaskFailure),
    /// The task was cancelled, or another attempt has taken over: whatever this one still does counts no more.
    Lost,
}

impl From<TaskFailure> for RunError {
    fn from(failure: TaskFailure) -> Self {
        Self::Failed(failure)
    }
}

/// What a step causes in the log, recorded with it as one.
#[derive(Debug, Clone)]
pub enum Effect {
    Notify { recipient: Uuid, severity: Severity, title: String, body: String },
    Submit { agent_id: Uuid, input: Value, max_attempts: u32 },
}

/// The task and its agent, as the attempt found them.
#[derive(Debug, Clone)]
pub struct Assignment {
    pub task_id: Uuid,
    pub agent_id: Uuid,
    pub agent_name: String,
    pub config: marvin_domain::agent::Config,
    pub input: Value,
    pub requested_by: Uuid,
    pub conversation_id: Option<Uuid>,
    pub priority: u8,
    pub attempt: u32,
    pub chain_depth: u32,
    pub submitted_at: DateTime<Utc>,
    pub started_at: DateTime<Utc>,
    pub correlation: Uuid,
    /// The event that began this attempt.
    pub started_event: Uuid,
}

pub struct Run {
    pub assignment: Assignment,
    /// Results of steps that earlier attempts recorded.
    recorded: BTreeMap<u32, Value>,
    step: u32,
    /// Steps that are done, and recorded with what comes next.
    postponed: Vec<Directed>,
    dispatcher: Dispatcher,
    kinds: Kinds,
}

impl Run {
    pub fn new(assignment: Assignment, recorded: BTreeMap<u32, Value>, dispatcher: Dispatcher, kinds: Kinds) -> Self {
        Self { assignment, recorded, step: 0, postponed: Vec::new(), dispatcher, kinds }
    }

    /// Whether another agent would take this input, as it would be checked for a person; answers the attempts it allows.
    ///
    /// # Errors
    /// `agent_unavailable` for an unknown or retired agent, `input_refused` with what was refused.
    pub async fn check_submission(&self, agent_id: Uuid, input: &Value) -> Result<u32, TaskFailure> {
        let unavailable = |why: &str| TaskFailure::lasting("agent_unavailable", format!("agent {agent_id} {why}"));
        let stream = StreamId { kind: AggregateKind::Agent, id: agent_id };
        let loaded = self.dispatcher.load(stream).await;
        let loaded = loaded.map_err(|error| TaskFailure::passing("log_unavailable", error.to_string()))?;
        let agent = <&Agent>::try_from(&loaded.state).ok().and_then(Agent::profile);
        let agent = agent.ok_or_else(|| unavailable("does not exist"))?;
        if agent.status == AgentStatus::Retired {
            return Err(unavailable("is retired"));
        }
        let handler = self.kinds.get(&agent.kind).ok_or_else(|| unavailable("is of a kind that is not built in"))?;
        handler.check_input(&agent.config, input).map_err(|errors| {
            let first = errors.first().map(|error| format!("{}: {}", error.pointer, error.detail)).unwrap_or_default();
            TaskFailure::lasting("input_refused", format!("agent {agent_id} refuses the input: {first}"))
        })?;
        Ok(agent.limits.max_attempts)
    }

    /// Whether there is such a person now.
    ///
    /// # Errors
    /// `log_unavailable`.
    pub async fn standing(&self, user: Uuid) -> Result<Standing, TaskFailure> {
        let loaded = self.dispatcher.load(user_stream(user)).await;
        let loaded = loaded.map_err(|error| TaskFailure::passing("log_unavailable", error.to_string()))?;
        Ok(<&User>::try_from(&loaded.state).map_or(Standing::Unknown, |user| user.standing))
    }

    /// The result of the next step, when an earlier attempt recorded it. The step is then done: do not do it again.
    pub fn recorded(&mut self) -> Option<Value> {
        let value = self.recorded.get(&(self.step + 1)).cloned()?;
        self.step += 1;
        Some(value)
    }

    /// The number of the next step.
    pub fn next_step(&self) -> u32 {
        self.step + 1
    }

    /// The next step stands in the journal, where somebody else recorded it.
    pub fn pass_step(&mut self) {
        self.step += 1;
    }

    /// Records the next step: its result and its effects are in the log together, or neither is.
    ///
    /// # Errors
    /// `Failed` for a result over its limit or an effect that is refused, `Lost` when this attempt no longer counts.
    pub async fn record(
        &mut self,
        kind: &str,
        name: &str,
        result: Value,
        effects: Vec<Effect>,
    ) -> Result<(), RunError> {
        let step = self.step + 1;
        let complete = self.completed(kind, name, result)?;
        let mut commands = self.postponed.clone();
        commands.push(complete);
        commands.extend(effects.into_iter().enumerate().map(|(index, effect)| self.directed(step, index, effect)));
        self.dispatch(&format!("step {step}"), &commands).await?;
        self.postponed.clear();
        self.step = step;
        Ok(())
    }

    /// Records the next step together with whatever is recorded next, be it the end of the attempt. Only for a step that has done
    /// nothing outside: where the process dies before, it is done again.
    ///
    /// # Errors
    /// `result_too_large`.
    pub fn record_with_next(&mut self, kind: &str, name: &str, result: Value) -> Result<(), TaskFailure> {
        let complete = self.completed(kind, name, result)?;
        self.postponed.push(complete);
        self.step += 1;
        Ok(())
    }

    /// What is still to be recorded, with the end of the attempt.
    pub(super) fn into_postponed(self) -> Vec<Directed> {
        self.postponed
    }

    fn completed(&self, kind: &str, name: &str, result: Value) -> Result<Directed, TaskFailure> {
        check_size(&result)?;
        let complete = TaskCommand::CompleteStep {
            attempt: self.assignment.attempt,
            step: self.step + 1,
            kind: kind.to_owned(),
            name: name.to_owned(),
            started_at: self.assignment.started_at,
            result,
        };
        Ok(Directed::new(self.assignment.task_id, complete))
    }

    /// Ids follow from the task and the step, so that a repeated step causes the same effect and no second one.
    fn directed(&self, step: u32, index: usize, effect: Effect) -> Directed {
        let id = ids::derived(self.assignment.task_id, &format!("step {step} effect {index}"));
        match effect {
            Effect::Notify { recipient, severity, title, body } => {
                let link = Link { kind: "task".into(), id: self.assignment.task_id };
                let message = Message { title, body };
                Directed::new(id, NotificationCommand::Raise { recipient, severity, link, message })
            }
            Effect::Submit { agent_id, input, max_attempts } => {
                let submission = Submission {
                    agent_id,
                    requested_by: self.assignment.requested_by,
                    input,
                    conversation_id: self.assignment.conversation_id,
                    priority: self.assignment.priority,
                    deadline: None,
                    max_attempts,
                    parent: Some(self.assignment.task_id),
                    chain_depth: self.assignment.chain_depth + 1,
                };
                Directed::new(id, TaskCommand::Submit(submission))
            }
        }
    }

    /// Dispatches under an id derived from the attempt, again and again while the log is unavailable.
    pub(super) async fn dispatch(&self, label: &str, commands: &[Directed]) -> Result<(), RunError> {
        let mut meta = CommandMeta::new(Actor::Agent(self.assignment.agent_id));
        meta.command_id = ids::derived(self.assignment.started_event, label);
        (meta.correlation, meta.causation) = (self.assignment.correlation, Some(self.assignment.started_event));
        loop {
            match self.dispatcher.dispatch(&meta, commands).await {
                Ok(_) => return Ok(()),
                Err(DispatchError::Refused(refusal)) if refusal.kind == RefusalKind::Rule => {
                    let named = [TaskError::ChainTooDeep, TaskError::TooManySteps].map(|error| error.code());
                    let code = named.into_iter().find(|code| *code == refusal.code).unwrap_or("step_refused");
                    return Err(TaskFailure::lasting(code, refusal.reason).into());
                }
                Err(DispatchError::Refused(_) | DispatchError::Reused | DispatchError::Stale { .. }) => {
                    return Err(RunError::Lost);
                }
                Err(DispatchError::TooLarge(reason)) => {
                    return Err(TaskFailure::lasting("result_too_large", reason).into());
                }
                Err(DispatchError::Corrupt(reason)) => {
                    return Err(TaskFailure::passing("log_unreadable", reason).into());
                }
                Err(
                    error @ (DispatchError::Contended
                    | DispatchError::TimedOut
                    | DispatchError::Unavailable(_)
                    | DispatchError::Keys(_)),
                ) => {
                    warn!(task.id = %self.assignment.task_id, error = %error, "a result could not be recorded yet");
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
            }
        }
    }
}

/// # Errors
/// `result_too_large` beyond 1 MiB of JSON.
pub fn check_size(result: &Value) -> Result<(), TaskFailure> {
    let bytes = marvin_domain::event::to_json(result).len();
    if bytes <= RESULT_BYTES_MAX {
        return Ok(());
    }
    Err(TaskFailure::lasting("result_too_large", format!("the result has {bytes} bytes, at most {RESULT_BYTES_MAX}")))
}
