//! The inbox: what each person was told, and what they have read.
use chrono::{DateTime, Utc};
use marvin_domain::{
    AggregateKind, Envelope, Event, Personal, Position, Sequence,
    notification::{Link, Message, NotificationEvent, Severity},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Document, Field, Key, Projection};

#[derive(Debug)]
pub struct Inbox;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NotificationDocument {
    pub id: Uuid,
    pub recipient: Uuid,
    pub severity: Severity,
    pub link: Link,
    pub created_at: DateTime<Utc>,
    pub read_at: Option<DateTime<Utc>>,
    pub sequence: Sequence,
    pub position: Position,
    #[serde(skip)]
    pub personal: Personal<Message>,
}

impl Document for NotificationDocument {
    fn subject(&self) -> Option<Uuid> {
        Some(self.recipient)
    }
    fn personal(&self) -> Option<Vec<u8>> {
        self.personal.known().map(marvin_domain::event::to_json)
    }
    fn fill_personal(&mut self, personal: &[u8]) -> Result<(), serde_json::Error> {
        self.personal = Personal::Known(serde_json::from_slice(personal)?);
        Ok(())
    }
}

impl Projection for Inbox {
    const NAME: &'static str = "inbox";
    const VERSION: u32 = 1;
    const KINDS: &'static [AggregateKind] = &[AggregateKind::Notification];
    const FIELDS: &'static [Field] = &[Field::id("recipient"), Field::flag("unread")];
    const INDEXES: &'static [&'static [&'static str]] = &[&["recipient", "unread"], &["recipient"]];
    type Document = NotificationDocument;

    fn ids(event: &Envelope) -> Vec<Uuid> {
        match event.event {
            Event::Notification(_) => vec![event.stream.id],
            _ => Vec::new(),
        }
    }

    fn begin(id: Uuid, event: &Envelope) -> Option<NotificationDocument> {
        let Event::Notification(NotificationEvent::Raised(raised)) = &event.event else { return None };
        Some(NotificationDocument {
            id,
            recipient: raised.recipient,
            severity: raised.severity,
            link: raised.link.clone(),
            created_at: event.recorded_at,
            read_at: None,
            sequence: event.sequence,
            position: event.position,
            personal: raised.personal.clone(),
        })
    }

    fn apply(document: &mut NotificationDocument, event: &Envelope) {
        if let Event::Notification(NotificationEvent::Read(_)) = &event.event {
            document.read_at = Some(event.recorded_at);
        }
        (document.sequence, document.position) = (event.sequence, event.position);
    }

    fn keys(document: &NotificationDocument) -> Vec<Key> {
        vec![document.recipient.into(), document.read_at.is_none().into()]
    }
}
