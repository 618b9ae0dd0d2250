//! What happens to a task, as the log keeps it.
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::{Personal, events, opaque_debug};

#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Input {
    pub input: Value,
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Output {
    pub output: Value,
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct StepResult {
    pub result: Value,
}

/// Personal, since a message may quote the input.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct FailureText {
    pub message: String,
}

opaque_debug!(Input, Output, StepResult, FailureText);

/// Why an attempt failed: a stable code for programs and a message for people.
#[derive(Clone, PartialEq)]
pub struct Failure {
    pub code: String,
    pub message: String,
}

impl Failure {
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into() }
    }
}

/// Shows the code only: the message may quote the input.
impl std::fmt::Debug for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Failure({})", self.code)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CancelReason {
    Requested,
    RequesterErased,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskSubmitted {
    pub agent_id: Uuid,
    pub requested_by: Uuid,
    pub conversation_id: Option<Uuid>,
    pub priority: u8,
    pub deadline: Option<DateTime<Utc>>,
    pub max_attempts: u32,
    pub parent: Option<Uuid>,
    pub chain_depth: u32,
    #[serde(skip)]
    pub personal: Personal<Input>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskStarted {
    pub attempt: u32,
    /// The process that runs it; where a worker outside leased it, what follows from the lease one way.
    pub worker: Uuid,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskStepCompleted {
    pub attempt: u32,
    pub step: u32,
    pub kind: String,
    pub name: String,
    pub started_at: DateTime<Utc>,
    #[serde(skip)]
    pub personal: Personal<StepResult>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskHeartbeatLost {
    pub attempt: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskRetryScheduled {
    pub attempt: u32,
    pub retry_at: DateTime<Utc>,
    pub code: String,
    #[serde(skip)]
    pub personal: Personal<FailureText>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskCompleted {
    pub attempt: u32,
    pub agent_id: Uuid,
    pub requested_by: Uuid,
    #[serde(skip)]
    pub personal: Personal<Output>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskFailed {
    pub attempt: u32,
    pub code: String,
    pub agent_id: Uuid,
    pub requested_by: Uuid,
    #[serde(skip)]
    pub personal: Personal<FailureText>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskDeadLettered {
    pub attempt: u32,
    pub code: String,
    pub agent_id: Uuid,
    pub requested_by: Uuid,
    #[serde(skip)]
    pub personal: Personal<FailureText>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskCancelled {
    pub reason: CancelReason,
    pub agent_id: Uuid,
    pub requested_by: Uuid,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskRetried {
    /// How many more attempts this gives. None in events from before version 2: as many as the task had at first.
    pub attempts: Option<u32>,
}

events! {
    TaskEvent of Task {
        Submitted(TaskSubmitted) = "submitted" v 1 personal;
        Started(TaskStarted) = "started" v 1;
        StepCompleted(TaskStepCompleted) = "step_completed" v 1 personal;
        HeartbeatLost(TaskHeartbeatLost) = "heartbeat_lost" v 1;
        RetryScheduled(TaskRetryScheduled) = "retry_scheduled" v 1 personal;
        Completed(TaskCompleted) = "completed" v 1 personal;
        Failed(TaskFailed) = "failed" v 1 personal;
        DeadLettered(TaskDeadLettered) = "dead_lettered" v 1 personal;
        Cancelled(TaskCancelled) = "cancelled" v 1;
        Retried(TaskRetried) = "retried" v 2;
    }
}
