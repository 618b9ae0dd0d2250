//! A secret is set, replaced and removed; the log knows which value is in force, never the value.
use marvin_domain::{
    AggregateKind, Directed,
    secret::{
        NAME_CHARS_MAX, Secret, SecretCommand, SecretError, SecretEvent, SecretName, SecretNameError, SecretRemoved,
        SecretSet,
    },
};
use uuid::Uuid;

use crate::given::{given, given_nothing, state_after};

fn name() -> SecretName {
    SecretName::parse("receiver-key").unwrap()
}

/// Values in the order in which they were kept.
fn value(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

fn set(n: u128) -> SecretEvent {
    SecretSet { name: name(), value: value(n) }.into()
}

fn removed() -> SecretEvent {
    SecretRemoved { name: name() }.into()
}

fn to_set(n: u128) -> SecretCommand {
    SecretCommand::Set { name: name(), value: value(n) }
}

#[test]
fn a_secret_is_set_and_set_again() {
    given_nothing::<Secret>().when(to_set(1)).then([set(1)]);
    given([set(1)]).when(to_set(2)).then([set(2)]);
    assert_eq!(state_after([set(1), set(2)]).value, Some(value(2)));
}

#[test]
fn bringing_the_value_in_force_into_force_changes_nothing() {
    given([set(1)]).when(to_set(1)).then_nothing();
}

#[test]
fn an_older_value_never_comes_into_force_any_more() {
    given([set(2)]).when(to_set(1)).then_error(SecretError::Overtaken);
    given([set(2), removed()]).when(to_set(1)).then_error(SecretError::Overtaken);
    given([set(2), removed()]).when(to_set(2)).then_error(SecretError::Overtaken);
    given([set(2), removed()]).when(to_set(3)).then([set(3)]);
}

#[test]
fn only_a_secret_that_is_set_is_removed() {
    given([set(1)]).when(SecretCommand::Remove { name: name() }).then([removed()]);
    given([set(1), removed()]).when(SecretCommand::Remove { name: name() }).then_error(SecretError::Absent);
    given_nothing::<Secret>().when(SecretCommand::Remove { name: name() }).then_error(SecretError::Absent);
    assert_eq!(state_after([set(1), removed()]).value, None);
}

#[test]
fn a_name_stands_in_paths_and_leads_to_a_stream_of_its_own() {
    for fits in ["a", "A-1_b.c", "0", &"x".repeat(NAME_CHARS_MAX)] {
        assert_eq!(SecretName::parse(fits).unwrap().as_str(), fits);
    }
    for refused in ["", ".", "-a", "_a", "a b", "a/b", "ä", "a\0", "a%2f", &"x".repeat(NAME_CHARS_MAX + 1)] {
        assert_eq!(SecretName::parse(refused), Err(SecretNameError), "{refused}");
    }
    let directed: Directed = to_set(1).directed();
    assert_eq!((directed.stream, directed.stream.kind), (name().stream(), AggregateKind::Secret));
    assert_ne!(name().stream(), SecretName::parse("other").unwrap().stream());
}
