//! A notification is raised once and read once.
use marvin_domain::{
    Personal, RefusalKind, Refuse, Rooted,
    notification::{
        Link, Message, Notification, NotificationCommand, NotificationError, NotificationEvent, NotificationRaised,
        NotificationRead, Severity,
    },
};
use uuid::Uuid;

use crate::{
    given::{given, given_nothing, state_after},
    samples::{ADA, BOB, TASK},
};

fn message() -> Message {
    Message { title: "Scribe finished your task".into(), body: "All is written down".into() }
}

fn link() -> Link {
    Link { kind: "task".into(), id: TASK }
}

fn raise(recipient: Uuid) -> NotificationCommand {
    NotificationCommand::Raise { recipient, severity: Severity::Success, link: link(), message: message() }
}

fn raised() -> NotificationEvent {
    let personal = Personal::Known(message());
    NotificationRaised { recipient: ADA, severity: Severity::Success, link: link(), personal }.into()
}

fn read() -> NotificationEvent {
    NotificationRead { recipient: ADA }.into()
}

#[test]
fn a_notification_is_raised_for_its_recipient() {
    given_nothing::<Notification>().when(raise(ADA)).then([raised()]);
}

#[test]
fn raising_again_changes_nothing() {
    given([raised()]).when(raise(ADA)).then_nothing();
    given([raised(), read()]).when(raise(BOB)).then_nothing();
}

#[test]
fn a_notification_can_be_read() {
    given([raised()]).when(NotificationCommand::Read).then([NotificationRead { recipient: ADA }]);
}

#[test]
fn reading_again_changes_nothing() {
    given([raised(), read()]).when(NotificationCommand::Read).then_nothing();
}

#[test]
fn what_was_never_raised_cannot_be_read() {
    given_nothing::<Notification>().when(NotificationCommand::Read).then_error(NotificationError::Absent);
    assert_eq!(NotificationError::Absent.kind(), RefusalKind::Absent);
}

#[test]
fn a_notification_is_sealed_under_its_recipients_key() {
    assert_eq!(Notification::default().subject(TASK), None);
    assert_eq!(state_after([raised(), read()]).subject(TASK), Some(ADA));
}
