//! A person registers once and, once erased, does not come back.
use marvin_domain::{
    Personal, RefusalKind, Refuse, Rooted,
    user::{
        Profile, Role, Standing, User, UserCommand, UserCommand::Erase, UserErased, UserError, UserEvent,
        UserRegistered,
    },
};
use std::collections::BTreeSet;

use crate::{
    given::{given, given_nothing, state_after},
    samples::{ADA, CREDENTIAL, name},
};

fn profile() -> Profile {
    Profile { email: "ada@example.org".into(), display_name: name("Ada") }
}

fn register(roles: impl Into<BTreeSet<Role>>) -> UserCommand {
    UserCommand::Register { profile: profile(), roles: roles.into(), credential: CREDENTIAL }
}

fn registered() -> UserEvent {
    UserRegistered { roles: [Role::Member].into(), credential: CREDENTIAL, personal: Personal::Known(profile()) }.into()
}

fn erased() -> UserEvent {
    UserErased {}.into()
}

#[test]
fn a_person_registers_with_roles_and_a_credential() {
    given_nothing::<User>().when(register([Role::Member])).then([registered()]);
}

#[test]
fn a_person_registers_once() {
    given([registered()]).when(register([Role::Member])).then_error(UserError::AlreadyRegistered);
}

#[test]
fn a_person_needs_a_role() {
    given_nothing::<User>().when(register([])).then_error(UserError::NoRole);
}

#[test]
fn a_registered_person_can_be_erased() {
    given([registered()]).when(Erase).then([UserErased {}]);
}

#[test]
fn erasing_again_changes_nothing() {
    given([registered(), erased()]).when(Erase).then_nothing();
}

#[test]
fn nobody_cannot_be_erased() {
    given_nothing::<User>().when(Erase).then_error(UserError::Absent);
}

#[test]
fn an_erased_person_cannot_come_back() {
    given([registered(), erased()]).when(register([Role::Member])).then_error(UserError::AlreadyRegistered);
}

#[test]
fn erasing_takes_the_roles_and_the_credential() {
    let user = state_after([registered()]);
    assert_eq!(user, User { standing: Standing::Active, roles: [Role::Member].into(), credential: Some(CREDENTIAL) });
    let user = state_after([registered(), erased()]);
    assert_eq!(user, User { standing: Standing::Erased, roles: BTreeSet::new(), credential: None });
}

#[test]
fn a_persons_stream_is_sealed_under_that_persons_key() {
    assert_eq!(User::default().subject(ADA), Some(ADA));
    assert_eq!(state_after([registered(), erased()]).subject(ADA), Some(ADA));
}

#[test]
fn a_role_reads_back_from_its_name() {
    for role in Role::ALL {
        assert_eq!(role.to_string().parse(), Ok(role));
        assert_eq!(serde_json::to_value(role).unwrap(), role.as_str());
    }
    assert!("Admin".parse::<Role>().is_err());
}

#[test]
fn each_refusal_says_what_the_caller_can_do() {
    assert_eq!(UserError::Absent.kind(), RefusalKind::Absent);
    assert_eq!(UserError::AlreadyRegistered.kind(), RefusalKind::Late);
    assert_eq!(UserError::NoRole.kind(), RefusalKind::Rule);
}
