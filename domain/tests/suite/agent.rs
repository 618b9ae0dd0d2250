//! An agent is created, changed, paused, resumed and retired; retired is for good.
use marvin_domain::{
    RefusalKind, Refuse, Rooted,
    agent::{
        Agent, AgentChanged, AgentCommand,
        AgentCommand::{Pause, Resume, Retire},
        AgentCreated, AgentError, AgentEvent, AgentPaused, AgentResumed, AgentRetired, AgentStatus, Limits,
    },
};
use serde_json::json;

use crate::{
    given::{given, given_nothing, state_after},
    samples::{AGENT, name},
};

const UNCHANGED: AgentCommand = AgentCommand::Change { name: None, description: None, config: None, limits: None };
const NO_CHANGE: AgentChanged = AgentChanged { name: None, description: None, config: None, limits: None };

fn create() -> AgentCommand {
    AgentCommand::Create {
        name: name("Scribe"),
        description: "Writes things down".into(),
        kind: "rules".into(),
        config: json!({ "rules": [] }).into(),
        limits: Limits::default(),
    }
}

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

fn renamed() -> AgentChanged {
    AgentChanged { name: Some(name("Oracle")), ..NO_CHANGE }
}

fn rename() -> AgentCommand {
    AgentCommand::Change { name: Some(name("Oracle")), description: None, config: None, limits: None }
}

fn paused() -> AgentEvent {
    AgentPaused {}.into()
}

fn resumed() -> AgentEvent {
    AgentResumed {}.into()
}

fn retired() -> AgentEvent {
    AgentRetired {}.into()
}

#[test]
fn an_agent_is_created_with_all_it_is() {
    given_nothing::<Agent>().when(create()).then([created()]);
}

#[test]
fn an_agent_is_created_once() {
    given([created()]).when(create()).then_error(AgentError::AlreadyExists);
    given([created(), retired()]).when(create()).then_error(AgentError::AlreadyExists);
}

#[test]
fn what_was_never_created_takes_no_command() {
    for command in [rename(), UNCHANGED, Pause, Resume, Retire] {
        given_nothing::<Agent>().when(command).then_error(AgentError::Absent);
    }
}

#[test]
fn a_change_records_only_what_differs() {
    let change = AgentCommand::Change {
        name: Some(name("Scribe")),
        description: Some("Tells what comes".into()),
        config: Some(json!({ "rules": [] }).into()),
        limits: Some(Limits { max_concurrency: 1, ..Limits::default() }),
    };
    given([created()]).when(change).then([AgentChanged {
        description: Some("Tells what comes".into()),
        limits: Some(Limits { max_concurrency: 1, ..Limits::default() }),
        ..NO_CHANGE
    }]);
    let config = || Some(json!({ "rules": [1] }).into());
    given([created()])
        .when(AgentCommand::Change { name: Some(name("Oracle")), description: None, config: config(), limits: None })
        .then([AgentChanged { config: config(), ..renamed() }]);
}

#[test]
fn a_change_that_changes_nothing_is_not_recorded() {
    given([created()]).when(UNCHANGED).then_nothing();
    given([created(), renamed().into()]).when(rename()).then_nothing();
}

#[test]
fn an_agent_can_be_paused_and_resumed() {
    given([created()]).when(Pause).then([AgentPaused {}]);
    given([created(), paused()]).when(Resume).then([AgentResumed {}]);
    given([created(), paused(), resumed()]).when(Pause).then([AgentPaused {}]);
}

#[test]
fn pausing_and_resuming_again_change_nothing() {
    given([created(), paused()]).when(Pause).then_nothing();
    given([created()]).when(Resume).then_nothing();
    given([created(), paused(), resumed()]).when(Resume).then_nothing();
}

#[test]
fn a_paused_agent_can_be_changed_and_retired() {
    given([created(), paused()]).when(rename()).then([renamed()]);
    given([created(), paused()]).when(Retire).then([AgentRetired {}]);
}

#[test]
fn retiring_again_changes_nothing() {
    given([created(), retired()]).when(Retire).then_nothing();
}

#[test]
fn a_retired_agent_is_neither_changed_nor_paused_nor_resumed() {
    for command in [rename(), UNCHANGED, Pause, Resume] {
        given([created(), retired()]).when(command).then_error(AgentError::Retired);
    }
}

#[test]
fn the_state_follows_every_event() {
    let status_after = |events: Vec<AgentEvent>| state_after(events).profile().unwrap().status;
    assert_eq!(Agent::default().profile(), None);
    assert_eq!(status_after(vec![created()]), AgentStatus::Active);
    assert_eq!(status_after(vec![created(), paused()]), AgentStatus::Paused);
    assert_eq!(status_after(vec![created(), paused(), resumed()]), AgentStatus::Active);
    assert_eq!(status_after(vec![created(), paused(), retired()]), AgentStatus::Retired);
    let changed = AgentChanged {
        name: Some(name("Oracle")),
        description: Some(String::new()),
        config: Some(json!({ "rules": [1] }).into()),
        limits: Some(Limits { max_attempts: 1, ..Limits::default() }),
    };
    let agent = state_after([created(), changed.into()]);
    let profile = agent.profile().unwrap();
    assert_eq!((profile.name.as_str(), profile.description.as_str(), profile.kind.as_str()), ("Oracle", "", "rules"));
    assert_eq!((&*profile.config, profile.limits.max_attempts), (&json!({ "rules": [1] }), 1));
}

#[test]
fn an_agent_belongs_to_nobody() {
    assert_eq!(state_after([created()]).subject(AGENT), None);
}

#[test]
fn a_status_is_called_the_same_everywhere() {
    for status in [AgentStatus::Active, AgentStatus::Paused, AgentStatus::Retired] {
        assert_eq!(serde_json::to_value(status).unwrap(), status.as_str());
    }
}

#[test]
fn each_refusal_says_what_the_caller_can_do() {
    assert_eq!(AgentError::Absent.kind(), RefusalKind::Absent);
    assert_eq!(AgentError::AlreadyExists.kind(), RefusalKind::Late);
    assert_eq!(AgentError::Retired.kind(), RefusalKind::Rule);
    assert_eq!(AgentError::LimitOutOfBounds { field: "timeout_ms", min: 1, max: 2 }.kind(), RefusalKind::Rule);
}
