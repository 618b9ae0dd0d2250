//! How much work each agent was given, and how much of it is done.
use chrono::{DateTime, Utc};
use marvin_domain::{AggregateKind, Envelope, Event, task::TaskEvent};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Document, Field, Key, Projection};

#[derive(Debug)]
pub struct Workload;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkloadDocument {
    pub agent_id: Uuid,
    pub submitted: u64,
    pub completed: u64,
    pub last_at: DateTime<Utc>,
}

impl Document for WorkloadDocument {}

impl Projection for Workload {
    const NAME: &'static str = "workload";
    const VERSION: u32 = 1;
    const KINDS: &'static [AggregateKind] = &[AggregateKind::Task];
    const FIELDS: &'static [Field] = &[Field::time("last_at")];
    const INDEXES: &'static [&'static [&'static str]] = &[&["last_at"]];
    type Document = WorkloadDocument;

    fn ids(event: &Envelope) -> Vec<Uuid> {
        match &event.event {
            Event::Task(TaskEvent::Submitted(submitted)) => vec![submitted.agent_id],
            Event::Task(TaskEvent::Completed(completed)) => vec![completed.agent_id],
            _ => Vec::new(),
        }
    }

    fn begin(id: Uuid, event: &Envelope) -> Option<WorkloadDocument> {
        let Event::Task(TaskEvent::Submitted(_)) = &event.event else { return None };
        Some(WorkloadDocument { agent_id: id, submitted: 1, completed: 0, last_at: event.recorded_at })
    }

    fn apply(document: &mut WorkloadDocument, event: &Envelope) {
        match &event.event {
            Event::Task(TaskEvent::Submitted(_)) => document.submitted += 1,
            _ => document.completed += 1,
        }
        document.last_at = event.recorded_at;
    }

    fn keys(document: &WorkloadDocument) -> Vec<Key> {
        vec![document.last_at.into()]
    }
}
