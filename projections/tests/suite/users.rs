//! What each event does to a user as administrators see them.
use marvin_domain::{
    Event, Personal,
    user::{Profile, Role, UserErased, UserEvent, UserRegistered},
};
use marvin_projections::{
    Document, Field, Key, Projection,
    users::{UserDocument, UserStatus, Users},
};

use crate::{
    journal::document_after,
    samples::{ADA, CREDENTIAL, at, name},
};

fn profile() -> Profile {
    Profile { email: "ada@example.org".into(), display_name: name("Ada") }
}

fn registered(personal: Personal<Profile>) -> UserEvent {
    UserRegistered { roles: [Role::Member, Role::Auditor].into(), credential: CREDENTIAL, personal }.into()
}

fn after(events: impl IntoIterator<Item = UserEvent>) -> UserDocument {
    document_after::<Users>(ADA, events.into_iter().map(Event::User))
}

fn ada() -> UserDocument {
    UserDocument {
        id: ADA,
        roles: [Role::Member, Role::Auditor].into(),
        status: UserStatus::Active,
        created_at: at(101),
        sequence: 1,
        position: 101,
        personal: Personal::Known(profile()),
    }
}

#[test]
fn a_registered_user_is_active_with_roles_and_profile() {
    assert_eq!(after([registered(Personal::Known(profile()))]), ada());
}

#[test]
fn an_erased_user_has_neither_roles_nor_profile() {
    let erased = UserDocument {
        roles: [].into(),
        status: UserStatus::Erased,
        sequence: 2,
        position: 102,
        personal: Personal::Erased,
        ..ada()
    };
    assert_eq!(after([registered(Personal::Known(profile())), UserErased {}.into()]), erased);
    assert_eq!(after([registered(Personal::Erased), UserErased {}.into()]), erased);
}

#[test]
fn a_registration_that_can_no_longer_be_read_has_no_profile() {
    assert_eq!(after([registered(Personal::Erased)]), UserDocument { personal: Personal::Erased, ..ada() });
}

#[test]
fn a_users_profile_is_that_users_own() {
    assert_eq!(ada().subject(), Some(ADA));
}

#[test]
fn users_are_found_by_status() {
    assert_eq!(Users::FIELDS, [Field::text("status")]);
    assert_eq!(Users::keys(&ada()), [Key::from("active")]);
    assert_eq!(Users::keys(&UserDocument { status: UserStatus::Erased, ..ada() }), [Key::from("erased")]);
}
