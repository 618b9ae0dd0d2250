//! Agents as people see them.
use chrono::{DateTime, Utc};
use marvin_domain::{
    AggregateKind, Envelope, Event, Name, Position, Sequence,
    agent::{AgentEvent, AgentStatus, Config, Limits},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Document, Field, Key, Projection};

#[derive(Debug)]
pub struct Agents;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentDocument {
    pub id: Uuid,
    pub name: Name,
    pub description: String,
    pub kind: String,
    pub config: Config,
    pub limits: Limits,
    pub status: AgentStatus,
    pub created_at: DateTime<Utc>,
    pub sequence: Sequence,
    pub position: Position,
}

impl Document for AgentDocument {}

impl Projection for Agents {
    const NAME: &'static str = "agents";
    const VERSION: u32 = 1;
    const KINDS: &'static [AggregateKind] = &[AggregateKind::Agent];
    const FIELDS: &'static [Field] = &[Field::text("kind"), Field::text("status")];
    const INDEXES: &'static [&'static [&'static str]] = &[&["kind", "status"], &["kind"], &["status"]];
    type Document = AgentDocument;

    fn ids(event: &Envelope) -> Vec<Uuid> {
        match event.event {
            Event::Agent(_) => vec![event.stream.id],
            _ => Vec::new(),
        }
    }

    fn begin(id: Uuid, event: &Envelope) -> Option<AgentDocument> {
        let Event::Agent(AgentEvent::Created(created)) = &event.event else { return None };
        let created = created.clone();
        Some(AgentDocument {
            id,
            name: created.name,
            description: created.description,
            kind: created.kind,
            config: created.config,
            limits: created.limits,
            status: AgentStatus::Active,
            created_at: event.recorded_at,
            sequence: event.sequence,
            position: event.position,
        })
    }

    fn apply(document: &mut AgentDocument, event: &Envelope) {
        let Event::Agent(change) = &event.event else { return };
        match change {
            AgentEvent::Created(_) => {}
            AgentEvent::Changed(changed) => {
                let changed = changed.clone();
                document.name = changed.name.unwrap_or_else(|| document.name.clone());
                document.description = changed.description.unwrap_or_else(|| document.description.clone());
                document.config = changed.config.unwrap_or_else(|| document.config.clone());
                document.limits = changed.limits.unwrap_or(document.limits);
            }
            AgentEvent::Paused(_) => document.status = AgentStatus::Paused,
            AgentEvent::Resumed(_) => document.status = AgentStatus::Active,
            AgentEvent::Retired(_) => document.status = AgentStatus::Retired,
        }
        (document.sequence, document.position) = (event.sequence, event.position);
    }

    fn keys(document: &AgentDocument) -> Vec<Key> {
        vec![document.kind.as_str().into(), document.status.as_str().into()]
    }
}
