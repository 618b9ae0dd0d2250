//! A notification: what a person was told, and whether they have read it. Its text stays with who received it.
use cqrs_es::{Aggregate, event_sink::EventSink};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Personal, RefusalKind, Refuse, Rooted, events, opaque_debug};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    Info,
    Success,
    Warning,
    Critical,
}

/// What the notification is about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Link {
    pub kind: String,
    pub id: Uuid,
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    pub title: String,
    pub body: String,
}

opaque_debug!(Message);

#[derive(Debug, Clone, PartialEq)]
pub enum NotificationCommand {
    Raise { recipient: Uuid, severity: Severity, link: Link, message: Message },
    Read,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NotificationRaised {
    pub recipient: Uuid,
    pub severity: Severity,
    pub link: Link,
    #[serde(skip)]
    pub personal: Personal<Message>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NotificationRead {
    pub recipient: Uuid,
}

events! {
    NotificationEvent of Notification {
        Raised(NotificationRaised) = "raised" v 1 personal;
        Read(NotificationRead) = "read" v 1;
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotificationError {
    #[error("there is no such notification")]
    Absent,
}

impl Refuse for NotificationError {
    fn kind(&self) -> RefusalKind {
        RefusalKind::Absent
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Absent => "absent",
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Notification {
    pub recipient: Option<Uuid>,
    pub read: bool,
}

impl Rooted for Notification {
    fn subject(&self, _id: Uuid) -> Option<Uuid> {
        self.recipient
    }
}

impl Aggregate for Notification {
    const TYPE: &'static str = "notification";
    type Command = NotificationCommand;
    type Event = NotificationEvent;
    type Error = NotificationError;
    type Services = ();

    async fn handle(
        &mut self,
        command: NotificationCommand,
        (): &(),
        sink: &EventSink<Self>,
    ) -> Result<(), NotificationError> {
        let event: NotificationEvent = match (command, self.recipient) {
            (NotificationCommand::Raise { recipient, severity, link, message }, None) => {
                NotificationRaised { recipient, severity, link, personal: Personal::Known(message) }.into()
            }
            (NotificationCommand::Raise { .. }, Some(_)) => return Ok(()),
            (NotificationCommand::Read, None) => return Err(NotificationError::Absent),
            (NotificationCommand::Read, Some(_)) if self.read => return Ok(()),
            (NotificationCommand::Read, Some(recipient)) => NotificationRead { recipient }.into(),
        };
        sink.write(event, self).await;
        Ok(())
    }

    fn apply(&mut self, event: NotificationEvent) {
        match event {
            NotificationEvent::Raised(raised) => self.recipient = Some(raised.recipient),
            NotificationEvent::Read(_) => self.read = true,
        }
    }
}
