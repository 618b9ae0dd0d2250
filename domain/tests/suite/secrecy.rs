//! A person's words are in the personal part of an event and nowhere else: not in facts, logs or states.
use marvin_domain::{
    AggregateKind, Command, Event, Personal, State,
    agent::Agent,
    channel::Channel,
    instance::Instance,
    notification::{Link, Message, Notification, NotificationCommand, Severity},
    projection::{Projection, ProjectionCommand, Reason},
    schedule::ScheduleState,
    secret::Secret,
    task::{Failure, FailureText, Input, Output, StepResult, Submission, Task, TaskCommand},
    user::{Profile, Role, User, UserCommand},
};
use serde_json::{Value, json};

use crate::{
    samples::{self, ADA, CREDENTIAL, MARKER, TASK, at, name},
    task_journal::submission,
};

fn assert_silent(what: &str, told: &str) {
    assert!(!told.contains(MARKER), "{what} tells {told}");
}

fn every_text_is_planted(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains(MARKER),
        Value::Array(items) => !items.is_empty() && items.iter().all(every_text_is_planted),
        Value::Object(fields) => !fields.is_empty() && fields.values().all(every_text_is_planted),
        _ => false,
    }
}

#[test]
fn the_examples_plant_the_marker_in_every_personal_field() {
    for personal in samples::all().iter().filter_map(Event::personal) {
        let personal: Value = serde_json::from_slice(&personal).unwrap();
        assert!(every_text_is_planted(&personal), "{personal}");
    }
}

#[test]
fn facts_hold_nothing_personal() {
    for event in samples::all() {
        assert_silent("the facts", &String::from_utf8(event.facts()).unwrap());
    }
}

#[test]
fn debug_output_of_an_event_shows_nothing_personal() {
    for event in samples::all() {
        assert_silent("the event", &format!("{event:?}{event:#?}"));
    }
}

#[test]
fn an_erased_event_holds_nothing_personal() {
    for mut event in samples::all() {
        event.erase();
        assert_eq!(event.personal(), None);
    }
}

/// The state as JSON: what a snapshot of it would hold.
fn serialised(state: &State) -> String {
    let json = match state {
        State::Instance(state) => serde_json::to_string::<Instance>(state),
        State::User(state) => serde_json::to_string::<User>(state),
        State::Agent(state) => serde_json::to_string::<Agent>(state),
        State::Task(state) => serde_json::to_string::<Task>(state),
        State::Notification(state) => serde_json::to_string::<Notification>(state),
        State::Projection(state) => serde_json::to_string::<Projection>(state),
        State::Channel(state) => serde_json::to_string::<Channel>(state),
        State::Schedule(state) => serde_json::to_string::<ScheduleState>(state),
        State::Secret(state) => serde_json::to_string::<Secret>(state),
    };
    json.unwrap()
}

#[test]
fn no_state_remembers_anything_personal() {
    for &kind in AggregateKind::ALL {
        let mut state = State::new(kind);
        for event in samples::of(kind) {
            state.apply(event);
            assert_silent("the state", &serialised(&state));
            assert_silent("the state", &format!("{state:?}"));
        }
    }
}

/// Whoever decides opens the facts only.
#[test]
fn a_state_is_the_same_whether_or_not_the_words_were_read() {
    for &kind in AggregateKind::ALL {
        let (mut told, mut untold) = (State::new(kind), State::new(kind));
        for event in samples::of(kind) {
            let mut silent = event.clone();
            silent.erase();
            told.apply(event);
            untold.apply(silent);
            assert_eq!(serialised(&told), serialised(&untold));
        }
    }
}

fn message() -> Message {
    Message { title: MARKER.into(), body: MARKER.into() }
}

fn profile() -> Profile {
    Profile { email: MARKER.into(), display_name: name(MARKER) }
}

fn reason() -> Reason {
    Reason { reason: MARKER.into() }
}

/// Every command that carries a person's words.
fn commands() -> Vec<Command> {
    let link = Link { kind: "task".into(), id: TASK };
    let failure = Failure::new("broken", MARKER);
    vec![
        UserCommand::Register { profile: profile(), roles: [Role::Member].into(), credential: CREDENTIAL }.into(),
        TaskCommand::Submit(Submission { input: json!(MARKER), ..submission(1) }).into(),
        TaskCommand::CompleteStep {
            attempt: 1,
            step: 1,
            kind: "tool".into(),
            name: "look_up".into(),
            started_at: at(0),
            result: json!(MARKER),
        }
        .into(),
        TaskCommand::TellStep {
            step: 2,
            kind: "callback".into(),
            name: "answer".into(),
            at: at(0),
            result: json!(MARKER),
        }
        .into(),
        TaskCommand::Complete { attempt: 1, output: json!(MARKER) }.into(),
        TaskCommand::Fail { attempt: 1, failure, retry_at: None }.into(),
        NotificationCommand::Raise { recipient: ADA, severity: Severity::Info, link, message: message() }.into(),
        ProjectionCommand::Skip { name: "tasks".into(), version: 2, position: 7, administrator: ADA, reason: reason() }
            .into(),
    ]
}

#[test]
fn debug_output_of_a_command_shows_nothing_personal() {
    for command in commands() {
        assert_silent("the command", &format!("{command:?}{command:#?}"));
    }
}

#[test]
fn debug_output_of_a_persons_words_shows_nothing_of_them() {
    let words = [
        format!("{:?}", Personal::Known(MARKER)),
        format!("{:?}", profile()),
        format!("{:?}", message()),
        format!("{:?}", reason()),
        format!("{:?}", Input { input: json!(MARKER) }),
        format!("{:?}", Output { output: json!(MARKER) }),
        format!("{:?}", StepResult { result: json!(MARKER) }),
        format!("{:?}", FailureText { message: MARKER.into() }),
        format!("{:?}", Failure::new("broken", MARKER)),
    ];
    words.iter().for_each(|told| assert_silent("debug output", told));
}

#[test]
fn debug_output_of_a_command_still_says_which_it_is() {
    let shown: Vec<String> = commands().iter().map(|command| format!("{command:?}")).collect();
    insta::assert_snapshot!(shown.join("\n"), @r#"
    User(Register { profile: Profile(…), roles: {Member}, credential: 01990000-0000-7000-8000-00000000c4ed })
    Task(Submit(Submission { agent_id: 01990000-0000-7000-8000-000000000a9e, requested_by: 01990000-0000-7000-8000-0000000000a1, parent: None, .. }))
    Task(CompleteStep { attempt: 1, step: 1, .. })
    Task(TellStep { step: 2, .. })
    Task(Complete { attempt: 1, .. })
    Task(Fail { attempt: 1, failure: Failure(broken), retry_at: None })
    Notification(Raise { recipient: 01990000-0000-7000-8000-0000000000a1, severity: Info, link: Link { kind: "task", id: 01990000-0000-7000-8000-000000007a5c }, message: Message(…) })
    Projection(Skip { name: "tasks", version: 2, position: 7, administrator: 01990000-0000-7000-8000-0000000000a1, reason: Reason(…) })
    "#);
}
