//! A projection of a test's own, in any version: what agents are called, and how often they changed. One that is fragile cannot take
//! what is described as poison.
use marvin_domain::{
    AggregateKind, Envelope, Event, Name,
    agent::{AgentCommand, AgentEvent, Limits},
};
use marvin_projections::{Document, Field, Key, Projection};
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::World;

pub const POISON: &str = "poison";

pub struct Names<const VERSION: u32, const FRAGILE: bool = false>;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Called {
    pub name: Name,
    pub description: String,
    pub changes: u32,
    /// Of the projection that made it.
    pub version: u32,
}

impl Document for Called {}

impl<const VERSION: u32, const FRAGILE: bool> Projection for Names<VERSION, FRAGILE> {
    const NAME: &'static str = "names";
    const VERSION: u32 = VERSION;
    const KINDS: &'static [AggregateKind] = &[AggregateKind::Agent];
    const FIELDS: &'static [Field] = &[Field::integer("changes")];
    const INDEXES: &'static [&'static [&'static str]] = &[&["changes"]];
    type Document = Called;

    fn ids(event: &Envelope) -> Vec<Uuid> {
        vec![event.stream.id]
    }

    fn begin(_: Uuid, event: &Envelope) -> Option<Called> {
        let Event::Agent(AgentEvent::Created(created)) = &event.event else { return None };
        assert!(!FRAGILE || created.description != POISON, "this one is poison");
        let (name, description) = (created.name.clone(), created.description.clone());
        Some(Called { name, description, changes: 0, version: VERSION })
    }

    fn apply(document: &mut Called, event: &Envelope) {
        if let Event::Agent(AgentEvent::Changed(changed)) = &event.event {
            if let Some(description) = &changed.description {
                assert!(!FRAGILE || description != POISON, "this one is poison");
                document.description.clone_from(description);
            }
            document.changes += 1;
        }
    }

    fn keys(document: &Called) -> Vec<Key> {
        vec![i64::from(document.changes).into()]
    }
}

/// Creates an agent.
pub async fn named(world: &World, name: &str, description: &str) -> Uuid {
    let id = Uuid::now_v7();
    let create = AgentCommand::Create {
        name: Name::parse(name).unwrap(),
        description: description.to_owned(),
        kind: "rules".to_owned(),
        config: json!({ "rules": [] }).into(),
        limits: Limits::default(),
    };
    world.stack.send(id, create).await;
    id
}

/// Changes an agent, and answers the event's position.
pub async fn changed(world: &World, id: Uuid, description: &str) -> u64 {
    let description = Some(description.to_owned());
    world.stack.send(id, AgentCommand::Change { name: None, description, config: None, limits: None }).await.position
}
