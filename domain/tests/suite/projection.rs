//! An administrator takes events out of a projection, one by one, and says why.
use marvin_domain::{
    AggregateKind, Personal, RefusalKind, Refuse, Rooted,
    projection::{
        self, Projection, ProjectionCommand, ProjectionError, ProjectionEvent, ProjectionSkipped, REASON_CHARS_MAX,
        Reason, SKIPS_MAX,
    },
};
use std::collections::HashSet;
use uuid::Uuid;

use crate::{
    given::{given, given_nothing, state_after},
    samples::{ADA, BOB},
};

fn reason(reason: &str) -> Reason {
    Reason { reason: reason.into() }
}

fn skip(position: u64, administrator: Uuid, why: &str) -> ProjectionCommand {
    ProjectionCommand::Skip { name: "tasks".into(), version: 2, position, administrator, reason: reason(why) }
}

fn skipped(position: u64, administrator: Uuid) -> ProjectionEvent {
    let personal = Personal::Known(reason("It was written by hand"));
    ProjectionSkipped { name: "tasks".into(), version: 2, position, administrator, personal }.into()
}

#[test]
fn an_event_is_skipped_with_who_did_it_and_why() {
    given_nothing::<Projection>().when(skip(7, ADA, "It was written by hand")).then([skipped(7, ADA)]);
    given([skipped(7, ADA)]).when(skip(8, BOB, "It was written by hand")).then([skipped(8, BOB)]);
}

#[test]
fn skipping_again_changes_nothing() {
    given([skipped(7, ADA), skipped(8, ADA)]).when(skip(7, BOB, "Another reason")).then_nothing();
}

#[test]
fn a_skip_needs_a_position_and_a_reason_of_bounded_length() {
    given_nothing::<Projection>().when(skip(0, ADA, "why")).then_error(ProjectionError::NoPosition);
    for none in ["", " \n"] {
        given_nothing::<Projection>().when(skip(7, ADA, none)).then_error(ProjectionError::NoReason);
    }
    let long = |chars| skip(7, ADA, &"ä".repeat(chars));
    given_nothing::<Projection>().when(long(REASON_CHARS_MAX + 1)).then_error(ProjectionError::ReasonTooLong);
    assert_eq!(given_nothing::<Projection>().when(long(REASON_CHARS_MAX)).result().unwrap().len(), 1);
    assert_eq!(ProjectionError::NoReason.kind(), RefusalKind::Rule);
}

#[test]
fn a_projection_that_would_pass_over_too_much_is_to_be_mended() {
    let full = || (1..=SKIPS_MAX as u64).map(|position| skipped(position, ADA));
    given(full()).when(skip(5_000, ADA, "why")).then_error(ProjectionError::TooManySkips);
    given(full()).when(skip(1, ADA, "why")).then_nothing();
    assert_eq!(given(full().skip(1)).when(skip(5_000, ADA, "why")).result().unwrap().len(), 1);
}

#[test]
fn the_state_tells_the_skipped_positions_in_order() {
    let state = state_after([skipped(9, ADA), skipped(7, BOB)]);
    assert_eq!(state.skipped().collect::<Vec<_>>(), [7, 9]);
}

#[test]
fn each_reason_is_sealed_under_the_key_of_who_gave_it() {
    let id = projection::stream("tasks", 2).id;
    assert_eq!(Projection::default().subject(id), None);
    assert_eq!(state_after([skipped(7, ADA)]).subject(id), Some(ADA));
    assert_eq!(state_after([skipped(7, ADA), skipped(8, BOB)]).subject(id), Some(BOB));
}

#[test]
fn each_version_of_a_projection_has_one_stream_of_its_own() {
    let versions = [("tasks", 1), ("tasks", 2), ("tasks", 12), ("steps", 1)];
    let streams: HashSet<_> = versions.iter().map(|(name, version)| projection::stream(name, *version)).collect();
    assert_eq!(streams.len(), versions.len());
    let stream = projection::stream("tasks", 2);
    assert_eq!((stream.kind, stream), (AggregateKind::Projection, skip(7, ADA, "why").directed().stream));
    let id = "projection/00000000-0000-7adb-90d9-61618d6b1f0a";
    assert_eq!(stream.to_string(), id, "it stays, or what was skipped is forgotten");
}
