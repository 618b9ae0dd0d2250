//! The instance is set up once and never without an administrator.
use marvin_domain::{
    RefusalKind, Refuse,
    instance::{
        AdministratorAdded, AdministratorRemoved, Instance, InstanceCommand, InstanceError, InstanceEvent,
        InstanceSetUp,
    },
};

use crate::{
    given::{given, given_nothing, state_after},
    samples::{ADA, BOB},
};

fn set_up() -> InstanceEvent {
    InstanceSetUp { administrator: ADA }.into()
}

fn added_bob() -> InstanceEvent {
    AdministratorAdded { user: BOB }.into()
}

fn removed_ada() -> InstanceEvent {
    AdministratorRemoved { user: ADA }.into()
}

const ADD_BOB: InstanceCommand = InstanceCommand::AddAdministrator { user: BOB };
const REMOVE_ADA: InstanceCommand = InstanceCommand::RemoveAdministrator { user: ADA };
const REMOVE_BOB: InstanceCommand = InstanceCommand::RemoveAdministrator { user: BOB };

#[test]
fn setting_up_names_the_first_administrator() {
    given_nothing::<Instance>()
        .when(InstanceCommand::SetUp { administrator: ADA })
        .then([InstanceSetUp { administrator: ADA }]);
}

#[test]
fn an_instance_is_set_up_once() {
    for administrator in [ADA, BOB] {
        given([set_up()]).when(InstanceCommand::SetUp { administrator }).then_error(InstanceError::AlreadySetUp);
    }
}

#[test]
fn administrators_cannot_change_before_the_set_up() {
    for command in [ADD_BOB, REMOVE_BOB] {
        given_nothing::<Instance>().when(command).then_error(InstanceError::NotSetUp);
    }
}

#[test]
fn an_administrator_can_be_added() {
    given([set_up()]).when(ADD_BOB).then([AdministratorAdded { user: BOB }]);
}

#[test]
fn adding_an_administrator_again_changes_nothing() {
    given([set_up(), added_bob()]).when(ADD_BOB).then_nothing();
    given([set_up()]).when(InstanceCommand::AddAdministrator { user: ADA }).then_nothing();
}

#[test]
fn an_administrator_can_be_removed_while_another_remains() {
    given([set_up(), added_bob()]).when(REMOVE_ADA).then([AdministratorRemoved { user: ADA }]);
}

#[test]
fn removing_who_is_no_administrator_changes_nothing() {
    given([set_up()]).when(REMOVE_BOB).then_nothing();
    given([set_up(), added_bob(), removed_ada()]).when(REMOVE_ADA).then_nothing();
}

#[test]
fn the_last_administrator_cannot_be_removed() {
    given([set_up()]).when(REMOVE_ADA).then_error(InstanceError::LastAdministrator);
    given([set_up(), added_bob(), removed_ada()]).when(REMOVE_BOB).then_error(InstanceError::LastAdministrator);
}

#[test]
fn a_removed_administrator_can_be_added_again() {
    given([set_up(), added_bob(), removed_ada()])
        .when(InstanceCommand::AddAdministrator { user: ADA })
        .then([AdministratorAdded { user: ADA }]);
}

#[test]
fn the_state_says_who_administers() {
    let instance = state_after([set_up(), added_bob(), removed_ada()]);
    assert!(instance.is_set_up() && instance.is_administrator(BOB));
    assert!(!instance.is_administrator(ADA));
    assert!(!Instance::default().is_set_up());
}

#[test]
fn a_second_set_up_came_too_late_and_the_rest_breaks_a_rule() {
    assert_eq!(InstanceError::AlreadySetUp.kind(), RefusalKind::Late);
    assert_eq!(InstanceError::NotSetUp.kind(), RefusalKind::Rule);
    assert_eq!(InstanceError::LastAdministrator.kind(), RefusalKind::Rule);
}
