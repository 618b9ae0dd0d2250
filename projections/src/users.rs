//! Users as administrators see them.
use chrono::{DateTime, Utc};
use marvin_domain::{
    AggregateKind, Envelope, Event, Personal, Position, Sequence,
    user::{Profile, Role, UserEvent},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use uuid::Uuid;

use crate::{Document, Field, Key, Projection};

#[derive(Debug)]
pub struct Users;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UserStatus {
    Active,
    Erased,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UserDocument {
    pub id: Uuid,
    pub roles: BTreeSet<Role>,
    pub status: UserStatus,
    pub created_at: DateTime<Utc>,
    pub sequence: Sequence,
    pub position: Position,
    #[serde(skip)]
    pub personal: Personal<Profile>,
}

impl Document for UserDocument {
    fn subject(&self) -> Option<Uuid> {
        Some(self.id)
    }
    fn personal(&self) -> Option<Vec<u8>> {
        self.personal.known().map(marvin_domain::event::to_json)
    }
    fn fill_personal(&mut self, personal: &[u8]) -> Result<(), serde_json::Error> {
        self.personal = Personal::Known(serde_json::from_slice(personal)?);
        Ok(())
    }
}

impl Projection for Users {
    const NAME: &'static str = "users";
    const VERSION: u32 = 1;
    const KINDS: &'static [AggregateKind] = &[AggregateKind::User];
    const FIELDS: &'static [Field] = &[Field::text("status")];
    const INDEXES: &'static [&'static [&'static str]] = &[&["status"]];
    type Document = UserDocument;

    fn ids(event: &Envelope) -> Vec<Uuid> {
        match event.event {
            Event::User(_) => vec![event.stream.id],
            _ => Vec::new(),
        }
    }

    fn begin(id: Uuid, event: &Envelope) -> Option<UserDocument> {
        let Event::User(UserEvent::Registered(registered)) = &event.event else { return None };
        Some(UserDocument {
            id,
            roles: registered.roles.clone(),
            status: UserStatus::Active,
            created_at: event.recorded_at,
            sequence: event.sequence,
            position: event.position,
            personal: registered.personal.clone(),
        })
    }

    fn apply(document: &mut UserDocument, event: &Envelope) {
        if let Event::User(UserEvent::Erased(_)) = &event.event {
            document.status = UserStatus::Erased;
            document.roles.clear();
            document.personal = Personal::Erased;
        }
        (document.sequence, document.position) = (event.sequence, event.position);
    }

    fn keys(document: &UserDocument) -> Vec<Key> {
        let status = match document.status {
            UserStatus::Active => "active",
            UserStatus::Erased => "erased",
        };
        vec![status.into()]
    }
}
