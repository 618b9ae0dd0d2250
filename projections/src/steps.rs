//! The steps of tasks, each a document of its own: what was done, and when. Results stay in the journal.
use chrono::{DateTime, Utc};
use marvin_domain::{
    AggregateKind, Envelope, Event, Position, Sequence,
    task::{STEPS_MAX, TaskEvent},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Document, Field, Key, Projection};

#[derive(Debug)]
pub struct Steps;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepDocument {
    pub id: Uuid,
    pub task_id: Uuid,
    /// 1, 2, 3 … within the task.
    pub step: u32,
    pub kind: String,
    pub name: String,
    pub started_at: DateTime<Utc>,
    pub finished_at: DateTime<Utc>,
    /// Where the step stands in its task's stream.
    pub sequence: Sequence,
    pub position: Position,
}

impl Document for StepDocument {}

/// Low bits of a step's id that number it within its task.
const NUMBER_BITS: u32 = 16;
const _: () = assert!(STEPS_MAX < 1 << NUMBER_BITS);

/// The id of a task's step: the task's own, with the step's number in place of its last bits. So a task's steps stand together
/// and in order wherever ids do, and the other 58 random bits tell tasks of the same millisecond apart.
///
/// # Panics
/// At a step that no task can have.
pub fn step_id(task_id: Uuid, step: u32) -> Uuid {
    assert!(step <= STEPS_MAX, "no task has that many steps");
    let task = task_id.as_u128() >> NUMBER_BITS << NUMBER_BITS;
    Uuid::from_u128(task | u128::from(step))
}

impl Projection for Steps {
    const NAME: &'static str = "steps";
    const VERSION: u32 = 1;
    const KINDS: &'static [AggregateKind] = &[AggregateKind::Task];
    const FIELDS: &'static [Field] = &[Field::id("task_id")];
    const INDEXES: &'static [&'static [&'static str]] = &[&["task_id"]];
    type Document = StepDocument;

    fn ids(event: &Envelope) -> Vec<Uuid> {
        match &event.event {
            Event::Task(TaskEvent::StepCompleted(completed)) => vec![step_id(event.stream.id, completed.step)],
            _ => Vec::new(),
        }
    }

    fn begin(id: Uuid, event: &Envelope) -> Option<StepDocument> {
        let Event::Task(TaskEvent::StepCompleted(completed)) = &event.event else { return None };
        Some(StepDocument {
            id,
            task_id: event.stream.id,
            step: completed.step,
            kind: completed.kind.clone(),
            name: completed.name.clone(),
            started_at: completed.started_at,
            finished_at: event.recorded_at,
            sequence: event.sequence,
            position: event.position,
        })
    }

    /// A step is recorded once, so nothing changes one. Were it recorded again, the later one would hold.
    fn apply(document: &mut StepDocument, event: &Envelope) {
        if let Some(again) = Self::begin(document.id, event) {
            *document = again;
        }
    }

    fn keys(document: &StepDocument) -> Vec<Key> {
        vec![document.task_id.into()]
    }
}
