//! What each event does to an agent as people see it.
use marvin_domain::{
    Event,
    agent::{AgentChanged, AgentCreated, AgentEvent, AgentPaused, AgentResumed, AgentRetired, AgentStatus, Limits},
};
use marvin_projections::{
    Field, Key, Projection,
    agents::{AgentDocument, Agents},
};
use serde_json::json;

use crate::{
    journal::document_after,
    samples::{AGENT, at, name},
};

fn created() -> AgentEvent {
    AgentCreated {
        name: name("Scribe"),
        description: "Writes things down".into(),
        kind: "rules".into(),
        config: json!({ "rules": [] }).into(),
        limits: Limits::default(),
    }
    .into()
}

fn after(events: impl IntoIterator<Item = AgentEvent>) -> AgentDocument {
    document_after::<Agents>(AGENT, [created()].into_iter().chain(events).map(Event::Agent))
}

#[test]
fn a_created_agent_is_active_and_is_what_was_given() {
    assert_eq!(
        after([]),
        AgentDocument {
            id: AGENT,
            name: name("Scribe"),
            description: "Writes things down".into(),
            kind: "rules".into(),
            config: json!({ "rules": [] }).into(),
            limits: Limits::default(),
            status: AgentStatus::Active,
            created_at: at(101),
            sequence: 1,
            position: 101,
        }
    );
}

#[test]
fn a_change_replaces_what_it_names() {
    let limits = Limits { max_attempts: 2, ..Limits::default() };
    let all = AgentChanged {
        name: Some(name("Oracle")),
        description: Some("Tells what comes".into()),
        config: Some(json!({ "horizon": 12 }).into()),
        limits: Some(limits),
    };
    let changed = AgentDocument {
        name: name("Oracle"),
        description: "Tells what comes".into(),
        config: json!({ "horizon": 12 }).into(),
        limits,
        sequence: 2,
        position: 102,
        ..after([])
    };
    assert_eq!(after([all.into()]), changed);
}

#[test]
fn a_change_keeps_what_it_does_not_name() {
    let nothing = || AgentChanged { name: None, description: None, config: None, limits: None };
    let untouched = || AgentDocument { sequence: 2, position: 102, ..after([]) };
    assert_eq!(after([nothing().into()]), untouched());
    let renamed = AgentChanged { name: Some(name("Oracle")), ..nothing() };
    assert_eq!(after([renamed.into()]), AgentDocument { name: name("Oracle"), ..untouched() });
}

#[test]
fn the_status_follows_pausing_resuming_and_retiring() {
    let (paused, resumed) = (|| AgentPaused {}.into(), || AgentResumed {}.into());
    assert_eq!(
        after([paused()]),
        AgentDocument { status: AgentStatus::Paused, sequence: 2, position: 102, ..after([]) }
    );
    assert_eq!(after([paused(), resumed()]), AgentDocument { sequence: 3, position: 103, ..after([]) });
    assert_eq!(
        after([paused(), AgentRetired {}.into()]),
        AgentDocument { status: AgentStatus::Retired, sequence: 3, position: 103, ..after([]) }
    );
}

#[test]
fn agents_are_found_by_kind_and_status() {
    assert_eq!(Agents::FIELDS, [Field::text("kind"), Field::text("status")]);
    assert_eq!(Agents::keys(&after([])), [Key::from("rules"), Key::from("active")]);
    assert_eq!(Agents::keys(&after([AgentRetired {}.into()])), [Key::from("rules"), Key::from("retired")]);
}
