//! What each event does to a notification in its recipient's inbox.
use marvin_domain::{
    Event, Personal,
    notification::{Link, Message, NotificationEvent, NotificationRaised, NotificationRead, Severity},
};
use marvin_projections::{
    Document, Field, Key, Projection,
    inbox::{Inbox, NotificationDocument},
};
use uuid::Uuid;

use crate::{
    journal::document_after,
    samples::{ADA, TASK, at},
};

const ID: Uuid = Uuid::from_u128(0x0199_0000_0000_7000_8000_0000_0000_1b0c);

fn message() -> Message {
    Message { title: "Scribe finished your task".into(), body: "All is written down".into() }
}

fn link() -> Link {
    Link { kind: "task".into(), id: TASK }
}

fn raised(personal: Personal<Message>) -> NotificationEvent {
    NotificationRaised { recipient: ADA, severity: Severity::Success, link: link(), personal }.into()
}

fn read() -> NotificationEvent {
    NotificationRead { recipient: ADA }.into()
}

fn after(events: impl IntoIterator<Item = NotificationEvent>) -> NotificationDocument {
    document_after::<Inbox>(ID, events.into_iter().map(Event::Notification))
}

fn unread() -> NotificationDocument {
    NotificationDocument {
        id: ID,
        recipient: ADA,
        severity: Severity::Success,
        link: link(),
        created_at: at(101),
        read_at: None,
        sequence: 1,
        position: 101,
        personal: Personal::Known(message()),
    }
}

#[test]
fn a_raised_notification_is_unread_in_its_recipients_inbox() {
    assert_eq!(after([raised(Personal::Known(message()))]), unread());
}

#[test]
fn a_read_notification_says_when() {
    let read_once = NotificationDocument { read_at: Some(at(102)), sequence: 2, position: 102, ..unread() };
    assert_eq!(after([raised(Personal::Known(message())), read()]), read_once);
}

#[test]
fn an_erased_message_stays_erased_when_it_is_read() {
    let document = after([raised(Personal::Erased), read()]);
    assert_eq!((document.personal, document.read_at), (Personal::Erased, Some(at(102))));
}

#[test]
fn a_notification_belongs_to_its_recipient() {
    assert_eq!(unread().subject(), Some(ADA));
}

#[test]
fn notifications_are_found_by_recipient_and_whether_they_are_unread() {
    assert_eq!(Inbox::FIELDS, [Field::id("recipient"), Field::flag("unread")]);
    assert_eq!(Inbox::keys(&unread()), [Key::from(ADA), Key::Integer(1)]);
    let read = NotificationDocument { read_at: Some(at(102)), ..unread() };
    assert_eq!(Inbox::keys(&read), [Key::from(ADA), Key::Integer(0)]);
}
