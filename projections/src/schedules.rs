//! Schedules as people see them: what each gives to whom, when next, and what came of it so far.
use chrono::{DateTime, Utc};
use marvin_domain::{
    AggregateKind, Envelope, Event, Personal, Position, Sequence,
    schedule::{Outcome, PauseReason, Schedule, ScheduleEvent, ScheduleStatus, Words, due_at},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Document, Field, Key, Projection};

#[derive(Debug)]
pub struct Schedules;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScheduleDocument {
    pub id: Uuid,
    #[serde(flatten)]
    pub schedule: Schedule,
    /// When something is to be done about it: a firing, jitter included, or the release of one that waited.
    pub due_at: Option<DateTime<Utc>>,
    /// Whether the end of a task is waited for.
    pub is_watching: bool,
    pub last_fired_at: Option<DateTime<Utc>>,
    pub last_task_id: Option<Uuid>,
    pub last_outcome: Option<Outcome>,
    pub created_at: DateTime<Utc>,
    pub sequence: Sequence,
    pub position: Position,
    #[serde(skip)]
    pub personal: Personal<Words>,
}

impl Document for ScheduleDocument {
    fn subject(&self) -> Option<Uuid> {
        Some(self.schedule.owner)
    }
    fn personal(&self) -> Option<Vec<u8>> {
        self.personal.known().map(marvin_domain::event::to_json)
    }
    fn fill_personal(&mut self, personal: &[u8]) -> Result<(), serde_json::Error> {
        self.personal = Personal::Known(serde_json::from_slice(personal)?);
        Ok(())
    }
}

impl ScheduleDocument {
    /// Why it is paused, if it is.
    pub fn paused_reason(&self) -> Option<PauseReason> {
        self.schedule.paused.filter(|_| self.schedule.status == ScheduleStatus::Paused)
    }

    /// A firing counts from when it was recorded.
    fn record(&mut self, outcome: Outcome, at: DateTime<Utc>) {
        self.last_outcome = Some(outcome);
        if let Outcome::Submitted { task_id } = outcome {
            (self.last_fired_at, self.last_task_id) = (Some(at), Some(task_id));
        }
    }

    fn follow(&mut self, event: &Envelope) {
        let schedule = &self.schedule;
        let planned = schedule.next_at.filter(|_| schedule.status == ScheduleStatus::Active);
        let planned = planned.map(|next| due_at(self.id, next, schedule.policies.jitter_s));
        self.due_at = schedule.released().map(|_| event.recorded_at).or(planned);
        self.is_watching = !schedule.open.is_empty();
        (self.sequence, self.position) = (event.sequence, event.position);
    }
}

impl Projection for Schedules {
    const NAME: &'static str = "schedules";
    const VERSION: u32 = 1;
    const KINDS: &'static [AggregateKind] = &[AggregateKind::Schedule];
    const FIELDS: &'static [Field] = &[
        Field::id("owner"),
        Field::id("agent_id"),
        Field::text("status"),
        Field::time("due_at"),
        Field::flag("is_watching"),
    ];
    const INDEXES: &'static [&'static [&'static str]] =
        &[&["status", "due_at"], &["agent_id", "status"], &["owner", "status"], &["status"], &["is_watching"]];
    type Document = ScheduleDocument;

    fn ids(event: &Envelope) -> Vec<Uuid> {
        match event.event {
            Event::Schedule(_) => vec![event.stream.id],
            _ => Vec::new(),
        }
    }

    fn begin(id: Uuid, event: &Envelope) -> Option<ScheduleDocument> {
        let Event::Schedule(created) = &event.event else { return None };
        let schedule = Schedule::try_from(created).ok()?;
        let ScheduleEvent::Created(created) = created else { return None };
        let mut document = ScheduleDocument {
            id,
            schedule,
            due_at: None,
            is_watching: false,
            last_fired_at: None,
            last_task_id: None,
            last_outcome: None,
            created_at: event.recorded_at,
            sequence: event.sequence,
            position: event.position,
            personal: created.personal.clone(),
        };
        document.follow(event);
        Some(document)
    }

    fn apply(document: &mut ScheduleDocument, event: &Envelope) {
        let Event::Schedule(change) = &event.event else { return };
        document.schedule.follow(change);
        match change {
            ScheduleEvent::Changed(changed) => {
                // Once erased it stays so, whatever a later event still holds.
                if let (Personal::Known(words), Some(new)) = (&mut document.personal, changed.personal.known()) {
                    words.name = new.name.clone().unwrap_or_else(|| words.name.clone());
                    words.input = new.input.clone().unwrap_or_else(|| words.input.clone());
                }
            }
            ScheduleEvent::Fired(fired) => document.record(fired.outcome, event.recorded_at),
            ScheduleEvent::Released(released) => document.record(released.outcome, event.recorded_at),
            _ => {}
        }
        document.follow(event);
    }

    fn keys(document: &ScheduleDocument) -> Vec<Key> {
        let ScheduleDocument { schedule, due_at, is_watching, .. } = document;
        vec![
            schedule.owner.into(),
            schedule.agent_id.into(),
            schedule.status.as_str().into(),
            (*due_at).into(),
            (*is_watching).into(),
        ]
    }
}
