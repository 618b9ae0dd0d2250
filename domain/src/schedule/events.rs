//! What happens to a schedule, as the log keeps it.
use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::{Policies, Timing};
use crate::{Name, Personal, events, opaque_debug};

/// What the owner wrote.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Words {
    pub name: Name,
    /// What each task is given.
    pub input: Value,
}

/// What the owner wrote anew; what is none stays as it is.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct NewWords {
    /// Always stored, so that a part of another event is not taken for this one.
    #[serde(deserialize_with = "Option::deserialize")]
    pub name: Option<Name>,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    pub input: Option<Value>,
}

opaque_debug!(Words, NewWords);

/// For a value that may be `null`, which is not the same as being absent.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScheduleCreated {
    pub owner: Uuid,
    pub agent_id: Uuid,
    pub timing: Timing,
    pub policies: Policies,
    /// The first planned instant.
    pub next_at: DateTime<Utc>,
    #[serde(skip)]
    pub personal: Personal<Words>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScheduleChanged {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<Uuid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timing: Option<Timing>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policies: Option<Policies>,
    /// Whether the personal part holds another input.
    pub has_input: bool,
    /// The next planned instant from now on; none while paused, and behind the last one.
    pub next_at: Option<DateTime<Utc>>,
    #[serde(skip)]
    pub personal: Personal<NewWords>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PauseReason {
    Requested,
    /// Its firings failed, several times in a row.
    RepeatedFailure,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SchedulePaused {
    pub reason: PauseReason,
    pub owner: Uuid,
    pub agent_id: Uuid,
    /// What the last of the failures was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failing>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScheduleResumed {
    pub next_at: Option<DateTime<Utc>>,
}

/// Why a firing failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Failing {
    TaskFailed,
    AgentAbsent,
    AgentRetired,
    InputRefused,
}

/// Why a planned instant passed without a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Passed {
    /// The program was not there, and the schedule skips what was missed.
    Missed,
    /// The task before is still open, and the schedule skips what overlaps.
    Overlap,
    /// As many firings as may wait are waiting.
    QueueFull,
    /// As many tasks of this schedule as may be open are open.
    TooManyOpen,
    AgentAbsent,
    AgentRetired,
    /// The agent was given another configuration, under which it refuses the input.
    InputRefused,
}

impl Passed {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missed => "missed",
            Self::Overlap => "overlap",
            Self::QueueFull => "queue_full",
            Self::TooManyOpen => "too_many_open",
            Self::AgentAbsent => "agent_absent",
            Self::AgentRetired => "agent_retired",
            Self::InputRefused => "input_refused",
        }
    }

    /// None for what is no failure, but as the schedule says.
    pub fn failure(self) -> Option<Failing> {
        match self {
            Self::AgentAbsent => Some(Failing::AgentAbsent),
            Self::AgentRetired => Some(Failing::AgentRetired),
            Self::InputRefused => Some(Failing::InputRefused),
            Self::Missed | Self::Overlap | Self::QueueFull | Self::TooManyOpen => None,
        }
    }
}

/// What came of a firing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Submitted {
        task_id: Uuid,
    },
    /// It waits for the end of the task before.
    Queued,
    PassedOver {
        reason: Passed,
    },
}

impl Outcome {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Submitted { .. } => "submitted",
            Self::Queued => "queued",
            Self::PassedOver { reason } => reason.as_str(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScheduleFired {
    /// The instant that the plan names; with `is_manual`, when somebody asked for it.
    pub planned_at: DateTime<Utc>,
    /// Somebody asked for it, whatever the plan says.
    pub is_manual: bool,
    pub outcome: Outcome,
    /// The first of the planned instants before this one that were missed and are passed over with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missed_since: Option<DateTime<Utc>>,
    pub next_at: Option<DateTime<Utc>>,
}

/// A firing that waited, and came to its turn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScheduleReleased {
    pub planned_at: DateTime<Utc>,
    pub outcome: Outcome,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskEnd {
    Completed,
    /// Failed, or given up after several attempts.
    Failed,
    Cancelled,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScheduleTaskEnded {
    pub task_id: Uuid,
    pub end: TaskEnd,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RemoveReason {
    Requested,
    OwnerErased,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScheduleRemoved {
    pub reason: RemoveReason,
}

events! {
    ScheduleEvent of Schedule {
        Created(ScheduleCreated) = "created" v 1 personal;
        Changed(ScheduleChanged) = "changed" v 1 personal;
        Paused(SchedulePaused) = "paused" v 1;
        Resumed(ScheduleResumed) = "resumed" v 1;
        Fired(ScheduleFired) = "fired" v 1;
        Released(ScheduleReleased) = "released" v 1;
        TaskEnded(ScheduleTaskEnded) = "task_ended" v 1;
        Removed(ScheduleRemoved) = "removed" v 1;
    }
}
