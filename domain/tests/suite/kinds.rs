//! What holds for all kinds of aggregate alike.
use marvin_domain::{
    AggregateKind, Command, Directed, Event, RefusalKind, State, StreamId,
    agent::{Agent, AgentCommand},
    instance,
    task::{Task, TaskCommand},
    user::UserCommand,
};

use crate::{
    given::decided,
    samples::{self, AGENT, TASK},
};

#[test]
fn a_kind_reads_back_from_its_name_and_no_two_share_one() {
    for &kind in AggregateKind::ALL {
        assert_eq!(AggregateKind::parse(kind.as_str()), Some(kind));
    }
    assert_eq!(AggregateKind::parse("Task"), None);
}

#[test]
fn the_kinds_keep_the_names_by_which_streams_are_stored() {
    let names: Vec<&str> = AggregateKind::ALL.iter().map(|kind| kind.as_str()).collect();
    assert_eq!(names, ["instance", "user", "agent", "task", "notification"]);
    assert_eq!(instance::STREAM.to_string(), "instance/00000000-0000-0000-0000-000000000000");
    assert_eq!(StreamId { kind: AggregateKind::Task, id: TASK }.to_string(), format!("task/{TASK}"));
}

#[test]
fn a_command_is_directed_to_a_stream_of_its_kind() {
    let directed = Directed::new(AGENT, AgentCommand::Pause);
    assert_eq!(directed.stream, StreamId { kind: AggregateKind::Agent, id: AGENT });
    assert_eq!(directed.command, Command::Agent(AgentCommand::Pause));
}

#[test]
fn a_command_for_another_kind_of_aggregate_finds_nothing() {
    let refusal = decided(State::new(AggregateKind::Task).handle(UserCommand::Erase.into())).unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::Absent);
}

#[test]
fn a_refusal_keeps_the_words_and_the_kind_of_the_aggregates_error() {
    let refusal = decided(State::new(AggregateKind::Task).handle(TaskCommand::Retry.into())).unwrap_err();
    assert_eq!((refusal.kind, refusal.to_string().as_str()), (RefusalKind::Absent, "there is no such task"));
}

#[test]
fn a_state_applies_what_it_decides() {
    let mut state = State::new(AggregateKind::User);
    for event in samples::of(AggregateKind::User) {
        state.apply(&event);
    }
    assert_eq!(decided(state.handle(UserCommand::Erase.into())), Ok(Vec::new()));
    let mut state = State::new(AggregateKind::Agent);
    state.apply(&samples::of(AggregateKind::Agent)[0]);
    let recorded = decided(state.handle(AgentCommand::Retire.into())).unwrap();
    assert_eq!(recorded.iter().map(Event::event_type).collect::<Vec<_>>(), ["retired"]);
    assert_eq!(decided(state.handle(AgentCommand::Retire.into())), Ok(Vec::new()));
}

#[test]
fn a_state_gives_itself_up_as_its_own_type_only() {
    let state = State::new(AggregateKind::Task);
    assert_eq!(<&Task>::try_from(&state), Ok(&Task::default()));
    assert_eq!(<&Agent>::try_from(&state), Err(()));
}
