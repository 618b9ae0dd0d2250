//! The stored form of every event. A changed snapshot means: write an upcaster, the log keeps the old form for ever.
use marvin_domain::{
    Actor, Event, Metadata,
    agent::{AgentChanged, AgentEvent},
};
use std::collections::HashSet;

use crate::samples::{self, ADA, AGENT, BOB, CONVERSATION, TASK, name};

/// `task.completed.v1`.
fn full_type(event: &Event) -> String {
    format!("{}.{}.v{}", event.kind().as_str(), event.event_type(), event.version())
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

#[test]
fn every_event_keeps_its_stored_form() {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("stored");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| {
        for event in samples::all() {
            let personal = event.personal().map_or("none".into(), text);
            let stored = format!("facts    {}\npersonal {personal}", text(event.facts()));
            insta::assert_snapshot!(full_type(&event), stored);
        }
    });
}

#[test]
fn every_event_has_a_type_of_its_own() {
    let types: HashSet<String> = samples::all().iter().map(full_type).collect();
    assert_eq!(types.len(), samples::all().len());
}

#[test]
fn a_change_stores_only_what_changed() {
    let changed = AgentChanged { name: Some(name("Oracle")), description: None, config: None, limits: None };
    let event = Event::Agent(AgentEvent::Changed(changed));
    assert_eq!(text(event.facts()), r#"{"name":"Oracle"}"#);
    assert_eq!(Event::decode(event.kind(), "changed", 1, &event.facts(), None).unwrap(), event);
}

#[test]
fn metadata_keeps_its_stored_form() {
    let full = Metadata {
        actor: Actor::Agent(AGENT),
        subject: Some(ADA),
        correlation: CONVERSATION,
        causation: Some(TASK),
        digest: Some("c0ffee".into()),
    };
    let least =
        Metadata { actor: Actor::System, subject: None, correlation: CONVERSATION, causation: None, digest: None };
    let stored = |metadata: &Metadata| serde_json::to_string(metadata).unwrap();
    for metadata in [&full, &least] {
        assert_eq!(serde_json::from_str::<Metadata>(&stored(metadata)).unwrap(), *metadata);
    }
    insta::assert_snapshot!(stored(&full), @r#"{"actor":"agent/01990000-0000-7000-8000-000000000a9e","subject":"01990000-0000-7000-8000-0000000000a1","correlation":"01990000-0000-7000-8000-00000000c044","causation":"01990000-0000-7000-8000-000000007a5c","digest":"c0ffee"}"#);
    insta::assert_snapshot!(stored(&least), @r#"{"actor":"system","correlation":"01990000-0000-7000-8000-00000000c044"}"#);
}

#[test]
fn an_actor_reads_back_from_its_name() {
    for (actor, written) in [
        (Actor::User(BOB), format!("user/{BOB}")),
        (Actor::Agent(AGENT), format!("agent/{AGENT}")),
        (Actor::System, "system".to_owned()),
    ] {
        assert_eq!(String::from(actor), written);
        assert_eq!(written.parse(), Ok(actor));
    }
    for unknown in ["", "system/", "robot/1", "user/ada", "user"] {
        assert!(unknown.parse::<Actor>().is_err(), "{unknown}");
    }
}
