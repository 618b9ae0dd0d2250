//! What may be asked of a task, and why it is refused.
use chrono::{DateTime, Utc};
use serde_json::Value;
use uuid::Uuid;

use super::{CHAIN_DEPTH_MAX, CancelReason, DEADLINE_PASSED, Failure, STEPS_MAX};
use crate::{RefusalKind, Refuse};

#[derive(Clone, PartialEq)]
pub enum TaskCommand {
    Submit(Submission),
    /// A worker takes the task. At most one claim at a sequence wins.
    Start {
        worker: Uuid,
        at: DateTime<Utc>,
    },
    /// Records the result of step `step` (1, 2, 3 …); repeating a recorded step changes nothing.
    CompleteStep {
        attempt: u32,
        step: u32,
        kind: String,
        name: String,
        started_at: DateTime<Utc>,
        result: Value,
    },
    /// Records the result of step `step` as somebody outside tells it, also between attempts: whichever attempt is next finds it.
    /// It is told once.
    TellStep {
        step: u32,
        kind: String,
        name: String,
        at: DateTime<Utc>,
        result: Value,
    },
    Complete {
        attempt: u32,
        output: Value,
    },
    /// The attempt failed; `retry_at` when another one may help.
    Fail {
        attempt: u32,
        failure: Failure,
        retry_at: Option<DateTime<Utc>>,
    },
    /// The worker's lease ran out while the attempt was running.
    LoseHeartbeat {
        attempt: u32,
    },
    /// Ends a task that waits for an attempt when its deadline has passed at this time: nothing is started any more.
    PassDeadline {
        at: DateTime<Utc>,
    },
    Cancel {
        reason: CancelReason,
    },
    /// Gives a failed or dead task a fresh set of attempts.
    Retry,
}

#[derive(Clone, PartialEq)]
pub struct Submission {
    pub agent_id: Uuid,
    pub requested_by: Uuid,
    pub input: Value,
    pub conversation_id: Option<Uuid>,
    pub priority: u8,
    pub deadline: Option<DateTime<Utc>>,
    pub max_attempts: u32,
    /// The task whose agent asked for this one.
    pub parent: Option<Uuid>,
    pub chain_depth: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TaskError {
    #[error("there is no such task")]
    Absent,
    #[error("this task was submitted already")]
    AlreadySubmitted,
    #[error("the priority must be 0 to 9")]
    Priority,
    #[error("tasks that start tasks may chain at most {CHAIN_DEPTH_MAX} deep")]
    ChainTooDeep,
    #[error("a task may have at most {STEPS_MAX} steps")]
    TooManySteps,
    #[error("step {expected} is next")]
    StepOutOfOrder { expected: u32 },
    #[error("this task is not ready to be started")]
    NotReady,
    #[error("the deadline of this task has passed")]
    DeadlinePassed,
    #[error("this task does not wait behind its deadline")]
    NotOverdue,
    #[error("this task has ended")]
    Ended,
    #[error("this step was told already")]
    ToldTwice,
    #[error("this result belongs to an attempt that is no longer running")]
    LateResult,
    #[error("this task was cancelled")]
    Cancelled,
    #[error("only a task that failed or was given up can be retried")]
    NotRetryable,
}

impl Refuse for TaskError {
    fn kind(&self) -> RefusalKind {
        match self {
            Self::Absent => RefusalKind::Absent,
            Self::AlreadySubmitted
            | Self::NotReady
            | Self::DeadlinePassed
            | Self::NotOverdue
            | Self::LateResult
            | Self::Ended
            | Self::ToldTwice
            | Self::Cancelled => RefusalKind::Late,
            Self::Priority
            | Self::ChainTooDeep
            | Self::TooManySteps
            | Self::StepOutOfOrder { .. }
            | Self::NotRetryable => RefusalKind::Rule,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::AlreadySubmitted => "already_submitted",
            Self::Priority => "priority",
            Self::ChainTooDeep => "chain_too_deep",
            Self::TooManySteps => "too_many_steps",
            Self::StepOutOfOrder { .. } => "step_out_of_order",
            Self::NotReady => "not_ready",
            Self::DeadlinePassed => DEADLINE_PASSED,
            Self::NotOverdue => "not_overdue",
            Self::Ended => "ended",
            Self::ToldTwice => "told_twice",
            Self::LateResult => "late_result",
            Self::Cancelled => "cancelled",
            Self::NotRetryable => "not_retryable",
        }
    }
}
