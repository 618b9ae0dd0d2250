//! A task as it is answered, with its steps and why it waits.
use chrono::{DateTime, Utc};
use marvin_projections::{
    steps::StepDocument,
    tasks::{TaskDocument, TaskStatus},
};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::HashMap;
use uuid::Uuid;

use crate::{http::caller::Caller, security::permissions::Permission};

#[derive(Debug, Serialize)]
struct StepBody<'a> {
    step: u32,
    kind: &'a str,
    name: &'a str,
    status: &'static str,
    #[serde(serialize_with = "crate::time::required")]
    started_at: DateTime<Utc>,
    #[serde(serialize_with = "crate::time::required")]
    finished_at: DateTime<Utc>,
}

impl<'a> StepBody<'a> {
    fn of(step: &'a StepDocument) -> Self {
        let StepDocument { step, kind, name, started_at, finished_at, .. } = step;
        Self { step: *step, kind, name, status: "completed", started_at: *started_at, finished_at: *finished_at }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct TaskBody<'a> {
    id: Uuid,
    agent_id: Uuid,
    requested_by: Uuid,
    conversation_id: Option<Uuid>,
    status: TaskStatus,
    waiting_reason: Option<&'a str>,
    priority: u8,
    #[serde(serialize_with = "crate::time::optional")]
    deadline: Option<DateTime<Utc>>,
    attempt: u32,
    input: Option<&'a Value>,
    output: Option<&'a Value>,
    error: Option<Value>,
    steps: Vec<StepBody<'a>>,
    usage: Value,
    #[serde(serialize_with = "crate::time::required")]
    created_at: DateTime<Utc>,
    #[serde(serialize_with = "crate::time::optional")]
    started_at: Option<DateTime<Utc>>,
    #[serde(serialize_with = "crate::time::optional")]
    finished_at: Option<DateTime<Utc>>,
    /// The requester is erased: input and output can be read by nobody.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    erased: bool,
    sequence: u64,
    position: u64,
}

/// The steps of some tasks, by task, each in the order in which they were done.
pub(super) type TaskSteps = HashMap<Uuid, Vec<StepDocument>>;

/// Why tasks wait that wait, by task.
pub(super) type Reasons = HashMap<Uuid, String>;

impl<'a> TaskBody<'a> {
    /// `caller` sees the requester's words only where they may.
    pub fn of(task: &'a TaskDocument, steps: &'a TaskSteps, reasons: &'a Reasons, caller: &Caller) -> Self {
        let readable = caller.reaches(task.requested_by, Permission::PersonalReadAll);
        let text = task.personal.known().filter(|_| readable);
        let message = text.and_then(|text| text.error_message.as_deref());
        Self {
            id: task.id,
            agent_id: task.agent_id,
            requested_by: task.requested_by,
            conversation_id: task.conversation_id,
            status: task.status,
            waiting_reason: reasons.get(&task.id).map(String::as_str),
            priority: task.priority,
            deadline: task.deadline,
            attempt: task.attempt,
            input: text.map(|text| &text.input),
            output: text.and_then(|text| text.output.as_ref()),
            error: task.error_code.as_ref().map(|code| json!({ "code": code, "message": message.unwrap_or_default() })),
            steps: steps.get(&task.id).into_iter().flatten().map(StepBody::of).collect(),
            usage: json!({}),
            created_at: task.created_at,
            started_at: task.started_at,
            finished_at: task.finished_at,
            erased: task.personal.is_erased(),
            sequence: task.sequence,
            position: task.position,
        }
    }
}
