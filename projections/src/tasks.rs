//! Tasks as people see them: where each stands, what it was given, what came of it.
use chrono::{DateTime, Utc};
use marvin_domain::{
    AggregateKind, Envelope, Event, Personal, Position, Sequence, opaque_debug,
    task::{TaskEvent, TaskSubmitted},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::{Document, Field, Key, Projection};

#[derive(Debug)]
pub struct Tasks;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskStatus {
    Queued,
    Running,
    Retrying,
    Completed,
    Failed,
    Cancelled,
    Dead,
}

impl TaskStatus {
    pub const ALL: [Self; 7] =
        [Self::Queued, Self::Running, Self::Retrying, Self::Completed, Self::Failed, Self::Cancelled, Self::Dead];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Retrying => "retrying",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Dead => "dead",
        }
    }
}

/// What the requester gave and got.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskText {
    pub input: Value,
    pub output: Option<Value>,
    pub error_message: Option<String>,
}

opaque_debug!(TaskText);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskDocument {
    pub id: Uuid,
    pub agent_id: Uuid,
    pub requested_by: Uuid,
    pub conversation_id: Option<Uuid>,
    pub status: TaskStatus,
    pub priority: u8,
    pub deadline: Option<DateTime<Utc>>,
    pub attempt: u32,
    /// When the next attempt may start; none when no attempt is to be made.
    pub ready_at: Option<DateTime<Utc>>,
    /// Why the last attempt, or the task, failed.
    pub error_code: Option<String>,
    /// Steps recorded so far; each is a document of its own.
    pub steps: u32,
    pub created_at: DateTime<Utc>,
    pub started_at: Option<DateTime<Utc>>,
    pub finished_at: Option<DateTime<Utc>>,
    pub sequence: Sequence,
    pub position: Position,
    #[serde(skip)]
    pub personal: Personal<TaskText>,
}

impl Document for TaskDocument {
    fn subject(&self) -> Option<Uuid> {
        Some(self.requested_by)
    }
    fn personal(&self) -> Option<Vec<u8>> {
        self.personal.known().map(marvin_domain::event::to_json)
    }
    fn fill_personal(&mut self, personal: &[u8]) -> Result<(), serde_json::Error> {
        self.personal = Personal::Known(serde_json::from_slice(personal)?);
        Ok(())
    }
}

impl TaskDocument {
    /// Changes the personal part; once erased it stays so, whatever a later event still holds.
    fn write(&mut self, change: impl FnOnce(&mut TaskText)) {
        if let Personal::Known(text) = &mut self.personal {
            change(text);
        }
    }

    /// When it fails unless it has begun by then; none for a task that does not wait, or may wait for ever.
    fn waits_until(&self) -> Option<DateTime<Utc>> {
        self.deadline.filter(|_| self.waits())
    }

    /// Whether it waits for an attempt.
    pub fn waits(&self) -> bool {
        matches!(self.status, TaskStatus::Queued | TaskStatus::Retrying)
    }

    fn wait(&mut self, status: TaskStatus, ready_at: DateTime<Utc>) {
        (self.status, self.ready_at) = (status, Some(ready_at));
    }

    fn end(&mut self, status: TaskStatus, at: DateTime<Utc>) {
        (self.status, self.ready_at, self.finished_at) = (status, None, Some(at));
    }

    fn fail(&mut self, code: &str, message: Option<&str>) {
        self.error_code = Some(code.to_owned());
        self.write(|text| text.error_message = message.map(str::to_owned));
    }
}

fn begin(id: Uuid, submitted: &TaskSubmitted, event: &Envelope) -> TaskDocument {
    let personal = match &submitted.personal {
        Personal::Known(given) => {
            Personal::Known(TaskText { input: given.input.clone(), output: None, error_message: None })
        }
        Personal::Erased => Personal::Erased,
    };
    TaskDocument {
        id,
        agent_id: submitted.agent_id,
        requested_by: submitted.requested_by,
        conversation_id: submitted.conversation_id,
        status: TaskStatus::Queued,
        priority: submitted.priority,
        deadline: submitted.deadline,
        attempt: 0,
        ready_at: Some(event.recorded_at),
        error_code: None,
        steps: 0,
        created_at: event.recorded_at,
        started_at: None,
        finished_at: None,
        sequence: event.sequence,
        position: event.position,
        personal,
    }
}

impl Projection for Tasks {
    const NAME: &'static str = "tasks";
    const VERSION: u32 = 4;
    const KINDS: &'static [AggregateKind] = &[AggregateKind::Task];
    const FIELDS: &'static [Field] = &[
        Field::id("agent_id"),
        Field::id("requested_by"),
        Field::id("conversation_id").rare(),
        Field::text("status"),
        Field::integer("priority"),
        Field::time("ready_at"),
        // Only of tasks that wait: whatever else has passed its deadline is looked after elsewhere, or over.
        Field::time("waits_until").rare(),
    ];
    const INDEXES: &'static [&'static [&'static str]] = &[
        &["conversation_id", "requested_by", "agent_id", "status"],
        &["conversation_id", "requested_by", "agent_id"],
        &["conversation_id", "requested_by", "status"],
        &["conversation_id", "agent_id", "status"],
        &["conversation_id", "requested_by"],
        &["conversation_id", "agent_id"],
        &["conversation_id", "status"],
        &["conversation_id"],
        &["requested_by", "agent_id", "status"],
        &["requested_by", "agent_id"],
        &["requested_by", "status"],
        &["requested_by"],
        &["agent_id", "status"],
        &["agent_id", "status", "priority"],
        &["agent_id"],
        &["status"],
        &["waits_until"],
    ];
    type Document = TaskDocument;

    fn ids(event: &Envelope) -> Vec<Uuid> {
        match event.event {
            Event::Task(_) => vec![event.stream.id],
            _ => Vec::new(),
        }
    }

    fn begin(id: Uuid, event: &Envelope) -> Option<TaskDocument> {
        match &event.event {
            Event::Task(TaskEvent::Submitted(submitted)) => Some(begin(id, submitted, event)),
            _ => None,
        }
    }

    fn apply(document: &mut TaskDocument, event: &Envelope) {
        let Event::Task(change) = &event.event else { return };
        let at = event.recorded_at;
        match change {
            TaskEvent::Submitted(_) => {}
            TaskEvent::Started(started) => {
                (document.status, document.ready_at, document.attempt) = (TaskStatus::Running, None, started.attempt);
                document.started_at = document.started_at.or(Some(at));
            }
            TaskEvent::StepCompleted(e) => document.steps = e.step,
            TaskEvent::HeartbeatLost(_) => document.wait(TaskStatus::Queued, at),
            TaskEvent::RetryScheduled(e) => {
                document.wait(TaskStatus::Retrying, e.retry_at);
                document.fail(&e.code, e.personal.known().map(|text| text.message.as_str()));
            }
            TaskEvent::Completed(e) => {
                document.end(TaskStatus::Completed, at);
                document.error_code = None;
                document.write(|text| {
                    text.output = e.personal.known().map(|personal| personal.output.clone());
                    text.error_message = None;
                });
            }
            TaskEvent::Failed(e) => {
                document.end(TaskStatus::Failed, at);
                document.fail(&e.code, e.personal.known().map(|text| text.message.as_str()));
            }
            TaskEvent::DeadLettered(e) => {
                document.end(TaskStatus::Dead, at);
                document.fail(&e.code, e.personal.known().map(|text| text.message.as_str()));
            }
            TaskEvent::Cancelled(_) => document.end(TaskStatus::Cancelled, at),
            TaskEvent::Retried(_) => {
                document.wait(TaskStatus::Queued, at);
                document.finished_at = None;
                document.error_code = None;
                document.write(|text| text.error_message = None);
            }
        }
        (document.sequence, document.position) = (event.sequence, event.position);
    }

    fn keys(document: &TaskDocument) -> Vec<Key> {
        vec![
            document.agent_id.into(),
            document.requested_by.into(),
            document.conversation_id.into(),
            document.status.as_str().into(),
            i64::from(document.priority).into(),
            document.ready_at.into(),
            document.waits_until().into(),
        ]
    }
}
