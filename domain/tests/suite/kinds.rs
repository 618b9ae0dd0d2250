//! What holds for all kinds of aggregate alike.
use marvin_domain::{
    AggregateKind, Command, Directed, Event, RefusalKind, Refuse, State, StreamId,
    agent::{Agent, AgentCommand, AgentError},
    instance::{self, InstanceError},
    projection::ProjectionError,
    schedule::{ScheduleError, TimingError},
    secret::SecretError,
    task::{Task, TaskCommand, TaskError},
    user::{UserCommand, UserError},
};
use std::collections::BTreeSet;

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
    assert_eq!(
        names,
        ["instance", "user", "agent", "task", "notification", "projection", "channel", "schedule", "secret"]
    );
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
    assert_eq!((refusal.kind, refusal.code), (RefusalKind::Absent, "wrong_aggregate"));
}

#[test]
fn a_refusal_keeps_the_words_and_the_kind_of_the_aggregates_error() {
    let refusal = decided(State::new(AggregateKind::Task).handle(TaskCommand::Retry.into())).unwrap_err();
    assert_eq!((refusal.kind, refusal.to_string().as_str()), (RefusalKind::Absent, "there is no such task"));
    assert_eq!(refusal.code, "absent");
}

/// Programs compare codes; who changes one changes what others rely on.
#[test]
fn every_refusal_has_a_code_of_its_own_that_stays() {
    let task = [
        TaskError::Absent,
        TaskError::AlreadySubmitted,
        TaskError::Priority,
        TaskError::ChainTooDeep,
        TaskError::TooManySteps,
        TaskError::StepOutOfOrder { expected: 2 },
        TaskError::NotReady,
        TaskError::Ended,
        TaskError::ToldTwice,
        TaskError::LateResult,
        TaskError::NotRetryable,
    ];
    insta::assert_snapshot!(codes(task), @"absent already_submitted priority chain_too_deep too_many_steps step_out_of_order not_ready ended told_twice late_result not_retryable");
    let limit = AgentError::LimitOutOfBounds { field: "max_attempts", min: 1, max: 20 };
    insta::assert_snapshot!(codes([AgentError::Absent, AgentError::AlreadyExists, AgentError::Retired, limit]), @"absent already_exists retired limit_out_of_bounds");
    insta::assert_snapshot!(codes([UserError::Absent, UserError::AlreadyRegistered, UserError::NoRole]), @"absent already_registered no_role");
    let instance = [InstanceError::AlreadySetUp, InstanceError::NotSetUp, InstanceError::LastAdministrator];
    insta::assert_snapshot!(codes(instance), @"already_set_up not_set_up last_administrator");
    let projection = [
        ProjectionError::NoPosition,
        ProjectionError::NoReason,
        ProjectionError::ReasonTooLong,
        ProjectionError::TooManySkips,
    ];
    let schedule = [
        ScheduleError::Absent,
        ScheduleError::AlreadyExists,
        TimingError::Cron(String::new()).into(),
        TimingError::NeverFires.into(),
        TimingError::Moment.into(),
        TimingError::Timezone.into(),
        ScheduleError::Jitter,
        ScheduleError::NotDue,
        ScheduleError::Overlap,
        ScheduleError::TooManyOpen,
    ];
    insta::assert_snapshot!(codes(schedule), @"absent already_exists cron never_fires moment timezone jitter not_due overlap too_many_open");
    insta::assert_snapshot!(codes(projection), @"no_position no_reason reason_too_long too_many_skips");
    insta::assert_snapshot!(codes([SecretError::Absent, SecretError::Overtaken]), @"absent overtaken");
}

fn codes<E: Refuse, const N: usize>(errors: [E; N]) -> String {
    let codes = errors.map(|error| error.code());
    assert_eq!(BTreeSet::from(codes).len(), N, "{codes:?}");
    codes.join(" ")
}

#[test]
fn a_state_applies_what_it_decides() {
    let mut state = State::new(AggregateKind::User);
    for event in samples::of(AggregateKind::User) {
        state.apply(event);
    }
    assert_eq!(decided(state.handle(UserCommand::Erase.into())), Ok(Vec::new()));
    let mut state = State::new(AggregateKind::Agent);
    state.apply(samples::of(AggregateKind::Agent).swap_remove(0));
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
